/* The mirror and its journal: what is told before each change, and how it gets to the stores.
 *
 * Before a change: the files it concerns are bound (once in each epoch), then what may differ is
 * told. Afterwards: the logging thread carries frames from the ring to the journal of every ONLINE
 * store, and syncs them once a second; an fsync that a frame must precede does not wait for that.
 *
 * Checkpoint: now and then a cut begins a new epoch at position P; all stores are synced; then all
 * that was told before P is stable everywhere. P is the durable position of every ONLINE store, and
 * what is older is dropped, unless a store that is away still needs it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "mirror/mirror_int.h"
#include "store/segment.h"

enum {
    LOG_SYNC_MS = 1000,         /* frames are durable after this long */
    CHECKPOINT_MS = 30000,      /* and a checkpoint comes after this long, */
    CHECKPOINT_BYTES = 8 << 20, /* or after so many frames: they are what a new daemon reads */
    CHECKPOINT_RETRY_MS = 2000,
    TAKE_BYTES = 256 << 10,
};

/* --- telling --- */

uint64_t log_number(const struct mirror *m, const struct obj *obj) {
    return obj == obj_root(m->objs) ? JOURNAL_ROOT
           : obj == m->parked       ? JOURNAL_PARKED
           : obj == m->snaps        ? JOURNAL_SNAPS
                                    : journal_number(m->journal, obj->id);
}

/* A folder whose number everybody knows, so that it is never bound. */
static bool has_number(const struct mirror *m, const struct obj *obj) {
    return obj == obj_root(m->objs) || obj == m->parked || obj == m->snaps;
}

/* Its inodes on the ONLINE stores: remembered, or asked for. */
static void fill_inodes(struct mirror *m, struct obj *obj, const struct obj_where *where,
                        struct journal_frame *f) {
    for (unsigned i = 0; i < m->count; i++) {
        struct vol *v = m->member[i].vol;
        uint64_t ino = obj_ino_on(m->objs, obj, (uint8_t)i);
        struct vol_entry e;

        if (!is_online(m, i) || !(m->member[i].caps & STORE_STABLE_INO)) {
            continue;
        }
        /* A new file is compared as a whole where its inode is not known: not worth asking for. But in a
         * folder that nobody knows again, files would lose that some of their names are elsewhere. */
        if (ino == 0 && (!f->time_s || obj->type == DT_DIR) &&
            v->ops->lookup(v, where->parent, where->name, &e) == 0) {
            ino = e.attr.st_ino; /* a store that fails shows at the change itself */
        }
        if (ino != 0) {
            f->ino[m->member[i].slot] = ino;
            f->peers |= 1u << m->member[i].slot;
        }
    }
}

void log_takes_part(struct mirror *m, uint32_t caps) {
    if (caps & STORE_SYNCFS) {
        return;
    }
    pthread_mutex_lock(&m->touched_lock);
    if (!m->touched) {
        m->touched = calloc(TOUCHED_MAX, sizeof(struct obj *));
    }
    pthread_mutex_unlock(&m->touched_lock);
}

/* Where a store has no syncfs: remembers what the next checkpoint has to sync. */
static void touch(struct mirror *m, struct obj *obj) {
    if (!m->touched) {
        return;
    }
    pthread_mutex_lock(&m->touched_lock);
    if (m->touched_count < TOUCHED_MAX) {
        obj_pin(m->objs, obj);
        m->touched[m->touched_count++] = obj;
    } else {
        m->touched_more = true;
    }
    pthread_mutex_unlock(&m->touched_lock);
}

static void bind_one(struct mirror *m, struct obj *obj, const struct obj_where *where) {
    struct journal_frame f = {.kind = JOURNAL_BIND,
                              .number = log_number(m, obj),
                              .parent = log_number(m, where->parent),
                              .type = obj->type,
                              .linked = (obj->flags & OBJ_LINKED) != 0,
                              .time_s = obj->born_epoch == journal_epoch(m->journal)};

    name_copy(f.name, where->name);
    fill_inodes(m, obj, where, &f);
    (void)journal_append(m->journal, NULL, &f);
    obj->told_epoch = journal_epoch(m->journal);
    touch(m, obj);
}

