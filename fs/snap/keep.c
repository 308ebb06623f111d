/* Keep first: what the snapshot still needs of an object, before it changes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "snap/snap_int.h"

int snap_break(struct snap *s, int err, const char *what) {
    struct snap_record r = {.kind = SNAP_BROKEN, .name_bytes = 0};
    char reason[NAME_BYTES - 1];
    int told, n = snprintf(reason, sizeof(reason), "%s: %s", what, error_words(err));

    if (err == -EROFS || atomic_exchange(&s->broken, true)) {
        return err; /* a volume that is read-only changes nothing, either, and stays so */
    }
    r.name = reason;
    r.name_bytes = (uint8_t)(n < (int)sizeof(reason) ? n : (int)sizeof(reason) - 1);
    pthread_mutex_lock(&s->mutex);
    (void)harm_entries_locked(s, UINT32_MAX, reason);
    told = log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    told = told < 0 ? told : log_flush(s);
    event_post(s->config.events, EVENT_ERROR,
               "snapshots are broken from now on: %s. What changed before is still in them; make "
               "room or mend the stores, then `holdfast snapshot create` a new one",
               reason);
    (void)told; /* if the log has no room for it, the list says it */
    atomic_store(&s->list_changed, true);
    return err;
}

void snap_sync_failed(struct snap *s, int err, const char *what) {
    if (err < 0 && err != -HFE_TOO_FEW) { /* that waits: no change is taken before it is written */
        snap_break_alone(s, err, what);
    }
}

void snap_break_alone(struct snap *s, int err, const char *what) {
    gate_enter(&s->gate);
    (void)snap_break(s, err, what);
    gate_leave(&s->gate);
}

/* --- attributes --- */

static bool has_attr(struct snap *s, const struct place *p) {
    bool has;

    pthread_mutex_lock(&s->mutex);
    has = p->node && p->node->attr;
    pthread_mutex_unlock(&s->mutex);
    return has;
}

static int tell_attr(struct snap *s, struct obj *obj, const struct snap_node *node,
                     const struct stat *st) {
    struct snap_record r = {.kind = SNAP_ATTR, .id = node->id, .attr = {.st = *st}, .name = ""};
    uint8_t *xattrs = NULL;
    int err = S_ISLNK(st->st_mode) ? 0 : snap_get_xattrs(s, obj, &xattrs, &r.attr.xattr_bytes);

    r.attr.xattrs = xattrs;
    pthread_mutex_lock(&s->mutex);
    err = err < 0 ? err : log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    free(xattrs);
    return err;
}

/* A file with several names is anchored before anything is told of it: so it is one node, whichever
 * of its names it is found by. */
static int keep_attr_held(struct snap *s, struct obj *obj, struct place *p) {
    struct stat st;
    int err = snap_getattr(s, obj, VOL_NO_HANDLE, &st);

    if (err == 0 && !S_ISDIR(st.st_mode) && st.st_nlink > 1) {
        err = anchor(s, obj, NULL);
    }
    err = err < 0 ? err : keep_node(s, obj, p);
    return err < 0 || !p->node || p->made ? err : tell_attr(s, obj, p->node, &st);
}

int keep_attr(struct snap *s, struct obj *obj, struct place *ret_place) {
    struct range_hold hold;
    int err = place_of(s, obj, ret_place);

    if (err < 0 || has_attr(s, ret_place)) {
        return err;
    }
    if (ret_place->made) {
        return keep_node(s, obj, ret_place);
    }
    range_lock(&s->ranges, &hold, obj, ATTR_FROM, ATTR_TO); /* one keeps it, the second waits */
    err = place_of(s, obj, ret_place);
    if (err == 0 && !has_attr(s, ret_place)) {
        err = keep_attr_held(s, obj, ret_place);
    }
    range_unlock(&s->ranges, &hold);
    return err;
}

/* --- bytes --- */

static int keep_data(struct snap *s, struct obj *obj, struct vol_handle h, struct snap_node *node,
                     uint64_t from, uint64_t to) {
    int err = 0;

    while (err == 0 && from < to) {
        size_t n = to - from < DATA_BYTES ? (size_t)(to - from) : DATA_BYTES, got;
        uint8_t *bytes;
        struct snap_record r = {.kind = SNAP_DATA, .id = node->id, .off = from, .name = ""};

        err = snap_read(s, obj, h, from, n, &bytes, &got);
        if (err < 0) {
            break;
        }
        if (got < n) { /* it cannot be shorter than it is */
            free(bytes);
            return -EIO;
        }
        r.len = r.payload = (uint32_t)n;
        r.sum = snap_sum(bytes, n);
        pthread_mutex_lock(&s->mutex);
        err = log_tell_locked(s, &r, bytes);
        pthread_mutex_unlock(&s->mutex);
        err = err < 0 ? err : log_flush(s);
        free(bytes);
        from += n;
    }
    return err;
}

