#include "base/fiber.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "base/thread.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_BYTES = 256 << 10,
    GUARD_BYTES = 4096,
    ORPHANS_MAX = 4, /* of one call: the request's buffer, and what it reads into */
};

enum seat_state {
    SEAT_FREE,    /* no call */
    SEAT_CALLING, /* in a call */
    SEAT_GIVEN_UP /* the fiber went on elsewhere */
};

/* A thread that runs fibers. */
struct seat {
    struct seat *next, **at; /* guarded by `all` */
    /* atomic */
    _Atomic uint64_t state; /* a number for each call, and enum seat_state in the lowest two bits */
    _Atomic int64_t since_ms;
    /* owned by the thread; by who gave it up, from then on until that is done */
    struct fiber *fiber;
    sigjmp_buf base; /* where the thread makes calls */
    /* guarded by `all` */
    void *orphan[ORPHANS_MAX];
    unsigned orphans;
    bool over;     /* the call that was given up has returned */
    unsigned refs; /* the thread, and the fiber that may hand it orphans */
    const void *asan_stack;
    size_t asan_size;
    _Alignas(16) uint8_t room[SEAT_BYTES];
};

struct fiber {
    uint8_t *stack;
    sigjmp_buf resume;
    ucontext_t first;
    bool started, done, moved;
    void (*fn)(void *);
    void *arg;
    void (*then)(void *);
    void *then_arg;
    struct seat *seat; /* that runs it now */
    struct seat *lost; /* the last one that was given up */
    unsigned losses;
};

static pthread_mutex_t all = PTHREAD_MUTEX_INITIALIZER; /* a leaf */
static struct seat *seats;                              /* guarded by all */
static pthread_key_t seat_key;                          /* ends a thread's seat with it */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void seat_put_locked(struct seat *s) {
    if (--s->refs == 0) {
        for (unsigned i = 0; i < s->orphans; i++) {
            free(s->orphan[i]);
        }
        free(s);
    }
}

/* Under `all`. */
static void fiber_free_locked(struct fiber *f) {
    if (f) {
        if (f->lost) {
            seat_put_locked(f->lost);
        }
        (void)munmap(f->stack, STACK_BYTES + GUARD_BYTES);
        free(f);
    }
}

static void seat_end(void *arg) {
    struct seat *s = arg;

    pthread_mutex_lock(&all);
    *s->at = s->next;
    if (s->next) {
        s->next->at = s->at;
    }
    fiber_free_locked(s->fiber);
    seat_put_locked(s);
    pthread_mutex_unlock(&all);
}

static void make_key(void) {
    if (pthread_key_create(&seat_key, seat_end) != 0) {
        abort(); /* once, when the process starts to serve */
    }
}

/* Not inlined: a fiber may wake up in another thread, and must not keep the address of a variable
 * of the one it went to sleep in. */
static __attribute__((noinline)) struct seat *my_seat(void) {
    struct seat *s;

    (void)pthread_once(&once, make_key); /* cannot fail */
    s = pthread_getspecific(seat_key);
    if (!s) {
        s = calloc(1, sizeof(*s));
        if (!s || pthread_setspecific(seat_key, s) != 0) {
            abort(); /* a few KiB, once for each thread */
        }
        s->refs = 1;
        pthread_mutex_lock(&all);
        s->next = seats;
        s->at = &seats;
        if (s->next) {
            s->next->at = &s->next;
        }
        seats = s;
        pthread_mutex_unlock(&all);
    }
    return s;
}

static struct fiber *fiber_new(void) {
    struct fiber *f = calloc(1, sizeof(*f));

    if (!f) {
        return NULL;
    }
    f->stack = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (f->stack == MAP_FAILED || mprotect(f->stack, GUARD_BYTES, PROT_NONE) < 0) {
        free(f);
        return NULL;
    }
    return f;
}

