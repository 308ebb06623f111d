#include "heal/verifier.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
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
    unsigned index[STORES_MAX]; /* [0] serves, and carries the holds */
    struct verify_config c;
};

static int on_hold(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t off,
                   uint64_t len) {
    struct stores *s = arg;

    return mirror_range_hold(s->m, s->index[0], s->index[0], path, depth, ino, off, len);
}

static void on_release(void *arg) {
    struct stores *s = arg;

    mirror_range_release(s->m, s->index[0]);
}

static void add_store(struct stores *s, unsigned index) {
    struct store *store = mirror_use(s->m, index);

    if (store) {
        s->index[s->c.count] = index;
        s->c.store[s->c.count++] = store;
    }
}

/* The store that serves, and `only` or all others. -HFE_MISSING if that is not two. */
static int take_stores(struct stores *s, int only) {
    unsigned reader;

    if (!mirror_source(s->m, &reader)) {
        return -HFE_MISSING;
    }
    mirror_unuse(s->m, reader);
    s->c.hold = on_hold;
    s->c.release = on_release;
    s->c.arg = s;
    add_store(s, reader);
    for (unsigned i = 0; i < mirror_count(s->m); i++) {
        if (i != reader && (only < 0 || i == (unsigned)only)) {
            add_store(s, i);
        }
    }
    if (s->c.count >= 2) {
        return 0;
    }
    for (unsigned k = 0; k < s->c.count; k++) {
        mirror_unuse(s->m, s->index[k]);
    }
    return -HFE_MISSING;
}

static void put_stores(struct stores *s) {
    for (unsigned k = 0; k < s->c.count; k++) {
        mirror_unuse(s->m, s->index[k]);
    }
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
    bool (*stopped)(void *arg);
    void *arg;
};

static bool pair_stopped(void *arg, const struct verify_stat *stat) {
    struct pair *p = arg;

    (void)stat;
    return p->stopped(p->arg) || !all_online(&p->s);
}

static void pair_differs(void *arg, const char *path, const char *what, uint32_t wrong) {
    (void)arg;
    (void)path;
    (void)what;
    (void)wrong; /* they are only counted */
}

int64_t verifier_compare(struct mirror *m, unsigned index, bool (*stopped)(void *), void *arg) {
    struct pair p = {.s = {.m = m}, .stopped = stopped, .arg = arg};
    struct verify_stat stat;
    int err = take_stores(&p.s, (int)index);

    if (err < 0) {
        return err;
    }
    p.s.c.stopped = pair_stopped;
    p.s.c.differs = pair_differs;
    err = verify_run(&p.s.c, &stat);
    put_stores(&p.s);
    return err < 0 ? err : (int64_t)stat.differences;
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
    for (unsigned k = 0; k < r->s.c.count; k++) {
        if (wrong >> k & 1) {
            (void)snprintf(who, sizeof(who), "the copy on store \"%s\" is wrong", r->label[k]);
        }
    }
    if (v->status.differences < TOLD_MAX) {
        event_post(v->events, EVENT_WARNING, "verify: %s: %s: %s", path, what, who);
    }
}

/* Those that are wrong leave, and are compared as a whole. */
static void repair(struct run *r, const struct verify_stat *stat) {
    struct verifier *v = r->v;

    for (unsigned k = 0; k < r->s.c.count; k++) {
        bool named = v->request.only >= 0 && r->s.index[k] == (unsigned)v->request.only;

        if (stat->wrong[k] == 0 && !(named && r->unknown > 0)) {
            continue;
        }
        mirror_distrust(v->m, r->s.index[k]);
        if (mirror_lose(v->m, r->s.index[k], MEMBER_FAULTED,
                        "verify found wrong copies in it: it is being repaired") < 0) {
            event_post(v->events, EVENT_ERROR,
                       "verify: store \"%s\" has wrong copies, and is the last one: it cannot be "
                       "repaired now",
                       r->label[k]);
        }
    }
}

static void finish(struct run *r, int err, const struct verify_stat *stat) {
    struct verifier *v = r->v;
    char text[200];

    if (err < 0) {
        (void)snprintf(text, sizeof(text), "it did not end: %s",
                       err == -ECANCELED ? "stopped, or a store left" : error_words(err));
    } else if (stat->differences == 0) {
        (void)snprintf(text, sizeof(text), "no difference in %llu objects",
                       (unsigned long long)stat->objects);
    } else {
        (void)snprintf(
            text, sizeof(text),
            "%llu differences in %llu objects; of %u nobody can know which copy is right%s",
            (unsigned long long)stat->differences, (unsigned long long)stat->objects, r->unknown,
            v->request.repair ? "" : "; --repair repairs the others");
    }
    event_post(v->events, err == 0 && stat->differences == 0 ? EVENT_INFO : EVENT_WARNING,
               "verify: %s", text);
    pthread_mutex_lock(&v->mutex);
    v->status.objects = stat->objects;
    v->status.bytes = stat->bytes;
    v->status.differences = stat->differences;
    v->status.ended_s = clock_real_s();
    v->status.running = false;
    (void)snprintf(v->status.result, sizeof(v->status.result), "%s", text);
    pthread_mutex_unlock(&v->mutex);
}

static void run(struct verifier *v) {
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
        r.s.c.stopped = run_stopped;
        r.s.c.differs = run_differs;
        err = verify_run(&r.s.c, &stat);
        put_stores(&r.s);
        for (unsigned k = 0; err == 0 && k < r.s.c.count; k++) {
            mirror_count_wrong(v->m, r.s.index[k], stat.wrong[k]);
        }
        if (err == 0 && v->request.repair) {
            repair(&r, &stat);
        }
    }
    finish(&r, err, &stat);
}

static void *thread_main(void *arg) {
    struct verifier *v = arg;

    run(v);
    atomic_store(&v->running, false);
    return NULL;
}

static uint64_t used_bytes(struct mirror *m) {
    struct mirror_status *s = malloc(sizeof(*s));
    uint64_t used = 0;

    if (s) {
        mirror_status(m, s);
        for (unsigned i = 0; i < s->count; i++) {
            if (s->member[i].reads_here && s->member[i].total_bytes > s->member[i].free_bytes) {
                used = s->member[i].total_bytes - s->member[i].free_bytes;
            }
        }
    }
    free(s);
    return used;
}

int verifier_begin(struct verifier *v, const struct verifier_request *request) {
    struct stores s = {.m = v->m};
    pthread_t thread;
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
            .running = true, .started_s = clock_real_s(), .bytes_total = used_bytes(v->m)};
        pthread_mutex_unlock(&v->mutex);
        err = pthread_create(&thread, NULL, thread_main, v) == 0 ? 0 : -EAGAIN;
    }
    if (err < 0) {
        atomic_store(&v->running, false);
        return err;
    }
    (void)pthread_detach(thread); /* cannot fail for a thread that was just made */
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
