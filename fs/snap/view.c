/* The folder .holdfast and the snapshots in it, as objects that the front can speak of. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "snap/view_int.h"

enum {
    INDEXES_MAX = 4,   /* of snapshots that nobody looks at just now */
    TRIES_AT_ONCE = 3, /* before the reaper is held up, */
    TRIES_FAST = 10,   /* and before there is a pause between two */
    TRY_MS = 20000,
};

/* --- views --- */

static void free_view(struct view *v) {
    snap_table_free(v->index);
    free(v);
}

/* Keeps the indexes of a few that nobody uses: the newest at the front. Under view_lock, alone. */
static void trim_views(struct snap *s) {
    unsigned idle = 0;

    for (struct view **at = &s->views; *at;) {
        struct view *v = *at;

        if (v->refs == 0 && ++idle > INDEXES_MAX) {
            *at = v->next;
            free_view(v);
        } else {
            at = &v->next;
        }
    }
}

static struct view *get_view(struct snap *s, uint32_t epoch) {
    struct view **at = &s->views, *v;

    while (*at && (*at)->epoch != epoch) {
        at = &(*at)->next;
    }
    v = *at;
    if (v) {
        *at = v->next;
    } else {
        trim_views(s);
        v = calloc(1, sizeof(*v));
        if (!v) {
            return NULL;
        }
        v->epoch = epoch;
        v->generation = UINT64_MAX;
    }
    v->next = s->views;
    s->views = v;
    return v;
}

