/* What is done to the stores of a mounted volume: online, offline, add, remove, replace; resync and
 * verify. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "ctl/ctl.h"
#include "daemon/resolve.h"
#include "daemon/volume.h"
#include "tool.h"

enum {
    WAIT_STEP_MS = 200,
    GONE_MS = 15000, /* until a removed store is let go */
};

/* --- asking --- */

static int tell(const char *name, json_t *request, struct why *why) {
    json_t *reply = NULL;
    int err = ask_daemon(name, request, &reply, why);

    json_decref(reply);
    return err;
}

/* The store in the status, by label or path; NULL. */
static const json_t *store_of(const json_t *status, const char *name) {
    const json_t *s;
    size_t i;

    json_array_foreach(json_object_get(status, "stores"), i, s) {
        if (strcmp(text_of(s, "label"), name) == 0 || strcmp(text_of(s, "path"), name) == 0) {
            return s;
        }
    }
    return NULL;
}

/* The status, and in it the store that is named second; -HFE_USAGE if there is none. */
static int ask_store(const struct args *a, json_t **ret_status, const json_t **ret_store,
                     struct why *why) {
    int err = ask_status(a->word[0], ret_status, why);

    *ret_store = err == 0 ? store_of(*ret_status, a->word[1]) : NULL;
    return err < 0 || *ret_store
               ? err
               : why_set(why, -HFE_USAGE,
                         "volume \"%s\" has no store \"%s\"; `holdfast store list "
                         "%s` lists them",
                         a->word[0], a->word[1], a->word[0]);
}

/* --- waiting --- */

/* Long work in one line: over itself on a terminal, a line every 10 % otherwise. */
struct shown {
    int tenth; /* the last one that was shown; -1: none */
    bool line; /* on a terminal, one is there */
};

static void show_progress(struct shown *shown, const char *what, uint64_t done, uint64_t total,
                          uint64_t rate) {
    char a[32], b[32], c[32];
    int tenth = total > 0 ? (int)(done * 10 / total) : 0;
    uint64_t left = rate > 0 && total > done ? (total - done) / rate : 0;

    if (!isatty(STDERR_FILENO) && tenth <= shown->tenth) {
        return;
    }
    (void)fprintf(stderr, "%s%s: %d %%  %s of %s  %s/s  %llu:%02u:%02u to go%s",
                  shown->line ? "\r\033[K" : "", what, total > 0 ? (int)(done * 100 / total) : 0,
                  size_text(done, false, a), size_text(total, false, b), size_text(rate, false, c),
                  (unsigned long long)left / 3600, (unsigned)(left / 60 % 60),
                  (unsigned)(left % 60), isatty(STDERR_FILENO) ? "" : "\n");
    shown->line = isatty(STDERR_FILENO);
    shown->tenth = tenth;
}

static void end_progress(const struct shown *shown) {
    if (shown->line) {
        (void)fputc('\n', stderr);
    }
}

static void show_catchup(struct shown *shown, const json_t *store) {
    const json_t *c = json_object_get(store, "catchup");
    uint64_t done =
        (uint64_t)number_of(c, "bytes_copied") + (uint64_t)number_of(c, "bytes_compared");
    char what[LABEL_BYTES + 64];

    if (number_of(c, "started") != 0) {
        (void)snprintf(what, sizeof(what), "store \"%s\": %s", text_of(store, "label"),
                       json_is_true(json_object_get(c, "paused")) ? "paused" : text_of(c, "phase"));
        show_progress(shown, what, done, done + (uint64_t)number_of(c, "bytes_left"),
                      (uint64_t)number_of(c, "bytes_per_s"));
    }
}

static bool is_in(const json_t *s, const char *state) {
    return s && state && strcmp(text_of(s, "state"), state) == 0;
}

/* Waits until the store has that state, or (if not NULL) the other one; NULL: is not there. With progress.
 * 1: it has the other one. */
