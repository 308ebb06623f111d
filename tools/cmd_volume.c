/* create, import, dissolve. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "daemon/assemble.h"
#include "daemon/volume.h"
#include "format/super.h"
#include "tool.h"
#include "tools/fstab.h"
#include "tools/progress.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    (void)sig;
    interrupted = 1;
}

/* --- progress --- */

struct filling {
    struct progress progress;
    int64_t started_ms;
};

static bool show_filling(void *arg, const struct copy_stat *stat, uint64_t bytes,
                         uint64_t objects) {
    struct filling *f = arg;
    uint64_t ms = (uint64_t)(clock_ms() - f->started_ms) + 1;

    (void)objects;
    progress_show(&f->progress, stat->bytes_copied, bytes, stat->bytes_copied * 1000 / ms);
    return !interrupted;
}

static void show_notice(void *arg, const char *text) {
    const struct filling *f = arg;

    if (!f->progress.quiet) {
        (void)fprintf(stderr, "holdfast: note: %s\n", text);
    }
}

/* --- what create offers besides --- */

static bool lacks_newline(FILE *f) {
    bool lacks =
        fseek(f, -1, SEEK_END) == 0 && fgetc(f) != '\n'; /* an empty file has no last byte */

    return fseek(f, 0, SEEK_END) == 0 && lacks;
}

static int append_line(const char *path, const char *line) {
    FILE *f = fopen(path, "a+e");
    int err = !f ? -errno : fprintf(f, "%s%s\n", lacks_newline(f) ? "\n" : "", line) < 0 ? -EIO : 0;

    return f && fclose(f) != 0 ? -errno : err;
}

static int add_fstab(const struct config *c, struct why *why) {
    scope_free char *line = fstab_line(c);
    int err = line ? append_line("/etc/fstab", line) : -ENOMEM;

    return err == 0 ? 0
                    : why_set(why, err,
                              "the volume is made, but /etc/fstab could not be written (%s): add "
                              "the line by hand: %s",
                              error_words(err), line ? line : c->name);
}

static void say_next(const struct config *c, const struct args *a) {
    scope_free char *line = fstab_line(c);

    if (a->quiet) {
        return;
    }
    (void)printf("volume \"%s\" is made, with %u stores.\nnext:    holdfast mount %s%s\n", c->name,
                 c->count, c->name, c->mount_point[0] ? "" : " DIR");
    if (line && c->mount_point[0] && !a->fstab) {
        (void)printf("at boot: echo '%s' >> /etc/fstab\n", line);
    }
    (void)printf(
        "hourly:  systemctl enable --now holdfast-snapshot@%s.timer  # snapshots, pruned by "
        "age\n",
        c->name);
    if (c->mount_point[0]) {
        (void)printf("databases and web servers must wait for it; for each of their units:\n"
                     "         mkdir -p /etc/systemd/system/UNIT.d\n"
                     "         printf '[Unit]\\nRequiresMountsFor=%s\\n' > "
                     "/etc/systemd/system/UNIT.d/holdfast.conf\n",
                     c->mount_point);
    }
}

static int parse_create(const struct args *a, struct volume_create *vc, struct why *why) {
    struct config *c = &vc->config, old;
    char path[PATH_BYTES];
    struct mount_options checked = {0};
    int err = 0;

    if ((size_t)snprintf(c->name, sizeof(c->name), "%s", a->word[0]) >= sizeof(c->name) ||
        !super_name_ok(c->name)) {
        return why_set(
            why, -HFE_USAGE,
            "\"%s\" is not a volume name: a letter, then up to 62 letters, digits, '_', '.', '-'",
            a->word[0]);
    }
    err = config_load(c->name, &old, why);
    if (err != -ENOENT) {
        return err < 0 ? err
                       : why_set(why, -HFE_UNSAFE,
                                 "there is a volume \"%s\" already; `holdfast status %s`", c->name,
                                 c->name);
    }
    err = a->options ? mount_options_parse(a->options, &checked, why) : 0;
    for (int i = 1; i < a->count && err == 0; i++) {
        err = config_add_store(c, a->word[i], why);
    }
    if (err < 0) {
        return err;
    }
    (void)snprintf(c->options, sizeof(c->options), "%s", a->options ? a->options : "");
    vc->adopt = -1;
    for (unsigned i = 0; a->adopt && i < c->count; i++) {
        if (strcmp(c->store[i].label, a->adopt) == 0 ||
            (realpath(a->adopt, path) && strcmp(path, c->store[i].path) == 0)) {
            vc->adopt = (int)i;
        }
    }
    if (a->adopt && vc->adopt < 0) {
        return why_set(why, -HFE_USAGE,
                       "--adopt %s: that is not one of the stores; give its path or label",
                       a->adopt);
    }
    if (a->mount && !realpath(a->mount, c->mount_point)) {
        return why_set(why, -errno, "the mount point %s: %s; create the folder first", a->mount,
                       error_words(-errno));
    }
    if (a->fstab && !a->mount && !a->take_over) {
        return why_set(why, -HFE_USAGE, "--fstab needs --mount DIR");
    }
    if (a->take_over && (a->mount || a->adopt)) {
        return why_set(why, -HFE_USAGE,
                       "--take-over DIR says both which files become the volume and where it is "
                       "mounted: neither --adopt nor --mount goes with it");
    }
    return config_check(c, why);
}

