/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What every image needs: the memory map, the tables a PC's firmware leaves behind (BIOS data area,
 * MultiProcessor specification 1.4 table), the boot GDT and page tables, and the choice of the
 * loader.
 */

#include <stdarg.h>
#include <stdio.h>

#include "vtlrun-boot.h"

#define BDA_EBDA_SEGMENT 0x40eu
#define BDA_BASE_MEMORY_KIB 0x413u

#define LAPIC_ADDR 0xfee00000u
#define IOAPIC_ADDR 0xfec00000u
#define LAPIC_VERSION 0x14
#define IOAPIC_VERSION 0x11
#define ISA_IRQS 16
#define ISA_CASCADE_IRQ 2

/* MultiProcessor specification 1.4, chapter 4. */
struct mp_pointer {
        char signature[4];
        uint32_t table;
        uint8_t length; /* of this structure, in 16-byte units */
        uint8_t revision;
        uint8_t checksum;
        uint8_t features[5];
};
_Static_assert(sizeof(struct mp_pointer) == 16, "MP floating pointer");

struct mp_header {
        char signature[4];
        uint16_t length;
        uint8_t revision;
        uint8_t checksum;
        char oem[8];
        char product[12];
        uint32_t oem_table;
        uint16_t oem_size;
        uint16_t entries;
        uint32_t lapic;
        uint16_t extended_length;
        uint8_t extended_checksum;
        uint8_t reserved;
};
_Static_assert(sizeof(struct mp_header) == 44, "MP table header");

struct mp_cpu {
        uint8_t type;
        uint8_t apic_id;
        uint8_t apic_version;
        uint8_t flags;
        uint32_t signature;
        uint32_t features;
        uint32_t reserved[2];
};
_Static_assert(sizeof(struct mp_cpu) == 20, "MP processor entry");

struct mp_bus {
        uint8_t type;
        uint8_t id;
        char name[6];
};

struct mp_ioapic {
        uint8_t type;
        uint8_t id;
        uint8_t version;
        uint8_t flags;
        uint32_t address;
};

struct mp_irq {
        uint8_t type;
        uint8_t irq_type;
        uint16_t flags;
        uint8_t bus;
        uint8_t bus_irq;
        uint8_t apic;
        uint8_t pin;
};
_Static_assert(sizeof(struct mp_bus) == 8, "MP bus entry");
_Static_assert(sizeof(struct mp_ioapic) == 8, "MP I/O APIC entry");
_Static_assert(sizeof(struct mp_irq) == 8, "MP interrupt entry");

enum {
        MP_CPU = 0,
        MP_BUS = 1,
        MP_IOAPIC = 2,
        MP_IO_IRQ = 3,
        MP_LOCAL_IRQ = 4,
};

enum {
        MP_IRQ_INT = 0,
        MP_IRQ_NMI = 1,
        MP_IRQ_EXTINT = 3,
};

/**
 * boot_set_error() - note why an image is refused
 * @reterr_error: receives the text
 * @fmt: the text
 */
void boot_set_error(struct boot_error *reterr_error, const char *fmt, ...) {
        va_list ap;

        va_start(ap, fmt);
        (void) vsnprintf(reterr_error->text, sizeof(reterr_error->text), fmt, ap);
        va_end(ap);
}

/**
 * boot_is_ram() - whether an image may be loaded there
 * @ram: the guest's RAM
 * @start: first guest-physical address
 * @size: bytes
 *
 * The adapter and firmware space below 1 MiB has memory behind it, but is not RAM to the guest.
 */
bool boot_is_ram(const struct boot_ram *ram, uint64_t start, uint64_t size) {
        if (!boot_span_fits(start, size, ram->low_size))
                return false;
        return start + size <= BOOT_HOLE_START || start >= BOOT_HOLE_END;
}

/**
 * boot_memory_map() - the memory map that guests are told
 * @ram: the guest's RAM
 * @regions: receives the regions, sorted by address
 *
 * Return: the number of regions.
 */
