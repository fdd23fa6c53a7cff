/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* CPUID of a guest with trust levels: Hyper-V's leaves (vsm.md 1.1 to 1.5), and what is hidden. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/cpuid.h"
#include "vtl/hvdef.h"

static struct kvm_cpuid2 *make_table(const struct kvm_cpuid_entry2 *entries, uint32_t n) {
        struct kvm_cpuid2 *t = calloc(1, sizeof(*t) + n * sizeof(*entries));

        t->nent = n;
        memcpy(t->entries, entries, n * sizeof(*entries));
        return t;
}

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid2 *t, uint32_t function,
                                           uint32_t index) {
        const struct kvm_cpuid_entry2 *found = NULL;

        for (uint32_t i = 0; i < t->nent; i++)
                if (t->entries[i].function == function && t->entries[i].index == index) {
                        assert_null(found); /* once only */
                        found = &t->entries[i];
                }
        return found;
}

static void test_leaves(void **state) {
        static const struct {
                uint32_t leaf, regs[4];
        } rows[] = {
                { 0x40000000, { 0x4000000a, 0x7263694d, 0x666f736f, 0x76482074 } },
                { 0x40000001, { 0x31237648, 0, 0, 0 } },
                { 0x40000004, { 0xe24, 0xffffffff, 46, 0 } },
                { 0x40000005, { 5, 5, 0, 0 } },
                { 0x40000006, { 0xa, 0, 0, 0 } },
                { 0x40000007, { 0, 0, 0, 0 } },
                { 0x40000008, { 0, 0, 0, 0 } },
                { 0x40000009, { 0, 0, 0, 0 } },
                { 0x4000000a, { 0, 0, 0, 0 } },
                { 0x4000000b, { 0, 0, 0, 0 } },
                { 0x4000000c, { 0, 0, 0, 0 } },
                { 0x40000100, { 0, 0, 0, 0 } },
                { 0, { 0, 0, 0, 0 } },
        };
        uint32_t regs[4];

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                memset(regs, 0xee, sizeof(regs));
                vtl_cpuid_leaf(rows[i].leaf, 5, 46, regs);
                for (unsigned r = 0; r < 4; r++)
                        if (regs[r] != rows[i].regs[r])
                                fail_msg("leaf %#x, register %u: %#x", rows[i].leaf, r, regs[r]);
        }
}

/* What is served is offered, and what is offered is served (vsm.md 1.2, 1.3). */
static void test_features(void **state) {
        static const struct {
                unsigned reg, bit;
                bool set;
        } rows[] = {
                { 0, 0, false },  /* VP runtime */
                { 0, 1, true },   /* reference counter */
                { 0, 2, true },   /* SynIC */
                { 0, 3, true },   /* synthetic timers */
                { 0, 4, true },   /* EOI, ICR, TPR, assist page */
                { 0, 5, true },   /* OS ID, hypercall page */
                { 0, 6, true },   /* VP index */
                { 0, 7, true },   /* reset */
                { 0, 9, true },   /* reference TSC page */
                { 0, 10, true },  /* guest idle */
                { 0, 11, true },  /* frequencies */
                { 0, 13, false }, /* reenlightenment */
                { 1, 4, true },   /* post messages */
                { 1, 5, true },   /* signal events */
                { 1, 12, false }, /* the root partition's mark */
                { 1, 15, true },  /* extended ranges of flushes */
                { 1, 16, true },  /* AccessVsm */
                { 1, 17, true },  /* AccessVpRegisters */
                { 1, 19, true },  /* fast output */
                { 1, 20, true },  /* extended hypercalls */
                { 1, 21, true },  /* start of VPs */
                { 3, 4, true },   /* XMM input */
                { 3, 8, true },   /* frequency MSRs */
                { 3, 15, true },  /* XMM output */
                { 3, 19, true },  /* direct synthetic timers */
                { 3, 20, true },  /* PAT in the VP context */
                { 3, 10, true },  /* crash MSRs */
                { 3, 17, true },  /* SINT polling */
                { 3, 14, true },  /* extended ranges of flushes */
                { 3, 28, true },  /* flushes of a lower level */
        };
        uint32_t regs[4];

        vtl_cpuid_leaf(HV_CPUID_FEATURES, 1, 40, regs);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if ((regs[rows[i].reg] >> rows[i].bit & 1) != rows[i].set)
                        fail_msg("register %u, bit %u", rows[i].reg, rows[i].bit);
        assert_int_equal((uint64_t) regs[1] << 32 | regs[0], VTL_PRIVILEGES);
        assert_int_equal(regs[3], VTL_FEATURES);
}

