/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Shows a map of protections as `vtlctl map` does, for tests without a VM: show-map text|json|svg
 * NAME, with lines "PAGE COUNT MASK" on standard input.
 */

#include <inttypes.h>
#include <stdio.h>

#include "daemon/vtlctl-map.h"
#include "util/util.h"

int main(int argc, char **argv) {
        struct map m = { .name = argc > 2 ? argv[2] : "", .uuid = "uuid" };
        const char *how = argc > 1 ? argv[1] : "";
        struct map_run run;
        int r = 0;

        while (r == 0 && scanf("%" SCNu64 " %" SCNu64 " %u", &run.gpn, &run.count, &run.mask) == 3)
                r = map_add(&m, &run);
        if (r == 0 && strcmp(how, "text") == 0)
                map_print(&m, false);
        else if (r == 0 && strcmp(how, "json") == 0) {
                struct json_object *o = map_to_json(&m);

                (void) puts(json_object_to_json_string(o));
                (void) json_object_put(o);
        } else if (r == 0)
                r = map_write_svg(&m, stdout);
        map_clear(&m);
        if (r < 0)
                (void) fprintf(stderr, "%s\n", strerror(-r));
        return r < 0 || fflush(stdout) != 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
