/* Two epochs as one. The later table's OLD names are names at the end of the earlier one: that is
 * how its objects are found there. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/error.h"
#include "snap/table_int.h"

/* A kept file that the later epoch refers to. */
struct kept {
    uint64_t number; /* key */
    bool needed;
    UT_hash_handle hh;
};

struct composing {
    struct snap_table *a, *b;
    const struct snap_compose *told;
    struct snap_node **map; /* of a, by ids of b */
    struct kept *kept;
};

static int emit(struct composing *c, const struct snap_record *r) {
    int err = c->told->record ? c->told->record(c->told->arg, r) : 0;

    return err < 0 ? err : snap_table_apply(c->a, r);
}

static struct snap_record name_record(enum snap_kind kind, const struct snap_node *node,
                                      const struct snap_node *parent,
                                      const struct snap_name *name) {
    return (struct snap_record){.kind = kind,
                                .id = node->id,
                                .type = node->type,
                                .parent = parent->id,
                                .name = name->text,
                                .name_bytes = name->len};
}

static struct snap_name *in_a(const struct composing *c, enum snap_side side,
                              const struct snap_name *n) {
    return snap_name(c->a, side, c->map[n->parent->id], n->text, n->len);
}

/* A further or only OLD name of b's node, which `a` did not know as yet: the node `m` has it, or is
 * made for it. */
static int know_name(struct composing *c, const struct snap_node *b, const struct snap_name *n,
                     struct snap_node **m) {
    const struct snap_node *parent = c->map[n->parent->id];
    struct snap_record r = {.id = *m ? (*m)->id : snap_table_next_id(c->a),
                            .type = b->type,
                            .parent = parent->id,
                            .name = n->text,
                            .name_bytes = n->len};
    int err;

    if (*m) {
        r.kind = (*m)->made || parent->made ? SNAP_LINK : SNAP_ALSO;
    } else {
        r.kind = parent->made ? SNAP_MADE : SNAP_NODE;
    }
    err = emit(c, &r);
    *m = err < 0 ? *m : snap_node(c->a, r.id);
    return err;
}

/* By a name in a folder that is mapped; there is one, as a node is told after its folder. Further
 * names may lie in folders that were told later. */
static int map_old(void *arg, struct snap_node *b) {
    const struct snap_name *first = NULL;
    struct composing *c = arg;
    struct snap_node *m = NULL;

    if (b->made || b->id <= SNAP_KEPT) {
        return 0;
    }
    for (const struct snap_name *n = b->names[SNAP_OLD]; n && !m; n = n->next) {
        if (c->map[n->parent->id]) {
            struct snap_name *found = in_a(c, SNAP_LIVE, n);

            first = n;
            m = found ? found->node : NULL;
        }
    }
    if (!m) {
        int err = first ? know_name(c, b, first, &m) : -HFE_CORRUPT;

        if (err < 0) {
            return err;
        }
    }
    c->map[b->id] = m;
    return m ? 0 : -HFE_CORRUPT;
}

static int know_old_names(void *arg, struct snap_node *b) {
    struct composing *c = arg;
    int err = 0;

    for (const struct snap_name *n = b->names[SNAP_OLD]; n && err == 0; n = n->next) {
        if (!c->map[n->parent->id]) {
            return -HFE_CORRUPT;
        }
        err = in_a(c, SNAP_LIVE, n) ? 0 : know_name(c, b, n, &c->map[b->id]);
    }
    return err;
}

static bool unchanged(const struct composing *c, const struct snap_name *n) {
    enum snap_side other = n->side == SNAP_OLD ? SNAP_LIVE : SNAP_OLD;
    const struct snap_name *there = snap_name(c->b, other, n->parent, n->text, n->len);

    return there && there->node == n->node;
}

static int drop_names(void *arg, struct snap_node *b) {
    struct composing *c = arg;
    int err = 0;

    for (const struct snap_name *n = b->names[SNAP_OLD]; n && err == 0; n = n->next) {
        struct snap_name *there = unchanged(c, n) ? NULL : in_a(c, SNAP_LIVE, n);

        if (there) {
            struct snap_record r = name_record(SNAP_GONE, there->node, there->parent, there);

            err = emit(c, &r);
        }
    }
    return err;
}

static int map_made(void *arg, struct snap_node *b) {
    struct composing *c = arg;
    struct snap_record r = {
        .kind = SNAP_MADE, .id = snap_table_next_id(c->a), .type = b->type, .name = ""};
    int err = b->made ? emit(c, &r) : 0;

    if (b->made && err == 0) {
        c->map[b->id] = snap_node(c->a, r.id);
    }
    return err;
}

