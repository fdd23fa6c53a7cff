/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <limits.h>
#include <stdio.h>

#include "daemon/vtlctl-check.h"
#include "util/util.h"

#define KERNEL_MAJOR 6 /* what vtld is tested with */
#define KERNEL_MINOR 1

/* ---- The processor ---- */

/* One word of the first "flags" line of /proc/cpuinfo */
static bool has_flag(const char *cpuinfo, const char *flag) {
        const char *line = strstr(cpuinfo, "\nflags"), *end, *p;
        size_t len = strlen(flag);

        if (!line)
                return false;
        line = strchr(line, ':');
        if (!line)
                return false;
        end = line + strcspn(line, "\n");
        for (p = strstr(line, flag); p && p < end; p = strstr(p + len, flag))
                if ((p[-1] == ' ' || p[-1] == '\t') && strchr(" \n", p[len]))
                        return true;
        return false;
}

void check_cpu(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *cpuinfo = check_read(x, "/proc/cpuinfo");

        if (!cpuinfo) {
                check_say(a, CHECK_FAIL, "/proc/cpuinfo cannot be read");
                return;
        }
        if (has_flag(cpuinfo, "svm")) {
                check_say(a, CHECK_PASS, "AMD SVM");
                return;
        }
        if (has_flag(cpuinfo, "vmx")) {
                check_say(a, CHECK_PASS, "Intel VMX");
                return;
        }
        /* A KVM that needs neither does exist. */
        check_say(a, json_flag(x->probe, "can-serve") ? CHECK_WARN : CHECK_FAIL,
                  "the processor shows neither SVM nor VMX");
        if (has_flag(cpuinfo, "hypervisor"))
                check_advise(
                        a,
                        "This is a virtual machine: enable nested virtualization for it on its host "
                        "(libvirt: <cpu mode='host-passthrough'/>).");
        else
                check_advise(a, "Enable SVM or VT-x in the firmware's set-up.");
}

static bool parameter_is_on(const struct check_context *x, const char *path, bool *ret_known) {
        _cleanup_free_ char *text = check_read(x, path);

        *ret_known = text != NULL;
        return text && (text[0] == 'Y' || text[0] == '1');
}

void check_nested_paging(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *cpuinfo = check_read(x, "/proc/cpuinfo");
        bool known, on;

        on = parameter_is_on(x, "/sys/module/kvm_amd/parameters/npt", &known);
        if (!known)
                on = parameter_is_on(x, "/sys/module/kvm_intel/parameters/ept", &known);
        if (known) {
                check_say(a, on ? CHECK_PASS : CHECK_WARN,
                          on ? "KVM uses it" : "KVM does not use it");
                check_advise(a, "Load kvm_amd with npt=1, or kvm_intel with ept=1.");
                return;
        }
        on = cpuinfo && (has_flag(cpuinfo, "npt") || has_flag(cpuinfo, "ept"));
        check_say(a, CHECK_WARN,
                  on ? "the processor has it, but neither kvm_amd nor kvm_intel is loaded"
                     : "the processor does not show it");
        check_advise(a, on ? "modprobe kvm_amd, or kvm_intel."
                           : "Without it faults are not precise: see fault-precision.");
}

void check_kernel(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *release = check_read(x, "/proc/sys/kernel/osrelease");
        unsigned major = 0, minor = 0;

        if (!release || sscanf(release, "%u.%u", &major, &minor) != 2) {
                check_say(a, CHECK_WARN, "its version is not known");
                return;
        }
        release[strcspn(release, "\n")] = '\0';
        if (major > KERNEL_MAJOR || (major == KERNEL_MAJOR && minor >= KERNEL_MINOR))
                check_say(a, CHECK_PASS, "Linux %.64s", release);
        else
                check_say(a, CHECK_WARN, "Linux %.64s is older than those that vtld is tested with",
                          release);
        check_advise(a, "Use Linux %d.%d or newer.", KERNEL_MAJOR, KERNEL_MINOR);
}

/* ---- KVM: what vtld --probe says ---- */

static struct json_object *part(struct json_object *o, const char *key) {
        struct json_object *v = NULL;

        (void) json_object_object_get_ex(o, key, &v);
        return v;
}

static const char *first_line(struct json_object *list) {
        const char *line = NULL;

        if (json_object_is_type(list, json_type_array) && json_object_array_length(list) > 0)
                line = json_object_get_string(json_object_array_get_idx(list, 0));
        return line ? line : "no reason is given";
}

