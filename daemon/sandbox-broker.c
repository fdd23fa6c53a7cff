/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <asm/termbits.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "daemon/sandbox.h"
#include "util/util.h"

/*
 * Theory of operation. The broker reads what monitors, callers on the bus and policy files say, and
 * starts processes. What it needs to begin (make the socket, make a key) is done when it takes the
 * rest away from itself, before it has read anything of a peer.
 *
 * A filter goes over to whatever the broker starts: workers, whose own is much smaller, and
 * vtld-libvirt. So the list has what the loader of a program needs, and every call in the lists of
 * the two. What is not in it fails with EPERM, as where the unit's SystemCallFilter= says so, and
 * does not kill: a call that some version of libsystemd, libcrypto or libvirt tries is no attack,
 * and what these do when they may not is an error that is handled. A broker that died of it would
 * do so again each time that it is started. It has no guest's code next to it; a worker has, and is
 * killed.
 *
 * What matters is what is not there: files that are made or emptied, sockets that are no UNIX ones,
 * memory that is written and executed, namespaces, ptrace and the memory of others, modules,
 * mounts, bpf, clocks, users, priorities, and signals but those that end a process.
 */

static const struct sandbox_call calls[] = {
        /* The loop */
        { SCMP_SYS(epoll_create1), "sd-event" },
        { SCMP_SYS(epoll_ctl), "sd-event" },
        { SCMP_SYS(epoll_wait), "sd-event" },
        { SCMP_SYS(epoll_pwait), "sd-event" },
        { SCMP_SYS(epoll_pwait2), "sd-event" },
        { SCMP_SYS(timerfd_create), "sd-event: timers" },
        { SCMP_SYS(timerfd_settime), "sd-event: timers" },
        { SCMP_SYS(signalfd4), "sd-event: signals" },
        { SCMP_SYS(eventfd2), "glib in vtld-libvirt: wake-ups" },
        { SCMP_SYS(poll), "sd-bus waits for an answer; vtld-libvirt" },
        { SCMP_SYS(ppoll), "sd-bus waits for an answer; the main thread of a worker" },
        { SCMP_SYS(clock_gettime), "time, where the vDSO has none" },
        { SCMP_SYS(gettimeofday), "time, where the vDSO has none" },
        { SCMP_SYS(clock_nanosleep), "a pause" },
        { SCMP_SYS(restart_syscall), "the kernel's own, after a stop" },
        /* Sockets */
        { SCMP_SYS(accept4), "monitors" },
        { SCMP_SYS(connect), "the bus after its end, journal, service manager; libvirt" },
        { SCMP_SYS(socketpair), "to a worker and vtld-libvirt, and a monitor's link" },
        { SCMP_SYS(sendmsg), "all messages, journal, service manager" },
        { SCMP_SYS(sendto), "sd-bus, service manager; libvirt" },
        { SCMP_SYS(recvmsg), "all messages" },
        { SCMP_SYS(recvfrom), "sd-bus; libvirt" },
        { SCMP_SYS(getsockopt), "who the peer is" },
        { SCMP_SYS(setsockopt), "sd-bus: sizes of buffers" },
        { SCMP_SYS(getsockname), "sd-bus; libvirt" },
        { SCMP_SYS(getpeername), "sd-bus; libvirt" },
        { SCMP_SYS(shutdown), "the end of a connection" },
        /* Descriptors */
        { SCMP_SYS(read), "files, timers, signals" },
        { SCMP_SYS(pread64), "the loader" },
        { SCMP_SYS(write), "log lines; kick pipes of a worker" },
        { SCMP_SYS(pwrite64), "the record of a VM" },
        { SCMP_SYS(writev), "stdio, the loader's last words" },
        { SCMP_SYS(lseek), "stdio" },
        { SCMP_SYS(close), "all of them" },
        { SCMP_SYS(fcntl), "what a received descriptor is: flags and seals; sealing" },
        { SCMP_SYS(dup), "sd-bus: descriptors in messages" },
        { SCMP_SYS(dup3), "standard descriptors of what is started" },
        { SCMP_SYS(pipe2), "sd-notify's barrier; libvirt" },
        { SCMP_SYS(memfd_create), "records; sd-bus and sd-journal: what is large" },
        { SCMP_SYS(ftruncate), "the same" },
        /* Files, to be read: policy, signatures and keys at a reload; libraries */
        { SCMP_SYS(access), "which files there are" },
        { SCMP_SYS(faccessat), "which files there are" },
        { SCMP_SYS(faccessat2), "which files there are" },
        { SCMP_SYS(newfstatat), "what a file or a received descriptor is" },
        { SCMP_SYS(fstat), "what a file or a received descriptor is" },
        { SCMP_SYS(statx), "what a file is" },
        { SCMP_SYS(statfs), "libselinux under libvirt" },
        { SCMP_SYS(fstatfs), "what a received memory file is" },
        { SCMP_SYS(getdents64), "directories of policy and keys" },
        { SCMP_SYS(readlink), "what a received descriptor is" },
        { SCMP_SYS(readlinkat), "the same; the C library's realpath" },
        { SCMP_SYS(getcwd), "the C library's realpath" },
        { SCMP_SYS(unlink), "the attach socket at the end" },
        /* Processes */
        { SCMP_SYS(execve), "workers, vtld-libvirt" },
        { SCMP_SYS(waitid), "how they ended" },
        { SCMP_SYS(wait4), "the same, where they could not be watched" },
        { SCMP_SYS(pidfd_open), "which process a monitor is; watching one's own" },
        { SCMP_SYS(rt_sigaction), "SIGPIPE" },
        { SCMP_SYS(rt_sigprocmask), "sd-event, fork, abort" },
        { SCMP_SYS(rt_sigreturn), "return from a signal handler" },
        { SCMP_SYS(sigaltstack), "the C library" },
        { SCMP_SYS(getpid), "libsystemd" },
        { SCMP_SYS(getppid), "does the broker still live: vtld-libvirt" },
        { SCMP_SYS(gettid), "libsystemd" },
        { SCMP_SYS(getuid), "libsystemd, the loader" },
        { SCMP_SYS(geteuid), "libsystemd, the loader" },
        { SCMP_SYS(getgid), "libsystemd, the loader" },
        { SCMP_SYS(getegid), "libsystemd, the loader" },
        { SCMP_SYS(uname), "libvirt: the name of the host" },
        { SCMP_SYS(sysinfo), "the C library: how much a sort may use" },
        { SCMP_SYS(sched_getaffinity), "the C library: how many CPUs there are" },
        { SCMP_SYS(sched_yield), "a spin before a lock" },
        /* A program and its threads begin */
        { SCMP_SYS(arch_prctl), "the loader: FS" },
        { SCMP_SYS(set_tid_address), "the loader" },
        { SCMP_SYS(set_robust_list), "the C library, in each thread" },
        { SCMP_SYS(rseq), "the C library, in each thread" },
        { SCMP_SYS(seccomp), "workers and vtld-libvirt take away from themselves" },
        /* The heap and locks */
        { SCMP_SYS(brk), "malloc" },
        { SCMP_SYS(munmap), "free, libraries, control memory" },
        { SCMP_SYS(mremap), "realloc" },
        { SCMP_SYS(madvise), "free; guest memory is not dumped" },
        { SCMP_SYS(mlock), "libcrypto: the host key stays in memory" },
        { SCMP_SYS(futex), "locks" },
        { SCMP_SYS(getrandom), "nonces of the log, hash tables, malloc" },
        /* The end */
        { SCMP_SYS(exit), "the end of a thread" },
        { SCMP_SYS(exit_group), "the end" },
};