/* The epochs from the view's own to the last that is over; and that one's number. */
static int chain_of(struct snap *s, const struct view *v, uint32_t **ret_list, unsigned *ret_n) {
    uint32_t *list;
    unsigned n = 0;
    bool there = false;

    pthread_mutex_lock(&s->mutex);
    list = calloc(s->epoch_count + 1, sizeof(*list));
    for (uint32_t i = 0; list && i < s->epoch_count; i++) {
        there = there || (s->epochs[i].number == v->epoch && s->epochs[i].named);
        if (s->epochs[i].number >= v->epoch && s->epochs[i].number != s->epoch) {
            list[n++] = s->epochs[i].number;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    if (!list || !there) {
        free(list);
        return list ? -ESTALE : -ENOMEM;
    }
    *ret_list = list;
    *ret_n = n;
    return 0;
}

/* 1 if nothing that comes later can be known through it. */
static int add_epoch(struct snap *s, struct view *v, uint32_t epoch) {
    static const struct snap_compose quietly = {.record = NULL};
    struct loaded l;
    int err = load_table(s, epoch, &l);

    if (err < 0) {
        return err;
    }
    v->upto = l.merged > epoch ? l.merged : epoch;
    if (l.harmed) {
        snap_harm(s, epoch, l.reason);
    }
    if (!v->index) {
        v->index = l.table;
        return l.harmed;
    }
    err = snap_table_compose(v->index, l.table, &quietly);
    snap_table_free(l.table);
    if (err == -HFE_CORRUPT) {
        snap_harm(s, epoch, "the logs of two epochs contradict each other");
    }
    return err < 0 ? err : l.harmed;
}

/* Makes the index know all epochs that are over. Under view_lock, alone. */
static int renew(struct snap *s, struct view *v, uint64_t generation) {
    uint32_t *list, merged;
    uint64_t merges;
    unsigned n;
    int err;

    pthread_mutex_lock(&s->mutex);
    merges = s->merges;
    merged = s->merged;
    pthread_mutex_unlock(&s->mutex);
    err = chain_of(s, v, &list, &n);
    if (err < 0) {
        return err;
    }
    /* What was merged into an older epoch than its own is nothing to it. */
    if (v->merges != merges && !(v->merges + 1 == merges && v->epoch > merged)) {
        snap_table_free(v->index);
        v->index = NULL;
        v->upto = 0;
        v->ended = false;
    }
    rwlock_read(&s->merging);
    for (unsigned i = 0; i < n && err == 0 && !v->ended; i++) {
        if (list[i] > v->upto) {
            err = add_epoch(s, v, list[i]);
            v->ended = err == 1;
            err = err == 1 ? 0 : err;
        }
    }
    rwlock_read_done(&s->merging);
    free(list);
    if (err < 0) {
        snap_table_free(v->index);
        v->index = NULL;
        v->upto = 0;
        v->generation = UINT64_MAX;
        return err == -ENOENT ? -EAGAIN : err; /* just merged? */
    }
    v->merges = merges;
    v->generation = generation;
    return 0;
}

/* --- objects --- */

/* By which the table of views knows an object: all names of a file that is there lead to one. The epoch
 * (23 bits), and 0 and the number of the live object, or 1 and one of ours for what is no more. */
enum { KEY_EPOCH = 41, KEY_GONE = 40 };

static uint64_t key_of(struct snap *s, const struct view *view, const struct vref *ref) {
    return (uint64_t)view->epoch << KEY_EPOCH |
           (ref->live ? ref->live->id
                      : UINT64_C(1) << KEY_GONE | atomic_fetch_add(&s->view_numbers, 1));
}

/* What is shown as st_ino. */
static uint64_t number_of(const struct vnode *n, uint64_t key) {
    const struct obj *live = n->ref.live;

    return view_number(n->view->epoch, live ? snap_ino_low(live->from, live->store_ino)
                                            : UINT64_C(1) << SNAP_INO_GONE |
                                                  (key & ((UINT64_C(1) << KEY_GONE) - 1)));
}

static void on_free(void *arg, struct obj *obj) {
    struct snap *s = arg;
    struct vnode *n = vnode_of(obj);

    if (n && n->kind == VNODE_TREE) {
        vref_release(s, &n->ref);
        atomic_fetch_sub(&n->view->refs, 1);
    }
    free(n);
}

/* Gives the object what it is, unless it has that. Takes over `ref`. */
static int attach(struct snap *s, struct obj *obj, enum vnode_kind kind, struct view *view,
                  struct vref *ref, uint64_t generation) {
    struct vnode *n = calloc(1, sizeof(*n));
    uint64_t none = 0;

    if (!n) {
        if (ref) {
            vref_release(s, ref);
        }
        return -ENOMEM;
    }
    *n = (struct vnode){.kind = kind, .view = view, .generation = generation};
    if (ref) {
        n->ref = *ref;
        n->number = number_of(n, obj->store_ino);
    }
    atomic_fetch_or(&obj->flags, OBJ_VIEW | (kind == VNODE_LIST ? OBJ_FLEETING : 0));
    if (view) {
        atomic_fetch_add(&view->refs, 1);
    }
    if (!atomic_compare_exchange_strong(&obj->above, &none, (uint64_t)(uintptr_t)n)) {
        if (ref) {
            vref_release(s, &n->ref);
        }
        if (view) {
            atomic_fetch_sub(&view->refs, 1);
        }
        free(n);
    }
    return 0;
}

int view_init(struct snap *s) {
    struct stat st = {.st_ino = 2, .st_mode = S_IFDIR};
    struct obj *list;
    int err = obj_table_new(1, 0, &s->view_objs);

    if (err < 0) {
        return err;
    }
    obj_table_on_free(s->view_objs, on_free, s);
    err = attach(s, obj_root(s->view_objs), VNODE_TOP, NULL, NULL, 0);
    err = err < 0 ? err
                  : obj_enter(s->view_objs, obj_root(s->view_objs), SNAP_VIEWS_FOLDER, 0, &st, true,
                              &list);
    return err < 0 ? err : attach(s, list, VNODE_LIST, NULL, NULL, 0);
}

void view_release(struct snap *s) {
    struct vnode *top = s->view_objs ? vnode_of(obj_root(s->view_objs)) : NULL;

    obj_table_free(s->view_objs);
    s->view_objs = NULL;
    free(top);
    while (s->views) {
        struct view *v = s->views;

        s->views = v->next;
        free_view(v);
    }
}

void view_forget(struct snap *s, struct obj *obj, uint64_t nlookup) {
    obj_forget(s->view_objs, obj, nlookup);
}

/* --- finding out where an object is --- */

/* Its names from the snapshot's folder down, the last one first. */
struct trail {
    struct obj_where *list;
    unsigned n, room;
};

static void free_trail(struct snap *s, struct trail *t) {
    for (unsigned i = 0; i < t->n; i++) {
        obj_unpin(s->view_objs, t->list[i].parent);
    }
    free(t->list);
}

static int trail_of(struct snap *s, struct obj *obj, struct trail *t) {
    for (;;) {
        struct obj_where where;
        int err = obj_where(s->view_objs, obj, &where);

        if (err < 0) {
            return -ESTALE;
        }
        if (vnode_of(where.parent)->kind != VNODE_TREE) {
            obj_unpin(s->view_objs, where.parent);
            return 0;
        }
        if (t->n == t->room) {
            unsigned room = t->room * 2 + 16;
            struct obj_where *list = realloc(t->list, room * sizeof(*list));

            if (!list) {
                obj_unpin(s->view_objs, where.parent);
                return -ENOMEM;
            }
            t->list = list;
            t->room = room;
        }
        t->list[t->n++] = where;
        obj = where.parent;
    }
}

/* Once more from the snapshot's root, as there was a cut since. Under view_lock, alone. */
static int find_anew(struct snap *s, struct obj *obj, struct vnode *n, uint64_t generation) {
    struct trail t = {.list = NULL};
    struct vref at = {.node = NULL};
    int err = n->view->generation == generation ? 0 : renew(s, n->view, generation);

    err = err < 0 ? err : trail_of(s, obj, &t);
    err = err < 0 ? err : vref_root(s, n->view, &at);
    for (unsigned i = t.n; i > 0 && err == 0; i--) {
        struct vref next;

        err = vref_child(s, n->view, &at, t.list[i - 1].name, &next);
        vref_release(s, &at);
        at = next;
    }
    free_trail(s, &t);
    if (err == 0) {
        vref_release(s, &n->ref);
        n->ref = at;
        n->generation = generation;
    }
    return err;
}

bool view_try(struct snap *s, struct tries *t, bool again) {
    bool held = t->n > TRIES_AT_ONCE, more;

    if (t->n == 0) {
        t->until_ms = clock_ms() + TRY_MS;
    }
    more = again && (t->n < TRIES_FAST || clock_ms() < t->until_ms);
    if (more && t->n == TRIES_AT_ONCE) {
        atomic_fetch_add(&s->waiting, 1);
    } else if (!more && held) {
        atomic_fetch_sub(&s->waiting, 1);
    }
    if (more && t->n++ >= TRIES_FAST) {
        (void)poll(NULL, 0, 1);
    }
    return more;
}

/* -EAGAIN if there was a cut, or a merge, meanwhile. */
static int enter_once(struct snap *s, struct obj *obj, struct vnode *n, uint64_t *ret_generation) {
    uint64_t generation;
    int err = 0;

    rwlock_read(&s->view_lock);
    generation = atomic_load(&s->generation);
    if (n->kind != VNODE_TREE ||
        (n->generation == generation && n->view->generation == generation)) {
        *ret_generation = generation;
        return 0; /* with the lock */
    }
    rwlock_read_done(&s->view_lock);
    rwlock_write(&s->view_lock);
    generation = atomic_load(&s->generation);
    if (n->generation != generation || n->view->generation != generation) {
        err = find_anew(s, obj, n, generation);
    }
    rwlock_write_done(&s->view_lock);
    if (err < 0 && view_moved_on(s, generation)) {
        return -EAGAIN; /* what was found belongs to neither */
    }
    return err == 0 ? -EAGAIN : err == -ENOENT ? -ESTALE : err;
}

int view_enter(struct snap *s, struct obj *obj, struct vnode **ret_node, uint64_t *ret_generation) {
    int err = -EAGAIN;

    *ret_node = vnode_of(obj);
    for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) {
        err = enter_once(s, obj, *ret_node, ret_generation);
    }
    return err == -EAGAIN ? -EIO : err; /* cuts without end */
}

void view_leave(struct snap *s) {
    rwlock_read_done(&s->view_lock);
}

/* --- .holdfast, and snapshots --- */

static void folder_attr(const struct obj *obj, struct stat *st) {
    uint64_t now = clock_real_s();

    *st = (struct stat){.st_mode = S_IFDIR | 0755,
                        .st_nlink = 2,
                        .st_ino = UINT64_C(3) << 62 | obj->store_ino,
                        .st_blksize = BLOCK_BYTES};
    st->st_mtim.tv_sec = st->st_ctim.tv_sec = st->st_atim.tv_sec = (time_t)now;
}

int view_top(struct snap *s, struct vol_entry *ret_entry) {
    struct obj *top = obj_root(s->view_objs);

    ret_entry->obj = top; /* of a table's root nobody counts the lookups */
    folder_attr(top, &ret_entry->attr);
    return 0;
}

static bool entry_named(const struct snap_entry *e, const char *name) {
    size_t n = strlen(e->name);

    return strncmp(e->name, name, n) == 0 && strcmp(name + n, snap_tail(e)) == 0;
}

static int list_lookup(struct snap *s, struct obj *dir, const char *name,
                       struct vol_entry *ret_entry) {
    struct stat st = {.st_mode = S_IFDIR};
    struct vref root = {.node = NULL};
    struct view *v = NULL;
    uint32_t epoch = 0;
    uint64_t generation;
    int err = -ENOENT;

    rwlock_write(&s->view_lock);
    generation = atomic_load(&s->generation);
    pthread_mutex_lock(&s->mutex);
    for (uint32_t i = 0; i < s->entry_count && epoch == 0; i++) {
        epoch = entry_named(&s->entries[i], name) ? s->entries[i].epoch : 0;
    }
    pthread_mutex_unlock(&s->mutex);
    if (epoch != 0) {
        v = get_view(s, epoch);
        err = v ? renew(s, v, generation) : -ENOMEM;
        err = err < 0 ? err : vref_root(s, v, &root);
        err = err < 0 ? err : vref_attr(s, &root, &ret_entry->attr);
    }
    st.st_ino = (uint64_t)epoch << KEY_EPOCH;
    err = err < 0 ? err : obj_enter(s->view_objs, dir, name, 0, &st, true, &ret_entry->obj);
    if (err == 0) {
        err = attach(s, ret_entry->obj, VNODE_TREE, v, &root, generation);
    }
    if (err == 0) {
        ret_entry->attr.st_ino = vnode_of(ret_entry->obj)->number;
    }
    rwlock_write_done(&s->view_lock);
    return err;
}

/* --- lookups and attributes --- */

static int tree_lookup(struct snap *s, struct obj *dir, const char *name,
                       struct vol_entry *ret_entry) {
    struct vref found = {.node = NULL};
    uint64_t generation;
    struct vnode *d;
    struct stat key;
    int err = view_enter(s, dir, &d, &generation);

    if (err < 0) {
        return err;
    }
    err = vref_child(s, d->view, &d->ref, name, &found);
    if (err == 0) {
        err = vref_attr(s, &found, &ret_entry->attr);
        if (err == 0 && view_moved_on(s, generation)) {
            err = -EAGAIN;
        }
        key = ret_entry->attr;
        key.st_ino = key_of(s, d->view, &found);
        err = err < 0 ? err : obj_enter(s->view_objs, dir, name, 0, &key, true, &ret_entry->obj);
        if (err < 0) {
            vref_release(s, &found);
        } else {
            err = attach(s, ret_entry->obj, VNODE_TREE, d->view, &found, generation);
            ret_entry->attr.st_ino = err == 0 ? vnode_of(ret_entry->obj)->number : 0;
        }
    }
    if (err == -ENOENT && view_moved_on(s, generation)) {
        err = -EAGAIN;
    }
    view_leave(s);
    return err;
}

/* A name that was looked up before, and is still known: in a snapshot it never becomes another
 * object's. -ENOENT if it is not. */
static int known_lookup(struct snap *s, struct obj *dir, const char *name,
                        struct vol_entry *ret_entry) {
    struct obj *obj = obj_find(s->view_objs, dir, name);
    int err = obj && vnode_of(obj) ? view_getattr(s, obj, &ret_entry->attr) : -ENOENT;

    if (err == 0) {
        struct stat key = ret_entry->attr;

        key.st_ino = obj->store_ino;
        err = obj_enter(s->view_objs, dir, name, 0, &key, true, &ret_entry->obj);
    }
    obj_unpin(s->view_objs, obj);
    return err;
}

int view_lookup(struct snap *s, struct obj *dir, const char *name, struct vol_entry *ret_entry) {
    int err = -EAGAIN;

    switch (vnode_of(dir)->kind) {
    case VNODE_TOP:
        if (strcmp(name, SNAP_VIEWS_FOLDER) != 0) {
            return -ENOENT;
        }
        err = obj_enter(s->view_objs, dir, name, 0, &(struct stat){.st_ino = 2, .st_mode = S_IFDIR},
                        true, &ret_entry->obj);
        if (err == 0) {
            folder_attr(ret_entry->obj, &ret_entry->attr);
        }
        return err;
    case VNODE_LIST:
        for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) {
            err = list_lookup(s, dir, name, ret_entry);
        }
        return err == -EAGAIN ? -EIO : err;
    default:
        err = known_lookup(s, dir, name, ret_entry);
        if (err != -ENOENT) {
            return err;
        }
        err = -EAGAIN;
        for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) {
            err = tree_lookup(s, dir, name, ret_entry);
        }
        return err == -EAGAIN ? -EIO : err;
    }
}

