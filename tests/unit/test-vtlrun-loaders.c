/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtlrun's Linux loader, and what images of all kinds get: firmware tables, boot GDT, page tables.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vtlrun-image.h"

/* ---- Linux ---- */

#define KERNEL_OFFSET (5 * 512)
#define KERNEL_SIZE 4096u

/* Protocol 2.15, four setup sectors, both entry points, relocatable. */
static void make_linux(struct fixture *f) {
        memset(f->image, 0, IMAGE_MAX);
        f->size = KERNEL_OFFSET + KERNEL_SIZE;
        memset(f->image + KERNEL_OFFSET, 0x77, KERNEL_SIZE);
        f->image[0x1f1] = 4;
        put32(f, 0x1f4, KERNEL_SIZE / 16);
        put16(f, 0x1fe, 0xaa55);
        f->image[0x200] = 0xeb;
        f->image[0x201] = 0x6a;
        memcpy(f->image + 0x202, "HdrS", 4);
        put16(f, 0x206, 0x020f);
        f->image[0x211] = 1;
        put32(f, 0x214, 0x100000);
        put32(f, 0x218, 0xdeadbeef); /* a loader must not keep these two */
        put32(f, 0x21c, 0xdeadbeef);
        put32(f, 0x22c, 0x7fffffff);
        put32(f, 0x230, 0x200000);
        f->image[0x234] = 1;
        put16(f, 0x236, 1);
        put32(f, 0x238, 2047);
        put64(f, 0x258, 0x1000000);
        put32(f, 0x260, 0x800000);
}

static void test_linux(void **state) {
        struct fixture *f = *state;
        uint64_t zero_page;

        make_linux(f);
        f->req.append = "console=ttyS0 quiet";
        f->req.initrd = (struct boot_blob){ (const uint8_t *) "initrd", 6 };
        image_accept(f);
        assert_int_equal(f->entry.mode, BOOT_LONG);
        assert_int_equal(f->entry.rip, 0x100200);
        assert_memory_equal(f->ram.low + 0x100000, f->image + KERNEL_OFFSET, KERNEL_SIZE);

        zero_page = f->entry.rsi;
        assert_int_equal(f->ram.low[zero_page + 0x210], 0xff);
        assert_memory_equal(f->ram.low + zero_page + 0x202, "HdrS", 4);
        assert_string_equal(ram_string(f, ram32(f, zero_page + 0x228)), "console=ttyS0 quiet");
        assert_int_equal(ram32(f, zero_page + 0x218), RAM_SIZE - 4096);
        assert_int_equal(ram32(f, zero_page + 0x21c), 6);
        assert_memory_equal(f->ram.low + RAM_SIZE - 4096, "initrd", 6);
        assert_int_equal(f->ram.low[zero_page + 0x1e8], 4);
        assert_int_equal(ram64(f, zero_page + 0x2d0 + 3 * 20), 0x100000);
        assert_int_equal(ram64(f, zero_page + 0x2d0 + 3 * 20 + 8), RAM_SIZE - 0x100000);
}

static void test_linux_32(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        put16(f, 0x236, 0);
        image_accept(f);
        assert_int_equal(f->entry.mode, BOOT_PROTECTED);
        assert_int_equal(f->entry.rip, 0x100000);
        /* No initrd, no command line of the user's: neither are the file's. */
        assert_int_equal(ram32(f, f->entry.rsi + 0x218), 0);
        assert_int_equal(ram32(f, f->entry.rsi + 0x21c), 0);
        assert_string_equal(ram_string(f, ram32(f, f->entry.rsi + 0x228)), "console=ttyS0");
}

static void test_linux_header(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        put16(f, 0x206, 0x0205);
        image_refuse(f, "2.05 is too old");
        make_linux(f);
        f->image[0x211] = 0;
        image_refuse(f, "zImage");
        make_linux(f);
        f->image[0x1f1] = 255;
        image_refuse(f, "setup sectors");
        make_linux(f);
        put32(f, 0x1f4, KERNEL_SIZE / 16 + 1);
        image_refuse(f, "truncated");
        make_linux(f);
        put32(f, 0x1f4, UINT32_MAX);
        image_refuse(f, "truncated");
        make_linux(f);
        f->size = KERNEL_OFFSET + 0x200;
        put32(f, 0x1f4, 0);
        image_refuse(f, "64-bit entry");
        make_linux(f);
        f->size = 0x25f;
        image_refuse(f, "truncated");
        make_linux(f);
        f->size = 0x261;
        image_refuse(f, "truncated");
}

static void test_linux_memory(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        put32(f, 0x230, 0);
        image_refuse(f, "power of two");
        make_linux(f);
        put32(f, 0x230, 0x300000);
        image_refuse(f, "power of two");
        make_linux(f);
        put32(f, 0x230, 0x80000000);
        image_refuse(f, "kernel needs RAM");
        make_linux(f);
        put64(f, 0x258, UINT64_MAX);
        image_refuse(f, "kernel needs RAM");
        make_linux(f);
        put64(f, 0x258, UINT64_MAX - 0x800000 + 1);
        image_refuse(f, "kernel needs RAM");
        make_linux(f);
        put32(f, 0x260, RAM_SIZE - 0x1000000 + 1);
        image_refuse(f, "kernel needs RAM");
        make_linux(f);
        put32(f, 0x260, RAM_SIZE - 0x1000000);
        image_accept(f);
}

