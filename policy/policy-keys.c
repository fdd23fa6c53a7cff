/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdarg.h>
#include <stdio.h>

#include "policy/policy-rules.h"
#include "util/hex.h"
#include "util/util.h"
#include "vtl/control.h"

/* ---- Enums and their texts ---- */

static const char *const execute_names[_POLICY_ENFORCEMENT_MAX] = {
        [POLICY_ENFORCEMENT_NONE] = "any",
        [POLICY_ENFORCEMENT_BOUNDED] = "bounded",
        [POLICY_ENFORCEMENT_FULL] = "full",
};
static const char *const enforcement_names[_POLICY_ENFORCEMENT_MAX] = {
        [POLICY_ENFORCEMENT_NONE] = "none",
        [POLICY_ENFORCEMENT_BOUNDED] = "bounded",
        [POLICY_ENFORCEMENT_FULL] = "full",
};
static const char *const dma_names[_POLICY_DMA_MAX] = {
        [POLICY_DMA_ANY] = "any",
        [POLICY_DMA_FULL] = "full",
};
static const char *const signatures_names[_POLICY_SIGNATURES_MAX] = {
        [POLICY_SIGNATURES_OPTIONAL] = "optional",
        [POLICY_SIGNATURES_REQUIRED] = "required",
};
static const char *const file_state_names[_POLICY_FILE_STATE_MAX] = {
        [POLICY_FILE_UNSIGNED] = "unsigned",
        [POLICY_FILE_SIGNED] = "signed",
        [POLICY_FILE_UNKNOWN_KEY] = "unknown-key",
};

const struct string_table policy_execute_table = STRING_TABLE(execute_names);
const struct string_table policy_enforcement_table = STRING_TABLE(enforcement_names);
const struct string_table policy_dma_table = STRING_TABLE(dma_names);
const struct string_table policy_signatures_table = STRING_TABLE(signatures_names);
const struct string_table policy_file_state_table = STRING_TABLE(file_state_names);

/* ---- The keys ---- */

#define OF_VM(kind_, name_, field) \
        { .name = (name_), .kind = (kind_), .offset = offsetof(struct policy_subject, field) }
#define GRANT(kind_, name_, field, ...)                                        \
        {                                                                      \
                .name = (name_), .kind = (kind_),                              \
                .offset = offsetof(struct policy_decision, field), __VA_ARGS__ \
        }
#define YES_NO(name, field) GRANT(POLICY_KIND_YES_NO, name, field, .min = 0)
#define CHOICE(name, field, table) GRANT(POLICY_KIND_CHOICE, name, field, .choices = (table))
#define NUMBER(name, field, min_, max_) \
        GRANT(POLICY_KIND_NUMBER, name, field, .min = (min_), .max = (max_))
#define OPTION(name_) \
        { .name = (name_), .kind = POLICY_KIND_OPTION }

const struct policy_key policy_keys[_POLICY_KEY_MAX] = {
        [POLICY_KEY_NAME] = OF_VM(POLICY_KIND_PATTERN, "name", name),
        [POLICY_KEY_UUID] = OF_VM(POLICY_KIND_PATTERN_NOCASE, "uuid", uuid),
        [POLICY_KEY_UID] = OF_VM(POLICY_KIND_PATTERN_NUMBER, "uid", uid),
        [POLICY_KEY_LIBVIRT_DOMAIN] = OF_VM(POLICY_KIND_PATTERN, "libvirt-domain", libvirt_domain),
        [POLICY_KEY_LIBVIRT_POLICY] = OF_VM(POLICY_KIND_EXACT, "libvirt-policy", libvirt_policy),

        [POLICY_KEY_ALLOW_VTL1] = YES_NO("allow-vtl1", allow_vtl1),
        [POLICY_KEY_MAX_VPS] = NUMBER("max-vps", max_vps, 1, VTL_MAX_VPS),
        [POLICY_KEY_EXECUTE_ENFORCEMENT] =
                CHOICE("execute-enforcement", execute_enforcement, &policy_execute_table),
        [POLICY_KEY_DMA_ENFORCEMENT] =
                CHOICE("dma-enforcement", dma_enforcement, &policy_dma_table),
        [POLICY_KEY_MEASUREMENT] =
                GRANT(POLICY_KIND_DIGESTS, "measurement", measurements, .min = 0),
        [POLICY_KEY_ALLOW_REGISTER_READ] = YES_NO("allow-register-read", allow_register_read),

        [POLICY_KEY_MBEC] = OPTION("mbec"),
        [POLICY_KEY_VTL1_APIC] = OPTION("vtl1-apic"),
        [POLICY_KEY_LOWER_VTL_IPI] = OPTION("lower-vtl-ipi"),
        [POLICY_KEY_DENY_STARTUP] = OPTION("deny-startup"),
        [POLICY_KEY_CR_INTERCEPTS] = OPTION("cr-intercepts"),
        [POLICY_KEY_DEBUG_REGISTERS] = OPTION("debug-registers"),
        [POLICY_KEY_KERNEL_HYPERCALLS] = OPTION("kernel-hypercalls"),
        [POLICY_KEY_STRICT_EXECUTE_PAGES] = OPTION("strict-execute-pages"),
        [POLICY_KEY_RESERVE_MAPPINGS] =
                NUMBER("reserve-mappings", reserve_mappings, 0, POLICY_RESERVE_MAPPINGS_MAX),
};

