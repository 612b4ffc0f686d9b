/* The run loop: look for work between instructions, find the block, run its handlers.
 *
 * Finding a block looks at the two last successors of the block before; then at a direct-mapped cache from linear address to block for each
 * vCPU; both are valid for one state of the TLB context (cpu->tlb_uid); then through the TLB to the RAM offset and the hash of all blocks.
 */
#include "cpu/interp.h"

#include "cpu/bus_lock.h"
#include "cpu/cet.h"
#include "cpu/decode.h"
#include "cpu/event.h"
#include "cpu/mode.h"
#include "cpu/operand.h"
#include "cpu/pmu.h"
#include "cpu/table.h"
#include "cpu/trace.h"
#include "mmu/access.h"

#include <stdlib.h>

#define ARENA_BYTES (64u << 20)
#define HASH_SIZE (1u << 18)
#define JUMP_SIZE (1u << 12)
#define MAX_CPUS 256
#define SINGLES 1024u
#define INSN_BYTES 15u         /* the longest instruction */

/* An instruction that cannot be kept with its page: what its bytes mean, for as long as they are the same. */
struct single {
    u8 bytes[16];
    struct block *block;       /* of one instruction; count 0: nothing yet */
};
#define SINGLE_BYTES (sizeof(struct block) + sizeof(struct insn))

struct interp {
    struct bus *bus;
    u8 *arena;
    size_t used;
    struct block *hash[HASH_SIZE];
    struct block **page;       /* by RAM page: its blocks */
    struct block_link *jump[MAX_CPUS];
    struct single *singles;    /* by page: instructions that cross its end or stand in no RAM */
    u8 *single_blocks;         /* SINGLES of SINGLE_BYTES: their blocks */
    u64 generation;
    struct engine engine;      /* run is NULL: blocks are interpreted */
    struct interp_counts counts;
};

static unsigned hash_of(u64 ram_off, unsigned bits)
{
    return (unsigned)((ram_off ^ ram_off >> 18 ^ bits << 15) & (HASH_SIZE - 1));
}

static inline struct block *known_block(const struct interp *interp, u64 ram_off, unsigned bits)
{
    struct block *block = interp->hash[hash_of(ram_off, bits)];
    while (block && !(block->ram_off == ram_off && block->bits == bits))
        block = block->hash_next;
    return block;
}

/* ---- the cache of blocks ------------------------------------------------------------------------------------------ */

static void flush_jumps(struct interp *interp)
{
    for (unsigned i = 0; i < MAX_CPUS; i++)
        if (interp->jump[i])
            memset(interp->jump[i], 0, JUMP_SIZE * sizeof *interp->jump[i]);
}

static void flush_all(struct interp *interp)
{
    memset(interp->hash, 0, sizeof interp->hash);
    memset(interp->page, 0, interp->bus->memory_size / PAGE_SIZE * sizeof *interp->page);
    flush_jumps(interp);
    interp->used = 0;
    interp->counts.flushes++;
    if (interp->engine.run)
        interp->engine.flushed(interp->engine.arg);
}

void interp_flush(struct interp *interp) { flush_all(interp); }

static void drop_block(struct interp *interp, struct block *block)
{
    struct block **at = &interp->hash[hash_of(block->ram_off, block->bits)];
    while (*at && *at != block)
        at = &(*at)->hash_next;
    if (*at)
        *at = block->hash_next;
    if (block->code)
        interp->engine.dropped(interp->engine.arg, block);
    block->count = 0;
    interp->counts.blocks_dropped++;
}

/* The block's superblock spans the bytes [ram_off, +n) of its page, as a rule by an instruction of another block. */
static bool superblock_spans(const struct block *block, u64 ram_off, unsigned n)
{
    u64 offset = ram_off & (PAGE_SIZE - 1);
    return block->superblock && block->superblock->from < offset + n && offset < block->superblock->to;
}

/* The block's bytes, and those of its superblock, whose other blocks may have been dropped by a write behind them. */
static void mark_code(struct interp *interp, const struct block *block)
{
    const struct superblock *superblock = block->superblock;
    bus_mark_code(interp->bus, block->ram_off, block->bytes);
    for (unsigned i = 0; superblock && i < superblock->count; i++)
        bus_mark_code(interp->bus, (block->ram_off & ~(u64)(PAGE_SIZE - 1)) + superblock->step[i].offset, superblock->step[i].in->length);
}

