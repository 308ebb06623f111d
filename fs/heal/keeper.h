/* One keeper for each store of a mounted volume: a thread that looks after it.
 *
 *   ONLINE            probes it (writes, syncs, reads; is it still the store that was opened?), and
 *                     while calls wait on it, writes a few bytes, so that slow and silent differ
 *   FAULTED, STALE    lets go of it; opens it anew every few seconds, and brings it back
 *   OFFLINE           lets go of it; brings it back when told to
 *
 * Applications go first: while they change things, a catch-up works at most half of the time.
 *
 * A store that replaces another: when it is ONLINE, it is compared with the one that serves, and only
 * then the other one goes.
 *
 * Bringing back: identity; what it may have that nobody else knows (split brain) is refused; then
 * its catch-up in rounds while the volume is in use, until it takes all changes itself; then it is
 * synced and ONLINE. Whatever goes wrong, it is STALE again and nothing else has happened. */
#pragma once

#include "base/error.h"
#include "mirror/mirror.h"

struct keeper;

struct keeper_config {
    struct mirror *mirror;
    struct events *events;
    void (*roster_changed)(void *arg); /* a store was replaced: another one is part of the volume */
    void *arg;
};

int keeper_start(const struct keeper_config *config, unsigned index,
                 struct keeper **ret_keeper) must_check;
/* Ends it; not if it is stuck in its store: then it is left alone, and false is returned. */
bool keeper_stop(struct keeper *keeper);
/* `store online`: tries at once. What an admin took out comes back, too. */
void keeper_wake(struct keeper *keeper);
/* Looks for it at once, if it was not taken out by hand. */
void keeper_look(struct keeper *keeper);
/* The same for a store that was just added at the place of a removed one; else nothing. */
void keeper_wake_new(struct keeper *keeper);
/* `resync`: what it does stands still, or moves no more than that (0: no limit), until told otherwise
 * or the daemon ends. */
void keeper_pause(struct keeper *keeper, bool on);
void keeper_limit(struct keeper *keeper, uint64_t bytes_per_s);
/* `store offline`. -HFE_UNSAFE if it is the last one. */
int keeper_offline(struct keeper *keeper) must_check;
