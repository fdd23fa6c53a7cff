/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtlrun's multiboot loader: what a sound image becomes in RAM, and that every broken one is
 * refused with its reason.
 */

#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vtlrun-image.h"

static void test_kludge(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        memset(f->ram.low + LOAD_ADDR, 0xcc, 3 * 4096);
        image_accept(f);
        assert_int_equal(f->entry.mode, BOOT_PROTECTED);
        assert_int_equal(f->entry.rip, LOAD_ADDR + 128);
        assert_int_equal(f->entry.rax, 0x2badb002);
        assert_memory_equal(f->ram.low + LOAD_ADDR, f->image, 4096);
        assert_int_equal(f->ram.low[LOAD_ADDR + 4096], 0);
        assert_int_equal(f->ram.low[LOAD_ADDR + 8191], 0);
        assert_int_equal(f->ram.low[LOAD_ADDR + 8192], 0xcc);
}

static void test_kludge_ranges(void **state) {
        struct fixture *f = *state;
        static const struct {
                unsigned field;
                uint32_t value;
                const char *words;
        } cases[] = {
                { H_LOAD_ADDR, LOAD_ADDR + 65, "load_addr" },
                { H_HEADER_ADDR, LOAD_ADDR + 65, "load_addr" },
                { H_HEADER_ADDR, UINT32_MAX, "load_addr" },
                { H_LOAD_END, LOAD_ADDR - 1, "load_end_addr" },
                { H_LOAD_END, LOAD_ADDR + 4097, "outside the file" },
                { H_LOAD_END, UINT32_MAX, "bss_end_addr" },
                { H_BSS_END, LOAD_ADDR + 4095, "bss_end_addr" },
                { H_BSS_END, 1, "bss_end_addr" },
                { H_BSS_END, RAM_SIZE + 1, "outside RAM" },
                { H_BSS_END, UINT32_MAX, "outside RAM" },
                { H_ENTRY, RAM_SIZE, "entry point" },
                { H_ENTRY, UINT32_MAX, "entry point" },
                { H_ENTRY, 0xa0000, "entry point" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                make_kludge(f);
                put32(f, 64 + cases[i].field, cases[i].value);
                image_refuse(f, cases[i].words);
        }
}

static void test_kludge_outside_ram(void **state) {
        struct fixture *f = *state;
        static const uint32_t addrs[] = { 0x9f001,         0xa0000,  0xff000,        0xfffff,
                                          RAM_SIZE - 4095, RAM_SIZE, UINT32_MAX - 64 };

        for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
                make_kludge(f);
                put32(f, 64 + H_LOAD_ADDR, addrs[i]);
                put32(f, 64 + H_HEADER_ADDR, addrs[i] + 64);
                put32(f, 64 + H_BSS_END, 0);
                image_refuse(f, "outside RAM");
        }
        /* The last place that is RAM, on both sides. */
        make_kludge(f);
        put32(f, 64 + H_LOAD_ADDR, RAM_SIZE - 4096);
        put32(f, 64 + H_HEADER_ADDR, RAM_SIZE - 4096 + 64);
        put32(f, 64 + H_BSS_END, 0);
        image_accept(f);
        put32(f, 64 + H_LOAD_ADDR, 0x9f000);
        put32(f, 64 + H_HEADER_ADDR, 0x9f000 + 64);
        image_accept(f);
}

static void test_header_search(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        put32(f, 64 + 8, 1);
        image_refuse(f, "neither a multiboot header");

        /* Not on a 4-byte boundary. */
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 66, 3);
        image_refuse(f, "neither a multiboot header");

        /* The last possible place, and the first impossible one. */
        memset(f->image, 0, IMAGE_MAX);
        f->size = 8192;
        put_header(f, 8192 - 12, 3);
        image_refuse(f, "ELF");
        f->size = 9000;
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 8192 - 8, 3);
        image_refuse(f, "neither a multiboot header");

        /* Address fields that do not lie in the searched part, or in the file. */
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 8192 - 12, ADDRESSES);
        image_refuse(f, "cut off");
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 0, ADDRESSES);
        f->size = 31;
        image_refuse(f, "cut off");
}

static void test_header_flags(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        put_header(f, 64, ADDRESSES | 4);
        image_refuse(f, "video mode");
        for (unsigned bit = 3; bit < 16; bit++) {
                make_kludge(f);
                put_header(f, 64, ADDRESSES | 1u << bit);
                image_refuse(f, "unknown features");
        }
        /* The upper half are hints. */
        make_kludge(f);
        put_header(f, 64, ADDRESSES | 0xfffe0000u);
        image_accept(f);
}

