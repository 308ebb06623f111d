/* Bytes and entries of snapshots. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "snap/view_int.h"

enum { LISTED_AT_ONCE = 4 /* tries to list a folder, before names stand still for it */ };

/* An open file of a snapshot. */
struct vfile {
    uint64_t size;
    struct rwlock lock; /* one reads at a time */
    /* guarded by lock */
    struct obj *live; /* of which the handle is; counted */
    struct vol_handle h;
    uint32_t log_epoch; /* of the log that was read last */
    struct snap_file log;
    uint64_t kept_number; /* of the kept file that was read last */
    struct snap_file kept;
};

static struct vfile *vfile_of(struct vol_handle h) {
    return (struct vfile *)(uintptr_t)h.v;
}

int view_open(struct snap *s, struct obj *obj, int flags, struct vol_handle *ret_handle) {
    struct vfile *f;
    struct stat st;
    int err;

    if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)) {
        return -EROFS;
    }
    err = view_getattr(s, obj, &st);
    if (err < 0) {
        return err;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        return -ENOMEM;
    }
    f->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    f->h = VOL_NO_HANDLE;
    rwlock_init(&f->lock);
    ret_handle->v = (uint64_t)(uintptr_t)f;
    return 0;
}

static void close_live(struct snap *s, struct vfile *f) {
    if (f->live) {
        (void)s->next->ops->close(s->next, f->live, f->h); /* only read */
        snap_forget(s, f->live);
        f->live = NULL;
    }
}

int view_close(struct snap *s, struct obj *obj, struct vol_handle h) {
    struct vfile *f = vfile_of(h);

    (void)obj;
    close_live(s, f);
    snap_file_close(s, &f->log);
    snap_file_close(s, &f->kept);
    rwlock_release(&f->lock);
    free(f);
    return 0;
}

/* --- where bytes are --- */

/* One stretch of a file of a snapshot, all of which lies in one place. */
struct stretch {
    uint64_t from, to;
    bool kept;
    struct snap_extent extent; /* if it is kept */
};

static int stretch_in(const struct snap_node *n, struct stretch *st) {
    const struct snap_extent *e = n ? snap_extent(n, st->from, st->to) : NULL;

    st->kept = e && e->off <= st->from;
    if (st->kept) {
        st->extent = *e;
        st->to = e->off + e->len < st->to ? e->off + e->len : st->to;
    } else if (e) {
        st->to = e->off;
    }
    return 0;
}

static int stretch_current(void *arg, const struct snap_node *n) {
    return stretch_in(n, arg);
}

/* The stretch that begins at st->from, up to st->to at most. */
static int find_stretch(struct snap *s, const struct vref *ref, struct stretch *st) {
    (void)stretch_in(ref->node, st); /* returns 0 */
    return st->kept ? 0 : vref_current(s, ref, stretch_current, st);
}

/* --- reading them --- */

static int open_log(struct snap *s, struct vfile *f, uint32_t epoch) {
    char name[NAME_BYTES];

    if (f->log.obj && f->log_epoch == epoch) {
        return 0;
    }
    snap_file_close(s, &f->log);
    snap_log_name(epoch, name);
    f->log_epoch = epoch;
    return snap_file_open(s, s->folder, name, O_RDONLY, &f->log);
}

static int open_kept(struct snap *s, struct vfile *f, uint64_t number) {
    char name[NAME_BYTES];

    if (f->kept.obj && f->kept_number == number) {
        return 0;
    }
    snap_file_close(s, &f->kept);
    snap_kept_name(number, name);
    f->kept_number = number;
    return snap_file_open(s, s->kept, name, O_RDONLY, &f->kept);
}

static int open_live(struct snap *s, struct vfile *f, struct obj *live) {
    struct obj_where where;
    int err;

    if (f->live == live) {
        return 0;
    }
    close_live(s, f);
    err = s->next->ops->open(s->next, live, O_RDONLY, &cred_self, &f->h);
    if (err == -ENOENT || err == -ESTALE) {
        return -EAGAIN;
    }
    if (err < 0) {
        return err;
    }
    /* One more count, by any of its names: the object stays as long as the handle. */
    err = obj_where(s->objs, live, &where);
    if (err == 0) {
        struct vol_entry e;

        err = s->next->ops->lookup(s->next, where.parent, where.name, &e);
        obj_unpin(s->objs, where.parent);
        if (err == 0 && e.obj != live) {
            snap_forget(s, e.obj);
            err = -EAGAIN;
        }
    }
    if (err < 0) {
        (void)s->next->ops->close(s->next, live, f->h);
        return err == -ENOENT ? -EAGAIN : err;
    }
    f->live = live;
    return 0;
}

