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
 * mirror_new -> operations through mirror_vol(), mirror_tick() every TICK_MS -> mirror_stop ->
 * vol_free(mirror_vol()), which also closes the stores. */
#pragma once

#include "base/event.h"
#include "base/work.h"
#include "store/store.h"
#include "vol/vol.h"

struct mirror;

struct mirror_member_config {
    struct store *store; /* NULL: the member is not here (a mount with `degraded`) */
    struct vol *vol;     /* on top of the store; NULL: the store's own. Tests put faults here */
    struct id id;
    const char *label;
    enum member_state state;
    uint64_t since_s;
};

struct mirror_config {
    struct mirror_member_config member[STORES_MAX];
    unsigned count;
    unsigned min_stores;   /* successes a change needs; 1 or more */
    unsigned dirfds_max;   /* cached folders of each store */
    struct super super;    /* the record in force: ids, generation, counts */
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

/* Housekeeping: times of folders, free space. One thread. */
void mirror_tick(struct mirror *mirror);

/* Before a clean end, when no operation runs any more: everything equal, synced, and the
 * superblocks marked clean. An error means that the next mount has to compare. */
int mirror_stop(struct mirror *mirror) must_check;

/* Takes a store out by hand, or because the daemon found it broken. -HFE_UNSAFE if it is the last.
 */
int mirror_lose(struct mirror *mirror, unsigned index, enum member_state state,
                const char *reason) must_check;

/* What `status` shows. Never touches a store. Any thread. */
struct mirror_member_status {
    char label[LABEL_BYTES], path[PATH_BYTES], fs[16], reason[256];
    enum member_state state;
    bool reads_here; /* the store that serves reads */
    uint64_t since_s, read_errors, write_errors, checksum_errors, total_bytes, free_bytes;
};
struct mirror_status {
    unsigned count, online;
    bool read_only;
    bool unequal; /* a change failed in a way that may have left the stores different */
    uint64_t generation_number, mount_count, objects;
    struct mirror_member_status member[STORES_MAX];
};
void mirror_status(struct mirror *mirror, struct mirror_status *ret_status);
