/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/connection.h"
#include "daemon/identity.h"
#include "daemon/messages.h"
#include "daemon/partition.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"

/* From accept() or DETACH to the answer of START */
#define HANDSHAKE_USEC (60u * 1000 * 1000)

struct connection {
        LIST_ENTRY(connection) list;
        struct broker *broker;
        int fd;
        int pidfd;
        struct ucred peer;
        bool failed; /* the worker is gone: nothing is served any more */
        struct protocol protocol;
        struct identity_query *identity; /* ATTACH waits for it */
        struct partition *partition;
        sd_event_source *io;
        sd_event_source *process;
        sd_event_source *deadline;
};

struct connection *connection_free(struct connection *c) {
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->process);
        sd_event_source_disable_unref(c->deadline);
        c->identity = identity_query_free(c->identity);
        c->partition = partition_free(c->partition);
        protocol_done(&c->protocol);
        (void) safe_close(c->pidfd);
        (void) safe_close(c->fd);
        LIST_REMOVE(c, list);
        c->broker->n_connections--;
        broker_used(c->broker);
        free(c);
        return NULL;
}

/* ---- What the protocol asks ---- */

static int op_facts(void *userdata, int fd, struct fd_facts *ret) {
        return fd_facts_get(fd, ret);
}

static void on_identity(void *userdata, const struct identity *i);

/* Who the VMM is comes first. The next message waits in the socket until ATTACH is answered. */
static int op_attach(void *userdata, const struct protocol_vm *vm, const char **ret_why) {
        struct connection *c = userdata;
        int r;

        r = identity_query_new(c->broker->event, bus_connection(c->broker->bus), c->broker->libvirt,
                               c->peer.pid, vm->uuid, on_identity, c, &c->identity);
        if (r >= 0)
                (void) sd_event_source_set_io_events(c->io, 0);
        return r;
}

/* Likewise until START is answered. */
static int op_start(void *userdata, const struct protocol_vm *vm, const char **ret_why) {
        struct connection *c = userdata;
        int r;

        r = partition_start(c->partition, vm, ret_why);
        if (r >= 0)
                (void) sd_event_source_set_io_events(c->io, 0);
        return r;
}

static void arm_deadline(struct connection *c) {
        (void) sd_event_source_set_time_relative(c->deadline, HANDSHAKE_USEC);
        (void) sd_event_source_set_enabled(c->deadline, SD_EVENT_ONESHOT);
}

static void op_detach(void *userdata) {
        struct connection *c = userdata;

        c->partition = partition_free(c->partition);
        arm_deadline(c);
}

static void op_pause(void *userdata, bool paused) {
        struct connection *c = userdata;

        partition_pause(c->partition, paused);
}

static const struct protocol_ops protocol_ops = {
        .facts = op_facts,
        .attach = op_attach,
        .start = op_start,
        .detach = op_detach,
        .pause = op_pause,
};

/* ---- Input and output ---- */

