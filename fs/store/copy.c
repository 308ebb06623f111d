#include "store/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/limits.h"
#include "store/at.h"

enum { CHUNK = 256 << 10, HOLE = 4 << 10 };

bool copy_same_stat(const struct stat *a, const struct stat *b) {
    if (((a->st_mode ^ b->st_mode) & (S_IFMT | 07777)) || a->st_uid != b->st_uid ||
        a->st_gid != b->st_gid || !clock_same(&a->st_mtim, &b->st_mtim)) {
        return false;
    }
    switch (a->st_mode & S_IFMT) {
    case S_IFDIR:
        return true;
    case S_IFCHR:
    case S_IFBLK:
        return a->st_rdev == b->st_rdev;
    default:
        return a->st_size == b->st_size;
    }
}

static bool copied_xattr(const char *key) {
    return strncmp(key, "trusted.SGI_ACL_", 16) != 0 && strncmp(key, "trusted.overlay.", 16) != 0 &&
           strcmp(key, "security.selinux") != 0;
}

static bool in_list(const char *list, ssize_t n, const char *key) {
    for (const char *k = list; k < list + n; k += strlen(k) + 1) {
        if (strcmp(k, key) == 0) {
            return true;
        }
    }
    return false;
}

/* 1 if anything was set, or would be (`look`). */
static int copy_xattrs(int from, const char *name, int to, const char *to_name, bool look) {
    scope_free char *buf = malloc(4 * (size_t)XATTR_BYTES_MAX);
    char *list = buf, *have = buf + XATTR_BYTES_MAX;
    char *value = buf + 2 * XATTR_BYTES_MAX, *old = buf + 3 * XATTR_BYTES_MAX;
    ssize_t n, have_n;
    int changed = 0;

    if (!buf) {
        return -ENOMEM;
    }
    n = at_listxattr(from, name, list, XATTR_BYTES_MAX);
    have_n = at_listxattr(to, to_name, have, XATTR_BYTES_MAX);
    if (n < 0 || have_n < 0) {
        n = n < 0 ? n : have_n;
        return n == -EOPNOTSUPP ? 0 : (int)n;
    }
    for (const char *k = have; k < have + have_n; k += strlen(k) + 1) {
        if (copied_xattr(k) && !in_list(list, n, k)) {
            int err = look ? 0 : at_removexattr(to, to_name, k);

            if (err < 0 && err != -ENODATA) {
                return err;
            }
            changed = 1;
        }
    }
    for (const char *k = list; k < list + n; k += strlen(k) + 1) {
        ssize_t len, old_len;
        int err;

        if (!copied_xattr(k)) {
            continue;
        }
        len = at_getxattr(from, name, k, value, XATTR_BYTES_MAX);
        if (len < 0) {
            return (int)len;
        }
        old_len = at_getxattr(to, to_name, k, old, XATTR_BYTES_MAX);
        if (old_len == len && memcmp(old, value, (size_t)len) == 0) {
            continue;
        }
        err = look ? 0 : at_setxattr(to, to_name, k, value, (size_t)len, 0);
        if (err < 0 && err != -EOPNOTSUPP && err != -EPERM) {
            return err;
        }
        changed = 1;
    }
    return changed;
}

bool copy_same_xattrs(int from, const char *name, int to, const char *to_name) {
    return copy_xattrs(from, name, to, to_name, true) == 0;
}

/* The order matters: chown drops setuid bits and file capabilities, an ACL changes the mode, and
 * everything changes the times. */
int copy_attrs(int from, const char *name, int to, const char *to_name, struct copy_stat *stat) {
    struct stat src, dst;
    struct timespec times[2];
    bool chowned = false;
    int changed, err = at_stat(from, name, -1, &src);

    err = err < 0 ? err : at_stat(to, to_name, -1, &dst);
    if (err < 0) {
        return err;
    }
    if (src.st_uid != dst.st_uid || src.st_gid != dst.st_gid) {
        err = at_chown(to, to_name, -1, src.st_uid, src.st_gid);
        if (err < 0 && err != -EPERM) {
            return err;
        }
        chowned = true;
    }
    changed = copy_xattrs(from, name, to, to_name, false);
    if (changed < 0) {
        return changed;
    }
    if (!S_ISLNK(src.st_mode) && (chowned || changed || ((src.st_mode ^ dst.st_mode) & 07777))) {
        err = at_chmod(to, to_name, -1, src.st_mode);
        if (err < 0) {
            return err;
        }
        changed = 1;
    }
    times[0] = src.st_atim;
    times[1] = src.st_mtim;
    if (changed || chowned || !clock_same(&src.st_mtim, &dst.st_mtim)) {
        err = at_utimes(to, to_name, -1, times);
        if (err < 0) {
            return err;
        }
        stat->objects_changed++;
    }
    return 0;
}

