/* Bytes. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "mirror/mirror_int.h"

enum {
    MEND_ERRORS_MAX = 8, /* unreadable ranges of a store that are mended before it is given up */
};

/* Data that one store cannot read is read from the next and written back: a bad sector heals. Under
 * a data hold. True if the store reads it now. */
static bool mend(struct mirror *m, struct mfile *f, unsigned i, const void *buf, ssize_t n, off_t off) {
    struct vol *v = m->member[i].vol;
    struct vol_handle h = {atomic_load(&f->handle[i])};
    struct mfile *w = NULL;
    bool good = false;

    if (m->member[i].read_errors > MEND_ERRORS_MAX || n <= 0) {
        return false;
    }
    if (!f->writable) { /* the handle was opened for reading */
        w = mfile_new(f->obj, O_RDWR);
        if (!w || mfile_on(m, w, i, &h) < 0) {
            goto out;
        }
    }
    good = v->ops->write(v, f->obj, h, buf, (size_t)n, off, &cred_self) == n &&
           v->ops->fsync(v, f->obj, h, true) == 0;
    event_post(m->events, EVENT_WARNING, "store \"%s\": %zd bytes could not be read and were %s", m->member[i].label,
               n, good ? "written again from another store" : "not mended");
out:
    if (w) {
        mfile_close_handles(m, w);
        free(w);
    }
    return good;
}

static ssize_t read_from(struct mirror *m, struct mfile *f, unsigned i, void *buf, size_t size, off_t off) {
    struct vol_handle h;
    int err = mfile_on(m, f, i, &h);

    return err < 0 ? err : RETRY_OWN(m->member[i].vol->ops->read(m->member[i].vol, f->obj, h, buf, size, off));
}

/* The preferred store could not read: the others, and then the first again. */
static ssize_t read_elsewhere(struct mirror *m, struct mfile *f, unsigned bad, void *buf, size_t size, off_t off,
                              ssize_t bad_err) {
    struct range_hold hold;
    ssize_t n = bad_err;
    unsigned i;

    m->member[bad].read_errors++;
    range_lock(&m->ranges, &hold, f->obj, (uint64_t)off, (uint64_t)off + size);
    for (i = 0; i < m->count; i++) {
        if (i == bad || !is_online(m, i)) {
            continue;
        }
        n = read_from(m, f, i, buf, size, off);
        if (answer_class((int)n) == ANSWER_OK) {
            break;
        }
    }
    if (i < m->count && !(bad_err == -EIO && mend(m, f, bad, buf, n, off))) {
        (void)member_fault(m, bad, (int)bad_err, "read"); /* the others have the data: they stay */
    }
    range_unlock(&m->ranges, &hold);
    return n;
}

ssize_t mirror_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size, off_t off) {
    struct mirror *m = mirror_of(v);
    struct mfile *f = mfile_of(h);
    unsigned i = atomic_load_explicit(&m->reader, memory_order_relaxed);
    ssize_t n = read_from(m, f, i, buf, size, off);

    (void)obj;
    if (answer_class((int)n) == ANSWER_DEVICE && size > 0) {
        return read_elsewhere(m, f, i, buf, size, off, n);
    }
    return n;
}

struct data_change {
    struct change c;
    struct mfile *file, *from; /* from: of a copy */
    const void *buf;
    ssize_t *ahead;            /* of a large write: what each store took already, side by side */
    off_t off, from_off, len;  /* len: what may be touched, from off on */
    int mode;                  /* of fallocate */
    size_t done;               /* how far the shortest store came */
    unsigned shortest;
    bool uneven;
    const struct cred *cred;
};

static struct vol_handle handle_of(const struct mfile *f, unsigned i) {
    return (struct vol_handle){atomic_load_explicit(&f->handle[i], memory_order_acquire)};
}

/* Store i took n bytes. One after the other, the next ones are asked for no more. */
static int took(struct data_change *d, unsigned i, ssize_t n) {
    if (n < 0) {
        return (int)n;
    }
    d->uneven = d->uneven || (d->c.took != 0 && (size_t)n != d->done);
    if ((size_t)n < d->done) {
        d->done = (size_t)n;
        d->shortest = i;
    }
    return 0;
}

static int write_apply(struct change *c, struct vol *v, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return took(d, i,
                d->ahead ? d->ahead[i]
                         : v->ops->write(v, d->file->obj, handle_of(d->file, i), d->buf, d->done, d->off, d->cred));
}

struct ahead_item {
    struct work work;
    struct vol *vol;
    const struct data_change *d;
    struct vol_handle handle;
    ssize_t *ret;
};

static void ahead_run(struct work *work) {
    struct ahead_item *a = (struct ahead_item *)work;

    *a->ret = RETRY_OWN(a->vol->ops->write(a->vol, a->d->file->obj, a->handle, a->d->buf, (size_t)a->d->len, a->d->off,
                                           a->d->cred));
}

/* A large write goes to all stores at once; the answer is made of what they took. Under the hold. */
static void write_ahead(struct mirror *m, struct data_change *d, ssize_t ret_took[STORES_MAX]) {
    struct ahead_item item[STORES_MAX];
    struct join join;
    unsigned mine = atomic_load(&m->reader);

    join_init(&join);
    for (unsigned i = 0; i < m->count; i++) {
        item[i] = (struct ahead_item){.vol = m->member[i].vol, .d = d, .handle = handle_of(d->file, i), .ret = &ret_took[i]};
        ret_took[i] = -EIO; /* a store that comes ONLINE in between is not asked */
        if (i != mine && is_online(m, i)) {
            work_submit(m->workers, &item[i].work, ahead_run, &join);
        }
    }
    ahead_run(&item[mine].work);
    join_wait(&join);
    d->ahead = ret_took;
}

