/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * VM planes as a C interface (design: "The plane layer", planes.md section 2): a VM has planes, a
 * VP has one vCPU per plane, at most one plane of a VP runs at a time. The engine calls these
 * operations; who carries them out differs:
 *
 *   direct   the VMM's own thread, KVM ioctls and mmap (plane-stock.c)
 *   remote   the worker asks the VP's thread in the VMM through the VP's control page
 * (plane-remote.c) model    register files and a byte array, no KVM (plane-model.c): unit tests and
 * fuzzers
 *
 * Shared state (GPRs, CR2, FPU) crosses in switch_to(); everything else is private to a plane.
 */

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLANE_MAX 2 /* VTL0 and VTL1 */

/* State classes for get() and set(), with the structure that carries each */
enum plane_class {
        PLANE_REGS,      /* struct kvm_regs */
        PLANE_SREGS,     /* struct kvm_sregs */
        PLANE_EVENTS,    /* struct kvm_vcpu_events */
        PLANE_XSAVE,     /* struct kvm_xsave: 4096 bytes */
        PLANE_DEBUGREGS, /* struct kvm_debugregs */
        PLANE_XCRS,      /* struct kvm_xcrs */
        PLANE_MSRS,      /* struct plane_msr[n], in: index, in/out: value */
        PLANE_MP_STATE,  /* struct kvm_mp_state */
        _PLANE_CLASS_MAX,
};

struct plane_msr {
        uint64_t index;
        uint64_t value;
};

/* Access rights of a run of pages for one plane */
struct plane_range {
        uint64_t gpn;
        uint64_t count;
        uint32_t access; /* HV_MAP_GPA_* */
        uint32_t pad;
};

#define PLANE_OVERLAY_NONE UINT32_MAX
#define PLANE_STATE_PIECE 16384u

/* MSRs and I/O ports of plane 0 whose accesses make an exit that is the engine's: a bit for each */
#define PLANE_MSR_WINDOWS 3
#define PLANE_MSR_WINDOW_SIZE 0x2000u /* MSRs */
#define PLANE_MSR_WINDOW_BASES \
        { 0, 0xc0000000, 0xc0010000 }
struct plane_msr_filter {
        uint8_t read[PLANE_MSR_WINDOWS][PLANE_MSR_WINDOW_SIZE / 8];
        uint8_t write[PLANE_MSR_WINDOWS][PLANE_MSR_WINDOW_SIZE / 8];
};
struct plane_port_filter {
        uint8_t in[65536 / 8];
        uint8_t out[65536 / 8];
};

/* The bit of an MSR in one of the bitmaps of struct plane_msr_filter, -1 for one in no window */
static inline int plane_msr_bit(uint32_t msr) {
        static const uint32_t windows[PLANE_MSR_WINDOWS] = PLANE_MSR_WINDOW_BASES;

        for (int i = 0; i < PLANE_MSR_WINDOWS; i++)
                if (msr - windows[i] < PLANE_MSR_WINDOW_SIZE)
                        return i * (int) PLANE_MSR_WINDOW_SIZE + (int) (msr - windows[i]);
        return -1;
}
static inline bool plane_bit(const uint8_t *bitmap, unsigned bit) {
        return bitmap[bit / 8] >> bit % 8 & 1;
}
static inline void plane_bit_set(uint8_t *bitmap, unsigned bit, bool value) {
        bitmap[bit / 8] =
                (uint8_t) ((bitmap[bit / 8] & ~(1u << bit % 8)) | (unsigned) value << bit % 8);
}

enum plane_switch_flags {
        PLANE_SWITCH_EXACT = 1u << 0, /* carry DR0-3 and XCR0 too */
};

enum plane_inject_kind {
        PLANE_INJECT_INTERRUPT, /* KVM_INTERRUPT: only when the vCPU said it is ready */
        PLANE_INJECT_NMI,
        PLANE_INJECT_EXCEPTION, /* vector, error code; CR2 is set through PLANE_SREGS */
        PLANE_INJECT_MSI, /* to plane 0's in-kernel APIC of any VP: destination, vector, NMI */
};

