/* One change, several stores, one answer. DESIGN section 4, "The answer". */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mirror/mirror_int.h"

static const struct {
    int err;
    enum answer_class class;
} classes[] = {
    {EIO, ANSWER_DEVICE},          {ESTALE, ANSWER_DEVICE},
    {ENOTCONN, ANSWER_DEVICE},     {EROFS, ANSWER_DEVICE},
    {ETIMEDOUT, ANSWER_DEVICE},    {ENODEV, ANSWER_DEVICE},
    {ENXIO, ANSWER_PLAIN},         {ECONNABORTED, ANSWER_DEVICE},
    {EUCLEAN, ANSWER_DEVICE},      {ESHUTDOWN, ANSWER_DEVICE},
    {EHOSTDOWN, ANSWER_DEVICE},    {EREMOTEIO, ANSWER_DEVICE},
    {EBADF, ANSWER_DEVICE},        {ENAMETOOLONG, ANSWER_LIMIT},
    {EFBIG, ANSWER_LIMIT},         {EMLINK, ANSWER_LIMIT},
    {E2BIG, ANSWER_LIMIT},         {EOPNOTSUPP, ANSWER_LIMIT},
    {EINVAL, ANSWER_LIMIT},        {EPERM, ANSWER_LIMIT},
    {EACCES, ANSWER_LIMIT},        {EILSEQ, ANSWER_LIMIT},
    {EDQUOT, ANSWER_LIMIT},        {ENOSPC, ANSWER_LIMIT},
    {EMFILE, ANSWER_OWN},          {ENFILE, ANSWER_OWN},
    {ENOMEM, ANSWER_OWN},          {EINTR, ANSWER_OWN},
    {EAGAIN, ANSWER_OWN},          {HFE_CAPABILITY, ANSWER_CAPABILITY},
    {HFE_GIVEN_UP, ANSWER_DEVICE},
};

enum answer_class answer_class(int err) {
    if (err >= 0) {
        return ANSWER_OK;
    }
    for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
        if (classes[i].err == -err) {
            return classes[i].class;
        }
    }
    return ANSWER_PLAIN;
}

struct repair_call {
    struct store *from, *to;
    struct obj *dir;
    bool attrs_only;
    char name[NAME_BYTES];
};

static int repair_call(void *arg) {
    struct repair_call *r = arg;

    return store_repair(r->from, r->to, r->dir, r->name, r->attrs_only);
}

int repair_object(struct mirror *m, unsigned from, unsigned to, struct obj *dir, const char *name,
                  bool attrs_only) {
    struct repair_call r = {.from = m->member[from].store,
                            .to = m->member[to].store,
                            .dir = dir,
                            .attrs_only = attrs_only};

    if (!r.from || !r.to) {
        return -ENODEV; /* let go meanwhile */
    }
    name_copy(r.name, name);
    return guard_call(m->member[to].guard, GUARD_SLOW, repair_call, &r, sizeof(r));
}

/* A SYNCING store gets the change, too; what it says counts for its catch-up only. */
static void apply_receiving(struct mirror *m, struct change *c, int answer) {
    int err;

    for (unsigned i = 0; i < m->count; i++) {
        if (is_online(m, i) || !takes_changes(m, i)) {
            continue;
        }
        c->fill = false;
        if (c->needs_handle && !atomic_load(&m->member[i].settled) && !c->needs_handle(c, i)) {
            continue; /* it began before: told, and copied */
        }
        err =
            answer < 0 || c->failed >= 0 ? -EIO : (int)RETRY_OWN(c->apply(c, m->member[i].vol, i));
        if (err < 0) {
            member_spoil(m, i, c->what, err);
        }
    }
}

static int apply_once(struct mirror *m, struct change *c, unsigned i) {
    return (int)RETRY_OWN(c->apply(c, m->member[i].vol, i));
}

/* The order of stores: the reader first; near the end of space the fullest first, so that there is
 * nothing to undo when it has no room. */