int policy_key_find(const char *name) {
        for (int i = 0; i < _POLICY_KEY_MAX; i++)
                if (strcmp(policy_keys[i].name, name) == 0)
                        return i;
        return -EINVAL;
}

void policy_decision_init(struct policy_decision *d, const char *name, bool allow) {
        /* With what is between the fields: decisions are compared and sent as bytes. */
        memset(d, 0, sizeof(*d));
        d->allow_vtl1 = allow;
        d->reserve_mappings = POLICY_RESERVE_MAPPINGS_DEFAULT;
        (void) snprintf(d->name, sizeof(d->name), "%s", name);
}

/* ---- Values ---- */

/* Enums and numbers are of this size: the table stores both alike. */
_Static_assert(sizeof(enum policy_enforcement) == sizeof(uint32_t) &&
                       sizeof(enum policy_dma) == sizeof(uint32_t),
               "enums are numbers of 32 bits");

static void store(struct policy_rule *r, const struct policy_key *k, uint32_t value) {
        memcpy((uint8_t *) &r->decision + k->offset, &value, sizeof(value));
}

static uint32_t fetch(const struct policy_rule *r, const struct policy_key *k) {
        uint32_t value;

        memcpy(&value, (const uint8_t *) &r->decision + k->offset, sizeof(value));
        return value;
}

static bool *flag_of(const struct policy_rule *r, const struct policy_key *k) {
        return (bool *) ((uint8_t *) &r->decision + k->offset);
}

static _printf_(2, 3) int wrong(char *why, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(why, POLICY_ERROR_SIZE, fmt, ap);
        va_end(ap);
        return -EBADMSG;
}

static int set_pattern(struct policy_rule *r, enum policy_key_id id, const char *value, char *why) {
        if (!*value)
                return wrong(why, "%s= is empty", policy_keys[id].name);
        if (strlen(value) >= POLICY_VALUE_SIZE)
                return wrong(why, "%s= is longer than %u bytes", policy_keys[id].name,
                             POLICY_VALUE_SIZE - 1);
        memcpy(r->patterns[id], value, strlen(value) + 1);
        return 0;
}

static int set_yes_no(struct policy_rule *r, const struct policy_key *k, const char *value,
                      char *why) {
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
                return wrong(why, "%s= is yes or no", k->name);
        *flag_of(r, k) = value[0] == 'y';
        return 0;
}

static int set_choice(struct policy_rule *r, const struct policy_key *k, const char *value,
                      char *why) {
        char list[128];
        int v = string_table_value(k->choices, value);

        if (v < 0)
                return wrong(why, "%s= is %s", k->name,
                             string_table_list(k->choices, list, sizeof(list)));
        store(r, k, (uint32_t) v);
        return 0;
}

