/* A store whose filesystem lacks things: its superblock says so, which is all that Holdfast goes by. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/io.h"
#include "format/side.h"
#include "heal/tree.h"
#include "store/at.h"
#include "store/side.h"
#include "tree.h"

static char dir[64];
static struct super super;
static const struct cred somebody = {.uid = 1234, .gid = 1235, .umask = 022};
static const uint8_t default_acl[] = {/* user::rwx user:7:rwx group::r-x mask::rwx other::--- */
                                      2,   0,   0,   0,   1,   0,   7,  0,   255, 255, 255,
                                      255, 2,   0,   7,   0,   7,   0,  0,   0,   4,   0,
                                      5,   0,   255, 255, 255, 255, 16, 0,   7,   0,   255,
                                      255, 255, 255, 32,  0,   0,   0,  255, 255, 255, 255};

static char *at(const char *name) {
    static char path[4][256];
    static unsigned turn;
    char *p = path[turn++ % 4];

    (void)snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

/* A new store that lacks `lacks`. */
static struct store *new_store(const char *name, uint32_t lacks) {
    struct store *st;
    struct why why;

    cr_assert_eq(mkdir(at(name), 0755), 0);
    super.store_id = super.member[0].id = id_new();
    cr_assert_eq(store_probe(at(name), &super.member[0].caps, &why), 0);
    super.member[0].caps &= ~lacks;
    cr_assert_eq(store_format(at(name), &super, false, &why), 0);
    cr_assert_eq(store_open(at(name), &why, &st), 0, "%s", why.text);
    return st;
}

static struct store *again(const char *name, struct store *old) {
    struct store *st;
    struct why why;

    store_close(old);
    cr_assert_eq(store_open(at(name), &why, &st), 0, "%s", why.text);
    return st;
}

static void up(void) {
    (void)snprintf(dir, sizeof(dir), "/tmp/holdfast-side-XXXXXX");
    cr_assert(mkdtemp(dir));
    super = (struct super){.volume_id = id_new(), .volume_name = "t", .member_count = 1};
    super.member[0] = (struct super_member){.label = "a", .state = MEMBER_ONLINE};
}

static void down(void) {
    cr_assert_eq(io_remove_tree(AT_FDCWD, dir), 0);
}

TestSuite(side, .init = up, .fini = down);

static void file(int root, const char *name, const char *content) {
    int fd = openat(root, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0640);

    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
    cr_assert_eq(close(fd), 0);
}

/* All that a store may lack, in one tree. */
static void fill(const struct store *st) {
    int root = store_root_fd(st);
    struct timespec t[2] = {{1600000000, 1}, {1600000000, 123456789}};

    cr_assert_eq(mkdirat(root, "d", 02750), 0);
    file(root, "d/f", "hello");
    cr_assert_eq(at_link(root, "d/f", root, "other"), 0);
    cr_assert_eq(at_link(root, "d/f", root, "d/third"), 0);
    cr_assert_eq(symlinkat("/nowhere", root, "sym"), 0);
    cr_assert_eq(at_mknod(root, "fifo", S_IFIFO | 0644, 0), 0);
    cr_assert_eq(at_mknod(root, "socket", S_IFSOCK | 0600, 0), 0);
    cr_assert_eq(
        at_setxattr(root, "d", "system.posix_acl_default", default_acl, sizeof(default_acl), 0), 0);
    cr_assert_eq(at_setxattr(root, "d", "user.k", "v", 1, 0), 0);
    cr_assert_eq(at_setxattr(root, "other", "user.long", default_acl, sizeof(default_acl), 0), 0);
    cr_assert_eq(at_utimes(root, "d/f", -1, t), 0);
    if (geteuid() == 0) {
        cr_assert_eq(at_mknod(root, "null", S_IFCHR | 0666, makedev(1, 3)), 0);
        cr_assert_eq(at_chown(root, "other", -1, 33, 34), 0);
        cr_assert_eq(at_chown(root, "sym", -1, 35, (gid_t)-1), 0);
        cr_assert_eq(at_setxattr(root, "other", "trusted.t", "1", 1, 0), 0);
        cr_assert_eq(at_utimes(root, "d/f", -1, t), 0);
    }
}

static void copy(struct store *from, struct store *to) {
    struct heal_options o = {.all_data = true, .since_s = UINT64_MAX};
    struct copy_stat stat;
    struct why why = {""};

    cr_assert_eq(heal_tree(from, to, &o, &stat, &why), 0, "%s", why.text);
}

static long differences(const char *a, const char *b) {
    struct tree_options t = {.times = true, .differences_max = 10, .out = stderr};

    return tree_compare(at(a), at(b), &t);
}

/* Through a lesser store and back: everything is there, for each thing it may lack, and for all. */
static void there_and_back(uint32_t lacks) {
    struct store *whole = new_store("whole", 0), *lesser = new_store("lesser", lacks);
    struct store *back = new_store("back", 0);

    fill(whole);
    copy(whole, lesser);
    lesser = again("lesser", lesser);
    copy(whole, lesser); /* nothing to do */
    lesser = again("lesser", lesser);
    copy(lesser, back);
    cr_assert_eq(differences("whole", "back"), 0, "lacking %x", lacks);
    store_close(whole);
    store_close(lesser);
    store_close(back);
    down();
    up();
}

Test(side, what_a_store_lacks_comes_back_from_it) {
    there_and_back(STORE_KEPT_ASIDE);
    for (uint32_t cap = 1; cap < STORE_KEPT_ASIDE; cap <<= 1) {
        if (cap & STORE_KEPT_ASIDE) {
            there_and_back(cap);
        }
    }
}

Test(side, a_device_is_a_plain_file_beside_its_entry) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    struct stat seen, there;

    cr_assert_eq(at_mknod(store_root_fd(st), "n", S_IFCHR | 0666, makedev(1, 3)), 0);
    cr_assert_eq(at_stat(store_root_fd(st), "n", -1, &seen), 0);
    cr_assert_eq(lstat(at("s/n"), &there), 0);
    cr_assert(S_ISCHR(seen.st_mode) && seen.st_rdev == makedev(1, 3) && S_ISREG(there.st_mode));
    store_close(st);
}

