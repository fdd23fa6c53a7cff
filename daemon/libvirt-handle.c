/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "daemon/libvirt-handle.h"
#include "util/environment.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"

#define PROGRAM "vtld-libvirt"

/* Between a death and the next start: doubled each time, until one has lived for a while */
#define BACKOFF_MIN_USEC (500u * 1000)
#define BACKOFF_MAX_USEC (60u * 1000 * 1000)
#define LIVED_USEC (60u * 1000 * 1000)

/* Messages taken in one turn of the event loop */
#define MESSAGES_MAX 64u

struct libvirt_handle {
        sd_event *event;
        char *program;
        char *uri;
        const struct libvirt_callbacks *callbacks;
        void *userdata;
        struct domains domains;
        pid_t pid; /* 0: it does not run */
        int fd;
        uint64_t started_usec;
        uint64_t backoff_usec;
        sd_event_source *io;
        sd_event_source *child;
        sd_event_source *restart;
        char failure[LIBVIRT_NAME_SIZE]; /* the last one that was logged */
        struct log_ratelimit crowd_limit;
};

extern char **environ;

static void start(struct libvirt_handle *h);

/* ---- What changes ---- */

/* While libvirt is not there, one line says so, not one for each attempt. */
static void log_failure(struct libvirt_handle *h) {
        const char *reason = h->domains.reason;

        if (strcmp(h->failure, reason) == 0) {
                log_debug("libvirt (%s): %s", h->uri, reason);
                return;
        }
        (void) snprintf(h->failure, sizeof(h->failure), "%s", reason);
        log_notice("libvirt (%s) cannot be asked: %s; trying again", h->uri, reason);
}

static void on_state(void *userdata) {
        struct libvirt_handle *h = userdata;

        if (h->domains.state == LIBVIRT_FAILED)
                log_failure(h);
        else if (h->domains.state == LIBVIRT_CONNECTED) {
                h->failure[0] = '\0';
                log_info("connected to libvirt (%s): %u domains", h->uri,
                         HASH_COUNT(h->domains.table));
        }
        h->callbacks->state(h->userdata);
}

static void on_domain(void *userdata, const uint8_t uuid[16], const struct domain *d) {
        struct libvirt_handle *h = userdata;

        h->callbacks->domain(h->userdata, uuid, d);
}

static const struct domains_ops domains_ops = { .state = on_state, .domain = on_domain };

/* ---- Starting ---- */

/* The helper is of libvirt's world: it gets what libvirt and the C library look at, and nothing of
 * the service manager's. */
static const char *const kept_variables[] = {
        "HOME=",
        "LANG=",
        "LC_",
        "LD_",
        "LIBVIRT_",
        "PATH=",
        "TZ=",
        "XDG_CACHE_HOME=",
        "XDG_CONFIG_HOME=",
        "XDG_RUNTIME_DIR=",
        "ASAN_",
        "UBSAN_",
};

/* In the child, between fork and exec */
static _Noreturn void exec_helper(struct libvirt_handle *h, int fd, pid_t parent, char **env) {
        char fd_option[32], level_option[32];
        char *const argv[] = { (char *) PROGRAM, fd_option, level_option, h->uri, NULL };
        sigset_t none;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) signal(SIGPIPE, SIG_DFL);
        (void) snprintf(fd_option, sizeof(fd_option), "--fd=%d", fd);
        (void) snprintf(level_option, sizeof(level_option), "--log-level=%d", log_get_max_level());
        /* It may hang in a call of libvirt when the broker dies. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
            fcntl(fd, F_SETFD, 0) == 0)
                (void) execve(h->program, argv, env);
        _exit(127);
}

static void hang_up(struct libvirt_handle *h) {
        h->io = sd_event_source_disable_unref(h->io);
        h->fd = safe_close(h->fd);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata);
static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata);

static int spawn(struct libvirt_handle *h) {
        _cleanup_free_ char **env =
                environment_filter(kept_variables, ARRAY_SIZE(kept_variables), /* keep= */ true);
        _cleanup_close_ int theirs = -1;
        const pid_t self = getpid();
        int pair[2], r;
        pid_t pid;

        if (!env)
                return -ENOMEM;
        if (access(h->program, X_OK) < 0)
                return -errno;
        r = seqpacket_pair(pair);
        if (r < 0)
                return r;
        h->fd = pair[0];
        theirs = pair[1];
        r = sd_event_add_io(h->event, &h->io, h->fd, EPOLLIN, on_io, h);
        if (r < 0)
                return r;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                exec_helper(h, theirs, self, env);
        r = sd_event_add_child(h->event, &h->child, pid, WEXITED, on_child, h);
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                return r;
        }
        h->pid = pid;
        return 0;
}

static int on_restart(sd_event_source *s, uint64_t usec, void *userdata) {
        start(userdata);
        return 0;
}

