/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#include "daemon/broker.h"
#include "daemon/probe.h"
#include "daemon/worker.h"
#include "util/util.h"

#define SOCKET_PATH "/run/vtld/attach.sock"
#define POLICY_PATH VTLD_SYSCONFDIR "/vtld/policy.conf"
#define MAX_VMS_DEFAULT 64u
#define MAX_VMS_LIMIT 4096u

enum mode {
        MODE_BROKER,
        MODE_PROBE,
        MODE_WORKER,
};

struct arguments {
        enum mode mode;
        int worker_fd;
        struct broker_config broker;
};

static const char usage_text[] =
        "Usage: vtld [OPTION]...\n"
        "\n"
        "Gives KVM guests virtual trust levels: accepts VMMs, starts a worker for each VM, shows them on D-Bus.\n"
        "\n"
        "  --socket-path=PATH  listen for VMMs here (default " SOCKET_PATH ")\n"
        "  --fd=N              listen on this inherited socket instead\n"
        "  --bus=BUS           system, session or a D-Bus address (default system)\n"
        "  --policy=FILE       who may enable VTL1 (default " POLICY_PATH ", if it exists)\n"
        "  --max-vms=N         refuse more VMs than this (default 64)\n"
        "  --log-level=LEVEL   err, warning, notice, info or debug (default info)\n"
        "  --probe             print as JSON what this host's KVM offers, and exit\n"
        "  --version           print the version, and exit\n"
        "  --help              print this, and exit\n";

enum {
        ARG_SOCKET_PATH = 0x100,
        ARG_FD,
        ARG_BUS,
        ARG_POLICY,
        ARG_MAX_VMS,
        ARG_LOG_LEVEL,
        ARG_PROBE,
        ARG_WORKER, /* how vtld starts itself; not for people */
        ARG_VERSION,
        ARG_HELP,
};

static const struct option options[] = {
        { "socket-path", required_argument, NULL, ARG_SOCKET_PATH },
        { "fd", required_argument, NULL, ARG_FD },
        { "bus", required_argument, NULL, ARG_BUS },
        { "policy", required_argument, NULL, ARG_POLICY },
        { "max-vms", required_argument, NULL, ARG_MAX_VMS },
        { "log-level", required_argument, NULL, ARG_LOG_LEVEL },
        { "probe", no_argument, NULL, ARG_PROBE },
        { "worker", required_argument, NULL, ARG_WORKER },
        { "version", no_argument, NULL, ARG_VERSION },
        { "help", no_argument, NULL, ARG_HELP },
        { NULL, 0, NULL, 0 },
};

static const struct {
        const char *name;
        int level;
} log_levels[] = {
        { "err", LOG_ERR },   { "warning", LOG_WARNING }, { "notice", LOG_NOTICE },
        { "info", LOG_INFO }, { "debug", LOG_DEBUG },
};

static int bad_usage(const char *what) {
        log_error("vtld: %s; see vtld --help", what);
        return -EINVAL;
}

static int parse_number(const char *text, unsigned long max, unsigned long *ret) {
        unsigned long v;
        char *end;

        if (*text < '0' || *text > '9')
                return -EINVAL;
        errno = 0;
        v = strtoul(text, &end, 10);
        if (errno || *end || v > max)
                return -EINVAL;
        *ret = v;
        return 0;
}

static int set_log_level(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(log_levels); i++)
                if (strcmp(log_levels[i].name, name) == 0) {
                        log_set_max_level(log_levels[i].level);
                        return 0;
                }
        return bad_usage("--log-level= is err, warning, notice, info or debug");
}

static int set_fd(const char *text, int *ret) {
        unsigned long v;

        if (parse_number(text, 1u << 20, &v) < 0 || fcntl((int) v, F_GETFD) < 0)
                return -EINVAL;
        (void) fcntl((int) v, F_SETFD, FD_CLOEXEC);
        *ret = (int) v;
        return 0;
}

/* 0: go on; 1: done, exit with success */
static int set_option(struct arguments *a, int option, const char *value) {
        unsigned long v;

        switch (option) {
        case ARG_SOCKET_PATH:
                a->broker.socket_path = value;
                return 0;
        case ARG_FD:
                if (set_fd(value, &a->broker.listen_fd) < 0)
                        return bad_usage("--fd= is the number of an open descriptor");
                return 0;
        case ARG_BUS:
                a->broker.bus = value;
                return 0;
        case ARG_POLICY:
                a->broker.policy_path = value;
                a->broker.policy_required = true;
                return 0;
        case ARG_MAX_VMS:
                if (parse_number(value, MAX_VMS_LIMIT, &v) < 0 || v == 0)
                        return bad_usage("--max-vms= is a number from 1 to 4096");
                a->broker.max_vms = (unsigned) v;
                return 0;
        case ARG_LOG_LEVEL:
                return set_log_level(value);
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
                (void) fputs(usage_text, stdout);
                return 1;
        default:
                return bad_usage("unknown option, or one without its value");
        }
}

static int parse_arguments(struct arguments *a, int argc, char **argv) {
        int option, r;

        opterr = 0;
        while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
                r = set_option(a, option, optarg);
                if (r != 0)
                        return r;
        }
        if (optind < argc)
                return bad_usage("there are no arguments beside options");
        if (a->broker.socket_path && a->broker.listen_fd >= 0)
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

static int run_broker(struct arguments *a) {
        struct broker *b = NULL;
        int n, r, status;

        n = sd_listen_fds(/* unset_environment= */ 1);
        if (n > 0 && a->broker.listen_fd < 0 && !a->broker.socket_path) {
                if (n > 1) {
                        log_error("vtld: %d sockets came from the service manager, one is expected",
                                  n);
                        return EX_CONFIG;
                }
                a->broker.listen_fd = SD_LISTEN_FDS_START;
        }
        if (a->broker.listen_fd >= 0)
                (void) fcntl(a->broker.listen_fd, F_SETFL,
                             fcntl(a->broker.listen_fd, F_GETFL) | O_NONBLOCK);
        else if (!a->broker.socket_path)
                a->broker.socket_path = SOCKET_PATH;

        r = broker_new(&a->broker, &b, &status);
        if (r < 0)
                return status;
        r = broker_run(b);
        (void) broker_free(b);
        return r < 0 ? EX_SOFTWARE : EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        struct arguments a = {
                .worker_fd = -1,
                .broker = {
                        .listen_fd = -1,
                        .bus = "system",
                        .policy_path = POLICY_PATH,
                        .max_vms = MAX_VMS_DEFAULT,
                },
        };
        int r;

        if (reserve_standard_fds() < 0)
                return EX_OSERR;
        r = parse_arguments(&a, argc, argv);
        if (r != 0)
                return r < 0 ? EX_USAGE : EXIT_SUCCESS;
        switch (a.mode) {
        case MODE_PROBE:
                return probe_main();
        case MODE_WORKER:
                return worker_main(a.worker_fd);
        default:
                return run_broker(&a);
        }
}
