/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The engine behind a mailbox: an engine thread and the VP's thread over one control page give what
 * the direct form gives; the death of the other side, and operations that make no sense.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <time.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/mailbox.h"

#define VPS 2
#define SECRET 0x180000ull

/* ---- Two threads ---- */

struct pair {
        struct fx f;
        struct plane_remote remote;
        int pipes[VPS][2], write_ends[VPS];
        pthread_t engines[VPS];
        struct mailbox_spin spin[VPS];
        atomic_bool dead;
        unsigned ops, posted; /* those among them that came with the action */
};

static void *engine_thread(void *arg) {
        return (void *) (intptr_t) vtl_worker_vp_loop(arg);
}

struct served {
        struct pair *pair;
        unsigned vp;
};

static int serve_op(void *userdata, struct vtl_op *op) {
        struct served *s = userdata;

        s->pair->ops++;
        s->pair->posted += atomic_load(&fx_ctl(&s->pair->f, s->vp)->mailbox) != VTL_MAILBOX_OP;
        return plane_remote_serve(&plane_model_ops, s->pair->f.model, s->vp, op);
}

/* The library's side of an exit */
static int serve_by_mailbox(struct fx *f, unsigned vp) {
        struct pair *p = (struct pair *) ((uint8_t *) f - offsetof(struct pair, f));
        struct served s = { p, vp };
        int r;

        plane_remote_give(&plane_model_ops, f->model, vp, fx_active(f, vp), fx_ctl(f, vp));
        r = mailbox_call(fx_ctl(f, vp), &p->spin[vp], &p->dead, serve_op, &s);
        if (r < 0)
                return r;
        return fx_ctl(f, vp)->action.kind == VTL_ACTION_STOP ? -(int) fx_ctl(f, vp)->action.data
                                                             : 0;
}

static struct pair *new_pair(void) {
        struct pair *p = calloc(1, sizeof(*p));

        for (unsigned vp = 0; vp < VPS; vp++) {
                assert_int_equal(pipe(p->pipes[vp]), 0);
                p->write_ends[vp] = p->pipes[vp][1];
        }
        p->remote.kick_fds = p->write_ends;
        fx_init(&p->f, &(struct fx_options){ .vps = VPS, .remote = &p->remote });
        p->f.serve = serve_by_mailbox;
        for (unsigned vp = 0; vp < VPS; vp++)
                assert_int_equal(
                        pthread_create(&p->engines[vp], NULL, engine_thread, fx_vp(&p->f, vp)), 0);
        return p;
}

/* A state that is none of the engine's ends its thread. */
static void free_pair(struct pair *p) {
        for (unsigned vp = 0; vp < VPS; vp++) {
                void *r;

                atomic_store(&fx_ctl(&p->f, vp)->mailbox, VTL_MAILBOX_OP_DONE);
                mailbox_wake(fx_ctl(&p->f, vp));
                assert_int_equal(pthread_join(p->engines[vp], &r), 0);
                assert_int_equal((intptr_t) r, -EPROTO);
                (void) close(p->pipes[vp][0]);
                (void) close(p->pipes[vp][1]);
        }
        fx_deinit(&p->f);
        free(p);
}

/* ---- The same as without a mailbox ---- */

