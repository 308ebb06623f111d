/* Bytes. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fiber.h"
#include "mirror/mirror_int.h"

enum {
    MEND_ERRORS_MAX = 8, /* unreadable ranges of a store that are mended before it is given up */
};

/* Data that one store cannot read is read from the next and written back through `h`: a bad sector
 * heals. Under a data hold. True if the store has it now. */
static bool mend(struct mirror *m, struct obj *obj, unsigned i, struct vol_handle h,
                 const void *buf, ssize_t n, off_t off) {
    struct vol *v = m->member[i].vol;
    bool good = v->ops->write(v, obj, h, buf, (size_t)n, off, &cred_self) == n &&
                v->ops->fsync(v, obj, h, true) == 0;

    event_post(m->events, EVENT_WARNING, "store \"%s\": %zd bytes could not be read and were %s",
               m->member[i].label, n, good ? "written again from another store" : "not mended");
    return good;
}

static ssize_t read_from(struct mirror *m, struct mfile *f, unsigned i, void *buf, size_t size,
                         off_t off) {
    struct vol_handle h;
    int err = mfile_on(m, f, i, &h);

    return err < 0 ? err
                   : RETRY_OWN(
                         m->member[i].vol->ops->read(m->member[i].vol, f->obj, h, buf, size, off));
}

/* Reads from any store but `bad` that has a handle open. */
static ssize_t read_others(struct mirror *m, struct mfile *f, unsigned bad, void *buf, size_t size,
                           off_t off, bool *ret_answered) {
    ssize_t n = -EIO;

    *ret_answered = false;
    for (unsigned i = 0; i < m->count && !*ret_answered; i++) {
        struct vol_handle h = mfile_handle(m, f, i);

        if (i != bad && is_online(m, i) && vol_have(h)) {
            n = RETRY_OWN(m->member[i].vol->ops->read(m->member[i].vol, f->obj, h, buf, size, off));
            *ret_answered = n >= 0;
        }
    }
    return n;
}

/* The preferred store could not read: the others, and then the first again. Handles are opened
 * before the hold, as opening takes outer locks. */
static ssize_t read_elsewhere(struct mirror *m, struct mfile *f, unsigned bad, void *buf,
                              size_t size, off_t off, ssize_t bad_err) {
    struct mfile *w = NULL;
    struct vol_handle h = VOL_NO_HANDLE;
    struct range_hold hold;
    bool answered, mended = false;
    unsigned asked = 0;
    ssize_t n;

    for (unsigned i = 0; i < m->count; i++) {
        if (i != bad && is_online(m, i)) {
            asked += mfile_on(m, f, i, &h) == 0;
        }
    }
    h = VOL_NO_HANDLE;
    if (asked == 0) {
        return bad_err; /* no other store has it: its error is the answer */
    }
    if (bad_err == -EIO && ++m->member[bad].read_errors <= MEND_ERRORS_MAX) {
        w = mfile_new(f->obj, O_RDWR);
        if (w && mfile_on(m, w, bad, &h) < 0) {
            h = VOL_NO_HANDLE;
        }
    }
    range_lock(&m->ranges, &hold, f->obj, (uint64_t)off, (uint64_t)off + size);
    n = read_others(m, f, bad, buf, size, off, &answered);
    if (answered && n > 0 && vol_have(h)) {
        mended = mend(m, f->obj, bad, h, buf, n, off);
    }
    range_unlock(&m->ranges, &hold);
    if (answered && !mended) {
        (void)member_fault(m, bad, (int)bad_err, "read"); /* the others have the data: they stay */
    }
    if (w) {
        mfile_close_handles(m, w);
        free(w);
    }
    return answered ? n : bad_err;
}

ssize_t mirror_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                    off_t off) {
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
    ssize_t *ahead;           /* of a large write: what each store took already, side by side */
    off_t off, from_off, len; /* len: what may be touched, from off on */
    int mode;                 /* of fallocate */
    bool partial;             /* one that fails may have changed bytes all the same */
    bool shifts;              /* it moves all that is behind `off`: undone as a whole */
    size_t done;              /* how far the shortest store came */
    unsigned shortest;
    bool uneven;
    const struct cred *cred;
};

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

static bool is_open_on(struct change *c, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return vol_have(mfile_handle(c->m, d->file, i)) &&
           (!d->from || vol_have(mfile_handle(c->m, d->from, i)));
}

static int write_apply(struct change *c, struct vol *v, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return took(d, i,
                d->ahead && is_online(c->m, i)
                    ? d->ahead[i]
                    : v->ops->write(v, d->file->obj, mfile_handle(d->c.m, d->file, i), d->buf,
                                    d->done, d->off, d->cred));
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

    *a->ret = RETRY_OWN(a->vol->ops->write(a->vol, a->d->file->obj, a->handle, a->d->buf,
                                           (size_t)a->d->len, a->d->off, a->d->cred));
}

