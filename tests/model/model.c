/* The model test: random operations on the mirror and on a volume in memory, which must give the
 * same answers all the way, the same tree at the end, and stores that are equal to each other.
 *
 *     model [--seed N] [--steps N] [--stores N] [--faults] [--lesser] [--snapshots] [--kills]
 *
 * With --snapshots, the tree is remembered at random moments, when a snapshot is made, and each is
 * compared with it, before and after older and newer ones are destroyed, and after remounts. Some become
 * bookmarks: of those, what cannot be read any more must say so. With
 * --kills the chain dies in the middle of a random change, as with kill -9.
 *
 * With --faults one store of three fails now and then in ways that must not show: device errors
 * (until two are lost), limits (the operation fails on both sides' behalf and must leave no trace),
 * our own shortages. The seed is printed; the same seed gives the same run. Needs no root. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rig.h"
#include "vol_mem.h"

enum {
    NAMES = 12,       /* different names in a folder: collisions are wanted */
    THINGS_MAX = 400, /* objects that are known at a time */
    OPEN_MAX_ = 16,
    FILE_MAX = 200000,
};

struct thing { /* one object on both sides */
    struct obj *real, *mem;
    bool folder;
};

struct opened {
    struct thing thing;
    struct vol_handle real, mem;
    bool used;
};

static struct rig rig;
static struct vol *mem;
static struct thing things[THINGS_MAX];
static unsigned thing_count;
static struct opened opens[OPEN_MAX_];
static unsigned long step;
static uint64_t random_state;
static unsigned lost;
static bool faults;
static uint32_t lacks; /* of the last store */
static bool snapshots, kills, dying;
static jmp_buf death;    /* where a run goes on when the chain has died */
static char where[1000]; /* in the tree that is compared */

enum { SNAPSHOTS = 8 };
static struct {
    char name[16];
    struct vol *tree; /* as it was; NULL: this place is free */
    bool bookmark;
} taken[SNAPSHOTS];
static unsigned taken_last;
static bool dropped; /* of what is compared, bytes that changed since may not be there */

static unsigned rnd(unsigned below) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(random_state >> 33) % below;
}

static void die(const char *what, long real, long model) {
    struct event *e = calloc(64, sizeof(*e));
    unsigned n = e ? events_since(rig.events, 0, e, 64) : 0;

    for (unsigned i = 0; i < n; i++) {
        (void)printf("event: %s\n", e[i].text);
    }
    (void)printf("step %lu:%s %s: the mirror says %ld, the model %ld\n", step, where, what, real,
                 model);
    exit(1);
}

static void same(const char *what, long real, long model) {
    if (real != model) {
        if (dying && vol_fault_hits(rig.gate) > 0) {
            longjmp(death, 1);
        }
        die(what, real, model);
    }
}

#define REAL(op, ...) rig.top->ops->op(rig.top, __VA_ARGS__)
#define MEM(op, ...)  mem->ops->op(mem, __VA_ARGS__)

static void same_attr(const struct stat *a, const struct stat *b) {
    same("type and mode", a->st_mode, b->st_mode);
    if (!S_ISDIR(a->st_mode)) { /* not every filesystem counts folders */
        same("links", (long)a->st_nlink, (long)b->st_nlink);
        same("size", a->st_size, b->st_size);
    }
}

static const char *const names[NAMES] = {"a", "b", "c",  "d e", "\xff\xfe", "..x",
                                         "f", "g", "-h", "i*",  "j\n",      "k"};

static const char *random_name(void) {

    return names[rnd(NAMES)];
}

static struct thing *random_thing(bool folder) {
    for (int i = 0; i < 50; i++) {
        struct thing *t = &things[rnd(thing_count)];

        if (t->folder == folder) {
            return t;
        }
    }
    return &things[0];
}

