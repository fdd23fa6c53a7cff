/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "util/util.h"
#include "vtl/hvpage.h"
#include "vtl/state-fields.h"

#define ANY UINT64_MAX
#define GPN_MSR (UINT64_MAX & ~HV_MSR_PAGE_RESERVED)

#define ELEMENT(type, member) sizeof(((const type *) NULL)->member)
#define FIELD(type, member, bits)                                                            \
        {                                                                                    \
                .offset = offsetof(type, member), .size = ELEMENT(type, member), .count = 1, \
                .mask = bits                                                                 \
        }
#define FIELDS(type, member, bits)                                                      \
        {                                                                               \
                .offset = offsetof(type, member), .size = ELEMENT(type, member[0]),     \
                .count = ELEMENT(type, member) / ELEMENT(type, member[0]), .mask = bits \
        }
/* A structure of the guest's, any bytes */
#define BYTES(type, member) \
        { .offset = offsetof(type, member), .size = 1, .count = ELEMENT(type, member), .mask = ANY }

static const struct state_field shape_fields[] = {
        FIELD(struct state_shape, vps, ANY),
        FIELD(struct state_shape, n_regions, ANY),
        FIELD(struct state_shape, phys_bits, ANY),
        FIELD(struct state_shape, hypercall_page, ANY),
        FIELD(struct state_shape, tsc_khz, ANY),
        FIELD(struct state_shape, kernel_apic_msrs, 1),
        FIELD(struct state_shape, kernel_hypercalls, 1),
        FIELD(struct state_shape, kernel_synic, 1),
};

static const struct state_field partition_fields[] = {
        FIELD(struct vtl_partition, enabled_vtls, 3),
        FIELD(struct vtl_partition, vp_vtl1_enabled, 1),
        FIELD(struct vtl_partition, mbec, 1),
        FIELD(struct vtl_partition, partition_config, 0x7f),
        FIELDS(struct vtl_partition, guest_os_id, ANY),
        FIELDS(struct vtl_partition, hypercall_msr, UINT64_MAX & ~HV_MSR_HYPERCALL_RESERVED),
        FIELDS(struct vtl_partition, tsc_msr, GPN_MSR),
        FIELD(struct vtl_partition, tsc_scale, ANY),
        FIELD(struct vtl_partition, tsc_offset, ANY),
        FIELD(struct vtl_partition, tsc_known, 1),
        FIELD(struct vtl_partition, tsc_sequence, ANY),
        FIELD(struct vtl_partition, kernel_stopped, 1),
};

static const struct state_field extra_fields[] = {
        FIELD(struct state_extra, reference_time, ANY),
        FIELD(struct state_extra, unenforced, VTL_UNENFORCED_ALL),
        FIELD(struct state_extra, unenforced_cr, ANY),
        FIELDS(struct state_extra, crash, ANY),
        FIELD(struct state_extra, crash_vtl, 1),
        FIELD(struct state_extra, crashes, ANY),
};

static const struct state_field vp_fields[] = {
        FIELD(struct state_vp, vp.active_vtl, 1),
        FIELD(struct state_vp, vp.enabled_vtls, 3),
        FIELD(struct state_vp, vp.nmi_pending, 1),
        FIELD(struct state_vp, vp.start_pending, 1),
        FIELD(struct state_vp, vp.start_vtl0, 1),
        BYTES(struct state_vp, vp.start_context),
        FIELD(struct state_vp, vp.started, 1),
        FIELD(struct state_vp, vp.halted, 1),
        FIELD(struct state_vp, vp.idle, 1),
        FIELD(struct state_vp, vp.lazy_eoi, ANY),
        FIELD(struct state_vp, vp.protected_mode_seen, 1),
        FIELDS(struct state_vp, vp.crash, ANY),
        FIELD(struct state_vp, vp.exact_entry, 1),
        FIELD(struct state_vp, vp.context_pending, 1),
        BYTES(struct state_vp, vp.context),
        FIELD(struct state_vp, vp.vina, UINT64_MAX & ~HV_VINA_RESERVED),
        FIELD(struct state_vp, vp.secure_config, HV_SECURE_CONFIG_MBEC),
        FIELDS(struct state_vp, vp.pending_event0, ANY),
        FIELD(struct state_vp, vp.store_reported, 1),
        FIELD(struct state_vp, vp.tlb_locked, 1),
        FIELD(struct state_vp, vp.flush_waits, ANY),
        FIELD(struct state_vp, vp.flush_vtls, 3),
        FIELD(struct state_vp, suspended_vtls, 1),
        FIELD(struct state_vp, vtl1_cr8, 0xf),
};

static const struct state_field apic_fields[] = {
        FIELD(struct lapic, base_msr, ANY),
        FIELD(struct lapic, id, ANY),
        FIELD(struct lapic, tpr, 0xff),
        FIELD(struct lapic, svr, 0x3ff),
        FIELD(struct lapic, ldr, 0xff000000),
        FIELD(struct lapic, dfr, UINT32_MAX),
        FIELD(struct lapic, esr, 0xff),
        FIELD(struct lapic, errors, 0xff),
        FIELDS(struct lapic, irr, UINT32_MAX),
        FIELDS(struct lapic, isr, UINT32_MAX),
        FIELDS(struct lapic, tmr, UINT32_MAX),
        FIELDS(struct lapic, auto_eoi, UINT32_MAX),
        FIELD(struct lapic, icr, 0xffffffff000cdfff),
        FIELDS(struct lapic, lvt, 0x7f7ff),
        FIELD(struct lapic, timer_initial, UINT32_MAX),
        FIELD(struct lapic, timer_divide, 0xb),
        FIELD(struct lapic, timer_due, ANY),
        FIELD(struct lapic, tsc_deadline, ANY),
};