/* A large write goes to all stores at once; the answer is made of what they took. Under the hold.
 */
static void write_ahead(struct mirror *m, struct data_change *d, ssize_t ret_took[STORES_MAX]) {
    struct ahead_item item[STORES_MAX];
    struct join join;
    unsigned mine = atomic_load(&m->reader);

    join_init(&join);
    for (unsigned i = 0; i < m->count; i++) {
        item[i] = (struct ahead_item){.vol = m->member[i].vol,
                                      .d = d,
                                      .handle = mfile_handle(d->c.m, d->file, i),
                                      .ret = &ret_took[i]};
        ret_took[i] = -EIO; /* a store that comes ONLINE in between is not asked */
        if (i != mine && is_online(m, i)) {
            work_submit(m->workers, &item[i].work, ahead_run, &join);
        }
    }
    ahead_run(&item[mine].work);
    join_wait(&join);
    for (unsigned i = 0; i < m->count; i++) {
        if (i != mine && ret_took[i] == -HFE_GIVEN_UP) {
            fiber_keep_memory(); /* the bytes */
        }
    }
    d->ahead = ret_took;
}

static int copy_apply(struct change *c, struct vol *v, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return took(d, i,
                v->ops->copy(v, d->from->obj, mfile_handle(d->c.m, d->from, i), d->from_off,
                             d->file->obj, mfile_handle(d->c.m, d->file, i), d->off, d->done,
                             d->cred));
}

static int fallocate_apply(struct change *c, struct vol *v, unsigned i) {
    struct data_change *d = (struct data_change *)c;

    return v->ops->fallocate(v, d->file->obj, mfile_handle(d->c.m, d->file, i), d->mode, d->off,
                             d->len, d->cred);
}

/* The next bytes of copy_back(), through `buf`. How many; 0 at the end. */
static ssize_t copy_some(struct mirror *m, const struct mfile *f, unsigned i, unsigned k, char *buf,
                         size_t want, off_t off) {
    struct vol *from = m->member[i].vol, *to = m->member[k].vol;
    ssize_t n = RETRY_OWN(from->ops->read(from, f->obj, mfile_handle(m, f, i), buf, want, off)), w;

    if (n <= 0) {
        return n;
    }
    w = RETRY_OWN(
        to->ops->write(to, f->obj, mfile_handle(m, f, k), buf, (size_t)n, off, &cred_self));
    return w == n ? n : w < 0 ? w : -ENOSPC;
}

/* Copies [off, off + len) of an open file from store i to store k. */
static int copy_back(struct mirror *m, const struct mfile *f, unsigned i, unsigned k, off_t off,
                     off_t len) {
    enum { CHUNK = 64 << 10 };
    char *buf = malloc(CHUNK);
    ssize_t n = buf ? 1 : -ENOMEM;

    while (len > 0 && n > 0) {
        n = copy_some(m, f, i, k, buf, len < CHUNK ? (size_t)len : CHUNK, off);
        off += n > 0 ? n : 0;
        len -= n > 0 ? n : 0;
    }
    fiber_orphan(buf);
    return n < 0 ? (int)n : 0;
}

/* Gives store k back the bytes [off, d->off + d->len) and, if the change made the file longer
 * there, the size that store i still has. Under the hold of the change, through its handles. */
static int restore(struct mirror *m, const struct data_change *d, unsigned i, unsigned k,
                   off_t off) {
    struct vol *from = m->member[i].vol, *to = m->member[k].vol;
    off_t end = d->shifts ? INT64_MAX : d->off + d->len;
    struct vol_attr attr = {.set = VOL_SET_SIZE, .cred = &cred_self};
    struct stat a, b;
    int err = (int)RETRY_OWN(
        from->ops->getattr(from, d->file->obj, mfile_handle(d->c.m, d->file, i), &a));

    err = err < 0 ? err : copy_back(m, d->file, i, k, off, end - off);
    err = err < 0
              ? err
              : (int)RETRY_OWN(to->ops->getattr(to, d->file->obj, mfile_handle(m, d->file, k), &b));
    if (err == 0 && a.st_size != b.st_size &&
        (d->shifts || (b.st_size > off && b.st_size <= end && a.st_size < b.st_size))) {
        attr.size = a.st_size;
        err = (int)RETRY_OWN(
            to->ops->setattr(to, d->file->obj, mfile_handle(m, d->file, k), &attr, NULL));
    }
    return err;
}

