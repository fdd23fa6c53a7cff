/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* VTL1's local APIC: priorities, registers in both modes, mode changes, IPIs. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util/util.h"
#include "vtl/lapic.h"

#define BSP_XAPIC (LAPIC_BASE_RESET | LAPIC_BASE_BSP | LAPIC_BASE_ENABLE)
#define BSP_X2APIC (BSP_XAPIC | LAPIC_BASE_X2APIC)
#define BSP_OFF (LAPIC_BASE_RESET | LAPIC_BASE_BSP)

static void mmio_write(struct lapic *l, uint32_t offset, uint32_t value) {
        struct lapic_ipi ipi = { .valid = true };

        assert_true(lapic_mmio_write(l, offset, value, &ipi));
        assert_false(ipi.valid);
}

static uint32_t mmio_read(struct lapic *l, uint32_t offset) {
        uint32_t value = 0xdeadbeef;

        assert_true(lapic_mmio_read(l, offset, &value));
        return value;
}

static void msr_write(struct lapic *l, uint32_t msr, uint64_t value) {
        struct lapic_ipi ipi = { .valid = true };

        assert_true(lapic_msr_write(l, msr, value, &ipi));
        assert_false(ipi.valid);
}

static void msr_write_gp(struct lapic *l, uint32_t msr, uint64_t value) {
        struct lapic before = *l;
        struct lapic_ipi ipi = { .valid = true };

        assert_false(lapic_msr_write(l, msr, value, &ipi));
        assert_false(ipi.valid);
        assert_memory_equal(&before, l, sizeof before);
}

static uint64_t msr_read(struct lapic *l, uint32_t msr) {
        uint64_t value = 0xdeadbeef;

        assert_true(lapic_msr_read(l, msr, &value));
        return value;
}

static void msr_read_gp(struct lapic *l, uint32_t msr) {
        uint64_t value = 0xdeadbeef;

        assert_false(lapic_msr_read(l, msr, &value));
        assert_int_equal(value, 0);
}

static struct lapic_ipi icr_write(struct lapic *l, uint64_t value) {
        struct lapic_ipi ipi = { .valid = true };

        assert_true(lapic_icr_write(l, value, &ipi));
        return ipi;
}

static struct lapic xapic(uint32_t id) {
        struct lapic l;

        lapic_reset(&l, id, id == 0);
        mmio_write(&l, 0xf0, LAPIC_SVR_ENABLE | 0xff);
        return l;
}

static struct lapic x2apic(uint32_t id) {
        struct lapic l = xapic(id);

        msr_write(&l, LAPIC_MSR_BASE, l.base_msr | LAPIC_BASE_X2APIC);
        return l;
}

static void test_reset(void **state) {
        struct lapic l;

        lapic_reset(&l, 3, false);
        assert_int_equal(msr_read(&l, LAPIC_MSR_BASE), 0xfee00800);
        lapic_reset(&l, 3, true);
        assert_int_equal(msr_read(&l, LAPIC_MSR_BASE), 0xfee00900);
        assert_int_equal(mmio_read(&l, 0x20), 3u << 24);
        assert_int_equal(mmio_read(&l, 0x30), LAPIC_VERSION);
        assert_int_equal(mmio_read(&l, 0x80), 0);
        assert_int_equal(mmio_read(&l, 0xa0), 0);
        assert_int_equal(mmio_read(&l, 0xd0), 0);
        assert_int_equal(mmio_read(&l, 0xe0), UINT32_MAX);
        assert_int_equal(mmio_read(&l, 0xf0), 0xff);
        for (uint32_t offset = 0x100; offset < 0x280; offset += 16)
                assert_int_equal(mmio_read(&l, offset), 0);
        for (uint32_t offset = 0x320; offset <= 0x370; offset += 16)
                assert_int_equal(mmio_read(&l, offset), LAPIC_LVT_MASKED);
        assert_int_equal(lapic_pending(&l), -1);
}

