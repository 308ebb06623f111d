/* What finds, makes, moves and removes names. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "mirror/mirror_int.h"

/* Names and bytes share one lock table; names lie above every file offset. */
#define NAME_SPACE (UINT64_C(1) << 63)

static struct range_hold name_range(struct obj *dir, const char *name) {
    uint64_t at = NAME_SPACE + obj_hash(dir, name, strlen(name));

    return (struct range_hold){.key = dir, .from = at, .to = at + 1};
}

static void hold_name(struct mirror *m, struct range_hold *hold, struct obj *dir,
                      const char *name) {
    struct range_hold r = name_range(dir, name);

    range_lock(&m->ranges, hold, r.key, r.from, r.to);
}

int hold_obj(struct mirror *m, struct obj *obj, struct obj_hold *h) {
    h->where.parent = NULL;
    while (obj != obj_root(m->objs)) {
        int err = obj_where(m->objs, obj, &h->where);

        if (err < 0) {
            h->where.parent = NULL;
            return err;
        }
        hold_name(m, &h->hold, h->where.parent, h->where.name);
        if (obj_is_at(m->objs, obj, &h->where)) {
            return 0;
        }
        range_unlock(&m->ranges, &h->hold); /* renamed while we waited */
        obj_unpin(m->objs, h->where.parent);
        h->where.parent = NULL;
    }
    return 0;
}

void hold_done(struct mirror *m, struct obj_hold *h) {
    if (h->where.parent) {
        range_unlock(&m->ranges, &h->hold);
        obj_unpin(m->objs, h->where.parent);
    }
}

void present(struct mirror *m, const struct obj *obj, struct stat *attr) {
    attr->st_ino = obj_number(obj);
    if ((obj->flags & OBJ_PARKED) && attr->st_nlink > 0) {
        attr->st_nlink--; /* its name in .holdfast/open */
    }
    if (obj == obj_root(m->objs) && attr->st_nlink > 2) {
        attr->st_nlink--; /* .holdfast itself */
    }
}

bool is_ours(struct mirror *m, const struct obj *dir, const char *name) {
    return (name[0] == '.' || name[0] == 'l') && dir == obj_root(m->objs) &&
           (strcmp(name, STORE_FOLDER) == 0 || strcmp(name, "lost+found") == 0);
}

static int name_ok(struct mirror *m, const struct obj *dir, const char *name) {
    if (strlen(name) >= NAME_BYTES) {
        return -ENAMETOOLONG;
    }
    return is_ours(m, dir, name) ? -EPERM : 0;
}

/* What the read store says about (dir, name), and which store that is. */
static int look(struct mirror *m, struct obj *dir, const char *name, struct stat *ret_attr,
                uint8_t *ret_from) {
    struct vol_entry e;
    int i, err;

    MIRROR_FIRST_ANSWER (m, i, err) {
        struct vol *v = m->member[i].vol;

        err = v->ops->lookup(v, dir, name, &e);
        *ret_from = (uint8_t)i;
    }
    if (err == 0) {
        *ret_attr = e.attr;
    }
    return err;
}

/* An object with several names is tied to its inodes on the other stores, by the name at hand.
 * Under the namespace lock and a hold on the name. */
static void bind_links(struct mirror *m, struct obj *obj, struct obj *dir, const char *name,
                       const struct stat *attr) {
    if (S_ISDIR(attr->st_mode) || attr->st_nlink < 2 ||
        (atomic_fetch_or(&obj->flags, OBJ_BOUND | OBJ_LINKED) & OBJ_BOUND)) {
        return;
    }
    for (unsigned i = 0; i < m->count; i++) {
        struct vol *v = m->member[i].vol;
        struct vol_entry e;
        int err;

        if ((i == obj->from && !(obj->flags & OBJ_STRANGE)) || !is_online(m, i) ||
            !(m->member[i].caps & STORE_STABLE_INO)) {
            continue;
        }
        err = (int)RETRY_OWN(v->ops->lookup(v, dir, name, &e));
        if (answer_class(err) == ANSWER_DEVICE) {
            (void)reader_failed(m, i, err); /* the others have the object */
        } else if (err < 0 || obj_bind(m->objs, obj, (uint8_t)i, e.attr.st_ino) < 0) {
            atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_BOUND); /* at its next lookup */
        }
    }
}

