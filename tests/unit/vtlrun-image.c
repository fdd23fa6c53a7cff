/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "vtlrun-image.h"

int image_setup(void **state) {
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

int image_teardown(void **state) {
        struct fixture *f = *state;

        (void) munmap(f->ram.low, RAM_SIZE);
        free(f);
        return 0;
}

/* Loads a copy that is exactly as large as the image, so that sanitizers see every byte read beyond
   it. */
int image_load(struct fixture *f) {
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
void image_refuse(struct fixture *f, const char *words) {
        int r = image_load(f);

        assert_true(r < 0);
        if (!strstr(f->error.text, words))
                fail_msg("'%s' is not in the message '%s'", words, f->error.text);
}

void image_accept(struct fixture *f) {
        int r = image_load(f);

        if (r != 0)
                fail_msg("refused: %s", f->error.text);
}

void put16(struct fixture *f, size_t at, uint16_t v) {
        memcpy(f->image + at, &v, sizeof(v));
}

void put32(struct fixture *f, size_t at, uint32_t v) {
        memcpy(f->image + at, &v, sizeof(v));
}

void put64(struct fixture *f, size_t at, uint64_t v) {
        memcpy(f->image + at, &v, sizeof(v));
}

uint32_t ram32(const struct fixture *f, uint64_t at) {
        uint32_t v;

        memcpy(&v, f->ram.low + at, sizeof(v));
        return v;
}

uint64_t ram64(const struct fixture *f, uint64_t at) {
        uint64_t v;

        memcpy(&v, f->ram.low + at, sizeof(v));
        return v;
}

const char *ram_string(const struct fixture *f, uint64_t at) {
        return (const char *) f->ram.low + at;
}

void put_header(struct fixture *f, size_t at, uint32_t flags) {
        put32(f, at, HEADER_MAGIC);
        put32(f, at + 4, flags);
        put32(f, at + 8, -(HEADER_MAGIC + flags));
}

/* 4096 bytes of 0x90, the header at 64, loaded at LOAD_ADDR. */
void make_kludge(struct fixture *f) {
        f->size = 4096;
        memset(f->image, 0x90, f->size);
        put_header(f, 64, ADDRESSES | 3);
        put32(f, 64 + H_HEADER_ADDR, LOAD_ADDR + 64);
        put32(f, 64 + H_LOAD_ADDR, LOAD_ADDR);
        put32(f, 64 + H_LOAD_END, 0);
        put32(f, 64 + H_BSS_END, LOAD_ADDR + 8192);
        put32(f, 64 + H_ENTRY, LOAD_ADDR + 128);
}
