#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "store/store_int.h"

enum {
    MAGIC_XFS = 0x58465342,
    MAGIC_CIFS = (int)0xFF534D42,
    MAGIC_SMB2 = (int)0xFE534D42,
};

static const struct {
    uint32_t magic;
    const char *name;
    bool remote;
} fs_types[] = {
    {EXT4_SUPER_MAGIC, "ext4", false},
    {MAGIC_XFS, "xfs", false},
    {BTRFS_SUPER_MAGIC, "btrfs", false},
    {TMPFS_MAGIC, "tmpfs", false},
    {OVERLAYFS_SUPER_MAGIC, "overlay", false},
    {F2FS_SUPER_MAGIC, "f2fs", false},
    {0x2FC12FC1, "zfs", false},
    {FUSE_SUPER_MAGIC, "fuse", true},
    {NFS_SUPER_MAGIC, "nfs", true},
    {(uint32_t)MAGIC_CIFS, "cifs", true},
    {(uint32_t)MAGIC_SMB2, "smb", true},
    {CEPH_SUPER_MAGIC, "ceph", true},
};

static int open_root(const char *path, struct why *why) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        int err = -errno;

        return why_set(why, err, "cannot open the store folder %s: %s%s", path, error_words(err),
                       err == -ENOENT ? "; create it first (is its disk mounted?)" : "");
    }
    return fd;
}

static void slot_name(unsigned slot, char ret_name[16]) {
    (void)snprintf(ret_name, 16, "super.%u", slot);
}

/* The newer of the two slots that are whole. */
static int read_slots(const int fd[SUPER_SLOTS], struct super *ret_super) {
    struct super best, s;
    bool have = false;
    int err = -HFE_NO_STORE;

    for (int i = 0; i < SUPER_SLOTS; i++) {
        uint8_t bytes[SUPER_BYTES];
        ssize_t n = fd[i] < 0 ? -ENOENT : io_pread(fd[i], bytes, sizeof(bytes), 0);
        int bad;

        if (n < 0) {
            err = err == -HFE_NO_STORE && n != -ENOENT ? (int)n : err;
            continue;
        }
        bad = n == SUPER_BYTES ? super_decode(bytes, &s) : -HFE_CORRUPT;
        if (bad == 0 && s.kind != SUPER_STORE) {
            bad = -HFE_CORRUPT;
        }
        if (bad < 0) {
            err = bad;
        } else if (!have || s.seq > best.seq) {
            best = s;
            have = true;
        }
    }
    if (!have) {
        return err;
    }
    *ret_super = best;
    return 0;
}

static int why_no_super(struct why *why, int err, const char *path) {
    switch (err) {
    case -HFE_NO_STORE:
        return why_set(
            why, err,
            "%s is not a Holdfast store (no %s folder in it): is the store's disk mounted there? "
            "`holdfast create` makes new stores",
            path, STORE_FOLDER);
    case -HFE_CORRUPT:
        return why_set(
            why, err,
            "%s: both superblocks in %s are damaged; its files are still plain files. Mount the "
            "volume from the other stores (-o degraded)",
            path, STORE_FOLDER);
    case -HFE_FEATURE:
        return why_set(why, err, "%s was written by a newer Holdfast: install that version", path);
    default:
        return why_set(why, err, "%s: cannot read its superblock: %s", path, error_words(err));
    }
}

static int open_slots(int folder, int flags, int ret_fd[SUPER_SLOTS]) {
    for (unsigned i = 0; i < SUPER_SLOTS; i++) {
        char name[16];

        slot_name(i, name);
        ret_fd[i] = openat(folder, name, flags | O_NOFOLLOW | O_CLOEXEC);
        if (ret_fd[i] < 0 && errno != ENOENT) {
            return -errno;
        }
    }
    return 0;
}

static void close_slots(int fd[SUPER_SLOTS]) {
    for (int i = 0; i < SUPER_SLOTS; i++) {
        cleanup_fd(&fd[i]);
        fd[i] = -1;
    }
}