static uid_t owner(const struct store *st, const char *name) {
    struct stat s;

    cr_assert_eq(at_stat(store_root_fd(st), name, -1, &s), 0, "%s", name);
    return s.st_uid;
}

Test(side, names_take_what_is_kept_along) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    int root = store_root_fd(st);

    cr_assert_eq(mkdirat(root, "a", 0755), 0);
    cr_assert_eq(mkdirat(root, "b", 0755), 0);
    for (int i = 0; i < 4; i++) {
        static const char *const name[] = {"a/1", "a/2", "b/3", "x"};

        file(root, name[i], "");
        cr_assert_eq(at_chown(root, name[i], -1, 101 + (uid_t)i, 7), 0);
    }
    cr_assert_eq(at_rename(root, "a", root, "b/a", 0), 0);
    cr_assert_eq(at_rename(root, "b/a/2", root, "x", 0), 0);
    cr_assert_eq(at_rename(root, "x", root, "b/3", RENAME_EXCHANGE), -EINVAL);
    file(root, "gone", "");
    cr_assert_eq(at_chown(root, "gone", -1, 200, 7), 0);
    cr_assert_eq(at_unlink(root, "gone", 0), 0);
    file(root, "gone", "another");
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(owner(st, "b/a/1"), 101);
        cr_assert_eq(owner(st, "b/3"), 103);
        cr_assert_eq(owner(st, "x"), 102);
        cr_assert_eq(owner(st, "gone"), geteuid());
        st = again("s", st);
    }
    cr_assert_eq(at_remove_tree(store_root_fd(st), "b"), 0);
    cr_assert_eq(mkdirat(store_root_fd(st), "b", 0755), 0);
    file(store_root_fd(st), "b/3", "");
    cr_assert_eq(owner(st, "b/3"), geteuid());
    store_close(st);
}