/* The sanitizer must know on which stack we are. */
static void to_fiber(const struct seat *s) {
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(NULL, s->fiber->stack + GUARD_BYTES, STACK_BYTES);
#else
    (void)s;
#endif
}

static void in_fiber(struct seat *s) {
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(NULL, &s->asan_stack, &s->asan_size);
#else
    (void)s;
#endif
}

static void to_thread(const struct seat *s) {
#ifdef WITH_ASAN
    __sanitizer_start_switch_fiber(NULL, s->asan_stack, s->asan_size);
#else
    (void)s;
#endif
}

static void in_thread(void) {
#ifdef WITH_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

static __attribute__((noinline, noreturn)) void leave_fiber(void) {
    struct seat *s = my_seat();

    to_thread(s);
    siglongjmp(s->base, 1);
}

static void fiber_main(void) {
    struct seat *s = my_seat();
    struct fiber *f = s->fiber;

    in_fiber(s);
    for (;;) { /* the stack is used again for the next request */
        f->fn(f->arg);
        f->done = true;
        if (sigsetjmp(f->resume, 0) == 0) {
            leave_fiber();
        }
        in_fiber(my_seat());
    }
}

static __attribute__((noinline, noreturn)) void enter_fiber(struct seat *s) {
    struct fiber *f = s->fiber;

    to_fiber(s);
    if (f->started) {
        siglongjmp(f->resume, 1);
    }
    f->started = true;
    if (getcontext(&f->first) < 0) {
        abort(); /* cannot fail */
    }
    f->first.uc_stack = (stack_t){.ss_sp = f->stack + GUARD_BYTES, .ss_size = STACK_BYTES};
    f->first.uc_link = NULL;
    makecontext(&f->first, fiber_main, 0);
    (void)setcontext(&f->first);
    abort(); /* not reached */
}

static int64_t now_ms(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t); /* cannot fail; a few ms do not matter here */
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct blocking *call_of(struct seat *s) {
    return (struct blocking *)s->room;
}

/* The thread's side: makes the fiber's calls until it has ended. False: lost. */
static bool serve(struct seat *s) {
    for (;;) {
        struct blocking *call = call_of(s);
        uint64_t calling;

        if (sigsetjmp(s->base, 0) == 0) {
            enter_fiber(s);
        }
        in_thread();
        if (s->fiber->done) {
            return true;
        }
        atomic_store(&s->since_ms, now_ms());
        calling = ((atomic_load(&s->state) | 3) + 1) | SEAT_CALLING;
        atomic_store(&s->state, calling);
        call->run(call);
        if (atomic_compare_exchange_strong(&s->state, &calling,
                                           (calling & ~UINT64_C(3)) | SEAT_FREE)) {
            continue;
        }
        s->fiber = NULL; /* another thread has it */
        if (call->returned) {
            call->returned(call);
        }
        pthread_mutex_lock(&all);
        s->over = true;
        pthread_mutex_unlock(&all);
        return false;
    }
}

bool fiber_run(void (*fn)(void *), void *arg, void (*then)(void *), void *then_arg) {
    struct seat *s = my_seat();
    struct fiber *f = s->fiber;

    if (!f) {
        f = s->fiber = fiber_new();
    }
    if (!f) { /* no memory for a stack: then a hanging store holds this request */
        fn(arg);
        return true;
    }
    if (f->lost) { /* of an earlier request */
        pthread_mutex_lock(&all);
        seat_put_locked(f->lost);
        f->lost = NULL;
        pthread_mutex_unlock(&all);
    }
    f->fn = fn;
    f->arg = arg;
    f->then = then;
    f->then_arg = then_arg;
    f->done = false;
    f->seat = s;
    f->losses = 0;
    f->moved = false;
    return serve(s);
}

struct start {
    void (*fn)(void *);
    void *arg;
};

static void *start_main(void *arg) {
    struct start s = *(struct start *)arg;

    free(arg);
    if (!fiber_run(s.fn, s.arg, NULL, NULL)) {
        return NULL; /* this thread is lost to a store, and fn goes on elsewhere */
    }
    return NULL;
}

int fiber_start(void (*fn)(void *), void *arg) {
    struct start *s = malloc(sizeof(*s));

    if (!s) {
        return -EAGAIN;
    }
    *s = (struct start){fn, arg};
    if (thread_start(start_main, s) < 0) {
        free(s);
        return -EAGAIN;
    }
    return 0;
}

void *fiber_seat(void) {
    return my_seat()->room;
}

static __attribute__((noinline)) bool in_a_fiber(struct seat *s) {
    return s->fiber && s->fiber->seat == s && !s->fiber->done;
}

bool fiber_block(struct blocking *call) {
    struct seat *s = my_seat();
    struct fiber *f = s->fiber;

    assert(call == call_of(s));
    if (!in_a_fiber(s)) {
        call->run(call);
        return true;
    }
    if (sigsetjmp(f->resume, 0) == 0) {
        leave_fiber();
    }
    in_fiber(my_seat());
    return f->seat == s; /* the same thread still: it came back with the result */
}

unsigned fiber_losses(void) {
    struct seat *s = my_seat();

    return in_a_fiber(s) ? s->fiber->losses : 0;
}

bool fiber_given_up(void) {
    return (atomic_load(&my_seat()->state) & 3) == SEAT_GIVEN_UP;
}

void fiber_keep_memory(void) {
    struct seat *s = my_seat();

    if (in_a_fiber(s)) {
        s->fiber->losses += 2; /* as if several calls used it */
    }
}

bool fiber_moved(void) {
    struct seat *s = my_seat();

    return in_a_fiber(s) && s->fiber->moved;
}

void *fiber_arg(void) {
    struct seat *s = my_seat();

    return in_a_fiber(s) ? s->fiber->arg : NULL;
}

void fiber_orphan(void *memory) {
    struct fiber *f = my_seat()->fiber;
    struct seat *lost = f ? f->lost : NULL;

    pthread_mutex_lock(&all);
    if (!lost || lost->over || f->losses > 1) {
        if (f && f->losses > 1) {
            memory = NULL; /* several calls may use it: it is left to them */
        }
    } else if (lost->orphans < ORPHANS_MAX) {
        lost->orphan[lost->orphans++] = memory;
        memory = NULL;
    }
    pthread_mutex_unlock(&all);
    free(memory);
}

/* A thread that takes the place of one that is stuck. */
static void *take_over(void *arg) {
    struct fiber *f = arg;
    struct seat *s = my_seat();
    void (*then)(void *) = f->then;
    void *then_arg = f->then_arg;

    s->fiber = f;
    f->seat = s;
    if (serve(s) && then) {
        then(then_arg);
    }
    return NULL;
}

static void give_up(struct seat *s, uint64_t calling) {
    struct fiber *f = s->fiber;

    if (!atomic_compare_exchange_strong(&s->state, &calling,
                                        (calling & ~UINT64_C(3)) | SEAT_GIVEN_UP)) {
        return; /* it has just come back */
    }
    if (f->lost) {
        seat_put_locked(f->lost);
    }
    f->lost = s;
    f->losses++;
    f->moved = true;
    s->refs++; /* kept with the fiber, which lives on in another thread */
    if (thread_start(take_over, f) < 0) {
        abort(); /* no thread to go on with: as if the machine were out of memory */
    }
}

void fiber_each(bool (*look)(void *, const struct blocking *, int64_t), void *arg) {
    pthread_mutex_lock(&all);
    for (struct seat *s = seats; s; s = s->next) {
        uint64_t state = atomic_load(&s->state);

        if ((state & 3) == SEAT_CALLING && look(arg, call_of(s), atomic_load(&s->since_ms))) {
            give_up(s, state);
        }
    }
    pthread_mutex_unlock(&all);
}
