/* The engine: which blocks are translated, entering and leaving code, and keeping the machine's time exact.
 *
 * Translated code leaves at sites. A site says where rip is, how many of the block's instructions have not run, and which instruction the
 * handler has to do, if any; then the next block is found as the interpreter finds it, and the branch that left is linked to it.
 *
 * Kept true: outside translated code cpu->core, time.now and time.retired are exact, also while a handler or a device behind it runs.
 * Code of a dropped block is left at its entry; its memory is used again only after all blocks have gone.
 */
#include "cpu/jit/jit.h"

#include "cpu/flags.h"
#include "cpu/interp.h"
#include "cpu/jit/engine.h"
#include "cpu/pmu.h"
#include "cpu/sse.h"
#include "cpu/vector.h"

#include <stdlib.h>

#define HOT 12                         /* a block is translated when it is run for the so many-th time */
#define HEAT_NEVER 0xffff
#define SAMPLES 2                      /* a block's way is followed when it is met for the so many-th time by looking now and then … */
#define FOLLOWED_MOST 3                /* … but not more often than this, whatever becomes of it */

static const struct insn somewhere;    /* cpu->run_end while nothing has asked for the loop */
/* What cpu->block is while translated code runs: time.now is the running instruction's own. */
static struct block one_instruction = {.count = 1};

/* ---- called by translated code ------------------------------------------------------------------------------------- */

/* cpu->core and time as they are at `site`, before its instruction. */
static void settle(struct cpu *cpu, const struct jit_site *site)
{
    struct cpu_jit *j = &cpu->jit;
    u64 now = j->stop - (u64)(j->budget + site->refund);
    cpu->time.retired += now - cpu->time.now;
    cpu->time.now = now;
    cpu->core.rip = j->page + site->offset;
    jit_flags_settle(cpu);
}

static void count_one(struct cpu *cpu)
{
    cpu->time.now++;
    cpu->time.retired++;
}

/* The handler of the instruction at rip, while performance counters run. They may be told before it; the last instruction of a stay is the only
 * one that may not retire, since all that goes wrong leaves the code. */
static COLD enum flow run_counted(struct cpu *cpu, const struct insn *in)
{
    struct pmu_moment *moment = cpu->jit.counting;
    u64 rip = cpu->core.rip;
    if (pmu_runs_alone(cpu, in)) {
        pmu_count_many(cpu, true, moment);
        pmu_begin_many(cpu, moment);
    }
    enum flow flow = in->handler(cpu, in);
    cpu->jit.unretired = !pmu_retired(cpu, in, rip, flow, moment->depth);
    return flow;
}

static inline enum flow run_handler(struct cpu *cpu, const struct insn *in)
{
    return UNLIKELY(cpu->jit.counting != NULL) ? run_counted(cpu, in) : in->handler(cpu, in);
}

bool jit_call_handler(struct cpu *cpu, struct jit_site *site)
{
    const struct insn *in = site->in;
    settle(cpu, site);
    enum flow flow = run_handler(cpu, in);
    if (LIKELY(flow == FLOW_NEXT)) {
        if (LIKELY(cpu->run_end != NULL))
            return true;
        cpu->core.rip += in->length;
    }
    count_one(cpu);
    return false;
}

void jit_flags_image(struct cpu *cpu)
{
    jit_flags_settle(cpu);
    cpu->jit.status = flags_status(cpu) | FL_R1 | FL_IF;
}

void jit_flags_carry(struct cpu *cpu)
{
    jit_flags_settle(cpu);
    cpu->jit.cc_c = flag_cf(cpu);
}

void jit_fp_begin(struct cpu *cpu)
{
    u32 mxcsr = cpu->fpu.mxcsr;
    cpu->jit.mxcsr = mxcsr & ~(u32)MXCSR_FLAGS;
    cpu->jit.fp = (sse_available(cpu) ? JIT_FP_SSE : 0) | (vec_available(cpu, XCR0_AVX) ? JIT_FP_AVX : 0);
    if ((mxcsr & MXCSR_MASKS) != MXCSR_MASKS)
        cpu->jit.fp = 0;
}

/* ---- blocks -------------------------------------------------------------------------------------------------------- */

static struct jit_jump *jump_of(struct cpu *cpu, u64 la) { return &cpu->jit.jumps[(la ^ la >> 12 ^ cpu->jit.salt) & (JIT_JUMPS - 1)]; }

