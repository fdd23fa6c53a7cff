/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * VTL0's accesses to MSRs and I/O ports that VTL1 intercepts (vsm.md 3.16, 4.16, 8.6, 8.7): who may
 * ask, what comes out of the vCPU, the message byte by byte, and what becomes of the access. Then
 * the options about what no host can enforce.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"

#define SELF HV_VP_INDEX_SELF
#define VECTOR 0x60
#define SIMP 0x153000ull
#define LSTAR 0xc0000082u
#define EFER 0xc0000080u
#define MISC_ENABLE 0x1a0u
#define CR_BIT(name) (1ull << HV_CR_INTERCEPT_##name)

/* VTL1 on VPs 0 and 1 and ready for intercepts on VP 0, where it is active. */
static void init(struct fx *f, const struct vtl_options *options, bool imprecise) {
        fx_init(f, &(struct fx_options){ .vps = 2, .options = options, .imprecise = imprecise });
        fx_start_vtl1(f);
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        fx_enable_intercepts(f, 0, VECTOR);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, SIMP | 1), 0);
}

static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        init(f, NULL, false);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static uint64_t cr_control(struct fx *f, uint32_t vp, uint64_t control) {
        return fx_set(f, 0, vp, 0x11, HV_REGISTER_CR_INTERCEPT_CONTROL, control);
}

static uint64_t install(struct fx *f, unsigned vp, uint32_t type, uint32_t access,
                        uint64_t parameter) {
        const struct hv_input_install_intercept in = { .partition_id = HV_PARTITION_ID_SELF,
                                                       .access_type_mask = access,
                                                       .intercept_type = type,
                                                       .parameter = parameter };

        return fx_call(f, vp, HVCALL_INSTALL_INTERCEPT, &in, sizeof(in));
}

static bool msr_comes_out(const struct fx *f, uint32_t msr, bool is_write) {
        const struct plane_msr_filter *m = &f->model->msr_filter;

        return plane_bit(is_write ? m->write[0] : m->read[0], (unsigned) plane_msr_bit(msr));
}

static struct hv_message take_message(struct fx *f) {
        struct hv_message m, none = { 0 };

        assert_int_equal(plane_model_read(f->model, 1, SIMP, &m, sizeof(m)), 0);
        assert_int_equal(plane_model_write(f->model, 1, SIMP, &none, sizeof(none)), 0);
        return m;
}

static void back_to_vtl0(struct fx *f) {
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(fx_active(f, 0), 0);
}

/* VTL1 has taken its interrupt and ended it. */
static void end_intercept(struct fx *f) {
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        assert_int_equal(fx_store(f, 0, LAPIC_BASE_RESET + 0xb0, 4, 0), 0);
}

/* ---- What may be asked for ---- */

static void test_control(void **state) {
        static const uint64_t refused[] = {
                CR_BIT(CR0_WRITE),  CR_BIT(CR4_WRITE),
                CR_BIT(XCR0_WRITE), CR_BIT(GDTR_WRITE),
                CR_BIT(IDTR_WRITE), CR_BIT(LDTR_WRITE),
                CR_BIT(TR_WRITE),   CR_BIT(SGX_LAUNCH_CONTROL_WRITE),
                1ull << 26,         1ull << 27,
                1ull << 28,         1ull << 29,
                1ull << 63,
        };
        static const struct vtl_options accept = { .accept_cr_intercepts = true };
        struct fx *f = *state, g;

        for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
                assert_int_equal(cr_control(f, SELF, refused[i] | CR_BIT(LSTAR_WRITE)),
                                 HV_STATUS_INVALID_REGISTER_VALUE);
        assert_false(msr_comes_out(f, LSTAR, true));
        assert_int_equal(((struct vtl_control_header *) f->config.control)->unenforced_cr, 0);

        init(&g, &accept, false);
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
                assert_int_equal(cr_control(&g, SELF, refused[i]),
                                 i < 7 ? 0 : HV_STATUS_INVALID_REGISTER_VALUE);
        assert_int_equal(((struct vtl_control_header *) g.config.control)->unenforced_cr, 0x78007);
        fx_deinit(&g);
}