static unsigned order_stores(struct mirror *m, const struct change *c,
                             unsigned ret_order[STORES_MAX]) {
    unsigned n = 0, reader = atomic_load(&m->reader);

    for (unsigned k = 0; k < m->count; k++) {
        unsigned i = (reader + k) % m->count;

        if (is_online(m, i)) {
            ret_order[n++] = i;
        }
    }
    if (c->allocates && atomic_load_explicit(&m->low_on_space, memory_order_relaxed)) {
        for (unsigned a = 1; a < n; a++) {
            for (unsigned b = a; b > 0 && m->member[ret_order[b]].free_bytes <
                                              m->member[ret_order[b - 1]].free_bytes;
                 b--) {
                unsigned t = ret_order[b];

                ret_order[b] = ret_order[b - 1];
                ret_order[b - 1] = t;
            }
        }
    }
    return n;
}

static int repair_names(struct mirror *m, const struct change *c, unsigned from, unsigned to) {
    for (int k = 0; k < 2 && c->name[k].dir; k++) {
        int err = repair_object(m, from, to, c->name[k].dir, c->name[k].name, c->attrs_only);

        if (err < 0) {
            return err;
        }
    }
    return c->name[0].dir ? 0 : -EIO;
}

/* Store c->failed could not take it: take it back wherever it was taken. */
static void take_back(struct mirror *m, struct change *c) {
    for (unsigned i = 0; i < m->count; i++) {
        int err;

        if (!(c->took >> i & 1)) {
            continue;
        }
        err = c->undo ? c->undo(c, i) : repair_names(m, c, (unsigned)c->failed, i);
        if (err < 0) {
            /* Now this store has what the other one lacks, and it was not acknowledged. */
            event_post(m->events, EVENT_ERROR,
                       "store \"%s\": a %s that store \"%s\" could not take was not undone: %s",
                       m->member[i].label, c->what, m->member[c->failed].label, error_words(err));
            if (member_fault(m, i, err, c->what) < 0) {
                m->unequal = true; /* the last store stays: it is the truth then */
            }
        }
    }
    c->took = 0;
}

/* Another answer than the leader's, of the ordinary kind: the stores differ. Make it like the
 * leader, which has the change already. */
static int settle_disagreement(struct mirror *m, struct change *c, unsigned leader, unsigned i,
                               int err) {
    int repaired = repair_names(m, c, leader, i);

    event_post(m->events, EVENT_WARNING, "store \"%s\" disagreed about a %s (%s): %s",
               m->member[i].label, c->what, error_words(err),
               repaired == 0 ? "repaired from the others" : error_words(repaired));
    return repaired;
}

struct outcome {
    int leader;    /* the first store that took it, or -1 */
    int answer;    /* of the leader, or why nobody took it */
    uint32_t bad;  /* bit per store that gave a device error */
    uint32_t full; /* bit per store that has no room, and is dropped if others took it */
    int bad_err;
    bool masked; /* a store never could */
};

/* Is there really no room, or can it only not hold this one? */
static bool is_full(struct mirror *m, unsigned i) {
    enum { LITTLE = 16 << 20, FEW_FILES = 16 };
    struct vol *v = m->member[i].vol;
    struct statvfs fs;

    return RETRY_OWN(v->ops->statfs(v, &fs)) == 0 &&
           (fs.f_bavail * fs.f_frsize < LITTLE || (fs.f_files > 0 && fs.f_favail < FEW_FILES));
}

bool drops_full(struct mirror *m, struct change *c, unsigned i, int err) {
    if (!m->policy.drop_full || (err != -ENOSPC && err != -EDQUOT) || !c->allocates) {
        return false;
    }
    if (!(c->full >> i & 1) && is_full(m, i)) {
        c->full |= 1u << i;
    }
    return c->full >> i & 1;
}

