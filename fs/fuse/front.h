/* The front: kernel requests in, volume operations out. It knows nothing of replicas.
 *
 *     front_mount -> front_serve (returns when the mount is gone) -> front_close
 *
 * The session loop is our own: threads are started when all are busy, and none is needed to end it.
 */
#pragma once

#include "base/event.h"
#include "vol/vol.h"

struct front_config {
    struct vol *vol; /* the top of the chain */
    struct obj *root;
    struct events *events;
    const char *mount_point;
    const char *options; /* for libfuse and the kernel: "fsname=crm,subtype=holdfast,nosuid,..." */
    bool writeback;      /* let the kernel collect small writes (cache=writeback) */
    bool debug;          /* libfuse prints each request to stderr */
    void (*ready)(void *arg); /* called once, when the kernel has greeted us */
    void *ready_arg;
};

struct front;

/* Mounts. One front per process. */
int front_mount(const struct front_config *config, struct why *why,
                struct front **ret_front) must_check;
/* Serves, by other threads, until the mount is gone. -EAGAIN: there can be none. */
int front_serve(struct front *front) must_check;
/* Asks for the mount to go away; front_serve() returns once nobody uses it. Any thread. `lazy`:
 * detach it now, even if files are open. */
int front_unmount(struct front *front, bool lazy) must_check;
/* Gives up the connection: what is still open gets errors. Any thread. */
void front_abort(struct front *front);
void front_close(struct front *front);
