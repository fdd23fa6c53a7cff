/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The I/O port table and the small devices behind it. What no row names reads as all ones and
 * swallows writes, like an ISA bus where nobody answers.
 */

#include <string.h>
#include <time.h>

#include "util/util.h"
#include "vtlrun-devices.h"

#define UART_PORT 0x3f8u
#define EXIT_PORT 0xf4u
#define SAVE_PORT 0xf5u
#define FW_CFG_PORT 0x510u
#define CMOS_PORT 0x70u
#define KEYBOARD_DATA_PORT 0x60u
#define KEYBOARD_PORT 0x64u
#define POST_PORT 0x80u
#define PCI_ADDRESS_PORT 0xcf8u
#define RESET_PORT 0xcf9u
#define PCI_DATA_PORT 0xcfcu

#define KEYBOARD_PULSE_RESET 0xfeu
#define KEYBOARD_STATUS_ABSENT 0x01u
#define RESET_CPU 0x04u

/* One range of ports. Accesses wider than @width are split into bytes for the following ports, as
 * an ISA bus does. */
struct port_row {
        uint16_t base;
        uint16_t count;
        uint8_t width;
        uint32_t (*read)(struct devices *d, unsigned offset);
        void (*write)(struct devices *d, unsigned offset, uint32_t value);
};

/* Exit port: the guest's way to end with a status. */

static void exit_write(struct devices *d, unsigned offset, uint32_t value) {
        d->ops->stop(d->context, DEVICE_STOP_EXIT, value & 0xff);
}

/* Save port: the guest's way to be saved, and to learn that it has been. */

static uint32_t save_read(struct devices *d, unsigned offset) {
        return d->restores;
}

static void save_write(struct devices *d, unsigned offset, uint32_t value) {
        d->ops->stop(d->context, DEVICE_STOP_SAVE, 0);
}

/* UART. */

static uint32_t uart_port_read(struct devices *d, unsigned offset) {
        return uart_read(d, offset);
}

static void uart_port_write(struct devices *d, unsigned offset, uint32_t value) {
        uart_write(d, offset, (uint8_t) value);
}

/* fw_cfg: items of up to 8 bytes, little-endian; everything behind an item's end and every unknown
 * item reads 0. */

#define FW_CFG_SIGNATURE 0x554d4551u /* "QEMU" */
#define FW_CFG_TRADITIONAL 1u        /* revision: selector and data port, no DMA */

static uint64_t fw_cfg_item(const struct devices *d, uint16_t key) {
        const struct {
                uint16_t key;
                uint64_t value;
        } items[] = {
                { 0x00, FW_CFG_SIGNATURE }, { 0x01, FW_CFG_TRADITIONAL },
                { 0x03, d->ram_size },      { 0x05, d->vcpus }, /* processors present */
                { 0x0f, d->vcpus },                             /* highest number of processors */
        };

        for (size_t i = 0; i < ARRAY_SIZE(items); i++)
                if (items[i].key == key)
                        return items[i].value;
        return 0;
}

static uint32_t fw_cfg_read(struct devices *d, unsigned offset) {
        uint64_t item = fw_cfg_item(d, d->fw_cfg.key);
        uint8_t byte = 0;

        if (offset == 0)
                return 0; /* the selector cannot be read back */
        if (d->fw_cfg.offset < sizeof(item))
                byte = (uint8_t) (item >> (8 * d->fw_cfg.offset++));
        return byte;
}

static void fw_cfg_write(struct devices *d, unsigned offset, uint32_t value) {
        if (offset == 0)
                d->fw_cfg = (struct fw_cfg){ .key = (uint16_t) value };
}

/* CMOS clock, as far as it is read: the time of day in UTC, memory sizes, and plain storage. */

