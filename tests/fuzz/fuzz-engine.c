/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target for the engine: a guest of two VPs that does whatever the input says, exit after
 * exit, on the model of planes. Two kinds of guest:
 *
 *   hostile VTL0   VTL1 has closed two pages and handles its intercepts honestly. VTL0 never gets
 *                  at the pages, nor at what VTL1 keeps in its registers.
 *   anything goes  both levels follow the input. What the engine thinks of the rights of every page
 *                  is what the views have.
 *
 * In both, no guest makes the engine fail (but by faulting for ever without a reason), unless the
 * input says that the host fails or sends impossible exits.
 *
 * Input: struct seed, then struct step after struct step. tests/fuzz/make-corpus-engine.py writes
 * the first corpus.
 */

#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/fuzz/engine-checks.h"
#include "tests/fuzz/engine-tables.h"
#include "tests/unit/state-guest.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"

struct seed {
        uint8_t flags; /* SEED_* */
} __attribute__((packed));

#define SEED_HOSTILE 0x01u
#define SEED_RIP_BEHIND 0x02u
#define SEED_REFUSE 0x04u
#define SEED_VTL1 0x08u   /* anything goes: VTL1 is running already */
#define SEED_STRICT 0x10u /* some pages can be kept from being executed */
#define SEED_ACCEPT 0x20u /* policy accepts what is not enforced */
#define SEED_NO_IPI 0x40u /* and no IPIs from VTL0 */

struct step {
        uint8_t kind; /* enum step_kind; STEP_VP1: done by VP 1 */
        uint8_t arg;
        uint16_t where;
        uint64_t value;
} __attribute__((packed));
_Static_assert(sizeof(struct step) == 12, "the corpus is made of these");

#define STEP_VP1 0x80u
#define STEPS_MAX 128
#define STEP_NS 20000u
#define STRICT_PAGES 8u

enum step_kind {
        STEP_REGISTER,
        STEP_MODE,
        STEP_WRITE,
        STEP_CODE,
        STEP_OUT,
        STEP_CALL,
        STEP_FAST,
        STEP_RDMSR,
        STEP_WRMSR,
        STEP_LOAD,
        STEP_STORE,
        STEP_FAULT,
        STEP_KICK,
        STEP_WINDOW,
        STEP_HALT,
        STEP_CR8,
        STEP_VTL_CALL,
        STEP_VTL_RETURN,
        STEP_EVENT,
        STEP_ENABLE,
        STEP_MODIFY,
        STEP_GET,
        STEP_SET,
        STEP_KICKED,
        STEP_BAD_EXIT,
        STEP_FAILURE,
        STEP_TIME,
        STEP_PORT,
        STEP_INSTALL,
        STEP_SAVE,
        _STEP_MAX,
};

#define VECTOR 0x60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct run {
        struct fx f;
        bool hostile;
        bool provoked; /* the host failed */
};

/* ---- Steps ---- */

static void set_register(struct fx *f, unsigned vp, const struct step *s) {
        __u64 *const regs = (__u64 *) &fx_cpu(f, vp)->regs;

        regs[s->arg % 18] = engine_harmless(s->value); /* the last two are RIP and RFLAGS */
}

/* The mode of the active level, within what a CPU can be in */
static void set_mode(struct fx *f, unsigned vp, const struct step *s) {
        struct kvm_sregs *r = &fx_cpu(f, vp)->sregs;

        switch (s->arg % 6) {
        case 0:
                r->cs = tiny_segment(TINY_CS64, 0xb, true, false, 0);
                r->ss.dpl = 0;
                break;
        case 1:
                r->cs.dpl = r->ss.dpl = s->value & 3;
                break;
        case 2:
                r->cs.l = 0;
                r->cs.db = s->value & 1;
                break;
        case 3:
                r->cr3 = s->value % TINY_SIZE;
                break;
        case 4: /* real mode */
                r->cr0 = 0x10;
                r->efer = 0;
                r->cs.l = 0;
                break;
        default:
                r->ds.base = r->es.base = s->value % TINY_SIZE;
                break;
        }
}

static uint64_t place(const struct step *s) {
        uint64_t page = s->where == UINT16_MAX ? LAPIC_BASE_RESET >> HV_PAGE_SHIFT : s->where;

        return page << HV_PAGE_SHIFT | s->value >> 52;
}

static void call(struct run *run, unsigned vp, const struct step *s) {
        uint64_t code = codes[s->arg % ARRAY_SIZE(codes)];

        (void) fx_hypercall(&run->f, vp, (s->value & ~0xffffull) | code, FX_INPUT + s->where,
                            FX_OUTPUT);
}

