/* Stack frames of far transfers [SDM3 "Stack Usage on Transfers to Interrupt and Exception-Handling Routines", SDM2 "CALL—Call Procedure"].
 *
 * Kept true: a frame is checked and translated whole before its first byte is written. A frame that does not wrap around its stack's
 * segment is one memory access, which the MMU translates before it writes; one that wraps (16-bit stacks of old programs) is probed value by value.
 */
#include "cpu/frame.h"
#include "mmu/access.h"

void frame_begin(const struct cpu *cpu, struct frame *f, unsigned osz)
{
    f->ss = cpu->seg.s[SEG_SS];
    f->sp = cpu->core.rsp;
    f->bits = cpu->mode.stack_bits;
    f->access = 0;
    f->error = 0;
    f->osz = (u8)osz;
    f->count = 0;
}

void frame_begin_new(const struct cpu *cpu, struct frame *f, unsigned osz, const struct segment *ss, u64 sp, unsigned cpl, bool wide)
{
    f->ss = *ss;
    f->sp = sp;
    f->bits = wide ? BITS_64 : ss->access & AR_DB ? BITS_32 : BITS_16;
    f->access = cpl < 3 && cpu->mode.cpl == 3 ? ACCESS_SYSTEM : 0;
    f->error = wide ? 0 : ss->selector & 0xfffc;
    f->osz = (u8)osz;
    f->count = 0;
}

static u64 frame_step(const struct frame *f, u64 sp, u64 delta)
{
    switch (f->bits) {
    case BITS_64: return sp - delta;
    case BITS_32: return (u32)(sp - delta);
    default: return (sp & ~0xffffull) | ((sp - delta) & 0xffff);
    }
}

/* Where n bytes at sp lie. False: they do not fit into the segment. */
static bool frame_la(const struct cpu *cpu, const struct frame *f, u64 sp, unsigned n, u64 *la)
{
    if (f->bits == BITS_64) {
        *la = sp;
        return true;
    }
    u64 offset = sp & mask_low(16u << f->bits);
    *la = cpu->mode.long_mode ? f->ss.base + offset : (u32)(f->ss.base + offset);
    return segment_holds(&f->ss, offset, n);
}

static enum flow frame_fault(struct cpu *cpu, const struct frame *f)
{
    bool canonical_fault = cpu->fault.kind == FAULT_NONCANONICAL;
    if (canonical_fault) {
        cpu->fault.kind = FAULT_NONE;
        cpu->fault.stack_segment = 0;
        return cpu_raise_ss(cpu, f->error);
    }
    return cpu_raise_fault(cpu);
}

/* Value by value: first all are probed, then all are written. */
static enum flow frame_walk(struct cpu *cpu, struct frame *f, bool write)
{
    unsigned n = 1u << f->osz;
    u64 sp = f->sp, la;
    for (unsigned i = 0; i < f->count; i++) {
        sp = frame_step(f, sp, n);
        if (!frame_la(cpu, f, sp, n, &la))
            return cpu_raise_ss(cpu, f->error);
        if (!mem_probe(cpu, la, n, ACCESS_WRITE | f->access))
            return frame_fault(cpu, f);
    }
    if (!write)
        return FLOW_NEXT;
    sp = f->sp;
    for (unsigned i = 0; i < f->count; i++) {
        sp = frame_step(f, sp, n);
        frame_la(cpu, f, sp, n, &la);
        if (!mem_write_slow(cpu, la, &f->value[i], n, ACCESS_WRITE | f->access))
            return frame_fault(cpu, f);
    }
    f->sp = sp;
    return FLOW_NEXT;
}

enum flow frame_probe(struct cpu *cpu, struct frame *f) { return frame_walk(cpu, f, false); }

/* The values as they lie in memory, the last one lowest. */
static void frame_image(const struct frame *f, u8 *to)
{
    unsigned count = f->count;
    switch (f->osz) {
    case OSZ_64:
        for (unsigned i = 0; i < count; i++)
            store64(to + (count - 1 - i) * 8, f->value[i]);
        break;
    case OSZ_32:
        for (unsigned i = 0; i < count; i++)
            store32(to + (count - 1 - i) * 4, (u32)f->value[i]);
        break;
    default:
        for (unsigned i = 0; i < count; i++)
            store16(to + (count - 1 - i) * 2, (u16)f->value[i]);
        break;
    }
}

enum flow frame_push(struct cpu *cpu, struct frame *f)
{
    u8 bytes[FRAME_MAX * 8];
    unsigned n = 1u << f->osz, total = n * f->count;
    u64 mask = mask_low(16u << f->bits), la;

    if ((f->sp & mask) < total)
        return frame_walk(cpu, f, true);
    u64 sp = frame_step(f, f->sp, total);
    if (!frame_la(cpu, f, sp, total, &la))
        return cpu_raise_ss(cpu, f->error);
    struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(!f->access && e->write == tlb_key(cpu, la, total))) {
        frame_image(f, tlb_host(e, la));
    } else {
        frame_image(f, bytes);
        if (!mem_write_slow(cpu, la, bytes, total, ACCESS_WRITE | f->access))
            return frame_walk(cpu, f, true); /* the fault is that of the first value that cannot be pushed: another CR2 */
    }
    f->sp = sp;
    return FLOW_NEXT;
}
