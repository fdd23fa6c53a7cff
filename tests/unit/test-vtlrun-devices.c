/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtlrun's devices through their I/O ports, as a guest sees them.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "util/util.h"
#include "vmm/vtlrun-devices.h"

#define COM1 0x3f8u

/* The machine around the devices: remembers what they ask for. */
struct fixture {
        struct devices devices;
        bool irq4;
        unsigned edges; /* from low to high */
        unsigned other_irqs;
        char output[64];
        unsigned output_count;
        unsigned wanted;
        unsigned stops;
        enum device_stop why;
        uint32_t value;
};

static void on_irq(void *context, unsigned irq, bool level) {
        struct fixture *f = context;

        if (irq != UART_IRQ) {
                f->other_irqs++;
                return;
        }
        f->edges += level && !f->irq4;
        f->irq4 = level;
}

static void on_output(void *context, uint8_t byte) {
        struct fixture *f = context;

        if (f->output_count < sizeof(f->output) - 1)
                f->output[f->output_count++] = (char) byte;
}

static void on_input_wanted(void *context) {
        ((struct fixture *) context)->wanted++;
}

static void on_stop(void *context, enum device_stop why, uint32_t value) {
        struct fixture *f = context;

        f->stops++;
        f->why = why;
        f->value = value;
}

static const struct device_ops ops = { on_irq, on_output, on_input_wanted, on_stop };

static void power_on(struct fixture *f) {
        memset(f, 0, sizeof(*f));
        devices_init(&f->devices, &ops, f, 3, 256ull << 20, 1ull << 32);
}

static void out(struct fixture *f, uint16_t port, unsigned size, uint32_t value) {
        devices_io(&f->devices, true, port, size, &value);
}

static uint32_t in(struct fixture *f, uint16_t port, unsigned size) {
        uint32_t value = 0;

        devices_io(&f->devices, false, port, size, &value);
        return value;
}

static void test_exit_port(void **state) {
        static const unsigned sizes[] = { 1, 2, 4 };
        struct fixture f;

        for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
                power_on(&f);
                out(&f, 0xf4, sizes[i], 0x21);
                assert_int_equal(f.stops, 1);
                assert_int_equal(f.why, DEVICE_STOP_EXIT);
                assert_int_equal(f.value, 0x21);
        }
}

static void test_resets(void **state) {
        static const struct {
                uint16_t port;
                unsigned size;
                uint32_t value;
                unsigned stops;
        } cases[] = {
                { 0x64, 1, 0xfe, 1 },  { 0x64, 1, 0xd1, 0 },   { 0xcf9, 1, 0x06, 1 },
                { 0xcf9, 1, 0x0e, 1 }, { 0xcf9, 1, 0x02, 0 },  { 0xcf8, 4, 0x80000600, 0 },
                { 0xcf8, 1, 0x06, 0 }, { 0x60, 2, 0xfefe, 0 },
        };
        struct fixture f;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                power_on(&f);
                out(&f, cases[i].port, cases[i].size, cases[i].value);
                assert_int_equal(f.stops, cases[i].stops);
                if (f.stops)
                        assert_int_equal(f.why, DEVICE_STOP_RESET);
        }
}

static void test_nobody(void **state) {
        struct fixture f;

        power_on(&f);
        assert_int_equal(in(&f, 0x200, 1), 0xff);
        assert_int_equal(in(&f, 0x200, 2), 0xffff);
        assert_true(in(&f, 0x200, 4) == 0xffffffff);
        assert_true(in(&f, 0xffff, 4) == 0xffffffff);
        assert_true(in(&f, 0xcf8, 4) == 0xffffffff);
        assert_true(in(&f, 0xcfc, 4) == 0xffffffff);
        assert_int_equal(in(&f, 0xcfe, 2), 0xffff);
        out(&f, 0x200, 4, 0x12345678);
        out(&f, 0x80, 1, 0x55);
        assert_int_equal(f.stops + f.output_count + f.edges, 0);
        /* A wide access to a narrow device is one access a byte, and the last byte of the ports is
           nobody's. */
        out(&f, COM1 + 7, 2, 0xab5a);
        assert_int_equal(in(&f, COM1 + 7, 1), 0x5a);
        assert_int_equal(in(&f, COM1 + 7, 2), 0xff5a);
}

