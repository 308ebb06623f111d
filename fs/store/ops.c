/* The operations of one store: each is one or a few *at() calls on the open folder and a name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io.h"
#include "store/at.h"
#include "store/store_int.h"

static int fd_of(struct vol_handle h) {
    return (int)h.v;
}

int place_get(struct store *st, struct obj *obj, struct place *ret_place) {
    int err;

    ret_place->where.parent = NULL;
    if (obj == obj_root(st->table)) {
        ret_place->ref = (struct dir_ref){.fd = st->root};
        ret_place->fd = st->root;
        ret_place->name = ".";
        return 0;
    }
    err = obj_where(st->table, obj, &ret_place->where);
    if (err < 0) {
        return err;
    }
    err = dirfds_get(st, ret_place->where.parent, &ret_place->ref);
    if (err < 0) {
        obj_unpin(st->table, ret_place->where.parent);
        return err;
    }
    ret_place->fd = ret_place->ref.fd;
    ret_place->name = ret_place->where.name;
    return 0;
}

void place_put(struct store *st, struct place *place) {
    dirfds_put(st, &place->ref);
    obj_unpin(st->table, place->where.parent);
}

static int op_lookup(struct vol *v, struct obj *dir, const char *name,
                     struct vol_entry *ret_entry) {
    struct store *st = store_of(v);
    struct dir_ref ref;
    struct stat attr;
    int err = dirfds_get(st, dir, &ref);

    if (err < 0) {
        return err;
    }
    err = at_stat(ref.fd, name, -1, &attr);
    dirfds_put(st, &ref);
    if (err == 0 && S_ISDIR(attr.st_mode) && attr.st_dev != st->dev) {
        return -EXDEV; /* another filesystem mounted inside the store is not part of it */
    }
    if (err == 0) {
        *ret_entry = (struct vol_entry){.attr = attr};
    }
    return err;
}

static int make_one(int dirfd, const char *name, const struct vol_new *new) {
    int err;

    switch (new->mode &S_IFMT) {
    case S_IFDIR:
        err = at_prepare(dirfd, name);
        return err < 0 ? err : result(mkdirat(dirfd, name, new->mode & 07777));
    case S_IFLNK:
        return at_symlink(new->target, dirfd, name);
    default:
        return at_mknod(dirfd, name, new->mode, new->rdev);
    }
}

/* A setgid bit that the creator gives away needs its supplementary groups: see base/cred.h. */
static bool gives_setgid(const struct vol_new *new) {
    return (new->mode &S_ISGID) != 0;
}

static int op_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                   struct vol_entry *ret_entry) {
    struct store *st = store_of(v);
    struct dir_ref ref;
    struct stat attr;
    int err = dirfds_get(st, dir, &ref);

    if (err < 0) {
        return err;
    }
    cred_become(new->cred, gives_setgid(new));
    err = make_one(ref.fd, name, new);
    cred_back();
    err = err < 0 ? err : at_made(ref.fd, name, new->mode, new->cred);
    if (err == 0 && ret_entry) {
        err = at_stat(ref.fd, name, -1, &attr);
    }
    dirfds_put(st, &ref);
    if (err == 0 && ret_entry) {
        *ret_entry = (struct vol_entry){.attr = attr};
    }
    return err;
}

/* Flags for the backing open. Never O_DIRECT or O_APPEND (DESIGN section 10): the kernel above
 * already chose the offset, and its buffers are not aligned. Writers may read, for the kernel's
 * cache fills partial pages. Syncing is the mirror's job. */
static int backing_flags(int flags) {
    int mode = (flags & O_ACCMODE) == O_RDONLY ? O_RDONLY : O_RDWR;

    return mode | (flags & (O_TRUNC | O_DIRECTORY)) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
}

