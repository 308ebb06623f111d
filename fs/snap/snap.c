/* The layer as a whole: creating, naming and destroying snapshots. */
#include "snap/snap.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "snap/snap_int.h"

struct snap *snap_of(struct vol *v) {
    return (struct snap *)v;
}

static int enter_kept(struct snap *s, struct why *why) {
    const struct vol_new new = {.mode = S_IFDIR | 0700, .cred = &cred_self};
    struct obj_where where;
    struct vol_entry e;
    int err = s->next->ops->lookup(s->next, s->folder, "kept", &e);

    if (err == -ENOENT) {
        err = s->next->ops->make(s->next, s->folder, "kept", &new, &e);
    }
    if (err == 0) {
        s->kept = e.obj;
        err = obj_where(s->objs, s->folder, &where);
    }
    if (err == 0) {
        s->hidden = where.parent; /* known for as long as the folder is */
        obj_unpin(s->objs, where.parent);
    }
    return err < 0 ? why_set(why, err, "cannot make the folder of kept files: %s", error_words(err))
                   : 0;
}

static void init_locks(struct snap *s) {
    gate_init(&s->gate);
    rwlock_init(&s->names);
    rwlock_init(&s->listing);
    rwlock_init(&s->admin);
    rwlock_init(&s->view_lock);
    rwlock_init(&s->merging);
    rwlock_init(&s->anchoring);
    rwlock_init(&s->log.io);
    rangelock_init(&s->ranges);
    pthread_mutex_init(&s->mutex, NULL);
}

int snap_new(const struct snap_config *c, struct why *why, struct vol **ret_vol) {
    struct snap *s = calloc(1, sizeof(*s));
    int err;

    if (!s) {
        vol_free(c->next);
        return why_set(why, -ENOMEM, "out of memory");
    }
    vol_complete(&snap_ops);
    s->vol = (struct vol){.ops = &snap_ops, .next = c->next};
    s->config = *c;
    s->next = c->next;
    s->objs = c->objs;
    s->root = obj_root(c->objs);
    s->folder = c->folder;
    s->next_kept = 1;
    init_locks(s);
    s->entries = calloc(SNAPSHOTS_MAX, sizeof(*s->entries));
    err = s->entries ? view_init(s) : -ENOMEM;
    err = err < 0 ? why_set(why, err, "out of memory") : enter_kept(s, why);
    err = err < 0 ? err : load_all(s, why);
    if (err < 0) {
        vol_free(&s->vol);
        return err;
    }
    s->checked_end = s->log.end;
    *ret_vol = &s->vol;
    return 0;
}

/* All that was told up to now is on the disks, with what it tells of; and that is told. */
static int tell_synced(struct snap *s) {
    struct snap_record r = {.kind = SNAP_SYNCED, .type = s->config.strict, .name = "", .name2 = ""};
    uint32_t epoch = s->epoch;
    int err;

    pthread_mutex_lock(&s->mutex);
    r.id = s->log.seq;
    pthread_mutex_unlock(&s->mutex);
    if (r.id == s->synced_seq) {
        return 0;
    }
    err = log_sync(s);
    err = err < 0 ? err : s->next->ops->sync(s->next);
    gate_enter(&s->gate);
    pthread_mutex_lock(&s->mutex);
    if (err == 0 && s->epoch == epoch && s->table) {
        err = log_tell_locked(s, &r, NULL);
        s->synced_seq = s->log.seq;
    }
    pthread_mutex_unlock(&s->mutex);
    gate_leave(&s->gate);
    return err < 0 ? err : log_sync(s);
}

