/* The current epoch's log, and reading any. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/fiber.h"
#include "snap/snap_int.h"

enum {
    READ_BYTES = 256 << 10,
    TABLE_BYTES_MAX = 1 << 30, /* in memory, of what changed since a snapshot */
};

int log_put_head(struct snap *s, const struct snap_file *file, uint32_t epoch) {
    uint8_t *head = malloc(SNAP_HEAD_BYTES);
    int err = -ENOMEM;

    if (head) {
        snap_head_encode(&s->config.volume, epoch, head);
        err = snap_write(s, file, head, SNAP_HEAD_BYTES, 0);
    }
    fiber_orphan(head);
    return err;
}

int log_create(struct snap *s, uint32_t epoch, struct log_file **ret_file) {
    struct log_file *f = calloc(1, sizeof(*f));
    char name[NAME_BYTES];
    int err = f ? 0 : -ENOMEM;

    snap_log_name(epoch, name);
    err = err < 0 ? err : snap_file_create(s, s->folder, name, &f->file);
    if (err == 0) {
        err = log_put_head(s, &f->file, epoch);
        if (err < 0) {
            snap_file_close(s, &f->file);
            (void)s->next->ops->unlink(s->next, s->folder, name); /* an empty log does no harm */
        }
    }
    if (err < 0) {
        free(f);
        return err;
    }
    f->refs = 1;
    *ret_file = f;
    return 0;
}

void log_put(struct snap *s, struct log_file *f) {
    bool last;

    if (!f) {
        return;
    }
    pthread_mutex_lock(&s->mutex);
    last = --f->refs == 0;
    pthread_mutex_unlock(&s->mutex);
    if (last) {
        snap_file_close(s, &f->file);
        free(f);
    }
}

struct log_rest log_switch_locked(struct snap *s, struct log_file *file, uint64_t end,
                                  uint32_t seq) {
    struct snap_log *l = &s->log;
    struct log_rest rest = {.file = l->file, .buf = l->buf, .n = l->used, .at = l->written};

    l->file = file;
    l->buf = NULL;
    l->used = l->room = 0;
    l->end = l->needed = l->written = l->synced = l->room_end = end;
    l->seq = l->written_seq = seq;
    return rest;
}

int log_finish(struct snap *s, struct log_rest *rest) {
    int err = 0;

    if (rest->file) {
        err = rest->n > 0 ? snap_write(s, &rest->file->file, rest->buf, rest->n, rest->at) : 0;
        err = err < 0
                  ? err
                  : s->next->ops->fsync(s->next, rest->file->file.obj, rest->file->file.h, false);
    }
    fiber_orphan(rest->buf);
    log_put(s, rest->file);
    return err;
}

static int make_room(struct snap_log *l, size_t bytes) {
    if (l->room - l->used < bytes) {
        size_t room = l->room * 2 > l->used + bytes ? l->room * 2 : l->used + bytes + 4096;
        uint8_t *buf = realloc(l->buf, room);

        if (!buf) {
            return -ENOMEM;
        }
        l->buf = buf;
        l->room = room;
    }
    return 0;
}

int log_tell_locked(struct snap *s, struct snap_record *r, const void *payload) {
    struct snap_log *l = &s->log;
    uint64_t padded = snap_padded(r->payload);
    size_t size;
    int err;

    r->seq = l->seq + 1;
    if (r->kind == SNAP_DATA && r->payload > 0) { /* of a fixed size */
        r->where = s->epoch;
        r->where_off = 0;
    }
    err = l->seq == UINT32_MAX - 1 || snap_table_bytes(s->table) > TABLE_BYTES_MAX
              ? -EFBIG
              : make_room(l, SNAP_RECORD_BYTES_MAX + padded);
    if (err < 0) {
        return err;
    }
    size = snap_record_encode(r, &s->config.volume, l->buf + l->used);
    if (r->kind == SNAP_DATA && r->payload > 0) {
        r->where_off = l->end + size;
        size = snap_record_encode(r, &s->config.volume, l->buf + l->used);
    }
    err = snap_table_apply(s->table, r);
    if (err < 0) {
        return err;
    }
    l->seq++;
    l->used += size;
    if (r->payload > 0) {
        memcpy(l->buf + l->used, payload, r->payload);
        memset(l->buf + l->used + r->payload, 0, padded - r->payload);
        l->used += padded;
    }
    l->end += size + padded;
    if (r->kind != SNAP_DONE) {
        l->needed = l->end;
    }
    return 0;
}

