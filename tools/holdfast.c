/* The holdfast command: finds the command in the table, parses options, runs it. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "ctl/ctl.h"
#include "tool.h"

const struct command commands[] = {
    {"create",
     "NAME STORE STORE... [--adopt STORE | --take-over DIR] [--mount DIR] [-o OPTS] [--fstab] [-n] "
     "[-q]",
     "make a volume out of folders", 2, STORES_MAX + 1, cmd_create},
    {"import", "STORE... [--mount DIR] [-q]", "make a volume that exists known to this machine", 1,
     STORES_MAX, cmd_import},
    {"dissolve", "NAME --keep STORE [-n] [--yes] [-q]", "give the plain folders back", 1, 1,
     cmd_dissolve},
    {"mount", "NAME|STORE[:STORE...] [DIR] [-f] [-d] [-o OPTS] [--force]", "mount a volume", 1, 2,
     cmd_mount},
    {"umount", "NAME|DIR [--lazy]", "unmount it, and wait until it is flushed", 1, 1, cmd_umount},
    {"status", "[NAME] [-x] [-w SEC] [-q] [-v] [-p] [--json] [--test]", "how volumes are", 0, 1,
     cmd_status},
    {"list", "[-H] [-o COLS] [--json]", "the volumes of this machine", 0, 0, cmd_list},
    {"check", "NAME", "one line and an exit code for Nagios", 1, 1, cmd_check},
    {"events", "[NAME] [-f] [--since T] [-H] [-q] [--json] [--test]", "what happened", 0, 1,
     cmd_events},
    {"resolve", "NAME --keep STORE [--yes]", "end a split brain", 1, 1, cmd_resolve},
    {"store list", "NAME [-H] [-o COLS] [--json]", "the stores of a volume, and their disks", 1, 1,
     cmd_store_list},
    {"store set", "NAME STORE active|passive [--wait[=TIME]] [-q]",
     "let it serve, or follow behind", 3, 3, cmd_store_set},
    {"store add", "NAME STORE [--passive] [--wait[=TIME]] [--force] [-q]",
     "one more copy, filled while in use", 2, 2, cmd_store_add},
    {"store remove", "NAME STORE [--yes] [-q]", "a plain folder again, not part of it any more", 2,
     2, cmd_store_remove},
    {"replace", "NAME OLD NEW [--wait[=TIME]] [--force] [-q]",
     "another store takes the place of one", 3, 3, cmd_replace},
    {"resync", "NAME [STORE] [--pause|--resume|--limit RATE] [--wait[=TIME]] [-q]",
     "bring stores back now, or slow that down", 1, 2, cmd_resync},
    {"verify",
     "NAME[@SNAP] [--path PATH] [--sample PERCENT] [--store STORE] [--repair] [--stop] [-q] "
     "[--json]",
     "compare the stores, byte by byte, or read a snapshot", 1, 1, cmd_verify},
    {"store online", "NAME STORE [--wait[=TIME]] [-q]", "bring a store back", 2, 2,
     cmd_store_online},
    {"store offline", "NAME STORE [--wait[=TIME]] [-q]", "take a store out", 2, 2,
     cmd_store_offline},
    {"snapshot create",
     "NAME[@SNAP] [--tag TAG[,TAG...]] [--freeze CMD|mariadb|postgresql] [--auto] [-q] [--json]",
     "the whole volume as it is now", 1, 1, cmd_snapshot_create},
    {"snapshot list", "NAME [-v] [-H] [-p] [-o COLS] [--json]", "the snapshots of a volume", 1, 1,
     cmd_snapshot_list},
    {"snapshot destroy", "NAME@SNAP [--yes]", "give back what only it still needs", 1, 1,
     cmd_snapshot_destroy},
    {"snapshot rename", "NAME@SNAP NEW", "call it something else", 2, 2, cmd_snapshot_rename},
    {"snapshot hold", "NAME@SNAP", "it may not be destroyed", 1, 1, cmd_snapshot_hold},
    {"snapshot release", "NAME@SNAP", "it may be destroyed again", 1, 1, cmd_snapshot_release},
    {"snapshot bookmark", "NAME@SNAP [--yes]", "only what changed since stays known", 1, 1,
     cmd_snapshot_bookmark},
    {"prune",
     "NAME [--keep-last N] [--keep-hourly N] [--keep-daily N] [--keep-weekly N] [--keep-monthly N] "
     "[--keep-yearly N] [--keep-within TIME] [--keep-tag TAG] [--auto] [-n] [-H] [-o COLS] [-q] "
     "[--yes] "
     "[--json]",
     "destroy snapshots that no rule keeps", 1, 1, cmd_prune},
    {"diff", "NAME@A [NAME@B] [--path PATH] [-v] [-z] [--json]",
     "what changed since, or between two", 1, 2, cmd_diff},
    {"restore", "NAME@SNAP [PATH...] --to DIR | --in-place [--verify] [--yes] [-q] [--json]",
     "get files, folders or everything back", 1, 1000000, cmd_restore},
    {"doctor", "[NAME] [-q] [--json]", "look for what could go wrong", 0, 1, cmd_doctor},
    {"store probe", "FOLDER [--json]", "what a folder can do as a store", 1, 1, cmd_store_probe},
};
const unsigned command_count = sizeof(commands) / sizeof(commands[0]);

int fail(int err, const struct why *why) {
    (void)fprintf(stderr, "holdfast: %s\n", why->text[0] ? why->text : error_words(err));
    switch (-err) {
    case HFE_USAGE:
        return EXIT_USAGE;
    case HFE_UNREACHABLE:
        return EXIT_UNREACHABLE;
    case HFE_UNSAFE:
    case HFE_STALE:
    case HFE_MISSING:
    case HFE_FOREIGN:
        return EXIT_UNSAFE;
    default:
        return EXIT_FAILED;
    }
}

bool confirmed(const struct args *args, const char *name, const char *what) {
    char line[VOLUME_NAME_BYTES + 2];

    if (args->yes) {
        return true;
    }
    if (!isatty(STDIN_FILENO)) {
        (void)fprintf(stderr, "holdfast: %s Without a terminal this needs --yes.\n", what);
        return false;
    }
    (void)fprintf(stderr, "%s\nType the volume's name to go on: ", what);
    if (!fgets(line, sizeof(line), stdin)) {
        return false;
    }
    line[strcspn(line, "\n")] = '\0';
    return strcmp(line, name) == 0;
}

const char *text_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : "";
}

long long number_of(const json_t *o, const char *key) {
    return json_integer_value(json_object_get(o, key));
}

int ask_daemon(const char *name, json_t *request, json_t **ret_reply, struct why *why) {
    enum { ASK_TIMEOUT_MS = 30000 }; /* recording a state may wait for a store that just stopped */
    char socket[PATH_BYTES];

    daemon_socket_path(name, socket);
    return ctl_call(socket, request, ASK_TIMEOUT_MS, ret_reply, why);
}

