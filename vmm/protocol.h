/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The attach protocol between a VMM and vtld, vtl-protocol(7): one AF_UNIX SOCK_SEQPACKET
 * connection per VM, one message per packet, native byte order, file descriptors beside the message
 * that names them. Every structure here is wire format: fixed width, no padding, reserved fields
 * zero.
 */

#include <stdint.h>

#define VTL_PROTOCOL_MAJOR 1
#define VTL_PROTOCOL_MINOR 0

/* No message is longer, in either direction. */
#define VTL_MESSAGE_MAX 4096u

#define VTL_ATTACH_VPS_MAX 64u
#define VTL_ATTACH_REGIONS_MAX 32u
#define VTL_ATTACH_NAME_SIZE 64u
#define VTL_ERROR_TEXT_SIZE 256u
#define VTL_MESSAGE_FDS_MAX (3u + VTL_ATTACH_REGIONS_MAX)

enum vtl_command {
        VTL_COMMAND_VERSION = 1,
        VTL_COMMAND_ATTACH,
        VTL_COMMAND_VP,
        VTL_COMMAND_START,
        VTL_COMMAND_DETACH,
        VTL_COMMAND_PAUSE,
        VTL_COMMAND_CONTINUE,
        VTL_COMMAND_SAVE,       /* not offered by protocol 1.0 */
        VTL_COMMAND_RESTORE,    /* not offered by protocol 1.0 */
        VTL_COMMAND_RESET,      /* not offered by protocol 1.0 */
        VTL_COMMAND_ADD_MEMORY, /* not offered by protocol 1.0 */
        _VTL_COMMAND_MAX,
};

/* vtl_message.flags */
#define VTL_MESSAGE_TYPE_MASK 0x0fu
#define VTL_MESSAGE_COMMAND 0x00u
#define VTL_MESSAGE_REPLY 0x01u
#define VTL_MESSAGE_ERROR \
        0x20u /* in a reply: error is an errno, the payload is a NUL-terminated text */

struct vtl_message {
        uint16_t id;      /* chosen by who asks, echoed in the reply */
        uint16_t command; /* enum vtl_command */
        uint32_t size;    /* of the whole message, this header included */
        uint32_t flags;
        uint32_t error; /* positive errno of a reply with VTL_MESSAGE_ERROR, else 0 */
};

/* VERSION, command and reply. Majors must be equal; the reply's minor is the smaller one. */
struct vtl_message_version {
        uint16_t major;
        uint16_t minor;
        uint32_t control_version; /* VTL_CONTROL_VERSION: layout of the control memory, must be
                                     equal */
        uint64_t commands;        /* reply: bit n set when command n is offered; command: 0 */
        uint32_t max_vps;         /* reply: limits; command: 0 */
        uint32_t max_regions;
        uint32_t max_message;
        uint32_t reserved;
};

/* vtl_message_attach.flags */
#define VTL_ATTACH_PRECISE_FAULTS 0x1u /* measured: a forbidden access shows its instruction */
#define VTL_ATTACH_KERNEL_APIC_MSRS \
        0x2u                              /* KVM serves HV_X64_MSR_EOI, ICR and TPR of VTL0 itself \
                                          */
#define VTL_ATTACH_KERNEL_HYPERCALLS 0x4u /* KVM serves hypercalls of VTL0, and VP indices agree */
#define VTL_ATTACH_KERNEL_SYNIC 0x8u      /* KVM_CAP_HYPERV_SYNIC2 */
#define VTL_ATTACH_FLAGS_ALL 0xfu

struct vtl_message_region {
        uint64_t gpa;
        uint64_t size;
        uint64_t offset; /* in the file that comes with this region */
};

/*
 * ATTACH. The message ends after regions[n_regions]. Descriptors, in this order: the KVM VM, the
 * control memory, the overlay memory, then one memfd per region.
 */
struct vtl_message_attach {
        uint8_t uuid[16];                /* in the order of its text form */
        char name[VTL_ATTACH_NAME_SIZE]; /* UTF-8, not empty, NUL-terminated, zeroes behind */
        uint32_t vps;
        uint32_t n_regions;
        uint32_t flags;
        uint32_t phys_bits;
        uint64_t tsc_khz;
        uint32_t apic_ids[VTL_ATTACH_VPS_MAX]; /* of the first vps VPs, zeroes behind */
        struct vtl_message_region regions[];
};

/* VP. One descriptor: the write end of the VP's kick pipe. */
struct vtl_message_vp {
        uint32_t index;
        uint32_t reserved;
};

/* vtl_message_started.flags */
#define VTL_STARTED_VTL1_ALLOWED 0x1u

/* START, the reply; the command has no payload. One descriptor: the VMM's end of the worker link.
 */
struct vtl_message_started {
        uint32_t flags;
        uint32_t worker_pid;       /* as seen by vtld; for messages to people */
        uint32_t reserve_mappings; /* of vm.max_map_count, for the VMM: at least so many */
        uint32_t vina_poll_us;     /* between looks for VTL0's interrupts, while VTL1 runs */
};

_Static_assert(sizeof(struct vtl_message) == 16, "wire format");
_Static_assert(sizeof(struct vtl_message_version) == 32, "wire format");
_Static_assert(sizeof(struct vtl_message_region) == 24, "wire format");
_Static_assert(sizeof(struct vtl_message_attach) == 360, "wire format");
_Static_assert(sizeof(struct vtl_message_vp) == 8, "wire format");
_Static_assert(sizeof(struct vtl_message_started) == 16, "wire format");
_Static_assert(sizeof(struct vtl_message) + sizeof(struct vtl_message_attach) +
                               VTL_ATTACH_REGIONS_MAX * sizeof(struct vtl_message_region) <=
                       VTL_MESSAGE_MAX,
               "the longest ATTACH fits a message");
