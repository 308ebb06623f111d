/* store online, store offline; resolve. */
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/ctl.h"
#include "daemon/resolve.h"
#include "tool.h"

enum {
    ASK_TIMEOUT_MS =
        30000, /* recording a state may wait for a store that has just stopped answering */
    WAIT_STEP_MS = 200,
    WAIT_MS = 24 * 3600 * 1000,
};

/* The state of a store, or "" . */
static int state_of(const char *socket, const char *store, char ret_state[16], struct why *why) {
    json_t *st = NULL, *s;
    size_t i;
    int err = ctl_call(socket, "status", NULL, ASK_TIMEOUT_MS, &st, why);

    ret_state[0] = '\0';
    json_array_foreach(json_object_get(st, "stores"), i, s) {
        if (strcmp(json_string_value(json_object_get(s, "label")), store) == 0 ||
            strcmp(json_string_value(json_object_get(s, "path")), store) == 0) {
            (void)snprintf(ret_state, 16, "%s", json_string_value(json_object_get(s, "state")));
        }
    }
    json_decref(st);
    return err;
}

static int change(const struct args *a, const char *verb, const char *wanted) {
    int64_t deadline = clock_ms() + WAIT_MS;
    struct why why = {""};
    char socket[PATH_BYTES], state[16] = "";
    json_t *reply = NULL;
    int err;

    daemon_socket_path(a->word[0], socket);
    err = ctl_call(socket, verb, a->word[1], ASK_TIMEOUT_MS, &reply, &why);
    json_decref(reply);
    while (err == 0 && a->wait && strcmp(state, wanted) != 0 && clock_ms() < deadline) {
        (void)poll(NULL, 0, WAIT_STEP_MS);
        err = state_of(socket, a->word[1], state, &why);
    }
    if (err < 0) {
        return fail(err, &why);
    }
    if (!a->quiet) {
        (void)printf("store \"%s\" of \"%s\": %s; `holdfast status %s` shows it\n", a->word[1],
                     a->word[0],
                     a->wait                         ? state
                     : strcmp(wanted, "ONLINE") == 0 ? "is being brought back"
                                                     : "is out",
                     a->word[0]);
    }
    return EXIT_OK;
}

int cmd_store_online(const struct args *a) {
    return change(a, "online", "ONLINE");
}

int cmd_store_offline(const struct args *a) {
    return change(a, "offline", "OFFLINE");
}

int cmd_resolve(const struct args *a) {
    struct config c;
    struct why why = {""};
    struct copy_stat stat = {0};
    int err = config_load(a->word[0], &c, &why);
    scope_fd int lock = -1;

    if (err == 0 && !a->keep) {
        err = why_set(&why, -HFE_USAGE, "say which store has what you want to keep: --keep STORE");
    }
    if (err == 0 &&
        !confirmed(a, c.name,
                   "The other stores become like the one that is kept. What only they have is put "
                   "aside in their .holdfast/lost, not served.")) {
        return EXIT_UNSAFE;
    }
    lock = err < 0 ? err : daemon_lock(c.name, &why);
    err = lock < 0 ? lock : volume_resolve(&c, a->keep, &stat, &why);
    if (err < 0) {
        return fail(err, &why);
    }
    (void)printf("%s: resolved: %llu objects compared, %llu changed, %llu bytes copied. Mount it: "
                 "holdfast mount %s\n",
                 c.name, (unsigned long long)stat.objects_compared,
                 (unsigned long long)stat.objects_changed, (unsigned long long)stat.bytes_copied,
                 c.name);
    return EXIT_OK;
}
