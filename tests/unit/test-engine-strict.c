/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Strict execute mode: what VTL0's view of the pages is before, while and after VTL0 is let
 * through, who is kept out of the guest meanwhile, and what is not let through.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/strict.h"

#define VECTOR 0x60
#define PAGE 0x180000ull
#define IDT 0x1a0000ull
#define STACK 0x1c0000ull
#define HANDLER 0x1d0000ull
#define SIMP 0x153000ull
#define ROOM 4u
#define RW (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)
#define UX (RW | HV_MAP_GPA_USER_EXECUTABLE)
#define TF (1ull << 8)

static const uint8_t store_rax[] = { 0x48, 0x89, 0x03 }; /* mov %rax, (%rbx) */
static const uint8_t load_ss[] = { 0x8e, 0x13 };         /* mov (%rbx), %ss */
static const uint8_t pushfq[] = { 0x9c };
static const uint8_t popfq[] = { 0x9d };

static int set_up(void **state) {
        static const struct vtl_options options = { .strict_execute_pages = ROOM };
        struct fx *f = malloc(sizeof(*f));

        fx_init(f, &(struct fx_options){ .vps = 3, .options = &options });
        fx_start_vtl1(f);
        fx_enable_protection(f, 0);
        fx_enable_intercepts(f, 0, VECTOR);
        assert_int_equal(fx_wrmsr(f, 0, HV_MSR_SIMP, SIMP | 1), 0);
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
        *state = f;
        return 0;
}

static int tear_down(void **state) {
        fx_deinit(*state);
        free(*state);
        return 0;
}

static void protect(struct fx *f, uint64_t gpa, uint32_t mask) {
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_protect_page(f, 0, mask, gpa >> HV_PAGE_SHIFT), FX_RESULT(0, 1));
        assert_int_equal(fx_vtl_return(f, 0, true), 0);
}

static void at_code(struct fx *f, const void *code, size_t n) {
        struct model_vcpu *c = fx_cpu(f, 0);

        memcpy(f->ram + TINY_CODE, code, n);
        c->regs = (struct kvm_regs){
                .rip = TINY_CODE, .rsp = STACK, .rflags = 0x2, .rax = 1, .rbx = PAGE + 8
        };
        c->sregs.idt.base = IDT;
        c->sregs.idt.limit = 0xfff;
}

static unsigned view(struct fx *f, uint64_t gpa) {
        return plane_model_rights(f->model, 0, gpa >> HV_PAGE_SHIFT);
}

/* Whether the pages are as they are while nobody is let through. */
static void assert_closed(struct fx *f) {
        assert_int_equal(view(f, PAGE), 0);
        assert_int_equal(view(f, IDT), RW);
        assert_int_equal(view(f, HANDLER), RW);
        assert_null(f->p->holder);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(fx_ctl(f, i)->hold, 0);
}

static void assert_open(struct fx *f) {
        assert_int_equal(view(f, PAGE), RW);
        assert_int_equal(fx_ctl(f, 0)->hold, 0);
        assert_int_equal(fx_ctl(f, 1)->hold, 1);
        assert_int_equal(fx_ctl(f, 2)->hold, 1);
        assert_int_equal(fx_ctl(f, 0)->switchable, 0);
}

static int step_ends(struct fx *f, uint64_t dr6) {
        return fx_serve(f, 0, &(struct vtl_exit){ .kind = VTL_EXIT_STEP, .data = dr6 });
}

static void test_room(void **state) {
        struct fx *f = *state;

        for (unsigned i = 0; i < ROOM; i++)
                protect(f, PAGE + i * HV_PAGE_SIZE, RW);
        assert_int_equal(f->p->header->strict_pages, ROOM);
        assert_int_equal(f->p->header->unenforced, 0);
        protect(f, PAGE + ROOM * HV_PAGE_SIZE, RW);
        assert_int_equal(f->p->header->strict_pages, ROOM);
        assert_int_equal(f->p->header->unenforced, VTL_UNENFORCED_EXECUTE);
        assert_int_equal(view(f, PAGE + (ROOM - 1) * HV_PAGE_SIZE), 0);
        assert_int_equal(view(f, PAGE + ROOM * HV_PAGE_SIZE), RW);
        /* The recorded mask is what VTL1 set. */
        assert_int_equal(protect_get(f->p->protect, PAGE >> HV_PAGE_SHIFT), RW);

        protect(f, PAGE, HV_MAP_GPA_ALL);
        assert_int_equal(f->p->header->strict_pages, ROOM - 1);
        assert_int_equal(view(f, PAGE), RW);
        protect(f, PAGE + ROOM * HV_PAGE_SIZE, RW);
        assert_int_equal(view(f, PAGE + ROOM * HV_PAGE_SIZE), 0);
}

