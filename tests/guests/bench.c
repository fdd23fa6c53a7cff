/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The benchmark's switches and hypercalls. The loops are a few instructions. Only "switch_fpu" and
 * "get_register_fast" touch the FPU: not where KVM emulates the guest's instructions. "instruction"
 * is how dear those are that never leave the guest: not at all, or very where KVM emulates them. A
 * guest without trust levels can measure raw exits.
 */
#include "lib/bench.h"

uint64_t bench_entry, bench_return_entry;
volatile uint32_t bench_stop, bench_count;

/*
 * void bench_calls(uint64_t n): VTL calls and nothing else. The general registers are VTL1's as
 * well: all that counts is in RBX, which VTL1's loops leave alone, and in memory. void
 * bench_returns(void): VTL1's half; ends when bench_stop is set and the next call comes. void
 * bench_fpu_returns(void): the same with another XMM0 at each return. uint64_t
 * bench_hypercalls(uint64_t n, uint64_t control, uint64_t input): fast hypercalls; returns the last
 * one's result.
 */
void bench_calls(uint64_t n);
void bench_returns(void);
void bench_fpu_returns(void);
uint64_t bench_hypercalls(uint64_t n, uint64_t control, uint64_t input);

/* clang-format off */
#define SAVE                        \
        "        pushq %rbx\n"      \
        "        pushq %rbp\n"      \
        "        pushq %r12\n"      \
        "        pushq %r13\n"      \
        "        pushq %r14\n"      \
        "        pushq %r15\n"
#define RESTORE_AND_RETURN          \
        "        popq %r15\n"       \
        "        popq %r14\n"       \
        "        popq %r13\n"       \
        "        popq %r12\n"       \
        "        popq %rbp\n"       \
        "        popq %rbx\n"       \
        "        ret\n"

__asm__(".pushsection .text\n"
        "bench_calls:\n"
        "        pushq %rbx\n"
        "        movq %rdi, %rbx\n"
        "1:      xorl %ecx, %ecx\n"
        "        call *bench_entry\n"
        "        decq %rbx\n"
        "        jnz 1b\n"
        "        popq %rbx\n"
        "        ret\n"
        "bench_returns:\n"
        SAVE
        "1:      movl $1, %ecx\n"
        "        call *bench_return_entry\n"
        "        cmpl $0, bench_stop\n"
        "        je 1b\n"
        RESTORE_AND_RETURN
        "bench_fpu_returns:\n"
        SAVE
        "1:      incl bench_count\n"
        "        movd bench_count, %xmm0\n"
        "        movl $1, %ecx\n"
        "        call *bench_return_entry\n"
        "        cmpl $0, bench_stop\n"
        "        je 1b\n"
        RESTORE_AND_RETURN
        "bench_hypercalls:\n"
        SAVE
        "        movq %rdi, %rbx\n"
        "        movq %rsi, %rbp\n"
        "        movq %rdx, %r12\n"
        "        movl $1, %r8d\n"
        "1:      movq %rbp, %rcx\n"
        "        movq %r12, %rdx\n"
        "        call *bench_entry\n"
        "        decq %rbx\n"
        "        jnz 1b\n"
        RESTORE_AND_RETURN
        ".popsection");
/* clang-format on */

static uint64_t started;

static void start(void) {
        started = rdtsc();
}

static uint64_t stop(void) {
        return rdtsc() - started;
}

static uint64_t bench_instruction(const struct bench *b, uint64_t n) {
        start();
        __asm__ volatile("1: subq $2, %0; ja 1b" : "+r"(n) : : "cc");
        return stop();
}

static uint64_t vtl1_loop(uint64_t returns) {
        bench_return_entry = this_cpu()->vtl_return_entry;
        ((void (*)(void)) returns)();
        return 0;
}

static uint64_t switch_with(void (*returns)(void), uint64_t n) {
        struct gprs g = gprs_zero();
        uint64_t time;

        bench_stop = 0;
        bench_entry = this_cpu()->vtl_call_entry;
        vtl1_run(vtl1_loop, (uint64_t) returns);
        start();
        bench_calls(n);
        time = stop();
        /* VTL1's function comes to its end now, and leaves other registers than bench_calls()
         * needs. */
        bench_stop = 1;
        vtl_call(&g);
        return time;
}

