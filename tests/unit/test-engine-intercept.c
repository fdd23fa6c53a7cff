/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Accesses that VTL1 forbids (vsm.md section 8): the message in VTL1's slot byte by byte, what
 * happens to the access, and when nobody can be told.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <cpuid.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/memory.h"
#include "vtl/switch.h"

#define SELF HV_VP_INDEX_SELF
#define VECTOR 0x60
#define PAGE 0x180000ull
#define NEXT_PAGE (PAGE + HV_PAGE_SIZE)
#define SIMP 0x153000ull
#define OVERLAY 0x154000ull
#define NONE 0u
#define RO HV_MAP_GPA_READABLE
#define OPEN HV_MAP_GPA_ALL

/* VTL1 ready for intercepts, VTL0 active. */
static int set_up(void **state) {
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 2 });
        fx_start_vtl1(f);
        fx_enable_protection(f, 0);
        fx_enable_intercepts(f, 0, VECTOR);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, SIMP | 1), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static void protect(struct fx *f, uint64_t gpa, uint32_t mask) {
        bool in_vtl0 = fx_active(f, 0) == 0;
        struct kvm_regs regs = fx_cpu(f, 0)->regs;

        if (in_vtl0)
                assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_protect_page(f, 0, mask, gpa >> HV_PAGE_SHIFT), FX_RESULT(0, 1));
        if (in_vtl0) {
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
                fx_cpu(f, 0)->regs = regs;
        }
}

/* VTL0 is at an instruction. */
static void at_code(struct fx *f, const void *code, size_t n) {
        struct kvm_regs *regs = &fx_cpu(f, 0)->regs;

        memcpy(f->ram + TINY_CODE, code, n);
        *regs = (struct kvm_regs){ .rip = TINY_CODE,
                                   .rsp = TINY_STACK,
                                   .rflags = 0x10202,
                                   .rax = 0xa0a1a2a3a4a5a6a7,
                                   .rbx = PAGE + 8,
                                   .rcx = 3,
                                   .rdx = 4,
                                   .rsi = 5,
                                   .rdi = 6,
                                   .rbp = 7,
                                   .r8 = 8,
                                   .r9 = 9,
                                   .r10 = 10,
                                   .r11 = 11,
                                   .r12 = 12,
                                   .r13 = 13,
                                   .r14 = 14,
                                   .r15 = 15 };
}

static struct hv_message message_of(struct fx *f) {
        struct hv_message m;

        assert_int_equal(plane_model_read(f->model, 1, SIMP, &m, sizeof(m)), 0);
        return m;
}

static void clear_message(struct fx *f) {
        static const uint32_t none;

        assert_int_equal(plane_model_write(f->model, 1, SIMP, &none, sizeof(none)), 0);
}

/* VTL1's handler: takes the interrupt, empties the slot. */
static void take_interrupt(struct fx *f) {
        assert_int_equal(fx_active(f, 0), 1);
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, VECTOR));
        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        clear_message(f);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);
}

/* The payload as vsm.md 8.6 has it, by offsets and not by the engine's structure. */
static void put(uint8_t *payload, size_t at, uint64_t value, size_t n) {
        memcpy(payload + at, &value, n);
}

struct expected {
        uint8_t length, access;
        uint16_t state;
        bool gva_valid;
        uint64_t gva, gpa, rip, rflags;
        const void *bytes;
        uint8_t n_bytes;
};

static void check_message(struct fx *f, const struct expected *e, const struct kvm_regs *r) {
        uint8_t want[256] = { 0 };
        uint8_t *p = want + 16;
        const uint64_t gpr[] = { r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                                 r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 };
        struct hv_message got = message_of(f);

        put(want, 0, 0x80000001, 4);
        put(want, 4, 240, 1);
        put(p, 0, 0, 4);
        put(p, 4, e->length, 1);
        put(p, 5, e->access, 1);
        put(p, 6, e->state, 2);
        put(p, 8 + 8, 0xffffffff, 4); /* CS */
        put(p, 8 + 12, TINY_CS64, 2);
        put(p, 8 + 14, 0xa09b, 2);
        put(p, 24, e->rip, 8);
        put(p, 32, e->rflags, 8);
        put(p, 40, 6, 4);
        put(p, 44, e->n_bytes, 1);
        put(p, 45, e->gva_valid, 1);
        put(p, 48, e->gva, 8);
        put(p, 56, e->gpa, 8);
        if (e->n_bytes > 0)
                memcpy(p + 64, e->bytes, e->n_bytes);
        for (unsigned i = 0; i < 2; i++) { /* DS, SS */
                put(p, 80 + 16 * i + 8, 0xffffffff, 4);
                put(p, 80 + 16 * i + 12, TINY_SS, 2);
                put(p, 80 + 16 * i + 14, 0xc093, 2);
        }
        for (unsigned i = 0; i < 16; i++)
                put(p, 112 + 8 * i, gpr[i], 8);
        for (unsigned i = 0; i < sizeof(want); i++)
                if (((uint8_t *) &got)[i] != want[i])
                        fail_msg("byte %u of the message: %#x, not %#x", i, ((uint8_t *) &got)[i],
                                 want[i]);
}

