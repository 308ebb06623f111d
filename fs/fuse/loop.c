/* Threads that take requests from the kernel. A request may sleep in a store for long, so whoever
 * takes the last seat starts another thread before it goes to work, up to THREADS_MAX. */
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/fiber.h"
#include "base/limits.h"
#include "fuse/front_int.h"

static void *thread_main(void *arg);

static void start_thread_locked(struct front *f) {
    pthread_t thread;

    if (f->threads < THREADS_MAX && pthread_create(&thread, NULL, thread_main, f) == 0) {
        (void)pthread_detach(thread); /* cannot fail for a thread that was just made */
        f->threads++;
        f->idle++;
    }
}

/* A request came in. Forgetting takes no time: nobody needs to stand in for it. */
static bool leaves_seat(const struct fuse_buf *buf) {
    const struct fuse_in_header *head = buf->mem;

    return head->opcode != FUSE_FORGET && head->opcode != FUSE_BATCH_FORGET;
}

static void busy(struct front *f) {
    pthread_mutex_lock(&f->mutex);
    if (--f->idle == 0) {
        start_thread_locked(f);
    }
    pthread_mutex_unlock(&f->mutex);
}

/* False: there are enough idle ones. */
static bool idle_again(struct front *f) {
    bool stay;

    pthread_mutex_lock(&f->mutex);
    stay = f->idle < THREADS_IDLE_MAX;
    f->idle += stay;
    pthread_mutex_unlock(&f->mutex);
    return stay;
}

static void leave(struct front *f, bool idle) {
    pthread_mutex_lock(&f->mutex);
    f->idle -= idle;
    f->threads--;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
}

static void request_free(struct request *r) {
    fiber_orphan(r->buf.mem); /* a write that was given up may still read it */
    fiber_orphan(r->read_buf);
    free(r);
}

/* One request, as a fiber: if it gets stuck in a store, it goes on in another thread. */
static void process(void *arg) {
    struct request *r = arg;

    fuse_session_process_buf(r->front->session, &r->buf);
    if (fiber_moved()) { /* what it worked with belongs to the stuck thread, too */
        request_free(r);
    } else if (fiber_losses() > 0) { /* a helper of it is stuck */
        fiber_orphan(r->buf.mem);
        r->buf = (struct fuse_buf){.mem = NULL};
    }
}

static void serve(struct front *f);

/* A thread that finished a request for one that is stuck takes its seat. */
static void take_seat(void *arg) {
    struct front *f = arg;

    if (idle_again(f)) {
        serve(f);
    } else {
        leave(f, false);
    }
}

static void serve(struct front *f) {
    struct request *r = calloc(1, sizeof(*r));
    bool stay = true;

    while (r && stay && !fuse_session_exited(f->session)) {
        int n;
        bool seat;

        r->front = f;
        n = channel_receive(f, r);
        if (n == -EINTR || n == -EAGAIN) {
            continue;
        }
        if (n <= 0) {
            break; /* unmounted, or the connection was cut */
        }
        seat = leaves_seat(&r->buf);
        if (seat) {
            busy(f);
        }
        if (!fiber_run(process, r, take_seat, f)) {
            return; /* this thread was stuck; the request, and its seat, are another's */
        }
        if (seat) {
            stay = idle_again(f);
        }
    }
    if (r) {
        request_free(r);
    }
    leave(f, stay);
}

static void *thread_main(void *arg) {
    serve(arg);
    return NULL;
}

void loop_run(struct front *f) {
    pthread_mutex_lock(&f->mutex);
    f->threads++; /* this one */
    f->idle++;
    pthread_mutex_unlock(&f->mutex);
    serve(f);
    pthread_mutex_lock(&f->mutex);
    while (f->threads > 0) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
}
