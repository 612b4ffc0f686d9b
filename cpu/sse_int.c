/* SSE2 to SSE4.1 integer arithmetic, comparison, shifts and shuffles on XMM registers (and the bitwise operations of
 * the floating-point sets, which are the same). What an operation does to its lanes stands in cpu/packed.h.
 *
 * [SDM2 "PADDB/PADDW/PADDD/PADDQ—...", "PSHUFD—...", "PSLLW/PSLLD/PSLLQ—...", "MPSADBW—..."]
 */
#include "cpu/flags.h"
#include "cpu/packed.h"
#include "cpu/sse.h"
#include "cpu/vector.h"

/* ---- operations shared with MMX ---------------------------------------------------------------------------------- */

#define BINARY(name)                                                                                                   \
    static void op_##name(u64 *d, const u64 *s) { packed_##name(d, d, s, 16); }                                        \
    SSE_PAIR(name, op_##name)
#define LANES(name, type, expr) BINARY(name)
PACKED_LANES_COMMON(LANES)
PACKED_LANES_SSE4(LANES)
PACKED_UNPACK_LOW(BINARY)
PACKED_ACROSS_COMMON(BINARY)
PACKED_ACROSS_SSE(BINARY)
#undef LANES
#undef BINARY

/* ---- shifts: by the low quadword of the second operand, or by an immediate --------------------------------------- */

#define SHIFT(name)                                                                                                    \
    static void op_##name(u64 *d, const u64 *s) { packed_##name(d, d, s[0], 16); }                                     \
    SSE_PAIR(name, op_##name)                                                                                          \
    static enum flow name##_imm(struct cpu *cpu, const struct insn *in)                                                \
    {                                                                                                                  \
        SSE_GATE();                                                                                                    \
        packed_##name(xmm(cpu, in->rm), xmm(cpu, in->rm), (u8)in->imm, 16);                                            \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##_imm, name##_imm)
PACKED_SHIFTS(SHIFT)
#undef SHIFT

static enum flow pslldq(struct cpu *cpu, const struct insn *in)
{
    u8 wide[32] = {0};
    unsigned count = (u8)in->imm > 16 ? 16 : (u8)in->imm;
    SSE_GATE();
    memcpy(wide + count, xmm(cpu, in->rm), 32 - 16);
    memcpy(xmm(cpu, in->rm), wide, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(pslldq, pslldq)

static enum flow psrldq(struct cpu *cpu, const struct insn *in)
{
    u8 wide[32] = {0};
    unsigned count = (u8)in->imm > 16 ? 16 : (u8)in->imm;
    SSE_GATE();
    memcpy(wide, xmm(cpu, in->rm), 16);
    memcpy(xmm(cpu, in->rm), wide + count, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(psrldq, psrldq)

/* ---- shuffles ---------------------------------------------------------------------------------------------------- */

static void op_palignr(u64 *d, const u64 *s, unsigned imm) { packed_palignr(d, d, s, 16, imm); }
SSE_PAIR_IMM(palignr, op_palignr)

static void op_pshufd(u64 *d, const u64 *s, unsigned imm)
{
    u32 a[4], r[4];
    memcpy(a, s, 16);
    for (unsigned i = 0; i < 4; i++)
        r[i] = a[imm >> (2 * i) & 3];
    memcpy(d, r, 16);
}
SSE_PAIR_IMM(pshufd, op_pshufd)

static u64 shuffle_words(u64 q, unsigned imm)
{
    u64 r = 0;
    for (unsigned i = 0; i < 4; i++)
        r |= (q >> (16 * (imm >> (2 * i) & 3)) & 0xffff) << (16 * i);
    return r;
}
static void op_pshuflw(u64 *d, const u64 *s, unsigned imm)
{
    u64 high = s[1];
    d[0] = shuffle_words(s[0], imm);
    d[1] = high;
}
static void op_pshufhw(u64 *d, const u64 *s, unsigned imm)
{
    u64 low = s[0];
    d[1] = shuffle_words(s[1], imm);
    d[0] = low;
}
SSE_PAIR_IMM(pshuflw, op_pshuflw)
SSE_PAIR_IMM(pshufhw, op_pshufhw)

static void op_shufps(u64 *d, const u64 *s, unsigned imm)
{
    u32 a[4], b[4], r[4];
    memcpy(a, d, 16);
    memcpy(b, s, 16);
    r[0] = a[imm & 3];
    r[1] = a[imm >> 2 & 3];
    r[2] = b[imm >> 4 & 3];
    r[3] = b[imm >> 6 & 3];
    memcpy(d, r, 16);
}
static void op_shufpd(u64 *d, const u64 *s, unsigned imm)
{
    u64 low = d[imm & 1], high = s[imm >> 1 & 1];
    d[0] = low;
    d[1] = high;
}
SSE_PAIR_IMM(shufps, op_shufps)
SSE_PAIR_IMM(shufpd, op_shufpd)

/* ---- insertion and extraction: the register form takes a general register, the memory form an elemen ------------- */

static enum flow pinsrw_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    store16((u8 *)xmm(cpu, in->reg) + 2 * (in->imm & 7), reg16(cpu, in->rm));
    return FLOW_NEXT;
}
static enum flow pinsrw_m(struct cpu *cpu, const struct insn *in)
{
    u16 v;
    SSE_GATE();
    TRY(rm_read16(cpu, in, &v));
    store16((u8 *)xmm(cpu, in->reg) + 2 * (in->imm & 7), v);
    return FLOW_NEXT;
}
FAMILY_RM(pinsrw, pinsrw_r, pinsrw_m)

static enum flow pinsrb_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    ((u8 *)xmm(cpu, in->reg))[in->imm & 15] = (u8)reg32(cpu, in->rm);
    return FLOW_NEXT;
}
static enum flow pinsrb_m(struct cpu *cpu, const struct insn *in)
{
    u8 v;
    SSE_GATE();
    TRY(rm_read8(cpu, in, &v));
    ((u8 *)xmm(cpu, in->reg))[in->imm & 15] = v;
    return FLOW_NEXT;
}
FAMILY_RM(pinsrb, pinsrb_r, pinsrb_m)

/* PINSRD and, with REX.W, PINSRQ. */
static enum flow pinsrd_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    if (in->flags & INSN_REX_W)
        xmm(cpu, in->reg)[in->imm & 1] = reg64(cpu, in->rm);
    else
        xmm_set32(cpu, in->reg, in->imm & 3, reg32(cpu, in->rm));
    return FLOW_NEXT;
}
static enum flow pinsrd_m(struct cpu *cpu, const struct insn *in)
{
    u64 wide;
    u32 v;
    SSE_GATE();
    if (in->flags & INSN_REX_W) {
        TRY(rm_read64(cpu, in, &wide));
        xmm(cpu, in->reg)[in->imm & 1] = wide;
    } else {
        TRY(rm_read32(cpu, in, &v));
        xmm_set32(cpu, in->reg, in->imm & 3, v);
    }
    return FLOW_NEXT;
}
FAMILY_RM(pinsrd, pinsrd_r, pinsrd_m)

/* PEXTRW r32, xmm, imm8 of SSE2: the XMM register is the rm operand. */
static enum flow pextrw_reg(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    reg64_set(cpu, in->reg, load16((const u8 *)xmm(cpu, in->rm) + 2 * (in->imm & 7)));
    return FLOW_NEXT;
}
FAMILY_ONE(pextrw_reg, pextrw_reg)

static enum flow pextrw_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    reg64_set(cpu, in->rm, load16((const u8 *)xmm(cpu, in->reg) + 2 * (in->imm & 7)));
    return FLOW_NEXT;
}
static enum flow pextrw_m(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write16(cpu, in, load16((const u8 *)xmm(cpu, in->reg) + 2 * (in->imm & 7))));
    return FLOW_NEXT;
}
FAMILY_RM(pextrw, pextrw_r, pextrw_m)

static enum flow pextrb_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    reg64_set(cpu, in->rm, ((const u8 *)xmm(cpu, in->reg))[in->imm & 15]);
    return FLOW_NEXT;
}
static enum flow pextrb_m(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write8(cpu, in, ((const u8 *)xmm(cpu, in->reg))[in->imm & 15]));
    return FLOW_NEXT;
}
FAMILY_RM(pextrb, pextrb_r, pextrb_m)