/* Bytes that lie in a log: the whole record is read, so that its checksum can be told. */
static int read_data(struct snap *s, struct vfile *f, const struct stretch *st, uint8_t *to) {
    const struct snap_extent *e = &st->extent;
    uint8_t *whole = NULL;
    size_t n = 0;
    int err;

    if (e->where == s->epoch) {
        gate_enter(&s->gate);
        err = log_flush(s);
        gate_leave(&s->gate);
        if (err < 0) {
            return err;
        }
    }
    err = open_log(s, f, (uint32_t)e->where);
    err = err < 0 ? err
                  : snap_read(s, f->log.obj, f->log.h, e->whole_where, e->whole_len, &whole, &n);
    if (err == 0 && (n < e->whole_len || snap_sum(whole, n) != e->sum)) {
        err = -EIO;
    }
    if (err == 0) {
        memcpy(to, whole + (st->from - e->whole_off), st->to - st->from);
    }
    free(whole);
    return err;
}

/* Straight into the caller's memory. */
static int read_plain(struct snap *s, struct obj *obj, struct vol_handle h,
                      const struct stretch *st, bool whole, uint8_t *to) {
    size_t len = st->to - st->from, got = 0;
    ssize_t n = 1;

    while (got < len && n > 0) {
        size_t part = len - got < IO_BYTES_MAX ? len - got : IO_BYTES_MAX;

        n = s->next->ops->read(s->next, obj, h, to + got, part, (off_t)(st->from + got));
        got += n > 0 ? (size_t)n : 0;
    }
    memset(to + got, 0, len - got);
    return n < 0 ? (int)n : whole && got < len ? -EIO : 0;
}

static int read_stretch(struct snap *s, struct vfile *f, const struct vref *ref, struct stretch *st,
                        uint8_t *to) {
    struct stretch again = *st;
    int err;

    if (st->kept && st->extent.kind == SNAP_ZERO) {
        memset(to, 0, st->to - st->from);
        return 0;
    }
    if (st->kept && st->extent.kind == SNAP_DROPPED) {
        return -ENODATA; /* a bookmark knows that they changed, and no more */
    }
    if (st->kept && st->extent.kind == SNAP_DATA) {
        return read_data(s, f, st, to);
    }
    if (st->kept) {
        err = open_kept(s, f, st->extent.where);
        return err < 0 ? err : read_plain(s, f->kept.obj, f->kept.h, st, true, to);
    }
    if (!ref->live) {
        return -EIO;
    }
    err = open_live(s, f, ref->live);
    err = err < 0 ? err : read_plain(s, f->live, f->h, st, false, to);
    if (err == 0) { /* was it overwritten while it was read? Then it is kept now */
        err = find_stretch(s, ref, &again);
        err = err == 0 && (again.kept || again.to != st->to) ? -EAGAIN : err;
    }
    return err;
}

static int read_once(struct snap *s, struct obj *obj, struct vfile *f, uint8_t *buf, uint64_t from,
                     uint64_t to) {
    struct vnode *n;
    uint64_t generation;
    int err = view_enter(s, obj, &n, &generation);

    if (err < 0) {
        return err;
    }
    for (uint64_t at = from; at < to && err == 0;) {
        struct stretch st = {.from = at, .to = to};

        err = find_stretch(s, &n->ref, &st);
        err = err < 0 ? err : read_stretch(s, f, &n->ref, &st, buf + (at - from));
        at = err == 0 ? st.to : at;
    }
    if (view_moved_on(s, generation) && err != -ESTALE) {
        err = -EAGAIN;
    }
    view_leave(s);
    return err;
}

ssize_t view_read(struct snap *s, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                  off_t off) {
    struct vfile *f = vfile_of(h);
    uint64_t from = (uint64_t)off, to = from + size < f->size ? from + size : f->size;
    int err = -EAGAIN;

    if (from >= to) {
        return 0;
    }
    rwlock_write(&f->lock);
    for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) {
        err = read_once(s, obj, f, buf, from, to);
    }
    rwlock_write_done(&f->lock);
    return err == -EAGAIN ? -EIO : err < 0 ? err : (ssize_t)(to - from);
}

/* --- data and holes --- */

/* The first position in the stretch that is data (or a hole); st->to if there is none. */
static off_t seek_stretch(struct snap *s, struct vfile *f, const struct vref *ref,
                          const struct stretch *st, int whence) {
    off_t at;
    int err;

    if (st->kept) {
        return (off_t)((st->extent.kind == SNAP_ZERO) == (whence == SEEK_HOLE) ? st->from : st->to);
    }
    err = ref->live ? open_live(s, f, ref->live) : -EIO;
    if (err < 0) {
        return err;
    }
    at = s->next->ops->seek(s->next, f->live, f->h, (off_t)st->from, whence);
    if (at == -ENXIO) {
        at = whence == SEEK_HOLE ? (off_t)st->from : (off_t)st->to;
    }
    return at < 0 || (uint64_t)at < st->to ? at : (off_t)st->to;
}

