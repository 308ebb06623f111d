/* Shared by the files of this room. Who does what:
 *
 *     answer.c   a change on all stores, and the one answer; reads with failover; fsync side by side
 *     member.c   the states of stores, and how they are recorded
 *     roster.c   which stores there are: added, removed, replaced
 *     names.c    lookup, make, link, unlink, rename ...
 *     attrs.c    getattr, setattr, xattrs, statfs
 *     files.c    handles: open, close, open folders; files without a name
 *     data.c     read, write, fsync, fallocate, copy, seek
 *     times.c    mtimes made equal on all stores
 *     log.c      the change journal: what is told, how it gets to the stores, checkpoints
 *     watch.c    the watchdog: stores that do not answer
 *     guard.c    a store whose calls can be given up */
#pragma once

#include <stdatomic.h>

#include "base/rangelock.h"
#include "journal/journal.h"
#include "mirror/guard.h"
#include "mirror/mirror.h"
#include "vol/gate.h"

struct member {
    /* constant */
    struct guard *guard;
    struct vol *vol; /* the guard's */
    /* changed under member_lock and status_lock, when the place of a removed one is taken */
    struct id id;
    char label[LABEL_BYTES], path[PATH_BYTES], fs[16], disk[DISK_TEXT_BYTES];
    unsigned slot; /* in the superblock's table, and in the journal */
    /* changed under member_lock, while its guard is shut and nothing is under way */
    struct store *store; /* NULL: let go */
    uint32_t caps;
    /* owned by the log (log_lock) */
    bool log_broken; /* its journal has no room: begun anew at the next checkpoint */
    /* atomic */
    _Atomic int state; /* enum member_state; changed only by member.c */
    _Atomic uint64_t read_errors, write_errors, checksum_errors, total_bytes, free_bytes;
    _Atomic bool unproven;       /* nobody knows since when it lacks changes: no durable position */
    _Atomic uint64_t log_needed; /* it is compared as a whole, and needs the log from here; or 0 */
    _Atomic bool receives;       /* SYNCING, and takes changes: nobody counts them */
    _Atomic bool settled;        /* ... and every change under way knew so from its beginning */
    _Atomic bool spoiled;        /* a change that it should have received went wrong: begin anew */
    _Atomic bool passive;        /* as recorded: it is to follow behind */
    _Atomic bool silent, waits;
    _Atomic uint64_t latency_us, lag_bytes, lag_s; /* as the policy measured last */
    _Atomic bool measured;                         /* enough calls for latency_us */
    _Atomic int space;                             /* enum space_level: what was told */
    /* what its catch-up holds; whoever clears a flag lets go of it */
    _Atomic bool names_held;
    _Atomic int64_t held_ms;
    struct range_hold *_Atomic range; /* NULL: none. Whoever takes it releases it */
    struct obj *range_obj;
    /* owned by the ticking thread: policy.c */
    uint64_t seen_us, seen_calls;
    unsigned slow_times;
    bool lagging;
    /* guarded by status_lock */
    uint64_t since_s;
    char reason[REASON_BYTES];
    struct mirror_progress progress;
    struct mirror_followed followed; /* up to where a passive store has all */
    _Atomic bool positions_last;     /* in its folders: store_positions_last() */
};

