#include "store/side.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <uthash.h>

#include "base/io.h"

static const char file_name[] = "side", capability_key[] = "security.capability";
enum { SPARE_BYTES = 16 << 20 }; /* out of date, before the file is written anew */

/* What is kept about one file, which may have several names. */
struct entry {
    struct side_attr attr; /* xattrs: owned */
    unsigned names;
    uint64_t number;        /* shown as its inode number if it has several names */
    const struct node *out; /* while the file is written anew: the name that was written first */
};

/* A name: one for each object with an entry, and for the folders above them. */
struct node {
    struct node *parent, *children;
    struct entry *entry; /* may be NULL */
    UT_hash_handle hh;   /* in the parent's children, by name */
    size_t name_bytes;
    char name[];
};

struct side {
    /* constant */
    int root, folder;
    dev_t dev;
    struct side_head head;
    uint32_t lacks;
    struct side *next;     /* guarded by registry */
    _Atomic unsigned caps; /* entries with file capabilities */
    pthread_mutex_t mutex; /* a leaf, but for the log's writes */
    /* guarded by mutex */
    int fd;
    uint64_t end, live; /* bytes of the log; of them those that count (about) */
    bool unsynced;
    uint64_t numbers;
    struct node *top;
    uint8_t *record; /* SIDE_RECORD_BYTES_MAX: the one being written */
};

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct side *sides; /* those that are open; guarded by registry */
static _Atomic unsigned side_count;

/* --- the table --- */

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

/* The node of a path; with `make`, made with all above it. NULL: not there, or no memory. */
static struct node *find_node(struct side *s, const char *path, size_t n, bool make) {
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
    size_t at = 0;

