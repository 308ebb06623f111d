/* What snapshots are for: getting files back. And reading all of one, to know that one could. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "tools/snapshots.h"

/* Runs a program and waits. */
static int run_program(const char *const argv[], struct why *why) {
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        (void)execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return why_set(why, -errno, "cannot run %s", argv[0]);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : why_set(why, -EIO,
                         "%s failed, and said why; what it had copied until then is there",
                         argv[0]);
}

char *restore_path(const char *word, struct why *why) {
    char *path = calloc(1, strlen(word) + 1), *to = path;

    for (const char *p = word; path && *p;) {
        size_t n = strcspn(p, "/");

        if (n == 2 && strncmp(p, "..", 2) == 0) {
            (void)why_set(why, -HFE_USAGE, "%s: a path inside the volume has no ..", word);
            free(path);
            return NULL;
        }
        if (n > 0 && !(n == 1 && *p == '.')) {
            if (to > path) {
                *to++ = '/';
            }
            memcpy(to, p, n); /* the path is not longer than the word */
            to += n;
        }
        p += n;
        p += *p == '/';
    }
    if (!path) {
        (void)why_set(why, -ENOMEM, "out of memory");
    }
    return path;
}

static int join(char ret[PATH_BYTES], const char *a, const char *b, struct why *why) {
    return snprintf(ret, PATH_BYTES, "%s%s%s", a, *b ? "/" : "", b) < PATH_BYTES
               ? 0
               : why_set(why, -ENAMETOOLONG, "the path %s/%s is too long", a, b);
}

/* All that cp(1) keeps, holes and links among them. */
static int copy(const char *from, const char *to, struct why *why) {
    const char *const argv[] = {"cp", "-a", "-T", "--reflink=auto", "--", from, to, NULL};

    return run_program(argv, why);
}

static const char *last_of(const char *path) {
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int restore_to(const struct args *a, const char *view, struct why *why) {
    int err = mkdir(a->to, 0755) < 0 && errno != EEXIST ? -errno : 0;

    if (err < 0) {
        return why_set(why, err, "%s: %s", a->to, error_words(err));
    }
    for (int i = 1; i < a->count || i == 1; i++) {
        scope_free char *path = restore_path(a->count > 1 ? a->word[i] : "", why);
        char from[PATH_BYTES], to[PATH_BYTES];

        for (int k = 1; path && k < i; k++) { /* two of one last name would become one */
            scope_free char *before = restore_path(a->word[k], why);

            if (before && strcmp(last_of(before), last_of(path)) == 0) {
                return why_set(why, -HFE_USAGE,
                               "%s and %s would both be restored to %s/%s: restore them one at a "
                               "time, to different folders",
                               a->word[k], a->word[i], a->to, last_of(path));
            }
        }
        err = path ? join(from, view, path, why) : -HFE_USAGE;
        err = err < 0 ? err : join(to, a->to, last_of(path), why);
        err = err < 0 ? err : copy(from, to, why);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

int cmd_restore(const struct args *a) {
    struct snapshot_view view;
    struct why why = {""};
    struct target t;
    int err = snapshot_parse(a->word[0], true, &t, &why);

    if (err == 0 && (a->to != NULL) == a->in_place) {
        err = why_set(&why, -HFE_USAGE, "where to? Say either --to DIR or --in-place");
    }
    err = err < 0 ? err : snapshot_find_view(&t, true, &view, &why);
    if (err == 0 && a->in_place &&
        !confirmed(a, t.volume, "What is there now is replaced (a snapshot is made first).")) {
        return EXIT_UNSAFE;
    }
    if (err == 0) {
        err = a->to ? restore_to(a, view.path, &why) : restore_in_place(a, &t, &view, &why);
    }
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* --- verify --- */

struct reading {
    char *buf;
    uint64_t bytes, bad;
    json_t *list; /* with --json: what cannot be read */
};

enum { READ_BYTES = 1 << 20 };

static void tell_bad(struct reading *r, const char *path, int err) {
    r->bad++;
    if (r->list) {
        json_t *o = json_pack("{s:s, s:s}", "path", path, "error", error_words(err));

        (void)json_array_append_new(
            r->list, o ? o : json_pack("{s:s}", "error", error_words(err))); /* no UTF-8 */
    } else {
        (void)printf("%s: %s\n", path, error_words(err));
    }
}

/* All that can be read of it; what cannot is told. */
static void read_all(struct reading *r, int folder, const char *name, const char *path) {
    struct stat st;
    ssize_t n = 1;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        tell_bad(r, path, errno == ENOENT ? -EIO : -errno);
        return;
    }
    if (S_ISDIR(st.st_mode)) {
        scope_dir DIR *d = NULL;
        struct dirent *e;
        int err = io_open_dir(folder, name, &d);

        while (err == 0 && (errno = 0, e = readdir(d))) {
            scope_free char *below = NULL;

            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
                err = asprintf(&below, "%s/%s", path, e->d_name) < 0 ? -ENOMEM : 0;
                if (err == 0) {
                    read_all(r, dirfd(d), e->d_name, below);
                }
            }
        }
        err = err < 0 ? err : -errno;
        if (err < 0) {
            tell_bad(r, path, err);
        }
    } else if (S_ISREG(st.st_mode)) {
        scope_fd int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

        while (fd >= 0 && (n = read(fd, r->buf, READ_BYTES)) > 0) {
            r->bytes += (uint64_t)n;
        }
        if (fd < 0 || n < 0) {
            tell_bad(r, path, -errno);
        }
    }
}

int verify_snapshot(const struct args *a) {
    struct snapshot_view view;
    char size[32];
    struct reading r = {.buf = NULL};
    struct why why = {""};
    struct target t;
    int err = snapshot_parse(a->word[0], true, &t, &why);

    err = err < 0 ? err : snapshot_find_view(&t, true, &view, &why);
    if (err == 0 && !(r.buf = malloc(READ_BYTES))) {
        err = why_set(&why, -ENOMEM, "out of memory");
    }
    if (err < 0) {
        return fail(err, &why);
    }
    (void)io_raise_file_limit();
    r.list = a->json ? json_array() : NULL;
    read_all(&r, AT_FDCWD, view.path, view.path);
    free(r.buf);
    if (r.list) {
        print_json(json_pack("{s:i, s:s, s:s, s:I, s:o}", "schema", 1, "volume", t.volume,
                             "snapshot", t.snapshot, "bytes", (json_int_t)r.bytes, "unreadable",
                             r.list));
    } else if (!a->quiet) {
        (void)printf("%s@%s: %s read, %llu files cannot be\n", t.volume, t.snapshot,
                     size_text(r.bytes, false, size), (unsigned long long)r.bad);
    }
    return r.bad > 0 ? EXIT_WARNINGS : EXIT_OK;
}
