/* What the mirror says when stores disagree: DESIGN section 4. Real stores below fault volumes. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "journal/view.h"
#include "rig.h"
#include "store/segment.h"

static struct rig rig;

static void up(void) {
    rig_up(&rig, 2);
}
static void down(void) {
    rig_down(&rig);
}
TestSuite(mirror, .init = up, .fini = down);

#define OP(name, ...) rig.vol->ops->name(rig.vol, __VA_ARGS__)

static enum member_state state_of(unsigned i) {
    struct mirror_status s;

    mirror_status(mirror_of(rig.vol), &s);
    return s.member[i].state;
}

static void plan(unsigned store, enum fault_op op, int err, unsigned times) {
    vol_fault_set(rig.fault[store], &(struct fault_plan){.op = op, .err = err, .times = times});
}

static int make_file(const char *name) {
    struct vol_new new = {.mode = S_IFREG | 0644, .cred = &rig_cred};
    struct vol_entry e;
    struct vol_handle h;
    int err = OP(create, rig.root, name, &new, O_RDWR, &e, &h);

    return err < 0 ? err : OP(close, e.obj, h);
}

static bool on_disk(unsigned store, const char *name) {
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/%s", rig.path[store], name);
    return access(path, F_OK) == 0;
}

Test(mirror, every_change_is_on_both_stores_times_included) {
    struct obj *d = rig_mkdir(&rig, rig.root, "d");

    (void)rig_file(&rig, d, "f", "hello");
    cr_assert_eq(OP(rename, d, "f", rig.root, "g", 0), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    cr_assert(rig_super(&rig, 0).clean && rig_super(&rig, 1).clean);
}

Test(mirror, a_device_error_on_one_store_faults_it_durably_before_the_answer) {
    plan(1, FAULT_CREATE, -EIO, 0);
    cr_assert_eq(make_file("f"), 0);
    cr_assert_eq(state_of(1), MEMBER_FAULTED);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(rig_super(&rig, 0).member[1].state, MEMBER_FAULTED);
    cr_assert_eq(rig_super(&rig, 1).member[1].state, MEMBER_ONLINE,
                 "the lost store is not asked to accuse itself");
    cr_assert_eq(rig.witnessed.member[1].state, MEMBER_FAULTED);
    cr_assert_eq(rig_super(&rig, 0).generation_number, 2);
}

Test(mirror, the_preferred_store_may_be_the_one_that_fails) {
    plan(0, FAULT_CREATE, -EIO, 0);
    cr_assert_eq(make_file("f"), 0);
    cr_assert_eq(state_of(0), MEMBER_FAULTED);
    cr_assert(on_disk(1, "f"));
}

Test(mirror, an_object_keeps_its_number_after_failover) {
    struct obj *f = rig_file(&rig, rig.root, "f", "hello");
    struct stat before, after;

    cr_assert_eq(OP(getattr, f, VOL_NO_HANDLE, &before), 0);
    plan(0, FAULT_ALL, -EIO, 0);
    cr_assert_eq(OP(getattr, f, VOL_NO_HANDLE, &after), 0);
    cr_assert_eq(state_of(0), MEMBER_FAULTED);
    cr_assert_eq(before.st_ino, after.st_ino);
    cr_assert_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
}

Test(mirror, a_limit_of_one_store_is_undone_and_ejects_nobody) {
    plan(1, FAULT_CREATE, -ENOSPC, 0);
    cr_assert_eq(make_file("f"), -ENOSPC);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert(!on_disk(0, "f") && !on_disk(1, "f"));
}

Test(mirror, a_rename_that_one_store_cannot_do_is_undone) {
    (void)rig_file(&rig, rig.root, "f", "new");
    (void)rig_file(&rig, rig.root, "g", "old");
    plan(1, FAULT_RENAME, -ENOSPC, 1);
    cr_assert_eq(OP(rename, rig.root, "f", rig.root, "g", 0), -ENOSPC);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    cr_assert(on_disk(0, "f") && on_disk(0, "g"));
}

Test(mirror, a_write_that_one_store_has_no_room_for_leaves_the_old_bytes_on_both) {
    struct obj *f = rig_file(&rig, rig.root, "f", "old bytes");
    struct vol_handle h;
    char buf[32] = "";

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(1, FAULT_WRITE, -ENOSPC, 1);
    cr_assert_eq(OP(write, f, h, "NEW", 3, 4, &rig_cred), -ENOSPC);
    cr_assert_eq(OP(read, f, h, buf, sizeof(buf), 0), 9);
    cr_assert_str_eq(buf, "old bytes");
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, a_short_write_on_one_store_is_the_answer_and_both_are_equal) {
    struct obj *f = rig_file(&rig, rig.root, "f", "0123456789");
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[1], &(struct fault_plan){.op = FAULT_WRITE, .short_by = 3});
    cr_assert_eq(OP(write, f, h, "abcdefghijklm", 13, 0, &rig_cred), 10);
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, the_same_error_everywhere_is_the_answer_and_blames_nobody) {
    plan(0, FAULT_CREATE, -EIO, 0);
    plan(1, FAULT_CREATE, -EIO, 0);
    cr_assert_eq(make_file("f"), -EIO);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
}

Test(mirror, our_own_shortage_is_retried) {
    plan(1, FAULT_CREATE, -EMFILE, 2);
    cr_assert_eq(make_file("f"), 0);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, a_failed_fsync_faults_the_store_and_is_not_tried_again) {
    struct obj *f = rig_file(&rig, rig.root, "f", "x");
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(1, FAULT_FSYNC, -EIO, 1);
    cr_assert_eq(OP(fsync, f, h, false), 0);
    cr_assert_eq(vol_fault_calls(rig.fault[1]), 1);
    cr_assert_eq(state_of(1), MEMBER_FAULTED);
    cr_assert_eq(OP(close, f, h), 0);
}

Test(mirror, an_fsync_that_fails_on_all_is_an_error) {
    struct obj *f = rig_file(&rig, rig.root, "f", "x");
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(0, FAULT_FSYNC, -EIO, 1);
    plan(1, FAULT_FSYNC, -ENOSPC, 1);
    cr_assert_eq(OP(fsync, f, h, false), -EIO);
    cr_assert_eq(OP(close, f, h), 0);
}

Test(mirror, data_that_one_store_cannot_read_is_mended_from_the_other) {
    struct obj *f = rig_file(&rig, rig.root, "f", "precious");
    struct vol_handle h;
    char buf[16] = "";

    cr_assert_eq(OP(open, f, O_RDONLY, &rig_cred, &h), 0);
    plan(0, FAULT_READ, -EIO, 1);
    cr_assert_eq(OP(read, f, h, buf, 8, 0), 8);
    cr_assert_str_eq(buf, "precious");
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(OP(close, f, h), 0);
}

Test(mirror, a_store_that_is_gone_is_faulted_by_a_read) {
    struct obj *f = rig_file(&rig, rig.root, "f", "precious");
    struct vol_handle h;
    char buf[16] = "";

    cr_assert_eq(OP(open, f, O_RDONLY, &rig_cred, &h), 0);
    plan(0, FAULT_ALL, -ENOTCONN, 0);
    cr_assert_eq(OP(read, f, h, buf, 8, 0), 8);
    cr_assert_str_eq(buf, "precious");
    cr_assert_eq(state_of(0), MEMBER_FAULTED);
    cr_assert_eq(OP(close, f, h), 0);
}

Test(mirror, a_change_that_too_few_stores_refuse_touches_none) {
    struct obj *f = rig_file(&rig, rig.root, "f", "old bytes");
    struct mirror_status s;
    struct vol_handle h;
    char buf[32] = "";

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(0, FAULT_CREATE, -EIO, 1);
    cr_assert_eq(make_file("g"), 0);
    cr_assert_eq(state_of(0), MEMBER_FAULTED);
    mirror_set_min_stores(mirror_of(rig.vol), 2);
    cr_assert_eq(OP(write, f, h, "NEW", 3, 4, &rig_cred), -HFE_TOO_FEW);
    cr_assert_eq(OP(fallocate, f, h, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 9, &rig_cred),
                 -HFE_TOO_FEW);
    cr_assert_eq(make_file("i"), -HFE_TOO_FEW);
    cr_assert_eq(OP(read, f, h, buf, sizeof(buf), 0), 9);
    cr_assert_str_eq(buf, "old bytes");
    mirror_status(mirror_of(rig.vol), &s);
    cr_assert(!s.unequal, "a hole that was refused was copied from a store that had left");
    cr_assert(!on_disk(1, "i"));
    cr_assert_eq(OP(close, f, h), 0);
}

Test(mirror, a_store_that_fails_to_sync_leaves_also_if_too_few_are_left_then) {
    struct obj *f = rig_file(&rig, rig.root, "f", "hello");
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    mirror_set_min_stores(mirror_of(rig.vol), 2);
    plan(1, FAULT_FSYNC, -EIO, 1);
    cr_assert_eq(OP(fsync, f, h, false), -EIO);
    cr_assert_eq(state_of(1), MEMBER_FAULTED, "its next fsync would say 0");
    cr_assert_eq(OP(close, f, h), 0);
}

Test(mirror, a_loss_that_cannot_be_recorded_is_not_acknowledged) {
    rig.witness_err = -ENOSPC;
    plan(1, FAULT_CREATE, -EIO, 0);
    cr_assert_eq(make_file("f"), -EIO);
    cr_assert_eq(make_file("g"), -EROFS, "the volume is read-only then");
}

Test(mirror, the_last_store_is_never_faulted) {
    plan(1, FAULT_CREATE, -EIO, 0);
    cr_assert_eq(make_file("f"), 0);
    plan(0, FAULT_CREATE, -EIO, 1);
    cr_assert_eq(make_file("g"), -EIO);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(make_file("h"), 0);
}

Test(mirror, a_stray_object_on_one_store_is_moved_aside_and_repaired) {
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/f", rig.path[1]);
    cr_assert_eq(mkdir(path, 0755), 0);
    cr_assert_eq(make_file("f"), 0);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    cr_assert(on_disk(1, ".holdfast/lost/0.f"), "nothing is deleted by a repair");
}

Test(mirror, an_object_that_one_store_lacks_is_copied_back) {
    struct obj *f = rig_file(&rig, rig.root, "f", "hello");
    struct vol_attr attr = {.set = VOL_SET_MODE, .mode = 0600, .cred = &rig_cred};
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/f", rig.path[1]);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(OP(setattr, f, VOL_NO_HANDLE, &attr, NULL), 0);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, an_open_file_without_a_name_is_kept_on_both_stores_until_it_is_closed) {
    struct obj *f = rig_file(&rig, rig.root, "f", "hello");
    struct vol_handle h;
    struct stat st;
    char buf[8] = "", name[64];

    cr_assert_eq(OP(open, f, O_RDONLY, &rig_cred, &h), 0);
    cr_assert_eq(OP(unlink, rig.root, "f"), 0);
    (void)snprintf(name, sizeof(name), ".holdfast/open/%llu", (unsigned long long)f->id);
    cr_assert(on_disk(0, name) && on_disk(1, name));
    cr_assert_eq(OP(getattr, f, h, &st), 0);
    cr_assert_eq(st.st_nlink, 0);
    plan(0, FAULT_ALL, -EIO, 0); /* the handle was only open there */
    cr_assert_eq(OP(read, f, h, buf, 5, 0), 5);
    cr_assert_str_eq(buf, "hello");
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert(!on_disk(1, name));
}

