/* The layer over real stores: the daemon dies after every single change it makes on them; what cannot
 * be kept; what a power cut takes. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "rig.h"

static struct rig rig;

#define OP(op, ...) rig.top->ops->op(rig.top, __VA_ARGS__)

static void up(void) {
    rig_up(&rig, 2);
    rig_snapshots(&rig);
}

static void down(void) {
    rig_down(&rig);
}

TestSuite(snap, .fini = down);

static struct obj *find(const char *path) {
    struct obj *at = rig.root;
    char copy[256], *rest = copy, *word;

    (void)snprintf(copy, sizeof(copy), "%s", path);
    while (at && (word = strsep(&rest, "/"))) {
        struct vol_entry e;

        at = OP(lookup, at, word, &e) == 0 ? e.obj : NULL; /* counts stay: the test ends soon */
    }
    return at;
}

static const char *content(const char *path) {
    static char buf[32768];
    struct obj *obj = find(path);
    struct vol_handle h;
    ssize_t n;

    if (!obj) {
        return "(none)";
    }
    cr_assert_eq(OP(open, obj, O_RDONLY, &rig_cred, &h), 0);
    n = OP(read, obj, h, buf, sizeof(buf) - 1, 0);
    cr_assert_eq(OP(close, obj, h), 0);
    if (n < 0) {
        return "(error)";
    }
    buf[n] = '\0';
    return buf;
}

static struct obj *file(const char *folder, const char *name, const char *text) {
    struct vol_new new = {.mode = S_IFREG | 0644, .cred = &rig_cred};
    struct vol_entry e;
    struct vol_handle h;

    cr_assert_eq(OP(create, *folder ? find(folder) : rig.root, name, &new, O_RDWR, &e, &h), 0);
    cr_assert_eq(OP(write, e.obj, h, text, strlen(text), 0, &rig_cred), (ssize_t)strlen(text));
    cr_assert_eq(OP(close, e.obj, h), 0);
    return e.obj;
}

static void folder(const char *name) {
    struct vol_new new = {.mode = S_IFDIR | 0755, .cred = &rig_cred};
    struct vol_entry e;

    cr_assert_eq(OP(make, rig.root, name, &new, &e), 0);
}

static void snapshot(const char *name) {
    struct why why = {""};
    uint64_t us;

    cr_assert_eq(snap_create(snap_of(rig.top), name, "", 0, &us, &why), 0, "%s", why.text);
    cr_assert_eq(snap_settle(snap_of(rig.top), NULL, &why), 0, "%s", why.text);
}

/* Results are not looked at: the chain may die in any of them. */
static void overwrite(const char *path, const char *text, off_t off) {
    struct obj *obj = find(path);
    struct vol_handle h;

    if (obj && OP(open, obj, O_RDWR, &rig_cred, &h) == 0) {
        (void)OP(write, obj, h, text, strlen(text), off, &rig_cred);
        (void)OP(close, obj, h);
    }
}

static void script(void) {
    struct vol_attr cut = {.set = VOL_SET_SIZE, .size = 2, .cred = &rig_cred};
    struct vol_new new = {.mode = S_IFREG | 0600, .cred = &rig_cred};
    struct obj *d = find("d") ? find("d") : rig.root, *obj; /* it was moved? */
    struct vol_entry e;
    struct vol_handle h;
    struct stat st;

    (void)OP(make, rig.root, "x", &new, &e); /* there is one */
    obj = find("d/b");
    if (obj) {
        (void)OP(link, obj, rig.root, "y", &e);
    }
    overwrite("d/a", "XXXX", 3);
    (void)OP(rename, d, "a", d, "a2", 0);
    (void)OP(rename, d, "b", d, "c", 0);
    (void)OP(unlink, d, "e");
    obj = find("d/f");
    if (obj) {
        (void)OP(setattr, obj, VOL_NO_HANDLE, &cut, &st);
        (void)OP(link, obj, rig.root, "f2", &e);
    }
    (void)OP(unlink, d, "f");
    overwrite("f2", "YYY", 0);
    (void)OP(unlink, rig.root, "f2");
    if (OP(create, d, "e", &new, O_RDWR, &e, &h) == 0) {
        (void)OP(write, e.obj, h, "new", 3, 0, &rig_cred);
        (void)OP(close, e.obj, h);
    }
    overwrite("d/l1", "linked", 0);
    (void)OP(unlink, d, "l1");
    (void)OP(rename, rig.root, "d", rig.root, "moved", 0);
    (void)OP(rename, rig.root, "moved", find("g") ? find("g") : rig.root, "deep", 0);
    (void)OP(rmdir, rig.root, "empty");
    (void)OP(rename, rig.root, "x", rig.root, "y", RENAME_EXCHANGE);
    obj = find("y");
    if (obj && OP(open, obj, O_RDWR | O_TRUNC, &rig_cred, &h) == 0) {
        (void)OP(close, obj, h);
    }
    obj = find("x");
    if (obj) {
        (void)OP(setxattr, obj, "user.k", "after", 5, 0, &rig_cred);
    }
}

