/* Keep first: what the snapshot still needs of an object, before it changes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "snap/snap_int.h"

/* What an object is in the current epoch, remembered with it: the epoch, and the id of its node. */
enum {
    ID_OLD = 0,           /* nothing is known of it, and it is old */
    ID_MADE = UINT32_MAX, /* nothing is known of it, and it was made since */
};

int snap_break(struct snap *s, int err, const char *what) {
    struct snap_record r = {.kind = SNAP_BROKEN, .name_bytes = 0};
    char reason[NAME_BYTES - 1];
    int told, n = snprintf(reason, sizeof(reason), "%s: %s", what, error_words(err));

    if (err == -EROFS || atomic_exchange(&s->broken, true)) {
        return err; /* a volume that is read-only changes nothing, either */
    }
    r.name = reason;
    r.name_bytes = (uint8_t)(n < (int)sizeof(reason) ? n : (int)sizeof(reason) - 1);
    pthread_mutex_lock(&s->mutex);
    (void)harm_entries_locked(s, UINT32_MAX, reason);
    told = log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    told = told < 0 ? told : log_flush(s);
    event_post(s->config.events, EVENT_ERROR,
               "snapshots are broken from now on: %s. What changed before is still in them; make "
               "room or mend the stores, then `holdfast snapshot create` a new one",
               reason);
    (void)told; /* if the log has no room for it, the list says it */
    atomic_store(&s->list_changed, true);
    return err;
}

void snap_break_alone(struct snap *s, int err, const char *what) {
    gate_enter(&s->gate);
    (void)snap_break(s, err, what);
    gate_leave(&s->gate);
}

/* --- where an object stands --- */

static void remember(struct snap *s, struct obj *obj, uint32_t id) {
    atomic_store_explicit(&obj->above, (uint64_t)s->epoch << 32 | id, memory_order_relaxed);
}

static bool remembered_locked(struct snap *s, struct obj *obj, struct place *p) {
    uint64_t v = atomic_load_explicit(&obj->above, memory_order_relaxed);
    uint32_t id = (uint32_t)v;

    if (obj == s->root || obj == s->kept) {
        *p = (struct place){snap_node(s->table, obj == s->root ? SNAP_ROOT : SNAP_KEPT), false,
                            false};
        return true;
    }
    if (v >> 32 != s->epoch) {
        return false;
    }
    *p = (struct place){NULL, id == ID_MADE, false};
    if (id != ID_MADE && id != ID_OLD) {
        p->node = snap_node(s->table, id);
        p->made = p->node && p->node->made;
    }
    return id == ID_MADE || id == ID_OLD || p->node;
}

/* The name among the kept files by which a file with several names is known. */
static bool find_anchor_locked(struct snap *s, const struct obj *obj, char ret_name[NAME_BYTES]) {
    struct anchor *a = NULL;

    if (obj->flags & OBJ_KEPT) {
        HASH_FIND(hh, s->anchors, &obj, sizeof(a->obj), a);
    }
    if (a) {
        snap_anchor_name(a->kept, ret_name);
    }
    return a != NULL;
}

bool find_anchor(struct snap *s, const struct obj *obj, char ret_name[NAME_BYTES]) {
    bool found;

    pthread_mutex_lock(&s->mutex);
    found = find_anchor_locked(s, obj, ret_name);
    pthread_mutex_unlock(&s->mutex);
    return found;
}

static struct snap_node *anchored_locked(struct snap *s, const struct obj *obj) {
    struct snap_name *n = NULL;
    char name[NAME_BYTES];

    if (find_anchor_locked(s, obj, name)) {
        n = snap_name(s->table, SNAP_LIVE, snap_node(s->table, SNAP_KEPT), name, strlen(name));
    }
    return n ? n->node : NULL;
}

bool is_moving_locked(const struct snap *s, const struct snap_node *folder, const char *name) {
    size_t len = name ? strlen(name) : 0;

    for (const struct deed *d = s->deeds; d; d = d->next) {
        if (d->r.kind != SNAP_MADE && d->r.kind != SNAP_LINK && d->r.parent == folder->id &&
            (!name || (d->r.name_bytes == len && memcmp(d->r.name, name, len) == 0))) {
            return true;
        }
    }
    return false;
}

