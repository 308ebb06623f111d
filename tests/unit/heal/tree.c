#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "heal/catchup.h"
#include "heal/tree.h"
#include "journal/journal.h"
#include "tree.h"

static char dir[64], path[2][128];
static struct store *store[2];

static void put(int s, const char *name, const char *content) {
    char p[300];
    FILE *f;

    (void)snprintf(p, sizeof(p), "%s/%s", path[s], name);
    f = fopen(p, "we");
    cr_assert(f, "%s", p);
    (void)fputs(content, f);
    cr_assert_eq(fclose(f), 0);
}

static void folder(int s, const char *name) {
    char p[300];

    (void)snprintf(p, sizeof(p), "%s/%s", path[s], name);
    cr_assert_eq(mkdir(p, 0755), 0);
}

/* The store i, in a new folder of its own; `lacks`: the capabilities that it is said not to have. */
static void make_store(int i, uint32_t lacks) {
    struct super s = {
        .volume_id = id_new(), .volume_name = "t", .member_count = 1, .store_id = id_new()};
    struct why why;

    s.member[0] = (struct super_member){.id = s.store_id, .label = "a", .state = MEMBER_ONLINE};
    (void)snprintf(path[i], sizeof(path[i]), "%s/%d%s", dir, i, lacks ? "lesser" : "");
    cr_assert_eq(mkdir(path[i], 0755), 0);
    cr_assert_eq(store_probe(path[i], &s.member[0].caps, &why), 0);
    s.member[0].caps &= ~lacks;
    cr_assert_eq(store_format(path[i], &s, true, &why), 0);
    cr_assert_eq(store_open(path[i], &why, &store[i]), 0, "%s", why.text);
}

static void up(void) {
    (void)snprintf(dir, sizeof(dir), "/tmp/holdfast-heal-XXXXXX");
    cr_assert(mkdtemp(dir));
    make_store(0, 0);
    make_store(1, 0);
}

static void down(void) {
    store_close(store[0]);
    store_close(store[1]);
    cr_assert_eq(io_remove_tree(AT_FDCWD, dir), 0);
}

TestSuite(heal, .init = up, .fini = down);

static struct copy_stat heal(bool all_data) {
    struct heal_options o = {.all_data = all_data, .since_s = UINT64_MAX};
    struct tree_options t = {.times = true, .holes = true, .differences_max = 10, .out = stderr};
    struct copy_stat stat;
    struct why why = {""};

    cr_assert_eq(heal_tree(store[0], store[1], &o, &stat, &why), 0, "%s", why.text);
    cr_assert_eq(tree_compare(path[0], path[1], &t), 0);
    return stat;
}

