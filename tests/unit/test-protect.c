/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The map of VTL0's rights: masks, the default, runs, and what it costs. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/protect.h"

#define R HV_MAP_GPA_READABLE
#define W HV_MAP_GPA_WRITABLE
#define KX HV_MAP_GPA_KERNEL_EXECUTABLE
#define UX HV_MAP_GPA_USER_EXECUTABLE
#define ALL HV_MAP_GPA_ALL
#define MIB (1ull << 20)

/* 3 MiB at 0, then a gap, then 4 MiB that start in the middle of a large page */
static const struct protect_region regions[] = {
        { .gpn = 0x1100, .count = 0x400 },
        { .gpn = 0, .count = 0x300 },
};

static struct protect_map *new_map(void) {
        struct protect_map *map = NULL;

        assert_int_equal(protect_map_new(&map, regions, ARRAY_SIZE(regions)), 0);
        assert_non_null(map);
        return map;
}

static void test_regions(void **state) {
        _cleanup_(protect_map_freep) struct protect_map *map = new_map();
        static const struct protect_region bad[] = {
                { 0x2000, 0 },           { 0x2ff, 1 },
                { 0x300, 0xe01 },        { 0x10ff, 2 },
                { 0x14ff, 0x10000 },     { 0, 0x10000 },
                { UINT64_MAX, 1 },       { 1ull << 39, UINT64_MAX },
                { (1ull << 40) - 1, 2 },
        };

        assert_true(protect_is_ram(map, 0));
        assert_true(protect_is_ram(map, 0x2ff));
        assert_false(protect_is_ram(map, 0x300));
        assert_false(protect_is_ram(map, 0x10ff));
        assert_true(protect_is_ram(map, 0x1100));
        assert_true(protect_is_ram(map, 0x14ff));
        assert_false(protect_is_ram(map, 0x1500));
        assert_false(protect_is_ram(map, UINT64_MAX));

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(protect_add(map, &bad[i]), -EINVAL);
        assert_int_equal(protect_add(map, &(struct protect_region){ 0x300, 0xe00 }), 0);
        assert_true(protect_is_ram(map, 0x10ff));
        assert_int_equal(protect_add(map, &(struct protect_region){ (1ull << 40) - 1, 1 }), 0);
        assert_true(protect_is_ram(map, 0x1100));
}

static void test_masks(void **state) {
        _cleanup_(protect_map_freep) struct protect_map *map = new_map();
        unsigned old = 99;

        assert_int_equal(protect_get(map, 5), ALL);
        assert_int_equal(protect_get(map, 0x800), ALL);
        assert_int_equal(protect_set(map, 0x800, R, &old), -ENOENT);
        assert_int_equal(protect_set(map, 5, W, &old), -EINVAL);
        assert_int_equal(protect_set(map, 5, 0x1f, &old), -EINVAL);
        assert_int_equal(old, 99);
        assert_int_equal(protect_get(map, 5), ALL);
        assert_int_equal(protect_restricted(map), 0);

        protect_enable(map, true);
        assert_int_equal(protect_set(map, 5, R, &old), 0);
        assert_int_equal(old, ALL);
        assert_int_equal(protect_set(map, 5, 0, &old), 0);
        assert_int_equal(old, R);
        assert_int_equal(protect_get(map, 5), 0);
        assert_int_equal(protect_get(map, 4), ALL);
        assert_int_equal(protect_get(map, 6), ALL);
        assert_int_equal(protect_restricted(map), 1);
        assert_int_equal(protect_set(map, 0x1100, R | KX | UX, NULL), 0);
        assert_int_equal(protect_set(map, 0x14ff, R | UX, NULL), 0);
        assert_int_equal(protect_get(map, 0x1100), R | KX | UX);
        assert_int_equal(protect_get(map, 0x14ff), R | UX);
        assert_int_equal(protect_restricted(map), 3);
        assert_int_equal(protect_set(map, 5, ALL, &old), 0);
        assert_int_equal(old, 0);
        assert_int_equal(protect_restricted(map), 2);
}

