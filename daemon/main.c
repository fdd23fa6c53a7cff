/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>

#include "daemon/activation.h"
#include "daemon/broker.h"
#include "daemon/config.h"
#include "daemon/fd-store.h"
#include "daemon/journal.h"
#include "daemon/probe.h"
#include "daemon/sandbox.h"
#include "daemon/worker.h"
#include "util/util.h"

enum mode {
        MODE_BROKER,
        MODE_PROBE,
        MODE_WORKER,
};

struct arguments {
        enum mode mode;
        int worker_fd;
        int listen_fd;
        const char *config_path;
        struct config config; /* what the command line says */
};

static const char usage_begin[] =
        "Usage: vtld [OPTION]...\n"
        "\n"
        "Gives KVM guests virtual trust levels: accepts VMMs, starts a worker for each VM, shows them on D-Bus.\n"
        "\n"
        "  --config=FILE              read this in place of " CONFIG_PATH " and its drop-ins\n"
        "  --fd=N                     listen on this inherited socket\n";
static const char usage_end[] =
        "  --probe                    print as JSON what this host's KVM offers, and exit\n"
        "  --version                  print the version, and exit\n"
        "  --help                     print this, and exit\n";

enum {
        ARG_CONFIG = 0x100,
        ARG_FD,
        ARG_PROBE,
        ARG_WORKER, /* how vtld starts itself; not for people */
        ARG_VERSION,
        ARG_HELP,
        ARG_KEYS, /* from here on, each key of vtld.conf */
};

/* Those that are no keys of vtld.conf */
static const struct option own_options[] = {
        { "config", required_argument, NULL, ARG_CONFIG },
        { "fd", required_argument, NULL, ARG_FD },
        { "probe", no_argument, NULL, ARG_PROBE },
        { "worker", required_argument, NULL, ARG_WORKER },
        { "version", no_argument, NULL, ARG_VERSION },
        { "help", no_argument, NULL, ARG_HELP },
};

#define OPTIONS_MAX (ARRAY_SIZE(own_options) + _CONFIG_KEY_MAX)

static void list_options(struct option ret[OPTIONS_MAX + 1]) {
        size_t n = ARRAY_SIZE(own_options);

        memcpy(ret, own_options, sizeof(own_options));
        for (unsigned i = 0; i < _CONFIG_KEY_MAX; i++)
                ret[n++] = (struct option){ config_name(i), required_argument, NULL,
                                            ARG_KEYS + (int) i };
        ret[n] = (struct option){ NULL, 0, NULL, 0 };
}

static int bad_usage(const char *what) {
        log_error("vtld: %s; see vtld --help", what);
        return -EINVAL;
}

static int set_fd(const char *text, int *ret) {
        size_t n = strspn(text, "0123456789");
        int fd;

        if (n == 0 || n > 7 || text[n])
                return -EINVAL;
        fd = atoi(text);
        if (fcntl(fd, F_GETFD) < 0)
                return -EINVAL;
        (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
        *ret = fd;
        return 0;
}

static int set_key(struct arguments *a, enum config_key key, const char *value) {
        char why[CONF_ERROR_SIZE], what[CONF_ERROR_SIZE + 2];
        int r = config_set(&a->config, key, value, why);

        if (r != -EINVAL)
                return r;
        (void) snprintf(what, sizeof(what), "--%s", why);
        return bad_usage(what);
}

static void print_usage(void) {
        (void) fputs(usage_begin, stdout);
        config_print_options(stdout);
        (void) fputs(usage_end, stdout);
}

/* 0: go on; 1: done, exit with success */
static int set_option(struct arguments *a, int option, const char *value) {
        if (option >= ARG_KEYS)
                return set_key(a, (enum config_key)(option - ARG_KEYS), value);
        switch (option) {
        case ARG_CONFIG:
                a->config_path = value;
                return 0;
        case ARG_FD:
                if (set_fd(value, &a->listen_fd) < 0)
                        return bad_usage("--fd= is the number of an open descriptor");
                return 0;
        case ARG_PROBE:
                a->mode = MODE_PROBE;
                return 0;
        case ARG_WORKER:
                a->mode = MODE_WORKER;
                if (set_fd(value, &a->worker_fd) < 0)
                        return bad_usage("--worker= is not for use by hand");
                return 0;
        case ARG_VERSION:
                (void) printf("vtld %s\n", VTLD_VERSION);
                return 1;
        case ARG_HELP:
                print_usage();
                return 1;
        default:
                return bad_usage("unknown option, or one without its value");
        }
}

static int parse_arguments(struct arguments *a, int argc, char **argv) {
        struct option options[OPTIONS_MAX + 1];
        int option, r;

        list_options(options);
        opterr = 0;
        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                r = set_option(a, option, optarg);
                if (r != 0)
                        return r;
        }
        if (optind < argc)
                return bad_usage("there are no arguments beside options");
        if (config_is_given(&a->config, CONFIG_SOCKET_PATH) && a->listen_fd >= 0)
                return bad_usage("--socket-path= and --fd= exclude each other");
        return 0;
}

