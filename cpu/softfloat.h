/* IEEE 754 arithmetic in integers, as x86 does it: binary16, binary32, binary64 and the x87's 80-bit format; every
 * rounding mode, every exception, denormals-are-zero, flush-to-zero, precision control. The host's floating point is
 * never used, so results are the same on every host.
 *
 * A function takes operands as bit patterns and a struct float_env: the controls it obeys, and the flags it adds to.
 * Flags, masks and rounding modes are numbered as in MXCSR and in the x87 words. What an *unmasked* exception changes
 * in the result is done here (the biased result of unmasked x87 overflow and underflow, underflow reported although
 * exact); whether the result is stored is the caller's decision: nothing may be when float_blocked() says so.
 *
 * [SDM1 "Floating-Point Exceptions", "x87 FPU Floating-Point Exception Conditions", "SSE and SSE2 SIMD Floating-Point
 * Exception Conditions"]
 */
#ifndef NESTOR_CPU_SOFTFLOAT_H
#define NESTOR_CPU_SOFTFLOAT_H

#include "cpu/base.h"

enum {
    FLOAT_INVALID = 1 << 0,
    FLOAT_DENORMAL = 1 << 1,
    FLOAT_DIVZERO = 1 << 2,
    FLOAT_OVERFLOW = 1 << 3,
    FLOAT_UNDERFLOW = 1 << 4,
    FLOAT_INEXACT = 1 << 5,
    FLOAT_ALL = 0x3f
};
enum { ROUND_NEAREST, ROUND_DOWN, ROUND_UP, ROUND_ZERO };

struct float_env {
    u8 rounding;               /* ROUND_* */
    u8 masks;                  /* FLOAT_* that are masked */
    u8 flags;                  /* FLOAT_* raised so far */
    u8 precision;              /* significand bits of arithmetic results in the 80-bit format: 24, 53 or 64 */
    bool daz, ftz;             /* MXCSR's; ftz works only while underflow is masked */
    bool up;                   /* the last rounding made the magnitude larger (x87's C1) */
    bool source_denormal; /* 80-bit operations: an operand that came from memory was denormal there (f80_widen32/64) */
};

/* True when an exception has been raised that is not masked. */
static inline bool float_blocked(const struct float_env *e) { return e->flags & ~e->masks & FLOAT_ALL; }

/* The 80-bit format: sign in bit 15 of `exponent`, explicit integer bit in bit 63 of `mantissa`. */
struct f80 {
    u64 mantissa;
    u16 exponent;
};

#define F16_NAN 0xfe00u                         /* the default ("real indefinite") QNaNs */
#define F32_NAN 0xffc00000u
#define F64_NAN 0xfff8000000000000ull
#define F80_NAN ((struct f80){0xc000000000000000ull, 0xffff})

enum float_relation { FLOAT_LESS, FLOAT_EQUAL, FLOAT_GREATER, FLOAT_UNORDERED };

/* ---- binary16, binary32 and binary64 ----------------------------------------------------------------------------- */

enum { FMA_NEGATE_PRODUCT = 1, FMA_NEGATE_ADDEND = 2 };

