/* Snapshots: made, listed, named, held and destroyed; and what is done with them through the mount:
 * restore, diff, verify. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "ctl/ctl.h"
#include "format/snap.h"
#include "tool.h"

enum {
    FREEZE_MS = 30000, /* for the helper to freeze, and again to thaw */
    ASK_MS = 600000,   /* until a snapshot is settled: all stores are synced */
    WALK_FDS = 32,
};

/* NAME@SNAP, taken apart. */
struct target {
    char volume[VOLUME_NAME_BYTES];
    char snapshot[SNAPSHOT_NAME_BYTES]; /* "" if none is given */
};

static int parse_target(const char *word, bool needed, struct target *t, struct why *why) {
    const char *at = strchr(word, '@');
    size_t n = at ? (size_t)(at - word) : strlen(word);

    if (n >= sizeof(t->volume) || (at && strlen(at + 1) >= sizeof(t->snapshot)) || (at && !at[1])) {
        return why_set(why, -HFE_USAGE, "\"%s\" is no NAME@SNAPSHOT", word);
    }
    if (needed && !at) {
        return why_set(why, -HFE_USAGE,
                       "which snapshot? Say %s@SNAPSHOT; `holdfast snapshot list %s` shows them",
                       word, word);
    }
    memcpy(t->volume, word, n);
    t->volume[n] = '\0';
    (void)snprintf(t->snapshot, sizeof(t->snapshot), "%s", at ? at + 1 : ""); /* it fits */
    return 0;
}

/* --- asking --- */

static int ask(const char *volume, json_t *request, json_t **ret_reply, struct why *why) {
    char socket[PATH_BYTES];

    daemon_socket_path(volume, socket);
    return ctl_call(socket, request, ASK_MS, ret_reply, why);
}

static int tell(const char *volume, json_t *request, struct why *why) {
    json_t *reply = NULL;
    int err = ask(volume, request, &reply, why);

    json_decref(reply);
    return err;
}

static int ask_list(const char *volume, json_t **ret_reply, struct why *why) {
    return ask(volume, json_pack("{s:s}", "verb", "snapshot-list"), ret_reply, why);
}

static const json_t *find(const json_t *reply, const char *name) {
    const json_t *s;
    size_t i;

    json_array_foreach(json_object_get(reply, "snapshots"), i, s) {
        if (strcmp(text_of(s, "name"), name) == 0) {
            return s;
        }
    }
    return NULL;
}

static int ask_snapshot(const struct target *t, json_t **ret_reply, const json_t **ret_snapshot,
                        struct why *why) {
    int err = ask_list(t->volume, ret_reply, why);

    *ret_snapshot = err == 0 ? find(*ret_reply, t->snapshot) : NULL;
    return err < 0 || *ret_snapshot
               ? err
               : why_set(why, -HFE_USAGE,
                         "volume \"%s\" has no snapshot \"%s\"; `holdfast snapshot list %s` shows "
                         "them",
                         t->volume, t->snapshot, t->volume);
}

/* --- holding an application still --- */

/* A helper process: it says "frozen" on its output, and thaws when its input ends. */
struct helper {
    pid_t pid;
    int in, out; /* ours: what it reads, what it writes */
};

/* Clients that do what they are told first, and end with their input. */
static const struct ready_made {
    const char *name, *command, *tell;
} ready_made[] = {
    {"mariadb", "exec mariadb -N --unbuffered", "FLUSH TABLES WITH READ LOCK; SELECT 'frozen';\n"},
    {"postgresql",
     "[ $(id -u) != 0 ] || [ \"$PGUSER\" ] || set -- runuser -u postgres --; "
     "cd / && exec \"$@\" psql -qAtX -d postgres",
     "CHECKPOINT; SELECT 'frozen';\n"},
};

static struct ready_made helper_of(const char *freeze) {
    for (size_t i = 0; i < sizeof(ready_made) / sizeof(ready_made[0]); i++) {
        if (strcmp(ready_made[i].name, freeze) == 0) {
            return ready_made[i];
        }
    }
    return (struct ready_made){freeze, freeze, ""};
}

