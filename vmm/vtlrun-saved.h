/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A machine of vtlrun in a file: util/blob.h's sections, VM first, RAM and its end last. Everything
 * in it is checked when it is read: it may be anybody's.
 */

#include <linux/kvm.h>
#include <stdint.h>

#include "util/blob.h"
#include "vtlrun-devices.h"

#define SAVED_FILE_MAGIC 0x6d766e75726c7476ull /* "vtlrunvm" */
#define SAVED_FILE_VERSION 1u

#define SAVED_VM BLOB_ID('V', 'M', ' ', ' ')
#define SAVED_CPUID BLOB_ID('C', 'P', 'I', 'D')   /* entries of struct kvm_cpuid2, by vCPU */
#define SAVED_VCPU BLOB_ID('V', 'C', 'P', 'U')    /* struct kvm_image of VTL0, by vCPU */
#define SAVED_CHIP BLOB_ID('C', 'H', 'I', 'P')    /* struct kvm_irqchip, by chip */
#define SAVED_PIT BLOB_ID('P', 'I', 'T', ' ')     /* struct kvm_pit_state2 */
#define SAVED_DEVICES BLOB_ID('D', 'E', 'V', 'S') /* struct saved_devices */
#define SAVED_LEVELS BLOB_ID('V', 'T', 'L', 'S')  /* what vtlvmm_save() gave */
#define SAVED_RAM BLOB_ID('R', 'A', 'M', ' ')     /* a piece that is not all zeros, by number */

#define SAVED_CHIPS 3u
#define SAVED_RAM_PIECE 65536u
#define SAVED_SMALL_MAX 65536u /* of all sections but the next */
#define SAVED_LEVELS_MAX (160ull << 20)

struct saved_vm {
        uint32_t vcpus;
        uint32_t has_levels; /* 0 with --plain */
        uint64_t memory;
        uint64_t tsc_khz;
        uint8_t uuid[16];
        char name[64];
};

struct saved_devices {
        uint8_t uart_ier, uart_lcr, uart_mcr, uart_scr, uart_errors, uart_trigger;
        uint8_t uart_fifo_enabled, uart_thr_pending, uart_irq_level, uart_polled;
        uint16_t uart_divisor;
        uint32_t uart_polls, uart_head, uart_count;
        uint8_t uart_fifo[UART_FIFO_SIZE];
        uint16_t fw_cfg_key;
        uint8_t cmos_index;
        uint8_t reserved;
        uint32_t fw_cfg_offset;
        uint32_t restores;
        uint8_t cmos[CMOS_SIZE];
};
_Static_assert(sizeof(struct saved_vm) == 104 && sizeof(struct saved_devices) == 180,
               "file format, without padding");
