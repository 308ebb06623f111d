/* Marked bytes and attributes: compared block by block, and copied where they differ. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/io.h"
#include "heal/catchup_int.h"
#include "store/at.h"

static bool is_zero(const uint8_t *p, size_t n) {
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* What differs in one chunk, block by block, in runs. */
static int write_differing(struct catchup *c, int out, const uint8_t *a, const uint8_t *b, size_t n,
                           size_t have, off_t off) {
    for (size_t at = 0; at < n;) {
        size_t run = 0;

        while (at + run < n) {
            size_t len = n - at - run < BLOCK_BYTES ? n - at - run : BLOCK_BYTES;

            if (at + run + len <= have && memcmp(a + at + run, b + at + run, len) == 0) {
                break;
            }
            run += len;
        }
        if (run > 0) {
            bool hole =
                is_zero(a + at, run) && fallocate(out, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                  off + (off_t)at, (off_t)run) == 0;
            ssize_t w = hole ? (ssize_t)run : io_pwrite(out, a + at, run, off + (off_t)at);

            if (w != (ssize_t)run) {
                return w < 0 ? (int)w : -ENOSPC;
            }
            c->stat.bytes_copied += run;
            at += run;
        } else {
            at += n - at < BLOCK_BYTES ? n - at : BLOCK_BYTES;
        }
    }
    return 0;
}

static int copy_chunk(struct catchup *c, int in, int out, off_t off, size_t len) {
    ssize_t n = io_pread(in, c->buf, len, off), m;

    if (n <= 0) {
        return (int)n;
    }
    m = io_pread(out, c->buf + CHUNK, (size_t)n, off);
    if (m < 0) {
        return (int)m;
    }
    c->stat.bytes_compared += (uint64_t)n;
    return write_differing(c, out, c->buf, c->buf + CHUNK, (size_t)n, (size_t)m, off);
}

struct file {
    int in, out;
    const char **path; /* names from the root down; freed by whoever has the file */
    unsigned depth;
    uint64_t ino;
    const struct view_node *node; /* NULL: the root */
};

static void release(struct catchup *c) {
    if (c->c.release) {
        c->c.release(c->c.arg);
    }
}

/* -ESTALE: another file has the name now. Where its inode does not say so, the mirror does, once names are
 * equal; before that, doubt() sees to it. */
static int hold_with(struct catchup *c, const struct file *f, uint64_t off, uint64_t len,
                     bool names) {
    uint64_t number = 0;
    int err =
        c->c.hold ? c->c.hold(c->c.arg, f->path, f->depth, f->ino, off, len, names, &number) : 0;

    if (err == 0 && c->c.hold && f->node && c->view->no_names && !catchup_is_stable(c, FROM) &&
        view_find(c->view, number) != f->node) {
        release(c);
        err = -ESTALE;
    }
    return err;
}

static int hold(struct catchup *c, const struct file *f, uint64_t off, uint64_t len) {
    return hold_with(c, f, off, len, false);
}

/* Attributes, too, which are found by names. */
static int hold_attrs(struct catchup *c, const struct file *f, uint64_t off, uint64_t len) {
    return hold_with(c, f, off, len, catchup_holds_names(c));
}

static int copy_range(struct catchup *c, const struct file *f, uint64_t off, uint64_t end) {
    while (off < end) {
        uint64_t len = end - off < CHUNK ? end - off : CHUNK;
        struct stat st;
        int err;

        if (catchup_stopped(c)) {
            return -ECANCELED;
        }
        if (fstat(f->in, &st) < 0) {
            return -errno;
        }
        if ((uint64_t)st.st_size <= off) {
            return 0;
        }
        err = hold(c, f, off, len);
        if (err < 0) {
            return err;
        }
        err = copy_chunk(c, f->in, f->out, (off_t)off, (size_t)len);
        release(c);
        if (err < 0) {
            return err;
        }
        off += len;
    }
    return 0;
}

