/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Does the search of forbidden accesses see what the CPU does?  On real KVM with precise faults,
 * each instruction runs in a guest all of whose pages are closed; what fault_find() reports is
 * opened, and nothing else, until the instruction is done.  So no access can be missed.  Then each
 * page that was reported is closed alone: KVM must fault, and the report must be the same.  So no
 * access can be made up.
 *
 * One thing is left to the unit tests: an emulated CPU does not set the accessed bit of a code
 * segment that an interrupt or IRET enters.
 */

#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/fault.h"

#define PORT 0x78
#define STEPS_MAX 96
#define DONE 1

enum case_event {
        NO_EVENT,
        INTERRUPT, /* vector 0x40 */
        NMI,
};

struct poke {
        uint64_t gpa, value;
};

struct fault_case {
        const char *name;
        void (*make)(struct tiny_guest *g);
        const char *code;
        uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
        uint64_t rip; /* added to TINY_CODE */
        struct poke pokes[4];
        uint64_t rflags;
        enum case_event event;
        unsigned needs; /* NEEDS_* */
};

#define NEEDS_XSAVE 1u
#define NEEDS_AVX2 2u

#define DATA TINY_DATA
#define DATA2 TINY_DATA2
#define NEXT 0x1000 /* one page on */

/* The accessed bit clear, and the dirty bit clear */
#define PTE_DATA (TINY_PT + 0x100 * 8)
#define FRESH_PTE (TINY_DATA | 0x07)
#define CLEAN_PTE (TINY_DATA | 0x27)

static void make_pae(struct tiny_guest *g) {
        tiny_flat32(g);
        tiny_tables64(g);
        tiny_put64(g, TINY_PDPT, TINY_PD | 1);
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PDPT;
        g->sregs.cr4 = 0x20;
}

static void make_paging32(struct tiny_guest *g) {
        uint32_t pde = TINY_PT | 0x27;

        tiny_flat32(g);
        tiny_put(g, TINY_PD, &pde, sizeof(pde));
        for (uint32_t i = 0; i < TINY_PAGES; i++) {
                uint32_t pte = i << 12 | 0x67;

                tiny_put(g, TINY_PT + i * 4, &pte, sizeof(pte));
        }
        g->sregs.cr0 |= 1ull << 31;
        g->sregs.cr3 = TINY_PD;
}

/* QEMU 7.2 ends itself when a task register that is busy gives it a stack. AMD does not care. */
static void make_user32(struct tiny_guest *g) {
        tiny_user32(g);
        g->sregs.tr.type = 9;
}

static void make_inner32(struct tiny_guest *g) {
        tiny_flat32(g);
        g->sregs.tr.type = 9;
}

/* At CPL 3 with a permission bitmap that allows all */
static void make_ports(struct tiny_guest *g) {
        tiny_user(g);
        g->ram[TINY_TSS + 102] = 0x68;
        g->sregs.tr.limit = 0x2000;
}

static void make_large(struct tiny_guest *g) {
        tiny_long(g);
        tiny_put64(g, TINY_PD + 8, 0x200000 | 0xe7);
}

static void make_xsave(struct tiny_guest *g) {
        tiny_long(g);
        g->sregs.cr4 |= 0x40000;
}

#define CASE(name_, make_, code_, ...) \
        { .name = name_, .make = make_, .code = code_, __VA_ARGS__ }