    for (ssize_t n; (n = side_xattr_next(attr, at, &x)) > 0; at = (size_t)n) {
        if (x.key_bytes == sizeof(capability_key) - 1 &&
            memcmp(x.key, capability_key, x.key_bytes) == 0) {
            return true;
        }
    }
    return false;
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

/* Frees what is below `top`, and its entry. */
static void clear_below(struct side *s, struct node *top) {
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
    struct node *node = find_node(s, r->path, r->path_bytes, true);
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
    struct node *node = find_node(s, path, n, false);

    if (node) {
        clear_below(s, node);
        prune(node);
    }
}

/* Makes `node` (detached from its parent) the one at `path`. */
static int attach(struct side *s, struct node *node, const char *path, size_t n) {
    const char *slash = memrchr(path, '/', n);
    size_t above = slash ? (size_t)(slash - path) : 0, skip = slash ? above + 1 : 0;
    struct node *parent = find_node(s, path, above, true);
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
    struct node *node = find_node(s, path, n, false);

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
    struct node *a = find_node(s, r->path, r->path_bytes, false);
    struct node *b = find_node(s, r->path2, r->path2_bytes, false);

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

static int apply_swap(struct side *s, const struct side_record *r) {
    struct node *a = detach(s, r->path, r->path_bytes);
    struct node *b = detach(s, r->path2, r->path2_bytes);
    int err = a ? attach(s, a, r->path2, r->path2_bytes) : 0;

    return err == 0 && b ? attach(s, b, r->path, r->path_bytes) : err;
}

static int apply_link(struct side *s, const struct side_record *r) {
    struct node *from = find_node(s, r->path, r->path_bytes, true);
    struct entry *e = from ? entry_of(s, from) : NULL;
    struct node *to;

    if (!e) {
        return -ENOMEM;
    }
    e->names++; /* held: the other name may be one of its own */
    drop(s, r->path2, r->path2_bytes);
    to = find_node(s, r->path2, r->path2_bytes, true);
    if (!to) {
        e->names--;
        return -ENOMEM;
    }
    to->entry = e;
    return 0;
}

static int apply(struct side *s, const struct side_record *r) {
    switch (r->kind) {
    case SIDE_SET:
        return apply_set(s, r);
    case SIDE_DROP:
        drop(s, r->path, r->path_bytes);
        return 0;
    case SIDE_MOVE:
        return apply_move(s, r);
    case SIDE_SWAP:
        return apply_swap(s, r);
    case SIDE_LINK:
        return apply_link(s, r);
    default:
        return -HFE_CORRUPT;
    }
}

/* --- the log --- */

static int write_record(struct side *s, int fd, uint64_t at, const struct side_record *r) {
    size_t size = side_record_encode(r, &s->head.volume, at, s->record);
    ssize_t n = io_pwrite(fd, s->record, size, (off_t)at);

    return n < 0 ? (int)n : (size_t)n < size ? -ENOSPC : (int)size;
}

/* The path of a node, from the end of `buf`. */
static const char *node_path(const struct node *node, char buf[PATH_BYTES], size_t *ret_bytes) {
    char *p = buf + PATH_BYTES;

    for (; node->parent; node = node->parent) {
        p -= node->name_bytes;
        memcpy(p, node->name, node->name_bytes);
        if (node->parent->parent) {
            *--p = '/';
        }
    }
    *ret_bytes = (size_t)(buf + PATH_BYTES - p);
    return p;
}

static struct node *next_node(struct node *node) {
    if (node->children) {
        return node->children;
    }
    while (node && !node->hh.next) {
        node = node->parent;
    }
    return node && node->parent ? node->hh.next : NULL;
}

static int write_node(struct side *s, int fd, uint64_t at, struct node *node) {
    char path[PATH_BYTES], first[PATH_BYTES];
    struct side_record r = {.kind = SIDE_SET, .attr = node->entry->attr};

    r.path = node_path(node, path, &r.path_bytes);
    if (node->entry->out) {
        r = (struct side_record){.kind = SIDE_LINK, .path2 = r.path, .path2_bytes = r.path_bytes};
        r.path = node_path(node->entry->out, first, &r.path_bytes);
    }
    node->entry->out = node;
    return write_record(s, fd, at, &r);
}

static int write_head(int fd, const struct side_head *head) {
    uint8_t bytes[SIDE_HEAD_BYTES];
    ssize_t n;

    side_head_encode(head, bytes);
    n = io_pwrite(fd, bytes, sizeof(bytes), 0);
    return n < 0 ? (int)n : n < SIDE_HEAD_BYTES ? -ENOSPC : 0;
}

/* A new file with just what counts, in place of the old one. On an error the old one goes on. */
static int write_anew(struct side *s) {
    static const char new_name[] = "side.new";
    scope_fd int fd =
        openat(s->folder, new_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    uint64_t end = SIDE_HEAD_BYTES;
    int err = fd < 0 ? -errno : write_head(fd, &s->head);

    for (struct node *n = s->top; n; n = next_node(n)) {
        if (n->entry) {
            n->entry->out = NULL;
        }
    }
    for (struct node *n = s->top; n && err >= 0; n = next_node(n)) {
        if (n->entry) {
            err = write_node(s, fd, end, n);
            end += err > 0 ? (uint64_t)err : 0;
        }
    }
    if (err >= 0 && (fsync(fd) < 0 || renameat(s->folder, new_name, s->folder, file_name) < 0)) {
        err = -errno;
    }
    if (err < 0) {
        (void)unlinkat(s->folder, new_name, 0); /* the old one goes on */
        return err;
    }
    (void)fsync(s->folder); /* a store that cannot said so; either file is right */
    cleanup_fd(&s->fd);
    s->fd = steal_fd(&fd);
    s->end = s->live = end;
    return 0;
}

/* Writes the record, then does what it says. */
static int tell(struct side *s, const struct side_record *r) {
    int n = s->fd < 0 ? -EIO : write_record(s, s->fd, s->end, r);

    if (n < 0) {
        return n;
    }
    s->end += (uint64_t)n;
    s->unsynced = true;
    n = apply(s, r);
    if (n == 0 && s->end > 2 * s->live + SPARE_BYTES) {
        s->live = s->end; /* if it fails: not again at once */
        (void)write_anew(s);
    }
    return n;
}

/* Is there a whole record in what follows a broken one? Then it is not the torn end of a crash. */
static bool goes_on(struct side *s, const uint8_t *bytes, size_t n, uint64_t position) {
    struct side_record r;

    for (size_t at = 8; at < n; at += 8) {
        if (side_record_decode(bytes + at, n - at, &s->head.volume, position + at, &r) > 0) {
            return true;
        }
    }
    return false;
}

static int replay(struct side *s, const uint8_t *bytes, size_t n) {
    struct side_record r;
    struct side_head h;
    size_t at = SIDE_HEAD_BYTES;
    int err = n < at ? -HFE_CORRUPT : side_head_decode(bytes, &h);

    if (err < 0) {
        return err;
    }
    if (!id_equal(&h.volume, &s->head.volume) || !id_equal(&h.store, &s->head.store)) {
        return -HFE_FOREIGN;
    }
    while (at < n) {
        int size = side_record_decode(bytes + at, n - at, &s->head.volume, at, &r);

        if (size < 0) {
            if (goes_on(s, bytes + at, n - at, at)) {
                return size;
            }
            break;
        }
        err = apply(s, &r);
        if (err < 0) {
            return err;
        }
        at += (size_t)size;
    }
    s->end = s->live = at;
    return at < n && ftruncate(s->fd, (off_t)at) < 0 ? -errno : 0;
}

static int load(struct side *s) {
    scope_free uint8_t *bytes = NULL;
    struct stat st;
    ssize_t n;

    s->fd = openat(s->folder, file_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) < 0) {
        return errno == ENOENT ? -HFE_CORRUPT : -errno;
    }
    bytes = malloc((size_t)st.st_size + 1);
    if (!bytes) {
        return -ENOMEM;
    }
    n = io_pread(s->fd, bytes, (size_t)st.st_size, 0);
    return n < 0 ? (int)n : replay(s, bytes, (size_t)n);
}

/* The device a folder lies on, without asking a filesystem that may not answer. */
static bool device_of(int fd, dev_t *ret_dev) {
    struct statx sx;

    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &sx) < 0) {
        return false;
    }
    *ret_dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
    return true;
}

