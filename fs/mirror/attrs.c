/* Attributes: of objects, and of the whole. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "mirror/mirror_int.h"

static int read_attr(struct mirror *m, struct obj *obj, struct mfile *f, struct stat *ret_attr) {
    int i, err;

    MIRROR_FIRST_ANSWER (m, i, err) {
        struct vol *v = m->member[i].vol;
        struct vol_handle h = mfile_handle(m, f, (unsigned)i);

        err = v->ops->getattr(v, obj, h, ret_attr);
    }
    return err;
}

static struct mfile *file_or_null(struct vol_handle h) {
    return vol_have(h) ? mfile_of(h) : NULL;
}

/* Reads hold the object's name: a rename in between would show another object's attributes. An
 * object without a name is read through its handle, if there is one. */
static int begin_read(struct mirror *m, struct obj *obj, struct obj_hold *ret_hold) {
    int err;

    rwlock_read(&m->names);
    err = hold_obj(m, obj, ret_hold);
    if (err < 0) {
        rwlock_read_done(&m->names);
    }
    return err;
}

static void end_read(struct mirror *m, struct obj_hold *hold) {
    hold_done(m, hold);
    rwlock_read_done(&m->names);
}

int mirror_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *ret_attr) {
    struct mirror *m = mirror_of(v);
    struct mfile *f = file_or_null(h);
    struct obj_hold hold;
    int err = begin_read(m, obj, &hold);

    if (err == 0) {
        err = read_attr(m, obj, f, ret_attr);
        end_read(m, &hold);
    } else if (f) {
        err = read_attr(m, obj, f, ret_attr);
    }
    if (err == -ENOENT && obj_last_attr(m->objs, obj, ret_attr)) {
        return 0; /* removed, but somebody still knows it: what it was */
    }
    if (err == 0) {
        present(m, obj, ret_attr);
    }
    return err;
}

struct attr_change {
    struct change c;
    struct obj *obj;
    struct mfile *file;
    const struct vol_attr *attr;
    const char *key; /* of an xattr */
    const void *value;
    size_t size;
    int flags;
    const struct cred *cred;
};

static int setattr_apply(struct change *c, struct vol *v, unsigned i) {
    struct attr_change *ac = (struct attr_change *)c;
    struct vol_handle h = mfile_handle(c->m, ac->file, i);

    return v->ops->setattr(v, ac->obj, h, ac->attr, NULL);
}

/* The store that failed still has the old attributes. (Bytes that a truncation took are not there
 * any more, but no store refuses to make a file shorter.) */
static int setattr_undo(struct change *c, unsigned i) {
    struct attr_change *ac = (struct attr_change *)c;
    struct vol *from = c->m->member[c->failed].vol, *to = c->m->member[i].vol;
    struct vol_handle hf = mfile_handle(c->m, ac->file, (unsigned)c->failed);
    struct vol_handle ht = mfile_handle(c->m, ac->file, i);
    struct vol_attr old = {.set = VOL_SET_UID | VOL_SET_GID | VOL_SET_MODE | VOL_SET_MTIME,
                           .cred = &cred_self};
    struct stat st;
    int err = (int)RETRY_OWN(from->ops->getattr(from, ac->obj, hf, &st));

    if (err < 0) {
        return err;
    }
    old.set |= ac->attr->set & VOL_SET_SIZE;
    old.uid = st.st_uid;
    old.gid = st.st_gid;
    old.mode = st.st_mode;
    old.size = st.st_size;
    old.mtime = st.st_mtim;
    return (int)RETRY_OWN(to->ops->setattr(to, ac->obj, ht, &old, NULL));
}

static int setxattr_apply(struct change *c, struct vol *v, unsigned i) {
    struct attr_change *ac = (struct attr_change *)c;

    (void)i;
    return v->ops->setxattr(v, ac->obj, ac->key, ac->value, ac->size, ac->flags, ac->cred);
}

static int removexattr_apply(struct change *c, struct vol *v, unsigned i) {
    struct attr_change *ac = (struct attr_change *)c;

    (void)i;
    return v->ops->removexattr(v, ac->obj, ac->key);
}

static bool is_open_on(struct change *c, unsigned i) {
    return vol_have(mfile_handle(c->m, ((struct attr_change *)c)->file, i));
}

