/* How much a snapshot shows. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>

#include "base/io.h"
#include "base/limits.h"
#include "tools/snapshots.h"

/* A file of several names that was counted. */
struct counted {
    ino_t ino;
    UT_hash_handle hh;
};

struct counting {
    struct counted *several;
    uint64_t bytes;
};

/* Was it not yet counted under another name? 1, 0, or a negative errno. */
static int is_first(struct counting *c, const struct stat *st) {
    struct counted *seen;

    if (S_ISDIR(st->st_mode) || st->st_nlink < 2) {
        return 1;
    }
    HASH_FIND(hh, c->several, &st->st_ino, sizeof(st->st_ino), seen);
    if (seen) {
        return 0;
    }
    seen = calloc(1, sizeof(*seen));
    if (!seen) {
        return -ENOMEM;
    }
    seen->ino = st->st_ino;
    HASH_ADD(hh, c->several, ino, sizeof(seen->ino), seen);
    return 1;
}

/* Depth is bounded by TREE_DEPTH_MAX. */
static int count(struct counting *c, int folder, const char *name, unsigned depth) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    struct stat st;
    int err = fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : is_first(c, &st);

    if (err > 0) {
        c->bytes += (uint64_t)st.st_blocks * 512;
    }
    if (err < 0 || !S_ISDIR(st.st_mode)) {
        return err < 0 ? err : 0;
    }
    err = depth == TREE_DEPTH_MAX ? -ENAMETOOLONG : io_open_dir(folder, name, &d);
    while (err == 0 && (errno = 0, e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            err = count(c, dirfd(d), e->d_name, depth + 1);
        }
    }
    return err < 0 ? err : -errno;
}

int snapshot_refers(const char *view, uint64_t *ret_bytes) {
    struct counting c = {.bytes = 0};
    struct counted *seen, *next;
    int err = count(&c, AT_FDCWD, view, 0);

    HASH_ITER(hh, c.several, seen, next) {
        HASH_DEL(c.several, seen);
        free(seen);
    }
    if (err == 0) {
        *ret_bytes = c.bytes;
    }
    return err;
}
