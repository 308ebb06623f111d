#include "format/snap.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "base/le.h"

enum {
    NS_PER_S = 1000000000,
    XATTR_HEAD_BYTES = 5,
    SECTORS = 8, /* of 512 bytes, as stat(2) counts, in a block of 4 KiB */
};

struct disk_head {
    le64 checksum; /* XXH3, 64 bits, seeded with the volume, of all that follows in the record */
    le32 size;     /* of the record without its payload: a multiple of 8 */
    uint8_t kind, type, name_bytes, name2_bytes;
    le32 id, seq;
};
_Static_assert(sizeof(struct disk_head) == SNAP_RECORD_HEAD_BYTES, "a record's head: 24 bytes");

struct disk_names {
    le32 parent, parent2;
};

struct disk_moved {
    struct disk_names names;
    le64 where;
};

struct disk_attr {
    le32 mode, uid, gid, nlink;
    le32 major, minor;
    le64 size, mtime_s, ctime_s;
    le32 mtime_ns, ctime_ns;
    le32 xattr_bytes;
    le32 blocks; /* of 4 KiB; UINT32_MAX: that many or more */
};

struct disk_range {
    le64 off, len, where, where_off, sum;
    le32 payload, zero;
};
_Static_assert(sizeof(struct disk_attr) <= SNAP_BODY_BYTES &&
                   sizeof(struct disk_range) <= SNAP_BODY_BYTES,
               "a record's fixed part");

static const char log_magic[] = "HFSNAP01", list_magic[] = "HFSNLS01";

uint64_t snap_sum(const void *bytes, size_t n) {
    return XXH3_64bits(bytes, n);
}

static uint64_t checksum_of(const uint8_t *bytes, size_t size, const struct id *volume) {
    enum { SKIP = sizeof(le64) };

    return XXH3_64bits_withSeed(bytes + SKIP, size - SKIP, le_load(volume->b, 8));
}

/* What follows the head. */
enum body {
    BODY_NOTHING,
    BODY_NAME,
    BODY_NAMES,
    BODY_ATTR,
    BODY_RANGE,
    BODY_TEXT,
};

static const struct {
    uint8_t body, size;
} bodies[SNAP_LAST + 1] = {
    [SNAP_NODE] = {BODY_NAME, sizeof(struct disk_names)},
    [SNAP_ALSO] = {BODY_NAME, sizeof(struct disk_names)},
    [SNAP_MADE] = {BODY_NAME, sizeof(struct disk_names)},
    [SNAP_LINK] = {BODY_NAME, sizeof(struct disk_names)},
    [SNAP_GONE] = {BODY_NAME, sizeof(struct disk_moved)},
    [SNAP_MOVE] = {BODY_NAMES, sizeof(struct disk_moved)},
    [SNAP_SWAP] = {BODY_NAMES, sizeof(struct disk_moved)},
    [SNAP_ATTR] = {BODY_ATTR, sizeof(struct disk_attr)},
    [SNAP_DATA] = {BODY_RANGE, sizeof(struct disk_range)},
    [SNAP_ZERO] = {BODY_RANGE, sizeof(struct disk_range)},
    [SNAP_FILE] = {BODY_RANGE, sizeof(struct disk_range)},
    [SNAP_DONE] = {BODY_NOTHING, 0},
    [SNAP_NOT] = {BODY_NOTHING, 0},
    [SNAP_SYNCED] = {BODY_NOTHING, 0},
    [SNAP_BROKEN] = {BODY_TEXT, 0},
    [SNAP_MERGED] = {BODY_NOTHING, 0},
    [SNAP_DROPPED] = {BODY_RANGE, sizeof(struct disk_range)},
};

