/* Changes of names, told before and after they are done; and the names that kept files have. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "snap/snap_int.h"

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
    if (err == -HFE_TOO_FEW) {
        deed_end(s, d, err); /* told together with it, before any change goes on */
    } else if (err < 0) {
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
    if (err < 0 && err != -HFE_TOO_FEW) {
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

/* --- names among the kept files --- */

int snap_getattr(struct snap *s, struct obj *obj, struct vol_handle h, struct stat *ret_attr) {
    for (;;) {
        uint16_t before = atomic_load(&obj->flags), after;
        int err = s->next->ops->getattr(s->next, obj, h, ret_attr);

        after = atomic_load(&obj->flags);
        if (err < 0) {
            return err;
        }
        if (!((before | after) & OBJ_LINKING) && !((before ^ after) & OBJ_KEPT)) {
            ret_attr->st_nlink -= (after & OBJ_KEPT) && ret_attr->st_nlink > 0;
            return 0;
        }
        (void)poll(NULL, 0, 1);
    }
}

void snap_present(struct snap *s, struct obj *obj, struct stat *attr, uint64_t seen) {
    struct stat st;

    if (((obj->flags & (OBJ_KEPT | OBJ_LINKING)) || atomic_load(&s->linkings) != seen) &&
        snap_getattr(s, obj, VOL_NO_HANDLE, &st) == 0) {
        attr->st_nlink = st.st_nlink;
    }
}

/* A name among the kept files is made, or removed: who asks for the count of links meanwhile waits. */
static void linking_begin(struct snap *s, struct obj *obj) {
    atomic_fetch_add(&s->linkings, 1);
    atomic_fetch_or(&obj->flags, OBJ_LINKING);
}

static void linking_end(struct snap *s, struct obj *obj) {
    atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_LINKING);
    atomic_fetch_add(&s->linkings, 1);
}

static int link_kept(struct snap *s, struct obj *obj, const char *name) {
    struct vol_entry e;
    int err;

    linking_begin(s, obj);
    err = s->next->ops->link(s->next, obj, s->kept, name, &e);
    if (err == 0) {
        atomic_fetch_or(&obj->flags, OBJ_KEPT);
        snap_forget(s, e.obj);
    }
    linking_end(s, obj);
    return err;
}

int keep_unlink(struct snap *s, struct obj *obj, const char *name) {
    int err;

    linking_begin(s, obj);
    err = s->next->ops->unlink(s->next, s->kept, name);
    if (err == 0) {
        atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_KEPT);
    }
    linking_end(s, obj);
    return err;
}

int keep_link(struct snap *s, struct obj *obj, struct snap_node *node, const char *name) {
    struct deed d = {.r = {.kind = SNAP_LINK,
                           .id = node->id,
                           .parent = SNAP_KEPT,
                           .name = name,
                           .name_bytes = (uint8_t)strlen(name)}};
    int err = deed_begin(s, &d);

    if (err == 0) {
        err = link_kept(s, obj, name);
        deed_end(s, &d, err);
    }
    return err;
}

/* --- files with several names --- */

int anchor_add(struct snap *s, struct obj *obj) {
    struct anchor *a = calloc(1, sizeof(*a)), *old;

    if (!a) {
        snap_forget(s, obj);
        return -ENOMEM;
    }
    atomic_fetch_or(&obj->flags, OBJ_KEPT);
    a->obj = obj;
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

static int anchor_held(struct snap *s, struct obj *obj, struct snap_node *node) {
    char name[NAME_BYTES];
    struct vol_entry e;
    int err;

    snap_anchor_name(snap_new_kept(s), name);
    err = node ? keep_link(s, obj, node, name) : link_kept(s, obj, name);
    err = err < 0 ? err : s->next->ops->lookup(s->next, s->kept, name, &e);
    return err < 0 ? err : anchor_add(s, e.obj);
}

int anchor(struct snap *s, struct obj *obj, struct snap_node *node) {
    int err = 0;

    if (!(obj->flags & OBJ_KEPT)) {
        rwlock_write(&s->anchoring);
        err = obj->flags & OBJ_KEPT ? 0 : anchor_held(s, obj, node);
        rwlock_write_done(&s->anchoring);
    }
    return err;
}

int anchor_parked(struct snap *s, struct obj *obj) {
    struct stat st;
    int err = s->next->ops->getattr(s->next, obj, VOL_NO_HANDLE, &st);

    err = err == 0 && st.st_nlink > 0 ? anchor(s, obj, NULL) : err;
    return err == -ENOENT || err == -ESTALE ? 0 : err;
}
