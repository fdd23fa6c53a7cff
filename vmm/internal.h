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
        uint32_t step; /* enum vtl_step_how: of the next entry of VTL0 */
        uint8_t cr8;   /* VTL1's, when the engine last saw it */
        bool stepping; /* VTL1 is single-stepped to its interrupt window */
        bool waiting;  /* the active level does not run before a kick */
        bool ticking;  /* the timer that makes the engine look at VTL0 is armed */
        bool has_tick;
        timer_t tick;
        uint64_t look_at;   /* CLOCK_MONOTONIC, ns: when VTL0 is to be looked at; 0: unknown yet */
        uint64_t look_ns;   /* how long the last look took */
        bool shown;         /* the last exit was VTL1's, shown through VTL0's kvm_run */
        sigset_t wait_mask; /* the thread's own signals, for waiting */
        struct mailbox_spin spin;
        void *engine_vp;               /* in process: struct vtl_vp */
        atomic_bool running;           /* its thread is in vtlvmm_run() */
        struct kvm_image *reset_state; /* of the higher plane's vCPU, as it was made */
        struct kvm_cpuid2 *cpuid;
};

#define VINA_POLL_US_DEFAULT 250u
#define VINA_POLL_US_MIN 20u
#define VINA_POLL_US_MAX 1000000u

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
        uint32_t vina_poll_us; /* between looks for VTL0's interrupts, while VTL1 runs */
        bool precise_faults;
        atomic_bool dead; /* the engine is gone */
        bool paused;
        atomic_bool still; /* no vCPU may run: paused, or for a moment */
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

/* state.c: what vtlvmm_reset() goes back to. Before a vCPU has run. */
int vtlvmm_keep_reset_state(struct vtlvmm *v);
/* run.c: whether KVM steps a vCPU and keeps interrupts out meanwhile (Linux 5.16). */
bool vtlvmm_can_step(int vm_fd);

/* inprocess.c: the engine in this process. Not in the shared library. */
struct vtl_options;
int vtlvmm_start_in_process(struct vtlvmm *v, bool allow_vtl1, const struct vtl_options *options);
