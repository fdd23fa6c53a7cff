/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The demonstration: a kernel gives itself a VTL1, which keeps a secret from it and works with the
 * secret on request.
 *
 * Command line: hold=SECONDS keeps the guest alive at the end, until 'q' comes in on the UART or
 * the time is over; precise=1 says that the host reports faults with a precise RIP (only told to
 * the reader: the guest uses plain MOV, which works everywhere).
 */
#include "lib/hv.h"

#define SECRET_PAGE WINDOW_PAGE(0)
#define POISON 0xdead0000dead0000ull
#define TIMER_TICK 6250000u /* about 100 ms with the APIC timer of a virtual machine */

/* What VTL1 offers; the number travels in RDI, the argument in RSI, the answer in RDX. */
enum service {
        SERVICE_SETUP,
        SERVICE_COUNT,
        SERVICE_CHECKSUM,
        SERVICE_UNTOUCHED,
        SERVICES,
};

static struct { uint64_t key, counter; } *const secret = (void *) SECRET_PAGE;

static unsigned failures, blocked_reads, blocked_writes;

static void expect(bool fine, const char *what) {
        if (fine)
                return;
        failures++;
        print("demo: FAILED: %s\n", what);
}

static uint64_t checksum(uint64_t key, uint64_t data) {
        uint64_t v = key;

        for (unsigned i = 0; i < 8; i++)
                v = (v ^ (data >> 8 * i & 0xff)) * 0x100000001b3ull;
        return v;
}

/* VTL1's side */

static uint64_t service_setup(uint64_t key) {
        uint64_t gpn = SECRET_PAGE >> HV_PAGE_SHIFT;

        print("VTL1: entered by VTL call; own stack, GDT, IDT and page tables; status 0x%lx\n",
              hv_register(HV_REGISTER_VSM_VP_STATUS));
        secret->key = key;
        secret->counter = 0;
        if (hv_set(VTL_SELF, HV_REGISTER_VSM_PARTITION_CONFIG, VTL1_CONFIG) != HV_STATUS_SUCCESS)
                return 0;
        if (HV_RESULT_STATUS(hv_modify_mask(0, VTL_SELF, &gpn, 1)) != HV_STATUS_SUCCESS)
                return 0;
        print("VTL1: my secret is in the page at 0x%lx; VTL0 may not touch it any more\n",
              SECRET_PAGE);
        return 1;
}

static uint64_t service_count(uint64_t arg) {
        return ++secret->counter;
}

static uint64_t service_checksum(uint64_t data) {
        return checksum(secret->key, data);
}

static uint64_t service_untouched(uint64_t key) {
        return secret->key == key;
}

static uint64_t (*const services[SERVICES])(uint64_t) = {
        [SERVICE_SETUP] = service_setup,
        [SERVICE_COUNT] = service_count,
        [SERVICE_CHECKSUM] = service_checksum,
        [SERVICE_UNTOUCHED] = service_untouched,
};

static bool serve(struct gprs *g) {
        g->rdx = g->rdi < SERVICES ? services[g->rdi](g->rsi) : ~0ull;
        return true;
}

/* VTL0 touched the page: a read gets the poison, a write gets nowhere, and VTL0 goes on behind
 * the instruction. */
static void intercepted(struct hv_message *m, struct gprs *g) {
        const struct hv_memory_intercept *i = (const void *) m->payload;
        bool write = i->header.access_type == HV_INTERCEPT_ACCESS_WRITE;

        if (blocked_reads + blocked_writes >= 8)
                bail_out("VTL0 cannot be moved on");
        print("VTL1: intercept: VTL0 wanted to %s 0x%lx, RIP 0x%lx: %s\n", write ? "write" : "read",
              i->gpa, i->header.rip, write ? "dropped" : "it gets poison");
        if (write)
                blocked_writes++;
        else {
                blocked_reads++;
                g->rax = POISON;
        }
        hv_set(VTL0, HV_X64_REGISTER_RIP, i->header.rip + (i->header.instruction_length & 0xf));
}

/* VTL0's side */

static uint64_t secure_call(enum service service, uint64_t arg) {
        struct gprs g = gprs_zero();

        g.rdi = service;
        g.rsi = arg;
        vtl_call(&g);
        return g.rdx;
}

static uint64_t plain_load(const void *p) {
        uint64_t v;

        __asm__ volatile("movq (%%rdi), %%rax" : "=a"(v) : "D"(p) : "memory");
        return v;
}

static void plain_store(void *p, uint64_t v) {
        __asm__ volatile("movq %%rax, (%%rdi)" : : "a"(v), "D"(p) : "memory");
}

