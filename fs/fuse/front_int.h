/* Shared by the files of this room. */
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>
#include <pthread.h>

#include "fuse/front.h"

enum {
    CACHE_S = 86400, /* names and attributes in the kernel: nobody but us changes them */
    FLEETING_S = 1,  /* the list of snapshots, which changes without the kernel */
};

/* Where requests come in: /dev/fuse, or one processor's ring queue. */
struct queue {
    struct front *front;
    int cpu; /* -1: /dev/fuse */
    unsigned threads_max, idle_max;
    /* guarded by front.mutex */
    unsigned threads, idle; /* idle: that wait for a request */
    struct ring *ring;      /* of its first thread, until that takes it */
};

enum ringing {
    RINGS_NONE,    /* everything comes through /dev/fuse */
    RINGS_PENDING, /* their threads wait for INIT to be answered */
    RINGS_ON,
    RINGS_OFF, /* it was not: they go */
};

struct front {
    /* constant after front_mount */
    struct front_config config;
    struct fuse_session *session;
    struct vol *vol;
    struct obj *root;
    bool mounted;
    int eager_fd; /* the connection a second time, not blocking; -1: none */
    struct queue device;
    /* constant once INIT was answered */
    struct queue *queues; /* of rings, one for each processor; NULL: none */
    size_t payload_bytes; /* of the largest request or reply, without its head */
    /* atomic */
    _Atomic bool eager_taken;
    _Atomic uint64_t init_unique; /* of the INIT request, until it is answered */
    _Atomic uint64_t init_flags;  /* what it offers */
    _Atomic unsigned ringing;     /* enum ringing */
    /* guarded by mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* of threads, and of ringing */
    unsigned threads;
};

/* A request on its way: what one fiber works with (base/fiber.h). */
struct request {
    struct front *front;
    struct ring *ring; /* where it came from; NULL: reply_fd */
    int reply_fd;
    struct fuse_buf buf; /* with a ring: in its memory */
    char *read_buf;      /* IO_BYTES_MAX, touched as far as needed */
};

extern const struct fuse_lowlevel_ops front_ops;

/* channel.c: after the mount, before the first request */
int channel_open(struct front *front) must_check;
/* The next request. As fuse_session_receive_buf(). */
int channel_receive(struct front *front, struct request *request);

/* loop.c */
int loop_run(struct front *front) must_check;
/* The request that the calling thread works on. */
struct request *loop_request(void);
/* Threads for all ring queues, which wait until loop_start_rings(). After an error there are none. */
int loop_prepare_rings(struct front *front) must_check;
void loop_start_rings(struct front *front, bool go);

/* ring.c. One thread at a time. */
int ring_new(struct queue *queue, size_t payload_bytes, struct ring **ret_ring) must_check;
void ring_free(struct ring *ring); /* accepts NULL */
struct queue *ring_queue(const struct ring *ring);
struct request *ring_request(struct ring *ring);
/* Does the kernel count on it? */
bool ring_is_registered(const struct ring *ring);
/* Sends the reply of the last request and waits for the next one; its length. 0: unmounted. -EAGAIN:
 * call it again. */
int ring_receive(struct ring *ring, struct fuse_buf *buf) must_check;
/* Gives back the memory that the last reply does not need. */
void ring_trim(struct ring *ring);
/* As writev(2); it is sent by the next ring_receive(). */
ssize_t ring_reply(struct ring *ring, const struct iovec *iov, int count);
