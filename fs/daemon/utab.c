#include "daemon/utab.h"

#include <libmount/libmount.h>
#include <stddef.h>
#include <unistd.h>

static void update(const char *target, struct libmnt_fs *fs) {
    struct libmnt_update *u = mnt_new_update();
    struct libmnt_lock *lock;

    if (u && mnt_update_set_fs(u, 0, target, fs) == 0) {
        lock = mnt_new_lock(mnt_update_get_filename(u), 0);
        (void)mnt_update_table(u, lock); /* best effort, as the header says */
        mnt_free_lock(lock);
    }
    mnt_free_update(u);
}

void utab_add(const char *name, const char *mount_point, const char *options) {
    struct libmnt_fs *fs = geteuid() == 0 ? mnt_new_fs() : NULL;

    if (fs && mnt_fs_set_source(fs, name) == 0 && mnt_fs_set_target(fs, mount_point) == 0 &&
        mnt_fs_set_fstype(fs, "fuse.holdfast") == 0 && mnt_fs_set_options(fs, options) == 0 &&
        mnt_fs_append_options(fs, "uhelper=holdfast") == 0) {
        update(NULL, fs);
    }
    mnt_unref_fs(fs);
}

void utab_remove(const char *mount_point) {
    if (geteuid() == 0) {
        update(mount_point, NULL);
    }
}
