/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * vtlrun's image loaders: what a sound image becomes in RAM, and that every broken one is refused with its reason.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/vtlrun-boot.h"

#define RAM_SIZE (64ull << 20)
#define IMAGE_MAX 32768u
#define HEADER_MAGIC 0x1badb002u
#define ADDRESSES (1u << 16)
#define LOAD_ADDR 0x400000u

/* An image under construction and what came of loading it. */
struct fixture {
        uint8_t image[IMAGE_MAX];
        size_t size;
        struct boot_ram ram;
        struct boot_request req;
        struct boot_entry entry;
        struct boot_error error;
};

static int setup(void **state) {
        struct fixture *f = calloc(1, sizeof(*f));

        if (!f)
                return -1;
        f->ram.low =
                mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (f->ram.low == MAP_FAILED) {
                free(f);
                return -1;
        }
        f->ram.low_size = RAM_SIZE;
        f->req.image_name = "kernel";
        f->req.vcpus = 1;
        *state = f;
        return 0;
}

static int teardown(void **state) {
        struct fixture *f = *state;

        (void) munmap(f->ram.low, RAM_SIZE);
        free(f);
        return 0;
}

/* Loads a copy that is exactly as large as the image, so that sanitizers see every byte read beyond it. */
static int load(struct fixture *f) {
        uint8_t *copy = malloc(f->size ? f->size : 1);
        int r;

        assert_non_null(copy);
        memcpy(copy, f->image, f->size);
        f->req.image = (struct boot_blob){ copy, f->size };
        memset(&f->error, 0, sizeof(f->error));
        r = boot_load(&f->req, &f->ram, &f->entry, &f->error);
        free(copy);
        return r;
}

/* The load fails, and the message has @words in it. */
static void refuse(struct fixture *f, const char *words) {
        int r = load(f);

        assert_true(r < 0);
        if (!strstr(f->error.text, words))
                fail_msg("'%s' is not in the message '%s'", words, f->error.text);
}

static void accept(struct fixture *f) {
        int r = load(f);

        if (r != 0)
                fail_msg("refused: %s", f->error.text);
}

static void put16(struct fixture *f, size_t at, uint16_t v) {
        memcpy(f->image + at, &v, sizeof(v));
}

static void put32(struct fixture *f, size_t at, uint32_t v) {
        memcpy(f->image + at, &v, sizeof(v));
}

static void put64(struct fixture *f, size_t at, uint64_t v) {
        memcpy(f->image + at, &v, sizeof(v));
}

static uint32_t ram32(const struct fixture *f, uint64_t at) {
        uint32_t v;

        memcpy(&v, f->ram.low + at, sizeof(v));
        return v;
}

static uint64_t ram64(const struct fixture *f, uint64_t at) {
        uint64_t v;

        memcpy(&v, f->ram.low + at, sizeof(v));
        return v;
}

static const char *ram_string(const struct fixture *f, uint64_t at) {
        return (const char *) f->ram.low + at;
}

/* ---- Multiboot ---- */

static void put_header(struct fixture *f, size_t at, uint32_t flags) {
        put32(f, at, HEADER_MAGIC);
        put32(f, at + 4, flags);
        put32(f, at + 8, -(HEADER_MAGIC + flags));
}

enum {
        H_HEADER_ADDR = 12,
        H_LOAD_ADDR = 16,
        H_LOAD_END = 20,
        H_BSS_END = 24,
        H_ENTRY = 28,
};

/* 4096 bytes of 0x90, the header at 64, loaded at LOAD_ADDR. */
static void make_kludge(struct fixture *f) {
        f->size = 4096;
        memset(f->image, 0x90, f->size);
        put_header(f, 64, ADDRESSES | 3);
        put32(f, 64 + H_HEADER_ADDR, LOAD_ADDR + 64);
        put32(f, 64 + H_LOAD_ADDR, LOAD_ADDR);
        put32(f, 64 + H_LOAD_END, 0);
        put32(f, 64 + H_BSS_END, LOAD_ADDR + 8192);
        put32(f, 64 + H_ENTRY, LOAD_ADDR + 128);
}