static void test_fw_cfg(void **state) {
        struct fixture f;
        char signature[5] = { 0 };

        power_on(&f);
        out(&f, 0x510, 2, 0);
        for (unsigned i = 0; i < 4; i++)
                signature[i] = (char) in(&f, 0x511, 1);
        assert_string_equal(signature, "QEMU");
        assert_int_equal(in(&f, 0x511, 1), 0);

        out(&f, 0x510, 2, 5);
        assert_int_equal(in(&f, 0x511, 1), 3);
        assert_int_equal(in(&f, 0x511, 1), 0);
        for (unsigned i = 0; i < 20; i++)
                assert_int_equal(in(&f, 0x511, 1), 0);
        out(&f, 0x510, 2, 0x0f);
        assert_int_equal(in(&f, 0x511, 1), 3);
        out(&f, 0x510, 2, 3);
        for (unsigned i = 0; i < 4; i++)
                assert_int_equal(in(&f, 0x511, 1), i == 3 ? 0x10 : 0);
        assert_int_equal(in(&f, 0x511, 1), 1);
        out(&f, 0x510, 2, 0x8005);
        assert_int_equal(in(&f, 0x511, 1), 0);
}

static uint8_t cmos(struct fixture *f, uint8_t index) {
        out(f, 0x70, 1, index);
        return (uint8_t) in(f, 0x71, 1);
}

static void test_cmos(void **state) {
        struct fixture f;

        power_on(&f);
        assert_int_equal(cmos(&f, 0x0d), 0x80);
        assert_int_equal(cmos(&f, 0x0a) & 0x80, 0);
        assert_int_equal(cmos(&f, 0x0b) & 0x06, 0x02);
        assert_true(cmos(&f, 0x32) >= 0x20);
        assert_true(cmos(&f, 0x08) >= 0x01 && cmos(&f, 0x08) <= 0x12);
        assert_true((cmos(&f, 0x00) & 0x0f) <= 9);
        assert_int_equal(cmos(&f, 0x34) | cmos(&f, 0x35) << 8, 240 * 16);
        assert_int_equal(cmos(&f, 0x5b) | cmos(&f, 0x5c) << 8 | cmos(&f, 0x5d) << 16, 0x10000);
        /* The shutdown code keeps what is written, with the NMI mask bit in the index; the clock
           does not. */
        out(&f, 0x70, 1, 0x8f);
        out(&f, 0x71, 1, 0x0a);
        assert_int_equal(cmos(&f, 0x0f), 0x0a);
        out(&f, 0x70, 1, 0x0d);
        out(&f, 0x71, 1, 0);
        assert_int_equal(cmos(&f, 0x0d), 0x80);
}

static void test_uart_output(void **state) {
        struct fixture f;

        power_on(&f);
        assert_int_equal(in(&f, COM1 + 5, 1), 0x60);
        for (const char *s = "text"; *s; s++)
                out(&f, COM1, 1, (uint8_t) *s);
        assert_string_equal(f.output, "text");
        /* The divisor is not output. */
        out(&f, COM1 + 3, 1, 0x83);
        out(&f, COM1, 1, 1);
        out(&f, COM1 + 1, 1, 2);
        assert_int_equal(in(&f, COM1, 1), 1);
        assert_int_equal(in(&f, COM1 + 1, 1), 2);
        assert_int_equal(f.devices.uart.divisor, 0x201);
        assert_int_equal(f.output_count, 4);
}

static void test_uart_transmit_interrupt(void **state) {
        struct fixture f;

        power_on(&f);
        out(&f, COM1 + 1, 1, 2);
        assert_int_equal(f.edges, 0); /* OUT2 is off */
        out(&f, COM1 + 4, 1, 8);
        assert_int_equal(f.edges, 1);
        assert_int_equal(in(&f, COM1 + 2, 1), 2);
        assert_false(f.irq4); /* seen */
        assert_int_equal(in(&f, COM1 + 2, 1), 1);
        out(&f, COM1, 1, 'a');
        assert_int_equal(f.edges, 2);
        out(&f, COM1, 1, 'b'); /* not seen in between: still an edge of its own */
        assert_int_equal(f.edges, 3);
        out(&f, COM1 + 1, 1, 0);
        assert_false(f.irq4);
        assert_int_equal(f.other_irqs, 0);
}

