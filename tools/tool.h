/* The holdfast command: what its parts share. Exit codes and manners are those of docs/man/. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "daemon/config.h"
#include "daemon/daemon.h"

enum exit_code {
    EXIT_OK = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_WARNINGS = 3,
    EXIT_UNREACHABLE = 4,
    EXIT_UNSAFE = 5,
};

/* The options most commands share, and each command's own. */
struct args {
    bool json, no_header, exact, quiet, verbose, dry_run, yes, force, lazy, test, problems_only,
        fstab, foreground, debug, wait, pause, resume, repair, stop, passive, verify;
    bool help, in_place, automatic, zero;
    long keep_count[6]; /* last, hourly, daily, weekly, monthly, yearly */
    const char *freeze, *to, *tag, *keep_within, *keep_tag;
    const char *adopt, *take_over, *mount, *keep, *since, *limit, *store, *path;
    const char *options;   /* of a mount; or columns of a list */
    long sample;           /* percent; 0: not given */
    long watch_s;          /* 0: once */
    int64_t wait_until_ms; /* of clock_ms() */
    long long wait_s;      /* with `wait`: at most so long; 0: as long as it takes */
    int count;
    char *const *word; /* operands, the command's own name not among them */
};

struct command {
    const char *name;     /* "create", "store probe" */
    const char *synopsis; /* of its operands and options */
    const char *help;     /* one line */
    int words_min, words_max;
    int (*run)(const struct args *args);
};
extern const struct command commands[];
extern const unsigned command_count;

int cmd_create(const struct args *args);
int cmd_import(const struct args *args);
int cmd_dissolve(const struct args *args);
int cmd_mount(const struct args *args);
int cmd_umount(const struct args *args);
int cmd_status(const struct args *args);
int cmd_list(const struct args *args);
int cmd_doctor(const struct args *args);
int cmd_events(const struct args *args);
int cmd_check(const struct args *args);
int cmd_resolve(const struct args *args);
int cmd_store_online(const struct args *args);
int cmd_store_offline(const struct args *args);
int cmd_store_add(const struct args *args);
int cmd_store_remove(const struct args *args);
int cmd_store_set(const struct args *args);
int cmd_store_list(const struct args *args);
int cmd_replace(const struct args *args);
int cmd_resync(const struct args *args);
int cmd_verify(const struct args *args);
int cmd_store_probe(const struct args *args);
int cmd_snapshot_create(const struct args *args);
int cmd_snapshot_list(const struct args *args);
int cmd_snapshot_destroy(const struct args *args);
int cmd_snapshot_rename(const struct args *args);
int cmd_snapshot_hold(const struct args *args);
int cmd_snapshot_bookmark(const struct args *args);
int cmd_snapshot_release(const struct args *args);
int cmd_prune(const struct args *args);
int cmd_restore(const struct args *args);
int cmd_diff(const struct args *args);
/* verify NAME@SNAP: all of it, or what is at `path` and below (path_inside()). */
int verify_snapshot(const struct args *args, const char *path);

/* Prints "holdfast: ..." on stderr; returns the exit code that belongs to `err`. */
int fail(int err, const struct why *why);
/* True if the admin agrees: --yes, or the volume's name typed at the question. */
bool confirmed(const struct args *args, const char *name, const char *what);
void print_json(json_t *value); /* and frees it */
/* A name or path of any bytes, escaped (base/text.h), behind the prefix. */
json_t *text_json(const char *prefix, const char *path);
/* Members of a reply: "" or 0 if they are not there. */
const char *text_of(const json_t *object, const char *key);
long long number_of(const json_t *object, const char *key);
/* What the daemon of a volume answers to `request`, which is freed: ctl_call(). */
int ask_daemon(const char *name, json_t *request, json_t **ret_reply, struct why *why) must_check;
int ask_status(const char *name, json_t **ret_status, struct why *why) must_check;
/* "90s", "15m", "2h", "3d", "8w" in seconds; -1: it is none. */
long long duration_of(const char *text);
/* A path inside the volume, without a slash at its ends, "." or ".."; "" is all of it. The caller's to
 * free; NULL: `why` says it. */
char *path_inside(const char *word, struct why *why);
/* "412G", or plain bytes with --exact. */
const char *size_text(uint64_t bytes, bool exact, char ret_text[32]);