int store_identify(const char *path, struct super *ret_super, struct why *why) {
    scope_fd int root = open_root(path, why);
    scope_fd int folder = -1;
    int slots[SUPER_SLOTS] = {-1, -1};
    int err;

    if (root < 0) {
        return root;
    }
    folder = openat(root, STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) {
        return why_no_super(why, errno == ENOENT ? -HFE_NO_STORE : -errno, path);
    }
    err = open_slots(folder, O_RDONLY, slots);
    if (err == 0) {
        err = read_slots(slots, ret_super);
    }
    close_slots(slots);
    return err < 0 ? why_no_super(why, err, path) : 0;
}

static int folder_is_empty(int root) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(root, ".", &d);

    if (err < 0) {
        return err;
    }
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, "lost+found") != 0) {
            return 0;
        }
    }
    return 1;
}

int store_has_lost(const char *path) {
    char lost[PATH_BYTES + 32];
    scope_fd int fd = -1;
    int empty;

    (void)snprintf(lost, sizeof(lost), "%s/%s/%s", path, STORE_FOLDER, STORE_LOST_FOLDER);
    fd = open(lost, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    empty = fd < 0 ? -errno : folder_is_empty(fd);
    return empty < 0 ? empty : !empty;
}

static int make_folder(int at, const char *name) {
    if (mkdirat(at, name, 0700) < 0 && errno != EEXIST) {
        return -errno;
    }
    return 0;
}

static uint32_t kept_aside(uint32_t caps) {
    return STORE_KEPT_ASIDE & ~caps;
}

int store_format(const char *path, const struct super *super, bool adopt, struct why *why) {
    scope_fd int root = open_root(path, why);
    scope_fd int folder = -1;
    uint8_t bytes[SUPER_BYTES];
    struct super me = *super, old;
    struct super_member *m = super_member_of(&me, &me.store_id);
    uint32_t caps = m ? m->caps : 0;
    int err;

    if (root < 0) {
        return root;
    }
    if (store_identify(path, &old, NULL) == 0) {
        return why_set(
            why, -HFE_UNSAFE,
            "%s is already a store of volume \"%s\"; `holdfast import %s` uses it, `holdfast "
            "dissolve` gives the folder back",
            path, old.volume_name, path);
    }
    err = folder_is_empty(root);
    if (err == 0 && !adopt) {
        return why_set(
            why, -HFE_UNSAFE,
            "%s is not empty; give an empty folder, or make its files the volume with `--adopt %s`",
            path, path);
    }
    if (err < 0 || (err = make_folder(root, STORE_FOLDER)) < 0) {
        return why_set(why, err, "cannot write to %s: %s", path, error_words(err));
    }
    folder = openat(root, STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (folder < 0) {
        return why_set(why, -errno, "cannot open %s/%s: %s", path, STORE_FOLDER,
                       error_words(-errno));
    }
    err = make_folder(folder, STORE_OPEN_FOLDER);
    err = err < 0 ? err : make_folder(folder, STORE_LOST_FOLDER);
    err = err < 0 ? err : make_folder(folder, STORE_STAGE_FOLDER);
    err = err < 0 ? err : make_folder(folder, STORE_SNAP_FOLDER);
    if (err == 0 && kept_aside(caps)) {
        err = side_format(folder, &(struct head){super->volume_id, super->store_id});
    }
    super_encode(super, bytes);
    for (unsigned i = 0; err == 0 && i < SUPER_SLOTS; i++) {
        char name[16];

        slot_name(i, name);
        err = io_replace(folder, name, bytes, sizeof(bytes), 0600);
    }
    if (err < 0) {
        return why_set(why, err, "cannot write the superblock of %s: %s", path, error_words(err));
    }
    return 0;
}

int store_unformat(const char *path, struct why *why) {
    scope_fd int root = open_root(path, why);
    int err;

    if (root < 0) {
        return root;
    }
    err = io_remove_tree(root, STORE_FOLDER);
    if (err < 0) {
        return why_set(why, err, "cannot remove %s/%s: %s", path, STORE_FOLDER, error_words(err));
    }
    return 0;
}

#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x00004000U /* since Linux 6.8; not in Debian 12's headers */
#endif

/* A number of the mount that no other one gets while the machine runs. Before Linux 6.8 mount ids are
 * given again; then a disk's folder in /sys, whose number is not, tells one mount from the next. */
static int mount_instance(int fd, dev_t dev, uint64_t *ret_mount) {
    static const char *const types[] = {"xfs", "ext4", "btrfs", "f2fs"};
    char link[64], disk[PATH_MAX], folder[PATH_MAX + 32];
    struct statx sx;
    struct stat st;

    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_INO | STATX_MNT_ID_UNIQUE, &sx) < 0) {
        return -errno;
    }
    if (sx.stx_mask & STATX_MNT_ID_UNIQUE) {
        *ret_mount = sx.stx_mnt_id;
        return 0;
    }
    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_MNT_ID, &sx) < 0) {
        return -errno;
    }
    *ret_mount = sx.stx_mask & STATX_MNT_ID ? sx.stx_mnt_id : 0;
    (void)snprintf(link, sizeof(link), "/sys/dev/block/%u:%u", major(dev), minor(dev));
    for (size_t i = 0; realpath(link, disk) && i < sizeof(types) / sizeof(types[0]); i++) {
        (void)snprintf(folder, sizeof(folder), "/sys/fs/%s/%s", types[i], strrchr(disk, '/') + 1);
        if (stat(folder, &st) == 0) {
            *ret_mount ^= (uint64_t)st.st_ino << 32;
        }
    }
    return 0;
}

