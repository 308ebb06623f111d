/* The side file on disk: what a store's filesystem cannot hold, object by object. docs/format/side.md
 * is the authority; this is its reader and writer. Pure functions; any thread may call.
 *
 * It is one log of records that is replayed from its start. Objects are named by their path below
 * the store's root, without a leading slash; "" is the root itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/id.h"
#include "base/limits.h"
#include "format/head.h"

enum {
    SIDE_HEAD_BYTES = HEAD_BYTES,
    SIDE_RECORD_HEAD_BYTES = 88,
    SIDE_RECORD_BYTES_MAX = SIDE_RECORD_HEAD_BYTES + 2 * PATH_BYTES + XATTR_BYTES_MAX,
};

/* Numbers in files: never renumber. */
enum side_kind {
    SIDE_SET = 1,  /* all that is kept about `path` is this */
    SIDE_DROP = 2, /* nothing is kept about `path` and what is below it */
    SIDE_MOVE = 3, /* what is kept about `path` and below it is now kept about `path2` */
    SIDE_LINK = 4, /* `path2` is one more name of the file `path` */
    SIDE_DONE = 5, /* what the pending record at `of` tells was done */
    SIDE_NOT = 6,  /* ... was not done */
    SIDE_MARK = 7, /* nothing but its `synced`: all before it is durable */
    SIDE_LAST = SIDE_MARK,
};

enum side_has {
    SIDE_OWNER = 1, /* uid, gid */
    SIDE_TYPE = 2,  /* type, rdev: the store holds an empty file in its place */
    SIDE_MTIME = 4, /* mtime: of a symlink; of others while the store's own shows that second */
    SIDE_MODE = 8,  /* mode: permissions; the store's own may give its user more */
};

struct side_attr {
    uint32_t has; /* enum side_has */
    uid_t uid;
    gid_t gid;
    mode_t type; /* S_IFCHR ... */
    mode_t mode; /* 07777 */
    dev_t rdev;
    struct timespec mtime;
    const uint8_t *xattrs; /* items of side_xattr_next() */
    size_t xattr_bytes;
};

struct side_record {
    enum side_kind kind;
    bool pending;    /* DROP, MOVE, LINK: it is about to be done; DONE or NOT says if it was */
    uint64_t of;     /* DONE, NOT: position of the pending record */
    uint64_t synced; /* the file was durable up to here when this was written */
    const char *path, *path2; /* not terminated */
    size_t path_bytes, path2_bytes;
    struct side_attr attr; /* of SET */
};

/* Bytes written to ret_bytes (room for SIDE_RECORD_BYTES_MAX): a multiple of 8. `position`: where in
 * the file it will begin. */
size_t side_record_encode(const struct side_record *record, const struct id *volume,
                          uint64_t position, uint8_t *ret_bytes);
/* The record that begins at `bytes`, of which n are there; it points into them. Its size, or
 * -HFE_CORRUPT if there is no whole, unharmed record of this volume and this position. */
int side_record_decode(const uint8_t *bytes, size_t n, const struct id *volume, uint64_t position,
                       struct side_record *ret_record) must_check;

void side_head_encode(const struct head *head, uint8_t *ret_bytes);
/* -HFE_CORRUPT, or -HFE_FEATURE for another version. */
int side_head_decode(const uint8_t *bytes, struct head *ret_head) must_check;

/* One extended attribute in a list of them. */
struct side_xattr {
    const char *key; /* not terminated */
    size_t key_bytes;
    const uint8_t *value;
    size_t value_bytes;
};
/* The item at `at` in the list of `attr`; where the next one begins, 0 at the end, or -HFE_CORRUPT. */
ssize_t side_xattr_next(const struct side_attr *attr, size_t at,
                        struct side_xattr *ret_xattr) must_check;
/* The item of this key, if there is one. */
bool side_xattr_find(const struct side_attr *attr, const char *key, struct side_xattr *ret_xattr);
bool side_xattr_is(const struct side_xattr *xattr, const char *key);
/* Writes an item to `ret_bytes`; its size. Only counts if `ret_bytes` is NULL. */
size_t side_xattr_put(const struct side_xattr *xattr, uint8_t *ret_bytes);
