/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Linux bzImage, boot protocol 2.06 and later (Documentation/arch/x86/boot.rst). The real-mode part
 * is not run: the kernel is entered at its 64-bit entry point where it has one, at its 32-bit entry
 * point otherwise.
 */

#include <inttypes.h>

#include "vtlrun-boot.h"

#define SECTOR 512u
#define HEADER_START 0x1f1u
#define HEADER_END_MAX 0x290u /* the zero page has other things from here on */
#define MINIMUM_SIZE 0x260u

#define BOOT_FLAG 0xaa55u
#define HEADER_SIGNATURE 0x53726448u /* "HdrS" */
#define VERSION_MIN 0x0206u
#define VERSION_PREF_ADDRESS 0x020au
#define VERSION_XLOADFLAGS 0x020cu

#define LOADED_HIGH 0x01u
#define XLF_KERNEL_64 0x0001u
#define LOADER_UNREGISTERED 0xffu
#define VIDEO_NORMAL 0xffffu
#define ENTRY64_OFFSET 0x200u

#define ZERO_PAGE_ADDR 0x10000u
#define ZERO_PAGE_SIZE 4096u
#define CMDLINE_ADDR 0x20000u
#define KERNEL_ADDR 0x100000u
#define INITRD_ALIGN 4096u

#define E820_COUNT 0x1e8u
#define E820_TABLE 0x2d0u

/* The only console of this machine, for who gives no command line. */
#define DEFAULT_CMDLINE "console=ttyS0"

/* Offsets of the setup header's fields, in the file and in the zero page alike. */
enum {
        F_SETUP_SECTS = 0x1f1,
        F_SYSSIZE = 0x1f4,
        F_VID_MODE = 0x1fa,
        F_BOOT_FLAG = 0x1fe,
        F_JUMP_LENGTH = 0x201,
        F_SIGNATURE = 0x202,
        F_VERSION = 0x206,
        F_TYPE_OF_LOADER = 0x210,
        F_LOADFLAGS = 0x211,
        F_CODE32_START = 0x214,
        F_RAMDISK_IMAGE = 0x218,
        F_RAMDISK_SIZE = 0x21c,
        F_CMD_LINE_PTR = 0x228,
        F_INITRD_ADDR_MAX = 0x22c,
        F_KERNEL_ALIGNMENT = 0x230,
        F_RELOCATABLE = 0x234,
        F_XLOADFLAGS = 0x236,
        F_CMDLINE_SIZE = 0x238,
        F_PREF_ADDRESS = 0x258,
        F_INIT_SIZE = 0x260,
};

struct e820_entry {
        uint64_t start;
        uint64_t size;
        uint32_t type;
} __attribute__((packed));
_Static_assert(sizeof(struct e820_entry) == 20, "e820 entry");

/* What the loader takes from the setup header, checked. */
struct linux_header {
        uint64_t kernel_offset; /* of the protected-mode part in the file */
        uint64_t kernel_size;
        uint64_t load_addr;
        uint64_t run_end; /* no byte below this may be used for anything else */
        uint64_t initrd_max;
        uint32_t header_end;
        uint32_t cmdline_max;
        bool entry64;
};

static uint64_t get(const uint8_t *base, size_t offset, size_t size) {
        uint64_t v = 0;

        memcpy(&v, base + offset, size);
        return v;
}

static void put(uint8_t *base, size_t offset, size_t size, uint64_t v) {
        memcpy(base + offset, &v, size);
}

/**
 * linux_probe() - whether a file is a Linux kernel with a setup header
 * @image: the file
 */
bool linux_probe(const struct boot_blob *image) {
        return image->size >= F_VERSION + 2 && get(image->data, F_BOOT_FLAG, 2) == BOOT_FLAG &&
               get(image->data, F_SIGNATURE, 4) == HEADER_SIGNATURE;
}

/* The memory that the kernel runs in: from where it is loaded to the end of what it needs before it
   reads the memory map. A relocatable kernel moves itself to its preferred address, or to the next
   aligned one. */
