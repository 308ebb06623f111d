#include <errno.h>
#include <stdlib.h>

#include "store/at_int.h"

int spot_get(int dir, const char *name, int fd, struct spot *ret) {
    int n = fd >= 0 ? side_find(fd, ".", &ret->side, ret->path)
                    : side_find(dir, name, &ret->side, ret->path);

    if (n == -ENOENT && fd >= 0) {
        n = 0; /* an open file without a name: nothing is kept about it */
    }
    if (n <= 0) {
        ret->side = NULL;
    }
    return n < 0 ? n : 0;
}

int spot_change(int dir, const char *name, int fd, struct spot *ret) {
    int err = spot_get(dir, name, fd, ret);

    return err == 0 && ret->side ? side_prepare(ret->side, false) : err;
}

int spot_remove(int dir, const char *name, struct spot *ret) {
    int err = spot_get(dir, name, -1, ret);

    return err == 0 && ret->side ? side_prepare(ret->side, true) : err;
}

int kept_get(const struct spot *s, struct kept *ret) {
    ret->edit = NULL;
    return side_get(s->side, s->path, &ret->attr, &ret->bytes);
}

int kept_edit(const struct spot *s, struct kept *ret) {
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

void kept_free(struct kept *k) {
    free(k->bytes);
    if (k->edit) {
        side_edit_done(k->edit);
    }
}

int kept_replace(struct kept *k, const char *key, const struct side_xattr *add) {
    size_t room = k->attr.xattr_bytes + (add ? side_xattr_put(add, NULL) : 0), used = 0, at = 0;
    uint8_t *list = malloc(room + 1);
    struct side_xattr x;

    if (!list) {
        return -ENOMEM;
    }
    for (ssize_t n; (n = side_xattr_next(&k->attr, at, &x)) > 0; at = (size_t)n) {
        if (!side_xattr_is(&x, key)) {
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

int kept_put(const struct spot *s, const struct kept *k) {
    return side_set(s->side, s->path, &k->attr);
}
