/* Shared by guard.c (the guard itself) and guard_ops.c (the operations of a volume, each as one
 * call that can be given up). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/fiber.h"
#include "mirror/guard.h"

enum {
    EPOCH_SHIFT =
        32, /* a file's handle is the store's, and above it the opening of the store it is of */
    OTHER_BYTES = 512, /* of arguments of a guard_call() */
};

struct guard {
    struct vol vol;
    struct obj_table *objs; /* constant after guard_set_objects */
    /* changed only while shut and nothing is under way */
    struct vol *below;
    /* atomic */
    _Atomic bool open;
    _Atomic uint64_t epoch;  /* one more at each opening */
    _Atomic int calls, uses; /* uses: those of guard_use(), which count as calls, too */
    _Atomic uint64_t answered[GUARD_KINDS], spent_us;
    /* owned by the watchdog */
    uint64_t seen[GUARD_KINDS];
    int64_t seen_ms[GUARD_KINDS];
    /* guarded by mutex */
    pthread_mutex_t mutex;     /* a leaf */
    struct vol_handle *handle; /* files that are open on the store */
    unsigned handles, room;
    struct vol **past; /* stores that were let go: open streams still point to them */
    unsigned pasts;
};

/* One call, in the seat of the thread that makes it. What an operation does not use is not set. */
struct op {
    struct blocking call;
    struct guard *g;
    struct vol *v;
    struct obj *a, *b;
    struct vol_handle ha, hb;
    off_t off, off2;
    size_t size;
    int flags;
    unsigned uflags;
    bool want, data_only;
    void *out;
    const void *in;
    struct cred cred;
    struct vol_new new;
    struct vol_attr attr;
    struct vol_entry entry;
    struct vol_handle handle;
    struct stat stat;
    struct statvfs fs;
    int (*fn)(void *);
    ssize_t result;
    char name[NAME_BYTES], name2[NAME_BYTES];
    union {
        char target[PATH_BYTES];
        _Alignas(16) uint8_t other[OTHER_BYTES];
    };
};
_Static_assert(sizeof(struct op) <= SEAT_BYTES, "a call fits into its seat");

static inline struct guard *guard_of(struct vol *v) {
    return (struct guard *)v;
}

/* Room for the next call, or NULL if the store is shut. */
struct op *guard_begin(struct guard *g, enum guard_kind kind, void (*run)(struct blocking *),
                       struct obj *a, struct obj *b);
/* A call that was given up has come back: what every `returned` of one ends with. */
void guard_returned(struct blocking *call);
/* Makes the call. Not 0 if it was given up: the thread that is stuck in it may still look at the
 * objects, so they stay for as long as the daemon runs. */
int guard_make(struct op *o) must_check;

static inline struct vol_handle below_of(struct vol_handle h) {
    return vol_have(h) ? (struct vol_handle){h.v & UINT32_MAX} : h;
}

/* A file was opened: our handle for it. If there is no memory to remember it, it is still closed by
 * whoever opened it. */
struct vol_handle guard_remember(struct guard *g, struct vol_handle below);
void guard_forget(struct guard *g, struct vol_handle below);

extern const struct vol_ops guard_ops;
