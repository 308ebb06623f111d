/* Threads that take requests from the kernel. A request may sleep in a store for long, so whoever
 * takes the last seat at a queue starts another thread before it goes to work. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/fiber.h"
#include "base/io.h"
#include "base/limits.h"
#include "base/thread.h"
#include "fuse/front_int.h"

static void *thread_main(void *arg);

static _Thread_local struct request *serving; /* without memory for a fiber it runs here */

struct request *loop_request(void) {
    struct request *r = fiber_arg();

    return r ? r : serving;
}

static int start_thread_locked(struct queue *q) {
    int err = thread_start(thread_main, q);

    if (err < 0) {
        return err;
    }
    q->front->threads++;
    q->threads++;
    q->idle++;
    return 0;
}

/* A request came in. Forgetting takes no time: nobody needs to stand in for it. */
static bool leaves_seat(const struct fuse_buf *buf) {
    const struct fuse_in_header *head = buf->mem;

    return head->opcode != FUSE_FORGET && head->opcode != FUSE_BATCH_FORGET;
}

static void busy(struct queue *q) {
    pthread_mutex_lock(&q->front->mutex);
    if (--q->idle == 0 && q->threads < q->threads_max) {
        (void)start_thread_locked(q); /* else requests wait until this one is done */
    }
    pthread_mutex_unlock(&q->front->mutex);
}

/* False: there are enough idle ones. Those of rings stay, but need no memory. */
static bool idle_again(struct queue *q) {
    bool needed;

    pthread_mutex_lock(&q->front->mutex);
    needed = q->idle < q->idle_max;
    q->idle += needed || q->cpu >= 0;
    pthread_mutex_unlock(&q->front->mutex);
    return needed;
}

static void leave(struct queue *q, bool idle) {
    pthread_mutex_lock(&q->front->mutex);
    q->idle -= idle;
    q->threads--;
    q->front->threads--;
    pthread_cond_broadcast(&q->front->changed);
    pthread_mutex_unlock(&q->front->mutex);
}

/* A write that was given up may still read what it came with. */
static void request_free(struct request *r) {
    fiber_orphan(r->buf.mem);
    fiber_orphan(r->read_buf);
    free(r);
}

/* One request, as a fiber: if it gets stuck in a store, it goes on in another thread. */
static void process(void *arg) {
    struct request *r = arg;

    fuse_session_process_buf(r->front->session, &r->buf);
    if (r->ring) {
        return; /* it goes on with the ring */
    }
    if (fiber_moved()) { /* what it worked with belongs to the stuck thread, too */
        request_free(r);
    } else if (fiber_losses() > 0) { /* a helper of it is stuck */
        fiber_orphan(r->buf.mem);
        r->buf = (struct fuse_buf){.mem = NULL};
    }
}

static void serve(struct queue *q, struct ring *ring);

/* A thread that finished a request for one that is stuck takes its seat. */
static void take_seat(void *arg) {
    struct queue *q = arg;

    if (idle_again(q)) {
        serve(q, NULL);
    } else {
        leave(q, false);
    }
}

static void take_ring(void *arg) {
    struct ring *ring = arg;

    (void)idle_again(ring_queue(ring));
    serve(ring_queue(ring), ring);
}

/* One that the kernel counts on would never be answered; so the daemon ends as if it had been killed. */
static void ring_broke(struct front *f, const struct ring *ring, int err) {
    bool fatal = ring_is_registered(ring);

    event_post(f->config.events, fatal ? EVENT_ERROR : EVENT_WARNING,
               "requests over io_uring %s: %s%s",
               fatal ? "fail" : "cannot be received by one more thread", error_words(err),
               fatal ? ". The daemon ends; mount the volume again, without io_uring: echo N "
                       ">/sys/module/fuse/parameters/enable_uring"
                     : "");
    if (fatal) {
        abort();
    }
}

static void trim(struct request *r) {
    free(r->read_buf);
    r->read_buf = NULL;
    if (r->ring) {
        ring_trim(r->ring);
    }
}

