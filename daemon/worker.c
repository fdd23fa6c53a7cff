/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "daemon/sandbox.h"
#include "daemon/worker-map.h"
#include "daemon/worker-measure.h"
#include "daemon/worker-proto.h"
#include "daemon/worker-registers.h"
#include "daemon/worker-trace.h"
#include "daemon/worker.h"
#include "hvcall/serve.h"
#include "util/log.h"
#include "util/seqpacket.h"
#include "util/util.h"
#include "vtl/control.h"
#include "vtl/mailbox.h"
#include "vtl/partition.h"
#include "vtl/plane-remote.h"

#define VP_STACK_SIZE (256u * 1024u)

struct worker {
        int broker_fd;
        int link_fd;
        struct worker_config config;
        int kick_fds[VTL_MAX_VPS];
        struct vtl_region regions[VTL_ATTACH_REGIONS_MAX];
        void *control;
        uint8_t *overlay;
        struct plane_remote remote;
        struct vtl_partition *partition;
        pthread_barrier_t threads_run;
        atomic_bool events_lost;
        struct worker_measure measure;
        struct worker_map_task map;
        struct worker_registers_task registers;
        struct worker_trace trace;
        /* The main thread's */
        struct worker_notice hello; /* for a new broker */
        bool hello_due;
};

/* ---- To the broker ---- */

static void send_notice(struct worker *w, const struct worker_notice *n, int flags) {
        int r = seqpacket_send(w->broker_fd, n, sizeof(*n), NULL, 0, flags);

        if (r < 0)
                atomic_store(&w->events_lost, true);
}

static int refuse(struct worker *w, int error, const char *what) {
        struct worker_notice n = { .type = WORKER_REFUSED, .error = error };

        (void) snprintf(n.text, sizeof(n.text), "%s: %s", what, strerror(-error));
        send_notice(w, &n, 0);
        return error;
}

/* Under the partition's lock, and the broker may be slow or gone: never waits. The state that an
 * event is about is in the control memory too, so a lost one is made good when the next one
 * arrives. */
static void on_event(void *userdata, enum vtl_event what, unsigned vp, uint64_t gpa,
                     uint64_t data) {
        struct worker *w = userdata;
        struct worker_notice n = {
                .type = WORKER_EVENT,
                .flags = atomic_exchange(&w->events_lost, false) ? WORKER_EVENTS_LOST : 0,
                .what = what,
                .vp = vp,
                .gpa = gpa,
                .data = data,
        };

        send_notice(w, &n, MSG_DONTWAIT);
        worker_measure_event(&w->measure, w->partition, what, vp, data);
}

static int on_measure(void *userdata, struct vtl_vp *vp, bool entry) {
        struct worker *w = userdata;

        return worker_measure(&w->measure, vp, entry);
}

/* ---- Taking over the VM ---- */

static int map_shared(int fd, uint64_t offset, size_t size, void **ret) {
        void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t) offset);

        if (p == MAP_FAILED)
                return -errno;
        (void) madvise(p, size, MADV_DONTDUMP);
        *ret = p;
        return 0;
}

/* @fds in the order of struct worker_config */
static int map_memory(struct worker *w, const int *fds) {
        const struct worker_config *c = &w->config;
        void *p = NULL;
        int r;

        r = map_shared(fds[1], 0, vtl_control_size(c->vps), &w->control);
        if (r < 0)
                return refuse(w, r, "cannot map the control memory");
        r = map_shared(fds[2], 0, (size_t) vtl_overlay_pages(c->vps) * 4096, &p);
        if (r < 0)
                return refuse(w, r, "cannot map the overlay memory");
        w->overlay = p;
        for (unsigned i = 0; i < c->n_regions; i++) {
                r = map_shared(fds[WORKER_CONFIG_FDS_FIXED + i], c->regions[i].offset,
                               c->regions[i].size, &p);
                if (r < 0)
                        return refuse(w, r, "cannot map guest memory");
                w->regions[i] = (struct vtl_region){
                        .gpa = c->regions[i].gpa,
                        .size = c->regions[i].size,
                        .base = p,
                };
        }
        return 0;
}

/* A kick must not make the engine wait for a VMM that does not read its pipe. */
static int take_kick_fds(struct worker *w, const int *fds) {
        for (unsigned i = 0; i < w->config.vps; i++) {
                int flags = fcntl(fds[i], F_GETFL);

                if (flags < 0 || fcntl(fds[i], F_SETFL, flags | O_NONBLOCK) < 0)
                        return refuse(w, -errno, "cannot set up a kick pipe");
                w->kick_fds[i] = fds[i];
        }
        return 0;
}

