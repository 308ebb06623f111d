/* Each store stamps its files by itself, microseconds apart. The read store's mtime is the one that
 * counts, and is given to the others: for files when they are closed, for folders and for files
 * that were synced within DIR_TIMES_MS, so that nothing jumps at a failover and the stores compare
 * equal. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "mirror/mirror_int.h"

void times_hold(struct mirror *m, const struct obj *obj, struct range_hold *hold) {
    /* Between the bytes, which end before it, and the names of a folder, which begin behind it. */
    range_lock(&m->ranges, hold, obj, INT64_MAX, (uint64_t)INT64_MAX + 1);
}

/* Under the namespace lock (shared) and times_hold(). `f`: its open file, or NULL. */
static void equalize_held(struct mirror *m, struct obj *obj, struct mfile *f) {
    struct vol_attr set = {.set = VOL_SET_MTIME, .cred = &cred_self};
    struct stat attr;
    int i, err;

    MIRROR_FIRST_ANSWER (m, i, err) {
        struct vol *v = m->member[i].vol;
        struct vol_handle h = mfile_handle(m, f, (unsigned)i);

        err = v->ops->getattr(v, obj, h, &attr);
    }
    if (err < 0) {
        return; /* it was removed meanwhile */
    }
    set.mtime = attr.st_mtim;
    for (unsigned k = 0; k < m->count; k++) {
        struct vol *v = m->member[k].vol;
        struct vol_handle h = mfile_handle(m, f, k);

        if (k == (unsigned)i || !takes_changes(m, k)) {
            continue; /* reads may come from another store by now */
        }
        err = (int)RETRY_OWN(v->ops->setattr(v, obj, h, &set, NULL));
        if (answer_class(err) == ANSWER_DEVICE) {
            (void)member_fault(m, k, err, "setting times"); /* the last one stays as it is */
        }
    }
}

static void equalize(struct mirror *m, struct obj *obj, struct mfile *f) {
    struct range_hold hold;

    times_hold(m, obj, &hold);
    equalize_held(m, obj, f);
    range_unlock(&m->ranges, &hold);
}

void times_now(struct mirror *m, struct obj *obj, struct mfile *f) {
    struct obj_hold name = {.where.parent = NULL};
    int err = 0;

    if (m->count < 2) {
        return;
    }
    rwlock_read(&m->names); /* holds the names of folders */
    if (obj->type != DT_DIR) {
        err = hold_obj(m, obj, &name); /* else another's times could be set where it was */
    }
    if (err == 0 || f) { /* it may be open without a name */
        equalize(m, obj, f);
    }
    hold_done(m, &name);
    rwlock_read_done(&m->names);
}

/* True if the object is on the list now. */
static bool put_on_list(struct mirror *m, struct obj *obj) {
    bool on = true;

    pthread_mutex_lock(&m->times_lock);
    if (!(atomic_fetch_or(&obj->flags, OBJ_TIMES_WAIT) & OBJ_TIMES_WAIT)) {
        if (m->times_count == 0) {
            m->times_since_ms = clock_ms();
        }
        if (m->times_count < DIRTY_DIRS_MAX) {
            obj_pin(m->objs, obj);
            m->times_list[m->times_count++] = obj;
        } else {
            atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_TIMES_WAIT);
            on = false;
        }
    }
    pthread_mutex_unlock(&m->times_lock);
    return on;
}

/* Under the namespace lock (shared or alone). */
void times_later(struct mirror *m, struct obj *obj) {
    if (m->count > 1 && obj != m->snaps && !put_on_list(m, obj)) {
        equalize(m, obj, NULL);
    }
}

/* One whose times are just being made equal. A cut tells of it, too: should a store fail over it, what
 * said that it changed may be behind that store already. */
struct times_work {
    struct times_work *next; /* guarded by times_lock */
    struct obj *obj;         /* pinned; NULL: there was none */
};

static void begin_locked(struct mirror *m, struct times_work *w) {
    w->next = m->times_works;
    m->times_works = w;
}