static int wait_for_either(const struct args *a, const char *label, const char *state,
                           const char *other, struct why *why) {
    struct shown shown = {.tenth = -1};
    bool reached = false, is_other = false, out, was_in = false;
    int err = 0;

    while (err == 0 && !reached) {
        json_t *st = NULL;
        const json_t *s;

        err = ask_status(a->word[0], &st, why);
        s = err == 0 ? store_of(st, label) : NULL;
        is_other = err == 0 && is_in(s, other);
        reached = err == 0 && (is_other || is_in(s, state) || (!state && !s));
        out = is_in(s, "OFFLINE");
        was_in = was_in || (s && !out);
        if (err == 0 && state && !s) {
            err = why_set(why, -ENOENT, "store \"%s\" was removed meanwhile", label);
        } else if (err == 0 && state && !reached && was_in && out) {
            err = why_set(why, -ECANCELED,
                          "store \"%s\" was taken out meanwhile; `holdfast events "
                          "%s` says why",
                          label, a->word[0]);
        }
        if (s && !reached) {
            if (!a->quiet) {
                show_catchup(&shown, s);
            }
            (void)poll(NULL, 0, WAIT_STEP_MS);
        }
        json_decref(st);
    }
    end_progress(&shown);
    return err < 0 ? err : is_other;
}

static int wait_for_state(const struct args *a, const char *label, const char *state,
                          struct why *why) {
    return wait_for_either(a, label, state, NULL, why);
}

/* --- online, offline --- */

/* `other`: the state that is as good, of a store that follows behind; or NULL. */
static int change(const struct args *a, const char *verb, const char *wanted, const char *other,
                  const char *now) {
    struct why why = {""};
    int err = tell(a->word[0], json_pack("{s:s, s:s}", "verb", verb, "store", a->word[1]), &why);

    if (err == 0 && a->wait) {
        err = wait_for_either(a, a->word[1], wanted, other, &why);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf("store \"%s\" of \"%s\": %s; `holdfast status %s` shows it\n", a->word[1],
                     a->word[0],
                     !a->wait   ? now
                     : err == 1 ? other
                                : wanted,
                     a->word[0]);
    }
    return EXIT_OK;
}

int cmd_store_online(const struct args *a) {
    return change(a, "online", "ONLINE", "PASSIVE", "is being brought back");
}

int cmd_store_offline(const struct args *a) {
    return change(a, "offline", "OFFLINE", NULL, "is out");
}

