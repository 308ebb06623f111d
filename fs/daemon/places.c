/* A volume's lock, its files in the run folder, and where it is mounted. */
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <syslog.h>

#include "base/clock.h"
#include "base/io.h"
#include "daemon/daemon.h"

enum { DEAD_PATIENCE_MS = 3000 /* one that was killed holds its lock until it is quite gone */ };

static void run_path(const char *name, const char *suffix, char ret_path[PATH_BYTES]) {
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s.%s", run_dir(), name,
                   suffix); /* too long fails at open */
}

void daemon_socket_path(const char *name, char ret_path[PATH_BYTES]) {
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s.sock", run_dir_of(name), name); /* as run_path() */
}

void daemon_ring_path(const char *name, char ret_path[PATH_BYTES]) {
    run_path(name, "ring", ret_path);
}

static int open_lock(const char *name) {
    char path[PATH_BYTES];
    mode_t mask;
    int fd, err;

    run_path(name, "lock", path);
    mask = umask(022); /* others may ask whether it is locked */
    err = io_make_path(run_dir(), 0755);
    fd = err < 0 ? err : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    err = err < 0 ? err : -errno;
    (void)umask(mask);
    return fd < 0 ? err : fd;
}

int daemon_lock(const char *name, struct why *why) {
    scope_fd int fd = open_lock(name);

    if (fd < 0) {
        return why_set(why, fd, "cannot open the lock in %s: %s", run_dir(), error_words(fd));
    }
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        return why_set(
            why, -HFE_IN_USE,
            "volume \"%s\" is mounted, or another command works on it; see `holdfast status %s`",
            name, name);
    }
    return steal_fd(&fd);
}

bool daemon_is_running(const char *name) {
    char path[PATH_BYTES];
    scope_fd int fd = -1;

    (void)snprintf(path, sizeof(path), "%s/%s.lock", run_dir_of(name), name); /* as run_path() */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? errno != ENOENT : flock(fd, LOCK_SH | LOCK_NB) < 0;
}

void daemon_clear_dead(const char *name) {
    char mount_point[PATH_BYTES], other[PATH_BYTES];
    struct statfs st;

    /* statfs(2) always asks the daemon; stat(2) may be answered from the kernel's cache. */
    while (daemon_find_mount(name, mount_point, other) == 0 && statfs(mount_point, &st) < 0) {
        if (errno == ECONNABORTED || errno == ECANCELED) {
            continue; /* it was killed while it had our question; the next answer is clear */
        }
        /* One that was killed just now holds its lock until it is quite gone. */
        if (errno != ENOTCONN || daemon_wait_gone(name, DEAD_PATIENCE_MS) < 0 ||
            umount2(mount_point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0) {
            return; /* the mount that follows says what is wrong */
        }
    }
}

int daemon_wait_gone(const char *name, int timeout_ms) {
    int64_t deadline = clock_ms() + timeout_ms;

    while (daemon_is_running(name)) {
        if (clock_ms() >= deadline) {
            return -ETIMEDOUT;
        }
        (void)poll(NULL, 0, 20); /* there is no call that waits for a lock with a limit */
    }
    return 0;
}

void daemon_note_mount(int lock, const char *mount_point) {
    if (ftruncate(lock, 0) < 0 || io_pwrite(lock, mount_point, strlen(mount_point), 0) < 0) {
        syslog(LOG_WARNING, "cannot note the mount point in the lock file");
    }
}

/* "" if nobody noted one. */
static void noted_mount_point(const char *name, char ret_path[PATH_BYTES]) {
    scope_fd int fd = open_lock(name);
    ssize_t n = fd < 0 ? 0 : io_pread(fd, ret_path, PATH_BYTES - 1, 0);

    ret_path[n > 0 ? n : 0] = '\0';
}

int daemon_find_mount(const char *what, char ret_mount_point[PATH_BYTES],
                      char ret_name[PATH_BYTES]) {
    char real[PATH_BYTES], buf[3 * PATH_BYTES];
    const char *path = strchr(what, '/') ? (realpath(what, real) ? real : what) : "";
    char noted[PATH_BYTES] = "";
    FILE *f = setmntent("/proc/self/mounts", "re");
    struct mntent e;
    int err = -ENOENT;

    if (!f) {
        return -errno;
    }
    if (!*path) {
        noted_mount_point(what, noted);
    }
    while (getmntent_r(f, &e, buf, sizeof(buf))) { /* the last one counts: it hides the others */
        if (strcmp(e.mnt_type, "fuse.holdfast") == 0 &&
            ((strcmp(e.mnt_fsname, what) == 0 && (!*noted || strcmp(e.mnt_dir, noted) == 0)) ||
             strcmp(e.mnt_dir, path) == 0)) {
            (void)snprintf(ret_mount_point, PATH_BYTES, "%s", e.mnt_dir);
            (void)snprintf(ret_name, PATH_BYTES, "%s", e.mnt_fsname);
            err = 0;
        }
    }
    (void)endmntent(f); /* always 1 */
    return err;
}

int daemon_unmount(const char *mount_point, const char *name, bool lazy, struct why *why) {
    enum { FLUSH_MS = 3600 * 1000 }; /* flushing gigabytes to a slow disk takes its time */

    if (umount2(mount_point, (lazy ? MNT_DETACH : 0) | UMOUNT_NOFOLLOW) < 0) {
        return why_set(why, -errno, "cannot unmount %s: %s%s", mount_point, error_words(-errno),
                       errno == EBUSY ? "; `fuser -vm` shows who uses it" : "");
    }
    if (!lazy && daemon_wait_gone(name, FLUSH_MS) < 0) {
        return why_set(
            why, -ETIMEDOUT,
            "%s is unmounted, but its daemon still flushes; `holdfast status %s` shows it",
            mount_point, name);
    }
    return 0;
}