/* A file with several names may be known by its inode on another store alone: the one that was asked
 * has come back since. Then it is asked as that one knows it. */
static void ask_elsewhere(struct mirror *m, struct obj *dir, const char *name, struct stat *key,
                          uint8_t *from) {
    if (S_ISDIR(key->st_mode) || key->st_nlink < 2 || obj_knows_ino(m->objs, *from, key->st_ino)) {
        return;
    }
    for (unsigned i = 0; i < m->count; i++) {
        struct vol *v = m->member[i].vol;
        struct vol_entry e;

        if (i != *from && is_online(m, i) && (m->member[i].caps & STORE_STABLE_INO) &&
            v->ops->lookup(v, dir, name, &e) == 0 &&
            obj_knows_ino(m->objs, (uint8_t)i, e.attr.st_ino)) {
            *from = (uint8_t)i;
            key->st_ino = e.attr.st_ino;
            return;
        }
    }
}

/* The object of what store `from` has there. */
static int enter_found(struct mirror *m, struct obj *dir, const char *name, uint8_t from,
                       const struct stat *attr, bool count, struct obj **ret_obj) {
    struct stat key = *attr;

    ask_elsewhere(m, dir, name, &key, &from);
    return obj_enter(m->objs, dir, name, from, &key, count, ret_obj);
}

int mirror_lookup(struct vol *v, struct obj *dir, const char *name, struct vol_entry *ret_entry) {
    struct mirror *m = mirror_of(v);
    struct range_hold hold;
    struct stat attr;
    uint8_t from;
    int err;

    if (name_ok(m, dir, name) < 0) {
        return is_ours(m, dir, name) ? -ENOENT : -ENAMETOOLONG;
    }
    rwlock_read(&m->names);
    hold_name(m, &hold, dir, name);
    err = look(m, dir, name, &attr, &from);
    if (err == 0) {
        err = enter_found(m, dir, name, from, &attr, true, &ret_entry->obj);
    }
    if (err == 0) {
        bind_links(m, ret_entry->obj, dir, name, &attr);
    }
    range_unlock(&m->ranges, &hold);
    rwlock_read_done(&m->names);
    if (err == 0) {
        ret_entry->attr = attr;
        present(m, ret_entry->obj, &ret_entry->attr);
    }
    return err;
}

void mirror_forget(struct vol *v, struct obj *obj, uint64_t nlookup) {
    obj_forget(mirror_of(v)->objs, obj, nlookup);
}

struct make_change {
    struct change c;
    struct obj *dir, *obj; /* obj: of a link */
    const char *name;
    const struct vol_new *new;
    struct mfile *file; /* of a create */
    int flags;
    struct vol_entry entry;
    uint8_t from; /* whose attributes are in `entry` */
};

static struct vol_entry *fill_entry(struct make_change *mc, unsigned i) {
    if (!mc->c.fill) {
        return NULL;
    }
    mc->from = (uint8_t)i;
    return &mc->entry;
}

static int make_apply(struct change *c, struct vol *v, unsigned i) {
    struct make_change *mc = (struct make_change *)c;

    return v->ops->make(v, mc->dir, mc->name, mc->new, fill_entry(mc, i));
}

static int make_undo(struct change *c, unsigned i) {
    struct make_change *mc = (struct make_change *)c;
    struct vol *v = c->m->member[i].vol;
    bool folder = mc->new &&S_ISDIR(mc->new->mode);

    return folder ? v->ops->rmdir(v, mc->dir, mc->name) : v->ops->unlink(v, mc->dir, mc->name);
}

static int create_apply(struct change *c, struct vol *v, unsigned i) {
    struct make_change *mc = (struct make_change *)c;
    struct vol_handle h;
    int err = v->ops->create(v, mc->dir, mc->name, mc->new, mc->flags, fill_entry(mc, i), &h);

    if (err == 0) {
        atomic_store(&mc->file->handle[i], h.v);
    }
    return err;
}

static int link_apply(struct change *c, struct vol *v, unsigned i) {
    struct make_change *mc = (struct make_change *)c;

    return v->ops->link(v, mc->obj, mc->dir, mc->name, fill_entry(mc, i));
}

