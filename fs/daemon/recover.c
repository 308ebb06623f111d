/* What a crash left, before the volume is served.
 *
 *     unmounted in order                  nothing
 *     the daemon was killed               its ring tells what was under way: only that is compared
 *     power was lost, or a remount        one store serves, the others are caught up meanwhile */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/assemble_int.h"
#include "daemon/daemon.h"
#include "heal/catchup.h"
#include "journal/journal.h"
#include "store/segment.h"

/* What the source cannot hold (owners, xattrs), a copy from it would take from the other. */
static int refuse_poorer(const struct gather *g, unsigned from, unsigned to, struct why *why) {
    uint32_t lost = store_caps(g->c[to].store) & ~store_caps(g->c[from].store) &
                    (STORE_CHOWN | STORE_XATTR_USER | STORE_XATTR_TRUSTED | STORE_ACL);

    return lost == 0
               ? 0
               : why_set(
                     why, -HFE_UNSAFE,
                     "store \"%s\" cannot hold owners, ACLs or xattrs, and copying from it would "
                     "take them from "
                     "\"%s\". Mount with -o degraded, copy what you need from %s, and keep both",
                     g->c[from].label, g->c[to].label, g->c[to].path);
}

static int note_checkpoint(void *arg, const struct journal_frame *f) {
    if (f->kind == JOURNAL_CHECKPOINT) {
        *(uint64_t *)arg = f->off;
    }
    return 0;
}

/* The logs of those that take part. One that has none gets a new one later. */
static void open_logs(struct gather *g) {
    for (unsigned i = 0; i < g->count; i++) {
        struct candidate *c = &g->c[i];

        c->log = takes_part(c) && store_log_open(c->store, &c->log_end) == 0;
    }
}

/* The last checkpoint that any of the logs has: all before it is stable on every store that takes part. The
 * log of a store that came back since begins later, and without one, and so does a log that was begun
 * anew. Where no log has one, they all begin with the volume, or with stores that came back. */
static void find_stable(struct gather *g) {
    uint64_t first = UINT64_MAX;

    g->stable = 0;
    for (unsigned i = 0; i < g->count; i++) {
        struct candidate *c = &g->c[i];
        uint64_t checkpoint = 0;
        int err;

        if (!c->log) {
            continue;
        }
        c->log_first = store_log_first(c->store);
        err = c->log_first == UINT64_MAX ? -ENOENT
                                         : store_log_read(c->store, c->log_first, c->log_end,
                                                          note_checkpoint, &checkpoint);
        if (err < 0) {
            c->log = false;
            event_post(g->events, EVENT_WARNING,
                       "the change journal of store \"%s\" cannot be read (%s): it is begun anew",
                       c->label, error_words(err));
            continue;
        }
        g->stable = checkpoint > g->stable ? checkpoint : g->stable;
        first = c->log_first < first ? c->log_first : first;
    }
    g->checkpointed = g->stable != 0;
    g->stable = !g->checkpointed && first != UINT64_MAX ? first : g->stable;
}

/* How well the store serves as the source for the others: first where its log ends, then whether that
 * reaches back to the last checkpoint, then whether it is local. */
static bool is_better(const struct gather *g, const struct candidate *c,
                      const struct candidate *best) {
    bool reaches = c->log_first <= g->stable, best_reaches = best->log_first <= g->stable;

    if (c->log != best->log) {
        return c->log;
    }
    if (c->log && c->log_end != best->log_end) {
        return c->log_end > best->log_end;
    }
    if (c->log && reaches != best_reaches) {
        return reaches;
    }
    return store_is_remote(best->store) && !store_is_remote(c->store);
}

/* One source for the whole volume: a mixture is a tree that never existed. */
static int pick_source(const struct gather *g) {
    int source = -1;

    for (unsigned i = 0; i < g->count; i++) {
        if (takes_part(&g->c[i]) && (source < 0 || is_better(g, &g->c[i], &g->c[source]))) {
            source = (int)i;
        }
    }
    return source;
}

/* Frames of the source that a store does not have yet. */
struct extend {
    struct candidate *c;
    const struct id *volume;
};

static int extend_one(void *arg, const struct journal_frame *f) {
    struct extend *x = arg;
    uint8_t bytes[JOURNAL_FRAME_BYTES_MAX];
    size_t n = journal_frame_encode(f, x->volume, bytes);
    int err = store_log_append(x->c->store, f->position, bytes, n);

    x->c->log_end = err < 0 ? x->c->log_end : f->position + n;
    return err;
}

