/* EVEX floating-point instructions that are no arithmetic: taking numbers apart, scaling, ranges, fix-up,
 * approximations; complex numbers of binary16; dot products of bfloat16.
 *
 * [SDM2 "VGETEXPPD—...", "VGETMANTPD—...", "VSCALEFPD—...", "VRANGEPD—...", "VREDUCEPD—...", "VFIXUPIMMPD—...",
 *  "VRCP14PD—...", "VRSQRT14PD—...", "VRCPPH—...", "VFMULCPH—...", "VFMADDCPH—...", "VDPBF16PS—..."]
 */
#include "cpu/vec_float.h"

#define TWO_TYPES(name, expr32, expr64)                                                                                \
    VEC_FLOAT(name##ps, name##ss, u32, expr32)                                                                         \
    VEC_FLOAT(name##pd, name##sd, u64, expr64)
#define THREE_TYPES(name, expr16, expr32, expr64)                                                                      \
    VEC_FLOAT(name##ph, name##sh, u16, expr16)                                                                         \
    TWO_TYPES(name, expr32, expr64)

THREE_TYPES(vgetexp, f16_getexp(y, e), f32_getexp(y, e), f64_getexp(y, e))
THREE_TYPES(vgetmant, f16_getmant(y, imm, e), f32_getmant(y, imm, e), f64_getmant(y, imm, e))
THREE_TYPES(vscalef, f16_scalef(x, y, e), f32_scalef(x, y, e), f64_scalef(x, y, e))
#define REDUCE(bits) f##bits##_reduce(y, imm >> 4, vec_imm_rounding(imm, e), !(imm & 8), e)
THREE_TYPES(vreduce, REDUCE(16), REDUCE(32), REDUCE(64))
TWO_TYPES(vrange, f32_range(x, y, imm, e), f64_range(x, y, imm, e))
TWO_TYPES(vfixupimm, f32_fixup(z, x, y, imm, e), f64_fixup(z, x, (u32)y, imm, e))
TWO_TYPES(vrcp14, f32_rcp14(y, e), f64_rcp14(y, e))
TWO_TYPES(vrsqrt14, f32_rsqrt14(y, e), f64_rsqrt14(y, e))
VEC_FLOAT(vrcpph, vrcpsh, u16, f16_rcp(y))
VEC_FLOAT(vrsqrtph, vrsqrtsh, u16, f16_rsqrt(y))

/* ---- complex numbers: real part in the low half ------------------------------------------------------------------ */

/* First both parts of x times the real part of y, then the parts of x crosswise times the imaginary part of y are added
 * to that. `conjugate`: y's conjugate instead. */
static u32 complex_second(u32 x, u32 y, u16 real, u16 imaginary, bool conjugate, struct float_env *e)
{
    u16 xr = (u16)x, xi = (u16)(x >> 16), yi = (u16)(y >> 16);
    real = f16_fma(xi, yi, real, conjugate ? 0 : FMA_NEGATE_PRODUCT, e);
    imaginary = f16_fma(xr, yi, imaginary, conjugate ? FMA_NEGATE_PRODUCT : 0, e);
    return real | (u32)imaginary << 16;
}
static u32 complex_mul(u32 x, u32 y, bool conjugate, struct float_env *e)
{
    u16 real = f16_mul((u16)x, (u16)y, e), imaginary = f16_mul((u16)(x >> 16), (u16)y, e);
    return complex_second(x, y, real, imaginary, conjugate, e);
}
static u32 complex_madd(u32 z, u32 x, u32 y, bool conjugate, struct float_env *e)
{
    u16 real = f16_fma((u16)x, (u16)y, (u16)z, 0, e);
    u16 imaginary = f16_fma((u16)(x >> 16), (u16)y, (u16)(z >> 16), 0, e);
    return complex_second(x, y, real, imaginary, conjugate, e);
}

/* The destination must not be one of the sources. */
#define COMPLEX(name, packed, scalar, expr)                                                                            \
    VEC_FLOAT_LANES(name##packed, u32, u32, expr)                                                                      \
    static enum flow name##packed(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        if (in->reg == in->vvvv || (!(in->flags & INSN_MEM) && in->reg == in->rm))                                     \
            return cpu_raise_ud(cpu);                                                                                  \
        return vec_float_packed(cpu, in, 4, 4, name##packed##_lanes);                                                  \
    }                                                                                                                  \
    FAMILY_ONE(name##packed, name##packed)                                                                             \
    static enum flow name##scalar(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        if (in->reg == in->vvvv || (!(in->flags & INSN_MEM) && in->reg == in->rm))                                     \
            return cpu_raise_ud(cpu);                                                                                  \
        return vec_float_scalar(cpu, in, 4, 4, false, name##packed##_lanes);                                           \
    }                                                                                                                  \
    FAMILY_ONE(name##scalar, name##scalar)
COMPLEX(vfmulc, ph, sh, complex_mul(x, y, false, e))
COMPLEX(vfcmulc, ph, sh, complex_mul(x, y, true, e))
COMPLEX(vfmaddc, ph, sh, complex_madd(z, x, y, false, e))
COMPLEX(vfcmaddc, ph, sh, complex_madd(z, x, y, true, e))

/* ---- bfloat16 ---------------------------------------------------------------------------------------------------- */

VEC_FLOAT_LANES(vdpbf16ps, u32, u32, bf16_dot(z, x, y))
VEC_FLOAT_PACKED(vdpbf16ps, vdpbf16ps, u32, u32)

/* ---- moves of binary16 ------------------------------------------------------------------------------------------- */

/* VMOVSH and VMOVW between registers and memory; the rest of a destination register is cleared. */
VEC_FLOAT_LANES(vmovsh, u16, u16, y)
static enum flow vmovsh_load(struct cpu *cpu, const struct insn *in)
{
    u8 r[VEC_BYTES];
    u64 mask = vec_mask(cpu, in, 1);
    VEC_GATE();
    TRY(vec_load(cpu, in, r, 2, 2, mask));
    if (!mask)
        memcpy(r, in->flags & INSN_EVEX_Z ? (const u8[2]){0} : vec_reg(cpu, in->reg), 2);
    vec_put(cpu, in->reg, r, 2);
    return FLOW_NEXT;
}
static enum flow vmovsh_store(struct cpu *cpu, const struct insn *in)
{
    VEC_GATE();
    TRY(vec_store(cpu, in, vec_reg(cpu, in->reg), 2, 2, vec_mask(cpu, in, 1)));
    return FLOW_NEXT;
}
static enum flow vmovsh_registers(struct cpu *cpu, const struct insn *in)
{
    return vec_float_scalar(cpu, in, 2, 2, false, vmovsh_lanes);
}
/* 11 /r: the destination is in ModRM.rm. */
static enum flow vmovsh_registers_back(struct cpu *cpu, const struct insn *in)
{
    struct insn turned = *in;
    turned.reg = in->rm;
    turned.rm = in->reg;
    return vec_float_scalar(cpu, &turned, 2, 2, false, vmovsh_lanes);
}
FAMILY_ONE(vmovsh_load, vmovsh_load)
FAMILY_ONE(vmovsh_store, vmovsh_store)
FAMILY_ONE(vmovsh_registers, vmovsh_registers)
FAMILY_ONE(vmovsh_registers_back, vmovsh_registers_back)

static enum flow vmovw_load(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    VEC_GATE();
    TRY(rm_get(cpu, in, OSZ_16, &v));
    vec_put(cpu, in->reg, &v, 2);
    return FLOW_NEXT;
}
static enum flow vmovw_store(struct cpu *cpu, const struct insn *in)
{
    u16 v;
    VEC_GATE();
    memcpy(&v, vec_reg(cpu, in->reg), 2);
    if (in->flags & INSN_MEM)
        TRY(rm_write16(cpu, in, v));
    else
        reg64_set(cpu, in->rm, v);
    return FLOW_NEXT;
}
FAMILY_ONE(vmovw_load, vmovw_load)
FAMILY_ONE(vmovw_store, vmovw_store)
