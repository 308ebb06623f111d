/* Threads for what should run beside the caller: an fsync of the second store, a large write.
 *
 *     struct join join;
 *     join_init(&join);
 *     for (...) work_submit(pool, &item[i].work, run, &join);
 *     ... do one share in the calling thread ...
 *     join_wait(&join);
 *
 * Items belong to the caller and live until join_wait() returned. Threads are started when all are
 * busy, up to the limit; then items queue. Any thread may submit. */
#pragma once

#include <pthread.h>

#include "base/cleanup.h"

struct work;
typedef void work_fn(struct work *work);

struct join {
    pthread_mutex_t mutex;
    pthread_cond_t done;
    unsigned pending; /* guarded by mutex */
};

struct work {
    struct work *next;
    work_fn *run;
    struct join *join;
};

struct workers;

int workers_new(unsigned threads_max, struct workers **ret_workers) must_check;
/* Waits for what was submitted, then ends the threads. Accepts NULL. */
void workers_free(struct workers *workers);
void work_submit(struct workers *workers, struct work *work, work_fn *run, struct join *join);

void join_init(struct join *join);
/* Waits for all items that were submitted with this join, and releases it. */
void join_wait(struct join *join);