#define STATE_LONG 0x1c                                   /* CPL 0, PE, AM, LMA */
static const uint8_t store_rax[] = { 0x48, 0x89, 0x03 };  /* mov %rax, (%rbx) */
static const uint8_t load_rax[] = { 0x48, 0x8b, 0x03 };   /* mov (%rbx), %rax */
static const uint8_t add_rax[] = { 0x48, 0x01, 0x43, 4 }; /* add %rax, 4(%rbx) */

/* ---- EFAULT with a precise RIP ---- */

static void test_fault(void **state) {
        static const struct {
                const uint8_t *code;
                uint8_t n;
                uint32_t mask;
                uint64_t page; /* the one that is protected */
                uint64_t rbx;
                uint8_t access;
                uint64_t gpa;
        } rows[] = {
                { load_rax, 3, NONE, PAGE, PAGE + 8, HV_INTERCEPT_ACCESS_READ, PAGE + 8 },
                { store_rax, 3, NONE, PAGE, PAGE + 8, HV_INTERCEPT_ACCESS_WRITE, PAGE + 8 },
                { store_rax, 3, RO, PAGE, PAGE + 0xff8, HV_INTERCEPT_ACCESS_WRITE, PAGE + 0xff8 },
                { add_rax, 4, RO, PAGE, PAGE + 0x10, HV_INTERCEPT_ACCESS_WRITE, PAGE + 0x14 },
                /* Over the end of an open page: the first forbidden byte */
                { load_rax, 3, NONE, NEXT_PAGE, PAGE + 0xffd, HV_INTERCEPT_ACCESS_READ, NEXT_PAGE },
                /* The page tables themselves: every walk of the host's writes */
                { load_rax, 3, RO, TINY_PT, PAGE + 8, HV_INTERCEPT_ACCESS_WRITE,
                  TINY_PT + (PAGE >> 12) * 8 },
                { load_rax, 3, NONE, TINY_PD, PAGE + 8, HV_INTERCEPT_ACCESS_READ, TINY_PD },
        };
        struct fx *f = *state;

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                bool fetch = rows[i].page == TINY_PT ||
                             rows[i].page == TINY_PD; /* the code's walk comes first */
                struct expected e = { .length = rows[i].n,
                                      .access = rows[i].access,
                                      .state = STATE_LONG,
                                      .gva_valid = true,
                                      .gva = rows[i].gpa,
                                      .gpa = rows[i].gpa,
                                      .rip = TINY_CODE,
                                      .rflags = 0x10202,
                                      .bytes = rows[i].code,
                                      .n_bytes = rows[i].n };
                struct kvm_regs before;

                protect(f, rows[i].page, rows[i].mask);
                at_code(f, rows[i].code, rows[i].n);
                fx_cpu(f, 0)->regs.rbx = rows[i].rbx;
                before = fx_cpu(f, 0)->regs;
                if (fetch) {
                        e.gva = TINY_CODE;
                        e.gpa = rows[i].page +
                                (rows[i].page == TINY_PT ? (TINY_CODE >> 12) * 8 : 0);
                        e.length = e.n_bytes = 0;
                }
                assert_int_equal(fx_fault(f, 0), 0);
                assert_int_equal(fx_active(f, 0), 1);
                /* A nested walk is reported with the instruction, which could be read. */
                if (fetch && rows[i].mask == RO)
                        e.length = e.n_bytes = rows[i].n;
                check_message(f, &e, &before);
                assert_int_equal(f->events[VTL_EVENT_INTERCEPT], i + 1);
                assert_int_equal(f->last_event.gpa, e.gpa);
                assert_int_equal(f->last_event.data, rows[i].access);
                assert_int_equal(fx_ctl(f, 0)->stats.intercepts, i + 1);
                assert_int_equal(f->p->header->intercepts, i + 1);
                assert_int_equal(f->action.irq_window, 1);

                take_interrupt(f);
                assert_int_equal(fx_protect_page(f, 0, OPEN, rows[i].page >> HV_PAGE_SHIFT),
                                 FX_RESULT(0, 1));
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
                assert_int_equal(fx_active(f, 0), 0);
                assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE);
                assert_int_equal(fx_cpu(f, 0)->regs.rsp, TINY_STACK);
                assert_int_equal(fx_cpu(f, 0)->regs.rflags, 0x10202);
        }
}

