/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The library of the test guests: a 64-bit kernel of one address space, all CPUs at CPL 0,
 * interrupts off unless a test turns them on. One image serves both trust levels; every (level,
 * CPU) has its own struct cpu, GDT, TSS and stack, every level its own IDT and page tables.
 *
 * A guest is an int-less guest_main() that reports with ok() and friends and returns; the library
 * prints the TAP plan and ends the machine: exit port value 0 when everything passed, 1 otherwise.
 * It runs on the boot CPU, or on CPU N with on=N on the command line.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vtl/hvdef.h"

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))

#define MAX_CPUS 64
#define AP_TRAMPOLINE 0x8000u
#define STACK_SIZE 12288u

/* 2 MiB for tests, mapped in 4 KiB pages one to one; nothing of the image is there. */
#define WINDOW 0x800000ul
#define WINDOW_PAGE(n) (WINDOW + (uint64_t) (n) *HV_PAGE_SIZE)

/* An address that is neither RAM nor a device: reads are all ones. */
#define MMIO_HOLE 0xc0001000ul
#define XAPIC_BASE 0xfee00000ul

#define KERNEL_CS 0x08
#define KERNEL_DS 0x10
#define TSS_SELECTOR 0x28
#define CODE32_CS 0x38

#define PTE_PRESENT 0x1ull
#define PTE_WRITE 0x2ull
#define PTE_USER 0x4ull
#define PTE_ACCESSED 0x20ull
#define PTE_DIRTY 0x40ull
#define PTE_LARGE 0x80ull
#define PTE_NX (1ull << 63)

#define RFLAGS_FIXED 0x2ull
#define RFLAGS_CF 0x1ull
#define RFLAGS_IF 0x200ull
#define RFLAGS_DF 0x400ull
#define RFLAGS_IOPL3 0x3000ull
#define RFLAGS_RF 0x10000ull

enum vector {
        VECTOR_DB = 1,
        VECTOR_NMI = 2,
        VECTOR_UD = 6,
        VECTOR_GP = 13,
        VECTOR_PF = 14,
        VECTOR_SINT0 = 0x30, /* VTL1's intercept messages */
        VECTOR_TIMER = 0x40,
        VECTOR_IPI = 0x41,
        VECTOR_JOB = 0x42, /* job.c */
        VECTOR_SPURIOUS = 0xff,
        VECTOR_NONE = 0x100, /* struct fault: nothing was raised */
};

enum msr {
        MSR_APIC_BASE = 0x1b,
        MSR_PAT = 0x277,
        MSR_TSC_DEADLINE = 0x6e0,
        MSR_X2APIC = 0x800,
        MSR_EFER = 0xc0000080,
        MSR_STAR = 0xc0000081,
        MSR_LSTAR = 0xc0000082,
        MSR_FS_BASE = 0xc0000100,
        MSR_GS_BASE = 0xc0000101,
        MSR_KERNEL_GS_BASE = 0xc0000102,
};

/* What an exception leaves on the stack, entry.S */
struct trap_frame {
        uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
        uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
        uint64_t vector, error;
        uint64_t rip, cs, rflags, rsp, ss;
};

/* In the order of the TLFS's register names; rsp is not transferred. */
struct gprs {
        uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
        uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
        uint64_t rflags;
};

/* The exception that ended a guarded statement. */
struct fault {
        uint64_t vector; /* VECTOR_NONE: it ended by itself */
        uint64_t error, cr2, rip, cs, rflags;
};

struct tss {
        uint32_t reserved0;
        uint64_t rsp[3];
        uint64_t reserved1;
        uint64_t ist[7];
        uint64_t reserved2;
        uint16_t reserved3;
        uint16_t io_map;
} __attribute__((packed));

struct guard {
        uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip, rflags;
        uint64_t active;
};

/* One per (level, CPU), found through GS. */
struct cpu {
        struct cpu *self;   /* at 0, entry.S */
        struct guard guard; /* at 8, entry.S */
        struct fault fault;
        unsigned index; /* order of start; also the VP index and the APIC id */
        unsigned vtl;
        bool x2apic;
        volatile bool online;
        uint64_t gdt[8];
        struct tss tss;

        /* Hypercall page of this level (hv.c) */
        uint64_t hypercall_entry, vtl_call_entry, vtl_return_entry;
        uint64_t *in, *out; /* a page each for parameters */
        struct hv_vp_assist_page *assist;
        struct hv_message_page *simp;
        uint8_t *siefp;

        /* VTL1 only (vtl1.c) */
        unsigned calls, interrupts, intercepts;

