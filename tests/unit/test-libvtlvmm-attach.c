/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libvtlvmm with a real VM that it cannot attach to vtld: wrong descriptors, nobody at the socket,
 * a peer that is not vtld.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/unit/libvtlvmm-side.h"

static void test_attach_not_vm(void **state) {
        struct side *f = *state;

        f->v = vtlvmm_free(f->v);
        f->v = side_new(f->kvm_fd, f->null_fd);
        side_add_vcpu(f, f->vcpu_fd);
        side_add_ram(f);
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent"), ENOTTY, "memory slot");
}

static void test_attach_not_vcpu(void **state) {
        struct side *f = *state;

        side_add_vcpu(f, f->vm_fd);
        side_add_ram(f);
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent"), ENOTTY, "the VMM's vCPU");
}

static void test_attach_no_socket(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region slot = side_slot(RAM_SIZE, PAGE);
        struct vtlvmm_vcpu *vcpu;

        assert_int_equal(vtlvmm_add_vcpu(f->v, f->vcpu_fd, 0, f->run, f->cpuid, &vcpu), 0);
        side_add_ram(f);
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent/socket"), ENOENT,
                    "cannot reach vtld at /nonexistent/socket");

        /* The VM is started, though nobody serves it. */
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent/socket"), EBUSY, "started");
        side_failed(f->v, vtlvmm_add_memory(f->v, &slot, f->ram_fd, 0), EBUSY,
                    "memory cannot be added");
        side_failed(f->v, vtlvmm_add_vcpu(f->v, f->vcpu_fd, 1, f->run, f->cpuid, &vcpu), EBUSY,
                    "vCPUs cannot be added");
        errno = 0;
        assert_int_equal(vtlvmm_run(vcpu), -1);
        assert_int_equal(errno, EINVAL);
}

/* ---- A peer that is not vtld ---- */

struct peer {
        const char *answer; /* NULL: hangs up without one */
        size_t answer_len;
        int listen_fd;
        pthread_t thread;
        char path[64];
};

static void *serve_one(void *arg) {
        const struct peer *p = arg;
        int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        char message[4096];

        if (fd < 0)
                return NULL;
        if (recv(fd, message, sizeof(message), 0) > 0 && p->answer)
                (void) send(fd, p->answer, p->answer_len, MSG_NOSIGNAL);
        (void) close(fd);
        return NULL;
}

static void listen_at(struct peer *p, const char *dir, int type) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        (void) snprintf(p->path, sizeof(p->path), "%s/socket", dir);
        (void) snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", p->path);
        p->listen_fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
        assert_true(p->listen_fd >= 0);
        assert_int_equal(bind(p->listen_fd, (const struct sockaddr *) &sa, sizeof(sa)), 0);
        assert_int_equal(listen(p->listen_fd, 1), 0);
}

static void attach_to(struct side *f, struct peer *p, int type, int error) {
        int r;

        side_add_vcpu(f, f->vcpu_fd);
        side_add_ram(f);
        listen_at(p, f->dir, type);
        assert_int_equal(pthread_create(&p->thread, NULL, serve_one, p), 0);
        r = vtlvmm_attach(f->v, p->path);
        (void) shutdown(p->listen_fd, SHUT_RDWR); /* ends an accept that nobody came for */
        assert_int_equal(pthread_join(p->thread, NULL), 0);
        (void) close(p->listen_fd);
        (void) unlink(p->path);
        side_failed(f->v, r, error, "vtld");
}

static void test_attach_stream(void **state) {
        struct peer p = { 0 };

        attach_to(*state, &p, SOCK_STREAM, EPROTOTYPE);
}

static void test_attach_hang_up(void **state) {
        struct peer p = { 0 };

        attach_to(*state, &p, SOCK_SEQPACKET, ECONNRESET);
}

static void test_attach_nonsense(void **state) {
        static const char text[] =
                "220 mail.example ESMTP ready; this is not the protocol you want\r\n";
        struct peer p = { .answer = text, .answer_len = sizeof(text) };

        attach_to(*state, &p, SOCK_SEQPACKET, EPROTO);
}

static void test_attach_short_answer(void **state) {
        struct peer p = { .answer = "\1", .answer_len = 1 };

        attach_to(*state, &p, SOCK_SEQPACKET, EPROTO);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_VM(test_attach_not_vm),       WITH_VM(test_attach_not_vcpu),
                WITH_VM(test_attach_no_socket),    WITH_VM(test_attach_stream),
                WITH_VM(test_attach_hang_up),      WITH_VM(test_attach_nonsense),
                WITH_VM(test_attach_short_answer),
        };

        if (!side_kvm_is_usable()) {
                (void) puts("1..0 # SKIP no usable /dev/kvm here");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
