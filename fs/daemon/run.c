#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "base/io.h"
#include "ctl/ctl.h"
#include "daemon/assemble.h"
#include "daemon/daemon.h"
#include "daemon/notify.h"
#include "daemon/utab.h"
#include "fuse/front.h"
#include "heal/keeper.h"
#include "mirror/mirror.h"

enum {
    STOP_PATIENCE_MS = 10000, /* SIGTERM: open files may be closed for so long */
    CHORES = 5,
    CARRIER = 4, /* runs to the very end: the last changes, too, may wait for room in the ring */
};

struct running {
    const struct daemon_request *request;
    struct events *events;
    struct assembly assembly;
    struct front *front;
    struct ctl_server *ctl;
    pthread_mutex_t roster_lock;       /* over changes of the next, and of the configuration file */
    struct keeper *keeper[STORES_MAX]; /* once started, it stays */
    struct verifier *verifier;
    struct chore {
        struct running *r;
        void (*step)(struct running *r);
        const _Atomic bool *until;
        _Atomic bool runs;
    } chore[CHORES];
    int report; /* pipe to the waiting parent; -1 once it was told */
    _Atomic bool done, watch_done, stop;
    _Atomic bool ended;
    bool stuck; /* a thread is in a store that does not answer: nothing can be freed */
};

/* --- telling the parent --- */

struct verdict {
    int err;
    struct why why;
};

static void tell(struct running *r, int err, const struct why *why) {
    struct verdict v = {.err = err};

    if (r->report < 0) {
        return;
    }
    if (why) {
        v.why = *why;
    }
    if (write(r->report, &v, sizeof(v)) != (ssize_t)sizeof(v)) {
        syslog(LOG_WARNING, "the mount command is gone");
    }
    (void)close(r->report); /* a pipe */
    r->report = -1;
}

/* --- events --- */

static bool to_stderr;

static void show_event(const struct event *e) {
    static const int priority[] = {LOG_INFO, LOG_WARNING, LOG_ERR};

    notify_event(e);

    if (to_stderr) {
        char when[32];

        clock_text(e->real_s, when);
        (void)fprintf(stderr, "%s %s: %s\n", when, event_level_name(e->level), e->text);
    } else {
        syslog(priority[e->level], "%s", e->text);
    }
}

/* --- serving --- */

