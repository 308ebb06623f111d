/* Lists that grow by one element at a time. */
#pragma once

#include <stdlib.h>

/* The list with room for one more behind the n that it has, maybe at another place: it grows at powers of
 * two. NULL: no memory, and the list is as it was. */
static inline void *grow_by_one(void *list, size_t n, size_t element_bytes) {
    return n & (n - 1) ? list : realloc(list, (n ? n * 2 : 1) * element_bytes);
}
