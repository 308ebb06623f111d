/* What the admin's options say about stores that are slow, full or behind. */
#include <poll.h>
#include <stdio.h>

#include "base/clock.h"
#include "mirror/mirror_int.h"

enum {
    EVERY_MS = 1000,
    FEW_CALLS = 10,  /* in that time: fewer say nothing about a store's speed */
    SLOW_TIMES = 10, /* one after the other, before a store is dropped */
    PACE_MS = 20,    /* that a change waits while a passive store is too far behind */
};

/* --- slow stores --- */

static void measure(struct mirror *m, unsigned i) {
    struct member *member = &m->member[i];
    uint64_t us, calls;

    guard_spent(member->guard, &us, &calls);
    if (calls - member->seen_calls >= FEW_CALLS) {
        atomic_store(&member->latency_us, (us - member->seen_us) / (calls - member->seen_calls));
        atomic_store(&member->measured, true);
    } else {
        atomic_store(&member->measured, false);
    }
    member->seen_us = us;
    member->seen_calls = calls;
}

/* Is another store at least twice as fast? Else all are slow, and dropping one helps nobody. */
static bool another_is_fast(struct mirror *m, unsigned i) {
    for (unsigned k = 0; k < m->count; k++) {
        if (k != i && is_online(m, k) && atomic_load(&m->member[k].measured) &&
            2 * atomic_load(&m->member[k].latency_us) < atomic_load(&m->member[i].latency_us)) {
            return true;
        }
    }
    return false;
}

static void drop_if_slow(struct mirror *m, unsigned i) {
    struct member *member = &m->member[i];
    uint64_t us = atomic_load(&member->latency_us);
    char reason[REASON_BYTES];

    if (m->policy.slow_us == 0 || !member_can_be_spared(m) || atomic_load(&m->losing) > 0 ||
        !is_online(m, i) || !atomic_load(&member->measured) || us <= m->policy.slow_us ||
        !another_is_fast(m, i)) {
        member->slow_times = 0;
        return;
    }
    if (++member->slow_times < SLOW_TIMES) {
        return;
    }
    member->slow_times = 0;
    (void)snprintf(reason, sizeof(reason),
                   "too slow: a change takes it %.1f ms on average, and slow-store is %.1f ms",
                   (double)us / 1000, (double)m->policy.slow_us / 1000);
    member_lose_aside(m, i, MEMBER_OFFLINE, reason);
}

/* --- passive stores --- */

void mirror_followed(struct mirror *m, unsigned i, const struct mirror_followed *point) {
    struct member *member = &m->member[i];

    pthread_mutex_lock(&m->status_lock);
    member->followed = *point;
    pthread_mutex_unlock(&m->status_lock);
}

struct mirror_followed mirror_now(struct mirror *m) {
    return (struct mirror_followed){.position = journal_position(m->journal),
                                    .written = atomic_load(&m->written),
                                    .at_ms = clock_ms()};
}

/* How far a passive store is behind. */
static void lag_of(struct mirror *m, unsigned i, uint64_t *ret_bytes, uint64_t *ret_s) {
    struct mirror_followed now = mirror_now(m), then;

    pthread_mutex_lock(&m->status_lock);
    then = m->member[i].followed;
    pthread_mutex_unlock(&m->status_lock);
    *ret_bytes = *ret_s = 0;
    if (then.at_ms != 0 && now.position != then.position) {
        *ret_bytes = now.written - then.written;
        *ret_s = (uint64_t)(now.at_ms - then.at_ms) / 1000;
    }
}

static bool lags(struct mirror *m, unsigned i) {
    const struct mirror_policy *p = &m->policy;
    struct member *member = &m->member[i];
    uint64_t bytes, s;
    bool over;

    lag_of(m, i, &bytes, &s);
    atomic_store(&member->lag_bytes, bytes);
    atomic_store(&member->lag_s, s);
    over = (p->lag_bytes > 0 && bytes > p->lag_bytes) || (p->lag_s > 0 && s > p->lag_s);
    if (over && !member->lagging) {
        event_post(m->events, EVENT_WARNING,
                   "passive store \"%s\" is %llu MiB and %llu s behind, more than passive-lag "
                   "allows: %s",
                   member->label, (unsigned long long)(bytes >> 20), (unsigned long long)s,
                   p->lag_slows ? "writers are slowed down" : "it may fall behind further");
    } else if (!over && member->lagging) {
        event_post(m->events, EVENT_INFO, "passive store \"%s\" is within passive-lag again",
                   member->label);
    }
    member->lagging = over;
    return over;
}

void policy_tick(struct mirror *m, int64_t now_ms) {
    bool slow_down = false;

    if (now_ms - m->policy_ms < EVERY_MS) {
        return;
    }
    m->policy_ms = now_ms;
    for (unsigned i = 0; i < m->count; i++) {
        measure(m, i);
    }
    for (unsigned i = 0; i < m->count; i++) {
        drop_if_slow(m, i);
        if (atomic_load(&m->member[i].state) == MEMBER_PASSIVE) {
            slow_down = lags(m, i) || slow_down;
        } else {
            atomic_store(&m->member[i].lag_bytes, 0);
            atomic_store(&m->member[i].lag_s, 0);
            m->member[i].lagging = false;
        }
    }
    atomic_store(&m->slowed, slow_down && m->policy.lag_slows);
}

void change_enter(struct mirror *m) {
    if (atomic_load_explicit(&m->slowed, memory_order_relaxed)) {
        (void)poll(NULL, 0, PACE_MS);
    }
    gate_enter(&m->gate);
}
