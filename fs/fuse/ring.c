/* FUSE over io_uring: the kernel hands a request to a thread that waits on the caller's own
 * processor, and one system call replies and waits for the next. Linux 6.14 and later, where the
 * module allows it (fuse.enable_uring). Forgetting, interrupts and INIT go on through /dev/fuse.
 *
 * There is a queue for each processor the machine could have. A ring is one thread's place at a
 * queue, with room for one request; the kernel fills the one that was answered last first. A thread
 * that waits keeps a system call in its ring, so it may not end before the mount does. Whoever goes
 * on with the request of a stuck thread answers it through that thread's ring, and keeps the ring.
 *
 * libfuse 3.14 knows nothing of this: requests are put together as it would read them.
 *
 * Source of the rules: Linux 6.18, fs/fuse/dev_uring.c and Documentation/filesystems/fuse-io-uring.rst. */
#include <errno.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fuse/front_int.h"

/* As in include/uapi/linux/fuse.h since 6.14; Debian 12's is older. */
enum { CMD_REGISTER = 1, CMD_COMMIT_AND_FETCH = 2 };
struct ent_in_out {
    uint64_t flags, commit_id;
    uint32_t payload_sz, padding;
    uint64_t reserved;
};
struct req_header {
    uint8_t in_out[128], op_in[128];
    struct ent_in_out ent;
};
struct cmd_req {
    uint64_t flags, commit_id;
    uint16_t qid;
    uint8_t padding[6];
};

enum { PAGE = 4096 };

struct ring {
    struct queue *queue;
    struct io_uring uring;
    uint8_t *memory; /* a page for the header, then the payload */
    size_t payload_bytes;
    struct iovec iov[2];
    unsigned command; /* the next one */
    size_t reply_bytes;
    bool lent; /* a stuck call may read its memory whenever it comes back */
};

static struct req_header *header_of(const struct ring *r) {
    return (struct req_header *)r->memory;
}

struct queue *ring_queue(const struct ring *r) {
    return r->queue;
}

void ring_lend(struct ring *r) {
    r->lent = true;
}

int ring_new(struct queue *q, size_t payload_bytes, struct ring **ret_ring) {
    struct io_uring_params params = {.flags = IORING_SETUP_SQE128};
    struct ring *r = calloc(1, sizeof(*r));
    int err;

    if (!r) {
        return -ENOMEM;
    }
    r->queue = q;
    r->payload_bytes = payload_bytes;
    r->command = CMD_REGISTER;
    r->memory = mmap(NULL, PAGE + payload_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r->memory == MAP_FAILED) {
        free(r);
        return -ENOMEM;
    }
    err = io_uring_queue_init_params(1, &r->uring, &params);
    if (err < 0) {
        (void)munmap(r->memory, PAGE + payload_bytes);
        free(r);
        return err;
    }
    r->iov[0] = (struct iovec){r->memory, sizeof(struct req_header)};
    r->iov[1] = (struct iovec){r->memory + PAGE, payload_bytes};
    *ret_ring = r;
    return 0;
}

void ring_free(struct ring *r) {
    if (r) {
        io_uring_queue_exit(&r->uring);
        if (!r->lent) {
            (void)munmap(r->memory, PAGE + r->payload_bytes);
        }
        free(r);
    }
}

static int submit(struct ring *r) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring); /* there is one: none is under way */
    struct cmd_req cmd = {.qid = (uint16_t)r->queue->cpu,
                          .commit_id =
                              r->command == CMD_REGISTER ? 0 : header_of(r)->ent.commit_id};
    int n;

    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fuse_session_fd(r->queue->front->session);
    sqe->cmd_op = r->command;
    if (r->command == CMD_REGISTER) {
        sqe->addr = (uintptr_t)r->iov;
        sqe->len = 2;
    }
    memcpy(sqe->cmd, &cmd, sizeof(cmd));
    n = io_uring_submit_and_wait(&r->uring, 1);
    return n < 0 && n != -EINTR ? n : 0;
}

/* As one piece, in front of the payload. */
static int put_together(struct ring *r, struct fuse_buf *buf) {
    const struct req_header *h = header_of(r);
    struct fuse_in_header in;
    size_t op_bytes;

    memcpy(&in, h->in_out, sizeof(in));
    if (h->ent.payload_sz > r->payload_bytes || in.len < sizeof(in) + h->ent.payload_sz ||
        in.len > sizeof(in) + h->ent.payload_sz + sizeof(h->op_in)) {
        return -EPROTO;
    }
    op_bytes = in.len - sizeof(in) - h->ent.payload_sz;
    buf->mem = r->memory + PAGE - op_bytes - sizeof(in);
    memcpy(buf->mem, &in, sizeof(in));
    memcpy((uint8_t *)buf->mem + sizeof(in), h->op_in, op_bytes);
    buf->size = in.len;
    return (int)in.len;
}

int ring_receive(struct ring *r, struct fuse_buf *buf) {
    struct io_uring_cqe *cqe;
    int err = submit(r);

    while (err == 0 && (err = io_uring_wait_cqe(&r->uring, &cqe)) == -EINTR) {
        err = 0;
    }
    if (err < 0) {
        return err;
    }
    err = cqe->res;
    io_uring_cqe_seen(&r->uring, cqe);
    if (err < 0) {
        return err == -ENOTCONN || err == -ECONNABORTED ? 0 : err;
    }
    r->command = CMD_COMMIT_AND_FETCH;
    return put_together(r, buf);
}

void ring_trim(struct ring *r) {
    size_t keep = (PAGE + r->reply_bytes + PAGE - 1) / PAGE * PAGE;

    /* only now, while the kernel has no part in it; if it fails there is less memory for others */
    (void)madvise(r->memory + keep, PAGE + r->payload_bytes - keep, MADV_DONTNEED);
}

ssize_t ring_reply(struct ring *r, const struct iovec *iov, int count) {
    struct req_header *h = header_of(r);
    size_t n = 0;

    for (int i = 1; i < count; i++) {
        if (iov[i].iov_len > r->payload_bytes - n) {
            errno = EINVAL;
            return -1;
        }
        memcpy(r->memory + PAGE + n, iov[i].iov_base, iov[i].iov_len);
        n += iov[i].iov_len;
    }
    memcpy(h->in_out, iov[0].iov_base, sizeof(struct fuse_out_header));
    h->ent.payload_sz = (uint32_t)n;
    r->reply_bytes = n;
    return (ssize_t)(sizeof(struct fuse_out_header) + n);
}
