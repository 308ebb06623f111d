/* The mirror: one volume out of several stores.
 *
 * Every change is sent to all ONLINE stores; what they say is turned into one answer by the table
 * of answer.c; a store that failed where others did not is recorded as lost, durably, on the
 * survivors and the witness, before the change is acknowledged. Reads come from one store, and from
 * the next one if it fails.
 *
 * The mirror owns the volume's objects and the locks that put conflicting changes in one order.
 * Rank, outermost first (docs/LOCKING.md):
 *
 *     gate (reader) -> names (reader; folders' rename and rmdir: writer) -> name holds -> data
 * holds
 *
 * mirror_new -> operations of the volume, mirror_tick() every TICK_MS -> mirror_stop -> vol_free(),
 * which also closes the stores. */
#pragma once

#include "base/event.h"
#include "base/work.h"
#include "journal/journal.h"
#include "store/disk.h"
#include "store/store.h"
#include "vol/vol.h"

struct mirror;

struct mirror_member_config {
    struct store *store; /* NULL: the member is not here (a mount with `degraded`) */
    struct vol *vol;     /* on top of the store; NULL: the store's own. Tests put faults here */
    struct id id;
    const char *label, *path;
    enum member_state state;
    uint64_t since_s;
    const char *reason; /* why it is not ONLINE */
};

/* What the admin allows. Zeros: nothing is done about it. */
struct mirror_policy {
    bool drop_full;     /* a store without room is FAULTED; else the change fails */
    uint64_t slow_us;   /* a store that takes longer for a change, on average, goes OFFLINE */
    uint64_t lag_bytes; /* so far may a passive store fall behind */
    uint64_t lag_s;
    bool lag_slows; /* beyond that changes are slowed down; else it is only told */
};

struct mirror_config {
    struct mirror_member_config member[STORES_MAX];
    unsigned count;
    unsigned store_timeout_ms; /* silence after which a store is lost; 0: 10 s */
    unsigned dirfds_max;       /* cached folders of each store */
    struct mirror_policy policy;
    struct super super; /* the record in force: ids, generation, counts */
    struct journal
        *journal;      /* goes on where the logs of the ONLINE stores end. Freed by the mirror */
    uint64_t position; /* up to where they have it */
    uint64_t stable;   /* position of the last checkpoint */
    struct events *events; /* must outlive the mirror */
    /* Makes the witness record durable. NULL: there is none (tests). */
    int (*write_witness)(void *arg, const struct super *super);
    void *witness_arg;
};

/* Takes over the stores, also on failure. */
int mirror_new(const struct mirror_config *config, struct why *why,
               struct vol **ret_vol) must_check;
struct mirror *mirror_of(struct vol *vol);
struct obj_table *mirror_objects(struct mirror *mirror);
/* .holdfast/snap: mirrored, caught up and compared like any other folder, but not shown. Lives as long
 * as the mirror. */
struct obj *mirror_snapshots(struct mirror *mirror);
unsigned mirror_count(const struct mirror *mirror);
/* Is a thread still in a call on a store that was given up? Then nothing may be freed. */
bool mirror_stuck(const struct mirror *mirror);
/* Successes that a change needs (0: as 1). Before the volume serves; until then what a mount has to write itself may go to one store alone. */
void mirror_set_min_stores(struct mirror *mirror, unsigned min_stores);
/* At the end of a process that is held back by such a call: others may have the stores that are well. */
void mirror_unlock_stores(struct mirror *mirror);

/* The watchdog: finds stores that do not answer, and gives up what waits for them. Every TICK_MS,
 * from a thread that runs no fiber and makes no other call. */
void mirror_watch(struct mirror *mirror);
/* Housekeeping: times of folders, free space. One thread. */
void mirror_tick(struct mirror *mirror);

/* Carries the journal to the stores, and makes checkpoints. A thread of its own, every TICK_MS: it
 * syncs stores. */
void mirror_log_tick(struct mirror *mirror);
/* Carries the journal to the stores, without syncing it. A thread of its own, every TICK_MS:
 * writers wait for it when the ring is full. */
void mirror_log_carry(struct mirror *mirror);
/* Shows other machines that the stores which they may reach are in use. The same thread, to the very
 * end. */
void mirror_heartbeat(struct mirror *mirror);
/* An instant between two changes of the volume: what is told from now on is told anew. -ETIMEDOUT.
 */
int mirror_cut(struct mirror *mirror, uint64_t *ret_position) must_check;
/* Carries all frames to the stores, durably. The position up to which they are there. */
uint64_t mirror_log_flush(struct mirror *mirror);
int mirror_checkpoint(struct mirror *mirror) must_check;

/* Before a clean end, when no operation runs any more: everything equal, synced, and the
 * superblocks marked clean. An error means that the next mount has to compare. */
int mirror_stop(struct mirror *mirror) must_check;

