#include "snap/table.h"

#include <dirent.h>
#include <errno.h>
#include <search.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/error.h"
#include "snap/table_int.h"

enum { BUCKETS_MIN = 256 };

static uint64_t node_hash(uint32_t id) {
    return (uint64_t)id * UINT64_C(0x9E3779B97F4A7C15) >> 32;
}

static struct snap_node *add_node(struct snap_table *t, uint32_t id, uint8_t type, bool made) {
    struct snap_node *n = calloc(1, sizeof(*n)), **b;

    if (!n) {
        return NULL;
    }
    n->id = id;
    n->type = type;
    n->made = made;
    b = &t->nodes[node_hash(id) & (t->buckets - 1)];
    n->bucket_next = *b;
    *b = n;
    t->count++;
    t->next_id = id >= t->next_id ? id + 1 : t->next_id;
    t->bytes += sizeof(*n);
    return n;
}

struct snap_table *snap_table_new(void) {
    struct snap_table *t = calloc(1, sizeof(*t));

    if (!t) {
        return NULL;
    }
    t->buckets = BUCKETS_MIN;
    t->nodes = calloc(t->buckets, sizeof(*t->nodes));
    t->names = calloc(t->buckets, sizeof(*t->names));
    if (!t->nodes || !t->names || !add_node(t, SNAP_ROOT, DT_DIR, false) ||
        !add_node(t, SNAP_KEPT, DT_DIR, false)) {
        snap_table_free(t);
        return NULL;
    }
    return t;
}

static void free_node(struct snap_node *n) {
    if (n->attr) {
        free((void *)(uintptr_t)n->attr->xattrs);
        free(n->attr);
    }
    tdestroy(n->extents, free);
    free(n);
}

void snap_table_free(struct snap_table *t) {
    if (!t) {
        return;
    }
    for (uint64_t i = 0; i < t->buckets; i++) {
        for (struct snap_node *n = t->nodes ? t->nodes[i] : NULL, *next; n; n = next) {
            next = n->bucket_next;
            free_node(n);
        }
        for (struct snap_name *n = t->names ? t->names[i] : NULL, *next; n; n = next) {
            next = n->bucket_next;
            free(n);
        }
    }
    free(t->nodes);
    free(t->names);
    free(t);
}

uint64_t snap_table_bytes(const struct snap_table *t) {
    return t->bytes + 2 * t->buckets * sizeof(void *);
}

uint32_t snap_table_next_id(const struct snap_table *t) {
    return t->next_id;
}

struct snap_node *snap_node(const struct snap_table *t, uint32_t id) {
    struct snap_node *n = t->nodes[node_hash(id) & (t->buckets - 1)];

    while (n && n->id != id) {
        n = n->bucket_next;
    }
    return n;
}

/* --- names --- */

static uint32_t name_hash(enum snap_side side, const struct snap_node *parent, const char *name,
                          size_t len) {
    return (uint32_t)XXH3_64bits_withSeed(name, len, (uint64_t)parent->id << 1 | side);
}

static struct snap_name **name_slot(const struct snap_table *t, enum snap_side side,
                                    const struct snap_node *parent, const char *name, size_t len) {
    uint32_t hash = name_hash(side, parent, name, len);
    struct snap_name **at = &t->names[hash & (t->buckets - 1)];

    while (*at && !((*at)->hash == hash && (*at)->parent == parent && (*at)->side == side &&
                    (*at)->len == len && memcmp((*at)->text, name, len) == 0)) {
        at = &(*at)->bucket_next;
    }
    return at;
}

struct snap_name *snap_name(const struct snap_table *t, enum snap_side side,
                            const struct snap_node *parent, const char *name, size_t len) {
    return *name_slot(t, side, parent, name, len);
}

static void grow(struct snap_table *t) {
    uint64_t buckets = t->buckets * 2;
    struct snap_node **nodes = calloc(buckets, sizeof(*nodes));
    struct snap_name **names = calloc(buckets, sizeof(*names));

    if (!nodes || !names) { /* longer chains until memory is there again */
        free(nodes);
        free(names);
        return;
    }
    for (uint64_t i = 0; i < t->buckets; i++) {
        for (struct snap_node *n = t->nodes[i], *next; n; n = next) {
            struct snap_node **b = &nodes[node_hash(n->id) & (buckets - 1)];

            next = n->bucket_next;
            n->bucket_next = *b;
            *b = n;
        }
        for (struct snap_name *n = t->names[i], *next; n; n = next) {
            struct snap_name **b = &names[n->hash & (buckets - 1)];

            next = n->bucket_next;
            n->bucket_next = *b;
            *b = n;
        }
    }
    free(t->nodes);
    free(t->names);
    t->nodes = nodes;
    t->names = names;
    t->buckets = buckets;
}