Test(mirror, our_folder_is_not_there_for_users) {
    struct vol_new new = {.mode = S_IFDIR | 0755, .cred = &rig_cred};
    struct vol_entry e;

    cr_assert_eq(OP(lookup, rig.root, STORE_FOLDER, &e), -ENOENT);
    cr_assert_eq(OP(make, rig.root, STORE_FOLDER, &new, &e), -EPERM);
    cr_assert_eq(OP(rmdir, rig.root, STORE_FOLDER), -EPERM);
    cr_assert_eq(OP(rename, rig.root, STORE_FOLDER, rig.root, "x", 0), -EPERM);
}

Test(mirror, folders_deeper_than_the_descriptor_cache_work) {
    enum { DEPTH = 200 }; /* the rig caches 32 */
    struct obj *d = rig.root, *f;
    struct stat st;

    for (int i = 0; i < DEPTH; i++) {
        d = rig_mkdir(&rig, d, "d");
    }
    f = rig_file(&rig, d, "f", "deep");
    (void)rig_mkdir(&rig, rig.root, "e");
    cr_assert_eq(OP(getattr, f, VOL_NO_HANDLE, &st), 0);
    cr_assert_eq(st.st_size, 4);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

static bool collect(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    uint64_t *at = arg;

    (void)name;
    (void)ino;
    (void)type;
    at[0] = next;
    return --at[1] > 0;
}

Test(mirror, a_folder_being_read_keeps_its_positions_while_names_come_and_go) {
    struct vol_handle h;
    uint64_t at[2] = {0, 10}, seen = 10;
    char name[32];

    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        cr_assert_eq(make_file(name), 0);
    }
    cr_assert_eq(OP(opendir, rig.root, &h), 0);
    cr_assert_eq(OP(readdir, rig.root, h, 0, collect, at), 0);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        cr_assert_eq(OP(unlink, rig.root, name), 0);
    }
    plan(0, FAULT_ALL, -EIO, 0); /* and the store it was read from goes away */
    for (uint64_t last = 0; at[0] != last; seen += 1000 - at[1]) {
        last = at[0];
        at[1] = 1000;
        cr_assert_eq(OP(readdir, rig.root, h, at[0], collect, at), 0);
    }
    cr_assert_eq(seen, 102, "100 files, . and .., each once");
    cr_assert_eq(OP(closedir, rig.root, h), 0);
}