/* Takes a store out by hand, or because the daemon found it broken. -HFE_UNSAFE if it is the last.
 */
int mirror_lose(struct mirror *mirror, unsigned index, enum member_state state,
                const char *reason) must_check;

/* Another daemon has mounted the store, and so the volume: there are never two writers. No store is
 * touched any more; all that is asked fails. */
void mirror_taken(struct mirror *mirror, unsigned index);

/* A store that was formatted and is empty as yet: a member from now on, recorded, and STALE until its
 * keeper has filled it. */
struct mirror_newcomer {
    struct id id;
    const char *label, *path;
    uint32_t caps;
    bool passive; /* it is to follow behind, and never to serve */
    int replaces; /* index of the store that goes once this one is ONLINE; -1: none */
};
/* -EEXIST (label or path), -HFE_USAGE (too many), -HFE_IN_USE (that one is being replaced), ... */
int mirror_add(struct mirror *mirror, const struct mirror_newcomer *newcomer,
               unsigned *ret_index) must_check;
/* Not a member any more. -HFE_UNSAFE if it is the last one that is ONLINE, or min-stores needs it. */
int mirror_remove(struct mirror *mirror, unsigned index, const char *reason) must_check;
/* Was the store with this label part of the volume, and is none now? */
bool mirror_was_removed(struct mirror *mirror, const char *label);
/* The index of the store that this one replaces; -1. */
int mirror_replaces(struct mirror *mirror, unsigned index);

/* --- a store comes back: the keeper's side (heal/keeper.h) --- */

struct mirror_member_info {
    enum member_state state;
    struct id id;
    unsigned slot;
    bool here; /* something of ours is open on it */
    char path[PATH_BYTES], label[LABEL_BYTES];
    struct super_member record;
};
void mirror_member_info(struct mirror *mirror, unsigned index, struct mirror_member_info *ret_info);
struct super mirror_super(struct mirror *mirror);
/* Closes all that is open on a store that left. True when it is (only calls that are stuck in it
 * can hold that up). */
bool mirror_let_go(struct mirror *mirror, unsigned index);
/* store_check_alive() of a store that is ONLINE, as GUARD_CHANGE. -ENODEV, -HFE_GIVEN_UP. */
int mirror_probe(struct mirror *mirror, unsigned index, bool full) must_check;
/* SYNCING, recorded durably before the first byte: `store` is the mirror's now, also on failure if
 * it is not -HFE_IN_USE. `seen`: its state when it was decided; it was taken out since, perhaps:
 * -HFE_IN_USE. `position`: since when it lacks changes; 0: nobody knows. */
int mirror_sync_begin(struct mirror *mirror, unsigned index, enum member_state seen,
                      struct store *store, uint64_t position) must_check;
/* All names to oneself, after a cut at *ret_position; until mirror_names_done(), from which on the
 * store receives all changes if `receives`. -ETIMEDOUT. */
int mirror_names_alone(struct mirror *mirror, unsigned index, uint64_t *ret_position) must_check;
void mirror_names_done(struct mirror *mirror, unsigned index, bool receives);
/* All changes that began before it received are over: a cut at *ret_position. -ETIMEDOUT. */
int mirror_settled(struct mirror *mirror, unsigned index, uint64_t *ret_position) must_check;
/* Holds bytes of a file, found by its path and its inode on the store `from`; `names`: and all names, which it
 * still has then. Its number in the journal goes to ret_number. -ESTALE if that is another file now; -HFE_IN_USE. */
int mirror_range_hold(struct mirror *mirror, unsigned index, unsigned from, const char *const *path,
                      unsigned depth, uint64_t ino, uint64_t off, uint64_t len, bool names,
                      uint64_t *ret_number) must_check;
/* The inode on a receiving store of the file at this path, whose inode on `from` is `ino`; and its number in
 * the journal, which alone says who it is where inodes on `from` say nothing. -ESTALE. */
int mirror_peer_ino(struct mirror *mirror, unsigned index, unsigned from, const char *const *path,
                    unsigned depth, uint64_t ino, uint64_t *ret_ino,
                    uint64_t *ret_number) must_check;
void mirror_range_release(struct mirror *mirror, unsigned index);
/* Was that the object's number in the mount before, where another store may have given it? By its inode
 * there; false also if that store is not ONLINE. */
bool mirror_had_number(struct mirror *mirror, struct obj *obj, uint64_t number);
/* A comparison of ONLINE stores, one at a time: false if one runs. It may hold bytes of a file (found
 * as above), or all names, so that nobody changes them; the watchdog lets go of that after
 * store-timeout, and then the release says false: what was done meanwhile counts for nothing. */
bool mirror_compare_begin(struct mirror *mirror) must_check;
void mirror_compare_end(struct mirror *mirror);
int mirror_compare_hold(struct mirror *mirror, unsigned from, const char *const *path,
                        unsigned depth, uint64_t ino, uint64_t off, uint64_t len) must_check;
