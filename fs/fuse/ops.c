/* Each request, as a volume operation and a reply. A reply can only fail if the kernel has gone
 * away, which the session loop notices by itself; hence the (void)s. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "base/fiber.h"
#include "base/limits.h"
#include "fuse/front_int.h"

static struct front *front_of(fuse_req_t req) {
    return fuse_req_userdata(req);
}

/* The kernel knows objects by their address; the root by 1. */
static struct obj *obj_of(const struct front *f, fuse_ino_t ino) {
    return ino == FUSE_ROOT_ID ? f->root : (struct obj *)(uintptr_t)ino;
}

static struct cred cred_of(fuse_req_t req) {
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    return (struct cred){
        .uid = ctx->uid, .gid = ctx->gid, .pid = ctx->pid, .umask = ctx->umask & 0777};
}

static struct vol_handle handle_of(const struct fuse_file_info *fi) {
    return fi ? (struct vol_handle){fi->fh} : VOL_NO_HANDLE;
}

static void reply_err(fuse_req_t req, int err) {
    (void)fuse_reply_err(req, -error_to_errno(err));
}

/* For how long the kernel may believe what it was told: `obj` or, of a name, its folder. */
static double cache_s(const struct obj *obj) {
    return obj->flags & OBJ_FLEETING ? FLEETING_S : CACHE_S;
}

static struct fuse_entry_param entry_of(const struct front *f, const struct obj *dir,
                                        const struct vol_entry *e) {
    return (struct fuse_entry_param){
        .ino = e->obj == f->root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)e->obj,
        .attr = e->attr,
        .attr_timeout = cache_s(e->obj),
        .entry_timeout = cache_s(dir),
    };
}

/* For operations on an object: ENOENT means that its last name went between the kernel's look-up
 * and this request. The kernel walks the path once more if it is told ESTALE, and finds what is
 * there now: a file that is replaced by rename(2) is never missing. */
static int stale(int err) {
    return err == -ENOENT ? -ESTALE : err;
}

/* A reply that the kernel did not take leaves it without the object. */
static void reply_entry(fuse_req_t req, int err, fuse_ino_t parent, const struct vol_entry *e) {
    struct front *f = front_of(req);
    struct fuse_entry_param p;

    if (err < 0) {
        reply_err(req, err);
        return;
    }
    p = entry_of(f, obj_of(f, parent), e);
    if (fuse_reply_entry(req, &p) == -ENOENT) {
        f->vol->ops->forget(f->vol, e->obj, 1);
    }
}

static void reply_attr(fuse_req_t req, int err, const struct obj *obj, const struct stat *attr) {
    if (err < 0) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_attr(req, attr, cache_s(obj));
    }
}

static void on_init(void *data, struct fuse_conn_info *conn) {
    static const unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC |
                                 FUSE_CAP_DONT_MASK | FUSE_CAP_PARALLEL_DIROPS |
                                 FUSE_CAP_POSIX_ACL | FUSE_CAP_HANDLE_KILLPRIV |
                                 FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                                 FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA;
    struct front *f = data;

    /* Locks are not wanted: the kernel keeps them, as there is one host only. Nor is ASYNC_DIO:
     * after an asynchronous direct write the kernel leaves what a buffered reader cached meanwhile,
     * and later reads are stale (xfstests generic/451). */
    conn->want =
        conn->capable & (want | (f->config.writeback ? (unsigned)FUSE_CAP_WRITEBACK_CACHE : 0));
    conn->max_write = IO_BYTES_MAX;
    conn->max_background = THREADS_MAX;
    conn->time_gran = 1;
    f->config.ready(f->config.ready_arg);
}

static void on_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct front *f = front_of(req);
    struct vol_entry e;
    int err = f->vol->ops->lookup(f->vol, obj_of(f, parent), name, &e);

    if (err == -ENOENT) { /* the kernel may remember that, too */
        (void)fuse_reply_entry(
            req, &(struct fuse_entry_param){
                     .entry_timeout = obj_of(f, parent)->flags & OBJ_FLEETING ? 0 : CACHE_S});
        return;
    }
    reply_entry(req, err, parent, &e);
}

static void forget(struct front *f, fuse_ino_t ino, uint64_t nlookup) {
    f->vol->ops->forget(f->vol, obj_of(f, ino), nlookup);
}

static void on_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup) {
    forget(front_of(req), ino, nlookup);
    fuse_reply_none(req);
}

