/* What snapshots are for: getting files back. And reading all of one, to know that one could. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "store/copy.h"
#include "tools/pairs.h"
#include "tools/snapshots.h"

/* Runs a program and waits. */
static int run_program(const char *const argv[], struct why *why) {
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        io_plain_signals();
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

static int by_last_name(const void *a, const void *b) {
    return strcmp(last_of(*(char *const *)a), last_of(*(char *const *)b));
}

/* Two of one last name would become one. */
static int check_last_names(const struct args *a, struct why *why) {
    char **path = calloc((size_t)a->count, sizeof(*path));
    int n = 0, err = path ? 0 : why_set(why, -ENOMEM, "out of memory");

    while (err == 0 && n < a->count - 1) {
        path[n] = path_inside(a->word[n + 1], why);
        err = path[n] ? 0 : -HFE_USAGE;
        n += err == 0;
    }
    if (err == 0) {
        qsort(path, (size_t)n, sizeof(*path), by_last_name);
    }
    for (int i = 1; i < n && err == 0; i++) {
        if (by_last_name(&path[i - 1], &path[i]) == 0) {
            err = why_set(why, -HFE_USAGE,
                          "%s and %s would both be restored to %s/%s: restore them one at a "
                          "time, to different folders",
                          path[i - 1], path[i], a->to, last_of(path[i]));
        }
    }
    while (n > 0) {
        free(path[--n]);
    }
    free(path);
    return err;
}

static int restore_to(const struct args *a, const char *view, struct why *why) {
    int err = check_last_names(a, why);

    if (err < 0) {
        return err;
    }
    err = mkdir(a->to, 0755) < 0 && errno != EEXIST ? -errno : 0;

    if (err < 0) {
        return why_set(why, err, "%s: %s", a->to, error_words(err));
    }
    for (int i = 1; i < a->count || i == 1; i++) {
        scope_free char *path = path_inside(a->count > 1 ? a->word[i] : "", why);
        char from[PATH_BYTES], to[PATH_BYTES];

        err = path ? join(from, view, path, why) : -HFE_USAGE;
        err = err < 0 ? err : join(to, a->to, last_of(path), why);
        err = err < 0 ? err : copy(from, to, why);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

/* --- restore --verify --- */

struct checking {
    const char *where; /* what the paths that are told are below of */
    bool exact;        /* nothing else may be there */
    uint64_t compared, different;
};

/* What is compared is what the disk has, or the daemon of a volume. */
static void drop_cached(const struct pair *p) {
    scope_fd int fd =
        openat(p->folder[1], p->name[1], O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* it was synced */
    }
}

static int check_one(void *arg, const struct pair *p) {
    struct checking *c = arg;
    const struct stat *a = p->st[0], *b = p->st[1];
    bool same_type = a && b && ((a->st_mode ^ b->st_mode) & S_IFMT) == 0;
    const char *what;
    char text[4 * PATH_BYTES + 1];

    if (!a && !c->exact) {
        return 0;
    }
    if (same_type && S_ISREG(a->st_mode)) {
        drop_cached(p);
    }
    what = !a                      ? "is there, and was not"
           : !b                    ? "is missing"
           : !same_type            ? "is of another type"
           : !copy_same_stat(a, b) ? "has another owner, mode, size or time"
           : !pair_same_content(p) ? "has other content"
                                   : NULL;
    c->compared++;
    if (what) {
        c->different++;
        (void)text_escape(p->path, text, sizeof(text));
        (void)fprintf(stderr, "holdfast: %s/%s %s\n", c->where, text, what);
    }
    return same_type && S_ISDIR(a->st_mode);
}

/* Compares a path of the snapshot with where it was restored to; "": all of it, and the folder itself. */
static int check_path(struct checking *c, const int top[2], const char *path, const char *to_path,
                      struct why *why) {
    const struct pairs_walk walk = {.each = check_one, .arg = c};
    struct pair whole = {.path = "", .name = {".", "."}, .folder = {top[0], top[1]}};
    scope_free char *where = NULL;
    const char *last;
    struct stat st[2];
    scope_fd int a = pairs_open(top[0], path, &last);
    scope_fd int b = pairs_open(top[1], to_path, &last);
    int err = a < 0 ? a : b < 0 ? b : 0;
    char text[512];

    if (err == 0 && !*path) {
        err = fstat(top[0], &st[0]) < 0 || fstat(top[1], &st[1]) < 0 ? -errno : 0;
        whole.st[0] = &st[0];
        whole.st[1] = &st[1];
        err = err < 0 ? err : check_one(c, &whole);
        err = err < 0 ? err : pairs_walk(top, &walk, &where);
    } else if (err == 0) {
        err = pairs_walk_name((const int[]){a, b}, to_path, last, &walk, &where);
    }
    if (err < 0) {
        (void)text_escape(where ? where : to_path, text, sizeof(text));
        (void)why_set(why, err, "%s/%s cannot be compared with the snapshot: %s", c->where, text,
                      error_words(err));
    }
    return err;
}

/* What was restored is read back, and compared with the snapshot in every byte. */
static int check(const struct args *a, const struct snapshot_view *view, struct checking *c,
                 struct why *why) {
    const char *to = a->to ? a->to : view->mount;
    scope_fd int from = open(view->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = from < 0 ? why_set(why, -errno, "%s: %s", view->path, error_words(-errno))
              : fd < 0 || syncfs(fd) < 0
                  ? why_set(why, -errno, "%s cannot be synced: %s", to, error_words(-errno))
                  : 0;

    *c = (struct checking){.where = to, .exact = a->in_place};
    (void)io_raise_file_limit();
    for (int i = 1; (i < a->count || i == 1) && err == 0; i++) {
        scope_free char *path = path_inside(a->count > 1 ? a->word[i] : "", why);

        err = path ? check_path(c, (const int[]){from, fd}, path, a->to ? last_of(path) : path, why)
                   : -HFE_USAGE;
    }
    return err < 0 || c->different == 0
               ? err
               : why_set(why, -EIO,
                         "what was restored differs from the snapshot in %llu of %llu objects: "
                         "something else changes it, or a disk fails",
                         (unsigned long long)c->different, (unsigned long long)c->compared);
}

static void tell_restored(const struct args *a, const struct target *t, const struct restored *r,
                          const struct checking *c) {
    if (a->json) {
        json_t *o = json_pack("{s:i, s:s, s:s, s:b, s:o*, s:s*}", "schema", 1, "volume", t->volume,
                              "snapshot", t->snapshot, "in_place", a->in_place, "to",
                              a->to ? text_json("", a->to) : NULL, "safety_snapshot",
                              r->safety[0] ? r->safety : NULL);

        if (a->in_place) {
            (void)json_object_set_new(o, "put_back", json_integer((json_int_t)r->put_back));
            (void)json_object_set_new(o, "removed", json_integer((json_int_t)r->removed));
        }
        if (a->verify) {
            (void)json_object_set_new(o, "compared", json_integer((json_int_t)c->compared));
        }
        print_json(o);
        return;
    }
    if (a->in_place && !a->quiet) {
        (void)printf(
            "%llu names put back, %llu removed; %s is the snapshot of before the restore\n",
            (unsigned long long)r->put_back, (unsigned long long)r->removed, r->safety);
    }
    if (a->verify && !a->quiet) {
        (void)printf("%llu objects compared with the snapshot, no difference\n",
                     (unsigned long long)c->compared);
    }
}

int cmd_restore(const struct args *a) {
    struct restored restored = {0};
    struct checking checking = {0};
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
        err = a->to ? restore_to(a, view.path, &why)
                    : restore_in_place(a, &t, &view, &restored, &why);
    }
    if (err == 0 && a->verify) {
        err = check(a, &view, &checking, &why);
        if (err < 0 && a->in_place) {
            (void)fprintf(stderr, "holdfast: %s is the snapshot of before the restore\n",
                          restored.safety);
        }
    }
    if (err < 0) {
        return fail(err, &why);
    }
    tell_restored(a, &t, &restored, &checking);
    return EXIT_OK;
}

/* --- verify --- */

struct reading {
    char *buf;
    long percent; /* of each file's bytes, picked at random */
    unsigned seed;
    uint64_t bytes, bad;
    json_t *list; /* with --json: what cannot be read */
};

enum { READ_BYTES = 1 << 20 };

static void tell_bad(struct reading *r, const char *path, int err) {
    char text[4 * PATH_BYTES + 1];

    r->bad++;
    (void)text_escape(*path ? path : "/", text, sizeof(text));
    if (r->list) {
        (void)json_array_append_new(
            r->list, json_pack("{s:s, s:s}", "path", text, "error", error_words(err)));
    } else {
        (void)printf("%s: %s\n", text, error_words(err));
    }
}

static int read_file(struct reading *r, int fd, off_t size) {
    for (off_t at = 0; at < size; at += READ_BYTES) {
        if (r->percent == 100 || rand_r(&r->seed) % 100 < r->percent) {
            ssize_t n = io_pread(fd, r->buf, READ_BYTES, at);

            if (n < 0) {
                return (int)n;
            }
            r->bytes += (uint64_t)n;
        }
    }
    return 0;
}

/* All that can be read of it; what cannot is told. */
static void read_all(struct reading *r, int folder, const char *name, const char *path) {
    struct stat st;

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
        int err = fd < 0 ? -errno : read_file(r, fd, st.st_size);

        if (err < 0) {
            tell_bad(r, path, err);
        }
    }
}

int verify_snapshot(const struct args *a, const char *path) {
    struct snapshot_view view;
    char size[32];
    struct reading r = {.percent = a->sample ? a->sample : 100, .seed = (unsigned)clock_us()};
    struct why why = {""};
    char top[PATH_BYTES], shown[PATH_BYTES + 1];
    struct target t;
    int err = snapshot_parse(a->word[0], true, &t, &why);

    err = err < 0 ? err : snapshot_find_view(&t, true, &view, &why);
    err = err < 0 ? err : join(top, view.path, path, &why);
    if (err == 0 && access(top, F_OK) < 0) {
        err = why_set(&why, -errno, "/%s: %s", path, error_words(-errno));
    }
    if (err == 0 && !(r.buf = malloc(READ_BYTES))) {
        err = why_set(&why, -ENOMEM, "out of memory");
    }
    if (err < 0) {
        return fail(err, &why);
    }
    (void)io_raise_file_limit();
    r.list = a->json ? json_array() : NULL;
    (void)snprintf(shown, sizeof(shown), "%s%s", *path ? "/" : "", path); /* it fits */
    read_all(&r, AT_FDCWD, top, shown);
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
