/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Enums and their texts: one table for both directions, indexed by the value.
 */

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct string_table {
        const char *const *names;
        unsigned n;
};

/* A table of an array of names, one for each value from 0 on */
#define STRING_TABLE(array) \
        { (array), sizeof(array) / sizeof((array)[0]) }

/* The text of a value, or NULL when there is no such value */
static inline const char *string_table_name(const struct string_table *t, unsigned value) {
        return value < t->n ? t->names[value] : NULL;
}

/* The value of a text, or -EINVAL */
static inline int string_table_value(const struct string_table *t, const char *name) {
        for (unsigned i = 0; i < t->n; i++)
                if (strcmp(t->names[i], name) == 0)
                        return (int) i;
        return -EINVAL;
}

/* "a, b or c", for messages; returns @buf */
static inline const char *string_table_list(const struct string_table *t, char *buf, size_t size) {
        size_t o = 0;

        buf[0] = '\0';
        for (unsigned i = 0; i < t->n && o < size; i++) {
                const char *between = i == 0 ? "" : i + 1 < t->n ? ", " : " or ";

                o += (size_t) snprintf(buf + o, size - o, "%s%s", between, t->names[i]);
        }
        return buf;
}