/* KVM's filter is one for all VPs: it is the union, and follows when something goes. */
static void test_union(void **state) {
        struct fx *f = *state;
        unsigned before;

        assert_int_equal(cr_control(f, SELF, CR_BIT(LSTAR_WRITE) | CR_BIT(EFER_READ)), 0);
        assert_int_equal(cr_control(f, 1, CR_BIT(LSTAR_WRITE)), 0);
        assert_true(msr_comes_out(f, LSTAR, true));
        assert_false(msr_comes_out(f, LSTAR, false));
        assert_true(msr_comes_out(f, EFER, false));
        before = f->model->ops[MODEL_FILTER];
        assert_int_equal(cr_control(f, SELF, CR_BIT(EFER_READ)), 0);
        assert_int_equal(f->model->ops[MODEL_FILTER], before); /* nothing changes */
        assert_int_equal(cr_control(f, 1, 0), 0);
        assert_false(msr_comes_out(f, LSTAR, true));
        assert_int_equal(install(f, 0, HV_INTERCEPT_X64_MSR_INDEX, HV_INTERCEPT_MASK_WRITE, LSTAR),
                         0);
        assert_true(msr_comes_out(f, LSTAR, true));
        assert_int_equal(install(f, 0, HV_INTERCEPT_X64_MSR_INDEX, 0, LSTAR), 0);
        assert_false(msr_comes_out(f, LSTAR, true));
}

static void test_install(void **state) {
        static const struct {
                uint32_t type, access;
                uint64_t parameter, status, accepted; /* with cr-intercepts = accept-unenforced */
        } cases[] = {
                { HV_INTERCEPT_X64_IO_PORT, 3, 0x510, 0, 0 },
                { HV_INTERCEPT_X64_IO_PORT, 0, 0x510, 0, 0 },
                { HV_INTERCEPT_X64_IO_PORT, 4, 0x510, 5, 5 },
                { HV_INTERCEPT_X64_IO_PORT, 1, 0x10000, 5, 5 },
                { HV_INTERCEPT_X64_IO_PORT, 1, 0x20, 5, 0 }, /* the kernel's PIC */
                { HV_INTERCEPT_X64_IO_PORT_RANGE, 3, 0xcff0cf8, 0, 0 },
                { HV_INTERCEPT_X64_IO_PORT_RANGE, 3, 0xcf80cff, 5, 5 }, /* ends before it begins */
                { HV_INTERCEPT_X64_IO_PORT_RANGE, 3, 0x470030, 5, 0 },  /* PIT in it */
                { HV_INTERCEPT_X64_IO_PORT_RANGE, 3, 1ull << 32, 5, 5 },
                { HV_INTERCEPT_X64_MSR_INDEX, 2, 0x1b, 0, 0 },
                { HV_INTERCEPT_X64_MSR_INDEX, 2, 0x830, 5, 5 }, /* the in-kernel APIC's */
                { HV_INTERCEPT_X64_MSR_INDEX, 2, 0x2000, 5, 5 },
                { HV_INTERCEPT_X64_MSR_INDEX, 2, 1ull << 32 | 0x1b, 5, 5 },
                { HV_INTERCEPT_X64_CPUID, 4, 1, 5, 0 },
                { HV_INTERCEPT_X64_CPUID, 1, 1, 5, 5 },
                { 1, 3, 0, 5, 5 }, /* all MSRs */
                { 3, 4, 14, 5, 5 },
                { UINT32_MAX, 1, 0, 5, 5 },
        };
        static const struct vtl_options accept = { .accept_cr_intercepts = true };
        const struct hv_input_install_intercept other = { .partition_id = 42 };
        struct fx *f = *state, g;

        init(&g, &accept, false);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                assert_int_equal(install(f, 0, cases[i].type, cases[i].access, cases[i].parameter),
                                 cases[i].status);
                assert_int_equal(install(&g, 0, cases[i].type, cases[i].access, cases[i].parameter),
                                 cases[i].accepted);
        }
        assert_int_equal(((struct vtl_control_header *) g.config.control)->unenforced,
                         VTL_UNENFORCED_CPUID_INTERCEPT | VTL_UNENFORCED_PORT_INTERCEPT);
        fx_deinit(&g);
        for (unsigned port = 0xcf8; port <= 0xcff; port++) {
                assert_true(plane_bit(f->model->port_filter.in, port));
                assert_true(plane_bit(f->model->port_filter.out, port));
        }
        assert_false(plane_bit(f->model->port_filter.in, 0x510));
        assert_false(plane_bit(f->model->port_filter.in, 0xd00));
        assert_int_equal(fx_call(f, 0, HVCALL_INSTALL_INTERCEPT, &other, sizeof(other)),
                         HV_STATUS_ACCESS_DENIED);
        back_to_vtl0(f);
        assert_int_equal(install(f, 0, HV_INTERCEPT_X64_IO_PORT, 1, 0x510),
                         HV_STATUS_ACCESS_DENIED);
}