static int copy_apply(struct change *c, struct vol *v, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return took(d, i,
                v->ops->copy(v, d->from->obj, handle_of(d->from, i), d->from_off, d->file->obj,
                             handle_of(d->file, i), d->off, d->done, d->cred));
}

static int fallocate_apply(struct change *c, struct vol *v, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return v->ops->fallocate(v, d->file->obj, handle_of(d->file, i), d->mode, d->off, d->len, d->cred);
}

/* The store that failed still has the old bytes: they go back. */
static int data_undo(struct change *c, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return store_repair_range(c->m->member[c->failed].store, c->m->member[i].store, d->file->obj, d->off, d->len);
}

/* One store took less than another: what it did not take is put back on those that did. */
static void level(struct mirror *m, struct data_change *d) {
    off_t from = d->off + (off_t)d->done;

    for (unsigned i = 0; i < m->count; i++) {
        int err;

        if (!(d->c.took >> i & 1) || i == d->shortest) {
            continue;
        }
        err = store_repair_range(m->member[d->shortest].store, m->member[i].store, d->file->obj, from,
                                 d->off + d->len - from);
        if (err < 0) {
            (void)member_fault(m, i, err, d->c.what); /* the last one is the truth */
        }
    }
}

/* A change of [off, off + lock_len) of an open file on all stores. */
static int change_data(struct mirror *m, struct data_change *d, uint64_t lock_len) {
    struct range_hold hold;
    int err = mfile_on_all(m, d->file);

    err = err < 0 || !d->from ? err : mfile_on_all(m, d->from);
    if (err < 0) {
        return err;
    }
    gate_enter(&m->gate);
    if (!(d->file->obj->flags & OBJ_NO_PRIVS) && d->cred->uid != 0) {
        rwlock_read(&m->names);
        err = drop_privileges(m, d->file->obj, d->cred);
        rwlock_read_done(&m->names);
    }
    if (err == 0) {
        ssize_t ahead[STORES_MAX];

        range_lock(&m->ranges, &hold, d->file->obj, (uint64_t)d->off, (uint64_t)d->off + lock_len);
        if (d->buf && d->len >= PARALLEL_BYTES && m->count > 1 && !m->low_on_space && !m->read_only) {
            write_ahead(m, d, ahead);
        }
        err = mirror_change(m, &d->c);
        if (err == 0 && d->uneven) {
            level(m, d);
        }
        range_unlock(&m->ranges, &hold);
        atomic_store_explicit(&d->file->times_dirty, true, memory_order_relaxed);
    }
    gate_leave(&m->gate);
    return err;
}

ssize_t mirror_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf, size_t size, off_t off,
                     const struct cred *cred) {
    struct data_change d = {.c = {.what = "write", .apply = write_apply, .undo = data_undo, .allocates = true},
                            .file = mfile_of(h), .buf = buf, .off = off, .len = (off_t)size, .done = size,
                            .cred = cred};
    int err;

    (void)obj;
    if (size == 0) {
        return 0;
    }
    err = change_data(mirror_of(v), &d, size);
    return err < 0 ? err : (ssize_t)d.done;
}

ssize_t mirror_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off, struct obj *to,
                    struct vol_handle ht, off_t to_off, size_t len, const struct cred *cred) {
    struct data_change d = {.c = {.what = "copy", .apply = copy_apply, .undo = data_undo, .allocates = true},
                            .file = mfile_of(ht), .from = mfile_of(hf), .off = to_off, .from_off = from_off,
                            .len = (off_t)len, .done = len, .cred = cred};
    int err;

    (void)from;
    (void)to;
    if (len == 0) {
        return 0;
    }
    err = change_data(mirror_of(v), &d, len);
    return err < 0 ? err : (ssize_t)d.done;
}

int mirror_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off, off_t len,
                     const struct cred *cred) {
    struct data_change d = {.c = {.what = "fallocate", .apply = fallocate_apply, .undo = data_undo, .allocates = true},
                            .file = mfile_of(h), .off = off, .len = len, .mode = mode, .cred = cred};

    (void)obj;
    /* Collapsing and inserting move everything behind. */
    return change_data(mirror_of(v), &d, (uint64_t)(INT64_MAX - off));
}

int mirror_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    struct mirror *m = mirror_of(v);
    struct mfile *f = mfile_of(h);
    struct vol_handle handles[STORES_MAX];
    int err;

    if (f->times_dirty) { /* not here and now: it would cost each fsync a second inode update */
        times_later(m, obj);
    }
    err = mfile_on_all(m, f);
    if (err < 0) {
        return err;
    }
    for (unsigned i = 0; i < m->count; i++) {
        handles[i] = handle_of(f, i);
    }
    return mirror_fsync_all(m, obj, handles, data_only);
}

off_t mirror_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    struct mirror *m = mirror_of(v);
    struct mfile *f = mfile_of(h);
    off_t at;
    int i;

    MIRROR_FIRST_ANSWER(m, i, at) {
        struct vol_handle on;

        at = mfile_on(m, f, (unsigned)i, &on);
        if (at == 0) {
            at = m->member[i].vol->ops->seek(m->member[i].vol, obj, on, off, whence);
        }
    }
    return at;
}