Test(heal, an_empty_store_is_filled_with_everything) {
    char p[300], q[300];
    int fd;

    folder(0, "d");
    put(0, "d/f", "hello");
    (void)snprintf(p, sizeof(p), "%s/d/f", path[0]);
    (void)snprintf(q, sizeof(q), "%s/link", path[0]);
    cr_assert_eq(link(p, q), 0);
    (void)snprintf(q, sizeof(q), "%s/sym", path[0]);
    cr_assert_eq(symlink("/nowhere/at all", q), 0);
    (void)snprintf(q, sizeof(q), "%s/fifo", path[0]);
    cr_assert_eq(mkfifo(q, 0640), 0);
    (void)snprintf(q, sizeof(q), "%s/sparse", path[0]);
    fd = open(q, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    cr_assert_eq(ftruncate(fd, 64 << 20), 0);
    cr_assert_eq(pwrite(fd, "end", 3, 32 << 20), 3);
    cr_assert_eq(close(fd), 0);
    (void)setxattr(p, "user.k", "v", 1, 0); /* not every filesystem has them */
    (void)heal(false);
}

Test(heal, a_second_run_copies_nothing) {
    struct copy_stat stat;

    put(0, "f", "hello");
    (void)heal(false);
    stat = heal(false);
    cr_assert_eq(stat.bytes_copied, 0);
    cr_assert_eq(stat.objects_changed, 0);
    cr_assert_eq(stat.objects_compared, 2);
}

Test(heal, what_the_source_does_not_have_goes) {
    folder(1, "old");
    put(1, "old/f", "x");
    put(1, "stray", "y");
    (void)heal(false);
}

Test(heal, a_name_of_another_type_is_replaced) {
    put(0, "x", "file");
    folder(1, "x");
    put(1, "x/inside", "z");
    folder(0, "y");
    put(1, "y", "file");
    (void)heal(false);
}

Test(heal, links_become_links_again) {
    char p[300], q[300];

    put(0, "a", "same");
    (void)snprintf(p, sizeof(p), "%s/a", path[0]);
    (void)snprintf(q, sizeof(q), "%s/b", path[0]);
    cr_assert_eq(link(p, q), 0);
    put(1, "a", "same");
    put(1, "b", "same");
    (void)heal(true);
}

/* Two files that differ in their bytes only. */
static void put_different(void) {
    struct timespec when[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

    for (int i = 0; i < 2; i++) {
        char p[300];

        put(i, "f", i ? "AAAA" : "BBBB");
        (void)snprintf(p, sizeof(p), "%s/f", path[i]);
        cr_assert_eq(utimensat(AT_FDCWD, p, when, 0), 0);
    }
}

Test(heal, equal_attributes_hide_a_difference_unless_all_bytes_are_asked_for) {
    struct tree_options t = {.differences_max = 0};
    struct heal_options o = {.since_s = UINT64_MAX};
    struct copy_stat stat;
    struct why why;

    put_different();
    cr_assert_eq(heal_tree(store[0], store[1], &o, &stat, &why), 0);
    cr_assert_gt(tree_compare(path[0], path[1], &t), 0);
    stat = heal(true);
    cr_assert_eq(stat.bytes_copied, 4);
}

Test(heal, files_changed_since_the_mount_are_compared_by_content) {
    struct heal_options o = {.since_s = 1};
    struct tree_options t = {.differences_max = 0};
    struct copy_stat stat;
    struct why why;

    put_different();
    cr_assert_eq(heal_tree(store[0], store[1], &o, &stat, &why), 0);
    cr_assert_eq(tree_compare(path[0], path[1], &t), 0);
}

Test(heal, files_that_are_links_on_the_target_only_are_parted) {
    char p[300], q[300];

    put(0, "f1", "one");
    put(0, "f2", "two");
    put(1, "f1", "one");
    (void)snprintf(p, sizeof(p), "%s/f1", path[1]);
    (void)snprintf(q, sizeof(q), "%s/f2", path[1]);
    cr_assert_eq(link(p, q), 0);
    (void)heal(true);
}

static uint64_t ino_of(int s, const char *name) {
    struct stat st;
    char p[300];

    (void)snprintf(p, sizeof(p), "%s/%s", path[s], name);
    cr_assert_eq(stat(p, &st), 0);
    return st.st_ino;
}

/* Frames about names in the root; of a BIND, the inode on the first store is added when the file is there. */
#define BIND_ON(peers_, number_, type_, name_, ...)                                                \
    {                                                                                              \
        .kind = JOURNAL_BIND, .number = number_, .parent = JOURNAL_ROOT, .type = type_,            \
        .peers = peers_, .name = name_, ##__VA_ARGS__                                              \
    }
#define BIND(number_, type_, name_, ...) BIND_ON(1, number_, type_, name_, ##__VA_ARGS__)
#define MOVE(number_, from_, to_)                                                                  \
    {                                                                                              \
        .kind = JOURNAL_MOVE, .number = number_, .parent = JOURNAL_ROOT, .parent2 = JOURNAL_ROOT,  \
        .name = from_, .name2 = to_                                                                \
    }

static void rename_in(int s, const char *from, const char *to) {
    char p[300], q[300];

    (void)snprintf(p, sizeof(p), "%s/%s", path[s], from);
    (void)snprintf(q, sizeof(q), "%s/%s", path[s], to);
    cr_assert_eq(rename(p, q), 0);
}

static void add(struct catchup *c, const struct journal_frame *const *frames, size_t n) {
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(catchup_add(c, frames[i]), 0);
    }
}

/* All that was added, in a round of its own. */
static void one_round(struct catchup *c) {
    struct why why = {""};

    cr_assert_eq(catchup_names(c, &why), 0, "%s", why.text);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    catchup_next(c);
}

static struct catchup *catchup_of(const struct catchup_config *config) {
    struct id volume = store_super(store[0])->volume_id;
    struct catchup *c;

    cr_assert_eq(catchup_new(config, &volume, &c), 0);
    return c;
}

/* All that was added is made equal, and the trees are. */
static void catch_up(struct catchup *c, bool exact, bool times) {
    struct tree_options t = {.times = times, .differences_max = 10, .out = stderr};
    struct why why = {""};

    cr_assert_eq(exact ? catchup_names_exact(c, &why) : catchup_names(c, &why), 0, "%s", why.text);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    cr_assert_eq(catchup_clear(c, &why), 0, "%s", why.text);
    catchup_free(c);
    cr_assert_eq(tree_compare(path[0], path[1], &t), 0);
}

/* The daemon was killed when a rename was done on the first store and not on the second, of which it
 * never asked which inode the file has. What was at the new name must not be taken for that file. */
Test(heal, a_rename_that_was_under_way_when_the_daemon_was_killed) {
    struct journal_frame made = BIND(100, DT_REG, "new", .time_s = 1),
                         named = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "new"},
                         moved = MOVE(100, "new", "f");
    struct catchup_config config = {.from = store[0], .to = store[1], .to_slot = 1};
    struct catchup *c = catchup_of(&config);

    put(0, "f", "what it is renamed to");
    put(1, "new", "what it is renamed to");
    put(1, "f", "what it was, which is longer");
    made.ino[0] = ino_of(0, "f");
    named.number = 100;
    catchup_view(c)->slot = -1;
    cr_assert_eq(catchup_add(c, &made), 0);
    cr_assert_eq(catchup_add(c, &named), 0);
    cr_assert_eq(catchup_add(c, &moved), 0);
    cr_assert_eq(catchup_only(c, &moved, 1), 0);
    catch_up(c, false, false);
}

