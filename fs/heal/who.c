/* Which file of a store is which object of the log: by its inode, where inodes are stable; else the target
 * has it where it was found or put, and the source where the log says. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/grow.h"
#include "heal/catchup_int.h"
#include "store/at.h"

bool who_are_one(const struct catchup *c, const struct view_node *a, const struct view_node *b) {
    unsigned slot = c->c.from_slot;

    return a == b || ((a->peers & b->peers) >> slot & 1 && a->ino[slot] == b->ino[slot]);
}

/* A number that was given again on the target is that of whom it was told last. */
static struct view_node *owner_of(const struct catchup *c, struct view_node *a,
                                  struct view_node *b) {
    struct view_node *before = a->told < b->told ? a : b;

    if (!who_are_one(c, a, b)) {
        before->peers &= ~(1u << c->c.to_slot);
        return before == a ? b : a;
    }
    return b;
}

static struct by_ino *entry_of(struct catchup *c, int side, uint64_t ino) {
    struct by_ino *b;

    HASH_FIND(hh, c->known[side], &ino, sizeof(ino), b);
    if (b) {
        return b;
    }
    b = calloc(1, sizeof(*b));
    if (b) {
        b->ino = ino;
        HASH_ADD(hh, c->known[side], ino, sizeof(b->ino), b);
    }
    return b;
}

static void index_node(struct catchup *c, int side, struct view_node *node) {
    unsigned slot = catchup_slot(c, side);
    struct by_ino *b = node->peers >> slot & 1 ? entry_of(c, side, node->ino[slot]) : NULL;

    if (!b) {
        return; /* nobody knows, or no memory: it is compared as a whole */
    }
    if (side == TO && b->disowned > node->told) {
        node->peers &= ~(1u << slot);
    } else if (side == TO && b->node) {
        b->node = owner_of(c, b->node, node);
    } else {
        b->node = node; /* of the source, the later one */
    }
}

int who_disown(struct catchup *c, uint64_t ino) {
    struct by_ino *b = entry_of(c, TO, ino);

    if (!b) {
        return -ENOMEM;
    }
    if (b->node) {
        b->node->peers &= ~(1u << c->c.to_slot);
        b->node = NULL;
    }
    b->disowned = ++c->view->told;
    return 0;
}

struct view_node *who_of_ino(const struct catchup *c, int side, uint64_t ino) {
    struct by_ino *b;

    HASH_FIND(hh, c->known[side], &ino, sizeof(ino), b);
    return b ? b->node : NULL;
}

struct view_node *who_is_at(const struct catchup *c, const struct view_name *name, uint64_t ino) {
    return catchup_is_stable(c, TO) ? who_of_ino(c, TO, ino) : name->holds;
}

int who_is(struct catchup *c, struct view_node *node, const struct view_name *name, uint64_t ino) {
    if (catchup_is_stable(c, TO)) {
        view_is_ino(c->view, node, c->c.to_slot, ino);
        index_node(c, TO, node);
        if (c->c.found) {
            c->c.found(c->c.arg, node->number, ino);
        }
    }
    return view_place(c->view, node, name->parent, name->text);
}

/* Is it on the target below the folder, or in one of which nobody knows where it is? */
static bool is_below(const struct catchup *c, const struct view_node *node,
                     const struct view_node *folder) {
    for (uint64_t steps = 0; steps <= c->view->node_count; steps++) {
        uint64_t parent = node->at ? node->at->parent : 0;

        if (parent == JOURNAL_ROOT || parent == STAGE || parent == JOURNAL_PARKED ||
            parent == JOURNAL_SNAPS) {
            return false;
        }
        node = view_find(c->view, parent);
        if (!node || node == folder) {
            break;
        }
    }
    return true;
}

void who_forget_all(struct catchup *c) {
    for (struct view_node *n = catchup_is_stable(c, TO) ? NULL : c->view->nodes; n; n = n->next) {
        view_is_lost(n);
    }
}

void who_forget_below(struct catchup *c, const struct view_node *folder) {
    for (struct view_node *n = catchup_is_stable(c, TO) ? NULL : c->view->nodes; n; n = n->next) {
        if (n->at && is_below(c, n, folder)) {
            view_is_lost(n);
        }
    }
}