enum {
        CMOS_SECONDS = 0x00,
        CMOS_MINUTES = 0x02,
        CMOS_HOURS = 0x04,
        CMOS_WEEKDAY = 0x06,
        CMOS_DAY = 0x07,
        CMOS_MONTH = 0x08,
        CMOS_YEAR = 0x09,
        CMOS_STATUS_A = 0x0a,
        CMOS_STATUS_B = 0x0b,
        CMOS_STATUS_C = 0x0c,
        CMOS_STATUS_D = 0x0d,
        CMOS_BASE_MEMORY = 0x15,     /* KiB below 1 MiB */
        CMOS_EXTENDED_MEMORY = 0x17, /* KiB above 1 MiB, at most 64 MiB */
        CMOS_EXTENDED_COPY = 0x30,
        CMOS_CENTURY = 0x32,
        CMOS_MEMORY_16M = 0x34, /* 64 KiB units above 16 MiB, below 4 GiB */
        CMOS_MEMORY_4G = 0x5b,  /* 64 KiB units above 4 GiB */
};

#define STATUS_A_32KHZ 0x26u
#define STATUS_B_24H 0x02u
#define STATUS_D_VALID 0x80u

static uint8_t to_bcd(int v) {
        return (uint8_t) (((v / 10) << 4) | (v % 10));
}

static uint32_t cmos_read(struct devices *d, unsigned offset) {
        time_t now = time(NULL);
        struct tm tm;

        if (offset == 0)
                return 0xff; /* the index cannot be read back */
        if (!gmtime_r(&now, &tm))
                return 0;

        switch (d->cmos_index) {
        case CMOS_SECONDS:
                return to_bcd(MIN(tm.tm_sec, 59));
        case CMOS_MINUTES:
                return to_bcd(tm.tm_min);
        case CMOS_HOURS:
                return to_bcd(tm.tm_hour);
        case CMOS_WEEKDAY:
                return to_bcd(tm.tm_wday + 1);
        case CMOS_DAY:
                return to_bcd(tm.tm_mday);
        case CMOS_MONTH:
                return to_bcd(tm.tm_mon + 1);
        case CMOS_YEAR:
                return to_bcd(tm.tm_year % 100);
        case CMOS_CENTURY:
                return to_bcd(19 + tm.tm_year / 100);
        }
        return d->cmos[d->cmos_index];
}

static void cmos_write(struct devices *d, unsigned offset, uint32_t value) {
        if (offset == 0)
                d->cmos_index = value & (CMOS_SIZE - 1); /* bit 7 masks NMI */
        else if (d->cmos_index > CMOS_STATUS_D)
                d->cmos[d->cmos_index] = (uint8_t) value;
}

static void cmos_put(struct devices *d, unsigned index, uint64_t value, unsigned size) {
        for (unsigned i = 0; i < size; i++)
                d->cmos[index + i] = (uint8_t) (value >> (8 * i));
}

static void cmos_init(struct devices *d, uint64_t low_size, uint64_t high_size) {
        const uint64_t mib = 1 << 20;
        uint64_t extended = MIN((low_size - mib) >> 10, 0xffffull);
        uint64_t above_16m = low_size > 16 * mib ? (low_size - 16 * mib) >> 16 : 0;

        d->cmos[CMOS_STATUS_A] = STATUS_A_32KHZ;
        d->cmos[CMOS_STATUS_B] = STATUS_B_24H;
        d->cmos[CMOS_STATUS_C] = 0;
        d->cmos[CMOS_STATUS_D] = STATUS_D_VALID;
        cmos_put(d, CMOS_BASE_MEMORY, 639, 2);
        cmos_put(d, CMOS_EXTENDED_MEMORY, extended, 2);
        cmos_put(d, CMOS_EXTENDED_COPY, extended, 2);
        cmos_put(d, CMOS_MEMORY_16M, MIN(above_16m, 0xffffull), 2);
        cmos_put(d, CMOS_MEMORY_4G, MIN(high_size >> 16, 0xffffffull), 3);
}

/* Keyboard controller: none, but its reset line works. "Output full, input empty" makes a driver
   that looks for the controller give up at once, and one that waits to send the reset command not
   wait at all. */

static uint32_t keyboard_read(struct devices *d, unsigned offset) {
        return KEYBOARD_STATUS_ABSENT;
}

