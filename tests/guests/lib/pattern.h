/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A CPU that waits with known values in all its registers, see pattern.S. */

#include "hv.h"

struct pattern {
        uint64_t gpr[16]; /* in the TLFS's order; [4], RSP, is only told */
        uint64_t rflags;
        uint64_t halt;           /* 1: HLT, 0: a loop */
        uint64_t fpu;            /* XMM, too */
        volatile uint64_t ready; /* all but the last few instructions have been done */
        struct xmm xmm[16];
};

/* Loads everything from @p and waits. Whoever makes the CPU go on at pattern_leave, or an interrupt
 * in the case of HLT, has it come back, with what the registers were then in @p. */
void pattern_wait(struct pattern *p);
/* The same for as many turns as gpr[1], RCX, says; interrupts do not end it. */
void pattern_hold(struct pattern *p);
extern uint8_t pattern_spin[], pattern_halted[], pattern_leave[];

void pattern_fill(struct pattern *p, uint64_t seed);
/* How many general registers but RSP, and XMM registers, differ */
unsigned pattern_differs(const struct pattern *a, const struct pattern *b);
/* NMI: makes a waiting CPU leave. For irq_set(VECTOR_NMI). */
void pattern_on_nmi(struct trap_frame *f);