/* The store that failed still has the old bytes: they go back. */
static int data_undo(struct change *c, unsigned i) {
    const struct data_change *d = (const struct data_change *)c;

    return restore(c->m, d, (unsigned)c->failed, i, d->off);
}

/* One store took less than another: what it did not take is put back on those that did. */
static void level(struct mirror *m, struct data_change *d) {
    for (unsigned i = 0; i < m->count; i++) {
        int err;

        if (!(d->c.took >> i & 1) || i == d->shortest) {
            continue;
        }
        err = restore(m, d, d->shortest, i, d->off + (off_t)d->done);
        if (err < 0 && member_fault(m, i, err, d->c.what) < 0) {
            m->unequal = true;
        }
    }
}

/* A fallocate that a store refused may be half done there: XFS punches before it allocates. The
 * others get what it has now; the application was told that it failed. */
static void follow_refused(struct mirror *m, struct data_change *d) {
    for (unsigned i = 0; i < m->count && is_online(m, (unsigned)d->c.refused); i++) {
        int err = is_online(m, i) && (int)i != d->c.refused
                      ? restore(m, d, (unsigned)d->c.refused, i, d->off)
                      : 0;

        if (err < 0 && member_fault(m, i, err, d->c.what) < 0) {
            m->unequal = true;
        }
    }
}

/* All stores were written at once, and one had a limit: the others get their old bytes back. 0 if
 * no store had one, or only such as go for it. */
static int take_back_ahead(struct mirror *m, struct data_change *d) {
    bool broken = false;
    int failed = -1, full = -1;
    unsigned took = 0;

    for (unsigned i = 0; i < m->count; i++) {
        int err = d->ahead[i] < 0 ? (int)d->ahead[i] : 0;
        enum answer_class class = answer_class(err);

        if (!is_online(m, i)) {
            continue;
        }
        if (class == ANSWER_OK) {
            took++;
        } else if (class == ANSWER_DEVICE) {
            broken = true;
        } else if (drops_full(m, &d->c, i, err)) {
            full = (int)i;
        } else {
            failed = (int)i;
        }
    }
    if (failed >= 0 && !is_online(m, (unsigned)failed)) { /* it was lost while it was looked at */
        failed = -1;
    }
    if (failed < 0 && took < m->min_stores) {
        failed = full;
    }
    if (failed >= 0 && broken) {
        mirror_not_taken(m, &d->c, (int)d->ahead[failed]);
    }
    for (unsigned i = 0; failed >= 0 && i < m->count; i++) {
        int err =
            d->ahead[i] > 0 && is_online(m, i) ? restore(m, d, (unsigned)failed, i, d->off) : 0;

        if (err < 0 && member_fault(m, i, err, d->c.what) < 0) {
            m->unequal = true;
        }
    }
    return failed < 0 ? 0 : (int)d->ahead[failed];
}

/* What a store that is being caught up has, nobody knows now: it begins anew. */
static void spoil_receiving(struct mirror *m) {
    for (unsigned i = 0; i < m->count; i++) {
        if (!is_online(m, i) && takes_changes(m, i)) {
            member_spoil(m, i, "write that stores took unevenly", -EIO);
        }
    }
}

/* Holds what the change touches: of a copy, the source too, for it must be the same on all stores.
 */
static void hold_data(struct mirror *m, const struct data_change *d, uint64_t lock_len,
                      struct range_hold hold[2]) {
    uint64_t off = (uint64_t)d->off, from = (uint64_t)d->from_off, len = (uint64_t)d->len;

    hold[0] = (struct range_hold){.key = d->file->obj, .from = off, .to = off + lock_len};
    hold[1] = hold[0];
    if (d->from && d->from->obj == d->file->obj) { /* one hold around both */
        hold[0].from = off < from ? off : from;
        hold[0].to = (off < from ? from : off) + len;
        hold[1] = hold[0];
    } else if (d->from) {
        hold[1] = (struct range_hold){.key = d->from->obj, .from = from, .to = from + len};
    }
    range_lock_two(&m->ranges, hold);
}

