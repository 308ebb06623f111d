#include "journal/journal.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "journal/marks.h"

enum {
    RING_BYTES = 4 << 20, /* of frames: seconds of the busiest work */
    ATTR_WINDOW = -1,
    NUMBER_SHIFT = 40, /* of the mount count in an object's number: 10^12 objects in one mount */
};

/* What a change is about to do, where a new daemon finds it. `position` is written last and cleared
 * first; 0: nothing. */
struct ring_intent {
    _Atomic uint64_t busy;
    uint64_t position; /* of its NAME or MOVE frame; 0: none */
    uint64_t number;   /* of a DATA or ATTR change; 0: none */
    uint64_t off, len; /* off UINT64_MAX: attributes */
};

/* The mapped file. Only this machine reads it, and only during this boot: no byte order. */
struct ring {
    char magic[8];
    struct id volume, boot;
    uint64_t mount_count;
    uint64_t stores;
    struct journal_instance store[RING_STORES_MAX];
    _Atomic uint64_t ready; /* 1: all above is written */
    _Atomic uint64_t first; /* position of the oldest frame that is still there */
    _Atomic uint64_t end;   /* position behind the newest frame */
    struct ring_intent intent[INTENTS_MAX];
    uint8_t frames[RING_BYTES];
};
static const char ring_magic[8] = "HFRING2";

struct journal {
    /* constant after open */
    struct ring *ring;
    char *path;
    struct id volume;
    uint64_t mount_count;
    /* atomic */
    _Atomic uint64_t used[INTENTS_MAX / 64]; /* intents taken */
    _Atomic uint32_t epoch;
    /* guarded by mutex */
    pthread_mutex_t mutex;
    pthread_cond_t carried;
    struct marks marks;
    bool exact;
};

static struct ring *map_ring(const char *path, int flags, struct why *why) {
    scope_fd int fd = path ? open(path, flags, 0600) : -1;
    void *p;