/* Two files changed places while the second store took part, and it was not asked which inodes they have:
 * where they were first, it has the other one each. */
Test(heal, what_moved_before_the_store_left_is_not_where_it_was_first) {
    static const char *const name[] = {"one", "two"};
    struct journal_frame left = {.kind = JOURNAL_LEAVE, .slot = 1},
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 7};
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    struct catchup *c = catchup_of(&config);
    uint64_t position = 1;

    put(0, "two", "CHANGED; the first, longer than a word");
    put(0, "one", "the second one, longer than a word");
    put(1, "two", "the first; the first, longer than a word");
    put(1, "one", "the second one, longer than a word");
    for (int i = 0; i < 2; i++) {
        struct journal_frame bound = {.kind = JOURNAL_BIND,
                                      .position = position++,
                                      .number = 100 + (uint64_t)i,
                                      .parent = JOURNAL_ROOT,
                                      .type = DT_REG,
                                      .peers = 1};

        (void)snprintf(bound.name, sizeof(bound.name), "%s", name[i]);
        bound.ino[0] = ino_of(0, name[!i]);
        cr_assert_eq(catchup_add(c, &bound), 0);
    }
    for (int i = 0; i < 2; i++) {
        struct journal_frame moved = {.kind = JOURNAL_MOVE,
                                      .position = position++,
                                      .number = 100 + (uint64_t)i,
                                      .parent = JOURNAL_ROOT,
                                      .parent2 = JOURNAL_ROOT};

        (void)snprintf(moved.name, sizeof(moved.name), "%s", name[i]);
        (void)snprintf(moved.name2, sizeof(moved.name2), "%s", name[!i]);
        cr_assert_eq(catchup_add(c, &moved), 0);
    }
    cr_assert_eq(catchup_add(c, &left), 0);
    cr_assert_eq(catchup_add(c, &written), 0);
    catch_up(c, true, false);
}

/* The daemon was killed after a change in a folder of which the log knows no inode on the first store, and
 * said last that its name may change: a mkdir that failed, perhaps. */