static bool near_end(const struct cpu *cpu, u64 rip) { return cpu->mode.code_bits != BITS_64 && rip >= 0xfffff000; }

const struct jit_jump *jit_seek(struct cpu *cpu, u64 la)
{
    const struct block *block = interp_seek(cpu, la);
    if (!block || !block->code || near_end(cpu, la) || interp_key(cpu) != cpu->jit.key)
        return NULL;
    struct jit_jump *jump = jump_of(cpu, la);
    *jump = (struct jit_jump){.la = la, .key = cpu->jit.key, .code = block->code};
    return jump;
}

static void dropped(void *arg, struct block *block)
{
    emit_poison(arg, block->code);
    block->code = NULL;
}

/* The block has code, or gets some because it is hot. */
static bool has_code(struct jit *jit, struct block *block, bool *full)
{
    *full = false;
    if (LIKELY(block->code != NULL))
        return true;
    if (block->heat == HEAT_NEVER || ++block->heat < HOT)
        return false;
    if (jit_translate(jit, block, full))
        return true;
    if (block->superblock && !*full) {
        block->superblock = NULL;
        return has_code(jit, block, full);
    }
    if (!*full)
        block->heat = HEAT_NEVER;
    return false;
}

/* An access in a loop was found to go to another page each time, or a branch to another place: the block is translated anew when it is met again. */
static void give_way(struct jit *jit, struct cpu *cpu)
{
    const struct jit_miss *miss = &jit->misses[cpu->jit.wanders];
    struct block *block = miss->block;
    block->wanders |= (u8)(1u << miss->pattern);
    if (block->code)
        dropped(jit, block);
    cpu->jit.wanders = 0;
}

static bool flat(const struct segment *s)
{
    return s->base == 0 && s->limit == 0xffffffff && !(s->access & (AR_UNUSABLE | AR_CODE | AR_EXPAND_DOWN)) && s->access & AR_WRITABLE;
}

/* Translated code may run: 64-bit code, or 32-bit code whose linear addresses are its effective ones and whose segments allow everything. It keeps
 * away from the last page, where rip would wrap. */
static bool runs_here(const struct cpu *cpu)
{
    if (LIKELY(cpu->mode.code_bits == BITS_64))
        return true;
    const struct segment *s = cpu->seg.s;
    return cpu->mode.code_bits == BITS_32 && cpu->mode.stack_bits == BITS_32 && cpu->mode.protected_mode && !near_end(cpu, cpu->core.rip) &&
           s[SEG_CS].base == 0 && s[SEG_CS].limit == 0xffffffff && flat(&s[SEG_SS]) && flat(&s[SEG_DS]) && flat(&s[SEG_ES]);
}

/* ---- superblocks --------------------------------------------------------------------------------------------------- */

/* Now and then the engine looks which block is about to run: where the time goes, one is met again and again. Then its way is followed once, block by
 * block, by the interpreter, and the path that was taken is translated in the block's place. */
static bool is_hot(struct jit *jit, struct block *block)
{
    jit->until_sample = jit->sample_every;
    if (block->superblock || block->followed == FOLLOWED_MOST || ++block->samples < SAMPLES)
        return false;
    block->samples = 0;
    block->followed++;
    return true;
}

struct path {
    unsigned start;                    /* offset in the page */
    unsigned count;
    bool loop;                         /* it is back at its start */
    struct superblock_step step[SUPERBLOCK_INSNS];
};

/* The path is at `offset`. True: it ends here: it is back at its start, or in a loop within it, which is left out of it, or long enough. */
static bool ends_at(struct path *path, u64 offset)
{
    for (unsigned i = 0; i < path->count; i++) {
        if (path->step[i].offset == offset) {
            path->loop = i == 0;
            path->count = i == 0 ? path->count : i;
            return true;
        }
    }
    return path->count == SUPERBLOCK_INSNS;
}

/* The block's first `ran` instructions were run; they left for `next`, by offset in the page. True: the path may go on there. */
static bool walk(const struct jit *jit, struct path *path, const struct block *block, unsigned ran, u64 next)
{
    unsigned offset = (unsigned)(block->ram_off & 0xfff);
    for (unsigned i = 0; i < ran; i++) {
        if (ends_at(path, offset))
            return false;
        path->step[path->count++] = (struct superblock_step){.in = &block->insn[i], .offset = (u16)offset};
        offset += block->insn[i].length;
    }
    struct superblock_step *last = &path->step[path->count - 1];
    enum jit_way way = jit_way_on(jit, last->in, last->offset, next);
    if (way == JIT_WAY_NONE || next >= PAGE_SIZE || ends_at(path, next))
        return false;
    last->followed = way == JIT_WAY_TAKEN;
    return true;
}