/* A list that does not fit the host's mappings leaves all as it was. */
static void test_undo(void **state) {
        struct fx *f = *state;
        const uint64_t list[] = { PAGE >> HV_PAGE_SHIFT, (PAGE >> HV_PAGE_SHIFT) + 2 };

        f->model->mappings_max = plane_model_mappings(f->model, 0) + 1;
        assert_int_equal(fx_vtl_call(f, 0), 0);
        assert_int_equal(fx_modify(f, 0, RW, list, 2), HV_STATUS_INSUFFICIENT_MEMORY);
        assert_int_equal(f->p->header->strict_pages, 0);
        assert_false(vtl_strict_covers(f->p, list[0]));
        f->model->mappings_max = 0;
        assert_int_equal(fx_modify(f, 0, RW, list, 2), FX_RESULT(0, 2));
        assert_int_equal(f->p->header->strict_pages, 2);
}

/* An IDT across the end of the address space, and one whose last page is the last of all */
static void test_idt_that_wraps(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        fx_cpu(f, 0)->sregs.idt.base = 0xffffffffffffff00;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->action.step, VTL_STEP_ONE);
        assert_int_equal(view(f, 0), 0);
        assert_int_equal(step_ends(f, 1 << 14), 0);
        assert_int_not_equal(view(f, 0), 0);

        fx_cpu(f, 0)->sregs.idt.base = 0xfffffffffffff000;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->action.step, VTL_STEP_ONE);
        assert_int_not_equal(view(f, 0), 0);
        assert_int_equal(step_ends(f, 1 << 14), 0);
}

static void test_step(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        assert_closed(f);
        at_code(f, store_rax, sizeof(store_rax));
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->action.step, VTL_STEP_ONE);
        assert_open(f);
        assert_int_equal(view(f, IDT), 0); /* an exception ends the entry */
        fx_cpu(f, 0)->regs.rip += sizeof(store_rax);
        assert_int_equal(step_ends(f, 1 << 14), 0);
        assert_int_equal(f->action.step, VTL_STEP_NONE);
        assert_closed(f);
        assert_int_equal(f->p->header->strict_steps, 1);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 0);
        assert_int_equal(f->model->vps[0].n_injections, 0); /* the trap was ours */
        assert_int_equal(fx_active(f, 0), 0);
        /* One that was not asked for */
        assert_int_equal(step_ends(f, 0), -EINVAL);
}

/* Another exit came in its place, or the instruction faulted. */
static void test_other_ends(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        assert_int_equal(fx_fault(f, 0), 0);
        assert_open(f);
        assert_int_equal(
                fx_serve(f, 0,
                         &(struct vtl_exit){ .kind = VTL_EXIT_STEP, .len = VTL_STEP_OTHERWISE }),
                0);
        assert_closed(f);
        assert_int_equal(f->p->header->strict_steps, 0);

        assert_int_equal(fx_fault(f, 0), 0);
        assert_open(f);
        fx_cpu(f, 0)->events.exception.injected = 1; /* stopped by the closed IDT */
        fx_cpu(f, 0)->events.exception.nr = 14;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_closed(f);
        assert_int_equal(f->action.step, VTL_STEP_NONE);
        assert_int_equal(f->error, 0);
        fx_cpu(f, 0)->events.exception.injected = 0;

        /* VTL0 steps itself, and goes on doing so when a kick or a fault was first. */
        fx_cpu(f, 0)->regs.rflags |= TF;
        assert_int_equal(fx_fault(f, 0), 0);
        fx_cpu(f, 0)->regs.rflags &= ~TF; /* what KVM shows */
        assert_int_equal(
                fx_serve(f, 0,
                         &(struct vtl_exit){ .kind = VTL_EXIT_STEP, .len = VTL_STEP_OTHERWISE }),
                0);
        assert_closed(f);
        assert_int_equal(fx_ctl(f, 0)->regs.rflags & TF, TF);
        assert_int_equal(f->model->vps[0].n_injections, 0);
}

