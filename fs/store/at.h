/* System calls on the objects of stores, as (folder descriptor, name), never following a link. Where
 * the store's filesystem lacks something, its side file makes up for it, so that all stores look the
 * same from here on. The only way in which Holdfast touches a volume's names and attributes; bytes
 * and listings need no help and are read and written directly.
 *
 * Results are 0 (or a count) or a negative errno. With `fd` (else -1), the open object, `dir` and `name`
 * mean nothing. What was changed on the store and could not be told to its side file is -EIO: the store
 * is lost, and compared when it comes back. Any thread. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/cred.h"

int at_stat(int dir, const char *name, int fd, struct stat *ret_attr) must_check;

int at_symlink(const char *target, int dir, const char *name) must_check;
ssize_t at_readlink(int dir, const char *name, char *buf, size_t size) must_check;
/* A device, FIFO or socket. */
int at_mknod(int dir, const char *name, mode_t mode, dev_t rdev) must_check;
/* Before a file or folder is made: could it be told to the side file? */
int at_prepare(int dir, const char *name) must_check;
/* After any object was made: what the name stood for is forgotten, and, unless `who` is NULL (a copy,
 * whose attributes come next), its owner and ACLs are what a local filesystem gives a new object of
 * `mode` (before the umask). */
int at_made(int dir, const char *name, mode_t mode, const struct cred *who) must_check;
int at_link(int dir, const char *name, int to_dir, const char *to_name) must_check;
/* RENAME_EXCHANGE only where nothing is kept aside: else -EINVAL. */
int at_rename(int dir, const char *name, int to_dir, const char *to_name,
              unsigned flags) must_check;
int at_unlink(int dir, const char *name, int flags);
/* With all below it: io_remove_tree(). */
int at_remove_tree(int dir, const char *name) must_check;

/* -1: stays as it is. */
int at_chown(int dir, const char *name, int fd, uid_t uid, gid_t gid) must_check;
int at_chmod(int dir, const char *name, int fd, mode_t mode) must_check;
int at_utimes(int dir, const char *name, int fd, const struct timespec times[2]) must_check;

ssize_t at_getxattr(int dir, const char *name, const char *key, void *buf, size_t size) must_check;
ssize_t at_listxattr(int dir, const char *name, char *buf, size_t size) must_check;
int at_setxattr(int dir, const char *name, const char *key, const void *value, size_t size,
                int flags) must_check;
int at_removexattr(int dir, const char *name, const char *key) must_check;

/* Has the open file the name by which it was opened (or what that became)? */
bool at_has_name(int fd);
/* Its data changed: file capabilities go. */
int at_written(int dir, const char *name, int fd) must_check;
