#include "heal/verifier.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "heal/pacer.h"

enum {
    TOLD_MAX = 20, /* differences that are events of their own */
    STOP_PATIENCE_MS = 1000,
};

struct verifier {
    struct mirror *m;
    struct events *events;
    struct verifier_request request; /* constant while it runs */
    _Atomic bool running, stop;
    /* guarded by mutex */
    pthread_mutex_t mutex;
    struct verifier_status status;
    /* owned by its thread */
    struct pacer pacer;
};

/* What one comparison works with. */
struct stores {
    struct mirror *m;
    unsigned index[STORES_MAX];
    struct verify_config c;
};

static int on_hold(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t off,
                   uint64_t len) {
    struct stores *s = arg;

    return mirror_compare_hold(s->m, s->index[0], path, depth, ino, off, len);
}

static int on_hold_names(void *arg) {
    struct stores *s = arg;

    return mirror_compare_hold_names(s->m);
}

static bool on_release(void *arg) {
    struct stores *s = arg;

    return mirror_compare_release(s->m);
}

static void add_store(struct stores *s, unsigned index) {
    struct store *store = mirror_use(s->m, index);

    if (store) {
        s->index[s->c.count] = index;
        s->c.store[s->c.count++] = store;
    }
}

static void put_stores(struct stores *s) {
    for (unsigned k = 0; k < s->c.count; k++) {
        mirror_unuse(s->m, s->index[k]);
    }
    s->c.count = 0;
    mirror_compare_end(s->m);
}

/* All that are ONLINE, the one that serves first; or that one and `only`, or, if `only` serves itself,
 * another one and `only`. -HFE_IN_USE: another comparison runs. -HFE_MISSING: there are no two. */
static int take_stores(struct stores *s, int only) {
    unsigned n = mirror_count(s->m), reader;

    if (!mirror_compare_begin(s->m)) {
        return -HFE_IN_USE;
    }
    s->c.hold = on_hold;
    s->c.hold_names = on_hold_names;
    s->c.release = on_release;
    s->c.arg = s;
    if (mirror_source(s->m, &reader)) {
        mirror_unuse(s->m, reader);
        for (unsigned k = 0; k < n; k++) {
            unsigned i = (reader + k) % n;

            if (only < 0 || (i != (unsigned)only && s->c.count == 0)) {
                add_store(s, i);
            }
        }
        if (only >= 0) {
            add_store(s, (unsigned)only);
        }
    }
    if (s->c.count < 2) {
        put_stores(s);
        return -HFE_MISSING;
    }
    return 0;
}

static bool all_online(const struct stores *s) {
    for (unsigned k = 0; k < s->c.count; k++) {
        if (!mirror_is_online(s->m, s->index[k])) {
            return false;
        }
    }
    return true;
}

/* --- a store against the one that serves --- */

struct pair {
    struct stores s;
    struct pacer pacer;
    bool (*stopped)(void *arg);
    void *arg;
};

static bool pair_stopped(void *arg, const struct verify_stat *stat) {
    struct pair *p = arg;

    (void)stat;
    pacer_rest(&p->pacer, p->s.m);
    return p->stopped(p->arg) || !all_online(&p->s);
}

static void pair_differs(void *arg, const char *path, const char *what, uint32_t wrong) {
    (void)arg;
    (void)path;
    (void)what;
    (void)wrong; /* they are only counted */
}

int64_t verifier_compare(struct mirror *m, unsigned index, bool (*stopped)(void *), void *arg) {
    struct pair p = {
        .s = {.m = m, .c = {.only = "", .percent = 100}}, .stopped = stopped, .arg = arg};
    struct verify_stat stat;
    int err = take_stores(&p.s, (int)index);

    if (err < 0) {
        return err;
    }
    pacer_begin(&p.pacer);
    p.s.c.stopped = pair_stopped;
    p.s.c.differs = pair_differs;
    err = verify_run(&p.s.c, &stat);
    put_stores(&p.s);
    return err < 0 ? err : (int64_t)(stat.differences + stat.busy);
}

/* --- a run --- */

struct run {
    struct stores s;
    struct verifier *v;
    unsigned unknown; /* differences of which nobody can say who is wrong */
    char label[STORES_MAX][LABEL_BYTES];
};

static bool run_stopped(void *arg, const struct verify_stat *stat) {
    struct run *r = arg;
    struct verifier *v = r->v;

    pthread_mutex_lock(&v->mutex);
    v->status.objects = stat->objects;
    v->status.bytes = stat->bytes;
    v->status.differences = stat->differences;
    pthread_mutex_unlock(&v->mutex);
    pacer_rest(&v->pacer, v->m);
    return atomic_load(&v->stop) || !all_online(&r->s);
}

static void run_differs(void *arg, const char *path, const char *what, uint32_t wrong) {
    struct run *r = arg;
    struct verifier *v = r->v;
    char who[2 * LABEL_BYTES] = "nobody can know which copy is right";

    r->unknown += wrong == 0;
    if (v->request.repair) { /* a name that the reader lacked comes back, perhaps */
        mirror_doubt_listings(v->m);
    }
    for (unsigned k = 0; k < r->s.c.count; k++) {
        if (wrong >> k & 1) {
            (void)snprintf(who, sizeof(who), "the copy on store \"%s\" is wrong", r->label[k]);
        }
    }
    if (v->status.differences < TOLD_MAX) {
        event_post(v->events, EVENT_WARNING, "verify: %s: %s: %s", what, who, path);
    }
}

