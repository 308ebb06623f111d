/* Giving back what destroyed snapshots took. An epoch without a name becomes part of the one before:
 * what that one lacks is appended to its log, between two MERGED records, and the log goes. The
 * oldest epoch is needed by nobody. Of what a bookmark kept, only what changed is needed, once no
 * snapshot is older: its epoch becomes part of an empty one, as it were, and that log replaces its
 * own. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fiber.h"
#include "snap/snap_int.h"

enum { OUT_BYTES = 1 << 20 };

/* The name of a file that has others, too. The current epoch may know the file by it: then it stays,
 * and goes with that epoch. */
static int unlink_anchor(struct snap *s, uint64_t number) {
    char name[NAME_BYTES];
    struct vol_entry e;
    bool needed;
    int err;

    snap_anchor_name(number, name);
    err = s->next->ops->lookup(s->next, s->kept, name, &e);
    if (err < 0) {
        return err == -ENOENT ? 0 : err;
    }
    rwlock_write(&s->names); /* nothing becomes known by that name meanwhile */
    pthread_mutex_lock(&s->mutex);
    needed = s->table &&
             snap_name(s->table, SNAP_OLD, snap_node(s->table, SNAP_KEPT), name, strlen(name));
    pthread_mutex_unlock(&s->mutex);
    if (!needed) {
        err = keep_unlink(s, e.obj, name);
        if (err == 0) {
            anchor_drop(s, e.obj);
        }
    }
    rwlock_write_done(&s->names);
    snap_forget(s, e.obj);
    return err;
}

/* Of a kept file only its number is known: it has one of two names. */
static int unlink_kept(struct snap *s, uint64_t number) {
    char name[NAME_BYTES];
    int err;

    snap_kept_name(number, name);
    err = s->next->ops->unlink(s->next, s->kept, name);
    return err == -ENOENT ? unlink_anchor(s, number) : err;
}

static int unlink_all(struct snap *s, const struct numbers *n) {
    int err = 0;

    for (size_t i = 0; i < n->n && err == 0; i++) {
        err = unlink_kept(s, n->list[i]);
    }
    return err;
}

static int unlink_log(struct snap *s, uint32_t epoch) {
    char name[NAME_BYTES];
    int err;

    snap_log_name(epoch, name);
    err = s->next->ops->unlink(s->next, s->folder, name);
    return err == -ENOENT ? 0 : err;
}

/* Views of this epoch's snapshot and of older ones find what it kept in another place now. */
static void changed_locked(struct snap *s, uint32_t epoch) {
    s->merged = epoch;
    s->merges++;
    atomic_fetch_add(&s->generation, 1);
}

static void forget_epoch(struct snap *s, uint32_t i) {
    pthread_mutex_lock(&s->mutex);
    if (i > 0) {
        changed_locked(s, s->epochs[i].number);
    }
    s->epoch_count--;
    memmove(&s->epochs[i], &s->epochs[i + 1], (s->epoch_count - i) * sizeof(s->epochs[0]));
    pthread_mutex_unlock(&s->mutex);
}

/* --- the oldest --- */

static bool is_named(const struct snap_table *t, const char *name) {
    const struct snap_node *kept = snap_node(t, SNAP_KEPT);

    return snap_name(t, SNAP_OLD, kept, name, strlen(name)) ||
           snap_name(t, SNAP_LIVE, kept, name, strlen(name));
}

/* A file that has names of users, too, is found by its kept name in this epoch. */
static void spare(struct numbers *n, const struct snap_table *t) {
    size_t left = 0;

    for (size_t i = 0; i < n->n; i++) {
        char name[NAME_BYTES], plain[NAME_BYTES];

        snap_anchor_name(n->list[i], name);
        snap_kept_name(n->list[i], plain);
        if (!is_named(t, name) && !is_named(t, plain)) {
            n->list[left++] = n->list[i];
        }
    }
    n->n = left;
}

static bool any_anchor(struct snap *s) {
    bool any;

    pthread_mutex_lock(&s->mutex);
    any = s->anchors != NULL;
    pthread_mutex_unlock(&s->mutex);
    return any;
}

/* What epochs from this index on need. The current one is asked at the very moment
 * (unlink_anchor()). */
