#include "base/event.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"

struct events {
    pthread_mutex_t mutex;
    void (*show)(const struct event *); /* constant */
    /* guarded by mutex */
    uint64_t last_seq;
    struct event ring[EVENTS_MAX];
};

int events_new(void (*show)(const struct event *), struct events **ret_events) {
    struct events *e = calloc(1, sizeof(*e));

    if (!e) {
        return -ENOMEM;
    }
    pthread_mutex_init(&e->mutex, NULL);
    e->show = show;
    *ret_events = e;
    return 0;
}

void events_free(struct events *e) {
    if (e) {
        pthread_mutex_destroy(&e->mutex);
        free(e);
    }
}

void event_post(struct events *e, enum event_level level, const char *format, ...) {
    char raw[sizeof(e->ring[0].text)];
    struct event *slot;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(raw, sizeof(raw), format, args); /* too long is cut */
    va_end(args);
    pthread_mutex_lock(&e->mutex);
    slot = &e->ring[++e->last_seq % EVENTS_MAX];
    slot->seq = e->last_seq;
    slot->real_s = clock_real_s();
    slot->level = level;
    (void)text_escape(raw, slot->text, sizeof(slot->text));
    if (e->show) {
        e->show(slot);
    }
    pthread_mutex_unlock(&e->mutex);
}

unsigned events_since(struct events *e, uint64_t after_seq, struct event *ret_list, unsigned n) {
    unsigned count = 0;
    uint64_t first;

    pthread_mutex_lock(&e->mutex);
    first = e->last_seq >= EVENTS_MAX ? e->last_seq - EVENTS_MAX + 1 : 1;
    if (first <= after_seq) {
        first = after_seq + 1;
    }
    if (e->last_seq >= first && e->last_seq - first + 1 > n) {
        first = e->last_seq - n + 1;
    }
    for (uint64_t s = first; s <= e->last_seq && count < n; s++) {
        ret_list[count++] = e->ring[s % EVENTS_MAX];
    }
    pthread_mutex_unlock(&e->mutex);
    return count;
}

const char *event_level_name(enum event_level level) {
    static const char *const names[] = {"info", "warning", "error"};

    return names[level];
}
