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
#include "tools/fstab.h"
#include "tools/progress.h"
#include "tools/table.h"

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
        if (config_is_store(text_of(s, "label"), text_of(s, "path"), name)) {
            return s;
        }
    }
    return NULL;
}

/* The status, and in it the store that is named second; -ENOENT if there is none. */
static int ask_store(const struct args *a, json_t **ret_status, const json_t **ret_store,
                     struct why *why) {
    int err = ask_status(a->word[0], ret_status, why);

    *ret_store = err == 0 ? store_of(*ret_status, a->word[1]) : NULL;
    return err < 0 || *ret_store
               ? err
               : why_set(why, -ENOENT,
                         "volume \"%s\" has no store \"%s\"; `holdfast store list "
                         "%s` lists them",
                         a->word[0], a->word[1], a->word[0]);
}

/* Its label. */
static int ask_label(const struct args *a, char ret_label[LABEL_BYTES], struct why *why) {
    json_t *st = NULL;
    const json_t *s;
    int err = ask_store(a, &st, &s, why);

    (void)snprintf(ret_label, LABEL_BYTES, "%s", text_of(s, "label"));
    json_decref(st);
    return err;
}

/* --- waiting --- */

static void show_catchup(struct progress *p, const json_t *store) {
    const json_t *c = json_object_get(store, "catchup");
    uint64_t done =
        (uint64_t)number_of(c, "bytes_copied") + (uint64_t)number_of(c, "bytes_compared");
    char what[LABEL_BYTES + 64];

    if (number_of(c, "started") != 0) {
        (void)snprintf(what, sizeof(what), "store \"%s\": %s", text_of(store, "label"),
                       json_is_true(json_object_get(c, "paused")) ? "paused" : text_of(c, "phase"));
        p->what = what;
        progress_show(p, done, done + (uint64_t)number_of(c, "bytes_left"),
                      (uint64_t)number_of(c, "bytes_per_s"));
    }
}

static bool is_in(const json_t *s, const char *state) {
    return s && state && strcmp(text_of(s, "state"), state) == 0;
}

/* Something went wrong with the store since `seq`, which is set to the newest event. */
static const char *error_since(const json_t *status, const char *label, long long *seq) {
    char about[LABEL_BYTES + 16];
    const char *found = NULL;
    const json_t *e;
    size_t i;

    (void)snprintf(about, sizeof(about), "store \"%s\"", label);
    json_array_foreach(json_object_get(status, "events"), i, e) {
        if (*seq > 0 && number_of(e, "seq") > *seq && strcmp(text_of(e, "level"), "error") == 0 &&
            strstr(text_of(e, "text"), about)) {
            found = text_of(e, "text");
        }
    }
    json_array_foreach(json_object_get(status, "events"), i, e) {
        *seq = number_of(e, "seq") > *seq ? number_of(e, "seq") : *seq;
    }
    return found;
}

/* Why the store `by` will not replace another one; NULL: it goes on. */
static const char *gave_up(const json_t *status, const char *by, long long *seq) {
    const json_t *s = store_of(status, by);

    return !s                    ? "the new store was removed meanwhile"
           : is_in(s, "OFFLINE") ? "the new store was taken out meanwhile"
                                 : error_since(status, by, seq);
}

/* Waits until the store has that state, or (if not NULL) the other one; with progress, and as long as
 * --wait=TIME says. state NULL: until it is not there any more, or `by`, which is to replace it, cannot.
 * 1: it has the other one. */