unsigned boot_memory_map(const struct boot_ram *ram, struct boot_region regions[BOOT_MAX_REGIONS]) {
        unsigned n = 0;

        regions[n++] = (struct boot_region){ 0, BOOT_LOW_END, BOOT_REGION_RAM };
        regions[n++] = (struct boot_region){ BOOT_LOW_END, BOOT_HOLE_START - BOOT_LOW_END,
                                             BOOT_REGION_RESERVED };
        regions[n++] = (struct boot_region){ BOOT_MPTABLE_ADDR, BOOT_HOLE_END - BOOT_MPTABLE_ADDR,
                                             BOOT_REGION_RESERVED };
        regions[n++] = (struct boot_region){ BOOT_HOLE_END, ram->low_size - BOOT_HOLE_END,
                                             BOOT_REGION_RAM };
        if (ram->high_size > 0)
                regions[n++] =
                        (struct boot_region){ BOOT_HIGH_START, ram->high_size, BOOT_REGION_RAM };
        return n;
}

static uint8_t checksum(const uint8_t *p, size_t n) {
        uint8_t sum = 0;

        for (size_t i = 0; i < n; i++)
                sum = (uint8_t) (sum + p[i]);
        return (uint8_t) -sum;
}

static size_t mp_add(uint8_t *table, size_t at, const void *entry, size_t size) {
        struct mp_header *h = (struct mp_header *) table;

        memcpy(table + at, entry, size);
        h->entries++;
        return at + size;
}

static size_t mp_add_interrupts(uint8_t *table, size_t at, uint8_t ioapic_id) {
        /* The 8259 reaches LINT0, NMI reaches LINT1, of every processor (APIC 255). */
        static const struct mp_irq local[] = {
                { MP_LOCAL_IRQ, MP_IRQ_EXTINT, .apic = 255, .pin = 0 },
                { MP_LOCAL_IRQ, MP_IRQ_NMI, .apic = 255, .pin = 1 },
        };

        for (uint8_t irq = 0; irq < ISA_IRQS; irq++) {
                struct mp_irq e = { .type = MP_IO_IRQ,
                                    .irq_type = MP_IRQ_INT,
                                    .bus_irq = irq,
                                    .apic = ioapic_id,
                                    .pin = irq };

                if (irq != ISA_CASCADE_IRQ)
                        at = mp_add(table, at, &e, sizeof(e));
        }

        for (size_t i = 0; i < ARRAY_SIZE(local); i++)
                at = mp_add(table, at, &local[i], sizeof(local[i]));
        return at;
}

/* Without ACPI tables this is how Linux finds more than one processor. Interrupts go one to one to
   the I/O APIC's pins, which is KVM's own default routing. */
static void write_mp_table(uint8_t *low, unsigned vcpus) {
        struct mp_pointer pointer = { .signature = "_MP_", .length = 1, .revision = 4 };
        uint8_t *table = low + BOOT_MPTABLE_ADDR + sizeof(pointer);
        struct mp_header header = { .signature = "PCMP",
                                    .revision = 4,
                                    .oem = "VTLD    ",
                                    .product = "VTLRUN      ",
                                    .lapic = LAPIC_ADDR };
        uint8_t ioapic_id = (uint8_t) vcpus;
        size_t at = sizeof(header);

        memcpy(table, &header, sizeof(header));
        for (unsigned i = 0; i < vcpus; i++) {
                struct mp_cpu cpu = { .type = MP_CPU,
                                      .apic_id = (uint8_t) i,
                                      .apic_version = LAPIC_VERSION,
                                      .flags = (uint8_t) (i == 0 ? 3 : 1) };

                at = mp_add(table, at, &cpu, sizeof(cpu));
        }
        at = mp_add(table, at, &(struct mp_bus){ .type = MP_BUS, .name = "ISA   " },
                    sizeof(struct mp_bus));
        at = mp_add(table, at,
                    &(struct mp_ioapic){ .type = MP_IOAPIC,
                                         .id = ioapic_id,
                                         .version = IOAPIC_VERSION,
                                         .flags = 1,
                                         .address = IOAPIC_ADDR },
                    sizeof(struct mp_ioapic));
        at = mp_add_interrupts(table, at, ioapic_id);

        ((struct mp_header *) table)->length = (uint16_t) at;
        ((struct mp_header *) table)->checksum = checksum(table, at);
        pointer.table = BOOT_MPTABLE_ADDR + (uint32_t) sizeof(pointer);
        pointer.checksum = checksum((const uint8_t *) &pointer, sizeof(pointer));
        memcpy(low + BOOT_MPTABLE_ADDR, &pointer, sizeof(pointer));
}

