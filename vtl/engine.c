/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One exit of one VP: what it was, who serves it, and what is due before the guest goes on.
 */

#include "util/log.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/clock.h"
#include "vtl/hold.h"
#include "vtl/memory.h"
#include "vtl/probes.h"
#include "vtl/reference-time.h"
#include "vtl/state.h"
#include "vtl/stimer.h"
#include "vtl/strict.h"
#include "vtl/switch.h"
#include "vtl/synic.h"
#include "vtl/tlb.h"
#include "vtl/walk.h"

#define X86_HLT 0xf4 /* the instruction */

/* A VMM may send exits that cannot be served for ever; the journal is not its to fill. */
#define LOG_INTERVAL_MS 10000u
#define LOG_BURST 10u

/* VTL0's MSRs are KVM's, but for Hyper-V's: others come out because VTL1 may intercept them. */
static bool is_kernel_msr(const struct vtl_vp *vp, uint32_t msr) {
        return vp->active_vtl == 0 && (msr < HV_MSR_FIRST || msr > HV_MSR_LAST);
}

static int serve_rdmsr(struct vtl_vp *vp, const struct vtl_exit *e) {
        uint64_t value = 0;
        int r = is_kernel_msr(vp, e->msr) ? vtl_vtl0_msr_read(vp, e->msr, &value)
                                          : vtl_msr_read(vp, vp->active_vtl, e->msr, &value);

        vp->ctl->action.data = value;
        vp->ctl->action.msr_error = r > 0;
        return MIN(r, 0);
}

static int serve_wrmsr(struct vtl_vp *vp, const struct vtl_exit *e) {
        int r = is_kernel_msr(vp, e->msr) ? vtl_vtl0_msr_write(vp, e->msr, e->data)
                                          : vtl_msr_write(vp, vp->active_vtl, e->msr, e->data);

        vp->ctl->action.msr_error = r > 0;
        return MIN(r, 0);
}

static int serve_hypercall(struct vtl_vp *vp, const struct vtl_exit *e) {
        vp->ctl->stats.hypercalls++;
        return vp->partition->config.hypercall(vp);
}

/*
 * Whether VTL1's last instruction was HLT. A KVM that emulates the guest sometimes reports one in
 * the middle of an interrupt handler's entry, and with interrupts off nothing would end it.
 */
static bool after_halt(const struct vtl_vp *vp) {
        struct vtl_memory_view view = { .partition = vp->partition, .vtl = 1 };
        struct walk_space space = vtl_memory_space(&view);
        const struct kvm_sregs *s = &vp->ctl->sregs;
        struct walk_result w;
        uint8_t byte;

        if (walk(&space, s, s->cs.base + vp->ctl->regs.rip - 1, 0, &w) < 0 || w.fault != WALK_OK ||
            vtl_memory_read(vp->partition, 1, w.gpa, &byte, 1, 0) < 0)
                return true;
        return byte == X86_HLT;
}

static int serve_halt(struct vtl_vp *vp, const struct vtl_exit *e) {
        if (vp->active_vtl != 1)
                return -EINVAL;
        if (!vp->partition->config.precise_faults && !e->if_flag && !after_halt(vp))
                return 0;
        vp->halted = true;
        vp->idle = false;
        return 0;
}

static int serve_fault(struct vtl_vp *vp, const struct vtl_exit *e) {
        return vtl_serve_fault(vp);
}

static int serve_kick(struct vtl_vp *vp, const struct vtl_exit *e) {
        int r = vtl_report_stores(vp);

        return r < 0 ? r : vtl_start(vp);
}

static int serve_nothing(struct vtl_vp *vp, const struct vtl_exit *e) {
        return 0;
}

/* Rows by exit kind. @boundary: the vCPU is between two instructions when the exit has been served.
 */
static const struct {
        int (*serve)(struct vtl_vp *vp, const struct vtl_exit *e);
        bool boundary;
} rows[_VTL_EXIT_MAX] = {
        [VTL_EXIT_HYPERCALL] = { serve_hypercall, true },
        [VTL_EXIT_RDMSR] = { serve_rdmsr, false },
        [VTL_EXIT_WRMSR] = { serve_wrmsr, false },
        [VTL_EXIT_FAULT] = { serve_fault, true },
        [VTL_EXIT_MMIO] = { vtl_serve_mmio, false },
        [VTL_EXIT_HALT] = { serve_halt, true },
        [VTL_EXIT_TPR] = { serve_nothing, true },
        [VTL_EXIT_IRQ_WINDOW] = { serve_nothing, true },
        [VTL_EXIT_PORT] = { vtl_serve_port, false },
        [VTL_EXIT_STEP] = { serve_nothing, true }, /* vtl_strict_end() was first */
        [VTL_EXIT_KICK] = { serve_kick, true },
};