Test(mirror, what_a_store_cannot_hold_is_there_when_it_serves_alone) {
    struct obj *f;
    char buf[8];

    rig_down(&rig);
    rig_up_lesser(&rig, 2, STORE_XATTR_USER);
    f = rig_file(&rig, rig.root, "f", "x");
    cr_assert_eq(OP(setxattr, f, "user.k", "v", 1, 0, &rig_cred), 0);
    plan(0, FAULT_ALL, -EIO, 0);
    cr_assert_eq(OP(getxattr, f, "user.k", buf, sizeof(buf)), 1);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
}

Test(mirror, a_large_write_that_comes_out_shorter_on_one_store_is_made_even) {
    enum { SIZE = 1 << 20 };
    struct obj *f = rig_file(&rig, rig.root, "f", "old");
    char *buf = calloc(1, SIZE);
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[0], &(struct fault_plan){.op = FAULT_WRITE, .short_by = 1000});
    cr_assert_eq(OP(write, f, h, buf, SIZE, 0, &rig_cred), SIZE - 1000);
    vol_fault_set(rig.fault[0], &(struct fault_plan){0});
    plan(1, FAULT_WRITE, -ENOSPC, 1);
    cr_assert_eq(OP(write, f, h, buf, SIZE, SIZE, &rig_cred), -ENOSPC);
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    free(buf);
}

