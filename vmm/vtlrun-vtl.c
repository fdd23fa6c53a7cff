/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The seam between vtlrun and libvtlvmm. With --plain, none of it is used and the only call left is
 * KVM_RUN.
 */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "vmm/internal.h"
#include "vmm/vtlrun.h"

static int fail(struct vm *vm, int error, const char *what) {
        const char *why = vm->vtl ? vtlvmm_error(vm->vtl) : "";

        say("%s: %s", what, why[0] ? why : strerror(-error));
        return STATUS_UNAVAILABLE;
}

static int describe_memory(struct vm *vm) {
        struct kvm_userspace_memory_region slots[VM_MAX_SLOTS];
        unsigned n = vm_memory_slots(vm, slots);
        uint64_t offset = 0;
        int r;

        for (unsigned i = 0; i < n; i++) {
                r = vtlvmm_add_memory(vm->vtl, &slots[i], vm->ram_fd, offset);
                if (r < 0)
                        return fail(vm, r, "cannot describe the guest's RAM");
                offset += slots[i].memory_size;
        }
        return 0;
}

static int describe_vcpus(struct vm *vm) {
        int r;

        for (unsigned i = 0; i < vm->config.vcpus; i++) {
                struct vcpu *vcpu = &vm->vcpus[i];

                r = vtlvmm_add_vcpu(vm->vtl, vcpu->fd, i, vcpu->run, vcpu->cpuid, &vcpu->vtl);
                if (r < 0)
                        return fail(vm, r, "cannot describe a virtual processor");
        }
        return 0;
}

/**
 * vm_start_vtl() - give the machine its trust levels, as configured
 * @vm: the machine with all its vCPUs, none of which has run
 *
 * Return: 0, or an exit status after a message.
 */
int vm_start_vtl(struct vm *vm) {
        struct vtlvmm_options options = { .size = sizeof(options), .name = vm->config.name };
        int r;

        if (vm->config.engine == ENGINE_NONE)
                return 0;
        memcpy(options.uuid, vm->config.uuid, sizeof(options.uuid));
        r = vtlvmm_new(vm->kvm_fd, vm->vm_fd, &options, &vm->vtl);
        if (r < 0)
                return fail(vm, r, "no trust levels on this host");
        r = describe_memory(vm);
        if (r == 0)
                r = describe_vcpus(vm);
        if (r != 0)
                return r;

        if (vm->config.engine == ENGINE_IN_PROCESS) {
                r = vtlvmm_start_in_process(vm->vtl, true, &vm->config.options);
                return r < 0 ? fail(vm, r, "cannot start the trust levels") : 0;
        }
        r = vtlvmm_attach(vm->vtl, vm->config.socket_path);
        return r < 0 ? fail(vm, r, vm->config.socket_path) : 0;
}

void vm_free_vtl(struct vm *vm) {
        vm->vtl = vtlvmm_free(vm->vtl);
}

/**
 * vm_print_stats() - one line for each processor: how often what happened
 * @vm: the machine; no vCPU runs any more
 */
void vm_print_stats(struct vm *vm) {
        static const struct {
                const char *name;
                size_t offset;
        } counters[] = {
#define COUNTER(field) { #field, offsetof(struct vtl_vp_stats, field) }
                COUNTER(vtl_calls),         COUNTER(vtl_returns), COUNTER(fast_switches),
                COUNTER(interrupt_entries), COUNTER(hypercalls),  COUNTER(intercepts),
                COUNTER(engine_exits),      COUNTER(vcpu_ioctls),
#undef COUNTER
        };

        for (unsigned i = 0; i < vm->config.vcpus && vm->vtl; i++) {
                const struct vtl_vp_stats s = vm->vcpus[i].vtl->vp->ctl->stats;
                char text[512] = "";
                size_t n = 0;

                for (size_t k = 0; k < ARRAY_SIZE(counters); k++)
                        n += (size_t) snprintf(
                                text + n, sizeof(text) - n, " %s=%" PRIu64, counters[k].name,
                                *(const uint64_t *) ((const char *) &s + counters[k].offset));
                say("processor %u:%s", i, text);
        }
}

/**
 * vcpu_run() - the only place where a vCPU runs
 * @vcpu: the vCPU of the calling thread
 *
 * Return: as ioctl(KVM_RUN).
 */
int vcpu_run(struct vcpu *vcpu) {
        return vcpu->vtl ? vtlvmm_run(vcpu->vtl) : ioctl(vcpu->fd, KVM_RUN, 0);
}

/**
 * vcpu_run_failed() - say why a vCPU cannot go on, and end the machine
 * @vcpu: the vCPU
 * @error: errno of vcpu_run()
 */
void vcpu_run_failed(struct vcpu *vcpu, int error) {
        struct vm *vm = vcpu->vm;

        if (vm_stopped(vm))
                return;
        if (vm->vtl && (error == EOWNERDEAD || error == EIO))
                say("processor %u stops: %s", vcpu->index, vtlvmm_error(vm->vtl));
        else
                say("KVM_RUN on processor %u: %s (exit %u, rip 0x%" PRIx64 ")", vcpu->index,
                    strerror(error), vcpu->run->exit_reason, vcpu_read_rip(vcpu));
        vm_stop(vm, error == EOWNERDEAD ? STATUS_PROTOCOL : STATUS_KVM);
}
