/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * CPU tables, exceptions and interrupts, the local APIC, application processors.
 */
#include "guest.h"

#define FW_CFG_SELECTOR 0x510
#define FW_CFG_DATA 0x511
#define FW_CFG_NB_CPUS 5

#define IDT_GATE 0x8e00ull
#define IDT_VECTORS 256

/* How long an application processor may take to come up, in TSC ticks: some seconds anywhere. */
#define AP_TIMEOUT 20000000000ull

_Static_assert(offsetof(struct cpu, guard) == 8, "entry.S");
_Static_assert(offsetof(struct guard, active) == 72, "entry.S");
_Static_assert(offsetof(struct gprs, rflags) == 128 && offsetof(struct gprs, r8) == 64, "entry.S");
_Static_assert(sizeof(struct tss) == 104, "a 64-bit TSS");

struct gate {
        uint64_t low, high;
};

struct cpu cpus[2][MAX_CPUS];

/* A table per level: tests close VTL0's page. */
static struct gate idt[2][IDT_VECTORS] __attribute__((aligned(4096)));
static irq_handler irq_handlers[IDT_VECTORS];

extern uint8_t trap_entries[], ap_trampoline[], ap_trampoline_end[];
extern uint32_t multiboot_magic, multiboot_info;
extern uint64_t ap_boot_stack;

void handle_trap(struct trap_frame *f);
void guest_boot(void);
void guest_boot_ap(void);

static struct cpu *volatile ap_booting;

static void idt_build(struct gate *table) {
        for (unsigned i = 0; i < IDT_VECTORS; i++) {
                uint64_t entry = (uint64_t) trap_entries + 16 * i;

                table[i].low = (entry & 0xffff) | (uint64_t) KERNEL_CS << 16 | IDT_GATE << 32 |
                               (i == 8 ? 1ull << 32 : 0) | (entry >> 16 & 0xffff) << 48;
                table[i].high = entry >> 32;
        }
}

uint8_t *trap_idt(unsigned vtl) {
        return (uint8_t *) idt[vtl];
}

void cpu_prepare(unsigned vtl, unsigned index) {
        struct cpu *c = &cpus[vtl][index];
        uint64_t tss = (uint64_t) &c->tss;

        c->self = c;
        c->vtl = vtl;
        c->index = index;
        c->gdt[1] = 0x00af9a000000ffff; /* 0x08 64-bit code */
        c->gdt[2] = 0x00cf92000000ffff; /* 0x10 data */
        c->gdt[3] = 0x00cff2000000ffff; /* 0x18 data, CPL 3 */
        c->gdt[4] = 0x00affa000000ffff; /* 0x20 64-bit code, CPL 3 */
        c->gdt[5] = (sizeof(struct tss) - 1) | (tss & 0xffffff) << 16 | 0x89ull << 40 |
                    (tss >> 24 & 0xff) << 56;
        c->gdt[6] = tss >> 32;
        c->gdt[7] = 0x00cf9a000000ffff; /* 0x38 32-bit code */
        c->tss.rsp[0] = (uint64_t) (c->trap_stack + sizeof(c->trap_stack));
        c->tss.ist[0] = (uint64_t) (c->fault_stack + sizeof(c->fault_stack));
        c->tss.io_map = sizeof(struct tss);
}

/* Makes @c the running CPU's. */
void cpu_load(struct cpu *c) {
        struct table_pointer gdt = { .limit = sizeof(c->gdt) - 1, .base = (uint64_t) c->gdt };
        struct table_pointer idtr = { .limit = sizeof(idt[0]) - 1, .base = (uint64_t) idt[c->vtl] };

        write_gdtr(gdt);
        write_idtr(idtr);
        __asm__ volatile("ltr %w0" : : "r"(TSS_SELECTOR) : "memory");
        wrmsr(MSR_GS_BASE, (uint64_t) c);
}

void irq_set(unsigned vector, irq_handler handler) {
        irq_handlers[vector] = handler;
}

static void guard_trap(struct cpu *c, struct trap_frame *f) {
        const struct guard *g = &c->guard;

        c->fault = (struct fault){ .vector = f->vector,
                                   .error = f->error,
                                   .rip = f->rip,
                                   .cs = f->cs,
                                   .rflags = f->rflags };
        if (f->vector == VECTOR_PF)
                c->fault.cr2 = read_cr2();
        c->guard.active = 0;
        f->rbx = g->rbx;
        f->rbp = g->rbp;
        f->r12 = g->r12;
        f->r13 = g->r13;
        f->r14 = g->r14;
        f->r15 = g->r15;
        f->rax = 1;
        f->rip = g->rip;
        f->rsp = g->rsp;
        f->rflags = g->rflags;
        f->cs = KERNEL_CS;
        f->ss = KERNEL_DS;
}