/* ---- MSRs ---- */

static void test_msr_message(void **state) {
        struct hv_msr_intercept m;
        struct hv_message message;
        struct fx *f = *state;
        struct kvm_regs *regs;

        assert_int_equal(cr_control(f, SELF, CR_BIT(LSTAR_WRITE)), 0);
        back_to_vtl0(f);
        regs = &fx_cpu(f, 0)->regs;
        *regs = (struct kvm_regs){ .rip = TINY_CODE,
                                   .rflags = 0x202,
                                   .rsp = TINY_STACK,
                                   .rcx = LSTAR,
                                   .rdx = 0xffff8000,
                                   .rax = 0x1234 };
        assert_int_equal(fx_wrmsr(f, 0, LSTAR, 0xffff800000001234), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(fx_plane(f, 0, 0)->regs.rip, TINY_CODE);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), LSTAR)->value, 0);
        message = take_message(f);
        assert_int_equal(message.message_type, HV_MESSAGE_X64_MSR_INTERCEPT);
        assert_int_equal(message.payload_size, 64);
        memcpy(&m, message.payload, sizeof(m));
        assert_int_equal(m.header.vp_index, 0);
        assert_int_equal(m.header.instruction_length, 2);
        assert_int_equal(m.header.access_type, HV_INTERCEPT_ACCESS_WRITE);
        assert_int_equal(m.header.rip, TINY_CODE);
        assert_int_equal(m.msr, LSTAR);
        assert_int_equal(m.rdx, 0xffff8000);
        assert_int_equal(m.rax, 0x1234);

        /* VTL1 does it for VTL0 and goes on behind it; its own write is not intercepted. */
        end_intercept(f);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_LSTAR, 0x5678), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0x10, HV_X64_REGISTER_RIP, TINY_CODE + 2), 0);
        back_to_vtl0(f);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), LSTAR)->value, 0x5678);
        assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE + 2);
        assert_int_equal(fx_ctl(f, 0)->stats.intercepts, 1);
}

/* Nobody can be told: nothing happens, and the instruction comes again. */
static void test_msr_busy(void **state) {
        const struct hv_message busy = { .message_type = 1 };
        struct fx *f = *state;

        assert_int_equal(cr_control(f, SELF, CR_BIT(LSTAR_WRITE)), 0);
        back_to_vtl0(f);
        assert_int_equal(plane_model_write(f->model, 1, SIMP, &busy, sizeof(busy)), 0);
        fx_cpu(f, 0)->regs.rip = TINY_CODE;
        assert_int_equal(fx_wrmsr(f, 0, LSTAR, 0x1234), 0);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), LSTAR)->value, 0);
        assert_int_equal(fx_ctl(f, 0)->stats.intercepts, 0);
}

