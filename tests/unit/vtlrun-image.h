/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * For the tests of vtlrun's loaders: an image under construction, the RAM it goes to, and what is
 * said about it.
 */

#include <stddef.h>
#include <stdint.h>

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

/* Fields of a multiboot header, from its start. */
enum {
        H_HEADER_ADDR = 12,
        H_LOAD_ADDR = 16,
        H_LOAD_END = 20,
        H_BSS_END = 24,
        H_ENTRY = 28,
};

#define IMAGE_TEST(function) cmocka_unit_test_setup_teardown(function, image_setup, image_teardown)

int image_setup(void **state);
int image_teardown(void **state);
int image_load(struct fixture *f);
void image_refuse(struct fixture *f, const char *words);
void image_accept(struct fixture *f);
void put16(struct fixture *f, size_t at, uint16_t v);
void put32(struct fixture *f, size_t at, uint32_t v);
void put64(struct fixture *f, size_t at, uint64_t v);
uint32_t ram32(const struct fixture *f, uint64_t at);
uint64_t ram64(const struct fixture *f, uint64_t at);
const char *ram_string(const struct fixture *f, uint64_t at);
void put_header(struct fixture *f, size_t at, uint32_t flags);
void make_kludge(struct fixture *f);
