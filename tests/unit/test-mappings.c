/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Counting the host mappings of a view: by hand, and against the kernel's own count. */

#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/mappings.h"

#define NONE 0u
#define RO HV_MAP_GPA_READABLE
#define RW (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define ALL HV_MAP_GPA_ALL
#define NO_LIMIT SIZE_MAX

/* The second one ends in a chunk of the map that is not full. */
static const struct protect_region regions[] = { { 0x100, 0x800 }, { 0x10000, 0x700 } };

static int set_up(void **state) {
        return mappings_new((struct mappings **) state, regions, ARRAY_SIZE(regions));
}

static int tear_down(void **state) {
        assert_null(mappings_free(*state));
        return 0;
}

static int set(struct mappings *m, uint64_t gpn, uint64_t count, uint32_t access, size_t max) {
        const struct plane_range range = { .gpn = gpn, .count = count, .access = access };
        struct plane_range *undo = NULL;
        size_t n = 0;
        int r = mappings_set(m, &range, 1, max, &undo, &n);

        free(undo);
        return r;
}

static void test_runs(void **state) {
        static const struct {
                uint64_t gpn, count;
                uint32_t access;
                size_t mappings;
        } steps[] = {
                { 0x200, 1, RO, 4 },       { 0x201, 1, RO, 4 },       { 0x203, 1, RO, 6 },
                { 0x202, 1, NONE, 6 },     { 0x202, 1, RO, 4 },       { 0x200, 4, ALL, 2 },
                { 0x100, 1, NONE, 3 },     { 0x8ff, 1, NONE, 4 },     { 0x100, 0x800, RO, 2 },
                { 0x100, 0x400, RW, 3 },   { 0x100, 0x800, ALL, 2 },  { 0x106ff, 1, RO, 3 },
                { 0x10000, 0x700, RO, 2 }, { 0x10000, 0x700, RW, 2 },
        };
        struct mappings *m = *state;

        assert_int_equal(mappings_count(m), 2);
        for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
                assert_int_equal(set(m, steps[i].gpn, steps[i].count, steps[i].access, NO_LIMIT),
                                 0);
                if (mappings_count(m) != steps[i].mappings)
                        fail_msg("step %zu: %zu", i, mappings_count(m));
        }
}

static void test_refused(void **state) {
        static const struct plane_range bad[] = {
                { 0xff, 2, RO, 0 },  { 0x8ff, 2, RO, 0 },          { 0x900, 1, RO, 0 },
                { 0x200, 0, RO, 0 }, { 0x200, UINT64_MAX, RO, 0 }, { UINT64_MAX, 1, RO, 0 },
        };
        struct plane_range list[20], *undo = NULL;
        struct mappings *m = *state;
        size_t n = 0, before;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(mappings_set(m, &bad[i], 1, NO_LIMIT, &undo, &n), -EINVAL);
                assert_int_equal(
                        mappings_overlay(m, bad[i].count == 1 ? bad[i].gpn : 0, true, RW, NO_LIMIT),
                        -EINVAL);
        }
        for (unsigned i = 0; i < ARRAY_SIZE(list); i++)
                list[i] = (struct plane_range){ .gpn = 0x300 + 2 * i, .count = 1, .access = RO };
        assert_int_equal(mappings_set(m, list, 5, NO_LIMIT, &undo, &n), 0);
        free(undo);
        before = mappings_count(m);
        assert_int_equal(before, 12);
        /* One too many: the first five, which were there, and all the others are as they were. */
        assert_int_equal(mappings_set(m, list, 20, before + 29, &undo, &n), -ENOMEM);
        assert_int_equal(mappings_count(m), before);
        assert_int_equal(mappings_set(m, list, 20, before + 30, &undo, &n), 0);
        assert_int_equal(mappings_count(m), before + 30);
        mappings_undo(m, undo, n);
        free(undo);
        assert_int_equal(mappings_count(m), before);
        /* What needs none always goes. */
        assert_int_equal(set(m, 0x300, 0x10, ALL, before), 0);
        assert_int_equal(mappings_count(m), 2);
}

static void test_overlays(void **state) {
        struct mappings *m = *state;

        assert_int_equal(mappings_overlay(m, 0x200, true, RW, NO_LIMIT), 0);
        assert_int_equal(mappings_count(m), 4);
        assert_int_equal(mappings_overlay(m, 0x201, true, RO, NO_LIMIT), 0);
        assert_int_equal(mappings_count(m), 5); /* two pages of another file */
        assert_int_equal(mappings_overlay(m, 0x203, true, RW, 6), -ENOMEM);
        assert_int_equal(mappings_count(m), 5);
        /* Rights of what lies beneath do not matter until it comes back. */
        assert_int_equal(set(m, 0x1f0, 0x20, RO, NO_LIMIT), 0);
        assert_int_equal(mappings_count(m), 7);
        assert_int_equal(mappings_overlay(m, 0x200, false, RO, NO_LIMIT), 0);
        assert_int_equal(mappings_count(m), 6);
        assert_int_equal(mappings_overlay(m, 0x201, false, NONE, NO_LIMIT), 0);
        assert_int_equal(mappings_count(m), 6);
        assert_int_equal(set(m, 0x1f0, 0x20, ALL, NO_LIMIT), 0);
        assert_int_equal(mappings_count(m), 2);
}

