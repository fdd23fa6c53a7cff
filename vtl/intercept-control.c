/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What VTL1 wants to be told of, beside memory: MSRs and I/O ports (vsm.md 3.16, 4.16). KVM makes
 * an exit for an MSR that its filter names and for a port that no device in the kernel has. It has
 * none for control registers, descriptor tables and CPUID.
 */

#include <stdlib.h>

#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/intercept.h"
#include "vtl/unenforced.h"

#define MSR_MISC_ENABLE 0x1a0u
#define PORTS 65536u

/* Bits of HvRegisterCrInterceptControl that are MSRs */
static const struct cr_row {
        uint8_t bit;
        bool is_write;
        uint32_t msr;
} cr_rows[] = {
        { HV_CR_INTERCEPT_MISC_ENABLE_READ, false, MSR_MISC_ENABLE },
        { HV_CR_INTERCEPT_MISC_ENABLE_WRITE, true, MSR_MISC_ENABLE },
        { HV_CR_INTERCEPT_LSTAR_READ, false, 0xc0000082 },
        { HV_CR_INTERCEPT_LSTAR_WRITE, true, 0xc0000082 },
        { HV_CR_INTERCEPT_STAR_READ, false, 0xc0000081 },
        { HV_CR_INTERCEPT_STAR_WRITE, true, 0xc0000081 },
        { HV_CR_INTERCEPT_CSTAR_READ, false, 0xc0000083 },
        { HV_CR_INTERCEPT_CSTAR_WRITE, true, 0xc0000083 },
        { HV_CR_INTERCEPT_APIC_BASE_READ, false, 0x1b },
        { HV_CR_INTERCEPT_APIC_BASE_WRITE, true, 0x1b },
        { HV_CR_INTERCEPT_EFER_READ, false, 0xc0000080 },
        { HV_CR_INTERCEPT_EFER_WRITE, true, 0xc0000080 },
        { HV_CR_INTERCEPT_SYSENTER_CS_WRITE, true, 0x174 },
        { HV_CR_INTERCEPT_SYSENTER_EIP_WRITE, true, 0x176 },
        { HV_CR_INTERCEPT_SYSENTER_ESP_WRITE, true, 0x175 },
        { HV_CR_INTERCEPT_SFMASK_WRITE, true, 0xc0000084 },
        { HV_CR_INTERCEPT_TSC_AUX_WRITE, true, 0xc0000103 },
        { HV_CR_INTERCEPT_XSS_WRITE, true, 0xda0 },
};

static uint64_t cr_enforced(void) {
        uint64_t bits = 0;

        for (size_t i = 0; i < ARRAY_SIZE(cr_rows); i++)
                bits |= 1ull << cr_rows[i].bit;
        return bits;
}

/* ---- What comes out of VTL0's vCPUs: the union of what all VPs want ---- */

static void add_msr(struct plane_msr_filter *f, uint32_t msr, bool is_write) {
        plane_bit_set(is_write ? f->write[0] : f->read[0], (unsigned) plane_msr_bit(msr), true);
}

int vtl_intercept_refresh(struct vtl_partition *p) {
        struct vtl_intercepts *in = &p->intercepts;
        _cleanup_free_ struct plane_msr_filter *now = malloc(sizeof(*now));
        int r;

        if (!now)
                return -ENOMEM;
        *now = in->installed_msrs;
        for (unsigned i = 0; i < p->n_vps; i++)
                for (size_t k = 0; k < ARRAY_SIZE(cr_rows); k++)
                        if (p->vps[i].vtl[1].cr_intercept[0] >> cr_rows[k].bit & 1)
                                add_msr(now, cr_rows[k].msr, cr_rows[k].is_write);
        if (memcmp(now, &in->msrs, sizeof(*now)) == 0)
                return 0;
        r = vtl_op(p, filter_msrs, now);
        if (r == 0)
                in->msrs = *now;
        return r;
}

bool vtl_intercept_cr_possible(const struct vtl_partition *p, uint64_t control) {
        uint64_t possible = cr_enforced();

        if (p->config.options.accept_cr_intercepts)
                possible |= unenforced_cr_bits();
        return !(control & ~possible);
}

int vtl_intercept_set_cr(struct vtl_vp *vp, uint64_t control) {
        struct vtl_partition *p = vp->partition;
        uint64_t old = vp->vtl[1].cr_intercept[0];
        int r;

        if (!vtl_intercept_cr_possible(p, control))
                return HV_STATUS_INVALID_REGISTER_VALUE;
        vp->vtl[1].cr_intercept[0] = control;
        r = vtl_intercept_refresh(p);
        if (r < 0) {
                vp->vtl[1].cr_intercept[0] = old;
                return r;
        }
        p->header->unenforced_cr |= control & unenforced_cr_bits();
        return 0;
}