static void on_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *list) {
    for (size_t i = 0; i < count; i++) {
        forget(front_of(req), list[i].ino, list[i].nlookup);
    }
    fuse_reply_none(req);
}

static void on_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct stat attr;
    int err = f->vol->ops->getattr(f->vol, obj_of(f, ino), handle_of(fi), &attr);

    reply_attr(req, stale(err), obj_of(f, ino), &attr);
}

static const struct {
    int fuse;
    unsigned vol;
} set_bits[] = {
    {FUSE_SET_ATTR_MODE, VOL_SET_MODE},   {FUSE_SET_ATTR_UID, VOL_SET_UID},
    {FUSE_SET_ATTR_GID, VOL_SET_GID},     {FUSE_SET_ATTR_SIZE, VOL_SET_SIZE},
    {FUSE_SET_ATTR_ATIME, VOL_SET_ATIME}, {FUSE_SET_ATTR_MTIME, VOL_SET_MTIME},
};

static struct timespec now_or(int to_set, int now_bit, struct timespec t) {
    return to_set & now_bit ? (struct timespec){.tv_nsec = UTIME_NOW} : t;
}

static void on_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
                       struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);
    struct vol_attr set = {.mode = st->st_mode,
                           .uid = st->st_uid,
                           .gid = st->st_gid,
                           .size = st->st_size,
                           .atime = now_or(to_set, FUSE_SET_ATTR_ATIME_NOW, st->st_atim),
                           .mtime = now_or(to_set, FUSE_SET_ATTR_MTIME_NOW, st->st_mtim),
                           .cred = &cred};
    struct stat attr;
    int err;

    for (size_t i = 0; i < sizeof(set_bits) / sizeof(set_bits[0]); i++) {
        set.set |= to_set & set_bits[i].fuse ? set_bits[i].vol : 0;
    }
    if (set.set == 0) { /* chown(-1, -1): it still drops setuid bits */
        set.set = VOL_SET_UID | VOL_SET_GID;
        set.uid = (uid_t)-1;
        set.gid = (gid_t)-1;
    }
    err = f->vol->ops->setattr(f->vol, obj_of(f, ino), handle_of(fi), &set, &attr);
    reply_attr(req, stale(err), obj_of(f, ino), &attr);
}

static void on_readlink(fuse_req_t req, fuse_ino_t ino) {
    struct front *f = front_of(req);
    char target[PATH_BYTES];
    ssize_t n = f->vol->ops->readlink(f->vol, obj_of(f, ino), target, sizeof(target) - 1);

    if (n < 0) {
        reply_err(req, stale((int)n));
        return;
    }
    target[n] = '\0';
    (void)fuse_reply_readlink(req, target);
}

static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
                 const char *target) {
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);
    struct vol_new new = {.mode = mode, .rdev = rdev, .target = target, .cred = &cred};
    struct vol_entry e;
    int err = f->vol->ops->make(f->vol, obj_of(f, parent), name, &new, &e);

    reply_entry(req, err, parent, &e);
}

static void on_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev) {
    make(req, parent, name, mode & S_IFMT ? mode : mode | S_IFREG, rdev, NULL);
}
static void on_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
    make(req, parent, name, (mode & 07777) | S_IFDIR, 0, NULL);
}
static void on_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
    make(req, parent, name, S_IFLNK | 0777, 0, target);
}

static void on_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name) {
    struct front *f = front_of(req);
    struct vol_entry e;
    int err = f->vol->ops->link(f->vol, obj_of(f, ino), obj_of(f, parent), name, &e);

    reply_entry(req, err, parent, &e);
}

static void on_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct front *f = front_of(req);

    reply_err(req, f->vol->ops->unlink(f->vol, obj_of(f, parent), name));
}

static void on_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
    struct front *f = front_of(req);

    reply_err(req, f->vol->ops->rmdir(f->vol, obj_of(f, parent), name));
}

static void on_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                      const char *new_name, unsigned flags) {
    struct front *f = front_of(req);

    reply_err(req, f->vol->ops->rename(f->vol, obj_of(f, parent), name, obj_of(f, new_parent),
                                       new_name, flags));
}

static void set_file_info(struct fuse_file_info *fi, struct vol_handle h) {
    fi->fh = h.v;
    fi->keep_cache = 1; /* nobody changes files but through this mount */
}

static void on_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);
    struct vol_handle h;
    int err = f->vol->ops->open(f->vol, obj_of(f, ino), fi->flags & ~O_DIRECTORY, &cred, &h);

    if (err < 0) {
        reply_err(req, stale(err));
        return;
    }
    set_file_info(fi, h);
    if (fuse_reply_open(req, fi) == -ENOENT) {
        (void)f->vol->ops->close(f->vol, obj_of(f, ino), h); /* the opener was interrupted */
    }
}

