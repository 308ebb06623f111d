/* Shared by at.c (names), at_attr.c (attributes and xattrs) and at_kept.c (what the side file keeps
 * about one object). */
#pragma once

#include <string.h>

#include "store/at.h"
#include "store/side.h"
#include "store/store_int.h"

/* Items of an object's list of xattrs that the ACLs of Linux, or we, give a meaning. */
#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define TARGET_KEY  "symlink" /* where it points to; no xattr: those have a dot */

/* The side file that knows an object, if there is one. */
struct spot {
    struct side *side; /* NULL: none */
    char path[PATH_BYTES];
};

/* `fd`: the open object, or -1. */
int spot_get(int dir, const char *name, int fd, struct spot *ret) must_check;
/* The same, of an object that is about to be changed. */
int spot_change(int dir, const char *name, int fd, struct spot *ret) must_check;
/* ... that is about to be removed. */
int spot_remove(int dir, const char *name, struct spot *ret) must_check;

static inline bool lacks(const struct spot *s, uint32_t cap) {
    return s->side && side_lacks(s->side, cap);
}

struct kept {
    struct side_attr attr;
    uint8_t *bytes;    /* its xattrs */
    struct side *edit; /* nobody else changes it meanwhile; NULL: it is only read */
};

int kept_get(const struct spot *s, struct kept *ret) must_check;
/* To be changed. On success kept_free() follows. */
int kept_edit(const struct spot *s, struct kept *ret) must_check;
void kept_free(struct kept *k);
/* The list without `key`, and with `add` at its end (which may be NULL). */
int kept_replace(struct kept *k, const char *key, const struct side_xattr *add) must_check;
int kept_put(const struct spot *s, const struct kept *k) must_check;

/* What the store itself says. */
int at_stat_there(int dir, const char *name, int fd, struct stat *ret_attr) must_check;
/* Where all files belong to one user, who is not root there, that user must be able to use them all;
 * and nothing is setuid for him. */
int at_set_mode(const struct spot *s, int dir, const char *name, int fd, mode_t mode) must_check;
