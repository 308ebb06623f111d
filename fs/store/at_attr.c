/* Attributes and xattrs of one object. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/acl.h"
#include "store/at_int.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

int at_stat_there(int dir, const char *name, int fd, struct stat *ret_attr) {
    return result(fd >= 0 ? fstat(fd, ret_attr)
                          : fstatat(dir, name, ret_attr, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT));
}

/* The kernel does not know that two names are one file: what it remembers of this one may be old. */
static void ask_anew(int dir, const char *name) {
    struct statx sx;

    (void)statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_FORCE_SYNC,
                STATX_BASIC_STATS, &sx);
}

int at_stat(int dir, const char *name, int fd, struct stat *ret_attr) {
    struct spot s;
    struct stat attr;
    int err = spot_get(dir, name, fd, &s);

    if (err == 0 && lacks(&s, STORE_HARDLINK) && side_has_links(s.side, s.path)) {
        ask_anew(dir, name);
    }
    err = err < 0 ? err : at_stat_there(dir, name, fd, &attr);
    if (err < 0) {
        return err;
    }
    if (s.side) {
        side_overlay(s.side, s.path, &attr);
    }
    *ret_attr = attr;
    return 0;
}

/* Is it a symlink whose attributes the store would take for those of what it points to? */
static bool is_blind_link(const struct spot *s, int dir, const char *name, int fd) {
    struct stat st;

    return fd < 0 && lacks(s, STORE_LINK_ATTR) && at_stat_there(dir, name, -1, &st) == 0 &&
           S_ISLNK(st.st_mode);
}

/* chmod that does not follow a symlink somebody planted: fchmodat2(2), Linux 6.6; before that
 * glibc takes the way through /proc/self/fd. */
static int chmod_nofollow(int dir, const char *name, int fd, mode_t mode) {
    if (fd >= 0) {
        return result(fchmod(fd, mode));
    }
    if (syscall(SYS_fchmodat2, dir, name, mode, AT_SYMLINK_NOFOLLOW) == 0) {
        return 0;
    }
    return errno == ENOSYS ? result(fchmodat(dir, name, mode, AT_SYMLINK_NOFOLLOW)) : -errno;
}

static int keep_mode(const struct spot *s, mode_t mode, mode_t there) {
    uint32_t has = mode != there ? SIDE_MODE : 0;
    struct kept k;
    int err = kept_edit(s, &k);

    if (err < 0) {
        return err;
    }
    if ((k.attr.has & SIDE_MODE) != has || (has && k.attr.mode != mode)) {
        k.attr.has = (k.attr.has & ~(uint32_t)SIDE_MODE) | has;
        k.attr.mode = has ? mode : 0;
        err = kept_put(s, &k);
    }
    kept_free(&k);
    return err;
}

int at_set_mode(const struct spot *s, int dir, const char *name, int fd, mode_t mode) {
    struct stat st;
    mode_t there;
    int err;

    mode &= 07777;
    if (!lacks(s, STORE_CHOWN)) {
        return chmod_nofollow(dir, name, fd, mode);
    }
    err = at_stat_there(dir, name, fd, &st);
    if (err < 0) {
        return err;
    }
    there = S_ISDIR(st.st_mode) ? (mode & 01777) | 0700 : (mode & 0777) | 0600;
    err = (st.st_mode & 07777) != there ? chmod_nofollow(dir, name, fd, there) : 0;
    return err < 0 ? err : keep_mode(s, mode, there);
}

/* The kept access ACL, changed as chmod(2) does. */
static int chmod_kept(const struct spot *s, mode_t mode) {
    struct side_xattr x;
    struct kept k;
    int err = kept_edit(s, &k);

    if (err < 0) {
        return err;
    }
    if (side_xattr_find(&k.attr, ACL_ACCESS, &x)) {
        acl_chmod(k.bytes + (x.value - k.attr.xattrs), x.value_bytes, mode);
        err = kept_put(s, &k);
    }
    kept_free(&k);
    return err;
}

int at_chmod(int dir, const char *name, int fd, mode_t mode) {
    struct spot s;
    int err = spot_change(dir, name, fd, &s);

    err = err < 0 ? err : at_set_mode(&s, dir, name, fd, mode);
    return err == 0 && lacks(&s, STORE_ACL) ? chmod_kept(&s, mode) : err;
}

static int keep_owner(const struct spot *s, const struct stat *now, uid_t uid, gid_t gid) {
    struct kept k;
    int err = kept_edit(s, &k);

    if (err < 0) {
        return err;
    }
    k.attr.has |= SIDE_OWNER;
    k.attr.uid = uid == (uid_t)-1 ? now->st_uid : uid;
    k.attr.gid = gid == (gid_t)-1 ? now->st_gid : gid;
    err = kept_put(s, &k);
    kept_free(&k);
    return err;
}

