/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Waiting with known values in all registers; nothing of the loop changes one of them, or a flag.
 */

/* Offsets of struct pattern (pattern.h), asserted in pattern.c */
#define P_RSP 32
#define P_RFLAGS 128
#define P_HALT 136
#define P_FPU 144
#define P_READY 152
#define P_XMM 160

        .text
        .code64

/* void pattern_hold(struct pattern *p): as pattern_wait(), but for as many turns as RCX says. */
        .globl  pattern_hold
pattern_hold:
        movq    $2, P_HALT(%rdi)
        jmp     pattern_wait
pattern_turns:
        pause
        loop    pattern_turns
        jmp     pattern_leave

        .globl  pattern_wait, pattern_spin, pattern_halted, pattern_leave
pattern_wait:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rdi
        movq    %rsp, P_RSP(%rdi)
        cmpq    $0, P_FPU(%rdi)
        je      1f
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  P_XMM + 16 * \n(%rdi), %xmm\n
        .endr
1:      movq    $1, P_READY(%rdi)
        movq    $pattern_spin, %rax
        cmpq    $0, P_HALT(%rdi)
        je      2f
        movq    $pattern_turns, %rax
        cmpq    $2, P_HALT(%rdi)
        je      2f
        movq    $pattern_halt, %rax
2:      pushq   %rax            /* for the RET below, which touches no register */
        pushq   P_RFLAGS(%rdi)
        movq    0(%rdi), %rax
        movq    8(%rdi), %rcx
        movq    16(%rdi), %rdx
        movq    24(%rdi), %rbx
        movq    40(%rdi), %rbp
        movq    48(%rdi), %rsi
        movq    64(%rdi), %r8
        movq    72(%rdi), %r9
        movq    80(%rdi), %r10
        movq    88(%rdi), %r11
        movq    96(%rdi), %r12
        movq    104(%rdi), %r13
        movq    112(%rdi), %r14
        movq    120(%rdi), %r15
        movq    56(%rdi), %rdi
        popfq
        ret

pattern_spin:
        pause
        jmp     pattern_spin

pattern_halt:
        hlt
pattern_halted:
        /* An interrupt has been taken, or a halt that was none ended. */
pattern_leave:
        pushfq
        cli
        cld
        pushq   %rdi
        movq    16(%rsp), %rdi
        movq    %rax, 0(%rdi)
        movq    %rcx, 8(%rdi)
        movq    %rdx, 16(%rdi)
        movq    %rbx, 24(%rdi)
        movq    %rbp, 40(%rdi)
        movq    %rsi, 48(%rdi)
        popq    56(%rdi)
        popq    P_RFLAGS(%rdi)
        movq    %r8, 64(%rdi)
        movq    %r9, 72(%rdi)
        movq    %r10, 80(%rdi)
        movq    %r11, 88(%rdi)
        movq    %r12, 96(%rdi)
        movq    %r13, 104(%rdi)
        movq    %r14, 112(%rdi)
        movq    %r15, 120(%rdi)
        cmpq    $0, P_FPU(%rdi)
        je      1f
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  %xmm\n, P_XMM + 16 * \n(%rdi)
        .endr
1:      movq    $0, P_READY(%rdi)
        popq    %rdi
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

        .section .note.GNU-stack, "", @progbits