static void fast(struct run *run, unsigned vp, const struct step *s) {
        uint64_t control = codes[s->arg % ARRAY_SIZE(codes)] | HV_CONTROL_FAST;

        control |= (uint64_t) (s->where & 0xf) << HV_CONTROL_REP_COUNT_SHIFT;
        control |= (uint64_t) (s->where >> 4 & 0xf) << HV_CONTROL_REP_START_SHIFT;
        (void) fx_hypercall(&run->f, vp, control,
                            s->where & 0x100 ? HV_PARTITION_ID_SELF : engine_harmless(s->value),
                            engine_harmless(s->value));
}

/* KVM makes two exits of an access that lies across the end of a page. */
static uint32_t length(const struct step *s) {
        return MIN(s->arg % 8 + 1u, HV_PAGE_SIZE - (uint32_t) (place(s) & (HV_PAGE_SIZE - 1)));
}

static void emulated(struct run *run, unsigned vp, const struct step *s, bool is_write) {
        bool secret = place(s) >> HV_PAGE_SHIFT == CLOSED >> HV_PAGE_SHIFT;
        struct fx *f = &run->f;
        uint64_t data;

        if (is_write) {
                (void) fx_store(f, vp, place(s), length(s), engine_harmless(s->value));
                return;
        }
        (void) fx_load(f, vp, place(s), length(s), &data);
        if (run->hostile && secret && !f->error)
                MUST(data == 0);
}

/* All of VTL1, Hyper-V's of VTL0, and what VTL1 intercepts: the others never leave KVM. */
static bool msr_is_ours(struct fx *f, unsigned vp, uint32_t msr, bool is_write) {
        const struct plane_msr_filter *filter = &f->model->msr_filter;
        int bit = plane_msr_bit(msr);

        if (fx_active(f, vp) == 1 || (msr >= HV_MSR_FIRST && msr <= HV_MSR_LAST))
                return true;
        return bit >= 0 && plane_bit(is_write ? filter->write[0] : filter->read[0], (unsigned) bit);
}

static uint32_t msr_of(const struct step *s) {
        if (s->arg & 0x80)
                return (uint32_t) HV_MSR_FIRST + s->where % 0x120u;
        return s->arg & 0x40 ? intercepted_msrs[s->arg % ARRAY_SIZE(intercepted_msrs)]
                             : msr_numbers[s->arg % ARRAY_SIZE(msr_numbers)];
}

static void bad_exit(struct run *run, unsigned vp, const struct step *s) {
        struct vtl_exit e = { .kind = s->arg % (_VTL_EXIT_MAX + 2),
                              .plane = s->where % 4,
                              .gpa = s->value,
                              .len = s->where >> 4,
                              .is_write = s->value & 1,
                              .msr = (uint32_t) s->value,
                              .port = s->where >> 8,
                              .data = s->value,
                              .cr8 = (uint8_t) s->value };

        run->provoked = true;
        (void) fx_serve(&run->f, vp, &e);
        /* The VMM resets its machine: nothing is VTL1's any more. */
        if (e.kind == VTL_EXIT_STATE && e.port == VTL_STATE_RESET)
                run->hostile = false;
}

static void enable(struct fx *f, unsigned vp, const struct step *s) {
        switch (s->arg % 4) {
        case 0:
                (void) fx_enable_partition(f, vp);
                break;
        case 1:
                (void) fx_enable_vp(f, vp, s->where % 3);
                break;
        case 2:
                (void) fx_set(f, vp, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG,
                              s->value);
                break;
        default:
                (void) fx_store(f, vp, LAPIC_BASE_RESET + 0xf0, 4, 0x1ff);
                break;
        }
}

/* The VTL that is named, and the VP: 0 and 1 exist, 2 does not. */
static void get_or_set(struct fx *f, unsigned vp, const struct step *s, bool set) {
        uint32_t name = names[s->arg % ARRAY_SIZE(names)], target = s->where >> 8 & 3;
        union hv_register_value v;

        if (target == 3)
                target = HV_VP_INDEX_SELF;
        if (set)
                (void) fx_set(f, vp, target, (uint8_t) s->where, name, engine_harmless(s->value));
        else
                (void) fx_get(f, vp, target, (uint8_t) s->where, name, &v);
}

