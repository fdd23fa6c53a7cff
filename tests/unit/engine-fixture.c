/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdlib.h>
#include <sys/mman.h>

#include "hvcall/serve.h"
#include "tests/must.h"
#include "tests/unit/engine-fixture.h"
#include "tests/unit/tiny-guest.h"
#include "util/log.h"
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/switch.h"

#define RFLAGS_IF (1ull << 9)
#define TURNS_MAX 32 /* exits that one instruction may cost */

/* ---- Making a guest ---- */

static struct tiny_guest *new_tiny(void) {
        struct tiny_guest *g = malloc(sizeof(*g));

        MUST(g);
        tiny_long(g);
        return g;
}

void fx_fill_ram(uint8_t *ram) {
        struct tiny_guest *g = new_tiny();

        memcpy(ram, g->ram, TINY_SIZE);
        free(g);
}

static void on_event(void *userdata, enum vtl_event what, unsigned vp, uint64_t gpa,
                     uint64_t data) {
        struct fx *f = userdata;

        MUST((unsigned) what < _VTL_EVENT_MAX);
        f->events[what]++;
        f->last_event = (struct fx_event){ what, vp, gpa, data };
}

static uint64_t own_clock(void *userdata) {
        return ((const struct fx *) userdata)->now_ns;
}

static void *zeroed(size_t n) {
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        MUST(p != MAP_FAILED);
        return p;
}

/* The registers that tiny_long() sets, made once: there are tests with thousands of guests. */
static const struct tiny_guest *long_mode(void) {
        static struct tiny_guest *g;

        if (!g)
                g = new_tiny();
        return g;
}

static void start_vps(struct fx *f, unsigned vps) {
        const struct tiny_guest *g = long_mode();

        for (unsigned vp = 0; vp < vps; vp++) {
                struct model_vcpu *c = fx_plane(f, vp, 0);
                uint64_t apic_base = c->sregs.apic_base;

                c->regs = g->regs;
                c->sregs = g->sregs;
                c->sregs.apic_base = apic_base;
                c->mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
        }
}

void fx_init(struct fx *f, const struct fx_options *o) {
        unsigned vps = o->vps ? o->vps : 1;

        log_set_max_level(LOG_CRIT); /* errors are made on purpose */
        *f = (struct fx){ .rip_behind = o->rip_behind, .ram = o->ram, .own_ram = !o->ram };
        if (f->own_ram) {
                f->ram = zeroed(TINY_SIZE);
                fx_fill_ram(f->ram);
        }
        f->ram2 = zeroed(FX_RAM2_SIZE);
        f->control = zeroed(vtl_control_size(vps));
        ((struct vtl_control_header *) (void *) f->control)->can_step = 1;
        f->overlay = zeroed(vtl_overlay_pages(vps) * (size_t) HV_PAGE_SIZE);
        MUST(plane_model_new(&f->model, vps,
                             (const struct model_ram[]){ { 0, TINY_SIZE, f->ram },
                                                         { FX_RAM2, FX_RAM2_SIZE, f->ram2 } },
                             2, f->control, f->overlay) == 0);
        start_vps(f, vps);
        for (unsigned vp = 0; vp < vps; vp++)
                f->apic_ids[vp] = 2 * vp; /* not the index */
        f->regions[0] = (struct vtl_region){ .gpa = 0, .size = TINY_SIZE, .base = f->ram };
        f->regions[1] =
                (struct vtl_region){ .gpa = FX_RAM2, .size = FX_RAM2_SIZE, .base = f->ram2 };
        f->config = (struct vtl_config){
                .vps = vps,
                .apic_ids = f->apic_ids,
                .regions = f->regions,
                .n_regions = ARRAY_SIZE(f->regions),
                .tsc_khz = o->tsc_khz,
                .phys_bits = 40,
                .allow_vtl1 = !o->refuse,
                .precise_faults = !o->imprecise,
                .kernel_hypercalls = o->kernel,
                .kernel_synic = o->kernel,
                .control = f->control,
                .overlay = f->overlay,
                .ops = &plane_model_ops,
                .ops_ctx = f->model,
                .event = on_event,
                .hypercall = hvcall_serve,
                .clock_ns = o->own_clock ? own_clock : NULL,
                .userdata = f,
        };
        if (o->options)
                f->config.options = *o->options;
        if (o->remote) {
                o->remote->control = f->control;
                o->remote->vps = vps;
                f->config.ops = &plane_remote_ops;
                f->config.ops_ctx = o->remote;
        }
        MUST(vtl_partition_new(&f->config, &f->p) == 0);
}

