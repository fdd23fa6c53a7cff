/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>
#include <stdlib.h>

#include "util/util.h"
#include "vtl/options.h"

static const struct option_row {
        const char *key;
        size_t at;
        const char *off, *on; /* words for false and true; NULL: a number */
        uint32_t max;
        const char *choices;
} rows[] = {
#define CHOICE(name, field, off, on) \
        { name, offsetof(struct vtl_options, field), off, on, 0, off " or " on }
        CHOICE("mbec", accept_mbec, "refuse", "accept-unenforced"),
        CHOICE("vtl1-apic", apic_enabled, "off", "software-enabled"),
        CHOICE("lower-vtl-ipi", refuse_lower_ipi, "deliver", "refuse"),
        CHOICE("deny-startup", accept_startup_denial, "refuse", "accept-unenforced"),
        CHOICE("cr-intercepts", accept_cr_intercepts, "refuse", "accept-unenforced"),
        CHOICE("debug-registers", exact_debug_registers, "lazy", "exact"),
        CHOICE("kernel-hypercalls", no_kernel_hypercalls, "yes", "no"),
#undef CHOICE
        { "strict-execute-pages", offsetof(struct vtl_options, strict_execute_pages), NULL, NULL,
          VTL_STRICT_EXECUTE_MAX, "a number from 0 to 65536" },
};

static int set_number(uint32_t *at, uint32_t max, const char *value) {
        unsigned long v;
        char *end;

        if (*value < '0' || *value > '9')
                return -EINVAL;
        errno = 0;
        v = strtoul(value, &end, 10);
        if (errno || *end || v > max)
                return -EINVAL;
        *at = (uint32_t) v;
        return 0;
}

int vtl_option_find(const char *key) {
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                if (strcmp(rows[i].key, key) == 0)
                        return (int) i;
        return -ENOENT;
}

int vtl_option_set(struct vtl_options *o, const char *key, const char *value) {
        int i = vtl_option_find(key);
        void *at;

        if (i < 0)
                return i;
        at = (uint8_t *) o + rows[i].at;
        if (!rows[i].on)
                return set_number(at, rows[i].max, value);
        if (strcmp(value, rows[i].on) != 0 && strcmp(value, rows[i].off) != 0)
                return -EINVAL;
        *(bool *) at = strcmp(value, rows[i].on) == 0;
        return 0;
}

const char *vtl_option_key(size_t i) {
        return i < ARRAY_SIZE(rows) ? rows[i].key : NULL;
}

const char *vtl_option_choices(size_t i) {
        return i < ARRAY_SIZE(rows) ? rows[i].choices : "";
}

const char *vtl_option_value(const struct vtl_options *o, size_t i, char *buf, size_t size) {
        const void *at;
        int n;

        if (i >= ARRAY_SIZE(rows))
                return "";
        at = (const uint8_t *) o + rows[i].at;
        if (rows[i].on)
                return *(const bool *) at ? rows[i].on : rows[i].off;
        n = snprintf(buf, size, "%u", *(const uint32_t *) at);
        return n > 0 && (size_t) n < size ? buf : "";
}
