/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * vtlctl: vtlctl.c (command line), vtlctl-objects.c (what the bus says, as JSON), vtlctl-show.c
 * (for people), vtlctl-table.c (columns), vtlctl-monitor.c, vtlctl-policy.c (policy files),
 * vtlctl-explain.c (what they mean for a VM), vtlctl-sign.c (their signatures), vtlctl-domain.c
 * (what libvirt knows), vtlctl-quote.c, vtlctl-detach.c, vtlctl-map*.c (protections),
 * vtlctl-registers.c, vtlctl-trace*.c.
 */

#include <json-c/json.h>
#include <signal.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "daemon/vtlctl-table.h"

#define VTLD_BUS_NAME "org.vtld1"
#define VTLD_BUS_ROOT "/org/vtld1"
#define VTLD_BUS_PARTITIONS VTLD_BUS_ROOT "/partition"

/* Options of `vtlctl policy`; NULL: not given */
enum policy_option {
        POLICY_OPTION_CONFIG,
        POLICY_OPTION_KEYS_DIRECTORY,
        POLICY_OPTION_KEY,
        /* What is known about a VM, in the order of enum policy_key_id */
        POLICY_OPTION_NAME,
        POLICY_OPTION_UUID,
        POLICY_OPTION_UID,
        POLICY_OPTION_LIBVIRT_DOMAIN,
        POLICY_OPTION_LIBVIRT_POLICY,
        _POLICY_OPTION_MAX,
};

/* Options that a few verbs have; NULL: not given */
enum vtlctl_option {
        VTLCTL_OPTION_ROOT,
        VTLCTL_OPTION_PROBE,
        VTLCTL_OPTION_INTERVAL,
        VTLCTL_OPTION_COUNT,
        VTLCTL_OPTION_NONCE,  /* of quote, in hexadecimal digits */
        VTLCTL_OPTION_OUTPUT, /* of quote and trace; NULL: standard output */
        VTLCTL_OPTION_SVG,    /* of map; "": standard output */
        VTLCTL_OPTION_FORMAT,
        VTLCTL_OPTION_VP,
        VTLCTL_OPTION_SECONDS,
        VTLCTL_OPTION_VTL,
        _VTLCTL_OPTION_MAX,
};

struct vtlctl {
        const char *address;
        sd_bus *bus; /* NULL: not connected yet */
        const char *libvirt_uri;
        bool json;
        bool colours;
        const char *policy_options[_POLICY_OPTION_MAX];
        const char *options[_VTLCTL_OPTION_MAX];
};

/* ---- vtlctl.c ---- */

/* Return: 0 or a negative errno; what went wrong has been said. */
int vtlctl_connect(struct vtlctl *c);

/* Says what is wrong with the arguments. Return: the exit status for it. */
int vtlctl_bad_usage(const char *what);

/* Says what failed. @what: the file or the like, or NULL. Return: the exit status for it. */
int vtlctl_complain(const char *what, const char *why);

/**
 * vtlctl_number() - an option that is a decimal number
 * @ret: stays as it is when the option was not given
 *
 * Return: 0; -EINVAL when it is none from @min to @max.
 */
int vtlctl_number(const struct vtlctl *c, enum vtlctl_option option, uint64_t min, uint64_t max,
                  uint64_t *ret);

/* SIGINT and SIGTERM, which are to be waited for with sigtimedwait() from now on. Return: 0 or a
 * negative errno. */
int vtlctl_catch_end(sigset_t *ret);

/* ---- vtlctl-objects.c ---- */

/**
 * objects_fetch() - everything there is
 * @ret: {"ObjectPath", manager's properties, "VirtualMachines": [{"ObjectPath", partition's
 * properties,
 *       "VirtualProcessors": [{"ObjectPath", VP's properties}]}]}, sorted by name and index
 *
 * Return: 0 or a negative errno; what went wrong has been said.
 */
int objects_fetch(struct vtlctl *c, struct json_object **ret);

/**
 * objects_find() - one VM by UUID, name, or the beginning of one of them
 *
 * Return: the VM (borrowed), or NULL; what went wrong has been said.
 */
struct json_object *objects_find(struct json_object *root, const char *what);

/* The next value of a message as JSON; D-Bus types that vtld does not use become null. Negative
 * errno on failure. */
int message_to_json(sd_bus_message *m, struct json_object **ret);

/* A member of an object, in a form that needs no check by the caller */
const char *json_text(struct json_object *o, const char *key);
uint64_t json_number(struct json_object *o, const char *key);
bool json_flag(struct json_object *o, const char *key);

void print_json(struct json_object *o, int flags);

/* ---- `vtlctl policy` ---- */

/* vtld.conf as vtld would read it, with what the options say. Return: 0 or a negative errno; what
 * went wrong has been said. */
struct config;
int policy_read_config(const struct vtlctl *c, struct config *ret);

/* A value as in a file: a boolean, a number, a text, an array of measurements, or NULL for none */
struct policy_rule;
struct json_object *policy_value_to_json(const struct policy_rule *r, unsigned key);

int policy_explain(struct vtlctl *c, int argc, char **argv);
int policy_sign(struct vtlctl *c, int argc, char **argv);
int policy_verify(struct vtlctl *c, int argc, char **argv);

/* ---- The verbs: an exit status ---- */

int verb_list(struct vtlctl *c, int argc, char **argv);
int verb_status(struct vtlctl *c, int argc, char **argv);
int verb_vp(struct vtlctl *c, int argc, char **argv);
int verb_monitor(struct vtlctl *c, int argc, char **argv);
int verb_quote(struct vtlctl *c, int argc, char **argv);
int verb_policy(struct vtlctl *c, int argc, char **argv);
/* Needs no bus. Does not return when it succeeds. */
int verb_domain(struct vtlctl *c, int argc, char **argv);
int verb_top(struct vtlctl *c, int argc, char **argv);
int verb_check_host(struct vtlctl *c, int argc, char **argv);
int verb_detach(struct vtlctl *c, int argc, char **argv);
int verb_registers(struct vtlctl *c, int argc, char **argv);
int verb_map(struct vtlctl *c, int argc, char **argv);
int verb_trace(struct vtlctl *c, int argc, char **argv);