static void before(void) {
    struct vol_entry e;

    folder("d");
    folder("g");
    folder("empty");
    (void)file("d", "a", "the a file");
    (void)file("d", "b", "the b file");
    (void)file("d", "c", "the c file");
    (void)file("d", "e", "the e file");
    (void)file("d", "f", "the f file");
    cr_assert_eq(OP(link, file("d", "l1", "two names"), rig.root, "l2", &e), 0);
    cr_assert_eq(OP(setxattr, file("", "x", "the x file"), "user.k", "before", 6, 0, &rig_cred), 0);
    (void)file("", "y", "the y file");
}

static bool harmed(void) {
    struct snap_info *list = NULL;
    int n = snap_list(snap_of(rig.top), &list);
    bool yes = n > 0 && (list[0].entry.flags & SNAP_HARMED);

    free(list);
    return yes;
}

static void check(const char *snapshot_name, unsigned at) {
    static const char *const want[][2] = {
        {"d/a", "the a file"}, {"d/b", "the b file"}, {"d/c", "the c file"}, {"d/e", "the e file"},
        {"d/f", "the f file"}, {"d/l1", "two names"}, {"l2", "two names"},   {"x", "the x file"},
        {"y", "the y file"},   {"f2", "(none)"},      {"d/a2", "(none)"},    {"moved", "(none)"},
        {"g/deep", "(none)"},
    };
    char path[300], value[16];
    struct stat st;

    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        (void)snprintf(path, sizeof(path), ".holdfast/snapshots/%s/%s", snapshot_name, want[i][0]);
        cr_assert_str_eq(content(path), want[i][1], "%s after %u changes: %s", want[i][0], at,
                         content(path));
    }
    (void)snprintf(path, sizeof(path), ".holdfast/snapshots/%s/empty", snapshot_name);
    cr_assert(find(path), "the folder after %u changes", at);
    (void)snprintf(path, sizeof(path), ".holdfast/snapshots/%s/x", snapshot_name);
    cr_assert_eq(OP(getxattr, find(path), "user.k", value, sizeof(value)), 6, "after %u", at);
    (void)snprintf(path, sizeof(path), ".holdfast/snapshots/%s/l2", snapshot_name);
    cr_assert_eq(OP(getattr, find(path), VOL_NO_HANDLE, &st), 0);
    cr_assert_eq(st.st_nlink, 2, "links after %u", at);
}

/* The chain below dies after n changes; as with kill -9, what was done is on the stores. */
Test(snap, is_whole_when_the_daemon_dies_after_any_change, .timeout = 250) {
    bool all = false;

    for (unsigned n = 0; !all; n++) {
        up();
        before();
        snapshot("s");
        vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_CHANGES, .err = -EIO, .after = n});
        script();
        all = vol_fault_hits(rig.gate) == 0;
        vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
        rig_again(&rig);
        cr_assert_not(harmed(), "after %u changes", n);
        check("s", n);
        script(); /* what is known of each file by now still is, whatever it is done to next */
        check("s", n);
        if (!all) {
            down();
        }
    }
}

static struct vol_handle open_file(const char *path, struct obj **ret_obj) {
    struct vol_handle h;

    *ret_obj = find(path);
    cr_assert_eq(OP(open, *ret_obj, O_RDWR, &rig_cred, &h), 0);
    return h;
}

static void write_and_close(struct obj *obj, struct vol_handle h) {
    cr_assert_eq(OP(write, obj, h, "XXXX", 4, 0, &rig_cred), 4);
    cr_assert_eq(OP(close, obj, h), 0);
}

/* The name by which it was opened goes before the cut; nobody looked up the other one. */
Test(snap, keeps_an_open_file_by_a_name_that_nobody_looked_up) {
    struct vol_handle h;
    struct vol_entry e;
    struct obj *obj;

    up();
    cr_assert_eq(OP(link, file("", "l1", "two names"), rig.root, "l2", &e), 0);
    rig_again(&rig);
    h = open_file("l1", &obj);
    cr_assert_eq(OP(unlink, rig.root, "l1"), 0);
    snapshot("s");
    write_and_close(obj, h);
    cr_assert_str_eq(content("l2"), "XXXXnames");
    cr_assert_str_eq(content(".holdfast/snapshots/s/l2"), "two names");
}

