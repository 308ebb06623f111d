/* A store: one backing directory, and the only code that touches it.
 *
 *     STORE/              the volume's files, plain
 *     STORE/.holdfast/    ours, 0700: super.0 super.1 (superblock), open/ (open files that have no
 *                         name any more), lost/ (what a repair moved out of the way), catchup/ (what is in
 *                         the way of one), side (what
 *                         its filesystem cannot hold)
 *
 * A store is opened once. Its identity (device, mount instance, ids in its superblock) is taken
 * then and compared again by store_check(), so that a bare directory below a mount that vanished is
 * never taken for it. Everything afterwards goes through descriptors below its root.
 *
 *     store_open -> store_attach -> operations through store_vol() -> store_close
 *
 * Operations: any thread. The others: one thread at a time, except where said. */
#pragma once

#include "base/error.h"
#include "format/super.h"
#include "vol/vol.h"

#define STORE_FOLDER       ".holdfast"
#define STORE_OPEN_FOLDER  "open"
#define STORE_SNAP_FOLDER  "snap"
#define STORE_LOST_FOLDER  "lost"
#define STORE_STAGE_FOLDER "catchup" /* what is in the way of a catch-up, until it ends */

/* What a store can do, found by store_probe(). Kept in superblocks: never renumber. */
enum store_cap {
    STORE_HARDLINK = 1 << 0,
    STORE_XATTR_USER = 1 << 1,
    STORE_XATTR_TRUSTED = 1 << 2,
    STORE_ACL = 1 << 3,
    STORE_STABLE_INO = 1 << 4, /* a file keeps its number after all descriptors are closed */
    STORE_TIME_NS = 1 << 5,
    STORE_CHOWN = 1 << 6,
    STORE_MKNOD = 1 << 7,
    STORE_PUNCH_HOLE = 1 << 8,
    STORE_REFLINK = 1 << 9,
    STORE_NOREPLACE = 1 << 10,
    STORE_EXCHANGE = 1 << 11,
    STORE_FSYNC_DIR = 1 << 12,
    STORE_SYNCFS = 1 << 13,      /* syncfs reaches the platter; on FUSE it does nothing */
    STORE_RENAME_OVER = 1 << 14, /* required */
    STORE_FSYNC = 1 << 15,       /* required */
    STORE_LINK_BLIND =
        1 << 16,               /* link(2) works, but two names do not show that they are one file */
    STORE_LINK_ATTR = 1 << 17, /* a symlink has an owner and times of its own */
    STORE_SYMLINK = 1 << 18,   /* reads back any target (sshfs may refuse absolute ones) */
    STORE_CAPS = 19,
    STORE_REQUIRED = STORE_RENAME_OVER | STORE_FSYNC,
    /* What a side file (store/side.h) makes up for; hard links only where names can share bytes. */
    STORE_KEPT_ASIDE = STORE_HARDLINK | STORE_XATTR_USER | STORE_XATTR_TRUSTED | STORE_ACL |
                       STORE_TIME_NS | STORE_CHOWN | STORE_MKNOD | STORE_LINK_ATTR | STORE_SYMLINK,
};

struct store_cap_info {
    enum store_cap cap;
    const char *name;
    const char *without; /* what it means for the data if it is missing */
};
extern const struct store_cap_info store_cap_table[STORE_CAPS];

/* Makes files in `folder` and tries. Leaves nothing behind. Any thread. */
int store_probe(const char *folder, uint32_t *ret_caps, struct why *why) must_check;

struct store;

/* Turns `path` into a store: our folder and both superblock slots. -HFE_UNSAFE if it already is a
 * store, or holds anything and `adopt` is false. Undone by store_unformat(). */
int store_format(const char *path, const struct super *super, bool adopt,
                 struct why *why) must_check;
/* Removes our folder and all in it. */
int store_unformat(const char *path, struct why *why) must_check;
/* 1 if something was put aside in its lost folder, 0 if not, or negative. */
int store_has_lost(const char *path) must_check;
/* The superblock at `path` without opening the store: who is it? */
int store_identify(const char *path, struct super *ret_super, struct why *why) must_check;

