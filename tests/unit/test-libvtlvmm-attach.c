/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * libvtlvmm with a real VM that it cannot attach to vtld: wrong descriptors, nobody at the socket,
 * a peer that is not vtld.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "tests/unit/libvtlvmm-side.h"

/* Attaches to @p, and expects what vtlvmm_attach() answers. */
static void attach_to(struct side *f, struct side_peer *p, int type, int error, const char *text) {
        int r;

        side_peer_start(p, f, type);
        r = vtlvmm_attach(f->v, p->path);
        side_peer_stop(p);
        side_failed(f->v, r, error, text);
}

/* ---- A VMM that gives the wrong descriptors to a good vtld ---- */

static void test_not_vm(void **state) {
        struct side *f = *state;
        struct side_peer p = { .version = true };

        f->v = vtlvmm_free(f->v);
        f->v = side_new(f->kvm_fd, f->null_fd);
        side_add_vcpu(f, f->vcpu_fd);
        side_add_ram(f);
        attach_to(f, &p, SOCK_SEQPACKET, ENOTTY, "memory slot");
}

static void test_not_vcpu(void **state) {
        struct side *f = *state;
        struct side_peer p = { .version = true };

        side_add_vcpu(f, f->vm_fd);
        side_add_ram(f);
        attach_to(f, &p, SOCK_SEQPACKET, ENOTTY, "the VMM's vCPU");
}

/* ---- Nobody, or somebody who is not vtld: the VM stays as it is ---- */

/* VM0 runs in the VMM's own mapping: what is written there is what it executes. */
static void still_runs(struct side *f) {
        struct kvm_sregs sregs;
        struct kvm_regs regs = { .rip = 0x1000, .rflags = 2 };

        assert_int_equal(ioctl(f->vcpu_fd, KVM_GET_SREGS, &sregs), 0);
        sregs.cs.base = 0;
        sregs.cs.selector = 0;
        assert_int_equal(ioctl(f->vcpu_fd, KVM_SET_SREGS, &sregs), 0);
        assert_int_equal(ioctl(f->vcpu_fd, KVM_SET_REGS, &regs), 0);
        f->ram[0x1000] = 0xe6; /* out %al, $0x42 */
        f->ram[0x1001] = 0x42;
        f->ram[0x1002] = 0xf4;
        assert_int_equal(ioctl(f->vcpu_fd, KVM_RUN, 0), 0);
        assert_int_equal(f->run->exit_reason, KVM_EXIT_IO);
        assert_int_equal(f->run->io.port, 0x42);
}

static void test_no_socket(void **state) {
        struct side *f = *state;
        struct vtlvmm_vcpu *vcpu;

        assert_int_equal(vtlvmm_add_vcpu(f->v, f->vcpu_fd, 0, f->run, f->cpuid, &vcpu), 0);
        side_add_ram(f);
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent/socket"), ENOENT,
                    "cannot reach vtld at /nonexistent/socket");
        errno = 0;
        assert_int_equal(vtlvmm_run(vcpu), -1);
        assert_int_equal(errno, EINVAL);
        /* It may be tried again. */
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent/socket"), ENOENT, "cannot reach");
        f->v = vtlvmm_free(f->v);
        still_runs(f);
}

static void strange_peer(struct side *f, struct side_peer *p, int type, int error) {
        side_add_vcpu(f, f->vcpu_fd);
        side_add_ram(f);
        attach_to(f, p, type, error, "cannot reach vtld at");
        f->v = vtlvmm_free(f->v);
        still_runs(f);
}

static void test_stream(void **state) {
        struct side_peer p = { 0 };

        strange_peer(*state, &p, SOCK_STREAM, EPROTOTYPE);
}

static void test_hang_up(void **state) {
        struct side_peer p = { 0 };

        strange_peer(*state, &p, SOCK_SEQPACKET, ECONNRESET);
}

static void test_nonsense(void **state) {
        static const char text[] = "220 mail.example ESMTP ready, not what you are looking for\r\n";
        struct side_peer p = { .raw = text, .raw_len = sizeof(text) };

        strange_peer(*state, &p, SOCK_SEQPACKET, EPROTO);
}

static void test_short_answer(void **state) {
        struct side_peer p = { .raw = "\1", .raw_len = 1 };

        strange_peer(*state, &p, SOCK_SEQPACKET, EPROTO);
}

static void test_other_version(void **state) {
        struct side_peer p = { .error = EPROTONOSUPPORT, .text = "only version 7" };

        strange_peer(*state, &p, SOCK_SEQPACKET, EPROTONOSUPPORT);
}

/* ---- A vtld that does not want this VM ---- */

static void test_refused(void **state) {
        struct side *f = *state;
        struct kvm_userspace_memory_region slot = side_slot(RAM_SIZE, PAGE);
        struct side_peer p = { .version = true, .error = EDQUOT, .text = "no \033[1mroom\n today" };
        struct vtlvmm_vcpu *vcpu;

        assert_int_equal(vtlvmm_add_vcpu(f->v, f->vcpu_fd, 0, f->run, f->cpuid, &vcpu), 0);
        side_add_ram(f);
        /* Its words are for a terminal, but do not command it. */
        attach_to(f, &p, SOCK_SEQPACKET, EDQUOT, "vtld: no ?[1mroom? today");

        /* The VM is started, though nobody serves it: it does not run. */
        side_failed(f->v, vtlvmm_attach(f->v, "/nonexistent/socket"), EBUSY, "started");
        side_failed(f->v, vtlvmm_add_memory(f->v, &slot, f->ram_fd, 0), EBUSY,
                    "memory cannot be added");
        side_failed(f->v, vtlvmm_add_vcpu(f->v, f->vcpu_fd, 1, f->run, f->cpuid, &vcpu), EBUSY,
                    "vCPUs cannot be added");
        errno = 0;
        assert_int_equal(vtlvmm_run(vcpu), -1);
        assert_int_equal(errno, EINVAL);
}

static void test_hang_up_later(void **state) {
        struct side *f = *state;
        struct side_peer p = { .version = true };

        side_add_vcpu(f, f->vcpu_fd);
        side_add_ram(f);
        attach_to(f, &p, SOCK_SEQPACKET, ECONNRESET, "closed the connection");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                WITH_VM(test_not_vm),        WITH_VM(test_not_vcpu),      WITH_VM(test_no_socket),
                WITH_VM(test_stream),        WITH_VM(test_hang_up),       WITH_VM(test_nonsense),
                WITH_VM(test_short_answer),  WITH_VM(test_other_version), WITH_VM(test_refused),
                WITH_VM(test_hang_up_later),
        };

        if (!side_kvm_is_usable()) {
                (void) puts("1..0 # SKIP no usable /dev/kvm here");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
