/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtld-libvirt: the only program of vtld that is linked with libvirt. vtld starts it to watch
 * domains, and vtlctl to show and change what their metadata say.
 */

#include <fcntl.h>
#include <getopt.h>
#include <libvirt/libvirt.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sysexits.h>

#include "daemon/libvirt-edit.h"
#include "daemon/libvirt-sandbox.h"
#include "daemon/libvirt-watch.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"

struct arguments {
        int fd; /* to the broker; -1: edit */
        const char *edit;
        const char *uri;
        bool json;
};

enum {
        ARG_FD = 0x100,
        ARG_LOG_LEVEL,
        ARG_EDIT,
        ARG_CONNECT,
        ARG_JSON,
        ARG_VERSION,
        ARG_HELP,
};

static const struct option options[] = {
        { "fd", required_argument, NULL, ARG_FD },
        { "log-level", required_argument, NULL, ARG_LOG_LEVEL },
        { "edit", required_argument, NULL, ARG_EDIT },
        { "connect", required_argument, NULL, ARG_CONNECT },
        { "json", no_argument, NULL, ARG_JSON },
        { "version", no_argument, NULL, ARG_VERSION },
        { "help", no_argument, NULL, ARG_HELP },
        { NULL, 0, NULL, 0 },
};

static const char usage_text[] =
        "Usage: vtld-libvirt --fd=N --log-level=N URI\n"
        "       vtld-libvirt --edit=VERB [--connect=URI] [--json] [ARGUMENT]...\n"
        "\n"
        "Not for use by hand: vtld(8) starts the first, vtlctl(1) the second.\n";

static int bad_usage(void) {
        (void) fputs(usage_text, stderr);
        return EX_USAGE;
}

static int parse_number(const char *text, unsigned long max, int *ret) {
        unsigned long v;
        char *end;

        if (*text < '0' || *text > '9')
                return -EINVAL;
        errno = 0;
        v = strtoul(text, &end, 10);
        if (errno || *end || v > max)
                return -EINVAL;
        *ret = (int) v;
        return 0;
}

/* 0: go on; 1: done, exit with success */
static int set_option(struct arguments *a, int option, const char *value) {
        int level;

        switch (option) {
        case ARG_FD:
                return parse_number(value, 1u << 20, &a->fd);
        case ARG_LOG_LEVEL:
                if (parse_number(value, LOG_DEBUG, &level) < 0)
                        return -EINVAL;
                log_set_max_level(level);
                return 0;
        case ARG_EDIT:
                a->edit = value;
                return 0;
        case ARG_CONNECT:
                a->uri = value;
                return 0;
        case ARG_JSON:
                a->json = true;
                return 0;
        case ARG_VERSION:
                (void) printf("vtld-libvirt %s\n", VTLD_VERSION);
                return 1;
        case ARG_HELP:
                (void) fputs(usage_text, stdout);
                return 1;
        default:
                return -EINVAL;
        }
}

/* ---- For vtld ---- */

struct server {
        int fd;
        struct watch *watch;
        bool done;
};

static void tell(void *userdata, const struct libvirt_message *m) {
        struct server *s = userdata;

        /* A broker that is slow is waited for; one that is gone is the end. */
        if (seqpacket_send(s->fd, m, sizeof(*m), NULL, 0, 0) < 0)
                s->done = true;
}

static void on_broker(int handle, int fd, int events, void *userdata) {
        struct server *s = userdata;
        struct libvirt_message m;
        size_t n_fds = 0;
        ssize_t n;

        n = seqpacket_recv(fd, &m, sizeof(m), NULL, &n_fds, MSG_DONTWAIT);
        if (n == -EAGAIN)
                return;
        if (n == sizeof(m) && m.type == LIBVIRT_QUERY)
                watch_query(s->watch, m.uuid);
        else
                s->done = true;
}

/* What libraries load when they are first used is loaded before the sandbox closes. */
static int prepare(void) {
        (void) getpwuid(geteuid());
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return -errno;
        if (virInitialize() < 0 || virEventRegisterDefaultImpl() < 0)
                return -EIO;
        return sandbox_libvirt_enter();
}

static int serve(int fd, const char *uri) {
        struct server s = { .fd = fd };
        int r;

        (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
        r = prepare();
        if (r < 0) {
                log_error("cannot prepare to ask libvirt: %s", strerror(-r));
                return EX_OSERR;
        }
        if (virEventAddHandle(fd, VIR_EVENT_HANDLE_READABLE, on_broker, &s, NULL) < 0 ||
            watch_new(uri, tell, &s, &s.watch) < 0) {
                log_error("cannot watch libvirt: no memory");
                return EX_OSERR;
        }
        while (!s.done)
                if (virEventRunDefaultImpl() < 0)
                        return EX_SOFTWARE;
        (void) watch_free(s.watch);
        return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
        struct arguments a = { .fd = -1, .uri = "qemu:///system" };
        int option, r;

        opterr = 0;
        while ((option = getopt_long(argc, argv, "+", options, NULL)) >= 0) {
                r = set_option(&a, option, optarg);
                if (r != 0)
                        return r < 0 ? bad_usage() : EXIT_SUCCESS;
        }
        argc -= optind;
        argv += optind;
        if (a.edit && a.fd < 0)
                return edit_run(&(struct edit){
                        .verb = a.edit, .uri = a.uri, .json = a.json, .argc = argc, .argv = argv });
        if (a.edit || a.fd < 0 || argc != 1)
                return bad_usage();
        return serve(a.fd, argv[0]);
}
