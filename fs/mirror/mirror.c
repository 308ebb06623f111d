#include "mirror/mirror.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "mirror/mirror_int.h"

enum {
    SPACE_CHECK_MS = 1000,
    LOW_SPACE_BYTES = 256 << 20, /* below this the fullest store is asked first */
};

struct mirror *mirror_of(struct vol *vol) {
    return (struct mirror *)vol;
}

struct obj_table *mirror_objects(struct mirror *m) {
    return m->objs;
}

unsigned mirror_count(const struct mirror *m) {
    return m->count;
}

bool mirror_stuck(const struct mirror *m) {
    bool stuck = atomic_load(&m->losing) > 0;

    for (unsigned i = 0; i < m->count; i++) {
        stuck = stuck || guard_calls(m->member[i].guard) > 0;
    }
    return stuck;
}

void mirror_set_min_stores(struct mirror *m, unsigned min_stores) {
    m->min_stores = min_stores > 0 ? min_stores : 1;
}

void mirror_unlock_stores(struct mirror *m) {
    for (unsigned i = 0; i < m->count; i++) {
        const struct member *member = &m->member[i];
        unsigned uses = guard_uses(member->guard);
        /* a comparison may repair it; a catch-up that did not end writes to it without calls of the guard */
        bool written = (uses > 0 && atomic_load(&m->compare.runs)) ||
                       (!is_online(m, i) && atomic_load(&member->state) != MEMBER_STALE);

        if (member->store && guard_calls(member->guard) == uses && !written) {
            store_unlock(member->store);
        }
    }
}

static void mirror_free(struct vol *v) {
    struct mirror *m = mirror_of(v);

    workers_free(m->workers);
    for (unsigned i = 0; i < STORES_MAX; i++) {
        guard_free(m->member[i].guard);
    }
    obj_table_free(m->objs);
    rangelock_release(&m->ranges);
    rwlock_release(&m->names);
    gate_release(&m->gate);
    rwlock_release(&m->member_lock);
    pthread_mutex_destroy(&m->status_lock);
    pthread_mutex_destroy(&m->times_lock);
    pthread_mutex_destroy(&m->linger_lock);
    pthread_mutex_destroy(&m->files_lock);
    pthread_mutex_destroy(&m->touched_lock);
    rwlock_release(&m->log_lock);
    if (m->stopped && m->unequal) {
        journal_spoil(m->journal);
    }
    journal_close(m->journal, m->super.clean);
    free(m->touched);
    free(m);
}

static int op_may_change(struct vol *v) {
    return mirror_may_change(mirror_of(v));
}

static bool op_listings_last(struct vol *v) {
    struct mirror *m = mirror_of(v);
    unsigned reader = atomic_load_explicit(&m->reader, memory_order_relaxed);

    return reader < STORES_MAX && atomic_load(&m->member[reader].positions_last) &&
           !atomic_load(&m->listings_doubted);
}

void mirror_doubt_listings(struct mirror *m) {
    atomic_store(&m->listings_doubted, true);
}

struct vol_ops mirror_ops = {
    .name = "mirror",
    .free = mirror_free,
    .lookup = mirror_lookup,
    .forget = mirror_forget,
    .make = mirror_make,
    .create = mirror_create,
    .link = mirror_link,
    .unlink = mirror_unlink,
    .rmdir = mirror_rmdir,
    .rename = mirror_rename,
    .getattr = mirror_getattr,
    .setattr = mirror_setattr,
    .readlink = mirror_readlink,
    .getxattr = mirror_getxattr,
    .listxattr = mirror_listxattr,
    .setxattr = mirror_setxattr,
    .removexattr = mirror_removexattr,
    .open = mirror_open,
    .close = mirror_close,
    .read = mirror_read,
    .write = mirror_write,
    .fsync = mirror_fsync,
    .fallocate = mirror_fallocate,
    .copy = mirror_copy,
    .seek = mirror_seek,
    .opendir = mirror_opendir,
    .readdir = mirror_readdir,
    .closedir = mirror_closedir,
    .may_change = op_may_change,
    .listings_last = op_listings_last,
    .statfs = mirror_statfs,
    .sync = mirror_sync,
};

