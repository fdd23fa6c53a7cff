/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#include "daemon/broker.h"
#include "daemon/bus.h"
#include "daemon/connection.h"
#include "daemon/fd-facts.h"
#include "daemon/fd-store.h"
#include "daemon/messages.h"
#include "daemon/partition.h"
#include "daemon/record.h"
#include "daemon/worker-handle.h"
#include "util/util.h"

/*
 * Theory of operation. When a worker runs, and before its VMM is told so, the broker gives the
 * service manager everything that the VM is for it: the connections to VMM and worker, their
 * pidfds, the control memory, and a record. So neither of the two sees the end of this broker as
 * the end of a connection; what they send waits. A change of what is in the record is written down
 * before it is acted on: before PAUSE is answered, before a worker is told that VTL1 may run.
 *
 * Without a service manager that keeps descriptors nothing of this happens: VMM and worker find
 * their connections closed, and go on without a broker.
 */

/* ---- Giving away ---- */

void partition_store(struct partition *p) {
        const struct connection_fds c = connection_fds(p->connection);
        int r;

        p->record_fd = record_new();
        r = p->record_fd < 0 ? p->record_fd : record_write(p->record_fd, &p->record_sequence, p);
        if (r >= 0) {
                const int fds[_FD_STORE_PART_MAX] = {
                        [FD_STORE_RECORD] = p->record_fd,
                        [FD_STORE_CONTROL] = c.control_fd,
                        [FD_STORE_VMM] = c.fd,
                        [FD_STORE_VMM_PID] = c.pidfd,
                        [FD_STORE_WORKER] = worker_handle_fd(p->worker),
                        [FD_STORE_WORKER_PID] = worker_handle_pidfd(p->worker),
                };

                r = fd_store_put(p->uuid_text, fds);
        }
        if (r > 0)
                return;
        p->record_fd = safe_close(p->record_fd);
        if (r < 0)
                log_warning("VM %s: the service manager cannot keep it for another vtld: %s",
                            p->uuid_text, strerror(-r));
}

void partition_stored_changed(struct partition *p) {
        int r;

        if (p->record_fd < 0)
                return;
        r = record_write(p->record_fd, &p->record_sequence, p);
        if (r < 0 && log_ratelimit(&p->log_limit, 1000, 10))
                log_warning("VM %s: cannot write down what has changed: %s", p->uuid_text,
                            strerror(-r));
}

void partition_store_forget(struct partition *p) {
        if (p->record_fd < 0)
                return;
        fd_store_remove(p->uuid_text);
        p->record_fd = safe_close(p->record_fd);
}

/* ---- Taking over ---- */

/* The process that it is of need not exist any more, nor be one that may be signalled: what that
 * means for the answer is not only the kernel's to say. */
static bool is_pidfd(int fd) {
        return pidfd_send_signal(fd, 0, NULL, 0) == 0 || errno != EBADF;
}

static bool has_ended(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        return poll(&p, 1, 0) > 0 && (p.revents & POLLIN);
}

static int map_control(struct partition *p, int fd, const char **ret_why) {
        struct fd_facts f;
        void *control;
        int r;

        p->control_size = vtl_control_size(p->vps);
        *ret_why = "its control memory is none";
        r = fd_facts_get(fd, &f);
        if (r < 0)
                return r;
        if (f.type != FD_TYPE_MEMFD || f.size != p->control_size ||
            (f.seals & (F_SEAL_SHRINK | F_SEAL_GROW)) != (F_SEAL_SHRINK | F_SEAL_GROW))
                return -EBADMSG;
        control = mmap(NULL, p->control_size, PROT_READ, MAP_SHARED, fd, 0);
        if (control == MAP_FAILED)
                return -errno;
        p->control = control;
        return 0;
}

/* The digest of a log is a chain over all of it. */
static int check_log(struct partition *p, const char **ret_why) {
        uint8_t digest[MEASURE_DIGEST_SIZE];
        int r = measure_log_digest(p->broker->measure, &p->measurement.log, digest);

        *ret_why = "its measurement log is damaged";
        if (r < 0)
                return r;
        return memcmp(digest, p->measurement.log.digest, sizeof(digest)) == 0 ? 0 : -EBADMSG;
}

