/*
 * One instruction between two states: run_vector() loads `state` (XRSTOR and general registers), jumps into the code page, and stores what is
 * there afterwards, whether the instruction went through (the jump behind it leads to done) or raised an exception (the stubs).
 *
 * RSP is the harness's: generated code does not touch it.
 */
    .globl image_limit
    .set image_limit, 0x700000
    .set CODE, 0x900000

    .text
    .globl run_vector, stubs, xsave_area, general, taken
run_vector:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, saved_rsp
    movl $-1, taken
    mov $-1, %eax
    mov $-1, %edx
    mov $xsave_area, %ecx
    xrstor64 (%rcx)
    mov $general, %eax
    mov 8(%rax), %rcx
    mov 16(%rax), %rdx
    mov 24(%rax), %rbx
    mov 40(%rax), %rbp
    mov 48(%rax), %rsi
    mov 56(%rax), %rdi
    mov 64(%rax), %r8
    mov 72(%rax), %r9
    mov 80(%rax), %r10
    mov 88(%rax), %r11
    mov 96(%rax), %r12
    mov 104(%rax), %r13
    mov 112(%rax), %r14
    mov 120(%rax), %r15
    push 128(%rax)
    popfq
    mov 0(%rax), %rax
    jmp CODE

    .globl done
done:
    mov %rax, general
    mov %rcx, general + 8
    mov %rdx, general + 16
    mov %rbx, general + 24
    mov %rbp, general + 40
    mov %rsi, general + 48
    mov %rdi, general + 56
    mov %r8, general + 64
    mov %r9, general + 72
    mov %r10, general + 80
    mov %r11, general + 88
    mov %r12, general + 96
    mov %r13, general + 104
    mov %r14, general + 112
    mov %r15, general + 120
    mov saved_rsp, %rsp
    pushfq
    popq general + 128
    mov $-1, %eax
    mov $-1, %edx
    mov $xsave_area, %ecx
    xsave64 (%rcx)
    cld
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    .balign 16
stubs:
    .set vector, 0
    .rept 32
    movl $vector, taken
    jmp done
    .balign 16
    .set vector, vector + 1
    .endr

    .section .rodata, "a"
    .globl blob
    .balign 16
blob:
    .incbin BLOB

    .bss
    .balign 64
xsave_area:
    .skip 4096
general:
    .skip 136
saved_rsp:
    .skip 8
taken:
    .skip 8

    .section .note.GNU-stack, "", @progbits
