/* VEX and EVEX conversions: between floating-point types, half precision (F16C) and bfloat16 among them, and with
 * signed and unsigned integers in vectors and general registers.
 *
 * Names of packed ones say the destination last, as the mnemonics do; a narrower result fills the lower part of the
 * register.
 * [SDM2 "CVTPS2PD—...", "VCVTPS2UDQ—...", "VCVTQQ2PS—...", "VCVTPH2PS—...", "VCVTPS2PH—...", "VCVTPH2W—...",
 *  "VCVTNE2PS2BF16—..."]
 */
#include "cpu/vec_float.h"

#define CONVERT(name, dtype, stype, expr)                                                                              \
    VEC_FLOAT_LANES(name, dtype, stype, expr)                                                                          \
    VEC_FLOAT_PACKED(name, name, dtype, stype)
#define CONVERT_SCALAR(name, dtype, stype, expr)                                                                       \
    VEC_FLOAT_LANES(name, dtype, stype, expr)                                                                          \
    VEC_FLOAT_SCALAR(name, name, dtype, stype, false)

/* ---- between floating-point types -------------------------------------------------------------------------------- */

CONVERT(vcvtps2pd, u64, u32, f64_from_f32(y, e))
CONVERT(vcvtpd2ps, u32, u64, f32_from_f64(y, e))
CONVERT(vcvtph2psx, u32, u16, f32_from_f16(y, e))
CONVERT(vcvtps2phx, u16, u32, f16_from_f32(y, e))
CONVERT(vcvtph2pd, u64, u16, f64_from_f16(y, e))
CONVERT(vcvtpd2ph, u16, u64, f16_from_f64(y, e))
CONVERT_SCALAR(vcvtss2sd, u64, u32, f64_from_f32(y, e))
CONVERT_SCALAR(vcvtsd2ss, u32, u64, f32_from_f64(y, e))
CONVERT_SCALAR(vcvtsh2ss, u32, u16, f32_from_f16(y, e))
CONVERT_SCALAR(vcvtss2sh, u16, u32, f16_from_f32(y, e))
CONVERT_SCALAR(vcvtsh2sd, u64, u16, f64_from_f16(y, e))
CONVERT_SCALAR(vcvtsd2sh, u16, u64, f16_from_f64(y, e))

/* F16C's widening does not report denormal operands. */
static u32 single_of_half(u16 a, struct float_env *e)
{
    struct float_env own = {.masks = FLOAT_ALL};
    u32 r = f32_from_f16(a, &own);
    e->flags |= own.flags & FLOAT_INVALID;
    return r;
}
CONVERT(vcvtph2ps, u32, u16, single_of_half(y, e))

/* VCVTPS2PH: the destination is in ModRM.rm. A fault of the store comes before an exception. */
static COLD bool can_store_halves(struct cpu *cpu, const struct insn *in, unsigned lanes, u64 mask)
{
    u64 la;
    if (mask == mask_low(lanes))
        return ea_la(cpu, in, 2 * lanes, ACCESS_WRITE, &la) && mem_probe(cpu, la, 2 * lanes, ACCESS_WRITE);
    for (unsigned i = 0; i < lanes; i++) {
        if (mask >> i & 1 && !(vec_element_la(cpu, in, 2 * i, 2, ACCESS_WRITE, &la) &&
                               mem_probe(cpu, la, 2, ACCESS_WRITE)))
            return false;
    }
    return true;
}
VEC_FLOAT_LANES(vcvtps2ph, u16, u32, f16_from_f32(y, e))
static enum flow vcvtps2ph(struct cpu *cpu, const struct insn *in)
{
    u8 r[VEC_BYTES];
    unsigned lanes = vec_bytes(in) / 4;
    u64 mask = vec_mask(cpu, in, lanes);
    VEC_GATE();
    struct float_env e = vec_float_env(cpu, in);
    e.rounding = (u8)vec_imm_rounding((u8)in->imm, &e);
    vcvtps2ph_lanes(r, vec_reg(cpu, in->vvvv), vec_reg(cpu, in->reg), lanes, mask, 0, &e);
    if (UNLIKELY(float_blocked(&e))) {
        if (in->flags & INSN_MEM)
            TRY(can_store_halves(cpu, in, lanes, mask));
        VEC_FLOAT_FINISH(&e);
    }
    if (in->flags & INSN_MEM) {
        TRY(vec_store(cpu, in, r, 2 * lanes, 2, mask));
    } else {
        struct insn to_rm = *in;
        to_rm.reg = in->rm;
        vec_commit(cpu, &to_rm, r, 2 * lanes, 2, mask);
    }
    VEC_FLOAT_FINISH(&e);
    return FLOW_NEXT;
}
FAMILY_ONE(vcvtps2ph, vcvtps2ph)

