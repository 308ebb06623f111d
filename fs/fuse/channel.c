/* The channel to the kernel: how requests are read and replies written, where libfuse's way is not
 * the best for us.
 *
 * Waiting. Most requests come one right after the other, from a caller who waits for each. Going to
 * sleep in between and being woken costs more than the work itself. So one thread at a time asks
 * again and again for EAGER_US before it sleeps, through a second descriptor of the connection that
 * does not block (FUSE_DEV_IOC_CLONE). The kernel wants a reply through the descriptor that the
 * request was read from; requests are answered by the thread that read them.
 *
 * INIT. libfuse 3.14 cannot ask for FUSE_HANDLE_KILLPRIV_V2, which lets the kernel remember that a
 * file has no capabilities; without it each write(2) is preceded by a getxattr request. The answer
 * to INIT passes here, and the flag is added. The duty it brings is met by the mirror in any case:
 * setuid and setgid go at write, truncate and chown (drop_privileges), capabilities by the kernel
 * below. In the same way requests over io_uring (ring.c) are asked for. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "fuse/front_int.h"

enum {
    EAGER_US = 20 /* about what being woken costs; longer gains nothing (tests/bench/run) */
};
#define OVER_IO_URING (1ULL << 41) /* FUSE_OVER_IO_URING of Linux 6.14 */

static _Thread_local int came_from; /* where this thread's request was read */

static int64_t now_us(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail for this clock */
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static ssize_t read_eagerly(const struct front *f, void *buf, size_t size) {
    int64_t until = now_us() + EAGER_US;
    ssize_t n;

    do {
        n = read(f->eager_fd, buf, size);
    } while (n < 0 && errno == EAGAIN && now_us() < until);
    return n;
}

static ssize_t read_request(struct front *f, int fd, void *buf, size_t size) {
    if (f->eager_fd >= 0 && atomic_load(&f->ringing) != RINGS_ON &&
        !atomic_exchange(&f->eager_taken, true)) {
        ssize_t n = read_eagerly(f, buf, size);

        atomic_store(&f->eager_taken, false);
        if (n >= 0 || errno != EAGAIN) {
            came_from = f->eager_fd;
            return n;
        }
    }
    came_from = fd;
    return read(fd, buf, size);
}

static ssize_t channel_read(int fd, void *buf, size_t size, void *data) {
    struct front *f = data;
    ssize_t n = read_request(f, fd, buf, size);
    const struct fuse_in_header *head = buf;

    if (n >= (ssize_t)(sizeof(*head) + sizeof(struct fuse_init_in)) && head->opcode == FUSE_INIT) {
        const struct fuse_init_in *in = (const struct fuse_init_in *)(head + 1);

        f->init_flags = in->flags;
        if (in->flags & FUSE_INIT_EXT) {
            f->init_flags |= (uint64_t)in->flags2 << 32;
        }
        f->init_unique = head->unique;
    }
    return n;
}

/* From its answer on, the kernel waits until every queue has a thread: they are there before. */
static void amend_init(struct front *f, struct fuse_init_out *out) {
    size_t pages = (size_t)out->max_pages * (size_t)sysconf(_SC_PAGESIZE);
    int err;

    out->flags |= f->init_flags & FUSE_HANDLE_KILLPRIV_V2;
    f->payload_bytes = pages > out->max_write ? pages : out->max_write;
    if (!(f->init_flags & OVER_IO_URING)) {
        return;
    }
    err = loop_prepare_rings(f);
    if (err < 0) {
        event_post(f->config.events, EVENT_WARNING,
                   "requests do not come in over io_uring, though the kernel would: %s",
                   error_words(err));
        return;
    }
    out->flags |= FUSE_INIT_EXT;
    out->flags2 |= OVER_IO_URING >> 32;
}

static ssize_t answer_init(struct front *f, int fd, struct iovec *iov, int count) {
    const struct fuse_out_header *head = iov[0].iov_base;
    ssize_t n;

    f->init_unique = 0;
    if (count == 2 && head->error == 0 && iov[1].iov_len >= sizeof(struct fuse_init_out)) {
        amend_init(f, iov[1].iov_base);
    }
    n = writev(fd, iov, count);
    loop_start_rings(f, n >= 0);
    return n;
}

static ssize_t channel_writev(int fd, struct iovec *iov, int count, void *data) {
    struct front *f = data;
    const struct fuse_out_header *head = iov[0].iov_base;
    const struct request *request = loop_request();

    if (head->unique == 0 || !request) {
        return writev(fd, iov, count);
    }
    if (request->ring) {
        return ring_reply(request->ring, iov, count);
    }
    return head->unique == f->init_unique ? answer_init(f, request->reply_fd, iov, count)
                                          : writev(request->reply_fd, iov, count);
}

/* Without it all works, with more waiting. Where there is one processor, asking keeps it from those
 * who have something to ask for. */
static void open_eager(struct front *f) {
    uint32_t connection = (uint32_t)fuse_session_fd(f->session);

    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        return;
    }
    f->eager_fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (f->eager_fd >= 0 && ioctl(f->eager_fd, FUSE_DEV_IOC_CLONE, &connection) < 0) {
        (void)close(f->eager_fd); /* nothing was read from it */
        f->eager_fd = -1;
    }
}

int channel_receive(struct front *f, struct request *r) {
    int n;

    if (r->ring) {
        return ring_receive(r->ring, &r->buf);
    }
    n = fuse_session_receive_buf(f->session, &r->buf);
    r->reply_fd = came_from;
    return n;
}

int channel_open(struct front *f) {
    static const struct fuse_custom_io io = {.writev = channel_writev, .read = channel_read};

    open_eager(f);
    return fuse_session_custom_io(f->session, &io, fuse_session_fd(f->session));
}