/* An exit that nobody wants on this VP is carried out as the CPU would. */
static void test_msr_carried_out(void **state) {
        static const struct {
                uint32_t msr;
                uint64_t value;
                int gp;
        } writes[] = {
                { LSTAR, 0xffff800000001234, 0 },
                { LSTAR, 1ull << 47, 1 },
                { 0x174, 8, 0 },
                { 0x175, 1ull << 63, 1 },
                { 0x277, 0x0606060606060606, 0 },
                { 0x277, 2, 1 },
                { EFER, 0xd01, 0 },
                { EFER, 0xc01, 1 }, /* LME while paging is on */
                { EFER, 0x901, 0 },
                { EFER, 1ull << 40, 1 },
                { 0x1b, 0xfee00900, 0 },
                { 0x1b, 0xfee00d00, 0 },
                { 0x1b, 0xfee00900, 1 },
                { 0x1b, 0xfed00d00, 1 },
                { 0x12345, 0, 1 },
        };
        uint64_t value;
        struct fx *f = *state;

        assert_int_equal(cr_control(f, 1, CR_BIT(LSTAR_WRITE) | CR_BIT(EFER_WRITE)), 0);
        back_to_vtl0(f);
        for (size_t i = 0; i < ARRAY_SIZE(writes); i++) {
                uint64_t rip = fx_cpu(f, 0)->regs.rip;

                if (fx_wrmsr(f, 0, writes[i].msr, writes[i].value) != writes[i].gp)
                        fail_msg("%#x = %#llx", writes[i].msr,
                                 (unsigned long long) writes[i].value);
                assert_int_equal(fx_active(f, 0), 0);
                assert_int_equal(fx_cpu(f, 0)->regs.rip, writes[i].gp ? rip : rip + 2);
        }
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), LSTAR)->value, 0xffff800000001234);
        assert_int_equal(fx_plane(f, 0, 0)->sregs.efer, 0xd01); /* LMA is the CPU's own */
        assert_int_equal(fx_plane(f, 0, 0)->sregs.apic_base, 0xfee00d00);
        assert_int_equal(fx_rdmsr(f, 0, LSTAR, &value), 0);
        assert_int_equal(value, 0xffff800000001234);
        assert_int_equal(fx_rdmsr(f, 0, 0x12345, &value), 1);
        assert_int_equal(fx_ctl(f, 0)->stats.intercepts, 0);
}

/* MISC_ENABLE: only when a bit of the mask would change */
static void test_masked(void **state) {
        struct fx *f = *state;
        struct hv_message message;

        assert_int_equal(cr_control(f, SELF, CR_BIT(MISC_ENABLE_WRITE)), 0);
        assert_int_equal(fx_set(f, 0, SELF, 0x11, HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK, 0x800),
                         0);
        back_to_vtl0(f);
        assert_int_equal(fx_wrmsr(f, 0, MISC_ENABLE, 0x9), 0);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), MISC_ENABLE)->value, 0x9);
        assert_int_equal(fx_wrmsr(f, 0, MISC_ENABLE, 0x809), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), MISC_ENABLE)->value, 0x9);
        message = take_message(f);
        assert_int_equal(message.message_type, HV_MESSAGE_X64_MSR_INTERCEPT);
}

/* ---- Ports ---- */

static struct hv_io_port_intercept port_message(struct fx *f) {
        struct hv_message message = take_message(f);
        struct hv_io_port_intercept m;

        assert_int_equal(message.message_type, HV_MESSAGE_X64_IO_PORT_INTERCEPT);
        assert_int_equal(message.payload_size, 128);
        memcpy(&m, message.payload, sizeof(m));
        return m;
}

/* @code is at RIP when the exit comes, @past: it is behind the instruction that made it */
static void port_case(const uint8_t *code, size_t n, unsigned port, unsigned size, bool is_write,
                      bool past, bool imprecise, struct hv_io_port_intercept *ret) {
        struct fx f;

        init(&f, NULL, imprecise);
        assert_int_equal(install(&f, 0, HV_INTERCEPT_X64_IO_PORT, 3, port), 0);
        back_to_vtl0(&f);
        memcpy(f.ram + TINY_CODE, code, n);
        fx_cpu(&f, 0)->regs = (struct kvm_regs){ .rip = TINY_CODE,
                                                 .rflags = 0x202,
                                                 .rdx = port,
                                                 .rax = 0x11,
                                                 .rcx = 3,
                                                 .rsi = 4,
                                                 .rdi = 5,
                                                 .rsp = TINY_STACK };
        assert_int_equal(fx_port(&f, 0, port, size, is_write, past), 0);
        assert_int_equal(fx_active(&f, 0), 1);
        assert_int_equal(fx_plane(&f, 0, 0)->regs.rip, TINY_CODE);
        *ret = port_message(&f);
        assert_int_equal(ret->header.access_type, is_write);
        assert_int_equal(ret->header.rip, TINY_CODE);
        assert_int_equal(ret->port, port);
        assert_int_equal(ret->rax, 0x11);
        assert_int_equal(ret->rcx, 3);
        assert_int_equal(ret->rsi, 4);
        assert_int_equal(ret->rdi, 5);
        fx_deinit(&f);
}