/* Whatever happens, its input ends, and after a while so does it. */
static int end_helper(struct helper *h, struct why *why) {
    int64_t until = clock_ms() + FREEZE_MS;
    int status = 0;
    pid_t ended = 0;

    (void)close(h->in); /* a pipe */
    while (ended == 0 && clock_ms() < until) {
        ended = waitpid(h->pid, &status, WNOHANG);
        if (ended == 0) {
            (void)poll(NULL, 0, 20);
        }
    }
    (void)close(h->out); /* a pipe */
    if (ended == 0) {
        (void)kill(-h->pid, SIGKILL); /* it is our child */
        (void)waitpid(h->pid, &status, 0);
        return why_set(why, -ETIMEDOUT,
                       "the freeze helper did not end in %d s after the cut, and was killed",
                       FREEZE_MS / 1000);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : why_set(why, -EIO, "the freeze helper failed when it thawed");
}

static int start_helper(const char *freeze, struct helper *h, struct why *why) {
    struct ready_made made = helper_of(freeze);
    int in[2], out[2];
    ssize_t n;

    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0) {
        return why_set(why, -errno, "cannot make a pipe");
    }
    h->pid = fork();
    if (h->pid == 0) {
        (void)setpgid(0, 0);
        (void)signal(SIGPIPE, SIG_DFL);
        if (dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0) {
            (void)execl("/bin/sh", "sh", "-c", made.command, (char *)NULL);
        }
        _exit(127);
    }
    (void)close(in[0]); /* pipes: the helper's ends */
    (void)close(out[1]);
    h->in = in[1];
    h->out = out[0];
    if (h->pid < 0) {
        return why_set(why, -errno, "cannot start the freeze helper");
    }
    n = write(h->in, made.tell, strlen(made.tell));
    (void)n; /* if it is gone, it says nothing */
    return 0;
}

/* Until it says so. */
static int wait_frozen(const struct helper *h, struct why *why) {
    int64_t until = clock_ms() + FREEZE_MS;
    char text[4096];
    size_t n = 0;

    while (clock_ms() < until && n < sizeof(text) - 1) {
        struct pollfd p = {.fd = h->out, .events = POLLIN};
        ssize_t got = poll(&p, 1, (int)(until - clock_ms())) > 0
                          ? read(h->out, text + n, sizeof(text) - 1 - n)
                          : -1;

        if (got == 0) {
            return why_set(why, -EIO, "the freeze helper ended without saying \"frozen\"");
        }
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
        if (strstr(text, "frozen\n")) {
            return 0;
        }
    }
    return why_set(why, -ETIMEDOUT, "the freeze helper did not say \"frozen\" in %d s",
                   FREEZE_MS / 1000);
}

/* --- create --- */

static json_t *create_request(const char *name, bool automatic) {
    return json_pack("{s:s, s:s, s:b}", "verb", "snapshot-create", "name", name, "auto", automatic);
}

static int create_frozen(const struct args *a, const struct target *t, json_t **ret_reply,
                         struct why *why) {
    struct why thaw_why = {""};
    struct helper h = {.in = -1, .out = -1};
    /* What is under way about snapshots ends first, so that nobody waits for it frozen. */
    int err = tell(t->volume, json_pack("{s:s}", "verb", "snapshot-settle"), why), thawed;

    err = err < 0 ? err : start_helper(a->freeze, &h, why);
    if (err < 0) {
        return err;
    }
    err = wait_frozen(&h, why);
    err = err < 0 ? err : ask(t->volume, create_request(t->snapshot, a->automatic), ret_reply, why);
    thawed = end_helper(&h, &thaw_why);
    if (err == 0 && thawed < 0) {
        (void)fprintf(stderr, "holdfast: %s; the snapshot was made before that\n", thaw_why.text);
    }
    return err;
}

static void name_by_time(char name[SNAPSHOT_NAME_BYTES]) {
    time_t now = time(NULL);
    struct tm tm;

    (void)gmtime_r(&now, &tm);
    (void)strftime(name, SNAPSHOT_NAME_BYTES, "%Y-%m-%dT%H%MZ", &tm);
}