static void test_request_and_eoi(void **state) {
        struct lapic l = xapic(0);

        assert_true(lapic_request(&l, 0x51, false));
        assert_true(lapic_request(&l, 0x51, false));
        assert_int_equal(mmio_read(&l, 0x220), 1u << (0x51 - 0x40));
        assert_int_equal(lapic_pending(&l), 0x51);
        lapic_accept(&l, 0x51);
        assert_int_equal(mmio_read(&l, 0x220), 0);
        assert_int_equal(mmio_read(&l, 0x120), 1u << (0x51 - 0x40));
        assert_int_equal(mmio_read(&l, 0x1a0), 0); /* TMR: edge */
        assert_int_equal(lapic_pending(&l), -1);
        assert_int_equal(lapic_ppr(&l), 0x50);

        /* Same class waits, a higher one nests, and EOI ends the highest first. */
        assert_true(lapic_request(&l, 0x5f, false));
        assert_int_equal(lapic_pending(&l), -1);
        assert_true(lapic_request(&l, 0xf0, false));
        assert_int_equal(lapic_pending(&l), 0xf0);
        lapic_accept(&l, 0xf0);
        assert_int_equal(lapic_ppr(&l), 0xf0);
        mmio_write(&l, 0xb0, 0);
        assert_int_equal(lapic_ppr(&l), 0x50);
        assert_int_equal(lapic_pending(&l), -1);
        lapic_eoi(&l);
        assert_int_equal(lapic_ppr(&l), 0);
        assert_int_equal(lapic_pending(&l), 0x5f);

        /* An EOI with nothing in service does nothing. */
        lapic_eoi(&l);
        assert_int_equal(lapic_pending(&l), 0x5f);
}

static void test_every_vector(void **state) {
        for (unsigned v = 0; v < 256; v++) {
                struct lapic l = xapic(0);

                assert_int_equal(lapic_request(&l, (uint8_t) v, false), v >= 16);
                assert_int_equal(lapic_pending(&l), v >= 16 ? (int) v : -1);
                if (v < 16)
                        continue;
                lapic_accept(&l, (uint8_t) v);
                assert_int_equal(mmio_read(&l, 0x100 + v / 32 * 16), UINT32_C(1) << v % 32);
                assert_int_equal(lapic_ppr(&l), v & 0xf0);
                lapic_eoi(&l);
                assert_int_equal(mmio_read(&l, 0x100 + v / 32 * 16), 0);
        }
}

static void test_auto_eoi(void **state) {
        struct lapic l = xapic(0);

        assert_true(lapic_request(&l, 0x51, true));
        assert_int_equal(lapic_pending(&l), 0x51);
        lapic_accept(&l, 0x51);
        assert_int_equal(lapic_ppr(&l), 0);
        assert_int_equal(mmio_read(&l, 0x120), 0);

        /* The mark belongs to the request, not to the vector. */
        assert_true(lapic_request(&l, 0x51, false));
        lapic_accept(&l, 0x51);
        assert_int_equal(lapic_ppr(&l), 0x50);
}

static void test_tpr_and_cr8(void **state) {
        struct lapic l = xapic(0);

        assert_true(lapic_request(&l, 0x51, false));
        lapic_set_cr8(&l, 5);
        assert_int_equal(mmio_read(&l, 0x80), 0x50);
        assert_int_equal(lapic_pending(&l), -1);
        lapic_set_cr8(&l, 4);
        assert_int_equal(lapic_pending(&l), 0x51);
        mmio_write(&l, 0x80, 0x1234567f);
        assert_int_equal(mmio_read(&l, 0x80), 0x7f);
        assert_int_equal(lapic_cr8(&l), 7);
        assert_int_equal(lapic_ppr(&l), 0x7f);

        /* On a tie of classes PPR is TPR; under a higher service it is the class alone. */
        lapic_set_cr8(&l, 0);
        lapic_accept(&l, 0x51);
        mmio_write(&l, 0x80, 0x53);
        assert_int_equal(lapic_ppr(&l), 0x53);
        mmio_write(&l, 0x80, 0x43);
        assert_int_equal(lapic_ppr(&l), 0x50);
        lapic_set_cr8(&l, 0xff);
        assert_int_equal(lapic_cr8(&l), 15);
}

