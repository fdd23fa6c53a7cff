/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The measurement of a VTL1, and the log of what became of it. A measurement is the SHA-384 digest
 * of a canonical encoding of what VTL1 runs first:
 *
 *     the 24 bytes "vtld VTL1 measurement 1" and a NUL byte
 *     the initial context, as HvCallEnableVpVtl has it: MEASURE_CONTEXT_SIZE bytes
 *     for each page, by virtual address: its address (8 bytes), its flags (8 bytes,
 *     MEASURE_PAGE_*), and what it holds (4096 bytes)
 *
 * Numbers are little-endian. The log is a list of records; its digest is a chain: 48 zero bytes,
 * and then, for each record, the SHA-384 digest of the one before and the record's encoding:
 *
 *     event (4 bytes), VP (4), two numbers (8 each), digest (48)
 *
 * vtl-measurement(7) is the manual.
 */

#include <stddef.h>
#include <stdint.h>

#include "util/conf-file.h"
#include "util/string-table.h"

#define MEASURE_DIGEST_SIZE 48u
#define MEASURE_DIGEST_TEXT_SIZE (2 * MEASURE_DIGEST_SIZE + 1)
#define MEASURE_CONTEXT_SIZE 224u
#define MEASURE_PAGE_SIZE 4096u
#define MEASURE_RECORD_SIZE 72u
#define MEASURE_LOG_MAX 256u

#define MEASURE_PAGE_WRITABLE 0x1u
#define MEASURE_PAGE_USER 0x2u

/* ---- Digests ---- */

struct measure;

/* Return: 0 or a negative errno. */
int measure_new(struct measure **ret, char error[CONF_ERROR_SIZE]);
struct measure *measure_free(struct measure *m);

/* One measurement after the other: begin, pages, end. Return: 0, or -EIO when libcrypto fails. */
int measure_begin(struct measure *m, const uint8_t context[MEASURE_CONTEXT_SIZE]);
int measure_page(struct measure *m, uint64_t gva, uint32_t flags,
                 const uint8_t page[MEASURE_PAGE_SIZE]);
int measure_end(struct measure *m, uint8_t ret[MEASURE_DIGEST_SIZE]);

/* The digest of an initial context alone, for the log. Not between begin and end. */
int measure_context(struct measure *m, const uint8_t context[MEASURE_CONTEXT_SIZE],
                    uint8_t ret[MEASURE_DIGEST_SIZE]);

/* ---- The log ---- */

enum measure_event {
        MEASURE_PARTITION_ENABLED, /* data: VTL, flags of HvCallEnablePartitionVtl */
        MEASURE_VP_ENABLED,        /* data: VTL; digest: of the initial context */
        MEASURE_CONFIG,            /* data: HvRegisterVsmPartitionConfig */
        MEASURE_MEASURED,          /* data: bytes of pages; digest: the measurement */
        MEASURE_UNBOUNDED,         /* data: the limit, which VTL1 is beyond */
        MEASURE_REFUSED, /* data: bytes of pages, whether it was beyond the limit; digest */
        _MEASURE_EVENT_MAX,
};

extern const struct string_table measure_event_table;

struct measure_record {
        enum measure_event event;
        uint32_t vp;
        uint64_t data[2];
        uint8_t digest[MEASURE_DIGEST_SIZE]; /* zeroes: none */
};

struct measure_log {
        struct measure_record records[MEASURE_LOG_MAX];
        unsigned n;
        uint64_t lost; /* records that are not here, and not in the digest */
        uint8_t digest[MEASURE_DIGEST_SIZE];
};

/* A full log counts what it loses. Return: 0, or -EIO when libcrypto fails: nothing was added. */
int measure_log_add(struct measure *m, struct measure_log *log, const struct measure_record *r);

/* The digest of a log by its records. Return: 0 or -EIO. */
int measure_log_digest(struct measure *m, const struct measure_log *log,
                       uint8_t ret[MEASURE_DIGEST_SIZE]);
