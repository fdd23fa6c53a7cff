/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <asm/termbits.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "daemon/sandbox.h"
#include "util/log.h"
#include "util/util.h"

/*
 * Theory of operation. A worker parses what a hostile guest hands it. It is started with the
 * descriptors that it needs and opens nothing, ever; so its list names no call that opens, creates,
 * connects, executes or signals others.
 *
 *   1. prepare   before anything of the VM is there: no new privileges; not dumpable: no core (it
 *                would contain VTL1's memory), no ptrace and no /proc/PID/mem for processes of the
 *                same user
 *   2. enter     when memory is mapped and the threads run: the list below
 */

static const struct sandbox_call worker_calls[] = {
        /* The engine at work */
        { SCMP_SYS(futex), "mailboxes of the VPs, the partition's lock" },
        { SCMP_SYS(sched_yield), "a spin before the futex" },
        { SCMP_SYS(write), "kick pipes; log lines" },
        { SCMP_SYS(clock_gettime), "time, where the vDSO has none" },
        /* The sockets */
        { SCMP_SYS(ppoll), "the main thread waits for the VMM's end and the broker's" },
        { SCMP_SYS(recvmsg), "messages of the broker" },
        { SCMP_SYS(sendmsg), "events for the broker" },
        { SCMP_SYS(close), "the broker's socket after its end" },
        /* The heap */
        { SCMP_SYS(brk), "malloc" },
        { SCMP_SYS(munmap), "free" },
        { SCMP_SYS(mremap), "realloc" },
        { SCMP_SYS(madvise), "free, the end of a thread" },
        { SCMP_SYS(getrandom), "malloc's first call in an arena" },
        /* The end */
        { SCMP_SYS(rt_sigprocmask), "abort, the end of a thread" },
        { SCMP_SYS(rt_sigreturn), "return from a signal handler" },
        { SCMP_SYS(restart_syscall), "the kernel's own, after a stop" },
        { SCMP_SYS(getpid), "abort" },
        { SCMP_SYS(gettid), "abort" },
        { SCMP_SYS(exit), "the end of a thread" },
        { SCMP_SYS(exit_group), "the end" },
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

int sandbox_worker_prepare(void) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
                return -errno;
        return 0;
}

/* Calls that a worker may make with some arguments only */
static int add_worker_rules(scmp_filter_ctx ctx) {
        int r;

        /* The heap grows, but nothing becomes executable. */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        if (r < 0)
                return r;
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
        if (r < 0)
                return r;
        /* The log asks whether stderr is a terminal. */
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_EQ, TCGETS, 0));
        if (r < 0)
                return r;
        /* abort() signals the process itself. */
        return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                                SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid(), 0));
}

static int load_filter(scmp_filter_ctx ctx, const struct sandbox_call *calls, size_t n,
                       int (*add_rules)(scmp_filter_ctx ctx)) {
        int r;

        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i].number, 0);
                if (r < 0)
                        return r;
        }
        r = add_rules(ctx);
        if (r < 0)
                return r;
        return seccomp_load(ctx);
}

int sandbox_load(const struct sandbox_call *calls, size_t n, int (*add_rules)(scmp_filter_ctx ctx),
                 uint32_t otherwise) {
        scmp_filter_ctx ctx;
        int r;

        if (SANITIZED) {
                log_debug("built with a sanitizer: no system call filter");
                return 0;
        }

        ctx = seccomp_init(otherwise);
        if (!ctx)
                return -ENOMEM;
        r = load_filter(ctx, calls, n, add_rules);
        seccomp_release(ctx);
        return r;
}

int sandbox_worker_enter(void) {
        return sandbox_load(worker_calls, ARRAY_SIZE(worker_calls), add_worker_rules,
                            SCMP_ACT_KILL_PROCESS);
}
