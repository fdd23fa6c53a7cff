/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "vtl/kvm-probe.h"
#include "daemon/probe.h"
#include "util/log.h"
#include "util/util.h"
#include "vtl/unenforced.h"

#define KVM_DEVICE "/dev/kvm"
#define MAX_MAP_COUNT "/proc/sys/vm/max_map_count"

struct capability {
        const char *name;
        int number;
        unsigned bits;  /* that must be set; 0: any value but 0 */
        bool is_number; /* shown as a number */
        bool required;
        const char *reason;
};

static const struct capability capabilities[] = {
        { "user-memory", KVM_CAP_USER_MEMORY, 0, false, true, "memory slots" },
        { "sync-regs", KVM_CAP_SYNC_REGS, KVM_SYNC_X86_VALID_FIELDS, false, true,
          "registers cross at a switch" },
        { "immediate-exit", KVM_CAP_IMMEDIATE_EXIT, 0, false, true,
          "a vCPU is left at an instruction boundary" },
        { "user-space-msr", KVM_CAP_X86_USER_SPACE_MSR, 0, false, true,
          "Hyper-V's MSRs are the engine's" },
        { "msr-filter", KVM_CAP_X86_MSR_FILTER, 0, false, true, "Hyper-V's MSRs are the engine's" },
        { "vcpu-events", KVM_CAP_VCPU_EVENTS, 0, false, true, "interrupts and exceptions of VTL1" },
        { "mp-state", KVM_CAP_MP_STATE, 0, false, true,
          "HLT, and the probe for VTL0's interrupts" },
        { "xsave", KVM_CAP_XSAVE, 0, false, true, "FPU registers cross at a switch" },
        { "xcrs", KVM_CAP_XCRS, 0, false, true, "XCR0 crosses at a switch" },
        { "debugregs", KVM_CAP_DEBUGREGS, 0, false, true, "DR0-3 cross at a switch" },
        { "irqchip", KVM_CAP_IRQCHIP, 0, false, true, "VTL0's interrupts" },
        { "hyperv", KVM_CAP_HYPERV, 0, false, false, "some hypercalls may be served by KVM" },
        { "max-vcpus", KVM_CAP_MAX_VCPUS, 0, true, false, NULL },
        { "memory-slots", KVM_CAP_NR_MEMSLOTS, 0, true, false, NULL },
};

static const char *const access_names[_PROBE_ACCESS_MAX] = {
        [PROBE_STORE] = "store",
        [PROBE_LOAD] = "load",
        [PROBE_OUTS] = "emulated-load",
};

static const char *const outcome_names[_PROBE_OUTCOME_MAX] = {
        [PROBE_FAULT] = "fault",
        [PROBE_MMIO] = "mmio-exit",
        [PROBE_UNREPORTED] = "not-reported",
        [PROBE_OTHER] = "other-exit",
};

struct report {
        struct json_object *root;
        struct json_object *reasons;  /* why no guest can be served */
        struct json_object *warnings; /* what is worse than it could be */
};

static _printf_(2, 3) void add_line(struct json_object *list, const char *fmt, ...) {
        char line[256];
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(line, sizeof(line), fmt, ap);
        va_end(ap);
        (void) json_object_array_add(list, json_object_new_string(line));
}

static void add_string(struct json_object *o, const char *key, const char *value) {
        (void) json_object_object_add(o, key, value ? json_object_new_string(value) : NULL);
}

static void add_bool(struct json_object *o, const char *key, bool value) {
        (void) json_object_object_add(o, key, json_object_new_boolean(value));
}

/* ---- Parts of the report ---- */

static void report_capabilities(struct report *rep, struct json_object *kvm, int kvm_fd) {
        struct json_object *list = json_object_new_object();

        for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
                const struct capability *c = &capabilities[i];
                int value = ioctl(kvm_fd, KVM_CHECK_EXTENSION, c->number);
                bool there = value > 0 && ((unsigned) value & c->bits) == c->bits;

                if (c->is_number)
                        (void) json_object_object_add(list, c->name,
                                                      json_object_new_int(MAX(value, 0)));
                else
                        add_bool(list, c->name, there);
                if (c->required && !there)
                        add_line(rep->reasons, "KVM does not offer %s: %s", c->name, c->reason);
        }
        (void) json_object_object_add(kvm, "capabilities", list);
}

static void report_mappings(struct report *rep, struct json_object *host) {
        FILE *f = fopen(MAX_MAP_COUNT, "re");
        long count;

        if (f && fscanf(f, "%ld", &count) == 1) {
                (void) json_object_object_add(host, "max-mappings", json_object_new_int64(count));
                if (count < 262144)
                        add_line(
                                rep->warnings,
                                "vm.max_map_count is %ld: at most about %ld scattered pages of a VMM's guests can "
                                "be protected",
                                count, count / 2);
        }
        if (f)
                (void) fclose(f);
}

static void report_clock(struct report *rep, struct json_object *host) {
        int stable = probe_stable_tsc();

        if (stable < 0)
                return;
        add_bool(host, "tsc-stable", stable > 0);
        if (!stable)
                add_line(
                        rep->warnings,
                        "the kernel does not call the host's TSC stable: guests get no reference TSC page, and "
                        "the clocks of VTL0 and VTL1 may drift apart");
}

