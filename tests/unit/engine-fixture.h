/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A partition on the model of planes, with the real table of hypercalls, and a guest in it that is
 * nothing but its exits: the functions here put registers where an instruction would have put them,
 * hand the exit to the engine, and do with its answer what libvtlvmm does. For the unit tests and
 * the fuzzer of the engine; free of cmocka.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hvcall/wire.h"
#include "vtl/engine.h"
#include "vtl/partition.h"
#include "vtl/plane-model.h"
#include "vtl/plane-remote.h"

/* Guest memory: the tiny guest's (tests/unit/tiny-guest.h) at 0, identity mapped, and a second
 * region far above. */
#define FX_RAM2 0x1000000ull
#define FX_RAM2_SIZE 0x100000ull
enum fx_layout {
        FX_HYPERCALL_PAGE = 0x30000, /* of both VTLs */
        FX_VTL1_CODE = 0x40000,      /* where VTL1 begins, by VP */
        FX_VTL1_STACK = 0x60000,
        FX_INPUT = 0x110000, /* hypercall parameters: two pages by VP, input and output */
        FX_OUTPUT = 0x111000,
        FX_PARAMETERS = 0x2000,
};

struct fx_options {
        unsigned vps;   /* 0: 1 */
        bool refuse;    /* policy does not allow VTL1 */
        bool imprecise; /* faults do not show their instruction */
        bool kernel;    /* the host's KVM knows Hyper-V's hypercalls and SynIC */
        const struct vtl_options *options;
        bool rip_behind;  /* the host reports RIP behind the `out`, as where KVM emulates it */
        uint64_t tsc_khz; /* 0: not known */
        bool own_clock;   /* the time is @now_ns of the fixture, which nobody else moves */
        uint8_t *ram;     /* memory to use, for many fixtures in a row; NULL: the fixture's own */
        /* The engine asks for operations through the mailboxes; its control memory is filled in. */
        struct plane_remote *remote;
};

struct fx_event {
        enum vtl_event what;
        unsigned vp;
        uint64_t gpa, data;
};

struct fx {
        struct plane_model *model;
        struct vtl_partition *p;
        struct vtl_config config;
        struct vtl_region regions[2];
        uint32_t apic_ids[VTL_MAX_VPS];
        uint8_t *ram, *ram2, *control, *overlay;
        bool own_ram;
        bool rip_behind;
        uint64_t now_ns;
        /* How an exit in the control page is served; vtl_engine_exit() unless a test says
         * otherwise. */
        int (*serve)(struct fx *f, unsigned vp);

        struct vtl_action action; /* to the last exit */
        int error; /* of the first vtl_engine_exit() that failed: the guest then stands still */
        unsigned events[_VTL_EVENT_MAX];
        struct fx_event last_event;
};

/* The memory of a guest as struct fx_options.ram wants it: TINY_SIZE bytes. */
void fx_fill_ram(uint8_t *ram);

/* Makes a guest: every VP in 64-bit mode at CPL 0 in VTL0. Aborts when the host is out of memory.
 * */
void fx_init(struct fx *f, const struct fx_options *o);
void fx_deinit(struct fx *f);

static inline struct vtl_control_vp *fx_ctl(struct fx *f, unsigned vp) {
        return f->model->vps[vp].ctl;
}
static inline struct vtl_vp *fx_vp(struct fx *f, unsigned vp) {
        return &f->p->vps[vp];
}
/* In VTL1's assist page */
static inline struct hv_vp_vtl_control *fx_vtl_control(struct fx *f, unsigned vp) {
        size_t page = vtl_overlay_page(VTL_OVERLAY_ASSIST, vp, 1);
        void *assist = f->overlay + page * HV_PAGE_SIZE;

        return &((struct hv_vp_assist_page *) assist)->vtl_control;
}
/* The active plane, and one by number */
static inline struct model_vcpu *fx_cpu(struct fx *f, unsigned vp) {
        return plane_model_active(f->model, vp);
}
static inline struct model_vcpu *fx_plane(struct fx *f, unsigned vp, unsigned plane) {
        return &f->model->vps[vp].plane[plane];
}
static inline unsigned fx_active(const struct fx *f, unsigned vp) {
        return f->model->vps[vp].active;
}

/**
 * fx_exit() - the active plane makes an exit and goes on as the engine says
 * @e: what exit; plane, CR8 and what says whether an interrupt can be taken are filled in from the
 * vCPU
 * @length: of the instruction that made it, 0 when KVM has RIP behind it
 *
 * An instruction that has to be finished first is, and comes back as VTL_EXIT_KICK.
 *
 * Return: 0 or the engine's error.
 */