static void test_fetch(void **state) {
        struct fx *f = *state;
        struct expected e = { .access = HV_INTERCEPT_ACCESS_EXECUTE,
                              .state = STATE_LONG,
                              .gva_valid = true,
                              .gva = PAGE + 0x10,
                              .gpa = PAGE + 0x10,
                              .rip = PAGE + 0x10,
                              .rflags = 0x10202 };
        struct kvm_regs before;

        at_code(f, load_rax, 3);
        fx_cpu(f, 0)->regs.rip = PAGE + 0x10;
        before = fx_cpu(f, 0)->regs;
        protect(f, PAGE, NONE);
        assert_int_equal(fx_fault(f, 0), 0);
        check_message(f, &e, &before);
}

/* Addresses in vector registers: only the elements that the mask selects are touched. */
static void test_gather(void **state) {
        static const uint8_t gather[] = { 0xc4, 0xe2, 0x69, 0x90, 0x04, 0x0b };
        struct fx *f = *state;
        uint32_t *fpu = fx_cpu(f, 0)->xsave.region;

        protect(f, PAGE, NONE);
        /* vpgatherdd %xmm2, (%rbx,%xmm1), %xmm0 */
        at_code(f, gather, sizeof(gather));
        fpu[128] = 2; /* XSTATE_BV: SSE */
        for (unsigned i = 0; i < 4; i++) {
                fpu[40 + 4 + i] = i == 2 ? 0x20 : i == 1 ? 0x10 : (uint32_t) -0x1000; /* XMM1 */
                fpu[40 + 8 + i] = i == 1 ? 0 : 0x80000000;                            /* XMM2 */
        }
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 1);
        assert_int_equal(f->last_event.gpa, PAGE + 8 + 0x20);
        assert_int_equal(f->last_event.data, HV_INTERCEPT_ACCESS_READ);
}

/* How much XSAVE writes depends on what the VP has enabled. */
static void test_xsave(void **state) {
        static const uint8_t xsave[] = { 0x0f, 0xae, 0x23 }; /* xsave (%rbx) */
        uint32_t size, offset, ecx, edx;
        struct fx *f = *state;

        if (!__get_cpuid_count(0xd, 2, &size, &offset, &ecx, &edx) || offset != 576 || size != 256)
                skip(); /* the host has no AVX */
        protect(f, PAGE, RO);
        for (unsigned avx = 0; avx < 2; avx++) {
                at_code(f, xsave, sizeof(xsave));
                fx_cpu(f, 0)->regs.rbx = PAGE - 576; /* room for the legacy area and the header */
                fx_cpu(f, 0)->sregs.cr4 |= 1u << 18;
                fx_cpu(f, 0)->xcrs.xcrs[0].value = avx ? 7 : 3;
                assert_int_equal(fx_fault(f, 0), 0);
                assert_int_equal(f->events[VTL_EVENT_INTERCEPT], avx);
        }
        assert_int_equal(f->last_event.gpa, PAGE);
        assert_int_equal(f->last_event.data, HV_INTERCEPT_ACCESS_WRITE);
}