Test(heal, times_of_a_folder_whose_name_may_have_changed_when_the_daemon_was_killed) {
    struct journal_frame bound = BIND_ON(2, 100, DT_DIR, "d"),
                         failed = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "d"},
                         made = {.kind = JOURNAL_NAME, .parent = 100, .name = "f"};
    struct catchup_config config = {.from = store[0], .to = store[1], .to_slot = 1};
    struct timespec then[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    struct catchup *c = catchup_of(&config);
    char p[300];

    for (int i = 0; i < 2; i++) {
        folder(i, "d");
        put(i, "d/f", "the same");
    }
    (void)snprintf(p, sizeof(p), "%s/d", path[1]);
    cr_assert_eq(utimensat(AT_FDCWD, p, then, 0), 0);
    bound.ino[1] = ino_of(1, "d");
    catchup_view(c)->slot = -1;
    cr_assert_eq(catchup_add(c, &bound), 0);
    cr_assert_eq(catchup_add(c, &failed), 0);
    cr_assert_eq(catchup_add(c, &made), 0);
    cr_assert_eq(catchup_only(c, NULL, 0), 0);
    catch_up(c, false, true);
}

/* A store left twice. In between it came back, with another folder in place of the one that was moved; the
 * inode of that one went to a new folder at its first name. */
Test(heal, what_was_told_of_a_store_before_it_left_the_time_before_holds_no_more) {
    struct journal_frame bound = BIND_ON(3, 100, DT_DIR, "d1"),
                         left = {.kind = JOURNAL_LEAVE, .slot = 1}, moved = MOVE(100, "d1", "d0"),
                         made = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "d1"};
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    const struct journal_frame *frames[] = {&bound, &left, &moved, &made, &left};
    struct catchup *c = catchup_of(&config);

    for (int i = 0; i < 2; i++) {
        folder(i, "d0");
        folder(i, "d1");
        put(i, "d0/f", "in the folder that was moved");
    }
    bound.ino[0] = ino_of(0, "d0");
    bound.ino[1] = ino_of(1, "d1");
    add(c, frames, sizeof(frames) / sizeof(frames[0]));
    catch_up(c, true, false);
}

/* A file of two names was written and lost the one that is known: everything is compared, and just before
 * that the other name changed places with another file. What is at that one's name on the target has the
 * bytes of the first now: the log, which tells of it later, must not be believed there. */
Test(heal, what_changes_places_while_everything_is_compared) {
    struct journal_frame bound = BIND(100, DT_REG, "gone", .linked = true),
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4},
                         gone = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "gone"},
                         known = BIND(100, DT_REG, "x"), other = BIND(101, DT_REG, "y"),
                         there = MOVE(100, "x", "y"), back = MOVE(101, "y", "x");
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    struct catchup *c = catchup_of(&config);
    struct why why = {""};
    char p[300], q[300];

    put(0, "x", "another file, which nobody wrote");
    put(0, "y", "JUST written");
    put(1, "x", "once written");
    put(1, "y", "another file, which nobody wrote");
    (void)snprintf(p, sizeof(p), "%s/x", path[1]);
    (void)snprintf(q, sizeof(q), "%s/gone", path[1]);
    cr_assert_eq(link(p, q), 0);
    bound.ino[0] = known.ino[0] = ino_of(0, "y");
    other.ino[0] = ino_of(0, "x");
    cr_assert_eq(catchup_add(c, &bound), 0);
    cr_assert_eq(catchup_add(c, &written), 0);
    cr_assert_eq(catchup_add(c, &gone), 0);
    cr_assert_eq(catchup_names(c, &why), 0, "%s", why.text);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    cr_assert_gt(catchup_stat(c)->objects_changed, 0);
    catchup_next(c);
    cr_assert_eq(catchup_add(c, &known), 0);
    cr_assert_eq(catchup_add(c, &other), 0);
    cr_assert_eq(catchup_add(c, &there), 0);
    cr_assert_eq(catchup_add(c, &back), 0);
    catch_up(c, true, false);
}

/* A catch-up put a file aside and was cut off; what it had put aside went, and its inode went to the new
 * file at that name, which was copied by the next one. */
Test(heal, what_was_put_aside_by_a_catch_up_that_was_cut_off) {
    struct journal_frame bound = BIND(100, DT_REG, "x"), moved = MOVE(100, "x", "y"),
                         made = BIND(101, DT_REG, "x", .time_s = 1),
                         named = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "x"},
                         once = {.kind = JOURNAL_PEER, .number = 100, .slot = 1},
                         now = {.kind = JOURNAL_PEER, .number = 101, .slot = 1};
    const struct journal_frame *frames[] = {&bound, &moved, &named, &made, &once, &now};
    struct catchup_config config = {.from = store[0], .to = store[1], .to_slot = 1, .live = true};
    struct catchup *c = catchup_of(&config);

    put(0, "y", "the old file");
    put(0, "x", "the new file");
    put(1, "x", "the new file");
    bound.ino[0] = ino_of(0, "y");
    made.ino[0] = ino_of(0, "x");
    once.ino[0] = now.ino[0] = ino_of(1, "x");
    add(c, frames, sizeof(frames) / sizeof(frames[0]));
    catch_up(c, true, false);
}

