/* doctor and store probe: what could go wrong, before it does. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "store/store.h"
#include "tool.h"
#include "tools/fstab.h"

enum grade {
    GOOD,
    WARN,
    BAD,
};

struct report {
    const struct args *args;
    json_t *list; /* with --json */
    enum grade worst;
};

static void say(struct report *r, enum grade grade, const char *what, const char *advice) {
    static const char *const names[] = {"ok", "WARNING", "PROBLEM"};

    r->worst = grade > r->worst ? grade : r->worst;
    if (r->list) {
        (void)json_array_append_new(r->list, json_pack("{s:s, s:s, s:s}", "grade", names[grade],
                                                       "what", what, "advice", advice));
    } else if (grade != GOOD || !r->args->quiet) {
        (void)printf("%-8s %s%s%s\n", names[grade], what, *advice ? "\n         -> " : "", advice);
    }
}

static void check_uring(struct report *r) {
    scope_free char *text = NULL;

    if (io_read_text(AT_FDCWD, "/sys/module/fuse/parameters/enable_uring", &text) < 0) {
        return; /* an older kernel */
    }
    if (text[0] == 'Y') {
        say(r, GOOD, "FUSE over io_uring is on for new mounts", "");
    } else {
        say(r, GOOD, "FUSE over io_uring is off",
            "work with many small files is faster with it: \"options fuse enable_uring=1\" in "
            "/etc/modprobe.d/fuse.conf, or now: echo Y "
            ">/sys/module/fuse/parameters/enable_uring, and mount again");
    }
}

static void check_machine(struct report *r) {
    if (access("/dev/fuse", R_OK | W_OK) == 0) {
        say(r, GOOD, "/dev/fuse can be opened", "");
    } else {
        say(r, BAD, "/dev/fuse cannot be opened", "modprobe fuse, and run as root");
    }
    if (access("/sbin/mount.holdfast", X_OK) == 0 &&
        access("/sbin/umount.fuse.holdfast", X_OK) == 0) {
        say(r, GOOD, "mount(8) finds its helpers", "");
    } else {
        say(r, WARN, "mount(8) does not find /sbin/mount.holdfast and its links",
            "run tools/install, for /etc/fstab to work");
    }
    check_uring(r);
}

static void check_store(struct report *r, const struct config *c, unsigned i) {
    const struct config_store *s = &c->store[i];
    char what[PATH_BYTES + 600];
    struct super super;
    struct why why = {""};
    struct stat st, other;
    const struct super_member *m;
    int err = s->away ? why_set(&why, -ETIMEDOUT, "%s does not answer", s->path)
                      : store_identify(s->path, &super, &why);

    if (err < 0) {
        (void)snprintf(what, sizeof(what), "store \"%s\": %s", s->label, why.text);
        say(r, BAD, what,
            err == -ETIMEDOUT                 ? "see to its mount or server"
            : err == -EACCES || err == -EPERM ? "run this as root"
            : err == -HFE_FEATURE             ? "install the newer Holdfast that wrote it"
                                              : "mount its disk");
        return;
    }
    m = super_member_of(&super, &super.store_id);
    if (!id_equal(&super.volume_id, &c->id) || !m) {
        (void)snprintf(what, sizeof(what), "store \"%s\": %s holds a store of volume \"%s\"",
                       s->label, s->path, super.volume_name);
        say(r, BAD, what, "another disk is mounted there");
        return;
    }
    (void)snprintf(what, sizeof(what), "store \"%s\" is at %s", s->label, s->path);
    say(r, GOOD, what, "");
    for (int k = 0; k < STORE_CAPS; k++) {
        if (!(m->caps & (uint32_t)store_cap_table[k].cap) &&
            store_cap_table[k].cap != STORE_REFLINK) {
            (void)snprintf(what, sizeof(what), "store \"%s\" has no %s", s->label,
                           store_cap_table[k].name);
            say(r, WARN, what, store_cap_table[k].without);
        }
    }
    for (unsigned k = 0; k < i; k++) {
        if (!c->store[k].away && stat(s->path, &st) == 0 && stat(c->store[k].path, &other) == 0 &&
            st.st_dev == other.st_dev) {
            (void)snprintf(what, sizeof(what), "stores \"%s\" and \"%s\" are on one filesystem",
                           c->store[k].label, s->label);
            say(r, WARN, what,
                "when that disk dies, both copies are gone: put one on another disk");
        }
    }
}

