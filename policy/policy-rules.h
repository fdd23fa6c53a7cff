/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a policy is made of, for those who show it: rules, their keys and the files they are from.
 */

#include "policy/policy.h"
#include "policy/signature.h"

#define POLICY_VALUE_SIZE 128u /* of a pattern */

enum policy_key_id {
        /* What a VM must be */
        POLICY_KEY_NAME,
        POLICY_KEY_UUID,
        POLICY_KEY_UID,
        POLICY_KEY_LIBVIRT_DOMAIN,
        POLICY_KEY_LIBVIRT_POLICY,
        _POLICY_MATCH_MAX,
        /* What it gets */
        POLICY_KEY_ALLOW_VTL1 = _POLICY_MATCH_MAX,
        POLICY_KEY_MAX_VPS,
        POLICY_KEY_EXECUTE_ENFORCEMENT,
        POLICY_KEY_DMA_ENFORCEMENT,
        POLICY_KEY_MEASUREMENT,
        POLICY_KEY_ALLOW_REGISTER_READ,
        POLICY_KEY_MBEC,
        POLICY_KEY_VTL1_APIC,
        POLICY_KEY_LOWER_VTL_IPI,
        POLICY_KEY_DENY_STARTUP,
        POLICY_KEY_CR_INTERCEPTS,
        POLICY_KEY_DEBUG_REGISTERS,
        POLICY_KEY_KERNEL_HYPERCALLS,
        POLICY_KEY_STRICT_EXECUTE_PAGES,
        POLICY_KEY_RESERVE_MAPPINGS,
        _POLICY_KEY_MAX,
};

enum policy_key_kind {
        /* Of a VM, at @offset of struct policy_subject */
        POLICY_KIND_PATTERN, /* fnmatch(3) of a text */
        POLICY_KIND_PATTERN_NOCASE,
        POLICY_KIND_PATTERN_NUMBER, /* of the decimal digits of a number */
        POLICY_KIND_EXACT,
        /* Of what it gets, at @offset of struct policy_decision */
        POLICY_KIND_YES_NO,
        POLICY_KIND_CHOICE,
        POLICY_KIND_NUMBER,
        POLICY_KIND_DIGESTS, /* may be there several times */
        POLICY_KIND_OPTION,  /* of vtl/options.h, by its name */
};

struct policy_key {
        const char *name;
        enum policy_key_kind kind;
        size_t offset;
        const struct string_table *choices; /* POLICY_KIND_CHOICE */
        uint32_t min, max;                  /* POLICY_KIND_NUMBER */
};

extern const struct policy_key policy_keys[_POLICY_KEY_MAX];

enum policy_file_state {
        POLICY_FILE_UNSIGNED,
        POLICY_FILE_SIGNED,
        POLICY_FILE_UNKNOWN_KEY, /* signed, and taken as if it were not */
        _POLICY_FILE_STATE_MAX,
};

extern const struct string_table policy_file_state_table;

struct policy_file {
        char *path;
        bool mask; /* it only hides files of its name */
        enum policy_file_state state;
        char key_id[SIGNATURE_KEY_ID_TEXT_SIZE]; /* unless it is unsigned */
};

struct policy_rule {
        size_t file;
        unsigned line;
        uint32_t keys;                                       /* bitmap of those that were given */
        char patterns[_POLICY_MATCH_MAX][POLICY_VALUE_SIZE]; /* what a VM must be */
        struct policy_decision decision;                     /* what it gets; with the name */
};
_Static_assert(_POLICY_KEY_MAX <= 32, "a bitmap of keys");

struct policy {
        struct policy_file *files;
        size_t n_files;
        struct policy_rule *rules;
        size_t n_rules;
        bool unusable;
};

struct policy *policy_new(void);

/* Another file, which is not parsed here. Its path is copied. Return: its index, or -ENOMEM. */
int policy_add_file(struct policy *p, const char *path);

/**
 * policy_parse_into() - the rules of another file
 * @file: its index; on failure the policy is of no use any more
 *
 * Return: as policy_parse().
 */
int policy_parse_into(struct policy *p, size_t file, const char *text, size_t len,
                      char error[POLICY_ERROR_SIZE]);

/* What a VM gets when nothing else is said */
void policy_decision_init(struct policy_decision *d, const char *name, bool allow);

/**
 * policy_key_set() - give a key of a rule its value
 *
 * Return: 0, or -EBADMSG with what is wrong in @why, without a period.
 */
int policy_key_set(struct policy_rule *r, enum policy_key_id id, const char *value,
                   char why[POLICY_ERROR_SIZE]);

/**
 * policy_key_value() - the text of a key
 * @index: which of several values; 0 for all but measurements
 * @ret: the value as in a file
 *
 * Return: true, or false when there is no such value.
 */
bool policy_key_value(const struct policy_rule *r, enum policy_key_id id, unsigned index,
                      char ret[POLICY_VALUE_SIZE]);

/* The id of a key, or -EINVAL */
int policy_key_find(const char *name);

static inline bool policy_rule_has(const struct policy_rule *r, enum policy_key_id id) {
        return r->keys & (1u << id);
}

/**
 * policy_rule_obstacle() - why a rule does not match a VM
 *
 * Return: the first key that does not, or _POLICY_MATCH_MAX when the rule matches.
 */
enum policy_key_id policy_rule_obstacle(const struct policy_rule *r,
                                        const struct policy_subject *s);

/**
 * policy_subject_value() - what is known about a VM, as text
 * @id: a key of what a VM must be
 * @buf: room for numbers
 *
 * Return: the text, or NULL when it is not known.
 */
const char *policy_subject_value(const struct policy_subject *s, enum policy_key_id id,
                                 char buf[16]);
