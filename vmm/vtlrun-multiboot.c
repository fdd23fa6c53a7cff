/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Multiboot 1 images (Multiboot Specification 0.6.96): ELF32, ELF64 with a 32-bit entry point, and
 * any other format through the address fields of the header ("a.out kludge").
 */

#define _GNU_SOURCE

#include <elf.h>
#include <inttypes.h>
#include <stdio.h>

#include "vtlrun-boot.h"

#define HEADER_SEARCH 8192u
#define HEADER_MAGIC 0x1badb002u
#define HEADER_FLAG_VIDEO (1u << 2)
#define HEADER_FLAG_ADDRESSES (1u << 16)
#define HEADER_REQUIRED 0xffffu /* a loader must refuse what it does not know among these */
#define HEADER_KNOWN 0x3u       /* page-aligned modules, memory information: always given */

#define ENTRY_MAGIC 0x2badb002u

#define INFO_MEMORY (1u << 0)
#define INFO_CMDLINE (1u << 2)
#define INFO_MODULES (1u << 3)
#define INFO_MEMORY_MAP (1u << 6)
#define INFO_LOADER_NAME (1u << 9)

/* Where the information goes if the image leaves room there: above the BIOS data area and what
   real-mode code of other processors usually takes. */
#define INFO_LOW_ADDR 0x9000u
#define INFO_ALIGN 16u
#define MODULE_ALIGN 4096u

#define MAX_SEGMENTS 128u

static const char loader_name[] = "vtlrun";

struct mb_header {
        uint32_t magic;
        uint32_t flags;
        uint32_t checksum;
        uint32_t header_addr; /* from here on only with HEADER_FLAG_ADDRESSES */
        uint32_t load_addr;
        uint32_t load_end_addr;
        uint32_t bss_end_addr;
        uint32_t entry_addr;
};
#define HEADER_SHORT_SIZE 12u

struct mb_info {
        uint32_t flags;
        uint32_t mem_lower;
        uint32_t mem_upper;
        uint32_t boot_device;
        uint32_t cmdline;
        uint32_t mods_count;
        uint32_t mods_addr;
        uint32_t syms[4];
        uint32_t mmap_length;
        uint32_t mmap_addr;
        uint32_t drives_length;
        uint32_t drives_addr;
        uint32_t config_table;
        uint32_t boot_loader_name;
        uint32_t apm_table;
        uint32_t vbe[4];
};
_Static_assert(offsetof(struct mb_info, mmap_length) == 44, "multiboot information layout");
_Static_assert(offsetof(struct mb_info, boot_loader_name) == 64, "multiboot information layout");

struct mb_module {
        uint32_t start;
        uint32_t end;
        uint32_t string;
        uint32_t reserved;
};

struct mb_mmap {
        uint32_t size; /* of what follows */
        uint32_t addr_low;
        uint32_t addr_high;
        uint32_t len_low;
        uint32_t len_high;
        uint32_t type;
};
_Static_assert(sizeof(struct mb_mmap) == 24, "multiboot memory map entry");

/* Everything the guest finds through EBX, in the order it lies in memory; the strings follow. */
struct mb_block {
        struct mb_info info;
        uint32_t pad[2];
        struct mb_module module;
        struct mb_mmap map[BOOT_MAX_REGIONS];
};

/* What has been loaded so far. */
struct mb_layout {
        uint64_t low_end; /* highest end of what was loaded below 640 KiB */
        uint64_t end;     /* highest end of all */
        uint64_t entry;
};

/* Finds the header; @ret_header's address fields are zero unless they count and lie in the file. */
static int find_header(const struct boot_blob *image, struct mb_header *ret_header,
                       uint64_t *ret_offset) {
        uint64_t limit = MIN(image->size, (uint64_t) HEADER_SEARCH);

        for (uint64_t at = 0; boot_span_fits(at, HEADER_SHORT_SIZE, limit); at += 4) {
                struct mb_header h = { 0 };

                memcpy(&h, image->data + at, HEADER_SHORT_SIZE);
                if (h.magic != HEADER_MAGIC || (uint32_t) (h.magic + h.flags + h.checksum) != 0)
                        continue;
                if (h.flags & HEADER_FLAG_ADDRESSES) {
                        if (!boot_span_fits(at, sizeof(h), limit))
                                return -EINVAL;
                        memcpy(&h, image->data + at, sizeof(h));
                }
                *ret_header = h;
                *ret_offset = at;
                return 0;
        }
        return -ENOENT;
}