static void encode_attr(const struct snap_attr *a, uint8_t *to) {
    const struct stat *st = &a->st;
    uint64_t blocks = ((uint64_t)st->st_blocks + SECTORS - 1) / SECTORS;
    struct disk_attr d = {.mode = le32_of(st->st_mode),
                          .uid = le32_of(st->st_uid),
                          .gid = le32_of(st->st_gid),
                          .nlink = le32_of((uint32_t)st->st_nlink),
                          .major = le32_of(major(st->st_rdev)),
                          .minor = le32_of(minor(st->st_rdev)),
                          .size = le64_of((uint64_t)st->st_size),
                          .mtime_s = le64_of((uint64_t)st->st_mtim.tv_sec),
                          .ctime_s = le64_of((uint64_t)st->st_ctim.tv_sec),
                          .mtime_ns = le32_of((uint32_t)st->st_mtim.tv_nsec),
                          .ctime_ns = le32_of((uint32_t)st->st_ctim.tv_nsec),
                          .xattr_bytes = le32_of(a->xattr_bytes),
                          .blocks = le32_of(blocks < UINT32_MAX ? (uint32_t)blocks : UINT32_MAX)};

    memcpy(to, &d, sizeof(d));
}

static int decode_attr(const uint8_t *from, struct snap_attr *a) {
    struct disk_attr d;

    memcpy(&d, from, sizeof(d));
    a->xattr_bytes = le32_get(d.xattr_bytes);
    a->st = (struct stat){
        .st_mode = le32_get(d.mode),
        .st_uid = le32_get(d.uid),
        .st_gid = le32_get(d.gid),
        .st_nlink = le32_get(d.nlink),
        .st_rdev = makedev(le32_get(d.major), le32_get(d.minor)),
        .st_size = (off_t)le64_get(d.size),
        .st_blocks = (blkcnt_t)le32_get(d.blocks) * SECTORS,
        .st_mtim = {(time_t)le64_get(d.mtime_s), (long)le32_get(d.mtime_ns)},
        .st_ctim = {(time_t)le64_get(d.ctime_s), (long)le32_get(d.ctime_ns)},
    };
    return a->st.st_size < 0 || le32_get(d.mtime_ns) >= NS_PER_S ||
                   le32_get(d.ctime_ns) >= NS_PER_S || a->xattr_bytes > SNAP_XATTR_BYTES_MAX
               ? -HFE_CORRUPT
               : 0;
}

static void encode_range(const struct snap_record *r, uint8_t *to) {
    struct disk_range d = {.off = le64_of(r->off),
                           .len = le64_of(r->len),
                           .where = le64_of(r->where),
                           .where_off = le64_of(r->where_off),
                           .sum = le64_of(r->sum),
                           .payload = le32_of(r->payload)};

    memcpy(to, &d, sizeof(d));
}

static int decode_range(const uint8_t *from, struct snap_record *r) {
    struct disk_range d;

    memcpy(&d, from, sizeof(d));
    r->off = le64_get(d.off);
    r->len = le64_get(d.len);
    r->where = le64_get(d.where);
    r->where_off = le64_get(d.where_off);
    r->sum = le64_get(d.sum);
    r->payload = le32_get(d.payload);
    if (r->off > INT64_MAX || r->len == 0 || r->len > INT64_MAX - r->off ||
        r->where_off > INT64_MAX || le32_get(d.zero) != 0) {
        return -HFE_CORRUPT;
    }
    if (r->kind != SNAP_DATA) {
        return r->payload != 0 || r->where_off != 0 || r->sum != 0 ||
                       (r->kind != SNAP_FILE && r->where != 0)
                   ? -HFE_CORRUPT
                   : 0;
    }
    return r->len > IO_BYTES_MAX || (r->payload != 0 && r->payload != r->len) ||
                   r->where > UINT32_MAX
               ? -HFE_CORRUPT
               : 0;
}

