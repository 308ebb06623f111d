/* The ring, the marks, and what a stretch of the log says. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal/journal.h"
#include "journal/view.h"

static const struct id volume = {{1, 2, 3}};
static char path[64];
static struct why why;

static struct journal *open_journal(uint64_t position) {
    struct journal_config c = {
        .ring_path = path, .volume = volume, .mount_count = 7, .position = position, .stores = 1};
    struct journal *j;

    (void)snprintf(path, sizeof(path), "/tmp/holdfast-ring-%d", (int)getpid());
    cr_assert_eq(journal_open(&c, &why, &j), 0, "%s", why.text);
    return j;
}

static unsigned count_frames(struct journal *j, uint64_t from, enum journal_kind kind) {
    static uint8_t bytes[1 << 20];
    size_t n = journal_take(j, from, bytes, sizeof(bytes)), at = 0;
    struct journal_frame f;
    unsigned count = 0;

    while (at < n) {
        int size = journal_frame_decode(bytes + at, n - at, &volume, from + at, &f);

        cr_assert_gt(size, 0);
        count += f.kind == kind;
        at += (size_t)size;
    }
    return count;
}

Test(journal, a_window_is_told_once_in_an_epoch) {
    struct journal *j = open_journal(4096);

    cr_assert_neq(journal_mark(j, NULL, 9, 0, 8192), 0);
    cr_assert_eq(journal_mark(j, NULL, 9, 4096, 8192), 0, "the window is hot");
    cr_assert_neq(journal_mark(j, NULL, 9, 5 << 20, 1), 0, "another window");
    cr_assert_eq(count_frames(j, 4096, JOURNAL_HOT), 2);
    cr_assert_eq(count_frames(j, 4096, JOURNAL_DATA), 0, "nobody is away");
    (void)journal_cut(j);
    cr_assert_neq(journal_mark(j, NULL, 9, 0, 1), 0, "a new epoch");
    journal_close(j, true);
}

Test(journal, while_a_member_is_away_blocks_are_told_exactly) {
    struct journal *j = open_journal(4096);

    journal_set_exact(j, true);
    (void)journal_mark(j, NULL, 9, 8192, 4096);
    (void)journal_mark(j, NULL, 9, 8192, 100);
    (void)journal_mark(j, NULL, 9, 12288, 1);
    cr_assert_eq(count_frames(j, 4096, JOURNAL_DATA), 2, "each block once");
    journal_close(j, true);
}

Test(journal, the_ring_of_a_killed_daemon_tells_what_was_under_way) {
    struct journal *j = open_journal(4096);
    struct journal_intent a, b, c;
    struct journal_tail t;

    journal_begin(j, &a);
    (void)journal_append(j, &a,
                         &(struct journal_frame){.kind = JOURNAL_NAME, .parent = 1, .name = "new"});
    journal_begin(j, &b);
    (void)journal_mark(j, &b, 77, 4096, 512);
    journal_begin(j, &c);
    (void)journal_append(
        j, &c, &(struct journal_frame){.kind = JOURNAL_NAME, .parent = 1, .name = "done"});
    journal_end(j, &c);
    journal_close(j, false); /* the file stays, as after kill -9 */
    cr_assert_eq(journal_read_tail(path, &t), 0);
    cr_assert_eq(t.mount_count, 7);
    cr_assert_eq(t.position, 4096);
    cr_assert_eq(t.count, 2);
    cr_assert_eq(t.under_way[0].kind, JOURNAL_NAME);
    cr_assert_str_eq(t.under_way[0].name, "new");
    cr_assert_eq(t.under_way[1].kind, JOURNAL_DATA);
    cr_assert_eq(t.under_way[1].number, 77);
    cr_assert_eq(t.under_way[1].off, 4096);
    journal_tail_release(&t);
    cr_assert_eq(unlink(path), 0);
}

Test(journal, a_ring_that_was_spoiled_or_cut_is_not_gone_by) {
    struct journal *j = open_journal(4096);
    struct journal_tail t;

    journal_spoil(j);
    journal_close(j, false);
    cr_assert_lt(journal_read_tail(path, &t), 0);
    cr_assert_eq(truncate(path, 1000), 0);
    cr_assert_lt(journal_read_tail(path, &t), 0);
    cr_assert_eq(unlink(path), 0);
}