/* Can it be written what the volume would be then? */
static int check_take_over(const struct config *config, const char *real, const char *moved,
                           struct why *why) {
    struct config c = *config;

    (void)snprintf(c.mount_point, sizeof(c.mount_point), "%s", real); /* it is a path already */
    return config_note_store(&c, "/", moved)                          /* no label of another one */
               ? config_check(&c, why)
               : why_set(why, -HFE_USAGE, "a volume has at most %d stores", STORES_MAX);
}

/* Where it is, and what it would be called. */
static int find_take_over(const struct config *c, const char *dir, char ret_real[PATH_BYTES],
                          char ret_moved[PATH_BYTES + 8], struct stat *ret_st, struct why *why) {
    if (!realpath(dir, ret_real) || stat(ret_real, ret_st) < 0) {
        return why_set(why, -errno, "%s: %s", dir, error_words(-errno));
    }
    (void)snprintf(ret_moved, PATH_BYTES + 8, "%s.store", ret_real);
    return !S_ISDIR(ret_st->st_mode) ? why_set(why, -ENOTDIR, "%s is not a folder", ret_real)
           : access(ret_moved, F_OK) == 0
               ? why_set(why, -EEXIST, "there is a %s already: %s would become that", ret_moved,
                         ret_real)
               : check_take_over(c, ret_real, ret_moved, why);
}

/* DIR becomes DIR.store, a store that is adopted; a new DIR is the mount point. */
static int take_over(const char *dir, struct volume_create *vc, struct why *why) {
    char real[PATH_BYTES], moved[PATH_BYTES + 8];
    struct config *c = &vc->config;
    struct stat st;
    int err = find_take_over(c, dir, real, moved, &st, why);

    if (err < 0) {
        return err;
    }
    if (rename(real, moved) < 0) {
        return why_set(
            why, -errno,
            "cannot rename %s to %s: %s (a mount point cannot be taken over; use --adopt)", real,
            moved, error_words(-errno));
    }
    (void)snprintf(c->mount_point, sizeof(c->mount_point), "%s", real); /* it is a path already */
    err = mkdir(real, 0700) < 0 || chown(real, st.st_uid, st.st_gid) < 0 ? -errno : 0;
    err = err < 0 ? why_set(why, err, "cannot make %s: %s", real, error_words(err))
                  : config_add_store(c, moved, why);
    if (err == 0) {
        vc->adopt = (int)c->count - 1;
        err = volume_create(vc, why);
    }
    if (err < 0 && (rmdir(real) < 0 || rename(moved, real) < 0)) {
        (void)fprintf(stderr, "holdfast: %s could not be renamed back to %s: do so by hand\n",
                      moved, real);
    }
    return err;
}

