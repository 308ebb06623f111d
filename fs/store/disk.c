#include "store/disk.h"

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"

/* The first line of folder/name, without what is around it. */
static void read_line(const char *folder, const char *name, char *ret, size_t size) {
    char path[PATH_MAX];
    FILE *f;

    ret[0] = '\0';
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name); /* too long is not there */
    f = fopen(path, "re");
    if (f) {
        if (!fgets(ret, (int)size, f)) {
            ret[0] = '\0';
        }
        (void)fclose(f); /* read only */
    }
    while (ret[0] && strchr(" \n\t", ret[strlen(ret) - 1])) {
        ret[strlen(ret) - 1] = '\0';
    }
}

static bool exists(const char *folder, const char *name) {
    char path[PATH_MAX];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* Below a mapped device (LVM, dm-crypt): its first part. */
static bool first_slave(char *folder) {
    char path[PATH_MAX], real[PATH_MAX];
    scope_dir DIR *d = NULL;
    struct dirent *e;

    (void)snprintf(path, sizeof(path), "%s/slaves", folder);
    d = opendir(path);
    while (d && (e = readdir(d))) {
        char slave[PATH_MAX + 300];

        (void)snprintf(slave, sizeof(slave), "%s/%s", path, e->d_name);
        if (e->d_name[0] != '.' && realpath(slave, real)) {
            memcpy(folder, real, strlen(real) + 1);
            return true;
        }
    }
    return false;
}

void disk_describe(dev_t dev, char ret_text[DISK_TEXT_BYTES]) {
    enum { LEVELS = 8 };
    char link[64], folder[PATH_MAX], model[64], serial[64];

    ret_text[0] = '\0';
    (void)snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    if (!realpath(link, folder)) {
        return; /* no block device: nothing to say */
    }
    for (int i = 0; i < LEVELS && (exists(folder, "partition") || first_slave(folder)); i++) {
        if (exists(folder, "partition")) {
            *strrchr(folder, '/') = '\0';
        }
    }
    read_line(folder, "device/model", model, sizeof(model));
    read_line(folder, "device/serial", serial, sizeof(serial));
    if (!serial[0]) {
        read_line(folder, "serial", serial, sizeof(serial));
    }
    (void)snprintf(ret_text, DISK_TEXT_BYTES, "%s%s%s%s%s", strrchr(folder, '/') + 1,
                   model[0] ? ", " : "", model, serial[0] ? ", serial " : "", serial);
}
