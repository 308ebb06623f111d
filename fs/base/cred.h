/* Acting as somebody else for one call.
 *
 * A new file must belong to its creator from its first instant, obey the creator's umask or the
 * folder's default ACL, and lose a setgid bit the creator may not give. Only the kernel below does
 * all of that right, so the calling thread takes on the creator's filesystem ids for the call
 * (setfsuid(2), setfsgid(2)) and its umask (after unshare(CLONE_FS), as umask(2) is per process).
 * Permission was already checked by the kernel above (default_permissions), hence the thread keeps
 * CAP_DAC_OVERRIDE, and CAP_MKNOD; it must not keep CAP_FSETID (inode(7), setgid rules). */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct cred {
    uid_t uid;
    gid_t gid;
    pid_t pid; /* whose supplementary groups count; 0: none */
    mode_t umask;
};

/* Us: root or the user the daemon runs as, umask 077. */
extern const struct cred cred_self;

/* True if this process can take on other ids at all (it is root). */
bool cred_can_become(void);

/* From here to cred_back() the calling thread acts as `who`. `groups`: take on the supplementary
 * groups too (slow: they are read from /proc); needed where a setgid bit is about to be given. */
void cred_become(const struct cred *who, bool groups);
void cred_back(void);

/* Is `gid` one of the caller's groups? The supplementary ones are read from /proc: slow. */
bool cred_in_group(const struct cred *who, gid_t gid);
