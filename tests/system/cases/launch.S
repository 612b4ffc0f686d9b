/*
 * launch: from the harness (64-bit, ring 0) into the mode, ring and state that a case asks for, and back out of whatever exception,
 * interrupt or task switch ends it.
 *
 * launch() reads `launch_state` (harness.h), leaves long mode, loads control, descriptor-table and debug registers, and gets into the
 * case's code by IRET. Every vector of the case's IDT or IVT leads to a stub here: it pushes its number and all registers onto the stack
 * that the processor chose, fills `capture`, and goes the same way back. The frame that the processor pushed is read by capture.c.
 *
 * Kept true: everything here is mapped to itself in every case's page tables, and descriptors 8 (flat code) and 10h (flat data) of a
 * case's GDT are intact when an exception arrives in 32-bit code.
 */
    .globl image_limit
    .set image_limit, 0x300000 /* capture.c and paging.c map as much */

    .set CODE32, 0x08 /* of labs/guest/start.S */
    .set CODE64, 0x10
    .set DATA, 0x18
    .set TASK, 0x20
    .set CASE_CODE32, 0x08 /* of a case's GDT: harness.h */
    .set CASE_DATA32, 0x10
    .set CASE_CODE64, 0x18
    .set CASE_CODE16, 0x58
    .set CASE_DATA16, 0x60

    .set CR4_LATE, 0x00820000 /* PCIDE, CET: need long mode, CR0.WP */
    .set LOW, 0x8000          /* where the 16-bit code is copied to */
    .set REAL, 0x7000         /* struct real_state */

    /* struct launch_state */
    .set L_CR0, 0
    .set L_CR3, 4
    .set L_CR4, 8
    .set L_EFER, 12
    .set L_KIND, 16
    .set L_GDTR, 20
    .set L_LDT, 30
    .set L_IDTR, 32
    .set L_TR, 42
    .set L_SEG, 44 /* es ds fs gs, 4 bytes each */
    .set L_FRAME, 64 /* rip cs rflags rsp ss */
    .set L_GPR, 104
    .set L_DR, 232 /* dr0-dr3 dr6 dr7, 4 bytes each */
    .set L_BASE, 256 /* FS, GS, kernel GS */

    /* struct capture */
    .set C_KIND, 0
    .set C_SS, 4
    .set C_SP, 8
    .set C_FLAGS, 16
    .set C_CR0, 24
    .set C_CR2, 32
    .set C_CR3, 40
    .set C_CR4, 48
    .set C_DR6, 56
    .set C_DR7, 64
    .set C_TR, 72
    .set C_LDT, 76
    .set C_EFER, 80
    .set C_CS, 84

    .text
    .code64
    .globl launch
launch:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, harness_rsp
    lgdt harness_gdtr
    pushq $CODE32
    pushq $1f
    lretq
    .code32
1:  mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    xor %edx, %edx
    mov launch_state + L_EFER, %eax
    wrmsr
    mov launch_state + L_CR4, %eax
    and $~CR4_LATE, %eax
    mov %eax, %cr4
    mov launch_state + L_CR3, %eax
    mov %eax, %cr3
    lgdt launch_state + L_GDTR
    lidt launch_state + L_IDTR
    mov $CASE_DATA32, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    mov launch_state + L_CR0, %eax
    mov %eax, %cr0
    mov launch_state + L_CR4, %eax
    mov %eax, %cr4
    ljmp $CASE_CODE32, $2f
2:  mov launch_state + L_LDT, %ax
    lldt %ax
    mov launch_state + L_TR, %ax
    test %ax, %ax
    jz 3f
    ltr %ax
