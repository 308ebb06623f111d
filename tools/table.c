#include "tools/table.h"

#include <string.h>

static int pick(struct table *t, const char *word, size_t n, unsigned count, struct why *why) {
    for (unsigned i = 0; i < count; i++) {
        if (strncasecmp(t->column[i].name, word, n) == 0 && !t->column[i].name[n] &&
            t->count < TABLE_COLUMNS_MAX) {
            t->shown[t->count++] = i;
            return 0;
        }
    }
    (void)why_set(why, -HFE_USAGE, "-o: there is no column \"%.*s\"; there are:", (int)n, word);
    for (unsigned i = 0; i < count; i++) {
        size_t used = strlen(why->text);

        (void)snprintf(why->text + used, sizeof(why->text) - used, " %s", t->column[i].name);
    }
    return -HFE_USAGE;
}

int table_begin(struct table *t, const struct args *a, const struct table_column *column,
                unsigned count, struct why *why) {
    int err = 0;

    *t = (struct table){.column = column, .tabs = a->no_header};
    for (const char *p = a->options; p && err == 0; p = *p ? p + 1 : NULL) {
        size_t n = strcspn(p, ",");

        err = pick(t, p, n, count, why);
        p += n;
    }
    for (unsigned i = 0; i < count && !a->options; i++) {
        t->shown[t->count++] = i;
    }
    return err;
}

void table_row(const struct table *t, const char *const *cell) {
    for (unsigned i = 0; i < t->count; i++) {
        int width = t->column[t->shown[i]].width;
        bool last = i + 1 == t->count;

        (void)printf("%*s%s", t->tabs || (last && width < 0) ? 0 : width, cell[t->shown[i]],
                     last      ? "\n"
                     : t->tabs ? "\t"
                               : " ");
    }
}

void table_header(const struct table *t) {
    const char *name[TABLE_COLUMNS_MAX] = {NULL};

    for (unsigned i = 0; i < t->count; i++) {
        name[t->shown[i]] = t->column[t->shown[i]].name;
    }
    if (!t->tabs) {
        table_row(t, name);
    }
}