/* Opens the store at `path` and locks it against other daemons. -HFE_NO_STORE, -HFE_CORRUPT,
 * -HFE_FEATURE, -HFE_IN_USE or an errno; `why` says what to do. */
int store_open(const char *path, struct why *why, struct store **ret_store) must_check;
/* The same for one that is to be made equal to another: if its side file is damaged or missing, it is
 * opened without, and nothing is changed on it before store_begin_side() has begun one anew (1; 0: it
 * has one). By then its superblock must say that it is not whole. */
int store_open_to_mend(const char *path, struct why *why, struct store **ret_store) must_check;
int store_begin_side(struct store *store) must_check;
/* What its side file kept is not there, until store_side_whole(): it must be compared whole. */
bool store_lost_side(const struct store *store);
/* Then: may two names be one file there, and nobody sees it? Files are not written in place. */
bool store_links_unknown(const struct store *store);
int store_side_whole(struct store *store, struct why *why) must_check;
/* Gives the store its number in the volume and the table its objects are in. */
void store_attach(struct store *store, struct obj_table *table, uint8_t index, unsigned dirfds_max);
/* Others may open it, while this process, which does nothing to it any more, cannot end. */
void store_unlock(struct store *store);
/* Closes all that is open on it; only what is in memory goes on (open streams of folders). */
void store_let_go(struct store *store);
/* Frees it; its volume must not be used any more. Accepts NULL. */
void store_close(struct store *store);

struct vol *store_vol(struct store *store);
/* syncfs(2), and what is kept aside. Where a store has no syncfs, files are synced one by one. */
int store_sync(struct store *store) must_check;
/* Closes the folders that are kept open for later use, if there are more than `keep`. Any thread.
 */
void store_close_folders(struct store *store, uint64_t keep);
const char *store_path(const struct store *store);
int store_root_fd(const struct store *store);
uint64_t store_root_ino(const struct store *store);
/* "ext4", "xfs", "fuse" ... and whether it is on another machine or behind FUSE. */
const char *store_fs_name(const struct store *store);
bool store_is_remote(const struct store *store);
/* Do positions in its folders outlast a handle, whatever is made or removed there? */
bool store_positions_last(const struct store *store);
/* What it can do, with what its side file makes up for. */
uint32_t store_caps(const struct store *store);

/* Which instance of the mount it was opened on. */
void store_instance(const struct store *store, uint64_t *ret_dev, uint64_t *ret_ino,
                    uint64_t *ret_mount);
const struct super *store_super(const struct store *store);
/* Reads it again. */
int store_read_super(struct store *store) must_check;
/* Writes the superblock to the slot whose turn it is, durably; seq is raised. On an error the
 * other slot still holds the last one. */
int store_write_super(struct store *store, const struct super *super) must_check;

/* Is this still the store that was opened? -HFE_NO_STORE if its mount is gone or another,
 * -HFE_FOREIGN, -HFE_IN_USE. */
int store_check(struct store *store, struct why *why) must_check;
/* Is it there, and does it work? Writes a few bytes; `full`: and compares who it is and who has it
 * mounted, syncs, and reads them back. -HFE_NO_STORE, -HFE_FOREIGN, -HFE_IN_USE (another daemon has
 * mounted it meanwhile) or the error it gave. */
int store_check_alive(struct store *store, bool full) must_check;
/* What the last check of whoever has it mounted wrote: it changes every PROBE_MS while somebody
 * has. 0: nothing. */
uint64_t store_heartbeat(const struct store *store);
/* Makes `to` hold under (dir, name) what `from` holds: copied, equalized, or, if it should not be
 * there or is of another type, moved to our lost folder first. One object only: a folder that would
 * need its contents copied gives -ENOTEMPTY. `attrs_only`: of an object that both have, leave the
 * bytes alone. Under the namespace lock. */
int store_repair(struct store *from, struct store *to, struct obj *dir, const char *name,
                 bool attrs_only) must_check;
/* Removes what a crash left in our folder of open files. */
int store_clear_open(struct store *store) must_check;