/* An event that was being delivered: the instruction at RIP is innocent. */
static void test_event_delivery(void **state) {
        struct fx *f = *state;
        struct expected e = { .access = HV_INTERCEPT_ACCESS_WRITE,
                              .state = STATE_LONG | 1 << 6,
                              .gva_valid = true,
                              .gva = TINY_STACK - 40,
                              .gpa = TINY_STACK - 40,
                              .rip = TINY_CODE,
                              .rflags = 0x10202 };
        struct kvm_vcpu_events *events;
        struct kvm_regs before;
        struct hv_message m;

        protect(f, TINY_STACK - HV_PAGE_SIZE, RO);
        at_code(f, load_rax, 3);
        before = fx_cpu(f, 0)->regs;
        events = &fx_cpu(f, 0)->events;
        events->interrupt.injected = 1;
        events->interrupt.nr = 0x50;
        assert_int_equal(fx_fault(f, 0), 0);
        m = message_of(f);
        /* Which of the five pushes is told first is the CPU's matter. */
        memcpy(&e.gpa, m.payload + 56, 8);
        assert_in_range(e.gpa, TINY_STACK - 40, TINY_STACK - 8);
        e.gva = e.gpa;
        check_message(f, &e, &before);
        /* It stays injected, and KVM delivers it when the stack is open. */
        assert_int_equal(fx_plane(f, 0, 0)->events.interrupt.injected, 1);
}

/* ---- Nobody can be told: nothing happens, VTL0 faults again (vsm.md 8.5, 4) ---- */

static void fault_untold(struct fx *f) {
        at_code(f, store_rax, 3);
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        assert_int_equal(fx_cpu(f, 0)->regs.rip,
                         fx_active(f, 0) == 0 ? TINY_CODE : fx_cpu(f, 0)->regs.rip);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 0);
        assert_int_equal(fx_ctl(f, 0)->stats.intercepts, 0);
}

static void test_untold(void **state) {
        static const uint32_t busy = 0x12345678;
        struct fx *f = *state;

        protect(f, PAGE, RO);
        assert_int_equal(plane_model_write(f->model, 1, SIMP, &busy, sizeof(busy)), 0);
        for (unsigned i = 0; i < 40; i++) /* for ever, if VTL1 wants it so */
                fault_untold(f);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(message_of(f).message_type, busy);
        assert_int_equal(message_of(f).payload_size, 0);

        clear_message(f);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SINT0, HV_SINT_MASKED | VECTOR), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        fault_untold(f);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(message_of(f).message_type, 0);
}

/* A polled SINT has the message and no interrupt; AutoEOI leaves no bit in service. */
static void test_sint_modes(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RO);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SINT0, HV_SINT_POLLING), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        at_code(f, store_rax, 3);
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 0);
        assert_int_equal(message_of(f).message_type, HV_MESSAGE_GPA_INTERCEPT);

        clear_message(f);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SINT0, HV_SINT_AUTO_EOI | VECTOR), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        at_code(f, store_rax, 3);
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 1);
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, VECTOR));
        assert_int_equal(lapic_ppr(&fx_vp(f, 0)->lapic), 0);
}

/* The slot is in the shadow while SIMP is off, and shows when it is enabled (vsm.md 8.5). */
static void test_no_simp(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RO);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, SIMP), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        at_code(f, store_rax, 3);
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(message_of(f).message_type, 0); /* RAM */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, SIMP | 1), 0);
        assert_int_equal(message_of(f).message_type, HV_MESSAGE_GPA_INTERCEPT);
        /* VTL0 never sees it. */
        assert_int_equal(plane_model_rights(f->model, 0, SIMP >> HV_PAGE_SHIFT), 3);
        assert_int_equal(f->ram[SIMP], 0);
}

/* ---- Faults without a forbidden access ---- */

static void test_equal_faults(void **state) {
        struct fx *f = *state;

        at_code(f, store_rax, 3);
        for (unsigned i = 0; i < 15; i++)
                assert_int_equal(fx_fault(f, 0), 0);
        fx_cpu(f, 0)->regs.rcx++; /* progress of a repeated instruction */
        for (unsigned i = 0; i < 15; i++)
                assert_int_equal(fx_fault(f, 0), 0);
        fx_cpu(f, 0)->regs.rip++;
        for (unsigned i = 0; i < 15; i++) {
                assert_int_equal(fx_fault(f, 0), 0);
                assert_int_equal(f->action.kind, VTL_ACTION_RUN);
        }
        assert_int_equal(fx_fault(f, 0), -ENOTRECOVERABLE);
        assert_int_equal(f->action.kind, VTL_ACTION_STOP);
        assert_int_equal(f->action.data, ENOTRECOVERABLE);
        assert_int_equal(f->p->header->stopped, ENOTRECOVERABLE);
        assert_int_equal(f->events[VTL_EVENT_STOPPED], 1);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 0);
}