static void write_bios_data_area(uint8_t *low) {
        uint16_t ebda = BOOT_LOW_END >> 4;
        uint16_t kib = BOOT_LOW_END >> 10;

        memcpy(low + BDA_EBDA_SEGMENT, &ebda, sizeof(ebda));
        memcpy(low + BDA_BASE_MEMORY_KIB, &kib, sizeof(kib));
}

/**
 * boot_write_firmware() - leave behind what a PC's firmware leaves behind
 * @ram: at least BOOT_MIN_RAM bytes
 * @vcpus: number of processors
 */
void boot_write_firmware(const struct boot_ram *ram, unsigned vcpus) {
        write_bios_data_area(ram->low);
        write_mp_table(ram->low, vcpus);
}

/* Four page directories of 2 MiB pages map the first 4 GiB one to one. */
static void write_page_tables(uint8_t *low) {
        const uint64_t table_flags = 0x3; /* present, writable */
        const uint64_t large_flags = 0x83;
        uint64_t *pml4 = (uint64_t *) (low + BOOT_PAGE_TABLE_ADDR);
        uint64_t *pdpt = pml4 + 512;
        uint64_t *pd = pdpt + 512;

        pml4[0] = (BOOT_PAGE_TABLE_ADDR + 0x1000u) | table_flags;
        for (uint64_t i = 0; i < 4; i++)
                pdpt[i] = (BOOT_PAGE_TABLE_ADDR + 0x2000u + i * 0x1000u) | table_flags;
        for (uint64_t i = 0; i < 4 * 512; i++)
                pd[i] = (i << 21) | large_flags;
}

static void write_gdt(uint8_t *low, enum boot_mode mode) {
        const uint64_t gdt[] = {
                [BOOT_CS_SELECTOR / 8] =
                        mode == BOOT_LONG ? 0x00af9b000000ffffull : 0x00cf9b000000ffffull,
                [BOOT_DS_SELECTOR / 8] = 0x00cf93000000ffffull,
                [BOOT_TSS_SELECTOR / 8] = 0x00008b0000000067ull,
        };

        memcpy(low + BOOT_GDT_ADDR, gdt, sizeof(gdt));
}

/**
 * boot_load() - load an image of any known kind
 * @req: the image and what goes with it
 * @ram: zeroed guest RAM
 * @ret_entry: receives the state of the first CPU
 * @reterr_error: receives the reason of a failure
 *
 * Return: 0, or a negative errno (-EINVAL or -ENOEXEC for an image that cannot be used).
 */
int boot_load(const struct boot_request *req, const struct boot_ram *ram,
              struct boot_entry *ret_entry, struct boot_error *reterr_error) {
        int r;

        if (ram->low_size < BOOT_MIN_RAM || ram->low_size > BOOT_RAM_BELOW_4G)
                return boot_fail(reterr_error, -EINVAL, "guest RAM of %llu bytes is not supported",
                                 (unsigned long long) ram->low_size);
        if (req->vcpus < 1 || req->vcpus > BOOT_MAX_VCPUS)
                return boot_fail(reterr_error, -EINVAL, "%u processors are not supported",
                                 req->vcpus);

        boot_write_firmware(ram, req->vcpus);

        /* The multiboot header is the more specific of the two: it has a checksum. */
        if (multiboot_probe(&req->image))
                r = multiboot_load(req, ram, ret_entry, reterr_error);
        else if (linux_probe(&req->image))
                r = linux_load(req, ram, ret_entry, reterr_error);
        else
                r = boot_fail(reterr_error, -ENOEXEC,
                              "neither a multiboot header (magic, flags and checksum in the first "
                              "8192 bytes) nor a Linux bzImage");
        if (r < 0)
                return r;

        write_gdt(ram->low, ret_entry->mode);
        if (ret_entry->mode == BOOT_LONG)
                write_page_tables(ram->low);
        return 0;
}
