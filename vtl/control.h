/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The control memory: what the library in the VMM and the engine share, one header page and then a
 * fixed number of pages per VP. In the daemon form it is a sealed memfd, mapped by the VMM, the
 * worker (both writable) and the broker (read-only); in process it is plain memory. Neither side
 * trusts it: each copies a field once, checks, then uses.
 *
 * Who writes: "L" the library, "E" the engine.
 */

#include <linux/kvm.h>
#include <stdatomic.h>
#include <stdint.h>

#include "vtl/hvdef.h"
#include "vtl/plane.h"
#include "vtl/trace.h"

#define VTL_CONTROL_MAGIC 0x6c746e6f63647476ull /* "vtdcontl" */
#define VTL_CONTROL_VERSION 5
#define VTL_MAX_VPS 64
#define VTL_MAX_VTLS PLANE_MAX

#define VTL_CONTROL_HEADER_SIZE 4096u
#define VTL_CONTROL_VP_SIZE 65536u

/* Overlay memory: pages by number. Partition pages first, then VTL_OVERLAYS_PER_VP for each VP. */
enum vtl_overlay_kind {
        VTL_OVERLAY_HYPERCALL, /* per partition and VTL */
        VTL_OVERLAY_TSC,       /* per partition and VTL */
        VTL_OVERLAY_ASSIST,    /* per VP and VTL, from here on */
        VTL_OVERLAY_SIMP,
        VTL_OVERLAY_SIEFP,
        _VTL_OVERLAY_MAX,
};
#define VTL_OVERLAYS_PARTITION (2u * VTL_MAX_VTLS)
#define VTL_OVERLAYS_PER_VP (3u * VTL_MAX_VTLS)

static inline uint32_t vtl_overlay_page(enum vtl_overlay_kind kind, unsigned vp, unsigned vtl) {
        if (kind < VTL_OVERLAY_ASSIST)
                return (uint32_t) kind * VTL_MAX_VTLS + vtl;
        return VTL_OVERLAYS_PARTITION + vp * VTL_OVERLAYS_PER_VP +
               ((uint32_t) kind - VTL_OVERLAY_ASSIST) * VTL_MAX_VTLS + vtl;
}
static inline uint32_t vtl_overlay_pages(unsigned vps) {
        return VTL_OVERLAYS_PARTITION + vps * VTL_OVERLAYS_PER_VP;
}

enum vtl_exit_kind {
        VTL_EXIT_NONE,
        VTL_EXIT_HYPERCALL, /* `out` on one of the hypercall page's ports; port is set */
        VTL_EXIT_RDMSR,     /* msr */
        VTL_EXIT_WRMSR,     /* msr, data */
        VTL_EXIT_FAULT,     /* EFAULT: precise RIP, no address */
        VTL_EXIT_MMIO, /* gpa, len, is_write, data: an emulated access to RAM or to VTL1's APIC page
                        */
        VTL_EXIT_HALT, /* HLT of a plane without in-kernel APIC */
        VTL_EXIT_TPR,  /* CR8 lowered */
        VTL_EXIT_IRQ_WINDOW, /* the plane can take an interrupt now */
        VTL_EXIT_PORT, /* VTL0's I/O to a port that VTL1 intercepts: port, len of an element, data:
                          elements, is_write */
        VTL_EXIT_STEP, /* an entry with action.step is over. len: enum vtl_step_end; data: DR6, at
                          an instruction boundary */
        VTL_EXIT_KICK, /* somebody wants the engine to look; the vCPU is at an instruction boundary.
                           data: enum vtl_look, in VTL1 */
        VTL_EXIT_STATE, /* of the whole partition, while no VP is in the guest; port: enum
                           vtl_state_request, data: the size of the blob to load. action.data is
                           then an errno, or 0 */
        _VTL_EXIT_MAX,
};

/* Whether VTL0 could take an interrupt, where VTL1 is to be told of that (VINA) */
enum vtl_look {
        VTL_LOOK_NOT_TAKEN, /* the engine is to look */
        VTL_LOOK_NOTHING,
        VTL_LOOK_INTERRUPT,
};

enum vtl_state_request {
        VTL_STATE_PAUSE,
        VTL_STATE_CONTINUE,
        VTL_STATE_RESET,
        VTL_STATE_SAVE,
        VTL_STATE_LOAD,
        _VTL_STATE_MAX,
};

struct vtl_exit {
        uint32_t kind;
        uint32_t plane;
        uint32_t port;
        uint32_t msr;
        uint64_t gpa;
        uint64_t data; /* WRMSR value; MMIO bytes, low-aligned */
        uint32_t len;
        uint8_t is_write;
        uint8_t if_flag;             /* kvm_run: RFLAGS.IF and no shadow blocks */
        uint8_t ready_for_injection; /* kvm_run.ready_for_interrupt_injection */
        uint8_t cr8;                 /* kvm_run.cr8 of a plane without in-kernel APIC */
};