int mirror_compare_hold_names(struct mirror *mirror) must_check;
bool mirror_compare_release(struct mirror *mirror);
/* Did a change that it should have received go wrong, or was it given up? */
bool mirror_sync_spoiled(struct mirror *mirror, unsigned index);
/* `torn`: the next one compares everything, also after a restart. */
void mirror_sync_failed(struct mirror *mirror, unsigned index, const char *reason, bool torn);
/* ONLINE, recorded. -HFE_STALE if it was spoiled. */
int mirror_sync_done(struct mirror *mirror, unsigned index) must_check;
/* A store that is to be passive has all changes up to `position`, stable: PASSIVE. -HFE_STALE if a
 * change went wrong there. */
int mirror_follows(struct mirror *mirror, unsigned index, uint64_t position) must_check;
/* `store set passive`: it leaves those that serve, and follows; `active`: its keeper makes it ONLINE.
 * -HFE_UNSAFE if it is the last one. */
int mirror_set_passive(struct mirror *mirror, unsigned index, bool passive) must_check;
bool mirror_is_passive(struct mirror *mirror, unsigned index);
/* Tells which file an object is on a member, for a catch-up that is cut off and begun again. */
void mirror_tell_peer(struct mirror *mirror, unsigned index, uint64_t number, uint64_t ino);
/* A store that is ONLINE, which is not let go before mirror_unuse(). NULL if it is not, or just left. */
struct store *mirror_use(struct mirror *mirror, unsigned index);
void mirror_unuse(struct mirror *mirror, unsigned index);
/* The same of the store that reads come from now. */
struct store *mirror_source(struct mirror *mirror, unsigned *ret_index);
/* What is in the store may not be what it should be: when it leaves, it is compared as a whole before
 * it comes back. */
void mirror_distrust(struct mirror *mirror, unsigned index);
/* Names are not what a listing said, though nobody changed them through the mount: listings are not kept any
 * more. */
void mirror_doubt_listings(struct mirror *mirror);
/* For status: of how many differences that were found this store's copy is the wrong one. `all`: there are no
 * others. */
void mirror_count_wrong(struct mirror *mirror, unsigned index, uint64_t differences, bool all);
bool mirror_is_online(struct mirror *mirror, unsigned index);
/* Of the newest frame of the journal: it grows while applications change things. */
uint64_t mirror_position(struct mirror *mirror);
/* Do calls on it wait for longer than a tick? */
bool mirror_waits(struct mirror *mirror, unsigned index);

enum space_level {
    SPACE_ENOUGH,
    SPACE_LOW,
    SPACE_CRITICAL,
};

struct mirror_progress {
    uint64_t started_s; /* 0: none is under way */
    bool paused;
    const char *phase; /* constant text */
    uint64_t objects_compared, bytes_copied, bytes_compared, bytes_left, bytes_per_s;
};
void mirror_set_progress(struct mirror *mirror, unsigned index,
                         const struct mirror_progress *progress);

/* A point in the life of the volume. */
struct mirror_followed {
    uint64_t position, written; /* of the journal; bytes of data changed since the mount */
    int64_t at_ms;
};
struct mirror_followed mirror_now(struct mirror *mirror);
/* A passive store has all that was there at that point. */
void mirror_followed(struct mirror *mirror, unsigned index, const struct mirror_followed *point);

/* What `status` shows. Never touches a store. Any thread. */
struct mirror_member_status {
    unsigned index;
    char label[LABEL_BYTES], path[PATH_BYTES], fs[16], disk[DISK_TEXT_BYTES], reason[REASON_BYTES];
    enum member_state state;
    bool reads_here; /* the store that serves reads */
    bool silent;     /* the last one, and it does not answer */
    bool passive;    /* it is to follow behind */
    enum space_level space;
    unsigned stuck_calls;
    uint64_t position; /* of one that is away: since when it lacks changes */
    struct mirror_progress progress;
    uint64_t since_s, read_errors, write_errors, checksum_errors, total_bytes, free_bytes;
    uint64_t latency_us;       /* of a call, on average in a busy second lately; 0: not known */
    uint64_t lag_bytes, lag_s; /* of a passive one */
};
struct mirror_status {
    unsigned count, online, following; /* following: PASSIVE, as it should be */
    bool read_only;
    bool taken;   /* another daemon has mounted the volume */
    bool unequal; /* a change failed in a way that may have left the stores different */
    bool too_few; /* less than min-stores are ONLINE: every change fails */
    uint64_t generation_number, mount_count, objects, position;
    struct mirror_member_status member[STORES_MAX];
};
void mirror_status(struct mirror *mirror, struct mirror_status *ret_status);
/* How much is on the store that serves reads, as its filesystem counts. */
uint64_t mirror_used_bytes(struct mirror *mirror);