/* False when the connection is gone. A peer that does not take its answers is not waited for. */
static bool send_reply(struct connection *c, struct protocol_reply *reply) {
        int r;

        if (reply->message.header.flags & VTL_MESSAGE_ERROR &&
            log_ratelimit(&c->broker->refusal_limit, 1000, 10)) {
                struct log_fields f = { 0 };

                log_field(&f, "VTLD_VMM_PID", "%d", (int) c->peer.pid);
                log_field(&f, "VTLD_UID", "%u", c->peer.uid);
                log_event(LOG_INFO, MESSAGE_ATTACH_REFUSED, &f,
                          "process %d: command %u refused: %s", (int) c->peer.pid,
                          reply->message.header.command,
                          (const char *) reply->message.bytes + sizeof(struct vtl_message));
        }
        r = seqpacket_send(c->fd, &reply->message, reply->len, &reply->fd, reply->fd >= 0 ? 1 : 0,
                           MSG_DONTWAIT);
        protocol_reply_done(reply);
        if (r >= 0 && !reply->close)
                return true;
        if (r < 0)
                log_debug("process %d: cannot answer: %s", (int) c->peer.pid, strerror(-r));
        (void) connection_free(c);
        return false;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct connection *c = userdata;
        union {
                struct vtl_message header;
                uint8_t bytes[VTL_MESSAGE_MAX];
        } m;
        int fds[VTL_MESSAGE_FDS_MAX];
        size_t n_fds = ARRAY_SIZE(fds);
        struct protocol_reply reply;
        ssize_t n;

        if (!(revents & EPOLLIN)) { /* HUP while ATTACH or START is pending */
                (void) connection_free(c);
                return 0;
        }
        n = seqpacket_recv(fd, &m, sizeof(m), fds, &n_fds, MSG_DONTWAIT);
        if (n == -EAGAIN)
                return 0;
        if (n == -EMSGSIZE || n == -EBADF) {
                protocol_broken(&c->protocol, (int) n, &reply);
                (void) send_reply(c, &reply);
                return 0;
        }
        if (n <= 0) {
                (void) connection_free(c);
                return 0;
        }
        if (c->failed) {
                while (n_fds > 0)
                        (void) safe_close(fds[--n_fds]);
                return 0;
        }
        if (protocol_handle(&c->protocol, &m, (size_t) n, fds, n_fds, &reply) == 0)
                (void) send_reply(c, &reply);
        return 0;
}

/* While the pidfd's process lives, the process ID is its own: the answer was about it. */
static bool process_ended(const struct connection *c) {
        struct pollfd p = { .fd = c->pidfd, .events = POLLIN };

        return poll(&p, 1, 0) != 0;
}

static int attach(struct connection *c, const struct identity *i, const char **ret_why) {
        const struct protocol_vm *vm = &c->protocol.vm;
        char domain[UUID_TEXT_SIZE];
        int r;

        if (process_ended(c)) {
                *ret_why = "the process has ended";
                return -ESRCH;
        }
        r = identity_check(i, vm->uuid, ret_why);
        if (r >= 0)
                return partition_new(c->broker, c, vm, c->peer.pid, c->peer.uid, i, &c->partition,
                                     ret_why);
        uuid_format(i->uuid, domain);
        if (log_ratelimit(&c->broker->identity_limit, 1000, 10))
                log_warning(
                        "process %d of user %u belongs to libvirt domain %s, and may not attach VM %s",
                        (int) c->peer.pid, c->peer.uid, domain, vm->uuid_text);
        return r;
}

static void on_identity(void *userdata, const struct identity *i) {
        struct connection *c = userdata;
        struct protocol_reply reply;
        const char *why = NULL;
        int r;

        c->identity = identity_query_free(c->identity);
        r = attach(c, i, &why);
        protocol_attached(&c->protocol, r, why, &reply);
        (void) sd_event_source_set_io_events(c->io, EPOLLIN);
        (void) send_reply(c, &reply);
}

struct connection *connection_next(struct connection *c) {
        return LIST_NEXT(c, list);
}

void connection_domain_told(struct connection *c, const uint8_t *uuid) {
        identity_query_told(c->identity, uuid);
}

void connection_detach(struct connection *c, const char *why) {
        log_notice("VM %s: detached: %s", c->partition->uuid_text, why);
        (void) connection_free(c);
}

void connection_started(struct connection *c, int error, const char *why,
                        const struct vtl_message_started *started, int link_fd) {
        struct protocol_reply reply;

        protocol_started(&c->protocol, error, why, started, link_fd, &reply);
        if (error >= 0)
                (void) sd_event_source_set_enabled(c->deadline, SD_EVENT_OFF);
        (void) sd_event_source_set_io_events(c->io, EPOLLIN);
        (void) send_reply(c, &reply);
}

