/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Virtual registers through GetVpRegisters and SetVpRegisters (vsm.md 3.7, 3.8, section 4): who may
 * read and write each of them, and what lists do.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
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

/* ---- Who may, vsm.md 4.2 ---- */

static const struct {
        unsigned caller_vtl;
        uint8_t input_vtl;
        uint32_t vp;
} scenes[] = {
        { 0, 0x00, SELF }, { 0, 0x10, 1 }, { 0, 0x11, SELF }, { 1, 0x00, SELF },
        { 1, 0x10, SELF }, { 1, 0x10, 1 }, { 1, 0x11, 1 },
};

/* A character per scene: '.' success, 5, 6: that status, V: INVALID_REGISTER_VALUE */
#define ARCH_GET ".66...."
#define ARCH_SET "6666..6"
#define BOTH ".66...."
/* Known, but this CPU has none. */
#define NO_WAY_HERE_GET "5665555"
#define NO_WAY_HERE_SET "6666VV6"
#define NO_WAY "5565555" /* no such access: only that VTL1 is above VTL0 is seen before */

static const struct {
        uint32_t name;
        const char *get, *set;
        uint64_t value; /* a legal one */
} rows[] = {
        { HV_REGISTER_EXPLICIT_SUSPEND, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_INTERCEPT_SUSPEND, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_HYPERVISOR_VERSION, BOTH, NO_WAY, 0 },
        { HV_REGISTER_PRIVILEGES_AND_FEATURES_INFO, BOTH, NO_WAY, 0 },
        { HV_REGISTER_FEATURES_INFO, BOTH, NO_WAY, 0 },
        { HV_REGISTER_IMPLEMENTATION_LIMITS_INFO, BOTH, NO_WAY, 0 },
        { HV_REGISTER_HARDWARE_FEATURES_INFO, BOTH, NO_WAY, 0 },
        { HV_REGISTER_HARDWARE_FEATURES_INFO + 1, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_GUEST_CRASH_P0, BOTH, BOTH, 0x1234 },
        { HV_REGISTER_GUEST_CRASH_CTL, BOTH, BOTH, HV_CRASH_CTL_SUPPORTED },
        { HV_REGISTER_GUEST_CRASH_CTL + 1, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_INTERNAL_ACTIVITY_STATE, ARCH_GET, ARCH_SET, HV_ACTIVITY_HALT_SUSPEND },
        { HV_REGISTER_PENDING_INTERRUPTION, ARCH_GET, ARCH_SET, 0x400001 },
        { HV_REGISTER_INTERRUPT_STATE, ARCH_GET, ARCH_SET, 3 },
        { HV_REGISTER_PENDING_EVENT0, "5665..5", "5665..5", 0x60001 },
        { HV_REGISTER_PENDING_EVENT0 + 1, NO_WAY, NO_WAY, 0 },
        { HV_X64_REGISTER_RBX, ARCH_GET, ARCH_SET, 0x1234567890abcdef },
        { HV_X64_REGISTER_RSP, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_RBP, ARCH_GET, ARCH_SET, 0x1234567890abcde0 },
        { HV_X64_REGISTER_RSI, ARCH_GET, ARCH_SET, 0x1234567890abcde1 },
        { HV_X64_REGISTER_RDI, ARCH_GET, ARCH_SET, 0x1234567890abcde2 },
        { HV_X64_REGISTER_R8 + 1, ARCH_GET, ARCH_SET, 0x1234567890abcde3 },
        { HV_X64_REGISTER_R15, ARCH_GET, ARCH_SET, 0x1234567890abcde4 },
        { HV_X64_REGISTER_RIP, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_RFLAGS, ARCH_GET, ARCH_SET, 0x202 },
        { HV_X64_REGISTER_XMM0, ARCH_GET, ARCH_SET, 0x1234567890abcdef },
        { HV_X64_REGISTER_XMM15, ARCH_GET, ARCH_SET, 0x1234567890abcdef },
        { HV_X64_REGISTER_FP_MMX0, ARCH_GET, ARCH_SET, 0x1234567890abcdef },
        { HV_X64_REGISTER_FP_MMX7, ARCH_GET, ARCH_SET, 0x1234567890abcdef },
        { HV_X64_REGISTER_FP_CONTROL_STATUS, ARCH_GET, ARCH_SET, 0x27f },
        { HV_X64_REGISTER_XMM_CONTROL_STATUS, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_XMM_CONTROL_STATUS + 1, NO_WAY, NO_WAY, 0 },
        { HV_X64_REGISTER_CR0, ARCH_GET, ARCH_SET, 0x80050031 },
        { HV_X64_REGISTER_CR2, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_CR3, ARCH_GET, ARCH_SET, TINY_PML4 | 8 },
        { HV_X64_REGISTER_CR4, ARCH_GET, ARCH_SET, 0x20 },
        { HV_X64_REGISTER_CR8, ARCH_GET, ARCH_SET, 3 },
        { HV_X64_REGISTER_XFEM, ARCH_GET, NO_WAY, 1 },
        { HV_X64_REGISTER_DR0, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_DR3, ARCH_GET, ARCH_SET, 0x7001 },
        { HV_X64_REGISTER_DR6, ARCH_GET, ARCH_SET, 0xffff0ff1 },
        { HV_X64_REGISTER_DR7, ARCH_GET, ARCH_SET, 0x401 },
        { HV_X64_REGISTER_DR7 + 1, NO_WAY, NO_WAY, 0 },
        { HV_X64_REGISTER_ES, ARCH_GET, ARCH_SET, 0x7000 }, /* the base */
        { HV_X64_REGISTER_DS, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_GS, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_LDTR, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_TR + 1, NO_WAY, NO_WAY, 0 },
        { HV_X64_REGISTER_TSC, ARCH_GET, "6666556", 0 },
        { HV_X64_REGISTER_EFER, ARCH_GET, ARCH_SET, 0x501 },
        { HV_X64_REGISTER_KERNEL_GS_BASE, ARCH_GET, ARCH_SET, 0xffff800000007000 },
        { HV_X64_REGISTER_PAT, ARCH_GET, ARCH_SET, 0x0606060606060606 },
        { HV_X64_REGISTER_SYSENTER_CS, ARCH_GET, ARCH_SET, 8 },
        { HV_X64_REGISTER_SYSENTER_EIP, ARCH_GET, ARCH_SET, 0x7000 },
        { HV_X64_REGISTER_SYSENTER_ESP, ARCH_GET, ARCH_SET, 0x7001 },
        { HV_X64_REGISTER_STAR, ARCH_GET, ARCH_SET, 0x0023001000000000 },
        { HV_X64_REGISTER_LSTAR, ARCH_GET, ARCH_SET, 0xffff800000007000 },
        { HV_X64_REGISTER_CSTAR, ARCH_GET, ARCH_SET, 0xffff800000007001 },
        { HV_X64_REGISTER_SFMASK, ARCH_GET, ARCH_SET, 0x700 },
        { HV_X64_REGISTER_TSC_AUX, ARCH_GET, ARCH_SET, 7 },
        { HV_X64_REGISTER_XSS, NO_WAY_HERE_GET, NO_WAY_HERE_SET, 0 },
        { HV_X64_REGISTER_IA32_MISC_ENABLE, ARCH_GET, ARCH_SET, 0x801 },
        { HV_X64_REGISTER_INITIAL_APIC_ID, BOTH, NO_WAY, 0 },
        { HV_REGISTER_VP_RUNTIME, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_HYPERCALL, BOTH, NO_WAY, 0 },
        { HV_REGISTER_GUEST_OS_ID, BOTH, NO_WAY, 0 },
        { HV_REGISTER_VP_INDEX, BOTH, NO_WAY, 0 },
        { HV_REGISTER_TIME_REF_COUNT, BOTH, NO_WAY, 0 },
        { HV_REGISTER_TIME_REF_COUNT + 1, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_VP_ASSIST_PAGE, BOTH, BOTH, 0x150001 },
        { HV_REGISTER_REFERENCE_TSC, BOTH, NO_WAY, 0 },
        { HV_REGISTER_SINT0, BOTH, BOTH, 0x40 },
        { HV_REGISTER_SINT15, BOTH, BOTH, 0x20041 },
        { HV_REGISTER_SCONTROL, BOTH, BOTH, 0 },
        { HV_REGISTER_SVERSION, BOTH, NO_WAY, 1 },
        { HV_REGISTER_SIFP, BOTH, BOTH, 0x151001 },
        { HV_REGISTER_SIPP, BOTH, BOTH, 0x152001 },
        { HV_REGISTER_EOM, BOTH, BOTH, 0 },
        { HV_REGISTER_SIRBP, BOTH, BOTH, 0x153001 },
        { HV_REGISTER_SIRBP + 1, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_STIMER0_CONFIG, BOTH, BOTH, 0x10008 },
        { HV_REGISTER_STIMER3_COUNT, BOTH, BOTH, 0x123456789ab },
        { HV_REGISTER_STIMER3_COUNT + 1, NO_WAY, NO_WAY, 0 },
        { 0xd0000, NO_WAY, NO_WAY, 0 }, /* VsmVpVtlControl, replaced by the assist page */
        { HV_REGISTER_VSM_CODE_PAGE_OFFSETS, BOTH, NO_WAY, 0x48020 },
        { HV_REGISTER_VSM_VP_STATUS, BOTH, NO_WAY, 0 },
        { HV_REGISTER_VSM_PARTITION_STATUS, BOTH, NO_WAY, 0 },
        { HV_REGISTER_VSM_VINA, "566.55.", "566.55.", 0x530 },
        { HV_REGISTER_VSM_CAPABILITIES, BOTH, NO_WAY, 0 },
        { HV_REGISTER_VSM_PARTITION_CONFIG, "566.55.", "566.55.", 0x1f },
        { HV_REGISTER_GUEST_VSM_PARTITION_CONFIG, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0, "666....", "666....", 2 },
        { HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0 + 1, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_VSM_VP_WAIT_FOR_TLB_LOCK, NO_WAY, NO_WAY, 0 },
        { HV_REGISTER_CR_INTERCEPT_CONTROL, "666.66.", "666.66.", 0 },
        { HV_REGISTER_CR_INTERCEPT_CR0_MASK, "666.66.", "666.66.", 0x10000 },
        { HV_REGISTER_CR_INTERCEPT_CR4_MASK, "666.66.", "666.66.", 0x100 },
        { HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK, "666.66.", "666.66.", 1 },
        { HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK + 1, NO_WAY, NO_WAY, 0 },
        { UINT32_MAX, NO_WAY, NO_WAY, 0 },
};

