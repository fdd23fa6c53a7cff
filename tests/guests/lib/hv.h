/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Hyper-V and VSM from the guest's side: hypercalls, switches, and a VTL1 that runs functions of
 * this image.
 *
 * The secure call: VTL0 passes a function and an argument in RDI and RSI, VTL1 runs it and answers
 * in RDX (RAX and RCX do not survive a fast return). So a test reads as one flow: vtl1_run(fn, arg)
 * is fn(arg), run in VTL1.
 */

#include "guest.h"

/* HV_INPUT_VTL */
#define VTL_SELF 0x00u
#define VTL0 0x10u
#define VTL1 0x11u

#define HV_RESULT_STATUS(r) ((unsigned) ((r) &0xffff))
#define HV_RESULT_REPS(r) ((unsigned) ((r) >> 32 & 0xfff))
#define HV_REPS(n) ((uint64_t) (n) << HV_CONTROL_REP_COUNT_SHIFT)
#define HV_REP_START(n) ((uint64_t) (n) << HV_CONTROL_REP_START_SHIFT)

#define VTL1_CONFIG (HV_VSM_ENABLE_VTL_PROTECTION | HV_MAP_GPA_ALL << HV_VSM_DEFAULT_MASK_SHIFT)

/* hv.c */

bool hv_present(void);
uint64_t hv_privileges(void);
uint32_t hv_features(void); /* EDX of leaf 0x40000003 */
void hv_open(void);         /* OS id and hypercall page of the running level */
extern uint64_t hv_os_id;
void hv_prepare(uint64_t page); /* hv_open() without the MSRs */
uint64_t hv_hypercall_page(unsigned vtl);
uint64_t hv_time(void); /* reference time, 100 ns */

uint64_t hv_call(uint64_t control, uint64_t in, uint64_t out);
uint64_t hv_call_memory(uint64_t control); /* this_cpu()->in and ->out */

unsigned hv_enable_partition_vtl(uint64_t partition, uint8_t vtl, uint8_t flags);
unsigned hv_enable_vp_vtl(uint64_t partition, uint32_t vp, uint8_t vtl,
                          const struct hv_initial_vp_context *context);
unsigned hv_start_vp(uint64_t partition, uint32_t vp, uint8_t vtl,
                     const struct hv_initial_vp_context *context);
/* In VTL1: the RET that VTL0 is at, which it may not fetch */
void vtl1_do_ret(void);
/* HvCallInstallIntercept. Return: its status */
unsigned hv_install_intercept(uint32_t type, uint32_t access, uint64_t parameter);
/* Says so, and stays in the guest for that long: somebody outside looks at it. */
void hv_hold(uint64_t seconds);
uint64_t hv_modify_mask(uint32_t flags, uint8_t input_vtl, const uint64_t *gpns, unsigned n);
uint64_t hv_get_registers(uint32_t vp, uint8_t input_vtl, const uint32_t *names, unsigned n,
                          union hv_register_value *ret_values);
uint64_t hv_set_registers(uint32_t vp, uint8_t input_vtl, const uint32_t *names, unsigned n,
                          const union hv_register_value *values);
unsigned hv_get(uint8_t input_vtl, uint32_t name, uint64_t *ret_value);
unsigned hv_set(uint8_t input_vtl, uint32_t name, uint64_t value);
uint64_t hv_register(uint32_t name); /* of the caller; ends the guest when refused */

/* xmm.S: what goes into XMM0-15, RCX, RDX and R8 of a call, and what comes out */
struct xmm {
        uint64_t low, high;
};
struct xmm_call {
        struct xmm xmm[16];
        uint64_t control, rdx, r8, entry;
};
uint64_t xmm_call(struct xmm_call *c);
void xmm_load(const struct xmm x[16]);
void xmm_store(struct xmm x[16]);

/* Wire layouts, vsm.md 3.1-3.8 */
struct hv_input_enable_partition_vtl {
        uint64_t partition;
        uint8_t vtl, flags;
        uint8_t reserved[6];
} __attribute__((packed));

struct hv_input_enable_vp_vtl {
        uint64_t partition;
        uint32_t vp;
        uint8_t vtl;
        uint8_t reserved[3];
        struct hv_initial_vp_context context;
} __attribute__((packed));

struct hv_input_modify_mask {
        uint64_t partition;
        uint32_t flags;
        uint8_t vtl;
        uint8_t reserved[3];
        uint64_t gpn[];
} __attribute__((packed));