static int take_members(struct mirror *m, const struct mirror_config *c) {
    bool syncfs = true, away = false;

    m->caps = UINT32_MAX;
    m->count = c->count;
    for (unsigned i = 0; i < c->count; i++) {
        const struct mirror_member_config *from = &c->member[i];
        struct member *to = &m->member[i];

        to->store = from->store;
        if (guard_new(from->vol || !from->store ? from->vol : store_vol(from->store), &to->guard) <
            0) {
            return -ENOMEM;
        }
        to->vol = guard_vol(to->guard);
        to->id = from->id;
        (void)snprintf(to->path, sizeof(to->path), "%s", from->path ? from->path : "");
        if (from->store) {
            to->caps = store_caps(from->store);
            atomic_init(&to->positions_last, store_positions_last(from->store));
            (void)snprintf(to->path, sizeof(to->path), "%s", store_path(from->store));
            member_describe(m, i, from->store);
        }
        (void)snprintf(to->label, sizeof(to->label), "%s", from->label);
        to->since_s = from->since_s;
        to->slot = super_slot_of(&c->super, &from->id);
        atomic_init(&to->passive,
                    to->slot < c->super.member_count && c->super.member[to->slot].passive);
        atomic_init(&to->state, from->state);
        if (from->state == MEMBER_ONLINE) {
            m->caps &= store_caps(from->store);
            syncfs = syncfs && (store_caps(from->store) & STORE_SYNCFS);
        } else {
            away = true;
            (void)snprintf(to->reason, sizeof(to->reason), "%s",
                           from->reason && from->reason[0] ? from->reason
                                                           : "lost before this mount");
        }
    }
    m->touched = syncfs ? NULL : calloc(TOUCHED_MAX, sizeof(struct obj *));
    journal_set_exact(m->journal, away);
    return 0;
}

/* Our folder, the one for open files without a name, and that of snapshots, as objects that nobody
 * else looks up. */
static int enter_ours(struct mirror *m, struct why *why) {
    static const char *const names[] = {STORE_FOLDER, STORE_OPEN_FOLDER, STORE_SNAP_FOLDER};
    struct obj **ret[] = {&m->ours, &m->parked, &m->snaps};
    unsigned reader = atomic_load(&m->reader);

    for (int k = 0; k < 3; k++) {
        struct obj *dir = k == 0 ? obj_root(m->objs) : m->ours;
        struct vol *v = m->member[reader].vol;
        struct vol_entry e;
        int err = v->ops->lookup(v, dir, names[k], &e);

        err = err < 0 ? err
                      : obj_enter(m->objs, dir, names[k], (uint8_t)reader, &e.attr, false, ret[k]);
        if (err < 0) {
            return why_set(why, err, "store \"%s\": cannot open its %s folder: %s",
                           m->member[reader].label, names[k], error_words(err));
        }
    }
    return 0;
}

struct obj *mirror_snapshots(struct mirror *m) {
    return m->snaps;
}

/* Says once that a store gets full; again when it is nearly so, or was not for a while. */
static void warn_of_space(struct mirror *m, unsigned i) {
    struct member *member = &m->member[i];
    uint64_t total = atomic_load(&member->total_bytes), free = atomic_load(&member->free_bytes);
    unsigned percent = total > 0 ? (unsigned)(free * 100 / total) : 100;
    int level = percent < SPACE_CRITICAL_PERCENT ? SPACE_CRITICAL
                : percent < SPACE_LOW_PERCENT    ? SPACE_LOW
                                                 : SPACE_ENOUGH;

    if (level > member->space) {
        event_post(
            m->events, level == SPACE_CRITICAL ? EVENT_ERROR : EVENT_WARNING,
            "store \"%s\" has %u %% of its space left: when it is full, so is the volume. Make "
            "room, or put a larger disk in its place with `holdfast replace`",
            member->label, percent);
    }
    if (level > member->space || percent >= SPACE_LOW_PERCENT + SPACE_AGAIN_PERCENT) {
        atomic_store(&member->space, level);
    }
}

