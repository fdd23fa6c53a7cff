/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * In place of ioctl(KVM_RUN): runs the active plane, does the hot path itself, takes what is the
 * engine's to the engine, and shows the VMM only what is the VMM's.
 */

#define _GNU_SOURCE
#include <sys/ioctl.h>

#include "util/util.h"
#include "vmm/run.h"
#include "vtl/hvpage.h"
#include "vtl/probes.h"
#include "vtl/switch.h"

#define HALT_POLL_MS 10
#define VINA_HALT_POLL_NS 1000000L /* as vtlvmm.vina_poll_us, while VTL1 has halted */

/* ---- Steps ---- */

/*
 * A KVM that emulates the guest looks for the interrupt window only at other exits, and misses one
 * of a few instructions. There VTL1 is stepped until it can take what waits for it.
 */
static int step_to_window(struct vtlvmm_vcpu *c, bool on) {
        struct kvm_guest_debug d = {
                .control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0,
        };

        if (c->stepping == on)
                return 0;
        if (ioctl(c->vp->plane[1].fd, KVM_SET_GUEST_DEBUG, &d) < 0)
                return -errno;
        c->stepping = on;
        return 0;
}

bool vtlvmm_can_step(int vm_fd) {
        int flags = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2);

        return flags > 0 && (flags & KVM_GUESTDBG_BLOCKIRQ);
}

/*
 * The entry by which the engine lets VTL0 through to pages that are closed otherwise
 * (vtl/strict.h). Registers first: KVM sets RFLAGS.TF for the RIP that it knows when it is asked.
 */
static int step_vtl0(struct vtlvmm_vcpu *c, bool on) {
        struct kvm_guest_debug d = { 0 };

        if (on)
                d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_BLOCKIRQ |
                            (c->step == VTL_STEP_ONE ? KVM_GUESTDBG_SINGLESTEP : 0);
        c->vp->ctl->stats.vcpu_ioctls++;
        return ioctl(c->vp->plane[0].fd, KVM_SET_GUEST_DEBUG, &d) < 0 ? -errno : 0;
}

/* ---- The hot path: VTL call and return without the engine (design section 5) ---- */

/* Return: 1 done, 0 for the engine to do, or a negative errno. */
static int hot_switch(struct vtlvmm_vcpu *c, unsigned port) {
        struct stock_vp *vp = c->vp;
        struct vtl_control_vp *ctl = vp->ctl;
        bool is_return = port == HVPAGE_PORT_VTL_RETURN, long_mode;
        struct kvm_run *run = vp->plane[vp->active].run;
        struct hv_vp_assist_page *assist;
        enum vtl_switch_reason why;
        struct kvm_regs *regs;
        uint64_t input, vina;
        int r;

        if (port == HVPAGE_PORT_HYPERCALL || !ctl->switchable ||
            vp->active != (is_return ? 1u : 0u) ||
            !vtl_switch_legal(&run->s.regs.regs, &run->s.regs.sregs, is_return, &input))
                return 0;
        long_mode = vtl_long_mode(&run->s.regs.sregs);
        if (is_return)
                ctl->vtl1_cr8 = run->cr8 & 0xf;
        r = plane_stock_switch_fast(&c->vtlvmm->planes, vp, is_return ? 0 : 1);
        if (r < 0)
                return r;
        assist = (void *) (c->vtlvmm->overlay +
                           (size_t) vtl_overlay_page(VTL_OVERLAY_ASSIST, c->index, 1) * 4096);
        regs = &vp->plane[vp->active].run->s.regs.regs;
        vina = ctl->vina;
        if (is_return) {
                vtl_assist_leave(assist, input & VTL_RETURN_FAST, long_mode, regs, vina);
                ctl->suspended_vtls &= ~1u;
                ctl->stats.vtl_returns++;
        } else {
                vtl_assist_enter(assist, HV_VTL_ENTRY_VTL_CALL, regs, vina);
                ctl->stats.vtl_calls++;
        }
        ctl->stats.fast_switches++;
        why = !is_return              ? VTL_SWITCH_CALL
            : input & VTL_RETURN_FAST ? VTL_SWITCH_FAST_RETURN
                                      : VTL_SWITCH_RETURN;
        VTL_PROBE_SWITCH(c->index, is_return, !is_return, why, 1);
        VTL_TRACE(c->vtlvmm->planes.header, ctl, .kind = VTL_TRACE_SWITCH, .from = is_return,
                  .to = !is_return, .detail = (uint16_t) (why | VTL_TRACE_HOT),
                  .data = run->s.regs.regs.rip, .extra = regs->rip);
        return 1;
}

