/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Columns for people.
 */

#include <stdbool.h>
#include <stddef.h>

enum align {
        ALIGN_LEFT,
        ALIGN_RIGHT,
};

struct column {
        const char *title;
        enum align align;
};

struct table;

struct table *table_new(const struct column *columns, size_t n);
struct table *table_free(struct table *t);
/* Cells are taken row by row. @colour is an escape sequence or NULL. */
void table_cell(struct table *t, const char *colour, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
void table_print(const struct table *t, bool colours);