static void test_info(void **state) {
        struct fixture *f = *state;
        uint64_t info;

        make_kludge(f);
        f->req.append = "one two=3";
        f->req.initrd = (struct boot_blob){ (const uint8_t *) "module data", 11 };
        f->req.initrd_name = "initrd.img";
        f->ram.high_size = 1ull << 32;
        image_accept(f);

        info = f->entry.rbx;
        assert_int_equal(ram32(f, info), 1u << 0 | 1u << 2 | 1u << 3 | 1u << 6 | 1u << 9);
        assert_int_equal(ram32(f, info + 4), 639);
        assert_int_equal(ram32(f, info + 8), (RAM_SIZE >> 10) - 1024);
        assert_string_equal(ram_string(f, ram32(f, info + 16)), "kernel one two=3");
        assert_string_equal(ram_string(f, ram32(f, info + 64)), "vtlrun");

        assert_int_equal(ram32(f, info + 20), 1);
        uint64_t module = ram32(f, info + 24);
        assert_int_equal(ram32(f, module), LOAD_ADDR + 8192);
        assert_int_equal(ram32(f, module + 4), LOAD_ADDR + 8192 + 11);
        assert_memory_equal(f->ram.low + LOAD_ADDR + 8192, "module data", 11);
        assert_string_equal(ram_string(f, ram32(f, module + 8)), "initrd.img");

        /* The memory map: 24 bytes an entry, the last one above 4 GiB. */
        uint64_t map = ram32(f, info + 48), last = map + ram32(f, info + 44) - 24;
        assert_int_equal(ram32(f, info + 44), 5 * 24);
        assert_int_equal(ram32(f, map), 20);
        assert_int_equal(ram64(f, map + 4), 0);
        assert_int_equal(ram64(f, map + 12), 0x9fc00);
        assert_int_equal(ram32(f, map + 20), 1);
        assert_true(ram64(f, last + 4) == 1ull << 32);
        assert_true(ram64(f, last + 12) == 1ull << 32);
        assert_int_equal(ram32(f, last + 20), 1);
}

static void test_info_without_extras(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        image_accept(f);
        assert_int_equal(ram32(f, f->entry.rbx + 20), 0);
        assert_string_equal(ram_string(f, ram32(f, f->entry.rbx + 16)), "kernel");
        assert_int_equal(ram32(f, f->entry.rbx + 44), 4 * 24);
}

/* An image that fills base memory pushes the information behind its end. */
static void test_info_moves(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        put32(f, 64 + H_LOAD_ADDR, 0x8000);
        put32(f, 64 + H_HEADER_ADDR, 0x8000 + 64);
        put32(f, 64 + H_BSS_END, 0xa0000);
        put32(f, 64 + H_ENTRY, 0x8000);
        image_accept(f);
        assert_true(f->entry.rbx >= 0x100000);

        put32(f, 64 + H_BSS_END, 0x9000 + 100);
        image_accept(f);
        assert_true(f->entry.rbx >= 0x9000 + 100 && f->entry.rbx < 0x9fc00);
}

static void test_no_room(void **state) {
        struct fixture *f = *state;
        char *text = malloc(BOOT_MAX_TEXT + 2);

        assert_non_null(text);
        memset(text, 'a', BOOT_MAX_TEXT + 1);
        text[BOOT_MAX_TEXT + 1] = '\0';
        make_kludge(f);
        f->req.append = text;
        image_refuse(f, "command line");
        free(text);
        f->req.append = NULL;

        /* The initrd is one byte too large for what lies between the kernel and the end of RAM. */
        f->req.initrd.data = f->ram.low;
        f->req.initrd.size = RAM_SIZE - LOAD_ADDR - 8192 + 1;
        image_refuse(f, "no room in guest RAM for the initrd");
        f->req.initrd.size = UINT64_MAX;
        image_refuse(f, "no room in guest RAM for the initrd");
}

/* ---- ELF ---- */

struct elf_case {
        bool is_64;
        uint64_t entry, phoff, offset, vaddr, paddr, filesz, memsz;
        unsigned phnum, phentsize;
};

static const struct elf_case sound_32 = { false, LOAD_ADDR + 16, 52, 4096, LOAD_ADDR, LOAD_ADDR,
                                          100,   5000,           1,  32 };
