#include "heal/catchup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>

#include "base/io.h"
#include "heal/tree.h"
#include "journal/journal.h"

enum {
    FROM = 0,
    TO = 1,
    STAGE = 2,          /* the number of our folder for what is in the way; see JOURNAL_ROOT */
    DEPTH_MAX = 256,    /* of folders in a path; deeper ones are compared as a whole from there */
    OPEN_FOLDERS = 256, /* kept open on each side, from one name to the next */
    CHUNK = 256 << 10,
};
static const char stage_name[] = "catchup";

struct by_ino {
    uint64_t ino; /* key */
    struct view_node *node;
    UT_hash_handle hh;
};

/* A folder that is kept open. None is closed while a name is worked on. */
struct open_folder {
    uint64_t number; /* key */
    int fd;
    UT_hash_handle hh;
};

struct catchup {
    struct catchup_config c;
    struct view *view;
    struct by_ino *known[2];
    struct view_node *indexed; /* the last node that is in `known` */
    struct open_folder *folder[2];
    int stage,
        parked[2]; /* our folders: for what is in the way, and of open files without a name */
    unsigned staged;
    bool only;        /* all that was told is on both stores, but for what was under way */
    bool exact;       /* nothing moves on the source now: the log says where everything is */
    bool made;        /* a name, while bytes and attributes were made equal */
    unsigned pending; /* names and nodes that are to be looked at again */
    bool started;     /* the target was looked at: which file is which */
    struct copy_stat stat;
    char where[2 * NAME_BYTES]; /* for messages */
    uint8_t *buf;
};

/* A name in an open folder. */
struct spot {
    int fd;
    const char *name;
    const struct view_name *at;
};

static int root_of(const struct catchup *c, int side) {
    return store_root_fd(side == FROM ? c->c.from : c->c.to);
}
static unsigned slot_of(const struct catchup *c, int side) {
    return side == FROM ? c->c.from_slot : c->c.to_slot;
}