Test(journal, the_ring_goes_around_and_loses_nothing_that_was_not_carried) {
    struct journal *j = open_journal(4096);
    struct journal_frame f = {.kind = JOURNAL_NAME, .parent = 1};
    uint64_t carried = 4096;
    static uint8_t bytes[1 << 20];
    unsigned seen = 0;

    for (unsigned i = 0; i < 200000; i++) {
        (void)snprintf(f.name, sizeof(f.name), "name-%u", i);
        while (!journal_try_append(j, &f)) {
            size_t n;

            while ((n = journal_take(j, carried, bytes, sizeof(bytes))) > 0) {
                seen += count_frames(j, carried, JOURNAL_NAME);
                carried += n;
            }
            journal_carried(j, carried);
        }
    }
    for (size_t n; (n = journal_take(j, carried, bytes, sizeof(bytes))) > 0; carried += n) {
        seen += count_frames(j, carried, JOURNAL_NAME);
    }
    cr_assert_eq(seen, 200000);
    journal_close(j, true);
}

/* --- views --- */

static struct view *view;

static void add(struct journal_frame f) {
    cr_assert_eq(view_add(view, &f), 0);
}

static void bind(uint64_t number, uint64_t parent, const char *name, uint64_t ino) {
    struct journal_frame f = {.kind = JOURNAL_BIND,
                              .number = number,
                              .parent = parent,
                              .type = DT_REG,
                              .peers = 1,
                              .ino = {ino}};

    (void)snprintf(f.name, sizeof(f.name), "%s", name);
    add(f);
}

static void up(void) {
    view = view_new(&volume, 1);
}
static void down(void) {
    view_free(view);
}
TestSuite(view, .init = up, .fini = down);

Test(view, two_numbers_at_one_name_with_one_inode_are_one_object) {
    bind(10, 1, "f", 500);
    bind(11, 1, "f", 500);
    cr_assert_eq(view_find(view, 10), view_find(view, 11));
    bind(12, 1, "g", 501);
    cr_assert_neq(view_find(view, 12), view_find(view, 10));
}

Test(view, an_inode_that_is_used_again_is_another_object) {
    bind(10, 1, "f", 500);
    add((struct journal_frame){
        .kind = JOURNAL_NAME, .parent = 1, .name = "f"}); /* removed, and made anew */
    bind(11, 1, "f", 500);
    cr_assert_neq(view_find(view, 10), view_find(view, 11));
    cr_assert(!view_find(view, 11)->trusted);
    cr_assert(!view_is_somewhere(view_find(view, 10)));
}

Test(view, a_move_takes_the_object_along_and_marks_both_names) {
    bind(10, 1, "f", 500);
    add((struct journal_frame){
        .kind = JOURNAL_MOVE, .number = 10, .parent = 1, .parent2 = 1, .name = "f", .name2 = "g"});
    cr_assert_eq(view_name_at(view, 1, "g")->node, view_find(view, 10));
    cr_assert_null(view_name_at(view, 1, "f")->node);
    cr_assert_eq(view->marked_count, 2);
    cr_assert_eq(view_find(view, 10)->places, 2);
    cr_assert_str_eq(view_find(view, 10)->place[0]->text, "f");
}

Test(view, hot_windows_count_until_the_member_left) {
    bind(10, 1, "f", 500);
    add((struct journal_frame){.kind = JOURNAL_HOT, .number = 10, .off = 0, .len = 1 << 20});
    add((struct journal_frame){.kind = JOURNAL_LEAVE, .slot = 0});
    add((struct journal_frame){.kind = JOURNAL_HOT, .number = 10, .off = 4 << 20, .len = 1 << 20});
    add((struct journal_frame){.kind = JOURNAL_LEAVE, .slot = 1});
    add((struct journal_frame){.kind = JOURNAL_HOT, .number = 10, .off = 8 << 20, .len = 1 << 20});
    add((struct journal_frame){.kind = JOURNAL_DATA, .number = 10, .off = 9 << 20, .len = 4096});
    cr_assert_eq(view_find(view, 10)->ranges, 3);
}

Test(view, what_could_not_be_found_stays_marked_for_the_next_round) {
    add((struct journal_frame){.kind = JOURNAL_NAME, .parent = 1, .name = "a"});
    add((struct journal_frame){.kind = JOURNAL_NAME, .parent = 1, .name = "b"});
    view_name_at(view, 1, "b")->again = true;
    view_clear_marks(view);
    cr_assert_eq(view->marked_count, 1);
    cr_assert_str_eq(view->marked->text, "b");
}