/**
 * multiboot_probe() - whether a file has a multiboot 1 header
 * @image: the file
 */
bool multiboot_probe(const struct boot_blob *image) {
        struct mb_header h;
        uint64_t offset;

        return find_header(image, &h, &offset) != -ENOENT;
}

/* One loaded piece: file bytes, then zeros up to @mem_size. */
static int load_piece(const struct boot_request *req, const struct boot_ram *ram, const char *what,
                      uint64_t offset, uint64_t file_size, uint64_t addr, uint64_t mem_size,
                      struct mb_layout *layout, struct boot_error *reterr_error) {
        uint64_t end;

        if (file_size > mem_size)
                return boot_fail(reterr_error, -EINVAL,
                                 "%s: %" PRIu64 " bytes in the file do not fit %" PRIu64
                                 " bytes of memory",
                                 what, file_size, mem_size);
        if (!boot_span_fits(offset, file_size, req->image.size))
                return boot_fail(reterr_error, -EINVAL,
                                 "%s: file range 0x%" PRIx64 "+0x%" PRIx64
                                 " lies outside the file (%" PRIu64 " bytes)",
                                 what, offset, file_size, req->image.size);
        if (!boot_is_ram(ram, addr, mem_size))
                return boot_fail(reterr_error, -EINVAL,
                                 "%s: load range 0x%" PRIx64 "+0x%" PRIx64 " lies outside RAM",
                                 what, addr, mem_size);

        end = addr + mem_size;
        memcpy(ram->low + addr, req->image.data + offset, file_size);
        memset(ram->low + addr + file_size, 0, mem_size - file_size);
        layout->end = MAX(layout->end, end);
        if (end <= BOOT_HOLE_START)
                layout->low_end = MAX(layout->low_end, end);
        return 0;
}

static int load_by_addresses(const struct boot_request *req, const struct boot_ram *ram,
                             const struct mb_header *h, uint64_t header_offset,
                             struct mb_layout *layout, struct boot_error *reterr_error) {
        uint64_t offset, file_size, mem_size;

        if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > header_offset)
                return boot_fail(reterr_error, -EINVAL,
                                 "multiboot header: load_addr 0x%" PRIx32
                                 " does not fit header_addr 0x%" PRIx32
                                 " and the header's place in the file (0x%" PRIx64 ")",
                                 h->load_addr, h->header_addr, header_offset);
        offset = header_offset - (h->header_addr - h->load_addr);

        /* load_end_addr 0: the rest of the file. bss_end_addr 0: no bss. */
        file_size = req->image.size - offset;
        if (h->load_end_addr != 0) {
                if (h->load_end_addr < h->load_addr)
                        return boot_fail(reterr_error, -EINVAL,
                                         "multiboot header: load_end_addr 0x%" PRIx32
                                         " lies before load_addr 0x%" PRIx32,
                                         h->load_end_addr, h->load_addr);
                file_size = h->load_end_addr - h->load_addr;
        }
        mem_size = file_size;
        if (h->bss_end_addr != 0) {
                if (h->bss_end_addr < h->load_addr || h->bss_end_addr - h->load_addr < file_size)
                        return boot_fail(reterr_error, -EINVAL,
                                         "multiboot header: bss_end_addr 0x%" PRIx32
                                         " lies before the end of the loaded data",
                                         h->bss_end_addr);
                mem_size = h->bss_end_addr - h->load_addr;
        }
        layout->entry = h->entry_addr;
        return load_piece(req, ram, "multiboot image", offset, file_size, h->load_addr, mem_size,
                          layout, reterr_error);
}

/* The parts of an ELF header and program header that count, widened. */
struct elf_info {
        uint64_t entry;
        uint64_t phoff;
        unsigned phnum;
        unsigned phentsize;
        bool is_64;
};