/* A store to a read-only page of the hypervisor's is the VTL's own mistake (vsm.md 8.4). */
static void test_overlay_store(void **state) {
        struct fx *f = *state;

        for (unsigned vtl = 0; vtl < 2; vtl++) {
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_GUEST_OS_ID, 1), 0);
                assert_int_equal(fx_wrmsr(f, 0, HV_MSR_HYPERCALL, OVERLAY | 1), 0);
                at_code(f, store_rax, 3);
                fx_cpu(f, 0)->regs.rbx = OVERLAY;
                fx_cpu(f, 0)->regs.rflags = 2;
                assert_int_equal(fx_fault(f, 0), 0);
                assert_int_equal(fx_active(f, 0), vtl);
                assert_true(fx_injected(f, 0, vtl, PLANE_INJECT_EXCEPTION, X86_GP));
                assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE);
                assert_int_equal(fx_store(f, 0, OVERLAY, 8, 0), 0);
                assert_true(fx_injected(f, 0, vtl, PLANE_INJECT_EXCEPTION, X86_GP));
                assert_int_equal(
                        f->overlay[vtl_overlay_page(VTL_OVERLAY_HYPERCALL, 0, vtl) * HV_PAGE_SIZE],
                        0xf3);
                assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 0);
                if (vtl == 0)
                        assert_int_equal(fx_vtl_call(f, 0), 0);
        }
}

/* ---- Accesses that KVM emulated ---- */

static void test_emulated_allowed(void **state) {
        struct fx *f = *state;
        uint64_t v;

        memcpy(f->ram + PAGE, "\1\2\3\4\5\6\7\10", 8);
        protect(f, PAGE, RO);
        at_code(f, load_rax, 3);
        assert_int_equal(fx_load(f, 0, PAGE, 8, &v), 0);
        assert_int_equal(v, 0x0807060504030201);
        assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE + 3);
        assert_int_equal(fx_load(f, 0, PAGE + 1, 2, &v), 0);
        assert_int_equal(v, 0x0302);
        memcpy(f->ram + NEXT_PAGE - 2, "\x11\x12", 2);
        memcpy(f->ram + NEXT_PAGE, "\x13\x14", 2);
        assert_int_equal(fx_load(f, 0, NEXT_PAGE - 2, 4, &v), 0);
        assert_int_equal(v, 0x14131211);
        /* Across the end of a page, and to the second region */
        assert_int_equal(fx_store(f, 0, NEXT_PAGE + 0xffe, 4, 0xaabbccdd), 0);
        assert_memory_equal(f->ram + NEXT_PAGE + 0xffe, "\xdd\xcc\xbb\xaa", 4);
        assert_int_equal(fx_store(f, 0, FX_RAM2 + 4, 1, 0x11), 0);
        assert_int_equal(f->ram2[4], 0x11);
        assert_int_equal(fx_active(f, 0), 0);
        /* No RAM at all: the VMM's */
        assert_int_equal(fx_load(f, 0, 0xfec00000, 4, &v), 0);
        assert_int_equal(f->action.kind, VTL_ACTION_TO_VMM);
        /* Through the VTL's own overlay */
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, OVERLAY | 1), 0);
        assert_int_equal(fx_store(f, 0, OVERLAY + 0x800, 8, 0x1234), 0);
        assert_int_equal(f->ram[OVERLAY + 0x800], 0);
        assert_int_equal(fx_load(f, 0, OVERLAY + 0x800, 8, &v), 0);
        assert_int_equal(v, 0x1234);
}

