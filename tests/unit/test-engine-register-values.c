/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Virtual registers: values that are refused (vsm.md 4.2 and below), and what each one holds. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/cpuid.h"
#include "vtl/hvpage.h"

#define SELF HV_VP_INDEX_SELF

static uint8_t *ram; /* one for all guests: nothing here writes what another test reads */

static int set_up_group(void **state) {
        ram = malloc(TINY_SIZE);
        fx_fill_ram(ram);
        return 0;
}

static int tear_down_group(void **state) {
        free(ram);
        return 0;
}

/* Two VPs with VTL1 on both, VTL1 of VP 0 active. */
static void init(struct fx *f) {
        fx_init(f, &(struct fx_options){ .vps = 2, .ram = ram, .tsc_khz = 1000000 });
        fx_start_vtl1(f);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
}

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        init(f);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static void test_values(void **state) {
        static const struct {
                uint32_t name;
                uint8_t vtl;
                uint64_t value;
                uint64_t status;
        } refused[] = {
                { HV_X64_REGISTER_LSTAR, 0x10, 1ull << 47, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_CSTAR, 0x10, 1ull << 63, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_SYSENTER_EIP, 0x10, 1ull << 50,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_SYSENTER_ESP, 0x10, 1ull << 50,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_KERNEL_GS_BASE, 0x10, 1ull << 47,
                  HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_EFER, 0x10, 0xd01 | 1 << 12, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_EFER, 0x10, 0x101,
                  HV_STATUS_INVALID_REGISTER_VALUE }, /* LME, PG, no LMA */
                { HV_X64_REGISTER_PAT, 0x10, 0x02, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_PAT, 0x10, 0x0300, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_PAT, 0x10, 8ull << 56, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_SFMASK, 0x10, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_TSC_AUX, 0x10, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_CR0, 0x10, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_CR0, 0x10, 0x80000010,
                  HV_STATUS_INVALID_REGISTER_VALUE }, /* PG, no PE */
                { HV_X64_REGISTER_CR0, 0x10, 0xa0000011,
                  HV_STATUS_INVALID_REGISTER_VALUE }, /* NW, no CD */
                { HV_X64_REGISTER_CR4, 0x10, 1ull << 31, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_CR4, 0x10, 0,
                  HV_STATUS_INVALID_REGISTER_VALUE }, /* long mode, no PAE */
                { HV_X64_REGISTER_CR8, 0x10, 16, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_DR6, 0x10, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_DR7, 0x10, 1ull << 32, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_X64_REGISTER_APIC_BASE, 0, 0xfee00c00, HV_STATUS_INVALID_PARAMETER },
                { HV_X64_REGISTER_APIC_BASE, 0x10, 0, HV_STATUS_INVALID_PARAMETER },
                { HV_REGISTER_SINT0, 0, 15, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_VP_ASSIST_PAGE, 0, 3, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_VP_ASSIST_PAGE, 0, 0x999001, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_SIPP, 0, 1ull << 60 | 1, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_VSM_VINA, 0, 1 << 11, HV_STATUS_INVALID_PARAMETER },
                { HV_REGISTER_VSM_VINA, 0, 1ull << 63, HV_STATUS_INVALID_PARAMETER },
                { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 0, 1,
                  HV_STATUS_INVALID_REGISTER_VALUE }, /* MBEC */
                { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 0, 4, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 0, 8, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 0, 16, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_CR_INTERCEPT_CONTROL, 0, 1, HV_STATUS_INVALID_REGISTER_VALUE },
                { HV_REGISTER_CR_INTERCEPT_CONTROL, 0, 1ull << 63,
                  HV_STATUS_INVALID_REGISTER_VALUE },
        };
        struct fx *f = *state;
        union hv_register_value before, after;

        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                uint64_t status;

                assert_int_equal(fx_get(f, 0, SELF, refused[i].vtl, refused[i].name, &before), 0);
                status = fx_set(f, 0, SELF, refused[i].vtl, refused[i].name, refused[i].value);
                if (status != refused[i].status)
                        fail_msg("row %zu: %#llx", i, (unsigned long long) status);
                assert_int_equal(fx_get(f, 0, SELF, refused[i].vtl, refused[i].name, &after), 0);
                assert_memory_equal(&before, &after, sizeof(before));
        }
        /* CR0: what is reserved in the low half is dropped, ET is fixed. */
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_CR0, 0x9005ff2f), 0);
        assert_int_equal(fx_plane(f, 0, 0)->sregs.cr0, 0x8005003f);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_CR8, 15), 0);
        assert_int_equal(fx_plane(f, 0, 0)->sregs.cr8, 15);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_RFLAGS, UINT64_MAX), 0);
        assert_int_equal(fx_plane(f, 0, 0)->regs.rflags, 0x3f7fd7);
        assert_int_equal(fx_get(f, 0, SELF, 0, HV_X64_REGISTER_APIC_BASE, &before), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0, HV_X64_REGISTER_APIC_BASE, before.reg64), 0);
}

