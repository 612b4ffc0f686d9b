/*
 * system: what is measured of the machine: faults, address spaces, interrupts, ports, VM exits. As in workloads.c, one function each, whose
 * result does not depend on the count.
 */
#include "bench.h"

static void prepare_fault(void)
{
    idt_set(14, fault_handler);
}

static uint64_t run_fault(uint64_t count)
{
    uint64_t value = 7; /* stays, for no load succeeds */
    while (count--)
        __asm__ volatile(".byte 0x48, 0x8b, 0x07" : "+a"(value) : "D"(ABSENT_LA) : "memory"); /* mov (%rdi), %rax */
    return value;
}

enum { CR3_PAGES = 32 };
static uint64_t other_pml4[PAGE_SIZE / 8] __attribute__((aligned(4096)));

static void prepare_cr3(void)
{
    extern uint64_t page_pml4[];
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        other_pml4[i] = page_pml4[i];
    for (unsigned i = 0; i < CR3_PAGES; i++)
        *(uint64_t *)(WINDOW_LA + i * PAGE_SIZE + i * 64) = i;
}

/* Two address spaces in turn; in each the 32 pages of a working set are touched. */
static uint64_t run_cr3(uint64_t count)
{
    extern uint64_t page_pml4[];
    uint64_t sum = 0, roots[2] = {(uint64_t)other_pml4, (uint64_t)page_pml4};
    while (count--) {
        sum = 0;
        __asm__ volatile("mov %0, %%cr3" : : "r"(roots[count & 1]) : "memory");
        for (unsigned i = 0; i < CR3_PAGES; i++)
            sum += *(volatile uint64_t *)(WINDOW_LA + i * PAGE_SIZE + i * 64);
    }
    return sum;
}

static void prepare_interrupt(void)
{
    idt_set(0x40, interrupt_handler);
}

static uint64_t run_interrupt(uint64_t count)
{
    while (count--)
        __asm__ volatile("int $0x40" : : : "memory");
    return 0;
}

/* The interrupt mask of the first PIC: a register of a device that every PC has. */
static uint64_t run_port(uint64_t count)
{
    uint8_t value = 0;
    while (count--)
        __asm__ volatile("inb $0x21, %0" : "=a"(value));
    return value;
}

static uint64_t run_exit(uint64_t count)
{
    while (count--) {
        uint32_t a = CPUID_BENCH, b, c = 0, d;
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    }
    return 0;
}

const struct workload system_workloads[] = {
    {"page-fault", prepare_fault, run_fault, 7},
    {"cr3", prepare_cr3, run_cr3, CR3_PAGES * (CR3_PAGES - 1) / 2},
    {"interrupt", prepare_interrupt, run_interrupt, 0},
    {"port", NULL, run_port, 0xff}, /* main.c masks all */
    {"cpuid", NULL, run_exit, 0},
};
const unsigned system_workload_count = sizeof system_workloads / sizeof *system_workloads;
