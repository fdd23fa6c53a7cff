/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "securekernel.h"

#define CR_BIT(name) (1ull << HV_CR_INTERCEPT_##name)
#define CODE_INTEGRITY_ROUNDS 8u

bool sk_mbec, sk_deny;
struct sk_count sk_counts[MAX_CPUS];

const uint64_t sk_msr_bits = CR_BIT(MISC_ENABLE_WRITE) | CR_BIT(LSTAR_WRITE) | CR_BIT(STAR_WRITE) |
                             CR_BIT(CSTAR_WRITE) | CR_BIT(APIC_BASE_WRITE) | CR_BIT(EFER_WRITE) |
                             CR_BIT(SYSENTER_CS_WRITE) | CR_BIT(SYSENTER_EIP_WRITE) |
                             CR_BIT(SYSENTER_ESP_WRITE) | CR_BIT(SFMASK_WRITE);
const uint64_t sk_other_bits = CR_BIT(CR0_WRITE) | CR_BIT(CR4_WRITE) | CR_BIT(GDTR_WRITE) |
                               CR_BIT(IDTR_WRITE) | CR_BIT(LDTR_WRITE) | CR_BIT(TR_WRITE);

static struct sk_count *mine(void) {
        return &sk_counts[this_cpu()->index];
}

/* ---- ShvlpVtl1Entry ---- */

static void on_intercept_vector(struct trap_frame *f) {
        this_cpu()->interrupts++; /* AutoEOI; the message is looked at by the loop */
}

static void on_timer_vector(struct trap_frame *f) {
        struct hv_message *m = &this_cpu()->simp->slot[1];

        if (m->message_type == HV_MESSAGE_TIMER_EXPIRED)
                mine()->timers++;
        __atomic_store_n(&m->message_type, HV_MESSAGE_NONE, __ATOMIC_SEQ_CST);
        if (m->flags & HV_MESSAGE_PENDING)
                wrmsr(HV_MSR_EOM, 0);
}

static void on_vina_vector(struct trap_frame *f) {
        apic_eoi();
        mine()->vinas++;
}

static void expect_msr(uint32_t msr, uint64_t value, const char *what) {
        wrmsr(msr, value);
        is(rdmsr(msr), value, "SK VP %u: %s", this_cpu()->index, what);
}

/* Phase 1, once: identity, hypercall page, capabilities, protection */
static void begin_partition(void) {
        const uint64_t page = hv_hypercall_page(1) | HV_MSR_PAGE_ENABLE;
        uint64_t v, config;
        uint32_t r[4];

        is(rdmsr(HV_MSR_GUEST_OS_ID), 0, "SK: nobody has given this level an OS id");
        expect_msr(HV_MSR_GUEST_OS_ID, SK_OS_ID, "OS id");
        is(rdmsr(HV_MSR_HYPERCALL) & 1, 0, "SK: nor has it a hypercall page");
        expect_msr(HV_MSR_HYPERCALL, page, "hypercall page");
        hv_os_id = SK_OS_ID;
        hv_open(); /* the same again, and HvRegisterVsmCodePageOffsets */

        v = hv_register(HV_REGISTER_VSM_CAPABILITIES);
        sk_mbec = v & HV_VSM_CAPABILITY_MBEC_VTL0;
        sk_deny = v & HV_VSM_CAPABILITY_DENY_LOWER_VTL_STARTUP;
        config = 0x21 | (uint64_t) HV_MAP_GPA_ALL << HV_VSM_DEFAULT_MASK_SHIFT |
                 (sk_deny ? HV_VSM_DENY_LOWER_VTL_STARTUP : 0);
        is(hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_CONFIG, config), 0,
           "SK: VsmPartitionConfig 0x%lx", config);
        is(hv_register(HV_REGISTER_VSM_PARTITION_CONFIG), config, "SK: reads back");
        expect_msr(HV_MSR_REFERENCE_TSC, WINDOW_PAGE(510) | HV_MSR_PAGE_ENABLE,
                   "reference TSC page");
        cpuid(HV_CPUID_HARDWARE, 0, r);
        ok(r[0] >> 3 & 1, "SK: second level address translation");
}

