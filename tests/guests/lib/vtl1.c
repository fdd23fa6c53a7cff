/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * VTL1: from HV_INITIAL_VP_CONTEXT to a loop that serves secure calls and intercepts, and VTL0's
 * side of it.
 */
#include "hv.h"

uint64_t vtl1_pml4[512] __attribute__((aligned(4096)));
static uint64_t vtl1_pdpt[512] __attribute__((aligned(4096)));
static uint64_t vtl1_pd[4][512] __attribute__((aligned(4096)));

bool (*vtl1_on_call)(struct gprs *g) = vtl1_call_default;
static void plan_intercept(struct hv_message *m, struct gprs *g);
void (*vtl1_on_intercept)(struct hv_message *m, struct gprs *g) = plan_intercept;
void (*vtl1_on_interrupt)(const struct gprs *g);
void (*vtl1_on_begin)(void) = vtl1_setup;
bool vtl1_x2apic = true;
struct plan plan;
static bool plan_set;

/* The same map as VTL0's, in tables that VTL0 does not walk; the window needs no 4 KiB pages
 * here. */
static void vtl1_tables(void) {
        if (vtl1_pml4[0] != 0)
                return;
        memcpy(vtl1_pd, boot_pd, sizeof(vtl1_pd));
        vtl1_pd[0][WINDOW >> 21] = WINDOW | PTE_LARGE | PTE_USER | PTE_WRITE | PTE_PRESENT;
        for (unsigned i = 0; i < 4; i++)
                vtl1_pdpt[i] = (uint64_t) vtl1_pd[i] | PTE_USER | PTE_WRITE | PTE_PRESENT;
        vtl1_pml4[0] = (uint64_t) vtl1_pdpt | PTE_USER | PTE_WRITE | PTE_PRESENT;
}

void vtl1_context(unsigned index, struct hv_initial_vp_context *ret) {
        struct cpu *c = &cpus[1][index];
        const struct hv_x64_segment_register data = { .limit = 0xffffffff,
                                                      .selector = KERNEL_DS,
                                                      .attributes = 0xc093 };
        const struct hv_x64_segment_register null = { 0 };

        cpu_prepare(1, index);
        vtl1_tables();
        *ret = (struct hv_initial_vp_context){
                .rip = (uint64_t) vtl1_entry,
                .rsp = (uint64_t) (c->stack + STACK_SIZE),
                .rflags = RFLAGS_FIXED,
                .cs = { .limit = 0xffffffff, .selector = KERNEL_CS, .attributes = 0xa09b },
                .ds = data,
                .es = data,
                .ss = data,
                .fs = null,
                .gs = { .base = (uint64_t) c, .limit = 0xffffffff, .attributes = 0xc093 },
                .tr = { .base = (uint64_t) &c->tss,
                        .limit = sizeof(struct tss) - 1,
                        .selector = TSS_SELECTOR,
                        .attributes = 0x008b },
                .ldtr = { .attributes = 0x0082 },
                .idtr = { .limit = 4095, .base = (uint64_t) trap_idt(1) },
                .gdtr = { .limit = sizeof(c->gdt) - 1, .base = (uint64_t) c->gdt },
                .efer = rdmsr(MSR_EFER),
                .cr0 = read_cr0(),
                .cr3 = (uint64_t) vtl1_pml4,
                .cr4 = read_cr4(),
                .msr_cr_pat = rdmsr(MSR_PAT),
        };
}

void vtl0_context(unsigned index, void (*fn)(void), struct hv_initial_vp_context *ret) {
        struct cpu *c = &cpus[0][index];

        vtl1_context(index, ret);
        cpu_prepare(0, index);
        ret->rip = (uint64_t) fn;
        ret->rsp = (uint64_t) (c->stack + STACK_SIZE - 8);
        ret->gs.base = (uint64_t) c;
        ret->tr.base = (uint64_t) &c->tss;
        ret->idtr.base = (uint64_t) trap_idt(0);
        ret->gdtr.base = (uint64_t) c->gdt;
        ret->cr3 = (uint64_t) boot_pml4;
}

static void on_sint0(struct trap_frame *f) {
        this_cpu()->interrupts++;
}

