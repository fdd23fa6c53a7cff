/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * vtlrun's virtual machine: what main() configures, what the vCPU threads share.
 */

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vtl/options.h"
#include "vtlrun-boot.h"
#include "vtlrun-devices.h"

/* Exit statuses of vtlrun itself. The guest's own, from the exit port, are always odd. */
enum {
        STATUS_OK = 0,
        STATUS_RESET = 2,        /* the guest reset its machine, or lost it by a triple fault */
        STATUS_USAGE = 64,       /* as in sysexits.h from here on */
        STATUS_DATA = 65,        /* the image is not one, or not a sound one */
        STATUS_NO_INPUT = 66,    /* a file cannot be read */
        STATUS_UNAVAILABLE = 69, /* no usable KVM, or no usable daemon */
        STATUS_KVM = 70,         /* KVM gave up on the guest */
        STATUS_OS = 71,          /* the host lacks memory, threads or the like */
        STATUS_PROTOCOL = 76,    /* the engine that serves the guest is gone */
        STATUS_TIMEOUT = 124,
        STATUS_SAVE = 0x100, /* no status: the machine has stopped to be saved */
        STATUS_SIGNAL = 128, /* plus the signal's number */
};

enum engine {
        ENGINE_NONE, /* --plain */
        ENGINE_DAEMON,
        ENGINE_IN_PROCESS,
};

struct vm_config {
        unsigned vcpus;
        uint64_t memory; /* bytes */
        enum engine engine;
        const char *socket_path;
        const char *name;
        uint8_t uuid[16];
        struct vtl_options options; /* of the in-process engine */
        uint64_t xcr0;              /* of each vCPU at the start; 0: as KVM has it */
        const char *save_path;      /* NULL: not to be saved */
};

#define CONSOLE_INPUT_SIZE 4096u

/* The user's side of the UART. */
struct console {
        bool raw; /* terminal modes are changed and have to be restored */
        bool eof;
        bool escape; /* the last byte typed was the escape key */
        uint8_t input[CONSOLE_INPUT_SIZE];
        unsigned input_head;
        unsigned input_count;
        void *saved_modes; /* struct termios */
};

struct vm;
struct vtlvmm;
struct vtlvmm_vcpu;

#define VM_MAX_SLOTS 2u
#define VCPU_OUTPUT_SIZE 4096u

struct vcpu {
        struct vm *vm;
        unsigned index;
        int fd;
        struct kvm_run *run;
        pthread_t thread;
        bool started;
        struct kvm_cpuid2 *cpuid;
        struct vtlvmm_vcpu *vtl; /* NULL without trust levels */
        /* Console output of the exit being handled; written once the device lock is free. */
        uint8_t output[VCPU_OUTPUT_SIZE];
        unsigned output_count;
};

struct vm {
        struct vm_config config;
        int kvm_fd;
        int vm_fd;
        int ram_fd;
        uint8_t *ram; /* all of it; ram_map.low is its beginning */
        struct boot_ram ram_map;
        size_t run_size;
        struct vcpu vcpus[BOOT_MAX_VCPUS];
        struct vtlvmm *vtl; /* NULL without trust levels */

        pthread_mutex_t device_lock; /* everything in @devices */
        struct devices devices;
        struct vcpu *device_vcpu; /* whose access is being served, NULL for the main thread */
        struct console console;   /* main thread only */

        atomic_int status;   /* exit status, or -1 while the guest runs */
        atomic_bool crashed; /* the guest did not ask for its reset */
        int stop_fd;         /* eventfd: status is set */
        int input_fd;        /* eventfd: the UART wants input */
};

_printf_(1, 2) void say(const char *fmt, ...);

/* vtlrun-kvm.c */
int vm_create(struct vm *vm, const struct vm_config *config);
/* @entry: NULL for vCPUs whose state comes from elsewhere */
int vm_create_vcpus(struct vm *vm, const struct boot_entry *entry);
unsigned vm_memory_slots(const struct vm *vm,
                         struct kvm_userspace_memory_region slots[VM_MAX_SLOTS]);
uint64_t vcpu_read_rip(struct vcpu *vcpu);
void vm_destroy(struct vm *vm);

/* vtlrun-save.c, vtlrun-restore.c */
struct restored;
int vm_save(struct vm *vm, const char *path);
int restored_open(const char *path, struct vm_config *config, struct restored **ret);
void restored_prepare(struct vm *vm, const struct restored *s);
int restored_put(struct vm *vm, struct restored *s);
struct restored *restored_free(struct restored *s);

/* vtlrun-reset.c */
struct reset_state;
int reset_state_take(struct vm *vm, struct reset_state **ret);
int vm_reset(struct vm *vm, struct reset_state *s);
struct reset_state *reset_state_free(struct reset_state *s);

/* vtlrun-cpuid.c */
int vm_check_memory(struct vm *vm);
int vcpu_set_cpuid(struct vm *vm, struct vcpu *vcpu);

/* vtlrun-vtl.c: all that vtlrun does about trust levels */
int vm_start_vtl(struct vm *vm);
void vm_free_vtl(struct vm *vm);
void vm_print_stats(struct vm *vm);
int vcpu_run(struct vcpu *vcpu);
void vcpu_run_failed(struct vcpu *vcpu, int error);

/* vtlrun-run.c */
extern const struct device_ops vm_device_ops;
void vm_stop(struct vm *vm, int status);
bool vm_stopped(struct vm *vm);
int vm_start(struct vm *vm);
void vm_join(struct vm *vm);

/* vtlrun-console.c */
void console_open(struct console *c);
void console_close(struct console *c);
void console_write(struct vm *vm, const uint8_t *data, unsigned n);
bool console_wants_poll(const struct console *c);
void console_read(struct vm *vm);
void console_feed(struct vm *vm);
