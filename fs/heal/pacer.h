/* Long work beside applications. They go first: while they change things, it rests as long as it
 * worked; and it moves no more bytes in a second than it was told to. */
#pragma once

#include "mirror/mirror.h"

struct pacer {
    int64_t rested_ms;
    uint64_t position; /* of the journal: it grows while applications change things */
    /* the limit; 0: none */
    _Atomic uint64_t bytes_per_s;
    int64_t since_ms;
    uint64_t counted_bytes, seen_bytes;
};

void pacer_begin(struct pacer *pacer);
/* Now and then. */
void pacer_rest(struct pacer *pacer, struct mirror *mirror);
/* Bytes that were read and written since the beginning. */
void pacer_count(struct pacer *pacer, uint64_t bytes);
/* How long to rest for the limit, at most a tenth of a second at once; 0: go on. */
int pacer_due_ms(struct pacer *pacer);