int snap_stop(struct snap *s) {
    struct anchor *a, *next;
    struct log_rest rest = {.file = NULL};
    int err = 0, e;

    view_release(s);
    if (snap_keeps(s)) {
        err = tell_synced(s);
    }
    e = snap_settle(s, NULL, NULL);
    err = err < 0 ? err : e;
    if (atomic_load(&s->list_changed)) {
        e = list_save(s);
        err = err < 0 ? err : e;
    }
    pthread_mutex_lock(&s->mutex);
    rest = log_switch_locked(s, NULL, 0, 0);
    pthread_mutex_unlock(&s->mutex);
    rest.n = 0; /* after an error only */
    e = log_finish(s, &rest);
    err = err < 0 ? err : e;
    HASH_ITER(hh, s->anchors, a, next) {
        HASH_DEL(s->anchors, a);
        snap_forget(s, a->obj);
        free(a);
    }
    snap_forget(s, s->kept);
    s->kept = NULL;
    atomic_store(&s->epoch, 0);
    return err;
}

void snap_free(struct snap *s) {
    struct anchor *a, *next;

    view_release(s);
    HASH_ITER(hh, s->anchors, a, next) {
        HASH_DEL(s->anchors, a);
        free(a);
    }
    snap_table_free(s->table);
    if (s->unsettled) {
        free(s->rest.buf);
        log_put(s, s->rest.file);
    }
    if (s->log.file) { /* it was not stopped */
        snap_file_close(s, &s->log.file->file);
        free(s->log.file);
    }
    free(s->log.buf);
    free(s->entries);
    free(s->epochs);
    gate_release(&s->gate);
    rwlock_release(&s->names);
    rwlock_release(&s->listing);
    rwlock_release(&s->admin);
    rwlock_release(&s->view_lock);
    rwlock_release(&s->merging);
    rwlock_release(&s->anchoring);
    rwlock_release(&s->log.io);
    rangelock_release(&s->ranges);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* Is there room for what is to be kept? */
static int check_room(struct snap *s, struct why *why) {
    struct statvfs st;
    int err;

    if (s->config.reserve_bytes == 0) {
        return 0;
    }
    err = s->next->ops->statfs(s->next, &st);
    if (err == 0 && (uint64_t)st.f_bavail * st.f_frsize < s->config.reserve_bytes) {
        return why_set(why, -ENOSPC,
                       "less than snap-reserve (%llu MiB) is free: destroy snapshots, or make room",
                       (unsigned long long)(s->config.reserve_bytes >> 20));
    }
    return 0; /* where nobody knows, it is tried */
}

/* --- the list --- */

static struct snap_entry *find_entry(struct snap *s, const char *name) {
    for (uint32_t i = 0; i < s->entry_count; i++) {
        if (strcmp(s->entries[i].name, name) == 0) {
            return &s->entries[i];
        }
    }
    return NULL;
}

static int no_such(struct why *why, const char *name) {
    return why_set(why, -ENOENT, "there is no snapshot \"%s\"; `holdfast snapshot list` shows them",
                   name);
}

static int is_held(struct why *why, const char *name) {
    return why_set(why, -HFE_IN_USE, "\"%s\" is held: `holdfast snapshot release` it first", name);
}

static bool ends_with(const char *name, const char *tail) {
    size_t n = strlen(name), k = strlen(tail);

    return n >= k && strcmp(name + n - k, tail) == 0;
}

static int may_be_called(struct snap *s, const char *name, struct why *why) {
    if (!snap_name_ok(name) || ends_with(name, SNAP_BROKEN_TAIL) ||
        ends_with(name, SNAP_BOOKMARK_TAIL)) {
        return why_set(why, -HFE_USAGE,
                       "\"%s\" is no name for a snapshot: letters, digits and _ . : @ + -, at most "
                       "%d, the first one a letter or digit, and neither " SNAP_BROKEN_TAIL
                       " nor " SNAP_BOOKMARK_TAIL " at the end",
                       name, SNAPSHOT_NAME_BYTES - 1);
    }
    return find_entry(s, name) ? why_set(why, -EEXIST, "there is a snapshot \"%s\" already", name)
                               : 0;
}

static int may_create(struct snap *s, const char *name, struct why *why) {
    int err = may_be_called(s, name, why);

    if (err < 0) {
        return err;
    }
    if (s->entry_count == SNAPSHOTS_MAX) {
        return why_set(why, -ENOSPC, "there are %d snapshots, more are not possible: destroy some",
                       SNAPSHOTS_MAX);
    }
    return check_room(s, why);
}

/* The instant: from here on, changes belong to the epoch `number` (0: to none; nothing is kept any
 * more), whose snapshot is `entry` (NULL: there is none). */
static int cut(struct snap *s, uint32_t number, struct log_file *file, struct snap_table *table,
               const struct snap_entry *entry, struct log_rest *ret_rest, uint64_t *ret_us) {
    int64_t start = clock_us();
    struct snap_table *old;
    int err = gate_close(&s->gate, CUT_MS);

    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&s->mutex);
    *ret_rest = log_switch_locked(s, file, SNAP_HEAD_BYTES, 0);
    old = s->table;
    s->table = table;
    if (number != 0) {
        s->epochs[s->epoch_count++] = (struct epoch){.number = number, .named = entry != NULL};
        s->next_kept = kept_number(number, 1);
        s->full = entry != NULL;
        atomic_store(&s->broken, false);
    }
    if (entry) {
        s->entries[s->entry_count++] = *entry;
        s->unsettled = true;
        atomic_store(&s->drops, false);
    }
    atomic_store(&s->epoch, number);
    atomic_fetch_add(&s->generation, 1);
    pthread_mutex_unlock(&s->mutex);
    *ret_us = (uint64_t)(clock_us() - start);
    gate_open(&s->gate);
    snap_table_free(old);
    return 0;
}

