/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Single instructions with known addresses, for tests of intercepts. Each function is called from
 * C; the label NAME_insn is the instruction that matters, NAME_next the one behind it.
 */
        .text
        .code64

        .macro  probe name
        .globl  \name, \name\()_insn, \name\()_next
\name:
        .endm

        /* uint64_t (const void *from): plain MOV into RAX */
        probe   probe_load
probe_load_insn:
        movq    (%rdi), %rax
probe_load_next:
        ret

        /* void (void *to, uint64_t value): plain MOV */
        probe   probe_store
probe_store_insn:
        movq    %rsi, (%rdi)
probe_store_next:
        ret

        /* uint64_t (const void *from): another length and another addressing form, RAX + 8 *
         * index 0 */
        probe   probe_load_long
        xorl    %ecx, %ecx
probe_load_long_insn:
        movq    0x12345678(%rdi, %rcx, 8), %rax
probe_load_long_next:
        ret

        /* void (void *to, uint64_t value): read-modify-write */
        probe   probe_lock_add
probe_lock_add_insn:
        lock addq %rsi, (%rdi)
probe_lock_add_next:
        ret

        /* void (void *to, const void *from, uint64_t count): rep movsq */
        probe   probe_rep_movs
        movq    %rdx, %rcx
probe_rep_movs_insn:
        rep movsq
probe_rep_movs_next:
        ret

        /* void (void *stack_top, uint64_t value): pushes @value there */
        probe   probe_push
        movq    %rsp, %rax
        movq    %rdi, %rsp
probe_push_insn:
        pushq   %rsi
probe_push_next:
        movq    %rax, %rsp
        ret

        /* void (void *stack_top): a call whose return address goes there */
        probe   probe_call
        movq    %rsp, %rax
        movq    %rdi, %rsp
probe_call_insn:
        call    1f
probe_call_next:
1:      movq    %rax, %rsp
        ret

        /* void (void *target): runs what is there */
        probe   probe_fetch
probe_fetch_insn:
        call    *%rdi
probe_fetch_next:
        ret

        /*
         * void (void *stack_top, volatile uint32_t *icr, uint32_t icr_low): sends itself an
         * interrupt or NMI through the xAPIC and takes it on the given stack.
         */
        probe   probe_event
        movq    %rsp, %rax
        movq    %rdi, %rsp
        movl    %edx, (%rsi)
        sti
probe_event_insn:
        nop
        nop
        nop
        nop
        nop
        nop
        nop
        nop
probe_event_next:
        cli
        movq    %rax, %rsp
        ret

        /* void (void *stack_top): #UD with that stack; does not come back but by a guard */
        probe   probe_ud
        movq    %rdi, %rsp
probe_ud_insn:
        ud2
probe_ud_next:
        ud2

        /* void (void *stack_top, const void *from): a load with that stack; does not come back
         * but by a guard */
        probe   probe_stack_load
        movq    %rdi, %rsp
probe_stack_load_insn:
        movq    (%rsi), %rax
probe_stack_load_next:
        ud2

        /* void (uint64_t selector): loads DS */
        probe   probe_load_segment
probe_load_segment_insn:
        movl    %edi, %ds
probe_load_segment_next:
        ret

        /* void (struct table_pointer *to) */
        probe   probe_sgdt
probe_sgdt_insn:
        sgdt    (%rdi)
probe_sgdt_next:
        ret

        /* void (void *to): stores RCX:RBX where 0 is */
        probe   probe_cmpxchg16b
        pushq   %rbx
        xorl    %eax, %eax
        xorl    %edx, %edx
        movl    $0x11, %ebx
        movl    $0x22, %ecx
probe_cmpxchg16b_insn:
        lock cmpxchg16b (%rdi)
probe_cmpxchg16b_next:
        popq    %rbx
        ret

        /* void (uint64_t frame[5]): IRETQ with the frame there, which leads to probe_iret_next */
        probe   probe_iret
        pushq   %rbp
        movq    %rsp, %rbp
        movq    %rdi, %rsp
probe_iret_insn:
        iretq
probe_iret_next:
        movq    %rbp, %rsp
        popq    %rbp
        ret

        /* void (void *stack_top): INT3 with that stack; does not come back but by a guard */
        probe   probe_int3
        movq    %rdi, %rsp
probe_int3_insn:
        int3
probe_int3_next:
        ud2

        /* At CPL 3 (user_enter): a load from where RDI points, then #UD */
        probe   probe_user_load
probe_user_load_insn:
        movq    (%rdi), %rax
probe_user_load_next:
        ud2

        /* uint64_t (void *to, uint16_t port): INSB; what RDI is afterwards */
        probe   probe_ins
        movl    %esi, %edx
probe_ins_insn:
        insb
probe_ins_next:
        movq    %rdi, %rax
        ret

        /* uint64_t (void *to, uint16_t port, uint64_t count): REP INSB; what RCX is afterwards */
        probe   probe_rep_ins
        movq    %rdx, %rcx
        movl    %esi, %edx
probe_rep_ins_insn:
        rep insb
probe_rep_ins_next:
        movq    %rcx, %rax
        ret

        /* uint64_t (const void *from, uint16_t port): OUTSB; what RSI is afterwards */
        probe   probe_outs
        movl    %esi, %edx
        movq    %rdi, %rsi
probe_outs_insn:
        outsb
probe_outs_next:
        movq    %rsi, %rax
        ret

        /* uint64_t (void *to, const void *from): MOVSL; what RDI is afterwards */
        probe   probe_movs
probe_movs_insn:
        movsl
probe_movs_next:
        movq    %rdi, %rax
        ret

        /* uint64_t (void *stack_top, const void *from): PUSH of a memory operand; what RSP is
         * afterwards */
        probe   probe_push_memory
        movq    %rsp, %rcx
        movq    %rdi, %rsp
probe_push_memory_insn:
        pushq   (%rsi)
probe_push_memory_next:
        movq    %rsp, %rax
        movq    %rcx, %rsp
        ret

        .section .note.GNU-stack, "", @progbits