struct mirror {
    struct vol vol;
    struct member member[STORES_MAX];
    _Atomic bool listings_doubted;
    /* constant */
    unsigned min_stores, dirfds_max;
    int64_t store_timeout_ms;
    struct mirror_policy policy;
    uint32_t caps; /* what all stores can do */
    struct obj_table *objs;
    struct obj *ours, *parked, *snaps; /* .holdfast, and open and snap in it */
    struct events *events;
    struct workers *workers;
    struct journal *journal;
    int (*write_witness)(void *, const struct super *);
    void *witness_arg;
    struct gate gate;
    struct rwlock names;
    struct rangelock ranges;
    /* atomic */
    _Atomic unsigned count;  /* of member[]; it only grows. Those that were removed stay in it */
    _Atomic unsigned reader; /* index of the store that serves reads */
    _Atomic bool read_only;  /* the loss of a store could not be recorded */
    _Atomic bool taken;   /* another daemon has mounted the volume: nothing is written any more */
    _Atomic bool unequal; /* the stores may differ: the next mount must compare */
    _Atomic uint64_t written;  /* bytes that changes of data were about, since the mount */
    _Atomic bool slowed;       /* changes wait a moment: a passive store is too far behind */
    _Atomic bool low_on_space; /* order allocating changes: fullest store first */
    _Atomic bool renumbered;   /* reads come from another store than at first */
    _Atomic unsigned joined;   /* stores that came back so far */
    _Atomic unsigned losing;   /* threads that record a loss */
    /* what a comparison (heal/verify.h) holds; whoever clears one lets go of it */
    struct {
        _Atomic bool runs; /* one at a time */
        struct range_hold *_Atomic range;
        _Atomic bool names;
        _Atomic int64_t held_ms;
        struct obj *obj; /* owned by who compares */
    } compare;
    /* guarded by member_lock, which belongs to the request: it is held over writing superblocks */
    struct rwlock member_lock; /* taken alone */
    struct super super;
    pthread_mutex_t status_lock; /* a leaf: what status shows */
    struct super shown;          /* guarded by status_lock: as it was recorded last */
    /* guarded by files_lock */
    pthread_mutex_t files_lock;
    struct mfile *files; /* all that are open */
    /* guarded by times_lock */
    pthread_mutex_t times_lock;
    struct obj *times_list[DIRTY_DIRS_MAX];
    unsigned times_count;
    int64_t times_since_ms;
    struct times_work
        *times_works; /* taken from the list, or from an open file, and not done yet */
    /* guarded by linger_lock */
    pthread_mutex_t linger_lock;
    struct lingering {
        struct obj *obj;
        int64_t since_ms;
    } linger[LINGER_MAX];
    unsigned linger_first, linger_count; /* a ring, oldest first */
    int64_t space_checked_ms, policy_ms; /* owned by the ticking thread */
    int64_t watched_ms;                  /* by the watching one */
    int64_t heartbeat_ms;                /* owned by the carrying thread */
    /* the log: log.c */
    struct rwlock log_lock;       /* taken alone by who carries frames to the stores */
    uint64_t log_carried;         /* guarded by log_lock: all before it is on the stores */
    _Atomic uint64_t log_durable; /* and is durable there */
    _Atomic uint64_t log_stable;  /* all changes told before it are stable on every ONLINE store */
    bool stopped;                 /* owned by who ends it */
    uint64_t checkpoint_end;      /* owned by the logging thread */
    int64_t checkpoint_ms, log_synced_ms;
    _Atomic bool checkpoint_now; /* somebody wants one soon */
    /* guarded by touched_lock: what to sync one by one, if a store has no syncfs */
    pthread_mutex_t touched_lock;
    struct obj **touched; /* pinned; room for TOUCHED_MAX */
    unsigned touched_count;
    bool touched_more; /* than there is room for */
};

/* --- answer.c --- */

enum {
    CUT_PATIENCE_MS = 2000,
    SLOW_FACTOR = 30, /* fsync and the like may take so many store-timeouts */
};

/* Makes one object of store `to` like that of `from`. Under the namespace lock. */
int repair_object(struct mirror *m, unsigned from, unsigned to, struct obj *dir, const char *name,
                  bool attrs_only);

enum answer_class {
    ANSWER_OK,
    ANSWER_DEVICE,     /* the store is broken or gone */
    ANSWER_LIMIT,      /* this store cannot hold it */
    ANSWER_OWN,        /* our own resources */
    ANSWER_CAPABILITY, /* the store never could: masked */
    ANSWER_PLAIN,      /* an ordinary answer; if others differ: disagreement */
};
enum answer_class answer_class(int err);

