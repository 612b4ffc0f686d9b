/* MOVS CMPS STOS LODS SCAS with and without REP [SDM2 "REP/REPE/REPZ/REPNE/REPNZ"].
 *
 * Each iteration commits its registers before the next begins, so a fault leaves a state from which the instruction goes on. A repeated
 * instruction gives way after REP_CHUNK iterations (rip stays on it) so that no guest can hold the machine, and after one when TF is set or a frame waits (monitor trap flag).
 * MOVS and STOS run whole pages at a time where both ends are plain RAM and nothing watches them.
 */
#include "cpu/alu.h"
#include "cpu/operand.h"

#define REP_CHUNK 65536

struct string {
    u64 mask;                  /* of the address size */
    u64 step;                  /* bytes, negative when DF is set */
    unsigned bytes, shift;     /* of an element: 1 << shift */
};

static struct string string_of(const struct cpu *cpu, const struct insn *in)
{
    unsigned bytes = 1u << in->osz;
    return (struct string){mask_low(8u << in->asz), cpu->core.rflags_rest & FL_DF ? -(u64)bytes : bytes, bytes, in->osz};
}

static bool source_la(struct cpu *cpu, const struct insn *in, const struct string *s, u64 *la)
{
    return seg_la(cpu, in->arch_seg, cpu->core.rsi & s->mask, s->bytes, ACCESS_READ, la);
}
static bool target_la(struct cpu *cpu, const struct string *s, unsigned access, u64 *la)
{
    return seg_la(cpu, SEG_ES, cpu->core.rdi & s->mask, s->bytes, access, la);
}
/* Indexes advance within the address size: 16-bit keeps the upper part, 32-bit zeroes it. */
static void advance(struct cpu *cpu, const struct insn *in, unsigned reg, u64 delta)
{
    reg_set(cpu, reg, in->asz, (cpu->core.r[reg] + delta) & mask_low(8u << in->asz));
}

static bool one_movs(struct cpu *cpu, const struct insn *in, const struct string *s)
{
    u64 from, to, v = 0;
    if (!source_la(cpu, in, s, &from) || !mem_read(cpu, from, &v, s->bytes) || !target_la(cpu, s, ACCESS_WRITE, &to) ||
        !mem_write(cpu, to, &v, s->bytes))
        return false;
    advance(cpu, in, REG_RSI, s->step);
    advance(cpu, in, REG_RDI, s->step);
    return true;
}
static bool one_stos(struct cpu *cpu, const struct insn *in, const struct string *s)
{
    u64 to;
    if (!target_la(cpu, s, ACCESS_WRITE, &to) || !mem_write(cpu, to, &cpu->core.rax, s->bytes))
        return false;
    advance(cpu, in, REG_RDI, s->step);
    return true;
}
static bool one_lods(struct cpu *cpu, const struct insn *in, const struct string *s)
{
    u64 from, v = 0;
    if (!source_la(cpu, in, s, &from) || !mem_read(cpu, from, &v, s->bytes))
        return false;
    reg_set(cpu, REG_RAX, in->osz, v);
    advance(cpu, in, REG_RSI, s->step);
    return true;
}

static void compare(struct cpu *cpu, unsigned osz, u64 a, u64 b)
{
    switch (osz) {
    case OSZ_8: alu_cmp8(cpu, (u8)a, (u8)b); break;
    case OSZ_16: alu_cmp16(cpu, (u16)a, (u16)b); break;
    case OSZ_32: alu_cmp32(cpu, (u32)a, (u32)b); break;
    default: alu_cmp64(cpu, a, b); break;
    }
}
static bool one_cmps(struct cpu *cpu, const struct insn *in, const struct string *s)
{
    u64 from, to, a = 0, b = 0;
    if (!source_la(cpu, in, s, &from) || !mem_read(cpu, from, &a, s->bytes) || !target_la(cpu, s, ACCESS_READ, &to) ||
        !mem_read(cpu, to, &b, s->bytes))
        return false;
    compare(cpu, in->osz, a, b);
    advance(cpu, in, REG_RSI, s->step);
    advance(cpu, in, REG_RDI, s->step);
    return true;
}
static bool one_scas(struct cpu *cpu, const struct insn *in, const struct string *s)
{
    u64 to, b = 0;
    if (!target_la(cpu, s, ACCESS_READ, &to) || !mem_read(cpu, to, &b, s->bytes))
        return false;
    compare(cpu, in->osz, cpu->core.rax, b);
    advance(cpu, in, REG_RDI, s->step);
    return true;
}