/* ---- The engine's part ---- */

static int apply_action(struct vtlvmm_vcpu *c, const struct vtl_exit *e) {
        struct stock_vp *vp = c->vp;
        struct vtl_control_vp *ctl = vp->ctl;
        const struct vtl_action a = ctl->action; /* the engine's process may change its copy */
        struct kvm_run *exited = vp->plane[e->plane].run;

        plane_stock_flush(vp);
        if (e->kind == VTL_EXIT_RDMSR || e->kind == VTL_EXIT_WRMSR) {
                exited->msr.error = a.msr_error != 0;
                exited->msr.data = a.data;
        } else if (e->kind == VTL_EXIT_MMIO && !e->is_write)
                memcpy(exited->mmio.data, &a.data, sizeof(exited->mmio.data));
        if (vp->active == 1)
                vp->plane[1].run->cr8 = c->cr8 = a.cr8 & 0xf;
        c->irq_window = a.irq_window != 0;
        c->to_boundary = a.to_boundary != 0;
        c->step = vp->active == 0 && a.kind == VTL_ACTION_RUN ? a.step : VTL_STEP_NONE;
        return (int) a.kind;
}

static int to_engine(struct vtlvmm_vcpu *c, const struct vtl_exit *e) {
        struct vtl_control_vp *ctl = c->vp->ctl;

        plane_stock_publish(c->vp);
        ctl->exit = *e;
        return c->vtlvmm->serve(c);
}

/*
 * The active level has halted. With VINA an interrupt for VTL0 wakes VTL1. Return: what a look has
 * seen, an enum vtl_look, or a negative errno.
 */
static int wait_for_kick(struct vtlvmm_vcpu *c) {
        bool vina = vtlvmm_vina_wanted(c);
        int r, seen = VTL_LOOK_NOT_TAKEN;

        while (seen != VTL_LOOK_INTERRUPT && !atomic_load(&c->vp->ctl->kicked)) {
                r = vtlvmm_gate_poll(c, vina ? VINA_HALT_POLL_NS : HALT_POLL_MS * 1000000L);
                if (r == 0 && vina)
                        r = seen = vtlvmm_vina_look(c);
                if (r < 0)
                        return r;
        }
        return seen;
}

static int stop(struct vtlvmm_vcpu *c) {
        int e = (int) (c->vp->ctl->action.data & 0xfff);

        return vtlvmm_fail(c->vtlvmm, -EIO, "the VTL engine cannot go on with this guest: %s",
                           strerror(e));
}

/* The exit of a VP that waited: of the plane that is active now, which need not be the one whose
 * exit made it wait. */
static struct vtl_exit woken(struct vtlvmm_vcpu *c, enum vtl_look seen) {
        const struct kvm_run *run = c->vp->plane[c->vp->active].run;

        return (struct vtl_exit){ .kind = VTL_EXIT_KICK,
                                  .plane = c->vp->active,
                                  .data = seen,
                                  .if_flag = run->if_flag,
                                  .ready_for_injection = run->ready_for_interrupt_injection,
                                  .cr8 = (uint8_t) run->cr8 };
}

/*
 * Serves one exit that is the engine's. Return: 1 to go on running, 0 when the exit is the VMM's
 * after all, or a negative errno for the VMM.
 */
