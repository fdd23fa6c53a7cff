/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * MSRs and I/O ports that VTL1 intercepts (vsm.md 3.16, 4.16, 8.6, 8.7): what it is told, that
 * nothing happened meanwhile, and each of the ways to answer. What no host has an exit for is
 * refused, or accepted where the command line says accept=1, as the host was told to.
 */
#include "lib/probes.h"

#define MSR_MISC_ENABLE 0x1a0
#define PORT_SCRATCH 0x3ff /* of the UART: keeps what is written to it */
#define PORT_OTHER 0x3fe
#define BUFFER WINDOW_PAGE(4)
#define CR_BIT(name) (1ull << HV_CR_INTERCEPT_##name)

enum answer {
        ANSWER_SKIP,    /* RIP behind the instruction */
        ANSWER_EMULATE, /* the same, and what it was to do: for a write by SetVpRegisters */
        ANSWER_POISON,  /* the same, and RDX:RAX are what was read */
        ANSWER_GP,      /* #GP in VTL0 */
        ANSWER_ALLOW,   /* no intercept any more, and again */
};

static struct {
        enum answer answer;
        uint32_t reg; /* ANSWER_EMULATE */
        unsigned count;
        uint32_t type;
        unsigned size;
        struct hv_msr_intercept msr;
        struct hv_io_port_intercept port;
} seen;

struct install {
        uint32_t type, access;
        uint64_t parameter;
};

static uint64_t install_there(uint64_t arg) {
        const struct install *i = (const struct install *) arg;

        return hv_install_intercept(i->type, i->access, i->parameter);
}

static unsigned install(uint32_t type, uint32_t access, uint64_t parameter) {
        struct install i = { type, access, parameter };

        return (unsigned) vtl1_run(install_there, (uint64_t) &i);
}

static uint64_t control_there(uint64_t value) {
        return hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CONTROL, value);
}

static unsigned control(uint64_t value) {
        return (unsigned) vtl1_run(control_there, value);
}

static void answer_gp(void) {
        union hv_register_value v = { .reg64 = 1 | 1 << 8 | VECTOR_GP << 16 };
        uint32_t name = HV_REGISTER_PENDING_EVENT0;

        if (HV_RESULT_STATUS(hv_set_registers(HV_VP_INDEX_SELF, VTL0, &name, 1, &v)) != 0)
                bail_out("VTL1 cannot inject an exception");
}

static void skip_insn(const struct hv_intercept_header *h) {
        if (hv_set(VTL0, HV_X64_REGISTER_RIP, h->rip + (h->instruction_length & 0xf)) != 0)
                bail_out("VTL1 cannot write VTL0's RIP");
}

static void allow(const struct hv_message *m) {
        unsigned status = m->message_type == HV_MESSAGE_X64_MSR_INTERCEPT
                                ? hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_CONTROL, 0)
                                : hv_install_intercept(HV_INTERCEPT_X64_IO_PORT, 0, seen.port.port);

        if (status != 0)
                bail_out("VTL1 cannot take an intercept away");
}

static void on_intercept(struct hv_message *m, struct gprs *g) {
        const struct hv_intercept_header *h = (const void *) m->payload;

        if (seen.count++ > 64)
                bail_out("intercepts without end at VTL0's RIP 0x%lx", h->rip);
        seen.type = m->message_type;
        seen.size = m->payload_size;
        memcpy(&seen.msr, m->payload, sizeof(seen.msr));
        memcpy(&seen.port, m->payload, sizeof(seen.port));
        switch (seen.answer) {
        case ANSWER_EMULATE:
                if (hv_set(VTL0, seen.reg, seen.msr.rdx << 32 | (uint32_t) seen.msr.rax) != 0)
                        bail_out("VTL1 cannot carry out VTL0's write");
                break;
        case ANSWER_POISON:
                g->rax = 0x11223344;
                g->rdx = 0x55667788;
                break;
        case ANSWER_GP:
                answer_gp();
                return;
        case ANSWER_ALLOW:
                allow(m);
                return;
        case ANSWER_SKIP:
                break;
        }
        skip_insn(h);
}