/* A passage whose outcome does not depend on the time */
static void passage(struct fx *f) {
        uint64_t pages[300], data;
        union hv_register_value v;

        fx_start_vtl1(f);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_VP_ASSIST_PAGE, 0x152001), 0);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, 0x153001), 0);
        fx_enable_intercepts(f, 0, 0x60);
        fx_enable_protection(f, 0);
        for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
                pages[i] = (SECRET >> HV_PAGE_SHIFT) + 2 * i;
        assert_int_equal(fx_modify(f, 0, 0, pages, ARRAY_SIZE(pages)),
                         FX_RESULT(0, ARRAY_SIZE(pages)));
        assert_int_equal(fx_enable_vp(f, 0, 1), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        fx_cpu(f, 0)->regs.rip = TINY_CODE;
        fx_cpu(f, 0)->regs.rbx = SECRET;
        memcpy(f->ram + TINY_CODE, "\x48\x8b\x03", 3);
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(fx_active(f, 0), 1);
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        fx_cpu(f, 0)->regs.rflags &= ~0x200ull;
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_EOI, 0), 0);
        for (uint32_t name = HV_X64_REGISTER_CR0; name <= HV_X64_REGISTER_XFEM; name++)
                assert_int_equal(fx_get(f, 0, HV_VP_INDEX_SELF, 0x10, name, &v), 0);
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_XMM0 + 7, 0x1234), 0);
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_LSTAR, 0x1234), 0);
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_CR0, 0x80000010),
                         HV_STATUS_INVALID_REGISTER_VALUE);
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_RIP, TINY_CODE + 3),
                         0);
        assert_int_equal(fx_vtl_return(f, 0, false), 0);
        assert_int_equal(fx_load(f, 0, 0x200000, 8, &data), 0);
        assert_int_equal(fx_wrmsr(f, 0, 0x1234, 0), 1);
        assert_int_equal(fx_vtl_call(f, 1), 0);
        assert_int_equal(fx_store(f, 1, LAPIC_BASE_RESET + 0xf0, 4, 0x1ff), 0);
        assert_int_equal(fx_vtl_return(f, 1, true), 0);
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_store(f, 0, LAPIC_BASE_RESET + 0x300, 4, 3 << 18 | 0x70), 0);
        assert_int_equal(fx_kick(f, 1), 0);
        assert_int_equal(fx_active(f, 1), 1);
}

static void compare(struct fx *a, struct fx *b) {
        assert_memory_equal(a->overlay, b->overlay, vtl_overlay_pages(VPS) * HV_PAGE_SIZE);
        assert_memory_equal(a->ram, b->ram, TINY_SIZE);
        assert_memory_equal(a->events, b->events, sizeof(a->events));
        for (size_t r = 0; r < a->model->n_regions; r++)
                for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                        assert_memory_equal(a->model->regions[r].view[plane],
                                            b->model->regions[r].view[plane],
                                            (a->model->regions[r].size >> HV_PAGE_SHIFT) *
                                                    sizeof(struct model_page));
        /* All operations but kicks, which have a way of their own */
        assert_memory_equal(a->model->ops, b->model->ops, MODEL_KICK * sizeof(a->model->ops[0]));
        for (unsigned vp = 0; vp < VPS; vp++) {
                const struct vtl_control_vp *x = fx_ctl(a, vp), *y = fx_ctl(b, vp);

                assert_int_equal(fx_active(a, vp), fx_active(b, vp));
                for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                        assert_memory_equal(fx_plane(a, vp, plane), fx_plane(b, vp, plane),
                                            sizeof(struct model_vcpu));
                assert_memory_equal(x, y, offsetof(struct vtl_control_vp, mailbox));
                assert_memory_equal(&x->action, &y->action, sizeof(x->action));
        }
}

static unsigned all_ops(const struct fx *f) {
        unsigned n = 0;

        for (unsigned op = 0; op < MODEL_KICK; op++)
                n += f->model->ops[op];
        return n;
}

static void test_same_as_direct(void **state) {
        struct pair *p = new_pair();
        struct fx direct;
        char bytes[8];

        fx_init(&direct, &(struct fx_options){ .vps = VPS });
        passage(&direct);
        passage(&p->f);
        assert_int_equal(p->ops, all_ops(&direct)); /* every one of them through the mailbox */
        compare(&direct, &p->f);
        /* The kick went through VP 1's pipe, once. */
        assert_int_equal(fx_ctl(&p->f, 1)->kicked, 1);
        assert_int_equal(direct.model->vps[1].kicks, 1);
        assert_int_equal(read(p->pipes[1][0], bytes, sizeof(bytes)), 1);
        fx_deinit(&direct);
        free_pair(p);
}

/* An error of the engine's is in the action, one of the operations' gets to the engine. */
static void test_errors(void **state) {
        struct pair *p = new_pair();

        fx_start_vtl1(&p->f);
        p->f.model->fail_at = 1;
        p->f.model->fail_with = -EIO;
        assert_true(fx_vtl_return(&p->f, 0, true) == FX_FAILED);
        assert_int_equal(p->f.error, -EIO);
        assert_int_equal(p->f.action.kind, VTL_ACTION_STOP);
        assert_int_equal(fx_serve(&p->f, 1, &(struct vtl_exit){ .kind = UINT32_MAX }), -EINVAL);
        free_pair(p);
}