static struct hv_vp_assist_page *vtl1_assist(struct vtl_vp *vp) {
        return (struct hv_vp_assist_page *) (void *) vtl_overlay_data(
                vp->partition, vtl_overlay_page(VTL_OVERLAY_ASSIST, vp->index, 1));
}

/* ---- EOI without an exit: ApicAssist of VTL1's assist page (vsm.md 7.6) ---- */

/* Whether the guest has ended the interrupt: it has cleared the bit then, and need not say more. */
static void look_at_lazy_eoi(struct vtl_vp *vp) {
        struct hv_vp_assist_page *assist = vtl1_assist(vp);

        if (vp->lazy_eoi < 0 || (__atomic_load_n(&assist->apic_assist, __ATOMIC_ACQUIRE) &
                                 HV_APIC_ASSIST_NO_EOI_REQUIRED))
                return;
        if (lapic_in_service(&vp->lapic) == vp->lazy_eoi)
                lapic_eoi(&vp->lapic);
        vp->lazy_eoi = -1;
}

static void offer_lazy_eoi(struct vtl_vp *vp, uint8_t vector) {
        if (!(vp->vtl[1].assist_msr & HV_MSR_PAGE_ENABLE) ||
            lapic_in_service(&vp->lapic) != vector || lapic_requested(&vp->lapic))
                return;
        vp->lazy_eoi = vector;
        (void) __atomic_fetch_or(&vtl1_assist(vp)->apic_assist, HV_APIC_ASSIST_NO_EOI_REQUIRED,
                                 __ATOMIC_RELEASE);
}

/* No longer when an EOI has something to do, or has come all the same. The VP is not in the
 * guest. */
static void settle_lazy_eoi(struct vtl_vp *vp) {
        if (vp->lazy_eoi < 0 ||
            (lapic_in_service(&vp->lapic) == vp->lazy_eoi && !lapic_requested(&vp->lapic)))
                return;
        vp->lazy_eoi = -1;
        (void) __atomic_fetch_and(&vtl1_assist(vp)->apic_assist, ~HV_APIC_ASSIST_NO_EOI_REQUIRED,
                                  __ATOMIC_RELEASE);
}

/*
 * 1, 0 or a negative errno. The library looks from time to time, and when it is kicked; what it saw
 * it says. Beside that the engine looks for itself, but not at an interrupt window: that is an exit
 * which VTL1 has not made, one for each of its interrupts.
 */
static int vtl0_could_take_interrupt(struct vtl_vp *vp, const struct vtl_exit *e) {
        if (e->kind == VTL_EXIT_IRQ_WINDOW)
                return 0;
        if (e->kind == VTL_EXIT_KICK && e->plane == 1 && e->data != VTL_LOOK_NOT_TAKEN)
                return e->data == VTL_LOOK_INTERRUPT;
        return vp->partition->config.ops->probe(vp->partition->config.ops_ctx, vp->index);
}

/*
 * VINA: VTL1 runs while VTL0 could take an interrupt (vsm.md 7.3). Raised once, until VTL1 has
 * cleared VinaAsserted or, with AutoReset, until it returns.
 */
static int notify_vtl1(struct vtl_vp *vp, const struct vtl_exit *e) {
        struct hv_vp_vtl_control *control = &vtl1_assist(vp)->vtl_control;
        uint8_t vector = (uint8_t) (vp->vina & HV_VINA_VECTOR_MASK);
        int r;

        if (vp->active_vtl != 1 || !(vp->vina & HV_VINA_ENABLED) || vector < 16 ||
            (control->vina_status & 1))
                return 0;
        r = vtl0_could_take_interrupt(vp, e);
        if (r <= 0)
                return r;
        control->vina_status |= 1;
        VTL_PROBE_VINA(vp->index, vector);
        VTL_TRACE(vp->partition->header, vp->ctl, .kind = VTL_TRACE_VINA, .to = 1,
                  .detail = vector);
        (void) lapic_request(&vp->lapic, vector, vp->vina & HV_VINA_AUTO_EOI);
        return 0;
}

/* In VTL0: an interrupt that VTL1's TPR lets through, or an NMI, preempts, whatever either level's
 * RFLAGS.IF (vsm.md 7.2). */
static int preempt(struct vtl_vp *vp, bool boundary) {
        struct vtl_control_vp *ctl = vp->ctl;

        if (lapic_pending(&vp->lapic) < 0 && !vp->nmi_pending)
                return 0;
        if (!(vp->enabled_vtls & 2u) || ctl->action.kind != VTL_ACTION_RUN)
                return 0;
        if (!boundary) {
                ctl->action.to_boundary = 1;
                return 0;
        }
        return MIN(vtl_enter_vtl1(vp, HV_VTL_ENTRY_INTERRUPT), 0);
}

