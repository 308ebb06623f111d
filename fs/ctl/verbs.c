/* The verbs, one function each, and the table that finds them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/ctl.h"

static const char *state_name(const struct mirror_status *s) {
    return s->read_only                           ? "READ-ONLY"
           : s->online == s->count && !s->unequal ? "HEALTHY"
                                                  : "DEGRADED";
}

static json_t *store_json(const struct mirror_member_status *m) {
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "label",
                     m->label, "state", member_state_name(m->state), "path", m->path, "fs", m->fs,
                     "reason", m->reason, "reads", m->reads_here, "since", (json_int_t)m->since_s,
                     "read_errors", (json_int_t)m->read_errors, "write_errors",
                     (json_int_t)m->write_errors, "checksum_errors", (json_int_t)m->checksum_errors,
                     "total_bytes", (json_int_t)m->total_bytes, "free_bytes",
                     (json_int_t)m->free_bytes);
}

static json_t *recent_events(struct events *events) {
    enum { SHOWN = 20 };
    json_t *list = json_array();
    struct event *e = calloc(SHOWN, sizeof(*e));
    unsigned n = e ? events_since(events, 0, e, SHOWN) : 0;

    for (unsigned i = 0; i < n; i++) {
        (void)json_array_append_new(list,
                                    json_pack("{s:I, s:I, s:s, s:s}", "seq", (json_int_t)e[i].seq,
                                              "time", (json_int_t)e[i].real_s, "level",
                                              event_level_name(e[i].level), "text", e[i].text));
    }
    free(e);
    return list;
}

/* What is wrong, in words, and what to type: the first store that is not ONLINE. */
static void explain(const struct ctl_volume *v, const struct mirror_status *s, json_t *reply) {
    char text[700] = "All stores are equal and online.", action[400] = "";

    for (unsigned i = s->count; i-- > 0;) {
        const struct mirror_member_status *m = &s->member[i];

        if (m->state == MEMBER_ONLINE) {
            continue;
        }
        (void)snprintf(text, sizeof(text),
                       "Store \"%s\" is %s: %s. No data is lost; %u of %u copies are left.%s",
                       m->label, member_state_name(m->state), m->reason, s->online, s->count,
                       s->online == 1 ? " One more failure would lose data." : "");
        (void)snprintf(
            action, sizeof(action),
            "when its disk is well again: holdfast umount %s && holdfast mount %s -o resync",
            v->name, v->name);
    }
    if (s->unequal && s->online == s->count) {
        (void)snprintf(text, sizeof(text), "%s",
                       "A change failed on all stores and may have left them different.");
        (void)snprintf(action, sizeof(action),
                       "the next mount compares them: holdfast umount %s && holdfast mount %s",
                       v->name, v->name);
    }
    if (s->read_only) {
        (void)snprintf(text, sizeof(text), "%s",
                       "The loss of a store could not be recorded: the volume is read-only.");
        (void)snprintf(
            action, sizeof(action),
            "make room in the state directory, then: holdfast umount %s && holdfast mount %s",
            v->name, v->name);
    }
    (void)json_object_set_new(reply, "status", json_string(text));
    (void)json_object_set_new(reply, "action", json_string(action));
}

static json_t *verb_status(const struct ctl_volume *v) {
    struct mirror_status *s = malloc(sizeof(*s));
    json_t *reply, *stores = json_array();

    if (!s) {
        json_decref(stores);
        return NULL;
    }
    mirror_status(v->mirror, s);
    for (unsigned i = 0; i < s->count; i++) {
        (void)json_array_append_new(stores, store_json(&s->member[i]));
    }
    reply = json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:I, s:I, s:o, s:o}", "schema", 1,
                      "volume", v->name, "state", state_name(s), "mount", v->mount_point, "mounted",
                      (json_int_t)v->mounted_s, "generation", (json_int_t)s->generation_number,
                      "online", (int)s->online, "count", (int)s->count, "objects",
                      (json_int_t)s->objects, "pid", (json_int_t)getpid(), "stores", stores,
                      "events", recent_events(v->events));
    explain(v, s, reply);
    free(s);
    return reply;
}

static json_t *verb_stop(const struct ctl_volume *v) {
    v->stop(v->stop_arg);
    return json_pack("{s:i}", "schema", 1);
}

static const struct {
    const char *name;
    json_t *(*run)(const struct ctl_volume *v);
} verbs[] = {{"status", verb_status}, {"stop", verb_stop}};

json_t *ctl_answer(const struct ctl_volume *v, const json_t *request) {
    const char *verb = json_string_value(json_object_get(request, "verb"));

    for (size_t i = 0; verb && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, verb) == 0) {
            return verbs[i].run(v);
        }
    }
    return json_pack("{s:s, s:i}", "error", "this daemon does not know that verb", "code",
                     EOPNOTSUPP);
}
