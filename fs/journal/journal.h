/* The change journal of a mounted volume: what changed, in order, without the data.
 *
 * Before a change is sent to any store, a frame that names it is appended here; so whatever crashes
 * or goes away, the log knows all that may differ. A position in the log (bytes since the volume
 * was made) is the volume's clock.
 *
 * New frames lie in the ring, a file in the run folder of this machine that is mapped into memory:
 * appending costs no system call, touches no store, and survives the death of the daemon. From
 * there the mirror carries them to the journal folder of every ONLINE store (at least once a
 * second, and before an fsync that needs it), for what the machine itself does not survive. The
 * ring also shows the changes that are under way: after kill -9 they are all there is to look at.
 *
 * Marks. A write into a window (WINDOW_BYTES of one object) that is already marked in this epoch is
 * not told again: HOT marks a window, and while a member is away DATA marks blocks, exactly. An
 * epoch ends at a cut (vol/gate.h): afterwards everything is told anew. BIND frames tell which file
 * an object's number is, once in each epoch, before its first other frame.
 *
 *     journal_open -> journal_begin, journal_append ..., journal_end for each change ->
 * journal_close
 *
 * Any thread may call. A change holds the gate from before journal_begin() to after journal_end().
 */
#pragma once

#include "base/error.h"
#include "format/journal.h"

enum {
    WINDOW_BYTES = 1 << 20,
    BLOCK_BYTES = 4096,
    INTENTS_MAX = 512, /* changes under way at once: more than there are threads */
    RING_STORES_MAX = STORES_MAX,
};

/* A store as this mount found it: another instance may have lost what was not synced. */
struct journal_instance {
    struct id store;
    uint64_t dev, ino, mount;
};

struct journal;

struct journal_config {
    const char *ring_path; /* NULL: in memory only (tests) */
    struct id volume;
    uint64_t mount_count;
    uint64_t position; /* of the first new frame */
    unsigned stores;
    struct journal_instance store[RING_STORES_MAX];
};

int journal_open(const struct journal_config *config, struct why *why,
                 struct journal **ret_journal) must_check;
/* `clean`: all was carried to the stores; the ring's file goes, too. Accepts NULL. */
void journal_close(struct journal *journal, bool clean);

/* The number of an object: `id` is never reused during a mount. */
uint64_t journal_number(const struct journal *journal, uint64_t id);
/* Numbers of folders that are never bound: the root, .holdfast/open, .holdfast/snap. 2 is never
 * used. */
enum { JOURNAL_ROOT = 1, JOURNAL_PARKED = 3, JOURNAL_SNAPS = 4 };

/* The ring does not tell all that may differ: whoever finds it must not go by it. */
void journal_spoil(struct journal *journal);
/* A store came back, as this instance. */
void journal_set_instance(struct journal *journal, const struct journal_instance *instance);

/* A change under way. */
struct journal_intent {
    int slot; /* -1: none */
};
void journal_begin(struct journal *journal, struct journal_intent *ret_intent);
/* Appends a frame (position is filled in), and notes it as under way if `intent` is not NULL.
 * Waits if the ring is full of frames that no store has yet. Returns its position. */
uint64_t journal_append(struct journal *journal, struct journal_intent *intent,
                        const struct journal_frame *frame);
/* The same, but never waits: false if the ring is full. */
bool journal_try_append(struct journal *journal, const struct journal_frame *frame);
/* Marks [off, off + len) (len 0: to the end) of an object. Returns the position of the last frame
 * that had to be appended, or 0 if it was all marked already. */
uint64_t journal_mark(struct journal *journal, struct journal_intent *intent, uint64_t number,
                      uint64_t off, uint64_t len);
uint64_t journal_mark_attr(struct journal *journal, struct journal_intent *intent, uint64_t number);
void journal_end(struct journal *journal, struct journal_intent *intent);

/* Begins a new epoch: all marks are told anew. Only while the gate is closed. The position. */
uint64_t journal_cut(struct journal *journal);
/* Tell blocks exactly (a member is away), or windows only. */
void journal_set_exact(struct journal *journal, bool exact);
uint32_t journal_epoch(const struct journal *journal);
uint64_t journal_position(struct journal *journal);

/* Carrying frames to the stores: whole frames from `position` on, at most `size` bytes (at least
 * JOURNAL_FRAME_BYTES_MAX). How many bytes; 0 if there is nothing new. */
size_t journal_take(struct journal *journal, uint64_t position, uint8_t *ret_bytes, size_t size);
/* All before `position` is on the stores: the ring may forget it. */
void journal_carried(struct journal *journal, uint64_t position);

/* --- after a crash --- */

/* What a ring that a killed daemon left says. */
struct journal_tail {
    struct id volume;
    uint64_t mount_count, position; /* of the first frame that is there */
    unsigned stores;
    struct journal_instance store[RING_STORES_MAX];
    size_t bytes;                    /* of frames */
    uint8_t *frames;                 /* on the heap; whole frames */
    unsigned count;                  /* of changes that were under way */
    struct journal_frame *under_way; /* on the heap: NAME, MOVE, DATA and ATTR frames */
};
/* -ENOENT if there is none of this boot of the machine, -HFE_CORRUPT. */
int journal_read_tail(const char *ring_path, struct journal_tail *ret_tail) must_check;
void journal_tail_release(struct journal_tail *tail);