/* One store's result. False: stop here. */
static bool account(struct mirror *m, struct change *c, struct outcome *o, unsigned i, int err) {
    switch (answer_class(err)) {
    case ANSWER_OK:
        c->took |= 1u << i;
        o->leader = o->leader < 0 ? (int)i : o->leader;
        o->answer = 0;
        return true;
    case ANSWER_DEVICE:
        o->bad |= 1u << i;
        o->bad_err = err;
        return true;
    case ANSWER_CAPABILITY:
        o->masked = true;
        return true;
    case ANSWER_PLAIN:
        if (o->leader >= 0) {
            if (settle_disagreement(m, c, (unsigned)o->leader, i, err) < 0) {
                o->bad |= 1u << i;
                o->bad_err = err;
            }
            return true;
        }
        break;
    case ANSWER_LIMIT:
        if (drops_full(m, c, i, err)) {
            o->full |= 1u << i;
            return true;
        }
        break;
    default:
        break;
    }
    c->refused = (int)i;
    if (o->leader >= 0) {
        c->failed = (int)i;
    }
    o->answer = err;
    return false;
}

static int blame(struct mirror *m, const struct change *c, uint32_t bad, int err) {
    for (unsigned i = 0; i < m->count; i++) {
        if (bad >> i & 1) {
            m->member[i].write_errors++;
            if (member_fault(m, i, err, c->what) < 0) {
                return -EIO; /* not recorded, or the last one after all: not acknowledged */
            }
        }
    }
    return 0;
}

static bool took_few(const struct mirror *m, const struct change *c) {
    return (unsigned)__builtin_popcount(c->took) < m->min_stores;
}

/* Stores without room: they are lost if enough others took the change, else it fails. */
static void drop_full(struct mirror *m, struct change *c, struct outcome *o) {
    if (o->leader >= 0 && !took_few(m, c)) {
        if (blame(m, c, o->full, -ENOSPC) < 0) {
            o->answer = -EIO;
        }
        return;
    }
    c->refused = __builtin_ctz(o->full);
    c->failed = o->leader >= 0 ? c->refused : -1;
    o->answer = -ENOSPC;
}

void mirror_not_taken(struct mirror *m, const struct change *c, int err) {
    m->unequal = true;
    event_post(m->events, EVENT_ERROR, "a %s failed on every store: %s", c->what, error_words(err));
}

static int too_few_took(struct mirror *m, const struct change *c) {
    mirror_doubt_listings(m); /* it is done, and answered as if it were not */
    event_post(m->events, EVENT_ERROR, "a %s reached fewer than min-stores=%u stores", c->what,
               m->min_stores);
    return -EIO;
}

static int change_all(struct mirror *m, struct change *c) {
    struct outcome o = {.leader = -1, .answer = -EIO};
    unsigned order[STORES_MAX], n = order_stores(m, c, order), reader = atomic_load(&m->reader);

    if (n < m->min_stores && m->min_stores > 1 && !c->begun) {
        return -HFE_TOO_FEW; /* one was lost right now */
    }
    for (unsigned k = 0; k < n; k++) {
        c->fill = o.leader < 0 || order[k] == reader;
        if (!account(m, c, &o, order[k], apply_once(m, c, order[k]))) {
            break;
        }
    }
    if (c->refused < 0 && o.full) {
        drop_full(m, c, &o);
    }
    if (c->failed >= 0) {
        take_back(m, c);
    }
    if (o.leader < 0 && o.answer == -EIO && o.bad == 0) {
        return o.masked ? -EOPNOTSUPP : -EIO;
    }
    if (o.bad == 0) { /* all that are left have it */
        return c->begun && o.answer == 0 && took_few(m, c) ? too_few_took(m, c) : o.answer;
    }
    if (o.leader < 0 && o.answer == -EIO) {
        mirror_not_taken(m, c, o.bad_err);
        return o.bad_err;
    }
    if (c->took == 0 && answer_class(o.answer) == ANSWER_LIMIT) {
        mirror_not_taken(m, c, o.answer);
        return o.answer;
    }
    if (blame(m, c, o.bad, o.bad_err) < 0) {
        return -EIO;
    }
    return o.leader >= 0 && took_few(m, c) ? too_few_took(m, c) : o.answer;
}

int mirror_may_change(const struct mirror *m) {
    if (atomic_load_explicit(&m->read_only, memory_order_relaxed)) {
        return -EROFS;
    }
    return m->min_stores > 1 && online_count(m) < m->min_stores ? -HFE_TOO_FEW : 0;
}

