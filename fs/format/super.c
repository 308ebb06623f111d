#include "format/super.h"

#include <assert.h>
#include <ctype.h>
#include <stddef.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "base/le.h"

enum {
    VERSION = 1,
    FEATURES_REFUSE_KNOWN = 0,
    FEATURES_RO_KNOWN = 0,
};

struct disk_member {
    struct id id;
    char label[LABEL_BYTES];
    le32 state;
    le32 caps;
    le64 position;
    le64 since_s;
    struct id left_generation;
    le64 left_mount;
};

struct disk_super {
    uint8_t magic[8];
    le32 version;
    le32 size;
    le32 feat_refuse, feat_ro, feat_ignore;
    le32 zero0;
    struct id volume_id, store_id;
    le64 seq;
    le64 mount_count;
    struct id generation;
    struct id history[SUPER_HISTORY];
    le64 end_position;
    le32 clean;
    le32 member_count;
    struct id boot_id;
    struct id owner_machine_id, owner_boot_id;
    le64 owner_nonce, owner_heartbeat;
    struct id witness_id;
    le64 created_s, mounted_s;
    char volume_name[VOLUME_NAME_BYTES];
    le64 generation_number;
    uint8_t replaces[SUPER_MEMBERS_MAX];
    uint8_t passive[SUPER_MEMBERS_MAX];
    uint8_t zero1[72];
    struct disk_member member[SUPER_MEMBERS_MAX];
    uint8_t zero2[1528];
    le64 checksum; /* XXH3, 64 bits, of all bytes before it */
};

_Static_assert(sizeof(struct disk_member) == 128, "a member takes 128 bytes");
_Static_assert(offsetof(struct disk_super, member) == 512, "members start at 512");
_Static_assert(sizeof(struct disk_super) == SUPER_BYTES, "a superblock takes 4096 bytes");

static const uint8_t magic_of[][9] = {
    [SUPER_STORE] = "HFSUPER1",
    [SUPER_WITNESS] = "HFWITNS1",
};

bool super_name_ok(const char *name) {
    if (!isalpha((unsigned char)name[0])) {
        return false;
    }
    for (size_t i = 1; name[i]; i++) {
        if (i >= VOLUME_NAME_BYTES - 1 ||
            !(isalnum((unsigned char)name[i]) || strchr("_.-", name[i]))) {
            return false;
        }
    }
    return true;
}

const char *member_state_name(enum member_state state) {
    static const char *const names[] = {
        [MEMBER_ONLINE] = "ONLINE",   [MEMBER_SYNCING] = "SYNCING", [MEMBER_PASSIVE] = "PASSIVE",
        [MEMBER_STALE] = "STALE",     [MEMBER_FAULTED] = "FAULTED", [MEMBER_OFFLINE] = "OFFLINE",
        [MEMBER_REMOVED] = "REMOVED",
    };

    return names[state];
}

unsigned super_slot_of(const struct super *super, const struct id *id) {
    unsigned slot = 0;

    while (slot < super->member_count && !id_equal(&super->member[slot].id, id)) {
        slot++;
    }
    return slot;
}

struct super_member *super_member_of(struct super *super, const struct id *id) {
    unsigned slot = super_slot_of(super, id);

    return slot < super->member_count ? &super->member[slot] : NULL;
}

struct super_member *super_enter(struct super *s, const struct super_member *member) {
    uint32_t slot = s->member_count;

    for (uint32_t k = 0; slot == SUPER_MEMBERS_MAX && k < SUPER_MEMBERS_MAX; k++) {
        slot = s->member[k].state == MEMBER_REMOVED ? k : slot;
    }
    if (slot == SUPER_MEMBERS_MAX) {
        return NULL;
    }
    s->member[slot] = *member;
    s->member_count += slot == s->member_count;
    return &s->member[slot];
}

bool super_is_newcomer(const struct super *s) {
    unsigned slot = super_slot_of(s, &s->store_id);

    return slot < s->member_count && s->member[slot].state == MEMBER_STALE &&
           s->member[slot].left_mount == 0 && s->member[slot].position == 0;
}

