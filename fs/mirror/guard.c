#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "mirror/guard_int.h"

/* --- calls --- */

void guard_returned(struct blocking *call) {
    atomic_fetch_sub(&((struct op *)call)->g->calls, 1);
}

struct op *guard_begin(struct guard *g, enum guard_kind kind, void (*run)(struct blocking *),
                       struct obj *a, struct obj *b) {
    struct op *o;

    atomic_fetch_add(&g->calls, 1);
    if (!atomic_load(&g->open)) {
        atomic_fetch_sub(&g->calls, 1);
        return NULL;
    }
    o = fiber_seat();
    o->call = (struct blocking){.run = run, .returned = guard_returned, .owner = g, .kind = kind};
    o->g = g;
    o->v = g->below;
    o->a = a;
    o->b = b;
    return o;
}

int guard_make(struct op *o) {
    struct guard *g = o->g;
    enum guard_kind kind = (enum guard_kind)o->call.kind;
    struct obj *a = o->a, *b = o->b;
    int64_t since = kind == GUARD_READ ? 0 : clock_us();

    if (fiber_block(&o->call)) {
        if (since > 0) {
            atomic_fetch_add_explicit(&g->spent_us, (uint64_t)(clock_us() - since),
                                      memory_order_relaxed);
        }
        atomic_fetch_add_explicit(&g->answered[kind], 1, memory_order_relaxed);
        atomic_fetch_sub(&g->calls, 1);
        return 0;
    }
    if (a) {
        obj_pin(g->objs, a);
    }
    if (b) {
        obj_pin(g->objs, b);
    }
    return -HFE_GIVEN_UP;
}

static void do_other(struct blocking *call) {
    struct op *o = (struct op *)call;

    o->result = o->fn(o->other);
}
int guard_call(struct guard *g, enum guard_kind kind, int (*fn)(void *), void *arg, size_t size) {
    struct op *o = guard_begin(g, kind, do_other, NULL, NULL);

    if (!o) {
        return -ENODEV;
    }
    assert(size <= sizeof(o->other));
    o->fn = fn;
    memcpy(o->other, arg, size);
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    memcpy(arg, o->other, size);
    return (int)o->result;
}

/* --- files that are open on the store --- */

bool guard_handle_ok(const struct guard *g, struct vol_handle h) {
    return vol_have(h) &&
           h.v >> EPOCH_SHIFT == atomic_load_explicit(&g->epoch, memory_order_relaxed);
}

struct vol_handle guard_remember(struct guard *g, struct vol_handle below) {
    assert(below.v >> EPOCH_SHIFT == 0);
    pthread_mutex_lock(&g->mutex);
    if (g->handles == g->room) {
        unsigned room = g->room ? g->room * 2 : 64;
        struct vol_handle *more = realloc(g->handle, room * sizeof(*more));

        g->handle = more ? more : g->handle;
        g->room = more ? room : g->room;
    }
    if (g->handles < g->room) {
        g->handle[g->handles++] = below;
    }
    pthread_mutex_unlock(&g->mutex);
    return (struct vol_handle){atomic_load(&g->epoch) << EPOCH_SHIFT | below.v};
}

void guard_forget(struct guard *g, struct vol_handle below) {
    pthread_mutex_lock(&g->mutex);
    for (unsigned i = g->handles; i-- > 0;) { /* the newest are closed first */
        if (g->handle[i].v == below.v) {
            g->handle[i] = g->handle[--g->handles];
            break;
        }
    }
    pthread_mutex_unlock(&g->mutex);
}

void guard_close_files(struct guard *g) {
    while (g->handles > 0) {
        struct vol_handle h = g->handle[--g->handles];

        (void)g->below->ops->close(g->below, NULL,
                                   h); /* the store left: what it says counts no more */
    }
}

/* --- the guard itself --- */

