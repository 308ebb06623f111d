/* Snapshots, for the commands that work with them. */
#pragma once

#include "format/snap.h"
#include "tool.h"

/* NAME@SNAP, taken apart. */
struct target {
    char volume[VOLUME_NAME_BYTES];
    char snapshot[SNAPSHOT_NAME_BYTES]; /* "" if none is given */
};

/* `needed`: the snapshot must be named. -HFE_USAGE. */
int snapshot_parse(const char *word, bool needed, struct target *ret_target,
                   struct why *why) must_check;
/* Makes it, and settles it; without a name it gets the time's. The reply is the caller's. */
int snapshot_create(const struct args *args, struct target *target, json_t **ret_reply,
                    struct why *why) must_check;
/* Is it durable and whole? */
int snapshot_settle(const struct target *target, struct why *why) must_check;
struct snapshot_view {
    char path[PATH_BYTES];  /* the folder in which the snapshot is seen */
    char mount[PATH_BYTES]; /* the mount point */
    uint64_t cut_s;         /* when it was made; seconds, of the daemon's real clock */
    bool bookmark;
};

/* Where it is seen. Says if it is broken. With `content`, -HFE_USAGE if it is a bookmark. */
int snapshot_find_view(const struct target *target, bool content, struct snapshot_view *ret,
                       struct why *why) must_check;
/* The bytes of all that is seen there, each file once; by walking through all of it. */
int snapshot_refers(const char *view, uint64_t *ret_bytes) must_check;
struct restored {
    uint64_t put_back, removed;       /* names */
    char safety[SNAPSHOT_NAME_BYTES]; /* the snapshot of before */
};

/* Makes the paths of `args` (or everything) in the volume what they are in `view`: all, or nothing. */
int restore_in_place(const struct args *args, const struct target *target,
                     const struct snapshot_view *view, struct restored *ret_restored,
                     struct why *why) must_check;
