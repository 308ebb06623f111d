#include "mirror/guard.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/fiber.h"

enum {
    EPOCH_SHIFT =
        32, /* a file's handle is the store's, and above it the opening of the store it is of */
    OTHER_BYTES = 512, /* of arguments of a guard_call() */
};

struct guard {
    struct vol vol;
    struct obj_table *objs; /* constant after guard_set_objects */
    /* changed only while shut and nothing is under way */
    struct vol *below;
    /* atomic */
    _Atomic bool open;
    _Atomic uint64_t epoch; /* one more at each opening */
    _Atomic int calls;
    _Atomic uint64_t answered[GUARD_KINDS];
    /* owned by the watchdog */
    uint64_t seen[GUARD_KINDS];
    int64_t seen_ms[GUARD_KINDS];
    /* guarded by mutex */
    pthread_mutex_t mutex;     /* a leaf */
    struct vol_handle *handle; /* files that are open on the store */
    unsigned handles, room;
    struct vol **past; /* stores that were let go: open streams still point to them */
    unsigned pasts;
};

/* One call, in the seat of the thread that makes it. What an operation does not use is not set. */
struct op {
    struct blocking call;
    struct guard *g;
    struct vol *v;
    struct obj *a, *b;
    struct vol_handle ha, hb;
    off_t off, off2;
    size_t size;
    int flags;
    unsigned uflags;
    bool want, data_only;
    void *out;
    const void *in;
    struct cred cred;
    struct vol_new new;
    struct vol_attr attr;
    struct vol_entry entry;
    struct vol_handle handle;
    struct stat stat;
    struct statvfs fs;
    int (*fn)(void *);
    ssize_t result;
    char name[NAME_BYTES], name2[NAME_BYTES];
    union {
        char target[PATH_BYTES];
        _Alignas(16) uint8_t other[OTHER_BYTES];
    };
};
_Static_assert(sizeof(struct op) <= SEAT_BYTES, "a call fits into its seat");

static struct guard *guard_of(struct vol *v) {
    return (struct guard *)v;
}

static void returned(struct blocking *call) {
    atomic_fetch_sub(&((struct op *)call)->g->calls, 1);
}

/* Room for the next call, or NULL if the store is shut. */
static struct op *begin(struct guard *g, enum guard_kind kind, void (*run)(struct blocking *),
                        struct obj *a, struct obj *b) {
    struct op *o;

    atomic_fetch_add(&g->calls, 1);
    if (!atomic_load(&g->open)) {
        atomic_fetch_sub(&g->calls, 1);
        return NULL;
    }
    o = fiber_seat();
    o->call = (struct blocking){.run = run, .returned = returned, .owner = g, .kind = kind};
    o->g = g;
    o->v = g->below;
    o->a = a;
    o->b = b;
    return o;
}

/* Makes the call. Not 0 if it was given up: the thread that is stuck in it may still look at the
 * objects, so they stay for as long as the daemon runs. */
static int make(struct op *o) {
    struct guard *g = o->g;
    enum guard_kind kind = (enum guard_kind)o->call.kind;
    struct obj *a = o->a, *b = o->b;

    if (fiber_block(&o->call)) {
        atomic_fetch_add_explicit(&g->answered[kind], 1, memory_order_relaxed);
        atomic_fetch_sub(&g->calls, 1);
        return 0;
    }
    if (a) {
        obj_pin(g->objs, a);
    }
    if (b) {
        obj_pin(g->objs, b);
    }
    return -HFE_GIVEN_UP;
}

static void set_name(char to[NAME_BYTES], const char *name) {
    size_t n = strnlen(name, NAME_BYTES - 1);

    memcpy(to, name, n);
    to[n] = '\0';
}

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

/* --- files that are open on the store --- */

static struct vol_handle below_of(struct vol_handle h) {
    return vol_have(h) ? (struct vol_handle){h.v & UINT32_MAX} : h;
}

bool guard_handle_ok(const struct guard *g, struct vol_handle h) {
    return vol_have(h) &&
           h.v >> EPOCH_SHIFT == atomic_load_explicit(&g->epoch, memory_order_relaxed);
}

/* A file was opened: our handle for it. If there is no memory to remember it, it is still closed by
 * whoever opened it. */
