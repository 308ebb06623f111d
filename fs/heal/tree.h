/* Making the tree of one store equal to that of another, by looking at both: what fills a new
 * store, what repairs after a crash, and what brings a store back that was away. Until the change
 * journal tells what to look at, everything is looked at.
 *
 * Nothing else may change the two stores meanwhile. Repeating a run, or one that was cut off, is
 * harmless. Nothing is read from or written to their .holdfast folders. */
#pragma once

#include "base/error.h"
#include "store/copy.h"
#include "store/store.h"

struct heal_options {
    bool live;        /* the source is in use: what is gone when we come to it is left out */
    bool anew;        /* files are copied anew: which of the target's are one file is not known */
    bool all_data;    /* compare every byte; else only of files whose attributes differ, and ... */
    uint64_t since_s; /* ... of those that changed (ctime, on either side) at or after this */
    const int
        *aside; /* what would be lost of the target goes into this folder first; NULL: it is lost */
    /* What is in the way on the target is about to be changed (`source`: to be like this) or
     * removed (NULL): 1 if it was put elsewhere instead, 0 to go on. May be NULL. */
    int (*known)(void *arg, int dir, const char *name, const struct stat *st,
                 const struct stat *source);
    void *known_arg;
    /* Called for each object and within large ones; may be NULL. Returns false to stop: -EINTR. */
    bool (*progress)(void *arg, const struct copy_stat *stat);
    void *progress_arg;
};

/* Makes `to` like `from`, and `to` durable. *ret_stat is set also when it failed half way. */
int heal_tree(struct store *from, struct store *to, const struct heal_options *options,
              struct copy_stat *ret_stat, struct why *why) must_check;

/* The same for a folder that both have, given by descriptors. `top`: it is the volume's root. */
int heal_folder(int from, int to, bool top, bool sync_each, const struct heal_options *options,
                struct copy_stat *stat) must_check;

/* Bytes of data and number of objects in a folder, by its attributes: for progress. Any folder. */
int heal_measure(const char *folder, uint64_t *ret_bytes, uint64_t *ret_objects) must_check;