struct plane_injection {
        uint32_t kind;
        uint32_t vector;
        uint32_t has_error_code;
        uint32_t error_code;
        uint32_t destination; /* PLANE_INJECT_MSI: APIC id */
        uint32_t nmi;         /* PLANE_INJECT_MSI: an NMI instead of the vector */
};

/**
 * struct plane_ops - operations of a plane backend
 *
 * All run on behalf of VP @vp and are called while that VP is not in the guest. They return 0 or a
 * negative errno.
 */
struct plane_ops {
        /* Registers of one plane of the VP. For the active plane REGS and SREGS reflect the last
         * exit. */
        int (*get)(void *ctx, unsigned vp, unsigned plane, enum plane_class cls, void *buf,
                   size_t len);
        int (*set)(void *ctx, unsigned vp, unsigned plane, enum plane_class cls, const void *buf,
                   size_t len);
        /* Brings a plane's vCPU to an instruction boundary (design "Rule of completion"). Changed
         * registers of the active plane are applied first; its registers are then those after the
         * instruction. */
        int (*complete)(void *ctx, unsigned vp, unsigned plane);
        /* Whether plane 0 of the VP could take an interrupt or NMI now: 1 or 0. Nothing is executed
         * in the guest and nothing is lost (planes.md 3). */
        int (*probe)(void *ctx, unsigned vp);
        /* Takes back a load that KVM emulated and that is to be refused: finishes it with zeros,
         * lets nothing of what follows reach a device, and restores the registers as they were at
         * the exit (kvm-findings 1). */
        int (*unwind)(void *ctx, unsigned vp, unsigned plane);
        /* Moves the shared state to @plane and makes it the one that runs next. */
        int (*switch_to)(void *ctx, unsigned vp, unsigned plane, unsigned flags);
        int (*inject)(void *ctx, unsigned vp, unsigned plane, const struct plane_injection *inj);
        /* All the ranges or none of them; each within one memory region. -ENOMEM: the host has no
         * mappings left for it. */
        int (*protect)(void *ctx, unsigned vp, unsigned plane, const struct plane_range *r,
                       size_t n);
        /* Puts page @page of the overlay memory over @gpn for one plane, or takes it off
         * (PLANE_OVERLAY_NONE). @access is what the plane may do with what it then sees there. */
        int (*overlay)(void *ctx, unsigned vp, unsigned plane, uint64_t gpn, uint32_t page,
                       uint32_t access);
        /* Makes no VP's @plane use a translation of guest-virtual addresses from before this call.
         * @gpn is a page that the plane of the calling VP has executed from since it asked for the
         * flush. -EOPNOTSUPP: only the VPs themselves can. */
        int (*flush)(void *ctx, unsigned vp, unsigned plane, uint64_t gpn);
        /* For all VPs. Hyper-V's MSRs come out in any case. */
        int (*filter_msrs)(void *ctx, unsigned vp, const struct plane_msr_filter *f);
        int (*filter_ports)(void *ctx, unsigned vp, const struct plane_port_filter *f);
        /* The next piece of a saved partition, at most PLANE_STATE_PIECE bytes: to whoever asked
         * for it, or from there. -EMSGSIZE: there is not that much. */
        int (*state_put)(void *ctx, unsigned vp, const void *buf, size_t len);
        int (*state_get)(void *ctx, unsigned vp, void *buf, size_t len);
        /* Makes another VP leave the guest and look at what is pending. Callable from any thread.
         */
        int (*kick)(void *ctx, unsigned target_vp);
        /* Optional. Operations on a VP that is not in the guest need its own thread, unless these
         * two are there: between them any thread may make them. */
        void (*borrow)(void *ctx, unsigned vp);
        void (*give_back)(void *ctx, unsigned vp);
};
