#include "store/at.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "store/acl.h"
#include "store/side.h"
#include "store/store_int.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static const char capability_key[] = "security.capability";
static const char target_key[] = "symlink"; /* no xattr: those have a dot */
static const char acl_access[] = "system.posix_acl_access",
                  acl_default[] = "system.posix_acl_default";

/* The side file that knows an object, if there is one. */
struct spot {
    struct side *side; /* NULL: none */
    char path[PATH_BYTES];
};

/* `fd`: the open object, or -1. */
static int spot_get(int dir, const char *name, int fd, struct spot *ret) {
    int n = fd >= 0 ? side_find(fd, ".", &ret->side, ret->path)
                    : side_find(dir, name, &ret->side, ret->path);

    if (n <= 0) {
        ret->side = NULL;
    }
    return n < 0 && !(n == -ENOENT && fd >= 0) ? n
                                               : 0; /* an open file without a name has nothing */
}

/* The same, of an object that is about to be changed. */
static int spot_change(int dir, const char *name, int fd, struct spot *ret) {
    int err = spot_get(dir, name, fd, ret);

    return err == 0 && ret->side ? side_prepare(ret->side, false) : err;
}

/* ... that is about to be removed. */
static int spot_remove(int dir, const char *name, struct spot *ret) {
    int err = spot_get(dir, name, -1, ret);

    return err == 0 && ret->side ? side_prepare(ret->side, true) : err;
}

static bool lacks(const struct spot *s, uint32_t cap) {
    return s->side && side_lacks(s->side, cap);
}

/* --- what is kept, changed as a whole --- */

struct kept {
    struct side_attr attr;
    uint8_t *bytes;    /* its xattrs */
    struct side *edit; /* nobody else changes it meanwhile; NULL: it is only read */
};

static int kept_get(const struct spot *s, struct kept *ret) {
    ret->edit = NULL;
    return side_get(s->side, s->path, &ret->attr, &ret->bytes);
}

/* To be changed. On success kept_free() follows. */
static int kept_edit(const struct spot *s, struct kept *ret) {
    int err;

    side_edit(s->side);
    err = kept_get(s, ret);
    if (err < 0) {
        side_edit_done(s->side);
        return err;
    }
    ret->edit = s->side;
    return 0;
}

static void kept_free(struct kept *k) {
    free(k->bytes);
    if (k->edit) {
        side_edit_done(k->edit);
    }
}

static bool is_key(const struct side_xattr *x, const char *key) {
    return x->key_bytes == strlen(key) && memcmp(x->key, key, x->key_bytes) == 0;
}

static bool kept_find(const struct kept *k, const char *key, struct side_xattr *ret) {
    size_t at = 0;

    for (ssize_t n; (n = side_xattr_next(&k->attr, at, ret)) > 0; at = (size_t)n) {
        if (is_key(ret, key)) {
            return true;
        }
    }
    return false;
}

/* The list without `key`, and with `add` at its end (which may be NULL). */
static int kept_replace(struct kept *k, const char *key, const struct side_xattr *add) {
    size_t room = k->attr.xattr_bytes + (add ? side_xattr_put(add, NULL) : 0), used = 0, at = 0;
    uint8_t *list = malloc(room + 1);
    struct side_xattr x;

    if (!list) {
        return -ENOMEM;
    }
    for (ssize_t n; (n = side_xattr_next(&k->attr, at, &x)) > 0; at = (size_t)n) {
        if (!is_key(&x, key)) {
            used += side_xattr_put(&x, list + used);
        }
    }
    if (add) {
        used += side_xattr_put(add, list + used);
    }
    if (used > XATTR_BYTES_MAX) {
        free(list);
        return -ENOSPC; /* as a filesystem says that has no room for it */
    }
    free(k->bytes);
    k->bytes = list;
    k->attr.xattrs = list;
    k->attr.xattr_bytes = used;
    return 0;
}

static int kept_put(const struct spot *s, const struct kept *k) {
    return side_set(s->side, s->path, &k->attr);
}

/* --- attributes --- */

