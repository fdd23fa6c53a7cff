/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hypercall ABI as a guest meets it: control word, parameters in memory, registers, privilege
 * (vsm.md 2).
 * Command line: precise=1 on a host that executes instructions itself.
 */
#include "lib/hv.h"

#define CLOSED_PAGE WINDOW_PAGE(0)
#define EVP HVCALL_ENABLE_PARTITION_VTL
#define GET HVCALL_GET_VP_REGISTERS

static uint8_t user_stack[1024] __attribute__((aligned(16)));

static unsigned status_of(uint64_t control, uint64_t in, uint64_t out) {
        return HV_RESULT_STATUS(hv_call(control, in, out));
}

/* A GetVpRegisters of one good register in the CPU's parameter page, at an offset. */
static uint64_t prepare(unsigned at) {
        struct hv_input_registers *in = (void *) ((uint8_t *) this_cpu()->in + at);

        *in = (struct hv_input_registers){ .partition = HV_PARTITION_ID_SELF,
                                           .vp = HV_VP_INDEX_SELF };
        in->name[0] = HV_REGISTER_VSM_VP_STATUS;
        return (uint64_t) in;
}

static void test_codes(void) {
        static const uint16_t unknown[] = {
                0x0000, 0x0004, 0x000e, 0x0010, 0x7777, 0x8fff, 0xffff
        };
        uint64_t out = (uint64_t) this_cpu()->out;

        for (unsigned i = 0; i < ELEMENTSOF(unknown); i++)
                is(status_of(unknown[i], 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE, "call code 0x%x",
                   unknown[i]);
        is(hv_call(0x7777, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE,
           "the rest of the result is zero");
        is(status_of(0x7777 | 1ull << 60, 0, 0), HV_STATUS_INVALID_HYPERCALL_CODE,
           "the code is looked at first");
        for (unsigned bit = 27; bit < 64; bit++) {
                if (!(HV_CONTROL_RESERVED >> bit & 1))
                        continue;
                is(status_of(GET | HV_REPS(1) | 1ull << bit, prepare(0), out),
                   HV_STATUS_INVALID_HYPERCALL_INPUT, "reserved bit %u", bit);
        }
}

static void test_control(void) {
        uint64_t in = prepare(0), out = (uint64_t) this_cpu()->out;
        const uint64_t fast = EVP | HV_CONTROL_FAST;

        is(status_of(GET | HV_REPS(1), in, out), 0, "a good call");
        is(status_of(fast | HV_REPS(1), HV_PARTITION_ID_SELF, 1), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "rep count of a simple call");
        is(status_of(fast | HV_REP_START(1), HV_PARTITION_ID_SELF, 1),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "rep start of a simple call");
        is(status_of(fast | 1ull << HV_CONTROL_VARHDR_SHIFT, HV_PARTITION_ID_SELF, 1),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "variable header of a simple call");
        is(status_of(GET, in, out), HV_STATUS_INVALID_HYPERCALL_INPUT, "rep call without reps");
        is(status_of(GET | HV_REPS(1) | HV_REP_START(1), in, out),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "rep start equal to the count");
        is(status_of(GET | HV_REPS(1) | HV_REP_START(5), in, out),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "rep start behind the count");
        is(status_of(GET | HV_REPS(1) | 1ull << HV_CONTROL_VARHDR_SHIFT, in, out),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "variable header of a rep call that has none");
        is(status_of(GET | HV_CONTROL_FAST | HV_REPS(40), 0, 0), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "a fast call that does not fit into registers");
}

static void test_memory(void) {
        uint64_t out = (uint64_t) this_cpu()->out, in;
        unsigned status;

        memset((void *) out, 0xcc, 64);
        is(status_of(GET | HV_REPS(1), prepare(8) + 4, out), HV_STATUS_INVALID_ALIGNMENT,
           "input not aligned");
        is(status_of(GET | HV_REPS(1), prepare(0), out + 4), HV_STATUS_INVALID_ALIGNMENT,
           "output not aligned");
        is(status_of(GET | HV_REPS(1), prepare(0) + 4096 - 16, out), HV_STATUS_INVALID_ALIGNMENT,
           "input straddles");
        is(status_of(GET | HV_REPS(1), prepare(0), out + 4096 - 8), HV_STATUS_INVALID_ALIGNMENT,
           "output straddles");
        is(status_of(GET | HV_REPS(1), MMIO_HOLE & ~0xfffull, out),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "input where no memory is");
        is(status_of(GET | HV_REPS(1), prepare(0), MMIO_HOLE & ~0xfffull),
           HV_STATUS_INVALID_HYPERCALL_INPUT, "output where no memory is");
        status = status_of(GET | HV_REPS(1), 1ull << 60, out);
        ok(status == HV_STATUS_INVALID_HYPERCALL_INPUT || status == HV_STATUS_INVALID_ALIGNMENT,
           "input beyond the address space (0x%x)", status);
        is(peek64(out), 0xcccccccccccccccc, "nothing was written so far");

        in = prepare(4096 - 24);
        is(status_of(GET | HV_REPS(1), in, out), 0, "input up to the end of its page");
        is(status_of(GET | HV_REPS(1), prepare(0), out + 4096 - 16), 0,
           "output up to the end of its page");
        is(status_of(EVP | HV_CONTROL_FAST, HV_PARTITION_ID_SELF, 1), HV_STATUS_INVALID_VTL_STATE,
           "a call without output");
        in = prepare(0);
        poke64(in, HV_PARTITION_ID_SELF);
        poke64(in + 8, 1);
        is(status_of(EVP, in, 0x123), HV_STATUS_INVALID_VTL_STATE,
           "does not look at its output address");

        in = prepare(0);
        is(status_of(GET | HV_REPS(1), in, in + 64), 0, "input and output in one page");
        is(peek64(in + 64), 0x30000, "with the right output");
}

static void test_protected(void) {
        uint64_t out = (uint64_t) this_cpu()->out;
        struct poke p = { CLOSED_PAGE, 0x4242424242424242 };

        poke64(CLOSED_PAGE, HV_PARTITION_ID_SELF);
        poke64(CLOSED_PAGE + 8, HV_VP_INDEX_SELF);
        poke64(CLOSED_PAGE + 16, HV_REGISTER_VSM_VP_STATUS);
        is(status_of(GET | HV_REPS(1), CLOSED_PAGE, out), 0, "input in an open page");
        is(HV_RESULT_STATUS(protect(CLOSED_PAGE, 1, 0)), 0, "VTL1 closes it");
        is(status_of(GET | HV_REPS(1), CLOSED_PAGE, out), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "input in a closed page");
        is(HV_RESULT_STATUS(protect(CLOSED_PAGE, 1, HV_MAP_GPA_READABLE)), 0,
           "VTL1 makes it read-only");
        is(status_of(GET | HV_REPS(1), CLOSED_PAGE, out), 0, "input in a read-only page");
        vtl1_run(vtl1_fill, (uint64_t) &p);
        is(status_of(GET | HV_REPS(1), prepare(0), CLOSED_PAGE), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "output to a read-only page");
        is(HV_RESULT_STATUS(protect(CLOSED_PAGE, 1, 0)), 0, "VTL1 closes it again");
        is(status_of(GET | HV_REPS(1), prepare(0), CLOSED_PAGE), HV_STATUS_INVALID_HYPERCALL_INPUT,
           "output to a closed page");
        ok(vtl1_page_is(CLOSED_PAGE, 0x4242424242424242), "the page is unchanged");
        is(HV_RESULT_STATUS(protect(CLOSED_PAGE, 1, HV_MAP_GPA_ALL)), 0, "VTL1 opens it");
}

static void test_registers(void) {
        struct gprs g, before;
        uint64_t *r = (uint64_t *) &g;

        for (unsigned i = 0; i < 16; i++)
                r[i] = 0xabc0000 + i;
        g.rflags = RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF | 0x880;
        g.rcx = GET | HV_REPS(1);
        g.rdx = prepare(0);
        g.r8 = (uint64_t) this_cpu()->out;
        before = g;
        call_with_gprs(this_cpu()->hypercall_entry, &g);
        is(g.rax, HV_REPS(1), "RAX is the result");
        g.rax = before.rax;
        for (unsigned i = 0; i < 16; i++)
                is(((uint64_t *) &g)[i], ((uint64_t *) &before)[i], "register %u is unchanged", i);
        is(g.rflags & 0xfff, before.rflags, "RFLAGS are unchanged");
}

static void test_privilege(void) {
        uint64_t rsp = (uint64_t) (user_stack + sizeof(user_stack));
        uint64_t entry = this_cpu()->hypercall_entry;
        struct fault f = fault_of(user_enter(entry, rsp, RFLAGS_FIXED | RFLAGS_IOPL3, 0));

        /* A host that emulates the OUT may refuse it to CPL 3 itself. */
        ok(f.vector == VECTOR_UD || (!cmdline_number("precise", 0) && f.vector == VECTOR_GP),
           "#UD at CPL 3 (%lu)", f.vector);
        is(f.cs & 3, 3, "taken at CPL 3");
        ok(f.rip >= entry && f.rip < entry + HV_PAGE_SIZE, "with RIP in the page");
}

static void test_calls(void) {
        uint64_t in = prepare(0), r;
        uint32_t *id = (uint32_t *) (in + 16), *vp = (uint32_t *) this_cpu()->out;
        unsigned n = cpu_count(), status;

        poke64(in + 8, 0);
        id[0] = 0;
        id[1] = 0x1234;
        vp[0] = vp[1] = 0xdddddddd;
        r = hv_call_memory(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_REPS(1));
        is(r, HV_REPS(1), "GetVpIndexFromApicId");
        is(vp[0], 0, "of APIC id 0");
        is(vp[1], 0xdddddddd, "writes one element of 4 bytes");
        r = hv_call_memory(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_REPS(2));
        is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_PARAMETER, "of an APIC id that nobody has");
        is(HV_RESULT_REPS(r), 1, "behind a good one");
        if (n > 1) {
                id[0] = 1;
                r = hv_call_memory(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_REPS(1));
                is(r, HV_REPS(1), "of the second CPU");
                is(vp[0], 1, "VP index 1");
                id[0] = 0;
        }
        poke64(in + 8, 1);
        r = hv_call_memory(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_REPS(1));
        is(HV_RESULT_STATUS(r), HV_STATUS_ACCESS_DENIED, "for VTL1, by VTL0");
        poke64(in, 42);
        poke64(in + 8, 0);
        r = hv_call_memory(HVCALL_GET_VP_INDEX_FROM_APIC_ID | HV_REPS(1));
        is(HV_RESULT_STATUS(r), HV_STATUS_INVALID_PARTITION_ID, "of partition 42");

        poke64((uint64_t) this_cpu()->out, ~0ull);
        status = HV_RESULT_STATUS(hv_call_memory(HVCALL_EXT_QUERY_CAPABILITIES));
        if (hv_privileges() & HV_PRIV_EXTENDED_HYPERCALLS) {
                is(status, 0, "ExtCallQueryCapabilities");
                is(peek64((uint64_t) this_cpu()->out) >> 5, 0, "no capability that nobody knows");
        } else
                ok(status == HV_STATUS_INVALID_HYPERCALL_CODE || status == HV_STATUS_ACCESS_DENIED,
                   "ExtCallQueryCapabilities without the privilege (0x%x)", status);
}

void guest_main(void) {
        vsm_protect();
        test_codes();
        test_control();
        test_memory();
        test_protected();
        test_registers();
        test_privilege();
        test_calls();
}