Test(side, one_name_of_a_file_over_another_does_nothing) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    int root = store_root_fd(st);
    struct stat a, b;

    file(root, "a", "x");
    cr_assert_eq(at_link(root, "a", root, "b"), 0);
    cr_assert_eq(at_rename(root, "a", root, "b", 0), 0);
    cr_assert_eq(at_stat(root, "a", -1, &a), 0);
    cr_assert_eq(at_stat(root, "b", -1, &b), 0);
    cr_assert(a.st_nlink == 2 && a.st_ino == b.st_ino);
    cr_assert_eq(at_unlink(root, "a", 0), 0);
    cr_assert_eq(at_stat(root, "b", -1, &b), 0);
    cr_assert_eq(b.st_nlink, 1);
    store_close(st);
}

/* What Linux does on XFS with the same steps, as root. */
Test(side, new_objects_get_owner_and_acl_as_on_a_local_filesystem) {
    static const uint8_t want[] = {/* user::rw- user:7:rwx group::r-x mask::--- other::r-- */
                                   2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  7,
                                   0, 7, 0,   0,   0,   4,   0,  5, 0,   255, 255, 255, 255, 16, 0,
                                   0, 0, 255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    int d, root = store_root_fd(st);
    uint8_t acl[256];
    struct stat s;

    cr_assert_eq(mkdirat(root, "d", 0755), 0);
    cr_assert_eq(
        at_setxattr(root, "d", "system.posix_acl_default", default_acl, sizeof(default_acl), 0), 0);
    cr_assert_eq(at_chown(root, "d", -1, 50, 51), 0);
    cr_assert_eq(at_chmod(root, "d", -1, 02777), 0);
    d = openat(root, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file(d, "f", "");
    cr_assert_eq(at_made(d, "f", S_IFREG | 0664, &somebody), 0);
    cr_assert_eq(at_stat(d, "f", -1, &s), 0);
    cr_assert(s.st_uid == 1234 && s.st_gid == 51 && (s.st_mode & 07777) == 0660, "%o", s.st_mode);
    cr_assert_eq(at_chmod(d, "f", -1, 0604), 0);
    cr_assert_eq(at_getxattr(d, "f", "system.posix_acl_access", acl, sizeof(acl)), sizeof(want));
    cr_assert_eq(memcmp(acl, want, sizeof(want)), 0);
    cr_assert_eq(mkdirat(d, "sub", 0755), 0);
    cr_assert_eq(at_made(d, "sub", S_IFDIR | 0755, &somebody), 0);
    cr_assert_eq(at_getxattr(d, "sub", "system.posix_acl_default", acl, sizeof(acl)),
                 sizeof(default_acl));
    cr_assert_eq(close(d), 0);
    store_close(st);
}

/* Changes the side file behind the store's back: flips a bit, or ends it there. */
static void damage(off_t off, bool end) {
    int fd = open(at("s/.holdfast/side"), O_RDWR | O_CLOEXEC);
    char c;

    cr_assert_geq(fd, 0);
    if (end) {
        cr_assert_eq(ftruncate(fd, off), 0);
    } else {
        cr_assert_eq(pread(fd, &c, 1, off), 1);
        c ^= 1;
        cr_assert_eq(pwrite(fd, &c, 1, off), 1);
    }
    cr_assert_eq(close(fd), 0);
}

enum { FIRST = SIDE_HEAD_BYTES, SECOND = FIRST + 96 }; /* where their records begin */

static struct store *with_two_owners(bool sync_first) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);

    file(store_root_fd(st), "a", "");
    file(store_root_fd(st), "b", "");
    cr_assert_eq(at_chown(store_root_fd(st), "a", -1, 101, 7), 0);
    if (sync_first) {
        cr_assert_eq(store_sync(st), 0);
    }
    cr_assert_eq(at_chown(store_root_fd(st), "b", -1, 102, 7), 0);
    return st;
}