/* Replaced in one epoch, written in the next, through a handle from before. */
Test(snap, keeps_an_open_file_that_was_replaced_a_snapshot_ago) {
    struct vol_handle h;
    struct obj *obj;

    up();
    (void)file("", "old", "the old file");
    (void)file("", "new", "the new file");
    snapshot("s1");
    h = open_file("old", &obj);
    cr_assert_eq(OP(rename, rig.root, "new", rig.root, "old", 0), 0);
    snapshot("s2");
    write_and_close(obj, h);
    cr_assert_str_eq(content(".holdfast/snapshots/s1/old"), "the old file");
    cr_assert_str_eq(content(".holdfast/snapshots/s2/old"), "the new file");
    cr_assert_str_eq(content("old"), "the new file");
}

Test(snap, breaks_loudly_and_lets_the_change_go_on_when_nothing_can_be_kept) {
    up();
    before();
    snapshot("s");
    overwrite("d/a", "kept", 0);
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_WRITE, .err = -ENOSPC, .times = 1});
    overwrite("d/b", "B", 0); /* the first write is the log's */
    cr_assert_str_eq(content("d/b"), "Bhe b file");
    cr_assert(harmed());
    cr_assert_not(find(".holdfast/snapshots/s"));
    cr_assert_str_eq(content(".holdfast/snapshots/s.broken/d/a"), "the a file");
    snapshot("next");
    overwrite("d/b", "C", 0);
    cr_assert_str_eq(content(".holdfast/snapshots/next/d/b"), "Bhe b file");
    rig_again(&rig);
    cr_assert(harmed());
    cr_assert_str_eq(content(".holdfast/snapshots/next/d/b"), "Bhe b file");
}

/* Changes are refused while too few stores are ONLINE, and nothing is taken for kept that was not written. */
Test(snap, is_whole_after_changes_that_too_few_stores_refused) {
    struct vol_attr attr = {.set = VOL_SET_MODE, .mode = 0600, .cred = &rig_cred};
    struct vol_new new = {.mode = S_IFREG | 0600, .cred = &rig_cred};
    struct vol_handle h;
    struct vol_entry e;
    struct obj *a;
    struct stat st;

    up();
    before();
    snapshot("s");
    h = open_file("d/a", &a);
    mirror_set_min_stores(mirror_of(rig.vol), 3);
    cr_assert_eq(OP(write, a, h, "XXXX", 4, 0, &rig_cred), -HFE_TOO_FEW);
    cr_assert_eq(OP(setattr, find("d/b"), VOL_NO_HANDLE, &attr, &st), -HFE_TOO_FEW);
    cr_assert_eq(OP(unlink, find("d"), "c"), -HFE_TOO_FEW);
    cr_assert_eq(OP(rename, rig.root, "x", rig.root, "z", 0), -HFE_TOO_FEW);
    cr_assert_eq(OP(link, find("d/f"), rig.root, "f2", &e), -HFE_TOO_FEW);
    cr_assert_eq(OP(make, rig.root, "new", &new, &e), -HFE_TOO_FEW);
    (void)rig.top->ops->sync(rig.top);
    snap_tick(snap_of(rig.top));
    mirror_set_min_stores(mirror_of(rig.vol), 1);
    write_and_close(a, h);
    cr_assert_eq(OP(setattr, find("d/b"), VOL_NO_HANDLE, &attr, &st), 0);
    cr_assert_eq(OP(unlink, find("d"), "c"), 0);
    cr_assert_eq(OP(rename, rig.root, "x", rig.root, "z", 0), 0);
    cr_assert_not(harmed());
    check("s", 0);
    rig_again(&rig);
    cr_assert_not(harmed());
    check("s", 1);
}

/* A store is lost after a change was let in, and too few are left: what the change needs could not be kept
 * on so many. */
Test(snap, is_whole_if_too_few_stores_are_left_while_it_keeps, .timeout = 250) {
    struct vol_new new = {.mode = S_IFREG | 0600, .cred = &rig_cred};
    struct vol_handle h;
    struct vol_entry e;
    struct obj *a;

    for (unsigned k = 0; k < 5; k++) {
        up();
        before();
        snapshot("s");
        h = open_file("d/a", &a);
        vol_fault_set(rig.gate,
                      &(struct fault_plan){.op = FAULT_WRITE, .err = -HFE_TOO_FEW, .times = 1});
        cr_assert_eq(k == 0   ? OP(write, a, h, "XXXX", 4, 0, &rig_cred)
                     : k == 1 ? OP(unlink, find("d"), "c")
                     : k == 2 ? OP(rename, rig.root, "x", rig.root, "z", 0)
                     : k == 3 ? OP(link, find("d/f"), rig.root, "f2", &e)
                              : OP(make, rig.root, "new", &new, &e),
                     -HFE_TOO_FEW, "change %u", k);
        write_and_close(a, h); /* the stores are there again */
        cr_assert_eq(OP(unlink, find("d"), "c"), 0);
        cr_assert_eq(OP(rename, rig.root, "x", rig.root, "z", 0), 0);
        cr_assert_not(harmed(), "change %u", k);
        check("s", k);
        rig_again(&rig);
        cr_assert_not(harmed(), "change %u", k);
        check("s", k);
        cr_assert_not(find("new"));
        if (k < 4) {
            rig_down(&rig);
        }
    }
}

