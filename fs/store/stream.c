/* Reading a folder of one store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_int.h"

/* A folder's stream: its entries as they were when reading began, so that positions stay valid
 * while entries come and go, and after this store was lost. */
struct stream {
    size_t len, room;
    size_t next;   /* the last position that was handed out: known to be the start of a record */
    bool fresh;    /* just read, and nothing handed out yet */
    char *records; /* struct linux_dirent64, as the kernel gave them */
};

static const struct dirent64 *record_at(const struct stream *s, size_t at) {
    return (const struct dirent64 *)(s->records + at);
}

/* The first record at or behind `pos`, which may be anything: seekdir(3) takes any number. */
static size_t record_start(const struct stream *s, uint64_t pos) {
    size_t at = 0;

    if (pos == s->next || pos >= s->len) {
        return pos < s->len ? (size_t)pos : s->len;
    }
    while (at < pos) {
        at += record_at(s, at)->d_reclen;
    }
    return at;
}

int store_opendir(struct vol *v, struct obj *dir, struct vol_handle *ret_handle) {
    struct stream *s = calloc(1, sizeof(*s));

    (void)v;
    (void)dir;
    if (!s) {
        return -ENOMEM;
    }
    ret_handle->v = (uint64_t)(uintptr_t)s;
    return 0;
}

static int open_folder(struct store *st, struct obj *dir) {
    struct dir_ref ref;
    int fd, err = dirfds_get(st, dir, &ref);

    if (err < 0) {
        return err;
    }
    fd = openat(ref.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err = result(fd);
    dirfds_put(st, &ref);
    return err < 0 ? err : fd;
}

static int stream_load(struct store *st, struct obj *dir, struct stream *s) {
    enum { CHUNK = 32 << 10 };
    scope_fd int fd = open_folder(st, dir);

    if (fd < 0) {
        return fd;
    }
    s->len = 0;
    for (;;) {
        ssize_t n;

        if (s->room - s->len < CHUNK) {
            size_t room = s->room * 2 + CHUNK;
            char *more = realloc(s->records, room);

            if (!more) {
                return -ENOMEM;
            }
            s->records = more;
            s->room = room;
        }
        n = getdents64(fd, s->records + s->len, s->room - s->len);
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            return 0;
        }
        s->len += (size_t)n;
    }
}

int store_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                  vol_dirent_fn *fill, void *arg) {
    struct stream *s = (struct stream *)(uintptr_t)h.v;
    int err = (pos == 0 || s->len == 0) && !s->fresh ? stream_load(store_of(v), dir, s) : 0;
    size_t at;

    s->fresh = err == 0 && !fill;
    if (err < 0 || !fill) {
        return err;
    }
    at = record_start(s, pos);
    while (at < s->len) {
        const struct dirent64 *e = record_at(s, at);

        if (!fill(arg, e->d_name, e->d_ino, e->d_type, at + e->d_reclen)) {
            break;
        }
        at += e->d_reclen;
    }
    s->next = at;
    return 0;
}

int store_closedir(struct vol *v, struct obj *dir, struct vol_handle h) {
    struct stream *s = (struct stream *)(uintptr_t)h.v;

    (void)v;
    (void)dir;
    free(s->records);
    free(s);
    return 0;
}
