/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * For LD_PRELOAD in a vtld under test: makes system calls, as somebody would who has taken the
 * process over. $VTLD_TEST_FORBIDDEN says which:
 *
 * "broker=NAME,...": when it accepts its first connection; what became of each is a line on stderr.
 * "worker=NAME": when it sends its second message, which is that of an event.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "util/util.h"

static bool in_worker;
static const char *wanted;
static unsigned times;

static char page[8192] __attribute__((aligned(4096)));

/* All of them succeed, or fail with something else than EPERM, where nothing forbids them. */
static long call(const char *name) {
        char *const argv[] = { (char *) "true", NULL };
        struct rlimit limit = { 0, 0 };

        if (strcmp(name, "getpid") == 0)
                return syscall(SYS_getpid);
        if (strcmp(name, "create") == 0)
                return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_CREAT | O_RDWR, 0600);
        if (strcmp(name, "truncate") == 0)
                return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_TRUNC | O_RDWR);
        if (strcmp(name, "open") == 0)
                return syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY);
        if (strcmp(name, "socket") == 0)
                return syscall(SYS_socket, AF_INET, SOCK_DGRAM, 0);
        if (strcmp(name, "mmap") == 0)
                return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (strcmp(name, "mprotect") == 0)
                return syscall(SYS_mprotect, page, 4096, PROT_READ | PROT_EXEC);
        if (strcmp(name, "execve") == 0)
                return syscall(SYS_execve, "/bin/true", argv, NULL);
        if (strcmp(name, "ptrace") == 0)
                return syscall(SYS_ptrace, 0 /* PTRACE_TRACEME */, 0, 0, 0);
        if (strcmp(name, "unshare") == 0)
                return syscall(SYS_unshare, CLONE_FILES);
        if (strcmp(name, "kill") == 0)
                return syscall(SYS_kill, getpid(), 0);
        if (strcmp(name, "chmod") == 0)
                return syscall(SYS_chmod, "/nowhere", 0600);
        if (strcmp(name, "rename") == 0)
                return syscall(SYS_rename, "/nowhere", "/nowhere");
        if (strcmp(name, "prlimit") == 0)
                return getrlimit(RLIMIT_CORE, &limit) < 0
                             ? -1
                             : syscall(SYS_prlimit64, 0, RLIMIT_CORE, &limit, NULL);
        if (strcmp(name, "clone3") == 0)
                return syscall(SYS_clone3, NULL, 0);
        errno = ENXIO;
        return -1;
}

static void report(const char *list) {
        char names[512], *rest = names, *name;

        (void) snprintf(names, sizeof(names), "%s", list);
        while ((name = strsep(&rest, ","))) {
                errno = 0;
                if (call(name) >= 0)
                        errno = 0;
                (void) dprintf(STDERR_FILENO, "system call %s: %d\n", name, errno);
        }
}

__attribute__((constructor)) static void begin(int argc, char **argv) {
        in_worker = argc > 1 && strncmp(argv[1], "--worker=", 9) == 0;
        wanted = getenv("VTLD_TEST_FORBIDDEN");
        if (wanted && strncmp(wanted, in_worker ? "worker=" : "broker=", 7) == 0)
                wanted += 7;
        else
                wanted = NULL;
}

_public_ ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
        if (in_worker && wanted && ++times == 2)
                (void) call(wanted);
        return syscall(SYS_sendmsg, fd, m, flags);
}

_public_ int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict len,
                     int flags) {
        int r = (int) syscall(SYS_accept4, fd, address, len, flags), e = errno;

        if (r >= 0 && !in_worker && wanted && times++ == 0)
                report(wanted);
        errno = e;
        return r;
}