int fx_exit(struct fx *f, unsigned vp, const struct vtl_exit *e, unsigned length);
/* One call of the engine with exactly that exit, nothing after it. */
int fx_serve(struct fx *f, unsigned vp, const struct vtl_exit *e);

/* Whether the last exit ended with that injected into a plane */
bool fx_injected(const struct fx *f, unsigned vp, unsigned plane, enum plane_inject_kind kind,
                 unsigned vector);

int fx_kick(struct fx *f, unsigned vp);
int fx_fault(struct fx *f, unsigned vp);
int fx_halt(struct fx *f, unsigned vp);
int fx_irq_window(struct fx *f, unsigned vp);
/* Accesses that KVM emulated. A store's RIP is behind the instruction, a load's at it. */
int fx_load(struct fx *f, unsigned vp, uint64_t gpa, uint32_t len, uint64_t *ret);
int fx_store(struct fx *f, unsigned vp, uint64_t gpa, uint32_t len, uint64_t data);

/* IN or OUT of VTL0 to a port that VTL1 intercepts. @past: RIP is behind the instruction, which is
 * over but for its data. */
int fx_port(struct fx *f, unsigned vp, unsigned port, unsigned size, bool is_write, bool past);

/* 0, 1 for #GP, or the engine's error. */
int fx_rdmsr(struct fx *f, unsigned vp, uint32_t msr, uint64_t *ret);
int fx_wrmsr(struct fx *f, unsigned vp, uint32_t msr, uint64_t value);

/* ---- Hypercalls through the page, 64-bit convention. Return: RAX, FX_UD or FX_FAILED. ---- */

#define FX_UD UINT64_MAX
#define FX_FAILED (UINT64_MAX - 1)
#define FX_RESULT(status, reps) ((uint64_t) (status) | (uint64_t) (reps) << 32)
#define FX_CONTROL(code, count) \
        ((uint64_t) (code) | (uint64_t) (count) << HV_CONTROL_REP_COUNT_SHIFT)

uint64_t fx_hypercall(struct fx *f, unsigned vp, uint64_t control, uint64_t in, uint64_t out);
/* With @len bytes of input in memory */
uint64_t fx_call(struct fx *f, unsigned vp, uint64_t control, const void *input, size_t len);
/* Where the input and the output of fx_call() are, in the fixture's memory */
void *fx_input(struct fx *f, unsigned vp);
void *fx_output(struct fx *f, unsigned vp);

uint64_t fx_enable_partition(struct fx *f, unsigned vp);
uint64_t fx_enable_vp(struct fx *f, unsigned vp, unsigned target);
/* The context that fx_enable_vp() gives VP @target */
struct hv_initial_vp_context fx_context(unsigned target);
uint64_t fx_modify(struct fx *f, unsigned vp, uint32_t mask, const uint64_t *gpns, unsigned n);
uint64_t fx_protect_page(struct fx *f, unsigned vp, uint32_t mask, uint64_t gpn);
/* One register; @input_vtl as in the header, @target a VP index. Return: the status, or FX_UD or
 * FX_FAILED. */
uint64_t fx_get(struct fx *f, unsigned vp, uint32_t target, uint8_t input_vtl, uint32_t name,
                union hv_register_value *ret);
uint64_t fx_set(struct fx *f, unsigned vp, uint32_t target, uint8_t input_vtl, uint32_t name,
                uint64_t value);

/* 0: switched, FX_UD: #UD, FX_FAILED: the engine's error */
uint64_t fx_vtl_call(struct fx *f, unsigned vp);
uint64_t fx_vtl_return(struct fx *f, unsigned vp, bool fast);
/* The `out` at @offset of the page, with registers as they are. */
uint64_t fx_out(struct fx *f, unsigned vp, unsigned port, unsigned offset);

/* Both enabling calls from VTL0 of VP 0, then a VTL call; VTL1 of VP 0 is active afterwards. Aborts
 * on failure. */
void fx_start_vtl1(struct fx *f);
/* From VTL1: protection on, all pages open by default. */
void fx_enable_protection(struct fx *f, unsigned vp);
/* From VTL1: its APIC on in software, SINT0 with @vector. */
void fx_enable_intercepts(struct fx *f, unsigned vp, uint8_t vector);

/* Offsets of the `out`s in the hypercall page */
enum fx_out_offset {
        FX_OUT_HYPERCALL = 0x04,
        FX_OUT_CALL32 = 0x1b,
        FX_OUT_CALL64 = 0x2e,
        FX_OUT_RETURN32 = 0x43,
        FX_OUT_RETURN64 = 0x56,
};