/* As chown(2) does, but for folders and symlinks. */
static int drop_privileges(const struct spot *s, int dir, const char *name, int fd,
                           const struct stat *before) {
    mode_t drop = S_ISUID | (before->st_mode & S_IXGRP ? S_ISGID : 0);

    if (S_ISDIR(before->st_mode) || S_ISLNK(before->st_mode) || !(before->st_mode & drop)) {
        return 0;
    }
    return at_set_mode(s, dir, name, fd, before->st_mode & ~drop);
}

int at_chown(int dir, const char *name, int fd, uid_t uid, gid_t gid) {
    struct stat now;
    struct spot s;
    int err = spot_change(dir, name, fd, &s);

    if (err < 0) {
        return err;
    }
    if (!lacks(&s, STORE_CHOWN) && !is_blind_link(&s, dir, name, fd)) {
        err = result(fd >= 0 ? fchown(fd, uid, gid)
                             : fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW));
    } else {
        err = at_stat(dir, name, fd, &now);
        err = err < 0 ? err : keep_owner(&s, &now, uid, gid);
        err = err < 0 ? err : drop_privileges(&s, dir, name, fd, &now);
    }
    return err < 0 || !s.side ? err : at_written(dir, name, fd);
}

static int keep_mtime(const struct spot *s, const struct timespec *mtime) {
    struct kept k;
    int err = kept_edit(s, &k);

    if (err < 0) {
        return err;
    }
    if (!(k.attr.has & SIDE_MTIME) || memcmp(&k.attr.mtime, mtime, sizeof(*mtime)) != 0) {
        k.attr.has |= SIDE_MTIME;
        k.attr.mtime = *mtime;
        err = kept_put(s, &k);
    }
    kept_free(&k);
    return err;
}

int at_utimes(int dir, const char *name, int fd, const struct timespec times[2]) {
    struct spot s;
    int err = spot_change(dir, name, fd, &s);
    bool blind = err == 0 && is_blind_link(&s, dir, name, fd);

    if (err == 0 && !blind) {
        err = result(fd >= 0 ? futimens(fd, times)
                             : utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW));
    }
    return err == 0 && (blind || lacks(&s, STORE_TIME_NS)) && times[1].tv_nsec >= 0 &&
                   times[1].tv_nsec < 1000000000
               ? keep_mtime(&s, &times[1])
               : err;
}

/* --- xattrs --- */

static bool starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Is this attribute kept aside? */
static bool aside(const struct spot *s, const char *key) {
    return lacks(s, starts_with(key, "system.posix_acl_") ? STORE_ACL
                    : starts_with(key, "user.")           ? STORE_XATTR_USER
                                                          : STORE_XATTR_TRUSTED);
}

/* There are no *at() calls for xattrs before Linux 6.13; /proc/self/fd is the way, and the l-calls
 * do not follow the last component. */
struct proc_path {
    char text[NAME_BYTES + 40];
};

static struct proc_path proc_path(int dir, const char *name) {
    struct proc_path p;

    (void)snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d/%s", dir, name);
    return p;
}

static ssize_t fitted(void *buf, size_t size, const void *value, size_t n) {
    if (size == 0) {
        return (ssize_t)n;
    }
    if (n > size) {
        return -ERANGE;
    }
    memcpy(buf, value, n);
    return (ssize_t)n;
}

ssize_t at_getxattr(int dir, const char *name, const char *key, void *buf, size_t size) {
    struct side_xattr x;
    struct spot s;
    struct kept k;
    ssize_t n = spot_get(dir, name, -1, &s);

    if (n == 0 && !aside(&s, key)) {
        n = lgetxattr(proc_path(dir, name).text, key, buf, size);
        return n < 0 ? -errno : n;
    }
    n = n < 0 ? n : kept_get(&s, &k);
    if (n == 0) {
        n = side_xattr_find(&k.attr, key, &x) ? fitted(buf, size, x.value, x.value_bytes)
                                              : -ENODATA;
        kept_free(&k);
    }
    return n;
}

/* Adds the keys that are kept aside to the n bytes of `list`; XATTR_BYTES_MAX is its room. */
static ssize_t list_kept(const struct spot *s, char *list, size_t n) {
    struct side_xattr x;
    struct kept k;
    size_t at = 0;
    int err = kept_get(s, &k);

    if (err < 0) {
        return err;
    }
    for (ssize_t next; (next = side_xattr_next(&k.attr, at, &x)) > 0; at = (size_t)next) {
        if (side_xattr_is(&x, TARGET_KEY)) {
            continue;
        }
        if (n + x.key_bytes + 1 > XATTR_BYTES_MAX) {
            break;
        }
        memcpy(list + n, x.key, x.key_bytes);
        list[n + x.key_bytes] = '\0';
        n += x.key_bytes + 1;
    }
    kept_free(&k);
    return (ssize_t)n;
}