/* A new folder was copied, and is renamed before the last round: what this catch-up told of it is not taken
 * for something that the store may have lost. */
Test(heal, a_new_folder_that_was_copied_and_is_renamed) {
    struct journal_frame made = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "d"},
                         bound = BIND(100, DT_DIR, "d", .time_s = 1),
                         inside = {.kind = JOURNAL_NAME, .parent = 100, .name = "f"},
                         told = {.kind = JOURNAL_PEER, .number = 100, .slot = 1},
                         moved = MOVE(100, "d", "e");
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    struct catchup *c = catchup_of(&config);

    folder(0, "d");
    put(0, "d/f", "in the new folder");
    bound.ino[0] = ino_of(0, "d");
    cr_assert_eq(catchup_add(c, &made), 0);
    cr_assert_eq(catchup_add(c, &bound), 0);
    cr_assert_eq(catchup_add(c, &inside), 0);
    one_round(c);
    told.ino[0] = ino_of(1, "d");
    rename_in(0, "d", "e");
    cr_assert_eq(catchup_add(c, &told), 0);
    cr_assert_eq(catchup_add(c, &moved), 0);
    catch_up(c, true, false);
}

/* A file is written; in the next round it has another name, and a new file has its old one. */
static void rename_and_make_anew(bool untouched) {
    struct journal_frame bound = BIND(100, DT_REG, "f"),
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4},
                         moved = MOVE(100, "f", "g"),
                         named = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "f"},
                         made = BIND(101, DT_REG, "f", .time_s = 1);
    const struct journal_frame *first[] = {&bound, &written}, *then[] = {&moved, &named, &made};
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = untouched, .live = true};
    struct catchup *c = catchup_of(&config);

    put(0, "f", "NEW bytes");
    put(1, "f", "old bytes");
    bound.ino[0] = ino_of(0, "f");
    add(c, first, 2);
    one_round(c);
    rename_in(0, "f", "g");
    put(0, "f", "another file");
    made.ino[0] = ino_of(0, "f");
    add(c, then, 3);
    catch_up(c, true, false);
}

/* Not known on the target, the written file is compared as a whole by its name, of which the log told nothing
 * in that round. */
Test(heal, a_name_that_was_asked_for_in_one_round_and_is_told_in_the_next) {
    rename_and_make_anew(false);
}

/* Where inodes say nothing, a file is where it was found or put, until another one is put there. */
Test(heal, a_name_that_was_another_files_on_a_store_without_stable_inodes) {
    store_close(store[1]);
    make_store(1, STORE_STABLE_INO);
    rename_and_make_anew(true);
}

/* A file was written while another store was asked, which left; from the next one its inode is not the same. No
 * name changed in between, so it is the same file. */
Test(heal, what_was_told_of_a_file_by_a_store_that_left) {
    struct journal_frame before = BIND_ON(4, 100, DT_REG, "f"),
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4},
                         after = BIND(200, DT_REG, "f");
    const struct journal_frame *frames[] = {&before, &written, &after};
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    struct catchup *c = catchup_of(&config);

    put(0, "f", "NEW bytes");
    put(1, "f", "old bytes");
    before.ino[2] = 1;
    after.ino[0] = ino_of(0, "f");
    add(c, frames, sizeof(frames) / sizeof(frames[0]));
    catch_up(c, true, false);
}

/* Folders change places after all that was known of the target was forgotten, as names were compared: what is
 * written in one then goes to where it is now, and not to where it was when it was opened. */
