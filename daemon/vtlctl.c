/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <getopt.h>
#include <limits.h>
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
        bool offline;     /* it connects to the bus when it must */
        uint32_t options; /* bitmap of enum vtlctl_option */
        uint32_t policy_options;
        const char *missing; /* what to ask when there are too few arguments */
        const char *help;
};

#define OPTION(name) (1u << VTLCTL_OPTION_##name)

static const struct verb verbs[] = {
        { "list", "", 0, 0, verb_list, false, 0, 0, NULL, "one line for each VM" },
        { "status", "[VM]", 0, 1, verb_status, false, 0, 0, NULL,
          "the service and its VMs, or all about one VM" },
        { "vp", "VM", 1, 1, verb_vp, false, 0, 0, "which VM?", "the virtual processors of a VM" },
        { "top", "[VM]", 0, 1, verb_top, false, OPTION(INTERVAL) | OPTION(COUNT), 0, NULL,
          "what virtual processors do in a second, until interrupted" },
        { "monitor", "", 0, 0, verb_monitor, false, 0, 0, NULL, "what happens, until interrupted" },
        { "detach", "VM", 1, 1, verb_detach, false, 0, 0, "which VM?",
          "take the trust levels of a VM away, which stops it" },
        { "map", "VM", 1, 1, verb_map, true, OPTION(SVG), 0, "which VM?",
          "what VTL1 allows VTL0 to do with the memory of a VM" },
        { "registers", "VM", 1, 1, verb_registers, true, OPTION(VP) | OPTION(VTL), 0, "which VM?",
          "the registers of a virtual processor, where policy allows it" },
        { "trace", "VM", 1, 1, verb_trace, true,
          OPTION(FORMAT) | OPTION(OUTPUT) | OPTION(VP) | OPTION(COUNT) | OPTION(SECONDS), 0,
          "which VM?", "which VTLs of a VM run, when and why, until interrupted" },
        { "quote", "VM", 1, 2, verb_quote, true, OPTION(NONCE) | OPTION(OUTPUT),
          1u << POLICY_OPTION_KEY, "which VM?",
          "what VTL1 of a VM is, signed; also quote verify FILE, quote key" },
        { "check-host", "", 0, 0, verb_check_host, true, OPTION(ROOT) | OPTION(PROBE),
          1u << POLICY_OPTION_CONFIG, NULL,
          "whether this host can serve VMs, and what to do when not" },
        { "policy", "VERB", 0, INT_MAX, verb_policy, true, 0, UINT32_MAX, NULL,
          "policy files: check, show, explain, sign, verify" },
        { "domain", "show [DOMAIN]", 1, 3, verb_domain, true, 0, 0, "enable, disable or show?",
          "the policies that domains of libvirt name" },
        { "domain", "enable DOMAIN [POLICY]", 1, 3, verb_domain, true, 0, 0,
          "enable, disable or show?", "have a domain name a policy" },
        { "domain", "disable DOMAIN", 1, 3, verb_domain, true, 0, 0, "enable, disable or show?",
          "have a domain name none" },
};

enum {
        ARG_JSON = 0x100,
        ARG_BUS,
        ARG_CONNECT,
        ARG_VERSION,
        ARG_HELP,
        ARG_POLICY,                                 /* from here on, enum policy_option */
        ARG_VERB = ARG_POLICY + _POLICY_OPTION_MAX, /* from here on, enum vtlctl_option */
};

