/* Two trees side by side: each name that either of them has. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/cleanup.h"

struct pair {
    const char *path;    /* from the tops down, without a slash in front; "" is the top itself */
    const char *name[2]; /* the last part of it, on each side; "." of the top */
    int folder[2];       /* the folders of both sides, open; negative: that side does not have it */
    const struct stat *st[2]; /* NULL: that side does not have it */
};

struct pairs_walk {
    /* 1: into this folder, on the sides that have one there; 0; or a negative errno, which ends the walk. */
    int (*each)(void *arg, const struct pair *pair);
    /* A folder was walked through, also the top. NULL: nothing is to be done then. */
    int (*left)(void *arg, const struct pair *pair);
    void *arg;
};

/* `top`: one may be negative. 0, what a function returned, or a negative errno; -EIO if the first side lists a name that it does
 * not have. The path where it ended is in ret_path, which the caller frees. */
int pairs_walk(const int top[2], const struct pairs_walk *walk, char **ret_path) must_check;
/* The same for one name of two folders; `path` is what it is called. */
int pairs_walk_name(const int folder[2], const char *path, const char *name,
                    const struct pairs_walk *walk, char **ret_path) must_check;

/* The folder that a path of `top` leads to the last part of, open; no link is followed. */
int pairs_open(int top, const char *path, const char **ret_last) must_check;

/* Two objects of one type whose attributes are the same (copy_same_stat()): is what is in them, too? Of
 * folders the xattrs. */
bool pair_same_content(const struct pair *pair);
/* Is it the same object, unchanged since the older side was cut at `cut_s`? Nobody can set a ctime. But
 * one is as coarse as the timer's tick (Linux before 6.13), or as a second: what changed shortly before
 * the cut may have changed right after it, too, and is not said to be untouched (with UINT64_MAX it is).
 * And sshfs shows an mtime for it, which anybody can set: one of whole seconds says nothing. (Of what
 * neither side still has, bookmarks or snapshots both, nobody knows the number: then the ctime alone
 * says it.) */
bool pair_untouched(const struct pair *pair, uint64_t cut_s);
