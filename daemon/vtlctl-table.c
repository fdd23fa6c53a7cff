/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>

#include "daemon/vtlctl-table.h"
#include "util/util.h"

#define BOLD "\033[1m"
#define PLAIN "\033[0m"

struct cell {
        char *text;
        const char *colour;
};

struct table {
        const struct column *columns;
        size_t n_columns;
        struct cell *cells;
        size_t n_cells;
};

struct table *table_new(const struct column *columns, size_t n) {
        struct table *t = calloc(1, sizeof(*t));

        if (t) {
                t->columns = columns;
                t->n_columns = n;
        }
        return t;
}

struct table *table_free(struct table *t) {
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++)
                free(t->cells[i].text);
        free(t->cells);
        free(t);
        return NULL;
}

void table_cell(struct table *t, const char *colour, const char *fmt, ...) {
        struct cell *cells;
        va_list ap;
        char *text;

        cells = reallocarray(t->cells, t->n_cells + 1, sizeof(*cells));
        if (!cells)
                return;
        t->cells = cells;
        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                text = NULL;
        va_end(ap);
        cells[t->n_cells++] = (struct cell){ .text = text, .colour = colour };
}

static const char *cell_text(const struct cell *c) {
        return c->text ? c->text : "?";
}

/* Characters, not bytes: names are UTF-8. */
static size_t width(const char *s) {
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char) *s & 0xc0) != 0x80;
        return n;
}

static size_t column_width(const struct table *t, size_t column) {
        size_t w = width(t->columns[column].title);

        for (size_t i = column; i < t->n_cells; i += t->n_columns)
                w = MAX(w, width(cell_text(&t->cells[i])));
        return w;
}

static void pad(size_t n) {
        while (n-- > 0)
                (void) putchar(' ');
}

static void print_cell(const struct table *t, size_t column, const char *text, const char *colour,
                       size_t to) {
        size_t room = to - width(text);
        bool last = column + 1 == t->n_columns;

        if (t->columns[column].align == ALIGN_RIGHT)
                pad(room);
        (void) printf("%s%s%s", colour ? colour : "", text, colour ? PLAIN : "");
        if (last) {
                (void) putchar('\n');
                return;
        }
        if (t->columns[column].align == ALIGN_LEFT)
                pad(room);
        pad(2);
}

void table_print(const struct table *t, bool colours) {
        _cleanup_free_ size_t *widths = calloc(t->n_columns, sizeof(*widths));

        if (!widths)
                return;
        for (size_t c = 0; c < t->n_columns; c++)
                widths[c] = column_width(t, c);
        for (size_t c = 0; c < t->n_columns; c++)
                print_cell(t, c, t->columns[c].title, colours ? BOLD : NULL, widths[c]);
        for (size_t i = 0; i < t->n_cells; i++)
                print_cell(t, i % t->n_columns, cell_text(&t->cells[i]),
                           colours ? t->cells[i].colour : NULL, widths[i % t->n_columns]);
}