/* Everything VTL1 needs on one CPU, in the order of vsm.md 10.4. */
void vtl1_setup(void) {
        struct cpu *c = this_cpu();

        hv_open();
        wrmsr(HV_MSR_VP_ASSIST_PAGE, (uint64_t) c->assist | HV_MSR_PAGE_ENABLE);
        wrmsr(HV_MSR_SIMP, (uint64_t) c->simp | HV_MSR_PAGE_ENABLE);
        irq_set(VECTOR_SINT0, on_sint0);
        wrmsr(HV_MSR_SINT0, VECTOR_SINT0 | HV_SINT_AUTO_EOI);
        wrmsr(HV_MSR_SCONTROL, 1);
        apic_enable(vtl1_x2apic);
}

bool vtl1_call_default(struct gprs *g) {
        uint64_t (*fn)(uint64_t) = (uint64_t(*)(uint64_t)) g->rdi;

        if (fn != NULL) /* a VP that is started is in VTL1 first, for nothing */
                g->rdx = fn(g->rsi);
        return true;
}

bool vtl1_call_nothing(struct gprs *g) {
        return true;
}

/* An entry that VTL0 did not ask for: take the interrupts, then look at the message that may
 * have come with them. */
static void vtl1_interrupted(struct gprs *g) {
        struct cpu *c = this_cpu();
        struct hv_message *m = &c->simp->slot[HV_SYNIC_INTERCEPTION_SINT_INDEX];
        uint8_t flags;

        if (vtl1_on_interrupt != NULL)
                vtl1_on_interrupt(g);
        interrupt_window();
        if (m->message_type == HV_MESSAGE_NONE)
                return;
        c->intercepts++;
        vtl1_on_intercept(m, g);
        flags = m->flags;
        __atomic_store_n(&m->message_type, HV_MESSAGE_NONE, __ATOMIC_RELEASE);
        if (flags & HV_MESSAGE_PENDING)
                wrmsr(HV_MSR_EOM, 0);
}

void vtl1_main(struct gprs *g) {
        struct cpu *c = this_cpu();
        struct hv_vp_vtl_control *control;
        bool fast;

        vtl1_on_begin();
        for (;;) {
                control = &c->assist->vtl_control; /* a test may have moved the page */
                if (control->entry_reason == HV_VTL_ENTRY_VTL_CALL) {
                        c->calls++;
                        fast = vtl1_on_call(g);
                } else if (control->entry_reason == HV_VTL_ENTRY_INTERRUPT) {
                        vtl1_interrupted(g);
                        fast = false;
                } else
                        bail_out("VTL1 entered for reason %u", control->entry_reason);

                control = &c->assist->vtl_control;
                if (!fast) {
                        control->vtl_return_x64_rax = g->rax;
                        control->vtl_return_x64_rcx = g->rcx;
                }
                g->rcx = fast;
                g->rflags = RFLAGS_FIXED;
                call_with_gprs(c->vtl_return_entry, g);
        }
}

void vtl_call(struct gprs *g) {
        g->rcx = 0;
        call_with_gprs(this_cpu()->vtl_call_entry, g);
}

uint64_t vtl1_run(uint64_t (*fn)(uint64_t arg), uint64_t arg) {
        struct gprs g = gprs_zero();

        g.rdi = (uint64_t) fn;
        g.rsi = arg;
        vtl_call(&g);
        return g.rdx;
}

static uint64_t nothing(uint64_t arg) {
        return arg + 1;
}

void vsm_open(void) {
        struct hv_initial_vp_context context;
        unsigned status;

        vtl1_x2apic = !cmdline_number("xapic", 0);
        if (!hv_present())
                skip_all("no Hyper-V interface in CPUID");
        if (!(hv_privileges() & HV_PRIV_VSM))
                skip_all("the partition has no AccessVsm");
        hv_open();
        status = hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0);
        if (status != HV_STATUS_SUCCESS)
                bail_out("EnablePartitionVtl: status 0x%x", status);
        vtl1_context(this_cpu()->index, &context);
        status = hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context);
        if (status != HV_STATUS_SUCCESS)
                bail_out("EnableVpVtl: status 0x%x", status);
        if (vtl1_run(nothing, 41) != 42)
                bail_out("the first secure call did not come back");
}

static uint64_t vtl1_configure(uint64_t value) {
        return hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_CONFIG, value);
}

void vsm_protect(void) {
        uint64_t status;

        vsm_open();
        status = vtl1_run(vtl1_configure, VTL1_CONFIG);
        if (status != HV_STATUS_SUCCESS)
                bail_out("VsmPartitionConfig: status 0x%lx", status);
}

