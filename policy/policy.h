/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The policy file: which VMs may enable VTL1. An INI file of sections "[match NAME]", tried in the
 * order of the file; the first one whose patterns all match a VM decides.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_FILE_MAX (64u * 1024u)
#define POLICY_RULES_MAX 256u
#define POLICY_NAME_SIZE 33u
#define POLICY_ERROR_SIZE 320u

/* Names of decisions that no rule made; no rule can be called so. */
#define POLICY_NAME_NONE "none"           /* there is no policy file */
#define POLICY_NAME_UNMATCHED "unmatched" /* no rule matches */

struct policy;

struct policy_subject {
        const char *name;
        const char *uuid; /* text form, lower case */
        uint32_t uid;     /* of the VMM */
};

struct policy_decision {
        char name[POLICY_NAME_SIZE]; /* of the rule */
        bool allow_vtl1;
};

/**
 * policy_load() - read a policy file
 * @path: the file
 * @ret: the policy
 * @error: on failure, one line for people that names file and line
 *
 * Return: 0, -ENOENT when there is no such file, -EBADMSG for a file that is no policy, -EFBIG, or
 * another negative errno.
 */
int policy_load(const char *path, struct policy **ret, char error[POLICY_ERROR_SIZE]);

/**
 * policy_parse() - a policy from memory
 * @text: the bytes of the file
 * @len: how many
 * @path: what to call it in @error
 *
 * Return: as policy_load().
 */
int policy_parse(const char *text, size_t len, const char *path, struct policy **ret,
                 char error[POLICY_ERROR_SIZE]);

struct policy *policy_free(struct policy *p);

size_t policy_rules(const struct policy *p);

/**
 * policy_decide() - may this VM enable VTL1?
 * @p: the policy, or NULL when there is none: everything is allowed then
 *
 * A VM that no rule of a policy matches is refused.
 */
void policy_decide(const struct policy *p, const struct policy_subject *s,
                   struct policy_decision *ret);