static int check_run_range(const struct boot_blob *image, const struct boot_ram *ram,
                           unsigned version, struct linux_header *h,
                           struct boot_error *reterr_error) {
        uint64_t start = h->load_addr, need = h->kernel_size;

        if (version >= VERSION_PREF_ADDRESS) {
                uint64_t align = get(image->data, F_KERNEL_ALIGNMENT, 4);
                uint64_t preferred = get(image->data, F_PREF_ADDRESS, 8);

                if (align == 0 || !is_aligned(align, align))
                        return boot_fail(reterr_error, -EINVAL,
                                         "kernel_alignment 0x%" PRIx64 " is not a power of two",
                                         align);
                if (get(image->data, F_RELOCATABLE, 1))
                        start = boot_align_up(h->load_addr, align);
                start = MAX(start, preferred);
                need = MAX(need, get(image->data, F_INIT_SIZE, 4));
        }
        if (!boot_is_ram(ram, start, need) || !boot_is_ram(ram, h->load_addr, h->kernel_size))
                return boot_fail(reterr_error, -ENOMEM,
                                 "kernel needs RAM at 0x%" PRIx64 "+0x%" PRIx64
                                 ", the guest has %" PRIu64 " MiB below 4 GiB",
                                 start, need, ram->low_size >> 20);
        h->run_end = MAX(start + need, h->load_addr + h->kernel_size);
        return 0;
}

static int read_header(const struct boot_blob *image, const struct boot_ram *ram,
                       struct linux_header *h, struct boot_error *reterr_error) {
        const uint8_t *d = image->data;
        unsigned version, setup_sects;
        uint64_t declared;

        if (image->size < MINIMUM_SIZE)
                return boot_fail(reterr_error, -EINVAL, "Linux setup header is truncated");
        version = (unsigned) get(d, F_VERSION, 2);
        if (version < VERSION_MIN)
                return boot_fail(reterr_error, -ENOTSUP,
                                 "Linux boot protocol %u.%02u is too old, 2.06 is needed",
                                 version >> 8, version & 0xff);
        if (version >= VERSION_PREF_ADDRESS && image->size < F_INIT_SIZE + 4)
                return boot_fail(reterr_error, -EINVAL, "Linux setup header is truncated");
        if (!(d[F_LOADFLAGS] & LOADED_HIGH))
                return boot_fail(reterr_error, -ENOTSUP,
                                 "a zImage (loaded below 1 MiB) is not supported, only bzImage");

        setup_sects = d[F_SETUP_SECTS] ?: 4;
        h->kernel_offset = (uint64_t) (setup_sects + 1) * SECTOR;
        if (h->kernel_offset >= image->size)
                return boot_fail(reterr_error, -EINVAL,
                                 "kernel image is truncated: %u setup sectors, but only %" PRIu64
                                 " bytes",
                                 setup_sects, image->size);
        h->kernel_size = image->size - h->kernel_offset;

        /* Signatures may follow the kernel in the file, so more than syssize is not an error. */
        declared = get(d, F_SYSSIZE, 4) * 16;
        if (declared > boot_align_up(h->kernel_size, 16))
                return boot_fail(reterr_error, -EINVAL,
                                 "kernel image is truncated: %" PRIu64 " bytes after the setup "
                                 "code, %" PRIu64 " declared",
                                 h->kernel_size, declared);
        if (declared > 0)
                h->kernel_size = MIN(declared, h->kernel_size);

        h->header_end = MIN((uint32_t) F_SIGNATURE + d[F_JUMP_LENGTH], HEADER_END_MAX);
        h->header_end = (uint32_t) MIN((uint64_t) h->header_end, image->size);
        h->cmdline_max = (uint32_t) get(d, F_CMDLINE_SIZE, 4);
        h->initrd_max = get(d, F_INITRD_ADDR_MAX, 4);
        h->entry64 =
                version >= VERSION_XLOADFLAGS && (get(d, F_XLOADFLAGS, 2) & XLF_KERNEL_64) != 0;
        if (h->entry64 && h->kernel_size <= ENTRY64_OFFSET)
                return boot_fail(reterr_error, -EINVAL,
                                 "kernel of %" PRIu64 " bytes has no 64-bit entry point",
                                 h->kernel_size);

        h->load_addr = KERNEL_ADDR;
        return check_run_range(image, ram, version, h, reterr_error);
}