/* One store takes a part of a write that would make the file longer, the other has no room for any. */
static void undo_a_short_one(unsigned shorter, size_t size) {
    struct obj *f = rig_file(&rig, rig.root, "f", "old");
    char *buf = calloc(1, size);
    struct vol_handle h;
    struct stat st;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[shorter],
                  &(struct fault_plan){.op = FAULT_WRITE, .short_by = size / 2});
    plan(!shorter, FAULT_WRITE, -ENOSPC, 0);
    cr_assert_eq(OP(write, f, h, buf, size, 0, &rig_cred), -ENOSPC);
    cr_assert_eq(OP(getattr, f, h, &st), 0);
    cr_assert_eq(st.st_size, 3);
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    free(buf);
}

Test(mirror, what_one_store_took_of_a_large_write_is_undone) {
    undo_a_short_one(1, 1 << 20);
}
Test(mirror, what_the_reader_took_of_a_large_write_is_undone) {
    undo_a_short_one(0, 1 << 20);
}
Test(mirror, what_one_store_took_of_a_small_write_is_undone) {
    undo_a_short_one(1, 100);
}
Test(mirror, what_the_reader_took_of_a_small_write_is_undone) {
    undo_a_short_one(0, 100);
}

Test(mirror, small_writes_that_come_out_short_unevenly_are_made_even) {
    struct obj *f = rig_file(&rig, rig.root, "f", "old");
    char buf[100] = "";
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[0], &(struct fault_plan){.op = FAULT_WRITE, .short_by = 30});
    vol_fault_set(rig.fault[1], &(struct fault_plan){.op = FAULT_WRITE, .short_by = 30});
    cr_assert_eq(OP(write, f, h, buf, sizeof(buf), 0, &rig_cred), 40);
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, nobody_is_blamed_when_one_store_is_full_and_the_other_breaks) {
    struct obj *f = rig_file(&rig, rig.root, "f", "old");
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(0, FAULT_WRITE, -EIO, 1);
    plan(1, FAULT_WRITE, -ENOSPC, 1);
    cr_assert_eq(OP(write, f, h, "x", 1, 0, &rig_cred), -ENOSPC);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert(!rig_super(&rig, 0).clean, "the next mount compares");
}