void connection_worker_failed(struct connection *c) {
        c->failed = true;
        (void) shutdown(c->fd, SHUT_WR);
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        struct connection *c = userdata;

        log_info("process %d: no VM was started in time, closing its connection",
                 (int) c->peer.pid);
        (void) connection_free(c);
        return 0;
}

/* Somebody else may still hold its end of the socket. */
static int on_process_end(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct connection *c = userdata;

        log_debug("process %d has ended", (int) c->peer.pid);
        (void) connection_free(c);
        return 0;
}

/* ---- Beginning ---- */

/* The pidfd is of the process that connected only if that process is still there after it was
 * opened: its end of the socket closes when it dies (unless it gave it away, and then it is not
 * served as that process for long). */
static int take_peer(struct connection *c) {
        socklen_t len = sizeof(c->peer);

        if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) < 0)
                return -errno;
        if (c->peer.pid <= 0)
                return -ESRCH; /* of another PID namespace */
        c->pidfd = pidfd_open(c->peer.pid, 0);
        return c->pidfd < 0 ? -errno : 0;
}

static int add_sources(struct connection *c) {
        sd_event *e = c->broker->event;
        int r;

        r = sd_event_add_io(e, &c->io, c->fd, EPOLLIN, on_io, c);
        if (r >= 0)
                r = sd_event_add_io(e, &c->process, c->pidfd, EPOLLIN, on_process_end, c);
        if (r >= 0)
                r = sd_event_add_time_relative(e, &c->deadline, CLOCK_MONOTONIC, HANDSHAKE_USEC, 0,
                                               on_deadline, c);
        /* What a process said before it ended is served first. */
        if (r >= 0)
                r = sd_event_source_set_priority(c->process, SD_EVENT_PRIORITY_IDLE);
        return r;
}

/* Takes both descriptors, also on failure. */
static struct connection *make(struct broker *b, int fd, int pidfd) {
        struct connection *c = calloc(1, sizeof(*c));

        if (!c) {
                (void) safe_close(fd);
                (void) safe_close(pidfd);
                return NULL;
        }
        c->broker = b;
        c->fd = fd;
        c->pidfd = pidfd;
        LIST_INSERT_HEAD(&b->connections, c, list);
        b->n_connections++;
        return c;
}

/* Whoever connected is the VMM that was written down. */
static int check_adopted(struct connection *c, const struct partition *p) {
        socklen_t len = sizeof(c->peer);
        int type = 0, listens = 0;

        if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) < 0)
                return -EBADMSG;
        len = sizeof(type);
        if (getsockopt(c->fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
                return -EBADMSG;
        len = sizeof(listens);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || listens)
                return -EBADMSG;
        return c->peer.pid == p->vmm_pid && c->peer.uid == p->vmm_uid ? 0 : -EBADMSG;
}

int connection_adopt(struct broker *b, int fd, int pidfd, struct partition *p) {
        struct connection *c = make(b, fd, pidfd);
        int r;

        if (!c)
                return -ENOMEM;
        protocol_init_running(&c->protocol, &protocol_ops, c, p->state == PARTITION_PAUSED);
        r = check_adopted(c, p);
        if (r >= 0)
                r = add_sources(c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->deadline, SD_EVENT_OFF);
        if (r < 0) {
                (void) connection_free(c);
                return r;
        }
        c->partition = p;
        p->connection = c;
        return 0;
}

struct connection_fds connection_fds(const struct connection *c) {
        return (struct connection_fds){ .fd = c->fd,
                                        .pidfd = c->pidfd,
                                        .control_fd = c->protocol.vm.control_fd };
}

int connection_new(struct broker *b, int fd) {
        struct connection *c = make(b, fd, -1);
        int r;

        if (!c)
                return -ENOMEM;
        protocol_init(&c->protocol, &protocol_ops, c);
        r = take_peer(c);
        if (r >= 0)
                r = add_sources(c);
        if (r < 0)
                (void) connection_free(c);
        return r;
}
