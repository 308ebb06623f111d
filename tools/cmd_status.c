/* status and list: what the daemons say, or that none runs. Neither touches a store. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tool.h"
#include "tools/table.h"

enum {
    VOLUMES_MAX = 256, /* of one machine, that are listed */
};

enum health {
    HEALTH_GOOD = 0,
    HEALTH_DEGRADED = 1,
    HEALTH_UNUSABLE = 2,
    HEALTH_UNKNOWN = 4,
};

static enum health health_of(const json_t *status) {
    const char *state = text_of(status, "state");

    return strcmp(state, "HEALTHY") == 0    ? HEALTH_GOOD
           : strcmp(state, "DEGRADED") == 0 ? HEALTH_DEGRADED
                                            : HEALTH_UNUSABLE;
}

/* How much was told since it left: not how much there is to copy, but it grows with it. */
static const char *behind_text(const json_t *s, const struct args *a, char ret_text[32]) {
    long long n = number_of(s, "behind");

    return n == 0 ? "-" : n < 0 ? "all" : size_text((uint64_t)n, a->exact, ret_text);
}

static void print_store(const json_t *s, const struct args *a) {
    char free_text[32], behind[32], where[PATH_BYTES + 32];
    bool online = strcmp(text_of(s, "state"), "ONLINE") == 0;

    (void)snprintf(where, sizeof(where), "%s%s%s%s", *text_of(s, "path") ? text_of(s, "path") : "-",
                   *text_of(s, "fs") ? " (" : "", text_of(s, "fs"), *text_of(s, "fs") ? ")" : "");
    if (a->verbose && number_of(s, "latency_us") > 0) {
        size_t used = strlen(where);

        (void)snprintf(where + used, sizeof(where) - used, ", %.1f ms a change",
                       (double)number_of(s, "latency_us") / 1000);
    }
    (void)printf(
        "  %-10s %-8s %-34s %5lld %6lld %6lld %8s %8s\n", text_of(s, "label"), text_of(s, "state"),
        where, number_of(s, "read_errors"), number_of(s, "write_errors"),
        number_of(s, "checksum_errors"), behind_text(s, a, behind),
        online ? size_text((uint64_t)number_of(s, "free_bytes"), a->exact, free_text) : "-");
}

static void print_catchup(const json_t *s, const struct args *a) {
    const json_t *c = json_object_get(s, "catchup");
    char copied[32], left[32], rate[32];
    long long eta = number_of(c, "seconds_left");

    if (number_of(c, "started") == 0) {
        return;
    }
    (void)printf("catch-up: %s: %s; %lld objects compared, %s copied, %s left, %s/s, "
                 "%lld:%02lld:%02lld to go\n",
                 text_of(s, "label"), text_of(c, "phase"), number_of(c, "objects_compared"),
                 size_text((uint64_t)number_of(c, "bytes_copied"), a->exact, copied),
                 size_text((uint64_t)number_of(c, "bytes_left"), a->exact, left),
                 size_text((uint64_t)number_of(c, "bytes_per_s"), a->exact, rate), eta / 3600,
                 eta / 60 % 60, eta % 60);
}

static void show_snapshots(const json_t *st) {
    const json_t *s = json_object_get(st, "snapshots");
    long long made = number_of(s, "newest_time"), ago = (long long)clock_real_s() - made;
    long long broken = number_of(s, "broken");

    if (made > 0) {
        (void)printf("last snapshot: %s@%s (%lld h %lld min ago)", text_of(st, "volume"),
                     text_of(s, "newest"), ago / 3600, ago / 60 % 60);
    } else {
        (void)printf("snapshots: none");
    }
    if (broken > 0) {
        (void)printf("; %lld BROKEN, see `holdfast snapshot list %s`", broken,
                     text_of(st, "volume"));
    }
    (void)printf("%s\n", json_is_true(json_object_get(s, "scheduled"))
                             ? ""
                             : "; none are scheduled (holdfast-snapshot@.timer)");
}

static void print_status(const json_t *st, const struct args *a) {
    json_t *stores = json_object_get(st, "stores"), *s;
    char since[32];
    size_t i;

    clock_text((uint64_t)number_of(st, "mounted"), since);
    (void)printf("volume:  %-36s mounted: %s (since %s)\n", text_of(st, "volume"),
                 text_of(st, "mount"), since);
    (void)printf("state:   %-12s generation: %-11lld stores: %lld of %lld online\n",
                 text_of(st, "state"), number_of(st, "generation"), number_of(st, "online"),
                 number_of(st, "count"));
    (void)printf("status:  %s\n", text_of(st, "status"));
    if (*text_of(st, "action")) {
        (void)printf("action:  %s\n", text_of(st, "action"));
    }
    (void)printf("  %-10s %-8s %-34s %5s %6s %6s %8s %8s\n", "STORE", "STATE", "WHERE", "READ",
                 "WRITE", "CKSUM", "BEHIND", "FREE");
    json_array_foreach(stores, i, s) {
        print_store(s, a);
    }
    json_array_foreach(stores, i, s) {
        print_catchup(s, a);
    }
    show_snapshots(st);
}

/* The state of a volume whose daemon says nothing, or nothing to this user. */
static const char *unreached(const char *name, int err) {
    return err != -HFE_UNREACHABLE || daemon_is_running(name) ? "UNKNOWN" : "UNMOUNTED";
}