static int serve_exit(struct vtlvmm_vcpu *c, struct vtl_exit *e) {
        for (;;) {
                int r = to_engine(c, e);

                c->ticking = false; /* a probe may have taken the timer's signal */
                if (e->plane == 0 || c->vp->active == 0)
                        vtlvmm_vina_begin(c);
                if (r < 0)
                        return r;
                switch (apply_action(c, e)) {
                case VTL_ACTION_RUN:
                        return 1;
                case VTL_ACTION_TO_VMM:
                        return 0;
                case VTL_ACTION_SHUTDOWN:
                        c->vp->plane[0].run->exit_reason = KVM_EXIT_SHUTDOWN;
                        return -ECANCELED;
                case VTL_ACTION_RESET:
                        c->vp->plane[0].run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
                        c->vp->plane[0].run->system_event.type = KVM_SYSTEM_EVENT_RESET;
                        c->vp->plane[0].run->system_event.ndata = 0;
                        return -ECANCELED;
                case VTL_ACTION_WAIT:
                        c->waiting = true;
                        r = wait_for_kick(c);
                        if (r < 0)
                                return r;
                        c->waiting = false;
                        vtlvmm_thread_drain_kicks(c);
                        atomic_store(&c->vp->ctl->kicked, 0);
                        *e = woken(c, (enum vtl_look) r);
                        break;
                default:
                        return stop(c);
                }
        }
}

/* The VMM had its signal while the VP waited, and is back: go on waiting. */
static int resume_wait(struct vtlvmm_vcpu *c, struct vtl_exit *e) {
        c->waiting = false;
        *e = woken(c, VTL_LOOK_NOT_TAKEN);
        return serve_exit(c, e);
}

/* KVM_RUN was interrupted at an instruction boundary. Return: as serve_exit(). */
static int serve_interruption(struct vtlvmm_vcpu *c, struct vtl_exit *e) {
        bool boundary = c->to_boundary, ticked = c->ticking, kicked;
        int r;

        vtlvmm_thread_drain_kicks(c);
        kicked = atomic_exchange(&c->vp->ctl->kicked, 0);
        c->to_boundary = false;
        if (ticked && c->vp->active == 0)
                vtlvmm_vina_begin(c); /* the timer was VTL1's, which has left since */
        if (vtlvmm_vina_wanted(c)) {
                r = vtlvmm_vina_look(c);
                if (r < 0)
                        return r;
                e->data = (uint64_t) r;
                kicked = kicked || r == VTL_LOOK_INTERRUPT;
        }
        if (!boundary && !kicked)
                return -EINTR;
        e->kind = VTL_EXIT_KICK;
        r = serve_exit(c, e);
        /* A signal of the VMM's may have come at the same time: one return too many is harmless. */
        return r == 1 ? -EINTR : r;
}

/*
 * The engine hears first of how a step ended, whatever the exit is: it closes the pages then and
 * lets the other VPs go. Return: 1 when that was all, 0 when the exit is still to be served, or a
 * negative errno.
 */
static int end_step(struct vtlvmm_vcpu *c, int exit) {
        const struct kvm_run *run = c->vp->plane[0].run;
        struct vtl_exit e = woken(c, VTL_LOOK_NOT_TAKEN);
        int r;

        c->step = VTL_STEP_NONE;
        r = step_vtl0(c, false);
        if (r < 0)
                return r;
        if (exit == -EFAULT)
                return 0; /* the engine's anyway */
        e.kind = VTL_EXIT_STEP;
        e.len = VTL_STEP_OTHERWISE;
        if (exit == 0 && run->exit_reason == KVM_EXIT_DEBUG) {
                e.len = VTL_STEP_DONE;
                e.data = run->debug.arch.dr6;
        } else if (exit == 0 &&
                   (run->exit_reason == KVM_EXIT_MMIO || run->exit_reason == KVM_EXIT_IO))
                e.len = VTL_STEP_UNDERWAY;
        r = serve_exit(c, &e);
        return r == 1 ? e.len == VTL_STEP_DONE : r == 0 ? -EPROTO : r;
}