static int spare_needed(struct snap *s, struct numbers *n, uint32_t from) {
    int err = 0;

    for (uint32_t i = from; n->n > 0 && any_anchor(s) && i < s->epoch_count && err == 0; i++) {
        struct loaded l;

        if (s->epochs[i].number == s->epoch) {
            break;
        }
        err = load_table(s, s->epochs[i].number, &l);
        if (err == 0) {
            spare(n, l.table);
            snap_table_free(l.table);
        } else if (err == -HFE_CORRUPT || err == -ENOENT) {
            n->n = 0; /* nobody knows what it needs */
            err = 0;
        }
    }
    return err;
}

/* Those that were kept before the epoch `next`. */
static int kept_before(struct snap *s, uint64_t next, struct numbers *ret) {
    size_t left = 0;
    int err = snap_read_numbers(s, s->kept, snap_kept_number, ret);

    for (size_t i = 0; i < ret->n; i++) {
        if (kept_epoch(ret->list[i]) < next) {
            ret->list[left++] = ret->list[i];
        }
    }
    ret->n = left;
    return err;
}

static int drop_oldest(struct snap *s) {
    uint32_t number = s->epochs[0].number;
    uint64_t next = s->epoch_count > 1 ? s->epochs[1].number : UINT64_MAX;
    struct numbers numbers = {.list = NULL};
    int err = kept_before(s, next, &numbers);

    err = err < 0 ? err : spare_needed(s, &numbers, 1);
    if (err == 0) {
        forget_epoch(s, 0);
        err = unlink_all(s, &numbers);
        err = err < 0 ? err : unlink_log(s, number);
    }
    free(numbers.list);
    return err;
}

/* --- merging --- */

struct merging {
    struct snap *s;
    uint32_t into, from;
    uint32_t last;        /* the latest epoch that `into` contains then */
    bool drops;           /* only bookmarks need `into` */
    struct snap_file out; /* the log that grows */
    uint64_t end;         /* with what is in buf */
    uint32_t seq;
    uint8_t *buf;
    size_t used;
    struct log_reader in; /* of `from`: where bytes are read */
    struct numbers unneeded;
};

static int flush(struct merging *m) {
    int err = snap_write(m->s, &m->out, m->buf, m->used, m->end - m->used);

    fiber_orphan(m->buf);
    m->used = 0;
    m->buf = err < 0 ? NULL : malloc(OUT_BYTES + SNAP_RECORD_BYTES_MAX + DATA_BYTES);
    return err < 0 ? err : m->buf ? 0 : -ENOMEM;
}

static int put(struct merging *m, struct snap_record *r, const uint8_t *payload) {
    uint64_t padded = snap_padded(r->payload);
    size_t size;

    r->seq = ++m->seq;
    size = snap_record_encode(r, &m->s->config.volume, m->buf + m->used);
    if (payload) {
        r->where_off = m->end + size;
        size = snap_record_encode(r, &m->s->config.volume, m->buf + m->used);
        memcpy(m->buf + m->used + size, payload, r->payload);
        memset(m->buf + m->used + size + r->payload, 0, padded - r->payload);
    }
    m->used += size + padded;
    m->end += size + padded;
    return m->used >= OUT_BYTES ? flush(m) : 0;
}

static int put_record(void *arg, const struct snap_record *record) {
    struct snap_record r = *record;

    return put(arg, &r, NULL);
}

/* Bytes that are needed are copied; kept files stay where they are. */
static int put_extent(void *arg, const struct snap_node *node, struct snap_extent *e) {
    struct merging *m = arg;
    struct snap_record r = {
        .kind = e->kind, .id = node->id, .off = e->off, .len = e->len, .name = "", .name2 = ""};
    uint8_t *whole = NULL;
    size_t n = 0;
    int err;

    if (m->drops) {
        e->kind = r.kind = SNAP_DROPPED;
        return put(m, &r, NULL);
    }
    if (e->kind != SNAP_DATA) {
        r.where = e->where;
        return put(m, &r, NULL);
    }
    err = snap_read(m->s, m->in.file.obj, m->in.file.h, e->whole_where, e->whole_len, &whole, &n);
    if (err < 0) {
        return err;
    }
    r.where = m->into;
    r.payload = (uint32_t)e->len;
    if (n == e->whole_len && snap_sum(whole, n) == e->sum) {
        r.sum = snap_sum(whole + (e->off - e->whole_off), e->len);
    } else { /* it stays wrong, so that it is seen */
        r.sum = ~e->sum;
        if (n < e->whole_len) {
            uint8_t *longer = realloc(whole, e->whole_len);

            if (!longer) {
                free(whole);
                return -ENOMEM;
            }
            whole = longer;
            memset(whole + n, 0, e->whole_len - n);
        }
    }
    err = put(m, &r, whole + (e->off - e->whole_off));
    free(whole);
    e->where = m->into;
    e->whole_off = e->off;
    e->whole_len = e->len;
    e->whole_where = r.where_off;
    e->sum = r.sum;
    return err;
}

