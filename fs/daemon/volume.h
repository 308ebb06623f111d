/* Volumes while no daemon runs: made, taken over from other machines, given back. */
#pragma once

#include "daemon/config.h"
#include "format/super.h"
#include "store/copy.h"

struct volume_create {
    struct config config; /* name, stores, mount point, options; the id is filled in */
    int adopt;            /* index of the store whose files become the volume; -1: none */
    /* While the other stores are filled; false stops. May be NULL. */
    bool (*progress)(void *arg, const struct copy_stat *stat, uint64_t total_bytes,
                     uint64_t total_objects);
    void *progress_arg;
    /* A notice about what a store cannot do. */
    void (*notice)(void *arg, const char *text);
};

/* Makes the stores, fills them, writes the configuration. On an error, folders that were empty are
 * empty again. */
int volume_create(struct volume_create *create, struct why *why) must_check;

/* A further store, for a volume that exists. */
struct volume_new_store {
    struct super record; /* of one of its stores that is ONLINE */
    int in_place_of;     /* index in the configuration of the store that it replaces; -1 */
    uint64_t used_bytes; /* that it has to take */
    bool passive;        /* it is to follow behind */
    bool force;          /* although there is less room */
    void (*notice)(void *arg, const char *text);
    void *notice_arg;
    /* set: */
    struct config_store store;
    struct id id;
    uint32_t caps;
};

/* The record of a volume that is not mounted, from a store that is up to date, and how much is on that one's
 * filesystem. */
int volume_record(const struct config *config, struct super *ret_record, uint64_t *ret_used,
                  struct why *why) must_check;

/* Checks and formats the folder (`text`: PATH or LABEL=PATH): it says of itself that it is new, and
 * becomes part of the volume when the daemon is told, or at the next mount if the configuration names
 * it. store_unformat() undoes it. */
int volume_new_store(const struct config *config, const char *text, struct volume_new_store *n,
                     struct why *why) must_check;

/* Makes the bare folder below the mount immutable, or not any more: software that starts before the
 * mount then fails instead of writing to the bare disk. Only while nothing is mounted there. */
int volume_protect_mount_point(const char *path, bool on) must_check;

/* The configuration of a volume that exists, from its stores alone. `paths` have no labels: they
 * are in the superblocks. */
int volume_identify(const char *const *paths, unsigned n, struct config *ret_config,
                    struct why *why) must_check;

/* Takes all that is ours away: from every store that can be reached, and from this machine. The
 * files stay. `keep`: the store (index) that is the truth; it must be up to date. */
int volume_dissolve(const struct config *config, unsigned keep, struct why *why) must_check;
