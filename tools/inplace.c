/* restore --in-place: what differs is made beside, and then all of it changes places. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uthash.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/text.h"
#include "store/copy.h"
#include "tools/pairs.h"
#include "tools/snapshots.h"

#define STAGE ".holdfast-restore-" /* and the process */

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

/* One thing to do: a name that is put back, or goes; or a folder's attributes. Users may move things
 * while it is done: so it is known which folder, and which object, is meant. */
struct step {
    struct step *next;
    bool attrs;
    bool wanted, there; /* of a name: in the snapshot, now */
    ino_t folder, live; /* the folder it is in; the object there now */
    unsigned
        staged; /* its name in the stage: what is wanted; afterwards what was there. Of attributes: a
                        folder with those of now */
    char path[]; /* inside the volume */
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
    uint64_t cut_s;             /* when the snapshot was made */
    int stage;                  /* the folder for both, in the volume's root */
    const char *stage_name;     /* its name */
    bool stage_stays;           /* it holds what could not be put back */
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
    char text[512];

    (void)text_escape(path, text, sizeof(text));
    return why_set(r->why, err, "/%s cannot be put back: %s; all is as it was", text,
                   error_words(err));
}

static ino_t ino_of(int folder, const char *name) {
    struct stat st;

    return fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
}

/* --- planning --- */

static struct step *new_step(struct restoring *r, const struct pair *p, bool attrs) {
    struct step *s = calloc(1, sizeof(*s) + strlen(p->path) + 1);

