/* What a folder's filesystem can do, found by trying. Every result is kept in the superblock. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "store/store.h"

const struct store_cap_info store_cap_table[STORE_CAPS] = {
    {STORE_HARDLINK, "hard links", "which names are one file is kept in its side file"},
    {STORE_XATTR_USER, "user xattrs", "they are kept in its side file"},
    {STORE_XATTR_TRUSTED, "trusted and security xattrs",
     "file capabilities and labels are kept in its side file"},
    {STORE_ACL, "POSIX ACLs", "they are kept in its side file"},
    {STORE_STABLE_INO, "stable inode numbers", "another store gives the numbers that users see"},
    {STORE_TIME_NS, "nanosecond times", "the parts of seconds are kept in its side file"},
    {STORE_CHOWN, "owners", "its files belong to one user; the owners are kept in its side file"},
    {STORE_MKNOD, "devices and FIFOs", "they are empty files there, and kept in its side file"},
    {STORE_PUNCH_HOLE, "punching holes", "holes cannot be punched in the volume"},
    {STORE_REFLINK, "reflinks", "copies inside the store move every byte"},
    {STORE_NOREPLACE, "rename without replacing",
     "renameat2(RENAME_NOREPLACE) fails in the volume"},
    {STORE_EXCHANGE, "exchanging names", "renameat2(RENAME_EXCHANGE) fails in the volume"},
    {STORE_FSYNC_DIR, "fsync of folders",
     "names made in the last seconds before its power cut may be missing"},
    {STORE_SYNCFS, "syncfs", "only fsync of a file proves it stable"},
    {STORE_RENAME_OVER, "atomic rename over a file", "cannot be a store"},
    {STORE_FSYNC, "durable fsync of files", "cannot be a store"},
    {STORE_LINK_BLIND, "several names for one file", "hard links cannot be made in the volume"},
    {STORE_LINK_ATTR, "owners and times of symlinks", "they are kept in its side file"},
    {STORE_SYMLINK, "symlinks to anywhere", "where they point to is kept in its side file"},
};

struct probe {
    int dir;
    int fd; /* the file "a", one page long */
    bool remote;
};

