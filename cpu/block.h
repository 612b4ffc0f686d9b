/* What a decoded block is, and where in the running one the CPU stands. Plain data: the run loop makes blocks (cpu/interp.h); other floors only
 * ask how many of the running block's instructions came before the running one.
 */
#ifndef NESTOR_CPU_BLOCK_H
#define NESTOR_CPU_BLOCK_H

#include "cpu/insn.h"
#include "cpu/state.h"

#define BLOCK_INSNS 32
#define SUPERBLOCK_INSNS 64

/* Where a linear address led in one state of the TLB context. */
struct block_link {
    u64 la;
    u64 key;                   /* tlb_uid, vCPU and code_key; 0 matches nothing */
    struct block *block;
};

/* A path through several blocks of one page that was taken: what an engine translates in place of its first block. */
struct superblock_step {
    const struct insn *in;     /* in the block that it belongs to */
    u16 offset;                /* of its first byte in the page */
    bool followed;             /* a direct branch: the next step is where it leads */
};
struct superblock {
    u16 from, to;              /* offsets in the page: all its instructions lie between them */
    u8 count;
    struct superblock_step step[];
};

struct block {
    u16 bytes;
    u8 count;                  /* instructions; 0: the block has been dropped */
    u8 bits;                   /* enum cpu_bits | mode.cet << 2 | whether locks are watched << 4 */
    u8 turn;                   /* the successor to be replaced next */
    u8 wanders;                /* by the engine's number: accesses that go to another page each time */
    u16 heat;                  /* how often an engine was asked to run it before there was code */
    u8 taken_off;              /* instructions that have to be left for the code to be entered */
    u8 samples, followed;      /* how often an engine met it when it looked; how often it was the start of a superblock */
    bool loop;                 /* the code branches to its own start */
    struct superblock *superblock; /* what the code is made of instead, or NULL */
    const void *code;          /* the engine's translation, or NULL */
    u64 ram_off;               /* of the first byte */
    struct block *hash_next, *page_next;
    struct block_link next[2]; /* the blocks that ran after this one lately (branch taken, not taken) */
    struct insn insn[];
};

/* How many instructions of the running block stand before the running one; 0 outside of blocks. As long as rip is still its. */
static inline unsigned cpu_block_position(const struct cpu *cpu)
{
    const struct block *block = cpu->block;
    if (!block)
        return 0;
    u64 rip = cpu->block_rip;
    unsigned i = 0;
    while (i + 1u < block->count && i + 1u < BLOCK_INSNS && rip != cpu->core.rip)
        rip += block->insn[i++].length;
    return i;
}

/* The machine's instruction count at the running instruction (from the run loop, handlers, device callbacks). */
static inline u64 cpu_exact_now(const struct cpu *cpu) { return cpu->time.now + cpu_block_position(cpu); }

#endif