static void test_default(void **state) {
        _cleanup_(protect_map_freep) struct protect_map *map = new_map();
        unsigned old;

        /* The default takes effect when protection is enabled, and never on an explicit mask. */
        protect_set_default(map, R | KX | UX);
        assert_int_equal(protect_get(map, 7), ALL);
        assert_int_equal(protect_restricted(map), 0);
        protect_enable(map, true);
        assert_true(protect_enabled(map));
        assert_int_equal(protect_get(map, 7), R | KX | UX);
        assert_int_equal(protect_get(map, 0x800), ALL);
        assert_int_equal(protect_restricted(map), 0x700);
        assert_int_equal(protect_set(map, 7, ALL, &old), 0);
        assert_int_equal(old, R | KX | UX);
        assert_int_equal(protect_restricted(map), 0x6ff);
        protect_set_default(map, ALL);
        assert_int_equal(protect_get_default(map), ALL);
        assert_int_equal(protect_restricted(map), 0);
        protect_set_default(map, R);
        assert_int_equal(protect_get(map, 7), ALL);
        assert_int_equal(protect_get(map, 8), R);

        /* RAM that comes later has the default. */
        assert_int_equal(protect_add(map, &(struct protect_region){ 0x2000, 0x100 }), 0);
        assert_int_equal(protect_get(map, 0x2042), R);
        assert_int_equal(protect_restricted(map), 0x7ff);

        protect_reset(map);
        assert_false(protect_enabled(map));
        assert_int_equal(protect_get_default(map), ALL);
        assert_int_equal(protect_get(map, 8), ALL);
        assert_int_equal(protect_restricted(map), 0);
        protect_enable(map, true);
        protect_set_default(map, R);
        assert_int_equal(protect_get(map, 7), R); /* the explicit mask is gone */
}

struct runs {
        char text[512];
        unsigned stop_after;
};

static int add_run(void *userdata, uint64_t gpn, uint64_t count, unsigned rw) {
        struct runs *runs = userdata;
        size_t at = strlen(runs->text);

        snprintf(runs->text + at, sizeof(runs->text) - at, "%s%llx+%llx=%x", at ? " " : "",
                 (unsigned long long) gpn, (unsigned long long) count, rw);
        return runs->stop_after && !--runs->stop_after ? 7 : 0;
}

static void expect_runs(struct protect_map *map, uint64_t gpn, uint64_t count, const char *want) {
        struct runs runs = { 0 };

        assert_int_equal(protect_runs(map, gpn, count, R | W, add_run, &runs), 0);
        assert_string_equal(runs.text, want);
}

static void test_runs(void **state) {
        _cleanup_(protect_map_freep) struct protect_map *map = new_map();
        struct runs stop = { .stop_after = 2 };

        protect_enable(map, true);
        expect_runs(map, 0, UINT64_MAX, "0+300=3 1100+400=3");
        expect_runs(map, 0x2f0, 0x20, "2f0+10=3");
        expect_runs(map, 0x300, 0x100, "");
        expect_runs(map, 0, 0, "");

        for (unsigned i = 0x1f0; i < 0x210; i++) /* over the end of a large page */
                assert_int_equal(protect_set(map, i, R, NULL), 0);
        assert_int_equal(protect_set(map, 0x205, R | KX | UX, NULL), 0); /* the same R and W */
        assert_int_equal(protect_set(map, 0x1100, 0, NULL), 0);
        expect_runs(map, 0, 0x2000, "0+1f0=3 1f0+20=1 210+f0=3 1100+1=0 1101+3ff=3");
        expect_runs(map, 0x1f8, 0x10, "1f8+10=1");
        assert_int_equal(protect_runs(map, 0, 0x2000, R | W, add_run, &stop), 7);
        assert_string_equal(stop.text, "0+1f0=3 1f0+20=1");

        protect_set_default(map, R);
        expect_runs(map, 0, 0x2000, "0+300=1 1100+1=0 1101+3ff=1");
        protect_set_default(map, ALL);

        /* From within a large page of equal pages into another */
        for (unsigned i = 0; i < 0x200; i++)
                assert_int_equal(protect_set(map, i, R, NULL), 0);
        for (unsigned i = 0x200; i < 0x300; i++)
                assert_int_equal(protect_set(map, i, 0, NULL), 0);
        expect_runs(map, 0x180, 0x100, "180+80=1 200+80=0");
        expect_runs(map, 0x180, 0x20, "180+20=1");
        protect_set_default(map, R);

        /* Regions that touch make one run. */
        assert_int_equal(protect_add(map, &(struct protect_region){ 0x300, 0x10 }), 0);
        expect_runs(map, 0x200, 0x1000, "200+100=0 300+10=1 1100+1=0 1101+ff=1");
        for (unsigned i = 0x200; i < 0x300; i++)
                assert_int_equal(protect_set(map, i, R, NULL), 0);
        expect_runs(map, 0, 0x1000, "0+310=1");
}