/* For each VP */
static void begin_processor(void) {
        struct cpu *c = this_cpu();
        const uint64_t assist = (uint64_t) c->assist | HV_MSR_PAGE_ENABLE;
        uint64_t v;

        is(hv_set(VTL_SELF, HV_REGISTER_VP_ASSIST_PAGE, assist), 0,
           "SK VP %u: assist page by its register", c->index);
        is(rdmsr(HV_MSR_VP_ASSIST_PAGE), assist, "SK VP %u: as the MSR says", c->index);
        ok(c->assist->vtl_control.entry_reason == HV_VTL_ENTRY_VTL_CALL,
           "SK VP %u: where it finds that it was called", c->index);
        irq_set(SK_VECTOR_INTERCEPT, on_intercept_vector);
        irq_set(SK_VECTOR_TIMER, on_timer_vector);
        irq_set(SK_VECTOR_VINA, on_vina_vector);
        expect_msr(HV_MSR_SIMP, (uint64_t) c->simp | HV_MSR_PAGE_ENABLE, "message page");
        expect_msr(HV_MSR_SINT0, SK_VECTOR_INTERCEPT | HV_SINT_AUTO_EOI, "SINT0, AutoEOI");
        expect_msr(HV_MSR_SINT0 + 1, SK_VECTOR_TIMER | HV_SINT_AUTO_EOI, "SINT1, AutoEOI");
        expect_msr(HV_MSR_STIMER0_CONFIG, 0x10008, "STIMER0, AutoEnable, SINT1");
        expect_msr(HV_MSR_SCONTROL, 1, "SCONTROL");
        v = SK_VECTOR_VINA | HV_VINA_ENABLED | HV_VINA_AUTO_RESET;
        is(hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, v), 0, "SK VP %u: VINA", c->index);
        is(hv_set(VTL_SELF, HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0,
                  sk_mbec ? HV_SECURE_CONFIG_MBEC : 0),
           0, "SK VP %u: VsmVpSecureConfigVtl0", c->index);
        apic_enable(true);
}

void sk_begin(void) {
        if (this_cpu()->index == 0)
                begin_partition();
        else
                hv_open();
        begin_processor();
}

/* ---- SkmiProtectSecureKernelPages, and HVCI's pages of the normal kernel ---- */

static uint64_t modify(uint32_t flags, unsigned first, unsigned n) {
        uint64_t gpns[400];

        for (unsigned i = 0; i < n; i++)
                gpns[i] = (WINDOW_PAGE(first) >> HV_PAGE_SHIFT) + i;
        return hv_modify_mask(flags, VTL_SELF, gpns, n);
}

/* Twelve pages in registers */
static uint64_t modify_fast(uint32_t flags, unsigned first) {
        struct xmm_call c = { .control = HVCALL_MODIFY_VTL_PROTECTION_MASK | HV_CONTROL_FAST |
                                         HV_REPS(12),
                              .rdx = HV_PARTITION_ID_SELF,
                              .r8 = flags,
                              .entry = this_cpu()->hypercall_entry };

        for (unsigned i = 0; i < 6; i++) {
                c.xmm[i].low = (WINDOW_PAGE(first) >> HV_PAGE_SHIFT) + 2 * i;
                c.xmm[i].high = c.xmm[i].low + 1;
        }
        return xmm_call(&c);
}

uint64_t sk_protect_itself(uint64_t fast) {
        unsigned done = 0;
        bool good = true;

        if (fast) {
                good = modify_fast(0, SK_PAGE_FIRST) == HV_REPS(12);
                done = 12;
        }
        return good && modify(0, SK_PAGE_FIRST + done, SK_PAGES - done) == HV_REPS(SK_PAGES - done);
}

/* Thousands of pages, some of them again and again */
uint64_t sk_protect_kernel(uint64_t arg) {
        const uint32_t code = HV_MAP_GPA_READABLE | HV_MAP_GPA_KERNEL_EXECUTABLE |
                              HV_MAP_GPA_USER_EXECUTABLE,
                       data = HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE |
                              (sk_mbec ? HV_MAP_GPA_USER_EXECUTABLE : 0);
        bool good = true;

        for (unsigned i = 0; i < CODE_INTEGRITY_ROUNDS; i++) {
                good = good &&
                       modify(HV_MAP_GPA_ALL, NT_CODE_FIRST, 2 * NT_PAGES) == HV_REPS(2 * NT_PAGES);
                good = good && modify(code, NT_CODE_FIRST, NT_PAGES) == HV_REPS(NT_PAGES);
                good = good && modify(data, NT_DATA_FIRST, NT_PAGES) == HV_REPS(NT_PAGES);
        }
        return good;
}

/* ---- Processors ---- */

uint64_t sk_start_processor(uint64_t vp) {
        struct hv_initial_vp_context context;
        unsigned status;

        vtl1_context((unsigned) vp, &context);
        status = hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) vp, 1, &context);
        if (status != 0)
                return status;
        vtl0_context((unsigned) vp, job_started, &context);
        return hv_start_vp(HV_PARTITION_ID_SELF, (uint32_t) vp, 0, &context);
}

/* ---- HyperGuard ---- */

uint64_t sk_install_intercepts(uint64_t arg) {
        unsigned r = hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CONTROL,
                            sk_msr_bits | sk_other_bits),
                 status = r;
        uint64_t v;

        if (r == HV_STATUS_INVALID_REGISTER_VALUE)
                status = hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CONTROL, sk_msr_bits);
        v = hv_register(HV_REGISTER_CR_INTERCEPT_CONTROL);
        status |= v != (r == 0 ? sk_msr_bits | sk_other_bits : sk_msr_bits);
        status |= hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CR4_MASK, 0x300000);
        status |= hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CR0_MASK, 0x10000);
        status |= hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK, 1);
        status |= hv_register(HV_REGISTER_CR_INTERCEPT_CR4_MASK) != 0x300000;
        return (uint64_t) status << 32 | r;
}

