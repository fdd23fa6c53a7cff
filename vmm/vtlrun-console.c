/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The user's side of the UART: standard input and output, and the terminal's modes. A key sequence
 * takes the place of the interrupt key, which goes to the guest.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "vtlrun.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */
#define QUIT_KEY 'x'

/**
 * console_open() - take over standard input
 * @c: all zero
 *
 * A terminal is switched to unbuffered input without echo, but only if we are in its foreground: a
 * background job would be stopped. Output processing stays as it is.
 */
void console_open(struct console *c) {
        struct termios t, *saved;

        if (!isatty(STDIN_FILENO))
                return;
        if (tcgetpgrp(STDIN_FILENO) != getpgrp()) {
                c->eof = true;
                return;
        }
        saved = malloc(sizeof(*saved));
        if (!saved || tcgetattr(STDIN_FILENO, saved) < 0) {
                free(saved);
                return;
        }
        t = *saved;
        t.c_iflag &= (tcflag_t) ~(ICRNL | INLCR | IGNCR | IXON | ISTRIP | BRKINT);
        t.c_lflag &= (tcflag_t) ~(ICANON | ECHO | ISIG | IEXTEN);
        t.c_cc[VMIN] = 1;
        t.c_cc[VTIME] = 0;
        if (tcsetattr(STDIN_FILENO, TCSANOW, &t) < 0) {
                free(saved);
                return;
        }
        c->saved_modes = saved;
        c->raw = true;
}

/**
 * console_close() - restore the terminal
 * @c: the console
 */
void console_close(struct console *c) {
        if (c->raw)
                (void) tcsetattr(STDIN_FILENO, TCSANOW, c->saved_modes);
        c->raw = false;
        free(c->saved_modes);
        c->saved_modes = NULL;
}

/**
 * console_write() - output of the guest
 * @vm: the machine
 * @data: bytes
 * @n: how many
 *
 * Waits for the reader of our output, unless the machine is to end. An output that fails is lost:
 * the guest has no way to know, and a machine is not to die of its log reader.
 */
void console_write(struct vm *vm, const uint8_t *data, unsigned n) {
        while (n > 0) {
                ssize_t k = write(STDOUT_FILENO, data, n);

                if (k < 0 && errno == EINTR && !vm_stopped(vm))
                        continue;
                if (k < 0 && errno == EAGAIN && !vm_stopped(vm)) {
                        struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

                        (void) poll(&p, 1, -1);
                        continue;
                }
                if (k <= 0)
                        return;
                data += k;
                n -= (unsigned) k;
        }
}

/**
 * console_wants_poll() - whether standard input should be read when it can
 * @c: the console
 *
 * A terminal is always read, so that the way out works when the guest does not read.
 */
bool console_wants_poll(const struct console *c) {
        return !c->eof && (c->raw || c->input_count < CONSOLE_INPUT_SIZE);
}

static void put_byte(struct console *c, uint8_t byte) {
        if (c->input_count == CONSOLE_INPUT_SIZE)
                return;
        c->input[(c->input_head + c->input_count) % CONSOLE_INPUT_SIZE] = byte;
        c->input_count++;
}

static void take_byte(struct vm *vm, uint8_t byte) {
        struct console *c = &vm->console;

        if (!c->raw) {
                put_byte(c, byte);
        } else if (c->escape) {
                c->escape = false;
                if (byte == QUIT_KEY)
                        vm_stop(vm, STATUS_OK);
                else if (byte == ESCAPE_KEY)
                        put_byte(c, byte);
        } else if (byte == ESCAPE_KEY) {
                c->escape = true;
        } else {
                put_byte(c, byte);
        }
}

/**
 * console_read() - read what standard input has and pass it on
 * @vm: the machine
 */
void console_read(struct vm *vm) {
        struct console *c = &vm->console;
        size_t room = c->raw ? CONSOLE_INPUT_SIZE : CONSOLE_INPUT_SIZE - c->input_count;
        uint8_t buf[CONSOLE_INPUT_SIZE];
        ssize_t n;

        n = read(STDIN_FILENO, buf, room);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) {
                c->eof = true;
                return;
        }
        for (ssize_t i = 0; i < n; i++)
                take_byte(vm, buf[i]);
        console_feed(vm);
}

/**
 * console_feed() - give the UART as much input as it takes
 * @vm: the machine
 */
void console_feed(struct vm *vm) {
        struct console *c = &vm->console;

        (void) pthread_mutex_lock(&vm->device_lock);
        for (unsigned room = uart_room(&vm->devices.uart); room > 0 && c->input_count > 0; room--) {
                uart_receive(&vm->devices, c->input[c->input_head]);
                c->input_head = (c->input_head + 1) % CONSOLE_INPUT_SIZE;
                c->input_count--;
        }
        (void) pthread_mutex_unlock(&vm->device_lock);
}