size_t snap_record_encode(const struct snap_record *r, const struct id *volume,
                          uint8_t *ret_bytes) {
    size_t fixed = sizeof(struct disk_head) + bodies[r->kind].size,
           used = fixed + r->name_bytes + r->name2_bytes +
                  (r->kind == SNAP_ATTR ? r->attr.xattr_bytes : 0),
           size = (used + 7) / 8 * 8;
    struct disk_head d = {.size = le32_of((uint32_t)size),
                          .kind = (uint8_t)r->kind,
                          .type = r->type,
                          .name_bytes = r->name_bytes,
                          .name2_bytes = r->name2_bytes,
                          .id = le32_of(r->id),
                          .seq = le32_of(r->seq)};
    struct disk_names names = {le32_of(r->parent), le32_of(r->parent2)};
    uint8_t *p = ret_bytes + sizeof(d);

    assert(size <= SNAP_RECORD_BYTES_MAX);
    memcpy(ret_bytes, &d, sizeof(d));
    switch (bodies[r->kind].body) {
    case BODY_NAME:
    case BODY_NAMES:
        memcpy(p, &names, sizeof(names));
        if (bodies[r->kind].size > sizeof(names)) {
            le_store(p + sizeof(names), 8, r->where);
        }
        break;
    case BODY_ATTR:
        encode_attr(&r->attr, p);
        break;
    case BODY_RANGE:
        encode_range(r, p);
        break;
    default:
        break;
    }
    p = ret_bytes + fixed;
    if (r->name_bytes > 0) {
        memcpy(p, r->name, r->name_bytes);
    }
    if (r->name2_bytes > 0) {
        memcpy(p + r->name_bytes, r->name2, r->name2_bytes);
    }
    if (r->kind == SNAP_ATTR && r->attr.xattr_bytes > 0) {
        memcpy(p, r->attr.xattrs, r->attr.xattr_bytes);
    }
    memset(ret_bytes + used, 0, size - used);
    le_store(ret_bytes, 8, checksum_of(ret_bytes, size, volume));
    return size;
}

/* A name as a folder may hold it. */
static bool good_name(const char *name, size_t n) {
    return n > 0 && !memchr(name, '\0', n) && !memchr(name, '/', n) &&
           !(n == 1 && name[0] == '.') && !(n == 2 && name[0] == '.' && name[1] == '.');
}

static bool good_names(const struct snap_record *r) {
    switch (bodies[r->kind].body) {
    case BODY_NAME:
        return r->name2_bytes == 0 && r->parent2 == 0 &&
               (r->kind == SNAP_MADE && r->parent == 0
                    ? r->name_bytes == 0
                    : r->parent != 0 && good_name(r->name, r->name_bytes));
    case BODY_NAMES:
        return r->parent != 0 && r->parent2 != 0 && good_name(r->name, r->name_bytes) &&
               good_name(r->name2, r->name2_bytes);
    case BODY_TEXT:
        return r->name2_bytes == 0 && !memchr(r->name, '\0', r->name_bytes);
    default:
        return r->name_bytes == 0 && r->name2_bytes == 0;
    }
}

static bool good_xattrs(const struct snap_attr *a) {
    struct snap_xattr x;
    ssize_t at = 0;

    while ((at = snap_xattr_next(a, (size_t)at, &x)) > 0) {
    }
    return at == 0;
}