static uint64_t bench_switch(const struct bench *b, uint64_t n) {
        return switch_with(bench_returns, n);
}

static uint64_t bench_fpu(const struct bench *b, uint64_t n) {
        return switch_with(bench_fpu_returns, n);
}

/* A call that the engine serves: the partition has VTL1 already, so nothing changes. */
static uint64_t bench_handoff(const struct bench *b, uint64_t n) {
        const uint64_t control = HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST;
        uint64_t time, result;

        bench_entry = this_cpu()->hypercall_entry;
        start();
        result = bench_hypercalls(n, control, HV_PARTITION_ID_SELF);
        time = stop();
        if (HV_RESULT_STATUS(result) != HV_STATUS_INVALID_VTL_STATE)
                bail_out("a second EnablePartitionVtl has the status 0x%x",
                         HV_RESULT_STATUS(result));
        return time;
}

static uint64_t bench_memory(const struct bench *b, uint64_t n) {
        uint64_t entry = this_cpu()->hypercall_entry, in = (uint64_t) this_cpu()->in,
                 out = (uint64_t) this_cpu()->out, r = HV_REPS(1);

        hv_register(HV_REGISTER_VSM_VP_STATUS);
        start();
        for (uint64_t i = 0; i < n && r == HV_REPS(1); i++)
                r = hv_call_at(HVCALL_GET_VP_REGISTERS | HV_REPS(1), in, out, entry);
        n = stop();
        if (r != HV_REPS(1))
                bail_out("GetVpRegisters returns 0x%lx", r);
        return n;
}

/* The same with everything in registers. */
static uint64_t bench_fast(const struct bench *b, uint64_t n) {
        struct xmm_call call = { .control = HVCALL_GET_VP_REGISTERS | HV_CONTROL_FAST | HV_REPS(1),
                                 .entry = this_cpu()->hypercall_entry },
                        c;
        uint64_t r = HV_REPS(1);

        start();
        for (uint64_t i = 0; i < n && r == HV_REPS(1); i++) {
                c = call;
                c.rdx = HV_PARTITION_ID_SELF;
                c.r8 = HV_VP_INDEX_SELF;
                c.xmm[0].low = HV_REGISTER_VSM_VP_STATUS;
                r = xmm_call(&c);
        }
        n = stop();
        if (r != HV_REPS(1))
                bail_out("GetVpRegisters, fast, returns 0x%lx", r);
        return n;
}

#define VECTOR_VINA 0xf0

static uint64_t vtl1_set_vina(uint64_t value) {
        return hv_set(VTL_SELF, HV_REGISTER_VSM_VINA, value);
}

static void set_vina(uint64_t value) {
        uint64_t status = vtl1_run(vtl1_set_vina, value);

        if (status != HV_STATUS_SUCCESS)
                bail_out("VsmVina cannot be set to 0x%lx: status 0x%lx", value, status);
}

/* A switch with VINA enabled and nothing to tell: ticks come meanwhile. */
static uint64_t bench_switch_vina(const struct bench *b, uint64_t n) {
        uint64_t time;

        set_vina(VECTOR_VINA | HV_VINA_ENABLED);
        time = switch_with(bench_returns, n);
        set_vina(0);
        return time;
}

/* clang-format off */
static const struct bench rows[] = {
        { "raw",         "raw_exit",          40,  bench_raw, 1, 0 },
        { "switch",      "switch",            20,  bench_switch, 1, 0 },
        { "handoff",     "handoff",           20,  bench_handoff, 1, 0 },
        { "memory",      "get_register",      20,  bench_memory, 1, 0 },
        { "fpu",         "switch_fpu",        0,   bench_fpu, 1, 0 },
        { "instruction", "instruction",       200, bench_instruction, 1, 0 },
        { "fast",        "get_register_fast", 0,   bench_fast, 1, 0 },
        { "switchvina",  "switch_vina",       0,   bench_switch_vina, 1, 0 },
};
/* clang-format on */

void guest_main(void) {
        bench_begin();
        bench_all(rows, ELEMENTSOF(rows));
}
