/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How the record of a VM is laid out: for record.c and its tests. */

#include "daemon/partition.h"

#define RECORD_MAGIC 0x6472636572646c74ull /* "tldrecrd" */

enum record_flag {
        RECORD_PRECISE_FAULTS = 1u << 0,
        RECORD_VTL1_SEEN = 1u << 1,
        RECORD_LIBVIRT_BOUND = 1u << 2,
        RECORD_ALLOW_VTL1 = 1u << 3,
        RECORD_ALLOW_REGISTER_READ = 1u << 4,
        RECORD_RAN = 1u << 5,
        RECORD_VOUCHED = 1u << 6,
        RECORD_DECIDED_ALLOWED = 1u << 7,
        RECORD_FLAGS_ALL = (1u << 8) - 1,
};

struct record_head {
        uint64_t magic;
        uint32_t version;
        uint32_t worker_version;  /* what its worker speaks */
        uint32_t control_version; /* of its control memory */
        uint32_t size;            /* of everything */
        uint64_t sequence;
        uint64_t checksum; /* of what follows */
};

struct record_body {
        uint32_t flags;   /* enum record_flag */
        uint32_t options; /* bits in the order of struct vtl_options */
        uint32_t generation;
        uint32_t state; /* enum partition_state */
        uint32_t vps;
        uint32_t vmm_pid;
        uint32_t vmm_uid;
        uint32_t worker_pid;
        uint64_t attached_usec;
        uint64_t vp_vtl1_seen;
        uint8_t uuid[16];
        char name[VTL_ATTACH_NAME_SIZE];
        uint32_t apic_ids[VTL_ATTACH_VPS_MAX];
        /* libvirt */
        char domain[LIBVIRT_NAME_SIZE];
        char domain_policy[LIBVIRT_POLICY_SIZE + 3];
        uint32_t domain_run;
        /* What policy said */
        char rule[POLICY_NAME_SIZE + 3];
        uint32_t max_vps;
        uint32_t execute_enforcement;
        uint32_t dma_enforcement;
        uint32_t reserve_mappings;
        uint32_t strict_execute_pages;
        uint32_t n_measurements;
        uint8_t measurements[POLICY_MEASUREMENTS_MAX][POLICY_MEASUREMENT_SIZE];
        char refusal[DECIDE_TEXT_SIZE];
        /* What was measured */
        uint32_t measurement_state;
        uint32_t n_events;
        uint8_t digest[MEASURE_DIGEST_SIZE];
        uint8_t first[MEASURE_DIGEST_SIZE];
        uint8_t log_digest[MEASURE_DIGEST_SIZE];
        uint32_t reserved; /* 0 */
        uint64_t limit;
        uint64_t worker_sequence;
        uint64_t decided;
        uint64_t lost;
};

/* As many as there are, behind the body */
struct record_event {
        uint32_t event;
        uint32_t vp;
        uint64_t data[2];
        uint8_t digest[MEASURE_DIGEST_SIZE];
};

struct record_wire {
        struct record_head head;
        struct record_body body;
        struct record_event events[MEASURE_LOG_MAX];
};

/* Over the sequence number and @n bytes behind the head. Against a record that was written in part,
 * not against anybody: FNV-1a, by words */
uint64_t record_checksum(const struct record_head *h, const uint8_t *data, size_t n);