static const struct fault_case cases[] = {
        CASE("mov load", tiny_long, "8b08", .rax = DATA),
        CASE("mov store", tiny_long, "8908", .rax = DATA),
        CASE("store sets A and D", tiny_long, "8908", .rax = DATA,
             .pokes = { { PTE_DATA, FRESH_PTE } }),
        CASE("store sets D", tiny_long, "8908", .rax = DATA, .pokes = { { PTE_DATA, CLEAN_PTE } }),
        CASE("load sets A", tiny_long, "8b08", .rax = DATA, .pokes = { { PTE_DATA, FRESH_PTE } }),
        CASE("large page", make_large, "8908", .rax = DATA2),
        CASE("lock inc", tiny_long, "f0ff00", .rax = DATA),
        CASE("cmpxchg16b", tiny_long, "480fc708", .rax = DATA),
        CASE("straddling load", tiny_long, "488b08", .rax = DATA + 0xffc),
        CASE("straddling store", tiny_long, "488908", .rax = DATA + 0xffc),
        CASE("straddling inc", tiny_long, "48ff00", .rax = DATA + 0xffc),
        CASE("straddling fetch", tiny_long, "48b81111111111111111", .rip = 0xffa),
        CASE("movs", tiny_long, "48a5", .rsi = DATA, .rdi = DATA2),
        CASE("rep movs over pages", tiny_long, "f348a5", .rsi = DATA + 0xff0, .rdi = DATA2 + 0xff8,
             .rcx = 4),
        CASE("rep stos downwards", tiny_long, "fdf3aa", .rdi = DATA2 + 2, .rcx = 6),
        CASE("cmps", tiny_long, "a7", .rsi = DATA, .rdi = DATA2),
        CASE("scas", tiny_long, "ae", .rdi = DATA2),
        CASE("lods", tiny_long, "ac", .rsi = DATA),
        CASE("xlat", tiny_long, "d7", .rbx = DATA + 0xff0, .rax = 0x20),
        CASE("bts beyond the operand", tiny_long, "0fab08", .rax = DATA, .rcx = 0x8000),
        CASE("bt with a negative index", tiny_long, "480fa308", .rax = DATA, .rcx = -1),
        CASE("push", tiny_long, "50"),
        CASE("push memory", tiny_long, "ff30", .rax = DATA),
        CASE("pop memory", tiny_long, "8f00", .rax = DATA),
        CASE("pop [rsp]", tiny_long, "8f8424f80f0000"),
        CASE("pushf, popf", tiny_long, "9c9d"),
        CASE("call", tiny_long, "e800000000"),
        CASE("call memory", tiny_long, "ff10", .rax = DATA, .pokes = { { DATA, TINY_LANDING } }),
        CASE("jmp memory", tiny_long, "ff20", .rax = DATA, .pokes = { { DATA, TINY_LANDING } }),
        CASE("ret", tiny_long, "c3", .pokes = { { TINY_STACK, TINY_LANDING } }),
        CASE("leave", tiny_long, "c9", .rbp = DATA),
        CASE("enter", tiny_long, "c8100003", .rbp = DATA),
        CASE("pushad", tiny_flat32, "60"),
        CASE("popad", tiny_flat32, "61"),
        CASE("les", tiny_flat32, "c400", .rax = DATA,
             .pokes = { { DATA, (uint64_t) TINY_FRESH << 32 } }),
        CASE("mov ds", tiny_long, "8ed8", .rax = TINY_SS),
        CASE("mov ds sets accessed", tiny_long, "8ed8", .rax = TINY_FRESH),
        CASE("mov ds from memory", tiny_long, "8e18", .rax = DATA,
             .pokes = { { DATA, TINY_FRESH } }),
        CASE("mov ds in the LDT", tiny_long, "8ed8", .rax = TINY_LDT_DATA),
        CASE("pop fs", tiny_long, "0fa1", .pokes = { { TINY_STACK, TINY_FRESH } }),
        CASE("lldt", tiny_long, "0f00d0", .rax = TINY_LDTR),
        CASE("ltr", tiny_long, "0f00d8", .rax = TINY_TR),
        CASE("ltr 32-bit", tiny_flat32, "0f00d8", .rax = TINY_TR),
        CASE("verr", tiny_long, "0f00e0", .rax = TINY_FRESH),
        CASE("lar", tiny_long, "0f02c8", .rax = TINY_FRESH),
        CASE("lsl", tiny_long, "0f03c8", .rax = TINY_FRESH),
        CASE("sgdt", tiny_long, "0f0100", .rax = DATA + 0xff8),
        CASE("sidt", tiny_long, "0f0108", .rax = DATA),
        CASE("lgdt", tiny_long, "0f0110", .rax = DATA,
             .pokes = { { DATA, (uint64_t) TINY_GDT << 16 | 0x7f } }),
        CASE("fxsave", tiny_long, "0fae00", .rax = DATA + 0xf00),
        CASE("fxrstor", tiny_long, "0fae08", .rax = DATA),
        CASE("fnstenv", tiny_long, "d930", .rax = DATA),
        CASE("fld, fstp tbyte", tiny_long, "db28db38", .rax = DATA),
        CASE("movups", tiny_long, "0f1000", .rax = DATA + 0xff8),
        CASE("movntdq", tiny_long, "660fe700", .rax = DATA),
        CASE("maskmovdqu", tiny_long, "660f76c0660ff7c0", .rdi = DATA + 0xff8),
        CASE("xsave", make_xsave, "0fae23", .rax = 3, .rbx = DATA + 0xdc0, .needs = NEEDS_XSAVE),
        CASE("xsave with AVX", make_xsave, "0fae23", .rax = 7, .rbx = DATA + 0xdc0,
             .needs = NEEDS_AVX2),
        /* vpcmpeqd xmm2, xmm2, xmm2; movd xmm1, ecx; vpgatherdd xmm0, [rax+xmm1], xmm2 */
        CASE("gather", make_xsave, "c5e976d2660f6ec9c4e269900408", .rax = DATA + 0x1000,
             .rcx = -0x1000, .needs = NEEDS_AVX2),
        /* vpcmpeqd ymm2, ymm2, ymm2; vmaskmovps [rax], ymm2, ymm0 */
        CASE("vmaskmovps", make_xsave, "c5ed76d2c4e26d2e00", .rax = DATA + 0xff0,
             .needs = NEEDS_AVX2),
        CASE("jmp far", tiny_long, "ff28", .rax = DATA,
             .pokes = { { DATA, (uint64_t) TINY_CS64 << 32 | TINY_LANDING } }),
        CASE("call far", tiny_long, "ff18", .rax = DATA,
             .pokes = { { DATA, (uint64_t) TINY_CS64 << 32 | TINY_LANDING } }),
        CASE("call gate", tiny_long, "ff18", .rax = DATA,
             .pokes = { { DATA, (uint64_t) TINY_GATE << 32 } }),
        CASE("call gate inwards", tiny_user, "ff18", .rax = DATA,
             .pokes = { { DATA, (uint64_t) TINY_GATE << 32 } }),
        CASE("call gate inwards, 32-bit", make_user32, "9a000000006000"),
        CASE("retf", tiny_long, "48cb",
             .pokes = { { TINY_STACK, TINY_LANDING }, { TINY_STACK + 8, TINY_CS64 } }),
        CASE("retf outwards", tiny_long, "48cb",
             .pokes = { { TINY_STACK, TINY_LANDING },
                        { TINY_STACK + 8, TINY_USER_CS64 },
                        { TINY_STACK + 16, TINY_STACK },
                        { TINY_STACK + 24, TINY_USER_SS } },
             .rflags = 0x3000),
        CASE("iretq", tiny_long, "48cf",
             .pokes = { { TINY_STACK, TINY_LANDING },
                        { TINY_STACK + 8, TINY_CS64 },
                        { TINY_STACK + 16, 2 },
                        { TINY_STACK + 24, TINY_STACK } }),
        CASE("iretd", tiny_flat32, "cf",
             .pokes = { { TINY_STACK, (uint64_t) TINY_CS32 << 32 | TINY_LANDING },
                        { TINY_STACK + 8, 2 } }),
        CASE("iretd outwards", tiny_flat32, "cf",
             .pokes = { { TINY_STACK, (uint64_t) TINY_USER_CS32 << 32 | TINY_LANDING },
                        { TINY_STACK + 8, (uint64_t) TINY_STACK << 32 | 0x3002 },
                        { TINY_STACK + 16, TINY_USER_SS } }),
        /* There OUT raises #GP, which comes back from virtual-8086 mode. */
        CASE("iretd to virtual-8086 mode", make_inner32, "cf",
             .pokes = { { TINY_STACK, TINY_LANDING },
                        { TINY_STACK + 8, 0x800000020002 },
                        { TINY_STACK + 16, 0x1000 } }),
        CASE("port in the bitmap", make_ports, "90"),
        CASE("xrstor", make_xsave, "0fae230fae2b", .rax = 3, .rbx = DATA, .needs = NEEDS_XSAVE),
        CASE("int n", tiny_long, "cd80"),
        CASE("int3", tiny_long, "cc"),
        CASE("int n from user mode", tiny_user, "cd80"),
        CASE("int n on an interrupt stack", tiny_long, "cd11"),
        CASE("int n, 32-bit", tiny_flat32, "cd80"),
        CASE("int n from user mode, 32-bit", make_user32, "cd80"),
        CASE("int n in real mode", tiny_real, "cd10", .pokes = { { 0x40, TINY_LANDING } }),
        CASE("push in real mode", tiny_real, "5058"),
        CASE("bound", tiny_flat32, "6208", .rax = DATA, .rcx = 1,
             .pokes = { { DATA, 0xffull << 32 } }),
        CASE("undefined opcode", tiny_long, "0f0b"),
        CASE("undefined opcode in user mode", tiny_user, "0f0b"),
        CASE("page fault", tiny_long, "8b08", .rax = 0x40000000),
        CASE("page fault in user mode", tiny_user, "8b08", .rax = 0x40000000),
        CASE("page fault, entry not present", tiny_long, "8b08", .rax = DATA,
             .pokes = { { PTE_DATA, 0 } }),
        CASE("general protection", tiny_flat32, "8ed8", .rax = 0x1000),
        CASE("interrupt", tiny_long, "90", .event = INTERRUPT, .rflags = 0x200),
        CASE("interrupt in user mode", tiny_user, "90", .event = INTERRUPT, .rflags = 0x200),
        CASE("interrupt, 32-bit", make_user32, "90", .event = INTERRUPT, .rflags = 0x200),
        CASE("NMI", tiny_long, "90", .event = NMI),
        CASE("PAE", make_pae, "8908", .rax = DATA),
        CASE("32-bit paging", make_paging32, "8908", .rax = DATA),
        CASE("32-bit paging, int n", make_paging32, "cd80"),
};

