/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The vCPU threads: run, serve the exit, run again, until somebody calls vm_stop().
 */

#define _GNU_SOURCE

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "vtlrun.h"

#define KICK_SIGNAL SIGUSR1
#define KICK_PERIOD_NS 20000000
#define KICK_ROUNDS 500 /* then a thread is taken to be stuck in the kernel */

/* The one thing that a signal handler needs to know: which vCPU this thread runs. */
static __thread struct kvm_run *this_run;

static void on_kick(int sig) {
        if (this_run)
                __atomic_store_n(&this_run->immediate_exit, 1, __ATOMIC_RELAXED);
}

/**
 * vm_stop() - end the machine
 * @vm: the machine
 * @status: exit status of the program; the first caller's counts, but if that wanted the machine to
 * be saved: then it has ended meanwhile
 *
 * Any thread may call this.
 */
void vm_stop(struct vm *vm, int status) {
        int running = -1, save = STATUS_SAVE;
        uint64_t one = 1;

        if (atomic_compare_exchange_strong(&vm->status, &running, status))
                (void) !write(vm->stop_fd, &one, sizeof(one));
        else
                (void) atomic_compare_exchange_strong(&vm->status, &save, status);
}

bool vm_stopped(struct vm *vm) {
        return atomic_load(&vm->status) >= 0;
}

static void device_set_irq(void *context, unsigned irq, bool level) {
        struct vm *vm = context;
        struct kvm_irq_level l = { .irq = irq, .level = level };

        (void) ioctl(vm->vm_fd, KVM_IRQ_LINE, &l);
}

static void device_output(void *context, uint8_t byte) {
        struct vm *vm = context;
        struct vcpu *vcpu = vm->device_vcpu;

        if (vcpu && vcpu->output_count < VCPU_OUTPUT_SIZE)
                vcpu->output[vcpu->output_count++] = byte;
}

static void device_input_wanted(void *context) {
        struct vm *vm = context;
        uint64_t one = 1;

        (void) !write(vm->input_fd, &one, sizeof(one));
}

static void device_stop(void *context, enum device_stop why, uint32_t value) {
        struct vm *vm = context;

        if (why == DEVICE_STOP_EXIT) {
                vm_stop(vm, (int) (((value << 1) | 1) & 0xff));
                return;
        }
        if (why == DEVICE_STOP_SAVE) {
                if (vm->config.save_path)
                        vm_stop(vm, STATUS_SAVE);
                return;
        }
        if (!vm_stopped(vm))
                say("the guest reset its machine");
        vm_stop(vm, STATUS_RESET);
}

const struct device_ops vm_device_ops = {
        .set_irq = device_set_irq,
        .output = device_output,
        .input_wanted = device_input_wanted,
        .stop = device_stop,
};

/* Serves one port access of possibly many elements (INS, OUTS). The count and the place of the data
   come from KVM, but are checked all the same: the page is shared memory. */
static void handle_io(struct vcpu *vcpu) {
        struct vm *vm = vcpu->vm;
        struct kvm_run *run = vcpu->run;
        unsigned size = run->io.size;
        uint64_t offset = run->io.data_offset, bytes = (uint64_t) size * run->io.count;
        bool is_write = run->io.direction == KVM_EXIT_IO_OUT;

        if (size == 0 || size > 4 || !boot_span_fits(offset, bytes, vm->run_size)) {
                say("KVM described an I/O access of %u bytes, %u times", size, run->io.count);
                vm_stop(vm, STATUS_KVM);
                return;
        }

        (void) pthread_mutex_lock(&vm->device_lock);
        vm->device_vcpu = vcpu;
        for (uint64_t at = 0; at < bytes; at += size)
                devices_io(&vm->devices, is_write, run->io.port, size,
                           (uint8_t *) run + offset + at);
        vm->device_vcpu = NULL;
        (void) pthread_mutex_unlock(&vm->device_lock);

        console_write(vm, vcpu->output, vcpu->output_count);
        vcpu->output_count = 0;
}

/* No device of ours has memory. */
static void handle_mmio(struct vcpu *vcpu) {
        if (!vcpu->run->mmio.is_write)
                memset(vcpu->run->mmio.data, 0xff, sizeof(vcpu->run->mmio.data));
}

static void handle_shutdown(struct vcpu *vcpu) {
        say("triple fault on processor %u (rip 0x%" PRIx64 ")", vcpu->index, vcpu_read_rip(vcpu));
        atomic_store(&vcpu->vm->crashed, true);
        vm_stop(vcpu->vm, STATUS_RESET);
}

static void handle_system_event(struct vcpu *vcpu) {
        say("the guest asked for the end of its machine (event %u)", vcpu->run->system_event.type);
        vm_stop(vcpu->vm, STATUS_RESET);
}

static void handle_fail_entry(struct vcpu *vcpu) {
        say("KVM cannot enter processor %u: hardware reason 0x%llx (rip 0x%" PRIx64 ")",
            vcpu->index, (unsigned long long) vcpu->run->fail_entry.hardware_entry_failure_reason,
            vcpu_read_rip(vcpu));
        vm_stop(vcpu->vm, STATUS_KVM);
}

