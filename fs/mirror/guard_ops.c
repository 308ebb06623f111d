/* The operations of a volume, each as one call that can be given up: its arguments are copied into
 * the thread's seat, and its results out of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "mirror/guard_int.h"

static void set_new(struct op *o, const struct vol_new *new) {
    o->new = *new;
    if (new->target) {
        (void)snprintf(o->target, sizeof(o->target), "%s",
                       new->target); /* the kernel's bound is the same */
        o->new.target = o->target;
    }
    if (new->cred) {
        o->cred = *new->cred;
        o->new.cred = &o->cred;
    }
}

/* A handle of an opening before this one. */
static bool is_outdated(const struct guard *g, struct vol_handle h) {
    return vol_have(h) && !guard_handle_ok(g, h);
}

/* A call on open files, or VOL_NO_HANDLE. Once it has begun, the store is not let go: its handles, which
 * are numbers that may be given again, are looked at only then. */
static struct op *begin_files(struct guard *g, enum guard_kind kind, void (*run)(struct blocking *),
                              struct obj *a, struct vol_handle ha, struct obj *b,
                              struct vol_handle hb) {
    struct op *o = guard_begin(g, kind, run, a, b);

    if (!o) {
        return NULL;
    }
    if (is_outdated(g, ha) || is_outdated(g, hb)) {
        atomic_fetch_sub(&g->calls, 1);
        return NULL;
    }
    o->ha = below_of(ha);
    o->hb = below_of(hb);
    return o;
}

static struct op *begin_file(struct guard *g, enum guard_kind kind, void (*run)(struct blocking *),
                             struct obj *obj, struct vol_handle h) {
    return begin_files(g, kind, run, obj, h, NULL, VOL_NO_HANDLE);
}

#define DO(name) static void do_##name(struct blocking *call)
#define OP_AND_VOL                                                                                 \
    struct op *o = (struct op *)call;                                                              \
    struct vol *v = o->v

DO(lookup) {
    OP_AND_VOL;
    o->result = v->ops->lookup(v, o->a, o->name, &o->entry);
}
static int op_lookup(struct vol *v, struct obj *dir, const char *name,
                     struct vol_entry *ret_entry) {
    struct op *o = guard_begin(guard_of(v), GUARD_READ, do_lookup, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, name);
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0) {
        *ret_entry = o->entry;
    }
    return (int)o->result;
}

DO(make) {
    OP_AND_VOL;
    o->result = v->ops->make(v, o->a, o->name, &o->new, o->want ? &o->entry : NULL);
}
static int op_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                   struct vol_entry *ret_entry) {
    struct op *o = guard_begin(guard_of(v), GUARD_CHANGE, do_make, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, name);
    set_new(o, new);
    o->want = ret_entry != NULL;
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0 && ret_entry) {
        *ret_entry = o->entry;
    }
    return (int)o->result;
}

DO(create) {
    OP_AND_VOL;
    o->result =
        v->ops->create(v, o->a, o->name, &o->new, o->flags, o->want ? &o->entry : NULL, &o->handle);
    if (o->result == 0) {
        o->handle = guard_remember(o->g, o->handle);
    }
}
static int op_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                     int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle) {
    struct op *o = guard_begin(guard_of(v), GUARD_CHANGE, do_create, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, name);
    set_new(o, new);
    o->flags = flags;
    o->want = ret_entry != NULL;
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0) {
        *ret_handle = o->handle;
        if (ret_entry) {
            *ret_entry = o->entry;
        }
    }
    return (int)o->result;
}

DO(link) {
    OP_AND_VOL;
    o->result = v->ops->link(v, o->a, o->b, o->name, o->want ? &o->entry : NULL);
}
static int op_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                   struct vol_entry *ret_entry) {
    struct op *o = guard_begin(guard_of(v), GUARD_CHANGE, do_link, obj, dir);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, name);
    o->want = ret_entry != NULL;
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0 && ret_entry) {
        *ret_entry = o->entry;
    }
    return (int)o->result;
}

