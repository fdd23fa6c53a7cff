/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vtl/kvm-probe.h"
#include "util/util.h"

#define CLOCK_SOURCES "/sys/devices/system/clocksource/clocksource0/available_clocksource"

/* The guest's memory: one 2 MiB page maps it all, in long mode: some CPUs emulate real mode. */
#define RAM_SIZE 0x10000u
#define PML4_GPA 0x1000u
#define PDPT_GPA 0x2000u
#define PD_GPA 0x3000u
#define CODE_GPA 0x4000u
#define DATA_GPA 0x8000u /* closed in the view */
#define PAGE 0x1000u

#define DATA_BEFORE 0x77u
#define DATA_STORED 0x5au
#define PROBE_PORT 0xf0u

#define PTE_PRESENT 0x1u
#define PTE_WRITABLE 0x2u
#define PTE_LARGE 0x80u

#define CR0_BITS 0x80000011u /* PG, ET, PE */
#define CR4_PAE 0x20u
#define EFER_LONG_MODE 0x500u /* LMA, LME */

struct code {
        uint8_t bytes[4];
};

static const struct code codes[_PROBE_ACCESS_MAX] = {
        [PROBE_STORE] = { { 0x88, 0x07, 0xf4 } }, /* mov %al, (%rdi); hlt */
        [PROBE_LOAD] = { { 0x8a, 0x07, 0xf4 } },  /* mov (%rdi), %al; hlt */
        [PROBE_OUTS] = { { 0x6e, 0xf4 } },        /* outsb (%rsi), (%dx); hlt */
};

struct guest {
        int vm;
        int vcpu;
        int ram_fd;
        uint8_t *ram;  /* ours: all of it, always */
        uint8_t *view; /* the VM's */
        struct kvm_run *run;
        size_t run_size;
        const char *what; /* the call that failed */
};

static void guest_done(struct guest *g) {
        if (g->run)
                (void) munmap(g->run, g->run_size);
        (void) safe_close(g->vcpu);
        (void) safe_close(g->vm);
        if (g->view)
                (void) munmap(g->view, RAM_SIZE);
        if (g->ram)
                (void) munmap(g->ram, RAM_SIZE);
        (void) safe_close(g->ram_fd);
}

static int failed(struct guest *g, const char *what) {
        g->what = what;
        return -errno;
}

static void *map(int fd, size_t size) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        return p == MAP_FAILED ? NULL : p;
}

static void put_entry(struct guest *g, uint64_t table, uint64_t entry) {
        memcpy(g->ram + table, &entry, sizeof(entry));
}

static int make_memory(struct guest *g, enum probe_access access) {
        g->ram_fd = memfd_create("probe", MFD_CLOEXEC);
        if (g->ram_fd < 0 || ftruncate(g->ram_fd, RAM_SIZE) < 0)
                return failed(g, "memfd_create");
        g->ram = map(g->ram_fd, RAM_SIZE);
        g->view = g->ram ? map(g->ram_fd, RAM_SIZE) : NULL;
        if (!g->view)
                return failed(g, "mmap");
        put_entry(g, PML4_GPA, PDPT_GPA | PTE_WRITABLE | PTE_PRESENT);
        put_entry(g, PDPT_GPA, PD_GPA | PTE_WRITABLE | PTE_PRESENT);
        put_entry(g, PD_GPA, PTE_LARGE | PTE_WRITABLE | PTE_PRESENT);
        memcpy(g->ram + CODE_GPA, codes[access].bytes, sizeof(codes[access].bytes));
        memset(g->ram + DATA_GPA, DATA_BEFORE, PAGE);
        if (mprotect(g->view + DATA_GPA, PAGE, PROT_NONE) < 0)
                return failed(g, "mprotect");
        return 0;
}

static int make_vcpu(struct guest *g, int kvm_fd) {
        struct kvm_userspace_memory_region slot = {
                .memory_size = RAM_SIZE,
                .userspace_addr = (uint64_t) (uintptr_t) g->view,
        };
        int size;

        g->vm = ioctl(kvm_fd, KVM_CREATE_VM, 0);
        if (g->vm < 0)
                return failed(g, "KVM_CREATE_VM");
        if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
                return failed(g, "KVM_SET_USER_MEMORY_REGION");
        g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
        if (g->vcpu < 0)
                return failed(g, "KVM_CREATE_VCPU");
        size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (size < (int) sizeof(struct kvm_run))
                return failed(g, "KVM_GET_VCPU_MMAP_SIZE");
        g->run_size = (size_t) size;
        g->run = map(g->vcpu, g->run_size);
        return g->run ? 0 : failed(g, "mmap of kvm_run");
}