static bool stopped(const struct copy_stat *stat) {
    return stat->go_on && !stat->go_on(stat->arg, stat);
}

static bool is_zero(const char *buf, size_t n) {
    return n > 0 && buf[0] == 0 && memcmp(buf, buf + 1, n - 1) == 0;
}

/* Writes what is not zero of the bytes at `at`. */
static ssize_t write_sparse(int out, const char *buf, size_t n, off_t at) {
    size_t from = 0;

    while (from < n) {
        size_t to = from, block;

        for (; to < n && (block = n - to < HOLE ? n - to : HOLE, !is_zero(buf + to, block));) {
            to += block;
        }
        if (to > from) {
            ssize_t w = io_pwrite(out, buf + from, to - from, at + (off_t)from);

            if (w < (ssize_t)(to - from)) {
                return w;
            }
        }
        from = to < n ? to + block : to;
    }
    return (ssize_t)n;
}

/* Into a file that is empty there. `skip_zeros`: leave a hole where all is zero. */
static int copy_range(int in, int out, off_t from, off_t to, char *buf, bool skip_zeros,
                      struct copy_stat *stat) {
    while (from < to) {
        size_t want = to - from < CHUNK ? (size_t)(to - from) : CHUNK;
        ssize_t n = io_pread(in, buf, want, from), w;

        if (n < 0) {
            return (int)n;
        }
        if (n == 0) {
            return 0;
        }
        w = skip_zeros ? write_sparse(out, buf, (size_t)n, from)
                       : io_pwrite(out, buf, (size_t)n, from);
        if (w < n) {
            return w < 0 ? (int)w : -ENOSPC;
        }
        stat->bytes_copied += (uint64_t)n;
        from += n;
        if (stopped(stat)) {
            return -EINTR;
        }
    }
    return 0;
}

/* FUSE filesystems like sshfs say that all is data. */
static bool hides_holes(int fd, off_t size) {
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 && fs.f_type == FUSE_SUPER_MAGIC &&
           lseek(fd, 0, SEEK_HOLE) >= size;
}

/* Data into an empty file, holes staying holes. */
static int copy_data(int in, int out, off_t size, struct copy_stat *stat) {
    scope_free char *buf = malloc(CHUNK);
    bool skip_zeros = hides_holes(in, size);
    off_t at = 0;

    if (!buf) {
        return -ENOMEM;
    }
    while (at < size) {
        off_t data = lseek(in, at, SEEK_DATA), hole;
        int err;

        if (data < 0 && errno == ENXIO) {
            break;
        }
        data = data < 0 ? at : data; /* no holes to be known there: all is data */
        hole = lseek(in, data, SEEK_HOLE);
        hole = hole < 0 ? size : hole;
        err = copy_range(in, out, data, hole, buf, skip_zeros, stat);
        if (err < 0) {
            return err;
        }
        at = hole;
    }
    return ftruncate(out, size) < 0 ? -errno : 0;
}

static int copy_file(int from, const char *name, int to, const char *to_name,
                     struct copy_stat *stat) {
    scope_fd int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    scope_fd int out = -1;
    struct stat st;
    int err;

    if (in < 0 || fstat(in, &st) < 0) {
        return -errno;
    }
    out = openat(to, to_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0) {
        return -errno;
    }
    err = copy_data(in, out, st.st_size, stat);
    if (err == 0 && close(steal_fd(&out)) < 0) {
        err = -errno;
    }
    return err;
}

static int copy_link(int from, const char *name, int to, const char *to_name) {
    char target[PATH_BYTES];
    ssize_t n = at_readlink(from, name, target, sizeof(target) - 1);

    if (n < 0) {
        return (int)n;
    }
    target[n] = '\0';
    return at_symlink(target, to, to_name);
}

int copy_new(int from, const char *name, int to, const char *to_name, struct copy_stat *stat) {
    struct stat st, there;
    int err;

    err = at_stat(from, name, -1, &st);
    if (err < 0) {
        return err;
    }
    if (at_stat(to, to_name, -1, &there) == 0) {
        return -EEXIST;
    }
    switch (st.st_mode & S_IFMT) {
    case S_IFREG:
        err = copy_file(from, name, to, to_name, stat);
        break;
    case S_IFDIR:
        err = at_prepare(to, to_name);
        err = err < 0 ? err : mkdirat(to, to_name, 0700) < 0 ? -errno : 0;
        break;
    case S_IFLNK:
        err = copy_link(from, name, to, to_name);
        break;
    default:
        err = at_mknod(to, to_name, st.st_mode, st.st_rdev);
    }
    err = err < 0 ? err : at_made(to, to_name, st.st_mode, NULL);
    err = err < 0 ? err : copy_attrs(from, name, to, to_name, stat);
    if (err < 0) {
        (void)at_unlink(to, to_name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0); /* a failed try */
    }
    return err;
}

