/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Inside libvtlvmm. */

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "util/util.h"
#include "vmm/attach.h"
#include "vmm/vtlvmm.h"
#include "vtl/control.h"
#include "vtl/mailbox.h"
#include "vtl/plane-stock.h"

struct vtlvmm_vcpu {
        struct vtlvmm *vtlvmm;
        struct stock_vp *vp;
        unsigned index;
        int kick_read;
        bool started;     /* its thread has been set up */
        bool to_boundary; /* the pending instruction is to be finished, then the engine wants to
                             know */
        bool irq_window;
        uint8_t cr8; /* VTL1's, when the engine last saw it */
        bool stepping; /* VTL1 is single-stepped to its interrupt window */
        bool waiting;       /* VTL1 is halted */
        bool ticking; /* the timer that makes the engine look at VTL0 is armed */
        bool has_tick;
        timer_t tick;
        bool shown;         /* the last exit was VTL1's, shown through VTL0's kvm_run */
        sigset_t wait_mask; /* the thread's own signals, for waiting */
        struct mailbox_spin spin;
        void *engine_vp; /* in process: struct vtl_vp */
        struct kvm_cpuid2 *cpuid;
};

struct vtlvmm {
        struct plane_stock planes;
        struct vtlvmm_vcpu vcpus[VTL_MAX_VPS];
        uint8_t uuid[16];
        char *name;
        int signal;
        bool started;
        int control_fd;
        void *control;
        size_t control_size;
        uint8_t *overlay;
        unsigned phys_bits;
        uint64_t tsc_khz;
        bool precise_faults;
        atomic_bool dead; /* the engine is gone */
        struct attach_client *client;
        int link_fd;
        int quit_fd; /* eventfd: the watcher ends */
        pthread_t watcher;
        bool watching;
        char error[256];

        /* Has the engine serve the exit in the VP's control page. 0 or a negative errno. */
        int (*serve)(struct vtlvmm_vcpu *vcpu);
        /* The in-process form: the engine's object and how to be rid of it. */
        void *engine;
        void (*free_engine)(struct vtlvmm *v);
};

int vtlvmm_fail(struct vtlvmm *v, int error, const char *fmt, ...) _printf_(3, 4);

/* Is there all that is needed, and nothing started? */
int vtlvmm_check(struct vtlvmm *v);

/* Makes planes and shared memory; what vtlvmm_attach() and the in-process form have in common. */
int vtlvmm_prepare(struct vtlvmm *v);

/* inprocess.c: the engine in this process. Not in the shared library. */
int vtlvmm_start_in_process(struct vtlvmm *v, bool allow_vtl1);