static void test_partition_config(void **state) {
        static const struct {
                uint64_t value, status;
        } off[] = {
                { 0x3e, 0 }, { 0x00, 0 }, { 0x1e, 0 }, { 0x20, 0 },
                { 0x40, HV_STATUS_INVALID_REGISTER_VALUE }, /* DenyLowerVtlStartup */
                { 0x80, HV_STATUS_INVALID_REGISTER_VALUE },
                { 0x1000, HV_STATUS_INVALID_REGISTER_VALUE },
                { 1ull << 63, HV_STATUS_INVALID_REGISTER_VALUE },
                { 0x01, HV_STATUS_INVALID_REGISTER_VALUE }, /* the default must leave R and W */
                { 0x03, HV_STATUS_INVALID_REGISTER_VALUE },
                { 0x05, HV_STATUS_INVALID_REGISTER_VALUE },
                { 0x0f, HV_STATUS_INVALID_REGISTER_VALUE }, /* KX without UX */
        }, on[] = {
                { 0x27, 0 }, { 0x07, 0 },
                { 0x26, HV_STATUS_INVALID_REGISTER_VALUE }, /* never off again */
                { 0x3f, HV_STATUS_INVALID_REGISTER_VALUE }, /* nor another mask */
                { 0x67, HV_STATUS_INVALID_REGISTER_VALUE },
        };
        struct fx *f = *state;
        union hv_register_value v;
        uint64_t now = 0;

        for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
                if (fx_set(f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, off[i].value) !=
                    off[i].status)
                        fail_msg("off, row %zu", i);
                now = off[i].status ? now : off[i].value;
                assert_int_equal(fx_get(f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, &v), 0);
                assert_int_equal(v.reg64, now);
                assert_int_equal(f->p->header->partition_config, now);
                assert_int_equal(f->p->header->protection_enabled, 0);
        }
        assert_int_equal(fx_set(f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, 0x27), 0);
        assert_int_equal(f->events[VTL_EVENT_PROTECTION_ENABLED], 1);
        assert_int_equal(f->last_event.data, 0x27);
        assert_int_equal(f->p->header->protection_enabled, 1);
        assert_int_equal(f->p->header->protected_pages,
                         (TINY_SIZE + FX_RAM2_SIZE) / HV_PAGE_SIZE); /* no X */
        now = 0x27;
        for (size_t i = 0; i < ARRAY_SIZE(on); i++) {
                if (fx_set(f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, on[i].value) !=
                    on[i].status)
                        fail_msg("on, row %zu", i);
                now = on[i].status ? now : on[i].value;
                assert_int_equal(fx_get(f, 0, 1, 0x11, HV_REGISTER_VSM_PARTITION_CONFIG, &v), 0);
                assert_int_equal(v.reg64, now);
        }
        assert_int_equal(f->events[VTL_EVENT_PROTECTION_ENABLED], 1);
}

