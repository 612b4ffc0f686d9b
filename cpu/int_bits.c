/* Bits: BT BTS BTR BTC, BSF BSR TZCNT LZCNT POPCNT, CRC32, the BMI group, flag instructions (CLC …), SALC [SDM2].
 */
#include "cpu/alu.h"
#include "cpu/operand.h"

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT };

static u64 bit_apply(u64 v, unsigned bit, enum bit_op op)
{
    u64 mask = BIT(bit);
    return op == BIT_SET ? v | mask : op == BIT_RESET ? v & ~mask : op == BIT_COMPLEMENT ? v ^ mask : v;
}

/* CF alone changes (the SDM leaves OF, SF, AF, PF undefined; Intel's processors keep them). */
static enum flow bit_reg(struct cpu *cpu, const struct insn *in, u64 offset, enum bit_op op)
{
    unsigned bit = (unsigned)offset & (osz_bits(in->osz) - 1);
    u64 v = reg_get(cpu, in->rm, in->osz);
    if (op != BIT_TEST)
        reg_set(cpu, in->rm, in->osz, bit_apply(v, bit, op));
    flags_set_cf(cpu, v >> bit & 1);
    return FLOW_NEXT;
}

/* A register offset reaches outside the operand: the address moves by whole operands. */
static bool bit_mem_la(struct cpu *cpu, const struct insn *in, i64 offset, unsigned access, u64 *la)
{
    unsigned bytes = 1u << in->osz;
    i64 moved = (offset >> (3 + in->osz)) * (i64)bytes;
    u64 off = (ea_offset(cpu, in) + (u64)moved) & mask_low(8u << in->asz);
    return seg_la(cpu, in->arch_seg, off, bytes, access, la);
}

static enum flow bit_mem(struct cpu *cpu, const struct insn *in, i64 offset, enum bit_op op)
{
    unsigned bits = osz_bits(in->osz), bytes = bits / 8;
    unsigned access = op == BIT_TEST ? ACCESS_READ : ACCESS_WRITE;
    u64 la, v = 0;
    unsigned bit = (unsigned)offset & (bits - 1);
    TRY(bit_mem_la(cpu, in, offset, access, &la));
    TRY(mem_read_slow(cpu, la, &v, bytes, access));
    if (op != BIT_TEST) {
        u64 changed = bit_apply(v, bit, op);
        TRY(mem_write(cpu, la, &changed, bytes));
    }
    flags_set_cf(cpu, v >> bit & 1);
    return FLOW_NEXT;
}

static i64 bit_offset(const struct cpu *cpu, const struct insn *in)
{
    u64 v = cpu->core.r[in->reg];
    return in->osz == OSZ_64 ? (i64)v : in->osz == OSZ_32 ? (i32)v : (i16)v;
}

bool bit_string_la(struct cpu *cpu, const struct insn *in, unsigned access, u64 *la)
{
    return bit_mem_la(cpu, in, bit_offset(cpu, in), access, la);
}

