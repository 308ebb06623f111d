/* Handles. A file that is only read is opened on the read store alone, and on another one when that
 * fails; a file that may be written is opened on all. An open file keeps a name on every store (its
 * own, or one in .holdfast/open), so a handle can always be had again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "mirror/mirror_int.h"

struct mfile *mfile_new(struct obj *obj, int flags) {
    struct mfile *f = calloc(1, sizeof(*f));

    if (f) {
        f->obj = obj;
        f->flags = flags & ~O_TRUNC;
        f->writable = (flags & O_ACCMODE) != O_RDONLY;
        for (int i = 0; i < STORES_MAX; i++) {
            atomic_init(&f->handle[i], UINT64_MAX);
        }
    }
    return f;
}

void mfile_list(struct mirror *m, struct mfile *f) {
    pthread_mutex_lock(&m->files_lock);
    f->next = m->files;
    f->at = &m->files;
    if (f->next) {
        f->next->at = &f->next;
    }
    m->files = f;
    pthread_mutex_unlock(&m->files_lock);
}

static void unlist(struct mirror *m, struct mfile *f) {
    pthread_mutex_lock(&m->files_lock);
    if (f->at) {
        *f->at = f->next;
        if (f->next) {
            f->next->at = f->at;
        }
        f->at = NULL;
    }
    pthread_mutex_unlock(&m->files_lock);
}

void mfile_close_handles(struct mirror *m, struct mfile *f) {
    for (unsigned i = 0; i < m->count; i++) {
        struct vol_handle h = {atomic_load(&f->handle[i])};

        if (vol_have(h)) {
            int err = m->member[i].vol->ops->close(m->member[i].vol, f->obj, h);

            /* NFS, CIFS and sshfs tell here that a write was lost. */
            if (err < 0 && f->writable && is_online(m, i) && member_fault(m, i, err, "close") < 0) {
                m->unequal = true;
            }
        }
    }
}

int mfile_on(struct mirror *m, struct mfile *f, unsigned i, struct vol_handle *ret_handle) {
    struct vol_handle h = mfile_handle(m, f, i);
    struct obj_hold hold;
    int err = 0;

    if (vol_have(h)) {
        *ret_handle = h;
        return 0;
    }
    rwlock_read(&m->names);
    err = hold_obj(m, f->obj, &hold);
    if (err == 0) {
        uint64_t before = atomic_load(&f->handle[i]);

        h = mfile_handle(m, f, i);
        if (!vol_have(h)) {
            struct vol *v = m->member[i].vol;

            err = (int)RETRY_OWN(v->ops->open(v, f->obj, f->flags, &cred_self, &h));
            if (err == 0 && !atomic_compare_exchange_strong(&f->handle[i], &before, h.v)) {
                (void)v->ops->close(v, f->obj, h); /* the root is not held: another was faster */
                h = mfile_handle(m, f, i);
            }
        }
        hold_done(m, &hold);
    }
    rwlock_read_done(&m->names);
    if (err == 0) {
        *ret_handle = h;
    }
    return err;
}

int mfile_on_all(struct mirror *m, struct mfile *f) {
    for (unsigned i = 0; i < m->count; i++) {
        struct vol_handle h;
        int err = takes_changes(m, i) ? mfile_on(m, f, i, &h) : 0;

        if (err < 0 && !is_online(m, i)) {
            member_spoil(m, i, "open", err);
            err = 0;
        }
        if (answer_class(err) == ANSWER_DEVICE) {
            err = member_fault(m, i, err, "open") < 0 ? err : 0;
        }
        if (err < 0 && err != -HFE_CAPABILITY) {
            return err;
        }
    }
    return 0;
}

struct open_change {
    struct change c;
    struct obj *obj;
    struct mfile *file;
    int flags;
    const struct cred *cred;
};

static int open_apply(struct change *c, struct vol *v, unsigned i) {
    struct open_change *oc = (struct open_change *)c;
    struct vol_handle h;
    int err = v->ops->open(v, oc->obj, oc->flags, oc->cred, &h);

    if (err == 0) {
        atomic_store(&oc->file->handle[i], h.v);
    }
    return err;
}

/* A handle that was opened is closed with the others when the open fails. */
static int open_undo(struct change *c, unsigned i) {
    (void)c;
    (void)i;
    return 0;
}

/* Holds all bytes: truncating changes them, and a store that lacks the file gets a copy of it. No
 * write may pass between two stores meanwhile. */
