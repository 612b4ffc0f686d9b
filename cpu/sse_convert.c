/* SSE and SSE2 conversions between integers and floating point, and between single and double precision; with XMM, MMX
 * and general registers.
 *
 * Kept true: as in cpu/sse_float.c. Forms with an MMX register first raise a pending x87 exception, and enter MMX state
 * even if a SIMD exception follows.
 * [SDM2 "CVTSI2SD—...", "CVTPS2PI—...", "CVTTPD2DQ—..."]
 */
#include "cpu/sse_float.h"
#include "cpu/x87.h"

/* ---- between precisions ------------------------------------------------------------------------------------------ */

static enum flow cvtss2sd(struct cpu *cpu, const struct insn *in)
{
    u32 a;
    SSE_GATE();
    TRY(sse_source32(cpu, in, &a));
    struct float_env e = sse_env(cpu);
    u64 r = f64_from_f32(a, &e);
    SSE_FINISH(e);
    xmm(cpu, in->reg)[0] = r;
    return FLOW_NEXT;
}
FAMILY_ONE(cvtss2sd, cvtss2sd)

static enum flow cvtsd2ss(struct cpu *cpu, const struct insn *in)
{
    u64 a;
    SSE_GATE();
    TRY(sse_source64(cpu, in, &a));
    struct float_env e = sse_env(cpu);
    u32 r = f32_from_f64(a, &e);
    SSE_FINISH(e);
    xmm_set32(cpu, in->reg, 0, r);
    return FLOW_NEXT;
}
FAMILY_ONE(cvtsd2ss, cvtsd2ss)