static struct vol_handle remember(struct guard *g, struct vol_handle below) {
    assert(below.v >> EPOCH_SHIFT == 0);
    pthread_mutex_lock(&g->mutex);
    if (g->handles == g->room) {
        unsigned room = g->room ? g->room * 2 : 64;
        struct vol_handle *more = realloc(g->handle, room * sizeof(*more));

        g->handle = more ? more : g->handle;
        g->room = more ? room : g->room;
    }
    if (g->handles < g->room) {
        g->handle[g->handles++] = below;
    }
    pthread_mutex_unlock(&g->mutex);
    return (struct vol_handle){atomic_load(&g->epoch) << EPOCH_SHIFT | below.v};
}

static void forget(struct guard *g, struct vol_handle below) {
    pthread_mutex_lock(&g->mutex);
    for (unsigned i = g->handles; i-- > 0;) { /* the newest are closed first */
        if (g->handle[i].v == below.v) {
            g->handle[i] = g->handle[--g->handles];
            break;
        }
    }
    pthread_mutex_unlock(&g->mutex);
}

void guard_close_files(struct guard *g) {
    while (g->handles > 0) {
        struct vol_handle h = g->handle[--g->handles];

        (void)g->below->ops->close(g->below, NULL,
                                   h); /* the store left: what it says counts no more */
    }
}

/* A handle of an opening before this one. */
static bool outdated(const struct guard *g, struct vol_handle h) {
    return vol_have(h) && !guard_handle_ok(g, h);
}

/* --- operations --- */

#define DO(name) static void do_##name(struct blocking *call)
#define OP_AND_VOL                                                                                 \
    struct op *o = (struct op *)call;                                                              \
    struct vol *v = o->v

DO(lookup) {
    OP_AND_VOL;
    o->result = v->ops->lookup(v, o->a, o->name, &o->entry);
}
static int guard_lookup(struct vol *v, struct obj *dir, const char *name,
                        struct vol_entry *ret_entry) {
    struct op *o = begin(guard_of(v), GUARD_READ, do_lookup, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, name);
    if (make(o) < 0) {
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
static int guard_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                      struct vol_entry *ret_entry) {
    struct op *o = begin(guard_of(v), GUARD_CHANGE, do_make, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, name);
    set_new(o, new);
    o->want = ret_entry != NULL;
    if (make(o) < 0) {
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
        o->handle = remember(o->g, o->handle);
    }
}
static int guard_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                        int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle) {
    struct op *o = begin(guard_of(v), GUARD_CHANGE, do_create, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, name);
    set_new(o, new);
    o->flags = flags;
    o->want = ret_entry != NULL;
    if (make(o) < 0) {
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
static int guard_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                      struct vol_entry *ret_entry) {
    struct op *o = begin(guard_of(v), GUARD_CHANGE, do_link, obj, dir);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, name);
    o->want = ret_entry != NULL;
    if (make(o) < 0) {
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
    struct op *o = begin(guard_of(v), kind, run, dir, NULL);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, name);
    return make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}
static int guard_unlink(struct vol *v, struct obj *dir, const char *name) {
    return remove_name(v, GUARD_SLOW, do_unlink, dir, name);
}
static int guard_rmdir(struct vol *v, struct obj *dir, const char *name) {
    return remove_name(v, GUARD_CHANGE, do_rmdir, dir, name);
}