static void expect(enum answer answer) {
        memset(&seen, 0, sizeof(seen));
        seen.answer = answer;
}

/* ---- Who may, and what ---- */

static void test_refusals(void) {
        bool accept = cmdline_number("accept", 0);
        unsigned none = accept ? 0 : HV_STATUS_INVALID_REGISTER_VALUE;
        unsigned nothing = accept ? 0 : HV_STATUS_INVALID_PARAMETER;

        is(hv_install_intercept(HV_INTERCEPT_X64_IO_PORT, 3, PORT_SCRATCH), HV_STATUS_ACCESS_DENIED,
           "InstallIntercept by VTL0");
        is(install(HV_INTERCEPT_X64_IO_PORT, 4, PORT_SCRATCH), HV_STATUS_INVALID_PARAMETER,
           "a port cannot be executed");
        is(install(HV_INTERCEPT_X64_IO_PORT, 1, 0x10000), HV_STATUS_INVALID_PARAMETER,
           "no such port");
        is(install(HV_INTERCEPT_X64_IO_PORT, 1, 0x21), nothing, "the kernel's PIC");
        is(install(HV_INTERCEPT_X64_CPUID, 4, 1), nothing, "CPUID");
        is(install(3, 4, 14), HV_STATUS_INVALID_PARAMETER, "exceptions");
        is(control(CR_BIT(CR0_WRITE) | CR_BIT(CR4_WRITE)), none, "control registers");
        is(control(CR_BIT(GDTR_WRITE) | CR_BIT(IDTR_WRITE) | CR_BIT(LDTR_WRITE) | CR_BIT(TR_WRITE)),
           none, "descriptor tables");
        is(control(1ull << 29), HV_STATUS_INVALID_REGISTER_VALUE, "a reserved bit");
        is(control(0), 0, "none");
        install(HV_INTERCEPT_X64_IO_PORT, 0, 0x21);
}

/* ---- MSRs ---- */

extern uint8_t wrmsr_insn[], rdmsr_insn[];

__attribute__((noinline)) static void do_wrmsr(uint32_t msr, uint64_t v) {
        __asm__ volatile(".globl wrmsr_insn\nwrmsr_insn: wrmsr"
                         :
                         : "c"(msr), "a"((uint32_t) v), "d"((uint32_t) (v >> 32))
                         : "memory");
}

__attribute__((noinline)) static uint64_t do_rdmsr(uint32_t msr) {
        uint32_t lo, hi;

        __asm__ volatile(".globl rdmsr_insn\nrdmsr_insn: rdmsr"
                         : "=a"(lo), "=d"(hi)
                         : "c"(msr)
                         : "memory");
        return (uint64_t) hi << 32 | lo;
}

static void check_msr(uint32_t msr, bool is_write, uint64_t value, const char *what) {
        is(seen.count, 1, "%s: intercepted once", what);
        is(seen.type, HV_MESSAGE_X64_MSR_INTERCEPT, "%s: message type", what);
        is(seen.size, sizeof(seen.msr), "%s: payload size", what);
        is(seen.msr.msr, msr, "%s: MSR", what);
        is(seen.msr.header.access_type, is_write, "%s: access", what);
        is(seen.msr.header.instruction_length, 2, "%s: length", what);
        is(seen.msr.header.rip, (uint64_t) (is_write ? wrmsr_insn : rdmsr_insn), "%s: RIP", what);
        is(seen.msr.header.vp_index, this_cpu()->index, "%s: VP", what);
        if (is_write)
                is(seen.msr.rdx << 32 | (uint32_t) seen.msr.rax, value, "%s: value", what);
}