static const struct option options[] = {
        { "json", no_argument, NULL, ARG_JSON },
        { "bus", required_argument, NULL, ARG_BUS },
        { "connect", required_argument, NULL, ARG_CONNECT },
        { "nonce", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_NONCE },
        { "output", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_OUTPUT },
        { "version", no_argument, NULL, ARG_VERSION },
        { "help", no_argument, NULL, ARG_HELP },
        { "config", required_argument, NULL, ARG_POLICY + POLICY_OPTION_CONFIG },
        { "keys-directory", required_argument, NULL, ARG_POLICY + POLICY_OPTION_KEYS_DIRECTORY },
        { "key", required_argument, NULL, ARG_POLICY + POLICY_OPTION_KEY },
        { "name", required_argument, NULL, ARG_POLICY + POLICY_OPTION_NAME },
        { "uuid", required_argument, NULL, ARG_POLICY + POLICY_OPTION_UUID },
        { "uid", required_argument, NULL, ARG_POLICY + POLICY_OPTION_UID },
        { "libvirt-domain", required_argument, NULL, ARG_POLICY + POLICY_OPTION_LIBVIRT_DOMAIN },
        { "libvirt-policy", required_argument, NULL, ARG_POLICY + POLICY_OPTION_LIBVIRT_POLICY },
        { "root", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_ROOT },
        { "probe", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_PROBE },
        { "interval", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_INTERVAL },
        { "count", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_COUNT },
        { "svg", optional_argument, NULL, ARG_VERB + VTLCTL_OPTION_SVG },
        { "format", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_FORMAT },
        { "vp", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_VP },
        { "vtl", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_VTL },
        { "seconds", required_argument, NULL, ARG_VERB + VTLCTL_OPTION_SECONDS },
        { NULL, 0, NULL, 0 },
};

static void usage(FILE *f) {
        (void) fputs(
                "Usage: vtlctl [OPTION]... VERB [ARGUMENT]...\n"
                "       vtlctl [OPTION]... quote VM [--nonce=HEX] [--output=FILE]\n"
                "       vtlctl [OPTION]... quote key [--output=FILE]\n"
                "       vtlctl quote verify --key=FILE.pem --nonce=HEX FILE\n"
                "       vtlctl [OPTION]... policy check [FILE]...\n"
                "       vtlctl [OPTION]... policy show\n"
                "       vtlctl [OPTION]... policy explain VM | --name=NAME --uuid=UUID --uid=UID\n"
                "       vtlctl policy sign --key=FILE.pem FILE...\n"
                "       vtlctl policy verify [--key=FILE.pem] FILE...\n"
                "\n"
                "Shows what vtld knows about the virtual trust levels of VMs, and what its policy says. A VM is\n"
                "named by its UUID, its name, or the beginning of one of them.\n"
                "\n",
                f);
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                (void) fprintf(f, "  %-10s %-22s  %s\n", verbs[i].name, verbs[i].arguments,
                               verbs[i].help);
        (void) fputs(
                "\n"
                "  --json         for programs\n"
                "  --bus=BUS      system (default), session or a D-Bus address\n"
                "  --connect=URI  domain: of libvirt (default qemu:///system)\n"
                "  --version      print the version, and exit\n"
                "  --help         print this, and exit\n"
                "\n"
                "Of top:\n"
                "  --interval=S  seconds between two looks (default 2)\n"
                "  --count=N     end after so many\n"
                "\n"
                "Of map:\n"
                "  --svg[=FILE]  a picture\n"
                "\n"
                "Of registers:\n"
                "  --vp=N        of this virtual processor (default 0)\n"
                "  --vtl=N       of this VTL (default 0)\n"
                "\n"
                "Of trace:\n"
                "  --format=FORMAT  text (default), json, or perfetto, which Perfetto opens\n"
                "  --output=FILE    write there\n"
                "  --vp=N           of this virtual processor only\n"
                "  --count=N        end after so many records\n"
                "  --seconds=S      end after that time\n"
                "\n"
                "Of check-host:\n"
                "  --root=DIR    look at the system below DIR\n"
                "  --probe=FILE  take what vtld --probe printed, on any host\n"
                "  --config=FILE read this in place of vtld.conf\n"
                "\n"
                "Of quote:\n"
                "  --nonce=HEX    16 to 64 bytes that the quote answers; random if there are none\n"
                "  --output=FILE  write there\n"
                "  --key=FILE     the public key of the host\n"
                "\n"
                "Of policy:\n"
                "  --config=FILE         read this in place of vtld.conf\n"
                "  --keys-directory=DIR  trust the keys there\n"
                "  --key=FILE            sign with this private key; trust this public key alone\n"
                "  --name=, --uuid=, --uid=, --libvirt-domain=, --libvirt-policy=\n"
                "                        explain a VM that is not there\n",
                f);
}

int vtlctl_bad_usage(const char *what) {
        (void) fprintf(stderr, "vtlctl: %s; see vtlctl --help\n", what);
        return EX_USAGE;
}

