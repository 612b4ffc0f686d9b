/*
 * nest: what the parts of the self-nesting hypervisor share.
 *
 * Addresses: `pa` is physical as this level sees it (its hypervisor, if it has one, translates further); `gpa` is
 * guest-physical of the level inside. The level's own linear addresses equal its physical ones, below 4 GiB.
 *
 * Memory of a level, by pa:
 *     0          RESERVED_SIZE: its own; the image stands at 1 MiB, page tables for its guest from EPT_POOL_PA
 *     GUEST_PA   up to the end: the guest's memory; gpa 0 is pa GUEST_PA
 *
 * Nothing writable may be initialised: each level hands the image on to the next by copying it from memory, and a
 * variable in .data would be copied with what it has become. The linker script refuses .data.
 */
#ifndef LABS_NEST_H
#define LABS_NEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB 1024ul
#define MIB (1024 * KIB)
#define PAGE_SIZE (4 * KIB)
#define LARGE_PAGE_SIZE (2 * MIB)

enum { IMAGE_PA = 1 << 20, EPT_POOL_PA = 4 << 20, GUEST_PA = 8 << 20, RESERVED_SIZE = GUEST_PA };
enum { GUEST_INFO_GPA = 0x8000, GUEST_COMMAND_LINE_GPA = 0x9000, COMMAND_LINE_SIZE = 256 };
enum { MULTIBOOT_MAGIC = 0x2badb002, MULTIBOOT_HAS_MEMORY = 1 << 0, MULTIBOOT_HAS_COMMAND_LINE = 1 << 2 };
enum { LEVELS_MAX = 16 };

struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, command_line_pa;
};

/* What this level knows of itself; filled in once, by main.c. */
struct level {
    unsigned level, levels;  /* this one's number; how many there shall be */
    bool bench;              /* mode=bench: the innermost measures a VM exit instead of working */
    unsigned long count;     /* how often */
    uint64_t memory;         /* bytes from pa 0 */
    bool vmx;                /* CPUID says that VMX is there */
};
extern struct level self;

/* ---- console.c: COM1, each line begun with the level's name ---- */

/* Sets COM1 up: L1's business, which the levels inside find done. */
void console_init(void);
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One byte as it is: how a guest's output passes through this level. */
void console_put_raw(uint8_t byte);

/* ---- main.c ---- */

/* Says why, and ends the whole machine with a failure: port 0xf4, which every hypervisor here passes outwards. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- trap.c: exceptions of this level ---- */

enum { TRAP_NONE = 0x100, VECTOR_UD = 6, VECTOR_GP = 13 };

void trap_init(void);
/* Do the one thing named and return the vector of the exception that it raised, or TRAP_NONE. */
unsigned try_read_msr(uint32_t index, uint64_t *value);
unsigned try_write_msr(uint32_t index, uint64_t value);
unsigned try_write_cr4(uint64_t value);
/* *succeeded: neither CF nor ZF was set. */
unsigned try_vmxon(uint64_t region_pa, bool *succeeded);
const char *trap_name(unsigned vector);

/* ---- vmx.c, ept.c, exits.c: the hypervisor ---- */

/* Runs a copy of this image as guest until it ends, reports on it, and leaves VMX operation. */
void hypervisor_run(void);

/* Maps gpa 0..size to pa from; returns the EPT pointer. size is a multiple of PAGE_SIZE. large: 2 MiB pages may be used. */
uint64_t ept_build(uint64_t from_pa, uint64_t size, bool large);

struct guest_registers { /* known to entry.S */
    uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};

enum guest_fate { GUEST_GOES_ON, GUEST_ENDED, GUEST_BROKEN };

/* Handles the VM exit that just happened. */
enum guest_fate exit_handle(struct guest_registers *registers);
/* Prints how many exits of which kind were handled. */
void exit_report(void);

/* ---- work.c: what the innermost level is there for ---- */

/* Prints a result; false if it is wrong. */
bool work_run(void);
void work_bench(unsigned long count);

/* ---- cpu instructions ---- */

enum {
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_PAT = 0x277,
    MSR_VMX_BASIC = 0x480,
    MSR_VMX_PINBASED_CTLS = 0x481,
    MSR_VMX_PROCBASED_CTLS = 0x482,
    MSR_VMX_EXIT_CTLS = 0x483,
    MSR_VMX_ENTRY_CTLS = 0x484,
    MSR_VMX_CR0_FIXED0 = 0x486,
    MSR_VMX_CR0_FIXED1 = 0x487,
    MSR_VMX_CR4_FIXED0 = 0x488,
    MSR_VMX_CR4_FIXED1 = 0x489,
    MSR_VMX_PROCBASED_CTLS2 = 0x48b,
    MSR_VMX_EPT_VPID_CAP = 0x48c,
    MSR_VMX_TRUE_PINBASED_CTLS = 0x48d,
    MSR_VMX_TRUE_PROCBASED_CTLS = 0x48e,
    MSR_VMX_TRUE_EXIT_CTLS = 0x48f,
    MSR_VMX_TRUE_ENTRY_CTLS = 0x490,
    MSR_VMX_LAST = 0x493,
};
#define MSR_EFER 0xc0000080u
#define MSR_FS_BASE 0xc0000100u
#define MSR_KERNEL_GS_BASE 0xc0000102u

enum { CR0_PE = 1 << 0, CR0_ET = 1 << 4, CR0_NE = 1 << 5, CR4_VMXE = 1 << 13, RFLAGS_FIXED = 2 };

/* The leaf that asks a hypervisor for its name, and the two behind it: our level; the exit that bench measures. */
#define CPUID_HYPERVISOR 0x40000000u
#define CPUID_HYPERVISOR_LEVEL 0x40000001u
#define CPUID_HYPERVISOR_BENCH 0x40000002u

enum { PORT_PIC1 = 0x20, PORT_PIC2 = 0xa0, PORT_DEBUG = 0xe9, PORT_EXIT = 0xf4, PORT_COM1 = 0x3f8, PORT_ACPI_PM1 = 0x604 };
enum { ACPI_SLEEP_S5 = 5 << 10 | 1 << 13 }; /* SLP_TYP 5, SLP_EN */

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid result;
    __asm__ volatile("cpuid" : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx) : "a"(leaf), "c"(subleaf));
    return result;
}

static inline uint64_t rdmsr(uint32_t index)
{
    uint32_t low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return (uint64_t)high << 32 | low;
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (uint64_t)high << 32 | low;
}

static inline uint64_t read_cr0(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

static inline uint64_t read_cr3(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

static inline uint64_t read_cr4(void)
{
    uint64_t value;
    __asm__ volatile("mov %%cr4, %0" : "=r"(value));
    return value;
}

static inline void write_cr0(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr0" : : "r"(value) : "memory");
}

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* The compiler may call these for assignments; work.c has them. */
void *memset(void *to, int value, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

#endif
