#include <criterion/criterion.h>
#include <poll.h>
#include <stdatomic.h>

#include "heal/pacer.h"

static struct pacer p;

Test(pacer, without_a_limit_there_is_no_rest) {
    pacer_begin(&p);
    pacer_count(&p, UINT64_C(1) << 40);
    cr_assert_eq(pacer_due_ms(&p), 0);
}

Test(pacer, more_than_the_limit_is_rested_for) {
    atomic_store(&p.bytes_per_s, 1000);
    pacer_begin(&p);
    pacer_count(&p, 0);
    cr_assert_eq(pacer_due_ms(&p), 0);
    pacer_count(&p, 1000000); /* of which 1000 s are due: a tenth of a second at once */
    cr_assert_eq(pacer_due_ms(&p), 100);
    atomic_store(&p.bytes_per_s, 0);
    cr_assert_eq(pacer_due_ms(&p), 0, "the limit was lifted");
}

Test(pacer, a_limit_however_small_lets_something_through) {
    atomic_store(&p.bytes_per_s, 1000);
    pacer_begin(&p);
    pacer_count(&p, 50); /* 50 ms */
    cr_assert_gt(pacer_due_ms(&p), 0);
    while (pacer_due_ms(&p) > 0) {
        (void)poll(NULL, 0, pacer_due_ms(&p));
    }
    pacer_count(&p, 51); /* a byte: what went before is paid for */
    cr_assert_leq(pacer_due_ms(&p), 1);
}