static uint64_t status_of(char c) {
        switch (c) {
        case '.':
                return HV_STATUS_SUCCESS;
        case '5':
                return HV_STATUS_INVALID_PARAMETER;
        case '6':
                return HV_STATUS_ACCESS_DENIED;
        default:
                return HV_STATUS_INVALID_REGISTER_VALUE;
        }
}

/* What a call that fails must leave alone, but for the result and the registers that carry it. */
struct all_state {
        struct model_vcpu cpu[2][2];
        struct vtl_vp vp[2];
};

static void take_state(struct fx *f, struct all_state *ret) {
        memset(ret, 0, sizeof(*ret));
        for (unsigned vp = 0; vp < 2; vp++) {
                ret->vp[vp] = *fx_vp(f, vp);
                ret->vp[vp].lapic.now = 0; /* the time of the last exit */
                for (unsigned plane = 0; plane < 2; plane++) {
                        struct model_vcpu *c = &ret->cpu[vp][plane];

                        *c = *fx_plane(f, vp, plane);
                        memset(&c->exit, 0, sizeof(c->exit));
                        c->regs.rax = c->regs.rcx = c->regs.rdx = c->regs.r8 = c->regs.rip = 0;
                        c->exit_rip = c->exit_length = 0;
                        c->pending = false;
                }
        }
}

