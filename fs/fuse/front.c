#include "fuse/front.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

#include "base/limits.h"
#include "fuse/front_int.h"

/* libfuse 3.14 cannot ask for FUSE_HANDLE_KILLPRIV_V2, which lets the kernel remember that a file
 * has no capabilities; without it each write(2) is preceded by a getxattr request. The answer to
 * INIT passes here on its way to the kernel, and the flag is added. The duty it brings is met by
 * the mirror in any case: setuid and setgid go at write, truncate and chown (drop_privileges),
 * capabilities by the kernel below. */
static void add_init_flags(const struct iovec *iov, int count) {
    const struct fuse_out_header *head = iov[0].iov_base;
    struct fuse_init_out *out;

    if (count != 2 || head->error != 0 || iov[1].iov_len < sizeof(*out)) {
        return;
    }
    out = iov[1].iov_base;
    out->flags |= FUSE_HANDLE_KILLPRIV_V2;
}

static _Atomic uint64_t init_unique; /* of the INIT request; one front per process */

static ssize_t front_writev(int fd, struct iovec *iov, int count, void *data) {
    const struct fuse_out_header *head = iov[0].iov_base;

    (void)data;
    if (head->unique == init_unique && head->unique != 0) {
        init_unique = 0;
        add_init_flags(iov, count);
    }
    return writev(fd, iov, count);
}

static ssize_t front_read(int fd, void *buf, size_t size, void *data) {
    ssize_t n = read(fd, buf, size);
    const struct fuse_in_header *head = buf;

    (void)data;
    if (n >= (ssize_t)(sizeof(*head) + sizeof(struct fuse_init_in)) && head->opcode == FUSE_INIT) {
        const struct fuse_init_in *in = (const struct fuse_init_in *)(head + 1);

        if (in->flags & FUSE_HANDLE_KILLPRIV_V2) {
            init_unique = head->unique;
        }
    }
    return n;
}

static int set_up_session(struct front *f, struct why *why) {
    static const struct fuse_custom_io io = {.writev = front_writev, .read = front_read};
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int err = 0;

    if (fuse_opt_add_arg(&args, "holdfast") < 0 || fuse_opt_add_arg(&args, "-o") < 0 ||
        fuse_opt_add_arg(&args, f->config.options) < 0 ||
        (f->config.debug && fuse_opt_add_arg(&args, "-d") < 0)) {
        err = why_set(why, -ENOMEM, "out of memory");
        goto out;
    }
    f->session = fuse_session_new(&args, &front_ops, sizeof(front_ops), f);
    if (!f->session) {
        err = why_set(why, -HFE_USAGE, "a mount option is wrong: %s", f->config.options);
        goto out;
    }
    if (fuse_session_mount(f->session, f->config.mount_point) < 0) {
        err = why_set(why, -EIO, "cannot mount at %s: is /dev/fuse there, and are you root?", f->config.mount_point);
        goto out;
    }
    f->mounted = true;
    err = fuse_session_custom_io(f->session, &io, fuse_session_fd(f->session));
    if (err < 0) {
        err = why_set(why, err, "cannot set up the FUSE session: %s", error_words(err));
    }
out:
    fuse_opt_free_args(&args);
    return err;
}

int front_mount(const struct front_config *config, struct why *why, struct front **ret_front) {
    struct front *f = calloc(1, sizeof(*f));
    int err;

    if (!f) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    f->config = *config;
    f->vol = config->vol;
    f->root = obj_root(config->objs);
    pthread_mutex_init(&f->mutex, NULL);
    pthread_cond_init(&f->changed, NULL);
    err = set_up_session(f, why);
    if (err < 0) {
        front_close(f);
        return err;
    }
    *ret_front = f;
    return 0;
}

void front_serve(struct front *f) {
    loop_run(f);
}

int front_unmount(struct front *f, bool lazy) {
    return umount2(f->config.mount_point, lazy ? MNT_DETACH : 0) < 0 ? -errno : 0;
}

void front_abort(struct front *f) {
    struct stat st;
    char path[64];
    FILE *file;

    fuse_session_exit(f->session);
    if (stat("/sys/fs/fuse/connections", &st) < 0 || f->config.mount_point[0] == '\0') {
        return;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fuse_session_fd(f->session));
    file = fopen(path, "re");
    if (file) {
        char line[256];
        unsigned connection;

        while (fgets(line, sizeof(line), file)) {
            if (sscanf(line, "fuse_connection: %u", &connection) == 1) {
                FILE *cut;

                (void)snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", connection);
                cut = fopen(path, "we");
                if (cut) {
                    (void)fputs("1", cut); /* if this fails the threads stay until the last file closes */
                    (void)fclose(cut);
                }
            }
        }
        (void)fclose(file);
    }
}

void front_close(struct front *f) {
    if (!f) {
        return;
    }
    if (f->session) {
        if (f->mounted) {
            fuse_session_unmount(f->session);
        }
        fuse_session_destroy(f->session);
    }
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}
