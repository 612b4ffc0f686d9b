/*
 * rom: the last 4 KiB of a ROM that starts the image without a BIOS: from the reset vector into 32-bit protected mode, the image copied
 * from the front of the ROM to 1 MiB, and on as a multiboot loader would.
 *
 * build.sh sets ROM_BASE, IMAGE_BYTES and ENTRY. The command line stands at offset 800h of these 4 KiB, where run.sh changes it.
 */
    .section .text
    .globl rom
rom:
    .set HERE, 0xfffff000
    .code16
start16:
    cli
    lgdtl %cs:0xf000 + pointer - rom
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $8, $HERE + start32 - rom
    .balign 8
descriptors:
    .quad 0
    .quad 0x00cf9b000000ffff
    .quad 0x00cf93000000ffff
pointer:
    .word 23
    .long HERE + descriptors - rom
    .balign 4
info:
    .long 4 /* a command line is all there is */
    .skip 12
    .long 0xfffff800
    .skip 100
    .code32
start32:
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    cld
    mov $ROM_BASE, %esi
    mov $0x100000, %edi
    mov $(IMAGE_BYTES + 3) / 4, %ecx
    rep movsl
    mov $0x2badb002, %eax
    mov $HERE + info - rom, %ebx
    mov $ENTRY, %ecx
    jmp *%ecx
    .org rom + 0x800
    .skip 1024
    .org rom + 0xff0
    .code16
    jmp start16
    .org rom + 0x1000
    .section .note.GNU-stack, "", @progbits
