/* What snapshots keep, on disk: docs/format/snap.md is the authority; this is its reader and writer.
 * Pure functions; any thread may call.
 *
 * An epoch is the time from one cut to the next. Each has a log: what was changed since its
 * snapshot, and the old side of it. The log is replayed from its start into a table (snap/table.h).
 * The list gives snapshots their names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/id.h"
#include "base/limits.h"
#include "format/head.h"

enum {
    SNAP_HEAD_BYTES = HEAD_BYTES,
    SNAP_RECORD_HEAD_BYTES = 24,
    SNAP_BODY_BYTES = 80, /* the largest fixed part behind a record's head */
    SNAP_RECORD_BYTES_MAX =
        SNAP_RECORD_HEAD_BYTES + SNAP_BODY_BYTES + 2 * NAME_BYTES + SNAP_XATTR_BYTES_MAX,
    SNAP_ROOT = 1, /* ids of the volume's root, */
    SNAP_KEPT = 2, /* and of the folder of kept files */
};

/* Numbers in files: never renumber. */
enum snap_kind {
    SNAP_NODE = 1, /* `id` was at (parent, name) at the cut, and is there now */
    SNAP_ALSO = 2, /* `id` was, and is, at (parent, name), too */
    SNAP_MADE = 3, /* `id` was made since, at (parent, name); parent 0: at no name yet */
    SNAP_LINK = 4, /* `id` got the name (parent, name) */
    SNAP_GONE = 5, /* `id` lost the name (parent, name) */
    SNAP_MOVE =
        6, /* `id` moved from (parent, name) to (parent2, name2), replacing what was there */
    SNAP_SWAP = 7,    /* what was at the two names changed places */
    SNAP_ATTR = 8,    /* the attributes that `id` had */
    SNAP_DATA = 9,    /* the bytes it had at `off`: they follow the record, or lie in another log */
    SNAP_ZERO = 10,   /* there were none: a hole, or zeros */
    SNAP_FILE = 11,   /* they are at the same place of the kept file `where` */
    SNAP_DONE = 12,   /* what record `id` tells (LINK, GONE, MOVE, SWAP, MADE) was done */
    SNAP_NOT = 13,    /* it was not */
    SNAP_SYNCED = 14, /* all up to record `id` is on the disks, with what it tells of */
    SNAP_BROKEN = 15, /* from here on something is missing; name: why, in words */
    SNAP_MERGED = 16, /* epoch `id` is contained in this log, up to here, and is to go; of the log's
                         own number: what it kept was given back */
    SNAP_DROPPED = 17, /* the bytes it had at `off` changed, and are not kept */
    SNAP_LAST = SNAP_DROPPED,
};

struct snap_attr {
    struct stat st;        /* mode, uid, gid, nlink, rdev, size, mtime, ctime */
    const uint8_t *xattrs; /* items of snap_xattr_next() */
    uint32_t xattr_bytes;
};

struct snap_record {
    enum snap_kind kind;
    uint8_t type; /* NODE, MADE: DT_REG ... */
    uint8_t name_bytes, name2_bytes;
    uint32_t id;  /* a node; of DONE and NOT the `seq` of a record */
    uint32_t seq; /* counts the records of a log, from 1 */
    uint32_t parent, parent2;
    const char *name, *name2; /* not terminated */
    struct snap_attr attr;
    /* of DATA, ZERO, FILE, DROPPED */
    uint64_t off,
        len;        /* GONE, MOVE, SWAP: where is the inode number of what was at the first name */
    uint64_t where; /* DATA: the epoch whose log has the bytes; FILE: number of a kept file */
    uint64_t where_off; /* DATA: where in that log */
    uint64_t sum;       /* DATA: XXH3 of the bytes */
    uint32_t payload;   /* bytes that follow the record: len, or 0 if they are in another log */
};

/* Bytes written to ret_bytes (room for SNAP_RECORD_BYTES_MAX): a multiple of 8. The payload, which
 * is padded to a multiple of 8, too, is not among them. */
size_t snap_record_encode(const struct snap_record *record, const struct id *volume,
                          uint8_t *ret_bytes);
/* The record that begins at `bytes`, of which n are there; it points into them. Its size without
 * the payload; -ENODATA if more bytes are needed; -HFE_CORRUPT. */
int snap_record_decode(const uint8_t *bytes, size_t n, const struct id *volume,
                       struct snap_record *ret_record) must_check;
/* What the payload takes in the file. */
static inline uint64_t snap_padded(uint64_t payload) {
    return (payload + 7) / 8 * 8;
}
uint64_t snap_sum(const void *bytes, size_t n);

/* The head of an epoch's log. */
void snap_head_encode(const struct id *volume, uint32_t epoch, uint8_t *ret_bytes);
int snap_head_decode(const uint8_t *bytes, const struct id *volume, uint32_t *ret_epoch) must_check;

/* Extended attributes: 1 byte length of the key, 4 of the value, key, value. */
struct snap_xattr {
    const char *key; /* not terminated */
    uint8_t key_bytes;
    const uint8_t *value;
    uint32_t value_bytes;
};
/* The item at `at`; where the next one begins, 0 at the end, or -HFE_CORRUPT. */
ssize_t snap_xattr_next(const struct snap_attr *attr, size_t at,
                        struct snap_xattr *ret_xattr) must_check;
/* Appends an item; its size. Only counts if `ret_bytes` is NULL. */
size_t snap_xattr_put(const struct snap_xattr *xattr, uint8_t *ret_bytes);

/* --- the list --- */

enum snap_flags {
    SNAP_HELD = 1,     /* may not be destroyed */
    SNAP_AUTO = 2,     /* made by the schedule */
    SNAP_HARMED = 4,   /* something of it is missing */
    SNAP_BOOKMARK = 8, /* what changed since is known, what it was need not be kept */
    SNAP_FLAGS_ALL = 15,
};

enum { SNAP_REASON_BYTES = 192 }; /* a sentence, with its final NUL */

struct snap_entry {
    uint32_t epoch; /* whose log begins at its cut */
    uint32_t flags;
    uint64_t created_s;
    char name[SNAPSHOT_NAME_BYTES];
    char reason[SNAP_REASON_BYTES]; /* why it is broken; "" */
    char tags[SNAPSHOT_TAGS_BYTES]; /* "nightly,release"; "" */
};

enum { SNAP_ENTRY_BYTES = 16 + SNAPSHOT_NAME_BYTES + SNAP_REASON_BYTES + SNAPSHOT_TAGS_BYTES };
#define SNAP_LIST_BYTES(count) (HEAD_BYTES + (size_t)(count)*SNAP_ENTRY_BYTES + 8)

/* SNAP_LIST_BYTES(count) bytes. */
void snap_list_encode(const struct id *volume, const struct snap_entry *entries, uint32_t count,
                      uint8_t *ret_bytes);
/* Fills at most `room` entries. Their number, -HFE_CORRUPT, or -HFE_FEATURE. */
int snap_list_decode(const uint8_t *bytes, size_t n, const struct id *volume,
                     struct snap_entry *ret_entries, uint32_t room) must_check;
/* [A-Za-z0-9][A-Za-z0-9_.:@+-]*, short enough. */
bool snap_name_ok(const char *name);
/* [A-Za-z0-9_.:@+-]+ with commas between them, short enough; or none. */
bool snap_tags_ok(const char *tags);