static off_t seek_once(struct snap *s, struct obj *obj, struct vfile *f, uint64_t from,
                       int whence) {
    struct vnode *n;
    uint64_t generation, at = from;
    off_t found = -ENXIO;
    int err = view_enter(s, obj, &n, &generation);

    if (err < 0) {
        return err;
    }
    while (err == 0 && at < f->size && found == -ENXIO) {
        struct stretch st = {.from = at, .to = f->size};

        err = find_stretch(s, &n->ref, &st);
        if (err == 0) {
            off_t there = seek_stretch(s, f, &n->ref, &st, whence);

            err = there < 0 ? (int)there : 0;
            found = there >= 0 && (uint64_t)there < st.to ? there : -ENXIO;
        }
        at = st.to;
    }
    err = err == 0 && view_moved_on(s, generation) ? -EAGAIN : err;
    view_leave(s);
    return err < 0 ? err : found == -ENXIO && whence == SEEK_HOLE ? (off_t)f->size : found;
}

off_t view_seek(struct snap *s, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    struct vfile *f = vfile_of(h);
    off_t at = -EAGAIN;

    if (whence != SEEK_DATA && whence != SEEK_HOLE) {
        return -EINVAL;
    }
    if (off < 0 || (uint64_t)off >= f->size) {
        return -ENXIO;
    }
    rwlock_write(&f->lock);
    for (struct tries t = {.n = 0}; view_try(s, &t, at == -EAGAIN);) {
        at = seek_once(s, obj, f, (uint64_t)off, whence);
    }
    rwlock_write_done(&f->lock);
    return at == -EAGAIN ? -EIO : at;
}

/* --- entries --- */

struct entry {
    uint64_t ino;
    uint8_t type;
    UT_hash_handle hh;
    char name[];
};

/* A folder's entries, as they were when reading began. */
struct vstream {
    struct entry *all; /* by name */
    struct entry **list;
    unsigned n;
};

static void free_entries(struct vstream *d) {
    struct entry *e, *next;

    HASH_ITER(hh, d->all, e, next) {
        HASH_DEL(d->all, e);
        free(e);
    }
    free(d->list);
    d->list = NULL;
    d->n = 0;
}

static int put_entry(struct vstream *d, const char *name, uint64_t ino, uint8_t type) {
    size_t len = strlen(name);
    struct entry *e;

    HASH_FIND(hh, d->all, name, len, e);
    if (e) {
        return 0;
    }
    e = malloc(sizeof(*e) + len + 1);
    if (!e) {
        return -ENOMEM;
    }
    e->ino = ino;
    e->type = type;
    memcpy(e->name, name, len + 1);
    HASH_ADD_KEYPTR(hh, d->all, e->name, len, e);
    return 0;
}

static void take_entry(struct vstream *d, const char *name) {
    struct entry *e;

    HASH_FIND(hh, d->all, name, strlen(name), e);
    if (e) {
        HASH_DEL(d->all, e);
        free(e);
    }
}

/* One level's view of the folder: what its table says is not what it was goes, what was comes. */
static int apply_level(struct vstream *d, const struct snap_node *n) {
    int err = 0;

    if (!n) {
        return 0;
    }
    if (n->id > SNAP_KEPT && !n->names[SNAP_LIVE]) {
        free_entries(d); /* of what is at the end, nothing is in it */
    }
    for (const struct snap_name *m = n->in[SNAP_LIVE]; m; m = m->in) {
        take_entry(d, m->text);
    }
    for (const struct snap_name *m = n->in[SNAP_OLD]; m; m = m->in) {
        take_entry(d, m->text);
    }
    for (const struct snap_name *m = n->in[SNAP_OLD]; m && err == 0; m = m->in) {
        err = put_entry(d, m->text, m->node->id, m->node->type);
    }
    return err;
}

struct current_level {
    struct snap *s;
    struct vstream *d;
    bool gone;        /* the folder could not be listed: it is no more */
    uint32_t changes; /* of names in it, when it was about to be listed */
};

static int count_changes(void *arg, const struct snap_node *n) {
    struct current_level *l = arg;

    l->changes = n ? n->in_changes : 0;
    return n && is_moving_locked(l->s, n, NULL) ? -EAGAIN : 0;
}

static int apply_current(void *arg, const struct snap_node *n) {
    struct current_level *l = arg;

    return (n ? n->in_changes : 0) != l->changes || (l->gone && (!n || n->names[SNAP_LIVE]))
               ? -EAGAIN
               : apply_level(l->d, n);
}

struct listing {
    struct vstream *d;
    int err;
};