static int create(const struct args *a, struct target *t, json_t **ret_reply, struct why *why) {
    int err;

    if (!t->snapshot[0]) {
        name_by_time(t->snapshot);
    }
    err = a->freeze ? create_frozen(a, t, ret_reply, why)
                    : ask(t->volume, create_request(t->snapshot, a->automatic), ret_reply, why);
    return err < 0
               ? err
               : tell(t->volume,
                      json_pack("{s:s, s:s}", "verb", "snapshot-settle", "name", t->snapshot), why);
}

int cmd_snapshot_create(const struct args *a) {
    int64_t start = clock_us();
    json_t *reply = NULL;
    struct why why = {""};
    struct target t;
    int err = parse_target(a->word[0], false, &t, &why);

    err = err < 0 ? err : create(a, &t, &reply, &why);
    if (err < 0) {
        json_decref(reply);
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf("%s@%s: cut in %.1f ms, settled after %.1f ms\n", t.volume, t.snapshot,
                     (double)number_of(reply, "cut_us") / 1000,
                     (double)(clock_us() - start) / 1000);
    }
    json_decref(reply);
    return EXIT_OK;
}

/* --- list --- */

int cmd_snapshot_list(const struct args *a) {
    json_t *reply = NULL;
    struct why why = {""};
    const json_t *s;
    size_t i;
    int err = ask_list(a->word[0], &reply, &why);

    if (err < 0) {
        return fail(err, &why);
    }
    if (a->json) {
        print_json(reply);
        return EXIT_OK;
    }
    if (!a->no_header) {
        (void)printf("%-32s %-20s %8s %-5s %s\n", "NAME", "CREATED", "USED", "HOLD", "STATE");
    }
    json_array_foreach(json_object_get(reply, "snapshots"), i, s) {
        bool broken = json_is_true(json_object_get(s, "broken"));
        char when[32], size[32], name[VOLUME_NAME_BYTES + SNAPSHOT_NAME_BYTES];

        clock_text((uint64_t)number_of(s, "created"), when);
        (void)snprintf(name, sizeof(name), "%s@%s", a->word[0], text_of(s, "name"));
        (void)printf(a->no_header ? "%s\t%s\t%s\t%s\t%s%s%s\n" : "%-32s %-20s %8s %-5s %s%s%s\n",
                     name, when, size_text((uint64_t)number_of(s, "used"), a->exact, size),
                     json_is_true(json_object_get(s, "held")) ? "yes" : "-",
                     broken ? "BROKEN" : "whole", broken ? ": " : "", text_of(s, "reason"));
    }
    json_decref(reply);
    return EXIT_OK;
}

/* --- destroy, rename, hold, release --- */

