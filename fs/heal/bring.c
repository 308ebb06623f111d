/* Bringing a store back: who it is, its catch-up in rounds, and following behind. */
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "heal/catchup.h"
#include "heal/keeper_int.h"
#include "heal/tree.h"
#include "store/segment.h"

enum {
    ROUNDS_MAX = 12,  /* with names and bytes, before all names are held for the rest */
    FEW_NAMES = 64,   /* so few are done while all names are held */
    FOLLOW_MS = 2000, /* a passive store takes a step after this long, if anything changed */
    FOLLOW_NODES_MAX = 500000, /* objects that are remembered from one step to the next */
    STALE_TRIES = 3,           /* so often the journal alone did not do: everything is compared */
};

/* Is there no use in going on? */
static bool is_over(struct keeper *k) {
    return keeper_stopping(k) || mirror_sync_spoiled(k->m, k->i) ||
           !mirror_is_online(k->m, k->from);
}

/* An admin wants it to stand still for a while. */
static void wait_while_paused(struct keeper *k) {
    enum { LOOK_MS = 100 };

    while (atomic_load(&k->paused) && !is_over(k)) {
        k->progress.paused = true;
        k->progress.bytes_per_s = 0;
        mirror_set_progress(k->m, k->i, &k->progress);
        (void)poll(NULL, 0, LOOK_MS);
    }
    k->progress.paused = false;
}

static bool on_step(void *arg, const struct copy_stat *stat) {
    struct keeper *k = arg;
    int64_t ms = clock_ms() - k->started_ms;
    int rest;

    k->progress.objects_compared = stat->objects_compared;
    k->progress.bytes_copied = stat->bytes_copied;
    k->progress.bytes_compared = stat->bytes_compared;
    if (k->total > 0) {
        uint64_t done = stat->bytes_copied + stat->bytes_compared;

        k->progress.bytes_left = k->total > done ? k->total - done : 0;
    }
    k->progress.bytes_per_s =
        ms > 0 ? (stat->bytes_copied + stat->bytes_compared) * 1000 / (uint64_t)ms : 0;
    mirror_set_progress(k->m, k->i, &k->progress);
    if (!k->alone) { /* else all wait for us */
        wait_while_paused(k);
        pacer_rest(&k->pacer, k->m);
        pacer_count(&k->pacer, stat->bytes_compared + stat->bytes_copied);
        while ((rest = pacer_due_ms(&k->pacer)) > 0 && !is_over(k)) {
            (void)poll(NULL, 0, rest);
        }
    }
    return is_over(k);
}

static bool on_progress(void *arg, const struct copy_stat *stat) {
    return !on_step(arg, stat);
}

static int on_hold(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t off,
                   uint64_t len, bool names, uint64_t *ret_number) {
    struct keeper *k = arg;

    return mirror_range_hold(k->m, k->i, k->from, path, depth, ino, off, len, names, ret_number);
}

static void on_release(void *arg) {
    struct keeper *k = arg;

    mirror_range_release(k->m, k->i);
}

static int on_peer(void *arg, const char *const *path, unsigned depth, uint64_t ino,
                   uint64_t *ret_ino, uint64_t *ret_number) {
    struct keeper *k = arg;

    return mirror_peer_ino(k->m, k->i, k->from, path, depth, ino, ret_ino, ret_number);
}

static void on_found(void *arg, uint64_t number, uint64_t ino) {
    struct keeper *k = arg;

    mirror_tell_peer(k->m, k->i, number, ino);
}

static void phase(struct keeper *k, const char *words, uint64_t left) {
    k->progress.phase = words;
    k->progress.bytes_left = left;
    mirror_set_progress(k->m, k->i, &k->progress);
}

