#include <errno.h>
#include <string.h>

#include "store/side_int.h"
#include "store/store.h"

static struct node *node_new(struct node *parent, const char *name, size_t n) {
    struct node *node = calloc(1, sizeof(*node) + n + 1);

    if (node) {
        node->parent = parent;
        node->name_bytes = n;
        memcpy(node->name, name, n);
        if (parent) {
            HASH_ADD_KEYPTR(hh, parent->children, node->name, n, node);
        }
    }
    return node;
}

struct node *side_table_find(struct side *s, const char *path, size_t n, bool make) {
    struct node *at = s->top;
    const char *end = path + n;

    while (at && path < end) {
        const char *slash = memchr(path, '/', (size_t)(end - path));
        size_t len = (size_t)((slash ? slash : end) - path);
        struct node *below;

        HASH_FIND(hh, at->children, path, len, below);
        at = below || !make ? below : node_new(at, path, len);
        path += len + (slash != NULL);
    }
    return at;
}

static bool has_capability(const struct side_attr *attr) {
    struct side_xattr x;

    return side_xattr_find(attr, SIDE_CAPABILITY, &x);
}

static void attr_clear(struct side *s, struct side_attr *attr) {
    if (has_capability(attr)) {
        atomic_fetch_sub(&s->caps, 1);
    }
    free((void *)attr->xattrs);
    *attr = (struct side_attr){.has = 0};
}

static void entry_put(struct side *s, struct node *node) {
    struct entry *e = node->entry;

    node->entry = NULL;
    if (e && --e->names == 0) {
        attr_clear(s, &e->attr);
        free(e);
    }
}

/* Frees the node and those above it that nobody needs. */
static void prune(struct node *node) {
    while (node && node->parent && !node->children && !node->entry) {
        struct node *parent = node->parent;

        HASH_DELETE(hh, parent->children, node);
        free(node);
        node = parent;
    }
}

void side_table_clear(struct side *s, struct node *top) {
    struct node *at = top;

    while (at) {
        struct node *up = at->parent;

        if (at->children) {
            at = at->children;
            continue;
        }
        entry_put(s, at);
        if (at == top) {
            return;
        }
        HASH_DELETE(hh, up->children, at);
        free(at);
        at = up;
    }
}

static struct entry *entry_of(struct side *s, struct node *node) {
    if (!node->entry && (node->entry = calloc(1, sizeof(*node->entry)))) {
        node->entry->names = 1;
        node->entry->number = ++s->numbers;
    }
    return node->entry;
}

static int apply_set(struct side *s, const struct side_record *r) {
    uint8_t *copy = r->attr.xattr_bytes ? malloc(r->attr.xattr_bytes) : NULL;
    struct node *node = side_table_find(s, r->path, r->path_bytes, true);
    struct entry *e = node ? entry_of(s, node) : NULL;

    if (!e || (r->attr.xattr_bytes && !copy)) {
        free(copy);
        prune(node);
        return -ENOMEM;
    }
    if (copy) {
        memcpy(copy, r->attr.xattrs, r->attr.xattr_bytes);
    }
    attr_clear(s, &e->attr);
    e->attr = r->attr;
    e->attr.xattrs = copy;
    atomic_fetch_add(&s->caps, has_capability(&e->attr));
    if (!e->attr.has && !copy && e->names == 1) {
        entry_put(s, node);
        prune(node);
    }
    return 0;
}

static void drop(struct side *s, const char *path, size_t n) {
    struct node *node = side_table_find(s, path, n, false);

    if (node) {
        side_table_clear(s, node);
        prune(node);
    }
}

/* Makes `node` (detached from its parent) the one at `path`. */
static int attach(struct side *s, struct node *node, const char *path, size_t n) {
    const char *slash = memrchr(path, '/', n);
    size_t above = slash ? (size_t)(slash - path) : 0, skip = slash ? above + 1 : 0;
    struct node *parent = side_table_find(s, path, above, true);
    struct node *named = parent ? node_new(parent, path + skip, n - skip) : NULL, *child;

    if (!named) {
        return -ENOMEM;
    }
    named->entry = node->entry;
    named->children = node->children;
    for (child = named->children; child; child = child->hh.next) {
        child->parent = named;
    }
    free(node);
    return 0;
}

static struct node *detach(struct side *s, const char *path, size_t n) {
    struct node *node = side_table_find(s, path, n, false);

    if (node && node->parent) {
        struct node *parent = node->parent;

        HASH_DELETE(hh, parent->children, node);
        node->parent = NULL;
        prune(parent);
        return node;
    }
    return NULL;
}

/* rename(2) of one name of a file over another one does nothing. */
static bool same_file(struct side *s, const struct side_record *r) {
    struct node *a = side_table_find(s, r->path, r->path_bytes, false);
    struct node *b = side_table_find(s, r->path2, r->path2_bytes, false);

    return a && b && a->entry && a->entry == b->entry;
}

static int apply_move(struct side *s, const struct side_record *r) {
    struct node *node;

    if (same_file(s, r)) {
        return 0;
    }
    node = detach(s, r->path, r->path_bytes);
    drop(s, r->path2, r->path2_bytes);
    return node ? attach(s, node, r->path2, r->path2_bytes) : 0;
}

