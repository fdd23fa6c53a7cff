/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/worker-handle.h"
#include "util/environment.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"
#include "vtl/partition.h"

#define QUIT_GRACE_USEC (5u * 1000 * 1000)
/* Its main thread does nothing but answer. */
#define HELLO_USEC (10u * 1000 * 1000)

struct worker_handle {
        sd_event *event;
        pid_t pid;
        int pidfd;
        int fd;
        unsigned vps;
        bool ready;
        bool said_bye;
        uint32_t generation; /* what it is greeted with; 0: it is this broker's child */
        const struct worker_callbacks *callbacks; /* NULL: released */
        void *userdata;
        sd_event_source *io;
        sd_event_source *child;   /* one that this broker has started */
        sd_event_source *process; /* any other */
        sd_event_source *hello_timer;
        sd_event_source *kill_timer;
};

extern char **environ;

static struct worker_handle *handle_free(struct worker_handle *h) {
        if (!h)
                return NULL;
        sd_event_source_disable_unref(h->io);
        sd_event_source_disable_unref(h->child);
        sd_event_source_disable_unref(h->process);
        sd_event_source_disable_unref(h->hello_timer);
        sd_event_source_disable_unref(h->kill_timer);
        (void) safe_close(h->fd);
        (void) safe_close(h->pidfd);
        free(h);
        return NULL;
}

static struct worker_handle *handle_new(sd_event *event, unsigned vps,
                                        const struct worker_callbacks *callbacks, void *userdata) {
        struct worker_handle *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        h->event = event;
        h->fd = -1;
        h->pidfd = -1;
        h->vps = vps;
        h->callbacks = callbacks;
        h->userdata = userdata;
        return h;
}

/* ---- Starting ---- */

/* A worker has no business with the service manager and the bus. */
static const char *const dropped_variables[] = { "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "DBUS_",
                                                 "CREDENTIALS_" };

/* In the child, between fork and exec: the parent is single-threaded, but nothing here allocates
 * anyway. */
static _Noreturn void exec_worker(int fd, char **env) {
        char arg[32];
        char *const argv[] = { (char *) "vtld", arg, NULL };
        sigset_t none;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) snprintf(arg, sizeof(arg), "--worker=%d", fd);
        if (fcntl(fd, F_SETFD, 0) == 0)
                (void) execve("/proc/self/exe", argv, env);
        _exit(EXIT_FAILURE);
}

static int spawn(int fd, pid_t *ret) {
        _cleanup_free_ char **env = environment_filter(
                dropped_variables, ARRAY_SIZE(dropped_variables), /* keep= */ false);
        pid_t pid;

        if (!env)
                return -ENOMEM;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                exec_worker(fd, env);
        *ret = pid;
        return 0;
}

static int send_config(int fd, const struct protocol_vm *vm, const struct worker_terms *terms,
                       int link_fd) {
        struct worker_config c = {
                .type = WORKER_CONFIG,
                .log_level = log_get_max_level(),
                .flags = (terms->allow_vtl1 ? WORKER_ALLOW_VTL1 : 0) |
                         (terms->require_measurement ? WORKER_REQUIRE_MEASUREMENT : 0) |
                         (vm->precise_faults ? WORKER_PRECISE_FAULTS : 0) |
                         (vm->kernel_apic_msrs ? WORKER_KERNEL_APIC_MSRS : 0) |
                         (vm->kernel_hypercalls ? WORKER_KERNEL_HYPERCALLS : 0) |
                         (vm->kernel_synic ? WORKER_KERNEL_SYNIC : 0),
                .vps = vm->vps,
                .n_regions = vm->n_regions,
                .phys_bits = vm->phys_bits,
                .tsc_khz = vm->tsc_khz,
                .options = terms->options,
                .measure_limit = terms->measure_limit,
        };
        int fds[WORKER_CONFIG_FDS_MAX];
        size_t n = 0;

        memcpy(c.uuid, vm->uuid_text, sizeof(vm->uuid_text));
        memcpy(c.apic_ids, vm->apic_ids, sizeof(c.apic_ids));
        fds[n++] = link_fd;
        fds[n++] = vm->control_fd;
        fds[n++] = vm->overlay_fd;
        for (unsigned i = 0; i < vm->n_regions; i++) {
                c.regions[i] = (struct vtl_message_region){
                        .gpa = vm->regions[i].gpa,
                        .size = vm->regions[i].size,
                        .offset = vm->regions[i].offset,
                };
                fds[n++] = vm->regions[i].fd;
        }
        for (unsigned i = 0; i < vm->vps; i++)
                fds[n++] = vm->kick_fds[i];
        return seqpacket_send(fd, &c, sizeof(c), fds, n, MSG_DONTWAIT);
}

