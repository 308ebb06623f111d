/* Which stores there are: added, removed and replaced while the volume is in use.
 *
 * A newcomer is recorded on all ONLINE stores before a byte is copied to it. It takes the place of a
 * removed one, or a new one behind the others: places are never given up while the volume is mounted,
 * so that whoever walks over them needs no lock. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "mirror/mirror_int.h"

static bool is_free(const struct mirror *m, unsigned i) {
    const struct member *member = &m->member[i];

    return atomic_load(&member->state) == MEMBER_REMOVED && !member->store &&
           guard_calls(member->guard) == 0;
}

/* A place in member[], or -1. */
static int find_place(const struct mirror *m) {
    for (unsigned i = 0; i < m->count; i++) {
        if (is_free(m, i)) {
            return (int)i;
        }
    }
    return m->count < STORES_MAX ? (int)m->count : -1;
}

static bool is_taken(const struct mirror *m, const struct mirror_newcomer *n) {
    for (unsigned i = 0; i < m->count; i++) {
        const struct member *member = &m->member[i];

        if (atomic_load(&member->state) != MEMBER_REMOVED &&
            (strcmp(member->label, n->label) == 0 || id_equal(&member->id, &n->id) ||
             (strcmp(member->path, n->path) == 0 && (int)i != n->replaces))) {
            return true;
        }
    }
    return false;
}

static unsigned replaced_by(const struct mirror *m, unsigned slot) {
    unsigned n = 0;

    for (uint32_t k = 0; k < m->super.member_count; k++) {
        n += m->super.member[k].replaces == slot + 1;
    }
    return n;
}

/* Fills the place; nobody looks at it yet, or all know it as REMOVED. */
static int take_place(struct mirror *m, unsigned i, unsigned slot,
                      const struct mirror_newcomer *n) {
    struct member *member = &m->member[i];

    if (!member->guard) {
        int err = guard_new(NULL, &member->guard);

        if (err < 0) {
            return err;
        }
        guard_set_objects(member->guard, m->objs);
        member->vol = guard_vol(member->guard);
    }
    pthread_mutex_lock(&m->status_lock);
    member->id = n->id;
    member->slot = slot;
    member->caps = 0;
    atomic_store(&member->passive, n->passive);
    atomic_store(&member->space, SPACE_ENOUGH);
    (void)snprintf(member->label, sizeof(member->label), "%s", n->label);
    (void)snprintf(member->path, sizeof(member->path), "%s", n->path);
    member->fs[0] = member->disk[0] = '\0';
    atomic_store(&member->read_errors, 0);
    atomic_store(&member->write_errors, 0);
    member->log_broken = member->unproven = false;
    pthread_mutex_unlock(&m->status_lock);
    return 0;
}

static int add_locked(struct mirror *m, const struct mirror_newcomer *n, unsigned *ret_index) {
    int place = find_place(m), err;
    struct super_member r = {
        .id = n->id, .state = MEMBER_STALE, .caps = n->caps, .since_s = clock_real_s()};
    struct super_member *entry;

    if (atomic_load(&m->read_only)) {
        return -EROFS;
    }
    if (is_taken(m, n)) {
        return -EEXIST;
    }
    if (place < 0) {
        return -HFE_USAGE;
    }
    if (n->replaces >= 0) {
        unsigned old = m->member[n->replaces].slot;

        if (replaced_by(m, old) > 0 || m->super.member[old].replaces != 0) {
            return -HFE_IN_USE;
        }
        r.replaces = old + 1;
    }
    r.passive = n->passive;
    (void)snprintf(r.label, sizeof(r.label), "%s", n->label);
    entry = super_enter(&m->super, &r);
    if (!entry) {
        return -HFE_USAGE;
    }
    journal_set_exact(m->journal, true);
    err = take_place(m, (unsigned)place, (unsigned)(entry - m->super.member), n);
    err = err < 0 ? err : member_record_locked(m);
    if (err < 0) { /* what some stores may have of it was never filled */
        entry->state = MEMBER_REMOVED;
        return err;
    }
    if (n->replaces >= 0 && strcmp(m->member[n->replaces].path, n->path) == 0) {
        pthread_mutex_lock(&m->status_lock); /* another disk is mounted there now */
        m->member[n->replaces].path[0] = '\0';
        pthread_mutex_unlock(&m->status_lock);
    }
    member_show(m, (unsigned)place, MEMBER_STALE, "new: it has to be filled first");
    if ((unsigned)place == m->count) {
        m->count = (unsigned)place + 1;
    }
    *ret_index = (unsigned)place;
    event_post(m->events, EVENT_INFO, "store \"%s\" (%s) was added: it is being filled", n->label,
               n->path);
    return 0;
}

