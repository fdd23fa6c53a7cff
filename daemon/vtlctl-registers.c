/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "daemon/vtlctl.h"
#include "util/util.h"
#include "vtl/hvdef.h"

#define COLUMNS 2u

/* What the two words of a register are beside a number */
enum form {
        FORM_NUMBER,
        FORM_SEGMENT,
        FORM_TABLE,
};

static enum form form_of(const char *name) {
        static const char *const segments[] = { "Cs", "Ss", "Ds", "Es", "Fs", "Gs", "Tr", "Ldtr" };

        for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
                if (strcmp(name, segments[i]) == 0)
                        return FORM_SEGMENT;
        if (strcmp(name, "Gdtr") == 0 || strcmp(name, "Idtr") == 0)
                return FORM_TABLE;
        return FORM_NUMBER;
}

static struct json_object *hexadecimal(uint64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "0x%" PRIx64, value);
        return json_object_new_string(text);
}

/* JSON has no numbers of 64 bits that everybody reads: hexadecimal texts. */
static struct json_object *to_json(const char *name, const union hv_register_value *v) {
        enum form form = form_of(name);
        struct json_object *o;

        if (form == FORM_NUMBER && v->high64 == 0)
                return hexadecimal(v->low64);
        o = json_object_new_object();
        if (form == FORM_SEGMENT) {
                (void) json_object_object_add(o, "Selector", hexadecimal(v->segment.selector));
                (void) json_object_object_add(o, "Base", hexadecimal(v->segment.base));
                (void) json_object_object_add(o, "Limit", hexadecimal(v->segment.limit));
                (void) json_object_object_add(o, "Attributes", hexadecimal(v->segment.attributes));
        } else if (form == FORM_TABLE) {
                (void) json_object_object_add(o, "Base", hexadecimal(v->table.base));
                (void) json_object_object_add(o, "Limit", hexadecimal(v->table.limit));
        } else {
                (void) json_object_object_add(o, "Low", hexadecimal(v->low64));
                (void) json_object_object_add(o, "High", hexadecimal(v->high64));
        }
        return o;
}

/* Return: whether the line is full. */
static bool print(const char *name, const union hv_register_value *v, unsigned column) {
        switch (form_of(name)) {
        case FORM_SEGMENT:
                (void) printf("%s%-12s %04x  base %016" PRIx64 "  limit %08x  attributes %04x\n",
                              column ? "\n" : "", name, v->segment.selector, v->segment.base,
                              v->segment.limit, v->segment.attributes);
                return true;
        case FORM_TABLE:
                (void) printf("%s%-12s       base %016" PRIx64 "  limit %04x\n", column ? "\n" : "",
                              name, v->table.base, v->table.limit);
                return true;
        default:
                (void) printf("%-12s %016" PRIx64, name, v->low64);
                if (v->high64)
                        (void) printf(" high %016" PRIx64, v->high64);
                (void) fputs(column + 1 == COLUMNS ? "\n" : "    ", stdout);
                return column + 1 == COLUMNS;
        }
}

static int show(const struct vtlctl *c, sd_bus_message *m) {
        struct json_object *o = c->json ? json_object_new_object() : NULL;
        unsigned column = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(stt)");
        while (r >= 0) {
                union hv_register_value v;
                const char *name;

                r = sd_bus_message_read(m, "(stt)", &name, &v.low64, &v.high64);
                if (r <= 0)
                        break;
                if (o)
                        (void) json_object_object_add(o, name, to_json(name, &v));
                else
                        column = print(name, &v, column) ? 0 : column + 1;
        }
        if (column > 0)
                (void) putchar('\n');
        if (o && r >= 0)
                print_json(o, JSON_C_TO_STRING_PRETTY);
        (void) json_object_put(o);
        return r;
}

int verb_registers(struct vtlctl *c, int argc, char **argv) {
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        struct json_object *root, *vm;
        uint64_t vp = 0, vtl = 0;
        int r = -ENOENT;

        if (vtlctl_number(c, VTLCTL_OPTION_VP, 0, UINT32_MAX, &vp) < 0)
                return vtlctl_bad_usage("--vp= is the index of a virtual processor");
        if (vtlctl_number(c, VTLCTL_OPTION_VTL, 0, 1, &vtl) < 0)
                return vtlctl_bad_usage("--vtl= is 0 or 1");
        if (vtlctl_connect(c) < 0 || objects_fetch(c, &root) < 0)
                return EXIT_FAILURE;
        vm = objects_find(root, argv[0]);
        if (vm) {
                r = sd_bus_call_method(c->bus, VTLD_BUS_NAME, json_text(vm, "ObjectPath"),
                                       VTLD_BUS_NAME ".Partition", "GetRegisters", &error, &reply,
                                       "uu", (uint32_t) vp, (uint32_t) vtl);
                if (r >= 0)
                        r = show(c, reply);
                if (r < 0)
                        (void) vtlctl_complain(NULL, error.message ? error.message : strerror(-r));
        }
        (void) sd_bus_message_unref(reply);
        sd_bus_error_free(&error);
        (void) json_object_put(root);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
