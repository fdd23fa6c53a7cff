/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What C cannot say: exception entries, the guard, calls with every register given, the first
 * instruction of VTL1.
 */

/* Offsets of struct cpu (guest.h), asserted in cpu.c */
#define CPU_GUARD 8
/* Offsets of struct gprs */
#define G_RAX 0
#define G_RCX 8
#define G_RDX 16
#define G_RBX 24
#define G_RBP 40
#define G_RSI 48
#define G_RDI 56
#define G_R8 64
#define G_RFLAGS 128

        .text
        .code64

/*
 * One entry per vector, 16 bytes each: an error code of zero where the CPU pushes none, the vector,
 * the rest. The table of trap_frame (guest.h) is what stands on the stack then.
 */
        .balign 16
        .globl  trap_entries
trap_entries:
        .set    vector, 0
        .rept   256
        .balign 16
        .if     (vector == 8) || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        nop
        .else
        pushq   $0
        .endif
        pushq   $vector
        jmp     trap_common
        .set    vector, vector + 1
        .endr

trap_common:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        movq    %rsp, %rbp
        andq    $-16, %rsp
        call    handle_trap
        movq    %rbp, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rbx
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp
        iretq

/* int guard_enter(void): returns 0, and once more with 1 when an exception comes before
 * guard_leave(). */
        .globl  guard_enter
guard_enter:
        movq    %gs:0, %rax
        movq    %rbx, CPU_GUARD + 0(%rax)
        movq    %rbp, CPU_GUARD + 8(%rax)
        movq    %r12, CPU_GUARD + 16(%rax)
        movq    %r13, CPU_GUARD + 24(%rax)
        movq    %r14, CPU_GUARD + 32(%rax)
        movq    %r15, CPU_GUARD + 40(%rax)
        leaq    8(%rsp), %rcx
        movq    %rcx, CPU_GUARD + 48(%rax)
        movq    (%rsp), %rcx
        movq    %rcx, CPU_GUARD + 56(%rax)
        pushfq
        popq    CPU_GUARD + 64(%rax)
        movq    $1, CPU_GUARD + 72(%rax)
        xorl    %eax, %eax
        ret

/*
 * void call_with_gprs(uint64_t entry, struct gprs *g): calls @entry with every general register and
 * the flags from @g, and stores what came back there. RSP is the one register that stays ours.
 */
        .globl  call_with_gprs
call_with_gprs:
        pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        pushq   %rsi
        pushq   %rdi
        pushq   G_RFLAGS(%rsi)
        popfq
        movq    G_RAX(%rsi), %rax
        movq    G_RCX(%rsi), %rcx
        movq    G_RDX(%rsi), %rdx
        movq    G_RBX(%rsi), %rbx
        movq    G_RBP(%rsi), %rbp
        movq    G_RDI(%rsi), %rdi
        movq    G_R8 + 0(%rsi), %r8
        movq    G_R8 + 8(%rsi), %r9
        movq    G_R8 + 16(%rsi), %r10
        movq    G_R8 + 24(%rsi), %r11
        movq    G_R8 + 32(%rsi), %r12
        movq    G_R8 + 40(%rsi), %r13
        movq    G_R8 + 48(%rsi), %r14
        movq    G_R8 + 56(%rsi), %r15
        movq    G_RSI(%rsi), %rsi
        call    *(%rsp)
        pushfq
        pushq   %rax
        movq    24(%rsp), %rax
        movq    %rcx, G_RCX(%rax)
        movq    %rdx, G_RDX(%rax)
        movq    %rbx, G_RBX(%rax)
        movq    %rbp, G_RBP(%rax)
        movq    %rsi, G_RSI(%rax)
        movq    %rdi, G_RDI(%rax)
        movq    %r8, G_R8 + 0(%rax)
        movq    %r9, G_R8 + 8(%rax)
        movq    %r10, G_R8 + 16(%rax)
        movq    %r11, G_R8 + 24(%rax)
        movq    %r12, G_R8 + 32(%rax)
        movq    %r13, G_R8 + 40(%rax)
        movq    %r14, G_R8 + 48(%rax)
        movq    %r15, G_R8 + 56(%rax)
        popq    G_RAX(%rax)
        popq    G_RFLAGS(%rax)
        cld
        addq    $16, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

/* uint64_t hv_call_at(uint64_t control, uint64_t in, uint64_t out, uint64_t entry): vsm.md 2.1 */
        .globl  hv_call_at
hv_call_at:
        movq    %rcx, %rax
        movq    %rdi, %rcx
        movq    %rdx, %r8
        movq    %rsi, %rdx
        subq    $8, %rsp
        call    *%rax
        addq    $8, %rsp
        ret

/* Where HV_INITIAL_VP_CONTEXT points: the general registers are VTL0's, the stack is ours. */
        .globl  vtl1_entry
vtl1_entry:
        subq    $G_RFLAGS + 8 + 8, %rsp
        movq    %rax, G_RAX(%rsp)
        movq    %rcx, G_RCX(%rsp)
        movq    %rdx, G_RDX(%rsp)
        movq    %rbx, G_RBX(%rsp)
        movq    %rbp, G_RBP(%rsp)
        movq    %rsi, G_RSI(%rsp)
        movq    %rdi, G_RDI(%rsp)
        movq    %r8, G_R8 + 0(%rsp)
        movq    %r9, G_R8 + 8(%rsp)
        movq    %r10, G_R8 + 16(%rsp)
        movq    %r11, G_R8 + 24(%rsp)
        movq    %r12, G_R8 + 32(%rsp)
        movq    %r13, G_R8 + 40(%rsp)
        movq    %r14, G_R8 + 48(%rsp)
        movq    %r15, G_R8 + 56(%rsp)
        pushfq
        popq    G_RFLAGS(%rsp)
        movq    %rsp, %rdi
        xorl    %ebp, %ebp
        call    vtl1_main
        ud2

/*
 * void user_enter(uint64_t rip, uint64_t rsp, uint64_t rflags, uint64_t arg): to CPL 3, RDI = @arg.
 * Comes back only through an exception, under a guard.
 */
        .globl  user_enter
user_enter:
        movq    %rsp, %rax
        pushq   $0x1b
        pushq   %rsi
        pushq   %rdx
        pushq   $0x23
        pushq   %rdi
        movq    %rcx, %rdi
        iretq

        .section .note.GNU-stack, "", @progbits
