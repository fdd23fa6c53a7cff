/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Virtual registers and identities: vsm.md 3.7, 3.8, 3.14, and the extended capabilities. */

#include "hvcall/calls.h"
#include "hvcall/vp-set.h"
#include "hvcall/wire.h"
#include "util/util.h"
#include "vtl/engine.h"

/* scratch[0]: the target VP's index, scratch[1]: the target VTL */
int hvcall_registers_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        const struct hv_input_vp_registers *in = c->input;
        struct vtl_vp *vp = c->vp;
        uint32_t index = in->vp_index == HV_VP_INDEX_SELF ? vp->index : in->vp_index;
        unsigned vtl;
        int r;

        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_ACCESS_DENIED;
        r = input_vtl_resolve(vp, in->input_vtl, &vtl);
        if (r != 0)
                return r;
        if (index >= vp->partition->n_vps)
                return HV_STATUS_INVALID_VP_INDEX;
        if (vtl > vp->active_vtl)
                return HV_STATUS_ACCESS_DENIED;
        c->scratch[0] = index;
        c->scratch[1] = vtl;
        return 0;
}

static struct vtl_vp *target(const struct hv_call_ctx *c) {
        struct vtl_vp *vp = c->vp;

        return &vp->partition->vps[c->scratch[0]];
}

int hvcall_get_vp_registers(struct hv_call_ctx *c) {
        union hv_register_value value = { 0 };
        uint32_t name;
        int r;

        memcpy(&name, c->elem_in, sizeof(name));
        r = vtl_register_get(c->vp, target(c), (unsigned) c->scratch[1], name, &value);
        if (r == 0)
                memcpy(c->elem_out, &value, sizeof(value));
        return r;
}

int hvcall_set_vp_registers(struct hv_call_ctx *c) {
        struct hv_register_assoc assoc;
        union hv_register_value value;

        memcpy(&assoc, c->elem_in, sizeof(assoc));
        memcpy(&value, &assoc.value, sizeof(value));
        return vtl_register_set(c->vp, target(c), (unsigned) c->scratch[1], assoc.name, &value);
}

int hvcall_apic_id_prepare(struct hv_call_ctx *c, uint16_t *ret_done) {
        const struct hv_input_get_vp_index_from_apic_id *in = c->input;
        const struct vtl_vp *vp = c->vp;

        if (in->target_vtl > VTL_ENCODING_MAX)
                return HV_STATUS_INVALID_PARAMETER;
        if (in->partition_id != HV_PARTITION_ID_SELF)
                return HV_STATUS_INVALID_PARTITION_ID;
        return in->target_vtl > vp->active_vtl ? HV_STATUS_ACCESS_DENIED : 0;
}

int hvcall_get_vp_index_from_apic_id(struct hv_call_ctx *c) {
        const struct vtl_vp *vp = c->vp;
        const struct vtl_partition *p = vp->partition;
        uint32_t id;

        memcpy(&id, c->elem_in, sizeof(id));
        for (uint32_t i = 0; i < p->n_vps; i++)
                if (p->vps[i].apic_id == id) {
                        memcpy(c->elem_out, &i, sizeof(i));
                        return 0;
                }
        return HV_STATUS_INVALID_PARAMETER;
}

/* No extended call beyond this one is offered. */
int hvcall_ext_query_capabilities(struct hv_call_ctx *c) {
        struct hv_output_ext_query_capabilities *out = c->output;

        out->capabilities = 0;
        return 0;
}
