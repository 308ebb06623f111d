/* Views: shared by the files of them. Objects of views are in a table of their own. Each has a
 * `vnode`: what it is in its snapshot, and where it is now. */
#pragma once

#include "snap/snap_int.h"

/* A snapshot that somebody looks at. */
struct view {
    struct view *next;
    uint32_t epoch;
    _Atomic unsigned refs; /* vnodes of it */
    /* guarded by view_lock */
    struct snap_table *index; /* what all epochs from its own to the last that is over know; NULL:
                                 its own is the current one */
    uint32_t upto;            /* the last epoch in it; 0: none */
    bool ended; /* what comes after `upto` cannot be known: something is missing there */
    uint64_t generation, merges;
};

/* Where an object of a snapshot is found. */
struct vref {
    const struct snap_node *node; /* in the index; NULL: not in it */
    uint32_t current;             /* its node in the current epoch's table, if there is no `live` */
    struct obj *live;             /* counted; NULL: it is no more */
    uint8_t type;
};

enum vnode_kind {
    VNODE_TOP,  /* .holdfast */
    VNODE_LIST, /* snapshots */
    VNODE_TREE,
};

struct vnode {
    enum vnode_kind kind;
    struct view *view;
    uint64_t number; /* st_ino, as it was found first */
    /* guarded by view_lock */
    uint64_t generation; /* for which `ref` was found */
    struct vref ref;
};

static inline uint64_t view_number(uint32_t epoch, uint64_t low) {
    return UINT64_C(1) << 63 | (uint64_t)(epoch & 0xFFFF) << SNAP_INO_EPOCH | low;
}

static inline struct vnode *vnode_of(const struct obj *obj) {
    return (struct vnode *)(uintptr_t)atomic_load(&obj->above);
}

/* --- view_find.c: what is at a name in a snapshot. Under view_lock (shared) --- */

/* The snapshot's root. */
int vref_root(struct snap *s, struct view *view, struct vref *ret_ref) must_check;
/* -ENOENT, or -EAGAIN if there was a cut meanwhile. */
int vref_child(struct snap *s, struct view *view, const struct vref *dir, const char *name,
               struct vref *ret_ref) must_check;
void vref_release(struct snap *s, struct vref *ref);
/* Its node in the current epoch's table: calls fn with it (or NULL) under the mutex. */
int vref_current(struct snap *s, const struct vref *ref,
                 int (*fn)(void *arg, const struct snap_node *node), void *arg) must_check;
/* As users see it, without st_ino. -EAGAIN. */
int vref_attr(struct snap *s, const struct vref *ref, struct stat *ret_attr) must_check;

/* --- view.c --- */

/* Takes view_lock shared, with what the object is found out for the present generation, which is
 * *ret_generation. -ESTALE if the snapshot is no more. */
int view_enter(struct snap *s, struct obj *obj, struct vnode **ret_node,
               uint64_t *ret_generation) must_check;
void view_leave(struct snap *s);
/* Trying once more what found everything just moving:
 *
 *     for (struct tries t = {.n = 0}; view_try(s, &t, err == -EAGAIN);) { err = ...; }
 *
 * After some tries nothing is reaped meanwhile (that moves what views look at), after TRY_MS it is
 * given up. */
struct tries {
    unsigned n;
    int64_t until_ms;
};
bool view_try(struct snap *s, struct tries *tries, bool again);
static inline bool view_moved_on(struct snap *s, uint64_t generation) {
    return atomic_load(&s->generation) != generation;
}