uint64_t vtl1_peek(uint64_t gpa) {
        return peek64(gpa);
}

uint64_t vtl1_poke(uint64_t poke) {
        const struct poke *p = (const struct poke *) poke;

        poke64(p->gpa, p->value);
        return 0;
}

uint64_t vtl1_fill(uint64_t poke) {
        const struct poke *p = (const struct poke *) poke;
        uint64_t to = p->gpa & ~0xfffull, n = HV_PAGE_SIZE / 8;

        __asm__ volatile("rep stosq" : "+D"(to), "+c"(n) : "a"(p->value) : "memory");
        return 0;
}

static uint64_t vtl1_compare(uint64_t poke) {
        const struct poke *p = (const struct poke *) poke;
        uint64_t at = p->gpa & ~0xfffull, n = HV_PAGE_SIZE / 8;
        bool equal;

        __asm__ volatile("repe scasq"
                         : "+D"(at), "+c"(n), "=@cce"(equal)
                         : "a"(p->value)
                         : "memory");
        return equal;
}

bool vtl1_page_is(uint64_t gpa, uint64_t value) {
        struct poke p = { gpa, value };

        return vtl1_run(vtl1_compare, (uint64_t) &p);
}

struct protect_request {
        uint64_t gpa;
        unsigned n;
        uint32_t flags;
};

static uint64_t vtl1_protect(uint64_t arg) {
        const struct protect_request *r = (const struct protect_request *) arg;
        uint64_t gpns[64];
        unsigned n = r->n < ELEMENTSOF(gpns) ? r->n : ELEMENTSOF(gpns);

        for (unsigned i = 0; i < n; i++)
                gpns[i] = (r->gpa >> HV_PAGE_SHIFT) + i;
        return hv_modify_mask(r->flags, VTL_SELF, gpns, n);
}

uint64_t protect(uint64_t gpa, unsigned n, uint32_t flags) {
        struct protect_request r = { gpa, n, flags };

        return vtl1_run(vtl1_protect, (uint64_t) &r);
}

void plan_start(enum plan_action action) {
        memset(&plan, 0, sizeof(plan));
        plan.action = action;
        plan_set = true;
}

static void plan_open(uint64_t gpa) {
        uint64_t gpn = gpa >> HV_PAGE_SHIFT;
        uint64_t r = hv_modify_mask(HV_MAP_GPA_ALL, VTL_SELF, &gpn, 1);

        if (HV_RESULT_STATUS(r) != HV_STATUS_SUCCESS)
                bail_out("VTL1 cannot open GPA 0x%lx again: status 0x%x", gpa, HV_RESULT_STATUS(r));
}

/* Default handler: does what the test planned. Without a plan, an intercept is a bug of the host
 * or of the test. */
static void plan_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        unsigned n = plan.count++;

        if (m->message_type != HV_MESSAGE_GPA_INTERCEPT || !plan_set)
                bail_out("unexpected message 0x%x: GPA 0x%lx, access %u, VTL0's RIP 0x%lx",
                         m->message_type, i->gpa, i->header.access_type, i->header.rip);
        if (n >= PLAN_STORM)
                bail_out("intercepts without end: GPA 0x%lx, access %u, VTL0's RIP 0x%lx", i->gpa,
                         i->header.access_type, i->header.rip);
        if (n < PLAN_LOG) {
                memcpy(&plan.log[n], i, sizeof(*i));
                plan.size[n] = m->payload_size;
                plan.type[n] = m->message_type;
        }
        if (hv_get(VTL0, HV_X64_REGISTER_RIP, &plan.rip) != HV_STATUS_SUCCESS)
                bail_out("VTL1 cannot read VTL0's RIP");

        switch (plan.action) {
        case PLAN_POISON:
                g->rax = plan.poison;
                /* fall through */
        case PLAN_SKIP:
                if (hv_set(VTL0, HV_X64_REGISTER_RIP,
                           i->header.rip + (i->header.instruction_length & 0xf)) !=
                    HV_STATUS_SUCCESS)
                        bail_out("VTL1 cannot write VTL0's RIP");
                break;
        case PLAN_COUNT:
                if (n < plan.patience)
                        break;
                /* fall through */
        case PLAN_OPEN:
                plan_open(i->gpa);
                break;
        }
}
