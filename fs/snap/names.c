/* What makes, moves and removes names: told first, then passed on. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "snap/snap_int.h"

/* Names and bytes share one lock table; names lie above every file offset (as in the mirror). */
#define NAME_SPACE (UINT64_C(1) << 63)

static struct range_hold name_range(struct obj *dir, const char *name) {
    uint64_t at = NAME_SPACE + obj_hash(dir, name, strlen(name)) + 1;

    return (struct range_hold){.key = dir, .from = at, .to = at + 1};
}

static void hold_name(struct snap *s, struct range_hold *hold, struct obj *dir, const char *name) {
    struct range_hold r = name_range(dir, name);

    range_lock(&s->ranges, hold, r.key, r.from, r.to);
}

/* One end of a change of names. */
struct end {
    struct obj *dir;
    const char *name;
    struct place folder; /* where the folder stands */
    struct obj *obj;     /* what is there; counted, or NULL */
    struct stat attr;
    struct snap_node *node; /* of obj */
};

static int look(struct snap *s, struct end *e, struct obj *dir, const char *name) {
    struct vol_entry entry;
    int err;

    *e = (struct end){.dir = dir, .name = name};
    err = s->next->ops->lookup(s->next, dir, name, &entry);
    if (err == 0) {
        e->obj = entry.obj;
        e->attr = entry.attr;
    }
    return err == -ENOENT ? 0 : err;
}

static void unlook(struct snap *s, struct end *e) {
    snap_forget(s, e->obj);
    e->obj = NULL;
}

static struct snap_name *live_name(struct snap *s, const struct end *e) {
    struct snap_name *n = NULL;

    pthread_mutex_lock(&s->mutex);
    if (e->folder.node) {
        n = snap_name(s->table, SNAP_LIVE, e->folder.node, e->name, strlen(e->name));
    }
    pthread_mutex_unlock(&s->mutex);
    return n;
}

/* The folder has a node, and is kept as it was if it is old. */
static int keep_folder(struct snap *s, struct end *e) {
    int err = keep_attr(s, e->dir, &e->folder);

    return err == 0 && !e->folder.node ? -ENOENT : err;
}

/* What is at this end has a node, under this name, and is kept as it was if it is old. */
static int keep_object(struct snap *s, struct end *e) {
    const struct snap_name *known = live_name(s, e);
    struct place p;
    int err;

    if (known && known->node->made) { /* however the file is known by others of its names */
        e->node = known->node;
        return 0;
    }
    err = place_of(s, e->obj, &p);

    /* Of what was made since, each name stands for itself. A name in a folder that was made since, of
     * which nothing was told, is one of those, though the file may be known by its anchor alone. */
    if (err == 0 && (p.made || (e->folder.made && !known))) {
        return keep_made_name(s, e->folder.node, e->name, e->obj->type, &e->node);
    }
    err = err < 0 ? err : keep_attr(s, e->obj, &p);
    if (err == 0 && !p.node) {
        err = -ENOENT;
    }
    e->node = p.node;
    return err < 0 ? err : keep_name(s, e->folder.node, e->name, e->node);
}

/* Does nobody need to know what happens at this end? */
static bool is_nothing(struct snap *s, const struct end *e) {
    return e->folder.made && !live_name(s, e);
}

static struct deed deed_at(enum snap_kind kind, const struct end *e) {
    return (struct deed){.r = {.kind = kind,
                               .id = e->node ? e->node->id : 0,
                               .type = e->node ? e->node->type : 0,
                               .parent = e->folder.node->id,
                               .name = e->name,
                               .name_bytes = (uint8_t)strlen(e->name)}};
}

/* --- new names --- */

/* Then nothing is told: whoever looks at the log after a crash could not tell what was there from what
 * was made. */
static bool is_taken(struct snap *s, const struct end *e) {
    struct vol_entry there;

    if (live_name(s, e)) {
        return true;
    }
    if (s->next->ops->lookup(s->next, e->dir, e->name, &there) < 0) {
        return false;
    }
    snap_forget(s, there.obj);
    return true;
}

/* What a change needs could not be kept. -HFE_TOO_FEW: it must not be done; else the snapshot is broken, and
 * the change goes on. */