int mirror_change(struct mirror *m, struct change *c) {
    struct journal_intent intent;
    int err = c->begun ? 0 : mirror_may_change(m);

    c->m = m;
    c->failed = c->refused = -1;
    c->took = 0;
    if (err < 0) {
        return err;
    }
    log_change(m, c, &intent);
    err = change_all(m, c);
    if (err == 0 && atomic_load(&m->read_only)) {
        err = -EIO; /* a loss meanwhile is recorded nowhere: nobody could tell who has it */
        mirror_doubt_listings(m);
    }
    if (c->took != 0 || c->failed >= 0) { /* else no store has anything new */
        apply_receiving(m, c, err);
    }
    if (err < 0 && c->tells == TELLS_NAMES) {
        log_refused(m, c);
    }
    journal_end(m->journal, &intent);
    return err;
}

int reader_first(struct mirror *m) {
    return (int)atomic_load_explicit(&m->reader, memory_order_relaxed);
}

int reader_failed(struct mirror *m, unsigned i, int err) {
    m->member[i].read_errors++;
    return member_fault(m, i, err, "read");
}

int reader_next(struct mirror *m, int i, int err, int *tries) {
    switch (answer_class(err)) {
    case ANSWER_OWN:
        return ++*tries < RETRY_OWN_MAX ? i : -1;
    case ANSWER_DEVICE: /* the last one's error is the answer */
        return reader_failed(m, (unsigned)i, err) < 0 ? -1 : reader_first(m);
    default:
        return -1;
    }
}

struct sync_item {
    struct work work;
    struct vol *vol;
    struct obj *obj;
    struct vol_handle handle;
    bool data_only;
    int err;
};

static void sync_run(struct work *work) {
    struct sync_item *s = (struct sync_item *)work;

    s->err = (int)RETRY_OWN(s->vol->ops->fsync(s->vol, s->obj, s->handle, s->data_only));
}

/* Any error of fsync is a failed fsync: what the kernel below dropped is not there any more, and a
 * second fsync would say 0 (https://wiki.postgresql.org/wiki/Fsync_Errors). */
static int sync_answer(struct mirror *m, const struct sync_item *item, uint32_t asked) {
    uint32_t bad = 0;
    int err = 0;

    for (unsigned i = 0; i < m->count; i++) {
        if ((asked >> i & 1) && !is_online(m, i)) { /* SYNCING, or lost meanwhile, and recorded */
            if (item[i].err < 0) {
                member_spoil(m, i, "fsync", item[i].err);
            }
            asked &= ~(1u << i);
        } else if ((asked >> i & 1) && item[i].err < 0) {
            bad |= 1u << i;
            err = item[i].err;
        }
    }
    if (bad == 0) {
        return asked == 0 ? -EIO : 0; /* every store that was asked has left */
    }
    if (bad == asked) {
        m->unequal = true;
        event_post(m->events, EVENT_ERROR, "fsync failed on every store: %s", error_words(err));
        return -EIO;
    }
    err =
        blame(m, &(struct change){.what = "fsync"}, bad, err); /* also if it is not acknowledged */
    return (unsigned)__builtin_popcount(asked & ~bad) < m->min_stores ? -EIO : err;
}

int mirror_fsync_all(struct mirror *m, struct obj *obj, const struct vol_handle *handles,
                     bool data_only) {
    struct sync_item item[STORES_MAX];
    struct join join;
    uint32_t asked = 0;
    int mine = -1;

    for (unsigned i = 0; i < m->count; i++) {
        if (takes_changes(m, i) && vol_have(handles[i])) {
            item[i] = (struct sync_item){
                .vol = m->member[i].vol, .obj = obj, .handle = handles[i], .data_only = data_only};
            asked |= 1u << i;
            mine = mine < 0 ? (int)i : mine;
        }
    }
    if (mine < 0) {
        return 0; /* no store can sync it, which was said when it was made a store */
    }
    join_init(&join);
    for (unsigned i = (unsigned)mine + 1; i < m->count; i++) {
        if (asked >> i & 1) {
            work_submit(m->workers, &item[i].work, sync_run, &join);
        }
    }
    sync_run(&item[mine].work);
    join_wait(&join);
    return sync_answer(m, item, asked);
}
