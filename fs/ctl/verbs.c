/* The verbs, one function each, and the table that finds them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "ctl/ctl.h"

static const char *state_name(const struct mirror_status *s) {
    return s->taken                                              ? "STOPPED"
           : s->read_only || s->too_few                          ? "READ-ONLY"
           : s->online + s->following == s->count && !s->unequal ? "HEALTHY"
                                                                 : "DEGRADED";
}

static json_t *verify_json(const struct ctl_volume *v) {
    struct verifier_status s;
    int64_t worked;
    uint64_t rate;

    verifier_status(v->verifier, &s);
    worked = (int64_t)((s.running ? clock_real_s() : s.ended_s) - s.started_s);
    rate = worked > 0 ? s.bytes / (uint64_t)worked : 0;
    return json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s}", "running", s.running,
                     "complete", s.complete, "started", (json_int_t)s.started_s, "ended",
                     (json_int_t)s.ended_s, "objects", (json_int_t)s.objects, "bytes",
                     (json_int_t)s.bytes, "bytes_total", (json_int_t)s.bytes_total, "bytes_per_s",
                     (json_int_t)rate, "differences", (json_int_t)s.differences, "result",
                     s.result);
}

static json_t *progress_json(const struct mirror_progress *p) {
    uint64_t eta = p->bytes_per_s > 0 ? p->bytes_left / p->bytes_per_s : 0;

    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "phase",
                     p->phase ? p->phase : "", "paused", p->paused, "started",
                     (json_int_t)p->started_s, "objects_compared", (json_int_t)p->objects_compared,
                     "bytes_copied", (json_int_t)p->bytes_copied, "bytes_compared",
                     (json_int_t)p->bytes_compared, "bytes_left", (json_int_t)p->bytes_left,
                     "bytes_per_s", (json_int_t)p->bytes_per_s, "seconds_left", (json_int_t)eta);
}

/* `behind`: frames that were told since it left: what its catch-up reads. Of a passive one: bytes
 * that were written since. */
static json_t *store_json(const struct mirror_status *s, const struct mirror_member_status *m) {
    bool away = m->state != MEMBER_ONLINE;
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:i}", "label",
        m->label, "state", member_state_name(m->state), "path", m->path, "fs", m->fs, "disk",
        m->disk, "reason", m->reason, "passive", m->passive, "reads", m->reads_here, "silent",
        m->silent, "since", (json_int_t)m->since_s, "read_errors", (json_int_t)m->read_errors,
        "write_errors", (json_int_t)m->write_errors, "checksum_errors",
        (json_int_t)m->checksum_errors, "total_bytes", (json_int_t)m->total_bytes, "free_bytes",
        (json_int_t)m->free_bytes, "stuck_calls", (int)m->stuck_calls);

    (void)json_object_set_new(o, "latency_us", json_integer((json_int_t)m->latency_us));
    (void)json_object_set_new(o, "lag_bytes", json_integer((json_int_t)m->lag_bytes));
    (void)json_object_set_new(o, "lag_seconds", json_integer((json_int_t)m->lag_s));
    (void)json_object_set_new(o, "behind",
                              m->state == MEMBER_PASSIVE ? json_integer((json_int_t)m->lag_bytes)
                              : away && m->position != 0
                                  ? json_integer((json_int_t)(s->position - m->position))
                                  : json_integer(away ? -1 : 0));
    (void)json_object_set_new(o, "catchup", progress_json(&m->progress));
    return o;
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

/* Why a store is not ONLINE, and what to type. */
static void explain_store(const struct ctl_volume *v, const struct mirror_status *s,
                          const struct mirror_member_status *m, char *text, size_t text_size,
                          char *action, size_t action_size) {
    const char *risk =
        s->online == 1 ? "One more failure would lose what is not on another store" : "";
    char since[32];

    clock_text(m->since_s, since);
    if (m->state == MEMBER_SYNCING) {
        (void)snprintf(text, text_size,
                       "Store \"%s\" is being caught up (%s) since %s. No data is lost. %s",
                       m->label, m->progress.phase ? m->progress.phase : "beginning", since, risk);
        (void)snprintf(action, action_size,
                       "nothing: it comes back by itself; `holdfast status %s -w 2` shows how far",
                       v->name);
        return;
    }
    (void)snprintf(text, text_size,
                   "Store \"%s\" is %s since %s: %s. No data is lost; %u of %u copies are left. %s",
                   m->label, member_state_name(m->state), since, m->reason, s->online, s->count,
                   risk);
    if (m->state == MEMBER_OFFLINE) {
        (void)snprintf(action, action_size, "bring it back: holdfast store online %s %s", v->name,
                       m->label);
    } else if (m->stuck_calls > 0) {
        (void)snprintf(
            action, action_size,
            "%u calls are still stuck in it. When %s answers again it comes back by itself",
            m->stuck_calls, m->path);
    } else {
        (void)snprintf(action, action_size,
                       "mend its disk or mount (%s): it comes back by itself, or at once with: "
                       "holdfast store online %s %s; or replace it: holdfast replace %s %s "
                       "/NEW/FOLDER",
                       m->path, v->name, m->label, v->name, m->label);
    }
}

