/* Objects: what a volume's files, folders and links are called inside the daemon.
 *
 * An object has a number (shown as st_ino), and the names under which it was seen; a name is a
 * (folder object, text) pair. There are no paths: a folder that is renamed takes everything below
 * along for free. The table holds every object that somebody counts:
 *
 *   nlookup   the kernel (or another user of the chain) knows it; obj_forget() gives it back
 *   pins      a name of another object lives in it, or a request works on it
 *   nopen     handles that are open
 *
 * and frees an object when all are zero. Names of one folder never repeat.
 *
 * The table's mutex is a leaf: nothing else is taken under it, and no call is made. Names of
 * *folders* change only while the volume's namespace lock is held alone, so whoever holds that lock
 * shared may walk `obj->names->parent` upwards of a folder without the mutex. Names of other
 * objects may change at any time: obj_where() copies one. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/limits.h"

struct obj;

struct obj_name {
    struct obj_name *bucket_next; /* guarded by the table */
    struct obj_name *next;        /* further names of the same object */
    struct obj *parent;
    struct obj *obj;
    uint32_t hash;
    uint8_t len;
    char text[];
};

enum obj_flags {
    OBJ_VIEW = 128,     /* of a snapshot's view: another table's */
    OBJ_FLEETING = 256, /* a folder whose entries come and go without a change by the kernel */
    OBJ_KEPT = 512,     /* one of its names is among the kept files of snapshots */
    OBJ_LINKING = 1024, /* ... or just comes, or just goes */
    OBJ_STRANGE = 64,   /* its store came back from elsewhere: its inode there may be another's */
    OBJ_NO_PRIVS =
        1, /* known to have neither setuid, setgid nor file capabilities: writes skip a look */
    OBJ_LINGERS = 32,  /* it was just replaced: parked a moment longer than it is open */
    OBJ_LINKED = 4096, /* it was seen with several names */
    OBJ_BOUND = 16,    /* bound on all ONLINE stores (obj_bind) */
    OBJ_NO_CAPS =
        8, /* known to have no file capabilities: the kernel asks before each first write */
    OBJ_TIMES_WAIT = 4, /* on the mirror's list of objects whose times are made equal soon */
    OBJ_PARKED = 2,     /* its last name went while it was open: it lives in .holdfast/open */
};

struct obj {
    struct obj *bucket_next; /* guarded by the table */
    uint64_t id;             /* never reused while the daemon runs */
    uint64_t store_ino;      /* its inode on the store `from` */
    struct obj_name *names;  /* see above */
    uint64_t nlookup;        /* guarded by the table */
    struct obj_bind *binds;  /* of an object with several names: its inodes on other stores */
    struct stat *last;       /* once the last name is gone: what getattr still answers */
    uint32_t pins, nopen;    /* guarded by the table */
    _Atomic uint32_t told_epoch,
        born_epoch;                 /* of the journal: bound, made (mirror/log.c); 0: never */
    _Atomic uint64_t told_position; /* an fsync of its bytes needs the log durable up to here */
    _Atomic uint64_t above;         /* of the layer above the one that owns the table */
    uint8_t from;                   /* the store that gave it its number */
    uint8_t nth;                    /* on its inode: strange objects have the numbers before */
    uint8_t type;                   /* DT_REG ... */
    _Atomic uint16_t flags;         /* enum obj_flags */
};

struct obj_table;

int obj_table_new(uint64_t root_ino, uint8_t from, struct obj_table **ret_table) must_check;
/* Is told of each object before it is freed, under the table's mutex. Right after obj_table_new(). */
void obj_table_on_free(struct obj_table *table, void (*fn)(void *arg, struct obj *obj), void *arg);
/* Frees everything that is left. Accepts NULL. */
void obj_table_free(struct obj_table *table);
/* The inode numbers of store `from` say nothing (sshfs): objects are found by name alone there. */
void obj_table_unstable(struct obj_table *table, uint8_t from);
/* Lives as long as the table. */
struct obj *obj_root(struct obj_table *table);
/* The number users see: unique per object, the store's own inode where `from` is store 0. In the
 * upper bits: 3 for the store, then 3 for `nth`. */
