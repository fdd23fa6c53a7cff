/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Interrupts that one VP or level asks for on another by hypercall (vsm.md 3.12, 3.15), the calls
 * beside them (3.19, 3.20), and VTL1 interrupted at whatever it does.
 */
#include "lib/hv.h"

#define VECTOR_A 0x51
#define VECTOR_B 0x52
#define VECTOR_HIGH 0xe1
#define LONG_MS 5000

#define VP_SET_SPARSE 0
#define VP_SET_ALL 1

static volatile unsigned got[2][MAX_CPUS]; /* by level and VP */
static volatile unsigned nmis[2];
static volatile unsigned entry_reason; /* of VTL1, when it took its last one */

static void on_ipi(struct trap_frame *f) {
        struct cpu *c = this_cpu();

        if (c->vtl == 1)
                entry_reason = c->assist->vtl_control.entry_reason;
        apic_eoi();
        got[c->vtl][c->index]++;
}

static void on_nmi(struct trap_frame *f) {
        nmis[this_cpu()->vtl]++;
}

static void forget(void) {
        memset((void *) got, 0, sizeof(got));
        nmis[0] = nmis[1] = 0;
}

static unsigned all_got(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < MAX_CPUS; i++)
                n += got[0][i] + got[1][i];
        return n;
}

/* ---- The calls ---- */

struct send_ipi {
        uint32_t vector;
        uint8_t vtl, flags;
        uint16_t reserved;
        uint64_t mask;
} __attribute__((packed));

struct send_ipi_ex {
        uint32_t vector;
        uint8_t vtl, flags;
        uint16_t reserved;
        uint64_t format, valid_banks;
        uint64_t banks[4];
} __attribute__((packed));

struct assert_interrupt {
        uint64_t partition;
        uint32_t type, flags;
        uint64_t destination;
        uint32_t vector;
        uint8_t vtl, reserved[3];
} __attribute__((packed));

static unsigned ipi(uint8_t vtl, uint32_t vector, uint64_t mask) {
        struct send_ipi *in = (void *) this_cpu()->in;

        *in = (struct send_ipi){ .vector = vector, .vtl = vtl, .mask = mask };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI));
}

static unsigned ipi_fast(uint8_t vtl, uint32_t vector, uint64_t mask) {
        return HV_RESULT_STATUS(hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                                        vector | (uint64_t) vtl << 32, mask));
}

static unsigned ipi_ex(uint8_t vtl, uint64_t format, uint64_t valid_banks, unsigned varhdr,
                       uint64_t bank) {
        struct send_ipi_ex *in = (void *) this_cpu()->in;

        *in = (struct send_ipi_ex){ .vector = VECTOR_A,
                                    .vtl = vtl,
                                    .format = format,
                                    .valid_banks = valid_banks,
                                    .banks = { bank } };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI_EX |
                                               (uint64_t) varhdr << HV_CONTROL_VARHDR_SHIFT));
}

static uint64_t assert_call(uint64_t arg) {
        const struct assert_interrupt *a = (const struct assert_interrupt *) arg;

        *(struct assert_interrupt *) (void *) this_cpu()->in = *a;
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_ASSERT_VIRTUAL_INTERRUPT));
}

/* ---- SendSyntheticClusterIpi ---- */

static void take(void) {
        interrupt_window();
        for (unsigned i = 0; i < 10; i++)
                interrupt_window();
}

static uint64_t vtl1_ipi_self(uint64_t vtl) {
        uint64_t r = ipi((uint8_t) vtl, VECTOR_A, 1);

        take();
        return r << 16 | got[1][0] << 8 | got[0][0];
}

static uint64_t vtl1_ipi_fast_self(uint64_t vtl) {
        uint64_t r = ipi_fast((uint8_t) vtl, VECTOR_A, 1);

        take();
        return r << 16 | got[1][0] << 8 | got[0][0];
}