static void explain(const struct ctl_volume *v, const struct mirror_status *s, json_t *reply) {
    char text[900] = "All stores are equal and online.", action[PATH_BYTES + 400] = "";
    struct snap_summary snaps;

    for (unsigned i = s->count; i-- > 0;) {
        const struct mirror_member_status *m = &s->member[i];

        if (m->state == MEMBER_ONLINE && m->space != SPACE_ENOUGH && !*action) {
            (void)snprintf(text, sizeof(text),
                           "Store \"%s\" is nearly full: when it is full, so is the volume.",
                           m->label);
            (void)snprintf(action, sizeof(action),
                           "make room, or: holdfast replace %s %s /ON/A/LARGER/DISK", v->name,
                           m->label);
        }
        if (m->state == MEMBER_PASSIVE) {
            if (!*action) {
                (void)snprintf(text, sizeof(text),
                               "All stores that serve are equal and online. Store \"%s\" follows "
                               "%llu s behind; it is not crash-consistent while it does.",
                               m->label, (unsigned long long)m->lag_s);
            }
        } else if (m->state != MEMBER_ONLINE) {
            explain_store(v, s, m, text, sizeof(text), action, sizeof(action));
        } else if (m->silent) {
            (void)snprintf(
                text, sizeof(text),
                "Store \"%s\" does not answer, and it is the last one: requests wait for it.",
                m->label);
            (void)snprintf(action, sizeof(action), "see to %s, or bring another store back",
                           m->path);
            break;
        }
    }
    snap_summary(v->snap, &snaps);
    if (snaps.broken > 0 && !*action) {
        (void)snprintf(
            text, sizeof(text),
            "%u snapshots are broken: they lack what changed since they broke. The volume itself "
            "is well.",
            snaps.broken);
        (void)snprintf(action, sizeof(action),
                       "`holdfast snapshot list %s` says why; make room, make a new snapshot, and "
                       "destroy them when they are not needed any more",
                       v->name);
    }
    if (s->unequal && s->online + s->following == s->count) {
        (void)snprintf(text, sizeof(text), "%s",
                       "A change failed on all stores and may have left them different.");
        (void)snprintf(action, sizeof(action),
                       "the next mount compares them: holdfast umount %s && holdfast mount %s",
                       v->name, v->name);
    }
    if (s->too_few) {
        (void)snprintf(
            text, sizeof(text),
            "Less than min-stores stores are ONLINE (%u of %u): every change fails until "
            "another one is back.",
            s->online, s->count);
        if (!*action) {
            (void)snprintf(action, sizeof(action),
                           "holdfast store set %s STORE active, or "
                           "holdfast store add %s STORE, or mount it with another min-stores",
                           v->name, v->name);
        }
    }
    if (s->read_only) {
        (void)snprintf(text, sizeof(text), "%s",
                       "The loss of a store could not be recorded: the volume is read-only.");
        (void)snprintf(
            action, sizeof(action),
            "make room in the state directory, then: holdfast umount %s && holdfast mount %s",
            v->name, v->name);
    }
    if (s->taken) {
        (void)snprintf(text, sizeof(text), "%s",
                       "Another daemon, on another machine perhaps, has mounted the volume: this "
                       "one stopped.");
        (void)snprintf(action, sizeof(action), "unmount it here: holdfast umount %s", v->name);
    }
    (void)json_object_set_new(reply, "status", json_string(text));
    (void)json_object_set_new(reply, "action", json_string(action));
}

static json_t *snapshots_json(const struct ctl_volume *v) {
    enum { SCHEDULE_S = 26 * 3600 }; /* one a day is a schedule, too */
    struct snap_summary s;

    snap_summary(v->snap, &s);
    return json_pack("{s:i, s:i, s:s, s:I, s:b}", "count", (int)s.count, "broken", (int)s.broken,
                     "newest", s.newest, "newest_time", (json_int_t)s.newest_s, "scheduled",
                     s.scheduled_s + SCHEDULE_S > clock_real_s());
}

