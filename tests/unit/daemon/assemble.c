/* Who may serve: stores that come and go between mounts. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "daemon/assemble.h"
#include "daemon/resolve.h"
#include "daemon/volume.h"
#include "heal/keeper.h"
#include "mirror/mirror_int.h"
#include "store/segment.h"
#include "tree.h"

static char dir[64];
static struct config config;
static struct events *events;
static struct why why;

static void up(void) {
    static struct volume_create vc;
    char path[128];

    (void)snprintf(dir, sizeof(dir), "/tmp/holdfast-assemble-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(setenv("HOLDFAST_CONF_DIR", dir, 1), 0);
    cr_assert_eq(setenv("HOLDFAST_STATE_DIR", dir, 1), 0);
    cr_assert_eq(setenv("HOLDFAST_RUN_DIR", dir, 1), 0);
    memset(&vc, 0, sizeof(vc));
    vc.adopt = -1;
    (void)snprintf(vc.config.name, sizeof(vc.config.name), "crm");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/%c", dir, 'a' + i);
        cr_assert_eq(mkdir(path, 0755), 0);
        cr_assert_eq(config_add_store(&vc.config, path, &why), 0);
    }
    cr_assert_eq(volume_create(&vc, &why), 0, "%s", why.text);
    config = vc.config;
    cr_assert_eq(events_new(NULL, &events), 0);
}

static void down(void) {
    events_free(events);
    cr_assert_eq(io_remove_tree(AT_FDCWD, dir), 0);
}
TestSuite(assemble, .init = up, .fini = down);

static int mount_with(const struct mount_options *o, struct assembly *a) {
    return assemble(&config, o, events, a, &why);
}

static const struct mount_options plain, degraded = {.degraded = true};

static void end(struct assembly *a) {
    cr_assert_eq(mirror_stop(mirror_of(a->mirror)), 0);
    disassemble(a);
}

static bool all_online(struct assembly *a) {
    struct mirror_status *st = calloc(1, sizeof(*st));
    bool all;

    mirror_status(mirror_of(a->mirror), st);
    all = st->online == st->count;
    free(st);
    return all;
}

static void ignore(void *arg) {
    (void)arg;
}

/* What the daemon's keepers do beside the traffic. */
static void catch_up(struct assembly *a) {
    struct keeper_config kc = {
        .mirror = mirror_of(a->mirror), .events = events, .roster_changed = ignore};
    struct keeper *k[STORES_MAX] = {NULL};
    unsigned n = mirror_count(mirror_of(a->mirror));

    for (unsigned i = 0; i < n; i++) {
        cr_assert_eq(keeper_start(&kc, i, &k[i]), 0);
    }
    for (int tries = 0; tries < 1000 && !all_online(a); tries++) {
        (void)poll(NULL, 0, 10);
    }
    for (unsigned i = 0; i < n; i++) {
        cr_assert(keeper_stop(k[i]));
    }
    cr_assert(all_online(a));
}

static void make_folder(struct assembly *a, const char *name) {
    struct vol_new new = {.mode = S_IFDIR | 0755, .cred = &cred_self};
    struct vol_entry e;
    struct vol *v = a->top;

    cr_assert_eq(v->ops->make(v, obj_root(mirror_objects(mirror_of(a->mirror))), name, &new, &e),
                 0);
}

static bool has(struct assembly *a, const char *name) {
    struct vol_entry e;
    struct vol *v = a->top;

    return v->ops->lookup(v, obj_root(mirror_objects(mirror_of(a->mirror))), name, &e) == 0;
}

static void hide(int store, bool back) {
    char path[PATH_BYTES], other[PATH_BYTES + 8];

    (void)snprintf(path, sizeof(path), "%s", config.store[store].path);
    (void)snprintf(other, sizeof(other), "%s.gone", path);
    cr_assert_eq(back ? rename(other, path) : rename(path, other), 0);
}

static void run_once(const struct mount_options *o, const char *make) {
    struct assembly a;

    cr_assert_eq(mount_with(o, &a), 0, "%s", why.text);
    make_folder(&a, make);
    end(&a);
}

