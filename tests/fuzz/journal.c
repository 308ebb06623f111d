/* Any bytes may be in a journal segment: decoding must refuse them or give frames that encode to
 * the same bytes. With clang -DFUZZER -fsanitize=fuzzer: a libFuzzer target. Without: replays the
 * files it is given, and what is near them. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "format/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct id volume = {{1, 2, 3, 4, 5, 6, 7, 8}};
    uint8_t again[JOURNAL_FRAME_BYTES_MAX];
    struct journal_frame f;
    struct head h;
    size_t at = JOURNAL_HEAD_BYTES;

    if (size >= JOURNAL_HEAD_BYTES && journal_head_decode(data, &h) == 0) {
        journal_head_encode(&h, again);
        assert(memcmp(again, data, JOURNAL_HEAD_BYTES) == 0);
    }
    while (at < size) {
        int n =
            journal_frame_decode(data + at, size - at, &volume, 4096 + at - JOURNAL_HEAD_BYTES, &f);

        if (n < 0) {
            break;
        }
        assert(journal_frame_encode(&f, &volume, again) == (size_t)n &&
               memcmp(again, data + at, (size_t)n) == 0);
        at += (size_t)n;
    }
    return 0;
}

#include "replay.h"