int side_format(int folder, const struct side_head *head) {
    uint8_t bytes[SIDE_HEAD_BYTES];

    side_head_encode(head, bytes);
    return io_replace(folder, file_name, bytes, sizeof(bytes), 0600);
}

int side_open(int root, int folder, const struct side_head *head, uint32_t lacks, const char *path,
              struct why *why, struct side **ret_side) {
    struct side *s = calloc(1, sizeof(*s));
    int err;

    if (!s) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    *s = (struct side){.root = root, .folder = folder, .head = *head, .lacks = lacks, .fd = -1};
    pthread_mutex_init(&s->mutex, NULL);
    s->top = node_new(NULL, "", 0);
    s->record = malloc(SIDE_RECORD_BYTES_MAX);
    err = !s->top || !s->record ? -ENOMEM : device_of(root, &s->dev) ? load(s) : -errno;
    if (err < 0) {
        side_free(s);
        return why_set(
            why, err,
            "%s/.holdfast/%s, which keeps what this filesystem cannot hold, is missing or "
            "damaged: %s; if other stores are whole, empty this one and `holdfast replace` "
            "it by itself",
            path, file_name, error_words(err));
    }
    pthread_mutex_lock(&registry);
    s->next = sides;
    sides = s;
    atomic_fetch_add(&side_count, 1);
    pthread_mutex_unlock(&registry);
    *ret_side = s;
    return 0;
}