/* Keeps REST_BYTES of room behind the end, so that BROKEN can be told on a full disk. */
static void room_ahead(struct snap *s, uint64_t end) {
    struct snap_log *l = &s->log;

    if (end + REST_BYTES / 2 > l->room_end) {
        uint64_t to = end + 16 * (uint64_t)REST_BYTES;

        /* Where it fails there is no room, or no such call: then BROKEN may not be told after a
         * crash, and the list tells it. */
        (void)s->next->ops->fallocate(s->next, l->file->file.obj, l->file->file.h,
                                      FALLOC_FL_KEEP_SIZE, (off_t)end, (off_t)(to - end),
                                      &cred_self);
        l->room_end = to;
    }
}

/* It could not be written as things are, and will be: in front of what was told since. False: no memory. */
static bool put_back_locked(struct snap_log *l, const uint8_t *buf, size_t n) {
    if (make_room(l, n) < 0) {
        return false;
    }
    memmove(l->buf + n, l->buf, l->used);
    memcpy(l->buf, buf, n);
    l->used += n;
    return true;
}

/* A store that failed has left, and those that are left have it, or will: nothing is lost, and no change is
 * taken until there are enough again. */
static int if_too_few(struct snap *s, int err) {
    return err < 0 && s->next->ops->may_change(s->next) == -HFE_TOO_FEW ? -HFE_TOO_FEW : err;
}

static int flush_to(struct snap *s, uint64_t to) {
    struct snap_log *l = &s->log;
    uint64_t at;
    uint32_t seq;
    uint8_t *buf;
    size_t n;
    int err = 0;

    pthread_mutex_lock(&s->mutex);
    if (l->written >= to) {
        pthread_mutex_unlock(&s->mutex);
        return 0;
    }
    pthread_mutex_unlock(&s->mutex);
    rwlock_write(&l->io);
    pthread_mutex_lock(&s->mutex);
    buf = l->buf;
    n = l->used;
    at = l->written;
    seq = l->seq;
    l->buf = NULL;
    l->used = l->room = 0;
    pthread_mutex_unlock(&s->mutex);
    if (n > 0) {
        room_ahead(s, at + n);
        err = if_too_few(
            s, snap_write(s, &l->file->file, buf, n, at)); /* the same again is harmless */
        pthread_mutex_lock(&s->mutex);
        if (err == 0) {
            l->written = at + n;
            l->written_seq = seq;
        } else if (err != -HFE_TOO_FEW || !put_back_locked(l, buf, n)) {
            err = err == -HFE_TOO_FEW ? -ENOMEM : err;
            /* what follows, BROKEN it will be, comes where this should have been */
            l->used = 0;
            l->end = l->needed = at;
            l->seq = l->written_seq;
        }
        pthread_mutex_unlock(&s->mutex);
    }
    rwlock_write_done(&l->io);
    fiber_orphan(buf);
    return err;
}

static uint64_t position(struct snap *s, bool all) {
    uint64_t at;

    pthread_mutex_lock(&s->mutex);
    at = all ? s->log.end : s->log.needed;
    pthread_mutex_unlock(&s->mutex);
    return at;
}

