#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/keep.h"

enum { COUNT_MAX = 2000 };

static struct keep_item item[COUNT_MAX];
static char why[COUNT_MAX][KEEP_WHY_BYTES];
static size_t count;

static void up(void) {
    cr_assert_eq(setenv("TZ", "UTC", 1), 0);
    tzset();
}
TestSuite(keep, .init = up);

/* "2026-03-01 12:00", of the place that TZ says. */
static long long at(const char *text) {
    struct tm tm = {.tm_isdst = -1};

    cr_assert(strptime(text, "%Y-%m-%d %H:%M", &tm));
    return (long long)mktime(&tm);
}

/* Older than all before. */
static struct keep_item *add(long long created_s) {
    cr_assert_lt(count, COUNT_MAX);
    item[count] = (struct keep_item){.created_s = created_s, .tags = "", .automatic = true};
    return &item[count++];
}

/* One each hour, back from then. */
static void add_hours(const char *newest, unsigned hours) {
    for (unsigned i = 0; i < hours; i++) {
        (void)add(at(newest) - 3600LL * i);
    }
}

static const struct keep_rules none = {.within_s = -1};

static size_t judge(struct keep_rules rules) {
    size_t kept = 0;

    keep_judge(&rules, item, count, count > 0 ? item[0].created_s : 0, why);
    for (size_t i = 0; i < count; i++) {
        kept += why[i][0] != '\0';
    }
    return kept;
}

#define RULES(...)                                                                                 \
    (struct keep_rules) {                                                                          \
        .within_s = -1, __VA_ARGS__                                                                \
    }

Test(keep, without_a_rule_nothing_is_kept) {
    add_hours("2026-11-22 05:30", 10);
    cr_assert_eq(judge(none), 0);
}

Test(keep, the_last_ones) {
    add_hours("2026-11-22 05:30", 10);
    cr_assert_eq(judge(RULES(.last = 3)), 3);
    cr_assert_str_eq(why[0], "last 1");
    cr_assert_str_eq(why[2], "last 3");
    cr_assert_str_eq(why[3], "");
}

Test(keep, the_newest_of_each_hour) {
    for (unsigned i = 0; i < 12; i++) { /* 05:50, 05:40 ... 04:00 */
        (void)add(at("2026-11-22 05:50") - 600LL * i);
    }
    cr_assert_eq(judge(RULES(.hourly = 2)), 2);
    cr_assert_str_eq(why[0], "hourly 1");
    cr_assert_str_eq(why[6], "hourly 2"); /* 04:50 */
}

Test(keep, the_newest_of_each_day_not_the_first_one) {
    add_hours("2026-11-22 05:30", 72);
    cr_assert_eq(judge(RULES(.daily = 3)), 3);
    cr_assert_str_eq(why[0], "daily 1");
    cr_assert_str_eq(why[6], "daily 2"); /* 23:30 the day before */
    cr_assert_str_eq(why[30], "daily 3");
}

Test(keep, a_week_begins_on_monday_also_over_the_turn_of_the_year) {
    (void)add(at("2027-01-04 00:10")); /* a Monday */
    (void)add(at("2027-01-03 23:50")); /* the Sunday of week 53 of 2026 */
    (void)add(at("2026-12-28 00:00")); /* its Monday */
    (void)add(at("2026-12-27 23:59"));
    (void)add(at("2026-12-20 12:00"));
    cr_assert_eq(judge(RULES(.weekly = 3)), 3);
    cr_assert_str_eq(why[0], "weekly 1");
    cr_assert_str_eq(why[1], "weekly 2");
    cr_assert_str_eq(why[2], "");
    cr_assert_str_eq(why[3], "weekly 3");
}

Test(keep, months_and_years) {
    (void)add(at("2026-03-01 00:00"));
    (void)add(at("2026-02-28 23:59"));
    (void)add(at("2026-02-01 00:00"));
    (void)add(at("2025-12-31 23:59"));
    (void)add(at("2025-01-01 00:00"));
    (void)add(at("2024-06-01 00:00"));
    cr_assert_eq(judge(RULES(.monthly = 2, .yearly = 2)), 3);
    cr_assert_str_eq(why[0], "monthly 1, yearly 1");
    cr_assert_str_eq(why[1], "monthly 2");
    cr_assert_str_eq(why[3], "yearly 2");
}

Test(keep, what_no_snapshot_was_made_in_does_not_count) {
    (void)add(at("2026-11-22 05:00"));
    (void)add(at("2026-08-01 05:00"));
    (void)add(at("2026-02-01 05:00"));
    (void)add(at("2026-01-01 05:00"));
    cr_assert_eq(judge(RULES(.daily = 3)), 3);
    cr_assert_str_eq(why[2], "daily 3");
}