/* It was there after all (O_CREAT without O_EXCL, and somebody else was faster). */
static int open_existing(struct front *f, struct obj *dir, const char *name, int flags,
                         const struct cred *cred, struct vol_entry *e, struct vol_handle *h) {
    int err = f->vol->ops->lookup(f->vol, dir, name, e);

    if (err < 0) {
        return err;
    }
    err = S_ISREG(e->attr.st_mode) ? f->vol->ops->open(f->vol, e->obj, flags & ~O_CREAT, cred, h)
                                   : -EEXIST;
    if (err < 0) {
        f->vol->ops->forget(f->vol, e->obj, 1);
    }
    return err;
}

static void on_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
                      struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);
    struct vol_new new = {.mode = (mode & 07777) | S_IFREG, .cred = &cred};
    struct fuse_entry_param p;
    struct vol_handle h;
    struct vol_entry e;
    int err = f->vol->ops->create(f->vol, obj_of(f, parent), name, &new, fi->flags, &e, &h);

    if (err == -EEXIST && !(fi->flags & O_EXCL)) {
        err = open_existing(f, obj_of(f, parent), name, fi->flags, &cred, &e, &h);
    }
    if (err < 0) {
        reply_err(req, err);
        return;
    }
    set_file_info(fi, h);
    p = entry_of(f, obj_of(f, parent), &e);
    if (fuse_reply_create(req, &p, fi) == -ENOENT) {
        (void)f->vol->ops->close(f->vol, e.obj, h); /* the opener was interrupted */
        f->vol->ops->forget(f->vol, e.obj, 1);
    }
}

static void on_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct front *f = front_of(req);

    reply_err(req, f->vol->ops->close(f->vol, obj_of(f, ino), handle_of(fi)));
}

static ssize_t read_into(struct front *f, struct request *r, fuse_ino_t ino,
                         struct fuse_file_info *fi, size_t size, off_t off) {
    if (!r->read_buf) {
        r->read_buf = malloc(IO_BYTES_MAX);
    }
    return !r->read_buf ? -ENOMEM
           : size > IO_BYTES_MAX
               ? -EINVAL
               : f->vol->ops->read(f->vol, obj_of(f, ino), handle_of(fi), r->read_buf, size, off);
}

static void on_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                    struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct request *r = loop_request();
    unsigned losses = fiber_losses();
    ssize_t n;

    n = read_into(f, r, ino, fi, size, off);
    while (fiber_losses() !=
           losses) { /* a call that was given up may still write into the buffer */
        losses = fiber_losses();
        fiber_orphan(r->read_buf);
        r->read_buf = NULL;
        n = read_into(f, r, ino, fi, size, off);
    }
    if (n < 0) {
        reply_err(req, (int)n);
    } else {
        (void)fuse_reply_buf(req, r->read_buf, (size_t)n);
    }
}

static void on_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct obj *obj = obj_of(f, ino);
    struct cred cred =
        fi->writepage ? cred_self : cred_of(req); /* of a cached page nobody knows the writer */
    size_t done = 0;
    ssize_t n;

    do { /* of cached pages the kernel takes any count for all: the rest, or why not, is for us */
        n = f->vol->ops->write(f->vol, obj, handle_of(fi), buf + done, size - done,
                               off + (off_t)done, &cred);
        done += n > 0 ? (size_t)n : 0;
    } while (fi->writepage && n > 0 && done < size);
    if (n < 0 || (fi->writepage && done < size)) {
        reply_err(req, n < 0 ? (int)n : -ENOSPC);
    } else {
        (void)fuse_reply_write(req, done);
    }
}

static void on_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi) {
    struct front *f = front_of(req);

    reply_err(req, f->vol->ops->fsync(f->vol, obj_of(f, ino), handle_of(fi), data_only != 0));
}

static void on_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
                         struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);

    reply_err(req,
              f->vol->ops->fallocate(f->vol, obj_of(f, ino), handle_of(fi), mode, off, len, &cred));
}

