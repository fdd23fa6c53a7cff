/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* vtlctl detach VM */

#include "daemon/bus-open.h"
#include "daemon/vtlctl.h"
#include "util/util.h"

int verb_detach(struct vtlctl *c, int argc, char **argv) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        struct json_object *root, *vm;
        int r = -ENOENT;

        if (objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vm = objects_find(root, argv[0]);
        if (vm) {
                (void) sd_bus_set_allow_interactive_authorization(c->bus, true);
                r = sd_bus_call_method(c->bus, VTLD_BUS_NAME, json_text(vm, "ObjectPath"),
                                       VTLD_BUS_NAME ".Partition", "Detach", &error, NULL, "");
                if (r < 0)
                        (void) vtlctl_complain(NULL, error.message ? error.message : strerror(-r));
        }
        sd_bus_error_free(&error);
        (void) json_object_put(root);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