static void test_status_registers(void **state) {
        union hv_register_value v;
        uint32_t leaf[4];
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 2, .ram = ram });
        for (unsigned vp = 0; vp < 2; vp++) {
                assert_int_equal(fx_get(&f, vp, SELF, 0, HV_REGISTER_VSM_VP_STATUS, &v), 0);
                assert_int_equal(v.low64, 0x10000);
                assert_int_equal(v.high64, 0);
                assert_int_equal(fx_get(&f, vp, SELF, 0, HV_REGISTER_VSM_PARTITION_STATUS, &v), 0);
                assert_int_equal(v.reg64, 0x10001);
                assert_int_equal(fx_get(&f, vp, SELF, 0, HV_REGISTER_VP_INDEX, &v), 0);
                assert_int_equal(v.reg64, vp);
                assert_int_equal(fx_get(&f, vp, SELF, 0, HV_X64_REGISTER_INITIAL_APIC_ID, &v), 0);
                assert_int_equal(v.reg64, 2 * vp);
        }
        assert_int_equal(fx_get(&f, 0, SELF, 0, HV_REGISTER_VSM_CAPABILITIES, &v), 0);
        assert_int_equal(v.reg64, 0);
        /* Before VTL1 exists on a VP there is nothing to configure. */
        assert_int_equal(fx_set(&f, 0, SELF, 0, HV_REGISTER_VSM_VINA, 0),
                         HV_STATUS_INVALID_PARAMETER);

        assert_int_equal(fx_enable_partition(&f, 0), 0);
        assert_int_equal(fx_get(&f, 1, SELF, 0, HV_REGISTER_VSM_PARTITION_STATUS, &v), 0);
        assert_int_equal(v.reg64, 0x10003);
        assert_int_equal(fx_enable_vp(&f, 0, 0), 0);
        assert_int_equal(fx_get(&f, 0, SELF, 0, HV_REGISTER_VSM_VP_STATUS, &v), 0);
        assert_int_equal(v.reg64, 0x30000);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(fx_get(&f, 0, SELF, 0x10, HV_REGISTER_VSM_VP_STATUS, &v), 0);
        assert_int_equal(v.reg64, 0x30001);
        assert_int_equal(fx_get(&f, 0, 1, 0x10, HV_REGISTER_VSM_VP_STATUS, &v), 0);
        assert_int_equal(v.reg64, 0x10000);
        /* VP 1 has no VTL1 yet. */
        assert_int_equal(fx_set(&f, 0, 1, 0x11, HV_REGISTER_CR_INTERCEPT_CR0_MASK, 1),
                         HV_STATUS_INVALID_VTL_STATE);
        assert_int_equal(fx_set(&f, 0, 1, 0x10, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 0),
                         HV_STATUS_INVALID_VTL_STATE);

        for (uint32_t i = 0; i < 4; i++) {
                vtl_cpuid_leaf(HV_CPUID_FEATURES + i, 2, 40, leaf);
                assert_int_equal(
                        fx_get(&f, 0, SELF, 0, HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO + i, &v),
                        0);
                assert_memory_equal(v.bytes, leaf, sizeof(leaf));
        }
        vtl_cpuid_leaf(HV_CPUID_VERSION, 2, 40, leaf);
        assert_int_equal(fx_get(&f, 0, SELF, 0, HV_REGISTER_HYPERVISOR_VERSION, &v), 0);
        assert_memory_equal(v.bytes, leaf, sizeof(leaf));
        fx_deinit(&f);
}

static void test_code_page_offsets(void **state) {
        static const uint32_t name = HV_REGISTER_VSM_CODE_PAGE_OFFSETS;
        struct fx *f = *state;
        struct model_vcpu *c = fx_cpu(f, 0);
        union hv_register_value v;

        assert_int_equal(fx_get(f, 0, SELF, 0, name, &v), 0);
        assert_int_equal(v.reg64, (FX_OUT_RETURN64 - 0xe) << 12 | (FX_OUT_CALL64 - 0xe));

        /* The same call from 32-bit code, which has its own entries (vsm.md 2.1, 2.9) */
        c->sregs.cs.l = 0;
        c->sregs.cs.db = 1;
        memcpy((uint8_t *) fx_input(f, 0) + sizeof(struct hv_input_vp_registers), &name,
               sizeof(name));
        c->regs.rax = 0xaaaaaaaa00000000 | HVCALL_GET_VP_REGISTERS;
        c->regs.rdx = 0xbbbbbbbb00000001;
        c->regs.rbx = c->regs.rdi = 0xcccccccc00000000;
        c->regs.rcx = 0xdddddddd00000000 | FX_INPUT;
        c->regs.rsi = 0xeeeeeeee00000000 | FX_OUTPUT;
        assert_int_equal(fx_out(f, 0, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL), 0);
        assert_int_equal(c->regs.rax, 0);
        assert_int_equal(c->regs.rdx, 1); /* reps completed */
        assert_int_equal(*(uint64_t *) fx_output(f, 0),
                         (FX_OUT_RETURN32 - 0xb) << 12 | (FX_OUT_CALL32 - 0xb));
}

/* Shared registers are one value: VTL1 sees and sets VTL0's by setting its own. */
static void test_shared_registers(void **state) {
        struct fx *f = *state;
        union hv_register_value v;

        fx_cpu(f, 0)->regs.r12 = 0x1212;
        fx_cpu(f, 0)->sregs.cr2 = 0x2222;
        fx_cpu(f, 0)->debugregs.db[1] = 0x3333;
        assert_int_equal(fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_R8 + 4, &v), 0);
        assert_int_equal(v.reg64, 0x1212);
        assert_int_equal(fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_CR2, &v), 0);
        assert_int_equal(v.reg64, 0x2222);
        assert_int_equal(fx_get(f, 0, SELF, 0x10, HV_X64_REGISTER_DR0 + 1, &v), 0);
        assert_int_equal(v.reg64, 0x3333);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_R8 + 4, 0x4444), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_CR2, 0x5555), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_DR0 + 1, 0x6666), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_XMM0 + 3, 0x7777), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.r12, 0x4444);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.r12, 0x4444);
        assert_int_equal(fx_cpu(f, 0)->sregs.cr2, 0x5555);
        assert_int_equal(fx_cpu(f, 0)->debugregs.db[1], 0x6666);
        assert_int_equal(fx_cpu(f, 0)->xsave.region[40 + 3 * 4], 0x7777);
}