/* A change of [off, off + lock_len) of an open file on all stores. */
static int change_data(struct mirror *m, struct data_change *d, uint64_t lock_len) {
    struct journal_intent intent;
    struct range_hold hold[2];
    int err;

    d->c.m = m;
    d->c.needs_handle = is_open_on;
    d->c.tells = TELLS_DATA;
    d->c.obj = d->file->obj;
    d->c.off = (uint64_t)d->off;
    d->c.len = d->shifts ? 0 : (uint64_t)d->len;
    change_enter(m);
    err = mfile_on_all(m, d->file);
    err = err < 0 || !d->from ? err : mfile_on_all(m, d->from);
    if (err < 0) {
        gate_leave(&m->gate);
        return err;
    }
    log_bind_alone(m, d->file->obj);
    if (!(d->file->obj->flags & OBJ_NO_PRIVS) && d->cred->uid != 0) {
        rwlock_read(&m->names);
        err = drop_privileges(m, d->file->obj, d->cred);
        rwlock_read_done(&m->names);
    }
    if (err == 0) {
        ssize_t ahead[STORES_MAX];

        hold_data(m, d, lock_len, hold);
        log_change(m, &d->c, &intent);
        d->c.tells = TELLS_NOTHING; /* told already: large writes begin before mirror_change() */
        if (d->buf && d->len >= PARALLEL_BYTES && m->count > 1 && !m->low_on_space &&
            mirror_may_change(m) == 0) {
            write_ahead(m, d, ahead);
            d->c.begun = true;
            err = take_back_ahead(m, d);
            if (err < 0) {
                spoil_receiving(m);
            }
        }
        err = err < 0 ? err : mirror_change(m, &d->c);
        if (d->uneven && d->c.took != 0) { /* also if it is not acknowledged */
            level(m, d);
            spoil_receiving(m);
        } else if (err < 0 && d->partial && d->c.refused >= 0) {
            follow_refused(m, d);
        }
        journal_end(m->journal, &intent);
        range_unlock_two(&m->ranges, hold);
        atomic_store_explicit(&d->file->times_dirty, true, memory_order_relaxed);
    }
    gate_leave(&m->gate);
    return err;
}

static ssize_t write_once(struct mirror *m, struct mfile *f, const void *buf, size_t size,
                          off_t off, const struct cred *cred) {
    struct data_change d = {
        .c = {.what = "write", .apply = write_apply, .undo = data_undo, .allocates = true},
        .file = f,
        .buf = buf,
        .off = off,
        .len = (off_t)size,
        .done = size,
        .cred = cred};
    int err = change_data(m, &d, size);

    return err < 0 ? err : (ssize_t)d.done;
}

ssize_t mirror_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                     size_t size, off_t off, const struct cred *cred) {
    struct mirror *m = mirror_of(v);
    size_t done = 0;
    ssize_t n = 0;

    (void)obj;
    while (done < size) {
        n = write_once(m, mfile_of(h), (const char *)buf + done, size - done, off + (off_t)done,
                       cred);
        done += n > 0 ? (size_t)n : 0;
        if (n <= 0 || !m->policy.drop_full) { /* on-full=drop: the rest drops the full store */
            break;
        }
    }
    return done > 0 ? (ssize_t)done : n;
}

ssize_t mirror_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                    struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                    const struct cred *cred) {
    struct data_change d = {
        .c = {.what = "copy", .apply = copy_apply, .undo = data_undo, .allocates = true},
        .file = mfile_of(ht),
        .from = mfile_of(hf),
        .off = to_off,
        .from_off = from_off,
        .len = (off_t)len,
        .done = len,
        .cred = cred};
    int err;

    (void)from;
    (void)to;
    if (len == 0) {
        return 0;
    }
    err = change_data(mirror_of(v), &d, len);
    return err < 0 ? err : (ssize_t)d.done;
}

int mirror_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                     off_t len, const struct cred *cred) {
    struct data_change d = {
        .c = {.what = "fallocate", .apply = fallocate_apply, .undo = data_undo, .allocates = true},
        .file = mfile_of(h),
        .off = off,
        .len = len,
        .mode = mode,
        .cred = cred,
        .partial = (mode & ~FALLOC_FL_KEEP_SIZE) != 0,
        .shifts = (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE)) != 0};

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
        rwlock_read(&m->names);
        times_later(m, obj);
        rwlock_read_done(&m->names);
    }
    err = log_make_durable(m, obj->told_position);
    change_enter(m);
    err = err < 0 ? err : mfile_on_all(m, f);
    for (unsigned i = 0; i < m->count; i++) {
        handles[i] = mfile_handle(m, f, i);
    }
    gate_leave(&m->gate);
    return err < 0 ? err : mirror_fsync_all(m, obj, handles, data_only);
}

off_t mirror_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    struct mirror *m = mirror_of(v);
    struct mfile *f = mfile_of(h);
    off_t at;
    int i;

    MIRROR_FIRST_ANSWER (m, i, at) {
        struct vol_handle on;

        at = mfile_on(m, f, (unsigned)i, &on);
        if (at == 0) {
            at = m->member[i].vol->ops->seek(m->member[i].vol, obj, on, off, whence);
        }
    }
    return at;
}