static void serve(struct queue *q, struct ring *ring) {
    struct front *f = q->front;
    struct request *r = ring ? ring_request(ring) : calloc(1, sizeof(*r));
    bool stay = true;

    if (ring) {
        thread_bind(q->cpu); /* the kernel gives a processor's requests to its queue */
    }
    while (r && stay && !fuse_session_exited(f->session)) {
        int n;
        bool seat;

        r->front = f;
        n = channel_receive(f, r);
        if (n == -EINTR || n == -EAGAIN) {
            continue;
        }
        if (n < 0 && ring && !fuse_session_exited(f->session)) {
            ring_broke(f, ring, n);
        }
        if (n <= 0) {
            break; /* unmounted, or the connection was cut */
        }
        seat = leaves_seat(&r->buf);
        if (seat) {
            busy(q);
        }
        serving = r;
        if (!(ring ? fiber_run(process, r, take_ring, ring)
                   : fiber_run(process, r, take_seat, q))) {
            return; /* this thread was stuck; the request, and its seat, are another's */
        }
        if (seat && !idle_again(q)) {
            stay = ring != NULL;
            trim(r);
        }
    }
    if (ring) {
        ring_free(ring);
    } else if (r) {
        request_free(r);
    }
    leave(q, stay);
}

static bool wait_for_start(struct front *f) {
    pthread_mutex_lock(&f->mutex);
    while (atomic_load(&f->ringing) == RINGS_PENDING) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
    return atomic_load(&f->ringing) == RINGS_ON;
}

static void *ring_main(struct queue *q) {
    struct ring *ring = NULL;

    pthread_mutex_lock(&q->front->mutex);
    ring = q->ring;
    q->ring = NULL;
    pthread_mutex_unlock(&q->front->mutex);
    if (wait_for_start(q->front) && (ring || ring_new(q, q->front->payload_bytes, &ring) == 0)) {
        serve(q, ring);
    } else { /* requests wait for the others */
        ring_free(ring);
        leave(q, true);
    }
    return NULL;
}

static void *thread_main(void *arg) {
    struct queue *q = arg;

    if (q->cpu >= 0) {
        return ring_main(q);
    }
    serve(q, NULL);
    return NULL;
}

/* How many processors there could be: the kernel waits for all their queues. "0-3", or "0". */
static int count_processors(void) {
    scope_free char *text = NULL;
    int err = io_read_text(AT_FDCWD, "/sys/devices/system/cpu/possible", &text);
    const char *dash;
    long last;

    if (err < 0) {
        return err;
    }
    dash = strchr(text, '-');
    last = strtol(dash ? dash + 1 : text, NULL, 10);
    return last < 0 || last >= QUEUES_MAX || strchr(text, ',') ? -E2BIG : (int)last + 1;
}

static unsigned share(unsigned of, unsigned count, unsigned least) {
    return of / count < least ? least : of / count;
}

int loop_prepare_rings(struct front *f) {
    int count = count_processors(), err = count < 0 ? count : 0;

    if (err == 0) {
        f->queues = calloc((size_t)count, sizeof(*f->queues));
        err = f->queues ? 0 : -ENOMEM;
    }
    atomic_store(&f->ringing, RINGS_PENDING);
    for (int i = 0; i < count && err == 0; i++) {
        struct queue *q = &f->queues[i];

        *q = (struct queue){.front = f,
                            .cpu = i,
                            .threads_max = share(THREADS_MAX, (unsigned)count, QUEUE_THREADS_MIN),
                            .idle_max = share(THREADS_IDLE_MAX, (unsigned)count, 1)};
        err = ring_new(q, f->payload_bytes, &q->ring);
        if (err == 0) {
            pthread_mutex_lock(&f->mutex);
            err = start_thread_locked(q);
            pthread_mutex_unlock(&f->mutex);
            if (err < 0) {
                ring_free(q->ring);
            }
        }
    }
    if (err < 0) {
        loop_start_rings(f, false);
    }
    return err;
}

void loop_start_rings(struct front *f, bool go) {
    bool on = false;

    pthread_mutex_lock(&f->mutex);
    if (atomic_load(&f->ringing) == RINGS_PENDING) {
        atomic_store(&f->ringing, go ? RINGS_ON : RINGS_OFF);
        pthread_cond_broadcast(&f->changed);
        on = go;
    }
    pthread_mutex_unlock(&f->mutex);
    if (on) {
        event_post(f->config.events, EVENT_INFO, "requests come in over io_uring");
    }
}

int loop_run(struct front *f) {
    int err;

    f->device = (struct queue){
        .front = f, .cpu = -1, .threads_max = THREADS_MAX, .idle_max = THREADS_IDLE_MAX};
    pthread_mutex_lock(&f->mutex);
    err = start_thread_locked(
        &f->device); /* this one must not get stuck in a store: it ends the volume */
    if (err < 0) {
        fuse_session_exit(f->session);
    }
    pthread_mutex_unlock(&f->mutex);
    if (err < 0) {
        loop_start_rings(f, false); /* else theirs wait for ever */
    }
    pthread_mutex_lock(&f->mutex);
    while (f->threads > 0) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
    return err;
}
