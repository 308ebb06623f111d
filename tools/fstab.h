/* The line of a volume in /etc/fstab (or $LIBMOUNT_FSTAB). */
#pragma once

#include "daemon/config.h"

/* As fstab(5) wants it: the volume waits for each of its stores' mounts. Free it; NULL: no memory. */
char *fstab_line(const struct config *config);
/* Is there one for its mount point? */
bool fstab_has(const struct config *config);
/* And one by which it waits for that path at boot; NULL: for any. */
bool fstab_waits(const struct config *config, const char *path);