ssize_t at_listxattr(int dir, const char *name, char *buf, size_t size) {
    scope_free char *list = malloc(XATTR_BYTES_MAX);
    struct spot s;
    ssize_t n = list ? spot_get(dir, name, -1, &s) : -ENOMEM;

    if (n < 0) {
        return n;
    }
    n = llistxattr(proc_path(dir, name).text, list, XATTR_BYTES_MAX);
    if (n < 0 && errno == EOPNOTSUPP && s.side) {
        n = 0;
    }
    n = n < 0 ? -errno : s.side ? list_kept(&s, list, (size_t)n) : n;
    return n < 0 ? n : fitted(buf, size, list, (size_t)n);
}

/* An ACL gives the mode, and is not kept if that says it all. */
static int set_access_acl(const struct spot *s, int dir, const char *name, const void *value,
                          size_t size, bool *ret_all) {
    struct stat st;
    int err = at_stat(dir, name, -1, &st);

    *ret_all = acl_is_mode(value, size);
    return err < 0 ? err : at_set_mode(s, dir, name, -1, acl_mode(value, size, st.st_mode));
}

/* May it be set, and is there room for it in one object's list? */
static int check_set(const struct spot *s, const struct side_xattr *x, const char *key, int flags) {
    struct side_xattr old;
    struct kept k;
    size_t bytes;
    bool there;
    int err = kept_get(s, &k);

    if (err < 0) {
        return err;
    }
    there = side_xattr_find(&k.attr, key, &old);
    bytes = k.attr.xattr_bytes + side_xattr_put(x, NULL) - (there ? side_xattr_put(&old, NULL) : 0);
    kept_free(&k);
    return there && (flags & XATTR_CREATE)     ? -EEXIST
           : !there && (flags & XATTR_REPLACE) ? -ENODATA
           : bytes > XATTR_BYTES_MAX           ? -ENOSPC
                                               : 0;
}

int at_setxattr(int dir, const char *name, const char *key, const void *value, size_t size,
                int flags) {
    struct side_xattr x = {key, strlen(key), value, size};
    bool in_mode = false;
    struct spot s;
    struct kept k;
    int err = spot_change(dir, name, -1, &s);

    if (err == 0 && !aside(&s, key)) {
        return result(lsetxattr(proc_path(dir, name).text, key, value, size, flags));
    }
    err = err < 0 ? err : check_set(&s, &x, key, flags);
    if (err == 0 && strcmp(key, ACL_ACCESS) == 0) {
        err = set_access_acl(&s, dir, name, value, size, &in_mode);
    }
    err = err < 0 ? err : kept_edit(&s, &k);
    if (err < 0) {
        return err;
    }
    err = kept_replace(&k, key, in_mode ? NULL : &x);
    err = err < 0 ? err : kept_put(&s, &k);
    kept_free(&k);
    return err;
}

int at_removexattr(int dir, const char *name, const char *key) {
    struct side_xattr old;
    struct spot s;
    struct kept k;
    int err = spot_remove(dir, name, &s);

    if (err == 0 && !aside(&s, key)) {
        return result(lremovexattr(proc_path(dir, name).text, key));
    }
    err = err < 0 ? err : kept_edit(&s, &k);
    if (err < 0) {
        return err;
    }
    err = side_xattr_find(&k.attr, key, &old) ? kept_replace(&k, key, NULL) : -ENODATA;
    err = err < 0 ? err : kept_put(&s, &k);
    kept_free(&k);
    return err;
}

/* Under the object's path as it is now: a rename may have come between. */
static int drop_capability(const struct spot *s, int dir, const char *name, int fd,
                           bool *ret_again) {
    struct spot now;
    struct side_xattr x;
    struct kept k;
    int err = kept_edit(s, &k);

    if (err < 0) {
        return err;
    }
    err = spot_get(dir, name, fd, &now);
    *ret_again = err == 0 && (now.side != s->side || strcmp(now.path, s->path) != 0);
    if (err == 0 && !*ret_again && side_xattr_find(&k.attr, SIDE_CAPABILITY, &x)) {
        err = kept_replace(&k, SIDE_CAPABILITY, NULL);
        err = err < 0 ? err : kept_put(s, &k);
    }
    kept_free(&k);
    return err;
}

bool at_has_name(int fd) {
    struct spot s;

    return spot_get(-1, "", fd, &s) == 0 && s.side;
}

int at_written(int dir, const char *name, int fd) {
    bool again = true;
    struct spot s;
    int err = 0;

    while (err == 0 && again) {
        err = spot_get(dir, name, fd, &s);
        if (err < 0 || !s.side || !side_has_capabilities(s.side)) {
            return err;
        }
        err = side_prepare(s.side, true);
        err = err < 0 ? err : drop_capability(&s, dir, name, fd, &again);
    }
    return err;
}
