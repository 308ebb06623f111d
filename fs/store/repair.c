/* Making one object of one store like that of another, in place. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "store/copy.h"
#include "store/store_int.h"

/* What is in the way goes to .holdfast/lost, under a name that says where it came from. Nothing is
 * ever deleted by a repair. */
static int move_to_lost(struct store *st, int dirfd, const char *name) {
    char lost[NAME_BYTES];
    scope_fd int folder = openat(st->folder, STORE_LOST_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0) {
        return -errno;
    }
    for (unsigned n = 0; n < 1000; n++) {
        (void)snprintf(lost, sizeof(lost), "%u.%.200s", n, name); /* a long name is cut */
        if (faccessat(folder, lost, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            continue;
        }
        return renameat(dirfd, name, folder, lost) < 0 ? -errno : 0;
    }
    return -EEXIST;
}

static int repair_at(int from, struct store *to_store, int to, const char *name) {
    struct copy_stat stat = {0};
    struct stat a, b;
    bool have_a = fstatat(from, name, &a, AT_SYMLINK_NOFOLLOW) == 0;
    bool have_b = fstatat(to, name, &b, AT_SYMLINK_NOFOLLOW) == 0;

    if (have_a && have_b && ((a.st_mode ^ b.st_mode) & S_IFMT) == 0) {
        return copy_equalize(from, name, to, name, true, &stat);
    }
    if (have_b) {
        int err = move_to_lost(to_store, to, name);

        if (err < 0) {
            return err;
        }
    }
    if (have_a && S_ISDIR(a.st_mode) && a.st_nlink > 2) {
        return -ENOTEMPTY;
    }
    return have_a ? copy_new(from, name, to, name, &stat) : 0;
}

int store_repair(struct store *from, struct store *to, struct obj *dir, const char *name) {
    struct dir_ref a, b;
    int err = dirfds_get(from, dir, &a);

    if (err < 0) {
        return err;
    }
    err = dirfds_get(to, dir, &b);
    if (err == 0) {
        err = repair_at(a.fd, to, b.fd, name);
        dirfds_put(to, &b);
    }
    dirfds_put(from, &a);
    return err;
}

static int copy_back(int in, int out, off_t off, off_t len) {
    enum { CHUNK = 64 << 10 };
    scope_free char *buf = malloc(CHUNK);
    struct stat st;

    if (!buf) {
        return -ENOMEM;
    }
    if (fstat(in, &st) < 0) {
        return -errno;
    }
    for (off_t end = off + len; off < end && off < st.st_size;) {
        size_t want = end - off < CHUNK ? (size_t)(end - off) : CHUNK;
        ssize_t n = io_pread(in, buf, want, off), w;

        if (n <= 0) {
            return (int)n;
        }
        w = io_pwrite(out, buf, (size_t)n, off);
        if (w < n) {
            return w < 0 ? (int)w : -ENOSPC;
        }
        off += n;
    }
    return ftruncate(out, st.st_size) < 0 ? -errno : 0;
}

static int open_object(struct store *st, struct obj *obj, int flags) {
    struct vol_handle h;
    int err = st->vol.ops->open(&st->vol, obj, flags, &cred_self, &h);

    return err < 0 ? err : (int)h.v;
}

int store_repair_range(struct store *from, struct store *to, struct obj *obj, off_t off, off_t len) {
    scope_fd int in = open_object(from, obj, O_RDONLY);
    scope_fd int out = in < 0 ? in : open_object(to, obj, O_RDWR);

    return out < 0 ? out : copy_back(in, out, off, len);
}

int store_clear_open(struct store *st) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(st->folder, STORE_OPEN_FOLDER, &d);

    if (err < 0) {
        return err;
    }
    while ((e = readdir(d))) {
        if (e->d_name[0] != '.' && unlinkat(dirfd(d), e->d_name, 0) < 0) {
            return -errno;
        }
    }
    return 0;
}
