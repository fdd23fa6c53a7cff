/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Policy: which VMs may enable VTL1, and with what. It is made of files, each of them an INI file
 * of sections "[match NAME]"; all sections of all files are tried in order, and the first one that
 * matches a VM decides. vtl-policy(5) is the manual.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/conf-file.h"
#include "util/string-table.h"
#include "vtl/options.h"

#define POLICY_FILE_MAX (64u * 1024u) /* bytes of a file */
#define POLICY_FILES_MAX 256u
#define POLICY_RULES_MAX 1024u /* of all files */
#define POLICY_NAME_SIZE 33u
#define POLICY_ERROR_SIZE CONF_ERROR_SIZE
#define POLICY_MEASUREMENT_SIZE 48u /* SHA-384 */
#define POLICY_MEASUREMENTS_MAX 16u /* of a rule */

/* Names of decisions that no rule made; no rule can be called so. */
#define POLICY_NAME_NONE "none"           /* there is no policy file */
#define POLICY_NAME_UNMATCHED "unmatched" /* no rule matches */
#define POLICY_NAME_UNUSABLE "unusable"   /* there is none that can be trusted */

struct policy;

#define POLICY_RESERVE_MAPPINGS_DEFAULT 4096u
#define POLICY_RESERVE_MAPPINGS_MAX (1u << 20)

/* ---- What a VM gets ---- */

/* How far something is enforced, and how far a rule requires it to be */
enum policy_enforcement {
        POLICY_ENFORCEMENT_NONE, /* in a rule: any */
        POLICY_ENFORCEMENT_BOUNDED,
        POLICY_ENFORCEMENT_FULL,
        _POLICY_ENFORCEMENT_MAX,
};

/* In a rule there is no bound between none and all of the devices' accesses. */
enum policy_dma {
        POLICY_DMA_ANY,
        POLICY_DMA_FULL,
        _POLICY_DMA_MAX,
};

enum policy_signatures {
        POLICY_SIGNATURES_OPTIONAL,
        POLICY_SIGNATURES_REQUIRED,
        _POLICY_SIGNATURES_MAX,
};

/* What each enum is called in files and on the bus */
extern const struct string_table policy_execute_table;     /* enum policy_enforcement, required */
extern const struct string_table policy_enforcement_table; /* the same enum, as it is */
extern const struct string_table policy_dma_table;
extern const struct string_table policy_signatures_table;

/* What is known about a VM */
struct policy_subject {
        const char *name;
        const char *uuid; /* text form, lower case */
        uint32_t uid;     /* of the VMM */
        /* The libvirt domain that the VMM was found to belong to, and what its metadata say; NULL:
         * none, or not known. */
        const char *libvirt_domain;
        const char *libvirt_policy;
};

struct policy_decision {
        char name[POLICY_NAME_SIZE]; /* of the rule */
        bool allow_vtl1;
        bool allow_register_read;
        uint32_t max_vps; /* 0: no limit but the engine's */
        enum policy_enforcement execute_enforcement;
        enum policy_dma dma_enforcement;
        uint32_t n_measurements; /* 0: any VTL1 */
        uint8_t measurements[POLICY_MEASUREMENTS_MAX][POLICY_MEASUREMENT_SIZE];
        struct vtl_options options;
        uint32_t reserve_mappings; /* host mappings that protections leave to the VMM */
};

/**
 * policy_decide() - may this VM enable VTL1, and with what?
 * @p: the policy, or NULL when there is none: everything is allowed then
 *
 * A VM that no rule of a policy matches is refused.
 */
void policy_decide(const struct policy *p, const struct policy_subject *s,
                   struct policy_decision *ret);

/* ---- Where it comes from ---- */

struct policy_source {
        const char *file; /* read before the drop-ins; NULL: none */
        bool file_required;
        bool file_is_dropin;            /* it may be one that only hides others */
        const char *const *directories; /* of drop-ins, the most important first; NULL at the end */
        const char *keys_directory;     /* of trusted keys, and the list of revoked ones */
        enum policy_signatures signatures;
        /* Called before each policy file is read; may be NULL. */
        void (*reading)(const char *path, void *userdata);
        void *userdata;
};

/**
 * policy_load() - all policy files, as they are at one moment
 * @ret: the policy; NULL when there is no file and signatures are not required
 * @error: on failure, one line for people that names file and line
 *
 * All or nothing: a file that is wrong, that cannot be read or that is not signed as it must be
 * fails all of them.
 *
 * Return: 0, -ENOENT when a file is not there, -EBADMSG for a file that is no policy, -EFBIG,
 * -E2BIG, -EKEYREJECTED for signatures, -EAGAIN when the files do not stop changing, or another
 * negative errno.
 */
int policy_load(const struct policy_source *source, struct policy **ret,
                char error[POLICY_ERROR_SIZE]);

/**
 * policy_parse() - a policy from memory, of one file
 * @text: the bytes of the file
 * @len: how many
 * @path: what to call it in @error
 *
 * Return: as policy_load().
 */
int policy_parse(const char *text, size_t len, const char *path, struct policy **ret,
                 char error[POLICY_ERROR_SIZE]);

/* A policy that refuses every VM, because none can be trusted; NULL without memory */
struct policy *policy_new_unusable(void);

struct policy *policy_free(struct policy *p);

size_t policy_rules(const struct policy *p);
size_t policy_files(const struct policy *p);
