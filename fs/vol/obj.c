#include "vol/obj.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    BUCKETS_MIN = 1024,
    TRIM_COUNT = 10000, /* objects that went before memory is handed back to the kernel */
};

struct obj_bind {
    struct obj_bind *bucket_next, *next;
    struct obj *obj;
    uint64_t store_ino;
    uint8_t from;
};

enum {
    NTH_MAX = 7,        /* three bits: an eighth shares its number */
    BIND_BUCKETS = 4096 /* objects with several names are few; more only makes chains longer */
};

struct obj_table {
    pthread_mutex_t mutex;
    struct obj root;   /* id and store_ino constant */
    uint32_t unstable; /* bit per store; guarded by mutex once objects are entered */
    /* guarded by mutex */
    struct obj *strays; /* whose inode number was given again: known, but not found by it */
    struct obj **objs;
    struct obj_bind *binds[BIND_BUCKETS];
    struct obj_name **names;
    uint64_t buckets; /* of each of the two; a power of two */
    uint64_t count, name_count, next_id, freed_since_trim;
    /* constant */
    void (*on_free)(void *arg, struct obj *obj);
    void *on_free_arg;
};

static uint64_t ino_hash(uint64_t ino, uint8_t from) {
    return (ino ^ (uint64_t)from << 56) * UINT64_C(0x9E3779B97F4A7C15) >> 20;
}

uint32_t obj_hash(const struct obj *parent, const char *name, size_t len) {
    return (uint32_t)XXH3_64bits_withSeed(name, len, parent->id);
}

uint64_t obj_number(const struct obj *obj) {
    static_assert(STORES_MAX <= 8, "three bits say which store");
    return obj->store_ino ^ (uint64_t)obj->from << 56 ^ (uint64_t)obj->nth << 59;
}

int obj_table_new(uint64_t root_ino, uint8_t from, struct obj_table **ret_table) {
    struct obj_table *t = calloc(1, sizeof(*t));

    if (!t) {
        return -ENOMEM;
    }
    t->buckets = BUCKETS_MIN;
    t->objs = calloc(t->buckets, sizeof(*t->objs));
    t->names = calloc(t->buckets, sizeof(*t->names));
    if (!t->objs || !t->names) {
        free(t->objs);
        free(t->names);
        free(t);
        return -ENOMEM;
    }
    pthread_mutex_init(&t->mutex, NULL);
    t->root =
        (struct obj){.id = 1, .store_ino = root_ino, .nlookup = 1, .from = from, .type = DT_DIR};
    t->objs[ino_hash(root_ino, from) & (t->buckets - 1)] = &t->root;
    t->count = 1;
    t->next_id = 2;
    *ret_table = t;
    return 0;
}

void obj_table_on_free(struct obj_table *t, void (*fn)(void *arg, struct obj *obj), void *arg) {
    t->on_free = fn;
    t->on_free_arg = arg;
}

static void free_obj(struct obj_table *t, struct obj *o) {
    if (t->on_free) {
        t->on_free(t->on_free_arg, o);
    }
    free(o->last);
    free(o);
}

void obj_table_free(struct obj_table *t) {
    if (!t) {
        return;
    }
    for (uint64_t i = 0; i < BIND_BUCKETS; i++) {
        for (struct obj_bind *b = t->binds[i], *next; b; b = next) {
            next = b->bucket_next;
            free(b);
        }
    }
    while (t->strays) {
        struct obj *o = t->strays;

        t->strays = o->bucket_next;
        free_obj(t, o);
    }
    for (uint64_t i = 0; i < t->buckets; i++) {
        for (struct obj *o = t->objs[i], *next; o; o = next) {
            next = o->bucket_next;
            if (o != &t->root) {
                free_obj(t, o);
            }
        }
        for (struct obj_name *n = t->names[i], *next; n; n = next) {
            next = n->bucket_next;
            free(n);
        }
    }
    free(t->objs);
    free(t->names);
    pthread_mutex_destroy(&t->mutex);
    free(t);
}

void obj_table_unstable(struct obj_table *t, uint8_t from) {
    t->unstable |= 1u << from;
}