    if (s) {
        s->attrs = attrs;
        s->folder = ino_of(p->folder[1], ".");
        s->live = ino_of(p->folder[1], p->name[1]);
        s->staged = r->staged++;
        memcpy(s->path, p->path, strlen(p->path) + 1);
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
    scope_fd int folder = l->live_ino ? pairs_open(r->top[1], l->path, &name) : -1;

    if (linkat(l->live_ino ? folder : r->stage, name, to, to_name, 0) < 0) {
        return -errno;
    }
    return l->live_ino == 0 || ino_of(to, to_name) == l->live_ino ? 0 : -ESTALE;
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

    if (interrupted) {
        return -EINTR;
    }
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? -EIO : -errno; /* a snapshot of which something is missing */
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
        scope_free char *below = NULL;

        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            err = asprintf(&below, "%s/%s", path, e->d_name) < 0
                      ? -ENOMEM
                      : stage(r, dirfd(d), e->d_name, made, e->d_name, below);
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
    struct step *s = new_step(r, p, false);
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
    return s->wanted ? stage(r, p->folder[0], p->name[0], r->stage, staged, staged) : 0;
}

/* A ctime changes without the file, too: then the bytes say it. 1, 0, or a negative errno. */
static int is_same(struct restoring *r, const struct pair *p) {
    const struct stat *a = p->st[0], *b = p->st[1];
    const struct linked *l = a->st_nlink > 1 ? find_linked(r, a->st_ino) : NULL;
    int err;

    if (!copy_same_stat(a, b) || a->st_nlink != b->st_nlink || (l && l->live_ino != b->st_ino)) {
        return 0;
    }
    if (l) {
        return 1;
    }
    if (!pair_untouched(p, r->cut_s) && !pair_same_content(p)) {
        return 0;
    }
    err = a->st_nlink > 1 ? note_linked(r, a->st_ino, b->st_ino, p->path) : 0;
    return err < 0 ? err : 1;
}

static int plan_pair(void *arg, const struct pair *p) {
    struct restoring *r = arg;
    bool both = p->st[0] && p->st[1] && ((p->st[0]->st_mode ^ p->st[1]->st_mode) & S_IFMT) == 0;
    int err;

    if (interrupted) {
        return -EINTR;
    }
    if (strncmp(p->path, STAGE, sizeof(STAGE) - 1) == 0) {
        return 0; /* ours, or of another restore */
    }
    if (both && S_ISDIR(p->st[0]->st_mode)) {
        return 1;
    }
    err = both ? is_same(r, p) : 0;
    err = err == 0 ? plan_name(r, p) : err;
    return err < 0 ? err : 0;
}

/* A folder's attributes, if they differ, or will: those it has now are kept on one in the stage. */
static int plan_attrs(void *arg, const struct pair *p) {
    struct restoring *r = arg;
    struct touched *touched;
    struct stat a, b;
    struct pair now = *p;
    struct step *s;
    char staged[32];

    now.st[0] = &a;
    now.st[1] = &b;
    HASH_FIND(hh, r->touched, p->path, strlen(p->path), touched);
    if (fstatat(p->folder[0], p->name[0], &a, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(p->folder[1], p->name[1], &b, AT_SYMLINK_NOFOLLOW) < 0) {
        return -errno;
    }
    if (!touched && a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid &&
        clock_same(&a.st_mtim, &b.st_mtim) &&
        (pair_untouched(&now, r->cut_s) ||
         copy_same_xattrs(p->folder[0], p->name[0], p->folder[1], p->name[1]))) {
        return 0;
    }
    s = new_step(r, p, true);
    if (!s) {
        return -ENOMEM;
    }
    (void)snprintf(staged, sizeof(staged), "%u", s->staged);
    return copy_new(p->folder[1], p->name[1], r->stage, staged, &r->stat);
}

/* Is it below another one, or the same as one before it? */
static bool is_covered(char *const *path, int n, int i) {
    for (int k = 0; k < n; k++) {
        size_t len = strlen(path[k]);

        if (k != i && strncmp(path[i], path[k], len) == 0 &&
            (path[i][len] == '/' || (path[i][len] == '\0' ? k < i : len == 0))) {
            return true;
        }
    }
    return false;
}

static int plan_path(struct restoring *r, const char *path, char **ret_where) {
    const struct pairs_walk walk = {.each = plan_pair, .left = plan_attrs, .arg = r};
    const char *name = NULL;

    if (!*path) {
        return pairs_walk(r->top, &walk, ret_where);
    }
    scope_fd int from = pairs_open(r->top[0], path, &name);
    scope_fd int to = pairs_open(r->top[1], path, &name);

    *ret_where = strdup(path);
    if (from < 0 || to < 0) {
        return from < 0 ? from : to;
    }
    if (ino_of(from, name) == 0 && ino_of(to, name) == 0) {
        return -ENOENT;
    }
    free(*ret_where);
    return pairs_walk_name((const int[]){from, to}, path, name, &walk, ret_where);
}

static int plan_all(struct restoring *r, char *const *path, int n) {
    int err = 0;

    for (int i = 0; i < n && err == 0; i++) {
        scope_free char *where = NULL;

        err = is_covered(path, n, i) ? 0 : plan_path(r, path[i], &where);
        if (err < 0) {
            (void)cannot(r, where ? where : path[i], err);
        }
    }
    return err;
}

/* --- doing --- */

/* Not over anything. Not all stores can tell that from renaming over something. */
static int move(int from, const char *name, int to, const char *to_name) {
    if (renameat2(from, name, to, to_name, RENAME_NOREPLACE) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return -errno;
    }
    return ino_of(to, to_name) != 0 ? -EEXIST : renameat(from, name, to, to_name) < 0 ? -errno : 0;
}

/* What was at `path` could not go back there: it stays where it is. */
static void stays(struct restoring *r, const char *path, const char *staged, int err) {
    (void)fprintf(stderr,
                  "holdfast: /%s could not be made again what it was (%s): that is in /%s/%s\n",
                  path, error_words(err), r->stage_name, staged);
    r->stage_stays = true;
}

/* Two names change places; on stores that cannot do it at once, one after the other. */
static int swap(struct restoring *r, const char *path, const char *staged, int folder,
                const char *name) {
    char aside[40];
    int err, back;

    if (renameat2(r->stage, staged, folder, name, RENAME_EXCHANGE) == 0) {
        return 0;
    }
    if (errno != EINVAL) {
        return -errno;
    }
    (void)snprintf(aside, sizeof(aside), "%s.old", staged);
    err = move(folder, name, r->stage, aside);
    if (err < 0) {
        return err;
    }
    err = move(r->stage, staged, folder, name);
    back = err < 0 ? move(r->stage, aside, folder, name) : move(r->stage, aside, r->stage, staged);
    if (back < 0) {
        stays(r, path, aside, back);
    }
    return err < 0 ? err : back;
}

static int change_places(struct restoring *r, const struct step *s, int folder, const char *name,
                         bool undo) {
    char staged[32];
    bool both = s->wanted && s->there, in = s->wanted != undo;
    int err;

    (void)snprintf(staged, sizeof(staged), "%u", s->staged);
    if (!undo && ino_of(folder, name) != (s->there ? s->live : 0)) {
        return -ESTALE; /* somebody put another one there meanwhile */
    }
    err = both ? swap(r, s->path, staged, folder, name)
          : in ? move(r->stage, staged, folder, name)
               : move(folder, name, r->stage, staged);
    if (err == 0 && !undo && s->there && ino_of(r->stage, staged) != s->live) {
        err = change_places(r, s, folder, name, true); /* back: it is another's */
        if (err < 0) {
            stays(r, s->path, staged, err);
        }
        return -ESTALE;
    }
    return err;
}

/* The attributes of the folder: the snapshot's, or those that it had. */
static int set_attrs(struct restoring *r, const struct step *s, int folder, const char *name,
                     bool undo) {
    scope_fd int live = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const char *from_name = NULL;
    char staged[32];

    if (live < 0) {
        return -errno;
    }
    if (ino_of(live, ".") != s->live) {
        return -ESTALE;
    }
    if (undo) {
        (void)snprintf(staged, sizeof(staged), "%u", s->staged);
        return copy_attrs(r->stage, staged, live, ".", &r->stat);
    }
    scope_fd int from = pairs_open(r->top[0], s->path, &from_name);
    return from < 0 ? from : copy_attrs(from, from_name, live, ".", &r->stat);
}

static int do_step(struct restoring *r, const struct step *s, bool undo) {
    const char *name = NULL;
    scope_fd int folder = pairs_open(r->top[1], s->path, &name);

    if (folder < 0) {
        return folder;
    }
    if (ino_of(folder, ".") != s->folder) {
        return -ESTALE;
    }
    return s->attrs ? set_attrs(r, s, folder, name, undo) : change_places(r, s, folder, name, undo);
}

static void undo_step(struct restoring *r, const struct step *s) {
    int err = do_step(r, s, true);

    if (err < 0) {
        char staged[32];

        (void)snprintf(staged, sizeof(staged), "%u", s->staged);
        stays(r, s->path, staged, err);
    }
}

/* `done`: the steps that were, the last one first. */
static void undo(struct restoring *r, struct step *done) {
    for (const struct step *s = done; s; s = s->next) {
        undo_step(r, s);
    }
    for (const struct step *s = r->attrs; s;
         s = s->next) { /* moving names back changed them, too */
        undo_step(r, s);
    }
}

static void free_steps(struct step *s) {
    while (s) {
        struct step *next = s->next;

        free(s);
        s = next;
    }
}

/* All of them, or none. */
static int do_steps(struct restoring *r) {
    struct step *done = NULL;
    int err = 0;

    for (struct step *s; err == 0 && (s = r->names);) {
        err = do_step(r, s, false);
        if (err == 0) {
            r->names = s->next;
            s->next = done;
            done = s;
        } else {
            (void)cannot(r, s->path, err);
        }
    }
    for (struct step *s = r->attrs; err == 0 && s; s = s->next) {
        err = do_step(r, s, false);
        if (err < 0) {
            (void)cannot(r, s->path, err);
        }
    }
    if (err < 0) {
        undo(r, done);
        if (r->stage_stays) {
            (void)why_set(r->why, err,
                          "the restore failed (%s), and not all is as it was: see above",
                          error_words(err));
        }
    }
    free_steps(done);
    return err;
}

/* Through its descriptor: whatever has its name by now. If it cannot go, its name says what it is. */
static void remove_stage(const struct restoring *r) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(r->stage, ".", &d);

    while (err == 0 && (errno = 0, e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            err = io_remove_tree(r->stage, e->d_name);
        }
    }
    err = err < 0 ? err : -errno;
    if (err == 0 && unlinkat(r->top[1], r->stage_name, AT_REMOVEDIR) < 0) {
        err = -errno;
    }
    if (err < 0) {
        (void)fprintf(
            stderr,
            "holdfast: /%s could not be removed (%s): nobody needs it any more, remove it "
            "by hand\n",
            r->stage_name, error_words(err));
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

static int restore_staged(struct restoring *r, char *const *path, int n,
                          const struct target *safety) {
    int err = plan_all(r, path, n);

    /* Making copies took room: is the snapshot that makes it safe still whole? And are they durable? */
    err = err < 0 ? err : snapshot_settle(safety, r->why);
    if (err == 0 && syncfs(r->stage) < 0) {
        err = why_set(r->why, -errno,
                      "the copies of what differs cannot be made durable: %s; all is as it was",
                      error_words(-errno));
    }
    if (err == 0) {
        err = do_steps(r);
        if (err == 0 && snapshot_settle(safety, r->why) < 0) {
            (void)fprintf(stderr,
                          "holdfast: all is put back; but %s, so what was replaced stays in /%s\n",
                          r->why->text, r->stage_name);
            r->stage_stays = true;
        }
    }
    if (!r->stage_stays) {
        remove_stage(r);
    }
    return err;
}

/* A folder of our own in the volume's root. */
static int open_stage(struct restoring *r) {
    struct stat st;
    int fd;

    if (mkdirat(r->top[1], r->stage_name, 0700) < 0) {
        return -errno;
    }
    fd = openat(r->top[1], r->stage_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        int err = -errno;

        (void)unlinkat(r->top[1], r->stage_name, AT_REMOVEDIR); /* it is empty, or another's */
        return err;
    }
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 07777) != 0700) {
        (void)close(fd); /* it is somebody else's */
        return -EPERM;
    }
    return fd;
}

static int restore_top(struct restoring *r, char *const *path, int n, const struct target *t,
                       struct restored *ret_restored) {
    struct target safety = *t;
    char stage_name[64];
    struct stat root, then;
    json_t *reply = NULL;
    bool whole = false;
    int err;

