#include "tools/keep.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* One rule by number, and how far it is. */
struct rule {
    const char *name,
        *period; /* strftime(3): the same text for all of a period; NULL: each is one */
    long count, found;
    char before[32]; /* the period of what it kept before */
};

enum { RULES = 6 };

static void because(char *why, const char *word) {
    size_t n = strlen(why);

    (void)snprintf(why + n, KEEP_WHY_BYTES - n, "%s%s", n > 0 ? ", " : "", word);
}

static void ask_rule(struct rule *r, long long created_s, bool oldest, char *why) {
    time_t created = (time_t)created_s;
    char period[32] = "", word[48];
    bool another = true;
    struct tm tm;

    if (r->found >= r->count) {
        return;
    }
    if (r->period && localtime_r(&created, &tm)) {
        (void)strftime(period, sizeof(period), r->period, &tm); /* they are short */
        another = strcmp(period, r->before) != 0;
    }
    if (another || oldest) {
        memcpy(r->before, period, sizeof(period));
        (void)snprintf(word, sizeof(word), "%s%s %ld", another ? "" : "oldest ", r->name,
                       ++r->found);
        because(why, word);
    }
}

static bool has_tag(const struct keep_item *item, const char *tag) {
    const char *tags = item->tags;
    size_t n = strlen(tag);

    if (strcmp(item->automatic ? "auto" : "manual", tag) == 0) {
        return true;
    }
    for (; *tags; tags += strcspn(tags, ",") + (tags[strcspn(tags, ",")] == ',')) {
        if (strcspn(tags, ",") == n && memcmp(tags, tag, n) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_looked_at(const struct keep_rules *rules, const struct keep_item *item) {
    return !item->bookmark && (item->automatic || !rules->automatic);
}

void keep_judge(const struct keep_rules *rules, const struct keep_item *items, size_t count,
                long long now_s, char (*ret_why)[KEEP_WHY_BYTES]) {
    struct rule rule[RULES] = {{"last", NULL, rules->last, 0, ""},
                               {"hourly", "%Y-%m-%d %H %z", rules->hourly, 0, ""},
                               {"daily", "%Y-%m-%d", rules->daily, 0, ""},
                               {"weekly", "%G-%V", rules->weekly, 0, ""},
                               {"monthly", "%Y-%m", rules->monthly, 0, ""},
                               {"yearly", "%Y", rules->yearly, 0, ""}};
    long long newest_s = 0;
    size_t oldest = count;

    for (size_t i = 0; i < count; i++) {
        if (is_looked_at(rules, &items[i])) {
            oldest = i;
            if (items[i].created_s <= now_s && items[i].created_s > newest_s) {
                newest_s = items[i].created_s;
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        const struct keep_item *item = &items[i];

        ret_why[i][0] = '\0';
        if (!is_looked_at(rules, item)) {
            because(ret_why[i], item->bookmark ? "bookmark" : "made by hand");
            continue;
        }
        if (item->held) {
            because(ret_why[i], "hold");
        }
        for (size_t k = 0; k < RULES; k++) {
            ask_rule(&rule[k], item->created_s, i == oldest, ret_why[i]);
        }
        if (rules->within_s >= 0 && item->created_s >= newest_s - rules->within_s) {
            because(ret_why[i], "within");
        }
        if (rules->tag && has_tag(item, rules->tag)) {
            because(ret_why[i], "tag");
        }
    }
}