void check_kvm_device(const struct check_context *x, struct check_answer *a) {
        struct json_object *kvm = part(x->probe, "kvm");

        if (json_flag(kvm, "usable")) {
                check_say(a, CHECK_PASS, "can be opened");
                return;
        }
        check_say(a, CHECK_FAIL, "%.400s", first_line(part(x->probe, "reasons")));
        if (!check_exists(x, "/dev/kvm"))
                check_advise(a, "modprobe kvm_amd, or kvm_intel; dmesg tells why when that fails.");
        else
                check_advise(
                        a,
                        "Add the user of the VMM to the group of /dev/kvm: usermod -a -G kvm USER.");
}

/* What vtld --probe gives as the reasons why no VM can be served, but for the accesses, which have
 * a check of their own */
void check_kvm_capabilities(const struct check_context *x, struct check_answer *a) {
        struct json_object *reasons = part(x->probe, "reasons");
        size_t n = json_object_is_type(reasons, json_type_array) ? json_object_array_length(reasons)
                                                                 : 0;
        const char *prefix = "KVM does not offer ";
        char missing[CHECK_TEXT_SIZE - 16] = "";
        size_t used = 0;

        if (!json_flag(part(x->probe, "kvm"), "usable")) {
                check_say(a, CHECK_FAIL, "not known without /dev/kvm");
                return;
        }
        for (size_t i = 0; i < n; i++) {
                const char *reason = json_object_get_string(json_object_array_get_idx(reasons, i));

                if (!reason || strncmp(reason, prefix, strlen(prefix)) != 0)
                        continue;
                (void) snprintf(missing + used, sizeof(missing) - used, "%s%s", used ? "; " : "",
                                reason + strlen(prefix));
                used = strlen(missing);
        }
        check_advise(
                a,
                "This KVM cannot serve VMs of vtld. Use the KVM of a stock kernel on hardware, or "
                "with nested virtualization.");
        if (used == 0)
                check_say(a, CHECK_PASS, "all of it is there");
        else
                check_say(a, CHECK_FAIL, "missing: %s", missing);
}

void check_kvm_hyperv(const struct check_context *x, struct check_answer *a) {
        struct json_object *kvm = part(x->probe, "kvm");

        if (!json_flag(kvm, "usable"))
                check_say(a, CHECK_WARN, "not known without /dev/kvm");
        else if (json_flag(part(kvm, "capabilities"), "hyperv"))
                check_say(a, CHECK_PASS, "KVM serves flushes and IPIs of VTL0 by itself");
        else
                check_say(a, CHECK_WARN, "not there: the engine serves them, which takes longer");
        check_advise(
                a,
                "Use a kernel with CONFIG_KVM_HYPERV, or Linux before 6.8, which always has it.");
}

void check_faults(const struct check_context *x, struct check_answer *a) {
        const char *precision = json_text(x->probe, "fault-precision");

        if (strcmp(precision, "precise") == 0)
                check_say(a, CHECK_PASS, "precise");
        else if (strcmp(precision, "imprecise") == 0)
                check_say(a, CHECK_WARN,
                          "imprecise: some instructions that touch protected memory are "
                          "reported in part, or end the guest");
        else
                check_say(a, CHECK_FAIL, "not known: %.400s",
                          first_line(part(x->probe, "reasons")));
        check_advise(a, "Use a host with nested paging; vtld --probe shows what was tried.");
}

void check_tsc(const struct check_context *x, struct check_answer *a) {
        struct json_object *stable = part(part(x->probe, "host"), "tsc-stable");

        if (!stable)
                check_say(a, CHECK_WARN, "the kernel does not say whether it is stable");
        else if (json_object_get_boolean(stable))
                check_say(a, CHECK_PASS, "stable");
        else
                check_say(
                        a, CHECK_WARN,
                        "the kernel does not call it stable: guests get no reference TSC page, and the "
                        "clocks of VTL0 and VTL1 may drift apart");
        check_advise(
                a,
                "dmesg | grep -i tsc tells why; on a host whose TSC is known to be good, boot with "
                "tsc=reliable.");
}

void check_mappings(const struct check_context *x, struct check_answer *a) {
        _cleanup_free_ char *text = check_read(x, "/proc/sys/vm/max_map_count");
        long count = text ? atol(text) : 0;

        if (count <= 0) {
                check_say(a, CHECK_WARN, "vm.max_map_count cannot be read");
                return;
        }
        if (count >= 262144)
                check_say(a, CHECK_PASS, "vm.max_map_count is %ld", count);
        else
                check_say(
                        a, CHECK_WARN,
                        "vm.max_map_count is %ld: about %ld scattered pages of a VM can be protected",
                        count, count / 2);
        check_advise(
                a, "echo vm.max_map_count=1048576 >/etc/sysctl.d/60-vtld.conf && sysctl --system");
}
