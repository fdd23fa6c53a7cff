/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/bus-internal.h"
#include "daemon/decide.h"
#include "daemon/partition-facts.h"
#include "util/util.h"
#include "vtl/unenforced.h"

/* ---- Properties ---- */

#define HEADER(field) control_read(partition_header(o)->field)

BUS_GETTER_STRING(get_uuid, struct partition, o->uuid_text)
BUS_GETTER_STRING(get_name, struct partition, o->name)
BUS_GETTER_STRING(get_state, struct partition, partition_state_to_string(o->state))
BUS_GETTER_U32(get_vmm, struct partition, o->vmm_pid)
BUS_GETTER_U32(get_vmm_uid, struct partition, o->vmm_uid)
BUS_GETTER_U64(get_attached_at, struct partition, o->attached_usec)
BUS_GETTER_U32(get_worker_pid, struct partition, o->worker_pid)
BUS_GETTER_U32(get_vp_count, struct partition, o->vps)
BUS_GETTER_STRING(get_policy_name, struct partition, o->decision.name)
BUS_GETTER_BOOL(get_vtl1_allowed, struct partition, o->decision.allow_vtl1)
BUS_GETTER_STRING(get_libvirt_domain, struct partition, o->libvirt.domain)
BUS_GETTER_STRING(get_libvirt_policy, struct partition, o->libvirt.policy)
BUS_GETTER_U32(get_enabled_vtls, struct partition, HEADER(enabled_vtls))
BUS_GETTER_BOOL(get_protection_enabled, struct partition, HEADER(protection_enabled))
BUS_GETTER_U64(get_partition_config, struct partition, HEADER(partition_config))
BUS_GETTER_U64(get_protected_pages, struct partition, HEADER(protected_pages))
BUS_GETTER_U64(get_intercepts, struct partition, HEADER(intercepts))
BUS_GETTER_U64(get_denied, struct partition, HEADER(denied))
BUS_GETTER_U64(get_mappings, struct partition, HEADER(mappings))
BUS_GETTER_U64(get_mappings_max, struct partition, HEADER(mappings_max))
BUS_GETTER_U64(get_protections_refused, struct partition, HEADER(protections_refused))
BUS_GETTER_U64(get_strict_pages, struct partition, HEADER(strict_pages))
BUS_GETTER_U64(get_strict_steps, struct partition, HEADER(strict_steps))
BUS_GETTER_U32(get_crashes, struct partition, HEADER(crashes))
BUS_GETTER_U32(get_crash_vtl, struct partition, HEADER(crash_vtl))
BUS_GETTER_STRING(get_fault_precision, struct partition,
                  o->precise_faults ? "precise" : "imprecise")
/* What the one backend there is can and cannot do; see vtld(8), "What is not enforced". */
BUS_GETTER_STRING(get_backend, struct partition, o ? "stock" : NULL)
BUS_GETTER_STRING(get_execute, struct partition,
                  string_table_name(&policy_enforcement_table,
                                    o->precise_faults
                                            ? decide_execute_enforcement(&o->decision.options)
                                            : POLICY_ENFORCEMENT_NONE))
BUS_GETTER_STRING(get_none, struct partition, o ? "none" : NULL)

static int append_names(sd_bus_message *reply, uint64_t cr, uint64_t flags) {
        const char *names[UNENFORCED_MAX + 1];

        names[unenforced_names(cr, flags, names)] = NULL;
        return sd_bus_message_append_strv(reply, (char **) names);
}

static int get_unenforced(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error) {
        const struct partition *o = userdata;

        return append_names(reply, 0, HEADER(unenforced));
}

static int get_unenforced_cr(sd_bus *bus, const char *path, const char *interface,
                             const char *property, sd_bus_message *reply, void *userdata,
                             sd_bus_error *error) {
        const struct partition *o = userdata;

        return append_names(reply, HEADER(unenforced_cr), 0);
}

static int get_crash_parameters(sd_bus *bus, const char *path, const char *interface,
                                const char *property, sd_bus_message *reply, void *userdata,
                                sd_bus_error *error) {
        uint64_t parameters[HV_CRASH_PARAMETERS];
        unsigned n = partition_crash(userdata, parameters);

        return sd_bus_message_append_array(reply, 't', parameters, n * sizeof(parameters[0]));
}

BUS_GETTER_STRING(get_measurement_state, struct partition,
                  string_table_name(&quote_state_table, o->measurement.state))

static int get_measurement(sd_bus *bus, const char *path, const char *interface,
                           const char *property, sd_bus_message *reply, void *userdata,
                           sd_bus_error *error) {
        const struct partition *p = userdata;
        char digest[MEASURE_DIGEST_TEXT_SIZE];

        return sd_bus_message_append(reply, "s", measurement_text(&p->measurement, digest));
}

/* ---- Quotes ---- */

