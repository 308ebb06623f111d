/* Shared by the files of this room. */
#pragma once

#include <pthread.h>

#include "store/store.h"

struct dir_slot;

/* Open folders, a bounded number, the least recently used one going first. */
struct dirfds {
    pthread_mutex_t mutex; /* a leaf */
    /* guarded by mutex */
    struct dir_slot **bucket;
    struct dir_slot *newest, *oldest; /* unused ones, by time of last use */
    unsigned buckets, count, max;
};

struct store {
    struct vol vol;
    /* constant after store_attach */
    char path[PATH_BYTES];
    int root, folder, slot_fd[SUPER_SLOTS];
    dev_t dev;
    uint64_t mount_id, root_ino;
    long fs_type;
    uint8_t index;
    uint32_t caps;
    struct obj_table *table;
    /* owned by whoever writes superblocks (the mirror's member lock) */
    struct super super;
    struct dirfds dirs;
};

/* A folder's descriptor for as long as it is held. */
struct dir_ref {
    int fd;
    struct dir_slot *slot; /* NULL for the root */
};

void dirfds_init(struct dirfds *dirs, unsigned max);
void dirfds_release(struct dirfds *dirs);
/* Under the namespace lock. -ENOENT if the folder was removed, -EAGAIN if another one is there. */
int dirfds_get(struct store *store, struct obj *dir, struct dir_ref *ret_ref) must_check;
void dirfds_put(struct store *store, struct dir_ref *ref);
/* The folder was removed: let go of it. */
void dirfds_drop(struct store *store, const struct obj *dir);

extern const struct vol_ops store_ops;
