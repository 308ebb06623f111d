/* Shared by the files of this room. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <uthash.h>

#include "base/error.h"
#include "base/rangelock.h"
#include "base/rwlock.h"
#include "snap/snap.h"
#include "snap/table.h"

#define SNAP_LOG_NEW "log.new" /* that is to replace one */

enum {
    BLOCK_BYTES = 4096, /* what is kept is rounded to that: pages of databases are 4 to 16 KiB */
    DATA_BYTES = 128 << 10, /* of one record: its checksum is over all of it */
    CLONE_BYTES = 1 << 20,  /* runs as long as that become kept files */
    TELL_MS = 60000, /* all is synced, and told to be: a power cut asks about what came since */
    SYNC_MS = 1000,  /* what is kept is durable after this long */
    CUT_MS = 10000,  /* a cut that does not get the gate for so long fails */
    REST_BYTES = 64 << 10, /* room made ahead in a log, so that it can be told that it broke */
};

/* An open file of ours. */
struct snap_file {
    struct obj *obj; /* counted */
    struct vol_handle h;
};

/* Counted: a cut may switch to the next log while this one is being synced. */
struct log_file {
    struct snap_file file;
    unsigned refs; /* guarded by snap.mutex */
};

/* The log of the current epoch: records are added to a buffer, in the order in which the table
 * learns of them, and written before the change that they are about. */
struct snap_log {
    struct rwlock io; /* one writes at a time; held over the write */
    /* guarded by snap.mutex; changed only while the gate is closed */
    struct log_file *file; /* NULL: there is none */
    /* guarded by snap.mutex */
    uint8_t *buf;
    size_t used, room;
    uint64_t end;      /* of the file, with what is in the buffer */
    uint64_t needed;   /* up to here it must be written before a change may go on, */
    uint64_t written;  /* and up to here it is; */
    uint64_t synced;   /* and on the disks */
    uint64_t room_end; /* of the file: room was made up to here */
    uint32_t seq, written_seq;
};

/* What was told and not yet written when a log was given up. */
struct log_rest {
    struct log_file *file;
    uint8_t *buf;
    size_t n;
    uint64_t at;
};

/* A file that has a name among the kept files, and others. It stays known to the volume below, so
 * that its other names are found to be the same file, also after a failover. */
struct anchor {
    struct obj *obj; /* key; counted */
    UT_hash_handle hh;
};

/* One log on the stores. */
struct epoch {
    uint32_t number;
    bool named;    /* a snapshot begins with it, */
    bool bookmark; /* or a bookmark */
    bool emptied;  /* of what it kept, only what changed is there */
    bool stays;    /* it cannot be merged, or emptied */
};

struct view;
struct deed;

struct snap {
    struct vol vol;
    /* constant after snap_new */
    struct snap_config config;
    struct vol *next;
    struct obj_table *objs;
    struct obj *root, *folder, *kept, *hidden;
    struct gate gate;    /* each change is a reader; a cut takes it alone */
    struct rwlock names; /* moving or removing folders: alone */
    struct rwlock
        listing; /* changes of names are readers; a folder that never stands still is listed alone */
    struct rwlock anchoring; /* giving a file its name among the kept files: alone */
    struct rangelock ranges; /* names and bytes of live objects, while they are kept and changed */
    struct snap_log log;
    struct rwlock admin; /* creating, destroying, reaping: one at a time */
    /* guarded by admin */
    bool unsettled;       /* the newest snapshot */
    bool full;            /* the current epoch may have kept what only snapshots need */
    bool swept;           /* nothing is kept that only bookmarks would need */
    uint32_t last_epoch;  /* the highest number that was ever given */
    struct log_rest rest; /* of the log before it, if so */
    /* atomic */
    _Atomic uint32_t epoch;      /* the current one; 0: nothing needs to be kept */
    _Atomic bool broken;         /* nothing is kept any more in this epoch */
    _Atomic bool drops;          /* only bookmarks are left: no bytes are kept, only what changes */
    _Atomic bool list_changed;   /* and is to be saved */
    _Atomic uint64_t generation; /* of the chain of epochs: views look their way up anew */
    _Atomic uint64_t linkings;   /* names of ours that came or went, among the kept files */
    _Atomic unsigned waiting;    /* who is held up by the reaper: it begins nothing */
    /* guarded by mutex, a leaf */
    pthread_mutex_t mutex;
    struct snap_table *table; /* of the current epoch */
    struct anchor *anchors;
    struct deed *deeds; /* that are under way */
    uint64_t next_kept;
    struct snap_entry *entries; /* the list */
    uint32_t entry_count;
    struct epoch *epochs; /* oldest first; the last one is the current */
    uint32_t epoch_count;
    uint32_t merged;      /* the epoch that became part of an older one last, */
    uint64_t merges;      /* and how often that was */
    uint64_t checked_end; /* of the log, when room was looked for */
    int64_t synced_ms;    /* of the thread that ticks */
    int64_t told_ms;
    uint32_t synced_seq;
    bool reap_failed; /* of the one that reaps */
    /* views */
    struct obj_table *view_objs;
    struct view *views;            /* guarded by view_lock */
    _Atomic uint64_t view_numbers; /* of objects that are no more */
    struct rwlock view_lock;
    struct rwlock merging; /* a log that grows by a merge is not read meanwhile */
};