/* Runs the change, and gives what was made its object. `count`s one lookup. */
static int make_new(struct mirror *m, struct make_change *mc, struct vol_entry *ret_entry) {
    int err;

    mc->c.name[0] = (struct change_name){mc->dir, mc->name};
    mc->c.allocates = true;
    mc->c.tells = TELLS_NAMES;
    mc->c.obj = mc->obj;
    err = mirror_change(m, &mc->c);
    if (err < 0) {
        return err;
    }
    if (mc->obj) {
        mc->entry.obj = mc->obj;
        err = obj_name_added(m->objs, mc->obj, mc->dir, mc->name, true);
    } else {
        err = obj_enter_new(m->objs, mc->dir, mc->name, mc->from, &mc->entry.attr, &mc->entry.obj);
        if (err == 0) {
            log_born(m, mc->entry.obj);
        }
    }
    if (err < 0) {
        return err; /* it exists, but we have no memory to tell: the next lookup finds it */
    }
    bind_links(m, mc->entry.obj, mc->dir, mc->name, &mc->entry.attr);
    if (mc->obj) {
        log_linked(m, mc->obj, mc->dir, mc->name);
    }
    present(m, mc->entry.obj, &mc->entry.attr);
    *ret_entry = mc->entry;
    times_later(m, mc->dir);
    return 0;
}

int mirror_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                struct vol_entry *ret_entry) {
    struct mirror *m = mirror_of(v);
    struct make_change mc = {.c = {.what = "make", .apply = make_apply, .undo = make_undo},
                             .dir = dir,
                             .name = name,
                             .new = new};
    struct range_hold hold;
    int err = name_ok(m, dir, name);

    if (err < 0) {
        return err;
    }
    if (!(m->caps & STORE_MKNOD) && !S_ISDIR(new->mode) && !S_ISLNK(new->mode) &&
        !S_ISREG(new->mode)) {
        return -EPERM;
    }
    change_enter(m);
    rwlock_read(&m->names);
    hold_name(m, &hold, dir, name);
    err = make_new(m, &mc, ret_entry);
    if (err == 0) {
        times_later(m, ret_entry->obj);
    }
    range_unlock(&m->ranges, &hold);
    rwlock_read_done(&m->names);
    gate_leave(&m->gate);
    return err;
}

int mirror_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                  int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle) {
    struct mirror *m = mirror_of(v);
    struct make_change mc = {.c = {.what = "create", .apply = create_apply, .undo = make_undo},
                             .dir = dir,
                             .name = name,
                             .new = new,
                             .flags = flags,
                             .file = mfile_new(NULL, O_RDWR | (flags & (O_SYNC | O_DSYNC)))};
    struct range_hold hold;
    int err = mc.file ? name_ok(m, dir, name) : -ENOMEM;

    if (err < 0) {
        free(mc.file);
        return err;
    }
    change_enter(m);
    rwlock_read(&m->names);
    hold_name(m, &hold, dir, name);
    err = make_new(m, &mc, ret_entry);
    if (err == 0) {
        mc.file->obj = ret_entry->obj;
        mc.file->times_dirty = true;
        atomic_fetch_or(&ret_entry->obj->flags, OBJ_NO_CAPS);
        (void)obj_opened(m->objs, ret_entry->obj); /* how many there are does not matter here */
    }
    range_unlock(&m->ranges, &hold);
    rwlock_read_done(&m->names);
    if (err == 0) {
        mfile_list(m, mc.file); /* before a cut asks whose times wait */
    }
    gate_leave(&m->gate);
    if (err < 0) {
        mfile_close_handles(m, mc.file);
        free(mc.file);
        return err;
    }
    ret_handle->v = (uint64_t)(uintptr_t)mc.file;
    return 0;
}

