/* Where a live object stands in the current epoch: its node, found by its names from the root down. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "snap/snap_int.h"

/* What an object is in the current epoch, remembered with it: the epoch, and the id of its node. */
enum {
    ID_OLD = 0,           /* nothing is known of it, and it is old */
    ID_MADE = UINT32_MAX, /* nothing is known of it, and it was made since */
};

static void remember(struct snap *s, struct obj *obj, uint32_t id) {
    atomic_store_explicit(&obj->above, (uint64_t)s->epoch << 32 | id, memory_order_relaxed);
}

static bool remembered_locked(struct snap *s, struct obj *obj, struct place *p) {
    uint64_t v = atomic_load_explicit(&obj->above, memory_order_relaxed);
    uint32_t id = (uint32_t)v;

    if (obj == s->root || obj == s->kept) {
        *p = (struct place){.node = snap_node(s->table, obj == s->root ? SNAP_ROOT : SNAP_KEPT),
                            .id = obj == s->root ? SNAP_ROOT : SNAP_KEPT};
        return true;
    }
    if (v >> 32 != s->epoch) {
        return false;
    }
    *p = (struct place){.made = id == ID_MADE};
    if (id != ID_MADE && id != ID_OLD) {
        p->node = snap_node(s->table, id);
        p->id = id;
        p->made = p->node && p->node->made;
    }
    return id == ID_MADE || id == ID_OLD || p->node;
}

static bool same_name(const char *name, const char *text, size_t bytes) {
    return !name || (strlen(name) == bytes && memcmp(text, name, bytes) == 0);
}

bool is_moving_locked(const struct snap *s, const struct snap_node *folder, const char *name) {
    for (const struct deed *d = s->deeds; d; d = d->next) {
        if (d->r.kind != SNAP_MADE && d->r.kind != SNAP_LINK && d->r.parent == folder->id &&
            same_name(name, d->r.name, d->r.name_bytes)) {
            return true;
        }
    }
    return false;
}

/* Was something told to move to this name, and is it being done? */
static bool is_arriving_locked(const struct snap *s, const struct snap_node *folder,
                               const char *name) {
    for (const struct deed *d = s->deeds; d; d = d->next) {
        if ((d->r.kind == SNAP_MOVE || d->r.kind == SNAP_SWAP) && d->r.parent2 == folder->id &&
            same_name(name, d->r.name2, d->r.name2_bytes)) {
            return true;
        }
    }
    return false;
}

/* The way from an object up to one whose place is known. */
struct step {
    struct step *next;
    struct obj *obj;
    struct obj_where where; /* its parent is pinned */
};

/* The name by which it is known: the one among the kept files, if there is one, as that stays. */
static int find_step(struct snap *s, struct step *t) {
    int err =
        (t->obj->flags & (OBJ_PARKED | OBJ_KEPT)) == OBJ_PARKED ? anchor_parked(s, t->obj) : 0;

    if (err == 0 && (t->obj->flags & OBJ_KEPT) &&
        obj_where_in(s->objs, t->obj, s->kept, &t->where) == 0) {
        return 0;
    }
    return err < 0 ? err : obj_where(s->objs, t->obj, &t->where);
}

/* One step down: what the object is, by its name in the folder at `above`. */
static struct place below_locked(struct snap *s, const struct place *above, const struct step *t) {
    const char *name = t->where.name;
    struct snap_name *n =
        above->node ? snap_name(s->table, SNAP_LIVE, above->node, name, strlen(name)) : NULL;
    struct place known;

    if (remembered_locked(s, t->obj, &known) && known.node) {
        return known; /* by another of its names */
    }
    if (!obj_is_at(s->objs, t->obj, &t->where)) {
        return (struct place){.moving = true}; /* the name may be another object's now */
    }
    if (n && is_arriving_locked(s, above->node, name)) {
        return (struct place){.moving = true}; /* or is about to be */
    }
    if (n) {
        remember(s, t->obj, n->node->id);
        return (struct place){.node = n->node, .id = n->node->id, .made = n->node->made};
    }
    if (above->node && is_moving_locked(s, above->node, name)) {
        return (struct place){.moving = true};
    }
    remember(s, t->obj, above->made ? ID_MADE : ID_OLD);
    return (struct place){.made = above->made};
}

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
            *ret_top = (struct place){.made = true}; /* ours: nothing of it is kept */
            break;
        }
        if (known && (ret_top->node || !nodes)) {
            break;
        }
        step = malloc(sizeof(*step));
        err = -ENOMEM;
        if (step) {
            *step = (struct step){.next = steps, .obj = obj};
            err = find_step(s, step);
        }
        if (err < 0) {
            free(step);
            *ret_top = (struct place){.made = true}; /* it has no name: nobody needs it */
            err = err == -ENOENT ? 0 : err;
            break;
        }
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
        p = below_locked(s, &p, t);
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
    struct snap_record r = {.kind = SNAP_NODE,
                            .id = snap_table_next_id(s->table),
                            .type = t->obj->type,
                            .parent = above->node->id,
                            .name = t->where.name,
                            .name_bytes = (uint8_t)strlen(t->where.name)};
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
        struct place child = below_locked(s, &p, t);

        if (!child.node && !child.moving) {
            err = new_node_locked(s, &p, t, child.made);
            child = below_locked(s, &p, t);
        }
        p = child;
    }
    pthread_mutex_unlock(&s->mutex);
    free_steps(s, steps);
    *ret_place = p;
    return err;
}

int keep_node(struct snap *s, struct obj *obj, struct place *ret_place) {
    int err = node_once(s, obj, ret_place);

    while (err == 0 && ret_place->moving) { /* whoever moves it waits for nobody here */
        (void)poll(NULL, 0, 1);
        err = node_once(s, obj, ret_place);
    }
    return err;
}

int keep_name(struct snap *s, struct snap_node *folder, const char *name, struct snap_node *node) {
    struct snap_record r = {.kind = SNAP_ALSO,
                            .id = node->id,
                            .type = node->type,
                            .parent = folder->id,
                            .name = name,
                            .name_bytes = (uint8_t)strlen(name)};
    const struct snap_name *there;
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    there = snap_name(s->table, SNAP_LIVE, folder, name, r.name_bytes);
    if (!there) {
        err = log_tell_locked(s, &r, NULL);
    } else if (there->node != node) {
        err = -HFE_CORRUPT; /* it cannot be two files */
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