static void test_software_disable(void **state) {
        struct lapic l;

        lapic_reset(&l, 0, true);
        assert_false(lapic_request(&l, 0x51, false));
        assert_int_equal(mmio_read(&l, 0x220), 0);

        mmio_write(&l, 0xf0, LAPIC_SVR_ENABLE | 0x3f);
        assert_true(lapic_request(&l, 0x51, false));
        lapic_accept(&l, 0x51);
        assert_true(lapic_request(&l, 0x62, false));
        mmio_write(&l, 0x370, 0x33);
        assert_int_equal(mmio_read(&l, 0x370), 0x33);

        mmio_write(&l, 0xf0, 0x3f);
        /* IRR and ISR are kept, LVT entries are masked and stay so. */
        assert_int_equal(lapic_pending(&l), 0x62);
        assert_int_equal(lapic_ppr(&l), 0x50);
        assert_false(lapic_request(&l, 0x80, false));
        assert_int_equal(mmio_read(&l, 0x370), LAPIC_LVT_MASKED | 0x33);
        mmio_write(&l, 0x370, 0x34);
        assert_int_equal(mmio_read(&l, 0x370), LAPIC_LVT_MASKED | 0x34);

        mmio_write(&l, 0xf0, LAPIC_SVR_ENABLE | 0x3f);
        assert_int_equal(mmio_read(&l, 0x370), LAPIC_LVT_MASKED | 0x34);
        assert_int_equal(lapic_pending(&l), 0x62);
}

static void test_mmio_registers(void **state) {
        struct lapic l = xapic(5);
        static const struct {
                uint32_t offset, write, read;
        } rows[] = {
                { 0x20, UINT32_MAX, 5u << 24 }, /* read-only */
                { 0x30, UINT32_MAX, LAPIC_VERSION },
                { 0xd0, UINT32_MAX, 0xff000000 },
                { 0xe0, 0, 0x0fffffff },
                { 0xf0, UINT32_MAX, 0x3ff },
                { 0x310, UINT32_MAX, 0xff000000 },
                { 0x320, UINT32_MAX, 0x700ff },
                { 0x330, UINT32_MAX, 0x107ff },
                { 0x340, UINT32_MAX, 0x107ff },
                { 0x350, UINT32_MAX, 0x1a7ff },
                { 0x360, UINT32_MAX, 0x1a7ff },
                { 0x370, UINT32_MAX, 0x100ff },
                { 0x380, 0x12345678, 0x12345678 },
                { 0x390, 0x12345678, 0x1234564a }, /* of the initial count; counts in 100 ns */
                { 0x3e0, UINT32_MAX, 0xb },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                mmio_write(&l, rows[i].offset, rows[i].write);
                assert_int_equal(mmio_read(&l, rows[i].offset), rows[i].read);
        }
        assert_int_equal(mmio_read(&l, 0xb0), 0); /* EOI is write-only */
}

