#include "daemon/volume.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "daemon/assemble.h"
#include "daemon/daemon.h"
#include "heal/tree.h"
#include "store/disk.h"

/* A create that was cut off leaves stores that say of themselves that they are being filled:
 * whatever is in them, it put there. The store whose files were adopted says ONLINE; it is taken
 * again only as the one to adopt, and never emptied. */
static bool is_unfinished(const struct config *c, const char *path, bool adopt) {
    const struct super_member *m;
    struct super s;

    if (store_identify(path, &s, NULL) < 0 || s.mount_count != 0 ||
        strcmp(s.volume_name, c->name) != 0) {
        return false;
    }
    m = super_member_of(&s, &s.store_id);
    return m && m->state == (adopt ? MEMBER_ONLINE : MEMBER_SYNCING);
}

static void new_record(const struct config *c, const uint32_t *caps, int adopt, struct super *ret) {
    struct super s = {.kind = SUPER_STORE,
                      .volume_id = c->id,
                      .generation = id_new(),
                      .generation_number = 1,
                      .clean = true,
                      .witness_id = id_new(),
                      .created_s = clock_real_s(),
                      .member_count = c->count};

    memcpy(s.volume_name, c->name, sizeof(s.volume_name));
    for (unsigned i = 0; i < c->count; i++) {
        struct super_member *m = &s.member[i];

        m->id = id_new();
        memcpy(m->label, c->store[i].label, sizeof(m->label));
        m->state = (int)i == adopt ? MEMBER_ONLINE : MEMBER_SYNCING; /* until all are filled */
        m->caps = caps[i];
        m->since_s = s.created_s;
    }
    *ret = s;
}

typedef void notice_fn(void *arg, const char *text);

/* What the store cannot do. */
static void note_missing(const struct config_store *s, uint32_t caps, notice_fn *notice,
                         void *arg) {
    for (int k = 0; notice && k < STORE_CAPS; k++) {
        char text[PATH_BYTES + 256];

        if (!(caps & (uint32_t)store_cap_table[k].cap) && store_cap_table[k].cap != STORE_REFLINK) {
            (void)snprintf(text, sizeof(text), "store \"%s\" (%s) has no %s: %s", s->label, s->path,
                           store_cap_table[k].name, store_cap_table[k].without);
            notice(arg, text);
        }
    }
}

static int probe_all(struct volume_create *vc, uint32_t *ret_caps, struct why *why) {
    for (unsigned i = 0; i < vc->config.count; i++) {
        const struct config_store *s = &vc->config.store[i];
        int err = store_probe(s->path, &ret_caps[i], why);

        if (err < 0) {
            return err;
        }
        note_missing(s, ret_caps[i], vc->notice, vc->progress_arg);
    }
    return 0;
}

/* Two stores on one disk are two copies that die together. */
static void note_shared(const struct config *c, unsigned from, notice_fn *notice, void *arg) {
    for (unsigned i = from; notice && i < c->count; i++) {
        for (unsigned k = 0; k < i; k++) {
            char text[2 * LABEL_BYTES + 256], disk[DISK_TEXT_BYTES], other[DISK_TEXT_BYTES];
            struct stat x, y;

            if (c->store[k].away || stat(c->store[k].path, &x) < 0 ||
                stat(c->store[i].path, &y) < 0) {
                continue;
            }
            disk_describe(x.st_dev, disk);
            disk_describe(y.st_dev, other);
            if (x.st_dev == y.st_dev || (disk[0] && strcmp(disk, other) == 0)) {
                (void)snprintf(text, sizeof(text),
                               "stores \"%s\" and \"%s\" are on one %s%s%s: when its disk "
                               "dies, both copies are gone",
                               c->store[k].label, c->store[i].label,
                               x.st_dev == y.st_dev ? "filesystem" : "disk", disk[0] ? ", " : "",
                               disk);
                notice(arg, text);
            }
        }
    }
}

struct fill {
    struct volume_create *vc;
    uint64_t bytes, objects;   /* in all */
    struct copy_stat finished; /* stores that are done */
};

static bool on_progress(void *arg, const struct copy_stat *stat) {
    const struct fill *f = arg;
    struct copy_stat sum = {.objects_compared =
                                f->finished.objects_compared + stat->objects_compared,
                            .bytes_copied = f->finished.bytes_copied + stat->bytes_copied};

    return !f->vc->progress || f->vc->progress(f->vc->progress_arg, &sum, f->bytes, f->objects);
}