bool vtl_intercept_wants_msr(const struct vtl_vp *vp, uint32_t msr, bool is_write,
                             uint64_t changes) {
        const struct vtl_intercepts *in = &vp->partition->intercepts;
        const uint64_t *cr = vp->vtl[1].cr_intercept;
        int bit = plane_msr_bit(msr);

        if (!(vp->enabled_vtls & 2u))
                return false;
        if (bit >= 0 &&
            plane_bit(is_write ? in->installed_msrs.write[0] : in->installed_msrs.read[0],
                      (unsigned) bit))
                return true;
        for (size_t i = 0; i < ARRAY_SIZE(cr_rows); i++) {
                if (cr_rows[i].msr != msr || cr_rows[i].is_write != is_write ||
                    !(cr[0] >> cr_rows[i].bit & 1))
                        continue;
                if (cr_rows[i].bit == HV_CR_INTERCEPT_MISC_ENABLE_WRITE)
                        return changes & cr[HV_REGISTER_CR_INTERCEPT_MISC_ENABLE_MASK -
                                            HV_REGISTER_CR_INTERCEPT_CONTROL];
                return true;
        }
        return false;
}

/* ---- HvCallInstallIntercept ---- */

static int install_ports(struct vtl_partition *p, unsigned first, unsigned last, uint32_t access) {
        struct plane_port_filter *now = &p->intercepts.ports;
        _cleanup_free_ struct plane_port_filter *old = NULL;
        bool unenforced = false;
        int r;

        if (first > last)
                return HV_STATUS_INVALID_PARAMETER;
        for (unsigned port = first; port <= last; port++)
                unenforced = unenforced || (access && unenforced_port(port));
        if (unenforced && !p->config.options.accept_cr_intercepts)
                return HV_STATUS_INVALID_PARAMETER;
        old = malloc(sizeof(*old));
        if (!old)
                return -ENOMEM;
        *old = *now;
        for (unsigned port = first; port <= last; port++) {
                plane_bit_set(now->in, port, access & HV_INTERCEPT_MASK_READ);
                plane_bit_set(now->out, port, access & HV_INTERCEPT_MASK_WRITE);
        }
        r = vtl_op(p, filter_ports, now);
        if (r < 0)
                *now = *old;
        else if (unenforced)
                p->header->unenforced |= VTL_UNENFORCED_PORT_INTERCEPT;
        return r;
}

static int install_msr(struct vtl_partition *p, uint64_t msr, uint32_t access) {
        struct plane_msr_filter *f = &p->intercepts.installed_msrs;
        int bit = msr >> 32 ? -1 : plane_msr_bit((uint32_t) msr), r;
        bool read, write;

        if (bit < 0 || unenforced_msr((uint32_t) msr))
                return HV_STATUS_INVALID_PARAMETER;
        read = plane_bit(f->read[0], (unsigned) bit);
        write = plane_bit(f->write[0], (unsigned) bit);
        plane_bit_set(f->read[0], (unsigned) bit, access & HV_INTERCEPT_MASK_READ);
        plane_bit_set(f->write[0], (unsigned) bit, access & HV_INTERCEPT_MASK_WRITE);
        r = vtl_intercept_refresh(p);
        if (r < 0) {
                plane_bit_set(f->read[0], (unsigned) bit, read);
                plane_bit_set(f->write[0], (unsigned) bit, write);
        }
        return r;
}

static int install_cpuid(struct vtl_partition *p, uint32_t access) {
        if (!p->config.options.accept_cr_intercepts)
                return HV_STATUS_INVALID_PARAMETER;
        if (access)
                p->header->unenforced |= VTL_UNENFORCED_CPUID_INTERCEPT;
        return 0;
}

int vtl_intercept_install(struct vtl_vp *vp, enum hv_intercept_type type, uint32_t access,
                          uint64_t parameter) {
        struct vtl_partition *p = vp->partition;

        if (type == HV_INTERCEPT_X64_CPUID)
                return access & ~HV_INTERCEPT_MASK_EXECUTE || parameter >> 32
                             ? HV_STATUS_INVALID_PARAMETER
                             : install_cpuid(p, access);
        if (access & ~(HV_INTERCEPT_MASK_READ | HV_INTERCEPT_MASK_WRITE))
                return HV_STATUS_INVALID_PARAMETER;
        switch (type) {
        case HV_INTERCEPT_X64_IO_PORT:
                return parameter >= PORTS
                             ? HV_STATUS_INVALID_PARAMETER
                             : install_ports(p, (unsigned) parameter, (unsigned) parameter, access);
        case HV_INTERCEPT_X64_IO_PORT_RANGE:
                return parameter >> 32 ? HV_STATUS_INVALID_PARAMETER
                                       : install_ports(p, (unsigned) (parameter & 0xffff),
                                                       (unsigned) (parameter >> 16), access);
        case HV_INTERCEPT_X64_MSR_INDEX:
                return install_msr(p, parameter, access);
        default:
                return HV_STATUS_INVALID_PARAMETER;
        }
}