static int op_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                     int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle) {
    struct store *st = store_of(v);
    struct dir_ref ref;
    struct stat attr;
    int fd, err = dirfds_get(st, dir, &ref);

    if (err < 0) {
        return err;
    }
    err = at_prepare(ref.fd, name);
    if (err < 0) {
        dirfds_put(st, &ref);
        return err;
    }
    cred_become(new->cred, gives_setgid(new));
    fd = openat(ref.fd, name, backing_flags(flags) | O_RDWR | O_CREAT | O_EXCL, new->mode & 07777);
    err = result(fd);
    cred_back();
    if (err == 0) {
        err = at_made(ref.fd, name, S_IFREG | (new->mode & 07777), new->cred);
        err = err == 0 && ret_entry ? at_stat(ref.fd, name, fd, &attr) : err;
        if (err < 0) {
            (void)close(fd); /* the file is empty: nothing to lose */
            (void)at_unlink(ref.fd, name, 0);
        }
    }
    dirfds_put(st, &ref);
    if (err < 0) {
        return err;
    }
    if (ret_entry) {
        *ret_entry = (struct vol_entry){.attr = attr};
    }
    ret_handle->v = (uint64_t)fd;
    return 0;
}

static int op_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                   struct vol_entry *ret_entry) {
    struct store *st = store_of(v);
    struct dir_ref ref;
    struct place from;
    struct stat attr;
    int err = place_get(st, obj, &from);

    if (err < 0) {
        return err;
    }
    err = dirfds_get(st, dir, &ref);
    if (err == 0) {
        err = at_link(from.fd, from.name, ref.fd, name);
        if (err == 0 && ret_entry) {
            err = at_stat(ref.fd, name, -1, &attr);
        }
        dirfds_put(st, &ref);
    }
    place_put(st, &from);
    if (err == 0 && ret_entry) {
        *ret_entry = (struct vol_entry){.attr = attr};
    }
    return err;
}

static int op_unlink(struct vol *v, struct obj *dir, const char *name) {
    struct store *st = store_of(v);
    struct dir_ref ref;
    int err = dirfds_get(st, dir, &ref);

    if (err == 0) {
        err = at_unlink(ref.fd, name, 0);
        dirfds_put(st, &ref);
    }
    return err;
}

/* A folder went away, by rmdir or by being replaced: its descriptor must not keep it. */
static void drop_folder(struct store *st, struct obj *dir, const char *name) {
    struct obj *gone = obj_find(st->table, dir, name);

    if (gone && gone->type == DT_DIR) {
        dirfds_drop(st, gone);
    }
    obj_unpin(st->table, gone);
}

static int op_rmdir(struct vol *v, struct obj *dir, const char *name) {
    struct store *st = store_of(v);
    struct dir_ref ref;
    int err = dirfds_get(st, dir, &ref);

    if (err == 0) {
        err = at_unlink(ref.fd, name, AT_REMOVEDIR);
        dirfds_put(st, &ref);
    }
    if (err == 0) {
        drop_folder(st, dir, name);
    }
    return err;
}

static int op_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                     const char *new_name, unsigned flags) {
    struct store *st = store_of(v);
    struct dir_ref from, to;
    int err = dirfds_get(st, dir, &from);

    if (err < 0) {
        return err;
    }
    err = dirfds_get(st, new_dir, &to);
    if (err == 0) {
        err = at_rename(from.fd, name, to.fd, new_name, flags);
        dirfds_put(st, &to);
    }
    dirfds_put(st, &from);
    if (err == 0 && !(flags & RENAME_EXCHANGE)) {
        drop_folder(st, new_dir, new_name);
    }
    return err;
}

/* The place of an object, or, if it is open, no place but its descriptor. */
static int place_or_handle(struct store *st, struct obj *obj, struct vol_handle h,
                           struct place *ret_place, int *ret_fd) {
    if (vol_have(h)) {
        *ret_place = (struct place){.fd = -1, .name = ""};
        *ret_fd = fd_of(h);
        return 0;
    }
    *ret_fd = -1;
    return place_get(st, obj, ret_place);
}

/* An open file whose name went, but that has another: by that one its attributes are known. */
static void find_other_name(struct store *st, struct obj *obj, struct place *p, int fd) {
    if (fd >= 0 && st->side && !at_has_name(fd)) {
        struct place other;

        if (place_get(st, obj, &other) == 0) {
            *p = other;
        }
    }
}

static void place_done(struct store *st, struct place *p) {
    if (p->fd >= 0) {
        place_put(st, p);
    }
}