static int fill_one(struct fill *f, unsigned to, struct why *why) {
    const struct config *c = &f->vc->config;
    struct heal_options options = {
        .since_s = UINT64_MAX, .progress = on_progress, .progress_arg = f};
    struct store *a = NULL, *b = NULL;
    struct copy_stat stat;
    int err = store_open(c->store[f->vc->adopt].path, why, &a);

    err = err < 0 ? err : store_open(c->store[to].path, why, &b);
    err = err < 0 ? err : heal_tree(a, b, &options, &stat, why);
    store_close(a);
    store_close(b);
    if (err == 0) {
        f->finished.objects_compared += stat.objects_compared;
        f->finished.bytes_copied += stat.bytes_copied;
    }
    return err;
}

static int fill_all(struct volume_create *vc, struct why *why) {
    struct fill f = {.vc = vc};
    int err = heal_measure(vc->config.store[vc->adopt].path, &f.bytes, &f.objects);

    if (err < 0) {
        return why_set(why, err, "%s cannot be read: %s", vc->config.store[vc->adopt].path,
                       error_words(err));
    }
    f.bytes *= vc->config.count - 1;
    f.objects *= vc->config.count - 1;
    for (unsigned i = 0; i < vc->config.count && err == 0; i++) {
        err = (int)i == vc->adopt ? 0 : fill_one(&f, i, why);
    }
    return err;
}

/* The folders may differ in owner, mode and default ACL, which all files inherit: the first counts.
 */
static int equal_roots(const struct config *c, struct why *why) {
    struct store *from = NULL, *to = NULL;
    struct copy_stat stat = {0};
    int err = store_open(c->store[0].path, why, &from);

    for (unsigned i = 1; i < c->count && err == 0; i++) {
        err = store_open(c->store[i].path, why, &to);
        if (err < 0) {
            break;
        }
        err = copy_attrs(store_root_fd(from), ".", store_root_fd(to), ".", &stat);
        err = err < 0 ? err : store_sync(to);
        if (err < 0) {
            (void)why_set(why, err, "%s cannot get the owner and mode of %s: %s", c->store[i].path,
                          c->store[0].path, error_words(err));
        }
        store_close(to);
    }
    store_close(from);
    return err;
}

static int write_final(const struct config *c, struct super *record, struct why *why) {
    for (uint32_t i = 0; i < record->member_count; i++) {
        record->member[i].state = MEMBER_ONLINE;
    }
    for (unsigned i = 0; i < c->count; i++) {
        struct store *st;
        int err = store_open(c->store[i].path, why, &st);

        if (err < 0) {
            return err;
        }
        err = store_write_super(st, record);
        store_close(st);
        if (err < 0) {
            return why_set(why, err, "cannot write the superblock of %s: %s", c->store[i].path,
                           error_words(err));
        }
    }
    return 0;
}

/* All files of a folder that was empty when we came. */
static void empty_again(const char *path) {
    scope_dir DIR *d = opendir(path);
    struct dirent *e;

    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            strcmp(e->d_name, "lost+found") != 0 && io_remove_tree(dirfd(d), e->d_name) < 0) {
            return; /* what is left shows; the error that led here is the one to tell */
        }
    }
}

static void undo(const struct volume_create *vc, unsigned formatted) {
    for (unsigned i = 0; i < formatted; i++) {
        if ((int)i == vc->adopt) {
            struct why ignored;

            if (store_unformat(vc->config.store[i].path, &ignored) < 0) {
                continue; /* our folder stays beside the files: harmless */
            }
        } else {
            empty_again(vc->config.store[i].path);
        }
    }
}

int volume_create(struct volume_create *vc, struct why *why) {
    struct config *c = &vc->config;
    uint32_t caps[STORES_MAX];
    struct super record;
    unsigned formatted = 0;
    int err = assemble_check_places(c, c->mount_point[0] ? c->mount_point : NULL, why);

    err = err < 0 ? err : probe_all(vc, caps, why);
    if (err < 0) {
        return err;
    }
    note_shared(c, 0, vc->notice, vc->progress_arg);
    c->id = id_new();
    new_record(c, caps, vc->adopt, &record);
    for (; formatted < c->count && err == 0; formatted++) {
        const char *path = c->store[formatted].path;
        bool unfinished = is_unfinished(c, path, (int)formatted == vc->adopt);

        err = unfinished ? store_unformat(path, why) : 0;
        record.store_id = record.member[formatted].id;
        err = err < 0 ? err
                      : store_format(path, &record, unfinished || (int)formatted == vc->adopt, why);
        if (err < 0) {
            break; /* this one was not touched */
        }
    }
    if (err == 0) {
        err = vc->adopt >= 0 ? fill_all(vc, why) : equal_roots(c, why);
    }
    err = err < 0 ? err : write_final(c, &record, why);
    err = err < 0 ? err : config_save(c, why);
    if (err < 0) {
        undo(vc, formatted);
    }
    return err;
}