/* Through the guard: a store may hang here, too. */
static void check_space(struct mirror *m) {
    bool low = false;

    for (unsigned i = 0; i < m->count; i++) {
        struct vol *v = m->member[i].vol;
        struct statvfs st;

        if (!is_online(m, i) || v->ops->statfs(v, &st) < 0) {
            continue; /* the last numbers stay */
        }
        atomic_store(&m->member[i].total_bytes, (uint64_t)st.f_blocks * st.f_frsize);
        atomic_store(&m->member[i].free_bytes, (uint64_t)st.f_bavail * st.f_frsize);
        low = low || m->member[i].free_bytes < LOW_SPACE_BYTES;
        warn_of_space(m, i);
    }
    atomic_store(&m->low_on_space, low);
}

static int prepare(struct mirror *m, const struct mirror_config *c, struct why *why) {
    unsigned reader;
    int err = workers_new(WORKERS_MAX, &m->workers);

    if (err < 0) {
        return why_set(why, err, "cannot start workers: %s", error_words(err));
    }
    atomic_store(&m->reader, STORES_MAX);
    member_pick_reader(m);
    atomic_store(&m->renumbered, false);
    reader = atomic_load(&m->reader);
    if (reader == STORES_MAX) {
        return why_set(why, -HFE_MISSING, "no store is ONLINE");
    }
    err = obj_table_new(store_root_ino(m->member[reader].store), (uint8_t)reader, &m->objs);
    if (err < 0) {
        return why_set(why, err, "out of memory");
    }
    for (unsigned i = 0; i < m->count; i++) {
        guard_set_objects(m->member[i].guard, m->objs);
        if (m->member[i].store) {
            store_attach(m->member[i].store, m->objs, (uint8_t)i, c->dirfds_max);
            if (!(store_caps(m->member[i].store) & STORE_STABLE_INO)) {
                obj_table_unstable(m->objs, (uint8_t)i);
            }
        }
        err = is_online(m, i) ? store_clear_open(m->member[i].store) : 0;
        if (err < 0) {
            return why_set(why, err, "store \"%s\": cannot clear %s/%s: %s", m->member[i].label,
                           STORE_FOLDER, STORE_OPEN_FOLDER, error_words(err));
        }
    }
    check_space(m);
    return enter_ours(m, why);
}

int mirror_new(const struct mirror_config *c, struct why *why, struct vol **ret_vol) {
    struct mirror *m = calloc(1, sizeof(*m));
    int err;

    if (!m) {
        for (unsigned i = 0; i < c->count; i++) {
            store_close(c->member[i].store);
        }
        return why_set(why, -ENOMEM, "out of memory");
    }
    m->vol.ops = &mirror_ops;
    m->policy = c->policy;
    m->min_stores = 1;
    m->events = c->events;
    m->super = m->shown = c->super;
    m->write_witness = c->write_witness;
    m->witness_arg = c->witness_arg;
    m->journal = c->journal;
    m->log_carried = c->position;
    m->log_durable = m->checkpoint_end = m->log_carried;
    m->log_stable = c->stable;
    m->checkpoint_ms = clock_ms();
    rwlock_init(&m->log_lock);
    pthread_mutex_init(&m->files_lock, NULL);
    pthread_mutex_init(&m->touched_lock, NULL);
    gate_init(&m->gate);
    rwlock_init(&m->names);
    rangelock_init(&m->ranges);
    rwlock_init(&m->member_lock);
    pthread_mutex_init(&m->status_lock, NULL);
    m->dirfds_max = c->dirfds_max;
    m->store_timeout_ms = c->store_timeout_ms > 0 ? c->store_timeout_ms : STORE_TIMEOUT_MS;
    pthread_mutex_init(&m->times_lock, NULL);
    pthread_mutex_init(&m->linger_lock, NULL);
    err = take_members(m, c);
    err = err < 0 ? why_set(why, err, "out of memory") : prepare(m, c, why);
    if (err < 0) {
        mirror_free(&m->vol);
        return err;
    }
    *ret_vol = &m->vol;
    return 0;
}

