/* Floating-point operations that look across the elements of a 128-bit lane, and comparison predicates: shared by the
 * legacy SSE instructions (cpu/sse_float.c) and the VEX and EVEX ones (cpu/vec_float.c).
 *
 * The element order of the operations is that of the destination.
 * [SDM2 "HADDPS—...", "ADDSUBPS—...", "DPPS—...", "CMPPS—...: Comparison Predicate for CMPPD and CMPPS"]
 */
#ifndef NESTOR_CPU_FLOAT_LANES_H
#define NESTOR_CPU_FLOAT_LANES_H

#include "cpu/softfloat.h"

/* The end of a stage whose flags are those that are not in `before`: invalid, denormal operand and division by zero are
 * found in all elements before anything is computed, so when one of them is not masked, no element reports overflow,
 * underflow or inexactness. True when nothing more is to be done. */
HOT_INLINE bool float_stage_blocked(struct float_env *e, u8 before)
{
    enum { EARLY = FLOAT_INVALID | FLOAT_DENORMAL | FLOAT_DIVZERO };
    if (UNLIKELY(e->flags & ~before & ~e->masks & EARLY))
        e->flags = before | (e->flags & EARLY);
    return float_blocked(e);
}

/* Sums or differences of neighbours, those of a before those of b. r is neither. */
#define DEFINE_HORIZONTAL(name, op, type, bits)                                                                        \
    HOT_INLINE void name(type *r, const type *a, const type *b, struct float_env *e)                                   \
    {                                                                                                                  \
        const unsigned half = 64 / bits;                                                                               \
        for (unsigned i = 0; i < half; i++)                                                                            \
            r[i] = f##bits##_##op(a[2 * i], a[2 * i + 1], e);                                                          \
        for (unsigned i = 0; i < half; i++)                                                                            \
            r[half + i] = f##bits##_##op(b[2 * i], b[2 * i + 1], e);                                                   \
    }
DEFINE_HORIZONTAL(lane_hadd32, add, u32, 32)
DEFINE_HORIZONTAL(lane_hadd64, add, u64, 64)
DEFINE_HORIZONTAL(lane_hsub32, sub, u32, 32)
DEFINE_HORIZONTAL(lane_hsub64, sub, u64, 64)
#undef DEFINE_HORIZONTAL

/* Differences of even elements, sums of odd ones. */
#define DEFINE_ADDSUB(type, bits)                                                                                      \
    HOT_INLINE void lane_addsub##bits(type *r, const type *a, const type *b, struct float_env *e)                      \
    {                                                                                                                  \
        for (unsigned i = 0; i < 128 / bits; i++)                                                                      \
            r[i] = i & 1 ? f##bits##_add(a[i], b[i], e) : f##bits##_sub(a[i], b[i], e);                                \
    }
DEFINE_ADDSUB(u32, 32)
DEFINE_ADDSUB(u64, 64)
#undef DEFINE_ADDSUB

/* Dot products of `lanes` 128-bit lanes: products (imm8[7:4] says of which elements), the sums of pairs, their sum, for
 * the elements that imm8[3:0] names. Each stage rounds, and an unmasked exception ends it; r is written by the last. */
HOT_INLINE void lanes_dot32(u32 *r, const u32 *a, const u32 *b, unsigned lanes, unsigned imm, struct float_env *e)
{
    u32 p[16], sum[4];
    for (unsigned i = 0; i < 4 * lanes; i++)
        p[i] = imm >> (4 + i % 4) & 1 ? f32_mul(a[i], b[i], e) : 0;
    if (float_stage_blocked(e, 0))
        return;
    u8 before = e->flags;
    for (unsigned i = 0; i < 2 * lanes; i++)
        p[i] = f32_add(p[2 * i], p[2 * i + 1], e);
    if (float_stage_blocked(e, before))
        return;
    before = e->flags;
    for (unsigned i = 0; i < lanes; i++)
        sum[i] = f32_add(p[2 * i], p[2 * i + 1], e);
    (void)float_stage_blocked(e, before);
    for (unsigned i = 0; i < 4 * lanes; i++)
        r[i] = imm >> i % 4 & 1 ? sum[i / 4] : 0;
}
HOT_INLINE void lane_dot64(u64 *r, const u64 *a, const u64 *b, unsigned imm, struct float_env *e)
{
    u64 p[2];
    for (unsigned i = 0; i < 2; i++)
        p[i] = imm >> (4 + i) & 1 ? f64_mul(a[i], b[i], e) : 0;
    if (float_stage_blocked(e, 0))
        return;
    u8 before = e->flags;
    u64 sum = f64_add(p[0], p[1], e);
    (void)float_stage_blocked(e, before);
    for (unsigned i = 0; i < 2; i++)
        r[i] = imm >> i & 1 ? sum : 0;
}

/* 32 predicates: which relations make it true (bit n: enum float_relation n), and whether a quiet NaN is no exception.
 * imm8[4] turns the latter round. */
HOT_INLINE bool predicate_holds(unsigned p, enum float_relation r)
{
    enum { L = 1 << FLOAT_LESS, E = 1 << FLOAT_EQUAL, G = 1 << FLOAT_GREATER, U = 1 << FLOAT_UNORDERED };
    static const u8 holds[16] = {E,     L,         L | E, U, L | G | U, E | G | U, G | U, L | E | G,
                                 E | U, L | U, L | E | U, 0, L | G,     E | G,     G,     L | E | G | U};
    return holds[p & 15] >> r & 1;
}
HOT_INLINE bool predicate_quiet(unsigned p) { return (0x9999 >> (p & 15) & 1) != (p >> 4 & 1); }

#endif
