#include "vol/vol.h"

static int pass_lookup(struct vol *v, struct obj *dir, const char *name, struct vol_entry *e) {
    return v->next->ops->lookup(v->next, dir, name, e);
}
static void pass_forget(struct vol *v, struct obj *obj, uint64_t nlookup) {
    v->next->ops->forget(v->next, obj, nlookup);
}
static int pass_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                     struct vol_entry *e) {
    return v->next->ops->make(v->next, dir, name, new, e);
}
static int pass_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                       int flags, struct vol_entry *e, struct vol_handle *h) {
    return v->next->ops->create(v->next, dir, name, new, flags, e, h);
}
static int pass_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                     struct vol_entry *e) {
    return v->next->ops->link(v->next, obj, dir, name, e);
}
static int pass_unlink(struct vol *v, struct obj *dir, const char *name) {
    return v->next->ops->unlink(v->next, dir, name);
}
static int pass_rmdir(struct vol *v, struct obj *dir, const char *name) {
    return v->next->ops->rmdir(v->next, dir, name);
}
static int pass_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                       const char *new_name, unsigned flags) {
    return v->next->ops->rename(v->next, dir, name, new_dir, new_name, flags);
}
static int pass_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *st) {
    return v->next->ops->getattr(v->next, obj, h, st);
}
static int pass_setattr(struct vol *v, struct obj *obj, struct vol_handle h,
                        const struct vol_attr *attr, struct stat *st) {
    return v->next->ops->setattr(v->next, obj, h, attr, st);
}
static ssize_t pass_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    return v->next->ops->readlink(v->next, obj, buf, size);
}
static ssize_t pass_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf,
                             size_t size) {
    return v->next->ops->getxattr(v->next, obj, key, buf, size);
}
static ssize_t pass_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size) {
    return v->next->ops->listxattr(v->next, obj, buf, size);
}
static int pass_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value,
                         size_t size, int flags, const struct cred *cred) {
    return v->next->ops->setxattr(v->next, obj, key, value, size, flags, cred);
}
static int pass_removexattr(struct vol *v, struct obj *obj, const char *key) {
    return v->next->ops->removexattr(v->next, obj, key);
}
static int pass_open(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                     struct vol_handle *h) {
    return v->next->ops->open(v->next, obj, flags, cred, h);
}
static int pass_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    return v->next->ops->close(v->next, obj, h);
}
static ssize_t pass_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf,
                         size_t size, off_t off) {
    return v->next->ops->read(v->next, obj, h, buf, size, off);
}
static ssize_t pass_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                          size_t size, off_t off, const struct cred *cred) {
    return v->next->ops->write(v->next, obj, h, buf, size, off, cred);
}
static int pass_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    return v->next->ops->fsync(v->next, obj, h, data_only);
}
static int pass_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                          off_t len, const struct cred *cred) {
    return v->next->ops->fallocate(v->next, obj, h, mode, off, len, cred);
}
static ssize_t pass_copy(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                         struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                         const struct cred *cred) {
    return v->next->ops->copy(v->next, from, hf, from_off, to, ht, to_off, len, cred);
}
static off_t pass_seek(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence) {
    return v->next->ops->seek(v->next, obj, h, off, whence);
}
static int pass_opendir(struct vol *v, struct obj *dir, struct vol_handle *h) {
    return v->next->ops->opendir(v->next, dir, h);
}
static int pass_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                        vol_dirent_fn *fill, void *arg) {
    return v->next->ops->readdir(v->next, dir, h, pos, fill, arg);
}
static int pass_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
    return v->next->ops->closedir(v->next, dir, h);
}
static int pass_may_change(struct vol *v) {
    return v->next ? v->next->ops->may_change(v->next) : 0;
}
static bool pass_listings_last(struct vol *v) {
    return v->next && v->next->ops->listings_last(v->next);
}
static int pass_statfs(struct vol *v, struct statvfs *st) {
    return v->next->ops->statfs(v->next, st);
}
static int pass_sync(struct vol *v) {
    return v->next->ops->sync(v->next);
}

#define COMPLETE(op)                                                                               \
    do {                                                                                           \
        if (!ops->op) {                                                                            \
            ops->op = pass_##op;                                                                   \
        }                                                                                          \
    } while (0)

void vol_complete(struct vol_ops *ops) {
    COMPLETE(lookup);
    COMPLETE(forget);
    COMPLETE(make);
    COMPLETE(create);
    COMPLETE(link);
    COMPLETE(unlink);
    COMPLETE(rmdir);
    COMPLETE(rename);
    COMPLETE(getattr);
    COMPLETE(setattr);
    COMPLETE(readlink);
    COMPLETE(getxattr);
    COMPLETE(listxattr);
    COMPLETE(setxattr);
    COMPLETE(removexattr);
    COMPLETE(open);
    COMPLETE(close);
    COMPLETE(read);
    COMPLETE(write);
    COMPLETE(fsync);
    COMPLETE(fallocate);
    COMPLETE(copy);
    COMPLETE(seek);
    COMPLETE(opendir);
    COMPLETE(readdir);
    COMPLETE(closedir);
    COMPLETE(may_change);
    COMPLETE(listings_last);
    COMPLETE(statfs);
    COMPLETE(sync);
}

void vol_free(struct vol *v) {
    while (v) {
        struct vol *next = v->next;

        v->ops->free(v);
        v = next;
    }
}
