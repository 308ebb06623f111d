/* FUSE over io_uring: the kernel hands a request to a thread that waits on the caller's own
 * processor, and one system call replies and waits for the next. Linux 6.14 and later, where the
 * module allows it (fuse.enable_uring). Forgetting, interrupts and INIT go on through /dev/fuse.
 *
 * There is a queue for each processor the machine could have. A ring is one thread's place at a
 * queue, with room for one request; the kernel fills the one that was answered last first. A thread
 * that waits keeps a system call in its ring, so it may not end before the mount does. Whoever goes
 * on with the request of a stuck thread answers it through that thread's ring, and keeps the ring; the
 * stuck call keeps the memory.
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

#include "base/fiber.h"
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
    struct request request;
    struct io_uring uring;
    /* A page for the header, then the payload: mapped twice, once where the kernel was told and once
     * for those who work with it. */
    uint8_t *told, *memory;
    size_t bytes;
    struct iovec iov[2];
    unsigned command; /* the next one */
    size_t reply_bytes;
    int broken; /* the error that keeps it from going on */
};

static struct req_header *header_of(const struct ring *r) {
    return (struct req_header *)r->memory;
}

struct queue *ring_queue(const struct ring *r) {
    return r->queue;
}

struct request *ring_request(struct ring *r) {
    return &r->request;
}

bool ring_is_registered(const struct ring *r) {
    return r->command == CMD_COMMIT_AND_FETCH;
}

/* New memory where the kernel was told. What was there stays mapped for those who work with it. Needs no
 * descriptor: there may be none left. */
static int new_memory(struct ring *r) {
    uint8_t *memory =
        mmap(NULL, r->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *told;

    if (memory == MAP_FAILED) {
        return -errno;
    }
    if (r->memory) {
        memcpy(memory, r->memory, sizeof(struct req_header));
    }
    told = r->told ? mremap(memory, 0, r->bytes, MREMAP_MAYMOVE | MREMAP_FIXED, r->told)
                   : mremap(memory, 0, r->bytes, MREMAP_MAYMOVE); /* size 0: mapped twice */
    if (told == MAP_FAILED) {
        int err = -errno;

        (void)munmap(memory, r->bytes);
        return err;
    }
    r->told = told;
    r->memory = memory;
    return 0;
}

int ring_new(struct queue *q, size_t payload_bytes, struct ring **ret_ring) {
    struct io_uring_params params = {.flags = IORING_SETUP_SQE128};
    struct ring *r = calloc(1, sizeof(*r));
    int err;

    if (!r) {
        return -ENOMEM;
    }
    r->queue = q;
    r->request = (struct request){.front = q->front, .ring = r};
    r->bytes = PAGE + payload_bytes;
    r->command = CMD_REGISTER;
    err = io_uring_queue_init_params(1, &r->uring, &params);
    if (err < 0) {
        free(r);
        return err;
    }
    err = new_memory(r);
    if (err < 0) {
        ring_free(r);
        return err;
    }
    r->iov[0] = (struct iovec){r->told, sizeof(struct req_header)};
    r->iov[1] = (struct iovec){r->told + PAGE, payload_bytes};
    *ret_ring = r;
    return 0;
}

void ring_free(struct ring *r) {
    if (!r) {
        return;
    }
    io_uring_queue_exit(&r->uring);
    if (r->memory) {
        (void)munmap(r->memory, r->bytes);
        (void)munmap(r->told, r->bytes);
    }
    fiber_orphan(r->request.read_buf);
    free(r);
}

static void prepare(struct ring *r) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring); /* there is one: none is under way */
    struct cmd_req cmd = {.qid = (uint16_t)r->queue->cpu,
                          .commit_id =
                              r->command == CMD_REGISTER ? 0 : header_of(r)->ent.commit_id};

    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fuse_session_fd(r->queue->front->session);
    sqe->cmd_op = r->command;
    if (r->command == CMD_REGISTER) {
        sqe->addr = (uintptr_t)r->iov;
        sqe->len = 2;
    }
    memcpy(sqe->cmd, &cmd, sizeof(cmd));
}

static int submit(struct ring *r) {
    int n;

    if (io_uring_sq_ready(&r->uring) == 0) { /* else the kernel did not take it last time */
        prepare(r);
    }
    n = io_uring_submit_and_wait(&r->uring, 1);
    return n < 0 && n != -EINTR ? n : 0;
}

/* As one piece, in front of the payload. */
static int put_together(struct ring *r, struct fuse_buf *buf) {
    const struct req_header *h = header_of(r);
    struct fuse_in_header in;
    size_t op_bytes;

    memcpy(&in, h->in_out, sizeof(in));
    if (h->ent.payload_sz > r->bytes - PAGE || in.len < sizeof(in) + h->ent.payload_sz ||
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
    int err = r->broken < 0 ? r->broken : submit(r);

    while (err == 0 && (err = io_uring_wait_cqe(&r->uring, &cqe)) == -EINTR) {
        err = 0;
    }
    if (err < 0) {
        return err;
    }
    err = cqe->res;
    io_uring_cqe_seen(&r->uring, cqe);
    if (err < 0) { /* ENOENT: the request went with the connection */
        return err == -ENOTCONN || err == -ECONNABORTED || err == -ENOENT ? 0 : err;
    }
    r->command = CMD_COMMIT_AND_FETCH;
    return put_together(r, buf);
}

void ring_trim(struct ring *r) {
    size_t keep = (PAGE + r->reply_bytes + PAGE - 1) / PAGE * PAGE;

    /* only now, while the kernel has no part in it; if it fails there is less memory for others */
    (void)madvise(r->memory + keep, r->bytes - keep, MADV_REMOVE);
}

ssize_t ring_reply(struct ring *r, const struct iovec *iov, int count) {
    int err = fiber_losses() > 0 ? new_memory(r) : 0; /* the stuck call may still read the old */
    struct req_header *h = header_of(r);
    size_t n = 0;

    if (err < 0) {
        r->broken = err;
        errno = -err;
        return -1;
    }
    for (int i = 1; i < count; i++) {
        if (iov[i].iov_len > r->bytes - PAGE - n) {
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