static void drop_superblock(struct interp *interp, struct block *block)
{
    block->superblock = NULL;
    block->wanders = 0;
    interp->counts.superblocks_dropped++;
    if (block->code)
        interp->engine.dropped(interp->engine.arg, block);
}

/* bus->code_written: drops the blocks and superblocks of the page that hold a byte of [ram_off, +n). The running block, if it is one of them,
 * stays readable until its current instruction has ended: memory is reclaimed only by flush_all(), between blocks. */
static void code_written(void *arg, u64 ram_off, unsigned n)
{
    struct interp *interp = arg;
    struct block **at = &interp->page[ram_off / PAGE_SIZE];
    while (*at) {
        struct block *block = *at;
        if (block->ram_off < ram_off + n && ram_off < block->ram_off + block->bytes) {
            *at = block->page_next;
            drop_block(interp, block);
        } else {
            if (UNLIKELY(superblock_spans(block, ram_off, n)))
                drop_superblock(interp, block);
            at = &block->page_next;
        }
    }
    /* Only what remains is code from now on, so that a page that has become data is written fast again. */
    bus_unmark_code(interp->bus, ram_off);
    for (struct block *block = interp->page[ram_off / PAGE_SIZE]; block; block = block->page_next)
        mark_code(interp, block);
}

struct interp *interp_new(struct bus *bus)
{
    insn_table_init();
    struct interp *interp = calloc(1, sizeof *interp);
    if (!interp)
        return NULL;
    interp->bus = bus;
    interp->arena = malloc(ARENA_BYTES);
    interp->page = calloc(bus->memory_size / PAGE_SIZE + 1, sizeof *interp->page);
    interp->singles = calloc(SINGLES, sizeof *interp->singles);
    interp->single_blocks = calloc(SINGLES, SINGLE_BYTES);
    if (!interp->arena || !interp->page || !interp->singles || !interp->single_blocks) {
        interp_free(interp);
        return NULL;
    }
    for (unsigned i = 0; i < SINGLES; i++)
        interp->singles[i].block = (struct block *)(void *)(interp->single_blocks + i * SINGLE_BYTES);
    bus->code_written = code_written;
    bus->code_written_arg = interp;
    return interp;
}

void interp_free(struct interp *interp)
{
    if (!interp)
        return;
    if (interp->engine.run)
        interp->engine.free(interp->engine.arg);
    for (unsigned i = 0; i < MAX_CPUS; i++)
        free(interp->jump[i]);
    free(interp->single_blocks);
    free(interp->singles);
    free(interp->page);
    free(interp->arena);
    free(interp);
}

void interp_set_engine(struct interp *interp, const struct engine *engine) { interp->engine = *engine; }

struct interp_counts interp_counts(const struct interp *interp) { return interp->counts; }

/* ---- making blocks ------------------------------------------------------------------------------------------------ */

/* What the instructions of a block depend on beside its bytes. */
static u8 block_bits(const struct cpu *cpu)
{
    return (u8)(cpu->mode.code_bits | cpu->mode.cet << 2 | (cpu->mode.locks != 0) << 4);
}

/* Handlers that only some modes have. */
static inline void pick_handler(const struct cpu *cpu, struct insn *in)
{
    if (UNLIKELY(cpu->mode.cet))
        in->handler = cet_handler(in->handler);
    if (UNLIKELY(cpu->mode.locks))
        in->handler = bus_lock_handler(in);
}