static int open_all(struct mirror *m, struct open_change *oc, const struct obj_hold *name) {
    struct range_hold hold;
    int err;

    if (name->where.parent) {
        oc->c.name[0] = (struct change_name){name->where.parent, name->where.name};
    }
    if (oc->flags & O_TRUNC) {
        oc->file->times_dirty = true;
        log_bind(m, oc->obj);
        oc->c.tells = TELLS_DATA;
        oc->c.obj = oc->obj;
    }
    range_lock(&m->ranges, &hold, oc->obj, 0, INT64_MAX);
    err = mirror_change(m, &oc->c);
    range_unlock(&m->ranges, &hold);
    return err;
}

static int open_reader(struct mirror *m, struct open_change *oc) {
    int i, err;

    MIRROR_FIRST_ANSWER (m, i, err) {
        err = open_apply(&oc->c, m->member[i].vol, (unsigned)i);
    }
    return err == -HFE_CAPABILITY ? 0 : err; /* a folder that cannot be synced there */
}

static int open_held(struct mirror *m, struct open_change *oc) {
    struct obj_hold hold;
    int err = oc->flags & O_TRUNC ? drop_privileges(m, oc->obj, oc->cred) : 0;

    err = err < 0 ? err : hold_obj(m, oc->obj, &hold);
    if (err < 0) {
        return err;
    }
    (void)obj_opened(m->objs, oc->obj); /* from here on an unlink parks it */
    err = oc->file->writable || (oc->flags & O_TRUNC) ? open_all(m, oc, &hold) : open_reader(m, oc);
    if (err < 0) {
        (void)obj_closed(m->objs, oc->obj);
    }
    hold_done(m, &hold);
    return err;
}

int mirror_open(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                struct vol_handle *ret_handle) {
    struct mirror *m = mirror_of(v);
    struct open_change oc = {.c = {.what = "open", .apply = open_apply, .undo = open_undo},
                             .obj = obj,
                             .file = mfile_new(obj, flags),
                             .flags = flags,
                             .cred = cred};
    int err;

    if (!oc.file) {
        return -ENOMEM;
    }
    gate_enter(&m->gate);
    rwlock_read(&m->names);
    err = open_held(m, &oc);
    rwlock_read_done(&m->names);
    if (err == 0) {
        mfile_list(m, oc.file); /* before a cut asks whose times wait */
    }
    gate_leave(&m->gate);
    if (err < 0) {
        mfile_close_handles(m, oc.file);
        free(oc.file);
        return err;
    }
    ret_handle->v = (uint64_t)(uintptr_t)oc.file;
    return 0;
}

void unpark_if_closed(struct mirror *m, struct obj *obj) {
    struct vol_entry last;
    char name[NAME_BYTES];
    struct vol *reader;
    bool known;

    if ((obj->flags & (OBJ_PARKED | OBJ_LINGERS)) != OBJ_PARKED ||
        obj_open_count(m->objs, obj) > 0) {
        return;
    }
    parked_name(obj, name);
    reader = m->member[reader_first(m)].vol;
    known = reader->ops->lookup(reader, m->parked, name, &last) == 0; /* for those who still ask */
    log_name(m, m->parked, name);
    for (unsigned i = 0; i < m->count; i++) {
        struct vol *v = m->member[i].vol;
        int err = takes_changes(m, i) ? (int)RETRY_OWN(v->ops->unlink(v, m->parked, name)) : 0;

        if (answer_class(err) == ANSWER_DEVICE) {
            (void)member_fault(m, i, err, "unlink"); /* the last one: the next mount clears it */
        }
    }
    obj_name_gone(m->objs, m->parked, name, known ? &last.attr : NULL);
    atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_PARKED);
}

static void unpark_alone(struct mirror *m, struct obj *obj) {
    gate_enter(&m->gate);
    rwlock_read(&m->names);
    unpark_if_closed(m, obj);
    rwlock_read_done(&m->names);
    gate_leave(&m->gate);
}

void linger(struct mirror *m, struct obj *obj) {
    bool room;

    pthread_mutex_lock(&m->linger_lock);
    room = m->linger_count < LINGER_MAX;
    if (room) {
        obj_pin(m->objs, obj);
        m->linger[(m->linger_first + m->linger_count++) % LINGER_MAX] =
            (struct lingering){obj, clock_ms()};
    }
    pthread_mutex_unlock(&m->linger_lock);
    if (!room) {
        atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_LINGERS);
        unpark_if_closed(m, obj);
    }
}