static bool enable(void) {
        struct hv_initial_vp_context context;
        unsigned status;

        if (!hv_present()) {
                print("VTL0: no Hyper-V interface in CPUID\n");
                return false;
        }
        print("VTL0: found Hyper-V; privileges 0x%lx%s\n", hv_privileges(),
              hv_privileges() & HV_PRIV_VSM ? ", Virtual Secure Mode among them" : "");
        if (!(hv_privileges() & HV_PRIV_VSM))
                return false;
        hv_open();
        print("VTL0: hypercall page at 0x%lx, VTL call at +0x%lx, VTL return at +0x%lx\n",
              hv_hypercall_page(0), this_cpu()->vtl_call_entry - hv_hypercall_page(0),
              this_cpu()->vtl_return_entry - hv_hypercall_page(0));

        status = hv_enable_partition_vtl(HV_PARTITION_ID_SELF, 1, 0);
        print("VTL0: EnablePartitionVtl(1): %s (0x%x)\n",
              status == 0 ? "VTL1 enabled for the partition" : "refused", status);
        if (status != HV_STATUS_SUCCESS)
                return false;
        vtl1_context(0, &context);
        status = hv_enable_vp_vtl(HV_PARTITION_ID_SELF, HV_VP_INDEX_SELF, 1, &context);
        print("VTL0: EnableVpVtl(1): %s (0x%x)\n",
              status == 0 ? "VTL1 enabled on this VP" : "refused", status);
        return status == HV_STATUS_SUCCESS;
}

static void secure_calls(uint64_t key) {
        for (unsigned i = 1; i <= 6; i++) {
                uint64_t n = secure_call(SERVICE_COUNT, 0), data = 0x1111 * i,
                         sum = secure_call(SERVICE_CHECKSUM, data);

                print("VTL0: secure calls: count() = %lu, checksum(0x%lx) = 0x%016lx\n", n, data,
                      sum);
                expect(n == i, "the counter");
                expect(sum == checksum(key, data), "the checksum");
        }
        expect(secure_call(99, 0) == ~0ull, "an unknown service is refused");
}

static void attacks(uint64_t key) {
        uint64_t v;

        v = plain_load(&secret->key);
        print("VTL0: read the secret: got 0x%lx, %s\n", v,
              v == POISON ? "poison" : "NOT the poison");
        expect(v == POISON && v != key, "reading the secret gives poison");
        plain_store(&secret->key, 0x4141414141414141ull);
        print("VTL0: wrote over the secret\n");
        expect(blocked_reads == 1 && blocked_writes == 1, "one intercept for each access");

        v = secure_call(SERVICE_UNTOUCHED, key);
        print("VTL0: VTL1 says its secret is %s; count() = %lu\n", v ? "unchanged" : "CHANGED",
              secure_call(SERVICE_COUNT, 0));
        expect(v == 1, "the secret is unchanged");
        expect(secure_call(SERVICE_CHECKSUM, 7) == checksum(key, 7), "VTL1 still works with it");
}

static void on_timer(struct trap_frame *f) {
        apic_eoi();
}

static void hold(uint64_t seconds) {
        uint64_t end = hv_time() + seconds * 10000000;

        print("VTL0: holding for %lu s; q ends it\n", seconds);
        irq_set(VECTOR_TIMER, on_timer);
        apic_write(APIC_TIMER_DIVIDE, 3); /* by 16 */
        apic_write(APIC_LVT_TIMER, VECTOR_TIMER | 1u << 17);
        apic_write(APIC_TIMER_INITIAL, TIMER_TICK);
        while (hv_time() < end && console_read() != 'q')
                __asm__ volatile("sti; hlt; cli" : : : "memory");
        apic_write(APIC_TIMER_INITIAL, 0);
        __asm__ volatile("sti; nop; cli" : : : "memory");
}

void guest_main(void) {
        uint64_t key = rdtsc() * 0x9e3779b97f4a7c15ull | 1;

        guest_silent();
        print("demo: a kernel with a secret\n");
        print("demo: faults are %s on this host\n",
              cmdline_number("precise", 0) ? "precise" : "imprecise: plain MOV only");
        vtl1_on_call = serve;
        vtl1_on_intercept = intercepted;

        if (!enable()) {
                print("demo: no VTL1, nothing to show\n");
                guest_exit(1);
        }
        expect(secure_call(SERVICE_SETUP, key) == 1, "VTL1 sets itself up");
        if (failures == 0) {
                secure_calls(key);
                attacks(key);
        }
        print("VTL0: VTL1 served %u calls and %u intercepts\n", cpus[1][0].calls,
              cpus[1][0].intercepts);
        print("demo: %s\n", failures == 0 ? "all as expected" : "NOT as expected");
        if (cmdline_number("hold", 0) > 0)
                hold(cmdline_number("hold", 0));
        print("demo: end\n");
        guest_exit(failures > 0);
}