static void translate_superblock(struct jit *jit, struct block *block, struct path *path)
{
    bool full;
    const void *old = block->code;
    bool branches = false;
    path->step[path->count - 1].followed = false;
    for (unsigned i = 0; i < path->count; i++)
        branches |= path->step[i].followed;
    /* A path that leaves the block early and soon ends only makes the other way dearer. */
    bool longer = path->count > block->count, pays = path->loop ? branches || longer : branches && longer;
    if (!pays || !interp_keep_superblock(jit->interp, block, path->step, path->count))
        return;
    if (!jit_translate(jit, block, &full)) {
        block->superblock = NULL;
        return;
    }
    emit_poison(jit, old);
    emit_link(jit, (u32)((const u8 *)old - jit->memory.run) + 1, block->code);
}

/* Interprets from the block on, and makes the way that it goes a superblock if that leads anywhere. */
static void follow(struct jit *jit, struct cpu *cpu, struct block *block)
{
    struct block *first = block;
    struct path path = {.start = (unsigned)(block->ram_off & 0xfff)};
    u64 flushes = jit->flushes, dropped_before = interp_counts(jit->interp).blocks_dropped, page = cpu->core.rip - path.start;
    do {
        u64 before = cpu->time.now;
        interp_run(cpu, block);
        u64 ran = cpu->time.now - before;
        if (ran > block->count || !walk(jit, &path, block, (unsigned)ran, cpu->core.rip - page))
            break;
        if (cpu->event.attention || cpu->time.now >= cpu->stop_at || !runs_here(cpu))
            break;
        block = interp_find(cpu);
    } while (block && block->ram_off >> 12 == first->ram_off >> 12 && !(block->loop && block->superblock) &&
             cpu->stop_at - cpu->time.now >= block->count);
    if (path.count && jit->flushes == flushes && interp_counts(jit->interp).blocks_dropped == dropped_before && first->code)
        translate_superblock(jit, first, &path);
}

/* ---- running ------------------------------------------------------------------------------------------------------- */

/* Runs code from the block's on until it leaves, at most `most` instructions, and the instruction that it left for. Returns the site whose
 * branch leads to where rip is now, and may be linked to it; NULL: there is none. */
static const struct jit_site *run_code(struct jit *jit, struct cpu *cpu, const struct block *block, u64 most)
{
    struct cpu_jit *j = &cpu->jit;
    j->page = cpu->core.rip - (block->ram_off & 0xfff);
    j->key = interp_key(cpu);
    j->salt = cpu->tlb_uid * 0x9e5;
    j->stop = cpu->time.now + most;
    j->budget = (i64)most;
    cpu->run_end = &somewhere;
    cpu->block = &one_instruction;
    cpu->block_rip = cpu->core.rip;
    u32 number = emit_enter(jit, cpu, block->code);
    const struct jit_site *site = NULL;
    if (UNLIKELY(j->wanders))
        give_way(jit, cpu);
    if (number) {
        site = &jit->sites[number];
        settle(cpu, site);
        if (site->in && LIKELY(cpu->time.now < cpu->stop_at && cpu->time.now < j->stop)) {
            const struct insn *in = site->in;
            if (run_handler(cpu, in) == FLOW_NEXT)
                cpu->core.rip += in->length;
            count_one(cpu);
        }
    }
    cpu->block = NULL;
    return site && site->link && cpu->core.rip == j->page + site->offset ? site : NULL;
}

/* The same while performance counters run, which are told of what ran. False: it is for the run loop, which looks at each instruction. */
static bool run_code_counting(struct jit *jit, struct cpu *cpu, const struct block *block, const struct jit_site **site)
{
    struct pmu_moment moment;
    u64 most = pmu_begin_many(cpu, &moment), left = cpu->stop_at - cpu->time.now;
    if (most < block->taken_off || left < block->taken_off)
        return false;
    cpu->jit.counting = &moment;
    cpu->jit.unretired = false;
    *site = run_code(jit, cpu, block, most < left ? most : left);
    cpu->jit.counting = NULL;
    pmu_count_many(cpu, !cpu->jit.unretired, &moment);
    return true;
}