static int grow_epochs(struct snap *s) {
    struct epoch *list;

    pthread_mutex_lock(&s->mutex);
    list = realloc(s->epochs, (s->epoch_count + 2) * sizeof(*list));
    s->epochs = list ? list : s->epochs;
    pthread_mutex_unlock(&s->mutex);
    return list ? 0 : -ENOMEM;
}

/* The entry of the snapshot that is not settled yet. */
static struct snap_entry *unsettled(struct snap *s) {
    return s->unsettled ? &s->entries[s->entry_count - 1] : NULL;
}

/* All from before the cut is on the disks, and that is told: it holds whether a snapshot is left of
 * it or not. */
static int finish_epoch(struct snap *s, struct log_rest *rest) {
    struct snap_record r = {.kind = SNAP_SYNCED, .type = s->config.strict, .name = "", .name2 = ""};
    int err = log_finish(s, rest);

    if (err < 0) {
        snap_break_alone(s, err, "the end of an older snapshot could not be written");
    }
    err = s->next->ops->sync(s->next);
    gate_enter(&s->gate);
    pthread_mutex_lock(&s->mutex);
    if (err == 0 && s->table) {
        err = log_tell_locked(s, &r, NULL);
        s->checked_end = s->log.end; /* it is nothing that was kept */
    }
    pthread_mutex_unlock(&s->mutex);
    gate_leave(&s->gate);
    return err < 0 ? err : log_sync(s);
}

/* What the cut promised is made true on the disks, and the name is noted. Under admin. */
static int settle(struct snap *s, struct why *why) {
    const struct snap_entry *e = unsettled(s);
    int err, saved;

    if (!e) {
        return 0;
    }
    s->unsettled = false;
    err = finish_epoch(s, &s->rest);
    saved = err < 0 ? err : list_save(s);
    if (saved < 0) {
        (void)why_set(why, saved, "snapshot \"%s\" could not be written to the stores: %s", e->name,
                      error_words(saved));
        event_post(s->config.events, EVENT_ERROR,
                   "snapshot \"%s\" could not be written to the stores, and is none: %s", e->name,
                   error_words(saved));
        pthread_mutex_lock(&s->mutex);
        s->entry_count--;
        s->epochs[s->epoch_count - 1].named = false;
        pthread_mutex_unlock(&s->mutex);
        atomic_fetch_add(&s->generation, 1);
    }
    return saved;
}

