/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A walker of the guest's own page tables: no paging, 32-bit, PAE, 4-level and 5-level, as the CPU
 * of the VP would walk them now. It never writes, so it says which accessed and dirty bits the CPU
 * would have to set.
 */

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

/**
 * struct walk_space - memory as one VTL sees it @read: copies guest physical memory, rights
 * ignored; -EFAULT when the range is not RAM, another negative errno when the host failed. The
 * range never crosses a page. @rights: HV_MAP_GPA_* of a page for that VTL; HV_MAP_GPA_ALL when it
 * is not RAM @no_execute: whether the VTL is kept from executing a page; NULL when it may execute
 * what it reads @userdata: handed to all
 */
struct walk_space {
        int (*read)(void *userdata, uint64_t gpa, void *buf, uint32_t len);
        unsigned (*rights)(void *userdata, uint64_t gpn);
        bool (*no_execute)(void *userdata, uint64_t gpn);
        void *userdata;
};

enum walk_flags {
        WALK_WRITE = 1 << 0,
        WALK_EXEC = 1 << 1,
        WALK_USER = 1 << 2,     /* made at CPL 3 */
        WALK_IMPLICIT = 1 << 3, /* a supervisor access that EFLAGS.AC does not free from SMAP: IDT,
                                   GDT, TSS */
        WALK_AC = 1 << 4,       /* EFLAGS.AC is set */
};

enum walk_fault {
        WALK_OK,
        WALK_NOT_CANONICAL, /* #GP or #SS, no table is read */
        WALK_NOT_PRESENT,   /* #PF */
        WALK_RESERVED,      /* #PF, reserved bit */
        WALK_PERMISSION,    /* #PF, U/S, W, NX, SMEP or SMAP */
        WALK_NOT_RAM,       /* a page-table entry lies outside RAM */
};

#define WALK_MAX_ENTRIES 5

/**
 * struct walk_entry - one page-table entry on the way
 * @gpa: where it lies
 * @value: what it holds
 * @size: 4 or 8
 * @sets: ENTRY_* bits that the CPU would set in it, which needs the right to write it
 */
struct walk_entry {
        uint64_t gpa;
        uint64_t value;
        uint8_t size;
        uint8_t sets;
};

#define WALK_SETS_ACCESSED 0x20
#define WALK_SETS_DIRTY 0x40

/**
 * struct walk_result - what a walk found
 * @fault: WALK_OK when @gpa is valid
 * @gpa: the translation of the address
 * @page_size: of the guest's mapping; 4096 without paging
 * @entries: the entries read, in order, also those of a walk that failed
 * @n_entries: how many
 * @accessed: the accessed bit of the leaf
 * @dirty: the dirty bit of the leaf
 */
struct walk_result {
        enum walk_fault fault;
        uint64_t gpa;
        uint64_t page_size;
        struct walk_entry entries[WALK_MAX_ENTRIES];
        unsigned n_entries;
        bool accessed;
        bool dirty;
};

/**
 * walk() - translate a guest virtual address
 * @space: where the tables are read
 * @sregs: control registers of the VP
 * @gva: linear address; outside 64-bit mode only 32 bits count
 * @flags: enum walk_flags, the access to check for
 * @ret: filled in
 *
 * Rights are not looked at: that is for the caller, with @ret->entries.
 *
 * Return: 0, also when the address does not translate (@ret->fault says why); a negative errno when
 * reading failed for another reason than "not RAM".
 */
int walk(const struct walk_space *space, const struct kvm_sregs *sregs, uint64_t gva,
         unsigned flags, struct walk_result *ret);

/**
 * struct walk_leaf - one page of a guest, of whatever size, that its tables let be executed
 * @gva: where the guest sees it, canonical
 * @gpa: where it lies
 * @size: in bytes
 * @writable: by the entries; CR0.WP is not looked at
 * @user: at CPL 3, too
 */
struct walk_leaf {
        uint64_t gva;
        uint64_t gpa;
        uint64_t size;
        bool writable;
        bool user;
};

/* Anything but 0 ends the walk. */
typedef int walk_leaf_fn(void *userdata, const struct walk_leaf *leaf);

/**
 * walk_executable() - every page that can be executed, at any privilege level
 * @tables_max: how many tables are read at most; tables may well contain each other
 * @fn: called in the order of addresses, as unsigned numbers
 *
 * Each table is copied once. One outside RAM, and entries with reserved bits, lead nowhere. Without
 * paging there is one page of 4 GiB.
 *
 * Return: 0, what @fn returned, -E2BIG for more tables, or a negative errno of reading.
 */
int walk_executable(const struct walk_space *space, const struct kvm_sregs *sregs,
                    uint64_t tables_max, walk_leaf_fn *fn, void *userdata);
