/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include "tests/must.h"
#include "tests/unit/state-guest.h"
#include "util/util.h"

#define SELF HV_PARTITION_ID_SELF
#define FAR_AWAY 36000000000ull /* an hour of reference time */

void state_guest_init_empty(struct fx *f, unsigned strict) {
        const struct vtl_options o = { .accept_cr_intercepts = true,
                                       .strict_execute_pages = strict };

        fx_init(f, &(struct fx_options){ .vps = STATE_VPS, .options = &o });
}

static void wrmsr(struct fx *f, uint32_t msr, uint64_t value) {
        MUST(fx_wrmsr(f, 0, msr, value) == 0);
}

static void post(struct fx *f, uint32_t type) {
        struct hv_input_post_message_direct in = {
                .partition_id = SELF, .vp_index = 0, .target_vtl = 1, .sint = 2
        };
        struct hv_message m = { .message_type = type, .payload_size = 1, .payload = { 7 } };

        memcpy(in.message, &m, sizeof(m));
        MUST(fx_call(f, 0, HVCALL_POST_MESSAGE_DIRECT, &in, sizeof(in)) == 0);
}

static void install(struct fx *f, uint32_t type, uint64_t parameter) {
        struct hv_input_install_intercept in = { .partition_id = SELF,
                                                 .access_type_mask = HV_INTERCEPT_MASK_WRITE,
                                                 .intercept_type = type,
                                                 .parameter = parameter };

        MUST(fx_call(f, 0, HVCALL_INSTALL_INTERCEPT, &in, sizeof(in)) == 0);
}

void state_guest_init(struct fx *f, unsigned strict) {
        static const uint64_t readonly[] = { STATE_READONLY >> 12, (STATE_READONLY >> 12) + 1,
                                             (STATE_READONLY >> 12) + 2, FX_RAM2 >> 12 };

        state_guest_init_empty(f, strict);
        wrmsr(f, HV_MSR_GUEST_OS_ID, 0x1234);
        wrmsr(f, HV_MSR_HYPERCALL, STATE_HYPERCALL | 1);
        wrmsr(f, HV_MSR_SIMP, STATE_SIMP0 | 1);
        wrmsr(f, HV_MSR_CRASH_P0, 0x77);
        fx_start_vtl1(f);
        MUST(fx_enable_vp(f, 0, 1) == 0); /* its context waits */
        fx_enable_protection(f, 0);
        MUST(fx_protect_page(f, 0, 0, STATE_CLOSED >> 12) == FX_RESULT(0, 1));
        MUST(fx_modify(f, 0, HV_MAP_GPA_READABLE, readonly, 4) == FX_RESULT(0, 4));
        wrmsr(f, HV_MSR_GUEST_OS_ID, 0x5678);
        wrmsr(f, HV_MSR_HYPERCALL, STATE_HYPERCALL | 1);
        wrmsr(f, HV_MSR_REFERENCE_TSC, STATE_TSC_PAGE | 1);
        wrmsr(f, HV_MSR_SIMP, STATE_SIMP | 1);
        wrmsr(f, HV_MSR_SIEFP, STATE_SIEFP | 1);
        wrmsr(f, HV_MSR_VP_ASSIST_PAGE, STATE_ASSIST | 1);
        wrmsr(f, HV_MSR_SINT0, 0x50);
        wrmsr(f, HV_MSR_SINT0 + 2, 0x52 | HV_SINT_POLLING);
        MUST(fx_store(f, 0, LAPIC_BASE_RESET + 0xf0, 4, LAPIC_SVR_ENABLE | 0xff) == 0);
        wrmsr(f, HV_MSR_STIMER0_CONFIG + 1, FAR_AWAY);
        wrmsr(f, HV_MSR_STIMER0_CONFIG, 1 | 1 << 3 | 2ull << 16);
        wrmsr(f, HV_MSR_STIMER0_CONFIG + 3, FAR_AWAY);
        wrmsr(f, HV_MSR_STIMER0_CONFIG + 2, 1 | 1 << 1 | 1ull << 12 | 0x61ull << 4);
        MUST(fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_VSM_VINA, 0x40 | HV_VINA_ENABLED) == 0);
        MUST(fx_set(f, 0, HV_VP_INDEX_SELF, 0, HV_REGISTER_CR_INTERCEPT_CONTROL,
                    1ull << HV_CR_INTERCEPT_LSTAR_WRITE) == 0);
        post(f, 0x10);
        post(f, 0x11); /* waits for the first one's slot */
        install(f, HV_INTERCEPT_X64_MSR_INDEX, 0x174);
        install(f, HV_INTERCEPT_X64_IO_PORT, 0x3f8);
        MUST(fx_vtl_return(f, 0, false) == 0);
        /* A store that VTL1 has been told of and has not decided about. */
        MUST(fx_store(f, 0, STATE_CLOSED + 8, 4, 0x11223344) == 0);
        MUST(f->error == 0 && fx_vp(f, 0)->n_stores == 1);
        vtl_state_pause(f->p);
}

int state_guest_ask(struct fx *f, enum vtl_state_request request, uint64_t data) {
        const struct vtl_exit e = {
                .kind = VTL_EXIT_STATE,
                .plane = fx_active(f, 0),
                .port = request,
                .data = data,
        };
        int r = fx_serve(f, 0, &e);

        return r < 0 ? r : -(int) fx_ctl(f, 0)->action.data;
}

int state_guest_save(struct fx *f, struct blob *ret) {
        int r;

        f->model->saved = ret;
        r = state_guest_ask(f, VTL_STATE_SAVE, 0);
        f->model->saved = NULL;
        return r;
}

int state_guest_load(struct fx *f, const void *data, size_t size) {
        int r;

        f->model->loading = data;
        f->model->loading_left = size;
        r = state_guest_ask(f, VTL_STATE_LOAD, size);
        f->model->loading = NULL;
        return r;
}

bool state_guest_is_open(const struct fx *f) {
        for (uint64_t gpn = 0; gpn < 0x400; gpn++)
                for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                        if (plane_model_rights(f->model, plane, gpn) !=
                            (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE))
                                return false;
        return plane_model_mappings(f->model, 0) == 2 && plane_model_mappings(f->model, 1) == 2;
}