int mirror_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                struct vol_entry *ret_entry) {
    struct mirror *m = mirror_of(v);
    struct make_change mc = {.c = {.what = "link", .apply = link_apply, .undo = make_undo},
                             .dir = dir,
                             .obj = obj,
                             .name = name};
    struct obj_where where;
    struct range_hold hold[2];
    int err = name_ok(m, dir, name);

    if (err < 0) {
        return err;
    }
    if (!(m->caps & STORE_HARDLINK)) {
        return -EPERM;
    }
    change_enter(m);
    rwlock_read(&m->names);
    for (;;) { /* both names are held in one order, the old one only if it still is one */
        bool still;

        err = obj_where(m->objs, obj, &where);
        if (err < 0) {
            break;
        }
        hold[0] = name_range(where.parent, where.name);
        hold[1] = name_range(dir, name);
        range_lock_two(&m->ranges, hold);
        still = obj_is_at(m->objs, obj, &where);
        if (still) {
            err = make_new(m, &mc, ret_entry);
        }
        range_unlock_two(&m->ranges, hold);
        obj_unpin(m->objs, where.parent);
        if (still) {
            break;
        }
    }
    rwlock_read_done(&m->names);
    gate_leave(&m->gate);
    return err;
}

struct name_change {
    struct change c;
    struct obj *dir, *new_dir;
    const char *name, *new_name;
    unsigned flags;
    bool replaces;
};

static int unlink_apply(struct change *c, struct vol *v, unsigned i) {
    struct name_change *nc = (struct name_change *)c;

    (void)i;
    return v->ops->unlink(v, nc->dir, nc->name);
}

static int rmdir_apply(struct change *c, struct vol *v, unsigned i) {
    struct name_change *nc = (struct name_change *)c;

    (void)i;
    return v->ops->rmdir(v, nc->dir, nc->name);
}

static int rename_apply(struct change *c, struct vol *v, unsigned i) {
    struct name_change *nc = (struct name_change *)c;

    (void)i;
    return v->ops->rename(v, nc->dir, nc->name, nc->new_dir, nc->new_name, nc->flags);
}

static int rename_undo(struct change *c, unsigned i) {
    struct name_change *nc = (struct name_change *)c;
    struct vol *v = c->m->member[i].vol;

    if (nc->replaces) { /* what was replaced is gone here, but not on the store that failed */
        int err = v->ops->rename(v, nc->new_dir, nc->new_name, nc->dir, nc->name, 0);

        return err < 0
                   ? err
                   : repair_object(c->m, (unsigned)c->failed, i, nc->new_dir, nc->new_name, false);
    }
    return v->ops->rename(v, nc->new_dir, nc->new_name, nc->dir, nc->name, nc->flags);
}

static int run_name_change(struct mirror *m, struct name_change *nc) {
    nc->c.tells = TELLS_NAMES;
    nc->c.name[0] = (struct change_name){nc->dir, nc->name};
    if (nc->new_dir) {
        nc->c.name[1] = (struct change_name){nc->new_dir, nc->new_name};
    }
    return mirror_change(m, &nc->c);
}

static int move(struct mirror *m, struct obj *obj, struct obj *dir, const char *name,
                struct obj *new_dir, const char *new_name) {
    struct name_change nc = {.c = {.what = "rename", .apply = rename_apply, .undo = rename_undo},
                             .dir = dir,
                             .name = name,
                             .new_dir = new_dir,
                             .new_name = new_name};

    nc.c.obj = obj;
    return run_name_change(m, &nc);
}

void parked_name(const struct obj *obj, char ret_name[NAME_BYTES]) {
    (void)snprintf(ret_name, NAME_BYTES, "%llu", (unsigned long long)obj->id);
}

/* Does the object, not a folder, have just one name that we know? */
static bool has_one_name(const struct obj *obj) {
    return obj && obj->type != DT_DIR && !(obj->flags & OBJ_PARKED) && obj->names &&
           !obj->names->next;
}

/* unlink of an open file: moved to .holdfast/open on every store, where a failover finds it. */
static int unlink_open(struct mirror *m, struct obj *obj, struct obj *dir, const char *name) {
    char parked[NAME_BYTES];
    int err;

    parked_name(obj, parked);
    err = move(m, obj, dir, name, m->parked, parked);
    if (err == 0) {
        err = obj_name_moved(m->objs, dir, name, m->parked, parked);
        atomic_fetch_or(&obj->flags, OBJ_PARKED);
        unpark_if_closed(m, obj);
    }
    return err;
}

