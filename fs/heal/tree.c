#include "heal/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "base/io.h"
#include "store/at.h"

/* Folders that wait, as paths from the root: no recursion, and no descriptor kept for each. */
struct todo {
    struct todo *next;
    char path[];
};

/* The first name under which a file with several links was met. */
struct first_name {
    uint64_t from_ino; /* key */
    uint64_t to_ino;
    nlink_t names; /* that it has on the source */
    char *folder;
    char name[NAME_BYTES];
    UT_hash_handle hh;
};

/* Which file of the source a linked file of the target belongs to: the first one that was met.
 * Another one must not be written into it. */
struct claim {
    uint64_t to_ino; /* key */
    uint64_t from_ino;
    UT_hash_handle hh;
};

struct walk {
    struct claim *claims;
    int from_root, to_root;
    bool top; /* the root is the volume's: what is ours is left alone */
    const struct heal_options *options;
    struct copy_stat *stat;
    struct todo *todo;
    struct first_name *links;
    bool sync_each;     /* the target has no syncfs: each file is synced by itself */
    const char *folder; /* being looked at, for messages */
    char name[NAME_BYTES], failed[2 * NAME_BYTES];
};

/* Opens root/path, one component at a time, following no link. A path may be longer than PATH_MAX.
 */
static int open_folder(int root, const char *path) {
    scope_fd int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    while (fd >= 0 && *path) {
        char name[NAME_BYTES];
        const char *end = strchrnul(path, '/');
        int below;

        if (end - path >= NAME_BYTES) {
            return -ENAMETOOLONG;
        }
        memcpy(name, path, (size_t)(end - path));
        name[end - path] = '\0';
        below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (below < 0) {
            return -errno;
        }
        (void)close(fd); /* opened for reading only */
        fd = below;
        path = *end ? end + 1 : end;
    }
    return fd < 0 ? -errno : steal_fd(&fd);
}

static int push(struct walk *w, const char *folder, const char *name) {
    size_t size = strlen(folder) + strlen(name) + 2;
    struct todo *t = malloc(sizeof(*t) + size);

    if (!t) {
        return -ENOMEM;
    }
    (void)snprintf(t->path, size, "%s%s%s", folder, *folder ? "/" : "", name); /* fits */
    t->next = w->todo;
    w->todo = t;
    return 0;
}

/* What is each store's own. Of our folder, what snapshots keep is mirrored. */
static bool skipped(bool top, const char *folder, const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
           (top && !*folder && strcmp(name, "lost+found") == 0) ||
           (top && strcmp(folder, STORE_FOLDER) == 0 && strcmp(name, STORE_SNAP_FOLDER) != 0);
}

/* Our own folder, and snap in it: never compared, moved or removed; only looked into. */
static bool is_ours(const struct walk *w, const char *name) {
    return w->top &&
           ((!*w->folder && strcmp(name, STORE_FOLDER) == 0) ||
            (strcmp(w->folder, STORE_FOLDER) == 0 && strcmp(name, STORE_SNAP_FOLDER) == 0));
}

/* Takes dir/name away: removed, or kept aside under its path. */
static int take_away(struct walk *w, int dir, const char *name) {
    char path[PATH_BYTES], *slash;

    if (!w->options->aside) {
        return at_remove_tree(dir, name);
    }
    if (snprintf(path, sizeof(path), "%s%s%s", w->folder, *w->folder ? "/" : "", name) >=
        (int)sizeof(path)) {
        (void)snprintf(path, sizeof(path), "long.%llu",
                       (unsigned long long)w->stat->objects_changed);
    }
    for (slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(*w->options->aside, path, 0700) < 0 && errno != EEXIST) {
            return -errno;
        }
        *slash = '/';
    }
    return at_rename(dir, name, *w->options->aside, path, 0);
}

/* Is there anything of the target's file that the source's does not have? */
static int differs(int from, int to, const char *name, const struct stat *a, const struct stat *b) {
    return S_ISREG(a->st_mode) && (a->st_size != b->st_size || copy_differs(from, name, to, name));
}