void handle_trap(struct trap_frame *f) {
        struct cpu *c = this_cpu();

        if (irq_handlers[f->vector] != NULL) {
                irq_handlers[f->vector](f);
                return;
        }
        if (c->guard.active && f->vector != VECTOR_NMI && f->vector < 32) {
                guard_trap(c, f);
                return;
        }
        if (f->vector == VECTOR_SPURIOUS)
                return;
        c->guard.active = 0;
        print("# CPU %u VTL%u: RAX %lx RCX %lx RDX %lx RBX %lx RSP %lx RSI %lx RDI %lx "
              "RFLAGS %lx CR3 %lx\n",
              c->index, c->vtl, f->rax, f->rcx, f->rdx, f->rbx, f->rsp, f->rsi, f->rdi, f->rflags,
              read_cr3());
        bail_out("exception %lu on CPU %u VTL%u, error 0x%lx, RIP 0x%lx, CR2 0x%lx", f->vector,
                 c->index, c->vtl, f->error, f->rip, read_cr2());
}

/* Local APIC; the two forms differ in how a register is reached and in the ICR. */

void apic_enable(bool x2apic) {
        struct cpu *c = this_cpu();
        uint64_t base = rdmsr(MSR_APIC_BASE);

        c->x2apic = x2apic;
        if (x2apic)
                wrmsr(MSR_APIC_BASE, base | 0xc00);
        apic_write(APIC_SVR, 0x100 | VECTOR_SPURIOUS);
}

uint32_t apic_read(unsigned reg) {
        if (this_cpu()->x2apic)
                return (uint32_t) rdmsr(MSR_X2APIC + reg / 16);
        return *(volatile uint32_t *) (XAPIC_BASE + reg);
}

void apic_write(unsigned reg, uint32_t v) {
        if (this_cpu()->x2apic)
                wrmsr(MSR_X2APIC + reg / 16, v);
        else
                *(volatile uint32_t *) (XAPIC_BASE + reg) = v;
}

void apic_send(uint32_t apic_id, uint32_t icr_low) {
        if (this_cpu()->x2apic) {
                wrmsr(MSR_X2APIC + APIC_ICR / 16, (uint64_t) apic_id << 32 | icr_low);
                return;
        }
        apic_write(APIC_ICR + 0x10, apic_id << 24);
        apic_write(APIC_ICR, icr_low);
}

void apic_eoi(void) {
        apic_write(APIC_EOI, 0);
}

unsigned cpu_count(void) {
        unsigned n;

        outw(FW_CFG_SELECTOR, FW_CFG_NB_CPUS);
        n = inb(FW_CFG_DATA);
        n |= (unsigned) inb(FW_CFG_DATA) << 8;
        return n < 1 ? 1 : n > MAX_CPUS ? MAX_CPUS : n;
}

void guest_boot_ap(void) {
        struct cpu *c = ap_booting;

        cpu_load(c);
        apic_enable(false);
        c->online = true;
        c->start(c->start_arg);
        for (;;)
                __asm__ volatile("cli; hlt");
}

/* Starts CPU @index by INIT and SIPI; it runs @fn and halts. */
bool cpu_start(unsigned index, void (*fn)(void *arg), void *arg) {
        struct cpu *c = &cpus[0][index];
        uint64_t start;

        cpu_prepare(0, index);
        c->start = fn;
        c->start_arg = arg;
        memcpy((void *) (uint64_t) AP_TRAMPOLINE, ap_trampoline,
               (size_t) (ap_trampoline_end - ap_trampoline));
        ap_boot_stack = (uint64_t) (c->stack + STACK_SIZE - 16);
        ap_booting = c;

        apic_send(index, APIC_ICR_INIT);
        apic_send(index, APIC_ICR_STARTUP | AP_TRAMPOLINE >> 12);
        for (start = rdtsc(); !c->online; cpu_relax())
                if (rdtsc() - start > AP_TIMEOUT)
                        return false;
        return true;
}

static void main_elsewhere(void *arg) {
        guest_main();
        guest_done();
}

/* Command line: on=N runs the guest's main function on CPU N, with nothing on the boot CPU. */
static void run_main(void) {
        unsigned on = (unsigned) cmdline_number("on", 0);

        if (on == 0)
                main_elsewhere(NULL);
        if (on >= cpu_count() || !cpu_start(on, main_elsewhere, NULL))
                bail_out("CPU %u is to run this, and does not start", on);
        for (;;)
                __asm__ volatile("cli; hlt");
}

struct multiboot_information {
        uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
};

void guest_boot(void) {
        const struct multiboot_information *info = (const void *) (uint64_t) multiboot_info;

        idt_build(idt[0]);
        idt_build(idt[1]);
        cpu_prepare(0, 0);
        cpu_load(&cpus[0][0]);
        cpus[0][0].online = true;
        if (multiboot_magic != 0x2badb002)
                bail_out("not started by a multiboot loader: magic 0x%x", multiboot_magic);
        if (info->flags & 4)
                cmdline_set((const char *) (uint64_t) info->cmdline);
        apic_enable(false);
        run_main();
}