static int wait_for_either(const struct args *a, const char *label, const char *state,
                           const char *other, const char *by, struct why *why) {
    bool reached = false, is_other = false, out, was_in = false;
    long long seq = 0;
    struct progress progress;
    int err = 0;

    progress_begin(&progress, "", a->quiet);
    while (err == 0 && !reached) {
        const char *failed = NULL;
        json_t *st = NULL;
        const json_t *s;

        err = ask_status(a->word[0], &st, why);
        s = err == 0 ? store_of(st, label) : NULL;
        is_other = err == 0 && is_in(s, other);
        reached = err == 0 && (is_other || is_in(s, state) || (!state && !s));
        out = is_in(s, "OFFLINE");
        was_in = was_in || (s && !out);
        failed = by && err == 0 ? gave_up(st, by, &seq) : NULL;
        if (err == 0 && state && !s) {
            err = why_set(why, -ENOENT, "store \"%s\" was removed meanwhile", label);
        } else if (err == 0 && state && !reached && was_in && out) {
            err = why_set(why, -ECANCELED,
                          "store \"%s\" was taken out meanwhile; `holdfast events "
                          "%s` says why",
                          label, a->word[0]);
        } else if (failed && !reached) {
            err = why_set(why, -ECANCELED, "%s", failed);
        } else if (err == 0 && !reached && clock_ms() > a->wait_until_ms) {
            err = why_set(why, -ETIMEDOUT,
                          "store \"%s\" is not %s after %lld s; it goes on, and `holdfast status "
                          "%s` shows how far it is",
                          label, state ? state : "replaced", a->wait_s, a->word[0]);
        }
        if (s && !reached && err == 0) {
            show_catchup(&progress, s);
            (void)poll(NULL, 0, WAIT_STEP_MS);
        }
        json_decref(st);
    }
    progress_end(&progress);
    return err < 0 ? err : is_other;
}

static int wait_for_state(const struct args *a, const char *label, const char *state,
                          struct why *why) {
    return wait_for_either(a, label, state, NULL, NULL, why);
}

/* --- online, offline --- */

