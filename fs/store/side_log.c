#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "store/side_int.h"

enum {
    SPARE_BYTES = 16 << 20,  /* out of date, before the file is written anew */
    ROOM_BYTES = 1 << 20,    /* is made ahead of the end, before the last half of it is used */
    REMOVE_BYTES = 16 << 10, /* what removing something needs: a full disk can be emptied */
    MARK_BYTES = SIDE_RECORD_HEAD_BYTES, /* a MARK alone needs no sync */
    TRIES = 3,                           /* to write it anew without holding up changes */
};

int64_t side_log_append(struct side *s, struct side_record *r) {
    uint64_t at = s->end;
    size_t size;
    ssize_t n;

    if (s->broken || s->fd < 0) {
        return -EIO;
    }
    r->synced = s->synced;
    size = side_record_encode(r, &s->head.volume, at, s->record);
    n = io_pwrite(s->fd, s->record, size, (off_t)at);
    if (n != (ssize_t)size) {
        s->broken = true; /* the caller cannot undo what this was to tell */
        return -EIO;
    }
    s->end += size;
    return (int64_t)at;
}

/* Room that is really there: some filesystems say so only when they are synced. */
static int make_room(int fd, uint64_t from, size_t n) {
    scope_free uint8_t *zeros = calloc(1, n);
    ssize_t w;

    if (fallocate(fd, 0, (off_t)from, (off_t)n) == 0) {
        return 0;
    }
    if (errno == ENOSPC || errno == EDQUOT || !zeros) {
        return zeros ? -errno : -ENOMEM;
    }
    w = io_pwrite(fd, zeros, n, (off_t)from);
    if (w < (ssize_t)n) {
        return w < 0 ? (int)w : -ENOSPC;
    }
    return fdatasync(fd) < 0 ? -errno : 0;
}