int view_getattr(struct snap *s, struct obj *obj, struct stat *ret_attr) {
    int err = -EAGAIN;

    if (vnode_of(obj)->kind != VNODE_TREE) {
        folder_attr(obj, ret_attr);
        return 0;
    }
    for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) {
        struct vnode *n;
        uint64_t generation;

        err = view_enter(s, obj, &n, &generation);
        if (err < 0) {
            return err;
        }
        err = vref_attr(s, &n->ref, ret_attr);
        ret_attr->st_ino = n->number;
        err = err == 0 && view_moved_on(s, generation) ? -EAGAIN : err;
        view_leave(s);
    }
    return err == -EAGAIN ? -EIO : err;
}

ssize_t view_readlink(struct snap *s, struct obj *obj, char *buf, size_t size) {
    struct vnode *n;
    uint64_t generation;
    ssize_t err = view_enter(s, obj, &n, &generation);

    if (err < 0) {
        return err;
    }
    /* Where a symlink points to never changes; bookmarks do not keep it. */
    err = n->ref.live ? s->next->ops->readlink(s->next, n->ref.live, buf, size) : -ENODATA;
    err = err == -ENOENT || err == -ESTALE ? -ENODATA : err; /* it went while it was known */
    view_leave(s);
    return err;
}

/* --- extended attributes --- */