static json_t *verb_status(const struct ctl_volume *v, const json_t *request) {
    (void)request;
    struct mirror_status *s = malloc(sizeof(*s));
    json_t *reply, *stores = json_array();

    if (!s) {
        json_decref(stores);
        return NULL;
    }
    mirror_status(v->mirror, s);
    for (unsigned i = 0; i < s->count; i++) {
        (void)json_array_append_new(stores, store_json(s, &s->member[i]));
    }
    reply = json_pack("{s:i, s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:I, s:I, s:o, s:o}", "schema", 1,
                      "volume", v->name, "state", state_name(s), "mount", v->mount_point, "mounted",
                      (json_int_t)v->mounted_s, "generation", (json_int_t)s->generation_number,
                      "online", (int)s->online, "count", (int)s->count, "objects",
                      (json_int_t)s->objects, "pid", (json_int_t)getpid(), "stores", stores,
                      "events", recent_events(v->events));
    (void)json_object_set_new(reply, "verify", verify_json(v));
    (void)json_object_set_new(reply, "snapshots", snapshots_json(v));
    explain(v, s, reply);
    free(s);
    return reply;
}

static json_t *verb_stop(const struct ctl_volume *v, const json_t *request) {
    (void)request;
    v->stop(v->arg);
    return json_pack("{s:i}", "schema", 1);
}

/* The index of the store that the request names, by label or path; -ENOENT. */
static int find_store(const struct ctl_volume *v, const json_t *request) {
    const char *name = json_string_value(json_object_get(request, "store"));
    struct mirror_status *s = name ? malloc(sizeof(*s)) : NULL;
    int found = -ENOENT;

    if (s) {
        mirror_status(v->mirror, s);
        for (unsigned i = 0; i < s->count; i++) {
            if (strcmp(s->member[i].label, name) == 0 || strcmp(s->member[i].path, name) == 0) {
                found = (int)s->member[i].index;
            }
        }
    }
    free(s);
    return found;
}

/* The answer to a change: nothing, or what went wrong. */
static json_t *answer(const struct ctl_volume *v, int err) {
    static const struct {
        int err;
        const char *format; /* of the volume's name, twice */
    } words[] = {
        {-ENOENT, "volume \"%s\" has no such store; `holdfast status %s` lists them"},
        {-EEXIST,
         "volume \"%s\" has a store with that label or at that place; see `holdfast status %s`"},
        {-EROFS, "volume \"%s\" is read-only; `holdfast status %s` says why"},
        {-HFE_TOO_FEW,
         "volume \"%s\" has fewer stores ONLINE than min-stores; `holdfast status %s` "
         "says why"},
        {-HFE_UNSAFE, "\"%s\" cannot do without it: of the stores that are left none, or less than "
                      "min-stores, would be ONLINE; see `holdfast status %s`"},
        {-HFE_USAGE,
         "volume \"%s\" has as many stores as it can have; `holdfast store remove %s STORE` "
         "makes room"},
        {-HFE_IN_USE,
         "volume \"%s\" is at it already: a comparison runs, that store is being replaced, or "
         "another daemon took over; see `holdfast status %s`"},
        {-HFE_MISSING, "volume \"%s\" has no two stores that are ONLINE, to compare; see `holdfast "
                       "status %s`"},
    };
    const char *format = NULL;
    char text[400];

    if (err == 0) {
        return json_pack("{s:i}", "schema", 1);
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        format = words[i].err == err ? words[i].format : format;
    }
    if (format) {
        (void)snprintf(text, sizeof(text), format, v->name, v->name);
    } else {
        (void)snprintf(text, sizeof(text),
                       "volume \"%s\" could not do that: %s; `holdfast events %s` may say more",
                       v->name, error_words(err), v->name);
    }
    return json_pack("{s:s, s:i}", "error", text, "code", -err);
}

/* -EAGAIN: it is being added right now. */
static int find_keeper(const struct ctl_volume *v, const json_t *request,
                       struct keeper **ret_keeper) {
    int i = find_store(v, request);

    if (i >= 0) {
        *ret_keeper = v->keeper[i];
    }
    return i < 0 ? i : v->keeper[i] ? 0 : -EAGAIN;
}

