/*
 * The image's main: finds out what the processor has, runs all families of cases, and ends the machine. Words of the command line:
 *
 *     only=NAME            this case alone; it is how the runner asks for cases that shut the processor down, which are left out otherwise
 *     skip=PREFIX,PREFIX   leaves out cases on which a machine is known to hang
 */
#include "harness.h"

const char *only, *skip;
unsigned count_cases, count_wrong, count_absent;
static char command_line[1024];

extern u64 harness_cr4;
extern struct table_register harness_idtr;
extern u8 harness_fault[], harness_nmi[], harness_interrupt[];
static u64 harness_idt[512];

static void cpuid(u32 leaf, u32 subleaf, u32 *a, u32 *b, u32 *c, u32 *d)
{
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(subleaf));
}

u64 read_msr(u32 msr)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (u64)high << 32 | low;
}

void write_msr(u32 msr, u64 value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static void out8(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static void out16(u16 port, u16 v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }

void quit(int status)
{
    out8(0xf4, (u8)status);        /* isa-debug-exit, where there is one */
    if (!status)
        out16(0x604, 0x2000);      /* power off, Nestor and QEMU */
    for (const char *p = "Shutdown"; *p; p++)
        out8(0x8900, (u8)*p);      /* Bochs */
    for (;;)
        __asm__ volatile("cli; hlt");
}

_Noreturn void harness_died(const u64 *frame)
{
    print("harness: exception: %x %x %x %x\n", frame[0], frame[1], frame[2], frame[3]);
    quit(2);
    __builtin_unreachable();
}

static void find_features(void)
{
    u32 a, b, c, d;
    cpuid(0, 0, &cpu.max_leaf, &b, &c, &d);
    cpuid(1, 0, &a, &b, &cpu.l1c, &cpu.l1d);
    if (cpu.max_leaf >= 7)
        cpuid(7, 0, &a, &cpu.l7b, &cpu.l7c, &cpu.l7d);
    if (cpu.max_leaf >= 7 && a >= 1)
        cpuid(7, 1, &cpu.l7_1a, &b, &c, &d);
    if (cpu.max_leaf >= 13 && HAS_XSAVE) {
        cpuid(13, 0, &cpu.xcr0, &b, &c, &d);
        cpuid(13, 1, &cpu.ld1a, &b, &c, &d);
    }
    cpuid(0x80000000, 0, &cpu.max_extended, &b, &c, &d);
    cpuid(0x80000001, 0, &a, &b, &cpu.e1c, &cpu.e1d);
    cpu.pa_bits = 36;
    if (cpu.max_extended >= 0x80000008) {
        cpuid(0x80000008, 0, &a, &b, &c, &d);
        cpu.pa_bits = a & 0xff;
    }
}

static void harness_gate(unsigned vector, const u8 *handler)
{
    gate((u64)&harness_idt[2 * vector], 0x10, (u64)handler, A_INT32, 0, true);
}

static void take_command_line(u64 at)
{
    unsigned i = 0;
    for (const char *p = (const char *)at; *p && i < sizeof(command_line) - 1; p++)
        command_line[i++] = *p;
    command_line[i] = 0;
    for (char *p = command_line; *p;) {
        char *word = p;
        while (*p && *p != ' ')
            p++;
        if (*p)
            *p++ = 0;
        if (word[0] == 'o' && word[4] == '=')
            only = word + 5;
        if (word[0] == 's' && word[4] == '=')
            skip = word + 5;
    }
}

static const struct { const char *prefix; void (*cases)(void); } families[] = {
    {"privilege/", cases_privilege}, {"control/", cases_control}, {"segment/", cases_segment}, {"gate/", cases_gate},
    {"transfer/", cases_transfer}, {"paging/", cases_paging}, {"v86/", cases_v86}, {"io/", cases_io}, {"double/", cases_double},
    {"debug/", cases_debug}, {"syscall/", cases_syscall}, {"task/", cases_task}, {"smm/", cases_smm},
    {"cet/", cases_cet}, {"trap/", cases_trap}, {"limit/", cases_limit}, {"state/", cases_state}, {"uintr/", cases_uintr},
};

static bool starts_with(const char *name, const char *prefix)
{
    while (*prefix && *name == *prefix)
        name++, prefix++;
    return !*prefix;
}

_Noreturn void guest_main(u32 magic, u64 info)
{
    if (magic == 0x2badb002 && peek32(info) & 4)
        take_command_line(peek32(info + 16));
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    find_features();
    for (unsigned i = 0; i < 256; i++)
        harness_gate(i, i < 0x20 ? harness_fault : harness_interrupt);
    harness_gate(2, harness_nmi);
    harness_idtr = (struct table_register){sizeof(harness_idt) - 1, (u64)harness_idt};
    __asm__ volatile("lidt %0" : : "m"(harness_idtr));
    harness_cr4 = CR4_PAE;
    write_msr(0x1b, read_msr(0x1b) | 0x800);
    poke32(0xfee000f0, 0x1ff);     /* local APIC on */
    poke32(0xfee00350, 0x10000);   /* LINT0, LINT1: masked */
    poke32(0xfee00360, 0x10000);

    print("system: begin\n");
    for (unsigned i = 0; i < sizeof(families) / sizeof(families[0]); i++)
        if (!only || starts_with(only, families[i].prefix))
            families[i].cases();
    print("system: %d cases, %d not as expected, %d absent\n", count_cases, count_wrong, count_absent);
    quit(0);
    __builtin_unreachable();
}
