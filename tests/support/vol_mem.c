#include "vol_mem.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum {
    NODES_MAX = 1 << 16,
    XATTRS_MAX = 8,
};

struct mem_xattr {
    char key[64];
    char *value;
    size_t size;
};

struct mem_node {
    struct stat attr;
    char *data; /* bytes of a file, target of a symlink */
    unsigned opens;
    struct mem_name *names; /* of a folder */
    uint64_t parent;        /* of a folder */
    struct mem_xattr xattr[XATTRS_MAX];
};

struct mem_name {
    struct mem_name *next;
    uint64_t ino;
    char text[NAME_BYTES];
};

struct mem {
    struct vol vol;
    struct obj_table *objs;
    struct mem_node *node[NODES_MAX];
    uint64_t last;
};

static struct mem *mem_of(struct vol *v) {
    return (struct mem *)v;
}

static struct mem_node *node_of(struct mem *m, const struct obj *obj) {
    return m->node[obj->store_ino];
}

static struct mem_name **slot(struct mem_node *dir, const char *name) {
    struct mem_name **at = &dir->names;

    while (*at && strcmp((*at)->text, name) != 0) {
        at = &(*at)->next;
    }
    return at;
}

static struct mem_node *node_new(struct mem *m, mode_t mode, const struct cred *cred) {
    struct mem_node *n = calloc(1, sizeof(*n));

    assert(n && m->last + 1 < NODES_MAX);
    n->attr.st_ino = ++m->last;
    n->attr.st_mode = S_ISLNK(mode) ? mode : mode & ~(cred->umask & 0777);
    n->attr.st_uid = cred->uid;
    n->attr.st_gid = cred->gid;
    n->attr.st_nlink = S_ISDIR(mode) ? 2 : 0;
    m->node[m->last] = n;
    return n;
}

static void drop(struct mem *m, struct mem_node *n) {
    if (n->attr.st_nlink == 0 && n->opens == 0) {
        m->node[n->attr.st_ino] = NULL;
        for (int i = 0; i < XATTRS_MAX; i++) {
            free(n->xattr[i].value);
        }
        free(n->data);
        free(n);
    }
}

static void add_name(struct mem_node *dir, const char *name, struct mem_node *n) {
    struct mem_name *e = calloc(1, sizeof(*e));

    assert(e);
    e->ino = n->attr.st_ino;
    (void)snprintf(e->text, sizeof(e->text), "%s", name);
    e->next = dir->names;
    dir->names = e;
    if (S_ISDIR(n->attr.st_mode)) {
        n->parent = dir->attr.st_ino;
        dir->attr.st_nlink++;
    } else {
        n->attr.st_nlink++;
    }
}

static struct mem_node *take_name(struct mem *m, struct mem_node *dir, const char *name) {
    struct mem_name **at = slot(dir, name), *e = *at;
    struct mem_node *n = m->node[e->ino];

    *at = e->next;
    free(e);
    if (S_ISDIR(n->attr.st_mode)) {
        dir->attr.st_nlink--;
    } else {
        n->attr.st_nlink--;
    }
    return n;
}

static int reply(struct mem *m, struct obj *dir, const char *name, struct mem_node *n,
                 struct vol_entry *e) {
    e->attr = n->attr;
    return obj_enter(m->objs, dir, name, 0, &n->attr, true, &e->obj);
}

static int mem_lookup(struct vol *v, struct obj *dir, const char *name, struct vol_entry *e) {
    struct mem *m = mem_of(v);
    struct mem_name *found = *slot(node_of(m, dir), name);

    return found ? reply(m, dir, name, m->node[found->ino], e) : -ENOENT;
}

static void mem_forget(struct vol *v, struct obj *obj, uint64_t nlookup) {
    obj_forget(mem_of(v)->objs, obj, nlookup);
}

static int mem_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                    struct vol_entry *e) {
    struct mem *m = mem_of(v);
    struct mem_node *d = node_of(m, dir), *n;

    if (strlen(name) >= NAME_BYTES) {
        return -ENAMETOOLONG;
    }
    if (*slot(d, name)) {
        return -EEXIST;
    }
    n = node_new(m, new->mode, new->cred);
    n->attr.st_rdev = new->rdev;
    if (d->attr.st_mode & S_ISGID) {
        n->attr.st_gid = d->attr.st_gid;
        n->attr.st_mode |= S_ISDIR(new->mode) ? S_ISGID : 0;
    }
    if (S_ISLNK(new->mode)) {
        n->data = strdup(new->target);
        n->attr.st_size = (off_t)strlen(new->target);
        n->attr.st_mode = S_IFLNK | 0777;
    }
    add_name(d, name, n);
    return reply(m, dir, name, n, e);
}