static bool touch(const struct probe *p, const char *name) {
    scope_fd int fd = openat(p->dir, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

    return fd >= 0;
}

static bool has_hardlink(const struct probe *p) {
    struct stat st;

    return linkat(p->dir, "a", p->dir, "l", 0) == 0 && fstatat(p->dir, "a", &st, 0) == 0 &&
           st.st_nlink == 2;
}
static bool has_link_blind(const struct probe *p) {
    scope_fd int fd = openat(p->dir, "l", O_RDONLY | O_CLOEXEC); /* has_hardlink() made it */
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0;
}
/* A server that follows the link would change a file of its own. */
static bool has_link_attr(const struct probe *p) {
    struct timespec t[2] = {{.tv_sec = 1234567000}, {.tv_sec = 1234567000}};
    struct stat link, file;

    return symlinkat("t", p->dir, "s") == 0 && touch(p, "t") &&
           utimensat(p->dir, "s", t, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstatat(p->dir, "s", &link, AT_SYMLINK_NOFOLLOW) == 0 &&
           link.st_mtim.tv_sec == 1234567000 && fstatat(p->dir, "t", &file, 0) == 0 &&
           file.st_mtim.tv_sec != 1234567000;
}
static bool has_symlink(const struct probe *p) {
    static const char target[] = "/../no where/";
    char buf[sizeof(target)];

    return symlinkat(target, p->dir, "u") == 0 &&
           readlinkat(p->dir, "u", buf, sizeof(buf)) == sizeof(target) - 1 &&
           memcmp(buf, target, sizeof(target) - 1) == 0;
}
static bool has_xattr_user(const struct probe *p) {
    return fsetxattr(p->fd, "user.holdfast.probe", "1", 1, 0) == 0;
}
static bool has_xattr_trusted(const struct probe *p) {
    return fsetxattr(p->fd, "trusted.holdfast.probe", "1", 1, 0) == 0;
}
static bool has_acl(const struct probe *p) {
    /* version 2: user::rw- user:1:r-- group::r-- mask::r-- other::--- (acl(5), xattr form) */
    static const unsigned char acl[] = {
        2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,   4,
        0, 1, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16,  0,
        4, 0, 255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255,
    };

    return fsetxattr(p->fd, "system.posix_acl_access", acl, sizeof(acl), 0) == 0;
}
static bool has_stable_ino(const struct probe *p) {
    (void)p;
    return !p->remote; /* FUSE gives numbers anew after it forgot; NFS and CIFS are not trusted */
}
static bool has_time_ns(const struct probe *p) {
    struct timespec t[2] = {{.tv_sec = 1234567890, .tv_nsec = 123456789},
                            {.tv_sec = 1234567890, .tv_nsec = 123456789}};
    struct stat st;

    return futimens(p->fd, t) == 0 && fstat(p->fd, &st) == 0 && st.st_mtim.tv_nsec == 123456789;
}
static bool has_chown(const struct probe *p) {
    struct stat st;

    return fchown(p->fd, 33, 33) == 0 && fstat(p->fd, &st) == 0 && st.st_uid == 33 &&
           st.st_gid == 33;
}
static bool has_mknod(const struct probe *p) {
    return mknodat(p->dir, "n", S_IFCHR | 0600, makedev(1, 3)) == 0 &&
           mknodat(p->dir, "f", S_IFIFO | 0600, 0) == 0;
}
static bool has_punch(const struct probe *p) {
    return fallocate(p->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0;
}
static bool has_reflink(const struct probe *p) {
    scope_fd int fd = openat(p->dir, "r", O_CREAT | O_RDWR | O_CLOEXEC, 0600);

    return fd >= 0 && ioctl(fd, FICLONE, p->fd) == 0;
}
static bool has_noreplace(const struct probe *p) {
    return touch(p, "x") && touch(p, "y") &&
           renameat2(p->dir, "x", p->dir, "y", RENAME_NOREPLACE) < 0 && errno == EEXIST;
}
static bool has_exchange(const struct probe *p) {
    return touch(p, "x") && touch(p, "y") &&
           renameat2(p->dir, "x", p->dir, "y", RENAME_EXCHANGE) == 0;
}
static bool has_fsync_dir(const struct probe *p) {
    scope_fd int fd = openat(p->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd >= 0 && fsync(fd) == 0;
}
static bool has_syncfs(const struct probe *p) {
    return !p->remote && syncfs(p->fd) == 0;
}
static bool has_rename_over(const struct probe *p) {
    return touch(p, "o1") && touch(p, "o2") && renameat(p->dir, "o1", p->dir, "o2") == 0;
}
static bool has_fsync(const struct probe *p) {
    return fsync(p->fd) == 0;
}

static const struct {
    enum store_cap cap;
    bool (*has)(const struct probe *);
} tests[STORE_CAPS] = {
    {STORE_HARDLINK, has_hardlink},
    {STORE_XATTR_USER, has_xattr_user},
    {STORE_XATTR_TRUSTED, has_xattr_trusted},
    {STORE_ACL, has_acl},
    {STORE_STABLE_INO, has_stable_ino},
    {STORE_TIME_NS, has_time_ns},
    {STORE_CHOWN, has_chown},
    {STORE_MKNOD, has_mknod},
    {STORE_PUNCH_HOLE, has_punch},
    {STORE_REFLINK, has_reflink},
    {STORE_NOREPLACE, has_noreplace},
    {STORE_EXCHANGE, has_exchange},
    {STORE_FSYNC_DIR, has_fsync_dir},
    {STORE_SYNCFS, has_syncfs},
    {STORE_RENAME_OVER, has_rename_over},
    {STORE_FSYNC, has_fsync},
    {STORE_LINK_BLIND, has_link_blind},
    {STORE_LINK_ATTR, has_link_attr},
    {STORE_SYMLINK, has_symlink},
};

/* Where a removed file was open, libfuse keeps it hidden in the folder until its release, which comes
 * after our close(2), or, if the two meet, for ever: so all that is there goes, again if need be. */
static void clear_away(int parent, const char *name) {
    enum { TRIES = 200, WAIT_MS = 10 };

    for (int i = 0; i < TRIES; i++) {
        int err = io_remove_tree(parent, name);

        if (err == 0 || err == -ENOENT) {
            return;
        }
        (void)poll(NULL, 0, WAIT_MS);
    }
}

static bool is_remote_fs(int fd) {
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0) {
        return true;
    }
    switch ((uint32_t)fs.f_type) {
    case FUSE_SUPER_MAGIC:
    case NFS_SUPER_MAGIC:
    case 0xFF534D42: /* cifs */
    case 0xFE534D42: /* smb2 */
        return true;
    default:
        return false;
    }
}

int store_probe(const char *folder, uint32_t *ret_caps, struct why *why) {
    static const char name[] = ".holdfast-probe";
    static const char page[4096] = {1};
    scope_fd int parent = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int dir = -1, fd = -1;
    struct probe p;
    uint32_t caps = 0;

    if (parent < 0) {
        return why_set(why, -errno, "cannot open the store folder %s: %s%s", folder,
                       error_words(-errno),
                       errno == ENOENT ? "; create it first (is its disk mounted?)" : "");
    }
    if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST) {
        return why_set(why, -errno, "cannot write to %s: %s", folder, error_words(-errno));
    }
    dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    fd = dir < 0 ? -1 : openat(dir, "a", O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, page, sizeof(page)) != (ssize_t)sizeof(page)) {
        int err = errno ? -errno : -ENOSPC;

        clear_away(parent, name);
        return why_set(why, err, "cannot write to %s: %s", folder, error_words(err));
    }
    p = (struct probe){.dir = dir, .fd = fd, .remote = is_remote_fs(fd)};
    for (int i = 0; i < STORE_CAPS; i++) {
        caps |= tests[i].has(&p) ? (uint32_t)tests[i].cap : 0;
    }
    (void)close(
        steal_fd(&fd)); /* FUSE filesystems keep a hidden file while a removed one is open */
    clear_away(parent, name);
    if ((caps & STORE_REQUIRED) != STORE_REQUIRED) {
        return why_set(
            why, -HFE_CAPABILITY,
            "%s cannot be a store: its filesystem has no %s; use a folder on another filesystem",
            folder, caps & STORE_FSYNC ? "atomic rename" : "durable fsync");
    }
    *ret_caps = caps;
    return 0;
}
