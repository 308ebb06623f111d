/* Locks on ranges of keyed spaces: bytes of a file, or a name of a directory.
 *
 * A change is sent to several stores one after the other. Two changes of the same bytes, or of the
 * same name, must reach all stores in the same order, so each holds its range while it is under
 * way. A hold lives with the request (usually on its stack), so the table costs no memory for an
 * object; whoever finishes the request may release it. All holds are exclusive.
 *
 * A request that needs two holds takes them with range_lock_two(), which orders them.
 * Any thread may call. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { RANGELOCK_BUCKETS = 128 };

struct range_hold {
    struct range_hold *next;
    const void *key;
    uint64_t from, to; /* [from, to) */
};

struct rangelock {
    struct rangelock_bucket {
        pthread_mutex_t mutex;
        pthread_cond_t changed;
        struct range_hold *holds; /* guarded by mutex */
        unsigned waiting;         /* guarded by mutex */
    } bucket[RANGELOCK_BUCKETS];
};

void rangelock_init(struct rangelock *lock);
void rangelock_release(struct rangelock *lock);

/* Waits until nobody else holds any part of [from, to) of `key`. */
void range_lock(struct rangelock *lock, struct range_hold *hold, const void *key, uint64_t from,
                uint64_t to);
/* True if it got it within patience_ms. */
bool range_try_lock(struct rangelock *lock, struct range_hold *hold, const void *key, uint64_t from,
                    uint64_t to, int patience_ms) must_check;
void range_unlock(struct rangelock *lock, struct range_hold *hold);

/* Both of a (key, from, to filled in by the caller); equal ranges are taken once. Release with
 * range_unlock_two(). */
void range_lock_two(struct rangelock *lock, struct range_hold hold[2]);
void range_unlock_two(struct rangelock *lock, struct range_hold hold[2]);