bool super_knows(const struct super *s, const struct id *generation) {
    bool found = id_equal(&s->generation, generation);

    if (id_is_zero(generation)) {
        return false; /* places that were never used hold that */
    }

    for (int i = 0; i < SUPER_HISTORY && !found; i++) {
        found = id_equal(&s->history[i], generation);
    }
    for (uint32_t i = 0; i < s->member_count && !found; i++) {
        found = id_equal(&s->member[i].left_generation, generation);
    }
    return found;
}

void super_new_generation(struct super *super) {
    memmove(&super->history[1], &super->history[0], sizeof(super->history) - sizeof(struct id));
    super->history[0] = super->generation;
    super->generation = id_new();
    super->generation_number++;
}

static void encode_member(const struct super_member *m, struct disk_member *d) {
    d->id = m->id;
    memcpy(d->label, m->label, strlen(m->label));
    d->state = le32_of(m->state);
    d->caps = le32_of(m->caps);
    d->position = le64_of(m->position);
    d->since_s = le64_of(m->since_s);
    d->left_generation = m->left_generation;
    d->left_mount = le64_of(m->left_mount);
}

void super_encode(const struct super *s, uint8_t *ret_bytes) {
    struct disk_super d;

    assert(s->member_count <= SUPER_MEMBERS_MAX && super_name_ok(s->volume_name));
    memset(&d, 0, sizeof(d));
    memcpy(d.magic, magic_of[s->kind], sizeof(d.magic));
    d.version = le32_of(VERSION);
    d.size = le32_of(SUPER_BYTES);
    d.feat_refuse = le32_of(s->feat_refuse);
    d.feat_ro = le32_of(s->feat_ro);
    d.feat_ignore = le32_of(s->feat_ignore);
    d.volume_id = s->volume_id;
    d.store_id = s->store_id;
    d.seq = le64_of(s->seq);
    d.mount_count = le64_of(s->mount_count);
    d.generation = s->generation;
    memcpy(d.history, s->history, sizeof(d.history));
    d.end_position = le64_of(s->end_position);
    d.clean = le32_of(s->clean);
    d.member_count = le32_of(s->member_count);
    d.boot_id = s->boot_id;
    d.owner_machine_id = s->owner.machine_id;
    d.owner_boot_id = s->owner.boot_id;
    d.owner_nonce = le64_of(s->owner.nonce);
    d.owner_heartbeat = le64_of(s->owner.heartbeat);
    d.witness_id = s->witness_id;
    d.created_s = le64_of(s->created_s);
    d.mounted_s = le64_of(s->mounted_s);
    memcpy(d.volume_name, s->volume_name, strlen(s->volume_name));
    d.generation_number = le64_of(s->generation_number);
    for (uint32_t i = 0; i < s->member_count; i++) {
        assert(super_name_ok(s->member[i].label));
        encode_member(&s->member[i], &d.member[i]);
        d.replaces[i] = (uint8_t)s->member[i].replaces;
        d.passive[i] = s->member[i].passive;
    }
    d.checksum = le64_of(XXH3_64bits(&d, offsetof(struct disk_super, checksum)));
    memcpy(ret_bytes, &d, sizeof(d));
}

static bool all_zero(const void *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (((const uint8_t *)p)[i] != 0) {
            return false;
        }
    }
    return true;
}

/* A name in a field of n bytes: valid, and nothing but zeros behind it. */
static bool name_field_ok(const char *field, size_t n) {
    size_t len = strnlen(field, n);

    return len < n && super_name_ok(field) && all_zero(field + len, n - len);
}

static bool decode_member(const struct disk_member *d, struct super_member *m) {
    uint32_t state = le32_get(d->state);

    if (state < MEMBER_ONLINE || state > MEMBER_LAST || id_is_zero(&d->id) ||
        !name_field_ok(d->label, sizeof(d->label))) {
        return false;
    }
    m->id = d->id;
    memcpy(m->label, d->label, sizeof(m->label));
    m->state = state;
    m->caps = le32_get(d->caps);
    m->position = le64_get(d->position);
    m->since_s = le64_get(d->since_s);
    m->left_generation = d->left_generation;
    m->left_mount = le64_get(d->left_mount);
    return true;
}