static void test_ports(void **state) {
        static const struct {
                uint8_t code[4], n;
                uint16_t port;
                uint8_t size;
                bool is_write, past, imprecise;
                uint8_t length, info;
        } cases[] = {
                { { 0xec }, 1, 0x510, 1, false, false, false, 1, 1 },          /* in (%dx), %al */
                { { 0xe5, 0x70 }, 2, 0x70, 4, false, false, false, 2, 4 },     /* in $0x70, %eax */
                { { 0x66, 0xef }, 2, 0x510, 2, true, false, false, 2, 2 },     /* out %ax, (%dx) */
                { { 0xe6, 0x70 }, 2, 0x70, 1, true, false, false, 2, 1 },      /* out %al, $0x70 */
                { { 0xf3, 0x6c }, 2, 0x510, 1, false, false, false, 2, 0x19 }, /* rep insb */
                { { 0x90 }, 1, 0x510, 1, true, true, false, 0, 9 },            /* after outsb */
                { { 0xe6, 0x71 }, 2, 0x70, 1, true, true, false, 0, 9 }, /* before another out */
                { { 0xee }, 1, 0x510, 1, true, true, true, 0, 1 }, /* emulated: it may be any */
        };
        struct hv_io_port_intercept m;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                port_case(cases[i].code, cases[i].n, cases[i].port, cases[i].size,
                          cases[i].is_write, cases[i].past, cases[i].imprecise, &m);
                if (m.header.instruction_length != cases[i].length ||
                    m.access_info != cases[i].info || m.instruction_byte_count != cases[i].length ||
                    memcmp(m.instruction_bytes, cases[i].code, cases[i].length) != 0)
                        fail_msg("case %zu: length %u, info %#x", i, m.header.instruction_length,
                                 m.access_info);
        }
}

/* On a VP without VTL1 the access is the VMM's; sizes that no instruction has are refused. */
static void test_port_exits(void **state) {
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 2 });
        fx_start_vtl1(&f);
        assert_int_equal(fx_port(&f, 1, 0x510, 1, false, false), 0);
        assert_int_equal(f.action.kind, VTL_ACTION_TO_VMM);
        assert_int_equal(fx_serve(&f, 1, &(struct vtl_exit){ .kind = VTL_EXIT_PORT, .len = 3 }),
                         -EINVAL);
        fx_deinit(&f);
        fx_init(&f, &(struct fx_options){ 0 });
        fx_start_vtl1(&f);
        assert_int_equal(
                fx_serve(&f, 0, &(struct vtl_exit){ .kind = VTL_EXIT_PORT, .plane = 1, .len = 1 }),
                -EINVAL);
        fx_deinit(&f);
}

/* ---- Options ---- */

static void test_options(void **state) {
        static const struct {
                const char *key, *value;
                int r;
        } sets[] = {
                { "mbec", "accept-unenforced", 0 },
                { "mbec", "accept", -EINVAL },
                { "mbec", "", -EINVAL },
                { "Mbec", "refuse", -ENOENT },
                { "", "refuse", -ENOENT },
                { "kernel-hypercalls", "no", 0 },
                { "strict-execute-pages", "65536", 0 },
                { "strict-execute-pages", "65537", -EINVAL },
                { "strict-execute-pages", "-1", -EINVAL },
                { "strict-execute-pages", " 1", -EINVAL },
                { "strict-execute-pages", "1x", -EINVAL },
                { "strict-execute-pages", "99999999999999999999", -EINVAL },
        };
        const struct vtl_options none = { 0 };
        struct vtl_options o = { 0 };
        char text[16], small[2];
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
                assert_int_equal(vtl_option_set(&o, sets[i].key, sets[i].value), sets[i].r);
        assert_true(o.accept_mbec);
        assert_int_equal(o.strict_execute_pages, 65536);
        /* Every key: the value in words is one that sets it. */
        for (; vtl_option_key(n); n++) {
                struct vtl_options copy = { 0 };

                assert_int_equal(vtl_option_set(&copy, vtl_option_key(n),
                                                vtl_option_value(&o, n, text, sizeof(text))),
                                 0);
                assert_string_equal(vtl_option_value(&copy, n, text, sizeof(text)),
                                    vtl_option_value(&o, n, text, sizeof(text)));
                assert_string_not_equal(vtl_option_choices(n), "");
        }
        assert_int_equal(n, 8);
        assert_string_equal(vtl_option_value(&none, n, text, sizeof(text)), "");
        assert_string_equal(vtl_option_choices(n), "");
        assert_string_equal(vtl_option_value(&o, 7, small, sizeof(small)), "");
}