DO(unlink) {
    OP_AND_VOL;
    o->result = v->ops->unlink(v, o->a, o->name);
}
DO(rmdir) {
    OP_AND_VOL;
    o->result = v->ops->rmdir(v, o->a, o->name);
}
static int remove_name(struct vol *v, enum guard_kind kind, void (*run)(struct blocking *),
                       struct obj *dir, const char *name) {
    struct op *o = guard_begin(guard_of(v), kind, run, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, name);
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}
static int op_unlink(struct vol *v, struct obj *dir, const char *name) {
    return remove_name(v, GUARD_SLOW, do_unlink, dir, name);
}
static int op_rmdir(struct vol *v, struct obj *dir, const char *name) {
    return remove_name(v, GUARD_CHANGE, do_rmdir, dir, name);
}

DO(rename) {
    OP_AND_VOL;
    o->result = v->ops->rename(v, o->a, o->name, o->b, o->name2, o->uflags);
}
static int op_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                     const char *new_name, unsigned flags) {
    struct op *o = guard_begin(guard_of(v), GUARD_CHANGE, do_rename, dir, new_dir);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, name);
    name_copy(o->name2, new_name);
    o->uflags = flags;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(getattr) {
    OP_AND_VOL;
    o->result = v->ops->getattr(v, o->a, o->ha, &o->stat);
}
static int op_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *ret_attr) {
    struct op *o = begin_file(guard_of(v), GUARD_READ, do_getattr, obj, h);

    if (!o) {
        return -ENODEV;
    }
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0) {
        *ret_attr = o->stat;
    }
    return (int)o->result;
}

DO(setattr) {
    OP_AND_VOL;
    o->result = v->ops->setattr(v, o->a, o->ha, &o->attr, o->want ? &o->stat : NULL);
}
static int op_setattr(struct vol *v, struct obj *obj, struct vol_handle h,
                      const struct vol_attr *attr, struct stat *ret_attr) {
    enum guard_kind kind = attr->set & VOL_SET_SIZE ? GUARD_SLOW : GUARD_CHANGE;
    struct op *o = begin_file(guard_of(v), kind, do_setattr, obj, h);

    if (!o) {
        return -ENODEV;
    }
    o->attr = *attr;
    if (attr->cred) {
        o->cred = *attr->cred;
        o->attr.cred = &o->cred;
    }
    o->want = ret_attr != NULL;
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0 && ret_attr) {
        *ret_attr = o->stat;
    }
    return (int)o->result;
}

DO(readlink) {
    OP_AND_VOL;
    o->result = v->ops->readlink(v, o->a, o->target, o->size);
}
static ssize_t op_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct op *o = guard_begin(guard_of(v), GUARD_READ, do_readlink, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->size = size < sizeof(o->target) ? size : sizeof(o->target);
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result > 0) {
        memcpy(buf, o->target, (size_t)o->result);
    }
    return o->result;
}

/* What a call reads into: the reader's own memory if that outlives it, which it need not. */
static ssize_t make_reading(struct op *o, void *buf, size_t size) {
    void *own = size > 0 ? malloc(size) : NULL;

    if (size > 0 && !own) {
        atomic_fetch_sub(&o->g->calls, 1);
        return -ENOMEM;
    }
    o->out = own;
    o->size = size;
    if (guard_make(o) < 0) {
        fiber_orphan(own);
        return -HFE_GIVEN_UP;
    }
    if (o->result > 0 && size > 0) {
        memcpy(buf, own, (size_t)o->result);
    }
    free(own);
    return o->result;
}

DO(getxattr) {
    OP_AND_VOL;
    o->result = v->ops->getxattr(v, o->a, o->name, o->out, o->size);
}
static ssize_t op_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf,
                           size_t size) {
    struct op *o = guard_begin(guard_of(v), GUARD_READ, do_getxattr, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    name_copy(o->name, key);
    return make_reading(o, buf, size);
}

DO(listxattr) {
    OP_AND_VOL;
    o->result = v->ops->listxattr(v, o->a, o->out, o->size);
}
static ssize_t op_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct op *o = guard_begin(guard_of(v), GUARD_READ, do_listxattr, obj, NULL);

    return o ? make_reading(o, buf, size) : -ENODEV;
}