static int tell_about(const struct args *a, const char *verb, const char *key, json_t *value) {
    struct why why = {""};
    struct target t;
    json_t *request;
    int err = parse_target(a->word[0], true, &t, &why);

    if (err < 0) {
        json_decref(value);
        return fail(err, &why);
    }
    request = json_pack("{s:s, s:s}", "verb", verb, "name", t.snapshot);
    if (key) {
        (void)json_object_set_new(request, key, value);
    }
    err = tell(t.volume, request, &why);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

int cmd_snapshot_destroy(const struct args *a) {
    const json_t *snapshot = NULL;
    json_t *reply = NULL;
    struct why why = {""};
    char what[512];
    struct target t;
    int err = parse_target(a->word[0], true, &t, &why);

    err = err < 0 ? err : ask_snapshot(&t, &reply, &snapshot, &why);
    json_decref(reply);
    if (err < 0) {
        return fail(err, &why);
    }
    (void)snprintf(what, sizeof(what), "What only the snapshot \"%s\" still has is lost.",
                   t.snapshot);
    return confirmed(a, t.volume, what) ? tell_about(a, "snapshot-destroy", NULL, NULL)
                                        : EXIT_UNSAFE;
}

int cmd_snapshot_rename(const struct args *a) {
    return tell_about(a, "snapshot-rename", "to", json_string(a->word[1]));
}

int cmd_snapshot_hold(const struct args *a) {
    return tell_about(a, "snapshot-hold", "hold", json_true());
}

int cmd_snapshot_release(const struct args *a) {
    return tell_about(a, "snapshot-hold", "hold", json_false());
}

/* --- prune --- */

/* One keep rule, as restic has them: the newest snapshot of each of the last N periods. */
struct rule {
    const char *name, *format; /* strftime(3): the same text for all of a period */
    long left;
    char last[32];
};

static void keep_by(struct rule *r, time_t created, char *why, size_t size) {
    char period[32];
    struct tm tm;

    (void)localtime_r(&created, &tm);
    if (r->left == 0 || strftime(period, sizeof(period), r->format, &tm) == 0 ||
        (r->last[0] && strcmp(period, r->last) == 0)) {
        return;
    }
    (void)snprintf(r->last, sizeof(r->last), "%s", period);
    r->left--;
    (void)snprintf(why + strlen(why), size - strlen(why), "%s%s", why[0] ? ", " : "", r->name);
}

/* Newest first. True if it is kept. */
static bool keep(struct rule *rules, size_t n, const json_t *s, long *last, char *why,
                 size_t size) {
    why[0] = '\0';
    if (json_is_true(json_object_get(s, "held"))) {
        (void)snprintf(why, size, "hold");
    }
    if (*last > 0) {
        --*last;
        (void)snprintf(why + strlen(why), size - strlen(why), "%slast", why[0] ? ", " : "");
    }
    for (size_t i = 0; i < n; i++) {
        keep_by(&rules[i], (time_t)number_of(s, "created"), why, size);
    }
    return why[0] != '\0';
}

int cmd_prune(const struct args *a) {
    struct rule rules[] = {{"hourly", "%Y-%m-%d %H", a->keep_count[1], ""},
                           {"daily", "%Y-%m-%d", a->keep_count[2], ""},
                           {"weekly", "%G-%V", a->keep_count[3], ""},
                           {"monthly", "%Y-%m", a->keep_count[4], ""},
                           {"yearly", "%Y", a->keep_count[5], ""}};
    long last = a->keep_count[0], any = last;
    json_t *reply = NULL, *list;
    struct why why = {""};
    int err;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        any += rules[i].left;
    }
    if (any == 0) {
        (void)why_set(&why, -HFE_USAGE,
                      "what is to be kept? Say --keep-last, --keep-hourly, --keep-daily, "
                      "--keep-weekly, --keep-monthly or --keep-yearly, each with a number");
        return fail(-HFE_USAGE, &why);
    }
    if (!a->dry_run &&
        !confirmed(a, a->word[0], "Snapshots that no rule keeps are destroyed (see --dry-run).")) {
        return EXIT_UNSAFE;
    }
    err = ask_list(a->word[0], &reply, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    list = json_object_get(reply, "snapshots");
    if (!a->no_header && !a->quiet) {
        (void)printf("%-32s %-20s %s\n", "NAME", "CREATED", "WHY-KEPT");
    }
    for (size_t i = json_array_size(list); i > 0 && err == 0; i--) {
        const json_t *s = json_array_get(list, i - 1);
        char reason[128] = "made by hand", when[32];
        bool kept = (a->automatic && !json_is_true(json_object_get(s, "auto"))) ||
                    keep(rules, sizeof(rules) / sizeof(rules[0]), s, &last, reason, sizeof(reason));

        clock_text((uint64_t)number_of(s, "created"), when);
        if (!a->quiet) {
            (void)printf(a->no_header ? "%s\t%s\t%s\n" : "%-32s %-20s %s\n", text_of(s, "name"),
                         when,
                         kept         ? reason
                         : a->dry_run ? "- (would be destroyed)"
                                      : "- (destroyed)");
        }
        if (!kept && !a->dry_run) {
            err = tell(
                a->word[0],
                json_pack("{s:s, s:s}", "verb", "snapshot-destroy", "name", text_of(s, "name")),
                &why);
        }
    }
    json_decref(reply);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* --- through the mount --- */

/* The folder in which the snapshot is seen, and the mount point. */
static int find_view(const struct target *t, char ret_view[PATH_BYTES], char ret_mount[PATH_BYTES],
                     struct why *why) {
    const json_t *s = NULL;
    json_t *reply = NULL;
    int err = ask_snapshot(t, &reply, &s, why), n = 0;

    if (err == 0) {
        n = snprintf(ret_view, PATH_BYTES, "%s/.holdfast/snapshots/%s%s", text_of(reply, "mount"),
                     t->snapshot, json_is_true(json_object_get(s, "broken")) ? ".broken" : "");
        (void)snprintf(ret_mount, PATH_BYTES, "%s", text_of(reply, "mount"));
        if (json_is_true(json_object_get(s, "broken"))) {
            (void)fprintf(stderr, "holdfast: \"%s\" is broken: %s. What it still has is used\n",
                          t->snapshot, text_of(s, "reason"));
        }
    }
    json_decref(reply);
    return err < 0 ? err
           : n < PATH_BYTES
               ? 0
               : why_set(why, -ENAMETOOLONG, "the path of the mount point is too long");
}

/* Runs a program and waits. */
static int run_program(const char *const argv[], struct why *why) {
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return why_set(why, -errno, "cannot run %s", argv[0]);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : why_set(why, -EIO, "%s failed; it said why", argv[0]);
}

/* A path inside the volume: no "..", no leading slash left. */
static const char *inside(const char *path, struct why *why) {
    const char *p = path;

    while (*p == '/') {
        p++;
    }
    for (const char *c = p; c; c = strchr(c, '/')) {
        c += *c == '/';
        if (strncmp(c, "..", 2) == 0 && (c[2] == '/' || !c[2])) {
            (void)why_set(why, -HFE_USAGE, "%s: a path inside the volume has no ..", path);
            return NULL;
        }
    }
    return p;
}

static int join(char ret[PATH_BYTES], const char *a, const char *b, struct why *why) {
    return snprintf(ret, PATH_BYTES, "%s%s%s", a, *b ? "/" : "", b) < PATH_BYTES
               ? 0
               : why_set(why, -ENAMETOOLONG, "the path %s/%s is too long", a, b);
}

/* All that cp(1) keeps, holes and links among them. */
static int copy(const char *from, const char *to, struct why *why) {
    const char *const argv[] = {"cp", "-a", "-T", "--reflink=auto", "--", from, to, NULL};

    return run_program(argv, why);
}

static int restore_to(const struct args *a, const char *view, struct why *why) {
    int err = mkdir(a->to, 0755) < 0 && errno != EEXIST ? -errno : 0;

    if (err < 0) {
        return why_set(why, err, "%s: %s", a->to, error_words(err));
    }
    for (int i = 1; i < a->count || i == 1; i++) {
        const char *path = a->count > 1 ? inside(a->word[i], why) : "";
        const char *last = path ? strrchr(path, '/') : NULL;
        char from[PATH_BYTES], to[PATH_BYTES];

        err = path ? join(from, view, path, why) : -HFE_USAGE;
        err = err < 0 ? err : join(to, a->to, last ? last + 1 : path, why);
        err = err < 0 ? err : copy(from, to, why);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

/* One path that is put back: first a copy of it is made beside, then both change places. */
struct step {
    struct step *next; /* the one that was done before */
    char live[PATH_BYTES], staged[PATH_BYTES];
    bool wanted;              /* the snapshot has it */
    bool there;               /* something is there now */
    struct timespec times[2]; /* that it had */
};

static int do_step(const struct step *s) {
    if (s->wanted && s->there) {
        return renameat2(AT_FDCWD, s->staged, AT_FDCWD, s->live, RENAME_EXCHANGE) < 0 ? -errno : 0;
    }
    if (s->wanted) {
        return rename(s->staged, s->live) < 0 ? -errno : 0;
    }
    return s->there && rename(s->live, s->staged) < 0 ? -errno : 0;
}

static int undo_step(const struct step *s) {
    if (s->wanted && s->there) {
        return do_step(s);
    }
    if (s->wanted) {
        return rename(s->live, s->staged) < 0 ? -errno : 0;
    }
    return s->there && rename(s->staged, s->live) < 0 ? -errno : 0;
}

struct restoring {
    const char *view, *mount;
    char stage[PATH_BYTES];
    struct step *steps; /* planned; the last one first */
    unsigned count;
};

static int plan(struct restoring *r, const char *path, struct why *why) {
    struct step *s = calloc(1, sizeof(*s));
    char from[PATH_BYTES];
    struct stat st;
    int err = s ? join(s->live, r->mount, path, why) : -ENOMEM;

    err = err < 0 ? err : join(from, r->view, path, why);
    if (err == 0 && snprintf(s->staged, sizeof(s->staged), "%s/%u", r->stage, r->count++) >=
                        (int)sizeof(s->staged)) {
        err = -ENAMETOOLONG;
    }
    if (err == 0) {
        s->wanted = lstat(from, &st) == 0;
        s->times[0] = st.st_atim;
        s->times[1] = st.st_mtim;
        s->there = lstat(s->live, &st) == 0;
        err = s->wanted ? copy(from, s->staged, why) : 0;
    }
    if (err < 0) {
        free(s);
        return err;
    }
    s->next = r->steps;
    r->steps = s;
    return 0;
}

/* Everything: each name that the root has or had. */
static int plan_root(struct restoring *r, const char *stage_name, struct why *why) {
    const char *const folders[] = {r->view, r->mount};
    int err = 0;

    for (int i = 0; i < 2 && err == 0; i++) {
        scope_dir DIR *d = opendir(folders[i]);
        struct dirent *e;

        if (!d) {
            return why_set(why, -errno, "%s: %s", folders[i], error_words(-errno));
        }
        while (err == 0 && (e = readdir(d))) {
            char path[PATH_BYTES];
            struct stat st;
            bool both = i == 1 && join(path, r->view, e->d_name, why) == 0 && lstat(path, &st) == 0;

            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !both &&
                strcmp(e->d_name, stage_name) != 0) {
                err = plan(r, e->d_name, why);
            }
        }
    }
    return err;
}

static int do_steps(struct restoring *r, struct why *why) {
    struct step *done = NULL, *s;
    int err = 0;

    while (err == 0 && (s = r->steps)) {
        err = do_step(s);
        if (err == 0) {
            r->steps = s->next;
            s->next = done;
            done = s;
        } else {
            (void)why_set(why, err, "%s cannot be put back: %s; all is as it was", s->live,
                          error_words(err));
        }
    }
    while ((s = done)) {
        done = s->next;
        if (err == 0 && s->wanted && /* XFS changes them when a folder gets another parent */
            utimensat(AT_FDCWD, s->live, s->times, AT_SYMLINK_NOFOLLOW) < 0) {
            (void)fprintf(stderr, "holdfast: the times of %s could not be put back: %s\n", s->live,
                          error_words(-errno));
        }
        if (err < 0 && undo_step(s) < 0) {
            (void)why_set(why, err, "%s cannot be put back, and what was there is in %s now",
                          s->live, s->staged);
            r->stage[0] = '\0'; /* it stays */
        }
        free(s);
    }
    return err;
}

/* The root's own attributes. */
static int restore_root(const struct restoring *r, struct why *why) {
    struct stat st;

    if (stat(r->view, &st) < 0 || chown(r->mount, st.st_uid, st.st_gid) < 0 ||
        chmod(r->mount, st.st_mode & 07777) < 0 ||
        utimensat(AT_FDCWD, r->mount, (struct timespec[]){st.st_atim, st.st_mtim}, 0) < 0) {
        return why_set(why, -errno, "the attributes of %s could not be put back: %s", r->mount,
                       error_words(-errno));
    }
    return 0;
}

static int restore_in_place(const struct args *a, const struct target *t, const char *view,
                            const char *mount, struct why *why) {
    struct restoring r = {.view = view, .mount = mount};
    struct target safety;
    char stage_name[64];
    json_t *reply = NULL;
    int err;

    safety = *t;
    (void)snprintf(safety.snapshot, sizeof(safety.snapshot), "before-restore-%llu-%d",
                   (unsigned long long)clock_real_s(), (int)getpid());
    err = create(&(struct args){.quiet = true}, &safety, &reply, why);
    json_decref(reply);
    if (err < 0) {
        return err;
    }
    (void)snprintf(stage_name, sizeof(stage_name), ".holdfast-restore-%d", (int)getpid());
    err = join(r.stage, mount, stage_name, why);
    if (err == 0 && mkdir(r.stage, 0700) < 0) {
        err = why_set(why, -errno, "%s: %s", r.stage, error_words(-errno));
    }
    for (int i = 1; i < a->count && err == 0; i++) {
        const char *path = inside(a->word[i], why);

        err = path ? plan(&r, path, why) : -HFE_USAGE;
    }
    err = err < 0 || a->count > 1 ? err : plan_root(&r, stage_name, why);
    /* Making copies took room: is the snapshot that makes it safe still whole? */
    err = err < 0
              ? err
              : tell(t->volume,
                     json_pack("{s:s, s:s}", "verb", "snapshot-settle", "name", safety.snapshot),
                     why);
    err = err < 0 ? err : do_steps(&r, why);
    while (r.steps) {
        struct step *s = r.steps;

        r.steps = s->next;
        free(s);
    }
    if (r.stage[0] && io_remove_tree(AT_FDCWD, r.stage) < 0) {
        (void)fprintf(stderr, "holdfast: %s could not be removed: it holds what was replaced\n",
                      r.stage);
    }
    err = err < 0 || a->count > 1 ? err : restore_root(&r, why);
    if (!a->quiet) {
        (void)printf("%s is the snapshot of before the restore%s\n", safety.snapshot,
                     err < 0 ? ", which failed" : "");
    }
    return err;
}

int cmd_restore(const struct args *a) {
    char view[PATH_BYTES], mount[PATH_BYTES];
    struct why why = {""};
    struct target t;
    int err = parse_target(a->word[0], true, &t, &why);

    if (err == 0 && (a->to != NULL) == a->in_place) {
        err = why_set(&why, -HFE_USAGE, "where to? Say either --to DIR or --in-place");
    }
    err = err < 0 ? err : find_view(&t, view, mount, &why);
    if (err == 0 && a->in_place &&
        !confirmed(a, t.volume, "What is there now is replaced (a snapshot is made first).")) {
        return EXIT_UNSAFE;
    }
    if (err == 0) {
        err = a->to ? restore_to(a, view, &why) : restore_in_place(a, &t, view, mount, &why);
    }
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* --- diff --- */

/* A name of one side that the other does not have: it may have moved. */
struct moved {
    struct moved *next;
    uint64_t number; /* what of st_ino stays through snapshots */
    mode_t type;     /* a number may be given to another file later */
    bool old;
    char path[];
};

struct diff {
    const char *side[2];
    struct moved *list;
    char end;
    bool failed;
};

static void note_moved(struct diff *d, const char *path, const struct stat *st, bool old) {
    struct moved *m = malloc(sizeof(*m) + strlen(path) + 1);

    if (!m) {
        d->failed = true;
        return;
    }
    m->number = st->st_ino & ((UINT64_C(1) << 44) - 1);
    m->type = st->st_mode & S_IFMT;
    m->old = old;
    memcpy(m->path, path, strlen(path) + 1);
    m->next = d->list;
    d->list = m;
}

static bool changed(const struct stat *a, const struct stat *b) {
    return a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
           a->st_rdev != b->st_rdev || !clock_same(&a->st_mtim, &b->st_mtim) ||
           (!S_ISDIR(a->st_mode) && a->st_size != b->st_size);
}

static int compare_folder(struct diff *d, const char *path);

static int compare_name(struct diff *d, const char *folder, const char *name, int side) {
    char path[PATH_BYTES], full[2][PATH_BYTES];
    struct why why;
    struct stat st[2];
    bool there[2];

    if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path)) {
        return -ENAMETOOLONG;
    }
    for (int i = 0; i < 2; i++) {
        if (join(full[i], d->side[i], path + 1, &why) < 0) {
            return -ENAMETOOLONG;
        }
        there[i] = lstat(full[i], &st[i]) == 0;
    }
    if (there[0] && there[1] && ((st[0].st_mode ^ st[1].st_mode) & S_IFMT) == 0) {
        if (side == 1) {
            return 0; /* it was seen from the other side */
        }
        if (changed(&st[0], &st[1])) {
            (void)printf("M  %s%c", path, d->end);
        }
        return S_ISDIR(st[0].st_mode) ? compare_folder(d, path) : 0;
    }
    if (there[side]) {
        note_moved(d, path, &st[side], side == 0);
    }
    return 0;
}

static int compare_folder(struct diff *d, const char *path) {
    int err = 0;

    for (int side = 0; side < 2 && err == 0; side++) {
        char full[PATH_BYTES];
        scope_dir DIR *dir = NULL;
        struct dirent *e;
        struct why why;

        err = join(full, d->side[side], *path ? path + 1 : "", &why);
        dir = err < 0 ? NULL : opendir(full);
        if (!dir) {
            return err < 0 ? err : -errno;
        }
        while (err == 0 && (e = readdir(dir))) {
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                err = compare_name(d, path, e->d_name, side);
            }
        }
    }
    return err;
}

static void show_moved(struct diff *d) {
    while (d->list) {
        struct moved *m = d->list, **at = &m->next;

        d->list = m->next;
        for (at = &d->list; *at && !((*at)->number == m->number && (*at)->type == m->type &&
                                     (*at)->old != m->old);) {
            at = &(*at)->next;
        }
        if (*at) {
            struct moved *other = *at;

            *at = other->next;
            (void)printf("R  %s -> %s%c", m->old ? m->path : other->path,
                         m->old ? other->path : m->path, d->end);
            free(other);
        } else {
            (void)printf("%c  %s%c", m->old ? '-' : '+', m->path, d->end);
        }
        free(m);
    }
}

int cmd_diff(const struct args *a) {
    char view[2][PATH_BYTES], mount[PATH_BYTES];
    struct diff d = {.side = {view[0], a->count > 1 ? view[1] : mount}, .end = '\n'};
    struct why why = {""};
    struct target t;
    int err = 0;

    for (int i = 0; i < a->count && err == 0; i++) {
        err = parse_target(a->word[i], true, &t, &why);
        err = err < 0 ? err : find_view(&t, view[i], mount, &why);
    }
    if (err == 0) {
        err = compare_folder(&d, "");
        err = err == 0 && d.failed ? -ENOMEM : err;
        show_moved(&d);
    }
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* --- verify --- */

static uint64_t read_bytes, bad_files; /* nftw(3) has no argument for its function */

static int read_file(const char *path, const struct stat *st, int type, struct FTW *where) {
    static char buf[1 << 20];
    scope_fd int fd =
        type == FTW_F && S_ISREG(st->st_mode) ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ssize_t n = 1;

    (void)where;
    if (type == FTW_DNR || type == FTW_NS || (type == FTW_F && S_ISREG(st->st_mode) && fd < 0)) {
        n = -1;
    }
    while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0) {
        read_bytes += (uint64_t)n;
    }
    if (n < 0) {
        (void)printf("%s: %s\n", path, error_words(-errno));
        bad_files++;
    }
    return 0;
}

int verify_snapshot(const struct args *a) {
    char view[PATH_BYTES], mount[PATH_BYTES], size[32];
    struct why why = {""};
    struct target t;
    int err = parse_target(a->word[0], true, &t, &why);

    err = err < 0 ? err : find_view(&t, view, mount, &why);
    if (err == 0 && nftw(view, read_file, WALK_FDS, FTW_PHYS | FTW_MOUNT) < 0) {
        err = why_set(&why, -errno, "%s: %s", view, error_words(-errno));
    }
    if (err < 0) {
        return fail(err, &why);
    }
    (void)printf("%s@%s: %s read, %llu files cannot be\n", t.volume, t.snapshot,
                 size_text(read_bytes, a->exact, size), (unsigned long long)bad_files);
    return bad_files > 0 ? EXIT_FAILED : EXIT_OK;
}