int cmd_store_set(const struct args *a) {
    bool passive = strcmp(a->word[2], "passive") == 0;
    struct why why = {""};
    int err =
        passive || strcmp(a->word[2], "active") == 0
            ? tell(a->word[0],
                   json_pack("{s:s, s:s, s:b}", "verb", "set", "store", a->word[1], "passive",
                             passive),
                   &why)
            : why_set(&why, -HFE_USAGE, "a store is set active or passive, not \"%s\"", a->word[2]);

    if (err == 0 && a->wait) {
        err = wait_for_state(a, a->word[1], passive ? "PASSIVE" : "ONLINE", &why);
    }
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

int cmd_store_list(const struct args *a) {
    json_t *st = NULL;
    const json_t *s;
    struct why why = {""};
    size_t i;
    int err = ask_status(a->word[0], &st, &why);

    if (err < 0) {
        return fail(err, &why);
    }
    if (a->json) {
        print_json(json_pack("{s:i, s:s, s:O}", "schema", 1, "volume", a->word[0], "stores",
                             json_object_get(st, "stores")));
        json_decref(st);
        return EXIT_OK;
    }
    if (!a->no_header) {
        (void)printf("%-10s %-8s %-34s %s\n", "STORE", "STATE", "WHERE", "DISK");
    }
    json_array_foreach(json_object_get(st, "stores"), i, s) {
        (void)printf(a->no_header ? "%s\t%s\t%s\t%s\n" : "%-10s %-8s %-34s %s\n",
                     text_of(s, "label"), text_of(s, "state"), text_of(s, "path"),
                     *text_of(s, "disk") ? text_of(s, "disk") : text_of(s, "fs"));
    }
    json_decref(st);
    return EXIT_OK;
}

/* --- add, replace --- */

static void notice(void *arg, const char *text) {
    (void)arg;
    (void)fprintf(stderr, "notice: %s\n", text);
}

/* What the volume's stores say, while it is mounted: of one that is ONLINE. */
static int read_mounted(const json_t *status, struct volume_new_store *n, struct config *c,
                        struct why *why) {
    const json_t *s;
    size_t i;
    int err = -HFE_MISSING;

    c->count = 0;
    json_array_foreach(json_object_get(status, "stores"), i, s) {
        if (!config_note_store(c, text_of(s, "label"), text_of(s, "path"))) {
            return why_set(why, -HFE_USAGE, "a volume has at most %d stores", STORES_MAX);
        }
        if (err < 0 && strcmp(text_of(s, "state"), "ONLINE") == 0) {
            err = store_identify(text_of(s, "path"), &n->record, why);
            n->used_bytes =
                (uint64_t)number_of(s, "total_bytes") - (uint64_t)number_of(s, "free_bytes");
        }
    }
    return err == -HFE_MISSING ? why_set(why, err, "no store is ONLINE") : err;
}

static int find_in(const struct config *c, const char *name) {
    char real[PATH_BYTES];

    for (unsigned i = 0; i < c->count; i++) {
        if (strcmp(c->store[i].label, name) == 0 || strcmp(c->store[i].path, name) == 0 ||
            (realpath(name, real) && strcmp(c->store[i].path, real) == 0)) {
            return (int)i;
        }
    }
    return -ENOENT;
}

/* A store for a mounted volume; `old`: the one it replaces, or NULL. Its label goes to ret_label. */
static int add_mounted(const struct args *a, const char *old, const char *where,
                       const json_t *status, char ret_label[LABEL_BYTES], struct why *why) {
    struct volume_new_store n = {.in_place_of = -1, .force = a->force, .notice = notice};
    struct config c = {.count = 0};
    char id[ID_TEXT_BYTES];
    json_t *request;
    int err;

    (void)snprintf(c.name, sizeof(c.name), "%s", a->word[0]);
    (void)snprintf(c.mount_point, sizeof(c.mount_point), "%s", text_of(status, "mount"));
    err = read_mounted(status, &n, &c, why);
    if (err == 0 && old) {
        n.in_place_of = find_in(&c, old);
        err = n.in_place_of < 0 ? why_set(why, -HFE_USAGE,
                                          "volume \"%s\" has no store \"%s\"; `holdfast store list "
                                          "%s` lists them",
                                          c.name, old, c.name)
                                : 0;
    }
    err = err < 0 ? err : volume_new_store(&c, where, &n, why);
    if (err < 0) {
        return err;
    }
    id_text(&n.id, id);
    request =
        json_pack("{s:s, s:s, s:s, s:s, s:I, s:b}", "verb", "add", "label", n.store.label, "path",
                  n.store.path, "id", id, "caps", (json_int_t)n.caps, "passive", a->passive);
    if (old) {
        (void)json_object_set_new(request, "store", json_string(c.store[n.in_place_of].label));
    }
    err = tell(a->word[0], request, why);
    if (err == -EEXIST || err == -HFE_USAGE || err == -HFE_IN_USE || err == -EINVAL ||
        err == -ENOENT || err == -EROFS) { /* it was refused: else it may yet be taken */
        struct why ignored;

        if (store_unformat(n.store.path, &ignored) < 0) {
            (void)fprintf(stderr, "holdfast: %s\n", ignored.text);
        }
    }
    if (err < 0) {
        return err;
    }
    memcpy(ret_label, n.store.label, LABEL_BYTES);
    return 0;
}

/* The volume is not mounted: the configuration names the store, and the next mount takes it. */
static int add_unmounted(const struct args *a, struct why *why) {
    struct volume_new_store n = {.in_place_of = -1, .force = a->force, .notice = notice};
    struct config c;
    int err = config_load(a->word[0], &c, why);
    scope_fd int lock = -1;

    if (err < 0) {
        return err;
    }
    lock = daemon_lock(c.name, why);
    if (lock < 0) {
        return lock;
    }
    err = -HFE_MISSING;
    for (unsigned i = 0; i < c.count && err < 0; i++) {
        struct super s;

        err = store_identify(c.store[i].path, &s, why);
        if (err == 0) {
            const struct super_member *m = super_member_of(&s, &s.store_id);

            err = m && m->state == MEMBER_ONLINE ? 0 : -HFE_STALE;
            n.record = s;
        }
    }
    if (err < 0) {
        return why_set(why, err, "none of the volume's stores can be read; mount it first");
    }
    err = volume_new_store(&c, a->word[1], &n, why);
    if (err < 0) {
        return err;
    }
    (void)config_note_store(&c, n.store.label, n.store.path); /* there is room: it was checked */
    return config_save(&c, why);
}

int cmd_store_add(const struct args *a) {
    char label[LABEL_BYTES];
    json_t *st = NULL;
    struct why why = {""};
    int err = ask_status(a->word[0], &st, &why);

    if (err == -HFE_UNREACHABLE) {
        err = add_unmounted(a, &why);
        if (err == 0 && !a->quiet) {
            (void)printf("the next mount of \"%s\" fills it: holdfast mount %s\n", a->word[0],
                         a->word[0]);
        }
        return err < 0 ? fail(err, &why) : EXIT_OK;
    }
    err = err < 0 ? err : add_mounted(a, NULL, a->word[1], st, label, &why);
    json_decref(st);
    if (err == 0 && a->wait) {
        err = wait_for_state(a, label, a->passive ? "PASSIVE" : "ONLINE", &why);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf("store \"%s\" of \"%s\": %s\n", label, a->word[0],
                     a->wait
                         ? a->passive ? "PASSIVE: it follows behind" : "ONLINE, equal to the others"
                         : "is being filled; `holdfast status` shows how far it is");
    }
    return EXIT_OK;
}

int cmd_replace(const struct args *a) {
    char label[LABEL_BYTES], old[LABEL_BYTES];
    const json_t *s;
    json_t *st = NULL;
    struct why why = {""};
    int err = ask_store(a, &st, &s, &why);

    (void)snprintf(old, sizeof(old), "%s", text_of(s, "label"));
    err = err < 0 ? err : add_mounted(a, old, a->word[2], st, label, &why);
    json_decref(st);
    if (err == 0 && a->wait) {
        err = wait_for_state(a, label, "ONLINE", &why);
        err = err < 0 ? err : wait_for_state(a, old, NULL, &why);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf(a->wait ? "store \"%s\" has taken the place of \"%s\", equal in every byte\n"
                             : "store \"%s\" is being filled and then takes the place of \"%s\"; "
                               "`holdfast status` shows how far it is\n",
                     label, old);
    }
    return EXIT_OK;
}

/* --- remove --- */

/* The daemon makes it a plain folder again, once it has let go of it. Is it one? */
static bool given_back(const char *path) {
    int64_t until = clock_ms() + GONE_MS;
    struct super s;
    int err;

    while ((err = store_identify(path, &s, NULL)) == 0 && clock_ms() < until) {
        (void)poll(NULL, 0, WAIT_STEP_MS);
    }
    return err == -HFE_NO_STORE;
}

int cmd_store_remove(const struct args *a) {
    char path[PATH_BYTES] = "", label[LABEL_BYTES] = "";
    const json_t *s;
    json_t *st = NULL;
    struct why why = {""};
    bool online;
    int err = ask_store(a, &st, &s, &why);

    (void)snprintf(path, sizeof(path), "%s", text_of(s, "path"));
    (void)snprintf(label, sizeof(label), "%s", text_of(s, "label"));
    online = strcmp(text_of(s, "state"), "ONLINE") == 0;
    if (err == 0 && online && number_of(st, "online") == 2 &&
        !confirmed(a, a->word[0],
                   "One copy of all data is left then: one more failure loses it.")) {
        json_decref(st);
        return EXIT_UNSAFE;
    }
    json_decref(st);
    err = err < 0
              ? err
              : tell(a->word[0], json_pack("{s:s, s:s}", "verb", "remove", "store", label), &why);
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf(
            "store \"%s\" is not part of \"%s\" any more%s%s\n", label, a->word[0],
            given_back(path) ? "; a plain folder again: " : "; not a plain folder yet: ", path);
    }
    return EXIT_OK;
}

