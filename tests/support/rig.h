/* A mirror over stores in temporary folders, each below a fault volume: what unit and model tests
 * drive. Needs no root. */
#pragma once

#include "mirror/mirror.h"
#include "snap/snap.h"
#include "vol_fault.h"

struct rig {
    char dir[64];
    unsigned count;
    uint32_t lacks;              /* of the last store */
    struct mirror_policy policy; /* from the next mount on */
    char path[STORES_MAX][128];
    struct store *store[STORES_MAX];
    struct vol *fault[STORES_MAX];
    struct vol *vol;  /* the mirror */
    struct vol *gate; /* a fault volume between the mirror and the snapshots; NULL without them */
    struct vol *top;  /* what is on top of the chain */
    bool snapshots;
    bool cut_off; /* the next mount of it is told that the power was cut */
    struct obj_table *objs;
    struct obj *root;
    struct events *events;
    struct super super;     /* the record it was formatted with */
    struct super witnessed; /* the last record the witness took */
    unsigned witness_writes;
    int witness_err; /* what the witness answers from now on */
};

/* New stores, formatted, and a mirror over them. Aborts on failure: a test cannot go on. */
void rig_up(struct rig *rig, unsigned stores);
/* The same; the last store lacks these capabilities (enum store_cap). */
void rig_up_lesser(struct rig *rig, unsigned stores, uint32_t lacks);
/* Snapshots on top of it. */
void rig_snapshots(struct rig *rig);
/* Ends all, as kill -9 would, and mounts the stores again. All objects are others then. */
void rig_again(struct rig *rig);
/* One of its stores, still open. */
struct store *rig_store(struct rig *rig, unsigned store);
/* The superblock that is on the disk of a store now. */
struct super rig_super(const struct rig *rig, unsigned store);
/* How many differences there are between the stores `a` and `b`, mtimes included. A lesser store is
 * copied to a whole one for that. */
long rig_differences(const struct rig *rig, unsigned a, unsigned b);
/* Ends the mirror and removes everything. */
void rig_down(struct rig *rig);

/* Short forms that assert success. */
struct obj *rig_mkdir(struct rig *rig, struct obj *dir, const char *name);
struct obj *rig_file(struct rig *rig, struct obj *dir, const char *name, const char *content);
extern const struct cred rig_cred;
