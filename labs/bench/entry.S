/*
 * entry: what the benchmark needs beyond labs/guest/start.S before C can run, exceptions, VM entry and exit.
 */
    .set WINDOW_PA, 0x2000000
    .set WINDOW_PAGES, 8192

    .globl image_limit
    .set image_limit, WINDOW_PA

    /* Maps the window by 4 KiB pages, with one table of absent ones behind it, and turns on SSE for floating.c and AVX, if there is any,
     * for vectors.c. */
    .text
    .globl guest_main
guest_main:
    mov %rsi, %rbx /* multiboot information */
    movq $window_directory + 3, page_pdpt + 4 * 8 /* at WINDOW_LA */
    mov $window_directory, %edi
    mov $window_tables + 3, %eax
    mov $WINDOW_PAGES / 512 + 1, %ecx
1:  mov %rax, (%rdi)
    add $0x1000, %eax
    add $8, %edi
    dec %ecx
    jnz 1b
    mov $window_tables, %edi
    mov $WINDOW_PA + 3, %eax
    mov $WINDOW_PAGES, %ecx
2:  mov %rax, (%rdi)
    add $0x1000, %eax
    add $8, %edi
    dec %ecx
    jnz 2b

    mov %cr4, %rax
    or $0x600, %eax /* OSFXSR, OSXMMEXCPT */
    mov %rax, %cr4
    mov %cr0, %rax
    and $~4, %eax /* EM */
    or $2, %eax /* MP */
    mov %rax, %cr0
    mov %rbx, %rdi
    mov $1, %eax
    xor %ecx, %ecx
    cpuid
    and $1 << 26 | 1 << 28, %ecx /* XSAVE, AVX */
    cmp $1 << 26 | 1 << 28, %ecx
    jne bench_main
    mov %cr4, %rax
    or $1 << 18, %eax /* OSXSAVE */
    mov %rax, %cr4
    mov $7, %eax
    xor %edx, %edx
    xor %ecx, %ecx
    xsetbv
    jmp bench_main

    /*
     * VM entry and exit. The guest's registers are live at both; HOST_RSP is the top of the hypervisor's stack.
     * _Noreturn void vmx_launch(void)
     */
    .text
    .globl vmx_launch, vmx_exit
vmx_launch:
    vmlaunch
    jmp vmx_failed

    /*
     * The shortest exit handler that there can be: what happened, the guest behind its instruction, and back. It knows the one
     * CPUID leaf whose exits are measured; hypervisor.c handles all else.
     */
    .balign 64
vmx_exit:
    push %rdx
    push %rax
    mov $0x4402, %edx /* exit reason */
    vmread %rdx, %rdx
    cmp $10, %edx /* CPUID */
    jne 1f
    cmpl $0x40000002, (%rsp) /* CPUID_BENCH */
    jne 1f
    mov $0x681e, %edx /* guest RIP */
    vmread %rdx, %rax
    mov $0x440c, %edx /* VM-exit instruction length */
    vmread %rdx, %rdx
    add %rdx, %rax
    mov $0x681e, %edx
    vmwrite %rax, %rdx
    pop %rax
    pop %rdx
    vmresume
    jmp vmx_failed
1:  push %rcx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call exit_handle
    mov %rbp, %rsp
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rcx
    pop %rax
    pop %rdx
    vmresume
vmx_failed:
    mov $0x4400, %edi /* VM-instruction error */
    vmread %rdi, %rsi
    mov $text_entry_failed, %edi
    and $-16, %rsp
    call fail

    /* Exceptions that nobody expects: 32 stubs of 16 bytes that call trap_unexpected(vector, frame). */
    .balign 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
trap_common:
    pop %rdi
    mov %rsp, %rsi
    and $-16, %rsp
    call trap_unexpected

    .globl fault_handler, interrupt_handler
    /* Page fault: on behind the faulting instruction, which has three bytes. */
    .balign 16
fault_handler:
    add $8, %rsp
    addq $3, (%rsp)
    iretq
    .balign 16
interrupt_handler:
    iretq

    .section .rodata, "a"
text_entry_failed:
    .asciz "VM entry failed; VM-instruction error"

    .bss
    .balign 4096
window_directory:
    .skip 4096
window_tables:
    .skip (WINDOW_PAGES / 512 + 1) * 4096

    .section .note.GNU-stack, "", @progbits