static void test_uart_receive(void **state) {
        struct fixture f;

        power_on(&f);
        /* Nobody listens: not even with the interrupt enabled, as long as OUT2 keeps it off. */
        assert_int_equal(uart_room(&f.devices.uart), 0);
        out(&f, COM1 + 1, 1, 1);
        assert_int_equal(uart_room(&f.devices.uart), 0);
        out(&f, COM1 + 4, 1, 8);
        assert_int_equal(uart_room(&f.devices.uart), 1);
        assert_true(f.wanted > 0);
        out(&f, COM1 + 2, 1, 0x81); /* FIFO, trigger 8 */
        assert_int_equal(uart_room(&f.devices.uart), UART_FIFO_SIZE);

        uart_receive(&f.devices, 'x');
        assert_true(f.irq4);
        assert_int_equal(in(&f, COM1 + 2, 1), 0xcc); /* below the trigger: character timeout */
        for (unsigned i = 0; i < 7; i++)
                uart_receive(&f.devices, (uint8_t) ('0' + i));
        assert_int_equal(in(&f, COM1 + 2, 1), 0xc4);
        assert_int_equal(in(&f, COM1 + 5, 1), 0x61);
        assert_int_equal(in(&f, COM1, 1), 'x');
        f.wanted = 0;
        for (unsigned i = 0; i < 7; i++)
                assert_int_equal(in(&f, COM1, 1), '0' + i);
        assert_int_equal(f.wanted, 1);
        assert_false(f.irq4);
        assert_int_equal(in(&f, COM1 + 5, 1), 0x60);
        assert_int_equal(in(&f, COM1, 1), 0);
}

static void test_uart_overrun(void **state) {
        struct fixture f;

        power_on(&f);
        out(&f, COM1 + 4, 1, 8);
        out(&f, COM1 + 2, 1, 1);
        out(&f, COM1 + 1, 1, 5);
        for (unsigned i = 0; i < UART_FIFO_SIZE + 1; i++)
                uart_receive(&f.devices, (uint8_t) i);
        assert_int_equal(uart_room(&f.devices.uart), 0);
        assert_int_equal(in(&f, COM1 + 2, 1), 0xc6);
        assert_int_equal(in(&f, COM1 + 5, 1), 0x63);
        assert_int_equal(in(&f, COM1 + 5, 1), 0x61); /* reported once */
        for (unsigned i = 0; i < UART_FIFO_SIZE; i++)
                assert_int_equal(in(&f, COM1, 1), i);
        /* Clearing the FIFO drops what is in it. */
        uart_receive(&f.devices, 'x');
        out(&f, COM1 + 2, 1, 3);
        assert_int_equal(in(&f, COM1 + 5, 1), 0x60);
        assert_false(f.irq4);
}

/* A guest that polls gets its input too, one that waits for the transmitter does not lose it. */
static void test_uart_polling(void **state) {
        struct fixture f;

        power_on(&f);
        for (unsigned i = 0; i < 100; i++) {
                (void) in(&f, COM1 + 5, 1);
                (void) in(&f, COM1 + 5, 1);
                out(&f, COM1, 1, 'a');
        }
        assert_int_equal(uart_room(&f.devices.uart), 0);
        for (unsigned i = 0; i < 100; i++)
                (void) in(&f, COM1 + 5, 1);
        assert_int_equal(uart_room(&f.devices.uart), 1);
        assert_int_equal(f.wanted, 1);
}

static void test_uart_loop(void **state) {
        struct fixture f;

        power_on(&f);
        out(&f, COM1 + 4, 1, 0x1f);
        out(&f, COM1, 1, 0x42);
        assert_int_equal(f.output_count, 0);
        assert_int_equal(in(&f, COM1 + 6, 1), 0xf0);
        assert_int_equal(in(&f, COM1 + 5, 1) & 1, 1);
        assert_int_equal(in(&f, COM1, 1), 0x42);
        assert_int_equal(f.edges, 0);
        out(&f, COM1 + 4, 1, 0x1a);
        assert_int_equal(in(&f, COM1 + 6, 1), 0x90);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_exit_port),
                cmocka_unit_test(test_resets),
                cmocka_unit_test(test_nobody),
                cmocka_unit_test(test_fw_cfg),
                cmocka_unit_test(test_cmos),
                cmocka_unit_test(test_uart_output),
                cmocka_unit_test(test_uart_transmit_interrupt),
                cmocka_unit_test(test_uart_receive),
                cmocka_unit_test(test_uart_overrun),
                cmocka_unit_test(test_uart_polling),
                cmocka_unit_test(test_uart_loop),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("vtlrun-devices", tests, NULL, NULL);
}