static bool is_immutable(const char *path) {
    scope_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int flags = 0;

    return fd >= 0 && ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & FS_IMMUTABLE_FL);
}

static bool drop_in_names(const char *folder, const char *mount_point) {
    scope_dir DIR *d = NULL;
    struct dirent *e;

    if (io_open_dir(AT_FDCWD, folder, &d) < 0) {
        return false;
    }
    while ((e = readdir(d))) {
        scope_free char *text = NULL;

        if (e->d_name[0] != '.' && io_read_text(dirfd(d), e->d_name, &text) == 0 &&
            strstr(text, mount_point)) {
            return true;
        }
    }
    return false;
}

/* A drop-in of one of the template's instances: postgresql@15-main.service.d of postgresql@.service. */
static bool instance_names(const char *unit, const char *mount_point) {
    const char *at = strchr(unit, '@');
    scope_dir DIR *d = NULL;
    struct dirent *e;

    if (!at || io_open_dir(AT_FDCWD, "/etc/systemd/system", &d) < 0) {
        return false;
    }
    while ((e = readdir(d))) {
        size_t n = strlen(e->d_name);
        char path[512];

        if (strncmp(e->d_name, unit, (size_t)(at - unit) + 1) == 0 && n > 2 &&
            strcmp(e->d_name + n - 2, ".d") == 0) {
            (void)snprintf(path, sizeof(path), "/etc/systemd/system/%s", e->d_name);
            if (drop_in_names(path, mount_point)) {
                return true;
            }
        }
    }
    return false;
}

/* Is there a RequiresMountsFor= that names the mount point, for a unit that is installed? */
static void check_unit(struct report *r, const struct config *c, const char *unit) {
    char path[512], what[PATH_BYTES + 100], advice[PATH_BYTES + 100];

    (void)snprintf(path, sizeof(path), "/lib/systemd/system/%s", unit);
    if (access(path, F_OK) < 0) {
        return;
    }
    (void)snprintf(path, sizeof(path), "/etc/systemd/system/%s.d", unit);
    if (drop_in_names(path, c->mount_point) || instance_names(unit, c->mount_point)) {
        (void)snprintf(what, sizeof(what), "%s waits for %s", unit, c->mount_point);
        say(r, GOOD, what, "");
        return;
    }
    (void)snprintf(what, sizeof(what), "%s does not wait for %s (if its data is there, it must)",
                   unit, c->mount_point);
    (void)snprintf(advice, sizeof(advice), "put [Unit] RequiresMountsFor=%s into %s/holdfast.conf",
                   c->mount_point, path);
    say(r, WARN, what, advice);
}

static void check_fstab(struct report *r, const struct config *c) {
    scope_free char *line = fstab_line(c);
    char what[PATH_BYTES + 100];

    if (!fstab_has(c)) {
        (void)snprintf(what, sizeof(what), "%s is not in /etc/fstab: it is not mounted at boot",
                       c->mount_point);
        say(r, WARN, what, line ? line : "");
        return;
    }
    for (unsigned i = 0; i < c->count && fstab_waits(c, NULL); i++) {
        if (!fstab_waits(c, c->store[i].path)) {
            (void)snprintf(what, sizeof(what),
                           "its line in /etc/fstab does not wait for the disk of store \"%s\"",
                           c->store[i].label);
            say(r, WARN, what, line ? line : "");
        }
    }
}

