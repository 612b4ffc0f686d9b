/* VEX and EVEX floating-point arithmetic, comparison, rounding and dot products; and the ways by which all floating-
 * point operations on elements become instructions (cpu/vec_float.h).
 *
 * [SDM2 "ADDPS—...", "CMPPS—...", "DPPS—...", "HADDPS—...", "ROUNDPS—...", "VRNDSCALEPS—...", "RCPPS—..."]
 */
#include "cpu/vec_float.h"
#include "cpu/float_lanes.h"

/* ---- environment ------------------------------------------------------------------------------------------------- */

/* EVEX.b of a register form: no exceptions, and where the row says so a rounding mode in L'L. */
static bool suppressed(const struct insn *in) { return in->flags & INSN_EVEX_B && !(in->flags & INSN_MEM); }

struct float_env vec_float_env(const struct cpu *cpu, const struct insn *in)
{
    struct float_env e = sse_env(cpu);
    if (UNLIKELY(suppressed(in))) {
        e.masks = FLOAT_ALL;
        if (insn_rows[in->row].attr & ROW_ER)
            e.rounding = in->imm2 & 3;
    }
    return e;
}

bool vec_float_finish(struct cpu *cpu, const struct insn *in, struct float_env *e)
{
    bool blocked = float_stage_blocked(e, 0);
    if (LIKELY(!suppressed(in)))
        cpu->fpu.mxcsr |= e->flags;
    return !blocked;
}

/* ---- from elements to instructions ------------------------------------------------------------------------------- */

enum flow vec_float_packed(struct cpu *cpu, const struct insn *in, unsigned dsize, unsigned ssize, vec_float_op *op)
{
    u8 r[VEC_BYTES], y[VEC_BYTES];
    unsigned lanes = vec_bytes(in) / (dsize > ssize ? dsize : ssize);
    u64 mask = vec_mask(cpu, in, lanes);
    VEC_GATE();
    TRY(vec_load(cpu, in, y, lanes * ssize, ssize, mask));
    struct float_env e = vec_float_env(cpu, in);
    memcpy(r, vec_reg(cpu, in->reg), VEC_BYTES);
    op(r, vec_reg(cpu, in->vvvv), y, lanes, mask, (u8)in->imm, &e);
    VEC_FLOAT_FINISH(&e);
    vec_commit(cpu, in, r, lanes * dsize, dsize, mask);
    return FLOW_NEXT;
}

enum flow vec_float_scalar(struct cpu *cpu, const struct insn *in, unsigned dsize, unsigned ssize, bool keep,
                           vec_float_op *op)
{
    u8 r[16], y[VEC_BYTES];
    u64 mask = vec_mask(cpu, in, 1);
    VEC_GATE();
    TRY(vec_load(cpu, in, y, ssize, ssize, mask));
    struct float_env e = vec_float_env(cpu, in);
    memcpy(r, vec_reg(cpu, in->reg), 16);
    if (mask)
        op(r, vec_reg(cpu, in->vvvv), y, 1, mask, (u8)in->imm, &e);
    else if (in->flags & INSN_EVEX_Z)
        memset(r, 0, dsize);
    VEC_FLOAT_FINISH(&e);
    if (!keep)
        memcpy(r + dsize, (u8 *)vec_reg(cpu, in->vvvv) + dsize, 16 - dsize);
    vec_put(cpu, in->reg, r, 16);
    return FLOW_NEXT;
}

