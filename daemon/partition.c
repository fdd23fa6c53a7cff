/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/mman.h>
#include <time.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/connection.h"
#include "daemon/partition.h"
#include "daemon/worker-handle.h"
#include "util/util.h"
#include "vtl/hvdef.h"
#include "vtl/partition.h"

#define LINK_GRACE_USEC (1000u * 1000)

static const char *const state_names[_PARTITION_STATE_MAX] = {
        [PARTITION_ATTACHED] = "attached", [PARTITION_STARTING] = "starting",
        [PARTITION_RUNNING] = "running",   [PARTITION_PAUSED] = "paused",
        [PARTITION_STOPPED] = "stopped",   [PARTITION_FAILED] = "failed",
};

const char *partition_state_to_string(enum partition_state s) {
        return state_names[s];
}

const struct vtl_control_header *partition_header(const struct partition *p) {
        return (const struct vtl_control_header *) p->control;
}

const struct vtl_control_vp *partition_vp(const struct partition *p, unsigned vp) {
        return (const struct vtl_control_vp *) (p->control + VTL_CONTROL_HEADER_SIZE +
                                                (size_t) vp * VTL_CONTROL_VP_SIZE);
}

static void set_state(struct partition *p, enum partition_state state) {
        if (p->state == state)
                return;
        p->state = state;
        bus_partition_changed(p);
}

static uint64_t realtime_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void decide(struct partition *p) {
        const struct policy_subject s = { .name = p->name,
                                          .uuid = p->uuid_text,
                                          .uid = p->vmm_uid };

        policy_decide(p->broker->policy, &s, &p->decision);
}

int partition_new(struct broker *b, struct connection *c, const struct protocol_vm *vm,
                  pid_t vmm_pid, uid_t vmm_uid, struct partition **ret, const char **ret_why) {
        struct partition *p, *other;
        char name[4 * VTL_ATTACH_NAME_SIZE];
        void *control;

        HASH_FIND(hh, b->partitions, vm->uuid, sizeof(vm->uuid), other);
        if (other) {
                *ret_why = "a VM of this UUID is attached already";
                return -EEXIST;
        }
        if (HASH_COUNT(b->partitions) >= b->max_vms) {
                *ret_why = "as many VMs are attached as this vtld serves";
                return -EUSERS;
        }
        p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        p->broker = b;
        p->connection = c;
        p->link_fd = -1;
        memcpy(p->uuid, vm->uuid, sizeof(p->uuid));
        memcpy(p->uuid_text, vm->uuid_text, sizeof(p->uuid_text));
        memcpy(p->name, vm->name, sizeof(p->name));
        memcpy(p->apic_ids, vm->apic_ids, sizeof(p->apic_ids));
        p->vps = vm->vps;
        p->precise_faults = vm->precise_faults;
        p->vmm_pid = vmm_pid;
        p->vmm_uid = vmm_uid;
        p->attached_usec = realtime_usec();
        p->control_size = vtl_control_size(vm->vps);
        control = mmap(NULL, p->control_size, PROT_READ, MAP_SHARED, vm->control_fd, 0);
        if (control == MAP_FAILED) {
                int r = -errno;

                *ret_why = "the control memory cannot be mapped";
                free(p);
                return r;
        }
        p->control = control;
        for (unsigned i = 0; i < ARRAY_SIZE(p->vp_objects); i++)
                p->vp_objects[i] = (struct partition_vp){ .partition = p, .index = i };
        decide(p);
        HASH_ADD(hh, b->partitions, uuid, sizeof(p->uuid), p);
        bus_partition_added(p);
        broker_partitions_changed(b);
        log_info("VM %s (%s) attached by process %d of user %u: %u VPs", p->uuid_text,
                 log_escape(name, sizeof(name), p->name), (int) vmm_pid, vmm_uid, p->vps);
        *ret = p;
        return 0;
}

struct partition *partition_free(struct partition *p) {
        if (!p)
                return NULL;
        bus_partition_removed(p);
        p->worker = p->broker->ending ? worker_handle_abandon(p->worker)
                                      : worker_handle_release(p->worker);
        sd_event_source_disable_unref(p->grace);
        (void) safe_close(p->link_fd);
        HASH_DELETE(hh, p->broker->partitions, p);
        broker_partitions_changed(p->broker);
        if (!p->broker->ending)
                log_info("VM %s is gone", p->uuid_text);
        (void) munmap((void *) p->control, p->control_size);
        free(p);
        return NULL;
}

/* ---- The worker ---- */

static void on_ready(void *userdata) {
        struct partition *p = userdata;
        const struct vtl_message_started started = {
                .flags = p->decision.allow_vtl1 ? VTL_STARTED_VTL1_ALLOWED : 0,
                .worker_pid = (uint32_t) p->worker_pid,
        };

        set_state(p, PARTITION_RUNNING);
        connection_started(p->connection, 0, NULL, &started, TAKE_FD(p->link_fd));
}

/* The VM stays attached; START may be tried again. */
static void start_failed(struct partition *p, int error, const char *why) {
        log_error("VM %s: the worker cannot start: %s", p->uuid_text, why);
        p->worker = worker_handle_release(p->worker);
        p->worker_pid = 0;
        p->link_fd = safe_close(p->link_fd);
        set_state(p, PARTITION_ATTACHED);
        connection_started(p->connection, error, why, NULL, -1);
}

