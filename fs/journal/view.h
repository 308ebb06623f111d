/* A view: what a stretch of the log says, as objects instead of frames. The names that may differ,
 * where each object was and is, and the bytes and attributes that may differ.
 *
 * Two numbers are one object if the log shows it: a BIND at a name that an earlier object has, and no
 * member says that the inode is another one. A name that may have changed (NAME) belongs to nobody until a MOVE
 * or BIND says so. When in doubt there are two objects, and the second is "not trusted": what is
 * found at its name on a member must be compared as a whole.
 *
 *     view_new -> view_add for each frame, in order -> what is inside is read and updated by its
 *     owner -> view_free
 *
 * One thread at a time. */
#pragma once

#include "base/error.h"
#include "format/journal.h"

/* A name in a folder, and what the view knows about it. */
struct view_name {
    struct view_name *bucket_next;
    uint64_t parent;        /* number of the folder, resolved (view_find gives its node) */
    struct view_node *node; /* who is there now, as far as the log tells; NULL: unknown */
    bool marked;            /* may differ, */
    bool ever;              /* or did so in an earlier round */
    uint64_t done;          /* for the view's owner: the round in which it was made equal last; */
    bool times_only;        /* or known to be, but for its times */
    bool again;             /* it could not be found, as things move: once more in the next round */
    bool missed;            /* so it was in the round before, though the log told of no move */
    struct view_node
        *holds; /* who is there on a member whose inodes say nothing; see view_node.at */
    struct view_name *marked_next; /* in order of first mark */
    uint32_t hash;
    char text[];
};

struct view_range {
    uint64_t off, len;
};

struct view_node {
    struct view_node *next; /* all, in order of appearance */
    uint64_t number;        /* the first one it had */
    uint64_t ino[JOURNAL_PEERS_MAX];
    uint32_t peers; /* bit per member whose inode is known */
    uint8_t type;
    bool linked, born, trusted, attr;
    bool doubted;             /* a folder: another one may have been taken for it, see doubt() */
    bool astray;              /* before the member left its first name may have become another's */
    bool older;               /* its inode there was told before the member left */
    uint64_t told;            /* when its inode there was told last: what was told later is right */
    struct view_name **place; /* where it was: the oldest first; place[0] is where it was bound */
    unsigned places;
    struct view_range *range; /* that may differ; not sorted, may overlap */
    unsigned ranges;
    uint64_t tail; /* all from here on may differ; UINT64_MAX: nothing */
    /* for the view's owner */
    struct view_name *at; /* where it is on a member whose inodes say nothing; NULL: unknown */
    uint32_t placed;      /* how often that was said, or forgotten */
    uint64_t worked;    /* the round in which its bytes or attributes were made equal by its name */
    bool busy;          /* being resolved: a loop ends there */
    bool times_only;    /* nothing else of it can differ */
    bool again, missed; /* as of a name */
    struct {
        uint64_t look;
        int err;
    } absent[2]; /* of a folder on each side: in which look it was not found, and why */
};

struct view {
    struct id volume;
    int slot;      /* whose return it is for: HOT counts until it left. -1: HOT counts */
    bool no_names; /* frames mark no names (they tell where things are), */
    bool no_marks; /* or nothing at all */
    bool by_name;  /* what has a name on the source is known by the log alone: see doubt() */
    bool left;     /* its LEAVE was seen */
    bool broken;   /* a BREAK was seen */
    uint64_t break_time_s; /* of the last checkpoint before the first BREAK, or 0 */
    uint64_t checkpoint_time_s;
    struct view_name *marked, **marked_end;
    uint64_t marked_count;
    struct view_node *nodes, **nodes_end;
    uint64_t node_count, mark_count, told;
    uint64_t round;        /* from one view_clear_marks() to the next */
    uint64_t folder_moves; /* how often a folder was told to change its place */
    /* tables */
    struct view_name **names;
    struct view_number **numbers;
    uint64_t name_buckets, number_buckets, name_count, number_count;
};

struct view *view_new(const struct id *volume, int slot);
void view_free(struct view *view);
/* -ENOMEM. */
int view_add(struct view *view, const struct journal_frame *frame) must_check;
/* The node of a number, or NULL (and for the root). */
struct view_node *view_find(const struct view *view, uint64_t number);
/* As far as the log tells, does it have a name? */
bool view_is_somewhere(const struct view_node *node);
/* It was looked for, and is not there. */
void view_is_nowhere(struct view_node *node);
/* The name, or NULL if the log never spoke of it. */
struct view_name *view_name_at(const struct view *view, uint64_t parent, const char *text);
/* The node is that inode on this member, as of now. */
void view_is_ino(struct view *view, struct view_node *node, unsigned slot, uint64_t ino);
/* The node (NULL: nobody knows which) was found, or put, at this name: a further place of it, and no other's
 * any more. -ENOMEM. */
int view_place(struct view *view, struct view_node *node, uint64_t parent,
               const char *text) must_check;
/* Nobody knows any more where it is (view_node.at). */
void view_is_lost(struct view_node *node);
/* A NAME, MOVE, DATA or ATTR frame that was added before: only its marks are set once more. */
int view_mark_again(struct view *view, const struct journal_frame *frame) must_check;
/* Nothing is known any more of inodes on this member. */
void view_forget_inodes(struct view *view, unsigned slot);
/* Forgets all marks, but those that are to be dealt with again, and keeps who is where. */
void view_clear_marks(struct view *view);
