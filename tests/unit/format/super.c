#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "format/super.h"
#include "golden.h"

static struct super sample(void) {
    struct super s = {
        .volume_id = {{1, 2, 3}},
        .store_id = {{4}},
        .seq = 7,
        .mount_count = 12,
        .generation = {{5}},
        .generation_number = 3,
        .history = {{{6}}},
        .end_position = 99,
        .clean = true,
        .boot_id = {{7}},
        .owner = {.machine_id = {{8}}, .boot_id = {{9}}, .nonce = 10, .heartbeat = 11},
        .witness_id = {{12}},
        .created_s = 1700000000,
        .mounted_s = 1700000001,
        .volume_name = "crm",
        .member_count = 2,
        .member = {
            {.id = {{4}}, .label = "a", .state = MEMBER_ONLINE, .caps = 0xffff, .position = 5},
            {.id = {{13}},
             .label = "nas1",
             .state = MEMBER_FAULTED,
             .since_s = 1700000002,
             .left_generation = {{6}},
             .left_mount = 11}}};
    return s;
}

Test(super, decodes_what_it_encoded) {
    struct super s = sample(), back;
    uint8_t bytes[SUPER_BYTES];

    super_encode(&s, bytes);
    cr_assert_eq(super_decode(bytes, &back), 0);
    cr_assert_eq(memcmp(&s, &back, sizeof(s)), 0);
}

Test(super, who_replaces_whom_and_who_follows_is_kept) {
    struct super s = sample(), back;
    uint8_t bytes[SUPER_BYTES];

    s.member[0].replaces = 2;
    s.member[1].passive = true;
    super_encode(&s, bytes);
    cr_assert_eq(super_decode(bytes, &back), 0);
    cr_assert_eq(memcmp(&s, &back, sizeof(s)), 0);
    s.member[0].replaces = 1; /* itself */
    super_encode(&s, bytes);
    cr_assert_eq(super_decode(bytes, &back), -HFE_CORRUPT);
    s.member[0].replaces = 3; /* nobody */
    super_encode(&s, bytes);
    cr_assert_eq(super_decode(bytes, &back), -HFE_CORRUPT);
}

Test(super, a_removed_member_is_the_last_place_to_be_taken) {
    struct super s = sample();
    struct super_member m = {.id = {{77}}, .label = "new", .state = MEMBER_STALE};

    s.member[1].state = MEMBER_REMOVED;
    for (unsigned slot = 2; slot < SUPER_MEMBERS_MAX; slot++) {
        cr_assert_eq(super_enter(&s, &m), &s.member[slot]);
    }
    cr_assert_eq(super_enter(&s, &m), &s.member[1]);
    cr_assert_null(super_enter(&s, &m));
    s.store_id = m.id;
    cr_assert(super_is_newcomer(&s));
    s.member[1].left_mount = 1;
    cr_assert(!super_is_newcomer(&s));
}

Test(super, bytes_are_those_of_the_golden_file) {
    struct super s = sample();
    uint8_t bytes[SUPER_BYTES];

    super_encode(&s, bytes);
    golden_compare("super.bin", bytes, sizeof(bytes));
}

Test(super, every_flipped_bit_is_noticed) {
    struct super s = sample(), back;
    uint8_t bytes[SUPER_BYTES];

    super_encode(&s, bytes);
    for (size_t i = 0; i < SUPER_BYTES; i++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1 << bit);
            cr_assert_lt(super_decode(bytes, &back), 0, "byte %zu bit %d", i, bit);
            bytes[i] ^= (uint8_t)(1 << bit);
        }
    }
}

Test(super, a_block_that_was_cut_anywhere_is_refused) {
    struct super s = sample(), back;
    uint8_t bytes[SUPER_BYTES], cut[SUPER_BYTES];

    super_encode(&s, bytes);
    for (size_t n = 0; n < SUPER_BYTES; n++) {
        memset(cut, 0, sizeof(cut));
        memcpy(cut, bytes, n);
        if (memcmp(cut, bytes, sizeof(cut)) != 0) {
            cr_assert_lt(super_decode(cut, &back), 0, "cut at %zu", n);
        }
    }
}

Test(super, a_new_generation_keeps_the_old_one_in_its_history) {
    struct super s = sample();
    struct id old = s.generation, older = s.history[0];

    super_new_generation(&s);
    cr_assert(!id_equal(&s.generation, &old));
    cr_assert(id_equal(&s.history[0], &old));
    cr_assert(id_equal(&s.history[1], &older));
    cr_assert_eq(s.generation_number, 4);
}

Test(super, what_a_member_had_when_it_left_stays_known) {
    struct super s = sample();
    struct id old = s.generation;

    s.member[1].left_generation = old;
    for (int i = 0; i < 2 * SUPER_HISTORY; i++) {
        super_new_generation(&s);
    }
    cr_assert(super_knows(&s, &old));
    s.member[1].left_generation = (struct id){{0}};
    cr_assert(!super_knows(&s, &old));
}

Test(super, no_generation_is_known_because_places_are_unused) {
    struct super s = sample();

    cr_assert(super_knows(&s, &s.generation));
    cr_assert_not(super_knows(&s, &(struct id){{0}}));
}

Test(super, names_follow_the_rule) {
    cr_assert(super_name_ok("crm"));
    cr_assert(super_name_ok("A1_.-"));
    cr_assert(!super_name_ok(""));
    cr_assert(!super_name_ok("1a"));
    cr_assert(!super_name_ok("a/b"));
    cr_assert(!super_name_ok("a b"));
    cr_assert(super_name_ok("a23456789012345678901234567890123456789012345678901234567890123"));
    cr_assert(!super_name_ok("a234567890123456789012345678901234567890123456789012345678901234"));
}
