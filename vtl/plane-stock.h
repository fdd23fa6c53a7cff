/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The plane backend for stock KVM: one more VM for the higher plane, in the VMM's own address
 * space, over the same RAM. Plane 0 stays the VMM's VM, with its in-kernel APIC and timers; the
 * higher plane's VM has no irqchip. Each plane has its own view (a second mapping) of the RAM, so
 * that rights and overlay pages are the plane's alone (planes.md 3).
 *
 * All functions are for the VP's own thread, except where they say otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/blob.h"
#include "vtl/control.h"
#include "vtl/mappings.h"
#include "vtl/plane.h"

#define STOCK_REGIONS_MAX 64
#define STOCK_APIC_PAGE 0xfee00000ull

/* A memory slot of the VMM. Without a view (fd < 0) both VMs use the VMM's address. */
struct stock_region {
        uint64_t gpa, size;
        uint32_t slot, flags;
        uint64_t hva;
        int fd;
        uint64_t fd_offset;
        uint8_t *view[PLANE_MAX];
};

struct stock_vcpu {
        int fd;
        struct kvm_run *run;
        bool pending; /* the last exit has something to finish in the next KVM_RUN */
};

struct stock_vp {
        struct stock_vcpu plane[PLANE_MAX];
        struct vtl_control_vp *ctl;
        unsigned long id; /* of KVM_CREATE_VCPU */
        unsigned active;
        struct kvm_xsave *fpu; /* what the inactive plane holds, when @fpu_known */
        struct kvm_xsave *fpu_now;
        bool fpu_known;
        /* What each plane held when it was last looked at: the rarely changing shared registers.
         * Reset: 0 and 1. */
        uint64_t seen_dr[PLANE_MAX][4];
        uint64_t seen_xcr0[PLANE_MAX];
        bool tsc_copied;
        bool synic_on; /* KVM's, for AutoEOI of VTL0 */
        int signal;    /* blocked in the VP's thread, let in by KVM_RUN */
        int kick_fd;   /* write end of the VP's kick pipe */
};

struct plane_stock {
        int kvm_fd;
        int vm_fd[PLANE_MAX];
        struct stock_region regions[STOCK_REGIONS_MAX];
        size_t n_regions;
        struct stock_vp vps[VTL_MAX_VPS];
        unsigned n_vps;
        int overlay_fd;
        size_t run_size;
        bool has_debugregs, has_xcrs;
        bool tdp; /* the guest's own page tables are used by the CPU, not shadowed by KVM */
        /* Host mappings: those of the views, and how many they may be. @other_mappings are what the
         * process had beside them when it was last looked. */
        struct mappings *mappings[PLANE_MAX];
        size_t max_map_count, other_mappings, reserve_mappings;
        struct vtl_control_header *header;
        bool kernel_hypercalls, kernel_synic;
        bool kernel_apic_msrs; /* KVM serves EOI, ICR and TPR of VTL0 itself */
        const char *failed;    /* what the last failing step was */
        /* What of plane 0 comes out for VTL1's sake. Written by one VP's thread while others read
         * it: whole bytes, and a moment's difference is none that a guest could rely on. */
        struct plane_msr_filter msr_filter;
        struct plane_port_filter *_Atomic port_filter; /* NULL: nothing ever did */
        /* The engine's part of a saved partition on its way (vtl/state.h) */
        struct blob *saved;
        const uint8_t *loading;
        size_t loading_left;
};

extern const struct plane_ops plane_stock_ops; /* ctx is a struct plane_stock */

/**
 * plane_stock_start() - make the higher plane and move the memory slots to views
 * @s: with kvm_fd, vm_fd[0], regions, vps[].plane[0], vps[].id and overlay_fd filled in
 * @cpuid: the table for both planes of each VP
 *
 * Return: 0 or a negative errno with s->failed set.
 */
int plane_stock_start(struct plane_stock *s, struct kvm_cpuid2 *const *cpuid);
void plane_stock_stop(struct plane_stock *s);

/* Mappings that this process has, views included; 0 when that cannot be found out. */
size_t plane_stock_process_mappings(void);
/* What the views have, and may have, goes into the header: also after @reserve_mappings is new. */
void plane_stock_publish_mappings(struct plane_stock *s);

/* Which MSRs of a plane make an exit: Hyper-V's, and for plane 0 those of @s->msr_filter. */
int plane_stock_filter_msrs(struct plane_stock *s, unsigned plane);

/* The region whose RAM has views and holds @gpa, or NULL. Callable from any thread. */
const struct stock_region *plane_stock_ram(const struct plane_stock *s, uint64_t gpa);

/**
 * plane_stock_enter() - KVM_RUN of the active plane
 * @immediate: finish what is pending only
 *
 * Return: 0 or a negative errno, as KVM_RUN.
 */
int plane_stock_enter(struct plane_stock *s, struct stock_vp *vp, bool immediate);

/* The switch of the hot path: shared state only, nothing of the control page's registers. */
int plane_stock_switch_fast(struct plane_stock *s, struct stock_vp *vp, unsigned to);

/* Registers of the active plane: to the control page after an exit, from it (what regs_dirty says)
 * before an entry. */
void plane_stock_publish(struct stock_vp *vp);
void plane_stock_flush(struct stock_vp *vp);