int ask_status(const char *name, json_t **ret_status, struct why *why) {
    return ask_daemon(name, json_pack("{s:s}", "verb", "status"), ret_status, why);
}

void print_json(json_t *value) {
    (void)json_dumpf(value, stdout,
                     JSON_INDENT(2) | JSON_REAL_PRECISION(6)); /* a closed stdout shows below */
    (void)putchar('\n');
    json_decref(value);
}

json_t *text_json(const char *prefix, const char *path) {
    char text[4 * PATH_BYTES + 1];

    (void)text_escape(path, text, sizeof(text));
    return json_sprintf("%s%s", prefix, text);
}

long long duration_of(const char *text) {
    static const struct {
        char unit;
        long long seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
    char *end;
    long long n = strtoll(text, &end, 10);

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (end != text && n >= 0 && n < INT32_MAX && *end == units[i].unit && end[1] == '\0') {
            return n * units[i].seconds;
        }
    }
    return -1;
}

const char *size_text(uint64_t bytes, bool exact, char ret_text[32]) {
    static const char units[] = "BKMGTPE";
    double value = (double)bytes;
    int unit = 0;

    while (!exact && value >= 1000 && unit < 6) {
        value /= 1024;
        unit++;
    }
    if (unit == 0) {
        (void)snprintf(ret_text, 32, "%llu%s", (unsigned long long)bytes, exact ? "" : "B");
    } else {
        (void)snprintf(ret_text, 32, value < 10 ? "%.1f%c" : "%.0f%c", value, units[unit]);
    }
    return ret_text;
}

char *path_inside(const char *word, struct why *why) {
    char *path = calloc(1, strlen(word) + 1), *to = path;

    for (const char *p = word; path && *p;) {
        size_t n = strcspn(p, "/");

        if (n == 2 && strncmp(p, "..", 2) == 0) {
            (void)why_set(why, -HFE_USAGE, "%s: a path inside the volume has no ..", word);
            free(path);
            return NULL;
        }
        if (n > 0 && !(n == 1 && *p == '.')) {
            if (to > path) {
                *to++ = '/';
            }
            memcpy(to, p, n); /* the path is not longer than the word */
            to += n;
        }
        p += n;
        p += *p == '/';
    }
    if (!path) {
        (void)why_set(why, -ENOMEM, "out of memory");
    }
    return path;
}

