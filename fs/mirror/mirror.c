#include "mirror/mirror.h"

#include <errno.h>
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

static void mirror_free(struct vol *v) {
    struct mirror *m = mirror_of(v);

    workers_free(m->workers);
    for (unsigned i = 0; i < m->count; i++) {
        vol_free(m->member[i].vol);
    }
    obj_table_free(m->objs);
    rangelock_release(&m->ranges);
    rwlock_release(&m->names);
    gate_release(&m->gate);
    pthread_mutex_destroy(&m->member_lock);
    pthread_mutex_destroy(&m->times_lock);
    pthread_mutex_destroy(&m->linger_lock);
    free(m);
}

struct vol_ops mirror_ops = {
    .name = "mirror",
    .free = mirror_free,
    .lookup = mirror_lookup,
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
    .statfs = mirror_statfs,
    .sync = mirror_sync,
};

static void take_members(struct mirror *m, const struct mirror_config *c) {
    m->caps = UINT32_MAX;
    m->count = c->count;
    for (unsigned i = 0; i < c->count; i++) {
        const struct mirror_member_config *from = &c->member[i];
        struct member *to = &m->member[i];

        to->store = from->store;
        to->vol = from->vol || !from->store ? from->vol : store_vol(from->store);
        to->id = from->id;
        (void)snprintf(to->label, sizeof(to->label), "%s", from->label);
        to->since_s = from->since_s;
        atomic_init(&to->state, from->state);
        if (from->state == MEMBER_ONLINE) {
            m->caps &= store_caps(from->store);
        } else {
            (void)snprintf(to->reason, sizeof(to->reason), "%s", "lost before this mount");
        }
    }
}

/* Our folder and the one for open files without a name, as objects that nobody else looks up. */
static int enter_ours(struct mirror *m, struct why *why) {
    static const char *const names[] = {STORE_FOLDER, STORE_OPEN_FOLDER};
    struct obj **ret[] = {&m->ours, &m->parked}, *dir = obj_root(m->objs);
    unsigned reader = atomic_load(&m->reader);

    for (int k = 0; k < 2; k++) {
        struct vol *v = m->member[reader].vol;
        struct vol_entry e;
        int err = v->ops->lookup(v, dir, names[k], &e);

        err = err < 0 ? err
                      : obj_enter(m->objs, dir, names[k], (uint8_t)reader, &e.attr, false, ret[k]);
        if (err < 0) {
            return why_set(why, err, "store \"%s\": cannot open its %s folder: %s",
                           m->member[reader].label, names[k], error_words(err));
        }
        dir = *ret[k];
    }
    return 0;
}

static int check_space(struct mirror *m) {
    bool low = false;

    for (unsigned i = 0; i < m->count; i++) {
        uint64_t total, avail;

        if (!is_online(m, i) || store_space(m->member[i].store, &total, &avail) < 0) {
            continue;
        }
        atomic_store(&m->member[i].total_bytes, total);
        atomic_store(&m->member[i].free_bytes, avail);
        low = low || avail < LOW_SPACE_BYTES;
    }
    atomic_store(&m->low_on_space, low);
    return 0;
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
    (void)check_space(m); /* unknown space is no reason to refuse */
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
    m->min_stores = c->min_stores > 0 ? c->min_stores : 1;
    m->events = c->events;
    m->super = c->super;
    m->write_witness = c->write_witness;
    m->witness_arg = c->witness_arg;
    gate_init(&m->gate);
    rwlock_init(&m->names);
    rangelock_init(&m->ranges);
    pthread_mutex_init(&m->member_lock, NULL);
    pthread_mutex_init(&m->times_lock, NULL);
    pthread_mutex_init(&m->linger_lock, NULL);
    take_members(m, c);
    err = prepare(m, c, why);
    if (err < 0) {
        mirror_free(&m->vol);
        return err;
    }
    *ret_vol = &m->vol;
    return 0;
}

void mirror_tick(struct mirror *m) {
    int64_t now = clock_ms();

    times_flush(m, false);
    linger_flush(m, false);
    obj_table_trim(m->objs);
    for (unsigned i = 0; i < m->count; i++) {
        if (is_online(m, i)) { /* the kernel forgot folders: let them go, too */
            store_close_folders(m->member[i].store, obj_count(m->objs));
        }
    }
    if (now - m->space_checked_ms >= SPACE_CHECK_MS) {
        m->space_checked_ms = now;
        (void)check_space(m); /* the last numbers stay */
    }
}

int mirror_stop(struct mirror *m) {
    int err;

    linger_flush(m, true);
    times_flush(m, true);
    err = mirror_sync(&m->vol);
    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&m->member_lock);
    m->super.clean = !atomic_load(&m->unequal);
    err = member_record_locked(m);
    pthread_mutex_unlock(&m->member_lock);
    return err;
}

/* syncfs does nothing on FUSE, and there is no other call for "all": what was not fsynced there is
 * as durable as that store makes it. Said at create (STORE_SYNCFS). */
int mirror_sync(struct vol *v) {
    struct mirror *m = mirror_of(v);
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