/* An intercept of some kind, installed or removed */
static void install(struct fx *f, unsigned vp, const struct step *s) {
        static const uint32_t types[] = { HV_INTERCEPT_X64_IO_PORT, HV_INTERCEPT_X64_MSR_INDEX,
                                          HV_INTERCEPT_X64_IO_PORT_RANGE, HV_INTERCEPT_X64_CPUID };
        struct hv_input_install_intercept in = { .partition_id = HV_PARTITION_ID_SELF,
                                                 .access_type_mask = s->arg >> 2 & 3,
                                                 .intercept_type = types[s->arg & 3],
                                                 .parameter = engine_harmless(s->value) };

        if (in.intercept_type == HV_INTERCEPT_X64_MSR_INDEX)
                in.parameter = s->arg & 0x80
                                     ? s->value
                                     : intercepted_msrs[s->where % ARRAY_SIZE(intercepted_msrs)];
        (void) fx_call(f, vp, HVCALL_INSTALL_INTERCEPT, &in, sizeof(in));
}

/* IN, OUT, INS or OUTS of VTL0, where VTL1 intercepts it */
static void port(struct fx *f, unsigned vp, const struct step *s) {
        const struct plane_port_filter *filter = &f->model->port_filter;
        struct vtl_exit e = { .kind = VTL_EXIT_PORT,
                              .port = s->where,
                              .len = 1u << s->arg % 3,
                              .data = 1 + (s->arg >> 2 & 7),
                              .is_write = s->arg >> 7 };
        bool past = s->arg & 0x40;

        if (fx_active(f, vp) == 0 && plane_bit(e.is_write ? filter->out : filter->in, e.port))
                (void) fx_exit(f, vp, &e, past ? 0 : 1);
}

static void write_memory(struct fx *f, unsigned vp, uint64_t gpa, uint64_t value) {
        (void) plane_model_write(f->model, fx_active(f, vp), gpa, &value, sizeof(value));
}