/* ---- Nobody there ---- */

struct waiter {
        struct vtl_control_vp *ctl;
        atomic_bool dead;
        int result;
};

static int no_op(void *userdata, struct vtl_op *op) {
        return 0;
}

static void *wait_for_nobody(void *arg) {
        struct waiter *w = arg;
        struct mailbox_spin spin = { 0 };

        w->result = mailbox_call(w->ctl, &spin, &w->dead, no_op, NULL);
        return NULL;
}

static void sleep_ms(unsigned ms) {
        const struct timespec t = { .tv_nsec = (long) ms * 1000000 };

        (void) nanosleep(&t, NULL);
}

static void test_dead(void **state) {
        struct vtl_control_vp *ctl = calloc(1, VTL_CONTROL_VP_SIZE);
        struct waiter w = { .ctl = ctl };
        struct timespec before, after;
        pthread_t t;

        /* Dead before, dead while it waits */
        w.dead = true;
        (void) wait_for_nobody(&w);
        assert_int_equal(w.result, -EOWNERDEAD);
        w.dead = false;
        w.result = 1;
        atomic_store(&ctl->mailbox, VTL_MAILBOX_IDLE);
        assert_int_equal(pthread_create(&t, NULL, wait_for_nobody, &w), 0);
        sleep_ms(20);
        (void) clock_gettime(CLOCK_MONOTONIC, &before);
        atomic_store(&w.dead, true);
        mailbox_wake(ctl);
        assert_int_equal(pthread_join(t, NULL), 0);
        (void) clock_gettime(CLOCK_MONOTONIC, &after);
        assert_int_equal(w.result, -EOWNERDEAD);
        assert_in_range((after.tv_sec - before.tv_sec) * 1000 +
                                (after.tv_nsec - before.tv_nsec) / 1000000,
                        0, 900);
        free(ctl);
}

/* A peer that writes into the mailbox what is not its to write */
static void test_wrong_states(void **state) {
        static const uint32_t wrong[] = { VTL_MAILBOX_IDLE, VTL_MAILBOX_OP_DONE,
                                          VTL_MAILBOX_ACTION + 1, UINT32_MAX };
        struct vtl_control_vp *ctl = calloc(1, VTL_CONTROL_VP_SIZE);

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct waiter w = { .ctl = ctl, .result = 1 };
                pthread_t t;

                atomic_store(&ctl->mailbox, VTL_MAILBOX_IDLE);
                assert_int_equal(pthread_create(&t, NULL, wait_for_nobody, &w), 0);
                while (atomic_load(&ctl->mailbox) != VTL_MAILBOX_EXIT)
                        sleep_ms(1);
                atomic_store(&ctl->mailbox, wrong[i]);
                mailbox_wake(ctl);
                assert_int_equal(pthread_join(t, NULL), 0);
                assert_int_equal(w.result, -EPROTO);
        }
        free(ctl);
}

/* ---- Operations from the other process ---- */