struct obj *obj_root(struct obj_table *t) {
    return &t->root;
}

static void resize_locked(struct obj_table *t, uint64_t buckets) {
    struct obj **objs = calloc(buckets, sizeof(*objs));
    struct obj_name **names = calloc(buckets, sizeof(*names));

    if (!objs || !names) { /* longer chains until memory is there again */
        free(objs);
        free(names);
        return;
    }
    for (uint64_t i = 0; i < t->buckets; i++) {
        for (struct obj *o = t->objs[i], *next; o; o = next) {
            struct obj **b = &objs[ino_hash(o->store_ino, o->from) & (buckets - 1)];

            next = o->bucket_next;
            o->bucket_next = *b;
            *b = o;
        }
        for (struct obj_name *n = t->names[i], *next; n; n = next) {
            struct obj_name **b = &names[n->hash & (buckets - 1)];

            next = n->bucket_next;
            n->bucket_next = *b;
            *b = n;
        }
    }
    free(t->objs);
    free(t->names);
    t->objs = objs;
    t->names = names;
    t->buckets = buckets;
}

static struct obj_name **name_slot_locked(struct obj_table *t, const struct obj *parent,
                                          const char *name) {
    size_t len = strlen(name);
    uint32_t hash = obj_hash(parent, name, len);
    struct obj_name **at = &t->names[hash & (t->buckets - 1)];

    while (*at && !((*at)->hash == hash && (*at)->parent == parent && (*at)->len == len &&
                    memcmp((*at)->text, name, len) == 0)) {
        at = &(*at)->bucket_next;
    }
    return at;
}

static struct obj *by_ino_locked(struct obj_table *t, uint64_t ino, uint8_t from) {
    struct obj *o = t->objs[ino_hash(ino, from) & (t->buckets - 1)];

    while (o && !(o->store_ino == ino && o->from == from && !(o->flags & OBJ_STRANGE))) {
        o = o->bucket_next;
    }
    if (!o) {
        struct obj_bind *b = t->binds[ino_hash(ino, from) % BIND_BUCKETS];

        while (b && !(b->store_ino == ino && b->from == from)) {
            b = b->bucket_next;
        }
        o = b ? b->obj : NULL;
    }
    return o;
}

static void unbind_locked(struct obj_table *t, struct obj *obj) {
    while (obj->binds) {
        struct obj_bind *b = obj->binds,
                        **at = &t->binds[ino_hash(b->store_ino, b->from) % BIND_BUCKETS];

        while (*at != b) {
            at = &(*at)->bucket_next;
        }
        *at = b->bucket_next;
        obj->binds = b->next;
        free(b);
    }
}

static void unhash_obj_locked(struct obj_table *t, struct obj *obj) {
    struct obj **at = &t->objs[ino_hash(obj->store_ino, obj->from) & (t->buckets - 1)];

    while (*at && *at != obj) {
        at = &(*at)->bucket_next;
    }
    if (!*at) {
        for (at = &t->strays; *at && *at != obj;) {
            at = &(*at)->bucket_next;
        }
    }
    if (*at) {
        *at = obj->bucket_next;
    }
    unbind_locked(t, obj);
}

/* Takes the name in `slot` out of the table and off its object. Its pin on the folder stays. */
static struct obj_name *unlink_name_locked(struct obj_table *t, struct obj_name **slot) {
    struct obj_name *n = *slot, **at = &n->obj->names;

    *slot = n->bucket_next;
    t->name_count--;
    while (*at != n) {
        at = &(*at)->next;
    }
    *at = n->next;
    return n;
}

static void link_name_locked(struct obj_table *t, struct obj_name *n, struct obj *obj) {
    struct obj_name **b = &t->names[n->hash & (t->buckets - 1)];

    n->obj = obj;
    n->next = obj->names;
    obj->names = n;
    n->bucket_next = *b;
    *b = n;
    t->name_count++;
}

