/* Comparing stores with each other while the volume is in use: every name, owner, mode, xattr and byte,
 * read from the disks. Nothing is written.
 *
 * What differs is looked at again until it either agrees or has differed for longer than any change
 * takes; bytes are compared once more while nobody may change them. With three stores and more, the
 * majority says which copy is wrong; with two, nobody can know. */
#pragma once

#include "base/error.h"
#include "store/store.h"

struct verify_stat {
    uint64_t objects, bytes, differences;
    uint64_t wrong[STORES_MAX]; /* differences in which this store's copy is the wrong one */
};

struct verify_config {
    struct store *store[STORES_MAX]; /* two or more */
    unsigned count;
    void *arg;
    /* A file's bytes are about to be compared: nobody may change them until released. `path`: names
     * from the root down; `ino`: on store[0]. */
    int (*hold)(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t off,
                uint64_t len);
    void (*release)(void *arg);
    bool (*stopped)(void *arg, const struct verify_stat *stat); /* now and then; true: -ECANCELED */
    /* `what`: "bytes at 4096", "mode" ...; `wrong`: bit for each store, 0 if nobody can know. */
    void (*differs)(void *arg, const char *path, const char *what, uint32_t wrong);
};

/* 0 if all was compared, whether equal or not. */
int verify_run(const struct verify_config *config, struct verify_stat *ret_stat) must_check;