/* A repair lost its hold on the way: the stores that it wrote to are compared as a whole. */
static void cut_off(struct run *r, const struct verify_stat *stat) {
    for (unsigned k = 0; k < r->s.c.count; k++) {
        if (stat->wrong[k] == 0) {
            continue;
        }
        mirror_distrust(r->v->m, r->s.index[k]);
        if (mirror_lose(r->v->m, r->s.index[k], MEMBER_FAULTED,
                        "a repair took too long: it is compared as a whole") < 0) {
            event_post(r->v->events, EVENT_ERROR,
                       "verify: the repair of store \"%s\" was cut off, and it is the last one",
                       r->label[k]);
        }
    }
}

static void finish(struct run *r, int err, const struct verify_stat *stat) {
    struct verifier *v = r->v;
    char text[200];

    if (err < 0) {
        (void)snprintf(text, sizeof(text), "it did not end: %s",
                       err == -ECANCELED ? "stopped, or a store left"
                       : err == -ENOENT  ? "no store has that path"
                                         : error_words(err));
    } else if (stat->differences == 0) {
        int used = snprintf(text, sizeof(text), "no difference in %llu objects",
                            (unsigned long long)stat->objects);

        if (r->s.c.percent < 100) {
            used += snprintf(text + used, sizeof(text) - (size_t)used,
                             "; of their bytes %u %% were compared", r->s.c.percent);
        }
        if (stat->busy > 0) {
            (void)snprintf(text + used, sizeof(text) - (size_t)used,
                           "; %llu changed all the while and were not compared",
                           (unsigned long long)stat->busy);
        }
    } else {
        (void)snprintf(
            text, sizeof(text),
            "%llu differences in %llu objects, %llu repaired; of %u nobody can know which "
            "copy is right",
            (unsigned long long)stat->differences, (unsigned long long)stat->objects,
            (unsigned long long)stat->repaired, r->unknown);
    }
    event_post(v->events,
               err == -ENOENT || (err == 0 && stat->differences == 0) ? EVENT_INFO : EVENT_WARNING,
               "verify: %s", text);
    pthread_mutex_lock(&v->mutex);
    v->status.objects = stat->objects;
    v->status.bytes = stat->bytes;
    v->status.differences = stat->differences;
    v->status.ended_s = clock_real_s();
    v->status.running = false;
    v->status.complete = err == 0;
    (void)snprintf(v->status.result, sizeof(v->status.result), "%s", text);
    pthread_mutex_unlock(&v->mutex);
}

/* In a fiber: a store that hangs while something is looked up holds nobody else up. */
static void run(void *arg) {
    struct verifier *v = arg;
    struct run r = {.s = {.m = v->m}, .v = v};
    struct verify_stat stat = {0};
    int err = take_stores(&r.s, v->request.only);

    if (err == 0) {
        for (unsigned k = 0; k < r.s.c.count; k++) {
            struct mirror_member_info info;

            mirror_member_info(v->m, r.s.index[k], &info);
            memcpy(r.label[k], info.label, sizeof(r.label[k]));
        }
        pacer_begin(&v->pacer);
        r.s.c.repair = v->request.repair;
        r.s.c.only = v->request.path;
        r.s.c.percent = v->request.percent;
        r.s.c.trusted = v->request.only >= 0; /* the first one: it is compared with `only` */
        r.s.c.stopped = run_stopped;
        r.s.c.differs = run_differs;
        err = verify_run(&r.s.c, &stat);
        if (err == -ETIMEDOUT && v->request.repair) {
            cut_off(&r, &stat);
        }
        for (unsigned k = 0; err == 0 && k < r.s.c.count; k++) {
            mirror_count_wrong(v->m, r.s.index[k], stat.wrong[k],
                               !v->request.path[0] && v->request.percent == 100);
        }
        put_stores(&r.s);
    }
    finish(&r, err, &stat);
    atomic_store(&v->running, false);
}

int verifier_begin(struct verifier *v, const struct verifier_request *request) {
    struct stores s = {.m = v->m};
    int err;

    if (atomic_exchange(&v->running, true)) {
        return -HFE_IN_USE;
    }
    err = take_stores(&s, request->only);
    if (err == 0) {
        put_stores(&s);
        v->request = *request;
        atomic_store(&v->stop, false);
        pthread_mutex_lock(&v->mutex);
        v->status = (struct verifier_status){
            .running = true,
            .started_s = clock_real_s(),
            .bytes_total = request->path[0] ? 0 : mirror_used_bytes(v->m) / 100 * request->percent};
        pthread_mutex_unlock(&v->mutex);
        err = fiber_start(run, v);
    }
    if (err < 0) {
        atomic_store(&v->running, false);
        return err;
    }
    return 0;
}

void verifier_cancel(struct verifier *v) {
    atomic_store(&v->stop, true);
}

void verifier_status(struct verifier *v, struct verifier_status *ret_status) {
    pthread_mutex_lock(&v->mutex);
    *ret_status = v->status;
    pthread_mutex_unlock(&v->mutex);
}

int verifier_new(struct mirror *m, struct events *events, struct verifier **ret_verifier) {
    struct verifier *v = calloc(1, sizeof(*v));

    if (!v) {
        return -ENOMEM;
    }
    v->m = m;
    v->events = events;
    pthread_mutex_init(&v->mutex, NULL);
    *ret_verifier = v;
    return 0;
}

bool verifier_free(struct verifier *v) {
    int64_t until = clock_ms() + STOP_PATIENCE_MS;

    if (!v) {
        return true;
    }
    verifier_cancel(v);
    while (atomic_load(&v->running) && clock_ms() < until) {
        (void)poll(NULL, 0, 10);
    }
    if (atomic_load(&v->running)) {
        return false;
    }
    pthread_mutex_destroy(&v->mutex);
    free(v);
    return true;
}