/* The same where a store gives the error. */
Test(snap, is_whole_if_the_store_that_fails_is_one_too_many) {
    struct vol_handle h;
    struct obj *a;

    up();
    before();
    snapshot("s");
    h = open_file("d/a", &a);
    mirror_set_min_stores(mirror_of(rig.vol), 2);
    vol_fault_set(rig.fault[1], &(struct fault_plan){.op = FAULT_WRITE, .err = -EIO, .times = 1});
    cr_assert_eq(OP(write, a, h, "XXXX", 4, 0, &rig_cred), -HFE_TOO_FEW);
    mirror_set_min_stores(mirror_of(rig.vol), 1);
    write_and_close(a, h);
    cr_assert_not(harmed());
    check("s", 0);
}

Test(snap, what_waits_to_be_told_is_told_later_if_too_few_stores_are_left) {
    up();
    before();
    snapshot("s");
    cr_assert_eq(OP(rename, rig.root, "x", rig.root, "z", 0), 0); /* that it is done waits */
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_WRITE, .err = -HFE_TOO_FEW});
    (void)rig.top->ops->sync(rig.top);
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
    cr_assert_eq(OP(rename, rig.root, "z", rig.root, "x", 0), 0);
    overwrite("d/b", "B", 0);
    cr_assert_not(harmed());
    rig_again(&rig);
    cr_assert_not(harmed());
    check("s", 0);
}

/* Behind our back: which file is which by their inodes, nobody can tell. */
static void confuse(const char *store) {
    char f[300], g[300], away[300];
    int fd;

    (void)snprintf(f, sizeof(f), "%s/d/f", store);
    (void)snprintf(g, sizeof(g), "%s/d/g", store);
    (void)snprintf(away, sizeof(away), "%s/d/away", store);
    cr_assert_eq(rename(access(f, F_OK) == 0 ? f : g, away), 0);
    for (int i = 0; i < 2; i++) {
        fd = open(i ? f : g, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        cr_assert(fd >= 0 && close(fd) == 0);
    }
}

/* The daemon died in a rename of which nobody can tell whether it was done. Later mounts do not ask again:
 * names go on changing, and the folder of then is a file by now. */
Test(snap, a_doubt_is_told_once_and_for_all) {
    bool broken = false;

    for (unsigned n = 0; !broken; n++) {
        cr_assert_lt(n, 20, "no doubt arose");
        up();
        folder("d");
        (void)file("d", "f", "the f file");
        snapshot("s");
        vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_CHANGES, .err = -EIO, .after = n});
        (void)OP(rename, find("d"), "f", find("d"), "g", 0);
        vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
        if (!harmed()) {
            for (int i = 0; i < 2; i++) {
                confuse(rig.path[i]);
            }
            rig.cut_off = true; /* else the log would have told of another file */
            rig_again(&rig);
            rig.cut_off = false;
            broken = harmed();
        }
        if (!broken) {
            down();
        }
    }
    cr_assert_eq(OP(unlink, find("d"), "f"), 0);
    cr_assert_eq(OP(unlink, find("d"), "g"), 0);
    cr_assert_eq(OP(unlink, find("d"), "away"), 0);
    cr_assert_eq(OP(rmdir, rig.root, "d"), 0);
    (void)file("", "d", "a file");
    rig_again(&rig);
    cr_assert(harmed());
    snapshot("next");
    cr_assert_str_eq(content(".holdfast/snapshots/next/d"), "a file");
}

Test(snap, damaged_bytes_are_an_error_and_not_an_answer) {
    char path[512];
    uint8_t bytes[4096];
    ssize_t n;
    int fd;

    up();
    (void)file("", "a", "some bytes to be overwritten");
    snapshot("s");
    overwrite("a", "X", 0);
    cr_assert_str_eq(content(".holdfast/snapshots/s/a"), "some bytes to be overwritten");
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%s/.holdfast/snap/1.log", rig.path[i]);
        fd = open(path, O_RDWR | O_CLOEXEC);
        cr_assert_geq(fd, 0);
        n = pread(fd, bytes, sizeof(bytes), 0);
        for (ssize_t k = 0; k + 4 < n; k++) {
            if (memcmp(bytes + k, "some", 4) == 0) {
                cr_assert_eq(pwrite(fd, "SOME", 4, k), 4);
            }
        }
        (void)close(fd);
    }
    cr_assert_str_eq(content(".holdfast/snapshots/s/a"), "(error)");
    cr_assert_str_eq(content("a"), "Xome bytes to be overwritten");
}

