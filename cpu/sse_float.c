/* SSE to SSE4.1 floating-point arithmetic, comparison and rounding, packed and scalar, on cpu/softfloat.c.
 *
 * Kept true: MXCSR gets the flags of all lanes; if any of them is not masked nothing else is written and the
 * instruction raises #XM (#UD while CR4.OSXMMEXCPT is clear). Scalars keep the rest of the destination register.
 * [SDM1 "SSE and SSE2 SIMD Floating-Point Exception Conditions", SDM2 "ADDPS—...", "CMPPS—...", "DPPS—...",
 * "ROUNDPS—..."]
 */
#include "cpu/flags.h"
#include "cpu/sse_float.h"

enum flow sse_exception(struct cpu *cpu)
{
    return cpu->sys.cr4 & CR4_OSXMMEXCPT ? cpu_raise(cpu, EXC_XM) : cpu_raise_ud(cpu);
}

/* ---- two operands ------------------------------------------------------------------------------------------------ */

/* NAMEps, NAMEpd, NAMEss, NAMEsd: each lane of the destination becomes `of32` or `of64`, an expression on `a` (that
 * lane), `b` (the source's) and the environment `e`. */
#define FOUR_FORMS(name, of32, of64)                                                                                   \
    static enum flow name##ps(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u32 d[4], s[4];                                                                                                \
        SSE_GATE();                                                                                                    \
        TRY(sse_source128(cpu, in, s));                                                                                \
        struct float_env e = sse_env(cpu);                                                                             \
        memcpy(d, xmm(cpu, in->reg), 16);                                                                              \
        for (unsigned i = 0; i < 4; i++) {                                                                             \
            u32 a = d[i], b = s[i];                                                                                    \
            a = of32;                                                                                                  \
            d[i] = a;                                                                                                  \
        }                                                                                                              \
        SSE_FINISH(e);                                                                                                 \
        memcpy(xmm(cpu, in->reg), d, 16);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##ps, name##ps)                                                                                     \
    static enum flow name##pd(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u64 d[2], s[2];                                                                                                \
        SSE_GATE();                                                                                                    \
        TRY(sse_source128(cpu, in, s));                                                                                \
        struct float_env e = sse_env(cpu);                                                                             \
        for (unsigned i = 0; i < 2; i++) {                                                                             \
            u64 a = xmm(cpu, in->reg)[i], b = s[i];                                                                    \
            a = of64;                                                                                                  \
            d[i] = a;                                                                                                  \
        }                                                                                                              \
        SSE_FINISH(e);                                                                                                 \
        memcpy(xmm(cpu, in->reg), d, 16);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##pd, name##pd)                                                                                     \
    static enum flow name##ss(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u32 b;                                                                                                         \
        SSE_GATE();                                                                                                    \
        TRY(sse_source32(cpu, in, &b));                                                                                \
        struct float_env e = sse_env(cpu);                                                                             \
        u32 a = xmm_get32(cpu, in->reg, 0);                                                                            \
        a = of32;                                                                                                      \
        SSE_FINISH(e);                                                                                                 \
        xmm_set32(cpu, in->reg, 0, a);                                                                                 \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##ss, name##ss)                                                                                     \
    static enum flow name##sd(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u64 b;                                                                                                         \
        SSE_GATE();                                                                                                    \
        TRY(sse_source64(cpu, in, &b));                                                                                \
        struct float_env e = sse_env(cpu);                                                                             \
        u64 a = xmm(cpu, in->reg)[0];                                                                                  \
        a = of64;                                                                                                      \
        SSE_FINISH(e);                                                                                                 \
        xmm(cpu, in->reg)[0] = a;                                                                                      \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##sd, name##sd)

#define ARITHMETIC(name) FOUR_FORMS(name, f32_##name(a, b, &e), f64_##name(a, b, &e))
ARITHMETIC(add)
ARITHMETIC(sub)
ARITHMETIC(mul)
ARITHMETIC(div)
ARITHMETIC(min)
ARITHMETIC(max)
FOUR_FORMS(sqrt, f32_sqrt(b, &e), f64_sqrt(b, &e))

/* Neighbours, and alternate signs (SSE3): `op(r, a, b, e)` of cpu/float_lanes.h. */
#define WHOLE_LANE(name, type, op)                                                                                     \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        type a[16 / sizeof(type)], b[16 / sizeof(type)], r[16 / sizeof(type)];                                         \
        SSE_GATE();                                                                                                    \
        TRY(sse_source128(cpu, in, b));                                                                                \
        struct float_env e = sse_env(cpu);                                                                             \
        memcpy(a, xmm(cpu, in->reg), 16);                                                                              \
        op(r, a, b, &e);                                                                                               \
        SSE_FINISH(e);                                                                                                 \
        memcpy(xmm(cpu, in->reg), r, 16);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name, name)
WHOLE_LANE(haddps, u32, lane_hadd32)
WHOLE_LANE(haddpd, u64, lane_hadd64)
WHOLE_LANE(hsubps, u32, lane_hsub32)
WHOLE_LANE(hsubpd, u64, lane_hsub64)
WHOLE_LANE(addsubps, u32, lane_addsub32)
WHOLE_LANE(addsubpd, u64, lane_addsub64)

