#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/rangelock.h"
#include "base/rwlock.h"
#include "base/work.h"
#include "vol/gate.h"

struct racer {
    struct rangelock *lock;
    uint64_t from, to;
    _Atomic int *inside;
    _Atomic int *most;
};

static void *race(void *arg) {
    struct racer *r = arg;
    static const char key;

    for (int i = 0; i < 2000; i++) {
        struct range_hold hold;
        int n, most;

        range_lock(r->lock, &hold, &key, r->from, r->to);
        n = atomic_fetch_add(r->inside, 1) + 1;
        most = atomic_load(r->most);
        while (n > most && !atomic_compare_exchange_weak(r->most, &most, n)) {
        }
        atomic_fetch_sub(r->inside, 1);
        range_unlock(r->lock, &hold);
    }
    return NULL;
}

Test(rangelock, overlapping_ranges_are_held_by_one_at_a_time) {
    static struct rangelock lock;
    _Atomic int inside = 0, most = 0;
    struct racer r[4];
    pthread_t t[4];

    rangelock_init(&lock);
    for (uint64_t i = 0; i < 4; i++) {
        r[i] = (struct racer){&lock, i, 10 + i, &inside, &most};
        cr_assert_eq(pthread_create(&t[i], NULL, race, &r[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(t[i], NULL);
    }
    cr_assert_eq(most, 1);
    rangelock_release(&lock);
}

Test(rangelock, neighbours_and_other_keys_do_not_wait) {
    static struct rangelock lock;
    struct range_hold a, b, c;
    char key, other;

    rangelock_init(&lock);
    range_lock(&lock, &a, &key, 0, 10);
    range_lock(&lock, &b, &key, 10, 20);
    range_lock(&lock, &c, &other, 0, 20);
    range_unlock(&lock, &a);
    range_unlock(&lock, &b);
    range_unlock(&lock, &c);
    rangelock_release(&lock);
}

Test(rangelock, two_equal_ranges_are_taken_once) {
    static struct rangelock lock;
    char key;
    struct range_hold two[2] = {{.key = &key, .from = 1, .to = 2},
                                {.key = &key, .from = 1, .to = 2}};

    rangelock_init(&lock);
    range_lock_two(&lock, two);
    range_unlock_two(&lock, two);
    rangelock_release(&lock);
}

Test(rwlock, a_writer_gives_up_and_lets_readers_on) {
    struct rwlock lock;

    rwlock_init(&lock);
    rwlock_read(&lock);
    cr_assert(!rwlock_try_write(&lock, 10));
    rwlock_read(&lock); /* would wait for ever if the writer were still queued */
    rwlock_read_done(&lock);
    rwlock_read_done(&lock);
    cr_assert(rwlock_try_write(&lock, 10));
    rwlock_write_done(&lock);
    rwlock_release(&lock);
}

static void *leave(void *arg) {
    gate_leave(arg);
    return NULL;
}

Test(gate, a_request_may_be_finished_by_another_thread) {
    struct gate gate;
    pthread_t t;

    gate_init(&gate);
    gate_enter(&gate);
    cr_assert_eq(gate_close(&gate, 60), -ETIMEDOUT);
    cr_assert_eq(pthread_create(&t, NULL, leave, &gate), 0);
    pthread_join(t, NULL);
    cr_assert_eq(gate_close(&gate, 60), 0);
    gate_open(&gate);
    gate_release(&gate);
}

struct count {
    struct work work;
    _Atomic int *sum;
};

static void add_one(struct work *work) {
    atomic_fetch_add(((struct count *)work)->sum, 1);
}

Test(workers, every_item_runs_once_and_join_waits_for_all) {
    enum { ITEMS = 100 };
    struct workers *w = NULL;
    struct count item[ITEMS];
    _Atomic int sum = 0;
    struct join join;

    cr_assert_eq(workers_new(3, &w), 0);
    join_init(&join);
    for (int i = 0; i < ITEMS; i++) {
        item[i].sum = &sum;
        work_submit(w, &item[i].work, add_one, &join);
    }
    join_wait(&join);
    cr_assert_eq(sum, ITEMS);
    workers_free(w);
}