static int sync_file(struct snap *s, struct log_file *f, uint64_t to) {
    struct snap_log *l = &s->log;
    bool done;
    int err;

    pthread_mutex_lock(&s->mutex);
    done = l->file == f && l->synced >= to; /* somebody else did */
    pthread_mutex_unlock(&s->mutex);
    if (done) {
        return 0;
    }
    err = if_too_few(s, s->next->ops->fsync(s->next, f->file.obj, f->file.h, true));
    pthread_mutex_lock(&s->mutex);
    if (err == 0 && l->file == f && l->synced < to) {
        l->synced = to;
    }
    pthread_mutex_unlock(&s->mutex);
    return err;
}

int log_flush(struct snap *s) {
    uint64_t to = position(s, false);
    int err = flush_to(s, to);

    if (err == 0 && s->config.strict && s->log.file) {
        err = sync_file(s, s->log.file, to);
    }
    return err;
}

int log_sync(struct snap *s) {
    struct log_file *f;
    uint64_t to = 0;
    int err;

    gate_enter(&s->gate); /* as long as it is held, there is no other log */
    f = s->log.file;
    if (f) {
        to = position(s, true);
        pthread_mutex_lock(&s->mutex);
        f->refs++;
        pthread_mutex_unlock(&s->mutex);
    }
    err = f ? flush_to(s, to) : 0;
    gate_leave(&s->gate);
    err = err < 0 || !f ? err : sync_file(s, f, to);
    log_put(s, f);
    return err;
}

/* --- reading --- */

int log_open(struct snap *s, uint32_t epoch, struct log_reader *ret) {
    char name[NAME_BYTES];
    struct stat st;
    uint8_t *head;
    size_t n;
    uint32_t number = 0;
    int err;

    *ret = (struct log_reader){.s = s, .epoch = epoch, .at = SNAP_HEAD_BYTES};
    snap_log_name(epoch, name);
    err = snap_file_open(s, s->folder, name, O_RDWR, &ret->file);
    if (err < 0) {
        return err;
    }
    err = s->next->ops->getattr(s->next, ret->file.obj, ret->file.h, &st);
    err = err < 0 ? err : snap_read(s, ret->file.obj, ret->file.h, 0, SNAP_HEAD_BYTES, &head, &n);
    if (err == 0) {
        ret->end = (uint64_t)st.st_size;
        err =
            n < SNAP_HEAD_BYTES ? -HFE_CORRUPT : snap_head_decode(head, &s->config.volume, &number);
        free(head);
    }
    if (err == 0 && number != epoch) {
        err = -HFE_CORRUPT;
    }
    if (err < 0) {
        log_close(ret);
    }
    return err;
}

void log_close(struct log_reader *r) {
    snap_file_close(r->s, &r->file);
    free(r->buf);
    r->buf = NULL;
}

static int fill(struct log_reader *r, size_t want) {
    free(r->buf);
    r->buf = NULL;
    r->have = 0;
    r->buf_at = r->at;
    return snap_read(r->s, r->file.obj, r->file.h, r->at, want, &r->buf, &r->have);
}

int log_next(struct log_reader *r, struct snap_record *ret) {
    size_t inside =
        r->at >= r->buf_at && r->at - r->buf_at < r->have ? r->at - r->buf_at : SIZE_MAX;
    int n = inside == SIZE_MAX
                ? -ENODATA
                : snap_record_decode(r->buf + inside, r->have - inside, &r->s->config.volume, ret);

    if (r->at >= r->end) {
        return 0;
    }
    for (size_t want = READ_BYTES; n == -ENODATA && want <= 2 * SNAP_RECORD_BYTES_MAX; want *= 2) {
        int err = fill(r, want);

        if (err < 0) {
            return err;
        }
        n = snap_record_decode(r->buf, r->have, &r->s->config.volume, ret);
        if (r->have < want) {
            break;
        }
    }
    if (n == -ENODATA || (n >= 0 && r->at + (uint64_t)n + snap_padded(ret->payload) > r->end)) {
        n = -HFE_CORRUPT; /* it was not written to its end */
    }
    if (n < 0) {
        return n;
    }
    r->record_at = r->at;
    r->at += (uint64_t)n + snap_padded(ret->payload);
    return 1;
}