/* Frees the object if nobody counts it, and then the folders that only it kept. */
static void drop_unused_locked(struct obj_table *t, struct obj *obj) {
    while (obj && obj != &t->root && obj->nlookup == 0 && obj->pins == 0 && obj->nopen == 0) {
        struct obj *parent = NULL;

        while (obj->names) {
            struct obj_name *n = obj->names;

            n = unlink_name_locked(t, name_slot_locked(t, n->parent, n->text));
            n->parent->pins--;
            if (obj->names) {
                drop_unused_locked(t, n->parent); /* a further name: depth is bounded by folders */
            } else {
                parent = n->parent;
            }
            free(n);
        }
        unhash_obj_locked(t, obj);
        free_obj(t, obj);
        t->count--;
        t->freed_since_trim++;
        obj = parent;
    }
}

void obj_table_trim(struct obj_table *t) {
    bool trim;

    pthread_mutex_lock(&t->mutex);
    trim = t->freed_since_trim > TRIM_COUNT && t->count < t->freed_since_trim / 4;
    if (trim) {
        uint64_t want = BUCKETS_MIN;

        while (want < t->count) {
            want *= 2;
        }
        if (want < t->buckets) {
            resize_locked(t, want);
        }
        t->freed_since_trim = 0;
    }
    pthread_mutex_unlock(&t->mutex);
    if (trim) {
        (void)malloc_trim(0); /* whether there was anything to give back does not matter */
    }
}

static struct obj_name *name_new(struct obj *parent, const char *name) {
    size_t len = strlen(name);
    struct obj_name *n = malloc(sizeof(*n) + len + 1);

    assert(len > 0 && len < NAME_BYTES);
    if (n) {
        *n = (struct obj_name){
            .parent = parent, .hash = obj_hash(parent, name, len), .len = (uint8_t)len};
        memcpy(n->text, name, len + 1);
    }
    return n;
}

static int add_name_locked(struct obj_table *t, struct obj *obj, struct obj *parent,
                           const char *name) {
    struct obj_name *n = name_new(parent, name);

    if (!n) {
        return -ENOMEM;
    }
    parent->pins++;
    link_name_locked(t, n, obj);
    if (t->count > t->buckets || t->name_count > t->buckets) {
        resize_locked(t, t->buckets * 2);
    }
    return 0;
}

static void remove_name_locked(struct obj_table *t, struct obj_name **slot) {
    struct obj_name *n = unlink_name_locked(t, slot);
    struct obj *obj = n->obj, *parent = n->parent;

    free(n);
    parent->pins--;
    drop_unused_locked(t, obj);
    drop_unused_locked(t, parent);
}

/* Which of the numbers that this inode gives no strange object has. (Where inodes say nothing, names of
 * one file are objects of their own, and share one.) */
static uint8_t nth_locked(const struct obj_table *t, uint64_t ino, uint8_t from) {
    unsigned taken = 0;
    uint8_t nth = 0;

    for (const struct obj *o = t->objs[ino_hash(ino, from) & (t->buckets - 1)]; o;
         o = o->bucket_next) {
        if (o->store_ino == ino && o->from == from && (o->flags & OBJ_STRANGE)) {
            taken |= 1U << o->nth;
        }
    }
    while (nth < NTH_MAX && (taken >> nth & 1)) {
        nth++;
    }
    return t->unstable >> from & 1 ? 0 : nth;
}

static struct obj *make_locked(struct obj_table *t, uint8_t from, const struct stat *st) {
    struct obj *o = calloc(1, sizeof(*o));
    struct obj **b;

    if (!o) {
        return NULL;
    }
    o->id = t->next_id++;
    o->store_ino = st->st_ino;
    o->from = from;
    o->type = (uint8_t)IFTODT(st->st_mode);
    o->nth = nth_locked(t, o->store_ino, from);
    b = &t->objs[ino_hash(o->store_ino, from) & (t->buckets - 1)];
    o->bucket_next = *b;
    *b = o;
    t->count++;
    return o;
}

