/* MUL IMUL DIV IDIV, the sign-extending conversions and the decimal adjustments [SDM2].
 * Where the SDM leaves flags undefined, they are left as Intel's processors of the last decade do: SF, ZF, PF from the low half of a product;
 * all unchanged by a division.
 */
#include "cpu/alu.h"
#include "cpu/operand.h"

/* Flags of a multiplication: CF = OF = the upper half is significant. */
static void mul_flags(struct cpu *cpu, u64 low, unsigned osz, bool significant)
{
    switch (osz) {
    case OSZ_8: alu_result8(cpu, (u8)low); break;
    case OSZ_16: alu_result16(cpu, (u16)low); break;
    case OSZ_32: alu_result32(cpu, (u32)low); break;
    default: alu_result64(cpu, low); break;
    }
    cpu->core.fl_zero = 1;     /* ZF is cleared */
    alu_set_cf_of(cpu, significant, significant);
}

static i64 sign_extend(u64 v, unsigned osz)
{
    unsigned shift = 64 - osz_bits(osz);
    return (i64)(v << shift) >> shift;
}

/* Writes a double-width result to AX, or xDX:xAX. */
static void set_pair(struct cpu *cpu, unsigned osz, u64 low, u64 high)
{
    if (osz == OSZ_8) {
        reg16_set(cpu, REG_RAX, (u16)((low & 0xff) | high << 8));
        return;
    }
    reg_set(cpu, REG_RAX, osz, low);
    reg_set(cpu, REG_RDX, osz, high);
}

static enum flow mul(struct cpu *cpu, const struct insn *in)
{
    u64 b;
    TRY(rm_get(cpu, in, in->osz, &b));
    u128 product = (u128)(reg_get(cpu, REG_RAX, in->osz) & osz_mask(in->osz)) * b;
    if (in->osz == OSZ_8)
        product = (u128)((u64)(u8)cpu->core.rax * b);
    u64 low = (u64)product & osz_mask(in->osz), high = (u64)(product >> osz_bits(in->osz)) & osz_mask(in->osz);
    set_pair(cpu, in->osz, low, high);
    mul_flags(cpu, low, in->osz, high != 0);
    return FLOW_NEXT;
}
FAMILY_ONE(mul, mul)

static enum flow imul1(struct cpu *cpu, const struct insn *in)
{
    u64 b, a = in->osz == OSZ_8 ? (u8)cpu->core.rax : reg_get(cpu, REG_RAX, in->osz);
    TRY(rm_get(cpu, in, in->osz, &b));
    i128 product = (i128)sign_extend(a, in->osz) * sign_extend(b, in->osz);
    u64 low = (u64)product & osz_mask(in->osz), high = (u64)(product >> osz_bits(in->osz)) & osz_mask(in->osz);
    set_pair(cpu, in->osz, low, high);
    mul_flags(cpu, low, in->osz, (i128)sign_extend(low, in->osz) != product);
    return FLOW_NEXT;
}
FAMILY_ONE(imul1, imul1)

static enum flow imul_to_reg(struct cpu *cpu, const struct insn *in, u64 a, u64 b)
{
    i128 product = (i128)sign_extend(a, in->osz) * sign_extend(b, in->osz);
    u64 low = (u64)product & osz_mask(in->osz);
    reg_set(cpu, in->reg, in->osz, low);
    mul_flags(cpu, low, in->osz, (i128)sign_extend(low, in->osz) != product);
    return FLOW_NEXT;
}

static enum flow imul2(struct cpu *cpu, const struct insn *in)
{
    u64 b;
    TRY(rm_get(cpu, in, in->osz, &b));
    return imul_to_reg(cpu, in, reg_get(cpu, in->reg, in->osz), b);
}
static enum flow imul3(struct cpu *cpu, const struct insn *in)
{
    u64 a;
    TRY(rm_get(cpu, in, in->osz, &a));
    return imul_to_reg(cpu, in, a, in->imm);
}
FAMILY_ONE(imul2, imul2)
FAMILY_ONE(imul3, imul3)

static enum flow mulx(struct cpu *cpu, const struct insn *in)
{
    u64 b;
    TRY(rm_get(cpu, in, in->osz, &b));
    u128 product = (u128)reg_get(cpu, REG_RDX, in->osz) * b;
    reg_set(cpu, in->vvvv, in->osz, (u64)product & osz_mask(in->osz));
    reg_set(cpu, in->reg, in->osz, (u64)(product >> osz_bits(in->osz)) & osz_mask(in->osz));
    return FLOW_NEXT;
}
FAMILY_ONE(mulx, mulx)

/* The dividend: AX, or xDX:xAX. */
static u128 dividend(const struct cpu *cpu, unsigned osz)
{
    if (osz == OSZ_8)
        return (u16)cpu->core.rax;
    return (u128)reg_get(cpu, REG_RDX, osz) << osz_bits(osz) | reg_get(cpu, REG_RAX, osz);
}

static enum flow div_unsigned(struct cpu *cpu, const struct insn *in)
{
    u64 divisor;
    TRY(rm_get(cpu, in, in->osz, &divisor));
    u128 n = dividend(cpu, in->osz);
    if (divisor == 0)
        return cpu_raise(cpu, EXC_DE);
    if (!(u64)(n >> 64)) {     /* the common case needs no 128-bit division */
        u64 q = (u64)n / divisor;
        if (q > osz_mask(in->osz))
            return cpu_raise(cpu, EXC_DE);
        set_pair(cpu, in->osz, q, (u64)n % divisor);
        return FLOW_NEXT;
    }
    u128 q = n / divisor;
    if (q > osz_mask(in->osz))
        return cpu_raise(cpu, EXC_DE);
    set_pair(cpu, in->osz, (u64)q, (u64)(n % divisor));
    return FLOW_NEXT;
}
FAMILY_ONE(div, div_unsigned)