/* Runs an attribute change with the object's name held. Under the gate and the namespace lock. */
static int change_held(struct mirror *m, struct attr_change *ac) {
    struct range_hold times;
    struct obj_hold hold;
    int err = hold_obj(m, ac->obj, &hold);

    if (err < 0) {
        return err;
    }
    if (hold.where.parent) {
        ac->c.name[0] = (struct change_name){hold.where.parent, hold.where.name};
    }
    ac->c.attrs_only = true;
    ac->c.tells = TELLS_ATTR;
    ac->c.obj = ac->obj;
    times_hold(m, ac->obj, &times);
    err = mirror_change(m, &ac->c);
    range_unlock(&m->ranges, &times);
    hold_done(m, &hold);
    return err;
}

/* The bits that go when `who` changes the data: setuid; setgid if the group may execute, or if the
 * file's group is not one of his (setattr_should_drop_sgid() in Linux). */
static mode_t dropped_bits(const struct stat *st, const struct cred *who) {
    mode_t bits = st->st_mode & S_ISUID;

    if ((st->st_mode & S_ISGID) && ((st->st_mode & S_IXGRP) || !cred_in_group(who, st->st_gid))) {
        bits |= S_ISGID;
    }
    return bits;
}

int drop_privileges(struct mirror *m, struct obj *obj, const struct cred *cred) {
    struct vol_attr attr = {.set = VOL_SET_MODE, .cred = &cred_self};
    struct attr_change ac = {.c = {.what = "chmod", .apply = setattr_apply, .undo = setattr_undo},
                             .obj = obj,
                             .attr = &attr};
    struct stat st;
    int err;

    if (cred->uid == 0 || (obj->flags & OBJ_NO_PRIVS)) {
        return 0; /* file capabilities go by themselves: the kernel below drops them at any write */
    }
    err = read_attr(m, obj, NULL, &st);
    if (err == 0 && dropped_bits(&st, cred)) {
        attr.mode = st.st_mode & ~dropped_bits(&st, cred);
        err = change_held(m, &ac);
    } else if (err == 0 && !(st.st_mode & (S_ISUID | S_ISGID))) {
        atomic_fetch_or(&obj->flags, OBJ_NO_PRIVS);
    }
    return err;
}

/* "Now" is one instant for all stores. */
static void fix_times(struct vol_attr *attr) {
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    if ((attr->set & VOL_SET_ATIME) && attr->atime.tv_nsec == UTIME_NOW) {
        attr->atime = now;
    }
    if ((attr->set & VOL_SET_MTIME) && attr->mtime.tv_nsec == UTIME_NOW) {
        attr->mtime = now;
    }
}

/* A new size is a change of all bytes. With a handle, no name can go away under us; else the name
 * is held first, then the bytes. */
static int set_size(struct mirror *m, struct attr_change *ac) {
    struct range_hold data;
    struct obj_hold name = {.where.parent = NULL};
    int err = drop_privileges(m, ac->obj, ac->attr->cred);

    log_bind_held(m, ac->obj);
    ac->c.tells = TELLS_DATA;
    ac->c.obj = ac->obj;
    ac->c.off = (uint64_t)ac->attr->size;
    err = err < 0 || ac->file ? err : hold_obj(m, ac->obj, &name);
    if (err < 0) {
        return err;
    }
    if (name.where.parent) {
        ac->c.name[0] = (struct change_name){name.where.parent, name.where.name};
    }
    range_lock(&m->ranges, &data, ac->obj, 0, INT64_MAX);
    err = mirror_change(m, &ac->c);
    range_unlock(&m->ranges, &data);
    hold_done(m, &name);
    return err;
}

int mirror_setattr(struct vol *v, struct obj *obj, struct vol_handle h, const struct vol_attr *attr,
                   struct stat *ret_attr) {
    struct mirror *m = mirror_of(v);
    struct vol_attr set = *attr;
    struct mfile *f = file_or_null(h);
    struct attr_change ac = {.c = {.what = "setattr", .apply = setattr_apply, .undo = setattr_undo},
                             .obj = obj,
                             .attr = &set};
    int err;

    fix_times(&set);
    change_enter(m);
    if (f && f->writable && (set.set & VOL_SET_SIZE)) {
        ac.file = f;
        ac.c.needs_handle = is_open_on;
        err = mfile_on_all(m, f);
        if (err < 0) {
            gate_leave(&m->gate);
            return err;
        }
    }
    rwlock_read(&m->names);
    err = set.set & VOL_SET_SIZE ? set_size(m, &ac) : change_held(m, &ac);
    if (err == 0 && (set.set & VOL_SET_UID) && set.uid == (uid_t)-1 && set.gid == (gid_t)-1) {
        /* chown to nobody, which only drops bits: setgid too, if the caller may not keep it. */
        err = drop_privileges(m, obj, set.cred);
    }
    if (set.set & VOL_SET_MODE) {
        atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_NO_PRIVS);
    }
    if (err == 0 && (set.set & VOL_SET_SIZE) && !(set.set & VOL_SET_MTIME)) {
        if (f) {
            f->times_dirty = true;
        } else {
            times_later(m, obj);
        }
    }
    rwlock_read_done(&m->names);
    gate_leave(&m->gate);
    return err < 0 || !ret_attr ? err : mirror_getattr(v, obj, h, ret_attr);
}