/* ---- whole runs within a page ------------------------------------------------------------------------------------------- */

/* Elements that lie between la and the end of its page in the direction of the step. */
static u64 elements_in_page(u64 la, const struct string *s)
{
    u64 offset = la & (PAGE_SIZE - 1);
    if ((i64)s->step > 0)
        return (PAGE_SIZE - offset) >> s->shift;
    return offset + s->bytes <= PAGE_SIZE ? (offset >> s->shift) + 1 : 0;
}

/* How many of the next `count` elements from offset `index` of a segment on lie in one page, within the segment's limit and before the index wraps;
 * *la is where. 0: none that can be done together. */
static u64 run_at(struct cpu *cpu, const struct string *s, unsigned seg, u64 index, unsigned access, u64 count, u64 *la)
{
    u64 off = index & s->mask;
    if ((i64)s->step < 0 || !seg_la(cpu, seg, off, s->bytes, access, la))
        return 0;
    u64 n = elements_in_page(*la, s), room = (s->mask - off) >> s->shift;
    n = n < room ? n : room;
    n = n < count ? n : count;
    return n && seg_la(cpu, seg, off, (unsigned)n * s->bytes, access, la) ? n : 0;
}

/* n elements from host address `source` on, one after the other: each is read when those before it have been written. */
static void copy_elements(u8 *target, const u8 *source, u64 n, unsigned osz)
{
    switch (osz) {
    case OSZ_8:
        for (u64 i = 0; i < n; i++)
            target[i] = source[i];
        break;
    case OSZ_16:
        for (u64 i = 0; i < n; i++)
            store16(target + 2 * i, load16(source + 2 * i));
        break;
    case OSZ_32:
        for (u64 i = 0; i < n; i++)
            store32(target + 4 * i, load32(source + 4 * i));
        break;
    default:
        for (u64 i = 0; i < n; i++)
            store64(target + 8 * i, load64(source + 8 * i));
        break;
    }
}

static void fill_elements(u8 *target, u64 value, u64 n, unsigned osz)
{
    switch (osz) {
    case OSZ_8: memset(target, (u8)value, n); break;
    case OSZ_16:
        for (u64 i = 0; i < n; i++)
            store16(target + 2 * i, (u16)value);
        break;
    case OSZ_32:
        for (u64 i = 0; i < n; i++)
            store32(target + 4 * i, (u32)value);
        break;
    default:
        for (u64 i = 0; i < n; i++)
            store64(target + 8 * i, value);
        break;
    }
}

/* How many of the next `count` iterations were done as one copy: forward, and the TLB has the pages. */
static u64 movs_run(struct cpu *cpu, const struct insn *in, const struct string *s, u64 count)
{
    u64 from, to;
    u64 n = run_at(cpu, s, in->arch_seg, cpu->core.rsi, ACCESS_READ, count, &from);
    if (n)
        n = run_at(cpu, s, SEG_ES, cpu->core.rdi, ACCESS_WRITE, n, &to);
    if (!n)
        return 0;
    struct tlb_entry *read = tlb_entry_of(cpu, from), *write = tlb_entry_of(cpu, to);
    if (read->read != tlb_key(cpu, from, 1) || write->write != tlb_key(cpu, to, 1))
        return 0;
    u64 bytes = n * s->bytes;
    u8 *source = tlb_host(read, from), *target = tlb_host(write, to);
    if (source < target + bytes && target < source + bytes && source < target)
        copy_elements(target, source, n, in->osz);     /* overlapping forward copies repeat a pattern */
    else
        memmove(target, source, bytes);
    advance(cpu, in, REG_RSI, bytes);
    advance(cpu, in, REG_RDI, bytes);
    return n;
}