static void keyboard_write(struct devices *d, unsigned offset, uint32_t value) {
        if (value == KEYBOARD_PULSE_RESET)
                d->ops->stop(d->context, DEVICE_STOP_RESET, 0);
}

/* PCI: the address port answers all ones, so that nobody believes in a bus. */

static void reset_write(struct devices *d, unsigned offset, uint32_t value) {
        if (value & RESET_CPU)
                d->ops->stop(d->context, DEVICE_STOP_RESET, 0);
}

static uint32_t read_ones(struct devices *d, unsigned offset) {
        return UINT32_MAX;
}

static void write_ignored(struct devices *d, unsigned offset, uint32_t value) {
}

/* clang-format off */
static const struct port_row port_rows[] = {
        /* base                count width read            write */
        { UART_PORT,           8,    1,    uart_port_read, uart_port_write },
        { EXIT_PORT,           1,    4,    read_ones,      exit_write      },
        { SAVE_PORT,           1,    4,    save_read,      save_write      },
        { FW_CFG_PORT,         2,    2,    fw_cfg_read,    fw_cfg_write    },
        { CMOS_PORT,           2,    1,    cmos_read,      cmos_write      },
        { KEYBOARD_DATA_PORT,  1,    1,    read_ones,      write_ignored   },
        { KEYBOARD_PORT,       1,    1,    keyboard_read,  keyboard_write  },
        { POST_PORT,           1,    1,    read_ones,      write_ignored   },
        { RESET_PORT,          1,    1,    read_ones,      reset_write     },
        { PCI_ADDRESS_PORT,    1,    4,    read_ones,      write_ignored   },
        { PCI_DATA_PORT,       4,    4,    read_ones,      write_ignored   },
};
/* clang-format on */

static const struct port_row nobody = { 0, 0, 4, read_ones, write_ignored };

static const struct port_row *find_row(uint16_t port) {
        for (size_t i = 0; i < ARRAY_SIZE(port_rows); i++)
                if (port >= port_rows[i].base && port - port_rows[i].base < port_rows[i].count)
                        return &port_rows[i];
        return &nobody;
}

static uint32_t access_row(struct devices *d, const struct port_row *row, bool is_write,
                           uint16_t port, uint32_t value) {
        unsigned offset = (unsigned) (port - row->base);

        if (!is_write)
                return row->read(d, offset);
        row->write(d, offset, value);
        return value;
}

/**
 * devices_io() - one access to an I/O port
 * @d: the devices
 * @is_write: whether the guest writes
 * @port: first port
 * @size: 1, 2 or 4 bytes
 * @data: the bytes to write, or room for those read
 */
void devices_io(struct devices *d, bool is_write, uint16_t port, unsigned size, void *data) {
        const struct port_row *row = find_row(port);
        uint32_t value = 0;

        if (size > 1 && size > row->width) {
                for (unsigned i = 0; i < size; i++)
                        devices_io(d, is_write, (uint16_t) (port + i), 1, (uint8_t *) data + i);
                return;
        }

        if (is_write)
                memcpy(&value, data, MIN(size, (unsigned) sizeof(value)));
        value = access_row(d, row, is_write, port, value);
        if (!is_write)
                memcpy(data, &value, MIN(size, (unsigned) sizeof(value)));
}

/**
 * devices_init() - power on
 * @d: the devices
 * @ops: where interrupts, output and the end of the machine go
 * @context: passed to every function of @ops
 * @vcpus: number of processors, for fw_cfg
 * @low_size: bytes of RAM below 4 GiB, at least 1 MiB
 * @high_size: bytes of RAM above 4 GiB
 */
void devices_init(struct devices *d, const struct device_ops *ops, void *context, unsigned vcpus,
                  uint64_t low_size, uint64_t high_size) {
        *d = (struct devices){
                .ops = ops,
                .context = context,
                .vcpus = vcpus,
                .ram_size = low_size + high_size,
        };
        uart_init(&d->uart);
        cmos_init(d, low_size, high_size);
}