/* Against an array, with a fixed sequence of random changes. */
static void test_against_array(void **state) {
        static const unsigned masks[] = { 0, R, R | W, R | KX | UX, ALL, R | UX, R | W | UX };
        _cleanup_(protect_map_freep) struct protect_map *map = new_map();
        uint8_t model[0x1600];
        uint32_t seed = 42;
        uint64_t restricted = 0;

        protect_enable(map, true);
        memset(model, ALL, sizeof(model));
        for (unsigned n = 0; n < 50000; n++) {
                unsigned gpn, mask, old = 0, count = 1;

                seed = seed * 1103515245 + 12345;
                gpn = (seed >> 8) % 0x1500;
                mask = masks[(seed >> 4) % ARRAY_SIZE(masks)];
                if (n % 100 == 0)
                        count = 600; /* makes whole chunks uniform again */
                for (; count && gpn < 0x1500; count--, gpn++) {
                        bool ram = gpn < 0x300 || gpn >= 0x1100;

                        assert_int_equal(protect_set(map, gpn, mask, &old), ram ? 0 : -ENOENT);
                        if (!ram)
                                continue;
                        assert_int_equal(old, model[gpn]);
                        restricted += (mask != ALL) - (model[gpn] != ALL);
                        model[gpn] = mask;
                }
                assert_int_equal(protect_restricted(map), restricted);
        }
        for (unsigned gpn = 0; gpn < sizeof(model); gpn++)
                assert_int_equal(protect_get(map, gpn), model[gpn]);

        for (unsigned gpn = 0; gpn < 0x1500; gpn++)
                (void) protect_set(map, gpn, ALL, NULL);
        assert_int_equal(protect_restricted(map), 0);
}

static void test_memory(void **state) {
        const struct protect_region tib = { 0, 1ull << 28 };
        struct protect_map *map = NULL;
        size_t empty;

        assert_int_equal(protect_map_new(&map, &tib, 1), 0);
        protect_enable(map, true);
        empty = protect_memory_used(map);
        assert_in_range(empty, MIB, 8 * MIB);

        /* 8 GiB in which every other page is read-only */
        for (uint64_t gpn = 0x40000; gpn < 0x40000 + (8ull << 18); gpn += 2)
                assert_int_equal(protect_set(map, gpn, R, NULL), 0);
        assert_int_equal(protect_restricted(map), 1u << 20);
        assert_in_range(protect_memory_used(map), empty + MIB, 64 * MIB);

        /* Uniform again: the memory comes back, with explicit masks as well. */
        for (uint64_t gpn = 0x40000; gpn < 0x40000 + (8ull << 18); gpn++)
                assert_int_equal(protect_set(map, gpn, R, NULL), 0);
        assert_int_equal(protect_memory_used(map), empty);
        assert_int_equal(protect_restricted(map), 2u << 20);
        assert_int_equal(protect_set(map, 0x40000, ALL, NULL), 0);
        assert_true(protect_memory_used(map) > empty);
        protect_reset(map);
        assert_int_equal(protect_memory_used(map), empty);
        assert_null(protect_map_free(map));
        assert_null(protect_map_free(NULL));
}

static void test_next_ram(void **state) {
        const struct protect_region ram[] = { { 0x100, 0x10 }, { 0x10, 0x20 } };
        _cleanup_(protect_map_freep) struct protect_map *map = NULL;

        assert_int_equal(protect_map_new(&map, ram, ARRAY_SIZE(ram)), 0);
        assert_int_equal(protect_next_ram(map, 0), 0x10);
        assert_int_equal(protect_next_ram(map, 0x10), 0x10);
        assert_int_equal(protect_next_ram(map, 0x2f), 0x2f);
        assert_int_equal(protect_next_ram(map, 0x30), 0x100);
        assert_int_equal(protect_next_ram(map, 0x10f), 0x10f);
        assert_int_equal(protect_next_ram(map, 0x110), UINT64_MAX);
        assert_int_equal(protect_next_ram(map, UINT64_MAX), UINT64_MAX);
}

/* vsm.md 8.2: which masks a guest may ask for, with and without MBEC */
static void test_mask_status(void **state) {
        for (unsigned flags = 0; flags < 0x200; flags++)
                for (unsigned mbec = 0; mbec < 2; mbec++) {
                        bool ok = flags == 0 || flags == R || flags == (R | W) ||
                                  flags == (R | KX | UX) || flags == ALL;

                        if (mbec && (flags == (R | UX) || flags == (R | W | UX)))
                                ok = true;
                        assert_int_equal(protect_mask_status(flags, mbec),
                                         ok ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_REGISTER_VALUE);
                }
        assert_int_equal(protect_mask_status(0x80000001, true), HV_STATUS_INVALID_REGISTER_VALUE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_regions),       cmocka_unit_test(test_masks),
                cmocka_unit_test(test_default),       cmocka_unit_test(test_runs),
                cmocka_unit_test(test_against_array), cmocka_unit_test(test_memory),
                cmocka_unit_test(test_mask_status),   cmocka_unit_test(test_next_ram),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("protect", tests, NULL, NULL);
}