/* A store that was formatted for this volume and is not part of it yet, or was, and was removed: what
 * is in it is compared with the others anyway. */
static bool is_newcomer(struct super *record, const char *path) {
    const struct super_member *m;
    struct super s;

    if (store_identify(path, &s, NULL) < 0 || !id_equal(&s.volume_id, &record->volume_id)) {
        return false;
    }
    m = super_member_of(record, &s.store_id);
    return m ? m->state == MEMBER_REMOVED : super_is_newcomer(&s);
}

/* The volume's record, with a new member; `s` was read from one of its stores. */
static int enter_member(struct super *s, const struct volume_new_store *n, struct why *why) {
    struct super_member m = {
        .id = id_new(), .state = MEMBER_STALE, .caps = n->caps, .since_s = clock_real_s()};

    m.passive = n->passive;
    memcpy(m.label, n->store.label, sizeof(m.label));
    s->store_id = m.id;
    s->seq = 0;
    return super_enter(s, &m)
               ? 0
               : why_set(why, -HFE_USAGE, "the volume has as many stores as it can have");
}

/* What `resolve` and `verify --repair` put aside is not lost by taking our folder away. */
static int check_lost(const char *path, struct why *why) {
    int lost = store_has_lost(path);

    if (lost < 0 && lost != -ENOENT) {
        return why_set(why, lost, "%s/.holdfast/lost cannot be looked into: %s", path,
                       error_words(lost));
    }
    return lost <= 0
               ? 0
               : why_set(why, -HFE_UNSAFE,
                         "%s/.holdfast/lost holds files that were put aside: take them out of it "
                         "first, or remove them",
                         path);
}

static int check_room(const struct volume_new_store *n, struct why *why) {
    struct statvfs fs;
    uint64_t room;

    if (statvfs(n->store.path, &fs) < 0) {
        return why_set(why, -errno, "%s: %s", n->store.path, error_words(-errno));
    }
    room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room < n->used_bytes && !n->force) {
        return why_set(why, -HFE_UNSAFE,
                       "%s has %llu MiB free, and the volume's store takes %llu MiB: give a larger "
                       "disk (--force tries all the same)",
                       n->store.path, (unsigned long long)room >> 20,
                       (unsigned long long)n->used_bytes >> 20);
    }
    return 0;
}

int volume_record(const struct config *c, struct super *ret_record, uint64_t *ret_used,
                  struct why *why) {
    int err = -HFE_MISSING;

    for (unsigned i = 0; i < c->count && err < 0; i++) {
        const struct super_member *m;
        struct statvfs fs;
        struct super s;

        err = c->store[i].away ? why_set(why, -HFE_MISSING, "%s does not answer", c->store[i].path)
                               : store_identify(c->store[i].path, &s, why);
        m = err == 0 ? super_member_of(&s, &s.store_id) : NULL;
        if (err == 0 && (!m || m->state != MEMBER_ONLINE)) {
            err = why_set(why, -HFE_STALE,
                          "store \"%s\" (%s) is not up to date: mount the volume first",
                          c->store[i].label, c->store[i].path);
        }
        if (err == 0 && statvfs(c->store[i].path, &fs) < 0) {
            err = why_set(why, -errno, "%s: %s", c->store[i].path, error_words(-errno));
        }
        if (err == 0) {
            *ret_record = s;
            *ret_used = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
        }
    }
    return err;
}

int volume_new_store(const struct config *config, const char *text, struct volume_new_store *n,
                     struct why *why) {
    struct config c = *config;
    struct super record = n->record;
    bool begun;
    int err = config_add_store(&c, text, why);

    if (err < 0) {
        return err;
    }
    n->store = c.store[c.count - 1];
    err = config_check(&c, why);
    if (err < 0) {
        return err;
    }
    if (n->in_place_of >= 0 &&
        strcmp(c.store[n->in_place_of].path, n->store.path) == 0) { /* a new disk, mounted there */
        config_drop_store(&c, (unsigned)n->in_place_of);
    }
    err = assemble_check_places(&c, c.mount_point[0] ? c.mount_point : NULL, why);
    begun = err == 0 && is_newcomer(&record, n->store.path);
    err = err < 0 ? err : store_probe(n->store.path, &n->caps, why);
    err = err < 0 ? err : check_room(n, why);
    err = err < 0 ? err : enter_member(&record, n, why);
    if (err < 0) {
        return err;
    }
    err = begun ? check_lost(n->store.path, why) : 0;
    if (err < 0) {
        return err;
    }
    note_missing(&n->store, n->caps, n->notice, n->notice_arg);
    note_shared(&c, c.count - 1, n->notice, n->notice_arg);
    err = begun ? store_unformat(n->store.path, why) : 0; /* of a try that was cut off */
    err = err < 0 ? err : store_format(n->store.path, &record, begun, why);
    n->id = record.store_id;
    return err;
}

