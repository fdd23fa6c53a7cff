/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Small real guests that find out how this KVM reports an access to a page that its view forbids.
 */

#include <stdint.h>

enum probe_access {
        PROBE_STORE, /* MOV to memory */
        PROBE_LOAD,  /* MOV from memory */
        PROBE_OUTS,  /* OUTSB from memory: KVM emulates it */
        _PROBE_ACCESS_MAX,
};

enum probe_outcome {
        PROBE_FAULT, /* KVM_RUN fails with EFAULT, RIP at the instruction, nothing done; goes on
                        when opened */
        PROBE_MMIO,  /* KVM_EXIT_MMIO: the address is known, the instruction only partly */
        PROBE_UNREPORTED, /* the access took place */
        PROBE_OTHER,      /* an exit that tells nothing */
        _PROBE_OUTCOME_MAX,
};

struct probe_result {
        enum probe_outcome outcome;
        uint32_t exit_reason; /* with PROBE_OTHER */
        int error;            /* with PROBE_OTHER: errno of KVM_RUN, or 0 */
};

/**
 * probe_guest_run() - run one guest
 * @kvm_fd: /dev/kvm
 * @access: what the guest does to the forbidden page
 *
 * Return: 0, or a negative errno with *@ret_what naming the call that failed.
 */
int probe_guest_run(int kvm_fd, enum probe_access access, struct probe_result *ret,
                    const char **ret_what);

/**
 * probe_stable_tsc() - is the host's TSC one that guests can rely on?
 *
 * The kernel takes a TSC that it found unstable out of its list of clock sources.
 *
 * Return: 1, 0, or a negative errno.
 */
int probe_stable_tsc(void);