static void test_esr(void **state) {
        struct lapic l = xapic(0);
        struct lapic_ipi ipi;
        uint32_t value;

        assert_false(lapic_request(&l, 3, false));
        assert_int_equal(mmio_read(&l, 0x280), 0); /* not before a write latches it */
        mmio_write(&l, 0x280, 0);
        assert_int_equal(mmio_read(&l, 0x280), LAPIC_ESR_RECEIVE_VECTOR);
        mmio_write(&l, 0x280, 0);
        assert_int_equal(mmio_read(&l, 0x280), 0);

        /* No such registers: CMCI, SELF IPI in this mode, between registers, beyond the last. */
        static const uint32_t bad[] = { 0x0, 0x10, 0x2f0, 0x3f0, 0x84, 0x400, 0xff0 };
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                value = 1;
                assert_false(lapic_mmio_read(&l, bad[i], &value));
                assert_int_equal(value, 0);
                mmio_write(&l, 0x280, 0);
                assert_int_equal(mmio_read(&l, 0x280), LAPIC_ESR_REGISTER);
                assert_false(lapic_mmio_write(&l, bad[i], 1, &ipi));
                mmio_write(&l, 0x280, 0);
                assert_int_equal(mmio_read(&l, 0x280), LAPIC_ESR_REGISTER);
        }

        /* The error entry fires once per error bit until ESR is written. */
        mmio_write(&l, 0x370, 0x41);
        assert_false(icr_write(&l, 5).valid);
        assert_int_equal(lapic_pending(&l), 0x41);
        lapic_accept(&l, 0x41);
        lapic_eoi(&l);
        assert_false(icr_write(&l, 5).valid);
        assert_int_equal(lapic_pending(&l), -1);
        mmio_write(&l, 0x280, 0);
        assert_int_equal(mmio_read(&l, 0x280), LAPIC_ESR_SEND_VECTOR);

        /* An error entry with a bad vector itself */
        mmio_write(&l, 0x370, 0x4);
        assert_false(icr_write(&l, 5).valid);
        assert_int_equal(lapic_pending(&l), -1);
        mmio_write(&l, 0x280, 0);
        assert_int_equal(mmio_read(&l, 0x280), LAPIC_ESR_SEND_VECTOR | LAPIC_ESR_RECEIVE_VECTOR);
}

static void test_apic_base(void **state) {
        static const struct {
                uint64_t from, to;
                bool ok;
        } rows[] = {
                { BSP_XAPIC, BSP_XAPIC, true },
                { BSP_XAPIC, BSP_X2APIC, true },
                { BSP_XAPIC, BSP_OFF, true },
                { BSP_XAPIC, BSP_OFF | LAPIC_BASE_X2APIC, false },
                { BSP_X2APIC, BSP_X2APIC, true },
                { BSP_X2APIC, BSP_XAPIC, false },
                { BSP_X2APIC, BSP_OFF, true },
                { BSP_X2APIC, BSP_OFF | LAPIC_BASE_X2APIC, false },
                { BSP_OFF, BSP_OFF, true },
                { BSP_OFF, BSP_XAPIC, true },
                { BSP_OFF, BSP_X2APIC, false },
                { BSP_OFF, BSP_OFF | LAPIC_BASE_X2APIC, false },
                { BSP_XAPIC, BSP_XAPIC + 0x1000, false },
                { BSP_XAPIC, BSP_XAPIC & ~LAPIC_BASE_BSP, false },
                { BSP_XAPIC, BSP_XAPIC | 1, false },
                { BSP_XAPIC, BSP_XAPIC | 1 << 9, false },
                { BSP_XAPIC, BSP_XAPIC | 1ull << 40, false },
                { BSP_XAPIC, BSP_XAPIC | 1ull << 63, false },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct lapic l = rows[i].from == BSP_X2APIC ? x2apic(0) : xapic(0);

                if (rows[i].from == BSP_OFF)
                        msr_write(&l, LAPIC_MSR_BASE, BSP_OFF);
                if (rows[i].ok)
                        msr_write(&l, LAPIC_MSR_BASE, rows[i].to);
                else
                        msr_write_gp(&l, LAPIC_MSR_BASE, rows[i].to);
                assert_int_equal(msr_read(&l, LAPIC_MSR_BASE),
                                 rows[i].ok ? rows[i].to : rows[i].from);
        }
}

