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
/* The folder in which the snapshot is seen, and the mount point. Says if it is broken. With `content`,
 * -HFE_USAGE if it is a bookmark. */
int snapshot_view(const struct target *target, bool content, char ret_view[PATH_BYTES],
                  char ret_mount[PATH_BYTES], struct why *why) must_check;
/* A path inside the volume, without a slash at its ends, "." or ".."; "" is all of it. The caller's to
 * free; NULL: `why` says it. */
char *restore_path(const char *word, struct why *why);
/* Makes the paths of `args` (or everything) in `mount` what they are in `view`: all, or nothing. */
int restore_in_place(const struct args *args, const struct target *target, const char *view,
                     const char *mount, struct why *why) must_check;