static void handle_internal_error(struct vcpu *vcpu) {
        const struct kvm_run *run = vcpu->run;

        say("KVM internal error on processor %u: suberror %u, data 0x%llx 0x%llx "
            "(rip 0x%" PRIx64 ")",
            vcpu->index, run->internal.suberror,
            run->internal.ndata > 0 ? (unsigned long long) run->internal.data[0] : 0,
            run->internal.ndata > 1 ? (unsigned long long) run->internal.data[1] : 0,
            vcpu_read_rip(vcpu));
        vm_stop(vcpu->vm, STATUS_KVM);
}

static void handle_nothing(struct vcpu *vcpu) {
}

/* clang-format off */
static const struct {
        uint32_t reason;
        void (*handle)(struct vcpu *vcpu);
} exit_handlers[] = {
        { KVM_EXIT_IO,             handle_io             },
        { KVM_EXIT_MMIO,           handle_mmio           },
        { KVM_EXIT_INTR,           handle_nothing        },
        { KVM_EXIT_SHUTDOWN,       handle_shutdown       },
        { KVM_EXIT_SYSTEM_EVENT,   handle_system_event   },
        { KVM_EXIT_FAIL_ENTRY,     handle_fail_entry     },
        { KVM_EXIT_INTERNAL_ERROR, handle_internal_error },
};
/* clang-format on */

static void handle_exit(struct vcpu *vcpu) {
        uint32_t reason = vcpu->run->exit_reason;

        for (size_t i = 0; i < ARRAY_SIZE(exit_handlers); i++)
                if (exit_handlers[i].reason == reason) {
                        exit_handlers[i].handle(vcpu);
                        return;
                }
        say("unexpected KVM exit %u on processor %u (rip 0x%" PRIx64 ")", reason, vcpu->index,
            vcpu_read_rip(vcpu));
        vm_stop(vcpu->vm, STATUS_KVM);
}

/* Before it can be saved a vCPU finishes its instruction, which may take further exits. */
static void finish_instruction(struct vcpu *vcpu) {
        struct vm *vm = vcpu->vm;

        while (atomic_load(&vm->status) == STATUS_SAVE) {
                __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELAXED);
                if (vcpu_run(vcpu) == 0)
                        handle_exit(vcpu);
                else if (errno == EINTR)
                        break;
                else if (errno != EAGAIN) {
                        say("processor %u does not come to a halt: %s", vcpu->index,
                            strerror(errno));
                        vm_stop(vm, STATUS_KVM);
                }
        }
        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
}

static void *vcpu_thread(void *arg) {
        struct vcpu *vcpu = arg;
        struct vm *vm = vcpu->vm;

        this_run = vcpu->run;
        while (!vm_stopped(vm)) {
                if (vcpu_run(vcpu) == 0) {
                        handle_exit(vcpu);
                } else if (errno == EINTR) {
                        __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELAXED);
                } else if (errno != EAGAIN) { /* EAGAIN: INIT or SIPI came, run again */
                        vcpu_run_failed(vcpu, errno);
                }
        }
        finish_instruction(vcpu);
        this_run = NULL;
        return NULL;
}

/**
 * vm_start() - start a thread for every vCPU
 * @vm: the machine with its vCPUs
 *
 * Return: 0, or an exit status after a message; vm_join() in both cases.
 */
int vm_start(struct vm *vm) {
        struct sigaction sa = { .sa_handler = on_kick };
        int r = 0;

        (void) sigaction(KICK_SIGNAL, &sa, NULL);
        for (unsigned i = 0; i < vm->config.vcpus && r == 0; i++) {
                struct vcpu *vcpu = &vm->vcpus[i];

                r = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
                vcpu->started = r == 0;
        }
        if (r != 0) {
                say("cannot start a thread: %s", strerror(r));
                vm_stop(vm, STATUS_OS);
                return STATUS_OS;
        }
        return 0;
}

/* Kicks until the thread is gone: a kick that comes just before a blocking call has no effect. */
static bool join_vcpu(struct vcpu *vcpu) {
        for (unsigned i = 0; i < KICK_ROUNDS; i++) {
                struct timespec until;

                (void) pthread_kill(vcpu->thread, KICK_SIGNAL);
                (void) clock_gettime(CLOCK_REALTIME, &until);
                until.tv_nsec += KICK_PERIOD_NS;
                if (until.tv_nsec >= 1000000000) {
                        until.tv_nsec -= 1000000000;
                        until.tv_sec++;
                }
                if (pthread_timedjoin_np(vcpu->thread, NULL, &until) == 0)
                        return true;
        }
        return false;
}

/**
 * vm_join() - wait for the end of all vCPU threads
 * @vm: the machine, stopped
 */
void vm_join(struct vm *vm) {
        /* All at once first, so that they end side by side. */
        for (unsigned i = 0; i < vm->config.vcpus; i++)
                if (vm->vcpus[i].started)
                        (void) pthread_kill(vm->vcpus[i].thread, KICK_SIGNAL);
        for (unsigned i = 0; i < vm->config.vcpus; i++) {
                if (vm->vcpus[i].started && !join_vcpu(&vm->vcpus[i])) {
                        say("processor %u does not stop, giving up on it", i);
                        console_close(&vm->console);
                        _exit(STATUS_KVM);
                }
                vm->vcpus[i].started = false;
        }
}