uint64_t obj_number(const struct obj *obj);
/* Which store gave the number, and for which inode. */
static inline unsigned obj_number_store(uint64_t number) {
    return (unsigned)(number >> 56 & 7);
}
static inline uint64_t obj_number_ino(uint64_t number) {
    return number & ((UINT64_C(1) << 56) - 1);
}

/* The object that (parent, name) is, found by name or by inode, or made. `from`: the store that was
 * asked. Counts one nlookup for the caller if `count`, else one pin. -ENOMEM. */
int obj_enter(struct obj_table *table, struct obj *parent, const char *name, uint8_t from,
              const struct stat *st, bool count, struct obj **ret_obj) must_check;
/* The object that was just made there: a new one, whatever the table knows under this name or inode (a
 * file that is just being removed has given its inode back before its name leaves the table). Counts one
 * nlookup. -ENOMEM. */
int obj_enter_new(struct obj_table *table, struct obj *parent, const char *name, uint8_t from,
                  const struct stat *st, struct obj **ret_obj) must_check;
/* Is there an object that is this inode on this store? */
bool obj_knows_ino(struct obj_table *table, uint8_t from, uint64_t store_ino);
/* Ties an object to its inode on a further store, once. Done for objects with several names, so that all
 * of them are still one object when they are first looked up after a failover. */
int obj_bind(struct obj_table *table, struct obj *obj, uint8_t from, uint64_t store_ino) must_check;
/* Store `from` was away and came back, or is another one: what was known of its inodes holds no
 * more. `stable`: a file keeps its inode there. */
void obj_table_strange(struct obj_table *table, uint8_t from, bool stable);
/* Its inode on store `from`, if that is known; else 0. */
uint64_t obj_ino_on(struct obj_table *table, const struct obj *obj, uint8_t from);
/* The object known as (parent, name), pinned, or NULL. */
struct obj *obj_find(struct obj_table *table, struct obj *parent, const char *name);
void obj_pin(struct obj_table *table, struct obj *obj);
void obj_unpin(struct obj_table *table, struct obj *obj); /* accepts NULL */
void obj_forget(struct obj_table *table, struct obj *obj, uint64_t nlookup);

/* One more or one less handle; returns how many are open afterwards. */
uint32_t obj_opened(struct obj_table *table, struct obj *obj);
uint32_t obj_closed(struct obj_table *table, struct obj *obj);
uint32_t obj_open_count(struct obj_table *table, struct obj *obj);

/* Names, after the stores were changed: gone, moved (replacing what is there), exchanged, parked
 * under another folder, added. A name that the table does not know is nothing to do. */
void obj_name_gone(struct obj_table *table, struct obj *parent, const char *name,
                   const struct stat *last);
int obj_name_moved(struct obj_table *table, struct obj *parent, const char *name,
                   struct obj *new_parent, const char *new_name) must_check;
void obj_name_exchanged(struct obj_table *table, struct obj *parent, const char *name,
                        struct obj *new_parent, const char *new_name);
/* `count`: and counts one nlookup for the caller. */
int obj_name_added(struct obj_table *table, struct obj *obj, struct obj *parent, const char *name,
                   bool count) must_check;

/* A copy of one of the object's names; `parent` is pinned, give it back with obj_unpin().
 * -ENOENT if it has none (any more), or is the root. */
struct obj_where {
    struct obj *parent;
    char name[NAME_BYTES];
};
int obj_where(struct obj_table *table, const struct obj *obj,
              struct obj_where *ret_where) must_check;
/* The same, but its name in this folder alone. */
int obj_where_in(struct obj_table *table, const struct obj *obj, struct obj *folder,
                 struct obj_where *ret_where) must_check;
/* Does the object still have exactly this name? */
bool obj_is_at(struct obj_table *table, const struct obj *obj, const struct obj_where *where);
/* The attributes it had when its last name went, if it is in that state. */
bool obj_last_attr(struct obj_table *table, const struct obj *obj, struct stat *ret_st);

/* Hands memory back to the kernel if many objects went since the last time. Now and then. */
void obj_table_trim(struct obj_table *table);
uint32_t obj_hash(const struct obj *parent, const char *name, size_t len);
/* How many objects there are, the root included. */
uint64_t obj_count(struct obj_table *table);