/* ---- Listening ---- */

/* All but answers are of one size. */
union message {
        struct worker_notice notice;
        struct worker_record record;
        struct worker_map map;
        struct worker_registers registers;
};

static bool is_whole(const union message *m, ssize_t len) {
        if (len >= (ssize_t) sizeof(m->notice.type) && m->notice.type == WORKER_MAP)
                return len >= (ssize_t) offsetof(struct worker_map, runs);
        if (len >= (ssize_t) sizeof(m->notice.type) && m->notice.type == WORKER_REGISTERS)
                return len == sizeof(m->registers);
        return len == sizeof(m->notice);
}

/* An end that leaves what it was told unread is an error first, then what it has said itself. */
static ssize_t receive(int fd, union message *ret) {
        size_t n_fds = 0;
        ssize_t len = seqpacket_recv(fd, ret, sizeof(*ret), NULL, &n_fds, MSG_DONTWAIT);

        if (len == -ECONNRESET)
                len = seqpacket_recv(fd, ret, sizeof(*ret), NULL, &n_fds, MSG_DONTWAIT);
        return len;
}

/* One for an earlier broker may have waited, too. */
static void handle_hello(struct worker_handle *h, const struct worker_notice *n) {
        if (!h->hello_timer || n->data != h->generation)
                return;
        h->hello_timer = sd_event_source_disable_unref(h->hello_timer);
        if (n->what == WORKER_PROTOCOL_VERSION)
                h->callbacks->adopted(h->userdata, 0, NULL);
        else
                h->callbacks->adopted(h->userdata, -EPROTONOSUPPORT,
                                      "its worker is of another version");
}

static void handle_notice(struct worker_handle *h, const union message *m, ssize_t len) {
        const struct worker_notice *n = &m->notice;
        char text[sizeof(n->text)], escaped[4 * sizeof(n->text)];

        switch (n->type) {
        case WORKER_READY:
                if (!h->ready) {
                        h->ready = true;
                        h->callbacks->ready(h->userdata);
                }
                return;
        case WORKER_REFUSED:
                if (h->ready)
                        return;
                (void) snprintf(text, sizeof(text), "%.*s", (int) sizeof(n->text) - 1, n->text);
                h->callbacks->refused(h->userdata,
                                      n->error < 0 && n->error > -4096 ? n->error : -EIO,
                                      log_escape(escaped, sizeof(escaped), text));
                return;
        case WORKER_EVENT:
                if (h->ready && n->what < _VTL_EVENT_MAX && n->vp < h->vps)
                        h->callbacks->event(h->userdata, n);
                return;
        case WORKER_RECORD:
                if (h->ready && m->record.vp < h->vps)
                        h->callbacks->record(h->userdata, &m->record);
                return;
        case WORKER_MEASURED:
                if (h->ready && m->record.vp < h->vps)
                        h->callbacks->measured(h->userdata, &m->record);
                return;
        case WORKER_MAP:
                if (h->ready)
                        h->callbacks->map(h->userdata, &m->map, (size_t) len);
                return;
        case WORKER_REGISTERS:
                if (h->ready)
                        h->callbacks->registers(h->userdata, &m->registers);
                return;
        case WORKER_HELLO:
                handle_hello(h, n);
                return;
        case WORKER_BYE:
                h->said_bye = true;
                return;
        default:
                return;
        }
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct worker_handle *h = userdata;
        union message n;
        ssize_t len = receive(fd, &n);

        if (len == -EAGAIN)
                return 0;
        if (is_whole(&n, len)) {
                if (h->callbacks)
                        handle_notice(h, &n, len);
                return 0;
        }
        if (len > 0 || len == -EMSGSIZE || len == -EBADF)
                return 0; /* no message of ours; its process will be judged by what it serves */
        /* The end: on_child() tells why. */
        h->io = sd_event_source_disable_unref(h->io);
        return 0;
}

