#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "base/limits.h"
#include "ctl/ctl.h"

struct ctl_server {
    pthread_t thread;
    int listener, stop; /* stop: an eventfd */
    struct ctl_volume volume;
    _Atomic int clients; /* being served */
    struct sockaddr_un at;
};

/* Is the peer a member of the group "holdfast", by its first or any other group? */
static bool in_group(int client, gid_t first) {
    struct group group, *found = NULL;
    gid_t list[1024];
    socklen_t size = sizeof(list);
    char buf[4096];

    if (getgrnam_r("holdfast", &group, buf, sizeof(buf), &found) != 0 || !found) {
        return false;
    }
    if (getsockopt(client, SOL_SOCKET, SO_PEERGROUPS, list, &size) < 0) {
        size = 0;
    }
    for (socklen_t i = 0; i < size / sizeof(gid_t); i++) {
        if (list[i] == found->gr_gid) {
            return true;
        }
    }
    return first == found->gr_gid;
}

static bool may_talk(int client) {
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        return false;
    }
    return peer.uid == 0 || peer.uid == geteuid() || in_group(client, peer.gid);
}

/* One line, at most CTL_LINE_BYTES, within CTL_TIMEOUT_MS. Its length, or negative. */
static ssize_t read_line(int fd, char *buf) {
    int64_t deadline = clock_ms() + CTL_TIMEOUT_MS;
    size_t n = 0;

    while (n < CTL_LINE_BYTES - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - clock_ms();
        ssize_t r;

        if (left <= 0 || poll(&p, 1, (int)left) <= 0) {
            return -ETIMEDOUT;
        }
        r = recv(fd, buf + n, CTL_LINE_BYTES - 1 - n, 0);
        if (r <= 0) {
            return -ECONNRESET;
        }
        n += (size_t)r;
        if (memchr(buf, '\n', n)) {
            buf[n] = '\0';
            return (ssize_t)n;
        }
    }
    return -EMSGSIZE;
}

static void send_json(int fd, const json_t *reply) {
    scope_free char *text = json_dumps(reply, JSON_COMPACT);

    if (text) {
        (void)send(fd, text, strlen(text), MSG_NOSIGNAL); /* a client that left needs no answer */
        (void)send(fd, "\n", 1, MSG_NOSIGNAL);
    }
}

struct client {
    struct ctl_server *s;
    int fd;
};

/* In a fiber: recording a change on a store that hangs goes on in another thread. */
static void serve_client(void *arg) {
    struct client c = *(struct client *)arg;
    struct ctl_server *s = c.s;
    int client = c.fd;
    scope_free char *line = malloc(CTL_LINE_BYTES);
    json_t *request = NULL, *reply;

    free(arg);
    if (!line || !may_talk(client)) {
        reply = json_pack("{s:s, s:i}", "error",
                          "you may not control this volume: be root or in the group holdfast",
                          "code", EPERM);
    } else if (read_line(client, line) < 0 || !(request = json_loads(line, 0, NULL))) {
        reply =
            json_pack("{s:s, s:i}", "error", "the request is not one line of JSON", "code", EINVAL);
    } else {
        reply = ctl_answer(&s->volume, request);
    }
    send_json(client, reply);
    json_decref(reply);
    json_decref(request);
    (void)close(client); /* all was sent, or the client left */
    atomic_fetch_sub(&s->clients, 1);
}

static void take_client(struct ctl_server *s, int fd) {
    struct timeval limit = {.tv_sec = CTL_TIMEOUT_MS / 1000};
    struct client *c = malloc(sizeof(*c));

    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* else it waits */
    if (c) {
        *c = (struct client){s, fd};
    }
    atomic_fetch_add(&s->clients, 1);
    if (!c || fiber_start(serve_client, c) < 0) {
        atomic_fetch_sub(&s->clients, 1);
        (void)close(fd); /* it finds that nobody answers */
        free(c);
    }
}