/* What opens a file must not get descriptor 0, 1 or 2, where log lines and JSON go. */
static int reserve_standard_fds(void) {
        int fd;

        do {
                fd = open("/dev/null", O_RDWR);
                if (fd < 0)
                        return -errno;
        } while (fd <= STDERR_FILENO);
        (void) close(fd);
        return 0;
}

/* vtld.conf, under what the command line says */
static int read_config(struct arguments *a, struct config *c) {
        char error[CONF_ERROR_SIZE];

        if (config_load(c, a->config_path, error) < 0) {
                log_error("%s", error);
                return EX_CONFIG;
        }
        config_override(c, &a->config);
        log_set_max_level(config_log_level(c));
        return 0;
}

static int serve(const struct config *c, int listen_fd, struct fd_store *store) {
        struct broker *b = NULL;
        int r, status;

        if (listen_fd >= 0)
                (void) fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
        r = broker_new(c, listen_fd, store, &b, &status);
        if (r < 0)
                return status;
        r = sandbox_broker_enter();
        if (r < 0)
                log_error("cannot enter the sandbox: %s", strerror(-r));
        else
                r = broker_run(b);
        (void) broker_free(b);
        return r < 0 ? EX_SOFTWARE : EXIT_SUCCESS;
}

static int run_broker(struct arguments *a) {
        bool path_given = config_is_given(&a->config, CONFIG_SOCKET_PATH);
        int passed = -1, status;
        struct fd_store store = { 0 };
        struct config c;

        if (config_init(&c) < 0)
                return EX_OSERR;
        if (journal_is_stderr())
                log_set_target(LOG_TARGET_JOURNAL);
        status = activation_take(&passed, &store) < 0 ? EX_CONFIG : read_config(a, &c);
        /* Whoever passes a socket starts vtld again when it is needed. */
        if (passed >= 0 && !config_is_given(&c, CONFIG_EXIT_IDLE_TIME))
                c.exit_idle_time = CONFIG_ACTIVATED_IDLE_TIME;
        /* An option says more than the unit. */
        if (a->listen_fd >= 0 || path_given)
                passed = safe_close(passed);
        else
                a->listen_fd = passed;
        if (status == 0)
                status = serve(&c, a->listen_fd, &store);
        fd_store_done(&store);
        config_done(&c);
        return status;
}

int main(int argc, char **argv) {
        struct arguments a = { .worker_fd = -1, .listen_fd = -1 };
        int r;

        if (reserve_standard_fds() < 0 || config_init(&a.config) < 0)
                return EX_OSERR;
        r = parse_arguments(&a, argc, argv);
        if (r != 0)
                r = r < 0 ? EX_USAGE : EXIT_SUCCESS;
        else if (a.mode == MODE_PROBE)
                r = probe_main();
        else if (a.mode == MODE_WORKER)
                r = worker_main(a.worker_fd);
        else
                r = run_broker(&a);
        config_done(&a.config);
        return r;
}
