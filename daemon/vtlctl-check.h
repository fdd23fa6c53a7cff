/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * `vtlctl check-host`: vtlctl-check.c (the verb), vtlctl-check-kvm.c (processor, kernel, KVM),
 * vtlctl-check-system.c (what is installed, configured and running).
 */

#include "daemon/vtlctl.h"

enum check_result {
        CHECK_PASS,
        CHECK_WARN, /* VMs are served, but less well than they could be */
        CHECK_FAIL, /* no VM is served, or not as the administrator wants it */
        _CHECK_RESULT_MAX,
};

#define CHECK_TEXT_SIZE 512u
#define CHECK_FILE_MAX (256u * 1024u)

struct config;

struct check_context {
        struct vtlctl *c;
        const char *root;            /* in front of the paths of the system; "" */
        struct json_object *probe;   /* of this host's KVM, see vtld(8) */
        const struct config *config; /* NULL: it cannot be read */
        const char *config_error;
};

/* What one check found: a line for people, and what to do about it */
struct check_answer {
        enum check_result result;
        char detail[CHECK_TEXT_SIZE];
        char hint[CHECK_TEXT_SIZE];
};

typedef void check_fn(const struct check_context *x, struct check_answer *a);

void check_say(struct check_answer *a, enum check_result result, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void check_advise(struct check_answer *a, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* PATH_MAX bytes */
void check_path(const struct check_context *x, const char *path, char *ret);
bool check_exists(const struct check_context *x, const char *path);
/* A text file of the system, or NULL; free() it. */
char *check_read(const struct check_context *x, const char *path);

/* ---- The checks ---- */

check_fn check_cpu, check_nested_paging, check_kernel, check_kvm_device, check_kvm_capabilities,
        check_kvm_hyperv, check_faults, check_tsc, check_mappings;
check_fn check_seccomp, check_memfd, check_user, check_config, check_policy, check_signatures,
        check_bus_policy, check_service, check_socket, check_libvirt, check_mac;
