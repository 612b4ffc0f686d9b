/*
 * bench: what the parts of the benchmark guest share.
 *
 * Linear addresses equal physical ones below 4 GiB, and all levels share one image, one address space and all memory: the EPT of
 * every hypervisor maps each gpa to the same address. What belongs to one level only is in an array indexed by the level.
 *
 * Memory: image from 1 MiB; WINDOW_PA..+WINDOW_SIZE, which is mapped a second time, by 4 KiB pages, at WINDOW_LA.
 */
#ifndef LABS_BENCH_H
#define LABS_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIB (1ul << 20)
#define PAGE_SIZE 4096ul

enum { MULTIBOOT_MAGIC = 0x2badb002, MULTIBOOT_HAS_COMMAND_LINE = 1 << 2 };
enum { LEVELS_MAX = 16 };

#define WINDOW_LA (4ul << 30)          /* known to entry.S: the fifth entry of the PDPT */
#define WINDOW_PA (32 * MIB)
#define WINDOW_PAGES 8192ul            /* far more than any TLB has entries */
#define WINDOW_SIZE (WINDOW_PAGES * PAGE_SIZE)
#define ABSENT_LA (WINDOW_LA + WINDOW_SIZE) /* a page whose page-table entry is 0 */

/* ---- main.c ---- */

/* Says why on port 0x402, and ends the machine with a failure (port 0xf4). */
_Noreturn void fail(const char *why, uint64_t detail);

/* Numbers of handlers in the IDT. */
void idt_set(unsigned vector, const void *handler);

/* What level the running code is; 1 is the machine's own. */
extern unsigned current_level;

/* Where the guest of the current level begins, on a fresh stack. */
_Noreturn void level_main(void);

/* ---- hypervisor.c ---- */

/* Becomes the hypervisor of the next level and enters it at level_main(); comes back only in exits. */
_Noreturn void hypervisor_start(void);

/* The CPUID leaf whose exit is answered by the fewest instructions (entry.S). */
enum { CPUID_BENCH = 0x40000002 };

/* ---- workloads ---- */

/* One thing that is measured. `run` does it `count` times and returns the last time's result, which is the same every time. */
struct workload {
    const char *name;
    void (*prepare)(void);             /* NULL: nothing to prepare */
    uint64_t (*run)(uint64_t count);
    uint64_t expected;
};
extern const struct workload workloads[], system_workloads[]; /* workloads.c, system.c */
extern const unsigned workload_count, system_workload_count;

/* loops.S: the loops whose instructions must not depend on the compiler. */
uint64_t run_integer(uint64_t count);
uint64_t run_divide(uint64_t count);
uint64_t run_calls(uint64_t count);
uint64_t copy_quadwords(void *to, const void *from, uint64_t quadwords);
/* entry.S */
extern const char fault_handler[], interrupt_handler[];

/* floating.c, compiled for SSE2 */
void prepare_matrix(void);
uint64_t run_matrix(uint64_t count);
void prepare_doubles(void);
uint64_t run_doubles(uint64_t count);

/* vectors.c, compiled for AVX */
void prepare_vectors(void);
uint64_t run_vectors(uint64_t count);

/* main.c, native.c: ends with the line "skip NAME why": this processor cannot. */
_Noreturn void skip(const char *why);

#endif
