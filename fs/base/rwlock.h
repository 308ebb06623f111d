/* A reader-writer lock that belongs to a request, not to a thread: whoever finishes the request
 * may release it. (pthread_rwlock_t must be released by the thread that took it, and a request
 * stuck in a hung store is to be finished by another.) Writers go first; not recursive. */
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "base/cleanup.h"

struct rwlock {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    /* guarded by mutex */
    unsigned readers;
    unsigned writers_waiting;
    bool writer;
};

void rwlock_init(struct rwlock *lock);
void rwlock_release(struct rwlock *lock);
void rwlock_read(struct rwlock *lock);
void rwlock_read_done(struct rwlock *lock);
void rwlock_write(struct rwlock *lock);
/* As writer, giving up after timeout_ms, so that one slow reader does not queue all others. */
bool rwlock_try_write(struct rwlock *lock, int timeout_ms) must_check;
void rwlock_write_done(struct rwlock *lock);