static bool decode_members(const struct disk_super *d, struct super *s) {
    s->member_count = le32_get(d->member_count);
    if (s->member_count < 1 || s->member_count > SUPER_MEMBERS_MAX) {
        return false;
    }
    for (uint32_t i = 0; i < s->member_count; i++) {
        if (!decode_member(&d->member[i], &s->member[i]) || d->replaces[i] > s->member_count ||
            d->replaces[i] == i + 1 || d->passive[i] > 1) {
            return false;
        }
        s->member[i].replaces = d->replaces[i];
        s->member[i].passive = d->passive[i] == 1;
    }
    return all_zero(&d->replaces[s->member_count], SUPER_MEMBERS_MAX - s->member_count) &&
           all_zero(&d->passive[s->member_count], SUPER_MEMBERS_MAX - s->member_count) &&
           all_zero(&d->member[s->member_count],
                    (SUPER_MEMBERS_MAX - s->member_count) * sizeof(d->member[0]));
}

int super_decode(const uint8_t *bytes, struct super *ret_super) {
    struct disk_super d;
    struct super s = {.kind = SUPER_STORE};

    memcpy(&d, bytes, sizeof(d));
    if (memcmp(d.magic, magic_of[SUPER_WITNESS], sizeof(d.magic)) == 0) {
        s.kind = SUPER_WITNESS;
    } else if (memcmp(d.magic, magic_of[SUPER_STORE], sizeof(d.magic)) != 0) {
        return -HFE_NO_STORE;
    }
    if (le64_get(d.checksum) != XXH3_64bits(&d, offsetof(struct disk_super, checksum))) {
        return -HFE_CORRUPT;
    }
    s.feat_refuse = le32_get(d.feat_refuse);
    s.feat_ro = le32_get(d.feat_ro);
    s.feat_ignore = le32_get(d.feat_ignore);
    if (le32_get(d.version) != VERSION || (s.feat_refuse & ~(uint32_t)FEATURES_REFUSE_KNOWN) ||
        (s.feat_ro & ~(uint32_t)FEATURES_RO_KNOWN)) {
        return -HFE_FEATURE;
    }
    if (le32_get(d.size) != SUPER_BYTES || le32_get(d.clean) > 1 || id_is_zero(&d.volume_id) ||
        id_is_zero(&d.store_id) != (s.kind == SUPER_WITNESS) ||
        !name_field_ok(d.volume_name, sizeof(d.volume_name)) ||
        !all_zero(&d.zero0, sizeof(d.zero0)) || !all_zero(d.zero1, sizeof(d.zero1)) ||
        !all_zero(d.zero2, sizeof(d.zero2)) || !decode_members(&d, &s)) {
        return -HFE_CORRUPT;
    }
    s.volume_id = d.volume_id;
    s.store_id = d.store_id;
    s.seq = le64_get(d.seq);
    s.mount_count = le64_get(d.mount_count);
    s.generation = d.generation;
    s.generation_number = le64_get(d.generation_number);
    memcpy(s.history, d.history, sizeof(s.history));
    s.end_position = le64_get(d.end_position);
    s.clean = le32_get(d.clean) == 1;
    s.boot_id = d.boot_id;
    s.owner.machine_id = d.owner_machine_id;
    s.owner.boot_id = d.owner_boot_id;
    s.owner.nonce = le64_get(d.owner_nonce);
    s.owner.heartbeat = le64_get(d.owner_heartbeat);
    s.witness_id = d.witness_id;
    s.created_s = le64_get(d.created_s);
    s.mounted_s = le64_get(d.mounted_s);
    memcpy(s.volume_name, d.volume_name, sizeof(s.volume_name));
    *ret_super = s;
    return 0;
}