3:  mov launch_state + L_DR, %eax
    mov %eax, %dr0
    mov launch_state + L_DR + 4, %eax
    mov %eax, %dr1
    mov launch_state + L_DR + 8, %eax
    mov %eax, %dr2
    mov launch_state + L_DR + 12, %eax
    mov %eax, %dr3
    mov launch_state + L_DR + 16, %eax
    mov %eax, %dr6
    mov launch_state + L_DR + 20, %eax
    mov %eax, %dr7
    mov launch_state + L_KIND, %eax
    cmp $1, %eax
    je to_inner
    cmp $2, %eax
    je to_v86
    cmp $3, %eax
    je to_long
    cmp $4, %eax
    je to_real

    /* 0: another ring by IRETD */
    pushl launch_state + L_FRAME + 32
    pushl launch_state + L_FRAME + 24
    jmp to_frame

    /* 1: the same ring: the frame goes to the stack that the case has */
to_inner:
    mov launch_state + L_FRAME + 32, %ss
    mov launch_state + L_FRAME + 24, %esp
    jmp to_frame

    /* 2: V8086 */
to_v86:
    pushl launch_state + L_SEG + 12
    pushl launch_state + L_SEG + 8
    pushl launch_state + L_SEG + 4
    pushl launch_state + L_SEG
    pushl launch_state + L_FRAME + 32
    pushl launch_state + L_FRAME + 24
to_frame:
    pushl launch_state + L_FRAME + 16
    pushl launch_state + L_FRAME + 8
    pushl launch_state + L_FRAME
    cmp $2, %eax
    je 10f
    mov launch_state + L_SEG, %es
    mov launch_state + L_SEG + 8, %fs
    mov launch_state + L_SEG + 12, %gs
10: mov launch_state + L_GPR, %eax
    mov launch_state + L_GPR + 8, %ecx
    mov launch_state + L_GPR + 16, %edx
    mov launch_state + L_GPR + 24, %ebx
    mov launch_state + L_GPR + 40, %ebp
    mov launch_state + L_GPR + 48, %esi
    mov launch_state + L_GPR + 56, %edi
    cmpl $2, launch_state + L_KIND
    je 11f
    mov launch_state + L_SEG + 4, %ds
11: iretl

to_long:
    ljmp $CASE_CODE64, $4f
    .code64
4:  mov launch_state + L_SEG, %es
    mov launch_state + L_SEG + 8, %fs
    mov launch_state + L_SEG + 12, %gs
    mov $0xc0000100, %ecx
    mov launch_state + L_BASE, %eax
    mov launch_state + L_BASE + 4, %edx
    wrmsr
    inc %ecx
    mov launch_state + L_BASE + 8, %eax
    mov launch_state + L_BASE + 12, %edx
    wrmsr
    inc %ecx
    mov launch_state + L_BASE + 16, %eax
    mov launch_state + L_BASE + 20, %edx
    wrmsr
    pushq launch_state + L_FRAME + 32
    pushq launch_state + L_FRAME + 24
    pushq launch_state + L_FRAME + 16
    pushq launch_state + L_FRAME + 8
    pushq launch_state + L_FRAME
    mov launch_state + L_GPR, %rax
    mov launch_state + L_GPR + 8, %rcx
    mov launch_state + L_GPR + 16, %rdx
    mov launch_state + L_GPR + 24, %rbx
    mov launch_state + L_GPR + 40, %rbp
    mov launch_state + L_GPR + 48, %rsi
    mov launch_state + L_GPR + 56, %rdi
    mov launch_state + L_GPR + 64, %r8
    mov launch_state + L_GPR + 72, %r9
    mov launch_state + L_GPR + 80, %r10
    mov launch_state + L_GPR + 88, %r11
    mov launch_state + L_GPR + 96, %r12
    mov launch_state + L_GPR + 104, %r13
    mov launch_state + L_GPR + 112, %r14
    mov launch_state + L_GPR + 120, %r15
    mov launch_state + L_SEG + 4, %ds
    iretq
    .code32
to_real:
    ljmp $CASE_CODE16, $(LOW + enter_real - low_start)

    /* Events in 32-bit mode: number and general registers are on the stack of the processor's choice. */
    .globl stubs32, stubs64
    .balign 16
stubs32:
    .set vector, 0
    .rept 256
    .byte 0x6a, vector
    .byte 0xe9
    .long common32 - . - 4
    .byte 0x90
    .set vector, vector + 1
    .endr