/* All logs end where the source's does. One that cannot begins anew there. */
static void equal_logs(struct gather *g, unsigned source) {
    for (unsigned i = 0; i < g->count; i++) {
        struct candidate *c = &g->c[i];
        struct extend x = {.c = c, .volume = &g->record.volume_id};

        if (!takes_part(c) || (c->log && c->log_end == g->position)) {
            continue;
        }
        if (!c->log || i == source || c->log_end > g->position ||
            store_log_read(g->c[source].store, c->log_end, g->position, extend_one, &x) < 0) {
            c->log = store_log_reset(c->store, g->position) == 0;
            c->log_end = g->position;
        }
    }
}

/* Is the store the same instance as at the last mount? Else it may have lost what was not synced.
 */
static bool same_instance(const struct journal_tail *t, const struct candidate *c) {
    struct journal_instance now;

    store_instance(c->store, &now.dev, &now.ino, &now.mount);
    for (unsigned k = 0; k < t->stores; k++) {
        const struct journal_instance *then = &t->store[k];

        if (id_equal(&then->store, &c->id)) {
            return then->dev == now.dev && then->ino == now.ino && then->mount == now.mount;
        }
    }
    return false;
}

/* Is the ring of the last mount there, and did no store lose what was not synced? */
static bool tail_fits(const struct gather *g, const struct journal_tail *t) {
    if (!id_equal(&t->volume, &g->record.volume_id) || t->mount_count != g->record.mount_count) {
        return false;
    }
    for (unsigned i = 0; i < g->count; i++) {
        if (takes_part(&g->c[i]) &&
            (!same_instance(t, &g->c[i]) || !g->c[i].log || g->c[i].log_end < t->position ||
             g->c[i].log_end > t->position + t->bytes)) {
            return false;
        }
    }
    return true;
}

/* The frames of the ring, behind those that a store has. Its log goes on only if that went well. */
static void append_tail(struct candidate *c, const struct journal_tail *t) {
    size_t skip = (size_t)(c->log_end - t->position);

    c->log = (skip == t->bytes ||
              store_log_append(c->store, c->log_end, t->frames + skip, t->bytes - skip) == 0) &&
             store_log_sync(c->store) == 0;
    c->log_end = t->position + t->bytes;
}

static int recover_one(struct gather *g, unsigned from, unsigned to, const struct journal_tail *t,
                       struct why *why) {
    struct catchup_config cc = {.from = g->c[from].store,
                                .to = g->c[to].store,
                                .from_slot = super_slot_of(&g->record, &g->c[from].id),
                                .to_slot = super_slot_of(&g->record, &g->c[to].id)};
    uint64_t first = g->c[from].log_first;
    struct catchup *c;
    int err = refuse_poorer(g, from, to, why);

    err = err < 0 ? err : catchup_new(&cc, &g->record.volume_id, &c);
    if (err < 0) {
        return why->text[0] ? err : why_set(why, err, "cannot recover: %s", error_words(err));
    }
    catchup_view(c)->slot = -1;
    err = store_log_read(g->c[from].store, g->stable > first ? g->stable : first, g->position,
                         catchup_add, c);
    /* Times that were not made equal yet are, of all that was told; names and bytes only of what
     * was under way, for all other changes were on every store. */
    err =
        err < 0 ? why_set(why, err, "the change journal cannot be read: %s", error_words(err)) : 0;
    err = err < 0 ? err : catchup_only(c, t->under_way, t->count);
    err = err < 0 ? err : catchup_names(c, why);
    err = err < 0 ? err : catchup_data(c, why);
    err = err < 0 ? err : catchup_clear(c, why); /* one of its files may have other names */
    if (err == 0) {
        const struct copy_stat *s = catchup_stat(c);

        event_post(g->events, EVENT_INFO,
                   "the daemon had been killed with %u changes under way: store \"%s\" is equal "
                   "again (%llu objects "
                   "compared, %llu changed, %llu bytes copied)",
                   t->count, g->c[to].label, (unsigned long long)s->objects_compared,
                   (unsigned long long)s->objects_changed, (unsigned long long)s->bytes_copied);
    }
    catchup_free(c);
    return err;
}

/* Power was lost, or a store was mounted anew: any single store holds all that was synced. One of
 * them serves, and the others are caught up meanwhile. */
