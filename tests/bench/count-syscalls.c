/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Counts the system calls of a program's threads and prints a line for each thread that made a
 * KVM_RUN, to the file given:
 *
 *      thread TID syscalls N kvm_run N kvm N futex N
 *
 * kvm is all ioctls of KVM's, KVM_RUN included. The program's exit status becomes ours. It is
 * slower meanwhile, but makes the same calls: to know what a loop costs, run it with two counts.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_THREADS 256
#define STATUS_FAILED 125
#define STATUS_SIGNAL 128
#define OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)

struct counted {
        pid_t tid;
        uint64_t syscalls;
        uint64_t kvm_run;
        uint64_t kvm;
        uint64_t futex;
};

struct counts {
        struct counted threads[MAX_THREADS];
        unsigned n;
};

/* The thread ids of one run do not come again so soon. */
static struct counted *find_thread(struct counts *c, pid_t tid) {
        for (unsigned i = 0; i < c->n; i++)
                if (c->threads[i].tid == tid)
                        return &c->threads[i];
        if (c->n == MAX_THREADS)
                return NULL;
        c->threads[c->n] = (struct counted){ .tid = tid };
        return &c->threads[c->n++];
}

static int count_syscall(struct counts *c, pid_t tid) {
        struct __ptrace_syscall_info info;
        struct counted *t;

        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0)
                return errno == ESRCH ? 0 : -errno;
        if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
                return 0;
        t = find_thread(c, tid);
        if (!t)
                return -E2BIG;
        t->syscalls++;
        t->futex += info.entry.nr == SYS_futex;
        if (info.entry.nr == SYS_ioctl && _IOC_TYPE(info.entry.args[1]) == KVMIO) {
                t->kvm++;
                t->kvm_run += info.entry.args[1] == KVM_RUN;
        }
        return 0;
}

/* What stopped the thread, as far as the thread should have it: the signal to deliver. */
static int count_stop(struct counts *c, pid_t tid, int status, int *ret_signal) {
        int sig = WSTOPSIG(status);

        *ret_signal = 0;
        if (sig == (SIGTRAP | 0x80))
                return count_syscall(c, tid);
        /* A new thread's first SIGSTOP is ours; SIGTRAP tells of clone() and exec(). */
        if (status >> 16 == 0 && sig != SIGSTOP && sig != SIGTRAP)
                *ret_signal = sig;
        return 0;
}

/* Return: the program's exit status, or a negative errno. */
static int trace(struct counts *c, pid_t child) {
        for (;;) {
                int status, sig, r;
                pid_t tid = waitpid(-1, &status, __WALL);

                if (tid < 0 && errno == EINTR)
                        continue;
                if (tid < 0)
                        return -errno;
                if (WIFSTOPPED(status)) {
                        r = count_stop(c, tid, status, &sig);
                        if (r < 0)
                                return r;
                        /* A thread may be gone by now: the program has called exit_group(). */
                        if (ptrace(PTRACE_SYSCALL, tid, NULL, (void *) (intptr_t) sig) < 0 &&
                            errno != ESRCH)
                                return -errno;
                } else if (tid == child) {
                        return WIFEXITED(status) ? WEXITSTATUS(status)
                                                 : STATUS_SIGNAL + WTERMSIG(status);
                }
        }
}

/* We and the program never run at once: waking up another CPU each time would take much longer. */
static void stay_on_this_cpu(void) {
        cpu_set_t set;
        int cpu = sched_getcpu();

        if (cpu < 0)
                return;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        (void) sched_setaffinity(0, sizeof(set), &set);
}

static void run_program(char **argv) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 && raise(SIGSTOP) == 0)
                (void) execvp(argv[0], argv);
        (void) fprintf(stderr, "count-syscalls: %s: %s\n", argv[0], strerror(errno));
        _exit(STATUS_FAILED);
}

static int fail(const char *what, int error) {
        (void) fprintf(stderr, "count-syscalls: %s: %s\n", what, strerror(error));
        return STATUS_FAILED;
}

static int print_counts(const struct counts *c, const char *path) {
        FILE *f = fopen(path, "we");
        bool bad;

        if (!f)
                return fail(path, errno);
        for (unsigned i = 0; i < c->n; i++) {
                const struct counted *t = &c->threads[i];

                if (t->kvm_run > 0)
                        (void) fprintf(f, "thread %d syscalls %lu kvm_run %lu kvm %lu futex %lu\n",
                                       (int) t->tid, t->syscalls, t->kvm_run, t->kvm, t->futex);
        }
        bad = ferror(f) != 0;
        return (fclose(f) != 0 || bad) ? fail(path, EIO) : 0;
}

int main(int argc, char **argv) {
        static struct counts counts;
        int status, r;
        pid_t child;

        if (argc < 3) {
                (void) fprintf(stderr, "Usage: count-syscalls FILE PROGRAM [ARGUMENT]...\n");
                return STATUS_FAILED;
        }
        stay_on_this_cpu();
        child = fork();
        if (child < 0)
                return fail("fork", errno);
        if (child == 0)
                run_program(argv + 2);
        if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
                return STATUS_FAILED;
        if (ptrace(PTRACE_SETOPTIONS, child, NULL, (void *) OPTIONS) < 0 ||
            ptrace(PTRACE_SYSCALL, child, NULL, NULL) < 0)
                return fail("ptrace", errno);
        r = trace(&counts, child);
        if (r < 0)
                return fail("ptrace", -r);
        if (print_counts(&counts, argv[1]) != 0)
                return STATUS_FAILED;
        return r;
}