static int cannot_keep(struct snap *s, int err, const char *what) {
    if (err == -HFE_TOO_FEW) {
        return err;
    }
    (void)snap_break(s, err, what);
    return 0;
}

/* Tells that something is about to be made at `e`: 1 if so, 0 if nothing is told; or what the change is
 * answered. */
static int begin_made(struct snap *s, struct end *e, uint8_t type, struct deed *d) {
    int err = place_of(s, e->dir, &e->folder);

    if (err == 0 && is_nothing(s, e)) {
        return 0;
    }
    err = err < 0 ? err : keep_folder(s, e);
    if (err == 0 && is_taken(s, e)) {
        return 0; /* that will be the answer */
    }
    if (err == 0) {
        *d = deed_at(SNAP_MADE, e);
        d->r.type = type;
        err = deed_begin(s, d);
    }
    return err < 0 ? cannot_keep(s, err, "a new name could not be noted") : 1;
}

/* A change of one name, from its hold to its end. */
#define WITH_NAME(s, dir, name, alone, body)                                                       \
    do {                                                                                           \
        struct range_hold hold_;                                                                   \
        rwlock_read(&(s)->listing);                                                                \
        if (alone) {                                                                               \
            rwlock_write(&(s)->names);                                                             \
        } else {                                                                                   \
            rwlock_read(&(s)->names);                                                              \
        }                                                                                          \
        hold_name((s), &hold_, (dir), (name));                                                     \
        body;                                                                                      \
        range_unlock(&(s)->ranges, &hold_);                                                        \
        if (alone) {                                                                               \
            rwlock_write_done(&(s)->names);                                                        \
        } else {                                                                                   \
            rwlock_read_done(&(s)->names);                                                         \
        }                                                                                          \
        rwlock_read_done(&(s)->listing);                                                           \
    } while (0)

struct making {
    struct snap *s;
    struct end at;
    const struct vol_new *new;
    int flags;
    bool open;
    struct vol_entry *entry;
    struct vol_handle *handle;
};

static int pass_making(struct making *m) {
    struct vol *v = m->s->next;

    return m->open ? v->ops->create(v, m->at.dir, m->at.name, m->new, m->flags, m->entry, m->handle)
                   : v->ops->make(v, m->at.dir, m->at.name, m->new, m->entry);
}

static int make_held(struct making *m) {
    struct deed d = {.replaced = 0};
    int told = begin_made(m->s, &m->at, (uint8_t)IFTODT(m->new->mode), &d);
    int err = told < 0 ? told : pass_making(m);

    if (told > 0) {
        deed_end(m->s, &d, err);
    }
    return err;
}

static int make(struct making *m) {
    struct snap *s = m->s;
    int err;

    if (m->at.dir->flags & OBJ_VIEW) {
        return -EROFS;
    }
    err = snap_change_enter(s);
    if (err < 0) {
        return err;
    }
    if (strlen(m->at.name) >= NAME_BYTES || !snap_keeps(s)) {
        err = pass_making(m);
    } else {
        WITH_NAME(s, m->at.dir, m->at.name, false, err = make_held(m));
    }
    gate_leave(&s->gate);
    return err;
}

int snap_op_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                 struct vol_entry *ret_entry) {
    struct making m = {
        .s = snap_of(v), .at = {.dir = dir, .name = name}, .new = new, .entry = ret_entry};

    return make(&m);
}

int snap_op_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                   int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle) {
    struct making m = {.s = snap_of(v),
                       .at = {.dir = dir, .name = name},
                       .new = new,
                       .flags = flags,
                       .open = true,
                       .entry = ret_entry,
                       .handle = ret_handle};

    return make(&m);
}