static void usage(FILE *to) {
    (void)fprintf(to, "usage: holdfast COMMAND ...\n\n");
    for (unsigned i = 0; i < command_count; i++) {
        (void)fprintf(to, "  %-18s %s\n", commands[i].name, commands[i].help);
    }
    (void)fprintf(to, "\n`holdfast COMMAND --help` says more; holdfast(8) says all.\n");
}

/* Letters that must change to make one word of the other, up to a few: for "did you mean". */
static unsigned distance(const char *a, const char *b) {
    unsigned row[32], n = (unsigned)strnlen(b, 31);

    for (unsigned k = 0; k <= n; k++) {
        row[k] = k;
    }
    for (unsigned i = 0; a[i] && i < 31; i++) {
        unsigned diagonal = row[0];

        row[0] = i + 1;
        for (unsigned k = 1; k <= n; k++) {
            unsigned up = row[k], best = diagonal + (a[i] != b[k - 1]);

            best = up + 1 < best ? up + 1 : best;
            best = row[k - 1] + 1 < best ? row[k - 1] + 1 : best;
            diagonal = up;
            row[k] = best;
        }
    }
    return row[n];
}

/* The second words of the commands that begin with `first`, as "a, b, c"; "": there are none. */
static const char *second_words(const char *first, char ret_list[256]) {
    size_t n = strlen(first), used = 0;

    ret_list[0] = '\0';
    for (unsigned i = 0; i < command_count; i++) {
        if (strncmp(commands[i].name, first, n) == 0 && commands[i].name[n] == ' ') {
            used += (size_t)snprintf(ret_list + used, 256 - used, "%s%s", used > 0 ? ", " : "",
                                     commands[i].name + n + 1); /* the longest list has 70 */
        }
    }
    return ret_list;
}

static int unknown(const char *word) {
    const struct command *best = NULL;
    unsigned nearest = 3; /* what is farther away is no typo */
    char list[256];

    if (*second_words(word, list)) {
        (void)fprintf(stderr, "holdfast: \"%s\" is followed by one of: %s\n", word, list);
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < command_count; i++) {
        unsigned d;

        (void)snprintf(list, sizeof(list), "%.*s", (int)strcspn(commands[i].name, " "),
                       commands[i].name);
        d = distance(word, list);
        best = d < nearest ? &commands[i] : best;
        nearest = d < nearest ? d : nearest;
    }
    (void)fprintf(stderr, "holdfast: there is no command \"%s\"%s%.*s%s\n", word,
                  best ? "; did you mean \"" : "", best ? (int)strcspn(best->name, " ") : 0,
                  best ? best->name : "", best ? "\"?" : "; `holdfast --help` lists them");
    return EXIT_USAGE;
}

/* How many words of argv the command's name takes; 0: it is another one. */
static int match(const struct command *c, int argc, char **argv) {
    const char *space = strchr(c->name, ' ');

    if (!space) {
        return argc > 1 && strcmp(argv[1], c->name) == 0;
    }
    return argc > 2 && strncmp(argv[1], c->name, (size_t)(space - c->name)) == 0 &&
                   !argv[1][space - c->name] && strcmp(argv[2], space + 1) == 0
               ? 2
               : 0;
}

enum {
    OPT_ADOPT = 256,
    OPT_TAKE_OVER,
    OPT_MOUNT,
    OPT_FSTAB,
    OPT_KEEP,
    OPT_FORCE,
    OPT_LAZY,
    OPT_JSON,
    OPT_TEST,
    OPT_SINCE,
    OPT_WAIT,
    OPT_PAUSE,
    OPT_RESUME,
    OPT_LIMIT,
    OPT_STORE,
    OPT_REPAIR,
    OPT_VERIFY,
    OPT_PATH,
    OPT_SAMPLE,
    OPT_STOP,
    OPT_PASSIVE,
    OPT_IN_PLACE,
    OPT_AUTO,
    OPT_FREEZE,
    OPT_TO,
    OPT_TAG,
    OPT_KEEP_WITHIN,
    OPT_KEEP_TAG,
    OPT_KEEP_LAST, /* and what follows, in the order of args.keep_count */
    OPT_KEEP_HOURLY,
    OPT_KEEP_DAILY,
    OPT_KEEP_WEEKLY,
    OPT_KEEP_MONTHLY,
    OPT_KEEP_YEARLY,
};

