/* The gate: every change passes it as reader; a cut takes it alone, for as long as it takes to bump
 * a number. A cut is the instant between two changes of the whole volume: a store leaves the set, a
 * snapshot is taken, a catch-up ends.
 *
 *     gate_enter(gate);  ... one change, on all stores ...  gate_leave(gate);
 *
 *     if (gate_close(gate) == 0) { number++; gate_open(gate); }     never touches a store in
 * between
 *
 * A request belongs to the gate, not its thread, so a stuck one can be finished by another. A cut
 * that does not get the gate in GATE_PATIENCE_MS steps back, lets the queue pass and tries again,
 * so that one stuck request never holds up all others. */
#pragma once

#include "base/rwlock.h"

enum {
    GATE_PATIENCE_MS = 50,
    GATE_REST_MS = 20, /* between two tries */
};

struct gate {
    struct rwlock lock;
};

void gate_init(struct gate *gate);
void gate_release(struct gate *gate);
void gate_enter(struct gate *gate);
void gate_leave(struct gate *gate);
/* Alone inside, or -ETIMEDOUT after timeout_ms in total. */
int gate_close(struct gate *gate, int timeout_ms) must_check;
void gate_open(struct gate *gate);
