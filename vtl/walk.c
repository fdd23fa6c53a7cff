/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <string.h>

#include "vtl/walk.h"

#define CR0_WP (1ull << 16)
#define CR0_PG (1ull << 31)
#define CR4_PSE (1ull << 4)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define CR4_SMEP (1ull << 20)
#define CR4_SMAP (1ull << 21)
#define EFER_LMA (1ull << 10)
#define EFER_NXE (1ull << 11)

#define PTE_P (1ull << 0)
#define PTE_W (1ull << 1)
#define PTE_U (1ull << 2)
#define PTE_A (1ull << 5)
#define PTE_D (1ull << 6)
#define PTE_PS (1ull << 7)
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

_Static_assert(WALK_SETS_ACCESSED == PTE_A && WALK_SETS_DIRTY == PTE_D, "the bits of the entry");

/* What differs between the paging modes; levels are counted down to 1, the level of 4 KiB pages. */
struct mode {
        uint64_t root_mask; /* the address part of CR3 */
        uint8_t levels;
        uint8_t entry_size;
        uint8_t index_bits;
        uint8_t max_leaf; /* the highest level that may be a large page */
        bool pdpte;       /* the top level is the four PDPTEs: no rights, no accessed bit */
};

static const struct mode mode_32 = { 0xfffff000, 2, 4, 10, 2, false };
static const struct mode mode_32_no_pse = { 0xfffff000, 2, 4, 10, 1, false };
static const struct mode mode_pae = { 0xffffffe0, 3, 8, 9, 2, true };
static const struct mode mode_4level = { PTE_ADDR, 4, 8, 9, 3, false };
static const struct mode mode_5level = { PTE_ADDR, 5, 8, 9, 3, false };

static const struct mode *paging_mode(const struct kvm_sregs *sregs) {
        if (sregs->efer & EFER_LMA)
                return sregs->cr4 & CR4_LA57 ? &mode_5level : &mode_4level;
        if (sregs->cr4 & CR4_PAE)
                return &mode_pae;
        return sregs->cr4 & CR4_PSE ? &mode_32 : &mode_32_no_pse;
}

static bool canonical(uint64_t gva, unsigned bits) {
        int64_t top = (int64_t) gva >> (bits - 1);

        return top == 0 || top == -1;
}

/*
 * Reserved bits that do not depend on the width of physical addresses, which this walker does not
 * know.
 */
static bool reserved_bits(const struct mode *m, const struct kvm_sregs *sregs, unsigned level,
                          uint64_t pte) {
        bool large = level > 1 && (pte & PTE_PS);

        if (m->entry_size == 4)
                return large && m->max_leaf >= level && (pte & (1u << 21));
        /* Bit 5 of a PDPTE is reserved too, but QEMU's CPU sets it as if it were an accessed bit.
         */
        if (m->pdpte && level == 3)
                return pte & 0xfff00000000001c6ull;
        if ((pte & PTE_NX) && !(sregs->efer & EFER_NXE))
                return true;
        if (!large)
                return false;
        if (level > m->max_leaf)
                return true;
        /* Bit 12 of a large page is PAT; from 13 up to the size of the page all is reserved. */
        return pte & (level == 2 ? 0x1fe000ull : 0x3fffe000ull);
}

static bool permitted(const struct kvm_sregs *sregs, unsigned flags, uint64_t all, uint64_t any) {
        bool user_page = all & PTE_U, user = (flags & WALK_USER) && !(flags & WALK_IMPLICIT);

        if (user && !user_page)
                return false;
        if (flags & WALK_EXEC) {
                if (any & PTE_NX)
                        return false;
                return user || !user_page || !(sregs->cr4 & CR4_SMEP);
        }
        if (!user && user_page && (sregs->cr4 & CR4_SMAP) &&
            ((flags & WALK_IMPLICIT) || !(flags & WALK_AC)))
                return false;
        if ((flags & WALK_WRITE) && !(all & PTE_W))
                return !user && !(sregs->cr0 & CR0_WP);
        return true;
}

static uint64_t leaf_address(const struct mode *m, unsigned level, uint64_t pte, uint64_t gva,
                             uint64_t size) {
        uint64_t base = pte & PTE_ADDR & ~(size - 1);

        if (m->entry_size == 4 && level == 2)
                base = (pte & 0xffc00000) | (pte & 0x1fe000) << 19; /* PSE-36 */
        return base | (gva & (size - 1));
}