static void check_mount_point(struct report *r, const struct config *c) {
    static const char *const units[] = {"postgresql@.service", "mariadb.service", "apache2.service",
                                        "nginx.service", "php8.2-fpm.service"};
    char what[PATH_BYTES + 100], at[PATH_BYTES], name[PATH_BYTES];
    struct stat st;

    if (!c->mount_point[0]) {
        say(r, WARN, "the volume has no mount point in its configuration",
            "add `mount = DIR` to its file");
        return;
    }
    if (daemon_find_mount(c->name, at, name) == 0) {
        (void)snprintf(what, sizeof(what), "mounted at %s", at);
        say(r, GOOD, what, "");
    } else if (stat(c->mount_point, &st) < 0) {
        (void)snprintf(what, sizeof(what), "the mount point %s: %s", c->mount_point,
                       error_words(-errno));
        say(r, BAD, what,
            errno == ENOTCONN ? "its daemon died: umount it, and mount the volume again"
                              : "create the folder");
    } else if (!is_immutable(c->mount_point)) {
        (void)snprintf(what, sizeof(what), "the bare mount point %s can be written to",
                       c->mount_point);
        say(r, WARN, what, "software that starts before the mount would fill it: chattr +i on it");
    }
    check_fstab(r, c);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        check_unit(r, c, units[i]);
    }
}

static void check_volume(struct report *r, const char *name) {
    struct config c;
    struct why why = {""};
    char what[200];

    if (config_load(name, &c, &why) < 0) {
        say(r, BAD, why.text, "");
        return;
    }
    (void)snprintf(what, sizeof(what), "volume \"%s\": its configuration can be read", name);
    say(r, GOOD, what, "");
    config_ask_stores(&c, 0);
    for (unsigned i = 0; i < c.count; i++) {
        check_store(r, &c, i);
    }
    check_mount_point(r, &c);
}

int cmd_doctor(const struct args *a) {
    enum { VOLUMES_MAX = 256 };
    static char names[VOLUMES_MAX][VOLUME_NAME_BYTES];
    struct report r = {.args = a, .list = a->json ? json_array() : NULL};
    unsigned n = a->count > 0 ? 0 : config_list(names, VOLUMES_MAX);

    check_machine(&r);
    if (a->count > 0) {
        check_volume(&r, a->word[0]);
    }
    for (unsigned i = 0; i < n; i++) {
        check_volume(&r, names[i]);
    }
    if (r.list) {
        print_json(json_pack("{s:i, s:o}", "schema", 1, "checks", r.list));
    }
    return r.worst == BAD ? EXIT_FAILED : r.worst == WARN ? EXIT_WARNINGS : EXIT_OK;
}

int cmd_store_probe(const struct args *a) {
    struct why why = {""};
    struct super super;
    uint32_t caps;
    json_t *list = a->json ? json_object() : NULL;
    int err = config_ask_folder(a->word[0], &why);

    err = err < 0 ? err : store_probe(a->word[0], &caps, &why);

    if (err < 0) {
        json_decref(list);
        return fail(err, &why);
    }
    for (int i = 0; i < STORE_CAPS; i++) {
        bool can = caps & (uint32_t)store_cap_table[i].cap;

        if (list) {
            (void)json_object_set_new(list, store_cap_table[i].name, json_boolean(can));
        } else {
            (void)printf("%-28s %-4s%s%s\n", store_cap_table[i].name, can ? "yes" : "NO",
                         can ? "" : " ", can ? "" : store_cap_table[i].without);
        }
    }
    if (list) {
        print_json(json_pack("{s:i, s:o, s:o}", "schema", 1, "folder", text_json("", a->word[0]),
                             "can", list));
    } else if (store_identify(a->word[0], &super, NULL) == 0) {
        (void)printf("it is a store of volume \"%s\"\n", super.volume_name);
    }
    return EXIT_OK;
}