/* A full store takes what it still can: the writer gets all of it into the others. */
Test(mirror, a_store_that_gets_full_within_a_write_is_dropped) {
    struct fault_plan part = {
        .op = FAULT_WRITE, .err = -ENOSPC, .after = 1, .short_by = 60, .no_room = true};
    char buf[100] = "";
    struct vol_handle h;
    struct obj *f;

    rig.policy.drop_full = true;
    rig_again(&rig);
    f = rig_file(&rig, rig.root, "f", "old");
    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[1], &part);
    cr_assert_eq(OP(write, f, h, buf, sizeof(buf), 0, &rig_cred), (ssize_t)sizeof(buf));
    cr_assert_eq(state_of(1), MEMBER_FAULTED);
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(OP(close, f, h), 0);
}

/* Large writes go to all stores at once, small ones to one after the other. */
static void drop_the_full_one(unsigned full, size_t size) {
    struct fault_plan no_room = {.op = FAULT_WRITE, .err = -ENOSPC, .no_room = true};
    char *buf = calloc(1, size);
    struct vol_handle h;
    struct vol_entry e;
    struct obj *f;

    rig.policy.drop_full = true;
    rig_again(&rig);
    f = rig_file(&rig, rig.root, "f", "old");
    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[full], &(struct fault_plan){.op = FAULT_WRITE, .err = -ENOSPC});
    cr_assert_eq(OP(write, f, h, buf, size, 0, &rig_cred), -ENOSPC, "a limit, with room left");
    cr_assert_eq(state_of(full), MEMBER_ONLINE);
    vol_fault_set(rig.fault[full], &no_room);
    vol_fault_set(rig.fault[!full], &no_room);
    cr_assert_eq(OP(write, f, h, buf, size, 0, &rig_cred), -ENOSPC, "both are full");
    cr_assert_eq(state_of(0), MEMBER_ONLINE);
    cr_assert_eq(state_of(1), MEMBER_ONLINE);
    cr_assert_eq(OP(close, f, h), 0);

    rig_again(&rig);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    cr_assert_eq(OP(lookup, rig.root, "f", &e), 0);
    f = e.obj;
    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    vol_fault_set(rig.fault[full], &no_room);
    cr_assert_eq(OP(write, f, h, buf, size, 0, &rig_cred), (ssize_t)size);
    cr_assert_eq(state_of(full), MEMBER_FAULTED);
    cr_assert_eq(state_of(!full), MEMBER_ONLINE);
    cr_assert_eq(OP(close, f, h), 0);
    free(buf);
}

Test(mirror, a_full_store_is_dropped_by_a_large_write) {
    drop_the_full_one(1, 1 << 20);
}
Test(mirror, a_full_reader_is_dropped_by_a_large_write) {
    drop_the_full_one(0, 1 << 20);
}
Test(mirror, a_full_store_is_dropped_by_a_small_write) {
    drop_the_full_one(1, 100);
}
Test(mirror, a_full_reader_is_dropped_by_a_small_write) {
    drop_the_full_one(0, 100);
}

