/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Saved state as a row of sections: each says what it is, of which version, which instance, and how
 * long. What reads one can tell a foreign, a newer and a damaged one apart. Numbers are
 * little-endian, sections begin at multiples of 8.
 */

#include <stddef.h>
#include <stdint.h>

#define BLOB_ID(a, b, c, d) \
        ((uint32_t) (a) | (uint32_t) (b) << 8 | (uint32_t) (c) << 16 | (uint32_t) (d) << 24)
#define BLOB_END BLOB_ID('E', 'N', 'D', ' ') /* the last one, empty */

struct blob_section {
        uint32_t id;
        uint32_t version;
        uint32_t index; /* VP, page or the like */
        uint32_t reserved;
        uint64_t size; /* of what follows, without what fills it up to a multiple of 8 */
};
_Static_assert(sizeof(struct blob_section) == 24, "file format");

/* In memory, growing. An error stays: only blob_finish() has to be asked. */
struct blob {
        uint8_t *data;
        size_t size;
        size_t room;
        size_t open; /* where the open section begins, SIZE_MAX: none */
        int error;
};

#define BLOB_EMPTY \
        { .open = SIZE_MAX }

void blob_free(struct blob *b);
/* The 8 bytes that it begins with */
void blob_begin(struct blob *b, uint64_t magic);
void blob_open(struct blob *b, uint32_t id, uint32_t version, uint32_t index);
void blob_put(struct blob *b, const void *data, size_t n);
void blob_close(struct blob *b);
/* Writes the end. Return: 0 or -ENOMEM. */
int blob_finish(struct blob *b);

struct blob_reader {
        const uint8_t *data;
        size_t size;
        size_t at;
};

/* Return: 0; -EBADMSG when it does not begin with @magic. */
int blob_read(struct blob_reader *r, const void *data, size_t size, uint64_t magic);

/**
 * blob_next() - the next section
 * @ret: its head
 * @ret_data: what is in it, in the reader's memory
 *
 * Return: 1; 0 at the end, behind which there is nothing; -EBADMSG.
 */
int blob_next(struct blob_reader *r, struct blob_section *ret, const uint8_t **ret_data);

/* Whether a section's head can be one. */
int blob_check_head(const struct blob_section *s);
static inline uint64_t blob_padding(uint64_t size) {
        return -size & 7;
}