static void trace_interrupt(struct vtl_vp *vp, unsigned vector) {
        VTL_TRACE(vp->partition->header, vp->ctl, .kind = VTL_TRACE_INTERRUPT, .from = 1, .to = 1,
                  .detail = (uint16_t) vector);
}

static int inject_nmi(struct vtl_vp *vp) {
        struct plane_injection inj = { .kind = PLANE_INJECT_NMI };

        if (!vp->nmi_pending)
                return 0;
        vp->nmi_pending = vp->halted = false;
        trace_interrupt(vp, X86_NMI);
        return vtl_op(vp->partition, inject, 1, &inj);
}

/* Inject when the vCPU is ready for it, else ask for the moment when it is. */
static int inject_interrupt(struct vtl_vp *vp, const struct vtl_exit *e, bool boundary) {
        int vector = lapic_pending(&vp->lapic), r;
        struct plane_injection inj = { .kind = PLANE_INJECT_INTERRUPT,
                                       .vector = (uint32_t) vector };

        if (vector < 0)
                return 0;
        if (boundary && e->plane == 1 && e->ready_for_injection && e->if_flag &&
            e->kind != VTL_EXIT_HYPERCALL) {
                r = vtl_op(vp->partition, inject, 1, &inj);
                if (r < 0)
                        return r;
                lapic_accept(&vp->lapic, (uint8_t) vector);
                trace_interrupt(vp, (unsigned) vector);
                vp->halted = false;
                offer_lazy_eoi(vp, (uint8_t) vector);
        }
        if (lapic_pending(&vp->lapic) >= 0)
                vp->ctl->action.irq_window = 1;
        return 0;
}

/* Before VTL0 goes on: what VTL1 asked for, and what its TLB locks hold up. */
static int resume_vtl0(struct vtl_vp *vp, bool boundary) {
        struct vtl_action *action = &vp->ctl->action;
        int r = 0;

        if (action->kind != VTL_ACTION_RUN || action->to_boundary)
                return 0;
        if (vp->pending_event0[0] & 1) {
                if (!boundary) {
                        action->to_boundary = 1;
                        return 0;
                }
                r = vtl_deliver_event(vp);
        }
        if (vp->flush_waits && action->kind == VTL_ACTION_RUN)
                action->kind = VTL_ACTION_WAIT;
        return r;
}

static int resume_vtl1(struct vtl_vp *vp, const struct vtl_exit *e, bool boundary) {
        int r = boundary ? notify_vtl1(vp, e) : 0;

        if (r == 0)
                r = inject_nmi(vp);
        if (vp->idle && lapic_pending(&vp->lapic) >= 0)
                vp->halted = vp->idle = false;
        if (r == 0)
                r = inject_interrupt(vp, e, boundary);
        settle_lazy_eoi(vp);
        if (vp->halted && vp->ctl->action.kind == VTL_ACTION_RUN)
                vp->ctl->action.kind = VTL_ACTION_WAIT;
        return r;
}

/* What is due before the guest goes on. */
static int deliver(struct vtl_vp *vp, const struct vtl_exit *e, bool boundary) {
        int r = vp->active_vtl == 0 ? preempt(vp, boundary) : 0;

        if (r < 0)
                return r;
        return vp->active_vtl == 0 ? resume_vtl0(vp, boundary) : resume_vtl1(vp, e, boundary);
}

/* What the library may do without asking, and what the bus shows. */
static void publish(struct vtl_vp *vp) {
        struct vtl_control_vp *ctl = vp->ctl;
        bool idle = !lapic_requested(&vp->lapic) && !vp->nmi_pending;

        ctl->enabled_vtls = vp->enabled_vtls;
        ctl->lapic_idle = idle;
        ctl->pending_vtls = lapic_pending(&vp->lapic) >= 0 ? 2u : 0;
        ctl->halted = vp->halted;
        vtl_clock_set(vp, vp->partition->paused ? VTL_CLOCK_NEVER
                                                : MIN(vtl_stimers_next(vp), vp->lapic.timer_due));
        ctl->action.cr8 = lapic_cr8(&vp->lapic);
        ctl->switchable = (vp->enabled_vtls & 2u) && !vp->context_pending && idle &&
                          !vp->tlb_locked && !vp->exact_entry && vp->n_stores == 0 &&
                          !(vp->pending_event0[0] & 1) && !vp->step.active && !vp->halted &&
                          !vp->flush_waits && !vp->partition->config.options.exact_debug_registers;
}

/* What VTL1 did to CR8. While it stays, so does the low half of TPR, which CR8 lacks. */
static void learn_cr8(struct lapic *l, uint8_t cr8) {
        if ((cr8 & 0xf) != lapic_cr8(l))
                lapic_set_cr8(l, cr8);
}

/*
 * INIT and SIPI are acted on inside KVM. Where VTL1 was allowed to deny them, it is at least told
 * to the administrator when VTL0 has begun anew, in real mode, on a VP that has a VTL1.
 */
