#include "base/clock.h"

int64_t clock_us(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_ms(void) {
    return clock_us() / 1000;
}

struct timespec clock_deadline(int timeout_ms) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
    t.tv_sec += timeout_ms / 1000;
    t.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

uint64_t clock_real_s(void) {
    return (uint64_t)time(NULL);
}

void clock_text(uint64_t real_s, char *ret_text) {
    time_t t = (time_t)real_s;
    struct tm tm;

    (void)localtime_r(&t, &tm);                             /* fails only for years beyond int */
    (void)strftime(ret_text, 32, "%Y-%m-%d %H:%M:%S", &tm); /* always fits */
}

int clock_same(const struct timespec *a, const struct timespec *b) {
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}
