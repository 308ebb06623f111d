/* Changes of attributes and bytes: kept first, then passed on. What reads is passed on, or answered
 * by a view. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>

#include "base/fiber.h"
#include "snap/snap_int.h"

static bool of_view(const struct obj *obj) {
    return (obj->flags & OBJ_VIEW) != 0;
}

/* Is all that a change of these bytes needs kept already? A look without the longer way. */
static bool is_kept(struct snap *s, struct obj *obj, uint64_t from, uint64_t to) {
    uint64_t v = atomic_load_explicit(&obj->above, memory_order_relaxed), a, b;
    uint32_t id = (uint32_t)v;
    struct snap_node *n;
    bool kept = false;

    if (v >> 32 != s->epoch || id == 0) {
        return false;
    }
    if (id == UINT32_MAX) {
        return true;
    }
    pthread_mutex_lock(&s->mutex);
    n = snap_node(s->table, id);
    if (n && n->attr) {
        uint64_t size = (uint64_t)n->attr->st.st_size;

        kept = (s->config.strict ? s->log.synced : s->log.written) >= s->log.needed &&
               !snap_gap(n, from, to < size ? to : size, &a, &b);
    } else {
        kept = n && n->made;
    }
    pthread_mutex_unlock(&s->mutex);
    return kept;
}

int snap_change_enter(struct snap *s) {
    int err;

    gate_enter(&s->gate);
    err = snap_keeps(s) ? s->next->ops->may_change(s->next) : 0;
    if (err < 0) {
        gate_leave(&s->gate);
    }
    return err;
}

/* Before the object changes: its attributes, and the bytes in [from, to). Inside the gate. -HFE_TOO_FEW: it
 * could not be written, and the change must not be done; all else breaks the snapshot. */
static int keep(struct snap *s, struct obj *obj, uint64_t from, uint64_t to) {
    struct place p;
    int err;

    if (!snap_keeps(s) || is_kept(s, obj, from, to)) {
        return 0;
    }
    rwlock_read(&s->names);
    err = place_of(s, obj, &p);
    if (err == 0 && !p.made) {
        err = keep_attr(s, obj, &p);
    }
    rwlock_read_done(&s->names);
    if (err == 0 && p.node && !p.made && from < to) {
        err = keep_bytes(s, obj, p.node, from, to); /* this may take long: names may change */
    }
    err = err < 0 ? err : log_flush(s);
    if (err < 0 && err != -HFE_TOO_FEW) {
        (void)snap_break(s, err, "what a change overwrites could not be kept");
        err = 0;
    }
    return err;
}

/* A change begins, and what it changes is kept: inside the gate. Or what it is answered. */
static int keep_enter(struct snap *s, struct obj *obj, uint64_t from, uint64_t to) {
    int err = snap_change_enter(s);

    if (err == 0) {
        err = keep(s, obj, from, to);
        if (err < 0) {
            gate_leave(&s->gate);
        }
    }
    return err;
}

static int op_setattr(struct vol *v, struct obj *obj, struct vol_handle h,
                      const struct vol_attr *attr, struct stat *ret_attr) {
    struct snap *s = snap_of(v);
    uint64_t seen = atomic_load(&s->linkings);
    int err;

    if (of_view(obj)) {
        return -EROFS;
    }
    err = keep_enter(s, obj, attr->set & VOL_SET_SIZE ? (uint64_t)attr->size : 0,
                     attr->set & VOL_SET_SIZE ? INT64_MAX : 0);
    if (err < 0) {
        return err;
    }
    err = s->next->ops->setattr(s->next, obj, h, attr, ret_attr);
    gate_leave(&s->gate);
    if (err == 0) {
        snap_present(s, obj, ret_attr, seen);
    }
    return err;
}

static int op_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value,
                       size_t size, int flags, const struct cred *cred) {
    struct snap *s = snap_of(v);
    int err;

    if (of_view(obj)) {
        return -EROFS;
    }
    err = keep_enter(s, obj, 0, 0);
    if (err < 0) {
        return err;
    }
    err = s->next->ops->setxattr(s->next, obj, key, value, size, flags, cred);
    gate_leave(&s->gate);
    return err;
}

static int op_removexattr(struct vol *v, struct obj *obj, const char *key) {
    struct snap *s = snap_of(v);
    int err;

    if (of_view(obj)) {
        return -EROFS;
    }
    err = keep_enter(s, obj, 0, 0);
    if (err < 0) {
        return err;
    }
    err = s->next->ops->removexattr(s->next, obj, key);
    gate_leave(&s->gate);
    return err;
}

static int op_open(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                   struct vol_handle *ret_handle) {
    struct snap *s = snap_of(v);
    int err;

    if (of_view(obj)) {
        return view_open(s, obj, flags, ret_handle);
    }
    if (!(flags & O_TRUNC)) {
        return s->next->ops->open(s->next, obj, flags, cred, ret_handle);
    }
    err = keep_enter(s, obj, 0, INT64_MAX);
    if (err < 0) {
        return err;
    }
    err = s->next->ops->open(s->next, obj, flags, cred, ret_handle);
    gate_leave(&s->gate);
    return err;
}

static ssize_t op_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                        size_t size, off_t off, const struct cred *cred) {
    struct snap *s = snap_of(v);
    ssize_t n;

    n = keep_enter(s, obj, (uint64_t)off, (uint64_t)off + size);
    if (n < 0) {
        return n;
    }
    n = s->next->ops->write(s->next, obj, h, buf, size, off, cred);
    gate_leave(&s->gate);
    return n;
}

