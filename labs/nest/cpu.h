/*
 * cpu: MSRs and bits of control registers by name, and the instructions that C has no word for. Of no level's own; labs/bench
 * uses it too.
 */
#ifndef LABS_NEST_CPU_H
#define LABS_NEST_CPU_H

#include <stdint.h>

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

#endif