/* One step down: what `name` in the folder at `above` is. */
static struct place below_locked(struct snap *s, const struct place *above, const char *name,
                                 struct obj *obj) {
    struct place known;
    struct snap_name *n =
        above->node ? snap_name(s->table, SNAP_LIVE, above->node, name, strlen(name)) : NULL;
    struct snap_node *node = n ? n->node : above->made ? NULL : anchored_locked(s, obj);

    if (remembered_locked(s, obj, &known) && known.node) {
        return known; /* by another of its names */
    }
    if (node) {
        remember(s, obj, node->id);
        return (struct place){node, node->made, false};
    }
    if (above->node && is_moving_locked(s, above->node, name)) {
        return (struct place){NULL, false, true};
    }
    remember(s, obj, above->made ? ID_MADE : ID_OLD);
    return (struct place){NULL, above->made, false};
}

/* The way from an object up to one whose place is known. */
struct step {
    struct step *next;
    struct obj *obj;
    struct obj_where where; /* its parent is pinned */
};

static void free_steps(struct snap *s, struct step *steps) {
    while (steps) {
        struct step *next = steps->next;

        obj_unpin(s->objs, steps->where.parent);
        free(steps);
        steps = next;
    }
}

/* Steps from `obj` up, the uppermost first; *ret_top is where they begin. With `nodes`, up to an
 * object that has a node. */
static int climb(struct snap *s, struct obj *obj, bool nodes, struct step **ret_steps,
                 struct place *ret_top) {
    struct step *steps = NULL;
    int err = 0;

    for (;;) {
        struct step *step;
        bool known;

        pthread_mutex_lock(&s->mutex);
        known = remembered_locked(s, obj, ret_top);
        pthread_mutex_unlock(&s->mutex);
        if (obj == s->hidden) {
            *ret_top = (struct place){NULL, true, false}; /* ours: nothing of it is kept */
            break;
        }
        if (known && (ret_top->node || !nodes)) {
            break;
        }
        step = malloc(sizeof(*step));
        err = step ? obj_where(s->objs, obj, &step->where) : -ENOMEM;
        if (err < 0) {
            free(step);
            *ret_top = (struct place){NULL, true, false}; /* it has no name: nobody needs it */
            err = err == -ENOENT ? 0 : err;
            break;
        }
        step->obj = obj;
        step->next = steps;
        steps = step;
        obj = step->where.parent;
    }
    if (err < 0) {
        free_steps(s, steps);
        return err;
    }
    *ret_steps = steps;
    return 0;
}

static int place_once(struct snap *s, struct obj *obj, struct place *ret_place) {
    struct step *steps;
    struct place p;
    int err = climb(s, obj, false, &steps, &p);

    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&s->mutex);
    for (struct step *t = steps; t && !p.moving; t = t->next) {
        p = below_locked(s, &p, t->where.name, t->obj);
    }
    pthread_mutex_unlock(&s->mutex);
    free_steps(s, steps);
    *ret_place = p;
    return 0;
}

int place_of(struct snap *s, struct obj *obj, struct place *ret_place) {
    int err = place_once(s, obj, ret_place);

    while (err == 0 && ret_place->moving) { /* whoever moves it waits for nobody here */
        (void)poll(NULL, 0, 1);
        err = place_once(s, obj, ret_place);
    }
    return err;
}

/* --- nodes --- */

/* Tells of something that was made since, and is there. */
static int tell_made_locked(struct snap *s, struct snap_record *r) {
    struct snap_record done = {.kind = SNAP_DONE, .name = "", .name2 = ""};
    int err;

    r->kind = SNAP_MADE;
    r->id = snap_table_next_id(s->table);
    err = log_tell_locked(s, r, NULL);
    done.id = r->seq;
    return err < 0 ? err : log_tell_locked(s, &done, NULL);
}

static int new_node_locked(struct snap *s, const struct place *above, const struct step *t,
                           bool made) {
    char kept[NAME_BYTES];
    bool anchored = !made && find_anchor_locked(s, t->obj, kept);
    const char *name = anchored ? kept : t->where.name;
    struct snap_record r = {.kind = SNAP_NODE,
                            .id = snap_table_next_id(s->table),
                            .type = t->obj->type,
                            .parent = anchored ? SNAP_KEPT : above->node->id,
                            .name = name,
                            .name_bytes = (uint8_t)strlen(name)};
    int err = made ? tell_made_locked(s, &r) : log_tell_locked(s, &r, NULL);

    if (err == 0) {
        remember(s, t->obj, r.id);
    }
    return err;
}

