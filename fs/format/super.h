/* The superblock of a store, and the witness record: who belongs to the volume, and who was there
 * at the last change. docs/format/superblock.md is the authority; this is its reader and writer.
 * Pure functions; any thread may call. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/id.h"
#include "base/limits.h"

enum {
    SUPER_BYTES = 4096,
    SUPER_SLOTS = 2, /* written in turn: a torn write leaves the other */
    SUPER_MEMBERS_MAX = 16,
    SUPER_HISTORY = 8,
};

/* The states of a member, as stored. DESIGN section 3. */
enum member_state {
    MEMBER_ONLINE = 1, /* takes every change before it is acknowledged; may serve */
    MEMBER_SYNCING,    /* being caught up */
    MEMBER_PASSIVE,    /* follows behind, never serves */
    MEMBER_STALE,      /* lacks changes; waiting */
    MEMBER_FAULTED,    /* gave errors or no answer */
    MEMBER_OFFLINE,    /* taken out by an admin */
    MEMBER_REMOVED,    /* no longer part of the volume */
    MEMBER_LAST = MEMBER_REMOVED,
};

struct super_member {
    struct id id;
    char label[LABEL_BYTES];
    enum member_state state;
    uint32_t caps;             /* what the store can do: enum store_cap */
    uint64_t position;         /* all before it is proven stable there */
    uint64_t since_s;          /* when it got into this state */
    struct id left_generation; /* what its own superblock says if nobody put an older copy of it */
    uint64_t left_mount; /* there: the generation and mount count when it left; 0: it has not */
    bool passive;        /* it is to follow behind, and not to serve */
    unsigned replaces;   /* 1 + the slot of the member that goes once this one is ONLINE; 0: none */
};

enum super_kind {
    SUPER_STORE,
    SUPER_WITNESS,
};

struct super {
    enum super_kind kind;
    uint32_t feat_refuse, feat_ro, feat_ignore;
    struct id volume_id, store_id;    /* store_id is zero in a witness */
    uint64_t seq;                     /* of this record: the higher slot counts */
    uint64_t mount_count;             /* one more at each mount, before the first change */
    struct id generation;             /* a new one after a member was lost */
    uint64_t generation_number;       /* how many there were: for people */
    struct id history[SUPER_HISTORY]; /* older generations, newest first; zero: none */
    uint64_t end_position;
    bool clean; /* unmounted in order */
    struct id boot_id;
    struct {
        struct id machine_id, boot_id;
        uint64_t nonce, heartbeat;
    } owner;              /* who has it mounted, or had it last */
    struct id witness_id; /* the witness in force; zero: none */
    uint64_t created_s, mounted_s;
    char volume_name[VOLUME_NAME_BYTES];
    uint32_t member_count;
    struct super_member member[SUPER_MEMBERS_MAX];
};

/* Into exactly SUPER_BYTES. `super` must be valid (asserted: it is ours). */
void super_encode(const struct super *super, uint8_t *ret_bytes);

/* 0, or -HFE_NO_STORE (no such magic), -HFE_CORRUPT (any byte not as the page says) or
 * -HFE_FEATURE (needs a feature or version we do not know; ret_super is not written). */
int super_decode(const uint8_t *bytes, struct super *ret_super) must_check;

const char *member_state_name(enum member_state state);

/* The rules for names: [A-Za-z][A-Za-z0-9_.-]{0,62}; of volumes and of labels alike. */
bool super_name_ok(const char *name);

/* The member with this id, or NULL. */
struct super_member *super_member_of(struct super *super, const struct id *id);

/* Its index in the table; member_count if it is not there. */
unsigned super_slot_of(const struct super *super, const struct id *id);

/* Does the store say of itself that it was formatted for a volume, and is not filled yet? */
bool super_is_newcomer(const struct super *super);

/* Enters a member into the table, rather where nobody ever was than where one was removed. Its entry;
 * NULL if there is no room. */
struct super_member *super_enter(struct super *super, const struct super_member *member);

/* Is it the record's generation, one of its history, or one that a member had when it left? */
bool super_knows(const struct super *super, const struct id *generation);
/* A new generation, the old one going into the history. */
void super_new_generation(struct super *super);
