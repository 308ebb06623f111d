#include "rig.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "heal/tree.h"
#include "store/segment.h"
#include "tree.h"

const struct cred rig_cred = {.umask = 022};

static int write_witness(void *arg, const struct super *super) {
    struct rig *r = arg;

    if (r->witness_err < 0) {
        return r->witness_err;
    }
    r->witnessed = *super;
    r->witness_writes++;
    return 0;
}

static struct super first_record(struct rig *r) {
    struct super s = {.volume_id = id_new(),
                      .generation = id_new(),
                      .generation_number = 1,
                      .mount_count = 1,
                      .volume_name = "rig",
                      .member_count = r->count};

    for (unsigned i = 0; i < r->count; i++) {
        s.member[i] = (struct super_member){
            .id = id_new(), .state = MEMBER_ONLINE, .label = {(char)('a' + i)}};
    }
    return s;
}

/* New logs on all stores, and a journal in memory. */
static void rig_journal(struct rig *r, struct mirror_config *mc) {
    struct journal_config jc = {.volume = mc->super.volume_id,
                                .mount_count = mc->super.mount_count};
    int err = journal_open(&jc, NULL, &mc->journal);

    for (unsigned i = 0; i < r->count; i++) {
        err = err < 0 ? err : store_log_reset(mc->member[i].store, 0);
    }
    if (err < 0) {
        abort();
    }
}

void rig_up(struct rig *r, unsigned stores) {
    rig_up_lesser(r, stores, 0);
}

static struct store *open_store(struct rig *r, unsigned i, struct super *s, bool format) {
    struct store *store;
    struct why why = {""};
    int err = 0;

    if (format) {
        err = mkdir(r->path[i], 0755);
        assert(err == 0);
        s->store_id = s->member[i].id;
        err = store_probe(r->path[i], &s->member[i].caps, &why);
        s->member[i].caps &= ~(i + 1 == r->count ? r->lacks : 0);
        r->super.member[i].caps = s->member[i].caps;
        err = err < 0 ? err : store_format(r->path[i], s, false, &why);
    }
    err = err < 0 ? err : store_open(r->path[i], &why, &store);
    err = err < 0 ? err : vol_fault_new(store_vol(store), &r->fault[i]);
    if (err < 0) {
        (void)fprintf(stderr, "rig: %s\n", why.text);
        abort();
    }
    return store;
}

static void mount_rig(struct rig *r, bool format) {
    struct mirror_config mc = {.count = r->count,
                               .dirfds_max = 32,
                               .policy = r->policy,
                               .write_witness = write_witness,
                               .witness_arg = r};
    struct why why = {""};

    mc.events = r->events;
    mc.super = r->super;
    for (unsigned i = 0; i < r->count; i++) {
        struct super s = mc.super;

        r->store[i] = mc.member[i].store = open_store(r, i, &s, format);
        mc.member[i].vol = r->fault[i];
        mc.member[i].id = s.member[i].id;
        mc.member[i].label = mc.super.member[i].label;
        mc.member[i].state = MEMBER_ONLINE;
    }
    mc.super = r->super;
    rig_journal(r, &mc);
    if (mirror_new(&mc, &why, &r->vol) < 0) {
        (void)fprintf(stderr, "rig: %s\n", why.text);
        abort();
    }
    r->top = r->vol;
    r->objs = mirror_objects(mirror_of(r->vol));
    r->root = obj_root(r->objs);
}

void rig_up_lesser(struct rig *r, unsigned stores, uint32_t lacks) {
    const char *base = getenv("TMPDIR");
    int err;

    memset(r, 0, sizeof(*r));
    r->count = stores;
    r->lacks = lacks;
    (void)snprintf(r->dir, sizeof(r->dir), "%s/holdfast-rig-XXXXXX",
                   base && strlen(base) < 30 ? base : "/tmp");
    if (!mkdtemp(r->dir)) {
        abort();
    }
    err = events_new(NULL, &r->events);
    assert(err == 0);
    r->super = first_record(r);
    for (unsigned i = 0; i < stores; i++) {
        (void)snprintf(r->path[i], sizeof(r->path[i]), "%s/%c", r->dir, 'a' + (int)i);
    }
    mount_rig(r, true);
}