/* Frames of the source's log from *position on, as far as they are there. */
static int read_log(struct keeper *k, struct catchup *c, struct store *from, uint64_t *position,
                    uint64_t to, struct why *why) {
    int err;

    if (mirror_log_flush(k->m) < to) {
        return why_set(why, -EIO, "the change journal could not be carried to the stores");
    }
    err = *position < to ? store_log_read(from, *position, to, catchup_add, c) : 0;
    if (err < 0) {
        return why_set(why, err, "the change journal of %s cannot be read: %s", store_path(from),
                       error_words(err));
    }
    *position = to;
    return 0;
}

/* A round: what was told up to a cut is made equal. */
static int one_round(struct keeper *k, struct catchup *c, struct store *from, uint64_t *position,
                     struct why *why) {
    struct mirror_followed point = mirror_now(k->m);
    uint64_t to;
    int err = mirror_cut(k->m, &to);

    if (err < 0) {
        return why_set(why, err, "the volume is too busy for a cut");
    }
    err = read_log(k, c, from, position, to, why);
    phase(k, "names", catchup_bytes_left(c));
    err = err < 0 ? err : catchup_names(c, why);
    phase(k, "bytes", catchup_bytes_left(c));
    err = err < 0 ? err : catchup_data(c, why);
    if (err == 0 && catchup_pending(c) == 0) {
        mirror_followed(k->m, k->i, &point);
    }
    if (err == 0) {
        catchup_next(c);
    }
    return err;
}

/* The last names, with all names to ourselves; from then on the store receives changes. -EAGAIN: after one
 * more round. */
static int last_names(struct keeper *k, struct catchup *c, struct store *from, uint64_t *position,
                      struct why *why) {
    uint64_t to;
    int err = mirror_names_alone(k->m, k->i, &to);

    if (err < 0) {
        return why_set(why, err, "the volume is too busy for a cut");
    }
    err = read_log(k, c, from, position, to, why);
    k->alone = true;
    err = err < 0 ? err : catchup_doubts(c) ? -EAGAIN : catchup_names_exact(c, why);
    k->alone = false;
    if (err == 0 && catchup_pending(c) > 0) {
        err = why_set(why, -HFE_STALE, "%u names could not be found", catchup_pending(c));
    }
    mirror_names_done(k->m, k->i, err == 0);
    return err;
}

static int all_names(struct keeper *k, struct catchup *c, struct store *from, uint64_t *position,
                     struct why *why) {
    int err = last_names(k, c, from, position, why);

    for (int tries = 0; err == -EAGAIN && tries < ROUNDS_MAX; tries++) {
        err = one_round(k, c, from, position, why);
        err = err < 0 ? err : last_names(k, c, from, position, why);
    }
    return err == -EAGAIN
               ? why_set(why, -HFE_STALE, "folders were renamed faster than they could be compared")
               : err;
}

/* Writes that were under way when the store began to receive may have passed it by: their marks are
 * in the log up to this cut. */
static int settle(struct keeper *k, struct catchup *c, struct store *from, uint64_t *position,
                  struct why *why) {
    uint64_t to;
    int err;

    catchup_receives(c, false);
    err = mirror_settled(k->m, k->i, &to);
    err = err < 0 ? why_set(why, err, "the volume is too busy for a cut")
                  : read_log(k, c, from, position, to, why);
    catchup_receives(c, true);
    return err;
}

/* The bytes that are still marked. Files may be renamed meanwhile: the log tells where they are. */
static int last_bytes(struct keeper *k, struct catchup *c, struct store *from, uint64_t *position,
                      struct why *why) {
    enum { TRIES = 100 };
    int err = settle(k, c, from, position, why);

    for (int tries = 0; tries < TRIES && err == 0; tries++) {
        phase(k, "bytes", catchup_bytes_left(c));
        err = catchup_data(c, why);
        if (err < 0 || catchup_pending(c) == 0) {
            return err;
        }
        catchup_next(c);
        err = read_log(k, c, from, position, mirror_log_flush(k->m), why);
    }
    return err < 0
               ? err
               : why_set(why, -HFE_STALE, "%u files were renamed faster than they could be found",
                         catchup_pending(c));
}

