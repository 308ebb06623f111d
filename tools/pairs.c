#include "tools/pairs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/limits.h"
#include "snap/snap.h"
#include "store/copy.h"

/* A walk: its path grows and shrinks with it, as trees may be deeper than any path that one could
 * open. */
struct walk {
    const struct pairs_walk *told;
    char *path;
    size_t len, room;
};

static int push(struct walk *w, const char *name) {
    size_t n = strlen(name), need = w->len + n + 2;

    if (need > w->room) {
        char *path = realloc(w->path, need * 2);

        if (!path) {
            return -ENOMEM;
        }
        w->path = path;
        w->room = need * 2;
    }
    if (w->len > 0) {
        w->path[w->len++] = '/';
    }
    memcpy(w->path + w->len, name, n + 1);
    w->len += n;
    return 0;
}

static int walk_folders(struct walk *w, const int folder[2]);

/* *ret_fd negative: that side has no folder there (any more, of the live one). */
static int open_side(const struct pair *p, int side, int *ret_fd) {
    if (!p->st[side] || !S_ISDIR(p->st[side]->st_mode)) {
        return 0;
    }
    *ret_fd =
        openat(p->folder[side], p->name[side], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return *ret_fd >= 0 || (side == 1 && errno == ENOENT) ? 0 : -errno;
}

/* Into a folder of both sides, or of one. */
static int walk_into(struct walk *w, struct pair *p) {
    scope_fd int a = -1;
    scope_fd int b = -1;
    int err = open_side(p, 0, &a);

    err = err < 0 ? err : open_side(p, 1, &b);
    err = err < 0 ? err : walk_folders(w, (const int[]){a, b});
    p->path = w->path; /* it may have moved */
    return err < 0 || !w->told->left ? err : w->told->left(w->told->arg, p);
}

/* `listed`: the side that says that it has it. */
static int walk_name(struct walk *w, const int folder[2], const char *name, int listed) {
    struct stat st[2];
    struct pair p = {.path = w->path, .name = {name, name}, .folder = {folder[0], folder[1]}};
    int err;

    for (int i = 0; i < 2; i++) {
        if (folder[i] < 0) {
            continue;
        }
        if (fstatat(folder[i], name, &st[i], AT_SYMLINK_NOFOLLOW) == 0) {
            p.st[i] = &st[i];
        } else if (errno != ENOENT) {
            return -errno;
        }
    }
    if (listed == 0 && !p.st[0]) {
        return -EIO; /* a snapshot of which something is missing */
    }
    if ((listed == 1 && p.st[0]) || (!p.st[0] && !p.st[1])) {
        return 0; /* it was seen; or it went meanwhile */
    }
    err = w->told->each(w->told->arg, &p);
    return err == 1 ? walk_into(w, &p) : err;
}

static int walk_side(struct walk *w, const int folder[2], int side) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    size_t len = w->len;
    int err = folder[side] < 0 ? 0 : io_open_dir(folder[side], ".", &d);

    if (!d) {
        return err;
    }

    while (err == 0 && (errno = 0, e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) {
            continue;
        }
        err = push(w, e->d_name);
        err = err < 0 ? err : walk_name(w, folder, e->d_name, side);
        if (err == 0) { /* else the path says where it was */
            w->len = len;
            w->path[len] = '\0';
        }
    }
    return err < 0 ? err : -errno;
}

static int walk_folders(struct walk *w, const int folder[2]) {
    int err = walk_side(w, folder, 0);

    return err < 0 ? err : walk_side(w, folder, 1);
}

int pairs_walk(const int top[2], const struct pairs_walk *told, char **ret_path) {
    struct walk w = {.told = told};
    struct pair p = {.name = {".", "."}, .folder = {top[0], top[1]}};
    int err = push(&w, "");

    err = err < 0 ? err : walk_folders(&w, top);
    p.path = w.path;
    err = err < 0 || !told->left ? err : told->left(told->arg, &p);
    *ret_path = w.path;
    return err;
}

int pairs_walk_name(const int folder[2], const char *path, const char *name,
                    const struct pairs_walk *told, char **ret_path) {
    struct walk w = {.told = told};
    int err = push(&w, path);

    err = err < 0 ? err : walk_name(&w, folder, name, -1);
    *ret_path = w.path;
    return err;
}

int pairs_open(int top, const char *path, const char **ret_last) {
    int at = fcntl(top, F_DUPFD_CLOEXEC, 0);

    for (const char *slash; at >= 0 && (slash = strchr(path, '/')); path = slash + 1) {
        char part[NAME_BYTES];
        int above = at;

        (void)snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path); /* a name: it fits */
        at = openat(above, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        (void)close(above); /* only looked through */
    }
    *ret_last = *path ? path : ".";
    return at < 0 ? -errno : at;
}

static bool same_target(const struct pair *p) {
    char a[PATH_BYTES], b[PATH_BYTES];
    ssize_t n = readlinkat(p->folder[0], p->name[0], a, sizeof(a));
    ssize_t m = readlinkat(p->folder[1], p->name[1], b, sizeof(b));

    return n > 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

bool pair_same_content(const struct pair *p) {
    mode_t mode = p->st[0]->st_mode;

    if (S_ISLNK(mode)) {
        return same_target(p);
    }
    return copy_same_xattrs(p->folder[0], p->name[0], p->folder[1], p->name[1]) &&
           !(S_ISREG(mode) && copy_differs(p->folder[0], p->name[0], p->folder[1], p->name[1]));
}

bool pair_untouched(const struct pair *p, uint64_t cut_s) {
    enum { RACY_S = 2 }; /* the grain of both clocks, each at most a second */
    const struct stat *a = p->st[0], *b = p->st[1];

    return (uint64_t)a->st_ctim.tv_sec + RACY_S < cut_s && a->st_ctim.tv_nsec != 0 &&
           clock_same(&a->st_ctim, &b->st_ctim) &&
           snap_ino_same(a->st_ino) == snap_ino_same(b->st_ino);
}
