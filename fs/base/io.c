#include "base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

ssize_t io_pread(int fd, void *buf, size_t n, off_t off) {
    size_t done = 0;

    while (done < n) {
        ssize_t r = pread(fd, (char *)buf + done, n - done, off + (off_t)done);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0) {
            return -errno;
        }
        if (r == 0) {
            break;
        }
        done += (size_t)r;
    }
    return (ssize_t)done;
}

ssize_t io_pwrite(int fd, const void *buf, size_t n, off_t off) {
    size_t done = 0;

    while (done < n) {
        ssize_t r = pwrite(fd, (const char *)buf + done, n - done, off + (off_t)done);

        if (r < 0 && errno == EINTR) {
            continue;
        }
        if (r < 0 && done == 0) {
            return -errno;
        }
        if (r <= 0) {
            break;
        }
        done += (size_t)r;
    }
    return (ssize_t)done;
}

static int write_synced(int dirfd, const char *name, const void *data, size_t n, mode_t mode) {
    scope_fd int fd =
        openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
    ssize_t w;

    if (fd < 0) {
        return -errno;
    }
    w = io_pwrite(fd, data, n, 0);
    if (w < 0) {
        return (int)w;
    }
    if ((size_t)w != n) {
        return -ENOSPC;
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0 || close(steal_fd(&fd)) < 0) {
        return -errno;
    }
    return 0;
}

int io_replace(int dirfd, const char *name, const void *data, size_t n, mode_t mode) {
    char tmp[NAME_BYTES];
    scope_fd int folder = -1;
    int err;

    if (snprintf(tmp, sizeof(tmp), "%s.new", name) >= (int)sizeof(tmp)) {
        return -ENAMETOOLONG;
    }
    err = write_synced(dirfd, tmp, data, n, mode);
    if (err == 0 && renameat(dirfd, tmp, dirfd, name) < 0) {
        err = -errno;
    }
    if (err < 0) {
        (void)unlinkat(dirfd, tmp, 0); /* what is left of a failed try */
        return err;
    }
    folder = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 || fsync(folder) < 0) {
        return -errno;
    }
    return 0;
}

int io_read_text(int dirfd, const char *name, char **ret_text) {
    scope_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *text;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > 1 << 20) {
        return -EFBIG;
    }
    text = malloc((size_t)st.st_size + 1);
    if (!text) {
        return -ENOMEM;
    }
    n = io_pread(fd, text, (size_t)st.st_size, 0);
    if (n < 0) {
        free(text);
        return (int)n;
    }
    text[n] = '\0';
    *ret_text = text;
    return 0;
}

int io_open_dir(int dirfd, const char *name, DIR **ret_dir) {
    scope_fd int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d) {
        return -errno;
    }
    (void)steal_fd(&fd); /* the stream's now */
    *ret_dir = d;
    return 0;
}

/* Depth is bounded: each level holds a descriptor. */
static int remove_tree(int at, const char *name, int depth) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err;

    if (unlinkat(at, name, 0) == 0) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return -errno;
    }
    err = io_open_dir(at, name, &d);
    if (err < 0) {
        return err;
    }
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            err = depth > 0 ? remove_tree(dirfd(d), e->d_name, depth - 1) : -ELOOP;
            if (err < 0) {
                return err;
            }
        }
    }
    return unlinkat(at, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int io_remove_tree(int dirfd, const char *name) {
    return remove_tree(dirfd, name, TREE_DEPTH_MAX);
}

static pid_t ask_folder(const char *path) {
    struct statfs st;
    pid_t pid = fork();

    if (pid == 0) {
        (void)close_range(0, ~0U, 0); /* whoever reads our output is not to wait for this one */
        _exit(statfs(path, &st) < 0); /* other calls may be answered from the kernel's cache */
    }
    return pid;
}

void io_plain_signals(void) {
    sigset_t none;

    (void)sigemptyset(&none); /* these cannot fail */
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGUSR1, SIG_DFL);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

void io_ask_folders(const char *const *paths, unsigned n, int timeout_ms, bool *ret_answers) {
    enum { STEP_MS = 2 };
    int64_t until = clock_ms() + timeout_ms;
    unsigned waits = n;
    pid_t pid[64];

    for (unsigned i = 0; i < n; i++) {
        pid[i] = ask_folder(paths[i]);
        ret_answers[i] = pid[i] < 0; /* nobody was asked: whoever opens it finds out */
        waits -= pid[i] < 0;
    }
    while (waits > 0 && clock_ms() < until) {
        for (unsigned i = 0; i < n; i++) {
            if (!ret_answers[i] && waitpid(pid[i], NULL, WNOHANG) != 0) {
                ret_answers[i] = true;
                waits--;
            }
        }
        if (waits > 0) {
            (void)poll(NULL, 0, STEP_MS);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        if (!ret_answers[i]) {
            (void)kill(pid[i], SIGKILL); /* it ends when its call does */
        }
    }
}

int io_make_path(const char *path, mode_t mode) {
    char part[PATH_BYTES];

    for (const char *p = path;; p++) {
        if (*p == '/' || *p == '\0') {
            size_t n = (size_t)(p - path);

            if (n >= sizeof(part)) {
                return -ENAMETOOLONG;
            }
            memcpy(part, path, n);
            part[n] = '\0';
            if (n > 0 && mkdir(part, mode) < 0 && errno != EEXIST) {
                return -errno;
            }
        }
        if (*p == '\0') {
            return 0;
        }
    }
}

unsigned long io_raise_file_limit(void) {
    struct rlimit limit = {.rlim_cur = 1024};

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* the lower limit will do */
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    return limit.rlim_cur;
}