/* bfloat16: MXCSR is neither obeyed nor changed. */
CONVERT(vcvtneps2bf16, u16, u32, bf16_from_f32(y))
HOT_INLINE void two_to_bf16(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u16 r[VEC_BYTES / 2];
    (void)imm;
    for (unsigned i = 0; i < n / 4; i++) {     /* the lower half from ModRM.rm, the upper one from VEX.vvvv */
        r[i] = bf16_from_f32(load32((const u8 *)b + 4 * i));
        r[n / 4 + i] = bf16_from_f32(load32((const u8 *)a + 4 * i));
    }
    memcpy(d, r, n);
}
VEC_FAMILY(vcvtne2ps2bf16, 2, 4, two_to_bf16)

/* ---- integers in vectors ----------------------------------------------------------------------------------------- */

/* To integers, rounded and truncated. */
#define TO_INTEGER(name, tname, dtype, stype, function)                                                                \
    CONVERT(name, dtype, stype, function(y, e->rounding, e))                                                           \
    CONVERT(tname, dtype, stype, function(y, ROUND_ZERO, e))
TO_INTEGER(vcvtps2dq, vcvttps2dq, u32, u32, f32_to_i32)
TO_INTEGER(vcvtpd2dq, vcvttpd2dq, u32, u64, f64_to_i32)
TO_INTEGER(vcvtps2udq, vcvttps2udq, u32, u32, f32_to_u32)
TO_INTEGER(vcvtpd2udq, vcvttpd2udq, u32, u64, f64_to_u32)
TO_INTEGER(vcvtps2qq, vcvttps2qq, u64, u32, f32_to_i64)
TO_INTEGER(vcvtpd2qq, vcvttpd2qq, u64, u64, f64_to_i64)
TO_INTEGER(vcvtps2uqq, vcvttps2uqq, u64, u32, f32_to_u64)
TO_INTEGER(vcvtpd2uqq, vcvttpd2uqq, u64, u64, f64_to_u64)
TO_INTEGER(vcvtph2w, vcvttph2w, u16, u16, f16_to_i16)
TO_INTEGER(vcvtph2uw, vcvttph2uw, u16, u16, f16_to_u16)
TO_INTEGER(vcvtph2dq, vcvttph2dq, u32, u16, f16_to_i32)
TO_INTEGER(vcvtph2udq, vcvttph2udq, u32, u16, f16_to_u32)
TO_INTEGER(vcvtph2qq, vcvttph2qq, u64, u16, f16_to_i64)
TO_INTEGER(vcvtph2uqq, vcvttph2uqq, u64, u16, f16_to_u64)

