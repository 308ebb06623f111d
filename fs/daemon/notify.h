/* Events leave the daemon: into STATE_DIR/NAME.events (JSON lines, newest last; the one before it
 * in NAME.events.1), to the programs in CONF_DIR/events.d, and to the program and mail address that the
 * configuration names at that time. A thread of its own does that; a program that hangs is killed after a while, and nothing
 * else waits for it. One per process. */
#pragma once

#include "base/event.h"
#include "daemon/config.h"

int notify_start(const struct config *config, struct why *why) must_check;
/* Waits until all is told (at most some seconds). */
void notify_stop(void);
/* Takes an event; never waits. */
void notify_event(const struct event *event);
enum { NOTIFY_RESULT_BYTES = 128 };
/* How it went with one program: in words, and whether it was told. */
typedef void notify_result_fn(void *arg, const char *program, const char *words, bool told);
/* Tells the programs about one event, now: `events --test`. */
void notify_test(const struct config *config, const struct event *event, notify_result_fn *result,
                 void *arg);
/* STATE_DIR/NAME.events */
void notify_path(const char *name, char ret_path[PATH_BYTES]);