static int op_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *ret_attr) {
    struct store *st = store_of(v);
    struct stat attr;
    struct place p;
    int fd, err = place_or_handle(st, obj, h, &p, &fd);

    if (err == 0) {
        find_other_name(st, obj, &p, fd);
        err = at_stat(p.fd, p.name, p.fd >= 0 ? -1 : fd, &attr);
        place_done(st, &p);
    }
    if (err == 0) {
        *ret_attr = attr;
    }
    return err;
}

static int truncate_at(int dirfd, const char *name, off_t size) {
    scope_fd int fd =
        openat(dirfd, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    return fd < 0 ? -errno : result(ftruncate(fd, size));
}

/* A server may pass over one time without the other (bindfs does): it is given both. */
static int set_times(const struct store *st, const struct vol_attr *a, int fd,
                     const struct place *p) {
    struct timespec omit = {.tv_nsec = UTIME_OMIT},
                    t[2] = {a->set & VOL_SET_ATIME ? a->atime : omit,
                            a->set & VOL_SET_MTIME ? a->mtime : omit};
    struct stat now;

    if (store_is_remote(st) && at_stat(p->fd, p->name, p->fd >= 0 ? -1 : fd, &now) == 0) {
        t[0] = a->set & VOL_SET_ATIME ? t[0] : now.st_atim;
        t[1] = a->set & VOL_SET_MTIME ? t[1] : now.st_mtim;
    }
    return at_utimes(p->fd, p->name, fd, t);
}

static int set_parts(const struct store *st, const struct vol_attr *a, int fd,
                     const struct place *p) {
    int err = 0;

    if (a->set & (VOL_SET_UID | VOL_SET_GID)) {
        err = at_chown(p->fd, p->name, fd, a->set & VOL_SET_UID ? a->uid : (uid_t)-1,
                       a->set & VOL_SET_GID ? a->gid : (gid_t)-1);
    }
    if (err == 0 && (a->set & VOL_SET_SIZE)) {
        err = fd >= 0 ? result(ftruncate(fd, a->size)) : truncate_at(p->fd, p->name, a->size);
        err = err < 0 ? err : at_written(p->fd, p->name, fd);
    }
    if (err == 0 && (a->set & VOL_SET_MODE)) {
        err = at_chmod(p->fd, p->name, fd, a->mode);
    }
    if (err == 0 && (a->set & (VOL_SET_ATIME | VOL_SET_MTIME))) {
        err = set_times(st, a, fd, p);
    }
    return err;
}

static int op_setattr(struct vol *v, struct obj *obj, struct vol_handle h,
                      const struct vol_attr *attr, struct stat *ret_attr) {
    struct store *st = store_of(v);
    struct place p;
    int fd, err = place_or_handle(st, obj, h, &p, &fd);

    if (err < 0) {
        return err;
    }
    err = set_parts(st, attr, fd, &p);
    if (err == 0 && ret_attr) {
        err = at_stat(p.fd, p.name, fd, ret_attr);
    }
    place_done(st, &p);
    return err;
}

static ssize_t op_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct store *st = store_of(v);
    struct place p;
    ssize_t n = place_get(st, obj, &p);

    if (n == 0) {
        n = at_readlink(p.fd, p.name, buf, size);
        place_put(st, &p);
    }
    return n;
}

/* Its data changed. */
static int written(struct vol *v, struct vol_handle h) {
    struct store *st = store_of(v);

    return st->side && side_has_capabilities(st->side) ? at_written(-1, "", fd_of(h)) : 0;
}

static int op_open(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                   struct vol_handle *ret_handle) {
    struct store *st = store_of(v);
    struct place p;
    int fd = -1, err = place_get(st, obj, &p);

    (void)cred; /* permission was checked above */
    if (err < 0) {
        return err;
    }
    if ((flags & O_DIRECTORY) && !(st->caps & STORE_FSYNC_DIR)) {
        err = -HFE_CAPABILITY;
    } else {
        fd = openat(p.fd, p.name, backing_flags(flags));
        err = result(fd);
    }
    place_put(st, &p);
    if (err < 0) {
        return err;
    }
    ret_handle->v = (uint64_t)fd;
    if ((flags & O_TRUNC) && written(v, *ret_handle) < 0) {
        (void)close(fd); /* what was to be lost is lost */
        return -EIO;
    }
    return 0;
}