/* Not given out any more. */
static void leave_folder(struct catchup *c, int side, struct open_folder *f) {
    HASH_DEL(c->folder[side], f);
    f->next = c->left_folders;
    c->left_folders = f;
}

void who_trim_folders(struct catchup *c, unsigned keep) {
    struct open_folder *f, *next;

    for (int side = 0; side < 2; side++) {
        if (HASH_COUNT(c->folder[side]) > keep) {
            HASH_ITER(hh, c->folder[side], f, next) {
                leave_folder(c, side, f);
            }
        }
    }
    while ((f = c->left_folders)) {
        c->left_folders = f->next;
        (void)close(f->fd); /* read only */
        free(f);
    }
}

/* As long as this stays, what was opened of the source is where the log has it. */
static uint64_t moves_of(const struct catchup *c) {
    return c->view->folder_moves + c->held_alone;
}

static struct open_folder *open_already(struct catchup *c, int side, const struct view_node *n) {
    struct open_folder *f;

    HASH_FIND(hh, c->folder[side], &n->number, sizeof(f->number), f);
    if (f && (side == TO ? f->placed != n->placed : f->moves != moves_of(c))) {
        leave_folder(c, side, f);
        return NULL;
    }
    return f;
}

/* Was it looked for in vain since who_open() was called from outside? */
static bool is_absent(const struct catchup *c, int side, const struct view_node *n) {
    return n->absent[side].look == c->look;
}

static int open_node(struct catchup *c, int side, struct view_node *node) {
    struct open_folder *f;
    struct spot spot;
    struct stat st;
    int fd, err = who_find(c, side, node, &spot, &st);

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
    f->placed = node->placed;
    f->moves = moves_of(c);
    HASH_ADD(hh, c->folder[side], number, sizeof(f->number), f);
    return fd;
}

/* The folders over it that were not looked for yet, by the newest place of each, itself first. -ENOMEM. */
static int folders_over(struct catchup *c, int side, struct view_node *node,
                        struct view_node ***ret_list) {
    struct view_node **list = NULL;
    int n = 0;

    while (node && (uint64_t)n <= c->view->node_count) {
        struct view_node **more = grow_by_one(list, (size_t)n, sizeof(*more));

        if (!more) {
            free(list);
            return -ENOMEM;
        }
        list = more;
        list[n++] = node;
        node = node->places ? view_find(c->view, node->place[node->places - 1]->parent) : NULL;
        if (node && (node->busy || open_already(c, side, node) || is_absent(c, side, node))) {
            node = NULL;
        }
    }
    *ret_list = list;
    return n;
}

/* From the top down, so that a deep tree needs no deep stack: who_find() looks in folders that are open
 * already, or known not to be there. */
static int descend(struct catchup *c, int side, struct view_node *node) {
    struct view_node **list;
    int n = folders_over(c, side, node, &list), fd = n;

    if (n < 0) {
        return n;
    }
    while (n-- > 0) {
        const struct open_folder *f =
            open_already(c, side, list[n]); /* on the way to another one */

        fd = f ? f->fd : open_node(c, side, list[n]);
        if (fd < 0) {
            list[n]->absent[side].look = c->look;
            list[n]->absent[side].err = fd;
        }
    }
    free(list);
    return fd;
}

int who_open(struct catchup *c, int side, uint64_t number) {
    struct view_node *node = view_find(c->view, number);
    const struct open_folder *f;
    int fd;

    if (number == JOURNAL_PARKED || number == JOURNAL_SNAPS) {
        return number == JOURNAL_PARKED ? c->parked[side] : c->snaps[side];
    }
    if (number == JOURNAL_ROOT || number == STAGE) {
        return number == JOURNAL_ROOT ? catchup_root(c, side) : side == TO ? c->stage : -ENOENT;
    }
    if (!node) {
        return -ENOENT;
    }
    f = open_already(c, side, node);
    if (f) {
        return f->fd;
    }
    if (c->inside == 0) {
        c->look++;
    } else if (is_absent(c, side, node)) {
        return node->absent[side].err;
    }
    c->inside++;
    fd = descend(c, side, node);
    c->inside--;
    return fd;
}