struct change_name {
    struct obj *dir;
    const char *name;
};

/* What the journal is told before the change: nothing, that its names, bytes or attributes may
 * differ. */
enum change_tells {
    TELLS_NOTHING,
    TELLS_NAMES, /* name[], and that `obj` may move from the first to the second */
    TELLS_DATA,  /* bytes [off, off + len) of `obj`; len 0: to the end */
    TELLS_ATTR,  /* of `obj` */
};

/* One change, on its way to all stores. Embedded in the op's own struct. */
struct change {
    const char *what; /* for messages: "write" */
    enum change_tells tells;
    struct obj *obj, *other; /* other: what an exchange moves the other way */
    struct obj *victim; /* the folder that is to go: it stays known if it is refused. Or NULL */
    uint64_t off, len;
    int (*apply)(struct change *c, struct vol *v, unsigned i);
    /* Takes it back on store i, which took it, because store c->failed could not. NULL: the names
     * below are repaired from the failed store, which still holds the old state. */
    int (*undo)(struct change *c, unsigned i);
    bool (*needs_handle)(struct change *c,
                         unsigned i); /* is its file open on store i? NULL: no matter */
    struct mirror *m;
    struct change_name name[2]; /* what is repaired if stores disagree; name[0].dir NULL: nothing */
    bool allocates;
    bool attrs_only; /* the names are repaired without touching bytes */
    bool begun;      /* stores may have it already: it is not refused any more */
    /* set while it runs */
    int failed;    /* the store whose limit stopped it when others had it, or -1 */
    int refused;   /* the store whose refusal was the answer, or -1 */
    bool fill;     /* apply() should keep attributes: the first that succeeds, or the reader */
    uint32_t took; /* bit per store that has it */
    uint32_t full; /* bit per store that was seen to have no room */
};
/* 0; -EROFS: a loss could not be recorded; -HFE_TOO_FEW: less than min-stores are ONLINE. */
int mirror_may_change(const struct mirror *m);
/* The caller holds the gate and the locks. The answer; c->took says which stores have it. */
int mirror_change(struct mirror *m, struct change *c) must_check;
/* No store took the change, and some may have done a part of it: that is noted, and nobody blamed. */
void mirror_not_taken(struct mirror *m, const struct change *c, int err);
/* Store i gave that error for want of room, and goes for it (on-full=drop) if enough others took the
 * change. The same answer each time within one change. */
bool drops_full(struct mirror *m, struct change *c, unsigned i, int err);

/* A call again, while it fails for want of our own resources. */
#define RETRY_OWN(call)                                                                            \
    ({                                                                                             \
        long retry_result_ = 0;                                                                    \
        for (int retry_ = 0; retry_ < RETRY_OWN_MAX; retry_++) {                                   \
            retry_result_ = (call);                                                                \
            if (retry_result_ >= 0 || answer_class((int)retry_result_) != ANSWER_OWN) {            \
                break;                                                                             \
            }                                                                                      \
        }                                                                                          \
        retry_result_;                                                                             \
    })

/* Reads: for (each ONLINE store, the preferred first) until one gives something other than a device
 * error; the same one again if we were short of something. The body sets err. */
#define MIRROR_FIRST_ANSWER(m, i, err)                                                             \
    (i) = reader_first(m);                                                                         \
    (err) = -EIO;                                                                                  \
    for (int tries_ = 0; (i) >= 0; (i) = reader_next((m), (i), (err) < 0 ? (int)(err) : 0, &tries_))
int reader_first(struct mirror *m);
int reader_next(struct mirror *m, int i, int err, int *tries);
/* A read failed on store i with a device error: 0 when it is faulted, so that another is asked. */
int reader_failed(struct mirror *m, unsigned i, int err);

/* fsync of one handle on all ONLINE stores at once. */
int mirror_fsync_all(struct mirror *m, struct obj *obj, const struct vol_handle *handles,
                     bool data_only);

