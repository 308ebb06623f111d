#include "journal/view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/grow.h"
#include "journal/journal.h"

/* One object may have had several numbers. */
struct view_number {
    struct view_number *bucket_next;
    uint64_t number;
    struct view_node *node;
};

struct view *view_new(const struct id *volume, int slot) {
    struct view *v = calloc(1, sizeof(*v));

    if (!v) {
        return NULL;
    }
    v->volume = *volume;
    v->slot = slot;
    v->round = 1;
    v->name_buckets = v->number_buckets = 1024;
    v->names = calloc(v->name_buckets, sizeof(struct view_name *));
    v->numbers = calloc(v->number_buckets, sizeof(struct view_number *));
    v->marked_end = &v->marked;
    v->nodes_end = &v->nodes;
    if (!v->names || !v->numbers) {
        view_free(v);
        return NULL;
    }
    return v;
}

void view_free(struct view *v) {
    if (!v) {
        return;
    }
    for (uint64_t i = 0; v->names && i < v->name_buckets; i++) {
        for (struct view_name *n = v->names[i], *next; n; n = next) {
            next = n->bucket_next;
            free(n);
        }
    }
    for (uint64_t i = 0; v->numbers && i < v->number_buckets; i++) {
        for (struct view_number *n = v->numbers[i], *next; n; n = next) {
            next = n->bucket_next;
            free(n);
        }
    }
    for (struct view_node *n = v->nodes, *next; n; n = next) {
        next = n->next;
        free(n->place);
        free(n->range);
        free(n);
    }
    free(v->names);
    free(v->numbers);
    free(v);
}

/* --- tables --- */

static uint64_t number_hash(uint64_t number) {
    uint64_t h = number * UINT64_C(0x9E3779B97F4A7C15);

    return h ^ h >> 32;
}

static uint32_t name_hash(uint64_t parent, const char *text) {
    return (uint32_t)XXH3_64bits_withSeed(text, strlen(text), parent);
}

static void grow_names(struct view *v) {
    uint64_t buckets = v->name_buckets * 4;
    struct view_name **bigger = calloc(buckets, sizeof(*bigger));

    for (uint64_t i = 0; bigger && i < v->name_buckets; i++) {
        for (struct view_name *n = v->names[i], *next; n; n = next) {
            struct view_name **b = &bigger[n->hash & (buckets - 1)];

            next = n->bucket_next;
            n->bucket_next = *b;
            *b = n;
        }
    }
    if (bigger) { /* else longer chains will do */
        free(v->names);
        v->names = bigger;
        v->name_buckets = buckets;
    }
}

static void grow_numbers(struct view *v) {
    uint64_t buckets = v->number_buckets * 4;
    struct view_number **bigger = calloc(buckets, sizeof(*bigger));

    for (uint64_t i = 0; bigger && i < v->number_buckets; i++) {
        for (struct view_number *n = v->numbers[i], *next; n; n = next) {
            struct view_number **b = &bigger[number_hash(n->number) & (buckets - 1)];

            next = n->bucket_next;
            n->bucket_next = *b;
            *b = n;
        }
    }
    if (bigger) {
        free(v->numbers);
        v->numbers = bigger;
        v->number_buckets = buckets;
    }
}

struct view_node *view_find(const struct view *v, uint64_t number) {
    const struct view_number *n = v->numbers[number_hash(number) & (v->number_buckets - 1)];

    while (n && n->number != number) {
        n = n->bucket_next;
    }
    return n ? n->node : NULL;
}

static int add_number(struct view *v, uint64_t number, struct view_node *node) {
    struct view_number *n = calloc(1, sizeof(*n)), **b;

    if (!n) {
        return -ENOMEM;
    }
    if (v->number_count++ >= v->number_buckets) {
        grow_numbers(v);
    }
    n->number = number;
    n->node = node;
    b = &v->numbers[number_hash(number) & (v->number_buckets - 1)];
    n->bucket_next = *b;
    *b = n;
    return 0;
}

/* The one number that stands for a folder, whatever number a frame gave it. */
static uint64_t resolved(const struct view *v, uint64_t number) {
    const struct view_node *n = view_find(v, number);

    return n ? n->number : number;
}

struct view_name *view_name_at(const struct view *v, uint64_t parent, const char *text) {
    uint32_t hash;
    struct view_name *n;