static void test_kludge(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        memset(f->ram.low + LOAD_ADDR, 0xcc, 3 * 4096);
        accept(f);
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
                refuse(f, cases[i].words);
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
                refuse(f, "outside RAM");
        }
        /* The last place that is RAM, on both sides. */
        make_kludge(f);
        put32(f, 64 + H_LOAD_ADDR, RAM_SIZE - 4096);
        put32(f, 64 + H_HEADER_ADDR, RAM_SIZE - 4096 + 64);
        put32(f, 64 + H_BSS_END, 0);
        accept(f);
        put32(f, 64 + H_LOAD_ADDR, 0x9f000);
        put32(f, 64 + H_HEADER_ADDR, 0x9f000 + 64);
        accept(f);
}

static void test_header_search(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        put32(f, 64 + 8, 1);
        refuse(f, "neither a multiboot header");

        /* Not on a 4-byte boundary. */
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 66, 3);
        refuse(f, "neither a multiboot header");

        /* The last possible place, and the first impossible one. */
        memset(f->image, 0, IMAGE_MAX);
        f->size = 8192;
        put_header(f, 8192 - 12, 3);
        refuse(f, "ELF");
        f->size = 9000;
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 8192 - 8, 3);
        refuse(f, "neither a multiboot header");

        /* Address fields that do not lie in the searched part, or in the file. */
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 8192 - 12, ADDRESSES);
        refuse(f, "cut off");
        memset(f->image, 0, IMAGE_MAX);
        put_header(f, 0, ADDRESSES);
        f->size = 31;
        refuse(f, "cut off");
}

static void test_header_flags(void **state) {
        struct fixture *f = *state;

        make_kludge(f);
        put_header(f, 64, ADDRESSES | 4);
        refuse(f, "video mode");
        for (unsigned bit = 3; bit < 16; bit++) {
                make_kludge(f);
                put_header(f, 64, ADDRESSES | 1u << bit);
                refuse(f, "unknown features");
        }
        /* The upper half are hints. */
        make_kludge(f);
        put_header(f, 64, ADDRESSES | 0xfffe0000u);
        accept(f);
}

static void test_info(void **state) {
        struct fixture *f = *state;
        uint64_t info;

        make_kludge(f);
        f->req.append = "one two=3";
        f->req.initrd = (struct boot_blob){ (const uint8_t *) "module data", 11 };
        f->req.initrd_name = "initrd.img";
        f->ram.high_size = 1ull << 32;
        accept(f);

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
        accept(f);
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
        accept(f);
        assert_true(f->entry.rbx >= 0x100000);

        put32(f, 64 + H_BSS_END, 0x9000 + 100);
        accept(f);
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
        refuse(f, "command line");
        free(text);
        f->req.append = NULL;

        /* The initrd is one byte too large for what lies between the kernel and the end of RAM. */
        f->req.initrd.data = f->ram.low;
        f->req.initrd.size = RAM_SIZE - LOAD_ADDR - 8192 + 1;
        refuse(f, "no room in guest RAM for the initrd");
        f->req.initrd.size = UINT64_MAX;
        refuse(f, "no room in guest RAM for the initrd");
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
                accept(f);
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
        accept(f);
        assert_int_equal(f->entry.rip, LOAD_ADDR + 0x20);
}

static void refuse_elf(struct fixture *f, struct elf_case c, const char *words) {
        make_elf(f, &c);
        refuse(f, words);
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
        refuse(f, "little-endian");
        make_elf(f, &sound_64);
        f->image[EI_CLASS] = 7;
        refuse(f, "class 7");
        make_elf(f, &sound_64);
        f->image[0] = 0;
        refuse(f, "needs an ELF file");
}

/* Cut anywhere, a sound image is either refused or still sound; sanitizers watch. */
static void test_truncated(void **state) {
        struct fixture *f = *state;
        const struct elf_case *cases[] = { &sound_32, &sound_64 };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                make_elf(f, cases[i]);
                for (size_t size = f->size - 1; size > 0; size--) {
                        f->size = size;
                        assert_true(load(f) < 0);
                        assert_true(f->error.text[0] != '\0');
                }
        }
        f->size = 0;
        refuse(f, "neither");
}

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
        accept(f);
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
        accept(f);
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
        refuse(f, "2.05 is too old");
        make_linux(f);
        f->image[0x211] = 0;
        refuse(f, "zImage");
        make_linux(f);
        f->image[0x1f1] = 255;
        refuse(f, "setup sectors");
        make_linux(f);
        put32(f, 0x1f4, KERNEL_SIZE / 16 + 1);
        refuse(f, "truncated");
        make_linux(f);
        put32(f, 0x1f4, UINT32_MAX);
        refuse(f, "truncated");
        make_linux(f);
        f->size = KERNEL_OFFSET + 0x200;
        put32(f, 0x1f4, 0);
        refuse(f, "64-bit entry");
        make_linux(f);
        f->size = 0x25f;
        refuse(f, "truncated");
        make_linux(f);
        f->size = 0x261;
        refuse(f, "truncated");
}