/* MBEC and the denial of startup, when accepted: offered, recorded, and said to be unenforced */
static void test_accepted(void **state) {
        static const struct vtl_options accept = { .accept_mbec = true,
                                                   .accept_startup_denial = true,
                                                   .apic_enabled = true,
                                                   .refuse_lower_ipi = true,
                                                   .exact_debug_registers = true };
        struct hv_input_enable_partition_vtl in = { .partition_id = HV_PARTITION_ID_SELF,
                                                    .target_vtl = 1,
                                                    .flags = HV_ENABLE_PARTITION_VTL_MBEC };
        const struct hv_input_send_ipi ipi = { .vector = 0x50,
                                               .target_vtl = 0x11,
                                               .processor_mask = 1 };
        struct hv_input_enable_vp_vtl start = { .partition_id = HV_PARTITION_ID_SELF,
                                                .vp_index = 1 };
        union hv_register_value v;
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = 2, .options = &accept });
        assert_int_equal(fx_wrmsr(&f, 0, HV_MSR_GUEST_OS_ID, 1), 0);
        assert_int_equal(fx_get(&f, 0, SELF, 0, HV_REGISTER_VSM_CAPABILITIES, &v), 0);
        assert_int_equal(v.reg64, 0x20002);
        assert_int_equal(fx_call(&f, 0, HVCALL_ENABLE_PARTITION_VTL, &in, sizeof(in)), 0);
        assert_int_equal(fx_get(&f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_STATUS, &v), 0);
        assert_int_equal(v.reg64, 0x310003);
        assert_int_equal(fx_enable_vp(&f, 0, 0), 0);
        assert_true(fx_vp(&f, 0)->lapic.svr & LAPIC_SVR_ENABLE);
        assert_int_equal(fx_vtl_call(&f, 0), 0);
        assert_int_equal(fx_ctl(&f, 0)->switchable, 0); /* every switch carries DR0-3 */
        assert_int_equal(fx_set(&f, 0, SELF, 0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, 1), 0);
        assert_int_equal(fx_get(&f, 0, SELF, 0, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, &v), 0);
        assert_int_equal(v.reg64, 1);
        assert_int_equal(fx_set(&f, 0, SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG, 0x7f), 0);
        assert_int_equal(
                fx_protect_page(&f, 0, HV_MAP_GPA_READABLE | HV_MAP_GPA_USER_EXECUTABLE, 0x180),
                FX_RESULT(0, 1));
        assert_int_equal(((struct vtl_control_header *) f.config.control)->unenforced,
                         VTL_UNENFORCED_MBEC | VTL_UNENFORCED_STARTUP_DENIAL);
        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
        assert_int_equal(fx_ctl(&f, 0)->switchable, 0);
        assert_int_equal(fx_call(&f, 0, HVCALL_SEND_SYNTHETIC_CLUSTER_IPI, &ipi, sizeof(ipi)),
                         HV_STATUS_ACCESS_DENIED);
        assert_int_equal(fx_call(&f, 0, HVCALL_START_VIRTUAL_PROCESSOR, &start, sizeof(start)),
                         HV_STATUS_ACCESS_DENIED);
        fx_deinit(&f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
                T(test_control),
                T(test_union),
                T(test_install),
                T(test_msr_message),
                T(test_msr_busy),
                T(test_msr_carried_out),
                T(test_masked),
                cmocka_unit_test(test_ports),
                cmocka_unit_test(test_port_exits),
                cmocka_unit_test(test_options),
                cmocka_unit_test(test_accepted),
#undef T
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-intercept-io", tests, NULL, NULL);
}
