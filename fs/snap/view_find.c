/* What is at a name in a snapshot. There are three levels: the index (all epochs from the snapshot's
 * own to the last that is over), the current epoch's table, and the live tree. A name that a level
 * does not know is looked up in the next one. */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "snap/view_int.h"

enum {
    TRIES = 10,        /* while the name is just moving */
    TRIES_AT_ONCE = 6, /* before it is waited for */
};

void vref_release(struct snap *s, struct vref *ref) {
    if (ref->live && ref->live != s->root && ref->live != s->kept) {
        snap_forget(s, ref->live);
    }
    ref->live = NULL;
}

/* Inside the gate: the table does not change to another one meanwhile. Under `names`: a folder that was
 * told to go, which may be refused, is not seen as one that went. */
static int current_held(struct snap *s, const struct vref *ref,
                        int (*fn)(void *, const struct snap_node *), void *arg) {
    struct place p = {.node = NULL};
    int err = 0;

    if (!s->table) {
        return -EAGAIN;
    }
    if (ref->live) {
        err = place_of(s, ref->live, &p);
    }
    if (err < 0) {
        return err;
    }
    pthread_mutex_lock(&s->mutex);
    p.id = ref->live ? p.id : ref->current;
    err = fn(arg, p.id ? snap_node(s->table, p.id) : NULL); /* what was made may be gone by now */
    pthread_mutex_unlock(&s->mutex);
    return err;
}

int vref_current(struct snap *s, const struct vref *ref,
                 int (*fn)(void *, const struct snap_node *), void *arg) {
    int err;

    gate_enter(&s->gate);
    rwlock_read(&s->names);
    err = current_held(s, ref, fn, arg);
    rwlock_read_done(&s->names);
    gate_leave(&s->gate);
    return err;
}

/* --- the current epoch's table, and the live tree --- */

/* A way down from the root, or from the kept files. */
struct way {
    char (*names)[NAME_BYTES]; /* the last one first */
    unsigned depth, room;
    bool kept;
};

static int add_step(struct way *w, const struct snap_name *n) {
    if (w->depth == w->room) {
        unsigned room = w->room * 2 + 8;
        char(*names)[NAME_BYTES] = realloc(w->names, room * sizeof(*names));

        if (!names) {
            return -ENOMEM;
        }
        w->names = names;
        w->room = room;
    }
    memcpy(w->names[w->depth++], n->text, (size_t)n->len + 1);
    return 0;
}

/* -ENOENT if a folder on it is no more. */
static int way_to(struct way *w, const struct snap_name *n) {
    int err = 0;

    w->depth = 0;
    for (; err == 0; n = n->parent->names[SNAP_LIVE]) {
        if (!n || w->depth == TREE_DEPTH_MAX) {
            return -ENOENT;
        }
        if (n->node->busy > 0) {
            return -EAGAIN; /* it is just moving */
        }
        err = add_step(w, n);
        w->kept = n->parent->id == SNAP_KEPT;
        if (n->parent->id <= SNAP_KEPT) {
            break;
        }
    }
    return err;
}

enum finding {
    FOUND_IMPLICIT, /* the level does not know the name */
    FOUND_NODE,
    FOUND_NOTHING,
};

struct looking {
    struct snap *s;
    const char *name;
    enum finding found;
    uint32_t id;
    uint8_t type;
    uint32_t changes; /* of names in the folder, so far */
    struct way way;   /* to the first of its names that leads anywhere */
    unsigned nth;     /* which of its names */
    bool more;
};

static enum finding find_in(struct snap_table *t, const struct snap_node *dir, const char *name,
                            bool is_somewhere, const struct snap_node **ret_node) {
    size_t len = strlen(name);
    struct snap_name *old = snap_name(t, SNAP_OLD, dir, name, len);

    if (old) {
        *ret_node = old->node;
        return FOUND_NODE;
    }
    return !is_somewhere || snap_name(t, SNAP_LIVE, dir, name, len) ? FOUND_NOTHING
                                                                    : FOUND_IMPLICIT;
}

/* The nth name of a node at a level's end, as a way. */
static int nth_way(const struct snap_node *n, unsigned nth, struct way *w, bool *ret_more) {
    const struct snap_name *name = n->names[SNAP_LIVE];

    for (; name && nth > 0; nth--) {
        name = name->next;
    }
    *ret_more = name && name->next;
    return name ? way_to(w, name) : -ENOENT;
}