/* --- log.c --- */

/* What the journal calls it. */
uint64_t log_number(const struct mirror *m, const struct obj *obj);
/* Tells the journal which file an object is, with all folders above it, unless this epoch knows.
 * Under the gate and the namespace lock; the object's name held, if it is not a folder. */
void log_bind(struct mirror *m, struct obj *obj);
/* The same, taking the hold, and the namespace lock too. */
void log_bind_held(struct mirror *m, struct obj *obj);
void log_bind_alone(struct mirror *m, struct obj *obj);
/* Tells that its attributes may differ; as log_bind_alone(). */
void log_attr_alone(struct mirror *m, struct obj *obj);
/* Tells the journal what the change is about to do. Under the gate; of DATA, the object is bound.
 * The intent ends when all stores have answered. */
void log_change(struct mirror *m, const struct change *c, struct journal_intent *ret_intent);
/* Tells one name, of a change that is not one of mirror_change(). */
void log_name(struct mirror *m, struct obj *dir, const char *name);
/* A change of names that was told is refused, or was taken back: everything is where it was. Within its
 * intent. */
void log_refused(struct mirror *m, const struct change *c);
/* A store that can do this takes part from now on. */
void log_takes_part(struct mirror *m, uint32_t caps);
/* The object was just made. */
void log_born(struct mirror *m, struct obj *obj);
/* It got a further name. Its others may go before anybody looks it up by this one: the journal is told now
 * who is there, and that it is linked. */
void log_linked(struct mirror *m, struct obj *obj, struct obj *dir, const char *name);
/* All frames so far are durable on the ONLINE stores. Before an fsync that they cover. */
int log_make_durable(struct mirror *m, uint64_t position) must_check;

/* A store's log begins where the volume's goes on. Under log_lock. */
int log_begin_anew(struct mirror *m, unsigned i) must_check;

/* --- member.c --- */

static inline bool is_online(const struct mirror *m, unsigned i) {
    return atomic_load_explicit(&m->member[i].state, memory_order_acquire) == MEMBER_ONLINE;
}
/* Is its keeper making it equal? Then what it answers does not count yet. */
static inline bool catches_up(const struct mirror *m, unsigned i) {
    int state = atomic_load_explicit(&m->member[i].state, memory_order_acquire);

    return state == MEMBER_SYNCING || state == MEMBER_PASSIVE;
}
/* Does it get changes? In this order: one that becomes ONLINE receives until then. */
static inline bool takes_changes(const struct mirror *m, unsigned i) {
    return atomic_load_explicit(&m->member[i].receives, memory_order_acquire) || is_online(m, i);
}
unsigned online_count(const struct mirror *m);
/* Without one of those that are ONLINE, are there as many as there must be? min_stores is 1 or more. */
bool member_can_be_spared(const struct mirror *m);
/* A checkpoint is done; `joined` stores had come back at its cut. If none is away and none came
 * since, blocks need not be told exactly any more. */
void mirror_end_exact(struct mirror *m, unsigned joined);
/* A change that a SYNCING store should have received went wrong there: its catch-up begins anew. */
void member_spoil(struct mirror *m, unsigned i, const char *what, int err);
/* Its catch-up ended, well or not: it receives nothing as such, and needs no log. Under member_lock. */
void member_sync_over(struct member *member);
bool member_edge_ok(enum member_state from, enum member_state to);
/* A device error while others did well. 0 when recorded; negative if the store is the last one. */
int member_fault(struct mirror *m, unsigned i, int err, const char *what);
/* Its entry in the record, or NULL. Under member_lock. */
struct super_member *member_record_of(struct mirror *m, unsigned i);
/* Shows the new state to everybody. Under member_lock, when it is recorded. */
void member_show(struct mirror *m, unsigned i, enum member_state state, const char *reason);
/* Notes where the store is that was opened for it, for status. */
void member_describe(struct mirror *m, unsigned i, const struct store *store);
/* Those that are part of the volume, ONLINE or not. */
unsigned member_count(const struct mirror *m);
/* "it stopped answering ..." */
void member_silence_text(const char *what, int64_t ms, char ret_text[REASON_BYTES]);
void member_pick_reader(struct mirror *m);
/* Writes the record to all ONLINE stores and the witness. Under member_lock. */
int member_record_locked(struct mirror *m);

