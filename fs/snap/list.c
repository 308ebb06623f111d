/* The list of snapshots: read, saved, and what its entries say. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fiber.h"
#include "snap/snap_int.h"

static const char list_name[] = "list", list_new[] = "list.new";

int list_read(struct snap *s) {
    struct snap_file f;
    struct stat st;
    uint8_t *bytes = NULL;
    size_t n = 0;
    int err = snap_file_open(s, s->folder, list_name, O_RDONLY, &f);

    if (err < 0) {
        return err == -ENOENT ? 0 : err;
    }
    err = s->next->ops->getattr(s->next, f.obj, f.h, &st);
    if (err == 0 && (uint64_t)st.st_size > SNAP_LIST_BYTES(SNAPSHOTS_MAX)) {
        err = -HFE_CORRUPT;
    }
    err = err < 0 ? err : snap_read(s, f.obj, f.h, 0, (size_t)st.st_size, &bytes, &n);
    err = err < 0 ? err : snap_list_decode(bytes, n, &s->config.volume, s->entries, SNAPSHOTS_MAX);
    free(bytes);
    snap_file_close(s, &f);
    s->entry_count = err > 0 ? (uint32_t)err : 0;
    return err < 0 ? err : 0;
}

static int save_list(struct snap *s) {
    struct snap_file f = {.obj = NULL};
    uint8_t *bytes;
    size_t size;
    int err;

    pthread_mutex_lock(&s->mutex);
    size = SNAP_LIST_BYTES(s->entry_count);
    bytes = malloc(size);
    if (bytes) {
        snap_list_encode(&s->config.volume, s->entries, s->entry_count, bytes);
    }
    atomic_store(&s->list_changed, false);
    pthread_mutex_unlock(&s->mutex);
    if (!bytes) {
        return -ENOMEM;
    }
    err = s->next->ops->unlink(s->next, s->folder, list_new);
    err = err == 0 || err == -ENOENT ? snap_file_create(s, s->folder, list_new, &f) : err;
    err = err < 0 ? err : snap_write(s, &f, bytes, size, 0);
    err = err < 0 ? err : s->next->ops->fsync(s->next, f.obj, f.h, false);
    snap_file_close(s, &f);
    err =
        err < 0 ? err : s->next->ops->rename(s->next, s->folder, list_new, s->folder, list_name, 0);
    err = err < 0 ? err : snap_sync_folder(s, s->folder);
    fiber_orphan(bytes);
    if (err < 0) {
        atomic_store(&s->list_changed, true);
    } else { /* not before it is true after a crash, too */
        atomic_store(&s->drops, snap_only_bookmarks(s));
    }
    return err;
}

int list_save(struct snap *s) {
    struct vol_attr cut = {.set = VOL_SET_SIZE, .cred = &cred_self};
    int err = save_list(s);

    if (err == -ENOSPC &&
        s->log.file) { /* the room that was made ahead for the log is given back */
        struct stat st;

        gate_enter(&s->gate);
        rwlock_write(&s->log.io);
        if (s->log.file) {
            pthread_mutex_lock(&s->mutex);
            cut.size = (off_t)s->log.written;
            s->log.room_end = s->log.written;
            pthread_mutex_unlock(&s->mutex);
            err = s->next->ops->setattr(s->next, s->log.file->file.obj, s->log.file->file.h, &cut,
                                        &st);
        }
        rwlock_write_done(&s->log.io);
        gate_leave(&s->gate);
        err = err < 0 ? err : save_list(s);
    }
    return err;
}

const char *snap_tail(const struct snap_entry *e) {
    return e->flags & SNAP_HARMED     ? SNAP_BROKEN_TAIL
           : e->flags & SNAP_BOOKMARK ? SNAP_BOOKMARK_TAIL
                                      : "";
}

bool snap_only_bookmarks(const struct snap *s) {
    for (uint32_t i = 0; i < s->entry_count; i++) {
        if (!(s->entries[i].flags & SNAP_BOOKMARK)) {
            return false;
        }
    }
    return s->entry_count > 0;
}

bool harm_entries_locked(struct snap *s, uint32_t epoch, const char *reason) {
    bool news = false;

    for (uint32_t i = 0; i < s->entry_count; i++) {
        struct snap_entry *e = &s->entries[i];

        if (e->epoch <= epoch && !(e->flags & SNAP_HARMED)) {
            e->flags |= SNAP_HARMED;
            (void)snprintf(e->reason, sizeof(e->reason), "%s", reason);
            news = true;
        }
    }
    return news;
}

void snap_harm(struct snap *s, uint32_t epoch, const char *reason) {
    bool news;

    pthread_mutex_lock(&s->mutex);
    news = harm_entries_locked(s, epoch, reason);
    pthread_mutex_unlock(&s->mutex);
    if (news) {
        event_post(s->config.events, EVENT_ERROR,
                   "snapshots are broken: %s. What is whole in them is found in "
                   ".holdfast/snapshots/NAME" SNAP_BROKEN_TAIL,
                   reason);
        atomic_store(&s->list_changed, true);
    }
}
