/* The control socket: RUN_DIR/NAME.sock. A client sends one JSON object on one line, such as
 * {"verb": "status"}, and gets one line back: the reply, or {"error": "...", "code": N}. Only root,
 * the daemon's own user and members of the group "holdfast" are heard (SO_PEERCRED).
 *
 * Verbs that only ask never touch a store; each client is served by a thread of its own, so that they
 * answer while a change waits for a store. */
#pragma once

#include <jansson.h>

#include "base/error.h"
#include "base/event.h"
#include "heal/keeper.h"
#include "heal/verifier.h"
#include "mirror/mirror.h"
#include "snap/snap.h"

struct ctl_server;

/* What the verbs speak about. Must outlive the server. */
struct ctl_volume {
    const char *name, *mount_point;
    struct mirror *mirror;
    struct snap *snap;
    struct events *events;
    uint64_t mounted_s;
    struct keeper *const *keeper; /* of each store, by its index */
    struct verifier *verifier;
    void (*stop)(void *arg); /* begins a clean unmount */
    void (*roster_changed)(
        void *arg); /* a store was added or removed: starts its keeper, notes it */
    void *arg;
};

/* Starts the thread that serves the socket at `path`. */
int ctl_start(const char *path, const struct ctl_volume *volume, struct why *why,
              struct ctl_server **ret_server) must_check;
/* Ends it and removes the socket. Accepts NULL. */
void ctl_stop(struct ctl_server *server);

/* The reply to a request. Never NULL unless memory is short; the caller owns it. */
json_t *ctl_answer(const struct ctl_volume *volume, const json_t *request);

/* A client's side: sends the request, which is freed, to the daemon that listens at `path`, and waits
 * up to timeout_ms. -HFE_UNREACHABLE if there is none, or the code the daemon gave. */
int ctl_call(const char *path, json_t *request, int timeout_ms, json_t **ret_reply,
             struct why *why) must_check;
