/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The engine's objects: partition, VP, and the state each VP keeps per VTL. One engine thread per
 * VP serves its exits under the partition's lock; nothing here knows processes, sockets or the bus.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "util/log.h"
#include "vtl/control.h"
#include "vtl/fault.h"
#include "vtl/hvdef.h"
#include "vtl/lapic.h"
#include "vtl/options.h"
#include "vtl/plane.h"
#include "vtl/protect.h"

struct vtl_vp;
struct vtl_partition;
struct vtl_overlay;
struct vtl_clock;

/* Guest RAM as the engine sees it: all of it, unrestricted. */
struct vtl_region {
        uint64_t gpa;
        uint64_t size;
        uint8_t *base;
};

enum vtl_event {
        VTL_EVENT_PARTITION_VTL_ENABLED, /* data: VTL */
        VTL_EVENT_VP_VTL_ENABLED,        /* data: VTL */
        VTL_EVENT_INTERCEPT,          /* a violation was reported to VTL1; gpa, data: access type */
        VTL_EVENT_DENIED,             /* policy refused EnablePartitionVtl */
        VTL_EVENT_PROTECTION_ENABLED, /* data: HvRegisterVsmPartitionConfig */
        VTL_EVENT_PROTECTION_REFUSED, /* the host has no mappings left */
        VTL_EVENT_CONFIG,             /* data: HvRegisterVsmPartitionConfig, which has changed */
        VTL_EVENT_STARTUP, /* VTL0 was started over, which VTL1 had denied; data: CS base */
        VTL_EVENT_CRASH,   /* the guest reports its own; gpa: P0, data: the VTL that did */
        VTL_EVENT_STATE,   /* the partition was reset or loaded: all may be different */
        VTL_EVENT_STOPPED, /* the engine gave up; data: errno */
        _VTL_EVENT_MAX,
};

struct vtl_config {
        unsigned vps;
        const uint32_t *apic_ids; /* by VP index */
        const struct vtl_region *regions;
        size_t n_regions;
        uint64_t tsc_khz;
        unsigned phys_bits;
        bool allow_vtl1;
        struct vtl_options options;
        bool precise_faults;
        bool kernel_apic_msrs;  /* KVM serves 0x40000070-72 of VTL0 itself */
        bool kernel_hypercalls; /* KVM serves flushes and IPIs of VTL0, once it has a GUEST_OS_ID */
        bool kernel_synic;      /* KVM's APIC of VTL0 knows AutoEOI, by its SINTs */
        void *control;          /* vtl_control_size(vps) bytes, zeroed, shared with the library */
        uint8_t *overlay;       /* vtl_overlay_pages(vps) pages */
        const struct plane_ops *ops;
        void *ops_ctx;
        /* Tells the owner of the partition about rare facts. Called under the partition's lock:
         * must not call back. */
        void (*event)(void *userdata, enum vtl_event what, unsigned vp, uint64_t gpa,
                      uint64_t data);
        /* Measures what VTL1 would run on @vp with its context, and says whether it may: 0, 1 when
         * not, or a negative errno. @entry: it is about to; otherwise this is EnableVpVtl, which
         * asks where @measure_required only. Called like event(), with all other VPs outside the
         * guest. NULL: nothing is measured. */
        int (*measure)(void *userdata, struct vtl_vp *vp, bool entry);
        bool measure_required;
        /* Serves a hypercall of @vp: 0 or a negative errno. Given by whoever links vtl/ with
         * hvcall/. */
        int (*hypercall)(struct vtl_vp *vp);
        /* Another clock than the host's, in ns, which the TSC follows at tsc_khz: for runs that are
         * to be the same every time. Nothing rings then: who moves the clock kicks the VPs. */
        uint64_t (*clock_ns)(void *userdata);
        void *userdata;
};

#define VTL_STIMERS 4