static int enter_locked(struct obj_table *t, struct obj *parent, const char *name, uint8_t from,
                        const struct stat *st, bool born, struct obj **ret_obj) {
    struct obj_name **slot = name_slot_locked(t, parent, name);
    struct obj *obj = *slot ? (*slot)->obj : NULL;
    uint8_t type = (uint8_t)IFTODT(st->st_mode);
    int err;

    if (obj && !born && obj->type == type &&
        (obj->from != from || obj->store_ino == st->st_ino || (obj->flags & OBJ_STRANGE) ||
         (t->unstable >> from & 1))) {
        *ret_obj = obj;
        return 0;
    }
    if (obj) { /* somebody changed the store behind our back: the name is another object now */
        remove_name_locked(t, slot);
    }
    obj = t->unstable >> from & 1 ? NULL : by_ino_locked(t, st->st_ino, from);
    if (obj && (born || obj->type != type || type == DT_DIR || (!obj->names && obj->nopen == 0))) {
        /* An inode number that was given to a new object: the old one is gone, or just going (its name
         * leaves the table after the stores). It keeps its number for those who still know it, but is not
         * found by it any more. */
        unhash_obj_locked(t, obj);
        obj->bucket_next = t->strays;
        t->strays = obj;
        obj = NULL;
    }
    if (!obj) {
        obj = make_locked(t, from, st);
        if (!obj) {
            return -ENOMEM;
        }
    }
    err = add_name_locked(t, obj, parent, name);
    if (err < 0) {
        drop_unused_locked(t, obj);
        return err;
    }
    *ret_obj = obj;
    return 0;
}

static int enter(struct obj_table *t, struct obj *parent, const char *name, uint8_t from,
                 const struct stat *st, bool born, bool count, struct obj **ret_obj) {
    struct obj *obj = NULL;
    int err;

    pthread_mutex_lock(&t->mutex);
    err = enter_locked(t, parent, name, from, st, born, &obj);
    if (err == 0) {
        obj->nlookup += count;
        obj->pins += !count;
        *ret_obj = obj;
    }
    pthread_mutex_unlock(&t->mutex);
    return err;
}

int obj_enter(struct obj_table *t, struct obj *parent, const char *name, uint8_t from,
              const struct stat *st, bool count, struct obj **ret_obj) {
    return enter(t, parent, name, from, st, false, count, ret_obj);
}

int obj_enter_new(struct obj_table *t, struct obj *parent, const char *name, uint8_t from,
                  const struct stat *st, struct obj **ret_obj) {
    return enter(t, parent, name, from, st, true, true, ret_obj);
}

bool obj_knows_ino(struct obj_table *t, uint8_t from, uint64_t store_ino) {
    bool knows;

    pthread_mutex_lock(&t->mutex);
    knows = by_ino_locked(t, store_ino, from) != NULL;
    pthread_mutex_unlock(&t->mutex);
    return knows;
}

int obj_bind(struct obj_table *t, struct obj *obj, uint8_t from, uint64_t store_ino) {
    struct obj_bind *b = malloc(sizeof(*b)),
                    **bucket = &t->binds[ino_hash(store_ino, from) % BIND_BUCKETS];

    if (!b) {
        return -ENOMEM;
    }
    pthread_mutex_lock(&t->mutex);
    if (by_ino_locked(t, store_ino, from) == obj) {
        pthread_mutex_unlock(&t->mutex);
        free(b);
        return 0;
    }
    *b = (struct obj_bind){.obj = obj,
                           .store_ino = store_ino,
                           .from = from,
                           .next = obj->binds,
                           .bucket_next = *bucket};
    *bucket = b;
    obj->binds = b;
    pthread_mutex_unlock(&t->mutex);
    return 0;
}

static void unbind_from_locked(struct obj_table *t, struct obj *obj, uint8_t from) {
    for (struct obj_bind **next = &obj->binds; *next;) {
        struct obj_bind *b = *next,
                        **at = &t->binds[ino_hash(b->store_ino, b->from) % BIND_BUCKETS];

        if (b->from != from) {
            next = &b->next;
            continue;
        }
        while (*at != b) {
            at = &(*at)->bucket_next;
        }
        *at = b->bucket_next;
        *next = b->next;
        free(b);
        atomic_fetch_and(&obj->flags, (uint16_t)~OBJ_BOUND);
    }
}

