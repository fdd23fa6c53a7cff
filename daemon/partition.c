/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <sys/mman.h>
#include <time.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/config.h"
#include "daemon/connection.h"
#include "daemon/messages.h"
#include "daemon/partition-facts.h"
#include "daemon/partition.h"
#include "daemon/worker-handle.h"
#include "util/hex.h"
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

void partition_set_state(struct partition *p, enum partition_state state) {
        if (p->state == state)
                return;
        p->state = state;
        partition_stored_changed(p);
        bus_partition_changed(p);
}

static uint64_t realtime_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

struct log_fields partition_log_fields(const struct partition *p) {
        char name[4 * VTL_ATTACH_NAME_SIZE];
        struct log_fields f = { 0 };

        log_field(&f, "VTLD_PARTITION", "%s", p->uuid_text);
        log_field(&f, "VTLD_NAME", "%s", log_escape(name, sizeof(name), p->name));
        return f;
}

/* False when the VM may not be served at all: @ret_why says why. */
static bool ask_policy(struct partition *p, const char **ret_why) {
        const struct policy_subject s = { .name = p->name,
                                          .uuid = p->uuid_text,
                                          .uid = p->vmm_uid,
                                          .libvirt_domain = partition_libvirt_domain(p),
                                          .libvirt_policy = partition_libvirt_policy(p) };
        char *text = p->broker->refusal_text;

        decide(p->broker->policy, &s, &p->decision, p->refusal);
        /* What does nothing is refused. The worker finds out whether KVM can step. */
        if (p->decision.allow_vtl1 && p->decision.options.strict_execute_pages > 0 &&
            !p->precise_faults) {
                p->decision.allow_vtl1 = false;
                (void) snprintf(p->refusal, sizeof(p->refusal),
                                "strict-execute-pages needs faults that are precise");
        }
        if (decide_vps(&p->decision, p->vps, text))
                return true;
        *ret_why = text;
        return false;
}

struct partition *partition_allocate(struct broker *b) {
        struct partition *p = calloc(1, sizeof(*p));

        if (!p)
                return NULL;
        p->broker = b;
        p->link_fd = -1;
        p->record_fd = -1;
        STAILQ_INIT(&p->questions.waiting);
        return p;
}

void partition_publish(struct partition *p) {
        for (unsigned i = 0; i < ARRAY_SIZE(p->vp_objects); i++)
                p->vp_objects[i] = (struct partition_vp){ .partition = p, .index = i };
        HASH_ADD(hh, p->broker->partitions, uuid, sizeof(p->uuid), p);
        bus_partition_added(p);
        broker_partitions_changed(p->broker);
}

int partition_new(struct broker *b, struct connection *c, const struct protocol_vm *vm,
                  pid_t vmm_pid, uid_t vmm_uid, const struct identity *identity,
                  struct partition **ret, const char **ret_why) {
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
        p = partition_allocate(b);
        if (!p)
                return -ENOMEM;
        p->connection = c;
        memcpy(p->uuid, vm->uuid, sizeof(p->uuid));
        memcpy(p->uuid_text, vm->uuid_text, sizeof(p->uuid_text));
        memcpy(p->name, vm->name, sizeof(p->name));
        memcpy(p->apic_ids, vm->apic_ids, sizeof(p->apic_ids));
        p->vps = vm->vps;
        p->precise_faults = vm->precise_faults;
        p->vmm_pid = vmm_pid;
        p->vmm_uid = vmm_uid;
        p->attached_usec = realtime_usec();
        partition_libvirt_begin(p, identity, libvirt_handle_find(b->libvirt, p->uuid));
        if (!ask_policy(p, ret_why)) {
                free(p);
                return -EPERM;
        }
        p->control_size = vtl_control_size(vm->vps);
        control = mmap(NULL, p->control_size, PROT_READ, MAP_SHARED, vm->control_fd, 0);
        if (control == MAP_FAILED) {
                int r = -errno;

                *ret_why = "the control memory cannot be mapped";
                free(p);
                return r;
        }
        p->control = control;
        partition_publish(p);
        log_info("VM %s (%s) attached by process %d of user %u: %u VPs", p->uuid_text,
                 log_escape(name, sizeof(name), p->name), (int) vmm_pid, vmm_uid, p->vps);
        *ret = p;
        return 0;
}

/* ---- The worker ---- */

