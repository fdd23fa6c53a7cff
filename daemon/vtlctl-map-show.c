/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>

#include "daemon/vtlctl-map.h"
#include "daemon/vtlctl-table.h"
#include "util/util.h"

#define RUNS_MAX (UINT64_C(1) << 22)

#define RED "\033[31m"
#define YELLOW "\033[33m"

int map_add(struct map *m, const struct map_run *run) {
        struct map_run *last = m->n_runs > 0 ? &m->runs[m->n_runs - 1] : NULL;
        uint64_t end = last ? last->gpn + last->count : 0;

        if (run->count == 0 || run->gpn < end || run->gpn >= HV_GPNS_END ||
            run->count > HV_GPNS_END - run->gpn || run->mask >= MAP_MASKS)
                return -EBADMSG;
        m->totals[run->mask].pages += run->count;
        if (last && run->gpn == end && run->mask == last->mask) {
                last->count += run->count;
                return 0;
        }
        if (m->n_runs == m->room) {
                size_t room = m->room ? 2 * m->room : 64;
                struct map_run *runs;

                if (m->n_runs >= RUNS_MAX)
                        return -E2BIG;
                runs = reallocarray(m->runs, room, sizeof(*runs));
                if (!runs)
                        return -ENOMEM;
                m->runs = runs;
                m->room = room;
        }
        m->totals[run->mask].runs++;
        m->runs[m->n_runs++] = *run;
        return 0;
}

void map_clear(struct map *m) {
        m->runs = (free(m->runs), NULL);
        m->n_runs = m->room = 0;
        memset(m->totals, 0, sizeof(m->totals));
}

/* ---- Words ---- */

const char *map_rights(unsigned mask, char buf[MAP_RIGHTS_SIZE]) {
        (void) snprintf(buf, MAP_RIGHTS_SIZE, "%c%c%c%c", mask & HV_MAP_GPA_READABLE ? 'R' : '-',
                        mask & HV_MAP_GPA_WRITABLE ? 'W' : '-',
                        mask & HV_MAP_GPA_KERNEL_EXECUTABLE ? 'K' : '-',
                        mask & HV_MAP_GPA_USER_EXECUTABLE ? 'U' : '-');
        return buf;
}

const char *map_words(unsigned mask, char buf[MAP_WORDS_SIZE]) {
        static const char *const execute[] = { "", "execute in kernel mode", "execute in user mode",
                                               "execute" };
        const char *x = execute[(mask & HV_MAP_GPA_KERNEL_EXECUTABLE ? 1 : 0) |
                                (mask & HV_MAP_GPA_USER_EXECUTABLE ? 2 : 0)];
        const char *rw = mask & HV_MAP_GPA_WRITABLE
                               ? mask & HV_MAP_GPA_READABLE ? "read, write" : "write"
                       : mask & HV_MAP_GPA_READABLE ? "read"
                                                    : "";

        if (mask == HV_MAP_GPA_ALL || mask == 0)
                (void) snprintf(buf, MAP_WORDS_SIZE, "%s", mask ? "everything" : "nothing");
        else
                (void) snprintf(buf, MAP_WORDS_SIZE, "%s%s%s", rw, *rw && *x ? ", " : "", x);
        return buf;
}

const char *map_size(uint64_t pages, char buf[MAP_SIZE_SIZE]) {
        static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
        uint64_t kib = pages * 4, unit = 1;
        size_t u = 0;

        while (u + 1 < ARRAY_SIZE(units) && kib / unit >= 1024) {
                unit *= 1024;
                u++;
        }
        if (kib % unit == 0)
                (void) snprintf(buf, MAP_SIZE_SIZE, "%" PRIu64 " %s", kib / unit, units[u]);
        else
                (void) snprintf(buf, MAP_SIZE_SIZE, "%" PRIu64 ".%" PRIu64 " %s", kib / unit,
                                kib % unit * 10 / unit, units[u]);
        return buf;
}

/* ---- Text ---- */

static const char *colour_of(unsigned mask) {
        return mask == HV_MAP_GPA_ALL ? NULL : mask == 0 ? RED : YELLOW;
}