/* A file that is open and loses its name between the snapshots one and two is written afterwards. */
static void write_without_a_name(void) {
    struct vol_handle h;
    struct obj *a = file("", "a", "first");

    snapshot("one");
    cr_assert_eq(OP(open, a, O_RDWR, &rig_cred, &h), 0);
    cr_assert_eq(OP(unlink, rig.root, "a"), 0);
    snapshot("two");
    write_and_close(a, h);
}

Test(snap, a_file_without_a_name_keeps_its_bytes_for_each_snapshot) {
    up();
    write_without_a_name();
    cr_assert_str_eq(content(".holdfast/snapshots/one/a"), "first");
    cr_assert_str_eq(content(".holdfast/snapshots/two/a"), "(none)");
}

Test(snap, what_was_not_settled_is_gone_after_a_crash) {
    struct why why = {""};
    uint64_t us;

    up();
    (void)file("", "a", "first");
    snapshot("one");
    overwrite("a", "second", 0);
    cr_assert_eq(snap_create(snap_of(rig.top), "two", "", 0, &us, &why), 0);
    overwrite("a", "third", 0);
    rig_again(&rig);
    cr_assert_str_eq(content(".holdfast/snapshots/one/a"), "first");
    cr_assert_str_eq(content(".holdfast/snapshots/two/a"), "(none)");
    while (snap_reap(snap_of(rig.top))) {
    }
    cr_assert_str_eq(content(".holdfast/snapshots/one/a"), "first");
}

/* How many kept files there are, on a store; with those that have other names, too. */
static unsigned count_kept(bool anchors) {
    char path[256];
    struct dirent *e;
    unsigned n = 0;
    DIR *d;

    (void)snprintf(path, sizeof(path), "%s/.holdfast/snap/kept", rig.path[0]);
    d = opendir(path);
    cr_assert(d);
    while ((e = readdir(d))) {
        n += e->d_name[0] != '.' && (anchors || e->d_name[0] != 'a');
    }
    cr_assert_eq(closedir(d), 0);
    return n;
}

static unsigned kept(void) {
    return count_kept(true);
}

static void reap(void) {
    while (snap_reap(snap_of(rig.top))) {
    }
}

static void destroy(const char *name) {
    struct why why = {""};

    cr_assert_eq(snap_destroy(snap_of(rig.top), name, &why), 0, "%s", why.text);
    reap();
}

Test(snap, kept_files_go_with_the_last_snapshot_that_needs_them) {
    struct snap_info *list = NULL;

    up();
    (void)file("", "a", "the a file");
    (void)file("", "b", "the b file");
    (void)file("", "c", "the c file");
    snapshot("s1");
    cr_assert_eq(OP(unlink, rig.root, "a"), 0);
    snapshot("s2");
    rig_again(&rig); /* nothing was kept in the newest epoch as yet */
    cr_assert_eq(OP(unlink, rig.root, "b"), 0);
    snapshot("s3");
    cr_assert_eq(OP(unlink, rig.root, "c"), 0);
    cr_assert_eq(kept(), 3);
    cr_assert_eq(snap_list(snap_of(rig.top), &list), 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_geq(list[i].used_bytes, 4096, "%d", i);
    }
    free(list);
    destroy("s1");
    cr_assert_eq(kept(), 2);
    cr_assert_str_eq(content(".holdfast/snapshots/s2/b"), "the b file");
    destroy("s3"); /* merged into the one before it, which needs what it kept */
    cr_assert_eq(kept(), 2);
    cr_assert_str_eq(content(".holdfast/snapshots/s2/c"), "the c file");
    destroy("s2");
    cr_assert_eq(kept(), 0);
}

enum { LISTING_BYTES = 256 };

static bool add_name(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    char *all = arg;
    size_t n = strlen(all);

    (void)ino;
    (void)type;
    (void)next;
    return snprintf(all + n, LISTING_BYTES - n, "%s ", name) < (int)(LISTING_BYTES - n);
}

static const char *listing(const char *path) {
    static char all[LISTING_BYTES];
    struct vol_handle h;

    all[0] = '\0';
    cr_assert_eq(OP(opendir, find(path), &h), 0);
    cr_assert_eq(OP(readdir, find(path), h, 0, add_name, all), 0);
    cr_assert_eq(OP(closedir, find(path), h), 0);
    return all;
}