static int set_number(struct policy_rule *r, const struct policy_key *k, const char *value,
                      char *why) {
        uint32_t v = 0;
        size_t n = strspn(value, "0123456789");

        /* Seven digits do not overflow, and no limit has more. */
        if (n > 0 && n <= 7 && !value[n])
                v = (uint32_t) strtoul(value, NULL, 10);
        else
                n = 0;
        if (n == 0 || v < k->min || v > k->max)
                return wrong(why, "%s= is a number from %u to %u", k->name, k->min, k->max);
        store(r, k, v);
        return 0;
}

static int set_option(struct policy_rule *r, const struct policy_key *k, const char *value,
                      char *why) {
        if (vtl_option_set(&r->decision.options, k->name, value) < 0)
                return wrong(why, "%s= is %s", k->name,
                             vtl_option_choices((size_t) vtl_option_find(k->name)));
        return 0;
}

static int add_digests(struct policy_rule *r, const struct policy_key *k, const char *value,
                       char *why) {
        struct policy_decision *d = &r->decision;

        if (!*value)
                return wrong(why, "%s= is empty", k->name);
        while (*value) {
                size_t n = strcspn(value, " \t");

                if (d->n_measurements >= POLICY_MEASUREMENTS_MAX)
                        return wrong(why, "%s= has more than %u digests", k->name,
                                     POLICY_MEASUREMENTS_MAX);
                if (n != 2 * POLICY_MEASUREMENT_SIZE ||
                    hex_decode(value, POLICY_MEASUREMENT_SIZE, d->measurements[d->n_measurements]) <
                            0)
                        return wrong(why, "%s= is SHA-384 digests, each of %u hexadecimal digits",
                                     k->name, 2 * POLICY_MEASUREMENT_SIZE);
                d->n_measurements++;
                value += n;
                value += strspn(value, " \t");
        }
        return 0;
}

int policy_key_set(struct policy_rule *r, enum policy_key_id id, const char *value,
                   char why[POLICY_ERROR_SIZE]) {
        const struct policy_key *k = &policy_keys[id];

        r->keys |= 1u << id;
        switch (k->kind) {
        case POLICY_KIND_YES_NO:
                return set_yes_no(r, k, value, why);
        case POLICY_KIND_CHOICE:
                return set_choice(r, k, value, why);
        case POLICY_KIND_NUMBER:
                return set_number(r, k, value, why);
        case POLICY_KIND_DIGESTS:
                return add_digests(r, k, value, why);
        case POLICY_KIND_OPTION:
                return set_option(r, k, value, why);
        default:
                return set_pattern(r, id, value, why);
        }
}

bool policy_key_value(const struct policy_rule *r, enum policy_key_id id, unsigned index,
                      char ret[POLICY_VALUE_SIZE]) {
        const struct policy_key *k = &policy_keys[id];

        if (index > 0 && k->kind != POLICY_KIND_DIGESTS)
                return false;
        switch (k->kind) {
        case POLICY_KIND_OPTION: {
                char text[POLICY_VALUE_SIZE];

                (void) snprintf(ret, POLICY_VALUE_SIZE, "%s",
                                vtl_option_value(&r->decision.options,
                                                 (size_t) vtl_option_find(k->name), text,
                                                 sizeof(text)));
                return true;
        }
        case POLICY_KIND_YES_NO:
                (void) snprintf(ret, POLICY_VALUE_SIZE, "%s", *flag_of(r, k) ? "yes" : "no");
                return true;
        case POLICY_KIND_CHOICE:
                (void) snprintf(ret, POLICY_VALUE_SIZE, "%s",
                                string_table_name(k->choices, fetch(r, k)));
                return true;
        case POLICY_KIND_NUMBER:
                if (fetch(r, k) < k->min) /* the absence of a limit is no number */
                        return false;
                (void) snprintf(ret, POLICY_VALUE_SIZE, "%u", fetch(r, k));
                return true;
        case POLICY_KIND_DIGESTS:
                if (index >= r->decision.n_measurements)
                        return false;
                hex_encode(r->decision.measurements[index], POLICY_MEASUREMENT_SIZE, ret);
                return true;
        default:
                if (!policy_rule_has(r, id))
                        return false;
                memcpy(ret, r->patterns[id], POLICY_VALUE_SIZE);
                return true;
        }
}