int cmd_create(const struct args *a) {
    struct volume_create *vc = calloc(1, sizeof(*vc));
    struct filling filling = {.started_ms = clock_ms()};
    struct why why = {""};
    int err;

    if (!vc) {
        return fail(-ENOMEM, &why);
    }
    if (a->count < 3 && !a->take_over) {
        free(vc);
        why_set(&why, -HFE_USAGE,
                "a volume needs at least two stores: holdfast create NAME STORE STORE");
        return fail(-HFE_USAGE, &why);
    }
    (void)signal(SIGINT, on_signal);
    (void)signal(SIGTERM, on_signal);
    progress_begin(&filling.progress, "filling", a->quiet);
    vc->progress = show_filling;
    vc->progress_arg = &filling;
    vc->notice = show_notice;
    err = parse_create(a, vc, &why);
    if (err == 0 && a->dry_run) {
        err = assemble_check_places(
            &vc->config, vc->config.mount_point[0] ? vc->config.mount_point : NULL, &why);
    }
    if (err == 0 && a->dry_run && a->take_over) {
        char real[PATH_BYTES], moved[PATH_BYTES + 8];
        struct stat st;

        err = find_take_over(&vc->config, a->take_over, real, moved, &st, &why);
    }
    if (err == 0 && a->dry_run) {
        (void)printf("would make volume \"%s\" with %u stores\n", vc->config.name,
                     vc->config.count + (a->take_over != NULL));
        free(vc);
        return EXIT_OK;
    }
    if (err == 0) {
        err = a->take_over ? take_over(a->take_over, vc, &why) : volume_create(vc, &why);
    }
    progress_end(&filling.progress);
    if (err == 0 && vc->config.mount_point[0]) {
        if (volume_protect_mount_point(vc->config.mount_point, true) < 0 && !a->quiet) {
            (void)fprintf(stderr,
                          "holdfast: note: %s cannot be made immutable; software that starts "
                          "before the mount "
                          "would write below it\n",
                          vc->config.mount_point);
        }
    }
    err = err == 0 && a->fstab ? add_fstab(&vc->config, &why) : err;
    if (err == 0) {
        say_next(&vc->config, a);
    }
    free(vc);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

int cmd_import(const struct args *a) {
    const char *paths[STORES_MAX];
    struct config c, old;
    struct why why = {""};
    bool known;
    int err;

    for (int i = 0; i < a->count; i++) {
        paths[i] = a->word[i];
    }
    err = volume_identify(paths, (unsigned)a->count, &c, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    err = config_load(c.name, &old, &why);
    known = err == 0;
    if (!known && err != -ENOENT) { /* what the admin wrote is not thrown away */
        return fail(err, &why);
    }
    err = 0;
    if (known && !id_equal(&old.id, &c.id)) {
        why_set(&why, -HFE_UNSAFE,
                "another volume is called \"%s\" here; rename its file in %s first", c.name,
                config_dir());
        return fail(-HFE_UNSAFE, &why);
    }
    if (known) { /* what the admin wrote stays; the stores are where they were said to be now */
        for (unsigned i = 0; i < old.count; i++) {
            (void)config_note_store(&c, old.store[i].label, old.store[i].path);
        }
        memcpy(c.mount_point, old.mount_point, sizeof(c.mount_point));
        memcpy(c.options, old.options, sizeof(c.options));
        memcpy(c.program, old.program, sizeof(c.program));
        memcpy(c.mailaddr, old.mailaddr, sizeof(c.mailaddr));
    }
    if (a->mount && !realpath(a->mount, c.mount_point)) {
        err = why_set(&why, -errno, "the mount point %s: %s; create the folder first", a->mount,
                      error_words(-errno));
    }
    err = err < 0 ? err : config_save(&c, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf("volume \"%s\" is known now, with %u stores.\nnext: holdfast mount %s%s\n",
                     c.name, c.count, c.name, c.mount_point[0] ? "" : " DIR");
    }
    return EXIT_OK;
}

static int find_store(const struct config *c, const char *word) {
    char path[PATH_BYTES];

    for (unsigned i = 0; i < c->count; i++) {
        if (config_is_store(c->store[i].label, c->store[i].path, word) ||
            (realpath(word, path) && strcmp(path, c->store[i].path) == 0)) {
            return (int)i;
        }
    }
    return -1;
}

int cmd_dissolve(const struct args *a) {
    struct config c;
    struct why why = {""};
    int keep, lock, err = config_load(a->word[0], &c, &why);

    if (err < 0) {
        return fail(err, &why);
    }
    keep = a->keep ? find_store(&c, a->keep) : -1;
    if (keep < 0) {
        why_set(&why, -HFE_USAGE,
                "say which store stays, by label or path: holdfast dissolve %s --keep %s", c.name,
                c.store[0].label);
        return fail(-HFE_USAGE, &why);
    }
    if (a->dry_run) {
        (void)printf("would end volume \"%s\"; its files would stay in %s\n", c.name,
                     c.store[keep].path);
        return EXIT_OK;
    }
    config_ask_stores(&c, 0);
    if (!confirmed(a, c.name,
                   "The volume ends: its files stay in the stores' folders, but nothing mirrors "
                   "them any more, and its snapshots go.")) {
        return EXIT_UNSAFE;
    }
    lock = daemon_lock(c.name, &why);
    err = lock < 0 ? lock : volume_dissolve(&c, (unsigned)keep, &why);
    if (lock >= 0) {
        (void)close(lock);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (a->quiet) {
        return EXIT_OK;
    }
    (void)printf("volume \"%s\" is dissolved; its files are in %s\n", c.name,
                 c.mount_point[0] && access(c.store[keep].path, F_OK) < 0 ? c.mount_point
                                                                          : c.store[keep].path);
    for (unsigned i = 0; i < c.count; i++) {
        if (c.store[i].away) {
            (void)printf("%s did not answer: it still has its files, and .holdfast, which may be "
                         "removed there\n",
                         c.store[i].path);
        }
    }
    if (c.mount_point[0]) {
        (void)printf("if /etc/fstab or a unit of systemd names %s, take that out, too\n",
                     c.mount_point);
    }
    return EXIT_OK;
}