static void *thread_main(void *arg) {
    struct ctl_server *s = arg;

    for (;;) {
        struct pollfd p[2] = {{.fd = s->listener, .events = POLLIN},
                              {.fd = s->stop, .events = POLLIN}};
        int client;

        if (poll(p, 2, -1) < 0 && errno != EINTR) {
            break;
        }
        if (p[1].revents) {
            break;
        }
        client = p[0].revents ? accept4(s->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
        if (client >= 0) {
            take_client(s, client);
        }
    }
    return NULL;
}

int ctl_start(const char *path, const struct ctl_volume *volume, struct why *why,
              struct ctl_server **ret_server) {
    struct ctl_server *s = calloc(1, sizeof(*s));
    int err;

    if (!s) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    s->volume = *volume;
    s->listener = s->stop = -1;
    s->at.sun_family = AF_UNIX;
    if ((size_t)snprintf(s->at.sun_path, sizeof(s->at.sun_path), "%s", path) >=
        sizeof(s->at.sun_path)) {
        free(s);
        return why_set(why, -ENAMETOOLONG,
                       "the socket path %s is too long: set HOLDFAST_RUN_DIR to a shorter one",
                       path);
    }
    (void)unlink(path); /* of a daemon that was killed; the volume's lock is held */
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    s->stop = eventfd(0, EFD_CLOEXEC);
    if (s->listener < 0 || s->stop < 0 ||
        bind(s->listener, (struct sockaddr *)&s->at, sizeof(s->at)) < 0 || chmod(path, 0666) < 0 ||
        listen(s->listener, 16) < 0 || pthread_create(&s->thread, NULL, thread_main, s) != 0) {
        err = errno ? -errno : -EAGAIN;
        cleanup_fd(&s->listener);
        cleanup_fd(&s->stop);
        free(s);
        return why_set(why, err, "cannot open the control socket %s: %s", path, error_words(err));
    }
    *ret_server = s;
    return 0;
}

void ctl_stop(struct ctl_server *s) {
    uint64_t one = 1;

    if (!s) {
        return;
    }
    if (write(s->stop, &one, sizeof(one)) == (ssize_t)sizeof(one)) {
        (void)pthread_join(s->thread, NULL); /* cannot fail for our own thread */
    }
    while (atomic_load(&s->clients) > 0) {
        (void)poll(NULL, 0, 10); /* each has a limit, and the watchdog sees to the stores */
    }
    (void)unlink(s->at.sun_path); /* it may have been removed already */
    (void)close(s->listener);
    (void)close(s->stop);
    free(s);
}

int ctl_call(const char *path, json_t *request, int timeout_ms, json_t **ret_reply,
             struct why *why) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval limit = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
    scope_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    json_t *reply;
    json_error_t bad;
    FILE *f;
    int code;

    if (!request) {
        return why_set(why, -HFE_USAGE, "a name that is not UTF-8 cannot be asked for");
    }
    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s",
                   path); /* too long: nobody answers there */
    /* connect(2) waits, too, where a daemon that is stopped takes nobody any more */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
        connect(fd, (struct sockaddr *)&at, sizeof(at)) < 0) {
        int err = -errno;

        json_decref(request);
        return err == -ENOENT || err == -ECONNREFUSED
                   ? why_set(
                         why, -HFE_UNREACHABLE,
                         "no daemon answers at %s: the volume is not mounted, or there is none of "
                         "that name; `holdfast list` shows them",
                         path)
                   : why_set(why, -HFE_UNREACHABLE, "the daemon at %s cannot be asked: %s", path,
                             error_words(err));
    }
    send_json(fd, request);
    json_decref(request);
    f = fdopen(fd, "r");
    if (!f) {
        return why_set(why, -ENOMEM, "out of memory");
    }
    (void)steal_fd(&fd); /* the stream's now */
    reply = json_loadf(f, JSON_DISABLE_EOF_CHECK, &bad);
    (void)fclose(f); /* read only */
    if (!reply) {
        return why_set(why, -HFE_UNREACHABLE, "the daemon at %s does not answer", path);
    }
    code = (int)json_integer_value(json_object_get(reply, "code"));
    if (json_object_get(reply, "error")) {
        code = why_set(why, code > 0 ? -code : -EIO, "%s",
                       json_string_value(json_object_get(reply, "error")));
        json_decref(reply);
        return code;
    }
    *ret_reply = reply;
    return 0;
}
