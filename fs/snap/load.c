/* What is on the stores: the logs, and what was under way when the daemon was killed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fiber.h"
#include "snap/snap_int.h"

/* A change of names that may or may not have been done. */
struct open_deed {
    struct open_deed *next; /* older ones */
    struct snap_record r;
    uint32_t replaced;
    bool done;
    char text[2 * NAME_BYTES];
};

struct replay {
    struct snap *s;
    struct loaded *l;
    struct open_deed *deeds; /* newest first; NULL for an epoch that is over */
    bool current;
    uint64_t batch_at; /* a merge that begins here has not ended yet; 0: none */
    /* Records that did not happen, though DONE was told of them: a power cut took them. */
    struct numbers nots;
    bool again; /* they were found too late, and are left out in a second run */
};

static bool is_not(const struct replay *p, uint32_t seq) {
    for (size_t i = 0; i < p->nots.n; i++) {
        if (p->nots.list[i] == seq) {
            return true;
        }
    }
    return false;
}

static int note_not(struct replay *p, uint32_t seq) {
    numbers_add(&p->nots, seq);
    p->again = true;
    return p->nots.failed ? -ENOMEM : 0;
}

static bool is_deed(enum snap_kind kind) {
    return kind == SNAP_MADE || kind == SNAP_LINK || kind == SNAP_GONE || kind == SNAP_MOVE ||
           kind == SNAP_SWAP;
}

static void free_deeds(struct open_deed *d) {
    while (d) {
        struct open_deed *next = d->next;

        free(d);
        d = next;
    }
}

static int note_deed(struct replay *p, const struct snap_record *r) {
    struct open_deed *d = malloc(sizeof(*d));
    struct snap_node *parent2 = r->kind == SNAP_MOVE ? snap_node(p->l->table, r->parent2) : NULL;
    struct snap_name *there =
        parent2 ? snap_name(p->l->table, SNAP_LIVE, parent2, r->name2, r->name2_bytes) : NULL;

    if (!d) {
        return -ENOMEM;
    }
    d->r = *r;
    d->done = false;
    d->replaced = there ? there->node->id : 0;
    memcpy(d->text, r->name, r->name_bytes);
    memcpy(d->text + r->name_bytes, r->name2, r->name2_bytes);
    d->r.name = d->text;
    d->r.name2 = d->text + r->name_bytes;
    d->next = p->deeds;
    p->deeds = d;
    return 0;
}

static struct open_deed **find_deed(struct replay *p, uint32_t seq) {
    struct open_deed **at = &p->deeds;

    while (*at && (*at)->r.seq != seq) {
        at = &(*at)->next;
    }
    return at;
}

static int outcome(struct replay *p, const struct snap_record *r) {
    struct open_deed **at = find_deed(p, r->id), *d = *at;
    int err = 0;

    if (!d) {
        return r->kind == SNAP_NOT && !is_not(p, r->id) ? note_not(p, r->id) : 0;
    }
    if (r->kind == SNAP_NOT && d->done) {
        return note_not(p, r->id); /* what came after may build on it */
    }
    if (r->kind == SNAP_NOT) {
        err = snap_table_undo(p->l->table, &d->r, d->replaced);
    } else if (p->current && p->s->config.cut_off) {
        d->done = true; /* as far as the daemon knew */
        return 0;
    }
    *at = d->next;
    free(d);
    return err;
}

/* Nothing of what was told up to there can be lost any more. */
static void forget_deeds(struct replay *p, uint32_t seq) {
    for (struct open_deed **at = &p->deeds; *at;) {
        struct open_deed *d = *at;

        if (d->r.seq <= seq && d->done) {
            *at = d->next;
            free(d);
        } else {
            at = &d->next;
        }
    }
}