static json_t *verb_online(const struct ctl_volume *v, const json_t *request) {
    struct keeper *k = NULL;
    int err = find_keeper(v, request, &k);

    if (err == 0) {
        keeper_wake(k);
    }
    return answer(v, err);
}

static json_t *verb_offline(const struct ctl_volume *v, const json_t *request) {
    struct keeper *k = NULL;
    int err = find_keeper(v, request, &k);

    return answer(v, err < 0 ? err : keeper_offline(k));
}

static const char *string_of(const json_t *request, const char *key) {
    const char *s = json_string_value(json_object_get(request, key));

    return s ? s : "";
}

/* "store": the one it replaces, if it does. */
static json_t *verb_add(const struct ctl_volume *v, const json_t *request) {
    bool replaces = json_object_get(request, "store") != NULL;
    struct mirror_newcomer n = {.label = string_of(request, "label"),
                                .path = string_of(request, "path"),
                                .caps =
                                    (uint32_t)json_integer_value(json_object_get(request, "caps")),
                                .passive = json_is_true(json_object_get(request, "passive")),
                                .replaces = replaces ? find_store(v, request) : -1};
    char shown[PATH_BYTES];
    unsigned index;
    int err = replaces && n.replaces < 0 ? -ENOENT
              : !super_name_ok(n.label) || n.path[0] != '/' || strlen(n.path) >= PATH_BYTES ||
                      text_escape(n.path, shown, sizeof(shown)) != strlen(n.path) ||
                      id_parse(string_of(request, "id"), &n.id) < 0
                  ? -EINVAL
                  : mirror_add(v->mirror, &n, &index);

    if (err == 0) {
        v->roster_changed(v->arg); /* its keeper begins at once */
    }
    return answer(v, err);
}

static json_t *verb_remove(const struct ctl_volume *v, const json_t *request) {
    int i = find_store(v, request);
    int err = i < 0 ? i : mirror_remove(v->mirror, (unsigned)i, "removed by hand");

    if (err == 0) {
        v->roster_changed(v->arg);
    }
    return answer(v, err);
}

static json_t *verb_set(const struct ctl_volume *v, const json_t *request) {
    int i = find_store(v, request);
    int err = i < 0 ? i
                    : mirror_set_passive(v->mirror, (unsigned)i,
                                         json_is_true(json_object_get(request, "passive")));

    if (err == 0 && v->keeper[i]) {
        keeper_look(v->keeper[i]);
    }
    return answer(v, err);
}

/* "do": "now", "pause", "resume" or "limit" (with "rate", bytes in a second); of one store or all. */
static json_t *verb_resync(const struct ctl_volume *v, const json_t *request) {
    const char *what = string_of(request, "do");
    uint64_t rate = (uint64_t)json_integer_value(json_object_get(request, "rate"));
    bool one = json_object_get(request, "store") != NULL;
    int only = one ? find_store(v, request) : -1;

    if (one && only < 0) {
        return answer(v, only);
    }
    for (int i = 0; i < (int)mirror_count(v->mirror); i++) {
        if ((one && i != only) || !v->keeper[i]) { /* it is being added right now */
            continue;
        }
        if (strcmp(what, "pause") == 0 || strcmp(what, "resume") == 0) {
            keeper_pause(v->keeper[i], strcmp(what, "pause") == 0);
        } else if (strcmp(what, "limit") == 0) {
            keeper_limit(v->keeper[i], rate);
        } else {
            keeper_pause(v->keeper[i], false);
            keeper_look(v->keeper[i]);
        }
    }
    return answer(v, 0);
}

static json_t *verb_verify(const struct ctl_volume *v, const json_t *request) {
    bool one = json_object_get(request, "store") != NULL;
    struct verifier_request r = {.only = one ? find_store(v, request) : -1,
                                 .repair = json_is_true(json_object_get(request, "repair"))};
    json_int_t percent = json_integer_value(json_object_get(request, "percent"));
    int used = snprintf(r.path, sizeof(r.path), "%s", string_of(request, "path"));

    text_unescape(r.path);
    r.percent = percent > 0 && percent < 100 ? (unsigned)percent : 100;
    if (used >= (int)sizeof(r.path)) {
        return answer(v, -ENAMETOOLONG);
    }
    if (json_is_true(json_object_get(request, "stop"))) {
        verifier_cancel(v->verifier);
        return answer(v, 0);
    }
    return answer(v, one && r.only < 0 ? r.only : verifier_begin(v->verifier, &r));
}

/* --- snapshots --- */