/* RIP is at the instruction: it is taken back, and nothing of the page shows. */
static void test_emulated_load(void **state) {
        struct expected e = { .length = 3,
                              .access = HV_INTERCEPT_ACCESS_READ,
                              .state = STATE_LONG,
                              .gva_valid = true,
                              .gva = PAGE + 8,
                              .gpa = PAGE + 8,
                              .rip = TINY_CODE,
                              .rflags = 0x10202,
                              .bytes = load_rax,
                              .n_bytes = 3 };
        struct model_vcpu before;
        struct fx *f = *state;
        uint64_t v;

        memset(f->ram + PAGE, 0x77, HV_PAGE_SIZE);
        protect(f, PAGE, NONE);
        at_code(f, load_rax, 3);
        before = *fx_cpu(f, 0);
        assert_int_equal(fx_load(f, 0, PAGE + 8, 8, &v), 0);
        assert_int_equal(v, 0);
        assert_int_equal(f->model->ops[MODEL_UNWIND], 1);
        assert_int_equal(fx_active(f, 0), 1);
        assert_memory_equal(&fx_plane(f, 0, 0)->regs, &before.regs, sizeof(before.regs));
        assert_memory_equal(&fx_plane(f, 0, 0)->xsave, &before.xsave, sizeof(before.xsave));
        check_message(f, &e, &before.regs);
        take_interrupt(f);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);

        /* No instruction there that reads: what the exit says must do. */
        at_code(f, "\x90", 1);
        before = *fx_cpu(f, 0);
        assert_int_equal(fx_load(f, 0, PAGE + 16, 4, &v), 0);
        e = (struct expected){ .access = HV_INTERCEPT_ACCESS_READ,
                               .state = STATE_LONG,
                               .gpa = PAGE + 16,
                               .rip = TINY_CODE,
                               .rflags = 0x10202 };
        check_message(f, &e, &before.regs);
}

/* RIP is behind the instruction: the store is held back until VTL1 has decided. */
static void test_emulated_store(void **state) {
        struct expected e = { .access = HV_INTERCEPT_ACCESS_WRITE,
                              .state = STATE_LONG,
                              .gpa = PAGE + 8,
                              .rip = TINY_CODE + 3,
                              .rflags = 0x10202 };
        struct fx *f = *state;

        for (unsigned relaxed = 0; relaxed < 2; relaxed++) {
                uint64_t v = 0x5555;
                struct kvm_regs before;

                memcpy(f->ram + PAGE + 8, &v, 8);
                protect(f, PAGE, RO);
                at_code(f, store_rax, 3);
                assert_int_equal(fx_store(f, 0, PAGE + 8, 8, 0x1122334455667788), 0);
                assert_int_equal(fx_active(f, 0), 1);
                memcpy(&v, f->ram + PAGE + 8, 8);
                assert_int_equal(v, 0x5555);
                before = fx_plane(f, 0, 0)->regs;
                assert_int_equal(before.rip, TINY_CODE + 3);
                check_message(f, &e, &before);
                assert_int_equal(fx_ctl(f, 0)->switchable, 0);
                /* VTL1's own stores are not held back with it. */
                assert_int_equal(fx_store(f, 0, NEXT_PAGE, 8, 0x99 + relaxed), 0);
                assert_int_equal(f->model->vps[0].n_injections, 0);
                assert_int_equal(f->ram[NEXT_PAGE], 0x99 + relaxed);
                take_interrupt(f);
                if (relaxed)
                        protect(f, PAGE, OPEN);
                assert_int_equal(fx_vtl_return(f, 0, true), 0);
                assert_int_equal(fx_active(f, 0), 0);
                assert_int_equal(fx_cpu(f, 0)->regs.rip, TINY_CODE + 3);
                memcpy(&v, f->ram + PAGE + 8, 8);
                assert_int_equal(v, relaxed ? 0x1122334455667788 : 0x5555);
                assert_int_equal(fx_vp(f, 0)->n_stores, 0);
                assert_int_equal(fx_ctl(f, 0)->switchable, 1);
        }
}

/* One instruction, several exits: the library shows each before it comes to the boundary. */
static void store_fragments(struct fx *f, uint64_t gpa, unsigned n) {
        struct vtl_exit e = { .kind = VTL_EXIT_MMIO, .len = 8, .is_write = 1 };

        fx_cpu(f, 0)->regs.rip += 3;
        for (unsigned i = 0; i < n; i++) {
                e.gpa = gpa + 8 * i;
                e.data = 0x100 + i;
                plane_model_exit(f->model, 0, &e, 0);
                assert_int_equal(vtl_engine_exit(fx_vp(f, 0)), 0);
                assert_int_equal(fx_ctl(f, 0)->action.kind, VTL_ACTION_RUN);
                plane_model_enter(f->model, 0);
        }
        assert_int_equal(fx_kick(f, 0), 0);
}

static uint64_t word(struct fx *f, uint64_t gpa) {
        uint64_t v;

        memcpy(&v, f->ram + gpa, 8);
        return v;
}