    if (!path) {
        p = mmap(NULL, sizeof(struct ring), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                 0);
    } else {
        /* posix_fallocate(3): a full disk shows now, not as a signal later */
        int err = fd < 0 ? errno : posix_fallocate(fd, 0, sizeof(struct ring));

        if (err != 0) {
            (void)why_set(why, -err, "cannot make %s: %s; make room there", path,
                          error_words(-err));
            return NULL;
        }
        p = mmap(NULL, sizeof(struct ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    if (p == MAP_FAILED) {
        (void)why_set(why, -errno, "cannot map the change ring: %s", error_words(-errno));
        return NULL;
    }
    return p;
}

int journal_open(const struct journal_config *c, struct why *why, struct journal **ret_journal) {
    struct journal *j = calloc(1, sizeof(*j));
    struct ring *r;

    if (!j || marks_init(&j->marks) < 0 || (c->ring_path && !(j->path = strdup(c->ring_path)))) {
        if (j) {
            marks_release(&j->marks);
        }
        free(j);
        return why_set(why, -ENOMEM, "out of memory");
    }
    if (c->ring_path) {
        (void)unlink(c->ring_path); /* of a mount before this one: it was read already */
    }
    r = map_ring(c->ring_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, why);
    if (!r) {
        marks_release(&j->marks);
        free(j->path);
        free(j);
        return -EIO;
    }
    memcpy(r->magic, ring_magic, sizeof(r->magic));
    r->volume = c->volume;
    r->boot = id_of_boot();
    r->mount_count = c->mount_count;
    r->stores = c->stores;
    memcpy(r->store, c->store, sizeof(r->store));
    atomic_store(&r->first, c->position);
    atomic_store(&r->end, c->position);
    atomic_store(&r->ready, 1);
    j->ring = r;
    j->volume = c->volume;
    j->mount_count = c->mount_count;
    atomic_init(&j->epoch, 1);
    pthread_mutex_init(&j->mutex, NULL);
    pthread_cond_init(&j->carried, NULL);
    *ret_journal = j;
    return 0;
}

void journal_close(struct journal *j, bool clean) {
    if (!j) {
        return;
    }
    if (clean && j->path) {
        (void)unlink(j->path); /* a clean superblock says that it is not needed */
    }
    (void)munmap(j->ring, sizeof(*j->ring));
    marks_release(&j->marks);
    pthread_cond_destroy(&j->carried);
    pthread_mutex_destroy(&j->mutex);
    free(j->path);
    free(j);
}

void journal_spoil(struct journal *j) {
    atomic_store(&j->ring->ready, 0);
}

void journal_set_instance(struct journal *j, const struct journal_instance *instance) {
    struct ring *r = j->ring;
    uint64_t k = 0;

    pthread_mutex_lock(&j->mutex);
    while (k < r->stores && !id_equal(&r->store[k].store, &instance->store)) {
        k++;
    }
    if (k < RING_STORES_MAX) { /* else a killed daemon costs a comparison */
        r->store[k] = *instance;
        r->stores = k < r->stores ? r->stores : k + 1;
    }
    pthread_mutex_unlock(&j->mutex);
}

uint64_t journal_number(const struct journal *j, uint64_t id) {
    return j->mount_count << NUMBER_SHIFT | id;
}

void journal_begin(struct journal *j, struct journal_intent *ret_intent) {
    ret_intent->slot = -1;
    for (unsigned w = 0; w < INTENTS_MAX / 64; w++) {
        uint64_t used = atomic_load(&j->used[w]);

        while (used != UINT64_MAX) {
            unsigned bit = (unsigned)__builtin_ctzll(~used);

            if (atomic_compare_exchange_weak(&j->used[w], &used, used | UINT64_C(1) << bit)) {
                ret_intent->slot = (int)(w * 64 + bit);
                return;
            }
        }
    }
    assert(!"more changes under way than there can be threads");
}

void journal_end(struct journal *j, struct journal_intent *intent) {
    unsigned slot = (unsigned)intent->slot;

    if (intent->slot < 0) {
        return;
    }
    atomic_store_explicit(&j->ring->intent[slot].busy, 0, memory_order_release);
    atomic_fetch_and(&j->used[slot / 64], ~(UINT64_C(1) << slot % 64));
    intent->slot = -1;
}

static void note(struct journal *j, const struct journal_intent *intent, uint64_t position,
                 uint64_t number, uint64_t off, uint64_t len) {
    struct ring_intent *i;

    if (!intent || intent->slot < 0) {
        return;
    }
    i = &j->ring->intent[intent->slot];
    i->position = position;
    i->number = number;
    i->off = off;
    i->len = len;
    atomic_store_explicit(&i->busy, 1, memory_order_release);
}

/* Copies out of or into the ring, around its end. */
static void ring_copy(uint8_t *frames, uint64_t position, uint8_t *bytes, size_t n, bool in) {
    size_t at = position % RING_BYTES, part = RING_BYTES - at < n ? RING_BYTES - at : n;

    if (in) {
        memcpy(frames + at, bytes, part);
        memcpy(frames, bytes + part, n - part);
    } else {
        memcpy(bytes, frames + at, part);
        memcpy(bytes + part, frames, n - part);
    }
}

static bool has_room_locked(const struct journal *j) {
    return atomic_load(&j->ring->end) + JOURNAL_FRAME_BYTES_MAX - atomic_load(&j->ring->first) <=
           RING_BYTES;
}

static uint64_t append_locked(struct journal *j, const struct journal_frame *frame) {
    struct journal_frame f = *frame;
    uint8_t bytes[JOURNAL_FRAME_BYTES_MAX];
    size_t n;

    while (!has_room_locked(j)) {
        pthread_cond_wait(&j->carried, &j->mutex);
    }
    f.position = atomic_load_explicit(&j->ring->end, memory_order_relaxed);
    n = journal_frame_encode(&f, &j->volume, bytes);
    ring_copy(j->ring->frames, f.position, bytes, n, true);
    atomic_store_explicit(&j->ring->end, f.position + n, memory_order_release);
    return f.position;
}

uint64_t journal_append(struct journal *j, struct journal_intent *intent,
                        const struct journal_frame *frame) {
    uint64_t position;

    pthread_mutex_lock(&j->mutex);
    position = append_locked(j, frame);
    pthread_mutex_unlock(&j->mutex);
    if (frame->kind == JOURNAL_NAME || frame->kind == JOURNAL_MOVE) {
        note(j, intent, position, 0, 0, 0);
    }
    return position;
}

bool journal_try_append(struct journal *j, const struct journal_frame *frame) {
    bool room;

    pthread_mutex_lock(&j->mutex);
    room = has_room_locked(j);
    if (room) {
        (void)append_locked(j, frame); /* its position does not matter */
    }
    pthread_mutex_unlock(&j->mutex);
    return room;
}

static uint64_t mark_windows_locked(struct journal *j, uint64_t number, uint64_t off,
                                    uint64_t len) {
    uint64_t last = 0, end = off + len;

    while (off < end) {
        uint64_t window = off / WINDOW_BYTES, start = window * WINDOW_BYTES;
        uint64_t to = end < start + WINDOW_BYTES ? end : start + WINDOW_BYTES;
        unsigned from_block = (unsigned)((off - start) / BLOCK_BYTES);
        unsigned to_block = (unsigned)((to - start + BLOCK_BYTES - 1) / BLOCK_BYTES);

        if (!marks_hot(&j->marks, number, window)) {
            last = append_locked(
                j, &(struct journal_frame){
                       .kind = JOURNAL_HOT, .number = number, .off = start, .len = WINDOW_BYTES});
        }
        if (j->exact && !marks_blocks(&j->marks, number, window, from_block, to_block)) {
            last = append_locked(
                j, &(struct journal_frame){.kind = JOURNAL_DATA,
                                           .number = number,
                                           .off = start + (uint64_t)from_block * BLOCK_BYTES,
                                           .len = (uint64_t)(to_block - from_block) * BLOCK_BYTES});
        }
        off = to;
    }
    return last;
}

uint64_t journal_mark(struct journal *j, struct journal_intent *intent, uint64_t number,
                      uint64_t off, uint64_t len) {
    uint64_t last;

    pthread_mutex_lock(&j->mutex);
    last = len > 0 ? mark_windows_locked(j, number, off, len)
                   : append_locked(j, &(struct journal_frame){
                                          .kind = JOURNAL_DATA, .number = number, .off = off});
    pthread_mutex_unlock(&j->mutex);
    note(j, intent, 0, number, off, len);
    return last;
}

uint64_t journal_mark_attr(struct journal *j, struct journal_intent *intent, uint64_t number) {
    uint64_t last = 0;

    pthread_mutex_lock(&j->mutex);
    if (!marks_hot(&j->marks, number, (uint64_t)ATTR_WINDOW)) {
        last = append_locked(j, &(struct journal_frame){.kind = JOURNAL_ATTR, .number = number});
    }
    pthread_mutex_unlock(&j->mutex);
    note(j, intent, 0, number, UINT64_MAX, 0);
    return last;
}

uint64_t journal_cut(struct journal *j) {
    uint64_t position;

    pthread_mutex_lock(&j->mutex);
    marks_clear(&j->marks);
    atomic_fetch_add(&j->epoch, 1);
    position = atomic_load(&j->ring->end);
    pthread_mutex_unlock(&j->mutex);
    return position;
}

void journal_set_exact(struct journal *j, bool exact) {
    pthread_mutex_lock(&j->mutex);
    j->exact = exact;
    pthread_mutex_unlock(&j->mutex);
}

uint32_t journal_epoch(const struct journal *j) {
    return atomic_load_explicit(&j->epoch, memory_order_relaxed);
}

uint64_t journal_position(struct journal *j) {
    return atomic_load_explicit(&j->ring->end, memory_order_acquire);
}

static size_t frame_size_at(const struct ring *r, uint64_t position) {
    uint8_t b[4];

    ring_copy((uint8_t *)r->frames, position, b, sizeof(b), false);
    return (size_t)b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16;
}

static size_t take(const struct ring *r, uint64_t position, uint8_t *ret_bytes, size_t size) {
    uint64_t end = atomic_load_explicit(&r->end, memory_order_acquire);
    size_t n = 0;

    while (position + n < end) {
        size_t one = frame_size_at(r, position + n);

        if (n + one > size) {
            break;
        }
        n += one;
    }
    ring_copy((uint8_t *)r->frames, position, ret_bytes, n, false);
    return n;
}

size_t journal_take(struct journal *j, uint64_t position, uint8_t *ret_bytes, size_t size) {
    assert(size >= JOURNAL_FRAME_BYTES_MAX && position >= atomic_load(&j->ring->first));
    return take(j->ring, position, ret_bytes, size);
}

void journal_carried(struct journal *j, uint64_t position) {
    pthread_mutex_lock(&j->mutex);
    if (position > atomic_load(&j->ring->first)) {
        atomic_store(&j->ring->first, position);
        pthread_cond_broadcast(&j->carried);
    }
    pthread_mutex_unlock(&j->mutex);
}

/* --- after a crash --- */

/* The NAME or MOVE frame at `position`, which may have been carried and overwritten since. */
static bool frame_at(const struct journal_tail *t, const uint8_t *frames, uint64_t position,
                     struct journal_frame *ret_frame) {
    return position >= t->position && position < t->position + t->bytes &&
           journal_frame_decode(frames + (position - t->position),
                                t->bytes - (size_t)(position - t->position), &t->volume, position,
                                ret_frame) > 0;
}

static int read_intents(const struct ring *r, struct journal_tail *t) {
    t->under_way = calloc(INTENTS_MAX, sizeof(*t->under_way));
    if (!t->under_way) {
        return -ENOMEM;
    }
    for (unsigned k = 0; k < INTENTS_MAX; k++) {
        const struct ring_intent *i = &r->intent[k];
        struct journal_frame *f = &t->under_way[t->count];

        if (atomic_load(&i->busy) == 0) {
            continue;
        }
        if (i->number != 0) {
            bool attr = i->off == UINT64_MAX;

            *f = (struct journal_frame){.kind = attr ? JOURNAL_ATTR : JOURNAL_DATA,
                                        .number = i->number,
                                        .off = attr ? 0 : i->off,
                                        .len = i->len};
        } else if (!frame_at(t, t->frames, i->position, f)) {
            return -HFE_CORRUPT;
        }
        t->count++;
    }
    return 0;
}

static int read_ring(const struct ring *r, struct journal_tail *t) {
    struct id boot = id_of_boot();
    uint64_t first = atomic_load(&r->first), end = atomic_load(&r->end), at = 0;
    struct journal_frame f;

    if (memcmp(r->magic, ring_magic, sizeof(r->magic)) != 0 || !id_equal(&r->boot, &boot) ||
        atomic_load(&r->ready) != 1) {
        return -ENOENT;
    }
    if (end < first || end - first > RING_BYTES || r->stores > RING_STORES_MAX) {
        return -HFE_CORRUPT;
    }
    *t = (struct journal_tail){
        .volume = r->volume, .mount_count = r->mount_count, .stores = (unsigned)r->stores};
    memcpy(t->store, r->store, sizeof(t->store));
    /* From as far back as nothing was overwritten: changes under way may be older than `first`. */
    t->position = end > RING_BYTES - JOURNAL_FRAME_BYTES_MAX
                      ? end - (RING_BYTES - JOURNAL_FRAME_BYTES_MAX)
                      : 0;
    t->bytes = (size_t)(end - t->position);
    t->frames = malloc(t->bytes + 1);
    if (!t->frames) {
        return -ENOMEM;
    }
    ring_copy((uint8_t *)r->frames, t->position, t->frames, t->bytes, false);
    for (at = first - t->position; at < t->bytes;) { /* all that was not carried must be whole */
        int n =
            journal_frame_decode(t->frames + at, t->bytes - at, &t->volume, t->position + at, &f);

        if (n < 0) {
            return n;
        }
        at += (uint64_t)n;
    }
    if (read_intents(r, t) < 0) {
        return -HFE_CORRUPT;
    }
    memmove(t->frames, t->frames + (first - t->position), (size_t)(end - first));
    t->bytes = (size_t)(end - first);
    t->position = first;
    return 0;
}

int journal_read_tail(const char *ring_path, struct journal_tail *ret_tail) {
    struct journal_tail t = {.frames = NULL};
    struct ring *r;
    struct stat st;
    int err;

    if (stat(ring_path, &st) < 0) {
        return -errno;
    }
    if (st.st_size != sizeof(struct ring)) {
        return -ENOENT;
    }
    r = map_ring(ring_path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, NULL);
    if (!r) {
        return -EIO;
    }
    err = read_ring(r, &t);
    (void)munmap(r, sizeof(*r));
    if (err < 0) {
        journal_tail_release(&t);
        return err;
    }
    *ret_tail = t;
    return 0;
}

void journal_tail_release(struct journal_tail *t) {
    free(t->frames);
    free(t->under_way);
    t->frames = NULL;
    t->under_way = NULL;
}