/* f16_add, f32_add, f64_add ... */
#define DECLARE_ARITHMETIC(bits)                                                                                       \
    u##bits f##bits##_add(u##bits a, u##bits b, struct float_env *e);                                                  \
    u##bits f##bits##_sub(u##bits a, u##bits b, struct float_env *e);                                                  \
    u##bits f##bits##_mul(u##bits a, u##bits b, struct float_env *e);                                                  \
    u##bits f##bits##_div(u##bits a, u##bits b, struct float_env *e);                                                  \
    u##bits f##bits##_sqrt(u##bits a, struct float_env *e);                                                            \
    /* +-(a * b) +- c rounded once; `negate`: FMA_*. Of several NaNs the first wins. */                                \
    u##bits f##bits##_fma(u##bits a, u##bits b, u##bits c, unsigned negate, struct float_env *e);                      \
    /* MINxx and MAXxx: the second operand when either is a NaN or both are zeros. */                                  \
    u##bits f##bits##_min(u##bits a, u##bits b, struct float_env *e);                                                  \
    u##bits f##bits##_max(u##bits a, u##bits b, struct float_env *e);                                                  \
    /* Comparison; `quiet`: only signalling NaNs are invalid. */                                                       \
    enum float_relation f##bits##_compare(u##bits a, u##bits b, bool quiet, struct float_env *e);                      \
    /* Rounding by `rounding` to `digits` binary digits behind the point; `exact` reports inexactness. */              \
    u##bits f##bits##_round(u##bits a, unsigned digits, unsigned rounding, bool exact, struct float_env *e);           \
    /* Conversions to integers by `rounding`. Out of range: FLOAT_INVALID and the integer indefinite. */               \
    i32 f##bits##_to_i32(u##bits a, unsigned rounding, struct float_env *e);                                           \
    i64 f##bits##_to_i64(u##bits a, unsigned rounding, struct float_env *e);                                           \
    u32 f##bits##_to_u32(u##bits a, unsigned rounding, struct float_env *e);                                           \
    u64 f##bits##_to_u64(u##bits a, unsigned rounding, struct float_env *e);                                           \
    u##bits f##bits##_from_i64(i64 v, struct float_env *e);                                                            \
    u##bits f##bits##_from_u64(u64 v, struct float_env *e);
DECLARE_ARITHMETIC(16)
DECLARE_ARITHMETIC(32)
DECLARE_ARITHMETIC(64)
#undef DECLARE_ARITHMETIC

i16 f16_to_i16(u16 a, unsigned rounding, struct float_env *e);
u16 f16_to_u16(u16 a, unsigned rounding, struct float_env *e);
u16 f16_from_f32(u32 a, struct float_env *e);
u16 f16_from_f64(u64 a, struct float_env *e);
u32 f32_from_f16(u16 a, struct float_env *e);
u32 f32_from_f64(u64 a, struct float_env *e);
u64 f64_from_f16(u16 a, struct float_env *e);
u64 f64_from_f32(u32 a, struct float_env *e);

/* ---- what AVX-512 added ------------------------------------------------------------------------------------------ */

#define DECLARE_AVX512(bits)                                                                                           \
    /* The exponent as a number; the significand in an interval: imm8 of VGETMANT. */                                  \
    u##bits f##bits##_getexp(u##bits a, struct float_env *e);                                                          \
    u##bits f##bits##_getmant(u##bits a, unsigned imm, struct float_env *e);                                           \
    /* a * 2^floor(b). */                                                                                              \
    u##bits f##bits##_scalef(u##bits a, u##bits b, struct float_env *e);                                               \
    /* a - f_round(a, ...). */                                                                                         \
    u##bits f##bits##_reduce(u##bits a, unsigned digits, unsigned rounding, bool exact, struct float_env *e);          \
    /* Whether a is of one of the classes of imm8 of VFPCLASS. */                                                      \
    bool f##bits##_classify(u##bits a, unsigned imm, const struct float_env *e);
DECLARE_AVX512(16)
DECLARE_AVX512(32)
DECLARE_AVX512(64)
#undef DECLARE_AVX512

/* VRANGE, and VFIXUPIMM: `table` has a response of four bits for each kind of `a`. */
u32 f32_range(u32 a, u32 b, unsigned imm, struct float_env *e);
u64 f64_range(u64 a, u64 b, unsigned imm, struct float_env *e);
u32 f32_fixup(u32 old, u32 a, u32 table, unsigned imm, struct float_env *e);
u64 f64_fixup(u64 old, u64 a, u32 table, unsigned imm, struct float_env *e);

/* ---- approximations, which report nothing ------------------------------------------------------------------------ */