Test(heal, folders_that_change_places_after_all_was_compared_on_a_store_without_stable_inodes) {
    struct journal_frame x = BIND(100, DT_DIR, "current"), y = BIND(101, DT_DIR, "new"),
                         f = {.kind = JOURNAL_BIND,
                              .number = 102,
                              .parent = 101,
                              .type = DT_REG,
                              .peers = 1,
                              .name = "f"},
                         in_x = {.kind = JOURNAL_NAME, .parent = 100, .name = "a"},
                         in_y = {.kind = JOURNAL_NAME, .parent = 101, .name = "b"},
                         linked = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "l1"},
                         away = MOVE(100, "current", "old"), there = MOVE(101, "new", "current"),
                         written = {.kind = JOURNAL_DATA, .number = 102, .len = 4};
    const struct journal_frame *first[] = {&x, &y, &f, &in_x, &in_y}, *moves[] = {&away, &there};
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    char p[300], q[300];
    struct catchup *c;

    store_close(store[1]);
    make_store(1, STORE_STABLE_INO);
    config.to = store[1];
    for (int i = 0; i < 2; i++) {
        folder(i, "current");
        folder(i, "new");
        put(i, "new/f", "old bytes");
    }
    put(0, "current/a", "in the first");
    put(0, "new/b", "in the second");
    x.ino[0] = ino_of(0, "current");
    y.ino[0] = ino_of(0, "new");
    f.ino[0] = ino_of(0, "new/f");
    c = catchup_of(&config);
    add(c, first, sizeof(first) / sizeof(first[0]));
    one_round(c);
    put(0, "l1", "two names, of which one is told");
    (void)snprintf(p, sizeof(p), "%s/l1", path[0]);
    (void)snprintf(q, sizeof(q), "%s/l2", path[0]);
    cr_assert_eq(link(p, q), 0);
    cr_assert_eq(catchup_add(c, &linked), 0);
    one_round(c);
    rename_in(0, "current", "old");
    rename_in(0, "new", "current");
    add(c, moves, 2);
    one_round(c);
    put(0, "current/f", "NEW bytes");
    cr_assert_eq(catchup_add(c, &written), 0);
    catch_up(c, true, false);
}

/* A file is written, and gives its name to another one before it has its turn. Where the source's inodes say nothing
 * the log still has it there, so the other one is taken for it: until the log tells of the name. */
Test(heal, what_had_the_name_when_it_was_copied_between_stores_without_stable_inodes) {
    struct journal_frame bound = BIND_ON(0, 100, DT_REG, "log"),
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4},
                         moved = MOVE(100, "log", "log.1"),
                         named = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "log"},
                         made = BIND_ON(0, 101, DT_REG, "log", .time_s = 1);
    const struct journal_frame *first[] = {&bound, &written}, *then[] = {&moved, &named, &made};
    struct catchup_config config = {.to_slot = 1, .untouched = true, .live = true};
    struct catchup *c;

    for (int i = 0; i < 2; i++) {
        store_close(store[i]);
        make_store(i, STORE_STABLE_INO);
    }
    config.from = store[0];
    config.to = store[1];
    put(0, "log.1", "NEW bytes of the old file");
    put(0, "log", "another file, made since");
    put(1, "log", "old bytes of the old file");
    c = catchup_of(&config);
    add(c, first, 2);
    one_round(c);
    add(c, then, 3);
    catch_up(c, true, false);
}

/* Folders change places on a source whose inodes say nothing, after the log was read and before it is worked off: what
 * is done in the one is done by what the other has, until the log tells of the move. */
Test(heal, folders_that_change_places_on_a_source_without_stable_inodes) {
    struct journal_frame x = BIND_ON(0, 100, DT_DIR, "current"), y = BIND_ON(0, 101, DT_DIR, "new"),
                         f = {.kind = JOURNAL_BIND,
                              .number = 102,
                              .parent = 100,
                              .type = DT_REG,
                              .name = "f"},
                         written = {.kind = JOURNAL_DATA, .number = 102, .len = 4},
                         name = {.kind = JOURNAL_NAME, .parent = 100, .name = "a"},
                         away = MOVE(100, "current", "old"), there = MOVE(101, "new", "current"),
                         again = {.kind = JOURNAL_DATA, .number = 102};
    const struct journal_frame *first[] = {&x, &y, &f, &written, &name}, *moves[] = {&away, &there},
                               *then[] = {&again};
    struct catchup_config config = {.to = store[1], .to_slot = 1, .untouched = true, .live = true};
    struct catchup *c;

    store_close(store[0]);
    make_store(0, STORE_STABLE_INO);
    config.from = store[0];
    for (int i = 0; i < 2; i++) {
        folder(i, i == 0 ? "old" : "current");
        folder(i, i == 0 ? "current" : "new");
        put(i, i == 0 ? "old/a" : "current/a", "a name of the first");
        put(i, i == 0 ? "old/f" : "current/f", i == 0 ? "NEW bytes, first" : "old bytes, first");
        put(i, i == 0 ? "old/unsaid" : "current/unsaid", "of the first");
        put(i, i == 0 ? "current/f" : "new/f", "that of the second");
        put(i, i == 0 ? "current/unsaid" : "new/unsaid", "not of the first");
    }
    c = catchup_of(&config);
    add(c, first, sizeof(first) / sizeof(first[0]));
    one_round(c);
    add(c, moves, 2);
    one_round(c);
    put(0, "old/f", "AGAIN bytes, first");
    add(c, then, 1);
    catch_up(c, true, false);
}