/* PEXTRD and PEXTRQ; EXTRACTPS is PEXTRD with REX.W ignored. */
static enum flow pextrd_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    if (in->flags & INSN_REX_W)
        reg64_set(cpu, in->rm, xmm(cpu, in->reg)[in->imm & 1]);
    else
        reg64_set(cpu, in->rm, xmm_get32(cpu, in->reg, in->imm & 3));
    return FLOW_NEXT;
}
static enum flow pextrd_m(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    if (in->flags & INSN_REX_W)
        TRY(rm_write64(cpu, in, xmm(cpu, in->reg)[in->imm & 1]));
    else
        TRY(rm_write32(cpu, in, xmm_get32(cpu, in->reg, in->imm & 3)));
    return FLOW_NEXT;
}
FAMILY_RM(pextrd, pextrd_r, pextrd_m)

static enum flow extractps_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    reg64_set(cpu, in->rm, xmm_get32(cpu, in->reg, in->imm & 3));
    return FLOW_NEXT;
}
static enum flow extractps_m(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    TRY(rm_write32(cpu, in, xmm_get32(cpu, in->reg, in->imm & 3)));
    return FLOW_NEXT;
}
FAMILY_RM(extractps, extractps_r, extractps_m)

static void insertps_value(struct cpu *cpu, const struct insn *in, u32 v)
{
    xmm_set32(cpu, in->reg, in->imm >> 4 & 3, v);
    for (unsigned i = 0; i < 4; i++)
        if (in->imm >> i & 1)
            xmm_set32(cpu, in->reg, i, 0);
}
static enum flow insertps_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    insertps_value(cpu, in, xmm_get32(cpu, in->rm, in->imm >> 6 & 3));
    return FLOW_NEXT;
}
static enum flow insertps_m(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    SSE_GATE();
    TRY(rm_read32(cpu, in, &v));
    insertps_value(cpu, in, v);
    return FLOW_NEXT;
}
FAMILY_RM(insertps, insertps_r, insertps_m)

