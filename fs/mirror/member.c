/* The states of the stores, and how a change of state is made durable before it counts.
 *
 *     ONLINE  -> FAULTED   a device error or silence where others did well   [member_fault]
 *     ONLINE  -> OFFLINE   by an admin                                       [mirror_lose]
 *     FAULTED, STALE, OFFLINE -> SYNCING   its catch-up begins               [mirror_sync_begin]
 *     SYNCING -> ONLINE    it is equal and stable                            [mirror_sync_done]
 *     SYNCING -> STALE     the catch-up did not end well                     [mirror_sync_failed]
 *     FAULTED, STALE, SYNCING, PASSIVE -> OFFLINE   by an admin              [mirror_lose]
 *     SYNCING -> PASSIVE   it follows, equal up to a cut                      [mirror_follows]
 *     PASSIVE -> ONLINE    it is to serve, and has got all                    [mirror_sync_done]
 *     PASSIVE -> STALE     it does not follow any more                        [mirror_sync_failed]
 *     ONLINE  -> STALE     it is to follow from now on                        [mirror_set_passive]
 *     any -> REMOVED       by an admin, or because another one replaced it   [mirror_remove]
 *
 * ONLINE: takes every change before it is acknowledged; may serve. SYNCING: what is in it is a
 * mixture; once its names are equal it takes changes too ("receives"), which nobody counts. The
 * others take nothing and are let go: nothing of ours stays open on them. What they lack is told in
 * the journal from their durable position on. The last ONLINE store is never taken out: its errors
 * are the answer. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "mirror/mirror_int.h"
#include "store/segment.h"

unsigned online_count(const struct mirror *m) {
    unsigned n = 0;

    for (unsigned i = 0; i < m->count; i++) {
        n += is_online(m, i);
    }
    return n;
}

bool member_can_be_spared(const struct mirror *m) {
    return online_count(m) > m->min_stores;
}

void member_describe(struct mirror *m, unsigned i, const struct store *store) {
    struct member *member = &m->member[i];
    uint64_t dev, ino, mount;

    store_instance(store, &dev, &ino, &mount);
    pthread_mutex_lock(&m->status_lock);
    (void)snprintf(member->fs, sizeof(member->fs), "%s", store_fs_name(store));
    disk_describe(dev, member->disk);
    pthread_mutex_unlock(&m->status_lock);
}

unsigned member_count(const struct mirror *m) {
    unsigned n = 0;

    for (unsigned i = 0; i < m->count; i++) {
        n += atomic_load(&m->member[i].state) != MEMBER_REMOVED;
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
        if (before < STORES_MAX) { /* another order, other positions */
            mirror_doubt_listings(m);
        }
        atomic_store(&m->renumbered, true);
    }
}

bool member_edge_ok(enum member_state from, enum member_state to) {
    static const struct {
        enum member_state from, to;
    } edges[] = {{MEMBER_ONLINE, MEMBER_FAULTED},  {MEMBER_ONLINE, MEMBER_OFFLINE},
                 {MEMBER_FAULTED, MEMBER_SYNCING}, {MEMBER_STALE, MEMBER_SYNCING},
                 {MEMBER_OFFLINE, MEMBER_SYNCING}, {MEMBER_SYNCING, MEMBER_ONLINE},
                 {MEMBER_SYNCING, MEMBER_STALE},   {MEMBER_FAULTED, MEMBER_OFFLINE},
                 {MEMBER_STALE, MEMBER_OFFLINE},   {MEMBER_ONLINE, MEMBER_REMOVED},
                 {MEMBER_FAULTED, MEMBER_REMOVED}, {MEMBER_STALE, MEMBER_REMOVED},
                 {MEMBER_OFFLINE, MEMBER_REMOVED}, {MEMBER_SYNCING, MEMBER_REMOVED},
                 {MEMBER_SYNCING, MEMBER_PASSIVE}, {MEMBER_PASSIVE, MEMBER_ONLINE},
                 {MEMBER_PASSIVE, MEMBER_STALE},   {MEMBER_PASSIVE, MEMBER_OFFLINE},
                 {MEMBER_PASSIVE, MEMBER_REMOVED}, {MEMBER_ONLINE, MEMBER_STALE},
                 {MEMBER_SYNCING, MEMBER_OFFLINE}};

    for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
        if (edges[i].from == from && edges[i].to == to) {
            return true;
        }
    }
    return false;
}

