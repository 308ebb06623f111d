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

static const char target_key[] = "symlink"; /* no xattr: those have a dot */
static const char acl_access[] = "system.posix_acl_access",
                  acl_default[] = "system.posix_acl_default";

/* The side file that knows an object, if there is one. */
struct spot {
    struct side *side; /* NULL: none */
    char path[PATH_BYTES];
};

static int spot_get(int dir, const char *name, struct spot *ret) {
    int n = side_find(dir, name, &ret->side, ret->path);

    if (n <= 0) {
        ret->side = NULL;
    }
    return n < 0 ? n : 0;
}

static bool lacks(const struct spot *s, uint32_t cap) {
    return s->side && side_lacks(s->side, cap);
}

/* --- what is kept, changed as a whole --- */

struct kept {
    struct side_attr attr;
    uint8_t *bytes; /* its xattrs, with room for one more of any size */
};

static int kept_get(const struct spot *s, struct kept *ret) {
    return side_get(s->side, s->path, &ret->attr, &ret->bytes);
}

static void kept_free(struct kept *k) {
    free(k->bytes);
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

int at_stat(int dir, const char *name, int fd, struct stat *ret_attr) {
    struct spot s;
    struct stat attr;
    int err = result(fd >= 0 ? fstat(fd, &attr)
                             : fstatat(dir, name, &attr, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT));

    err = err < 0 ? err : spot_get(dir, name, &s);
    if (err < 0) {
        return err;
    }
    if (s.side) {
        side_overlay(s.side, s.path, &attr);
    }
    *ret_attr = attr;
    return 0;
}

static int keep_owner(const struct spot *s, const struct stat *now, uid_t uid, gid_t gid) {
    struct kept k;
    int err = kept_get(s, &k);

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

/* Is it a symlink whose attributes the store would take for those of what it points to? */
static bool is_blind_link(const struct spot *s, int dir, const char *name) {
    struct stat st;

    return lacks(s, STORE_LINK_ATTR) &&
           fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0 &&
           S_ISLNK(st.st_mode);
}

int at_chown(int dir, const char *name, int fd, uid_t uid, gid_t gid) {
    struct stat now;
    struct spot s;
    int err = spot_get(dir, name, &s);

    if (err < 0) {
        return err;
    }
    if (!lacks(&s, STORE_CHOWN) && !is_blind_link(&s, dir, name)) {
        return result(fd >= 0 ? fchown(fd, uid, gid)
                              : fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW));
    }
    err = at_stat(dir, name, fd, &now);
    return err < 0 ? err : keep_owner(&s, &now, uid, gid);
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

/* The kept access ACL, changed as chmod(2) does. */
static int chmod_kept(const struct spot *s, mode_t mode) {
    struct side_xattr x;
    struct kept k;
    int err = kept_get(s, &k);

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
    int err = spot_get(dir, name, &s);

    err = err < 0 ? err : chmod_nofollow(dir, name, fd, mode & 07777);
    return err == 0 && lacks(&s, STORE_ACL) ? chmod_kept(&s, mode) : err;
}

static int keep_mtime(const struct spot *s, const struct timespec *mtime) {
    struct kept k;
    int err = kept_get(s, &k);

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
    int err = spot_get(dir, name, &s);
    bool blind = err == 0 && is_blind_link(&s, dir, name);

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
    ssize_t n = spot_get(dir, name, &s);

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
    ssize_t n = list ? spot_get(dir, name, &s) : -ENOMEM;

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
static int set_access_acl(int dir, const char *name, const void *value, size_t size,
                          bool *ret_all) {
    struct stat st;
    int err = at_stat(dir, name, -1, &st);

    *ret_all = acl_is_mode(value, size);
    return err < 0 ? err : chmod_nofollow(dir, name, -1, acl_mode(value, size, st.st_mode) & 07777);
}

int at_setxattr(int dir, const char *name, const char *key, const void *value, size_t size,
                int flags) {
    struct side_xattr x = {key, strlen(key), value, size}, old;
    bool in_mode = false;
    struct spot s;
    struct kept k;
    int err = spot_get(dir, name, &s);

    if (err == 0 && !aside(&s, key)) {
        return result(lsetxattr(proc_path(dir, name).text, key, value, size, flags));
    }
    err = err < 0 ? err : kept_get(&s, &k);
    if (err < 0) {
        return err;
    }
    if (flags & (XATTR_CREATE | XATTR_REPLACE)) {
        bool there = kept_find(&k, key, &old);

        err = there && (flags & XATTR_CREATE)     ? -EEXIST
              : !there && (flags & XATTR_REPLACE) ? -ENODATA
                                                  : 0;
    }
    if (err == 0 && strcmp(key, acl_access) == 0) {
        err = set_access_acl(dir, name, value, size, &in_mode);
    }
    err = err < 0 ? err : kept_replace(&k, key, in_mode ? NULL : &x);
    err = err < 0 ? err : kept_put(&s, &k);
    kept_free(&k);
    return err;
}

int at_removexattr(int dir, const char *name, const char *key) {
    struct side_xattr old;
    struct spot s;
    struct kept k;
    int err = spot_get(dir, name, &s);

    if (err == 0 && !aside(&s, key)) {
        return result(lremovexattr(proc_path(dir, name).text, key));
    }
    err = err < 0 ? err : kept_get(&s, &k);
    if (err < 0) {
        return err;
    }
    err = kept_find(&k, key, &old) ? kept_replace(&k, key, NULL) : -ENODATA;
    err = err < 0 ? err : kept_put(&s, &k);
    kept_free(&k);
    return err;
}

int at_written(int dir, const char *name) {
    static const char capability[] = "security.capability";
    struct spot s;
    int err = spot_get(dir, name, &s);

    if (err == 0 && s.side && side_has_capabilities(s.side)) {
        err = at_removexattr(dir, name, capability);
    }
    return err == -ENODATA ? 0 : err;
}

/* --- names --- */

int at_symlink(const char *target, int dir, const char *name) {
    struct side_xattr x = {target_key, strlen(target_key), (const uint8_t *)target, strlen(target)};
    struct kept k = {.bytes = NULL};
    struct spot s;
    int err = spot_get(dir, name, &s);

    err = err < 0 ? err : result(symlinkat(target, dir, name));
    if (err < 0 || !s.side) {
        return err;
    }
    err = lacks(&s, STORE_SYMLINK) ? kept_replace(&k, target_key, &x) : 0;
    err = err < 0 ? err : kept_put(&s, &k);
    kept_free(&k);
    return err;
}

ssize_t at_readlink(int dir, const char *name, char *buf, size_t size) {
    struct side_xattr x;
    struct spot s;
    struct kept k;
    bool found = false;
    ssize_t n = spot_get(dir, name, &s);

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
    int fd, err = spot_get(dir, name, &s);

    if (err == 0 && !lacks(&s, STORE_MKNOD)) {
        return result(mknodat(dir, name, mode, rdev));
    }
    if (err < 0) {
        return err;
    }
    fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 07777);
    err = result(fd < 0 ? fd : close(fd));
    return err < 0 ? err : side_set(s.side, s.path, &attr);
}

/* What a folder with a default ACL gives to what is made in it. */
static int inherit_acl(const struct spot *above, const struct spot *s, int dir, const char *name,
                       mode_t mode) {
    struct side_xattr x, copy;
    struct kept parent = {.bytes = NULL}, k;
    int err = kept_get(above, &parent);

    if (err < 0 || !kept_find(&parent, acl_default, &x)) {
        goto done;
    }
    err = kept_get(s, &k);
    if (err < 0) {
        goto done;
    }
    if (S_ISDIR(mode)) {
        copy = (struct side_xattr){acl_default, strlen(acl_default), x.value, x.value_bytes};
        err = kept_replace(&k, acl_default, &copy);
    }
    mode = acl_inherit(parent.bytes + (x.value - parent.attr.xattrs), x.value_bytes, mode);
    if (err == 0 && !acl_is_mode(x.value, x.value_bytes)) {
        copy = (struct side_xattr){acl_access, strlen(acl_access), x.value, x.value_bytes};
        err = kept_replace(&k, acl_access, &copy);
    }
    err = err < 0 ? err : kept_put(s, &k);
    err = err < 0 ? err : chmod_nofollow(dir, name, -1, mode & 07777);
    kept_free(&k);
done:
    kept_free(&parent);
    return err;
}

/* The filesystem below made it as the user it serves: it gets the owner it should have. */
static int give_owner(int dir, const char *name, mode_t mode, const struct cred *who) {
    struct stat above, st;
    gid_t gid;
    int err = at_stat(dir, ".", -1, &above);

    err = err < 0 ? err : at_stat(dir, name, -1, &st);
    if (err < 0) {
        return err;
    }
    gid = above.st_mode & S_ISGID ? above.st_gid : who->gid;
    if (st.st_uid == who->uid && st.st_gid == gid) {
        return 0;
    }
    err = at_chown(dir, name, -1, who->uid, gid);
    return err == 0 && !S_ISLNK(mode) && (st.st_mode & (S_ISUID | S_ISGID))
               ? chmod_nofollow(dir, name, -1, st.st_mode & 07777)
               : err;
}

int at_made(int dir, const char *name, mode_t mode, const struct cred *who) {
    struct spot s, above;
    int err = spot_get(dir, name, &s);

    if (err < 0 || !s.side) {
        return err;
    }
    if (S_ISREG(mode) || S_ISDIR(mode)) { /* the others were set anew when they were made */
        err = side_drop(s.side, s.path);  /* left by a crash */
    }
    if (err == 0 && who) {
        err = give_owner(dir, name, mode, who);
    }
    if (err == 0 && who && !S_ISLNK(mode) && lacks(&s, STORE_ACL)) {
        err = spot_get(dir, ".", &above);
        err = err < 0 ? err : inherit_acl(&above, &s, dir, name, mode);
    }
    return err;
}

int at_link(int dir, const char *name, int to_dir, const char *to_name) {
    struct spot s, to;
    int err = spot_get(dir, name, &s);

    err = err < 0 ? err : spot_get(to_dir, to_name, &to);
    err = err < 0 ? err : result(linkat(dir, name, to_dir, to_name, 0));
    return err == 0 && s.side ? side_link(s.side, s.path, to.path) : err;
}

int at_rename(int dir, const char *name, int to_dir, const char *to_name, unsigned flags) {
    struct spot s, to;
    int err = spot_get(dir, name, &s);

    err = err < 0 ? err : spot_get(to_dir, to_name, &to);
    if (err == 0) {
        err = result(flags ? renameat2(dir, name, to_dir, to_name, flags)
                           : renameat(dir, name, to_dir, to_name));
    }
    if (err < 0 || !s.side) {
        return err;
    }
    return flags & RENAME_EXCHANGE ? side_swap(s.side, s.path, to.path)
                                   : side_move(s.side, s.path, to.path);
}

int at_unlink(int dir, const char *name, int flags) {
    struct spot s;
    int err = spot_get(dir, name, &s);

    err = err < 0 ? err : result(unlinkat(dir, name, flags));
    return err == 0 && s.side ? side_drop(s.side, s.path) : err;
}

int at_remove_tree(int dir, const char *name) {
    struct spot s;
    int err = spot_get(dir, name, &s);

    err = err < 0 ? err : io_remove_tree(dir, name);
    return err == 0 && s.side ? side_drop(s.side, s.path) : err;
}