static void test_ipi(void) {
        forget();
        is(ipi(VTL_SELF, VECTOR_A, 1), 0, "VTL0 to its own VTL");
        is(all_got(), 0, "interrupts are off");
        take();
        is(got[0][0], 1, "VTL0 has it");
        is(ipi(VTL0, VECTOR_A, 1), 0, "VTL0 to VTL0, named");
        take();
        is(got[0][0], 2, "VTL0 has it");
        is(ipi_fast(VTL_SELF, VECTOR_A, 1), 0, "the same as a fast call");
        take();
        is(got[0][0], 3, "VTL0 has it");
        is(ipi(VTL_SELF, VECTOR_A, 0), 0, "to nobody");
        is(ipi(VTL_SELF, VECTOR_A, 1ull << 63), 0, "to a VP that is not there");
        take();
        is(all_got(), 3, "nobody has it");

        forget();
        is(vtl1_run(vtl1_ipi_self, VTL_SELF), 0x000100, "VTL1 to its own VTL: VTL1 has it");
        is(vtl1_run(vtl1_ipi_self, VTL1), 0x000200, "VTL1 to VTL1, named");
        is(vtl1_run(vtl1_ipi_fast_self, VTL1), 0x000300, "the same as a fast call");
        take();
        is(got[0][0], 0, "VTL0 has none of them");

        forget();
        is(vtl1_run(vtl1_ipi_self, VTL0), 0, "VTL1 to VTL0: nobody has it while VTL1 runs");
        take();
        is(got[0][0], 1, "VTL0 has it when it lets it in");
        irq_on();
        is(vtl1_run(vtl1_ipi_fast_self, VTL0), 1, "with VTL0's interrupts on");
        spin_for(&got[0][0], 2, LONG_MS);
        irq_off();
        is(got[0][0], 2, "it has it after the return");
        is(got[1][0], 0, "and VTL1 never");

        forget();
        is(ipi(VTL1, VECTOR_A, 1), 0, "VTL0 to VTL1, as some clients do");
        spin_for(&got[1][0], 1, LONG_MS);
        is(got[1][0], 1, "VTL1 breaks in, VTL0's interrupts being off");
        is(got[0][0], 0, "VTL0 has none");
}

static uint64_t test_ipi_errors(uint64_t arg) {
        static const uint32_t bad[] = { 0, 15, 256, 0xffffffff };
        unsigned vtl = this_cpu()->vtl;

        forget();
        for (unsigned i = 0; i < ELEMENTSOF(bad); i++) {
                is(ipi(VTL_SELF, bad[i], 1), HV_STATUS_INVALID_PARAMETER, "VTL%u: vector %u", vtl,
                   bad[i]);
                is(ipi_fast(VTL_SELF, bad[i], 1), HV_STATUS_INVALID_PARAMETER,
                   "VTL%u: vector %u, fast", vtl, bad[i]);
        }
        is(ipi(0x20, VECTOR_A, 1), HV_STATUS_INVALID_PARAMETER, "VTL%u: reserved bits of VTL", vtl);
        is(ipi(0x13, VECTOR_A, 1), HV_STATUS_INVALID_PARAMETER, "VTL%u: VTL 3", vtl);
        is(ipi(0x12, VECTOR_A, 1), HV_STATUS_ACCESS_DENIED, "VTL%u: VTL 2", vtl);
        is(ipi_ex(0x12, VP_SET_ALL, 0, 0, 0), HV_STATUS_ACCESS_DENIED, "VTL%u: VTL 2, Ex", vtl);
        is(ipi_ex(VTL_SELF, 2, 0, 0, 0), HV_STATUS_INVALID_PARAMETER, "VTL%u: set format 2", vtl);
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 1, 2, 1), HV_STATUS_INVALID_PARAMETER,
           "VTL%u: one bank named, two there", vtl);
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 3, 1, 1), HV_STATUS_INVALID_PARAMETER,
           "VTL%u: two banks named, one there", vtl);
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 0, 1, 1), HV_STATUS_INVALID_PARAMETER,
           "VTL%u: no bank named, one there", vtl);
        take();
        is(all_got(), 0, "VTL%u: nobody was interrupted", vtl);
        return 0;
}

static uint64_t test_ipi_ex(uint64_t arg) {
        struct cpu *c = this_cpu();
        uint64_t me = 1ull << c->index;
        volatile unsigned *mine = &got[c->vtl][c->index];

        forget();
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 1, 1, me), 0, "VTL%u: Ex, a bank", c->vtl);
        take();
        is(*mine, 1, "VTL%u: delivered", c->vtl);
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 3, 2, me), 0, "VTL%u: Ex, two banks", c->vtl);
        take();
        is(*mine, 2, "VTL%u: delivered", c->vtl);
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 2, 1, me), 0, "VTL%u: Ex, a bank of others", c->vtl);
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 0, 0, 0), 0, "VTL%u: Ex, no bank", c->vtl);
        take();
        is(*mine, 2, "VTL%u: nobody", c->vtl);
        is(all_got(), 2, "VTL%u: nobody else either", c->vtl);
        is(ipi_ex(VTL_SELF, VP_SET_ALL, 0, 0, 0), 0, "VTL%u: Ex, all", c->vtl);
        take();
        is(*mine, 3, "VTL%u: delivered", c->vtl);
        return 0;
}

