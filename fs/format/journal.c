#include "format/journal.h"

#include <assert.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "base/le.h"

struct disk_frame {
    le32 size; /* of the whole frame: a multiple of 8 */
    uint8_t kind, zero[3];
    le64 position;
    le64 checksum; /* XXH3, 64 bits, seeded with the volume, of the frame with this field zero */
};
_Static_assert(sizeof(struct disk_frame) == 24, "a frame's head takes 24 bytes");

static const char magic[] = "HFJRNL01";

/* Which members of a frame each kind has, in this order on disk. */
enum field {
    F_NUMBER = 1,
    F_PARENT = 2,
    F_PARENT2 = 4,
    F_OFF = 8,
    F_LEN = 16,
    F_TIME = 32,
    F_SLOT = 64,  /* slot, and 4 bytes that are zero */
    F_BIND = 128, /* linked, type, peers as 16 bits, 4 bytes that are zero; then the inodes */
    F_NAME = 256,
    F_NAME2 = 512,
    F_INO0 = 1024, /* the one inode of PEER */
};
static const unsigned fields_of[JOURNAL_LAST + 1] = {
    [JOURNAL_BIND] = F_NUMBER | F_PARENT | F_TIME | F_BIND | F_NAME,
    [JOURNAL_NAME] = F_PARENT | F_NAME,
    [JOURNAL_MOVE] = F_NUMBER | F_PARENT | F_PARENT2 | F_NAME | F_NAME2,
    [JOURNAL_DATA] = F_NUMBER | F_OFF | F_LEN,
    [JOURNAL_ATTR] = F_NUMBER,
    [JOURNAL_CHECKPOINT] = F_OFF | F_TIME,
    [JOURNAL_BREAK] = F_TIME,
    [JOURNAL_PEER] = F_NUMBER | F_SLOT | F_INO0,
    [JOURNAL_HOT] = F_NUMBER | F_OFF | F_LEN,
    [JOURNAL_LEAVE] = F_SLOT,
};

static uint64_t checksum_of(const uint8_t *bytes, size_t size, const struct id *volume) {
    uint64_t seed;
    XXH3_state_t state;
    static const uint8_t zero[8];

    memcpy(&seed, volume->b, sizeof(seed));
    XXH3_INITSTATE(&state);
    (void)XXH3_64bits_reset_withSeed(&state, seed); /* cannot fail for a state that is there */
    (void)XXH3_64bits_update(&state, bytes, 16);
    (void)XXH3_64bits_update(&state, zero, sizeof(zero));
    (void)XXH3_64bits_update(&state, bytes + 24, size - 24);
    return XXH3_64bits_digest(&state);
}

/* --- writing --- */

struct writer {
    uint8_t *at;
};

static void put64(struct writer *w, uint64_t v) {
    le64 x = le64_of(v);

    memcpy(w->at, &x, sizeof(x));
    w->at += sizeof(x);
}

static void put_bytes(struct writer *w, const void *p, size_t n) {
    memcpy(w->at, p, n);
    w->at += n;
}

/* A length in 2 bytes, then the text. */
static void put_name(struct writer *w, const char *name) {
    size_t n = strlen(name);
    le16 len = le16_of((uint16_t)n);

    assert(n < NAME_BYTES);
    put_bytes(w, &len, sizeof(len));
    put_bytes(w, name, n);
}

static void put_bind(struct writer *w, const struct journal_frame *f) {
    uint8_t head[8] = {f->linked, f->type};
    le16 peers = le16_of((uint16_t)f->peers);

    memcpy(head + 2, &peers, sizeof(peers));
    put_bytes(w, head, sizeof(head));
    for (unsigned i = 0; i < JOURNAL_PEERS_MAX; i++) {
        if (f->peers >> i & 1) {
            put64(w, f->ino[i]);
        }
    }
}

size_t journal_frame_encode(const struct journal_frame *f, const struct id *volume,
                            uint8_t *ret_bytes) {
    unsigned fields = fields_of[f->kind];
    struct disk_frame head = {.kind = (uint8_t)f->kind, .position = le64_of(f->position)};
    struct writer w = {ret_bytes + sizeof(head)};
    const struct {
        unsigned field;
        uint64_t value;
    } numbers[] = {{F_NUMBER, f->number}, {F_PARENT, f->parent}, {F_PARENT2, f->parent2},
                   {F_OFF, f->off},       {F_LEN, f->len},       {F_TIME, f->time_s},
                   {F_SLOT, f->slot},     {F_INO0, f->ino[0]}};
    size_t size;
    le64 sum;

    assert(fields && f->peers < 1u << JOURNAL_PEERS_MAX);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (fields & numbers[i].field) {
            put64(&w, numbers[i].value);
        }
    }
    if (fields & F_BIND) {
        put_bind(&w, f);
    }
    if (fields & F_NAME) {
        put_name(&w, f->name);
    }
    if (fields & F_NAME2) {
        put_name(&w, f->name2);
    }
    while ((w.at - ret_bytes) % 8 != 0) {
        *w.at++ = 0;
    }
    size = (size_t)(w.at - ret_bytes);
    assert(size <= JOURNAL_FRAME_BYTES_MAX);
    head.size = le32_of((uint32_t)size);
    memcpy(ret_bytes, &head, sizeof(head));
    sum = le64_of(checksum_of(ret_bytes, size, volume));
    memcpy(ret_bytes + offsetof(struct disk_frame, checksum), &sum, sizeof(sum));
    return size;
}