ssize_t mirror_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct mirror *m = mirror_of(v);
    struct obj_hold hold;
    ssize_t n;
    int i;

    n = begin_read(m, obj, &hold);
    if (n < 0) {
        return n;
    }
    MIRROR_FIRST_ANSWER (m, i, n) {
        n = m->member[i].vol->ops->readlink(m->member[i].vol, obj, buf, size);
    }
    end_read(m, &hold);
    return n;
}

ssize_t mirror_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf, size_t size) {
    struct mirror *m = mirror_of(v);
    bool caps = strcmp(key, "security.capability") == 0;
    struct obj_hold hold;
    ssize_t n;
    int i;

    if (caps && (obj->flags & OBJ_NO_CAPS)) {
        return -ENODATA;
    }
    n = begin_read(m, obj, &hold);
    if (n < 0) {
        return n;
    }
    MIRROR_FIRST_ANSWER (m, i, n) {
        n = m->member[i].vol->ops->getxattr(m->member[i].vol, obj, key, buf, size);
    }
    end_read(m, &hold);
    return n;
}

ssize_t mirror_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct mirror *m = mirror_of(v);
    struct obj_hold hold;
    ssize_t n;
    int i;

    n = begin_read(m, obj, &hold);
    if (n < 0) {
        return n;
    }
    MIRROR_FIRST_ANSWER (m, i, n) {
        n = m->member[i].vol->ops->listxattr(m->member[i].vol, obj, buf, size);
    }
    end_read(m, &hold);
    return n;
}

static int change_xattr(struct mirror *m, struct attr_change *ac) {
    int err;

    /* An ACL may change the mode. */
    atomic_fetch_and(&ac->obj->flags, (uint16_t) ~(OBJ_NO_PRIVS | OBJ_NO_CAPS));
    change_enter(m);
    rwlock_read(&m->names);
    err = change_held(m, ac);
    atomic_fetch_and(&ac->obj->flags,
                     (uint16_t) ~(OBJ_NO_PRIVS | OBJ_NO_CAPS)); /* and a look in between */
    rwlock_read_done(&m->names);
    gate_leave(&m->gate);
    return err;
}

int mirror_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value, size_t size,
                    int flags, const struct cred *cred) {
    struct attr_change ac = {.c = {.what = "setxattr", .apply = setxattr_apply, .allocates = true},
                             .obj = obj,
                             .key = key,
                             .value = value,
                             .size = size,
                             .flags = flags,
                             .cred = cred};

    return change_xattr(mirror_of(v), &ac);
}

int mirror_removexattr(struct vol *v, struct obj *obj, const char *key) {
    struct attr_change ac = {
        .c = {.what = "removexattr", .apply = removexattr_apply}, .obj = obj, .key = key};

    return change_xattr(mirror_of(v), &ac);
}

/* The smallest store speaks: what it has no room for, the volume has no room for. */
int mirror_statfs(struct vol *v, struct statvfs *ret_stat) {
    struct mirror *m = mirror_of(v);
    struct statvfs st, least;
    int err = -EIO;

    for (unsigned i = 0; i < m->count; i++) {
        struct vol *below = m->member[i].vol;
        int e = is_online(m, i) ? below->ops->statfs(below, &st) : -ENODEV;

        if (e < 0) {
            continue; /* a broken store shows at the next change */
        }
        if (err < 0 || st.f_bavail * st.f_frsize < least.f_bavail * least.f_frsize) {
            unsigned long names = err < 0 ? st.f_namemax : least.f_namemax;

            least = st;
            least.f_namemax = names;
        }
        if (st.f_namemax < least.f_namemax) {
            least.f_namemax = st.f_namemax;
        }
        err = 0;
    }
    if (err == 0) {
        *ret_stat = least;
    }
    return err;
}