static void test_msr_writes(void) {
        static const struct {
                uint64_t bit;
                uint32_t msr, reg;
                uint64_t value;
                const char *name;
        } rows[] = {
                { CR_BIT(LSTAR_WRITE), MSR_LSTAR, HV_X64_REGISTER_LSTAR, 0x7000, "LSTAR" },
                { CR_BIT(STAR_WRITE), MSR_STAR, HV_X64_REGISTER_STAR, 0x10000800000000, "STAR" },
                { CR_BIT(CSTAR_WRITE), 0xc0000083, HV_X64_REGISTER_CSTAR, 0x7100, "CSTAR" },
                { CR_BIT(SFMASK_WRITE), 0xc0000084, HV_X64_REGISTER_SFMASK, 0x700, "SFMASK" },
                { CR_BIT(SYSENTER_CS_WRITE), 0x174, HV_X64_REGISTER_SYSENTER_CS, 8, "SYSENTER_CS" },
                { CR_BIT(SYSENTER_ESP_WRITE), 0x175, HV_X64_REGISTER_SYSENTER_ESP, 0x7200,
                  "SYSENTER_ESP" },
                { CR_BIT(SYSENTER_EIP_WRITE), 0x176, HV_X64_REGISTER_SYSENTER_EIP, 0x7300,
                  "SYSENTER_EIP" },
        };

        for (unsigned i = 0; i < ELEMENTSOF(rows); i++) {
                uint64_t old = rdmsr(rows[i].msr);

                is(control(rows[i].bit), 0, "%s: intercept on", rows[i].name);
                expect(ANSWER_SKIP);
                do_wrmsr(rows[i].msr, rows[i].value);
                check_msr(rows[i].msr, true, rows[i].value, rows[i].name);
                is(rdmsr(rows[i].msr), old, "%s: nothing was written", rows[i].name);

                expect(ANSWER_EMULATE);
                seen.reg = rows[i].reg;
                do_wrmsr(rows[i].msr, rows[i].value);
                is(rdmsr(rows[i].msr), rows[i].value, "%s: VTL1 writes it", rows[i].name);

                expect(ANSWER_GP);
                is(fault_of(do_wrmsr(rows[i].msr, old)).vector, VECTOR_GP, "%s: #GP from VTL1",
                   rows[i].name);
                is(this_cpu()->fault.rip, (uint64_t) wrmsr_insn, "%s: at the instruction",
                   rows[i].name);

                expect(ANSWER_ALLOW);
                do_wrmsr(rows[i].msr, old);
                is(seen.count, 1, "%s: allowed and tried again", rows[i].name);
                is(rdmsr(rows[i].msr), old, "%s: written", rows[i].name);
                expect(ANSWER_SKIP);
                do_wrmsr(rows[i].msr, old);
                is(seen.count, 0, "%s: no intercept any more", rows[i].name);
        }
}

static void test_msr_reads(void) {
        uint64_t efer = rdmsr(MSR_EFER), base = rdmsr(MSR_APIC_BASE);

        is(control(CR_BIT(EFER_READ)), 0, "EFER: reads are intercepted");
        expect(ANSWER_POISON);
        is(do_rdmsr(MSR_EFER), 0x5566778811223344, "EFER: what VTL1 says");
        check_msr(MSR_EFER, false, 0, "EFER read");
        expect(ANSWER_SKIP);
        wrmsr(MSR_EFER, efer);
        is(seen.count, 0, "EFER: writes are not");
        expect(ANSWER_ALLOW);
        is(do_rdmsr(MSR_EFER), efer, "EFER: itself");

        is(control(CR_BIT(APIC_BASE_WRITE) | CR_BIT(APIC_BASE_READ)), 0, "APIC_BASE: intercepted");
        expect(ANSWER_SKIP);
        do_wrmsr(MSR_APIC_BASE, base);
        check_msr(MSR_APIC_BASE, true, base, "APIC_BASE write");
        expect(ANSWER_ALLOW);
        is(do_rdmsr(MSR_APIC_BASE), base, "APIC_BASE: itself");
}

/* MISC_ENABLE: only where a bit of the mask would change (vsm.md 4.16) */
static uint64_t set_mask(uint64_t mask) {
        return hv_set(VTL_SELF, HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK, mask);
}