static int replay_one(struct replay *p, const struct snap_record *r) {
    switch (r->kind) {
    case SNAP_DONE:
    case SNAP_NOT:
        return outcome(p, r);
    case SNAP_SYNCED:
        p->l->settled = p->l->settled || r->id == 0;
        p->l->strict = r->type == 1;
        forget_deeds(p, r->id);
        return 0;
    case SNAP_BROKEN:
        p->l->harmed = true;
        (void)snprintf(p->l->reason, sizeof(p->l->reason), "%.*s", r->name_bytes, r->name);
        return 0;
    case SNAP_MERGED:
        if (r->type == 0) {
            p->l->merged = r->id;
            p->batch_at = 0;
        }
        return 0;
    default:
        break;
    }
    p->l->dropped = p->l->dropped || r->kind == SNAP_DROPPED;
    p->l->kept = p->l->kept || r->kind == SNAP_DATA || r->kind == SNAP_FILE ||
                 (r->kind == SNAP_MOVE && r->parent2 == SNAP_KEPT);
    if (is_deed(r->kind) && is_not(p, r->seq)) {
        return 0;
    }
    if (is_deed(r->kind) && p->batch_at == 0) {
        int err = note_deed(p, r);

        if (err < 0) {
            return err;
        }
    }
    return snap_table_apply(p->l->table, r);
}

/* Replays the log up to `limit`. What cannot be read ends it. */
static int replay(struct replay *p, uint32_t epoch, uint64_t limit) {
    struct log_reader reader;
    struct snap_record r;
    int err = log_open(p->s, epoch, &reader), more = 1;

    if (err < 0) {
        return err;
    }
    p->l->table = snap_table_new();
    if (!p->l->table) {
        log_close(&reader);
        return -ENOMEM;
    }
    p->l->end = reader.at;
    while (err == 0 && reader.at < limit && (more = log_next(&reader, &r)) > 0) {
        if (r.seq != p->l->seq + 1) {
            more = -HFE_CORRUPT;
            break;
        }
        if (r.kind == SNAP_MERGED && r.type == 1) {
            p->batch_at = reader.record_at;
        }
        err = replay_one(p, &r);
        if (err == -HFE_CORRUPT && p->again) {
            err = 0; /* only the rest of NOTs is looked for now */
        }
        p->l->seq = r.seq;
        p->l->end = reader.at;
    }
    log_close(&reader);
    if (more == -HFE_CORRUPT && p->current) {
        return err; /* what was being written when the daemon was killed, or the power cut */
    }
    if (more == -HFE_CORRUPT || err == -HFE_CORRUPT) {
        p->l->harmed = true;
        (void)snprintf(p->l->reason, sizeof(p->l->reason), "its log (%u.log) is damaged at %llu",
                       epoch, (unsigned long long)p->l->end);
        return 0;
    }
    return err < 0 ? err : more < 0 ? more : 0;
}

/* From the start once more, with what was learned. */
static int restart(struct replay *p, uint32_t epoch, uint64_t limit) {
    struct loaded before = *p->l;
    int err;

    free_deeds(p->deeds);
    p->deeds = NULL;
    snap_table_free(p->l->table);
    *p->l = (struct loaded){.table = NULL};
    p->batch_at = 0;
    p->again = false;
    err = replay(p, epoch, limit);
    if (before.harmed && !p->l->harmed) {
        p->l->harmed = true;
        memcpy(p->l->reason, before.reason, sizeof(before.reason));
    }
    return err;
}

static int load(struct replay *p, uint32_t epoch) {
    uint64_t limit = UINT64_MAX;
    int err;

    *p->l = (struct loaded){.table = NULL};
    err = replay(p, epoch, limit);
    if (err == 0 && p->batch_at > 0) { /* a merge that was cut off counts for nothing */
        limit = p->batch_at;
        err = restart(p, epoch, limit);
    }
    if (err == 0 && p->again) {
        err = restart(p, epoch, limit);
    }
    free(p->nots.list);
    p->nots = (struct numbers){.list = NULL};
    if (err < 0) {
        snap_table_free(p->l->table);
        p->l->table = NULL;
    }
    return err;
}