static void on_ready(void *userdata) {
        struct partition *p = userdata;
        const struct vtl_message_started started = {
                .flags = p->decision.allow_vtl1 ? VTL_STARTED_VTL1_ALLOWED : 0,
                .worker_pid = (uint32_t) p->worker_pid,
                .reserve_mappings = p->decision.reserve_mappings,
                .vina_poll_us = p->broker->config->vina_poll_us,
        };

        partition_set_state(p, PARTITION_RUNNING);
        partition_store(p);
        connection_started(p->connection, 0, NULL, &started, TAKE_FD(p->link_fd));
}

/* The VM stays attached; START may be tried again. */
static void start_failed(struct partition *p, int error, const char *why) {
        struct log_fields f = partition_log_fields(p);

        log_field(&f, "VTLD_REASON", "%s", why);
        log_event(LOG_ERR, MESSAGE_WORKER_NOT_STARTED, &f, "VM %s: the worker cannot start: %s",
                  p->uuid_text, why);
        p->worker = worker_handle_release(p->worker);
        p->worker_pid = 0;
        p->link_fd = safe_close(p->link_fd);
        partition_set_state(p, PARTITION_ATTACHED);
        connection_started(p->connection, error, why, NULL, -1);
}

static void on_refused(void *userdata, int error, const char *why) {
        start_failed(userdata, error, why);
}

static void worker_failed(struct partition *p, const char *reason) {
        struct log_fields f = partition_log_fields(p);

        log_field(&f, "VTLD_REASON", "%s", reason);
        log_event(LOG_ERR, MESSAGE_WORKER_FAILED, &f,
                  "VM %s: its worker %s; the guest has no engine any more", p->uuid_text, reason);
        partition_store_forget(p);
        partition_set_state(p, PARTITION_FAILED);
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
        bus_ask_cancel(p);
        /* A VMM that ends closes the link and its connection at once, and the worker may have been
         * quicker. */
        if (!clean || sd_event_add_time_relative(p->broker->event, &p->grace, CLOCK_MONOTONIC,
                                                 LINK_GRACE_USEC, 0, on_grace, p) < 0)
                worker_failed(p, reason);
}

static void on_intercept(struct partition *p, const struct worker_notice *n) {
        static const char *const access_names[] = { "read", "write", "execute" };
        const char *access = n->data < ARRAY_SIZE(access_names) ? access_names[n->data] : "unknown";
        struct log_fields f;

        if (!log_ratelimit(&p->violation_limit, 1000, 10))
                return;
        f = partition_log_fields(p);
        log_field(&f, "VTLD_VP", "%u", n->vp);
        log_field(&f, "VTLD_GPA", "0x%llx", (unsigned long long) n->gpa);
        log_field(&f, "VTLD_ACCESS", "%s", access);
        log_event(LOG_NOTICE, MESSAGE_SECURE_VIOLATION, &f,
                  "VM %s: VP %u tried to %s protected memory at 0x%llx", p->uuid_text, n->vp,
                  access, (unsigned long long) n->gpa);
        bus_emit_secure_violation(p, n->vp, n->gpa, access);
}

static void on_denied(struct partition *p) {
        struct log_fields f;

        if (!log_ratelimit(&p->denied_limit, 1000, 10))
                return;
        f = partition_log_fields(p);
        log_field(&f, "VTLD_POLICY", "%s", p->decision.name);
        log_event(LOG_NOTICE, MESSAGE_VTL1_DENIED, &f,
                  "VM %s: asked for VTL1, which policy \"%s\" refuses%s%s", p->uuid_text,
                  p->decision.name, p->refusal[0] ? ": " : "", p->refusal);
        bus_emit_vtl1_denied(p);
}

static void on_vtl1_enabled(struct partition *p) {
        struct log_fields f = partition_log_fields(p);

        p->vtl1_seen = true;
        partition_stored_changed(p);
        log_field(&f, "VTLD_VTL", "1");
        log_event(LOG_INFO, MESSAGE_VTL1_ENABLED, &f, "VM %s: VTL1 is enabled", p->uuid_text);
        bus_emit_vtl_enabled(p, 1);
}

static void on_engine_stopped(struct partition *p, uint64_t error) {
        const char *why = strerror(error > 0 && error < 4096 ? (int) error : EIO);
        struct log_fields f = partition_log_fields(p);

        log_field(&f, "VTLD_REASON", "%s", why);
        log_event(LOG_ERR, MESSAGE_ENGINE_STOPPED, &f,
                  "VM %s: the engine cannot go on with this guest: %s", p->uuid_text, why);
}

