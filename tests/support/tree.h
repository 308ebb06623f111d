/* Comparing two trees: names, types, modes, owners, sizes, bytes, holes, link groups, device
 * numbers, symlink targets, mtimes, xattrs and ACLs. `.holdfast` and `lost+found` of the roots are
 * left out. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct tree_options {
    bool times;               /* mtimes must be the same to the nanosecond */
    bool holes;               /* where there is data and where not must be the same */
    unsigned differences_max; /* so many are printed to `out` */
    FILE *out;
};

/* The number of differences, or negative if a tree cannot be read. */
long tree_compare(const char *a, const char *b, const struct tree_options *options);