static void test_linux_initrd(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        f->req.initrd = (struct boot_blob){ f->ram.low, 4096 };

        /* As high as the kernel says. */
        put32(f, 0x22c, 0x37fffff);
        image_accept(f);
        assert_int_equal(ram32(f, f->entry.rsi + 0x218), 0x37ff000);

        /* Not into what the kernel needs to unpack itself, nor below it. */
        put32(f, 0x22c, 0x1800fff);
        image_accept(f);
        assert_int_equal(ram32(f, f->entry.rsi + 0x218), 0x1800000);
        put32(f, 0x22c, 0x1800ffe);
        image_refuse(f, "no room for the initrd");
        put32(f, 0x22c, 0);
        image_refuse(f, "does not fit");
        put32(f, 0x22c, UINT32_MAX);
        f->req.initrd.size = RAM_SIZE + 1;
        image_refuse(f, "does not fit");
        f->req.initrd.size = UINT64_MAX;
        image_refuse(f, "does not fit");
}

static void test_linux_cmdline(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        put32(f, 0x238, 5);
        f->req.append = "12345";
        image_accept(f);
        f->req.append = "123456";
        image_refuse(f, "command line");
        put32(f, 0x238, 0);
        image_refuse(f, "command line");
}

/* The header's own length may reach neither past the file nor over the memory map. */
static void test_linux_header_length(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        memset(f->image + 0x264, 0xee, KERNEL_OFFSET - 0x264);
        f->image[0x201] = 0xff;
        image_accept(f);
        assert_int_equal(f->ram.low[f->entry.rsi + 0x28f], 0xee);
        assert_int_equal(f->ram.low[f->entry.rsi + 0x290], 0);
        assert_int_equal(f->ram.low[f->entry.rsi + 0x1e8], 4);
}

/* ---- What all images get ---- */

static uint8_t sum(const uint8_t *p, size_t n) {
        uint8_t s = 0;

        while (n-- > 0)
                s = (uint8_t) (s + *p++);
        return s;
}

static void test_mp_table(void **state) {
        struct fixture *f = *state;
        const uint8_t *pointer = f->ram.low + BOOT_MPTABLE_ADDR, *table;
        uint16_t length, entries;

        make_kludge(f);
        f->req.vcpus = BOOT_MAX_VCPUS;
        image_accept(f);
        assert_memory_equal(pointer, "_MP_", 4);
        assert_int_equal(sum(pointer, 16), 0);
        table = f->ram.low + ram32(f, BOOT_MPTABLE_ADDR + 4);
        memcpy(&length, table + 4, 2);
        memcpy(&entries, table + 34, 2);
        assert_memory_equal(table, "PCMP", 4);
        assert_int_equal(sum(table, length), 0);
        /* Processors, one bus, one I/O APIC, 15 ISA interrupts, two local ones. */
        assert_int_equal(entries, BOOT_MAX_VCPUS + 1 + 1 + 15 + 2);
        assert_int_equal(length, 44 + BOOT_MAX_VCPUS * 20 + 19 * 8);
        assert_true(BOOT_MPTABLE_ADDR + 16 + length <= BOOT_PAGE_TABLE_ADDR);
        /* The last processor: APIC id 63, enabled, not the boot processor. */
        assert_int_equal(table[44 + 63 * 20 + 1], 63);
        assert_int_equal(table[44 + 63 * 20 + 3], 1);
        assert_int_equal(table[44 + 3], 3);
}

static void test_page_tables(void **state) {
        struct fixture *f = *state;
        uint64_t pdpt, pd;

        make_linux(f);
        image_accept(f);
        pdpt = ram64(f, BOOT_PAGE_TABLE_ADDR) & ~0xfffull;
        pd = ram64(f, pdpt + 3 * 8) & ~0xfffull;
        assert_true(ram64(f, pd + 511 * 8) == (0xffe00000ull | 0x83));
        assert_true(pd + 4096 <= BOOT_GDT_ADDR);
        assert_true(ram64(f, BOOT_GDT_ADDR + BOOT_CS_SELECTOR) == 0x00af9b000000ffffull);
}

static void test_request(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        f->req.vcpus = 0;
        image_refuse(f, "0 processors");
        f->req.vcpus = BOOT_MAX_VCPUS + 1;
        image_refuse(f, "65 processors");
        f->req.vcpus = 1;
        f->ram.low_size = BOOT_MIN_RAM - 1;
        image_refuse(f, "guest RAM");
        f->ram.low_size = BOOT_RAM_BELOW_4G + 1;
        image_refuse(f, "guest RAM");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                IMAGE_TEST(test_linux),
                IMAGE_TEST(test_linux_32),
                IMAGE_TEST(test_linux_header),
                IMAGE_TEST(test_linux_memory),
                IMAGE_TEST(test_linux_initrd),
                IMAGE_TEST(test_linux_cmdline),
                IMAGE_TEST(test_linux_header_length),
                IMAGE_TEST(test_mp_table),
                IMAGE_TEST(test_page_tables),
                IMAGE_TEST(test_request),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("vtlrun-loaders", tests, NULL, NULL);
}
