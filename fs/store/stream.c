/* Reading a folder of one store. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/store_int.h"

/* A folder's stream: its entries as they were when reading began, so that positions stay valid
 * while entries come and go, and after this store was lost.
 *
 * The kernel keeps listings, and goes on behind an entry of one in a handle that never read: when it has lost
 * the rest, or another one reads the folder that has changed. So a position is the filesystem's own where those
 * outlast a handle (an NFS server needs them as well), marked with the store that it is of. Else it is a place
 * in this stream, marked as such. Behind a position of another one it begins anew: an entry that comes twice is
 * better than one that does not come at all. */
struct stream {
    size_t len, room;
    uint64_t next;  /* the last position that was handed out, */
    size_t next_at; /* and where that is */
    uint64_t mark;  /* what its positions have in their upper bits */
    bool lasts;     /* they are the filesystem's own, */
    unsigned cut;   /* but for so many of their last bits */
    bool fresh;     /* just read, and nothing handed out yet */
    char *records;  /* struct linux_dirent64, as the kernel gave them */
};

enum {
    OWN_BITS = 56,   /* the filesystem's own position; above it 64 and the store's index */
    PLACE_BITS = 32, /* a place in the stream; above it a number of the stream, below 2^30 */
};

static const struct dirent64 *record_at(const struct stream *s, size_t at) {
    return (const struct dirent64 *)(s->records + at);
}

/* Behind the record: in order. */
static uint64_t position_of(const struct stream *s, size_t at) {
    return s->mark | (s->lasts ? (uint64_t)record_at(s, at)->d_off >> s->cut
                               : at + record_at(s, at)->d_reclen);
}

static bool is_own(const struct stream *s, uint64_t pos) {
    unsigned bits = s->lasts ? OWN_BITS : PLACE_BITS;

    return pos >> bits == s->mark >> bits;
}

/* ext4 has hashes for them if its folders are indexed; else (ext2) they are places. */
static bool has_hashes(const struct store *st) {
    scope_fd int fd = openat(st->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char records[4096];
    ssize_t n = fd < 0 ? 0 : getdents64(fd, records, sizeof(records));

    for (ssize_t at = 0; at < n;) {
        struct dirent64 head;

        memcpy(&head, records + at, offsetof(struct dirent64, d_type));
        if ((uint64_t)head.d_off >> 32) {
            return true;
        }
        at += head.d_reclen;
    }
    return false;
}

bool stream_positions_last(const struct store *st) {
    return st->fs_type == XFS_SUPER_MAGIC || st->fs_type == BTRFS_SUPER_MAGIC ||
           (st->fs_type == EXT4_SUPER_MAGIC && has_hashes(st));
}

bool store_positions_last(const struct store *st) {
    return st->positions_last;
}

/* Do all of them follow each other, and fit? But for two names of one hash they do. */
static bool in_order(const struct store *st, struct stream *s) {
    uint64_t before;

    s->lasts = true;
    s->cut = st->fs_type == EXT4_SUPER_MAGIC ? 8 : 0;
    s->mark = before = (64 | (uint64_t)st->index) << OWN_BITS;
    for (size_t at = 0; at < s->len; at += record_at(s, at)->d_reclen) {
        uint64_t own = (uint64_t)record_at(s, at)->d_off >> s->cut;

        if (own >> OWN_BITS || (s->mark | own) <= before) {
            return false;
        }
        before = s->mark | own;
    }
    return true;
}

static void mark(const struct store *st, struct stream *s) {
    if (!st->positions_last || !in_order(st, s)) {
        s->lasts = false;
        s->mark = ((uint64_t)clock_us() & ((1U << 30) - 1)) << PLACE_BITS;
    }
    s->next = s->next_at = 0;
}

/* The first record behind `pos`, which may be anything: seekdir(3) takes any number. */
static size_t record_start(const struct stream *s, uint64_t pos) {
    size_t at = 0;

    if (pos == 0 || !is_own(s, pos)) {
        return 0;
    }
    if (pos == s->next) {
        return s->next_at;
    }
    while (at < s->len && position_of(s, at) <= pos) {
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
    s->len = s->next = s->next_at = 0;
    for (;;) {
        ssize_t n;

        if (s->room - s->len < CHUNK) {
            size_t room = s->room * 2 + CHUNK;
            char *more = realloc(s->records, room);

            if (!more) {
                s->len = 0;
                return -ENOMEM;
            }
            s->records = more;
            s->room = room;
        }
        n = getdents64(fd, s->records + s->len, s->room - s->len);
        if (n < 0) {
            s->len = 0;
            return -errno;
        }
        if (n == 0) {
            mark(st, s);
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
