/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <stdio.h>

#include "daemon/vtlctl-map.h"
#include "daemon/vtlctl.h"
#include "util/util.h"

/* a(ttu) and the page to go on with */
static int read_answer(sd_bus_message *m, struct map *map, uint64_t *ret_next) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(ttu)");
        while (r >= 0) {
                struct map_run run;
                uint32_t mask;

                r = sd_bus_message_read(m, "(ttu)", &run.gpn, &run.count, &mask);
                if (r <= 0)
                        break;
                run.mask = mask;
                r = map_add(map, &run);
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : sd_bus_message_read(m, "t", ret_next);
}

/* Return: 0 or a negative errno; what went wrong has been said. */
static int fetch(struct vtlctl *c, const char *path, struct map *map) {
        uint64_t gpn = 0, next;
        int r = 0;

        for (; gpn != UINT64_MAX && r >= 0; gpn = next) {
                sd_bus_error error = SD_BUS_ERROR_NULL;
                sd_bus_message *reply = NULL;

                r = sd_bus_call_method(c->bus, VTLD_BUS_NAME, path, VTLD_BUS_NAME ".Partition",
                                       "GetProtections", &error, &reply, "t", gpn);
                if (r >= 0)
                        r = read_answer(reply, map, &next);
                if (r >= 0 && next <= gpn)
                        r = -EBADMSG;
                if (r < 0)
                        (void) vtlctl_complain(NULL, error.message ? error.message : strerror(-r));
                (void) sd_bus_message_unref(reply);
                sd_bus_error_free(&error);
        }
        return r < 0 ? r : 0;
}

static int write_svg(const struct map *map, const char *path) {
        FILE *f = *path ? fopen(path, "we") : stdout;
        int r;

        if (!f)
                return vtlctl_complain(path, strerror(errno));
        r = map_write_svg(map, f);
        if (r == 0 && (fflush(f) != 0 || ferror(f)))
                r = errno ? -errno : -EIO;
        if (f != stdout && fclose(f) != 0 && r == 0)
                r = -errno;
        return r < 0 ? vtlctl_complain(*path ? path : "output", strerror(-r)) : EXIT_SUCCESS;
}

static int show(const struct vtlctl *c, const struct map *map) {
        struct json_object *o;

        if (c->options[VTLCTL_OPTION_SVG])
                return write_svg(map, c->options[VTLCTL_OPTION_SVG]);
        if (!c->json) {
                map_print(map, c->colours);
                return EXIT_SUCCESS;
        }
        o = map_to_json(map);
        print_json(o, JSON_C_TO_STRING_PRETTY);
        (void) json_object_put(o);
        return EXIT_SUCCESS;
}

int verb_map(struct vtlctl *c, int argc, char **argv) {
        struct json_object *root, *vm;
        int status = EXIT_FAILURE;

        if (c->json && c->options[VTLCTL_OPTION_SVG])
                return vtlctl_bad_usage("--json and --svg exclude each other");
        if (vtlctl_connect(c) < 0 || objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vm = objects_find(root, argv[0]);
        if (vm) {
                struct map map = { .name = json_text(vm, "Name"), .uuid = json_text(vm, "Uuid") };

                if (fetch(c, json_text(vm, "ObjectPath"), &map) == 0)
                        status = show(c, &map);
                map_clear(&map);
        }
        (void) json_object_put(root);
        return status;
}
