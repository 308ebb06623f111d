/* Any bytes may be in a side file: decoding must refuse them or give records that encode to the same
 * bytes. With clang -DFUZZER -fsanitize=fuzzer: a libFuzzer target. Without: replays the files it is
 * given, and what is near them. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/side.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct id volume = {{1, 2, 3, 4, 5, 6, 7, 8}};
    static uint8_t again[SIDE_RECORD_BYTES_MAX];
    struct side_record r;
    struct head h;
    size_t at = SIDE_HEAD_BYTES;

    if (size >= SIDE_HEAD_BYTES && side_head_decode(data, &h) == 0) {
        side_head_encode(&h, again);
        assert(memcmp(again, data, SIDE_HEAD_BYTES) == 0);
    }
    while (at < size) {
        int n = side_record_decode(data + at, size - at, &volume, at, &r);

        if (n < 0) {
            break;
        }
        assert(side_record_encode(&r, &volume, at, again) == (size_t)n &&
               memcmp(again, data + at, (size_t)n) == 0);
        at += (size_t)n;
    }
    return 0;
}

#include "replay.h"
