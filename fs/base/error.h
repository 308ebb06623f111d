/* Errors: 0 or a negative number. errno values are used as they are; codes of our own lie above
 * them and become an errno once, at the FUSE door. Calls that an admin waits for also fill a
 * `struct why`: one message that says what failed, where, and what to do next. */
#pragma once

#include "base/cleanup.h"

enum hf_error {
    HFE_FIRST = 4096,
    HFE_NO_STORE = HFE_FIRST, /* the directory is not a Holdfast store */
    HFE_FOREIGN,              /* a store, but of another volume */
    HFE_CORRUPT,              /* a checksum, bound or magic did not hold */
    HFE_FEATURE,              /* written by a newer Holdfast */
    HFE_IN_USE,               /* another daemon or command has it */
    HFE_STALE,                /* the store lacks changes the volume has acknowledged */
    HFE_MISSING,              /* a store that must be there is not */
    HFE_UNSAFE,               /* refused, because it could lose data */
    HFE_CAPABILITY,           /* the store cannot do what we cannot make up for */
    HFE_USAGE,                /* the request itself is wrong */
    HFE_UNREACHABLE,          /* no daemon answers */
    HFE_GIVEN_UP, /* the store did not answer in time; the call may still be under way */
    HFE_TOO_FEW,  /* fewer stores are ONLINE than min-stores asks for; it may change */
    HFE_LAST = HFE_TOO_FEW,
};

struct why {
    char text[1024];
};

/* The errno for a result of ours: what a FUSE client is told. Takes and gives negative numbers. */
int error_to_errno(int err);

/* Words for a negative result. Never NULL; the string is constant or the C library's. */
const char *error_words(int err);

/* Fills `why` (which may be NULL) and returns `err`, so that a failure is one line. */
int why_set(struct why *why, int err, const char *format, ...) printf_like(3, 4);