static void test_off(void **state) {
        struct lapic l = xapic(7), other = xapic(1);
        struct lapic_ipi ipi;
        uint32_t value;

        assert_true(lapic_request(&l, 0x51, false));
        msr_write(&l, LAPIC_MSR_BASE, LAPIC_BASE_RESET);
        assert_int_equal(lapic_pending(&l), -1);
        assert_false(lapic_request(&l, 0x51, false));
        assert_false(lapic_mmio_read(&l, 0x20, &value));
        assert_false(lapic_mmio_write(&l, 0xf0, 0x1ff, &ipi));
        msr_read_gp(&l, 0x802);
        ipi = icr_write(&other, 0x51ull | 0xffull << 56);
        assert_true(ipi.valid);
        assert_false(lapic_matches(&l, &ipi));

        /* What was there before is gone, the ID is not. */
        msr_write(&l, LAPIC_MSR_BASE, LAPIC_BASE_RESET | LAPIC_BASE_ENABLE);
        assert_int_equal(mmio_read(&l, 0xf0), 0xff);
        assert_int_equal(mmio_read(&l, 0x20), 7u << 24);
        assert_int_equal(lapic_pending(&l), -1);
}

static void test_x2apic_registers(void **state) {
        struct lapic l = x2apic(0x123);
        struct lapic_ipi ipi;
        uint32_t value;

        /* The page is not there, and MSRs are not there in xAPIC mode. */
        assert_false(lapic_mmio_read(&l, 0x20, &value));
        assert_false(lapic_mmio_write(&l, 0x80, 0x20, &ipi));
        assert_int_equal(lapic_cr8(&l), 0);
        struct lapic x = xapic(0);
        msr_read_gp(&x, 0x802);
        msr_write_gp(&x, 0x808, 0);

        assert_int_equal(msr_read(&l, 0x802), 0x123);
        assert_int_equal(msr_read(&l, 0x803), LAPIC_VERSION);
        assert_int_equal(msr_read(&l, 0x80d), 0x12u << 16 | 1u << 3);
        assert_int_equal(msr_read(&l, 0x80f), 0x1ff);
        msr_write(&l, 0x808, 0x35);
        assert_int_equal(msr_read(&l, 0x808), 0x35);
        assert_int_equal(msr_read(&l, 0x80a), 0x35);
        msr_write(&l, 0x808, 0);

        assert_true(lapic_request(&l, 0xa1, false));
        assert_int_equal(msr_read(&l, 0x825), 2);
        lapic_accept(&l, 0xa1);
        assert_int_equal(msr_read(&l, 0x815), 2);
        msr_write_gp(&l, 0x80b, 1);
        msr_write(&l, 0x80b, 0);
        assert_int_equal(msr_read(&l, 0x815), 0);

        msr_write(&l, 0x832, 0x20030);
        assert_int_equal(msr_read(&l, 0x832), 0x20030);
        msr_write(&l, 0x838, 1000);
        assert_int_equal(msr_read(&l, 0x838), 1000);
        assert_int_equal(msr_read(&l, 0x839), 1000);
        msr_write(&l, 0x83e, 0xb);
        assert_int_equal(msr_read(&l, 0x83e), 0xb);
        assert_int_equal(msr_read(&l, 0x828), 0);
        msr_write(&l, 0x828, 0);
}

