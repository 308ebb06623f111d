/* Requests that do not depend on one thread.
 *
 * A system call on a hanging store cannot be taken back, and the thread in it is lost for as long
 * as the store hangs. So a request runs on a stack of its own (a fiber), and only lends its thread
 * for each blocking call: the thread leaves the fiber, makes the call on its own stack, and comes
 * back into it with the result. If the call hangs, another thread takes the fiber and goes on in
 * it, and the call counts as failed; the stuck thread finds that out whenever its call returns, and
 * goes.
 *
 *     thread:    fiber_run(fn, arg, ...)          runs fn(arg) as a fiber
 *     inside:    fiber_block(call)                call->run(call), at most until it is given up
 *     watcher:   fiber_each(look)                 looks at all calls that are under way
 *                fiber_give_up(seat)              the fiber goes on in another thread
 *
 * What a call works with must be its own: fiber_seat() gives the thread's own room for it, which
 * nobody else uses until the call has returned. What it reads from others' memory must stay there:
 * fiber_orphan(). Locks that are held over fiber_block() must belong to the request, not the thread
 * (base/rwlock.h, base/rangelock.h). Outside of a fiber, fiber_block() just makes the call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

enum {
    SEAT_BYTES = 8192
}; /* the largest call: arguments, results, two names, a symlink's target */

/* A blocking call. First member of the caller's own struct, in the seat. */
struct blocking {
    void (*run)(struct blocking *call);
    void (*returned)(struct blocking *call); /* after it was given up, when it came back at last */
    void *owner;                             /* for the watcher: what it is waited for */
    unsigned kind;
};

/* Runs fn(arg). False if the calling thread was lost meanwhile: fn goes on elsewhere, and the
 * caller must go without touching what belongs to it. `then(then_arg)` is run by the thread that
 * took over, when fn has ended there: it takes the lost one's place. */
bool fiber_run(void (*fn)(void *arg), void *arg, void (*then)(void *then_arg),
               void *then_arg) must_check;

/* Runs fn(arg) as a fiber, in a thread of its own. -EAGAIN. */
int fiber_start(void (*fn)(void *arg), void *arg) must_check;

/* This thread's room for the next call, SEAT_BYTES. Not zeroed. */
void *fiber_seat(void);
/* Makes the call, which lies in fiber_seat(). False if it was given up: its results are not there.
 */
bool fiber_block(struct blocking *call) must_check;

/* For the code inside of a call: was it given up meanwhile? Then nothing that others own may be
 * touched any more. */
bool fiber_given_up(void);

/* How many calls of the running fiber were given up so far. */
unsigned fiber_losses(void);
/* A call that was given up in another fiber, on behalf of this one, may still use its memory: what
 * is handed to fiber_orphan() from now on is left to it for good. */
void fiber_keep_memory(void);
/* Did the running fiber begin in another thread? */
bool fiber_moved(void);
/* Memory on the heap that a call that was given up may still read or write: freed when it is over.
 */
void fiber_orphan(void *memory);
/* What fiber_run() was given as `arg`; NULL outside of a fiber. */
void *fiber_arg(void);

/* Calls look() for each call that is under way; true gives it up, if it does not return first. Only
 * from a thread that runs no fiber. `since_ms`: clock_ms() when it began. */
void fiber_each(bool (*look)(void *arg, const struct blocking *call, int64_t since_ms), void *arg);