int side_prepare(struct side *s, bool removes) {
    uint64_t least = removes ? REMOVE_BYTES : ROOM_BYTES / 2;
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    if (s->broken || s->fd < 0) {
        err = -EIO;
    } else if (s->end + least > s->room) {
        uint64_t from = s->room > s->end ? s->room : s->end;

        err = make_room(s->fd, from, ROOM_BYTES);
        s->room = err < 0 ? s->room : from + ROOM_BYTES;
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

struct pending *side_log_remember(struct side *s, uint64_t at, const struct side_record *r) {
    struct pending *p = malloc(sizeof(*p) + r->path_bytes + r->path2_bytes);

    if (p) {
        *p = (struct pending){.next = s->pending, .at = at, .r = *r};
        memcpy(p->paths, r->path, r->path_bytes);
        if (r->path2_bytes > 0) {
            memcpy(p->paths + r->path_bytes, r->path2, r->path2_bytes);
        }
        p->r.path = p->paths;
        p->r.path2 = p->paths + r->path_bytes;
        s->pending = p;
    }
    return p;
}

struct pending *side_log_recall(struct side *s, uint64_t at) {
    for (struct pending **p = &s->pending; *p; p = &(*p)->next) {
        if ((*p)->at == at) {
            struct pending *found = *p;

            *p = found->next;
            return found;
        }
    }
    return NULL;
}

/* The file as it would be anew, in memory. */
struct anew {
    uint8_t *bytes;
    size_t used, room;
};

static int add(struct side *s, struct anew *a, struct side_record *r) {
    if (a->room - a->used < SIDE_RECORD_BYTES_MAX) {
        size_t room = 2 * a->room + 2 * (size_t)SIDE_RECORD_BYTES_MAX;
        uint8_t *more = realloc(a->bytes, room);

        if (!more) {
            return -ENOMEM;
        }
        a->bytes = more;
        a->room = room;
    }
    a->used += side_record_encode(r, &s->head.volume, a->used, a->bytes + a->used);
    return 0;
}

static int add_node(struct side *s, struct anew *a, struct node *node) {
    char path[PATH_BYTES], first[PATH_BYTES];
    struct side_record r = {.kind = SIDE_SET, .attr = node->entry->attr};

    r.path = side_table_path(node, path, &r.path_bytes);
    if (r.path && node->entry->out) {
        r = (struct side_record){.kind = SIDE_LINK, .path2 = r.path, .path2_bytes = r.path_bytes};
        r.path = side_table_path(node->entry->out, first, &r.path_bytes);
    }
    node->entry->out = node;
    return r.path ? add(s, a, &r) : -ENAMETOOLONG;
}

static int encode_all(struct side *s, struct anew *a) {
    struct side_record mark = {.kind = SIDE_MARK};
    int err;

    a->room = SIDE_RECORD_BYTES_MAX;
    a->bytes = malloc(a->room);
    if (!a->bytes) {
        return -ENOMEM;
    }
    side_head_encode(&s->head, a->bytes);
    a->used = SIDE_HEAD_BYTES;
    for (struct node *n = s->top; n; n = side_table_next(s->top, n)) {
        if (n->entry) {
            n->entry->out = NULL;
        }
    }
    err = 0;
    for (struct node *n = s->top; n && err == 0; n = side_table_next(s->top, n)) {
        err = n->entry ? add_node(s, a, n) : 0;
    }
    mark.synced = a->used;
    return err < 0 ? err : add(s, a, &mark);
}

static const char new_name[] = "side.new";

/* The descriptor, or a negative error. */
static int write_new(const struct side *s, const struct anew *a) {
    scope_fd int fd =
        openat(s->folder, new_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? -errno : io_pwrite(fd, a->bytes, a->used, 0);

    if (n < (ssize_t)a->used) {
        return n < 0 ? (int)n : -ENOSPC;
    }
    return fsync(fd) < 0 ? -errno : steal_fd(&fd);
}

/* Under the mutex, which is let go while the file is written, unless changes went on each time. */
static int write_anew(struct side *s) {
    bool wait = s->failed || s->tries >= TRIES;
    struct anew a = {.bytes = NULL};
    uint64_t end = s->end;
    int fd = -1, err = encode_all(s, &a);

    if (err == 0) {
        if (!wait) {
            pthread_mutex_unlock(&s->mutex);
        }
        fd = write_new(s, &a);
        if (!wait) {
            pthread_mutex_lock(&s->mutex);
        }
        err = fd < 0 ? fd : 0;
    }
    free(a.bytes);
    if (err == 0 && (s->end != end || s->pending || s->fd < 0)) {
        s->tries++;
        err = -EAGAIN;
    }
    if (err == 0 && renameat(s->folder, new_name, s->folder, SIDE_FILE) < 0) {
        err = -errno;
    }
    if (err < 0) {
        cleanup_fd(&fd);
        (void)unlinkat(s->folder, new_name, 0); /* the old one goes on */
        return err;
    }
    if (fsync(s->folder) < 0 && errno != EINVAL && errno != ENOSYS) {
        s->broken = true; /* which of the two is there after a crash? */
    }
    cleanup_fd(&s->fd);
    s->fd = fd;
    s->end = s->live = s->synced = s->room = a.used;
    s->tries = 0;
    s->failed = false;
    return 0;
}

/* How far the file was durable, by all records that are whole, also behind a broken one. */
static uint64_t durable(struct side *s, const uint8_t *bytes, size_t n) {
    struct side_record r;
    uint64_t synced = 0;

    for (size_t at = SIDE_HEAD_BYTES; at < n; at += 8) {
        if (side_record_decode(bytes + at, n - at, &s->head.volume, at, &r) > 0) {
            synced = r.synced > synced ? r.synced : synced;
        }
    }
    return synced;
}

/* 1, 0, or a negative error: the store does not say. */
static int exists(const struct side *s, const char *path, size_t n) {
    char text[PATH_BYTES];

    memcpy(text, path, n);
    text[n] = '\0';
    if (faccessat(s->root, text, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return 1;
    }
    return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
}

/* What was about to be done when the daemon was killed: was it? Nothing else happened to those names
 * since, so it counts at the end. */
static int settle_pending(struct side *s) {
    int err = 0;

    while (s->pending && err == 0) {
        struct pending *p = s->pending;
        bool links = p->r.kind == SIDE_LINK;
        int there =
            exists(s, links ? p->r.path2 : p->r.path, links ? p->r.path2_bytes : p->r.path_bytes);
        bool done = links ? there == 1 : there == 0;
        struct side_record outcome = {.kind = done ? SIDE_DONE : SIDE_NOT, .of = p->at};

        if (there < 0) {
            return there;
        }
        err = side_log_append(s, &outcome) < 0 ? -EIO : done ? side_table_apply(s, &p->r) : 0;
        s->pending = p->next;
        free(p);
    }
    return err;
}

static int replay_one(struct side *s, uint64_t at, const struct side_record *r) {
    struct pending *p;
    int err;

    if (r->pending) {
        return side_log_remember(s, at, r) ? 0 : -ENOMEM;
    }
    if (r->kind != SIDE_DONE && r->kind != SIDE_NOT) {
        return side_table_apply(s, r);
    }
    p = side_log_recall(s, r->of);
    err = !p ? -HFE_CORRUPT : r->kind == SIDE_DONE ? side_table_apply(s, &p->r) : 0;
    free(p);
    return err;
}

/* What counts, in bytes of records. */
static uint64_t count_live(const struct side *s) {
    uint64_t live = SIDE_HEAD_BYTES;

    for (struct node *n = s->top; n; n = side_table_next(s->top, n)) {
        char path[PATH_BYTES];
        size_t bytes = 0;

        if (n->entry && side_table_path(n, path, &bytes)) {
            live += SIDE_RECORD_HEAD_BYTES + bytes + n->entry->attr.xattr_bytes;
        }
    }
    return live;
}

/* What a power cut left behind the end must not be read as records one day. */
static int clear_tail(int fd, const uint8_t *tail, size_t n, uint64_t at) {
    scope_free uint8_t *zeros = calloc(1, n + 1);
    ssize_t w;

    if (!zeros) {
        return -ENOMEM;
    }
    if (memcmp(tail, zeros, n) == 0) {
        return 0;
    }
    w = io_pwrite(fd, zeros, n, (off_t)at);
    return w < 0 ? (int)w : (size_t)w < n ? -ENOSPC : fdatasync(fd) < 0 ? -errno : 0;
}

static int replay(struct side *s, const uint8_t *bytes, size_t n) {
    struct side_record r;
    struct head h;
    size_t at = SIDE_HEAD_BYTES;
    int err = n < at ? -HFE_CORRUPT : side_head_decode(bytes, &h);

    if (err < 0) {
        return err;
    }
    if (!id_equal(&h.volume, &s->head.volume) || !id_equal(&h.store, &s->head.store)) {
        return -HFE_FOREIGN;
    }
    while (at < n) {
        int size = side_record_decode(bytes + at, n - at, &s->head.volume, at, &r);

        if (size < 0) {
            break;
        }
        err = replay_one(s, at, &r);
        if (err < 0) {
            return err;
        }
        at += (size_t)size;
    }
    if (durable(s, bytes, n) > at) {
        return -HFE_CORRUPT;
    }
    err = clear_tail(s->fd, bytes + at, n - at, at);
    if (err < 0) {
        return err;
    }
    s->end = at;
    s->room = n; /* it stays ours: the disk may be full */
    s->live = count_live(s);
    return settle_pending(s);
}

int side_log_load(struct side *s) {
    scope_free uint8_t *bytes = NULL;
    struct stat st;
    ssize_t n;

    s->fd = openat(s->folder, SIDE_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) < 0) {
        return errno == ENOENT ? -HFE_CORRUPT : -errno;
    }
    bytes = malloc((size_t)st.st_size + 1);
    if (!bytes) {
        return -ENOMEM;
    }
    n = io_pread(s->fd, bytes, (size_t)st.st_size, 0);
    return n < 0 ? (int)n : replay(s, bytes, (size_t)n);
}

/* Syncs what is there now, while changes go on. */
static int sync_log(struct side *s) {
    scope_fd int fd = s->fd < 0 ? -1 : dup(s->fd);
    struct side_record mark = {.kind = SIDE_MARK};
    uint64_t end = s->end;
    int err;

    if (s->broken || fd < 0) {
        return -EIO;
    }
    pthread_mutex_unlock(&s->mutex);
    err = fdatasync(fd) < 0 ? -errno : 0;
    pthread_mutex_lock(&s->mutex);
    s->failed = s->failed || err < 0; /* what was lost would not be missed by a second try */
    if (err < 0) {
        return err;
    }
    s->synced = end > s->synced ? end : s->synced;
    return s->end == end && side_log_append(s, &mark) < 0 ? -EIO : 0;
}

int side_sync(struct side *s) {
    int err = 0;

    pthread_mutex_lock(&s->sync);
    pthread_mutex_lock(&s->mutex);
    if (s->failed && !s->broken) {
        err = write_anew(s) < 0 ? -EIO : 0;
    } else if (s->broken || s->fd < 0) {
        err = -EIO;
    } else if (s->synced + MARK_BYTES < s->end) {
        err = sync_log(s);
    }
    if (err == 0 && !s->pending && s->end > 2 * s->live + SPARE_BYTES) {
        s->live = write_anew(s) < 0 && s->tries == 0 ? s->end : s->live; /* not again at once */
    }
    pthread_mutex_unlock(&s->mutex);
    pthread_mutex_unlock(&s->sync);
    return err;
}
