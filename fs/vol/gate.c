#include "vol/gate.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>

#include "base/clock.h"

void gate_init(struct gate *gate) {
    rwlock_init(&gate->lock);
}

void gate_release(struct gate *gate) {
    rwlock_release(&gate->lock);
}

void gate_enter(struct gate *gate) {
    rwlock_read(&gate->lock);
}

void gate_leave(struct gate *gate) {
    rwlock_read_done(&gate->lock);
}

int gate_close(struct gate *gate, int timeout_ms) {
    int64_t deadline = clock_ms() + timeout_ms;

    do {
        if (rwlock_try_write(&gate->lock, GATE_PATIENCE_MS)) {
            return 0;
        }
        (void)poll(NULL, 0, GATE_REST_MS); /* whoever waited passes first */
    } while (clock_ms() < deadline);
    return -ETIMEDOUT;
}

void gate_open(struct gate *gate) {
    rwlock_write_done(&gate->lock);
}
