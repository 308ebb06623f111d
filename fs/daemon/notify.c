#include "daemon/notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

enum {
    QUEUE_MAX = 256,      /* events that wait to be told; more are in the log only */
    FILE_BYTES = 1 << 20, /* of the events file, before it is put aside */
    PROGRAM_MS = 30000,   /* a program may take so long */
    STOP_MS = 5000,
    PROGRAMS_MAX = 32,
};

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_t thread;
    const struct config *config; /* constant while it runs */
    /* guarded by mutex */
    struct event queue[QUEUE_MAX];
    unsigned first, count;
    bool running, stop;
} n = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void notify_path(const char *name, char ret_path[PATH_BYTES]) {
    (void)snprintf(ret_path, PATH_BYTES, "%s/%s.events", state_dir_of(name),
                   name); /* too long fails at open */
}

static void write_down(const char *name, const struct event *e) {
    char path[PATH_BYTES], old[PATH_BYTES + 4];
    json_t *o = json_pack("{s:s, s:I, s:s, s:s}", "volume", name, "time", (json_int_t)e->real_s,
                          "level", event_level_name(e->level), "text", e->text);
    struct stat st;
    FILE *f;

    notify_path(name, path);
    (void)snprintf(old, sizeof(old), "%s.1", path);
    if (stat(path, &st) == 0 && st.st_size > FILE_BYTES) {
        (void)rename(path, old); /* else it grows: no matter */
    }
    f = o ? fopen(path, "ae") : NULL;
    if (f) { /* a full disk: the system log has it */
        (void)json_dumpf(o, f, JSON_COMPACT);
        (void)fputc('\n', f);
        (void)fclose(f);
    }
    json_decref(o);
}