struct vtl_stimer {
        uint64_t config;
        uint64_t count;
        uint64_t due;        /* reference time, or UINT64_MAX */
        uint64_t expired_at; /* of the expiry that the guest has not been told of yet */
        bool message_pending;
};

/* Messages that wait for their slot, oldest first */
#define VTL_MESSAGES_MAX 8

struct vtl_synic {
        uint64_t scontrol;
        uint64_t siefp;
        uint64_t simp;
        uint64_t sirbp;
        uint64_t sint[HV_SINT_COUNT];
        struct vtl_stimer stimer[VTL_STIMERS];
        unsigned n_messages;
        struct {
                uint8_t sint;
                struct hv_message message;
        } messages[VTL_MESSAGES_MAX];
};

/* What a VP keeps for each VTL beside the registers in the planes */
struct vtl_vp_vtl {
        struct vtl_synic synic;
        uint64_t assist_msr;
        uint64_t cr_intercept[4]; /* HvRegisterCrIntercept*, owned by VTL1 */
};

/* A store that KVM emulated into a forbidden page; carried out if VTL1 opens it (kvm-findings 1).
 * An instruction can make several, of up to 8 bytes each: FXSAVE the most. */
#define VTL_PENDING_STORES 64
struct vtl_pending_store {
        uint64_t gpa;
        uint64_t data;
        uint32_t len;
};

#define VTL_STEP_CLOSED 16

/* An entry of VTL0 with strict pages open (strict.h) */
struct vtl_step {
        bool active;
        struct insn_step insn;
        bool trap_flag;      /* VTL0's own, before */
        bool trap_flag_next; /* what the instruction loads */
        bool trap_due;       /* VTL0's own trap, when the instruction has ended */
        uint64_t opened[FAULT_TOUCHED_MAX], closed[VTL_STEP_CLOSED];
        size_t n_opened, n_closed;
};

/* Something that another VP wants done on this one's thread; lives on the other one's stack. */
struct vtl_work {
        int (*fn)(struct vtl_vp *vp, void *arg);
        void *arg;
        bool done;
        int result;
};

struct vtl_vp {
        struct vtl_partition *partition;
        struct vtl_control_vp *ctl;
        unsigned index;
        uint32_t apic_id;
        unsigned active_vtl; /* private copy, equal to ctl->active_vtl while an exit is served */
        uint32_t enabled_vtls;
        struct vtl_vp_vtl vtl[VTL_MAX_VTLS];
        struct lapic lapic; /* VTL1's; VTL0's is the kernel's */
        bool nmi_pending;   /* for VTL1 */
        bool start_pending; /* StartVirtualProcessor, to be carried out by the VP itself */
        bool start_vtl0;    /* with a context for VTL0 */
        struct hv_initial_vp_context start_context;
        bool started;       /* has run, or was told to */
        uint64_t clock_set; /* what the partition's clock was last told */
        bool halted;        /* VTL1 executed HLT */
        bool idle;          /* it read GUEST_IDLE: interrupts end that with RFLAGS.IF clear, too */
        int lazy_eoi;       /* the vector that VTL1 may end through its assist page; -1: none */
        bool protected_mode_seen; /* VTL0 has been in protected mode since VTL1 was enabled here */
        uint64_t crash[HV_CRASH_PARAMETERS]; /* GUEST_CRASH_P0-P4, one set for both levels */
        bool exact_entry; /* VTL1 was entered with all of the shared state: it is to return with it
                             too */
        bool context_pending; /* EnableVpVtl took place, VTL1 was never entered */
        struct hv_initial_vp_context context;
        uint64_t vina;
        uint64_t secure_config;     /* HvRegisterVsmVpSecureConfigVtl0 */
        uint64_t pending_event0[2]; /* for VTL0 */
        struct vtl_pending_store stores[VTL_PENDING_STORES];
        unsigned n_stores;
        bool store_reported;  /* VTL1 has been told of stores[0] */
        bool tlb_locked;      /* by VTL1, until it returns */
        uint64_t flush_waits; /* VPs whose TLB lock VTL0's last flush has to wait for, bitmap */
        uint32_t flush_vtls;  /* VTLs whose translations are to go before the next entry, bitmap */
        struct vtl_work *work;
        struct vtl_step step;
        unsigned equal_faults;
        uint64_t last_fault_rip;
        uint64_t last_fault_rcx;
};