/* The device and the instance of the mount that `fd` lies on. */
static int mount_identity(int fd, dev_t *ret_dev, uint64_t *ret_ino, uint64_t *ret_mount) {
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    *ret_dev = st.st_dev;
    *ret_ino = st.st_ino;
    return mount_instance(fd, st.st_dev, ret_mount);
}

static int open_parts(struct store *st, struct why *why) {
    struct statfs fs;
    int err;

    st->root = open_root(st->path, why);
    if (st->root < 0) {
        return st->root;
    }
    st->folder = openat(st->root, STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (st->folder < 0) {
        return why_no_super(why, errno == ENOENT ? -HFE_NO_STORE : -errno, st->path);
    }
    if (mkdirat(st->folder, STORE_SNAP_FOLDER, 0700) < 0 && errno != EEXIST) {
        return why_set(why, -errno, "%s/%s/%s cannot be made: %s", st->path, STORE_FOLDER,
                       STORE_SNAP_FOLDER, error_words(-errno)); /* of an older version */
    }
    err = open_slots(st->folder, O_RDWR, st->slot_fd);
    if (err == 0) {
        err = read_slots(st->slot_fd, &st->super);
    }
    if (err < 0) {
        return why_no_super(why, err, st->path);
    }
    if (flock(st->root, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        return why_set(why, -HFE_IN_USE,
                       "%s is in use by another Holdfast process; see `holdfast list`, or wait "
                       "until it has ended",
                       st->path);
    }
    err = mount_identity(st->root, &st->dev, &st->root_ino, &st->mount_id);
    if (err < 0 || fstatfs(st->root, &fs) < 0) {
        return why_set(why, err < 0 ? err : -errno, "cannot stat %s", st->path);
    }
    st->fs_type = fs.f_type;
    st->positions_last = stream_positions_last(st);
    return 0;
}

static int open_side(struct store *st, bool to_mend, struct why *why) {
    struct head head = {st->super.volume_id, st->super.store_id};
    uint32_t lacks;
    int err;

    if ((st->caps & STORE_HARDLINK) && !(st->caps & STORE_LINK_BLIND)) {
        st->caps |=
            STORE_LINK_BLIND | STORE_LINK_ATTR | STORE_SYMLINK; /* probed before they were */
    }
    lacks = kept_aside(st->caps);
    err =
        lacks ? side_open(st->root, st->folder, &head, lacks, false, st->path, why, &st->side) : 0;
    if (err == -HFE_CORRUPT && to_mend) {
        why->text[0] = '\0';
        err = side_open(st->root, st->folder, &head, lacks, true, st->path, why, &st->side);
    }
    if (err == 0 && lacks) {
        st->caps &= ~(uint32_t)STORE_EXCHANGE;
        st->caps |= lacks & ~(uint32_t)(st->caps & STORE_LINK_BLIND ? 0 : STORE_HARDLINK);
    }
    return err;
}

static int open_store(const char *path, bool to_mend, struct why *why, struct store **ret_store) {
    struct store *st = calloc(1, sizeof(*st));
    struct super_member *m;
    int err;

    if (!st) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    st->vol.ops = &store_ops;
    st->root = st->folder = st->slot_fd[0] = st->slot_fd[1] = st->log.fd = -1;
    if (!realpath(path, st->path)) {
        err = why_set(why, -errno, "cannot find the store folder %s: %s (is its disk mounted?)",
                      path, error_words(-errno));
    } else {
        err = open_parts(st, why);
    }
    if (err < 0) {
        store_close(st);
        return err;
    }
    m = super_member_of(&st->super, &st->super.store_id);
    st->caps = m ? m->caps : 0;
    err = open_side(st, to_mend, why);
    if (err < 0) {
        store_close(st);
        return err;
    }
    *ret_store = st;
    return 0;
}

int store_open(const char *path, struct why *why, struct store **ret_store) {
    return open_store(path, false, why, ret_store);
}

int store_open_to_mend(const char *path, struct why *why, struct store **ret_store) {
    return open_store(path, true, why, ret_store);
}

int store_begin_side(struct store *st) {
    return st->side ? side_begin_anew(st->side) : 0;
}

bool store_lost_side(const struct store *st) {
    return st->side && side_is_anew(st->side);
}

bool store_links_unknown(const struct store *st) {
    return store_lost_side(st) && (st->caps & STORE_LINK_BLIND);
}

int store_side_whole(struct store *st, struct why *why) {
    int err = st->side ? side_is_whole(st->side) : 0;

    return err < 0 ? why_set(why, err,
                             "%s/%s cannot be written: %s; its side file does not count as whole",
                             st->path, STORE_FOLDER, error_words(err))
                   : 0;
}

void store_attach(struct store *st, struct obj_table *table, uint8_t index, unsigned dirfds_max) {
    st->table = table;
    st->index = index;
    dirfds_init(&st->dirs, dirfds_max);
}

void store_let_go(struct store *st) {
    side_let_go(st->side);
    dirfds_release(&st->dirs);
    cleanup_fd(&st->log.fd);
    close_slots(st->slot_fd);
    cleanup_fd(&st->folder);
    cleanup_fd(&st->root);
    st->log.fd = st->folder = st->root = -1;
}

void store_unlock(struct store *st) {
    (void)flock(st->root, LOCK_UN); /* cannot fail for a lock that is held */
}

void store_close(struct store *st) {
    if (!st) {
        return;
    }
    store_let_go(st);
    side_free(st->side);
    free(st);
}

struct vol *store_vol(struct store *st) {
    return &st->vol;
}
int store_sync(struct store *st) {
    return st->vol.ops->sync(&st->vol);
}
const char *store_path(const struct store *st) {
    return st->path;
}
int store_root_fd(const struct store *st) {
    return st->root;
}
uint64_t store_root_ino(const struct store *st) {
    return st->root_ino;
}
uint32_t store_caps(const struct store *st) {
    return st->caps;
}
void store_instance(const struct store *st, uint64_t *ret_dev, uint64_t *ret_ino,
                    uint64_t *ret_mount) {
    *ret_dev = st->dev;
    *ret_ino = st->root_ino;
    *ret_mount = st->mount_id;
}

const struct super *store_super(const struct store *st) {
    return &st->super;
}

const char *store_fs_name(const struct store *st) {
    for (size_t i = 0; i < sizeof(fs_types) / sizeof(fs_types[0]); i++) {
        if (fs_types[i].magic == (uint32_t)st->fs_type) {
            return fs_types[i].name;
        }
    }
    return "other";
}

bool store_is_remote(const struct store *st) {
    for (size_t i = 0; i < sizeof(fs_types) / sizeof(fs_types[0]); i++) {
        if (fs_types[i].magic == (uint32_t)st->fs_type) {
            return fs_types[i].remote;
        }
    }
    return true; /* unknown: the careful answer */
}

int store_read_super(struct store *st) {
    return read_slots(st->slot_fd, &st->super);
}

int store_write_super(struct store *st, const struct super *super) {
    struct super next = *super;
    uint8_t bytes[SUPER_BYTES];
    int fd;
    ssize_t n;

    next.kind = SUPER_STORE;
    next.store_id = st->super.store_id;
    next.seq = st->super.seq + 1;
    super_encode(&next, bytes);
    fd = st->slot_fd[next.seq % SUPER_SLOTS];
    if (fd < 0) {
        return -EIO; /* the slot's file was removed behind our back */
    }
    n = io_pwrite(fd, bytes, sizeof(bytes), 0);
    if (n < 0) {
        return (int)n;
    }
    if (n != SUPER_BYTES) {
        return -ENOSPC;
    }
    if (fdatasync(fd) < 0) {
        return -errno;
    }
    st->super = next;
    return 0;
}

int store_check(struct store *st, struct why *why) {
    scope_fd int now = open_root(st->path, why);
    struct super super;
    uint64_t ino = 0, mount = 0;
    dev_t dev = 0;
    int err;

    if (now < 0) {
        return now;
    }
    err = mount_identity(now, &dev, &ino, &mount);
    if (err < 0) {
        return why_set(why, err, "cannot stat %s", st->path);
    }
    if (dev != st->dev || ino != st->root_ino || mount != st->mount_id) {
        return why_set(why, -HFE_NO_STORE,
                       "%s is no longer the store that was opened: its mount is gone or another",
                       st->path);
    }
    err = store_identify(st->path, &super, why);
    if (err < 0) {
        return err;
    }
    if (!id_equal(&super.store_id, &st->super.store_id)) {
        return why_set(why, -HFE_FOREIGN, "%s now holds another store", st->path);
    }
    if (super.owner.nonce != st->super.owner.nonce ||
        !id_equal(&super.owner.boot_id, &st->super.owner.boot_id)) {
        return why_set(why, -HFE_IN_USE, "another daemon has mounted %s meanwhile", st->path);
    }
    return 0;
}

static const char probe_name[] = "probe";

uint64_t store_heartbeat(const struct store *st) {
    scope_fd int fd = openat(st->folder, probe_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uint64_t stamp = 0;

    return fd >= 0 && io_pread(fd, &stamp, sizeof(stamp), 0) == sizeof(stamp) ? stamp : 0;
}

int store_check_alive(struct store *st, bool full) {
    uint64_t stamp = (uint64_t)clock_ms(), back = 0;
    const uint64_t both[2] = {stamp, stamp}; /* the heartbeat; and what only a full look writes */
    scope_fd int fd =
        openat(st->folder, probe_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? -errno : io_pwrite(fd, both, full ? sizeof(both) : sizeof(stamp), 0);
    int err = full && n >= 0 ? store_check(st, NULL) : 0;

    if (n < 0 || err < 0 || !full) {
        return n < 0 ? (int)n : err;
    }
    if (fdatasync(fd) < 0) {
        return -errno;
    }
    n = io_pread(fd, &back, sizeof(back), sizeof(stamp));
    return n < 0 ? (int)n : back == stamp ? 0 : -EIO;
}
