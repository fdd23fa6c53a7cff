/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A VM as the broker knows it: who attached it, what policy said, how its worker does, and what the
 * control memory says about it. This is what the bus shows.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-event.h>
#include <uthash.h>

#include "daemon/decide.h"
#include "daemon/measurement.h"
#include "daemon/partition-libvirt.h"
#include "daemon/protocol.h"
#include "daemon/worker-proto.h"
#include "util/log.h"
#include "vtl/control.h"

struct broker;
struct connection;
struct fd_store;
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
        uint64_t announced[13];
        uint32_t announced_vps[VTL_ATTACH_VPS_MAX];
        uint64_t last_usec;
        sd_event_source *timer;
};

/* Who waits for what the worker alone knows; see bus-ask.c */
STAILQ_HEAD(bus_question_list, bus_question);
struct partition_questions {
        struct bus_question_list waiting; /* the first one is the worker's now */
        unsigned n_waiting;
        uint64_t token; /* of that question */
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
        char refusal[DECIDE_TEXT_SIZE]; /* why VTL1 is refused although the rule allows it; or "" */
        struct measurement measurement;
        struct worker_handle *worker;
        pid_t worker_pid;       /* 0: none */
        int link_fd;            /* the VMM's end, until START is answered */
        sd_event_source *grace; /* the worker ended because the link did: is the VMM going too? */
        const uint8_t *control; /* read-only mapping */
        size_t control_size;
        struct partition_libvirt libvirt;

        /* For the next broker; see partition-store.c */
        int record_fd; /* -1: nothing is kept */
        uint64_t record_sequence;
        uint32_t generation; /* how many brokers its worker has had before this one */
        bool left;           /* another one may know what to do with its worker */

        /* The bus code's */
        char *bus_path;
        struct partition_vp vp_objects[VTL_ATTACH_VPS_MAX];
        struct partition_changes changes;
        struct partition_questions questions;
        uint64_t trace_renewed; /* when the worker was last told to write traces */
        bool vtl1_seen;         /* VtlEnabled was emitted */
        uint64_t vp_vtl1_seen;  /* the same per VP, bitmap */
        struct log_ratelimit violation_limit;
        struct log_ratelimit denied_limit;
        struct log_ratelimit fact_limits[3]; /* partition-facts.c */
        struct log_ratelimit log_limit;
};

/**
 * partition_new() - a VM has been attached
 *
 * It is in broker.partitions and on the bus when this returns 0.
 *
 * @identity: whose process the VMM is
 *
 * Return: 0, -EEXIST, -EUSERS, -EPERM by policy, or another negative errno.
 */
int partition_new(struct broker *b, struct connection *c, const struct protocol_vm *vm,
                  pid_t vmm_pid, uid_t vmm_uid, const struct identity *identity,
                  struct partition **ret, const char **ret_why);

/* Off the bus, out of the table, the worker released. */
struct partition *partition_free(struct partition *p);

/* Starts the worker; connection_started() or connection_start_failed() follows. */
int partition_start(struct partition *p, const struct protocol_vm *vm, const char **ret_why);
void partition_pause(struct partition *p, bool paused);

/* What policy goes by has changed: counts until the worker is started. */
void partition_decide_again(struct partition *p);

/* The state, and what else the bus and the next broker see of it */
void partition_set_state(struct partition *p, enum partition_state state);

/* A partition of this broker that has nothing yet, or NULL */
struct partition *partition_allocate(struct broker *b);
/* Into the table and onto the bus */
void partition_publish(struct partition *p);

/* What workers say to their partitions */
extern const struct worker_callbacks partition_worker_callbacks;

/* ---- partition-store.c: what outlives the broker ---- */

/* Its worker runs: from here on another broker can go on with it. Before START is answered. */
void partition_store(struct partition *p);

/* What is written down of it has changed: now, before anybody acts on it. */
void partition_stored_changed(struct partition *p);

/* It is gone, or nothing that can be gone on with. */
void partition_store_forget(struct partition *p);

/**
 * partition_adopt_all() - go on with the VMs of the broker before
 * @store: what the service manager has kept; nothing is left in it afterwards
 *
 * What cannot be gone on with is left to itself, with a line in the log.
 */
void partition_adopt_all(struct broker *b, struct fd_store *store);

/* ---- What the control memory says: each field is copied once, and is the worker's word ---- */

const struct vtl_control_header *partition_header(const struct partition *p);
const struct vtl_control_vp *partition_vp(const struct partition *p, unsigned vp);

/* Fields of every message about a VM; more may follow. */
struct log_fields partition_log_fields(const struct partition *p);

#define control_read(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