static void check_scene(struct fx *f, size_t r, size_t s) {
        bool legal_set = rows[r].set[s] == '.', legal_get = rows[r].get[s] == '.';
        struct all_state *before = malloc(sizeof(*before)), *after = malloc(sizeof(*after));
        union hv_register_value v;
        uint64_t status;

        if (scenes[s].caller_vtl == 0)
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
        take_state(f, before);
        status = fx_get(f, 0, scenes[s].vp, scenes[s].input_vtl, rows[r].name, &v);
        if (status != status_of(rows[r].get[s]))
                fail_msg("get %#x, scene %zu: %#llx", rows[r].name, s, (unsigned long long) status);
        take_state(f, after);
        if (!legal_get)
                assert_int_equal(v.low64, 0xeeeeeeeeeeeeeeee); /* nothing was written */
        if (rows[r].get[s] == '6')
                assert_memory_equal(before, after, sizeof(*before));
        *before = *after; /* a first look at VTL1 puts its initial context into the vCPU */
        status = fx_set(f, 0, scenes[s].vp, scenes[s].input_vtl, rows[r].name, rows[r].value);
        if (status != status_of(rows[r].set[s]))
                fail_msg("set %#x, scene %zu: %#llx", rows[r].name, s, (unsigned long long) status);
        take_state(f, after);
        if (!legal_set)
                assert_memory_equal(before, after, sizeof(*before));
        if (legal_set && legal_get) {
                status = fx_get(f, 0, scenes[s].vp, scenes[s].input_vtl, rows[r].name, &v);
                assert_int_equal(status, 0);
                if (v.low64 != rows[r].value)
                        fail_msg("%#x, scene %zu: wrote %#llx, read %#llx", rows[r].name, s,
                                 (unsigned long long) rows[r].value, (unsigned long long) v.low64);
        }
        assert_int_equal(f->error, 0);
        free(before);
        free(after);
}