void fx_deinit(struct fx *f) {
        unsigned vps = f->model->n_vps;

        f->p = vtl_partition_free(f->p);
        f->model = plane_model_free(f->model);
        if (f->own_ram)
                (void) munmap(f->ram, TINY_SIZE);
        (void) munmap(f->ram2, FX_RAM2_SIZE);
        (void) munmap(f->control, vtl_control_size(vps));
        (void) munmap(f->overlay, vtl_overlay_pages(vps) * (size_t) HV_PAGE_SIZE);
}

/* ---- Exits ---- */

static int call_engine(struct fx *f, unsigned vp) {
        int r = f->serve ? f->serve(f, vp) : vtl_engine_exit(fx_vp(f, vp));

        f->action = fx_ctl(f, vp)->action;
        if (r < 0 && f->error == 0)
                f->error = r;
        return r;
}

bool fx_injected(const struct fx *f, unsigned vp, unsigned plane, enum plane_inject_kind kind,
                 unsigned vector) {
        const struct model_vp *v = &f->model->vps[vp];

        for (unsigned i = 0; i < MIN(v->n_injections, (unsigned) MODEL_INJECTIONS); i++)
                if (v->injections[i].plane == plane && v->injections[i].what.kind == kind &&
                    v->injections[i].what.vector == vector)
                        return true;
        return false;
}

int fx_serve(struct fx *f, unsigned vp, const struct vtl_exit *e) {
        struct model_vcpu *c = fx_cpu(f, vp);
        struct vtl_control_vp *ctl = fx_ctl(f, vp);

        f->model->vps[vp].n_injections = 0;
        c->pending = false;
        ctl->regs = c->regs;
        ctl->sregs = c->sregs;
        ctl->regs_dirty = 0;
        ctl->exit = *e;
        return call_engine(f, vp);
}

static void leave_guest(struct fx *f, unsigned vp, const struct vtl_exit *e, unsigned length) {
        const struct model_vcpu *c = fx_cpu(f, vp);
        struct vtl_exit with_state = *e;

        with_state.if_flag = (c->regs.rflags & RFLAGS_IF) != 0;
        with_state.ready_for_injection = with_state.if_flag && !c->events.interrupt.injected;
        plane_model_exit(f->model, vp, &with_state, length);
}

int fx_exit(struct fx *f, unsigned vp, const struct vtl_exit *e, unsigned length) {
        static const struct vtl_exit kick = { .kind = VTL_EXIT_KICK };

        if (f->error)
                return f->error;
        f->model->vps[vp].n_injections = 0;
        leave_guest(f, vp, e, length);
        for (unsigned turns = 0; turns < TURNS_MAX; turns++) {
                int r = call_engine(f, vp);

                if (r < 0)
                        return r;
                if (f->action.kind != VTL_ACTION_RUN && f->action.kind != VTL_ACTION_WAIT)
                        return 0;
                plane_model_enter(f->model, vp);
                if (f->action.kind == VTL_ACTION_WAIT)
                        return 0;
                if (!f->action.to_boundary)
                        return 0;
                leave_guest(f, vp, &kick, 0);
        }
        MUST(!"the engine asks for a boundary for ever");
        return -ELOOP;
}

static int simple_exit(struct fx *f, unsigned vp, enum vtl_exit_kind kind, unsigned length) {
        return fx_exit(f, vp, &(struct vtl_exit){ .kind = kind }, length);
}

int fx_kick(struct fx *f, unsigned vp) {
        return simple_exit(f, vp, VTL_EXIT_KICK, 0);
}

int fx_fault(struct fx *f, unsigned vp) {
        return simple_exit(f, vp, VTL_EXIT_FAULT, 0);
}

int fx_irq_window(struct fx *f, unsigned vp) {
        return simple_exit(f, vp, VTL_EXIT_IRQ_WINDOW, 0);
}

int fx_halt(struct fx *f, unsigned vp) {
        fx_cpu(f, vp)->regs.rip++;
        return simple_exit(f, vp, VTL_EXIT_HALT, 0);
}

int fx_load(struct fx *f, unsigned vp, uint64_t gpa, uint32_t len, uint64_t *ret) {
        struct vtl_exit e = { .kind = VTL_EXIT_MMIO, .gpa = gpa, .len = len };
        int r = fx_exit(f, vp, &e, 3);

        *ret = f->action.data;
        return r;
}

