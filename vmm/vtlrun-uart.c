/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A 16550A at 0x3f8. Bytes written are output at once; bytes received wait in the 16-byte FIFO.
 */

#include "util/util.h"
#include "vtlrun-devices.h"

enum {
        REG_DATA = 0, /* RBR, THR; divisor low with LCR.DLAB */
        REG_IER = 1,  /* divisor high with LCR.DLAB */
        REG_IIR = 2,  /* FCR when written */
        REG_LCR = 3,
        REG_MCR = 4,
        REG_LSR = 5,
        REG_MSR = 6,
        REG_SCR = 7,
};

#define IER_RECEIVE 0x01u
#define IER_THR_EMPTY 0x02u
#define IER_LINE_STATUS 0x04u
#define IER_MASK 0x0fu

#define IIR_NONE 0x01u
#define IIR_THR_EMPTY 0x02u
#define IIR_RECEIVE 0x04u
#define IIR_LINE_STATUS 0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO 0xc0u

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RECEIVE 0x02u

#define LCR_DLAB 0x80u
#define MCR_MASK 0x1fu
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u

#define LSR_DATA 0x01u
#define LSR_OVERRUN 0x02u
#define LSR_THR_EMPTY 0x20u
#define LSR_IDLE 0x40u

#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_DCD 0x80u

#define DIVISOR_9600 12u

/* A guest that reads LSR so often without sending is waiting for input. One that only waits for the
   transmitter sees it empty at the first read. */
#define POLLS_OF_A_READER 16u

void uart_init(struct uart *u) {
        *u = (struct uart){ .divisor = DIVISOR_9600, .trigger = 1 };
}

static uint8_t pending_interrupt(const struct uart *u) {
        if ((u->ier & IER_LINE_STATUS) && u->lsr_errors)
                return IIR_LINE_STATUS;
        if ((u->ier & IER_RECEIVE) && u->fifo_count > 0)
                return u->fifo_count >= u->trigger ? IIR_RECEIVE : IIR_TIMEOUT;
        if ((u->ier & IER_THR_EMPTY) && u->thr_pending)
                return IIR_THR_EMPTY;
        return IIR_NONE;
}

static void set_level(struct devices *d, bool level) {
        if (level == d->uart.irq_level)
                return;
        d->uart.irq_level = level;
        d->ops->set_irq(d->context, UART_IRQ, level);
}

/* On a PC, OUT2 gates the interrupt; in loop mode the pin is inactive. */
static void update_irq(struct devices *d) {
        const struct uart *u = &d->uart;

        set_level(d,
                  (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP) && pending_interrupt(u) != IIR_NONE);
}

/* Whether the guest reads what is received: by interrupt, as far as that reaches a CPU (drivers
   switch IER bits on and off while they look for the device), or by polling. */
static bool is_listening(const struct uart *u) {
        return u->polled || ((u->ier & IER_RECEIVE) && (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP));
}

static void push(struct uart *u, uint8_t byte) {
        unsigned room = u->fifo_enabled ? UART_FIFO_SIZE : 1;

        if (u->fifo_count >= room) {
                u->lsr_errors |= LSR_OVERRUN;
                return;
        }
        u->fifo[(u->fifo_head + u->fifo_count) % UART_FIFO_SIZE] = byte;
        u->fifo_count++;
}

static uint8_t pop(struct devices *d) {
        struct uart *u = &d->uart;
        uint8_t byte;

        u->polls = 0;
        if (u->fifo_count == 0)
                return 0;
        byte = u->fifo[u->fifo_head];
        u->fifo_head = (u->fifo_head + 1) % UART_FIFO_SIZE;
        u->fifo_count--;
        if (u->fifo_count == 0 && is_listening(u))
                d->ops->input_wanted(d->context);
        return byte;
}

/**
 * uart_room() - how many bytes uart_receive() may be given now
 * @u: the UART
 *
 * Zero before the guest has shown that it reads: input that is there from the start (a pipe) would
 * otherwise be lost when the guest's driver clears the FIFO.
 */
unsigned uart_room(const struct uart *u) {
        unsigned room = u->fifo_enabled ? UART_FIFO_SIZE : 1;

        return is_listening(u) && u->fifo_count < room ? room - u->fifo_count : 0;
}

void uart_receive(struct devices *d, uint8_t byte) {
        push(&d->uart, byte);
        update_irq(d);
}