static void test_operations(void **state) {
        static const struct {
                uint32_t code, plane, arg, len;
                uint64_t gpn;
                int result;
        } rows[] = {
                { VTL_OP_GET, 0, PLANE_REGS, sizeof(struct kvm_regs), 0, 0 },
                { VTL_OP_GET, 1, PLANE_XSAVE, sizeof(struct kvm_xsave), 0, 0 },
                { VTL_OP_GET, 2, PLANE_REGS, sizeof(struct kvm_regs), 0, -EINVAL },
                { VTL_OP_GET, UINT32_MAX, PLANE_REGS, sizeof(struct kvm_regs), 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_REGS, sizeof(struct kvm_regs) - 1, 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_REGS, sizeof(struct kvm_regs) + 1, 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_REGS, 0, 0, -EINVAL },
                { VTL_OP_GET, 0, _PLANE_CLASS_MAX, 8, 0, -EINVAL },
                { VTL_OP_GET, 0, UINT32_MAX, 0, 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_MSRS, 0, 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_MSRS, 15, 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_XSAVE, VTL_OP_DATA_MAX + 1, 0, -EINVAL },
                { VTL_OP_GET, 0, PLANE_XSAVE, UINT32_MAX, 0, -EINVAL },
                { VTL_OP_SET, 0, PLANE_DEBUGREGS, sizeof(struct kvm_debugregs), 0, 0 },
                { VTL_OP_SET, 0, PLANE_DEBUGREGS, 8, 0, -EINVAL },
                { VTL_OP_SET, 0, PLANE_MSRS, VTL_OP_DATA_MAX, 0, -EINVAL },
                { VTL_OP_SET, 0, _PLANE_CLASS_MAX, 8, 0, -EINVAL },
                { VTL_OP_COMPLETE, 0, 0, 0, 0, 0 },
                { VTL_OP_COMPLETE, 2, 0, 0, 0, -EINVAL },
                { VTL_OP_UNWIND, 0, 0, 0, 0, 0 },
                { VTL_OP_UNWIND, 3, 0, 0, 0, -EINVAL },
                { VTL_OP_SWITCH, 0, 0, 0, 0, -EINVAL }, /* it is active */
                { VTL_OP_SWITCH, 2, 0, 0, 0, -EINVAL },
                { VTL_OP_INJECT, 0, 0, sizeof(struct plane_injection), 0, 0 },
                { VTL_OP_INJECT, 0, 0, sizeof(struct plane_injection) - 1, 0, -EINVAL },
                { VTL_OP_INJECT, 0, 0, 0, 0, -EINVAL },
                { VTL_OP_PROTECT, 0, 0, sizeof(struct plane_range), 0, 0 },
                { VTL_OP_PROTECT, 0, 0, 0, 0, 0 },
                { VTL_OP_PROTECT, 0, 0, sizeof(struct plane_range) + 1, 0, -EINVAL },
                { VTL_OP_PROTECT, 0, 0, UINT32_MAX, 0, -EINVAL },
                { VTL_OP_OVERLAY, 0, 0, 0, 0x150, 0 },
                { VTL_OP_OVERLAY, 0, PLANE_OVERLAY_NONE, 0, 0x150, 0 },
                { VTL_OP_OVERLAY, 0, 1u << 20, 0, 0x150, -EINVAL },
                { VTL_OP_OVERLAY, 0, 0, 0, 0x900, -EINVAL },
                { VTL_OP_OVERLAY, 0, 0, 0, UINT64_MAX, -EINVAL },
                { VTL_OP_GIVEN, 0, PLANE_XSAVE, sizeof(struct kvm_xsave), 0, -EINVAL },
                { _VTL_OP_MAX, 0, 0, 0, 0, -EINVAL },
                { UINT32_MAX, 0, 0, 0, 0, -EINVAL },
        };
        struct vtl_op *op = calloc(1, sizeof(*op));
        struct fx f;

        fx_init(&f, &(struct fx_options){ .vps = VPS });
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                int r;

                memset(op->data, 0, sizeof(op->data));
                op->code = rows[i].code;
                op->plane = rows[i].plane;
                op->arg = rows[i].arg;
                op->len = rows[i].len;
                op->gpn = rows[i].gpn;
                op->access = 3;
                r = plane_remote_serve(&plane_model_ops, f.model, 0, op);
                if (r != rows[i].result)
                        fail_msg("row %zu: %d", i, r);
        }
        fx_deinit(&f);
        free(op);
}

/* ---- What comes with the exit ---- */

/* GetVpRegisters of RSP of VTL0, with the name and the value in XMM registers */
static void get_fast(struct fx *f) {
        struct kvm_regs *regs = &fx_cpu(f, 0)->regs;
        uint32_t name = HV_X64_REGISTER_RSP;
        uint64_t value;

        regs->rcx = HVCALL_GET_VP_REGISTERS | HV_CONTROL_FAST | 1ull << HV_CONTROL_REP_COUNT_SHIFT;
        regs->rdx = HV_PARTITION_ID_SELF;
        regs->r8 = HV_VP_INDEX_SELF | 0x10ull << 32;
        memcpy((uint8_t *) &fx_cpu(f, 0)->xsave + 160, &name, sizeof(name));
        fx_plane(f, 0, 0)->regs.rsp = 0x1234;
        assert_int_equal(fx_out(f, 0, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL), 0);
        assert_int_equal(regs->rax, FX_RESULT(0, 1));
        memcpy(&value, (uint8_t *) &fx_cpu(f, 0)->xsave + 176, sizeof(value));
        assert_int_equal(value, 0x1234);
}

