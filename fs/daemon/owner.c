#include "daemon/owner.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>

#include "base/clock.h"

/* May another daemon still have it mounted? Whoever ran before this machine was started is gone. */
static bool may_be_in_use(const struct store *store) {
    const struct super *s = store_super(store);
    struct id machine = id_of_machine(), boot = id_of_boot();

    if (s->clean || s->mount_count == 0 || !store_is_remote(store)) {
        return false;
    }
    if (!id_equal(&s->owner.machine_id, &machine)) {
        return true;
    }
    return id_equal(&s->owner.boot_id, &boot) &&
           (kill((pid_t)s->owner.nonce, 0) == 0 || errno == EPERM);
}

int owner_wait(struct store *const *store, unsigned count, struct why *why) {
    enum { WATCH_MS = 2 * PROBE_MS + 1000, LOOK_MS = 500 };
    uint64_t before[STORES_MAX];
    bool look[STORES_MAX];
    int64_t until = clock_ms() + WATCH_MS;
    bool any = false;

    for (unsigned i = 0; i < count; i++) {
        look[i] = store[i] && may_be_in_use(store[i]);
        before[i] = look[i] ? store_heartbeat(store[i]) : 0;
        any = any || look[i];
    }
    while (any && clock_ms() < until) {
        (void)poll(NULL, 0, LOOK_MS);
        for (unsigned i = 0; i < count; i++) {
            if (look[i] && store_heartbeat(store[i]) != before[i]) {
                return why_set(
                    why, -HFE_IN_USE,
                    "%s is in use: volume \"%s\" is mounted by another daemon, on another "
                    "machine perhaps. Unmount it there first",
                    store_path(store[i]), store_super(store[i])->volume_name);
            }
        }
    }
    for (unsigned i = 0; any && i < count; i++) { /* somebody may have unmounted it meanwhile */
        int err = store[i] ? store_read_super(store[i]) : 0;

        if (err < 0) {
            return why_set(why, err, "%s: its superblock cannot be read: %s", store_path(store[i]),
                           error_words(err));
        }
    }
    return 0;
}
