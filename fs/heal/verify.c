#include "heal/verify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "store/at.h"
#include "store/copy.h"

#define XATTR_ALL ((uint32_t)(STORE_XATTR_USER | STORE_XATTR_TRUSTED | STORE_ACL))

enum {
    CHUNK = 256 << 10,
    BLOCK = 4096,
    AGAIN = 15, /* looks at what differs, before anybody has to wait for one more */
    AGAIN_MS = 100,
    COPY_BYTES_MAX = 64 << 20, /* of a file that is copied while others wait */
};

/* The names of one folder, and where it is on each store. */
struct names {
    char **list;
    size_t n, room;
};
struct level {
    int dir[STORES_MAX];
    struct names names;
    size_t next;
};

struct verify {
    const struct verify_config *c;
    struct verify_stat *stat;
    const char *path[TREE_DEPTH_MAX]; /* names from the root down */
    struct level *level[TREE_DEPTH_MAX];
    unsigned depth;
    char *only;          /* NULL: all; else the names of config.only, each ended by a NUL ... */
    unsigned only_depth; /* ... and how many */
    unsigned aside;      /* objects that were put aside */
    unsigned seed;       /* of what is picked at random */
    uint8_t *buf;        /* CHUNK for each store */
};

/* One object on one store. */
struct copy {
    bool here;
    struct stat st;
};

/* --- who is right --- */

/* same(arg, i, k): are the copies on stores i and k the same? Bits of those that a majority outvotes;
 * 0 if there is none. *ret_equal: all are the same. */
static uint32_t vote(unsigned count, bool (*same)(const void *arg, unsigned i, unsigned k),
                     const void *arg, bool *ret_equal) {
    *ret_equal = false;
    for (unsigned i = 0; i < count; i++) {
        uint32_t others = 0;
        unsigned agree = 0;

        for (unsigned k = 0; k < count; k++) {
            if (k == i || same(arg, i, k)) {
                agree++;
            } else {
                others |= 1u << k;
            }
        }
        if (agree == count) {
            *ret_equal = true;
        }
        if (2 * agree > count) {
            return others;
        }
    }
    return 0;
}

/* Who is wrong, also where only the caller can say it. */
static uint32_t judge(const struct verify *v, uint32_t outvoted) {
    return outvoted == 0 && v->c->repair && v->c->trusted != 0
               ? ((1u << v->c->count) - 1) & ~v->c->trusted
               : outvoted;
}

static void report(struct verify *v, const char *what, uint32_t wrong) {
    char path[PATH_BYTES] = "";
    size_t n = 0;

    for (unsigned i = 0; i < v->depth && n < sizeof(path) - 1; i++) {
        n += (size_t)snprintf(path + n, sizeof(path) - n, "/%s", v->path[i]);
    }
    v->stat->differences++;
    for (unsigned i = 0; i < v->c->count; i++) {
        v->stat->wrong[i] += wrong >> i & 1;
    }
    v->c->differs(v->c->arg, n > 0 ? path : "/", what, wrong);
}

static bool stopped(struct verify *v) {
    return v->c->stopped && v->c->stopped(v->c->arg, v->stat);
}

/* --- attributes --- */

struct looked {
    const struct verify *v;
    const int *dir; /* folder on each store */
    const char *name;
    struct copy copy[STORES_MAX];
};

static bool is_gone(int err) {
    return err == -ENOENT || err == -ESTALE || err == -ENOTDIR || err == -ELOOP;
}

/* A store that cannot say whether it has the object ends the comparison: that is not "missing". */
static int look(struct looked *l) {
    for (unsigned i = 0; i < l->v->c->count; i++) {
        struct copy *c = &l->copy[i];

        int err = at_stat(l->dir[i], l->name, -1, &c->st);

        c->here = err == 0;
        if (err < 0 && !is_gone(err)) {
            return err;
        }
    }
    return 0;
}