static json_t *snapshot_answer(int err, const struct why *why) {
    return err == 0 ? json_pack("{s:i}", "schema", 1)
                    : json_pack("{s:s, s:i}", "error", why->text[0] ? why->text : error_words(err),
                                "code", -err);
}

/* Answers after the cut; snapshot-settle waits for the rest. */
static json_t *verb_snapshot_create(const struct ctl_volume *v, const json_t *request) {
    uint32_t flags = json_is_true(json_object_get(request, "auto")) ? SNAP_AUTO : 0;
    struct why why = {""};
    uint64_t us = 0;
    int err;

    err = snap_create(v->snap, string_of(request, "name"), string_of(request, "tags"), flags, &us,
                      &why);
    return err < 0 ? snapshot_answer(err, &why)
                   : json_pack("{s:i, s:I}", "schema", 1, "cut_us", (json_int_t)us);
}

static json_t *verb_snapshot_settle(const struct ctl_volume *v, const json_t *request) {
    struct why why = {""};

    return snapshot_answer(
        snap_settle(v->snap, json_string_value(json_object_get(request, "name")), &why), &why);
}

static json_t *verb_snapshot_destroy(const struct ctl_volume *v, const json_t *request) {
    struct why why = {""};

    return snapshot_answer(snap_destroy(v->snap, string_of(request, "name"), &why), &why);
}

static json_t *verb_snapshot_rename(const struct ctl_volume *v, const json_t *request) {
    struct why why = {""};

    return snapshot_answer(
        snap_rename(v->snap, string_of(request, "name"), string_of(request, "to"), &why), &why);
}

static json_t *verb_snapshot_hold(const struct ctl_volume *v, const json_t *request) {
    bool hold = json_is_true(json_object_get(request, "hold"));
    struct why why = {""};

    return snapshot_answer(snap_hold(v->snap, string_of(request, "name"), hold, &why), &why);
}

static json_t *verb_snapshot_bookmark(const struct ctl_volume *v, const json_t *request) {
    struct why why = {""};

    return snapshot_answer(snap_bookmark(v->snap, string_of(request, "name"), &why), &why);
}

static json_t *verb_snapshot_list(const struct ctl_volume *v, const json_t *request) {
    struct snap_info *list = NULL;
    int n = snap_list(v->snap, &list);
    json_t *all;

    (void)request;
    if (n < 0) {
        struct why why = {""};

        (void)why_set(&why, n, "what the snapshots keep could not be read: %s", error_words(n));
        return snapshot_answer(n, &why);
    }
    all = json_array();
    for (int i = 0; i < n; i++) {
        const struct snap_entry *e = &list[i].entry;

        (void)json_array_append_new(
            all, json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:b, s:b, s:s}", "name", e->name, "tags",
                           e->tags, "created", (json_int_t)e->created_s, "used",
                           (json_int_t)list[i].used_bytes, "held", e->flags & SNAP_HELD, "auto",
                           e->flags & SNAP_AUTO, "bookmark", e->flags & SNAP_BOOKMARK, "broken",
                           e->flags & SNAP_HARMED, "reason", e->reason));
    }
    free(list);
    return json_pack("{s:i, s:s, s:o}", "schema", 1, "mount", v->mount_point, "snapshots", all);
}

static const struct {
    const char *name;
    json_t *(*run)(const struct ctl_volume *v, const json_t *request);
} verbs[] = {{"status", verb_status},
             {"stop", verb_stop},
             {"online", verb_online},
             {"offline", verb_offline},
             {"add", verb_add},
             {"remove", verb_remove},
             {"set", verb_set},
             {"resync", verb_resync},
             {"verify", verb_verify},
             {"snapshot-create", verb_snapshot_create},
             {"snapshot-settle", verb_snapshot_settle},
             {"snapshot-destroy", verb_snapshot_destroy},
             {"snapshot-rename", verb_snapshot_rename},
             {"snapshot-hold", verb_snapshot_hold},
             {"snapshot-bookmark", verb_snapshot_bookmark},
             {"snapshot-list", verb_snapshot_list}};

json_t *ctl_answer(const struct ctl_volume *v, const json_t *request) {
    const char *verb = json_string_value(json_object_get(request, "verb"));

    for (size_t i = 0; verb && i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(verbs[i].name, verb) == 0) {
            return verbs[i].run(v, request);
        }
    }
    return json_pack("{s:s, s:i}", "error", "this daemon does not know that verb", "code",
                     EOPNOTSUPP);
}