static void test_fragments(void **state) {
        struct fx *f = *state;

        /* Two on an open page, two on the closed one, and back */
        protect(f, NEXT_PAGE, RO);
        at_code(f, store_rax, 3);
        store_fragments(f, NEXT_PAGE - 16, 4);
        assert_int_equal(fx_active(f, 0), 1);
        assert_int_equal(word(f, NEXT_PAGE - 16), 0x100);
        assert_int_equal(word(f, NEXT_PAGE - 8), 0x101);
        assert_int_equal(word(f, NEXT_PAGE), 0);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 1);
        assert_int_equal(f->last_event.gpa, NEXT_PAGE);
        take_interrupt(f);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(word(f, NEXT_PAGE), 0);
        assert_int_equal(word(f, NEXT_PAGE + 8), 0);

        /* From the closed page to an open one: in order, so the open one's wait too. Then the
         * closed is dropped. */
        protect(f, NEXT_PAGE, OPEN);
        protect(f, PAGE, RO);
        memset(f->ram + PAGE, 0, 2 * HV_PAGE_SIZE);
        at_code(f, store_rax, 3);
        store_fragments(f, NEXT_PAGE - 8, 2);
        assert_int_equal(word(f, NEXT_PAGE), 0);
        take_interrupt(f);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(word(f, NEXT_PAGE - 8), 0);
        assert_int_equal(word(f, NEXT_PAGE), 0x101);

        /* FXSAVE is the largest that KVM emulates. */
        at_code(f, store_rax, 3);
        store_fragments(f, PAGE, 64);
        assert_int_equal(f->error, 0);
        take_interrupt(f);
        protect(f, PAGE, OPEN);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        for (unsigned i = 0; i < 64; i++)
                assert_int_equal(word(f, PAGE + 8 * i), 0x100 + i);
}

/* VTL1 does not come: the store is dropped, and VTL0's other stores are not held up by it. */
static void test_store_untold(void **state) {
        static const uint32_t busy = 1;
        struct fx *f = *state;

        protect(f, PAGE, RO);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_TPR, 0xf0), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        for (unsigned i = 0; i < 100; i++) {
                at_code(f, store_rax, 3);
                assert_int_equal(fx_store(f, 0, PAGE, 8, 0x77), 0);
                assert_int_equal(fx_active(f, 0), 0);
                assert_int_equal(fx_store(f, 0, NEXT_PAGE, 8, i), 0);
                assert_int_equal(word(f, NEXT_PAGE), i);
                at_code(f, store_rax, 3);
                store_fragments(f, NEXT_PAGE - 8, 2);
                assert_int_equal(word(f, NEXT_PAGE - 8), 0);
                assert_int_equal(word(f, NEXT_PAGE), 0x101);
        }
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(message_of(f).message_type, HV_MESSAGE_GPA_INTERCEPT);
        protect(f, PAGE, OPEN);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        assert_int_equal(word(f, PAGE), 0);

        protect(f, PAGE, RO);
        assert_int_equal(plane_model_write(f->model, 1, SIMP, &busy, 4), 0);
        at_code(f, store_rax, 3);
        assert_int_equal(fx_store(f, 0, PAGE, 8, 0x77), 0);
        assert_int_equal(fx_vp(f, 0)->n_stores, 0);
        protect(f, PAGE, OPEN);
        assert_int_equal(word(f, PAGE), 0);
}

/* A VP without VTL1 is held to the same rights, and nobody is told. */
static void test_other_vp(void **state) {
        struct fx *f = *state;
        uint64_t v;

        protect(f, PAGE, NONE);
        memset(f->ram + PAGE, 0x77, 8);
        fx_cpu(f, 1)->regs.rip = TINY_CODE;
        assert_int_equal(fx_load(f, 1, PAGE, 8, &v), 0);
        assert_int_equal(v, 0);
        assert_int_equal(fx_store(f, 1, PAGE, 8, 0), 0);
        assert_int_equal(f->ram[PAGE], 0x77);
        assert_int_equal(fx_vp(f, 1)->n_stores, 0);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 0);
        assert_int_equal(message_of(f).message_type, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_fault, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_fetch, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_gather, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_xsave, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_event_delivery, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_untold, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_sint_modes, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_no_simp, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_equal_faults, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_overlay_store, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_emulated_allowed, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_emulated_load, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_emulated_store, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_fragments, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_store_untold, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_other_vp, set_up, tear_down),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("engine-intercept", tests, NULL, NULL);
}
