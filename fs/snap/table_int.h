/* Shared by table.c and compose.c. */
#pragma once

#include "snap/table.h"

struct snap_table {
    struct snap_node **nodes; /* by id */
    struct snap_name **names; /* by side, folder and text */
    uint64_t buckets;         /* of each of the two; a power of two */
    uint64_t name_count, bytes;
    uint32_t count, next_id;
};

/* It must not overlap with one that is there. */
int table_add_extent(struct snap_table *table, struct snap_node *node,
                     const struct snap_extent *extent) must_check;