/* What it said last comes before its death. Return: 0 at the end */
static ssize_t read_rest(struct worker_handle *h) {
        ssize_t len = 0;

        while (h->io && h->callbacks) {
                union message n;

                len = receive(h->fd, &n);
                if (!is_whole(&n, len))
                        break;
                handle_notice(h, &n, len);
        }
        return len;
}

static void handle_end(struct worker_handle *h, bool exited, const char *reason) {
        h->hello_timer = sd_event_source_disable_unref(h->hello_timer);
        (void) read_rest(h);
        log_debug("worker %d %s", (int) h->pid, reason);
        if (h->callbacks)
                h->callbacks->died(h->userdata, exited || h->said_bye, reason);
        /* died() has released it, or nobody was there: either way nobody holds it now. */
        (void) handle_free(h);
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        char reason[96];

        if (si->si_code == CLD_EXITED)
                (void) snprintf(reason, sizeof(reason), "exited with status %d", si->si_status);
        else
                (void) snprintf(reason, sizeof(reason), "killed by signal %s%s",
                                sigabbrev_np(si->si_status) ? "SIG" : "?",
                                sigabbrev_np(si->si_status) ? sigabbrev_np(si->si_status) : "");
        handle_end(userdata, si->si_code == CLD_EXITED && si->si_status == 0, reason);
        return 0;
}

/* Of a worker that is nobody's child here */
static int on_process(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        handle_end(userdata, false, "has ended");
        return 0;
}

int worker_handle_new(sd_event *event, const struct protocol_vm *vm,
                      const struct worker_terms *terms, const struct worker_callbacks *callbacks,
                      void *userdata, int *ret_link_fd, struct worker_handle **ret) {
        int link[2] = { -1, -1 }, pair[2] = { -1, -1 };
        struct worker_handle *h;
        pid_t pid = -1;
        int r;

        h = handle_new(event, vm->vps, callbacks, userdata);
        if (!h)
                return -ENOMEM;
        r = seqpacket_pair(link);
        if (r >= 0)
                r = seqpacket_pair(pair);
        if (r >= 0)
                r = send_config(pair[0], vm, terms, link[1]);
        if (r >= 0)
                r = spawn(pair[1], &pid);
        link[1] = safe_close(link[1]);
        pair[1] = safe_close(pair[1]);
        h->fd = TAKE_FD(pair[0]);
        h->pid = pid;
        /* It is waited for by nobody else: the process ID is its own. */
        if (r >= 0) {
                h->pidfd = pidfd_open(pid, 0);
                if (h->pidfd < 0)
                        r = -errno;
        }
        if (r >= 0)
                r = sd_event_add_io(event, &h->io, h->fd, EPOLLIN, on_io, h);
        if (r >= 0)
                r = sd_event_add_child(event, &h->child, h->pid, WEXITED, on_child, h);
        if (r < 0) {
                (void) safe_close(link[0]);
                /* A worker whose sockets have closed ends by itself; nobody else will wait for
                 * it. */
                if (pid > 0) {
                        (void) kill(pid, SIGKILL);
                        (void) waitpid(pid, NULL, 0);
                }
                (void) handle_free(h);
                return r;
        }
        *ret_link_fd = link[0];
        *ret = h;
        return 0;
}

static int on_hello_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        struct worker_handle *h = userdata;

        h->hello_timer = sd_event_source_disable_unref(h->hello_timer);
        h->callbacks->adopted(h->userdata, -ETIMEDOUT, "its worker does not answer");
        return 0;
}

/* A worker that does not read has not been spoken to for long: there is room. */
static int greet(struct worker_handle *h) {
        const struct worker_notice n = { .type = WORKER_HELLO,
                                         .what = WORKER_PROTOCOL_VERSION,
                                         .data = h->generation };
        int r = seqpacket_send(h->fd, &n, sizeof(n), NULL, 0, MSG_DONTWAIT);

        /* One that has ended meanwhile is found so. */
        return r == -EPIPE || r == -ECONNRESET ? 0 : r;
}

