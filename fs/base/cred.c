#include "base/cred.h"

#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
    GROUPS_MAX = 1024 /* groups of one caller that are looked at; NGROUPS_MAX is 65536 */
};

const struct cred cred_self = {.umask = 077};

static _Thread_local struct {
    bool own_umask; /* this thread has a umask of its own */
    mode_t umask;
    bool ids, groups;
} me;

bool cred_can_become(void) {
    return geteuid() == 0;
}

static void take_umask(mode_t mask) {
    if (!me.own_umask) {
        if (unshare(CLONE_FS) < 0) {
            abort(); /* cannot fail without a seccomp filter; going on would give wrong modes */
        }
        me.own_umask = true;
        me.umask = (mode_t)~0u;
    }
    if (me.umask != mask) {
        umask(mask);
        me.umask = mask;
    }
}

/* The ids were switched, which took all file capabilities from the effective set (capabilities(7));
 * give back the two that the call needs. */
static void keep_override(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];

    if (syscall(SYS_capget, &head, data) == 0) {
        data[0].effective |= data[0].permitted &
                             (1u << CAP_DAC_OVERRIDE | 1u << CAP_MKNOD | 1u << CAP_DAC_READ_SEARCH);
        (void)syscall(SYS_capset, &head, data); /* refused: the call itself answers EACCES */
    }
}

/* The supplementary groups of a process; none if it is gone. */
static size_t read_groups(pid_t pid, gid_t list[GROUPS_MAX]) {
    char path[64], line[16384];
    size_t n = 0;
    FILE *f;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = pid > 0 ? fopen(path, "re") : NULL;
    if (!f) {
        return 0;
    }
    while (fgets(line, sizeof(line), f)) {
        char *p = line + 7, *end;

        if (strncmp(line, "Groups:", 7) != 0) {
            continue;
        }
        for (; n < GROUPS_MAX; p = end) {
            unsigned long g = strtoul(p, &end, 10);

            if (end == p) {
                break;
            }
            list[n++] = (gid_t)g;
        }
        break;
    }
    (void)fclose(f); /* read only */
    return n;
}

bool cred_in_group(const struct cred *who, gid_t gid) {
    gid_t list[GROUPS_MAX];
    size_t n = who->gid == gid ? 0 : read_groups(who->pid, list);

    for (size_t i = 0; i < n; i++) {
        if (list[i] == gid) {
            return true;
        }
    }
    return who->gid == gid;
}

/* A raw call: glibc's setgroups() would change every thread of the process. */
static void take_groups(pid_t pid) {
    gid_t list[GROUPS_MAX];
    size_t n = read_groups(pid, list);

    if (syscall(SYS_setgroups, n, list) == 0) {
        me.groups = true;
    }
}

void cred_become(const struct cred *who, bool groups) {
    take_umask(who->umask);
    if (!cred_can_become() || (who->uid == 0 && who->gid == 0)) {
        return;
    }
    if (groups) {
        take_groups(who->pid);
    }
    (void)setfsgid(who->gid);
    (void)setfsuid(who->uid); /* as root neither can fail; both return the old id */
    if (who->uid != 0) {
        keep_override();
    }
    me.ids = true;
}

void cred_back(void) {
    if (me.ids) {
        (void)setfsuid(0);
        (void)setfsgid(0);
        me.ids = false;
    }
    if (me.groups) {
        (void)syscall(SYS_setgroups, (size_t)0, NULL);
        me.groups = false;
    }
}