int snap_settle(struct snap *s, const char *name, struct why *why) {
    const struct snap_entry *e;
    int err;

    rwlock_write(&s->admin);
    err = settle(s, why);
    e = name ? find_entry(s, name) : NULL;
    if (err == 0 && name && !e) {
        err = why_set(why, -EIO,
                      "snapshot \"%s\" could not be written to the stores, and is none; "
                      "`holdfast events` says why",
                      name);
    } else if (err == 0 && e && (e->flags & SNAP_HARMED)) {
        err = why_set(why, -EIO, "snapshot \"%s\" broke at once: %s", name, e->reason);
    }
    rwlock_write_done(&s->admin);
    return err;
}

/* Everything else about snapshots waits until the newest is settled. */
static void admin_begin(struct snap *s) {
    rwlock_write(&s->admin);
    if (settle(s, NULL) < 0) {
        return; /* an event said so */
    }
}

/* With `entry`, that of its snapshot. */
static int begin_epoch(struct snap *s, struct snap_entry *entry, struct log_rest *ret_rest,
                       uint64_t *ret_us) {
    uint32_t number = ++s->last_epoch; /* none is given twice: objects remember theirs */
    struct snap_table *table = snap_table_new();
    struct log_file *file = NULL;
    char name[NAME_BYTES];
    int err = table ? grow_epochs(s) : -ENOMEM;

    err = err < 0 ? err : log_create(s, number, &file);
    if (entry) {
        entry->epoch = number;
    }
    err = err < 0 ? err : cut(s, number, file, table, entry, ret_rest, ret_us);
    if (err < 0) {
        snap_table_free(table);
        if (file) {
            log_put(s, file);
            snap_log_name(number, name);
            (void)s->next->ops->unlink(s->next, s->folder, name); /* an empty one does no harm */
        }
    }
    return err;
}

static int create(struct snap *s, const char *name, const char *tags, uint32_t flags,
                  uint64_t *ret_cut_us, struct why *why) {
    struct snap_entry entry = {.flags = flags, .created_s = clock_real_s()};
    int err;

    (void)snprintf(entry.name, sizeof(entry.name), "%s", name); /* both fit */
    (void)snprintf(entry.tags, sizeof(entry.tags), "%s", tags);
    err = begin_epoch(s, &entry, &s->rest, ret_cut_us);
    return err == -ETIMEDOUT
               ? why_set(why, err,
                         "changes that are under way do not end (a store hangs?): no snapshot was "
                         "made; `holdfast status` says more")
           : err < 0 ? why_set(why, err, "the snapshot cannot be made: %s", error_words(err))
                     : 0;
}

int snap_cut_unnamed(struct snap *s) {
    struct log_rest rest;
    uint64_t us;
    int err = begin_epoch(s, NULL, &rest, &us);

    return err < 0 ? err : finish_epoch(s, &rest);
}

int snap_create(struct snap *s, const char *name, const char *tags, uint32_t flags,
                uint64_t *ret_cut_us, struct why *why) {
    int err;

    atomic_fetch_add(&s->waiting, 1);
    admin_begin(s);
    atomic_fetch_sub(&s->waiting, 1);
    err =
        snap_tags_ok(tags)
            ? may_create(s, name, why)
            : why_set(why, -HFE_USAGE,
                      "\"%s\" are no tags: letters, digits and _.:@+- with commas between them, at "
                      "most %d in all",
                      tags, SNAPSHOT_TAGS_BYTES - 1);
    err = err < 0 ? err : create(s, name, tags, flags, ret_cut_us, why);
    rwlock_write_done(&s->admin);
    return err;
}

/* Was anything kept since the last time? */
static bool has_grown(struct snap *s) {
    bool grown;

    pthread_mutex_lock(&s->mutex);
    grown = s->log.end != s->checked_end;
    s->checked_end = s->log.end;
    pthread_mutex_unlock(&s->mutex);
    return grown;
}