enum flow vec_float_into_mask(struct cpu *cpu, const struct insn *in, unsigned size, bool scalar, vec_float_test *op)
{
    u8 y[VEC_BYTES];
    unsigned lanes = scalar ? 1 : vec_bytes(in) / size;
    u64 mask = vec_mask(cpu, in, lanes);
    VEC_GATE();
    TRY(vec_load(cpu, in, y, lanes * size, size, mask));
    struct float_env e = vec_float_env(cpu, in);
    u64 k = op(vec_reg(cpu, in->vvvv), y, lanes, mask, (u8)in->imm, &e);
    VEC_FLOAT_FINISH(&e);
    cpu->fpu.k[in->reg & 7] = k;
    return FLOW_NEXT;
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

#define THREE_TYPES(name, expr16, expr32, expr64)                                                                      \
    VEC_FLOAT(name##ph, name##sh, u16, expr16)                                                                         \
    VEC_FLOAT(name##ps, name##ss, u32, expr32)                                                                         \
    VEC_FLOAT(name##pd, name##sd, u64, expr64)
#define ARITHMETIC(name) THREE_TYPES(v##name, f16_##name(x, y, e), f32_##name(x, y, e), f64_##name(x, y, e))
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
ARITHMETIC(min)
ARITHMETIC(max)
THREE_TYPES(vsqrt, f16_sqrt(y, e), f32_sqrt(y, e), f64_sqrt(y, e))

/* VROUND has no digits; imm8[3] suppresses the precision exception of both. */
#define ROUND(bits, digits) f##bits##_round(y, digits, vec_imm_rounding(imm, e), !(imm & 8), e)
VEC_FLOAT(vroundps, vroundss, u32, ROUND(32, 0))
VEC_FLOAT(vroundpd, vroundsd, u64, ROUND(64, 0))
THREE_TYPES(vrndscale, ROUND(16, imm >> 4), ROUND(32, imm >> 4), ROUND(64, imm >> 4))

VEC_FLOAT(vrcpps, vrcpss, u32, f32_rcp12(y))
VEC_FLOAT(vrsqrtps, vrsqrtss, u32, f32_rsqrt12(y))

/* ---- within 128-bit lanes (VEX only, not masked) ----------------------------------------------------------------- */

#define WHOLE_LANES(name, type, op)                                                                                    \
    static void name##_lanes(void *rp, const void *xp, const void *yp, unsigned lanes, u64 mask, unsigned imm,         \
                             struct float_env *e)                                                                      \
    {                                                                                                                  \
        (void)mask, (void)imm;                                                                                         \
        for (unsigned at = 0; at < lanes * sizeof(type); at += 16) {                                                   \
            type x[16 / sizeof(type)], y[16 / sizeof(type)], r[16 / sizeof(type)];                                     \
            memcpy(x, (const u8 *)xp + at, 16);                                                                        \
            memcpy(y, (const u8 *)yp + at, 16);                                                                        \
            op(r, x, y, e);                                                                                            \
            memcpy((u8 *)rp + at, r, 16);                                                                              \
        }                                                                                                              \
    }                                                                                                                  \
    VEC_FLOAT_PACKED(name, name, type, type)
WHOLE_LANES(vhaddps, u32, lane_hadd32)
WHOLE_LANES(vhaddpd, u64, lane_hadd64)
WHOLE_LANES(vhsubps, u32, lane_hsub32)
WHOLE_LANES(vhsubpd, u64, lane_hsub64)
WHOLE_LANES(vaddsubps, u32, lane_addsub32)
WHOLE_LANES(vaddsubpd, u64, lane_addsub64)

static enum flow vdpps(struct cpu *cpu, const struct insn *in)
{
    u8 buffer[VEC_BYTES];
    u32 x[8], y[8], r[8];
    unsigned n = vec_bytes(in) & 48;
    VEC_GATE();
    const void *source = vec_source(cpu, in, n, buffer);
    TRY(source != NULL);
    memcpy(x, vec_reg(cpu, in->vvvv), n);
    memcpy(y, source, n);
    struct float_env e = sse_env(cpu);
    lanes_dot32(r, x, y, n / 16, (u8)in->imm, &e);
    SSE_FINISH_STAGES(e);
    vec_put(cpu, in->reg, r, n);
    return FLOW_NEXT;
}
FAMILY_ONE(vdpps, vdpps)

static enum flow vdppd(struct cpu *cpu, const struct insn *in)
{
    u8 buffer[VEC_BYTES];
    u64 x[2], y[2], r[2];
    VEC_GATE();
    const void *source = vec_source(cpu, in, 16, buffer);
    TRY(source != NULL);
    memcpy(x, vec_reg(cpu, in->vvvv), 16);
    memcpy(y, source, 16);
    struct float_env e = sse_env(cpu);
    lane_dot64(r, x, y, (u8)in->imm, &e);
    SSE_FINISH_STAGES(e);
    vec_put(cpu, in->reg, r, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(vdppd, vdppd)

/* ---- comparison -------------------------------------------------------------------------------------------------- */

#define HOLDS(bits) predicate_holds(imm, f##bits##_compare(x, y, predicate_quiet(imm), e))
VEC_FLOAT(vcmpps, vcmpss, u32, HOLDS(32) ? ~0u : 0)
VEC_FLOAT(vcmppd, vcmpsd, u64, HOLDS(64) ? ~0ull : 0)

/* The operation NAME_test and its families: bits where `expr` of x, y, imm and e is true. */
#define INTO_MASK(packed, scalar, type, expr)                                                                          \
    static u64 packed##_test(const void *xp, const void *yp, unsigned lanes, u64 mask, unsigned imm,                   \
                             struct float_env *e)                                                                      \
    {                                                                                                                  \
        u64 k = 0;                                                                                                     \
        for (unsigned i = 0; i < lanes; i++) {                                                                         \
            type x, y;                                                                                                 \
            memcpy(&x, (const u8 *)xp + i * sizeof x, sizeof x);                                                       \
            memcpy(&y, (const u8 *)yp + i * sizeof y, sizeof y);                                                       \
            (void)x;                                                                                                   \
            if (mask >> i & 1 && (expr))                                                                               \
                k |= 1ull << i;                                                                                        \
        }                                                                                                              \
        return k;                                                                                                      \
    }                                                                                                                  \
    static enum flow packed(struct cpu *cpu, const struct insn *in)                                                    \
    {                                                                                                                  \
        return vec_float_into_mask(cpu, in, sizeof(type), false, packed##_test);                                       \
    }                                                                                                                  \
    FAMILY_ONE(packed, packed)                                                                                         \
    static enum flow scalar(struct cpu *cpu, const struct insn *in)                                                    \
    {                                                                                                                  \
        return vec_float_into_mask(cpu, in, sizeof(type), true, packed##_test);                                        \
    }                                                                                                                  \
    FAMILY_ONE(scalar, scalar)
INTO_MASK(vcmpph_k, vcmpsh_k, u16, HOLDS(16))
INTO_MASK(vcmpps_k, vcmpss_k, u32, HOLDS(32))
INTO_MASK(vcmppd_k, vcmpsd_k, u64, HOLDS(64))
INTO_MASK(vfpclassph, vfpclasssh, u16, f16_classify(y, imm, e))
INTO_MASK(vfpclassps, vfpclassss, u32, f32_classify(y, imm, e))
INTO_MASK(vfpclasspd, vfpclasssd, u64, f64_classify(y, imm, e))

#define INTO_FLAGS(name, type, bits, quiet)                                                                            \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        u8 source[VEC_BYTES];                                                                                          \
        type a, b;                                                                                                     \
        VEC_GATE();                                                                                                    \
        TRY(vec_load(cpu, in, source, sizeof b, sizeof b, 1));                                                         \
        memcpy(&a, vec_reg(cpu, in->reg), sizeof a);                                                                   \
        memcpy(&b, source, sizeof b);                                                                                  \
        struct float_env e = vec_float_env(cpu, in);                                                                   \
        enum float_relation r = f##bits##_compare(a, b, quiet, &e);                                                    \
        VEC_FLOAT_FINISH(&e);                                                                                          \
        sse_set_relation(cpu, r);                                                                                      \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name, name)
INTO_FLAGS(vcomish, u16, 16, false)
INTO_FLAGS(vcomiss, u32, 32, false)
INTO_FLAGS(vcomisd, u64, 64, false)
INTO_FLAGS(vucomish, u16, 16, true)
INTO_FLAGS(vucomiss, u32, 32, true)
INTO_FLAGS(vucomisd, u64, 64, true)