/* The kernel may go on at a position that it read to before. */
Test(snap, lists_a_folder_in_one_order_whatever_becomes_of_it) {
    struct vol_new new = {.mode = S_IFREG | 0600, .cred = &rig_cred};
    struct vol_handle h;
    struct vol_entry e;

    up();
    folder("d");
    (void)file("d", "b", "b");
    (void)file("d", "c", "c");
    (void)file("d", "a", "a");
    snapshot("s");
    cr_assert_str_eq(listing(".holdfast/snapshots/s/d"), ". .. a b c ");
    cr_assert_eq(OP(unlink, find("d"), "b"), 0);
    cr_assert_eq(OP(create, find("d"), "aa", &new, O_RDWR, &e, &h), 0);
    cr_assert_eq(OP(close, e.obj, h), 0);
    cr_assert_str_eq(listing(".holdfast/snapshots/s/d"), ". .. a b c ");
    cr_assert_eq(OP(unlink, find("d"), "a"), 0);
    cr_assert_str_eq(listing(".holdfast/snapshots/s/d"), ". .. a b c ");
}

/* Made since the cut, with two names; one of them is replaced while nobody knows the other, and that one
 * goes: each of them stands for itself. */
Test(snap, lets_a_new_file_of_several_names_go) {
    struct vol_entry e;

    up();
    folder("d");
    snapshot("s");
    cr_assert_eq(OP(link, file("d", "f", "new"), find("d"), "g", &e), 0);
    rig_again(&rig);
    (void)file("d", "h", "newer");
    cr_assert_eq(OP(rename, find("d"), "h", find("d"), "f", 0), 0);
    cr_assert_eq(OP(rename, find("d"), "g", find("d"), "i", 0), 0);
    cr_assert_eq(OP(unlink, find("d"), "i"), 0);
    cr_assert_not(harmed());
    cr_assert_str_eq(listing(".holdfast/snapshots/s/d"), ". .. ");
    cr_assert_str_eq(content("d/f"), "newer");
}

/* On stores without hard links a link is refused, and that is all. */
Test(snap, does_not_break_where_there_are_no_links) {
    struct vol_entry e;

    up();
    (void)file("", "a", "the a file");
    snapshot("s");
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_LINK, .err = -EPERM});
    cr_assert_eq(OP(link, find("a"), rig.root, "b", &e), -EPERM);
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
    cr_assert_not(harmed());
    overwrite("a", "new", 0);
    cr_assert_str_eq(content("a"), "new a file");
    cr_assert_str_eq(content(".holdfast/snapshots/s/a"), "the a file");
}

static void bookmark(const char *name) {
    struct why why = {""};

    cr_assert_eq(snap_bookmark(snap_of(rig.top), name, &why), 0, "%s", why.text);
    reap();
}

/* Bytes on a store, of all logs and kept files. */
static long long kept_bytes(void) {
    char command[300];
    long long bytes = 0;
    FILE *p;

    (void)snprintf(
        command, sizeof(command),
        "find %s/.holdfast/snap -type f -printf '%%s\\n' | awk '{n += $1} END {print n}'",
        rig.path[0]);
    p = popen(command, "re");
    cr_assert(p);
    cr_assert_eq(fscanf(p, "%lld", &bytes), 1);
    cr_assert_eq(pclose(p), 0);
    return bytes;
}

/* What became of the tree that before() makes, as the bookmark "s" has it after script(). */
static void check_bookmark(bool emptied) {
    static const char *const gone[] = {"d/a", "d/e", "d/f", "d/l1", "l2", "x"};
    static const char *const same[][2] = {{"d/b", "the b file"}, {"y", "the y file"}};
    char path[300], value[16];
    struct stat st;

    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
        (void)snprintf(path, sizeof(path), ".holdfast/snapshots/s.bookmark/%s", gone[i]);
        cr_assert_str_eq(emptied || content(path)[0] == '(' ? content(path) : "(error)", "(error)",
                         "%s", path);
        cr_assert_eq(OP(getattr, find(path), VOL_NO_HANDLE, &st), 0);
        cr_assert_eq(st.st_size, i < 3 || i == 5 ? 10 : 9, "%s: %lld", path, (long long)st.st_size);
    }
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        (void)snprintf(path, sizeof(path), ".holdfast/snapshots/s.bookmark/%s", same[i][0]);
        cr_assert_str_eq(content(path), same[i][1], "%s", path);
    }
    cr_assert_eq(OP(getxattr, find(".holdfast/snapshots/s.bookmark/x"), "user.k", value, 16), 6);
    cr_assert_not(find(".holdfast/snapshots/s.bookmark/moved"));
    cr_assert_str_eq(listing(".holdfast/snapshots/s.bookmark"), ". .. d empty g l2 x y ");
    cr_assert_str_eq(listing(".holdfast/snapshots/s.bookmark/d"), ". .. a b c e f l1 ");
}

