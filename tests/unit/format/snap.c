#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "format/snap.h"
#include "golden.h"

static const struct id volume = {{1, 2, 3, 4, 5, 6, 7, 8}};

enum { SAMPLES = 12 };

#define NAMED(text)  .name = (text), .name_bytes = sizeof(text) - 1
#define NAMED2(text) .name2 = (text), .name2_bytes = sizeof(text) - 1

/* One record of each body; `list` has room for the xattrs of the third. */
static struct snap_record sample(unsigned i, uint8_t list[64]) {
    struct snap_xattr x = {"user.k", 6, (const uint8_t *)"v", 1};
    struct snap_record all[SAMPLES] = {
        {.kind = SNAP_NODE, .id = 3, .type = DT_DIR, .parent = SNAP_ROOT, NAMED("d")},
        {.kind = SNAP_NODE, .id = 4, .type = DT_REG, .parent = 3, NAMED("n\xff\n")},
        {.kind = SNAP_ATTR,
         .id = 4,
         .attr = {.st = {.st_mode = S_IFREG | 04751,
                         .st_uid = 33,
                         .st_gid = 34,
                         .st_nlink = 2,
                         .st_rdev = makedev(1, 3),
                         .st_size = 10000,
                         .st_blocks = 24,
                         .st_mtim = {-5, 999999999},
                         .st_ctim = {7, 1}},
                  .xattrs = list}},
        {.kind = SNAP_DATA,
         .id = 4,
         .off = 4096,
         .len = 5,
         .where = 1,
         .where_off = 300,
         .sum = 77,
         .payload = 5},
        {.kind = SNAP_ZERO, .id = 4, .off = 8192, .len = 1808},
        {.kind = SNAP_MADE, .id = 5, .type = DT_REG, .parent = 3, NAMED("new")},
        {.kind = SNAP_DONE, .id = 6},
        {.kind = SNAP_MOVE,
         .id = 4,
         .type = DT_REG,
         .parent = 3,
         .parent2 = SNAP_KEPT,
         NAMED("n\xff\n"),
         NAMED2("12")},
        {.kind = SNAP_NOT, .id = 8},
        {.kind = SNAP_BROKEN, NAMED("no room")},
        {.kind = SNAP_SWAP,
         .id = 4,
         .parent = 3,
         .parent2 = 1,
         .where = 1234567,
         NAMED("a"),
         NAMED2("b")},
        {.kind = SNAP_DROPPED, .id = 4, .off = 12288, .len = 4096},
    };
    struct snap_record r = all[i];

    r.seq = i + 1;
    if (r.kind == SNAP_ATTR) {
        r.attr.xattr_bytes = (uint32_t)snap_xattr_put(&x, list);
    }
    return r;
}

static size_t encode_all(uint8_t *bytes) {
    size_t at = SNAP_HEAD_BYTES;
    uint8_t list[64];

    snap_head_encode(&volume, 9, bytes);
    for (unsigned i = 0; i < SAMPLES; i++) {
        struct snap_record r = sample(i, list);

        at += snap_record_encode(&r, &volume, bytes + at);
        if (r.payload > 0) {
            memcpy(bytes + at, "bytes\0\0\0", 8);
            at += snap_padded(r.payload);
        }
    }
    return at;
}

Test(snap_format, golden_files) {
    static uint8_t bytes[4096];
    struct snap_entry e[3] = {{.epoch = 3, .created_s = 5, .name = "one"},
                              {.epoch = 9,
                               .flags = SNAP_HELD | SNAP_HARMED,
                               .created_s = 1795385920,
                               .name = "2026-11-22T0530Z",
                               .tags = "nightly,before-upgrade",
                               .reason = "no room"},
                              {.epoch = 10, .flags = SNAP_BOOKMARK, .name = "mark"}};

    golden_compare("snap.bin", bytes, encode_all(bytes));
    snap_list_encode(&volume, e, 3, bytes);
    golden_compare("snap-list.bin", bytes, SNAP_LIST_BYTES(3));
}

Test(snap_format, what_is_written_is_read) {
    uint8_t bytes[4096], list[64];
    size_t end = encode_all(bytes), at = SNAP_HEAD_BYTES;
    uint32_t epoch = 0;

    cr_assert_eq(snap_head_decode(bytes, &volume, &epoch), 0);
    cr_assert_eq(epoch, 9);
    for (unsigned i = 0; i < SAMPLES; i++) {
        struct snap_record want = sample(i, list), r;
        int n = snap_record_decode(bytes + at, end - at, &volume, &r);

        cr_assert(n > 0);
        cr_assert_eq(r.kind, want.kind);
        cr_assert_eq(r.id, want.id);
        cr_assert_eq(r.seq, want.seq);
        cr_assert_eq(r.parent, want.parent);
        cr_assert_eq(r.parent2, want.parent2);
        cr_assert_eq(r.off, want.off);
        cr_assert_eq(r.len, want.len);
        cr_assert_eq(r.name_bytes, want.name_bytes);
        cr_assert_eq(memcmp(r.name, want.name_bytes ? want.name : "", r.name_bytes), 0);
        if (r.kind == SNAP_ATTR) {
            cr_assert_eq(r.attr.st.st_size, 10000);
            cr_assert_eq(r.attr.st.st_blocks, 24);
            cr_assert_eq(r.attr.st.st_mtim.tv_sec, -5);
            cr_assert_eq(r.attr.st.st_rdev, makedev(1, 3));
        }
        at += (size_t)n + snap_padded(r.payload);
    }
    cr_assert_eq(at, end);
}