static void test_adjust(void **state) {
        static const struct kvm_cpuid_entry2 in[] = {
                { .function = 0, .eax = 0x1f },
                { .function = 1, .ecx = 0x5, .edx = 0x11 },
                { .function = 0x80000008, .eax = 0x3028 },
                { .function = 0x40000000, .eax = 0x40000001, .ebx = 0x4b4d564b },
                { .function = 0x40000001, .eax = 0x1234 },
                { .function = 0x40000100, .eax = 0x40000101, .ebx = 0x4b4d564b },
                { .function = 0x40000101, .eax = 0x1234 },
                { .function = 0x4fffffff, .eax = 1 },
                { .function = 0x50000000, .eax = 7 },
        };
        _cleanup_free_ struct kvm_cpuid2 *t = make_table(in, ARRAY_SIZE(in)), *out = NULL;
        uint32_t regs[4];

        assert_int_equal(vtl_cpuid_adjust(t, 3, &out), 0);
        /* KVM's own are gone, Hyper-V's are there instead, once. */
        assert_int_equal(out->nent, 4 + 11);
        for (uint32_t leaf = HV_CPUID_VENDOR; leaf <= HV_CPUID_MAX; leaf++) {
                const struct kvm_cpuid_entry2 *e = find(out, leaf, 0);

                vtl_cpuid_leaf(leaf, 3, 40, regs);
                assert_non_null(e);
                assert_int_equal(e->eax, regs[0]);
                assert_int_equal(e->ebx, regs[1]);
                assert_int_equal(e->ecx, regs[2]);
                assert_int_equal(e->edx, regs[3]);
        }
        assert_null(find(out, 0x40000100, 0));
        assert_null(find(out, 0x40000101, 0));
        assert_null(find(out, 0x4fffffff, 0));
        assert_int_equal(find(out, 0x50000000, 0)->eax, 7);
        assert_int_equal(find(out, 0, 0)->eax, 0x1f);
        assert_int_equal(find(out, 1, 0)->ecx, 0x80000005); /* a hypervisor is present */
        assert_int_equal(find(out, 1, 0)->edx, 0x11);
        assert_int_equal(find(out, 0x40000004, 0)->ecx, 40); /* of 0x80000008 */
}

/* State that planes do not carry: CET, AMX, XFD */
static void test_hidden(void **state) {
        static const uint32_t ones = UINT32_MAX;
        static const struct {
                uint32_t function, index;
                uint32_t want[4];
        } rows[] = {
                { 7,
                  0,
                  { ones, ones, ones & ~(1u << 7),
                    ones & ~(1u << 20 | 1u << 22 | 1u << 24 | 1u << 25) } },
                { 7, 1, { ones & ~(1u << 21), ones, ones, ones } },
                { 0xd, 0, { ones & ~(3u << 17), ones, ones, ones } },
                { 0xd, 1, { ones & ~(1u << 4), ones, ones & ~(3u << 11), ones } },
                { 0xd, 2, { ones, ones, ones, ones } },
                { 0xd, 11, { 0, 0, 0, 0 } },
                { 0xd, 12, { 0, 0, 0, 0 } },
                { 0xd, 17, { 0, 0, 0, 0 } },
                { 0xd, 18, { 0, 0, 0, 0 } },
                { 0x1d, 0, { 0, 0, 0, 0 } },
                { 0x1d, 1, { 0, 0, 0, 0 } },
                { 0x1e, 0, { 0, 0, 0, 0 } },
                { 0x1f, 0, { ones, ones, ones, ones } },
        };
        struct kvm_cpuid_entry2 in[ARRAY_SIZE(rows)];
        struct kvm_cpuid2 *t, *out = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                in[i] = (struct kvm_cpuid_entry2){ .function = rows[i].function,
                                                   .index = rows[i].index,
                                                   .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
                                                   .eax = ones,
                                                   .ebx = ones,
                                                   .ecx = ones,
                                                   .edx = ones };
        t = make_table(in, ARRAY_SIZE(in));
        assert_int_equal(vtl_cpuid_adjust(t, 1, &out), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct kvm_cpuid_entry2 *e = find(out, rows[i].function, rows[i].index);
                const uint32_t got[4] = { e->eax, e->ebx, e->ecx, e->edx };

                assert_memory_equal(got, rows[i].want, sizeof(got));
                assert_int_equal(e->flags, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
        }
        free(t);
        free(out);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_leaves),
                cmocka_unit_test(test_features),
                cmocka_unit_test(test_adjust),
                cmocka_unit_test(test_hidden),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("cpuid", tests, NULL, NULL);
}