struct folders_call {
    struct store *store;
    uint64_t keep;
};

static int folders_call(void *arg) {
    struct folders_call *c = arg;

    store_close_folders(c->store, c->keep);
    return 0;
}

void mirror_tick(struct mirror *m) {
    int64_t now = clock_ms();

    if (atomic_load(&m->unequal)) {
        journal_spoil(m->journal); /* a killed daemon leaves more than what was under way */
    }
    times_flush(m, false);
    linger_flush(m, false);
    obj_table_trim(m->objs);
    for (unsigned i = 0; i < m->count; i++) {
        if (is_online(m, i)) { /* the kernel forgot folders: let them go, too */
            struct folders_call call = {m->member[i].store, obj_count(m->objs)};

            if (guard_call(m->member[i].guard, GUARD_CHANGE, folders_call, &call, sizeof(call)) <
                0) {
                continue; /* it has just left */
            }
        }
    }
    if (now - m->space_checked_ms >= SPACE_CHECK_MS) {
        m->space_checked_ms = now;
        check_space(m);
    }
    policy_tick(m, now);
}

struct alive_call {
    struct store *store;
    bool full;
};

static int alive_call(void *arg) {
    const struct alive_call *c = arg;

    return store_check_alive(c->store, c->full);
}

int mirror_probe(struct mirror *m, unsigned i, bool full) {
    struct alive_call call = {mirror_use(m, i), full};
    int err;

    if (!call.store) {
        return -ENODEV;
    }
    err = guard_call(m->member[i].guard, GUARD_CHANGE, alive_call, &call, sizeof(call));
    mirror_unuse(m, i);
    return err;
}

/* Of a store that other machines may reach. */
static int probe_remote(struct mirror *m, unsigned i, bool full) {
    struct store *store = mirror_use(m, i);
    bool remote = store && store_is_remote(store);

    if (store) {
        mirror_unuse(m, i);
    }
    return remote ? mirror_probe(m, i, full) : 0;
}

void mirror_heartbeat(struct mirror *m) {
    int64_t now = clock_ms();

    if (now - m->heartbeat_ms < PROBE_MS / 2) {
        return;
    }
    m->heartbeat_ms = now;
    for (unsigned i = 0; i < m->count; i++) {
        if (probe_remote(m, i, false) < 0) {
            continue; /* the keeper's probe says what is wrong */
        }
    }
}

/* Before the last record: did somebody take over, while we stood still? */
static bool check_owners(struct mirror *m) {
    for (unsigned i = 0; i < m->count; i++) {
        if (probe_remote(m, i, true) == -HFE_IN_USE) {
            mirror_taken(m, i);
        }
    }
    return !atomic_load(&m->taken);
}

int mirror_stop(struct mirror *m) {
    int err;

    if (!check_owners(m)) {
        return -HFE_IN_USE;
    }
    linger_flush(m, true);
    times_flush(m, true);
    /* With a known difference, what told it must stay in the log. */
    err = atomic_load(&m->unequal) ? mirror_sync_stores(m) : mirror_checkpoint(m);
    (void)mirror_log_flush(m);
    if (err < 0) {
        return err;
    }
    if (!check_owners(m)) {
        return -HFE_IN_USE;
    }
    rwlock_write(&m->member_lock);
    m->super.clean = !atomic_load(&m->unequal);
    m->super.end_position = m->log_carried;
    m->stopped = true;
    err = member_record_locked(m);
    rwlock_write_done(&m->member_lock);
    return err;
}