static int sync_file(int dir, const char *name) {
    scope_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static bool was_recent(const struct walk *w, const struct stat *a, const struct stat *b) {
    return (uint64_t)a->st_ctim.tv_sec >= w->options->since_s ||
           (uint64_t)b->st_ctim.tv_sec >= w->options->since_s;
}

static int remember_link(struct walk *w, const struct stat *a, int to, const char *name) {
    struct first_name *l;
    struct stat b;
    int err;

    err = at_stat(to, name, -1, &b);
    if (err < 0) {
        return err;
    }
    l = calloc(1, sizeof(*l));
    if (!l || !(l->folder = strdup(w->folder))) {
        free(l);
        return -ENOMEM;
    }
    l->from_ino = a->st_ino;
    l->to_ino = b.st_ino;
    l->names = a->st_nlink;
    (void)snprintf(l->name, sizeof(l->name), "%s", name); /* a name fits */
    HASH_ADD(hh, w->links, from_ino, sizeof(l->from_ino), l);
    return 0;
}

/* A further name of a file that was met before: it must be a link to the same file. */
static int equalize_link(struct walk *w, const struct first_name *l, int to, const char *name) {
    scope_fd int folder = open_folder(w->to_root, l->folder);
    struct stat b;

    if (folder < 0) {
        return folder;
    }
    if (at_stat(to, name, -1, &b) == 0) {
        if (b.st_ino == l->to_ino) {
            return 0;
        }
        int err = at_remove_tree(to, name);

        if (err < 0) {
            return err;
        }
    }
    w->stat->objects_changed++;
    return at_link(folder, l->name, to, name);
}

/* 1 if the target's file `b` is, or becomes, that of the source's `a`; 0 if it is another's. */
static int claim(struct walk *w, const struct stat *a, const struct stat *b) {
    struct claim *c;

    if (b->st_nlink < 2) {
        return 1;
    }
    HASH_FIND(hh, w->claims, &b->st_ino, sizeof(c->to_ino), c);
    if (c) {
        return c->from_ino == a->st_ino;
    }
    c = calloc(1, sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    c->to_ino = b->st_ino;
    c->from_ino = a->st_ino;
    HASH_ADD(hh, w->claims, to_ino, sizeof(c->to_ino), c);
    return 1;
}

static int equalize_entry(struct walk *w, int from, int to, const char *name,
                          const struct stat *a) {
    struct stat b;
    bool there = at_stat(to, name, -1, &b) == 0;
    int err =
        there && w->options->known ? w->options->known(w->options->known_arg, to, name, &b, a) : 0;

    if (err != 0) {
        there = false;
        err = err < 0 ? err : 0;
    }
    if (err == 0 && there && w->options->anew && S_ISREG(a->st_mode) && S_ISREG(b.st_mode)) {
        err = at_remove_tree(to, name);
        there = false;
    }
    if (err == 0 && there && ((a->st_mode ^ b.st_mode) & S_IFMT)) {
        err = take_away(w, to, name);
        there = false;
    }
    if (err == 0 && there && w->options->aside && !S_ISDIR(a->st_mode) &&
        differs(from, to, name, a, &b)) {
        err = take_away(w, to, name);
        there = false;
    }
    if (err == 0 && there && !S_ISDIR(a->st_mode)) {
        err = claim(w, a, &b);
        if (err == 0) { /* it was a link on the target only */
            err = at_remove_tree(to, name);
            there = false;
        }
    }
    if (err < 0) {
        return err;
    }
    if (there) {
        bool data = S_ISREG(a->st_mode) && (w->options->all_data || was_recent(w, a, &b));

        return S_ISDIR(a->st_mode) ? 0 : copy_equalize(from, name, to, name, data, w->stat);
    }
    w->stat->objects_compared++;
    err = copy_new(from, name, to, name, w->stat);
    if (err == 0 && w->sync_each && S_ISREG(a->st_mode)) {
        err = sync_file(to, name);
    }
    return err;
}

static int visit(struct walk *w, int from, int to, const char *name) {
    struct first_name *link = NULL;
    struct stat a;
    bool linked;
    int err;

    if (is_ours(w, name)) {
        return push(w, w->folder, name);
    }
    (void)snprintf(w->name, sizeof(w->name), "%s", name); /* a name fits */
    err = at_stat(from, name, -1, &a);
    if (err < 0) {
        return err;
    }
    linked = a.st_nlink > 1 && !S_ISDIR(a.st_mode);
    if (linked) {
        HASH_FIND(hh, w->links, &a.st_ino, sizeof(link->from_ino), link);
        if (link) {
            return equalize_link(w, link, to, name);
        }
    }
    err = equalize_entry(w, from, to, name, &a);
    if (err == 0 && linked) {
        err = remember_link(w, &a, to, name);
    }
    if (err == 0 && S_ISDIR(a.st_mode)) {
        err = push(w, w->folder, name);
    }
    if (err == 0 && w->options->progress &&
        !w->options->progress(w->options->progress_arg, w->stat)) {
        err = -EINTR;
    }
    return err;
}

static int each_name(struct walk *w, int folder, int (*fn)(struct walk *, int, int, const char *),
                     int from, int to) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(folder, ".", &d);

    if (err < 0) {
        return err;
    }
    while (err == 0 && (errno = 0, e = readdir(d))) {
        err = skipped(w->top, w->folder, e->d_name) ? 0 : fn(w, from, to, e->d_name);
        if (w->options->live && (err == -ENOENT || err == -EEXIST)) {
            err = 0; /* made or removed while we looked: the journal has it */
        }
    }
    return err == 0 ? -errno : err;
}

/* What the source does not have goes. A store whose mount vanished does not get here: both were
 * checked (store_check) when the walk began. */
static int remove_extra(struct walk *w, int from, int to, const char *name) {
    struct stat st;

    if (is_ours(w, name)) {
        return 0;
    }
    if (faccessat(from, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        return 0;
    }
    if (errno != ENOENT) {
        return -errno;
    }
    w->stat->objects_changed++;
    if (w->options->known && at_stat(to, name, -1, &st) == 0) {
        int err = w->options->known(w->options->known_arg, to, name, &st, NULL);

        if (err != 0) {
            return err < 0 ? err : 0;
        }
    }
    return take_away(w, to, name);
}

static int visit_folder(struct walk *w, const char *path) {
    scope_fd int from = open_folder(w->from_root, path);
    scope_fd int to = open_folder(w->to_root, path);
    int err;

    w->folder = path;
    w->name[0] = '\0';
    if (from < 0 || to < 0) {
        return from < 0 ? from : to;
    }
    err = each_name(w, to, remove_extra, from, to);
    err = err < 0 ? err : each_name(w, from, visit, from, to);
    w->name[0] = '\0';
    if (err < 0 || (w->top && (strcmp(path, STORE_FOLDER) == 0 ||
                               strcmp(path, STORE_FOLDER "/" STORE_SNAP_FOLDER) == 0))) {
        return err; /* our folders themselves are each store's own */
    }
    w->stat->objects_compared++;
    err = copy_attrs(from, ".", to, ".", w->stat);
    if (err == 0 && w->sync_each && fsync(to) < 0 && errno != EINVAL && errno != ENOSYS) {
        err = -errno; /* a store that cannot sync folders said so when it was made */
    }
    return err;
}

/* A folder was made equal, and files in it have names elsewhere, too: are they the same files there? */
static void count_torn(struct walk *w) {
    struct first_name *l, *next;

    HASH_ITER(hh, w->links, l, next) {
        scope_fd int folder = open_folder(w->to_root, l->folder);
        struct stat st;

        if (folder >= 0 && at_stat(folder, l->name, -1, &st) == 0 && st.st_nlink != l->names) {
            w->stat->links_torn++;
        }
    }
}

static void free_walk(struct walk *w) {
    struct first_name *l, *next;
    struct claim *c, *next_claim;

    while (w->todo) {
        struct todo *t = w->todo;

        w->todo = t->next;
        free(t);
    }
    HASH_ITER(hh, w->claims, c, next_claim) {
        HASH_DEL(w->claims, c);
        free(c);
    }
    HASH_ITER(hh, w->links, l, next) {
        HASH_DEL(w->links, l);
        free(l->folder);
        free(l);
    }
}

static int run(struct walk *w) {
    int err = push(w, "", "");

    while (err == 0 && w->todo) {
        struct todo *t = w->todo;

        w->todo = t->next;
        err = visit_folder(w, t->path);
        if (w->options->live && (err == -ENOENT || err == -ENOTDIR || err == -EEXIST)) {
            err = 0; /* moved while we looked: the journal has it */
        }
        if (err < 0) {
            (void)snprintf(w->failed, sizeof(w->failed), "/%s%s%s", t->path, *t->path ? "/" : "",
                           w->name);
        }
        free(t);
    }
    if (!w->top) {
        count_torn(w);
    }
    free_walk(w);
    return err;
}

int heal_folder(int from, int to, bool top, bool sync_each, const struct heal_options *options,
                struct copy_stat *stat) {
    struct walk w = {.from_root = from,
                     .to_root = to,
                     .top = top,
                     .options = options,
                     .stat = stat,
                     .folder = "",
                     .sync_each = sync_each};

    return run(&w);
}

int heal_tree(struct store *from, struct store *to, const struct heal_options *options,
              struct copy_stat *ret_stat, struct why *why) {
    struct walk w = {.from_root = store_root_fd(from),
                     .to_root = store_root_fd(to),
                     .top = true,
                     .options = options,
                     .stat = ret_stat,
                     .folder = "",
                     .sync_each = !(store_caps(to) & STORE_SYNCFS)};
    int err = store_check(from, why);

    *ret_stat = (struct copy_stat){.go_on = options->progress, .arg = options->progress_arg};
    err = err < 0 ? err : store_check(to, why);
    if (err < 0) {
        return err;
    }
    err = run(&w);
    if (err < 0) {
        return why_set(why, err, "copying from %s to %s stopped at %s: %s", store_path(from),
                       store_path(to), w.failed, error_words(err));
    }
    err = store_sync(to);
    return err < 0 ? why_set(why, err, "%s cannot be synced: %s", store_path(to), error_words(err))
                   : 0;
}

int heal_measure(const char *folder, uint64_t *ret_bytes, uint64_t *ret_objects) {
    scope_fd int root = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct walk w = {.folder = ""};
    uint64_t bytes = 0, objects = 0;
    int err = root < 0 ? -errno : push(&w, "", "");

    while (err == 0 && w.todo) {
        struct todo *t = w.todo;
        int fd = open_folder(root, t->path);
        scope_dir DIR *d = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *e;

        w.todo = t->next;
        while (d && err == 0 && (e = readdir(d))) {
            struct stat st;

            if (skipped(true, t->path, e->d_name) || at_stat(fd, e->d_name, -1, &st) < 0) {
                continue;
            }
            objects++;
            bytes += S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : 0;
            err = S_ISDIR(st.st_mode) ? push(&w, t->path, e->d_name) : 0;
        }
        free(t);
    }
    free_walk(&w);
    if (err == 0) {
        *ret_bytes = bytes;
        *ret_objects = objects;
    }
    return err;
}