/* The initrd goes as high as the kernel and the RAM allow. */
static int load_initrd(const struct boot_request *req, const struct boot_ram *ram,
                       const struct linux_header *h, uint8_t *zero_page,
                       struct boot_error *reterr_error) {
        uint64_t top = MIN(ram->low_size, h->initrd_max + 1), addr;

        if (!req->initrd.data || req->initrd.size == 0)
                return 0;
        if (req->initrd.size > top)
                return boot_fail(reterr_error, -ENOMEM,
                                 "initrd of %" PRIu64 " bytes does not fit in guest RAM",
                                 req->initrd.size);
        addr = (top - req->initrd.size) & ~(uint64_t) (INITRD_ALIGN - 1);
        if (addr < h->run_end || !boot_is_ram(ram, addr, req->initrd.size))
                return boot_fail(reterr_error, -ENOMEM,
                                 "no room for the initrd (%" PRIu64
                                 " bytes) between the kernel's end 0x%" PRIx64 " and 0x%" PRIx64,
                                 req->initrd.size, h->run_end, top);
        memcpy(ram->low + addr, req->initrd.data, req->initrd.size);
        put(zero_page, F_RAMDISK_IMAGE, 4, addr);
        put(zero_page, F_RAMDISK_SIZE, 4, req->initrd.size);
        return 0;
}

static int load_cmdline(const struct boot_request *req, const struct boot_ram *ram,
                        const struct linux_header *h, uint8_t *zero_page,
                        struct boot_error *reterr_error) {
        const char *text = req->append ?: DEFAULT_CMDLINE;
        size_t n = strlen(text);

        if (n > h->cmdline_max || n > BOOT_MAX_TEXT)
                return boot_fail(reterr_error, -E2BIG,
                                 "command line of %zu bytes is longer than the %u that the kernel "
                                 "takes",
                                 n, MIN(h->cmdline_max, BOOT_MAX_TEXT));
        memcpy(ram->low + CMDLINE_ADDR, text, n + 1);
        put(zero_page, F_CMD_LINE_PTR, 4, CMDLINE_ADDR);
        return 0;
}

static void write_e820(const struct boot_ram *ram, uint8_t *zero_page) {
        struct boot_region regions[BOOT_MAX_REGIONS];
        unsigned n = boot_memory_map(ram, regions);

        for (unsigned i = 0; i < n; i++) {
                struct e820_entry e = { regions[i].start, regions[i].size, regions[i].type };

                memcpy(zero_page + E820_TABLE + i * sizeof(e), &e, sizeof(e));
        }
        zero_page[E820_COUNT] = (uint8_t) n;
}

/**
 * linux_load() - load a Linux bzImage
 * @req: the image, its initrd and command line
 * @ram: guest RAM
 * @ret_entry: receives the state of the first CPU
 * @reterr_error: receives the reason of a failure
 *
 * Return: 0, or a negative errno.
 */
int linux_load(const struct boot_request *req, const struct boot_ram *ram,
               struct boot_entry *ret_entry, struct boot_error *reterr_error) {
        uint8_t *zero_page = ram->low + ZERO_PAGE_ADDR;
        struct linux_header h = { 0 };
        int r;

        r = read_header(&req->image, ram, &h, reterr_error);
        if (r < 0)
                return r;

        memset(zero_page, 0, ZERO_PAGE_SIZE);
        if (h.header_end > HEADER_START)
                memcpy(zero_page + HEADER_START, req->image.data + HEADER_START,
                       h.header_end - HEADER_START);
        put(zero_page, F_TYPE_OF_LOADER, 1, LOADER_UNREGISTERED);
        put(zero_page, F_VID_MODE, 2, VIDEO_NORMAL);
        put(zero_page, F_CODE32_START, 4, h.load_addr);
        put(zero_page, F_RAMDISK_IMAGE, 4, 0);
        put(zero_page, F_RAMDISK_SIZE, 4, 0);
        write_e820(ram, zero_page);

        r = load_cmdline(req, ram, &h, zero_page, reterr_error);
        if (r < 0)
                return r;
        r = load_initrd(req, ram, &h, zero_page, reterr_error);
        if (r < 0)
                return r;
        memcpy(ram->low + h.load_addr, req->image.data + h.kernel_offset, h.kernel_size);

        *ret_entry = (struct boot_entry){
                .mode = h.entry64 ? BOOT_LONG : BOOT_PROTECTED,
                .format = h.entry64 ? "Linux (64-bit entry)" : "Linux (32-bit entry)",
                .rip = h.load_addr + (h.entry64 ? ENTRY64_OFFSET : 0),
                .rsi = ZERO_PAGE_ADDR,
        };
        return 0;
}