/* At 1 GHz and divided by 1 a count of 1000 lasts 10 units of reference time. */
static void test_timer(void **state) {
        struct lapic l;

        lapic_reset(&l, 0, true);
        l.now = 1000;
        mmio_write(&l, 0xf0, 0x1ff);
        mmio_write(&l, 0x3e0, 0xb);
        mmio_write(&l, 0x320, 0x40); /* one-shot */
        mmio_write(&l, 0x380, 1000);
        assert_int_equal(l.timer_due, 1010);
        l.now = 1004;
        assert_int_equal(mmio_read(&l, 0x390), 600);
        lapic_timer_expire(&l);
        assert_int_equal(lapic_pending(&l), -1);
        l.now = 1010;
        lapic_timer_expire(&l);
        assert_int_equal(lapic_pending(&l), 0x40);
        assert_int_equal(l.timer_due, UINT64_MAX);
        assert_int_equal(mmio_read(&l, 0x390), 0);
        lapic_accept(&l, 0x40);
        lapic_eoi(&l);

        mmio_write(&l, 0x320, 0x20041); /* periodic; what was missed comes once */
        mmio_write(&l, 0x380, 1000);
        l.now = 1055;
        lapic_timer_expire(&l);
        assert_int_equal(lapic_pending(&l), 0x41);
        assert_int_equal(l.timer_due, 1060);
        lapic_accept(&l, 0x41);
        lapic_eoi(&l);
        mmio_write(&l, 0x380, 0);
        assert_int_equal(l.timer_due, UINT64_MAX);

        mmio_write(&l, 0x380, 1000);
        mmio_write(&l, 0x320, 0x40042); /* TSC deadline: another mode disarms */
        assert_int_equal(l.timer_due, UINT64_MAX);
        mmio_write(&l, 0x380, 1000);
        assert_int_equal(l.timer_due, UINT64_MAX);
        lapic_set_tsc_deadline(&l, 77, 2000);
        assert_int_equal(l.tsc_deadline, 77);
        l.now = 2000;
        lapic_timer_expire(&l);
        assert_int_equal(lapic_pending(&l), 0x42);
        assert_int_equal(l.tsc_deadline, 0);

        mmio_write(&l, 0x320, 0x10043); /* masked: nothing comes of it */
        lapic_accept(&l, 0x42);
        lapic_eoi(&l);
        mmio_write(&l, 0x380, 1000);
        l.now = 5000;
        lapic_timer_expire(&l);
        assert_int_equal(lapic_pending(&l), -1);
        lapic_set_tsc_deadline(&l, 78, 6000); /* not in that mode: ignored */
        assert_int_equal(l.tsc_deadline, 0);
}

static void test_x2apic_gp(void **state) {
        static const uint32_t unreadable[] = { 0x800, 0x801, 0x80b, 0x80c, 0x80e, 0x82f, 0x831,
                                               0x83f, 0x840, 0x8ff, 0x7ff, 0x900, 0x1a };
        static const uint32_t unwritable[] = { 0x800, 0x802, 0x803, 0x80a, 0x80d, 0x80e,
                                               0x810, 0x818, 0x827, 0x82f, 0x831, 0x839,
                                               0x840, 0x8ff, 0x7ff, 0x900, 0x1a };
        static const struct {
                uint32_t msr;
                uint64_t value;
        } reserved[] = {
                { 0x808, 0x100 },    { 0x808, 1ull << 32 }, { 0x80f, 1u << 10 },
                { 0x80f, 1u << 12 }, { 0x828, 1 },          { 0x832, 1u << 8 },
                { 0x835, 1u << 11 }, { 0x837, 1u << 31 },   { 0x838, 1ull << 32 },
                { 0x83e, 4 },        { 0x83f, 0x100 },      { 0x83f, 1ull << 32 },
                { 0x830, 1u << 13 }, { 0x830, 1u << 16 },   { 0x830, 1u << 20 },
        };
        struct lapic l = x2apic(0);

        for (size_t i = 0; i < ARRAY_SIZE(unreadable); i++)
                msr_read_gp(&l, unreadable[i]);
        for (size_t i = 0; i < ARRAY_SIZE(unwritable); i++)
                msr_write_gp(&l, unwritable[i], 0);
        for (size_t i = 0; i < ARRAY_SIZE(reserved); i++)
                msr_write_gp(&l, reserved[i].msr, reserved[i].value);
}

static void test_self_ipi(void **state) {
        struct lapic l = x2apic(9);
        struct lapic_ipi ipi;

        assert_true(lapic_msr_write(&l, 0x83f, 0x77, &ipi));
        assert_true(ipi.valid);
        assert_int_equal(ipi.vector, 0x77);
        assert_int_equal(ipi.delivery_mode, LAPIC_DELIVERY_FIXED);
        assert_int_equal(ipi.shorthand, LAPIC_SHORTHAND_SELF);
        assert_true(lapic_matches(&l, &ipi));

        assert_true(lapic_msr_write(&l, 0x83f, 0xf, &ipi));
        assert_false(ipi.valid);
        msr_write(&l, 0x828, 0);
        assert_int_equal(msr_read(&l, 0x828), LAPIC_ESR_SEND_VECTOR);
}