        void (*start)(void *arg);
        void *start_arg;
        uint8_t stack[STACK_SIZE] __attribute__((aligned(16)));
        uint8_t trap_stack[4096] __attribute__((aligned(16)));  /* exceptions from CPL 3 */
        uint8_t fault_stack[2048] __attribute__((aligned(16))); /* IST1: #DF */
} __attribute__((aligned(4096)));

extern struct cpu cpus[2][MAX_CPUS];
extern uint64_t boot_pml4[512], boot_pdpt[512], boot_pd[4][512], boot_pt_window[512];
extern uint64_t vtl1_pml4[512];

void guest_main(void);

/* console.c */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void format(char *buf, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int console_read(void);
__attribute__((noreturn)) void guest_exit(uint8_t value);

bool ok_at(bool pass, const char *file, int line, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
bool is_at(uint64_t got, uint64_t want, const char *file, int line, const char *fmt, ...)
        __attribute__((format(printf, 5, 6)));
void skip(const char *reason, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
__attribute__((noreturn)) void skip_all(const char *reason);
__attribute__((noreturn, format(printf, 1, 2))) void bail_out(const char *fmt, ...);
__attribute__((noreturn)) void guest_done(void);
void guest_silent(void); /* no TAP from here: only the exit value */

#define ok(pass, ...) ok_at((pass), __FILE__, __LINE__, __VA_ARGS__)
#define is(got, want, ...) \
        is_at((uint64_t) (got), (uint64_t) (want), __FILE__, __LINE__, __VA_ARGS__)

void cmdline_set(const char *text);
const char *cmdline_find(const char *key);
uint64_t cmdline_number(const char *key, uint64_t otherwise);

/* string.c */

void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strncmp(const char *a, const char *b, size_t n);

/* cpu.c */

typedef void (*irq_handler)(struct trap_frame *f);
void irq_set(unsigned vector, irq_handler handler);
void cpu_load(struct cpu *c);
void cpu_prepare(unsigned vtl, unsigned index);
unsigned cpu_count(void); /* by fw_cfg */
bool cpu_start(unsigned index, void (*fn)(void *arg), void *arg);
uint8_t *trap_idt(unsigned vtl);

void apic_enable(bool x2apic);
uint32_t apic_read(unsigned reg); /* offsets as in the xAPIC page */
void apic_write(unsigned reg, uint32_t v);
void apic_send(uint32_t apic_id, uint32_t icr_low);
void apic_eoi(void);

#define APIC_ID 0x20
#define APIC_VERSION 0x30
#define APIC_TPR 0x80
#define APIC_EOI 0xb0
#define APIC_SVR 0xf0
#define APIC_ICR 0x300
#define APIC_LVT_TIMER 0x320
#define APIC_LVT_TSC_DEADLINE 0x40000u
#define APIC_TIMER_INITIAL 0x380
#define APIC_TIMER_DIVIDE 0x3e0
#define APIC_ICR_INIT 0x4500u
#define APIC_ICR_STARTUP 0x4600u
#define APIC_ICR_NMI 0x4400u
#define APIC_ICR_FIXED 0x4000u

/* entry.S */

int guard_enter(void) __attribute__((returns_twice));
void call_with_gprs(uint64_t entry, struct gprs *g);
uint64_t hv_call_at(uint64_t control, uint64_t in, uint64_t out, uint64_t entry);
void vtl1_entry(void);
void user_enter(uint64_t rip, uint64_t rsp, uint64_t rflags, uint64_t arg);

/* compat.S: registers of a call from 32-bit code; everything must lie below 4 GiB */
struct compat_regs {
        uint32_t eax, ecx, edx, ebx, ebp, esi, edi, entry;
};
void compat_call(struct compat_regs *r);
void compat_nothing(void);

/* Runs a statement and says which exception ended it: is(fault_of(wrmsr(...)).vector, VECTOR_GP,
 * "...") */
#define fault_of(statement)               \
        ({                                \
                if (guard_enter() == 0) { \
                        statement;        \
                        guard_leave();    \
                }                         \
                this_cpu()->fault;        \
        })

/* Instructions */

static inline struct cpu *this_cpu(void) {
        struct cpu *c;

        __asm__ volatile("movq %%gs:0, %0" : "=r"(c));
        return c;
}

static inline void guard_leave(void) {
        struct cpu *c = this_cpu();

        c->guard.active = 0;
        c->fault = (struct fault){ .vector = VECTOR_NONE };
}

static inline void outb(uint16_t port, uint8_t v) {
        __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline void outw(uint16_t port, uint16_t v) {
        __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

static inline uint8_t inb(uint16_t port) {
        uint8_t v;

        __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port) : "memory");
        return v;
}

static inline uint64_t rdmsr(uint32_t msr) {
        uint32_t lo, hi;

        __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
        return (uint64_t) hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v) {
        __asm__ volatile("wrmsr"
                         :
                         : "c"(msr), "a"((uint32_t) v), "d"((uint32_t) (v >> 32))
                         : "memory");
}

/* For tables of registers: get_name() and set_name() */
#define DEFINE_MSR_ACCESS(name, index)       \
        static uint64_t get_##name(void) {   \
                return rdmsr(index);         \
        }                                    \
        static void set_##name(uint64_t v) { \
                wrmsr(index, v);             \
        }

static inline void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t r[4]) {
        __asm__ volatile("cpuid"
                         : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                         : "a"(leaf), "c"(subleaf));
}