Test(keep, the_oldest_stays_until_a_rule_has_all_it_wants) {
    add_hours("2026-11-22 05:30", 30); /* back to 00:30 of the day before */
    cr_assert_eq(judge(RULES(.daily = 3)), 3);
    cr_assert_str_eq(why[29], "oldest daily 3");
    cr_assert_eq(judge(RULES(.daily = 2)), 2);
    cr_assert_str_eq(why[29], "");
}

Test(keep, the_schedule_that_is_offered) {
    add_hours("2026-11-22 05:30", 24 * 70);
    cr_assert_eq(judge(RULES(.hourly = 24, .daily = 14, .weekly = 8)), 24 + 12 + 6);
    cr_assert_str_eq(why[0], "hourly 1, daily 1, weekly 1");
    cr_assert_str_eq(why[6], "hourly 7, daily 2"); /* a Saturday's last one */
    cr_assert_str_eq(why[24], "");
}

Test(keep, what_the_rules_keep_they_keep_when_they_are_asked_again) {
    const struct keep_rules rules = RULES(.hourly = 24, .daily = 14, .weekly = 8);
    size_t n = 0;

    add_hours("2026-11-22 05:30", 24 * 70);
    (void)judge(rules);
    for (size_t i = 0; i < count; i++) {
        if (why[i][0]) {
            item[n++] = item[i];
        }
    }
    count = n;
    cr_assert_eq(judge(rules), n);
}

Test(keep, the_hour_that_comes_twice_is_two) {
    cr_assert_eq(setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1), 0);
    tzset();
    for (unsigned i = 0; i < 4; i++) { /* 03:30 CET, 02:30 CET, 02:30 CEST, 01:30 CEST */
        (void)add(at("2026-10-25 03:30") - 3600LL * i);
    }
    cr_assert_eq(judge(RULES(.hourly = 4)), 4);
    cr_assert_str_eq(why[2], "hourly 3");
}

Test(keep, a_day_is_one_of_this_place) {
    cr_assert_eq(setenv("TZ", "NZST-12", 1), 0);
    tzset();
    (void)add(at("2026-11-23 00:30"));
    (void)add(at("2026-11-22 23:30")); /* in UTC both are of the 22nd */
    cr_assert_eq(judge(RULES(.daily = 2)), 2);
    cr_assert_str_eq(why[1], "daily 2");
}

Test(keep, within_is_counted_from_the_newest) {
    add_hours("2026-11-22 05:30", 10);
    cr_assert_eq(judge((struct keep_rules){.within_s = 2 * 3600}), 3);
    cr_assert_str_eq(why[2], "within");
    cr_assert_eq(judge((struct keep_rules){.within_s = 0}), 1);
}

Test(keep, a_clock_that_was_wrong_is_not_the_newest) {
    struct keep_rules rules = (struct keep_rules){.within_s = 3600};

    (void)add(at("2036-01-01 00:00"));
    add_hours("2026-11-22 05:30", 5);
    keep_judge(&rules, item, count, at("2026-12-22 05:40"), why); /* nobody made any for a month */
    cr_assert_str_eq(why[0], "within");
    cr_assert_str_eq(why[2], "within"); /* an hour before the newest, 05:30 */
    cr_assert_str_eq(why[3], "");
}

Test(keep, holds_and_tags) {
    add(at("2026-11-22 05:00"))->tags = "release";
    add(at("2026-11-22 04:00"))->held = true;
    add(at("2026-11-22 03:00"))->tags = "old,release-2";
    add(at("2026-11-22 02:00"))->tags = "x,release";
    add(at("2026-11-22 01:00"))->automatic = false;
    cr_assert_eq(judge(RULES(.tag = "release")), 3);
    cr_assert_str_eq(why[0], "tag");
    cr_assert_str_eq(why[1], "hold");
    cr_assert_str_eq(why[2], "");
    cr_assert_str_eq(why[3], "tag");
    cr_assert_eq(judge(RULES(.tag = "manual")), 2);
    cr_assert_str_eq(why[4], "tag");
}

Test(keep, the_schedule_leaves_alone_what_was_made_by_hand_and_bookmarks) {
    add(at("2026-11-22 05:10"))->automatic = false;
    (void)add(at("2026-11-22 05:00"));
    add(at("2026-11-22 04:30"))->bookmark = true;
    (void)add(at("2026-11-22 04:00"));
    cr_assert_eq(judge(RULES(.last = 1, .automatic = true)), 3);
    cr_assert_str_eq(why[0], "made by hand");
    cr_assert_str_eq(why[1], "last 1");
    cr_assert_str_eq(why[2], "bookmark");
    cr_assert_str_eq(why[3], "");
}
