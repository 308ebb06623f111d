/* What a name is on the source, it becomes on the target. What moved is moved, found by its inode
 * where it was; what is in the way is put aside, for it may be needed elsewhere. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "heal/catchup_int.h"
#include "heal/tree.h"
#include "store/at.h"

/* What the target has at the name was made like the source's, or is a new copy of it. What was in a folder
 * here just then is in it there, whatever the log will tell of names in it. */
static int is_like(struct catchup *c, struct view_node *node, const struct view_name *n,
                   uint64_t ino) {
    node->trusted = false;
    return who_is(c, node, n, ino);
}

static int target_folder(struct catchup *c, uint64_t number);

/* Is the target's folder at this name the node's, now that the name was made equal? It is not if the source
 * had another one there just then. */
static bool is_there(struct catchup *c, struct view_node *node, const struct view_name *name,
                     const struct stat *st) {
    struct view_node *other = who_is_at(c, name, st->st_ino);
    struct spot now;
    struct stat s;

    if (other && !who_are_one(c, other, node) && who_find(c, TO, other, &now, &s) == 0 &&
        now.at == name) {
        return false;
    }
    return S_ISDIR(st->st_mode) && who_find(c, FROM, node, &now, &s) == 0 && now.at == name;
}

/* A folder that the target does not have, or of which nobody knows which it is; those over it are there.
 * What made it may have to be done first; and where the log does not prove which folder it is, the one of
 * the same name was compared as a whole. */
static int make_folder(struct catchup *c, struct view_node *node) {
    struct spot spot;
    struct stat st;
    int above, err, fd = who_find(c, FROM, node, &spot, &st);

    if (fd < 0) {
        return fd;
    }
    if (spot.at->done == c->view->round && c->c.live && !c->exact) {
        return -ENOENT; /* another one may have been there then */
    }
    node->busy = true;
    fd = names_reconcile(c, spot.at);
    node->busy = false;
    if (fd < 0 || spot.at->again) {
        return fd < 0 ? fd : -ENOENT; /* what the target has there may be another's */
    }
    fd = who_open(c, TO, node->number);
    if (fd >= 0 || !who_is_gone(fd)) {
        return fd;
    }
    node->busy = true;
    above = target_folder(c, spot.at->parent);
    node->busy = false;
    if (above < 0 || at_stat(above, spot.at->text, -1, &st) < 0 ||
        !is_there(c, node, spot.at, &st)) {
        return -ENOENT;
    }
    err = is_like(c, node, spot.at, st.st_ino);
    return err < 0 ? err : who_open(c, TO, node->number);
}

static bool is_missing(struct catchup *c, const struct view_node *folder) {
    return !folder->busy && who_open(c, TO, folder->number) < 0;
}

/* The folder of a name, on the target. From the top down: a deep tree needs no deep stack. */
static int target_folder(struct catchup *c, uint64_t number) {
    struct view_node *node = view_find(c->view, number), *n = NULL;
    int fd = who_open(c, TO, number);

    if (fd >= 0 || !node || node->busy || !who_is_gone(fd)) {
        return fd;
    }
    for (fd = 0; fd >= 0 && n != node;) {
        n = who_uppermost(c, node, is_missing);
        fd = make_folder(c, n);
    }
    return fd;
}

/* What is in the way on the target goes to our stage: it may be needed elsewhere. `node`: who it is, if
 * anybody knows. */