static int run(struct vtlvmm_vcpu *c) {
        struct vtlvmm *v = c->vtlvmm;
        struct stock_vp *vp = c->vp;
        struct vtl_exit e;
        bool stepped;
        int r;

        if (c->shown)
                vtlvmm_exit_take_answer(c);
        if (c->waiting) {
                r = resume_wait(c, &e);
                if (r < 0)
                        return r == -ECANCELED ? 0 : r;
        }
        for (;;) {
                struct kvm_run *now = vp->plane[vp->active].run;

                if (atomic_load_explicit(&v->dead, memory_order_relaxed))
                        return vtlvmm_fail(
                                v, -EOWNERDEAD,
                                "the process that serves this guest's trust levels is gone");
                if (vp->active == 1) {
                        now->immediate_exit = vp->plane[0].run->immediate_exit;
                        now->request_interrupt_window = c->irq_window;
                        /* Not every KVM exits for this; an interrupt may have waited for it. */
                        if (!vp->ctl->lapic_idle && (now->cr8 & 0xf) < c->cr8)
                                c->to_boundary = true;
                        if (vtlvmm_vina_wanted(c)) {
                                r = vtlvmm_vina_arm(c);
                                if (r < 0)
                                        return r;
                        }
                        r = step_to_window(c, c->irq_window && !v->precise_faults);
                        if (r < 0)
                                return r;
                }
                if (!c->to_boundary) {
                        r = vtlvmm_gate_enter(c);
                        if (r < 0)
                                return r;
                        c->to_boundary = r == 0;
                }
                stepped = c->step != VTL_STEP_NONE;
                if (stepped) {
                        r = step_vtl0(c, true);
                        if (r < 0)
                                return r;
                }
                r = plane_stock_enter(&v->planes, vp, c->to_boundary);
                vtlvmm_gate_leave(c);
                if (stepped) {
                        int s = end_step(c, r);

                        if (s < 0)
                                return s == -ECANCELED ? 0 : s;
                        if (s > 0)
                                continue;
                }
                if (r == 0 && now->exit_reason == KVM_EXIT_IO && hvpage_is_port(now->io.port)) {
                        /* The fast test first; vtlvmm_exit_owner() decides the rest. */
                        if (hvpage_out_offset(now->io.port, now->s.regs.regs.rip) >= 0 &&
                            now->io.direction == KVM_EXIT_IO_OUT && now->io.size == 1 &&
                            now->io.count == 1) {
                                r = hot_switch(c, now->io.port);
                                if (r < 0)
                                        return r;
                                if (r > 0)
                                        continue;
                        }
                }
                switch (vtlvmm_exit_owner(c, r, &e)) {
                case VTLVMM_EXIT_OF_NOBODY:
                        continue;
                case VTLVMM_EXIT_OF_ENGINE:
                        r = serve_exit(c, &e);
                        break;
                default:
                        if (r == -EINTR)
                                r = serve_interruption(c, &e);
                        break;
                }
                if (r == 1)
                        continue;
                if (r == -ECANCELED)
                        return 0; /* the exit is in VTL0's kvm_run already */
                if (r < 0)
                        return r;
                if (vp->active == 1)
                        vtlvmm_exit_show(c);
                return 0;
        }
}

_public_ int vtlvmm_run(struct vtlvmm_vcpu *c) {
        int r;

        if (!c || !c->vtlvmm->started || !c->vtlvmm->serve) {
                errno = EINVAL;
                return -1;
        }
        /* Either this sees that the VM is to stand still, or who wants that sees this. */
        atomic_store(&c->running, true);
        r = atomic_load(&c->vtlvmm->still) ? -EBUSY : vtlvmm_thread_set_up(c);
        if (r == 0)
                r = run(c);
        atomic_store(&c->running, false);
        if (r < 0) {
                errno = -r;
                return -1;
        }
        return 0;
}