int mirror_unlink(struct vol *v, struct obj *dir, const char *name) {
    struct mirror *m = mirror_of(v);
    struct name_change nc = {
        .c = {.what = "unlink", .apply = unlink_apply}, .dir = dir, .name = name};
    struct range_hold hold;
    struct obj *obj;
    struct stat attr;
    uint8_t from;
    bool park;
    int err = name_ok(m, dir, name);

    if (err < 0) {
        return err;
    }
    change_enter(m);
    rwlock_read(&m->names);
    hold_name(m, &hold, dir, name);
    obj = obj_find(m->objs, dir, name);
    park = has_one_name(obj) && obj_open_count(m->objs, obj) > 0;
    err = park ? unlink_open(m, obj, dir, name) : 0;
    if (!park || answer_class(err) == ANSWER_LIMIT) { /* a full store has no room to park it */
        err = obj ? look(m, dir, name, &attr, &from) : 0;
        err = err < 0 ? err : run_name_change(m, &nc);
        if (err == 0 && obj) {
            present(m, obj, &attr);
            obj_name_gone(m->objs, dir, name, &attr);
        }
    }
    if (err == 0) {
        times_later(m, dir);
    }
    obj_unpin(m->objs, obj);
    range_unlock(&m->ranges, &hold);
    rwlock_read_done(&m->names);
    gate_leave(&m->gate);
    return err;
}

int mirror_rmdir(struct vol *v, struct obj *dir, const char *name) {
    struct mirror *m = mirror_of(v);
    struct name_change nc = {
        .c = {.what = "rmdir", .apply = rmdir_apply}, .dir = dir, .name = name};
    struct stat attr;
    uint8_t from;
    int err = name_ok(m, dir, name);

    if (err < 0) {
        return err;
    }
    change_enter(m);
    rwlock_write(&m->names);
    nc.c.victim = obj_find(m->objs, dir, name);
    err = look(m, dir, name, &attr, &from);
    err = err < 0 ? err : run_name_change(m, &nc);
    if (err == 0) {
        obj_name_gone(m->objs, dir, name, &attr);
        times_later(m, dir);
    }
    obj_unpin(m->objs, nc.c.victim);
    rwlock_write_done(&m->names);
    gate_leave(&m->gate);
    return err;
}

/* A name's object (pinned, perhaps made) and attributes. -ENOENT if there is none. */
static int find(struct mirror *m, struct obj *dir, const char *name, struct obj **ret_obj,
                struct stat *ret_attr) {
    uint8_t from;
    int err = look(m, dir, name, ret_attr, &from);

    return err < 0 ? err : enter_found(m, dir, name, from, ret_attr, false, ret_obj);
}

/* The file that is about to be replaced may be open, or about to be opened by somebody who has just
 * looked it up: give it a name in .holdfast/open first. A link, so that its old name is never
 * missing in between. */
static int park_target(struct mirror *m, struct obj *obj, bool *ret_parked) {
    struct make_change mc = {.c = {.what = "link", .apply = link_apply, .undo = make_undo},
                             .dir = m->parked,
                             .obj = obj};
    char parked[NAME_BYTES];
    int err;

    if (!(m->caps & STORE_HARDLINK)) {
        return 0; /* its open descriptors on each store must do */
    }
    parked_name(obj, parked);
    mc.name = parked;
    mc.c.name[0] = (struct change_name){mc.dir, mc.name};
    mc.c.tells = TELLS_NAMES;
    mc.c.obj = obj;
    err = mirror_change(m, &mc.c);
    if (err == 0) {
        log_linked(m, obj, m->parked, parked);
        err = obj_name_added(m->objs, obj, m->parked, parked, false);
        atomic_fetch_or(&obj->flags, OBJ_PARKED | OBJ_LINGERS);
        *ret_parked = true;
    }
    return err;
}

static void unpark_target(struct mirror *m, struct obj *obj) {
    struct name_change nc = {.c = {.what = "unlink", .apply = unlink_apply}, .dir = m->parked};
    char parked[NAME_BYTES];

    parked_name(obj, parked);
    nc.name = parked;
    if (run_name_change(m, &nc) == 0) {
        obj_name_gone(m->objs, m->parked, parked, NULL);
        atomic_fetch_and(&obj->flags, (uint16_t) ~(OBJ_PARKED | OBJ_LINGERS));
    }
}

/* The object at (dir, name), pinned: as the table knows it, or looked up if `must`. NULL: none. */
static int find_known(struct mirror *m, struct obj *dir, const char *name, bool must,
                      struct obj **ret_obj) {
    struct stat attr;
    int err;

    *ret_obj = obj_find(m->objs, dir, name);
    if (*ret_obj || !must) {
        return 0;
    }
    err = find(m, dir, name, ret_obj, &attr);
    return err == -ENOENT ? 0 : err;
}