/* --- resync, verify --- */

/* "20M" a second. */
static int parse_rate(const char *text, uint64_t *ret_bytes) {
    static const char units[] = "KMGT";
    char *end;
    const char *unit;
    unsigned long long n = strtoull(text, &end, 10);

    if (end == text || text[0] == '-') {
        return -HFE_USAGE;
    }
    unit = *end ? strchr(units, *end) : NULL;
    if ((*end && (!unit || end[1])) || n > UINT32_MAX) {
        return -HFE_USAGE;
    }
    *ret_bytes = n << (unit ? 10 * (unit - units + 1) : 0);
    return 0;
}

int cmd_resync(const struct args *a) {
    const char *store = a->count > 1 ? a->word[1] : NULL;
    struct why why = {""};
    uint64_t rate = 0;
    json_t *st = NULL;
    const json_t *s;
    size_t i;
    int err = 0;

    if (a->pause + a->resume + (a->limit != NULL) > 1) {
        err = why_set(&why, -HFE_USAGE, "--pause, --resume and --limit go one at a time");
    }
    if (err == 0 && a->limit && parse_rate(a->limit, &rate) < 0) {
        err =
            why_set(&why, -HFE_USAGE,
                    "--limit %s: bytes in a second, such as 20M; 0 takes the limit away", a->limit);
    }
    err = err < 0 ? err
                  : tell(a->word[0],
                         json_pack("{s:s, s:s*, s:s, s:I}", "verb", "resync", "store", store, "do",
                                   a->pause    ? "pause"
                                   : a->resume ? "resume"
                                   : a->limit  ? "limit"
                                               : "now",
                                   "rate", (json_int_t)rate),
                         &why);
    err = err < 0 || !a->wait ? err : ask_status(a->word[0], &st, &why);
    json_array_foreach(json_object_get(st, "stores"), i, s) {
        if (err == 0 && strcmp(text_of(s, "state"), "OFFLINE") != 0 &&
            (!store || s == store_of(st, store))) {
            err = wait_for_state(a, text_of(s, "label"), "ONLINE", &why);
        }
    }
    json_decref(st);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* Waits for the end of a run; its result as an exit code. */
static int wait_for_verify(const struct args *a, struct why *why) {
    struct shown shown = {.tenth = -1};

    for (;;) {
        json_t *st = NULL;
        const json_t *v;
        int err = ask_status(a->word[0], &st, why), code = -1;

        if (err < 0) {
            return fail(err, why);
        }
        v = json_object_get(st, "verify");
        if (!json_is_true(json_object_get(v, "running"))) {
            end_progress(&shown);
            code = number_of(v, "differences") > 0                ? EXIT_WARNINGS
                   : strncmp(text_of(v, "result"), "no ", 3) == 0 ? EXIT_OK
                                                                  : EXIT_FAILED;
            if (a->json) {
                print_json(json_pack("{s:i, s:O}", "schema", 1, "verify", v));
            } else if (!a->quiet) {
                (void)printf("%s: %s\n", a->word[0], text_of(v, "result"));
            }
        } else if (!a->quiet) {
            show_progress(&shown, "verify", (uint64_t)number_of(v, "bytes"),
                          (uint64_t)number_of(v, "bytes_total"),
                          (uint64_t)number_of(v, "bytes_per_s"));
        }
        json_decref(st);
        if (code >= 0) {
            return code;
        }
        (void)poll(NULL, 0, WAIT_STEP_MS);
    }
}

int cmd_verify(const struct args *a) {
    struct why why = {""};
    int err;

    if (strchr(a->word[0], '@')) {
        return verify_snapshot(a);
    }
    err = tell(a->word[0],
               json_pack("{s:s, s:s*, s:b, s:b}", "verb", "verify", "store", a->store, "repair",
                         a->repair, "stop", a->stop),
               &why);

    return err < 0 ? fail(err, &why) : a->stop ? EXIT_OK : wait_for_verify(a, &why);
}

/* --- resolve --- */

int cmd_resolve(const struct args *a) {
    struct config c;
    struct why why = {""};
    struct copy_stat stat = {0};
    int err = config_load(a->word[0], &c, &why);
    scope_fd int lock = -1;

    if (err == 0 && !a->keep) {
        err = why_set(&why, -HFE_USAGE, "say which store has what you want to keep: --keep STORE");
    }
    if (err == 0 &&
        !confirmed(a, c.name,
                   "The other stores become like the one that is kept. What only they have is put "
                   "aside in their .holdfast/lost, not served.")) {
        return EXIT_UNSAFE;
    }
    lock = err < 0 ? err : daemon_lock(c.name, &why);
    err = lock < 0 ? lock : volume_resolve(&c, a->keep, &stat, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    (void)printf("%s: resolved: %llu objects compared, %llu changed, %llu bytes copied. Mount it: "
                 "holdfast mount %s\n",
                 c.name, (unsigned long long)stat.objects_compared,
                 (unsigned long long)stat.objects_changed, (unsigned long long)stat.bytes_copied,
                 c.name);
    return EXIT_OK;
}