/* --- mirror.c --- */

/* Lets go of what a comparison holds. True if there was anything. */
bool compare_let_go(struct mirror *m);

/* --- files.c --- */

/* An open file: a handle on each store, opened when first needed. */
struct mfile {
    struct mfile *next, **at; /* in mirror.files; at NULL: not in it */
    struct obj *obj;
    int flags;
    bool writable;
    _Atomic bool times_dirty;
    _Atomic uint64_t handle[STORES_MAX]; /* VOL_NO_HANDLE.v: not open */
};
static inline struct mfile *mfile_of(struct vol_handle h) {
    return (struct mfile *)(uintptr_t)h.v;
}
/* The handle on store i, if it is open there. */
static inline struct vol_handle mfile_handle(const struct mirror *m, const struct mfile *f,
                                             unsigned i) {
    struct vol_handle h = {f ? atomic_load_explicit(&f->handle[i], memory_order_acquire)
                             : UINT64_MAX};

    return guard_handle_ok(m->member[i].guard, h) ? h : VOL_NO_HANDLE;
}
/* The handle on store i, opening it by name if it is not open yet. No data hold may be held. */
int mfile_on(struct mirror *m, struct mfile *f, unsigned i,
             struct vol_handle *ret_handle) must_check;
/* Opens it on all ONLINE stores; a store that fails is faulted. */
int mfile_on_all(struct mirror *m, struct mfile *f) must_check;
struct mfile *mfile_new(struct obj *obj, int flags);
void mfile_close_handles(struct mirror *m, struct mfile *f);
/* On the list of open files, from its open to its close. */
void mfile_list(struct mirror *m, struct mfile *f);
/* The name under which an open file without a name lives in .holdfast/open. */
void parked_name(const struct obj *obj, char ret_name[NAME_BYTES]);
/* Removes it there, if nobody has it open any more. Whoever parks a file calls this afterwards, and
 * whoever closes the last handle: one of them comes second. Under the gate and the namespace lock.
 */
void unpark_if_closed(struct mirror *m, struct obj *obj);
/* A file that was just replaced stays in .holdfast/open for LINGER_MS: whoever looked it up before
 * may still open it, as on any filesystem. linger() under the gate and the namespace lock. */
void linger(struct mirror *m, struct obj *obj);
void linger_flush(struct mirror *m, bool all);

/* --- names.c --- */

/* A hold on one of the object's names, so that it cannot be renamed or removed meanwhile.
 * -ENOENT if it has none. The root has no name: nothing is held. */
struct obj_hold {
    struct obj_where where; /* parent NULL: nothing held */
    struct range_hold hold;
};
int hold_obj(struct mirror *m, struct obj *obj, struct obj_hold *ret_hold) must_check;
void hold_done(struct mirror *m, struct obj_hold *hold);
/* Not there for users: .holdfast, and the lost+found of a store that is a whole filesystem. */
bool is_ours(struct mirror *m, const struct obj *dir, const char *name);
/* What users are told: the object's number, links without ours. */
void present(struct mirror *m, const struct obj *obj, struct stat *attr);

/* --- attrs.c --- */

/* setuid, setgid and capabilities go when somebody other than root changes the data. Under the gate
 * and the namespace lock (shared). */
int drop_privileges(struct mirror *m, struct obj *obj, const struct cred *cred) must_check;

/* --- times.c --- */

/* Held while an object's times are set on all stores: by its user, or to make them equal.
 * Innermost. */