static void print_runs(const struct map *m, bool colours) {
        static const struct column columns[] = {
                { "FIRST BYTE", ALIGN_RIGHT }, { "LAST BYTE", ALIGN_RIGHT },
                { "SIZE", ALIGN_RIGHT },       { "RIGHTS", ALIGN_LEFT },
                { "VTL0 MAY", ALIGN_LEFT },
        };
        char rights[MAP_RIGHTS_SIZE], words[MAP_WORDS_SIZE], size[MAP_SIZE_SIZE];
        struct table *t = table_new(columns, ARRAY_SIZE(columns));

        if (!t)
                return;
        for (size_t i = 0; i < m->n_runs; i++) {
                const struct map_run *r = &m->runs[i];

                table_cell(t, NULL, "0x%" PRIx64, r->gpn << HV_PAGE_SHIFT);
                table_cell(t, NULL, "0x%" PRIx64, ((r->gpn + r->count) << HV_PAGE_SHIFT) - 1);
                table_cell(t, NULL, "%s", map_size(r->count, size));
                table_cell(t, colour_of(r->mask), "%s", map_rights(r->mask, rights));
                table_cell(t, NULL, "%s", map_words(r->mask, words));
        }
        table_print(t, colours);
        (void) table_free(t);
}

static void print_totals(const struct map *m, bool colours) {
        static const struct column columns[] = {
                { "RIGHTS", ALIGN_LEFT }, { "PAGES", ALIGN_RIGHT },   { "SIZE", ALIGN_RIGHT },
                { "RUNS", ALIGN_RIGHT },  { "VTL0 MAY", ALIGN_LEFT },
        };
        char rights[MAP_RIGHTS_SIZE], words[MAP_WORDS_SIZE], size[MAP_SIZE_SIZE];
        struct table *t = table_new(columns, ARRAY_SIZE(columns));

        if (!t)
                return;
        for (unsigned mask = 0; mask < MAP_MASKS; mask++) {
                const struct map_total *total = &m->totals[mask];

                if (total->runs == 0)
                        continue;
                table_cell(t, colour_of(mask), "%s", map_rights(mask, rights));
                table_cell(t, NULL, "%" PRIu64, total->pages);
                table_cell(t, NULL, "%s", map_size(total->pages, size));
                table_cell(t, NULL, "%" PRIu64, total->runs);
                table_cell(t, NULL, "%s", map_words(mask, words));
        }
        table_print(t, colours);
        (void) table_free(t);
}

void map_print(const struct map *m, bool colours) {
        print_runs(m, colours);
        (void) putchar('\n');
        print_totals(m, colours);
}

/* ---- JSON ---- */

static void add_number(struct json_object *o, const char *key, uint64_t value) {
        (void) json_object_object_add(o, key, json_object_new_uint64(value));
}

static void add_mask(struct json_object *o, unsigned mask) {
        char rights[MAP_RIGHTS_SIZE];

        add_number(o, "Mask", mask);
        (void) json_object_object_add(o, "Rights",
                                      json_object_new_string(map_rights(mask, rights)));
}

struct json_object *map_to_json(const struct map *m) {
        struct json_object *o = json_object_new_object(), *runs = json_object_new_array(),
                           *totals = json_object_new_array();

        for (size_t i = 0; i < m->n_runs; i++) {
                struct json_object *run = json_object_new_object();

                add_number(run, "Gpn", m->runs[i].gpn);
                add_number(run, "Pages", m->runs[i].count);
                add_mask(run, m->runs[i].mask);
                (void) json_object_array_add(runs, run);
        }
        for (unsigned mask = 0; mask < MAP_MASKS; mask++) {
                struct json_object *total;

                if (m->totals[mask].runs == 0)
                        continue;
                total = json_object_new_object();
                add_mask(total, mask);
                add_number(total, "Pages", m->totals[mask].pages);
                add_number(total, "Runs", m->totals[mask].runs);
                (void) json_object_array_add(totals, total);
        }
        (void) json_object_object_add(o, "Uuid", json_object_new_string(m->uuid));
        (void) json_object_object_add(o, "Name", json_object_new_string(m->name));
        (void) json_object_object_add(o, "Runs", runs);
        (void) json_object_object_add(o, "Totals", totals);
        return o;
}
