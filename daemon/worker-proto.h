/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Messages between the broker and a worker, over a SEQPACKET pair. Both are one binary, so the
 * layout is that of one build; the broker still checks what a worker says, since a worker may have
 * been taken over by its guest.
 *
 * A worker outlives its broker, and another build may be the next: WORKER_HELLO says which. The end
 * of the pair that was the broker's is kept open by the service manager meanwhile, so messages wait
 * there; a worker whose messages find no more room goes on without them.
 */

#include <stdint.h>

#include "daemon/protocol.h"
#include "vtl/inspect.h"
#include "vtl/options.h"

/* Counts up when a message other than WORKER_CONFIG changes. */
#define WORKER_PROTOCOL_VERSION 1u

enum worker_message_type {
        WORKER_CONFIG = 1, /* broker: what to serve, first and once */
        WORKER_QUIT,       /* broker: the VM was detached */
        WORKER_READY,      /* worker: the engine waits at the control memory */
        WORKER_REFUSED,    /* worker: cannot serve this VM; ends */
        WORKER_EVENT,      /* worker: a rare fact */
        WORKER_RECORD,     /* worker: for the measurement log */
        WORKER_MEASURED,   /* worker: VTL1 was measured; may it run? */
        WORKER_DECISION, /* broker: whether it may; what: 1 or 0, data: sequence of the question */
        WORKER_TRACE,    /* broker: somebody reads the traces */
        WORKER_GET_MAP,  /* broker: the protections from page gpa on, please; data: a token */
        WORKER_MAP,      /* worker: some of them; struct worker_map */
        WORKER_GET_REGISTERS, /* broker: those of VTL what on VP vp, please; data: a token */
        WORKER_REGISTERS,     /* worker: they are; struct worker_registers */
        WORKER_HELLO, /* to a worker that runs, and back the same; what: version, data: a token */
        WORKER_BYE,   /* worker: ends, because the VMM has closed its end of the link */
        _WORKER_MESSAGE_MAX,
};

/* worker_config.flags */
#define WORKER_ALLOW_VTL1 0x1u
#define WORKER_PRECISE_FAULTS 0x2u
#define WORKER_KERNEL_APIC_MSRS 0x4u
#define WORKER_KERNEL_HYPERCALLS 0x8u
#define WORKER_KERNEL_SYNIC 0x10u
#define WORKER_REQUIRE_MEASUREMENT 0x20u

/* Descriptors: the worker's end of the link, control, overlay, one per region, one kick pipe per
 * VP. */
struct worker_config {
        uint32_t type;
        int32_t log_level;
        uint32_t flags;
        uint32_t vps;
        uint32_t n_regions;
        uint32_t phys_bits;
        uint64_t tsc_khz;
        struct vtl_options options;
        uint64_t measure_limit;
        char uuid[UUID_TEXT_SIZE + 3];
        uint32_t apic_ids[VTL_ATTACH_VPS_MAX];
        struct vtl_message_region regions[VTL_ATTACH_REGIONS_MAX];
};

#define WORKER_CONFIG_FDS_FIXED 3u
#define WORKER_CONFIG_FDS_MAX \
        (WORKER_CONFIG_FDS_FIXED + VTL_ATTACH_REGIONS_MAX + VTL_ATTACH_VPS_MAX)

/* worker_notice.flags */
#define WORKER_EVENTS_LOST \
        0x1u /* events before this one could not be sent: look at the control memory */

/* WORKER_READY, WORKER_REFUSED, WORKER_EVENT, WORKER_QUIT, WORKER_DECISION, WORKER_HELLO,
 * WORKER_BYE */
struct worker_notice {
        uint32_t type;
        uint32_t flags;
        uint32_t what; /* enum vtl_event */
        uint32_t vp;
        uint64_t gpa;
        uint64_t data;
        int32_t error; /* WORKER_REFUSED: negative errno */
        char text[92]; /* WORKER_REFUSED: what could not be done */
};
_Static_assert(sizeof(struct worker_notice) == 128, "no padding");

/* worker_record.flags, of WORKER_MEASURED */
#define WORKER_MEASURED_ENTRY 0x1u     /* VTL1 is about to run; otherwise it is being enabled */
#define WORKER_MEASURED_UNBOUNDED 0x2u /* it is beyond the limit, and there is no digest */

/* WORKER_RECORD, WORKER_MEASURED */
struct worker_record {
        uint32_t type;
        uint32_t flags;
        uint32_t event; /* WORKER_RECORD: enum measure_event */
        uint32_t vp;
        uint64_t data[2];  /* WORKER_MEASURED: bytes of pages */
        uint64_t sequence; /* of these messages, from 1: one that is missing was lost */
        uint8_t digest[48];
        uint8_t reserved[40];
};
_Static_assert(sizeof(struct worker_record) == sizeof(struct worker_notice), "one size for all");

/* How long a worker tries to answer WORKER_GET_MAP and WORKER_GET_REGISTERS, before it says -EBUSY;
 * and how long each try waits for the partition's lock. */
#define WORKER_ANSWER_NS UINT64_C(5000000000)
#define WORKER_LOCK_NS 2000000u

#define WORKER_MAP_RUNS_MAX 512u

struct worker_map_run {
        uint64_t gpn;
        uint64_t count;
        uint32_t mask; /* HV_MAP_GPA_* */
        uint32_t reserved;
};

/* WORKER_MAP: as long as its runs are */
struct worker_map {
        uint32_t type;
        uint32_t n;
        int32_t error; /* negative errno: there are none */
        uint32_t reserved;
        uint64_t token; /* of the question */
        uint64_t next;  /* where to go on; UINT64_MAX: that was all */
        struct worker_map_run runs[WORKER_MAP_RUNS_MAX];
};

/* WORKER_REGISTERS: in the order of vtl_inspect_names */
struct worker_registers {
        uint32_t type;
        uint32_t n;
        int32_t error; /* negative errno: there are none */
        uint32_t reserved;
        uint64_t token; /* of the question */
        union hv_register_value values[VTL_INSPECT_MAX];
};