DO(rename) {
    OP_AND_VOL;
    o->result = v->ops->rename(v, o->a, o->name, o->b, o->name2, o->uflags);
}
static int guard_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                        const char *new_name, unsigned flags) {
    struct op *o = begin(guard_of(v), GUARD_CHANGE, do_rename, dir, new_dir);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, name);
    set_name(o->name2, new_name);
    o->uflags = flags;
    return make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(getattr) {
    OP_AND_VOL;
    o->result = v->ops->getattr(v, o->a, o->ha, &o->stat);
}
static int guard_getattr(struct vol *v, struct obj *obj, struct vol_handle h,
                         struct stat *ret_attr) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_READ, do_getattr, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    if (make(o) < 0) {
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
static int guard_setattr(struct vol *v, struct obj *obj, struct vol_handle h,
                         const struct vol_attr *attr, struct stat *ret_attr) {
    enum guard_kind kind = attr->set & VOL_SET_SIZE ? GUARD_SLOW : GUARD_CHANGE;
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), kind, do_setattr, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    o->attr = *attr;
    if (attr->cred) {
        o->cred = *attr->cred;
        o->attr.cred = &o->cred;
    }
    o->want = ret_attr != NULL;
    if (make(o) < 0) {
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
static ssize_t guard_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct op *o = begin(guard_of(v), GUARD_READ, do_readlink, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->size = size < sizeof(o->target) ? size : sizeof(o->target);
    if (make(o) < 0) {
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
    if (make(o) < 0) {
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
static ssize_t guard_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf,
                              size_t size) {
    struct op *o = begin(guard_of(v), GUARD_READ, do_getxattr, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    set_name(o->name, key);
    return make_reading(o, buf, size);
}

DO(listxattr) {
    OP_AND_VOL;
    o->result = v->ops->listxattr(v, o->a, o->out, o->size);
}
static ssize_t guard_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct op *o = begin(guard_of(v), GUARD_READ, do_listxattr, obj, NULL);

    return o ? make_reading(o, buf, size) : -ENODEV;
}

DO(setxattr) {
    OP_AND_VOL;
    o->result = v->ops->setxattr(v, o->a, o->name, o->in, o->size, o->flags, &o->cred);
}
static int guard_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value,
                          size_t size, int flags, const struct cred *cred) {
    void *own = malloc(size + 1);
    struct op *o = own ? begin(guard_of(v), GUARD_CHANGE, do_setxattr, obj, NULL) : NULL;
    int err;

    if (!o) {
        free(own);
        return own ? -ENODEV : -ENOMEM;
    }
    memcpy(own, value, size);
    set_name(o->name, key);
    o->in = own;
    o->size = size;
    o->flags = flags;
    o->cred = *cred;
    err = make(o);
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
static int guard_removexattr(struct vol *v, struct obj *obj, const char *key) {
    return remove_name(v, GUARD_CHANGE, do_removexattr, obj, key);
}

DO(open) {
    OP_AND_VOL;
    o->result = v->ops->open(v, o->a, o->flags, &o->cred, &o->handle);
    if (o->result == 0) {
        o->handle = remember(o->g, o->handle);
    }
}
static int guard_open_file(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                           struct vol_handle *ret_handle) {
    struct op *o = begin(guard_of(v), GUARD_CHANGE, do_open, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->flags = flags;
    o->cred = *cred;
    if (make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    if (o->result == 0) {
        *ret_handle = o->handle;
    }
    return (int)o->result;
}

DO(close) {
    OP_AND_VOL;
    forget(o->g, o->ha);
    o->result = v->ops->close(v, o->a, o->ha);
}
static int guard_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_SLOW, do_close, obj, NULL);

    if (!o) {
        return 0; /* closed with all others when the store is let go */
    }
    o->ha = below_of(h);
    return make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(read) {
    OP_AND_VOL;
    o->result = v->ops->read(v, o->a, o->ha, o->out, o->size, o->off);
}
/* Straight into the caller's memory, for speed: after a loss (fiber_losses()) the caller must not
 * use that memory for an answer, and gives it up with fiber_orphan(). */
static ssize_t guard_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf,
                          size_t size, off_t off) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_READ, do_read, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    o->out = buf;
    o->size = size;
    o->off = off;
    return make(o) < 0 ? -HFE_GIVEN_UP : o->result;
}

DO(write) {
    OP_AND_VOL;
    o->result = v->ops->write(v, o->a, o->ha, o->in, o->size, o->off, &o->cred);
}
static ssize_t guard_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                           size_t size, off_t off, const struct cred *cred) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_CHANGE, do_write, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    o->in = buf;
    o->size = size;
    o->off = off;
    o->cred = *cred;
    return make(o) < 0 ? -HFE_GIVEN_UP : o->result;
}

DO(fsync) {
    OP_AND_VOL;
    o->result = v->ops->fsync(v, o->a, o->ha, o->data_only);
}
static int guard_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_SLOW, do_fsync, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    o->data_only = data_only;
    return make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(fallocate) {
    OP_AND_VOL;
    o->result = v->ops->fallocate(v, o->a, o->ha, o->flags, o->off, o->off2, &o->cred);
}
static int guard_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                           off_t len, const struct cred *cred) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_SLOW, do_fallocate, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    o->flags = mode;
    o->off = off;
    o->off2 = len;
    o->cred = *cred;
    return make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(copy) {
    OP_AND_VOL;
    o->result = v->ops->copy(v, o->a, o->ha, o->off, o->b, o->hb, o->off2, o->size, &o->cred);
}
static ssize_t guard_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                          struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                          const struct cred *cred) {
    struct guard *g = guard_of(v);
    struct op *o =
        outdated(g, hf) || outdated(g, ht) ? NULL : begin(g, GUARD_SLOW, do_copy, from, to);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(hf);
    o->hb = below_of(ht);
    o->off = from_off;
    o->off2 = to_off;
    o->size = len;
    o->cred = *cred;
    return make(o) < 0 ? -HFE_GIVEN_UP : o->result;
}

