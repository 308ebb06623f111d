#include "daemon/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "daemon/owner.h"
#include "daemon/witness.h"
#include "heal/tree.h"
#include "store/store.h"

struct all {
    const struct config *c;
    struct store *store[STORES_MAX]; /* NULL: not here */
    unsigned keep;
};

static int open_all(struct all *a, const char *keep, struct why *why) {
    a->keep = STORES_MAX;
    for (unsigned i = 0; i < a->c->count; i++) {
        const struct config_store *s = &a->c->store[i];
        int err = s->away ? why_set(why, -HFE_MISSING, "%s does not answer (a mount that hangs?)",
                                    s->path)
                          : store_open(s->path, why, &a->store[i]);

        if (config_is_store(s->label, s->path, keep)) {
            a->keep = i;
        }
        if (err < 0 && (err != -HFE_NO_STORE || a->keep == i)) {
            return err;
        }
        if (err == 0 && !id_equal(&store_super(a->store[i])->volume_id, &a->c->id)) {
            return why_set(why, -HFE_FOREIGN, "%s is a store of another volume", s->path);
        }
    }
    return a->keep < STORES_MAX
               ? owner_wait(a->store, a->c->count, why)
               : why_set(why, -HFE_USAGE, "volume \"%s\" has no store \"%s\"; its file lists them",
                         a->c->name, keep);
}

/* One whose catch-up was cut off has something of both histories. */
static bool is_mixture(const struct store *st) {
    struct super s = *store_super(st);
    const struct super_member *m = super_member_of(&s, &s.store_id);

    return store_lost_side(st) || (m && m->state == MEMBER_SYNCING);
}

/* Where a store's own changes go. */
static int make_aside(struct store *st, struct why *why) {
    char path[64];
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s/resolve-%llu", STORE_FOLDER, STORE_LOST_FOLDER,
                   (unsigned long long)clock_real_s());
    if (mkdirat(store_root_fd(st), path, 0700) < 0 && errno != EEXIST) {
        return why_set(why, -errno, "%s: cannot make %s: %s", store_path(st), path,
                       error_words(-errno));
    }
    fd = openat(store_root_fd(st), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? why_set(why, -errno, "%s: cannot open %s", store_path(st), path) : fd;
}

static bool apart(const struct super *a, const struct super *b) {
    return !super_knows(a, &b->generation) && !super_knows(b, &a->generation);
}

/* One record for all: the kept one's, in a new generation that knows both. */
static int join_records(struct all *a, struct why *why) {
    struct super record = *store_super(a->store[a->keep]);
    struct witness *w = NULL;
    int err;

    for (unsigned i = 0; i < a->c->count; i++) {
        const struct super *s = a->store[i] ? store_super(a->store[i]) : NULL;
        struct super_member *m = s ? super_member_of(&record, &s->store_id) : NULL;

        if (!m) {
            continue;
        }
        m->state = MEMBER_ONLINE;
        m->position = m->left_mount = 0;
        m->since_s = clock_real_s();
        record.mount_count =
            s->mount_count > record.mount_count ? s->mount_count : record.mount_count;
        record.end_position =
            s->end_position > record.end_position ? s->end_position : record.end_position;
        if (i != a->keep && apart(&record, s)) {
            record.history[SUPER_HISTORY - 1] = record.history[0];
            memmove(&record.history[1], &record.history[0],
                    sizeof(record.history) - sizeof(struct id));
            record.history[0] = s->generation;
        }
    }
    super_new_generation(&record);
    record.mount_count++;
    record.clean = true;
    record.end_position += JOURNAL_CAP_BYTES; /* no log reaches here: all begin anew */
    record.witness_id = id_new();
    err = witness_open(&record.volume_id, why, &w);
    for (unsigned i = 0; i < a->c->count && err == 0; i++) {
        err = a->store[i] ? store_write_super(a->store[i], &record) : 0;
    }
    err = err < 0 ? err : witness_write(w, &record);
    witness_close(w);
    return err < 0 ? why_set(why, err, "the new record cannot be written: %s", error_words(err))
                   : 0;
}

static int equalize(struct all *a, struct copy_stat *sum, struct why *why) {
    for (unsigned i = 0; i < a->c->count; i++) {
        scope_fd int aside = -1;
        struct heal_options options = {.all_data = true};
        struct copy_stat stat;
        int err;

        if (i == a->keep || !a->store[i]) {
            continue;
        }
        aside = make_aside(a->store[i], why);
        options.aside = &aside;
        options.anew = store_links_unknown(a->store[i]);
        err = aside < 0 ? aside : heal_tree(a->store[a->keep], a->store[i], &options, &stat, why);
        err = err < 0 ? err : store_side_whole(a->store[i], why);
        if (err < 0) {
            return err;
        }
        sum->objects_compared += stat.objects_compared;
        sum->objects_changed += stat.objects_changed;
        sum->bytes_copied += stat.bytes_copied;
    }
    return 0;
}

int volume_resolve(const struct config *c, const char *keep, struct copy_stat *ret_stat,
                   struct why *why) {
    struct all a = {.c = c};
    bool split = false;
    int err = open_all(&a, keep, why);

    if (err == 0 && is_mixture(a.store[a.keep])) {
        err = why_set(why, -HFE_STALE,
                      "store \"%s\" was being caught up when that was cut off, and is not whole: "
                      "keep another",
                      keep);
    }
    for (unsigned i = 0; i < c->count && err == 0; i++) {
        for (unsigned k = 0; k < i; k++) {
            split = split || (a.store[i] && a.store[k] &&
                              apart(store_super(a.store[i]), store_super(a.store[k])));
        }
    }
    if (err == 0 && !split) {
        err = why_set(why, -HFE_UNSAFE,
                      "the stores of \"%s\" that are here have one history: nothing is to be "
                      "resolved. Mount it: "
                      "holdfast mount %s",
                      c->name, c->name);
    }
    err = err < 0 ? err : equalize(&a, ret_stat, why);
    err = err < 0 ? err : join_records(&a, why);
    for (unsigned i = 0; i < c->count; i++) {
        store_close(a.store[i]);
    }
    return err;
}