/* Also when it became one while it was the newest: then nothing is kept in the first place. */
Test(snap, a_bookmark_knows_what_changed_and_keeps_none_of_it) {
    for (int newest = 0; newest < 2; newest++) {
        up();
        before();
        (void)file("g", "large", "");
        overwrite("g/large", "end", 100000);
        snapshot("s");
        if (newest) {
            bookmark("s");
        }
        script();
        for (off_t at = 0; at < 100000; at += 4096) {
            overwrite("g/large", "changed", at);
        }
        cr_assert_eq(OP(unlink, find("g"), "large"), 0);
        snapshot("next");
        if (!newest) {
            cr_assert_gt(kept_bytes(), 100000);
            bookmark("s");
        }
        reap();
        check_bookmark(true);
        cr_assert_lt(kept_bytes(), 20000);
        rig_again(&rig);
        check_bookmark(true);
        overwrite("d/a2", "later", 0); /* of what is newer, the snapshot after it keeps all */
        check_bookmark(true);
        cr_assert_str_eq(content(".holdfast/snapshots/next/g/deep/a2"), "theXXXXile");
        destroy("s");
        cr_assert_str_eq(content(".holdfast/snapshots/next/g/deep/a2"), "theXXXXile");
        down();
    }
    up();
}

Test(snap, a_bookmark_keeps_what_an_older_snapshot_needs) {
    up();
    (void)file("", "a", "first");
    (void)file("", "b", "gone later");
    snapshot("old");
    snapshot("mark");
    overwrite("a", "FIRST", 0);
    cr_assert_eq(OP(unlink, rig.root, "b"), 0);
    snapshot("new");
    bookmark("mark");
    cr_assert_str_eq(content(".holdfast/snapshots/old/a"), "first");
    cr_assert_str_eq(content(".holdfast/snapshots/old/b"), "gone later");
    cr_assert_eq(kept(), 1);
    destroy("old");
    cr_assert_eq(kept(), 0);
    cr_assert_str_eq(content(".holdfast/snapshots/mark.bookmark/a"), "(error)");
    cr_assert_str_eq(content(".holdfast/snapshots/new/a"), "FIRST");
    destroy("new"); /* becomes part of the bookmark's epoch */
    overwrite("a", "third", 0);
    cr_assert_str_eq(content(".holdfast/snapshots/mark.bookmark/b"), "(error)");
    rig_again(&rig);
    cr_assert_str_eq(content(".holdfast/snapshots/mark.bookmark/b"), "(error)");
    cr_assert_not(find(".holdfast/snapshots/mark"));
}

/* Emptying dies after any change; it is begun again. */
Test(snap, a_bookmark_is_whole_when_the_daemon_dies_after_any_change, .timeout = 250) {
    bool all = false;

    for (unsigned n = 0; !all; n++) {
        struct why why = {""};

        up();
        before();
        snapshot("s");
        script();
        snapshot("next");
        cr_assert_eq(snap_bookmark(snap_of(rig.top), "s", &why), 0, "%s", why.text);
        vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_CHANGES, .err = -EIO, .after = n});
        reap();
        all = vol_fault_hits(rig.gate) == 0;
        vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
        rig_again(&rig);
        cr_assert_not(harmed(), "after %u changes", n);
        check_bookmark(false);
        reap();
        check_bookmark(true);
        cr_assert_not(harmed(), "after %u changes", n);
        cr_assert_str_eq(content(".holdfast/snapshots/next/g/deep/e"), "new");
        cr_assert_eq(count_kept(false), 0, "after %u changes", n);
        down();
    }
    up();
}

/* What it kept until now goes, though no other snapshot is made. */
Test(snap, a_bookmark_of_the_newest_gives_back_at_once) {
    struct why why = {""};

    up();
    (void)file("", "a", "first");
    (void)file("", "b", "second");
    (void)file("", "c", "third");
    snapshot("s");
    cr_assert_eq(OP(unlink, rig.root, "a"), 0);
    cr_assert_eq(kept(), 1);
    bookmark("s");
    cr_assert_eq(kept(), 0);
    cr_assert_eq(OP(unlink, rig.root, "b"), 0);
    rig_again(&rig);
    reap();
    overwrite("c", "T", 0);
    cr_assert_str_eq(content(".holdfast/snapshots/s.bookmark/a"), "(error)");
    cr_assert_str_eq(content(".holdfast/snapshots/s.bookmark/b"), "(error)");
    cr_assert_str_eq(content(".holdfast/snapshots/s.bookmark/c"), "(error)");
    cr_assert_eq(kept(), 0);
    rig.cut_off =
        true; /* the newest epoch is nobody's, and that is no reason to break the bookmark */
    cr_assert_eq(snap_settle(snap_of(rig.top), NULL, &why), 0);
    rig_again(&rig);
    cr_assert_not(harmed());
    cr_assert_str_eq(content(".holdfast/snapshots/s.bookmark/a"), "(error)");
}

