/* One object from one store to another, as (folder descriptor, name) on both sides, with all that
 * it carries: type, data and holes, owner, mode, times, xattrs and ACLs. What fills a new store,
 * repairs one object, and makes stores equal after a crash. Any thread; nobody else may change the
 * two objects meanwhile. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/cleanup.h"

struct copy_stat {
    uint64_t links_torn; /* files with several names that have fewer on the target */
    uint64_t objects_compared, objects_changed, bytes_copied, bytes_compared;
    /* Called between two chunks of a file, unless NULL. False: stop, with -EINTR; the object is then
     * as after an error. */
    bool (*go_on)(void *arg, const struct copy_stat *stat);
    void *arg;
};

/* Makes to/to_name a new object like from/name. A folder is made empty. -EEXIST if the name is
 * taken. On an error nothing is left under to_name. */
int copy_new(int from, const char *name, int to, const char *to_name,
             struct copy_stat *stat) must_check;

/* Makes the existing to/to_name, of the same type as from/name, like it. `data`: compare the bytes
 * of a file too and write those that differ (else only if sizes differ). */
int copy_equalize(int from, const char *name, int to, const char *to_name, bool data,
                  struct copy_stat *stat) must_check;

/* Owner, mode, xattrs and times only. */
int copy_attrs(int from, const char *name, int to, const char *to_name,
               struct copy_stat *stat) must_check;

/* Where `in` has holes, `out` has none of its blocks left, if its store can punch. Of two open
 * files with the same bytes. */
void copy_holes(int in, int out, off_t size);

/* Do the bytes of two files differ, or cannot be read? */
bool copy_differs(int from, const char *name, int to, const char *to_name);

/* The same xattrs and ACLs, of those that are copied? True where a store has none at all. */
bool copy_same_xattrs(int from, const char *name, int to, const char *to_name);

/* Do the two have the same type, size, owner, mode, device and mtime? */
bool copy_same_stat(const struct stat *a, const struct stat *b);