static int mem_open(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                    struct vol_handle *h) {
    struct mem_node *n = node_of(mem_of(v), obj);

    (void)cred;
    if (flags & O_TRUNC) {
        n->attr.st_size = 0;
    }
    n->opens++;
    h->v = n->attr.st_ino;
    return 0;
}

static int mem_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                      int flags, struct vol_entry *e, struct vol_handle *h) {
    int err = mem_make(v, dir, name, new, e);

    return err < 0 ? err : mem_open(v, e->obj, flags, new->cred, h);
}

static int mem_close(struct vol *v, struct obj *obj, struct vol_handle h) {
    struct mem *m = mem_of(v);

    (void)obj;
    m->node[h.v]->opens--;
    drop(m, m->node[h.v]);
    return 0;
}

static int mem_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                    struct vol_entry *e) {
    struct mem *m = mem_of(v);

    if (*slot(node_of(m, dir), name)) {
        return -EEXIST;
    }
    add_name(node_of(m, dir), name, node_of(m, obj));
    return reply(m, dir, name, node_of(m, obj), e);
}

static int mem_unlink(struct vol *v, struct obj *dir, const char *name) {
    struct mem *m = mem_of(v);
    struct mem_name *e = *slot(node_of(m, dir), name);

    if (!e) {
        return -ENOENT;
    }
    if (S_ISDIR(m->node[e->ino]->attr.st_mode)) {
        return -EISDIR;
    }
    obj_name_gone(m->objs, dir, name, NULL);
    drop(m, take_name(m, node_of(m, dir), name));
    return 0;
}

static int mem_rmdir(struct vol *v, struct obj *dir, const char *name) {
    struct mem *m = mem_of(v);
    struct mem_name *e = *slot(node_of(m, dir), name);
    struct mem_node *n;

    if (!e) {
        return -ENOENT;
    }
    n = m->node[e->ino];
    if (!S_ISDIR(n->attr.st_mode)) {
        return -ENOTDIR;
    }
    if (n->names) {
        return -ENOTEMPTY;
    }
    obj_name_gone(m->objs, dir, name, NULL);
    take_name(m, node_of(m, dir), name);
    n->attr.st_nlink = 0;
    drop(m, n);
    return 0;
}

static bool is_below(struct mem *m, struct mem_node *n, const struct mem_node *above) {
    for (; n != above; n = m->node[n->parent]) {
        if (n->parent == n->attr.st_ino) {
            return false;
        }
    }
    return true;
}

static int may_replace(struct mem *m, const struct mem_node *n, const struct mem_node *old,
                       unsigned flags) {
    (void)m;
    if (flags & RENAME_NOREPLACE) {
        return -EEXIST;
    }
    if (S_ISDIR(n->attr.st_mode) != S_ISDIR(old->attr.st_mode)) {
        return S_ISDIR(n->attr.st_mode) ? -ENOTDIR : -EISDIR;
    }
    return old->names ? -ENOTEMPTY : 0;
}

static int exchange(struct mem *m, struct obj *dir, const char *name, struct obj *new_dir,
                    const char *new_name) {
    struct mem_node *a = take_name(m, node_of(m, dir), name);
    struct mem_node *b = take_name(m, node_of(m, new_dir), new_name);

    add_name(node_of(m, dir), name, b);
    add_name(node_of(m, new_dir), new_name, a);
    obj_name_exchanged(m->objs, dir, name, new_dir, new_name);
    return 0;
}

static int mem_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                      const char *new_name, unsigned flags) {
    struct mem *m = mem_of(v);
    struct mem_node *from = node_of(m, dir), *to = node_of(m, new_dir), *n, *old;
    struct mem_name *e = *slot(from, name), *there = *slot(to, new_name);
    int err;

    if (!e) {
        return -ENOENT;
    }
    n = m->node[e->ino];
    old = there ? m->node[there->ino] : NULL;
    if (old && (flags & RENAME_NOREPLACE)) {
        return -EEXIST;
    }
    if (!old && (flags & RENAME_EXCHANGE)) {
        return -ENOENT;
    }
    if (S_ISDIR(n->attr.st_mode) && is_below(m, to, n)) {
        return -EINVAL;
    }
    if (old && S_ISDIR(old->attr.st_mode) && is_below(m, from, old)) {
        return flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
    }
    if (old == n) {
        return 0;
    }
    if (flags & RENAME_EXCHANGE) {
        return exchange(m, dir, name, new_dir, new_name);
    }
    err = old ? may_replace(m, n, old, flags) : 0;
    if (err < 0) {
        return err;
    }
    if (old) {
        take_name(m, to, new_name);
        old->attr.st_nlink = S_ISDIR(old->attr.st_mode) ? 0 : old->attr.st_nlink;
        drop(m, old);
    }
    take_name(m, from, name);
    add_name(to, new_name, n);
    return obj_name_moved(m->objs, dir, name, new_dir, new_name);
}

