/* The head of a file of ours that is a log of records: what it is, and whose. Pure functions. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/id.h"

enum { HEAD_BYTES = 64 };

struct head {
    struct id volume, store;
    uint64_t start; /* where its positions begin */
};

/* `magic`: the 8 bytes that such a file begins with. */
void head_encode(const char *magic, const struct head *head, uint8_t *ret_bytes);
/* -HFE_CORRUPT, or -HFE_FEATURE for another version. */
int head_decode(const char *magic, const uint8_t *bytes, struct head *ret_head) must_check;
