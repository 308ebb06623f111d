#include "format/side.h"

#include <assert.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "base/le.h"

enum { NS_PER_S = 1000000000, XATTR_HEAD_BYTES = 6 };

struct disk_record {
    le64 checksum; /* XXH3, 64 bits, seeded with the volume, of all that follows in the record */
    le32 size;     /* of the whole record: a multiple of 8 */
    uint8_t kind, pending, zero[2];
    le64 position;
    le16 path_bytes, path2_bytes;
    le32 xattr_bytes;
    le32 has, type;
    le32 uid, gid;
    le32 major, minor;
    le64 mtime_s;
    le32 mtime_ns, mode;
    le64 synced, of;
};
_Static_assert(sizeof(struct disk_record) == SIDE_RECORD_HEAD_BYTES, "a record's head: 88 bytes");

static const char magic[] = "HFSIDE01";

static uint64_t checksum_of(const uint8_t *bytes, size_t size, const struct id *volume) {
    enum { SKIP = sizeof(le64) };

    return XXH3_64bits_withSeed(bytes + SKIP, size - SKIP, le_load(volume->b, 8));
}

static bool has_two_paths(enum side_kind kind) {
    return kind == SIDE_MOVE || kind == SIDE_LINK;
}

static bool is_outcome(enum side_kind kind) {
    return kind == SIDE_DONE || kind == SIDE_NOT;
}

size_t side_record_encode(const struct side_record *r, const struct id *volume, uint64_t position,
                          uint8_t *ret_bytes) {
    size_t used = sizeof(struct disk_record) + r->path_bytes + r->path2_bytes + r->attr.xattr_bytes,
           size = (used + 7) / 8 * 8;
    struct disk_record d = {.size = le32_of((uint32_t)size),
                            .kind = (uint8_t)r->kind,
                            .pending = r->pending,
                            .synced = le64_of(r->synced),
                            .of = le64_of(r->of),
                            .position = le64_of(position),
                            .path_bytes = le16_of((uint16_t)r->path_bytes),
                            .path2_bytes = le16_of((uint16_t)r->path2_bytes),
                            .xattr_bytes = le32_of((uint32_t)r->attr.xattr_bytes),
                            .has = le32_of(r->attr.has)};
    uint8_t *p = ret_bytes + sizeof(d);

    assert(size <= SIDE_RECORD_BYTES_MAX);
    if (r->attr.has & SIDE_OWNER) {
        d.uid = le32_of(r->attr.uid);
        d.gid = le32_of(r->attr.gid);
    }
    if (r->attr.has & SIDE_TYPE) {
        d.type = le32_of(r->attr.type);
        d.major = le32_of(major(r->attr.rdev));
        d.minor = le32_of(minor(r->attr.rdev));
    }
    if (r->attr.has & SIDE_MODE) {
        d.mode = le32_of(r->attr.mode);
    }
    if (r->attr.has & SIDE_MTIME) {
        d.mtime_s = le64_of((uint64_t)r->attr.mtime.tv_sec);
        d.mtime_ns = le32_of((uint32_t)r->attr.mtime.tv_nsec);
    }
    memcpy(ret_bytes, &d, sizeof(d));
    if (r->path_bytes > 0) {
        memcpy(p, r->path, r->path_bytes);
        p += r->path_bytes;
    }
    if (r->path2_bytes > 0) {
        memcpy(p, r->path2, r->path2_bytes);
        p += r->path2_bytes;
    }
    if (r->attr.xattr_bytes > 0) {
        memcpy(p, r->attr.xattrs, r->attr.xattr_bytes);
        p += r->attr.xattr_bytes;
    }
    memset(p, 0, size - used);
    le_store(ret_bytes, 8, checksum_of(ret_bytes, size, volume));
    return size;
}

/* A relative path: no empty, "." or ".." component, no NUL. */
static bool good_path(const char *path, size_t n) {
    size_t start = 0;

    if (n >= PATH_BYTES || memchr(path, '\0', n)) {
        return false;
    }
    for (size_t i = 0; i <= n && n > 0; i++) {
        if (i == n || path[i] == '/') {
            size_t len = i - start;

            if (len == 0 || len >= NAME_BYTES || (len == 1 && path[start] == '.') ||
                (len == 2 && path[start] == '.' && path[start + 1] == '.')) {
                return false;
            }
            start = i + 1;
        }
    }
    return true;
}

static bool good_attr(const struct disk_record *d, const struct side_attr *a) {
    bool ok = (a->has & ~(uint32_t)(SIDE_OWNER | SIDE_TYPE | SIDE_MTIME | SIDE_MODE)) == 0 &&
              a->mtime.tv_nsec < NS_PER_S;

    ok = ok && (a->mode & ~(mode_t)07777) == 0 && ((a->has & SIDE_MODE) || a->mode == 0);
    ok = ok && ((a->has & SIDE_OWNER) || (a->uid == 0 && a->gid == 0));
    ok = ok && ((a->has & SIDE_TYPE)
                    ? S_ISCHR(a->type) || S_ISBLK(a->type) || S_ISFIFO(a->type) || S_ISSOCK(a->type)
                    : a->type == 0 && a->rdev == 0);
    ok = ok && ((a->has & SIDE_TYPE) == 0 || (a->type & ~(mode_t)S_IFMT) == 0);
    ok = ok && major(a->rdev) == le32_get(d->major) && minor(a->rdev) == le32_get(d->minor);
    return ok && ((a->has & SIDE_MTIME) || (a->mtime.tv_sec == 0 && a->mtime.tv_nsec == 0));
}

