/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A VM as the broker knows it: who attached it, what policy said, how its worker does, and what the
 * control memory says about it. This is what the bus shows.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include <uthash.h>

#include "daemon/protocol.h"
#include "daemon/worker-proto.h"
#include "policy/policy.h"
#include "util/log.h"
#include "vtl/control.h"

struct broker;
struct connection;
struct worker_handle;

enum partition_state {
        PARTITION_ATTACHED, /* VPs are added, nothing runs */
        PARTITION_STARTING, /* its worker starts */
        PARTITION_RUNNING,
        PARTITION_PAUSED,
        PARTITION_STOPPED, /* the engine gave up on the guest */
        PARTITION_FAILED,  /* the worker is gone */
        _PARTITION_STATE_MAX,
};

const char *partition_state_to_string(enum partition_state s);

/* What the bus has not been told yet, and when it was told last; see bus-changes.c */
struct partition_changes {
        bool partition;
        uint64_t vps; /* bitmap */
        uint64_t announced[7];
        uint32_t announced_vps[VTL_ATTACH_VPS_MAX];
        uint64_t last_usec;
        sd_event_source *timer;
};

/* A VP, as an object of the bus */
struct partition_vp {
        struct partition *partition;
        unsigned index;
};

struct partition {
        UT_hash_handle hh; /* in broker.partitions, by uuid */
        struct broker *broker;
        struct connection *connection;
        uint8_t uuid[16];
        char uuid_text[UUID_TEXT_SIZE];
        char name[VTL_ATTACH_NAME_SIZE];
        unsigned vps;
        uint32_t apic_ids[VTL_ATTACH_VPS_MAX];
        bool precise_faults;
        pid_t vmm_pid;
        uid_t vmm_uid;
        uint64_t attached_usec; /* CLOCK_REALTIME */
        enum partition_state state;
        struct policy_decision decision;
        struct worker_handle *worker;
        pid_t worker_pid;       /* 0: none */
        int link_fd;            /* the VMM's end, until START is answered */
        sd_event_source *grace; /* the worker ended because the link did: is the VMM going too? */
        const uint8_t *control; /* read-only mapping */
        size_t control_size;

        /* The bus code's */
        char *bus_path;
        struct partition_vp vp_objects[VTL_ATTACH_VPS_MAX];
        struct partition_changes changes;
        bool vtl1_seen;        /* VtlEnabled was emitted */
        uint64_t vp_vtl1_seen; /* the same per VP, bitmap */
        struct log_ratelimit violation_limit;
        struct log_ratelimit denied_limit;
        struct log_ratelimit log_limit;
};

/**
 * partition_new() - a VM has been attached
 *
 * It is in broker.partitions and on the bus when this returns 0.
 *
 * Return: 0, -EEXIST, -EUSERS, or another negative errno.
 */
int partition_new(struct broker *b, struct connection *c, const struct protocol_vm *vm,
                  pid_t vmm_pid, uid_t vmm_uid, struct partition **ret, const char **ret_why);

/* Off the bus, out of the table, the worker released. */
struct partition *partition_free(struct partition *p);

/* Starts the worker; connection_started() or connection_start_failed() follows. */
int partition_start(struct partition *p, const struct protocol_vm *vm, const char **ret_why);
void partition_pause(struct partition *p, bool paused);

/* ---- What the control memory says: each field is copied once, and is the worker's word ---- */

const struct vtl_control_header *partition_header(const struct partition *p);
const struct vtl_control_vp *partition_vp(const struct partition *p, unsigned vp);

#define control_read(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