/* The rename itself, with the names held. The kernel looked both names up before, so a target that
 * the table does not know is not there. */
static int rename_held(struct mirror *m, struct name_change *nc, struct obj *source) {
    bool exchange = (nc->flags & RENAME_EXCHANGE) != 0, parked = false;
    struct obj *target;
    struct stat attr;
    uint8_t from;
    int err = find_known(m, nc->new_dir, nc->new_name, exchange, &target);

    if (err < 0) {
        return err;
    }
    if (target && source == target) { /* two names of one file: rename(2) does nothing then */
        err = nc->flags & RENAME_NOREPLACE ? -EEXIST : 0;
        goto out;
    }
    nc->replaces = !exchange;
    if (target && !exchange) {
        err = look(m, nc->new_dir, nc->new_name, &attr, &from);
    }
    if (err == 0 && target && nc->flags == 0 && has_one_name(target)) {
        err = park_target(m, target, &parked);
        if (answer_class(err) == ANSWER_LIMIT) {
            err = 0; /* a full store has no room for the link: open descriptors must do */
        }
    }
    nc->c.obj = source;
    nc->c.other = exchange ? target : NULL;
    nc->c.victim = target && !exchange && target->type == DT_DIR ? target : NULL;
    err = err < 0 ? err : run_name_change(m, nc);
    if (err < 0) {
        if (parked) {
            unpark_target(m, target);
        }
        goto out;
    }
    if (exchange) {
        obj_name_exchanged(m->objs, nc->dir, nc->name, nc->new_dir, nc->new_name);
    } else {
        if (target) {
            present(m, target, &attr);
            obj_name_gone(m->objs, nc->new_dir, nc->new_name, &attr);
        }
        err = obj_name_moved(m->objs, nc->dir, nc->name, nc->new_dir, nc->new_name);
    }
    if (parked) {
        linger(m, target);
    }
    times_later(m, nc->dir);
    times_later(m, nc->new_dir);
    if (exchange && target) { /* XFS: a folder that changes places gets a new mtime itself */
        times_later(m, source);
        times_later(m, target);
    }
out:
    obj_unpin(m->objs, target);
    return err;
}

int mirror_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                  const char *new_name, unsigned flags) {
    struct mirror *m = mirror_of(v);
    struct name_change nc = {
        .c = {.what = "rename", .apply = rename_apply, .undo = rename_undo, .allocates = true},
        .dir = dir,
        .name = name,
        .new_dir = new_dir,
        .new_name = new_name,
        .flags = flags};
    struct range_hold hold[2] = {name_range(dir, name), name_range(new_dir, new_name)};
    struct obj *source = NULL;
    bool alone = false;
    int err = name_ok(m, dir, name);

    err = err < 0 ? err : name_ok(m, new_dir, new_name);
    if (err < 0) {
        return err;
    }
    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) ||
        ((flags & RENAME_NOREPLACE) && !(m->caps & STORE_NOREPLACE)) ||
        ((flags & RENAME_EXCHANGE) && !(m->caps & STORE_EXCHANGE))) {
        return -EINVAL;
    }
    change_enter(m);
    for (;;) { /* a folder moves with all names below it: alone */
        bool folder, again;

        if (alone) {
            rwlock_write(&m->names);
        } else {
            rwlock_read(&m->names);
        }
        range_lock_two(&m->ranges, hold);
        err = find_known(m, dir, name, true, &source);
        err = err == 0 && !source ? -ENOENT : err;
        folder = err == 0 && (source->type == DT_DIR || (flags & RENAME_EXCHANGE));
        again = err == 0 && folder != alone;
        if (err == 0 && !again) {
            err = rename_held(m, &nc, source);
        }
        obj_unpin(m->objs, source);
        source = NULL;
        range_unlock_two(&m->ranges, hold);
        if (alone) {
            rwlock_write_done(&m->names);
        } else {
            rwlock_read_done(&m->names);
        }
        if (!again) {
            break;
        }
        alone = folder;
    }
    gate_leave(&m->gate);
    return err;
}
