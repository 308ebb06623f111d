#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "format/journal.h"
#include "golden.h"

static const struct id volume = {{1, 2, 3, 4, 5, 6, 7, 8}};

enum { SAMPLES = 10 };

static struct journal_frame sample(unsigned i) {
    static const struct journal_frame list[SAMPLES] = {
        {.kind = JOURNAL_BIND,
         .number = 7,
         .parent = 1,
         .time_s = 1,
         .type = 8,
         .linked = true,
         .peers = 5,
         .ino = {11, 0, 13},
         .name = "contract.pdf"},
        {.kind = JOURNAL_NAME, .parent = 1, .name = "n\xff\n"},
        {.kind = JOURNAL_MOVE,
         .number = 7,
         .parent = 1,
         .parent2 = 9,
         .name = "old",
         .name2 = "new"},
        {.kind = JOURNAL_DATA, .number = 7, .off = 4096, .len = 8192},
        {.kind = JOURNAL_ATTR, .number = 7},
        {.kind = JOURNAL_CHECKPOINT, .off = 128, .time_s = 1700000000},
        {.kind = JOURNAL_BREAK, .time_s = 1700000001},
        {.kind = JOURNAL_PEER, .number = 7, .slot = 3, .ino = {12}},
        {.kind = JOURNAL_HOT, .number = 7, .off = 1 << 20, .len = 1 << 20},
        {.kind = JOURNAL_LEAVE, .slot = 3},
    };

    return list[i];
}

/* A head and one frame of each kind. */
static size_t encode_all(uint8_t *bytes) {
    struct head h = {.volume = volume, .store = {{9}}, .start = 4096};
    size_t at = JOURNAL_HEAD_BYTES;

    journal_head_encode(&h, bytes);
    for (unsigned i = 0; i < SAMPLES; i++) {
        struct journal_frame f = sample(i);

        f.position = h.start + at - JOURNAL_HEAD_BYTES;
        at += journal_frame_encode(&f, &volume, bytes + at);
    }
    return at;
}

/* How many of the frames are read back before the first that is refused. */
static unsigned count_good(const uint8_t *bytes, size_t n) {
    struct journal_frame f;
    size_t at = JOURNAL_HEAD_BYTES;
    unsigned count = 0;

    while (at < n) {
        int size =
            journal_frame_decode(bytes + at, n - at, &volume, 4096 + at - JOURNAL_HEAD_BYTES, &f);

        if (size < 0) {
            break;
        }
        at += (size_t)size;
        count++;
    }
    return count;
}

Test(journal_format, each_kind_reads_back_as_it_was_written) {
    for (unsigned i = 0; i < SAMPLES; i++) {
        struct journal_frame f = sample(i), back;
        uint8_t bytes[JOURNAL_FRAME_BYTES_MAX];
        size_t n;

        f.position = 800;
        n = journal_frame_encode(&f, &volume, bytes);
        cr_assert_eq(journal_frame_decode(bytes, n, &volume, 800, &back), (int)n);
        cr_assert_eq(memcmp(&f, &back, sizeof(f)), 0, "kind %d", f.kind);
        cr_assert_eq(journal_frame_decode(bytes, n, &volume, 808, &back), -HFE_CORRUPT,
                     "a frame from elsewhere");
        cr_assert_eq(journal_frame_decode(bytes, n, &(struct id){{2}}, 800, &back), -HFE_CORRUPT,
                     "a frame of another volume");
    }
}

Test(journal_format, the_longest_names_fit) {
    struct journal_frame f = sample(2), back;
    uint8_t bytes[JOURNAL_FRAME_BYTES_MAX];

    memset(f.name, 'a', NAME_BYTES - 1);
    memset(f.name2, 'b', NAME_BYTES - 1);
    cr_assert_gt(
        journal_frame_decode(bytes, journal_frame_encode(&f, &volume, bytes), &volume, 0, &back),
        0);
    cr_assert_eq(memcmp(&f, &back, sizeof(f)), 0);
}

Test(journal_format, bytes_are_those_of_the_golden_file) {
    uint8_t bytes[4096];

    golden_compare("journal.bin", bytes, encode_all(bytes));
}

Test(journal_format, every_flipped_bit_is_noticed) {
    uint8_t bytes[4096];
    size_t n = encode_all(bytes);
    struct head h;

    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            if (i < JOURNAL_HEAD_BYTES) {
                cr_assert_lt(journal_head_decode(bytes, &h), 0, "byte %zu bit %d", i, bit);
            } else {
                cr_assert_lt(count_good(bytes, n), SAMPLES, "byte %zu bit %d", i, bit);
            }
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
}

Test(journal_format, a_log_cut_anywhere_ends_with_its_last_whole_frame) {
    uint8_t bytes[4096], cut[4096];
    size_t n = encode_all(bytes);
    unsigned last = 0;

    for (size_t k = JOURNAL_HEAD_BYTES; k <= n; k++) {
        unsigned good;

        memset(cut, 0, sizeof(cut)); /* preallocated space reads as zeros */
        memcpy(cut, bytes, k);
        good = count_good(cut, sizeof(cut));
        cr_assert_geq(good, last);
        last = good;
    }
    cr_assert_eq(last, SAMPLES);
}