/* An empty line between volumes. */
static void separate(bool *shown) {
    if (*shown) {
        (void)putchar('\n');
    }
    *shown = true;
}

/* One volume; adds to `all` with --json. *shown: something was printed. */
static enum health show_one(const char *name, const struct args *a, json_t *all, bool *shown) {
    json_t *st = NULL;
    struct why why = {""};
    enum health h;
    int err = ask_status(name, &st, &why);

    if (err < 0) {
        if (all) {
            (void)json_array_append_new(all, json_pack("{s:i, s:s, s:s}", "schema", 1, "volume",
                                                       name, "state", unreached(name, err)));
        } else if (!a->quiet) {
            separate(shown);
            (void)printf("volume:  %s\nstate:   %s\n", name, unreached(name, err));
            if (err != -HFE_UNREACHABLE) { /* what it said tells what to do */
                (void)printf("status:  %s\n", why.text);
            } else if (daemon_is_running(name)) {
                (void)printf("status:  %s\naction:  see the system log\n", why.text);
            } else {
                (void)printf("action:  holdfast mount %s\n", name);
            }
        }
        return HEALTH_UNKNOWN;
    }
    h = health_of(st);
    if (all) {
        (void)json_array_append(all, st);
    } else if (!a->quiet && !(a->problems_only && h == HEALTH_GOOD && !*text_of(st, "action"))) {
        separate(shown);
        print_status(st, a);
    }
    json_decref(st);
    return h;
}

static enum health show_all(const struct args *a) {
    static char names[VOLUMES_MAX][VOLUME_NAME_BYTES];
    unsigned n = a->count > 0 ? 0 : config_list(names, VOLUMES_MAX);
    json_t *all = a->json ? json_array() : NULL;
    enum health worst = HEALTH_GOOD, h;
    bool shown = false;

    if (a->count > 0) {
        worst = show_one(a->word[0], a, all, &shown);
    } else if (n == 0 && !a->json) {
        (void)printf("no volumes; `holdfast create` makes one\n");
    }
    for (unsigned i = 0; i < n; i++) {
        h = show_one(names[i], a, all, &shown);
        worst = h > worst ? h : worst;
    }
    if (all && a->count > 0) {
        print_json(json_incref(json_array_get(all, 0)));
        json_decref(all);
    } else if (all) {
        print_json(json_pack("{s:i, s:o}", "schema", 1, "volumes", all));
    }
    return worst;
}

int cmd_status(const struct args *a) {
    enum health h;

    if (a->count > 0) {
        struct config c;
        struct why why = {""};

        if (config_load(a->word[0], &c, &why) < 0 && !daemon_is_running(a->word[0])) {
            (void)fail(-HFE_UNREACHABLE, &why);
            return EXIT_UNREACHABLE;
        }
    }
    for (;;) {
        h = show_all(a);
        if (a->watch_s <= 0 || fflush(stdout) != 0) {
            break;
        }
        (void)sleep((unsigned)a->watch_s);
        (void)putchar('\n');
    }
    return a->test || h == HEALTH_UNKNOWN ? (int)h : EXIT_OK;
}

/* Nagios: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN; one line. */
int cmd_check(const struct args *a) {
    static const char *const words[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    json_t *st = NULL;
    struct why why = {""};
    int err = ask_status(a->word[0], &st, &why);
    int code = err < 0 ? 3 : (int)health_of(st);

    code = code == 0 && *text_of(st, "action") ? 1 : code; /* something is to be done */
    (void)printf("HOLDFAST %s - %s: %s | online=%lld stores=%lld\n", words[code], a->word[0],
                 err < 0 ? why.text : text_of(st, "status"), number_of(st, "online"),
                 number_of(st, "count"));
    json_decref(st);
    return code;
}

int cmd_list(const struct args *a) {
    static char names[VOLUMES_MAX][VOLUME_NAME_BYTES];
    unsigned n = config_list(names, VOLUMES_MAX);
    static const struct table_column columns[] = {
        {"NAME", -20}, {"STATE", -10}, {"STORES", -6}, {"MOUNT", -1}};
    json_t *all = NULL;
    struct table table;
    struct why why = {""};
    int err = table_begin(&table, a, columns, 4, &why);

    if (err < 0) {
        return fail(err, &why);
    }
    if (a->json) {
        all = json_array();
    } else {
        table_header(&table);
    }
    for (unsigned i = 0; i < n; i++) {
        struct config c;
        json_t *st = NULL;
        const char *state;
        char stores[16];

        if (config_load(names[i], &c, &why) < 0) {
            (void)fprintf(stderr, "holdfast: %s\n", why.text);
            continue;
        }
        err = ask_status(names[i], &st, &why);
        state = err == 0 ? text_of(st, "state") : unreached(names[i], err);
        if (all) {
            (void)json_array_append_new(
                all, json_pack("{s:s, s:s, s:i, s:s}", "volume", c.name, "state", state, "stores",
                               (int)c.count, "mount", st ? text_of(st, "mount") : c.mount_point));
        } else {
            (void)snprintf(stores, sizeof(stores), "%u", c.count);
            table_row(&table, (const char *[]){c.name, state, stores,
                                               st ? text_of(st, "mount") : c.mount_point});
        }
        json_decref(st);
    }
    if (all) {
        print_json(json_pack("{s:i, s:o}", "schema", 1, "volumes", all));
    }
    return EXIT_OK;
}