static int look_current(void *arg, const struct snap_node *dir) {
    struct looking *l = arg;
    const struct snap_node *n = NULL;
    int err;

    l->found = !dir ? FOUND_IMPLICIT
                    : find_in(l->s->table, dir, l->name,
                              dir->id <= SNAP_KEPT || dir->names[SNAP_LIVE], &n);
    l->more = false;
    l->changes = dir ? dir->in_changes : 0;
    if (l->found != FOUND_NODE) {
        return l->found == FOUND_IMPLICIT && dir && is_moving_locked(l->s, dir, l->name) ? -EAGAIN
                                                                                         : 0;
    }
    l->id = n->id;
    l->type = n->type;
    err = nth_way(n, l->nth, &l->way, &l->more);
    l->way.depth = err == -ENOENT ? 0 : l->way.depth;
    return err == -ENOENT ? 0 : err;
}

static int walk_live(struct snap *s, const struct way *w, struct obj **ret_obj) {
    struct obj *at = w->kept ? s->kept : s->root, *first = at;
    int err = 0;

    for (unsigned i = w->depth; i > 0 && err == 0; i--) {
        struct vol_entry e;

        err = s->next->ops->lookup(s->next, at, w->names[i - 1], &e);
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

static int has_id(void *arg, const struct snap_node *node) {
    const uint32_t *id = arg;

    return node && node->id == *id ? 0 : -EAGAIN;
}

/* A node of the current table: its live object, by any of its names. */
static int find_live(struct looking *l, const struct vref *dir, struct vref *ret) {
    int err = -ENOENT;

    ret->current = l->id;
    ret->type = l->type;
    ret->live = NULL;
    for (;;) {
        struct vref found = {.current = l->id};

        if (l->way.depth > 0) {
            err = walk_live(l->s, &l->way, &found.live);
            if (err == 0) { /* names may have changed meanwhile: is it the same? */
                err = vref_current(l->s, &found, has_id, &l->id);
                if (err == 0) {
                    ret->live = found.live;
                    return 0;
                }
                vref_release(l->s, &found);
            }
        }
        if (!l->more) {
            break;
        }
        l->nth++;
        err = vref_current(l->s, dir, look_current, l);
        if (err < 0) {
            return err;
        }
    }
    /* Without a name it is no more: a folder was empty, of a file all was kept. With one, it is just
     * moving. */
    return l->way.depth == 0 ? 0 : err == -ENOENT ? -EAGAIN : err;
}

/* One try. -EAGAIN if something is just moving. */
static int current_child_once(struct snap *s, const struct vref *dir, const char *name,
                              struct vref *ret) {
    struct looking l = {.s = s, .name = name};
    struct vol_entry e;
    int err = vref_current(s, dir, look_current, &l);

    *ret = (struct vref){.node = NULL};
    if (err == 0 && l.found == FOUND_NODE) {
        err = find_live(&l, dir, ret);
    } else if (err == 0 && (l.found == FOUND_NOTHING || !dir->live)) {
        err = -ENOENT;
    } else if (err == 0) {
        uint32_t changes = l.changes;
        int again;

        err = s->next->ops->lookup(s->next, dir->live, name, &e);
        if (err == 0) {
            *ret = (struct vref){.live = e.obj, .type = e.obj->type};
        }
        again = vref_current(s, dir, look_current, &l); /* was it touched meanwhile? */
        again = again == 0 && (l.found != FOUND_IMPLICIT || l.changes != changes) ? -EAGAIN : again;
        if (again < 0) {
            vref_release(s, ret);
            err = again;
        }
    }
    free(l.way.names);
    return err;
}

static int current_child(struct snap *s, const struct vref *dir, const char *name,
                         struct vref *ret) {
    int err = -EAGAIN;

    for (int i = 0; i < TRIES && err == -EAGAIN; i++) {
        if (i >= TRIES_AT_ONCE && gate_close(&s->gate, CUT_MS) == 0) { /* changes end */
            gate_open(&s->gate);
        }
        err = current_child_once(s, dir, name, ret);
        if (err == -EAGAIN && s->broken) {
            break; /* names that nobody told of lead nowhere */
        }
    }
    return err == -EAGAIN && s->broken ? -EIO : err;
}

/* --- the index --- */

static int vref_top(struct snap *s, bool kept, struct vref *ret) {
    *ret = (struct vref){
        .live = kept ? s->kept : s->root, .current = kept ? SNAP_KEPT : SNAP_ROOT, .type = DT_DIR};
    return 0;
}

/* Down a way whose names are those at the beginning of the current epoch. */
static int walk_current(struct snap *s, const struct way *w, struct vref *ret) {
    struct vref at;
    int err = vref_top(s, w->kept, &at);

    for (unsigned i = w->depth; i > 0 && err == 0; i--) {
        struct vref next;

        err = current_child(s, &at, w->names[i - 1], &next);
        vref_release(s, &at);
        at = next;
    }
    if (err == 0) {
        *ret = at;
    }
    return err;
}

static int index_child(struct snap *s, const struct snap_node *n, struct vref *ret) {
    struct way w = {.names = NULL};
    struct vref found = {.node = NULL};
    bool more = true;
    int err = -ENOENT;

    for (unsigned nth = 0; more && err == -ENOENT; nth++) {
        err = nth_way(n, nth, &w, &more);
        err = err < 0 ? err : walk_current(s, &w, &found);
    }
    free(w.names);
    if (err == -ENOENT && (n->type == DT_DIR || !n->names[SNAP_LIVE])) {
        err = 0; /* it is no more: all of it was kept */
    }
    if (err == 0) {
        *ret = found;
        ret->node = n;
        ret->type = n->type;
    }
    return err;
}

int vref_root(struct snap *s, struct view *view, struct vref *ret) {
    int err = vref_top(s, false, ret);

    if (err == 0 && view->index) {
        ret->node = snap_node(view->index, SNAP_ROOT);
    }
    return err;
}

/* A file with several names is known to the index by that among the kept files alone, maybe. */
static const struct snap_node *anchored_node(struct snap *s, const struct view *view,
                                             const struct obj *live) {
    const struct snap_name *n = NULL;
    struct obj_where where;

    if (view->index && live && (live->flags & OBJ_KEPT) &&
        obj_where_in(s->objs, live, s->kept, &where) == 0) {
        n = snap_name(view->index, SNAP_LIVE, snap_node(view->index, SNAP_KEPT), where.name,
                      strlen(where.name));
        obj_unpin(s->objs, where.parent);
    }
    return n ? n->node : NULL;
}

int vref_child(struct snap *s, struct view *view, const struct vref *dir, const char *name,
               struct vref *ret) {
    const struct snap_node *n = NULL;
    enum finding found = FOUND_IMPLICIT;
    int err;

    if (dir->type != DT_DIR) {
        return -ENOTDIR;
    }
    if (strlen(name) >= NAME_BYTES) {
        return -ENAMETOOLONG;
    }
    if (dir->node) {
        found = find_in(view->index, dir->node, name,
                        dir->node->id <= SNAP_KEPT || dir->node->names[SNAP_LIVE], &n);
    }
    if (found == FOUND_NODE) {
        return index_child(s, n, ret);
    }
    if (found == FOUND_NOTHING) {
        return -ENOENT;
    }
    err = current_child(s, dir, name, ret);
    if (err == 0) {
        ret->node = anchored_node(s, view, ret->live);
    }
    return err;
}

/* --- attributes --- */

static int copy_attr(void *arg, const struct snap_node *node) {
    struct stat *st = arg;

    if (node && node->attr) {
        *st = node->attr->st;
        return 1;
    }
    return 0;
}

int vref_attr(struct snap *s, const struct vref *ref, struct stat *ret_attr) {
    int have;

    if (ref->node && ref->node->attr) {
        *ret_attr = ref->node->attr->st;
    } else {
        struct stat live;
        int err = ref->live ? snap_getattr(s, ref->live, VOL_NO_HANDLE, &live) : -ENOENT;

        have = vref_current(s, ref, copy_attr, ret_attr); /* after the look: it may just change */
        if (have < 0) {
            return have;
        }
        if (have == 0) {
            if (err < 0) {
                return err == -ENOENT && !s->broken ? -EAGAIN
                       : err == -ENOENT             ? -EIO
                                                    : err; /* it just moved */
            }
            *ret_attr = live;
        }
    }
    ret_attr->st_blksize = BLOCK_BYTES;
    ret_attr->st_atim = ret_attr->st_mtim;
    return 0;
}
