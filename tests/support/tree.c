#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <uthash.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"

enum {
    CHUNK = 1 << 16,
    XATTRS = 1 << 16,
};

/* Which inode of b belongs to which of a: link groups are the same if this is one to one. */
struct link_pair {
    ino_t a, b;
    UT_hash_handle hh;
};

struct compare {
    const struct tree_options *o;
    long differences;
    struct link_pair *links;
};

static void differ(struct compare *c, const char *path, const char *what) {
    if (c->differences++ < (long)c->o->differences_max && c->o->out) {
        (void)fprintf(c->o->out, "differ: %s: %s\n", path, what);
    }
}

struct names {
    char **list;
    size_t count;
};

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(int fd, bool root, struct names *ret) {
    struct names n = {0};
    int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = own < 0 ? NULL : fdopendir(own);
    struct dirent *e;

    if (!d) {
        return -errno;
    }
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (root &&
             (strcmp(e->d_name, ".holdfast") == 0 || strcmp(e->d_name, "lost+found") == 0))) {
            continue;
        }
        n.list = realloc(n.list, (n.count + 1) * sizeof(char *));
        n.list[n.count++] = strdup(e->d_name);
    }
    (void)closedir(d);
    if (n.count > 0) {
        qsort(n.list, n.count, sizeof(char *), by_text);
    }
    *ret = n;
    return 0;
}

static void free_names(struct names *n) {
    for (size_t i = 0; i < n->count; i++) {
        free(n->list[i]);
    }
    free(n->list);
}

static void compare_bytes(struct compare *c, const char *path, int a, int b) {
    scope_free char *buf = malloc(2 * CHUNK);
    off_t off = 0;

    for (;;) {
        ssize_t n = io_pread(a, buf, CHUNK, off), m = io_pread(b, buf + CHUNK, CHUNK, off);

        if (n < 0 || m < 0 || n != m || memcmp(buf, buf + CHUNK, (size_t)n) != 0) {
            differ(c, path, "bytes");
            return;
        }
        if (n == 0) {
            return;
        }
        off += n;
    }
}

static void compare_holes(struct compare *c, const char *path, int a, int b) {
    off_t at = 0;

    for (int whence = SEEK_DATA;; whence = whence == SEEK_DATA ? SEEK_HOLE : SEEK_DATA) {
        off_t x = lseek(a, at, whence), y = lseek(b, at, whence);

        if (x != y) {
            differ(c, path, "holes");
            return;
        }
        if (x < 0) {
            return;
        }
        at = x;
    }
}