void rig_snapshots(struct rig *r) {
    struct snap_config c = {
        .objs = r->objs, .volume = r->super.volume_id, .events = r->events, .cut_off = r->cut_off};
    struct why why = {""};
    int err = vol_fault_new(r->vol, &r->gate);

    r->snapshots = true;
    c.folder = mirror_snapshots(mirror_of(r->vol));
    c.next = r->gate;
    err = err < 0 ? err : snap_new(&c, &why, &r->top);
    if (err < 0) {
        (void)fprintf(stderr, "rig: %s (%d)\n", why.text, err);
        abort();
    }
}

void rig_again(struct rig *r) {
    int err = mirror_stop(mirror_of(r->vol)); /* its own recovery is not what is tested here */

    assert(err == 0);
    vol_free(r->top);
    mount_rig(r, false);
    if (r->snapshots) {
        rig_snapshots(r);
    }
}

struct store *rig_store(struct rig *r, unsigned store) {
    return r->store[store];
}

struct super rig_super(const struct rig *r, unsigned store) {
    struct super s;
    struct why why;

    if (store_identify(r->path[store], &s, &why) < 0) {
        abort();
    }
    return s;
}

/* The path of a whole copy of a store, made from it alone. */
static const char *whole(const struct rig *r, unsigned i, char path[256]) {
    struct heal_options options = {.all_data = true, .since_s = UINT64_MAX};
    struct super s = *store_super(r->store[i]);
    struct copy_stat stat;
    struct store *copy;
    struct why why = {""};
    int err;

    (void)snprintf(path, 256, "%s/whole", r->dir);
    err = mkdir(path, 0755);
    s.store_id = s.member[0].id = id_new();
    err = err < 0 ? err : store_probe(path, &s.member[0].caps, &why);
    err = err < 0 ? err : store_format(path, &s, false, &why);
    err = err < 0 ? err : store_open(path, &why, &copy);
    err = err < 0 ? err : heal_tree(r->store[i], copy, &options, &stat, &why);
    if (err < 0) {
        (void)fprintf(stderr, "rig: %s\n", why.text);
        abort();
    }
    store_close(copy);
    return path;
}

long rig_differences(const struct rig *r, unsigned a, unsigned b) {
    struct tree_options o = {.times = true, .differences_max = 20, .out = stderr};
    const char *path[2] = {r->path[a], r->path[b]};
    char copy[256];

    for (unsigned k = 0; k < 2; k++) {
        unsigned i = k ? b : a;

        path[k] = r->lacks && i + 1 == r->count ? whole(r, i, copy) : path[k];
    }
    return tree_compare(path[0], path[1], &o);
}

void rig_down(struct rig *r) {
    char name[64];

    vol_free(r->top);
    events_free(r->events);
    (void)snprintf(name, sizeof(name), "%s", r->dir);
    if (io_remove_tree(AT_FDCWD, name) < 0) {
        (void)fprintf(stderr, "rig: %s could not be removed\n", name);
    }
}

struct obj *rig_mkdir(struct rig *r, struct obj *dir, const char *name) {
    struct vol_new new = {.mode = S_IFDIR | 0755, .cred = &rig_cred};
    struct vol_entry e;
    int err = r->vol->ops->make(r->vol, dir, name, &new, &e);

    assert(err == 0);
    return e.obj;
}

struct obj *rig_file(struct rig *r, struct obj *dir, const char *name, const char *content) {
    struct vol_new new = {.mode = S_IFREG | 0644, .cred = &rig_cred};
    struct vol_entry e;
    struct vol_handle h;
    int err = r->vol->ops->create(r->vol, dir, name, &new, O_RDWR, &e, &h);
    ssize_t n;

    assert(err == 0);
    n = r->vol->ops->write(r->vol, e.obj, h, content, strlen(content), 0, &rig_cred);
    assert(n == (ssize_t)strlen(content));
    err = r->vol->ops->close(r->vol, e.obj, h);
    assert(err == 0);
    return e.obj;
}