/* VTL0 steps itself over an instruction that a device is part of: its trap comes when that has
 * ended, and not before. */
static void test_underway(void **state) {
        static const struct vtl_exit underway = { .kind = VTL_EXIT_STEP, .len = VTL_STEP_UNDERWAY };
        static const struct vtl_exit kick = { .kind = VTL_EXIT_KICK };
        static const struct vtl_exit mmio = {
                .kind = VTL_EXIT_MMIO, .gpa = PAGE + 8, .len = 4, .is_write = 1, .data = 0x77
        };
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        /* Without a trap flag of its own nothing is due. */
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(fx_serve(f, 0, &underway), 0);
        assert_closed(f);
        assert_int_equal(f->action.to_boundary, 0);
        assert_int_equal(fx_serve(f, 0, &kick), 0);
        assert_int_equal(f->model->vps[0].n_injections, 0);

        for (unsigned pieces = 0; pieces < 3; pieces++) {
                fx_cpu(f, 0)->regs.rflags |= TF;
                assert_int_equal(fx_fault(f, 0), 0);
                fx_cpu(f, 0)->regs.rflags &= ~TF; /* what KVM shows */
                assert_int_equal(fx_serve(f, 0, &underway), 0);
                assert_closed(f);
                assert_int_equal(f->action.to_boundary, 1);
                for (unsigned i = 0; i < pieces; i++) {
                        assert_int_equal(fx_serve(f, 0, &mmio), 0);
                        assert_int_equal(f->action.to_boundary, 1);
                }
                assert_int_equal(fx_ctl(f, 0)->regs.rflags & TF, 0);
                assert_int_equal(f->model->vps[0].n_injections, 0);
                assert_int_equal(fx_serve(f, 0, &kick), 0);
                assert_int_equal(fx_ctl(f, 0)->regs.rflags & TF, TF);
                assert_int_equal(f->model->vps[0].n_injections, 1);
                fx_cpu(f, 0)->events.exception.injected = 0; /* it has been delivered */
        }
        /* It is to be done again. */
        fx_cpu(f, 0)->regs.rflags |= TF;
        assert_int_equal(fx_fault(f, 0), 0);
        fx_cpu(f, 0)->regs.rflags &= ~TF;
        assert_int_equal(fx_serve(f, 0, &underway), 0);
        assert_int_equal(fx_fault(f, 0), 0);
        assert_open(f);
        assert_int_equal(f->model->vps[0].n_injections, 0);
        assert_true(fx_vp(f, 0)->step.trap_flag);
}

static void test_no_progress(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        for (unsigned i = 0; i < 15; i++)
                assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(fx_fault(f, 0), -ENOTRECOVERABLE);
        assert_int_equal(f->action.step, VTL_STEP_NONE);
        assert_closed(f);
}

static void test_fetch(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        fx_cpu(f, 0)->regs.rip = PAGE + 0x10;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 1);
        assert_int_equal(f->last_event.gpa, PAGE + 0x10);
        assert_int_equal(f->last_event.data, HV_INTERCEPT_ACCESS_EXECUTE);
        assert_closed(f);
        assert_int_equal(fx_plane(f, 0, 0)->regs.rip, PAGE + 0x10);
}

/* Closed by the mask: no step makes it right. */
static void test_forbidden(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, HV_MAP_GPA_READABLE);
        at_code(f, store_rax, sizeof(store_rax));
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 1);
        assert_int_equal(f->last_event.data, HV_INTERCEPT_ACCESS_WRITE);
        assert_int_equal(f->action.step, VTL_STEP_NONE);
        assert_closed(f);
}

/* The trap comes one instruction late, and that one might be in the page. */
static void test_cannot(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, load_ss, sizeof(load_ss));
        assert_int_equal(fx_fault(f, 0), -ENOTRECOVERABLE);
        assert_closed(f);
        assert_int_equal(f->action.kind, VTL_ACTION_STOP);
}