static uint8_t read_iir(struct uart *u) {
        uint8_t iir = pending_interrupt(u);

        if (iir == IIR_THR_EMPTY)
                u->thr_pending = false;
        return (uint8_t) (iir | (u->fifo_enabled ? IIR_FIFO : 0));
}

static uint8_t read_lsr(struct devices *d) {
        struct uart *u = &d->uart;
        uint8_t lsr = (uint8_t) (LSR_THR_EMPTY | LSR_IDLE | u->lsr_errors |
                                 (u->fifo_count > 0 ? LSR_DATA : 0));

        u->lsr_errors = 0;
        if (!u->polled && ++u->polls >= POLLS_OF_A_READER) {
                u->polled = true;
                d->ops->input_wanted(d->context);
        }
        return lsr;
}

/* In loop mode the modem outputs come back as inputs. */
static uint8_t read_msr(const struct uart *u) {
        uint8_t mcr = u->mcr;

        if (!(mcr & MCR_LOOP))
                return MSR_CTS | MSR_DSR | MSR_DCD;
        return (uint8_t) ((mcr & 0x02 ? MSR_CTS : 0) | (mcr & 0x01 ? MSR_DSR : 0) |
                          (mcr & 0x04 ? 0x40 : 0) | (mcr & 0x08 ? MSR_DCD : 0));
}

uint8_t uart_read(struct devices *d, unsigned reg) {
        struct uart *u = &d->uart;
        bool dlab = (u->lcr & LCR_DLAB) != 0;
        uint8_t value = 0;

        switch (reg) {
        case REG_DATA:
                value = dlab ? (uint8_t) u->divisor : pop(d);
                break;
        case REG_IER:
                value = dlab ? (uint8_t) (u->divisor >> 8) : u->ier;
                break;
        case REG_IIR:
                value = read_iir(u);
                break;
        case REG_LCR:
                value = u->lcr;
                break;
        case REG_MCR:
                value = u->mcr;
                break;
        case REG_LSR:
                value = read_lsr(d);
                break;
        case REG_MSR:
                value = read_msr(u);
                break;
        case REG_SCR:
                value = u->scr;
                break;
        }
        update_irq(d);
        return value;
}

static void transmit(struct devices *d, uint8_t byte) {
        struct uart *u = &d->uart;

        u->polls = 0;
        /* The interrupt goes away with the write and comes back at once: the controller needs to
         * see the edge. */
        u->thr_pending = false;
        update_irq(d);
        if (u->mcr & MCR_LOOP)
                push(u, byte);
        else
                d->ops->output(d->context, byte);
        u->thr_pending = true;
}

static void write_ier(struct uart *u, uint8_t value) {
        if ((value & IER_THR_EMPTY) && !(u->ier & IER_THR_EMPTY))
                u->thr_pending = true;
        u->ier = value & IER_MASK;
}

static void write_fcr(struct uart *u, uint8_t value) {
        static const uint8_t triggers[] = { 1, 4, 8, 14 };
        bool enable = (value & FCR_ENABLE) != 0;

        /* Hardware also empties them when they are switched on; here that would lose the first byte
           of waiting input, because Linux enables the interrupt before. */
        if ((u->fifo_enabled && !enable) || (value & FCR_CLEAR_RECEIVE))
                u->fifo_count = 0;
        u->fifo_enabled = enable;
        u->trigger = enable ? triggers[value >> 6] : 1;
}

void uart_write(struct devices *d, unsigned reg, uint8_t value) {
        struct uart *u = &d->uart;
        bool dlab = (u->lcr & LCR_DLAB) != 0;

        switch (reg) {
        case REG_DATA:
                if (dlab)
                        u->divisor = (uint16_t) ((u->divisor & 0xff00) | value);
                else
                        transmit(d, value);
                break;
        case REG_IER:
                if (dlab)
                        u->divisor = (uint16_t) ((u->divisor & 0x00ff) | (value << 8));
                else
                        write_ier(u, value);
                break;
        case REG_IIR:
                write_fcr(u, value);
                break;
        case REG_LCR:
                u->lcr = value;
                break;
        case REG_MCR:
                u->mcr = value & MCR_MASK;
                break;
        case REG_SCR:
                u->scr = value;
                break;
        }
        update_irq(d);
        if (reg != REG_DATA && uart_room(u) > 0)
                d->ops->input_wanted(d->context);
}