DO(setxattr) {
    OP_AND_VOL;
    o->result = v->ops->setxattr(v, o->a, o->name, o->in, o->size, o->flags, &o->cred);
}
static int op_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value,
                       size_t size, int flags, const struct cred *cred) {
    void *own = malloc(size + 1);
    struct op *o = own ? guard_begin(guard_of(v), GUARD_CHANGE, do_setxattr, obj, NULL) : NULL;
    int err;

    if (!o) {
        free(own);
        return own ? -ENODEV : -ENOMEM;
    }
    memcpy(own, value, size);
    name_copy(o->name, key);
    o->in = own;
    o->size = size;
    o->flags = flags;
    o->cred = *cred;
    err = guard_make(o);
    if (err < 0) {
        fiber_orphan(own);
        return err;
    }
    err = (int)o->result;
    free(own);
    return err;
}

DO(removexattr) {
    OP_AND_VOL;
    o->result = v->ops->removexattr(v, o->a, o->name);
}
static int op_removexattr(struct vol *v, struct obj *obj, const char *key) {
    return remove_name(v, GUARD_CHANGE, do_removexattr, obj, key);
}

DO(open) {
    OP_AND_VOL;
    o->result = v->ops->open(v, o->a, o->flags, &o->cred, &o->handle);
    if (o->result == 0) {
        o->handle = guard_remember(o->g, o->handle);
    }
}
static int op_open_file(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                        struct vol_handle *ret_handle) {
    struct op *o = guard_begin(guard_of(v), GUARD_CHANGE, do_open, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->flags = flags;
    o->cred = *cred;
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0) {
        *ret_handle = o->handle;
    }
    return (int)o->result;
}

DO(close) {
    OP_AND_VOL;
    guard_forget(o->g, o->ha);
    o->result = v->ops->close(v, o->a, o->ha);
}
static int op_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    struct op *o = begin_file(guard_of(v), GUARD_SLOW, do_close, obj, h);

    if (!o) {
        return 0; /* closed with all others when the store is let go */
    }
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(read) {
    OP_AND_VOL;
    o->result = v->ops->read(v, o->a, o->ha, o->out, o->size, o->off);
}
/* Straight into the caller's memory, for speed: after a loss (fiber_losses()) the caller must not
 * use that memory for an answer, and gives it up with fiber_orphan(). */
static ssize_t op_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                       off_t off) {
    struct op *o = begin_file(guard_of(v), GUARD_READ, do_read, obj, h);

    if (!o) {
        return -ENODEV;
    }
    o->out = buf;
    o->size = size;
    o->off = off;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : o->result;
}

DO(write) {
    OP_AND_VOL;
    o->result = v->ops->write(v, o->a, o->ha, o->in, o->size, o->off, &o->cred);
}
static ssize_t op_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                        size_t size, off_t off, const struct cred *cred) {
    struct op *o = begin_file(guard_of(v), GUARD_CHANGE, do_write, obj, h);

    if (!o) {
        return -ENODEV;
    }
    o->in = buf;
    o->size = size;
    o->off = off;
    o->cred = *cred;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : o->result;
}

DO(fsync) {
    OP_AND_VOL;
    o->result = v->ops->fsync(v, o->a, o->ha, o->data_only);
}
static int op_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    struct op *o = begin_file(guard_of(v), GUARD_SLOW, do_fsync, obj, h);

    if (!o) {
        return -ENODEV;
    }
    o->data_only = data_only;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(fallocate) {
    OP_AND_VOL;
    o->result = v->ops->fallocate(v, o->a, o->ha, o->flags, o->off, o->off2, &o->cred);
}
static int op_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                        off_t len, const struct cred *cred) {
    struct op *o = begin_file(guard_of(v), GUARD_SLOW, do_fallocate, obj, h);

    if (!o) {
        return -ENODEV;
    }
    o->flags = mode;
    o->off = off;
    o->off2 = len;
    o->cred = *cred;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(copy) {
    OP_AND_VOL;
    o->result = v->ops->copy(v, o->a, o->ha, o->off, o->b, o->hb, o->off2, o->size, &o->cred);
}
static ssize_t op_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                       struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                       const struct cred *cred) {
    struct op *o = begin_files(guard_of(v), GUARD_SLOW, do_copy, from, hf, to, ht);

    if (!o) {
        return -ENODEV;
    }
    o->off = from_off;
    o->off2 = to_off;
    o->size = len;
    o->cred = *cred;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : o->result;
}