static int mem_getattr(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *st) {
    (void)h;
    *st = node_of(mem_of(v), obj)->attr;
    return 0;
}

static void resize(struct mem_node *n, off_t size) {
    if (size > n->attr.st_size) {
        n->data = realloc(n->data, (size_t)size);
        assert(n->data);
        memset(n->data + n->attr.st_size, 0, (size_t)(size - n->attr.st_size));
    }
    n->attr.st_size = size;
}

static int mem_setattr(struct vol *v, struct obj *obj, struct vol_handle h,
                       const struct vol_attr *a, struct stat *st) {
    struct mem_node *n = node_of(mem_of(v), obj);

    (void)h;
    if (a->set & (VOL_SET_UID | VOL_SET_GID)) {
        n->attr.st_uid = a->set & VOL_SET_UID ? a->uid : n->attr.st_uid;
        n->attr.st_gid = a->set & VOL_SET_GID ? a->gid : n->attr.st_gid;
        if (!S_ISDIR(n->attr.st_mode)) {
            n->attr.st_mode &= ~(mode_t)(S_ISUID | (n->attr.st_mode & S_IXGRP ? S_ISGID : 0));
        }
    }
    if (a->set & VOL_SET_SIZE) {
        resize(n, a->size);
    }
    if (a->set & VOL_SET_MODE) {
        n->attr.st_mode = (n->attr.st_mode & S_IFMT) | (a->mode & 07777);
    }
    if (a->set & VOL_SET_MTIME) {
        n->attr.st_mtim = a->mtime;
    }
    if (st) {
        *st = n->attr;
    }
    return 0;
}

static ssize_t mem_readlink(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct mem_node *n = node_of(mem_of(v), obj);
    size_t len = (size_t)n->attr.st_size < size ? (size_t)n->attr.st_size : size;

    memcpy(buf, n->data, len);
    return (ssize_t)len;
}

static struct mem_xattr *xattr_of(struct mem_node *n, const char *key) {
    for (int i = 0; i < XATTRS_MAX; i++) {
        if (strcmp(n->xattr[i].key, key) == 0) {
            return &n->xattr[i];
        }
    }
    return NULL;
}

static ssize_t mem_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf,
                            size_t size) {
    struct mem_xattr *x = xattr_of(node_of(mem_of(v), obj), key);

    if (!x) {
        return -ENODATA;
    }
    if (size > 0 && size < x->size) {
        return -ERANGE;
    }
    if (size > 0) {
        memcpy(buf, x->value, x->size);
    }
    return (ssize_t)x->size;
}

static int mem_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value,
                        size_t size, int flags, const struct cred *cred) {
    struct mem_node *n = node_of(mem_of(v), obj);
    struct mem_xattr *x = xattr_of(n, key);

    (void)flags;
    (void)cred;
    x = x ? x : xattr_of(n, "");
    assert(x);
    free(x->value);
    x->value = malloc(size + 1);
    assert(x->value);
    memcpy(x->value, value, size);
    x->size = size;
    (void)snprintf(x->key, sizeof(x->key), "%s", key);
    return 0;
}

static int mem_removexattr(struct vol *v, struct obj *obj, const char *key) {
    struct mem_xattr *x = xattr_of(node_of(mem_of(v), obj), key);

    if (!x) {
        return -ENODATA;
    }
    x->key[0] = '\0';
    return 0;
}

static ssize_t mem_read(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                        off_t off) {
    struct mem_node *n = mem_of(v)->node[h.v];

    (void)obj;
    if (off >= n->attr.st_size) {
        return 0;
    }
    size = (off_t)size < n->attr.st_size - off ? size : (size_t)(n->attr.st_size - off);
    memcpy(buf, n->data + off, size);
    return (ssize_t)size;
}

