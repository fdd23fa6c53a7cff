/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a saved partition consists of: one table per kind of section, one row per field. Both
 * directions follow the tables, so that nothing is written that is not checked when it is read.
 */

#include "util/blob.h"
#include "vtl/partition.h"

enum state_kind {
        STATE_SHAPE,     /* what has to be the same where it is loaded */
        STATE_PARTITION, /* struct vtl_partition */
        STATE_EXTRA,     /* struct state_extra */
        STATE_VP,        /* struct state_vp, by VP */
        STATE_APIC,      /* struct lapic of VTL1, by VP */
        STATE_VTL,       /* struct vtl_vp_vtl, by VP and VTL */
        STATE_MESSAGES,  /* that wait for their slot, by VP and VTL */
        STATE_STORES,    /* that VTL1 has to decide about, by VP */
        STATE_OVERLAY,   /* contents of a page of the overlay memory, by page */
        STATE_PROTECT,   /* runs of pages with a mask of their own */
        STATE_MSRS,      /* struct plane_msr_filter that VTL1 installed */
        STATE_PORTS,     /* struct plane_port_filter that it installed */
        STATE_STRICT,    /* runs of pages that strict mode closes */
        _STATE_KIND_MAX,
};

/* @mask: bits that an element may have. Elements are of 1, 2, 4 or 8 bytes. */
struct state_field {
        uint32_t offset;
        uint32_t size;
        uint32_t count;
        uint64_t mask;
};

struct state_table {
        uint32_t id;
        uint32_t version;
        const struct state_field *fields; /* NULL: a format of its own */
        size_t n_fields;
};
extern const struct state_table state_tables[_STATE_KIND_MAX];

/* State that is in no engine structure, but goes with it */
struct state_extra {
        uint64_t reference_time; /* while the TSC does not give it */
        uint64_t unenforced, unenforced_cr;
        uint64_t crash[HV_CRASH_PARAMETERS];
        uint32_t crash_vtl, crashes;
};

struct state_vp {
        struct vtl_vp vp;
        uint32_t suspended_vtls, vtl1_cr8; /* of its control page */
};

struct state_shape {
        uint32_t vps, n_regions, phys_bits, hypercall_page;
        uint64_t tsc_khz;
        uint8_t kernel_apic_msrs, kernel_hypercalls, kernel_synic;
        /* APIC IDs, then address and size of each region follow. */
};

#define STATE_RUN_MASK_SHIFT 60
struct state_run {
        uint64_t gpn_and_mask;
        uint64_t count;
};

struct state_message {
        uint32_t sint;
        uint32_t reserved;
        struct hv_message message;
};

void state_shape_of(const struct vtl_partition *p, struct state_shape *ret);
size_t state_size(enum state_kind kind);
void state_pack(struct blob *b, enum state_kind kind, const void *object);
/* Return: 0 or -EBADMSG. @data has state_size() bytes. */
int state_unpack(enum state_kind kind, void *object, const uint8_t *data);
