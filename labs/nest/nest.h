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

#include "cpu.h"

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

/* The leaf that asks a hypervisor for its name, and the two behind it: our level; the exit that bench measures. */
#define CPUID_HYPERVISOR 0x40000000u
#define CPUID_HYPERVISOR_LEVEL 0x40000001u
#define CPUID_HYPERVISOR_BENCH 0x40000002u

enum { PORT_PIC1 = 0x20, PORT_PIC2 = 0xa0, PORT_DEBUG = 0xe9, PORT_EXIT = 0xf4, PORT_COM1 = 0x3f8, PORT_ACPI_PM1 = 0x604 };
enum { ACPI_SLEEP_S5 = 5 << 10 | 1 << 13 }; /* SLP_TYP 5, SLP_EN */

/* The compiler may call these for assignments; work.c has them. */
void *memset(void *to, int value, size_t size);
void *memcpy(void *restrict to, const void *restrict from, size_t size);

#endif
