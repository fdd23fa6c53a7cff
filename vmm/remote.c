/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The engine in vtld's worker: attaching, handing over exits, and noticing that the worker is gone.
 */

#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

#include "vmm/internal.h"
#include "vtl/plane-remote.h"

static int serve_op(void *userdata, struct vtl_op *op) {
        struct vtlvmm_vcpu *c = userdata;

        return plane_remote_serve(&plane_stock_ops, &c->vtlvmm->planes, c->index, op);
}

static int serve(struct vtlvmm_vcpu *c) {
        int r;

        plane_remote_give(&plane_stock_ops, &c->vtlvmm->planes, c->index, c->vp->active,
                          c->vp->ctl);
        r = mailbox_call(c->vp->ctl, &c->spin, &c->vtlvmm->dead, serve_op, c);
        if (r == -EOWNERDEAD)
                return vtlvmm_fail(c->vtlvmm, r,
                                   "the process that serves this guest's trust levels is gone");
        return r < 0 ? vtlvmm_fail(c->vtlvmm, r, "the VTL engine cannot go on with this guest: %s",
                                   strerror(-r))
                     : 0;
}

/* Waits for the end of the worker: the guest must not go on without it (design section 5). */
static void *watch(void *arg) {
        struct vtlvmm *v = arg;
        struct pollfd p[] = { { .fd = v->link_fd, .events = POLLIN },
                              { .fd = v->quit_fd, .events = POLLIN } };

        for (;;) {
                if (poll(p, ARRAY_SIZE(p), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        break;
                }
                if (p[1].revents)
                        return NULL;
                if (p[0].revents)
                        break;
        }
        atomic_store(&v->dead, true);
        for (unsigned i = 0; i < v->planes.n_vps; i++) {
                mailbox_wake(v->planes.vps[i].ctl);
                (void) plane_stock_ops.kick(&v->planes, i);
        }
        return NULL;
}

static int start_watcher(struct vtlvmm *v) {
        sigset_t all, old;
        int r;

        v->quit_fd = eventfd(0, EFD_CLOEXEC);
        if (v->quit_fd < 0)
                return -errno;
        /* The thread takes no signal of the VMM's. */
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&v->watcher, NULL, watch, v);
        (void) pthread_sigmask(SIG_SETMASK, &old, NULL);
        v->watching = r == 0;
        return -r;
}

static int attach(struct vtlvmm *v) {
        struct attach_region regions[STOCK_REGIONS_MAX];
        uint32_t apic_ids[VTL_MAX_VPS];
        struct attach_params params = {
                .name = v->name,
                .vps = v->planes.n_vps,
                .apic_ids = apic_ids,
                .tsc_khz = v->tsc_khz,
                .phys_bits = v->phys_bits,
                .precise_faults = v->precise_faults,
                .kernel_apic_msrs = v->planes.kernel_apic_msrs,
                .kernel_hypercalls = v->planes.kernel_hypercalls,
                .kernel_synic = v->planes.kernel_synic,
                .vm_fd = v->planes.vm_fd[0],
                .control_fd = v->control_fd,
                .overlay_fd = v->planes.overlay_fd,
                .regions = regions,
        };
        struct attach_started started;
        size_t n = 0;
        int r;

        for (size_t i = 0; i < v->planes.n_regions; i++) {
                const struct stock_region *s = &v->planes.regions[i];

                if (s->fd >= 0)
                        regions[n++] = (struct attach_region){
                                .gpa = s->gpa, .size = s->size, .offset = s->fd_offset, .fd = s->fd
                        };
        }
        for (unsigned i = 0; i < v->planes.n_vps; i++)
                apic_ids[i] = (uint32_t) v->planes.vps[i].id;
        params.n_regions = n;
        memcpy(params.uuid, v->uuid, sizeof(params.uuid));
        r = attach_client_attach(v->client, &params);
        for (unsigned i = 0; r >= 0 && i < v->planes.n_vps; i++)
                r = attach_client_vp(v->client, i, v->planes.vps[i].kick_fd);
        if (r >= 0)
                r = attach_client_start(v->client, &started);
        if (r < 0)
                return r;
        v->link_fd = started.link_fd;
        /* Policy can reserve more than the VMM asks for, not less. */
        v->planes.reserve_mappings = MAX(v->planes.reserve_mappings, started.reserve_mappings);
        plane_stock_publish_mappings(&v->planes);
        if (started.vina_poll_us >= VINA_POLL_US_MIN && started.vina_poll_us <= VINA_POLL_US_MAX)
                v->vina_poll_us = started.vina_poll_us;
        return 0;
}

_public_ int vtlvmm_attach(struct vtlvmm *v, const char *socket_path) {
        int r;

        if (!v || !socket_path)
                return -EINVAL;
        r = vtlvmm_check(v);
        if (r < 0)
                return r;
        /* First, as without vtld the VM is to stay as it is. */
        r = attach_client_connect(socket_path, &v->client);
        if (r < 0)
                return vtlvmm_fail(v, r, "cannot reach vtld at %s: %s", socket_path, strerror(-r));
        mailbox_prepare();
        r = vtlvmm_prepare(v);
        if (r < 0)
                return r;
        r = attach(v);
        if (r < 0) {
                const char *text = attach_client_error(v->client);

                return vtlvmm_fail(v, r, "vtld: %s", text[0] ? text : strerror(-r));
        }
        r = start_watcher(v);
        if (r < 0)
                return vtlvmm_fail(v, r, "no thread to watch vtld's worker: %s", strerror(-r));
        v->serve = serve;
        return 0;
}
