/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A VTL1 that uses the hypervisor as Windows' secure kernel does: the same registers, MSRs and
 * hypercalls in the same order (vsm.md 10.2, 10.3). Everything is checked by the functions of TAP.
 */

#include "hv.h"

#define SK_OS_ID 0x0001040a000065f4ull
#define SK_PAGE_FIRST 0u /* its image, in pages of the window */
#define SK_PAGES 200u
#define SK_VECTOR_INTERCEPT 0xf0
#define SK_VECTOR_TIMER 0x51
#define SK_VECTOR_VINA 0x41
#define SK_POISON 0x5ec2e70000000000ull

/* VTL1's first function on each CPU: vtl1_on_begin */
void sk_begin(void);
/* What it does about VTL0's memory, MSRs and ports: vtl1_on_intercept */
void sk_intercept(struct hv_message *m, struct gprs *g);

/* Services, for vtl1_run() */
uint64_t sk_protect_itself(uint64_t fast);
uint64_t sk_protect_kernel(uint64_t arg);
uint64_t sk_start_processor(uint64_t vp);
uint64_t sk_install_intercepts(uint64_t arg); /* on this VP; what could not be had */
uint64_t sk_install_port(uint64_t port);
uint64_t sk_start_timer(uint64_t ms);
uint64_t sk_translate(uint64_t gva);
uint64_t sk_work(uint64_t ms); /* with its interrupts on; whether VINA came */
uint64_t sk_panic(uint64_t arg);

extern bool sk_mbec, sk_deny; /* what the hypervisor said that it has */

/* By CPU */
struct sk_count {
        volatile unsigned timers, vinas, memory, msrs, ports;
        volatile uint32_t last_msr;
        volatile uint64_t last_value;
};
extern struct sk_count sk_counts[MAX_CPUS];

/* Bits of HvRegisterCrInterceptControl: those that are MSRs, and the others */
extern const uint64_t sk_msr_bits, sk_other_bits;

/* NT's code and data in the window, of which sk_protect_kernel() makes one or the other */
#define NT_CODE_FIRST 200u
#define NT_DATA_FIRST 350u
#define NT_PAGES 150u