static int op_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                        off_t len, const struct cred *cred) {
    bool shifts = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
    bool changes = shifts || (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE));
    struct snap *s = snap_of(v);
    int err;

    err = keep_enter(s, obj, changes ? (uint64_t)off : 0,
                     shifts    ? INT64_MAX
                     : changes ? (uint64_t)off + (uint64_t)len
                               : 0);
    if (err < 0) {
        return err;
    }
    err = s->next->ops->fallocate(s->next, obj, h, mode, off, len, cred);
    gate_leave(&s->gate);
    return err;
}

/* From a view: through memory, a piece at a time. */
static ssize_t copy_from_view(struct snap *s, struct obj *from, struct vol_handle hf,
                              off_t from_off, struct obj *to, struct vol_handle ht, off_t to_off,
                              size_t len, const struct cred *cred) {
    size_t n = len < IO_BYTES_MAX ? len : IO_BYTES_MAX;
    uint8_t *buf = NULL;
    unsigned losses;
    ssize_t got;

    do { /* a store that was given up may still write into what was read */
        losses = fiber_losses();
        fiber_orphan(buf);
        buf = malloc(n > 0 ? n : 1);
        got = buf ? view_read(s, from, hf, buf, n, from_off) : -ENOMEM;
    } while (fiber_losses() != losses);
    if (got > 0) {
        got = op_write(&s->vol, to, ht, buf, (size_t)got, to_off, cred);
    }
    fiber_orphan(buf);
    return got;
}

static ssize_t op_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                       struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                       const struct cred *cred) {
    struct snap *s = snap_of(v);
    ssize_t n;

    if (of_view(from)) {
        return copy_from_view(s, from, hf, from_off, to, ht, to_off, len, cred);
    }
    n = keep_enter(s, to, (uint64_t)to_off, (uint64_t)to_off + len);
    if (n < 0) {
        return n;
    }
    n = s->next->ops->copy(s->next, from, hf, from_off, to, ht, to_off, len, cred);
    gate_leave(&s->gate);
    return n;
}

/* What was kept reaches the disks before what overwrote it. */
static int op_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    struct snap *s = snap_of(v);
    int err;

    if (of_view(obj)) {
        return 0;
    }
    err = snap_keeps(s) ? log_sync(s) : 0;
    snap_sync_failed(s, err, "what was kept could not be synced");
    return s->next->ops->fsync(s->next, obj, h, data_only);
}

static int op_sync(struct vol *v) {
    struct snap *s = snap_of(v);
    int err = snap_keeps(s) ? log_sync(s) : 0;

    snap_sync_failed(s, err, "what was kept could not be synced");
    return s->next->ops->sync(s->next);
}

/* --- what reads --- */

static int op_lookup(struct vol *v, struct obj *dir, const char *name,
                     struct vol_entry *ret_entry) {
    struct snap *s = snap_of(v);
    uint64_t seen = atomic_load(&s->linkings);
    int err;

    if (of_view(dir)) {
        return view_lookup(s, dir, name, ret_entry);
    }
    if (dir == s->root && name[0] == '.' && strcmp(name, SNAP_TOP_FOLDER) == 0) {
        return view_top(s, ret_entry);
    }
    err = s->next->ops->lookup(s->next, dir, name, ret_entry);
    if (err == 0) {
        snap_present(s, ret_entry->obj, &ret_entry->attr, seen);
    }
    return err;
}

static void op_forget(struct vol *v, struct obj *obj, uint64_t nlookup) {
    struct snap *s = snap_of(v);

    if (of_view(obj)) {
        view_forget(s, obj, nlookup);
    } else {
        s->next->ops->forget(s->next, obj, nlookup);
    }
}

static int op_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *ret_attr) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_getattr(s, obj, ret_attr) : snap_getattr(s, obj, h, ret_attr);
}

static ssize_t op_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_readlink(s, obj, buf, size)
                        : s->next->ops->readlink(s->next, obj, buf, size);
}

static ssize_t op_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf,
                           size_t size) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_getxattr(s, obj, key, buf, size)
                        : s->next->ops->getxattr(s->next, obj, key, buf, size);
}

static ssize_t op_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_listxattr(s, obj, buf, size)
                        : s->next->ops->listxattr(s->next, obj, buf, size);
}

static int op_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_close(s, obj, h) : s->next->ops->close(s->next, obj, h);
}

static ssize_t op_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                       off_t off) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_read(s, obj, h, buf, size, off)
                        : s->next->ops->read(s->next, obj, h, buf, size, off);
}

static off_t op_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    struct snap *s = snap_of(v);

    return of_view(obj) ? view_seek(s, obj, h, off, whence)
                        : s->next->ops->seek(s->next, obj, h, off, whence);
}

static int op_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle) {
    struct snap *s = snap_of(v);

    return of_view(dir) ? view_opendir(s, dir, ret_handle)
                        : s->next->ops->opendir(s->next, dir, ret_handle);
}

static int op_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                      vol_dirent_fn *fill, void *arg) {
    struct snap *s = snap_of(v);

    return of_view(dir) ? view_readdir(s, dir, h, pos, fill, arg)
                        : s->next->ops->readdir(s->next, dir, h, pos, fill, arg);
}

static int op_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
    struct snap *s = snap_of(v);

    return of_view(dir) ? view_closedir(s, dir, h) : s->next->ops->closedir(s->next, dir, h);
}

static void op_free(struct vol *v) {
    snap_free(snap_of(v));
}

struct vol_ops snap_ops = {
    .name = "snap",
    .free = op_free,
    .lookup = op_lookup,
    .forget = op_forget,
    .make = snap_op_make,
    .create = snap_op_create,
    .link = snap_op_link,
    .unlink = snap_op_unlink,
    .rmdir = snap_op_rmdir,
    .rename = snap_op_rename,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .open = op_open,
    .close = op_close,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .copy = op_copy,
    .seek = op_seek,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .closedir = op_closedir,
    .sync = op_sync,
};