struct taking {
    uint8_t *items;
    struct snap_attr attr; /* whose xattrs are `items` */
    bool have;
};

static int take_attr(struct taking *t, const struct snap_attr *a) {
    t->have = true;
    t->attr = *a;
    t->items = malloc(a->xattr_bytes + 1);
    if (!t->items) {
        return -ENOMEM;
    }
    if (a->xattr_bytes > 0) {
        memcpy(t->items, a->xattrs, a->xattr_bytes);
    }
    t->attr.xattrs = t->items;
    return 0;
}

static int take_current(void *arg, const struct snap_node *node) {
    return node && node->attr ? take_attr(arg, node->attr) : 0;
}

/* All of them: kept, or as they are. */
static int take_xattrs_once(struct snap *s, struct obj *obj, struct taking *t) {
    struct vnode *n;
    uint64_t generation;
    int err = view_enter(s, obj, &n, &generation);

    *t = (struct taking){.items = NULL};
    if (err < 0) {
        return err;
    }
    if (n->ref.node && n->ref.node->attr) {
        err = take_attr(t, n->ref.node->attr);
    } else {
        uint8_t *live = NULL;
        uint32_t bytes = 0;
        int live_err = n->ref.live && n->ref.type != DT_LNK
                           ? snap_get_xattrs(s, n->ref.live, &live, &bytes)
                           : 0;

        err = vref_current(s, &n->ref, take_current, t); /* after the look: it may just change */
        if (err == 0 && !t->have) {
            err = live_err;
            t->attr = (struct snap_attr){.xattrs = live, .xattr_bytes = bytes};
            t->items = live;
        } else {
            free(live);
        }
    }
    err = err == 0 && view_moved_on(s, generation) ? -EAGAIN : err;
    view_leave(s);
    if (err < 0) {
        free(t->items);
    }
    return err;
}