    if (fstat(r->top[1], &root) < 0 || fstat(r->top[0], &then) < 0) {
        return why_set(r->why, -errno, "the root of the snapshot or the volume cannot be read: %s",
                       error_words(-errno));
    }
    (void)snprintf(safety.snapshot, sizeof(safety.snapshot), "before-restore-%llu-%d",
                   (unsigned long long)clock_real_s(), (int)getpid());
    err = snapshot_create(&(struct args){.quiet = true}, &safety, &reply, r->why);
    json_decref(reply);
    if (err < 0) {
        return err;
    }
    (void)snprintf(stage_name, sizeof(stage_name), STAGE "%d", (int)getpid());
    r->stage_name = stage_name;
    r->stage = open_stage(r);
    err = r->stage < 0 ? why_set(r->why, r->stage, "/%s cannot be made: %s", stage_name,
                                 error_words(r->stage))
                       : restore_staged(r, path, n, &safety);
    for (int i = 0; i < n; i++) {
        whole = whole || !*path[i];
    }
    root = err == 0 && whole ? then : root; /* the stage changed its time */
    if (futimens(r->top[1], (struct timespec[]){root.st_atim, root.st_mtim}) < 0) {
        (void)fprintf(stderr, "holdfast: the time of the volume's root could not be set: %s\n",
                      error_words(-errno));
    }
    if (err < 0) {
        (void)fprintf(stderr, "holdfast: %s is the snapshot of before the restore, which failed\n",
                      safety.snapshot);
    } else {
        ret_restored->put_back = r->put_back;
        ret_restored->removed = r->removed;
        memcpy(ret_restored->safety, safety.snapshot, sizeof(safety.snapshot));
    }
    return err;
}

int restore_in_place(const struct args *a, const struct target *t, const struct snapshot_view *view,
                     struct restored *ret_restored, struct why *why) {
    scope_fd int from = open(view->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scope_fd int to = open(view->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct restoring r = {.top = {from, to}, .cut_s = view->cut_s, .stage = -1, .why = why};
    int n = a->count > 1 ? a->count - 1 : 1, err = 0;
    char **path = calloc((size_t)n, sizeof(*path));

    if (from < 0 || to < 0 || !path) {
        err = why_set(why, -errno, "%s: %s", from < 0 ? view->path : view->mount,
                      error_words(-errno));
    }
    for (int i = 0; i < n && err == 0; i++) {
        path[i] = path_inside(a->count > 1 ? a->word[i + 1] : "", why);
        err = path[i] ? 0 : -HFE_USAGE;
    }
    if (err == 0) {
        const int signals[] = {SIGINT, SIGTERM, SIGHUP};

        for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
            (void)sigaction(signals[i],
                            &(struct sigaction){.sa_handler = interrupt, .sa_flags = SA_RESTART},
                            NULL); /* it goes back, or to its end */
        }
        (void)io_raise_file_limit();
        r.last_name = &r.names;
        r.last_attrs = &r.attrs;
        err = restore_top(&r, path, n, t, ret_restored);
        release(&r);
    }
    for (int i = 0; path && i < n; i++) {
        free(path[i]);
    }
    free(path);
    if (r.stage >= 0) {
        (void)close(r.stage); /* a folder */
    }
    return err;
}
