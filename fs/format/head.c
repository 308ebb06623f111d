#include "format/head.h"

#include <stddef.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/le.h"

enum { VERSION = 1 };

struct disk_head {
    uint8_t magic[8];
    le32 version;
    le32 zero;
    struct id volume, store;
    le64 start;
    le64 checksum; /* XXH3, 64 bits, of all bytes before it */
};
_Static_assert(sizeof(struct disk_head) == HEAD_BYTES, "a head takes 64 bytes");

void head_encode(const char *magic, const struct head *h, uint8_t *ret_bytes) {
    struct disk_head d = {.version = le32_of(VERSION),
                          .volume = h->volume,
                          .store = h->store,
                          .start = le64_of(h->start)};

    memcpy(d.magic, magic, sizeof(d.magic));
    d.checksum = le64_of(XXH3_64bits(&d, offsetof(struct disk_head, checksum)));
    memcpy(ret_bytes, &d, sizeof(d));
}

int head_decode(const char *magic, const uint8_t *bytes, struct head *ret_head) {
    struct disk_head d;

    memcpy(&d, bytes, sizeof(d));
    if (memcmp(d.magic, magic, sizeof(d.magic)) != 0 ||
        le64_get(d.checksum) != XXH3_64bits(&d, offsetof(struct disk_head, checksum))) {
        return -HFE_CORRUPT;
    }
    if (le32_get(d.version) != VERSION) {
        return -HFE_FEATURE;
    }
    if (le32_get(d.zero) != 0) {
        return -HFE_CORRUPT;
    }
    *ret_head = (struct head){.volume = d.volume, .store = d.store, .start = le64_get(d.start)};
    return 0;
}
