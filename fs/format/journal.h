/* The change journal on disk: segments of frames. docs/format/journal.md is the authority; this is
 * its reader and writer. Pure functions; any thread may call.
 *
 * A frame says that something may change, and is written before it does. It names objects by
 * number; JOURNAL_BIND says which file a number is. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/id.h"
#include "base/limits.h"
#include "format/head.h"

enum {
    JOURNAL_HEAD_BYTES = HEAD_BYTES, /* of a segment */
    JOURNAL_FRAME_BYTES_MAX = 1024,  /* two names of 255 bytes and all the numbers fit */
    JOURNAL_SEGMENT_BYTES = 1 << 20, /* of frames in one segment, at most */
    JOURNAL_PEERS_MAX = 16,          /* SUPER_MEMBERS_MAX */
};

/* Numbers in files: never renumber. */
enum journal_kind {
    JOURNAL_BIND = 1,       /* `number` is the object `name` in the folder `parent`, inodes `ino` */
    JOURNAL_NAME = 2,       /* what `name` in `parent` is may change */
    JOURNAL_MOVE = 3,       /* `number` may move from `name` in `parent` to `name2` in `parent2` */
    JOURNAL_DATA = 4,       /* bytes [off, off + len) of `number` may change; len 0: to the end */
    JOURNAL_ATTR = 5,       /* owner, mode, times, xattrs of `number` may change */
    JOURNAL_CHECKPOINT = 6, /* all before `off` is stable on every ONLINE store */
    JOURNAL_BREAK = 7,      /* a crash: frames may be missing here */
    JOURNAL_PEER = 8,       /* on member `slot`, `number` is the inode `ino` */
    JOURNAL_HOT = 9,        /* as DATA, but coarse: writes go on in these bytes, and while no member
                               is away only the first of them is told */
    JOURNAL_LEAVE = 10,     /* member `slot` gets no more changes; DATA is told exactly from here */
    JOURNAL_LAST = JOURNAL_LEAVE,
};

/* Unused members are zero. */
struct journal_frame {
    enum journal_kind kind;
    uint64_t position; /* of its first byte in the log */
    uint64_t number, parent, parent2;
    uint64_t off, len;
    uint64_t time_s; /* CHECKPOINT, BREAK: real time; BIND: 1 if made after the last checkpoint */
    uint32_t slot;
    bool linked;    /* BIND: the object has several names */
    uint8_t type;   /* BIND: DT_REG ... */
    uint32_t peers; /* bit per member whose inode is in `ino` */
    uint64_t ino[JOURNAL_PEERS_MAX];
    char name[NAME_BYTES], name2[NAME_BYTES];
};

/* Bytes written to ret_bytes (room for JOURNAL_FRAME_BYTES_MAX): a multiple of 8. */
size_t journal_frame_encode(const struct journal_frame *frame, const struct id *volume,
                            uint8_t *ret_bytes);
/* The frame that begins at `bytes`, of which n are there. Its size, or -HFE_CORRUPT if there is no
 * whole, unharmed frame of this volume and this position. */
int journal_frame_decode(const uint8_t *bytes, size_t n, const struct id *volume, uint64_t position,
                         struct journal_frame *ret_frame) must_check;

void journal_head_encode(const struct head *head, uint8_t *ret_bytes);
/* -HFE_CORRUPT, or -HFE_FEATURE for another version. */
int journal_head_decode(const uint8_t *bytes, struct head *ret_head) must_check;