/* A file of two names is written, and one of them is made anew before it has its turn. */
Test(heal, a_name_of_two_that_is_made_anew_on_a_source_without_stable_inodes) {
    struct journal_frame one = BIND_ON(0, 100, DT_REG, "l1", .linked = true),
                         two = BIND_ON(0, 100, DT_REG, "l2", .linked = true),
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4},
                         gone = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "l2"},
                         made = BIND_ON(0, 101, DT_REG, "l2", .time_s = 1);
    const struct journal_frame *first[] = {&one, &two, &written}, *then[] = {&gone, &made};
    struct catchup_config config = {.to = store[1], .to_slot = 1, .untouched = true, .live = true};
    char p[300], q[300];
    struct catchup *c;

    store_close(store[0]);
    make_store(0, STORE_STABLE_INO);
    config.from = store[0];
    put(0, "l1", "NEW bytes of the file");
    put(0, "l2", "another file, made since");
    put(1, "l1", "old bytes of the file");
    (void)snprintf(p, sizeof(p), "%s/l1", path[1]);
    (void)snprintf(q, sizeof(q), "%s/l2", path[1]);
    cr_assert_eq(link(p, q), 0);
    c = catchup_of(&config);
    add(c, first, 3);
    one_round(c);
    add(c, then, 2);
    catch_up(c, true, false);
}

/* A rename over a file is told and refused: the log does not know any more who has the name, so the file is in the way of
 * its own copy. What is written to it afterwards goes into what is there, and not into what was put aside. */
Test(heal, a_file_that_was_in_the_way_of_its_own_copy) {
    struct journal_frame g = BIND_ON(1, 100, DT_REG, "g"),
                         peer = {.kind = JOURNAL_PEER, .number = 100, .slot = 1},
                         refused = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "g"},
                         written = {.kind = JOURNAL_DATA, .number = 100};
    const struct journal_frame *first[] = {&g, &peer, &refused}, *then[] = {&written};
    struct catchup_config config = {
        .from = store[0], .to = store[1], .to_slot = 1, .untouched = true, .live = true};
    struct catchup *c;

    put(0, "g", "as it was");
    put(1, "g", "as it was");
    g.ino[0] = ino_of(0, "g");
    peer.ino[0] = ino_of(1, "g");
    c = catchup_of(&config);
    add(c, first, 3);
    one_round(c);
    put(0, "g", "NEW bytes since");
    add(c, then, 1);
    catch_up(c, true, false);
}

/* The target has it by the same name. */
static int same_path(void *arg, const char *const *names, unsigned depth, uint64_t ino,
                     uint64_t *ret_ino, uint64_t *ret_number) {
    (void)arg;
    cr_assert_eq(depth, 1);
    cr_assert_eq(ino, ino_of(0, names[0]));
    *ret_ino = ino_of(1, names[0]);
    *ret_number = 0;
    return 0;
}

