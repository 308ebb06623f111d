#include "base/rangelock.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"

void rangelock_init(struct rangelock *lock) {
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    for (int i = 0; i < RANGELOCK_BUCKETS; i++) {
        lock->bucket[i] = (struct rangelock_bucket){.holds = NULL};
        pthread_mutex_init(&lock->bucket[i].mutex, NULL);
        pthread_cond_init(&lock->bucket[i].changed, &attr);
    }
    pthread_condattr_destroy(&attr);
}

void rangelock_release(struct rangelock *lock) {
    for (int i = 0; i < RANGELOCK_BUCKETS; i++) {
        assert(!lock->bucket[i].holds);
        pthread_cond_destroy(&lock->bucket[i].changed);
        pthread_mutex_destroy(&lock->bucket[i].mutex);
    }
}

static struct rangelock_bucket *bucket_of(struct rangelock *lock, const void *key) {
    uint64_t h = (uint64_t)(uintptr_t)key * UINT64_C(0x9E3779B97F4A7C15);

    return &lock->bucket[(h >> 32) % RANGELOCK_BUCKETS];
}

static bool taken(const struct rangelock_bucket *b, const struct range_hold *want) {
    for (const struct range_hold *h = b->holds; h; h = h->next) {
        if (h->key == want->key && h->from < want->to && want->from < h->to) {
            return true;
        }
    }
    return false;
}

/* until: NULL: as long as it takes. */
static bool lock_until(struct rangelock *lock, struct range_hold *hold,
                       const struct timespec *until) {
    struct rangelock_bucket *b = bucket_of(lock, hold->key);
    bool got;
    int late = 0;

    assert(hold->from < hold->to);
    pthread_mutex_lock(&b->mutex);
    while (taken(b, hold) && late == 0) {
        b->waiting++;
        if (until) {
            late = pthread_cond_timedwait(&b->changed, &b->mutex, until);
        } else {
            pthread_cond_wait(&b->changed, &b->mutex);
        }
        b->waiting--;
    }
    got = !taken(b, hold);
    if (got) {
        hold->next = b->holds;
        b->holds = hold;
    }
    pthread_mutex_unlock(&b->mutex);
    return got;
}

void range_lock(struct rangelock *lock, struct range_hold *hold, const void *key, uint64_t from,
                uint64_t to) {
    *hold = (struct range_hold){.key = key, .from = from, .to = to};
    (void)lock_until(lock, hold, NULL); /* it gets it */
}

bool range_try_lock(struct rangelock *lock, struct range_hold *hold, const void *key, uint64_t from,
                    uint64_t to, int patience_ms) {
    struct timespec until = clock_deadline(patience_ms);

    *hold = (struct range_hold){.key = key, .from = from, .to = to};
    return lock_until(lock, hold, &until);
}

void range_unlock(struct rangelock *lock, struct range_hold *hold) {
    struct rangelock_bucket *b = bucket_of(lock, hold->key);
    struct range_hold **at;

    pthread_mutex_lock(&b->mutex);
    for (at = &b->holds; *at != hold; at = &(*at)->next) {
        assert(*at);
    }
    *at = hold->next;
    if (b->waiting > 0) {
        pthread_cond_broadcast(&b->changed);
    }
    pthread_mutex_unlock(&b->mutex);
}

static bool same(const struct range_hold *a, const struct range_hold *b) {
    return a->key == b->key && a->from == b->from;
}

void range_lock_two(struct rangelock *lock, struct range_hold hold[2]) {
    bool swap = (uintptr_t)hold[0].key > (uintptr_t)hold[1].key ||
                (hold[0].key == hold[1].key && hold[0].from > hold[1].from);
    struct range_hold *first = &hold[swap], *second = &hold[!swap];

    range_lock(lock, first, first->key, first->from, first->to);
    if (!same(first, second)) {
        range_lock(lock, second, second->key, second->from, second->to);
    }
}

void range_unlock_two(struct rangelock *lock, struct range_hold hold[2]) {
    if (!same(&hold[0], &hold[1])) {
        range_unlock(lock, &hold[1]);
    }
    range_unlock(lock, &hold[0]);
}
