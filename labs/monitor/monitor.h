/*
 * monitor.h: the guest as the monitor's files share it, and what each of them gives.
 */
#ifndef LABS_MONITOR_MONITOR_H
#define LABS_MONITOR_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/kvm.h>

#include "uart.h"

#define MIB (1024ull * 1024)

/* Where things stand in guest-physical memory. All below 640 KiB, but for the kernel and what is loaded behind it. */
enum {
    GPA_GDT = 0x500,
    GPA_ZERO_PAGE = 0x7000,        /* Linux */
    GPA_MULTIBOOT_INFO = 0x7000,   /* multiboot: information, memory map, modules */
    GPA_PAGE_TABLES = 0x9000,      /* PML4, one PDPT, four page directories: 4 GiB identity-mapped by 2 MiB pages */
    GPA_COMMAND_LINE = 0x20000,
    GPA_MODULE_STRINGS = 0x21000,
    GPA_LOW_END = 0x9fc00,
    GPA_ACPI = 0xe0000,            /* to 1 MiB */
    GPA_TSS = 0xfffbd000,          /* three pages and one page that Intel processors without unrestricted guest need */
    GPA_IDENTITY_MAP = 0xfffbc000,
};

enum { COMMAND_LINE_MAX = 2047, MODULES_MAX = 8 };

enum { IRQ_SCI = 9, PORT_ACPI_EVENT = 0x600, PORT_ACPI_CONTROL = 0x604, ACPI_SLEEP_TYPE_OFF = 5 };

struct module {
    const char *path, *words;
};

struct options {
    const char *kernel, *initrd, *append, *prefix;
    struct module module[MODULES_MAX];
    unsigned modules;
    uint64_t memory;
    bool nested;
};

struct guest {
    int kvm, vm, vcpu;
    struct kvm_run *run;
    uint8_t *memory;       /* the guest's memory: gpa 0 is memory[0] */
    uint64_t size;
    uint64_t entry_gpa;    /* where the kernel is entered … */
    bool multiboot;        /* … in 32-bit protected mode with EAX and EBX as multiboot says, or Linux's way in 64-bit mode */
    struct uart uart;
    uint8_t cmos_index;
    uint16_t acpi_status, acpi_enable;
    bool over;             /* the guest switched itself off, or reset */
};

/* Ends the program with one line on stderr. Status 1: usage or host error, 2: KVM could not go on with the guest. */
_Noreturn void die(int status, const char *format, ...);

/* Opens a file; `size` becomes its length. Dies if that cannot be. */
int file_open(const char *path, uint64_t *size);
/* Reads `size` bytes from `offset` on. Dies if there are fewer. */
void file_read(int fd, const char *path, uint64_t offset, void *to, uint64_t size);

/* Load a kernel and what goes with it, and set entry_gpa. They die of a file that they cannot take. */
void linux_load(struct guest *guest, const struct options *options);
void multiboot_load(struct guest *guest, const struct options *options);
/* Whether the file has a multiboot header. */
bool multiboot_is_kernel(const char *path);

/* Writes the ACPI tables to GPA_ACPI: one processor, the I/O APIC, power-off. */
void acpi_build(struct guest *guest);

#endif