static void know(struct obj *real, struct obj *m, bool folder) {
    for (unsigned i = 0; i < thing_count; i++) {
        if (things[i].real == real) {
            same("the same object on both sides", things[i].mem == m, 1);
            REAL(forget, real, 1);
            obj_forget(vol_mem_objects(mem), m, 1);
            return;
        }
    }
    if (thing_count < THINGS_MAX) {
        things[thing_count++] = (struct thing){real, m, folder};
    } else {
        REAL(forget, real, 1);
        obj_forget(vol_mem_objects(mem), m, 1);
    }
}

/* The last name went: nobody may work on it any more, as the kernel would see to. */
static void unknow_dead(void) {
    for (unsigned i = 1; i < thing_count;) {
        if (!things[i].mem->names) {
            REAL(forget, things[i].real, 1);
            obj_forget(vol_mem_objects(mem), things[i].mem, 1);
            things[i] = things[--thing_count];
        } else {
            i++;
        }
    }
}

static void both_lookup(struct thing *dir, const char *name) {
    struct vol_entry a, b;
    int x = REAL(lookup, dir->real, name, &a), y = MEM(lookup, dir->mem, name, &b);

    same("lookup", x, y);
    if (x == 0) {
        same_attr(&a.attr, &b.attr);
        know(a.obj, b.obj, S_ISDIR(a.attr.st_mode));
    }
}

/* The kernel looks a name up before it removes or moves it; so does the model. */
static void op_make(void) {
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO};
    mode_t type = types[rnd(5)];
    struct vol_new new = {.mode = type | (type == S_IFLNK ? 0777 : 0600 + rnd(0200)),
                          .target = "to somewhere",
                          .cred = &rig_cred};
    struct thing *d = random_thing(true);
    const char *name = random_name();
    struct vol_entry a, b;
    int x = REAL(make, d->real, name, &new, &a), y = MEM(make, d->mem, name, &new, &b);

    same("make", x, y);
    if (x == 0) {
        same_attr(&a.attr, &b.attr);
        know(a.obj, b.obj, type == S_IFDIR);
    }
}

static void op_create(void) {
    struct vol_new new = {.mode = S_IFREG | 0644, .cred = &rig_cred};
    struct opened *o = &opens[rnd(OPEN_MAX_)];
    struct thing *d = random_thing(true);
    const char *name = random_name();
    struct vol_entry a, b;
    struct vol_handle ha, hb;
    int x, y;

    if (o->used) {
        return;
    }
    x = REAL(create, d->real, name, &new, O_RDWR, &a, &ha);
    y = MEM(create, d->mem, name, &new, O_RDWR, &b, &hb);
    same("create", x, y);
    if (x == 0) {
        *o = (struct opened){.thing = {a.obj, b.obj, false}, .real = ha, .mem = hb, .used = true};
        (void)obj_opened(vol_mem_objects(mem), b.obj); /* as the mirror does for its own */
        know(a.obj, b.obj, false);
    }
}

static void op_open(void) {
    struct opened *o = &opens[rnd(OPEN_MAX_)];
    struct thing *t = random_thing(false);
    int flags = rnd(4) == 0 ? O_RDWR | O_TRUNC : O_RDWR, x, y;

    if (o->used || t->folder || t->mem->type != DT_REG) {
        return;
    }
    x = REAL(open, t->real, flags, &rig_cred, &o->real);
    y = MEM(open, t->mem, flags, &rig_cred, &o->mem);
    same("open", x, y);
    o->used = x == 0;
    o->thing = *t;
    if (o->used) {
        (void)obj_opened(vol_mem_objects(mem), t->mem);
    }
}

static void close_one(struct opened *o) {
    if (o->used) {
        same("close", REAL(close, o->thing.real, o->real), MEM(close, o->thing.mem, o->mem));
        (void)obj_closed(vol_mem_objects(mem), o->thing.mem);
        o->used = false;
    }
}

static void op_close(void) {
    close_one(&opens[rnd(OPEN_MAX_)]);
}