static bool add_live(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    struct listing *l = arg;

    (void)next;
    if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
        l->err = put_entry(l->d, name, ino, type);
    }
    return l->err == 0;
}

static int list_live(struct snap *s, struct obj *live, struct vstream *d) {
    struct listing l = {.d = d};
    struct vol_handle h;
    int err = s->next->ops->opendir(s->next, live, &h);

    if (err < 0) {
        return err;
    }
    err = s->next->ops->readdir(s->next, live, h, 0, add_live, &l);
    (void)s->next->ops->closedir(s->next, live, h); /* only read */
    return err < 0 ? err : l.err;
}

/* The folder at the end of the last epoch that is over. -EAGAIN if it changed while it was listed. */
static int list_current(struct snap *s, const struct vref *ref, struct vstream *d) {
    struct current_level l = {.s = s, .d = d};
    int err = vref_current(s, ref, count_changes, &l);

    err = err < 0 ? err : ref->live ? list_live(s, ref->live, d) : 0;
    l.gone = err == -ENOENT || err == -ESTALE;
    return err < 0 && !l.gone ? err : vref_current(s, ref, apply_current, &l);
}

static int list_tree(struct snap *s, struct obj *dir, struct vstream *d, bool alone) {
    struct vnode *n;
    uint64_t generation;
    int err = view_enter(s, dir, &n, &generation);

    if (err < 0) {
        return err;
    }
    if (alone) {
        rwlock_write(&s->listing);
    }
    /* A folder that is somewhere else at the end of an epoch is the same folder: its table's node
     * stands for both ends. */
    err = list_current(s, &n->ref, d);
    if (alone) {
        rwlock_write_done(&s->listing);
    }
    err = err < 0 ? err : apply_level(d, n->ref.node);
    err = err == 0 && view_moved_on(s, generation) ? -EAGAIN : err;
    view_leave(s);
    return err;
}

static int list_snapshots(struct snap *s, struct vstream *d) {
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < s->entry_count && err == 0; i++) {
        const struct snap_entry *e = &s->entries[i];
        char name[NAME_BYTES];

        (void)snprintf(name, sizeof(name), "%s%s", e->name, snap_tail(e));
        err = put_entry(d, name, view_number(e->epoch, 0), DT_DIR);
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

static int by_name(const void *a, const void *b) {
    const struct entry *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

/* Sorted, as the kernel keeps parts of what it read: an entry must be at the same position whenever the
 * folder is opened, wherever it was found. */
static int fill_stream(struct snap *s, struct obj *dir, struct vstream *d) {
    struct entry *e, *next;
    int err = -EAGAIN;

    for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) {
        free_entries(d);
        switch (vnode_of(dir)->kind) {
        case VNODE_TOP:
            err = put_entry(d, SNAP_VIEWS_FOLDER, 2, DT_DIR);
            break;
        case VNODE_LIST:
            err = list_snapshots(s, d);
            break;
        default:
            err = list_tree(s, dir, d, t.n > LISTED_AT_ONCE);
            break;
        }
    }
    err = err < 0 ? err : put_entry(d, ".", 1, DT_DIR);
    err = err < 0 ? err : put_entry(d, "..", 1, DT_DIR);
    if (err < 0) {
        return err == -EAGAIN ? -EIO : err;
    }
    d->list = calloc(HASH_COUNT(d->all), sizeof(struct entry *));
    if (!d->list) {
        return -ENOMEM;
    }
    HASH_ITER(hh, d->all, e, next) {
        d->list[d->n++] = e;
    }
    qsort(d->list, d->n, sizeof(*d->list), by_name);
    return 0;
}

int view_opendir(struct snap *s, struct obj *dir, struct vol_handle *ret_handle) {
    struct vstream *d = calloc(1, sizeof(*d));

    (void)s;
    (void)dir;
    if (!d) {
        return -ENOMEM;
    }
    ret_handle->v = (uint64_t)(uintptr_t)d;
    return 0;
}

int view_readdir(struct snap *s, struct obj *dir, struct vol_handle h, uint64_t pos,
                 vol_dirent_fn *fill, void *arg) {
    struct vstream *d = (struct vstream *)(uintptr_t)h.v;

    if (pos == 0 || !d->list) {
        int err = fill_stream(s, dir, d);

        if (err < 0) {
            return err;
        }
    }
    for (uint64_t i = pos; fill && i < d->n; i++) {
        if (!fill(arg, d->list[i]->name, d->list[i]->ino, d->list[i]->type, i + 1)) {
            break;
        }
    }
    return 0;
}

int view_closedir(struct snap *s, struct obj *dir, struct vol_handle h) {
    struct vstream *d = (struct vstream *)(uintptr_t)h.v;

    (void)s;
    (void)dir;
    free_entries(d);
    free(d);
    return 0;
}