DO(seek) {
    OP_AND_VOL;
    o->result = v->ops->seek(v, o->a, o->ha, o->off, o->flags);
}
static off_t op_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    struct op *o = begin_file(guard_of(v), GUARD_READ, do_seek, obj, h);

    if (!o) {
        return -ENODEV;
    }
    o->off = off;
    o->flags = whence;
    return guard_make(o) < 0 ? -HFE_GIVEN_UP : (off_t)o->result;
}

/* A stream holds its entries in memory and the volume it was opened on: only reading it anew is a
 * call on the store. */
struct stream {
    struct vol *v; /* NULL once a call on it was given up: the stuck thread has the entries */
    struct vol_handle below;
    bool loaded;
};

static int stream_open(struct guard *g, struct obj *dir, struct stream *s) {
    struct vol *v = g->below;
    int err = !guard_is_open(g) ? -ENODEV : v->ops->opendir(v, dir, &s->below);

    if (err == 0) {
        s->v = v;
        s->loaded = false;
    }
    return err;
}

static int op_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle) {
    struct stream *s = calloc(1, sizeof(*s));
    int err = !s ? -ENOMEM : stream_open(guard_of(v), dir, s);

    if (err < 0) {
        free(s);
        return err;
    }
    ret_handle->v = (uint64_t)(uintptr_t)s;
    return 0;
}

DO(load) {
    OP_AND_VOL;
    o->result = v->ops->readdir(v, o->a, o->ha, 0, NULL, NULL);
}
static void load_returned(struct blocking *call) {
    struct op *o = (struct op *)call;

    (void)o->v->ops->closedir(o->v, NULL, o->ha); /* frees memory */
    guard_returned(call);
}
static int stream_load(struct guard *g, struct obj *dir, struct stream *s) {
    struct op *o = guard_begin(g, GUARD_READ, do_load, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->call.returned = load_returned;
    o->ha = s->below;
    if (guard_make(o) < 0) {
        s->v = NULL;
        return -HFE_GIVEN_UP;
    }
    s->loaded = o->result == 0;
    return (int)o->result;
}
static int op_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                      vol_dirent_fn *fill, void *arg) {
    struct guard *g = guard_of(v);
    struct stream *s = (struct stream *)(uintptr_t)h.v;
    int err = s->v ? 0 : pos == 0 ? stream_open(g, dir, s) : -HFE_GIVEN_UP;

    if (err == 0 && (pos == 0 || !s->loaded)) {
        err = stream_load(g, dir, s);
    }
    return err < 0 ? err : s->v->ops->readdir(s->v, dir, s->below, pos, fill, arg);
}
static int op_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
    struct stream *s = (struct stream *)(uintptr_t)h.v;
    int err = s->v ? s->v->ops->closedir(s->v, dir, s->below) : 0;

    (void)v;
    free(s);
    return err;
}

DO(statfs) {
    OP_AND_VOL;
    o->result = v->ops->statfs(v, &o->fs);
}
static int op_statfs(struct vol *v, struct statvfs *ret_stat) {
    struct op *o = guard_begin(guard_of(v), GUARD_READ, do_statfs, NULL, NULL);

    if (!o) {
        return -ENODEV;
    }
    if (guard_make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0) {
        *ret_stat = o->fs;
    }
    return (int)o->result;
}

DO(sync) {
    OP_AND_VOL;
    o->result = v->ops->sync(v);
}
static int op_sync(struct vol *v) {
    struct op *o = guard_begin(guard_of(v), GUARD_SLOW, do_sync, NULL, NULL);

    return !o ? -ENODEV : guard_make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

static void free_vol(struct vol *v) {
    guard_free(guard_of(v));
}

const struct vol_ops guard_ops = {
    .name = "guard",
    .free = free_vol,
    .lookup = op_lookup,
    .make = op_make,
    .create = op_create,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .open = op_open_file,
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
    .statfs = op_statfs,
    .sync = op_sync,
};
