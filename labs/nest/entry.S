/*
 * entry: the multiboot header, the way from 32-bit protected mode to 64-bit mode, the exception stubs, and the VM entry.
 *
 * The header carries load addresses (bit 16), so that loaders which want a 32-bit ELF file take this 64-bit one as well.
 * Multiboot 1: EAX = 0x2badb002, EBX = information; flat 32-bit segments, paging off, interrupts off.
 */
    .set MULTIBOOT_FLAGS, 0x00010003 /* page-aligned modules, memory information, load addresses */
    .set CODE32, 0x08
    .set CODE64, 0x10
    .set DATA, 0x18
    .set TASK, 0x20

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

    /* All that is writable starts as zero, whoever loaded the image. */
    mov $bss_start, %edi
    mov $bss_end, %ecx
    sub %edi, %ecx
    xor %eax, %eax
    rep stosb

    /* Identity-map 4 GiB by 2 MiB pages. */
    movl $page_pdpt + 3, page_pml4
    mov $page_pdpt, %edi
    mov $page_directories + 3, %eax
    mov $4, %ecx
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

    mov %cr4, %eax
    or $0x20, %eax /* PAE */
    mov %eax, %cr4
    mov $page_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx /* EFER.LME */
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    and $0x9fffffff, %eax /* caches on: not CD, not NW, as some firmware leaves them */
    or $0x80000001, %eax  /* PG, PE */
    mov %eax, %cr0

    /* The task segment's base is known to the linker only as a whole, so it is put together here. */
    mov $gdt_template, %eax
    mov $gdt, %edi
    mov $gdt_template_end - gdt_template, %ecx
    xchg %eax, %esi
    rep movsb
    xchg %eax, %esi
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
    mov %esi, %edi
    mov %ebp, %esi
    xor %ebp, %ebp
    call nest_main
3:  hlt
    jmp 3b

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

    .section .rodata, "a"
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
page_pml4:
    .skip 4096
page_pdpt:
    .skip 4096
page_directories:
    .skip 4 * 4096
    .skip 16384
stack_top:
    .globl gdt, task_state
gdt:
    .skip 64
task_state:
    .skip 128

    .section .note.GNU-stack, "", @progbits