static void test_icr_xapic(void **state) {
        struct lapic l = xapic(0);
        struct lapic_ipi ipi;

        /* The high half only waits for the low one. */
        mmio_write(&l, 0x310, 0x0700ffff);
        assert_true(lapic_mmio_write(&l, 0x300, 0x4f | 1u << 12, &ipi));
        assert_true(ipi.valid);
        assert_int_equal(ipi.vector, 0x4f);
        assert_int_equal(ipi.delivery_mode, LAPIC_DELIVERY_FIXED);
        assert_int_equal(ipi.destination, 7);
        assert_false(ipi.logical);
        assert_false(ipi.x2apic);
        assert_int_equal(ipi.shorthand, LAPIC_SHORTHAND_NONE);
        assert_int_equal(mmio_read(&l, 0x300), 0x4f); /* delivery status: idle */
        assert_int_equal(mmio_read(&l, 0x310), 0x07000000);

        ipi = icr_write(&l, 3ull << 56 | 1 << 11 | 0x30);
        assert_true(ipi.valid && ipi.logical);
        assert_int_equal(ipi.destination, 3);
        assert_int_equal(mmio_read(&l, 0x310), 3u << 24);

        /* The destination does not survive the change of its format. */
        msr_write(&l, LAPIC_MSR_BASE, BSP_X2APIC);
        assert_int_equal(msr_read(&l, 0x830), 1 << 11 | 0x30);
}