int fx_store(struct fx *f, unsigned vp, uint64_t gpa, uint32_t len, uint64_t data) {
        struct vtl_exit e = {
                .kind = VTL_EXIT_MMIO, .gpa = gpa, .len = len, .is_write = 1, .data = data
        };

        fx_cpu(f, vp)->regs.rip += 3;
        return fx_exit(f, vp, &e, 0);
}

int fx_port(struct fx *f, unsigned vp, unsigned port, unsigned size, bool is_write, bool past) {
        struct vtl_exit e = {
                .kind = VTL_EXIT_PORT, .port = port, .len = size, .is_write = is_write
        };

        return fx_exit(f, vp, &e, past ? 0 : 1);
}

int fx_rdmsr(struct fx *f, unsigned vp, uint32_t msr, uint64_t *ret) {
        int r = fx_exit(f, vp, &(struct vtl_exit){ .kind = VTL_EXIT_RDMSR, .msr = msr }, 2);

        *ret = f->action.data;
        return r < 0 ? r : (int) f->action.msr_error;
}

int fx_wrmsr(struct fx *f, unsigned vp, uint32_t msr, uint64_t value) {
        int r = fx_exit(f, vp,
                        &(struct vtl_exit){ .kind = VTL_EXIT_WRMSR, .msr = msr, .data = value }, 2);

        return r < 0 ? r : (int) f->action.msr_error;
}

/* ---- Hypercalls ---- */

uint64_t fx_out(struct fx *f, unsigned vp, unsigned port, unsigned offset) {
        struct vtl_exit e = { .kind = VTL_EXIT_HYPERCALL, .port = port };
        unsigned plane = fx_active(f, vp);

        if (f->error)
                return FX_FAILED;
        fx_cpu(f, vp)->regs.rip =
                FX_HYPERCALL_PAGE + offset + (f->rip_behind ? HVPAGE_OUT_LENGTH : 0);
        if (fx_exit(f, vp, &e, f->rip_behind ? 0 : HVPAGE_OUT_LENGTH) < 0)
                return FX_FAILED;
        return fx_injected(f, vp, plane, PLANE_INJECT_EXCEPTION, X86_UD) ? FX_UD : 0;
}

uint64_t fx_hypercall(struct fx *f, unsigned vp, uint64_t control, uint64_t in, uint64_t out) {
        struct kvm_regs *regs = &fx_cpu(f, vp)->regs;
        uint64_t r;

        regs->rcx = control;
        regs->rdx = in;
        regs->r8 = out;
        r = fx_out(f, vp, HVPAGE_PORT_HYPERCALL, FX_OUT_HYPERCALL);
        return r ? r : regs->rax;
}

static uint64_t parameters(unsigned vp) {
        return FX_INPUT + (uint64_t) vp * FX_PARAMETERS;
}

void *fx_input(struct fx *f, unsigned vp) {
        return f->ram + parameters(vp);
}

void *fx_output(struct fx *f, unsigned vp) {
        return f->ram + parameters(vp) + HV_PAGE_SIZE;
}

uint64_t fx_call(struct fx *f, unsigned vp, uint64_t control, const void *input, size_t len) {
        MUST(len <= HV_PAGE_SIZE);
        memcpy(fx_input(f, vp), input, len);
        return fx_hypercall(f, vp, control, parameters(vp), parameters(vp) + HV_PAGE_SIZE);
}

uint64_t fx_enable_partition(struct fx *f, unsigned vp) {
        struct hv_input_enable_partition_vtl in = { .partition_id = HV_PARTITION_ID_SELF,
                                                    .target_vtl = 1 };

        return fx_call(f, vp, HVCALL_ENABLE_PARTITION_VTL, &in, sizeof(in));
}

struct hv_initial_vp_context fx_context(unsigned target) {
        const struct hv_x64_segment_register data = { .limit = 0xffffffff,
                                                      .selector = TINY_SS,
                                                      .attributes = 0xc093 };
        struct hv_initial_vp_context c = {
                .rip = FX_VTL1_CODE + target * 0x1000ull,
                .rsp = FX_VTL1_STACK + target * 0x1000ull,
                .rflags = 2,
                .cs = { .limit = 0xffffffff, .selector = TINY_CS64, .attributes = 0xa09b },
                .ds = data,
                .es = data,
                .fs = data,
                .gs = data,
                .ss = data,
                .tr = { .base = TINY_TSS, .limit = 0x67, .selector = TINY_TR, .attributes = 0x8b },
                .ldtr = { .attributes = 0x82 },
                .idtr = { .base = TINY_IDT, .limit = 0xfff },
                .gdtr = { .base = TINY_GDT, .limit = 0x7f },
                .efer = 0xd01,
                .cr0 = 0x80050033,
                .cr3 = TINY_PML4,
                .cr4 = 0x620,
        };

