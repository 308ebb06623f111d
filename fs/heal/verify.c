#include "heal/verify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "store/copy.h"

enum {
    CHUNK = 256 << 10,
    BLOCK = 4096,
    AGAIN = 20, /* looks at what differs, before it counts */
    AGAIN_MS = 100,
};

struct verify {
    const struct verify_config *c;
    struct verify_stat *stat;
    const char *path[TREE_DEPTH_MAX]; /* names from the root down */
    unsigned depth;
    uint8_t *buf; /* CHUNK for each store */
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
    const char *what; /* the first thing that differed */
};

static void look(struct looked *l) {
    for (unsigned i = 0; i < l->v->c->count; i++) {
        l->copy[i].here =
            l->dir[i] >= 0 && fstatat(l->dir[i], l->name, &l->copy[i].st, AT_SYMLINK_NOFOLLOW) == 0;
    }
}

static bool same_target(const struct looked *l, unsigned i, unsigned k) {
    char a[PATH_BYTES], b[PATH_BYTES];
    ssize_t n = readlinkat(l->dir[i], l->name, a, sizeof(a));

    return n >= 0 && readlinkat(l->dir[k], l->name, b, sizeof(b)) == n &&
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
    return (caps & STORE_XATTR_USER) && !copy_same_xattrs(l->dir[i], l->name, l->dir[k], l->name)
               ? "xattrs"
               : NULL;
}

static bool same_look(const void *arg, unsigned i, unsigned k) {
    return difference(arg, i, k) == NULL;
}

/* Is the object the same everywhere, its bytes aside? */
static bool compare_attrs(struct verify *v, struct looked *l) {
    uint32_t wrong = 0;

    for (int again = 0; again < AGAIN; again++) {
        bool equal;

        look(l);
        wrong = vote(v->c->count, same_look, l, &equal);
        if (equal) {
            return true;
        }
        (void)poll(NULL, 0, AGAIN_MS); /* it may just be changing */
    }
    for (unsigned k = 1; k < v->c->count; k++) {
        const char *what = difference(l, 0, k);

        if (what) {
            report(v, what, wrong);
            break;
        }
    }
    return false;
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

    return c->n[i] >= 0 && c->n[i] == c->n[k] &&
           memcmp(bytes_of(c, i) + c->at, bytes_of(c, k) + c->at, c->len) == 0;
}

static bool read_chunk(struct verify *v, const int *fd, off_t off, struct chunk *c) {
    bool equal = true;

    for (unsigned i = 0; i < v->c->count; i++) {
        c->n[i] = io_pread(fd[i], v->buf + (size_t)i * CHUNK, CHUNK, off);
    }
    c->at = 0;
    c->len = c->n[0] > 0 ? (size_t)c->n[0] : 0;
    for (unsigned k = 1; k < v->c->count; k++) {
        equal = equal && same_block(c, 0, k);
    }
    return equal;
}

