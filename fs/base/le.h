/* Little-endian integers as bytes, for disk formats: no padding, no alignment, no byte order. */
#pragma once

#include <stdint.h>

typedef struct {
    uint8_t b[2];
} le16;
typedef struct {
    uint8_t b[4];
} le32;
typedef struct {
    uint8_t b[8];
} le64;

static inline uint64_t le_load(const uint8_t *b, unsigned n) {
    uint64_t v = 0;

    while (n-- > 0) {
        v = v << 8 | b[n];
    }
    return v;
}

static inline void le_store(uint8_t *b, unsigned n, uint64_t v) {
    for (unsigned i = 0; i < n; i++, v >>= 8) {
        b[i] = (uint8_t)v;
    }
}

static inline uint16_t le16_get(le16 x) {
    return (uint16_t)le_load(x.b, 2);
}
static inline uint32_t le32_get(le32 x) {
    return (uint32_t)le_load(x.b, 4);
}
static inline uint64_t le64_get(le64 x) {
    return le_load(x.b, 8);
}
static inline le16 le16_of(uint16_t v) {
    le16 x;

    le_store(x.b, 2, v);
    return x;
}
static inline le32 le32_of(uint32_t v) {
    le32 x;

    le_store(x.b, 4, v);
    return x;
}
static inline le64 le64_of(uint64_t v) {
    le64 x;

    le_store(x.b, 8, v);
    return x;
}