CONVERT(vcvtdq2ps, u32, u32, f32_from_i64((i32)y, e))
CONVERT(vcvtdq2pd, u64, u32, f64_from_i64((i32)y, e))
CONVERT(vcvtudq2ps, u32, u32, f32_from_u64(y, e))
CONVERT(vcvtudq2pd, u64, u32, f64_from_u64(y, e))
CONVERT(vcvtqq2ps, u32, u64, f32_from_i64((i64)y, e))
CONVERT(vcvtqq2pd, u64, u64, f64_from_i64((i64)y, e))
CONVERT(vcvtuqq2ps, u32, u64, f32_from_u64(y, e))
CONVERT(vcvtuqq2pd, u64, u64, f64_from_u64(y, e))
CONVERT(vcvtw2ph, u16, u16, f16_from_i64((i16)y, e))
CONVERT(vcvtuw2ph, u16, u16, f16_from_u64(y, e))
CONVERT(vcvtdq2ph, u16, u32, f16_from_i64((i32)y, e))
CONVERT(vcvtudq2ph, u16, u32, f16_from_u64(y, e))
CONVERT(vcvtqq2ph, u16, u64, f16_from_i64((i64)y, e))
CONVERT(vcvtuqq2ph, u16, u64, f16_from_u64(y, e))

/* ---- integers in general registers ------------------------------------------------------------------------------- */

/* Integers in registers or memory to a scalar; the rest of 128 bits comes from VEX.vvvv. */
#define FROM_REGISTER(name, bits, is_signed)                                                                           \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        u8 r[16];                                                                                                      \
        u64 v;                                                                                                         \
        VEC_GATE();                                                                                                    \
        TRY(rm_get(cpu, in, in->osz, &v));                                                                             \
        struct float_env e = vec_float_env(cpu, in);                                                                   \
        u##bits low = !is_signed ? f##bits##_from_u64(v, &e)                                                           \
                                 : f##bits##_from_i64(in->osz == OSZ_64 ? (i64)v : (i32)v, &e);                        \
        VEC_FLOAT_FINISH(&e);                                                                                          \
        memcpy(r, vec_reg(cpu, in->vvvv), 16);                                                                         \
        memcpy(r, &low, sizeof low);                                                                                   \
        vec_put(cpu, in->reg, r, 16);                                                                                  \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name, name)
FROM_REGISTER(vcvtsi2sh, 16, true)
FROM_REGISTER(vcvtsi2ss, 32, true)
FROM_REGISTER(vcvtsi2sd, 64, true)
FROM_REGISTER(vcvtusi2sh, 16, false)
FROM_REGISTER(vcvtusi2ss, 32, false)
FROM_REGISTER(vcvtusi2sd, 64, false)

#define TO_REGISTER(name, bits, sign, mode)                                                                            \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        u8 source[VEC_BYTES];                                                                                          \
        u##bits a;                                                                                                     \
        VEC_GATE();                                                                                                    \
        TRY(vec_load(cpu, in, source, sizeof a, sizeof a, 1));                                                         \
        memcpy(&a, source, sizeof a);                                                                                  \
        struct float_env e = vec_float_env(cpu, in);                                                                   \
        u64 v = in->osz == OSZ_64 ? (u64)f##bits##_to_##sign##64(a, mode, &e)                                          \
                                  : (u32)f##bits##_to_##sign##32(a, mode, &e);                                         \
        VEC_FLOAT_FINISH(&e);                                                                                          \
        reg64_set(cpu, in->reg, v);                                                                                    \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name, name)
TO_REGISTER(vcvtsh2si, 16, i, e.rounding)
TO_REGISTER(vcvtss2si, 32, i, e.rounding)
TO_REGISTER(vcvtsd2si, 64, i, e.rounding)
TO_REGISTER(vcvttsh2si, 16, i, ROUND_ZERO)
TO_REGISTER(vcvttss2si, 32, i, ROUND_ZERO)
TO_REGISTER(vcvttsd2si, 64, i, ROUND_ZERO)
TO_REGISTER(vcvtsh2usi, 16, u, e.rounding)
TO_REGISTER(vcvtss2usi, 32, u, e.rounding)
TO_REGISTER(vcvtsd2usi, 64, u, e.rounding)
TO_REGISTER(vcvttsh2usi, 16, u, ROUND_ZERO)
TO_REGISTER(vcvttss2usi, 32, u, ROUND_ZERO)
TO_REGISTER(vcvttsd2usi, 64, u, ROUND_ZERO)