static int add_name(struct snap_table *t, enum snap_side side, struct snap_node *parent,
                    const char *name, size_t len, struct snap_node *node) {
    struct snap_name *n = malloc(sizeof(*n) + len + 1), **b;

    if (!n) {
        return -ENOMEM;
    }
    *n = (struct snap_name){.next = node->names[side],
                            .in = parent->in[side],
                            .in_at = &parent->in[side],
                            .parent = parent,
                            .node = node,
                            .hash = name_hash(side, parent, name, len),
                            .side = (uint8_t)side,
                            .len = (uint8_t)len};
    memcpy(n->text, name, len);
    n->text[len] = '\0';
    node->names[side] = n;
    if (n->in) {
        n->in->in_at = &n->in;
    }
    parent->in[side] = n;
    parent->in_changes += side == SNAP_LIVE;
    b = &t->names[n->hash & (t->buckets - 1)];
    n->bucket_next = *b;
    *b = n;
    t->name_count++;
    t->bytes += sizeof(*n) + len + 1;
    if (t->count > t->buckets || t->name_count > t->buckets) {
        grow(t);
    }
    return 0;
}

static void remove_name(struct snap_table *t, struct snap_name *n) {
    struct snap_name **at = name_slot(t, n->side, n->parent, n->text, n->len);

    *at = n->bucket_next;
    for (at = &n->node->names[n->side]; *at != n;) {
        at = &(*at)->next;
    }
    *at = n->next;
    *n->in_at = n->in;
    n->parent->in_changes += n->side == SNAP_LIVE;
    if (n->in) {
        n->in->in_at = n->in_at;
    }
    t->name_count--;
    t->bytes -= sizeof(*n) + n->len + 1;
    free(n);
}

void snap_table_drop_unused(struct snap_table *t, struct snap_node *n) {
    struct snap_node **at = &t->nodes[node_hash(n->id) & (t->buckets - 1)];

    if (!n->made || n->names[SNAP_LIVE] || n->names[SNAP_OLD] || n->in[SNAP_LIVE] ||
        n->in[SNAP_OLD]) {
        return;
    }
    while (*at != n) {
        at = &(*at)->bucket_next;
    }
    *at = n->bucket_next;
    t->count--;
    t->bytes -= sizeof(*n);
    free_node(n);
}

int snap_table_each(struct snap_table *t, int (*fn)(void *, struct snap_node *), void *arg) {
    int err = 0;

    for (uint32_t id = 1; err == 0 && id < t->next_id; id++) {
        struct snap_node *n = snap_node(t, id);

        err = n ? fn(arg, n) : 0;
    }
    return err;
}

static int drop_unused(void *arg, struct snap_node *n) {
    snap_table_drop_unused(arg, n);
    return 0;
}

void snap_table_drop_all_unused(struct snap_table *t) {
    (void)snap_table_each(t, drop_unused, t); /* drop_unused() returns 0 */
}

/* --- what records do --- */

struct spot {
    struct snap_node *parent;
    struct snap_name *name; /* what is there on the LIVE side */
};

static int find_spot(struct snap_table *t, uint32_t parent, const char *name, uint8_t len,
                     struct spot *s) {
    s->parent = snap_node(t, parent);
    if (!s->parent || s->parent->type != DT_DIR) {
        return -HFE_CORRUPT;
    }
    s->name = snap_name(t, SNAP_LIVE, s->parent, name, len);
    return 0;
}