#define STIMER(n)                                                          \
        FIELD(struct vtl_vp_vtl, synic.stimer[n].config, ANY),             \
                FIELD(struct vtl_vp_vtl, synic.stimer[n].count, ANY),      \
                FIELD(struct vtl_vp_vtl, synic.stimer[n].due, ANY),        \
                FIELD(struct vtl_vp_vtl, synic.stimer[n].expired_at, ANY), \
                FIELD(struct vtl_vp_vtl, synic.stimer[n].message_pending, 1)

static const struct state_field vtl_fields[] = {
        FIELD(struct vtl_vp_vtl, synic.scontrol, ANY),
        FIELD(struct vtl_vp_vtl, synic.siefp, ANY),
        FIELD(struct vtl_vp_vtl, synic.simp, ANY),
        FIELD(struct vtl_vp_vtl, synic.sirbp, ANY),
        FIELDS(struct vtl_vp_vtl, synic.sint, ANY),
        STIMER(0),
        STIMER(1),
        STIMER(2),
        STIMER(3),
        FIELD(struct vtl_vp_vtl, assist_msr, GPN_MSR),
        FIELDS(struct vtl_vp_vtl, cr_intercept, ANY),
};
_Static_assert(VTL_STIMERS == 4, "a row for each");

#define TABLE(name) name, ARRAY_SIZE(name)

/* A field that comes, goes or changes its meaning is a new version of its section. */
const struct state_table state_tables[_STATE_KIND_MAX] = {
        [STATE_SHAPE] = { BLOB_ID('S', 'H', 'A', 'P'), 1, TABLE(shape_fields) },
        [STATE_PARTITION] = { BLOB_ID('P', 'A', 'R', 'T'), 1, TABLE(partition_fields) },
        [STATE_EXTRA] = { BLOB_ID('X', 'T', 'R', 'A'), 1, TABLE(extra_fields) },
        [STATE_VP] = { BLOB_ID('V', 'P', ' ', ' '), 1, TABLE(vp_fields) },
        [STATE_APIC] = { BLOB_ID('A', 'P', 'I', 'C'), 1, TABLE(apic_fields) },
        [STATE_VTL] = { BLOB_ID('V', 'T', 'L', ' '), 1, TABLE(vtl_fields) },
        [STATE_MESSAGES] = { BLOB_ID('M', 'S', 'G', 'S'), 1, NULL, 0 },
        [STATE_STORES] = { BLOB_ID('S', 'T', 'O', 'R'), 1, NULL, 0 },
        [STATE_OVERLAY] = { BLOB_ID('O', 'V', 'E', 'R'), 1, NULL, 0 },
        [STATE_PROTECT] = { BLOB_ID('P', 'R', 'O', 'T'), 1, NULL, 0 },
        [STATE_MSRS] = { BLOB_ID('M', 'S', 'R', 'S'), 1, NULL, 0 },
        [STATE_PORTS] = { BLOB_ID('P', 'O', 'R', 'T'), 1, NULL, 0 },
        [STATE_STRICT] = { BLOB_ID('S', 'T', 'R', 'I'), 1, NULL, 0 },
};

void state_shape_of(const struct vtl_partition *p, struct state_shape *ret) {
        *ret = (struct state_shape){
                .vps = p->n_vps,
                .n_regions = (uint32_t) p->n_regions,
                .phys_bits = p->phys_bits,
                .hypercall_page = p->config.kernel_hypercalls ? hvpage_kernel_kind() : HVPAGE_PLAIN,
                .tsc_khz = p->config.tsc_khz,
                .kernel_apic_msrs = p->config.kernel_apic_msrs,
                .kernel_hypercalls = p->config.kernel_hypercalls,
                .kernel_synic = p->config.kernel_synic,
        };
}

size_t state_size(enum state_kind kind) {
        const struct state_table *t = &state_tables[kind];
        size_t n = 0;

        for (size_t i = 0; i < t->n_fields; i++)
                n += (size_t) t->fields[i].size * t->fields[i].count;
        return n;
}

void state_pack(struct blob *b, enum state_kind kind, const void *object) {
        const struct state_table *t = &state_tables[kind];

        for (size_t i = 0; i < t->n_fields; i++)
                blob_put(b, (const uint8_t *) object + t->fields[i].offset,
                         (size_t) t->fields[i].size * t->fields[i].count);
}

static uint64_t number(const uint8_t *data, size_t size) {
        uint64_t v = 0;

        memcpy(&v, data, size);
        return v;
}

/* Each element is checked before it becomes part of an object: not every byte is a bool. */
int state_unpack(enum state_kind kind, void *object, const uint8_t *data) {
        const struct state_table *t = &state_tables[kind];

        for (size_t i = 0; i < t->n_fields; i++) {
                const struct state_field *f = &t->fields[i];

                for (uint32_t k = 0; k < f->count; k++, data += f->size) {
                        if (number(data, f->size) & ~f->mask)
                                return -EBADMSG;
                        memcpy((uint8_t *) object + f->offset + (size_t) k * f->size, data,
                               f->size);
                }
        }
        return 0;
}
