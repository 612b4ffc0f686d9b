/* What VEX- and EVEX-encoded floating-point handlers share: the environment (MXCSR, embedded rounding, suppressed
 * exceptions), and the ways an operation on elements becomes an instruction: packed, scalar, into opmasks, with source
 * elements of another size.
 *
 * Kept true: elements that the opmask leaves out are neither read from memory nor computed, so they report nothing;
 * MXCSR gets the flags of all others; if one of them is not masked, nothing else is written and #XM is raised.
 * [SDM1 "Programming with Intel AVX-512: Static (Embedded) Rounding Support, Suppress All Exceptions", SDM2
 *  "Exceptions Type 2, 3, E2, E3"]
 */
#ifndef NESTOR_CPU_VEC_FLOAT_H
#define NESTOR_CPU_VEC_FLOAT_H

#include "cpu/sse_float.h"
#include "cpu/vector.h"

/* An operation on `lanes` elements: r, which holds the old destination, becomes op(x, y) where `mask` says so; x is
 * VEX.vvvv, y is ModRM.rm. */
typedef void vec_float_op(void *r, const void *x, const void *y, unsigned lanes, u64 mask, unsigned imm,
                          struct float_env *e);
/* The same with a bit for each element. */
typedef u64 vec_float_test(const void *x, const void *y, unsigned lanes, u64 mask, unsigned imm, struct float_env *e);

/* Destination elements of dsize bytes from rm's elements of ssize bytes, as many as the wider ones fit in the vector. */
enum flow vec_float_packed(struct cpu *cpu, const struct insn *in, unsigned dsize, unsigned ssize, vec_float_op *op);
/* The lowest element; what is above it in 128 bits comes from VEX.vvvv, or stays (`keep`, fused multiply-add). */
enum flow vec_float_scalar(struct cpu *cpu, const struct insn *in, unsigned dsize, unsigned ssize, bool keep,
                           vec_float_op *op);
/* Into an opmask; `scalar`: one element only. */
enum flow vec_float_into_mask(struct cpu *cpu, const struct insn *in, unsigned size, bool scalar, vec_float_test *op);

/* The environment of an instruction, and its end: false when an exception that is not masked was found. */
struct float_env vec_float_env(const struct cpu *cpu, const struct insn *in);
bool vec_float_finish(struct cpu *cpu, const struct insn *in, struct float_env *e);

#define VEC_FLOAT_FINISH(e)                                                                                            \
    do {                                                                                                               \
        if (UNLIKELY(!vec_float_finish(cpu, in, e)))                                                                   \
            return sse_exception(cpu);                                                                                 \
    } while (0)

/* Rounding as imm8[2:0] of VROUND, VRNDSCALE, VREDUCE and VCVTPS2PH say it. */
HOT_INLINE unsigned vec_imm_rounding(unsigned imm, const struct float_env *e) { return imm & 4 ? e->rounding : imm & 3; }

/* The operation NAME_lanes: each element of type `dtype` becomes `expr`, of x (VEX.vvvv), y (ModRM.rm, of type
 * `stype`), z (the old destination), imm and the environment e. */
#define VEC_FLOAT_LANES(name, dtype, stype, expr)                                                                      \
    static void name##_lanes(void *rp, const void *xp, const void *yp, unsigned lanes, u64 mask, unsigned imm,         \
                             struct float_env *e)                                                                      \
    {                                                                                                                  \
        for (unsigned i = 0; i < lanes; i++) {                                                                         \
            dtype x, z;                                                                                                \
            stype y;                                                                                                   \
            if (!(mask >> i & 1))                                                                                      \
                continue;                                                                                              \
            memcpy(&x, (const u8 *)xp + i * sizeof x, sizeof x);                                                       \
            memcpy(&y, (const u8 *)yp + i * sizeof y, sizeof y);                                                       \
            memcpy(&z, (u8 *)rp + i * sizeof z, sizeof z);                                                             \
            (void)x, (void)imm, (void)e;                                                                               \
            z = (dtype)(expr);                                                                                         \
            memcpy((u8 *)rp + i * sizeof z, &z, sizeof z);                                                             \
        }                                                                                                              \
    }
/* Families of such an operation: packed, scalar, scalar with the upper elements kept. */
#define VEC_FLOAT_PACKED(family, lanes, dtype, stype)                                                                  \
    static enum flow family(struct cpu *cpu, const struct insn *in)                                                    \
    {                                                                                                                  \
        return vec_float_packed(cpu, in, sizeof(dtype), sizeof(stype), lanes##_lanes);                                 \
    }                                                                                                                  \
    FAMILY_ONE(family, family)
#define VEC_FLOAT_SCALAR(family, lanes, dtype, stype, keep)                                                            \
    static enum flow family(struct cpu *cpu, const struct insn *in)                                                    \
    {                                                                                                                  \
        return vec_float_scalar(cpu, in, sizeof(dtype), sizeof(stype), keep, lanes##_lanes);                           \
    }                                                                                                                  \
    FAMILY_ONE(family, family)
/* Packed and scalar families of an operation whose elements have all one type. */
#define VEC_FLOAT(packed, scalar, type, expr)                                                                          \
    VEC_FLOAT_LANES(packed, type, type, expr)                                                                          \
    VEC_FLOAT_PACKED(packed, packed, type, type)                                                                       \
    VEC_FLOAT_SCALAR(scalar, packed, type, type, false)

#endif
