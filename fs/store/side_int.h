/* Shared by side.c (opening, finding, telling), side_table.c (what is kept, in memory) and side_log.c
 * (the file). All under side.mutex, but for opening and closing. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "store/side.h"

#define SIDE_FILE "side"

/* What is kept about one file, which may have several names. */
struct entry {
    struct side_attr attr; /* xattrs: owned */
    unsigned names;
    uint64_t number;        /* shown as its inode number if it has several names */
    const struct node *out; /* while the file is written anew: the name that was written first */
};

/* A name: one for each object with an entry, and for the folders above them. */
struct node {
    struct node *parent, *children;
    struct entry *entry; /* may be NULL */
    UT_hash_handle hh;   /* in the parent's children, by name */
    size_t name_bytes;
    char name[];
};

/* A record that tells what is about to be done. */
struct pending {
    struct pending *next;
    uint64_t at;
    struct side_record r;
    char paths[]; /* of r */
};

struct side {
    /* constant */
    int root, folder;
    dev_t dev;
    struct head head;
    uint32_t lacks;
    struct side *next;     /* guarded by registry */
    _Atomic unsigned caps; /* entries with file capabilities */
    pthread_mutex_t edit;  /* over reading and changing what is kept about an object */
    pthread_mutex_t sync;  /* over syncing and writing anew; taken before mutex */
    pthread_mutex_t mutex; /* a leaf, but for the log's writes */
    /* guarded by mutex */
    int fd;
    uint64_t end, room, synced; /* of the log; of the file; what is durable */
    uint64_t live;              /* bytes that count, when it was read or written anew */
    bool broken;                /* memory is not what the log says: nothing goes on */
    bool failed;                /* a sync: what is in the file is not known; only anew it is */
    unsigned tries;             /* to write it anew beside changes that went on */
    uint64_t numbers;
    struct pending *pending;
    struct node *top;
    uint8_t *record; /* SIDE_RECORD_BYTES_MAX: the one being written */
};

/* --- side_table.c --- */

int side_table_new(struct side *s) must_check;
/* Does what a record says (not what a pending one does). -ENOMEM. */
int side_table_apply(struct side *s, const struct side_record *r) must_check;
/* The node of a path; with `make`, made with all above it. NULL: not there, or no memory. */
struct node *side_table_find(struct side *s, const char *path, size_t n, bool make);
/* Frees what is below `top`, and its entry. */
void side_table_clear(struct side *s, struct node *top);
/* The node after this one at or below `top`, folders before what is in them; NULL: it was the last. */
struct node *side_table_next(const struct node *top, struct node *node);
/* Would every path below `path` still be one (PATH_BYTES), if it took `new_bytes`? */
bool side_table_fits(struct side *s, const char *path, size_t n, size_t new_bytes);
/* The path of a node; it ends where `buf` does. NULL: longer than PATH_BYTES. */
const char *side_table_path(const struct node *node, char buf[PATH_BYTES], size_t *ret_bytes);

/* --- side_log.c --- */

/* Reads the file into the empty table. -HFE_CORRUPT, -HFE_FOREIGN or an errno. */
int side_log_load(struct side *s) must_check;
/* Appends at the end; where it begins, or -EIO: nothing goes on then. */
int64_t side_log_append(struct side *s, struct side_record *r) must_check;
/* Keeps a copy of a pending record; NULL: no memory. */
struct pending *side_log_remember(struct side *s, uint64_t at, const struct side_record *r);
/* Takes it out of the list; NULL: there is none. The caller frees it. */
struct pending *side_log_recall(struct side *s, uint64_t at);
