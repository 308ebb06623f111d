/* Whole reads and writes, and the one way in which a small file of ours is replaced. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"

/* Reads up to n bytes at off, going on after short reads. The count (short only at the end of the
 * file) or a negative errno. */
ssize_t io_pread(int fd, void *buf, size_t n, off_t off) must_check;

/* Writes n bytes at off, going on after short writes. The count or, if not one byte was taken, a
 * negative errno: a short count means that the next byte failed. */
ssize_t io_pwrite(int fd, const void *buf, size_t n, off_t off) must_check;

/* Makes dirfd/name hold exactly these bytes, durably, or leaves it as it was: a new file is
 * written, synced and renamed over it, and the folder synced. Mode 0600 or as given. */
int io_replace(int dirfd, const char *name, const void *data, size_t n, mode_t mode) must_check;

/* The text of a small file (at most 1 MiB) with a final NUL, on the heap. */
int io_read_text(int dirfd, const char *name, char **ret_text) must_check;

/* Removes dirfd/name and all below it, without following links. -ELOOP if it is deeper than
 * TREE_DEPTH_MAX. */
int io_remove_tree(int dirfd, const char *name) must_check;

/* As many descriptors as this process may have, from now on. Returns how many. */
unsigned long io_raise_file_limit(void);

/* A stream of the folder dirfd/name, without following a link; close it with closedir(3). */
int io_open_dir(int dirfd, const char *name, DIR **ret_dir) must_check;

/* Which of n (at most 64) folders answer within timeout_ms, be it with an error: one on a mount that hangs does
 * not. Asked by processes of their own, which are left behind in a hung one until it goes on. */
void io_ask_folders(const char *const *paths, unsigned n, int timeout_ms, bool *ret_answers);

/* In a child that is about to run another program: no signal is blocked or ignored for it. */
void io_plain_signals(void);

/* mkdir -p: each missing folder of `path` with `mode`. */
int io_make_path(const char *path, mode_t mode) must_check;