int mirror_add(struct mirror *m, const struct mirror_newcomer *n, unsigned *ret_index) {
    int err;

    rwlock_write(&m->member_lock);
    err = add_locked(m, n, ret_index);
    rwlock_write_done(&m->member_lock);
    return err;
}

static int remove_locked(struct mirror *m, unsigned i, const char *reason) {
    struct member *member = &m->member[i];
    struct super_member *r = member_record_of(m, i);
    bool online = is_online(m, i);
    int err;

    if (!r || !member_edge_ok((enum member_state)atomic_load(&member->state), MEMBER_REMOVED)) {
        return -ENOENT;
    }
    if ((online && !member_can_be_spared(m)) || member_count(m) <= m->min_stores) {
        return -HFE_UNSAFE;
    }
    if (atomic_load(&m->taken)) {
        return -HFE_IN_USE;
    }
    for (uint32_t k = 0; k < m->super.member_count; k++) {
        if (m->super.member[k].replaces == member->slot + 1) {
            m->super.member[k].replaces = 0;
        }
    }
    r->state = MEMBER_REMOVED;
    r->since_s = clock_real_s();
    r->position = r->left_mount = 0;
    r->left_generation = (struct id){{0}};
    r->replaces = 0;
    if (online) { /* what is in it is a copy of an older time from now on */
        super_new_generation(&m->super);
    }
    atomic_store(&member->spoiled, true); /* a catch-up that runs ends */
    member_sync_over(member);
    guard_shut(member->guard);
    err = member_record_locked(m);
    member_show(m, i, MEMBER_REMOVED, reason);
    event_post(m->events, EVENT_INFO, "store \"%s\" (%s) is not part of the volume any more: %s",
               member->label, member->path, reason);
    return err;
}

int mirror_remove(struct mirror *m, unsigned i, const char *reason) {
    int err;

    rwlock_write(&m->member_lock);
    err = remove_locked(m, i, reason);
    rwlock_write_done(&m->member_lock);
    return err;
}

int mirror_replaces(struct mirror *m, unsigned i) {
    const struct super_member *r;
    int found = -1;

    rwlock_write(&m->member_lock);
    r = member_record_of(m, i);
    for (unsigned k = 0; k < m->count && r && r->replaces != 0; k++) {
        if (m->member[k].slot == r->replaces - 1 &&
            atomic_load(&m->member[k].state) != MEMBER_REMOVED) {
            found = (int)k;
        }
    }
    rwlock_write_done(&m->member_lock);
    return found;
}

bool mirror_was_removed(struct mirror *m, const char *label) {
    bool removed = false, there = false;

    rwlock_write(&m->member_lock);
    for (uint32_t k = 0; k < m->super.member_count; k++) {
        const struct super_member *r = &m->super.member[k];
        bool same = strcmp(r->label, label) == 0;

        removed = removed || (same && r->state == MEMBER_REMOVED);
        there = there || (same && r->state != MEMBER_REMOVED);
    }
    rwlock_write_done(&m->member_lock);
    return removed && !there;
}