void snap_tick(struct snap *s) {
    int64_t now = clock_ms();
    int err;

    if (atomic_load(&s->list_changed)) {
        admin_begin(s);
        err = list_save(s); /* if it fails, once more at the next tick */
        rwlock_write_done(&s->admin);
    }
    if (!snap_keeps(s) || now - s->synced_ms < SYNC_MS) {
        return;
    }
    s->synced_ms = now;
    err = now - s->told_ms < TELL_MS ? log_sync(s) : tell_synced(s);
    s->told_ms = now - s->told_ms < TELL_MS ? s->told_ms : now;
    if (err == 0 && has_grown(s) && check_room(s, NULL) < 0) {
        err = -ENOSPC;
    }
    snap_sync_failed(s, err,
                     err == -ENOSPC ? "what must be kept would take more than snap-reserve leaves"
                                    : "what was kept could not be synced");
}

int snap_keep_nothing(struct snap *s) {
    struct log_rest rest;
    uint64_t us;
    int err = cut(s, 0, NULL, NULL, NULL, &rest, &us);

    if (err < 0) {
        return err;
    }
    rest.n = 0; /* nobody needs it */
    return log_finish(s, &rest);
}

int snap_destroy(struct snap *s, const char *name, struct why *why) {
    struct snap_entry *e, gone;
    struct epoch *epoch;
    uint32_t at;
    int err = 0;

    admin_begin(s);
    e = find_entry(s, name);
    if (!e) {
        err = no_such(why, name);
    } else if (e->flags & SNAP_HELD) {
        err = is_held(why, name);
    }
    if (err == 0) {
        gone = *e;
        at = (uint32_t)(e - s->entries);
        pthread_mutex_lock(&s->mutex);
        s->entry_count--;
        memmove(e, e + 1, (s->entry_count - at) * sizeof(*e));
        pthread_mutex_unlock(&s->mutex);
        err = list_save(s);
        if (err < 0) {
            pthread_mutex_lock(&s->mutex);
            memmove(e + 1, e, (s->entry_count - at) * sizeof(*e));
            *e = gone;
            s->entry_count++;
            pthread_mutex_unlock(&s->mutex);
            (void)why_set(why, err, "the list of snapshots cannot be written: %s",
                          error_words(err));
        } else if ((epoch = find_epoch(s, gone.epoch))) {
            epoch->named = false;
        }
        atomic_fetch_add(&s->generation, 1);
    }
    rwlock_write_done(&s->admin);
    return err;
}

/* Changes an entry, and saves the list; or neither. */
static int change_entry(struct snap *s, struct snap_entry *e, const struct snap_entry *to,
                        struct why *why) {
    struct snap_entry before = *e;
    int err;

    pthread_mutex_lock(&s->mutex);
    *e = *to;
    pthread_mutex_unlock(&s->mutex);
    err = list_save(s);
    if (err < 0) {
        pthread_mutex_lock(&s->mutex);
        *e = before;
        pthread_mutex_unlock(&s->mutex);
        (void)why_set(why, err, "the list of snapshots cannot be written: %s", error_words(err));
    }
    atomic_fetch_add(&s->generation, 1);
    return err;
}

int snap_rename(struct snap *s, const char *name, const char *new_name, struct why *why) {
    struct snap_entry *e, to;
    int err;

    admin_begin(s);
    e = find_entry(s, name);
    err = e ? may_be_called(s, new_name, why) : no_such(why, name);
    if (err == 0) {
        to = *e;
        memset(to.name, 0, sizeof(to.name));
        memcpy(to.name, new_name, strlen(new_name));
        err = change_entry(s, e, &to, why);
    }
    rwlock_write_done(&s->admin);
    return err;
}

int snap_hold(struct snap *s, const char *name, bool hold, struct why *why) {
    struct snap_entry *e, to;
    int err;

    admin_begin(s);
    e = find_entry(s, name);
    if (!e) {
        err = no_such(why, name);
    } else {
        to = *e;
        to.flags = hold ? to.flags | SNAP_HELD : to.flags & ~(uint32_t)SNAP_HELD;
        err = change_entry(s, e, &to, why);
    }
    rwlock_write_done(&s->admin);
    return err;
}