/* --- the record --- */

struct write_call {
    struct store *store;
    struct super *super; /* on the heap: it must outlive a call that is given up */
};

static int write_call(void *arg) {
    struct write_call *w = arg;

    return store_write_super(w->store, w->super);
}

static int write_super(struct mirror *m, unsigned i) {
    struct write_call w = {.store = m->member[i].store, .super = malloc(sizeof(struct super))};
    int err;

    if (!w.super) {
        return -ENOMEM;
    }
    *w.super = m->super;
    err = guard_call(m->member[i].guard, GUARD_SLOW, write_call, &w, sizeof(w));
    fiber_orphan(w.super);
    return err;
}

static int record_on_stores_locked(struct mirror *m) {
    unsigned written = 0;
    int err = 0;

    for (unsigned i = 0; i < m->count; i++) {
        const struct super_member *r = super_member_of(&m->super, &m->member[i].id);
        int e;

        if (!m->member[i].store || !r ||
            (r->state != MEMBER_ONLINE && r->state != MEMBER_SYNCING)) {
            continue;
        }
        e = write_super(m, i);
        if (e < 0) {
            event_post(m->events, EVENT_ERROR, "store \"%s\": its superblock cannot be written: %s",
                       m->member[i].label, error_words(e));
            err = e;
        } else {
            written += r->state == MEMBER_ONLINE;
        }
    }
    return written > 0 ? 0 : err < 0 ? err : -EIO;
}

int member_record_locked(struct mirror *m) {
    int err = record_on_stores_locked(m);

    pthread_mutex_lock(&m->status_lock);
    m->shown = m->super;
    pthread_mutex_unlock(&m->status_lock);

    if (err == 0 && m->write_witness) {
        err = m->write_witness(m->witness_arg, &m->super);
    }
    if (err < 0) {
        atomic_store(&m->read_only, true);
        event_post(m->events, EVENT_ERROR,
                   "who belongs to the volume cannot be recorded (%s): it is read-only now. Make "
                   "room in the state directory and on the stores, and mount it again",
                   error_words(err));
    }
    return err;
}

void member_show(struct mirror *m, unsigned i, enum member_state state, const char *reason) {
    struct member *member = &m->member[i];

    pthread_mutex_lock(&m->status_lock);
    member->since_s = clock_real_s();
    (void)snprintf(member->reason, sizeof(member->reason), "%s", reason);
    atomic_store(&member->state, (int)state);
    pthread_mutex_unlock(&m->status_lock);
    member_pick_reader(m);
}

struct super_member *member_record_of(struct mirror *m, unsigned i) {
    return super_member_of(&m->super, &m->member[i].id);
}

void member_spoil(struct mirror *m, unsigned i, const char *what, int err) {
    struct member *member = &m->member[i];

    if (!atomic_exchange(&member->spoiled, true)) {
        pthread_mutex_lock(&m->status_lock);
        (void)snprintf(member->reason, sizeof(member->reason),
                       "it missed a change meanwhile (%s: %s)", what, error_words(err));
        pthread_mutex_unlock(&m->status_lock);
    }
}

void member_sync_over(struct member *member) {
    atomic_store(&member->receives, false);
    atomic_store(&member->log_needed, 0);
}

/* --- leaving --- */

/* The journal tells no more what the stores that are away need to know of each other. */
static void forget_positions_locked(struct mirror *m) {
    for (unsigned i = 0; i < m->count; i++) {
        struct super_member *r = member_record_of(m, i);

        if (!r || r->state == MEMBER_ONLINE) {
            continue;
        }
        r->position = 0;
        if (catches_up(m, i)) {
            member_spoil(m, i, "the change journal had no room", -EAGAIN);
        }
    }
}

/* That it left, in the journal: by it the inodes that were told before are not believed. */
static void tell_leave_locked(struct mirror *m, const struct member *member) {
    if (!journal_try_append(m->journal,
                            &(struct journal_frame){.kind = JOURNAL_LEAVE, .slot = member->slot})) {
        forget_positions_locked(m); /* whoever makes room may wait for us */
    }
}