/* What the store itself says. */
static int stat_there(int dir, const char *name, int fd, struct stat *ret_attr) {
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
    err = err < 0 ? err : stat_there(dir, name, fd, &attr);
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

    return fd < 0 && lacks(s, STORE_LINK_ATTR) &&
           fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 &&
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

/* Where all files belong to one user, who is not root there, that user must be able to use them all;
 * and nothing is setuid for him. */
static int set_mode(const struct spot *s, int dir, const char *name, int fd, mode_t mode) {
    struct stat st;
    mode_t there;
    int err;

    mode &= 07777;
    if (!lacks(s, STORE_CHOWN)) {
        return chmod_nofollow(dir, name, fd, mode);
    }
    err = stat_there(dir, name, fd, &st);
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
    if (kept_find(&k, acl_access, &x)) {
        acl_chmod(k.bytes + (x.value - k.attr.xattrs), x.value_bytes, mode);
        err = kept_put(s, &k);
    }
    kept_free(&k);
    return err;
}

int at_chmod(int dir, const char *name, int fd, mode_t mode) {
    struct spot s;
    int err = spot_change(dir, name, fd, &s);

    err = err < 0 ? err : set_mode(&s, dir, name, fd, mode);
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
    return set_mode(s, dir, name, fd, before->st_mode & ~drop);
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
        n = kept_find(&k, key, &x) ? fitted(buf, size, x.value, x.value_bytes) : -ENODATA;
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
        if (is_key(&x, target_key)) {
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
    return err < 0 ? err : set_mode(s, dir, name, -1, acl_mode(value, size, st.st_mode));
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
    there = kept_find(&k, key, &old);
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
    if (err == 0 && strcmp(key, acl_access) == 0) {
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
    err = kept_find(&k, key, &old) ? kept_replace(&k, key, NULL) : -ENODATA;
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
    if (err == 0 && !*ret_again && kept_find(&k, capability_key, &x)) {
        err = kept_replace(&k, capability_key, NULL);
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

/* --- names --- */

/* A new object: what its name stood for is forgotten. */
static int forget(const struct spot *s) {
    return s->side ? side_drop(s->side, s->path) : 0;
}

int at_symlink(const char *target, int dir, const char *name) {
    struct side_xattr x = {target_key, strlen(target_key), (const uint8_t *)target, strlen(target)};
    struct kept k = {.bytes = NULL};
    struct spot s;
    int err = spot_change(dir, name, -1, &s);

    err = err < 0 ? err : result(symlinkat(target, dir, name));
    err = err < 0 ? err : forget(&s);
    if (err < 0 || !lacks(&s, STORE_SYMLINK)) {
        return err;
    }
    err = kept_replace(&k, target_key, &x);
    err = err < 0 ? err : kept_put(&s, &k);
    kept_free(&k);
    return err < 0 ? -EIO : 0;
}

ssize_t at_readlink(int dir, const char *name, char *buf, size_t size) {
    struct side_xattr x;
    struct spot s;
    struct kept k;
    bool found = false;
    ssize_t n = spot_get(dir, name, -1, &s);

    if (n == 0 && lacks(&s, STORE_SYMLINK)) {
        n = kept_get(&s, &k);
        if (n < 0) {
            return n;
        }
        found = kept_find(&k, target_key, &x);
        if (found) {
            n = (ssize_t)(x.value_bytes < size ? x.value_bytes : size);
            memcpy(buf, x.value, (size_t)n);
        }
        kept_free(&k);
    }
    if (n < 0 || found) {
        return n;
    }
    n = readlinkat(dir, name, buf, size);
    return n < 0 ? -errno : n;
}

int at_mknod(int dir, const char *name, mode_t mode, dev_t rdev) {
    struct side_attr attr = {.has = SIDE_TYPE, .type = mode & S_IFMT, .rdev = rdev};
    struct spot s;
    int fd, err = spot_change(dir, name, -1, &s);

    if (err < 0) {
        return err;
    }
    if (!lacks(&s, STORE_MKNOD)) {
        err = result(mknodat(dir, name, mode, rdev));
        return err < 0 ? err : forget(&s);
    }
    fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
    err = result(fd < 0 ? fd : close(fd));
    if (err < 0) {
        if (fd >= 0) {
            (void)unlinkat(dir, name, 0);
        }
        return err;
    }
    err = forget(&s);
    return err < 0 ? err : side_set(s.side, s.path, &attr);
}

/* What a folder with a default ACL gives to what is made in it; its mode, too. 1 if it has one. */
static int inherit_acl(int dir, const struct spot *s, mode_t mode, mode_t *ret_mode) {
    struct kept parent = {.bytes = NULL}, k = {.bytes = NULL};
    struct side_xattr x, copy;
    struct spot above;
    int err = spot_get(dir, ".", -1, &above);

    err = err < 0 ? err : kept_get(&above, &parent);
    if (err < 0 || !kept_find(&parent, acl_default, &x)) {
        kept_free(&parent);
        return err;
    }
    err = kept_edit(s, &k);
    if (err == 0 && S_ISDIR(mode)) {
        copy = (struct side_xattr){acl_default, strlen(acl_default), x.value, x.value_bytes};
        err = kept_replace(&k, acl_default, &copy);
    }
    *ret_mode = acl_inherit(parent.bytes + (x.value - parent.attr.xattrs), x.value_bytes, mode);
    if (err == 0 && !acl_is_mode(x.value, x.value_bytes)) {
        copy = (struct side_xattr){acl_access, strlen(acl_access), x.value, x.value_bytes};
        err = kept_replace(&k, acl_access, &copy);
    }
    err = err < 0 ? err : kept_put(s, &k);
    kept_free(&k);
    kept_free(&parent);
    return err < 0 ? err : 1;
}

/* inode_init_owner() in Linux: what the folder's setgid bit does to the mode. */
static mode_t inherit_setgid(mode_t mode, const struct stat *above, gid_t gid,
                             const struct cred *who) {
    if (!(above->st_mode & S_ISGID)) {
        return mode;
    }
    if (S_ISDIR(mode)) {
        return mode | S_ISGID;
    }
    return (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && who->uid != 0 &&
                   !cred_in_group(who, gid)
               ? mode & ~(mode_t)S_ISGID
               : mode;
}

/* The filesystem below made it as the user it serves, and by the umask it has. */
static int give_attrs(const struct spot *s, int dir, const char *name, mode_t mode,
                      const struct cred *who) {
    struct stat above, st;
    gid_t gid;
    int err = at_stat(dir, ".", -1, &above);

    err = err < 0 ? err : at_stat(dir, name, -1, &st);
    if (err < 0) {
        return err;
    }
    gid = above.st_mode & S_ISGID ? above.st_gid : who->gid;
    if (st.st_uid != who->uid || st.st_gid != gid) {
        err = at_chown(dir, name, -1, who->uid, gid);
    }
    if (err < 0 || S_ISLNK(mode)) {
        return err;
    }
    if (!lacks(s, STORE_ACL) && at_getxattr(dir, ".", acl_default, NULL, 0) > 0) {
        return 0; /* the store gave it what that says */
    }
    mode = inherit_setgid(mode, &above, gid, who);
    err = lacks(s, STORE_ACL) ? inherit_acl(dir, s, mode, &mode) : 0;
    if (err == 0) {
        mode &= ~who->umask;
    }
    return err < 0 ? err : set_mode(s, dir, name, -1, mode);
}

int at_prepare(int dir, const char *name) {
    struct spot s;

    return spot_change(dir, name, -1, &s);
}

int at_made(int dir, const char *name, mode_t mode, const struct cred *who) {
    struct spot s;
    int err = spot_get(dir, name, -1, &s);

    if (err == 0 && !s.side) {
        return 0;
    }
    if (err == 0 && (S_ISREG(mode) || S_ISDIR(mode))) { /* of the others it is done */
        err = forget(&s);
    }
    if (err == 0 && who) {
        err = give_attrs(&s, dir, name, mode, who);
    }
    return err < 0 ? -EIO : 0; /* it is there, and not as it should be */
}

/* Tells that names change, before they do. */
static int intend(enum side_kind kind, const struct spot *s, const struct spot *to,
                  uint64_t *ret_token) {
    *ret_token = 0;
    if (to && s->side != to->side) {
        return -EXDEV; /* one of the two is being let go */
    }
    return s->side ? side_intend(s->side, kind, s->path, to ? to->path : NULL, ret_token) : 0;
}

/* ... and after. */
static int settle(const struct spot *s, uint64_t token, int err) {
    int told = token != 0 ? side_settle(s->side, token, err == 0) : 0;

    return err < 0 ? err : told;
}

int at_link(int dir, const char *name, int to_dir, const char *to_name) {
    struct spot s, to;
    uint64_t token;
    int err = spot_change(dir, name, -1, &s);

    err = err < 0 ? err : spot_get(to_dir, to_name, -1, &to);
    err = err < 0 ? err : intend(SIDE_LINK, &s, &to, &token);
    return err < 0 ? err : settle(&s, token, result(linkat(dir, name, to_dir, to_name, 0)));
}

static bool is_folder(int dir, const char *name) {
    struct stat st;

    return stat_there(dir, name, -1, &st) == 0 && S_ISDIR(st.st_mode);
}

int at_rename(int dir, const char *name, int to_dir, const char *to_name, unsigned flags) {
    struct spot s, to;
    uint64_t token;
    int err = spot_remove(dir, name, &s);

    err = err < 0 ? err : spot_get(to_dir, to_name, -1, &to);
    if (err == 0 && s.side && (flags & RENAME_EXCHANGE)) {
        return -EINVAL; /* after a crash nobody could tell whether it was done */
    }
    err = err < 0 ? err : intend(SIDE_MOVE, &s, &to, &token);
    if (err < 0) {
        return err;
    }
    err = result(flags ? renameat2(dir, name, to_dir, to_name, flags)
                       : renameat(dir, name, to_dir, to_name));
    if (err == -EPERM && s.side && !flags && is_folder(to_dir, to_name)) {
        err = -ENOTEMPTY; /* SFTP has no word for it */
    }
    return settle(&s, token, err);
}

/* What was told before needs no more; else the little there is goes now. */
static int gone(const struct spot *s, uint64_t token, int err) {
    return token != 0 || err < 0 ? settle(s, token, err) : forget(s);
}

int at_unlink(int dir, const char *name, int flags) {
    struct spot s;
    uint64_t token;
    int err = spot_remove(dir, name, &s);

    err = err < 0 ? err : intend(SIDE_DROP, &s, NULL, &token);
    return err < 0 ? err : gone(&s, token, result(unlinkat(dir, name, flags)));
}

int at_remove_tree(int dir, const char *name) {
    struct spot s;
    uint64_t token;
    int err = spot_remove(dir, name, &s);

    err = err < 0 ? err : intend(SIDE_DROP, &s, NULL, &token);
    return err < 0 ? err : gone(&s, token, io_remove_tree(dir, name));
}