/* `other`: the state that is as good, of a store that follows behind; or NULL. */
static int change(const struct args *a, const char *verb, const char *wanted, const char *other,
                  const char *now) {
    char label[LABEL_BYTES];
    struct why why = {""};
    int err = ask_label(a, label, &why);

    err = err < 0 ? err
                  : tell(a->word[0], json_pack("{s:s, s:s}", "verb", verb, "store", label), &why);
    if (err == 0 && a->wait) {
        err = wait_for_either(a, label, wanted, other, NULL, &why);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf("store \"%s\" of \"%s\": %s; `holdfast status %s` shows it\n", label,
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

/* What was taken out by hand comes back by hand. */
static int check_not_offline(const struct args *a, const char *label, struct why *why) {
    json_t *st = NULL;
    int err = ask_status(a->word[0], &st, why);

    if (err == 0 && is_in(store_of(st, label), "OFFLINE")) {
        err = why_set(why, -HFE_UNSAFE,
                      "store \"%s\" was taken out by hand: `holdfast store online %s %s` first",
                      label, a->word[0], label);
    }
    json_decref(st);
    return err;
}

int cmd_store_set(const struct args *a) {
    bool passive = strcmp(a->word[2], "passive") == 0;
    char label[LABEL_BYTES];
    struct why why = {""};
    int err =
        passive || strcmp(a->word[2], "active") == 0
            ? ask_label(a, label, &why)
            : why_set(&why, -HFE_USAGE, "a store is set active or passive, not \"%s\"", a->word[2]);

    err = err < 0 || !a->wait ? err : check_not_offline(a, label, &why); /* its role may be set */
    err =
        err < 0
            ? err
            : tell(a->word[0],
                   json_pack("{s:s, s:s, s:b}", "verb", "set", "store", label, "passive", passive),
                   &why);
    if (err == 0 && a->wait) {
        err = wait_for_state(a, label, passive ? "PASSIVE" : "ONLINE", &why);
    }
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

int cmd_store_list(const struct args *a) {
    static const struct table_column columns[] = {
        {"STORE", -10}, {"STATE", -8}, {"WHERE", -34}, {"DISK", -1}};
    json_t *st = NULL;
    const json_t *s;
    struct why why = {""};
    struct table table;
    size_t i;
    int err = table_begin(&table, a, columns, 4, &why);

    err = err < 0 ? err : ask_status(a->word[0], &st, &why);

    if (err < 0) {
        return fail(err, &why);
    }
    if (a->json) {
        print_json(json_pack("{s:i, s:s, s:O}", "schema", 1, "volume", a->word[0], "stores",
                             json_object_get(st, "stores")));
        json_decref(st);
        return EXIT_OK;
    }
    table_header(&table);
    json_array_foreach(json_object_get(st, "stores"), i, s) {
        table_row(&table,
                  (const char *[]){text_of(s, "label"), text_of(s, "state"), text_of(s, "path"),
                                   *text_of(s, "disk") ? text_of(s, "disk") : text_of(s, "fs")});
    }
    json_decref(st);
    return EXIT_OK;
}

/* --- add, replace --- */

static void notice(void *arg, const char *text) {
    const struct args *a = arg;

    if (!a->quiet) {
        (void)fprintf(stderr, "holdfast: note: %s\n", text);
    }
}

/* What the volume's stores say, while it is mounted: of one that is ONLINE. The others are not touched:
 * they may hang. */
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
        c->store[c->count - 1].away = !is_in(s, "ONLINE");
        if (err < 0 && is_in(s, "ONLINE")) {
            err = store_identify(text_of(s, "path"), &n->record, why);
            n->used_bytes =
                (uint64_t)number_of(s, "total_bytes") - (uint64_t)number_of(s, "free_bytes");
        }
    }
    return err == -HFE_MISSING ? why_set(why, err, "no store is ONLINE") : err;
}

/* The volume must wait for the new store's disk at boot, if it waits for the others'. */
static void tell_fstab(const struct args *a, const struct config *c, const char *path) {
    char text[PATH_BYTES + 200];

    if (fstab_waits(c, NULL) && !fstab_waits(c, path)) {
        (void)snprintf(
            text, sizeof(text),
            "the line of \"%s\" in /etc/fstab does not wait for the new store's disk: add "
            "x-systemd.requires-mounts-for=%s to it, and take out what is gone",
            c->name, path);
        notice((void *)(uintptr_t)a, text);
    }
}

/* A store for a mounted volume; `old`: the one it replaces, or NULL. Its label goes to ret_label. */
static int add_mounted(const struct args *a, const char *old, const char *where,
                       const json_t *status, char ret_label[LABEL_BYTES], struct why *why) {
    struct volume_new_store n = {
        .in_place_of = -1, .force = a->force, .notice = notice, .notice_arg = (void *)(uintptr_t)a};
    struct config c = {.count = 0};
    char id[ID_TEXT_BYTES];
    json_t *request;
    int err;

    (void)snprintf(c.name, sizeof(c.name), "%s", a->word[0]);
    (void)snprintf(c.mount_point, sizeof(c.mount_point), "%s", text_of(status, "mount"));
    err = read_mounted(status, &n, &c, why);
    for (unsigned i = 0; old && i < c.count; i++) {
        n.in_place_of = strcmp(c.store[i].label, old) == 0 ? (int)i : n.in_place_of;
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
        (void)json_object_set_new(request, "store", json_string(old));
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
    tell_fstab(a, &c, n.store.path);
    return 0;
}

/* The volume is not mounted: the configuration names the store, and the next mount takes it. */
static int add_unmounted(const struct args *a, struct why *why) {
    struct volume_new_store n = {.in_place_of = -1,
                                 .passive = a->passive,
                                 .force = a->force,
                                 .notice = notice,
                                 .notice_arg = (void *)(uintptr_t)a};
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
    config_ask_stores(&c, 0);
    err = volume_record(&c, &n.record, &n.used_bytes, why);
    if (err < 0) {
        return err;
    }
    err = volume_new_store(&c, a->word[1], &n, why);
    if (err < 0) {
        return err;
    }
    (void)config_note_store(&c, n.store.label, n.store.path); /* there is room: it was checked */
    tell_fstab(a, &c, n.store.path);
    return config_save(&c, why);
}

int cmd_store_add(const struct args *a) {
    char label[LABEL_BYTES];
    json_t *st = NULL;
    struct why why = {""};
    int err = ask_status(a->word[0], &st, &why);

    if (err == -HFE_UNREACHABLE) {
        err = a->wait ? why_set(&why, -HFE_USAGE,
                                "\"%s\" is not mounted: its next mount fills the store, which "
                                "--wait cannot wait for",
                                a->word[0])
                      : add_unmounted(a, &why);
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
    if (err == 0 && json_is_true(json_object_get(s, "passive"))) {
        err = why_set(
            &why, -HFE_USAGE,
            "store \"%s\" is passive, so nothing can be proven equal to it: `holdfast store "
            "add %s NEW --passive --wait`, then `holdfast store remove %s %s`",
            old, a->word[0], a->word[0], old);
    }
    err = err < 0 ? err : add_mounted(a, old, a->word[2], st, label, &why);
    json_decref(st);
    if (err == 0 && a->wait) {
        err = wait_for_state(a, label, "ONLINE", &why);
        err = err < 0 ? err : wait_for_either(a, old, NULL, NULL, label, &why);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf(a->wait ? "store \"%s\" has taken the place of \"%s\"\n"
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
    if (!a->quiet) { /* one that was lost may hang: it is not looked at */
        (void)printf("store \"%s\" is not part of \"%s\" any more%s%s\n", label, a->word[0],
                     !online            ? "; a plain folder again once it can be reached: "
                     : given_back(path) ? "; a plain folder again: "
                                        : "; not a plain folder yet (`holdfast events` says why): ",
                     path);
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
    char label[LABEL_BYTES];
    const char *store = a->count > 1 ? label : NULL;
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
    err = err < 0 || !store ? err : ask_label(a, label, &why);
    if (err == 0 && store && !a->pause && !a->resume && !a->limit) {
        err = check_not_offline(a, label, &why);
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
        if (err >= 0 && !is_in(s, "OFFLINE") && (!store || s == store_of(st, store))) {
            err = wait_for_either(a, text_of(s, "label"), "ONLINE", "PASSIVE", NULL, &why);
        }
    }
    json_decref(st);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* Waits for the end of a run; its result as an exit code. */
static int wait_for_verify(const struct args *a, struct why *why) {
    struct progress progress;

    progress_begin(&progress, "verify", a->quiet);
    for (;;) {
        json_t *st = NULL;
        const json_t *v;
        int err = ask_status(a->word[0], &st, why), code = -1;

        if (err < 0) {
            return fail(err, why);
        }
        v = json_object_get(st, "verify");
        if (!json_is_true(json_object_get(v, "running"))) {
            progress_end(&progress);
            code = !json_is_true(json_object_get(v, "complete")) ? EXIT_FAILED
                   : number_of(v, "differences") > 0             ? EXIT_WARNINGS
                                                                 : EXIT_OK;
            if (a->json) {
                print_json(json_pack("{s:i, s:O}", "schema", 1, "verify", v));
            }
            if (code == EXIT_FAILED) {
                (void)fprintf(stderr, "holdfast: verify %s: %s\n", a->word[0],
                              text_of(v, "result"));
            } else if (!a->json && !a->quiet) {
                (void)printf("%s: %s\n", a->word[0], text_of(v, "result"));
            }
        } else {
            progress_show(&progress, (uint64_t)number_of(v, "bytes"),
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
    scope_free char *path = path_inside(a->path ? a->path : "", &why);
    int err = path ? 0 : -HFE_USAGE;

    if (path && strchr(a->word[0], '@')) {
        return a->repair || a->store || a->stop
                   ? fail(-HFE_USAGE, &(struct why){"--repair, --store and --stop are for stores: "
                                                    "`holdfast verify NAME` without a snapshot"})
                   : verify_snapshot(a, path);
    }
    err = err < 0 ? err
                  : tell(a->word[0],
                         json_pack("{s:s, s:s*, s:b, s:b, s:o, s:i}", "verb", "verify", "store",
                                   a->store, "repair", a->repair, "stop", a->stop, "path",
                                   text_json("", path), "percent", (int)a->sample),
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
    if (err == 0) {
        config_ask_stores(&c, 0);
    }
    lock = err < 0 ? err : daemon_lock(c.name, &why);
    err = lock < 0 ? lock : volume_resolve(&c, a->keep, &stat, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    if (a->quiet) {
        return EXIT_OK;
    }
    (void)printf("%s: resolved: %llu objects compared, %llu changed, %llu bytes copied. Mount it: "
                 "holdfast mount %s\n",
                 c.name, (unsigned long long)stat.objects_compared,
                 (unsigned long long)stat.objects_changed, (unsigned long long)stat.bytes_copied,
                 c.name);
    return EXIT_OK;
}