int volume_identify(const char *const *paths, unsigned n, struct config *ret_config,
                    struct why *why) {
    struct config c = {0};
    struct super first = {0}, s;

    for (unsigned i = 0; i < n; i++) {
        const struct super_member *m;
        int err = config_ask_folder(paths[i], why);

        err = err < 0 ? err : store_identify(paths[i], &s, why);
        if (err < 0) {
            return err;
        }
        if (i == 0) {
            first = s;
            c.id = s.volume_id;
            memcpy(c.name, s.volume_name, sizeof(c.name));
        } else if (!id_equal(&first.volume_id, &s.volume_id)) {
            return why_set(
                why, -HFE_FOREIGN,
                "%s is a store of volume \"%s\", %s of volume \"%s\": not the same volume",
                paths[0], first.volume_name, paths[i], s.volume_name);
        }
        m = super_member_of(&s, &s.store_id);
        if (!m || !realpath(paths[i], c.store[c.count].path)) {
            return why_set(why, -HFE_CORRUPT, "%s: its superblock does not name itself", paths[i]);
        }
        for (unsigned k = 0; k < c.count; k++) {
            if (strcmp(c.store[k].label, m->label) == 0) {
                return why_set(why, -HFE_UNSAFE,
                               "%s and %s are the same store, or copies of it: give one", paths[k],
                               paths[i]);
            }
        }
        memcpy(c.store[c.count++].label, m->label, LABEL_BYTES);
    }
    *ret_config = c;
    return 0;
}

int volume_protect_mount_point(const char *path, bool on) {
    scope_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int flags;

    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0) {
        return -errno;
    }
    flags = on ? flags | FS_IMMUTABLE_FL : flags & ~FS_IMMUTABLE_FL;
    return ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ? -errno : 0;
}

/* A take-over is undone: the store DIR.store becomes DIR again. */
static int move_back(const struct config *c, unsigned keep, struct why *why) {
    char want[PATH_BYTES + 8];

    if (c->mount_point[0] && volume_protect_mount_point(c->mount_point, false) < 0 &&
        errno != ENOTTY && errno != ENOENT) {
        return why_set(why, -errno,
                       "%s could not be made an ordinary folder again: %s. Use `chattr -i`",
                       c->mount_point, error_words(-errno));
    }
    (void)snprintf(want, sizeof(want), "%s.store", c->mount_point);
    if (!c->mount_point[0] || strcmp(want, c->store[keep].path) != 0) {
        return 0;
    }
    if (rmdir(c->mount_point) < 0 || rename(want, c->mount_point) < 0) {
        return why_set(why, -errno, "%s could not be renamed back to %s: %s. Do so by hand", want,
                       c->mount_point, error_words(-errno));
    }
    return 0;
}

int volume_dissolve(const struct config *c, unsigned keep, struct why *why) {
    struct super s;
    int err = assemble_check_current(c, keep, why);

    if (err < 0) {
        return err;
    }
    for (unsigned i = 0; i < c->count && err == 0; i++) {
        err = c->store[i].away ? 0 : check_lost(c->store[i].path, why);
    }
    if (err < 0) {
        return err;
    }
    for (unsigned i = 0; i < c->count; i++) {
        if (i != keep && !c->store[i].away && store_identify(c->store[i].path, &s, NULL) == 0 &&
            id_equal(&s.volume_id, &c->id)) {
            err = store_unformat(c->store[i].path, why);
            if (err < 0) {
                return err;
            }
        }
    }
    err = store_unformat(c->store[keep].path, why);
    err = err < 0 ? err : config_remove(c->name, why);
    if (err == 0 && witness_remove(&c->id) < 0) {
        err = why_set(why, -EIO, "the witness record in %s could not be removed", state_dir());
    }
    return err < 0 ? err : move_back(c, keep, why);
}
