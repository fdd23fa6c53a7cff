/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What may be decided for one guest: where stock KVM cannot do what a guest asks for, and where
 * clients of VSM disagree. The same words in the policy file, on vtlrun's command line and in the
 * manual, vtl-policy(5). All zeroes are the defaults.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vtl_options {
        bool accept_mbec;           /* mbec = accept-unenforced */
        bool apic_enabled;          /* vtl1-apic = software-enabled */
        bool refuse_lower_ipi;      /* lower-vtl-ipi = refuse */
        bool accept_startup_denial; /* deny-startup = accept-unenforced */
        bool accept_cr_intercepts;  /* cr-intercepts = accept-unenforced */
        bool exact_debug_registers; /* debug-registers = exact */
        bool no_kernel_hypercalls;  /* kernel-hypercalls = no */
        uint32_t strict_execute_pages;
};

#define VTL_STRICT_EXECUTE_MAX 65536u

/**
 * vtl_option_set() - set one by its key and value
 *
 * Return: 0, -ENOENT for an unknown key, -EINVAL for a value that it cannot have.
 */
int vtl_option_set(struct vtl_options *o, const char *key, const char *value);

/* The number of a key, or -ENOENT */
int vtl_option_find(const char *key);

/* Keys by number, from 0: NULL behind the last one. */
const char *vtl_option_key(size_t i);

/* The value of key number @i in words; "" when there is no such key or no room. */
const char *vtl_option_value(const struct vtl_options *o, size_t i, char *buf, size_t size);

/* What values key number @i takes, for messages: "refuse or accept-unenforced". */
const char *vtl_option_choices(size_t i);
