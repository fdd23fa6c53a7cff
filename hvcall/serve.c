/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "hvcall/hvcall.h"
#include "hvcall/serve.h"
#include "util/util.h"
#include "vtl/cpuid.h"
#include "vtl/engine.h"
#include "vtl/hvpage.h"
#include "vtl/measure.h"
#include "vtl/memory.h"
#include "vtl/probes.h"
#include "vtl/switch.h"
#include "vtl/xmm.h"

#define CR0_PE 1u
#define RFLAGS_VM (1u << 17)

struct call {
        struct vtl_vp *vp;
        struct kvm_xsave fpu; /* once its input was read from there */
};

static struct vtl_vp *vp_of(void *userdata) {
        return ((struct call *) userdata)->vp;
}

/* Parameters must lie in RAM, not on an overlay page, with the caller's rights; else the input is
 * invalid. */
static int memory_status(const struct vtl_vp *vp, uint64_t gpa, int r) {
        if (r == -EFAULT || r == -EACCES ||
            vtl_overlay_find(vp->partition, vp->active_vtl, gpa >> HV_PAGE_SHIFT))
                return HV_STATUS_INVALID_HYPERCALL_INPUT;
        return r;
}

static int io_read(void *userdata, uint64_t gpa, void *buf, uint32_t len) {
        const struct vtl_vp *vp = vp_of(userdata);

        return memory_status(
                vp, gpa,
                vtl_memory_read(vp->partition, vp->active_vtl, gpa, buf, len, HV_MAP_GPA_READABLE));
}

static int io_write(void *userdata, uint64_t gpa, const void *buf, uint32_t len) {
        const struct vtl_vp *vp = vp_of(userdata);

        return memory_status(vp, gpa,
                             vtl_memory_write(vp->partition, vp->active_vtl, gpa, buf, len,
                                              HV_MAP_GPA_WRITABLE));
}

static int io_probe_write(void *userdata, uint64_t gpa, uint32_t len) {
        const struct vtl_vp *vp = vp_of(userdata);

        return memory_status(
                vp, gpa,
                vtl_memory_probe(vp->partition, vp->active_vtl, gpa, len, HV_MAP_GPA_WRITABLE));
}

static int io_get_xmm(void *userdata, uint8_t xmm[HV_XMM_PAIRS][16]) {
        struct call *c = userdata;
        int r = vtl_fpu_get(c->vp, &c->fpu);

        if (r == 0)
                vtl_fpu_xmm(&c->fpu, 0, HV_XMM_PAIRS, xmm);
        return r;
}

/* No call with outputs writes FPU registers, so what was read with the input still holds. */
static int io_set_xmm(void *userdata, const uint8_t xmm[HV_XMM_PAIRS][16]) {
        struct call *c = userdata;

        return vtl_fpu_put_xmm(c->vp, &c->fpu, 0, HV_XMM_PAIRS, xmm);
}

/* Somebody waits for this VP: let interrupts in between two elements (vsm.md 2.7). */
static bool io_should_yield(void *userdata) {
        const struct vtl_vp *vp = vp_of(userdata);

        return atomic_load(&vp->ctl->kicked) != 0;
}

static int io_vtl_switch(void *userdata, bool is_return, uint64_t input) {
        int r = vtl_guest_switch(vp_of(userdata), is_return, input);

        if (r == VTL_ENTRY_AGAIN)
                return HV_DISPATCH_RETRY;
        return r < 0 ? r : r > 0 ? HV_DISPATCH_UD : HV_DISPATCH_SWITCHED;
}

/* The registers that a hypercall may write, as the engine's 64-bit values. */
struct call_registers {
        uint64_t rax, rbx, rcx, rdx, rsi, rdi, r8;
};

static struct call_registers load_registers(const struct kvm_regs *r) {
        return (struct call_registers){ r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->r8 };
}

/* Only what the call's ABI changed: registers that a call wrote by name are in the control page
 * already. */
static void store_registers(struct kvm_regs *r, const struct call_registers *before,
                            const struct call_registers *after) {
        if (after->rax != before->rax)
                r->rax = after->rax;
        if (after->rcx != before->rcx)
                r->rcx = after->rcx;
        if (after->rdx != before->rdx)
                r->rdx = after->rdx;
        if (after->r8 != before->r8)
                r->r8 = after->r8;
}

/* A switch has a record of its own. */
static void trace_call(struct vtl_vp *vp, unsigned vtl, uint64_t control, enum hv_dispatch_result d,
                       uint64_t result) {
        if (d == HV_DISPATCH_SWITCHED)
                return;
        VTL_TRACE(vp->partition->header, vp->ctl, .kind = VTL_TRACE_HYPERCALL,
                  .from = (uint8_t) vtl, .to = (uint8_t) vtl, .detail = (uint16_t) d,
                  .data = control, .extra = d == HV_DISPATCH_DONE ? result : 0);
}

int hvcall_serve(struct vtl_vp *vp) {
        struct vtl_control_vp *ctl = vp->ctl;
        const struct kvm_sregs *s = &ctl->sregs;
        struct call_registers before = load_registers(&ctl->regs), r = before;
        struct call c; /* an initializer would clear all of its FPU */
        struct hv_io io = {
                .long_mode = vtl_long_mode(s),
                .protected_mode = (s->cr0 & CR0_PE) && !(ctl->regs.rflags & RFLAGS_VM),
                .cpl = (uint8_t) vtl_cpl(s),
                .privileges = VTL_PRIVILEGES,
                .xmm_input = true,
                .xmm_output = true,
                .rax = &r.rax,
                .rbx = &r.rbx,
                .rcx = &r.rcx,
                .rdx = &r.rdx,
                .rsi = &r.rsi,
                .rdi = &r.rdi,
                .r8 = &r.r8,
                .read = io_read,
                .write = io_write,
                .probe_write = io_probe_write,
                .get_xmm = io_get_xmm,
                .set_xmm = io_set_xmm,
                .should_yield = io_should_yield,
                .vtl_switch = io_vtl_switch,
                .userdata = &c,
        };
        int offset = hvpage_out_offset(ctl->exit.port, ctl->regs.rip), d;
        unsigned vtl = vp->active_vtl;
        uint64_t control = io.long_mode ? r.rcx : r.rdx << 32 | (uint32_t) r.rax;

        if (offset < 0)
                return -EINVAL; /* the library sends only what comes from an entry of the page */
        c.vp = vp;
        VTL_PROBE_HYPERCALL(vp->index, vtl, control, ctl->regs.rip);
        d = hv_dispatch(hv_calls, hv_calls_n, &io, vp);
        VTL_PROBE_HYPERCALL_DONE(vp->index, vtl, control, d, r.rax);
        if (d < 0)
                return d;
        trace_call(vp, vtl, control, (enum hv_dispatch_result) d, r.rax);
        switch (d) {
        case HV_DISPATCH_DONE:
                ctl->regs.rax = r.rax; /* the result, also when it is what RAX held before */
                __attribute__((fallthrough));
        case HV_DISPATCH_RETRY:
                store_registers(&ctl->regs, &before, &r);
                ctl->regs_dirty |= KVM_SYNC_X86_REGS;
                return d == HV_DISPATCH_RETRY ? vtl_rewind_out(vp, (unsigned) offset) : 0;
        case HV_DISPATCH_UD:
                return vtl_inject_ud(vp, (unsigned) offset);
        default:
                return 0;
        }
}
