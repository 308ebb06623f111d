/* Catch-up: making one store equal to another by what the journal says, and by nothing else.
 *
 * First the names: each name that may differ is looked at on both stores. What moved is moved,
 * found by its inode where it was; what is linked is linked; what is new is copied; what is gone
 * goes. Where the log does not prove that two files are the same one, all of it is compared. Then
 * the bytes and attributes that may differ, compared block by block, and copied where they do.
 *
 * Every step looks before it acts and leaves the name as it is on the source, so any prefix may be
 * repeated, by this run or another. The source is never written to.
 *
 *     catchup_new -> catchup_add for frames, catchup_names, catchup_data: as many rounds as it takes
 *     -> catchup_finish -> catchup_free */
#pragma once

#include "base/error.h"
#include "journal/view.h"
#include "store/copy.h"
#include "store/store.h"

struct catchup;

struct catchup_config {
    struct store *from, *to;
    unsigned from_slot, to_slot; /* of the members, in the journal */
    /* `to` is as it was when it left, but for what the log says: no catch-up began on it before. */
    bool untouched;
    bool anew;     /* heal_options.anew */
    bool compared; /* the trees were compared, and files of `to` written over, since it left */
    bool live;     /* the source is in use */
    void *arg;
    /* All may be NULL. A file's bytes are about to be copied: nobody else may change them until
     * released. `path`: names from the root down. `names`: nor may any name, -HFE_IN_USE if others do not let go
     * of them. Which object of the log it is goes to ret_number. */
    int (*hold)(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t off,
                uint64_t len, bool names, uint64_t *ret_number);
    void (*release)(void *arg);
    /* Once `to` receives: which file there is at this path, whose inode on `from` is `ino`; and its number. */
    int (*peer)(void *arg, const char *const *path, unsigned depth, uint64_t ino, uint64_t *ret_ino,
                uint64_t *ret_number);
    void (*found)(void *arg, uint64_t number, uint64_t ino); /* which file it is on `to` */
    bool (*stopped)(void *arg,
                    const struct copy_stat *stat); /* now and then: true stops, -ECANCELED */
};

int catchup_new(const struct catchup_config *config, const struct id *volume,
                struct catchup **ret_catchup) must_check;
void catchup_free(struct catchup *catchup);
struct view *catchup_view(struct catchup *catchup);
/* A frame of the log; shaped for store_log_read(). */
int catchup_add(void *catchup, const struct journal_frame *frame);
/* Files that are open and have no name, before the log: all of them are made equal with the other names. */
int catchup_parked(struct catchup *catchup) must_check;
/* Of all that was added, only times and attributes may differ; besides, these frames. */
int catchup_only(struct catchup *catchup, const struct journal_frame *frames,
                 unsigned n) must_check;
/* All names that may differ, as they are on the source now. */
int catchup_names(struct catchup *catchup, struct why *why) must_check;
/* The same, while no name of the source can change, and all frames are added. */
int catchup_names_exact(struct catchup *catchup, struct why *why) must_check;
/* All bytes and attributes that may differ. */
int catchup_data(struct catchup *catchup, struct why *why) must_check;
/* How many names or files the last call could not find, because the source is in use and they
 * moved: they are dealt with in the next round, once the log has told where they are. */
unsigned catchup_pending(const struct catchup *catchup);
/* Does it hold files of the target that are in the way, and may go when it ends? Where there is no
 * room, beginning anew makes some. */
bool catchup_holds_room(const struct catchup *catchup);
/* Is there a folder that must be compared as a whole first, as another one may have been taken for it? */
bool catchup_doubts(const struct catchup *catchup);
/* The target receives all changes itself now: names that are told from now on are equal on it, and
 * once that has `settled` bytes are, too. Frames go on telling where things are. */
void catchup_receives(struct catchup *catchup, bool settled);
/* What was dealt with is forgotten; the next round begins. */
void catchup_next(struct catchup *catchup);
/* The same, and the catch-up goes on: with what comes next. After a round that left nothing pending. */
int catchup_settle(struct catchup *catchup, struct why *why) must_check;
/* Once all is equal: clears what was replaced. Has each file as many names on both sides then? -HFE_STALE
 * if not: names that the log did not speak of became files of their own. */
int catchup_links(struct catchup *catchup, struct why *why) must_check;
/* Did it make files of their own of what is one file? Another catch-up by the log would not look there
 * again. */
bool catchup_tore_links(const struct catchup *catchup);
/* What was replaced on the target is gone. */
int catchup_clear(struct catchup *catchup, struct why *why) must_check;
/* The same, and the target is stable on its disk. */
int catchup_finish(struct catchup *catchup, struct why *why) must_check;
const struct copy_stat *catchup_stat(const struct catchup *catchup);
/* Bytes that wait for catchup_data(), at most. */
uint64_t catchup_bytes_left(const struct catchup *catchup);