int worker_handle_adopt(sd_event *event, int fd, int pidfd, pid_t pid, unsigned vps,
                        uint32_t generation, const struct worker_callbacks *callbacks,
                        void *userdata, struct worker_handle **ret) {
        struct worker_handle *h = handle_new(event, vps, callbacks, userdata);
        int r;

        if (!h) {
                (void) safe_close(fd);
                (void) safe_close(pidfd);
                return -ENOMEM;
        }
        h->fd = fd;
        h->pidfd = pidfd;
        h->pid = pid;
        h->ready = true;
        h->generation = generation;
        r = sd_event_add_io(event, &h->io, h->fd, EPOLLIN, on_io, h);
        if (r >= 0)
                r = sd_event_add_io(event, &h->process, h->pidfd, EPOLLIN, on_process, h);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &h->hello_timer, CLOCK_MONOTONIC, HELLO_USEC,
                                               0, on_hello_timer, h);
        if (r >= 0)
                r = greet(h);
        if (r < 0) {
                (void) handle_free(h);
                return r;
        }
        *ret = h;
        return 0;
}

pid_t worker_handle_pid(const struct worker_handle *h) {
        return h->pid;
}

int worker_handle_fd(const struct worker_handle *h) {
        return h->fd;
}

int worker_handle_pidfd(const struct worker_handle *h) {
        return h->pidfd;
}

bool worker_handle_failed(struct worker_handle *h) {
        h->hello_timer = sd_event_source_disable_unref(h->hello_timer);
        return read_rest(h) == 0 && !h->said_bye;
}

int worker_handle_decide(struct worker_handle *h, uint64_t sequence, bool allowed) {
        const struct worker_notice n = { .type = WORKER_DECISION,
                                         .what = allowed,
                                         .data = sequence };

        return seqpacket_send(h->fd, &n, sizeof(n), NULL, 0, MSG_DONTWAIT);
}

int worker_handle_trace(struct worker_handle *h) {
        const struct worker_notice n = { .type = WORKER_TRACE };

        return seqpacket_send(h->fd, &n, sizeof(n), NULL, 0, MSG_DONTWAIT);
}

int worker_handle_ask_map(struct worker_handle *h, uint64_t token, uint64_t gpn) {
        const struct worker_notice n = { .type = WORKER_GET_MAP, .gpa = gpn, .data = token };

        return seqpacket_send(h->fd, &n, sizeof(n), NULL, 0, MSG_DONTWAIT);
}

int worker_handle_ask_registers(struct worker_handle *h, uint64_t token, unsigned vp,
                                unsigned vtl) {
        const struct worker_notice n = {
                .type = WORKER_GET_REGISTERS, .vp = vp, .what = vtl, .data = token
        };

        return seqpacket_send(h->fd, &n, sizeof(n), NULL, 0, MSG_DONTWAIT);
}

static int on_kill_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        struct worker_handle *h = userdata;

        log_warning("worker %d does not end, killing it", (int) h->pid);
        (void) pidfd_send_signal(h->pidfd, SIGKILL, NULL, 0);
        return 0;
}

struct worker_handle *worker_handle_abandon(struct worker_handle *h) {
        return handle_free(h);
}

struct worker_handle *worker_handle_release(struct worker_handle *h) {
        const struct worker_notice quit = { .type = WORKER_QUIT };
        uint64_t now;

        if (!h || !h->callbacks)
                return NULL;
        h->callbacks = NULL;
        h->hello_timer = sd_event_source_disable_unref(h->hello_timer);
        (void) seqpacket_send(h->fd, &quit, sizeof(quit), NULL, 0, MSG_DONTWAIT);
        if (sd_event_now(h->event, CLOCK_MONOTONIC, &now) < 0 ||
            sd_event_add_time(h->event, &h->kill_timer, CLOCK_MONOTONIC, now + QUIT_GRACE_USEC, 0,
                              on_kill_timer, h) < 0)
                (void) pidfd_send_signal(h->pidfd, SIGKILL, NULL, 0);
        return NULL;
}
