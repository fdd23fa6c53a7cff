/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * As many VPs as there are, up to 64, all with VTL1: enabled by VTL1 of the first one, started by
 * StartVirtualProcessor in another order, used all at once (vsm.md 3.4, 3.13, 3.14, 5.1).
 */
#include "lib/hv.h"

#define VECTOR_A 0x51
#define LONG_MS 30000 /* 64 VPs may share one CPU of a host that is itself emulated */

static unsigned n;

/* A permutation of 1 to n - 1: steps of a number that has no divisor in common with 63, 7 or 3 */
static unsigned nth(unsigned i, unsigned step) {
        return 1 + i * step % (n - 1);
}

static volatile unsigned got[2][MAX_CPUS], entered[MAX_CPUS], order_wrong;

static void on_ipi(struct trap_frame *f) {
        struct cpu *c = this_cpu();

        apic_eoi();
        __atomic_add_fetch(&got[c->vtl][c->index], 1, __ATOMIC_SEQ_CST);
}

/* VTL1 of a VP that is being started: before its VTL0 */
static bool on_call(struct gprs *g) {
        unsigned me = this_cpu()->index;

        if (entered[me]++ == 0 && me != 0)
                order_wrong += cpus[0][me].online || g->rdi != 0;
        return vtl1_call_default(g);
}

/* ---- VTL1 of VP 0 ---- */

static uint64_t vp_status(uint64_t vp) {
        const uint32_t name = HV_REGISTER_VSM_VP_STATUS;
        union hv_register_value v;

        return hv_get_registers((uint32_t) vp, VTL_SELF, &name, 1, &v) == HV_REPS(1) ? v.low64 : 0;
}

/* How many VPs but the first have that status */
static uint64_t vtl1_count_status(uint64_t status) {
        uint64_t same = 0;

        for (unsigned i = 1; i < n; i++)
                same += vp_status(i) == status;
        return same;
}

static uint64_t vtl1_enable_all(uint64_t step) {
        struct hv_initial_vp_context context;
        uint64_t done = 0;

        for (unsigned i = 0; i < n - 1; i++) {
                unsigned vp = nth(i, (unsigned) step);

                vtl1_context(vp, &context);
                done += hv_enable_vp_vtl(HV_PARTITION_ID_SELF, vp, 1, &context) == 0;
        }
        return done;
}

static uint64_t vtl1_start_all(uint64_t step) {
        struct hv_initial_vp_context context;
        uint64_t done = 0;

        for (unsigned i = 0; i < n - 1; i++) {
                unsigned vp = nth(i, (unsigned) step);

                vtl0_context(vp, job_started, &context);
                done += hv_start_vp(HV_PARTITION_ID_SELF, vp, 0, &context) == 0;
        }
        return done;
}

static bool in_time(uint64_t start) {
        return (int64_t) (rdtsc() - start) < (int64_t) (LONG_MS * tsc_per_ms());
}

static unsigned await_online(void) {
        uint64_t start = rdtsc();
        unsigned there = 0;

        for (unsigned i = 1; i < n; i++) {
                while (!cpus[0][i].online && in_time(start))
                        cpu_relax();
                there += cpus[0][i].online;
        }
        return there;
}

static void test_start(void) {
        is(vtl1_run(vtl1_count_status, 0x10000), n - 1, "%u other VPs have no VTL1, run none",
           n - 1);
        is(vtl1_run(vtl1_enable_all, 5), n - 1, "VTL1 enabled on all of them by VP 0's");
        is(vtl1_run(vtl1_count_status, 0x30000), n - 1, "as their status says");
        is(vtl1_run(vtl1_enable_all, 1), 0, "once");
        is(vtl1_run(vtl1_start_all, 11), n - 1, "started in another order");
        is(await_online(), n - 1, "all of them run VTL0");
        is(order_wrong, 0, "and ran VTL1 before");
        is(vtl1_run(vtl1_start_all, 1), 0, "none is started twice");
        for (unsigned i = 1; i < n; i++)
                cpus[1][i].interrupts = 0;
}

/* ---- Each VP about itself ---- */

struct about {
        uint64_t vp_status, vtl1_status, partition_status, vp_index, apic_id, vtl1_apic_id;
        unsigned enable_again;
};
static struct about abouts[MAX_CPUS];

static uint64_t vtl1_status(uint64_t arg) {
        return hv_register(HV_REGISTER_VSM_VP_STATUS);
}

static uint64_t vtl1_apic_id(uint64_t arg) {
        return apic_read(APIC_ID);
}

static uint64_t look(uint64_t vp) {
        struct about *a = &abouts[vp];
        struct hv_initial_vp_context context = { .rip = 0 };

        a->vp_status = hv_register(HV_REGISTER_VSM_VP_STATUS);
        a->partition_status = hv_register(HV_REGISTER_VSM_PARTITION_STATUS);
        a->vtl1_status = vtl1_run(vtl1_status, 0);
        a->vp_index = rdmsr(HV_MSR_VP_INDEX);
        a->apic_id = apic_read(APIC_ID) >> 24;
        a->vtl1_apic_id = vtl1_run(vtl1_apic_id, 0);
        a->enable_again = hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context);
        return vp;
}

