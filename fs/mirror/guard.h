/* The way from the mirror to one store: a volume that passes everything on, and
 *
 *  * counts the calls that are under way, so that a store that left can be let go when the last one
 *    has returned;
 *  * makes each call so that it can be given up (base/fiber.h): arguments are copied, results are
 *    handed over only to a request that still waits for them. A call that was given up answers
 *    -HFE_GIVEN_UP;
 *  * answers -ENODEV once it is shut, and can be given another store afterwards.
 *
 * guard_silence() and guard_give_up() are for the watchdog (watch.c). */
#pragma once

#include "vol/vol.h"

struct guard;

enum guard_kind {
    GUARD_READ,   /* lookups, reads, attributes */
    GUARD_CHANGE, /* changes that reach no platter */
    GUARD_SLOW,   /* fsync, truncate, fallocate, unlink, copies: they may take long and be well */
    GUARD_KINDS,
};

/* With the store's volume, open, or without one, shut. */
int guard_new(struct vol *below, struct guard **ret_guard) must_check;
/* Ends the store's volume, too. Once nothing is under way. Accepts NULL. */
void guard_free(struct guard *guard);
struct vol *guard_vol(struct guard *guard);
/* The table of the objects that calls speak of. */
void guard_set_objects(struct guard *guard, struct obj_table *objs);
/* Another opening of the store, once nothing is under way. Handles of the one before are not valid
 * any more. */
void guard_open(struct guard *guard, struct vol *below);
/* Takes back guard_shut(). */
void guard_reopen(struct guard *guard);
/* No new calls from now on. */
void guard_shut(struct guard *guard);
bool guard_is_open(const struct guard *guard);
/* A longer use of the store, not through calls: it is not let go meanwhile. False if it is shut. */
bool guard_use(struct guard *guard);
void guard_unuse(struct guard *guard);
/* Calls that have not returned, those that were given up included. */
unsigned guard_calls(const struct guard *guard);
unsigned guard_uses(const struct guard *guard); /* of those calls, longer uses */
/* Closes all files that are open on it. Shut, and nothing under way. */
void guard_close_files(struct guard *guard);
/* Is a file's handle of this opening? */
bool guard_handle_ok(const struct guard *guard, struct vol_handle handle);

/* Any other call on the store: `fn` gets a copy of the `size` bytes at `arg`, and what it leaves
 * there is copied back. -ENODEV if it is shut, -HFE_GIVEN_UP. */
int guard_call(struct guard *guard, enum guard_kind kind, int (*fn)(void *arg), void *arg,
               size_t size) must_check;

/* Since it was made: how many calls returned that are no reads, and how long they took. */
void guard_spent(const struct guard *guard, uint64_t *ret_us, uint64_t *ret_calls);
/* For how long, in ms, calls of this kind have waited while none of its kind (or a slower one) was
 * answered. 0: none waits. Called at every tick, by one thread that runs no fiber. */
int64_t guard_silence(struct guard *guard, enum guard_kind kind, int64_t now_ms);
/* The machine itself stood still: silence counts from now on. The same thread. */
void guard_forgive(struct guard *guard, int64_t now_ms);
/* Gives up all calls on it that wait now. */
void guard_give_up(struct guard *guard);