void log_bind(struct mirror *m, struct obj *obj) {
    uint32_t epoch = journal_epoch(m->journal);

    while (!has_number(m, obj) && obj->told_epoch != epoch) {
        struct obj *top = obj;
        struct obj_where where;

        for (;;) { /* the uppermost that is not bound: folders come before what is in them */
            struct obj *parent;

            if (obj_where(m->objs, top, &where) < 0) {
                return; /* without a name: nobody can find it again */
            }
            parent = where.parent;
            if (has_number(m, parent) || parent->told_epoch == epoch) {
                break;
            }
            obj_unpin(m->objs, parent); /* a name of `top` keeps it */
            top = parent;
        }
        bind_one(m, top, &where);
        obj_unpin(m->objs, where.parent);
    }
}

void log_bind_held(struct mirror *m, struct obj *obj) {
    struct obj_hold hold;

    if (obj->told_epoch != journal_epoch(m->journal) && hold_obj(m, obj, &hold) == 0) {
        log_bind(m, obj);
        hold_done(m, &hold);
    }
}

void log_bind_alone(struct mirror *m, struct obj *obj) {
    if (obj->told_epoch != journal_epoch(m->journal)) {
        rwlock_read(&m->names);
        log_bind_held(m, obj);
        rwlock_read_done(&m->names);
    }
}

void log_attr_alone(struct mirror *m, struct obj *obj) {
    log_bind_alone(m, obj);
    (void)journal_mark_attr(m->journal, NULL, log_number(m, obj));
}

static void tell_names(struct mirror *m, const struct change *c, struct journal_intent *intent) {
    bool moves = c->obj != NULL && c->name[1].dir;
    struct journal_frame f = {.kind = moves ? JOURNAL_MOVE : JOURNAL_NAME};

    if (c->obj) {
        log_bind(m, c->obj);
    }
    if (c->other) {
        log_bind(m, c->other);
    }
    if (c->victim) {
        log_bind(m, c->victim);
    }
    for (int k = 0; k < 2 && c->name[k].dir; k++) {
        log_bind(m, c->name[k].dir);
    }
    f.parent = log_number(m, c->name[0].dir);
    name_copy(f.name, c->name[0].name);
    if (moves) {
        f.number = log_number(m, c->obj);
        f.parent2 = log_number(m, c->name[1].dir);
        name_copy(f.name2, c->name[1].name);
    }
    (void)journal_append(m->journal, intent, &f);
    if (moves && c->other) {
        struct journal_frame back = {.kind = JOURNAL_MOVE,
                                     .number = log_number(m, c->other),
                                     .parent = f.parent2,
                                     .parent2 = f.parent};

        name_copy(back.name, f.name2);
        name_copy(back.name2, f.name);
        (void)journal_append(m->journal, intent, &back);
    }
}

void log_change(struct mirror *m, const struct change *c, struct journal_intent *ret_intent) {
    uint64_t last = 0;

    ret_intent->slot = -1;
    if (c->tells == TELLS_DATA) {
        atomic_fetch_add_explicit(&m->written, c->len, memory_order_relaxed);
    }
    switch (c->tells) {
    case TELLS_NOTHING:
        return;
    case TELLS_NAMES:
        journal_begin(m->journal, ret_intent);
        tell_names(m, c, ret_intent);
        return;
    case TELLS_DATA:
        journal_begin(m->journal, ret_intent);
        last = journal_mark(m->journal, ret_intent, log_number(m, c->obj), c->off, c->len);
        break;
    case TELLS_ATTR:
        journal_begin(m->journal, ret_intent);
        log_bind(m, c->obj);
        (void)journal_mark_attr(m->journal, ret_intent, log_number(m, c->obj));
        return;
    }
    /* What was made since the last checkpoint is looked at in any case. */
    if (last != 0 && c->obj->born_epoch != journal_epoch(m->journal)) {
        atomic_store(&c->obj->told_position, last + 1);
    }
}

void log_name(struct mirror *m, struct obj *dir, const char *name) {
    struct journal_frame f = {.kind = JOURNAL_NAME};

    log_bind(m, dir);
    f.parent = log_number(m, dir);
    name_copy(f.name, name);
    (void)journal_append(m->journal, NULL, &f);
}

static void bind_at(struct mirror *m, struct obj *obj, const struct change_name *at) {
    struct obj_where where = {.parent = at->dir};

    name_copy(where.name, at->name);
    bind_one(m, obj, &where);
}

void log_refused(struct mirror *m, const struct change *c) {
    bool moves = c->obj && c->name[1].dir;
    struct obj *there = c->other ? c->other : c->victim;

    if (moves) {
        log_name(m, c->name[1].dir, c->name[1].name);
        bind_at(m, c->obj, &c->name[0]);
    }
    if (there) {
        bind_at(m, there, &c->name[moves]);
    }
}

void log_linked(struct mirror *m, struct obj *obj, struct obj *dir, const char *name) {
    bind_at(m, obj, &(struct change_name){dir, name});
}