enum vtl_action_kind {
        VTL_ACTION_RUN,      /* enter the active plane */
        VTL_ACTION_WAIT,     /* the active plane is halted: wait for a kick, then come back with
                                VTL_EXIT_KICK */
        VTL_ACTION_TO_VMM,   /* the exit is the VMM's after all */
        VTL_ACTION_SHUTDOWN, /* as a triple fault: the VMM gets KVM_EXIT_SHUTDOWN */
        VTL_ACTION_RESET,    /* the guest asks for it: the VMM gets KVM_EXIT_SYSTEM_EVENT */
        VTL_ACTION_STOP,     /* the engine cannot go on with this guest: the VMM gets -1/EIO */
};

struct vtl_action {
        uint32_t kind;
        uint32_t irq_window; /* ask for an exit when the active plane can take an interrupt */
        uint64_t data;       /* RDMSR value, MMIO load bytes */
        uint32_t msr_error;  /* RDMSR, WRMSR: inject #GP */
        uint32_t cr8;        /* kvm_run.cr8 for the active plane when it has no in-kernel APIC */
        /* Finish the pending instruction only, then come back with VTL_EXIT_KICK. Exits of that
         * instruction that are the VMM's go to it first (design "Rule of completion"). */
        uint32_t to_boundary;
        uint32_t step; /* enum vtl_step_how: what the next entry of VTL0 is, and only that */
};

/* Interrupts and NMIs stay out in both cases. */
enum vtl_step_how {
        VTL_STEP_NONE,
        VTL_STEP_ONE,  /* one instruction */
        VTL_STEP_FREE, /* until an exit: what the entry must not reach is closed */
};

enum vtl_step_end {
        VTL_STEP_DONE,      /* at an instruction boundary */
        VTL_STEP_OTHERWISE, /* the exit that follows says what happened */
        VTL_STEP_UNDERWAY,  /* so it does, and the instruction ends after it has been answered */
};

/* Mailbox states, one word per direction of travel; see mailbox.h */
enum vtl_mailbox_state {
        VTL_MAILBOX_IDLE,    /* nobody waits */
        VTL_MAILBOX_EXIT,    /* L: exit is filled in, engine please */
        VTL_MAILBOX_OP,      /* E: op is filled in, library please */
        VTL_MAILBOX_OP_DONE, /* L: op.result is filled in */
        VTL_MAILBOX_ACTION,  /* E: action is filled in, the exit is served */
};

enum vtl_op_code {
        VTL_OP_GET,
        VTL_OP_SET,
        VTL_OP_COMPLETE,
        VTL_OP_UNWIND,
        VTL_OP_PROBE,
        VTL_OP_SWITCH,
        VTL_OP_INJECT,
        VTL_OP_PROTECT,
        VTL_OP_OVERLAY,
        VTL_OP_FLUSH,
        VTL_OP_FILTER_MSRS,
        VTL_OP_FILTER_PORTS,
        VTL_OP_STATE_PUT,
        VTL_OP_STATE_GET,
        VTL_OP_GIVEN, /* L, with each exit: data is what a get of that plane and class gives, when
                         its len is that of the class */
        _VTL_OP_MAX,
};

/* What one hypercall changes goes in one piece: a range for each of its 510 pages. */
#define VTL_OP_DATA_MAX 16384u

struct vtl_op {
        uint32_t code;
        uint32_t plane;
        uint32_t arg; /* class, flags, page number */
        uint32_t len; /* bytes of data */
        uint64_t gpn;
        uint32_t access;
        int32_t result;
        /* E: nobody waits for the result; L carries it out when it finds the action. 0 with each
         * exit. */
        uint32_t posted;
        uint8_t data[VTL_OP_DATA_MAX] __attribute__((aligned(16)));
};

/* Counters, monotonic since the partition began */
struct vtl_vp_stats {
        uint64_t vtl_calls;
        uint64_t vtl_returns;
        uint64_t fast_switches;     /* of both, done by the library alone */
        uint64_t interrupt_entries; /* entries into VTL1 with reason 2 */
        uint64_t hypercalls;
        uint64_t intercepts;
        uint64_t engine_exits;
        uint64_t vcpu_ioctls; /* by the library, KVM_RUN included */
};

enum vtl_gate {
        VTL_GATE_OUTSIDE,
        VTL_GATE_IN_GUEST,
        VTL_GATE_WAITS, /* outside, for @hold to become 0: wants to be kicked then */
};