    parent = resolved(v, parent);
    hash = name_hash(parent, text);
    n = v->names[hash & (v->name_buckets - 1)];
    while (n && !(n->hash == hash && n->parent == parent && strcmp(n->text, text) == 0)) {
        n = n->bucket_next;
    }
    return n;
}

static struct view_name *name_of(struct view *v, uint64_t parent, const char *text) {
    struct view_name *n = view_name_at(v, parent, text), **b;
    size_t len = strlen(text);

    if (n) {
        return n;
    }
    n = calloc(1, sizeof(*n) + len + 1);
    if (!n) {
        return NULL;
    }
    if (v->name_count++ >= v->name_buckets) {
        grow_names(v);
    }
    n->parent = resolved(v, parent);
    n->hash = name_hash(n->parent, text);
    memcpy(n->text, text, len + 1);
    b = &v->names[n->hash & (v->name_buckets - 1)];
    n->bucket_next = *b;
    *b = n;
    return n;
}

/* --- frames --- */

static void mark_name(struct view *v, struct view_name *n) {
    n->ever = true;
    if (!n->marked && !v->no_names) {
        n->marked = true;
        n->marked_next = NULL;
        *v->marked_end = n;
        v->marked_end = &n->marked_next;
        v->marked_count++;
    }
}

static int add_place(struct view_node *node, struct view_name *name) {
    struct view_name **more;

    for (unsigned i = 0; i < node->places; i++) {
        if (node->place[i] == name) {
            return 0;
        }
    }
    more = realloc(node->place, (node->places + 1) * sizeof(struct view_name *));
    if (!more) {
        return -ENOMEM;
    }
    node->place = more;
    node->place[node->places++] = name;
    return 0;
}

/* Do the inodes disagree on no member? */
static bool may_be_same(const struct view_node *n, const struct journal_frame *f) {
    uint32_t both = n->peers & f->peers;

    if (n->type != f->type) {
        return false;
    }
    for (unsigned i = 0; i < JOURNAL_PEERS_MAX; i++) {
        if ((both >> i & 1) && n->ino[i] != f->ino[i]) {
            return false;
        }
    }
    return true;
}

/* And agree on some? */
static bool same_file(const struct view_node *n, const struct journal_frame *f) {
    return (n->peers & f->peers) != 0 && may_be_same(n, f);
}

void view_is_ino(struct view *v, struct view_node *n, unsigned slot, uint64_t ino) {
    n->ino[slot] = ino;
    n->peers |= 1u << slot;
    if (v->slot < 0 || (unsigned)v->slot == slot) {
        n->older = false;
        n->told = ++v->told;
    }
}

static void learn_inodes(struct view *v, struct view_node *n, const struct journal_frame *f) {
    for (unsigned i = 0; i < JOURNAL_PEERS_MAX; i++) {
        if (f->peers >> i & 1) {
            view_is_ino(v, n, i, f->ino[i]);
        }
    }
    n->linked = n->linked || f->linked;
}

static struct view_node *new_node(struct view *v, const struct journal_frame *f,
                                  const struct view_name *at) {
    const struct view_node *folder = view_find(v, f->parent);
    struct view_node *n = calloc(1, sizeof(*n));

    if (!n) {
        return NULL;
    }
    n->number = f->number;
    n->type = f->type;
    n->born = f->time_s == 1;
    n->tail = UINT64_MAX;
    n->trusted =
        !n->born && !at->ever &&
        (f->parent == JOURNAL_ROOT || f->parent == JOURNAL_SNAPS || (folder && folder->trusted));
    *v->nodes_end = n;
    v->nodes_end = &n->next;
    v->node_count++;
    return n;
}

/* The later one: the inode of a file that is gone is given again. */
static struct view_node *last_same(const struct view *v, const struct journal_frame *f) {
    struct view_node *last = NULL;

    for (struct view_node *n = v->nodes; n; n = n->next) {
        last = same_file(n, f) ? n : last;
    }
    return last;
}

/* The object that the log has at this name, if the frame is about that one: all changes of names are told, so it is
 * unless inodes disagree. If those that were asked then are not those that are asked now, it is compared as a
 * whole: with the daemon a change of names may have died that was told. */