Test(assemble, a_volume_mounts_again_and_again) {
    struct assembly a;

    run_once(&plain, "one");
    run_once(&plain, "two");
    cr_assert_eq(mount_with(&plain, &a), 0);
    cr_assert(has(&a, "one") && has(&a, "two"));
    end(&a);
}

Test(assemble, a_missing_store_needs_degraded) {
    struct assembly a;

    run_once(&plain, "one");
    hide(1, false);
    cr_assert_eq(mount_with(&plain, &a), -HFE_MISSING);
    run_once(&degraded, "two");
}

Test(assemble, a_stale_store_never_serves_whichever_comes_first) {
    struct assembly a;

    run_once(&plain, "one");
    hide(1, false);
    run_once(&degraded, "two"); /* only on a */
    hide(1, true);
    hide(0, false); /* now only b is there, and by its own record it is whole */
    cr_assert_eq(mount_with(&plain, &a), -HFE_STALE, "%s", why.text);
    cr_assert_eq(mount_with(&degraded, &a), -HFE_STALE, "the witness knows better: %s", why.text);
    hide(0, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    cr_assert(has(&a, "two"), "a serves");
    make_folder(&a, "three");
    catch_up(&a);
    end(&a);
    hide(0, false);
    cr_assert_eq(mount_with(&degraded, &a), 0, "it is whole again: %s", why.text);
    cr_assert(has(&a, "two") && has(&a, "three"));
    end(&a);
}

Test(assemble, without_a_witness_every_store_must_be_there) {
    struct mount_options force = {.degraded = true, .force = true};
    struct assembly a;

    run_once(&plain, "one");
    cr_assert_eq(witness_remove(&config.id), 0);
    hide(0, false);
    cr_assert_eq(mount_with(&degraded, &a), -HFE_UNSAFE);
    cr_assert_eq(mount_with(&force, &a), 0, "%s", why.text);
    end(&a);
    hide(0, true);
    cr_assert_eq(mount_with(&plain, &a), 0);
    catch_up(&a);
    end(&a);
}

Test(assemble, two_histories_are_a_split_brain) {
    struct mount_options force = {.degraded = true, .force = true};
    struct assembly a;

    run_once(&plain, "one");
    for (int i = 0; i < 2; i++) { /* each alone, as on two machines */
        cr_assert_eq(witness_remove(&config.id), 0);
        hide(1 - i, false);
        run_once(&force, i ? "left" : "right");
        hide(1 - i, true);
    }
    cr_assert_eq(mount_with(&plain, &a), -HFE_UNSAFE);
    cr_assert(strstr(why.text, "split brain"), "%s", why.text);
}

Test(assemble, a_copy_from_last_week_is_not_taken_for_current) {
    struct tree_options t = {.times = true, .differences_max = 10, .out = stderr};
    char *path = config.store[1].path, old[PATH_BYTES + 8];
    char *cp[] = {"cp", "-a", path, old, NULL};
    struct assembly a;
    pid_t pid;
    int status;

    (void)snprintf(old, sizeof(old), "%s.old", path);
    run_once(&plain, "one");
    cr_assert_eq(posix_spawnp(&pid, "cp", NULL, NULL, cp, environ), 0);
    cr_assert(waitpid(pid, &status, 0) == pid && status == 0);
    run_once(&plain, "two");
    cr_assert_eq(io_remove_tree(AT_FDCWD, path), 0);
    cr_assert_eq(rename(old, path), 0);
    hide(0, false);
    cr_assert_eq(mount_with(&degraded, &a), -HFE_STALE, "alone it must not serve");
    hide(0, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    cr_assert(!all_online(&a) && has(&a, "two"));
    catch_up(&a);
    end(&a);
    cr_assert_eq(tree_compare(config.store[0].path, config.store[1].path, &t), 0);
}

Test(assemble, after_a_lost_ring_one_serves_and_the_others_are_made_equal) {
    struct tree_options t = {.times = true, .differences_max = 10, .out = stderr};
    struct assembly a;
    char path[PATH_BYTES + 16];
    int fd;

    run_once(&plain, "one");
    cr_assert_eq(mount_with(&plain, &a), 0);
    make_folder(&a, "two");
    (void)mirror_log_flush(mirror_of(a.mirror));
    disassemble(&a); /* no goodbye */
    (void)snprintf(path, sizeof(path), "%s/half", config.store[1].path);
    fd = open(path, O_CREAT | O_WRONLY, 0600); /* what a power cut leaves on one store */
    cr_assert_eq(write(fd, "x", 1), 1);
    cr_assert_eq(close(fd), 0);
    (void)snprintf(path, sizeof(path), "%s/crm.ring", dir);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    cr_assert(!all_online(&a) && has(&a, "two"));
    catch_up(&a);
    end(&a);
    cr_assert_eq(tree_compare(config.store[0].path, config.store[1].path, &t), 0);
}

Test(assemble, a_killed_daemon_leaves_equal_stores_that_serve_at_once) {
    struct tree_options t = {.times = true, .differences_max = 10, .out = stderr};
    struct assembly a;

    run_once(&plain, "one");
    cr_assert_eq(mount_with(&plain, &a), 0);
    make_folder(&a, "two");
    disassemble(&a); /* no goodbye */
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    cr_assert(all_online(&a) && has(&a, "two"));
    end(&a);
    cr_assert_eq(tree_compare(config.store[0].path, config.store[1].path, &t), 0);
}

struct told {
    bool moved, from, to;
};

static int note_names(void *arg, const struct journal_frame *f) {
    struct told *t = arg;

    t->moved = t->moved || f->kind == JOURNAL_MOVE;
    t->from = t->from || (t->moved && f->kind == JOURNAL_NAME && strcmp(f->name, "two") == 0);
    t->to = t->to || (t->moved && f->kind == JOURNAL_NAME && strcmp(f->name, "three") == 0);
    return 0;
}

/* Told, and killed before it was done: whoever reads the log later must not take it for done. */
Test(assemble, names_that_were_under_way_are_told_to_be_unknown) {
    struct change c = {.what = "rename", .tells = TELLS_NAMES};
    struct journal_intent intent;
    struct told told = {false};
    struct vol_entry e;
    struct assembly a;
    struct mirror *m;
    uint64_t from;

    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    make_folder(&a, "two");
    m = mirror_of(a.mirror);
    c.name[0] = (struct change_name){obj_root(mirror_objects(m)), "two"};
    c.name[1] = (struct change_name){c.name[0].dir, "three"};
    cr_assert_eq(a.top->ops->lookup(a.top, c.name[0].dir, "two", &e), 0);
    c.obj = e.obj;
    from = mirror_position(m);
    log_change(m, &c, &intent);
    disassemble(&a); /* no goodbye */
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    cr_assert(all_online(&a) && has(&a, "two") && !has(&a, "three"));
    m = mirror_of(a.mirror);
    for (unsigned i = 0; i < 2; i++) {
        told = (struct told){false};
        cr_assert_eq(
            store_log_read(m->member[i].store, from, mirror_log_flush(m), note_names, &told), 0);
        cr_assert(told.moved && told.from && told.to, "store %u", i);
    }
    end(&a);
}

/* The log of a store that came back begins at its return. What the others were told before that, and did
 * not sync, they may yet lose. */
Test(assemble, after_a_kill_what_is_stable_is_what_all_logs_say) {
    struct assembly a;
    uint64_t stable;

    run_once(&plain, "one");
    hide(0, false);
    run_once(&degraded, "two");
    hide(0, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    make_folder(&a, "three");
    stable = atomic_load(&mirror_of(a.mirror)->log_stable);
    catch_up(&a);
    disassemble(&a); /* no goodbye */
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    cr_assert(all_online(&a) && has(&a, "three"));
    cr_assert_leq(atomic_load(&mirror_of(a.mirror)->log_stable), stable);
    end(&a);
}

/* The runs that spin finds when a safeguard is taken away (tests/model/membership.pml), with the
 * real functions: -DNO_MIXTURE, -DNO_EQUAL and -DNO_MOUNT. */
static void begin_catch_up(struct assembly *a) {
    struct store *b;

    cr_assert_eq(store_open(config.store[1].path, &why, &b), 0, "%s", why.text);
    cr_assert_eq(mirror_sync_begin(mirror_of(a->mirror), 1, MEMBER_STALE, b, 0), 0);
}

Test(assemble, a_store_whose_catch_up_was_cut_off_never_serves) {
    struct copy_stat stat = {0};
    struct assembly a;

    run_once(&plain, "one");
    hide(1, false);
    run_once(&degraded, "two");
    hide(1, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    begin_catch_up(&a);
    disassemble(&a); /* killed */
    cr_assert_eq(volume_resolve(&config, config.store[1].label, &stat, &why), -HFE_STALE, "%s",
                 why.text);
    hide(0, false);
    cr_assert_eq(mount_with(&degraded, &a), -HFE_STALE, "%s", why.text);
    cr_assert_eq(witness_remove(&config.id), 0);
    cr_assert_lt(mount_with(&degraded, &a), 0,
                 "nor without the witness: by its own record it is a mixture");
    hide(0, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    catch_up(&a);
    end(&a);
}

static int take_frame(void *arg, const struct journal_frame *f) {
    (void)f;
    ++*(unsigned *)arg;
    return 0;
}

/* Else it would begin anew for ever on a busy volume. */
Test(assemble, the_log_is_kept_for_a_store_that_is_compared_as_a_whole) {
    enum { FRAMES = 100000, AT_ONCE = 1000 }; /* several segments */
    uint64_t position = 0;
    struct assembly a;
    struct mirror *m;
    unsigned n = 0;

    run_once(&plain, "one");
    hide(1, false);
    run_once(&degraded, "two");
    hide(1, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    m = mirror_of(a.mirror);
    begin_catch_up(&a);
    cr_assert_eq(mirror_cut(m, &position), 0);
    for (unsigned i = 0; i < FRAMES; i++) {
        mirror_tell_peer(m, 0, 5, 5);
        if (i % AT_ONCE == 0) {
            (void)mirror_log_flush(m);
        }
    }
    cr_assert_eq(mirror_checkpoint(m), 0);
    cr_assert_eq(mirror_checkpoint(m), 0);
    cr_assert_eq(store_log_read(m->member[0].store, position, mirror_log_flush(m), take_frame, &n),
                 0);
    cr_assert_geq(n, FRAMES);
    mirror_sync_failed(m, 1, "a test", false);
    cr_assert_eq(mirror_checkpoint(m), 0);
    cr_assert_gt(store_log_first(m->member[0].store), position);
    catch_up(&a);
    end(&a);
}

Test(assemble, a_catch_up_that_missed_a_change_does_not_end_online) {
    struct assembly a;

    run_once(&plain, "one");
    hide(1, false);
    run_once(&degraded, "two");
    hide(1, true);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    begin_catch_up(&a);
    mirror_names_done(mirror_of(a.mirror), 1,
                      true); /* nobody holds the names: it receives nothing yet */
    member_spoil(mirror_of(a.mirror), 1, "test", -EIO);
    cr_assert_eq(mirror_sync_done(mirror_of(a.mirror), 1), -HFE_STALE);
    cr_assert(!all_online(&a));
    mirror_sync_failed(mirror_of(a.mirror), 1, "test", false);
    catch_up(&a);
    end(&a);
}

Test(assemble, a_mount_counts_before_the_first_change) {
    struct assembly a;
    struct super s;

    run_once(&plain, "one");
    cr_assert_eq(mount_with(&plain, &a), 0);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(store_identify(config.store[i].path, &s, &why), 0);
        cr_assert_eq(s.mount_count, 2);
        cr_assert(!s.clean);
    }
    end(&a);
}

Test(assemble, two_daemons_on_one_store_are_refused) {
    struct assembly a, b;

    cr_assert_eq(mount_with(&plain, &a), 0);
    cr_assert_eq(mount_with(&plain, &b), -HFE_IN_USE);
    end(&a);
}

Test(assemble, stores_in_each_other_or_around_the_mount_are_refused) {
    struct config c = config;
    char inside[PATH_BYTES];

    (void)snprintf(inside, sizeof(inside), "%s/a/inside", dir);
    cr_assert_eq(mkdir(inside, 0755), 0);
    cr_assert_eq(assemble_check_places(&c, inside, &why), -HFE_UNSAFE);
    cr_assert_eq(assemble_check_places(&c, dir, &why), -HFE_UNSAFE);
    (void)snprintf(c.store[1].path, sizeof(c.store[1].path), "%s", inside);
    cr_assert_eq(assemble_check_places(&c, NULL, &why), -HFE_UNSAFE);
    c.store[1] = c.store[0];
    cr_assert_eq(assemble_check_places(&c, NULL, &why), -HFE_UNSAFE);
}

Test(assemble, another_volumes_store_is_refused) {
    struct assembly a;
    struct config c = config;

    c.id = id_new();
    cr_assert_eq(assemble(&c, &plain, events, &a, &why), -HFE_FOREIGN);
}

Test(assemble, a_member_that_the_configuration_does_not_name_is_missed) {
    struct assembly a;
    struct config c = config;
    struct mirror_status *st = calloc(1, sizeof(*st));

    run_once(&plain, "one");
    c.count = 1;
    cr_assert_eq(assemble(&c, &plain, events, &a, &why), -HFE_MISSING);
    cr_assert_eq(assemble(&c, &degraded, events, &a, &why), 0, "%s", why.text);
    mirror_status(mirror_of(a.mirror), st);
    cr_assert_eq(st->count, 2);
    cr_assert_eq(st->online, 1);
    end(&a);
    cr_assert_eq(mount_with(&plain, &a), 0);
    cr_assert(!all_online(&a), "b missed that mount");
    end(&a);
    free(st);
}

Test(assemble, a_mount_that_was_cut_off_while_it_wrote_its_record_needs_nobody) {
    struct assembly a;
    struct store *s;
    struct super next;

    run_once(&plain, "one");
    cr_assert_eq(store_open(config.store[0].path, &why, &s), 0);
    next = *store_super(s);
    next.mount_count++;
    next.clean = false;
    cr_assert_eq(store_write_super(s, &next), 0); /* and not on b, nor on the witness */
    store_close(s);
    cr_assert_eq(mount_with(&plain, &a), 0, "%s", why.text);
    end(&a);
}

Test(assemble, a_create_that_is_repeated_never_empties_what_it_was_to_adopt) {
    struct volume_create vc = {.adopt = 0};
    char path[2][PATH_BYTES], file[PATH_BYTES + 16], junk[PATH_BYTES + 16];

    (void)snprintf(vc.config.name, sizeof(vc.config.name), "again");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path[i], sizeof(path[i]), "%s/again%d", dir, i);
        cr_assert_eq(mkdir(path[i], 0755), 0);
        cr_assert_eq(config_add_store(&vc.config, path[i], &why), 0);
    }
    (void)snprintf(file, sizeof(file), "%s/precious", path[0]);
    (void)snprintf(junk, sizeof(junk), "%s/junk", path[1]);
    cr_assert_eq(mkdir(file, 0755), 0);
    cr_assert_eq(mkdir(junk, 0755), 0);
    cr_assert_eq(volume_create(&vc, &why), -HFE_UNSAFE, "the second is not empty");
    cr_assert_eq(access(file, F_OK), 0);
    cr_assert_eq(access(junk, F_OK), 0);
    vc.adopt = -1;
    cr_assert_eq(volume_create(&vc, &why), -HFE_UNSAFE, "nor is the first");
    cr_assert_eq(access(file, F_OK), 0);
    cr_assert_eq(access(junk, F_OK), 0);
}
