/* Bytes of a format against the file that was kept of them: a difference breaks every store there is. */
#pragma once

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* HOLDFAST_WRITE_GOLDEN writes the file first. */
static inline void golden_compare(const char *name, const uint8_t *bytes, size_t n) {
    const char *dir = getenv("HOLDFAST_TEST_DATA");
    uint8_t golden[4096];
    char path[512];
    FILE *f;

    (void)snprintf(path, sizeof(path), "%s/%s", dir ? dir : "tests/golden", name);
    if (getenv("HOLDFAST_WRITE_GOLDEN")) {
        f = fopen(path, "we");
        cr_assert(f);
        cr_assert_eq(fwrite(bytes, 1, n, f), n);
        cr_assert_eq(fclose(f), 0);
    }
    f = fopen(path, "re");
    cr_assert(f, "%s is missing", path);
    cr_assert_eq(fread(golden, 1, sizeof(golden), f), n);
    cr_assert_eq(fclose(f), 0);
    cr_assert_eq(memcmp(bytes, golden, n), 0,
                 "the format changed: that breaks every store there is");
}