/* As io_plain_signals(). */
static void set_plain_signals(posix_spawnattr_t *ret_attr) {
    sigset_t set;

    (void)posix_spawnattr_init(ret_attr); /* as for the actions */
    (void)sigemptyset(&set);              /* these cannot fail */
    (void)posix_spawnattr_setsigmask(ret_attr, &set);
    (void)sigaddset(&set, SIGPIPE);
    (void)sigaddset(&set, SIGUSR1);
    (void)posix_spawnattr_setsigdefault(ret_attr, &set);
    (void)posix_spawnattr_setflags(ret_attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* Runs a program with the event in its environment and, for mail, on its input. How it ended goes to
 * ret_result. */
static bool run_program(const char *const argv[], const char *name, const struct event *e,
                        const char *input, char ret_result[NOTIFY_RESULT_BYTES]) {
    char volume[VOLUME_NAME_BYTES + 32], level[64], text[sizeof(e->text) + 32], when[64];
    char *env[] = {volume,
                   level,
                   text,
                   when,
                   "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                   NULL};
    posix_spawn_file_actions_t actions;
    int64_t deadline = clock_ms() + PROGRAM_MS;
    int in[2], err, status = 0;
    bool late = false;
    posix_spawnattr_t attr;
    pid_t pid;

    (void)snprintf(volume, sizeof(volume), "HOLDFAST_VOLUME=%s", name);
    (void)snprintf(level, sizeof(level), "HOLDFAST_LEVEL=%s", event_level_name(e->level));
    (void)snprintf(text, sizeof(text), "HOLDFAST_TEXT=%s", e->text);
    (void)snprintf(when, sizeof(when), "HOLDFAST_TIME=%llu", (unsigned long long)e->real_s);
    if (pipe2(in, O_CLOEXEC) < 0) {
        (void)snprintf(ret_result, NOTIFY_RESULT_BYTES, "not run: %s", error_words(-errno));
        return false;
    }
    (void)posix_spawn_file_actions_init(
        &actions); /* fails only without memory; then the spawn does, too */
    (void)posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    (void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    set_plain_signals(&attr);
    err = posix_spawn(&pid, argv[0], &actions, &attr, (char *const *)argv, env);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(in[0]);
    if (input && write(in[1], input, strlen(input)) < 0) {
        input = NULL; /* it does not read: its choice */
    }
    (void)close(in[1]);
    while (err == 0 && waitpid(pid, &status, WNOHANG) == 0) {
        if (clock_ms() > deadline) {
            (void)kill(pid, SIGKILL);
            late = true;
        }
        (void)poll(NULL, 0, 20);
    }
    if (err != 0) {
        (void)snprintf(ret_result, NOTIFY_RESULT_BYTES, "cannot be run: %s", error_words(-err));
    } else if (late) {
        (void)snprintf(ret_result, NOTIFY_RESULT_BYTES, "killed, as it took more than %d s",
                       PROGRAM_MS / 1000);
    } else if (WIFEXITED(status) && WEXITSTATUS(status) != 0) {
        (void)snprintf(ret_result, NOTIFY_RESULT_BYTES, "failed with exit status %d",
                       WEXITSTATUS(status));
    } else if (!WIFEXITED(status)) {
        (void)snprintf(ret_result, NOTIFY_RESULT_BYTES, "ended by signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(ret_result, NOTIFY_RESULT_BYTES, "told");
        return true;
    }
    return false;
}

/* Who is told, and what is done with how that went. */
struct telling {
    const char *name;
    const struct event *e;
    notify_result_fn *result; /* NULL: it does not matter */
    void *arg;
};

static void tell_program(const struct telling *t, const char *const argv[], const char *input) {
    char result[NOTIFY_RESULT_BYTES];
    bool well = run_program(argv, t->name, t->e, input, result);

    if (t->result) {
        t->result(t->arg, argv[0], result, well);
    }
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void tell_folder(const struct telling *t) {
    char folder[PATH_BYTES], path[PATH_BYTES + NAME_BYTES];
    struct dirent **list = NULL;
    int count, run = 0;

    (void)snprintf(folder, sizeof(folder), "%s/events.d", config_dir());
    count = scandir(folder, &list, NULL, by_name);
    for (int i = 0; i < count; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, list[i]->d_name);
        if (list[i]->d_name[0] != '.' && access(path, X_OK) == 0 && run < PROGRAMS_MAX) {
            tell_program(
                t, (const char *[]){path, event_level_name(t->e->level), t->name, t->e->text, NULL},
                NULL);
            run++;
        }
        free(list[i]);
    }
    free(list);
}

/* Good news goes to the programs, bad news also by mail. */
static void tell(const struct config *c, const struct telling *t, bool mail) {
    const struct event *e = t->e;

    tell_folder(t);
    if (c->program[0]) {
        tell_program(
            t, (const char *[]){c->program, event_level_name(e->level), c->name, e->text, NULL},
            NULL);
    }
    if (c->mailaddr[0] && mail) {
        char message[sizeof(e->text) + 512];

        (void)snprintf(message, sizeof(message),
                       "To: %s\nSubject: holdfast: %s: %s\n\n%s\n\nholdfast status %s\n",
                       c->mailaddr, c->name, event_level_name(e->level), e->text, c->name);
        tell_program(t, (const char *[]){"/usr/sbin/sendmail", "-t", NULL}, message);
    }
}

void notify_test(const struct config *c, const struct event *e, notify_result_fn *result,
                 void *arg) {
    write_down(c->name, e);
    tell(c, &(struct telling){c->name, e, result, arg}, true);
}

/* Whom the configuration names now; it may have been edited since the mount. */
static void tell_now(const struct event *e) {
    struct config *c = malloc(sizeof(*c));
    const struct config *now = n.config;
    struct why why;

    if (c && config_load(n.config->name, c, &why) == 0 && id_equal(&c->id, &n.config->id)) {
        now = c;
    }
    tell(now, &(struct telling){now->name, e, NULL, NULL}, e->level != EVENT_INFO);
    free(c);
}

static void *thread_main(void *arg) {
    (void)arg;
    pthread_mutex_lock(&n.mutex);
    while (!n.stop || n.count > 0) {
        struct event e;

        if (n.count == 0) {
            pthread_cond_wait(&n.changed, &n.mutex);
            continue;
        }
        e = n.queue[n.first];
        n.first = (n.first + 1) % QUEUE_MAX;
        n.count--;
        pthread_mutex_unlock(&n.mutex);
        write_down(n.config->name, &e);
        tell_now(&e);
        pthread_mutex_lock(&n.mutex);
    }
    n.running = false;
    pthread_cond_broadcast(&n.changed);
    pthread_mutex_unlock(&n.mutex);
    return NULL;
}

int notify_start(const struct config *config, struct why *why) {
    int err = io_make_path(state_dir(), 0755);

    if (err < 0) {
        return why_set(why, err, "cannot make %s: %s", state_dir(), error_words(err));
    }
    n.config = config;
    n.running = true;
    if (pthread_create(&n.thread, NULL, thread_main, NULL) != 0) {
        n.running = false;
        return why_set(why, -EAGAIN, "cannot start a thread");
    }
    return 0;
}

void notify_stop(void) {
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until); /* cannot fail for this clock */
    until.tv_sec += STOP_MS / 1000;
    pthread_mutex_lock(&n.mutex);
    n.stop = true;
    pthread_cond_broadcast(&n.changed);
    while (n.running && pthread_cond_timedwait(&n.changed, &n.mutex, &until) == 0) {
        continue;
    }
    if (!n.running && n.config) {
        pthread_mutex_unlock(&n.mutex);
        (void)pthread_join(n.thread, NULL); /* cannot fail for our own thread */
        return;
    }
    pthread_mutex_unlock(&n.mutex);
}

void notify_event(const struct event *e) {
    pthread_mutex_lock(&n.mutex);
    if (n.running && n.count < QUEUE_MAX) {
        n.queue[(n.first + n.count++) % QUEUE_MAX] = *e;
        pthread_cond_signal(&n.changed);
    }
    pthread_mutex_unlock(&n.mutex);
}