static inline bool snap_keeps(struct snap *s) {
    return atomic_load_explicit(&s->epoch, memory_order_relaxed) != 0 &&
           !atomic_load_explicit(&s->broken, memory_order_relaxed);
}

/* --- ops.c --- */

/* A change begins: inside the gate. Or what it is answered, for it would be refused below: then nothing is
 * kept for it, which could not be written, either. */
int snap_change_enter(struct snap *s) must_check;

/* --- io.c: files of ours, through the volume below --- */

int snap_file_open(struct snap *s, struct obj *dir, const char *name, int flags,
                   struct snap_file *ret_file) must_check;
int snap_file_create(struct snap *s, struct obj *dir, const char *name,
                     struct snap_file *ret_file) must_check;
void snap_file_close(struct snap *s, struct snap_file *file);
/* Any object for reading. */
int snap_read(struct snap *s, struct obj *obj, struct vol_handle h, uint64_t off, size_t n,
              uint8_t **ret_buf, size_t *ret_n) must_check;
int snap_write(struct snap *s, const struct snap_file *file, const uint8_t *bytes, size_t n,
               uint64_t off) must_check;
void snap_log_name(uint32_t epoch, char ret_name[NAME_BYTES]);
/* A kept file's number is that of the epoch that kept it, times 2^32, and a count. */
static inline uint64_t kept_number(uint32_t epoch, uint32_t count) {
    return (uint64_t)epoch << 32 | count;
}
static inline uint64_t kept_epoch(uint64_t number) {
    return number >> 32;
}
void snap_kept_name(uint64_t number, char ret_name[NAME_BYTES]);
/* Of a file that has other names, too: those are found at the next mount by it. */
void snap_anchor_name(uint64_t number, char ret_name[NAME_BYTES]);
void snap_forget(struct snap *s, struct obj *obj); /* accepts NULL */
int snap_sync_folder(struct snap *s, struct obj *dir) must_check;
/* A list of numbers, as it grows; `list` is the owner's to free. */
struct numbers {
    uint64_t *list;
    size_t n, room;
    bool failed; /* there was no memory for one */
};
void numbers_add(struct numbers *numbers, uint64_t number);
/* Adds those of all names in a folder of which there is one: number_of() gives 0 for the others. */
int snap_read_numbers(struct snap *s, struct obj *folder, uint64_t (*number_of)(const char *name),
                      struct numbers *numbers) must_check;
/* All extended attributes, as items of snap_xattr_next(); the caller's to free. */
int snap_get_xattrs(struct snap *s, struct obj *obj, uint8_t **ret_items,
                    uint32_t *ret_bytes) must_check;

/* --- log.c --- */

int log_create(struct snap *s, uint32_t epoch, struct log_file **ret_file) must_check;
int log_put_head(struct snap *s, const struct snap_file *file, uint32_t epoch) must_check;
void log_put(struct snap *s, struct log_file *file); /* accepts NULL */
/* The record is done to the table, and added to the log; a `payload` goes with it. Under mutex. */
int log_tell_locked(struct snap *s, struct snap_record *r, const void *payload) must_check;
/* All that changes need is written. Inside the gate, as all that writes to the log. */
int log_flush(struct snap *s) must_check;
/* ... and is on the disks. Not inside the gate. */
int log_sync(struct snap *s) must_check;
/* From now on records go to this log (NULL: nowhere). With the gate closed. What was told and not
 * written to the one before is handed out, for log_finish(). */
struct log_rest log_switch_locked(struct snap *s, struct log_file *file, uint64_t end,
                                  uint32_t seq);
