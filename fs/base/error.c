#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    int errnum;
    const char *words;
} table[HFE_LAST - HFE_FIRST + 1] = {
    [HFE_NO_STORE - HFE_FIRST] = {ENODEV, "not a Holdfast store"},
    [HFE_FOREIGN - HFE_FIRST] = {ESTALE, "a store of another volume"},
    [HFE_CORRUPT - HFE_FIRST] = {EIO, "damaged metadata"},
    [HFE_FEATURE - HFE_FIRST] = {ENOTSUP, "written by a newer Holdfast"},
    [HFE_IN_USE - HFE_FIRST] = {EBUSY, "in use"},
    [HFE_STALE - HFE_FIRST] = {ESTALE, "the store is out of date"},
    [HFE_MISSING - HFE_FIRST] = {ENODEV, "a store is missing"},
    [HFE_UNSAFE - HFE_FIRST] = {EPERM, "refused for safety"},
    [HFE_CAPABILITY - HFE_FIRST] = {ENOTSUP, "the store lacks a capability"},
    [HFE_USAGE - HFE_FIRST] = {EINVAL, "wrong usage"},
    [HFE_UNREACHABLE - HFE_FIRST] = {ENOTCONN, "no daemon answers"},
    [HFE_GIVEN_UP - HFE_FIRST] = {EIO, "no answer in time"},
    [HFE_TOO_FEW - HFE_FIRST] = {EROFS, "fewer stores than min-stores are ONLINE"},
};

int error_to_errno(int err) {
    if (-err >= HFE_FIRST && -err <= HFE_LAST) {
        return -table[-err - HFE_FIRST].errnum;
    }
    return err;
}

const char *error_words(int err) {
    if (-err >= HFE_FIRST && -err <= HFE_LAST) {
        return table[-err - HFE_FIRST].words;
    }
    return strerror(-err);
}

int why_set(struct why *why, int err, const char *format, ...) {
    va_list args;

    if (why) {
        va_start(args, format);
        (void)vsnprintf(why->text, sizeof(why->text), format, args); /* too long is cut */
        va_end(args);
    }
    return err;
}
