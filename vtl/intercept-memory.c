/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Accesses that VTL1 forbids: from what KVM says (EFAULT with a RIP, or an emulated access with a
 * GPA) to the message in VTL1's slot (vsm.md section 8).
 */

#include <cpuid.h>

#include "util/log.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/fault.h"
#include "vtl/hold.h"
#include "vtl/intercept.h"
#include "vtl/memory.h"
#include "vtl/segment.h"
#include "vtl/strict.h"

#define EQUAL_FAULTS_MAX 16
#define XSAVE_HEADER_END 576u

/* Tells VTL1 and lets it preempt. Return: whether VTL1 has been told. */
static bool report(struct vtl_vp *vp, const struct fault_access *f) {
        const struct kvm_regs *r = &vp->ctl->regs;
        const struct kvm_sregs *s = &vp->ctl->sregs;
        struct hv_memory_intercept m = {
                .header = vtl_intercept_header(vp, f->access, f),
                .cache_type = HV_CACHE_TYPE_WB,
                .instruction_byte_count = f->insn_byte_count,
                .memory_access_info = f->gva_valid ? HV_MEMORY_ACCESS_GVA_VALID : 0,
                .gva = f->gva,
                .gpa = f->gpa,
                .ds = vtl_segment_from_kvm(&s->ds),
                .ss = vtl_segment_from_kvm(&s->ss),
                .rax = r->rax,
                .rcx = r->rcx,
                .rdx = r->rdx,
                .rbx = r->rbx,
                .rsp = r->rsp,
                .rbp = r->rbp,
                .rsi = r->rsi,
                .rdi = r->rdi,
                .r8_15 = { r->r8, r->r9, r->r10, r->r11, r->r12, r->r13, r->r14, r->r15 },
        };

        memcpy(m.instruction_bytes, f->insn_bytes, sizeof(m.instruction_bytes));
        if (!vtl_intercept_post(vp, HV_MESSAGE_GPA_INTERCEPT, &m, sizeof(m), f->gpa))
                return false;
        vtl_event(vp, VTL_EVENT_INTERCEPT, f->gpa, f->access);
        return true;
}

/* Where the CPU keeps opmask, ZMM_Hi256 and Hi16_ZMM in an XSAVE image: CPUID 0xd.5-7, EBX. */
static void avx512_offsets(uint32_t ret[3]) {
        uint32_t eax, ecx, edx;

        for (unsigned i = 0; i < 3; i++)
                if (!__get_cpuid_count(0xd, 5 + i, &eax, &ret[i], &ecx, &edx))
                        ret[i] = 0;
}

/* Bytes of an XSAVE area with all components that the VP has enabled. */
static int xsave_size(struct vtl_vp *vp, uint32_t *ret) {
        uint32_t size, offset, ecx, edx, end = XSAVE_HEADER_END;
        struct kvm_xcrs x;
        int r;

        *ret = 0;
        r = vtl_op(vp->partition, get, vp->active_vtl, PLANE_XCRS, &x, sizeof(x));
        if (r == -EINVAL)
                return 0; /* a KVM without XCR0 */
        if (r < 0)
                return r;
        for (unsigned i = 2; i < 63 && x.nr_xcrs > 0; i++)
                if ((x.xcrs[0].value >> i & 1) &&
                    __get_cpuid_count(0xd, i, &size, &offset, &ecx, &edx))
                        end = MAX(end, offset + size);
        *ret = end;
        return 0;
}

/* Either what is forbidden, or all pages. */
static int scan(struct fault_cpu *cpu, const struct walk_space *space, struct fault_access *ret,
                struct fault_touched *touched) {
        return touched ? fault_touched(cpu, space, touched) : fault_find(cpu, space, ret);
}