void log_born(struct mirror *m, struct obj *obj) {
    obj->born_epoch = journal_epoch(m->journal);
}

/* --- carrying --- */

struct carry_item {
    struct work work;
    struct mirror *m;
    unsigned i;
    const uint8_t *bytes;
    uint64_t position;
    size_t n;
    bool sync;
    int err;
};

struct carry_call {
    struct store *store;
    uint8_t *bytes;
    uint64_t position;
    size_t n;
    bool sync;
};

static int carry_call(void *arg) {
    struct carry_call *c = arg;
    int err = c->n > 0 ? store_log_append(c->store, c->position, c->bytes, c->n) : 0;

    return err == 0 && c->sync ? store_log_sync(c->store) : err;
}

static void carry_run(struct work *work) {
    struct carry_item *c = (struct carry_item *)work;
    struct member *member = &c->m->member[c->i];
    uint8_t *own = malloc(c->n + 1); /* for a call that is given up */
    struct carry_call call = {member->store, own, c->position, c->n, c->sync};

    if (!own) {
        c->err = -ENOMEM;
        return;
    }
    memcpy(own, c->bytes, c->n);
    c->err = guard_call(member->guard, c->sync ? GUARD_SLOW : GUARD_CHANGE, carry_call, &call,
                        sizeof(call));
    fiber_orphan(own);
}

static void carry_failed(struct mirror *m, unsigned i, int err) {
    struct member *member = &m->member[i];

    if (atomic_load(&m->taken) ||
        (answer_class(err) == ANSWER_DEVICE && member_fault(m, i, err, "journal") == 0)) {
        return;
    }
    member->log_broken = true;
    event_post(m->events, EVENT_WARNING,
               "store \"%s\": its change journal cannot be written (%s): a store that is away now "
               "may have to be "
               "compared as a whole. Make room there",
               member->label, error_words(err));
}

/* One portion to all ONLINE stores, side by side. */
static void carry_portion(struct mirror *m, uint8_t *bytes, size_t n, bool sync) {
    struct carry_item item[STORES_MAX];
    struct join join;
    unsigned count = m->count; /* a newcomer gets the next portion */
    int mine = -1;

    join_init(&join);
    for (unsigned i = 0; i < count; i++) {
        item[i] = (struct carry_item){
            .m = m, .i = i, .bytes = bytes, .position = m->log_carried, .n = n, .sync = sync};
        if (!is_online(m, i) || m->member[i].log_broken) {
            item[i].m = NULL;
        } else if (mine < 0 || !sync) { /* writing to a page cache is not worth a hand-over */
            if (mine >= 0) {
                carry_run(&item[mine].work);
            }
            mine = (int)i;
        } else {
            work_submit(m->workers, &item[i].work, carry_run, &join);
        }
    }
    if (mine >= 0) {
        carry_run(&item[mine].work);
    }
    join_wait(&join);
    for (unsigned i = 0; i < count; i++) {
        if (item[i].m && item[i].err < 0) {
            carry_failed(m, i, item[i].err);
        }
    }
    m->log_carried += n;
}

/* Carries all there is. A store whose log has no room says so with its error; the others' count.
 * -ENOMEM. The caller holds log_lock. */
static int carry_locked(struct mirror *m, bool sync) {
    scope_free uint8_t *bytes = malloc(TAKE_BYTES);
    size_t n;

    if (!bytes) {
        return -ENOMEM;
    }
    do {
        n = journal_take(m->journal, m->log_carried, bytes, TAKE_BYTES);
        if (n > 0 || sync) {
            carry_portion(m, bytes, n, sync && n < TAKE_BYTES - JOURNAL_FRAME_BYTES_MAX);
        }
    } while (n >= TAKE_BYTES - JOURNAL_FRAME_BYTES_MAX);
    if (sync) {
        atomic_store(&m->log_durable, m->log_carried);
    }
    journal_carried(m->journal, m->log_carried);
    return 0;
}

static int carry(struct mirror *m, bool sync) {
    int err;

    rwlock_write(&m->log_lock);
    err = carry_locked(m, sync);
    rwlock_write_done(&m->log_lock);
    return err;
}

int log_make_durable(struct mirror *m, uint64_t position) {
    int err = 0;

    if (atomic_load(&m->log_durable) >= position) {
        return 0;
    }
    rwlock_write(&m->log_lock);
    if (atomic_load(&m->log_durable) < position) {
        err = carry_locked(m, true);
    }
    rwlock_write_done(&m->log_lock);
    return err;
}