static void test_each(void) {
        unsigned good = 0, index = 0, apic = 0, again = 0;

        for (unsigned i = 1; i < n; i++)
                job_start(i, look, i);
        look(0);
        for (unsigned i = 1; i < n; i++)
                job_wait(i, "what it says about itself");
        for (unsigned i = 0; i < n; i++) {
                good += abouts[i].vp_status == 0x30000 && abouts[i].vtl1_status == 0x30001 &&
                        abouts[i].partition_status == 0x10003;
                index += abouts[i].vp_index == i;
                apic += abouts[i].apic_id == i && abouts[i].vtl1_apic_id == i;
                again += abouts[i].enable_again == HV_STATUS_VTL_ALREADY_ENABLED ||
                         abouts[i].enable_again == HV_STATUS_ACCESS_DENIED;
        }
        is(good, n, "all %u, VTL0 by itself and by a secure call: status of VP and partition", n);
        is(index, n, "VP index");
        is(apic, n, "APIC id of both levels");
        is(again, n, "EnableVpVtl from VTL0 of each is refused");
}

static void test_apic_ids(void) {
        struct {
                uint64_t partition;
                uint8_t vtl, reserved[7];
                uint32_t id[MAX_CPUS];
        } *in = (void *) this_cpu()->in;
        const uint32_t *out = (const uint32_t *) this_cpu()->out;
        unsigned bad = 0;

        in->partition = HV_PARTITION_ID_SELF;
        in->vtl = 0;
        memset(in->reserved, 0, sizeof(in->reserved));
        for (unsigned i = 0; i < n; i++)
                in->id[i] = n - 1 - i;
        memset(this_cpu()->out, 0xee, HV_PAGE_SIZE);
        is(hv_call_memory(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_REPS(n)), HV_REPS(n),
           "GetVpIndexFromApicId for all of them");
        for (unsigned i = 0; i < n; i++)
                bad += out[i] != n - 1 - i;
        is(bad, 0, "is right");
        is(out[n], 0xeeeeeeee, "and writes no more");
}

/* ---- Interrupts ---- */

static unsigned sum(unsigned vtl) {
        unsigned v = 0;

        for (unsigned i = 0; i < MAX_CPUS; i++)
                v += got[vtl][i];
        return v;
}

static void forget(void) {
        memset((void *) got, 0, sizeof(got));
}

static uint64_t send_to_each(uint64_t arg) {
        for (unsigned i = 1; i < n; i++)
                apic_send(i, APIC_ICR_FIXED | VECTOR_A);
        return 0;
}

static uint64_t all_by_call(uint64_t input_vtl) {
        return HV_RESULT_STATUS(hv_call(HVCALL_SEND_SYNTHETIC_CLUSTER_IPI | HV_CONTROL_FAST,
                                        VECTOR_A | input_vtl << 32,
                                        (n == 64 ? ~0ull : (1ull << n) - 1) & ~1ull));
}

/* Sends to the VP behind it. */
static uint64_t vtl1_send_next(uint64_t vp) {
        apic_send((uint32_t) (vp + 1) % n, APIC_ICR_FIXED | VECTOR_A);
        return 0;
}

static void check_each(unsigned vtl, unsigned first, const char *what) {
        uint64_t start = rdtsc();
        unsigned once = 0;

        while (sum(vtl) < n - first && in_time(start))
                interrupt_window();
        for (unsigned i = first; i < n; i++)
                once += got[vtl][i] == 1;
        is(once, n - first, "%s: each has it in VTL%u", what, vtl);
        is(sum(!vtl), 0, "%s: none in the other level", what);
        forget();
}

static void test_ipis(void) {
        forget();
        send_to_each(0);
        check_each(0, 1, "VTL0 to each");
        vtl1_run(send_to_each, 0);
        check_each(1, 1, "VTL1 to each");
        is(all_by_call(VTL_SELF), 0, "VTL0 to all by one call");
        check_each(0, 1, "VTL0 to all");
        is(vtl1_run(all_by_call, VTL1), 0, "VTL1 to all by one call");
        check_each(1, 1, "VTL1 to all");
        is(vtl1_run(all_by_call, VTL0), 0, "VTL1 to all VTL0s by one call");
        check_each(0, 1, "VTL1 to all VTL0s");

        for (unsigned i = 1; i < n; i++)
                job_start_vtl1(i, vtl1_send_next, i);
        vtl1_run(vtl1_send_next, 0);
        for (unsigned i = 1; i < n; i++)
                job_wait(i, "its interrupt for the next VP");
        check_each(1, 0, "VTL1 of each to the next, all at once");
}

void guest_main(void) {
        n = cpu_count();
        if (n < 2)
                skip_all("one CPU");
        if (!(hv_privileges() & HV_PRIV_START_VIRTUAL_PROCESSOR))
                skip_all("the partition has no StartVirtualProcessor");
        job_halt();
        irq_set(VECTOR_A, on_ipi);
        vtl1_on_call = on_call;
        vsm_open();
        tsc_per_ms();
        test_start();
        test_each();
        test_apic_ids();
        test_ipis();
}