static void on_refused(void *userdata, int error, const char *why) {
        start_failed(userdata, error, why);
}

static void worker_failed(struct partition *p, const char *reason) {
        log_error("VM %s: its worker %s; the guest has no engine any more", p->uuid_text, reason);
        set_state(p, PARTITION_FAILED);
        bus_partition_changed(p);
        bus_emit_worker_failed(p, reason);
        connection_worker_failed(p->connection);
}

static int on_grace(sd_event_source *s, uint64_t usec, void *userdata) {
        worker_failed(userdata, "ended: the VMM closed the worker link");
        return 0;
}

static void on_died(void *userdata, bool clean, const char *reason) {
        struct partition *p = userdata;

        if (p->state == PARTITION_STARTING) {
                start_failed(p, -EIO, reason);
                return;
        }
        p->worker = worker_handle_release(p->worker);
        p->worker_pid = 0;
        /* A VMM that ends closes the link and its connection at once, and the worker may have been
         * quicker. */
        if (!clean || sd_event_add_time_relative(p->broker->event, &p->grace, CLOCK_MONOTONIC,
                                                 LINK_GRACE_USEC, 0, on_grace, p) < 0)
                worker_failed(p, reason);
}

static void on_intercept(struct partition *p, const struct worker_notice *n) {
        static const char *const access_names[] = { "read", "write", "execute" };
        const char *access = n->data < ARRAY_SIZE(access_names) ? access_names[n->data] : "unknown";

        if (!log_ratelimit(&p->violation_limit, 1000, 10))
                return;
        log_notice("VM %s: VP %u tried to %s protected memory at 0x%llx", p->uuid_text, n->vp,
                   access, (unsigned long long) n->gpa);
        bus_emit_secure_violation(p, n->vp, n->gpa, access);
}

static void on_denied(struct partition *p) {
        if (!log_ratelimit(&p->denied_limit, 1000, 10))
                return;
        log_notice("VM %s: asked for VTL1, which policy \"%s\" refuses", p->uuid_text,
                   p->decision.name);
        bus_emit_vtl1_denied(p);
}

/* A worker may be its guest's by now: nothing that it can say more than a few times a second costs
 * more than that. */
static void on_event(void *userdata, const struct worker_notice *n) {
        struct partition *p = userdata;

        switch (n->what) {
        case VTL_EVENT_PARTITION_VTL_ENABLED:
                if (!p->vtl1_seen && n->data == 1) {
                        p->vtl1_seen = true;
                        log_info("VM %s: VTL1 is enabled", p->uuid_text);
                        bus_emit_vtl_enabled(p, 1);
                }
                break;
        case VTL_EVENT_VP_VTL_ENABLED:
                if (!(p->vp_vtl1_seen & (UINT64_C(1) << n->vp)) && n->data == 1) {
                        p->vp_vtl1_seen |= UINT64_C(1) << n->vp;
                        bus_emit_vp_vtl_enabled(p, n->vp, 1);
                }
                bus_vp_changed(p, n->vp);
                break;
        case VTL_EVENT_INTERCEPT:
                on_intercept(p, n);
                break;
        case VTL_EVENT_DENIED:
                on_denied(p);
                break;
        case VTL_EVENT_PROTECTION_ENABLED:
                if (log_ratelimit(&p->log_limit, 1000, 10))
                        log_info("VM %s: VTL1 protects its memory", p->uuid_text);
                break;
        case VTL_EVENT_STOPPED:
                if (p->state != PARTITION_STOPPED)
                        log_error("VM %s: the engine cannot go on with this guest: %s",
                                  p->uuid_text,
                                  strerror(n->data > 0 && n->data < 4096 ? (int) n->data : EIO));
                set_state(p, PARTITION_STOPPED);
                break;
        default:
                break;
        }
        bus_partition_changed(p);
        if (n->flags & WORKER_EVENTS_LOST)
                for (unsigned i = 0; i < p->vps; i++)
                        bus_vp_changed(p, i);
}

static const struct worker_callbacks worker_callbacks = {
        .ready = on_ready,
        .refused = on_refused,
        .event = on_event,
        .died = on_died,
};

int partition_start(struct partition *p, const struct protocol_vm *vm, const char **ret_why) {
        char name[4 * VTL_ATTACH_NAME_SIZE];
        int r;

        decide(p); /* the policy may have been read again since ATTACH */
        r = worker_handle_new(p->broker->event, vm, p->decision.allow_vtl1, &worker_callbacks, p,
                              &p->link_fd, &p->worker);
        if (r < 0) {
                log_error("VM %s: cannot start a worker: %s", p->uuid_text, strerror(-r));
                *ret_why = "the worker cannot be started";
                return r;
        }
        p->worker_pid = worker_handle_pid(p->worker);
        log_info("VM %s (%s): policy \"%s\" %s VTL1, worker %d", p->uuid_text,
                 log_escape(name, sizeof(name), p->name), p->decision.name,
                 p->decision.allow_vtl1 ? "allows" : "refuses", (int) p->worker_pid);
        set_state(p, PARTITION_STARTING);
        return 0;
}

void partition_pause(struct partition *p, bool paused) {
        if (p->state == PARTITION_RUNNING || p->state == PARTITION_PAUSED)
                set_state(p, paused ? PARTITION_PAUSED : PARTITION_RUNNING);
}