int guard_new(struct vol *below, struct guard **ret_guard) {
    struct guard *g = calloc(1, sizeof(*g));

    if (!g) {
        return -ENOMEM;
    }
    g->vol.ops = &guard_ops;
    pthread_mutex_init(&g->mutex, NULL);
    if (below) {
        guard_open(g, below);
    }
    *ret_guard = g;
    return 0;
}

void guard_free(struct guard *g) {
    if (!g) {
        return;
    }
    vol_free(g->below);
    for (unsigned i = 0; i < g->pasts; i++) {
        vol_free(g->past[i]);
    }
    free(g->past);
    free(g->handle);
    pthread_mutex_destroy(&g->mutex);
    free(g);
}

struct vol *guard_vol(struct guard *g) {
    return &g->vol;
}

void guard_set_objects(struct guard *g, struct obj_table *objs) {
    g->objs = objs;
}

void guard_open(struct guard *g, struct vol *below) {
    assert(!g->open); /* who begins a call now counts it, and sees that it is shut */
    if (g->below) {
        struct vol **more = realloc(g->past, (g->pasts + 1) * sizeof(struct vol *));

        if (more) { /* else it stays in memory, which is all that is wanted */
            g->past = more;
            g->past[g->pasts++] = g->below;
        }
    }
    g->below = below;
    atomic_fetch_add(&g->epoch, 1);
    atomic_store(&g->open, true);
}

void guard_reopen(struct guard *g) {
    atomic_store(&g->open, true);
}

void guard_shut(struct guard *g) {
    atomic_store(&g->open, false);
}

bool guard_use(struct guard *g) {
    atomic_fetch_add(&g->calls, 1);
    if (!atomic_load(&g->open)) {
        atomic_fetch_sub(&g->calls, 1);
        return false;
    }
    atomic_fetch_add(&g->uses, 1);
    return true;
}

void guard_unuse(struct guard *g) {
    atomic_fetch_sub(&g->uses, 1);
    atomic_fetch_sub(&g->calls, 1);
}

bool guard_is_open(const struct guard *g) {
    return atomic_load(&g->open);
}

unsigned guard_calls(const struct guard *g) {
    return (unsigned)atomic_load(&g->calls);
}

unsigned guard_uses(const struct guard *g) {
    return (unsigned)atomic_load(&g->uses);
}

void guard_spent(const struct guard *g, uint64_t *ret_us, uint64_t *ret_calls) {
    *ret_us = atomic_load(&g->spent_us);
    *ret_calls = atomic_load(&g->answered[GUARD_CHANGE]) + atomic_load(&g->answered[GUARD_SLOW]);
}

/* --- the watchdog's side --- */

struct oldest {
    const struct guard *g;
    enum guard_kind kind;
    int64_t since_ms;
};

static bool find_oldest(void *arg, const struct blocking *call, int64_t since_ms) {
    struct oldest *o = arg;

    if (call->owner == o->g && call->kind == o->kind &&
        (o->since_ms == 0 || since_ms < o->since_ms)) {
        o->since_ms = since_ms;
    }
    return false;
}

void guard_forgive(struct guard *g, int64_t now_ms) {
    for (int k = 0; k < GUARD_KINDS; k++) {
        g->seen_ms[k] = now_ms;
    }
}

int64_t guard_silence(struct guard *g, enum guard_kind kind, int64_t now_ms) {
    struct oldest o = {.g = g, .kind = kind};
    uint64_t answered = 0;

    fiber_each(find_oldest, &o);
    for (int k = (int)kind; k < GUARD_KINDS; k++) {
        answered += atomic_load(&g->answered[k]);
    }
    if (answered != g->seen[kind] || o.since_ms == 0) {
        g->seen[kind] = answered;
        g->seen_ms[kind] = now_ms;
        return 0;
    }
    return now_ms - (o.since_ms > g->seen_ms[kind] ? o.since_ms : g->seen_ms[kind]);
}

static bool is_of(void *arg, const struct blocking *call, int64_t since_ms) {
    (void)since_ms;
    return call->owner == arg;
}

void guard_give_up(struct guard *g) {
    fiber_each(is_of, g);
}