/* syncfs does nothing on FUSE, and there is no other call for "all": what was not fsynced there is
 * as durable as that store makes it. Said at create (STORE_SYNCFS). */
int mirror_sync_stores(struct mirror *m) {
    int first = 0;

    for (unsigned i = 0; i < m->count; i++) {
        struct vol *below = m->member[i].vol;
        int err = is_online(m, i) ? below->ops->sync(below) : 0;

        if (err < 0 && member_fault(m, i, err, "sync") < 0) {
            first = err;
        }
    }
    return first;
}

/* What is made durable is the same on all stores: whoever saw it (in a snapshot) sees no other time when
 * another store serves. */
int mirror_sync(struct vol *v) {
    struct mirror *m = mirror_of(v);
    int err = times_equal(m), e = mirror_sync_stores(m);

    return e < 0 ? e : err;
}

void mirror_tell_peer(struct mirror *m, unsigned i, uint64_t number, uint64_t ino) {
    (void)journal_append(
        m->journal, NULL,
        &(struct journal_frame){
            .kind = JOURNAL_PEER, .slot = m->member[i].slot, .number = number, .ino = {ino}});
}

struct store *mirror_use(struct mirror *m, unsigned i) {
    return is_online(m, i) && guard_use(m->member[i].guard) ? m->member[i].store : NULL;
}

void mirror_unuse(struct mirror *m, unsigned i) {
    guard_unuse(m->member[i].guard);
}

struct store *mirror_source(struct mirror *m, unsigned *ret_index) {
    *ret_index = (unsigned)reader_first(m);
    return mirror_use(m, *ret_index);
}

void mirror_distrust(struct mirror *m, unsigned i) {
    atomic_store(&m->member[i].unproven, true);
}

void mirror_count_wrong(struct mirror *m, unsigned i, uint64_t n, bool all) {
    if (all || n > atomic_load(&m->member[i].checksum_errors)) {
        atomic_store(&m->member[i].checksum_errors, n);
    }
}

bool mirror_waits(struct mirror *m, unsigned i) {
    return atomic_load(&m->member[i].waits);
}

uint64_t mirror_position(struct mirror *m) {
    return journal_position(m->journal);
}

bool mirror_is_online(struct mirror *m, unsigned i) {
    return is_online(m, i);
}

/* Where a path begins: how many of its names lead to a folder that is always known. */
static struct obj *top_of(const struct mirror *m, const char *const *path, unsigned depth,
                          unsigned *ret_names) {
    bool ours = depth > 0 && strcmp(path[0], STORE_FOLDER) == 0;
    bool parked = ours && depth == 3 && strcmp(path[1], STORE_OPEN_FOLDER) == 0;

    *ret_names = (unsigned)ours + parked;
    return parked ? m->parked : ours ? m->ours : obj_root(m->objs);
}

/* The object at the end of a path, as anybody else would find it; counted. */
static int walk(struct mirror *m, const char *const *path, unsigned depth, struct obj **ret_obj) {
    unsigned first;
    struct obj *at = top_of(m, path, depth, &first);

    for (unsigned k = first; k < depth; k++) {
        struct vol_entry e;
        int err = mirror_lookup(&m->vol, at, path[k], &e);

        obj_forget(m->objs, at, k > first);
        if (err < 0) {
            return err;
        }
        at = e.obj;
    }
    *ret_obj = at;
    return 0;
}

/* Pinned. */
static int find_file(struct mirror *m, const char *const *path, unsigned depth,
                     struct obj **ret_obj) {
    unsigned first;
    int err;

    if (top_of(m, path, depth, &first) == m->parked) {
        *ret_obj = obj_find(m->objs, m->parked, path[first]);
        return *ret_obj ? 0 : -ESTALE;
    }
    err = walk(m, path, depth, ret_obj);
    if (err == 0) {
        obj_pin(m->objs, *ret_obj);
        obj_forget(m->objs, *ret_obj, 1);
    }
    return err;
}