static void test_icr_modes(void **state) {
        struct lapic l = x2apic(0);
        static const struct {
                uint32_t low;
                bool valid;
                uint8_t mode, shorthand;
        } rows[] = {
                { 0x000c0, true, LAPIC_DELIVERY_FIXED, LAPIC_SHORTHAND_NONE },
                { 0x400c0, true, LAPIC_DELIVERY_FIXED, LAPIC_SHORTHAND_SELF },
                { 0x800c0, true, LAPIC_DELIVERY_FIXED, LAPIC_SHORTHAND_ALL },
                { 0xc00c0, true, LAPIC_DELIVERY_FIXED, LAPIC_SHORTHAND_OTHERS },
                { 0x001c0, true, LAPIC_DELIVERY_LOWEST, LAPIC_SHORTHAND_NONE },
                { 0x0010f, false, 0, 0 }, /* bad vector */
                { 0x002c0, false, 0, 0 }, /* SMI */
                { 0x003c0, false, 0, 0 },
                { 0x00400, true, LAPIC_DELIVERY_NMI, LAPIC_SHORTHAND_NONE },
                { 0xc0400, true, LAPIC_DELIVERY_NMI, LAPIC_SHORTHAND_OTHERS },
                { 0x40400, false, 0, 0 },
                { 0x80500, false, 0, 0 },
                { 0x0c500, true, LAPIC_DELIVERY_INIT, LAPIC_SHORTHAND_NONE },
                { 0x04500, true, LAPIC_DELIVERY_INIT, LAPIC_SHORTHAND_NONE },
                { 0x08500, false, 0, 0 }, /* level de-assert */
                { 0x04609, true, LAPIC_DELIVERY_SIPI, LAPIC_SHORTHAND_NONE },
                { 0x007c0, false, 0, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct lapic_ipi ipi = icr_write(&l, 0x10005ull << 32 | rows[i].low);

                assert_int_equal(ipi.valid, rows[i].valid);
                assert_int_equal(msr_read(&l, 0x830), 0x10005ull << 32 | rows[i].low);
                if (!rows[i].valid)
                        continue;
                assert_int_equal(ipi.delivery_mode, rows[i].mode);
                assert_int_equal(ipi.shorthand, rows[i].shorthand);
                assert_int_equal(ipi.vector, rows[i].low & 0xff);
                assert_int_equal(ipi.destination, 0x10005);
                assert_true(ipi.x2apic);
        }
}

static void test_matches(void **state) {
        static const struct {
                bool target_x2apic;
                uint32_t id, ldr, dfr;
                bool x2apic, logical;
                uint32_t destination;
                bool match;
        } rows[] = {
                /* physical */
                { false, 5, 0, UINT32_MAX, false, false, 5, true },
                { false, 5, 0, UINT32_MAX, false, false, 4, false },
                { false, 5, 0, UINT32_MAX, false, false, 0xff, true },
                { false, 5, 0, UINT32_MAX, true, false, 5, true },
                { false, 5, 0, UINT32_MAX, true, false, 0x105, false },
                { false, 0x105, 0, UINT32_MAX, false, false, 5, true },
                { false, 5, 0, UINT32_MAX, true, false, UINT32_MAX, true },
                { true, 0x105, 0, 0, true, false, 0x105, true },
                { true, 0x105, 0, 0, true, false, 5, false },
                { true, 0x105, 0, 0, true, false, UINT32_MAX, true },
                { true, 0x105, 0, 0, false, false, 0xff, true },
                /* logical, flat */
                { false, 0, 0x04000000, UINT32_MAX, false, true, 0x06, true },
                { false, 0, 0x04000000, UINT32_MAX, false, true, 0x03, false },
                { false, 0, 0x00000000, UINT32_MAX, false, true, 0xff, true },
                { false, 0, 0x04000000, UINT32_MAX, true, true, 0x104, false },
                /* logical, cluster */
                { false, 0, 0x24000000, 0x0fffffff, false, true, 0x2c, true },
                { false, 0, 0x24000000, 0x0fffffff, false, true, 0x23, false },
                { false, 0, 0x24000000, 0x0fffffff, false, true, 0x34, false },
                { false, 0, 0x24000000, 0x0fffffff, false, true, 0xff, true },
                /* a reserved model */
                { false, 0, 0x04000000, 0x7fffffff, false, true, 0x04, false },
                /* logical x2APIC: cluster 0x12, member 3 */
                { true, 0x123, 0, 0, true, true, 0x00120008, true },
                { true, 0x123, 0, 0, true, true, 0x0012000f, true },
                { true, 0x123, 0, 0, true, true, 0x00120004, false },
                { true, 0x123, 0, 0, true, true, 0x00130008, false },
                { true, 0x123, 0, 0, true, true, UINT32_MAX, true },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct lapic target =
                        rows[i].target_x2apic ? x2apic(rows[i].id) : xapic(rows[i].id);
                struct lapic_ipi ipi = {
                        .valid = true,
                        .vector = 0x40,
                        .logical = rows[i].logical,
                        .x2apic = rows[i].x2apic,
                        .destination = rows[i].destination,
                };

                if (!rows[i].target_x2apic) {
                        mmio_write(&target, 0xd0, rows[i].ldr);
                        mmio_write(&target, 0xe0, rows[i].dfr);
                }
                if (lapic_matches(&target, &ipi) != rows[i].match)
                        fail_msg("row %zu", i);
                ipi.shorthand = LAPIC_SHORTHAND_OTHERS;
                assert_true(lapic_matches(&target, &ipi));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reset),
                cmocka_unit_test(test_request_and_eoi),
                cmocka_unit_test(test_every_vector),
                cmocka_unit_test(test_auto_eoi),
                cmocka_unit_test(test_tpr_and_cr8),
                cmocka_unit_test(test_software_disable),
                cmocka_unit_test(test_mmio_registers),
                cmocka_unit_test(test_esr),
                cmocka_unit_test(test_apic_base),
                cmocka_unit_test(test_off),
                cmocka_unit_test(test_x2apic_registers),
                cmocka_unit_test(test_timer),
                cmocka_unit_test(test_x2apic_gp),
                cmocka_unit_test(test_self_ipi),
                cmocka_unit_test(test_icr_xapic),
                cmocka_unit_test(test_icr_modes),
                cmocka_unit_test(test_matches),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
