/* Files of ours, through the volume below. Buffers lie on the heap and go to fiber_orphan(): a store
 * that was given up may still use them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fiber.h"
#include "snap/snap_int.h"

void snap_log_name(uint32_t epoch, char ret_name[NAME_BYTES]) {
    (void)snprintf(ret_name, NAME_BYTES, "%u.log", epoch);
}

void snap_kept_name(uint64_t number, char ret_name[NAME_BYTES]) {
    (void)snprintf(ret_name, NAME_BYTES, "%llu", (unsigned long long)number);
}

void snap_anchor_name(uint64_t number, char ret_name[NAME_BYTES]) {
    (void)snprintf(ret_name, NAME_BYTES, "a%llu", (unsigned long long)number);
}

void snap_forget(struct snap *s, struct obj *obj) {
    if (obj) {
        s->next->ops->forget(s->next, obj, 1);
    }
}

int snap_file_open(struct snap *s, struct obj *dir, const char *name, int flags,
                   struct snap_file *ret_file) {
    struct vol_entry e;
    int err = s->next->ops->lookup(s->next, dir, name, &e);

    if (err < 0) {
        return err;
    }
    err = S_ISREG(e.attr.st_mode)
              ? s->next->ops->open(s->next, e.obj, flags, &cred_self, &ret_file->h)
              : -HFE_CORRUPT;
    if (err < 0) {
        snap_forget(s, e.obj);
        return err;
    }
    ret_file->obj = e.obj;
    return 0;
}

int snap_file_create(struct snap *s, struct obj *dir, const char *name,
                     struct snap_file *ret_file) {
    const struct vol_new new = {.mode = S_IFREG | 0600, .cred = &cred_self};
    struct vol_entry e;
    int err = s->next->ops->create(s->next, dir, name, &new, O_RDWR, &e, &ret_file->h);

    if (err == 0) {
        ret_file->obj = e.obj;
    }
    return err;
}

void snap_file_close(struct snap *s, struct snap_file *file) {
    if (file->obj) {
        (void)s->next->ops->close(s->next, file->obj, file->h); /* it was synced, if that matters */
        snap_forget(s, file->obj);
        file->obj = NULL;
    }
}

int snap_read(struct snap *s, struct obj *obj, struct vol_handle h, uint64_t off, size_t n,
              uint8_t **ret_buf, size_t *ret_n) {
    unsigned losses = fiber_losses();
    uint8_t *buf = malloc(n > 0 ? n : 1);
    size_t got = 0;
    ssize_t r = 1;

    while (buf && got < n && r > 0) {
        size_t part = n - got < IO_BYTES_MAX ? n - got : IO_BYTES_MAX;

        r = s->next->ops->read(s->next, obj, h, buf + got, part, (off_t)(off + got));
        if (fiber_losses() != losses) { /* who was given up may still write into it */
            losses = fiber_losses();
            fiber_orphan(buf);
            buf = malloc(n);
            got = 0;
            r = 1;
            continue;
        }
        got += r > 0 ? (size_t)r : 0;
    }
    if (!buf || r < 0) {
        free(buf);
        return buf ? (int)r : -ENOMEM;
    }
    *ret_buf = buf;
    *ret_n = got;
    return 0;
}

int snap_write(struct snap *s, const struct snap_file *file, const uint8_t *bytes, size_t n,
               uint64_t off) {
    size_t done = 0;

    while (done < n) {
        size_t part = n - done < IO_BYTES_MAX ? n - done : IO_BYTES_MAX;
        ssize_t r = s->next->ops->write(s->next, file->obj, file->h, bytes + done, part,
                                        (off_t)(off + done), &cred_self);

        if (r <= 0) {
            return r < 0 ? (int)r : -EIO;
        }
        done += (size_t)r;
    }
    return 0;
}

int snap_sync_folder(struct snap *s, struct obj *dir) {
    struct vol_handle h;
    int err = s->next->ops->open(s->next, dir, O_RDONLY | O_DIRECTORY, &cred_self, &h);

    if (err < 0) {
        return err;
    }
    err = s->next->ops->fsync(s->next, dir, h, false);
    (void)s->next->ops->close(s->next, dir, h); /* only synced through it */
    return err;
}

/* One attribute, appended to *items. */
static int add_xattr(struct snap *s, struct obj *obj, const char *key, uint8_t **items,
                     uint32_t *bytes) {
    uint8_t *value = malloc(XATTR_BYTES_MAX), *grown;
    ssize_t n = value ? s->next->ops->getxattr(s->next, obj, key, value, XATTR_BYTES_MAX) : -ENOMEM;
    struct snap_xattr x = {.key = key,
                           .key_bytes = (uint8_t)strnlen(key, UINT8_MAX),
                           .value = value,
                           .value_bytes = n > 0 ? (uint32_t)n : 0};
    size_t size = n < 0 ? 0 : snap_xattr_put(&x, NULL);
    int err = n == -ENODATA ? 0 : n < 0 ? (int)n : 0;

    if (size > 0 && *bytes + size > SNAP_XATTR_BYTES_MAX) {
        err = -E2BIG;
    } else if (size > 0) {
        grown = realloc(*items, *bytes + size);
        if (grown) {
            *items = grown;
            *bytes += (uint32_t)snap_xattr_put(&x, grown + *bytes);
        }
        err = grown ? 0 : -ENOMEM;
    }
    fiber_orphan(value);
    return err;
}

int snap_get_xattrs(struct snap *s, struct obj *obj, uint8_t **ret_items, uint32_t *ret_bytes) {
    char *list = malloc(XATTR_BYTES_MAX + 1);
    ssize_t n = list ? s->next->ops->listxattr(s->next, obj, list, XATTR_BYTES_MAX) : -ENOMEM;
    uint8_t *items = NULL;
    uint32_t bytes = 0;
    int err = n == -EOPNOTSUPP ? 0 : n < 0 ? (int)n : 0;

    for (ssize_t at = 0; err == 0 && at < n; at += (ssize_t)strlen(list + at) + 1) {
        list[n] = '\0';
        err = add_xattr(s, obj, list + at, &items, &bytes);
    }
    fiber_orphan(list);
    if (err < 0) {
        free(items);
        return err;
    }
    *ret_items = items;
    *ret_bytes = bytes;
    return 0;
}

/* --- lists of numbers --- */

void numbers_add(struct numbers *n, uint64_t number) {
    if (n->n == n->room) {
        size_t room = n->room * 2 + 64;
        uint64_t *list = realloc(n->list, room * sizeof(*list));

        if (!list) {
            n->failed = true;
            return;
        }
        n->list = list;
        n->room = room;
    }
    n->list[n->n++] = number;
}

struct reading {
    uint64_t (*number_of)(const char *name);
    struct numbers *numbers;
};

static bool add_name(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    struct reading *r = arg;
    uint64_t number = r->number_of(name);

    (void)ino;
    (void)type;
    (void)next;
    if (number != 0) {
        numbers_add(r->numbers, number);
    }
    return !r->numbers->failed;
}

int snap_read_numbers(struct snap *s, struct obj *folder, uint64_t (*number_of)(const char *name),
                      struct numbers *numbers) {
    struct reading r = {number_of, numbers};
    struct vol_handle h;
    int err = s->next->ops->opendir(s->next, folder, &h);

    if (err == 0) {
        err = s->next->ops->readdir(s->next, folder, h, 0, add_name, &r);
        (void)s->next->ops->closedir(s->next, folder, h); /* only read */
    }
    return numbers->failed ? -ENOMEM : err;
}