/* All names, and that range of the object (NULL: none), without holding anybody up for long that others
 * have to wait for. -HFE_IN_USE. */
static int lock_names(struct mirror *m, struct range_hold *hold, const struct obj *obj,
                      uint64_t off, uint64_t end) {
    enum { PATIENCE_MS = 30, PASS_MS = 5, TRIES = 100 };

    for (int tries = 0; tries < TRIES; tries++) {
        if (rwlock_try_write(&m->names, PATIENCE_MS)) {
            if (!obj || range_try_lock(&m->ranges, hold, obj, off, end, PATIENCE_MS)) {
                return 0;
            }
            rwlock_write_done(&m->names);
        }
        (void)poll(NULL, 0, PASS_MS); /* those that wait for names pass first */
    }
    return -HFE_IN_USE;
}

/* Under all names: is it still there? */
static bool is_at_path(struct mirror *m, const char *const *path, unsigned depth,
                       const struct obj *obj) {
    unsigned first;
    struct obj *at = top_of(m, path, depth, &first);
    bool same;

    obj_pin(m->objs, at);
    for (unsigned k = first; k < depth && at; k++) {
        struct obj *next = obj_find(m->objs, at, path[k]);

        obj_unpin(m->objs, at);
        at = next;
    }
    same = at == obj;
    obj_unpin(m->objs, at);
    return same;
}

/* A cut while the log is told would make it tell for ever. */
static void bind_now(struct mirror *m, struct obj *obj) {
    gate_enter(&m->gate);
    log_bind_alone(m, obj);
    gate_leave(&m->gate);
}

/* Locks bytes of the file at this path, whose inode on store `from` is `ino`; and `names`, which come first,
 * but not before it was looked up: -HFE_IN_USE if others do not let go of them. */
static int lock_range(struct mirror *m, unsigned from, const char *const *path, unsigned depth,
                      uint64_t ino, uint64_t off, uint64_t len, bool names,
                      struct range_hold **ret_hold, struct obj **ret_obj) {
    struct range_hold *hold = calloc(1, sizeof(*hold));
    struct obj *obj = NULL;
    int err = hold ? find_file(m, path, depth, &obj) : -ENOMEM;
    uint64_t known = err == 0 ? obj_ino_on(m->objs, obj, (uint8_t)from) : 0;
    bool stable = m->member[from].caps & STORE_STABLE_INO;

    if (err == 0 && stable && known != 0 && known != ino) {
        err = -ESTALE;
    }
    if (err == 0 && !stable) {
        bind_now(m, obj); /* the log is to say which one it is */
    }
    if (err == 0 && names) {
        err = lock_names(m, hold, obj, off, off + len);
        if (err == 0 && !is_at_path(m, path, depth, obj)) {
            range_unlock(&m->ranges, hold);
            rwlock_write_done(&m->names);
            err = -ESTALE;
        }
    } else if (err == 0) {
        range_lock(&m->ranges, hold, obj, off, off + len);
    }
    if (err < 0) {
        obj_unpin(m->objs, obj);
        free(hold);
        return err;
    }
    *ret_hold = hold;
    *ret_obj = obj;
    return 0;
}

int mirror_range_hold(struct mirror *m, unsigned i, unsigned from, const char *const *path,
                      unsigned depth, uint64_t ino, uint64_t off, uint64_t len, bool names,
                      uint64_t *ret_number) {
    struct member *member = &m->member[i];
    struct range_hold *hold;
    int err = lock_range(m, from, path, depth, ino, off, len, names, &hold, &member->range_obj);

    if (err == 0) {
        *ret_number = log_number(m, member->range_obj);
        atomic_store(&member->held_ms, clock_ms());
        atomic_store(&member->range, hold);
        atomic_store(&member->names_held, names);
    }
    return err;
}

