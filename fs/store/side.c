#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "base/io.h"
#include "store/side_int.h"
#include "store/store.h"

static pthread_mutex_t registry = PTHREAD_MUTEX_INITIALIZER;
static struct side *sides; /* those that are open; guarded by registry */
static _Atomic unsigned side_count;

/* The device a folder lies on, without asking a filesystem that may not answer. */
static bool device_of(int fd, dev_t *ret_dev) {
    struct statx sx;

    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC, 0, &sx) < 0) {
        return false;
    }
    *ret_dev = makedev(sx.stx_dev_major, sx.stx_dev_minor);
    return true;
}

int side_format(int folder, const struct head *head) {
    uint8_t bytes[SIDE_HEAD_BYTES];

    side_head_encode(head, bytes);
    return io_replace(folder, SIDE_FILE, bytes, sizeof(bytes), 0600);
}

int side_open(int root, int folder, const struct head *head, uint32_t lacks, bool lost,
              const char *path, struct why *why, struct side **ret_side) {
    struct side *s = calloc(1, sizeof(*s));
    int err;

    if (!s) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    *s = (struct side){.root = root, .folder = folder, .head = *head, .lacks = lacks, .fd = -1};
    pthread_mutex_init(&s->mutex, NULL);
    pthread_mutex_init(&s->edit, NULL);
    pthread_mutex_init(&s->sync, NULL);
    s->record = malloc(SIDE_RECORD_BYTES_MAX);
    err = side_table_new(s) < 0 || !s->record ? -ENOMEM
          : !device_of(root, &s->dev)         ? -errno
          : lost                              ? 0
                                              : side_log_load(s);
    if (err < 0) {
        side_free(s);
        if (err != -HFE_CORRUPT && err != -HFE_FOREIGN) {
            return why_set(why, err, "%s/.holdfast/%s cannot be read: %s", path, SIDE_FILE,
                           error_words(err));
        }
        return why_set(
            why, err,
            "%s/.holdfast/%s, which keeps what this filesystem cannot hold, is missing or "
            "damaged: %s%s",
            path, SIDE_FILE, error_words(err),
            err == -HFE_FOREIGN ? "; is another store's file there?"
                                : "; it is mended by itself while a whole store serves");
    }
    pthread_mutex_lock(&registry);
    s->next = sides;
    sides = s;
    atomic_fetch_add(&side_count, 1);
    pthread_mutex_unlock(&registry);
    *ret_side = s;
    return 0;
}

static const char damaged[] = SIDE_FILE ".damaged";