uint64_t mirror_log_flush(struct mirror *m) {
    (void)carry(m, true); /* what could not be carried is not counted */
    return atomic_load(&m->log_durable);
}

/* --- checkpoints --- */

int mirror_cut(struct mirror *m, uint64_t *ret_position) {
    int err = gate_close(&m->gate, CUT_PATIENCE_MS);

    if (err == 0) {
        *ret_position = journal_cut(m->journal);
        gate_open(&m->gate);
    }
    return err;
}

/* One object on one store that has no syncfs. */
static int sync_one(struct mirror *m, unsigned i, struct obj *obj) {
    struct vol *v = m->member[i].vol;
    struct vol_handle h;
    struct obj_hold hold;
    int err;

    if (obj->type != DT_REG && obj->type != DT_DIR) {
        return 0; /* its name is its folder's */
    }
    rwlock_read(&m->names);
    err = hold_obj(m, obj, &hold);
    if (err == 0) {
        err = (int)RETRY_OWN(v->ops->open(
            v, obj, O_RDONLY | (obj->type == DT_DIR ? O_DIRECTORY : 0), &cred_self, &h));
        hold_done(m, &hold);
    }
    rwlock_read_done(&m->names);
    if (err < 0) {
        return err == -ENOENT || err == -HFE_CAPABILITY
                   ? 0
                   : err; /* removed; or has no fsync of folders */
    }
    err = v->ops->fsync(v, obj, h, false);
    (void)v->ops->close(v, obj, h); /* nothing was written through it */
    return err;
}

/* The objects that were touched before the cut, one by one. */
static void sync_singly(struct mirror *m, unsigned i, struct obj *const *list, unsigned n,
                        bool more) {
    m->member[i].unproven = m->member[i].unproven || more;
    for (unsigned k = 0; k < n && is_online(m, i); k++) {
        int err = sync_one(m, i, list[k]);

        if (err < 0 &&
            (answer_class(err) != ANSWER_DEVICE || member_fault(m, i, err, "fsync") < 0)) {
            m->member[i].unproven = true; /* it may not be opened by us, or is the last one */
        }
    }
}

/* Of the epoch that ends: what to sync one by one. */
struct touched {
    struct obj **list;
    unsigned n;
    bool more;
};

static int sync_all(struct mirror *m, const struct touched *t) {
    int err = mirror_sync_stores(m);

    for (unsigned i = 0; t->list && i < m->count; i++) {
        if (is_online(m, i) && !(m->member[i].caps & STORE_SYNCFS)) {
            sync_singly(m, i, t->list, t->n, t->more);
        }
    }
    for (unsigned k = 0; k < t->n; k++) {
        obj_unpin(m->objs, t->list[k]);
    }
    free(t->list);
    return err;
}

/* A cut that also takes what was touched before it. */
static int cut_touched(struct mirror *m, struct touched *t, uint64_t *ret_position,
                       unsigned *ret_joined) {
    struct obj **fresh = m->touched ? calloc(TOUCHED_MAX, sizeof(struct obj *)) : NULL;
    int err = m->touched && !fresh ? -ENOMEM : gate_close(&m->gate, CUT_PATIENCE_MS);

    if (err < 0) {
        free(fresh);
        return err;
    }
    *ret_position = journal_cut(m->journal);
    *ret_joined = atomic_load(&m->joined);
    pthread_mutex_lock(&m->touched_lock);
    *t = (struct touched){m->touched, m->touched_count, m->touched_more};
    m->touched = fresh;
    m->touched_count = 0;
    m->touched_more = false;
    pthread_mutex_unlock(&m->touched_lock);
    gate_open(&m->gate);
    return 0;
}

struct position_call {
    struct store *store;
    uint64_t position;
};

static int drop_call(void *arg) {
    struct position_call *c = arg;

    store_log_drop(c->store, c->position);
    return 0;
}

static int reset_call(void *arg) {
    struct position_call *c = arg;

    return store_log_reset(c->store, c->position);
}

int log_begin_anew(struct mirror *m, unsigned i) {
    struct position_call call = {m->member[i].store, m->log_carried};

    return guard_call(m->member[i].guard, GUARD_SLOW, reset_call, &call, sizeof(call));
}