static int put_aside(struct catchup *c, int fd, const char *name, const struct stat *st,
                     struct view_node *node) {
    char staged[32];
    int err;

    do {
        (void)snprintf(staged, sizeof(staged), "%u", c->staged++);
    } while (faccessat(c->stage, staged, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
    err = at_rename(fd, name, c->stage, staged, 0);
    if (err < 0) {
        return err;
    }
    c->stat.objects_changed++;
    return node && IFTODT(st->st_mode) == node->type ? view_place(c->view, node, STAGE, staged) : 0;
}

/* Where the source's inodes say nothing, the log says what it has at the name. */
static bool is_told_there(struct catchup *c, const struct view_node *node, int dir,
                          const char *name) {
    for (unsigned i = node->places; i-- > 0;) {
        const struct view_name *at = node->place[i];
        int fd = at->node == node && strcmp(at->text, name) == 0 ? who_open(c, TO, at->parent) : -1;
        struct stat a, b;

        if (fd >= 0 && fstat(fd, &a) == 0 && fstat(dir, &b) == 0 && a.st_ino == b.st_ino) {
            return true;
        }
    }
    return false;
}

static bool is_source_of(struct catchup *c, const struct view_node *node, int dir, const char *name,
                         const struct stat *source) {
    unsigned slot = c->c.from_slot;

    return catchup_is_stable(c, FROM)
               ? (node->peers >> slot & 1) && node->ino[slot] == source->st_ino
               : is_told_there(c, node, dir, name);
}

/* While whole folders are compared: what the log knows as an object of the target that is elsewhere
 * on the source is put aside, and not written into or removed. */
static int on_known(void *arg, int dir, const char *name, const struct stat *st,
                    const struct stat *source) {
    struct catchup *c = arg;
    struct view_node *node = who_of_ino(c, TO, st->st_ino);
    int err;

    if (!node || (source && is_source_of(c, node, dir, name, source))) {
        return 0;
    }
    err = put_aside(c, dir, name, st, node);
    return err < 0 ? err : 1;
}

/* What is known of the target's names there is to be forgotten first. */
static int compare(struct catchup *c, int from, int to, bool top, bool all_data) {
    struct heal_options options = {.live = c->c.live,
                                   .anew = c->c.anew,
                                   .all_data = all_data,
                                   .since_s = UINT64_MAX,
                                   .known = on_known,
                                   .known_arg = c,
                                   .progress = c->stat.go_on,
                                   .progress_arg = c};
    bool blind = !catchup_is_stable(c, FROM) || !catchup_is_stable(c, TO);
    uint64_t torn = c->stat.links_torn;
    int err;

    for (struct view_node *n = c->view->by_name ? c->view->nodes : NULL; n; n = n->next) {
        n->worked = c->view->round; /* if it moves, it may have been another's */
    }
    c->c.untouched = c->c.untouched && !top; /* as is_like() */
    err = heal_folder(from, to, top, !(store_caps(c->c.to) & STORE_SYNCFS), &options, &c->stat);
    c->links_lost = c->links_lost || (!top && blind && c->stat.links_torn > torn);
    return err == -EINTR ? -ECANCELED : err;
}

static int compare_roots(struct catchup *c, bool all_data) {
    who_forget_all(c);
    return compare(c, catchup_root(c, FROM), catchup_root(c, TO), true, all_data);
}

int names_compare_all(struct catchup *c) {
    return compare_roots(c, true);
}

/* A folder whose contents the log does not vouch for. */
static int compare_folder(struct catchup *c, int from, int to, const char *name) {
    scope_fd int a = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    scope_fd int b = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return a < 0 || b < 0 ? -errno : compare(c, a, b, false, true);
}

int names_compare_folder(struct catchup *c, struct view_node *node, const struct spot *from,
                         const struct spot *to) {
    if (strcmp(from->name, to->name) != 0) {
        return -ENOENT; /* it moves right now */
    }
    who_forget_below(c, node);
    return compare_folder(c, from->fd, to->fd, from->name);
}

static int sync_new(struct catchup *c, int fd, const char *name) {
    scope_fd int file = -1;

    if (store_caps(c->c.to) & STORE_SYNCFS) {
        return 0;
    }
    file = openat(fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    return file >= 0 && fsync(file) < 0 ? -errno : 0;
}

/* Which object of the log a file of several names is; NULL: nobody knows. An object of another type had
 * its inode before; of a new folder the log may not tell the inode at all. */
static struct view_node *linked_node(const struct catchup *c, const struct stat *s) {
    struct view_node *node =
        !S_ISDIR(s->st_mode) && s->st_nlink > 1 ? who_of_ino(c, FROM, s->st_ino) : NULL;

    return node && node->type == IFTODT(s->st_mode) ? node : NULL;
}

/* The folder that the log knows at this name, where it only said last that the name may change. One
 * that was removed must not be found by its inode when a new folder elsewhere has that. */
static struct view_node *same_folder(const struct catchup *c, const struct view_name *n,
                                     const struct stat *s) {
    struct view_node *node = who_of_ino(c, FROM, s->st_ino);

    for (unsigned i = 0; node && node->type == DT_DIR && i < node->places; i++) {
        if (node->place[i] == n) {
            return node;
        }
    }
    return NULL;
}

/* Who is at the source's name, and where the target has it: another link of the file, or that folder. */
static struct view_node *find_same(struct catchup *c, const struct view_name *n,
                                   const struct stat *s, struct spot *ret_spot) {
    struct view_node *node = S_ISDIR(s->st_mode) ? same_folder(c, n, s) : linked_node(c, s);
    struct stat st;

    return node && who_find(c, TO, node, ret_spot, &st) == 0 ? node : NULL;
}

/* The node is elsewhere on the target: is that name still one of it on the source? Then it is a
 * further link, and not a move. */
static bool still_there(struct catchup *c, const struct view_name *at, const struct stat *s) {
    int fd = who_open(c, FROM, at->parent);
    struct stat st;

    return fd >= 0 && at_stat(fd, at->text, -1, &st) == 0 && st.st_ino == s->st_ino;
}

static int bring(struct catchup *c, struct view_node *node, const struct spot *old, int to,
                 const struct view_name *n, const struct stat *s) {
    int err = !S_ISDIR(s->st_mode) && still_there(c, old->at, s)
                  ? at_link(old->fd, old->name, to, n->text)
                  : at_rename(old->fd, old->name, to, n->text, 0);

    if (err < 0) {
        return err;
    }
    c->stat.objects_changed++;
    return view_place(c->view, node, n->parent, n->text);
}

/* Is all that is in the folder told, because it was made since? Not if frames were lost with a
 * crash. */
static bool all_told(const struct catchup *c, const struct view_node *node) {
    return node && node->born && !c->c.compared;
}

/* All of it was copied: what was told so far is done. */
static void copied_whole(const struct catchup *c, struct view_node *node) {
    node->worked = c->view->round;
    node->ranges = 0;
    node->tail = UINT64_MAX;
    node->attr = true;
}

/* What was made like the source's name may be what another had there: -ENOENT, as if it had gone. */
static int check_unmoved(struct catchup *c, int from, const char *name, const struct stat *s) {
    struct stat now;
    int err = at_stat(from, name, -1, &now);

    return err < 0 ? err : catchup_is_same(c, FROM, s, &now) ? 0 : -ENOENT;
}

static int make_anew(struct catchup *c, int from, int to, struct view_name *n,
                     struct view_node *node, const struct stat *s) {
    struct stat st;
    int err = copy_new(from, n->text, to, n->text, &c->stat);

    if (err == 0 && S_ISDIR(s->st_mode) && !all_told(c, node)) {
        if (node) { /* else nothing can be known of what was made just now */
            who_forget_below(c, node);
        }
        err = compare_folder(c, from, to, n->text);
    } else if (err == 0 && S_ISREG(s->st_mode)) {
        err = sync_new(c, to, n->text);
    }
    err = err < 0 ? err : view_place(c->view, NULL, n->parent, n->text);
    err = err < 0 ? err : check_unmoved(c, from, n->text, s);
    if (err == 0 && node && at_stat(to, n->text, -1, &st) == 0) {
        copied_whole(c, node);
        err = is_like(c, node, n, st.st_ino);
    }
    c->stat.objects_changed += err == 0;
    return err;
}

/* Both are files with several names, and inodes prove nothing: the same one, as far as can be seen.
 * Its bytes must not be written to, as it may be another's. */
static bool same_links(int from, int to, const char *name, const struct stat *s,
                       const struct stat *t) {
    return s->st_nlink > 1 && s->st_nlink == t->st_nlink && S_ISREG(s->st_mode) &&
           s->st_size == t->st_size && !copy_differs(from, name, to, name);
}

/* Nothing proves which file of the target it is. */
static int equalize_unknown(struct catchup *c, int from, int to, struct view_name *n,
                            struct view_node *node, const struct stat *s, const struct stat *t) {
    struct view_node *theirs = t ? who_is_at(c, n, t->st_ino) : NULL, *same;
    bool blind = !catchup_is_stable(c, FROM) || !catchup_is_stable(c, TO);
    struct spot other;
    int err = 0;

    /* What the log knows as another object must stay that. A new folder may be there, with files in it
     * that are known. */
    if (t && IFTODT(t->st_mode) == IFTODT(s->st_mode) && (!theirs || theirs == node)) {
        if (S_ISDIR(s->st_mode)) {
            who_forget_below(c, node);
            err = compare_folder(c, from, to, n->text);
            err = err < 0 ? err : check_unmoved(c, from, n->text, s);
            return err == 0 && node ? is_like(c, node, n, t->st_ino) : err;
        }
        if ((s->st_nlink == 1 && t->st_nlink == 1) ||
            (blind && same_links(from, to, n->text, s, t))) {
            err = copy_equalize(from, n->text, to, n->text, true, &c->stat);
            err = err < 0 ? err : check_unmoved(c, from, n->text, s);
            if (err == 0 && node) {
                copied_whole(c, node);
                err = is_like(c, node, n, t->st_ino);
            }
            return err;
        }
    }
    if (t) {
        err = put_aside(c, to, n->text, t, theirs);
    }
    same = err == 0 ? find_same(c, n, s, &other) : NULL;
    if (same) {
        err = bring(c, same, &other, to, n, s);
        return err == -EINVAL ? make_anew(c, from, to, n, node, s)
                              : err; /* as in equalize_name() */
    }
    c->links_lost = c->links_lost || (blind && !S_ISDIR(s->st_mode) && s->st_nlink > 1);
    return err < 0 ? err : make_anew(c, from, to, n, node, s);
}

/* Where inodes prove nothing, links of a file that was copied are found by looking at all names. */
static int mend_links(struct catchup *c) {
    bool lost = c->links_lost;

    c->links_lost = false;
    return lost ? compare_roots(c, false) : 0;
}

static int equalize_name(struct catchup *c, int from, int to, struct view_name *n,
                         const struct stat *s, const struct stat *t) {
    unsigned slot = c->c.from_slot;
    bool stable = catchup_is_stable(c, FROM);
    struct view_node *node = n->node;
    struct spot old;
    struct stat st;
    int err;

    if (node && (node->type != IFTODT(s->st_mode) ||
                 (stable && !((node->peers >> slot & 1) && node->ino[slot] == s->st_ino)))) {
        node = NULL; /* the log spoke of another file */
    }
    if (!node) {
        node = stable ? linked_node(c, s) : NULL;
        return equalize_unknown(c, from, to, n, node, s, t);
    }
    err = who_find(c, TO, node, &old, &st);
    if (err < 0) {
        return who_is_gone(err) ? equalize_unknown(c, from, to, n, node, s, t) : err;
    }
    if (t && t->st_ino == st.st_ino && old.at == n) {
        return 0;
    }
    if (t && t->st_ino == st.st_ino && catchup_is_stable(c, TO) && !S_ISDIR(t->st_mode)) {
        return 0; /* another link of the same file */
    }
    if (t) {
        err = put_aside(c, to, n->text, t, who_is_at(c, n, t->st_ino));
    }
    err = err < 0 ? err : bring(c, node, &old, to, n, s);
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

bool names_may_have_moved(const struct catchup *c, const struct view_node *node, bool missed) {
    return c->c.live && (view_is_somewhere(node) || (!c->exact && !missed));
}

/* What a name is said to lie in may just have moved. What has no name any more needs nothing. */
static int not_found(struct catchup *c, struct view_name *n, int err) {
    const struct view_node *folder = view_find(c->view, n->parent);
    bool lost = err == -ENOENT || err == -ELOOP || err == -ENOTDIR;

    if (!lost || (!c->c.live && folder && view_is_somewhere(folder))) {
        return err;
    }
    if (folder && names_may_have_moved(c, folder, n->missed)) {
        n->again = n->missed = true;
        c->pending++;
    }
    return 0;
}

static int equalize_spot(struct catchup *c, struct view_name *n, int from, int to);

int names_reconcile(struct catchup *c, struct view_name *n) {
    int from, to;

    if (n->done == c->view->round) {
        return 0;
    }
    n->done = c->view->round;
    n->again = false;
    from = who_open(c, FROM, n->parent);
    if (from < 0) {
        return not_found(c, n, from);
    }
    to = target_folder(c, n->parent);
    return to < 0 ? not_found(c, n, to) : equalize_spot(c, n, from, to);
}

/* What a name is on the source, it becomes on the target. */
static int equalize_spot(struct catchup *c, struct view_name *n, int from, int to) {
    struct stat s, t;
    bool have_s, have_t;
    int err;

    (void)snprintf(c->where, sizeof(c->where), "%s", n->text);
    c->stat.objects_compared++;
    err = at_stat(from, n->text, -1, &s);
    have_s = err == 0;
    err = err == 0 || err == -ENOENT ? at_stat(to, n->text, -1, &t) : err;
    have_t = err == 0;
    if (err < 0 && err != -ENOENT) {
        return err;
    }
    err = 0;
    if (have_s) {
        err = equalize_name(c, from, to, n, &s, have_t ? &t : NULL);
    } else if (have_t) {
        err = put_aside(c, to, n->text, &t, who_is_at(c, n, t.st_ino));
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

int names_equal_times(struct catchup *c, const struct spot *from, const struct spot *to) {
    struct stat a, b;

    int err = at_stat(from->fd, from->name, -1, &a);

    err = err < 0 ? err : at_stat(to->fd, to->name, -1, &b);
    if (err < 0) {
        return err == -ENOENT ? 0 : err;
    }
    return copy_same_stat(&a, &b) ? 0
                                  : copy_attrs(from->fd, from->name, to->fd, to->name, &c->stat);
}

int names_equalize_attrs(struct catchup *c, struct view_name *n) {
    int from = who_open(c, FROM, n->parent), to = who_open(c, TO, n->parent), err;

    if (from < 0 || to < 0) {
        return 0; /* gone, and told */
    }
    err = n->times_only ? names_equal_times(c, &(struct spot){from, n->text, n},
                                            &(struct spot){to, n->text, n})
                        : copy_attrs(from, n->text, to, n->text, &c->stat);
    return err == -ENOENT ? 0 : err;
}

int catchup_names(struct catchup *c, struct why *why) {
    int err;

    c->pending = 0;
    err = who_look_at_target(c);
    for (struct view_name *n = c->view->marked; n && err == 0; n = n->marked_next) {
        who_trim_folders(c, OPEN_FOLDERS);
        err = catchup_stopped(c) ? -ECANCELED : names_reconcile(c, n);
    }
    err = err < 0 ? err : mend_links(c);
    for (struct view_name *n = c->view->marked; n && err == 0; n = n->marked_next) {
        who_trim_folders(c, OPEN_FOLDERS);
        err = catchup_stopped(c) ? -ECANCELED : names_equalize_attrs(c, n);
    }
    err = err == -EINTR ? -ECANCELED : err;
    return err < 0 ? why_set(why, err, "catching up %s stopped at \"%s\": %s", store_path(c->c.to),
                             c->where, error_words(err))
                   : 0;
}

int catchup_names_exact(struct catchup *c, struct why *why) {
    int err;

    c->exact = true;
    catchup_alone(c);
    err = catchup_names(c, why);
    for (struct view_node *n = c->view->nodes; n && err == 0; n = n->next) {
        struct spot spot;
        struct stat st;

        if (catchup_stopped(c)) {
            break; /* the next step says so */
        }
        err = view_is_somewhere(n) ? who_find(c, FROM, n, &spot, &st) : 0;
        if (who_is_gone(err)) {
            view_is_nowhere(n); /* a crash took what the log says was done to it */
            err = 0;
        } else if (err < 0) {
            err =
                why_set(why, err, "%s cannot be read: %s", store_path(c->c.from), error_words(err));
        }
        who_trim_folders(c, OPEN_FOLDERS);
    }
    c->exact = false;
    return err;
}
