/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Boot images: from the bytes of a file to guest RAM and the state of the first CPU. No KVM here:
 * the loaders work on a buffer with the file and a buffer with the RAM, so that tests and the
 * fuzzer run the very same code.
 *
 * Every image is hostile. All numbers of a file go through boot_span_fits(), which cannot overflow.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/util.h"

/* The guest-physical map of the machine, as on a PC. */
#define BOOT_LOW_END 0x0009fc00u    /* base memory ends here, the EBDA page fills up to 640 KiB */
#define BOOT_HOLE_START 0x000a0000u /* adapter and firmware space up to 1 MiB */
#define BOOT_HOLE_END 0x00100000u
#define BOOT_RAM_BELOW_4G 0xc0000000ull
#define BOOT_HIGH_START 0x100000000ull

/* What vtlrun keeps in the firmware segment, which every memory map of ours calls reserved. */
#define BOOT_MPTABLE_ADDR 0xf0000u
#define BOOT_PAGE_TABLE_ADDR 0xf2000u /* PML4, PDPT and four page directories */
#define BOOT_GDT_ADDR 0xf8000u

#define BOOT_MAX_VCPUS 64u
#define BOOT_MIN_RAM (2ull << 20)
#define BOOT_MAX_TEXT 16384u /* longest command line or file name handed to a guest */

/* Guest RAM: [0, low_size) behind @low; what lies above 4 GiB is never loaded to and has only a
 * size. */
struct boot_ram {
        uint8_t *low;
        uint64_t low_size;
        uint64_t high_size;
};

struct boot_blob {
        const uint8_t *data;
        uint64_t size;
};

struct boot_request {
        struct boot_blob image;
        struct boot_blob initrd; /* data is NULL when there is none */
        const char *image_name;
        const char *initrd_name;
        const char *append; /* NULL when the user gave none */
        unsigned vcpus;
};

enum boot_mode {
        BOOT_PROTECTED, /* flat 32-bit segments, paging off */
        BOOT_LONG,      /* 64-bit, first 4 GiB mapped one to one */
};

/* State of the first CPU at entry; every register that is not named is zero. */
struct boot_entry {
        enum boot_mode mode;
        const char *format;
        uint64_t rip;
        uint64_t rax;
        uint64_t rbx;
        uint64_t rsi;
};

/* The reason for a refused image, for the user. */
struct boot_error {
        char text[256];
};

enum boot_region_type {
        BOOT_REGION_RAM = 1,
        BOOT_REGION_RESERVED = 2,
};

struct boot_region {
        uint64_t start;
        uint64_t size;
        enum boot_region_type type;
};

#define BOOT_MAX_REGIONS 5u

/* The boot GDT; Linux fixes these selectors (Documentation/x86/boot.rst, "32-bit boot protocol").
 */
#define BOOT_CS_SELECTOR 0x10u
#define BOOT_DS_SELECTOR 0x18u
#define BOOT_TSS_SELECTOR 0x20u

/* Whether [start, start + size) lies within [0, limit). */
static inline bool boot_span_fits(uint64_t start, uint64_t size, uint64_t limit) {
        return start <= limit && size <= limit - start;
}

static inline uint64_t boot_align_up(uint64_t v, uint64_t to) {
        return (v + to - 1) & ~(to - 1);
}

void boot_set_error(struct boot_error *reterr_error, const char *fmt, ...) _printf_(2, 3);
/* The error number stays in sight of the compiler, which then knows that it is negative. */
#define boot_fail(reterr_error, error, ...) (boot_set_error((reterr_error), __VA_ARGS__), (error))

bool boot_is_ram(const struct boot_ram *ram, uint64_t start, uint64_t size);
unsigned boot_memory_map(const struct boot_ram *ram, struct boot_region regions[BOOT_MAX_REGIONS]);
void boot_write_firmware(const struct boot_ram *ram, unsigned vcpus);

bool multiboot_probe(const struct boot_blob *image);
int multiboot_load(const struct boot_request *req, const struct boot_ram *ram,
                   struct boot_entry *ret_entry, struct boot_error *reterr_error);

bool linux_probe(const struct boot_blob *image);
int linux_load(const struct boot_request *req, const struct boot_ram *ram,
               struct boot_entry *ret_entry, struct boot_error *reterr_error);

int boot_load(const struct boot_request *req, const struct boot_ram *ram,
              struct boot_entry *ret_entry, struct boot_error *reterr_error);