/* ---- blends ------------------------------------------------------------------------------------------------------ */

/* d keeps its bits where mask has zeros. */
static void blend_bits(u64 *d, const u64 *s, const u64 *mask)
{
    u64 low = (d[0] & ~mask[0]) | (s[0] & mask[0]), high = (d[1] & ~mask[1]) | (s[1] & mask[1]);
    d[0] = low;
    d[1] = high;
}

/* One bit of imm for each lane of `bits` bits. */
static void blend_imm(u64 *d, const u64 *s, unsigned imm, unsigned bits)
{
    u64 mask[2] = {0, 0};
    for (unsigned i = 0; i < 128 / bits; i++)
        if (imm >> i & 1)
            mask[i * bits / 64] |= mask_low(bits) << (i * bits % 64);
    blend_bits(d, s, mask);
}
static void op_pblendw(u64 *d, const u64 *s, unsigned imm) { blend_imm(d, s, imm, 16); }
static void op_blendps(u64 *d, const u64 *s, unsigned imm) { blend_imm(d, s, imm, 32); }
static void op_blendpd(u64 *d, const u64 *s, unsigned imm) { blend_imm(d, s, imm, 64); }
SSE_PAIR_IMM(pblendw, op_pblendw)
SSE_PAIR_IMM(blendps, op_blendps)
SSE_PAIR_IMM(blendpd, op_blendpd)

