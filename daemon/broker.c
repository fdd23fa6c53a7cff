/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/connection.h"
#include "daemon/partition.h"
#include "util/seqpacket.h"
#include "util/util.h"

/* Connections without a VM, beside those of the VMs */
#define IDLE_CONNECTIONS_MAX 32u
#define ACCEPT_PAUSE_USEC (1000u * 1000)

/* ---- Policy ---- */

static int read_policy(struct broker *b) {
        char error[POLICY_ERROR_SIZE] = "";
        struct policy *policy = NULL;
        int r;

        r = policy_load(b->config.policy_path, &policy, error);
        if (r == -ENOENT && !b->config.policy_required) {
                log_notice("there is no policy file %s: every VM may enable VTL1",
                           b->config.policy_path);
                r = 0;
        } else if (r < 0)
                log_error("%s", error[0] ? error : strerror(-r));
        else
                log_info("policy %s: %zu rules", b->config.policy_path, policy_rules(policy));
        if (r < 0)
                return r;
        (void) policy_free(b->policy);
        b->policy = policy;
        return 0;
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        struct broker *b = userdata;
        struct timespec now;

        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        (void) sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                          (unsigned long long) now.tv_sec * 1000000 +
                                  (unsigned long long) now.tv_nsec / 1000);
        if (read_policy(b) < 0)
                log_error("the policy stays as it was");
        (void) sd_notify(0, "READY=1");
        return 0;
}

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        struct broker *b = userdata;

        log_info("ending; %u VMs are served on by their workers", HASH_COUNT(b->partitions));
        return sd_event_exit(b->event, 0);
}

void broker_partitions_changed(struct broker *b) {
        (void) sd_notifyf(0, "STATUS=%u partitions", HASH_COUNT(b->partitions));
        bus_partition_count_changed(b);
}

/* ---- The attach socket ---- */

static int on_listen_again(sd_event_source *s, uint64_t usec, void *userdata) {
        struct broker *b = userdata;

        return sd_event_source_set_enabled(b->listen_source, SD_EVENT_ON);
}

/* No descriptors or no memory: the connection stays in the queue, and would be found at once. */
static void pause_accepting(struct broker *b) {
        log_error("cannot accept a connection: %m; trying again in a second");
        if (sd_event_source_set_time_relative(b->listen_again, ACCEPT_PAUSE_USEC) >= 0 &&
            sd_event_source_set_enabled(b->listen_again, SD_EVENT_ONESHOT) >= 0)
                (void) sd_event_source_set_enabled(b->listen_source, SD_EVENT_OFF);
}

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct broker *b = userdata;
        int client, r;

        client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (client < 0) {
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
                        pause_accepting(b);
                return 0;
        }
        if (b->n_connections >= b->max_vms + IDLE_CONNECTIONS_MAX) {
                if (log_ratelimit(&b->accept_limit, 1000, 1))
                        log_warning("too many connections, closing a new one");
                (void) safe_close(client);
                return 0;
        }
        r = connection_new(b, client);
        if (r < 0 && log_ratelimit(&b->accept_limit, 1000, 1))
                log_error("cannot serve a connection: %s", strerror(-r));
        return 0;
}

static int check_listening(int fd) {
        int value;
        socklen_t len = sizeof(value);

        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) < 0)
                return -errno;
        if (value != SOCK_SEQPACKET)
                return -EPROTOTYPE;
        len = sizeof(value);
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) < 0)
                return -errno;
        return value ? 0 : -ENOTCONN;
}

static int open_socket(struct broker *b) {
        int r;

        if (b->config.listen_fd >= 0) {
                b->listen_fd = b->config.listen_fd;
                r = check_listening(b->listen_fd);
                if (r < 0)
                        log_error("descriptor %d is not a listening SEQPACKET socket",
                                  b->listen_fd);
        } else {
                r = seqpacket_listen(b->config.socket_path);
                if (r < 0)
                        log_error("cannot listen at %s: %s", b->config.socket_path, strerror(-r));
                else {
                        b->listen_fd = r;
                        b->made_socket = true;
                }
        }
        if (r >= 0)
                r = sd_event_add_io(b->event, &b->listen_source, b->listen_fd, EPOLLIN, on_accept,
                                    b);
        if (r >= 0)
                r = sd_event_add_time(b->event, &b->listen_again, CLOCK_MONOTONIC, 0, 0,
                                      on_listen_again, b);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->listen_again, SD_EVENT_OFF);
        return r < 0 ? r : 0;
}

/* ---- Beginning and end ---- */

static int block_signals(void) {
        static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
        sigset_t set;

        (void) sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                (void) sigaddset(&set, signals[i]);
        (void) signal(SIGPIPE, SIG_IGN);
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

static int add_signals(struct broker *b) {
        int r;

        r = block_signals();
        if (r >= 0)
                r = sd_event_add_signal(b->event, NULL, SIGTERM, on_stop, b);
        if (r >= 0)
                r = sd_event_add_signal(b->event, NULL, SIGINT, on_stop, b);
        if (r >= 0)
                r = sd_event_add_signal(b->event, NULL, SIGHUP, on_reload, b);
        if (r >= 0)
                r = sd_event_set_watchdog(b->event, true);
        if (r < 0)
                log_error("cannot set up the event loop: %s", strerror(-r));
        return r;
}

static int bus_status(int r) {
        return r == -EACCES || r == -EPERM ? EX_NOPERM : EX_UNAVAILABLE;
}

int broker_new(const struct broker_config *config, struct broker **ret, int *ret_status) {
        struct broker *b;
        int r;

        *ret_status = EX_OSERR;
        b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->config = *config;
        b->max_vms = config->max_vms;
        b->listen_fd = -1;
        LIST_INIT(&b->connections);
        r = sd_event_default(&b->event);
        if (r >= 0)
                r = add_signals(b);
        if (r >= 0) {
                r = read_policy(b);
                if (r < 0)
                        *ret_status = r == -EBADMSG || r == -EFBIG ? EX_DATAERR : EX_NOINPUT;
        }
        if (r >= 0) {
                r = open_socket(b);
                if (r < 0)
                        *ret_status = EX_UNAVAILABLE;
        }
        if (r >= 0) {
                r = bus_new(b, config->bus, &b->bus);
                if (r < 0)
                        *ret_status = bus_status(r);
        }
        if (r < 0) {
                (void) broker_free(b);
                return r;
        }
        *ret = b;
        return 0;
}

int broker_run(struct broker *b) {
        int r;

        (void) sd_notifyf(0, "READY=1\nSTATUS=%u partitions", HASH_COUNT(b->partitions));
        r = sd_event_loop(b->event);
        (void) sd_notify(0, "STOPPING=1");
        return r;
}

struct broker *broker_free(struct broker *b) {
        if (!b)
                return NULL;
        b->ending = true;
        while (!LIST_EMPTY(&b->connections))
                (void) connection_free(LIST_FIRST(&b->connections));
        b->bus = bus_free(b->bus);
        (void) policy_free(b->policy);
        sd_event_source_disable_unref(b->listen_source);
        sd_event_source_disable_unref(b->listen_again);
        if (b->made_socket)
                (void) unlink(b->config.socket_path);
        (void) safe_close(b->listen_fd);
        sd_event_unref(b->event);
        free(b);
        return NULL;
}
