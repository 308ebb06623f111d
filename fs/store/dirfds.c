/* The cache of open folders. An operation is one *at() call on (descriptor of the folder, name), so
 * finding that descriptor is on the path of everything. A folder that is not open is opened from
 * the nearest ancestor that is; the root always is. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/fiber.h"
#include "store/store_int.h"

struct dir_slot {
    struct dir_slot *bucket_next;
    struct dir_slot *newer, *older; /* in the list of unused ones */
    uint64_t obj_id;
    int fd;
    unsigned refs;
    bool dropped; /* no longer in the table; closed at the last put */
};

void dirfds_init(struct dirfds *d, unsigned max) {
    pthread_mutex_init(&d->mutex, NULL);
    d->max = max;
    d->buckets = max;
    d->bucket = calloc(d->buckets, sizeof(struct dir_slot *));
    if (!d->bucket) {
        abort(); /* a few KiB while the daemon starts */
    }
}

void dirfds_release(struct dirfds *d) {
    for (unsigned i = 0; d->bucket && i < d->buckets; i++) {
        for (struct dir_slot *s = d->bucket[i], *next; s; s = next) {
            next = s->bucket_next;
            assert(s->refs == 0);
            (void)close(s->fd); /* O_PATH: nothing was written through it */
            free(s);
        }
    }
    if (d->bucket) {
        free(d->bucket);
        d->bucket = NULL;
        pthread_mutex_destroy(&d->mutex);
    }
}

static struct dir_slot **slot_of_locked(struct dirfds *d, uint64_t obj_id) {
    struct dir_slot **at = &d->bucket[obj_id % d->buckets];

    while (*at && (*at)->obj_id != obj_id) {
        at = &(*at)->bucket_next;
    }
    return at;
}

static void unused_remove_locked(struct dirfds *d, struct dir_slot *s) {
    *(s->newer ? &s->newer->older : &d->newest) = s->older;
    *(s->older ? &s->older->newer : &d->oldest) = s->newer;
    s->newer = s->older = NULL;
}

static void unused_add_locked(struct dirfds *d, struct dir_slot *s) {
    s->older = d->newest;
    s->newer = NULL;
    *(d->newest ? &d->newest->newer : &d->oldest) = s;
    d->newest = s;
}

static void close_slot(struct dir_slot *s) {
    if (s) {
        (void)close(s->fd); /* O_PATH: nothing was written through it */
        free(s);
    }
}

/* Takes an unused slot out of the table; the caller closes it outside of the mutex. */
static struct dir_slot *evict_locked(struct dirfds *d, struct dir_slot *s) {
    if (s) {
        struct dir_slot **at = slot_of_locked(d, s->obj_id);

        unused_remove_locked(d, s);
        *at = s->bucket_next;
        d->count--;
    }
    return s;
}

static bool get_cached(struct store *st, const struct obj *dir, struct dir_ref *ref) {
    struct dirfds *d = &st->dirs;
    struct dir_slot *s;

    if (dir == obj_root(st->table)) {
        *ref = (struct dir_ref){.fd = st->root};
        return true;
    }
    pthread_mutex_lock(&d->mutex);
    s = *slot_of_locked(d, dir->id);
    if (s) {
        if (s->refs++ == 0) {
            unused_remove_locked(d, s);
        }
        *ref = (struct dir_ref){.fd = s->fd, .slot = s};
    }
    pthread_mutex_unlock(&d->mutex);
    return s != NULL;
}