static void test_linux_memory(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        put32(f, 0x230, 0);
        refuse(f, "power of two");
        make_linux(f);
        put32(f, 0x230, 0x300000);
        refuse(f, "power of two");
        make_linux(f);
        put32(f, 0x230, 0x80000000);
        refuse(f, "kernel needs RAM");
        make_linux(f);
        put64(f, 0x258, UINT64_MAX);
        refuse(f, "kernel needs RAM");
        make_linux(f);
        put64(f, 0x258, UINT64_MAX - 0x800000 + 1);
        refuse(f, "kernel needs RAM");
        make_linux(f);
        put32(f, 0x260, RAM_SIZE - 0x1000000 + 1);
        refuse(f, "kernel needs RAM");
        make_linux(f);
        put32(f, 0x260, RAM_SIZE - 0x1000000);
        accept(f);
}

static void test_linux_initrd(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        f->req.initrd = (struct boot_blob){ f->ram.low, 4096 };

        /* As high as the kernel says. */
        put32(f, 0x22c, 0x37fffff);
        accept(f);
        assert_int_equal(ram32(f, f->entry.rsi + 0x218), 0x37ff000);

        /* Not into what the kernel needs to unpack itself, nor below it. */
        put32(f, 0x22c, 0x1800fff);
        accept(f);
        assert_int_equal(ram32(f, f->entry.rsi + 0x218), 0x1800000);
        put32(f, 0x22c, 0x1800ffe);
        refuse(f, "no room for the initrd");
        put32(f, 0x22c, 0);
        refuse(f, "does not fit");
        put32(f, 0x22c, UINT32_MAX);
        f->req.initrd.size = RAM_SIZE + 1;
        refuse(f, "does not fit");
        f->req.initrd.size = UINT64_MAX;
        refuse(f, "does not fit");
}

static void test_linux_cmdline(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        put32(f, 0x238, 5);
        f->req.append = "12345";
        accept(f);
        f->req.append = "123456";
        refuse(f, "command line");
        put32(f, 0x238, 0);
        refuse(f, "command line");
}

/* The header's own length may reach neither past the file nor over the memory map. */
static void test_linux_header_length(void **state) {
        struct fixture *f = *state;

        make_linux(f);
        memset(f->image + 0x264, 0xee, KERNEL_OFFSET - 0x264);
        f->image[0x201] = 0xff;
        accept(f);
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
        accept(f);
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
        accept(f);
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
        refuse(f, "0 processors");
        f->req.vcpus = BOOT_MAX_VCPUS + 1;
        refuse(f, "65 processors");
        f->req.vcpus = 1;
        f->ram.low_size = BOOT_MIN_RAM - 1;
        refuse(f, "guest RAM");
        f->ram.low_size = BOOT_RAM_BELOW_4G + 1;
        refuse(f, "guest RAM");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(test_kludge),
                TEST(test_kludge_ranges),
                TEST(test_kludge_outside_ram),
                TEST(test_header_search),
                TEST(test_header_flags),
                TEST(test_info),
                TEST(test_info_without_extras),
                TEST(test_info_moves),
                TEST(test_no_room),
                TEST(test_elf),
                TEST(test_elf_virtual_entry),
                TEST(test_elf_ranges),
                TEST(test_elf64_overflow),
                TEST(test_elf_ident),
                TEST(test_truncated),
                TEST(test_linux),
                TEST(test_linux_32),
                TEST(test_linux_header),
                TEST(test_linux_memory),
                TEST(test_linux_initrd),
                TEST(test_linux_cmdline),
                TEST(test_linux_header_length),
                TEST(test_mp_table),
                TEST(test_page_tables),
                TEST(test_request),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("vtlrun-loaders", tests, NULL, NULL);
}
