/* Ends a split brain: two stores of a volume that were each changed without the other. */
#pragma once

#include "daemon/config.h"
#include "store/copy.h"

/* Makes all other stores that are here like `keep` (a label or path), and one history of both. What
 * the others have and `keep` has not, or has otherwise, goes to their .holdfast/lost/resolve-TIME
 * first, under its own path. Under the volume's lock. -HFE_UNSAFE if there is no split brain. */
int volume_resolve(const struct config *config, const char *keep, struct copy_stat *ret_stat,
                   struct why *why) must_check;