/* Writes and syncs it, and gives the file up. */
int log_finish(struct snap *s, struct log_rest *rest) must_check;

/* What is found in a log, one record after the other. */
struct log_reader {
    struct snap *s;
    struct snap_file file;
    uint32_t epoch;
    uint64_t at, end;   /* of the next record; of the file */
    uint64_t record_at; /* of the last one that was given */
    uint8_t *buf;
    size_t have;
    uint64_t buf_at;
};
int log_open(struct snap *s, uint32_t epoch, struct log_reader *ret_reader) must_check;
/* 1, 0 at the end, -HFE_CORRUPT or an I/O error. What the record points to is there until the next
 * call. */
int log_next(struct log_reader *reader, struct snap_record *ret_record) must_check;
void log_close(struct log_reader *reader);

/* --- load.c --- */

/* The table of an epoch that is over. `merged` (may be NULL) is told of each MERGED record. */
struct loaded {
    struct snap_table *table;
    uint64_t end;    /* of the log: where to go on */
    uint32_t seq;    /* of its last record */
    uint32_t merged; /* the last epoch that it says is contained in it; 0 */
    bool harmed;     /* something of it is missing: a part cannot be read, or it says so */
    bool settled;    /* all from before its cut is on the disks */
    bool strict;     /* what it told last was on the disks before the change was passed on */
    bool kept;       /* it kept what only a snapshot needs, */
    bool dropped;    /* or did not */
    char reason[NAME_BYTES];
};
/* -HFE_CORRUPT (nothing of it can be read), -ENOENT, -ENOMEM, ... */
int load_table(struct snap *s, uint32_t epoch, struct loaded *ret) must_check;
/* All that is on the stores; what was under way is settled. */
int load_all(struct snap *s, struct why *why) must_check;
/* NULL if no log has this number. */
struct epoch *find_epoch(struct snap *s, uint32_t number);

/* --- list.c --- */

/* -HFE_CORRUPT, -HFE_FOREIGN, -HFE_FEATURE; there may be none. */
int list_read(struct snap *s) must_check;
/* Writes it, durably. */
int list_save(struct snap *s) must_check;
/* Is there no snapshot but bookmarks? */
bool snap_only_bookmarks(const struct snap *s);
/* What follows an entry's name among the views. */
const char *snap_tail(const struct snap_entry *entry);
/* Marks the snapshots up to this epoch's; false if they all were. Under s->mutex. */
bool harm_entries_locked(struct snap *s, uint32_t epoch, const char *reason);
/* The snapshots up to this epoch's are broken. */
void snap_harm(struct snap *s, uint32_t epoch, const char *reason);

/* --- snap.c --- */

void snap_free(struct snap *s);
/* No snapshot is left: nothing needs to be kept. -ETIMEDOUT. */
int snap_keep_nothing(struct snap *s) must_check;
/* An epoch begins, and no snapshot with it. -ETIMEDOUT. */
int snap_cut_unnamed(struct snap *s) must_check;

/* --- place.c --- */

/* Where a live object stands in the current epoch. */
struct place {
    struct snap_node *node; /* NULL: nothing is known of it */
    uint32_t id;            /* of the node */
    bool made;              /* since the cut; then the node may go with its last name */
    bool moving;            /* a change of its name is under way: to be asked again */
};
/* Under `names` and the gate. */
int place_of(struct snap *s, struct obj *obj, struct place *ret_place) must_check;
/* The same, and its node is made if need be, also for what was made since. */
int keep_node(struct snap *s, struct obj *obj, struct place *ret_place) must_check;
/* The node has this name, as the table may not know yet. */
int keep_name(struct snap *s, struct snap_node *folder, const char *name,
              struct snap_node *node) must_check;
/* The node of a name of something that was made since. */
int keep_made_name(struct snap *s, struct snap_node *folder, const char *name, uint8_t type,
                   struct snap_node **ret_node) must_check;
/* Was something of that name (NULL: of any) told to go, or to move, and is it being done? Then the
 * live tree and the table speak of different moments. Under mutex. */
bool is_moving_locked(const struct snap *s, const struct snap_node *folder, const char *name);

/* --- keep.c --- */

/* An object's attributes, in `ranges`: behind its bytes, before its names. */
#define ATTR_FROM ((uint64_t)INT64_MAX)
#define ATTR_TO   (ATTR_FROM + 1)
/* As keep_node(), and its attributes are kept if it is old. */
int keep_attr(struct snap *s, struct obj *obj, struct place *ret_place) must_check;
/* The bytes in [from, to) that it had at the cut are kept. */
int keep_bytes(struct snap *s, struct obj *obj, struct snap_node *node, uint64_t from,
               uint64_t to) must_check;
