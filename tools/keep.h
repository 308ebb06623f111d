/* restic's keep rules (restic-forget(1)): which snapshots of a list stay, and why. No system calls. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { KEEP_WHY_BYTES = 160 };

struct keep_rules {
    /* The newest ones; the newest of each of the last so many hours, days, weeks, months, years that have
     * one, by the clock of this place. As long as a rule has not found so many, it keeps the oldest of
     * all, too. */
    long last, hourly, daily, weekly, monthly, yearly;
    long long within_s; /* made so long before the newest one; negative: no rule */
    const char *tag;    /* that it has; NULL: no rule */
    bool automatic;     /* only what the schedule made is looked at */
};

struct keep_item {
    long long created_s;
    const char *tags; /* "a,b" */
    bool automatic, held, bookmark;
};

/* `items`, newest first. ret_why of each: "daily 3, hold"; "" if nothing keeps it. A time after `now_s`
 * is a clock that was wrong: it is not the newest for within_s. */
void keep_judge(const struct keep_rules *rules, const struct keep_item *items, size_t count,
                long long now_s, char (*ret_why)[KEEP_WHY_BYTES]);
