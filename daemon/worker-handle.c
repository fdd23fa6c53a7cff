/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/worker-handle.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"
#include "vtl/partition.h"

#define QUIT_GRACE_USEC (5u * 1000 * 1000)

struct worker_handle {
        pid_t pid;
        int fd;
        unsigned vps;
        bool ready;
        const struct worker_callbacks *callbacks; /* NULL: released */
        void *userdata;
        sd_event_source *io;
        sd_event_source *child;
        sd_event_source *kill_timer;
};

extern char **environ;

static struct worker_handle *handle_free(struct worker_handle *h) {
        if (!h)
                return NULL;
        sd_event_source_disable_unref(h->io);
        sd_event_source_disable_unref(h->child);
        sd_event_source_disable_unref(h->kill_timer);
        (void) safe_close(h->fd);
        free(h);
        return NULL;
}

/* ---- Starting ---- */

/* A worker has no business with the service manager and the bus. */
static bool keep_variable(const char *v) {
        static const char *const dropped[] = { "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "DBUS_",
                                               "CREDENTIALS_" };

        for (size_t i = 0; i < ARRAY_SIZE(dropped); i++)
                if (strncmp(v, dropped[i], strlen(dropped[i])) == 0)
                        return false;
        return true;
}

static char **worker_environment(void) {
        size_t n = 0, o = 0;
        char **env;

        while (environ[n])
                n++;
        env = calloc(n + 1, sizeof(*env));
        if (!env)
                return NULL;
        for (size_t i = 0; i < n; i++)
                if (keep_variable(environ[i]))
                        env[o++] = environ[i];
        return env;
}

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
        _cleanup_free_ char **env = worker_environment();
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

static int send_config(int fd, const struct protocol_vm *vm, bool allow_vtl1, int link_fd) {
        struct worker_config c = {
                .type = WORKER_CONFIG,
                .log_level = log_get_max_level(),
                .flags = (allow_vtl1 ? WORKER_ALLOW_VTL1 : 0) |
                         (vm->precise_faults ? WORKER_PRECISE_FAULTS : 0) |
                         (vm->kernel_apic_msrs ? WORKER_KERNEL_APIC_MSRS : 0),
                .vps = vm->vps,
                .n_regions = vm->n_regions,
                .phys_bits = vm->phys_bits,
                .tsc_khz = vm->tsc_khz,
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

static void handle_notice(struct worker_handle *h, const struct worker_notice *n) {
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
        default:
                return;
        }
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct worker_handle *h = userdata;
        struct worker_notice n;
        size_t n_fds = 0;
        ssize_t len;

        len = seqpacket_recv(fd, &n, sizeof(n), NULL, &n_fds, MSG_DONTWAIT);
        if (len == -EAGAIN)
                return 0;
        if (len == sizeof(n)) {
                if (h->callbacks)
                        handle_notice(h, &n);
                return 0;
        }
        if (len > 0 || len == -EMSGSIZE || len == -EBADF)
                return 0; /* no message of ours; its process will be judged by what it serves */
        /* The end: on_child() tells why. */
        h->io = sd_event_source_disable_unref(h->io);
        return 0;
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        struct worker_handle *h = userdata;
        char reason[96];

        if (si->si_code == CLD_EXITED)
                (void) snprintf(reason, sizeof(reason), "exited with status %d", si->si_status);
        else
                (void) snprintf(reason, sizeof(reason), "killed by signal %s%s",
                                sigabbrev_np(si->si_status) ? "SIG" : "?",
                                sigabbrev_np(si->si_status) ? sigabbrev_np(si->si_status) : "");
        /* What it said last comes before its death. */
        while (h->io && h->callbacks) {
                struct worker_notice n;
                size_t n_fds = 0;

                if (seqpacket_recv(h->fd, &n, sizeof(n), NULL, &n_fds, MSG_DONTWAIT) != sizeof(n))
                        break;
                handle_notice(h, &n);
        }
        log_debug("worker %d %s", (int) h->pid, reason);
        if (h->callbacks)
                h->callbacks->died(h->userdata, si->si_code == CLD_EXITED && si->si_status == 0,
                                   reason);
        /* died() has released it, or nobody was there: either way nobody holds it now. */
        (void) handle_free(h);
        return 0;
}

int worker_handle_new(sd_event *event, const struct protocol_vm *vm, bool allow_vtl1,
                      const struct worker_callbacks *callbacks, void *userdata, int *ret_link_fd,
                      struct worker_handle **ret) {
        int link[2] = { -1, -1 }, pair[2] = { -1, -1 };
        struct worker_handle *h;
        pid_t pid = -1;
        int r;

        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->fd = -1;
        h->vps = vm->vps;
        h->callbacks = callbacks;
        h->userdata = userdata;
        r = seqpacket_pair(link);
        if (r >= 0)
                r = seqpacket_pair(pair);
        if (r >= 0)
                r = send_config(pair[0], vm, allow_vtl1, link[1]);
        if (r >= 0)
                r = spawn(pair[1], &pid);
        link[1] = safe_close(link[1]);
        pair[1] = safe_close(pair[1]);
        h->fd = TAKE_FD(pair[0]);
        h->pid = pid;
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

pid_t worker_handle_pid(const struct worker_handle *h) {
        return h->pid;
}

static int on_kill_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        struct worker_handle *h = userdata;

        log_warning("worker %d does not end, killing it", (int) h->pid);
        (void) kill(h->pid, SIGKILL);
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
        (void) seqpacket_send(h->fd, &quit, sizeof(quit), NULL, 0, MSG_DONTWAIT);
        if (sd_event_now(sd_event_source_get_event(h->child), CLOCK_MONOTONIC, &now) < 0 ||
            sd_event_add_time(sd_event_source_get_event(h->child), &h->kill_timer, CLOCK_MONOTONIC,
                              now + QUIT_GRACE_USEC, 0, on_kill_timer, h) < 0)
                (void) kill(h->pid, SIGKILL);
        return NULL;
}