int snap_bookmark(struct snap *s, const char *name, struct why *why) {
    struct snap_entry *e, to;
    struct epoch *epoch;
    int err;

    admin_begin(s);
    e = find_entry(s, name);
    if (!e) {
        err = no_such(why, name);
    } else if (e->flags & SNAP_HELD) {
        err = is_held(why, name);
    } else if (e->flags & SNAP_HARMED) {
        err = why_set(why, -HFE_UNSAFE,
                      "\"%s\" is broken: not all that changed since is known, so it would be no "
                      "bookmark; make one of another snapshot",
                      name);
    } else {
        to = *e;
        to.flags |= SNAP_BOOKMARK;
        err = change_entry(s, e, &to, why);
        epoch = find_epoch(s, to.epoch);
        if (err == 0 && epoch) {
            epoch->bookmark = true;
        }
    }
    rwlock_write_done(&s->admin);
    return err;
}

static uint64_t bytes_of(struct snap *s, struct obj *folder, const char *name, bool blocks) {
    struct vol_entry e;
    uint64_t bytes;

    if (s->next->ops->lookup(s->next, folder, name, &e) < 0) {
        return 0;
    }
    bytes = blocks ? (uint64_t)e.attr.st_blocks * 512 : (uint64_t)e.attr.st_size;
    snap_forget(s, e.obj);
    return bytes;
}

static uint64_t plain_number(const char *name) {
    return snap_is_anchor(name) ? 0 : snap_kept_number(name); /* those are users' files, too */
}

/* What each keeps: its log (by size, as blocks would count the room that is made ahead), and its kept
 * files. */
static int count_used(struct snap *s, struct snap_info *list, uint32_t count) {
    struct numbers kept = {.list = NULL};
    char name[NAME_BYTES];
    int err = snap_read_numbers(s, s->kept, plain_number, &kept);

    for (uint32_t i = 0; i < count; i++) {
        snap_log_name(list[i].entry.epoch, name);
        list[i].used_bytes = bytes_of(s, s->folder, name, false);
    }
    for (size_t k = 0; err == 0 && k < kept.n; k++) {
        uint32_t i = count;

        while (i > 0 && list[i - 1].entry.epoch > kept_epoch(kept.list[k])) {
            i--;
        }
        if (i > 0) {
            snap_kept_name(kept.list[k], name);
            list[i - 1].used_bytes += bytes_of(s, s->kept, name, true);
        }
    }
    free(kept.list);
    return err;
}

void snap_summary(struct snap *s, struct snap_summary *ret) {
    *ret = (struct snap_summary){.count = 0};
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < s->entry_count; i++) {
        const struct snap_entry *e = &s->entries[i];

        ret->broken += (e->flags & SNAP_HARMED) != 0;
        ret->scheduled_s = e->flags & SNAP_AUTO ? e->created_s : ret->scheduled_s;
        if (e->flags & SNAP_BOOKMARK) {
            continue;
        }
        ret->count++;
        ret->newest_s = e->created_s;
        (void)snprintf(ret->newest, sizeof(ret->newest), "%s", e->name); /* fits */
    }
    pthread_mutex_unlock(&s->mutex);
}

int snap_list(struct snap *s, struct snap_info **ret_list) {
    struct snap_info *list = calloc(SNAPSHOTS_MAX, sizeof(*list));
    uint32_t count;
    int err;

    if (!list) {
        return -ENOMEM;
    }
    pthread_mutex_lock(&s->mutex);
    count = s->entry_count;
    for (uint32_t i = 0; i < count; i++) {
        list[i].entry = s->entries[i];
    }
    pthread_mutex_unlock(&s->mutex);
    err = count_used(s, list, count); /* nobody waits for it */
    if (err < 0) {
        free(list);
        return err;
    }
    *ret_list = list;
    return (int)count;
}
