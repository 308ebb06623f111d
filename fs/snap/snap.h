/* Snapshots: the layer between the front and the mirror.
 *
 * A snapshot is a cut, and what is kept afterwards. The time from one cut to the next is an epoch.
 * In the current one, each change keeps the old side of what it is about to touch first, and is then
 * passed on: attributes and names as records in the epoch's log, overwritten blocks as records with
 * their bytes, long runs of blocks as kept files (cloned where the stores can), files that lose
 * their last name by moving them to the kept files. All of that is written through the volume below,
 * so it is mirrored, healed and journalled like any other data:
 *
 *     .holdfast/snap/list        the snapshots' names                    docs/format/snap.md
 *     .holdfast/snap/N.log       epoch N
 *     .holdfast/snap/kept/M      kept file M
 *
 * Users see snapshots in the folder .holdfast/snapshots of the volume's root: read only, with the
 * permissions of that time. A view looks through what the snapshot's epoch and all later ones kept,
 * and at last at the live tree. A bookmark is seen there, too, without the bytes that changed since: it
 * says what changed.
 *
 *     snap_new -> operations, snap_*() from any thread; snap_tick() and snap_reap() now and then
 *     -> snap_stop -> vol_free
 *
 * Where nothing can be kept (no space, a failing store), the snapshot breaks and says so; the
 * application's change goes on (P6). */
#pragma once

#include "base/event.h"
#include "format/snap.h"
#include "vol/gate.h"
#include "vol/vol.h"

#define SNAP_TOP_FOLDER    ".holdfast" /* in the volume's root */
#define SNAP_VIEWS_FOLDER  "snapshots" /* in that */
#define SNAP_BROKEN_TAIL   ".broken"   /* to the name of a snapshot of which something is missing */
#define SNAP_BOOKMARK_TAIL ".bookmark" /* to that of a bookmark */

struct snap;

struct snap_config {
    struct vol *next;       /* freed with the layer, also if snap_new() fails */
    struct obj_table *objs; /* of the volume below */
    struct obj *folder;     /* .holdfast/snap; lives as long as `next` */
    struct id volume;
    struct events *events;
    uint64_t reserve_bytes; /* room that what is kept may not take; 0: none */
    bool strict;            /* what is kept is on the disks before the change is passed on */
    bool cut_off;           /* the stores may have lost what was not synced: the power was cut */
    /* Was that the object's number in the mount before? NULL: only if it is now. */
    bool (*had_number)(void *arg, struct obj *obj, uint64_t number);
    void *arg;
};

int snap_new(const struct snap_config *config, struct why *why, struct vol **ret_vol) must_check;
struct snap *snap_of(struct vol *vol);
/* No operation runs any more. All that is kept is on the disks. */
int snap_stop(struct snap *snap) must_check;

/* Makes what is kept durable, once a second. Every TICK_MS, one thread. */
void snap_tick(struct snap *snap);
/* Gives back what destroyed snapshots took: a step of it. True if there may be more. One thread. */
bool snap_reap(struct snap *snap);

/* The whole volume as it is now: that instant is over when this returns. Until it is settled, a power
 * cut takes the snapshot (and nothing else). *ret_cut_us: for how long changes could not begin.
 * `tags`: "" or as snap_tags_ok() has them. -EEXIST, -HFE_USAGE (name, tags), -ENOSPC (the reserve, or
 * too many), -ETIMEDOUT (a change hangs). */
int snap_create(struct snap *snap, const char *name, const char *tags, uint32_t flags,
                uint64_t *ret_cut_us, struct why *why) must_check;
/* Makes it durable, if that was not done yet: whatever the snapshot shows is on the disks. What cannot
 * be made durable is no snapshot. snap_reap() does that, too. `name` (may be NULL): -EIO if that one is
 * none, or broken already. */
int snap_settle(struct snap *snap, const char *name, struct why *why) must_check;
/* Gone at once; its space comes back soon. -ENOENT, -HFE_IN_USE (held). */
int snap_destroy(struct snap *snap, const char *name, struct why *why) must_check;
int snap_rename(struct snap *snap, const char *name, const char *new_name,
                struct why *why) must_check;
int snap_hold(struct snap *snap, const char *name, bool hold, struct why *why) must_check;
/* From now on it is a bookmark: what changes since its cut stays known (names, attributes, which bytes),
 * and those bytes need not be kept; reading them fails with ENODATA. Their space comes back once no
 * snapshot is older. -ENOENT, -HFE_IN_USE (held), -HFE_UNSAFE (broken). */
int snap_bookmark(struct snap *snap, const char *name, struct why *why) must_check;

/* One of the list, as it is shown. */
struct snap_info {
    struct snap_entry entry;
    uint64_t used_bytes; /* what is kept from its cut to the next one's that is left */
};
/* What `status` shows. Touches no store. */
struct snap_summary {
    uint32_t count, broken;
    uint64_t newest_s,
        scheduled_s; /* when the newest was made, and the newest by the schedule; 0 */
    char newest[SNAPSHOT_NAME_BYTES];
};
void snap_summary(struct snap *snap, struct snap_summary *ret_summary);
/* All snapshots, oldest first: *ret_list is the caller's to free. Their number, -ENOMEM,
 * or an error of reading what they keep. */
int snap_list(struct snap *snap, struct snap_info **ret_list) must_check;

/* st_ino of a view: 1, the epoch (16 bits), then 0 and the store that numbers the object (3) and its
 * inode there (43), or 1 and a number of ours (46) for what is no more. */
enum { SNAP_INO_EPOCH = 47, SNAP_INO_GONE = 46, SNAP_INO_STORE = 43 };
static inline uint64_t snap_ino_low(unsigned store, uint64_t ino) {
    return (uint64_t)store << SNAP_INO_STORE |
           ((ino ^ ino >> SNAP_INO_STORE) & ((UINT64_C(1) << SNAP_INO_STORE) - 1));
}
/* What of an st_ino is the same in the live tree and in all views, as long as the file is there; 0 if
 * it is no more. */
static inline uint64_t snap_ino_same(uint64_t st_ino) {
    return st_ino >> 63 == 0 ? snap_ino_low(obj_number_store(st_ino), obj_number_ino(st_ino))
           : st_ino >> SNAP_INO_GONE & 1 ? 0
                                         : st_ino & ((UINT64_C(1) << SNAP_INO_GONE) - 1);
}