/* The IDT cannot be closed when the instruction writes to it. */
static void test_idt_in_the_way(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        fx_cpu(f, 0)->sregs.idt.base = PAGE;
        assert_int_equal(fx_fault(f, 0), -ENOTRECOVERABLE);
        assert_closed(f);
}

static void test_flags(void **state) {
        struct fx *f = *state;
        uint64_t image = 0x302;

        protect(f, PAGE, RW);
        at_code(f, pushfq, sizeof(pushfq));
        fx_cpu(f, 0)->regs.rsp = PAGE + 0x100;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_open(f);
        /* What the CPU pushes */
        fx_cpu(f, 0)->regs.rsp -= 8;
        fx_cpu(f, 0)->regs.rip++;
        assert_int_equal(plane_model_write(f->model, 0, PAGE + 0xf8, &image, 8), 0);
        assert_int_equal(step_ends(f, 0), 0);
        memcpy(&image, f->ram + PAGE + 0xf8, 8);
        assert_int_equal(image, 0x202);

        /* VTL0 steps itself: its trap, and TF as it was. */
        at_code(f, store_rax, sizeof(store_rax));
        fx_cpu(f, 0)->regs.rflags |= TF;
        assert_int_equal(fx_fault(f, 0), 0);
        fx_cpu(f, 0)->regs.rflags &= ~TF;
        assert_int_equal(step_ends(f, 0), 0);
        assert_true(fx_injected(f, 0, 0, PLANE_INJECT_EXCEPTION, 1));
        assert_int_equal(fx_ctl(f, 0)->regs.rflags & TF, TF);
        assert_int_equal(fx_plane(f, 0, 0)->debugregs.dr6 & (1 << 14), 1 << 14);
        fx_cpu(f, 0)->events.exception.injected = 0;

        /* POPF that turns it on */
        image = 0x102;
        memcpy(f->ram + PAGE + 0x100, &image, 8);
        at_code(f, popfq, sizeof(popfq));
        fx_cpu(f, 0)->regs.rsp = PAGE + 0x100;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->action.step, VTL_STEP_ONE);
        assert_int_equal(step_ends(f, 0), 0);
        assert_int_equal(fx_ctl(f, 0)->regs.rflags & TF, TF);
        assert_int_equal(f->model->vps[0].n_injections, 0);
}

/* Which flags POPF and IRET load, whatever their prefixes */
static void test_flags_loaded(void **state) {
        static const struct {
                uint8_t code[4];
                unsigned n, image;
        } loads[] = {
                { { 0x66, 0x9d }, 2, 0 },
                { { 0x48, 0x9d }, 2, 0 },
                { { 0xcf }, 1, 8 },
                { { 0x48, 0xcf }, 2, 16 },
                { { 0x4f, 0xcf }, 2, 16 },
                { { 0x66, 0xcf }, 2, 4 },
                { { 0x66, 0x48, 0xcf }, 3, 16 },
                { { 0x48, 0x66, 0xcf }, 3, 4 }, /* a REX prefix before another one is none */
        };
        struct fx *f = *state;

        protect(f, PAGE, RW);
        for (size_t i = 0; i < ARRAY_SIZE(loads) * 2; i++) {
                unsigned set = i & 1;
                const uint16_t flags = set ? 0x102 : 0x2;
                uint8_t *at = f->ram + PAGE + 0x100;

                at_code(f, loads[i / 2].code, loads[i / 2].n);
                /* Wrong everywhere else */
                memset(at, set ? 0 : 0xff, 64);
                memcpy(at + loads[i / 2].image, &flags, sizeof(flags));
                fx_cpu(f, 0)->regs.rsp = PAGE + 0x100;
                assert_int_equal(fx_fault(f, 0), 0);
                assert_int_equal(f->action.step, VTL_STEP_ONE);
                assert_int_equal(step_ends(f, 0), 0);
                if ((fx_ctl(f, 0)->regs.rflags & TF) != (set ? TF : 0))
                        fail_msg("row %zu, TF %u", i / 2, set);
        }
        assert_int_equal(f->model->vps[0].n_injections, 0);
}

