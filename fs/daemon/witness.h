/* The witness record: who belonged to the volume at the last change, kept by this machine in
 * STATE_DIR/ID.witness, away from the stores. With two stores and no third vote, the newest record
 * that can be reached may be a stale one; the witness tells. Same layout as a superblock
 * (docs/format/superblock.md), two slots in one preallocated file. */
#pragma once

#include "base/error.h"
#include "format/super.h"

struct witness;

/* Opens the volume's witness file, making it if it is not there. */
int witness_open(const struct id *volume_id, struct why *why,
                 struct witness **ret_witness) must_check;
void witness_close(struct witness *witness);
/* The newest record in it; -ENOENT if it holds none. */
int witness_read(struct witness *witness, struct super *ret_record) must_check;
/* Durable when it returns 0. Fits the callback of mirror_config. */
int witness_write(void *witness, const struct super *super) must_check;
/* Removes a volume's witness. */
int witness_remove(const struct id *volume_id) must_check;
