/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/log.h"
#include "util/util.h"
#include "vtl/engine.h"
#include "vtl/hold.h"
#include "vtl/memory.h"
#include "vtl/strict.h"
#include "vtl/walk.h"

#define RFLAGS_TF (1ull << 8)
#define EFER_LMA (1ull << 10)
#define CR0_PE 1ull
#define DR6_TRAPS 0xfull
#define DR6_BS (1ull << 14)
#define X86_DB 1
#define EXCEPTIONS 32u
#define GATE_PRESENT (1ull << 47)
#define EXECUTE (HV_MAP_GPA_KERNEL_EXECUTABLE | HV_MAP_GPA_USER_EXECUTABLE)

/* ---- Which pages ---- */

bool vtl_strict_wants(unsigned mask) {
        return (mask & HV_MAP_GPA_READABLE) && !(mask & EXECUTE);
}

bool vtl_strict_covers(const struct vtl_partition *p, uint64_t gpn) {
        return p->strict && protect_get(p->strict, gpn) == 0 && !vtl_overlay_find(p, 0, gpn);
}

unsigned vtl_strict_access(const struct vtl_partition *p, uint64_t gpn) {
        return p->strict && protect_get(p->strict, gpn) == 0 ? 0 : protect_get(p->protect, gpn);
}

int vtl_strict_set(struct vtl_partition *p, const uint64_t *gpns, size_t n, uint32_t mask,
                   bool *ret_flipped) {
        bool wanted = vtl_strict_wants(mask);
        int r;

        if (!p->strict)
                return 0;
        for (size_t i = 0; i < n; i++) {
                bool covered = vtl_strict_covers(p, gpns[i]);
                bool room = protect_restricted(p->strict) < p->config.options.strict_execute_pages;

                if (wanted && !covered && !room)
                        p->header->unenforced |= VTL_UNENFORCED_EXECUTE;
                ret_flipped[i] = wanted ? !covered && room : covered;
                if (!ret_flipped[i])
                        continue;
                r = protect_set(p->strict, gpns[i], wanted ? 0 : HV_MAP_GPA_ALL, NULL);
                if (r < 0)
                        return r;
        }
        if ((mask & HV_MAP_GPA_READABLE) && (mask & EXECUTE) && (mask & EXECUTE) != EXECUTE)
                p->header->unenforced |= VTL_UNENFORCED_EXECUTE;
        p->header->strict_pages = protect_restricted(p->strict);
        return 0;
}

void vtl_strict_undo(struct vtl_partition *p, const uint64_t *gpns, size_t n, const bool *flipped) {
        if (!p->strict)
                return;
        while (n-- > 0)
                if (flipped[n])
                        (void) protect_set(p->strict, gpns[n],
                                           vtl_strict_covers(p, gpns[n]) ? HV_MAP_GPA_ALL : 0,
                                           NULL);
        p->header->strict_pages = protect_restricted(p->strict);
}

/* ---- What the entry must not reach ---- */

static int refuse(const struct vtl_vp *vp, const char *why) {
        log_error("VP %u: cannot let the instruction at RIP %#llx through to a page that is not to "
                  "be executed: %s",
                  vp->index, (unsigned long long) vp->ctl->regs.rip, why);
        return -ENOTRECOVERABLE;
}

/* Nothing that the instruction itself needs may be closed. Return: 0 or -EBUSY. */
static int close_page(struct vtl_vp *vp, const struct fault_touched *touched, uint64_t gpn) {
        struct vtl_partition *p = vp->partition;
        struct vtl_step *s = &vp->step;

        if (fault_touches(touched, gpn) || !vtl_memory_is_ram(p, gpn) ||
            vtl_overlay_find(p, 0, gpn))
                return -EBUSY;
        for (size_t i = 0; i < s->n_closed; i++)
                if (s->closed[i] == gpn)
                        return 0;
        if (s->n_closed == ARRAY_SIZE(s->closed))
                return -EBUSY;
        s->closed[s->n_closed++] = gpn;
        return 0;
}

/* Return: 1, 0 when the address does not translate, or a negative errno. */
static int translate(struct vtl_vp *vp, uint64_t gva, unsigned flags, uint64_t *ret_gpa) {
        struct vtl_memory_view view = { .partition = vp->partition, .vtl = 0 };
        struct walk_space space = vtl_memory_space(&view);
        struct walk_result w;
        int r = walk(&space, &vp->ctl->sregs, gva, flags, &w);

        *ret_gpa = w.gpa;
        return r < 0 ? r : w.fault == WALK_OK;
}