/* --- reading --- */

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static const uint8_t *take(struct reader *r, size_t n) {
    static const uint8_t none[NAME_BYTES];

    if (r->bad || n > (size_t)(r->end - r->at)) {
        r->bad = true;
        return none;
    }
    r->at += n;
    return r->at - n;
}

static uint64_t get64(struct reader *r) {
    return le_load(take(r, 8), 8);
}

static void get_name(struct reader *r, char ret_name[NAME_BYTES]) {
    size_t n = (size_t)le_load(take(r, 2), 2);
    const uint8_t *text = n < NAME_BYTES ? take(r, n) : NULL;

    if (!text || memchr(text, 0, n) || memchr(text, '/', n)) {
        r->bad = true;
        return;
    }
    memcpy(ret_name, text, n);
    ret_name[n] = '\0';
}

static void get_bind(struct reader *r, struct journal_frame *f) {
    const uint8_t *head = take(r, 8);

    f->linked = head[0] == 1;
    f->type = head[1];
    f->peers = (uint32_t)le_load(head + 2, 2);
    r->bad = r->bad || head[0] > 1 || le_load(head + 4, 4) != 0;
    for (unsigned i = 0; i < JOURNAL_PEERS_MAX; i++) {
        f->ino[i] = f->peers >> i & 1 ? get64(r) : 0;
    }
}

static bool get_fields(struct reader *r, struct journal_frame *f) {
    unsigned fields = fields_of[f->kind];

    f->number = fields & F_NUMBER ? get64(r) : 0;
    f->parent = fields & F_PARENT ? get64(r) : 0;
    f->parent2 = fields & F_PARENT2 ? get64(r) : 0;
    f->off = fields & F_OFF ? get64(r) : 0;
    f->len = fields & F_LEN ? get64(r) : 0;
    f->time_s = fields & F_TIME ? get64(r) : 0;
    if (fields & F_SLOT) {
        uint64_t slot = get64(r);

        r->bad = r->bad || slot >= JOURNAL_PEERS_MAX;
        f->slot = (uint32_t)slot;
    }
    if (fields & F_INO0) {
        f->ino[0] = get64(r);
    }
    if (fields & F_BIND) {
        get_bind(r, f);
    }
    if (fields & F_NAME) {
        get_name(r, f->name);
    }
    if (fields & F_NAME2) {
        get_name(r, f->name2);
    }
    while (!r->bad && r->at < r->end) { /* padding */
        r->bad = r->end - r->at >= 8 || *r->at != 0;
        r->at++;
    }
    return !r->bad;
}

int journal_frame_decode(const uint8_t *bytes, size_t n, const struct id *volume, uint64_t position,
                         struct journal_frame *ret_frame) {
    struct disk_frame head;
    struct journal_frame f = {.position = position};
    struct reader r;
    size_t size;

    if (n < sizeof(head)) {
        return -HFE_CORRUPT;
    }
    memcpy(&head, bytes, sizeof(head));
    size = le32_get(head.size);
    if (size < sizeof(head) || size > n || size > JOURNAL_FRAME_BYTES_MAX || size % 8 != 0 ||
        le64_get(head.position) != position || head.kind == 0 || head.kind > JOURNAL_LAST ||
        (head.zero[0] | head.zero[1] | head.zero[2]) != 0 ||
        le64_get(head.checksum) != checksum_of(bytes, size, volume)) {
        return -HFE_CORRUPT;
    }
    f.kind = head.kind;
    r = (struct reader){.at = bytes + sizeof(head), .end = bytes + size};
    if (!get_fields(&r, &f)) {
        return -HFE_CORRUPT;
    }
    *ret_frame = f;
    return (int)size;
}

void journal_head_encode(const struct head *head, uint8_t *ret_bytes) {
    head_encode(magic, head, ret_bytes);
}

int journal_head_decode(const uint8_t *bytes, struct head *ret_head) {
    return head_decode(magic, bytes, ret_head);
}