static void op_write(void) {
    static char buf[20000];
    struct opened *o = &opens[rnd(OPEN_MAX_)];
    size_t n = 1 + rnd(sizeof(buf) - 1);
    off_t off = rnd(FILE_MAX);

    if (!o->used) {
        return;
    }
    memset(buf, (int)rnd(256), n);
    same("write", REAL(write, o->thing.real, o->real, buf, n, off, &rig_cred),
         MEM(write, o->thing.mem, o->mem, buf, n, off, &rig_cred));
}

static void op_read(void) {
    static char a[20000], b[20000];
    struct opened *o = &opens[rnd(OPEN_MAX_)];
    size_t n = 1 + rnd(sizeof(a) - 1);
    off_t off = rnd(FILE_MAX);
    ssize_t x;

    if (!o->used) {
        return;
    }
    x = REAL(read, o->thing.real, o->real, a, n, off);
    same("read", x, MEM(read, o->thing.mem, o->mem, b, n, off));
    same("bytes", x > 0 ? memcmp(a, b, (size_t)x) : 0, 0);
}

static void op_fallocate(void) {
    struct opened *o = &opens[rnd(OPEN_MAX_)];
    int mode = rnd(2) ? 0 : FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    off_t off = rnd(FILE_MAX), len = 1 + rnd(50000);

    if (o->used) {
        same("fallocate", REAL(fallocate, o->thing.real, o->real, mode, off, len, &rig_cred),
             MEM(fallocate, o->thing.mem, o->mem, mode, off, len, &rig_cred));
    }
}

static void op_fsync(void) {
    struct opened *o = &opens[rnd(OPEN_MAX_)];

    if (o->used) {
        same("fsync", REAL(fsync, o->thing.real, o->real, rnd(2)), 0);
    }
}

static void op_setattr(void) {
    struct thing *t = random_thing(rnd(3) == 0);
    struct vol_attr attr = {.mode = rnd(0777) | 0400,
                            .size = rnd(FILE_MAX),
                            .mtime = {.tv_sec = rnd(1000000000), .tv_nsec = 5},
                            .cred = &rig_cred};
    struct stat a, b;

    attr.set = rnd(3) == 0                        ? VOL_SET_MTIME
               : rnd(2) && t->mem->type == DT_REG ? VOL_SET_SIZE
                                                  : VOL_SET_MODE;
    if (t->mem->type == DT_LNK) {
        return;
    }
    same("setattr", REAL(setattr, t->real, VOL_NO_HANDLE, &attr, &a),
         MEM(setattr, t->mem, VOL_NO_HANDLE, &attr, &b));
    same_attr(&a, &b);
}

static void op_getattr(void) {
    struct thing *t = &things[rnd(thing_count)];
    struct stat a, b;

    same("getattr", REAL(getattr, t->real, VOL_NO_HANDLE, &a),
         MEM(getattr, t->mem, VOL_NO_HANDLE, &b));
    same_attr(&a, &b);
}

static void op_lookup(void) {
    both_lookup(random_thing(true), random_name());
}

static void op_link(void) {
    struct thing *t = random_thing(false), *d = random_thing(true);
    const char *name = random_name();
    struct vol_entry a, b;
    int x, y;

    if (t->folder) {
        return;
    }
    x = REAL(link, t->real, d->real, name, &a);
    y = MEM(link, t->mem, d->mem, name, &b);
    same("link", x, y);
    if (x == 0) {
        same_attr(&a.attr, &b.attr);
        know(a.obj, b.obj, false);
    }
}

static void op_unlink(void) {
    struct thing *d = random_thing(true);
    const char *name = random_name();
    struct vol_entry a;
    int x, y;

    both_lookup(d, name);
    x = MEM(lookup, d->mem, name, &a);
    if (x == 0) {
        obj_forget(vol_mem_objects(mem), a.obj, 1);
    }
    if (x == 0 && S_ISDIR(a.attr.st_mode)) {
        x = REAL(rmdir, d->real, name);
        y = MEM(rmdir, d->mem, name);
    } else {
        x = REAL(unlink, d->real, name);
        y = MEM(unlink, d->mem, name);
    }
    same("unlink or rmdir", x, y);
    unknow_dead();
}