/* Compares chunk by chunk and writes what differs. A hole in the source that is data in the target
 * is compared as zeros and left as data: the same bytes. */
static int equalize_data(int in, int out, off_t size, struct copy_stat *stat) {
    scope_free char *buf = malloc(2 * (size_t)CHUNK);

    if (!buf) {
        return -ENOMEM;
    }
    for (off_t at = 0; at < size; at += CHUNK) {
        ssize_t n = io_pread(in, buf, CHUNK, at), m;

        if (n <= 0) {
            return (int)n;
        }
        m = io_pread(out, buf + CHUNK, (size_t)n, at);
        if (m < 0) {
            return (int)m;
        }
        stat->bytes_compared += (uint64_t)n;
        if (m != n || memcmp(buf, buf + CHUNK, (size_t)n) != 0) {
            ssize_t w = io_pwrite(out, buf, (size_t)n, at);

            if (w < n) {
                return w < 0 ? (int)w : -ENOSPC;
            }
            stat->bytes_copied += (uint64_t)n;
        }
        if (stopped(stat)) {
            return -EINTR;
        }
    }
    return ftruncate(out, size) < 0 ? -errno : 0;
}

bool copy_differs(int from, const char *name, int to, const char *to_name) {
    scope_fd int a = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    scope_fd int b = openat(to, to_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    scope_free char *buf = malloc(2 * (size_t)CHUNK);
    off_t at = 0;
    ssize_t n = 1;

    while (buf && a >= 0 && b >= 0 && n > 0) {
        n = io_pread(a, buf, CHUNK, at);
        if (n < 0 || io_pread(b, buf + CHUNK, CHUNK, at) != n ||
            memcmp(buf, buf + CHUNK, (size_t)n) != 0) {
            return true;
        }
        at += n;
    }
    return n != 0;
}

void copy_holes(int in, int out, off_t size) {
    off_t hole = lseek(in, 0, SEEK_HOLE);

    while (hole >= 0 && hole < size) {
        off_t end = lseek(in, hole, SEEK_DATA), data = lseek(out, hole, SEEK_DATA);

        end = end < 0 ? size : end;
        if (data >= 0 && data < end &&
            fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole, end - hole) < 0) {
            return; /* it stays as it is: zeros */
        }
        hole = lseek(in, end, SEEK_HOLE);
    }
}

static int equalize_file(int from, const char *name, int to, const char *to_name, bool data,
                         struct copy_stat *stat) {
    scope_fd int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    scope_fd int out = openat(to, to_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct stat a, b;
    int err;

    if (in < 0 || out < 0 || fstat(in, &a) < 0 || fstat(out, &b) < 0) {
        return -errno;
    }
    if (!data && a.st_size == b.st_size) {
        return 0;
    }
    err = equalize_data(in, out, a.st_size, stat);
    copy_holes(in, out, a.st_size);
    if (err == 0 && fdatasync(out) < 0) {
        err = -errno;
    }
    if (err == 0 && close(steal_fd(&out)) < 0) {
        err = -errno;
    }
    return err;
}

static bool same_target(int from, const char *name, int to, const char *to_name) {
    char a[PATH_BYTES], b[PATH_BYTES];
    ssize_t n = at_readlink(from, name, a, sizeof(a)), m = at_readlink(to, to_name, b, sizeof(b));

    return n >= 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

static int replace_new(int from, const char *name, int to, const char *to_name,
                       struct copy_stat *stat) {
    int err = at_unlink(to, to_name, 0);

    return err < 0 ? err : copy_new(from, name, to, to_name, stat);
}

int copy_equalize(int from, const char *name, int to, const char *to_name, bool data,
                  struct copy_stat *stat) {
    struct stat a, b;
    int err = at_stat(from, name, -1, &a);

    stat->objects_compared++;
    err = err < 0 ? err : at_stat(to, to_name, -1, &b);
    if (err < 0) {
        return err;
    }
    switch (a.st_mode & S_IFMT) {
    case S_IFREG:
        err = equalize_file(from, name, to, to_name, data || !copy_same_stat(&a, &b), stat);
        break;
    case S_IFLNK:
        if (!same_target(from, name, to, to_name)) {
            return replace_new(from, name, to, to_name, stat);
        }
        break;
    case S_IFCHR:
    case S_IFBLK:
        if (a.st_rdev != b.st_rdev) {
            return replace_new(from, name, to, to_name, stat);
        }
        break;
    default:
        break;
    }
    return err < 0 ? err : copy_attrs(from, name, to, to_name, stat);
}
