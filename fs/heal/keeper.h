/* One keeper for each store of a mounted volume: a thread that looks after it.
 *
 *   ONLINE            probes it (writes, syncs, reads; is it still the store that was opened?), and
 *                     while calls wait on it, writes a few bytes, so that slow and silent differ
 *   FAULTED, STALE    lets go of it; opens it anew every few seconds, and brings it back
 *   OFFLINE           lets go of it; brings it back when told to
 *
 * Applications go first: while they change things, a catch-up works at most half of the time.
 *
 * Bringing back: identity; what it may have that nobody else knows (split brain) is refused; then
 * its catch-up in rounds while the volume is in use, until it takes all changes itself; then it is
 * synced and ONLINE. Whatever goes wrong, it is STALE again and nothing else has happened. */
#pragma once

#include "base/error.h"
#include "mirror/mirror.h"

struct keeper;

int keeper_start(struct mirror *mirror, unsigned index, struct events *events,
                 struct keeper **ret_keeper) must_check;
/* Ends it; not if it is stuck in its store: then it is left alone, and false is returned. */
bool keeper_stop(struct keeper *keeper);
/* `store online`: tries at once. What an admin took out comes back, too. */
void keeper_wake(struct keeper *keeper);
/* `store offline`. -HFE_UNSAFE if it is the last one. */
int keeper_offline(struct keeper *keeper) must_check;