static void test_access_matrix(void **state) {
        for (size_t r = 0; r < ARRAY_SIZE(rows); r++)
                for (size_t s = 0; s < ARRAY_SIZE(scenes); s++) {
                        struct fx f;

                        init(&f);
                        check_scene(&f, r, s);
                        fx_deinit(&f);
                }
}

/* ---- The header ---- */

static void test_header(void **state) {
        static const struct {
                uint64_t id;
                uint32_t vp;
                uint8_t vtl;
                uint64_t status;
        } headers[] = {
                { 42, SELF, 0, HV_STATUS_ACCESS_DENIED },
                { HV_PARTITION_ID_SELF, 2, 0, HV_STATUS_INVALID_VP_INDEX },
                { HV_PARTITION_ID_SELF, UINT32_MAX, 0, HV_STATUS_INVALID_VP_INDEX },
                { HV_PARTITION_ID_SELF, SELF, 0x20, HV_STATUS_INVALID_PARAMETER },
                { HV_PARTITION_ID_SELF, SELF, 0x80, HV_STATUS_INVALID_PARAMETER },
                { HV_PARTITION_ID_SELF, SELF, 0x13, HV_STATUS_INVALID_PARAMETER },
                { HV_PARTITION_ID_SELF, SELF, 0x1f, HV_STATUS_INVALID_PARAMETER },
                { HV_PARTITION_ID_SELF, SELF, 0x12, HV_STATUS_ACCESS_DENIED },
                { HV_PARTITION_ID_SELF, 0, 0, HV_STATUS_SUCCESS },
                { HV_PARTITION_ID_SELF, SELF, 0x02, HV_STATUS_SUCCESS }, /* UseTargetVtl is 0 */
        };
        struct {
                struct hv_input_vp_registers head;
                union {
                        uint32_t name;
                        struct hv_register_assoc assoc;
                } element;
        } in = { .element = { .assoc = { .name = HV_REGISTER_SCONTROL } } };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
                in.head = (struct hv_input_vp_registers){
                        headers[i].id, headers[i].vp, headers[i].vtl, { 7, 7, 7 }
                };
                assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_GET_VP_REGISTERS, 1), &in, 20) &
                                         0xffff,
                                 headers[i].status);
                assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_SET_VP_REGISTERS, 1), &in, 48) &
                                         0xffff,
                                 headers[i].status);
        }
}

/* ---- Lists: in order, up to the first that fails (vsm.md 2.6, 3.8) ---- */

