/* What happened: the one way news leaves the rooms. Library code does not log; it posts an event,
 * and whoever owns the queue (the daemon, a command, a test) shows it. The queue keeps the newest
 * EVENTS_MAX events; posting never waits and never touches a store. Any thread may call. Names in a text
 * are escaped (base/text.h). */
#pragma once

#include <stdint.h>

#include "base/error.h"

enum event_level {
    EVENT_INFO,
    EVENT_WARNING,
    EVENT_ERROR,
};

struct event {
    uint64_t seq;    /* 1, 2, 3 ... */
    uint64_t real_s; /* when */
    enum event_level level;
    char text[400];
};

struct events;

/* `show` (may be NULL) is called for each event, one at a time, by the thread that posts it. */
int events_new(void (*show)(const struct event *event), struct events **ret_events) must_check;
void events_free(struct events *events);
void event_post(struct events *events, enum event_level level, const char *format, ...)
    printf_like(3, 4);
/* Copies up to n events newer than `after_seq`, oldest first; returns how many. */
unsigned events_since(struct events *events, uint64_t after_seq, struct event *ret_list,
                      unsigned n);
const char *event_level_name(enum event_level level);
