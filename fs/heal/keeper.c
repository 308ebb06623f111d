#include "heal/keeper_int.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "heal/verifier.h"

enum {
    RETRY_MS = 2000,      /* a store that left is looked for */
    RETRY_MAX_MS = 60000, /* ... less and less often, if it does not stay */
    STAYED_MS = 60000,    /* a store that stayed so long starts anew with that */
    UNEQUAL_TOLD = 2,     /* comparisons that fail before it is said */
    STOP_PATIENCE_MS = 1000,
};

/* --- probing --- */

/* Does what the probe found mean that the store is lost? Then why; else NULL. */
static const char *verdict(int err, char buf[REASON_BYTES]) {
    switch (err) {
    case 0:
    case -ENODEV:       /* it left meanwhile, */
    case -HFE_GIVEN_UP: /* which the watchdog says */
    case -ENOSPC:
    case -EDQUOT:
        return NULL;
    case -HFE_NO_STORE:
    case -HFE_FOREIGN:
        return "its folder is not the store any more: unmounted or replaced";
    default:
        (void)snprintf(buf, REASON_BYTES, "probe: %s", error_words(err));
        return buf;
    }
}

static void probe(struct keeper *k, bool full) {
    char buf[REASON_BYTES];
    const char *reason;
    int err = mirror_probe(k->m, k->i, full);

    if (err == -HFE_IN_USE) {
        mirror_taken(k->m, k->i);
        return;
    }
    reason = verdict(err, buf);
    if (reason && mirror_lose(k->m, k->i, MEMBER_FAULTED, reason) < 0) {
        return; /* the last one stays: its errors are the answer */
    }
}

bool keeper_stopping(struct keeper *k) {
    bool stop;

    pthread_mutex_lock(&k->mutex);
    stop = k->stop;
    pthread_mutex_unlock(&k->mutex);
    return stop;
}

void keeper_tell_once(struct keeper *k, enum event_level level, const char *text) {
    if (strcmp(text, k->last_told) != 0) {
        (void)snprintf(k->last_told, sizeof(k->last_told), "%s", text);
        event_post(k->events, level, "%s", text);
    }
}

/* --- taking the place of another --- */

static bool stops(void *arg) {
    return keeper_stopping(arg);
}

static void stays(struct keeper *k, const char *label, const char *what, int err) {
    char text[sizeof(k->last_told)];

    (void)snprintf(text, sizeof(text),
                   "store \"%s\" is filled; the one that it replaces stays: %s: %s", label, what,
                   error_words(err));
    keeper_tell_once(k, EVENT_ERROR, text);
}

/* It is ONLINE, and another one is to go for it: not before it was compared with what serves. */
static void replace_old(struct keeper *k, int old) {
    struct mirror_member_info info;
    char reason[REASON_BYTES];
    int64_t differences = k->proven ? 0 : verifier_compare(k->m, k->i, stops, k);
    int err;

    mirror_member_info(k->m, k->i, &info);
    if (differences < 0) {
        if (differences != -HFE_IN_USE && differences != -HFE_MISSING &&
            differences != -ECANCELED) { /* those pass: again at the next probe */
            stays(k, info.label, "it cannot be compared", (int)differences);
        }
        return;
    }
    if (differences > 0) {
        if (++k->unequal == UNEQUAL_TOLD) {
            event_post(
                k->events, EVENT_ERROR,
                "store \"%s\" was filled, and differs from the others in %lld places: the one "
                "that it replaces stays. `holdfast verify %s` says where",
                info.label, (long long)differences, mirror_super(k->m).volume_name);
        }
        return;
    }
    k->proven = true;
    (void)snprintf(reason, sizeof(reason), "\"%s\" replaced it, equal in every byte", info.label);
    err = mirror_remove(k->m, (unsigned)old, reason);
    if (err < 0) {
        stays(k, info.label, "it cannot be removed", err);
        return;
    }
    k->roster_changed(k->arg);
}

/* It was removed: a plain folder again, if its disk can be reached. */
static void give_back(struct keeper *k, const struct mirror_member_info *info) {
    struct super s;
    struct why why;
    int err;

    if (id_equal(&k->given_back, &info->id)) {
        return;
    }
    err = store_identify(info->path, &s, &why);
    if (err < 0 && err != -HFE_NO_STORE && clock_ms() - k->tried_ms < RETRY_MAX_MS) {
        return; /* its disk may be there again in a minute */
    }
    k->tried_ms = clock_ms();
    if (err < 0) {
        k->given_back = err == -HFE_NO_STORE ? info->id : k->given_back;
        return;
    }
    k->given_back = info->id;
    if (!id_equal(&s.store_id, &info->id)) {
        return; /* another one is there already */
    }
    err = store_has_lost(info->path);
    if (err < 0 && err != -ENOENT) {
        event_post(k->events, EVENT_WARNING,
                   "%s was removed; its .holdfast/lost cannot be looked into: %s", info->path,
                   error_words(err));
        return;
    }
    if (err > 0) {
        event_post(
            k->events, EVENT_WARNING,
            "%s was removed; its .holdfast/lost holds files that were put aside: take them out, "
            "and remove .holdfast by hand",
            info->path);
        return;
    }
    if (store_unformat(info->path, &why) < 0) {
        event_post(k->events, EVENT_WARNING, "%s was removed, and is not a plain folder yet: %s",
                   info->path, why.text);
        return;
    }
    event_post(k->events, EVENT_INFO, "%s is a plain folder again", info->path);
}

/* --- the thread --- */