/* The same, with all names equal: what was told until then goes into what is in its place. */
Test(heal, a_file_whose_copy_is_in_its_place_when_all_names_are_equal) {
    struct journal_frame g = BIND_ON(1, 100, DT_REG, "g"),
                         peer = {.kind = JOURNAL_PEER, .number = 100, .slot = 1},
                         refused = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "g"},
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4};
    const struct journal_frame *first[] = {&g, &peer, &refused}, *then[] = {&written};
    struct catchup_config config = {.from = store[0],
                                    .to = store[1],
                                    .to_slot = 1,
                                    .untouched = true,
                                    .live = true,
                                    .peer = same_path};
    struct catchup *c;
    struct why why = {""};

    put(0, "g", "as it was");
    put(1, "g", "as it was");
    g.ino[0] = ino_of(0, "g");
    peer.ino[0] = ino_of(1, "g");
    c = catchup_of(&config);
    add(c, first, 3);
    one_round(c);
    cr_assert_eq(catchup_names_exact(c, &why), 0, "%s", why.text);
    catchup_receives(c, false);
    put(0, "g", "NEW bytes since");
    add(c, then, 1);
    catchup_receives(c, true);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    cr_assert_eq(catchup_pending(c), 0);
    catch_up(c, false, false);
}

/* A folder is removed, and once all names are equal another one is made there, which the source gives its
 * inode: the one that was put aside is not looked after any more. */
Test(heal, a_folder_that_has_the_inode_of_one_that_was_put_aside) {
    struct journal_frame d = BIND_ON(1, 100, DT_DIR, "d"),
                         peer = {.kind = JOURNAL_PEER, .number = 100, .slot = 1},
                         removed = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "d"},
                         changed = {.kind = JOURNAL_ATTR, .number = 100};
    const struct journal_frame *first[] = {&d, &peer, &removed}, *then[] = {&changed};
    struct catchup_config config = {.from = store[0],
                                    .to = store[1],
                                    .to_slot = 1,
                                    .untouched = true,
                                    .live = true,
                                    .peer = same_path};
    struct catchup *c;
    struct why why = {""};

    folder(0, "d");
    folder(1, "d");
    d.ino[0] = ino_of(0, "d");
    peer.ino[0] = ino_of(1, "d");
    rename_in(0, "d", ".holdfast/d");
    c = catchup_of(&config);
    add(c, first, 3);
    one_round(c);
    cr_assert_eq(catchup_names_exact(c, &why), 0, "%s", why.text);
    catchup_receives(c, false);
    add(c, then, 1);
    catchup_receives(c, true);
    rename_in(0, ".holdfast/d", "d");
    folder(1, "d");
    for (int tries = 0; tries < 2; tries++) { /* it may just have moved, at first */
        cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
        catchup_next(c);
    }
    cr_assert_eq(catchup_pending(c), 0);
    catch_up(c, false, false);
}

/* A file that had two names, one after the other, is removed once all names are equal. The source gives its inode
 * to a new file of the one name, the target to a new one of the other: what was told of it goes into neither. */
Test(heal, files_that_have_the_inodes_of_one_that_is_gone) {
    struct journal_frame g = BIND_ON(1, 100, DT_REG, "g"),
                         peer = {.kind = JOURNAL_PEER, .number = 100, .slot = 1},
                         moved = MOVE(100, "g", "k"),
                         written = {.kind = JOURNAL_DATA, .number = 100, .len = 4},
                         removed = {.kind = JOURNAL_NAME, .parent = JOURNAL_ROOT, .name = "k"};
    const struct journal_frame *first[] = {&g, &peer, &moved}, *then[] = {&written};
    struct catchup_config config = {.from = store[0],
                                    .to = store[1],
                                    .to_slot = 1,
                                    .untouched = true,
                                    .live = true,
                                    .peer = same_path};
    struct catchup *c;
    struct why why = {""};

    put(0, "k", "the file");
    put(1, "k", "the file");
    g.ino[0] = ino_of(0, "k");
    peer.ino[0] = ino_of(1, "k");
    c = catchup_of(&config);
    add(c, first, 3);
    one_round(c);
    cr_assert_eq(catchup_names_exact(c, &why), 0, "%s", why.text);
    catchup_receives(c, false);
    add(c, then, 1);
    catchup_receives(c, true);
    rename_in(0, "k", "g");
    for (int s = 0; s < 2; s++) {
        put(s, "g", "new at the one name");
        put(s, "k", "and at the other");
    }
    cr_assert_eq(ino_of(0, "g"), g.ino[0]);
    cr_assert_eq(ino_of(1, "k"), peer.ino[0]);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    catchup_next(c);
    cr_assert_eq(catchup_add(c, &removed), 0);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    catchup_next(c);
    cr_assert_eq(catchup_data(c, &why), 0, "%s", why.text);
    cr_assert_eq(catchup_pending(c), 0);
    catch_up(c, false, false);
}