static enum flow idiv(struct cpu *cpu, const struct insn *in)
{
    u64 raw;
    TRY(rm_get(cpu, in, in->osz, &raw));
    i64 divisor = sign_extend(raw, in->osz);
    if (divisor == 0)
        return cpu_raise(cpu, EXC_DE);
    u128 bits = dividend(cpu, in->osz);
    unsigned shift = 128 - 2 * osz_bits(in->osz);
    i128 n = (i128)(bits << shift) >> shift;
    /* Magnitudes, since the most negative dividend by -1 overflows in C. */
    u128 un = n < 0 ? -(u128)n : (u128)n;
    u64 ud = divisor < 0 ? -(u64)divisor : (u64)divisor;
    u128 uq = un / ud;
    u64 ur = (u64)(un % ud);
    bool negative = (n < 0) != (divisor < 0);
    u64 limit = (osz_mask(in->osz) >> 1) + negative;
    if (uq > limit)
        return cpu_raise(cpu, EXC_DE);
    u64 q = negative ? -(u64)uq : (u64)uq, r = n < 0 ? -ur : ur;
    set_pair(cpu, in->osz, q & osz_mask(in->osz), r & osz_mask(in->osz));
    return FLOW_NEXT;
}
FAMILY_ONE(idiv, idiv)

/* CBW CWDE CDQE; CWD CDQ CQO. */
static enum flow cbw(struct cpu *cpu, const struct insn *in)
{
    reg_set(cpu, REG_RAX, in->osz, (u64)sign_extend(cpu->core.rax, in->osz - 1u) & osz_mask(in->osz));
    return FLOW_NEXT;
}
static enum flow cwd(struct cpu *cpu, const struct insn *in)
{
    reg_set(cpu, REG_RDX, in->osz, sign_extend(cpu->core.rax, in->osz) < 0 ? osz_mask(in->osz) : 0);
    return FLOW_NEXT;
}
FAMILY_ONE(cbw, cbw)
FAMILY_ONE(cwd, cwd)

/* ---- decimal adjustments -------------------------------------------------------------------------------------------- */

static void decimal_flags(struct cpu *cpu, u8 al, bool cf, bool af)
{
    alu_result8(cpu, al);
    cpu->core.fl_carry = (u64)cf << 63 | (u64)cf << 62 | (af ? 8 : 0);
}

static enum flow decimal_adjust(struct cpu *cpu, bool subtract)
{
    u8 al = (u8)cpu->core.rax, old = al;
    bool cf = flag_cf(cpu), af = flag_af(cpu), new_cf = false;
    int sign = subtract ? -1 : 1;
    if ((al & 15) > 9 || af) {
        new_cf = cf || (subtract ? old < 6 : old > 0xf9);
        al = (u8)(al + sign * 6);
        af = true;
    } else {
        af = false;
    }
    if (old > 0x99 || cf) {
        al = (u8)(al + sign * 0x60);
        new_cf = true;
    }
    reg8_set(cpu, 0, al);
    decimal_flags(cpu, al, new_cf, af);
    return FLOW_NEXT;
}
static enum flow daa(struct cpu *cpu, const struct insn *in) { (void)in; return decimal_adjust(cpu, false); }
static enum flow das(struct cpu *cpu, const struct insn *in) { (void)in; return decimal_adjust(cpu, true); }
FAMILY_ONE(daa, daa)
FAMILY_ONE(das, das)

static enum flow ascii_adjust(struct cpu *cpu, bool subtract)
{
    u16 ax = (u16)cpu->core.rax;
    bool adjust = (ax & 15) > 9 || flag_af(cpu);
    if (adjust)
        ax = (u16)(subtract ? ax - 0x106 : ax + 0x106);
    ax &= 0xff0f;
    reg16_set(cpu, REG_RAX, ax);
    decimal_flags(cpu, (u8)ax, adjust, adjust);
    return FLOW_NEXT;
}
static enum flow aaa(struct cpu *cpu, const struct insn *in) { (void)in; return ascii_adjust(cpu, false); }
static enum flow aas(struct cpu *cpu, const struct insn *in) { (void)in; return ascii_adjust(cpu, true); }
FAMILY_ONE(aaa, aaa)
FAMILY_ONE(aas, aas)

static enum flow aam(struct cpu *cpu, const struct insn *in)
{
    u8 base = (u8)in->imm, al = (u8)cpu->core.rax;
    if (base == 0)
        return cpu_raise(cpu, EXC_DE);
    reg16_set(cpu, REG_RAX, (u16)((al / base) << 8 | al % base));
    decimal_flags(cpu, al % base, false, false);
    return FLOW_NEXT;
}
static enum flow aad(struct cpu *cpu, const struct insn *in)
{
    u8 al = (u8)((u8)cpu->core.rax + (u8)(cpu->core.rax >> 8) * (u8)in->imm);
    reg16_set(cpu, REG_RAX, al);
    decimal_flags(cpu, al, false, false);
    return FLOW_NEXT;
}
FAMILY_ONE(aam, aam)
FAMILY_ONE(aad, aad)