static void start_later(struct libvirt_handle *h) {
        int r;

        r = sd_event_source_set_time_relative(h->restart, h->backoff_usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(h->restart, SD_EVENT_ONESHOT);
        if (r < 0)
                log_error("libvirt is not asked any more: %s", strerror(-r));
        h->backoff_usec = MIN(2 * h->backoff_usec, (uint64_t) BACKOFF_MAX_USEC);
}

static void lost(struct libvirt_handle *h, const char *reason) {
        domains_lost(&h->domains, reason);
        on_state(h);
        start_later(h);
}

static void start(struct libvirt_handle *h) {
        char reason[LIBVIRT_NAME_SIZE];
        int r;

        r = spawn(h);
        if (r < 0) {
                hang_up(h);
                (void) snprintf(reason, sizeof(reason), "%s cannot be started: %s", h->program,
                                strerror(-r));
                lost(h, reason);
                return;
        }
        h->started_usec = monotonic_ns() / 1000;
        log_debug("asking libvirt (%s) by process %d", h->uri, (int) h->pid);
}

/* ---- Listening ---- */

/* False when the process is not to be listened to. */
static bool take_message(struct libvirt_handle *h, const struct libvirt_message *m, ssize_t len) {
        int r = len < 0 ? (int) len
                        : domains_message(&h->domains, m, (size_t) len, &domains_ops, h);

        if (r >= 0)
                return true;
        if (r == -ENOSPC || r == -ENOMEM) {
                if (log_ratelimit(&h->crowd_limit, 60 * 1000, 1))
                        log_warning("a domain of libvirt is not known here: %s",
                                    r == -ENOSPC ? "there are too many" : strerror(-r));
                return true;
        }
        log_error("process %d, which asks libvirt, sends what is no message; killing it",
                  (int) h->pid);
        return false;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct libvirt_handle *h = userdata;

        for (unsigned i = 0; i < MESSAGES_MAX; i++) {
                struct libvirt_message m;
                size_t n_fds = 0;
                ssize_t n = seqpacket_recv(fd, &m, sizeof(m), NULL, &n_fds, MSG_DONTWAIT);

                if (n == -EAGAIN)
                        return 0;
                if (n == 0 || n == -ECONNRESET || !take_message(h, &m, n)) {
                        /* Nothing comes from it any more, whether it has ended or not; on_child()
                         * tells. */
                        h->io = sd_event_source_disable_unref(h->io);
                        (void) kill(h->pid, SIGKILL);
                        return 0;
                }
        }
        return 0;
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        struct libvirt_handle *h = userdata;
        char reason[96];

        if (si->si_code == CLD_EXITED)
                (void) snprintf(reason, sizeof(reason), PROGRAM " exited with status %d",
                                si->si_status);
        else
                (void) snprintf(reason, sizeof(reason), PROGRAM " was killed by signal %d",
                                si->si_status);
        hang_up(h);
        h->child = sd_event_source_disable_unref(h->child);
        h->pid = 0;
        if (monotonic_ns() / 1000 - h->started_usec >= LIVED_USEC)
                h->backoff_usec = BACKOFF_MIN_USEC;
        lost(h, reason);
        return 0;
}

/* ---- For the broker ---- */

/* vtld and its helper are installed, and built, in one directory. */
static int beside(char **ret) {
        char path[4096];
        char *slash;
        ssize_t n;

        n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (n < 0)
                return -errno;
        path[n] = '\0';
        slash = strrchr(path, '/');
        if (!slash)
                return -ENOENT;
        return asprintf(ret, "%.*s/" PROGRAM, (int) (slash - path), path) < 0 ? -ENOMEM : 0;
}

int libvirt_handle_new(sd_event *event, const char *program, const char *uri,
                       const struct libvirt_callbacks *callbacks, void *userdata,
                       struct libvirt_handle **ret) {
        struct libvirt_handle *h;
        int r = 0;

        h = calloc(1, sizeof(*h));
        if (!h)
                return -ENOMEM;
        h->event = sd_event_ref(event);
        h->callbacks = callbacks;
        h->userdata = userdata;
        h->fd = -1;
        h->backoff_usec = BACKOFF_MIN_USEC;
        h->domains.state = LIBVIRT_CONNECTING;
        h->uri = strdup(uri);
        if (program)
                h->program = strdup(program);
        else
                r = beside(&h->program);
        if (r >= 0 && (!h->uri || !h->program))
                r = -ENOMEM;
        if (r >= 0)
                r = sd_event_add_time(event, &h->restart, CLOCK_MONOTONIC, 0, 0, on_restart, h);
        if (r < 0) {
                (void) libvirt_handle_free(h);
                return r;
        }
        *ret = h;
        return 0;
}

struct libvirt_handle *libvirt_handle_free(struct libvirt_handle *h) {
        if (!h)
                return NULL;
        hang_up(h);
        sd_event_source_disable_unref(h->child);
        sd_event_source_disable_unref(h->restart);
        if (h->pid > 0)
                (void) kill(h->pid, SIGTERM);
        domains_done(&h->domains);
        free(h->program);
        free(h->uri);
        sd_event_unref(h->event);
        free(h);
        return NULL;
}

enum libvirt_state libvirt_handle_state(const struct libvirt_handle *h) {
        return h ? h->domains.state : LIBVIRT_OFF;
}

const struct domain *libvirt_handle_find(const struct libvirt_handle *h, const uint8_t uuid[16]) {
        return libvirt_handle_state(h) == LIBVIRT_CONNECTED ? domains_find(&h->domains, uuid)
                                                            : NULL;
}

const struct domain *libvirt_handle_find_pid(const struct libvirt_handle *h, pid_t pid) {
        return libvirt_handle_state(h) == LIBVIRT_CONNECTED ? domains_find_pid(&h->domains, pid)
                                                            : NULL;
}

int libvirt_handle_query(struct libvirt_handle *h, const uint8_t uuid[16]) {
        struct libvirt_message m = { .type = LIBVIRT_QUERY };

        if (libvirt_handle_state(h) != LIBVIRT_CONNECTED || h->fd < 0)
                return -ENOTCONN;
        memcpy(m.uuid, uuid, sizeof(m.uuid));
        return seqpacket_send(h->fd, &m, sizeof(m), NULL, 0, MSG_DONTWAIT);
}