int snap_record_decode(const uint8_t *bytes, size_t n, const struct id *volume,
                       struct snap_record *ret_record) {
    struct snap_record r = {.kind = 0};
    struct disk_head d;
    struct disk_names names;
    size_t size, used;
    int err = 0;

    if (n < sizeof(d)) {
        return -ENODATA;
    }
    memcpy(&d, bytes, sizeof(d));
    size = le32_get(d.size);
    if (d.kind == 0 || d.kind > SNAP_LAST || size > SNAP_RECORD_BYTES_MAX || size % 8 != 0) {
        return -HFE_CORRUPT;
    }
    r.kind = (enum snap_kind)d.kind;
    used = sizeof(d) + bodies[r.kind].size + d.name_bytes + d.name2_bytes;
    if (used > size) {
        return -HFE_CORRUPT;
    }
    if (size > n) {
        return -ENODATA;
    }
    if (le64_get(d.checksum) != checksum_of(bytes, size, volume)) {
        return -HFE_CORRUPT;
    }
    r.type = d.type;
    r.name_bytes = d.name_bytes;
    r.name2_bytes = d.name2_bytes;
    r.id = le32_get(d.id);
    r.seq = le32_get(d.seq);
    r.name = (const char *)bytes + sizeof(d) + bodies[r.kind].size;
    r.name2 = r.name + r.name_bytes;
    if (bodies[r.kind].body == BODY_NAME || bodies[r.kind].body == BODY_NAMES) {
        memcpy(&names, bytes + sizeof(d), sizeof(names));
        r.parent = le32_get(names.parent);
        r.parent2 = le32_get(names.parent2);
        if (bodies[r.kind].size > sizeof(names)) {
            r.where = le_load(bytes + sizeof(d) + sizeof(names), 8);
        }
    } else if (r.kind == SNAP_ATTR) {
        err = decode_attr(bytes + sizeof(d), &r.attr);
        r.attr.xattrs = bytes + used;
        used += r.attr.xattr_bytes;
    } else if (bodies[r.kind].body == BODY_RANGE) {
        err = decode_range(bytes + sizeof(d), &r);
    }
    if (err < 0 || used > size || size - used > 7 || r.seq == 0 || !good_names(&r) ||
        (r.kind == SNAP_ATTR && !good_xattrs(&r.attr))) {
        return -HFE_CORRUPT;
    }
    for (; used < size; used++) {
        if (bytes[used] != 0) {
            return -HFE_CORRUPT;
        }
    }
    *ret_record = r;
    return (int)size;
}

ssize_t snap_xattr_next(const struct snap_attr *a, size_t at, struct snap_xattr *ret) {
    struct snap_xattr x;

    if (at == a->xattr_bytes) {
        return 0;
    }
    if (a->xattr_bytes - at < XATTR_HEAD_BYTES) {
        return -HFE_CORRUPT;
    }
    x.key_bytes = a->xattrs[at];
    x.value_bytes = (uint32_t)le_load(a->xattrs + at + 1, 4);
    at += XATTR_HEAD_BYTES;
    if (x.key_bytes == 0 || x.value_bytes > XATTR_BYTES_MAX ||
        a->xattr_bytes - at < (size_t)x.key_bytes + x.value_bytes) {
        return -HFE_CORRUPT;
    }
    x.key = (const char *)a->xattrs + at;
    x.value = a->xattrs + at + x.key_bytes;
    if (memchr(x.key, '\0', x.key_bytes)) {
        return -HFE_CORRUPT;
    }
    *ret = x;
    return (ssize_t)(at + x.key_bytes + x.value_bytes);
}

size_t snap_xattr_put(const struct snap_xattr *x, uint8_t *to) {
    if (to) {
        to[0] = x->key_bytes;
        le_store(to + 1, 4, x->value_bytes);
        memcpy(to + XATTR_HEAD_BYTES, x->key, x->key_bytes);
        if (x->value_bytes > 0) {
            memcpy(to + XATTR_HEAD_BYTES + x->key_bytes, x->value, x->value_bytes);
        }
    }
    return XATTR_HEAD_BYTES + (size_t)x->key_bytes + x->value_bytes;
}

void snap_head_encode(const struct id *volume, uint32_t epoch, uint8_t *ret_bytes) {
    head_encode(log_magic, &(struct head){.volume = *volume, .start = epoch}, ret_bytes);
}

static int decode_head(const char *magic, const uint8_t *bytes, const struct id *volume,
                       uint32_t *ret_number) {
    struct head h;
    int err = head_decode(magic, bytes, &h);

    if (err < 0) {
        return err;
    }
    if (!id_equal(&h.volume, volume)) {
        return -HFE_FOREIGN;
    }
    if (h.start > UINT32_MAX) {
        return -HFE_CORRUPT;
    }
    *ret_number = (uint32_t)h.start;
    return 0;
}

int snap_head_decode(const uint8_t *bytes, const struct id *volume, uint32_t *ret_epoch) {
    return decode_head(log_magic, bytes, volume, ret_epoch);
}