/* By the sign bits of XMM0's lanes. */
static void blend_by_signs(struct cpu *cpu, u64 *d, const u64 *s, unsigned bits)
{
    u64 mask[2] = {0, 0};
    for (unsigned i = 0; i < 128 / bits; i++) {
        unsigned shift = i * bits % 64;
        if (xmm(cpu, 0)[i * bits / 64] >> (shift + bits - 1) & 1)
            mask[i * bits / 64] |= mask_low(bits) << shift;
    }
    blend_bits(d, s, mask);
}
#define BLENDV(name, bits)                                                                                             \
    static enum flow name##_r(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        SSE_GATE();                                                                                                    \
        blend_by_signs(cpu, xmm(cpu, in->reg), xmm(cpu, in->rm), bits);                                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow name##_m(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u64 s[2];                                                                                                      \
        SSE_GATE();                                                                                                    \
        TRY(xmm_load(cpu, in, s));                                                                                     \
        blend_by_signs(cpu, xmm(cpu, in->reg), s, bits);                                                               \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_RM(name, name##_r, name##_m)
BLENDV(pblendvb, 8)
BLENDV(blendvps, 32)
BLENDV(blendvpd, 64)
#undef BLENDV

/* ---- widening moves: the memory form reads only what it widens --------------------------------------------------- */

#define WIDEN(name, from, to, bytes_read)                                                                              \
    static void widen_##name(u64 *d, const u64 *s)                                                                     \
    {                                                                                                                  \
        from a[16 / sizeof(from)];                                                                                     \
        to r[16 / sizeof(to)];                                                                                         \
        memcpy(a, s, 16);                                                                                              \
        for (unsigned i = 0; i < 16 / sizeof(to); i++)                                                                 \
            r[i] = (to)a[i];                                                                                           \
        memcpy(d, r, 16);                                                                                              \
    }                                                                                                                  \
    static enum flow name##_r(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        SSE_GATE();                                                                                                    \
        widen_##name(xmm(cpu, in->reg), xmm(cpu, in->rm));                                                             \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow name##_m(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u64 s[2] = {0, 0};                                                                                             \
        SSE_GATE();                                                                                                    \
        TRY(rm_read_bytes(cpu, in, s, bytes_read));                                                                    \
        widen_##name(xmm(cpu, in->reg), s);                                                                            \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_RM(name, name##_r, name##_m)
WIDEN(pmovsxbw, i8, i16, 8)
WIDEN(pmovsxbd, i8, i32, 4)
WIDEN(pmovsxbq, i8, i64, 2)
WIDEN(pmovsxwd, i16, i32, 8)
WIDEN(pmovsxwq, i16, i64, 4)
WIDEN(pmovsxdq, i32, i64, 8)
WIDEN(pmovzxbw, u8, u16, 8)
WIDEN(pmovzxbd, u8, u32, 4)
WIDEN(pmovzxbq, u8, u64, 2)
WIDEN(pmovzxwd, u16, u32, 8)
WIDEN(pmovzxwq, u16, u64, 4)
WIDEN(pmovzxdq, u32, u64, 8)
#undef WIDEN

/* ---- the rest of SSE4.1 ------------------------------------------------------------------------------------------ */

static void ptest_flags(struct cpu *cpu, const u64 *d, const u64 *s)
{
    bool zf = !((s[0] & d[0]) | (s[1] & d[1])), cf = !((s[0] & ~d[0]) | (s[1] & ~d[1]));
    flags_set_status(cpu, (zf ? FL_ZF : 0) | (cf ? FL_CF : 0));
}
static enum flow ptest_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    ptest_flags(cpu, xmm(cpu, in->reg), xmm(cpu, in->rm));
    return FLOW_NEXT;
}
static enum flow ptest_m(struct cpu *cpu, const struct insn *in)
{
    u64 s[2];
    SSE_GATE();
    TRY(xmm_load(cpu, in, s));
    ptest_flags(cpu, xmm(cpu, in->reg), s);
    return FLOW_NEXT;
}
FAMILY_RM(ptest, ptest_r, ptest_m)

static void op_phminposuw(u64 *d, const u64 *s)
{
    u16 a[8];
    unsigned best = 0;
    memcpy(a, s, 16);
    for (unsigned i = 1; i < 8; i++)
        if (a[i] < a[best])
            best = i;
    d[0] = a[best] | (u64)best << 16;
    d[1] = 0;
}
SSE_PAIR(phminposuw, op_phminposuw)
VEC_LANES_SSE(vphminposuw, op_phminposuw)
VEC_FAMILY(vphminposuw, 16, 16, vphminposuw_lanes)

static void op_mpsadbw(u64 *d, const u64 *s, unsigned imm)
{
    u8 a[16], b[16];
    u16 r[8];
    const u8 *from = a + (imm & 4), *block = b + 4 * (imm & 3);
    memcpy(a, d, 16);
    memcpy(b, s, 16);
    for (unsigned i = 0; i < 8; i++) {
        unsigned sum = 0;
        for (unsigned j = 0; j < 4; j++)
            sum += (unsigned)(from[i + j] > block[j] ? from[i + j] - block[j] : block[j] - from[i + j]);
        r[i] = (u16)sum;
    }
    memcpy(d, r, 16);
}
SSE_PAIR_IMM(mpsadbw, op_mpsadbw)
/* The upper lane of 256 bits has its own three bits of the immediate. */
HOT_INLINE void vec_mpsadbw(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    for (unsigned i = 0; i < n; i += 16, imm >>= 3) {
        u64 x[2], y[2];
        memcpy(x, (const u8 *)a + i, 16);
        memcpy(y, (const u8 *)b + i, 16);
        op_mpsadbw(x, y, imm);
        memcpy((u8 *)d + i, x, 16);
    }
}
VEC_FAMILY(vmpsadbw, 16, 16, vec_mpsadbw)