Test(side, a_torn_end_is_cut_off_and_the_rest_goes_on) {
    store_close(with_two_owners(true));
    damage(SECOND + 40, true);
    struct store *st = again("s", NULL);

    cr_assert_eq(owner(st, "a"), 101);
    cr_assert_eq(owner(st, "b"), geteuid());
    cr_assert_eq(at_chown(store_root_fd(st), "b", -1, 103, 7), 0);
    st = again("s", st);
    cr_assert_eq(owner(st, "b"), 103);
    store_close(st);
}

Test(side, damage_to_a_file_that_was_just_synced_is_refused) {
    struct store *st = with_two_owners(true);
    struct why why;

    for (int anew = 0; anew < 2; anew++) { /* and to one that was just written anew */
        static char value[60000];

        for (int i = 0; anew && i < 600; i++) {
            value[0] = (char)i;
            cr_assert_eq(at_setxattr(store_root_fd(st), "a", "user.k", value, sizeof(value), 0), 0);
        }
        cr_assert_eq(store_sync(st), 0);
        store_close(st);
        damage(FIRST + 40, false);
        cr_assert_eq(store_open(at("s"), &why, &st), -HFE_CORRUPT, "%d", anew);
        damage(FIRST + 40, false);
        st = again("s", NULL);
        cr_assert_eq(owner(st, "b"), 102);
    }
    store_close(st);
}

