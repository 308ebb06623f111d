/* Where things are, and what the admin wrote down: /etc/holdfast/NAME.conf (holdfast.conf(5)), and
 * mount options. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/id.h"
#include "base/limits.h"
#include "mirror/mirror.h"

struct config_store {
    char label[LABEL_BYTES];
    char path[PATH_BYTES];
    bool away; /* not to be touched: it is known not to serve, and may hang */
};

struct config {
    char name[VOLUME_NAME_BYTES];
    struct id id;                 /* of the volume; zero in a configuration without a file */
    char mount_point[PATH_BYTES]; /* "" if none is set */
    char options[1024];           /* mount options, comma separated */
    char program[PATH_BYTES], mailaddr[256]; /* who is told about events; "": nobody */
    unsigned count;
    struct config_store store[STORES_MAX];
};

/* HOLDFAST_CONF_DIR or /etc/holdfast (a user other than root: below $XDG_CONFIG_HOME), and so on.
 * The strings last as long as the process. */
const char *config_dir(void);
const char *state_dir(void);
const char *run_dir(void);
/* Where that volume's daemon has its socket: a user who is not root may mean one of the machine's. */
const char *run_dir_of(const char *name);
const char *state_dir_of(const char *name);
/* Is it one of the machine's, and asked for by somebody else than root? */
bool config_is_systems(const char *name);

/* -ENOENT if there is no such volume; -HFE_USAGE for a mistake in the file, with its line. */
int config_load(const char *name, struct config *ret_config, struct why *why) must_check;
/* Can all of it be written to the file, and read again? */
int config_check(const struct config *config, struct why *why) must_check;
/* Writes the file, durably. */
int config_save(const struct config *config, struct why *why) must_check;
int config_remove(const char *name, struct why *why) must_check;
/* The volumes that have a file, sorted. At most n; returns how many. */
unsigned config_list(char (*ret_names)[VOLUME_NAME_BYTES], unsigned n);

/* PATH or LABEL=PATH, appended to the stores; without a label the next free letter is taken. */
int config_add_store(struct config *config, const char *text, struct why *why) must_check;

/* Appended, unless a store has that label. True if it was. */
bool config_note_store(struct config *config, const char *label, const char *path);
void config_drop_store(struct config *config, unsigned index);
/* Is that store meant by `word`, a label or a path? */
bool config_is_store(const char *label, const char *path, const char *word);
/* Those that do not answer within timeout_ms (0: that of a mount without options) are `away` from now on. */
void config_ask_stores(struct config *config, unsigned timeout_ms);
/* One folder that is no store of a volume yet: -ETIMEDOUT. */
int config_ask_folder(const char *path, struct why *why) must_check;

struct mount_options {
    bool degraded, force, read_only, writeback, suid, dev;
    unsigned min_stores, store_timeout_ms;
    struct mirror_policy policy;
    uint64_t snap_reserve; /* bytes */
    bool snap_strict;
    char fsname[VOLUME_NAME_BYTES];
    char for_kernel[256]; /* passed on as they are: noatime, sync ... */
};

/* Adds a comma separated list to `options` (which starts zeroed). What mount(8) passes on and means
 * nothing to us is dropped; anything unknown is -HFE_USAGE. */
int mount_options_parse(const char *list, struct mount_options *options,
                        struct why *why) must_check;