static struct view_node *same_name(const struct view *v, const struct view_name *at,
                                   const struct journal_frame *f) {
    struct view_node *n = at->node;

    if (!n || (f->time_s == 1 && !n->born) || !may_be_same(n, f)) {
        return NULL;
    }
    if (same_file(n, f)) {
        return n;
    }
    if (v->broken) {
        return NULL;
    }
    if (n->peers || f->peers) {
        n->trusted = false;
        n->peers = 0;
    }
    return n;
}

static int add_bind(struct view *v, const struct journal_frame *f) {
    struct view_name *at = name_of(v, f->parent, f->name);
    struct view_node *n = view_find(v, f->number);
    int err = 0;

    if (!at) {
        return -ENOMEM;
    }
    if (!n) {
        n = same_name(v, at, f);
        if (!n && f->linked && f->time_s != 1) {
            n = last_same(v, f);
        }
        n = n ? n : new_node(v, f, at);
        err = n ? add_number(v, f->number, n) : -ENOMEM;
        if (err < 0) {
            return err;
        }
    }
    learn_inodes(v, n, f);
    at->node = n;
    return add_place(n, at);
}

static void doubt_one(struct view *v, struct view_node *n) {
    n->doubted = n->type == DT_DIR;
    n->tail = n->doubted ? n->tail : 0;
    n->attr = true;
    v->mark_count++;
}

/* A name changed while things were made equal by their names, in the round before: what was taken for the
 * node then may have been another's. It is compared as a whole. Where a folder was looked for, another one may
 * have been: all that is in it is compared, too. */
static void doubt(struct view *v, struct view_node *n) {
    if (v->by_name && n && n->type == DT_DIR) {
        v->folder_moves++;
    }
    if (!v->by_name || v->no_names || !n || v->round == 1) {
        return;
    }
    if (n->type == DT_DIR || (n->worked != 0 && n->worked + 1 >= v->round)) {
        doubt_one(v, n);
    }
}

static int add_name(struct view *v, const struct journal_frame *f) {
    struct view_name *at = name_of(v, f->parent, f->name);

    if (!at) {
        return -ENOMEM;
    }
    mark_name(v, at);
    if (at->node && at->node->type != DT_DIR) { /* a folder is empty when it goes */
        doubt(v, at->node);
    }
    at->node = NULL;
    return 0;
}

static int add_move(struct view *v, const struct journal_frame *f) {
    struct view_name *from = name_of(v, f->parent, f->name), *to = name_of(v, f->parent2, f->name2);
    struct view_node *n = view_find(v, f->number);

    if (!from || !to) {
        return -ENOMEM;
    }
    mark_name(v, from);
    mark_name(v, to);
    doubt(v, n);
    doubt(v, to->node);
    if (from->node == n) { /* the first half of an exchange may have put another there */
        from->node = NULL;
    }
    to->node = n;
    return n ? add_place(n, to) : 0;
}

static int add_data(struct view *v, const struct journal_frame *f) {
    struct view_node *n = view_find(v, f->number);
    struct view_range *last, *more;

    if (!n || v->no_marks) {
        return 0; /* bound before this stretch of the log: then it is told anew, or was made since
                   */
    }
    v->mark_count++;
    if (f->len == 0) {
        n->tail = f->off < n->tail ? f->off : n->tail;
        return 0;
    }
    last = n->ranges > 0 ? &n->range[n->ranges - 1] : NULL;
    if (last && f->off <= last->off + last->len && f->off >= last->off) {
        if (f->off + f->len > last->off + last->len) {
            last->len = f->off + f->len - last->off;
        }
        return 0;
    }
    more = grow_by_one(n->range, n->ranges, sizeof(*more));
    if (!more) {
        return -ENOMEM;
    }
    n->range = more;
    n->range[n->ranges++] = (struct view_range){f->off, f->len};
    return 0;
}

/* The member leaves. It had part in what was told so far, at the last perhaps not in all of it. If it left
 * before, too, and came back, its files may be others since: only those count that were told again. */
static void leave(struct view *v) {
    v->left = true;
    for (struct view_node *n = v->nodes; n; n = n->next) {
        n->astray = n->astray || (n->places > 0 && n->place[0]->ever);
        n->peers &= n->older ? ~(1u << v->slot) : UINT32_MAX;
        n->older = n->peers >> v->slot & 1;
    }
}