int vtlctl_complain(const char *what, const char *why) {
        (void) fprintf(stderr, "vtlctl: %s%s%s\n", what ? what : "", what ? ": " : "", why);
        return EXIT_FAILURE;
}

int vtlctl_number(const struct vtlctl *c, enum vtlctl_option option, uint64_t min, uint64_t max,
                  uint64_t *ret) {
        const char *text = c->options[option];
        unsigned long long n;
        char *end;

        if (!text)
                return 0;
        /* strtoull() would take spaces and a sign as well. */
        if (*text < '0' || *text > '9')
                return -EINVAL;
        errno = 0;
        n = strtoull(text, &end, 10);
        if (errno || *end || n < min || n > max)
                return -EINVAL;
        *ret = n;
        return 0;
}

int vtlctl_catch_end(sigset_t *ret) {
        (void) sigemptyset(ret);
        (void) sigaddset(ret, SIGINT);
        (void) sigaddset(ret, SIGTERM);
        return sigprocmask(SIG_BLOCK, ret, NULL) < 0 ? -errno : 0;
}

static const struct verb *find_verb(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

int vtlctl_connect(struct vtlctl *c) {
        int r;

        if (c->bus)
                return 0;
        r = bus_open(c->address, &c->bus);
        if (r < 0)
                (void) fprintf(stderr, "vtlctl: cannot connect to the bus \"%s\": %s\n", c->address,
                               strerror(-r));
        return r < 0 ? r : 0;
}

/* -1: go on; else the exit status */
static int parse_options(struct vtlctl *c, int argc, char **argv) {
        int option;

        opterr = 0;
        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0)
                switch (option) {
                case ARG_JSON:
                        c->json = true;
                        break;
                case ARG_BUS:
                        c->address = optarg;
                        break;
                case ARG_CONNECT:
                        c->libvirt_uri = optarg;
                        break;
                case ARG_VERSION:
                        (void) printf("vtlctl %s\n", VTLD_VERSION);
                        return EXIT_SUCCESS;
                case ARG_HELP:
                        usage(stdout);
                        return EXIT_SUCCESS;
                default:
                        if (option < ARG_POLICY || option >= ARG_VERB + _VTLCTL_OPTION_MAX)
                                return vtlctl_bad_usage("unknown option, or one without its value");
                        if (option < ARG_VERB)
                                c->policy_options[option - ARG_POLICY] = optarg;
                        else
                                c->options[option - ARG_VERB] = optarg ? optarg : "";
                        break;
                }
        if (optind >= argc) {
                usage(stderr);
                return EX_USAGE;
        }
        return -1;
}

static int check_arguments(const struct vtlctl *c, const struct verb *verb, int argc) {
        if (!verb)
                return vtlctl_bad_usage("unknown verb");
        if (argc < verb->min_args)
                return vtlctl_bad_usage(verb->missing);
        if (argc > verb->max_args)
                return vtlctl_bad_usage("too many arguments");
        for (unsigned i = 0; i < _POLICY_OPTION_MAX; i++)
                if (c->policy_options[i] && !(verb->policy_options >> i & 1))
                        return vtlctl_bad_usage("there is an option that only policy has");
        for (unsigned i = 0; i < _VTLCTL_OPTION_MAX; i++)
                if (c->options[i] && !(verb->options >> i & 1))
                        return vtlctl_bad_usage("there is an option that this verb has not");
        return -1;
}

int main(int argc, char **argv) {
        struct vtlctl c = { .address = "system",
                            .libvirt_uri = "qemu:///system",
                            .colours = isatty(STDOUT_FILENO) && !getenv("NO_COLOR") };
        const struct verb *verb;
        int r;

        r = parse_options(&c, argc, argv);
        if (r >= 0)
                return r;
        verb = find_verb(argv[optind]);
        argc -= optind + 1;
        argv += optind + 1;
        r = check_arguments(&c, verb, argc);
        if (r >= 0)
                return r;
        if (!verb->offline && vtlctl_connect(&c) < 0)
                return EXIT_FAILURE;
        r = verb->run(&c, argc, argv);
        (void) sd_bus_flush_close_unref(c.bus);
        if (fflush(stdout) != 0)
                r = EXIT_FAILURE;
        return r;
}
