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
#include "vtl/hvdef.h"
#include "vtl/lapic.h"
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
        VTL_EVENT_STOPPED,            /* the engine gave up; data: errno */
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
        bool precise_faults;
        bool kernel_apic_msrs; /* KVM serves 0x40000070-72 of VTL0 itself */
        void *control;         /* vtl_control_size(vps) bytes, zeroed, shared with the library */
        uint8_t *overlay;      /* vtl_overlay_pages(vps) pages */
        const struct plane_ops *ops;
        void *ops_ctx;
        /* Tells the owner of the partition about rare facts. Called under the partition's lock:
         * must not call back. */
        void (*event)(void *userdata, enum vtl_event what, unsigned vp, uint64_t gpa,
                      uint64_t data);
        /* Serves a hypercall of @vp: 0 or a negative errno. Given by whoever links vtl/ with
         * hvcall/. */
        int (*hypercall)(struct vtl_vp *vp);
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

struct vtl_synic {
        uint64_t scontrol;
        uint64_t siefp;
        uint64_t simp;
        uint64_t sint[HV_SINT_COUNT];
        struct vtl_stimer stimer[VTL_STIMERS];
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
        bool exact_entry; /* VTL1 was entered with all of the shared state: it is to return with it
                             too */
        bool context_pending; /* EnableVpVtl took place, VTL1 was never entered */
        struct hv_initial_vp_context context;
        uint64_t vina;
        uint64_t secure_config;     /* HvRegisterVsmVpSecureConfigVtl0 */
        uint64_t pending_event0[2]; /* for VTL0 */
        struct vtl_pending_store stores[VTL_PENDING_STORES];
        unsigned n_stores;
        bool store_reported; /* VTL1 has been told of stores[0] */
        bool tlb_locked;     /* by VTL1, until it returns */
        unsigned equal_faults;
        uint64_t last_fault_rip;
        uint64_t last_fault_rcx;
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
        bool vp_vtl1_enabled;      /* on any VP */
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
        struct log_ratelimit log_limit;
        struct vtl_clock *clock;
        struct vtl_vp *current;                     /* whose exit is being served */
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

/**
 * vtl_engine_exit() - serve the exit in the VP's control page
 *
 * Reads ctl->exit and the registers beside it, leaves ctl->action and changed registers. Takes the
 * partition's lock.
 *
 * Return: 0, or a negative errno when the engine cannot go on; ctl->action is then VTL_ACTION_STOP.
 */
int vtl_engine_exit(struct vtl_vp *vp);

void vtl_event(struct vtl_vp *vp, enum vtl_event what, uint64_t gpa, uint64_t data);
/* The partition's reference time in units of 100 ns (vsm.md 1.6: TIME_REF_COUNT) */
uint64_t vtl_reference_time(const struct vtl_partition *p);
/* The guest's TSC now; what a value of it is in units of 100 ns, without and with the offset that
 * makes it reference time. Once the TSC is known. */
uint64_t vtl_tsc_now(const struct vtl_partition *p);
uint64_t vtl_tsc_time(const struct vtl_partition *p, uint64_t tsc);
uint64_t vtl_reference_time_of(const struct vtl_partition *p, uint64_t tsc);