/* RCPPS, RSQRTPS: relative error below 1.5 * 2^-12; denormals are zeros. */
u32 f32_rcp12(u32 a);
u32 f32_rsqrt12(u32 a);
/* VRCP14PS ...: below 2^-14; they obey denormals-are-zero and flush-to-zero. */
u32 f32_rcp14(u32 a, struct float_env *e);
u64 f64_rcp14(u64 a, struct float_env *e);
u32 f32_rsqrt14(u32 a, struct float_env *e);
u64 f64_rsqrt14(u64 a, struct float_env *e);
/* VRCPPH, VRSQRTPH: to nearest. */
u16 f16_rcp(u16 a);
u16 f16_rsqrt(u16 a);

/* ---- bfloat16, whose instructions have an environment of their own ----------------------------------------------- */

u16 bf16_from_f32(u32 a);
/* sum + products of the high and of the low halves of a and b. */
u32 bf16_dot(u32 sum, u32 a, u32 b);

/* ---- the 80-bit format ------------------------------------------------------------------------------------------- */

/* Results obey env->precision. */
struct f80 f80_add(struct f80 a, struct f80 b, struct float_env *e);
struct f80 f80_sub(struct f80 a, struct f80 b, struct float_env *e);
struct f80 f80_mul(struct f80 a, struct f80 b, struct float_env *e);
struct f80 f80_div(struct f80 a, struct f80 b, struct float_env *e);
struct f80 f80_sqrt(struct f80 a, struct float_env *e);
enum float_relation f80_compare(struct f80 a, struct f80 b, bool quiet, struct float_env *e);
/* To an integral value by env->rounding; full precision. */
struct f80 f80_round(struct f80 a, struct float_env *e);
/* a * 2^(b truncated to an integer); FSCALE with all its special cases. */
struct f80 f80_scale(struct f80 a, struct f80 b, struct float_env *e);
/* One step of FPREM (nearest = false) or FPREM1. The low bits of the quotient go to *quotient when the reduction is
 * complete; else *partial is set. */
struct f80 f80_remainder(struct f80 a, struct f80 b, bool nearest, u64 *quotient, bool *partial, struct float_env *e);
/* FXTRACT: the significand is returned, the exponent goes to *exponent. */
struct f80 f80_extract(struct f80 a, struct f80 *exponent, struct float_env *e);

/* The value of a memory operand, unreported: signalling NaNs stay so, a denormal sets *denormal (for
 * env->source_denormal). */
struct f80 f80_widen32(u32 a, bool *denormal);
struct f80 f80_widen64(u64 a, bool *denormal);
/* Stores: no denormal exception. */
u32 f80_to_f32(struct f80 a, struct float_env *e);
u64 f80_to_f64(struct f80 a, struct float_env *e);
struct f80 f80_from_i64(i64 v);
i16 f80_to_i16(struct f80 a, unsigned rounding, struct float_env *e);
i32 f80_to_i32(struct f80 a, unsigned rounding, struct float_env *e);
i64 f80_to_i64(struct f80 a, unsigned rounding, struct float_env *e);

/* For the transcendental functions: what kind of operand it is; a NaN operand's (or two operands') result; rounding
 * of a computed value. */
enum float_class { FLOAT_NORMAL, FLOAT_ZERO, FLOAT_INFINITY, FLOAT_NAN, FLOAT_UNSUPPORTED };
struct float_number {          /* (-1)^sign * sig / 2^63 * 2^exp; bit 63 of sig is set when it is normal */
    u64 sig;
    i32 exp;
    u8 class;                  /* enum float_class */
    u8 sign;
    bool denormal;             /* it was one (or a pseudo-denormal) */
    bool signalling;
};
struct float_number f80_unpack(struct f80 a);
struct f80 f80_propagate(struct f80 a, struct f80 b, struct float_env *e);
/* Rounds (-1)^sign * (sig + rest / 2^64) / 2^63 * 2^exp; sig and rest need not be normalised, a zero value gives a
 * zero. */
struct f80 f80_pack(bool sign, i32 exp, u64 sig, u64 rest, struct float_env *e);

#endif
