/* Shared by assemble.c (which stores may serve) and recover.c (what a crash left). */
#pragma once

#include "daemon/assemble.h"
#include "store/store.h"

struct candidate {
    char label[LABEL_BYTES];
    const char *path;    /* of the configuration; "" for a member that it does not name */
    struct id id;        /* of the member; zero: not known yet */
    struct store *store; /* NULL: not here */
    struct why why;      /* why it is not here */
    enum member_state state;
    uint64_t log_end;   /* of its journal, */
    uint64_t log_first; /* and the beginning, after a crash */
    bool log;           /* it has one that goes on */
};

struct gather {
    const struct config *config;
    const struct mount_options *options;
    struct events *events;
    struct candidate c[STORES_MAX];
    unsigned count;
    struct super record; /* the newest there is, and then the one in force */
    int newest;          /* whose it was */
    struct witness *witness;
    struct super seen; /* what the witness saw last */
    bool witnessed;    /* `seen` is of the witness in force */
    bool crashed;      /* frames may be missing in the journal: it says so */
    uint64_t position; /* where the journal goes on */
    uint64_t stable;   /* all before it is stable on all that take part: its last checkpoint, */
    bool checkpointed; /* if it has one: then on all that were ONLINE */
};

static inline bool takes_part(const struct candidate *c) {
    return c->store && c->state == MEMBER_ONLINE;
}

/* After judging, before the new record: those that take part are equal, or all but one become
 * STALE, and their logs end at one position. Sets position, stable, checkpointed and crashed. */
int recover_stores(struct gather *g, struct why *why) must_check;
