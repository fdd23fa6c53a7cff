/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's side of the benchmark. Measures everything in turn, in so many rounds, so that what
 * is compared was measured at nearly the same time; a round is shorter than what the host's
 * scheduler gives to others, so that the best one was disturbed by nobody. Then it prints
 * "bench NAME ROUNDS ITERATIONS BEST_NS MEDIAN_NS", the times being those of a round. The loops are
 * a few instructions. Only "switch_fpu" touches the FPU.
 *
 * Command line: rounds=N, and iterations in each round, 0 leaves one out: raw=N, switch=N,
 * handoff=N, memory=N, fpu=N (not where KVM emulates the guest's instructions), instruction=N (how
 * dear instructions are that never leave the guest: not at all, or very where KVM emulates them).
 *
 * A guest without trust levels can measure raw exits. It has no reference counter: it is told what
 * another guest printed in "tsc KHZ", as khz=KHZ.
 */
#include "lib/hv.h"

#define UNHANDLED_PORT 0x80

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

/*
 * Time is the TSC's: reading the reference counter is a handoff to the engine. How fast the TSC
 * runs, the reference counter tells when all is over.
 */
static uint64_t started;

static void start(void) {
        started = rdtsc();
}

static uint64_t stop(void) {
        return rdtsc() - started;
}

static uint64_t bench_raw(uint64_t n) {
        start();
        __asm__ volatile("1: outb %%al, %1; decq %0; jnz 1b"
                         : "+r"(n)
                         : "i"(UNHANDLED_PORT)
                         : "cc", "memory");
        return stop();
}

static uint64_t bench_instruction(uint64_t n) {
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

static uint64_t bench_switch(uint64_t n) {
        return switch_with(bench_returns, n);
}

static uint64_t bench_fpu(uint64_t n) {
        return switch_with(bench_fpu_returns, n);
}

/* A call that the engine serves: the partition has VTL1 already, so nothing changes. */
static uint64_t bench_handoff(uint64_t n) {
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

static uint64_t bench_memory(uint64_t n) {
        uint64_t entry = this_cpu()->hypercall_entry, in = (uint64_t) this_cpu()->in,
                 out = (uint64_t) this_cpu()->out;

        hv_register(HV_REGISTER_VSM_VP_STATUS);
        start();
        for (uint64_t i = 0; i < n; i++)
                hv_call_at(HVCALL_GET_VP_REGISTERS | HV_REPS(1), in, out, entry);
        return stop();
}

/* clang-format off */
static const struct {
        const char *option;
        const char *name;
        uint64_t usual;
        uint64_t (*run)(uint64_t n);
} benches[] = {
        { "raw",         "raw_exit",     40,  bench_raw         },
        { "switch",      "switch",       20,  bench_switch      },
        { "handoff",     "handoff",      20,  bench_handoff     },
        { "memory",      "get_register", 20,  bench_memory      },
        { "fpu",         "switch_fpu",   0,   bench_fpu         },
        { "instruction", "instruction",  200, bench_instruction },
};
/* clang-format on */

#define ROUNDS_MAX 1000

/* Sorted, by TSC ticks. */
static uint64_t samples[ELEMENTSOF(benches)][ROUNDS_MAX];

static void add_sample(uint64_t *sorted, uint64_t n, uint64_t value) {
        for (; n > 0 && sorted[n - 1] > value; n--)
                sorted[n] = sorted[n - 1];
        sorted[n] = value;
}

void guest_main(void) {
        uint64_t n[ELEMENTSOF(benches)], rounds = cmdline_number("rounds", 10), time = 0, tsc, khz;

        if (rounds == 0 || rounds > ROUNDS_MAX)
                bail_out("rounds=%lu is not a number from 1 to %u", rounds, ROUNDS_MAX);
        for (unsigned i = 0; i < ELEMENTSOF(benches); i++)
                n[i] = cmdline_number(benches[i].option, benches[i].usual);
        guest_silent();
        khz = cmdline_number("khz", 0);
        if (khz == 0) {
                vsm_open();
                time = hv_time();
        }
        tsc = rdtsc();
        for (uint64_t round = 0; round < rounds; round++)
                for (unsigned i = 0; i < ELEMENTSOF(benches); i++)
                        if (n[i] > 0)
                                add_sample(samples[i], round, benches[i].run(n[i]));
        tsc = rdtsc() - tsc;
        if (khz == 0)
                khz = tsc * 10000 / (hv_time() - time);
        print("tsc %lu\n", khz);

        for (unsigned i = 0; i < ELEMENTSOF(benches); i++)
                if (n[i] > 0)
                        print("bench %s %lu %lu %lu %lu\n", benches[i].name, rounds, n[i],
                              samples[i][0] * 1000000 / khz,
                              samples[i][rounds / 2] * 1000000 / khz);
}
