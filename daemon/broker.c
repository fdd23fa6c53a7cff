/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/config.h"
#include "daemon/connection.h"
#include "daemon/messages.h"
#include "daemon/partition.h"
#include "util/seqpacket.h"
#include "util/util.h"

/* Connections without a VM, beside those of the VMs */
#define IDLE_CONNECTIONS_MAX 32u
#define ACCEPT_PAUSE_USEC (1000u * 1000)

/* ---- Signals ---- */

int broker_reload(struct broker *b, char ret_why[POLICY_ERROR_SIZE]) {
        int r;

        (void) sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu",
                          (unsigned long long) monotonic_ns() / 1000);
        r = broker_read_policy(b);
        (void) snprintf(ret_why, POLICY_ERROR_SIZE, "%s", b->policy_error);
        (void) sd_notify(0, "READY=1");
        return r;
}

static int on_reload(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        char why[POLICY_ERROR_SIZE];

        (void) broker_reload(userdata, why); /* has been logged */
        return 0;
}

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        struct broker *b = userdata;

        log_info("ending; %u VMs are served on by their workers", HASH_COUNT(b->partitions));
        return sd_event_exit(b->event, 0);
}

/* ---- Nothing to do ---- */

void broker_used(struct broker *b) {
        if (!b->idle)
                return;
        (void) sd_event_source_set_time_relative(b->idle,
                                                 (uint64_t) b->config->exit_idle_time * 1000000);
        (void) sd_event_source_set_enabled(b->idle, SD_EVENT_ONESHOT);
}

/* Whoever connects from now on waits in the socket, and whoever calls waits in the bus, until the
 * service manager has started another vtld. */
static int on_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        struct broker *b = userdata;

        if (b->n_connections > 0 || bus_is_busy(b->bus)) {
                broker_used(b);
                return 0;
        }
        log_debug("not used for %u s, ending", b->config->exit_idle_time);
        (void) sd_notify(0, "STOPPING=1");
        bus_leave(b->bus);
        return sd_event_exit(b->event, 0);
}

static int set_up_idle(struct broker *b) {
        int r;

        if (b->config->exit_idle_time == 0)
                return 0;
        r = sd_event_add_time_relative(b->event, &b->idle, CLOCK_MONOTONIC, 0, 1000000, on_idle, b);
        if (r >= 0)
                r = sd_event_source_set_priority(b->idle, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                broker_used(b);
        return r;
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
        log_event(LOG_ERR, MESSAGE_SOCKET_OVERLOADED, NULL,
                  "cannot accept a connection: %m; trying again in a second");
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
                        log_event(LOG_WARNING, MESSAGE_SOCKET_OVERLOADED, NULL,
                                  "too many connections, closing a new one");
                (void) safe_close(client);
                return 0;
        }
        broker_used(b);
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

        if (b->listen_fd >= 0) {
                r = check_listening(b->listen_fd);
                if (r < 0)
                        log_error("descriptor %d is not a listening SEQPACKET socket",
                                  b->listen_fd);
        } else {
                r = seqpacket_listen(b->config->socket_path);
                if (r < 0)
                        log_error("cannot listen at %s: %s", b->config->socket_path, strerror(-r));
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

/* ---- libvirt ---- */

/* An answer may end the connection that it was for. */
static void tell_connections(struct broker *b, const uint8_t *uuid) {
        struct connection *c = LIST_FIRST(&b->connections), *next;

        for (; c; c = next) {
                next = connection_next(c);
                connection_domain_told(c, uuid);
        }
}

/* A domain of an adopted partition may have gone while there was no broker: then nobody tells. */
static void drop_untold(struct broker *b) {
        struct partition *p, *next;

        HASH_ITER(hh, b->partitions, p, next)
                if (p->libvirt.bound && !libvirt_handle_find(b->libvirt, p->uuid))
                        partition_domain_changed(p, NULL);
}

static void on_libvirt_state(void *userdata) {
        struct broker *b = userdata;

        bus_libvirt_state_changed(b);
        if (libvirt_handle_state(b->libvirt) == LIBVIRT_CONNECTED)
                drop_untold(b);
        tell_connections(b, NULL);
}

static void on_domain(void *userdata, const uint8_t uuid[16], const struct domain *d) {
        struct broker *b = userdata;
        struct partition *p;

        HASH_FIND(hh, b->partitions, uuid, sizeof(p->uuid), p);
        if (p)
                partition_domain_changed(p, d);
        tell_connections(b, uuid);
}

static const struct libvirt_callbacks libvirt_callbacks = {
        .state = on_libvirt_state,
        .domain = on_domain,
};

static int ask_libvirt(struct broker *b) {
        int r;

        if (!b->config->libvirt_uri[0])
                return 0;
        r = libvirt_handle_new(b->event, NULL, b->config->libvirt_uri, &libvirt_callbacks, b,
                               &b->libvirt);
        if (r < 0)
                log_error("libvirt cannot be asked: %s", strerror(-r));
        return r;
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

int broker_new(const struct config *config, int listen_fd, struct fd_store *store,
               struct broker **ret, int *ret_status) {
        struct broker *b;
        int r;

        *ret_status = EX_OSERR;
        b = calloc(1, sizeof(*b));
        if (!b)
                return -ENOMEM;
        b->config = config;
        b->max_vms = config->max_vms;
        b->listen_fd = listen_fd;
        LIST_INIT(&b->connections);
        r = sd_event_default(&b->event);
        if (r >= 0)
                r = add_signals(b);
        if (r >= 0) {
                r = broker_read_policy(b);
                if (r < 0)
                        *ret_status = r == -EBADMSG || r == -EFBIG ? EX_DATAERR : EX_NOINPUT;
        }
        if (r >= 0) {
                r = broker_read_key(b);
                if (r < 0)
                        *ret_status = r == -EBADMSG ? EX_DATAERR : EX_NOINPUT;
        }
        if (r >= 0) {
                r = open_socket(b);
                if (r < 0)
                        *ret_status = EX_UNAVAILABLE;
        }
        /* Whoever sees the name on the bus finds them. */
        if (r >= 0)
                partition_adopt_all(b, store);
        if (r >= 0) {
                r = bus_new(b, config->bus, &b->bus);
                if (r < 0)
                        *ret_status = bus_status(r);
        }
        if (r >= 0) {
                r = ask_libvirt(b);
                if (r >= 0)
                        r = set_up_idle(b);
                if (r < 0)
                        *ret_status = EX_OSERR;
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
        b->libvirt = libvirt_handle_free(b->libvirt);
        b->bus = bus_free(b->bus);
        (void) policy_free(b->policy);
        b->measure = measure_free(b->measure);
        b->host_key = host_key_free(b->host_key);
        sd_event_source_disable_unref(b->listen_source);
        sd_event_source_disable_unref(b->listen_again);
        sd_event_source_disable_unref(b->idle);
        if (b->made_socket)
                (void) unlink(b->config->socket_path);
        (void) safe_close(b->listen_fd);
        sd_event_unref(b->event);
        free(b);
        return NULL;
}