void obj_table_strange(struct obj_table *t, uint8_t from, bool stable) {
    pthread_mutex_lock(&t->mutex);
    t->unstable = stable ? t->unstable & ~(1u << from) : t->unstable | 1u << from;
    for (uint64_t i = 0; i < t->buckets; i++) {
        for (struct obj *o = t->objs[i]; o; o = o->bucket_next) {
            if (o->from == from) {
                atomic_fetch_or(&o->flags, OBJ_STRANGE);
                atomic_fetch_and(&o->flags, (uint16_t)~OBJ_BOUND);
            }
            unbind_from_locked(t, o, from);
        }
    }
    pthread_mutex_unlock(&t->mutex);
}

uint64_t obj_ino_on(struct obj_table *t, const struct obj *obj, uint8_t from) {
    const struct obj_bind *b;
    uint64_t ino = 0;

    if (obj->from == from) {
        return obj->flags & OBJ_STRANGE ? 0 : obj->store_ino;
    }
    pthread_mutex_lock(&t->mutex);
    for (b = obj->binds; b && ino == 0; b = b->next) {
        ino = b->from == from ? b->store_ino : 0;
    }
    pthread_mutex_unlock(&t->mutex);
    return ino;
}

struct obj *obj_find(struct obj_table *t, struct obj *parent, const char *name) {
    struct obj_name *n;
    struct obj *obj = NULL;

    pthread_mutex_lock(&t->mutex);
    n = *name_slot_locked(t, parent, name);
    if (n) {
        obj = n->obj;
        obj->pins++;
    }
    pthread_mutex_unlock(&t->mutex);
    return obj;
}

void obj_pin(struct obj_table *t, struct obj *obj) {
    pthread_mutex_lock(&t->mutex);
    obj->pins++;
    pthread_mutex_unlock(&t->mutex);
}

void obj_unpin(struct obj_table *t, struct obj *obj) {
    if (!obj) {
        return;
    }
    pthread_mutex_lock(&t->mutex);
    assert(obj->pins > 0);
    obj->pins--;
    drop_unused_locked(t, obj);
    pthread_mutex_unlock(&t->mutex);
}

void obj_forget(struct obj_table *t, struct obj *obj, uint64_t nlookup) {
    pthread_mutex_lock(&t->mutex);
    obj->nlookup -= nlookup < obj->nlookup ? nlookup : obj->nlookup;
    if (obj == &t->root && obj->nlookup == 0) {
        obj->nlookup = 1;
    }
    drop_unused_locked(t, obj);
    pthread_mutex_unlock(&t->mutex);
}

static uint32_t open_change(struct obj_table *t, struct obj *obj, int delta) {
    uint32_t n;

    pthread_mutex_lock(&t->mutex);
    assert(delta >= 0 || obj->nopen > 0);
    n = obj->nopen += (uint32_t)delta;
    drop_unused_locked(t, obj);
    pthread_mutex_unlock(&t->mutex);
    return n;
}

uint32_t obj_opened(struct obj_table *t, struct obj *obj) {
    return open_change(t, obj, 1);
}

uint32_t obj_closed(struct obj_table *t, struct obj *obj) {
    return open_change(t, obj, -1);
}

uint32_t obj_open_count(struct obj_table *t, struct obj *obj) {
    uint32_t n;

    pthread_mutex_lock(&t->mutex);
    n = obj->nopen;
    pthread_mutex_unlock(&t->mutex);
    return n;
}

void obj_name_gone(struct obj_table *t, struct obj *parent, const char *name,
                   const struct stat *last) {
    struct obj_name **slot;

    pthread_mutex_lock(&t->mutex);
    slot = name_slot_locked(t, parent, name);
    if (*slot) {
        struct obj *obj = (*slot)->obj;

        if (!obj->names->next && last && !obj->last) {
            obj->last = malloc(sizeof(*obj->last)); /* NULL: getattr answers ESTALE instead */
            if (obj->last) {
                *obj->last = *last;
                obj->last->st_ino = obj_number(obj);
                obj->last->st_nlink =
                    S_ISDIR(last->st_mode) || last->st_nlink == 0 ? 0 : last->st_nlink - 1;
            }
        }
        remove_name_locked(t, slot);
    }
    pthread_mutex_unlock(&t->mutex);
}