static int read_record(struct partition *p, const struct fd_store_vm *vm, const char **ret_why) {
        int r = record_read(vm->fds[FD_STORE_RECORD], p, &p->record_sequence);

        *ret_why = r == -EPROTONOSUPPORT ? "it was started by a vtld of another version"
                                         : "its record is damaged";
        if (r < 0)
                return r;
        return memcmp(p->uuid, vm->uuid, sizeof(p->uuid)) == 0 ? 0 : -EBADMSG;
}

static int check_stored(const struct fd_store_vm *vm, const char **ret_why) {
        bool whole = !vm->twice;

        for (unsigned i = 0; i < _FD_STORE_PART_MAX; i++)
                whole = whole && vm->fds[i] >= 0;
        *ret_why = "the service manager has not kept all of it";
        if (!whole)
                return -EBADMSG;
        *ret_why = "what should be a process is none";
        return is_pidfd(vm->fds[FD_STORE_VMM_PID]) && is_pidfd(vm->fds[FD_STORE_WORKER_PID])
                     ? 0
                     : -EBADMSG;
}

static int adopt_worker(struct partition *p, struct fd_store_vm *vm, const char **ret_why) {
        int fd = vm->fds[FD_STORE_WORKER], type = 0;
        socklen_t len = sizeof(type);

        *ret_why = "its worker cannot be reached";
        if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
                return -EBADMSG;
        return worker_handle_adopt(p->broker->event, TAKE_FD(vm->fds[FD_STORE_WORKER]),
                                   TAKE_FD(vm->fds[FD_STORE_WORKER_PID]), p->worker_pid, p->vps,
                                   p->generation, &partition_worker_callbacks, p, &p->worker);
}

/* It is not in the table yet, and has no connection. */
static void drop(struct partition *p) {
        p->worker = worker_handle_abandon(p->worker);
        if (p->control)
                (void) munmap((void *) p->control, p->control_size);
        (void) safe_close(p->record_fd);
        free(p);
}

/* 1: it is gone, and there is nothing to adopt */
static int adopt(struct broker *b, struct fd_store_vm *vm, const char **ret_why) {
        struct partition *p;
        int r;

        r = check_stored(vm, ret_why);
        if (r < 0)
                return r;
        p = partition_allocate(b);
        if (!p)
                return -ENOMEM;
        r = read_record(p, vm, ret_why);
        if (r >= 0 && has_ended(vm->fds[FD_STORE_VMM_PID])) {
                drop(p);
                return 1;
        }
        if (r >= 0)
                r = map_control(p, vm->fds[FD_STORE_CONTROL], ret_why);
        if (r >= 0)
                r = check_log(p, ret_why);
        p->generation++;
        /* Answers to what the broker before has asked are for nobody. */
        p->questions.token = (uint64_t) p->generation << 32;
        if (r >= 0)
                r = adopt_worker(p, vm, ret_why);
        if (r >= 0) {
                *ret_why = "its VMM cannot be reached";
                r = connection_adopt(b, TAKE_FD(vm->fds[FD_STORE_VMM]),
                                     TAKE_FD(vm->fds[FD_STORE_VMM_PID]), p);
        }
        if (r < 0) {
                drop(p);
                return r;
        }
        p->record_fd = TAKE_FD(vm->fds[FD_STORE_RECORD]);
        partition_stored_changed(p);
        partition_publish(p);
        return 0;
}

static void adopt_or_leave(struct broker *b, struct fd_store_vm *vm) {
        struct log_fields f = { 0 };
        const char *why = NULL;
        int r = adopt(b, vm, &why);

        if (r == 0)
                return;
        fd_store_remove(vm->uuid_text);
        log_field(&f, "VTLD_PARTITION", "%s", vm->uuid_text);
        if (r > 0) {
                log_event(LOG_INFO, MESSAGE_VM_GONE, &f,
                          "VM %s is gone, since before this vtld was started", vm->uuid_text);
                return;
        }
        log_field(&f, "VTLD_REASON", "%s", why ? why : strerror(-r));
        log_event(LOG_WARNING, MESSAGE_VM_LEFT, &f,
                  "VM %s is left to its worker, and not shown any more: %s (%s)", vm->uuid_text,
                  why ? why : "no memory", strerror(-r));
}

void partition_adopt_all(struct broker *b, struct fd_store *store) {
        for (size_t i = 0; i < store->n; i++)
                adopt_or_leave(b, &store->vms[i]);
        fd_store_done(store);
}
