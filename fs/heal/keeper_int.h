/* Shared by keeper.c (the thread, probing, replacing) and bring.c (bringing a store back). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "heal/keeper.h"
#include "heal/pacer.h"

enum { STEP_MS = 250 /* a light probe, while calls wait; a look at what is to be done */ };

struct keeper {
    struct mirror *m;
    unsigned i;
    struct events *events;
    void (*roster_changed)(void *);
    void *arg;
    _Atomic bool paused;
    /* guarded by mutex */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool stop, wake, bring, ended; /* bring: also what was taken out by hand */
    /* owned by its thread */
    bool anew;      /* its catch-up missed a change, and begins anew */
    bool side_lost; /* what its side file kept is to be found out anew */
    bool wanted;    /* an OFFLINE store is to come back */
    bool urgent;    /* at once */
    int64_t probed_ms, tried_ms, online_ms, retry_ms;
    char last_told[1024];
    bool proven;          /* equal to the others, since it is ONLINE */
    unsigned unequal;     /* how often it was not */
    struct id given_back; /* the store that was in its care and was removed */
    /* of a catch-up */
    unsigned from;
    struct mirror_progress progress;
    unsigned stale;   /* how often in a row the journal did not make it equal */
    bool torn;        /* it left files with several names torn */
    bool alone;       /* all names are held */
    uint64_t settled; /* a passive store: nothing was left over up to this position */
    int64_t started_ms;
    uint64_t total; /* about, of a comparison of whole trees; 0: none */
    struct pacer pacer;
};

/* An event, but not the same one again and again. */
void keeper_tell_once(struct keeper *k, enum event_level level, const char *text);
/* Is the keeper to end? */
bool keeper_stopping(struct keeper *k);

/* A step: opens the store that is away, and brings it back, or tries to. Sets k->anew if it is to
 * begin anew at once. */
void bring_back(struct keeper *k, const struct mirror_member_info *info);