static int insert(struct store *st, const struct obj *dir, int fd, struct dir_ref *ref) {
    struct dirfds *d = &st->dirs;
    struct dir_slot *s = calloc(1, sizeof(*s)), *other, *evicted = NULL;

    if (!s) {
        return -ENOMEM;
    }
    *s = (struct dir_slot){.obj_id = dir->id, .fd = fd, .refs = 1};
    pthread_mutex_lock(&d->mutex);
    other = *slot_of_locked(d, dir->id);
    if (other) { /* another thread was faster */
        if (other->refs++ == 0) {
            unused_remove_locked(d, other);
        }
    } else {
        if (d->count >= d->max) {
            evicted = evict_locked(d, d->oldest);
        }
        s->bucket_next = d->bucket[dir->id % d->buckets];
        d->bucket[dir->id % d->buckets] = s;
        d->count++;
    }
    pthread_mutex_unlock(&d->mutex);
    close_slot(evicted);
    if (other) {
        close_slot(s);
        s = other;
    }
    *ref = (struct dir_ref){.fd = s->fd, .slot = s};
    return 0;
}

static int open_child(struct store *st, int parent_fd, const struct obj *dir, struct dir_ref *ref) {
    scope_fd int fd =
        openat(parent_fd, dir->names->text, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat sb;
    int err;

    if (fd < 0 || fstat(fd, &sb) < 0) {
        return -errno;
    }
    if (fiber_given_up()) {
        return -ECANCELED; /* the locks that keep the names are another's now */
    }
    if (sb.st_dev != st->dev) {
        return -EXDEV; /* another filesystem mounted inside the store is not part of it */
    }
    if (dir->from == st->index && sb.st_ino != dir->store_ino && !(dir->flags & OBJ_STRANGE) &&
        (st->caps & STORE_STABLE_INO)) {
        return -EAGAIN; /* retried, and nobody is blamed */
    }
    err = insert(st, dir, fd, ref);
    if (err == 0) {
        (void)steal_fd(&fd);
    }
    return err;
}

int dirfds_get(struct store *st, struct obj *dir, struct dir_ref *ret_ref) {
    struct dir_ref ref;

    while (!get_cached(st, dir, &ref)) {
        struct obj *missing = dir;
        struct dir_ref below;
        int err;

        while (missing->names && !get_cached(st, missing->names->parent, &ref)) {
            missing = missing->names->parent;
        }
        if (!missing->names) {
            return -ENOENT; /* it, or a folder above it, was removed */
        }
        err = open_child(st, ref.fd, missing, &below);
        dirfds_put(st, &ref);
        if (err < 0) {
            return err;
        }
        if (missing == dir) {
            ref = below;
            break;
        }
        dirfds_put(st, &below); /* now cached; a tiny cache may lose it again and go around */
    }
    *ret_ref = ref;
    return 0;
}

void dirfds_put(struct store *st, struct dir_ref *ref) {
    struct dirfds *d = &st->dirs;
    struct dir_slot *gone = NULL, *s = ref->slot;

    if (!s) {
        return;
    }
    pthread_mutex_lock(&d->mutex);
    assert(s->refs > 0);
    if (--s->refs == 0) {
        if (s->dropped) {
            gone = s;
        } else {
            unused_add_locked(d, s);
            if (d->count > d->max) {
                gone = evict_locked(d, d->oldest);
            }
        }
    }
    pthread_mutex_unlock(&d->mutex);
    close_slot(gone);
}

void dirfds_drop(struct store *st, const struct obj *dir) {
    struct dirfds *d = &st->dirs;
    struct dir_slot **at, *s, *gone = NULL;

    pthread_mutex_lock(&d->mutex);
    at = slot_of_locked(d, dir->id);
    s = *at;
    if (s && s->refs == 0) {
        gone = evict_locked(d, s);
    } else if (s) {
        *at = s->bucket_next;
        s->dropped = true;
        d->count--;
    }
    pthread_mutex_unlock(&d->mutex);
    close_slot(gone);
}

void store_close_folders(struct store *st, uint64_t keep) {
    struct dirfds *d = &st->dirs;
    struct dir_slot *gone;

    do {
        pthread_mutex_lock(&d->mutex);
        gone = d->count > keep ? evict_locked(d, d->oldest) : NULL;
        pthread_mutex_unlock(&d->mutex);
        close_slot(gone);
    } while (gone);
}
