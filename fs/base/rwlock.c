#include "base/rwlock.h"

#include <assert.h>
#include <errno.h>

#include "base/clock.h"

void rwlock_init(struct rwlock *lock) {
    pthread_condattr_t attr;

    *lock = (struct rwlock){0};
    pthread_mutex_init(&lock->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&lock->changed, &attr);
    pthread_condattr_destroy(&attr);
}

void rwlock_release(struct rwlock *lock) {
    assert(lock->readers == 0 && !lock->writer);
    pthread_cond_destroy(&lock->changed);
    pthread_mutex_destroy(&lock->mutex);
}

void rwlock_read(struct rwlock *lock) {
    pthread_mutex_lock(&lock->mutex);
    while (lock->writer || lock->writers_waiting > 0) {
        pthread_cond_wait(&lock->changed, &lock->mutex);
    }
    lock->readers++;
    pthread_mutex_unlock(&lock->mutex);
}

void rwlock_read_done(struct rwlock *lock) {
    pthread_mutex_lock(&lock->mutex);
    assert(lock->readers > 0);
    if (--lock->readers == 0 && lock->writers_waiting > 0) {
        pthread_cond_broadcast(&lock->changed);
    }
    pthread_mutex_unlock(&lock->mutex);
}

static bool write_until(struct rwlock *lock, const struct timespec *deadline) {
    bool got = true;

    pthread_mutex_lock(&lock->mutex);
    lock->writers_waiting++;
    while (got && (lock->writer || lock->readers > 0)) {
        if (!deadline) {
            pthread_cond_wait(&lock->changed, &lock->mutex);
        } else {
            got = pthread_cond_timedwait(&lock->changed, &lock->mutex, deadline) != ETIMEDOUT;
        }
    }
    lock->writers_waiting--;
    if (got) {
        lock->writer = true;
    } else {
        pthread_cond_broadcast(&lock->changed); /* readers were held off for this writer */
    }
    pthread_mutex_unlock(&lock->mutex);
    return got;
}

void rwlock_write(struct rwlock *lock) {
    (void)write_until(lock, NULL); /* without a deadline it always gets the lock */
}

bool rwlock_try_write(struct rwlock *lock, int timeout_ms) {
    struct timespec deadline = clock_deadline(timeout_ms);

    return write_until(lock, &deadline);
}

void rwlock_write_done(struct rwlock *lock) {
    pthread_mutex_lock(&lock->mutex);
    assert(lock->writer);
    lock->writer = false;
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
}