static void op_rename(void) {
    static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    struct thing *d = random_thing(true), *nd = random_thing(true);
    const char *name = random_name(), *new_name = random_name();
    unsigned f = flags[rnd(lacks ? 4 : 5)]; /* a store with a side file exchanges no names */

    both_lookup(d, name);
    both_lookup(nd, new_name);
    same("rename", REAL(rename, d->real, name, nd->real, new_name, f),
         MEM(rename, d->mem, name, nd->mem, new_name, f));
    unknow_dead();
}

static void op_xattr(void) {
    struct thing *t = random_thing(rnd(2));
    char value[100], a[100], b[100];
    size_t n = rnd(sizeof(value));

    if (t->mem->type != DT_REG && t->mem->type != DT_DIR) {
        return;
    }
    memset(value, (int)rnd(256), n);
    if (rnd(3) == 0) {
        same("removexattr", REAL(removexattr, t->real, "user.k"),
             MEM(removexattr, t->mem, "user.k"));
        return;
    }
    same("setxattr", REAL(setxattr, t->real, "user.k", value, n, 0, &rig_cred),
         MEM(setxattr, t->mem, "user.k", value, n, 0, &rig_cred));
    same("getxattr", REAL(getxattr, t->real, "user.k", a, sizeof(a)),
         MEM(getxattr, t->mem, "user.k", b, sizeof(b)));
    same("value", memcmp(a, b, n), 0);
}

/* A fault that must not show: one device error at a time, or a shortage of ours. */
static void op_fault(void) {
    unsigned i = rnd(rig.count);

    if (!faults) {
        return;
    }
    if (rnd(40) == 0 && lost + 1 < rig.count) {
        struct mirror_status s;

        vol_fault_set(
            rig.fault[i],
            &(struct fault_plan){.op = (enum fault_op)(1 + rnd(FAULT_ALL - 1)), .err = -EIO});
        mirror_status(mirror_of(rig.vol), &s);
        lost = rig.count - s.online + 1;
    } else if (lost == 0) {
        vol_fault_set(rig.fault[i],
                      &(struct fault_plan){.op = FAULT_ALL, .err = -EMFILE, .times = 2});
    }
}

static void (*const ops[])(void) = {
    op_make,    op_make,    op_create,  op_create, op_open,   op_open,      op_close,
    op_write,   op_write,   op_write,   op_read,   op_read,   op_fallocate, op_fsync,
    op_setattr, op_setattr, op_getattr, op_lookup, op_lookup, op_link,      op_unlink,
    op_unlink,  op_rename,  op_rename,  op_rename, op_xattr,  op_fault,
};

static bool count_names(void *arg, const char *name, uint64_t ino, uint8_t type, uint64_t next) {
    (void)ino;
    (void)type;
    (void)next;
    *(unsigned *)arg += strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    return true;
}

/* Each block is what it was, or says that it changed. */
static void compare_blocks(struct obj *real, struct vol_handle h, const char *want, ssize_t size) {
    static char block[BLOCK_BYTES];

    for (ssize_t at = 0; at < size; at += BLOCK_BYTES) {
        ssize_t n = REAL(read, real, h, block, BLOCK_BYTES, at);
        ssize_t left = size - at < BLOCK_BYTES ? size - at : BLOCK_BYTES;

        if (n != -ENODATA) {
            same("final read of a block", n, left);
            same("final bytes differ in the block at",
                 memcmp(block, want + at, (size_t)left) == 0 ? 0 : at + 1, 0);
        }
    }
}