struct elf_segment {
        uint32_t type;
        uint64_t offset;
        uint64_t vaddr;
        uint64_t paddr;
        uint64_t filesz;
        uint64_t memsz;
};

static int read_elf_header(const struct boot_blob *image, struct elf_info *ret_info,
                           struct boot_error *reterr_error) {
        Elf32_Ehdr e32;
        Elf64_Ehdr e64;
        bool is_64;

        if (image->size < sizeof(e32) || memcmp(image->data, ELFMAG, SELFMAG) != 0)
                return boot_fail(reterr_error, -ENOEXEC,
                                 "a multiboot header without address fields needs an ELF file, "
                                 "which this is not");
        if (image->data[EI_DATA] != ELFDATA2LSB)
                return boot_fail(reterr_error, -ENOEXEC, "ELF file is not little-endian");

        is_64 = image->data[EI_CLASS] == ELFCLASS64;
        if (!is_64 && image->data[EI_CLASS] != ELFCLASS32)
                return boot_fail(reterr_error, -ENOEXEC, "ELF class %u is neither 32 nor 64 bit",
                                 image->data[EI_CLASS]);
        if (is_64 && image->size < sizeof(e64))
                return boot_fail(reterr_error, -EINVAL, "ELF header is truncated");

        if (is_64) {
                memcpy(&e64, image->data, sizeof(e64));
                *ret_info = (struct elf_info){ e64.e_entry, e64.e_phoff, e64.e_phnum,
                                               e64.e_phentsize, true };
        } else {
                memcpy(&e32, image->data, sizeof(e32));
                *ret_info = (struct elf_info){ e32.e_entry, e32.e_phoff, e32.e_phnum,
                                               e32.e_phentsize, false };
        }
        return 0;
}

static struct elf_segment read_elf_segment(const struct boot_blob *image,
                                           const struct elf_info *elf, unsigned i) {
        const uint8_t *at = image->data + elf->phoff + (uint64_t) i * elf->phentsize;

        if (elf->is_64) {
                Elf64_Phdr p;

                memcpy(&p, at, sizeof(p));
                return (struct elf_segment){ p.p_type,  p.p_offset, p.p_vaddr,
                                             p.p_paddr, p.p_filesz, p.p_memsz };
        } else {
                Elf32_Phdr p;

                memcpy(&p, at, sizeof(p));
                return (struct elf_segment){ p.p_type,  p.p_offset, p.p_vaddr,
                                             p.p_paddr, p.p_filesz, p.p_memsz };
        }
}

static int check_elf_segments(const struct boot_blob *image, const struct elf_info *elf,
                              struct boot_error *reterr_error) {
        size_t least = elf->is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

        if (elf->phnum == 0)
                return boot_fail(reterr_error, -ENOEXEC, "ELF file has no program headers");
        if (elf->phnum > MAX_SEGMENTS)
                return boot_fail(reterr_error, -EINVAL,
                                 "ELF file has %u program headers, at most %u are supported",
                                 elf->phnum, MAX_SEGMENTS);
        if (elf->phentsize < least)
                return boot_fail(reterr_error, -EINVAL,
                                 "ELF program header size %u is smaller than %zu", elf->phentsize,
                                 least);
        if (!boot_span_fits(elf->phoff, (uint64_t) elf->phnum * elf->phentsize, image->size))
                return boot_fail(reterr_error, -EINVAL,
                                 "ELF program headers lie outside the file (truncated image?)");
        return 0;
}