static const struct option long_options[] = {
    {"adopt", required_argument, NULL, OPT_ADOPT},
    {"take-over", required_argument, NULL, OPT_TAKE_OVER},
    {"mount", required_argument, NULL, OPT_MOUNT},
    {"fstab", no_argument, NULL, OPT_FSTAB},
    {"keep", required_argument, NULL, OPT_KEEP},
    {"force", no_argument, NULL, OPT_FORCE},
    {"lazy", no_argument, NULL, OPT_LAZY},
    {"json", no_argument, NULL, OPT_JSON},
    {"test", no_argument, NULL, OPT_TEST},
    {"since", required_argument, NULL, OPT_SINCE},
    {"wait", optional_argument, NULL, OPT_WAIT},
    {"pause", no_argument, NULL, OPT_PAUSE},
    {"resume", no_argument, NULL, OPT_RESUME},
    {"limit", required_argument, NULL, OPT_LIMIT},
    {"store", required_argument, NULL, OPT_STORE},
    {"repair", no_argument, NULL, OPT_REPAIR},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"path", required_argument, NULL, OPT_PATH},
    {"sample", required_argument, NULL, OPT_SAMPLE},
    {"stop", no_argument, NULL, OPT_STOP},
    {"passive", no_argument, NULL, OPT_PASSIVE},
    {"in-place", no_argument, NULL, OPT_IN_PLACE},
    {"auto", no_argument, NULL, OPT_AUTO},
    {"freeze", required_argument, NULL, OPT_FREEZE},
    {"to", required_argument, NULL, OPT_TO},
    {"tag", required_argument, NULL, OPT_TAG},
    {"keep-within", required_argument, NULL, OPT_KEEP_WITHIN},
    {"keep-tag", required_argument, NULL, OPT_KEEP_TAG},
    {"keep-last", required_argument, NULL, OPT_KEEP_LAST},
    {"keep-hourly", required_argument, NULL, OPT_KEEP_HOURLY},
    {"keep-daily", required_argument, NULL, OPT_KEEP_DAILY},
    {"keep-weekly", required_argument, NULL, OPT_KEEP_WEEKLY},
    {"keep-monthly", required_argument, NULL, OPT_KEEP_MONTHLY},
    {"keep-yearly", required_argument, NULL, OPT_KEEP_YEARLY},
    {"yes", no_argument, NULL, 'y'},
    {"quiet", no_argument, NULL, 'q'},
    {"verbose", no_argument, NULL, 'v'},
    {"dry-run", no_argument, NULL, 'n'},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void take_option(int opt, struct args *a, const char *value) {
    const struct {
        int opt;
        bool *flag;
    } flags[] = {{OPT_FSTAB, &a->fstab},     {OPT_FORCE, &a->force},
                 {OPT_LAZY, &a->lazy},       {OPT_JSON, &a->json},
                 {OPT_TEST, &a->test},       {'y', &a->yes},
                 {'q', &a->quiet},           {'v', &a->verbose},
                 {'n', &a->dry_run},         {'h', &a->help},
                 {'f', &a->foreground},      {'d', &a->debug},
                 {'H', &a->no_header},       {'p', &a->exact},
                 {'x', &a->problems_only},   {OPT_WAIT, &a->wait},
                 {OPT_PAUSE, &a->pause},     {OPT_RESUME, &a->resume},
                 {OPT_REPAIR, &a->repair},   {OPT_STOP, &a->stop},
                 {OPT_PASSIVE, &a->passive}, {OPT_IN_PLACE, &a->in_place},
                 {OPT_AUTO, &a->automatic},  {'z', &a->zero},
                 {OPT_VERIFY, &a->verify}};
    const struct {
        int opt;
        const char **value;
    } values[] = {{OPT_ADOPT, &a->adopt},       {OPT_TAKE_OVER, &a->take_over},
                  {OPT_MOUNT, &a->mount},       {OPT_KEEP, &a->keep},
                  {OPT_SINCE, &a->since},       {'o', &a->options},
                  {OPT_LIMIT, &a->limit},       {OPT_STORE, &a->store},
                  {OPT_FREEZE, &a->freeze},     {OPT_TO, &a->to},
                  {OPT_TAG, &a->tag},           {OPT_KEEP_WITHIN, &a->keep_within},
                  {OPT_KEEP_TAG, &a->keep_tag}, {OPT_PATH, &a->path}};

    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (flags[i].opt == opt) {
            *flags[i].flag = true;
        }
    }
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        if (values[i].opt == opt) {
            *values[i].value = value;
        }
    }
    if (opt >= OPT_KEEP_LAST && opt <= OPT_KEEP_YEARLY) {
        char *end;
        long n = strtol(value, &end, 10);

        a->keep_count[opt - OPT_KEEP_LAST] = *end || end == value ? -1 : n; /* checked by prune */
    }
    if (opt == 'w') {
        a->watch_s = strtol(value, NULL, 10);
        a->watch_s = a->watch_s > 0 ? a->watch_s : -1;
    }
    if (opt == OPT_SAMPLE) {
        char *end;
        long n = strtol(value, &end, 10);

        a->sample = *end || n < 1 || n > 100 ? -1 : n;
    }
    if (opt == OPT_WAIT && value) {
        a->wait_s = duration_of(value);
        a->wait_s = a->wait_s > 0 ? a->wait_s : -1;
    }
}