static ssize_t mem_write(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                         size_t size, off_t off, const struct cred *cred) {
    struct mem_node *n = mem_of(v)->node[h.v];

    (void)obj;
    (void)cred;
    if (off + (off_t)size > n->attr.st_size) {
        resize(n, off + (off_t)size);
    }
    memcpy(n->data + off, buf, size);
    return (ssize_t)size;
}

static int mem_fsync(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only) {
    (void)v;
    (void)obj;
    (void)h;
    (void)data_only;
    return 0;
}

static int mem_fallocate(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                         off_t len, const struct cred *cred) {
    struct mem_node *n = mem_of(v)->node[h.v];

    (void)obj;
    (void)cred;
    if (mode == 0 && off + len > n->attr.st_size) {
        resize(n, off + len);
    }
    if ((mode & FALLOC_FL_PUNCH_HOLE) && off < n->attr.st_size) {
        memset(n->data + off, 0,
               (size_t)(off + len < n->attr.st_size ? len : n->attr.st_size - off));
    }
    return 0;
}

static void mem_free(struct vol *v) {
    struct mem *m = mem_of(v);

    for (uint64_t i = 1; i <= m->last; i++) {
        struct mem_node *n = m->node[i];

        if (n) {
            while (n->names) {
                struct mem_name *e = n->names;

                n->names = e->next;
                free(e);
            }
            n->opens = 0;
            n->attr.st_nlink = 0;
            drop(m, n);
        }
    }
    obj_table_free(m->objs);
    free(m);
}

static struct vol_ops mem_ops = {
    .name = "mem",
    .free = mem_free,
    .lookup = mem_lookup,
    .forget = mem_forget,
    .make = mem_make,
    .create = mem_create,
    .link = mem_link,
    .unlink = mem_unlink,
    .rmdir = mem_rmdir,
    .rename = mem_rename,
    .getattr = mem_getattr,
    .setattr = mem_setattr,
    .readlink = mem_readlink,
    .getxattr = mem_getxattr,
    .setxattr = mem_setxattr,
    .removexattr = mem_removexattr,
    .open = mem_open,
    .close = mem_close,
    .read = mem_read,
    .write = mem_write,
    .fsync = mem_fsync,
    .fallocate = mem_fallocate,
};

int vol_mem_new(struct vol **ret_vol) {
    struct mem *m = calloc(1, sizeof(*m));
    struct mem_node *root;
    int err;

    if (!m) {
        return -ENOMEM;
    }
    m->vol.ops = &mem_ops;
    root = node_new(m, S_IFDIR | 0755, &cred_self);
    root->attr.st_mode = S_IFDIR | 0755;
    root->parent = root->attr.st_ino;
    err = obj_table_new(root->attr.st_ino, 0, &m->objs);
    assert(err == 0);
    *ret_vol = &m->vol;
    return 0;
}

struct obj_table *vol_mem_objects(struct vol *vol) {
    return mem_of(vol)->objs;
}

static struct mem_node *copy_node(const struct mem_node *n) {
    struct mem_node *c = malloc(sizeof(*c));
    size_t size = (size_t)n->attr.st_size;

    assert(c);
    *c = *n;
    c->opens = 0;
    c->names = NULL;
    c->data = malloc(size + 1);
    assert(c->data);
    if (size > 0 && n->data) {
        memcpy(c->data, n->data, size);
    }
    for (int i = 0; i < XATTRS_MAX; i++) {
        if (n->xattr[i].value) {
            c->xattr[i].value = malloc(n->xattr[i].size + 1);
            assert(c->xattr[i].value);
            memcpy(c->xattr[i].value, n->xattr[i].value, n->xattr[i].size);
        }
    }
    for (const struct mem_name *e = n->names; e; e = e->next) {
        struct mem_name *copy = malloc(sizeof(*copy));

        assert(copy);
        *copy = *e;
        copy->next = c->names;
        c->names = copy;
    }
    return c;
}

int vol_mem_copy(struct vol *vol, struct vol **ret_copy) {
    struct mem *from = mem_of(vol), *m = calloc(1, sizeof(*m));
    int err = m ? obj_table_new(obj_root(from->objs)->store_ino, 0, &m->objs) : -ENOMEM;

    if (err < 0) {
        free(m);
        return err;
    }
    m->vol.ops = &mem_ops;
    m->last = from->last;
    for (uint64_t i = 1; i <= from->last; i++) {
        if (from->node[i] && (from->node[i]->attr.st_nlink > 0)) {
            m->node[i] = copy_node(from->node[i]);
        }
    }
    *ret_copy = &m->vol;
    return 0;
}