static void detect_startup(struct vtl_vp *vp, const struct vtl_exit *e) {
        bool protected_mode = vp->ctl->sregs.cr0 & 1;

        if (e->plane != 0 || !(vp->enabled_vtls & 2u))
                return;
        if (!protected_mode && vp->protected_mode_seen &&
            (vp->partition->partition_config & HV_VSM_DENY_LOWER_VTL_STARTUP))
                vtl_event(vp, VTL_EVENT_STARTUP, 0, vp->ctl->sregs.cs.base);
        vp->protected_mode_seen = protected_mode;
}

static int expire_timers(struct vtl_vp *vp) {
        uint64_t now = vtl_reference_time(vp->partition);

        vp->lapic.now = now;
        lapic_timer_expire(&vp->lapic);
        return vtl_stimers_expire(vp, now);
}

static int serve(struct vtl_vp *vp) {
        struct vtl_control_vp *ctl = vp->ctl;
        struct vtl_exit e = ctl->exit;
        bool boundary;
        int r;

        ctl->action = (struct vtl_action){ .kind = VTL_ACTION_RUN };
        ctl->regs_dirty = 0;
        ctl->stats.engine_exits++;
        if (e.kind >= _VTL_EXIT_MAX || !rows[e.kind].serve || e.plane >= VTL_MAX_VTLS ||
            !(vp->enabled_vtls & 1u << e.plane))
                return -EINVAL;
        VTL_PROBE_EXIT(vp->index, e.plane, e.kind);
        vp->active_vtl = e.plane;
        vp->lapic.now = vtl_reference_time(vp->partition);
        vp->started = vp->started || e.kind != VTL_EXIT_KICK;
        if (e.plane == 1)
                learn_cr8(&vp->lapic, e.cr8);
        else if (vp->enabled_vtls & 2u && !vp->context_pending)
                learn_cr8(&vp->lapic, (uint8_t) ctl->vtl1_cr8); /* the hot path left VTL1 with it */

        r = vtl_strict_end(vp, &e);
        if (r < 0 || (e.kind == VTL_EXIT_STEP && e.len != VTL_STEP_DONE))
                return r; /* the exit itself comes next */
        look_at_lazy_eoi(vp);
        detect_startup(vp, &e);
        if (e.kind == VTL_EXIT_KICK)
                vtl_do_work(vp);
        r = rows[e.kind].serve(vp, &e);
        if (r == 0)
                r = expire_timers(vp);
        if (r == 0)
                r = vtl_synic_deliver(vp);
        if (r == 0)
                r = vtl_tlb_flush_pending(vp);
        if (r < 0)
                return r;
        if (ctl->action.kind == VTL_ACTION_TO_VMM || ctl->action.to_boundary)
                return 0;
        /* What is due waits for one instruction. */
        if (ctl->action.step)
                return 0;
        boundary = rows[e.kind].boundary || ctl->exit.kind == VTL_EXIT_KICK;
        r = deliver(vp, &e, boundary);
        /* Another VP waits for this one to be at a boundary. */
        if (vp->work && ctl->action.kind == VTL_ACTION_RUN)
                ctl->action.to_boundary = 1;
        return r;
}

/* A refusal is the answer to who asked, and nothing that stops the guest. */
static int serve_state(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        const struct vtl_exit e = vp->ctl->exit;
        bool stop;
        int r = vtl_state_serve(vp, &e, &stop);

        vp->ctl->regs_dirty = 0;
        for (unsigned i = 0; i < p->n_vps; i++)
                publish(&p->vps[i]);
        vp->ctl->action =
                (struct vtl_action){ .kind = VTL_ACTION_RUN, .data = (uint64_t) -MIN(r, 0) };
        return stop ? r : 0;
}

int vtl_engine_exit(struct vtl_vp *vp) {
        struct vtl_partition *p = vp->partition;
        int r;

        (void) pthread_mutex_lock(&p->lock);
        p->current = vp;
        if (vp->ctl->exit.kind == VTL_EXIT_STATE)
                r = serve_state(vp);
        else {
                r = serve(vp);
                publish(vp);
        }
        if (r < 0) {
                vtl_strict_abandon(vp);
                if (log_ratelimit(&p->log_limit, LOG_INTERVAL_MS, LOG_BURST))
                        log_error("VP %u: the engine cannot serve exit %u: %s", vp->index,
                                  vp->ctl->exit.kind, strerror(-r));
                vp->ctl->action.kind = VTL_ACTION_STOP;
                vp->ctl->action.data = (uint64_t) -r;
                p->header->stopped = (uint32_t) -r;
                vtl_event(vp, VTL_EVENT_STOPPED, 0, (uint64_t) -r);
        }
        p->current = NULL;
        (void) pthread_mutex_unlock(&p->lock);
        return r;
}
