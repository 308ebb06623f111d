/* 128-bit random ids of volumes, stores, boots and machines. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/cleanup.h"

struct id {
    uint8_t b[16];
};

enum {
    ID_TEXT_BYTES = 33 /* 32 hex digits and a NUL */
};

/* A new random id; never zero. Aborts if the kernel has no randomness to give. */
struct id id_new(void);
bool id_is_zero(const struct id *id);
bool id_equal(const struct id *a, const struct id *b);
void id_text(const struct id *id, char ret_text[ID_TEXT_BYTES]);
/* 32 hex digits, dashes ignored (so /etc/machine-id and boot_id can be read). -EINVAL otherwise. */
int id_parse(const char *text, struct id *ret_id) must_check;
/* The id of this machine and of this boot; zero where the system has none. */
struct id id_of_machine(void);
struct id id_of_boot(void);
