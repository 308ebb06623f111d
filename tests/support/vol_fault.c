#include "vol_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>

struct fault {
    struct vol vol;
    struct fault_plan plan;
    _Atomic unsigned calls, hits;
};

static struct fault *fault_of(struct vol *v) {
    return (struct fault *)v;
}

static bool changes(enum fault_op op) {
    switch (op) {
    case FAULT_MAKE:
    case FAULT_CREATE:
    case FAULT_LINK:
    case FAULT_UNLINK:
    case FAULT_RMDIR:
    case FAULT_RENAME:
    case FAULT_SETATTR:
    case FAULT_SETXATTR:
    case FAULT_REMOVEXATTR:
    case FAULT_WRITE:
    case FAULT_FALLOCATE:
    case FAULT_COPY:
        return true;
    default:
        return false;
    }
}

/* The error this call should give, or 0. */
static int due(struct vol *v, enum fault_op op) {
    struct fault *f = fault_of(v);
    unsigned call;

    if (f->plan.op != op && f->plan.op != FAULT_ALL &&
        (f->plan.op != FAULT_CHANGES || !changes(op))) {
        return 0;
    }
    call = atomic_fetch_add(&f->calls, 1);
    if (call < f->plan.after || (f->plan.times > 0 && call >= f->plan.after + f->plan.times)) {
        return 0;
    }
    if (f->hits++ == 0 && f->plan.at) {
        f->plan.at();
    }
    return f->plan.err;
}

#define MAYBE_FAIL(op)                                                                             \
    do {                                                                                           \
        int fault_err = due(v, op);                                                                \
        if (fault_err < 0) {                                                                       \
            return fault_err;                                                                      \
        }                                                                                          \
    } while (0)
#define NEXT(op, ...) v->next->ops->op(v->next, __VA_ARGS__)

static int f_lookup(struct vol *v, struct obj *dir, const char *name, struct vol_entry *e) {
    MAYBE_FAIL(FAULT_LOOKUP);
    return NEXT(lookup, dir, name, e);
}
static int f_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                  struct vol_entry *e) {
    MAYBE_FAIL(FAULT_MAKE);
    return NEXT(make, dir, name, new, e);
}
static int f_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                    int flags, struct vol_entry *e, struct vol_handle *h) {
    MAYBE_FAIL(FAULT_CREATE);
    return NEXT(create, dir, name, new, flags, e, h);
}
static int f_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                  struct vol_entry *e) {
    MAYBE_FAIL(FAULT_LINK);
    return NEXT(link, obj, dir, name, e);
}
static int f_unlink(struct vol *v, struct obj *dir, const char *name) {
    MAYBE_FAIL(FAULT_UNLINK);
    return NEXT(unlink, dir, name);
}
static int f_rmdir(struct vol *v, struct obj *dir, const char *name) {
    MAYBE_FAIL(FAULT_RMDIR);
    return NEXT(rmdir, dir, name);
}
static int f_rename(struct vol *v, struct obj *dir, const char *name, struct obj *nd,
                    const char *nn, unsigned flags) {
    MAYBE_FAIL(FAULT_RENAME);
    return NEXT(rename, dir, name, nd, nn, flags);
}
static int f_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *st) {
    MAYBE_FAIL(FAULT_GETATTR);
    return NEXT(getattr, obj, h, st);
}
static int f_setattr(struct vol *v, struct obj *obj, struct vol_handle h, const struct vol_attr *a,
                     struct stat *st) {
    MAYBE_FAIL(FAULT_SETATTR);
    return NEXT(setattr, obj, h, a, st);
}
static int f_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value,
                      size_t size, int flags, const struct cred *cred) {
    MAYBE_FAIL(FAULT_SETXATTR);
    return NEXT(setxattr, obj, key, value, size, flags, cred);
}
static int f_open(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                  struct vol_handle *h) {
    MAYBE_FAIL(FAULT_OPEN);
    if (flags & O_TRUNC) {
        MAYBE_FAIL(FAULT_SETATTR);
    }
    return NEXT(open, obj, flags, cred, h);
}
static ssize_t f_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                      off_t off) {
    MAYBE_FAIL(FAULT_READ);
    return NEXT(read, obj, h, buf, size, off);
}
static ssize_t f_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                       size_t size, off_t off, const struct cred *cred) {
    size_t less = fault_of(v)->plan.short_by;

    MAYBE_FAIL(FAULT_WRITE);
    if (fault_of(v)->plan.op == FAULT_WRITE && less > 0 && less < size) {
        size -= less;
    }
    return NEXT(write, obj, h, buf, size, off, cred);
}
static int f_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    MAYBE_FAIL(FAULT_FSYNC);
    return NEXT(fsync, obj, h, data_only);
}
static int f_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                       off_t len, const struct cred *cred) {
    MAYBE_FAIL(FAULT_FALLOCATE);
    return NEXT(fallocate, obj, h, mode, off, len, cred);
}
static int f_removexattr(struct vol *v, struct obj *obj, const char *key) {
    MAYBE_FAIL(FAULT_REMOVEXATTR);
    return NEXT(removexattr, obj, key);
}
static ssize_t f_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                      struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                      const struct cred *cred) {
    MAYBE_FAIL(FAULT_COPY);
    return NEXT(copy, from, hf, from_off, to, ht, to_off, len, cred);
}
static int f_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                     vol_dirent_fn *fill, void *arg) {
    if (pos == 0) { /* later entries are in memory */
        MAYBE_FAIL(FAULT_READDIR);
    }
    return NEXT(readdir, dir, h, pos, fill, arg);
}
static int f_statfs(struct vol *v, struct statvfs *st) {
    int err;

    MAYBE_FAIL(FAULT_STATFS);
    err = v->next->ops->statfs(v->next, st);
    if (fault_of(v)->plan.no_room) {
        st->f_bavail = 0;
    }
    return err;
}

static void f_free(struct vol *v) {
    free(v);
}

int vol_fault_new(struct vol *below, struct vol **ret_vol) {
    static struct vol_ops ops = {
        .name = "fault",
        .free = f_free,
        .lookup = f_lookup,
        .make = f_make,
        .create = f_create,
        .link = f_link,
        .unlink = f_unlink,
        .rmdir = f_rmdir,
        .rename = f_rename,
        .getattr = f_getattr,
        .setattr = f_setattr,
        .setxattr = f_setxattr,
        .removexattr = f_removexattr,
        .copy = f_copy,
        .open = f_open,
        .read = f_read,
        .write = f_write,
        .fsync = f_fsync,
        .fallocate = f_fallocate,
        .readdir = f_readdir,
        .statfs = f_statfs,
    };
    struct fault *f = calloc(1, sizeof(*f));

    if (!f) {
        return -ENOMEM;
    }
    vol_complete(&ops);
    f->vol.ops = &ops;
    f->vol.next = below;
    *ret_vol = &f->vol;
    return 0;
}

void vol_fault_set(struct vol *fault, const struct fault_plan *plan) {
    struct fault *f = fault_of(fault);

    f->plan = *plan;
    f->calls = f->hits = 0;
}

unsigned vol_fault_calls(struct vol *fault) {
    return fault_of(fault)->calls;
}
unsigned vol_fault_hits(struct vol *fault) {
    return fault_of(fault)->hits;
}