static enum flow cvtps2pd(struct cpu *cpu, const struct insn *in)
{
    u64 a, r[2];
    SSE_GATE();
    TRY(sse_source64(cpu, in, &a));
    struct float_env e = sse_env(cpu);
    r[0] = f64_from_f32((u32)a, &e);
    r[1] = f64_from_f32((u32)(a >> 32), &e);
    SSE_FINISH(e);
    memcpy(xmm(cpu, in->reg), r, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(cvtps2pd, cvtps2pd)

static enum flow cvtpd2ps(struct cpu *cpu, const struct insn *in)
{
    u64 a[2];
    SSE_GATE();
    TRY(sse_source128(cpu, in, a));
    struct float_env e = sse_env(cpu);
    u32 low = f32_from_f64(a[0], &e), high = f32_from_f64(a[1], &e);
    SSE_FINISH(e);
    xmm(cpu, in->reg)[0] = low | (u64)high << 32;
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
FAMILY_ONE(cvtpd2ps, cvtpd2ps)

/* ---- scalars and general registers ------------------------------------------------------------------------------- */

static bool integer_source(struct cpu *cpu, const struct insn *in, i64 *v)
{
    u64 wide;
    u32 narrow;
    if (in->flags & INSN_REX_W) {
        wide = reg64(cpu, in->rm);
        if (in->flags & INSN_MEM && !rm_read64(cpu, in, &wide))
            return false;
        *v = (i64)wide;
        return true;
    }
    narrow = reg32(cpu, in->rm);
    if (in->flags & INSN_MEM && !rm_read32(cpu, in, &narrow))
        return false;
    *v = (i32)narrow;
    return true;
}

static enum flow cvtsi2ss(struct cpu *cpu, const struct insn *in)
{
    i64 v;
    SSE_GATE();
    TRY(integer_source(cpu, in, &v));
    struct float_env e = sse_env(cpu);
    u32 r = f32_from_i64(v, &e);
    SSE_FINISH(e);
    xmm_set32(cpu, in->reg, 0, r);
    return FLOW_NEXT;
}
FAMILY_ONE(cvtsi2ss, cvtsi2ss)

static enum flow cvtsi2sd(struct cpu *cpu, const struct insn *in)
{
    i64 v;
    SSE_GATE();
    TRY(integer_source(cpu, in, &v));
    struct float_env e = sse_env(cpu);
    u64 r = f64_from_i64(v, &e);
    SSE_FINISH(e);
    xmm(cpu, in->reg)[0] = r;
    return FLOW_NEXT;
}
FAMILY_ONE(cvtsi2sd, cvtsi2sd)

static enum flow single_to_register(struct cpu *cpu, const struct insn *in, bool truncate)
{
    u32 a;
    SSE_GATE();
    TRY(sse_source32(cpu, in, &a));
    struct float_env e = sse_env(cpu);
    unsigned rounding = truncate ? ROUND_ZERO : e.rounding;
    u64 r = in->flags & INSN_REX_W ? (u64)f32_to_i64(a, rounding, &e) : (u32)f32_to_i32(a, rounding, &e);
    SSE_FINISH(e);
    reg64_set(cpu, in->reg, r);
    return FLOW_NEXT;
}
static enum flow cvtss2si(struct cpu *cpu, const struct insn *in) { return single_to_register(cpu, in, false); }
static enum flow cvttss2si(struct cpu *cpu, const struct insn *in) { return single_to_register(cpu, in, true); }
FAMILY_ONE(cvtss2si, cvtss2si)
FAMILY_ONE(cvttss2si, cvttss2si)

static enum flow double_to_register(struct cpu *cpu, const struct insn *in, bool truncate)
{
    u64 a;
    SSE_GATE();
    TRY(sse_source64(cpu, in, &a));
    struct float_env e = sse_env(cpu);
    unsigned rounding = truncate ? ROUND_ZERO : e.rounding;
    u64 r = in->flags & INSN_REX_W ? (u64)f64_to_i64(a, rounding, &e) : (u32)f64_to_i32(a, rounding, &e);
    SSE_FINISH(e);
    reg64_set(cpu, in->reg, r);
    return FLOW_NEXT;
}
static enum flow cvtsd2si(struct cpu *cpu, const struct insn *in) { return double_to_register(cpu, in, false); }
static enum flow cvttsd2si(struct cpu *cpu, const struct insn *in) { return double_to_register(cpu, in, true); }
FAMILY_ONE(cvtsd2si, cvtsd2si)
FAMILY_ONE(cvttsd2si, cvttsd2si)

/* ---- packed ------------------------------------------------------------------------------------------------------ */

static enum flow cvtdq2ps(struct cpu *cpu, const struct insn *in)
{
    u32 a[4];
    SSE_GATE();
    TRY(sse_source128(cpu, in, a));
    struct float_env e = sse_env(cpu);
    for (unsigned i = 0; i < 4; i++)
        a[i] = f32_from_i64((i32)a[i], &e);
    SSE_FINISH(e);
    memcpy(xmm(cpu, in->reg), a, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(cvtdq2ps, cvtdq2ps)

static enum flow packed_single_to_integer(struct cpu *cpu, const struct insn *in, bool truncate)
{
    u32 a[4];
    SSE_GATE();
    TRY(sse_source128(cpu, in, a));
    struct float_env e = sse_env(cpu);
    for (unsigned i = 0; i < 4; i++)
        a[i] = (u32)f32_to_i32(a[i], truncate ? ROUND_ZERO : e.rounding, &e);
    SSE_FINISH(e);
    memcpy(xmm(cpu, in->reg), a, 16);
    return FLOW_NEXT;
}
static enum flow cvtps2dq(struct cpu *cpu, const struct insn *in) { return packed_single_to_integer(cpu, in, false); }
static enum flow cvttps2dq(struct cpu *cpu, const struct insn *in) { return packed_single_to_integer(cpu, in, true); }
FAMILY_ONE(cvtps2dq, cvtps2dq)
FAMILY_ONE(cvttps2dq, cvttps2dq)

static enum flow packed_double_to_integer(struct cpu *cpu, const struct insn *in, bool truncate)
{
    u64 a[2];
    SSE_GATE();
    TRY(sse_source128(cpu, in, a));
    struct float_env e = sse_env(cpu);
    for (unsigned i = 0; i < 2; i++)
        a[i] = (u32)f64_to_i32(a[i], truncate ? ROUND_ZERO : e.rounding, &e);
    SSE_FINISH(e);
    xmm(cpu, in->reg)[0] = a[0] | a[1] << 32;
    xmm(cpu, in->reg)[1] = 0;
    return FLOW_NEXT;
}
static enum flow cvtpd2dq(struct cpu *cpu, const struct insn *in) { return packed_double_to_integer(cpu, in, false); }
static enum flow cvttpd2dq(struct cpu *cpu, const struct insn *in) { return packed_double_to_integer(cpu, in, true); }
FAMILY_ONE(cvtpd2dq, cvtpd2dq)
FAMILY_ONE(cvttpd2dq, cvttpd2dq)

static enum flow cvtdq2pd(struct cpu *cpu, const struct insn *in)
{
    u64 a, r[2];
    SSE_GATE();
    TRY(sse_source64(cpu, in, &a));
    struct float_env e = sse_env(cpu);
    r[0] = f64_from_i64((i32)(u32)a, &e);
    r[1] = f64_from_i64((i32)(u32)(a >> 32), &e);
    memcpy(xmm(cpu, in->reg), r, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(cvtdq2pd, cvtdq2pd)

/* ---- with MMX registers ------------------------------------------------------------------------------------------ */

/* Of these two the memory forms touch no MMX state. */
static enum flow mmx_integers(struct cpu *cpu, const struct insn *in, u64 *v)
{
    if (in->flags & INSN_MEM) {
        TRY(rm_read64(cpu, in, v));
        return FLOW_NEXT;
    }
    MMX_GATE();
    *v = mmx_get(cpu, in->rm);
    return FLOW_NEXT;
}

static enum flow cvtpi2ps(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    SSE_GATE();
    enum flow flow = mmx_integers(cpu, in, &v);
    if (flow != FLOW_NEXT)
        return flow;
    struct float_env e = sse_env(cpu);
    u32 low = f32_from_i64((i32)(u32)v, &e), high = f32_from_i64((i32)(u32)(v >> 32), &e);
    if (!(in->flags & INSN_MEM))
        mmx_enter(cpu);
    SSE_FINISH(e);
    xmm(cpu, in->reg)[0] = low | (u64)high << 32;
    return FLOW_NEXT;
}
FAMILY_ONE(cvtpi2ps, cvtpi2ps)

static enum flow cvtpi2pd(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    SSE_GATE();
    enum flow flow = mmx_integers(cpu, in, &v);
    if (flow != FLOW_NEXT)
        return flow;
    struct float_env e = sse_env(cpu);
    if (!(in->flags & INSN_MEM))
        mmx_enter(cpu);
    xmm(cpu, in->reg)[0] = f64_from_i64((i32)(u32)v, &e);
    xmm(cpu, in->reg)[1] = f64_from_i64((i32)(u32)(v >> 32), &e);
    return FLOW_NEXT;
}
FAMILY_ONE(cvtpi2pd, cvtpi2pd)

static enum flow single_to_mmx(struct cpu *cpu, const struct insn *in, bool truncate)
{
    u64 v;
    SSE_GATE();
    MMX_GATE();
    TRY(sse_source64(cpu, in, &v));
    struct float_env e = sse_env(cpu);
    unsigned rounding = truncate ? ROUND_ZERO : e.rounding;
    u32 low = (u32)f32_to_i32((u32)v, rounding, &e), high = (u32)f32_to_i32((u32)(v >> 32), rounding, &e);
    mmx_enter(cpu);
    SSE_FINISH(e);
    mmx_set(cpu, in->reg, low | (u64)high << 32);
    return FLOW_NEXT;
}
static enum flow cvtps2pi(struct cpu *cpu, const struct insn *in) { return single_to_mmx(cpu, in, false); }
static enum flow cvttps2pi(struct cpu *cpu, const struct insn *in) { return single_to_mmx(cpu, in, true); }
FAMILY_ONE(cvtps2pi, cvtps2pi)
FAMILY_ONE(cvttps2pi, cvttps2pi)

static enum flow double_to_mmx(struct cpu *cpu, const struct insn *in, bool truncate)
{
    u64 v[2];
    SSE_GATE();
    MMX_GATE();
    TRY(sse_source128(cpu, in, v));
    struct float_env e = sse_env(cpu);
    unsigned rounding = truncate ? ROUND_ZERO : e.rounding;
    u32 low = (u32)f64_to_i32(v[0], rounding, &e), high = (u32)f64_to_i32(v[1], rounding, &e);
    mmx_enter(cpu);
    SSE_FINISH(e);
    mmx_set(cpu, in->reg, low | (u64)high << 32);
    return FLOW_NEXT;
}
static enum flow cvtpd2pi(struct cpu *cpu, const struct insn *in) { return double_to_mmx(cpu, in, false); }
static enum flow cvttpd2pi(struct cpu *cpu, const struct insn *in) { return double_to_mmx(cpu, in, true); }
FAMILY_ONE(cvtpd2pi, cvtpd2pi)
FAMILY_ONE(cvttpd2pi, cvttpd2pi)