int load_table(struct snap *s, uint32_t epoch, struct loaded *ret) {
    struct replay p = {.s = s, .l = ret};
    int err = load(&p, epoch);

    free_deeds(p.deeds);
    if (err == 0) {
        snap_table_drop_all_unused(ret->table);
    }
    return err;
}

/* --- what was under way --- */

/* The live folder of a node, counted; by its LIVE names. */
static int live_folder(struct snap *s, const struct snap_node *n, struct obj **ret_obj) {
    const char *path[TREE_DEPTH_MAX];
    unsigned depth = 0;
    struct obj *at, *first;
    int err = 0;

    for (; n->id > SNAP_KEPT; n = n->names[SNAP_LIVE]->parent) {
        if (!n->names[SNAP_LIVE] || depth == TREE_DEPTH_MAX) {
            return -ENOENT;
        }
        path[depth++] = n->names[SNAP_LIVE]->text;
    }
    at = first = n->id == SNAP_ROOT ? s->root : s->kept;
    while (err == 0 && depth > 0) {
        struct vol_entry e;

        err = s->next->ops->lookup(s->next, at, path[--depth], &e);
        if (at != first) {
            snap_forget(s, at);
        }
        at = e.obj;
    }
    if (err == 0) {
        *ret_obj = at;
    }
    return err;
}

static bool is_nothing(int err) {
    return err == -ENOENT || err == -ENOTDIR; /* a file may be where a folder on the way was */
}

/* 1 if there is something at this name, and whether it is what had that number; 0 if not. */
static int exists(struct snap *s, struct snap_table *t, uint32_t parent, const char *name,
                  size_t len, uint64_t number, bool *ret_same) {
    const struct snap_node *n = snap_node(t, parent);
    struct obj *dir = NULL;
    struct vol_entry e;
    char text[NAME_BYTES];
    int err = n ? live_folder(s, n, &dir) : -HFE_CORRUPT;

    *ret_same = false;
    if (err < 0) {
        return is_nothing(err) ? 0 : err;
    }
    memcpy(text, name, len);
    text[len] = '\0';
    err = s->next->ops->lookup(s->next, dir, text, &e);
    if (err == 0) {
        *ret_same = obj_number(e.obj) == number ||
                    (s->config.had_number && s->config.had_number(s->config.arg, e.obj, number));
        snap_forget(s, e.obj);
    }
    if (dir != s->root && dir != s->kept) {
        snap_forget(s, dir);
    }
    return err == 0 ? 1 : is_nothing(err) ? 0 : err;
}

/* Could another file have come to the name after the change, and nothing of that be in the log? Only in a
 * folder that was made since, as nothing is told of that; or if the power took the end of the log. */
static bool may_be_another(const struct snap *s, const struct replay *p, uint32_t parent) {
    const struct snap_node *n = snap_node(p->l->table, parent);

    return !n || n->made || (s->config.cut_off && !p->l->strict);
}

/* 1 if it was done, 0 if not, -HFE_CORRUPT if nobody can tell. */
static int was_done(struct snap *s, const struct replay *p, const struct snap_record *r) {
    struct snap_table *t = p->l->table;
    bool kept = r->kind == SNAP_MOVE && r->parent2 == SNAP_KEPT;
    bool same;
    int there = kept ? exists(s, t, r->parent2, r->name2, r->name2_bytes, r->where, &same)
                     : exists(s, t, r->parent, r->name, r->name_bytes, r->where, &same);

    if (there < 0 || kept || r->kind == SNAP_MADE || r->kind == SNAP_LINK) {
        return there;
    }
    if (there == 1 && (same || (r->kind != SNAP_SWAP && !may_be_another(s, p, r->parent)))) {
        return 0; /* it is where it was */
    }
    if (there == 0 || r->kind == SNAP_GONE) {
        return 1; /* another one has that name by now */
    }
    there = exists(s, t, r->parent2, r->name2, r->name2_bytes, r->where, &same);
    if (there <= 0) {
        return there; /* which it is, nobody can tell; but it did not come there */
    }
    return same ? 1 : -HFE_CORRUPT;
}

