/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>
#include <stdlib.h>

/* For fuzz targets and fixtures. Not assert(): must hold in every build. */
#define MUST(cond)                                                                           \
        do {                                                                                 \
                if (!(cond)) {                                                               \
                        fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
                        abort();                                                             \
                }                                                                            \
        } while (0)