/* Decodes from the page's bytes at `offset`. NULL when the first instruction crosses the page. */
static struct block *make_block(struct cpu *cpu, const u8 *page, u64 page_off, unsigned offset)
{
    struct interp *interp = cpu->interp;
    size_t most = sizeof(struct block) + BLOCK_INSNS * sizeof(struct insn);
    if (interp->used + most > ARENA_BYTES)
        flush_all(interp);
    struct block *block = (struct block *)(void *)(interp->arena + interp->used);
    unsigned count = 0, at = offset;
    while (count < BLOCK_INSNS && at < PAGE_SIZE) {
        struct insn *in = &block->insn[count];
        if (insn_decode(cpu->feature, cpu->mode.code_bits, page + at, PAGE_SIZE - at, in) == DECODE_MORE)
            break;
        pick_handler(cpu, in);
        in->position = (u8)count++;
        at += in->length;
        if (in->row == 0xffff || insn_rows[in->row].attr & ROW_END)
            break;
    }
    if (count == 0)
        return NULL;
    block->turn = 0;
    block->heat = 0;
    block->wanders = 0;
    block->taken_off = block->samples = block->followed = 0;
    block->loop = false;
    block->superblock = NULL;
    block->code = NULL;
    memset(block->next, 0, sizeof block->next);
    block->ram_off = page_off + offset;
    block->bits = block_bits(cpu);
    block->bytes = (u16)(at - offset);
    block->count = (u8)count;
    unsigned h = hash_of(block->ram_off, block->bits);
    block->hash_next = interp->hash[h];
    interp->hash[h] = block;
    block->page_next = interp->page[page_off / PAGE_SIZE];
    interp->page[page_off / PAGE_SIZE] = block;
    interp->used += (sizeof(struct block) + count * sizeof(struct insn) + 15) & ~(size_t)15;
    interp->counts.blocks_decoded++;
    bus_mark_code(cpu->bus, block->ram_off, block->bytes);
    return block;
}

bool interp_keep_superblock(struct interp *interp, struct block *block, const struct superblock_step *step, unsigned count)
{
    size_t bytes = sizeof(struct superblock) + count * sizeof(*step);
    if (interp->used + bytes > ARENA_BYTES)
        return false;
    struct superblock *superblock = (struct superblock *)(void *)(interp->arena + interp->used);
    interp->used += (bytes + 15) & ~(size_t)15;
    superblock->from = PAGE_SIZE;
    superblock->to = 0;
    superblock->count = (u8)count;
    for (unsigned i = 0; i < count; i++) {
        unsigned end = step[i].offset + (unsigned)step[i].in->length;
        superblock->from = step[i].offset < superblock->from ? step[i].offset : superblock->from;
        superblock->to = (u16)(end > superblock->to ? end : superblock->to);
        superblock->step[i] = step[i];
    }
    block->superblock = superblock;
    block->wanders = 0;
    interp->counts.superblocks++;
    return true;
}

/* The instruction's bytes one by one, as the processor would fetch them, up to its end. */
static bool fetch_bytes(struct cpu *cpu, u64 la, u8 *bytes)
{
    struct insn in;
    unsigned n = 0;
    do {
        if (cpu->mode.code_bits != BITS_64 && UNLIKELY(cpu->core.rip + n > cpu->seg.s[SEG_CS].limit)) {
            cpu->fault = (struct mem_fault){.kind = FAULT_GP0};
            return false;
        }
        if (!mem_read_slow(cpu, la + n, &bytes[n], 1, ACCESS_EXEC))
            return false;
        n++;
    } while (insn_decode(cpu->feature, cpu->mode.code_bits, bytes, n, &in) == DECODE_MORE && n < INSN_BYTES);
    return true;
}

/* The same in 64-bit code for an instruction that begins in RAM and goes on in another page of it; else *done is false. */
static bool fetch_across(struct cpu *cpu, u64 la, u8 *bytes, bool *done)
{
    const u8 *page;
    u64 page_off;
    unsigned n = PAGE_SIZE - (la & (PAGE_SIZE - 1));
    *done = false;
    if (cpu->mode.code_bits != BITS_64 || n >= INSN_BYTES)
        return true;
    if (!mem_fetch_page(cpu, la, &page, &page_off))
        return false;
    if (!page)
        return true;
    memcpy(bytes, page + PAGE_SIZE - n, n);
    if (!mem_fetch_page(cpu, la + n, &page, &page_off))
        return false;
    if (!page)
        return true;
    memcpy(bytes + n, page, INSN_BYTES - n);
    *done = true;
    return true;
}

/* An instruction that crosses a page or stands outside RAM: its bytes are fetched anew each time, and decoded when they are others than
 * the last time. The caller knows that it needs more bytes than its page has. NULL: the fetch faulted, cpu->fault tells. */