static void compare_files(struct compare *c, const char *path, int da, int db, const char *name) {
    scope_fd int a = openat(da, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    scope_fd int b = openat(db, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (a < 0 || b < 0) {
        differ(c, path, "cannot be opened");
        return;
    }
    compare_bytes(c, path, a, b);
    if (c->o->holes) {
        compare_holes(c, path, a, b);
    }
}

static bool hidden(const char *key) {
    return strncmp(key, "trusted.SGI_ACL_", 16) == 0;
}

/* Every xattr of `from` must be on `to` with the same value. */
static void xattrs_within(struct compare *c, const char *path, const char *from, const char *to) {
    scope_free char *list = malloc(3 * XATTRS);
    char *x = list + XATTRS, *y = list + 2 * XATTRS;
    ssize_t n = llistxattr(from, list, XATTRS);

    for (char *k = list; n > 0 && k < list + n; k += strlen(k) + 1) {
        ssize_t p, q;

        if (hidden(k)) {
            continue;
        }
        p = lgetxattr(from, k, x, XATTRS);
        q = lgetxattr(to, k, y, XATTRS);
        if (p != q || (p > 0 && memcmp(x, y, (size_t)p) != 0)) {
            differ(c, path, k);
        }
    }
}

static void compare_xattrs(struct compare *c, const char *path, int da, int db, const char *name) {
    char a[320], b[320];

    (void)snprintf(a, sizeof(a), "/proc/self/fd/%d/%s", da, name);
    (void)snprintf(b, sizeof(b), "/proc/self/fd/%d/%s", db, name);
    xattrs_within(c, path, a, b);
    xattrs_within(c, path, b, a);
}

static void compare_links(struct compare *c, const char *path, const struct stat *a,
                          const struct stat *b) {
    struct link_pair *p;

    HASH_FIND(hh, c->links, &a->st_ino, sizeof(p->a), p);
    if (!p) {
        p = calloc(1, sizeof(*p));
        p->a = a->st_ino;
        p->b = b->st_ino;
        HASH_ADD(hh, c->links, a, sizeof(p->a), p);
    } else if (p->b != b->st_ino) {
        differ(c, path, "link group");
    }
}

static void compare_entry(struct compare *c, const char *path, int da, int db, const char *name) {
    char x[4096], y[4096];
    struct stat a, b;

    if (fstatat(da, name, &a, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(db, name, &b, AT_SYMLINK_NOFOLLOW) < 0) {
        differ(c, path, "cannot be looked at");
        return;
    }
    if (a.st_mode != b.st_mode) {
        differ(c, path, "type or mode");
    }
    if (a.st_uid != b.st_uid || a.st_gid != b.st_gid) {
        differ(c, path, "owner");
    }
    if (c->o->times && !clock_same(&a.st_mtim, &b.st_mtim)) {
        differ(c, path, "mtime");
    }
    compare_xattrs(c, path, da, db, name);
    if (S_ISDIR(a.st_mode)) {
        return;
    }
    if (a.st_nlink != b.st_nlink) {
        differ(c, path, "number of links");
    }
    if (a.st_nlink > 1) {
        compare_links(c, path, &a, &b);
    }
    if (a.st_size != b.st_size) {
        differ(c, path, "size");
    }
    if (a.st_rdev != b.st_rdev) {
        differ(c, path, "device number");
    }
    if (S_ISREG(a.st_mode)) {
        compare_files(c, path, da, db, name);
    } else if (S_ISLNK(a.st_mode)) {
        ssize_t n = readlinkat(da, name, x, sizeof(x)), m = readlinkat(db, name, y, sizeof(y));

        if (n != m || n < 0 || memcmp(x, y, (size_t)n) != 0) {
            differ(c, path, "symlink target");
        }
    }
}

static long compare_folders(struct compare *c, const char *path, int da, int db) {
    struct names a = {0}, b = {0};
    size_t i = 0, k = 0;
    long bad = 0;

    if (da < 0 || db < 0 || read_names(da, *path == '\0', &a) < 0 ||
        read_names(db, *path == '\0', &b) < 0) {
        differ(c, path, "cannot be listed");
        bad = -1;
    }
    while (bad == 0 && (i < a.count || k < b.count)) {
        int order = i == a.count ? 1 : k == b.count ? -1 : strcmp(a.list[i], b.list[k]);
        const char *name = order <= 0 ? a.list[i] : b.list[k];
        scope_free char *full = NULL;
        struct stat st;

        if (asprintf(&full, "%s/%s", path, name) < 0) {
            abort();
        }
        i += order <= 0;
        k += order >= 0;
        if (order != 0) {
            differ(c, full, order < 0 ? "only in the first" : "only in the second");
            continue;
        }
        compare_entry(c, full, da, db, name);
        if (fstatat(da, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
            scope_fd int x = openat(da, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            scope_fd int y = openat(db, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

            (void)compare_folders(c, full, x, y);
        }
    }
    free_names(&a);
    free_names(&b);
    return bad;
}

long tree_compare(const char *a, const char *b, const struct tree_options *options) {
    scope_fd int da = open(a, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int db = open(b, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct compare c = {.o = options};
    struct link_pair *p, *next;
    long err = compare_folders(&c, "", da, db);

    if (err == 0) {
        compare_entry(&c, "/", da, db, ".");
    }
    HASH_ITER(hh, c.links, p, next) {
        HASH_DEL(c.links, p);
        free(p);
    }
    return err < 0 ? err : c.differences;
}