/* Two chains of folders, each a path, may not become one: it could not be told. */
Test(side, a_folder_is_not_moved_where_paths_get_too_long) {
    struct store *st = new_store("s", STORE_CHOWN);
    int root = store_root_fd(st), at_fd[2];
    char name[201];

    memset(name, 'n', 200);
    name[200] = '\0';
    for (int k = 0; k < 2; k++) {
        at_fd[k] = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (int i = 0; i < 15; i++) {
            int below;

            name[0] = k && i == 0 ? 'm' : 'n';
            cr_assert_eq(mkdirat(at_fd[k], name, 0755), 0);
            below = openat(at_fd[k], name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            cr_assert_geq(below, 0);
            cr_assert_eq(close(at_fd[k]), 0);
            at_fd[k] = below;
        }
        file(at_fd[k], "f", "");
        cr_assert_eq(at_chown(at_fd[k], "f", -1, 101, 7), 0);
    }
    name[0] = 'm';
    cr_assert_eq(at_rename(root, name, at_fd[0], "x", 0), -ENAMETOOLONG);
    cr_assert_eq(store_sync(st), 0);
    st = again("s", st);
    name[0] = 'n';
    cr_assert_eq(at_rename(store_root_fd(st), name, store_root_fd(st), "short", 0), 0);
    store_close(st);
    cr_assert_eq(close(at_fd[0]), 0);
    cr_assert_eq(close(at_fd[1]), 0);
}

Test(side, what_was_never_synced_may_be_missing_in_any_order) {
    struct store *st = with_two_owners(false);

    store_close(st);
    damage(FIRST + 40, false); /* the second record is whole */
    st = again("s", NULL);
    cr_assert_eq(owner(st, "a"), geteuid());
    cr_assert_eq(owner(st, "b"), geteuid());
    store_close(st);
}

Test(side, damage_to_what_was_durable_is_refused) {
    struct store *st = with_two_owners(true);
    struct why why;

    store_close(st);
    damage(FIRST + 40, false);
    cr_assert_eq(store_open(at("s"), &why, &st), -HFE_CORRUPT);
    cr_assert(strstr(why.text, "side"), "%s", why.text);
    cr_assert_eq(unlink(at("s/.holdfast/side")), 0);
    cr_assert_eq(store_open(at("s"), &why, &st), -HFE_CORRUPT, "a missing one is not an empty one");
}

Test(side, a_damaged_one_is_begun_anew_only_when_told) {
    for (int missing = 0; missing < 2; missing++) {
        struct store *st = with_two_owners(true);
        struct why why;

        store_close(st);
        damage(FIRST + 40, false);
        cr_assert_eq(missing ? unlink(at("s/.holdfast/side")) : 0, 0);
        cr_assert_eq(store_open_to_mend(at("s"), &why, &st), 0);
        cr_assert(store_lost_side(st));
        cr_assert_eq(at_chown(store_root_fd(st), "a", -1, 103, 7), -EIO);
        store_close(st);
        cr_assert_eq(store_open(at("s"), &why, &st), -HFE_CORRUPT, "looking changed it");
        cr_assert_eq(store_open_to_mend(at("s"), &why, &st), 0);
        cr_assert_eq(store_begin_side(st), 1);
        cr_assert_eq(store_begin_side(st), 0);
        cr_assert_eq(owner(st, "b"), geteuid());
        cr_assert_eq(at_chown(store_root_fd(st), "a", -1, 103, 7), 0);
        cr_assert_eq(store_sync(st), 0);
        st = again("s", st);
        cr_assert_eq(owner(st, "a"), 103);
        cr_assert_eq(owner(st, "b"), geteuid());
        cr_assert(store_lost_side(st), "it is not whole yet");
        cr_assert_eq(store_side_whole(st, &why), 0);
        cr_assert(!store_lost_side(st));
        store_close(st);
        cr_assert_eq(io_remove_tree(AT_FDCWD, at("s")), 0);
    }
}

/* The daemon is killed between telling that a name moves and telling that it has. */
Test(side, what_was_under_way_counts_if_it_was_done) {
    static const struct {
        enum side_kind kind;
        bool done;
    } cases[] = {{SIDE_MOVE, true}, {SIDE_MOVE, false}, {SIDE_LINK, true}, {SIDE_LINK, false}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct store *st = new_store("s", STORE_KEPT_ASIDE);
        int root = store_root_fd(st);
        bool move = cases[i].kind == SIDE_MOVE;
        char path[PATH_BYTES];
        struct side *side;
        uint64_t token;
        struct stat a;

        cr_assert_eq(mkdirat(root, "d", 0755), 0);
        file(root, "d/f", "");
        cr_assert_eq(at_chown(root, "d/f", -1, 101, 7), 0);
        cr_assert_eq(side_find(root, "d", &side, path), 1);
        cr_assert_eq(side_intend(side, cases[i].kind, move ? "d" : "d/f", "new", &token), 0);
        cr_assert_gt(token, 0);
        if (cases[i].done) {
            cr_assert_eq(move ? rename(at("s/d"), at("s/new")) : link(at("s/d/f"), at("s/new")), 0);
        }
        for (int round = 0; round < 2; round++) { /* settled once, and for good */
            st = again("s", st);
            cr_assert_eq(owner(st, move && cases[i].done ? "new/f" : "d/f"), 101);
            if (!move && cases[i].done) {
                cr_assert_eq(at_stat(store_root_fd(st), "new", -1, &a), 0);
                cr_assert(a.st_uid == 101 && a.st_nlink == 2);
            }
        }
        store_close(st);
        down();
        up();
    }
}

Test(side, a_new_object_has_nothing_of_the_one_before) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    int root = store_root_fd(st);
    struct stat a;

    file(root, "f", "");
    cr_assert_eq(at_link(root, "f", root, "g"), 0);
    cr_assert_eq(at_chown(root, "f", -1, 101, 7), 0);
    cr_assert_eq(unlinkat(root, "f", 0), 0); /* a crash: nobody told */
    cr_assert_eq(at_mknod(root, "f", S_IFIFO | 0600, 0), 0);
    cr_assert_eq(at_stat(root, "g", -1, &a), 0);
    cr_assert(S_ISREG(a.st_mode) && a.st_uid == 101 && a.st_nlink == 1);
    cr_assert_eq(unlinkat(root, "f", 0), 0);
    cr_assert_eq(at_symlink("/x", root, "f"), 0);
    cr_assert_eq(owner(st, "f"), geteuid());
    store_close(st);
}

