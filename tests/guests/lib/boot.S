/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From the multiboot entry (32-bit, paging off) and from a SIPI (real mode) to 64-bit C, on page
 * tables that map the first 4 GiB one to one.
 */

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00000003 /* page-aligned modules, memory information */

#define PTE_USER 0x7        /* present, writable, user: CPL 3 tests need no tables of their own */
#define PTE_LARGE 0x87
#define PTE_UNCACHED 0x18   /* PCD, PWT: the 2 MiB of the local APIC */

#define MSR_EFER 0xc0000080
#define EFER_LME_NXE 0x900
#define CR4_PAE_OSFXSR_OSXMMEXCPT 0x620
#define CR0_PG_WP_NE_MP_PE 0x80010023

        .section .multiboot, "a"
        .balign 4
        .long   MULTIBOOT_MAGIC, MULTIBOOT_FLAGS, -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

        .text
        .code32
        .globl  guest_start
guest_start:
        cli
        cld
        movl    $boot_stack_end, %esp
        movl    %eax, multiboot_magic
        movl    %ebx, multiboot_info

        /* PML4 -> PDPT -> four page directories */
        movl    $boot_pdpt + PTE_USER, boot_pml4
        movl    $boot_pdpt, %edi
        movl    $boot_pd + PTE_USER, %eax
        movl    $4, %ecx
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $4096, %eax
        loop    1b

        movl    $boot_pd, %edi
        movl    $PTE_LARGE, %eax
        movl    $2048, %ecx
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $0x200000, %eax
        loop    1b
        orl     $PTE_UNCACHED, boot_pd + 8 * (0xfee00000 >> 21)

        /* The window at 8 MiB is mapped in 4 KiB pages */
        movl    $boot_pt_window + PTE_USER, boot_pd + 8 * (0x800000 >> 21)
        movl    $boot_pt_window, %edi
        movl    $0x800000 + PTE_USER, %eax
        movl    $512, %ecx
1:      movl    %eax, (%edi)
        addl    $8, %edi
        addl    $4096, %eax
        loop    1b

        call    enter_long_mode
        ljmp    $0x08, $boot_64

/* Leaves the CPU in compatibility mode of the boot GDT's 32-bit code segment; used by every CPU. */
enter_long_mode:
        movl    $boot_pml4, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $CR4_PAE_OSFXSR_OSXMMEXCPT, %eax
        movl    %eax, %cr4
        movl    $MSR_EFER, %ecx
        rdmsr
        orl     $EFER_LME_NXE, %eax
        wrmsr
        movl    $CR0_PG_WP_NE_MP_PE, %eax
        movl    %eax, %cr0
        lgdt    boot_gdt_pointer
        ret

        .code64
boot_64:
        call    load_boot_segments
        movq    $boot_stack_end, %rsp
        xorl    %ebp, %ebp
        call    guest_boot
1:      hlt
        jmp     1b

load_boot_segments:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        ret

/*
 * Code of an application processor, copied to AP_TRAMPOLINE (guest.h). It may address only itself
 * there, and below 1 MiB, until it is in protected mode.
 */
        .code16
        .globl  ap_trampoline
        .globl  ap_trampoline_end
ap_trampoline:
        cli
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   (ap_gdt_pointer - ap_trampoline)
        movl    $1, %eax
        movl    %eax, %cr0
        ljmpl   $0x18, $ap_32

        .balign 8
ap_gdt:
        .quad   0
        .quad   0x00af9a000000ffff
        .quad   0x00cf92000000ffff
        .quad   0x00cf9a000000ffff
ap_gdt_pointer:
        .word   ap_gdt_pointer - ap_gdt - 1
        .long   0x8000 + ap_gdt - ap_trampoline
ap_trampoline_end:

        .code32
ap_32:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    ap_boot_stack, %esp
        call    enter_long_mode
        ljmp    $0x08, $ap_64

        .code64
ap_64:
        call    load_boot_segments
        movq    ap_boot_stack, %rsp
        xorl    %ebp, %ebp
        call    guest_boot_ap
1:      cli
        hlt
        jmp     1b

        .section .rodata
        .balign 8
boot_gdt:
        .quad   0
        .quad   0x00af9a000000ffff /* 0x08 64-bit code */
        .quad   0x00cf92000000ffff /* 0x10 data */
        .quad   0x00cf9a000000ffff /* 0x18 32-bit code */
boot_gdt_pointer:
        .word   boot_gdt_pointer - boot_gdt - 1
        .quad   boot_gdt

        .data
        .globl  multiboot_magic
        .globl  multiboot_info
        .globl  ap_boot_stack
        .balign 8
multiboot_magic:
        .long   0
multiboot_info:
        .long   0
ap_boot_stack:
        .quad   0

        .bss
        .balign 4096
        .globl  boot_pml4
        .globl  boot_pdpt
        .globl  boot_pd
        .globl  boot_pt_window
boot_pml4:
        .skip   4096
boot_pdpt:
        .skip   4096
boot_pd:
        .skip   4 * 4096
boot_pt_window:
        .skip   4096
boot_stack:
        .skip   16384
boot_stack_end:

        .section .note.GNU-stack, "", @progbits