struct seen_name {
    UT_hash_handle hh;
    size_t len;
    char key[NAME_BYTES + 4];
};

/* Notes the name; true if a later change of it was done, and so this one was, too. */
static bool seen(struct seen_name **all, uint32_t parent, const char *name, size_t len, bool add) {
    struct seen_name *n, *found;
    char key[NAME_BYTES + 4];

    memcpy(key, &parent, sizeof(parent));
    memcpy(key + sizeof(parent), name, len);
    HASH_FIND(hh, *all, key, len + sizeof(parent), found);
    if (!found && add && (n = malloc(sizeof(*n)))) {
        n->len = len + sizeof(parent);
        memcpy(n->key, key, n->len);
        HASH_ADD_KEYPTR(hh, *all, n->key, n->len, n);
    }
    return found != NULL;
}

static int append(struct snap *s, struct replay *p, const struct snap_file *log,
                  struct snap_record *r) {
    uint8_t *bytes = malloc(SNAP_RECORD_HEAD_BYTES + SNAP_BODY_BYTES + NAME_BYTES);
    size_t size;
    int err;

    if (!bytes) {
        return -ENOMEM;
    }
    r->seq = ++p->l->seq;
    size = snap_record_encode(r, &s->config.volume, bytes);
    err = snap_write(s, log, bytes, size, p->l->end);
    p->l->end += size;
    fiber_orphan(bytes);
    return err;
}

static int tell_outcome(struct snap *s, struct replay *p, const struct snap_file *log,
                        enum snap_kind kind, const struct open_deed *d) {
    struct snap_record r = {.kind = kind, .id = d->r.seq, .name = "", .name2 = ""};

    return append(s, p, log, &r);
}

/* Nothing is kept any more in this epoch. It is told for good: names go on changing, and whoever asked once
 * more would be told something else. */
static int tell_broken(struct snap *s, struct replay *p, const struct snap_file *log) {
    static const char reason[] =
        "names were being changed when the daemon was killed, and nobody can "
        "tell how far that went";
    struct snap_record r = {
        .kind = SNAP_BROKEN, .name = reason, .name_bytes = sizeof(reason) - 1, .name2 = ""};

    p->l->harmed = true;
    (void)snprintf(p->l->reason, sizeof(p->l->reason), "%s", reason);
    return append(s, p, log, &r);
}

/* The newest first: what is seen to be done was preceded by all that concerned the same names. */
static int settle(struct snap *s, struct replay *p, struct snap_file *log) {
    struct seen_name *all = NULL, *n, *next;
    int err = 0;

    for (struct open_deed *d = p->deeds; d && err == 0; d = d->next) {
        bool two = d->r.name2_bytes > 0;
        bool known = seen(&all, d->r.parent, d->r.name, d->r.name_bytes, false) ||
                     (two && seen(&all, d->r.parent2, d->r.name2, d->r.name2_bytes, false));
        int done = known ? 1 : was_done(s, p, &d->r);

        if (done == -HFE_CORRUPT && !d->done) {
            err = p->l->harmed ? 0 : tell_broken(s, p, log);
        }
        done = done == -HFE_CORRUPT ? 1 : done;
        if (err < 0) {
            break;
        }
        if (done == 1) {
            (void)seen(&all, d->r.parent, d->r.name, d->r.name_bytes, true);
            if (two) {
                (void)seen(&all, d->r.parent2, d->r.name2, d->r.name2_bytes, true);
            }
            err = tell_outcome(s, p, log, SNAP_DONE, d);
        } else if (done == 0) {
            err = snap_table_undo(p->l->table, &d->r, d->replaced);
            err = err < 0 ? err : tell_outcome(s, p, log, SNAP_NOT, d);
        } else {
            err = done;
        }
    }
    HASH_ITER(hh, all, n, next) {
        HASH_DEL(all, n);
        free(n);
    }
    return err;
}