static void test_mask(void) {
        uint64_t old = rdmsr(MSR_MISC_ENABLE);

        vtl1_run(set_mask, 1);
        is(control(CR_BIT(MISC_ENABLE_WRITE)), 0, "MISC_ENABLE: bit 0 only");
        expect(ANSWER_SKIP);
        wrmsr(MSR_MISC_ENABLE, old);
        is(seen.count, 0, "MISC_ENABLE: a write that changes nothing");
        do_wrmsr(MSR_MISC_ENABLE, old ^ 1);
        check_msr(MSR_MISC_ENABLE, true, old ^ 1, "MISC_ENABLE");
        is(rdmsr(MSR_MISC_ENABLE), old, "MISC_ENABLE: unchanged");
        is(control(0), 0, "MISC_ENABLE: off");
}

static uint64_t read_msr(uint64_t msr) {
        return rdmsr((uint32_t) msr);
}

/* What KVM's filter lets out and nobody intercepts on this VP goes on as on a CPU. */
static void test_other_vp(void) {
        if (cpu_count() < 2) {
                skip("one CPU", "intercepts are per VP");
                return;
        }
        job_open_vtl1(1);
        is(control(CR_BIT(LSTAR_WRITE) | CR_BIT(EFER_WRITE)), 0, "VP 0 intercepts LSTAR and EFER");
        expect(ANSWER_SKIP);
        is(job_run(1, read_msr, MSR_LSTAR, "rdmsr"), rdmsr(MSR_LSTAR), "VP 1 reads it");
        is(seen.count, 0, "VP 1 is not intercepted");
        is(control(0), 0, "off");
}

static uint64_t write_lstar(uint64_t value) {
        return fault_of(wrmsr(MSR_LSTAR, value)).vector << 32 | (rdmsr(MSR_LSTAR) & 0xffffffff);
}

static uint64_t write_efer(uint64_t value) {
        return fault_of(wrmsr(MSR_EFER, value)).vector;
}

static void test_other_vp_writes(void) {
        uint64_t efer = rdmsr(MSR_EFER);

        if (cpu_count() < 2)
                return;
        is(control(CR_BIT(LSTAR_WRITE) | CR_BIT(EFER_WRITE)), 0, "VP 0 intercepts again");
        is(job_run(1, write_lstar, 0x7770, "wrmsr"), (uint64_t) VECTOR_NONE << 32 | 0x7770,
           "VP 1 writes LSTAR");
        is(job_run(1, write_lstar, 1ull << 47, "wrmsr") >> 32, VECTOR_GP,
           "what is not canonical is #GP there");
        is(job_run(1, write_efer, efer, "wrmsr"), VECTOR_NONE, "VP 1 writes EFER");
        is(job_run(1, write_efer, efer & ~0x100ull, "wrmsr"), VECTOR_GP,
           "no leaving of long mode with paging on");
        is(job_run(1, write_efer, 1ull << 40, "wrmsr"), VECTOR_GP, "a reserved bit");
        is(control(0), 0, "off");
}

/* ---- Ports ---- */

extern uint8_t out_insn[], in_insn[], out_imm_insn[];

__attribute__((noinline)) static void do_out(uint16_t port, uint8_t v) {
        __asm__ volatile(".globl out_insn\nout_insn: outb %0, %1" : : "a"(v), "d"(port) : "memory");
}

__attribute__((noinline)) static uint64_t do_in(uint16_t port) {
        uint64_t v = 0;

        __asm__ volatile(".globl in_insn\nin_insn: inb %1, %%al" : "+a"(v) : "d"(port) : "memory");
        return v;
}

static void check_port(bool is_write, uint64_t rip, unsigned length, unsigned info,
                       const char *what) {
        bool precise = cmdline_number("precise", 1);

        is(seen.count, 1, "%s: intercepted once", what);
        is(seen.type, HV_MESSAGE_X64_IO_PORT_INTERCEPT, "%s: message type", what);
        is(seen.size, sizeof(seen.port), "%s: payload size", what);
        is(seen.port.port, PORT_SCRATCH, "%s: port", what);
        is(seen.port.header.access_type, is_write, "%s: access", what);
        if (!precise && is_write)
                return; /* RIP is past an instruction that is not known */
        is(seen.port.access_info, info, "%s: size and kind", what);
        is(seen.port.header.instruction_length, length, "%s: length", what);
        if (rip)
                is(seen.port.header.rip, rip, "%s: RIP", what);
}