Test(side, the_file_is_written_anew_before_it_grows_without_bound) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    static char value[60000];
    struct stat size;

    file(store_root_fd(st), "a", "");
    file(store_root_fd(st), "b", "");
    cr_assert_eq(at_link(store_root_fd(st), "a", store_root_fd(st), "c"), 0);
    cr_assert_eq(at_chown(store_root_fd(st), "b", -1, 102, 7), 0);
    for (int i = 0; i < 2000; i++) {
        value[0] = (char)i;
        cr_assert_eq(at_setxattr(store_root_fd(st), "a", "user.k", value, sizeof(value), 0), 0);
        if (i % 100 == 99) { /* less than what is rewritten, from one mount to the next */
            st = again("s", st);
        }
        if (i % 10 == 9) {
            cr_assert_eq(store_sync(st), 0);
        }
    }
    cr_assert_eq(stat(at("s/.holdfast/side"), &size), 0);
    cr_assert_lt(size.st_size, 20 << 20, "%lld", (long long)size.st_size);
    st = again("s", st);
    cr_assert_eq(owner(st, "b"), 102);
    cr_assert_eq(at_getxattr(store_root_fd(st), "c", "user.k", value, sizeof(value)),
                 sizeof(value));
    cr_assert_eq(value[0], (char)1999);
    cr_assert_eq(at_setxattr(store_root_fd(st), "a", "user.l", value, sizeof(value), 0), -ENOSPC);
    store_close(st);
}

/* The file may not grow any more: what takes something away goes on. */
Test(side, a_full_disk_can_be_emptied) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    int root = store_root_fd(st), err = 0;
    struct rlimit old, small;
    struct stat size;
    char name[16];

    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        file(root, name, "");
        cr_assert_eq(at_chown(root, name, -1, 101, 7), 0);
    }
    cr_assert_eq(stat(at("s/.holdfast/side"), &size), 0);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = (rlim_t)size.st_size;
    cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int i = 0; i < 20000 && err == 0; i++) {
        err = at_chown(root, "f0", -1, 102 + (uid_t)i, 7);
    }
    cr_assert_eq(err, -EFBIG);
    for (int i = 0; i < 300; i++) {
        (void)snprintf(name, sizeof(name), "f%d", i);
        cr_assert_eq(at_unlink(root, name, 0), 0, "%s", name);
    }
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    st = again("s", st);
    file(store_root_fd(st), "f1", "");
    cr_assert_eq(owner(st, "f1"), geteuid());
    store_close(st);
}

Test(side, owners_modes_and_setuid_are_not_the_server_users) {
    struct store *st = new_store("s", STORE_KEPT_ASIDE);
    int root = store_root_fd(st);
    struct stat seen, there;

    file(root, "f", "");
    cr_assert_eq(at_chmod(root, "f", -1, 04050), 0);
    cr_assert_eq(at_stat(root, "f", -1, &seen), 0);
    cr_assert_eq(stat(at("s/f"), &there), 0);
    cr_assert(seen.st_mode == (S_IFREG | 04050) && there.st_mode == (S_IFREG | 0650), "%o %o",
              seen.st_mode, there.st_mode);
    cr_assert_eq(at_chmod(root, "f", -1, 06755), 0);
    cr_assert_eq(at_chown(root, "f", -1, 101, 7), 0); /* takes setuid and setgid */
    cr_assert_eq(at_stat(root, "f", -1, &seen), 0);
    cr_assert_eq(seen.st_mode, S_IFREG | 0755, "%o", seen.st_mode);
    store_close(st);
}

Test(side, capabilities_are_named_in_the_order_of_their_bits) {
    for (int i = 0; i < STORE_CAPS; i++) {
        cr_assert_eq(store_cap_table[i].cap, 1 << i);
    }
}
