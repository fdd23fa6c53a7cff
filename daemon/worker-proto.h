/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Messages between the broker and a worker, over a SEQPACKET pair. Both are one binary, so the
 * layout is that of one build; the broker still checks what a worker says, since a worker may have
 * been taken over by its guest.
 */

#include <stdint.h>

#include "daemon/protocol.h"

enum worker_message_type {
        WORKER_CONFIG = 1, /* broker: what to serve, first and once */
        WORKER_QUIT,       /* broker: the VM was detached */
        WORKER_READY,      /* worker: the engine waits at the control memory */
        WORKER_REFUSED,    /* worker: cannot serve this VM; ends */
        WORKER_EVENT,      /* worker: a rare fact */
        _WORKER_MESSAGE_MAX,
};

/* worker_config.flags */
#define WORKER_ALLOW_VTL1 0x1u
#define WORKER_PRECISE_FAULTS 0x2u
#define WORKER_KERNEL_APIC_MSRS 0x4u

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

/* WORKER_READY, WORKER_REFUSED, WORKER_EVENT */
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