/* What the log does not tell: everything, or after a crash what was lost with its last second. */
static int compare_trees(struct keeper *k, struct store *from, struct store *to, bool all,
                         bool anew, uint64_t since_s, struct copy_stat *stat, struct why *why) {
    struct heal_options options = {.live = true,
                                   .anew = anew,
                                   .all_data = all,
                                   .since_s = since_s,
                                   .progress = on_progress,
                                   .progress_arg = k};
    int err;

    phase(k, all ? "comparing everything" : "comparing names, sizes and times", 0);
    k->total = all ? mirror_used_bytes(k->m) : 0;
    err = heal_tree(from, to, &options, stat, why);
    k->total = 0;
    return err;
}

/* One step of following: what there is up to the last cut is stable; then the next round, when there is
 * something to do. What was renamed too fast to be found is dealt with in a later round: until then the
 * store's position stays where nothing was left over. */
static int follow(struct keeper *k, struct catchup *c, struct store *from, struct store *to,
                  uint64_t *position, struct why *why) {
    int64_t until = clock_ms() + FOLLOW_MS;
    int err = 0;

    if (catchup_pending(c) == 0 && catchup_view(c)->marked_count == 0) {
        err = catchup_settle(c, why);
        if (err == 0 && k->side_lost) {
            err = store_side_whole(to, why);
            k->side_lost = err < 0;
        }
        k->settled = err == 0 ? *position : k->settled;
    }
    err = err < 0 ? err : mirror_follows(k->m, k->i, k->settled);
    if (err < 0) {
        return why->text[0] ? err : why_set(why, err, "it cannot follow: %s", error_words(err));
    }
    if (catchup_view(c)->node_count > FOLLOW_NODES_MAX) {
        return why_set(why, -HFE_STALE, "too much has changed to remember: it begins anew");
    }
    k->stale = 0;
    phase(k, "following", 0);
    while (clock_ms() < until || mirror_position(k->m) <= *position) {
        if (on_step(k, catchup_stat(c))) {
            return why_set(why, -ECANCELED, "stopped, or the store it follows left");
        }
        if (!mirror_is_passive(k->m, k->i)) {
            return 0;
        }
        (void)poll(NULL, 0, STEP_MS);
    }
    return one_round(k, c, from, position, why);
}

struct reach {
    bool broken;
    uint64_t checkpoint_s, since_s;
};

static int find_break(void *arg, const struct journal_frame *f) {
    struct reach *r = arg;

    if (f->kind == JOURNAL_CHECKPOINT) {
        r->checkpoint_s = f->time_s;
    } else if (f->kind == JOURNAL_BREAK && !r->broken) {
        r->broken = true;
        r->since_s = r->checkpoint_s;
    }
    return 0;
}