static int by_off(const void *a, const void *b) {
    const struct view_range *x = a, *y = b;

    return x->off < y->off ? -1 : x->off > y->off;
}

/* 0: it is there still; -ENOENT: nothing is; -HFE_STALE: another is. */
static int check_still(const struct catchup *c, int side, const struct spot *at,
                       const struct stat *was) {
    struct stat now;

    return at_stat(at->fd, at->name, -1, &now) < 0 ? -ENOENT
           : catchup_is_same(c, side, &now, was)   ? 0
                                                   : -HFE_STALE;
}

/* Attributes, by names. -ESTALE: one of the files moved, while a hold was waited for perhaps, or just now, and
 * those of another one were copied; it is done again. If they may have been copied to another one, that one is
 * told only from the beginning of the log on, once the target receives names: -HFE_STALE. */
static int equal_attrs(struct catchup *c, const struct spot *from, const struct stat *s,
                       const struct spot *to, const struct stat *t) {
    int err, a, b;

    if (check_still(c, FROM, from, s) < 0 || check_still(c, TO, to, t) < 0) {
        return -ESTALE;
    }
    err = copy_attrs(from->fd, from->name, to->fd, to->name, &c->stat);
    a = check_still(c, FROM, from, s);
    b = check_still(c, TO, to, t);
    if (a == 0 && b == 0) {
        return err;
    }
    return c->view->no_names && b == -HFE_STALE ? -HFE_STALE : -ESTALE;
}

/* The size, and attributes. Under a hold of all bytes. */
static int equal_size(struct catchup *c, const struct file *f, const struct spot *from,
                      const struct spot *to) {
    struct stat a, b;
    int err = hold_attrs(c, f, 0, (uint64_t)INT64_MAX + 1); /* the times, too */

    if (err < 0) {
        return err;
    }
    if (fstat(f->in, &a) < 0 || fstat(f->out, &b) < 0 ||
        (a.st_size != b.st_size && ftruncate(f->out, a.st_size) < 0)) {
        err = -errno;
    }
    copy_holes(f->in, f->out, err < 0 ? 0 : a.st_size);
    err = err < 0 ? err : equal_attrs(c, from, &a, to, &b);
    release(c);
    return err;
}

static int copy_ranges(struct catchup *c, struct view_node *node, const struct file *f) {
    uint64_t done = 0;
    int err = 0;

    if (node->ranges > 1) {
        qsort(node->range, node->ranges, sizeof(node->range[0]), by_off);
    }
    for (unsigned i = 0; i < node->ranges && err == 0; i++) {
        uint64_t off = node->range[i].off > done ? node->range[i].off : done;
        uint64_t end = node->range[i].off + node->range[i].len;

        err = off < end ? copy_range(c, f, off, end) : 0;
        done = end > done ? end : done;
    }
    return err == 0 && node->tail != UINT64_MAX ? copy_range(c, f, node->tail, INT64_MAX) : err;
}

static int add_step(struct file *f, const char *name) {
    const char **more = grow_by_one(f->path, f->depth, sizeof(*more));

    if (!more) {
        return -ENOMEM;
    }
    f->path = more;
    f->path[f->depth++] = name;
    return 0;
}

/* From the name up to a folder that has a number of its own; the names of that are added, too. */
static int steps_up(struct catchup *c, const struct view_name *n, struct file *f) {
    int err = add_step(f, n->text);

    while (err == 0 && n->parent != JOURNAL_ROOT) {
        struct view_node *folder;
        struct spot above;
        struct stat st;

        if (n->parent == JOURNAL_PARKED || n->parent == JOURNAL_SNAPS) {
            err = add_step(f, n->parent == JOURNAL_PARKED ? STORE_OPEN_FOLDER : STORE_SNAP_FOLDER);
            return err < 0 ? err : add_step(f, STORE_FOLDER);
        }
        folder = view_find(c->view, n->parent);
        err = !folder                          ? -ENOENT
              : f->depth > c->view->node_count ? -ELOOP
                                               : who_find(c, FROM, folder, &above, &st);
        if (err == 0) {
            n = above.at;
            err = add_step(f, n->text);
        }
    }
    return err;
}

