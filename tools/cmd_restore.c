/* What snapshots are for: getting files back. And reading all of one, to know that one could. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/io.h"
#include "store/copy.h"
#include "tools/pairs.h"
#include "tools/snapshots.h"

enum { WALK_FDS = 32 };

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
               : why_set(why, -EIO, "%s failed; it said why", argv[0]);
}

/* A path inside the volume: no "..", no leading slash left. */
static const char *inside(const char *path, struct why *why) {
    const char *p = path;

    while (*p == '/') {
        p++;
    }
    for (const char *c = p; c; c = strchr(c, '/')) {
        c += *c == '/';
        if (strncmp(c, "..", 2) == 0 && (c[2] == '/' || !c[2])) {
            (void)why_set(why, -HFE_USAGE, "%s: a path inside the volume has no ..", path);
            return NULL;
        }
    }
    return p;
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

static int restore_to(const struct args *a, const char *view, struct why *why) {
    int err = mkdir(a->to, 0755) < 0 && errno != EEXIST ? -errno : 0;

    if (err < 0) {
        return why_set(why, err, "%s: %s", a->to, error_words(err));
    }
    for (int i = 1; i < a->count || i == 1; i++) {
        const char *path = a->count > 1 ? inside(a->word[i], why) : "";
        const char *last = path ? strrchr(path, '/') : NULL;
        char from[PATH_BYTES], to[PATH_BYTES];

        err = path ? join(from, view, path, why) : -HFE_USAGE;
        err = err < 0 ? err : join(to, a->to, last ? last + 1 : path, why);
        err = err < 0 ? err : copy(from, to, why);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

/* --- in place: what differs is made beside, and then all of it changes places --- */

/* One thing to do: a name that is put back, or goes; or a folder's attributes. */
struct step {
    struct step *next;
    bool attrs;
    bool wanted, there; /* of a name: in the snapshot, now */
    unsigned staged;    /* its name in the stage: what is wanted; afterwards what was there */
    char path[];        /* inside the volume */
};

/* A file of several names, one of which was seen: what the others are to be links of. */
struct linked {
    uint64_t ino;      /* in the snapshot */
    uint64_t live_ino; /* it is as it was, and this is it; 0: it is staged */
    UT_hash_handle hh;
    char path[]; /* in the volume, or in the stage */
};

/* A folder in which a name is put back, or goes. */
struct touched {
    UT_hash_handle hh;
    char path[];
};

struct restoring {
    int top[2];                 /* the snapshot, and the volume */
    int stage;                  /* the folder for both, in the volume's root */
    const char *stage_name;     /* NULL: it is to stay */
    struct step *names, *attrs; /* planned: names in any order; folders, the inner ones first */
    struct step **last_name, **last_attrs;
    struct linked *linked;
    struct touched *touched;
    struct copy_stat stat;
    unsigned staged;
    uint64_t put_back, removed;
    struct why *why;
};

static int cannot(struct restoring *r, const char *path, int err) {
    return why_set(r->why, err, "%s cannot be put back: %s; all is as it was", path,
                   error_words(err));
}

/* The folder that a path leads to the last part of; no link is followed. */
static int open_folder(int top, const char *path, const char **ret_last) {
    const char *slash = strchr(path, '/');
    char part[NAME_BYTES];
    int at, below;

    if (!slash) {
        *ret_last = *path ? path : ".";
        at = fcntl(top, F_DUPFD_CLOEXEC, 0);
        return at < 0 ? -errno : at;
    }
    (void)snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path); /* a name: it fits */
    at = openat(top, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (at < 0) {
        return -errno;
    }
    below = open_folder(at, slash + 1, ret_last);
    (void)close(at); /* only looked through */
    return below;
}

/* --- planning --- */

static struct step *new_step(struct restoring *r, const char *path, bool attrs) {
    struct step *s = calloc(1, sizeof(*s) + strlen(path) + 1);

    if (s) {
        s->attrs = attrs;
        s->staged = r->staged++;
        memcpy(s->path, path, strlen(path) + 1);
        if (attrs) {
            *r->last_attrs = s;
            r->last_attrs = &s->next;
        } else {
            *r->last_name = s;
            r->last_name = &s->next;
        }
    }
    return s;
}

static struct linked *find_linked(const struct restoring *r, uint64_t ino) {
    struct linked *l;

    HASH_FIND(hh, r->linked, &ino, sizeof(ino), l);
    return l;
}

static int note_linked(struct restoring *r, uint64_t ino, uint64_t live_ino, const char *path) {
    struct linked *l = calloc(1, sizeof(*l) + strlen(path) + 1);

    if (!l) {
        return -ENOMEM;
    }
    l->ino = ino;
    l->live_ino = live_ino;
    memcpy(l->path, path, strlen(path) + 1);
    HASH_ADD(hh, r->linked, ino, sizeof(l->ino), l);
    return 0;
}

static int link_to(const struct restoring *r, const struct linked *l, int to, const char *to_name) {
    const char *name = l->path;
    scope_fd int folder = l->live_ino ? open_folder(r->top[1], l->path, &name) : -1;

    return linkat(l->live_ino ? folder : r->stage, name, to, to_name, 0) < 0 ? -errno : 0;
}

static int stage_folder(struct restoring *r, int from, const char *name, int to,
                        const char *to_name, const char *path);

/* Makes to/to_name as from/name is, and all below it. `path`: of the new one, in the stage. */
static int stage(struct restoring *r, int from, const char *name, int to, const char *to_name,
                 const char *path) {
    struct linked *l = NULL;
    struct stat st;
    bool several;
    int err;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    several = !S_ISDIR(st.st_mode) && st.st_nlink > 1;
    l = several ? find_linked(r, st.st_ino) : NULL;
    if (l) {
        return link_to(r, l, to, to_name);
    }
    err = copy_new(from, name, to, to_name, &r->stat);
    if (err == 0 && several) {
        err = note_linked(r, st.st_ino, 0, path);
    }
    return err == 0 && S_ISDIR(st.st_mode) ? stage_folder(r, from, name, to, to_name, path) : err;
}

static int stage_folder(struct restoring *r, int from, const char *name, int to,
                        const char *to_name, const char *path) {
    scope_fd int made = openat(to, to_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = made < 0 ? -errno : io_open_dir(from, name, &d);

    while (err == 0 && (errno = 0, e = readdir(d))) {
        char below[PATH_BYTES];

        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            err = snprintf(below, sizeof(below), "%s/%s", path, e->d_name) < (int)sizeof(below)
                      ? stage(r, dirfd(d), e->d_name, made, e->d_name, below)
                      : -ENAMETOOLONG;
        }
    }
    err = err < 0 ? err : -errno;
    return err < 0 ? err : copy_attrs(from, name, to, to_name, &r->stat); /* the times once more */
}

static int note_touched(struct restoring *r, const char *path) {
    const char *end = strrchr(path, '/');
    size_t n = end ? (size_t)(end - path) : 0;
    struct touched *t;

    HASH_FIND(hh, r->touched, path, n, t);
    if (t) {
        return 0;
    }
    t = calloc(1, sizeof(*t) + n + 1);
    if (!t) {
        return -ENOMEM;
    }
    memcpy(t->path, path, n);
    HASH_ADD_KEYPTR(hh, r->touched, t->path, n, t);
    return 0;
}

static int plan_name(struct restoring *r, const struct pair *p) {
    struct step *s = new_step(r, p->path, false);
    char staged[32];
    int err = s ? note_touched(r, p->path) : -ENOMEM;

    if (err < 0) {
        return err;
    }
    s->wanted = p->st[0] != NULL;
    s->there = p->st[1] != NULL;
    r->put_back += s->wanted;
    r->removed += !s->wanted;
    (void)snprintf(staged, sizeof(staged), "%u", s->staged);
    return s->wanted ? stage(r, p->folder[0], p->name, r->stage, staged, staged) : 0;
}

/* Nobody can set a ctime; but it changes without the file, too: then the bytes say it. 1, 0, or a
 * negative errno. */
static int is_same(struct restoring *r, const struct pair *p) {
    const struct stat *a = p->st[0], *b = p->st[1];
    const struct linked *l = a->st_nlink > 1 ? find_linked(r, a->st_ino) : NULL;
    int err;

    if (!copy_same_stat(a, b) || a->st_nlink != b->st_nlink || (l && l->live_ino != b->st_ino)) {
        return 0;
    }
    if (l || clock_same(&a->st_ctim, &b->st_ctim)) {
        return 1;
    }
    if (!pair_same_content(p)) {
        return 0;
    }
    err = a->st_nlink > 1 ? note_linked(r, a->st_ino, b->st_ino, p->path) : 0;
    return err < 0 ? err : 1;
}

static int plan_pair(void *arg, const struct pair *p) {
    struct restoring *r = arg;
    bool both = p->st[0] && p->st[1] && ((p->st[0]->st_mode ^ p->st[1]->st_mode) & S_IFMT) == 0;
    int err;

    if (strcmp(p->path, r->stage_name) == 0) {
        return 0;
    }
    if (both && S_ISDIR(p->st[0]->st_mode)) {
        return 1;
    }
    err = both ? is_same(r, p) : 0;
    err = err == 0 ? plan_name(r, p) : err;
    return err < 0 ? cannot(r, p->path, err) : 0;
}

/* A folder's attributes, if they differ, or will: those it has now are kept on one in the stage. */
static int plan_attrs(void *arg, const struct pair *p) {
    struct restoring *r = arg;
    struct touched *touched;
    struct stat a, b;
    struct step *s;
    char staged[32];
    int err;

    HASH_FIND(hh, r->touched, p->path, strlen(p->path), touched);
    if (fstatat(p->folder[0], p->name, &a, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(p->folder[1], p->name, &b, AT_SYMLINK_NOFOLLOW) < 0) {
        return cannot(r, p->path, -errno);
    }
    if (!touched && a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid &&
        clock_same(&a.st_mtim, &b.st_mtim) &&
        (clock_same(&a.st_ctim, &b.st_ctim) ||
         copy_same_xattrs(p->folder[0], p->name, p->folder[1], p->name))) {
        return 0;
    }
    s = new_step(r, p->path, true);
    if (!s) {
        return cannot(r, p->path, -ENOMEM);
    }
    (void)snprintf(staged, sizeof(staged), "%u", s->staged);
    err = copy_new(p->folder[1], p->name, r->stage, staged, &r->stat);
    return err < 0 ? cannot(r, p->path, err) : 0;
}

/* --- doing --- */

static int change_places(const struct restoring *r, const struct step *s, int folder,
                         const char *name, bool undo) {
    char staged[32];
    bool swap = s->wanted && s->there, in = s->wanted != undo;
    int err;

    (void)snprintf(staged, sizeof(staged), "%u", s->staged);
    if (swap) {
        err = renameat2(r->stage, staged, folder, name, RENAME_EXCHANGE);
    } else if (in) {
        err = renameat2(r->stage, staged, folder, name, RENAME_NOREPLACE);
    } else {
        err = renameat2(folder, name, r->stage, staged, RENAME_NOREPLACE);
    }
    return err < 0 ? -errno : 0;
}

static int set_attrs(struct restoring *r, const struct step *s, int folder, const char *name,
                     bool undo) {
    const char *from_name = NULL;
    char staged[32];
    int err;

    if (undo) {
        (void)snprintf(staged, sizeof(staged), "%u", s->staged);
        return copy_attrs(r->stage, staged, folder, name, &r->stat);
    }
    scope_fd int from = open_folder(r->top[0], s->path, &from_name);
    err = from < 0 ? from : copy_attrs(from, from_name, folder, name, &r->stat);
    return err;
}

static int do_step(struct restoring *r, const struct step *s, bool undo) {
    const char *name = NULL;
    scope_fd int folder = open_folder(r->top[1], s->path, &name);

    return folder < 0 ? folder
           : s->attrs ? set_attrs(r, s, folder, name, undo)
                      : change_places(r, s, folder, name, undo);
}

/* All of them, or none. */
static int do_steps(struct restoring *r) {
    struct step *done = NULL, *s;
    int err = 0;

    *r->last_name = r->attrs; /* names first */
    r->attrs = NULL;
    while (err == 0 && (s = r->names)) {
        err = do_step(r, s, false);
        if (err < 0) {
            (void)cannot(r, s->path, err);
        } else {
            r->names = s->next;
            s->next = done;
            done = s;
        }
    }
    while ((s = done)) {
        done = s->next;
        if (err < 0 && do_step(r, s, true) < 0) {
            (void)why_set(r->why, err, "%s cannot be put back, and what was there is in %s/%u now",
                          s->path, r->stage_name ? r->stage_name : "the stage", s->staged);
            r->stage_name = NULL;
        }
        free(s);
    }
    return err;
}

static void free_steps(struct step *s) {
    while (s) {
        struct step *next = s->next;

        free(s);
        s = next;
    }
}

static void release(struct restoring *r) {
    struct touched *t, *next_touched;
    struct linked *l, *next_linked;

    free_steps(r->names);
    free_steps(r->attrs);
    HASH_ITER(hh, r->touched, t, next_touched) {
        HASH_DEL(r->touched, t);
        free(t);
    }
    HASH_ITER(hh, r->linked, l, next_linked) {
        HASH_DEL(r->linked, l);
        free(l);
    }
}

static int plan_all(struct restoring *r, const struct args *a) {
    const struct pairs_walk walk = {.each = plan_pair, .left = plan_attrs, .arg = r};
    int err = a->count > 1 ? 0 : pairs_walk(r->top, &walk);

    for (int i = 1; i < a->count && err == 0; i++) {
        const char *path = inside(a->word[i], r->why), *name = NULL;

        if (!path) {
            return -HFE_USAGE;
        }
        scope_fd int from = open_folder(r->top[0], path, &name);
        scope_fd int to = open_folder(r->top[1], path, &name);
        struct stat st;

        if (from >= 0 && to >= 0 && fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 &&
            fstatat(to, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            err = cannot(r, path, -ENOENT);
        } else {
            err = from < 0 ? cannot(r, path, from)
                  : to < 0 ? cannot(r, path, to)
                           : pairs_walk_name((const int[]){from, to}, path, name, &walk);
        }
    }
    return err < 0 && !r->why->text[0] ? cannot(r, "what differs", err) : err;
}

static int restore_staged(struct restoring *r, const struct args *a, const struct target *safety) {
    int err = plan_all(r, a);

    /* Making copies took room: is the snapshot that makes it safe still whole? */
    err = err < 0 ? err : snapshot_settle(safety, r->why);
    err = err < 0 ? err : do_steps(r);
    release(r);
    if (r->stage_name && io_remove_tree(r->top[1], r->stage_name) < 0) {
        (void)fprintf(stderr, "holdfast: %s could not be removed: it holds what was replaced\n",
                      r->stage_name);
    }
    return err;
}

static int restore_in_place(const struct args *a, const struct target *t, const char *view,
                            const char *mount, struct why *why) {
    scope_fd int from = open(view, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int to = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct restoring r = {.top = {from, to}, .why = why};
    struct target safety = *t;
    char stage_name[64];
    struct stat root, then;
    json_t *reply = NULL;
    int err = 0;

    if (from < 0 || to < 0 || fstat(to, &root) < 0 || fstat(from, &then) < 0) {
        return why_set(why, -errno, "%s: %s", from < 0 ? view : mount, error_words(-errno));
    }
    r.last_name = &r.names;
    r.last_attrs = &r.attrs;
    (void)snprintf(safety.snapshot, sizeof(safety.snapshot), "before-restore-%llu-%d",
                   (unsigned long long)clock_real_s(), (int)getpid());
    err = snapshot_create(&(struct args){.quiet = true}, &safety, &reply, why);
    json_decref(reply);
    if (err < 0) {
        return err;
    }
    (void)snprintf(stage_name, sizeof(stage_name), ".holdfast-restore-%d", (int)getpid());
    r.stage_name = stage_name;
    scope_fd int stage_fd = mkdirat(to, stage_name, 0700) < 0
                                ? -1
                                : openat(to, stage_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    r.stage = stage_fd;
    err = stage_fd < 0 ? why_set(why, -errno, "%s/%s: %s", mount, stage_name, error_words(-errno))
                       : restore_staged(&r, a, &safety);
    root = err == 0 && a->count == 1 ? then : root; /* the stage changed its time */
    if (futimens(to, (struct timespec[]){root.st_atim, root.st_mtim}) < 0) {
        (void)fprintf(stderr, "holdfast: the time of %s could not be set: %s\n", mount,
                      error_words(-errno));
    }
    if (!a->quiet) {
        (void)printf(
            "%llu names put back, %llu removed; %s is the snapshot of before the restore%s\n",
            (unsigned long long)(err < 0 ? 0 : r.put_back),
            (unsigned long long)(err < 0 ? 0 : r.removed), safety.snapshot,
            err < 0 ? ", which failed" : "");
    }
    return err;
}

int cmd_restore(const struct args *a) {
    char view[PATH_BYTES], mount[PATH_BYTES];
    struct why why = {""};
    struct target t;
    int err = snapshot_parse(a->word[0], true, &t, &why);

    if (err == 0 && (a->to != NULL) == a->in_place) {
        err = why_set(&why, -HFE_USAGE, "where to? Say either --to DIR or --in-place");
    }
    err = err < 0 ? err : snapshot_view(&t, view, mount, &why);
    if (err == 0 && a->in_place &&
        !confirmed(a, t.volume, "What is there now is replaced (a snapshot is made first).")) {
        return EXIT_UNSAFE;
    }
    if (err == 0) {
        err = a->to ? restore_to(a, view, &why) : restore_in_place(a, &t, view, mount, &why);
    }
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

/* --- verify --- */

static uint64_t read_bytes, bad_files; /* nftw(3) has no argument for its function */

static int read_file(const char *path, const struct stat *st, int type, struct FTW *where) {
    static char buf[1 << 20];
    scope_fd int fd =
        type == FTW_F && S_ISREG(st->st_mode) ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
    ssize_t n = 1;

    (void)where;
    if (type == FTW_DNR || type == FTW_NS || (type == FTW_F && S_ISREG(st->st_mode) && fd < 0)) {
        n = -1;
    }
    while (fd >= 0 && (n = read(fd, buf, sizeof(buf))) > 0) {
        read_bytes += (uint64_t)n;
    }
    if (n < 0) {
        (void)printf("%s: %s\n", path, error_words(-errno));
        bad_files++;
    }
    return 0;
}

int verify_snapshot(const struct args *a) {
    char view[PATH_BYTES], mount[PATH_BYTES], size[32];
    struct why why = {""};
    struct target t;
    int err = snapshot_parse(a->word[0], true, &t, &why);

    err = err < 0 ? err : snapshot_view(&t, view, mount, &why);
    if (err == 0 && nftw(view, read_file, WALK_FDS, FTW_PHYS | FTW_MOUNT) < 0) {
        err = why_set(&why, -errno, "%s: %s", view, error_words(-errno));
    }
    if (err < 0) {
        return fail(err, &why);
    }
    (void)printf("%s@%s: %s read, %llu files cannot be\n", t.volume, t.snapshot,
                 size_text(read_bytes, a->exact, size), (unsigned long long)bad_files);
    return bad_files > 0 ? EXIT_FAILED : EXIT_OK;
}