static int check_mount_point(const struct daemon_request *r, struct why *why) {
    char other[PATH_BYTES], name[PATH_BYTES];
    struct stat st;

    if (stat(r->mount_point, &st) < 0) {
        if (errno == ENOTCONN) {
            return why_set(why, -ENOTCONN,
                           "%s is the mount of a daemon that died: `umount %s` first",
                           r->mount_point, r->mount_point);
        }
        return why_set(why, -errno, "the mount point %s: %s; create the folder first",
                       r->mount_point, error_words(-errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        return why_set(why, -ENOTDIR, "the mount point %s is not a folder", r->mount_point);
    }
    if (daemon_find_mount(r->mount_point, other, name) == 0) {
        return why_set(why, -HFE_IN_USE, "volume \"%s\" is already mounted at %s", name,
                       r->mount_point);
    }
    return assemble_check_places(&r->config, r->mount_point, why);
}

/* To systemd, if it started us (sd_notify(3): one datagram to $NOTIFY_SOCKET). */
static void notify_systemd(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    scope_fd int fd = path ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    size_t len = path ? strlen(path) : 0;

    if (fd < 0 || len == 0 || len >= sizeof(to.sun_path)) {
        return;
    }
    memcpy(to.sun_path, path, len);
    if (to.sun_path[0] == '@') {
        to.sun_path[0] = '\0';
    }
    (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&to,
                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
                             len)); /* nobody listens: nobody waits */
}

static void on_ready(void *arg) {
    struct running *r = arg;

    notify_systemd("READY=1");

    utab_add(r->request->config.name, r->request->mount_point, "rw");
    tell(r, 0, NULL);
}

/* Does another store take the place of this one, on a new disk at the same path? */
static bool gave_up_place(const struct mirror_status *st, const struct config_store *s) {
    bool nowhere = false, other = false;

    for (unsigned i = 0; i < st->count; i++) {
        bool same = strcmp(st->member[i].label, s->label) == 0;

        nowhere = nowhere || (same && st->member[i].path[0] == '\0');
        other = other || (!same && strcmp(st->member[i].path, s->path) == 0);
    }
    return nowhere && other;
}

/* The configuration names the stores that are part of the volume: the mirror knows. One without a
 * file (`mount STORE:STORE`) has nothing to note. */
static void note_stores(struct running *r) {
    struct mirror *m = mirror_of(r->assembly.mirror);
    struct mirror_status *st = malloc(sizeof(*st));
    struct config c;
    struct why why = {""};
    bool changed = false;
    int err = st ? config_load(r->request->config.name, &c, &why) : -ENOMEM;

    if (err == 0 && id_equal(&c.id, &r->assembly.volume_id)) {
        mirror_status(m, st);
        for (unsigned k = c.count; k-- > 0;) {
            if (mirror_was_removed(m, c.store[k].label) || gave_up_place(st, &c.store[k])) {
                config_drop_store(&c, k);
                changed = true;
            }
        }
        for (unsigned i = 0; i < st->count; i++) {
            changed |= st->member[i].path[0] != '\0' &&
                       config_note_store(&c, st->member[i].label, st->member[i].path);
        }
        err = changed ? config_save(&c, &why) : 0;
    }
    free(st);
    if (err < 0 && err != -ENOENT) {
        event_post(
            r->events, EVENT_ERROR,
            "the stores of the volume could not be noted in its configuration: %s. Correct it "
            "by hand: `holdfast store list %s` shows them",
            why.text[0] ? why.text : error_words(err), r->request->config.name);
    }
}

/* A store was added, removed or replaced. */
static void on_roster(void *arg) {
    struct running *r = arg;
    struct mirror *m = mirror_of(r->assembly.mirror);
    const struct keeper_config kc = {
        .mirror = m, .events = r->events, .roster_changed = on_roster, .arg = r};

    pthread_mutex_lock(&r->roster_lock);
    for (unsigned i = 0; i < mirror_count(m) && !r->done; i++) {
        if (r->keeper[i]) {
            keeper_wake_new(r->keeper[i]);
        } else if (keeper_start(&kc, i, &r->keeper[i]) < 0) {
            event_post(
                r->events, EVENT_ERROR,
                "cannot start a thread: a store is not looked after. Mount the volume again");
        }
    }
    note_stores(r);
    pthread_mutex_unlock(&r->roster_lock);
}

static void on_stop(void *arg) {
    struct running *r = arg;

    r->stop = true;
}

/* Asks for the mount to go; after a while, by force. */
static void stop_step(struct running *r, int64_t *since) {
    int64_t now = clock_ms();

    if (*since == 0) {
        *since = now;
        if (front_unmount(r->front, false) < 0) {
            event_post(r->events, EVENT_WARNING,
                       "the volume is in use; it is detached now and ends when files are closed");
            if (front_unmount(r->front, true) < 0) {
                front_abort(r->front);
            }
        }
    } else if (now - *since > STOP_PATIENCE_MS) {
        event_post(r->events, EVENT_WARNING, "files are still open: cutting them off");
        front_abort(r->front);
        *since = now;
    }
}

/* The watchdog, and signals. This thread never touches a store. */
static void *watch_main(void *arg) {
    struct running *r = arg;
    int64_t stopping = 0;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    while (!r->watch_done) {
        struct timespec wait = {.tv_nsec = (long)TICK_MS * 1000000};
        int sig = sigtimedwait(&set, NULL, &wait);

        if (sig == SIGTERM || sig == SIGINT) {
            r->stop = true;
        }
        if (r->stop && !r->done) {
            stop_step(r, &stopping);
        }
        mirror_watch(mirror_of(r->assembly.mirror));
    }
    return NULL;
}

/* Something to do every TICK_MS, in a thread of its own; if that gets stuck in a store, another one
 * goes on. */
static void chore_step(void *arg) {
    const struct chore *c = arg;

    c->step(c->r);
}

static void chore_loop(void *arg) {
    struct chore *c = arg;

    while (!*c->until) {
        (void)poll(NULL, 0, TICK_MS); /* woken early: no matter */
        if (!fiber_run(chore_step, c, chore_loop, c)) {
            return;
        }
    }
    c->runs = false;
}

static void *chore_main(void *arg) {
    chore_loop(arg);
    return NULL;
}

static int start_thread(void *(*main)(void *), void *arg, struct why *why) {
    pthread_t thread;

    if (pthread_create(&thread, NULL, main, arg) != 0) {
        return why_set(why, -EAGAIN, "cannot start a thread");
    }
    (void)pthread_detach(thread); /* cannot fail for a thread that was just made */
    return 0;
}

static void tick(struct running *r) {
    mirror_tick(mirror_of(r->assembly.mirror));
}

static void log_tick(struct running *r) {
    mirror_log_tick(mirror_of(r->assembly.mirror));
}

static void carry_and_beat(struct running *r) {
    mirror_log_carry(mirror_of(r->assembly.mirror));
    mirror_heartbeat(mirror_of(r->assembly.mirror));
}

static void sync_snapshots(struct running *r) {
    snap_tick(r->assembly.snap);
}

static void reap_snapshots(struct running *r) {
    while (!r->done && snap_reap(r->assembly.snap)) {
    }
}

static int start_chores(struct running *r, struct why *why) {
    static void (*const steps[CHORES])(struct running *) = {tick, log_tick, sync_snapshots,
                                                            reap_snapshots, carry_and_beat};
    int err = 0;

    for (int i = 0; i < CHORES && err == 0; i++) {
        struct chore *c = &r->chore[i];

        c->r = r;
        c->step = steps[i];
        c->until = i == CARRIER ? &r->ended : &r->done;
        c->runs = true;
        err = start_thread(chore_main, c, why);
        if (err < 0) {
            c->runs = false;
        }
    }
    if (err == 0) {
        on_roster(r);
    }
    return err;
}

static void wait_for_chore(const struct chore *c) {
    while (c->runs) {
        (void)poll(NULL, 0, 2); /* the watchdog sees to it that none waits for long */
    }
}

/* All but the carrier. False if a keeper is stuck in its store. */
static bool stop_chores(struct running *r) {
    bool ended;

    pthread_mutex_lock(&r->roster_lock); /* who starts or wakes keepers has ended, or sees it */
    r->done = true;
    pthread_mutex_unlock(&r->roster_lock);
    ended = verifier_free(r->verifier);
    for (unsigned i = 0; i < STORES_MAX; i++) {
        ended = keeper_stop(r->keeper[i]) && ended;
    }
    for (int i = 0; i < CARRIER; i++) {
        wait_for_chore(&r->chore[i]);
    }
    return ended;
}

static void kernel_options(const struct daemon_request *q, char *ret_list, size_t size) {
    const struct mount_options *o = &q->options;
    const char *root = geteuid() == 0 ? ",allow_other" : "";

    (void)snprintf(ret_list, size, "fsname=%s,subtype=holdfast,default_permissions%s%s%s%s%s",
                   o->fsname[0] ? o->fsname : q->config.name, root, o->suid ? ",suid" : ",nosuid",
                   o->dev ? ",dev" : ",nodev", o->read_only ? ",ro" : "", o->for_kernel);
}

static int serve(struct running *r, struct why *why) {
    const struct daemon_request *q = r->request;
    char options[1024], socket_path[PATH_BYTES];
    struct front_config fc = {.vol = r->assembly.top,
                              .root = obj_root(mirror_objects(mirror_of(r->assembly.mirror))),
                              .events = r->events,
                              .mount_point = q->mount_point,
                              .options = options,
                              .writeback = q->options.writeback,
                              .debug = q->debug,
                              .ready = on_ready,
                              .ready_arg = r};
    struct ctl_volume cv = {.name = q->config.name,
                            .mount_point = q->mount_point,
                            .events = r->events,
                            .mirror = mirror_of(r->assembly.mirror),
                            .snap = r->assembly.snap,
                            .mounted_s = clock_real_s(),
                            .keeper = r->keeper,
                            .verifier = r->verifier,
                            .stop = on_stop,
                            .roster_changed = on_roster,
                            .arg = r};
    int err;

    kernel_options(q, options, sizeof(options));
    daemon_socket_path(q->config.name, socket_path);
    err = start_chores(r, why);
    err = err < 0 ? err : ctl_start(socket_path, &cv, why, &r->ctl);
    err = err < 0 ? err : front_mount(&fc, why, &r->front);
    if (err == 0) {
        err = front_serve(r->front);
        err = err < 0
                  ? why_set(why, err, "no thread could be started to serve: %s", error_words(err))
                  : 0;
    }
    ctl_stop(r->ctl); /* its verbs look at the mirror, and wake keepers */
    utab_remove(q->mount_point);
    r->stuck = !stop_chores(r);
    return err;
}

struct ending {
    struct running *r;
    int err;
};

static void end_fiber(void *arg) {
    struct ending *e = arg;

    struct snap *snap = e->r->assembly.snap;
    int err = snap_stop(snap);

    if (err < 0) {
        event_post(e->r->events, EVENT_ERROR,
                   "what snapshots keep could not be flushed: %s; the next mount looks at it",
                   error_words(err));
    }
    e->err = mirror_stop(mirror_of(e->r->assembly.mirror));
    e->r->ended = true;
}

/* In a fiber: a store may hang now, too, and the record must be written all the same. */
static int flush(struct running *r) {
    struct ending e = {.r = r};

    if (fiber_start(end_fiber, &e) < 0) {
        e.err = -EAGAIN;
        r->ended = true;
    }
    while (!r->ended) {
        (void)poll(NULL, 0, 2);
    }
    wait_for_chore(&r->chore[CARRIER]);
    return e.err;
}

static int run_volume(struct running *r, struct why *why) {
    pthread_t watch;
    int err, ended;

    err = events_new(show_event, &r->events);
    if (err < 0) {
        return why_set(why, err, "out of memory");
    }
    err = assemble(&r->request->config, &r->request->options, r->events, &r->assembly, why);
    if (err < 0) {
        events_free(r->events);
        return err;
    }
    if (pthread_create(&watch, NULL, watch_main, r) != 0) {
        disassemble(&r->assembly);
        events_free(r->events);
        return why_set(why, -EAGAIN, "cannot start a thread");
    }
    err = verifier_new(mirror_of(r->assembly.mirror), r->events, &r->verifier);
    err = err < 0 ? why_set(why, err, "out of memory") : serve(r, why);
    front_close(r->front);
    ended = flush(r);
    r->watch_done = true;
    (void)pthread_join(watch, NULL); /* cannot fail for our own thread */
    if (err == 0 && ended < 0) {
        err = why_set(why, ended,
                      "the volume could not be flushed: %s; the next mount compares the stores",
                      error_words(ended));
        event_post(r->events, EVENT_ERROR, "%s", why->text);
    }
    if (r->stuck || mirror_stuck(mirror_of(r->assembly.mirror))) {
        mirror_unlock_stores(mirror_of(r->assembly.mirror));
        return err; /* threads are in a store that hangs: all goes with the process */
    }
    disassemble(&r->assembly);
    events_free(r->events);
    return err;
}

/* The child: holds the lock until it ends. */
static int run_child(const struct daemon_request *request, int lock, int report, struct why *why) {
    struct running r = {
        .request = request, .report = report, .roster_lock = PTHREAD_MUTEX_INITIALIZER};
    sigset_t set;
    int err;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &set,
                          NULL); /* taken by the ticking thread; inherited by all */
    to_stderr = request->foreground;
    openlog("holdfast", LOG_PID, LOG_DAEMON);
    umask(077);
    daemon_note_mount(lock, request->mount_point);
    err = notify_start(&request->config, why);
    err = err < 0 ? err : run_volume(&r, why);
    notify_stop();
    tell(&r, err, why);
    (void)close(lock); /* the lock goes with it */
    return err;
}

