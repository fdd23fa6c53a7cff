/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The engine in the VMM's own process: for vtlrun --engine=in-process, tests and benchmarks. No
 * policy, no bus. */

#include <sys/ioctl.h>

#include "hvcall/serve.h"
#include "vmm/internal.h"
#include "vtl/partition.h"

static int serve(struct vtlvmm_vcpu *vcpu) {
        /* A failure is in the action. */
        (void) vtl_engine_exit(vcpu->engine_vp);
        return 0;
}

static void free_engine(struct vtlvmm *v) {
        v->engine = vtl_partition_free(v->engine);
}

int vtlvmm_start_in_process(struct vtlvmm *v, bool allow_vtl1, const struct vtl_options *options) {
        struct vtl_region regions[STOCK_REGIONS_MAX];
        uint32_t apic_ids[VTL_MAX_VPS];
        struct vtl_partition *p;
        size_t n = 0;
        int r;

        r = vtlvmm_prepare(v);
        if (r < 0)
                return r;
        for (size_t i = 0; i < v->planes.n_regions; i++) {
                const struct stock_region *s = &v->planes.regions[i];

                if (s->fd >= 0)
                        regions[n++] =
                                (struct vtl_region){ .gpa = s->gpa,
                                                     .size = s->size,
                                                     .base = (uint8_t *) (uintptr_t) s->hva };
        }
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                apic_ids[i] = (uint32_t) v->planes.vps[i].id;
        r = vtl_partition_new(
                &(struct vtl_config){
                        .vps = v->planes.n_vps,
                        .apic_ids = apic_ids,
                        .regions = regions,
                        .n_regions = n,
                        .tsc_khz = v->tsc_khz,
                        .phys_bits = v->phys_bits,
                        .allow_vtl1 = allow_vtl1,
                        .options = *options,
                        .precise_faults = v->precise_faults,
                        .kernel_apic_msrs = v->planes.kernel_apic_msrs,
                        .kernel_hypercalls = v->planes.kernel_hypercalls,
                        .kernel_synic = v->planes.kernel_synic,
                        .control = v->control,
                        .overlay = v->overlay,
                        .ops = &plane_stock_ops,
                        .ops_ctx = &v->planes,
                        .hypercall = hvcall_serve,
                },
                &p);
        if (r < 0)
                return vtlvmm_fail(v, r, "the engine cannot start: %s", strerror(-r));
        v->engine = p;
        v->free_engine = free_engine;
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                v->vcpus[i].engine_vp = &p->vps[i];
        v->serve = serve;
        return 0;
}