static int leave_locked(struct mirror *m, unsigned i, enum member_state state, const char *reason) {
    struct member *member = &m->member[i];
    enum member_state before = (enum member_state)member->state;
    struct super_member *r = member_record_of(m, i);
    enum member_state recorded;
    int err;

    if (atomic_load(&m->taken)) {
        return -HFE_IN_USE;
    }
    if (!member_edge_ok(before, state) || !r) {
        return atomic_load(&m->read_only) ? -EIO
                                          : 0; /* somebody else was faster; was it recorded? */
    }
    if (before == MEMBER_ONLINE && online_count(m) == 1) {
        guard_reopen(member->guard); /* others were there when the watchdog shut it */
        if (atomic_load(&m->taken)) {
            guard_shut(member->guard); /* just now */
        }
        return -HFE_UNSAFE;
    }
    if (before == MEMBER_ONLINE && state != MEMBER_FAULTED && !member_can_be_spared(m)) {
        return -HFE_UNSAFE;
    }
    recorded = r->state;
    r->state = state;
    r->since_s = clock_real_s();
    if (before == MEMBER_ONLINE) {
        r->position = member->unproven ? 0 : atomic_load(&m->log_stable);
        r->left_generation = m->super.generation;
        r->left_mount = m->super.mount_count;
        journal_set_exact(m->journal, true);
        tell_leave_locked(m, member);
        super_new_generation(&m->super);
    } else if (recorded == MEMBER_SYNCING || recorded == MEMBER_PASSIVE) {
        r->position = 0; /* what is in it is a mixture, which the record will not tell any more */
        member_spoil(m, i, "taken out", -ECANCELED);
        member_sync_over(member);
    }
    guard_shut(member->guard);
    err = member_record_locked(m);
    member_show(m, i, state, reason);
    event_post(m->events, state == MEMBER_OFFLINE ? EVENT_WARNING : EVENT_ERROR,
               "store \"%s\" is %s: %s. No data is lost. %u of %u stores are left", member->label,
               member_state_name(state), reason, online_count(m), member_count(m));
    return err;
}

int mirror_lose(struct mirror *m, unsigned i, enum member_state state, const char *reason) {
    int err;

    rwlock_write(&m->member_lock);
    err = leave_locked(m, i, state, reason);
    rwlock_write_done(&m->member_lock);
    return err;
}

void mirror_taken(struct mirror *m, unsigned i) {
    if (atomic_exchange(&m->taken, true)) {
        return;
    }
    for (unsigned k = 0; k < m->count; k++) {
        guard_shut(m->member[k].guard);
    }
    atomic_store(&m->read_only, true);
    event_post(m->events, EVENT_ERROR,
               "store \"%s\" was mounted by another daemon, on another machine perhaps: this one "
               "stops. Unmount it here; what it was asked to write in the last seconds may be lost",
               m->member[i].label);
}

void member_silence_text(const char *what, int64_t ms, char ret_text[REASON_BYTES]) {
    (void)snprintf(ret_text, REASON_BYTES, "it stopped answering (%s: no reply for %lld.%lld s)",
                   what, (long long)(ms / 1000), (long long)(ms % 1000 / 100));
}

int member_fault(struct mirror *m, unsigned i, int err, const char *what) {
    char reason[REASON_BYTES];

    if (catches_up(m, i)) { /* its changes are not counted */
        member_spoil(m, i, what, err);
        return 0;
    }
    if (err == -HFE_GIVEN_UP) {
        member_silence_text(what, m->store_timeout_ms, reason);
    } else {
        (void)snprintf(reason, sizeof(reason), "%s: %s", what, error_words(err));
    }
    return mirror_lose(m, i, MEMBER_FAULTED, reason);
}

bool mirror_let_go(struct mirror *m, unsigned i) {
    struct member *member = &m->member[i];
    bool gone;

    rwlock_write(&m->member_lock);
    gone = !member->store;
    if (!gone && !guard_is_open(member->guard) && guard_calls(member->guard) == 0 &&
        !is_online(m, i)) {
        guard_close_files(member->guard);
        store_let_go(member->store);
        member->store = NULL;
        gone = true;
    }
    rwlock_write_done(&m->member_lock);
    return gone;
}

/* --- coming back --- */

void mirror_member_info(struct mirror *m, unsigned i, struct mirror_member_info *ret) {
    const struct super_member *r;

    memset(ret, 0, sizeof(*ret));
    rwlock_write(&m->member_lock);
    r = member_record_of(m, i);
    ret->state = (enum member_state)m->member[i].state;
    ret->id = m->member[i].id;
    ret->slot = m->member[i].slot;
    ret->here = m->member[i].store != NULL;
    memcpy(ret->path, m->member[i].path, sizeof(ret->path));
    memcpy(ret->label, m->member[i].label, sizeof(ret->label));
    if (r) {
        ret->record = *r;
    }
    rwlock_write_done(&m->member_lock);
}

