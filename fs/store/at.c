/* Names: making, moving and removing objects. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"
#include "store/acl.h"
#include "store/at_int.h"

/* A new object: what its name stood for is forgotten. */
static int forget(const struct spot *s) {
    return s->side ? side_drop(s->side, s->path) : 0;
}

int at_symlink(const char *target, int dir, const char *name) {
    struct side_xattr x = {TARGET_KEY, strlen(TARGET_KEY), (const uint8_t *)target, strlen(target)};
    struct kept k = {.bytes = NULL};
    struct spot s;
    int err = spot_change(dir, name, -1, &s);

    err = err < 0 ? err : result(symlinkat(target, dir, name));
    err = err < 0 ? err : forget(&s);
    if (err < 0 || !lacks(&s, STORE_SYMLINK)) {
        return err;
    }
    err = kept_replace(&k, TARGET_KEY, &x);
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
        found = side_xattr_find(&k.attr, TARGET_KEY, &x);
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
    if (err < 0 || !side_xattr_find(&parent.attr, ACL_DEFAULT, &x)) {
        kept_free(&parent);
        return err;
    }
    err = kept_edit(s, &k);
    if (err == 0 && S_ISDIR(mode)) {
        copy = (struct side_xattr){ACL_DEFAULT, strlen(ACL_DEFAULT), x.value, x.value_bytes};
        err = kept_replace(&k, ACL_DEFAULT, &copy);
    }
    *ret_mode = acl_inherit(parent.bytes + (x.value - parent.attr.xattrs), x.value_bytes, mode);
    if (err == 0 && !acl_is_mode(x.value, x.value_bytes)) {
        copy = (struct side_xattr){ACL_ACCESS, strlen(ACL_ACCESS), x.value, x.value_bytes};
        err = kept_replace(&k, ACL_ACCESS, &copy);
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
    if (!lacks(s, STORE_ACL) && at_getxattr(dir, ".", ACL_DEFAULT, NULL, 0) > 0) {
        return 0; /* the store gave it what that says */
    }
    mode = inherit_setgid(mode, &above, gid, who);
    err = lacks(s, STORE_ACL) ? inherit_acl(dir, s, mode, &mode) : 0;
    if (err == 0) {
        mode &= ~who->umask;
    }
    return err < 0 ? err : at_set_mode(s, dir, name, -1, mode);
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

    return at_stat_there(dir, name, -1, &st) == 0 && S_ISDIR(st.st_mode);
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