int catchup_new(const struct catchup_config *config, const struct id *volume,
                struct catchup **ret_catchup) {
    struct catchup *c = calloc(1, sizeof(*c));
    scope_fd int ours = -1;

    if (!c) {
        return -ENOMEM;
    }
    c->c = *config;
    c->stage = c->parked[FROM] = c->parked[TO] = -1;
    c->view = view_new(volume, (int)config->to_slot);
    c->buf = malloc(2 * (size_t)CHUNK);
    ours = openat(root_of(c, TO), STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (c->view && c->buf && ours >= 0 &&
        (mkdirat(ours, stage_name, 0700) == 0 || errno == EEXIST)) {
        c->stage = openat(ours, stage_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    for (int side = 0; side < 2 && c->stage >= 0; side++) {
        c->parked[side] = openat(root_of(c, side), STORE_FOLDER "/" STORE_OPEN_FOLDER,
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (c->stage < 0 || c->parked[FROM] < 0 || c->parked[TO] < 0) {
        int err = c->view && c->buf ? -errno : -ENOMEM;

        catchup_free(c);
        return err;
    }
    *ret_catchup = c;
    return 0;
}

static void close_folder(struct catchup *c, int side, struct open_folder *f) {
    if (f) {
        HASH_DEL(c->folder[side], f);
        (void)close(f->fd); /* read only */
        free(f);
    }
}

/* Closes all if there are many. Between two names. */
static void trim_folders(struct catchup *c, unsigned keep) {
    for (int side = 0; side < 2; side++) {
        struct open_folder *f, *next;

        if (HASH_COUNT(c->folder[side]) > keep) {
            HASH_ITER(hh, c->folder[side], f, next) {
                close_folder(c, side, f);
            }
        }
    }
}

void catchup_free(struct catchup *c) {
    struct by_ino *b, *next;

    if (!c) {
        return;
    }
    trim_folders(c, 0);
    for (int side = 0; side < 2; side++) {
        HASH_ITER(hh, c->known[side], b, next) {
            HASH_DEL(c->known[side], b);
            free(b);
        }
    }
    cleanup_fd(&c->stage);
    cleanup_fd(&c->parked[FROM]);
    cleanup_fd(&c->parked[TO]);
    view_free(c->view);
    free(c->buf);
    free(c);
}

struct view *catchup_view(struct catchup *c) {
    return c->view;
}

int catchup_add(void *arg, const struct journal_frame *frame) {
    struct catchup *c = arg;
    struct journal_frame f = *frame;

    if (c->c.compared) { /* its files are not what they were */
        f.peers &= ~(1u << c->c.to_slot);
        if (f.kind == JOURNAL_PEER && f.slot == c->c.to_slot) {
            return 0;
        }
    }
    return view_add(c->view, &f);
}

int catchup_only(struct catchup *c, const struct journal_frame *frames, unsigned n) {
    int err = 0;

    c->only = true;
    for (struct view_name *name = c->view->marked; name; name = name->marked_next) {
        name->done = name->times_only = true;
    }
    for (struct view_node *node = c->view->nodes; node; node = node->next) {
        node->times_only = true;
        node->attr = node->attr || node->ranges > 0 || node->tail != UINT64_MAX;
        node->ranges = 0;
        node->tail = UINT64_MAX;
    }
    for (unsigned i = 0; i < n && err == 0; i++) {
        err = view_mark_again(c->view, &frames[i]);
    }
    return err;
}

const struct copy_stat *catchup_stat(const struct catchup *c) {
    return &c->stat;
}

unsigned catchup_pending(const struct catchup *c) {
    return c->pending;
}

void catchup_receives(struct catchup *c, bool settled) {
    c->view->no_names = true;
    c->view->no_marks = settled;
}

uint64_t catchup_bytes_left(const struct catchup *c) {
    uint64_t n = 0;

    for (const struct view_node *node = c->view->nodes; node; node = node->next) {
        for (unsigned i = 0; i < node->ranges; i++) {
            n += node->range[i].len;
        }
    }
    return n;
}

static bool stopped(struct catchup *c) {
    return c->c.stopped && c->c.stopped(c->c.arg, &c->stat);
}

/* --- who is who --- */

static void index_node(struct catchup *c, int side, struct view_node *node) {
    unsigned slot = slot_of(c, side);
    struct by_ino *b;

    if (!(node->peers >> slot & 1)) {
        return;
    }
    HASH_FIND(hh, c->known[side], &node->ino[slot], sizeof(b->ino), b);
    if (b) {
        b->node = node; /* the later one: the number was used again */
        return;
    }
    b = calloc(1, sizeof(*b));
    if (b) { /* else it is compared as a whole */
        b->ino = node->ino[slot];
        b->node = node;
        HASH_ADD(hh, c->known[side], ino, sizeof(b->ino), b);
    }
}

static struct view_node *node_of_ino(const struct catchup *c, int side, uint64_t ino) {
    struct by_ino *b;

    HASH_FIND(hh, c->known[side], &ino, sizeof(ino), b);
    return b ? b->node : NULL;
}

static void set_ino(struct catchup *c, struct view_node *node, uint64_t ino) {
    node->ino[c->c.to_slot] = ino;
    node->peers |= 1u << c->c.to_slot;
    index_node(c, TO, node);
    if (c->c.found) {
        c->c.found(c->c.arg, node->number, ino);
    }
}

static int find_node(struct catchup *c, int side, struct view_node *node, struct spot *ret_spot,
                     struct stat *ret_st);

/* A descriptor of the folder `number`, kept by us. -ENOENT if it is not there, or nobody knows. */
static int open_number(struct catchup *c, int side, uint64_t number) {
    struct view_node *node = view_find(c->view, number);
    struct open_folder *f;
    struct spot spot;
    struct stat st;
    int fd, err;

    if (number == JOURNAL_PARKED) {
        return c->parked[side];
    }
    if (number == JOURNAL_ROOT || number == STAGE) {
        return number == JOURNAL_ROOT ? root_of(c, side) : side == TO ? c->stage : -ENOENT;
    }
    if (!node) {
        return -ENOENT;
    }
    HASH_FIND(hh, c->folder[side], &node->number, sizeof(f->number), f);
    if (f) {
        return f->fd;
    }
    err = find_node(c, side, node, &spot, &st);
    if (err < 0) {
        return err;
    }
    fd = openat(spot.fd, spot.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        (void)close(fd); /* read only */
        return -ENOMEM;
    }
    f->number = node->number;
    f->fd = fd;
    HASH_ADD(hh, c->folder[side], number, sizeof(f->number), f);
    return fd;
}

/* The target's folder of that number is another one now. */
static void forget_folder(struct catchup *c, uint64_t number) {
    struct open_folder *f;

    HASH_FIND(hh, c->folder[TO], &number, sizeof(number), f);
    close_folder(c, TO, f);
}

/* Is the node at this place of it? The newest place is tried first. Where inodes say nothing, the
 * newest place on the source and the first on the target are believed, if the log proves them. */
static bool is_at(struct catchup *c, int side, struct view_node *node, unsigned place,
                  const struct stat *st) {
    unsigned slot = slot_of(c, side);
    bool stable = store_caps(side == FROM ? c->c.from : c->c.to) & STORE_STABLE_INO;

    if (IFTODT(st->st_mode) != node->type) {
        return false;
    }
    /* Bound while nobody asked this store: where the log says it is, if the log is right just now.
     * After a killed daemon it is for both, but for what was under way. */
    if (stable && !(node->peers >> slot & 1) && node->place[place]->node == node &&
        (side == FROM ? c->exact || !c->c.live : c->only)) {
        node->ino[slot] = st->st_ino;
        node->peers |= 1u << slot;
        index_node(c, side, node);
    }
    if (stable) {
        return (node->peers >> slot & 1) && node->ino[slot] == st->st_ino;
    }
    return side == FROM ? node->place[place]->node == node
                        : node->place[place] == node->at && node->at != NULL;
}

static int find_node(struct catchup *c, int side, struct view_node *node, struct spot *ret_spot,
                     struct stat *ret_st) {
    int err = -ENOENT;

    if (node->busy) {
        return -ELOOP;
    }
    node->busy = true;
    for (unsigned i = node->places; i-- > 0 && err < 0;) {
        const struct view_name *n = node->place[i];
        int fd = open_number(c, side, n->parent);

        if (fd >= 0 && fstatat(fd, n->text, ret_st, AT_SYMLINK_NOFOLLOW) == 0 &&
            is_at(c, side, node, i, ret_st)) {
            *ret_spot = (struct spot){fd, n->text, n};
            err = 0;
        }
    }
    node->busy = false;
    return err;
}

/* Before anything is changed on the target: which of its files is which object. What was bound
 * while it was there is known; the rest is where the log says, if no change came before. */
static void look_at_target(struct catchup *c) {
    bool stable = store_caps(c->c.to) & STORE_STABLE_INO;
    struct view_node *node = c->indexed ? c->indexed->next : c->view->nodes;

    for (; node; node = node->next) {
        struct stat st;
        int fd;

        c->indexed = node;
        if (c->c.untouched && !c->started && node->trusted && !(node->peers >> c->c.to_slot & 1)) {
            fd = open_number(c, TO, node->place[0]->parent);
            if (fd >= 0 && fstatat(fd, node->place[0]->text, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                IFTODT(st.st_mode) == node->type) {
                node->at = node->place[0];
                if (stable) {
                    set_ino(c, node, st.st_ino);
                }
            }
        }
        index_node(c, FROM, node);
        index_node(c, TO, node);
    }
    c->started = true;
}

/* --- names --- */

static int reconcile(struct catchup *c, struct view_name *n);

/* The folder of a name, on the target. What made it may have to be done first; and where the log
 * does not prove which folder it is, the one of the same name was compared as a whole. */
static int target_folder(struct catchup *c, uint64_t number) {
    struct view_node *node = view_find(c->view, number);
    int fd = open_number(c, TO, number), above;
    struct spot spot;
    struct stat st;

    if (fd >= 0 || !node || node->busy || find_node(c, FROM, node, &spot, &st) < 0) {
        return fd;
    }
    node->busy = true;
    fd = reconcile(c, (struct view_name *)spot.at);
    node->busy = false;
    if (fd < 0) {
        return fd;
    }
    fd = open_number(c, TO, number);
    if (fd >= 0) {
        return fd;
    }
    node->busy = true;
    above = target_folder(c, spot.at->parent);
    node->busy = false;
    if (above < 0 || fstatat(above, spot.at->text, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        !S_ISDIR(st.st_mode)) {
        return -ENOENT;
    }
    set_ino(c, node, st.st_ino);
    node->at = spot.at;
    return open_number(c, TO, number);
}

/* What is in the way on the target goes to our stage: it may be needed elsewhere. */
static int put_aside(struct catchup *c, int fd, const char *name, const struct stat *st) {
    struct view_node *node = node_of_ino(c, TO, st->st_ino);
    char staged[32];

    do {
        (void)snprintf(staged, sizeof(staged), "%u", c->staged++);
    } while (faccessat(c->stage, staged, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    if (renameat(fd, name, c->stage, staged) < 0) {
        return -errno;
    }
    c->stat.objects_changed++;
    return node && IFTODT(st->st_mode) == node->type ? view_place(c->view, node, STAGE, staged) : 0;
}

/* While whole folders are compared: what the log knows as an object of the target that is elsewhere
 * on the source is put aside, and not written into or removed. */
static int on_known(void *arg, int dir, const char *name, const struct stat *st,
                    const struct stat *source) {
    struct catchup *c = arg;
    const struct view_node *node = node_of_ino(c, TO, st->st_ino);
    int err;

    if (!node || (source && (node->peers >> c->c.from_slot & 1) &&
                  node->ino[c->c.from_slot] == source->st_ino)) {
        return 0;
    }
    err = put_aside(c, dir, name, st);
    return err < 0 ? err : 1;
}

/* A folder whose contents the log does not vouch for. */
static int compare_folder(struct catchup *c, int from, int to, const char *name) {
    struct heal_options options = {
        .live = c->c.live, .all_data = true, .known = on_known, .known_arg = c};
    scope_fd int a = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    scope_fd int b = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return a < 0 || b < 0 ? -errno
                          : heal_folder(a, b, false, !(store_caps(c->c.to) & STORE_SYNCFS),
                                        &options, &c->stat);
}

static int sync_new(struct catchup *c, int fd, const char *name) {
    scope_fd int file = -1;

    if (store_caps(c->c.to) & STORE_SYNCFS) {
        return 0;
    }
    file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return file >= 0 && fsync(file) < 0 ? -errno : 0;
}

/* The target's name of another link of the source's file `s`, if there is one. */
static int find_link(struct catchup *c, const struct stat *s, struct spot *ret_spot) {
    struct view_node *node = s->st_nlink > 1 ? node_of_ino(c, FROM, s->st_ino) : NULL;
    struct stat st;

    return node ? find_node(c, TO, node, ret_spot, &st) : -ENOENT;
}

/* The node is elsewhere on the target: is that name still one of it on the source? Then it is a
 * further link, and not a move. */
static bool still_there(struct catchup *c, const struct view_name *at, const struct stat *s) {
    int fd = open_number(c, FROM, at->parent);
    struct stat st;

    return fd >= 0 && fstatat(fd, at->text, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           st.st_ino == s->st_ino;
}

static int bring(struct catchup *c, const struct spot *old, int to, struct view_name *n,
                 const struct stat *s) {
    struct view_node *node = node_of_ino(c, FROM, s->st_ino);
    int r = !S_ISDIR(s->st_mode) && still_there(c, old->at, s)
                ? linkat(old->fd, old->name, to, n->text, 0)
                : renameat(old->fd, old->name, to, n->text);

    if (r < 0) {
        return -errno;
    }
    c->stat.objects_changed++;
    if (!node) {
        return 0;
    }
    node->at = n;
    return view_place(c->view, node, n->parent, n->text);
}

/* Is all that is in the folder told, because it was made since? Not if frames were lost with a
 * crash. */
static bool all_told(const struct catchup *c, const struct view_node *node) {
    return node && node->born && !c->c.compared;
}

/* All of it was copied: what was told so far is done. */
static void copied_whole(struct view_node *node) {
    node->ranges = 0;
    node->tail = UINT64_MAX;
    node->attr = true;
}

static int make_anew(struct catchup *c, int from, int to, struct view_name *n,
                     struct view_node *node, const struct stat *s) {
    struct stat st;
    int err = copy_new(from, n->text, to, n->text, &c->stat);

    if (err == 0 && S_ISDIR(s->st_mode) && !all_told(c, node)) {
        err = compare_folder(c, from, to, n->text);
    } else if (err == 0 && S_ISREG(s->st_mode)) {
        err = sync_new(c, to, n->text);
    }
    if (err == 0 && node && fstatat(to, n->text, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        forget_folder(c, node->number);
        set_ino(c, node, st.st_ino);
        node->at = n;
        copied_whole(node);
    }
    c->stat.objects_changed += err == 0;
    return err;
}

/* Nothing proves which file of the target it is. */
static int equalize_unknown(struct catchup *c, int from, int to, struct view_name *n,
                            struct view_node *node, const struct stat *s, const struct stat *t) {
    const struct view_node *theirs = t ? node_of_ino(c, TO, t->st_ino) : NULL;
    struct spot other;
    int err = 0;

    /* A folder that was made since is none that the target has; and what the log knows as another
     * object must stay that. */
    if (t && IFTODT(t->st_mode) == IFTODT(s->st_mode) && (!theirs || theirs == node) &&
        !(S_ISDIR(s->st_mode) && all_told(c, node))) {
        if (S_ISDIR(s->st_mode)) {
            err = compare_folder(c, from, to, n->text);
            if (err == 0 && node) {
                set_ino(c, node, t->st_ino);
                node->at = n;
            }
            return err;
        }
        if (s->st_nlink == 1 && t->st_nlink == 1) {
            err = copy_equalize(from, n->text, to, n->text, true, &c->stat);
            if (err == 0 && node) {
                set_ino(c, node, t->st_ino);
                node->at = n;
                copied_whole(node);
            }
            return err;
        }
    }
    if (t) {
        err = put_aside(c, to, n->text, t);
    }
    if (err == 0 && find_link(c, s, &other) == 0) {
        return bring(c, &other, to, n, s);
    }
    return err < 0 ? err : make_anew(c, from, to, n, node, s);
}

static int equalize_name(struct catchup *c, int from, int to, struct view_name *n,
                         const struct stat *s, const struct stat *t) {
    unsigned slot = c->c.from_slot;
    bool stable = store_caps(c->c.from) & STORE_STABLE_INO;
    struct view_node *node = n->node;
    struct spot old;
    struct stat st;
    int err;

    if (node && (node->type != IFTODT(s->st_mode) ||
                 (stable && !((node->peers >> slot & 1) && node->ino[slot] == s->st_ino)))) {
        node = NULL; /* the log spoke of another file */
    }
    if (!node) {
        node = stable ? node_of_ino(c, FROM, s->st_ino) : NULL;
        node = node && node->type == IFTODT(s->st_mode) && s->st_nlink > 1 && !S_ISDIR(s->st_mode)
                   ? node
                   : NULL;
        return equalize_unknown(c, from, to, n, node, s, t);
    }
    err = find_node(c, TO, node, &old, &st);
    if (err < 0) {
        return equalize_unknown(c, from, to, n, node, s, t);
    }
    if (t && t->st_ino == st.st_ino && old.at == n) {
        return 0;
    }
    if (t && t->st_ino == st.st_ino && !S_ISDIR(t->st_mode)) {
        return 0; /* another link of the same file */
    }
    if (t) {
        err = put_aside(c, to, n->text, t);
    }
    err = err < 0 ? err : bring(c, &old, to, n, s);
    return err == -EINVAL ? make_anew(c, from, to, n, node, s)
                          : err; /* into itself, here: copied */
}

static void mark_attrs(struct catchup *c, struct view_name *n) {
    struct view_node *folder = view_find(c->view, n->parent);

    if (folder) {
        folder->attr = true;
    }
    if (n->node) {
        n->node->attr = true;
    }
}

/* On a source in use, what a name is said to lie in may just have moved: it is looked at again in
 * the next round, when the log tells where it is. What has no name any more needs nothing. */
static int not_found(struct catchup *c, struct view_name *n, int err) {
    const struct view_node *folder = view_find(c->view, n->parent);
    bool lost = err == -ENOENT || err == -ELOOP || err == -ENOTDIR;

    if (!lost || (!c->c.live && folder && view_is_somewhere(folder))) {
        return err;
    }
    if (folder && view_is_somewhere(folder)) {
        n->again = true;
        c->pending++;
    }
    return 0;
}

static int equalize_spot(struct catchup *c, struct view_name *n, int from, int to);

static int reconcile(struct catchup *c, struct view_name *n) {
    int from, to;

    if (n->done) {
        return 0;
    }
    n->done = true;
    from = open_number(c, FROM, n->parent);
    if (from < 0) {
        return from == -ENOENT ? not_found(c, n, from) : from;
    }
    to = target_folder(c, n->parent);
    return to < 0 ? not_found(c, n, to) : equalize_spot(c, n, from, to);
}

/* What a name is on the source, it becomes on the target. */
static int equalize_spot(struct catchup *c, struct view_name *n, int from, int to) {
    struct stat s, t;
    bool have_s, have_t;
    int err = 0;

    (void)snprintf(c->where, sizeof(c->where), "%s", n->text);
    c->stat.objects_compared++;
    have_s = fstatat(from, n->text, &s, AT_SYMLINK_NOFOLLOW) == 0;
    if (!have_s && errno != ENOENT) {
        return -errno;
    }
    have_t = fstatat(to, n->text, &t, AT_SYMLINK_NOFOLLOW) == 0;
    if (!have_t && errno != ENOENT) {
        return -errno;
    }
    if (have_s) {
        err = equalize_name(c, from, to, n, &s, have_t ? &t : NULL);
    } else if (have_t) {
        err = put_aside(c, to, n->text, &t);
    }
    mark_attrs(c, n);
    if (c->c.live &&
        (err == -ENOENT || err == -ENOTDIR)) { /* it went, or moved, while we were at it */
        n->again = true;
        c->pending++;
        err = 0;
    }
    return err;
}

/* Do only the times differ, or nothing? Then there is little to do. */
static int equal_times(struct catchup *c, const struct spot *from, const struct spot *to) {
    struct stat a, b;

    if (fstatat(from->fd, from->name, &a, AT_SYMLINK_NOFOLLOW) < 0 ||
        fstatat(to->fd, to->name, &b, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    return copy_same_stat(&a, &b) ? 0
                                  : copy_attrs(from->fd, from->name, to->fd, to->name, &c->stat);
}

/* What a name is on the source is on the target, times and owners too: without its bytes. */
static int equalize_attrs(struct catchup *c, struct view_name *n) {
    int from = open_number(c, FROM, n->parent), to = open_number(c, TO, n->parent), err;

    if (from < 0 || to < 0) {
        return 0; /* gone, and told */
    }
    err = n->times_only
              ? equal_times(c, &(struct spot){from, n->text, n}, &(struct spot){to, n->text, n})
              : copy_attrs(from, n->text, to, n->text, &c->stat);
    return err == -ENOENT ? 0 : err;
}

int catchup_names(struct catchup *c, struct why *why) {
    int err = 0;

    c->pending = 0;
    look_at_target(c);
    for (struct view_name *n = c->view->marked; n && err == 0; n = n->marked_next) {
        trim_folders(c, OPEN_FOLDERS);
        err = stopped(c) ? -ECANCELED : reconcile(c, n);
    }
    for (struct view_name *n = c->view->marked; n && err == 0; n = n->marked_next) {
        trim_folders(c, OPEN_FOLDERS);
        err = stopped(c) ? -ECANCELED : equalize_attrs(c, n);
    }
    return err < 0 ? why_set(why, err, "catching up %s stopped at \"%s\": %s", store_path(c->c.to),
                             c->where, error_words(err))
                   : 0;
}

/* --- bytes --- */

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
    const char *path[DEPTH_MAX];
    unsigned depth;
    uint64_t ino;
};

static int hold(struct catchup *c, const struct file *f, uint64_t off, uint64_t len) {
    return c->c.hold ? c->c.hold(c->c.arg, f->path, f->depth, f->ino, off, len) : 0;
}

static void release(struct catchup *c) {
    if (c->c.release) {
        c->c.release(c->c.arg);
    }
}

static int copy_range(struct catchup *c, const struct file *f, uint64_t off, uint64_t end) {
    while (off < end) {
        uint64_t len = end - off < CHUNK ? end - off : CHUNK;
        struct stat st;
        int err;

        if (stopped(c)) {
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

/* The size, and attributes. Under a hold of all bytes. */
static int equal_size(struct catchup *c, const struct file *f, const struct spot *from,
                      const struct spot *to) {
    struct stat a, b;
    int err = hold(c, f, 0, (uint64_t)INT64_MAX + 1); /* the times, too */

    if (err < 0) {
        return err;
    }
    if (fstat(f->in, &a) < 0 || fstat(f->out, &b) < 0 ||
        (a.st_size != b.st_size && ftruncate(f->out, a.st_size) < 0)) {
        err = -errno;
    }
    copy_holes(f->in, f->out, err < 0 ? 0 : a.st_size);
    err = err < 0 ? err : copy_attrs(from->fd, from->name, to->fd, to->name, &c->stat);
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

/* Names from the root down, where the node is on the source now. */
static int path_of(struct catchup *c, const struct spot *spot, struct file *f) {
    const struct view_name *n = spot->at;
    const char *up[DEPTH_MAX];
    unsigned depth = 0;

    for (;;) {
        struct view_node *folder;
        struct spot above;
        struct stat st;
        int err;

        if (depth == DEPTH_MAX) {
            return -ELOOP;
        }
        up[depth++] = n->text;
        if (n->parent == JOURNAL_ROOT) {
            break;
        }
        if (n->parent == JOURNAL_PARKED && depth + 2 <= DEPTH_MAX) {
            up[depth++] = STORE_OPEN_FOLDER;
            up[depth++] = STORE_FOLDER;
            break;
        }
        folder = view_find(c->view, n->parent);
        err = folder ? find_node(c, FROM, folder, &above, &st) : -ENOENT;
        if (err < 0) {
            return err;
        }
        n = above.at;
    }
    for (unsigned i = 0; i < depth; i++) {
        f->path[i] = up[depth - 1 - i];
    }
    f->depth = depth;
    return 0;
}

static int copy_file(struct catchup *c, struct view_node *node, const struct spot *from,
                     const struct spot *to) {
    scope_fd int in = openat(from->fd, from->name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    scope_fd int out = openat(to->fd, to->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    struct file f = {.in = in, .out = out};
    struct stat st;
    int err = in < 0 || out < 0 || fstat(in, &st) < 0 ? -errno : 0;

    if (err == 0 && c->c.hold) {
        f.ino = st.st_ino;
        err = path_of(c, from, &f);
    }
    err = err < 0 ? err : copy_ranges(c, node, &f);
    err = err < 0 ? err : equal_size(c, &f, from, to);
    if (err == 0 && !(store_caps(c->c.to) & STORE_SYNCFS) && fsync(out) < 0) {
        err = -errno;
    }
    return err == 0 && close(steal_fd(&out)) < 0 ? -errno : err;
}

/* The target receives all names, so what is at the same place is the same file: for what was bound
 * when nobody asked the target. Folders first. Depth is bounded by path_of(). */
static int learn(struct catchup *c, struct view_node *node) {
    struct file f = {.depth = 0};
    struct view_node *folder;
    struct spot spot;
    struct stat st;
    uint64_t ino;
    int err = find_node(c, FROM, node, &spot, &st);

    if (err < 0 || !c->c.peer) {
        return err < 0 ? err : -HFE_STALE;
    }
    folder = view_find(c->view, spot.at->parent);
    err = path_of(c, &spot, &f);
    if (err == 0 && folder && !(folder->peers >> c->c.to_slot & 1)) {
        err = learn(c, folder);
    }
    err = err < 0 ? err : c->c.peer(c->c.arg, f.path, f.depth, st.st_ino, &ino);
    if (err == 0) {
        set_ino(c, node, ino);
        node->at = spot.at;
    }
    return err;
}

/* The node could not be found on the source: gone, or just moved. */
static int not_there(struct catchup *c, struct view_node *node) {
    if (c->c.live && view_is_somewhere(node)) {
        node->again = true;
        c->pending++;
    }
    return 0;
}

/* Attributes, which nobody else may set meanwhile. */
static int equalize_held(struct catchup *c, const struct spot *from, const struct spot *to,
                         uint64_t ino) {
    struct file f = {.ino = ino};
    int err = c->c.hold ? path_of(c, from, &f) : 0;

    err = err < 0 ? err : hold(c, &f, INT64_MAX, 1);
    if (err == 0) {
        err = copy_attrs(from->fd, from->name, to->fd, to->name, &c->stat);
        release(c);
    }
    return err;
}

static int equalize_node(struct catchup *c, struct view_node *node) {
    bool bytes = (node->ranges > 0 || node->tail != UINT64_MAX) && node->type == DT_REG;
    struct spot from, to;
    struct stat s, t;

    if (!bytes && !node->attr && node->ranges == 0 && node->tail == UINT64_MAX) {
        return 0;
    }
    if (find_node(c, FROM, node, &from, &s) < 0) {
        return not_there(c, node);
    }
    (void)snprintf(c->where, sizeof(c->where), "%s", from.name);
    c->stat.objects_compared++;
    if (find_node(c, TO, node, &to, &t) < 0) {
        int folder, err;

        if (c->view->no_names) {
            if (node->peers >> c->c.to_slot & 1) {
                return not_there(c, node); /* it moves right now: once more */
            }
            err = learn(c, node);
            return err < 0 ? err : equalize_node(c, node);
        }
        c->made = true;
        ((struct view_name *)from.at)->done = false; /* not told as a name: compared as a whole */
        err = reconcile(c, (struct view_name *)from.at);
        folder = err < 0 ? err : open_number(c, TO, from.at->parent);
        return folder < 0 ? folder : equalize_attrs(c, (struct view_name *)from.at);
    }
    return bytes              ? copy_file(c, node, &from, &to)
           : node->times_only ? equal_times(c, &from, &to)
                              : equalize_held(c, &from, &to, s.st_ino);
}

/* Bytes changed under a name that is gone, of a file that has other names which nobody looked up:
 * somewhere it may still be. The source is searched for it. */
static int equalize_lost_links(struct catchup *c) {
    bool any = false;

    for (const struct view_node *n = c->view->nodes; n && !any; n = n->next) {
        struct view_node *node = (struct view_node *)n;
        struct spot spot;
        struct stat st;

        any = n->linked && (n->ranges > 0 || n->tail != UINT64_MAX || n->attr) &&
              find_node(c, FROM, node, &spot, &st) < 0;
    }
    if (!any || c->view->no_names) {
        return any ? -HFE_STALE : 0;
    }
    /* Rare: the trees are compared, and what is not the same by its attributes, byte by byte. */
    return heal_folder(root_of(c, FROM), root_of(c, TO), true,
                       !(store_caps(c->c.to) & STORE_SYNCFS),
                       &(struct heal_options){.live = c->c.live, .all_data = true}, &c->stat);
}

static int equalize_nodes(struct catchup *c, bool folders) {
    int err = 0;

    for (struct view_node *n = c->view->nodes; n && err == 0; n = n->next) {
        if ((n->type == DT_DIR) != folders) {
            continue;
        }
        trim_folders(c, OPEN_FOLDERS);
        err = stopped(c) ? -ECANCELED : equalize_node(c, n);
        if (c->c.live && (err == -ENOENT || err == -ESTALE || err == -ENOTDIR)) {
            err = not_there(c, n);
        }
    }
    return err;
}

int catchup_names_exact(struct catchup *c, struct why *why) {
    int err;

    c->exact = true;
    err = catchup_names(c, why);
    for (struct view_node *n = c->view->nodes; n && err == 0; n = n->next) {
        struct spot spot;
        struct stat st;

        if (stopped(c)) {
            break; /* the next step says so */
        }
        if (view_is_somewhere(n) && find_node(c, FROM, n, &spot, &st) < 0) {
            view_is_nowhere(n); /* a crash took what the log says was done to it */
        }
        trim_folders(c, OPEN_FOLDERS);
    }
    c->exact = false;
    return err;
}

static int equalize_root(struct catchup *c) {
    struct file f = {.depth = 0};
    struct stat st;
    int err = fstat(root_of(c, FROM), &st) < 0 ? -errno : 0;

    f.ino = st.st_ino;
    err = err < 0 ? err : hold(c, &f, INT64_MAX, 1);
    if (err == 0) {
        err = copy_attrs(root_of(c, FROM), ".", root_of(c, TO), ".", &c->stat);
        release(c);
    }
    return err;
}

int catchup_data(struct catchup *c, struct why *why) {
    int err;

    c->pending = 0;
    look_at_target(c);
    err = equalize_nodes(c, false);
    err = err < 0 ? err : equalize_lost_links(c);
    err = err < 0 ? err
                  : equalize_nodes(c, true); /* last: what is made in a folder changes its time */
    err = err < 0 ? err : equalize_root(c);
    return err < 0 ? why_set(why, err, "catching up %s stopped at \"%s\": %s", store_path(c->c.to),
                             c->where, error_words(err))
                   : 0;
}

void catchup_next(struct catchup *c) {
    view_clear_marks(c->view);
}

int catchup_finish(struct catchup *c, struct why *why) {
    scope_fd int ours =
        openat(root_of(c, TO), STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int err = ours < 0 ? -errno : io_remove_tree(ours, stage_name);

    if (err == 0 && syncfs(root_of(c, TO)) < 0) {
        err = -errno;
    }
    return err < 0
               ? why_set(why, err, "%s cannot be synced: %s", store_path(c->c.to), error_words(err))
               : 0;
}