static int load_elf(const struct boot_request *req, const struct boot_ram *ram,
                    struct mb_layout *layout, struct boot_error *reterr_error) {
        struct elf_info elf;
        bool entry_found = false;
        int r;

        r = read_elf_header(&req->image, &elf, reterr_error);
        if (r < 0)
                return r;
        r = check_elf_segments(&req->image, &elf, reterr_error);
        if (r < 0)
                return r;

        for (unsigned i = 0; i < elf.phnum; i++) {
                struct elf_segment s = read_elf_segment(&req->image, &elf, i);
                char what[32];

                if (s.type != PT_LOAD || s.memsz == 0)
                        continue;
                (void) snprintf(what, sizeof(what), "ELF segment %u", i);
                r = load_piece(req, ram, what, s.offset, s.filesz, s.paddr, s.memsz, layout,
                               reterr_error);
                if (r < 0)
                        return r;

                /* The entry point is a virtual address; the CPU starts without paging. */
                if (!entry_found && elf.entry >= s.vaddr && elf.entry - s.vaddr < s.memsz) {
                        layout->entry = s.paddr + (elf.entry - s.vaddr);
                        entry_found = true;
                }
        }
        if (layout->end == 0)
                return boot_fail(reterr_error, -ENOEXEC, "ELF file has nothing to load");
        if (!entry_found)
                return boot_fail(reterr_error, -EINVAL,
                                 "ELF entry point 0x%" PRIx64 " lies in no loaded segment",
                                 elf.entry);
        return 0;
}

/* A free place of @size bytes: low if the image leaves room there, else behind it. */
static int place(const struct boot_ram *ram, const struct mb_layout *layout, uint64_t size,
                 uint64_t *ret_addr, struct boot_error *reterr_error) {
        uint64_t addr = boot_align_up(MAX(layout->low_end, (uint64_t) INFO_LOW_ADDR), INFO_ALIGN);

        if (!boot_span_fits(addr, size, BOOT_LOW_END))
                addr = boot_align_up(MAX(layout->end, (uint64_t) BOOT_HOLE_END), INFO_ALIGN);
        if (!boot_is_ram(ram, addr, size))
                return boot_fail(reterr_error, -ENOMEM,
                                 "no room in guest RAM for the multiboot information");
        *ret_addr = addr;
        return 0;
}

static int load_module(const struct boot_request *req, const struct boot_ram *ram,
                       struct mb_layout *layout, struct mb_module *module,
                       struct boot_error *reterr_error) {
        uint64_t addr = boot_align_up(MAX(layout->end, (uint64_t) BOOT_HOLE_END), MODULE_ALIGN);

        if (!boot_is_ram(ram, addr, req->initrd.size))
                return boot_fail(reterr_error, -ENOMEM,
                                 "no room in guest RAM for the initrd (%" PRIu64
                                 " bytes at 0x%" PRIx64 ")",
                                 req->initrd.size, addr);
        if (req->initrd.size > 0)
                memcpy(ram->low + addr, req->initrd.data, req->initrd.size);
        module->start = (uint32_t) addr;
        module->end = (uint32_t) (addr + req->initrd.size);
        layout->end = addr + req->initrd.size;
        return 0;
}

static void fill_memory(const struct boot_ram *ram, struct mb_block *block, uint64_t addr) {
        struct boot_region regions[BOOT_MAX_REGIONS];
        unsigned n = boot_memory_map(ram, regions);

        for (unsigned i = 0; i < n; i++)
                block->map[i] = (struct mb_mmap){
                        .size = sizeof(struct mb_mmap) - sizeof(uint32_t),
                        .addr_low = (uint32_t) regions[i].start,
                        .addr_high = (uint32_t) (regions[i].start >> 32),
                        .len_low = (uint32_t) regions[i].size,
                        .len_high = (uint32_t) (regions[i].size >> 32),
                        .type = regions[i].type,
                };
        block->info.flags |= INFO_MEMORY | INFO_MEMORY_MAP;
        block->info.mem_lower = BOOT_LOW_END >> 10;
        block->info.mem_upper = (uint32_t) ((ram->low_size - BOOT_HOLE_END) >> 10);
        block->info.mmap_addr = (uint32_t) (addr + offsetof(struct mb_block, map));
        block->info.mmap_length = n * (uint32_t) sizeof(struct mb_mmap);
}

/* Copies a string with its final zero to @at and returns the address behind it. */
static uint64_t put_string(const struct boot_ram *ram, uint64_t at, const char *s) {
        size_t n = strlen(s) + 1;

        memcpy(ram->low + at, s, n);
        return at + n;
}

