#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vol/obj.h"

static struct obj_table *table;
static struct obj *root;

static void up(void) {
    cr_assert_eq(obj_table_new(100, 0, &table), 0);
    root = obj_root(table);
}

static void down(void) {
    obj_table_free(table);
}

TestSuite(obj, .init = up, .fini = down);

static struct obj *enter(struct obj *dir, const char *name, uint8_t from, uint64_t ino,
                         mode_t mode) {
    struct stat st = {.st_ino = ino, .st_mode = mode};
    struct obj *o = NULL;

    cr_assert_eq(obj_enter(table, dir, name, from, &st, true, &o), 0);
    return o;
}

Test(obj, two_names_of_one_inode_are_one_object) {
    struct obj *a = enter(root, "a", 0, 7, S_IFREG), *b = enter(root, "b", 0, 7, S_IFREG);

    cr_assert_eq(a, b);
    cr_assert_eq(obj_count(table), 2);
}

Test(obj, an_object_keeps_its_number_when_another_store_is_read) {
    struct obj *a = enter(root, "a", 0, 7, S_IFREG), *again = enter(root, "a", 1, 5000, S_IFREG);

    cr_assert_eq(a, again);
    cr_assert_eq(obj_number(again), 7);
}

Test(obj, numbers_of_different_stores_do_not_collide) {
    struct obj *a = enter(root, "a", 0, 7, S_IFREG), *b = enter(root, "b", 1, 7, S_IFREG);

    cr_assert_neq(a, b);
    cr_assert_neq(obj_number(a), obj_number(b));
}

Test(obj, forgetting_frees_the_object_and_folders_only_it_kept) {
    struct obj *d = enter(root, "d", 0, 2, S_IFDIR), *f = enter(d, "f", 0, 3, S_IFREG);

    obj_forget(table, d, 1);
    cr_assert_eq(obj_count(table), 3, "the file keeps its folder");
    obj_forget(table, f, 1);
    cr_assert_eq(obj_count(table), 1);
}

Test(obj, a_renamed_folder_takes_everything_along) {
    struct obj *d = enter(root, "d", 0, 2, S_IFDIR), *f = enter(d, "f", 0, 3, S_IFREG);
    struct obj *e = enter(root, "e", 0, 4, S_IFDIR);
    struct obj_where file, folder;

    cr_assert_eq(obj_name_moved(table, root, "d", e, "x"), 0);
    cr_assert_eq(obj_where(table, f, &file), 0);
    cr_assert_eq(file.parent, d);
    cr_assert_eq(obj_where(table, d, &folder), 0);
    cr_assert(folder.parent == e && strcmp(folder.name, "x") == 0);
    obj_unpin(table, file.parent);
    obj_unpin(table, folder.parent);
}

Test(obj, a_rename_over_a_name_takes_it_from_its_object) {
    struct obj *a = enter(root, "a", 0, 2, S_IFREG), *b = enter(root, "b", 0, 3, S_IFREG);
    struct obj_where where;

    cr_assert_eq(obj_name_moved(table, root, "a", root, "b"), 0);
    cr_assert_eq(obj_where(table, b, &where), -ENOENT);
    cr_assert_eq(obj_where(table, a, &where), 0);
    cr_assert_str_eq(where.name, "b");
    obj_unpin(table, where.parent);
}

Test(obj, what_was_removed_still_tells_its_last_attributes) {
    struct obj *a = enter(root, "a", 0, 2, S_IFREG);
    struct stat last = {.st_mode = S_IFREG | 0600, .st_nlink = 1, .st_size = 5}, st;

    obj_name_gone(table, root, "a", &last);
    cr_assert(obj_last_attr(table, a, &st));
    cr_assert_eq(st.st_size, 5);
    cr_assert_eq(st.st_nlink, 0);
}

Test(obj, an_inode_number_that_was_given_again_is_a_new_object) {
    struct obj *a = enter(root, "a", 0, 2, S_IFREG), *b;

    obj_name_gone(table, root, "a", NULL);
    b = enter(root, "b", 0, 2, S_IFREG);
    cr_assert_neq(a, b);
}

Test(obj, a_new_file_is_not_the_one_that_is_just_being_removed) {
    struct obj *a = enter(root, "a", 0, 7, S_IFREG), *b;
    struct stat st = {.st_ino = 7, .st_mode = S_IFREG};

    cr_assert_eq(obj_enter_new(table, root, "b", 0, &st, &b), 0);
    cr_assert_neq(b, a, "its inode was given back before its name left the table");
    cr_assert_eq(enter(root, "b", 0, 7, S_IFREG), b);
    cr_assert_eq(enter(root, "c", 0, 7, S_IFREG), b, "two names of one inode");
    obj_name_gone(table, root, "a", &st);
    cr_assert_eq(
        obj_enter_new(table, root, "a", 0, &(struct stat){.st_ino = 8, .st_mode = S_IFREG}, &b), 0);
    cr_assert_neq(b, a);
}

Test(obj, a_new_file_on_a_store_that_came_back_has_no_number_of_another) {
    struct obj *a = enter(root, "a", 0, 7, S_IFREG), *b, *d;

    obj_table_strange(table, 0, true);
    b = enter(root, "b", 0, 7, S_IFREG);
    cr_assert_neq(a, b);
    cr_assert_eq(enter(root, "a", 0, 9, S_IFREG), a);
    cr_assert_eq(obj_number(a), 7);
    cr_assert_neq(obj_number(b), 7);
    cr_assert_eq(enter(root, "c", 0, 7, S_IFREG), b, "two names of one inode");
    obj_table_strange(table, 0, true); /* once more, and it has that inode, too */
    d = enter(root, "d", 0, 7, S_IFREG);
    cr_assert_neq(obj_number(d), obj_number(a));
    cr_assert_neq(obj_number(d), obj_number(b));
    obj_forget(table, a, 2);
    cr_assert_eq(obj_number(enter(root, "b", 0, 7, S_IFREG)), obj_number(b));
}

Test(obj, names_of_one_file_have_one_number_also_where_inodes_say_nothing) {
    struct obj *a, *b;

    obj_table_unstable(table, 1);
    a = enter(root, "a", 1, 7, S_IFREG);
    b = enter(root, "b", 1, 7, S_IFREG);
    cr_assert_eq(obj_number(a), obj_number(b));
    obj_table_strange(table, 1, false);
    cr_assert_eq(obj_number(enter(root, "c", 1, 7, S_IFREG)), obj_number(a));
}

Test(obj, exchanged_names_swap_their_objects) {
    struct obj *a = enter(root, "a", 0, 2, S_IFREG), *b = enter(root, "b", 0, 3, S_IFDIR);
    struct obj *found;

    obj_name_exchanged(table, root, "a", root, "b");
    found = obj_find(table, root, "a");
    cr_assert_eq(found, b);
    obj_unpin(table, found);
    found = obj_find(table, root, "b");
    cr_assert_eq(found, a);
    obj_unpin(table, found);
}

Test(obj, a_hundred_thousand_objects_come_and_go) {
    enum { N = 100000 };
    static struct obj *o[N];
    char name[32];

    for (int i = 0; i < N; i++) {
        (void)snprintf(name, sizeof(name), "file-%d", i);
        o[i] = enter(root, name, 0, 1000 + (uint64_t)i, S_IFREG);
    }
    cr_assert_eq(obj_count(table), N + 1);
    for (int i = 0; i < N; i++) {
        obj_forget(table, o[i], 1);
    }
    cr_assert_eq(obj_count(table), 1);
}
