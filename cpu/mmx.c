/* MMX, with what SSE, SSE2 and SSSE3 added to it. MMn is the mantissa of the x87 register Rn.
 *
 * Kept true: an instruction that reads or writes an MMX register leaves TOP at 0 and every tag "not empty"; a written
 * register gets an exponent of all ones; nothing of that happens before the memory operand could be read. A pending x87
 * exception is raised first.
 * [SDM3 "Effect of MMX, x87 FPU, FXSAVE, and FXRSTOR Instructions on the x87 FPU Tag Word", SDM2 "MMX Instructions"]
 */
#include "cpu/packed.h"
#include "cpu/sse.h"
#include "cpu/x87.h"

/* ---- operations shared with SSE ---------------------------------------------------------------------------------- */

/* `OP mm, mm/m64` with op(u64 *d, u64 s): family mmx_NAME. */
#define MMX_PAIR_READ(name, op, bits)                                                                                  \
    static enum flow mmx_##name##_r(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        MMX_GATE();                                                                                                    \
        u64 d = mmx_get(cpu, in->reg);                                                                                 \
        op(&d, mmx_get(cpu, in->rm));                                                                                  \
        mmx_enter(cpu);                                                                                                \
        mmx_set(cpu, in->reg, d);                                                                                      \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mmx_##name##_m(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        u##bits s;                                                                                                     \
        MMX_GATE();                                                                                                    \
        TRY(rm_read##bits(cpu, in, &s));                                                                               \
        u64 d = mmx_get(cpu, in->reg);                                                                                 \
        op(&d, s);                                                                                                     \
        mmx_enter(cpu);                                                                                                \
        mmx_set(cpu, in->reg, d);                                                                                      \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_RM(mmx_##name, mmx_##name##_r, mmx_##name##_m)
#define MMX_PAIR(name, op) MMX_PAIR_READ(name, op, 64)

#define BINARY(name)                                                                                                   \
    static void op_##name(u64 *d, u64 s) { packed_##name(d, d, &s, 8); }                                               \
    MMX_PAIR(name, op_##name)
#define LANES(name, type, expr) BINARY(name)
PACKED_LANES_COMMON(LANES)
PACKED_ACROSS_COMMON(BINARY)
#undef LANES
#undef BINARY

/* Their memory operand has 32 bits. */
#define UNPACK_LOW(name)                                                                                               \
    static void op_##name(u64 *d, u64 s) { packed_##name(d, d, &s, 8); }                                               \
    MMX_PAIR_READ(name, op_##name, 32)
PACKED_UNPACK_LOW(UNPACK_LOW)
#undef UNPACK_LOW

#define SHIFT(name)                                                                                                    \
    static void op_##name(u64 *d, u64 s) { packed_##name(d, d, s, 8); }                                                \
    MMX_PAIR(name, op_##name)                                                                                          \
    static enum flow mmx_##name##_imm(struct cpu *cpu, const struct insn *in)                                          \
    {                                                                                                                  \
        MMX_GATE();                                                                                                    \
        u64 d = mmx_get(cpu, in->rm);                                                                                  \
        packed_##name(&d, &d, (u8)in->imm, 8);                                                                         \
        mmx_enter(cpu);                                                                                                \
        mmx_set(cpu, in->rm, d);                                                                                       \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(mmx_##name##_imm, mmx_##name##_imm)
PACKED_SHIFTS(SHIFT)
#undef SHIFT

/* ---- moves ------------------------------------------------------------------------------------------------------- */

static void op_movq(u64 *d, u64 s) { *d = s; }
MMX_PAIR(movq_load, op_movq)

static enum flow mmx_movq_store_r(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    u64 v = mmx_get(cpu, in->reg);
    mmx_enter(cpu);
    mmx_set(cpu, in->rm, v);
    return FLOW_NEXT;
}
static enum flow mmx_movq_store_m(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    TRY(rm_write64(cpu, in, mmx_get(cpu, in->reg)));
    mmx_enter(cpu);
    return FLOW_NEXT;
}
FAMILY_RM(mmx_movq_store, mmx_movq_store_r, mmx_movq_store_m)

/* MOVD and, with REX.W, MOVQ. */
static enum flow mmx_movd_load_r(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    mmx_enter(cpu);
    mmx_set(cpu, in->reg, in->flags & INSN_REX_W ? reg64(cpu, in->rm) : reg32(cpu, in->rm));
    return FLOW_NEXT;
}
static enum flow mmx_movd_load_m(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    u32 narrow;
    MMX_GATE();
    if (in->flags & INSN_REX_W) {
        TRY(rm_read64(cpu, in, &v));
    } else {
        TRY(rm_read32(cpu, in, &narrow));
        v = narrow;
    }
    mmx_enter(cpu);
    mmx_set(cpu, in->reg, v);
    return FLOW_NEXT;
}
FAMILY_RM(mmx_movd_load, mmx_movd_load_r, mmx_movd_load_m)

static enum flow mmx_movd_store_r(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    u64 v = mmx_get(cpu, in->reg);
    mmx_enter(cpu);
    reg64_set(cpu, in->rm, in->flags & INSN_REX_W ? v : (u32)v);
    return FLOW_NEXT;
}
static enum flow mmx_movd_store_m(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    if (in->flags & INSN_REX_W)
        TRY(rm_write64(cpu, in, mmx_get(cpu, in->reg)));
    else
        TRY(rm_write32(cpu, in, (u32)mmx_get(cpu, in->reg)));
    mmx_enter(cpu);
    return FLOW_NEXT;
}
FAMILY_RM(mmx_movd_store, mmx_movd_store_r, mmx_movd_store_m)

/* Between the two register sets: SSE instructions by their gate, MMX ones by what they do to the x87 state. */
static enum flow movq2dq(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    MMX_GATE();
    mmx_enter(cpu);
    xmm(cpu, in->reg)[0] = mmx_get(cpu, in->rm);
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
FAMILY_ONE(movq2dq, movq2dq)

static enum flow movdq2q(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    MMX_GATE();
    mmx_enter(cpu);
    mmx_set(cpu, in->reg, xmm(cpu, in->rm)[0]);
    return FLOW_NEXT;
}
FAMILY_ONE(movdq2q, movdq2q)

/* ---- what SSE and SSSE3 added ------------------------------------------------------------------------------------ */

static enum flow mmx_pmovmskb(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    u64 s = mmx_get(cpu, in->rm);
    mmx_enter(cpu);
    reg64_set(cpu, in->reg, (s >> 7 & 0x0101010101010101ull) * 0x0102040810204080ull >> 56);
    return FLOW_NEXT;
}
FAMILY_ONE(mmx_pmovmskb, mmx_pmovmskb)

static enum flow mmx_pextrw(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    u64 s = mmx_get(cpu, in->rm);
    mmx_enter(cpu);
    reg64_set(cpu, in->reg, s >> (16 * (in->imm & 3)) & 0xffff);
    return FLOW_NEXT;
}
FAMILY_ONE(mmx_pextrw, mmx_pextrw)

static void mmx_insert_word(struct cpu *cpu, const struct insn *in, u16 v)
{
    unsigned shift = 16 * (in->imm & 3);
    mmx_enter(cpu);
    mmx_set(cpu, in->reg, (mmx_get(cpu, in->reg) & ~(0xffffull << shift)) | (u64)v << shift);
}
static enum flow mmx_pinsrw_r(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    mmx_insert_word(cpu, in, reg16(cpu, in->rm));
    return FLOW_NEXT;
}
static enum flow mmx_pinsrw_m(struct cpu *cpu, const struct insn *in)
{
    u16 v;
    MMX_GATE();
    TRY(rm_read16(cpu, in, &v));
    mmx_insert_word(cpu, in, v);
    return FLOW_NEXT;
}
FAMILY_RM(mmx_pinsrw, mmx_pinsrw_r, mmx_pinsrw_m)

/* The second operand of PSHUFW and PALIGNR. */
static bool mmx_source(struct cpu *cpu, const struct insn *in, u64 *s)
{
    if (in->flags & INSN_MEM)
        return rm_read64(cpu, in, s);
    *s = mmx_get(cpu, in->rm);
    return true;
}
static enum flow mmx_pshufw(struct cpu *cpu, const struct insn *in)
{
    u64 s, d = 0;
    MMX_GATE();
    TRY(mmx_source(cpu, in, &s));
    for (unsigned i = 0; i < 4; i++)
        d |= (s >> (16 * (in->imm >> (2 * i) & 3)) & 0xffff) << (16 * i);
    mmx_enter(cpu);
    mmx_set(cpu, in->reg, d);
    return FLOW_NEXT;
}
FAMILY_ONE(mmx_pshufw, mmx_pshufw)

static enum flow mmx_palignr(struct cpu *cpu, const struct insn *in)
{
    u64 s, d;
    MMX_GATE();
    TRY(mmx_source(cpu, in, &s));
    d = mmx_get(cpu, in->reg);
    packed_palignr(&d, &d, &s, 8, (u8)in->imm);
    mmx_enter(cpu);
    mmx_set(cpu, in->reg, d);
    return FLOW_NEXT;
}
FAMILY_ONE(mmx_palignr, mmx_palignr)

static enum flow maskmovq(struct cpu *cpu, const struct insn *in)
{
    MMX_GATE();
    u64 data = mmx_get(cpu, in->reg), mask = mmx_get(cpu, in->rm);
    enum flow flow = sse_mask_store(cpu, in, &data, &mask, 8);
    if (flow == FLOW_NEXT)
        mmx_enter(cpu);
    return flow;
}
FAMILY_ONE(maskmovq, maskmovq)

static enum flow emms(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    MMX_GATE();
    cpu->fpu.fsw &= (u16)~FSW_TOP;
    cpu->fpu.ftw_full = 0xffff;
    return FLOW_NEXT;
}
FAMILY_ONE(emms, emms)
