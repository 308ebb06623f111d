/* Which windows of which objects are marked in this epoch. Owned by the journal, under its mutex.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { MARK_BLOCKS = 256 }; /* of a window */

struct marks {
    struct mark **bucket;
    uint64_t buckets, count;
};

int marks_init(struct marks *marks);
void marks_release(struct marks *marks);
void marks_clear(struct marks *marks);
/* Marks the window as hot; true if it already was. */
bool marks_hot(struct marks *marks, uint64_t number, uint64_t window);
/* Marks blocks [from, to) of the window; true if all already were. */
bool marks_blocks(struct marks *marks, uint64_t number, uint64_t window, unsigned from,
                  unsigned to);