static void step(struct keeper *k, bool woken, bool bring) {
    struct mirror_member_info info;
    int64_t now = clock_ms();

    mirror_member_info(k->m, k->i, &info);
    if (info.state == MEMBER_ONLINE) {
        bool full = now - k->probed_ms >= PROBE_MS;

        if (now - k->online_ms > STAYED_MS) {
            k->retry_ms = RETRY_MS;
        }
        if (full || mirror_waits(k->m, k->i)) {
            int old = full ? mirror_replaces(k->m, k->i) : -1;

            k->probed_ms = full ? now : k->probed_ms;
            probe(k, full);
            if (old >= 0) {
                replace_old(k, old);
            }
        }
        k->tried_ms = clock_ms();
        return;
    }
    if (woken) {
        k->urgent = true; /* also while it cannot be let go yet */
        k->retry_ms = RETRY_MS;
    }
    k->wanted = k->wanted || (bring && info.state == MEMBER_OFFLINE);
    if (!mirror_let_go(k->m, k->i) || info.path[0] == '\0') {
        return;
    }
    if (info.state == MEMBER_REMOVED) {
        give_back(k, &info);
        return;
    }
    if ((info.state == MEMBER_OFFLINE && !k->wanted) ||
        (!k->urgent && now - k->tried_ms < k->retry_ms)) {
        return;
    }
    k->urgent = false;
    k->tried_ms = now;
    bring_back(k, &info);
    if (k->anew) { /* the store is well: it only missed a change */
        k->tried_ms = clock_ms() - k->retry_ms + STEP_MS;
        return;
    }
    k->retry_ms = k->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : k->retry_ms * 2;
    k->tried_ms = clock_ms();
}

static void loop(void *arg);

struct round {
    struct keeper *k;
    bool woken, bring;
};

static void step_fiber(void *arg) {
    struct round *r = arg;

    step(r->k, r->woken, r->bring);
    free(r);
}

static void end(struct keeper *k) {
    pthread_mutex_lock(&k->mutex);
    k->ended = true;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mutex);
}

static void loop(void *arg) {
    struct keeper *k = arg;

    for (;;) {
        struct round *r = calloc(1, sizeof(*r));
        struct timespec until = clock_deadline(STEP_MS);
        bool stop;

        pthread_mutex_lock(&k->mutex);
        if (!k->stop && !k->wake) {
            (void)pthread_cond_timedwait(&k->changed, &k->mutex, &until); /* early is as good */
        }
        stop = k->stop || !r;
        if (r) {
            *r = (struct round){k, k->wake, k->bring};
        }
        k->wake = k->bring = false;
        pthread_mutex_unlock(&k->mutex);
        if (stop) {
            free(r);
            break;
        }
        if (!fiber_run(step_fiber, r, loop, k)) {
            return; /* a probe got stuck in the store; the loop goes on elsewhere */
        }
    }
    end(k);
}

static void *thread_main(void *arg) {
    loop(arg);
    return NULL;
}

int keeper_start(const struct keeper_config *config, unsigned index, struct keeper **ret_keeper) {
    struct keeper *k = calloc(1, sizeof(*k));
    pthread_condattr_t attr;
    pthread_t thread;

    if (!k) {
        return -ENOMEM;
    }
    k->m = config->mirror;
    k->i = index;
    k->events = config->events;
    k->roster_changed = config->roster_changed;
    k->arg = config->arg;
    k->retry_ms = RETRY_MS;
    k->tried_ms = -RETRY_MAX_MS;
    k->probed_ms = k->online_ms = clock_ms();
    pthread_mutex_init(&k->mutex, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&k->changed, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&thread, NULL, thread_main, k) != 0) {
        free(k);
        return -EAGAIN;
    }
    (void)pthread_detach(thread); /* cannot fail for a thread that was just made */
    *ret_keeper = k;
    return 0;
}

bool keeper_stop(struct keeper *k) {
    struct timespec until = clock_deadline(STOP_PATIENCE_MS);
    bool ended;
    int late = 0;

    if (!k) {
        return true;
    }
    pthread_mutex_lock(&k->mutex);
    k->stop = true;
    pthread_cond_broadcast(&k->changed);
    while (!k->ended && late == 0) {
        late = pthread_cond_timedwait(&k->changed, &k->mutex, &until);
    }
    ended = k->ended;
    pthread_mutex_unlock(&k->mutex);
    if (ended) {
        pthread_cond_destroy(&k->changed);
        pthread_mutex_destroy(&k->mutex);
        free(k);
    }
    return ended;
}

void keeper_wake_new(struct keeper *k) {
    struct mirror_member_info info;

    mirror_member_info(k->m, k->i, &info);
    if (info.state == MEMBER_STALE && info.record.left_mount == 0) {
        keeper_look(k);
    }
}

static void wake(struct keeper *k, bool bring) {
    pthread_mutex_lock(&k->mutex);
    k->wake = true;
    k->bring = k->bring || bring;
    pthread_cond_broadcast(&k->changed);
    pthread_mutex_unlock(&k->mutex);
}

void keeper_wake(struct keeper *k) {
    wake(k, true);
}

void keeper_look(struct keeper *k) {
    wake(k, false);
}

void keeper_pause(struct keeper *k, bool on) {
    atomic_store(&k->paused, on);
}

void keeper_limit(struct keeper *k, uint64_t bytes_per_s) {
    atomic_store(&k->pacer.bytes_per_s, bytes_per_s);
}

int keeper_offline(struct keeper *k) {
    return mirror_lose(k->m, k->i, MEMBER_OFFLINE, "taken out by hand");
}
