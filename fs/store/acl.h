/* POSIX ACLs as the xattrs system.posix_acl_access and _default hold them (linux/posix_acl_xattr.h),
 * and what a filesystem with ACLs does with them, for a store that has none. Bytes that are no ACL are
 * left alone. Pure functions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The permission bits that an access ACL gives: its mask stands for the group. */
mode_t acl_mode(const uint8_t *acl, size_t n, mode_t mode);
/* Does it say no more than a mode can? */
bool acl_is_mode(const uint8_t *acl, size_t n);
/* Changes the ACL as chmod(2) to `mode` does. */
void acl_chmod(uint8_t *acl, size_t n, mode_t mode);
/* `acl` is a copy of the folder's default ACL: makes it the access ACL of an object made in it with
 * `mode` (before any umask), and gives the mode that object has. */
mode_t acl_inherit(uint8_t *acl, size_t n, mode_t mode);