static int method_quote(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        struct partition *p = userdata;
        _cleanup_free_ char *text = NULL;
        const void *nonce;
        size_t size;
        int r;

        r = sd_bus_message_read_array(m, 'y', &nonce, &size);
        if (r < 0)
                return r;
        if (!p->broker->host_key)
                return sd_bus_error_set(error, BUS_ERROR_NO_HOST_KEY,
                                        "This vtld has no host key to sign with.");
        r = measurement_quote(&p->measurement, p->broker->host_key, p->uuid_text, nonce, size,
                              &text);
        if (r == -EINVAL)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID_NONCE,
                                         "A nonce has from %u to %u bytes.", QUOTE_NONCE_MIN,
                                         QUOTE_NONCE_MAX);
        if (r < 0)
                return r;
        return sd_bus_reply_method_return(m, "s", text);
}

#define CONSTANT SD_BUS_VTABLE_PROPERTY_CONST
#define ANNOUNCED SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

static const sd_bus_vtable partition_vtable[] = {
        SD_BUS_VTABLE_START(0),
        /* Who */
        SD_BUS_PROPERTY("Uuid", "s", get_uuid, 0, CONSTANT),
        SD_BUS_PROPERTY("Name", "s", get_name, 0, CONSTANT),
        SD_BUS_PROPERTY("Vmm", "u", get_vmm, 0, CONSTANT),
        SD_BUS_PROPERTY("VmmUid", "u", get_vmm_uid, 0, CONSTANT),
        SD_BUS_PROPERTY("AttachedAt", "t", get_attached_at, 0, CONSTANT),
        SD_BUS_PROPERTY("VpCount", "u", get_vp_count, 0, CONSTANT),
        /* How it does */
        SD_BUS_PROPERTY("State", "s", get_state, 0, ANNOUNCED),
        SD_BUS_PROPERTY("WorkerPid", "u", get_worker_pid, 0, ANNOUNCED),
        SD_BUS_PROPERTY("PolicyName", "s", get_policy_name, 0, ANNOUNCED),
        SD_BUS_PROPERTY("Vtl1Allowed", "b", get_vtl1_allowed, 0, ANNOUNCED),
        SD_BUS_PROPERTY("LibvirtDomain", "s", get_libvirt_domain, 0, ANNOUNCED),
        SD_BUS_PROPERTY("LibvirtPolicy", "s", get_libvirt_policy, 0, ANNOUNCED),
        SD_BUS_PROPERTY("EnabledVtls", "u", get_enabled_vtls, 0, ANNOUNCED),
        SD_BUS_PROPERTY("ProtectionEnabled", "b", get_protection_enabled, 0, ANNOUNCED),
        SD_BUS_PROPERTY("PartitionConfig", "t", get_partition_config, 0, ANNOUNCED),
        SD_BUS_METHOD("Detach", "", "", bus_method_detach, SD_BUS_VTABLE_UNPRIVILEGED),
        /* What VTL1 is */
        SD_BUS_PROPERTY("MeasurementState", "s", get_measurement_state, 0, ANNOUNCED),
        SD_BUS_PROPERTY("MeasurementDigest", "s", get_measurement, 0, ANNOUNCED),
        SD_BUS_METHOD_WITH_ARGS("Quote", SD_BUS_ARGS("ay", nonce), SD_BUS_RESULT("s", quote),
                                method_quote, SD_BUS_VTABLE_UNPRIVILEGED),
        /* What it does */
        SD_BUS_METHOD_WITH_ARGS("GetProtections", SD_BUS_ARGS("t", gpn),
                                SD_BUS_RESULT("a(ttu)", runs, "t", next),
                                bus_method_get_protections, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("GetRegisters", SD_BUS_ARGS("u", vp, "u", vtl),
                                SD_BUS_RESULT("a(stt)", registers), bus_method_get_registers,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS(
                "ReadTrace", SD_BUS_ARGS("at", positions),
                SD_BUS_RESULT("a(utyyyqtt)", records, "at", next, "at", lost, "t", rejected),
                bus_method_read_trace, SD_BUS_VTABLE_UNPRIVILEGED),
        /* What is enforced */
        SD_BUS_PROPERTY("Backend", "s", get_backend, 0, CONSTANT),
        SD_BUS_PROPERTY("FaultPrecision", "s", get_fault_precision, 0, CONSTANT),
        SD_BUS_PROPERTY("ExecuteEnforcement", "s", get_execute, 0, CONSTANT),
        SD_BUS_PROPERTY("DmaEnforcement", "s", get_none, 0, CONSTANT),
        SD_BUS_PROPERTY("StartupDenial", "s", get_none, 0, CONSTANT),
        SD_BUS_PROPERTY("Unenforced", "as", get_unenforced, 0, ANNOUNCED),
        SD_BUS_PROPERTY("UnenforcedCrIntercepts", "as", get_unenforced_cr, 0, ANNOUNCED),
        /* Counters */
        SD_BUS_PROPERTY("ProtectedPages", "t", get_protected_pages, 0, 0),
        SD_BUS_PROPERTY("Intercepts", "t", get_intercepts, 0, 0),
        SD_BUS_PROPERTY("Denied", "t", get_denied, 0, 0),
        SD_BUS_PROPERTY("Mappings", "t", get_mappings, 0, 0),
        SD_BUS_PROPERTY("MappingsMax", "t", get_mappings_max, 0, 0),
        SD_BUS_PROPERTY("ProtectionsRefused", "t", get_protections_refused, 0, 0),
        SD_BUS_PROPERTY("StrictPages", "t", get_strict_pages, 0, 0),
        SD_BUS_PROPERTY("StrictSteps", "t", get_strict_steps, 0, 0),
        SD_BUS_PROPERTY("Crashes", "u", get_crashes, 0, 0),
        SD_BUS_PROPERTY("CrashVtl", "u", get_crash_vtl, 0, 0),
        SD_BUS_PROPERTY("CrashParameters", "at", get_crash_parameters, 0, 0),
        SD_BUS_SIGNAL_WITH_ARGS("VtlEnabled", SD_BUS_ARGS("u", vtl), 0),
        SD_BUS_SIGNAL_WITH_ARGS("SecureViolation", SD_BUS_ARGS("t", gpa, "s", access, "u", vp), 0),
        SD_BUS_SIGNAL_WITH_ARGS("Vtl1Denied", SD_BUS_ARGS("s", policy), 0),
        SD_BUS_SIGNAL_WITH_ARGS("ProtectionRefused",
                                SD_BUS_ARGS("u", vp, "t", mappings, "t", mappings_max), 0),
        SD_BUS_SIGNAL_WITH_ARGS("GuestCrashed", SD_BUS_ARGS("u", vtl, "t", code, "u", vp), 0),
        SD_BUS_SIGNAL_WITH_ARGS("WorkerFailed", SD_BUS_ARGS("s", reason), 0),
        SD_BUS_VTABLE_END,
};

/* ---- Objects ---- */

static int find_partition(sd_bus *bus, const char *path, const char *interface, void *userdata,
                          void **ret, sd_bus_error *error) {
        _cleanup_free_ char *uuid = NULL;
        struct partition *p;
        int r;

        r = sd_bus_path_decode(path, BUS_PARTITIONS, &uuid);
        if (r <= 0)
                return r;
        p = bus_lookup(userdata, uuid);
        /* One object has one path, however many ways there are to write a UUID. */
        if (!p || !p->bus_path || strcmp(path, p->bus_path) != 0)
                return 0;
        *ret = p;
        return 1;
}

static int list_partitions(sd_bus *bus, const char *prefix, void *userdata, char ***ret,
                           sd_bus_error *error) {
        struct bus *b = userdata;
        struct partition *p, *next;
        size_t n = 0;
        char **paths;

        paths = calloc(HASH_COUNT(b->broker->partitions) + 1, sizeof(*paths));
        if (!paths)
                return -ENOMEM;
        HASH_ITER(hh, b->broker->partitions, p, next)
                if (p->bus_path) {
                        paths[n] = strdup(p->bus_path);
                        if (paths[n])
                                n++;
                }
        *ret = paths;
        return 1;
}

struct partition *bus_partition_of(struct bus *bus, sd_bus_message *m) {
        void *p = NULL;

        return find_partition(NULL, sd_bus_message_get_path(m), NULL, bus, &p, NULL) > 0 ? p : NULL;
}

int bus_register_partitions(struct bus *bus) {
        int r;

        r = sd_bus_add_fallback_vtable(bus->bus, NULL, BUS_PARTITIONS, BUS_PARTITION_INTERFACE,
                                       partition_vtable, find_partition, bus);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(bus->bus, NULL, BUS_PARTITIONS, list_partitions,
                                               bus);
        return r;
}

/* ---- Signals ---- */

#define emit(p, member, ...)                                                                     \
        ({                                                                                       \
                if (bus_of(p) && (p)->bus_path)                                                  \
                        (void) sd_bus_emit_signal(bus_of(p), (p)->bus_path,                      \
                                                  BUS_PARTITION_INTERFACE, member, __VA_ARGS__); \
        })

void bus_emit_vtl_enabled(struct partition *p, unsigned vtl) {
        emit(p, "VtlEnabled", "u", (uint32_t) vtl);
}

void bus_emit_secure_violation(struct partition *p, unsigned vp, uint64_t gpa, const char *access) {
        emit(p, "SecureViolation", "tsu", gpa, access, (uint32_t) vp);
}

void bus_emit_worker_failed(struct partition *p, const char *reason) {
        emit(p, "WorkerFailed", "s", reason);
}

void bus_emit_vtl1_denied(struct partition *p) {
        emit(p, "Vtl1Denied", "s", p->decision.name);
}

void bus_emit_protection_refused(struct partition *p, unsigned vp, uint64_t mappings,
                                 uint64_t max) {
        emit(p, "ProtectionRefused", "utt", (uint32_t) vp, mappings, max);
}

void bus_emit_guest_crashed(struct partition *p, unsigned vp, unsigned vtl, uint64_t code) {
        emit(p, "GuestCrashed", "utu", (uint32_t) vtl, code, (uint32_t) vp);
}
