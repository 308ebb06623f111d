/* How far long work is: in one line over itself on a terminal, a line every 10 % otherwise, and at once
 * on SIGUSR1. All on stderr. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what;
    bool quiet;
    int64_t shown_ms;
    int tenth; /* the last one that was shown */
    bool line; /* on a terminal, one is there */
};

/* From now on SIGUSR1 asks for a line. `what` stays the caller's, and may be set anew. */
void progress_begin(struct progress *p, const char *what, bool quiet);
/* rate: in a second. */
void progress_show(struct progress *p, uint64_t done, uint64_t total, uint64_t rate);
void progress_end(const struct progress *p);
