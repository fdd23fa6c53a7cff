/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The guest's side of the benchmark. Each measurement prints "bench-start NAME", then
 * "bench NAME ITERATIONS REFERENCE_TIME_100NS". The loops are a few instructions; nothing touches
 * the FPU.
 *
 * Command line, iterations; 0 leaves one out: raw=N, switch=N, handoff=N, memory=N.
 */
#include "lib/hv.h"

#define UNHANDLED_PORT 0x80

uint64_t bench_entry, bench_return_entry;
volatile uint32_t bench_stop;

/*
 * void bench_calls(uint64_t n): VTL calls and nothing else. The general registers are VTL1's as
 * well: all that counts is in RBX, which VTL1's loop leaves alone, and in memory. void
 * bench_returns(void): VTL1's half; ends when bench_stop is set and the next call comes.
 */
void bench_calls(uint64_t n);
void bench_returns(void);

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
        "        pushq %rbx\n"
        "        pushq %rbp\n"
        "        pushq %r12\n"
        "        pushq %r13\n"
        "        pushq %r14\n"
        "        pushq %r15\n"
        "1:      movl $1, %ecx\n"
        "        call *bench_return_entry\n"
        "        cmpl $0, bench_stop\n"
        "        je 1b\n"
        "        popq %r15\n"
        "        popq %r14\n"
        "        popq %r13\n"
        "        popq %r12\n"
        "        popq %rbp\n"
        "        popq %rbx\n"
        "        ret\n"
        ".popsection");

static uint64_t started;

static void start(const char *name) {
        print("bench-start %s\n", name);
        started = hv_time();
}

static void stop(const char *name, uint64_t n) {
        uint64_t time = hv_time() - started;

        print("bench %s %lu %lu\n", name, n, time);
}

static void bench_raw(uint64_t n) {
        uint64_t left = n;

        start("raw_exit");
        __asm__ volatile("1: outb %%al, %1; decq %0; jnz 1b"
                         : "+r"(left)
                         : "i"(UNHANDLED_PORT)
                         : "cc", "memory");
        stop("raw_exit", n);
}

static uint64_t vtl1_loop(uint64_t arg) {
        bench_return_entry = this_cpu()->vtl_return_entry;
        bench_returns();
        return arg;
}

static void bench_switch(uint64_t n) {
        struct gprs g = gprs_zero();

        bench_stop = 0;
        bench_entry = this_cpu()->vtl_call_entry;
        vtl1_run(vtl1_loop, 0);
        start("switch");
        bench_calls(n);
        stop("switch", n);
        /* VTL1's function comes to its end now, and leaves other registers than bench_calls()
         * needs. */
        bench_stop = 1;
        vtl_call(&g);
}

/* A call that the engine serves: the partition has VTL1 already, so nothing changes. */
static void bench_handoff(uint64_t n) {
        const uint64_t control = HVCALL_ENABLE_PARTITION_VTL | HV_CONTROL_FAST;
        uint64_t entry = this_cpu()->hypercall_entry, bad = 0;

        start("handoff");
        for (uint64_t i = 0; i < n; i++)
                bad += HV_RESULT_STATUS(hv_call_at(control, HV_PARTITION_ID_SELF, 1, entry)) !=
                       HV_STATUS_INVALID_VTL_STATE;
        stop("handoff", n);
        if (bad > 0)
                bail_out("%lu hypercalls went wrong", bad);
}

static void bench_memory(uint64_t n) {
        uint64_t entry = this_cpu()->hypercall_entry, in = (uint64_t) this_cpu()->in,
                 out = (uint64_t) this_cpu()->out;

        hv_register(HV_REGISTER_VSM_VP_STATUS);
        start("get_register");
        for (uint64_t i = 0; i < n; i++)
                hv_call_at(HVCALL_GET_VP_REGISTERS | HV_REPS(1), in, out, entry);
        stop("get_register", n);
}

static const struct {
        const char *option;
        uint64_t usual;
        void (*run)(uint64_t n);
} benches[] = {
        { "raw", 1000, bench_raw },
        { "switch", 1000, bench_switch },
        { "handoff", 200, bench_handoff },
        { "memory", 200, bench_memory },
};

void guest_main(void) {
        guest_silent();
        vsm_open();
        for (unsigned i = 0; i < ELEMENTSOF(benches); i++) {
                uint64_t n = cmdline_number(benches[i].option, benches[i].usual);

                if (n > 0)
                        benches[i].run(n);
        }
        print("bench-end\n");
}
