/* The engine as its files see it: the code memory, the places where code leaves, and what translated code calls.
 */
#ifndef NESTOR_CPU_JIT_ENGINE_H
#define NESTOR_CPU_JIT_ENGINE_H

#include "cpu/jit/emit.h"
#include "cpu/jit/memory.h"

#define JIT_CODE_BYTES (24u << 20)         /* it is mapped twice, and decoded blocks (64 MB) run out first as a rule */
#define JIT_SITES (1u << 20)
#define JIT_BLOCK_BYTES 32768u         /* more than the code of any block */
#define JIT_BLOCK_SITES 256u
#define JIT_CELLS 65536u               /* number 0 is nobody's; branches beyond have none of their own */

/* How often a loop's accesses of one pattern did not find their page in the copy of its TLB entry. */
struct jit_miss {
    struct block *block;
    u32 pattern;
    u32 last;                  /* cpu->jit.budget at the last miss */
    u32 often;                 /* misses that came soon after the last one, less those that did not */
};
#define JIT_MISSES 65536u              /* number 0 is nobody's */

struct jit {
    struct interp *interp;
    struct cpu *cpus;
    unsigned cpu_count;
    bool calls;
    struct jit_memory memory;
    size_t common, used;               /* bytes of the common routines, and of everything */
    struct jit_site *sites;            /* SITE_PAGE is all zeroes */
    u32 site_count;
    struct jit_miss *misses;
    u32 miss_count;
    struct jit_jump *jumps;            /* JIT_JUMPS for each vCPU */
    struct jit_jump *cells;            /* where one branch led last */
    u32 cell_count;
    u64 flushes;
    u32 sample_every;                  /* instructions in code … */
    i64 until_sample;                  /* … and how many are left of them */
    const void *enter;                 /* the routine that enters code */
    struct emit *emit;                 /* the back end's own */
};

/* Reads the table of instructions, once. False: the host has no memory. */
bool jit_translate_init(void);
/* Translates the block's first instructions, at most all. False: none can be translated, or there was no room (then *full). */
bool jit_translate(struct jit *jit, struct block *block, bool *full);

/* How a path goes on behind instruction `in` at `offset` of a page to offset `next`: by its direct branch, in a row, or otherwise. */
enum jit_way { JIT_WAY_NONE, JIT_WAY_ON, JIT_WAY_TAKEN };
enum jit_way jit_way_on(const struct jit *jit, const struct insn *in, unsigned offset, u64 next);

/* Called by translated code: runs site's instruction by its handler in the middle of a block. True: the code goes on behind it; false: it
 * leaves, and the engine knows all. */
bool jit_call_handler(struct cpu *cpu, struct jit_site *site);
/* The jump cache had nothing for linear address la: its entry, filled from what the TLB and the interpreter know. NULL: the code has to leave. */
const struct jit_jump *jit_seek(struct cpu *cpu, u64 la);
/* Which vector instructions may run on the host: jit.fp; jit.mxcsr is what the host's MXCSR has to be then. */
enum jit_fp { JIT_FP_SSE = 1, JIT_FP_AVX = 2 };
void jit_fp_begin(struct cpu *cpu);
/* The status flags into cpu->jit.status; CF into cpu->jit.cc_c. */
void jit_flags_image(struct cpu *cpu);
void jit_flags_carry(struct cpu *cpu);

#endif
