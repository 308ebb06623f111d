#include "base/work.h"

#include <errno.h>
#include <stdbool.h>

#include "base/fiber.h"
#include "base/thread.h"

struct workers {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned threads_max; /* constant after workers_new */
    /* guarded by mutex */
    struct work *first, **last;
    unsigned threads, idle, queued;
    bool stop;
};

static struct work *take_locked(struct workers *w) {
    struct work *work = w->first;

    w->first = work->next;
    if (!w->first) {
        w->last = &w->first;
    }
    w->queued--;
    return work;
}

static void finish(struct join *join) {
    pthread_mutex_lock(&join->mutex);
    if (--join->pending == 0) {
        pthread_cond_signal(&join->done);
    }
    pthread_mutex_unlock(&join->mutex);
}

/* An item, as a fiber: if it gets stuck, it goes on in another thread. */
static void run_item(void *arg) {
    struct work *work = arg;
    struct join *join = work->join; /* the item may be gone once it has run */

    work->run(work);
    finish(join);
}

static void leave_locked(struct workers *w) {
    w->threads--;
    pthread_cond_broadcast(&w->changed);
}

static void serve(void *arg) {
    struct workers *w = arg;

    pthread_mutex_lock(&w->mutex);
    for (;;) {
        struct work *work;

        while (!w->first && !w->stop) {
            w->idle++;
            pthread_cond_wait(&w->changed, &w->mutex);
            w->idle--;
        }
        if (!w->first) {
            break;
        }
        work = take_locked(w);
        pthread_mutex_unlock(&w->mutex);
        if (!fiber_run(run_item, work, serve, w)) {
            return; /* this thread was stuck; another has its place */
        }
        pthread_mutex_lock(&w->mutex);
    }
    leave_locked(w);
    pthread_mutex_unlock(&w->mutex);
}

static void *thread_main(void *arg) {
    serve(arg);
    return NULL;
}

int workers_new(unsigned threads_max, struct workers **ret_workers) {
    struct workers *w = calloc(1, sizeof(*w));

    if (!w) {
        return -ENOMEM;
    }
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->threads_max = threads_max;
    w->last = &w->first;
    *ret_workers = w;
    return 0;
}

void workers_free(struct workers *w) {
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_broadcast(&w->changed);
    while (w->threads > 0) {
        pthread_cond_wait(&w->changed, &w->mutex);
    }
    pthread_mutex_unlock(&w->mutex);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

/* False if there is no thread to wait for: the caller must run the item itself. */
static bool have_thread_locked(struct workers *w) {
    if (w->idle > w->queued || w->threads >= w->threads_max) {
        return true;
    }
    if (thread_start(thread_main, w) < 0) {
        return w->threads > 0;
    }
    w->threads++;
    return true;
}

void work_submit(struct workers *w, struct work *work, work_fn *run, struct join *join) {
    bool queued;

    *work = (struct work){.run = run, .join = join};
    pthread_mutex_lock(&join->mutex);
    join->pending++;
    pthread_mutex_unlock(&join->mutex);
    pthread_mutex_lock(&w->mutex);
    queued = have_thread_locked(w);
    if (queued) {
        *w->last = work;
        w->last = &work->next;
        w->queued++;
        pthread_cond_signal(&w->changed);
    }
    pthread_mutex_unlock(&w->mutex);
    if (!queued) {
        run(work);
        finish(join);
    }
}

void join_init(struct join *join) {
    pthread_mutex_init(&join->mutex, NULL);
    pthread_cond_init(&join->done, NULL);
    join->pending = 0;
}

void join_wait(struct join *join) {
    pthread_mutex_lock(&join->mutex);
    while (join->pending > 0) {
        pthread_cond_wait(&join->done, &join->mutex);
    }
    pthread_mutex_unlock(&join->mutex);
    pthread_cond_destroy(&join->done);
    pthread_mutex_destroy(&join->mutex);
}