static int receive_config(struct worker *w) {
        int fds[WORKER_CONFIG_FDS_MAX];
        size_t n_fds = ARRAY_SIZE(fds), n_memory;
        ssize_t n;
        int r;

        n = seqpacket_recv(w->broker_fd, &w->config, sizeof(w->config), fds, &n_fds, 0);
        if (n < 0)
                return (int) n;
        if (n != sizeof(w->config) || w->config.type != WORKER_CONFIG || w->config.vps == 0 ||
            w->config.vps > VTL_MAX_VPS || w->config.n_regions > VTL_ATTACH_REGIONS_MAX)
                return -EPROTO;
        n_memory = WORKER_CONFIG_FDS_FIXED + w->config.n_regions;
        if (n_fds != n_memory + w->config.vps)
                return -EPROTO;
        log_set_max_level(w->config.log_level);
        w->link_fd = fds[0];
        r = map_memory(w, fds);
        if (r < 0)
                return r;
        for (size_t i = 1; i < n_memory; i++)
                (void) safe_close(fds[i]);
        return take_kick_fds(w, fds + n_memory);
}

static int make_partition(struct worker *w) {
        const struct worker_config *c = &w->config;
        struct vtl_config config = {
                .vps = c->vps,
                .apic_ids = c->apic_ids,
                .regions = w->regions,
                .n_regions = c->n_regions,
                .tsc_khz = c->tsc_khz,
                .phys_bits = c->phys_bits,
                .allow_vtl1 = c->flags & WORKER_ALLOW_VTL1,
                .precise_faults = c->flags & WORKER_PRECISE_FAULTS,
                .kernel_apic_msrs = c->flags & WORKER_KERNEL_APIC_MSRS,
                .kernel_hypercalls = c->flags & WORKER_KERNEL_HYPERCALLS,
                .kernel_synic = c->flags & WORKER_KERNEL_SYNIC,
                .options = c->options,
                .control = w->control,
                .overlay = w->overlay,
                .ops = &plane_remote_ops,
                .ops_ctx = &w->remote,
                .event = on_event,
                .measure = on_measure,
                .measure_required = c->flags & WORKER_REQUIRE_MEASUREMENT,
                .hypercall = hvcall_serve,
                .userdata = w,
        };
        int r;

        r = worker_measure_init(&w->measure, w->broker_fd, c->measure_limit,
                                c->flags & WORKER_REQUIRE_MEASUREMENT);
        if (r < 0)
                return refuse(w, r, "cannot measure");
        w->remote = (struct plane_remote){ .control = w->control,
                                           .kick_fds = w->kick_fds,
                                           .vps = c->vps };
        r = vtl_partition_new(&config, &w->partition);
        if (r < 0)
                return refuse(w, r, "cannot make the partition");
        w->map.partition = w->partition;
        w->map.broker_fd = w->broker_fd;
        w->registers.partition = w->partition;
        w->registers.broker_fd = w->broker_fd;
        w->trace.header = w->control;
        return 0;
}

/* ---- Threads ---- */

struct vp_thread {
        struct worker *worker;
        struct vtl_vp *vp;
};

static void *vp_thread_main(void *arg) {
        struct vp_thread t = *(struct vp_thread *) arg;
        int r;

        free(arg);
        (void) pthread_barrier_wait(&t.worker->threads_run);
        r = vtl_worker_vp_loop(t.vp);
        log_error("VP %u is no longer served: %s", t.vp->index, strerror(r < 0 ? -r : EIO));
        /* One VP without an engine is a VM without an engine: the VMM sees the link's end and stops
         * the guest. */
        _exit(EXIT_FAILURE);
}

static int start_thread(struct worker *w, struct vtl_vp *vp, const pthread_attr_t *attr) {
        struct vp_thread *t = malloc(sizeof(*t));
        pthread_t id;
        int r;

        if (!t)
                return -ENOMEM;
        *t = (struct vp_thread){ .worker = w, .vp = vp };
        r = pthread_create(&id, attr, vp_thread_main, t);
        if (r != 0)
                free(t);
        return -r;
}