struct vtl_control_vp {
        /* State. */
        uint32_t active_vtl;     /* L in the hot path, E through switch_to (done by L) */
        uint32_t enabled_vtls;   /* E: bitmap */
        uint32_t switchable;     /* E: the library may do VTL call and return by itself */
        uint32_t suspended_vtls; /* E, L: planes suspended to run a more privileged one, bitmap */
        uint32_t pending_vtls; /* E: planes with a deliverable interrupt known to the engine, bitmap
                                */
        uint32_t halted;       /* E: the active plane waits */
        uint32_t lapic_idle;   /* E: nothing is requested in VTL1's APIC */
        uint32_t vtl1_cr8;     /* L: CR8 of VTL1 when it last exited */
        uint64_t vina;         /* E: VTL1's HvRegisterVsmVina */
        struct vtl_vp_stats stats;

        /* Mailbox. */
        _Atomic uint32_t mailbox __attribute__((aligned(64))); /* enum vtl_mailbox_state, a futex */
        _Atomic uint32_t engine_sleeps;
        _Atomic uint32_t library_sleeps;
        _Atomic uint32_t kicked; /* E: look at what is pending before the next entry */
        /* The gate. The library sets @in_guest, then looks at @hold, before it enters the guest;
         * the engine sets @hold, then waits for @in_guest to be 0. So between the two either the VP
         * is not in the guest and stays out, or it is known to be in it. */
        _Atomic uint32_t in_guest; /* L: enum vtl_gate, a futex */
        _Atomic uint32_t hold;     /* E: stay out of the guest */

        /* The active plane's registers at the exit; E changes them and says so in regs_dirty
         * (KVM_SYNC_X86_*). */
        struct vtl_exit exit;
        struct vtl_action action;
        uint32_t regs_dirty;
        struct kvm_regs regs;
        struct kvm_sregs sregs;

        struct vtl_op op;

        struct vtl_trace_ring trace __attribute__((aligned(64))); /* L, E: while header.tracing */
};
_Static_assert(sizeof(struct vtl_control_vp) <= VTL_CONTROL_VP_SIZE,
               "the VP's part of the control memory");

/* Their names are in unenforced.c. */
#define VTL_UNENFORCED_MBEC (1ull << 0)
#define VTL_UNENFORCED_STARTUP_DENIAL (1ull << 1)
#define VTL_UNENFORCED_CPUID_INTERCEPT (1ull << 2)
#define VTL_UNENFORCED_PORT_INTERCEPT (1ull << 3) /* of devices in the kernel */
#define VTL_UNENFORCED_EXECUTE (1ull << 4)        /* beyond what strict execute mode has room for */
#define VTL_UNENFORCED_ALL 0x1full

struct vtl_control_header {
        uint64_t magic;
        uint32_t version;
        uint32_t vps;
        _Atomic uint32_t tracing; /* E: somebody reads the traces */
        /* E: partition state, for the bus */
        uint32_t enabled_vtls;
        uint32_t protection_enabled;
        uint64_t partition_config;
        uint64_t protected_pages;
        uint64_t guest_os_id[VTL_MAX_VTLS];
        uint64_t intercepts;
        uint64_t denied; /* EnablePartitionVtl refused by policy */
        /* E: what was asked for and accepted, though nothing here can enforce it */
        uint64_t unenforced;    /* VTL_UNENFORCED_* */
        uint64_t unenforced_cr; /* bits of HvRegisterCrInterceptControl, on any VP */
        /* E: the last crash that the guest reported, HV_X64_MSR_CRASH_P0-P4 */
        uint64_t crash[HV_CRASH_PARAMETERS];
        uint32_t crash_vtl;
        uint32_t crashes;
        /* L: host mappings of guest RAM, and how many they may be (vm.max_map_count) */
        uint64_t mappings;
        uint64_t mappings_max;
        uint64_t protections_refused; /* E: calls that would have needed more */
        uint64_t strict_pages;        /* E: pages that VTL0 is kept from executing */
        uint64_t strict_steps;        /* E: its accesses to them that were let through */
        uint32_t precise_faults;      /* L: measured at start */
        uint32_t can_step; /* L: VTL0 can be made to execute one instruction without interrupts */
        uint32_t stopped;  /* E: the engine gave up on this guest, with a negative errno as its
                             reason */
};
_Static_assert(sizeof(struct vtl_control_header) <= VTL_CONTROL_HEADER_SIZE, "the header page");

static inline size_t vtl_control_size(unsigned vps) {
        return VTL_CONTROL_HEADER_SIZE + (size_t) vps * VTL_CONTROL_VP_SIZE;
}
static inline struct vtl_control_vp *vtl_control_vp(void *base, unsigned vp) {
        return (struct vtl_control_vp *) ((uint8_t *) base + VTL_CONTROL_HEADER_SIZE +
                                          (size_t) vp * VTL_CONTROL_VP_SIZE);
}
