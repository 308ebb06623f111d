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

struct front {
    /* constant after front_mount */
    struct front_config config;
    struct fuse_session *session;
    struct vol *vol;
    struct obj *root;
    bool mounted;
    int eager_fd; /* the connection a second time, not blocking; -1: none */
    /* atomic */
    _Atomic bool eager_taken;
    _Atomic uint64_t init_unique; /* of the INIT request, until it is answered */
    /* guarded by mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    unsigned threads, idle;
};

/* A request on its way: what one fiber works with (base/fiber.h). */
struct request {
    struct front *front;
    struct fuse_buf buf;
    char *read_buf; /* IO_BYTES_MAX, touched as far as needed */
    int reply_fd;   /* where it came from */
};

extern const struct fuse_lowlevel_ops front_ops;

/* channel.c: after the mount, before the first request */
int channel_open(struct front *front) must_check;
/* The next request. As fuse_session_receive_buf(). */
int channel_receive(struct front *front, struct request *request);

/* loop.c */
void loop_run(struct front *front);