static int apply_node(struct snap_table *t, const struct snap_record *r) {
    bool made = r->kind == SNAP_MADE;
    struct snap_node *n = snap_node(t, r->id);
    struct spot s = {NULL};
    int err = made && r->parent == 0 ? 0 : find_spot(t, r->parent, r->name, r->name_bytes, &s);

    if (err < 0 || (n != NULL) != (r->kind == SNAP_ALSO) || r->id <= SNAP_KEPT ||
        r->id == UINT32_MAX || (n && (n->type == DT_DIR || n->made)) || s.name ||
        (!made && (s.parent->made || snap_name(t, SNAP_OLD, s.parent, r->name, r->name_bytes)))) {
        return -HFE_CORRUPT;
    }
    n = n ? n : add_node(t, r->id, r->type, made);
    if (!n) {
        return -ENOMEM;
    }
    err = s.parent ? add_name(t, SNAP_LIVE, s.parent, r->name, r->name_bytes, n) : 0;
    return err < 0 || made ? err : add_name(t, SNAP_OLD, s.parent, r->name, r->name_bytes, n);
}

static int apply_link(struct snap_table *t, const struct snap_record *r) {
    struct snap_node *n = snap_node(t, r->id);
    struct spot s;

    if (find_spot(t, r->parent, r->name, r->name_bytes, &s) < 0 || !n || s.name ||
        r->id <= SNAP_KEPT) {
        return -HFE_CORRUPT;
    }
    return add_name(t, SNAP_LIVE, s.parent, r->name, r->name_bytes, n);
}

static int apply_gone(struct snap_table *t, const struct snap_record *r) {
    struct spot s;

    if (find_spot(t, r->parent, r->name, r->name_bytes, &s) < 0 || !s.name ||
        s.name->node->id != r->id) {
        return -HFE_CORRUPT;
    }
    remove_name(t, s.name);
    return 0;
}

static int apply_move(struct snap_table *t, const struct snap_record *r) {
    struct snap_node *n;
    struct spot a, b;

    if (find_spot(t, r->parent, r->name, r->name_bytes, &a) < 0 ||
        find_spot(t, r->parent2, r->name2, r->name2_bytes, &b) < 0 || !a.name ||
        a.name->node->id != r->id || a.name == b.name) {
        return -HFE_CORRUPT;
    }
    n = a.name->node;
    if (b.name) {
        remove_name(t, b.name);
    }
    remove_name(t, a.name);
    return add_name(t, SNAP_LIVE, b.parent, r->name2, r->name2_bytes, n);
}

static int apply_swap(struct snap_table *t, const struct snap_record *r) {
    struct snap_node *x, *y;
    struct spot a, b;
    int err;

    if (find_spot(t, r->parent, r->name, r->name_bytes, &a) < 0 ||
        find_spot(t, r->parent2, r->name2, r->name2_bytes, &b) < 0 || !a.name || !b.name ||
        a.name == b.name) {
        return -HFE_CORRUPT;
    }
    x = a.name->node;
    y = b.name->node;
    remove_name(t, a.name);
    remove_name(t, b.name);
    err = add_name(t, SNAP_LIVE, a.parent, r->name, r->name_bytes, y);
    return err < 0 ? err : add_name(t, SNAP_LIVE, b.parent, r->name2, r->name2_bytes, x);
}

static int apply_attr(struct snap_table *t, const struct snap_record *r) {
    struct snap_node *n = snap_node(t, r->id);
    struct snap_attr *a;
    uint8_t *xattrs = NULL;

    if (!n || n->made) {
        return -HFE_CORRUPT;
    }
    if (n->attr) {
        return 0; /* the first counts */
    }
    a = malloc(sizeof(*a));
    if (a && r->attr.xattr_bytes > 0) {
        xattrs = malloc(r->attr.xattr_bytes);
    }
    if (!a || (r->attr.xattr_bytes > 0 && !xattrs)) {
        free(a);
        return -ENOMEM;
    }
    *a = r->attr;
    if (xattrs) {
        memcpy(xattrs, r->attr.xattrs, r->attr.xattr_bytes);
    }
    a->xattrs = xattrs;
    n->attr = a;
    t->bytes += sizeof(*a) + a->xattr_bytes;
    return 0;
}

/* --- extents --- */

/* For extents that never overlap: those that do are the same. */
static int compare_extents(const void *a, const void *b) {
    const struct snap_extent *x = a, *y = b;

    return x->off + x->len <= y->off ? -1 : x->off >= y->off + y->len;
}

const struct snap_extent *snap_extent(const struct snap_node *n, uint64_t from, uint64_t to) {
    const struct snap_extent *found = NULL;

    while (from < to) { /* tfind(3) finds any; so what is left of it is looked at, too */
        const struct snap_extent key = {.off = from, .len = to - from};
        void *const *at = tfind(&key, &n->extents, compare_extents);

        if (!at) {
            break;
        }
        found = *at;
        to = found->off;
    }
    return found;
}

