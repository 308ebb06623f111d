#include "tools/pairs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/limits.h"
#include "store/copy.h"

static int walk_folders(const int folder[2], const char *path, const struct pairs_walk *w);

/* Into a folder of both sides. */
static int walk_into(const struct pair *p, const struct pairs_walk *w) {
    scope_fd int a = openat(p->folder[0], p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    scope_fd int b = openat(p->folder[1], p->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int err;

    if (a < 0 || b < 0) {
        return -errno;
    }
    err = walk_folders((const int[]){a, b}, p->path, w);
    return err < 0 || !w->left ? err : w->left(w->arg, p);
}

int pairs_walk_name(const int folder[2], const char *path, const char *name,
                    const struct pairs_walk *w) {
    struct stat st[2];
    struct pair p = {.path = path, .name = name, .folder = {folder[0], folder[1]}};
    int err;

    for (int i = 0; i < 2; i++) {
        if (fstatat(folder[i], name, &st[i], AT_SYMLINK_NOFOLLOW) == 0) {
            p.st[i] = &st[i];
        } else if (errno != ENOENT) {
            return -errno;
        }
    }
    if (!p.st[0] && !p.st[1]) {
        return 0; /* it went meanwhile */
    }
    err = w->each(w->arg, &p);
    return err == 1 ? walk_into(&p, w) : err;
}

/* The names of one side; of the second, those that the first does not have. */
static int walk_side(const int folder[2], int side, const char *path, const struct pairs_walk *w) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(folder[side], ".", &d);

    while (err == 0 && (errno = 0, e = readdir(d))) {
        char below[PATH_BYTES];
        struct stat st;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
            (side == 1 && fstatat(folder[0], e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)) {
            continue;
        }
        err = snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", e->d_name) <
                      (int)sizeof(below)
                  ? pairs_walk_name(folder, below, e->d_name, w)
                  : -ENAMETOOLONG;
    }
    return err < 0 ? err : -errno;
}

static int walk_folders(const int folder[2], const char *path, const struct pairs_walk *w) {
    int err = walk_side(folder, 0, path, w);

    return err < 0 ? err : walk_side(folder, 1, path, w);
}

int pairs_walk(const int top[2], const struct pairs_walk *w) {
    const struct pair p = {.path = "", .name = ".", .folder = {top[0], top[1]}};
    int err = walk_folders(top, "", w);

    return err < 0 || !w->left ? err : w->left(w->arg, &p);
}

static bool same_target(const struct pair *p) {
    char a[PATH_BYTES], b[PATH_BYTES];
    ssize_t n = readlinkat(p->folder[0], p->name, a, sizeof(a));
    ssize_t m = readlinkat(p->folder[1], p->name, b, sizeof(b));

    return n > 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

bool pair_same_content(const struct pair *p) {
    mode_t mode = p->st[0]->st_mode;

    if (S_ISLNK(mode)) {
        return same_target(p);
    }
    return copy_same_xattrs(p->folder[0], p->name, p->folder[1], p->name) &&
           !(S_ISREG(mode) && copy_differs(p->folder[0], p->name, p->folder[1], p->name));
}
