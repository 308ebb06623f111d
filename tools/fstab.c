#include "tools/fstab.h"

#include <libmount/libmount.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define WAITS "x-systemd.requires-mounts-for"

/* A path as fstab(5) wants it: blanks as \040. */
static void put_path(FILE *f, const char *path) {
    for (; *path; path++) {
        if (strchr(" \t\n\\", *path)) {
            (void)fprintf(f, "\\%03o", (unsigned)*path);
        } else {
            (void)fputc(*path, f);
        }
    }
}

char *fstab_line(const struct config *c) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f) {
        return NULL;
    }
    (void)fprintf(f, "%s ", c->name);
    put_path(f, c->mount_point);
    (void)fprintf(f, " holdfast _netdev,nofail");
    for (unsigned i = 0; i < c->count; i++) {
        (void)fprintf(f, "," WAITS "=");
        put_path(f, c->store[i].path);
    }
    (void)fprintf(f, " 0 0");
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

/* Whoever waits for the mounts of a folder waits for those of what is in it, on the same filesystem. */
static bool covers(const char *value, size_t bytes, const char *path) {
    char folder[PATH_BYTES];
    struct stat a, b;

    if (strncmp(value, path, bytes) != 0 || bytes >= sizeof(folder)) {
        return false;
    }
    (void)snprintf(folder, sizeof(folder), "%.*s", (int)bytes, value);
    return !path[bytes] || (path[bytes] == '/' && stat(folder, &a) == 0 && stat(path, &b) == 0 &&
                            a.st_dev == b.st_dev);
}

/* Does one of the options say that it waits for the path? */
static bool waits_for(const char *options, const char *path) {
    char *rest = (char *)(uintptr_t)options, *name, *value;
    size_t name_bytes, value_bytes;

    while (rest && mnt_optstr_next_option(&rest, &name, &name_bytes, &value, &value_bytes) == 0) {
        if (name_bytes == strlen(WAITS) && strncmp(name, WAITS, name_bytes) == 0 &&
            (!path || (value && covers(value, value_bytes, path)))) {
            return true;
        }
    }
    return false;
}

/* Its line is there; with `waits`, for that path (NULL: for any). */
static bool find(const struct config *c, bool waits, const char *path) {
    struct libmnt_table *table = mnt_new_table();
    struct libmnt_fs *fs = NULL;
    bool found = false;

    if (table && c->mount_point[0] && mnt_table_parse_fstab(table, NULL) == 0) {
        fs = mnt_table_find_target(table, c->mount_point, MNT_ITER_FORWARD);
    }
    if (fs && mnt_fs_get_fstype(fs) && strstr(mnt_fs_get_fstype(fs), "holdfast")) {
        const char *options = mnt_fs_get_options(fs);

        found = !waits || (options && waits_for(options, path));
    }
    mnt_unref_table(table);
    return found;
}

bool fstab_has(const struct config *c) {
    return find(c, false, NULL);
}

bool fstab_waits(const struct config *c, const char *path) {
    return find(c, true, path);
}
