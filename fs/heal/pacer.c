#include "heal/pacer.h"

#include <poll.h>
#include <stdatomic.h>

#include "base/clock.h"

enum {
    WORK_MIN_MS = 5,
    REST_MAX_MS = 100,
    SECOND_MS = 1000,
};

void pacer_begin(struct pacer *p) {
    p->rested_ms = p->since_ms = clock_ms();
    p->counted_bytes = p->seen_bytes = 0;
}

void pacer_rest(struct pacer *p, struct mirror *m) {
    int64_t worked = clock_ms() - p->rested_ms;
    uint64_t position = mirror_position(m);

    if (worked < WORK_MIN_MS) {
        return;
    }
    if (position != p->position) {
        p->position = position;
        (void)poll(NULL, 0, (int)(worked < REST_MAX_MS ? worked : REST_MAX_MS));
    }
    p->rested_ms = clock_ms();
}

void pacer_count(struct pacer *p, uint64_t bytes) {
    p->counted_bytes += bytes > p->seen_bytes ? bytes - p->seen_bytes : 0;
    p->seen_bytes = bytes;
}

int pacer_due_ms(struct pacer *p) {
    uint64_t limit = atomic_load(&p->bytes_per_s);
    int64_t now = clock_ms(), due;

    due = limit > 0 ? p->since_ms + (int64_t)(p->counted_bytes * SECOND_MS / limit) : now;
    if (due > now) {
        return (int)(due - now < REST_MAX_MS ? due - now : REST_MAX_MS);
    }
    p->since_ms = now; /* what was not used up is not saved */
    p->counted_bytes = 0;
    return 0;
}
