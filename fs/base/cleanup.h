/* What is given back when its scope ends, and the attributes every room uses. */
#pragma once

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))

static inline void cleanup_fd(const int *fd) {
    if (*fd >= 0) {
        (void)close(*fd); /* a descriptor whose data matters is closed by hand and checked */
    }
}

static inline void cleanup_ptr(void *p) {
    free(*(void **)p);
}

static inline void cleanup_dir(DIR **d) {
    if (*d) {
        (void)closedir(*d);
    }
}

#define scope_fd   __attribute__((cleanup(cleanup_fd)))
#define scope_free __attribute__((cleanup(cleanup_ptr)))
#define scope_dir  __attribute__((cleanup(cleanup_dir)))

/* Hands a scoped descriptor on to its new owner. */
static inline int steal_fd(int *fd) {
    int taken = *fd;

    *fd = -1;
    return taken;
}