/* The log may forget what no store needs. */
static void drop_old(struct mirror *m) {
    uint64_t needed = atomic_load(&m->log_stable);

    rwlock_write(&m->member_lock);
    for (uint32_t k = 0; k < m->super.member_count; k++) {
        const struct super_member *r = &m->super.member[k];

        if (r->state != MEMBER_ONLINE && r->state != MEMBER_REMOVED && r->position != 0 &&
            r->position < needed) {
            needed = r->position;
        }
    }
    for (unsigned i = 0; i < m->count; i++) {
        uint64_t from = atomic_load(&m->member[i].log_needed);

        if (from != 0 && m->log_carried - from <= JOURNAL_CAP_BYTES && from < needed) {
            needed = from;
        }
    }
    rwlock_write_done(&m->member_lock);
    for (unsigned i = 0; i < m->count; i++) {
        if (is_online(m, i) && !m->member[i].log_broken) {
            struct position_call call = {m->member[i].store, needed};

            if (guard_call(m->member[i].guard, GUARD_SLOW, drop_call, &call, sizeof(call)) < 0) {
                continue; /* at the next checkpoint */
            }
        }
    }
}

/* A log that had no room begins anew. */
static void mend_logs(struct mirror *m) {
    for (unsigned i = 0; i < m->count; i++) {
        if (is_online(m, i) && m->member[i].log_broken) {
            m->member[i].log_broken = log_begin_anew(m, i) < 0;
        }
    }
}

/* Readers of the log that fall behind the cap are cut loose. */
static void enforce_cap(struct mirror *m) {
    uint64_t end = m->log_carried;

    rwlock_write(&m->member_lock);
    for (uint32_t k = 0; k < m->super.member_count; k++) {
        struct super_member *r = &m->super.member[k];

        if (r->state != MEMBER_ONLINE && r->position != 0 &&
            end - r->position > JOURNAL_CAP_BYTES) {
            event_post(m->events, EVENT_WARNING,
                       "store \"%s\" was away for more than the change journal holds (%d MiB): it "
                       "will be compared "
                       "as a whole",
                       r->label, JOURNAL_CAP_BYTES >> 20);
            r->position = 0;
            (void)member_record_locked(m); /* says so itself */
        }
    }
    rwlock_write_done(&m->member_lock);
}

/* A frame of the logging itself: it must not wait for room that only carrying makes. */
static int append_and_carry(struct mirror *m, const struct journal_frame *f) {
    int err = 0;

    while (err == 0 && !journal_try_append(m->journal, f)) {
        err = carry(m, false);
    }
    return err;
}

int mirror_checkpoint(struct mirror *m) {
    struct journal_frame f = {.kind = JOURNAL_CHECKPOINT, .time_s = clock_real_s()};
    struct touched touched = {.list = NULL};
    uint64_t position;
    unsigned joined;
    int err, told;

    if (atomic_load(&m->unequal)) {
        return -EIO; /* what made it so must stay in the log */
    }
    times_flush(m, true);
    err = cut_touched(m, &touched, &position, &joined);
    if (err < 0) {
        return err;
    }
    told = times_tell(m); /* what waits since before the cut must not be forgotten with it */
    err = sync_all(m, &touched);
    err = err < 0 ? err : told;
    if (err < 0 || joined != atomic_load(&m->joined)) {
        return err < 0 ? err : -EAGAIN; /* a store that joined meanwhile was not synced */
    }
    f.off = position;
    err = append_and_carry(m, &f);
    if (err < 0) {
        return err;
    }
    rwlock_write(&m->log_lock);
    mend_logs(m);
    err = carry_locked(m, true);
    m->checkpoint_end = m->log_carried;
    rwlock_write_done(&m->log_lock);
    if (err < 0) {
        return err;
    }
    atomic_store(&m->log_stable, position);
    mirror_end_exact(m, joined);
    enforce_cap(m);
    drop_old(m);
    return 0;
}

void mirror_log_carry(struct mirror *m) {
    (void)carry(m, false); /* else at the next tick */
}

void mirror_log_tick(struct mirror *m) {
    int64_t now = clock_ms();
    uint64_t position = journal_position(m->journal);
    bool sync = now - m->log_synced_ms >= LOG_SYNC_MS && position > atomic_load(&m->log_durable);
    uint64_t since = position - atomic_load(&m->log_stable);

    if (carry(m, sync) == 0 && sync) {
        m->log_synced_ms = now;
    }
    if (position != m->checkpoint_end &&
        (since >= CHECKPOINT_BYTES || now - m->checkpoint_ms >= CHECKPOINT_MS ||
         atomic_load(&m->checkpoint_now))) {
        atomic_store(&m->checkpoint_now, false);
        m->checkpoint_ms =
            mirror_checkpoint(m) == 0 ? now : now - CHECKPOINT_MS + CHECKPOINT_RETRY_MS;
    }
}