static bool is_in_word(char c) {
    return isalnum((unsigned char)c) || c == '-';
}

/* Does the command's synopsis name it? What it does not name, the command does not know. */
static bool names_word(const struct command *c, const char *word) {
    size_t n = strlen(word);

    for (const char *p = strstr(c->synopsis, word); p; p = strstr(p + 1, word)) {
        if ((p == c->synopsis || !is_in_word(p[-1])) && !is_in_word(p[n])) {
            return true;
        }
    }
    return false;
}

/* By its letter or by its long name; what it is called goes to ret_word. Whoever has nothing to say is quiet
 * anyway. */
static bool names_option(const struct command *c, int opt, char ret_word[64]) {
    (void)snprintf(ret_word, 64, "-%c", opt < 256 ? opt : '-');
    if (opt == 'h' || opt == 'q' || (opt < 256 && names_word(c, ret_word))) {
        return true;
    }
    for (const struct option *o = long_options; o->name; o++) {
        if (o->val == opt) {
            (void)snprintf(ret_word, 64, "--%s", o->name);
            return names_word(c, ret_word);
        }
    }
    return false;
}

static int run(const struct command *c, int argc, char **argv) {
    struct args a = {0};
    char word[64];
    int opt;

    while ((opt = getopt_long(argc, argv, "yqvnhfdHpxzo:w:", long_options, NULL)) != -1) {
        if (opt != '?' && !names_option(c, opt, word)) {
            (void)fprintf(stderr, "holdfast: %s has no option %s\n", c->name, word);
            opt = '?';
        }
        if (opt == '?') {
            (void)fprintf(stderr, "usage: holdfast %s %s\n", c->name, c->synopsis);
            return EXIT_USAGE;
        }
        take_option(opt, &a, optarg);
    }
    if (a.wait_s < 0 || a.watch_s < 0 || a.sample < 0) {
        return fail(-HFE_USAGE, &(struct why){"--wait=TIME takes 90s, 15m or 2h, -w seconds, "
                                              "--sample a percentage from 1 to 100"});
    }
    if (a.help) {
        (void)printf("usage: holdfast %s %s\n\n%s. See holdfast(8).\n", c->name, c->synopsis,
                     c->help);
        return EXIT_OK;
    }
    a.wait_until_ms = a.wait_s > 0 ? clock_ms() + a.wait_s * 1000 : INT64_MAX;
    a.count = argc - optind;
    a.word = argv + optind;
    for (int i = 0; i < a.count; i++) { /* a variable of a script that was never set */
        if (!*a.word[i]) {
            return fail(-HFE_USAGE, &(struct why){"an operand is empty"});
        }
    }
    if (a.count < c->words_min || a.count > c->words_max) {
        (void)fprintf(stderr, "usage: holdfast %s %s\n", c->name, c->synopsis);
        return EXIT_USAGE;
    }
    return c->run(&a);
}

int main(int argc, char **argv) {
    static char me[] = "holdfast"; /* what getopt(3) begins its messages with */
    int code = -1;

    (void)signal(SIGCHLD, SIG_DFL); /* else what became of a child could not be known */
    (void)signal(SIGPIPE, SIG_IGN); /* a closed stdout is noticed when it is flushed */
    (void)signal(SIGUSR1, SIG_IGN); /* but where there is progress to show (tools/progress.h) */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? EXIT_USAGE : EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("holdfast %s\n", HOLDFAST_VERSION);
        return EXIT_OK;
    }
    for (unsigned i = 0; i < command_count && code < 0; i++) {
        int words = match(&commands[i], argc, argv);

        if (words > 0) {
            argv[words] = me;
            code = run(&commands[i], argc - words, argv + words);
        }
    }
    if (code < 0) {
        return unknown(argv[1]);
    }
    if (fflush(stdout) != 0 && code == EXIT_OK) {
        (void)fprintf(stderr, "holdfast: cannot write the output: %s\n", error_words(-errno));
        return EXIT_FAILED;
    }
    return code;
}