static void leave_terminal(void) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)setsid(); /* fails only for a group leader, which a child is not */
    if (chdir("/") < 0) {
        syslog(LOG_WARNING, "cannot change to /");
    }
    for (int fd = 0; null >= 0 && fd <= 2; fd++) {
        (void)dup2(null, fd);
    }
}

static int wait_for_child(int report, struct why *why) {
    struct verdict v;
    ssize_t n;

    do {
        n = read(report, &v, sizeof(v));
    } while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof(v)) {
        return why_set(why, -EIO, "the daemon ended before it could serve; see the system log");
    }
    *why = v.why;
    return v.err;
}

/* A daemon that was just unmounted may still flush: wait for it. One that is mounted stays. */
static int lock_for_mount(const char *name, struct why *why) {
    enum { FLUSH_PATIENCE_MS = 30000 };
    char mount_point[PATH_BYTES], other[PATH_BYTES];

    if (daemon_find_mount(name, mount_point, other) < 0 &&
        daemon_wait_gone(name, FLUSH_PATIENCE_MS) < 0) {
        return why_set(
            why, -HFE_IN_USE,
            "the last daemon of volume \"%s\" still flushes; try again when it has ended", name);
    }
    return daemon_lock(name, why);
}

int daemon_run(const struct daemon_request *request, struct why *why) {
    int lock, pipe_fd[2];
    int err = check_mount_point(request, why);

    lock = err < 0 ? err : lock_for_mount(request->config.name, why);
    if (lock < 0) {
        return lock;
    }
    if (request->foreground) {
        return run_child(request, lock, -1, why);
    }
    if (pipe2(pipe_fd, O_CLOEXEC) < 0) {
        return why_set(why, -errno, "cannot make a pipe: %s", error_words(-errno));
    }
    switch (fork()) {
    case -1:
        return why_set(why, -errno, "cannot fork: %s", error_words(-errno));
    case 0:
        (void)close(pipe_fd[0]);
        leave_terminal();
        err = run_child(request, lock, pipe_fd[1], why);
        _exit(err < 0);
    default:
        (void)close(pipe_fd[1]);
        (void)close(lock); /* the child's copy holds it */
        err = wait_for_child(pipe_fd[0], why);
        (void)close(pipe_fd[0]);
        return err;
    }
}