/* Every name of the model is on the mirror with the same content, and no other. */
static void compare_folder(struct obj *real, struct vol *tree, struct obj *model, int depth) {
    unsigned on_mem = 0, on_real = 0;
    struct vol_handle h;

    same("opendir", REAL(opendir, real, &h), 0);
    same("readdir", REAL(readdir, real, h, 0, count_names, &on_real), 0);
    same("closedir", REAL(closedir, real, h), 0);
    for (int i = 0; i < NAMES; i++) {
        struct vol_entry a, b;
        char v[100], w[100];
        size_t used = strlen(where);
        int y = tree->ops->lookup(tree, model, names[i], &b);

        (void)snprintf(where + used, sizeof(where) - used, "/%s", names[i]);

        same("final lookup", REAL(lookup, real, names[i], &a), y);
        if (y < 0) {
            where[used] = '\0';
            continue;
        }
        on_mem++;
        same_attr(&a.attr, &b.attr);
        if (S_ISDIR(b.attr.st_mode)) {
            compare_folder(a.obj, tree, b.obj, depth + 1);
        } else if (S_ISREG(b.attr.st_mode)) {
            static char x[FILE_MAX + 70000], z[FILE_MAX + 70000];
            struct vol_handle p, q;
            ssize_t n, m;

            same("final open", REAL(open, a.obj, O_RDONLY, &rig_cred, &p),
                 tree->ops->open(tree, b.obj, O_RDONLY, &rig_cred, &q));
            n = REAL(read, a.obj, p, x, sizeof(x), 0);
            m = tree->ops->read(tree, b.obj, q, z, sizeof(z), 0);
            if (dropped && n == -ENODATA) {
                compare_blocks(a.obj, p, z, m);
            } else {
                same("final read", n, m);
            }
            for (ssize_t k = 0; k < n; k++) {
                same("final bytes differ at", x[k] == z[k] ? 0 : k + 1, 0);
            }
            same("final close", REAL(close, a.obj, p), tree->ops->close(tree, b.obj, q));
        } else if (S_ISLNK(b.attr.st_mode)) {
            ssize_t n = REAL(readlink, a.obj, v, sizeof(v));

            if (!dropped || n != -ENODATA) {
                same("final symlink", n, tree->ops->readlink(tree, b.obj, w, sizeof(w)));
                same("where it points to", memcmp(v, w, (size_t)n), 0);
            }
        }
        if (S_ISREG(b.attr.st_mode) || S_ISDIR(b.attr.st_mode)) {
            ssize_t n = REAL(getxattr, a.obj, "user.k", v, sizeof(v));

            same("final xattr", n, tree->ops->getxattr(tree, b.obj, "user.k", w, sizeof(w)));
            same("its value", n > 0 ? memcmp(v, w, (size_t)n) : 0, 0);
        }
        REAL(forget, a.obj, 1);
        tree->ops->forget(tree, b.obj, 1);
        where[used] = '\0';
    }
    same("names in a folder", on_real, on_mem);
}

/* --- snapshots --- */

/* The folder of a snapshot; counted. */
static struct obj *snapshot_folder(const char *name) {
    const char *const path[] = {".holdfast", "snapshots", name};
    struct obj *at = rig.root;

    for (int i = 0; i < 3; i++) {
        struct vol_entry e;

        same("lookup of a snapshot", REAL(lookup, at, path[i], &e), 0);
        if (i > 0) {
            REAL(forget, at, 1);
        }
        at = e.obj;
    }
    return at;
}

static void compare_snapshot(unsigned i) {
    char name[sizeof(taken[i].name) + 16];
    struct obj *root;

    (void)snprintf(name, sizeof(name), "%s%s", taken[i].name, taken[i].bookmark ? ".bookmark" : "");
    (void)snprintf(where, sizeof(where), " %s:", name);
    root = snapshot_folder(name);
    dropped = taken[i].bookmark;
    compare_folder(root, taken[i].tree, obj_root(vol_mem_objects(taken[i].tree)), 0);
    dropped = false;
    REAL(forget, root, 1);
    where[0] = '\0';
}

static void compare_snapshots(void) {
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        if (taken[i].tree) {
            compare_snapshot(i);
        }
    }
}