static void on_copy(fuse_req_t req, fuse_ino_t from, off_t from_off, struct fuse_file_info *from_fi,
                    fuse_ino_t to, off_t to_off, struct fuse_file_info *to_fi, size_t len,
                    int flags) {
    enum {
        COPY_MAX = 1 << 30
    }; /* of one request; the reply has 32 bits, and copy(2) may be short */
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);
    ssize_t n = flags ? -EINVAL
                      : f->vol->ops->copy(f->vol, obj_of(f, from), handle_of(from_fi), from_off,
                                          obj_of(f, to), handle_of(to_fi), to_off,
                                          len > COPY_MAX ? COPY_MAX : len, &cred);

    if (n < 0) {
        reply_err(req, (int)n);
    } else {
        (void)fuse_reply_write(req, (size_t)n);
    }
}

static void on_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
                     struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    off_t at;

    if (f->config.writeback) {
        /* What the kernel still keeps is a hole here; it must not be skipped by who copies the
         * file. After this answer the kernel says by itself that all is data. */
        reply_err(req, -ENOSYS);
        return;
    }
    at = f->vol->ops->seek(f->vol, obj_of(f, ino), handle_of(fi), off, whence);

    if (at < 0) {
        reply_err(req, (int)at);
    } else {
        (void)fuse_reply_lseek(req, at);
    }
}

static void on_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct vol_handle h;
    int err = f->vol->ops->opendir(f->vol, obj_of(f, ino), &h);

    if (err < 0) {
        reply_err(req, err);
        return;
    }
    set_file_info(fi, h);
    fi->cache_readdir = (obj_of(f, ino)->flags & (OBJ_FLEETING | OBJ_VIEW)) == 0 &&
                        f->vol->ops->listings_last(f->vol);
    fi->keep_cache = fi->cache_readdir;
    if (fuse_reply_open(req, fi) == -ENOENT) {
        (void)f->vol->ops->closedir(f->vol, obj_of(f, ino), h); /* the opener was interrupted */
    }
}

static void on_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    struct front *f = front_of(req);

    reply_err(req, f->vol->ops->closedir(f->vol, obj_of(f, ino), handle_of(fi)));
}

/* A reply with entries, as it grows. */
struct listing {
    fuse_req_t req;
    char *buf;
    size_t size, used;
};

static bool add_plain(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    struct listing *l = arg;
    struct stat st = {.st_ino = ino, .st_mode = (mode_t)DTTOIF(type)};
    size_t need =
        fuse_add_direntry(l->req, l->buf + l->used, l->size - l->used, name, &st, (off_t)next);

    if (need > l->size - l->used) {
        return false;
    }
    l->used += need;
    return true;
}

static void reply_listing(fuse_req_t req, int err, struct listing *l) {
    if (err < 0) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_buf(req, l->buf, l->used);
    }
    free(l->buf);
}

static void on_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                       struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct listing l = {.req = req, .buf = malloc(size), .size = size};
    int err = l.buf ? f->vol->ops->readdir(f->vol, obj_of(f, ino), handle_of(fi), (uint64_t)off,
                                           add_plain, &l)
                    : -ENOMEM;

    reply_listing(req, err, &l);
}

/* readdirplus looks up each name, which must not happen inside readdir: names are collected first.
 */
struct plus_name {
    uint64_t ino, next;
    uint8_t type;
    uint16_t name; /* offset in `text` */
};

struct plus_names {
    fuse_req_t req;
    size_t size, used; /* of the reply they will fill */
    struct plus_name list[512];
    unsigned count;
    size_t text_used;
    char text[1 << 16];
};

static bool add_name(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    struct plus_names *p = arg;
    size_t len = strlen(name) + 1;
    size_t need = fuse_add_direntry_plus(p->req, NULL, 0, name, NULL, 0);

    if (p->count == sizeof(p->list) / sizeof(p->list[0]) || p->text_used + len > sizeof(p->text) ||
        p->used + need > p->size) {
        return false;
    }
    p->list[p->count++] =
        (struct plus_name){.ino = ino, .next = next, .type = type, .name = (uint16_t)p->text_used};
    memcpy(p->text + p->text_used, name, len);
    p->text_used += len;
    p->used += need;
    return true;
}

static void add_plus(struct front *f, struct listing *l, struct obj *dir, const struct plus_name *n,
                     const char *name) {
    struct fuse_entry_param p = {.attr = {.st_ino = n->ino, .st_mode = (mode_t)DTTOIF(n->type)}};
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    struct vol_entry e;

    if (!dots && f->vol->ops->lookup(f->vol, dir, name, &e) == 0) {
        p = entry_of(f, dir, &e);
    } /* else: gone meanwhile, or the kernel does not want it; the name alone will do */
    l->used += fuse_add_direntry_plus(l->req, l->buf + l->used, l->size - l->used, name, &p,
                                      (off_t)n->next);
}

