#include "daemon/witness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "daemon/config.h"

struct witness {
    int fd;
    uint64_t seq;
};

static void witness_path(const struct id *volume_id, char ret_path[PATH_BYTES]) {
    char id[ID_TEXT_BYTES];

    id_text(volume_id, id);
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s.witness", state_dir(),
                   id); /* too long fails at open */
}

int witness_open(const struct id *volume_id, struct why *why, struct witness **ret_witness) {
    char path[PATH_BYTES];
    scope_fd int fd = -1;
    struct witness *w;
    int err = io_make_path(state_dir(), 0755);

    witness_path(volume_id, path);
    if (err == 0) {
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        /* posix_fallocate(3) returns its error and leaves errno alone */
        err = fd < 0 ? -errno : -posix_fallocate(fd, 0, (off_t)SUPER_SLOTS * SUPER_BYTES);
    }
    if (err < 0) {
        return why_set(
            why, err,
            "cannot make the witness record %s: %s; it must be writable on a disk with room", path,
            error_words(err));
    }
    w = calloc(1, sizeof(*w));
    if (!w) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    w->fd = steal_fd(&fd);
    *ret_witness = w;
    return 0;
}

void witness_close(struct witness *w) {
    if (w) {
        (void)close(w->fd); /* each write was synced */
        free(w);
    }
}

int witness_read(struct witness *w, struct super *ret_record) {
    bool have = false;

    for (int i = 0; i < SUPER_SLOTS; i++) {
        uint8_t bytes[SUPER_BYTES];
        struct super s;
        ssize_t n = io_pread(w->fd, bytes, sizeof(bytes), (off_t)i * SUPER_BYTES);

        if (n < 0) {
            return (int)n;
        }
        if (n == SUPER_BYTES && super_decode(bytes, &s) == 0 && s.kind == SUPER_WITNESS &&
            (!have || s.seq > w->seq)) {
            *ret_record = s;
            w->seq = s.seq;
            have = true;
        }
    }
    return have ? 0 : -ENOENT;
}

int witness_write(void *arg, const struct super *super) {
    struct witness *w = arg;
    struct super record = *super;
    uint8_t bytes[SUPER_BYTES];
    ssize_t n;

    record.kind = SUPER_WITNESS;
    record.store_id = (struct id){{0}};
    record.seq = w->seq + 1;
    super_encode(&record, bytes);
    n = io_pwrite(w->fd, bytes, sizeof(bytes), (off_t)(record.seq % SUPER_SLOTS) * SUPER_BYTES);
    if (n != SUPER_BYTES) {
        return n < 0 ? (int)n : -ENOSPC;
    }
    if (fdatasync(w->fd) < 0) {
        return -errno;
    }
    w->seq = record.seq;
    return 0;
}

int witness_remove(const struct id *volume_id) {
    char path[PATH_BYTES];

    witness_path(volume_id, path);
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}
