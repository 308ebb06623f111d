#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "heal/catchup_int.h"
#include "store/at.h"

/* Takes away what is in it. The folder stays: on a full disk it could not be made. */
static int clear_stage(int stage) {
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(stage, ".", &d);

    while (err == 0 && (errno = 0, e = readdir(d))) {
        bool ours = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;

        err = ours ? 0 : at_remove_tree(stage, e->d_name);
    }
    return err == 0 ? -errno : err;
}

/* Our folder on the target for what is in the way, without what one that was cut off left there. */
static int open_stage(const struct catchup *c) {
    scope_fd int ours =
        openat(catchup_root(c, TO), STORE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    scope_fd int stage = -1;
    int err;

    if (ours < 0 || (mkdirat(ours, STORE_STAGE_FOLDER, 0700) < 0 && errno != EEXIST)) {
        return -errno;
    }
    stage = openat(ours, STORE_STAGE_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    err = stage < 0 ? -errno : clear_stage(stage);
    return err < 0 ? err : steal_fd(&stage);
}

static bool go_on(void *arg, const struct copy_stat *stat) {
    (void)stat;
    return !catchup_stopped(arg);
}

int catchup_new(const struct catchup_config *config, const struct id *volume,
                struct catchup **ret_catchup) {
    struct catchup *c = calloc(1, sizeof(*c));
    int err;

    if (!c) {
        return -ENOMEM;
    }
    c->c = *config;
    c->stage = c->parked[FROM] = c->parked[TO] = c->snaps[FROM] = c->snaps[TO] = -1;
    c->stat = (struct copy_stat){.go_on = go_on, .arg = c};
    c->view = view_new(volume, (int)config->to_slot);
    if (c->view) {
        c->view->by_name = config->live && !catchup_is_stable(c, FROM);
    }
    c->buf = malloc(2 * (size_t)CHUNK);
    c->stage = c->view && c->buf ? open_stage(c) : -ENOMEM;
    err = c->stage < 0 ? c->stage : 0;
    for (int side = 0; side < 2 && err == 0; side++) {
        c->parked[side] = openat(catchup_root(c, side), STORE_FOLDER "/" STORE_OPEN_FOLDER,
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        err = c->parked[side] < 0 ? -errno : 0;
        c->snaps[side] = openat(catchup_root(c, side), STORE_FOLDER "/" STORE_SNAP_FOLDER,
                                O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        err = err < 0 ? err : c->snaps[side] < 0 ? -errno : 0;
    }
    if (err < 0) {
        catchup_free(c);
        return err;
    }
    *ret_catchup = c;
    return 0;
}

void catchup_free(struct catchup *c) {
    if (!c) {
        return;
    }
    who_free(c);
    cleanup_fd(&c->stage);
    cleanup_fd(&c->parked[FROM]);
    cleanup_fd(&c->parked[TO]);
    cleanup_fd(&c->snaps[FROM]);
    cleanup_fd(&c->snaps[TO]);
    view_free(c->view);
    free(c->buf);
    free(c);
}

struct view *catchup_view(struct catchup *c) {
    return c->view;
}

/* Does the frame tell of an object that was made since the log begins? It may be bound again, as the
 * kernel forgets it, or in the next epoch. */
static bool is_of_new(const struct catchup *c, const struct journal_frame *f) {
    const struct view_node *node = view_find(c->view, f->number);
    const struct view_name *at =
        f->kind == JOURNAL_BIND && !node ? view_name_at(c->view, f->parent, f->name) : NULL;

    if (f->kind != JOURNAL_BIND && f->kind != JOURNAL_PEER) {
        return false;
    }
    if (at && !at->node && at->ever) {
        return true; /* nobody knows what came to that name */
    }
    node = at ? at->node : node;
    return (f->kind == JOURNAL_BIND && f->time_s == 1) || (node && node->born);
}

int catchup_add(void *arg, const struct journal_frame *frame) {
    struct catchup *c = arg;
    unsigned slot = c->c.to_slot;
    struct journal_frame f = *frame;

    if (f.kind == JOURNAL_PEER && f.slot == slot && c->indexed) {
        return 0; /* since this one began to look, nobody but it told of the target (who_is()) */
    }
    /* The target's files are not what they were; or it may have lost with its power what was made, and
     * that inode may be any file by now. */
    if (c->c.compared || (c->c.live && is_of_new(c, &f))) {
        bool is_peer = f.kind == JOURNAL_PEER && f.slot == slot;
        int err = is_peer               ? who_disown(c, f.ino[0])
                  : f.peers >> slot & 1 ? who_disown(c, f.ino[slot])
                                        : 0;

        if (err < 0 || is_peer) {
            return err;
        }
        f.peers &= ~(1u << slot);
    }
    /* Whoever left and came back may have other files there; but of the target that comes back now, it is
     * what they were that is asked for, unless a catch-up began on it since. */
    if (f.kind == JOURNAL_LEAVE && (f.slot != c->c.to_slot || !c->c.live || !c->c.untouched)) {
        view_forget_inodes(c->view, f.slot);
    }
    return view_add(c->view, &f);
}

/* Its names are of files that are open, or were when the target left. */
static int add_parked(struct catchup *c, int side) {
    struct journal_frame f = {.kind = JOURNAL_NAME, .parent = JOURNAL_PARKED};
    scope_dir DIR *d = NULL;
    struct dirent *e;
    int err = io_open_dir(c->parked[side], ".", &d);

    while (err == 0 && (errno = 0, e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            (void)snprintf(f.name, sizeof(f.name), "%s", e->d_name); /* a name fits */
            err = catchup_add(c, &f);
        }
    }
    return err == 0 ? -errno : err;
}

int catchup_parked(struct catchup *c) {
    int err = add_parked(c, FROM);

    return err < 0 ? err : add_parked(c, TO);
}

int catchup_only(struct catchup *c, const struct journal_frame *frames, unsigned n) {
    int err = 0;

    c->only = true;
    for (struct view_name *name = c->view->marked; name; name = name->marked_next) {
        struct view_node *folder = view_find(c->view, name->parent);

        name->done = c->view->round;
        name->times_only = true;
        if (folder) {
            folder->attr = true;
        }
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

bool catchup_holds_room(const struct catchup *c) {
    return c->staged > 0;
}

unsigned catchup_pending(const struct catchup *c) {
    return c->pending;
}

bool catchup_doubts(const struct catchup *c) {
    for (const struct view_node *n = c->view->by_name ? c->view->nodes : NULL; n; n = n->next) {
        if (n->doubted && view_is_somewhere(n)) {
            return true;
        }
    }
    return false;
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

void catchup_next(struct catchup *c) {
    view_clear_marks(c->view);
}

int catchup_clear(struct catchup *c, struct why *why) {
    int err = clear_stage(c->stage);

    return err < 0 ? why_set(why, err, "%s/%s/%s cannot be cleared: %s", store_path(c->c.to),
                             STORE_FOLDER, STORE_STAGE_FOLDER, error_words(err))
                   : 0;
}

int catchup_finish(struct catchup *c, struct why *why) {
    int err = catchup_clear(c, why);

    if (err < 0) {
        return err;
    }
    err = store_sync(c->c.to);
    return err < 0
               ? why_set(why, err, "%s cannot be synced: %s", store_path(c->c.to), error_words(err))
               : 0;
}

int catchup_settle(struct catchup *c, struct why *why) {
    int err = catchup_finish(c, why);

    if (err == 0) {
        who_trim_folders(c, 0);
    }
    return err;
}
