/* Comparing stores with each other while the volume is in use: every name, owner, mode, xattr and byte,
 * read from the disks.
 *
 * What differs is looked at again while nobody may change it, and counts if it differs still. With
 * three stores and more, the majority says which copy is wrong, and that one can be repaired, object by
 * object, from one of the others; with two, nobody can know. Not compared: times, and which names are
 * links of one file. */
#pragma once

#include "base/error.h"
#include "store/store.h"

struct verify_stat {
    uint64_t objects, bytes, differences;
    uint64_t wrong[STORES_MAX]; /* differences in which this store's copy is the wrong one */
    uint64_t repaired, busy;    /* busy: what went on changing for as long as it was looked at */
};

struct verify_config {
    struct store *store[STORES_MAX]; /* two or more */
    unsigned count;
    const char *
        only; /* compare this alone, and what is below; "" or a path from the root, no "/" around it */
    unsigned percent; /* of the bytes, picked at random; 100: all */
    void *arg;
    bool repair;      /* what the majority outvotes */
    uint32_t trusted; /* bit per store: with `repair`, right where nobody else can know; 0: none */
    /* Nobody may change these bytes of a file until released. `path`: names from the root down; `ino`:
     * on store[0]. Or no name at all. */
    int (*hold)(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t off,
                uint64_t len);
    int (*hold_names)(void *arg);
    bool (*release)(void *arg); /* false: it was taken away meanwhile */
    bool (*stopped)(void *arg, const struct verify_stat *stat); /* now and then; true: -ECANCELED */
    /* `what`: "bytes at 4096", "mode" ...; `wrong`: bit for each store, 0 if nobody can know. */
    void (*differs)(void *arg, const char *path, const char *what, uint32_t wrong);
};

/* 0 if all was compared, whether equal or not. An error of a store ends it: nothing is said then.
 * -ENOENT: no store has `only`, or it is ours. */
int verify_run(const struct verify_config *config, struct verify_stat *ret_stat) must_check;
