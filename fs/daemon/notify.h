/* Events leave the daemon: into STATE_DIR/NAME.events (JSON lines, newest last; the one before it
 * in NAME.events.1), to the programs in CONF_DIR/events.d, and to the configured program and mail
 * address. A thread of its own does that; a program that hangs is killed after a while, and nothing
 * else waits for it. One per process. */
#pragma once

#include "base/event.h"
#include "daemon/config.h"

int notify_start(const struct config *config, struct why *why) must_check;
/* Waits until all is told (at most some seconds). */
void notify_stop(void);
/* Takes an event; never waits. */
void notify_event(const struct event *event);
/* Tells the programs about one event, now: `events --test`. How many were run, or negative. */
int notify_test(const struct config *config, const struct event *event) must_check;
/* STATE_DIR/NAME.events */
void notify_path(const char *name, char ret_path[PATH_BYTES]);