/* After a killed daemon: may the log have told of the name what was not done on this side? A folder of
 * the source is where it is: what lies in it could not be found else. */
static bool is_in_doubt(const struct catchup *c, int side, const struct view_node *node,
                        const struct view_name *name) {
    return c->only && name->marked && !name->times_only && (side == TO || node->type != DT_DIR);
}

/* Is the name one of the node's on this side, now? */
static bool is_on(struct catchup *c, int side, const struct view_node *node,
                  const struct view_name *name) {
    unsigned slot = catchup_slot(c, side);
    int fd = node->peers >> slot & 1 ? who_open(c, side, name->parent) : -ENOENT;
    struct stat st;

    return fd >= 0 && at_stat(fd, name->text, -1, &st) == 0 && st.st_ino == node->ino[slot];
}

/* Whose inode on this side nobody asked for: is it at this place of it? It is where the log says, if
 * the log is right just now. After a killed daemon it is for both sides, but for what was under way;
 * and both have it at the same places, also where the log does not say who is there (a further name
 * of a file, or one of which it said last that it may change). */
static bool is_proven(struct catchup *c, int side, const struct view_node *node,
                      const struct view_name *name) {
    if (is_in_doubt(c, side, node, name)) {
        return false;
    }
    if (name->node == node && (c->only || (side == FROM && (c->exact || !c->c.live)))) {
        return true;
    }
    return c->only && is_on(c, side == FROM ? TO : FROM, node, name);
}

/* Is the node at this place of it? The newest place is tried first. Where inodes say nothing, the
 * newest place on the source is believed, and on the target where it was found or put. */
static bool is_at(struct catchup *c, int side, struct view_node *node, unsigned place,
                  const struct stat *st) {
    unsigned slot = catchup_slot(c, side);

    if (IFTODT(st->st_mode) != node->type) {
        return false;
    }
    if (catchup_is_stable(c, side) && !(node->peers >> slot & 1) &&
        is_proven(c, side, node, node->place[place])) {
        view_is_ino(c->view, node, slot, st->st_ino);
        index_node(c, side, node);
    }
    if (catchup_is_stable(c, side)) {
        return (node->peers >> slot & 1) && node->ino[slot] == st->st_ino;
    }
    return side == FROM ? node->place[place]->node == node : node->place[place] == node->at;
}

bool who_is_gone(int err) {
    return err == -ENOENT || err == -ENOTDIR || err == -ELOOP || err == -ESTALE;
}

/* Where the source has it, the target does. */
static int find_mirrored(struct catchup *c, struct view_node *node, struct spot *ret_spot,
                         struct stat *ret_st) {
    int err = who_find(c, FROM, node, ret_spot, ret_st);

    node->busy = true;
    ret_spot->fd = err < 0 ? err : who_open(c, TO, ret_spot->at->parent);
    node->busy = false;
    return ret_spot->fd < 0 ? ret_spot->fd : at_stat(ret_spot->fd, ret_spot->name, -1, ret_st);
}

int who_find(struct catchup *c, int side, struct view_node *node, struct spot *ret_spot,
             struct stat *ret_st) {
    int err = -ENOENT, failed = 0;

    if (node->busy) {
        return -ELOOP;
    }
    if (side == TO && catchup_by_names(c)) {
        return find_mirrored(c, node, ret_spot, ret_st);
    }
    node->busy = true;
    for (unsigned k = 2 * node->places; k-- > 0 && err < 0;) {
        unsigned i = k % node->places; /* what was put aside has another name as well, perhaps */
        struct view_name *n = node->place[i];
        int fd, look;

        if ((n->parent == STAGE) != (k < node->places) ||
            (side == TO && n != node->at && !catchup_is_stable(c, TO))) {
            continue; /* it is nowhere else */
        }
        fd = who_open(c, side, n->parent);
        look = fd < 0 ? fd : at_stat(fd, n->text, -1, ret_st);
        if (look == 0 && is_at(c, side, node, i, ret_st)) {
            *ret_spot = (struct spot){fd, n->text, n};
            err = 0;
        }
        failed = look < 0 && !who_is_gone(look) ? look : failed;
    }
    node->busy = false;
    return err < 0 && failed < 0 ? failed : err;
}

