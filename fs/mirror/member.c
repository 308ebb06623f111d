/* The states of the stores, and how a change of state is made durable before it counts.
 *
 *     ONLINE -> FAULTED    a device error where others did well     [member_fault]
 *     ONLINE -> OFFLINE    by an admin                              [mirror_lose]
 *
 * A store that is not ONLINE gets no changes and serves no reads. What it lacks from then on nobody
 * counts yet, so it does not come back by itself: the survivors' superblocks and the witness say
 * so, and the next mount refuses it (daemon/assemble.c). The last ONLINE store is never taken out:
 * its errors are the answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "mirror/mirror_int.h"

unsigned online_count(const struct mirror *m) {
    unsigned n = 0;

    for (unsigned i = 0; i < m->count; i++) {
        n += is_online(m, i);
    }
    return n;
}

/* Local before remote, then in the order of the configuration. */
void member_pick_reader(struct mirror *m) {
    int best = -1;
    unsigned before = atomic_load(&m->reader);

    for (unsigned i = 0; i < m->count; i++) {
        if (is_online(m, i) && (best < 0 || (store_is_remote(m->member[best].store) &&
                                             !store_is_remote(m->member[i].store)))) {
            best = (int)i;
        }
    }
    if (best >= 0 && (unsigned)best != before) {
        atomic_store(&m->reader, (unsigned)best);
        atomic_store(&m->renumbered, true);
    }
}

static bool edge_ok(enum member_state from, enum member_state to) {
    static const struct {
        enum member_state from, to;
    } edges[] = {{MEMBER_ONLINE, MEMBER_FAULTED}, {MEMBER_ONLINE, MEMBER_OFFLINE}};

    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        if (edges[i].from == from && edges[i].to == to) {
            return true;
        }
    }
    return false;
}

static int record_on_stores_locked(struct mirror *m) {
    unsigned written = 0;
    int err = 0;

    for (unsigned i = 0; i < m->count; i++) {
        const struct super_member *r = super_member_of(&m->super, &m->member[i].id);
        int e;

        if (!m->member[i].store || !r || r->state != MEMBER_ONLINE) {
            continue;
        }
        e = store_write_super(m->member[i].store, &m->super);
        if (e == 0) {
            written++;
        } else {
            event_post(m->events, EVENT_ERROR, "store \"%s\": its superblock cannot be written: %s",
                       m->member[i].label, error_words(e));
            err = e;
        }
    }
    return written > 0 ? 0 : err;
}

int member_record_locked(struct mirror *m) {
    int err = record_on_stores_locked(m);

    if (err == 0 && m->write_witness) {
        err = m->write_witness(m->witness_arg, &m->super);
    }
    if (err < 0) {
        atomic_store(&m->read_only, true);
        event_post(m->events, EVENT_ERROR,
                   "who belongs to the volume cannot be recorded (%s): it is read-only now. Make "
                   "room in the state "
                   "directory and on the stores, and mount it again",
                   error_words(err));
    }
    return err;
}

static int leave_locked(struct mirror *m, unsigned i, enum member_state state, const char *reason) {
    struct member *member = &m->member[i];
    struct super_member *r = super_member_of(&m->super, &member->id);
    int err;

    if (!edge_ok((enum member_state)member->state, state) || !r) {
        return atomic_load(&m->read_only) ? -EIO
                                          : 0; /* somebody else was faster; was it recorded? */
    }
    if (online_count(m) == 1) {
        return -HFE_UNSAFE;
    }
    r->state = state;
    r->since_s = member->since_s = clock_real_s();
    super_new_generation(&m->super);
    err = member_record_locked(m);
    (void)snprintf(member->reason, sizeof(member->reason), "%s", reason);
    atomic_store(&member->state, state);
    member_pick_reader(m);
    event_post(m->events, EVENT_ERROR,
               "store \"%s\" is %s: %s. No data is lost. %u of %u stores are left", member->label,
               member_state_name(state), reason, online_count(m), m->count);
    return err;
}

int mirror_lose(struct mirror *m, unsigned i, enum member_state state, const char *reason) {
    int err;

    pthread_mutex_lock(&m->member_lock);
    err = leave_locked(m, i, state, reason);
    pthread_mutex_unlock(&m->member_lock);
    return err;
}

int member_fault(struct mirror *m, unsigned i, int err, const char *what) {
    char reason[256];

    (void)snprintf(reason, sizeof(reason), "%s: %s", what, error_words(err));
    return mirror_lose(m, i, MEMBER_FAULTED, reason);
}

void mirror_status(struct mirror *m, struct mirror_status *s) {
    memset(s, 0, sizeof(*s));
    pthread_mutex_lock(&m->member_lock);
    s->count = m->count;
    s->online = online_count(m);
    s->read_only = atomic_load(&m->read_only);
    s->unequal = atomic_load(&m->unequal);
    s->generation_number = m->super.generation_number;
    s->mount_count = m->super.mount_count;
    for (unsigned i = 0; i < m->count; i++) {
        struct member *member = &m->member[i];
        struct mirror_member_status *r = &s->member[i];

        memcpy(r->label, member->label, sizeof(r->label));
        if (member->store) {
            (void)snprintf(r->path, sizeof(r->path), "%s", store_path(member->store));
            (void)snprintf(r->fs, sizeof(r->fs), "%s", store_fs_name(member->store));
        }
        memcpy(r->reason, member->reason, sizeof(r->reason));
        r->state = (enum member_state)member->state;
        r->reads_here = i == atomic_load(&m->reader);
        r->since_s = member->since_s;
        r->read_errors = member->read_errors;
        r->write_errors = member->write_errors;
        r->total_bytes = member->total_bytes;
        r->free_bytes = member->free_bytes;
    }
    pthread_mutex_unlock(&m->member_lock);
    s->objects = obj_count(m->objs);
}