static bool same(const struct blob *a, const struct blob *b) {
        return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* The VMM saves its machine and restores it from that: nothing has changed, but that strict mode
 * takes the room that has become free since a page found none. */
static void save_and_load(struct run *run) {
        _cleanup_(blob_free) struct blob saved = BLOB_EMPTY, again = BLOB_EMPTY, last = BLOB_EMPTY;
        struct fx *f = &run->f;

        if (run->provoked || f->p->holder)
                return; /* all VPs are out of the guest */
        MUST(state_guest_ask(f, VTL_STATE_PAUSE, 0) == 0);
        MUST(state_guest_save(f, &saved) == 0);
        MUST(state_guest_load(f, saved.data, saved.size) == 0);
        MUST(state_guest_save(f, &again) == 0);
        MUST(f->p->strict || same(&again, &saved));
        MUST(state_guest_load(f, again.data, again.size) == 0);
        MUST(state_guest_save(f, &last) == 0);
        MUST(same(&last, &again));
        MUST(state_guest_ask(f, VTL_STATE_CONTINUE, 0) == 0);
}

/* What the active level of a VP does */
static void do_step(struct run *run, unsigned vp, const struct step *s) {
        struct fx *f = &run->f;
        bool vtl1 = fx_active(f, vp) == 1;
        uint64_t value;

        switch ((enum step_kind)((s->kind & ~STEP_VP1) % _STEP_MAX)) {
        case STEP_REGISTER:
                set_register(f, vp, s);
                break;
        case STEP_MODE:
                set_mode(f, vp, s);
                break;
        case STEP_WRITE:
                write_memory(f, vp, ((uint64_t) s->where << HV_PAGE_SHIFT) + s->arg * 8u,
                             engine_harmless(s->value));
                break;
        case STEP_CODE:
                write_memory(f, vp, TINY_CODE, engine_harmless(s->value));
                fx_cpu(f, vp)->regs.rip = TINY_CODE;
                break;
        case STEP_OUT:
                (void) fx_out(f, vp, outs[s->arg % ARRAY_SIZE(outs)].port,
                              outs[s->arg % ARRAY_SIZE(outs)].offset);
                break;
        case STEP_CALL:
                call(run, vp, s);
                break;
        case STEP_FAST:
                fast(run, vp, s);
                break;
        case STEP_RDMSR:
                if (msr_is_ours(f, vp, msr_of(s), false))
                        (void) fx_rdmsr(f, vp, msr_of(s), &value);
                break;
        case STEP_WRMSR:
                if (msr_is_ours(f, vp, msr_of(s), true))
                        (void) fx_wrmsr(f, vp, msr_of(s), engine_harmless(s->value));
                break;
        case STEP_LOAD:
                emulated(run, vp, s, false);
                break;
        case STEP_STORE:
                emulated(run, vp, s, true);
                break;
        case STEP_FAULT:
                (void) fx_fault(f, vp);
                break;
        case STEP_KICK:
                f->model->vps[vp].can_interrupt = s->value & 0x100;
                (void) fx_exit(f, vp,
                               &(struct vtl_exit){ .kind = VTL_EXIT_KICK, .data = s->value & 0xff },
                               0);
                break;
        case STEP_WINDOW:
                if (vtl1)
                        (void) fx_irq_window(f, vp);
                break;
        case STEP_HALT:
                if (vtl1)
                        (void) fx_halt(f, vp);
                break;
        case STEP_CR8:
                fx_cpu(f, vp)->cr8 = s->arg & 0xf;
                if (vtl1)
                        (void) fx_exit(f, vp, &(struct vtl_exit){ .kind = VTL_EXIT_TPR }, 0);
                break;
        case STEP_VTL_CALL:
                (void) fx_vtl_call(f, vp);
                break;
        case STEP_VTL_RETURN:
                (void) fx_vtl_return(f, vp, s->arg & 1);
                break;
        case STEP_EVENT:
                fx_cpu(f, vp)->events.interrupt.injected = 1;
                fx_cpu(f, vp)->events.interrupt.nr = s->arg;
                break;
        case STEP_ENABLE:
                enable(f, vp, s);
                break;
        case STEP_MODIFY:
                (void) fx_protect_page(f, vp, (uint32_t) s->value, s->where);
                break;
        case STEP_GET:
                get_or_set(f, vp, s, false);
                break;
        case STEP_SET:
                get_or_set(f, vp, s, true);
                break;
        case STEP_KICKED:
                fx_ctl(f, vp)->kicked = s->arg & 1;
                break;
        case STEP_BAD_EXIT:
                bad_exit(run, vp, s);
                break;
        case STEP_FAILURE:
                f->model->fail_at = s->arg;
                f->model->fail_with = s->where & 1 ? -ENOMEM : s->where & 2 ? -EINVAL : -EIO;
                run->provoked = run->provoked || s->arg > 0;
                break;
        case STEP_TIME: /* up to 18 minutes */
                f->now_ns += s->value & 0xffffffffff;
                (void) fx_kick(f, vp);
                break;
        case STEP_PORT:
                port(f, vp, s);
                break;
        case STEP_INSTALL:
                install(f, vp, s);
                break;
        case STEP_SAVE:
                save_and_load(run);
                break;
        case _STEP_MAX:
                break;
        }
}

/* VTL0 was let through to a page that is not to be executed: how that ends */
static void end_step(struct fx *f, unsigned vp, const struct step *s) {
        static const uint32_t ends[] = { VTL_STEP_DONE, VTL_STEP_OTHERWISE, VTL_STEP_UNDERWAY };
        const struct vtl_exit e = { .kind = VTL_EXIT_STEP,
                                    .len = ends[s->where % ARRAY_SIZE(ends)],
                                    .data = s->value & 0xe00f };
        const struct vtl_action *a = &fx_ctl(f, vp)->action;

        while (!f->error && a->kind == VTL_ACTION_RUN && a->step != VTL_STEP_NONE)
                (void) fx_exit(f, vp, &e, 0);
}

/* Also where the engine has given up with another VP */
static void end_all(struct fx *f) {
        static const struct vtl_exit e = { .kind = VTL_EXIT_STEP, .len = VTL_STEP_OTHERWISE };

        for (unsigned vp = 0; vp < f->model->n_vps; vp++)
                if (fx_ctl(f, vp)->action.step != VTL_STEP_NONE)
                        (void) fx_serve(f, vp, &e);
}

/*
 * An honest VTL1: takes its interrupt, looks at VTL0, changes the rights of another page, empties
 * the slot and returns.
 */
static void handle_in_vtl1(struct fx *f, unsigned vp, const struct step *s) {
        static const uint32_t masks[] = { 0, 1, 3, 0xd, 0xf };
        uint64_t gpn = s->where % (TINY_SIZE / HV_PAGE_SIZE);
        union hv_register_value v;

        fx_cpu(f, vp)->regs.rflags |= 0x200;
        (void) fx_irq_window(f, vp);
        fx_cpu(f, vp)->regs.rflags &= ~0x200ull;
        (void) fx_wrmsr(f, vp, HV_MSR_EOI, 0);
        (void) fx_get(f, vp, HV_VP_INDEX_SELF, 0x10, HV_X64_REGISTER_RIP, &v);
        if (s->arg & 4)
                install(f, vp, s);
        if (s->arg & 2 && gpn != CLOSED >> HV_PAGE_SHIFT && gpn != READ_ONLY >> HV_PAGE_SHIFT)
                (void) fx_protect_page(f, vp, masks[s->arg % ARRAY_SIZE(masks)], gpn);
        memset(f->overlay + (size_t) vtl_overlay_page(VTL_OVERLAY_SIMP, vp, 1) * HV_PAGE_SIZE, 0,
               4);
        (void) fx_vtl_return(f, vp, s->arg & 1);
}

/* ---- One input ---- */

/* The guest's memory: pages that an input wrote are thrown away after it. */
static uint8_t *fresh_ram(void) {
        static uint8_t *ram;

        if (!ram) {
                uint8_t *filled = malloc(TINY_SIZE);
                int fd = memfd_create("fuzz-engine", MFD_CLOEXEC);

                MUST(filled && fd >= 0);
                fx_fill_ram(filled);
                MUST(write(fd, filled, TINY_SIZE) == TINY_SIZE);
                ram = mmap(NULL, TINY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
                MUST(ram != MAP_FAILED);
                (void) close(fd);
                free(filled);
        }
        MUST(madvise(ram, TINY_SIZE, MADV_DONTNEED) == 0);
        return ram;
}

static void start(struct run *run, unsigned flags) {
        const struct vtl_options options = {
                .accept_mbec = flags & SEED_ACCEPT,
                .accept_startup_denial = flags & SEED_ACCEPT,
                .accept_cr_intercepts = flags & SEED_ACCEPT,
                .exact_debug_registers = flags & SEED_ACCEPT,
                .refuse_lower_ipi = flags & SEED_NO_IPI,
                .strict_execute_pages = flags & SEED_STRICT ? STRICT_PAGES : 0,
        };
        struct fx *f = &run->f;

        run->hostile = flags & SEED_HOSTILE;
        fx_init(f, &(struct fx_options){ .vps = 2,
                                         .rip_behind = flags & SEED_RIP_BEHIND,
                                         .ram = fresh_ram(),
                                         .refuse = !run->hostile && flags & SEED_REFUSE,
                                         .tsc_khz = 1000000,
                                         .options = &options,
                                         .own_clock = true });
        if (run->hostile) {
                fx_start_vtl1(f);
                fx_enable_intercepts(f, 0, VECTOR);
                fx_enable_protection(f, 0);
                engine_hide_secrets(f);
                MUST(fx_protect_page(f, 0, 0, CLOSED >> HV_PAGE_SHIFT) == FX_RESULT(0, 1));
                MUST(fx_protect_page(f, 0, 1, READ_ONLY >> HV_PAGE_SHIFT) == FX_RESULT(0, 1));
                MUST(fx_vtl_return(f, 0, true) == 0);
        } else if (flags & SEED_VTL1 && !(flags & SEED_REFUSE))
                fx_start_vtl1(f);
}

static void take_step(struct run *run, const struct step *s) {
        unsigned vp = s->kind & STEP_VP1 ? 1 : 0;
        struct fx *f = &run->f;

        f->now_ns += STEP_NS;
        end_step(f, vp, s);
        if (run->hostile && fx_active(f, vp) == 1)
                handle_in_vtl1(f, vp, s);
        else
                do_step(run, vp, s);
        /* The other VP had left the guest before, and is served first. */
        if ((s->kind & ~STEP_VP1) % _STEP_MAX != STEP_FAULT || !(s->arg & 1))
                end_step(f, vp, s);
        if (!run->hostile)
                return;
        engine_check_closed(f);
        for (unsigned i = 0; i < 2; i++)
                if (fx_active(f, i) == 0)
                        engine_check_registers(fx_cpu(f, i));
        MUST(!engine_is_secret(f->action.data));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct run run = { 0 };
        unsigned n = 0;

        if (size < sizeof(struct seed))
                return 0;
        start(&run, data[0]);
        for (size_t at = sizeof(struct seed);
             at + sizeof(struct step) <= size && n < STEPS_MAX && !run.f.error;
             at += sizeof(struct step), n++) {
                struct step s;

                memcpy(&s, data + at, sizeof(s));
                take_step(&run, &s);
                MUST(run.f.error == 0 || run.f.error == -ENOTRECOVERABLE || run.provoked);
                MUST(run.f.model->protected_overlays == 0);
        }
        end_all(&run.f);
        if (run.hostile)
                engine_check_memory(&run.f);
        if (!run.provoked)
                engine_check_views(&run.f);
        fx_deinit(&run.f);
        return 0;
}