bool mirror_compare_begin(struct mirror *m) {
    return !atomic_exchange(&m->compare.runs, true);
}

void mirror_compare_end(struct mirror *m) {
    atomic_store(&m->compare.runs, false);
}

int mirror_compare_hold(struct mirror *m, unsigned from, const char *const *path, unsigned depth,
                        uint64_t ino, uint64_t off, uint64_t len) {
    struct range_hold *hold;
    int err = lock_range(m, from, path, depth, ino, off, len, false, &hold, &m->compare.obj);

    if (err == 0) {
        atomic_store(&m->compare.held_ms, clock_ms());
        atomic_store(&m->compare.range, hold);
    }
    return err;
}

int mirror_compare_hold_names(struct mirror *m) {
    int err = lock_names(m, NULL, NULL, 0, 0);

    if (err == 0) {
        atomic_store(&m->compare.held_ms, clock_ms());
        atomic_store(&m->compare.names, true);
    }
    return err;
}

bool compare_let_go(struct mirror *m) {
    struct range_hold *hold = atomic_exchange(&m->compare.range, NULL);
    bool names = atomic_exchange(&m->compare.names, false);

    if (hold) {
        range_unlock(&m->ranges, hold);
        free(hold);
    }
    if (names) {
        rwlock_write_done(&m->names);
    }
    return hold || names;
}

bool mirror_compare_release(struct mirror *m) {
    bool held = compare_let_go(m);

    obj_unpin(m->objs, m->compare.obj);
    m->compare.obj = NULL;
    return held;
}

int mirror_peer_ino(struct mirror *m, unsigned i, unsigned from, const char *const *path,
                    unsigned depth, uint64_t ino, uint64_t *ret_ino, uint64_t *ret_number) {
    bool stable = m->member[from].caps & STORE_STABLE_INO;
    struct vol *v = m->member[i].vol;
    struct obj_hold hold;
    struct vol_entry e;
    struct obj *obj = NULL;
    int err = find_file(m, path, depth, &obj);

    if (err < 0) {
        return err;
    }
    if (!stable) {
        bind_now(m, obj);
    }
    rwlock_read(&m->names);
    err = hold_obj(m, obj, &hold);
    if (err == 0) {
        uint64_t known = obj_ino_on(m->objs, obj, (uint8_t)from);

        *ret_number = log_number(m, obj);
        err = stable && known != 0 && known != ino
                  ? -ESTALE
                  : v->ops->lookup(v, hold.where.parent, hold.where.name, &e);
        hold_done(m, &hold);
    }
    rwlock_read_done(&m->names);
    obj_unpin(m->objs, obj);
    if (err == 0) {
        *ret_ino = e.attr.st_ino;
    }
    return err;
}

bool mirror_had_number(struct mirror *m, struct obj *obj, uint64_t number) {
    unsigned i = obj_number_store(number);
    bool had = false;
    struct obj_hold hold;
    struct vol_entry e;

    if (i >= m->count || !is_online(m, i) || !(m->member[i].caps & STORE_STABLE_INO)) {
        return false;
    }
    rwlock_read(&m->names);
    if (hold_obj(m, obj, &hold) == 0) {
        struct vol *v = m->member[i].vol;

        had = hold.where.parent && v->ops->lookup(v, hold.where.parent, hold.where.name, &e) == 0 &&
              e.attr.st_ino == obj_number_ino(number);
        hold_done(m, &hold);
    }
    rwlock_read_done(&m->names);
    return had;
}

void mirror_range_release(struct mirror *m, unsigned i) {
    struct member *member = &m->member[i];
    struct range_hold *hold = atomic_exchange(&member->range, NULL);

    if (hold) { /* else the watchdog let go of it */
        range_unlock(&m->ranges, hold);
        free(hold);
    }
    if (atomic_exchange(&member->names_held, false)) {
        rwlock_write_done(&m->names);
    }
    obj_unpin(m->objs, member->range_obj);
}
