/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What VTL1 may ask for and stock KVM has no means of enforcing: one table for the engine, which
 * refuses or records it, for the bus, and for `vtld --probe`.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNENFORCED_RANGES_MAX 6

struct unenforced_range {
        uint32_t first, last;
};

struct unenforced {
        const char *name; /* as the bus and vtld --probe say it */
        const char *what; /* for people */
        const char *key;  /* of policy, that decides; NULL: it is always refused */
        uint64_t cr;      /* bit of HvRegisterCrInterceptControl, or 0 */
        uint64_t flag;    /* VTL_UNENFORCED_*, or 0 */
        struct unenforced_range ports[UNENFORCED_RANGES_MAX]; /* {0, 0}: no more */
        struct unenforced_range msrs;                         /* {0, 0}: none */
};

/* By number, from 0: NULL behind the last one. */
const struct unenforced *unenforced_get(size_t i);
#define UNENFORCED_MAX 16u

/* Bits of HvRegisterCrInterceptControl that have no exit */
uint64_t unenforced_cr_bits(void);
/* Whether KVM itself usually serves a port of VTL0's, so that there is no exit */
bool unenforced_port(uint32_t port);
/* Whether KVM ignores its filter for an MSR */
bool unenforced_msr(uint32_t msr);

/**
 * unenforced_names() - the names of what is set
 * @cr: bits of HvRegisterCrInterceptControl
 * @flags: VTL_UNENFORCED_*
 *
 * Return: how many; bits without a name have none.
 */
size_t unenforced_names(uint64_t cr, uint64_t flags, const char *ret[UNENFORCED_MAX]);
