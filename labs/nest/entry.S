/* entry: VM entry and exit, the exception stubs, and how far the image may reach. */
    .globl image_limit
    .set image_limit, 0x400000 /* the pool of page tables (nest.h) */

    /*
     * int vmx_enter(struct guest_registers *registers, bool launched)
     *
     * The VM exit comes back to vmx_exit with RSP as written here, every other register still the guest's.
     */
    .text
    .globl vmx_enter, vmx_exit
vmx_enter:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov $0x6c14, %eax /* HOST_RSP */
    vmwrite %rsp, %rax
    jbe vmx_failed
    test %sil, %sil
    mov 0(%rdi), %rax
    mov 8(%rdi), %rcx
    mov 16(%rdi), %rdx
    mov 24(%rdi), %rbx
    mov 32(%rdi), %rbp
    mov 40(%rdi), %rsi
    mov 56(%rdi), %r8
    mov 64(%rdi), %r9
    mov 72(%rdi), %r10
    mov 80(%rdi), %r11
    mov 88(%rdi), %r12
    mov 96(%rdi), %r13
    mov 104(%rdi), %r14
    mov 112(%rdi), %r15
    mov 48(%rdi), %rdi
    jnz 1f
    vmlaunch
    jmp vmx_failed
1:  vmresume
vmx_failed:
    mov $1, %eax /* no instruction from here to the jump changes CF */
    jc 2f
    mov $2, %eax
2:  lea 8(%rsp), %rsp
    jmp 3f
vmx_exit:
    push %rdi
    mov 8(%rsp), %rdi
    mov %rax, 0(%rdi)
    mov %rcx, 8(%rdi)
    mov %rdx, 16(%rdi)
    mov %rbx, 24(%rdi)
    mov %rbp, 32(%rdi)
    mov %rsi, 40(%rdi)
    mov %r8, 56(%rdi)
    mov %r9, 64(%rdi)
    mov %r10, 72(%rdi)
    mov %r11, 80(%rdi)
    mov %r12, 88(%rdi)
    mov %r13, 96(%rdi)
    mov %r14, 104(%rdi)
    mov %r15, 112(%rdi)
    pop %rax
    mov %rax, 48(%rdi)
    lea 8(%rsp), %rsp
    xor %eax, %eax
3:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

    /*
     * Exceptions. 32 stubs of 16 bytes, so that the IDT can be computed; all lead to trap_handle(vector, frame), which
     * may change the frame's RIP. Those without an error code push a zero.
     */
    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push $0
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
trap_common:
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov 72(%rsp), %rdi
    lea 80(%rsp), %rsi /* error code, RIP, CS, RFLAGS, RSP, SS */
    cld
    call trap_handle
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    .section .note.GNU-stack, "", @progbits