        return c;
}

uint64_t fx_enable_vp(struct fx *f, unsigned vp, unsigned target) {
        struct hv_input_enable_vp_vtl in = { .partition_id = HV_PARTITION_ID_SELF,
                                             .vp_index = target,
                                             .target_vtl = 1,
                                             .context = fx_context(target) };

        return fx_call(f, vp, HVCALL_ENABLE_VP_VTL, &in, sizeof(in));
}

uint64_t fx_modify(struct fx *f, unsigned vp, uint32_t mask, const uint64_t *gpns, unsigned n) {
        struct {
                struct hv_input_modify_vtl_protection_mask head;
                uint64_t gpns[510];
        } in = { .head = { .partition_id = HV_PARTITION_ID_SELF, .map_flags = mask } };

        MUST(n <= ARRAY_SIZE(in.gpns));
        memcpy(in.gpns, gpns, n * sizeof(gpns[0]));
        return fx_call(f, vp, FX_CONTROL(HVCALL_MODIFY_VTL_PROTECTION_MASK, n), &in,
                       sizeof(in.head) + n * 8);
}

uint64_t fx_protect_page(struct fx *f, unsigned vp, uint32_t mask, uint64_t gpn) {
        return fx_modify(f, vp, mask, &gpn, 1);
}

static uint64_t status_of(uint64_t result) {
        return result == FX_UD || result == FX_FAILED ? result : result & 0xffff;
}

uint64_t fx_get(struct fx *f, unsigned vp, uint32_t target, uint8_t input_vtl, uint32_t name,
                union hv_register_value *ret) {
        struct {
                struct hv_input_vp_registers head;
                uint32_t name;
        } in = { { .partition_id = HV_PARTITION_ID_SELF,
                   .vp_index = target,
                   .input_vtl = input_vtl },
                 name };
        uint64_t r;

        memset(fx_output(f, vp), 0xee, sizeof(*ret));
        r = fx_call(f, vp, FX_CONTROL(HVCALL_GET_VP_REGISTERS, 1), &in, sizeof(in));
        memcpy(ret, fx_output(f, vp), sizeof(*ret));
        return status_of(r);
}

uint64_t fx_set(struct fx *f, unsigned vp, uint32_t target, uint8_t input_vtl, uint32_t name,
                uint64_t value) {
        struct {
                struct hv_input_vp_registers head;
                struct hv_register_assoc assoc;
        } in = { { .partition_id = HV_PARTITION_ID_SELF,
                   .vp_index = target,
                   .input_vtl = input_vtl },
                 { .name = name, .value = { .reg64 = value } } };

        return status_of(fx_call(f, vp, FX_CONTROL(HVCALL_SET_VP_REGISTERS, 1), &in, sizeof(in)));
}

uint64_t fx_vtl_call(struct fx *f, unsigned vp) {
        fx_cpu(f, vp)->regs.rax = 0;
        fx_cpu(f, vp)->regs.rcx = HVCALL_VTL_CALL;
        return fx_out(f, vp, HVPAGE_PORT_VTL_CALL, FX_OUT_CALL64);
}

uint64_t fx_vtl_return(struct fx *f, unsigned vp, bool fast) {
        fx_cpu(f, vp)->regs.rax = fast ? VTL_RETURN_FAST : 0;
        fx_cpu(f, vp)->regs.rcx = HVCALL_VTL_RETURN;
        return fx_out(f, vp, HVPAGE_PORT_VTL_RETURN, FX_OUT_RETURN64);
}

/* ---- Whole passages ---- */

void fx_start_vtl1(struct fx *f) {
        MUST(fx_enable_partition(f, 0) == HV_STATUS_SUCCESS);
        MUST(fx_enable_vp(f, 0, 0) == HV_STATUS_SUCCESS);
        MUST(fx_vtl_call(f, 0) == 0);
        MUST(fx_active(f, 0) == 1);
}

void fx_enable_protection(struct fx *f, unsigned vp) {
        MUST(fx_set(f, vp, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_PARTITION_CONFIG,
                    HV_VSM_ENABLE_VTL_PROTECTION | HV_MAP_GPA_ALL << HV_VSM_DEFAULT_MASK_SHIFT) ==
             0);
}

void fx_enable_intercepts(struct fx *f, unsigned vp, uint8_t vector) {
        MUST(fx_store(f, vp, LAPIC_BASE_RESET + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff) == 0);
        MUST(fx_wrmsr(f, vp, HV_MSR_SINT0, vector) == 0);
}
