/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a vCPU's thread needs beside KVM_RUN: the signal that brings it out of the guest, and the
 * timer that does so for VINA.
 */

#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "util/util.h"
#include "vmm/run.h"

/* KVM_SET_SIGNAL_MASK: in the guest the thread's mask holds, without the library's signal. */
static int set_signal_mask(struct vtlvmm_vcpu *c, const sigset_t *mask) {
        struct {
                struct kvm_signal_mask head;
                uint8_t set[8];
        } __attribute__((packed)) m = { .head.len = sizeof(m.set) };

        memcpy(m.set, mask, sizeof(m.set));
        for (unsigned plane = 0; plane < PLANE_MAX; plane++)
                if (ioctl(c->vp->plane[plane].fd, KVM_SET_SIGNAL_MASK, &m) < 0)
                        return -errno;
        return 0;
}

/* A timer that signals this thread, for VINA. */
static int make_tick(struct vtlvmm_vcpu *c) {
        struct sigevent e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = c->vtlvmm->signal };

        e._sigev_un._tid = (pid_t) syscall(SYS_gettid);
        if (timer_create(CLOCK_MONOTONIC, &e, &c->tick) < 0)
                return -errno;
        c->has_tick = true;
        return 0;
}

/*
 * The kick: somebody writes to the VP's pipe, the kernel signals this thread, the signal is blocked
 * everywhere but in KVM_RUN. So one that comes at any other time makes the next KVM_RUN return at
 * once, at an instruction boundary.
 */
static int prepare_thread(struct vtlvmm_vcpu *c) {
        struct f_owner_ex owner = { .type = F_OWNER_TID, .pid = (pid_t) syscall(SYS_gettid) };
        int sig = c->vtlvmm->signal, r;
        sigset_t blocked, in_guest;

        (void) sigemptyset(&blocked);
        (void) sigaddset(&blocked, sig);
        r = pthread_sigmask(SIG_BLOCK, &blocked, &c->wait_mask);
        if (r != 0)
                return -r;
        in_guest = c->wait_mask;
        (void) sigdelset(&in_guest, sig);
        (void) sigaddset(&c->wait_mask, sig);
        r = set_signal_mask(c, &in_guest);
        if (r < 0)
                return r;
        if (fcntl(c->kick_read, F_SETSIG, sig) < 0 ||
            fcntl(c->kick_read, F_SETOWN_EX, &owner) < 0 ||
            fcntl(c->kick_read, F_SETFL, O_NONBLOCK | O_ASYNC) < 0)
                return -errno;
        r = make_tick(c);
        if (r < 0)
                return r;
        c->vp->signal = sig;
        /* One that came before the pipe knew its owner made no signal. */
        if (atomic_load(&c->vp->ctl->kicked))
                (void) syscall(SYS_tgkill, getpid(), owner.pid, sig);
        c->started = true;
        return 0;
}

int vtlvmm_thread_set_up(struct vtlvmm_vcpu *c) {
        int r = c->started ? 0 : prepare_thread(c);

        return r < 0 ? vtlvmm_fail(c->vtlvmm, r, "the VP's thread cannot be set up: %s",
                                   strerror(-r))
                     : 0;
}

void vtlvmm_thread_drain_kicks(struct vtlvmm_vcpu *c) {
        static const struct timespec now;
        char bytes[64];
        sigset_t set;

        (void) sigemptyset(&set);
        (void) sigaddset(&set, c->vtlvmm->signal);
        while (read(c->kick_read, bytes, sizeof(bytes)) > 0)
                ;
        while (sigtimedwait(&set, NULL, &now) > 0)
                ;
        c->ticking = false; /* its signal is among these, or it is armed once more for nothing */
}