static bool good_xattrs(const struct side_attr *a) {
    struct side_xattr x;
    ssize_t at = 0;

    while ((size_t)at < a->xattr_bytes) {
        at = side_xattr_next(a, (size_t)at, &x);
        if (at <= 0) {
            return false;
        }
    }
    return a->xattr_bytes <= XATTR_BYTES_MAX;
}

int side_record_decode(const uint8_t *bytes, size_t n, const struct id *volume, uint64_t position,
                       struct side_record *ret_record) {
    struct disk_record d;
    struct side_record r;
    size_t size, used;

    if (n < sizeof(d)) {
        return -HFE_CORRUPT;
    }
    memcpy(&d, bytes, sizeof(d));
    size = le32_get(d.size);
    if (size < sizeof(d) || size > n || size > SIDE_RECORD_BYTES_MAX || size % 8 != 0 ||
        le64_get(d.position) != position || d.kind == 0 || d.kind > SIDE_LAST ||
        (d.zero[0] | d.zero[1]) != 0 || d.pending > 1 ||
        le64_get(d.checksum) != checksum_of(bytes, size, volume)) {
        return -HFE_CORRUPT;
    }
    r = (struct side_record){
        .kind = d.kind,
        .pending = d.pending,
        .synced = le64_get(d.synced),
        .of = le64_get(d.of),
        .path = (const char *)bytes + sizeof(d),
        .path_bytes = le16_get(d.path_bytes),
        .path2_bytes = le16_get(d.path2_bytes),
        .attr = {.has = le32_get(d.has),
                 .uid = le32_get(d.uid),
                 .gid = le32_get(d.gid),
                 .type = le32_get(d.type),
                 .mode = le32_get(d.mode),
                 .rdev = makedev(le32_get(d.major), le32_get(d.minor)),
                 .mtime = {(time_t)le64_get(d.mtime_s), (long)le32_get(d.mtime_ns)},
                 .xattr_bytes = le32_get(d.xattr_bytes)}};
    used = sizeof(d) + r.path_bytes + r.path2_bytes;
    if (used > size || r.attr.xattr_bytes > size - used || size - used - r.attr.xattr_bytes > 7) {
        return -HFE_CORRUPT;
    }
    r.path2 = r.path + r.path_bytes;
    r.attr.xattrs = bytes + used;
    for (size_t i = used + r.attr.xattr_bytes; i < size; i++) {
        if (bytes[i] != 0) {
            return -HFE_CORRUPT;
        }
    }
    if (!good_path(r.path, r.path_bytes) || !good_path(r.path2, r.path2_bytes) ||
        has_two_paths(r.kind) != (r.path2_bytes > 0) ||
        (r.pending && !has_two_paths(r.kind) && r.kind != SIDE_DROP) ||
        is_outcome(r.kind) != (r.of != 0) || r.of >= position || r.synced > position ||
        ((is_outcome(r.kind) || r.kind == SIDE_MARK) && r.path_bytes > 0) ||
        (r.kind != SIDE_SET && (r.attr.has || r.attr.xattr_bytes)) ||
        ((has_two_paths(r.kind) || r.kind == SIDE_DROP) && r.path_bytes == 0) ||
        !good_attr(&d, &r.attr) || !good_xattrs(&r.attr)) {
        return -HFE_CORRUPT;
    }
    *ret_record = r;
    return (int)size;
}

void side_head_encode(const struct head *head, uint8_t *ret_bytes) {
    head_encode(magic, head, ret_bytes);
}

int side_head_decode(const uint8_t *bytes, struct head *ret_head) {
    int err = head_decode(magic, bytes, ret_head);

    return err == 0 && ret_head->start != 0 ? -HFE_CORRUPT : err;
}

ssize_t side_xattr_next(const struct side_attr *attr, size_t at, struct side_xattr *ret_xattr) {
    const uint8_t *p = attr->xattrs + at;
    size_t room = attr->xattr_bytes - at, key, value;

    if (room == 0) {
        return 0;
    }
    if (room < XATTR_HEAD_BYTES) {
        return -HFE_CORRUPT;
    }
    key = (size_t)le_load(p, 2);
    value = (size_t)le_load(p + 2, 4);
    if (key == 0 || key >= NAME_BYTES || key + value > room - XATTR_HEAD_BYTES ||
        memchr(p + XATTR_HEAD_BYTES, '\0', key)) {
        return -HFE_CORRUPT;
    }
    *ret_xattr = (struct side_xattr){(const char *)p + XATTR_HEAD_BYTES, key,
                                     p + XATTR_HEAD_BYTES + key, value};
    return (ssize_t)(at + XATTR_HEAD_BYTES + key + value);
}

bool side_xattr_is(const struct side_xattr *x, const char *key) {
    return x->key_bytes == strlen(key) && memcmp(x->key, key, x->key_bytes) == 0;
}

bool side_xattr_find(const struct side_attr *attr, const char *key, struct side_xattr *ret_xattr) {
    size_t at = 0;

    for (ssize_t n; (n = side_xattr_next(attr, at, ret_xattr)) > 0; at = (size_t)n) {
        if (side_xattr_is(ret_xattr, key)) {
            return true;
        }
    }
    return false;
}

size_t side_xattr_put(const struct side_xattr *x, uint8_t *ret_bytes) {
    if (ret_bytes) {
        le_store(ret_bytes, 2, x->key_bytes);
        le_store(ret_bytes + 2, 4, x->value_bytes);
        memcpy(ret_bytes + XATTR_HEAD_BYTES, x->key, x->key_bytes);
        if (x->value_bytes > 0) {
            memcpy(ret_bytes + XATTR_HEAD_BYTES + x->key_bytes, x->value, x->value_bytes);
        }
    }
    return XATTR_HEAD_BYTES + x->key_bytes + x->value_bytes;
}