static int take_xattrs(struct snap *s, struct obj *obj, struct taking *t) {
    int err = -EAGAIN;

    if (vnode_of(obj)->kind != VNODE_TREE) {
        *t = (struct taking){.items = NULL};
        return 0;
    }
    for (struct tries again = {.n = 0}; view_try(s, &again, err == -EAGAIN);) {
        err = take_xattrs_once(s, obj, t);
    }
    return err == -EAGAIN ? -EIO : err;
}

ssize_t view_getxattr(struct snap *s, struct obj *obj, const char *key, void *buf, size_t size) {
    struct snap_xattr x;
    struct taking t;
    ssize_t at = 0, n = -ENODATA;
    int err = take_xattrs(s, obj, &t);

    if (err < 0) {
        return err;
    }
    while (n == -ENODATA && (at = snap_xattr_next(&t.attr, (size_t)at, &x)) > 0) {
        if (x.key_bytes == strlen(key) && memcmp(x.key, key, x.key_bytes) == 0) {
            n = (ssize_t)x.value_bytes;
            if (size > 0 && size < x.value_bytes) {
                n = -ERANGE;
            } else if (size > 0) {
                memcpy(buf, x.value, x.value_bytes);
            }
        }
    }
    free(t.items);
    return n;
}

ssize_t view_listxattr(struct snap *s, struct obj *obj, char *buf, size_t size) {
    struct snap_xattr x;
    struct taking t;
    size_t used = 0;
    ssize_t at = 0;
    int err = take_xattrs(s, obj, &t);

    while (err == 0 && (at = snap_xattr_next(&t.attr, (size_t)at, &x)) > 0) {
        size_t n = (size_t)x.key_bytes + 1;

        if (size > 0 && used + n > size) {
            err = -ERANGE;
        } else if (size > 0) {
            memcpy(buf + used, x.key, x.key_bytes);
            buf[used + n - 1] = '\0';
        }
        used += n;
    }
    free(t.items);
    return err < 0 ? err : (ssize_t)used;
}
