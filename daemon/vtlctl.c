/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "daemon/bus-open.h"
#include "daemon/vtlctl.h"
#include "util/util.h"

struct verb {
        const char *name;
        const char *arguments;
        int min_args;
        int max_args;
        int (*run)(struct vtlctl *c, int argc, char **argv);
        const char *help;
};

static const struct verb verbs[] = {
        { "list", "", 0, 0, verb_list, "one line for each VM" },
        { "status", "[VM]", 0, 1, verb_status, "the service and its VMs, or all about one VM" },
        { "vp", "VM", 1, 1, verb_vp, "the virtual processors of a VM" },
        { "monitor", "", 0, 0, verb_monitor, "what happens, until interrupted" },
};

enum {
        ARG_JSON = 0x100,
        ARG_BUS,
        ARG_VERSION,
        ARG_HELP,
};

static const struct option options[] = {
        { "json", no_argument, NULL, ARG_JSON },
        { "bus", required_argument, NULL, ARG_BUS },
        { "version", no_argument, NULL, ARG_VERSION },
        { "help", no_argument, NULL, ARG_HELP },
        { NULL, 0, NULL, 0 },
};

static void usage(FILE *f) {
        (void) fputs(
                "Usage: vtlctl [OPTION]... VERB [VM]\n"
                "\n"
                "Shows what vtld knows about the virtual trust levels of VMs. A VM is named by its UUID, its\n"
                "name, or the beginning of one of them.\n"
                "\n",
                f);
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                (void) fprintf(f, "  %-7s %-5s  %s\n", verbs[i].name, verbs[i].arguments,
                               verbs[i].help);
        (void) fputs("\n"
                     "  --json     for programs\n"
                     "  --bus=BUS  system (default), session or a D-Bus address\n"
                     "  --version  print the version, and exit\n"
                     "  --help     print this, and exit\n",
                     f);
}

static int bad_usage(const char *what) {
        (void) fprintf(stderr, "vtlctl: %s; see vtlctl --help\n", what);
        return EX_USAGE;
}

static const struct verb *find_verb(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

int main(int argc, char **argv) {
        const char *address = "system";
        struct vtlctl c = { .colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") };
        const struct verb *verb;
        int option, r;

        opterr = 0;
        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case ARG_JSON:
                        c.json = true;
                        break;
                case ARG_BUS:
                        address = optarg;
                        break;
                case ARG_VERSION:
                        (void) printf("vtlctl %s\n", VTLD_VERSION);
                        return EXIT_SUCCESS;
                case ARG_HELP:
                        usage(stdout);
                        return EXIT_SUCCESS;
                default:
                        return bad_usage("unknown option, or one without its value");
                }
        if (optind >= argc) {
                usage(stderr);
                return EX_USAGE;
        }
        verb = find_verb(argv[optind]);
        if (!verb)
                return bad_usage("unknown verb");
        argc -= optind + 1;
        argv += optind + 1;
        if (argc < verb->min_args)
                return bad_usage("which VM?");
        if (argc > verb->max_args)
                return bad_usage("too many arguments");

        r = bus_open(address, &c.bus);
        if (r < 0) {
                (void) fprintf(stderr, "vtlctl: cannot connect to the bus \"%s\": %s\n", address,
                               strerror(-r));
                return EXIT_FAILURE;
        }
        r = verb->run(&c, argc, argv);
        (void) sd_bus_flush_close_unref(c.bus);
        if (fflush(stdout) != 0)
                r = EXIT_FAILURE;
        return r;
}