#define DEFINE_BIT(name, op)                                                                                           \
    static enum flow name##_rg(struct cpu *cpu, const struct insn *in) { return bit_reg(cpu, in, cpu->core.r[in->reg], op); } \
    static enum flow name##_mg(struct cpu *cpu, const struct insn *in) { return bit_mem(cpu, in, bit_offset(cpu, in), op); } \
    static enum flow name##_ri(struct cpu *cpu, const struct insn *in) { return bit_reg(cpu, in, in->imm, op); }       \
    static enum flow name##_mi(struct cpu *cpu, const struct insn *in)                                                 \
    {                                                                                                                  \
        return bit_mem(cpu, in, (i64)(in->imm & (osz_bits(in->osz) - 1)), op);                                         \
    }                                                                                                                  \
    FAMILY_RM(name##_E_G, name##_rg, name##_mg)                                                                        \
    FAMILY_RM(name##_E_I, name##_ri, name##_mi)
DEFINE_BIT(bt, BIT_TEST)
DEFINE_BIT(bts, BIT_SET)
DEFINE_BIT(btr, BIT_RESET)
DEFINE_BIT(btc, BIT_COMPLEMENT)

static void set_flags(struct cpu *cpu, u32 mask, u32 value)
{
    flags_set_status(cpu, (flags_status(cpu) & ~mask) | value);
}

/* BSF and BSR of zero: ZF is set and the destination keeps its value (documented by AMD, and what Intel's processors do). */
static enum flow bit_scan(struct cpu *cpu, const struct insn *in, bool reverse)
{
    u64 v;
    TRY(rm_get(cpu, in, in->osz, &v));
    if (v == 0) {
        set_flags(cpu, FL_ZF, FL_ZF);
        return FLOW_NEXT;
    }
    reg_set(cpu, in->reg, in->osz, reverse ? 63u - (unsigned)__builtin_clzll(v) : (unsigned)__builtin_ctzll(v));
    set_flags(cpu, FL_ZF, 0);
    return FLOW_NEXT;
}
static enum flow bsf(struct cpu *cpu, const struct insn *in) { return bit_scan(cpu, in, false); }
static enum flow bsr(struct cpu *cpu, const struct insn *in) { return bit_scan(cpu, in, true); }
FAMILY_ONE(bsf, bsf)
FAMILY_ONE(bsr, bsr)

static enum flow count_zeros(struct cpu *cpu, const struct insn *in, bool leading)
{
    u64 v;
    unsigned bits = osz_bits(in->osz);
    TRY(rm_get(cpu, in, in->osz, &v));
    unsigned n = v == 0 ? bits : leading ? (unsigned)__builtin_clzll(v) - (64 - bits) : (unsigned)__builtin_ctzll(v);
    reg_set(cpu, in->reg, in->osz, n);
    set_flags(cpu, FL_CF | FL_ZF, (v == 0 ? FL_CF : 0) | (n == 0 ? FL_ZF : 0));
    return FLOW_NEXT;
}
static enum flow tzcnt(struct cpu *cpu, const struct insn *in) { return count_zeros(cpu, in, false); }
static enum flow lzcnt(struct cpu *cpu, const struct insn *in) { return count_zeros(cpu, in, true); }
FAMILY_ONE(tzcnt, tzcnt)
FAMILY_ONE(lzcnt, lzcnt)

static enum flow popcnt(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    TRY(rm_get(cpu, in, in->osz, &v));
    reg_set(cpu, in->reg, in->osz, (u64)__builtin_popcountll(v));
    set_flags(cpu, FL_STATUS, v == 0 ? FL_ZF : 0);
    return FLOW_NEXT;
}
FAMILY_ONE(popcnt, popcnt)

/* CRC32 (Castagnoli, reflected polynomial 82F63B78) of a 1, 2, 4 or 8-byte operand. */
static enum flow crc32_bytes(struct cpu *cpu, const struct insn *in, unsigned osz)
{
    u64 v;
    TRY(rm_get(cpu, in, osz, &v));
    u32 crc = (u32)cpu->core.r[in->reg];
    for (unsigned i = 0; i < 1u << osz; i++) {
        crc ^= (u8)(v >> (8 * i));
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    cpu->core.r[in->reg] = crc;
    return FLOW_NEXT;
}
static enum flow crc32_b(struct cpu *cpu, const struct insn *in) { return crc32_bytes(cpu, in, OSZ_8); }
static enum flow crc32_v(struct cpu *cpu, const struct insn *in) { return crc32_bytes(cpu, in, in->osz); }
FAMILY_ONE(crc32_b, crc32_b)
FAMILY_ONE(crc32_v, crc32_v)

/* ---- flag instructions -------------------------------------------------------------------------------------------------- */

static enum flow clc(struct cpu *cpu, const struct insn *in) { (void)in; flags_set_cf(cpu, false); return FLOW_NEXT; }
static enum flow stc(struct cpu *cpu, const struct insn *in) { (void)in; flags_set_cf(cpu, true); return FLOW_NEXT; }
static enum flow cmc(struct cpu *cpu, const struct insn *in) { (void)in; flags_set_cf(cpu, !flag_cf(cpu)); return FLOW_NEXT; }
static enum flow cld(struct cpu *cpu, const struct insn *in) { (void)in; cpu->core.rflags_rest &= ~(u64)FL_DF; return FLOW_NEXT; }
static enum flow std(struct cpu *cpu, const struct insn *in) { (void)in; cpu->core.rflags_rest |= FL_DF; return FLOW_NEXT; }
FAMILY_ONE(clc, clc)
FAMILY_ONE(stc, stc)
FAMILY_ONE(cmc, cmc)
FAMILY_ONE(cld, cld)
FAMILY_ONE(std, std)

/* SALC (undocumented, present in every Intel processor): AL = CF ? FF : 00. */
static enum flow salc(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    reg8_set(cpu, 0, flag_cf(cpu) ? 0xff : 0);
    return FLOW_NEXT;
}
FAMILY_ONE(salc, salc)