static int recover_crashed(struct gather *g, struct why *why) {
    int source, err = 0;

    find_stable(g);
    source = pick_source(g);
    g->position =
        g->c[source].log ? g->c[source].log_end : g->record.end_position + JOURNAL_CAP_BYTES;
    g->crashed = true;
    for (unsigned i = 0; i < g->count && err == 0; i++) {
        struct super_member *m = super_member_of(&g->record, &g->c[i].id);

        if ((int)i == source || !takes_part(&g->c[i]) || !m) {
            continue;
        }
        err = refuse_poorer(g, (unsigned)source, i, why);
        m->position = g->c[source].log ? g->stable : 0;
        m->left_generation = store_super(g->c[i].store)->generation;
        m->left_mount = store_super(g->c[i].store)->mount_count;
        g->c[i].state = MEMBER_STALE;
    }
    equal_logs(g, (unsigned)source);
    event_post(g->events, EVENT_WARNING,
               "the machine or a store went down without unmounting: store \"%s\" serves, the "
               "others are made equal to "
               "it meanwhile",
               g->c[source].label);
    return err;
}

static bool tell_name(struct gather *g, struct candidate *c, uint64_t parent, const char *name) {
    struct journal_frame f = {.kind = JOURNAL_NAME, .position = c->log_end, .parent = parent};
    struct extend x = {.c = c, .volume = &g->record.volume_id};

    (void)snprintf(f.name, sizeof(f.name), "%s", name); /* a name fits */
    return extend_one(&x, &f) == 0;
}

/* What the log told of names may not have been done: from here on nobody knows who is there. Where inodes say
 * nothing, a store that was away would believe it. A log that cannot say so is begun anew. */
static void tell_under_way(struct gather *g, struct candidate *c, const struct journal_tail *t) {
    bool told = true;

    for (unsigned i = 0; i < t->count && told; i++) {
        const struct journal_frame *f = &t->under_way[i];

        if (f->kind == JOURNAL_NAME || f->kind == JOURNAL_MOVE) {
            told = tell_name(g, c, f->parent, f->name);
        }
        if (f->kind == JOURNAL_MOVE && told) {
            told = tell_name(g, c, f->parent2, f->name2);
        }
    }
    c->log = told && store_log_sync(c->store) == 0;
    g->position = c->log_end;
}

/* The daemon was killed: its ring says what was under way. */
static int recover_killed(struct gather *g, const struct journal_tail *t, struct why *why) {
    int source, err = 0;

    for (unsigned i = 0; i < g->count; i++) {
        if (takes_part(&g->c[i])) {
            append_tail(&g->c[i], t);
        }
    }
    find_stable(g);
    source = pick_source(g);
    if (!g->c[source].log) { /* no room for what the ring knows */
        return recover_crashed(g, why);
    }
    g->position = t->position + t->bytes;
    for (unsigned i = 0; i < g->count && err == 0; i++) {
        err = (int)i == source || !takes_part(&g->c[i])
                  ? 0
                  : recover_one(g, (unsigned)source, i, t, why);
    }
    if (err == 0) {
        tell_under_way(g, &g->c[source], t);
    }
    equal_logs(g, (unsigned)source);
    return err;
}

int recover_stores(struct gather *g, struct why *why) {
    bool cut_off =
        g->witnessed && g->seen.clean && g->record.mount_count == g->seen.mount_count + 1;
    struct journal_tail t = {.frames = NULL};
    bool unclean = false;
    char ring[PATH_BYTES];
    int err = 0;

    open_logs(g);
    for (unsigned i = 0; i < g->count; i++) {
        unclean = unclean || (takes_part(&g->c[i]) && !store_super(g->c[i].store)->clean);
    }
    if (!unclean || cut_off) { /* cut off while it wrote its record: nothing was changed */
        g->position =
            g->record.end_position > JOURNAL_START ? g->record.end_position : JOURNAL_START;
        g->stable = g->position;
        g->checkpointed = true;
        equal_logs(g, (unsigned)pick_source(g));
        return 0;
    }
    daemon_ring_path(g->config->name, ring);
    if (journal_read_tail(ring, &t) == 0 && tail_fits(g, &t)) {
        err = recover_killed(g, &t, why);
    } else {
        err = recover_crashed(g, why);
    }
    journal_tail_release(&t);
    return err;
}
