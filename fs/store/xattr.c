/* Extended attributes and ACLs of one store. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/at.h"
#include "store/store_int.h"

static bool starts_with(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* XFS shows root each ACL a second time under its on-disk name. */
static bool hidden_xattr(const char *key) {
    return starts_with(key, "trusted.SGI_ACL_");
}

ssize_t store_getxattr(struct vol *v, struct obj *obj, const char *key, void *buf, size_t size) {
    struct store *st = store_of(v);
    struct place p;
    ssize_t n;

    if (hidden_xattr(key)) {
        return -ENODATA;
    }
    n = place_get(st, obj, &p);
    if (n == 0) {
        n = at_getxattr(p.fd, p.name, key, buf, size);
        place_put(st, &p);
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
    struct place p;
    ssize_t n;

    if (!all) {
        return -ENOMEM;
    }
    n = place_get(st, obj, &p);
    if (n < 0) {
        return n;
    }
    n = at_listxattr(p.fd, p.name, all, XATTR_BYTES_MAX);
    n = n < 0 ? n : (ssize_t)drop_hidden(all, (size_t)n);
    place_put(st, &p);
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
    struct place p;
    int err;

    if (hidden_xattr(key)) {
        return -EPERM;
    }
    err = place_get(st, obj, &p);
    if (err == 0) {
        if (acl) { /* as its owner, an ACL drops a setgid bit the owner may not give */
            cred_become(cred, true);
        }
        err = at_setxattr(p.fd, p.name, key, value, size, flags);
        if (acl) {
            cred_back();
        }
        place_put(st, &p);
    }
    return err;
}

int store_removexattr(struct vol *v, struct obj *obj, const char *key) {
    struct store *st = store_of(v);
    struct place p;
    int err = place_get(st, obj, &p);

    if (err == 0) {
        err = at_removexattr(p.fd, p.name, key);
        place_put(st, &p);
    }
    return err;
}