/* What VTL1 wants to be told of, beside memory (intercept-control.c) */
struct vtl_intercepts {
        struct plane_msr_filter msrs;           /* what comes out of VTL0's vCPUs now */
        struct plane_msr_filter installed_msrs; /* by HvCallInstallIntercept */
        struct plane_port_filter ports;
};

struct vtl_partition {
        pthread_mutex_t lock;
        struct vtl_config config;
        unsigned phys_bits;
        struct vtl_control_header *header;
        uint32_t *apic_ids;
        struct vtl_region *regions;
        size_t n_regions;
        unsigned n_vps;
        struct vtl_vp *vps;

        uint32_t enabled_vtls;
        bool vp_vtl1_enabled; /* on any VP */
        bool measured;        /* VTL1 was, and has been entered */
        unsigned measure_refusals;
        bool mbec;                 /* was asked for; recorded, not enforced */
        uint64_t partition_config; /* HvRegisterVsmPartitionConfig of VTL1 */
        uint64_t guest_os_id[VTL_MAX_VTLS];
        uint64_t hypercall_msr[VTL_MAX_VTLS];
        uint64_t tsc_msr[VTL_MAX_VTLS];
        uint64_t tsc_scale;
        int64_t tsc_offset;
        uint64_t tsc_delta; /* the guest's TSC minus the host's */
        bool tsc_known;     /* the reference time is computed from the TSC */
        uint32_t tsc_sequence;
        uint64_t epoch_100ns;
        struct protect_map *protect; /* VTL0's rights */
        struct protect_map *strict; /* pages without a right are those of strict mode; NULL: none */
        struct fault_touched touched; /* by the fault that is being served */
        struct vtl_intercepts intercepts;
        struct log_ratelimit log_limit;
        struct vtl_clock *clock;
        struct vtl_vp *current; /* whose exit is being served */
        struct vtl_vp *holder;  /* keeps the others out of the guest */
        bool kernel_stopped;    /* VTL0's page sends nothing to KVM for now */
        bool paused;            /* no timer expires */
        uint64_t paused_100ns;  /* since when */
        pthread_cond_t work_done;
        struct vtl_overlay *overlays[VTL_MAX_VTLS]; /* those mapped now; room for all */
        size_t n_overlays[VTL_MAX_VTLS];
};

/**
 * vtl_partition_new() - the engine's object for one guest
 *
 * Return: 0, -EINVAL for a configuration out of range, -ENOMEM.
 */
int vtl_partition_new(const struct vtl_config *config, struct vtl_partition **ret);
struct vtl_partition *vtl_partition_free(struct vtl_partition *p);

/* Takes the lock, for who may not wait for long. Return: 0; -EBUSY: not in @ns nanoseconds, below a
 * second. */
int vtl_partition_lock_for(struct vtl_partition *p, uint32_t ns);

/**
 * vtl_engine_exit() - serve the exit in the VP's control page
 *
 * Reads ctl->exit and the registers beside it, leaves ctl->action and changed registers. Takes the
 * partition's lock.
 *
 * Return: 0, or a negative errno when the engine cannot go on; ctl->action is then VTL_ACTION_STOP.
 */
int vtl_engine_exit(struct vtl_vp *vp);

/* A VP as it is before anything was enabled on it */
void vtl_vp_reset(struct vtl_vp *vp);

void vtl_event(struct vtl_vp *vp, enum vtl_event what, uint64_t gpa, uint64_t data);