/* ---- AssertVirtualInterrupt ---- */

#define SELF HV_PARTITION_ID_SELF

static const struct {
        const char *name;
        struct assert_interrupt in;
        unsigned from0, from1; /* status */
} assert_rows[] = {
        { "VTL 3", { SELF, 0, 0, 0, VECTOR_A, 3, { 0 } }, 5, 5 },
        { "VTL 2", { SELF, 0, 0, 0, VECTOR_A, 2, { 0 } }, 6, 6 },
        { "VTL 1", { SELF, 0, 0, 0, VECTOR_A, 1, { 0 } }, 6, 6 },
        { "another partition", { 42, 0, 0, 0, VECTOR_A, 0, { 0 } }, 6, 6 },
        { "lowest priority", { SELF, 1, 0, 0, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "SMI", { SELF, 2, 0, 0, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "INIT", { SELF, 5, 0, 0, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "SIPI", { SELF, 6, 0, 0, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "an external one", { SELF, 7, 0, 0, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "reserved control bits", { SELF, 0, 4, 0, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "vector 256", { SELF, 0, 0, 0, 256, 0, { 0 } }, 6, 5 },
        { "vector 15", { SELF, 0, 0, 0, 15, 0, { 0 } }, 6, 5 },
        { "a destination above 32 bits", { SELF, 0, 0, 1ull << 32, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "no such destination", { SELF, 0, 0, 77, VECTOR_A, 0, { 0 } }, 6, 5 },
        { "reserved bytes", { SELF, 0, 0, 0, VECTOR_A, 0, { 0, 1, 0 } }, 6, 5 },
        { "a fixed interrupt", { SELF, 0, 0, 0, VECTOR_A, 0, { 0 } }, 6, 0 },
        { "an NMI", { SELF, 4, 0, 0, 0, 0, { 0 } }, 6, 0 },
};

static void test_assert(void) {
        forget();
        for (unsigned i = 0; i < ELEMENTSOF(assert_rows); i++) {
                uint64_t in = (uint64_t) &assert_rows[i].in;

                is(assert_call(in), assert_rows[i].from0, "AssertVirtualInterrupt by VTL0: %s",
                   assert_rows[i].name);
                if (assert_rows[i].from1 == 0)
                        is(all_got() + nmis[0] + nmis[1], i == ELEMENTSOF(assert_rows) - 1,
                           "%s: not before VTL1 asks", assert_rows[i].name);
                is(vtl1_run(assert_call, in), assert_rows[i].from1,
                   "AssertVirtualInterrupt by VTL1: %s", assert_rows[i].name);
                take();
        }
        is(got[0][0], 1, "VTL0 has the fixed one");
        is(nmis[0], 1, "and the NMI");
        is(got[1][0] + nmis[1], 0, "VTL1 none");
}

/* ---- The calls that need nobody ---- */

struct post_message {
        uint32_t connection, reserved, type, size;
        uint64_t payload[30];
} __attribute__((packed));

static unsigned post(uint32_t type, uint32_t size) {
        struct post_message *in = (void *) this_cpu()->in;

        *in = (struct post_message){ .connection = 1, .type = type, .size = size };
        return HV_RESULT_STATUS(hv_call_memory(HVCALL_POST_MESSAGE));
}

static uint64_t test_others(uint64_t arg) {
        unsigned vtl = this_cpu()->vtl;

        is(hv_call(HVCALL_NOTIFY_LONG_SPIN_WAIT | HV_CONTROL_FAST, 1000, 0), 0,
           "VTL%u: NotifyLongSpinWait", vtl);
        this_cpu()->in[0] = 1000;
        is(hv_call_memory(HVCALL_NOTIFY_LONG_SPIN_WAIT), 0, "VTL%u: NotifyLongSpinWait by memory",
           vtl);

        if ((hv_privileges() & (HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS)) !=
            (HV_PRIV_POST_MESSAGES | HV_PRIV_SIGNAL_EVENTS)) {
                is(post(1, 8), HV_STATUS_ACCESS_DENIED, "VTL%u: PostMessage, no privilege", vtl);
                is(HV_RESULT_STATUS(hv_call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 1, 0)),
                   HV_STATUS_ACCESS_DENIED, "VTL%u: SignalEvent, no privilege", vtl);
                return 0;
        }
        is(post(1, 8), HV_STATUS_INVALID_CONNECTION_ID, "VTL%u: PostMessage, no connection", vtl);
        is(post(1, 240), HV_STATUS_INVALID_CONNECTION_ID, "VTL%u: of 240 bytes", vtl);
        is(post(0, 8), HV_STATUS_INVALID_PARAMETER, "VTL%u: of type 0", vtl);
        is(post(0x80000010, 8), HV_STATUS_INVALID_PARAMETER, "VTL%u: of a hypervisor's type", vtl);
        is(post(1, 241), HV_STATUS_INVALID_PARAMETER, "VTL%u: of 241 bytes", vtl);
        is(HV_RESULT_STATUS(hv_call(HVCALL_SIGNAL_EVENT | HV_CONTROL_FAST, 1, 0)),
           HV_STATUS_INVALID_CONNECTION_ID, "VTL%u: SignalEvent, no connection", vtl);
        return 0;
}

/* ---- VTL1 interrupted ---- */

static volatile unsigned depth, deepest, order[4];

/* The lower one lets the higher one in. */
static void on_nested(struct trap_frame *f) {
        order[depth] = (unsigned) f->vector;
        depth++;
        if (depth > deepest)
                deepest = depth;
        if (f->vector == VECTOR_B) {
                apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_HIGH);
                interrupt_window();
        }
        depth--;
        got[this_cpu()->vtl][this_cpu()->index]++;
        apic_eoi();
}

/* In a secure call */
static uint64_t vtl1_nested(uint64_t arg) {
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_B);
        take();
        return depth << 8 | deepest;
}

/* The priority of VTL1's task holds an interrupt back, over a return and a call. */
static uint64_t vtl1_hold(uint64_t arg) {
        write_cr8(0xf);
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_A);
        take();
        return all_got();
}

static uint64_t vtl1_let_go(uint64_t arg) {
        unsigned before = all_got();

        write_cr8(0);
        take();
        return before << 8 | all_got();
}

/* Pending, but not let in: VTL1 returns with its interrupts off. */
static uint64_t vtl1_leave_pending(uint64_t arg) {
        apic_send(this_cpu()->index, APIC_ICR_FIXED | VECTOR_A);
        return all_got();
}

static void test_nested(void) {
        irq_set(VECTOR_B, on_nested);
        irq_set(VECTOR_HIGH, on_nested);
        forget();
        deepest = 0;
        is(vtl1_run(vtl1_nested, 0), 2, "in a secure call VTL1's handler is interrupted");
        is(order[0], VECTOR_B, "the lower vector first");
        is(order[1], VECTOR_HIGH, "the higher one within");
        is(got[1][0], 2, "both end");

        forget();
        deepest = 0;
        is(ipi(VTL1, VECTOR_B, 1), 0, "VTL0 interrupts VTL1");
        spin_for(&got[1][0], 2, LONG_MS);
        is(got[1][0], 2, "whose handler is interrupted, too");
        is(deepest, 2, "one within the other");
        is(depth, 0, "and back");

        forget();
        is(vtl1_run(vtl1_hold, 0), 0, "VTL1's TPR holds its interrupt back");
        spin_ms(5);
        is(all_got(), 0, "VTL0 is not preempted for it");
        is(vtl1_run(vtl1_let_go, 0), 0x0001, "until TPR is lower");

        forget();
        is(vtl1_run(vtl1_leave_pending, 0), 0, "VTL1 returns with an interrupt pending");
        spin_for(&got[1][0], 1, LONG_MS);
        is(got[1][0], 1, "and is entered again at once");
        is(entry_reason, HV_VTL_ENTRY_INTERRUPT, "for that reason");
}

/* ---- Other VPs ---- */

static volatile bool stop;

static uint64_t wait_open(uint64_t arg) {
        irq_on();
        while (!stop)
                cpu_relax();
        irq_off();
        return 0;
}

static uint64_t halt_open(uint64_t arg) {
        while (!stop)
                halt();
        return 0;
}

static uint64_t vtl1_ipi_to(uint64_t vtl_and_mask) {
        return ipi((uint8_t) (vtl_and_mask >> 56), VECTOR_A, vtl_and_mask & 0xffffffff);
}

static uint64_t vtl1_ipi_all(uint64_t vtl) {
        return ipi_ex((uint8_t) vtl, VP_SET_ALL, 0, 0, 0);
}

static void check_others(unsigned vtl, unsigned n, unsigned want, const char *what) {
        unsigned sum = 0;

        for (unsigned i = 1; i < n; i++)
                sum += spin_for(&got[vtl][i], want, LONG_MS);
        is(sum, n - 1, "%s: all of VPs 1 to %u have it in VTL%u", what, n - 1, vtl);
        for (unsigned i = 1; i < n; i++)
                is(got[!vtl][i], 0, "%s: VP %u has none in the other level", what, i);
        is(got[vtl][0] + got[!vtl][0], 0, "%s: nor VP 0", what);
        forget();
}

static void test_other_vps(uint64_t (*job)(uint64_t), const char *how) {
        unsigned n = cpu_count();
        uint64_t mask = (1ull << n) - 2;
        static struct assert_interrupt a = { .partition = SELF, .vector = VECTOR_A };

        stop = false;
        for (unsigned i = 1; i < n; i++)
                job_start(i, job, 0);
        spin_ms(5);
        forget();
        print("# other VPs %s\n", how);
        is(ipi(VTL_SELF, VECTOR_A, mask), 0, "VTL0 to the other VPs' VTL0");
        check_others(0, n, 1, "VTL0 to VTL0");
        is(vtl1_run(vtl1_ipi_to, (uint64_t) VTL1 << 56 | mask), 0, "VTL1 to their VTL1");
        check_others(1, n, 1, "VTL1 to VTL1");
        is(vtl1_run(vtl1_ipi_to, (uint64_t) VTL0 << 56 | mask), 0, "VTL1 to their VTL0");
        check_others(0, n, 1, "VTL1 to VTL0");
        is(ipi(VTL1, VECTOR_A, mask), 0, "VTL0 to their VTL1");
        check_others(1, n, 1, "VTL0 to VTL1");
        is(ipi_ex(VTL_SELF, VP_SET_SPARSE, 1, 1, mask), 0, "by Ex");
        check_others(0, n, 1, "by Ex");
        is(vtl1_run(vtl1_ipi_all, VTL1), 0, "VTL1 to all VPs' VTL1");
        interrupt_window();
        spin_for(&got[1][0], 1, LONG_MS);
        is(got[1][0], 1, "the sender is one of them");
        got[1][0] = 0;
        check_others(1, n, 1, "to all");
        for (unsigned i = 1; i < n; i++) {
                a.destination = i;
                is(vtl1_run(assert_call, (uint64_t) &a), 0, "AssertVirtualInterrupt on VP %u", i);
        }
        check_others(0, n, 1, "AssertVirtualInterrupt");
        a.destination = 1;
        a.type = 4;
        is(vtl1_run(assert_call, (uint64_t) &a), 0, "an NMI for VP 1");
        spin_for(&nmis[0], 1, LONG_MS);
        is(nmis[0], 1, "its VTL0 has it");
        is(nmis[1], 0, "and VTL1 not");
        a.type = 0;
        stop = true;
        ipi(VTL_SELF, VECTOR_A, mask);
        for (unsigned i = 1; i < n; i++)
                job_wait(i, "the end of waiting");
}

void guest_main(void) {
        vsm_open();
        tsc_per_ms();
        irq_set(VECTOR_A, on_ipi);
        irq_set(VECTOR_NMI, on_nmi);
        test_ipi();
        test_ipi_errors(0);
        vtl1_run(test_ipi_errors, 0);
        test_ipi_ex(0);
        vtl1_run(test_ipi_ex, 0);
        test_assert();
        test_others(0);
        vtl1_run(test_others, 0);
        test_nested();
        if (cpu_count() > 1) {
                for (unsigned i = 1; i < cpu_count(); i++)
                        job_open_vtl1(i);
                test_other_vps(wait_open, "running");
                test_other_vps(halt_open, "halted");
        }
}