/* The FPU is read before the engine asks, so it need not ask. */
static void test_given(void **state) {
        struct pair *p = new_pair();
        unsigned asked, made;
        struct fx direct;

        fx_init(&direct, &(struct fx_options){ .vps = VPS });
        fx_start_vtl1(&direct);
        made = all_ops(&direct);
        get_fast(&direct);
        fx_start_vtl1(&p->f);
        asked = p->ops;
        get_fast(&p->f);
        assert_int_equal(p->ops - asked, all_ops(&direct) - made - 1);
        compare(&direct, &p->f);
        fx_deinit(&direct);
        free_pair(p);
}

/* ---- What goes with the action ---- */

static unsigned posted(struct pair *p) {
        unsigned n = p->posted;

        p->posted = 0;
        return n;
}

static void self_ipi(struct fx *f, uint32_t vector) {
        assert_int_equal(fx_store(f, 0, LAPIC_BASE_RESET + 0x300, 4, 1u << 18 | vector), 0);
}

/* An interrupt of VTL1's, and results in XMM registers: nobody waits for them. */
static void test_posted(void **state) {
        struct pair *p = new_pair();
        struct fx *f = &p->f;
        union hv_register_value v;

        fx_start_vtl1(f);
        assert_int_equal(fx_store(f, 0, LAPIC_BASE_RESET + 0xf0, 4, 0x1ff), 0);
        (void) posted(p);
        self_ipi(f, 0x50);
        assert_int_equal(posted(p), 0);
        fx_cpu(f, 0)->regs.rflags |= 0x200;
        assert_int_equal(fx_irq_window(f, 0), 0);
        assert_true(fx_injected(f, 0, 1, PLANE_INJECT_INTERRUPT, 0x50));
        assert_int_equal(posted(p), 1);
        get_fast(f);
        assert_int_equal(posted(p), 1);
        /* What KVM may refuse is asked. */
        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_XMM0 + 1, 7), 0);
        assert_int_equal(posted(p), 1);
        assert_int_equal(
                fx_set(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_XMM_CONTROL_STATUS, 0x1f80),
                0);
        assert_int_equal(posted(p), 0);
        assert_int_equal(fx_get(f, 0, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_XMM0 + 1, &v), 0);
        assert_int_equal(v.low64, 7);
        free_pair(p);
}

/* It is done before the next operation where there is one. */
static void test_posted_before_another(void **state) {
        struct pair *p = new_pair();
        struct fx *f = &p->f;

        fx_start_vtl1(f);
        assert_int_equal(
                fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VINA, HV_VINA_ENABLED | 0x71), 0);
        f->model->ops[MODEL_PROBE] = 0;
        get_fast(f); /* and then VTL0 is looked at */
        assert_int_equal(f->model->ops[MODEL_PROBE], 1);
        assert_int_equal(posted(p), 0);
        free_pair(p);
}

/* A failure stops the guest, with the next operation or with the action. */
static void test_posted_fails(void **state) {
        static const bool vina[] = { false, true };

        for (size_t i = 0; i < ARRAY_SIZE(vina); i++) {
                struct pair *p = new_pair();
                struct fx *f = &p->f;
                unsigned before;

                fx_start_vtl1(f);
                if (vina[i])
                        assert_int_equal(fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VINA,
                                                HV_VINA_ENABLED | 0x71),
                                         0);
                before = all_ops(f);
                get_fast(f);
                /* The last operation, or the one before the look */
                f->model->fail_at = all_ops(f) - before - vina[i];
                f->model->fail_with = -ENOMEM;
                fx_cpu(f, 0)->regs.rcx = HVCALL_GET_VP_REGISTERS | HV_CONTROL_FAST |
                                         1ull << HV_CONTROL_REP_COUNT_SHIFT;
                (void) fx_out(f, 0, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL);
                assert_int_equal(f->error, vina[i] ? -EIO : -ENOMEM);
                free_pair(p);
        }
}

