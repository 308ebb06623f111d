/* mount and umount. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "daemon/volume.h"
#include "tool.h"

/* NAME, or STORE[:STORE...] of a volume that has no file here. */
static int find_volume(const char *word, struct config *c, struct why *why) {
    const char *paths[STORES_MAX];
    scope_free char *copy = NULL;
    char *rest, *part;
    unsigned n = 0;

    if (!strchr(word, '/')) {
        return config_load(word, c, why);
    }
    rest = copy = strdup(word);
    while ((part = strsep(&rest, ":"))) {
        if (n == STORES_MAX) {
            return why_set(why, -HFE_USAGE, "a volume has at most %d stores", STORES_MAX);
        }
        paths[n++] = part;
    }
    return volume_identify(paths, n, c, why);
}

static int parse_request(const struct args *a, struct daemon_request *r, struct why *why) {
    int err = find_volume(a->word[0], &r->config, why);
    const char *where;

    if (err < 0) {
        return err;
    }
    daemon_clear_dead(r->config.name);
    where = a->count > 1 ? a->word[1] : r->config.mount_point;
    if (!*where) {
        return why_set(why, -HFE_USAGE,
                       "say where: holdfast mount %s DIR (or put `mount = DIR` into %s/%s.conf)",
                       r->config.name, config_dir(), r->config.name);
    }
    if (!realpath(where, r->mount_point)) {
        if (errno == ENOTCONN) {
            return why_set(why, -ENOTCONN,
                           "%s is the mount of a daemon that died: `umount %s` first", where,
                           where);
        }
        return why_set(why, -errno, "the mount point %s: %s; create the folder first", where,
                       error_words(-errno));
    }
    err = mount_options_parse(r->config.options, &r->options, why);
    err = err < 0 || !a->options ? err : mount_options_parse(a->options, &r->options, why);
    if (err == 0) {
        config_ask_stores(&r->config, r->options.store_timeout_ms);
    }
    r->options.force = a->force;
    r->foreground = a->foreground || a->debug;
    r->debug = a->debug;
    return err;
}

int cmd_mount(const struct args *a) {
    struct daemon_request *r = calloc(1, sizeof(*r));
    struct why why = {""};
    int err = r ? parse_request(a, r, &why) : -ENOMEM;

    err = err < 0 ? err : daemon_run(r, &why);
    free(r);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}

int cmd_umount(const struct args *a) {
    char mount_point[PATH_BYTES], name[PATH_BYTES];
    struct why why = {""};
    int err;

    if (daemon_find_mount(a->word[0], mount_point, name) < 0) {
        err = why_set(
            &why, -ENOENT,
            "%s is not a mounted volume or its mount point; `holdfast list` shows what is mounted",
            a->word[0]);
        return fail(err, &why);
    }
    err = daemon_unmount(mount_point, name, a->lazy, &why);
    return err < 0 ? fail(err, &why) : EXIT_OK;
}