/* The damaged one says from now on that what it kept is not here yet. */
static int put_aside(const struct side *s) {
    scope_fd int fd = -1;

    if (renameat(s->folder, SIDE_FILE, s->folder, damaged) < 0) {
        fd =
            errno == ENOENT ? openat(s->folder, damaged, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
        if (fd < 0) {
            return -errno;
        }
    }
    return fsync(s->folder) < 0 && errno != EINVAL && errno != ENOSYS ? -errno : 0;
}

int side_begin_anew(struct side *s) {
    int err;

    if (s->fd >= 0) {
        return 0;
    }
    err = put_aside(s);
    err = err < 0 ? err : side_format(s->folder, &s->head);
    pthread_mutex_lock(&s->mutex);
    err = err < 0 ? err : side_log_load(s);
    pthread_mutex_unlock(&s->mutex);
    return err < 0 ? err : 1;
}

bool side_is_anew(const struct side *s) {
    return s->fd < 0 || faccessat(s->folder, damaged, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
           errno != ENOENT;
}

int side_is_whole(const struct side *s) {
    return unlinkat(s->folder, damaged, 0) < 0 && errno != ENOENT ? -errno : 0;
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
        side_table_clear(s, s->top);
        free(s->top);
    }
    while (s->pending) {
        struct pending *p = s->pending;

        s->pending = p->next;
        free(p);
    }
    free(s->record);
    pthread_mutex_destroy(&s->sync);
    pthread_mutex_destroy(&s->edit);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

/* --- for store/at.h --- */

/* Is `path` really that of `fd`? Of a folder that the kernel forgot, it adds " (deleted)". */
static int check_path(int fd, const char *path, size_t n) {
    static const char deleted[] = " (deleted)";
    struct stat a, b;

    if (n < sizeof(deleted) || strcmp(path + n - (sizeof(deleted) - 1), deleted) != 0) {
        return 0;
    }
    if (fstat(fd, &a) < 0 || a.st_nlink == 0) {
        return -ENOENT;
    }
    if (stat(path, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino) {
        return 0; /* that is its name */
    }
    return S_ISDIR(a.st_mode) ? -EIO : -ENOENT;
}

/* Where a descriptor is, as the kernel sees it now; its length. */
static ssize_t path_of(int fd, char path[PATH_BYTES]) {
    char link[40];
    ssize_t n;
    int err;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, path, PATH_BYTES - 1);
    if (n < 0) {
        return -errno;
    }
    path[n] = '\0';
    err = check_path(fd, path, (size_t)n);
    return err < 0 ? err : n == 1 ? 0 : n; /* "/" ends where names below it begin */
}

/* Is `dir` at or below the store's root? Then where, without a leading slash. */
static const char *below_root(const struct side *s, dev_t dev, const char *dir) {
    char root[PATH_BYTES];
    ssize_t n = s->dev == dev ? path_of(s->root, root) : -1;

    if (n < 0 || strncmp(dir, root, (size_t)n) != 0 || (dir[n] != '/' && dir[n] != '\0')) {
        return NULL;
    }
    return dir + n + (dir[n] == '/');
}

static bool any_on(dev_t dev) {
    const struct side *s;

    pthread_mutex_lock(&registry);
    for (s = sides; s && s->dev != dev; s = s->next) {
    }
    pthread_mutex_unlock(&registry);
    return s != NULL;
}

int side_find(int dir, const char *name, struct side **ret_side, char ret_path[PATH_BYTES]) {
    char whole[PATH_BYTES];
    const char *below = NULL;
    struct side *s = NULL;
    dev_t dev = 0;
    ssize_t n;

    if (atomic_load(&side_count) == 0 || dir < 0) {
        return 0;
    }
    if (!device_of(dir, &dev)) {
        return -errno;
    }
    if (!any_on(dev)) {
        return 0;
    }
    n = path_of(dir, whole);
    if (n < 0) {
        return (int)n;
    }
    pthread_mutex_lock(&registry);
    for (struct side *each = sides; each; each = each->next) {
        const char *here = below_root(each, dev, whole);

        if (here && (!below || here > below)) { /* the innermost, of stores in stores */
            below = here;
            s = each;
        }
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

void side_edit(struct side *s) {
    pthread_mutex_lock(&s->edit);
}

void side_edit_done(struct side *s) {
    pthread_mutex_unlock(&s->edit);
}

bool side_has_capabilities(struct side *s) {
    return atomic_load(&s->caps) > 0;
}

bool side_lacks(const struct side *s, uint32_t cap) {
    return s->lacks & cap;
}

static struct side_record record_of(enum side_kind kind, const char *path, const char *path2) {
    return (struct side_record){.kind = kind,
                                .path = path,
                                .path_bytes = strlen(path),
                                .path2 = path2,
                                .path2_bytes = path2 ? strlen(path2) : 0};
}

/* Writes the record and does what it says; under the mutex. */
static int tell(struct side *s, struct side_record *r) {
    int64_t at = side_log_append(s, r);

    if (at < 0) {
        return (int)at;
    }
    if (side_table_apply(s, r) < 0) {
        s->broken = true;
        return -EIO;
    }
    return 0;
}

int side_set(struct side *s, const char *path, const struct side_attr *attr) {
    struct side_record r = record_of(SIDE_SET, path, NULL);
    int err = 0;

    r.attr = *attr;
    pthread_mutex_lock(&s->mutex);
    if (attr->has || attr->xattr_bytes || side_table_find(s, path, r.path_bytes, false)) {
        err = tell(s, &r);
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

int side_drop(struct side *s, const char *path) {
    struct side_record r = record_of(SIDE_DROP, path, NULL);
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    if (side_table_find(s, path, r.path_bytes,
                        false)) { /* of what nobody knows anything: no record */
        err = tell(s, &r);
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

/* Has it other names, or is anything kept below it? Then nobody finds out after a crash. */
static bool drop_needs_word(struct side *s, const struct side_record *r) {
    const struct node *node = side_table_find(s, r->path, r->path_bytes, false);

    return node && (node->children || (node->entry && node->entry->names > 1));
}

static bool needs_word(struct side *s, const struct side_record *r) {
    switch (r->kind) {
    case SIDE_LINK:
        return true;
    case SIDE_DROP:
        return drop_needs_word(s, r);
    default:
        return side_table_find(s, r->path, r->path_bytes, false) ||
               side_table_find(s, r->path2, r->path2_bytes, false);
    }
}

int side_intend(struct side *s, enum side_kind kind, const char *path, const char *path2,
                uint64_t *ret_token) {
    struct side_record r = record_of(kind, path, path2);
    int64_t at = 0;

    r.pending = true;
    *ret_token = 0;
    pthread_mutex_lock(&s->mutex);
    if (kind == SIDE_MOVE && !side_table_fits(s, path, r.path_bytes, r.path2_bytes)) {
        at = -ENAMETOOLONG;
    } else if (needs_word(s, &r)) {
        at = side_log_append(s, &r);
        if (at >= 0 && !side_log_remember(s, (uint64_t)at, &r)) {
            s->broken = true;
            at = -EIO;
        }
    }
    pthread_mutex_unlock(&s->mutex);
    *ret_token = at > 0 ? (uint64_t)at : 0;
    return at < 0 ? (int)at : 0;
}

int side_settle(struct side *s, uint64_t token, bool done) {
    struct side_record r = {.kind = done ? SIDE_DONE : SIDE_NOT, .of = token};
    struct pending *p;
    int err = 0;

    if (token == 0) {
        return 0;
    }
    pthread_mutex_lock(&s->mutex);
    p = side_log_recall(s, token);
    if (side_log_append(s, &r) < 0 || !p || (done && side_table_apply(s, &p->r) < 0)) {
        s->broken = true;
        err = -EIO;
    }
    pthread_mutex_unlock(&s->mutex);
    free(p);
    return err;
}