struct super mirror_super(struct mirror *m) {
    struct super s;

    rwlock_write(&m->member_lock);
    s = m->super;
    rwlock_write_done(&m->member_lock);
    return s;
}

static int begin_locked(struct mirror *m, unsigned i, enum member_state seen, struct store *store,
                        uint64_t position) {
    struct member *member = &m->member[i];
    struct super_member *r = member_record_of(m, i);
    int err;

    if (!r || member->state != (int)seen || !member_edge_ok(seen, MEMBER_SYNCING) ||
        member->store || atomic_load(&m->taken)) {
        return -HFE_IN_USE;
    }
    r->state = MEMBER_SYNCING;
    r->since_s = clock_real_s();
    r->position = position;
    r->left_generation = m->super.generation;
    r->left_mount = m->super.mount_count;
    member->store = store;
    atomic_store(&member->positions_last, store_positions_last(store));
    member->caps = store_caps(store);
    member_describe(m, i, store);
    store_attach(store, m->objs, (uint8_t)i, m->dirfds_max);
    obj_table_strange(m->objs, (uint8_t)i, member->caps & STORE_STABLE_INO);
    log_takes_part(m, member->caps);
    guard_open(member->guard, store_vol(store));
    atomic_store(&member->receives, false);
    atomic_store(&member->spoiled, false);
    atomic_store(&member->log_needed, position == 0 ? atomic_load(&m->log_stable) : 0);
    err = write_super(m, i); /* it must say itself that it is a mixture now */
    err = err < 0 ? err : member_record_locked(m);
    member_show(m, i, MEMBER_SYNCING, "being caught up");
    if (err < 0) {
        return err;
    }
    event_post(m->events, EVENT_INFO, "store \"%s\" is back: its catch-up has begun",
               member->label);
    return 0;
}

int mirror_sync_begin(struct mirror *m, unsigned i, enum member_state seen, struct store *store,
                      uint64_t position) {
    int err;

    rwlock_write(&m->member_lock);
    err = begin_locked(m, i, seen, store, position);
    rwlock_write_done(&m->member_lock);
    return err;
}

bool mirror_sync_spoiled(struct mirror *m, unsigned i) {
    return atomic_load(&m->member[i].spoiled);
}

void mirror_sync_failed(struct mirror *m, unsigned i, const char *why, bool torn) {
    char reason[sizeof(m->member[i].reason)];

    pthread_mutex_lock(&m->status_lock);
    (void)snprintf(reason, sizeof(reason), "%s", m->member[i].spoiled ? m->member[i].reason : why);
    pthread_mutex_unlock(&m->status_lock);
    rwlock_write(&m->member_lock);
    if (catches_up(m, i)) {
        struct super_member *r = member_record_of(m, i);
        bool follows = m->member[i].state == MEMBER_PASSIVE;

        member_sync_over(&m->member[i]);
        r->since_s = clock_real_s();
        if (torn) {
            r->position = 0;
            (void)member_record_locked(m); /* what cannot be recorded makes the volume read-only */
        }
        guard_shut(m->member[i].guard);
        member_show(m, i, MEMBER_STALE,
                    reason); /* the record keeps SYNCING or PASSIVE: what is in it is a mixture */
        event_post(m->events, follows ? EVENT_INFO : EVENT_WARNING,
                   "store \"%s\": its catch-up stopped: %s", m->member[i].label, reason);
    }
    rwlock_write_done(&m->member_lock);
}

/* All names of the target are equal from this instant on: it takes all changes. Alone with the
 * names until mirror_names_done(). */
int mirror_names_alone(struct mirror *m, unsigned i, uint64_t *ret_position) {
    enum { NAMES_PATIENCE_MS = 30, TRIES = 200 };

    for (int tries = 0; tries < TRIES; tries++) {
        if (gate_close(&m->gate, CUT_PATIENCE_MS) < 0) {
            return -ETIMEDOUT;
        }
        if (rwlock_try_write(&m->names, NAMES_PATIENCE_MS)) {
            *ret_position = journal_cut(m->journal);
            atomic_store(&m->member[i].names_held, true);
            atomic_store(&m->member[i].held_ms, clock_ms());
            gate_open(&m->gate);
            return 0;
        }
        gate_open(
            &m->gate); /* somebody looks things up, in a slow store perhaps: let the others pass */
    }
    return -ETIMEDOUT;
}