/* What the three guests saw, and what follows from it */
static void report_accesses(struct report *rep, int kvm_fd) {
        struct probe_result results[_PROBE_ACCESS_MAX];
        struct json_object *list = json_object_new_object();
        const char *precision = "imprecise", *what = NULL;
        bool known = true;

        for (unsigned i = 0; i < _PROBE_ACCESS_MAX; i++) {
                int r = probe_guest_run(kvm_fd, (enum probe_access) i, &results[i], &what);

                if (r < 0) {
                        add_line(rep->reasons, "a small guest cannot be run: %s: %s", what,
                                 strerror(-r));
                        add_string(rep->root, "fault-precision", "unknown");
                        (void) json_object_put(list);
                        return;
                }
                add_string(list, access_names[i], outcome_names[results[i].outcome]);
                if (results[i].outcome == PROBE_UNREPORTED)
                        add_line(rep->reasons,
                                 "KVM lets a guest touch memory that its mapping forbids (%s)",
                                 access_names[i]);
                if (results[i].outcome == PROBE_OTHER) {
                        known = false;
                        add_line(
                                rep->reasons,
                                "a forbidden access is reported in a way that tells nothing (%s: exit "
                                "%u, %s)",
                                access_names[i], results[i].exit_reason,
                                results[i].error ? strerror(results[i].error) : "no error");
                }
        }
        (void) json_object_object_add(rep->root, "forbidden-access", list);
        if (results[PROBE_STORE].outcome == PROBE_FAULT &&
            results[PROBE_LOAD].outcome == PROBE_FAULT)
                precision = "precise";
        else if (known)
                add_line(
                        rep->warnings,
                        "faults are imprecise: this KVM emulates instructions; what VTL1 forbids is still refused to "
                        "plain loads and stores, but other instructions may be seen in part, or end the guest");
        add_string(rep->root, "fault-precision", known ? precision : "unknown");
        if (results[PROBE_OUTS].outcome == PROBE_MMIO)
                add_line(
                        rep->warnings,
                        "instructions that KVM emulates (string I/O, MMIO operands) are reported after "
                        "the fact: the intercept message has no instruction bytes");
}

static struct json_object *ranges(const struct unenforced_range *r, size_t n) {
        struct json_object *list = json_object_new_array();

        for (size_t i = 0; i < n && r[i].last; i++) {
                struct json_object *pair = json_object_new_array();

                (void) json_object_array_add(pair, json_object_new_int64(r[i].first));
                (void) json_object_array_add(pair, json_object_new_int64(r[i].last));
                (void) json_object_array_add(list, pair);
        }
        return list;
}

/* What stock KVM has no means for, whatever this host is */
static void report_unenforced(struct report *rep) {
        struct json_object *list = json_object_new_array();
        const struct unenforced *u;

        for (size_t i = 0; (u = unenforced_get(i)); i++) {
                struct json_object *o = json_object_new_object();

                add_string(o, "name", u->name);
                add_string(o, "what", u->what);
                add_string(o, "policy-key", u->key);
                if (u->ports[0].last)
                        (void) json_object_object_add(o, "ports",
                                                      ranges(u->ports, ARRAY_SIZE(u->ports)));
                if (u->msrs.last)
                        (void) json_object_object_add(o, "msrs", ranges(&u->msrs, 1));
                (void) json_object_array_add(list, o);
        }
        (void) json_object_object_add(rep->root, "unenforced", list);
}

static int open_kvm(struct report *rep, struct json_object *kvm, const char *device) {
        int fd, version;

        add_string(kvm, "device", device);
        fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd < 0) {
                add_line(rep->reasons, "%s cannot be opened: %s", device, strerror(errno));
                return -errno;
        }
        version = ioctl(fd, KVM_GET_API_VERSION, 0);
        (void) json_object_object_add(kvm, "api-version", json_object_new_int(version));
        if (version != KVM_API_VERSION) {
                add_line(rep->reasons, "%s has API version %d, not %d", device, version,
                         KVM_API_VERSION);
                return safe_close(fd);
        }
        return fd;
}

struct json_object *probe_report(const char *device) {
        struct report rep = {
                .root = json_object_new_object(),
                .reasons = json_object_new_array(),
                .warnings = json_object_new_array(),
        };
        struct json_object *kvm = json_object_new_object(), *host = json_object_new_object();
        _cleanup_close_ int fd = -1;
        bool can_serve;

        add_string(rep.root, "version", VTLD_VERSION);
        fd = open_kvm(&rep, kvm, device ? device : KVM_DEVICE);
        add_bool(kvm, "usable", fd >= 0);
        if (fd >= 0) {
                report_capabilities(&rep, kvm, fd);
                report_accesses(&rep, fd);
                report_clock(&rep, host);
        } else
                add_string(rep.root, "fault-precision", "unknown");
        report_mappings(&rep, host);

        can_serve = json_object_array_length(rep.reasons) == 0;
        (void) json_object_object_add(rep.root, "kvm", kvm);
        (void) json_object_object_add(rep.root, "host", host);
        add_string(rep.root, "backend", fd >= 0 ? "stock" : NULL);
        add_string(rep.root, "execute-enforcement", "none");
        add_string(rep.root, "dma-enforcement", "none");
        add_string(rep.root, "startup-denial", "none");
        report_unenforced(&rep);
        add_bool(rep.root, "can-serve", can_serve);
        (void) json_object_object_add(rep.root, "reasons", rep.reasons);
        (void) json_object_object_add(rep.root, "warnings", rep.warnings);
        return rep.root;
}

int probe_main(void) {
        struct json_object *report = probe_report(NULL), *can_serve = NULL;
        bool ok = json_object_object_get_ex(report, "can-serve", &can_serve) &&
                  json_object_get_boolean(can_serve);

        (void) puts(json_object_to_json_string_ext(report, JSON_C_TO_STRING_PRETTY |
                                                                   JSON_C_TO_STRING_SPACED |
                                                                   JSON_C_TO_STRING_NOSLASHESCAPE));
        (void) json_object_put(report);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
