#include "store/acl.h"

#include "base/le.h"

enum { HEAD = 4, ENTRY = 8, VERSION = 2 };
enum { USER_OBJ = 1, GROUP_OBJ = 4, MASK = 16, OTHER = 32 };

/* The permissions of the first entry with this tag; NULL: there is none. */
static uint8_t *perm_of(uint8_t *acl, size_t n, unsigned tag) {
    if (n < HEAD || le_load(acl, 4) != VERSION) {
        return NULL;
    }
    for (size_t at = HEAD; at + ENTRY <= n; at += ENTRY) {
        if (le_load(acl + at, 2) == tag) {
            return acl + at + 2;
        }
    }
    return NULL;
}

/* The three that are also in a mode, and where. */
static unsigned in_mode(uint8_t *acl, size_t n, uint8_t *ret_perm[3]) {
    uint8_t *mask = perm_of(acl, n, MASK);

    ret_perm[0] = perm_of(acl, n, USER_OBJ);
    ret_perm[1] = mask ? mask : perm_of(acl, n, GROUP_OBJ);
    ret_perm[2] = perm_of(acl, n, OTHER);
    return ret_perm[0] && ret_perm[1] && ret_perm[2] ? 3 : 0;
}

mode_t acl_mode(const uint8_t *acl, size_t n, mode_t mode) {
    uint8_t *perm[3];

    if (in_mode((uint8_t *)acl, n, perm) == 0) { /* only read */
        return mode;
    }
    return (mode & ~(mode_t)0777) |
           (mode_t)((*perm[0] & 7) << 6 | (*perm[1] & 7) << 3 | (*perm[2] & 7));
}

bool acl_is_mode(const uint8_t *acl, size_t n) {
    uint8_t *perm[3];

    return n == HEAD + 3 * ENTRY && in_mode((uint8_t *)acl, n, perm) == 3;
}

void acl_chmod(uint8_t *acl, size_t n, mode_t mode) {
    uint8_t *perm[3];

    for (unsigned i = in_mode(acl, n, perm); i-- > 0;) {
        *perm[i] = mode >> (6 - 3 * i) & 7;
    }
}

mode_t acl_inherit(uint8_t *acl, size_t n, mode_t mode) {
    uint8_t *perm[3];

    for (unsigned i = in_mode(acl, n, perm); i-- > 0;) {
        unsigned shift = 6 - 3 * i;

        *perm[i] &= (uint8_t)(mode >> shift & 7);
        mode &= ~((mode_t)7 << shift);
        mode |= (mode_t)*perm[i] << shift;
    }
    return mode;
}