static void test_lists(void **state) {
        struct {
                struct hv_input_vp_registers head;
                struct hv_register_assoc assoc[3];
        } set = { { .partition_id = HV_PARTITION_ID_SELF, .vp_index = SELF, .input_vtl = 0x10 },
                  { { .name = HV_X64_REGISTER_SYSENTER_CS, .value = { .reg64 = 1 } },
                    { .name = HV_X64_REGISTER_LSTAR, .value = { .reg64 = 1ull << 47 } },
                    { .name = HV_X64_REGISTER_SFMASK, .value = { .reg64 = 3 } } } };
        struct {
                struct hv_input_vp_registers head;
                uint32_t names[3];
        } get = { set.head,
                  { HV_X64_REGISTER_SYSENTER_CS, HV_X64_REGISTER_XMM15 + 11,
                    HV_X64_REGISTER_SFMASK } };
        struct fx *f = *state;
        uint64_t values[6];

        assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_SET_VP_REGISTERS, 3), &set, sizeof(set)),
                         FX_RESULT(HV_STATUS_INVALID_REGISTER_VALUE, 1));
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), 0x174)->value, 1);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), 0xc0000082)->value, 0);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), 0xc0000084)->value, 0);
        set.assoc[1].value.reg64 = 2;
        assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_SET_VP_REGISTERS, 3), &set, sizeof(set)),
                         FX_RESULT(0, 3));
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), 0xc0000084)->value, 3);
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 1), 0xc0000084)->value, 0);

        memset(fx_output(f, 0), 0xee, 48);
        assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_GET_VP_REGISTERS, 3), &get, sizeof(get)),
                         FX_RESULT(HV_STATUS_INVALID_PARAMETER, 1));
        memcpy(values, fx_output(f, 0), sizeof(values));
        assert_int_equal(values[0], 1);
        assert_int_equal(values[1], 0);
        for (unsigned i = 2; i < 6; i++)
                assert_int_equal(values[i], 0xeeeeeeeeeeeeeeee);
        get.names[1] = HV_X64_REGISTER_LSTAR;
        assert_int_equal(fx_call(f, 0, FX_CONTROL(HVCALL_GET_VP_REGISTERS, 3), &get, sizeof(get)),
                         FX_RESULT(0, 3));
        memcpy(values, fx_output(f, 0), sizeof(values));
        assert_int_equal(values[2], 2);
        assert_int_equal(values[4], 3);
}

/* Names and values in XMM registers, after the header in RDX and R8 (vsm.md 2.5) */
static void test_fast_lists(void **state) {
        struct fx *f = *state;
        uint64_t *xmm = (uint64_t *) (void *) &fx_cpu(f, 0)->xsave.region[40];
        const uint64_t header[2] = { HV_PARTITION_ID_SELF, SELF | 0x10ull << 32 };

        /* Four names fill XMM0, four values XMM1 to XMM4; XMM5 stays. */
        plane_model_msr(fx_plane(f, 0, 0), 0xc0000081)->value = 0x81;
        plane_model_msr(fx_plane(f, 0, 0), 0xc0000082)->value = 0x82;
        plane_model_msr(fx_plane(f, 0, 0), 0xc0000083)->value = 0x83;
        xmm[0] = HV_X64_REGISTER_STAR | (uint64_t) HV_X64_REGISTER_LSTAR << 32;
        xmm[1] = HV_X64_REGISTER_CSTAR | (uint64_t) HV_X64_REGISTER_SYSENTER_CS << 32;
        for (unsigned i = 2; i < 16; i++)
                xmm[i] = 0xee;
        fx_cpu(f, 0)->xsave.region[128] = 0; /* XSTATE_BV: nothing in use yet */
        assert_int_equal(fx_hypercall(f, 0,
                                      FX_CONTROL(HVCALL_GET_VP_REGISTERS, 4) | HV_CONTROL_FAST,
                                      header[0], header[1]),
                         FX_RESULT(0, 4));
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(xmm[2 + 2 * i], 0x81 + i);
                assert_int_equal(xmm[3 + 2 * i], 0);
        }
        assert_int_equal(xmm[10], 0xee);
        assert_int_equal(fx_cpu(f, 0)->xsave.region[128], 2); /* SSE */
        assert_int_equal(fx_cpu(f, 0)->regs.rdx, header[0]);
        assert_int_equal(fx_cpu(f, 0)->regs.r8, header[1]);

        xmm[0] = HV_X64_REGISTER_STAR;
        xmm[1] = 0;
        xmm[2] = 0x91;
        xmm[3] = 0;
        assert_int_equal(fx_hypercall(f, 0,
                                      FX_CONTROL(HVCALL_SET_VP_REGISTERS, 1) | HV_CONTROL_FAST,
                                      header[0], header[1]),
                         FX_RESULT(0, 1));
        assert_int_equal(plane_model_msr(fx_plane(f, 0, 0), 0xc0000081)->value, 0x91);
}