static int put_bound(struct merging *m, bool begin) {
    struct snap_record r = {.kind = SNAP_MERGED,
                            .type = begin,
                            .id = begin ? m->from : m->last,
                            .name = "",
                            .name2 = ""};

    return put(m, &r, NULL);
}

static void add_unneeded(void *arg, uint64_t number) {
    struct merging *m = arg;

    numbers_add(&m->unneeded, number); /* what does not fit goes with the oldest epoch */
}

static int append(struct merging *m, struct snap_table *a, struct snap_table *b) {
    const struct snap_compose told = {.record = put_record,
                                      .extent = put_extent,
                                      .unneeded = m->drops ? NULL : add_unneeded, /* sweep() */
                                      .drops = m->drops,
                                      .arg = m};
    struct vol_attr cut = {.set = VOL_SET_SIZE, .size = (off_t)m->end, .cred = &cred_self};
    struct snap *s = m->s;
    struct stat st;
    int err = s->next->ops->setattr(s->next, m->out.obj, m->out.h, &cut, &st);

    m->buf = malloc(OUT_BYTES + SNAP_RECORD_BYTES_MAX + DATA_BYTES);
    err = err < 0 ? err : m->buf ? put_bound(m, true) : -ENOMEM;
    err = err < 0 ? err : snap_table_compose(a, b, &told);
    err = err < 0 ? err : put_bound(m, false);
    err = err < 0 ? err : flush(m);
    err = err < 0 ? err : s->next->ops->fsync(s->next, m->out.obj, m->out.h, false);
    fiber_orphan(m->buf);
    return err;
}

static int merge(struct snap *s, uint32_t i) {
    struct merging m = {.s = s,
                        .into = s->epochs[i - 1].number,
                        .from = s->epochs[i].number,
                        .last = s->epochs[i].number,
                        .drops = s->epochs[i - 1].emptied};
    struct loaded a = {.table = NULL}, b = {.table = NULL};
    char name[NAME_BYTES];
    int err = load_table(s, m.into, &a);

    err = err < 0 ? err : load_table(s, m.from, &b);
    snap_log_name(m.into, name);
    err = err < 0 ? err : snap_file_open(s, s->folder, name, O_RDWR, &m.out);
    err = err < 0 ? err : log_open(s, m.from, &m.in);
    if (err == -HFE_CORRUPT ||
        (err == 0 && (a.harmed || b.harmed))) { /* they are left as they are */
        snap_harm(s, m.from, /* which has no name: so those up to the one before are meant */
                  a.harmed   ? a.reason
                  : b.harmed ? b.reason
                             : "its log cannot be read");
        s->epochs[i].stays = true;
        err = -EAGAIN;
    }
    if (err == 0 && a.merged < m.from) { /* else it was done, and what followed failed */
        m.end = a.end;
        m.seq = a.seq;
        rwlock_write(&s->merging);
        err = append(&m, a.table, b.table);
        rwlock_write_done(&s->merging);
    }
    if (m.in.s) {
        log_close(&m.in);
    }
    snap_file_close(s, &m.out);
    snap_table_free(a.table);
    snap_table_free(b.table);
    err = err < 0 ? err : spare_needed(s, &m.unneeded, i + 1);
    if (err == 0) {
        forget_epoch(s, i);
        s->swept = s->swept && !m.drops;
        err = unlink_all(s, &m.unneeded);
        err = err < 0 ? err : unlink_log(s, m.from);
    }
    free(m.unneeded.list);
    return err == -EAGAIN ? 0 : err;
}

/* --- bookmarks --- */

/* All that was kept before the epoch at `next`, and is named by none: bookmarks do not need it. */
static int sweep(struct snap *s, uint32_t next) {
    struct numbers numbers = {.list = NULL};
    int err = kept_before(s, s->epochs[next].number, &numbers);

    err = err < 0 ? err : spare_needed(s, &numbers, 0);
    err = err < 0 ? err : unlink_all(s, &numbers);
    s->swept = err == 0;
    free(numbers.list);
    return err;
}

