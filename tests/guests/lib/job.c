/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Waiting by the time stamp counter, which makes no exit, and jobs for the other CPUs' VTL0.
 */
#include "hv.h"

#define JOB_TIMEOUT_MS 30000

static struct {
        uint64_t (*volatile fn)(uint64_t arg);
        volatile uint64_t arg, result;
        uint64_t (*secure_fn)(uint64_t arg);
        uint64_t secure_arg;
} jobs[MAX_CPUS];

uint64_t tsc_per_ms(void) {
        static uint64_t ticks;

        if (ticks == 0)
                ticks = rdmsr(HV_MSR_TSC_FREQUENCY) / 1000;
        if (ticks == 0)
                bail_out("the TSC's frequency is not known");
        return ticks;
}

/* Since @start, by a counter that may stand a little lower on another CPU of the host */
static bool passed(uint64_t start, uint64_t ms) {
        int64_t ticks = (int64_t) (rdtsc() - start);

        return ticks > 0 && (uint64_t) ticks >= ms * tsc_per_ms();
}

void spin_ms(uint64_t ms) {
        uint64_t start = rdtsc();

        while (!passed(start, ms))
                cpu_relax();
}

bool spin_for(const volatile unsigned *counter, unsigned n, uint64_t ms) {
        uint64_t start = rdtsc();

        while (*counter < n) {
                if (passed(start, ms))
                        return false;
                cpu_relax();
        }
        return true;
}

bool spin_while(const volatile unsigned *counter, unsigned value, uint64_t ms) {
        uint64_t start = rdtsc();

        while (*counter == value) {
                if (passed(start, ms))
                        return false;
                cpu_relax();
        }
        return true;
}

static bool job_halts;

static void on_job(struct trap_frame *f) {
        apic_eoi();
}

void job_halt(void) {
        job_halts = true;
        irq_set(VECTOR_JOB, on_job);
}

static void job_main(void *arg) {
        unsigned me = this_cpu()->index;

        hv_open();
        this_cpu()->online = true;
        for (;;) {
                uint64_t (*fn)(uint64_t) = __atomic_load_n(&jobs[me].fn, __ATOMIC_ACQUIRE);

                if (fn == NULL) {
                        if (job_halts)
                                halt();
                        else
                                cpu_relax();
                        continue;
                }
                jobs[me].result = fn(jobs[me].arg);
                __atomic_store_n(&jobs[me].fn, NULL, __ATOMIC_RELEASE);
        }
}

void job_started(void) {
        apic_enable(false);
        job_main(NULL);
}

void job_open(unsigned cpu) {
        if (!cpu_start(cpu, job_main, NULL))
                bail_out("CPU %u does not start", cpu);
}

void job_start(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg) {
        jobs[cpu].arg = arg;
        __atomic_store_n(&jobs[cpu].fn, fn, __ATOMIC_RELEASE);
        if (job_halts)
                apic_send(cpu, APIC_ICR_FIXED | VECTOR_JOB);
}

bool job_busy(unsigned cpu) {
        return __atomic_load_n(&jobs[cpu].fn, __ATOMIC_ACQUIRE) != NULL;
}

uint64_t job_wait(unsigned cpu, const char *what) {
        uint64_t start = rdtsc();

        for (; job_busy(cpu); cpu_relax())
                if (passed(start, JOB_TIMEOUT_MS))
                        bail_out("CPU %u does not come back: %s", cpu, what);
        return jobs[cpu].result;
}

uint64_t job_run(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg, const char *what) {
        job_start(cpu, fn, arg);
        return job_wait(cpu, what);
}

static uint64_t secure_call(uint64_t cpu) {
        return vtl1_run(jobs[cpu].secure_fn, jobs[cpu].secure_arg);
}

void job_start_vtl1(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg) {
        jobs[cpu].secure_fn = fn;
        jobs[cpu].secure_arg = arg;
        job_start(cpu, secure_call, cpu);
}

uint64_t job_run_vtl1(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg, const char *what) {
        job_start_vtl1(cpu, fn, arg);
        return job_wait(cpu, what);
}

static uint64_t vtl1_enable_on(uint64_t cpu) {
        struct hv_initial_vp_context context;

        vtl1_context((unsigned) cpu, &context);
        return hv_enable_vp_vtl(HV_PARTITION_ID_SELF, (uint32_t) cpu, 1, &context);
}

static uint64_t vtl1_answer(uint64_t arg) {
        return arg + 1;
}

static uint64_t first_call(uint64_t arg) {
        return vtl1_run(vtl1_answer, arg);
}

void job_open_vtl1(unsigned cpu) {
        unsigned status;

        job_open(cpu);
        status = (unsigned) vtl1_run(vtl1_enable_on, cpu);
        if (status != HV_STATUS_SUCCESS)
                bail_out("EnableVpVtl of VP %u: status 0x%x", cpu, status);
        if (job_run(cpu, first_call, 41, "the first secure call") != 42)
                bail_out("the first secure call of VP %u did not come back", cpu);
}