static int op_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    (void)v;
    (void)obj;
    return result(close(fd_of(h)));
}

static ssize_t op_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                       off_t off) {
    (void)v;
    (void)obj;
    return io_pread(fd_of(h), buf, size, off);
}

static ssize_t op_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                        size_t size, off_t off, const struct cred *cred) {
    ssize_t n = io_pwrite(fd_of(h), buf, size, off);
    int err = n > 0 ? written(v, h) : 0;

    (void)obj;
    (void)cred; /* setuid bits are the mirror's job */
    return err < 0 ? err : n;
}

/* XFS that has shut down says yes to the fsync of a folder whose changes it has just lost; but it
 * answers no stat(2). */
static int op_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    struct store *st = store_of(v);
    struct stat attr;
    int r = data_only ? fdatasync(fd_of(h)) : fsync(fd_of(h));
    int err = result(r == 0 && obj->type == DT_DIR ? fstat(fd_of(h), &attr) : r);

    return err == 0 && st->side ? side_sync(st->side) : err;
}

static int op_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                        off_t len, const struct cred *cred) {
    int err = result(fallocate(fd_of(h), mode, off, len));

    (void)obj;
    (void)cred;
    return err < 0 ? err : written(v, h);
}

/* Where the store cannot copy by itself: through memory. */
static ssize_t copy_bytes(int from, off_t from_off, int to, off_t to_off, size_t len) {
    enum { CHUNK = 256 << 10 };
    scope_free char *buf = malloc(CHUNK);
    size_t done = 0;

    if (!buf) {
        return -ENOMEM;
    }
    while (done < len) {
        size_t want = len - done < CHUNK ? len - done : CHUNK;
        ssize_t n = io_pread(from, buf, want, from_off + (off_t)done), w;

        if (n <= 0) {
            return done > 0 ? (ssize_t)done : n;
        }
        w = io_pwrite(to, buf, (size_t)n, to_off + (off_t)done);
        if (w < n) {
            done += w > 0 ? (size_t)w : 0;
            return done > 0 ? (ssize_t)done : w;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static ssize_t copy_inside(struct vol_handle hf, off_t from_off, struct vol_handle ht, off_t to_off,
                           size_t len) {
    size_t done = 0;

    while (done < len) {
        off_t in = from_off + (off_t)done, out = to_off + (off_t)done;
        ssize_t n = copy_file_range(fd_of(hf), &in, fd_of(ht), &out, len - done, 0);

        if (n < 0 &&
            (errno == EXDEV || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) &&
            done == 0) {
            return copy_bytes(fd_of(hf), from_off, fd_of(ht), to_off, len);
        }
        if (n < 0) {
            return done > 0 ? (ssize_t)done : -errno;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static ssize_t op_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                       struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                       const struct cred *cred) {
    ssize_t n = copy_inside(hf, from_off, ht, to_off, len);
    int err = n > 0 ? written(v, ht) : 0;

    (void)from;
    (void)to;
    (void)cred;
    return err < 0 ? err : n;
}

static off_t op_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    off_t at = lseek(fd_of(h), off, whence);

    (void)v;
    (void)obj;
    return at < 0 ? -errno : at;
}

static int op_statfs(struct vol *v, struct statvfs *ret_stat) {
    return result(fstatvfs(store_of(v)->root, ret_stat));
}

static int op_sync(struct vol *v) {
    struct store *st = store_of(v);
    int err = st->side ? side_sync(st->side) : 0;

    return err < 0 ? err : result(syncfs(st->root));
}

static void op_free(struct vol *v) {
    store_close(store_of(v));
}

const struct vol_ops store_ops = {
    .name = "store",
    .free = op_free,
    .lookup = op_lookup,
    .make = op_make,
    .create = op_create,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .getxattr = store_getxattr,
    .listxattr = store_listxattr,
    .setxattr = store_setxattr,
    .removexattr = store_removexattr,
    .open = op_open,
    .close = op_close,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .copy = op_copy,
    .seek = op_seek,
    .opendir = store_opendir,
    .readdir = store_readdir,
    .closedir = store_closedir,
    .statfs = op_statfs,
    .sync = op_sync,
};
