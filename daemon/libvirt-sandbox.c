/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <asm/termbits.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "daemon/libvirt-sandbox.h"
#include "daemon/sandbox.h"
#include "util/util.h"

/*
 * What libvirt's client does is not ours to know call by call, and differs between versions: a call
 * that is not in the list fails, and libvirt reports an error. What matters is what is not there:
 * execve and fork, ptrace, signals to others, files that are written, sockets that are no UNIX
 * ones.
 */
static const struct sandbox_call calls[] = {
        /* Sockets */
        { SCMP_SYS(connect), "libvirt's socket" },
        { SCMP_SYS(getpeername), "libvirt: addresses for its log" },
        { SCMP_SYS(getsockname), "libvirt: addresses for its log" },
        { SCMP_SYS(getsockopt), "libvirt: errors of connect" },
        { SCMP_SYS(setsockopt), "libvirt: options of its socket" },
        { SCMP_SYS(sendmsg), "messages for the broker" },
        { SCMP_SYS(recvmsg), "messages of the broker" },
        { SCMP_SYS(sendto), "libvirt" },
        { SCMP_SYS(recvfrom), "libvirt" },
        { SCMP_SYS(shutdown), "libvirt: the end of its connection" },
        { SCMP_SYS(read), "libvirt's socket, files, wake-ups of the loop" },
        { SCMP_SYS(write), "libvirt's socket, wake-ups of the loop, log lines" },
        { SCMP_SYS(writev), "glib: log lines" },
        { SCMP_SYS(close), "all of them" },
        { SCMP_SYS(fcntl), "non-blocking, close-on-exec" },
        /* The loop */
        { SCMP_SYS(poll), "the loop" },
        { SCMP_SYS(ppoll), "the loop" },
        { SCMP_SYS(eventfd2), "glib: wake-ups" },
        { SCMP_SYS(pipe2), "libvirt: wake-ups of waiting calls" },
        { SCMP_SYS(futex), "locks" },
        { SCMP_SYS(sched_yield), "locks" },
        { SCMP_SYS(clock_gettime), "time, where the vDSO has none" },
        { SCMP_SYS(gettimeofday), "time, where the vDSO has none" },
        { SCMP_SYS(clock_nanosleep), "libvirt: a pause between attempts" },
        { SCMP_SYS(restart_syscall), "the kernel's own, after a stop" },
        /* Files: libvirt.conf, of domains their process, the zone of time */
        { SCMP_SYS(access), "which files there are" },
        { SCMP_SYS(faccessat), "which files there are" },
        { SCMP_SYS(faccessat2), "which files there are" },
        { SCMP_SYS(newfstatat), "which files there are" },
        { SCMP_SYS(statx), "which files there are" },
        { SCMP_SYS(fstat), "how large they are" },
        { SCMP_SYS(lseek), "stdio" },
        { SCMP_SYS(readlink), "glib: links" },
        /* Who and where */
        { SCMP_SYS(getuid), "libvirt: whose configuration" },
        { SCMP_SYS(geteuid), "libvirt: whose configuration" },
        { SCMP_SYS(getgid), "libvirt: whose configuration" },
        { SCMP_SYS(getegid), "libvirt: whose configuration" },
        { SCMP_SYS(getpid), "libvirt, abort" },
        { SCMP_SYS(gettid), "libvirt: its log; abort" },
        { SCMP_SYS(uname), "libvirt: the name of the host" },
        /* The heap */
        { SCMP_SYS(brk), "malloc" },
        { SCMP_SYS(munmap), "free" },
        { SCMP_SYS(mremap), "realloc" },
        { SCMP_SYS(madvise), "free" },
        { SCMP_SYS(getrandom), "malloc, hash tables" },
        /* Signals to itself, and the end */
        { SCMP_SYS(rt_sigaction), "libvirt: SIGPIPE" },
        { SCMP_SYS(rt_sigprocmask), "libvirt: while it waits; abort" },
        { SCMP_SYS(rt_sigreturn), "return from a signal handler" },
        { SCMP_SYS(exit), "the end" },
        { SCMP_SYS(exit_group), "the end" },
};

static int add_rules(scmp_filter_ctx ctx) {
        const struct {
                int number;
                struct scmp_arg_cmp argument;
        } rules[] = {
                { SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0) },
                /* To read only; neither makes a file nor empties one. */
                { SCMP_SYS(openat),
                  SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC | O_PATH, O_RDONLY) },
                /* The heap grows, but nothing becomes executable. */
                { SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
                { SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
                /* The log asks whether stderr is a terminal. */
                { SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, TCGETS, 0) },
                /* abort() signals the process itself. */
                { SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t) getpid(), 0) },
        };
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rules) && r >= 0; i++)
                r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rules[i].number, 1,
                                           &rules[i].argument);
        return r;
}

int sandbox_libvirt_enter(void) {
        return sandbox_load(calls, ARRAY_SIZE(calls), add_rules, SCMP_ACT_ERRNO(EPERM));
}