common32:
    cld
    pushal
    push %ds
    push %es
    push %fs
    push %gs
    mov $CASE_DATA32, %eax
    mov %eax, %ds
    movl $32, capture + C_KIND
    mov %esp, capture + C_SP
    movl $0, capture + C_SP + 4
    mov %ss, capture + C_SS
    mov %cs, capture + C_CS
captured32:
    mov %eax, %es
    mov %eax, %ss
    mov $harness_stack_top, %esp
    pushf
    popl capture + C_FLAGS
    mov %cr0, %eax
    mov %eax, capture + C_CR0
    mov %cr2, %eax
    mov %eax, capture + C_CR2
    movl $0, capture + C_CR2 + 4
    mov %cr3, %eax
    mov %eax, capture + C_CR3
    mov %cr4, %eax
    mov %eax, capture + C_CR4
    mov %dr7, %eax
    mov %eax, capture + C_DR7
    mov %dr6, %eax
    mov %eax, capture + C_DR6
    str capture + C_TR
    sldt capture + C_LDT
    mov $0xc0000080, %ecx
    rdmsr
    mov %eax, capture + C_EFER
back32:
    mov %cr4, %eax
    and $~CR4_LATE, %eax
    mov %eax, %cr4
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    lgdt harness_gdtr
    lidt harness_idtr
    andb $0xfd, gdt + TASK + 5 /* not busy; a case's 16-bit TSS would keep long mode away */
    mov $TASK, %eax
    ltr %ax
    mov harness_cr4, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    xor %edx, %edx
    mov $0x100, %eax
    wrmsr
    mov $page_pml4, %eax
    mov %eax, %cr3
    mov $0x80000031, %eax
    mov %eax, %cr0
    ljmp $CODE64, $5f
    .code64
5:  mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    xor %eax, %eax
    mov %rax, %dr7
    lldt %ax
    mov harness_rsp, %rsp
    /* IRETQ, so that NMIs are no longer blocked; a task left NT set, which it does not like */
    mov %rsp, %rcx
    pushq $2
    popfq
    pushq $DATA
    pushq %rcx
    pushq $2
    pushq $CODE64
    pushq $6f
    iretq
6:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    /* The task that a task gate of the IDT leads to: the interrupted state is in the old task's TSS, an error code on this stack. */
    .code32
    .globl task_entry
task_entry:
    movl $33, capture + C_KIND
    mov %esp, capture + C_SP
    movl $0, capture + C_SP + 4
    mov %ss, capture + C_SS
    mov %cs, capture + C_CS
    mov $CASE_DATA32, %eax
    jmp captured32

    /* Events in long mode */
    .code64
    .balign 16
stubs64:
    .set vector, 0
    .rept 256
    .byte 0x6a, vector
    .byte 0xe9
    .long common64 - . - 4
    .byte 0x90
    .set vector, vector + 1
    .endr
common64:
    cld
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rsp
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %ds, %eax
    push %rax
    mov %es, %eax
    push %rax
    mov %fs, %eax
    push %rax
    mov %gs, %eax
    push %rax
    movl $64, capture + C_KIND
    mov %rsp, capture + C_SP
    mov %ss, capture + C_SS
    mov %cs, capture + C_CS
    mov $harness_stack_top, %rsp
    pushf
    popq capture + C_FLAGS
    mov %cr0, %rax
    mov %rax, capture + C_CR0
    mov %cr2, %rax
    mov %rax, capture + C_CR2
    mov %cr3, %rax
    mov %rax, capture + C_CR3
    mov %cr4, %rax
    mov %rax, capture + C_CR4
    mov %dr7, %rax
    mov %rax, capture + C_DR7
    mov %dr6, %rax
    mov %rax, capture + C_DR6
    str capture + C_TR
    sldt capture + C_LDT
    mov $0xc0000080, %ecx
    rdmsr
    mov %eax, capture + C_EFER
    mov $0xc0000100, %ecx
    mov $capture_bases, %edi