/* ---- comparison -------------------------------------------------------------------------------------------------- */

static u32 cmp32(u32 a, u32 b, unsigned p, struct float_env *e)
{
    return predicate_holds(p, f32_compare(a, b, predicate_quiet(p), e)) ? ~0u : 0;
}
static u64 cmp64(u64 a, u64 b, unsigned p, struct float_env *e)
{
    return predicate_holds(p, f64_compare(a, b, predicate_quiet(p), e)) ? ~0ull : 0;
}

FOUR_FORMS(sse_cmp, cmp32(a, b, in->imm & 7, &e), cmp64(a, b, in->imm & 7, &e))

/* ZF, PF and CF by the relation; OF, SF and AF are cleared. Shared with FCOMI (cpu/x87.c). */
void sse_set_relation(struct cpu *cpu, enum float_relation r)
{
    static const u16 flags[] = {[FLOAT_LESS] = FL_CF, [FLOAT_EQUAL] = FL_ZF, [FLOAT_GREATER] = 0,
                                [FLOAT_UNORDERED] = FL_ZF | FL_PF | FL_CF};
    flags_set_status(cpu, flags[r]);
}

static enum flow compare_single(struct cpu *cpu, const struct insn *in, bool quiet)
{
    u32 b;
    SSE_GATE();
    TRY(sse_source32(cpu, in, &b));
    struct float_env e = sse_env(cpu);
    enum float_relation r = f32_compare(xmm_get32(cpu, in->reg, 0), b, quiet, &e);
    SSE_FINISH(e);
    sse_set_relation(cpu, r);
    return FLOW_NEXT;
}
static enum flow compare_double(struct cpu *cpu, const struct insn *in, bool quiet)
{
    u64 b;
    SSE_GATE();
    TRY(sse_source64(cpu, in, &b));
    struct float_env e = sse_env(cpu);
    enum float_relation r = f64_compare(xmm(cpu, in->reg)[0], b, quiet, &e);
    SSE_FINISH(e);
    sse_set_relation(cpu, r);
    return FLOW_NEXT;
}
static enum flow ucomiss(struct cpu *cpu, const struct insn *in) { return compare_single(cpu, in, true); }
static enum flow comiss(struct cpu *cpu, const struct insn *in) { return compare_single(cpu, in, false); }
static enum flow ucomisd(struct cpu *cpu, const struct insn *in) { return compare_double(cpu, in, true); }
static enum flow comisd(struct cpu *cpu, const struct insn *in) { return compare_double(cpu, in, false); }
FAMILY_ONE(ucomiss, ucomiss)
FAMILY_ONE(comiss, comiss)
FAMILY_ONE(ucomisd, ucomisd)
FAMILY_ONE(comisd, comisd)

/* ---- rounding (SSE4.1) ------------------------------------------------------------------------------------------- */

/* imm[2]: by MXCSR.RC instead of imm[1:0]; imm[3]: no precision exception. */
static unsigned round_mode(const struct cpu *cpu, const struct insn *in)
{
    return in->imm & 4 ? cpu->fpu.mxcsr >> 13 & 3 : in->imm & 3;
}

FOUR_FORMS(round, f32_round(b, 0, round_mode(cpu, in), !(in->imm & 8), &e),
           f64_round(b, 0, round_mode(cpu, in), !(in->imm & 8), &e))

/* ---- dot products (SSE4.1) --------------------------------------------------------------------------------------- */

static enum flow dpps(struct cpu *cpu, const struct insn *in)
{
    u32 a[4], b[4], r[4];
    SSE_GATE();
    TRY(sse_source128(cpu, in, b));
    struct float_env e = sse_env(cpu);
    memcpy(a, xmm(cpu, in->reg), 16);
    lanes_dot32(r, a, b, 1, (u8)in->imm, &e);
    SSE_FINISH_STAGES(e);
    memcpy(xmm(cpu, in->reg), r, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(dpps, dpps)

static enum flow dppd(struct cpu *cpu, const struct insn *in)
{
    u64 b[2], r[2];
    SSE_GATE();
    TRY(sse_source128(cpu, in, b));
    struct float_env e = sse_env(cpu);
    lane_dot64(r, xmm(cpu, in->reg), b, (u8)in->imm, &e);
    SSE_FINISH_STAGES(e);
    memcpy(xmm(cpu, in->reg), r, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(dppd, dppd)

/* ---- approximations ---------------------------------------------------------------------------------------------- */

#define APPROXIMATION(name, function)                                                                                  \
    static enum flow name##ps(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u32 a[4];                                                                                                      \
        SSE_GATE();                                                                                                    \
        TRY(sse_source128(cpu, in, a));                                                                                \
        for (unsigned i = 0; i < 4; i++)                                                                               \
            a[i] = function(a[i]);                                                                                     \
        memcpy(xmm(cpu, in->reg), a, 16);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##ps, name##ps)                                                                                     \
    static enum flow name##ss(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u32 a;                                                                                                         \
        SSE_GATE();                                                                                                    \
        TRY(sse_source32(cpu, in, &a));                                                                                \
        xmm_set32(cpu, in->reg, 0, function(a));                                                                       \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##ss, name##ss)
APPROXIMATION(rcp, f32_rcp12)
APPROXIMATION(rsqrt, f32_rsqrt12)