/* Zeros, or bytes that are not kept. */
static int keep_run_of(struct snap *s, enum snap_kind kind, struct snap_node *node, uint64_t from,
                       uint64_t to) {
    struct snap_record r = {
        .kind = kind, .id = node->id, .off = from, .len = to - from, .name = ""};
    int err;

    pthread_mutex_lock(&s->mutex);
    err = log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    return err;
}

/* A long run: a file of its own, cloned where the stores can (copy_file_range(2)). */
static int keep_file(struct snap *s, struct obj *obj, struct vol_handle h, struct snap_node *node,
                     uint64_t from, uint64_t to) {
    struct snap_record r = {.kind = SNAP_FILE,
                            .id = node->id,
                            .off = from,
                            .len = to - from,
                            .where = snap_new_kept(s),
                            .name = ""};
    struct snap_file file;
    char name[NAME_BYTES];
    int err;

    snap_kept_name(r.where, name);
    err = snap_file_create(s, s->kept, name, &file);
    if (err < 0) {
        return err;
    }
    for (uint64_t at = from; err == 0 && at < to;) {
        ssize_t n = s->next->ops->copy(s->next, obj, h, (off_t)at, file.obj, file.h, (off_t)at,
                                       to - at < 1 << 30 ? (size_t)(to - at) : 1 << 30, &cred_self);

        err = n < 0 ? (int)n : n == 0 ? -EIO : 0;
        at += n > 0 ? (uint64_t)n : 0;
    }
    if (err < 0) {
        snap_file_close(s, &file);
        (void)s->next->ops->unlink(s->next, s->kept, name); /* nobody knows it */
        return err;
    }
    err = s->next->ops->fsync(s->next, file.obj, file.h, true); /* before it is told of */
    snap_file_close(s, &file);
    pthread_mutex_lock(&s->mutex);
    err = err < 0 ? err : log_tell_locked(s, &r, NULL);
    pthread_mutex_unlock(&s->mutex);
    return err;
}

/* A run that is not kept, within the file: its holes, and its data. */
static int keep_run(struct snap *s, struct obj *obj, struct vol_handle h, struct snap_node *node,
                    uint64_t from, uint64_t to) {
    int err = 0;

    while (err == 0 && from < to) {
        off_t data = s->next->ops->seek(s->next, obj, h, (off_t)from, SEEK_DATA);
        off_t hole = data < 0 ? data : s->next->ops->seek(s->next, obj, h, data, SEEK_HOLE);
        uint64_t end;

        if (data == -ENXIO || (data >= 0 && (uint64_t)data >= to)) {
            return keep_run_of(s, SNAP_ZERO, node, from, to);
        }
        if (data < 0 || hole < 0) {
            return data < 0 ? (int)data : (int)hole;
        }
        if ((uint64_t)data > from) {
            err = keep_run_of(s, SNAP_ZERO, node, from, (uint64_t)data);
            from = (uint64_t)data;
        }
        end = (uint64_t)hole < to ? (uint64_t)hole : to;
        if (err == 0 && end - from >= CLONE_BYTES) {
            err = keep_file(s, obj, h, node, from, end);
        } else if (err == 0) {
            err = keep_data(s, obj, h, node, from, end);
        }
        from = end;
    }
    return err;
}

static bool find_gap(struct snap *s, const struct snap_node *node, uint64_t from, uint64_t to,
                     uint64_t *ret_from, uint64_t *ret_to) {
    bool gap;

    pthread_mutex_lock(&s->mutex);
    gap = snap_gap(node, from, to, ret_from, ret_to);
    pthread_mutex_unlock(&s->mutex);
    return gap;
}

int keep_bytes(struct snap *s, struct obj *obj, struct snap_node *node, uint64_t from,
               uint64_t to) {
    uint64_t size = (uint64_t)node->attr->st.st_size, a, b;
    struct vol_handle h = VOL_NO_HANDLE;
    struct range_hold hold;
    int err = 0;

    from -= from % BLOCK_BYTES;
    to = to < INT64_MAX - BLOCK_BYTES ? to + (BLOCK_BYTES - to % BLOCK_BYTES) % BLOCK_BYTES : to;
    to = to < size ? to : size;
    if (from >= to || !find_gap(s, node, from, to, &a, &b)) {
        return 0;
    }
    range_lock(&s->ranges, &hold, obj, from, to);
    while (err == 0 && find_gap(s, node, from, to, &a, &b)) {
        if (atomic_load(&s->drops)) {
            err = keep_run_of(s, SNAP_DROPPED, node, a, b);
            continue;
        }
        if (!vol_have(h)) {
            err = s->next->ops->open(s->next, obj, O_RDONLY, &cred_self, &h);
        }
        err = err < 0 ? err : keep_run(s, obj, h, node, a, b);
    }
    range_unlock(&s->ranges, &hold);
    if (vol_have(h)) {
        (void)s->next->ops->close(s->next, obj, h); /* only read */
    }
    return err;
}