static int create_log(struct snap *s, uint32_t epoch, struct snap_file *ret_file) {
    int err = s->next->ops->unlink(s->next, s->folder, SNAP_LOG_NEW);

    err = err == 0 || err == -ENOENT ? snap_file_create(s, s->folder, SNAP_LOG_NEW, ret_file) : err;
    return err < 0 ? err : log_put_head(s, ret_file, epoch);
}

/* What it kept goes afterwards, by a sweep. */
static int replace_log(struct snap *s, uint32_t i) {
    char name[NAME_BYTES];
    int err;

    snap_log_name(s->epochs[i].number, name);
    err = s->next->ops->rename(s->next, s->folder, SNAP_LOG_NEW, s->folder, name, 0);
    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&s->mutex);
    s->epochs[i].emptied = true;
    changed_locked(s, s->epochs[i].number);
    pthread_mutex_unlock(&s->mutex);
    s->swept = false;
    return snap_sync_folder(s, s->folder);
}

static int empty(struct snap *s, uint32_t i) {
    uint32_t number = s->epochs[i].number;
    struct merging m = {.s = s,
                        .into = number,
                        .from = number,
                        .last = number,
                        .drops = true,
                        .end = SNAP_HEAD_BYTES};
    struct snap_table *none = snap_table_new();
    struct loaded l = {.table = NULL};
    int err = none ? load_table(s, number, &l) : -ENOMEM;

    if (err == -HFE_CORRUPT || (err == 0 && l.harmed)) { /* it is left as it is */
        snap_harm(s, number, l.harmed ? l.reason : "its log cannot be read");
        s->epochs[i].stays = true;
        err = -EAGAIN;
    }
    m.last = l.merged > number ? l.merged : number;
    err = err < 0 ? err : create_log(s, number, &m.out);
    err = err < 0 ? err : append(&m, none, l.table);
    snap_file_close(s, &m.out);
    snap_table_free(none);
    snap_table_free(l.table);
    err = err < 0 ? err : replace_log(s, i);
    return err == -EAGAIN ? 0 : err;
}

/* --- all --- */

static bool any_named(const struct snap *s) {
    for (uint32_t i = 0; i < s->epoch_count; i++) {
        if (s->epochs[i].named) {
            return true;
        }
    }
    return false;
}

static int reap_one(struct snap *s, bool *ret_more) {
    bool needed = false;         /* what was kept, by a snapshot that is older */
    uint32_t i = 0, emptied = 0; /* epochs are at the front */

    *ret_more = false;
    if (s->epoch_count == 0 || atomic_load(&s->waiting) > 0) {
        return 0;
    }
    if (s->epoch != 0 && !any_named(s)) {
        int err = snap_keep_nothing(s);

        if (err < 0) {
            return err;
        }
    }
    *ret_more = true;
    for (; i < s->epoch_count && s->epochs[i].number != s->epoch; i++) {
        const struct epoch *e = &s->epochs[i];

        needed = needed || (e->named && !e->bookmark);
        if (!e->named && (i == 0 || !e->stays)) {
            return i == 0 ? drop_oldest(s) : merge(s, i);
        }
        if (e->named && !needed && !e->emptied && !e->stays) {
            return empty(s, i);
        }
        emptied += e->emptied && emptied == i; /* a broken one before it stays as it is */
    }
    if (emptied > 0 && emptied < s->epoch_count && !s->swept) {
        return sweep(s, emptied);
    }
    /* The current one goes on. What it kept while it was a snapshot's, a bookmark does not need. */
    *ret_more = s->full && atomic_load(&s->drops) && snap_keeps(s);
    return *ret_more ? snap_cut_unnamed(s) : 0;
}

bool snap_reap(struct snap *s) {
    bool more;
    int err;

    err = snap_settle(s, NULL, NULL);
    rwlock_write(&s->admin);
    err = reap_one(s, &more);
    rwlock_write_done(&s->admin);
    if (err < 0 && !s->reap_failed) {
        event_post(s->config.events, EVENT_WARNING,
                   "the space of destroyed snapshots cannot be given back: %s; it is tried again",
                   error_words(err));
    }
    s->reap_failed = err < 0;
    return err == 0 && more;
}
