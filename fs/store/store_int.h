/* Shared by the files of this room. */
#pragma once

#include <errno.h>
#include <pthread.h>

#include "store/side.h"
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
    bool positions_last;
    uint8_t index;
    uint32_t caps;
    struct obj_table *table;
    struct side *side; /* NULL: its filesystem holds all there is */
    /* owned by whoever writes superblocks (the mirror's member lock) */
    struct super super;
    struct dirfds dirs;
    struct store_log {       /* owned by whoever appends (segment.h) */
        int fd;              /* the newest segment; -1: none */
        uint64_t start, end; /* positions of its first frame, and behind its last */
    } log;
};

/* What store_positions_last() says: by its filesystem, which is asked. */
bool stream_positions_last(const struct store *store);

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

/* An object's place: a descriptor and a name in it. */
struct place {
    int fd;
    const char *name;
    struct dir_ref ref;
    struct obj_where where;
};

/* Under the namespace lock. -ENOENT if the object has no name. */
int place_get(struct store *st, struct obj *obj, struct place *ret_place) must_check;
void place_put(struct store *st, struct place *place);

/* What a system call returned, as ours do. */
static inline int result(int r) {
    return r < 0 ? -errno : 0;
}

static inline struct store *store_of(struct vol *v) {
    return (struct store *)v;
}

extern const struct vol_ops store_ops;

/* xattr.c, stream.c: operations of store_ops */
ssize_t store_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf, size_t size);
ssize_t store_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size);
int store_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value, size_t size,
                   int flags, const struct cred *cred);
int store_removexattr(struct vol *v, struct obj *obj, const char *key);
int store_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle);
int store_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                  vol_dirent_fn *fill, void *arg);
int store_closedir(struct vol *v, struct obj *dir, struct vol_handle h);