static int write_info(const struct boot_request *req, const struct boot_ram *ram,
                      struct mb_layout *layout, uint64_t *ret_addr,
                      struct boot_error *reterr_error) {
        const char *name = req->image_name ?: "", *initrd_name = req->initrd_name ?: "";
        const char *append = req->append ?: "";
        struct mb_block block = { 0 };
        _cleanup_free_ char *cmdline = NULL;
        uint64_t addr, strings;
        int r;

        if (strlen(name) + strlen(append) > BOOT_MAX_TEXT || strlen(initrd_name) > BOOT_MAX_TEXT)
                return boot_fail(reterr_error, -E2BIG,
                                 "command line or file name longer than %u bytes", BOOT_MAX_TEXT);

        /* The first word is the program's name, as boot loaders do it and kernels expect it. */
        r = asprintf(&cmdline, "%s%s%s", name, append[0] ? " " : "", append);
        if (r < 0) {
                cmdline = NULL;
                return boot_fail(reterr_error, -ENOMEM, "out of memory");
        }

        if (req->initrd.data) {
                r = load_module(req, ram, layout, &block.module, reterr_error);
                if (r < 0)
                        return r;
        }
        r = place(ram, layout,
                  sizeof(block) + strlen(cmdline) + 1 + sizeof(loader_name) + strlen(initrd_name) +
                          1,
                  &addr, reterr_error);
        if (r < 0)
                return r;

        fill_memory(ram, &block, addr);
        strings = addr + sizeof(block);
        block.info.flags |= INFO_CMDLINE | INFO_LOADER_NAME;
        block.info.cmdline = (uint32_t) strings;
        strings = put_string(ram, strings, cmdline);
        block.info.boot_loader_name = (uint32_t) strings;
        strings = put_string(ram, strings, loader_name);
        block.info.flags |= INFO_MODULES;
        block.info.mods_addr = (uint32_t) (addr + offsetof(struct mb_block, module));
        if (req->initrd.data) {
                block.info.mods_count = 1;
                block.module.string = (uint32_t) strings;
                (void) put_string(ram, strings, initrd_name);
        }
        memcpy(ram->low + addr, &block, sizeof(block));
        *ret_addr = addr;
        return 0;
}

/**
 * multiboot_load() - load a multiboot 1 image
 * @req: the image, its modules (the initrd) and command line
 * @ram: guest RAM
 * @ret_entry: receives the state of the first CPU
 * @reterr_error: receives the reason of a failure
 *
 * Return: 0, or a negative errno.
 */
int multiboot_load(const struct boot_request *req, const struct boot_ram *ram,
                   struct boot_entry *ret_entry, struct boot_error *reterr_error) {
        struct mb_layout layout = { 0 };
        struct mb_header h;
        uint64_t offset, info;
        int r;

        r = find_header(&req->image, &h, &offset);
        if (r == -EINVAL)
                return boot_fail(reterr_error, r,
                                 "multiboot header's address fields are cut off by the end of the "
                                 "file or of the first %u bytes",
                                 HEADER_SEARCH);
        if (r < 0)
                return boot_fail(reterr_error, -ENOEXEC, "no multiboot header");
        if (h.flags & HEADER_FLAG_VIDEO)
                return boot_fail(reterr_error, -ENOTSUP,
                                 "multiboot header asks for a video mode, which this machine does "
                                 "not have");
        if (h.flags & HEADER_REQUIRED & ~HEADER_KNOWN)
                return boot_fail(reterr_error, -ENOTSUP,
                                 "multiboot header asks for unknown features (flags 0x%" PRIx32 ")",
                                 h.flags);

        if (h.flags & HEADER_FLAG_ADDRESSES)
                r = load_by_addresses(req, ram, &h, offset, &layout, reterr_error);
        else
                r = load_elf(req, ram, &layout, reterr_error);
        if (r < 0)
                return r;
        if (!boot_is_ram(ram, layout.entry, 1))
                return boot_fail(reterr_error, -EINVAL,
                                 "entry point 0x%" PRIx64 " lies outside RAM", layout.entry);

        r = write_info(req, ram, &layout, &info, reterr_error);
        if (r < 0)
                return r;
        *ret_entry = (struct boot_entry){
                .mode = BOOT_PROTECTED,
                .format = "multiboot",
                .rip = layout.entry,
                .rax = ENTRY_MAGIC,
                .rbx = info,
        };
        return 0;
}
