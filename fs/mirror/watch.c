/* The watchdog: stores that do not answer.
 *
 * A store is silent when a call on it has waited for store-timeout and none of its kind was
 * answered meanwhile. fsync and the like may take long on a disk that is well; but while they wait,
 * the keeper of the store (heal/keeper.h) writes a few bytes to it, and that is answered if it is.
 * A silent store is shut, all calls on it are given up (their requests go on in other threads and
 * find a failed store), and it is recorded as lost. The last ONLINE store is never given up:
 * requests wait, and status says so. */
#include <stdio.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "mirror/mirror_int.h"

struct loss {
    struct mirror *m;
    unsigned i;
    enum member_state state;
    char reason[REASON_BYTES];
};

static void lose(void *arg) {
    struct loss *l = arg;
    int err = mirror_lose(l->m, l->i, l->state, l->reason);

    (void)err; /* the last one stays; and what cannot be recorded was said */
    atomic_fetch_sub(&l->m->losing, 1);
    free(l);
}

void member_lose_aside(struct mirror *m, unsigned i, enum member_state state, const char *reason) {
    struct loss *l = malloc(sizeof(*l));

    if (!l) {
        return; /* its requests do it, or the next look */
    }
    *l = (struct loss){.m = m, .i = i, .state = state};
    (void)snprintf(l->reason, sizeof(l->reason), "%s", reason);
    atomic_fetch_add(&m->losing, 1);
    if (fiber_start(lose, l) < 0) {
        atomic_fetch_sub(&m->losing, 1);
        free(l);
    }
}

static void give_up(struct mirror *m, unsigned i, const char *what, int64_t ms) {
    struct member *member = &m->member[i];
    char reason[REASON_BYTES];

    member_silence_text(what, ms, reason);
    guard_shut(member->guard);
    guard_give_up(member->guard);
    if (catches_up(m, i)) {
        member_spoil(m, i, "watchdog", -HFE_GIVEN_UP);
    } else {
        /* Usually one of its requests was faster. */
        member_lose_aside(m, i, MEMBER_FAULTED, reason);
    }
}

/* A catch-up that holds all names, or a range, while its store does not answer: let go of them. Its
 * thread finds that out when it comes back. */
static void watch_holds(struct mirror *m, unsigned i, int64_t now) {
    struct member *member = &m->member[i];
    struct range_hold *range;

    if (now - atomic_load(&member->held_ms) < m->store_timeout_ms) {
        return;
    }
    if (atomic_exchange(&member->names_held, false)) {
        member_spoil(m, i, "names", -HFE_GIVEN_UP);
        guard_shut(member->guard);
        rwlock_write_done(&m->names);
    }
    range = atomic_exchange(&member->range, NULL);
    if (range) {
        member_spoil(m, i, "copying", -HFE_GIVEN_UP);
        guard_shut(member->guard);
        range_unlock(&m->ranges, range);
        free(range);
    }
}

static void watch_comparison(struct mirror *m, int64_t now) {
    if (now - atomic_load(&m->compare.held_ms) >= m->store_timeout_ms) {
        (void)compare_let_go(m); /* whoever compares finds that out */
    }
}

/* Is there another store that serves? One that is shut only waits for its loss to be recorded. */
static bool others_serve(const struct mirror *m, unsigned i) {
    for (unsigned k = 0; k < m->count; k++) {
        if (k != i && is_online(m, k) && guard_is_open(m->member[k].guard)) {
            return true;
        }
    }
    return false;
}

/* Did this machine itself stand still since the last look? Its stores had no time to answer then: whoever
 * waits for one waits since now. */
static bool stood_still(struct mirror *m, int64_t now) {
    enum { STILL_MS = 1000 };
    int64_t last = m->watched_ms;

    m->watched_ms = now;
    if (last == 0 || now - last <= STILL_MS) {
        return false;
    }
    for (unsigned i = 0; i < m->count; i++) {
        guard_forgive(m->member[i].guard, now);
        atomic_store(&m->member[i].held_ms, now);
    }
    atomic_store(&m->compare.held_ms, now);
    return true;
}

void mirror_watch(struct mirror *m) {
    static const char *const kinds[GUARD_KINDS] = {"read", "write", "sync"};
    const int64_t limit[GUARD_KINDS] = {m->store_timeout_ms, m->store_timeout_ms,
                                        m->store_timeout_ms * SLOW_FACTOR};
    int64_t now = clock_ms();

    if (stood_still(m, now)) {
        return;
    }
    watch_comparison(m, now);
    for (unsigned i = 0; i < m->count; i++) {
        struct member *member = &m->member[i];
        bool silent = false, waits = false;

        watch_holds(m, i, now);
        if (!guard_is_open(member->guard)) {
            guard_give_up(member->guard); /* a call that began just before it was shut */
            continue;
        }
        for (int k = 0; k < GUARD_KINDS; k++) {
            int64_t ms = guard_silence(member->guard, (enum guard_kind)k, now);

            waits = waits || ms > 0;
            if (ms < limit[k]) {
                continue;
            }
            silent = true;
            if (!is_online(m, i) || others_serve(m, i)) {
                give_up(m, i, kinds[k], ms);
                break;
            }
        }
        atomic_store(&member->silent, silent);
        atomic_store(&member->waits, waits);
    }
}