/* --- the list --- */

struct disk_entry {
    le32 epoch, flags;
    le64 created_s;
    char name[SNAPSHOT_NAME_BYTES];
    char reason[SNAP_REASON_BYTES];
    char tags[SNAPSHOT_TAGS_BYTES];
};
_Static_assert(sizeof(struct disk_entry) == SNAP_ENTRY_BYTES, "an entry of the list");

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
static const char name_bytes[] = LETTERS "_.:@+-";

bool snap_name_ok(const char *name) {
    size_t n = strlen(name);

    return n > 0 && n < SNAPSHOT_NAME_BYTES && strchr(LETTERS, name[0]) &&
           strspn(name, name_bytes) == n;
}

bool snap_tags_ok(const char *tags) {
    size_t n = strlen(tags), word = 0;

    for (size_t at = 0; at < n; at += word + 1) {
        word = strspn(tags + at, name_bytes);
        if (word == 0 || (tags[at + word] && (tags[at + word] != ',' || !tags[at + word + 1]))) {
            return false;
        }
    }
    return n < SNAPSHOT_TAGS_BYTES;
}

void snap_list_encode(const struct id *volume, const struct snap_entry *entries, uint32_t count,
                      uint8_t *ret_bytes) {
    uint8_t *p = ret_bytes + HEAD_BYTES;

    head_encode(list_magic, &(struct head){.volume = *volume, .start = count}, ret_bytes);
    for (uint32_t i = 0; i < count; i++, p += SNAP_ENTRY_BYTES) {
        struct disk_entry d = {.epoch = le32_of(entries[i].epoch),
                               .flags = le32_of(entries[i].flags),
                               .created_s = le64_of(entries[i].created_s)};

        memcpy(d.name, entries[i].name, strlen(entries[i].name));
        memcpy(d.reason, entries[i].reason, strlen(entries[i].reason));
        memcpy(d.tags, entries[i].tags, strlen(entries[i].tags));
        memcpy(p, &d, sizeof(d));
    }
    le_store(p, 8, XXH3_64bits(ret_bytes, (size_t)(p - ret_bytes)));
}

/* A text with its final NUL, and nothing behind it. */
static bool good_text(const char *text, size_t room) {
    size_t n = strnlen(text, room);

    for (size_t i = n; i < room; i++) {
        if (text[i] != '\0') {
            return false;
        }
    }
    return n < room;
}

int snap_list_decode(const uint8_t *bytes, size_t n, const struct id *volume,
                     struct snap_entry *ret, uint32_t room) {
    uint32_t count = 0, last = 0;
    int err = n < HEAD_BYTES ? -HFE_CORRUPT : decode_head(list_magic, bytes, volume, &count);

    if (err < 0) {
        return err;
    }
    if (count > room || n != SNAP_LIST_BYTES(count) ||
        le_load(bytes + n - 8, 8) != XXH3_64bits(bytes, n - 8)) {
        return -HFE_CORRUPT;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct disk_entry d;

        memcpy(&d, bytes + HEAD_BYTES + (size_t)i * SNAP_ENTRY_BYTES, sizeof(d));
        if (!good_text(d.name, sizeof(d.name)) || !good_text(d.reason, sizeof(d.reason)) ||
            !good_text(d.tags, sizeof(d.tags)) || !snap_name_ok(d.name) || !snap_tags_ok(d.tags) ||
            le32_get(d.epoch) <= last || (le32_get(d.flags) & ~(uint32_t)SNAP_FLAGS_ALL)) {
            return -HFE_CORRUPT;
        }
        last = le32_get(d.epoch);
        ret[i] = (struct snap_entry){
            .epoch = last, .flags = le32_get(d.flags), .created_s = le64_get(d.created_s)};
        memcpy(ret[i].name, d.name, sizeof(d.name));
        memcpy(ret[i].reason, d.reason, sizeof(d.reason));
        memcpy(ret[i].tags, d.tags, sizeof(d.tags));
    }
    return (int)count;
}