/* Somebody wants this VP: the list goes on where it stopped, one element at a time (vsm.md 2.7). */
static void test_continuation(void **state) {
        struct {
                struct hv_input_vp_registers head;
                uint32_t names[3];
        } get = { { .partition_id = HV_PARTITION_ID_SELF, .vp_index = SELF, .input_vtl = 0 },
                  { HV_REGISTER_VP_INDEX, HV_REGISTER_SVERSION, HV_X64_REGISTER_INITIAL_APIC_ID } };
        uint64_t control = FX_CONTROL(HVCALL_GET_VP_REGISTERS, 3);
        struct fx *f = *state;

        memcpy(fx_input(f, 0), &get, sizeof(get));
        memset(fx_output(f, 0), 0xee, 48);
        fx_ctl(f, 0)->kicked = 1;
        for (uint64_t i = 1; i <= 2; i++) {
                (void) fx_hypercall(f, 0, control, FX_INPUT, FX_OUTPUT);
                control = FX_CONTROL(HVCALL_GET_VP_REGISTERS, 3) | i << HV_CONTROL_REP_START_SHIFT;
                assert_int_equal(fx_cpu(f, 0)->regs.rcx, control);
                assert_int_equal(fx_cpu(f, 0)->regs.rip, FX_HYPERCALL_PAGE + FX_OUT_HYPERCALL);
        }
        assert_int_equal(fx_hypercall(f, 0, control, FX_INPUT, FX_OUTPUT), FX_RESULT(0, 3));
        assert_int_equal(((uint64_t *) fx_output(f, 0))[2], 1);
        fx_ctl(f, 0)->kicked = 0;
}

/* APIC_BASE: VTL1's is the engine's, VTL0's lives in the vCPU; a write may not change it. */
static void test_apic_base(void **state) {
        static const struct {
                size_t scene;
                uint64_t value, status;
        } reads[] = {
                { 0, 0xfee00900, 0 },
                { 1, 0, HV_STATUS_ACCESS_DENIED },
                { 2, 0, HV_STATUS_ACCESS_DENIED },
                { 3, 0xfee00900, 0 },
                { 4, 0xfee00900, 0 },
                { 5, 0xfee00800, 0 },
                { 6, 0xfee00800, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(reads); i++) {
                union hv_register_value v;
                uint32_t vp = scenes[reads[i].scene].vp;
                uint8_t vtl = scenes[reads[i].scene].input_vtl;
                struct fx f;

                init(&f);
                if (scenes[reads[i].scene].caller_vtl == 0)
                        assert_int_equal(fx_vtl_return(&f, 0, true), 0);
                assert_int_equal(fx_get(&f, 0, vp, vtl, HV_X64_REGISTER_APIC_BASE, &v),
                                 reads[i].status);
                if (reads[i].status == 0)
                        assert_int_equal(v.reg64, reads[i].value);
                assert_int_equal(fx_set(&f, 0, vp, vtl, HV_X64_REGISTER_APIC_BASE, reads[i].value),
                                 reads[i].status);
                if (reads[i].status == 0)
                        assert_int_equal(fx_set(&f, 0, vp, vtl, HV_X64_REGISTER_APIC_BASE,
                                                reads[i].value ^ 0x400),
                                         HV_STATUS_INVALID_PARAMETER);
                fx_deinit(&f);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_access_matrix),
                cmocka_unit_test_setup_teardown(test_header, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_fast_lists, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_continuation, set_up, tear_down),
                cmocka_unit_test(test_apic_base),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-registers", tests, set_up_group,
                                           tear_down_group);
}