/* The log that goes on. */
static int load_current(struct snap *s, uint32_t epoch) {
    struct loaded l;
    struct replay p = {.s = s, .l = &l, .current = true};
    struct log_file *f = calloc(1, sizeof(*f));
    struct vol_attr cut = {.set = VOL_SET_SIZE, .cred = &cred_self};
    /* How this mount tells what it does; its first record is on the disks in any case. */
    struct snap_record mode = {
        .kind = SNAP_SYNCED, .type = s->config.strict, .id = 1, .name = "", .name2 = ""};
    char name[NAME_BYTES];
    struct stat st;
    int err = f ? load(&p, epoch) : -ENOMEM;

    snap_log_name(epoch, name);
    err = err < 0 ? err : snap_file_open(s, s->folder, name, O_RDWR, &f->file);
    if (err == 0) {
        f->refs = 1;
        cut.size = (off_t)l.end;
        err = s->next->ops->setattr(s->next, f->file.obj, f->file.h, &cut, &st);
        err = err < 0 ? err : settle(s, &p, &f->file);
        if (err == 0 && l.strict != s->config.strict) {
            err = append(s, &p, &f->file, &mode);
        }
        if (err < 0) {
            snap_file_close(s, &f->file);
        }
    }
    free_deeds(p.deeds);
    if (err < 0) {
        free(f);
        snap_table_free(l.table);
        return err;
    }
    snap_table_drop_all_unused(l.table);
    if (l.harmed) {
        atomic_store(&s->broken, true);
        snap_harm(s, epoch, l.reason[0] ? l.reason : "the log of changes is damaged");
    }
    s->table = l.table;
    s->full = l.kept;
    (void)log_switch_locked(s, f, l.end, l.seq); /* there was none before */
    return 0;
}

/* --- names of files of ours --- */

static uint64_t log_number(const char *name) {
    char *end;
    unsigned long number = name[0] >= '1' && name[0] <= '9' ? strtoul(name, &end, 10) : 0;

    return number > 0 && number < UINT32_MAX && strcmp(end, ".log") == 0 ? number : 0;
}