int side_sync(struct side *s) {
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    if (s->unsynced) {
        err = s->fd < 0 ? -EIO : fdatasync(s->fd) < 0 ? -errno : 0;
        s->unsynced = err < 0;
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

void side_let_go(struct side *s) {
    struct side **at;

    if (!s) {
        return;
    }
    pthread_mutex_lock(&registry);
    for (at = &sides; *at && *at != s; at = &(*at)->next) {
    }
    if (*at) {
        *at = s->next;
        atomic_fetch_sub(&side_count, 1);
    }
    pthread_mutex_unlock(&registry);
    pthread_mutex_lock(&s->mutex);
    cleanup_fd(&s->fd);
    s->fd = -1;
    pthread_mutex_unlock(&s->mutex);
}

void side_free(struct side *s) {
    if (!s) {
        return;
    }
    side_let_go(s);
    if (s->top) {
        clear_below(s, s->top);
        free(s->top);
    }
    free(s->record);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* --- for store/at.h --- */

/* Where a descriptor is, as the kernel sees it now; its length. */
static ssize_t path_of(int fd, char path[PATH_BYTES]) {
    char link[40];
    ssize_t n;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_BYTES - 1);
    if (n < 0) {
        return -errno;
    }
    path[n] = '\0';
    return n == 1 ? 0 : n; /* "/" ends where names below it begin */
}

static bool any_on(dev_t dev) {
    const struct side *s;

    pthread_mutex_lock(&registry);
    for (s = sides; s && s->dev != dev; s = s->next) {
    }
    pthread_mutex_unlock(&registry);
    return s != NULL;
}

/* Is `dir` at or below the store's root? Then where, without a leading slash. */
static const char *below_root(const struct side *s, const char *dir) {
    char root[PATH_BYTES];
    ssize_t n = path_of(s->root, root);

    if (n < 0 || strncmp(dir, root, (size_t)n) != 0 || (dir[n] != '/' && dir[n] != '\0')) {
        return NULL;
    }
    return dir + n + (dir[n] == '/');
}

int side_find(int dir, const char *name, struct side **ret_side, char ret_path[PATH_BYTES]) {
    char whole[PATH_BYTES];
    const char *below = NULL;
    struct side *s;
    dev_t dev;
    ssize_t n;

    if (atomic_load(&side_count) == 0 || dir < 0 || (device_of(dir, &dev) && !any_on(dev))) {
        return 0;
    }
    n = path_of(dir, whole);
    if (n < 0) {
        return (int)n;
    }
    pthread_mutex_lock(&registry);
    for (s = sides; s && !(below = below_root(s, whole)); s = s->next) {
    }
    pthread_mutex_unlock(&registry);
    if (!s) {
        return 0;
    }
    name = strcmp(name, ".") == 0 ? "" : name;
    if (snprintf(ret_path, PATH_BYTES, "%s%s%s", below, *below && *name ? "/" : "", name) >=
        PATH_BYTES) {
        return -ENAMETOOLONG;
    }
    *ret_side = s;
    return 1;
}

bool side_lacks(const struct side *s, uint32_t cap) {
    return s->lacks & cap;
}

bool side_has_capabilities(struct side *s) {
    return atomic_load(&s->caps) > 0;
}

void side_overlay(struct side *s, const char *path, struct stat *st) {
    struct node *node;
    struct entry *e;

    pthread_mutex_lock(&s->mutex);
    node = find_node(s, path, strlen(path), false);
    e = node ? node->entry : NULL;
    if (e) {
        if (e->attr.has & SIDE_OWNER) {
            st->st_uid = e->attr.uid;
            st->st_gid = e->attr.gid;
        }
        if (e->attr.has & SIDE_TYPE) {
            st->st_mode = (st->st_mode & ~(mode_t)S_IFMT) | e->attr.type;
            st->st_rdev = e->attr.rdev;
        }
        if ((e->attr.has & SIDE_MTIME) &&
            (S_ISLNK(st->st_mode) || st->st_mtim.tv_sec == e->attr.mtime.tv_sec)) {
            st->st_mtim = e->attr.mtime;
        }
        if (e->names > 1) {
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
    node = find_node(s, path, strlen(path), false);
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

static int tell_locked(struct side *s, enum side_kind kind, const char *path, const char *path2,
                       const struct side_attr *attr) {
    struct side_record r = {.kind = kind,
                            .path = path,
                            .path_bytes = strlen(path),
                            .path2 = path2,
                            .path2_bytes = path2 ? strlen(path2) : 0};
    bool known;
    int err;

    if (attr) {
        r.attr = *attr;
    }
    pthread_mutex_lock(&s->mutex);
    /* What nobody knows anything about needs no record. */
    known = kind == SIDE_LINK || (attr && (attr->has || attr->xattr_bytes)) ||
            find_node(s, path, r.path_bytes, false) ||
            (path2 && find_node(s, path2, r.path2_bytes, false));
    err = known ? tell(s, &r) : 0;
    pthread_mutex_unlock(&s->mutex);
    return err;
}

int side_set(struct side *s, const char *path, const struct side_attr *attr) {
    return tell_locked(s, SIDE_SET, path, NULL, attr);
}
int side_drop(struct side *s, const char *path) {
    return tell_locked(s, SIDE_DROP, path, NULL, NULL);
}
int side_move(struct side *s, const char *from, const char *to) {
    return tell_locked(s, SIDE_MOVE, from, to, NULL);
}
int side_swap(struct side *s, const char *a, const char *b) {
    return tell_locked(s, SIDE_SWAP, a, b, NULL);
}
int side_link(struct side *s, const char *path, const char *other) {
    return tell_locked(s, SIDE_LINK, path, other, NULL);
}