static void gate(struct fx *f, unsigned vector, uint64_t target) {
        uint64_t g[2] = { (target & 0xffff) | TINY_CS64 << 16 | 0x8e00ull << 32 |
                                  (target & 0xffff0000) << 32,
                          target >> 32 };

        memcpy(f->ram + IDT + vector * 16, g, sizeof(g));
}

/* Delivery of an event to a stack in a strict page ends at the handler, whose page is closed. */
static void test_delivery(void **state) {
        struct fx *f = *state;
        struct kvm_vcpu_events *events;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        gate(f, 0x50, HANDLER + 0x20);
        fx_cpu(f, 0)->regs.rsp = PAGE + 0x800;
        events = &fx_cpu(f, 0)->events;
        events->interrupt.injected = 1;
        events->interrupt.nr = 0x50;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_int_equal(f->action.step, VTL_STEP_FREE);
        assert_open(f);
        assert_int_equal(view(f, HANDLER), 0);
        assert_int_equal(view(f, IDT), RW);
        events->interrupt.injected = 0;
        fx_cpu(f, 0)->regs.rip = HANDLER + 0x20;
        fx_cpu(f, 0)->regs.rsp = PAGE + 0x7d8;
        fx_cpu(f, 0)->regs.rbx = 0;
        f->ram[HANDLER + 0x20] = 0x90;
        assert_int_equal(fx_fault(f, 0), 0);
        assert_closed(f);
        assert_int_equal(f->action.step, VTL_STEP_NONE);
        assert_int_equal(f->events[VTL_EVENT_INTERCEPT], 0);
}

/* With the handler in the page of the stack there is nothing to end it. */
static void test_handler_in_the_way(void **state) {
        struct fx *f = *state;
        struct kvm_vcpu_events *events;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        gate(f, 0x50, PAGE + 0x20);
        fx_cpu(f, 0)->regs.rsp = PAGE + 0x800;
        events = &fx_cpu(f, 0)->events;
        events->interrupt.injected = 1;
        events->interrupt.nr = 0x50;
        assert_int_equal(fx_fault(f, 0), -ENOTRECOVERABLE);
        assert_closed(f);
}

/* The engine gives up, and the page cannot be closed: the other VPs stay out. */
static void test_cannot_be_closed(void **state) {
        struct fx *f = *state;

        protect(f, PAGE, RW);
        at_code(f, store_rax, sizeof(store_rax));
        assert_int_equal(fx_fault(f, 0), 0);
        assert_open(f);
        f->model->fail_at = 1;
        f->model->fail_with = -ENOMEM;
        f->p->current = fx_vp(f, 0);
        vtl_strict_abandon(fx_vp(f, 0));
        assert_int_equal(f->model->fail_at, 0);
        assert_ptr_equal(f->p->holder, fx_vp(f, 0));
        assert_int_equal(fx_ctl(f, 1)->hold, 1);
}

static void test_user_only(void **state) {
        bool flipped = false;
        struct fx *f = *state;
        uint64_t gpn = PAGE >> HV_PAGE_SHIFT;

        assert_int_equal(vtl_strict_set(f->p, &gpn, 1, UX, &flipped), 0);
        assert_false(flipped);
        assert_int_equal(f->p->header->unenforced, VTL_UNENFORCED_EXECUTE);
}

/* Where faults are imprecise or KVM cannot step, the option is refused. */
static void test_refused(void **state) {
        struct fx *f = *state;
        struct vtl_partition *p = NULL;
        struct vtl_config c = f->config;

        c.precise_faults = false;
        assert_int_equal(vtl_partition_new(&c, &p), -EOPNOTSUPP);
        c.precise_faults = true;
        f->p->header->can_step = 0;
        assert_int_equal(vtl_partition_new(&c, &p), -EOPNOTSUPP);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_idt_that_wraps), TEST(test_room),           TEST(test_undo),
                TEST(test_step),           TEST(test_other_ends),     TEST(test_underway),
                TEST(test_no_progress),    TEST(test_fetch),          TEST(test_forbidden),
                TEST(test_cannot),         TEST(test_idt_in_the_way), TEST(test_flags),
                TEST(test_flags_loaded),   TEST(test_delivery),       TEST(test_handler_in_the_way),
                TEST(test_user_only),      TEST(test_refused),        TEST(test_cannot_be_closed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
