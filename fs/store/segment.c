#include "store/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/le.h"
#include "store/store_int.h"

enum { FILE_BYTES = JOURNAL_HEAD_BYTES + JOURNAL_SEGMENT_BYTES, RESERVE_FILES = 8 };
static const char spare[] = "spare";     /* the next segment, allocated already */
static const char reserve[] = "reserve"; /* room for more, for when the disk is full */

static void segment_name(uint64_t start, char ret_name[24]) {
    (void)snprintf(ret_name, 24, "%016llx", (unsigned long long)start);
}

/* Calls each(start) for all segments, in no order. */
static int list_segments(const struct store *st, int (*each)(void *arg, uint64_t start),
                         void *arg) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(st->folder, STORE_JOURNAL_FOLDER, &d);

    while (err == 0 && (errno = 0, e = readdir(d))) {
        char *end, again[24];
        unsigned long long start = strtoull(e->d_name, &end, 16);

        segment_name(start, again);
        err = strcmp(again, e->d_name) == 0 ? each(arg, start) : 0;
    }
    return err == 0 ? -errno : err;
}

static int open_log_folder(const struct store *st) {
    int fd =
        openat(st->folder, STORE_JOURNAL_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

/* --- writing --- */

static int allocate(int dir, const char *name) {
    scope_fd int fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    int err = fd < 0 ? errno : posix_fallocate(fd, 0, FILE_BYTES); /* returns its error */

    if (err != 0) {
        (void)unlinkat(dir, name, 0); /* what is left of a failed try */
        return -err;
    }
    return 0;
}

/* The log goes on while a disk is full: people must be able to remove files then. */
static void fill_reserve(int dir) {
    enum { BYTES = RESERVE_FILES * FILE_BYTES };
    scope_fd int fd = openat(dir, reserve, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size < BYTES) {
        (void)fallocate(fd, 0, 0, BYTES); /* a filesystem that cannot has none */
    }
}

/* Gives one segment's room back to the filesystem. */
static bool use_reserve(int dir) {
    enum { ROOM = FILE_BYTES + (64 << 10) }; /* and what the filesystem needs to note it */
    scope_fd int fd = openat(dir, reserve, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && st.st_size > 0 &&
           ftruncate(fd, st.st_size > ROOM ? st.st_size - ROOM : 0) == 0;
}

static int sync_folder(const struct store *st, int dir) {
    return (st->caps & STORE_FSYNC_DIR) && fsync(dir) < 0 ? -errno : 0;
}

static int begin_segment(struct store *st, uint64_t start) {
    struct head head = {.volume = st->super.volume_id, .store = st->super.store_id, .start = start};
    scope_fd int dir = open_log_folder(st);
    uint8_t bytes[JOURNAL_HEAD_BYTES];
    char name[24];
    int err = dir < 0 ? dir : 0;
    ssize_t n;

    segment_name(start, name);
    if (err == 0 && renameat(dir, spare, dir, name) < 0) {
        err = allocate(dir, name);
        while (err == -ENOSPC && use_reserve(dir)) {
            err = allocate(dir, name);
        }
    }
    if (err < 0) {
        return err;
    }
    cleanup_fd(&st->log.fd); /* synced by the caller before it goes on */
    st->log.fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (st->log.fd < 0) {
        return -errno;
    }
    journal_head_encode(&head, bytes);
    n = io_pwrite(st->log.fd, bytes, sizeof(bytes), 0);
    if (n != (ssize_t)sizeof(bytes)) {
        return n < 0 ? (int)n : -ENOSPC;
    }
    st->log.start = st->log.end = start;
    (void)allocate(dir, spare); /* a full disk: the one in use is there */
    return sync_folder(st, dir);
}

static int remove_segment(void *arg, uint64_t start) {
    char name[24];

    segment_name(start, name);
    return unlinkat(*(int *)arg, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int store_log_reset(struct store *st, uint64_t position) {
    scope_fd int dir = -1;
    int err = 0;

    if (mkdirat(st->folder, STORE_JOURNAL_FOLDER, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    dir = open_log_folder(st);
    err = dir < 0 ? dir : list_segments(st, remove_segment, &dir);
    err = err < 0 ? err : begin_segment(st, position);
    if (err == 0) {
        fill_reserve(dir);
    }
    return err;
}

static size_t frame_size(const uint8_t *frame) {
    return (size_t)le_load(frame, 4);
}

int store_log_append(struct store *st, uint64_t position, const uint8_t *frames, size_t n) {
    if (st->log.fd < 0 || position != st->log.end) {
        return -EIO; /* its log is not open, or was changed behind our back */
    }
    while (n > 0) {
        size_t room = JOURNAL_SEGMENT_BYTES - (size_t)(st->log.end - st->log.start), part = 0;
        ssize_t w;

        while (part < n && part + frame_size(frames + part) <= room) {
            part += frame_size(frames + part);
        }
        if (part == 0) {
            int err = fdatasync(st->log.fd) < 0 ? -errno : begin_segment(st, st->log.end);

            if (err < 0) {
                return err;
            }
            continue;
        }
        w = io_pwrite(st->log.fd, frames, part,
                      JOURNAL_HEAD_BYTES + (off_t)(st->log.end - st->log.start));
        if (w != (ssize_t)part) {
            return w < 0 ? (int)w : -ENOSPC;
        }
        st->log.end += part;
        frames += part;
        n -= part;
    }
    return 0;
}

int store_log_sync(struct store *st) {
    return st->log.fd >= 0 && fdatasync(st->log.fd) < 0 ? -errno : 0;
}

/* --- reading --- */

struct sorted {
    uint64_t *start;
    unsigned n, room;
};

static int collect(void *arg, uint64_t start) {
    struct sorted *s = arg;

    if (s->n == s->room) {
        unsigned room = s->room ? s->room * 2 : 64;
        uint64_t *more = realloc(s->start, room * sizeof(*more));

        if (!more) {
            return -ENOMEM;
        }
        s->start = more;
        s->room = room;
    }
    s->start[s->n++] = start;
    return 0;
}

static int by_start(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int segments(const struct store *st, struct sorted *ret) {
    int err = list_segments(st, collect, ret);

    if (err == 0 && ret->n > 0) {
        qsort(ret->start, ret->n, sizeof(*ret->start), by_start);
    }
    return err;
}

void store_log_drop(struct store *st, uint64_t before) {
    struct sorted s = {NULL, 0, 0};
    scope_fd int dir = open_log_folder(st);
    int err = dir < 0 ? dir : segments(st, &s);

    for (unsigned i = 0; err == 0 && i + 1 < s.n && s.start[i + 1] <= before; i++) {
        err = remove_segment(&dir, s.start[i]);
    }
    if (dir >= 0) {
        fill_reserve(dir); /* if some was used, and there is room again */
    }
    free(s.start);
}

uint64_t store_log_first(const struct store *st) {
    struct sorted s = {NULL, 0, 0};
    uint64_t first = segments(st, &s) < 0 || s.n == 0 ? UINT64_MAX : s.start[0];

    free(s.start);
    return first;
}

/* The frames of one segment between two positions; *at moves on. Ends at the first frame that is
 * not whole. */
static int read_segment(const struct store *st, uint64_t start, uint64_t from, uint64_t to,
                        uint64_t *at, int (*each)(void *, const struct journal_frame *),
                        void *arg) {
    scope_free uint8_t *bytes = malloc(FILE_BYTES);
    scope_fd int dir = open_log_folder(st), fd = -1;
    struct head head;
    struct journal_frame f;
    char name[24];
    ssize_t n;
    int err;

    if (!bytes || dir < 0) {
        return dir < 0 ? dir : -ENOMEM;
    }
    segment_name(start, name);
    fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    n = fd < 0 ? -errno : io_pread(fd, bytes, FILE_BYTES, 0);
    if (n < JOURNAL_HEAD_BYTES) {
        return n < 0 ? (int)n : -HFE_CORRUPT;
    }
    err = journal_head_decode(bytes, &head);
    if (err < 0) {
        return err;
    }
    if (head.start != start || !id_equal(&head.volume, &st->super.volume_id) ||
        !id_equal(&head.store, &st->super.store_id)) {
        return -HFE_CORRUPT;
    }
    *at = start;
    while (*at < to) {
        size_t off = JOURNAL_HEAD_BYTES + (size_t)(*at - start);
        int size = off < (size_t)n ? journal_frame_decode(bytes + off, (size_t)n - off,
                                                          &st->super.volume_id, *at, &f)
                                   : -HFE_CORRUPT;

        if (size < 0) {
            break;
        }
        err = *at >= from && each ? each(arg, &f) : 0;
        if (err < 0) {
            return err;
        }
        *at += (uint64_t)size;
    }
    return 0;
}

int store_log_read(const struct store *st, uint64_t from, uint64_t to,
                   int (*each)(void *, const struct journal_frame *), void *arg) {
    struct sorted s = {NULL, 0, 0};
    uint64_t at = from;
    unsigned i = 0;
    int err = segments(st, &s);

    if (err == -ENOENT || (err == 0 && (s.n == 0 || s.start[0] > from))) {
        err = -HFE_STALE;
    }
    while (err == 0 && i + 1 < s.n && s.start[i + 1] <= from) {
        i++;
    }
    for (; err == 0 && i < s.n && at < to; i++) {
        if (s.start[i] > at) {
            err = -HFE_CORRUPT; /* frames are missing in between */
            break;
        }
        err = read_segment(st, s.start[i], from, to, &at, each, arg);
    }
    free(s.start);
    return err < 0 ? err : at < to ? -HFE_STALE : 0;
}

int store_log_open(struct store *st, uint64_t *ret_end) {
    struct sorted s = {NULL, 0, 0};
    uint64_t at = 0, start = 0;
    char name[24];
    scope_fd int dir = open_log_folder(st);
    int err = dir < 0 ? dir : segments(st, &s);

    if (err == 0 && s.n == 0) {
        err = -ENOENT;
    }
    while (err == 0 &&
           s.n > 0) { /* the newest one with a good head; a cut-off begin left no frames */
        start = s.start[s.n - 1];
        err = read_segment(st, start, UINT64_MAX, UINT64_MAX, &at, NULL, NULL);
        if (err != -HFE_CORRUPT || s.n == 1) {
            break;
        }
        err = remove_segment(&dir, start);
        s.n--;
    }
    free(s.start);
    if (err < 0) {
        return err;
    }
    segment_name(start, name);
    cleanup_fd(&st->log.fd);
    st->log.fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (st->log.fd < 0) {
        return -errno;
    }
    /* What is torn must not be taken for whole when shorter frames end where it goes on. */
    if (ftruncate(st->log.fd, JOURNAL_HEAD_BYTES + (off_t)(at - start)) < 0) {
        return -errno;
    }
    (void)posix_fallocate(st->log.fd, 0, FILE_BYTES); /* no room: appending says so */
    st->log.start = start;
    st->log.end = at;
    *ret_end = at;
    return 0;
}