/* The KVM side: memory, its view for KVM, one vCPU. */
struct host {
        struct tiny_guest *guest;
        uint8_t *ram;  /* open */
        uint8_t *view; /* what KVM maps, with the rights of the guest */
        int kvm, vm, vcpu;
        struct kvm_run *run;
        struct kvm_sregs reset;
        struct kvm_regs regs;
        struct kvm_sregs sregs;
        struct kvm_vcpu_events events;
        unsigned features; /* NEEDS_* that are there */
};

#define say(...) printf("# " __VA_ARGS__)

static int host_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        struct host *h = userdata;

        if (gpa > TINY_SIZE || len > TINY_SIZE - gpa)
                return -EFAULT;
        memcpy(buf, h->ram + gpa, len);
        return 0;
}

static unsigned host_rights(void *userdata, uint64_t gpn) {
        struct host *h = userdata;

        return tiny_rights(h->guest, gpn);
}

static bool set_rights(struct host *h, uint64_t gpa, uint64_t size, unsigned rights) {
        int prot = (rights & HV_MAP_GPA_READABLE ? PROT_READ : 0) |
                   (rights & HV_MAP_GPA_WRITABLE ? PROT_WRITE : 0);

        memset(h->guest->rights + gpa / HV_PAGE_SIZE, rights, size / HV_PAGE_SIZE);
        return mprotect(h->view + gpa, size, prot) == 0;
}

