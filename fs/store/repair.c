/* Making one object of one store like that of another, in place. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "store/at.h"
#include "store/copy.h"
#include "store/store_int.h"

/* What is in the way goes to .holdfast/lost, under a name that says where it came from. Nothing is
 * ever deleted by a repair. */
static int move_to_lost(struct store *st, int dirfd, const char *name) {
    char lost[NAME_BYTES];
    scope_fd int folder = openat(st->folder, STORE_LOST_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (folder < 0) {
        return -errno;
    }
    for (unsigned n = 0; n < 1000; n++) {
        (void)snprintf(lost, sizeof(lost), "%u.%.200s", n, name); /* a long name is cut */
        if (faccessat(folder, lost, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
            continue;
        }
        return at_rename(dirfd, name, folder, lost, 0);
    }
    return -EEXIST;
}

static bool is_empty(int dirfd, const char *name) {
    scope_dir DIR *d = NULL;
    struct dirent *e;

    if (io_open_dir(dirfd, name, &d) < 0) {
        return false;
    }
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            return false;
        }
    }
    return true;
}

static int repair_at(int from, struct store *to_store, int to, const char *name, bool attrs_only) {
    struct copy_stat stat = {0};
    struct stat a, b;
    bool have_a = at_stat(from, name, -1, &a) == 0;
    bool have_b = at_stat(to, name, -1, &b) == 0;

    if (have_a && have_b && ((a.st_mode ^ b.st_mode) & S_IFMT) == 0) {
        return attrs_only ? copy_attrs(from, name, to, name, &stat)
                          : copy_equalize(from, name, to, name, true, &stat);
    }
    if (have_b) {
        int err = move_to_lost(to_store, to, name);

        if (err < 0) {
            return err;
        }
    }
    if (have_a && S_ISDIR(a.st_mode) && !is_empty(from, name)) {
        return -ENOTEMPTY;
    }
    return have_a ? copy_new(from, name, to, name, &stat) : 0;
}

int store_repair(struct store *from, struct store *to, struct obj *dir, const char *name,
                 bool attrs_only) {
    struct dir_ref a, b;
    int err = dirfds_get(from, dir, &a);

    if (err < 0) {
        return err;
    }
    err = dirfds_get(to, dir, &b);
    if (err == 0) {
        err = repair_at(a.fd, to, b.fd, name, attrs_only);
        dirfds_put(to, &b);
    }
    dirfds_put(from, &a);
    return err;
}

int store_clear_open(struct store *st) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(st->folder, STORE_OPEN_FOLDER, &d);

    if (err < 0) {
        return err;
    }
    while ((e = readdir(d))) {
        err = e->d_name[0] != '.' ? at_unlink(dirfd(d), e->d_name, 0) : 0;
        if (err < 0) {
            return err;
        }
    }
    return 0;
}