/* Destroyed while it was the newest: a power cut is no harm to the others. */
Test(snap, a_power_cut_after_the_newest_was_destroyed_breaks_nothing) {
    up();
    (void)file("", "a", "first");
    snapshot("one");
    overwrite("a", "F", 0);
    snapshot("two");
    overwrite("a", "G", 0);
    destroy("two");
    overwrite("a", "H", 0);
    cr_assert_eq(snap_settle(snap_of(rig.top), NULL, NULL), 0);
    rig.cut_off = true;
    rig_again(&rig);
    cr_assert_not(harmed());
    cr_assert_str_eq(content(".holdfast/snapshots/one/a"), "first");
}

/* A file that was open without a name is kept for nobody. */
Test(snap, a_power_cut_after_a_kept_file_went_breaks_nothing) {
    up();
    write_without_a_name();
    destroy("one");
    rig.cut_off = true;
    rig_again(&rig);
    cr_assert_not(harmed());
}

/* The log of an epoch that was merged could not be removed; then the one that contains it is emptied. */
Test(snap, an_emptied_epoch_remembers_what_it_contains) {
    struct why why = {""};

    up();
    before();
    snapshot("s");
    script();
    snapshot("two");
    overwrite("y", "Y", 0);
    snapshot("three");
    cr_assert_eq(snap_destroy(snap_of(rig.top), "two", &why), 0, "%s", why.text);
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_UNLINK, .err = -EIO, .times = 1});
    reap();
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
    bookmark("s");
    rig_again(&rig);
    reap();
    cr_assert_not(harmed());
    cr_assert_eq(count_kept(false), 0);
    cr_assert_str_eq(content(".holdfast/snapshots/s.bookmark/d/e"), "(error)");
}

Test(snap, a_bookmark_is_asked_for_with_care) {
    struct why why = {""};
    uint64_t us;

    up();
    snapshot("s");
    cr_assert_eq(snap_bookmark(snap_of(rig.top), "none", &why), -ENOENT);
    cr_assert_eq(snap_hold(snap_of(rig.top), "s", true, &why), 0);
    cr_assert_eq(snap_bookmark(snap_of(rig.top), "s", &why), -HFE_IN_USE);
    cr_assert_eq(snap_hold(snap_of(rig.top), "s", false, &why), 0);
    bookmark("s");
    cr_assert_eq(snap_create(snap_of(rig.top), "t.bookmark", "", 0, &us, &why), -HFE_USAGE);
    cr_assert_eq(snap_rename(snap_of(rig.top), "s", "s.broken", &why), -HFE_USAGE);
    destroy("s");
    (void)file("", "a", "nothing needs to be kept");
    overwrite("a", "X", 0);
    cr_assert_eq(kept(), 0);
}

/* As many as there may be, and no more; all are there after a remount, and each shows its instant. */
Test(snap, of_which_there_are_as_many_as_there_may_be, .timeout = 250) {
    struct why why = {""};
    char name[32], path[80], text[16];
    struct vol_handle h;
    struct obj *obj;
    uint64_t us;

    up();
    (void)file("", "f", "0000");
    for (unsigned i = 0; i < SNAPSHOTS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "s%u", i);
        cr_assert_eq(snap_create(snap_of(rig.top), name, "", 0, &us, &why), 0, "%s", why.text);
        cr_assert_eq(snap_settle(snap_of(rig.top), NULL, &why), 0, "%s", why.text);
        (void)snprintf(text, sizeof(text), "%04u", i + 1);
        h = open_file("f", &obj);
        cr_assert_eq(OP(write, obj, h, text, 4, 0, &rig_cred), 4);
        cr_assert_eq(OP(close, obj, h), 0);
    }
    cr_assert_lt(snap_create(snap_of(rig.top), "one-more", "", 0, &us, &why), 0);
    cr_assert(strstr(why.text, "1024"), "%s", why.text);
    rig_again(&rig);
    for (unsigned i = 0; i < SNAPSHOTS_MAX; i += 93) {
        (void)snprintf(path, sizeof(path), ".holdfast/snapshots/s%u/f", i);
        (void)snprintf(text, sizeof(text), "%04u", i);
        cr_assert_str_eq(content(path), text);
    }
    cr_assert_eq(snap_destroy(snap_of(rig.top), "s500", &why), 0, "%s", why.text);
    cr_assert_eq(snap_create(snap_of(rig.top), "one-more", "", 0, &us, &why), 0, "%s", why.text);
}