Test(snap_format, each_wrong_byte_is_found) {
    uint8_t bytes[4096], list[64];
    struct snap_record r;
    uint32_t epoch;

    for (unsigned i = 0; i < SAMPLES; i++) {
        struct snap_record want = sample(i, list);
        size_t n = snap_record_encode(&want, &volume, bytes);

        for (size_t k = 0; k < n; k++) {
            bytes[k] ^= 0x40;
            cr_assert_lt(snap_record_decode(bytes, n, &volume, &r), 0, "record %u, byte %zu", i, k);
            bytes[k] ^= 0x40;
        }
    }
    snap_head_encode(&volume, 9, bytes);
    for (size_t k = 0; k < SNAP_HEAD_BYTES; k++) {
        bytes[k] ^= 0x40;
        cr_assert_lt(snap_head_decode(bytes, &volume, &epoch), 0, "head, byte %zu", k);
        bytes[k] ^= 0x40;
    }
}

Test(snap_format, a_cut_record_asks_for_more) {
    uint8_t bytes[4096], list[64];
    struct snap_record want = sample(2, list), r;
    size_t n = snap_record_encode(&want, &volume, bytes);

    for (size_t k = 0; k < n; k++) {
        cr_assert_eq(snap_record_decode(bytes, k, &volume, &r), -ENODATA);
    }
}

Test(snap_format, names_that_are_none_are_refused) {
    static const struct snap_record bad[] = {
        {.kind = SNAP_GONE, .seq = 1, .id = 3, .parent = 1, NAMED("..")},
        {.kind = SNAP_GONE, .seq = 1, .id = 3, .parent = 1, NAMED("a/b")},
        {.kind = SNAP_GONE, .seq = 1, .id = 3, .parent = 0, NAMED("a")},
        {.kind = SNAP_GONE, .seq = 1, .id = 3, .parent = 1},
        {.kind = SNAP_MOVE, .seq = 1, .id = 3, .parent = 1, .parent2 = 1, NAMED("a")},
        {.kind = SNAP_ZERO, .seq = 1, .id = 3, .off = 1, .len = INT64_MAX},
        {.kind = SNAP_ZERO, .seq = 1, .id = 3, .off = 0, .len = 0},
        {.kind = SNAP_DATA, .seq = 1, .id = 3, .len = 10, .payload = 9},
        {.kind = SNAP_DONE, .seq = 0, .id = 3},
    };
    uint8_t bytes[4096];
    struct snap_record r;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        size_t n = snap_record_encode(&bad[i], &volume, bytes);

        cr_assert_eq(snap_record_decode(bytes, n, &volume, &r), -HFE_CORRUPT, "%zu", i);
    }
    cr_assert(snap_tags_ok("") && snap_tags_ok("nightly") && snap_tags_ok("a,b.c,d"));
    cr_assert(!snap_tags_ok(",") && !snap_tags_ok("a,") && !snap_tags_ok(",a") &&
              !snap_tags_ok("a,,b") && !snap_tags_ok("a b"));
    cr_assert(snap_name_ok("2026-11-22T0530Z") && snap_name_ok("a@b:c+d"));
    cr_assert(!snap_name_ok("") && !snap_name_ok(".x") && !snap_name_ok("a/b") &&
              !snap_name_ok("a b"));
}

Test(snap_format, each_wrong_byte_of_a_list_is_found) {
    struct snap_entry e = {.epoch = 3, .created_s = 5, .name = "one"}, got[2];
    uint8_t bytes[SNAP_LIST_BYTES(1)];

    snap_list_encode(&volume, &e, 1, bytes);
    cr_assert_eq(snap_list_decode(bytes, sizeof(bytes), &volume, got, 2), 1);
    cr_assert_str_eq(got[0].name, "one");
    cr_assert_eq(snap_list_decode(bytes, sizeof(bytes), &volume, got, 0), -HFE_CORRUPT);
    for (size_t k = 0; k < sizeof(bytes); k++) {
        bytes[k] ^= 0x40;
        cr_assert_lt(snap_list_decode(bytes, sizeof(bytes), &volume, got, 2), 0, "byte %zu", k);
        bytes[k] ^= 0x40;
        cr_assert_lt(snap_list_decode(bytes, k, &volume, got, 2), 0, "cut at %zu", k);
    }
}