static void op_snapshot(void) {
    unsigned i = rnd(SNAPSHOTS);
    uint64_t us;
    struct why why = {""};
    int err;

    if (taken[i].tree) {
        vol_free(taken[i].tree);
        taken[i].tree = NULL;
        err = snap_destroy(snap_of(rig.top), taken[i].name, &why);
        same(why.text, err, 0);
        return;
    }
    (void)snprintf(taken[i].name, sizeof(taken[i].name), "s%u", taken_last++);
    taken[i].bookmark = false;
    err = snap_create(snap_of(rig.top), taken[i].name, "", 0, &us, &why);
    same(why.text, err, 0);
    same("copy", vol_mem_copy(mem, &taken[i].tree), 0);
}

/* The oldest first, mostly: then there are bookmarks that no snapshot is older than. */
static void op_bookmark(void) {
    unsigned oldest = SNAPSHOTS;
    struct why why = {""};

    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        if (taken[i].tree && !taken[i].bookmark &&
            (oldest == SNAPSHOTS || rnd(8) == 0 ||
             atoi(taken[i].name + 1) < atoi(taken[oldest].name + 1))) {
            oldest = i;
        }
    }
    if (oldest < SNAPSHOTS) {
        same("bookmark", snap_bookmark(snap_of(rig.top), taken[oldest].name, &why), 0);
        taken[oldest].bookmark = true;
    }
}

static void op_look_at_snapshot(void) {
    unsigned i = rnd(SNAPSHOTS);

    if (taken[i].tree) {
        compare_snapshot(i);
    }
}

static void op_reap(void) {
    while (snap_reap(snap_of(rig.top))) {
    }
}

static void forget_all(void) {
    while (thing_count > 1) {
        struct thing *t = &things[--thing_count];

        REAL(forget, t->real, 1);
        obj_forget(vol_mem_objects(mem), t->mem, 1);
    }
}

static void empty(struct obj *dir) {
    for (int i = 0; i < NAMES; i++) {
        struct vol_entry e;
        bool folder;

        if (REAL(lookup, dir, names[i], &e) == 0) {
            folder = S_ISDIR(e.attr.st_mode);
            if (folder) {
                empty(e.obj);
            }
            same("emptying", folder ? REAL(rmdir, dir, names[i]) : REAL(unlink, dir, names[i]), 0);
            REAL(forget, e.obj, 1);
        }
    }
}

/* With an empty tree; the snapshots are what they were. Nothing is open or known. */
static void begin_anew(void) {
    struct stat st;

    vol_free(mem);
    same("a new model", vol_mem_new(&mem), 0);
    things[0] = (struct thing){rig.root, obj_root(vol_mem_objects(mem)), true};
    compare_snapshots();
    empty(rig.root);
    (void)REAL(removexattr, rig.root, "user.k"); /* it may have none */
    same("chmod",
         REAL(setattr, rig.root, VOL_NO_HANDLE,
              &(struct vol_attr){.set = VOL_SET_MODE, .mode = 0755, .cred = &rig_cred}, &st),
         0);
    compare_snapshots();
}

static void close_one(struct opened *o);

static void op_remount(void) {
    bool clean = rnd(2);

    for (int i = 0; i < OPEN_MAX_; i++) {
        close_one(&opens[i]);
    }
    unknow_dead();
    forget_all();
    same("settle", snap_settle(snap_of(rig.top), NULL, NULL), 0);
    if (clean) {
        same("stop", snap_stop(snap_of(rig.top)), 0);
    }
    rig_again(&rig);
    things[0].real = rig.root;
    compare_snapshots();
    if (rnd(4) == 0) { /* else the tree grows for ever */
        begin_anew();
    }
}

/* The chain dies in the middle of what it does: from some change on nothing reaches the stores any
 * more. What the tree is then, the model does not know; so it is emptied, and all begins anew: the
 * snapshots are what they were. */
static void op_kill(void) {
    same("settle", snap_settle(snap_of(rig.top), NULL, NULL), 0);
    vol_fault_set(rig.gate,
                  &(struct fault_plan){.op = FAULT_CHANGES, .err = -EIO, .after = rnd(200)});
    dying = true;
    if (rnd(3) == 0) {
        op_reap(); /* it may die in that, too */
    }
}