static int catch_up(struct keeper *k, struct store *from, struct store *to, uint64_t position,
                    const struct super_member *before, struct why *why) {
    enum { CLOCK_SLACK_S = 60 };
    struct mirror_member_info info, source;
    struct super super = mirror_super(k->m);
    struct copy_stat walked = {0};
    struct reach reach = {.since_s = 0};
    struct catchup_config cc = {.from = from,
                                .to = to,
                                .untouched = before->state != MEMBER_SYNCING &&
                                             before->state != MEMBER_PASSIVE,
                                .anew = store_links_unknown(to),
                                .live = true,
                                .arg = k,
                                .hold = on_hold,
                                .release = on_release,
                                .peer = on_peer,
                                .found = on_found,
                                .stopped = on_step};
    struct catchup *c = NULL;
    uint64_t now;
    int err;

    mirror_member_info(k->m, k->i, &info);
    mirror_member_info(k->m, k->from, &source);
    cc.from_slot = source.slot;
    cc.to_slot = info.slot;
    err = mirror_cut(k->m, &now);
    if (err < 0) {
        return why_set(why, err, "the volume is too busy for a cut");
    }
    if (before->left_mount != super.mount_count && store_clear_open(to) < 0) {
        return why_set(why, -EIO, "%s/%s cannot be cleared", store_path(to),
                       STORE_FOLDER); /* of an older mount */
    }
    if (position != 0) {
        err = mirror_log_flush(k->m) < now
                  ? -EIO
                  : store_log_read(from, position, now, find_break, &reach);
        position = err < 0 ? 0 : position; /* the log does not reach back */
    }
    cc.compared = position == 0 || reach.broken;
    cc.untouched = cc.untouched && !cc.compared;
    err = catchup_new(&cc, &super.volume_id, &c);
    if (err < 0) {
        return why_set(why, err, "cannot begin: %s", error_words(err));
    }
    if (position == 0 || reach.broken) {
        uint64_t since = reach.since_s > CLOCK_SLACK_S ? reach.since_s - CLOCK_SLACK_S : 0;

        err = compare_trees(k, from, to, position == 0, cc.anew, since, &walked, why);
        if (position == 0) {
            position = now;
            catchup_view(c)->left = true; /* from here on blocks are told exactly */
            err = err < 0 ? err : catchup_parked(c);
        }
    }
    for (int round = 0; err == 0 && round < ROUNDS_MAX; round++) {
        uint64_t compared = catchup_stat(c)->objects_compared;

        err = one_round(k, c, from, &position, why);
        if (catchup_stat(c)->objects_compared - compared < FEW_NAMES) {
            break;
        }
    }
    k->settled = info.record.position;
    while (err == 0 && mirror_is_passive(k->m, k->i)) {
        err = follow(k, c, from, to, &position, why);
    }
    err = err < 0 ? err : all_names(k, c, from, &position, why);
    err = err < 0 ? err : last_bytes(k, c, from, &position, why);
    err = err < 0 ? err : catchup_links(c, why);
    k->torn = catchup_tore_links(c);
    phase(k, "syncing", 0);
    err = err < 0 ? err : catchup_finish(c, why);
    if (err == 0) {
        event_post(
            k->events, EVENT_INFO,
            "store \"%s\" is caught up: %llu objects compared, %llu changed, %llu bytes copied",
            info.label,
            (unsigned long long)(walked.objects_compared + catchup_stat(c)->objects_compared),
            (unsigned long long)(walked.objects_changed + catchup_stat(c)->objects_changed),
            (unsigned long long)(walked.bytes_copied + catchup_stat(c)->bytes_copied));
    }
    k->progress.objects_compared = walked.objects_compared + catchup_stat(c)->objects_compared;
    k->progress.bytes_copied = walked.bytes_copied + catchup_stat(c)->bytes_copied;
    if (err == -ENOSPC && catchup_holds_room(c)) {
        err = -HFE_STALE;
    }
    catchup_free(c);
    return err;
}

/* May what is in it be overwritten, and since when does it lack changes? */
static int judge(const struct mirror_member_info *info, const struct super *theirs,
                 const struct super *ours, uint64_t *ret_position, struct why *why) {
    const struct super_member *r = &info->record;

    *ret_position = 0;
    if (!super_knows(ours, &theirs->generation)) {
        return why_set(why, -HFE_UNSAFE,
                       "it was changed without the others (split brain). To keep what is served "
                       "now and put its own "
                       "changes aside: holdfast resolve %s --keep LABEL, with the label of a store "
                       "that is served",
                       ours->volume_name);
    }
    if (id_equal(&theirs->generation, &r->left_generation) &&
        theirs->mount_count == r->left_mount) {
        *ret_position = r->position;
    }
    return 0;
}