/* The oldest one, if its time is over. */
static struct obj *linger_take(struct mirror *m, bool all) {
    const struct lingering *l;
    struct obj *obj = NULL;

    pthread_mutex_lock(&m->linger_lock);
    l = &m->linger[m->linger_first];
    if (m->linger_count > 0 && (all || clock_ms() - l->since_ms >= LINGER_MS)) {
        obj = l->obj;
        m->linger_first = (m->linger_first + 1) % LINGER_MAX;
        m->linger_count--;
    }
    pthread_mutex_unlock(&m->linger_lock);
    return obj;
}

void linger_flush(struct mirror *m, bool all) {
    struct obj *obj;

    while ((obj = linger_take(m, all))) {
        atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_LINGERS);
        unpark_alone(m, obj);
        obj_unpin(m->objs, obj);
    }
}

int mirror_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    struct mirror *m = mirror_of(v);
    struct mfile *f = mfile_of(h);

    if (f->times_dirty) {
        times_now(m, obj, f);
    }
    unlist(m, f);
    mfile_close_handles(m, f);
    free(f);
    obj_pin(m->objs, obj);
    if (obj_closed(m->objs, obj) == 0 && (obj->flags & OBJ_PARKED)) { /* a look before the locks */
        unpark_alone(m, obj);
    }
    obj_unpin(m->objs, obj);
    return 0;
}

/* An open folder: a stream of the read store's, or of the next one when reading starts anew. */
struct mfolder {
    unsigned member;
    struct vol_handle handle;
};

int mirror_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle) {
    struct mfolder *d = calloc(1, sizeof(*d));

    (void)v;
    (void)dir;
    if (!d) {
        return -ENOMEM;
    }
    d->handle = VOL_NO_HANDLE;
    ret_handle->v = (uint64_t)(uintptr_t)d;
    return 0;
}

static void folder_close(struct mirror *m, struct obj *dir, struct mfolder *d) {
    if (vol_have(d->handle)) {
        struct vol *v = m->member[d->member].vol;

        (void)v->ops->closedir(v, dir, d->handle); /* frees memory */
        d->handle = VOL_NO_HANDLE;
    }
}

struct fill_filter {
    struct mirror *m;
    struct obj *dir;
    unsigned member;
    vol_dirent_fn *fill;
    void *arg;
};

/* Hides what is ours, and shows the number that lookup would show. */
static bool filter(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    struct fill_filter *ff = arg;
    struct mirror *m = ff->m;

    if (is_ours(m, ff->dir, name)) {
        return true;
    }
    if (atomic_load_explicit(&m->renumbered, memory_order_relaxed)) {
        struct obj *known = obj_find(m->objs, ff->dir, name);

        ino = known ? obj_number(known) : ino ^ (uint64_t)ff->member << 56;
        obj_unpin(m->objs, known);
    }
    return ff->fill(ff->arg, name, ino, type, next);
}

static int read_stream(struct mirror *m, struct obj *dir, struct mfolder *d, uint64_t pos,
                       struct fill_filter *ff) {
    struct vol *v;

    if (pos == 0 && vol_have(d->handle) && d->member != (unsigned)reader_first(m)) {
        folder_close(m, dir, d);
    }
    if (!vol_have(d->handle)) {
        int err;

        d->member = (unsigned)reader_first(m);
        v = m->member[d->member].vol;
        err = v->ops->opendir(v, dir, &d->handle);
        if (err < 0) {
            return err;
        }
    }
    v = m->member[d->member].vol;
    ff->member = d->member;
    return v->ops->readdir(v, dir, d->handle, pos, filter, ff);
}

int mirror_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                   vol_dirent_fn *fill, void *arg) {
    struct mirror *m = mirror_of(v);
    struct mfolder *d = (struct mfolder *)(uintptr_t)h.v;
    struct fill_filter ff = {.m = m, .dir = dir, .fill = fill, .arg = arg};
    int err;

    rwlock_read(&m->names);
    do { /* from the start, another store may be asked; later entries are in memory already */
        err = (int)RETRY_OWN(read_stream(m, dir, d, pos, &ff));
    } while (pos == 0 && answer_class(err) == ANSWER_DEVICE &&
             reader_failed(m, d->member, err) == 0);
    rwlock_read_done(&m->names);
    return err;
}

int mirror_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
    struct mfolder *d = (struct mfolder *)(uintptr_t)h.v;

    folder_close(mirror_of(v), dir, d);
    free(d);
    return 0;
}