static int read_linear(struct vtl_vp *vp, uint64_t gva, void *buf, uint32_t len) {
        for (uint32_t i = 0; i < len; i++) {
                uint64_t gpa;
                int r = translate(vp, gva + i, WALK_IMPLICIT, &gpa);

                if (r > 0)
                        r = vtl_memory_read(vp->partition, 0, gpa, (uint8_t *) buf + i, 1, 0);
                else if (r == 0)
                        r = -EFAULT;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* An exception would go through the IDT: with that closed it ends the entry before anything is
 * pushed, and KVM delivers it once the IDT is open again. */
static int close_idt(struct vtl_vp *vp, const struct fault_touched *touched) {
        const struct kvm_sregs *sregs = &vp->ctl->sregs;
        unsigned gate = sregs->efer & EFER_LMA ? 16 : sregs->cr0 & CR0_PE ? 8 : 4;
        unsigned offset = sregs->idt.base & (HV_PAGE_SIZE - 1);
        unsigned last = offset + MIN(gate * EXCEPTIONS - 1, (unsigned) sregs->idt.limit);
        /* It may lie across the end of the address space. */
        uint64_t mask = sregs->efer & EFER_LMA ? UINT64_MAX : UINT32_MAX;
        uint64_t gpa;
        int r;

        for (unsigned at = 0; at <= last; at += HV_PAGE_SIZE) {
                r = translate(vp, (sregs->idt.base - offset + at) & mask, WALK_IMPLICIT, &gpa);
                /* Not there: the exception ends in a triple fault. */
                if (r > 0)
                        r = close_page(vp, touched, gpa >> HV_PAGE_SHIFT);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The first page of what a vector's gate leads to */
static int close_handler(struct vtl_vp *vp, const struct fault_touched *touched, unsigned vector) {
        const struct kvm_sregs *sregs = &vp->ctl->sregs;
        uint64_t gate[2], target, gpa;
        int r;

        if (vector * 16 + 15 > sregs->idt.limit)
                return 0;
        r = read_linear(vp, sregs->idt.base + vector * 16, gate, sizeof(gate));
        if (r == -EFAULT || (r == 0 && !(gate[0] & GATE_PRESENT)))
                return 0;
        if (r < 0)
                return r;
        target = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | gate[1] << 32;
        r = translate(vp, target, WALK_EXEC, &gpa);
        return r > 0 ? close_page(vp, touched, gpa >> HV_PAGE_SHIFT) : r;
}

/* The delivery of an event ends with the fetch of its handler, or of that of an exception that it
 * raises itself. */
static int close_handlers(struct vtl_vp *vp, const struct fault_touched *touched) {
        static const uint8_t raised[] = { 8, 10, 11, 12, 13, 14 };
        int r;

        if (!(vp->ctl->sregs.efer & EFER_LMA))
                return -EBUSY;
        r = close_handler(vp, touched, touched->insn.vector);
        for (size_t i = 0; i < ARRAY_SIZE(raised) && r == 0; i++)
                r = close_handler(vp, touched, raised[i]);
        return r;
}

/* ---- The entry ---- */

/* The trap flag that POPF or IRET loads */
static int look_at_flags(struct vtl_vp *vp) {
        uint8_t flags[2];
        int r = read_linear(vp, vp->step.insn.flags_gva, flags, sizeof(flags));

        if (r == 0)
                vp->step.trap_flag_next = flags[1] & (RFLAGS_TF >> 8);
        return r == -EFAULT ? 0 : r; /* the instruction faults */
}

static int change(struct vtl_vp *vp, bool begin) {
        struct vtl_partition *p = vp->partition;
        struct vtl_step *s = &vp->step;
        struct plane_range ranges[FAULT_TOUCHED_MAX + VTL_STEP_CLOSED];
        size_t n = 0;

        for (size_t i = 0; i < s->n_opened; i++)
                ranges[n++] = (struct plane_range){
                        .gpn = s->opened[i],
                        .count = 1,
                        .access = begin ? protect_get(p->protect, s->opened[i])
                                        : vtl_strict_access(p, s->opened[i]),
                };
        for (size_t i = 0; i < s->n_closed; i++)
                ranges[n++] = (struct plane_range){
                        .gpn = s->closed[i],
                        .count = 1,
                        .access = begin ? 0 : vtl_strict_access(p, s->closed[i]),
                };
        return vtl_op(p, protect, 0, ranges, n);
}

int vtl_strict_begin(struct vtl_vp *vp, const struct fault_touched *touched) {
        struct vtl_partition *p = vp->partition;
        struct vtl_step *s = &vp->step;
        int r;

        *s = (struct vtl_step){ .insn = touched->insn,
                                .trap_flag = vp->ctl->regs.rflags & RFLAGS_TF };
        for (size_t i = 0; i < touched->n; i++)
                if (vtl_strict_covers(p, touched->gpns[i]))
                        s->opened[s->n_opened++] = touched->gpns[i];
        if (s->n_opened == 0)
                return 0;
        if (touched->overflow)
                return refuse(vp, "it touches too many pages");
        if (s->insn.kind == INSN_KIND_UNTRAPPED || s->insn.kind == INSN_KIND_UNKNOWN)
                return refuse(vp, "it cannot be stepped");
        r = s->insn.kind == INSN_KIND_INTERRUPT ? close_handlers(vp, touched)
                                                : close_idt(vp, touched);
        if (r == 0 && s->insn.kind == INSN_KIND_LOADS_FLAGS)
                r = look_at_flags(vp);
        if (r == -EBUSY)
                return refuse(vp, "it also touches what has to be closed meanwhile");
        if (r == 0)
                r = change(vp, true);
        if (r < 0)
                return r;
        s->active = true;
        vp->ctl->action.step = s->insn.kind == INSN_KIND_INTERRUPT ? VTL_STEP_FREE : VTL_STEP_ONE;
        return 1;
}

void vtl_strict_abandon(struct vtl_vp *vp) {
        if (!vp->step.active)
                return;
        vp->step.active = false;
        vp->ctl->action.step = VTL_STEP_NONE;
        if (change(vp, false) == 0)
                vtl_release(vp);
}

/* TF was KVM's: not for the guest's eyes. Nobody else was in the guest since. */
static int clean_image(struct vtl_vp *vp) {
        uint64_t gpa;
        uint8_t byte;
        int r = translate(vp, vp->step.insn.flags_gva + 1, WALK_IMPLICIT, &gpa);

        if (r <= 0)
                return r < 0 ? r : -EFAULT;
        r = vtl_memory_read(vp->partition, 0, gpa, &byte, 1, 0);
        byte &= (uint8_t) ~(RFLAGS_TF >> 8);
        return r < 0 ? r : vtl_memory_write(vp->partition, 0, gpa, &byte, 1, 0);
}

/* RFLAGS are as KVM shows them, without what may be its own TF. */
static void give_trap_flag(struct vtl_vp *vp) {
        vp->ctl->regs.rflags |= RFLAGS_TF;
        vp->ctl->regs_dirty |= KVM_SYNC_X86_REGS;
}

/* VTL0's own single step and breakpoints: KVM took the trap for ours. */
static int give_trap(struct vtl_vp *vp, uint64_t dr6) {
        struct plane_injection db = { .kind = PLANE_INJECT_EXCEPTION, .vector = X86_DB };
        struct vtl_partition *p = vp->partition;
        struct vtl_step *s = &vp->step;
        struct kvm_debugregs d;
        uint64_t traps = (dr6 & DR6_TRAPS) | (s->trap_flag ? DR6_BS : 0);
        int r;

        if (s->insn.kind == INSN_KIND_LOADS_FLAGS ? s->trap_flag_next : s->trap_flag)
                give_trap_flag(vp);
        if (traps == 0)
                return 0;
        r = vtl_op(p, get, 0, PLANE_DEBUGREGS, &d, sizeof(d));
        d.dr6 = (d.dr6 & ~(DR6_TRAPS | DR6_BS)) | traps;
        if (r == 0)
                r = vtl_op(p, set, 0, PLANE_DEBUGREGS, &d, sizeof(d));
        return r < 0 ? r : vtl_op(p, inject, 0, &db);
}

/* The device has answered, and the instruction has ended, or it is to be done again: KVM ends it
 * with the flags that it has begun with, and it knows nothing of VTL0's TF. */
static int end_underway(struct vtl_vp *vp, const struct vtl_exit *e) {
        struct vtl_step *s = &vp->step;

        if (!s->trap_due)
                return 0;
        if (e->kind == VTL_EXIT_MMIO) { /* another part of it, in a page that is closed again */
                vp->ctl->action.to_boundary = 1;
                return 0;
        }
        s->trap_due = false;
        if (e->kind == VTL_EXIT_KICK)
                return give_trap(vp, 0);
        give_trap_flag(vp);
        return 0;
}

int vtl_strict_end(struct vtl_vp *vp, const struct vtl_exit *e) {
        struct vtl_step *s = &vp->step;
        bool done = e->kind == VTL_EXIT_STEP && e->len == VTL_STEP_DONE;
        int r;

        if (!s->active)
                return e->kind == VTL_EXIT_STEP ? -EINVAL : end_underway(vp, e);
        s->active = false;
        r = change(vp, false);
        if (r == 0 && done && s->insn.kind == INSN_KIND_STORES_FLAGS && !s->trap_flag)
                r = clean_image(vp);
        vtl_release(vp);
        if (r == 0 && done)
                r = give_trap(vp, e->data);
        else if (s->trap_flag && e->kind == VTL_EXIT_STEP && e->len == VTL_STEP_UNDERWAY) {
                s->trap_due = true;
                vp->ctl->action.to_boundary = 1;
        } else if (s->trap_flag && s->insn.kind != INSN_KIND_INTERRUPT)
                give_trap_flag(vp); /* it is still to be done, or faulted */
        if (done) {
                vp->equal_faults = 0;
                vp->partition->header->strict_steps++;
        }
        return r;
}
