/* Any bytes may be in a log or list of snapshots: decoding must refuse them or give what encodes to the
 * same bytes, and a table takes or refuses each record. With clang -DFUZZER -fsanitize=fuzzer: a
 * libFuzzer target. Without: replays the files it is given, and what is near them. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "snap/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct id volume = {{1, 2, 3, 4, 5, 6, 7, 8}};

static void try_list(const uint8_t *data, size_t size) {
    static struct snap_entry entries[SNAPSHOTS_MAX];
    int n = snap_list_decode(data, size, &volume, entries, SNAPSHOTS_MAX);

    if (n >= 0) {
        uint8_t *again = malloc(SNAP_LIST_BYTES(n));

        assert(again);
        snap_list_encode(&volume, entries, (uint32_t)n, again);
        assert(size == SNAP_LIST_BYTES(n) && memcmp(again, data, size) == 0);
        free(again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t again[SNAP_RECORD_BYTES_MAX];
    struct snap_table *table = snap_table_new();
    size_t at = SNAP_HEAD_BYTES;
    struct snap_record r;
    uint32_t epoch;

    assert(table);
    try_list(data, size);
    if (size >= SNAP_HEAD_BYTES && snap_head_decode(data, &volume, &epoch) == 0) {
        snap_head_encode(&volume, epoch, again);
        assert(memcmp(again, data, SNAP_HEAD_BYTES) == 0);
    }
    while (at < size) {
        int n = snap_record_decode(data + at, size - at, &volume, &r), err;

        if (n < 0) {
            break;
        }
        assert(snap_record_encode(&r, &volume, again) == (size_t)n &&
               memcmp(again, data + at, (size_t)n) == 0);
        err = snap_table_apply(table, &r);
        assert(err == 0 || err == -HFE_CORRUPT);
        at += (size_t)n + (size_t)snap_padded(r.payload);
    }
    snap_table_free(table);
    return 0;
}

#include "replay.h"
