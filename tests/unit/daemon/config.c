#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "daemon/config.h"

static char dir[64];

static void up(void) {
    (void)snprintf(dir, sizeof(dir), "/tmp/holdfast-config-XXXXXX");
    cr_assert(mkdtemp(dir));
    cr_assert_eq(setenv("HOLDFAST_CONF_DIR", dir, 1), 0);
}
static void down(void) {
    cr_assert_eq(io_remove_tree(AT_FDCWD, dir), 0);
}
TestSuite(config, .init = up, .fini = down);

Test(config, what_is_saved_is_loaded) {
    struct config c = {.name = "crm",
                       .id = {{1, 2}},
                       .mount_point = "/srv/crm",
                       .options = "min-stores=1"},
                  back;
    char names[4][VOLUME_NAME_BYTES];
    struct why why = {""};

    cr_assert_eq(config_add_store(&c, "/", &why), 0);
    cr_assert_eq(config_add_store(&c, "nas1=/tmp", &why), 0);
    cr_assert_eq(config_add_store(&c, "/usr", &why), 0);
    cr_assert_eq(config_save(&c, &why), 0, "%s", why.text);
    cr_assert_eq(config_load("crm", &back, &why), 0, "%s", why.text);
    cr_assert_eq(memcmp(&c, &back, sizeof(c)), 0);
    cr_assert_str_eq(back.store[0].label, "a");
    cr_assert_str_eq(back.store[1].label, "nas1");
    cr_assert_str_eq(back.store[2].label, "b");
    cr_assert_eq(config_list(names, 4), 1);
    cr_assert_str_eq(names[0], "crm");
}

static void refuse(const char *text) {
    struct config c;
    struct why why = {""};
    int folder = open(dir, O_RDONLY | O_DIRECTORY);

    cr_assert_eq(io_replace(folder, "bad.conf", text, strlen(text), 0644), 0);
    cr_assert_eq(config_load("bad", &c, &why), -HFE_USAGE, "%s", text);
    cr_assert_neq(why.text[0], '\0');
    (void)close(folder);
}

Test(config, mistakes_are_named) {
    refuse("");
    refuse("[volume]\nid = zz\n");
    refuse("[volume]\nid = 00000000000000000000000000000001\n");
    refuse("[volume]\nid = 00000000000000000000000000000001\nfoo = 1\n[store a]\npath = /x\n");
    refuse("[volume]\nid = 00000000000000000000000000000001\n[store 1a]\npath = /x\n");
    refuse("[volume]\nid = 00000000000000000000000000000001\n[thing]\nx = 1\n");
    refuse("garbage\n");
}

Test(config, a_volume_that_is_not_there_is_not_found) {
    struct config c;
    struct why why = {""};

    cr_assert_eq(config_load("none", &c, &why), -ENOENT);
    cr_assert_eq(config_load("../etc/passwd", &c, &why), -HFE_USAGE);
}

Test(options, what_mount_passes_on_is_dropped_and_ours_is_understood) {
    struct mount_options o = {0};
    struct why why = {""};

    cr_assert_eq(
        mount_options_parse("rw,_netdev,nofail,user,relatime,x-systemd.automount,noatime,degraded,"
                            "min-stores=2,cache=writeback,fsname=x,suid",
                            &o, &why),
        0, "%s", why.text);
    cr_assert(o.degraded && o.writeback && o.suid && !o.dev);
    cr_assert_eq(o.min_stores, 2);
    cr_assert_str_eq(o.fsname, "x");
    cr_assert_str_eq(o.for_kernel, ",noatime");
    cr_assert_eq(mount_options_parse("frobnicate", &o, &why), -HFE_USAGE);
    cr_assert_eq(mount_options_parse("min-stores=0", &o, &why), -HFE_USAGE);
    cr_assert_eq(mount_options_parse("min-stores=9", &o, &why), -HFE_USAGE);
}
