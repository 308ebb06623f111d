/* From a configuration to a chain that may serve: opens the stores, decides which of them may take
 * part (DESIGN section 3, "Who may serve"), makes them equal after a crash, and records the mount.
 */
#pragma once

#include "base/event.h"
#include "daemon/config.h"
#include "daemon/witness.h"
#include "snap/snap.h"
#include "vol/vol.h"

struct assembly {
    struct vol *top; /* the chain; freed by disassemble() */
    struct vol *mirror;
    struct snap *snap;
    struct witness *witness;
    char volume_name[VOLUME_NAME_BYTES];
    struct id volume_id;
};

/* `why` says what is wrong and what to type. Nothing is changed on a store before all checks have
 * passed. */
int assemble(const struct config *config, const struct mount_options *options,
             struct events *events, struct assembly *ret_assembly, struct why *why) must_check;
/* After mirror_stop(). */
void disassemble(struct assembly *assembly);

/* Is the store config->store[index] whole: clean, ONLINE, and not behind any other store or the
 * witness? */
int assemble_check_current(const struct config *config, unsigned index, struct why *why) must_check;

/* Refuses a mount point inside a store, a store inside the mount point, and two stores that are one
 * folder or lie in each other. `mount_point` may be NULL. */
int assemble_check_places(const struct config *config, const char *mount_point,
                          struct why *why) must_check;
