#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "format/side.h"
#include "golden.h"

static const struct id volume = {{1, 2, 3, 4, 5, 6, 7, 8}};

enum { SAMPLES = 5 };

/* One record of each kind; `list` has room for the xattrs of the first. */
static struct side_record sample(unsigned i, uint8_t list[64]) {
    struct side_xattr x[2] = {{"user.k", 6, (const uint8_t *)"v", 1},
                              {"security.capability", 19, NULL, 0}};
    struct side_record all[SAMPLES] = {
        {.kind = SIDE_SET,
         .path = "d/f",
         .attr = {.has = SIDE_OWNER | SIDE_TYPE | SIDE_MTIME | SIDE_MODE,
                  .mode = 04751,
                  .uid = 33,
                  .gid = 34,
                  .type = S_IFCHR,
                  .rdev = makedev(1, 3),
                  .mtime = {-5, 999999999},
                  .xattrs = list}},
        {.kind = SIDE_DROP, .path = "n\xff\n"},
        {.kind = SIDE_MOVE, .path = "d", .path2 = "e/d"},
        {.kind = SIDE_MARK, .path = "", .synced = 64},
        {.kind = SIDE_LINK, .path = "e/d/f", .path2 = "g"},
    };
    struct side_record r = all[i];

    r.path_bytes = strlen(r.path);
    r.path2_bytes = r.path2 ? strlen(r.path2) : 0;
    if (i == 0) {
        r.attr.xattr_bytes = side_xattr_put(&x[0], list);
        r.attr.xattr_bytes += side_xattr_put(&x[1], list + r.attr.xattr_bytes);
    }
    return r;
}

static size_t encode_all(uint8_t *bytes) {
    struct head h = {.volume = volume, .store = {{9}}};
    size_t at = SIDE_HEAD_BYTES;
    uint8_t list[64];

    side_head_encode(&h, bytes);
    for (unsigned i = 0; i < SAMPLES; i++) {
        struct side_record r = sample(i, list);

        at += side_record_encode(&r, &volume, at, bytes + at);
    }
    return at;
}

static unsigned count_good(const uint8_t *bytes, size_t n) {
    struct side_record r;
    unsigned count = 0;

    for (size_t at = SIDE_HEAD_BYTES; at < n; count++) {
        int size = side_record_decode(bytes + at, n - at, &volume, at, &r);

        if (size < 0) {
            break;
        }
        at += (size_t)size;
    }
    return count;
}

Test(side_format, each_kind_reads_back_as_it_was_written) {
    for (unsigned i = 0; i < SAMPLES; i++) {
        uint8_t list[64], bytes[512];
        struct side_record r = sample(i, list), back;
        size_t n = side_record_encode(&r, &volume, 800, bytes);

        cr_assert_eq(side_record_decode(bytes, n, &volume, 800, &back), (int)n, "kind %d", r.kind);
        cr_assert(back.kind == r.kind && back.path_bytes == r.path_bytes &&
                  memcmp(back.path, r.path, r.path_bytes) == 0);
        cr_assert(back.path2_bytes == r.path2_bytes &&
                  (!r.path2 || memcmp(back.path2, r.path2, r.path2_bytes) == 0));
        cr_assert(back.attr.has == r.attr.has && back.attr.uid == r.attr.uid &&
                  back.attr.mode == r.attr.mode && back.attr.gid == r.attr.gid &&
                  back.attr.type == r.attr.type && back.attr.rdev == r.attr.rdev &&
                  back.attr.mtime.tv_sec == r.attr.mtime.tv_sec &&
                  back.attr.mtime.tv_nsec == r.attr.mtime.tv_nsec);
        cr_assert(back.attr.xattr_bytes == r.attr.xattr_bytes &&
                  (i > 0 || memcmp(back.attr.xattrs, list, back.attr.xattr_bytes) == 0));
        cr_assert_eq(side_record_decode(bytes, n, &volume, 808, &back), -HFE_CORRUPT,
                     "a record from elsewhere");
        cr_assert_eq(side_record_decode(bytes, n, &(struct id){{2}}, 800, &back), -HFE_CORRUPT,
                     "a record of another volume");
        cr_assert_eq(side_record_decode(bytes, n - 8, &volume, 800, &back), -HFE_CORRUPT, "torn");
    }
}

Test(side_format, the_longest_record_fits) {
    static char path[PATH_BYTES], path2[PATH_BYTES];
    static uint8_t bytes[SIDE_RECORD_BYTES_MAX];
    struct side_record r = {.kind = SIDE_MOVE, .path = path, .path2 = path2}, back;

    for (unsigned i = 0; i < PATH_BYTES - 1; i++) {
        path[i] = path2[i] = i % 200 == 199 ? '/' : 'a';
    }
    r.path_bytes = r.path2_bytes = PATH_BYTES - 1;
    cr_assert_gt(
        side_record_decode(bytes, side_record_encode(&r, &volume, 64, bytes), &volume, 64, &back),
        0);
}

Test(side_format, a_path_that_leaves_the_store_is_refused) {
    static const char *const bad[] = {"..", "a/../b", "/a", "a/", "a//b", "./a", "."};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct side_record r = {.kind = SIDE_DROP, .path = bad[i], .path_bytes = strlen(bad[i])};
        struct side_record back;
        uint8_t bytes[512];
        size_t n = side_record_encode(&r, &volume, 64, bytes);

        cr_assert_eq(side_record_decode(bytes, n, &volume, 64, &back), -HFE_CORRUPT, "%s", bad[i]);
    }
}

Test(side_format, bytes_are_those_of_the_golden_file) {
    uint8_t bytes[4096];

    golden_compare("side.bin", bytes, encode_all(bytes));
}

Test(side_format, every_flipped_bit_is_noticed) {
    uint8_t bytes[4096];
    size_t n = encode_all(bytes);
    struct head h;

    cr_assert_eq(count_good(bytes, n), SAMPLES);
    for (size_t i = 0; i < n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            if (i < SIDE_HEAD_BYTES) {
                cr_assert_lt(side_head_decode(bytes, &h), 0, "byte %zu bit %d", i, bit);
            } else {
                cr_assert_lt(count_good(bytes, n), SAMPLES, "byte %zu bit %d", i, bit);
            }
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
}
