/*
 * entry: the multiboot header, the way from 32-bit protected mode to 64-bit mode, exceptions, VM entry and exit, and the loops
 * that are measured instruction by instruction.
 *
 * The header carries load addresses (bit 16), so that loaders which want a 32-bit ELF file take this 64-bit one as well.
 */
    .set MULTIBOOT_FLAGS, 0x00010003
    .set CODE32, 0x08
    .set CODE64, 0x10
    .set DATA, 0x18
    .set TASK, 0x20
    .set WINDOW_PA, 0x2000000
    .set WINDOW_PAGES, 8192

    .section .multiboot, "a"
    .balign 4
multiboot_header:
    .long 0x1badb002, MULTIBOOT_FLAGS, -(0x1badb002 + MULTIBOOT_FLAGS)
    .long multiboot_header, image_start, image_end, bss_end, entry32

    .section .text.entry, "ax"
    .code32
    .globl entry32
entry32:
    cli
    cld
    mov %eax, %esi /* the loader's magic */
    mov %ebx, %ebp /* multiboot information */
    mov $bss_start, %edi
    mov $bss_end, %ecx
    sub %edi, %ecx
    xor %eax, %eax
    rep stosb

    /* Identity-map 4 GiB by 2 MiB pages ... */
    movl $page_pdpt + 3, page_pml4
    mov $page_pdpt, %edi
    mov $page_directories + 3, %eax
    mov $5, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    mov $page_directories, %edi
    mov $0x83, %eax
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 2b
    /* ... and the window by 4 KiB pages, with one table of absent ones behind it. */
    mov $page_tables + 3, %eax
    mov $WINDOW_PAGES / 512 + 1, %ecx
3:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 3b
    mov $page_tables, %edi
    mov $WINDOW_PA + 3, %eax
    mov $WINDOW_PAGES, %ecx
4:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 4b

    mov %cr4, %eax
    or $0x620, %eax /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $page_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx /* EFER.LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    and $~4, %eax /* EM */
    or $0x80000002, %eax /* PG, MP */
    mov %eax, %cr0

    mov $gdt_template, %esi
    mov $gdt, %edi
    mov $gdt_template_end - gdt_template, %ecx
    rep movsb
    mov $task_state, %eax
    mov %ax, gdt + TASK + 2
    shr $16, %eax
    mov %al, gdt + TASK + 4
    mov %ah, gdt + TASK + 7
    lgdt gdt_pointer
    ljmp $CODE64, $entry64

    .code64
entry64:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $stack_top, %rsp
    mov $TASK, %eax
    ltr %ax
    mov %ebp, %edi
    xor %ebp, %ebp
    call bench_main
5:  hlt
    jmp 5b

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

    /* 64 times 16 instructions of registers only. */
    .globl run_integer
    .balign 64
run_integer:
    push %rbx
1:  mov $64, %ecx
    mov $1, %eax
    mov $2, %edx
    mov $3, %esi
    mov $5, %r8d
2:  add %rdx, %rax
    lea 7(%rax,%rsi,4), %r9
    xor %r9, %rdx
    mov %rax, %rbx
    shl $5, %rbx
    sub %rsi, %rbx
    and $0xffffff, %ebx
    or %rbx, %r8
    imul $31, %r8, %r8
    rol $7, %rax
    adc %r8, %rdx
    inc %rsi
    test $1, %sil
    cmovz %rdx, %r9
    dec %ecx
    jnz 2b
    xor %r9, %rax
    dec %rdi
    jnz 1b
    pop %rbx
    ret

    /* 64 divisions of 64 bits, each waiting for the one before. */
    .globl run_divide
    .balign 64
run_divide:
1:  mov $64, %ecx
    mov $0xfedcba9876543210, %rax
    mov $1000003, %esi
2:  xor %edx, %edx
    div %rsi
    lea (%rax,%rdx), %rax
    not %rax
    dec %ecx
    jnz 2b
    dec %rdi
    jnz 1b
    ret

    /* fib(15) the slow way: 1,973 calls. */
    .globl run_calls
    .balign 64
run_calls:
    push %rbx
    mov %rdi, %rbx
1:  mov $15, %edi
    call fib
    dec %rbx
    jnz 1b
    pop %rbx
    ret
    .balign 16
fib:
    mov %edi, %eax
    cmp $2, %edi
    jb 3f
    push %rbx
    push %rdi
    dec %edi
    call fib
    mov %eax, %ebx
    pop %rdi
    sub $2, %edi
    call fib
    add %ebx, %eax
    pop %rbx
3:  ret

    /* uint64_t copy_quadwords(to, from, quadwords): returns the last one */
    .globl copy_quadwords
    .balign 64
copy_quadwords:
    xor %ecx, %ecx
1:  mov (%rsi,%rcx,8), %rax
    mov %rax, (%rdi,%rcx,8)
    inc %rcx
    cmp %rdx, %rcx
    jne 1b
    ret

    .section .rodata, "a"
text_entry_failed:
    .asciz "VM entry failed; VM-instruction error"
    .balign 8
gdt_template:
    .quad 0
    .quad 0x00cf9b000000ffff /* CODE32 */
    .quad 0x00af9b000000ffff /* CODE64 */
    .quad 0x00cf93000000ffff /* DATA */
    .quad 0x0000890000000067 /* TASK: base to be filled in */
    .quad 0
gdt_template_end:
gdt_pointer:
    .word gdt_template_end - gdt_template - 1
    .long gdt, 0

    .bss
    .balign 4096
    .globl page_pml4, gdt, task_state
page_pml4:
    .skip 4096
page_pdpt:
    .skip 4096
page_directories:
    .skip 5 * 4096
page_tables:
    .skip (WINDOW_PAGES / 512 + 1) * 4096
    .skip 16384
stack_top:
gdt:
    .skip 64
task_state:
    .skip 128

    .section .note.GNU-stack, "", @progbits