/* Where the node is on the source now. */
static int path_of(struct catchup *c, const struct spot *spot, struct file *f) {
    int err = steps_up(c, spot->at, f);

    for (unsigned i = 0; err == 0 && i < f->depth / 2; i++) {
        const char *name = f->path[i];

        f->path[i] = f->path[f->depth - 1 - i];
        f->path[f->depth - 1 - i] = name;
    }
    return err;
}

/* Names are held, and it is on the source where it was found: -ESTALE if not. Where inodes say nothing, the
 * folders on the way are only now those that they were taken for. */
static int find_held(struct catchup *c, struct view_node *node, struct spot *from, struct stat *s,
                     struct spot *to, struct stat *t) {
    const struct view_name *at = from->at;
    int err = 0;

    if (!catchup_is_stable(c, FROM)) {
        catchup_alone(c);
        err = who_find(c, FROM, node, from, s);
        err = err == 0 && from->at != at ? -ESTALE : err;
    }
    if (err < 0 || !catchup_by_names(c)) {
        return err; /* on the target it was found */
    }
    return check_still(c, FROM, from, s) < 0 ? -ESTALE : who_find(c, TO, node, to, t);
}

/* `s` and `t`: what was found there. -ESTALE: it moved since. */
static int open_both(struct catchup *c, const struct spot *from, const struct stat *s,
                     const struct spot *to, const struct stat *t, struct file *f) {
    struct stat a, b;

    f->in = openat(from->fd, from->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    f->out = openat(to->fd, to->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (f->in < 0 || f->out < 0 || fstat(f->in, &a) < 0 || fstat(f->out, &b) < 0) {
        return -errno;
    }
    return catchup_is_same(c, FROM, s, &a) && catchup_is_same(c, TO, t, &b) ? 0 : -ESTALE;
}

static int open_held(struct catchup *c, struct view_node *node, struct spot *from, struct stat *s,
                     struct spot *to, struct stat *t, struct file *f) {
    bool names = catchup_holds_names(c);
    int err = c->c.hold ? path_of(c, from, f) : 0;

    err = err == 0 && names ? hold_attrs(c, f, INT64_MAX, 1) : err;
    if (err == 0) {
        err = names ? find_held(c, node, from, s, to, t) : 0;
        err = err < 0 ? err : open_both(c, from, s, to, t, f);
        if (names) {
            release(c);
        }
    }
    return err;
}

static int copy_file(struct catchup *c, struct view_node *node, struct spot *from, struct stat *s,
                     struct spot *to, struct stat *t) {
    struct file f = {.in = -1, .out = -1, .ino = s->st_ino, .node = node};
    int err = open_held(c, node, from, s, to, t, &f);
    scope_fd int in = f.in, out = f.out;

    err = err < 0 ? err : copy_ranges(c, node, &f);
    err = err < 0 ? err : equal_size(c, &f, from, to);
    free(f.path);
    if (err == 0 && !(store_caps(c->c.to) & STORE_SYNCFS) && fsync(out) < 0) {
        err = -errno;
    }
    return err == 0 && close(steal_fd(&out)) < 0 ? -errno : err;
}

static bool is_unknown(struct catchup *c, const struct view_node *folder) {
    return !(folder->peers >> c->c.to_slot & 1);
}

/* Which inode the target has for what was found at the spot, as the mirror knows it. -ESTALE: another one has
 * the name now. */
static int ask_peer(struct catchup *c, struct view_node *node, const struct spot *spot,
                    const struct stat *st, uint64_t *ret_ino) {
    struct file f = {.depth = 0};
    uint64_t number = 0;
    int err = c->c.peer ? path_of(c, spot, &f) : -HFE_STALE;

    err = err < 0 ? err : c->c.peer(c->c.arg, f.path, f.depth, st->st_ino, ret_ino, &number);
    free(f.path);
    return err == 0 && !catchup_is_stable(c, FROM) && view_find(c->view, number) != node ? -ESTALE
                                                                                         : err;
}

/* The target receives all names, so what is at the same place is the same file: for what was bound
 * when nobody asked the target. Folders first. */
static int learn(struct catchup *c, struct view_node *node) {
    struct view_node *n = NULL;
    int err = 0;

    while (err == 0 && n != node) {
        struct spot spot;
        struct stat st;
        uint64_t ino;

        n = who_uppermost(c, node, is_unknown);
        err = who_find(c, FROM, n, &spot, &st);
        err = err < 0 ? err : ask_peer(c, n, &spot, &st, &ino);
        err = err < 0 ? err : who_is(c, n, spot.at, ino);
    }
    return err;
}

/* Found by two names, the two may be files that were made since, of which each was given the inode of the
 * node, which is gone: -ESTALE. */
static int check_peer(struct catchup *c, struct view_node *node, const struct spot *from,
                      const struct stat *s, const struct stat *t) {
    uint64_t ino;
    int err = ask_peer(c, node, from, s, &ino);

    return err == 0 && t->st_ino != ino ? -ESTALE : err;
}

/* The file was put aside on the target, which receives all names: a copy of it is in its place, which lacks
 * what was told of it since. Or it was removed, and the one that is there now was given its inode; then too much
 * is compared. */
static int find_copy(struct catchup *c, struct view_node *node, const struct spot *from,
                     const struct stat *s, struct spot *to, struct stat *t) {
    int err;

    *to = (struct spot){who_open(c, TO, from->at->parent), from->name, from->at};
    err = to->fd < 0 ? to->fd : at_stat(to->fd, to->name, -1, t);
    if (err == 0) {
        node->tail = 0;
        node->attr = true;
    }
    return err < 0 ? err : check_peer(c, node, from, s, t);
}

/* The node could not be found on the source: gone, or just moved. */
static int not_there(struct catchup *c, struct view_node *node) {
    if (names_may_have_moved(c, node, node->missed)) {
        node->again = node->missed = true;
        c->pending++;
    }
    return 0;
}

/* Attributes, which nobody else may set meanwhile. */
static int equalize_held(struct catchup *c, struct view_node *node, struct spot *from,
                         struct stat *s, struct spot *to, struct stat *t) {
    struct file f = {.ino = s->st_ino, .node = node};
    int err = c->c.hold ? path_of(c, from, &f) : 0;

    err = err < 0 ? err : hold_attrs(c, &f, INT64_MAX, 1);
    if (err == 0) {
        err = catchup_holds_names(c) ? find_held(c, node, from, s, to, t) : 0;
        err = err < 0 ? err : equal_attrs(c, from, s, to, t);
        release(c);
    }
    free(f.path);
    return err;
}

static int equalize_node(struct catchup *c, struct view_node *node) {
    bool bytes = (node->ranges > 0 || node->tail != UINT64_MAX) && node->type == DT_REG;
    struct spot from, to;
    struct stat s, t;
    int err;

    if (node->doubted && !view_is_somewhere(node)) {
        node->again =
            true; /* it was removed, and all that was in it; or the log says where it is just now */
        return 0;
    }

    if (!bytes && !node->attr && node->ranges == 0 && node->tail == UINT64_MAX) {
        return 0;
    }
    err = who_find(c, FROM, node, &from, &s);
    if (err < 0) {
        return who_is_gone(err) ? not_there(c, node) : err;
    }
    (void)snprintf(c->where, sizeof(c->where), "%s", from.name);
    c->stat.objects_compared++;
    err = catchup_by_names(c) ? 0 : who_find(c, TO, node, &to, &t);
    if (err == 0 && !catchup_by_names(c) && to.at->parent == STAGE) {
        if (c->view->no_names && node->type == DT_DIR) { /* removed, and its inode given again */
            return view_is_somewhere(node) ? -HFE_STALE : not_there(c, node);
        }
        /* it was in the way of itself, and what is there now is a copy of it */
        err = c->view->no_names ? find_copy(c, node, &from, &s, &to, &t) : -ENOENT;
        bytes = bytes || (err == 0 && node->type == DT_REG);
    } else if (err == 0 && c->view->no_names && !catchup_by_names(c) && from.at != to.at) {
        err = check_peer(c, node, &from, &s, &t);
    }
    if (err < 0 && !who_is_gone(err)) {
        return err;
    }
    if (err < 0) {
        int folder;

        if (c->view->no_names) {
            if (node->peers >> c->c.to_slot & 1) {
                return not_there(c, node); /* it moves right now: once more */
            }
            err = learn(c, node);
            return err < 0 ? err : equalize_node(c, node); /* its inode is known now */
        }
        from.at->done = 0; /* not told as a name: compared as a whole */
        err = names_reconcile(c, from.at);
        folder = err < 0 ? err : who_open(c, TO, from.at->parent);
        return folder < 0 ? folder : names_equalize_attrs(c, from.at);
    }
    if (!c->view->no_names) {
        node->worked = c->view->round;
    }
    if (node->doubted) {
        err = c->view->no_names ? -HFE_STALE : names_compare_folder(c, node, &from, &to);
        if (err < 0) {
            return err;
        }
    }
    return bytes              ? copy_file(c, node, &from, &s, &to, &t)
           : node->times_only ? names_equal_times(c, &from, &to)
                              : equalize_held(c, node, &from, &s, &to, &t);
}

/* Bytes changed under a name that is gone, of a file that has other names which nobody looked up:
 * somewhere it may still be. The source is searched for it. */
static int equalize_lost_links(struct catchup *c) {
    int err = 0;

    for (struct view_node *n = c->view->nodes; n && err == 0; n = n->next) {
        struct spot spot;
        struct stat st;

        if (n->linked && (n->ranges > 0 || n->tail != UINT64_MAX || n->attr)) {
            err = who_find(c, FROM, n, &spot, &st);
        }
    }
    if (!who_is_gone(err)) {
        return err;
    }
    if (c->view->no_names) {
        return -HFE_STALE;
    }
    /* Rare: the trees are compared, every byte. */
    return names_compare_all(c);
}

static int equalize_nodes(struct catchup *c, bool folders) {
    int err = 0;

    for (struct view_node *n = c->view->nodes; n && err == 0; n = n->next) {
        if ((n->type == DT_DIR) != folders) {
            continue;
        }
        who_trim_folders(c, OPEN_FOLDERS);
        err = catchup_stopped(c) ? -ECANCELED : equalize_node(c, n);
        if (err == -HFE_IN_USE) { /* names are in use for long: it has its turn later */
            n->again = true;
            c->pending++;
            err = 0;
        } else if (c->c.live && (err == -ENOENT || err == -ESTALE || err == -ENOTDIR)) {
            err = not_there(c, n);
        }
    }
    return err;
}

static int equalize_root(struct catchup *c) {
    struct file f = {.depth = 0};
    struct stat st;
    int err = fstat(catchup_root(c, FROM), &st) < 0 ? -errno : 0;

    f.ino = st.st_ino;
    err = err < 0 ? err : hold(c, &f, INT64_MAX, 1);
    if (err == 0) {
        err = copy_attrs(catchup_root(c, FROM), ".", catchup_root(c, TO), ".", &c->stat);
        release(c);
    }
    return err;
}

int catchup_data(struct catchup *c, struct why *why) {
    int err;

    c->pending = 0;
    err = who_look_at_target(c);
    err = err < 0 ? err : equalize_nodes(c, false);
    err = err < 0 ? err : equalize_lost_links(c);
    err = err < 0 ? err
                  : equalize_nodes(c, true); /* last: what is made in a folder changes its time */
    err = err < 0 ? err : equalize_root(c);
    return err < 0 ? why_set(why, err, "catching up %s stopped at \"%s\": %s", store_path(c->c.to),
                             c->where, error_words(err))
                   : 0;
}