static u64 stos_run(struct cpu *cpu, const struct insn *in, const struct string *s, u64 count)
{
    u64 to;
    u64 n = run_at(cpu, s, SEG_ES, cpu->core.rdi, ACCESS_WRITE, count, &to);
    if (!n)
        return 0;
    struct tlb_entry *write = tlb_entry_of(cpu, to);
    if (write->write != tlb_key(cpu, to, 1))
        return 0;
    u8 *target = tlb_host(write, to);
    fill_elements(target, cpu->core.rax, n, in->osz);
    advance(cpu, in, REG_RDI, n * s->bytes);
    return n;
}

/* ---- repetition ------------------------------------------------------------------------------------------------------------ */

typedef bool one_iteration(struct cpu *cpu, const struct insn *in, const struct string *s);
typedef u64 many_iterations(struct cpu *cpu, const struct insn *in, const struct string *s, u64 count);

/* Something may be due between two iterations: a trap, a breakpoint, a record, a VM exit that was armed. RF alone, as the return from a page
 * fault leaves it, only lasts as long as the instruction. */
static bool one_by_one(const struct cpu *cpu)
{
    u32 attention = cpu->event.attention;
    return attention & ATT_VMX ||
           (attention & ATT_STEP && (cpu->core.rflags_rest & FL_TF || cpu->sys.dr7 & 0xff || cpu->sys.debugctl));
}

static inline enum flow repeat(struct cpu *cpu, const struct insn *in, one_iteration *one, many_iterations *many, bool compares)
{
    struct string s = string_of(cpu, in);
    if (!(in->flags & (INSN_REP | INSN_REPNE))) {
        TRY(one(cpu, in, &s));
        return FLOW_NEXT;
    }
    u64 count = cpu->core.rcx & s.mask;
    u32 attention = cpu->event.attention;
    u64 stop_at = cpu->stop_at;
    u64 most = one_by_one(cpu) ? 1 : REP_CHUNK;
    while (count != 0 && most != 0) {
        u64 n = many && most > 1 ? many(cpu, in, &s, count < most ? count : most) : 0;
        if (n == 0) {
            TRY(one(cpu, in, &s));
            n = 1;
        }
        count -= n;
        most -= n;
        reg_set(cpu, REG_RCX, in->asz, count);
        if (compares && flag_zf(cpu) != !!(in->flags & INSN_REP))
            return FLOW_NEXT;
        /* A device wants the loop to look. That decoded code was written is no reason: whether it is decoded depends on the engine. */
        if (UNLIKELY(cpu->run_end == NULL) && (cpu->event.attention != attention || cpu->stop_at != stop_at))
            break;
    }
    if (count != 0)
        return FLOW_END;       /* rip stays: the instruction goes on after whatever is due now */
    if (in->asz == 2 && cpu->mode.code_bits == BITS_64)
        cpu->core.rcx = 0;     /* no iteration was needed: Intel's processors clear the upper half all the same */
    return FLOW_NEXT;
}

static enum flow movs(struct cpu *cpu, const struct insn *in) { return repeat(cpu, in, one_movs, movs_run, false); }
static enum flow stos(struct cpu *cpu, const struct insn *in) { return repeat(cpu, in, one_stos, stos_run, false); }
static enum flow lods(struct cpu *cpu, const struct insn *in) { return repeat(cpu, in, one_lods, NULL, false); }
static enum flow cmps(struct cpu *cpu, const struct insn *in) { return repeat(cpu, in, one_cmps, NULL, true); }
static enum flow scas(struct cpu *cpu, const struct insn *in) { return repeat(cpu, in, one_scas, NULL, true); }
FAMILY_ONE(movs, movs)
FAMILY_ONE(stos, stos)
FAMILY_ONE(lods, lods)
FAMILY_ONE(cmps, cmps)
FAMILY_ONE(scas, scas)
