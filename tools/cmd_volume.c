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

static volatile sig_atomic_t interrupted;

static void on_signal(int sig) {
    (void)sig;
    interrupted = 1;
}

/* --- progress --- */

struct progress {
    int64_t started_ms, shown_ms;
    unsigned tenth; /* shown so far, where stderr is no terminal */
    bool quiet;
};

static bool show_progress(void *arg, const struct copy_stat *stat, uint64_t bytes,
                          uint64_t objects) {
    struct progress *p = arg;
    int64_t now = clock_ms(), run = now - p->started_ms + 1;
    double part = bytes > 0     ? (double)stat->bytes_copied / (double)bytes
                  : objects > 0 ? (double)stat->objects_compared / (double)objects
                                : 1;
    char done[32], all[32], rate[32];
    bool terminal = isatty(STDERR_FILENO);

    part = part > 1 ? 1 : part;
    if (p->quiet || (terminal ? now - p->shown_ms < 500 : (unsigned)(part * 10) <= p->tenth)) {
        return !interrupted;
    }
    p->shown_ms = now;
    p->tenth = (unsigned)(part * 10);
    (void)fprintf(stderr, "%sfilling: %5.1f %%  %s of %s  %s/s  %llu objects%s",
                  terminal ? "\r" : "", part * 100, size_text(stat->bytes_copied, false, done),
                  size_text(bytes, false, all),
                  size_text(stat->bytes_copied * 1000 / (uint64_t)run, false, rate),
                  (unsigned long long)stat->objects_compared, terminal ? "\033[K" : "\n");
    return !interrupted;
}

static void show_notice(void *arg, const char *text) {
    const struct progress *p = arg;

    if (!p->quiet) {
        (void)fprintf(stderr, "holdfast: note: %s\n", text);
    }
}

/* --- what create offers besides --- */

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

static int add_fstab(const struct config *c, struct why *why) {
    FILE *f = fopen("/etc/fstab", "ae");

    if (!f) {
        return why_set(why, -errno, "cannot write /etc/fstab: %s", error_words(-errno));
    }
    (void)fprintf(f, "%s ", c->name);
    put_path(f, c->mount_point);
    (void)fprintf(f, " holdfast _netdev,nofail");
    for (unsigned i = 0; i < c->count; i++) {
        (void)fprintf(f, ",x-systemd.requires-mounts-for=");
        put_path(f, c->store[i].path);
    }
    (void)fprintf(f, " 0 0\n");
    return fclose(f) != 0 ? why_set(why, -errno, "cannot write /etc/fstab: %s", error_words(-errno))
                          : 0;
}

static void say_next(const struct config *c, const struct args *a) {
    if (a->quiet) {
        return;
    }
    (void)printf("volume \"%s\" is made, with %u stores.\nnext:    holdfast mount %s%s\n", c->name,
                 c->count, c->name, c->mount_point[0] ? "" : " DIR");
    if (c->mount_point[0] && !a->fstab) {
        (void)printf("at boot: echo '%s %s holdfast _netdev,nofail 0 0' >> /etc/fstab\n", c->name,
                     c->mount_point);
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
    return 0;
}

/* DIR becomes DIR.store, a store that is adopted; a new DIR is the mount point. */
static int take_over(const char *dir, struct volume_create *vc, struct why *why) {
    char real[PATH_BYTES], moved[PATH_BYTES + 8];
    struct config *c = &vc->config;
    struct stat st;
    int err;

    if (!realpath(dir, real) || stat(real, &st) < 0) {
        return why_set(why, -errno, "%s: %s", dir, error_words(-errno));
    }
    (void)snprintf(moved, sizeof(moved), "%s.store", real);
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
    struct progress progress = {.started_ms = clock_ms(), .quiet = a->quiet};
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
    vc->progress = show_progress;
    vc->progress_arg = &progress;
    vc->notice = show_notice;
    err = parse_create(a, vc, &why);
    if (err == 0 && a->dry_run) {
        err = assemble_check_places(
            &vc->config, vc->config.mount_point[0] ? vc->config.mount_point : NULL, &why);
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
    if (progress.shown_ms && isatty(STDERR_FILENO)) {
        (void)fputc('\n', stderr);
    }
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
    int err;

    for (int i = 0; i < a->count; i++) {
        paths[i] = a->word[i];
    }
    err = volume_identify(paths, (unsigned)a->count, &c, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    if (config_load(c.name, &old, NULL) == 0 && !id_equal(&old.id, &c.id)) {
        why_set(&why, -HFE_UNSAFE,
                "another volume is called \"%s\" here; rename its file in %s first", c.name,
                config_dir());
        return fail(-HFE_UNSAFE, &why);
    }
    if (a->mount && !realpath(a->mount, c.mount_point)) {
        err = why_set(&why, -errno, "the mount point %s: %s; create the folder first", a->mount,
                      error_words(-errno));
    }
    err = err < 0 ? err : config_save(&c, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    (void)printf("volume \"%s\" is known now, with %u stores.\nnext: holdfast mount %s%s\n", c.name,
                 c.count, c.name, c.mount_point[0] ? "" : " DIR");
    return EXIT_OK;
}

static int find_store(const struct config *c, const char *word) {
    char path[PATH_BYTES];

    for (unsigned i = 0; i < c->count; i++) {
        if (strcmp(c->store[i].label, word) == 0 ||
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
    if (!confirmed(a, c.name,
                   "The volume ends: its files stay in the stores' folders, but nothing mirrors "
                   "them any more.")) {
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
    (void)printf("volume \"%s\" is dissolved; its files are in %s\n", c.name,
                 c.mount_point[0] && access(c.store[keep].path, F_OK) < 0 ? c.mount_point
                                                                          : c.store[keep].path);
    if (c.mount_point[0]) {
        (void)printf("if /etc/fstab or a unit of systemd names %s, take that out, too\n",
                     c.mount_point);
    }
    return EXIT_OK;
}
