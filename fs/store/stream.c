/* Reading a folder of one store. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/store_int.h"

/* A folder's stream: its entries as they were when reading began, so that positions stay valid
 * while entries come and go, and after this store was lost.
 *
 * The kernel keeps listings, and goes on behind an entry of one in a handle that never read: when it has lost
 * the rest, or another one reads the folder that has changed. So a position is the filesystem's own where those
 * outlast a handle (an NFS server needs them as well), marked with the store that it is of. Else it is a place
 * in this stream; one of another stream begins anew, for an entry that comes twice is better than one that
 * does not come at all. */
struct stream {
    size_t len, room;
    uint64_t next;  /* the last position that was handed out, */
    size_t next_at; /* and where that is */
    uint64_t mark;  /* of positions that last; 0: they do not */
    unsigned cut;   /* bits that are left out of the filesystem's own */
    bool fresh;     /* just read, and nothing handed out yet */
    char *records;  /* struct linux_dirent64, as the kernel gave them */
};

enum { MARK_SHIFT = 56 }; /* below it, the filesystem's own position; ext4's loses its last bits */

static const struct dirent64 *record_at(const struct stream *s, size_t at) {
    return (const struct dirent64 *)(s->records + at);
}

static uint64_t own_position(const struct stream *s, size_t at) {
    return (uint64_t)record_at(s, at)->d_off >> s->cut;
}

/* Behind the record. */
static uint64_t position_of(const struct stream *s, size_t at) {
    return s->mark ? s->mark | own_position(s, at) : at + record_at(s, at)->d_reclen;
}

/* Do all of them follow each other? Those of these filesystems do, but for two names of one hash. */
static bool positions_last(const struct store *st, struct stream *s) {
    uint64_t before = 0;

    if (st->fs_type != XFS_SUPER_MAGIC && st->fs_type != EXT4_SUPER_MAGIC &&
        st->fs_type != BTRFS_SUPER_MAGIC) {
        return false;
    }
    s->cut = st->fs_type == EXT4_SUPER_MAGIC ? 8 : 0;
    for (size_t at = 0; at < s->len; at += record_at(s, at)->d_reclen) {
        uint64_t own = own_position(s, at);

        if (own <= before || own >> MARK_SHIFT) {
            return false;
        }
        before = own;
    }
    return true;
}

/* The first record behind `pos`, which may be anything: seekdir(3) takes any number. `fresh`: it is not of this
 * stream. */
static size_t record_start(const struct stream *s, uint64_t pos, bool fresh) {
    bool lasts = s->mark != 0 && pos >> MARK_SHIFT == s->mark >> MARK_SHIFT;
    size_t at = 0;

    if (pos == 0 || (fresh && !lasts)) {
        return 0;
    }
    if (pos == s->next) {
        return s->next_at;
    }
    while (at < s->len && (lasts ? (s->mark | own_position(s, at)) <= pos : at < pos)) {
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
            s->mark = positions_last(st, s) ? (UINT64_C(1) << 6 | st->index) << MARK_SHIFT : 0;
            s->next = s->next_at = 0;
            return 0;
        }
        s->len += (size_t)n;
    }
}

int store_readdir(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                  vol_dirent_fn *fill, void *arg) {
    struct stream *s = (struct stream *)(uintptr_t)h.v;
    bool begun = s->len == 0;
    int err = (pos == 0 || begun) && !s->fresh ? stream_load(store_of(v), dir, s) : 0;
    bool fresh = s->fresh || begun;
    size_t at;

    s->fresh = err == 0 && !fill;
    if (err < 0 || !fill) {
        return err;
    }
    at = record_start(s, pos, fresh);
    while (at < s->len) {
        const struct dirent64 *e = record_at(s, at);

        if (!fill(arg, e->d_name, e->d_ino, e->d_type, position_of(s, at))) {
            break;
        }
        s->next = position_of(s, at);
        at += e->d_reclen;
        s->next_at = at;
    }
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