void mirror_names_done(struct mirror *m, unsigned i, bool receives) {
    if (atomic_exchange(&m->member[i].names_held, false)) { /* else the watchdog let go of them */
        atomic_store(&m->member[i].settled, false);
        atomic_store(&m->member[i].receives, receives);
        if (atomic_load(&m->member[i].spoiled)) { /* it was just taken out, perhaps */
            atomic_store(&m->member[i].receives, false);
        }
        rwlock_write_done(&m->names);
    }
}

int mirror_settled(struct mirror *m, unsigned i, uint64_t *ret_position) {
    int err = gate_close(&m->gate, CUT_PATIENCE_MS);

    if (err == 0) {
        *ret_position = journal_cut(m->journal);
        atomic_store(&m->member[i].settled, true);
        gate_open(&m->gate);
    }
    return err;
}

void mirror_end_exact(struct mirror *m, unsigned joined) {
    rwlock_write(&m->member_lock);
    if (online_count(m) == member_count(m) && joined == atomic_load(&m->joined)) {
        journal_set_exact(m->journal, false);
    }
    rwlock_write_done(&m->member_lock);
}

static int done_locked(struct mirror *m, unsigned i) {
    struct member *member = &m->member[i];
    struct super_member *r = member_record_of(m, i);
    int err;

    if (!member_edge_ok((enum member_state)member->state, MEMBER_ONLINE) ||
        atomic_load(&member->spoiled) || atomic_load(&member->passive)) {
        return -HFE_STALE;
    }
    err = gate_close(&m->gate, GATE_PATIENCE_MS);
    if (err < 0) {
        return err; /* changes in it may wait for a lock that we hold */
    }
    if (!atomic_load(&member->spoiled)) {
        atomic_store(&member->state, MEMBER_ONLINE); /* from here on its errors count */
    }
    gate_open(&m->gate);
    if (member->state != MEMBER_ONLINE) {
        return -HFE_STALE;
    }
    r->state = MEMBER_ONLINE;
    r->since_s = clock_real_s();
    r->position = 0;
    r->left_mount = 0;
    r->left_generation = (struct id){{0}};
    member->unproven = false;
    member_sync_over(member);
    err = member_record_locked(m);
    member_show(m, i, MEMBER_ONLINE, "");
    atomic_fetch_add(&m->joined, 1);        /* exact marks go on until a checkpoint includes it */
    atomic_store(&m->checkpoint_now, true); /* frames of before do not know its inodes */
    event_post(m->events, EVENT_INFO,
               "store \"%s\" is ONLINE again: equal to the others, and stable", member->label);
    return err;
}

static int try_done(struct mirror *m, unsigned i) {
    struct journal_instance now = {.store = m->member[i].id};
    int err;

    rwlock_write(
        &m->log_lock); /* no frame passes while its log begins where the volume's goes on */
    err = log_begin_anew(m, i);
    m->member[i].log_broken = err < 0;
    if (answer_class(err) != ANSWER_DEVICE) { /* a store with no room for its log is a store */
        rwlock_write(&m->member_lock);
        err = done_locked(m, i);
        rwlock_write_done(&m->member_lock);
    }
    rwlock_write_done(&m->log_lock);
    if (err == 0) {
        store_instance(m->member[i].store, &now.dev, &now.ino, &now.mount);
        journal_set_instance(m->journal, &now);
    }
    return err;
}

int mirror_sync_done(struct mirror *m, unsigned i) {
    enum { TRIES = 200 };
    int err = -ETIMEDOUT;

    for (int tries = 0; tries < TRIES && err == -ETIMEDOUT; tries++) {
        err = try_done(m, i);
    }
    return err;
}

/* --- following --- */

static int follows_locked(struct mirror *m, unsigned i, uint64_t position) {
    struct member *member = &m->member[i];
    struct super_member *r = member_record_of(m, i);
    enum member_state before = (enum member_state)atomic_load(&member->state);

    if (!r || atomic_load(&member->spoiled) ||
        (before != MEMBER_PASSIVE && !member_edge_ok(before, MEMBER_PASSIVE))) {
        return -HFE_STALE;
    }
    if (before == MEMBER_PASSIVE && r->position == position) {
        return 0;
    }
    r->state = MEMBER_PASSIVE;
    r->position = position;
    atomic_store(&member->log_needed, 0); /* from now on the record says it */
    if (before != MEMBER_PASSIVE) {
        r->since_s = clock_real_s();
        member_show(m, i, MEMBER_PASSIVE, "it follows behind");
        event_post(
            m->events, EVENT_INFO,
            "store \"%s\" is PASSIVE: it follows behind, and is not crash-consistent while it "
            "does",
            member->label);
    }
    return member_record_locked(m);
}