static bool same_target(const struct looked *l, unsigned i, unsigned k) {
    char a[PATH_BYTES], b[PATH_BYTES];
    ssize_t n = at_readlink(l->dir[i], l->name, a, sizeof(a));

    return n >= 0 && at_readlink(l->dir[k], l->name, b, sizeof(b)) == n &&
           memcmp(a, b, (size_t)n) == 0;
}

static const char *difference(const struct looked *l, unsigned i, unsigned k) {
    const struct stat *a = &l->copy[i].st, *b = &l->copy[k].st;
    uint32_t caps = store_caps(l->v->c->store[i]) & store_caps(l->v->c->store[k]);

    if (l->copy[i].here != l->copy[k].here) {
        return "missing on a store";
    }
    if (!l->copy[i].here) {
        return NULL;
    }
    if ((a->st_mode ^ b->st_mode) & S_IFMT) {
        return "type";
    }
    if (((a->st_mode ^ b->st_mode) & 07777) && !S_ISLNK(a->st_mode)) {
        return "mode";
    }
    if ((caps & STORE_CHOWN) && (a->st_uid != b->st_uid || a->st_gid != b->st_gid)) {
        return "owner";
    }
    if (S_ISREG(a->st_mode) && a->st_size != b->st_size) {
        return "size";
    }
    if ((S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode)) && a->st_rdev != b->st_rdev) {
        return "device";
    }
    if (S_ISLNK(a->st_mode) && !same_target(l, i, k)) {
        return "target of the link";
    }
    return (caps & XATTR_ALL) == XATTR_ALL &&
                   !copy_same_xattrs(l->dir[i], l->name, l->dir[k], l->name)
               ? "xattrs"
               : NULL;
}

static bool same_look(const void *arg, unsigned i, unsigned k) {
    return difference(arg, i, k) == NULL;
}

/* --- repairing --- */

/* The store whose copy is copied: one that is not wrong. */
static unsigned good_one(const struct verify *v, uint32_t wrong) {
    unsigned i = 0;

    while (i < v->c->count - 1 && (wrong >> i & 1)) {
        i++;
    }
    return i;
}