/* Names the blocks that differ, in runs. */
static void report_blocks(struct verify *v, struct chunk *c, off_t off) {
    char what[64];
    size_t longest = 0;

    for (unsigned i = 0; i < v->c->count; i++) {
        if (c->n[i] < 0) {
            (void)snprintf(what, sizeof(what), "cannot be read at %lld: %s", (long long)off,
                           error_words((int)c->n[i]));
            report(v, what, 1u << i);
            return;
        }
        longest = (size_t)c->n[i] > longest ? (size_t)c->n[i] : longest;
    }
    for (c->at = 0; c->at < longest; c->at += BLOCK) {
        bool equal;
        uint32_t wrong;

        c->len = longest - c->at < BLOCK ? longest - c->at : BLOCK;
        wrong = vote(v->c->count, same_block, c, &equal);
        if (!equal) {
            (void)snprintf(what, sizeof(what), "bytes at %lld", (long long)off + (long long)c->at);
            report(v, what, wrong);
        }
    }
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

static int compare_bytes(struct verify *v, const struct looked *l, const int *fd) {
    struct chunk c = {.v = v};
    off_t size = l->copy[0].st.st_size;

    for (off_t off = next_data(v, fd, 0, size); off < size;
         off = next_data(v, fd, off + CHUNK, size)) {
        if (stopped(v)) {
            return -ECANCELED;
        }
        if (!read_chunk(v, fd, off, &c)) {
            int err = v->c->hold ? v->c->hold(v->c->arg, v->path, v->depth, l->copy[0].st.st_ino,
                                              (uint64_t)off, CHUNK)
                                 : 0;

            if (err < 0) {
                return 0; /* it was removed, or renamed: what replaced it has its own turn */
            }
            if (!read_chunk(v, fd, off, &c)) {
                report_blocks(v, &c, off);
            }
            if (v->c->release) {
                v->c->release(v->c->arg);
            }
        }
        v->stat->bytes += c.n[0] > 0 ? (uint64_t)c.n[0] : 0;
    }
    return 0;
}

static int compare_file(struct verify *v, const struct looked *l) {
    int fd[STORES_MAX], err = 0;
    bool all = true;

    for (unsigned i = 0; i < v->c->count; i++) {
        fd[i] = openat(l->dir[i], l->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        all = all && fd[i] >= 0;
        if (fd[i] >= 0) {
            (void)posix_fadvise(fd[i], 0, 0, POSIX_FADV_DONTNEED); /* from the disk, if it may be */
        }
    }
    if (all) {
        err = compare_bytes(v, l, fd);
    }
    for (unsigned i = 0; i < v->c->count; i++) {
        cleanup_fd(&fd[i]);
    }
    return err;
}

/* --- names --- */

struct names {
    char **list;
    size_t n, room;
};

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

/* All names that any store has in the folder, each once. */
static int list_names(const struct verify *v, const int *dir, struct names *names) {
    size_t kept = 0;

    for (unsigned i = 0; i < v->c->count; i++) {
        scope_dir DIR *d = NULL;
        struct dirent *e;
        int err = io_open_dir(dir[i], ".", &d);

        while (err == 0 && (e = readdir(d))) {
            bool ours = v->depth == 0 && (strcmp(e->d_name, STORE_FOLDER) == 0 ||
                                          strcmp(e->d_name, "lost+found") == 0);

            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !ours) {
                err = add_name(names, e->d_name);
            }
        }
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

static int compare_folder(struct verify *v, const int *dir);

static int enter_folder(struct verify *v, const int *above, const char *name) {
    int dir[STORES_MAX], err = 0;
    bool all = true;

    for (unsigned i = 0; i < v->c->count; i++) {
        dir[i] = openat(above[i], name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        all = all && dir[i] >= 0;
    }
    if (all) { /* else it has just gone */
        err = compare_folder(v, dir);
    }
    for (unsigned i = 0; i < v->c->count; i++) {
        cleanup_fd(&dir[i]);
    }
    return err;
}

static int compare_name(struct verify *v, const int *dir, const char *name) {
    struct looked l = {.v = v, .dir = dir, .name = name};
    int err = 0;

    if (v->depth == TREE_DEPTH_MAX) {
        return -ELOOP;
    }
    v->path[v->depth++] = name;
    v->stat->objects++;
    if (compare_attrs(v, &l) && l.copy[0].here) {
        err = S_ISREG(l.copy[0].st.st_mode)   ? compare_file(v, &l)
              : S_ISDIR(l.copy[0].st.st_mode) ? enter_folder(v, dir, name)
                                              : 0;
    }
    v->depth--;
    return err;
}

static int compare_folder(struct verify *v, const int *dir) {
    struct names names = {0};
    int err = list_names(v, dir, &names);

    for (size_t i = 0; i < names.n && err == 0; i++) {
        err = stopped(v) ? -ECANCELED : compare_name(v, dir, names.list[i]);
    }
    free_names(&names);
    return err;
}

int verify_run(const struct verify_config *c, struct verify_stat *ret_stat) {
    struct verify *v = calloc(1, sizeof(*v));
    int dir[STORES_MAX], err = -ENOMEM;

    memset(ret_stat, 0, sizeof(*ret_stat));
    if (v) {
        v->c = c;
        v->stat = ret_stat;
        v->buf = malloc((size_t)c->count * CHUNK);
    }
    if (v && v->buf) {
        for (unsigned i = 0; i < c->count; i++) {
            dir[i] = store_root_fd(c->store[i]);
        }
        err = compare_folder(v, dir);
    }
    if (v) {
        free(v->buf);
    }
    free(v);
    return err;
}
