/* BMI1 and BMI2: bit fields, lowest set bits, scatter and gather, shifts and rotations that leave the flags alone [SDM2 "ANDN",
 * "BEXTR", "BLSI", "BLSMSK", "BLSR", "BZHI", "PDEP", "PEXT", "RORX", "SARX/SHLX/SHRX"]. MULX stands with the multiplications,
 * TZCNT with the bit scans. The decoder has refused VEX.L, an unused VEX.vvvv, prefixes before VEX, and real and V8086 mode.
 *
 * Kept true: flags that the SDM leaves undefined follow from the operation's result (AF is 0), whatever they were before.
 */
#include "cpu/alu.h"
#include "cpu/operand.h"

/* SF, ZF and PF of a result, CF as given, OF and AF clear. */
static void result_flags(struct cpu *cpu, u64 r, unsigned osz, bool cf)
{
    if (osz == OSZ_64)
        alu_result64(cpu, r);
    else
        alu_result32(cpu, (u32)r);
    alu_set_cf_of(cpu, cf, 0);
}

static u64 vvvv_get(const struct cpu *cpu, const struct insn *in) { return reg_get(cpu, in->vvvv & 15, in->osz); }

static enum flow andn(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    TRY(rm_get(cpu, in, in->osz, &v));
    v &= ~vvvv_get(cpu, in);
    reg_set(cpu, in->reg, in->osz, v);
    result_flags(cpu, v, in->osz, false);
    return FLOW_NEXT;
}
FAMILY_ONE(andn, andn)

static enum flow bextr(struct cpu *cpu, const struct insn *in)
{
    u64 v, control = vvvv_get(cpu, in);
    unsigned start = control & 0xff, length = control >> 8 & 0xff;
    TRY(rm_get(cpu, in, in->osz, &v));
    v = start < 64 ? v >> start : 0;
    if (length < 64)
        v &= BIT(length) - 1;
    reg_set(cpu, in->reg, in->osz, v);
    result_flags(cpu, v, in->osz, false);
    return FLOW_NEXT;
}
FAMILY_ONE(bextr, bextr)

static enum flow lowest_bit(struct cpu *cpu, const struct insn *in, u64 (*op)(u64), bool cf_when_zero)
{
    u64 v;
    TRY(rm_get(cpu, in, in->osz, &v));
    u64 r = op(v) & osz_mask(in->osz);
    reg_set(cpu, in->vvvv & 15, in->osz, r);
    result_flags(cpu, r, in->osz, (v == 0) == cf_when_zero);
    return FLOW_NEXT;
}
static u64 isolate(u64 v) { return v & -v; }
static u64 mask_up_to(u64 v) { return v ^ (v - 1); }
static u64 reset(u64 v) { return v & (v - 1); }
static enum flow blsi(struct cpu *cpu, const struct insn *in) { return lowest_bit(cpu, in, isolate, false); }
static enum flow blsmsk(struct cpu *cpu, const struct insn *in) { return lowest_bit(cpu, in, mask_up_to, true); }
static enum flow blsr(struct cpu *cpu, const struct insn *in) { return lowest_bit(cpu, in, reset, true); }
FAMILY_ONE(blsi, blsi)
FAMILY_ONE(blsmsk, blsmsk)
FAMILY_ONE(blsr, blsr)

static enum flow bzhi(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    unsigned n = vvvv_get(cpu, in) & 0xff;
    TRY(rm_get(cpu, in, in->osz, &v));
    if (n < 64)
        v &= BIT(n) - 1;
    reg_set(cpu, in->reg, in->osz, v);
    result_flags(cpu, v, in->osz, n >= osz_bits(in->osz));
    return FLOW_NEXT;
}
FAMILY_ONE(bzhi, bzhi)

static enum flow pdep(struct cpu *cpu, const struct insn *in)
{
    u64 mask, r = 0, from = vvvv_get(cpu, in);
    TRY(rm_get(cpu, in, in->osz, &mask));
    for (; mask; mask &= mask - 1, from >>= 1)
        if (from & 1)
            r |= mask & -mask;
    reg_set(cpu, in->reg, in->osz, r);
    return FLOW_NEXT;
}
FAMILY_ONE(pdep, pdep)

static enum flow pext(struct cpu *cpu, const struct insn *in)
{
    u64 mask, r = 0, from = vvvv_get(cpu, in);
    TRY(rm_get(cpu, in, in->osz, &mask));
    for (u64 to = 1; mask; mask &= mask - 1, to <<= 1)
        if (from & mask & -mask)
            r |= to;
    reg_set(cpu, in->reg, in->osz, r);
    return FLOW_NEXT;
}
FAMILY_ONE(pext, pext)

static enum flow rorx(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    unsigned bits = osz_bits(in->osz), n = (unsigned)in->imm & (bits - 1);
    TRY(rm_get(cpu, in, in->osz, &v));
    if (n)
        v = (v >> n | v << (bits - n)) & osz_mask(in->osz);
    reg_set(cpu, in->reg, in->osz, v);
    return FLOW_NEXT;
}
FAMILY_ONE(rorx, rorx)

static enum flow shlx(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    unsigned n = (unsigned)vvvv_get(cpu, in) & (osz_bits(in->osz) - 1);
    TRY(rm_get(cpu, in, in->osz, &v));
    reg_set(cpu, in->reg, in->osz, v << n);
    return FLOW_NEXT;
}
static enum flow shrx(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    unsigned n = (unsigned)vvvv_get(cpu, in) & (osz_bits(in->osz) - 1);
    TRY(rm_get(cpu, in, in->osz, &v));
    reg_set(cpu, in->reg, in->osz, v >> n);
    return FLOW_NEXT;
}
static enum flow sarx(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    unsigned n = (unsigned)vvvv_get(cpu, in) & (osz_bits(in->osz) - 1);
    TRY(rm_get(cpu, in, in->osz, &v));
    reg_set(cpu, in->reg, in->osz, (u64)((in->osz == OSZ_64 ? (i64)v : (i64)(i32)v) >> n));
    return FLOW_NEXT;
}
FAMILY_ONE(shlx, shlx)
FAMILY_ONE(shrx, shrx)
FAMILY_ONE(sarx, sarx)