/* What should not be there goes to the store's lost folder: nothing is thrown away. */
static int put_aside(struct verify *v, unsigned store, int dir, const char *name) {
    scope_fd int lost =
        openat(store_root_fd(v->c->store[store]), STORE_FOLDER "/" STORE_LOST_FOLDER,
               O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char to[64];

    do {
        (void)snprintf(to, sizeof(to), "verify-%llu-%u", (unsigned long long)clock_real_s(),
                       v->aside++);
    } while (lost >= 0 && faccessat(lost, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    return lost < 0 ? -errno : at_rename(dir, name, lost, to, 0);
}

/* One store's object becomes like another's, which may have none. While nobody may change either. */
static int repair_one(struct verify *v, const struct looked *l, unsigned good, unsigned bad) {
    const struct copy *a = &l->copy[good], *b = &l->copy[bad];
    struct copy_stat stat = {0};
    bool same_type = a->here && b->here && !((a->st.st_mode ^ b->st.st_mode) & S_IFMT);
    bool copies =
        a->here && S_ISREG(a->st.st_mode) && !(same_type && a->st.st_size == b->st.st_size);
    int err = 0;

    if (copies && (a->st.st_size > COPY_BYTES_MAX || (b->here && b->st.st_size > COPY_BYTES_MAX))) {
        return -EFBIG; /* others would have to wait for too long */
    }
    if (same_type) {
        return copy_equalize(l->dir[good], l->name, l->dir[bad], l->name, false, &stat);
    }
    if (b->here) {
        err = put_aside(v, bad, l->dir[bad], l->name);
    }
    return err == 0 && a->here ? copy_new(l->dir[good], l->name, l->dir[bad], l->name, &stat) : err;
}

/* What was made, removed or set aside in the folder has changed its time. */
static bool equal_times(int good, int bad) {
    struct stat st;

    return fstat(good, &st) == 0 && futimens(bad, (struct timespec[]){st.st_atim, st.st_mtim}) == 0;
}

static void repair(struct verify *v, const struct looked *l, uint32_t wrong) {
    unsigned good = good_one(v, wrong);
    bool all = true;

    for (unsigned i = 0; i < v->c->count; i++) {
        if (wrong >> i & 1) {
            all = repair_one(v, l, good, i) == 0 && equal_times(l->dir[good], l->dir[i]) && all;
        }
    }
    v->stat->repaired += all;
}

/* --- one object, its bytes aside --- */

/* Something is held. Looks once more, and tells what differs still. *ret_equal: nothing. */
static int look_held(struct verify *v, struct looked *l, bool *ret_equal) {
    struct copy before[STORES_MAX];
    uint32_t wrong;
    const char *what = NULL;
    int err;

    *ret_equal = false;
    memcpy(before, l->copy, sizeof(before));
    err = look(l);
    if (err < 0) {
        return err;
    }
    for (unsigned i = 0; i < v->c->count; i++) {
        if (before[i].here != l->copy[i].here ||
            (before[i].here && before[i].st.st_ino != l->copy[i].st.st_ino)) {
            v->stat->busy++; /* another file has the name now */
            return 0;
        }
    }
    wrong = judge(v, vote(v->c->count, same_look, l, ret_equal));
    for (unsigned k = 1; k < v->c->count && !what; k++) {
        what = difference(l, 0, k);
    }
    if (!*ret_equal && what) {
        report(v, what, wrong);
        if (v->c->repair && wrong != 0) {
            repair(v, l, wrong);
            err = look(l);
            (void)vote(v->c->count, same_look, l, ret_equal);
        }
    }
    return err;
}

static bool same_type_everywhere(const struct looked *l) {
    for (unsigned i = 0; i < l->v->c->count; i++) {
        if (!l->copy[i].here || ((l->copy[i].st.st_mode ^ l->copy[0].st.st_mode) & S_IFMT)) {
            return false;
        }
    }
    return true;
}

/* Is the object the same everywhere? What differs is looked at again, and at last while nobody may
 * change it: its bytes and attributes, or, if not all stores have it, all names. */
static int compare_attrs(struct verify *v, struct looked *l, bool *ret_equal) {
    int err = 0;

    for (int again = 0; again < AGAIN; again++) {
        err = look(l);
        if (err < 0) {
            return err;
        }
        (void)vote(v->c->count, same_look, l, ret_equal);
        if (*ret_equal) {
            return 0;
        }
        (void)poll(NULL, 0, AGAIN_MS); /* it may just be changing */
    }
    err = !v->c->hold               ? 0
          : same_type_everywhere(l) ? v->c->hold(v->c->arg, v->path, v->depth, l->copy[0].st.st_ino,
                                                 0, (uint64_t)INT64_MAX + 1)
                                    : v->c->hold_names(v->c->arg);
    if (err < 0) {
        v->stat->busy += !is_gone(err); /* what replaced it has its own turn */
        return err == -HFE_IN_USE || is_gone(err) ? 0 : err;
    }
    err = look_held(v, l, ret_equal);
    return v->c->release && !v->c->release(v->c->arg) ? -ETIMEDOUT : err;
}

/* --- bytes --- */

struct chunk {
    const struct verify *v;
    ssize_t n[STORES_MAX];
    size_t at, len; /* the block that is voted on */
};

static const uint8_t *bytes_of(const struct chunk *c, unsigned i) {
    return c->v->buf + (size_t)i * CHUNK;
}

static bool same_block(const void *arg, unsigned i, unsigned k) {
    const struct chunk *c = arg;

    return c->n[i] == c->n[k] &&
           memcmp(bytes_of(c, i) + c->at, bytes_of(c, k) + c->at, c->len) == 0;
}

/* 1 if all have the same; 0 if not; negative if a store gave an error: *ret_bad. */
static int read_chunk(struct verify *v, const int *fd, off_t off, struct chunk *c,
                      unsigned *ret_bad) {
    bool equal = true;

    for (unsigned i = 0; i < v->c->count; i++) {
        c->n[i] = io_pread(fd[i], v->buf + (size_t)i * CHUNK, CHUNK, off);
        if (c->n[i] < 0) {
            *ret_bad = i;
            return (int)c->n[i];
        }
    }
    c->at = 0;
    c->len = (size_t)c->n[0];
    for (unsigned k = 1; k < v->c->count; k++) {
        equal = equal && same_block(c, 0, k);
    }
    return equal;
}

/* Writes the block of a good store over the wrong ones; their times stay. */
static void repair_block(struct verify *v, const struct looked *l, const int *read_fd,
                         const struct chunk *c, off_t off, uint32_t wrong) {
    const uint8_t *good = bytes_of(c, good_one(v, wrong)) + c->at;
    bool all = true;

    for (unsigned i = 0; i < v->c->count; i++) {
        scope_fd int fd = -1;
        struct stat now, then;

        if (!(wrong >> i & 1)) {
            continue;
        }
        fd = openat(l->dir[i], l->name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        /* Its bytes are held, not its name: it must be the file that was read. */
        all = fd >= 0 && fstat(fd, &now) == 0 && fstat(read_fd[i], &then) == 0 &&
              now.st_dev == then.st_dev && now.st_ino == then.st_ino &&
              io_pwrite(fd, good, c->len, off + (off_t)c->at) == (ssize_t)c->len &&
              futimens(fd, (struct timespec[]){then.st_atim, then.st_mtim}) == 0 &&
              fdatasync(fd) == 0 && all;
    }
    v->stat->repaired += all;
}

/* Names the blocks that differ. */
static void report_blocks(struct verify *v, const struct looked *l, const int *fd, struct chunk *c,
                          off_t off) {
    char what[64];
    size_t longest = 0;

    for (unsigned i = 0; i < v->c->count; i++) {
        longest = (size_t)c->n[i] > longest ? (size_t)c->n[i] : longest;
    }
    for (c->at = 0; c->at < longest; c->at += BLOCK) {
        bool equal;
        uint32_t wrong;

        c->len = longest - c->at < BLOCK ? longest - c->at : BLOCK;
        wrong = judge(v, vote(v->c->count, same_block, c, &equal));
        if (equal) {
            continue;
        }
        (void)snprintf(what, sizeof(what), "bytes at %lld", (long long)off + (long long)c->at);
        report(v, what, wrong);
        if (v->c->repair && wrong != 0) {
            repair_block(v, l, fd, c, off, wrong);
        }
    }
}

/* It differs: once more, while nobody may write to it. */
static int compare_held(struct verify *v, const struct looked *l, const int *fd, off_t off,
                        struct chunk *c, unsigned *ret_bad) {
    int r = v->c->hold ? v->c->hold(v->c->arg, v->path, v->depth, l->copy[0].st.st_ino,
                                    (uint64_t)off, (uint64_t)INT64_MAX - (uint64_t)off)
                       : 0;

    if (r < 0) {
        return is_gone(r) ? 1 : r; /* removed, or renamed: what replaced it has its own turn */
    }
    r = read_chunk(v, fd, off, c, ret_bad);
    if (r == 0) {
        report_blocks(v, l, fd, c, off);
    }
    return v->c->release && !v->c->release(v->c->arg) ? -ETIMEDOUT : r;
}

/* The next place at which any store has data; `size` if none has. */
static off_t next_data(const struct verify *v, const int *fd, off_t off, off_t size) {
    off_t next = size;

    for (unsigned i = 0; i < v->c->count; i++) {
        off_t data = lseek(fd[i], off, SEEK_DATA);

        if (data < 0) {
            data = errno == ENXIO ? size : off;
        }
        next = data < next ? data : next;
    }
    return next < size ? next / BLOCK * BLOCK : size;
}

static bool is_picked(struct verify *v) {
    return v->c->percent >= 100 || (unsigned)rand_r(&v->seed) % 100 < v->c->percent;
}

static int compare_bytes(struct verify *v, const struct looked *l, const int *fd) {
    struct chunk c = {.v = v};
    off_t size = l->copy[0].st.st_size;

    for (off_t off = next_data(v, fd, 0, size); off < size;
         off = next_data(v, fd, off + CHUNK, size)) {
        unsigned bad = STORES_MAX;
        int r;

        if (stopped(v)) {
            return -ECANCELED;
        }
        if (!is_picked(v)) {
            continue;
        }
        r = read_chunk(v, fd, off, &c, &bad);
        if (r == 0) {
            r = compare_held(v, l, fd, off, &c, &bad);
        }
        if (r < 0 && bad < STORES_MAX) { /* a bad sector: the disk says itself that it is wrong */
            char what[96];

            (void)snprintf(what, sizeof(what), "cannot be read at %lld: %s", (long long)off,
                           error_words(r));
            report(v, what, 1u << bad);
        } else if (r < 0) {
            return r;
        }
        v->stat->bytes += CHUNK;
    }
    return 0;
}

static int compare_file(struct verify *v, const struct looked *l) {
    int fd[STORES_MAX], err = 0;

    for (unsigned i = 0; i < v->c->count; i++) {
        fd[i] = err < 0
                    ? -1
                    : openat(l->dir[i], l->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        err = err < 0 ? err : fd[i] < 0 ? -errno : 0;
        if (fd[i] >= 0) {
            (void)posix_fadvise(fd[i], 0, 0, POSIX_FADV_DONTNEED); /* from the disk, if it may be */
        }
    }
    err = err < 0 ? err : compare_bytes(v, l, fd);
    for (unsigned i = 0; i < v->c->count; i++) {
        cleanup_fd(&fd[i]);
    }
    return is_gone(err) ? 0 : err;
}

/* --- names --- */

static int add_name(struct names *names, const char *name) {
    if (names->n == names->room) {
        size_t room = names->room ? 2 * names->room : 64;
        char **more = realloc(names->list, room * sizeof(*more));

        if (!more) {
            return -ENOMEM;
        }
        names->list = more;
        names->room = room;
    }
    names->list[names->n] = strdup(name);
    return names->list[names->n++] ? 0 : -ENOMEM;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_names(struct names *names) {
    for (size_t i = 0; i < names->n; i++) {
        free(names->list[i]);
    }
    free(names->list);
}

/* What is each store's own. Of our folder, what snapshots keep is mirrored. */
static bool is_private(const struct verify *v, const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
           (v->depth == 0 && strcmp(name, "lost+found") == 0) ||
           (v->depth == 1 && strcmp(v->path[0], STORE_FOLDER) == 0 &&
            strcmp(name, STORE_SNAP_FOLDER) != 0);
}

/* The name that leads to config.only, if this folder lies above it. */
static const char *only_name(const struct verify *v) {
    const char *name = v->depth < v->only_depth ? v->only : NULL;

    for (unsigned i = 0; name && i < v->depth; i++) {
        name += strlen(name) + 1;
    }
    return name;
}

/* All names that any store has in the folder, each once. */
static int list_names(const struct verify *v, const int *dir, struct names *names) {
    const char *only = only_name(v);
    size_t kept = 0;

    if (only) {
        return add_name(names, only);
    }
    for (unsigned i = 0; i < v->c->count; i++) {
        scope_dir DIR *d = NULL;
        struct dirent *e;
        int err = io_open_dir(dir[i], ".", &d);

        while (err == 0 && (errno = 0, e = readdir(d))) {
            if (!is_private(v, e->d_name)) {
                err = add_name(names, e->d_name);
            }
        }
        err = err < 0 ? err : -errno;
        if (err < 0) {
            return err;
        }
    }
    if (names->n > 1) {
        qsort(names->list, names->n, sizeof(char *), by_text);
    }
    for (size_t i = 0; i < names->n; i++) {
        if (kept > 0 && strcmp(names->list[kept - 1], names->list[i]) == 0) {
            free(names->list[i]);
        } else {
            names->list[kept++] = names->list[i];
        }
    }
    names->n = kept;
    return 0;
}

static void leave_folder(struct verify *v) {
    struct level *top = v->level[--v->depth];

    for (unsigned i = 0; i < v->c->count && top; i++) {
        cleanup_fd(&top->dir[i]);
    }
    if (top) {
        free_names(&top->names);
    }
    free(top);
}

/* `above` NULL: the root of the volume. */
static int enter_folder(struct verify *v, const int *above, const char *name) {
    struct level *next;
    int err = 0;

    if (v->depth == TREE_DEPTH_MAX) {
        return -ELOOP;
    }
    next = calloc(1, sizeof(*next));
    if (!next) {
        return -ENOMEM;
    }
    for (unsigned i = 0; i < v->c->count; i++) {
        int at = above ? above[i] : store_root_fd(v->c->store[i]);

        next->dir[i] =
            err < 0 ? -1 : openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        err = err < 0 ? err : next->dir[i] < 0 ? -errno : 0;
    }
    err = err < 0 ? err : list_names(v, next->dir, &next->names);
    v->level[v->depth++] = next;
    if (err < 0) {
        leave_folder(v);
    }
    if (is_gone(err)) { /* just now */
        return v->depth < v->only_depth ? -ENOENT : 0;
    }
    return err;
}

static bool is_anywhere(const struct looked *l) {
    for (unsigned i = 0; i < l->v->c->count; i++) {
        if (l->copy[i].here) {
            return true;
        }
    }
    return false;
}

static int compare_name(struct verify *v, const int *dir, const char *name) {
    struct looked l = {.v = v, .dir = dir, .name = name};
    bool equal = false;
    int err;

    v->path[v->depth - 1] = name;
    if (strcmp(v->path[0], STORE_FOLDER) == 0 && v->depth <= 2) {
        return enter_folder(v, dir, name); /* itself, and snap in it, are each store's own */
    }
    err = v->depth <= v->only_depth ? look(&l) : 0;
    if (err == 0 && v->depth <= v->only_depth && !is_anywhere(&l)) {
        return -ENOENT;
    }
    v->stat->objects++;
    err = err < 0 ? err : compare_attrs(v, &l, &equal);
    if (err < 0 || !l.copy[0].here || !same_type_everywhere(&l)) {
        return err;
    }
    return S_ISDIR(l.copy[0].st.st_mode)            ? enter_folder(v, dir, name)
           : v->depth < v->only_depth               ? -ENOENT
           : equal && S_ISREG(l.copy[0].st.st_mode) ? compare_file(v, &l)
                                                    : 0;
}

static int walk(struct verify *v) {
    int err = enter_folder(v, NULL, ".");

    while (err == 0 && v->depth > 0) {
        struct level *top = v->level[v->depth - 1];

        if (top->next == top->names.n) {
            leave_folder(v);
        } else {
            err = stopped(v) ? -ECANCELED : compare_name(v, top->dir, top->names.list[top->next++]);
        }
    }
    while (v->depth > 0) {
        leave_folder(v);
    }
    return err;
}

/* Takes config.only apart. */
static int take_only(struct verify *v) {
    v->only = strdup(v->c->only);
    if (!v->only) {
        return -ENOMEM;
    }
    for (char *name = v->only, *end; *name; name = end) {
        end = strchrnul(name, '/');
        if (*end) {
            *end++ = '\0';
        }
        if (!*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            (v->only_depth == 0 &&
             (strcmp(name, STORE_FOLDER) == 0 || strcmp(name, "lost+found") == 0))) {
            return -ENOENT;
        }
        v->only_depth++;
    }
    return 0;
}

int verify_run(const struct verify_config *c, struct verify_stat *ret_stat) {
    struct verify *v = calloc(1, sizeof(*v));
    int err = -ENOMEM;

    memset(ret_stat, 0, sizeof(*ret_stat));
    if (v) {
        v->c = c;
        v->stat = ret_stat;
        v->buf = malloc((size_t)c->count * CHUNK);
        v->seed = (unsigned)clock_us();
        err = v->buf ? take_only(v) : err;
        err = err < 0 ? err : walk(v);
        free(v->only);
        free(v->buf);
    }
    free(v);
    return err;
}