static struct block *decode_single(struct cpu *cpu, u64 la)
{
    struct interp *interp = cpu->interp;
    struct single *s = &interp->singles[la >> 12 & (SINGLES - 1)];
    struct block *block = s->block;
    struct insn *in = &block->insn[0];
    u8 bytes[16] = {0};
    bool done;
    interp->counts.uncached++;
    if (!fetch_across(cpu, la, bytes, &done) || (!done && !fetch_bytes(cpu, la, bytes)))
        return NULL;
    if (block->count && block->bits == block_bits(cpu) && memcmp(s->bytes, bytes, block->bytes) == 0)
        return block;
    insn_decode(cpu->feature, cpu->mode.code_bits, bytes, INSN_BYTES, in);
    in->position = 0;
    pick_handler(cpu, in);
    memcpy(s->bytes, bytes, sizeof s->bytes);
    block->bits = block_bits(cpu);
    block->ram_off = BUS_NO_RAM;
    block->count = 1;
    block->bytes = in->length;
    return block;
}

static COLD struct block *find_block_slow(struct cpu *cpu, u64 la, struct block_link *entry, u64 key)
{
    struct interp *interp = cpu->interp;
    const u8 *page;
    u64 page_off;
    if (!mem_fetch_page(cpu, la, &page, &page_off))
        return NULL;
    if (!page)
        return decode_single(cpu, la);
    unsigned offset = la & (PAGE_SIZE - 1);
    unsigned bits = block_bits(cpu);
    struct block *block = known_block(interp, page_off + offset, bits);
    if (!block)
        block = make_block(cpu, page, page_off, offset);
    if (!block)
        return decode_single(cpu, la);
    entry->la = la;
    entry->key = key;
    entry->block = block;
    return block;
}

/* `before` is the block that ran last, or NULL. */
static inline struct block *find_block(struct cpu *cpu, struct block_link *jump, struct block *before, u64 la)
{
    u64 key = interp_key(cpu);
    if (LIKELY(before != NULL)) {
        for (unsigned i = 0; i < 2; i++) {
            struct block_link *next = &before->next[i];
            if (LIKELY(next->la == la && next->key == key && next->block->count))
                return next->block;
        }
    }
    struct block_link *entry = &jump[(la ^ la >> 12 ^ cpu->tlb_uid << 4) & (JUMP_SIZE - 1)];
    struct block *block = entry->block;
    u64 flushes = cpu->interp->counts.flushes;
    if (!(entry->la == la && entry->key == key && block && block->count))
        block = find_block_slow(cpu, la, entry, key);
    if (before && block && block->ram_off != BUS_NO_RAM && flushes == cpu->interp->counts.flushes) {
        before->next[before->turn] = (struct block_link){.la = la, .key = key, .block = block};
        before->turn ^= 1;
    }
    return block;
}

struct block *interp_find(struct cpu *cpu)
{
    return find_block(cpu, cpu->interp->jump[cpu->index], NULL, cpu->core.rip);
}

struct block *interp_seek(struct cpu *cpu, u64 la)
{
    u64 page_off;
    if (!mem_fetch_cached(cpu, la, &page_off))
        return NULL;
    return known_block(cpu->interp, page_off + (la & (PAGE_SIZE - 1)), block_bits(cpu));
}

/* ---- running ------------------------------------------------------------------------------------------------------ */

/* In 16- and 32-bit code the fetch is checked against CS's limit: how many of the block's first `n` instructions lie within it. */
static unsigned within_limit(const struct cpu *cpu, const struct block *block, unsigned n)
{
    u64 end = cpu->core.rip;
    unsigned fit = 0;
    while (fit < n && end + block->insn[fit].length - 1 <= cpu->seg.s[SEG_CS].limit)
        end += block->insn[fit++].length;
    return fit;
}

/* Runs up to n instructions of the block; returns how many were dispatched and what the last one reported. */
static inline unsigned run_block(struct cpu *cpu, const struct block *block, unsigned n, enum flow *result)
{
    const struct insn *in = block->insn;
    u64 rip = cpu->core.rip;
    enum flow flow;
    cpu->block_rip = rip;
    cpu->run_end = in + n;
    do {
        flow = in->handler(cpu, in);
        if (UNLIKELY(flow != FLOW_NEXT)) {
            in++;
            break;
        }
        rip += in->length;
        cpu->core.rip = rip;
        in++;
    } while (in < cpu->run_end);
    *result = flow;
    return (unsigned)(in - block->insn);
}

static void count_time(struct cpu *cpu, unsigned n)
{
    cpu->time.now += n;
    cpu->time.retired += n;
}