static void *answer_one(void *arg) {
        struct vtl_control_vp *ctl = arg;

        while (atomic_load(&ctl->mailbox) != VTL_MAILBOX_OP)
                sleep_ms(1);
        ctl->op.result = 0;
        atomic_store(&ctl->mailbox, VTL_MAILBOX_OP_DONE);
        mailbox_wake(ctl);
        return NULL;
}

/* What is given is for one class of one plane, and only until the next operation. */
static void test_given_otherwise(void **state) {
        static const struct {
                uint32_t code, plane, arg, len;
        } others[] = {
                { VTL_OP_GIVEN, 1, PLANE_XSAVE, sizeof(struct kvm_xsave) },
                { VTL_OP_GIVEN, 0, PLANE_REGS, sizeof(struct kvm_xsave) },
                { VTL_OP_GIVEN, 0, PLANE_XSAVE, sizeof(struct kvm_xsave) - 1 },
                { VTL_OP_GIVEN, 0, PLANE_XSAVE, 0 },
                { VTL_OP_GET, 0, PLANE_XSAVE, sizeof(struct kvm_xsave) },
                { VTL_OP_SET, 0, PLANE_XSAVE, sizeof(struct kvm_xsave) },
        };
        void *control = calloc(1, vtl_control_size(VPS));
        struct plane_remote remote = { .control = control, .vps = VPS };
        struct vtl_control_vp *ctl = vtl_control_vp(control, 0);
        struct vtl_op *op = &ctl->op;
        struct kvm_xsave xsave, mine;
        pthread_t t;

        memset(&mine, 0x5a, sizeof(mine));
        op->code = VTL_OP_GIVEN;
        op->arg = PLANE_XSAVE;
        op->len = sizeof(mine);
        memcpy(op->data, &mine, sizeof(mine));
        assert_int_equal(plane_remote_ops.get(&remote, 0, 0, PLANE_XSAVE, &xsave, sizeof(xsave)),
                         0);
        assert_memory_equal(&xsave, &mine, sizeof(mine));
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                op->code = others[i].code;
                op->plane = others[i].plane;
                op->arg = others[i].arg;
                op->len = others[i].len;
                atomic_store(&ctl->mailbox, VTL_MAILBOX_IDLE);
                assert_int_equal(pthread_create(&t, NULL, answer_one, ctl), 0);
                assert_int_equal(
                        plane_remote_ops.get(&remote, 0, 0, PLANE_XSAVE, &xsave, sizeof(xsave)), 0);
                assert_int_equal(pthread_join(t, NULL), 0);
                assert_int_equal(op->code, VTL_OP_GET);
        }
        free(control);
}

/* ---- Kicks ---- */

static void test_kick(void **state) {
        int pipe_fds[2], ends[VPS];
        void *control = calloc(1, vtl_control_size(VPS));
        struct plane_remote remote = { .control = control, .vps = VPS, .kick_fds = ends };
        char bytes[8];

        assert_int_equal(pipe(pipe_fds), 0);
        ends[0] = ends[1] = pipe_fds[1];
        /* Once until it is taken */
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(plane_remote_ops.kick(&remote, 1), 0);
        assert_int_equal(read(pipe_fds[0], bytes, sizeof(bytes)), 1);
        atomic_store(&vtl_control_vp(control, 1)->kicked, 0);
        assert_int_equal(plane_remote_ops.kick(&remote, 1), 0);
        assert_int_equal(read(pipe_fds[0], bytes, sizeof(bytes)), 1);
        assert_int_equal(vtl_control_vp(control, 0)->kicked, 0);
        assert_int_equal(plane_remote_ops.kick(&remote, VPS), -EINVAL);
        assert_int_equal(plane_remote_ops.kick(&remote, UINT32_MAX), -EINVAL);
        (void) close(pipe_fds[0]);
        (void) close(pipe_fds[1]);
        free(control);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_same_as_direct), cmocka_unit_test(test_errors),
                cmocka_unit_test(test_dead),           cmocka_unit_test(test_wrong_states),
                cmocka_unit_test(test_operations),     cmocka_unit_test(test_kick),
                cmocka_unit_test(test_given),          cmocka_unit_test(test_given_otherwise),
                cmocka_unit_test(test_posted),         cmocka_unit_test(test_posted_before_another),
                cmocka_unit_test(test_posted_fails),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
