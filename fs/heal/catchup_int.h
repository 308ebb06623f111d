/* Shared by the files of a catch-up. Who does what:
 *
 *     catchup.c   begins and ends it, takes frames, the last steps of each round
 *     who.c       which file of a store is which object of the log
 *     names.c     what a name is on the source, it becomes on the target
 *     bytes.c     marked bytes and attributes */
#pragma once

#include <stdio.h>
#include <uthash.h>

#include "heal/catchup.h"
#include "journal/journal.h"

enum {
    FROM = 0,
    TO = 1,
    STAGE = 2,          /* the number of our folder for what is in the way; see JOURNAL_ROOT */
    OPEN_FOLDERS = 256, /* kept open on each side, from one name to the next */
    CHUNK = 256 << 10,
};

struct by_ino {
    uint64_t ino; /* key */
    struct view_node *node;
    uint64_t disowned; /* then it was told to be one that is not believed; see view_node.told */
    UT_hash_handle hh;
};

/* A folder that is kept open. None is closed while a name is worked on: one of the target that was said
 * to be elsewhere since (view_node.placed), or of a source whose inodes say nothing after any folder moved
 * (view.folder_moves), is only not given out any more. */
struct open_folder {
    uint64_t number; /* key */
    int fd;
    uint32_t placed;
    uint64_t moves;
    struct open_folder *next; /* of those that are not given out any more */
    UT_hash_handle hh;
};

struct catchup {
    struct catchup_config c;
    struct view *view;
    struct by_ino *known[2];
    struct view_node *indexed; /* the last node that is in `known` */
    struct open_folder *folder[2], *left_folders;
    int stage;               /* our folders: for what is in the way, */
    int parked[2], snaps[2]; /* of open files without a name, and of snapshots */
    unsigned staged;
    uint64_t
        held_alone;  /* how often names were held: what was opened before may have been another's */
    unsigned inside; /* calls of who_open() in each other, */
    uint64_t look;   /* and which one it was that came from outside */
    bool only;       /* all that was told is on both stores, but for what was under way */
    bool exact;      /* nothing moves on the source now: the log says where everything is */
    unsigned pending; /* names and nodes that are to be looked at again */
    bool lacks_names; /* a file has other names on the target than on the source */
    bool links_lost;  /* a file with several names was copied; its other names may be another's */
    struct copy_stat stat;
    char where[2 * NAME_BYTES]; /* for messages */
    uint8_t *buf;
};

/* A name in an open folder. */
struct spot {
    int fd;
    const char *name;
    struct view_name *at;
};

static inline int catchup_root(const struct catchup *c, int side) {
    return store_root_fd(side == FROM ? c->c.from : c->c.to);
}
static inline unsigned catchup_slot(const struct catchup *c, int side) {
    return side == FROM ? c->c.from_slot : c->c.to_slot;
}
/* Do its inodes say which file is which? */
static inline bool catchup_is_stable(const struct catchup *c, int side) {
    return store_caps(side == FROM ? c->c.from : c->c.to) & STORE_STABLE_INO;
}
/* Is it the same file, as far as inodes say so? What is looked at by its name may move meanwhile. */
static inline bool catchup_is_same(const struct catchup *c, int side, const struct stat *a,
                                   const struct stat *b) {
    return a->st_ino == b->st_ino || !catchup_is_stable(c, side);
}
/* The target receives all names, and its inodes say nothing: it has each object where the source has it,
 * for whoever holds all names. */
static inline bool catchup_by_names(const struct catchup *c) {
    return c->view->no_names && !catchup_is_stable(c, TO);
}
/* The target receives all names, and what is at a name on one side can only be told while no name changes. */
static inline bool catchup_holds_names(const struct catchup *c) {
    return c->view->no_names && !(catchup_is_stable(c, FROM) && catchup_is_stable(c, TO));
}
/* All names are held from now on. */
static inline void catchup_alone(struct catchup *c) {
    c->held_alone += c->view->by_name;
}
/* Is it to stop? */
static inline bool catchup_stopped(struct catchup *c) {
    return c->c.stopped && c->c.stopped(c->c.arg, &c->stat);
}

/* --- who.c --- */

/* The node of that inode, or NULL. */
struct view_node *who_of_ino(const struct catchup *c, int side, uint64_t ino);
/* The log may know one file as two objects. */
bool who_are_one(const struct catchup *c, const struct view_node *a, const struct view_node *b);
/* Who is known to be on the target at this name, where it has that inode; or NULL. */
struct view_node *who_is_at(const struct catchup *c, const struct view_name *name, uint64_t ino);
/* It was found, or made, on the target, with that inode there: at this name, and no other one is. -ENOMEM. */
int who_is(struct catchup *c, struct view_node *node, const struct view_name *name,
           uint64_t ino) must_check;
/* All of the target was written over by names, or all in that folder of it (NULL: nobody knows which). */
void who_forget_all(struct catchup *c);
void who_forget_below(struct catchup *c, const struct view_node *folder);
/* It was told to be that of a node that is not believed: it is no other's, either. -ENOMEM. */
int who_disown(struct catchup *c, uint64_t ino) must_check;
/* Where the node is: the newest of its places at which it proves to be. If it is at none, an error by which
 * who_is_gone(); else nobody knows, and what is to be done with it must not be forgotten. */
int who_find(struct catchup *c, int side, struct view_node *node, struct spot *ret_spot,
             struct stat *ret_st) must_check;
bool who_is_gone(int err);
/* The uppermost of the folders over the node, on the source, of which each up from the node `lacks`
 * something; or the node itself. What is done to it, and then to the next one, needs no deep stack. */
struct view_node *who_uppermost(struct catchup *c, struct view_node *node,
                                bool (*lacks)(struct catchup *c, const struct view_node *folder));
/* A descriptor of the folder `number`, kept by us. -ENOENT if it is not there, or nobody knows. */
int who_open(struct catchup *c, int side, uint64_t number) must_check;
/* Closes all if there are more than `keep`. Between two names. */
void who_trim_folders(struct catchup *c, unsigned keep);
/* Before anything is changed on the target: which of its files is which object. What was bound
 * while it was there is known; the rest is where the log says, if no change came before. -ENOMEM. */
int who_look_at_target(struct catchup *c) must_check;
/* Forgets all. */
void who_free(struct catchup *c);

/* --- names.c --- */

/* It was not found on the source. May it just have moved? Then it is looked at again in the next round,
 * when the log tells where it is; also where the log told last that its name may change (a mkdir that
 * failed): of that nobody knows whether it is gone. `missed`: it was not found in the round before. */
bool names_may_have_moved(const struct catchup *c, const struct view_node *node, bool missed);
/* What the name is on the source, it becomes on the target. */
int names_reconcile(struct catchup *c, struct view_name *n) must_check;
/* Makes all of both equal, every byte, but leaves alone what the log knows as something else. */
int names_compare_all(struct catchup *c) must_check;
/* The same for the folder that is the node on both sides. */
int names_compare_folder(struct catchup *c, struct view_node *node, const struct spot *from,
                         const struct spot *to) must_check;
/* Attributes and times, too: without its bytes. */
int names_equalize_attrs(struct catchup *c, struct view_name *n) must_check;
/* Attributes and times of one object; if nothing else differs there is little to do. */
int names_equal_times(struct catchup *c, const struct spot *from, const struct spot *to) must_check;