static int apply_link(struct side *s, const struct side_record *r) {
    struct node *from = side_table_find(s, r->path, r->path_bytes, true);
    struct entry *e = from ? entry_of(s, from) : NULL;
    struct node *to;

    if (!e) {
        return -ENOMEM;
    }
    e->names++; /* held: the other name may be one of its own */
    drop(s, r->path2, r->path2_bytes);
    to = side_table_find(s, r->path2, r->path2_bytes, true);
    if (!to) {
        e->names--;
        return -ENOMEM;
    }
    to->entry = e;
    return 0;
}

int side_table_apply(struct side *s, const struct side_record *r) {
    switch (r->kind) {
    case SIDE_SET:
        return apply_set(s, r);
    case SIDE_DROP:
        drop(s, r->path, r->path_bytes);
        return 0;
    case SIDE_MOVE:
        return apply_move(s, r);
    case SIDE_LINK:
        return apply_link(s, r);
    case SIDE_MARK:
        return 0;
    default:
        return -HFE_CORRUPT;
    }
}

const char *side_table_path(const struct node *node, char buf[PATH_BYTES], size_t *ret_bytes) {
    char *p = buf + PATH_BYTES;

    for (; node->parent; node = node->parent) {
        if ((size_t)(p - buf) <= node->name_bytes) {
            return NULL;
        }
        p -= node->name_bytes;
        memcpy(p, node->name, node->name_bytes);
        if (node->parent->parent) {
            *--p = '/';
        }
    }
    *ret_bytes = (size_t)(buf + PATH_BYTES - p);
    return p;
}

/* Bytes of the path from `top` down to `node`. */
static size_t depth_below(const struct node *top, const struct node *node) {
    size_t bytes = 0;

    for (; node != top; node = node->parent) {
        bytes += node->name_bytes + 1;
    }
    return bytes;
}

struct node *side_table_next(const struct node *top, struct node *node) {
    if (node->children) {
        return node->children;
    }
    while (node != top && !node->hh.next) {
        node = node->parent;
    }
    return node == top ? NULL : node->hh.next;
}

bool side_table_fits(struct side *s, const char *path, size_t n, size_t new_bytes) {
    struct node *top = side_table_find(s, path, n, false);

    if (!top || new_bytes <= n) {
        return true;
    }
    for (struct node *at = top; at; at = side_table_next(top, at)) {
        if (new_bytes + depth_below(top, at) >= PATH_BYTES) {
            return false;
        }
    }
    return true;
}

int side_table_new(struct side *s) {
    s->top = node_new(NULL, "", 0);
    return s->top ? 0 : -ENOMEM;
}

bool side_has_links(struct side *s, const char *path) {
    struct node *node;
    bool several;

    pthread_mutex_lock(&s->mutex);
    node = side_table_find(s, path, strlen(path), false);
    several = node && node->entry && node->entry->names > 1;
    pthread_mutex_unlock(&s->mutex);
    return several;
}

void side_overlay(struct side *s, const char *path, struct stat *st) {
    struct node *node;
    struct entry *e;

    pthread_mutex_lock(&s->mutex);
    node = side_table_find(s, path, strlen(path), false);
    e = node ? node->entry : NULL;
    if (e) {
        if (e->attr.has & SIDE_OWNER) {
            st->st_uid = e->attr.uid;
            st->st_gid = e->attr.gid;
        }
        if (e->attr.has & SIDE_MODE) {
            st->st_mode = (st->st_mode & S_IFMT) | e->attr.mode;
        }
        if (e->attr.has & SIDE_TYPE) {
            st->st_mode = (st->st_mode & ~(mode_t)S_IFMT) | e->attr.type;
            st->st_rdev = e->attr.rdev;
        }
        if ((e->attr.has & SIDE_MTIME) &&
            (S_ISLNK(st->st_mode) ||
             (uint32_t)st->st_mtim.tv_sec == (uint32_t)e->attr.mtime.tv_sec)) { /* SFTP: 32 bits */
            st->st_mtim = e->attr.mtime;
        }
        if (e->names > 1 && side_lacks(s, STORE_HARDLINK)) {
            st->st_nlink = e->names;
            st->st_ino = UINT64_C(1) << 62 | e->number;
        }
    }
    pthread_mutex_unlock(&s->mutex);
}

int side_get(struct side *s, const char *path, struct side_attr *ret_attr, uint8_t **ret_bytes) {
    struct side_attr a = {.has = 0};
    uint8_t *copy = NULL;
    struct node *node;

    pthread_mutex_lock(&s->mutex);
    node = side_table_find(s, path, strlen(path), false);
    if (node && node->entry) {
        a = node->entry->attr;
    }
    copy = malloc(a.xattr_bytes + 1);
    if (copy && a.xattr_bytes > 0) {
        memcpy(copy, a.xattrs, a.xattr_bytes);
    }
    pthread_mutex_unlock(&s->mutex);
    if (!copy) {
        return -ENOMEM;
    }
    a.xattrs = copy;
    *ret_attr = a;
    *ret_bytes = copy;
    return 0;
}