static void on_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
                           struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct listing l = {.req = req, .buf = malloc(size), .size = size};
    scope_free struct plus_names *names = malloc(sizeof(*names));
    int err = -ENOMEM;

    if (l.buf && names) {
        names->req = req;
        names->size = size;
        names->count = 0;
        names->used = names->text_used = 0;
        err = f->vol->ops->readdir(f->vol, obj_of(f, ino), handle_of(fi), (uint64_t)off, add_name,
                                   names);
        for (unsigned i = 0; err == 0 && i < names->count; i++) {
            add_plus(f, &l, obj_of(f, ino), &names->list[i], names->text + names->list[i].name);
        }
    }
    reply_listing(req, err, &l);
}

static void on_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi) {
    struct front *f = front_of(req);
    struct obj *dir = obj_of(f, ino);
    struct vol_handle h;
    int err = f->vol->ops->open(f->vol, dir, O_RDONLY | O_DIRECTORY, &cred_self, &h);

    (void)fi;
    if (err == 0) {
        err = f->vol->ops->fsync(f->vol, dir, h, data_only != 0);
        (void)f->vol->ops->close(f->vol, dir, h); /* only synced through it */
    }
    reply_err(req, err);
}

static void on_statfs(fuse_req_t req, fuse_ino_t ino) {
    struct front *f = front_of(req);
    struct statvfs st;
    int err = f->vol->ops->statfs(f->vol, &st);

    (void)ino;
    if (err < 0) {
        reply_err(req, err);
    } else {
        (void)fuse_reply_statfs(req, &st);
    }
}

static void on_setxattr(fuse_req_t req, fuse_ino_t ino, const char *key, const char *value,
                        size_t size, int flags) {
    struct front *f = front_of(req);
    struct cred cred = cred_of(req);

    reply_err(req,
              stale(f->vol->ops->setxattr(f->vol, obj_of(f, ino), key, value, size, flags, &cred)));
}

static void on_removexattr(fuse_req_t req, fuse_ino_t ino, const char *key) {
    struct front *f = front_of(req);

    reply_err(req, stale(f->vol->ops->removexattr(f->vol, obj_of(f, ino), key)));
}

static void reply_xattr(fuse_req_t req, ssize_t n, const char *buf, size_t size) {
    if (n < 0) {
        reply_err(req, stale((int)n));
    } else if (size == 0) {
        (void)fuse_reply_xattr(req, (size_t)n);
    } else {
        (void)fuse_reply_buf(req, buf, (size_t)n);
    }
}

static void on_getxattr(fuse_req_t req, fuse_ino_t ino, const char *key, size_t size) {
    struct front *f = front_of(req);
    char small[256];
    scope_free char *big = size > sizeof(small) ? malloc(size) : NULL;
    char *buf = size > sizeof(small) ? big : small;
    ssize_t n = buf ? f->vol->ops->getxattr(f->vol, obj_of(f, ino), key, buf, size) : -ENOMEM;

    reply_xattr(req, n, buf, size);
}

static void on_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    struct front *f = front_of(req);
    scope_free char *buf = malloc(size + 1);
    ssize_t n = buf ? f->vol->ops->listxattr(f->vol, obj_of(f, ino), buf, size) : -ENOMEM;

    reply_xattr(req, n, buf, size);
}

const struct fuse_lowlevel_ops front_ops = {
    .init = on_init,
    .lookup = on_lookup,
    .forget = on_forget,
    .forget_multi = on_forget_multi,
    .getattr = on_getattr,
    .setattr = on_setattr,
    .readlink = on_readlink,
    .mknod = on_mknod,
    .mkdir = on_mkdir,
    .symlink = on_symlink,
    .link = on_link,
    .unlink = on_unlink,
    .rmdir = on_rmdir,
    .rename = on_rename,
    .open = on_open,
    .create = on_create,
    .release = on_release,
    .read = on_read,
    .write = on_write,
    .fsync = on_fsync,
    .fallocate = on_fallocate,
    .copy_file_range = on_copy,
    .lseek = on_lseek,
    .opendir = on_opendir,
    .readdir = on_readdir,
    .readdirplus = on_readdirplus,
    .releasedir = on_releasedir,
    .fsyncdir = on_fsyncdir,
    .statfs = on_statfs,
    .setxattr = on_setxattr,
    .getxattr = on_getxattr,
    .listxattr = on_listxattr,
    .removexattr = on_removexattr,
};
