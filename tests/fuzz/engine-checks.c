/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>

#include "tests/fuzz/engine-checks.h"
#include "tests/unit/tiny-guest.h"
#include "util/util.h"
#include "vtl/memory.h"
#include "vtl/strict.h"

/* The comparisons of the checks are not for the fuzzer to learn from. */
#ifdef __clang__
#define NO_COVERAGE __attribute__((no_sanitize("coverage")))
#else
#define NO_COVERAGE
#endif

/* The low byte says which one it is. */
#define SECRET 0x00005ec7e7c0de00ull

NO_COVERAGE bool engine_is_secret(uint64_t v) {
        return v >> 8 == SECRET >> 8;
}

/* VTL0 does not make them up either. */
NO_COVERAGE uint64_t engine_harmless(uint64_t v) {
        return engine_is_secret(v) ? 0 : v;
}

static const uint8_t *closed_page(void) {
        static uint64_t page[HV_PAGE_SIZE / 8];

        if (page[0] != SECRET)
                for (unsigned i = 0; i < ARRAY_SIZE(page); i++)
                        page[i] = SECRET;
        return (const uint8_t *) page;
}

void engine_hide_secrets(struct fx *f) {
        struct model_vcpu *c = fx_plane(f, 0, 1);
        static const uint32_t msrs[] = { 0x174,      0x175,      0x176,      0xc0000081,
                                         0xc0000082, 0xc0000083, 0xc0000102, 0xc0000103 };

        memcpy(f->ram + CLOSED, closed_page(), HV_PAGE_SIZE);
        memset(f->ram + READ_ONLY, 0x77, HV_PAGE_SIZE);
        c->regs.rsp = SECRET | 1;
        c->sregs.fs.base = SECRET | 2;
        c->sregs.gs.base = SECRET | 3;
        c->sregs.idt.base = SECRET | 4;
        c->sregs.gdt.base = SECRET | 5;
        for (unsigned i = 0; i < ARRAY_SIZE(msrs); i++)
                plane_model_msr(c, msrs[i])->value = SECRET | (0x10 + i);
}

NO_COVERAGE void engine_check_registers(const struct model_vcpu *c) {
        const __u64 *gpr = (const __u64 *) &c->regs;
        const uint64_t *fpu = (const uint64_t *) (const void *) &c->xsave;
        const uint64_t others[] = { c->sregs.cr2,     c->sregs.cr3,      c->sregs.fs.base,
                                    c->sregs.gs.base, c->sregs.idt.base, c->sregs.gdt.base };

        for (unsigned i = 0; i < 18; i++) /* RIP and RFLAGS too */
                MUST(!engine_is_secret(gpr[i]));
        for (unsigned i = 20; i < 52; i++)
                MUST(!engine_is_secret(fpu[i]));
        for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
                MUST(!engine_is_secret(others[i]));
        for (unsigned i = 0; i < 4; i++)
                MUST(!engine_is_secret(c->debugregs.db[i]));
        for (unsigned i = 0; i < MODEL_MSRS; i++)
                MUST(!engine_is_secret(c->msrs[i].value));
}

NO_COVERAGE static void check_page(const uint8_t *page) {
        for (unsigned i = 0; i < HV_PAGE_SIZE; i += 8) {
                uint64_t v;

                memcpy(&v, page + i, 8);
                MUST(!engine_is_secret(v));
        }
}

/*
 * Which pages of the private mapping have been written: present, and no longer the file's. All,
 * when the kernel does not tell.
 */
NO_COVERAGE static void written_pages(const uint8_t *ram, bool ret[TINY_PAGES]) {
        static int fd = -1;
        uint64_t entries[TINY_PAGES];
        off_t at = (off_t) ((uintptr_t) ram / HV_PAGE_SIZE * sizeof(entries[0]));

        if (fd < 0)
                fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (pread(fd, entries, sizeof(entries), at) != (ssize_t) sizeof(entries))
                memset(entries, 0xff, sizeof(entries));
        for (unsigned i = 0; i < TINY_PAGES; i++)
                ret[i] =
                        entries[i] == UINT64_MAX || ((entries[i] >> 62) && !(entries[i] >> 61 & 1));
}

NO_COVERAGE void engine_check_memory(const struct fx *f) {
        bool written[TINY_PAGES];

        written_pages(f->ram, written);
        for (unsigned i = 0; i < TINY_PAGES; i++)
                if (written[i] && i != CLOSED >> HV_PAGE_SHIFT)
                        check_page(f->ram + (size_t) i * HV_PAGE_SIZE);
        for (uint32_t page = 0; page < vtl_overlay_pages(2); page += 2) /* even ones are VTL0's */
                check_page(f->overlay + (size_t) page * HV_PAGE_SIZE);
}

NO_COVERAGE void engine_check_closed(const struct fx *f) {
        unsigned read_only = plane_model_rights(f->model, 0, READ_ONLY >> HV_PAGE_SHIFT);

        MUST(plane_model_rights(f->model, 0, CLOSED >> HV_PAGE_SHIFT) == 0);
        /* In strict mode it is not even that, but for who is let through. */
        MUST(read_only == 0 || read_only == HV_MAP_GPA_READABLE);
        MUST(f->p->holder ||
             (read_only == 0) == vtl_strict_covers(f->p, READ_ONLY >> HV_PAGE_SHIFT));
        MUST(!(vtl_memory_rights(f->p, 0, CLOSED >> HV_PAGE_SHIFT) &
               (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE)));
        MUST(!(vtl_memory_rights(f->p, 0, READ_ONLY >> HV_PAGE_SHIFT) & HV_MAP_GPA_WRITABLE));
        MUST(memcmp(f->ram + CLOSED, closed_page(), HV_PAGE_SIZE) == 0);
        MUST(f->ram[READ_ONLY] == 0x77);
        MUST(memcmp(f->ram + READ_ONLY, f->ram + READ_ONLY + 1, HV_PAGE_SIZE - 1) == 0);
}

/* Views and engine agree on every page. */
NO_COVERAGE void engine_check_views(const struct fx *f) {
        for (size_t r = 0; r < f->model->n_regions; r++)
                for (uint64_t i = 0; i < f->model->regions[r].size >> HV_PAGE_SHIFT; i++)
                        for (unsigned plane = 0; plane < PLANE_MAX; plane++) {
                                uint64_t gpn = (f->model->regions[r].gpa >> HV_PAGE_SHIFT) + i;
                                unsigned want = vtl_memory_rights(f->p, plane, gpn) &
                                                (HV_MAP_GPA_READABLE | HV_MAP_GPA_WRITABLE);

                                if (plane == 0 && vtl_strict_covers(f->p, gpn))
                                        want = 0;
                                MUST(plane_model_rights(f->model, plane, gpn) == want);
                        }
}