/* They run, and have done the system calls of a starting thread, when this returns. */
static int start_threads(struct worker *w) {
        pthread_attr_t attr;
        int r;

        r = -pthread_barrier_init(&w->threads_run, NULL, w->config.vps + 1);
        if (r < 0)
                return r;
        r = -pthread_attr_init(&attr);
        if (r < 0)
                return r;
        (void) pthread_attr_setstacksize(&attr, VP_STACK_SIZE);
        (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        for (unsigned i = 0; r >= 0 && i < w->config.vps; i++)
                r = start_thread(w, &w->partition->vps[i], &attr);
        (void) pthread_attr_destroy(&attr);
        if (r >= 0)
                (void) pthread_barrier_wait(&w->threads_run);
        return r;
}

/* ---- The main thread ---- */

/* A new broker may have to read what has been left to it before there is room: never waits. */
static void greet_broker(struct worker *w) {
        int r;

        r = worker_measure_ask_again(&w->measure);
        if (r != -EAGAIN)
                r = seqpacket_send(w->broker_fd, &w->hello, sizeof(w->hello), NULL, 0,
                                   MSG_DONTWAIT);
        w->hello_due = r == -EAGAIN;
}

/* 1: the VM was detached; 0: nothing to do; negative: the broker is gone */
static int read_broker(struct worker *w) {
        struct worker_notice n;
        size_t n_fds = 0;
        ssize_t len;

        len = seqpacket_recv(w->broker_fd, &n, sizeof(n), NULL, &n_fds, MSG_DONTWAIT);
        if (len == -EAGAIN)
                return 0;
        if (len <= 0)
                return -ECONNRESET;
        if (len != sizeof(n))
                return 0;
        switch (n.type) {
        case WORKER_DECISION:
                worker_measure_answer(&w->measure, n.data, n.what == 1);
                return 0;
        case WORKER_TRACE:
                worker_trace_renew(&w->trace);
                return 0;
        case WORKER_GET_MAP:
                worker_map_ask(&w->map, &n);
                return 0;
        case WORKER_GET_REGISTERS:
                worker_registers_ask(&w->registers, &n);
                return 0;
        case WORKER_HELLO:
                w->hello = (struct worker_notice){ .type = WORKER_HELLO,
                                                   .what = WORKER_PROTOCOL_VERSION,
                                                   .data = n.data };
                w->hello_due = true;
                return 0;
        case WORKER_QUIT:
                return 1;
        default:
                return 0;
        }
}

/* What is to be done without a message. Return: how long to wait for one, in @ret; NULL: for
 * ever. */
static const struct timespec *work(struct worker *w, struct timespec *ret) {
        const int wishes[] = { worker_map_work(&w->map), worker_registers_work(&w->registers),
                               worker_trace_work(&w->trace) };
        int ms = -1;

        for (size_t i = 0; i < ARRAY_SIZE(wishes); i++)
                if (wishes[i] >= 0 && (ms < 0 || wishes[i] < ms))
                        ms = wishes[i];
        if (ms < 0)
                return NULL;
        *ret = (struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
        return ret;
}

/* Until the VMM has closed its end of the link. */
static int serve(struct worker *w) {
        bool broker = true;

        for (;;) {
                struct pollfd p[] = {
                        { .fd = w->link_fd, .events = POLLIN },
                        { .fd = broker ? w->broker_fd : -1,
                          .events = POLLIN | (w->hello_due ? POLLOUT : 0) },
                };
                struct timespec timeout;
                int r;

                if (ppoll(p, ARRAY_SIZE(p), work(w, &timeout), NULL) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (p[0].revents) /* nothing is ever sent over the link */
                        return 0;
                if (p[1].revents & POLLOUT)
                        greet_broker(w);
                if (!(p[1].revents & ~POLLOUT))
                        continue;
                r = read_broker(w);
                if (r > 0)
                        return 0;
                if (r < 0) {
                        log_warning("vtld is gone; VM %s is served on", w->config.uuid);
                        broker = false;
                        worker_measure_broker_lost(&w->measure);
                }
        }
}

/* Up to where there are threads */
static int take_over(struct worker *w) {
        int r;

        mailbox_prepare();
        r = sandbox_worker_prepare();
        if (r >= 0)
                r = receive_config(w);
        if (r >= 0)
                r = make_partition(w);
        return r;
}

int worker_main(int fd) {
        const struct worker_notice ready = { .type = WORKER_READY };
        struct worker w = { .broker_fd = fd, .link_fd = -1 };
        int r;

        (void) prctl(PR_SET_NAME, "vtld-worker");
        (void) signal(SIGPIPE, SIG_IGN);
        r = take_over(&w);
        if (r < 0)
                return EXIT_FAILURE;
        r = start_threads(&w);
        if (r < 0)
                (void) refuse(&w, r, "cannot start a thread per VP");
        else {
                r = sandbox_worker_enter();
                if (r < 0)
                        (void) refuse(&w, r, "cannot enter the sandbox");
        }
        if (r >= 0) {
                send_notice(&w, &ready, 0);
                r = serve(&w);
        }
        /* Nobody but its parent is told how a process has ended, and that may be gone. */
        if (r >= 0) {
                const struct worker_notice bye = { .type = WORKER_BYE };

                send_notice(&w, &bye, MSG_DONTWAIT);
        }
        /* The threads use this frame and wait at the control memory; there is nothing to flush or
         * to free that the exit does not. */
        _exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}
