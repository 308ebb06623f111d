/* A volume: anything that serves file operations. Volumes are chained; each holds a pointer to the
 * next one down and passes on what it has nothing to say about.
 *
 *     fuse -> snap -> mirror -> store, store, ...
 *
 * An operation names objects (vol/obj.h), never paths: (folder, name) for what creates, removes or
 * finds a name, the object itself for the rest. Objects are made by the one layer that owns the
 * table (the mirror; and snap, those of its views); layers below it only resolve them.
 *
 * Results are 0 (or a count) or a negative errno. Out-parameters are written only on success.
 * All operations may be called by any number of threads at once; ordering conflicting changes is
 * the mirror's job. Calls may block in a store.
 *
 * A handle (`struct vol_handle`) belongs to the volume that opened it, until vol_close(). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>

#include "base/cred.h"
#include "vol/obj.h"

struct vol;

struct vol_handle {
    uint64_t v; /* opaque; VOL_NO_HANDLE where there is none */
};
#define VOL_NO_HANDLE ((struct vol_handle){UINT64_MAX})

static inline bool vol_have(struct vol_handle h) {
    return h.v != UINT64_MAX;
}

/* A name of at most NAME_MAX bytes, which whoever made it has checked. */
static inline void name_copy(char to[NAME_BYTES], const char *name) {
    size_t n = strnlen(name, NAME_BYTES - 1);

    memcpy(to, name, n);
    to[n] = '\0';
}

/* A name that was found or made. `obj` is set by the layer that owns the table, with one nlookup
 * counted for the caller; layers below leave it NULL. `attr.st_ino` is the object's number there,
 * the store's own inode below. */
struct vol_entry {
    struct obj *obj;
    struct stat attr;
};

/* What is to be made: S_IFREG, S_IFDIR, S_IFLNK (with target), a device, FIFO or socket. */
struct vol_new {
    mode_t mode; /* type and permissions, before the umask */
    dev_t rdev;
    const char *target; /* of a symlink */
    const struct cred *cred;
};

enum vol_set {
    VOL_SET_MODE = 1,
    VOL_SET_UID = 2,
    VOL_SET_GID = 4,
    VOL_SET_SIZE = 8,
    VOL_SET_ATIME = 16, /* the times: ns, UTIME_NOW allowed */
    VOL_SET_MTIME = 32,
};

struct vol_attr {
    unsigned set; /* enum vol_set */
    mode_t mode;
    uid_t uid;
    gid_t gid;
    off_t size;
    struct timespec atime, mtime;
    const struct cred *cred; /* who asks: setuid bits go when it is not root */
};

/* One entry of a folder; `next` is the position behind it. Return false to stop: it will be the
 * first of the next call. No operation of the volume may be called from inside. */
typedef bool vol_dirent_fn(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next);

struct vol_ops {
    const char *name;
    void (*free)(struct vol *v);

    /* names */
    int (*lookup)(struct vol *v, struct obj *dir, const char *name, struct vol_entry *ret_entry);
    /* Gives back what lookups, makes, creates and links counted. */
    void (*forget)(struct vol *v, struct obj *obj, uint64_t nlookup);
    int (*make)(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                struct vol_entry *ret_entry);
    /* A regular file that must not exist yet, made and opened in one step. */
    int (*create)(struct vol *v, struct obj *dir, const char *name, const struct vol_new *new,
                  int flags, struct vol_entry *ret_entry, struct vol_handle *ret_handle);
    int (*link)(struct vol *v, struct obj *obj, struct obj *dir, const char *name,
                struct vol_entry *ret_entry);
    int (*unlink)(struct vol *v, struct obj *dir, const char *name);
    int (*rmdir)(struct vol *v, struct obj *dir, const char *name);
    int (*rename)(struct vol *v, struct obj *dir, const char *name, struct obj *new_dir,
                  const char *new_name, unsigned flags); /* RENAME_NOREPLACE, RENAME_EXCHANGE */

    /* attributes; `h` may be VOL_NO_HANDLE */
    int (*getattr)(struct vol *v, struct obj *obj, struct vol_handle h, struct stat *ret_attr);
    int (*setattr)(struct vol *v, struct obj *obj, struct vol_handle h, const struct vol_attr *attr,
                   struct stat *ret_attr);
    ssize_t (*readlink)(struct vol *v, struct obj *obj, char *buf, size_t size);
    ssize_t (*getxattr)(struct vol *v, struct obj *obj, const char *key, void *buf, size_t size);
    ssize_t (*listxattr)(struct vol *v, struct obj *obj, char *buf, size_t size);
    int (*setxattr)(struct vol *v, struct obj *obj, const char *key, const void *value, size_t size,
                    int flags, const struct cred *cred);
    int (*removexattr)(struct vol *v, struct obj *obj, const char *key);

    /* data. Flags of open: O_ACCMODE, O_TRUNC, O_SYNC, O_DSYNC, and O_DIRECTORY for a folder that
     * is to be synced; others are ignored. */
    int (*open)(struct vol *v, struct obj *obj, int flags, const struct cred *cred,
                struct vol_handle *ret_handle);
    int (*close)(struct vol *v, struct obj *obj, struct vol_handle h);
    ssize_t (*read)(struct vol *v, struct obj *obj, struct vol_handle h, void *buf, size_t size,
                    off_t off);
    ssize_t (*write)(struct vol *v, struct obj *obj, struct vol_handle h, const void *buf,
                     size_t size, off_t off, const struct cred *cred);
    int (*fsync)(struct vol *v, struct obj *obj, struct vol_handle h, bool data_only);
    int (*fallocate)(struct vol *v, struct obj *obj, struct vol_handle h, int mode, off_t off,
                     off_t len, const struct cred *cred);
    ssize_t (*copy)(struct vol *v, struct obj *from, struct vol_handle hf, off_t from_off,
                    struct obj *to, struct vol_handle ht, off_t to_off, size_t len,
                    const struct cred *cred);
    off_t (*seek)(struct vol *v, struct obj *obj, struct vol_handle h, off_t off, int whence);

    /* folders: a handle is a stream of the entries as they were when reading began */
    int (*opendir)(struct vol *v, struct obj *dir, struct vol_handle *ret_handle);
    /* Entries from position `pos` on (0: the start, read anew). Positions are what `fill` was given
     * as `next`, and stay valid while the handle is open. Without `fill`: only reads anew, for the
     * next call from 0; that one, and all from other positions, touch no store. */
    int (*readdir)(struct vol *v, struct obj *dir, struct vol_handle h, uint64_t pos,
                   vol_dirent_fn *fill, void *arg);
    int (*closedir)(struct vol *v, struct obj *dir, struct vol_handle h);

    /* the whole */
    /* Would a change be taken now? 0; -EROFS: never again; -HFE_TOO_FEW: not as things are. For whoever has
     * work of his own to do before it; the change may still be refused. */
    int (*may_change)(struct vol *v);
    /* May whoever lists a folder keep the listing until he changes the folder himself, and go on with a position
     * of it in another handle? */
    bool (*listings_last)(struct vol *v);
    int (*statfs)(struct vol *v, struct statvfs *ret_stat);
    int (*sync)(struct vol *v);
};

/* The first member of each volume's own struct. */
struct vol {
    const struct vol_ops *ops;
    struct vol *next; /* the one below; NULL at the bottom */
};

/* A layer fills the ops it implements; vol_complete() gives every other one the pass-on version.
 * Call it once, when the process starts to use the layer. */
void vol_complete(struct vol_ops *ops);

/* Ends a volume and all below it. Accepts NULL. */
void vol_free(struct vol *v);