static int set_cpuid(struct guest *g, int kvm_fd) {
        enum {
                ENTRIES = 256
        };
        _cleanup_free_ struct kvm_cpuid2 *c = NULL;

        c = calloc(1, sizeof(*c) + ENTRIES * sizeof(c->entries[0]));
        if (!c)
                return -ENOMEM;
        c->nent = ENTRIES;
        if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c) < 0 || ioctl(g->vcpu, KVM_SET_CPUID2, c) < 0)
                return failed(g, "KVM_SET_CPUID2");
        return 0;
}

static int set_registers(struct guest *g) {
        const struct kvm_segment code = {
                .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1
        };
        const struct kvm_segment data = { .limit = 0xffffffff,
                                          .selector = 16,
                                          .type = 3,
                                          .present = 1,
                                          .s = 1,
                                          .db = 1,
                                          .g = 1 };
        struct kvm_regs regs = {
                .rip = CODE_GPA,
                .rflags = 2,
                .rax = DATA_STORED,
                .rdi = DATA_GPA,
                .rsi = DATA_GPA,
                .rdx = PROBE_PORT,
        };
        struct kvm_sregs s;

        if (ioctl(g->vcpu, KVM_GET_SREGS, &s) < 0)
                return failed(g, "KVM_GET_SREGS");
        s.cs = code;
        s.ds = s.es = s.fs = s.gs = s.ss = data;
        s.cr0 = CR0_BITS;
        s.cr3 = PML4_GPA;
        s.cr4 = CR4_PAE;
        s.efer = EFER_LONG_MODE;
        if (ioctl(g->vcpu, KVM_SET_SREGS, &s) < 0)
                return failed(g, "KVM_SET_SREGS");
        if (ioctl(g->vcpu, KVM_SET_REGS, &regs) < 0)
                return failed(g, "KVM_SET_REGS");
        return 0;
}

/* After EFAULT: is nothing done, is RIP at the instruction, and does it go on when the page is
 * opened? */
static bool fault_is_precise(struct guest *g, enum probe_access access) {
        struct kvm_regs regs;

        if (ioctl(g->vcpu, KVM_GET_REGS, &regs) < 0)
                return false;
        if (regs.rip != CODE_GPA || regs.rax != DATA_STORED || g->ram[DATA_GPA] != DATA_BEFORE)
                return false;
        if (mprotect(g->view + DATA_GPA, PAGE, PROT_READ | PROT_WRITE) < 0)
                return false;
        if (ioctl(g->vcpu, KVM_RUN, 0) < 0)
                return false;
        if (access == PROBE_OUTS)
                return g->run->exit_reason == KVM_EXIT_IO;
        if (g->run->exit_reason != KVM_EXIT_HLT || ioctl(g->vcpu, KVM_GET_REGS, &regs) < 0)
                return false;
        return access == PROBE_STORE ? g->ram[DATA_GPA] == DATA_STORED
                                     : (regs.rax & 0xff) == DATA_BEFORE;
}

static struct probe_result run(struct guest *g, enum probe_access access) {
        struct probe_result result = { .outcome = PROBE_OTHER };
        int r = ioctl(g->vcpu, KVM_RUN, 0);

        result.error = r < 0 ? errno : 0;
        result.exit_reason = g->run->exit_reason;
        if (result.error == EFAULT && fault_is_precise(g, access))
                result.outcome = PROBE_FAULT;
        else if (r < 0)
                result.outcome = PROBE_OTHER;
        else if (result.exit_reason == KVM_EXIT_MMIO && g->run->mmio.phys_addr == DATA_GPA)
                result.outcome = PROBE_MMIO;
        else if (result.exit_reason == KVM_EXIT_HLT || result.exit_reason == KVM_EXIT_IO)
                result.outcome = PROBE_UNREPORTED;
        return result;
}

int probe_guest_run(int kvm_fd, enum probe_access access, struct probe_result *ret,
                    const char **ret_what) {
        struct guest g = { .vm = -1, .vcpu = -1, .ram_fd = -1, .what = "memory" };
        int r;

        r = make_memory(&g, access);
        if (r >= 0)
                r = make_vcpu(&g, kvm_fd);
        if (r >= 0)
                r = set_cpuid(&g, kvm_fd);
        if (r >= 0)
                r = set_registers(&g);
        if (r >= 0)
                *ret = run(&g, access);
        else
                *ret_what = g.what;
        guest_done(&g);
        return r;
}

int probe_stable_tsc(void) {
        _cleanup_close_ int fd = open(CLOCK_SOURCES, O_RDONLY | O_CLOEXEC);
        char text[256];
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, text, sizeof(text) - 1);
        if (n < 0)
                return -errno;
        text[n] = '\0';
        for (char *save = NULL, *word = strtok_r(text, " \n", &save); word;
             word = strtok_r(NULL, " \n", &save))
                if (strcmp(word, "tsc") == 0)
                        return 1;
        return 0;
}