static void take_from_list(struct mirror *m, bool all, struct times_work *w) {
    pthread_mutex_lock(&m->times_lock);
    if (m->times_count > 0 && (all || clock_ms() - m->times_since_ms >= DIR_TIMES_MS - TICK_MS)) {
        w->obj = m->times_list[--m->times_count];
        atomic_fetch_and(&w->obj->flags, (uint16_t)~OBJ_TIMES_WAIT);
        begin_locked(m, w);
    }
    pthread_mutex_unlock(&m->times_lock);
}

/* A written file that is open. */
static void take_from_files(struct mirror *m, struct times_work *w) {
    pthread_mutex_lock(&m->files_lock);
    for (struct mfile *f = m->files; f && !w->obj; f = f->next) {
        if (f->obj && f->times_dirty) {
            w->obj = f->obj;
            obj_pin(m->objs, w->obj);
            pthread_mutex_lock(&m->times_lock);
            begin_locked(m, w);
            pthread_mutex_unlock(&m->times_lock);
            atomic_store(&f->times_dirty, false);
        }
    }
    pthread_mutex_unlock(&m->files_lock);
}

/* False if nothing was taken. */
static bool do_work(struct mirror *m, struct times_work *w) {
    struct times_work **at = &m->times_works;

    if (!w->obj) {
        return false;
    }
    times_now(m, w->obj, NULL);
    pthread_mutex_lock(&m->times_lock);
    while (*at != w) {
        at = &(*at)->next;
    }
    *at = w->next;
    pthread_mutex_unlock(&m->times_lock);
    obj_unpin(m->objs, w->obj);
    return true;
}

void times_flush(struct mirror *m, bool all) {
    unsigned files = 0;
    bool more;

    do { /* writers may go on for ever */
        struct times_work w = {.obj = NULL};

        if (all && files++ < DIRTY_DIRS_MAX) {
            take_from_files(m, &w);
        }
        if (!w.obj) {
            take_from_list(m, all, &w);
        }
        more = do_work(m, &w);
    } while (more);
}

/* The objects whose times wait, or are at work, pinned; how many. The open files first: what is taken
 * from them meanwhile is seen as work. */
static unsigned waiting(struct mirror *m, bool works_only, struct obj **ret_list, unsigned max) {
    unsigned n = 0;

    pthread_mutex_lock(&m->files_lock);
    for (const struct mfile *f = works_only ? NULL : m->files; f && n < max; f = f->next) {
        if (f->times_dirty) {
            ret_list[n] = f->obj;
            obj_pin(m->objs, ret_list[n++]);
        }
    }
    pthread_mutex_unlock(&m->files_lock);
    pthread_mutex_lock(&m->times_lock);
    for (const struct times_work *w = m->times_works; w && n < max; w = w->next) {
        ret_list[n] = w->obj;
        obj_pin(m->objs, ret_list[n++]);
    }
    for (unsigned i = 0; !works_only && i < m->times_count && n < max; i++) {
        ret_list[n] = m->times_list[i];
        obj_pin(m->objs, ret_list[n++]);
    }
    pthread_mutex_unlock(&m->times_lock);
    return n;
}

static int for_waiting(struct mirror *m, bool works_only,
                       void (*fn)(struct mirror *m, struct obj *obj)) {
    enum { MAX = 8 * DIRTY_DIRS_MAX }; /* more than a process has open files */
    struct obj **list = calloc(MAX, sizeof(struct obj *));
    unsigned n = list ? waiting(m, works_only, list, MAX) : 0;

    for (unsigned i = 0; i < n; i++) {
        fn(m, list[i]);
        obj_unpin(m->objs, list[i]);
    }
    free(list);
    return list && n < MAX ? 0 : -ENOMEM;
}

static void tell(struct mirror *m, struct obj *obj) {
    gate_enter(&m->gate);
    log_attr_alone(m, obj);
    gate_leave(&m->gate);
}

int times_tell(struct mirror *m) {
    return for_waiting(m, false, tell);
}

static void make_equal(struct mirror *m, struct obj *obj) {
    times_now(m, obj, NULL);
}

int times_equal(struct mirror *m) {
    times_flush(m, true);
    return for_waiting(m, true, make_equal); /* by other threads: done when they are */
}