static void test_ports(void) {
        uint8_t *buffer = (uint8_t *) BUFFER;
        static unsigned wrong;

        outb(PORT_SCRATCH, 0x5a);
        is(install(HV_INTERCEPT_X64_IO_PORT, 3, PORT_SCRATCH), 0, "the UART's scratch register");
        expect(ANSWER_SKIP);
        do_out(PORT_SCRATCH, 0x77);
        check_port(true, (uint64_t) out_insn, 1, 1, "OUT");
        is(seen.port.rax & 0xff, 0x77, "OUT: value");
        expect(ANSWER_POISON);
        is(do_in(PORT_SCRATCH), 0x11223344, "IN: RAX is what VTL1 says");
        check_port(false, (uint64_t) in_insn, 1, 1, "IN");
        expect(ANSWER_GP);
        is(fault_of(do_in(PORT_SCRATCH)).vector, VECTOR_GP, "IN: #GP from VTL1");
        is(this_cpu()->fault.rip, (uint64_t) in_insn, "IN: at the instruction");

        buffer[0] = 0xee;
        expect(ANSWER_SKIP);
        probe_ins(buffer, PORT_SCRATCH);
        is(buffer[0], 0xee, "INS: nothing was stored");
        check_port(false, 0, 1, 9, "INS");
        memset(buffer, 0xee, 16);
        expect(ANSWER_SKIP);
        probe_rep_ins(buffer + 4, PORT_SCRATCH, 4);
        check_port(false, 0, 2, 0x19, "REP INS");
        for (unsigned i = 0; i < 16; i++)
                wrong += buffer[i] != 0xee;
        is(wrong, 0, "REP INS: nothing was stored");
        expect(ANSWER_SKIP);
        probe_outs(buffer, PORT_SCRATCH);
        check_port(true, 0, 0, 9, "OUTS");

        /* A wider access that covers the port */
        expect(ANSWER_SKIP);
        outw(PORT_OTHER, 0x1234);
        is(seen.count, 1, "a 16-bit OUT to the port before it");
        expect(ANSWER_SKIP);
        outb(0x80, 0);
        is(seen.count, 0, "another port");

        expect(ANSWER_ALLOW);
        is(do_in(PORT_SCRATCH) & 0xff, 0x5a, "allowed and tried again: the device kept its value");
        is(seen.count, 1, "one intercept");
        expect(ANSWER_SKIP);
        outb(PORT_SCRATCH, 0x33);
        is(inb(PORT_SCRATCH), 0x33, "the device is VTL0's again");
        is(seen.count, 0, "no intercept any more");

        is(install(HV_INTERCEPT_X64_IO_PORT_RANGE, 1, PORT_SCRATCH << 16 | PORT_OTHER), 0,
           "a range, reads only");
        expect(ANSWER_POISON);
        is(do_in(PORT_OTHER) & 0xff, 0x44, "its first port");
        is(do_in(PORT_SCRATCH) & 0xff, 0x44, "its last port");
        outb(PORT_SCRATCH, 0x21);
        is(seen.count, 2, "a write is not intercepted");
        is(install(HV_INTERCEPT_X64_IO_PORT_RANGE, 0, PORT_SCRATCH << 16 | PORT_OTHER), 0, "off");
        is(inb(PORT_SCRATCH), 0x21, "the write arrived");
}

void guest_main(void) {
        vsm_open();
        vtl1_on_intercept = on_intercept;
        test_refusals();
        test_msr_writes();
        test_msr_reads();
        test_mask();
        test_ports();
        test_other_vp();
        test_other_vp_writes();
}
