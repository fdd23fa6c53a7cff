/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The devices of vtlrun's machine, all on I/O ports: UART, exit port, fw_cfg, CMOS clock, and what
 * of the rest of a PC an operating system looks for. They know nothing of KVM: interrupts, output
 * and the end of the machine leave through struct device_ops.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UART_FIFO_SIZE 16u
#define UART_IRQ 4u
#define CMOS_SIZE 128u

/* Why a device wants the machine to end. */
enum device_stop {
        DEVICE_STOP_EXIT, /* exit port; the value is the byte written */
        DEVICE_STOP_RESET,
        DEVICE_STOP_SAVE, /* save port: to go on from a file, where there is to be one */
};

struct device_ops {
        void (*set_irq)(void *context, unsigned irq, bool level);
        void (*output)(void *context, uint8_t byte);
        /* The UART can take input again. */
        void (*input_wanted)(void *context);
        void (*stop)(void *context, enum device_stop why, uint32_t value);
};

/* 16550A. Transmission takes no time, so the transmitter is always empty. */
struct uart {
        uint8_t ier;
        uint8_t lcr;
        uint8_t mcr;
        uint8_t scr;
        uint8_t lsr_errors;
        uint16_t divisor;
        uint8_t trigger; /* received bytes that make the data interrupt */
        bool fifo_enabled;
        bool thr_pending; /* transmitter-empty interrupt not yet seen by the guest */
        bool irq_level;
        bool polled;    /* the guest is known to read LSR until something is received */
        unsigned polls; /* reads of LSR in a row */
        uint8_t fifo[UART_FIFO_SIZE];
        unsigned fifo_head;
        unsigned fifo_count;
};

struct fw_cfg {
        uint16_t key;
        uint32_t offset;
};

struct devices {
        const struct device_ops *ops;
        void *context;
        unsigned vcpus;
        uint64_t ram_size;
        struct uart uart;
        struct fw_cfg fw_cfg;
        uint32_t restores; /* how often this machine has come out of a file */
        uint8_t cmos_index;
        uint8_t cmos[CMOS_SIZE];
};

void devices_init(struct devices *d, const struct device_ops *ops, void *context, unsigned vcpus,
                  uint64_t low_size, uint64_t high_size);
void devices_io(struct devices *d, bool is_write, uint16_t port, unsigned size, void *data);

void uart_init(struct uart *u);
uint8_t uart_read(struct devices *d, unsigned reg);
void uart_write(struct devices *d, unsigned reg, uint8_t value);
unsigned uart_room(const struct uart *u);
void uart_receive(struct devices *d, uint8_t byte);
