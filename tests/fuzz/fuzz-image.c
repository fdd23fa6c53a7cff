/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Fuzz target: vtlrun's image loaders. The first bytes of the input choose what goes with the
 * image, the rest is the image. RAM is followed by a page that cannot be accessed, and what a
 * loader says is checked against what it did.
 */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/vtlrun-boot.h"

#define RAM_SIZE (8ull << 20)
#define PAGE 4096u
#define MAX_WORDS 4096u

/* What precedes the image; the size keeps the image's own fields aligned in the corpus. */
struct seed {
        uint8_t vcpus;
        uint8_t append; /* length of the command line in units of 16 bytes, 255: none */
        uint16_t initrd_pages;
        uint8_t high;
        uint8_t reserved[3];
};
_Static_assert(sizeof(struct seed) == 8, "seed");

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *make_ram(void) {
        uint8_t *p = mmap(NULL, RAM_SIZE + PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED || mprotect(p + RAM_SIZE, PAGE, PROT_NONE) < 0)
                abort();
        return p;
}

static void check_entry(const struct boot_ram *ram, const struct boot_entry *entry) {
        uint64_t block = entry->rbx ? entry->rbx : entry->rsi;

        if (!boot_is_ram(ram, entry->rip, 1))
                abort();
        if (block < 0x1000 || !boot_is_ram(ram, block, 64))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct boot_error error = { 0 };
        struct boot_entry entry;
        struct boot_ram ram = { .low_size = RAM_SIZE };
        struct boot_request req = { .image_name = "image" };
        struct seed seed;
        char append[MAX_WORDS];
        uint8_t *initrd = NULL;
        int r;

        if (size < sizeof(seed))
                return 0;
        memcpy(&seed, data, sizeof(seed));

        ram.low = make_ram();
        ram.high_size = (uint64_t) seed.high << 30;
        req.vcpus = seed.vcpus;
        req.image = (struct boot_blob){ data + sizeof(seed), size - sizeof(seed) };
        if (seed.append != 255) {
                memset(append, 'a', sizeof(append));
                append[seed.append * 16u] = '\0';
                req.append = append;
        }
        if (seed.initrd_pages) {
                initrd = calloc(seed.initrd_pages, PAGE);
                req.initrd = (struct boot_blob){ initrd, initrd ? seed.initrd_pages * PAGE : 0 };
        }

        r = boot_load(&req, &ram, &entry, &error);
        if (r == 0)
                check_entry(&ram, &entry);
        else if (error.text[0] == '\0')
                abort();

        free(initrd);
        (void) munmap(ram.low, RAM_SIZE + PAGE);
        return 0;
}
