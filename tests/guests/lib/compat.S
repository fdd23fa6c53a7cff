/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls from 32-bit code (compatibility mode), for what the hypervisor does differently there.
 */

#define CODE_32 0x38 /* cpu.c */
#define CODE_64 0x08

/* Offsets of struct compat_regs (guest.h) */
#define C_EAX 0
#define C_ECX 4
#define C_EDX 8
#define C_EBX 12
#define C_EBP 16
#define C_ESI 20
#define C_EDI 24
#define C_ENTRY 28

        .text
        .code64

/* void compat_call(struct compat_regs *r): calls r->entry with the registers of @r, back there. */
        .globl  compat_call
compat_call:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdi
        pushq   $CODE_32
        leaq    1f(%rip), %rax
        pushq   %rax
        movl    %edi, %esi
        lretq
        .code32
1:      movl    C_EAX(%esi), %eax
        movl    C_ECX(%esi), %ecx
        movl    C_EDX(%esi), %edx
        movl    C_EBX(%esi), %ebx
        movl    C_EBP(%esi), %ebp
        movl    C_EDI(%esi), %edi
        pushl   C_ENTRY(%esi)
        movl    C_ESI(%esi), %esi
        call    *(%esp)
        pushl   %esi
        movl    8(%esp), %esi
        movl    %eax, C_EAX(%esi)
        movl    %ecx, C_ECX(%esi)
        movl    %edx, C_EDX(%esi)
        movl    %ebx, C_EBX(%esi)
        movl    %ebp, C_EBP(%esi)
        movl    %edi, C_EDI(%esi)
        popl    C_ESI(%esi)
        addl    $4, %esp
        ljmp    $CODE_64, $2f
        .code64
2:      popq    %rdi
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

/* Returns, with EAX one more. */
        .code32
        .globl  compat_nothing
compat_nothing:
        incl    %eax
        ret

        .section .note.GNU-stack, "", @progbits