DO(seek) {
    OP_AND_VOL;
    o->result = v->ops->seek(v, o->a, o->ha, o->off, o->flags);
}
static off_t guard_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off,
                        int whence) {
    struct op *o =
        outdated(guard_of(v), h) ? NULL : begin(guard_of(v), GUARD_READ, do_seek, obj, NULL);

    if (!o) {
        return -ENODEV;
    }
    o->ha = below_of(h);
    o->off = off;
    o->flags = whence;
    return make(o) < 0 ? -HFE_GIVEN_UP : (off_t)o->result;
}

/* A stream holds its entries in memory and the volume it was opened on: only reading it anew is a
 * call on the store. */
struct stream {
    struct vol *v;
    struct vol_handle below;
};

static int guard_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle) {
    struct guard *g = guard_of(v);
    struct stream *s = malloc(sizeof(*s));
    int err = !s ? -ENOMEM : !guard_is_open(g) ? -ENODEV : 0;

    if (err == 0) {
        s->v = g->below;
        err = s->v->ops->opendir(s->v, dir, &s->below);
    }
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
static int guard_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                         vol_dirent_fn *fill, void *arg) {
    struct stream *s = (struct stream *)(uintptr_t)h.v;

    if (pos == 0) {
        struct op *o = begin(guard_of(v), GUARD_READ, do_load, dir, NULL);

        if (!o) {
            return -ENODEV;
        }
        o->ha = s->below;
        if (make(o) < 0) {
            s->v = NULL; /* the stuck thread has its entries: they are never freed */
            return -HFE_GIVEN_UP;
        }
        if (o->result < 0) {
            return (int)o->result;
        }
    }
    return s->v->ops->readdir(s->v, dir, s->below, pos, fill, arg);
}
static int guard_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
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
static int guard_statfs(struct vol *v, struct statvfs *ret_stat) {
    struct op *o = begin(guard_of(v), GUARD_READ, do_statfs, NULL, NULL);

    if (!o) {
        return -ENODEV;
    }
    if (make(o) < 0) {
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
static int guard_sync(struct vol *v) {
    struct op *o = begin(guard_of(v), GUARD_SLOW, do_sync, NULL, NULL);

    return !o ? -ENODEV : make(o) < 0 ? -HFE_GIVEN_UP : (int)o->result;
}

DO(other) {
    struct op *o = (struct op *)call;

    o->result = o->fn(o->other);
}
int guard_call(struct guard *g, enum guard_kind kind, int (*fn)(void *), void *arg, size_t size) {
    struct op *o = begin(g, kind, do_other, NULL, NULL);

    if (!o) {
        return -ENODEV;
    }
    assert(size <= sizeof(o->other));
    o->fn = fn;
    memcpy(o->other, arg, size);
    if (make(o) < 0) {
        return -HFE_GIVEN_UP;
    }
    memcpy(arg, o->other, size);
    return (int)o->result;
}

/* --- the guard itself --- */

static void free_vol(struct vol *v) {
    guard_free(guard_of(v));
}

static const struct vol_ops guard_ops = {
    .name = "guard",
    .free = free_vol,
    .lookup = guard_lookup,
    .make = guard_make,
    .create = guard_create,
    .link = guard_link,
    .unlink = guard_unlink,
    .rmdir = guard_rmdir,
    .rename = guard_rename,
    .getattr = guard_getattr,
    .setattr = guard_setattr,
    .readlink = guard_readlink,
    .getxattr = guard_getxattr,
    .listxattr = guard_listxattr,
    .setxattr = guard_setxattr,
    .removexattr = guard_removexattr,
    .open = guard_open_file,
    .close = guard_close,
    .read = guard_read,
    .write = guard_write,
    .fsync = guard_fsync,
    .fallocate = guard_fallocate,
    .copy = guard_copy,
    .seek = guard_seek,
    .opendir = guard_opendir,
    .readdir = guard_readdir,
    .closedir = guard_closedir,
    .statfs = guard_statfs,
    .sync = guard_sync,
};

int guard_new(struct vol *below, struct guard **ret_guard) {
    struct guard *g = calloc(1, sizeof(*g));

    if (!g) {
        return -ENOMEM;
    }
    g->vol.ops = &guard_ops;
    pthread_mutex_init(&g->mutex, NULL);
    if (below) {
        guard_open(g, below);
    }
    *ret_guard = g;
    return 0;
}

void guard_free(struct guard *g) {
    if (!g) {
        return;
    }
    vol_free(g->below);
    for (unsigned i = 0; i < g->pasts; i++) {
        vol_free(g->past[i]);
    }
    free(g->past);
    free(g->handle);
    pthread_mutex_destroy(&g->mutex);
    free(g);
}

struct vol *guard_vol(struct guard *g) {
    return &g->vol;
}

void guard_set_objects(struct guard *g, struct obj_table *objs) {
    g->objs = objs;
}

void guard_open(struct guard *g, struct vol *below) {
    assert(!g->open && g->calls == 0);
    if (g->below) {
        struct vol **more = realloc(g->past, (g->pasts + 1) * sizeof(struct vol *));

        if (more) { /* else it stays in memory, which is all that is wanted */
            g->past = more;
            g->past[g->pasts++] = g->below;
        }
    }
    g->below = below;
    atomic_fetch_add(&g->epoch, 1);
    atomic_store(&g->open, true);
}

void guard_reopen(struct guard *g) {
    atomic_store(&g->open, true);
}

void guard_shut(struct guard *g) {
    atomic_store(&g->open, false);
}

bool guard_use(struct guard *g) {
    atomic_fetch_add(&g->calls, 1);
    if (!atomic_load(&g->open)) {
        atomic_fetch_sub(&g->calls, 1);
        return false;
    }
    return true;
}

void guard_unuse(struct guard *g) {
    atomic_fetch_sub(&g->calls, 1);
}

bool guard_is_open(const struct guard *g) {
    return atomic_load(&g->open);
}

unsigned guard_calls(const struct guard *g) {
    return (unsigned)atomic_load(&g->calls);
}

/* --- the watchdog's side --- */

struct oldest {
    const struct guard *g;
    enum guard_kind kind;
    int64_t since_ms;
};

static bool find_oldest(void *arg, const struct blocking *call, int64_t since_ms) {
    struct oldest *o = arg;

    if (call->owner == o->g && call->kind == o->kind &&
        (o->since_ms == 0 || since_ms < o->since_ms)) {
        o->since_ms = since_ms;
    }
    return false;
}

int64_t guard_silence(struct guard *g, enum guard_kind kind, int64_t now_ms) {
    struct oldest o = {.g = g, .kind = kind};
    uint64_t answered = 0;

    fiber_each(find_oldest, &o);
    for (int k = (int)kind; k < GUARD_KINDS; k++) {
        answered += atomic_load(&g->answered[k]);
    }
    if (answered != g->seen[kind] || o.since_ms == 0) {
        g->seen[kind] = answered;
        g->seen_ms[kind] = now_ms;
        return 0;
    }
    return now_ms - (o.since_ms > g->seen_ms[kind] ? o.since_ms : g->seen_ms[kind]);
}

static bool is_of(void *arg, const struct blocking *call, int64_t since_ms) {
    (void)since_ms;
    return call->owner == arg;
}

void guard_give_up(struct guard *g) {
    fiber_each(is_of, g);
}
