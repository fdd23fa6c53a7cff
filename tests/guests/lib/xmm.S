/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls with every XMM register given. Guests are compiled without SSE; this is for hosts that run
 * such instructions.
 */

/* Offsets of struct xmm_call (hv.h), asserted in hv.c */
#define X_CONTROL 256
#define X_RDX 264
#define X_R8 272
#define X_ENTRY 280

        .text
        .code64

/* uint64_t xmm_call(struct xmm_call *c): RCX, RDX, R8 and XMM0-15 from @c, all but RCX back. */
        .globl  xmm_call
xmm_call:
        pushq   %rdi
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  16 * \n(%rdi), %xmm\n
        .endr
        movq    X_CONTROL(%rdi), %rcx
        movq    X_RDX(%rdi), %rdx
        movq    X_R8(%rdi), %r8
        call    *X_ENTRY(%rdi)
        popq    %rdi
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  %xmm\n, 16 * \n(%rdi)
        .endr
        movq    %rdx, X_RDX(%rdi)
        movq    %r8, X_R8(%rdi)
        ret

/* void xmm_load(const struct xmm x[16]), void xmm_store(struct xmm x[16]) */
        .globl  xmm_load, xmm_store
xmm_load:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  16 * \n(%rdi), %xmm\n
        .endr
        ret
xmm_store:
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        movups  %xmm\n, 16 * \n(%rdi)
        .endr
        ret

        .section .note.GNU-stack, "", @progbits