enum flow interp_run(struct cpu *cpu, struct block *block)
{
    enum flow flow;
    cpu->block = block;
    unsigned ran = run_block(cpu, block, block->count, &flow);
    cpu->block = NULL;
    count_time(cpu, ran);
    return flow;
}

void cpu_run(struct cpu *cpu)
{
    struct interp *interp = cpu->interp;
    if (cpu->index >= MAX_CPUS)
        panic("cpu_run: vCPU %u is past the limit of %u", cpu->index, MAX_CPUS);
    struct block_link *jump = interp->jump[cpu->index];
    if (!jump) {
        jump = interp->jump[cpu->index] = calloc(JUMP_SIZE, sizeof *jump);
        if (!jump)
            panic("no memory for the vCPU's jump cache");
    }
    struct block *before = NULL;   /* dropped blocks stay readable until flush_all(), which find_block() notices */
    while (cpu->time.now < cpu->stop_at) {
        bool alone = false, counting = false;
        if (UNLIKELY(cpu->event.attention)) {
            if (cpu->event.attention & ATT_STOP)
                return;
            if (cpu->event.attention != ATT_PMU) {
                enum flow flow = cpu_service_events(cpu);
                if (flow == FLOW_END)
                    return;
                if (flow != FLOW_NEXT) {
                    count_time(cpu, 1);
                    continue;
                }
            }
            alone = cpu->event.attention & ATT_ALONE;
            counting = cpu->event.attention & ATT_PMU;
        }
        u64 la = cpu->core.rip;
        struct block *block = NULL;
        enum flow flow;
        if (cpu->mode.code_bits == BITS_64) {
            block = find_block(cpu, jump, before, la);
        } else if (LIKELY(la <= cpu->seg.s[SEG_CS].limit)) {
            la = (u32)(la + cpu->seg.s[SEG_CS].base);
            block = find_block(cpu, jump, before, la);
        } else {
            cpu->fault = (struct mem_fault){.kind = FAULT_GP0};  /* before any fault of paging */
        }
        if (UNLIKELY(!block)) {
            before = NULL;
            flow = cpu_raise_fault(cpu);
            count_time(cpu, 1);
            if (alone)
                cpu_after_step(cpu, flow, NULL);
            continue;
        }
        u64 budget = cpu->stop_at - cpu->time.now;
        unsigned n = block->count;
        if (UNLIKELY(n > budget))
            n = (unsigned)budget;
        if (UNLIKELY(alone))
            n = 1;
        if (cpu->mode.code_bits != BITS_64 && UNLIKELY(cpu->core.rip + block->bytes - 1 > cpu->seg.s[SEG_CS].limit)) {
            n = within_limit(cpu, block, n);
            if (n == 0) {
                flow = cpu_raise_gp(cpu, 0);
                count_time(cpu, 1);
                if (alone)
                    cpu_after_step(cpu, flow, NULL);
                continue;
            }
        }
        if (UNLIKELY(alone)) {
            flow = cet_next(cpu, &block->insn[0], la);
            if (UNLIKELY(flow != FLOW_NEXT)) {
                count_time(cpu, 1);
                cpu_after_step(cpu, flow, NULL);
                continue;
            }
        }
        if (interp->engine.run && n == block->count && cpu->mode.code_bits != BITS_16 && LIKELY(!alone) &&
            block->ram_off != BUS_NO_RAM && LIKELY(!trace_on(cpu, TRACE_INSN)) &&
            interp->engine.run(interp->engine.arg, cpu, block)) {
            before = NULL;
            continue;
        }
        struct pmu_moment moment;
        if (UNLIKELY(counting))
            n = pmu_begin(cpu, block, n, &moment);
        cpu->block = block;
        cpu->block_rip = cpu->core.rip;
        if (UNLIKELY(trace_on(cpu, TRACE_INSN))) {
            cpu->trace->insn(cpu->trace, cpu, &block->insn[0]);
            n = 1;
        }
        unsigned ran = run_block(cpu, block, n, &flow);
        cpu->block = NULL;
        before = block->ram_off != BUS_NO_RAM ? block : NULL;
        count_time(cpu, ran);
        if (UNLIKELY(alone | counting)) {
            if (counting)
                pmu_count(cpu, block, ran, flow, &moment);
            if (alone)
                cpu_after_step(cpu, flow, &block->insn[0]);
        }
    }
}
