/* The two clocks: monotonic for waiting, real time for what is shown and stored. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t clock_ms(void);
/* Microseconds of it. */
int64_t clock_us(void);
/* CLOCK_MONOTONIC, timeout_ms from now: for pthread_cond_timedwait on such a condition. */
struct timespec clock_deadline(int timeout_ms);
/* Seconds since the epoch. */
uint64_t clock_real_s(void);
/* "2026-11-22 05:12:03" in local time. `ret_text` has room for 32 bytes. */
void clock_text(uint64_t real_s, char *ret_text);
/* Are two times the same to the nanosecond? */
int clock_same(const struct timespec *a, const struct timespec *b);
