/* What a store's filesystem cannot hold (owners, devices, nanoseconds, xattrs, ACLs, which names are
 * links of one file), kept in STORE/.holdfast/side, so that the store alone is a whole copy. Only
 * stores that lack something have one; all of it is also in memory, about 300 bytes an object that
 * needs an entry.
 *
 * Objects go by their path: what moves a folder moves all below it in one step. Everybody who touches
 * objects of stores does it through store/at.h, which is the only caller of the functions below the
 * line.
 *
 * Changes are one append each; what moves names is told before and after, as nothing else would find
 * what is kept below a folder again. side_sync() makes it durable, and an fsync of anything on the store
 * does that first; there the file is written anew when more than half of it is out of date.
 *
 * Any thread. */
#pragma once

#include <sys/stat.h>

#include "base/error.h"
#include "format/side.h"

struct side;

#define SIDE_CAPABILITY "security.capability" /* the key of a file's capabilities */

/* An empty one in our folder of a new store. */
int side_format(int folder, const struct head *head) must_check;

/* Reads it. `lacks`: which of STORE_KEPT_ASIDE the store cannot do. `root`, `folder`: of the store, open as
 * long as this is; `path`: for messages. -HFE_CORRUPT if it is missing or damaged. `lost`: it is, and is not
 * read: nothing is kept, and changes that need to be told are -EIO until side_begin_anew(). */
int side_open(int root, int folder, const struct head *head, uint32_t lacks, bool lost,
              const char *path, struct why *why, struct side **ret_side) must_check;
/* Puts an empty one in the place of a lost one, which becomes side.damaged: 1. Of one that is not lost
 * nothing changes: 0. */
int side_begin_anew(struct side *side) must_check;
/* From being lost until side_is_whole(), over restarts: most of what it should keep is missing. */
bool side_is_anew(const struct side *side);
int side_is_whole(const struct side *side) must_check;
int side_sync(struct side *side) must_check;
/* Closes the file; only calls that are still under way may use it afterwards. Accepts NULL. */
void side_let_go(struct side *side);
void side_free(struct side *side);

/* --- for store/at.h --- */

/* The side file of the store that `dir` lies on, and the path of dir/name in it (name ".": of `dir`
 * itself, which may be any descriptor). 0: there is none (no such store is open, or `dir` is -1). 1, or
 * -ENOENT (it has no name), -ENAMETOOLONG, -errno. */
int side_find(int dir, const char *name, struct side **ret_side,
              char ret_path[PATH_BYTES]) must_check;
/* Does the store lack `cap` (enum store_cap)? */
bool side_lacks(const struct side *side, uint32_t cap);

/* Puts what is kept about `path` over what the store says. */
void side_overlay(struct side *side, const char *path, struct stat *attr);
/* Is it a file with several names? */
bool side_has_links(struct side *side, const char *path);
/* A copy of what is kept about `path`; `*ret_bytes` (free it) holds its xattrs. */
int side_get(struct side *side, const char *path, struct side_attr *ret_attr,
             uint8_t **ret_bytes) must_check;
/* Is any xattr kept that begins with "security.capability"? Cheap. */
bool side_has_capabilities(struct side *side);
/* Over reading what is kept about an object and setting it anew. */
void side_edit(struct side *side);
void side_edit_done(struct side *side);
/* Makes room for what will be told, before anything is changed on the store: the errors of the
 * filesystem. `removes`: it takes something away, which goes on when nothing else does. What is told
 * afterwards answers 0 or -EIO: the store is lost then. */
int side_prepare(struct side *side, bool removes) must_check;
/* All that is kept about `path` is `attr` from here on. */
int side_set(struct side *side, const char *path, const struct side_attr *attr) must_check;
int side_drop(struct side *side, const char *path) must_check;
/* DROP, MOVE or LINK is about to be done; then whether it was. Token 0: nothing was told. -ENAMETOOLONG:
 * what is kept below would have too long a path. */
int side_intend(struct side *side, enum side_kind kind, const char *path, const char *path2,
                uint64_t *ret_token) must_check;
int side_settle(struct side *side, uint64_t token, bool done) must_check;
