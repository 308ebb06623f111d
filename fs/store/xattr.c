/* Extended attributes and ACLs of one store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "store/store_int.h"

/* There are no *at() calls for xattrs before Linux 6.13; /proc/self/fd is the way, and the l-calls
 * do not follow the last component. */
struct xattr_place {
    struct place place;
    char path[NAME_BYTES + 40];
};

static int xattr_place_get(struct store *st, struct obj *obj, struct xattr_place *ret) {
    int err = place_get(st, obj, &ret->place);

    if (err == 0) {
        (void)snprintf(ret->path, sizeof(ret->path), "/proc/self/fd/%d/%s", ret->place.fd,
                       ret->place.name);
    }
    return err;
}

static bool starts_with(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* XFS shows root each ACL a second time under its on-disk name. */
static bool hidden_xattr(const char *key) {
    return starts_with(key, "trusted.SGI_ACL_");
}

static uint32_t cap_for_xattr(const char *key) {
    return starts_with(key, "system.posix_acl_") ? STORE_ACL
           : starts_with(key, "user.")           ? STORE_XATTR_USER
                                                 : STORE_XATTR_TRUSTED;
}

ssize_t store_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf, size_t size) {
    struct store *st = store_of(v);
    struct xattr_place p;
    ssize_t n;

    if (hidden_xattr(key)) {
        return -ENODATA;
    }
    n = xattr_place_get(st, obj, &p);
    if (n == 0) {
        n = lgetxattr(p.path, key, buf, size);
        n = n < 0 ? -errno : n;
        place_put(st, &p.place);
    }
    return n;
}

static size_t drop_hidden(char *list, size_t n) {
    size_t kept = 0;

    for (size_t at = 0; at < n;) {
        size_t len = strlen(list + at) + 1;

        if (!hidden_xattr(list + at)) {
            memmove(list + kept, list + at, len);
            kept += len;
        }
        at += len;
    }
    return kept;
}

ssize_t store_listxattr(struct vol *v, struct obj *obj, char *buf, size_t size) {
    struct store *st = store_of(v);
    scope_free char *all = malloc(XATTR_BYTES_MAX);
    struct xattr_place p;
    ssize_t n;

    if (!all) {
        return -ENOMEM;
    }
    n = xattr_place_get(st, obj, &p);
    if (n < 0) {
        return n;
    }
    n = llistxattr(p.path, all, XATTR_BYTES_MAX);
    n = n < 0 ? -errno : (ssize_t)drop_hidden(all, (size_t)n);
    place_put(st, &p.place);
    if (n > 0 && size > 0) {
        if ((size_t)n > size) {
            return -ERANGE;
        }
        memcpy(buf, all, (size_t)n);
    }
    return n;
}

int store_setxattr(struct vol *v, struct obj *obj, const char *key, const void *value, size_t size,
                   int flags, const struct cred *cred) {
    struct store *st = store_of(v);
    bool acl = strcmp(key, "system.posix_acl_access") == 0;
    struct xattr_place p;
    int err;

    if (hidden_xattr(key)) {
        return -EPERM;
    }
    if (!(st->caps & cap_for_xattr(key))) {
        return -HFE_CAPABILITY;
    }
    err = xattr_place_get(st, obj, &p);
    if (err == 0) {
        if (acl) { /* as its owner, an ACL drops a setgid bit the owner may not give */
            cred_become(cred, true);
        }
        err = result(lsetxattr(p.path, key, value, size, flags));
        if (acl) {
            cred_back();
        }
        place_put(st, &p.place);
    }
    return err;
}

int store_removexattr(struct vol *v, struct obj *obj, const char *key) {
    struct store *st = store_of(v);
    struct xattr_place p;
    int err;

    if (!(st->caps & cap_for_xattr(key))) {
        return -HFE_CAPABILITY;
    }
    err = xattr_place_get(st, obj, &p);
    if (err == 0) {
        err = result(lremovexattr(p.path, key));
        place_put(st, &p.place);
    }
    return err;
}