int walk(const struct walk_space *space, const struct kvm_sregs *sregs, uint64_t gva,
         unsigned flags, struct walk_result *ret) {
        const struct mode *m;
        uint64_t table, all = PTE_W | PTE_U, any = 0;
        unsigned level;
        int r;

        memset(ret, 0, sizeof(*ret));

        if (!(sregs->efer & EFER_LMA))
                gva &= 0xffffffff;
        if (!(sregs->cr0 & CR0_PG)) {
                ret->gpa = gva;
                ret->page_size = 4096;
                ret->accessed = ret->dirty = true;
                return 0;
        }

        m = paging_mode(sregs);
        if (m->levels >= 4 && !canonical(gva, m->levels == 5 ? 57 : 48)) {
                ret->fault = WALK_NOT_CANONICAL;
                return 0;
        }

        table = sregs->cr3 & m->root_mask;
        for (level = m->levels;; level--) {
                unsigned shift = 12 + (level - 1) * m->index_bits;
                uint64_t index = (gva >> shift) & ((1u << m->index_bits) - 1);
                struct walk_entry *e = &ret->entries[ret->n_entries++];
                bool pdpte = m->pdpte && level == 3;
                uint64_t pte = 0;

                e->gpa = table + index * m->entry_size;
                e->size = m->entry_size;
                r = space->read(space->userdata, e->gpa, &pte, m->entry_size);
                if (r == -EFAULT) {
                        ret->fault = WALK_NOT_RAM;
                        return 0;
                }
                if (r < 0)
                        return r;
                e->value = pte;

                if (!(pte & PTE_P)) {
                        ret->fault = WALK_NOT_PRESENT;
                        return 0;
                }
                if (reserved_bits(m, sregs, level, pte)) {
                        ret->fault = WALK_RESERVED;
                        return 0;
                }
                if (!pdpte) {
                        all &= pte;
                        any |= pte;
                        e->sets = pte & PTE_A ? 0 : WALK_SETS_ACCESSED;
                }
                if (level == 1 || (!pdpte && level <= m->max_leaf && (pte & PTE_PS))) {
                        ret->page_size = 1ull << shift;
                        ret->gpa = leaf_address(m, level, pte, gva, ret->page_size);
                        ret->accessed = pte & PTE_A;
                        ret->dirty = pte & PTE_D;
                        if ((flags & WALK_WRITE) && !ret->dirty)
                                e->sets |= WALK_SETS_DIRTY;
                        break;
                }
                table = pte & PTE_ADDR;
        }

        /* NX of an entry without EFER.NXE was a reserved bit above; 4-byte entries have none. */
        if (!permitted(sregs, flags, all, any))
                ret->fault = WALK_PERMISSION;
        return 0;
}

/* ---- All of it ---- */

#define TABLE_SIZE 4096u

struct leaves {
        const struct walk_space *space;
        const struct kvm_sregs *sregs;
        const struct mode *mode;
        uint64_t tables_left;
        walk_leaf_fn *fn;
        void *userdata;
};

/* What the entries above one, and it itself, say together */
struct rights {
        uint64_t all, any;
};

static uint64_t sign_extend(const struct mode *m, uint64_t gva) {
        unsigned bits = 12 + m->levels * m->index_bits;

        return m->levels >= 4 && (gva >> (bits - 1) & 1) ? gva | UINT64_MAX << bits : gva;
}

static int visit_table(struct leaves *w, unsigned level, uint64_t table, uint64_t gva,
                       struct rights above);

static int visit_entry(struct leaves *w, unsigned level, uint64_t pte, uint64_t gva,
                       struct rights r) {
        const struct mode *m = w->mode;
        bool pdpte = m->pdpte && level == 3;
        struct walk_leaf leaf;

        if (!(pte & PTE_P) || reserved_bits(m, w->sregs, level, pte))
                return 0;
        if (!pdpte) {
                r.all &= pte;
                r.any |= pte;
        }
        /* As in walk(): NX without EFER.NXE was a reserved bit, and 4-byte entries have none. */
        if (r.any & PTE_NX)
                return 0;
        if (level > 1 && (pdpte || level > m->max_leaf || !(pte & PTE_PS)))
                return visit_table(w, level - 1, pte & PTE_ADDR, gva, r);
        leaf = (struct walk_leaf){
                .gva = sign_extend(m, gva),
                .size = 1ull << (12 + (level - 1) * m->index_bits),
                .writable = r.all & PTE_W,
                .user = r.all & PTE_U,
        };
        leaf.gpa = leaf_address(m, level, pte, 0, leaf.size);
        return w->fn(w->userdata, &leaf);
}

static int visit_table(struct leaves *w, unsigned level, uint64_t table, uint64_t gva,
                       struct rights above) {
        const struct mode *m = w->mode;
        unsigned shift = 12 + (level - 1) * m->index_bits;
        uint64_t n = m->pdpte && level == 3 ? 4 : 1ull << m->index_bits;
        uint8_t entries[TABLE_SIZE];
        int r;

        if (w->tables_left == 0)
                return -E2BIG;
        w->tables_left--;
        r = w->space->read(w->space->userdata, table, entries, (uint32_t) (n * m->entry_size));
        if (r == -EFAULT)
                return 0;
        for (uint64_t i = 0; i < n && r == 0; i++) {
                uint64_t pte = 0;

                memcpy(&pte, entries + i * m->entry_size, m->entry_size);
                r = visit_entry(w, level, pte, gva | i << shift, above);
        }
        return r;
}

int walk_executable(const struct walk_space *space, const struct kvm_sregs *sregs,
                    uint64_t tables_max, walk_leaf_fn *fn, void *userdata) {
        const struct rights top = { .all = PTE_W | PTE_U };
        struct leaves w = {
                .space = space,
                .sregs = sregs,
                .tables_left = tables_max,
                .fn = fn,
                .userdata = userdata,
        };

        if (!(sregs->cr0 & CR0_PG))
                return fn(userdata, &(struct walk_leaf){
                                            .size = 1ull << 32, .writable = true, .user = true });
        w.mode = paging_mode(sregs);
        return visit_table(&w, w.mode->levels, sregs->cr3 & w.mode->root_mask, 0, top);
}