/* Bits of ECX of leaf 1 */
enum cpu_feature {
        CPU_TSC_DEADLINE = 24,
        CPU_XSAVE = 26,
        CPU_AVX = 28,
};

static inline bool cpu_has(enum cpu_feature feature) {
        uint32_t r[4];

        cpuid(1, 0, r);
        return r[2] >> feature & 1;
}

#define CR4_OSXSAVE 0x40000u

static inline uint64_t xgetbv(void) {
        uint32_t lo, hi;

        __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
        return (uint64_t) hi << 32 | lo;
}

static inline uint64_t rdtsc(void) {
        uint32_t lo, hi;

        __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
        return (uint64_t) hi << 32 | lo;
}

static inline uint64_t read_flags(void) {
        uint64_t v;

        __asm__ volatile("pushfq; popq %0" : "=r"(v) : : "memory");
        return v;
}

static inline void write_flags(uint64_t v) {
        __asm__ volatile("pushq %0; popfq" : : "r"(v) : "memory", "cc");
}

#define DEFINE_CR(name)                                                          \
        static inline uint64_t read_##name(void) {                               \
                uint64_t v;                                                      \
                __asm__ volatile("movq %%" #name ", %0" : "=r"(v) : : "memory"); \
                return v;                                                        \
        }                                                                        \
        static inline void write_##name(uint64_t v) {                            \
                __asm__ volatile("movq %0, %%" #name : : "r"(v) : "memory");     \
        }
DEFINE_CR(cr0)
DEFINE_CR(cr2)
DEFINE_CR(cr3)
DEFINE_CR(cr4)
DEFINE_CR(cr8)
DEFINE_CR(dr0)
DEFINE_CR(dr1)
DEFINE_CR(dr2)
DEFINE_CR(dr3)
DEFINE_CR(dr7)
#undef DEFINE_CR

struct table_pointer {
        uint16_t limit;
        uint64_t base;
} __attribute__((packed));

static inline struct table_pointer read_idtr(void) {
        struct table_pointer p;

        __asm__ volatile("sidt %0" : "=m"(p));
        return p;
}

static inline void write_idtr(struct table_pointer p) {
        __asm__ volatile("lidt %0" : : "m"(p) : "memory");
}

static inline struct table_pointer read_gdtr(void) {
        struct table_pointer p;

        __asm__ volatile("sgdt %0" : "=m"(p));
        return p;
}

static inline void write_gdtr(struct table_pointer p) {
        __asm__ volatile("lgdt %0" : : "m"(p) : "memory");
}

static inline void invlpg(uint64_t va) {
        __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline void cpu_relax(void) {
        __asm__ volatile("pause" : : : "memory");
}

/*
 * Lets pending interrupts in; interrupts are off again afterwards. The IN of a port that nobody has
 * is for hosts that emulate instructions and look for interrupts only at exits.
 */
static inline void interrupt_window(void) {
        __asm__ volatile("sti; nop; inb $0x80, %%al; nop; cli" : : : "rax", "memory");
}

static inline void irq_on(void) {
        __asm__ volatile("sti" : : : "memory");
}

static inline void irq_off(void) {
        __asm__ volatile("cli" : : : "memory");
}

/* Interrupts off again when it returns. */
static inline void halt(void) {
        __asm__ volatile("sti; hlt; cli" : : : "memory");
}

static inline uint64_t peek64(uint64_t gpa) {
        return *(volatile uint64_t *) gpa;
}

static inline void poke64(uint64_t gpa, uint64_t v) {
        *(volatile uint64_t *) gpa = v;
}

static inline struct gprs gprs_zero(void) {
        return (struct gprs){ .rflags = read_flags() };
}
