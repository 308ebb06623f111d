/* Running a volume: from the command line of mount to the end of the process. */
#pragma once

#include "daemon/config.h"

struct daemon_request {
    struct config config;
    struct mount_options options;
    char mount_point[PATH_BYTES];
    bool foreground; /* stay, and log to stderr */
    bool debug;      /* and print every request */
};

/* Serves until unmounted. In the background: returns in the caller, as soon as the mount serves,
 * while a child goes on. 0, or a negative result with `why` filled. */
int daemon_run(const struct daemon_request *request, struct why *why) must_check;

/* Is a daemon of this volume running? It holds a lock as long as it lives. */
bool daemon_is_running(const char *name);
/* Takes away what is left of a daemon that was killed: a mount that answers ENOTCONN. Harmless
 * else. */
void daemon_clear_dead(const char *name);
/* Waits until it has left. -ETIMEDOUT. */
int daemon_wait_gone(const char *name, int timeout_ms) must_check;
/* RUN_DIR/NAME.sock */
void daemon_socket_path(const char *name, char ret_path[PATH_BYTES]);
/* RUN_DIR/NAME.ring: the newest frames of the journal (journal/journal.h) */
void daemon_ring_path(const char *name, char ret_path[PATH_BYTES]);
/* The mount point of a mounted volume or folder `what` (a volume's name, or a path), and the
 * volume's name, from /proc/self/mountinfo. -ENOENT. */
int daemon_find_mount(const char *what, char ret_mount_point[PATH_BYTES],
                      char ret_name[PATH_BYTES]) must_check;
/* Takes the volume's lock, so that no daemon and no other command runs meanwhile; the descriptor.
 */
int daemon_lock(const char *name, struct why *why) must_check;
/* Notes in the lock file where it is mounted: another volume of that name may be mounted by somebody
 * with other folders (HOLDFAST_RUN_DIR). */
void daemon_note_mount(int lock, const char *mount_point);
/* Unmounts what daemon_find_mount() found, and waits until its daemon has flushed and left. */
int daemon_unmount(const char *mount_point, const char *name, bool lazy,
                   struct why *why) must_check;
