#include "journal/marks.h"

#include <errno.h>
#include <stdlib.h>

enum { BUCKETS_MIN = 256 };

struct mark {
    struct mark *next;
    uint64_t number, window;
    bool hot;
    uint64_t blocks[MARK_BLOCKS / 64];
};

int marks_init(struct marks *m) {
    *m = (struct marks){.buckets = BUCKETS_MIN};
    m->bucket = calloc(m->buckets, sizeof(*m->bucket));
    return m->bucket ? 0 : -ENOMEM;
}

void marks_clear(struct marks *m) {
    for (uint64_t i = 0; i < m->buckets; i++) {
        for (struct mark *k = m->bucket[i], *next; k; k = next) {
            next = k->next;
            free(k);
        }
        m->bucket[i] = NULL;
    }
    m->count = 0;
    if (m->buckets > BUCKETS_MIN) { /* what a busy epoch needed, the next one may not */
        struct mark **small = calloc(BUCKETS_MIN, sizeof(*small));

        if (small) {
            free(m->bucket);
            m->bucket = small;
            m->buckets = BUCKETS_MIN;
        }
    }
}

void marks_release(struct marks *m) {
    if (m->bucket) {
        marks_clear(m);
        free(m->bucket);
        m->bucket = NULL;
    }
}

static uint64_t hash(uint64_t number, uint64_t window) {
    uint64_t h = (number * UINT64_C(0x9E3779B97F4A7C15)) ^ (window * UINT64_C(0xC2B2AE3D27D4EB4F));

    return h ^ h >> 29;
}

static void grow(struct marks *m) {
    uint64_t buckets = m->buckets * 4;
    struct mark **bigger = calloc(buckets, sizeof(*bigger));

    if (!bigger) {
        return; /* longer chains will do */
    }
    for (uint64_t i = 0; i < m->buckets; i++) {
        for (struct mark *k = m->bucket[i], *next; k; k = next) {
            struct mark **b = &bigger[hash(k->number, k->window) & (buckets - 1)];

            next = k->next;
            k->next = *b;
            *b = k;
        }
    }
    free(m->bucket);
    m->bucket = bigger;
    m->buckets = buckets;
}

/* NULL: no memory; then the mark is not remembered, and told once more. */
static struct mark *mark_of(struct marks *m, uint64_t number, uint64_t window) {
    struct mark *k = m->bucket[hash(number, window) & (m->buckets - 1)], **b;

    while (k && !(k->number == number && k->window == window)) {
        k = k->next;
    }
    if (k) {
        return k;
    }
    k = calloc(1, sizeof(*k));
    if (!k) {
        return NULL;
    }
    if (m->count >= m->buckets) {
        grow(m);
    }
    k->number = number;
    k->window = window;
    b = &m->bucket[hash(number, window) & (m->buckets - 1)];
    k->next = *b;
    *b = k;
    m->count++;
    return k;
}

bool marks_hot(struct marks *m, uint64_t number, uint64_t window) {
    struct mark *k = mark_of(m, number, window);
    bool was = k && k->hot;

    if (k) {
        k->hot = true;
    }
    return was;
}

bool marks_blocks(struct marks *m, uint64_t number, uint64_t window, unsigned from, unsigned to) {
    struct mark *k = mark_of(m, number, window);
    bool all = k != NULL;

    for (unsigned i = from; k && i < to; i++) {
        uint64_t bit = UINT64_C(1) << i % 64;

        all = all && (k->blocks[i / 64] & bit);
        k->blocks[i / 64] |= bit;
    }
    return all;
}