static const struct elf_case sound_64 = { true, LOAD_ADDR + 16, 64, 4096, LOAD_ADDR, LOAD_ADDR,
                                          100,  5000,           1,  56 };

static void put_elf_64(struct fixture *f, const struct elf_case *c) {
        Elf64_Ehdr e = { .e_entry = c->entry,
                         .e_phoff = c->phoff,
                         .e_phnum = (Elf64_Half) c->phnum,
                         .e_phentsize = (Elf64_Half) c->phentsize };
        Elf64_Phdr p = { .p_type = PT_LOAD,
                         .p_offset = c->offset,
                         .p_vaddr = c->vaddr,
                         .p_paddr = c->paddr,
                         .p_filesz = c->filesz,
                         .p_memsz = c->memsz };

        memcpy(e.e_ident, ELFMAG, SELFMAG);
        e.e_ident[EI_CLASS] = ELFCLASS64;
        e.e_ident[EI_DATA] = ELFDATA2LSB;
        memcpy(f->image, &e, sizeof(e));
        memcpy(f->image + 64, &p, sizeof(p));
}

static void put_elf_32(struct fixture *f, const struct elf_case *c) {
        Elf32_Ehdr e = { .e_entry = (Elf32_Addr) c->entry,
                         .e_phoff = (Elf32_Off) c->phoff,
                         .e_phnum = (Elf32_Half) c->phnum,
                         .e_phentsize = (Elf32_Half) c->phentsize };
        Elf32_Phdr p = { .p_type = PT_LOAD,
                         .p_offset = (Elf32_Off) c->offset,
                         .p_vaddr = (Elf32_Addr) c->vaddr,
                         .p_paddr = (Elf32_Addr) c->paddr,
                         .p_filesz = (Elf32_Word) c->filesz,
                         .p_memsz = (Elf32_Word) c->memsz };

        memcpy(e.e_ident, ELFMAG, SELFMAG);
        e.e_ident[EI_CLASS] = ELFCLASS32;
        e.e_ident[EI_DATA] = ELFDATA2LSB;
        memcpy(f->image, &e, sizeof(e));
        memcpy(f->image + 52, &p, sizeof(p));
}

static void make_elf(struct fixture *f, const struct elf_case *c) {
        memset(f->image, 0, IMAGE_MAX);
        f->size = 4096 + 100;
        if (c->is_64)
                put_elf_64(f, c);
        else
                put_elf_32(f, c);
        put_header(f, 256, 3);
        memset(f->image + 4096, 0x5a, 100);
}

static void test_elf(void **state) {
        struct fixture *f = *state;
        const struct elf_case *cases[] = { &sound_32, &sound_64 };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                make_elf(f, cases[i]);
                memset(f->ram.low + LOAD_ADDR, 0xcc, 8192);
                image_accept(f);
                assert_int_equal(f->entry.mode, BOOT_PROTECTED);
                assert_int_equal(f->entry.rip, LOAD_ADDR + 16);
                assert_int_equal(f->ram.low[LOAD_ADDR], 0x5a);
                assert_int_equal(f->ram.low[LOAD_ADDR + 99], 0x5a);
                assert_int_equal(f->ram.low[LOAD_ADDR + 100], 0);
                assert_int_equal(f->ram.low[LOAD_ADDR + 4999], 0);
                assert_int_equal(f->ram.low[LOAD_ADDR + 5000], 0xcc);
        }
}

/* Linked high, loaded low: the entry point is translated. */
static void test_elf_virtual_entry(void **state) {
        struct fixture *f = *state;
        struct elf_case c = sound_64;

        c.vaddr = 0xffffffff80000000ull;
        c.entry = c.vaddr + 0x20;
        make_elf(f, &c);
        image_accept(f);
        assert_int_equal(f->entry.rip, LOAD_ADDR + 0x20);
}

static void refuse_elf(struct fixture *f, struct elf_case c, const char *words) {
        make_elf(f, &c);
        image_refuse(f, words);
}

#define WITH(base, member, value)               \
        ({                                      \
                struct elf_case with_ = (base); \
                with_.member = (value);         \
                with_;                          \
        })

