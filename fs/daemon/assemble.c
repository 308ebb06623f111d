/* Which stores may serve. The states of what is found, and what is done with them:
 *
 *   found                                            done
 *   ------------------------------------------------------------------------------------------
 *   ONLINE in the newest record, same mount count    takes part [judge_member], after what a crash
 *                                                    left is repaired [recover_stores]
 *   ONLINE, but not here                             `degraded`: recorded as lost; else refused
 *   not ONLINE in the newest record, or of an older  left out, and caught up while the volume is in
 *     mount (a copy put back)                        use (heal/keeper.h)
 *   the witness knows a newer record                 refused: what is here is stale
 *   generations that do not know each other          refused: split brain
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/io.h"
#include "daemon/assemble_int.h"
#include "daemon/daemon.h"
#include "daemon/owner.h"
#include "mirror/mirror.h"

/* --- places --- */

/* Is `inner` the folder `outer`, or below it? By identity, not by name: bind mounts count. */
static bool is_inside(const char *inner, const char *outer) {
    scope_fd int fd = open(inner, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat target, st, above;

    if (fd < 0 || stat(outer, &target) < 0 || fstat(fd, &st) < 0) {
        return false;
    }
    for (;;) {
        int up;

        if (st.st_dev == target.st_dev && st.st_ino == target.st_ino) {
            return true;
        }
        up = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (up < 0 || fstat(up, &above) < 0) {
            if (up >= 0) {
                (void)close(up); /* opened for reading only */
            }
            return false;
        }
        (void)close(fd); /* opened for reading only */
        fd = up;
        if (above.st_dev == st.st_dev && above.st_ino == st.st_ino) {
            return false; /* the root */
        }
        st = above;
    }
}

/* The same by the paths alone, of one that is not to be touched. */
static bool is_named_inside(const char *inner, const char *outer) {
    size_t n = strlen(outer);

    return strncmp(inner, outer, n) == 0 && (inner[n] == '/' || inner[n] == '\0');
}

int assemble_check_places(const struct config *config, const char *mount_point, struct why *why) {
    for (unsigned i = 0; i < config->count; i++) {
        const char *path = config->store[i].path;
        bool away = config->store[i].away;

        if (!*path) {
            continue; /* another disk is mounted where it was */
        }
        for (unsigned k = 0; k < config->count; k++) {
            const char *other = config->store[k].path;

            if (k != i && *other &&
                (away || config->store[k].away ? is_named_inside : is_inside)(path, other)) {
                return why_set(why, -HFE_UNSAFE,
                               "the stores %s and %s are one folder, or one lies in the other: two "
                               "copies there "
                               "would be one. Give folders on different disks",
                               config->store[k].path, path);
            }
        }
        if (!mount_point) {
            continue;
        }
        if ((away ? is_named_inside : is_inside)(mount_point, path)) {
            return why_set(
                why, -HFE_UNSAFE,
                "the mount point %s lies in the store %s: the volume would contain itself. "
                "Mount it elsewhere",
                mount_point, path);
        }
        if ((away ? is_named_inside : is_inside)(path, mount_point)) {
            return why_set(
                why, -HFE_UNSAFE,
                "the store %s lies below the mount point %s: mounting would hide it. Mount "
                "the volume elsewhere, or move the store",
                path, mount_point);
        }
    }
    return 0;
}

/* --- who is there --- */

static int open_stores(struct gather *g, struct why *why) {
    struct store *found[STORES_MAX];

    for (unsigned i = 0; i < g->config->count; i++) {
        struct candidate *c = &g->c[g->count++];
        int err;

        memcpy(c->label, g->config->store[i].label, sizeof(c->label));
        c->path = g->config->store[i].path;
        err = g->config->store[i].away
                  ? why_set(&c->why, -HFE_MISSING, "%s does not answer (a mount that hangs?)",
                            c->path)
                  : store_open(c->path, &c->why, &c->store);
        if (err == -HFE_IN_USE || err == -HFE_FEATURE || err == -ENOMEM) {
            return why_set(why, err, "%s", c->why.text);
        }
        if (err < 0) {
            c->store = NULL;
            continue;
        }
        if (!id_is_zero(&g->config->id) &&
            !id_equal(&store_super(c->store)->volume_id, &g->config->id)) {
            return why_set(why, -HFE_FOREIGN,
                           "%s is a store of another volume (\"%s\"), not of \"%s\". Is another "
                           "disk mounted there? "
                           "`holdfast store probe %s` tells more",
                           c->path, store_super(c->store)->volume_name, g->config->name, c->path);
        }
    }
    for (unsigned i = 0; i < g->count; i++) {
        found[i] = g->c[i].store;
    }
    return owner_wait(found, g->count, why);
}

static bool says_online(const struct super *s) {
    unsigned slot = super_slot_of(s, &s->store_id);

    return slot < s->member_count && s->member[slot].state == MEMBER_ONLINE;
}

/* Is record a newer than b? Call only if one knows the other's generation. A store that was not
 * ONLINE has not got all records of its generation. */
static bool newer(const struct super *a, const struct super *b) {
    if (!id_equal(&a->generation, &b->generation)) {
        return super_knows(a, &b->generation);
    }
    if (a->mount_count != b->mount_count) {
        return a->mount_count > b->mount_count;
    }
    return a->kind == SUPER_STORE && b->kind == SUPER_STORE && says_online(a) && !says_online(b);
}

static int find_newest(struct gather *g, struct why *why) {
    g->newest = -1;
    for (unsigned i = 0; i < g->count; i++) {
        const struct super *s = g->c[i].store ? store_super(g->c[i].store) : NULL;

        if (!s) {
            continue;
        }
        if (g->newest < 0) {
            g->newest = (int)i;
            continue;
        }
        if (!id_equal(&s->volume_id, &store_super(g->c[g->newest].store)->volume_id)) {
            return why_set(why, -HFE_FOREIGN, "%s and %s are stores of different volumes",
                           g->c[g->newest].path, g->c[i].path);
        }
        if (!super_knows(s, &store_super(g->c[g->newest].store)->generation) &&
            !super_knows(store_super(g->c[g->newest].store), &s->generation)) {
            return why_set(
                why, -HFE_UNSAFE,
                "split brain: %s (\"%s\") and %s (\"%s\") were each changed without the other. "
                "Decide which one has what you want to keep: holdfast resolve %s --keep LABEL. "
                "What only the other one has is put aside, not lost",
                g->c[g->newest].path, g->c[g->newest].label, g->c[i].path, g->c[i].label,
                g->config->name);
        }
        if (newer(s, store_super(g->c[g->newest].store))) {
            g->newest = (int)i;
        }
    }
    if (g->newest < 0) {
        return why_set(why, -HFE_MISSING, "no store can be opened. %s", g->c[0].why.text);
    }
    g->record = *store_super(g->c[g->newest].store);
    return 0;
}

/* Is the newest record that is here at least as new as what the witness saw? */
static bool witness_agrees(const struct gather *g) {
    return super_knows(&g->record, &g->seen.generation) && !newer(&g->seen, &g->record);
}

static int ask_witness(struct gather *g, struct why *why) {
    unsigned missing = 0;
    int err = witness_open(&g->record.volume_id, why, &g->witness);

    if (err < 0) {
        return err;
    }
    g->witnessed = witness_read(g->witness, &g->seen) == 0 &&
                   id_equal(&g->seen.witness_id, &g->record.witness_id);
    if (g->witnessed) {
        if (!witness_agrees(g) && !g->options->force) {
            return why_set(why, -HFE_STALE,
                           "the stores that are here are out of date: the volume was changed "
                           "without them (%s). Bring "
                           "back the store that was there then, or accept the loss with --force",
                           g->c[g->newest].path);
        }
        return 0;
    }
    for (uint32_t i = 0; i < g->record.member_count; i++) {
        bool here = false;

        for (unsigned k = 0; k < g->count; k++) {
            here = here || (g->c[k].store && id_equal(&store_super(g->c[k].store)->store_id,
                                                      &g->record.member[i].id));
        }
        missing += g->record.member[i].state == MEMBER_ONLINE && !here;
    }
    if (missing > 0 && !g->options->force) {
        return why_set(why, -HFE_UNSAFE,
                       "%u of the volume's stores are missing, and this machine has no record that "
                       "tells whether they "
                       "hold newer changes. Bring them here, or accept that such changes are lost "
                       "with --force",
                       missing);
    }
    return 0;
}

/* --- what becomes of each --- */

static int refuse_missing(const struct gather *g, const struct candidate *c, struct why *why) {
    return why_set(
        why, -HFE_MISSING,
        "store \"%s\" is missing. %s. To go on without it (it is caught up when it is there "
        "again): holdfast mount %s -o degraded",
        c->label, c->why.text, g->config->name);
}

/* The members of the record, and the stores that are here: each member that has no store here gets
 * a candidate without one, also if the configuration does not name it. */
static int match_members(struct gather *g, struct why *why) {
    for (uint32_t k = 0; k < g->record.member_count; k++) {
        const struct super_member *m = &g->record.member[k];
        struct candidate *c = NULL;

        for (unsigned i = 0; i < g->count && !c; i++) {
            bool same = g->c[i].store ? id_equal(&store_super(g->c[i].store)->store_id, &m->id)
                                      : strcmp(g->c[i].label, m->label) == 0;

            c = same ? &g->c[i] : NULL;
        }
        if (m->state == MEMBER_REMOVED && (!c || !c->store)) {
            continue;
        }
        if (!c && g->count == STORES_MAX) {
            return why_set(why, -HFE_USAGE, "too many stores: at most %d", STORES_MAX);
        }
        if (!c) {
            c = &g->c[g->count++];
            memcpy(c->label, m->label, sizeof(c->label));
            c->path = "";
            (void)why_set(&c->why, -HFE_MISSING, "the volume has it, but it was not named here");
        }
        c->id = m->id;
    }
    return 0;
}

/* A mount that was cut off while it wrote its record: nothing was changed by it, for the witness is
 * written last. A store that still has the record before it is as good as the others. */
static bool cut_off_mount(const struct gather *g, const struct super *s) {
    return g->witnessed && id_equal(&s->generation, &g->record.generation) &&
           id_equal(&g->seen.generation, &g->record.generation) &&
           s->mount_count == g->seen.mount_count &&
           g->record.mount_count == g->seen.mount_count + 1;
}

/* A store that was added while the volume was not mounted: a member from now on, to be filled. */
static struct super_member *take_newcomer(struct gather *g, struct candidate *c) {
    const struct super *s = store_super(c->store);

    if (!super_is_newcomer(s) || !super_knows(&g->record, &s->generation)) {
        return NULL;
    }
    c->id = s->store_id;
    return super_enter(&g->record, &s->member[super_slot_of(s, &s->store_id)]);
}

static int judge_member(struct gather *g, struct candidate *c, struct why *why) {
    const struct super *s = store_super(c->store);
    struct super_member *m = super_member_of(&g->record, &s->store_id);

    m = m ? m : take_newcomer(g, c);
    if (!m) {
        return why_set(why, -HFE_FOREIGN,
                       "%s is not a store of volume \"%s\" any more; take it out of %s/%s.conf",
                       c->path, g->config->name, config_dir(), g->config->name);
    }
    if (m->state == MEMBER_ONLINE && ((s->mount_count == g->record.mount_count &&
                                       id_equal(&s->generation, &g->record.generation)) ||
                                      cut_off_mount(g, s))) {
        c->state = MEMBER_ONLINE;
        return 0;
    }
    if (m->state == MEMBER_ONLINE) { /* a copy put back from an older time: caught up from there */
        m->position = s->clean ? s->end_position : 0;
        m->left_generation = s->generation;
        m->left_mount = s->mount_count;
    }
    c->state = m->state == MEMBER_OFFLINE ? MEMBER_OFFLINE : MEMBER_STALE;
    event_post(
        g->events, EVENT_WARNING, "store \"%s\" (%s) missed changes: it %s", c->label, c->path,
        c->state == MEMBER_OFFLINE ? "was taken out by hand, and stays out" : "will be caught up");
    return 0;
}

/* Nothing is lost without it: it follows behind, was never filled, or another one takes its place. */
static bool may_be_missing(const struct gather *g, const struct super_member *m) {
    unsigned slot = super_slot_of(&g->record, &m->id);
    bool replaced = false;

    for (uint32_t k = 0; k < g->record.member_count; k++) {
        replaced = replaced || g->record.member[k].replaces == slot + 1;
    }
    return m->passive || (replaced && m->state != MEMBER_ONLINE) ||
           (m->state == MEMBER_STALE && m->left_mount == 0 && m->position == 0);
}

/* Stores that were removed, and are still named (the daemon was killed before it could note that), or
 * that are named, and neither here nor in the record. */
static void drop_removed(struct gather *g) {
    for (unsigned i = g->count; i-- > 0;) {
        struct candidate *c = &g->c[i];
        const struct super_member *m =
            c->store ? super_member_of(&g->record, &store_super(c->store)->store_id) : NULL;

        if (c->store ? !m || m->state != MEMBER_REMOVED : !id_is_zero(&c->id)) {
            continue;
        }
        event_post(g->events, EVENT_WARNING,
                   "%s is not a store of volume \"%s\" (any more): it is left out", c->path,
                   g->config->name);
        store_close(c->store);
        memmove(c, c + 1, (g->count - i - 1) * sizeof(*c));
        g->count--;
        g->newest -= g->newest > (int)i;
    }
}

static int judge(struct gather *g, struct why *why) {
    unsigned online = 0;

    for (unsigned i = 0; i < g->count; i++) {
        struct candidate *c = &g->c[i];
        int err = 0;

        for (unsigned k = 0; c->store && k < i; k++) {
            if (g->c[k].store &&
                id_equal(&store_super(g->c[k].store)->store_id, &store_super(c->store)->store_id)) {
                return why_set(why, -HFE_UNSAFE,
                               "%s and %s are the same store, or copies of it: take one out",
                               g->c[k].path, c->path);
            }
        }
        if (c->store) {
            err = judge_member(g, c, why);
        } else if (g->options->degraded) {
            c->state = MEMBER_FAULTED;
        } else {
            const struct super_member *m = super_member_of(&g->record, &c->id);

            c->state =
                MEMBER_FAULTED; /* what was lost before needs no permission again, but `degraded` */
            err = m && !may_be_missing(g, m) ? refuse_missing(g, c, why) : 0;
        }
        if (err < 0) {
            return err;
        }
        online += c->state == MEMBER_ONLINE;
    }
    if (online == 0) {
        return why_set(why, -HFE_STALE, "no store of volume \"%s\" is up to date", g->config->name);
    }
    return 0;
}

/* One that could never be fulfilled is a mistake; one that is not fulfilled now is what it is for. */
static int check_min_stores(const struct gather *g, struct why *why) {
    return g->options->min_stores <= g->count
               ? 0
               : why_set(
                     why, -HFE_USAGE,
                     "min-stores=%u, and volume \"%s\" has %u stores: no change could ever be made",
                     g->options->min_stores, g->config->name, g->count);
}

/* --- the new record --- */

static void note_states(struct gather *g) {
    bool lost = false;

    for (unsigned i = 0; i < g->count; i++) {
        const struct candidate *c = &g->c[i];
        struct super_member *m = super_member_of(&g->record, &c->id);

        if (!m || m->state == c->state) {
            continue;
        }
        if (m->state == MEMBER_ONLINE) {
            lost = true;
            if (m->left_mount == 0) { /* not here: since the last checkpoint */
                m->position = g->checkpointed ? g->stable : 0;
                m->left_generation = g->record.generation;
                m->left_mount = g->record.mount_count;
            }
        }
        if (m->state == MEMBER_SYNCING || m->state == MEMBER_PASSIVE) {
            continue; /* the record keeps it: what is in it is a mixture */
        }
        m->state = c->state;
        m->since_s = clock_real_s();
    }
    if (lost) {
        super_new_generation(&g->record);
    }
}

/* A position that the log has not reached (it lost its end) will be given out again: then nobody
 * knows. */
static void check_positions(struct gather *g) {
    for (uint32_t k = 0; k < g->record.member_count; k++) {
        if (g->record.member[k].position > g->position) {
            g->record.member[k].position = 0;
        }
    }
}

static int record_mount(struct gather *g, struct why *why) {
    note_states(g);
    check_positions(g);
    g->record.mount_count++;
    g->record.clean = false;
    g->record.boot_id = id_of_boot();
    g->record.owner.machine_id = id_of_machine();
    g->record.owner.boot_id = g->record.boot_id;
    g->record.owner.nonce = (uint64_t)getpid();
    g->record.mounted_s = clock_real_s();
    if (!g->witnessed || g->options->force) { /* an older one must not count any more */
        g->record.witness_id = id_new();
    }
    for (unsigned i = 0; i < g->count; i++) {
        int err = g->c[i].state == MEMBER_ONLINE ? store_write_super(g->c[i].store, &g->record) : 0;

        if (err < 0) {
            return why_set(
                why, err,
                "store \"%s\": its superblock cannot be written: %s. To go on without it, unmount "
                "its disk and use -o degraded",
                g->c[i].label, error_words(err));
        }
    }
    if (witness_write(g->witness, &g->record) < 0) {
        return why_set(why, -EIO, "the witness record in %s cannot be written; make room there",
                       state_dir());
    }
    return 0;
}

static unsigned dirfds_for(unsigned stores) {
    unsigned long n = io_raise_file_limit() / DIRFDS_SHARE / stores;

    return n < DIRFDS_MIN ? DIRFDS_MIN : n > DIRFDS_MAX ? DIRFDS_MAX : (unsigned)n;
}

static bool had_number(void *arg, struct obj *obj, uint64_t number) {
    return mirror_had_number(arg, obj, number);
}

/* Snapshots, on top of the mirror. */
static int add_snapshots(struct gather *g, struct assembly *a, struct why *why) {
    struct mirror *m = mirror_of(a->mirror);
    struct snap_config c = {.next = a->mirror,
                            .objs = mirror_objects(m),
                            .volume = g->record.volume_id,
                            .events = g->events,
                            .reserve_bytes = g->options->snap_reserve,
                            .strict = g->options->snap_strict,
                            .cut_off = g->crashed,
                            .had_number = had_number,
                            .arg = m};
    int err;

    c.folder = mirror_snapshots(m);
    err = snap_new(&c, why, &a->top);
    if (err == 0) {
        a->snap = snap_of(a->top);
    }
    return err;
}

static int build(struct gather *g, struct assembly *a, struct why *why) {
    char ring[PATH_BYTES];
    struct mirror_config mc = {.count = g->count,
                               .policy = g->options->policy,
                               .super = g->record,
                               .stable = g->stable,
                               .position = g->position,
                               .store_timeout_ms = g->options->store_timeout_ms,
                               .events = g->events,
                               .write_witness = witness_write,
                               .witness_arg = g->witness,
                               .dirfds_max = dirfds_for(g->count)};
    struct journal_config jc = {.ring_path = ring,
                                .volume = g->record.volume_id,
                                .mount_count = g->record.mount_count,
                                .position = g->position};
    int err;

    daemon_ring_path(g->config->name, ring);
    for (unsigned i = 0; i < g->count; i++) {
        struct candidate *c = &g->c[i];
        const struct super_member *m = super_member_of(&g->record, &c->id);
        struct journal_instance *instance = &jc.store[jc.stores];

        if (c->state != MEMBER_ONLINE) { /* let go: its disk can be unmounted */
            store_close(c->store);
            c->store = NULL;
        } else {
            instance->store = c->id;
            store_instance(c->store, &instance->dev, &instance->ino, &instance->mount);
            jc.stores++;
        }
        mc.member[i] = (struct mirror_member_config){.store = c->store,
                                                     .label = c->label,
                                                     .path = c->path,
                                                     .state = c->state,
                                                     .since_s = m ? m->since_s : 0,
                                                     .reason = c->why.text};
        if (m) {
            mc.member[i].id = m->id;
        }
    }
    err = journal_open(&jc, why, &mc.journal);
    if (err < 0) {
        return err;
    }
    if (g->crashed) {
        (void)journal_append(
            mc.journal, NULL,
            &(struct journal_frame){.kind = JOURNAL_BREAK, .time_s = clock_real_s()});
    }
    err = mirror_new(&mc, why, &a->mirror);
    for (unsigned i = 0; i < g->count; i++) {
        g->c[i].store = NULL; /* the mirror's now, or closed by it */
    }
    if (err == 0) {
        a->top = a->mirror;
        err = add_snapshots(g, a, why);
        mirror_set_min_stores(mirror_of(a->mirror), g->options->min_stores);
    }
    return err;
}

int assemble(const struct config *config, const struct mount_options *options,
             struct events *events, struct assembly *ret_assembly, struct why *why) {
    struct gather *g = calloc(1, sizeof(*g));
    struct assembly a = {0};
    int err;

    if (!g) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    g->config = config;
    g->options = options;
    g->events = events;
    err = open_stores(g, why);
    err = err < 0 ? err : find_newest(g, why);
    err = err < 0 ? err : ask_witness(g, why);
    err = err < 0 ? err : match_members(g, why);
    if (err == 0) {
        drop_removed(g);
    }
    err = err < 0 ? err : judge(g, why);
    err = err < 0 ? err : check_min_stores(g, why);
    err = err < 0 ? err : recover_stores(g, why);
    err = err < 0 ? err : record_mount(g, why);
    err = err < 0 ? err : build(g, &a, why);
    for (unsigned i = 0; i < g->count; i++) {
        store_close(g->c[i].store);
    }
    if (err < 0) {
        witness_close(g->witness);
    } else {
        a.witness = g->witness;
        (void)snprintf(a.volume_name, sizeof(a.volume_name), "%s", g->record.volume_name);
        a.volume_id = g->record.volume_id;
        *ret_assembly = a;
    }
    free(g);
    return err;
}

int assemble_check_current(const struct config *config, unsigned index, struct why *why) {
    static const struct mount_options options;
    struct gather *g = calloc(1, sizeof(*g));
    const struct super *s;
    const struct super_member *m;
    int err;

    if (!g) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    g->config = config;
    g->options = &options;
    err = open_stores(g, why);
    if (err == 0 && !g->c[index].store) {
        err = why_set(why, -HFE_MISSING, "%s", g->c[index].why.text);
    }
    err = err < 0 ? err : find_newest(g, why);
    if (err == 0 && g->record.mount_count > 0) {
        err = ask_witness(g, why);
    }
    if (err == 0) {
        s = store_super(g->c[index].store);
        m = super_member_of(&g->record, &s->store_id);
        if (!m || m->state != MEMBER_ONLINE || !s->clean ||
            s->mount_count != g->record.mount_count ||
            !id_equal(&s->generation, &g->record.generation)) {
            err = why_set(
                why, -HFE_STALE,
                "store \"%s\" is not up to date, or the volume was not unmounted in order: mount "
                "and unmount it once, or keep another store",
                g->c[index].label);
        }
    }
    for (unsigned i = 0; i < g->count; i++) {
        store_close(g->c[i].store);
    }
    witness_close(g->witness);
    free(g);
    return err;
}

void disassemble(struct assembly *a) {
    vol_free(a->top);
    witness_close(a->witness);
}