static int find(struct vtl_vp *vp, struct fault_access *ret, struct fault_touched *touched) {
        struct vtl_partition *p = vp->partition;
        struct vtl_memory_view view = { .partition = p, .vtl = vp->active_vtl };
        struct walk_space space = vtl_memory_space(&view);
        struct insn_vectors vectors = { 0 };
        struct kvm_vcpu_events events;
        struct kvm_xsave xsave;
        uint32_t avx512[3];
        struct fault_cpu cpu = { .regs = &vp->ctl->regs,
                                 .sregs = &vp->ctl->sregs,
                                 .events = &events };
        int r;

        r = vtl_op(p, get, vp->active_vtl, PLANE_EVENTS, &events, sizeof(events));
        if (r == 0)
                r = xsave_size(vp, &cpu.xsave_size);
        if (r < 0)
                return r;
        r = scan(&cpu, &space, ret, touched);
        if (r != -ENODATA)
                return r;
        r = vtl_op(p, get, vp->active_vtl, PLANE_XSAVE, &xsave, sizeof(xsave));
        if (r < 0)
                return r;
        avx512_offsets(avx512);
        insn_vectors_from_xsave(&vectors, &xsave, sizeof(xsave), avx512);
        cpu.vectors = &vectors;
        return scan(&cpu, &space, ret, touched);
}

static int find_access(struct vtl_vp *vp, struct fault_access *ret) {
        return find(vp, ret, NULL);
}

/*
 * Nothing is forbidden, but a page may be closed only because it is not to be executed. Looked at
 * while the others are out of the guest, so that it is what the CPU will do.
 * Return: 1 when VTL0 is let through; 0; or a negative errno.
 */
static int let_through(struct vtl_vp *vp) {
        struct fault_touched *touched = &vp->partition->touched;
        struct fault_access f;
        int r;

        if (vp->partition->header->strict_pages == 0)
                return 0;
        r = vtl_hold(vp);
        if (r != 0)
                return MIN(r, 1); /* somebody else steps: again, when it is over */
        r = find(vp, &f, NULL);
        if (r > 0 && !f.nested_walk)
                r = -EAGAIN; /* it is forbidden by now */
        if (r >= 0)
                r = find(vp, NULL, touched);
        if (r >= 0)
                r = vtl_strict_begin(vp, touched);
        if (!vp->step.active)
                vtl_release(vp);
        return r == -EAGAIN ? 1 : r;
}

/* The same fault over and over with nothing to blame: better stop than spin (design section 6). */
static int nothing_found(struct vtl_vp *vp) {
        const struct kvm_regs *regs = &vp->ctl->regs;

        if (regs->rip != vp->last_fault_rip || regs->rcx != vp->last_fault_rcx)
                vp->equal_faults = 0;
        vp->last_fault_rip = regs->rip;
        vp->last_fault_rcx = regs->rcx;
        if (++vp->equal_faults < EQUAL_FAULTS_MAX)
                return 0;
        log_error("VP %u: %u equal memory faults at RIP %#llx in VTL%u, no access is forbidden",
                  vp->index, vp->equal_faults, (unsigned long long) regs->rip, vp->active_vtl);
        return -ENOTRECOVERABLE;
}

int vtl_serve_fault(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        struct fault_access f = { 0 };
        int r;

        r = find_access(vp, &f);
        if (r < 0)
                return r;
        if (vp->active_vtl == 0 && (r == 0 || f.nested_walk)) {
                int stepped = let_through(vp);

                if (stepped < 0)
                        return stepped;
                if (stepped > 0)
                        return vp->step.active ? nothing_found(vp) : 0;
        }
        if (r == 0)
                return nothing_found(vp);
        vp->equal_faults = 0;
        /* A store to the hypercall or TSC page is the guest's own mistake, in either VTL. */
        if (vp->active_vtl == 1 || vtl_overlay_find(p, 0, f.gpa >> HV_PAGE_SHIFT))
                return vtl_inject_gp(vp);
        (void) report(vp, &f);
        return 0;
}

static unsigned need(const struct vtl_exit *e) {
        return e->is_write ? HV_MAP_GPA_WRITABLE : HV_MAP_GPA_READABLE;
}

