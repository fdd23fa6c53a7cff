/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/environment.h"

static bool begins_with_one(const char *v, const char *const *prefixes, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strncmp(v, prefixes[i], strlen(prefixes[i])) == 0)
                        return true;
        return false;
}

char **environment_filter(const char *const *prefixes, size_t n, bool keep) {
        size_t all = 0, some = 0;
        char **env;

        while (environ && environ[all])
                all++;
        env = calloc(all + 1, sizeof(*env));
        if (!env)
                return NULL;
        for (size_t i = 0; i < all; i++)
                if (begins_with_one(environ[i], prefixes, n) == keep)
                        env[some++] = environ[i];
        return env;
}
