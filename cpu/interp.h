/* The run loop and its cache of decoded blocks.
 *
 * A block is a run of decoded instructions from one page of RAM, keyed by the RAM offset of its first byte and the width of the code
 * (cpu->mode.code_key's low bits), so that it serves every address space and level. It ends at a row with attribute END, at the
 * page's end, or after BLOCK_INSNS. An instruction that crosses a page, or stands in no RAM, is decoded anew each time.
 *
 * Kept true: cpu->time.now counts one for every instruction dispatched, whether it retires, faults or exits; the loop stops exactly at
 * cpu->stop_at. A write to decoded code drops the page's blocks and, when it was the running one, ends it after the writing instruction.
 */
#ifndef NESTOR_CPU_INTERP_H
#define NESTOR_CPU_INTERP_H

#include "cpu/insn.h"
#include "cpu/state.h"

struct bus;
struct interp;

#define BLOCK_INSNS 32

/* Where a linear address led in one state of the TLB context. */
struct block_link {
    u64 la;
    u64 key;                   /* tlb_uid, vCPU and code_key; 0 matches nothing */
    struct block *block;
};

struct block {
    u16 bytes;
    u8 count;                  /* instructions; 0: the block has been dropped */
    u8 bits;                   /* enum cpu_bits */
    u8 turn;                   /* the successor to be replaced next */
    struct block_link next[2]; /* the blocks that ran after this one lately (branch taken, not taken) */
    u64 ram_off;               /* of the first byte */
    struct block *hash_next, *page_next;
    struct insn insn[];
};

/* Makes the cache for the machine that `bus` belongs to (and takes bus->code_written). NULL when the host has no memory. */
struct interp *interp_new(struct bus *bus);
void interp_free(struct interp *interp);

/* Runs until cpu->time.now reaches cpu->stop_at, the CPU is not active, or ATT_STOP is set. */
void cpu_run(struct cpu *cpu);

/* The machine's instruction count at the running instruction (from the run loop, handlers, device callbacks). */
u64 cpu_exact_now(const struct cpu *cpu);

struct interp_counts { u64 blocks_decoded, blocks_dropped, flushes, uncached; };
/* What the cache has done so far, for statistics. */
struct interp_counts interp_counts(const struct interp *interp);

#endif
