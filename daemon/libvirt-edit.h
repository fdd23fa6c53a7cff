/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * vtlctl domain: shows and changes what the metadata of domains say, as the user who asks.
 */

#include <stdbool.h>

struct edit {
        const char *verb; /* enable, disable or show */
        const char *uri;
        bool json;
        int argc; /* the verb's arguments */
        char **argv;
};

/* Return: an exit status. What went wrong has been said. */
int edit_run(const struct edit *e);