static int open_back(struct keeper *k, const struct mirror_member_info *info,
                     struct store **ret_store, uint64_t *ret_position, struct why *why) {
    struct super ours = mirror_super(k->m);
    struct store *store;
    int err = store_open_to_mend(info->path, why, &store);

    if (err < 0) {
        return err;
    }
    if (!id_equal(&store_super(store)->volume_id, &ours.volume_id) ||
        !id_equal(&store_super(store)->store_id, &info->id)) {
        err = why_set(why, -HFE_FOREIGN, "%s holds another store now", info->path);
    }
    err = err < 0 ? err : judge(info, store_super(store), &ours, ret_position, why);
    err = err < 0 ? err : store_check_alive(store, true);
    if (err < 0) {
        store_close(store);
        return err;
    }
    *ret_position = store_lost_side(store) || k->stale >= STALE_TRIES ? 0 : *ret_position;
    *ret_store = store;
    return 0;
}

/* All that a damaged side file kept is taken from the others. */
static int begin_side(struct keeper *k, const struct mirror_member_info *info, struct store *to,
                      struct why *why) {
    int err = store_begin_side(to);

    if (err <= 0) {
        return err == 0
                   ? 0
                   : why_set(why, err, "its side file is damaged, and cannot be begun anew: %s",
                             error_words(err));
    }
    event_post(k->events, EVENT_WARNING,
               "store \"%s\": its side file, which keeps what its filesystem cannot hold, was "
               "damaged and is begun anew: everything is compared with the other stores",
               info->label);
    return 0;
}

/* Did the journal not lead to equal trees? Errors of a device, or a full one, say nothing about that. */
static bool is_misled(int err) {
    static const int errors[] = {HFE_STALE, ENOENT, ENOTDIR, EISDIR, EEXIST, ENOTEMPTY, ELOOP};
    bool is = false;

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        is = is || err == -errors[i];
    }
    return is;
}

void bring_back(struct keeper *k, const struct mirror_member_info *info) {
    char text[sizeof(k->last_told)];
    struct why why = {""};
    struct store *to = NULL, *from;
    uint64_t position = 0;
    int err = open_back(k, info, &to, &position, &why);

    k->anew = k->torn = false;
    if (err < 0) {
        if (err != -HFE_NO_STORE && err != -ENOENT) {
            (void)snprintf(text, sizeof(text), "store \"%s\" cannot come back: %.900s", info->label,
                           why.text);
            keeper_tell_once(k, EVENT_WARNING, text);
        }
        return;
    }
    err = mirror_sync_begin(k->m, k->i, info->state, to, position);
    if (err == -HFE_IN_USE) {
        store_close(to);
        return;
    }
    k->wanted = false; /* it is not OFFLINE any more */
    k->progress = (struct mirror_progress){.started_s = clock_real_s(), .phase = "names"};
    k->started_ms = clock_ms();
    pacer_begin(&k->pacer);
    from = mirror_source(k->m, &k->from);
    err = err < 0 || !from ? -EIO : 0;
    k->side_lost = store_lost_side(to);
    err = err == 0 && k->side_lost ? begin_side(k, info, to, &why) : err;
    err = err < 0 ? err : catch_up(k, from, to, position, &info->record, &why);
    if (err == 0 && k->side_lost) {
        err = store_side_whole(to, &why);
    }
    if (from) {
        mirror_unuse(k->m, k->from);
    }
    err = err < 0 ? err : mirror_sync_done(k->m, k->i);
    k->stale = is_misled(err) && !mirror_sync_spoiled(k->m, k->i) ? k->stale + 1 : 0;
    k->anew = (is_misled(err) && k->stale <= STALE_TRIES) || err == -ESTALE ||
              (err == -ECANCELED && !keeper_stopping(k));
    k->progress.started_s = 0;
    k->progress.phase = NULL;
    mirror_set_progress(k->m, k->i, &k->progress);
    if (err < 0) {
        mirror_sync_failed(k->m, k->i,
                           mirror_sync_spoiled(k->m, k->i)
                               ? "it missed a change meanwhile; it begins anew"
                           : why.text[0] ? why.text
                                         : error_words(err),
                           k->torn);
        return;
    }
    k->online_ms = clock_ms();
    k->probed_ms = 0; /* at once: another one may be waiting to be replaced */
    k->proven = false;
    k->unequal = 0;
    k->wanted = false;
    k->last_told[0] = '\0';
}
