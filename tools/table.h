/* A list on stdout: in columns with a header, or with -H with tabs between and without one. -o picks the
 * columns. */
#pragma once

#include "tool.h"

enum { TABLE_COLUMNS_MAX = 8 };

struct table_column {
    const char *name;
    int width; /* negative: to the left, as for printf(3) */
};

struct table {
    const struct table_column *column;
    unsigned shown[TABLE_COLUMNS_MAX], count; /* in this order */
    bool tabs;
};

/* -HFE_USAGE: -o names one that is not there. Nothing is printed yet. */
int table_begin(struct table *table, const struct args *args, const struct table_column *column,
                unsigned count, struct why *why) must_check;
void table_header(const struct table *table); /* none with -H */
/* `cell`: of each column of table_begin(). */
void table_row(const struct table *table, const char *const *cell);
