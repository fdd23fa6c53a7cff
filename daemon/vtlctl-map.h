/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Inside `vtlctl map`: vtlctl-map.c (asks the service), vtlctl-map-show.c (text and JSON),
 * vtlctl-map-svg.c (a picture).
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "vtl/hvdef.h"

/* What a guest's RAM is, in pages, with what VTL0 may do */
struct map_run {
        uint64_t gpn;
        uint64_t count;
        unsigned mask; /* HV_MAP_GPA_* */
};

#define MAP_MASKS (HV_MAP_GPA_ALL + 1u)

struct map_total {
        uint64_t pages;
        uint64_t runs;
};

struct map {
        const char *name; /* of the VM; UTF-8, and nothing else is known about it */
        const char *uuid;
        struct map_run *runs; /* in ascending order, none overlap */
        size_t n_runs, room;
        struct map_total totals[MAP_MASKS];
};

/* The next run: joined to the last one where it goes on. Return: 0, -EBADMSG for one that cannot be
 * next, -E2BIG for more than anybody can look at, -ENOMEM. */
int map_add(struct map *m, const struct map_run *run);
void map_clear(struct map *m);

#define MAP_RIGHTS_SIZE 5u
#define MAP_WORDS_SIZE 64u
#define MAP_SIZE_SIZE 48u

/* "RWKU", with "-" for what is forbidden */
const char *map_rights(unsigned mask, char buf[MAP_RIGHTS_SIZE]);
/* "read, write, execute in user mode" */
const char *map_words(unsigned mask, char buf[MAP_WORDS_SIZE]);
/* "12 KiB", without a fraction where there is none */
const char *map_size(uint64_t pages, char buf[MAP_SIZE_SIZE]);

void map_print(const struct map *m, bool colours);
struct json_object *map_to_json(const struct map *m);

/* A whole SVG document. Return: 0, -ENOMEM; errors of @f are to be looked at there. */
int map_write_svg(const struct map *m, FILE *f);