/* As begin_made(). *ret_unknown: should the link be made, nobody will know of it. */
static int begin_link(struct snap *s, struct obj *obj, struct end *e, struct deed *d,
                      bool *ret_unknown) {
    struct place p;
    int err = place_of(s, obj, &p);

    if (err == 0 && p.made) {
        return begin_made(s, e, obj->type, d);
    }
    err = err < 0 ? err : place_of(s, e->dir, &e->folder);
    err = err < 0 ? err : keep_folder(s, e);
    err = err < 0 ? err : keep_attr(s, obj, &p);
    e->node = p.node;
    err = err < 0 ? err : anchor(s, obj, e->node); /* before it has several names */
    if (err == -EPERM || err == -EMLINK || err == -EOPNOTSUPP) {
        *ret_unknown = true; /* then the link cannot be made, either */
        return 0;
    }
    if (err == 0 && is_taken(s, e)) {
        return 0;
    }
    if (err == 0) {
        *d = deed_at(SNAP_LINK, e);
        err = deed_begin(s, d);
    }
    return err < 0 ? cannot_keep(s, err, "a new link could not be noted") : 1;
}

static int link_held(struct snap *s, struct obj *obj, struct end *e, struct vol_entry *ret_entry) {
    struct deed d = {.replaced = 0};
    bool unknown = false;
    int told = begin_link(s, obj, e, &d, &unknown);
    int err = told < 0 ? told : s->next->ops->link(s->next, obj, e->dir, e->name, ret_entry);

    if (told > 0) {
        deed_end(s, &d, err);
    } else if (unknown && err == 0) {
        (void)snap_break(s, -EMLINK, "a new link could not be noted");
    }
    return err;
}

int snap_op_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                 struct vol_entry *ret_entry) {
    struct snap *s = snap_of(v);
    struct end e = {.dir = dir, .name = name};
    uint64_t seen = atomic_load(&s->linkings);
    int err;

    if ((obj->flags | dir->flags) & OBJ_VIEW) {
        return dir->flags & OBJ_VIEW ? -EROFS : -EXDEV;
    }
    err = snap_change_enter(s);
    if (err < 0) {
        return err;
    }
    if (strlen(name) >= NAME_BYTES || !snap_keeps(s)) {
        err = s->next->ops->link(s->next, obj, dir, name, ret_entry);
    } else {
        WITH_NAME(s, dir, name, false, err = link_held(s, obj, &e, ret_entry));
    }
    gate_leave(&s->gate);
    if (err == 0) {
        snap_present(s, ret_entry->obj, &ret_entry->attr, seen);
    }
    return err;
}

/* --- names that go --- */

static bool has_other_name(struct snap *s, const struct end *e) {
    bool other = false;

    pthread_mutex_lock(&s->mutex);
    for (const struct snap_name *n = e->node->names[SNAP_LIVE]; n && !other; n = n->next) {
        other = n->parent != e->folder.node || strcmp(n->text, e->name) != 0;
    }
    pthread_mutex_unlock(&s->mutex);
    return other;
}

/* Then its last name may go, and it is no more. */
static int keep_all_bytes(struct snap *s, const struct end *e) {
    return e->node->type == DT_REG ? keep_bytes(s, e->obj, e->node, 0, INT64_MAX) : 0;
}

/* The deed of removing the name. With *ret_keep, the file is to be moved there instead. */
static int begin_gone(struct snap *s, struct end *e, struct deed *d, char kept[NAME_BYTES],
                      bool *ret_keep) {
    int err = keep_folder(s, e);

    err = err < 0 ? err : keep_object(s, e);
    if (err < 0) {
        return err;
    }
    do {
        bool last = !e->node->made && e->node->type != DT_DIR && !has_other_name(s, e);
        bool bare = last && atomic_load(&s->drops);

        err = bare ? keep_all_bytes(s, e) : 0;
        if (err < 0) {
            return err;
        }
        *ret_keep = last && !bare;
        *d = deed_at(*ret_keep ? SNAP_MOVE : SNAP_GONE, e);
        d->bare = bare;
        d->r.where = obj_number(e->obj);
        if (*ret_keep) {
            snap_kept_name(snap_new_kept(s), kept);
            d->r.parent2 = SNAP_KEPT;
            d->r.name2 = kept;
            d->r.name2_bytes = (uint8_t)strlen(kept);
        }
        err = deed_begin(s, d);
    } while (err == -EAGAIN); /* its other name just went, too */
    return err;
}

static int pass_gone(struct snap *s, const struct end *e, bool folder) {
    return folder ? s->next->ops->rmdir(s->next, e->dir, e->name)
                  : s->next->ops->unlink(s->next, e->dir, e->name);
}

