/*
 * System-management mode: the state in which a handler begins, what RSM brings back, and SMIs in SMM. [SDM3 "System Management Mode"]
 *
 * The SMIs are sent by the local APIC to itself, while the harness runs in 64-bit mode. The handler is put where SMBASE is without
 * firmware (30000h), and into the chipset's SMRAM, where QEMU's firmware has moved it. What is compared does not depend on the place
 * or on the save map, whose format is AMD's in QEMU.
 */
#include "harness.h"

extern unsigned count_cases, count_wrong;
extern const u8 smm_handler[], smm_handler_end[];

#define NOTES 0x60000u             /* what the handler saw, a doubleword each */
enum { SEEN_CR0, SEEN_CR4, SEEN_FLAGS, SEEN_CS, SEEN_SS, SEEN_DS, SEEN_DR7, SEEN_IP, SEEN_EFER, COUNT, DEPTH, DEEPEST, AGAIN, NOTES_END };

__asm__(".section .text\n"
        ".code16\n"
        "smm_handler:\n"
        "    mov $0x70000, %esp\n"
        "    addr32 pushfl\n"
        "    addr32 popl %eax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 2\n"
        "    addr32 incl %ds:0x60000 + 4 * 9\n"      /* COUNT */
        "    addr32 incl %ds:0x60000 + 4 * 10\n"     /* DEPTH, DEEPEST */
        "    addr32 movl %ds:0x60000 + 4 * 10, %eax\n"
        "    addr32 cmpl %ds:0x60000 + 4 * 11, %eax\n"
        "    jbe 1f\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 11\n"
        "1:  movl %cr0, %eax\n"
        "    addr32 movl %eax, %ds:0x60000\n"
        "    movl %cr4, %eax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 1\n"
        "    xorl %eax, %eax\n"
        "    movw %cs, %ax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 3\n"
        "    movw %ss, %ax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 4\n"
        "    movw %ds, %ax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 5\n"
        "    movl %dr7, %eax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 6\n"
        "    addr32 calll 2f\n"
        "2:  addr32 popl %eax\n"
        "    subl $(2b - smm_handler), %eax\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 7\n"
        "    movl $0xc0000080, %ecx\n"
        "    rdmsr\n"
        "    addr32 movl %eax, %ds:0x60000 + 4 * 8\n"
        "    addr32 cmpl $0, %ds:0x60000 + 4 * 12\n" /* AGAIN: another one from here */
        "    je 3f\n"
        "    addr32 movl $0, %ds:0x60000 + 4 * 12\n"
        "    movl $0xfee00300, %esi\n"
        "    movl $0x40200, %eax\n"
        "    addr32 movl %eax, (%esi)\n"
        "    nop\n"
        "    nop\n"
        "3:  addr32 decl %ds:0x60000 + 4 * 10\n"
        "    rsm\n"
        "smm_handler_end:\n"
        ".code64\n");

static void out32(u16 port, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }
static void out8(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }

static u32 note(unsigned n) { return peek32(NOTES + 4 * n); }

static void install(void)
{
    out32(0xcf8, 0x80000070);          /* the host bridge's SMRAM register: open, then closed */
    out8(0xcfe, 0x4a);
    for (const u8 *p = smm_handler; p < smm_handler_end; p++) {
        poke8(0x38000 + (u64)(p - smm_handler), *p);
        poke8(0xa8000 + (u64)(p - smm_handler), *p);
    }
    out8(0xcfe, 0x0a);
    for (unsigned n = 0; n < NOTES_END; n++)
        poke32(NOTES + 4 * n, 0);
}

static void judge(const char *name, bool right, const char *what)
{
    count_cases++;
    print("%s: %s\n", name, what);
    if (!right) {
        count_wrong++;
        print("! expected otherwise\n");
    }
}

/* Sends the SMI with known registers and flags; true: all of them are as they were. */
static bool registers_survive(void)
{
    u64 flags, wrong;
    __asm__ volatile("mov $0x1122334455667788, %%rbx\n"
                     "mov $0x8877665544332211, %%r15\n"
                     "mov %%rsp, %%r14\n"
                     "mov %%cr3, %%r13\n"
                     "mov %%cr4, %%r12\n"
                     "mov $0xfee00300, %%edi\n"
                     "mov $0x40200, %%eax\n"
                     "stc\n"
                     "std\n"
                     "movl %%eax, (%%rdi)\n"
                     "nop\nnop\nnop\nnop\n"
                     "pushfq\n"
                     "pop %0\n"
                     "cld\n"
                     "xor %1, %1\n"
                     "mov $0x1122334455667788, %%rdx\n"
                     "xor %%rbx, %%rdx\n"
                     "or %%rdx, %1\n"
                     "mov $0x8877665544332211, %%rdx\n"
                     "xor %%r15, %%rdx\n"
                     "or %%rdx, %1\n"
                     "xor %%rsp, %%r14\n"
                     "or %%r14, %1\n"
                     "mov %%cr3, %%rdx\n"
                     "xor %%r13, %%rdx\n"
                     "or %%rdx, %1\n"
                     "mov %%cr4, %%rdx\n"
                     "xor %%r12, %%rdx\n"
                     "or %%rdx, %1\n"
                     : "=&r"(flags), "=&r"(wrong)
                     :
                     : "rax", "rbx", "rdx", "rdi", "r12", "r13", "r14", "r15", "memory", "cc");
    return !wrong && (flags & 0x401) == 0x401;
}

void cases_smm(void)
{
    u64 cr0;
    install();
    __asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
    bool survive = registers_survive();
    judge("smm/taken", note(COUNT) == 1, text("%d SMIs", (u64)note(COUNT)));
    judge("smm/registers", note(COUNT) == 1 && survive, survive ? "as they were" : "changed");
    bool control = note(SEEN_CR0) == (u32)(cr0 & ~(u64)(CR0_PE | CR0_EM | CR0_TS | CR0_PG)) && !note(SEEN_CR4) && !note(SEEN_EFER);
    judge("smm/entry-control", control, text("cr0=%x cr4=%x efer=%x", (u64)note(SEEN_CR0), (u64)note(SEEN_CR4), (u64)note(SEEN_EFER)));
    judge("smm/entry-flags", note(SEEN_FLAGS) == 2 && note(SEEN_DR7) == 0x400,
          text("fl=%x dr7=%x", (u64)note(SEEN_FLAGS), (u64)note(SEEN_DR7)));
    bool place = (note(SEEN_CS) == 0x3000 || note(SEEN_CS) == 0xa000) && !note(SEEN_SS) && !note(SEEN_DS) && note(SEEN_IP) == 0x8000;
    judge("smm/entry-segments", place, text("ss=%x ds=%x ip=%x", (u64)note(SEEN_SS), (u64)note(SEEN_DS), (u64)note(SEEN_IP)));
    /* One that is sent in SMM waits for RSM. */
    install();
    poke32(NOTES + 4 * AGAIN, 1);
    survive = registers_survive();
    judge("smm/latched", survive && note(COUNT) == 2 && note(DEEPEST) == 1,
          text("%d SMIs, %d deep", (u64)note(COUNT), (u64)note(DEEPEST)));
}