int view_add(struct view *v, const struct journal_frame *f) {
    struct view_node *n;

    switch (f->kind) {
    case JOURNAL_BIND:
        return add_bind(v, f);
    case JOURNAL_NAME:
        return add_name(v, f);
    case JOURNAL_MOVE:
        return add_move(v, f);
    case JOURNAL_HOT:
        return v->left ? 0 : add_data(v, f);
    case JOURNAL_DATA:
        return add_data(v, f);
    case JOURNAL_ATTR:
        n = view_find(v, f->number);
        if (n && !v->no_marks) {
            n->attr = true;
            v->mark_count++;
        }
        return 0;
    case JOURNAL_PEER:
        n = view_find(v, f->number);
        if (n) { /* the last one counts: a catch-up may have made it more than once */
            view_is_ino(v, n, f->slot, f->ino[0]);
        }
        return 0;
    case JOURNAL_CHECKPOINT:
        v->checkpoint_time_s = f->time_s;
        return 0;
    case JOURNAL_BREAK:
        if (!v->broken) {
            v->broken = true;
            v->break_time_s = v->checkpoint_time_s;
        }
        return 0;
    case JOURNAL_LEAVE:
        if ((int)f->slot == v->slot) {
            leave(v);
        }
        return 0;
    }
    return 0;
}

void view_is_lost(struct view_node *node) {
    node->placed++;
    if (node->at) {
        node->at->holds = NULL;
        node->at = NULL;
    }
}

int view_place(struct view *v, struct view_node *node, uint64_t parent, const char *text) {
    struct view_name *n = name_of(v, parent, text);

    if (!n) {
        return -ENOMEM;
    }
    if (n->holds) {
        view_is_lost(n->holds);
    }
    if (!node) {
        return 0;
    }
    view_is_lost(node);
    node->at = n;
    n->holds = node;
    return add_place(node, n);
}

void view_forget_inodes(struct view *v, unsigned slot) {
    for (struct view_node *n = v->nodes; n; n = n->next) {
        n->peers &= ~(1u << slot);
    }
}

bool view_is_somewhere(const struct view_node *node) {
    for (unsigned i = 0; i < node->places; i++) {
        if (node->place[i]->node == node) {
            return true;
        }
    }
    return false;
}

void view_is_nowhere(struct view_node *node) {
    for (unsigned i = 0; i < node->places; i++) {
        if (node->place[i]->node == node) {
            node->place[i]->node = NULL;
        }
    }
}

/* All names but those that could not be dealt with. */
static void forget_names(struct view *v) {
    struct view_name *n = v->marked, *next;

    v->marked = NULL;
    v->marked_end = &v->marked;
    v->marked_count = 0;
    for (; n; n = next) {
        bool again = n->again;

        next = n->marked_next;
        n->marked = n->times_only = n->again = false;
        n->missed = n->missed && again;
        if (again) {
            mark_name(v, n);
        }
    }
}

/* The name may differ after all. */
static int mark_anew(struct view *v, uint64_t parent, const char *text) {
    struct view_name *at = name_of(v, parent, text);

    if (!at) {
        return -ENOMEM;
    }
    mark_name(v, at);
    at->done = 0;
    at->times_only = false;
    return 0;
}

int view_mark_again(struct view *v, const struct journal_frame *f) {
    struct view_node *n = view_find(v, f->number);
    int err = 0;

    if (n) {
        n->times_only = false;
    }
    if (f->kind != JOURNAL_NAME && f->kind != JOURNAL_MOVE) {
        return view_add(v, f);
    }
    err = mark_anew(v, f->parent, f->name);
    return err == 0 && f->kind == JOURNAL_MOVE ? mark_anew(v, f->parent2, f->name2) : err;
}

void view_clear_marks(struct view *v) {
    forget_names(v);
    v->round++;
    v->mark_count = 0;
    for (struct view_node *n = v->nodes; n; n = n->next) {
        if (!n->again) {
            n->ranges = 0;
            n->tail = UINT64_MAX;
            n->attr = n->doubted = false;
            free(n->range);
            n->range = NULL;
        }
        n->missed = n->missed && n->again;
        n->again = false;
    }
}
