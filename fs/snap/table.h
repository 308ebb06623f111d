/* What is known of an epoch: which objects that its snapshot has were touched since, where they were
 * and are, and what was kept of them. In memory; made by replaying the epoch's log.
 *
 * A node is an object that something is known about. Every object has an age: it is old (the
 * snapshot has it) or was made since. A name (folder, text) belongs to one of two sides:
 *
 *   OLD   what the snapshot has there, if that is known
 *   LIVE  what is there at the epoch's end (now, in the current epoch)
 *
 * What no table knows is as it was:  a name in an old folder that is on neither side is an old
 * object that was not touched, and the same at both ends; all that lies in a folder that was made
 * since was made since, unless LIVE says otherwise. A name that is OLD and not LIVE shows nothing at
 * the end; one that is LIVE and not OLD showed nothing at the cut.
 *
 * Two special nodes: the root (SNAP_ROOT), and the folder of kept files (SNAP_KEPT), which has no
 * name. A file that loses its last name is moved there, so an old file always has a LIVE name; but
 * where only bookmarks need it, it is no more, and its bytes are DROPPED.
 *
 * Tables are composed: of the epochs A, then B, snap_table_compose() makes what is known of both as one.
 * That is how a snapshot is destroyed (its epoch becomes part of the one before), and how a view of
 * an old snapshot finds its way through all later ones.
 *
 * No locks inside: the owner sees to it that nobody reads while somebody changes. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "format/snap.h"

enum snap_side {
    SNAP_OLD,
    SNAP_LIVE,
    SNAP_SIDES,
};

struct snap_node;

struct snap_name {
    struct snap_name *bucket_next;
    struct snap_name *next;        /* further names of the node on this side */
    struct snap_name *in, **in_at; /* further names in the same folder on this side */
    struct snap_node *parent, *node;
    uint32_t hash;
    uint8_t side, len;
    char text[];
};

struct snap_node {
    struct snap_node *bucket_next;
    uint32_t id;
    uint8_t type;
    uint16_t busy;          /* for the owner: changes of its names that are under way */
    bool made;              /* since the cut */
    struct snap_attr *attr; /* that it had; NULL: as they are */
    struct snap_name *names[SNAP_SIDES];
    struct snap_name *in[SNAP_SIDES]; /* of a folder: known names in it */
    uint32_t in_changes; /* how often a LIVE name came or went in it: some leave no other trace */
    void *extents;       /* what is kept of its bytes, a tree of struct snap_extent */
    uint64_t extent_count;
};

/* Bytes that are kept. No two of a node overlap. */
struct snap_extent {
    uint64_t off, len;
    enum snap_kind kind; /* DATA, ZERO, FILE, DROPPED */
    uint64_t where;      /* DATA: epoch; FILE: number */
    /* of DATA: the bytes as they were written, of which this is a part */
    uint64_t whole_off, whole_len, whole_where, sum;
};

struct snap_table;

struct snap_table *snap_table_new(void);
void snap_table_free(struct snap_table *table); /* accepts NULL */
/* What it takes in memory, about. */
uint64_t snap_table_bytes(const struct snap_table *table);
uint32_t snap_table_next_id(const struct snap_table *table);

struct snap_node *snap_node(const struct snap_table *table, uint32_t id);
struct snap_name *snap_name(const struct snap_table *table, enum snap_side side,
                            const struct snap_node *parent, const char *name, size_t len);

/* Does what the record says. Checks all of it: -HFE_CORRUPT if it makes no sense here. */
int snap_table_apply(struct snap_table *table, const struct snap_record *record) must_check;
/* What was applied did not happen. `replaced`: the node that a MOVE took the name from, or 0. Of
 * LINK, GONE, MOVE, SWAP and MADE, the last that was applied to these names. */
int snap_table_undo(struct snap_table *table, const struct snap_record *record,
                    uint32_t replaced) must_check;
/* Frees the node if it was made since and has no name any more. */
void snap_table_drop_unused(struct snap_table *table, struct snap_node *node);
void snap_table_drop_all_unused(struct snap_table *table);
/* Calls fn for each node, in order of their ids, until it returns non-zero. It may add nodes. */
int snap_table_each(struct snap_table *table, int (*fn)(void *arg, struct snap_node *node),
                    void *arg);

/* The first part of [from, to) that is not kept. False: all is. */
bool snap_gap(const struct snap_node *node, uint64_t from, uint64_t to, uint64_t *ret_from,
              uint64_t *ret_to);
/* The first extent that has any of [from, to), or NULL. */
const struct snap_extent *snap_extent(const struct snap_node *node, uint64_t from, uint64_t to);

/* Who is told what a composition does to `a`, each before it is done. All may be NULL. */
struct snap_compose {
    int (*record)(void *arg, const struct snap_record *record);
    /* Bytes that the earlier epoch needs: they may be put elsewhere, and *extent changed to that. */
    int (*extent)(void *arg, const struct snap_node *node, struct snap_extent *extent);
    /* A kept file that nobody needs any more, when all is done. */
    void (*unneeded)(void *arg, uint64_t number);
    /* Only bookmarks need the earlier epoch: kept files are not needed, nor bytes; extent() makes DROPPED
     * of them. */
    bool drops;
    void *arg;
};
/* `a` becomes what is known of both epochs; `b`, the later one, stays as it is. After an error `a`
 * is good for nothing. */
int snap_table_compose(struct snap_table *a, struct snap_table *b,
                       const struct snap_compose *told) must_check;

/* The number of a kept file by its name; 0: it is none. */
uint64_t snap_kept_number(const char *name);
/* Is that the name of a file that has others, too, or had? */
static inline bool snap_is_anchor(const char *kept) {
    return kept[0] == 'a';
}
