/* mount(8)'s and umount(8)'s helper: one program under four names.
 *
 *     mount.holdfast, mount.fuse.holdfast      SPEC DIR [-sfnv] [-N NS] [-o OPTS]
 *     umount.holdfast, umount.fuse.holdfast    DIR [-flnrv] [-N NS] [-t TYPE]
 *
 * It turns them into calls of the holdfast command and answers with mount(8)'s exit codes. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MOUNT_OK = 0,
    MOUNT_USAGE = 1,
    MOUNT_SYSTEM = 2,
    MOUNT_FAILED = 32,
};

struct call {
    const char *spec, *dir, *options;
    bool fake, lazy;
};

static int run(const char *const *argv) {
    int status;
    pid_t pid = fork();

    if (pid < 0) {
        perror("holdfast: fork");
        return MOUNT_SYSTEM;
    }
    if (pid == 0) {
        execv(HOLDFAST_BINARY, (char *const *)argv);
        perror("holdfast: cannot run " HOLDFAST_BINARY);
        _exit(127);
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return MOUNT_SYSTEM;
        }
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 127) {
        return MOUNT_SYSTEM;
    }
    return WEXITSTATUS(status) == 0   ? MOUNT_OK
           : WEXITSTATUS(status) == 2 ? MOUNT_USAGE
                                      : MOUNT_FAILED;
}

static bool has_option(const char *list, const char *word) {
    size_t n = strlen(word);

    for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : "") {
        if (strncmp(p, word, n) == 0 && (p[n] == ',' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

/* A remount reaches the kernel by mount(8) itself, without a helper: never a second daemon. */
static int remount(const struct call *c) {
    const char *argv[] = {"mount", "-i", "-o", c->options, c->dir, NULL};
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        execvp("mount", (char *const *)argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) < 0) {
        return MOUNT_SYSTEM;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? MOUNT_OK : MOUNT_FAILED;
}

static int do_mount(const struct call *c) {
    const char *argv[] = {"holdfast", "mount", c->spec, c->dir, "-o", c->options, NULL};

    if (c->fake) {
        return MOUNT_OK;
    }
    return has_option(c->options, "remount") ? remount(c) : run(argv);
}

static int do_umount(const struct call *c) {
    const char *argv[] = {"holdfast", "umount", c->spec, c->lazy ? "--lazy" : NULL, NULL};

    return c->fake ? MOUNT_OK : run(argv);
}

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/'), *me = slash ? slash + 1 : argv[0];
    bool unmount = strncmp(me, "umount", 6) == 0;
    struct call c = {.options = "defaults"};
    int opt;

    while ((opt = getopt(argc, argv, unmount ? "flnrvN:t:" : "fnsvo:N:t:")) != -1) {
        switch (opt) {
        case 'o':
            c.options = optarg;
            break;
        case 'f':
            c.fake = !unmount; /* umount -f is "force": the kernel has no such thing for us */
            break;
        case 'l':
            c.lazy = true;
            break;
        case '?':
            return MOUNT_USAGE;
        default:
            break; /* -n -s -v -r -N -t: nothing to do with them */
        }
    }
    c.spec = argc > optind ? argv[optind++] : NULL;
    c.dir = argc > optind ? argv[optind++] : NULL;
    if (!c.spec || (!unmount && !c.dir)) {
        (void)fprintf(stderr, "usage: %s\n",
                      unmount ? "umount.holdfast DIR [-l]" : "mount.holdfast NAME DIR [-o OPTS]");
        return MOUNT_USAGE;
    }
    return unmount ? do_umount(&c) : do_mount(&c);
}