uint64_t sk_install_port(uint64_t port) {
        return hv_install_intercept(HV_INTERCEPT_X64_IO_PORT,
                                    HV_INTERCEPT_MASK_READ | HV_INTERCEPT_MASK_WRITE, port);
}

static uint32_t register_of(uint32_t msr) {
        static const struct {
                uint32_t msr, reg;
        } table[] = {
                { 0x1b, HV_X64_REGISTER_APIC_BASE },     { 0x174, HV_X64_REGISTER_SYSENTER_CS },
                { 0x175, HV_X64_REGISTER_SYSENTER_ESP }, { 0x176, HV_X64_REGISTER_SYSENTER_EIP },
                { MSR_EFER, HV_X64_REGISTER_EFER },      { MSR_STAR, HV_X64_REGISTER_STAR },
                { MSR_LSTAR, HV_X64_REGISTER_LSTAR },    { 0xc0000083, HV_X64_REGISTER_CSTAR },
                { 0xc0000084, HV_X64_REGISTER_SFMASK },
        };

        for (unsigned i = 0; i < ELEMENTSOF(table); i++)
                if (table[i].msr == msr)
                        return table[i].reg;
        return 0;
}

/* SkpgxInterceptMsr: carried out by SetVpRegisters, and on behind the instruction */
static void msr_intercept(const struct hv_msr_intercept *i) {
        uint32_t reg = register_of(i->msr);

        mine()->msrs++;
        mine()->last_msr = i->msr;
        mine()->last_value = i->rdx << 32 | (uint32_t) i->rax;
        if (reg != 0 && hv_set(VTL0, reg, mine()->last_value) != 0)
                bail_out("SK cannot carry out a write of MSR 0x%x", i->msr);
}

void sk_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_intercept_header *h = (const void *) m->payload;

        switch (m->message_type) {
        case HV_MESSAGE_GPA_INTERCEPT:
                mine()->memory++;
                g->rax = SK_POISON;
                break;
        case HV_MESSAGE_X64_MSR_INTERCEPT:
                msr_intercept((const void *) m->payload);
                break;
        case HV_MESSAGE_X64_IO_PORT_INTERCEPT:
                mine()->ports++;
                g->rax = SK_POISON >> 32;
                break;
        default:
                bail_out("SK gets message 0x%x", m->message_type);
        }
        if (hv_set(VTL0, HV_X64_REGISTER_RIP, h->rip + (h->instruction_length & 0xf)) != 0)
                bail_out("SK cannot write VTL0's RIP");
}

/* ---- At run time ---- */

/* The timer enables itself when its count is written. */
uint64_t sk_start_timer(uint64_t ms) {
        wrmsr(HV_MSR_STIMER0_CONFIG + 1, hv_time() + ms * 10000);
        return rdmsr(HV_MSR_STIMER0_CONFIG);
}

/* An address of VTL0's, held for as long as VTL1 runs */
uint64_t sk_translate(uint64_t gva) {
        struct {
                uint64_t partition;
                uint32_t vp, reserved;
                uint64_t flags, page;
        } *in = (void *) this_cpu()->in;
        uint64_t page;

        in->partition = HV_PARTITION_ID_SELF;
        in->vp = HV_VP_INDEX_SELF;
        in->reserved = 0;
        in->flags = 1 | 1 << 5 | (uint64_t) VTL0 << 56;
        in->page = gva >> 12;
        if (hv_call_memory(HVCALL_TRANSLATE_VIRTUAL_ADDRESS) != 0 ||
            (uint32_t) this_cpu()->out[0] != 0)
                return ~0ull;
        page = this_cpu()->out[1];
        if (!(hv_register(HV_REGISTER_VSM_VP_SECURE_CONFIG_VTL0) & HV_SECURE_CONFIG_TLB_LOCKED))
                return ~0ull;
        return page << 12 | (gva & 0xfff);
}

/* Until the normal kernel has an interrupt, or for a while */
uint64_t sk_work(uint64_t ms) {
        unsigned before = mine()->vinas;
        uint64_t start = rdtsc();

        irq_on();
        while (mine()->vinas == before &&
               (int64_t) (rdtsc() - start) < (int64_t) (ms * tsc_per_ms()))
                cpu_relax();
        irq_off();
        return mine()->vinas - before;
}

/* The crash that the normal kernel is to write a dump of: an NMI for it */
uint64_t sk_panic(uint64_t arg) {
        struct {
                uint64_t partition;
                uint32_t type, flags;
                uint64_t destination;
                uint32_t vector;
                uint8_t vtl, reserved[3];
        } *in = (void *) this_cpu()->in;

        memset(in, 0, sizeof(*in));
        in->partition = HV_PARTITION_ID_SELF;
        in->type = 4;
        in->destination = this_cpu()->index;
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_ASSERT_VIRTUAL_INTERRUPT));
}
