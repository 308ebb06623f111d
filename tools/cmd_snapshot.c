/* Snapshots: made, listed, named, held and destroyed. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "ctl/ctl.h"
#include "format/snap.h"
#include "snap/snap.h"
#include "tools/keep.h"
#include "tools/snapshots.h"
#include "tools/table.h"

enum {
    FREEZE_MS = 30000, /* for the helper to freeze, and again to thaw */
    ASK_MS = 600000,   /* until a snapshot is settled: all stores are synced */
};

int snapshot_parse(const char *word, bool needed, struct target *t, struct why *why) {
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
               : why_set(why, -ENOENT,
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
        io_plain_signals();
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
    int64_t until = clock_ms() + FREEZE_MS, now;
    char text[4096] = "\n"; /* the end of what it said */
    size_t n = 1;

    while ((now = clock_ms()) < until) {
        struct pollfd p = {.fd = h->out, .events = POLLIN};
        ssize_t got =
            poll(&p, 1, (int)(until - now)) > 0 ? read(h->out, text + n, sizeof(text) - 1 - n) : -1;

        if (got == 0) {
            return why_set(why, -EIO, "the freeze helper ended without saying \"frozen\"");
        }
        n += got > 0 ? (size_t)got : 0;
        text[n] = '\0';
        if (strstr(text, "\nfrozen\n")) {
            return 0;
        }
        if (n > sizeof(text) / 2) {
            memmove(text, text + n - 16, 17);
            n = 16;
        }
    }
    return why_set(why, -ETIMEDOUT, "the freeze helper did not say \"frozen\" in %d s",
                   FREEZE_MS / 1000);
}

static bool has_ended(const struct helper *h) {
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)h->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

/* --- create --- */

static json_t *create_request(const struct args *a, const char *name) {
    return json_pack("{s:s, s:s, s:s, s:b}", "verb", "snapshot-create", "name", name, "tags",
                     a->tag ? a->tag : "", "auto", a->automatic);
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
    err = err < 0 ? err : ask(t->volume, create_request(a, t->snapshot), ret_reply, why);
    if (err == 0 && has_ended(&h)) {
        err =
            why_set(why, -EIO,
                    "the freeze helper had ended before the cut: \"%s\" is there, but nothing was "
                    "held still for it",
                    t->snapshot);
    }
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

int snapshot_settle(const struct target *t, struct why *why) {
    return tell(t->volume, json_pack("{s:s, s:s}", "verb", "snapshot-settle", "name", t->snapshot),
                why);
}

int snapshot_create(const struct args *a, struct target *t, json_t **ret_reply, struct why *why) {
    int err;

    if (!t->snapshot[0]) {
        name_by_time(t->snapshot);
    }
    err = a->freeze ? create_frozen(a, t, ret_reply, why)
                    : ask(t->volume, create_request(a, t->snapshot), ret_reply, why);
    return err < 0 ? err : snapshot_settle(t, why);
}

int cmd_snapshot_create(const struct args *a) {
    int64_t start = clock_us(), settled_us;
    json_t *reply = NULL;
    struct why why = {""};
    struct target t;
    int err = snapshot_parse(a->word[0], false, &t, &why);

    err = err < 0 ? err : snapshot_create(a, &t, &reply, &why);
    if (err < 0) {
        json_decref(reply);
        return fail(err, &why);
    }
    settled_us = clock_us() - start;
    if (a->json) {
        print_json(json_pack("{s:i, s:s, s:s, s:I, s:I}", "schema", 1, "volume", t.volume,
                             "snapshot", t.snapshot, "cut_us",
                             (json_int_t)number_of(reply, "cut_us"), "settled_us",
                             (json_int_t)settled_us));
    } else if (!a->quiet) {
        (void)printf("%s@%s: cut in %.1f ms, settled after %.1f ms\n", t.volume, t.snapshot,
                     (double)number_of(reply, "cut_us") / 1000, (double)settled_us / 1000);
    }
    json_decref(reply);
    return EXIT_OK;
}

/* --- list --- */

static const char *made_by(const json_t *s) {
    return json_is_true(json_object_get(s, "auto")) ? "auto" : "manual";
}

static bool view_path(const json_t *list, const json_t *snapshot, char ret_path[PATH_BYTES]) {
    return snprintf(ret_path, PATH_BYTES, "%s/" SNAP_TOP_FOLDER "/" SNAP_VIEWS_FOLDER "/%s%s",
                    text_of(list, "mount"), text_of(snapshot, "name"),
                    json_is_true(json_object_get(snapshot, "broken"))     ? SNAP_BROKEN_TAIL
                    : json_is_true(json_object_get(snapshot, "bookmark")) ? SNAP_BOOKMARK_TAIL
                                                                          : "") < PATH_BYTES;
}

/* Adds what each shows, as "refers". A bookmark, and one that goes meanwhile, have none; one that cannot
 * be read is told. */
static int add_refers(json_t *reply) {
    char view[PATH_BYTES];
    uint64_t bytes;
    json_t *s;
    size_t i;
    int first = 0;

    (void)io_raise_file_limit();
    json_array_foreach(json_object_get(reply, "snapshots"), i, s) {
        int err = json_is_true(json_object_get(s, "bookmark")) ? -ENOENT
                  : view_path(reply, s, view)                  ? snapshot_refers(view, &bytes)
                                                               : -ENAMETOOLONG;

        if (err == 0) {
            (void)json_object_set_new(s, "refers", json_integer((json_int_t)bytes));
        } else if (err != -ENOENT && err != -ESTALE) {
            (void)fprintf(stderr, "holdfast: what \"%s\" refers to cannot be read: %s\n",
                          text_of(s, "name"), error_words(err));
            first = first < 0 ? first : err;
        }
    }
    return first;
}

static const char *refers_text(const struct args *a, const json_t *s, char text[32]) {
    return json_object_get(s, "refers")
               ? size_text((uint64_t)number_of(s, "refers"), a->exact, text)
               : "-";
}

static void list_one(const struct args *a, const struct table *table, const json_t *s) {
    bool bookmark = json_is_true(json_object_get(s, "bookmark"));
    char when[32], size[32], refers[32], name[VOLUME_NAME_BYTES + SNAPSHOT_NAME_BYTES];
    char tags[8 + SNAPSHOT_TAGS_BYTES], state[PATH_BYTES];

    clock_text((uint64_t)number_of(s, "created"), when);
    (void)snprintf(name, sizeof(name), "%s@%s", a->word[0], text_of(s, "name"));
    (void)snprintf(tags, sizeof(tags), "%s%s%s", made_by(s), *text_of(s, "tags") ? "," : "",
                   text_of(s, "tags"));
    if (json_is_true(json_object_get(s, "broken"))) {
        (void)snprintf(state, sizeof(state), "BROKEN: %s", text_of(s, "reason"));
    } else {
        (void)snprintf(state, sizeof(state), "%s", bookmark ? "bookmark" : "whole");
    }
    table_row(table, (const char *[]){
                         name, when, size_text((uint64_t)number_of(s, "used"), a->exact, size),
                         refers_text(a, s, refers),
                         json_is_true(json_object_get(s, "held")) ? "yes" : "-", tags, state});
}

int cmd_snapshot_list(const struct args *a) {
    static const struct table_column columns[] = {{"NAME", -32}, {"CREATED", -20}, {"USED", 8},
                                                  {"REFER", 8},  {"HOLD", -5},     {"TAGS", -12},
                                                  {"STATE", -1}};
    json_t *reply = NULL;
    struct why why = {""};
    struct table table;
    const json_t *s;
    size_t i;
    int err = table_begin(&table, a, columns, 7, &why);

    err = err < 0 ? err : ask_list(a->word[0], &reply, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    err = a->verbose ? add_refers(reply) : 0;
    if (a->json) {
        print_json(reply);
        return err < 0 ? EXIT_FAILED : EXIT_OK;
    }
    table_header(&table);
    json_array_foreach(json_object_get(reply, "snapshots"), i, s) {
        list_one(a, &table, s);
    }
    json_decref(reply);
    return err < 0 ? EXIT_FAILED : EXIT_OK;
}

/* --- destroy, bookmark, rename, hold, release --- */

static int tell_about(const struct args *a, const char *verb, const char *key, json_t *value) {
    struct why why = {""};
    struct target t;
    json_t *request;
    int err = snapshot_parse(a->word[0], true, &t, &why);

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

/* What loses data is asked about. */
static int tell_if_confirmed(const struct args *a, const char *verb) {
    const json_t *snapshot = NULL;
    json_t *reply = NULL;
    struct why why = {""};
    char what[512];
    struct target t;
    int err = snapshot_parse(a->word[0], true, &t, &why);

    err = err < 0 ? err : ask_snapshot(&t, &reply, &snapshot, &why);
    json_decref(reply);
    if (err < 0) {
        return fail(err, &why);
    }
    (void)snprintf(what, sizeof(what), "What only the snapshot \"%s\" still has is lost.",
                   t.snapshot);
    return confirmed(a, t.volume, what) ? tell_about(a, verb, NULL, NULL) : EXIT_UNSAFE;
}

int cmd_snapshot_destroy(const struct args *a) {
    return tell_if_confirmed(a, "snapshot-destroy");
}

int cmd_snapshot_bookmark(const struct args *a) {
    return tell_if_confirmed(a, "snapshot-bookmark");
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

static int rules_of(const struct args *a, struct keep_rules *r, struct why *why) {
    bool any = a->keep_within || a->keep_tag;

    *r = (struct keep_rules){.last = a->keep_count[0],
                             .hourly = a->keep_count[1],
                             .daily = a->keep_count[2],
                             .weekly = a->keep_count[3],
                             .monthly = a->keep_count[4],
                             .yearly = a->keep_count[5],
                             .within_s = a->keep_within ? duration_of(a->keep_within) : -1,
                             .tag = a->keep_tag,
                             .automatic = a->automatic};
    for (size_t i = 0; i < sizeof(a->keep_count) / sizeof(a->keep_count[0]); i++) {
        if (a->keep_count[i] < 0) {
            return why_set(why, -HFE_USAGE, "what --keep-... takes is a number, 0 or more");
        }
        any = any || a->keep_count[i] > 0;
    }
    if (a->keep_within && strchr(a->keep_within, 'm')) {
        return why_set(why, -HFE_USAGE,
                       "--keep-within %s: restic means months by that, and these would be minutes: "
                       "say it in s, h, d or w",
                       a->keep_within);
    }
    if (a->keep_within && r->within_s < 0) {
        return why_set(why, -HFE_USAGE, "--keep-within takes 90s, 2h, 3d or 8w");
    }
    if (a->keep_tag && (!snap_name_ok(a->keep_tag) || strlen(a->keep_tag) >= SNAPSHOT_TAGS_BYTES)) {
        return why_set(why, -HFE_USAGE, "--keep-tag takes one tag, and \"%s\" is none",
                       a->keep_tag);
    }
    return any ? 0
               : why_set(why, -HFE_USAGE,
                         "what is to be kept? Say --keep-last, --keep-hourly, --keep-daily, "
                         "--keep-weekly, --keep-monthly or --keep-yearly, each with a number, "
                         "--keep-within or --keep-tag");
}

/* Which of the list, newest first, stay and why. NULL: out of memory. The caller's to free. */
static char (*judge(const struct keep_rules *rules, const json_t *list))[KEEP_WHY_BYTES] {
    size_t count = json_array_size(list);
    scope_free struct keep_item *item = calloc(count + 1, sizeof(*item));
    char(*why)[KEEP_WHY_BYTES] = calloc(count + 1, sizeof(*why));

    for (size_t i = 0; item && i < count; i++) {
        const json_t *s = json_array_get(list, count - 1 - i);

        item[i] = (struct keep_item){.created_s = number_of(s, "created"),
                                     .tags = text_of(s, "tags"),
                                     .automatic = json_is_true(json_object_get(s, "auto")),
                                     .held = json_is_true(json_object_get(s, "held")),
                                     .bookmark = json_is_true(json_object_get(s, "bookmark"))};
    }
    if (!item || !why) {
        free(why);
        return NULL;
    }
    keep_judge(rules, item, count, (long long)time(NULL), why);
    return why;
}

/* Destroys it if nothing keeps it, and says what was done. */
static int prune_one(const struct args *a, const struct table *table, const json_t *s,
                     const char *kept, json_t *told, struct why *why) {
    char when[32];
    int err =
        kept[0] || a->dry_run
            ? 0
            : tell(a->word[0],
                   json_pack("{s:s, s:s}", "verb", "snapshot-destroy", "name", text_of(s, "name")),
                   why);

    if (err < 0) {
        return err;
    }
    if (told) {
        (void)json_array_append_new(told,
                                    json_pack("{s:s, s:I, s:b, s:s}", "name", text_of(s, "name"),
                                              "created", (json_int_t)number_of(s, "created"),
                                              "kept", kept[0] != '\0', "why_kept", kept));
    } else if (!a->quiet) {
        clock_text((uint64_t)number_of(s, "created"), when);
        table_row(table, (const char *[]){text_of(s, "name"), when,
                                          kept[0]      ? kept
                                          : a->dry_run ? "- (would be destroyed)"
                                                       : "- (destroyed)"});
    }
    return 0;
}

/* There are some that are looked at, and nothing keeps one of them. */
static bool keeps_none(char (*kept)[KEEP_WHY_BYTES], const struct keep_rules *rules,
                       const json_t *list) {
    size_t count = json_array_size(list), looked_at = 0;

    for (size_t i = 0; i < count; i++) {
        const json_t *s = json_array_get(list, count - 1 - i);
        bool is = !json_is_true(json_object_get(s, "bookmark")) &&
                  (!rules->automatic || json_is_true(json_object_get(s, "auto")));

        if (is && kept[i][0]) {
            return false;
        }
        looked_at += is;
    }
    return looked_at > 0;
}

static int prune(const struct args *a, const struct keep_rules *rules, const struct table *table,
                 const json_t *list, struct why *why) {
    char(*kept)[KEEP_WHY_BYTES] = judge(rules, list);
    json_t *told = a->json ? json_array() : NULL;
    size_t count = json_array_size(list);
    int err = kept ? 0 : why_set(why, -ENOMEM, "out of memory");

    if (err == 0 && !a->dry_run && keeps_none(kept, rules, list)) {
        err =
            why_set(why, -HFE_UNSAFE,
                    "no rule keeps any of the snapshots of \"%s\", and all would go: is that what "
                    "is meant? See --dry-run; `holdfast snapshot destroy` destroys one",
                    a->word[0]);
    }
    if (err == 0 && !a->quiet && !a->json) {
        table_header(table);
    }
    for (size_t i = 0; i < count && err == 0; i++) {
        err = prune_one(a, table, json_array_get(list, count - 1 - i), kept[i], told, why);
    }
    if (told && (err == 0 || json_array_size(told) > 0)) {
        print_json(json_pack("{s:i, s:s, s:b, s:O}", "schema", 1, "volume", a->word[0], "dry_run",
                             a->dry_run, "snapshots", told));
    }
    json_decref(told);
    free(kept);
    return err;
}

int cmd_prune(const struct args *a) {
    static const struct table_column columns[] = {
        {"NAME", -32}, {"CREATED", -20}, {"WHY-KEPT", -1}};
    json_t *reply = NULL;
    struct why why = {""};
    struct keep_rules rules;
    struct table table;
    int err = rules_of(a, &rules, &why);

    err = err < 0 ? err : table_begin(&table, a, columns, 3, &why);
    err = err < 0 ? err : ask_list(a->word[0], &reply, &why);
    if (err == 0 && !a->dry_run &&
        !confirmed(a, a->word[0], "Snapshots that no rule keeps are destroyed (see --dry-run).")) {
        json_decref(reply);
        return EXIT_UNSAFE;
    }
    err = err < 0 ? err : prune(a, &rules, &table, json_object_get(reply, "snapshots"), &why);
    json_decref(reply);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* --- for what works through the mount --- */

int snapshot_find_view(const struct target *t, bool content, struct snapshot_view *ret,
                       struct why *why) {
    const json_t *s = NULL;
    json_t *reply = NULL;
    int err = ask_snapshot(t, &reply, &s, why);

    ret->bookmark = err == 0 && json_is_true(json_object_get(s, "bookmark"));
    if (ret->bookmark && content) {
        err = why_set(why, -HFE_USAGE,
                      "\"%s\" is a bookmark: it knows what changed since, and has no content; "
                      "`holdfast snapshot list %s` shows what has",
                      t->snapshot, t->volume);
    }
    if (err == 0 && !view_path(reply, s, ret->path)) {
        err = why_set(why, -ENAMETOOLONG, "the path of the mount point is too long");
    }
    if (err == 0) {
        (void)snprintf(ret->mount, PATH_BYTES, "%s", text_of(reply, "mount"));
        ret->cut_s = (uint64_t)number_of(s, "created");
        if (json_is_true(json_object_get(s, "broken"))) {
            (void)fprintf(stderr, "holdfast: \"%s\" is broken: %s. What it still has is used\n",
                          t->snapshot, text_of(s, "reason"));
        }
    }
    json_decref(reply);
    return err;
}
