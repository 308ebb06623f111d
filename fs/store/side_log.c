#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "store/side_int.h"

enum {
    SPARE_BYTES = 16 << 20, /* out of date, before the file is written anew */
    ROOM_BYTES = 1 << 20,   /* is made ahead of the end, before the last half of it is used */
    BUFFER_BYTES = 1 << 20, /* of a file that is written anew */
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

static int zeros(int fd, uint64_t from, size_t n) {
    scope_free uint8_t *buf = calloc(1, n);
    ssize_t w;

    if (fallocate(fd, 0, (off_t)from, (off_t)n) == 0) {
        return 0;
    }
    if (errno == ENOSPC || errno == EDQUOT || !buf) {
        return buf ? -errno : -ENOMEM;
    }
    w = io_pwrite(fd, buf, n, (off_t)from);
    return w < 0 ? (int)w : (size_t)w < n ? -ENOSPC : 0;
}

int side_prepare(struct side *s) {
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    if (s->broken || s->fd < 0) {
        err = -EIO;
    } else if (s->end + ROOM_BYTES / 2 > s->room) {
        uint64_t from = s->room > s->end ? s->room : s->end;

        err = zeros(s->fd, from, ROOM_BYTES);
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
        memcpy(p->paths + r->path_bytes, r->path2, r->path2_bytes);
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

/* A file that is written anew, a portion at a time. */
struct writer {
    int fd;
    uint64_t at; /* in the file: of the first byte of buf */
    size_t used;
    uint8_t *buf; /* BUFFER_BYTES */
};

static int flush(struct writer *w) {
    ssize_t n = w->used > 0 ? io_pwrite(w->fd, w->buf, w->used, (off_t)w->at) : 0;

    if (n < (ssize_t)w->used) {
        return n < 0 ? (int)n : -ENOSPC;
    }
    w->at += w->used;
    w->used = 0;
    return 0;
}

static int write_node(struct side *s, struct writer *w, struct node *node) {
    char path[PATH_BYTES], first[PATH_BYTES];
    struct side_record r = {.kind = SIDE_SET, .attr = node->entry->attr};
    int err = w->used + SIDE_RECORD_BYTES_MAX > BUFFER_BYTES ? flush(w) : 0;

    r.path = side_table_path(node, path, &r.path_bytes);
    if (node->entry->out) {
        r = (struct side_record){.kind = SIDE_LINK, .path2 = r.path, .path2_bytes = r.path_bytes};
        r.path = side_table_path(node->entry->out, first, &r.path_bytes);
    }
    node->entry->out = node;
    if (err == 0) {
        w->used += side_record_encode(&r, &s->head.volume, w->at + w->used, w->buf + w->used);
    }
    return err;
}

static int write_nodes(struct side *s, struct writer *w) {
    int err = 0;

    side_head_encode(&s->head, w->buf);
    w->used = SIDE_HEAD_BYTES;
    for (struct node *n = s->top; n; n = side_table_next(n)) {
        if (n->entry) {
            n->entry->out = NULL;
        }
    }
    for (struct node *n = s->top; n && err == 0; n = side_table_next(n)) {
        err = n->entry ? write_node(s, w, n) : 0;
    }
    err = err < 0 ? err : flush(w);
    return err == 0 && fsync(w->fd) < 0 ? -errno : err;
}

/* A new file with just what counts, in place of the old one. On an error the old one goes on. */
static void write_anew(struct side *s) {
    static const char new_name[] = "side.new";
    scope_fd int fd =
        openat(s->folder, new_name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    scope_free uint8_t *buf = malloc(BUFFER_BYTES);
    struct writer w = {.fd = fd, .buf = buf};

    s->live = s->end; /* if it fails: not again at once */
    if (fd < 0 || !buf || write_nodes(s, &w) < 0 ||
        renameat(s->folder, new_name, s->folder, SIDE_FILE) < 0) {
        (void)unlinkat(s->folder, new_name, 0); /* the old one goes on */
        return;
    }
    (void)fsync(s->folder); /* a store that cannot said so; either file is right */
    cleanup_fd(&s->fd);
    s->fd = steal_fd(&fd);
    s->end = s->live = s->synced = s->room = w.at;
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

static bool exists(const struct side *s, const char *path, size_t n) {
    char text[PATH_BYTES];

    memcpy(text, path, n);
    text[n] = '\0';
    return faccessat(s->root, text, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* What was about to be done when the daemon was killed: was it? Nothing else happened to those names
 * since, so it counts at the end. A SWAP cannot be told, and does not count. */
static int settle_pending(struct side *s) {
    int err = 0;

    while (s->pending && err == 0) {
        struct pending *p = s->pending;
        bool done = (p->r.kind == SIDE_MOVE && !exists(s, p->r.path, p->r.path_bytes)) ||
                    (p->r.kind == SIDE_LINK && exists(s, p->r.path2, p->r.path2_bytes));
        struct side_record outcome = {.kind = done ? SIDE_DONE : SIDE_NOT, .of = p->at};

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

    for (struct node *n = s->top; n; n = side_table_next(n)) {
        char path[PATH_BYTES];
        size_t bytes;

        if (n->entry) {
            (void)side_table_path(n, path, &bytes);
            live += SIDE_RECORD_HEAD_BYTES + bytes + n->entry->attr.xattr_bytes;
        }
    }
    return live;
}

static int replay(struct side *s, const uint8_t *bytes, size_t n) {
    struct side_record r;
    struct side_head h;
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
    if (at < n && ftruncate(s->fd, (off_t)at) < 0) { /* room, or what a power cut left */
        return -errno;
    }
    s->end = s->room = at;
    s->live = count_live(s);
    err = s->pending ? side_prepare(s) : 0;
    return err < 0 ? err : settle_pending(s);
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

int side_sync(struct side *s) {
    uint64_t end;
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    end = s->end;
    if (s->broken || s->fd < 0) {
        err = -EIO;
    } else if (s->synced < end) {
        err = fdatasync(s->fd) < 0 ? -errno : 0;
        s->synced = err == 0 ? end : s->synced;
    }
    if (err == 0 && !s->pending && s->end > 2 * s->live + SPARE_BYTES) {
        write_anew(s);
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}