static int by_number(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int find_logs(struct snap *s) {
    struct numbers logs = {.list = NULL};
    int err = snap_read_numbers(s, s->folder, log_number, &logs);

    s->epochs = err < 0 ? NULL : calloc(logs.n + 1, sizeof(*s->epochs));
    if (err == 0 && !s->epochs) {
        err = -ENOMEM;
    }
    if (err == 0) {
        if (logs.n > 1) {
            qsort(logs.list, logs.n, sizeof(*logs.list), by_number);
        }
        for (size_t i = 0; i < logs.n; i++) {
            s->epochs[i].number = (uint32_t)logs.list[i];
        }
        s->epoch_count = (uint32_t)logs.n;
    }
    free(logs.list);
    return err;
}

static uint64_t anchor_number(const char *name) {
    return snap_is_anchor(name) ? snap_kept_number(name) : 0;
}

/* No number of a kept file is given again. */
static int find_kept(struct snap *s) {
    struct numbers kept = {.list = NULL};
    int err = snap_read_numbers(s, s->kept, snap_kept_number, &kept);

    for (size_t i = 0; i < kept.n; i++) {
        s->next_kept = kept.list[i] >= s->next_kept ? kept.list[i] + 1 : s->next_kept;
    }
    free(kept.list);
    return err;
}

/* Files that have other names, too, are known from now on. */
static int find_anchors(struct snap *s) {
    struct numbers anchors = {.list = NULL};
    int err = snap_read_numbers(s, s->kept, anchor_number, &anchors);

    for (size_t i = 0; i < anchors.n && err == 0; i++) {
        char name[NAME_BYTES];
        struct vol_entry e;

        snap_anchor_name(anchors.list[i], name);
        err = s->next->ops->lookup(s->next, s->kept, name, &e);
        if (err == -ENOENT) {
            err = 0; /* it went meanwhile */
        } else {
            err = err < 0 ? err : anchor_add(s, e.obj);
        }
    }
    free(anchors.list);
    return err;
}

/* --- epochs and their names --- */

struct epoch *find_epoch(struct snap *s, uint32_t number) {
    for (uint32_t i = 0; i < s->epoch_count; i++) {
        if (s->epochs[i].number == number) {
            return &s->epochs[i];
        }
    }
    return NULL;
}

/* Was what it kept given back? Its log says so at its beginning; one that cannot be read was not. */
static bool is_emptied(struct snap *s, uint32_t epoch) {
    struct log_reader reader;
    struct snap_record r;
    bool emptied;

    if (log_open(s, epoch, &reader) < 0) {
        return false;
    }
    emptied = log_next(&reader, &r) > 0 && r.kind == SNAP_MERGED && r.id == epoch;
    log_close(&reader);
    return emptied;
}

static void name_epochs(struct snap *s) {
    for (uint32_t i = 0; i < s->entry_count; i++) {
        struct snap_entry *e = &s->entries[i];
        struct epoch *epoch = find_epoch(s, e->epoch);

        if (epoch) {
            epoch->named = true;
            epoch->bookmark = (e->flags & SNAP_BOOKMARK) != 0;
            epoch->emptied = epoch->bookmark && is_emptied(s, e->epoch);
        } else if (!(e->flags & SNAP_HARMED)) {
            e->flags |= SNAP_HARMED;
            (void)snprintf(e->reason, sizeof(e->reason), "its log (%u.log) is missing", e->epoch);
            event_post(s->config.events, EVENT_ERROR, "snapshot %s is broken: %s", e->name,
                       e->reason);
        }
    }
}

/* Without a list, all epochs get names. */
static void name_unknown(struct snap *s) {
    struct loaded l;

    s->entry_count = 0;
    for (uint32_t i = 0; i < s->epoch_count && i < SNAPSHOTS_MAX; i++) {
        struct snap_entry *e = &s->entries[s->entry_count++];

        *e = (struct snap_entry){.epoch = s->epochs[i].number};
        if (load_table(s, e->epoch, &l) == 0) { /* else whoever looks at it says so */
            e->flags = l.dropped ? SNAP_BOOKMARK : 0;
            snap_table_free(l.table);
        }
        (void)snprintf(e->name, sizeof(e->name), "recovered-%u", e->epoch);
    }
    event_post(s->config.events, EVENT_ERROR,
               "the list of snapshots is damaged: they are called recovered-N now, oldest first");
    atomic_store(&s->list_changed, true);
}

/* An epoch that the one before contains already was about to go when the daemon ended. */
static int drop_merged(struct snap *s) {
    for (uint32_t i = 1; i + 1 < s->epoch_count; i++) {
        char name[NAME_BYTES];
        struct loaded l;
        int err;

        if (s->epochs[i].named) {
            continue;
        }
        err = load_table(s, s->epochs[i - 1].number, &l);
        if (err < 0) {
            continue; /* who looks at it will say so */
        }
        snap_table_free(l.table);
        if (l.merged < s->epochs[i].number) {
            continue;
        }
        snap_log_name(s->epochs[i].number, name);
        err = s->next->ops->unlink(s->next, s->folder, name);
        if (err < 0) {
            return err;
        }
        memmove(&s->epochs[i], &s->epochs[i + 1], (s->epoch_count - i - 1) * sizeof(s->epochs[0]));
        s->epoch_count--;
        i--;
    }
    return 0;
}

/* A power cut may take a name among the kept files, and leave what was told of it. */
static int check_anchors(struct snap *s) {
    int err = 0;

    for (const struct snap_name *n = snap_node(s->table, SNAP_KEPT)->in[SNAP_OLD]; n && err == 0;
         n = n->in) {
        struct vol_entry e;

        if (!snap_is_anchor(n->text)) {
            continue; /* it had no name at the cut: the snapshot does not need it */
        }
        err = s->next->ops->lookup(s->next, s->kept, n->text, &e);
        if (err == 0) {
            snap_forget(s, e.obj);
        } else if (err == -ENOENT && snap_name(s->table, SNAP_LIVE, n->parent, n->text, n->len)) {
            snap_harm(s, s->epoch, "the power was cut, and a kept file is missing");
            return 0;
        } else {
            err = err == -ENOENT ? 0 : err;
        }
    }
    return err;
}

static int load_chain(struct snap *s) {
    uint32_t last;
    int err = drop_merged(s);

    if (err < 0 || s->epoch_count == 0) {
        return err;
    }
    last = s->epochs[s->epoch_count - 1].number;
    atomic_store(&s->epoch, last);
    err = load_current(s, last);
    if (err == -HFE_CORRUPT || err == -HFE_FOREIGN || err == -HFE_FEATURE) {
        s->table = snap_table_new();
        atomic_store(&s->broken, true);
        snap_harm(s, last, "the log of the newest one cannot be read");
        err = s->table ? 0 : -ENOMEM;
    }
    return err == 0 && s->config.cut_off ? check_anchors(s) : err;
}

/* No number is given twice. */
static void note_last(struct snap *s) {
    s->last_epoch = (uint32_t)kept_epoch(s->next_kept);
    for (uint32_t i = 0; i < s->epoch_count; i++) {
        s->last_epoch = s->epochs[i].number > s->last_epoch ? s->epochs[i].number : s->last_epoch;
    }
    for (uint32_t i = 0; i < s->entry_count; i++) {
        s->last_epoch = s->entries[i].epoch > s->last_epoch ? s->entries[i].epoch : s->last_epoch;
    }
}

/* A log without a record and without a name was made for a cut that may never have been: the epoch
 * before it goes on. One that has records was cut, and not settled: a power cut may have taken what
 * the older one told last. */
static int drop_unused_log(struct snap *s) {
    struct epoch *last = s->epoch_count > 0 ? &s->epochs[s->epoch_count - 1] : NULL;
    char name[NAME_BYTES];
    struct loaded l;
    int err;

    if (!last || last->named) {
        return 0;
    }
    err = load_table(s, last->number, &l);
    if (err < 0) {
        return err == -HFE_CORRUPT ? 0 : err; /* whoever needs it will say so */
    }
    snap_table_free(l.table);
    if (l.seq > 0) {
        if (s->config.cut_off && s->epoch_count > 1 && !l.settled) {
            snap_harm(s, s->epochs[s->epoch_count - 2].number,
                      "the power was cut while a further one was being made");
        }
        return 0;
    }
    snap_log_name(last->number, name);
    err = s->next->ops->unlink(s->next, s->folder, name);
    s->epoch_count -= err == 0;
    return err;
}

int load_all(struct snap *s, struct why *why) {
    int err = find_logs(s);

    err = err < 0 ? err : find_kept(s);
    err = err < 0 ? err : find_anchors(s);
    if (err < 0) {
        return why_set(why, err, "the folder of snapshots cannot be read: %s", error_words(err));
    }
    err = list_read(s);
    if (err == -HFE_FEATURE) {
        return why_set(why, err, "its snapshots were written by a newer Holdfast: use that one");
    }
    if (err == -HFE_CORRUPT || err == -HFE_FOREIGN) {
        name_unknown(s);
    } else if (err < 0) {
        return why_set(why, err, "the list of snapshots cannot be read: %s", error_words(err));
    }
    name_epochs(s);
    atomic_store(&s->drops, snap_only_bookmarks(s));
    note_last(s);
    (void)s->next->ops->unlink(s->next, s->folder,
                               SNAP_LOG_NEW); /* if there is one: it is made anew */
    err = drop_unused_log(s);
    err = err < 0 ? err : load_chain(s);
    if (s->next_kept < kept_number(s->epoch, 1)) {
        s->next_kept = kept_number(s->epoch, 1);
    }
    return err < 0 ? why_set(why, err, "the snapshots cannot be loaded: %s", error_words(err)) : 0;
}
