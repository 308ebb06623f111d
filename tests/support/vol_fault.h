/* A volume that fails on demand: between the mirror and a store, it answers chosen operations with
 * an error, does half of a write, or blocks. Everything else it passes on. */
#pragma once

#include "vol/vol.h"

enum fault_op {
    FAULT_NONE,
    FAULT_LOOKUP,
    FAULT_MAKE,
    FAULT_CREATE,
    FAULT_LINK,
    FAULT_UNLINK,
    FAULT_RMDIR,
    FAULT_RENAME,
    FAULT_GETATTR,
    FAULT_SETATTR,
    FAULT_SETXATTR,
    FAULT_OPEN,
    FAULT_READ,
    FAULT_WRITE,
    FAULT_FSYNC,
    FAULT_FALLOCATE,
    FAULT_READDIR,
    FAULT_STATFS,
    FAULT_ALL,         /* each of them */
    FAULT_CHANGES,     /* each of those that change anything */
    FAULT_REMOVEXATTR, /* behind those that the model picks from */
    FAULT_COPY,
    FAULT_OPS,
};

struct fault_plan {
    enum fault_op op;
    int err;          /* negative; 0: no fault */
    unsigned after;   /* so many calls of this operation go well first */
    unsigned times;   /* then so many fail; 0: all from then on */
    size_t short_by;  /* FAULT_WRITE with err 0: so many bytes fewer are taken */
    bool no_room;     /* statfs says so */
    void (*at)(void); /* is called once, before the first one fails */
};

/* Takes over `below`. */
int vol_fault_new(struct vol *below, struct vol **ret_vol) must_check;
void vol_fault_set(struct vol *fault, const struct fault_plan *plan);
/* How often an operation was called, and how often it failed, since vol_fault_set(). */
unsigned vol_fault_calls(struct vol *fault);
unsigned vol_fault_hits(struct vol *fault);
