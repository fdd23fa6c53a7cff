/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>

#include "daemon/config.h"
#include "daemon/probe.h"
#include "daemon/vtlctl-check.h"
#include "util/util.h"

static const struct {
        const char *id;
        const char *title;
        check_fn *run;
} checks[] = {
        { "cpu", "hardware virtualization", check_cpu },
        { "nested-paging", "nested paging", check_nested_paging },
        { "kernel", "kernel", check_kernel },
        { "kvm-device", "/dev/kvm for this user", check_kvm_device },
        { "kvm-capabilities", "what KVM must offer", check_kvm_capabilities },
        { "kvm-hyperv", "Hyper-V's hypercalls in KVM", check_kvm_hyperv },
        { "fault-precision", "reports of forbidden accesses", check_faults },
        { "tsc", "time stamp counter", check_tsc },
        { "max-map-count", "mappings for scattered protections", check_mappings },
        { "seccomp", "system call filters", check_seccomp },
        { "memfd", "sealed memory files", check_memfd },
        { "user", "user of the service", check_user },
        { "config", "vtld.conf", check_config },
        { "policy", "policy files", check_policy },
        { "policy-signatures", "signatures of policy files", check_signatures },
        { "bus-policy", "D-Bus policy", check_bus_policy },
        { "service", "vtld on D-Bus", check_service },
        { "socket", "attach socket for this user", check_socket },
        { "libvirt", "libvirt", check_libvirt },
        { "mac", "AppArmor and SELinux", check_mac },
};

static const char *const result_names[_CHECK_RESULT_MAX] = {
        [CHECK_PASS] = "PASS",
        [CHECK_WARN] = "WARN",
        [CHECK_FAIL] = "FAIL",
};

static const char *const result_colours[_CHECK_RESULT_MAX] = {
        [CHECK_PASS] = "\033[32m",
        [CHECK_WARN] = "\033[33m",
        [CHECK_FAIL] = "\033[31m",
};

/* ---- For the checks ---- */

void check_say(struct check_answer *a, enum check_result result, const char *fmt, ...) {
        va_list ap;

        a->result = result;
        va_start(ap, fmt);
        (void) vsnprintf(a->detail, sizeof(a->detail), fmt, ap);
        va_end(ap);
}

void check_advise(struct check_answer *a, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(a->hint, sizeof(a->hint), fmt, ap);
        va_end(ap);
}

void check_path(const struct check_context *x, const char *path, char *ret) {
        (void) snprintf(ret, PATH_MAX, "%s%s", x->root, path);
}

bool check_exists(const struct check_context *x, const char *path) {
        char full[PATH_MAX];

        check_path(x, path, full);
        return access(full, F_OK) == 0;
}

char *check_read(const struct check_context *x, const char *path) {
        char full[PATH_MAX], *text;
        size_t n;
        FILE *f;

        check_path(x, path, full);
        f = fopen(full, "re");
        if (!f)
                return NULL;
        text = malloc(CHECK_FILE_MAX + 1);
        n = text ? fread(text, 1, CHECK_FILE_MAX, f) : 0;
        if (text)
                text[n] = '\0';
        (void) fclose(f);
        return text;
}

/* ---- The verb ---- */

static void show(const struct check_answer *a, size_t i, bool colours) {
        (void) printf("%s%s%s  %s: %s\n", colours ? result_colours[a->result] : "",
                      result_names[a->result], colours ? "\033[0m" : "", checks[i].title,
                      a->detail);
        if (a->result != CHECK_PASS && a->hint[0])
                (void) printf("      %s\n", a->hint);
}

static struct json_object *to_json(const struct check_answer *a, size_t i) {
        struct json_object *o = json_object_new_object();

        (void) json_object_object_add(o, "Check", json_object_new_string(checks[i].id));
        (void) json_object_object_add(o, "Title", json_object_new_string(checks[i].title));
        (void) json_object_object_add(o, "Result", json_object_new_string(result_names[a->result]));
        (void) json_object_object_add(o, "Detail", json_object_new_string(a->detail));
        (void) json_object_object_add(
                o, "Hint",
                a->result != CHECK_PASS && a->hint[0] ? json_object_new_string(a->hint) : NULL);
        return o;
}

static void finish_json(struct json_object *list, const unsigned *counts, enum check_result worst) {
        struct json_object *o = json_object_new_object();

        (void) json_object_object_add(o, "Result", json_object_new_string(result_names[worst]));
        for (unsigned i = 0; i < _CHECK_RESULT_MAX; i++)
                (void) json_object_object_add(o, result_names[i], json_object_new_int64(counts[i]));
        (void) json_object_object_add(o, "Checks", list);
        print_json(o, JSON_C_TO_STRING_PRETTY);
        (void) json_object_put(o);
}

/* Return: the worst result */
static enum check_result run_all(const struct check_context *x) {
        struct json_object *list = x->c->json ? json_object_new_array() : NULL;
        enum check_result worst = CHECK_PASS;
        unsigned counts[_CHECK_RESULT_MAX] = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
                struct check_answer a = { .result = CHECK_FAIL, .detail = "not checked" };

                checks[i].run(x, &a);
                worst = MAX(worst, a.result);
                counts[a.result]++;
                if (list)
                        (void) json_object_array_add(list, to_json(&a, i));
                else
                        show(&a, i, x->c->colours);
        }
        if (list)
                finish_json(list, counts, worst);
        else
                (void) printf("\n%u passed, %u with a warning, %u failed\n", counts[CHECK_PASS],
                              counts[CHECK_WARN], counts[CHECK_FAIL]);
        return worst;
}

static struct json_object *read_probe(const char *path) {
        struct json_object *o = json_object_from_file(path);

        if (json_object_is_type(o, json_type_object))
                return o;
        (void) json_object_put(o);
        (void) fprintf(stderr, "vtlctl: %s is not what vtld --probe prints\n", path);
        return NULL;
}

int verb_check_host(struct vtlctl *c, int argc, char **argv) {
        struct check_context x = { .c = c, .root = c->options[VTLCTL_OPTION_ROOT] };
        const char *probe = c->options[VTLCTL_OPTION_PROBE];
        char error[CONF_ERROR_SIZE] = "", device[PATH_MAX];
        enum check_result worst;
        struct config config;
        int r;

        if (!x.root)
                x.root = "";
        check_path(&x, "/dev/kvm", device);
        x.probe = probe ? read_probe(probe) : probe_report(device);
        if (!x.probe)
                return EX_DATAERR;
        r = config_init(&config);
        if (r >= 0) {
                r = config_load(&config, c->policy_options[POLICY_OPTION_CONFIG], error);
                if (r >= 0)
                        x.config = &config;
                x.config_error = error[0] ? error : strerror(-r);
                worst = run_all(&x);
                config_done(&config);
        } else
                worst = CHECK_FAIL;
        (void) json_object_put(x.probe);
        return worst == CHECK_FAIL ? EXIT_FAILURE : EXIT_SUCCESS;
}