struct hv_input_registers {
        uint64_t partition;
        uint32_t vp;
        uint8_t vtl;
        uint8_t reserved[3];
        uint32_t name[];
} __attribute__((packed));

struct hv_register_assoc {
        uint32_t name;
        uint32_t pad[3];
        union hv_register_value value;
} __attribute__((packed));

/* vtl1.c: both sides */

/* hv_open(), VTL1 for the partition and this CPU, set up and back; skips the guest without VSM. */
void vsm_open(void);
/* The same and VTL protection on, all access by default. */
void vsm_protect(void);
void vtl1_context(unsigned index, struct hv_initial_vp_context *ret);
/* For StartVirtualProcessor: VTL0 of a CPU begins with @fn, which does not return. */
void vtl0_context(unsigned index, void (*fn)(void), struct hv_initial_vp_context *ret);
uint64_t vtl1_run(uint64_t (*fn)(uint64_t arg), uint64_t arg);
void vtl_call(struct gprs *g);

/* VTL1's side, one set for all CPUs. Returning true: fast return; false: RAX and RCX of @g go
 * through the assist page. */
extern bool (*vtl1_on_call)(struct gprs *g);
/* What is done about an intercept; the default ends the guest. */
extern void (*vtl1_on_intercept)(struct hv_message *m, struct gprs *g);
/* What is looked at first when VTL1 was entered for an interrupt; NULL: nothing. */
extern void (*vtl1_on_interrupt)(const struct gprs *g);
extern bool vtl1_x2apic;
bool vtl1_call_default(struct gprs *g);
bool vtl1_call_nothing(struct gprs *g);
void vtl1_main(struct gprs *g) __attribute__((noreturn));
void vtl1_setup(void);
/* What VTL1 of each CPU does first; vtl1_setup() or what at least sets up an assist page. */
extern void (*vtl1_on_begin)(void);

/* Functions for vtl1_run() */
uint64_t vtl1_peek(uint64_t gpa);
struct poke {
        uint64_t gpa, value;
};
uint64_t vtl1_poke(uint64_t poke);
uint64_t vtl1_fill(uint64_t poke); /* the whole page */
bool vtl1_page_is(uint64_t gpa, uint64_t value);

/* Called in VTL0: VTL1 sets the rights of @n pages. Returns the whole result value. */
uint64_t protect(uint64_t gpa, unsigned n, uint32_t flags);

/* job.c */

uint64_t tsc_per_ms(void);
void spin_ms(uint64_t ms);
/* Until @counter has reached @n; false after @ms milliseconds. */
bool spin_for(const volatile unsigned *counter, unsigned n, uint64_t ms);
/* Until @counter, which may wrap, is no longer @value. */
bool spin_while(const volatile unsigned *counter, unsigned value, uint64_t ms);

/* Starts a CPU, which then does one job after the other in VTL0; with VTL1 by vsm_open(), too. */
void job_open(unsigned cpu);
void job_open_vtl1(unsigned cpu);
/* Where a CPU that StartVirtualProcessor starts does jobs, too */
void job_started(void);
/* CPUs without a job halt from now on, and are interrupted for one; otherwise they spin. */
void job_halt(void);
void job_start(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg);
bool job_busy(unsigned cpu);
uint64_t job_wait(unsigned cpu, const char *what);
uint64_t job_run(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg, const char *what);
/* The job is a secure call: @fn runs in that CPU's VTL1. */
void job_start_vtl1(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg);
uint64_t job_run_vtl1(unsigned cpu, uint64_t (*fn)(uint64_t arg), uint64_t arg, const char *what);

/* What VTL1 shall do with the intercepts to come, and what it saw. */
enum plan_action {
        PLAN_SKIP,   /* RIP += InstructionLength */
        PLAN_POISON, /* the same, and RAX = poison */
        PLAN_OPEN,   /* all access to the page, try again */
        PLAN_COUNT,  /* leave everything as it is for plan.patience intercepts, then PLAN_OPEN */
};

#define PLAN_LOG 8
#define PLAN_STORM 64

struct plan {
        enum plan_action action;
        uint64_t poison;
        unsigned patience;
        unsigned count;
        uint64_t rip;            /* VTL0's, by GetVpRegisters, at the last one */
        unsigned size[PLAN_LOG]; /* PayloadSize */
        uint32_t type[PLAN_LOG];
        struct hv_memory_intercept log[PLAN_LOG];
};

extern struct plan plan;
void plan_start(enum plan_action action);
