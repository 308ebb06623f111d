/* Threads that take requests from the kernel. A request may sleep in a store for long, so whoever
 * takes the last seat at a queue starts another thread before it goes to work, up to THREADS_MAX. */
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/sysinfo.h>

#include "base/error.h"
#include "base/fiber.h"
#include "base/limits.h"
#include "fuse/front_int.h"

static void *thread_main(void *arg);

static int start_thread_locked(struct queue *q) {
    pthread_t thread;

    if (pthread_create(&thread, NULL, thread_main, q) != 0) {
        return -EAGAIN;
    }
    (void)pthread_detach(thread); /* cannot fail for a thread that was just made */
    q->front->threads++;
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
    if (--q->idle == 0 && q->front->threads < THREADS_MAX) {
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
    q->front->threads--;
    pthread_cond_broadcast(&q->front->changed);
    pthread_mutex_unlock(&q->front->mutex);
}

/* A write that was given up may still read what it came with. */
static void leave_memory(struct request *r) {
    if (r->ring) {
        ring_lend(r->ring);
    } else {
        fiber_orphan(r->buf.mem);
        r->buf = (struct fuse_buf){.mem = NULL};
    }
}

static void request_free(struct request *r) {
    if (!r->ring) {
        free(r->buf.mem);
    }
    fiber_orphan(r->read_buf);
    free(r);
}

/* One request, as a fiber: if it gets stuck in a store, it goes on in another thread. */
static void process(void *arg) {
    struct request *r = arg;

    fuse_session_process_buf(r->front->session, &r->buf);
    if (fiber_losses() > 0) { /* of this thread, or of a helper */
        leave_memory(r);
    }
    if (fiber_moved()) { /* the thread that it began in does not come back to it */
        request_free(r);
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

/* The kernel gives a processor's requests to its queue. */
static void sit_on(int cpu) {
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    (void)sched_setaffinity(0, sizeof(set), &set); /* elsewhere it is only slower */
}

/* Nobody else would serve what comes to that queue. */
static void ring_broke(struct front *f, int err) {
    event_post(f->config.events, EVENT_ERROR,
               "FUSE over io_uring does not work here (%s), the mount is given up: "
               "echo N >/sys/module/fuse/parameters/enable_uring, and mount again",
               error_words(err));
    front_abort(f);
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
    struct request *r = calloc(1, sizeof(*r));
    bool stay = true;

    if (ring) {
        sit_on(q->cpu);
    }
    while (r && stay && !fuse_session_exited(f->session)) {
        int n;
        bool seat;

        r->front = f;
        r->ring = ring;
        n = channel_receive(f, r);
        if (n == -EINTR || n == -EAGAIN) {
            continue;
        }
        if (n < 0 && ring) {
            ring_broke(f, n);
        }
        if (n <= 0) {
            break; /* unmounted, or the connection was cut */
        }
        seat = leaves_seat(&r->buf);
        if (seat) {
            busy(q);
        }
        if (!(ring ? fiber_run(process, r, take_ring, ring)
                   : fiber_run(process, r, take_seat, q))) {
            return; /* this thread was stuck; the request, and its seat, are another's */
        }
        if (seat && !idle_again(q)) {
            stay = ring != NULL;
            trim(r);
        }
    }
    if (r) {
        request_free(r);
    }
    ring_free(ring);
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

int loop_prepare_rings(struct front *f) {
    int count = get_nprocs_conf(), err = count > THREADS_MAX ? -E2BIG : 0;

    f->queues = calloc((size_t)count, sizeof(*f->queues));
    err = f->queues ? err : -ENOMEM;
    atomic_store(&f->ringing, RINGS_PENDING);
    for (int i = 0; i < count && err == 0; i++) {
        struct queue *q = &f->queues[i];

        *q = (struct queue){
            .front = f, .cpu = i, .idle_max = (unsigned)((THREADS_IDLE_MAX + count - 1) / count)};
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

void loop_run(struct front *f) {
    f->device = (struct queue){.front = f, .cpu = -1, .idle_max = THREADS_IDLE_MAX};
    pthread_mutex_lock(&f->mutex);
    f->threads++; /* this one */
    f->device.idle++;
    pthread_mutex_unlock(&f->mutex);
    serve(&f->device, NULL);
    pthread_mutex_lock(&f->mutex);
    while (f->threads > 0) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    pthread_mutex_unlock(&f->mutex);
}