/* What had to be kept could not be: the epoch's snapshot, and all before it, are broken. Returns
 * err. */
int snap_break(struct snap *s, int err, const char *what);
/* The same, not inside the gate. */
void snap_break_alone(struct snap *s, int err, const char *what);
/* Not inside the gate: err < 0, what was told is not on the disks. */
void snap_sync_failed(struct snap *s, int err, const char *what);

/* --- deeds.c --- */

/* A change of names: told, done, and then told how it went. */
struct deed {
    struct deed *next; /* of those under way; guarded by snap.mutex */
    struct snap_record r;
    uint32_t replaced;
    bool bare; /* of what goes, all is kept that is needed: it may lose its last name */
};
/* -EAGAIN if an old file would lose its last name: it is to be moved to the kept files instead. */
int deed_begin(struct snap *s, struct deed *deed) must_check;
void deed_end(struct snap *s, struct deed *deed, int err);

uint64_t snap_new_kept(struct snap *s);
/* Gives a file one more name, among the kept files. */
int keep_link(struct snap *s, struct obj *obj, struct snap_node *node, const char *name) must_check;
int keep_unlink(struct snap *s, struct obj *obj, const char *name) must_check;
/* As below, but for links of our own: those are not counted. */
int snap_getattr(struct snap *s, struct obj *obj, struct vol_handle h,
                 struct stat *ret_attr) must_check;
/* Attributes that were asked for after `seen` = s->linkings. */
void snap_present(struct snap *s, struct obj *obj, struct stat *attr, uint64_t seen);

/* Gives a file that has several names, or is about to, one more among the kept files, by which it is
 * found whichever of the others is known, and whatever becomes of them; once. `node`: of the file, NULL
 * as long as it has none. */
int anchor(struct snap *s, struct obj *obj, struct snap_node *node) must_check;
/* A file that lost the name by which it was known while it was open may have others: then it is
 * anchored. */
int anchor_parked(struct snap *s, struct obj *obj) must_check;
/* The anchor was made. Takes over one count of the object, also on failure. */
int anchor_add(struct snap *s, struct obj *obj) must_check;
void anchor_drop(struct snap *s, const struct obj *obj);

/* --- names.c --- */

int snap_op_make(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                 struct vol_entry *ret_entry);
int snap_op_create(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                   int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle);
int snap_op_link(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                 struct vol_entry *ret_entry);
int snap_op_unlink(struct vol *v, struct obj *dir, const char *name);
int snap_op_rmdir(struct vol *v, struct obj *dir, const char *name);
int snap_op_rename(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                   const char *new_name, unsigned flags);

/* --- ops.c --- */

extern struct vol_ops snap_ops;

/* --- view*.c: all take objects of views (OBJ_VIEW) only --- */

int view_init(struct snap *s) must_check;
void view_release(struct snap *s);
/* .holdfast in the volume's root. */
int view_top(struct snap *s, struct vol_entry *ret_entry) must_check;
int view_lookup(struct snap *s, struct obj *dir, const char *name,
                struct vol_entry *ret_entry) must_check;
void view_forget(struct snap *s, struct obj *obj, uint64_t nlookup);
int view_getattr(struct snap *s, struct obj *obj, struct stat *ret_attr) must_check;
ssize_t view_readlink(struct snap *s, struct obj *obj, char *buf, size_t size);
ssize_t view_getxattr(struct snap *s, struct obj *obj, const char *key, void *buf, size_t size);
ssize_t view_listxattr(struct snap *s, struct obj *obj, char *buf, size_t size);
int view_open(struct snap *s, struct obj *obj, int flags, struct vol_handle *ret_handle) must_check;
int view_close(struct snap *s, struct obj *obj, struct vol_handle h);
/* As vol_ops.read: after a loss (base/fiber.h) `buf` is not to be used. */
ssize_t view_read(struct snap *s, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                  off_t off);
off_t view_seek(struct snap *s, struct obj *obj, struct vol_handle h, off_t off, int whence);
int view_opendir(struct snap *s, struct obj *dir, struct vol_handle *ret_handle) must_check;
int view_readdir(struct snap *s, struct obj *dir, struct vol_handle h, uint64_t pos,
                 vol_dirent_fn *fill, void *arg) must_check;
int view_closedir(struct snap *s, struct obj *dir, struct vol_handle h);