/* The same up to where the engine looks next. */
static const struct jit_site *run_until_sample(struct jit *jit, struct cpu *cpu, const struct block *block)
{
    u64 left = cpu->stop_at - cpu->time.now, before = cpu->time.now;
    i64 sample = jit->until_sample > block->taken_off ? jit->until_sample : block->taken_off;
    const struct jit_site *site = run_code(jit, cpu, block, (u64)sample < left ? (u64)sample : left);
    jit->until_sample -= (i64)(cpu->time.now - before);
    return site;
}

/* Runs until there is something to look at between blocks. Blocks without code are interpreted here, but for the time that performance
 * counters run. */
static bool run(void *arg, struct cpu *cpu, struct block *block)
{
    struct jit *jit = arg;
    bool full, ran = false;
    if (!runs_here(cpu))
        return false;
    bool code = has_code(jit, block, &full);
    while (!full) {
        const struct jit_site *site = NULL;
        if (UNLIKELY(cpu->event.attention & ATT_PMU)) {
            if (!code || !run_code_counting(jit, cpu, block, &site))
                return ran;
        } else if (!code || cpu->stop_at - cpu->time.now < block->taken_off) {
            interp_run(cpu, block);
        } else if (UNLIKELY(jit->until_sample <= 0) && is_hot(jit, block)) {
            follow(jit, cpu, block);
        } else {
            site = run_until_sample(jit, cpu, block);
        }
        ran = true;
        if (cpu->event.attention & ~(u32)ATT_PMU || cpu->time.now >= cpu->stop_at || !runs_here(cpu))
            return true;
        u64 flushes = jit->flushes;
        block = interp_find(cpu);
        if (!block || cpu->stop_at - cpu->time.now < block->count)
            return true;       /* the loop raises the fault, or runs as much as it may */
        code = block->ram_off != BUS_NO_RAM && has_code(jit, block, &full);
        if (!code)
            continue;
        if (site && jit->flushes == flushes)
            emit_link(jit, site->patch, block->code);
        *jump_of(cpu, cpu->core.rip) = (struct jit_jump){.la = cpu->core.rip, .key = interp_key(cpu), .code = block->code};
    }
    interp_flush(jit->interp); /* the loop finds its blocks again */
    return true;
}

static void flushed(void *arg)
{
    struct jit *jit = arg;
    jit->used = jit->common;
    jit->site_count = SITE_FIRST;
    jit->flushes++;
    jit->miss_count = 1;
    memset(jit->cells, 0, jit->cell_count * sizeof(*jit->cells));
    jit->cell_count = 1;
    memset(jit->jumps, 0, jit->cpu_count * JIT_JUMPS * sizeof(*jit->jumps));
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void jit_free(void *arg)
{
    struct jit *jit = arg;
    jit_memory_free(&jit->memory);
    free(jit->emit);
    free(jit->jumps);
    free(jit->cells);
    free(jit->misses);
    free(jit->sites);
    free(jit);
}

bool jit_attach(struct interp *interp, struct cpu *cpus, unsigned count, bool calls, unsigned sample_every)
{
    struct jit *jit = calloc(1, sizeof(*jit));
    if (!jit)
        return false;
    jit->interp = interp;
    jit->cpus = cpus;
    jit->cpu_count = count;
    jit->calls = calls;
    jit->until_sample = jit->sample_every = sample_every;
    jit->sites = calloc(JIT_SITES, sizeof(*jit->sites));
    jit->misses = calloc(JIT_MISSES, sizeof(*jit->misses));
    jit->miss_count = 1;
    jit->jumps = calloc((size_t)count * JIT_JUMPS, sizeof(*jit->jumps));
    jit->cells = calloc(JIT_CELLS, sizeof(*jit->cells));
    jit->cell_count = 1;
    if (!jit->sites || !jit->misses || !jit->jumps || !jit->cells || !jit_translate_init() || !jit_memory_new(&jit->memory, JIT_CODE_BYTES) ||
        (jit->common = emit_common(jit)) == 0) {
        jit_free(jit);
        return false;
    }
    jit->used = jit->common;
    jit->site_count = SITE_FIRST;
    for (unsigned i = 0; i < count; i++)
        cpus[i].jit.jumps = jit->jumps + (size_t)i * JIT_JUMPS;
    interp_set_engine(interp, &(struct engine){.arg = jit, .run = run, .dropped = dropped, .flushed = flushed, .free = jit_free});
    return true;
}