static bool host_open(struct host *h) {
        struct kvm_userspace_memory_region slot = { .memory_size = TINY_SIZE };
        struct {
                struct kvm_cpuid2 head;
                struct kvm_cpuid_entry2 entries[200];
        } cpuid = { .head.nent = 200 };
        unsigned a, b, c, d;
        int fd, size;

        h->guest = malloc(sizeof(*h->guest));
        fd = memfd_create("ram", MFD_CLOEXEC);
        if (!h->guest || fd < 0 || ftruncate(fd, TINY_SIZE) < 0)
                return false;
        h->ram = mmap(NULL, TINY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        h->view = mmap(NULL, TINY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (h->ram == MAP_FAILED || h->view == MAP_FAILED)
                return false;
        close(fd);

        slot.userspace_addr = (uint64_t) h->view;
        h->vm = ioctl(h->kvm, KVM_CREATE_VM, 0);
        if (h->vm < 0 || ioctl(h->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
                return false;
        h->vcpu = ioctl(h->vm, KVM_CREATE_VCPU, 0);
        size = ioctl(h->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (h->vcpu < 0 || size < 0)
                return false;
        h->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, h->vcpu, 0);
        if (h->run == MAP_FAILED || ioctl(h->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) < 0 ||
            ioctl(h->vcpu, KVM_SET_CPUID2, &cpuid) < 0)
                return false;

        if (__get_cpuid(1, &a, &b, &c, &d) && (c & bit_OSXSAVE)) {
                struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = 7 };
                bool avx2 =
                        (c & bit_AVX) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);

                if (ioctl(h->vcpu, KVM_SET_XCRS, &xcrs) == 0)
                        h->features |= NEEDS_XSAVE | (avx2 ? NEEDS_AVX2 : 0);
        }
        return ioctl(h->vcpu, KVM_GET_SREGS, &h->reset) == 0;
}

static void put_code(struct tiny_guest *g, const struct fault_case *c) {
        static const uint8_t end[] = { 0xe6, PORT, 0xf4 }; /* out PORT, al; hlt */
        uint64_t at = TINY_CODE + c->rip;

        for (const char *hex = c->code; *hex; hex += 2) {
                char byte[3] = { hex[0], hex[1], 0 };

                g->ram[at++] = strtoul(byte, NULL, 16);
        }
        tiny_put(g, at, end, sizeof(end));
        tiny_put(g, TINY_LANDING, end, sizeof(end));
        for (size_t i = 0; i < ARRAY_SIZE(c->pokes) && c->pokes[i].gpa; i++)
                tiny_put64(g, c->pokes[i].gpa, c->pokes[i].value);
}

/* Puts guest, vCPU and memory into the state before the instruction, all pages with @rights. */
static bool start(struct host *h, const struct fault_case *c, unsigned rights) {
        struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
                                                   KVM_VCPUEVENT_VALID_SHADOW };
        struct kvm_interrupt interrupt = { .irq = 0x40 };
        struct tiny_guest *g = h->guest;
        struct kvm_sregs s = h->reset;

        /* What the last exit left to be completed */
        h->run->immediate_exit = 1;
        (void) ioctl(h->vcpu, KVM_RUN, 0);
        h->run->immediate_exit = 0;

        c->make(g);
        put_code(g, c);
        memcpy(h->ram, g->ram, TINY_SIZE);
        s.cs = g->sregs.cs, s.ds = g->sregs.ds, s.es = g->sregs.es, s.fs = g->sregs.fs;
        s.gs = g->sregs.gs, s.ss = g->sregs.ss, s.tr = g->sregs.tr, s.ldt = g->sregs.ldt;
        s.gdt = g->sregs.gdt, s.idt = g->sregs.idt;
        s.cr0 = g->sregs.cr0, s.cr3 = g->sregs.cr3, s.cr4 = g->sregs.cr4, s.efer = g->sregs.efer;

        g->regs.rax = c->rax, g->regs.rbx = c->rbx, g->regs.rcx = c->rcx, g->regs.rdx = c->rdx;
        g->regs.rsi = c->rsi, g->regs.rdi = c->rdi, g->regs.rbp = c->rbp;
        g->regs.rip += c->rip;
        g->regs.rflags |= c->rflags;

        return ioctl(h->vcpu, KVM_SET_VCPU_EVENTS, &events) == 0 &&
               ioctl(h->vcpu, KVM_SET_SREGS, &s) == 0 &&
               ioctl(h->vcpu, KVM_SET_REGS, &g->regs) == 0 &&
               (c->event != INTERRUPT || ioctl(h->vcpu, KVM_INTERRUPT, &interrupt) == 0) &&
               (c->event != NMI || ioctl(h->vcpu, KVM_NMI) == 0) &&
               set_rights(h, 0, TINY_SIZE, rights);
}

/* Runs on; DONE at the end of the case, 0 on a fault, -1 on anything else. */
static int run_on(struct host *h) {
        h->run->exit_reason = KVM_EXIT_UNKNOWN;
        if (ioctl(h->vcpu, KVM_RUN, 0) < 0) {
                if (errno == EFAULT)
                        return 0;
                say("KVM_RUN: %s\n", strerror(errno));
                return -1;
        }
        if (h->run->exit_reason == KVM_EXIT_IO && h->run->io.port == PORT)
                return DONE;
        say("exit %u\n", h->run->exit_reason);
        return -1;
}

static int find(struct host *h, struct fault_access *ret) {
        const struct walk_space space = { .read = host_read, .rights = host_rights, .userdata = h };
        struct insn_vectors vectors;
        struct kvm_xsave xsave;
        struct fault_cpu cpu = {
                .regs = &h->regs,
                .sregs = &h->sregs,
                .events = &h->events,
                .xsave_size = 832,
        };
        int r;

        if (ioctl(h->vcpu, KVM_GET_REGS, &h->regs) < 0 ||
            ioctl(h->vcpu, KVM_GET_SREGS, &h->sregs) < 0 ||
            ioctl(h->vcpu, KVM_GET_VCPU_EVENTS, &h->events) < 0)
                return -errno;
        r = fault_find(&cpu, &space, ret);
        if (r != -ENODATA)
                return r;
        if (ioctl(h->vcpu, KVM_GET_XSAVE, &xsave) < 0)
                return -errno;
        insn_vectors_from_xsave(&vectors, &xsave, sizeof(xsave), (const uint32_t[3]){ 0 });
        cpu.vectors = &vectors;
        return fault_find(&cpu, &space, ret);
}

static void say_access(const char *what, const struct fault_access *a) {
        say("%s: access %d gpa %llx gva %llx cause %d%s length %u\n", what, a->access,
            (unsigned long long) a->gpa, (unsigned long long) a->gva, a->cause,
            a->nested_walk ? " nested" : "", a->insn_len);
}

static bool same(const struct fault_access *a, const struct fault_access *b) {
        return a->gpa == b->gpa && a->gva == b->gva && a->access == b->access &&
               a->cause == b->cause && a->nested_walk == b->nested_walk &&
               a->insn_len == b->insn_len;
}

/* From all closed to done, one report after the other; how many, or -1. */
static int open_step_by_step(struct host *h, const struct fault_case *c,
                             struct fault_access steps[STEPS_MAX]) {
        int n = 0, r;

        if (!start(h, c, 0))
                return -1;
        while ((r = run_on(h)) == 0) {
                struct fault_access *a = &steps[n];
                unsigned need = HV_MAP_GPA_READABLE;

                r = find(h, a);
                if (r != 1) {
                        for (int i = 0; i < n; i++)
                                say_access("before", &steps[i]);
                        say("step %d: fault_find says %d at rip %llx, event %u %u %u\n", n, r,
                            (unsigned long long) h->regs.rip, h->events.exception.injected,
                            h->events.nmi.injected, h->events.interrupt.injected);
                        return -1;
                }
                if (a->access == HV_INTERCEPT_ACCESS_WRITE)
                        need |= HV_MAP_GPA_WRITABLE;
                if ((tiny_rights(h->guest, a->gpa >> 12) & need) == need) {
                        say_access("open already", a);
                        return -1;
                }
                if (++n == STEPS_MAX || !set_rights(h, a->gpa & ~0xfffull, HV_PAGE_SIZE, need))
                        return -1;
        }
        if (r < 0 && n)
                say_access("last report", &steps[n - 1]);
        return r < 0 ? -1 : n;
}

/* With only the page of one step closed, KVM faults there too, and the report is the same. */
static bool close_one(struct host *h, const struct fault_case *c, const struct fault_access *step) {
        unsigned left = step->access == HV_INTERCEPT_ACCESS_WRITE ? HV_MAP_GPA_READABLE : 0;
        struct fault_access a;

        if (!start(h, c, HV_MAP_GPA_ALL) ||
            !set_rights(h, step->gpa & ~0xfffull, HV_PAGE_SIZE, left))
                return false;
        if (run_on(h) != 0) {
                say_access("no fault", step);
                return false;
        }
        if (find(h, &a) != 1) {
                say_access("not found", step);
                return false;
        }
        if (!same(&a, step)) {
                say_access("want", step);
                say_access("got", &a);
                return false;
        }
        return true;
}

static bool run_case(struct host *h, const struct fault_case *c) {
        struct fault_access steps[STEPS_MAX];
        int n;

        n = open_step_by_step(h, c, steps);
        if (n < 0)
                return false;
        for (int i = 0; i < n; i++)
                if (!close_one(h, c, &steps[i]))
                        return false;
        say("%d accesses\n", n);
        return start(h, c, HV_MAP_GPA_ALL) && run_on(h) == DONE;
}

/* A plain store to a read-only page: EFAULT with RIP at the instruction, or this KVM is of no use.
 */
static bool precise(struct host *h) {
        static const struct fault_case store = CASE("", tiny_long, "8908", .rax = DATA);

        return start(h, &store, HV_MAP_GPA_ALL) &&
               set_rights(h, DATA, HV_PAGE_SIZE, HV_MAP_GPA_READABLE) &&
               ioctl(h->vcpu, KVM_RUN, 0) < 0 && errno == EFAULT &&
               ioctl(h->vcpu, KVM_GET_REGS, &h->regs) == 0 && h->regs.rip == TINY_CODE;
}

int main(void) {
        struct host h = { .kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC) };
        unsigned failed = 0;

        setvbuf(stdout, NULL, _IOLBF, 0);
        if (h.kvm < 0) {
                printf("1..0 # SKIP no /dev/kvm\n");
                return EXIT_SUCCESS;
        }
        if (!host_open(&h)) {
                printf("Bail out! no guest: %s\n", strerror(errno));
                return EXIT_FAILURE;
        }
        if (!precise(&h)) {
                printf("1..0 # SKIP this KVM does not report faults precisely\n");
                return EXIT_SUCCESS;
        }

        printf("1..%zu\n", ARRAY_SIZE(cases));
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct fault_case *c = &cases[i];
                bool ok;

                if (c->needs & ~h.features) {
                        printf("ok %zu - %s # SKIP no XSAVE or AVX2\n", i + 1, c->name);
                        continue;
                }
                ok = run_case(&h, c);
                failed += !ok;
                printf("%sok %zu - %s\n", ok ? "" : "not ", i + 1, c->name);
        }
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