Test(mirror, setuid_goes_when_somebody_else_writes) {
    static const struct cred other = {.uid = 1234, .gid = 1234};
    struct obj *f = rig_file(&rig, rig.root, "f", "x");
    struct vol_attr attr = {.set = VOL_SET_MODE, .mode = 06755, .cred = &rig_cred};
    struct vol_handle h;
    struct stat st;

    cr_assert_eq(OP(setattr, f, VOL_NO_HANDLE, &attr, NULL), 0);
    cr_assert_eq(OP(open, f, O_RDWR, &other, &h), 0);
    cr_assert_eq(OP(write, f, h, "y", 1, 0, &rig_cred), 1);
    cr_assert_eq(OP(getattr, f, h, &st), 0);
    cr_assert(st.st_mode & S_ISUID, "root may keep it");
    cr_assert_eq(OP(write, f, h, "y", 1, 0, &other), 1);
    cr_assert_eq(OP(getattr, f, h, &st), 0);
    cr_assert_eq(st.st_mode & (S_ISUID | S_ISGID), 0);
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, a_size_that_one_store_cannot_have_ejects_nobody) {
    struct obj *f = rig_file(&rig, rig.root, "f", "content");
    struct vol_attr attr = {.set = VOL_SET_SIZE, .size = 1 << 20, .cred = &rig_cred};
    struct vol_handle h;
    struct stat st;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    for (unsigned i = 0; i < 2; i++) {
        plan(i, FAULT_SETATTR, -EFBIG, 1);
        cr_assert_eq(OP(setattr, f, h, &attr, NULL), -EFBIG);
        cr_assert_eq(OP(setattr, f, VOL_NO_HANDLE, &attr, NULL), 0);
        attr.size = 7;
        cr_assert_eq(OP(setattr, f, h, &attr, &st), 0);
        attr.size = 1 << 20;
        cr_assert_eq(state_of(0), MEMBER_ONLINE);
        cr_assert_eq(state_of(1), MEMBER_ONLINE);
    }
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

Test(mirror, a_large_write_that_the_preferred_store_cannot_take_is_taken_back) {
    enum { SIZE = 1 << 20 };
    struct obj *f = rig_file(&rig, rig.root, "f", "old");
    char *buf = calloc(1, SIZE), back[4] = "";
    struct vol_handle h;

    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(0, FAULT_WRITE, -EFBIG, 1);
    cr_assert_eq(OP(write, f, h, buf, SIZE, 0, &rig_cred), -EFBIG);
    cr_assert_eq(OP(read, f, h, back, 4, 0), 3);
    cr_assert_str_eq(back, "old");
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
    free(buf);
}

Test(mirror, stores_that_may_differ_are_not_marked_clean) {
    plan(0, FAULT_CREATE, -EIO, 1);
    plan(1, FAULT_CREATE, -EIO, 1);
    cr_assert_eq(make_file("f"), -EIO);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert(!rig_super(&rig, 0).clean && !rig_super(&rig, 1).clean);
}

Test(mirror, a_store_without_room_to_park_a_file_still_lets_it_go) {
    struct obj *f = rig_file(&rig, rig.root, "f", "one");
    struct vol_handle h;

    (void)rig_file(&rig, rig.root, "g", "two");
    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(1, FAULT_LINK, -ENOSPC, 1);
    cr_assert_eq(OP(rename, rig.root, "g", rig.root, "f", 0), 0);
    cr_assert_eq(vol_fault_hits(rig.fault[1]), 1);
    cr_assert_eq(OP(close, f, h), 0);
    f = rig_file(&rig, rig.root, "h", "three");
    cr_assert_eq(OP(open, f, O_RDWR, &rig_cred, &h), 0);
    plan(1, FAULT_RENAME, -ENOSPC, 1);
    cr_assert_eq(OP(unlink, rig.root, "h"), 0);
    cr_assert_eq(vol_fault_hits(rig.fault[1]), 1);
    cr_assert(!on_disk(0, "h") && !on_disk(1, "h"));
    cr_assert_eq(OP(close, f, h), 0);
    cr_assert_eq(mirror_stop(mirror_of(rig.vol)), 0);
    cr_assert_eq(rig_differences(&rig, 0, 1), 0);
}

/* A snapshot showed the times of the store that was read then. */
Test(mirror, what_is_made_durable_has_the_same_times_on_both) {
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    struct obj *d = rig_mkdir(&rig, rig.root, "d");
    struct stat one, two;
    char path[300];

    (void)rig_file(&rig, d, "f", "hello");
    (void)snprintf(path, sizeof(path), "%s/d", rig.path[1]);
    cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0); /* as if it had been stamped later */
    cr_assert_eq(rig.vol->ops->sync(rig.vol), 0);
    cr_assert_eq(stat(path, &two), 0);
    (void)snprintf(path, sizeof(path), "%s/d", rig.path[0]);
    cr_assert_eq(stat(path, &one), 0);
    cr_assert_eq(one.st_mtim.tv_sec, two.st_mtim.tv_sec);
    cr_assert_eq(one.st_mtim.tv_nsec, two.st_mtim.tv_nsec);
}

static int add_to_view(void *arg, const struct journal_frame *f) {
    return view_add(arg, f);
}

/* What the journal says. To be freed. */
static struct view *view_of_log(void) {
    struct view *view = view_new(&rig.super.volume_id, -1);
    uint64_t first = store_log_first(rig_store(&rig, 0));