void times_hold(struct mirror *m, const struct obj *obj, struct range_hold *hold);
void times_later(struct mirror *m, struct obj *obj);
void times_now(struct mirror *m, struct obj *obj, struct mfile *f);
/* `all`: also of those that began to wait just now, and of open files. */
void times_flush(struct mirror *m, bool all);
/* Tells the journal, in a new epoch, whose times still wait to be made equal. */
int times_tell(struct mirror *m) must_check;
/* Makes all equal that waits, and waits for what another thread is at. */
int times_equal(struct mirror *m) must_check;

extern struct vol_ops mirror_ops;
#define DECLARE_OP(ret, name, ...) ret mirror_##name(struct vol *v, __VA_ARGS__)
DECLARE_OP(int, lookup, struct obj *, const char *, struct vol_entry *);
void mirror_forget(struct vol *v, struct obj *obj, uint64_t nlookup);
DECLARE_OP(int, make, struct obj *, const char *, const struct vol_new *, struct vol_entry *);
DECLARE_OP(int, create, struct obj *, const char *, const struct vol_new *, int, struct vol_entry *,
           struct vol_handle *);
DECLARE_OP(int, link, struct obj *, struct obj *, const char *, struct vol_entry *);
DECLARE_OP(int, unlink, struct obj *, const char *);
DECLARE_OP(int, rmdir, struct obj *, const char *);
DECLARE_OP(int, rename, struct obj *, const char *, struct obj *, const char *, unsigned);
DECLARE_OP(int, getattr, struct obj *, struct vol_handle, struct stat *);
DECLARE_OP(int, setattr, struct obj *, struct vol_handle, const struct vol_attr *, struct stat *);
DECLARE_OP(ssize_t, readlink, struct obj *, char *, size_t);
DECLARE_OP(ssize_t, getxattr, struct obj *, const char *, void *, size_t);
DECLARE_OP(ssize_t, listxattr, struct obj *, char *, size_t);
DECLARE_OP(int, setxattr, struct obj *, const char *, const void *, size_t, int,
           const struct cred *);
DECLARE_OP(int, removexattr, struct obj *, const char *);
DECLARE_OP(int, open, struct obj *, int, const struct cred *, struct vol_handle *);
DECLARE_OP(int, close, struct obj *, struct vol_handle);
DECLARE_OP(ssize_t, read, struct obj *, struct vol_handle, void *, size_t, off_t);
DECLARE_OP(ssize_t, write, struct obj *, struct vol_handle, const void *, size_t, off_t,
           const struct cred *);
DECLARE_OP(int, fsync, struct obj *, struct vol_handle, bool);
DECLARE_OP(int, fallocate, struct obj *, struct vol_handle, int, off_t, off_t, const struct cred *);
DECLARE_OP(ssize_t, copy, struct obj *, struct vol_handle, off_t, struct obj *, struct vol_handle,
           off_t, size_t, const struct cred *);
DECLARE_OP(off_t, seek, struct obj *, struct vol_handle, off_t, int);
DECLARE_OP(int, opendir, struct obj *, struct vol_handle *);
DECLARE_OP(int, readdir, struct obj *, struct vol_handle, uint64_t, vol_dirent_fn *, void *);
DECLARE_OP(int, closedir, struct obj *, struct vol_handle);
DECLARE_OP(int, statfs, struct statvfs *);
int mirror_sync_stores(struct mirror *m);
int mirror_sync(struct vol *v);

/* --- watch.c --- */

/* Loses a store in a thread of its own: the caller must not wait for superblocks to be written. */
void member_lose_aside(struct mirror *m, unsigned i, enum member_state state, const char *reason);

/* --- policy.c --- */

/* Now and then; see the options. One thread. */
void policy_tick(struct mirror *m, int64_t now_ms);
/* Enters the gate for a change, a moment later where the policy says so. Nothing is held. */
void change_enter(struct mirror *m);
