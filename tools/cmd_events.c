/* events: what the daemons noted. Reads their files; touches no store and needs no daemon. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/notify.h"
#include "tool.h"

enum { VOLUMES_MAX = 256 };

/* So long ago, or seconds since 1970. Negative: neither. */
static long long since_of(const char *text) {
    long long duration = duration_of(text), n;
    char *end;

    if (duration >= 0) {
        return (long long)time(NULL) - duration;
    }
    n = strtoll(text, &end, 10);
    return *end || end == text ? -1 : n;
}

static void print_line(const char *line, long long since, const struct args *a) {
    json_t *e = json_loads(line, 0, NULL);
    long long when = json_integer_value(json_object_get(e, "time"));
    char text[32];

    if (e && when >= since) {
        clock_text((uint64_t)when, text);
        if (a->json) {
            (void)fputs(line, stdout);
        } else {
            (void)printf(a->no_header ? "%s\t%s\t%s\t%s\n" : "%s  %-12s %-8s %s\n", text,
                         json_string_value(json_object_get(e, "volume")),
                         json_string_value(json_object_get(e, "level")),
                         json_string_value(json_object_get(e, "text")));
        }
    }
    json_decref(e); /* a line that was cut off is left out */
}

/* Lines from `from` on; the position behind the last one, or a negative errno. */
static long print_file(const char *path, long from, long long since, const struct args *a) {
    FILE *f = fopen(path, "re");
    char line[4096];

    if (!f) {
        return errno == ENOENT ? from : -errno;
    }
    if (fseek(f, 0, SEEK_END) == 0 && ftell(f) < from) {
        from = 0; /* another file since: the old one was put aside */
    }
    (void)fseek(f, from, SEEK_SET); /* cannot fail within the file */
    while (fgets(line, sizeof(line), f) && strchr(line, '\n')) {
        print_line(line, since, a);
        from = ftell(f);
    }
    (void)fclose(f); /* read only */
    return from;
}

struct tested {
    const struct args *args;
    const char *name;
    unsigned programs, failed;
};

static void show_result(void *arg, const char *program, const char *words, bool told) {
    struct tested *t = arg;

    t->programs++;
    t->failed += !told;
    if (!told || !t->args->quiet) {
        (void)fprintf(told ? stdout : stderr, "%s: %s: %s\n", t->name, program, words);
    }
}

static int test_one(const struct config *c, const struct args *a) {
    struct event e = {.real_s = clock_real_s(), .level = EVENT_WARNING};
    struct tested t = {.args = a, .name = c->name};

    (void)snprintf(e.text, sizeof(e.text), "this is a test of the event programs of volume \"%s\"",
                   c->name);
    notify_test(c, &e, show_result, &t);
    if (t.programs == 0) {
        (void)fprintf(stderr,
                      "holdfast: nobody is told of events of \"%s\": put a program into "
                      "%s/events.d, or `program` or `mailaddr` into [events] of %s/%s.conf\n",
                      c->name, config_dir(), config_dir(), c->name);
    }
    return t.failed > 0 ? EXIT_FAILED : t.programs == 0 ? EXIT_WARNINGS : EXIT_OK;
}

int cmd_events(const struct args *a) {
    static char names[VOLUMES_MAX][VOLUME_NAME_BYTES];
    static long at[VOLUMES_MAX];
    unsigned n = config_list(names, VOLUMES_MAX);
    long long since = a->since ? since_of(a->since) : 0;
    char path[PATH_BYTES], old[PATH_BYTES + 4];
    int worst = EXIT_OK;

    if (since < 0) {
        return fail(-HFE_USAGE,
                    &(struct why){"--since takes 90s, 15m, 2h, 3d or seconds since 1970"});
    }
    if (a->count > 0) {
        (void)snprintf(names[0], sizeof(names[0]), "%s", a->word[0]);
        n = 1;
    }
    for (unsigned i = 0; i < n; i++) {
        struct config c;
        struct why why = {""};
        int err = config_load(names[i], &c, &why);

        if (err < 0 && (a->test || a->count > 0)) {
            return fail(err, &why);
        }
        if (a->test && config_is_systems(names[i])) {
            return fail(-EPERM, &(struct why){"the event programs of the machine's volumes are "
                                              "run by root: sudo holdfast events --test"});
        }
        if (a->test) {
            err = test_one(&c, a);
            worst = worst == EXIT_FAILED || err == EXIT_OK ? worst : err;
            continue;
        }
        notify_path(names[i], path);
        (void)snprintf(old, sizeof(old), "%s.1", path);
        (void)print_file(old, 0, since, a); /* it is whole, and not followed */
        at[i] = print_file(path, 0, since, a);
        if (at[i] < 0) {
            why_set(&why, (int)at[i], "%s: %s", path, error_words((int)at[i]));
            return fail((int)at[i], &why);
        }
    }
    while (a->foreground && !a->test && fflush(stdout) == 0) {
        (void)sleep(1);
        for (unsigned i = 0; i < n; i++) {
            notify_path(names[i], path);
            at[i] = print_file(path, at[i] > 0 ? at[i] : 0, since, a);
        }
    }
    return worst;
}