    cr_assert(view);
    cr_assert_eq(store_log_read(rig_store(&rig, 0), first, mirror_log_flush(mirror_of(rig.vol)),
                                add_to_view, view),
                 0);
    return view;
}

/* A store that catches up finds the file's bytes by it. */
Test(mirror, the_journal_knows_the_further_names_of_a_file) {
    struct obj *f = rig_file(&rig, rig.root, "f", "one"), *h;
    struct vol_handle open;
    struct vol_entry e;
    struct view *view;
    unsigned parked = 0;

    cr_assert_eq(OP(link, f, rig.root, "g", &e), 0);
    cr_assert_eq(OP(unlink, rig.root, "f"), 0);
    h = rig_file(&rig, rig.root, "h", "two");
    (void)rig_file(&rig, rig.root, "i", "three");
    cr_assert_eq(OP(open, h, O_RDWR, &rig_cred, &open), 0);
    cr_assert_eq(OP(rename, rig.root, "i", rig.root, "h", 0), 0);
    view = view_of_log();
    cr_assert_not_null(view_name_at(view, JOURNAL_ROOT, "g")->node);
    cr_assert(view_name_at(view, JOURNAL_ROOT, "g")->node->linked);
    for (const struct view_node *n = view->nodes; n; n = n->next) {
        for (unsigned i = 0; i < n->places; i++) {
            parked += n->place[i]->parent == JOURNAL_PARKED && n->place[i]->node == n;
        }
    }
    cr_assert_eq(parked, 1);
    view_free(view);
    cr_assert_eq(OP(close, h, open), 0);
}

/* After kill -9 the journal alone says where things are (a store that just came back was never asked). */
Test(mirror, the_journal_knows_that_a_refused_change_of_names_changed_nothing) {
    struct obj *d = rig_mkdir(&rig, rig.root, "d"), *e = rig_mkdir(&rig, rig.root, "e");
    struct view_node *nd, *ne, *nf, *ng;
    struct view *view;

    (void)rig_file(&rig, d, "f", "in d");
    (void)rig_file(&rig, e, "g", "in e");
    cr_assert_eq(OP(rename, rig.root, "d", rig.root, "e", 0), -ENOTEMPTY);
    cr_assert_eq(OP(rmdir, rig.root, "d"), -ENOTEMPTY);
    plan(0, FAULT_RENAME, -ENOSPC, 2);
    cr_assert_eq(OP(rename, d, "f", e, "g", 0), -ENOSPC);
    cr_assert_eq(OP(rename, d, "f", e, "g", RENAME_EXCHANGE), -ENOSPC);
    cr_assert_eq(vol_fault_hits(rig.fault[0]), 2);

    view = view_of_log();
    nd = view_name_at(view, JOURNAL_ROOT, "d")->node;
    ne = view_name_at(view, JOURNAL_ROOT, "e")->node;
    cr_assert(nd && ne && nd != ne);
    nf = view_name_at(view, nd->number, "f")->node;
    ng = view_name_at(view, ne->number, "g")->node;
    cr_assert(nf && ng && nf != ng);
    view_free(view);
}

static void checkpoint(void) {
    cr_assert_eq(mirror_checkpoint(mirror_of(rig.vol)), 0);
}

static int count_attr(void *arg, const struct journal_frame *f) {
    unsigned *n = arg;

    *n += f->kind == JOURNAL_ATTR;
    return 0;
}

/* A folder's times are just being set on a store when a checkpoint comes by, and then the store fails:
 * its catch-up must know of that folder. */
Test(mirror, times_that_are_being_made_equal_at_a_checkpoint_are_told_behind_it) {
    struct super_member left;
    unsigned told = 0;

    checkpoint();
    (void)rig_mkdir(&rig, rig.root, "d");
    vol_fault_set(
        rig.fault[1],
        &(struct fault_plan){.op = FAULT_SETATTR, .err = -EIO, .times = 1, .at = checkpoint});
    cr_assert_eq(mirror_checkpoint(mirror_of(rig.vol)), 0);
    left = rig_super(&rig, 0).member[1];
    cr_assert_eq(left.state, MEMBER_FAULTED);
    cr_assert_gt(left.position, 0);
    cr_assert_eq(store_log_read(rig_store(&rig, 0), left.position,
                                mirror_log_flush(mirror_of(rig.vol)), count_attr, &told),
                 0);
    cr_assert_eq(told, 1, "%u", told);
}