static int keep_gone(struct snap *s, struct end *e, bool folder) {
    char kept[NAME_BYTES];
    bool keep = false;
    struct deed d;
    int err = begin_gone(s, e, &d, kept, &keep);

    if (err < 0) {
        err = cannot_keep(s, err, "a name that goes could not be kept");
        return err < 0 ? err : pass_gone(s, e, folder);
    }
    err = keep ? s->next->ops->rename(s->next, e->dir, e->name, s->kept, kept, 0)
               : pass_gone(s, e, folder);
    deed_end(s, &d, err);
    if (keep && err == 0) {
        atomic_fetch_or(&e->obj->flags, OBJ_KEPT);
    } else if (keep) {
        err = cannot_keep(s, err, "a removed file could not be kept");
        err = err < 0 ? err : pass_gone(s, e, folder);
    }
    return err;
}

static int gone_held(struct snap *s, struct obj *dir, const char *name, bool folder) {
    struct end e;
    int err = look(s, &e, dir, name);

    if (err < 0 || !e.obj || (e.obj->type == DT_DIR) != folder) {
        unlook(s, &e);
        return pass_gone(s, &(struct end){.dir = dir, .name = name}, folder);
    }
    err = place_of(s, dir, &e.folder);
    if (err == 0 && is_nothing(s, &e)) {
        err = pass_gone(s, &e, folder);
    } else if (err == 0) {
        err = keep_gone(s, &e, folder);
    }
    unlook(s, &e);
    return err;
}

static int gone(struct snap *s, struct obj *dir, const char *name, bool folder) {
    int err;

    if (dir->flags & OBJ_VIEW) {
        return -EROFS;
    }
    err = snap_change_enter(s);
    if (err < 0) {
        return err;
    }
    if (strlen(name) >= NAME_BYTES || !snap_keeps(s)) {
        err = pass_gone(s, &(struct end){.dir = dir, .name = name}, folder);
    } else {
        WITH_NAME(s, dir, name, folder, err = gone_held(s, dir, name, folder));
    }
    gate_leave(&s->gate);
    return err;
}

int snap_op_unlink(struct vol *v, struct obj *dir, const char *name) {
    return gone(snap_of(v), dir, name, false);
}

int snap_op_rmdir(struct vol *v, struct obj *dir, const char *name) {
    return gone(snap_of(v), dir, name, true);
}

/* --- names that move --- */

struct moving {
    struct snap *s;
    struct end from, to;
    unsigned flags;
    bool linked; /* what is replaced, as ... */
    bool bare;   /* all bytes of it are kept */
    char kept[NAME_BYTES];
};

static int pass_move(const struct moving *m) {
    return m->s->next->ops->rename(m->s->next, m->from.dir, m->from.name, m->to.dir, m->to.name,
                                   m->flags);
}

/* The file that is about to be replaced gets a name among the kept ones: a link, as its name may be
 * missing at no moment. Where there are no links, all its bytes are kept. */
static int keep_target(struct moving *m) {
    struct snap *s = m->s;
    struct end *e = &m->to;
    int err;

    if (e->node->made || e->node->type == DT_DIR || has_other_name(s, e)) {
        return 0;
    }
    if (atomic_load(&s->drops)) {
        m->bare = true;
        return keep_all_bytes(s, e);
    }
    snap_kept_name(snap_new_kept(s), m->kept);
    err = keep_link(s, e->obj, e->node, m->kept);
    m->linked = err == 0;
    if (err < 0 && !s->broken && e->node->type == DT_REG) {
        m->bare = true;
        err = keep_all_bytes(s, e);
    }
    return err;
}

/* It was not replaced after all. */
static void unlink_kept(struct moving *m) {
    struct snap *s = m->s;
    struct deed d = {.r = {.kind = SNAP_GONE,
                           .id = m->to.node->id,
                           .parent = SNAP_KEPT,
                           .name = m->kept,
                           .name_bytes = (uint8_t)strlen(m->kept)}};
    int err = deed_begin(s, &d);

    if (err == 0) {
        err = keep_unlink(s, m->to.obj, m->kept);
        deed_end(s, &d, err);
    } /* where it fails, the name stays as long as the snapshot */
}