/* A worker may be its guest's by now: nothing that it can say more than a few times a second costs
 * more than that. */
static void on_event(void *userdata, const struct worker_notice *n) {
        struct partition *p = userdata;

        switch (n->what) {
        case VTL_EVENT_PARTITION_VTL_ENABLED:
                if (!p->vtl1_seen && n->data == 1)
                        on_vtl1_enabled(p);
                break;
        case VTL_EVENT_VP_VTL_ENABLED:
                if (!(p->vp_vtl1_seen & (UINT64_C(1) << n->vp)) && n->data == 1) {
                        p->vp_vtl1_seen |= UINT64_C(1) << n->vp;
                        partition_stored_changed(p);
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
        case VTL_EVENT_STATE:
                p->vtl1_seen = false;
                p->vp_vtl1_seen = 0;
                if (n->data == VTL_STATE_LOAD &&
                    (control_read(partition_header(p)->enabled_vtls) & 2u))
                        measurement_loaded(&p->measurement, p->broker->measure);
                partition_stored_changed(p);
                for (unsigned i = 0; i < p->vps; i++)
                        bus_vp_changed(p, i);
                break;
        case VTL_EVENT_STOPPED:
                if (p->state != PARTITION_STOPPED)
                        on_engine_stopped(p, n->data);
                partition_set_state(p, PARTITION_STOPPED);
                break;
        default:
                partition_fact(p, n);
                break;
        }
        bus_partition_changed(p);
        if (n->flags & WORKER_EVENTS_LOST)
                for (unsigned i = 0; i < p->vps; i++)
                        bus_vp_changed(p, i);
}

static void on_record(void *userdata, const struct worker_record *r) {
        struct partition *p = userdata;

        measurement_record(&p->measurement, p->broker->measure, r);
        partition_stored_changed(p);
}

static void log_measurement(struct partition *p, const struct worker_record *r, bool allowed) {
        bool unbounded = r->flags & WORKER_MEASURED_UNBOUNDED;
        char digest[MEASURE_DIGEST_TEXT_SIZE];

        if (unbounded)
                (void) snprintf(digest, sizeof(digest), "unbounded, more than %llu bytes",
                                (unsigned long long) p->measurement.limit);
        else
                hex_encode(r->digest, MEASURE_DIGEST_SIZE, digest);
        if (!allowed)
                (void) snprintf(p->refusal, sizeof(p->refusal), "its measurement is %s", digest);
        else if ((r->flags & WORKER_MEASURED_ENTRY) && log_ratelimit(&p->log_limit, 1000, 10))
                log_info("VM %s: VTL1 begins on VP %u, its measurement is %s", p->uuid_text, r->vp,
                         digest);
}

static void on_measured(void *userdata, const struct worker_record *r) {
        struct partition *p = userdata;
        bool allowed = measurement_decide(&p->measurement, p->broker->measure, &p->decision, r);
        int e;

        log_measurement(p, r, allowed);
        partition_stored_changed(p);
        e = worker_handle_decide(p->worker, r->sequence, allowed);
        if (e < 0 && log_ratelimit(&p->log_limit, 1000, 10))
                log_warning("VM %s: cannot tell its worker whether VTL1 may run: %s", p->uuid_text,
                            strerror(-e));
        bus_partition_changed(p);
}

static void on_map(void *userdata, const struct worker_map *m, size_t len) {
        bus_map_answered(userdata, m, len);
}

static void on_registers(void *userdata, const struct worker_registers *r) {
        bus_registers_answered(userdata, r);
}

static void on_adopted(void *userdata, int error, const char *why) {
        struct partition *p = userdata;
        struct log_fields f = partition_log_fields(p);

        if (error < 0) {
                log_field(&f, "VTLD_REASON", "%s", why);
                log_event(LOG_WARNING, MESSAGE_VM_LEFT, &f,
                          "VM %s is left to its worker, and not shown any more: %s", p->uuid_text,
                          why);
                p->left = true;
                (void) connection_free(p->connection);
                return;
        }
        log_field(&f, "VTLD_VMM_PID", "%d", (int) p->vmm_pid);
        log_field(&f, "VTLD_UID", "%u", p->vmm_uid);
        log_field(&f, "VTLD_WORKER_PID", "%d", (int) p->worker_pid);
        log_event(LOG_INFO, MESSAGE_VM_ADOPTED, &f,
                  "VM %s: taken over from the vtld before, worker %d", p->uuid_text,
                  (int) p->worker_pid);
        /* There may have been no room for what happened meanwhile. */
        bus_partition_changed(p);
        for (unsigned i = 0; i < p->vps; i++)
                bus_vp_changed(p, i);
}

const struct worker_callbacks partition_worker_callbacks = {
        .ready = on_ready,
        .refused = on_refused,
        .event = on_event,
        .record = on_record,
        .measured = on_measured,
        .map = on_map,
        .registers = on_registers,
        .died = on_died,
        .adopted = on_adopted,
};

int partition_start(struct partition *p, const struct protocol_vm *vm, const char **ret_why) {
        char name[4 * VTL_ATTACH_NAME_SIZE];
        struct worker_terms terms;
        struct log_fields f;
        int r;

        if (!ask_policy(p, ret_why)) /* it may have been read again since ATTACH */
                return -EPERM;
        p->measurement = (struct measurement){ .limit = p->broker->config->measure_limit };
        terms = (struct worker_terms){
                .allow_vtl1 = p->decision.allow_vtl1,
                .require_measurement = p->decision.n_measurements > 0,
                .measure_limit = p->measurement.limit,
                .options = p->decision.options,
        };
        if (!terms.allow_vtl1)
                terms.options.strict_execute_pages = 0;
        r = worker_handle_new(p->broker->event, vm, &terms, &partition_worker_callbacks, p,
                              &p->link_fd, &p->worker);
        if (r < 0) {
                log_error("VM %s: cannot start a worker: %s", p->uuid_text, strerror(-r));
                *ret_why = "the worker cannot be started";
                return r;
        }
        p->worker_pid = worker_handle_pid(p->worker);
        f = partition_log_fields(p);
        log_field(&f, "VTLD_POLICY", "%s", p->decision.name);
        log_field(&f, "VTLD_VMM_PID", "%d", (int) p->vmm_pid);
        log_field(&f, "VTLD_UID", "%u", p->vmm_uid);
        log_field(&f, "VTLD_WORKER_PID", "%d", (int) p->worker_pid);
        log_event(LOG_INFO, MESSAGE_VM_STARTED, &f,
                  "VM %s (%s): policy \"%s\" %s VTL1%s%s, worker %d", p->uuid_text,
                  log_escape(name, sizeof(name), p->name), p->decision.name,
                  p->decision.allow_vtl1 ? "allows" : "refuses", p->refusal[0] ? ": " : "",
                  p->refusal, (int) p->worker_pid);
        partition_set_state(p, PARTITION_STARTING);
        return 0;
}

void partition_decide_again(struct partition *p) {
        const char *why;

        if (p->state == PARTITION_ATTACHED)
                (void) ask_policy(p, &why); /* one that is refused now is so by START */
}

static bool is_started(const struct partition *p) {
        return p->state == PARTITION_RUNNING || p->state == PARTITION_PAUSED;
}

void partition_pause(struct partition *p, bool paused) {
        if (is_started(p))
                partition_set_state(p, paused ? PARTITION_PAUSED : PARTITION_RUNNING);
}

struct partition *partition_free(struct partition *p) {
        if (!p)
                return NULL;
        /* A VMM whose worker has failed may be quicker to end than the kernel is to tell so. */
        if (is_started(p) && !p->broker->ending && !p->left && p->worker &&
            worker_handle_failed(p->worker))
                worker_failed(p, "has ended");
        bus_partition_removed(p);
        p->worker = p->broker->ending || p->left ? worker_handle_abandon(p->worker)
                                                 : worker_handle_release(p->worker);
        if (!p->broker->ending)
                partition_store_forget(p);
        p->record_fd = safe_close(p->record_fd);
        sd_event_source_disable_unref(p->grace);
        partition_libvirt_done(p);
        (void) safe_close(p->link_fd);
        HASH_DELETE(hh, p->broker->partitions, p);
        broker_partitions_changed(p->broker);
        if (!p->broker->ending && !p->left) {
                const struct log_fields f = partition_log_fields(p);

                log_event(LOG_INFO, MESSAGE_VM_GONE, &f, "VM %s is gone", p->uuid_text);
        }
        (void) munmap((void *) p->control, p->control_size);
        free(p);
        return NULL;
}