/* All 128 bits of segments and descriptor tables */
static void test_wide_registers(void **state) {
        static const struct hv_x64_table_register table = { .limit = 0x1234,
                                                            .base = 0xffff800012345678 };
        static const struct hv_x64_segment_register segment = {
                .base = 0x7000, .limit = 0x89abc, .selector = 0x18, .attributes = 0x5097
        };
        struct {
                struct hv_input_vp_registers head;
                struct hv_register_assoc assoc[10];
        } in = { .head = { .partition_id = HV_PARTITION_ID_SELF,
                           .vp_index = SELF,
                           .input_vtl = 0x10 } };
        struct fx *f = *state;
        const struct kvm_sregs *s = &fx_plane(f, 0, 0)->sregs;
        const struct kvm_segment *const segments[] = { &s->es, &s->cs, &s->ss,  &s->ds,
                                                       &s->fs, &s->gs, &s->ldt, &s->tr };
        union hv_register_value v;

        for (uint32_t i = 0; i < 10; i++) {
                in.assoc[i].name = i < 8 ? HV_X64_REGISTER_ES + i : HV_X64_REGISTER_IDTR + (i - 8);
                if (i < 8) {
                        in.assoc[i].value.segment = segment;
                        in.assoc[i].value.segment.base += i;
                } else {
                        in.assoc[i].value.table = table;
                        in.assoc[i].value.table.base += i;
                }
        }
        assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_SET_VP_REGISTERS, 10), &in, sizeof(in)),
                         FX_RESULT(0, 10));
        for (uint32_t i = 0; i < 8; i++) {
                assert_int_equal(segments[i]->base, 0x7000 + i);
                assert_int_equal(segments[i]->limit, 0x89abc);
                assert_int_equal(segments[i]->selector, 0x18);
                assert_int_equal(segments[i]->type, 7);
                assert_true(segments[i]->s && segments[i]->present && segments[i]->avl &&
                            segments[i]->db && !segments[i]->g && !segments[i]->l);
        }
        assert_int_equal(s->idt.base, table.base + 8);
        assert_int_equal(s->idt.limit, table.limit);
        assert_int_equal(s->gdt.base, table.base + 9);
        assert_int_equal(s->gdt.limit, table.limit);
        for (uint32_t i = 0; i < 10; i++) {
                assert_int_equal(fx_get(f, 0, SELF, 0x10, in.assoc[i].name, &v), 0);
                assert_memory_equal(v.bytes, in.assoc[i].value.bytes, sizeof(v));
        }
        /* VTL1's own are untouched, and readable. */
        assert_int_equal(fx_get(f, 0, SELF, 0, HV_X64_REGISTER_GDTR, &v), 0);
        assert_int_equal(v.table.base, TINY_GDT);
        assert_int_equal(v.table.limit, 0x7f);
}

/* RIP of VTL0 is that of its next instruction, also where the host has not yet finished the last.
 * */
static void check_rip_of_vtl0(bool rip_behind) {
        union hv_register_value v;
        struct fx f;

        fx_init(&f, &(struct fx_options){ .ram = ram, .rip_behind = rip_behind });
        fx_start_vtl1(&f);
        assert_int_equal(fx_get(&f, 0, SELF, 0x10, HV_X64_REGISTER_RIP, &v), 0);
        assert_int_equal(v.reg64, FX_HYPERCALL_PAGE + FX_OUT_CALL64 + HVPAGE_OUT_LENGTH);
        assert_int_equal(fx_set(&f, 0, SELF, 0x10, HV_X64_REGISTER_RIP, 0x7000), 0);
        assert_int_equal(fx_set(&f, 0, SELF, 0x10, HV_X64_REGISTER_RSP, 0x8000), 0);
        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
        assert_int_equal(fx_cpu(&f, 0)->regs.rip, 0x7000);
        assert_int_equal(fx_cpu(&f, 0)->regs.rsp, 0x8000);
        fx_deinit(&f);
}

static void test_rip(void **state) {
        check_rip_of_vtl0(false);
        check_rip_of_vtl0(true);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_values, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_partition_config, set_up, tear_down),
                cmocka_unit_test(test_status_registers),
                cmocka_unit_test_setup_teardown(test_code_page_offsets, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_shared_registers, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_wide_registers, set_up, tear_down),
                cmocka_unit_test(test_rip),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-register-values", tests, set_up_group,
                                           tear_down_group);
}