/* ---- Against the kernel ---- */

#define PAGES 1600u

static size_t lines_of_maps(const void *from, size_t size) {
        FILE *f = fopen("/proc/self/maps", "re");
        char line[512];
        size_t n = 0;

        assert_non_null(f);
        while (fgets(line, sizeof(line), f)) {
                unsigned long start = strtoul(line, NULL, 16);

                n += start >= (unsigned long) from && start < (unsigned long) from + size;
        }
        (void) fclose(f);
        return n;
}

static uint64_t next(uint64_t *s) {
        *s ^= *s << 13;
        *s ^= *s >> 7;
        return *s ^= *s << 17;
}

static void test_kernel(void **state) {
        const struct protect_region region = { 0x40, PAGES };
        static const uint32_t rights[] = { NONE, RO, ALL };
        static const int prot[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
        int fd = memfd_create("view", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
        uint64_t seed = 88172645463325252ull;
        struct mappings *m = NULL;
        uint8_t *view;

        assert_true(fd >= 0 && other >= 0);
        assert_int_equal(ftruncate(fd, PAGES * 4096l), 0);
        assert_int_equal(ftruncate(other, 4096l), 0);
        view = mmap(NULL, PAGES * 4096ul, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_ptr_not_equal(view, MAP_FAILED);
        assert_int_equal(mappings_new(&m, &region, 1), 0);
        for (unsigned round = 0; round < 3000; round++) {
                uint64_t first = next(&seed) % PAGES, count = next(&seed) % 20 + 1;
                unsigned how = (unsigned) (next(&seed) % 3);

                if (round % 500 == 499) {
                        first = 0;
                        count = PAGES;
                }
                if (round % 7 == 0 && round % 500 != 499) {
                        bool on = round % 2;

                        assert_int_equal(mappings_overlay(m, 0x40 + first, on, ALL, NO_LIMIT), 0);
                        assert_ptr_not_equal(mmap(view + first * 4096, 4096, PROT_READ | PROT_WRITE,
                                                  MAP_SHARED | MAP_FIXED, on ? other : fd,
                                                  on ? 0 : (off_t) (first * 4096)),
                                             MAP_FAILED);
                } else {
                        count = MIN(count, PAGES - first);
                        assert_int_equal(set(m, 0x40 + first, count, rights[how], NO_LIMIT), 0);
                        /* Overlay pages keep theirs in the engine's use: it leaves them out. */
                        for (uint64_t i = 0; i < count; i++)
                                assert_int_equal(
                                        mprotect(view + (first + i) * 4096, 4096, prot[how]), 0);
                }
                if (round % 10 == 0 && lines_of_maps(view, PAGES * 4096ul) > mappings_count(m))
                        fail_msg("round %u: %zu counted, %zu in the kernel", round,
                                 mappings_count(m), lines_of_maps(view, PAGES * 4096ul));
        }
        (void) munmap(view, PAGES * 4096ul);
        (void) close(fd);
        (void) close(other);
        (void) mappings_free(m);
}

/* Without overlays the two counts are one. */
static void test_kernel_exact(void **state) {
        const struct protect_region region = { 0, PAGES };
        struct mappings *m = NULL;
        int fd = memfd_create("view", MFD_CLOEXEC);
        uint8_t *view;

        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, PAGES * 4096l), 0);
        view = mmap(NULL, PAGES * 4096ul, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        assert_ptr_not_equal(view, MAP_FAILED);
        assert_int_equal(mappings_new(&m, &region, 1), 0);
        for (unsigned i = 0; i < PAGES; i += 2) {
                assert_int_equal(set(m, i, 1, RO, NO_LIMIT), 0);
                assert_int_equal(mprotect(view + i * 4096ul, 4096, PROT_READ), 0);
        }
        assert_int_equal(mappings_count(m), PAGES);
        assert_int_equal(lines_of_maps(view, PAGES * 4096ul), PAGES);
        (void) munmap(view, PAGES * 4096ul);
        (void) close(fd);
        (void) mappings_free(m);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_runs, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_overlays, set_up, tear_down),
                cmocka_unit_test(test_kernel),
                cmocka_unit_test(test_kernel_exact),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("mappings", tests, NULL, NULL);
}