static int begin_move(struct moving *m, struct deed *d) {
    struct snap *s = m->s;
    bool swap = (m->flags & RENAME_EXCHANGE) != 0, replaces = false;
    int err = keep_folder(s, &m->from);

    err = err < 0 ? err : keep_folder(s, &m->to);
    err = err < 0 ? err : keep_object(s, &m->from);
    if (err == 0 && m->to.obj && (swap || !is_nothing(s, &m->to))) {
        err = keep_object(s, &m->to);
        replaces = !swap;
    }
    do {
        err = err == -EAGAIN ? 0 : err;
        if (err == 0 && replaces) {
            err = keep_target(m);
        }
        if (err < 0) {
            return err;
        }
        *d = deed_at(swap ? SNAP_SWAP : SNAP_MOVE, &m->from);
        d->bare = m->bare;
        d->r.parent2 = m->to.folder.node->id;
        d->r.where = obj_number(m->from.obj);
        d->r.name2 = m->to.name;
        d->r.name2_bytes = (uint8_t)strlen(m->to.name);
        err = deed_begin(s, d);
    } while (err == -EAGAIN); /* the other name of what is replaced just went */
    return err;
}

static int keep_move(struct moving *m) {
    struct deed d;
    int err = begin_move(m, &d);

    if (err < 0) {
        err = cannot_keep(m->s, err, "a name that moves could not be kept");
        return err < 0 ? err : pass_move(m);
    }
    err = pass_move(m);
    deed_end(m->s, &d, err);
    if (err < 0 && m->linked) {
        unlink_kept(m);
    }
    return err;
}

static int move_held(struct moving *m) {
    struct snap *s = m->s;
    int err = place_of(s, m->from.dir, &m->from.folder);

    err = err < 0 ? err : place_of(s, m->to.dir, &m->to.folder);
    if (err < 0) {
        return err;
    }
    if (!m->from.obj || m->from.obj == m->to.obj || ((m->flags & RENAME_EXCHANGE) && !m->to.obj) ||
        ((m->flags & RENAME_NOREPLACE) && m->to.obj) ||
        (is_nothing(s, &m->from) && is_nothing(s, &m->to) && m->to.folder.made)) {
        return pass_move(m); /* nothing happens, or nobody needs to know */
    }
    return keep_move(m);
}

static int move(struct moving *m) {
    struct snap *s = m->s;
    struct range_hold hold[2] = {name_range(m->from.dir, m->from.name),
                                 name_range(m->to.dir, m->to.name)};
    bool alone = (m->flags & RENAME_EXCHANGE) != 0, again;
    int err;

    rwlock_read(&s->listing);
    do { /* a folder moves with all names below it: alone */
        if (alone) {
            rwlock_write(&s->names);
        } else {
            rwlock_read(&s->names);
        }
        range_lock_two(&s->ranges, hold);
        err = look(s, &m->from, m->from.dir, m->from.name);
        err = err < 0 ? err : look(s, &m->to, m->to.dir, m->to.name);
        again = err == 0 && !alone && m->from.obj && m->from.obj->type == DT_DIR;
        if (err == 0 && !again) {
            err = move_held(m);
        }
        unlook(s, &m->from);
        unlook(s, &m->to);
        range_unlock_two(&s->ranges, hold);
        if (alone) {
            rwlock_write_done(&s->names);
        } else {
            rwlock_read_done(&s->names);
        }
        alone = true;
    } while (again);
    rwlock_read_done(&s->listing);
    return err;
}

int snap_op_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                   const char *new_name, unsigned flags) {
    struct moving m = {.s = snap_of(v),
                       .from = {.dir = dir, .name = name},
                       .to = {.dir = new_dir, .name = new_name},
                       .flags = flags};
    int err;

    if ((dir->flags | new_dir->flags) & OBJ_VIEW) {
        return (dir->flags & new_dir->flags) & OBJ_VIEW ? -EROFS : -EXDEV;
    }
    err = snap_change_enter(m.s);
    if (err < 0) {
        return err;
    }
    if (strlen(name) >= NAME_BYTES || strlen(new_name) >= NAME_BYTES || !snap_keeps(m.s)) {
        err = pass_move(&m);
    } else {
        err = move(&m);
    }
    gate_leave(&m.s->gate);
    return err;
}
