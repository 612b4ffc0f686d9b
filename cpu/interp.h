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

#include "cpu/block.h"
#include "cpu/insn.h"
#include "cpu/state.h"

struct bus;
struct interp;

/* Makes the cache for the machine that `bus` belongs to (and takes bus->code_written). NULL when the host has no memory. */
struct interp *interp_new(struct bus *bus);
void interp_free(struct interp *interp);

/* Runs until cpu->time.now reaches cpu->stop_at, the CPU is not active, or ATT_STOP is set. */
void cpu_run(struct cpu *cpu);

/* An engine that runs whole blocks in the loop's place. It sees only blocks of 32- and 64-bit code from RAM that may run to their end before
 * stop_at with nothing to look at in between. */
struct engine {
    void *arg;
    /* Runs from this block on, as far as it likes within stop_at; false: the block is not its to run, the loop interprets it. */
    bool (*run)(void *arg, struct cpu *cpu, struct block *block);
    void (*dropped)(void *arg, struct block *block);    /* the block's code was written to: nobody may enter it any more */
    void (*flushed)(void *arg);                         /* all blocks are gone */
    void (*free)(void *arg);
};
/* The loop calls the engine from now on and frees it with the cache. */
void interp_set_engine(struct interp *interp, const struct engine *engine);

/* For engines: the block at linear address rip, NULL when the fetch faults (cpu->fault tells; the loop raises it). May flush all blocks. */
struct block *interp_find(struct cpu *cpu);
/* For engines: the block at linear address la if that can be told without walking tables or decoding, else NULL. Nothing changes by it. */
struct block *interp_seek(struct cpu *cpu, u64 la);
/* What the translation of a linear address depends on besides the address; changes with every change of the TLB context. */
static inline u64 interp_key(const struct cpu *cpu)
{
    return cpu->tlb_uid << (8 + CODE_KEY_BITS) | cpu->index << CODE_KEY_BITS | cpu->mode.code_key;
}
/* For engines: runs the whole block by its handlers. stop_at must leave room for all of it. */
enum flow interp_run(struct cpu *cpu, struct block *block);
/* For engines: keeps the superblock of `count` steps for the block, whose code is the engine's to renew. False: there is no room for it. A write
 * to a byte of its instructions, or to code between them, drops it, and the block's code with it. */
bool interp_keep_superblock(struct interp *interp, struct block *block, const struct superblock_step *step, unsigned count);
/* Forgets all blocks. */
void interp_flush(struct interp *interp);

struct interp_counts { u64 blocks_decoded, blocks_dropped, flushes, uncached, superblocks, superblocks_dropped; };
/* What the cache has done so far, for statistics. */
struct interp_counts interp_counts(const struct interp *interp);

#endif
