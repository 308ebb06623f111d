/* Any 4096 bytes may be in a superblock slot: decoding must refuse them or give a record that
 * encodes to the same bytes. With clang -DFUZZER -fsanitize=fuzzer: a libFuzzer target. Without:
 * replays the files it is given. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "format/super.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t bytes[SUPER_BYTES] = {0}, again[SUPER_BYTES];
    struct super s;

    memcpy(bytes, data, size < sizeof(bytes) ? size : sizeof(bytes));
    if (super_decode(bytes, &s) == 0) {
        super_encode(&s, again);
        assert(memcmp(bytes, again, sizeof(bytes)) == 0);
    }
    return 0;
}

#include "replay.h"