#define NAMESPACES                                                                                \
        ((unsigned) CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | \
         CLONE_NEWPID | CLONE_NEWNET)
#define WRITE_EXEC (PROT_WRITE | PROT_EXEC)

static const struct {
        int number;
        struct scmp_arg_cmp argument;
} rules[] = {
        { SCMP_SYS(socket), SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0) },
        /* Neither makes a file nor empties one. */
        { SCMP_SYS(openat),
          SCMP_A2(SCMP_CMP_MASKED_EQ, O_CREAT | O_TRUNC | (O_TMPFILE & ~O_DIRECTORY), 0) },
        /* Libraries are mapped to be executed; nothing is that can be written, or was. */
        { SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, WRITE_EXEC, 0) },
        { SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, WRITE_EXEC, PROT_WRITE) },
        { SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, WRITE_EXEC, PROT_EXEC) },
        { SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0) },
        /* Processes, and threads of a worker; flags of clone3() cannot be seen, see below. */
        { SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, NAMESPACES, 0) },
        /* A worker or a helper that does not end; abort() signals the process itself. */
        { SCMP_SYS(kill), SCMP_A1(SCMP_CMP_EQ, SIGKILL, 0) },
        { SCMP_SYS(kill), SCMP_A1(SCMP_CMP_EQ, SIGTERM, 0) },
        { SCMP_SYS(pidfd_send_signal), SCMP_A1(SCMP_CMP_EQ, SIGKILL, 0) },
        { SCMP_SYS(tgkill), SCMP_A2(SCMP_CMP_EQ, SIGABRT, 0) },
        /* The log asks whether stderr is a terminal. */
        { SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, TCGETS, 0) },
        /* The same as fcntl(), which some prefer */
        { SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, FIOCLEX, 0) },
        /* Limits are read, not set: how large the stack of a thread is */
        { SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0, 0) },
        /* What a worker and vtld-libvirt begin with; libcap asks what there is. */
        { SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS, 0) },
        { SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_GET_NO_NEW_PRIVS, 0) },
        { SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_DUMPABLE, 0) },
        { SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0) },
        { SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_PDEATHSIG, 0) },
        { SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_CAPBSET_READ, 0) },
};

static int add_rules(scmp_filter_ctx ctx) {
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rules) && r >= 0; i++)
                r = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, rules[i].number, 1,
                                           &rules[i].argument);
        /* The C library makes do with clone(). */
        return r < 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

int sandbox_broker_enter(void) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        return sandbox_load(calls, ARRAY_SIZE(calls), add_rules, SCMP_ACT_ERRNO(EPERM));
}