int obj_name_moved(struct obj_table *t, struct obj *parent, const char *name,
                   struct obj *new_parent, const char *new_name) {
    struct obj_name *fresh = name_new(new_parent, new_name);
    struct obj_name **slot;

    if (!fresh) {
        return -ENOMEM;
    }
    pthread_mutex_lock(&t->mutex);
    slot = name_slot_locked(t, new_parent, new_name);
    if (*slot) {
        remove_name_locked(t, slot);
    }
    slot = name_slot_locked(t, parent, name);
    if (*slot) {
        struct obj *obj = (*slot)->obj;

        new_parent->pins++;
        link_name_locked(t, fresh, obj);
        fresh = NULL;
        remove_name_locked(t, name_slot_locked(t, parent, name));
    }
    pthread_mutex_unlock(&t->mutex);
    free(fresh);
    return 0;
}

void obj_name_exchanged(struct obj_table *t, struct obj *parent, const char *name,
                        struct obj *new_parent, const char *new_name) {
    struct obj_name **slot, *a = NULL, *b = NULL;
    struct obj *obj_a = NULL, *obj_b = NULL;

    pthread_mutex_lock(&t->mutex);
    slot = name_slot_locked(t, parent, name);
    if (*slot) {
        obj_a = (*slot)->obj;
        a = unlink_name_locked(t, slot);
    }
    slot = name_slot_locked(t, new_parent, new_name);
    if (*slot) {
        obj_b = (*slot)->obj;
        b = unlink_name_locked(t, slot);
    }
    if (a && b) {
        link_name_locked(t, a, obj_b);
        link_name_locked(t, b, obj_a);
    } else if (a || b) { /* one side was never looked up: forget the name, it is found again */
        struct obj_name *n = a ? a : b;
        struct obj *obj = a ? obj_a : obj_b, *folder = n->parent;

        free(n);
        folder->pins--;
        drop_unused_locked(t, obj);
        drop_unused_locked(t, folder);
    }
    pthread_mutex_unlock(&t->mutex);
}

int obj_name_added(struct obj_table *t, struct obj *obj, struct obj *parent, const char *name,
                   bool count) {
    int err = 0;

    pthread_mutex_lock(&t->mutex);
    if (!*name_slot_locked(t, parent, name)) {
        err = add_name_locked(t, obj, parent, name);
    }
    obj->nlookup += count && err == 0;
    pthread_mutex_unlock(&t->mutex);
    return err;
}

static int where(struct obj_table *t, const struct obj *obj, const struct obj *folder,
                 struct obj_where *ret_where) {
    const struct obj_name *n;

    pthread_mutex_lock(&t->mutex);
    for (n = obj->names; n && folder && n->parent != folder;) {
        n = n->next;
    }
    if (n) {
        ret_where->parent = n->parent;
        ret_where->parent->pins++;
        memcpy(ret_where->name, n->text, (size_t)n->len + 1);
    }
    pthread_mutex_unlock(&t->mutex);
    return n ? 0 : -ENOENT;
}

int obj_where(struct obj_table *t, const struct obj *obj, struct obj_where *ret_where) {
    return where(t, obj, NULL, ret_where);
}

int obj_where_in(struct obj_table *t, const struct obj *obj, struct obj *folder,
                 struct obj_where *ret_where) {
    return where(t, obj, folder, ret_where);
}

bool obj_is_at(struct obj_table *t, const struct obj *obj, const struct obj_where *where) {
    struct obj_name *n;
    bool at;

    pthread_mutex_lock(&t->mutex);
    n = *name_slot_locked(t, where->parent, where->name);
    at = n && n->obj == obj;
    pthread_mutex_unlock(&t->mutex);
    return at;
}

bool obj_last_attr(struct obj_table *t, const struct obj *obj, struct stat *ret_st) {
    bool have;

    pthread_mutex_lock(&t->mutex);
    have = !obj->names && obj->last;
    if (have) {
        *ret_st = *obj->last;
    }
    pthread_mutex_unlock(&t->mutex);
    return have;
}

uint64_t obj_count(struct obj_table *t) {
    uint64_t n;

    pthread_mutex_lock(&t->mutex);
    n = t->count;
    pthread_mutex_unlock(&t->mutex);
    return n;
}