/* VTL1's APIC page: 32-bit registers at 16-byte steps */
static int serve_apic(struct vtl_vp *vp, const struct vtl_exit *e) {
        struct lapic_ipi ipi = { 0 };
        uint32_t value = 0;

        if (e->is_write) {
                if (e->len == 4 &&
                    lapic_mmio_write(&vp->lapic, e->gpa & 0xfff, (uint32_t) e->data, &ipi))
                        vtl_send_ipi(vp, &ipi);
                return 0;
        }
        (void) lapic_mmio_read(&vp->lapic, e->gpa & 0xff0, &value);
        vp->ctl->action.data = value >> (8 * (e->gpa & 3));
        return 0;
}

int vtl_serve_mmio(struct vtl_vp *vp, const struct vtl_exit *e) {
        struct vtl_partition *p = vp->partition;
        struct fault_access f = {
                .gpa = e->gpa,
                .access = e->is_write ? HV_INTERCEPT_ACCESS_WRITE : HV_INTERCEPT_ACCESS_READ,
        };
        struct fault_access found;
        uint64_t data = e->data;
        int r;

        if (e->len == 0 || e->len > 8 || e->plane != vp->active_vtl)
                return -EINVAL;
        if (e->plane == 1 && e->gpa >> HV_PAGE_SHIFT == vp->lapic.base_msr >> HV_PAGE_SHIFT &&
            (vp->lapic.base_msr & (LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC)) == LAPIC_BASE_ENABLE)
                return serve_apic(vp, e);
        if (!vtl_memory_is_ram(p, e->gpa >> HV_PAGE_SHIFT)) {
                vp->ctl->action.kind = VTL_ACTION_TO_VMM;
                return 0;
        }

        if (e->is_write) {
                /* VTL0's stores stay in order: one that is held back holds back those after it. */
                r = vp->n_stores > 0 && e->plane == 0
                          ? -EACCES
                          : vtl_memory_write(p, e->plane, e->gpa, &data, e->len, need(e));
                if (r == 0)
                        return 0;
                if (r == -EFAULT)
                        return r;
                if (vtl_overlay_find(p, e->plane, e->gpa >> HV_PAGE_SHIFT) || e->plane == 1)
                        return vtl_inject_gp(vp);
                /* RIP is past the instruction. Finish it, then tell VTL1; carry the store out if
                 * VTL1 allows it. */
                if (vp->n_stores == VTL_PENDING_STORES)
                        return -E2BIG;
                vp->stores[vp->n_stores++] =
                        (struct vtl_pending_store){ .gpa = e->gpa, .data = e->data, .len = e->len };
                vp->ctl->action.to_boundary = 1;
                return 0;
        }

        data = 0;
        r = vtl_memory_read(p, e->plane, e->gpa, &data, e->len, need(e));
        if (r == 0) {
                vp->ctl->action.data = data;
                return 0;
        }
        if (r != -EACCES)
                return r;
        /* RIP is at the instruction: take it back, nothing of the page may show. */
        r = vtl_op(p, unwind, e->plane);
        if (r < 0)
                return r;
        vp->ctl->exit.kind = VTL_EXIT_KICK; /* the vCPU is at an instruction boundary now */
        /* The instruction tells what the exit does not: its length, its bytes, the linear address.
         */
        r = find_access(vp, &found);
        if (r < 0)
                return r;
        (void) report(vp, r > 0 && found.access == HV_INTERCEPT_ACCESS_READ ? &found : &f);
        return 0;
}

int vtl_report_stores(struct vtl_vp *vp) {
        struct fault_access f = { .access = HV_INTERCEPT_ACCESS_WRITE };

        if (vp->n_stores == 0 || vp->store_reported)
                return 0;
        f.gpa = vp->stores[0].gpa;
        if (report(vp, &f) && lapic_pending(&vp->lapic) >= 0)
                vp->store_reported = true;
        else
                vtl_commit_stores(vp); /* VTL1 does not come now: what is forbidden is dropped */
        return 0;
}

void vtl_commit_stores(struct vtl_vp *vp) {
        for (unsigned i = 0; i < vp->n_stores; i++) {
                const struct vtl_pending_store *s = &vp->stores[i];

                /* Still forbidden: dropped. */
                (void) vtl_memory_write(vp->partition, 0, s->gpa, &s->data, s->len,
                                        HV_MAP_GPA_WRITABLE);
        }
        vp->n_stores = 0;
        vp->store_reported = false;
}
