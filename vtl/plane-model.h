/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The plane backend without KVM: register files, RAM in a byte array, and views whose rights and
 * overlay pages are tracked page by page. It keeps the contract of plane.h the way KVM does (what
 * KVM refuses is refused here), records what it was asked for, and fails on demand. For unit tests
 * and fuzzers, which play the guest and the VMM.
 *
 * Nothing here is for use at the same time from two threads, but kick().
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/blob.h"
#include "vtl/control.h"
#include "vtl/plane.h"

#define MODEL_MSRS 17
#define MODEL_INJECTIONS 16
#define MODEL_REGIONS_MAX 4

/* struct kvm_xsave without its open end */
struct model_xsave {
        uint32_t region[1024];
};
_Static_assert(sizeof(struct model_xsave) == sizeof(struct kvm_xsave), "as KVM_GET_XSAVE has it");

/* One plane of a VP. The control page holds the active one's general and system registers while an
 * exit is served. */
struct model_vcpu {
        struct kvm_regs regs;
        struct kvm_sregs sregs;
        struct kvm_vcpu_events events;
        struct model_xsave xsave;
        struct kvm_debugregs debugregs;
        struct kvm_xcrs xcrs;
        struct kvm_mp_state mp_state;
        struct plane_msr msrs[MODEL_MSRS];
        uint8_t cr8; /* kvm_run.cr8 of a plane without in-kernel APIC */

        /* The last exit's instruction, while the next entry still has to finish it. */
        bool pending;
        struct vtl_exit exit;
        uint64_t exit_rip;
        unsigned exit_length; /* added to a RIP that is still @exit_rip */
        unsigned exits_left;  /* further exits that this instruction makes */
};

struct model_vp {
        struct model_vcpu plane[PLANE_MAX];
        unsigned active;
        struct vtl_control_vp *ctl;
        _Atomic unsigned kicks;
        bool can_interrupt; /* what probe() says of plane 0 */

        /* What was injected, oldest first; those beyond the array are only counted. */
        struct {
                unsigned plane;
                struct plane_injection what;
        } injections[MODEL_INJECTIONS];
        unsigned n_injections;
};

#define MODEL_NO_OVERLAY PLANE_OVERLAY_NONE

struct model_page {
        uint32_t overlay; /* page of the overlay memory, or MODEL_NO_OVERLAY */
        uint8_t access;   /* HV_MAP_GPA_READABLE and _WRITABLE, as mprotect() knows them */
};

struct model_region {
        uint64_t gpa, size;
        uint8_t *base;
        struct model_page *view[PLANE_MAX];
};

enum model_op {
        MODEL_GET,
        MODEL_SET,
        MODEL_COMPLETE,
        MODEL_UNWIND,
        MODEL_PROBE,
        MODEL_SWITCH,
        MODEL_INJECT,
        MODEL_PROTECT,
        MODEL_OVERLAY,
        MODEL_FLUSH,
        MODEL_FILTER,
        MODEL_STATE,
        MODEL_KICK,
        _MODEL_OP_MAX,
};

struct plane_model {
        struct model_region regions[MODEL_REGIONS_MAX];
        size_t n_regions;
        struct model_vp *vps;
        unsigned n_vps;
        uint8_t *overlay; /* the overlay memory */
        unsigned phys_bits;
        struct plane_msr_filter msr_filter;
        struct plane_port_filter port_filter;
        bool no_flush;          /* flush() is not supported */
        size_t mappings_max;    /* mappings a view may have, 0: no limit */
        struct blob *saved;     /* what is saved goes there */
        const uint8_t *loading; /* what is loaded comes from there */
        size_t loading_left;

        /* What happened. */
        unsigned ops[_MODEL_OP_MAX];
        unsigned protected_overlays; /* times that protect() hit an overlay: a caller's mistake */
        uint64_t protected_ranges;

        /* Failing on demand: operation number @fail_at from now on (1 is the next one) answers
         * @fail_with. */
        unsigned fail_at;
        int fail_with;
        bool failed;
};

extern const struct plane_ops plane_model_ops; /* ctx is a struct plane_model */

/* A region of RAM. @base is the caller's memory. */
struct model_ram {
        uint64_t gpa, size;
        uint8_t *base;
};

/**
 * plane_model_new() - make planes for a guest
 * @ret: the model, to be given to plane_model_free()
 * @vps: how many
 * @ram: the guest's RAM
 * @n: how many regions of it
 * @control: control memory, vtl_control_size(vps) bytes
 * @overlay: overlay memory, vtl_overlay_pages(vps) pages
 *
 * All vCPUs are as KVM creates them, plane 0 is active on every VP.
 *
 * Return: 0, -EINVAL or -ENOMEM.
 */
int plane_model_new(struct plane_model **ret, unsigned vps, const struct model_ram *ram, size_t n,
                    void *control, uint8_t *overlay);
struct plane_model *plane_model_free(struct plane_model *m);

/**
 * plane_model_exit() - the active plane leaves the guest
 * @e: kind and what belongs to it; the plane is filled in
 * @length: bytes that the next entry adds to RIP to finish the instruction; 0 when KVM reports RIP
 * behind it
 *
 * Registers and exit are in the control page then, as the library puts them there.
 */
void plane_model_exit(struct plane_model *m, unsigned vp, const struct vtl_exit *e,
                      unsigned length);

/**
 * plane_model_enter() - the active plane enters the guest after the engine has served the exit
 *
 * Applies changed registers, finishes what is pending with the data in ctl->action, and takes what
 * was injected.
 */
void plane_model_enter(struct plane_model *m, unsigned vp);

/* The active plane's vCPU. */
static inline struct model_vcpu *plane_model_active(struct plane_model *m, unsigned vp) {
        return &m->vps[vp].plane[m->vps[vp].active];
}

/* What a plane may do with a page through its view: HV_MAP_GPA_READABLE, _WRITABLE; 0 for what is
 * not RAM. */
unsigned plane_model_rights(const struct plane_model *m, unsigned plane, uint64_t gpn);

/* The guest reads or writes through its view. Return: 0, or -EFAULT with nothing done where the CPU
 * would fault. */
int plane_model_read(const struct plane_model *m, unsigned plane, uint64_t gpa, void *buf,
                     size_t len);
int plane_model_write(const struct plane_model *m, unsigned plane, uint64_t gpa, const void *buf,
                      size_t len);

/* Mappings that a plane's view consists of: runs of pages with equal rights and neighbouring
 * memory. */
size_t plane_model_mappings(const struct plane_model *m, unsigned plane);

/* A plane's MSR, or NULL for one the model does not have. */
struct plane_msr *plane_model_msr(struct model_vcpu *c, uint64_t index);
