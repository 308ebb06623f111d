#include "fuse/front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "base/limits.h"
#include "fuse/front_int.h"

static int set_up_session(struct front *f, struct why *why) {
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
        err = why_set(why, -EIO, "cannot mount at %s: is /dev/fuse there, and are you root?",
                      f->config.mount_point);
        goto out;
    }
    f->mounted = true;
    err = channel_open(f);
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
    f->root = config->root;
    f->eager_fd = -1;
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

int front_serve(struct front *f) {
    return loop_run(f);
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
                    (void)fputs(
                        "1", cut); /* if this fails the threads stay until the last file closes */
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
    cleanup_fd(&f->eager_fd);
    free(f->queues);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
}
