/*
 * start: what every guest of labs/ starts with: the multiboot header, and the way from 32-bit protected mode to guest_main() in
 * 64-bit mode, with the first 4 GiB mapped to themselves, a GDT and a task segment. Interrupts stay off, the IDT is the guest's affair.
 *
 * Kept true: entry32 may be entered again by a copy of the image, so it relies on nothing but the registers.
 *
 * The header carries load addresses (bit 16), so that loaders which want a 32-bit ELF file take this 64-bit one as well.
 * Multiboot 1: EAX = 0x2badb002, EBX = information; flat 32-bit segments, paging off, interrupts off.
 *
 * _Noreturn void guest_main(uint32_t magic, const struct multiboot_info *info)
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
    call guest_main
3:  hlt
    jmp 3b

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
    .globl page_pml4, page_pdpt, gdt, task_state
page_pml4:
    .skip 4096
page_pdpt:
    .skip 4096
page_directories:
    .skip 4 * 4096
    .skip 16384
stack_top:
gdt:
    .skip 64
task_state:
    .skip 128

    .section .note.GNU-stack, "", @progbits