bool snap_gap(const struct snap_node *n, uint64_t from, uint64_t to, uint64_t *ret_from,
              uint64_t *ret_to) {
    while (from < to) {
        const struct snap_extent *e = snap_extent(n, from, to);

        if (!e || e->off > from) {
            *ret_from = from;
            *ret_to = e ? e->off : to;
            return true;
        }
        from = e->off + e->len;
    }
    return false;
}

int table_add_extent(struct snap_table *t, struct snap_node *n, const struct snap_extent *e) {
    struct snap_extent *copy = malloc(sizeof(*copy));

    if (!copy) {
        return -ENOMEM;
    }
    *copy = *e;
    if (!tsearch(copy, &n->extents, compare_extents)) {
        free(copy);
        return -ENOMEM;
    }
    n->extent_count++;
    t->bytes += sizeof(*copy) + 4 * sizeof(void *);
    return 0;
}

static int apply_extent(struct snap_table *t, const struct snap_record *r) {
    struct snap_node *n = snap_node(t, r->id);
    uint64_t from, to;

    if (!n || n->made || n->type != DT_REG) {
        return -HFE_CORRUPT;
    }
    while (snap_gap(n, r->off, r->off + r->len, &from, &to)) { /* what is kept already counts */
        int err = table_add_extent(t, n,
                                   &(struct snap_extent){.off = from,
                                                         .len = to - from,
                                                         .kind = r->kind,
                                                         .where = r->where,
                                                         .whole_off = r->off,
                                                         .whole_len = r->len,
                                                         .whole_where = r->where_off,
                                                         .sum = r->sum});

        if (err < 0) {
            return err;
        }
    }
    return 0;
}

static int apply_nothing(struct snap_table *t, const struct snap_record *r) {
    (void)t;
    (void)r;
    return 0;
}

static int (*const apply[SNAP_LAST + 1])(struct snap_table *, const struct snap_record *) = {
    [SNAP_NODE] = apply_node,      [SNAP_ALSO] = apply_node,      [SNAP_MADE] = apply_node,
    [SNAP_LINK] = apply_link,      [SNAP_GONE] = apply_gone,      [SNAP_MOVE] = apply_move,
    [SNAP_SWAP] = apply_swap,      [SNAP_ATTR] = apply_attr,      [SNAP_DATA] = apply_extent,
    [SNAP_ZERO] = apply_extent,    [SNAP_FILE] = apply_extent,    [SNAP_DONE] = apply_nothing,
    [SNAP_NOT] = apply_nothing,    [SNAP_SYNCED] = apply_nothing, [SNAP_BROKEN] = apply_nothing,
    [SNAP_MERGED] = apply_nothing, [SNAP_DROPPED] = apply_extent,
};

int snap_table_apply(struct snap_table *t, const struct snap_record *r) {
    return apply[r->kind](t, r);
}

int snap_table_undo(struct snap_table *t, const struct snap_record *r, uint32_t replaced) {
    struct snap_record back = *r;
    struct snap_node *n;
    int err;

    switch (r->kind) {
    case SNAP_MADE:
    case SNAP_LINK:
        back.kind = SNAP_GONE;
        break;
    case SNAP_GONE:
        back.kind = SNAP_LINK;
        break;
    case SNAP_MOVE:
        back.parent = r->parent2;
        back.parent2 = r->parent;
        back.name = r->name2;
        back.name2 = r->name;
        back.name_bytes = r->name2_bytes;
        back.name2_bytes = r->name_bytes;
        break;
    default:
        break; /* SWAP undoes itself */
    }
    err = apply[back.kind](t, &back);
    if (err == 0 && r->kind == SNAP_MOVE && replaced != 0) {
        back.kind = SNAP_LINK;
        back.id = replaced;
        err = apply_link(t, &back);
    }
    n = snap_node(t, r->id);
    if (err == 0 && r->kind == SNAP_MADE && n) {
        snap_table_drop_unused(t, n);
    }
    return err;
}

uint64_t snap_kept_number(const char *name) {
    unsigned long long number;
    char *end;

    name += snap_is_anchor(name);
    if (name[0] < '1' || name[0] > '9') {
        return 0;
    }
    errno = 0;
    number = strtoull(name, &end, 10);
    return errno == 0 && !*end ? number : 0;
}