static void test_elf_ranges(void **state) {
        struct fixture *f = *state;
        const struct elf_case *cases[] = { &sound_32, &sound_64 };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct elf_case c = *cases[i];

                refuse_elf(f, WITH(c, phnum, 0), "no program headers");
                refuse_elf(f, WITH(c, phnum, 0xffff), "program headers");
                refuse_elf(f, WITH(c, phentsize, c.phentsize - 1), "program header size");
                refuse_elf(f, WITH(c, phoff, 4196 - c.phentsize + 1), "outside the file");
                refuse_elf(f, WITH(c, phoff, UINT32_MAX - 8), "outside the file");
                refuse_elf(f, WITH(c, filesz, 5001), "do not fit");
                refuse_elf(f, WITH(c, filesz, 101), "outside the file");
                refuse_elf(f, WITH(c, offset, 4097), "outside the file");
                refuse_elf(f, WITH(c, offset, UINT32_MAX - 50), "outside the file");
                refuse_elf(f, WITH(c, paddr, 0xa0000), "outside RAM");
                refuse_elf(f, WITH(c, paddr, RAM_SIZE - 4999), "outside RAM");
                refuse_elf(f, WITH(c, paddr, UINT32_MAX - 50), "outside RAM");
                refuse_elf(f, WITH(c, memsz, RAM_SIZE), "outside RAM");
                refuse_elf(f, WITH(c, memsz, 0), "nothing to load");
                refuse_elf(f, WITH(c, entry, LOAD_ADDR + 5000), "entry point");
                refuse_elf(f, WITH(c, entry, LOAD_ADDR - 1), "entry point");
                refuse_elf(f, WITH(c, vaddr, LOAD_ADDR + 17), "entry point");
        }
}

/* Sums that only 64 bits can overflow. */
static void test_elf64_overflow(void **state) {
        struct fixture *f = *state;
        struct elf_case huge;

        refuse_elf(f, WITH(sound_64, phoff, UINT64_MAX), "outside the file");
        refuse_elf(f, WITH(sound_64, phoff, UINT64_MAX - 55), "outside the file");
        refuse_elf(f, WITH(sound_64, offset, UINT64_MAX - 99), "outside the file");
        refuse_elf(f, WITH(sound_64, offset, UINT64_MAX), "outside the file");
        refuse_elf(f, WITH(sound_64, paddr, UINT64_MAX - 4999), "outside RAM");
        refuse_elf(f, WITH(sound_64, paddr, UINT64_MAX), "outside RAM");
        refuse_elf(f, WITH(sound_64, memsz, UINT64_MAX), "outside RAM");
        refuse_elf(f, WITH(sound_64, memsz, UINT64_MAX - LOAD_ADDR + 1), "outside RAM");
        refuse_elf(f, WITH(sound_64, entry, UINT64_MAX), "entry point");
        huge = WITH(sound_64, filesz, UINT64_MAX);
        huge.memsz = UINT64_MAX;
        refuse_elf(f, huge, "outside the file");
}

static void test_elf_ident(void **state) {
        struct fixture *f = *state;

        make_elf(f, &sound_64);
        f->image[EI_DATA] = ELFDATA2MSB;
        image_refuse(f, "little-endian");
        make_elf(f, &sound_64);
        f->image[EI_CLASS] = 7;
        image_refuse(f, "class 7");
        make_elf(f, &sound_64);
        f->image[0] = 0;
        image_refuse(f, "needs an ELF file");
}

/* Cut anywhere, a sound image is either refused or still sound; sanitizers watch. */
static void test_truncated(void **state) {
        struct fixture *f = *state;
        const struct elf_case *cases[] = { &sound_32, &sound_64 };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                make_elf(f, cases[i]);
                for (size_t size = f->size - 1; size > 0; size--) {
                        f->size = size;
                        assert_true(image_load(f) < 0);
                        assert_true(f->error.text[0] != '\0');
                }
        }
        f->size = 0;
        image_refuse(f, "neither");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                IMAGE_TEST(test_kludge),
                IMAGE_TEST(test_kludge_ranges),
                IMAGE_TEST(test_kludge_outside_ram),
                IMAGE_TEST(test_header_search),
                IMAGE_TEST(test_header_flags),
                IMAGE_TEST(test_info),
                IMAGE_TEST(test_info_without_extras),
                IMAGE_TEST(test_info_moves),
                IMAGE_TEST(test_no_room),
                IMAGE_TEST(test_elf),
                IMAGE_TEST(test_elf_virtual_entry),
                IMAGE_TEST(test_elf_ranges),
                IMAGE_TEST(test_elf64_overflow),
                IMAGE_TEST(test_elf_ident),
                IMAGE_TEST(test_truncated),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("vtlrun-multiboot", tests, NULL, NULL);
}