int mirror_follows(struct mirror *m, unsigned i, uint64_t position) {
    int err;

    rwlock_write(&m->member_lock);
    err = follows_locked(m, i, position);
    rwlock_write_done(&m->member_lock);
    return err;
}

static int set_passive_locked(struct mirror *m, unsigned i, bool passive) {
    struct super_member *r = member_record_of(m, i);
    int err = 0;

    if (!r || atomic_load(&m->member[i].state) == MEMBER_REMOVED) {
        return -ENOENT;
    }
    if (passive && is_online(m, i)) {
        err = leave_locked(m, i, MEMBER_STALE, "it is to follow behind");
    }
    if (err == 0 && r->passive != passive) {
        r->passive = passive;
        atomic_store(&m->member[i].passive, passive);
        err = member_record_locked(m);
    }
    return err;
}

int mirror_set_passive(struct mirror *m, unsigned i, bool passive) {
    int err;

    rwlock_write(&m->member_lock);
    err = set_passive_locked(m, i, passive);
    rwlock_write_done(&m->member_lock);
    return err;
}

bool mirror_is_passive(struct mirror *m, unsigned i) {
    return atomic_load(&m->member[i].passive);
}

/* --- what is shown --- */

void mirror_set_progress(struct mirror *m, unsigned i, const struct mirror_progress *p) {
    pthread_mutex_lock(&m->status_lock);
    m->member[i].progress = *p;
    pthread_mutex_unlock(&m->status_lock);
}

void mirror_status(struct mirror *m, struct mirror_status *s) {
    memset(s, 0, sizeof(*s));
    pthread_mutex_lock(&m->status_lock);
    s->online = online_count(m);
    s->read_only = atomic_load(&m->read_only);
    s->taken = atomic_load(&m->taken);
    s->unequal = atomic_load(&m->unequal);
    s->too_few = s->online < m->min_stores;
    s->generation_number = m->shown.generation_number;
    s->mount_count = m->shown.mount_count;
    s->position = journal_position(m->journal);
    for (unsigned i = 0; i < m->count; i++) {
        struct member *member = &m->member[i];
        struct mirror_member_status *r = &s->member[s->count];

        if (atomic_load(&member->state) == MEMBER_REMOVED) {
            continue;
        }
        s->count++;
        r->index = i;
        memcpy(r->label, member->label, sizeof(r->label));
        memcpy(r->path, member->path, sizeof(r->path));
        memcpy(r->fs, member->fs, sizeof(r->fs));
        memcpy(r->disk, member->disk, sizeof(r->disk));
        memcpy(r->reason, member->reason, sizeof(r->reason));
        r->state = (enum member_state)member->state;
        r->reads_here = i == atomic_load(&m->reader);
        r->silent = atomic_load(&member->silent);
        r->space = (enum space_level)atomic_load(&member->space);
        r->since_s = member->since_s;
        r->position = m->shown.member[member->slot].position;
        r->read_errors = member->read_errors;
        r->write_errors = member->write_errors;
        r->checksum_errors = member->checksum_errors;
        r->total_bytes = member->total_bytes;
        r->free_bytes = member->free_bytes;
        r->progress = member->progress;
        r->latency_us = atomic_load(&member->latency_us);
        r->lag_bytes = atomic_load(&member->lag_bytes);
        r->lag_s = atomic_load(&member->lag_s);
        r->passive = atomic_load(&member->passive);
        s->following += member->state == MEMBER_PASSIVE;
        r->stuck_calls = guard_is_open(member->guard) ? 0 : guard_calls(member->guard);
    }
    pthread_mutex_unlock(&m->status_lock);
    s->objects = obj_count(m->objs);
}

uint64_t mirror_used_bytes(struct mirror *m) {
    const struct member *reader = &m->member[atomic_load(&m->reader)];
    uint64_t total = atomic_load(&reader->total_bytes), left = atomic_load(&reader->free_bytes);

    return total > left ? total - left : 0;
}
