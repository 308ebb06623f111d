/* `verify`: compares the stores of a mounted volume (heal/verify.h) beside the traffic, tells what
 * differs, and repairs it. One run at a time. Applications go first: while they change things, it works at most half of
 * the time. */
#pragma once

#include "heal/verify.h"
#include "mirror/mirror.h"

struct verifier;

struct verifier_request {
    int only;    /* index: compare this store with the one that serves; -1: all that are ONLINE */
    bool repair; /* copies that are wrong; those of `only`, where nobody else can know */
    char path[PATH_BYTES]; /* this and what is below; "": everything (verify_config.only) */
    unsigned percent;      /* of the bytes; 100: all */
};

struct verifier_status {
    bool running, complete;      /* complete: all was compared */
    uint64_t started_s, ended_s; /* 0: not yet */
    uint64_t objects, bytes, differences;
    uint64_t bytes_total; /* about; 0: nobody knows */
    char result[200];     /* of the last run, in words */
};

int verifier_new(struct mirror *mirror, struct events *events,
                 struct verifier **ret_verifier) must_check;
/* Ends a run, and itself; false if it is stuck in a store: then it is left alone. Accepts NULL. */
bool verifier_free(struct verifier *verifier);

/* -HFE_IN_USE: one runs. -HFE_MISSING: fewer than two stores to compare. */
int verifier_begin(struct verifier *verifier, const struct verifier_request *request) must_check;
void verifier_cancel(struct verifier *verifier);
void verifier_status(struct verifier *verifier, struct verifier_status *ret_status);

/* The keeper's: how many differences there are between the store and the one that serves.
 * `stopped(arg)` now and then. Negative: it could not be compared. */
int64_t verifier_compare(struct mirror *mirror, unsigned index, bool (*stopped)(void *arg),
                         void *arg) must_check;