struct view_node *who_uppermost(struct catchup *c, struct view_node *node,
                                bool (*lacks)(struct catchup *c, const struct view_node *folder)) {
    for (uint64_t steps = 0; steps <= c->view->node_count; steps++) {
        struct view_node *up;
        struct spot spot;
        struct stat st;

        up = who_find(c, FROM, node, &spot, &st) < 0 ? NULL : view_find(c->view, spot.at->parent);
        if (!up || !lacks(c, up)) {
            break;
        }
        node = up;
    }
    return node;
}

int who_look_at_target(struct catchup *c) {
    struct view_node *node = c->indexed ? c->indexed->next : c->view->nodes;
    int err = 0;

    for (; node && err == 0; node = node->next) {
        struct stat st;
        int fd;

        c->indexed = node;
        if (c->c.untouched && !c->view->no_names && node->trusted && !node->astray &&
            !(node->peers >> c->c.to_slot & 1)) {
            fd = who_open(c, TO, node->place[0]->parent);
            if (fd >= 0 && at_stat(fd, node->place[0]->text, -1, &st) == 0 &&
                IFTODT(st.st_mode) == node->type) {
                err = who_is(c, node, node->place[0], st.st_ino);
            }
        }
        index_node(c, FROM, node);
        index_node(c, TO, node);
    }
    return err;
}

/* What the target has where the source has the node: the names are equal now. */
static int stat_there(struct catchup *c, struct view_node *node, const struct spot *from,
                      struct stat *ret_st) {
    struct spot to;
    int fd;

    if (who_find(c, TO, node, &to, ret_st) == 0) {
        return 0;
    }
    fd = who_open(c, TO, from->at->parent);
    return fd < 0 ? fd : at_stat(fd, from->name, -1, ret_st);
}

/* 1 if so, 0 if not. */
static int has_all_names(struct catchup *c, struct view_node *node) {
    enum { TRIES = 30, PAUSE_MS = 100 }; /* one is just made, or a file that was replaced lingers */

    for (int i = 0; i < TRIES; i++) {
        struct spot from;
        struct stat a, b;
        int err = who_find(c, FROM, node, &from, &a);

        err = err < 0 ? err : stat_there(c, node, &from, &b);
        if (err < 0) {
            return who_is_gone(err) ? 1 : err; /* it moves, and both sides with it */
        }
        if (a.st_nlink == b.st_nlink) {
            return 1;
        }
        (void)poll(NULL, 0, PAUSE_MS);
    }
    return 0;
}

int catchup_links(struct catchup *c, struct why *why) {
    int err, whole = 1;

    if (!(store_caps(c->c.from) & store_caps(c->c.to) & STORE_STABLE_INO)) {
        return 0; /* their names were compared (mend_links()) */
    }
    err = catchup_clear(c, why); /* what was put aside counts as a name of its file */
    if (err < 0) {
        return err;
    }
    for (struct view_node *n = c->view->nodes; n && whole == 1; n = n->next) {
        whole = n->type == DT_DIR ? 1 : has_all_names(c, n);
        who_trim_folders(c, OPEN_FOLDERS);
    }
    if (whole < 0) {
        return why_set(why, whole, "the links of files could not be counted: %s",
                       error_words(whole));
    }
    c->lacks_names = whole == 0;
    return !catchup_tore_links(c)
               ? 0
               : why_set(why, -HFE_STALE,
                         "which names are one file could not be told from the change journal");
}

bool catchup_tore_links(const struct catchup *c) {
    return c->lacks_names || c->stat.links_torn > 0;
}

void who_free(struct catchup *c) {
    struct by_ino *b, *next;

    who_trim_folders(c, 0);
    for (int side = 0; side < 2; side++) {
        HASH_ITER(hh, c->known[side], b, next) {
            HASH_DEL(c->known[side], b);
            free(b);
        }
    }
}