7:  rdmsr
    mov %eax, (%rdi)
    mov %edx, 4(%rdi)
    inc %ecx
    add $8, %edi
    cmp $0xc0000103, %ecx
    jne 7b
    mov %cr4, %rax
    and $~CR4_LATE, %rax /* no PCID outside long mode, no shadow stack for the far return */
    mov %rax, %cr4
    lgdt harness_gdtr
    pushq $CODE32
    pushq $8f
    lretq
    .code32
8:  mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    jmp back32

    /* The harness's own IDT: an exception here is a mistake; interrupts and NMIs left over by a case are taken and forgotten. */
    .code64
    .globl harness_fault, harness_interrupt
harness_interrupt:
    push %rax
    mov $0xfee000b0, %eax
    movl $0, (%rax)
    pop %rax
    .globl harness_nmi
harness_nmi:
    iretq
harness_fault:
    mov %rsp, %rdi
    call harness_died

    /* 16-bit code, copied to LOW, where real mode reaches it. */
    .code16
    .globl low_start, low_end, low_stubs
    .balign 16
low_start:
enter_real:
    mov $CASE_DATA16, %ax
    mov %ax, %ss
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %fs
    mov %ax, %gs
    mov %cr0, %eax
    and $0xfe, %al
    mov %eax, %cr0
    ljmp $(LOW >> 4), $(9f - low_start)
9:  mov $(REAL >> 4), %ax
    mov %ax, %ds
    mov 0, %ss
    mov 4, %esp
    pushw 8  /* flags */
    pushw 12 /* cs */
    pushw 16 /* ip */
    pushw 20 /* ds */
    mov 24, %es
    mov 28, %fs
    mov 32, %gs
    mov 36, %eax
    mov 40, %ecx
    mov 44, %edx
    mov 48, %ebx
    mov 52, %ebp
    mov 56, %esi
    mov 60, %edi
    pop %ds
    iret

low_stubs:
    .set vector, 0
    .rept 256
    .byte 0x6a, vector
    .byte 0xe9
    .word low_common - . - 2
    .byte 0x90, 0x90, 0x90
    .set vector, vector + 1
    .endr
low_common:
    cld
    pushal
    pushw %ds
    pushw %es
    pushw %fs
    pushw %gs
    mov %ss, %cs:low_ss - low_start
    mov %esp, %cs:low_esp - low_start
    mov %cr0, %eax
    mov %eax, %cs:low_cr0 - low_start
    lgdtl %cs:low_gdtr - low_start
    or $1, %al
    mov %eax, %cr0
    ljmpl $CODE32, $from_real
low_ss:
    .long 0
low_esp:
    .long 0
low_cr0:
    .long 0
    .globl low_gdtr
low_gdtr:
    .word 63
    .long gdt
low_end:
    .code32
from_real:
    mov $DATA, %eax
    mov %eax, %ds
    movl $16, capture + C_KIND
    mov LOW + low_ss - low_start, %ecx
    mov %ecx, capture + C_SS
    mov LOW + low_esp - low_start, %ecx
    mov %ecx, capture + C_SP
    movl $0, capture + C_SP + 4
    mov %eax, %es
    mov %eax, %ss
    mov $harness_stack_top, %esp
    pushf
    popl capture + C_FLAGS
    mov LOW + low_cr0 - low_start, %eax
    mov %eax, capture + C_CR0
    mov %cr4, %eax
    mov %eax, capture + C_CR4
    mov %dr7, %eax
    mov %eax, capture + C_DR7
    mov %dr6, %eax
    mov %eax, capture + C_DR6
    mov $0xc0000080, %ecx
    rdmsr
    mov %eax, capture + C_EFER
    jmp back32

    .section .rodata, "a"
    .globl harness_gdtr
harness_gdtr:
    .word 63
    .long gdt, 0

    .bss
    .globl harness_idtr, harness_cr4, launch_state, capture, capture_bases
    .balign 16
harness_rsp:
    .skip 8
harness_cr4:
    .skip 8
harness_idtr:
    .skip 16
launch_state:
    .skip 320
capture:
    .skip 96
capture_bases:
    .skip 24
    .balign 16
    .skip 4096
harness_stack_top:

    .section .note.GNU-stack, "", @progbits