static int refer(struct composing *c, uint64_t number, bool needed) {
    struct kept *k;

    HASH_FIND(hh, c->kept, &number, sizeof(number), k);
    if (!k) {
        k = calloc(1, sizeof(*k));
        if (!k) {
            return -ENOMEM;
        }
        k->number = number;
        HASH_ADD(hh, c->kept, number, sizeof(k->number), k);
    }
    k->needed = k->needed || needed;
    return 0;
}

static int add_names(void *arg, struct snap_node *b) {
    struct composing *c = arg;
    struct snap_node *m = c->map[b->id];
    int err = 0;

    for (const struct snap_name *n = b->names[SNAP_LIVE]; n && err == 0; n = n->next) {
        const struct snap_node *parent = c->map[n->parent->id];
        struct snap_record r = name_record(SNAP_LINK, m, parent, n);
        bool needed = true;

        if (unchanged(c, n)) {
            continue;
        }
        if (parent->id == SNAP_KEPT) {
            needed = !m->made && !(c->told->drops && !snap_is_anchor(n->text));
            err = refer(c, snap_kept_number(n->text), needed);
        }
        if (err == 0 && needed) {
            err = emit(c, &r);
        }
    }
    return err;
}

/* The parts of `e` that the earlier epoch needs. */
static int add_parts(struct composing *c, struct snap_node *m, const struct snap_extent *e,
                     uint64_t end) {
    uint64_t from = e->off, to;
    int err = 0;

    if (e->kind == SNAP_FILE) {
        err = refer(c, e->where, false);
    }
    while (err == 0 && !m->made && snap_gap(m, from, end, &from, &to)) {
        struct snap_extent part = *e;

        part.off = from;
        part.len = to - from;
        err = c->told->extent ? c->told->extent(c->told->arg, m, &part) : 0;
        err = err < 0 ? err : table_add_extent(c->a, m, &part);
        if (err == 0 && part.kind == SNAP_FILE) {
            err = refer(c, e->where, true);
        }
        from = to;
    }
    return err;
}

static int add_content(void *arg, struct snap_node *b) {
    struct composing *c = arg;
    struct snap_node *m = c->map[b->id];
    const struct snap_extent *e;
    uint64_t size =
        m->attr && S_ISREG(m->attr->st.st_mode) ? (uint64_t)m->attr->st.st_size : INT64_MAX;
    int err = 0;

    for (uint64_t at = 0; err == 0 && (e = snap_extent(b, at, INT64_MAX)); at = e->off + e->len) {
        err = add_parts(c, m, e, e->off + e->len < size ? e->off + e->len : size);
    }
    if (err == 0 && !m->made && !m->attr && b->attr) {
        struct snap_record r = {.kind = SNAP_ATTR, .id = m->id, .attr = *b->attr, .name = ""};

        err = emit(c, &r);
    }
    if (err == 0 && c->told->drops && m->type == DT_REG && !m->names[SNAP_LIVE] && m->attr) {
        size = (uint64_t)m->attr->st.st_size; /* no name is left by which its bytes were found */
        err = add_parts(c, m, &(struct snap_extent){.kind = SNAP_DROPPED}, size);
    }
    return err;
}

int snap_table_compose(struct snap_table *a, struct snap_table *b,
                       const struct snap_compose *told) {
    static int (*const steps[])(void *, struct snap_node *) = {
        map_old, know_old_names, drop_names, map_made, add_names, add_content};
    struct composing c = {.a = a, .b = b, .told = told, .map = calloc(b->next_id, sizeof(void *))};
    struct kept *k, *next;
    int err = c.map ? 0 : -ENOMEM;

    if (c.map) {
        c.map[SNAP_ROOT] = snap_node(a, SNAP_ROOT);
        c.map[SNAP_KEPT] = snap_node(a, SNAP_KEPT);
    }
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && err == 0; i++) {
        err = snap_table_each(b, steps[i], &c);
    }
    HASH_ITER(hh, c.kept, k, next) {
        HASH_DEL(c.kept, k);
        if (err == 0 && !k->needed && told->unneeded) {
            told->unneeded(told->arg, k->number);
        }
        free(k);
    }
    free(c.map);
    if (err == 0) {
        snap_table_drop_all_unused(a);
    }
    return err;
}
