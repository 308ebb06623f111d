/* Threads that take requests from the kernel. A request may sleep in a store for long, so whoever
 * takes the last seat starts another thread before it goes to work, up to THREADS_MAX. */
#include <errno.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdlib.h>

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

static void serve(struct front *f) {
    struct fuse_buf buf = {.mem = NULL};
    bool stay = true;

    while (stay && !fuse_session_exited(f->session)) {
        int n = fuse_session_receive_buf(f->session, &buf);
        bool seat;

        if (n == -EINTR || n == -EAGAIN) {
            continue;
        }
        if (n <= 0) {
            break; /* unmounted, or the connection was cut */
        }
        seat = leaves_seat(&buf);
        if (seat) {
            busy(f);
        }
        fuse_session_process_buf(f->session, &buf);
        if (seat) {
            stay = idle_again(f);
        }
    }
    free(buf.mem);
    front_thread_end();
    pthread_mutex_lock(&f->mutex);
    f->idle -= stay;
    f->threads--;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
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
