/* The journal's files on one store: .holdfast/journal/POSITION, each a head and frames
 * (docs/format/journal.md). A segment is allocated when it is begun, together with the one after
 * it, so that a full disk does not stop the log in the middle: that is its reserve.
 *
 * One thread at a time. What is written is durable after store_log_sync(). */
#pragma once

#include "format/journal.h"
#include "store/store.h"

#define STORE_JOURNAL_FOLDER "journal"

/* Begins a log at `position`, throwing away what was there. */
int store_log_reset(struct store *store, uint64_t position) must_check;
/* Opens the log for appending; *ret_end is the position behind its last whole frame. -ENOENT if
 * there is none. What is torn behind it is cut off. */
int store_log_open(struct store *store, uint64_t *ret_end) must_check;
/* Appends whole frames, the first of which is at `position`, the end of the log. */
int store_log_append(struct store *store, uint64_t position, const uint8_t *frames,
                     size_t n) must_check;
int store_log_sync(struct store *store) must_check;
/* Removes segments that hold nothing at or behind `before`. What it could not remove, the next call
 * tries again. */
void store_log_drop(struct store *store, uint64_t before);
/* Calls `each` for all frames from position `from` to `to`. -HFE_STALE if the log begins later or
 * ends earlier, -HFE_CORRUPT, or what `each` returned. Any thread, also while another appends. */
int store_log_read(const struct store *store, uint64_t from, uint64_t to,
                   int (*each)(void *arg, const struct journal_frame *frame), void *arg) must_check;
/* Position of the oldest frame that is there; UINT64_MAX if there is none. */
uint64_t store_log_first(const struct store *store);