static int node_once(struct snap *s, struct obj *obj, struct place *ret_place) {
    struct step *steps;
    struct place p;
    int err = climb(s, obj, true, &steps, &p);

    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&s->mutex);
    for (struct step *t = steps; t && err == 0 && p.node; t = t->next) {
        struct place child = below_locked(s, &p, t->where.name, t->obj);

        if (!child.node && !child.moving) {
            err = new_node_locked(s, &p, t, child.made);
            child = below_locked(s, &p, t->where.name, t->obj);
        }
        p = child;
    }
    pthread_mutex_unlock(&s->mutex);
    free_steps(s, steps);
    *ret_place = p;
    return err;
}

int keep_node(struct snap *s, struct obj *obj, struct snap_node **ret_node) {
    struct place p;
    int err = node_once(s, obj, &p);

    while (err == 0 && p.moving) { /* whoever moves it waits for nobody here */
        (void)poll(NULL, 0, 1);
        err = node_once(s, obj, &p);
    }
    *ret_node = err < 0 ? NULL : p.node;
    return err;
}

int keep_name(struct snap *s, struct snap_node *folder, const char *name, struct snap_node *node) {
    struct snap_record r = {.kind = SNAP_ALSO,
                            .id = node->id,
                            .type = node->type,
                            .parent = folder->id,
                            .name = name,
                            .name_bytes = (uint8_t)strlen(name)};
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    if (!snap_name(s->table, SNAP_LIVE, folder, name, r.name_bytes)) {
        err = log_tell_locked(s, &r, NULL);
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

int keep_made_name(struct snap *s, struct snap_node *folder, const char *name, uint8_t type,
                   struct snap_node **ret_node) {
    struct snap_record r = {
        .type = type, .parent = folder->id, .name = name, .name_bytes = (uint8_t)strlen(name)};
    struct snap_name *there;
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    there = snap_name(s->table, SNAP_LIVE, folder, name, r.name_bytes);
    if (!there) {
        err = tell_made_locked(s, &r);
        there = snap_name(s->table, SNAP_LIVE, folder, name, r.name_bytes);
    }
    *ret_node = err < 0 ? NULL : there->node;
    pthread_mutex_unlock(&s->mutex);
    return err;
}

/* --- deeds --- */

/* Views wait for what is just moving. */
static void set_busy_locked(struct snap *s, const struct deed *d, int delta) {
    const uint32_t ids[] = {d->r.id, d->replaced};

    for (int i = 0; i < 2; i++) {
        struct snap_node *n = ids[i] ? snap_node(s->table, ids[i]) : NULL;

        if (n) {
            n->busy = (uint16_t)(n->busy + delta);
        }
    }
}

static void begin_locked(struct snap *s, struct deed *d) {
    set_busy_locked(s, d, 1);
    d->next = s->deeds;
    s->deeds = d;
}

static void end_locked(struct snap *s, struct deed *d) {
    struct deed **at = &s->deeds;

    while (*at != d) {
        at = &(*at)->next;
    }
    *at = d->next;
    set_busy_locked(s, d, -1);
}

/* Would an old file be left without any name? */
static bool is_last_name(const struct snap_node *n) {
    return n && !n->made && n->type != DT_DIR && n->names[SNAP_LIVE] && !n->names[SNAP_LIVE]->next;
}

int deed_begin(struct snap *s, struct deed *d) {
    struct snap_node *parent2, *loses = NULL;
    bool swap = d->r.kind == SNAP_SWAP;
    int err;

    pthread_mutex_lock(&s->mutex);
    if (d->r.kind == SNAP_MADE) {
        d->r.id = snap_table_next_id(s->table);
    }
    parent2 = d->r.kind == SNAP_MOVE || swap ? snap_node(s->table, d->r.parent2) : NULL;
    if (parent2) {
        struct snap_name *n = snap_name(s->table, SNAP_LIVE, parent2, d->r.name2, d->r.name2_bytes);

        d->replaced = n ? n->node->id : 0;
    }
    if (!d->bare && !swap) {
        loses = d->r.kind == SNAP_GONE ? snap_node(s->table, d->r.id)
                : d->replaced          ? snap_node(s->table, d->replaced)
                                       : NULL;
    }
    err = is_last_name(loses) ? -EAGAIN : log_tell_locked(s, &d->r, NULL);
    if (err == 0) {
        begin_locked(s, d);
    }
    pthread_mutex_unlock(&s->mutex);
    if (err < 0) {
        return err;
    }
    err = log_flush(s);
    if (err < 0) {
        pthread_mutex_lock(&s->mutex);
        end_locked(s, d);
        pthread_mutex_unlock(&s->mutex);
    }
    return err;
}

void deed_end(struct snap *s, struct deed *d, int err) {
    struct snap_record r = {
        .kind = err < 0 ? SNAP_NOT : SNAP_DONE, .id = d->r.seq, .name = "", .name2 = ""};
    bool swap = d->r.kind == SNAP_SWAP, at_once = err < 0 || swap;
    uint32_t gone = d->r.kind == SNAP_GONE ? d->r.id : swap ? 0 : d->replaced;
    struct snap_node *n;

    pthread_mutex_lock(&s->mutex);
    end_locked(s, d);
    if (err < 0) {
        err = snap_table_undo(s->table, &d->r, swap ? 0 : d->replaced);
    } else {
        n = gone ? snap_node(s->table, gone) : NULL;
        if (n) {
            snap_table_drop_unused(s->table, n);
        }
    }
    err = err < 0 ? err : log_tell_locked(s, &r, NULL);
    if (swap) {
        s->log.needed = s->log.end; /* nobody could see it afterwards */
    }
    pthread_mutex_unlock(&s->mutex);
    if (at_once) {
        err = err < 0 ? err : log_flush(s);
    }
    if (err < 0) {
        (void)snap_break(s, err, "what became of a change could not be noted");
    }
}

uint64_t snap_new_kept(struct snap *s) {
    uint64_t number;

    pthread_mutex_lock(&s->mutex);
    number = s->next_kept++;
    pthread_mutex_unlock(&s->mutex);
    return number;
}

/* --- attributes --- */

void snap_present(const struct obj *obj, struct stat *attr) {
    if ((obj->flags & OBJ_KEPT) && attr->st_nlink > 0) {
        attr->st_nlink--;
    }
}

int anchor_add(struct snap *s, struct obj *obj, uint64_t kept) {
    struct anchor *a = calloc(1, sizeof(*a)), *old;

    if (!a) {
        snap_forget(s, obj);
        return -ENOMEM;
    }
    atomic_fetch_or(&obj->flags, OBJ_KEPT);
    *a = (struct anchor){.obj = obj, .kept = kept};
    pthread_mutex_lock(&s->mutex);
    HASH_FIND(hh, s->anchors, &obj, sizeof(a->obj), old);
    if (!old) {
        HASH_ADD(hh, s->anchors, obj, sizeof(a->obj), a);
    }
    pthread_mutex_unlock(&s->mutex);
    if (old) {
        snap_forget(s, obj);
        free(a);
    }
    return 0;
}

void anchor_drop(struct snap *s, const struct obj *obj) {
    struct anchor *a;

    pthread_mutex_lock(&s->mutex);
    HASH_FIND(hh, s->anchors, &obj, sizeof(a->obj), a);
    if (a) {
        HASH_DEL(s->anchors, a);
    }
    pthread_mutex_unlock(&s->mutex);
    if (a) {
        snap_forget(s, a->obj);
        free(a);
    }
}

int keep_link(struct snap *s, struct obj *obj, struct snap_node *node, const char *name) {
    struct deed d = {.r = {.kind = SNAP_LINK,
                           .id = node->id,
                           .parent = SNAP_KEPT,
                           .name = name,
                           .name_bytes = (uint8_t)strlen(name)}};
    struct vol_entry e;
    int err = deed_begin(s, &d);

    if (err < 0) {
        return err;
    }
    err = s->next->ops->link(s->next, obj, s->kept, name, &e);
    deed_end(s, &d, err);
    if (err == 0) {
        snap_forget(s, e.obj);
        atomic_fetch_or(&obj->flags, OBJ_KEPT);
    }
    return err;
}

/* Gives a file that has names we do not know one more, among the kept files, by which it is found
 * whatever becomes of the others. */
static int anchor(struct snap *s, struct obj *obj, struct snap_node *node) {
    uint64_t kept = snap_new_kept(s);
    char name[NAME_BYTES];
    struct vol_entry e;
    int err;

    snap_anchor_name(kept, name);
    err = keep_link(s, obj, node, name);
    err = err < 0 ? err : s->next->ops->lookup(s->next, s->kept, name, &e);
    return err < 0 ? err : anchor_add(s, e.obj, kept);
}

/* Keeps its attributes. A file with several names is anchored before: once they are kept, nobody looks
 * whether it is. */
static int fetch_attr(struct snap *s, struct obj *obj, struct snap_node *node) {
    struct snap_record r = {.kind = SNAP_ATTR, .id = node->id, .name = "", .name2 = ""};
    uint8_t *xattrs = NULL;
    int err = s->next->ops->getattr(s->next, obj, VOL_NO_HANDLE, &r.attr.st);

    if (err < 0) {
        return err;
    }
    if (!S_ISLNK(r.attr.st.st_mode)) {
        err = snap_get_xattrs(s, obj, &xattrs, &r.attr.xattr_bytes);
    }
    r.attr.xattrs = xattrs;
    snap_present(obj, &r.attr.st);
    if (err == 0 && !S_ISDIR(r.attr.st.st_mode) && r.attr.st.st_nlink > 1 &&
        !(obj->flags & OBJ_KEPT)) {
        err = anchor(s, obj, node);
    }
    pthread_mutex_lock(&s->mutex);
    if (err == 0 && !node->attr) {
        err = log_tell_locked(s, &r, NULL);
    }
    pthread_mutex_unlock(&s->mutex);
    free(xattrs);
    return err;
}

int keep_attr(struct snap *s, struct obj *obj, struct snap_node **ret_node) {
    struct snap_node *node;
    struct range_hold hold;
    int err = keep_node(s, obj, &node);
    bool have;

    if (err < 0 || !node || node->made) {
        *ret_node = node;
        return err;
    }
    pthread_mutex_lock(&s->mutex);
    have = node->attr != NULL;
    pthread_mutex_unlock(&s->mutex);
    if (!have) { /* one keeps it, whoever comes second waits */
        range_lock(&s->ranges, &hold, obj, INT64_MAX, (uint64_t)INT64_MAX + 1);
        pthread_mutex_lock(&s->mutex);
        have = node->attr != NULL;
        pthread_mutex_unlock(&s->mutex);
        err = have ? 0 : fetch_attr(s, obj, node);
        range_unlock(&s->ranges, &hold);
    }
    *ret_node = node;
    return err;
}

/* --- bytes --- */

static int keep_data(struct snap *s, struct obj *obj, struct vol_handle h, struct snap_node *node,
                     uint64_t from, uint64_t to) {
    int err = 0;

    while (err == 0 && from < to) {
        size_t n = to - from < DATA_BYTES ? (size_t)(to - from) : DATA_BYTES, got;
        uint8_t *bytes;
        struct snap_record r = {.kind = SNAP_DATA, .id = node->id, .off = from, .name = ""};

        err = snap_read(s, obj, h, from, n, &bytes, &got);
        if (err < 0) {
            break;
        }
        if (got < n) { /* it cannot be shorter than it is */
            free(bytes);
            return -EIO;
        }
        r.len = r.payload = (uint32_t)n;
        r.sum = snap_sum(bytes, n);
        pthread_mutex_lock(&s->mutex);
        err = log_tell_locked(s, &r, bytes);
        pthread_mutex_unlock(&s->mutex);
        err = err < 0 ? err : log_flush(s);
        free(bytes);
        from += n;
    }
    return err;
}

static int keep_zeros(struct snap *s, struct snap_node *node, uint64_t from, uint64_t to) {
    struct snap_record r = {
        .kind = SNAP_ZERO, .id = node->id, .off = from, .len = to - from, .name = ""};
    int err;

    pthread_mutex_lock(&s->mutex);
    err = log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    return err;
}

/* A long run: a file of its own, cloned where the stores can (copy_file_range(2)). */
static int keep_file(struct snap *s, struct obj *obj, struct vol_handle h, struct snap_node *node,
                     uint64_t from, uint64_t to) {
    struct snap_record r = {.kind = SNAP_FILE,
                            .id = node->id,
                            .off = from,
                            .len = to - from,
                            .where = snap_new_kept(s),
                            .name = ""};
    struct snap_file file;
    char name[NAME_BYTES];
    int err;

    snap_kept_name(r.where, name);
    err = snap_file_create(s, s->kept, name, &file);
    if (err < 0) {
        return err;
    }
    for (uint64_t at = from; err == 0 && at < to;) {
        ssize_t n = s->next->ops->copy(s->next, obj, h, (off_t)at, file.obj, file.h, (off_t)at,
                                       to - at < 1 << 30 ? (size_t)(to - at) : 1 << 30, &cred_self);

        err = n < 0 ? (int)n : n == 0 ? -EIO : 0;
        at += n > 0 ? (uint64_t)n : 0;
    }
    if (err < 0) {
        snap_file_close(s, &file);
        (void)s->next->ops->unlink(s->next, s->kept, name); /* nobody knows it */
        return err;
    }
    err = s->next->ops->fsync(s->next, file.obj, file.h, true); /* before it is told of */
    snap_file_close(s, &file);
    pthread_mutex_lock(&s->mutex);
    err = err < 0 ? err : log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    return err;
}

/* A run that is not kept, within the file: its holes, and its data. */
static int keep_run(struct snap *s, struct obj *obj, struct vol_handle h, struct snap_node *node,
                    uint64_t from, uint64_t to) {
    int err = 0;

    while (err == 0 && from < to) {
        off_t data = s->next->ops->seek(s->next, obj, h, (off_t)from, SEEK_DATA);
        off_t hole = data < 0 ? data : s->next->ops->seek(s->next, obj, h, data, SEEK_HOLE);
        uint64_t end;

        if (data == -ENXIO || (data >= 0 && (uint64_t)data >= to)) {
            return keep_zeros(s, node, from, to);
        }
        if (data < 0 || hole < 0) {
            return data < 0 ? (int)data : (int)hole;
        }
        if ((uint64_t)data > from) {
            err = keep_zeros(s, node, from, (uint64_t)data);
            from = (uint64_t)data;
        }
        end = (uint64_t)hole < to ? (uint64_t)hole : to;
        if (err == 0 && end - from >= CLONE_BYTES) {
            err = keep_file(s, obj, h, node, from, end);
        } else if (err == 0) {
            err = keep_data(s, obj, h, node, from, end);
        }
        from = end;
    }
    return err;
}

static bool find_gap(struct snap *s, const struct snap_node *node, uint64_t from, uint64_t to,
                     uint64_t *ret_from, uint64_t *ret_to) {
    bool gap;

    pthread_mutex_lock(&s->mutex);
    gap = snap_gap(node, from, to, ret_from, ret_to);
    pthread_mutex_unlock(&s->mutex);
    return gap;
}

int keep_bytes(struct snap *s, struct obj *obj, struct snap_node *node, uint64_t from,
               uint64_t to) {
    uint64_t size = (uint64_t)node->attr->st.st_size, a, b;
    struct vol_handle h = VOL_NO_HANDLE;
    struct range_hold hold;
    int err = 0;

    from -= from % BLOCK_BYTES;
    to = to < INT64_MAX - BLOCK_BYTES ? to + (BLOCK_BYTES - to % BLOCK_BYTES) % BLOCK_BYTES : to;
    to = to < size ? to : size;
    if (from >= to || !find_gap(s, node, from, to, &a, &b)) {
        return 0;
    }
    range_lock(&s->ranges, &hold, obj, from, to);
    while (err == 0 && find_gap(s, node, from, to, &a, &b)) {
        if (!vol_have(h)) {
            err = s->next->ops->open(s->next, obj, O_RDONLY, &cred_self, &h);
        }
        err = err < 0 ? err : keep_run(s, obj, h, node, a, b);
    }
    range_unlock(&s->ranges, &hold);
    if (vol_have(h)) {
        (void)s->next->ops->close(s->next, obj, h); /* only read */
    }
    return err;
}