static void after_death(void) {
    dying = false;
    for (int i = 0; i < OPEN_MAX_; i++) {
        if (opens[i].used) {
            (void)REAL(close, opens[i].thing.real, opens[i].real);
            (void)obj_closed(vol_mem_objects(mem), opens[i].thing.mem);
            opens[i].used = false;
        }
    }
    forget_all();
    vol_fault_set(rig.gate, &(struct fault_plan){.op = FAULT_NONE});
    rig_again(&rig);
    begin_anew();
}

static void (*const snapshot_ops[])(void) = {
    op_snapshot, op_snapshot, op_snapshot, op_bookmark, op_reap, op_remount, op_look_at_snapshot};

static void finish(void) {
    struct mirror_status s;
    long first = -1, differences;

    for (unsigned i = 0; i < rig.count; i++) {
        vol_fault_set(rig.fault[i], &(struct fault_plan){0});
    }
    for (int i = 0; i < OPEN_MAX_; i++) {
        close_one(&opens[i]);
    }
    unknow_dead();
    compare_folder(rig.root, mem, obj_root(vol_mem_objects(mem)), 0);
    if (snapshots) {
        compare_snapshots();
        op_reap();
        compare_snapshots();
        same("stop of snapshots", snap_stop(snap_of(rig.top)), 0);
    }
    same("stop", mirror_stop(mirror_of(rig.vol)), 0);
    mirror_status(mirror_of(rig.vol), &s);
    for (unsigned i = 0; i < s.count; i++) {
        if (s.member[i].state != MEMBER_ONLINE) {
            continue;
        }
        differences = first < 0 ? 0 : rig_differences(&rig, (unsigned)first, i);
        same("differences between the stores", differences, 0);
        first = i;
    }
    (void)printf("%lu steps, %u of %u stores left, %u objects\n", step, s.online, s.count,
                 thing_count);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"seed", required_argument, NULL, 's'},   {"steps", required_argument, NULL, 'n'},
        {"stores", required_argument, NULL, 'm'}, {"faults", no_argument, NULL, 'f'},
        {"lesser", no_argument, NULL, 'l'},       {"snapshots", no_argument, NULL, 'S'},
        {"kills", no_argument, NULL, 'k'},        {0}};
    static unsigned long seed = 1, steps = 2000, stores = 3; /* they survive longjmp() */
    int opt;

    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (opt) {
        case 's':
            seed = strtoul(optarg, NULL, 10);
            break;
        case 'n':
            steps = strtoul(optarg, NULL, 10);
            break;
        case 'm':
            stores = strtoul(optarg, NULL, 10);
            break;
        case 'f':
            faults = true;
            break;
        case 'S':
            snapshots = true;
            break;
        case 'k':
            kills = true;
            break;
        case 'l':
            lacks = STORE_KEPT_ASIDE;
            break;
        default:
            return 2;
        }
    }
    (void)printf("seed %lu\n", seed);
    random_state = seed;
    rig_up_lesser(&rig, (unsigned)stores, lacks);
    if (vol_mem_new(&mem) < 0) {
        return 1;
    }
    things[thing_count++] = (struct thing){rig.root, obj_root(vol_mem_objects(mem)), true};
    if (snapshots) {
        rig_snapshots(&rig);
    }
    if (setjmp(death) != 0) {
        after_death();
    }
    while (++step <= steps) {
        if (kills && !dying && rnd(100) == 0) {
            op_kill();
        }
        if (snapshots && !dying && rnd(40) == 0) {
            snapshot_ops[rnd(sizeof(snapshot_ops) / sizeof(snapshot_ops[0]))]();
        }
        ops[rnd(sizeof(ops) / sizeof(ops[0]))]();
    }
    if (dying) {
        after_death();
    }
    finish();
    for (unsigned i = 0; i < SNAPSHOTS; i++) {
        vol_free(taken[i].tree);
    }
    vol_free(mem);
    rig_down(&rig);
    return 0;
}
