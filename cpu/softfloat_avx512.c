/* The floating-point functions that came with AVX-512, in binary16, binary32 and binary64, and the approximations of
 * all generations (cpu/softfloat.h).
 *
 * Kept true: what is reported is what the manual lists for the instruction, whatever it is made of; approximations
 * report nothing. They are the correctly rounded values with fewer bits: within the manual's bounds on the error, but
 * not the bits of a particular processor, which are not architectural for RCPPS, and which Intel gives for VRCP14PS in
 * a reference program that is not part of the manual.
 * [SDM2 "VGETEXPPD—...", "VGETMANTPD—...", "VSCALEFPD—...", "VRANGEPD—...", "VREDUCEPD—...", "VFIXUPIMMPD—...",
 *  "VFPCLASSPD—...", "VRCP14PD—...", "VRSQRT14PD—...", "RCPPS—...", "VDPBF16PS—..."]
 */
#include "cpu/softfloat_core.h"

/* ---- taking numbers apart ---------------------------------------------------------------------------------------- */

#define DEFINE_GETEXP(bits, type, format)                                                                              \
    type f##bits##_getexp(type a, struct float_env *e)                                                                 \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a);                                                                       \
        if (x.class == FLOAT_NAN)                                                                                      \
            return propagate##bits(a, a, e);                                                                           \
        if (x.class != FLOAT_NORMAL)                                                                                   \
            return join##bits(x.class == FLOAT_ZERO, JOINED_INFINITY(format));                                         \
        if (denormals(e, x.denormal))                                                                                  \
            return a;                                                                                                  \
        return f##bits##_from_i64(x.exp, e);                                                                           \
    }
DEFINE_GETEXP(16, u16, F16)
DEFINE_GETEXP(32, u32, F32)
DEFINE_GETEXP(64, u64, F64)

/* imm8[1:0] is the interval: [1, 2), [1/2, 2), [1/2, 1), [3/4, 3/2); imm8[2]: a positive result; imm8[3]: a negative
 * operand is invalid, but not -0. */
#define DEFINE_GETMANT(bits, type, format)                                                                             \
    type f##bits##_getmant(type a, unsigned imm, struct float_env *e)                                                  \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a);                                                                       \
        bool sign = x.sign && !(imm & 4);                                                                              \
        if (x.class == FLOAT_NAN)                                                                                      \
            return propagate##bits(a, a, e);                                                                           \
        if (x.class != FLOAT_ZERO && x.sign && imm & 8)                                                                \
            return invalid##bits(e);                                                                                   \
        if (x.class != FLOAT_NORMAL)                                                                                   \
            return join##bits(sign, (struct rounded){TOP_BIT, format_emax(format)});                                   \
        if (denormals(e, x.denormal))                                                                                  \
            return a;                                                                                                  \
        bool half = (imm & 3) == 1 ? x.exp & 1 : (imm & 3) == 2 ? true : (imm & 3) == 3 ? x.sig >> 62 & 1 : false;     \
        return join##bits(sign, (struct rounded){x.sig, format_emax(format) - half});                                  \
    }
DEFINE_GETMANT(16, u16, F16)
DEFINE_GETMANT(32, u32, F32)
DEFINE_GETMANT(64, u64, F64)

#define DEFINE_CLASSIFY(bits, type, format)                                                                            \
    bool f##bits##_classify(type a, unsigned imm, const struct float_env *e)                                           \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a);                                                                       \
        bool normal = x.class == FLOAT_NORMAL;                                                                         \
        unsigned is = (unsigned)(x.class == FLOAT_NAN) << (x.signalling ? 7 : 0) |                                     \
                      (unsigned)(x.class == FLOAT_ZERO) << (1 + x.sign) |                                              \
                      (unsigned)(x.class == FLOAT_INFINITY) << (3 + x.sign) | (unsigned)(normal && x.denormal) << 5 |  \
                      (unsigned)(normal && x.sign) << 6;                                                               \
        return (is & imm) != 0;                                                                                        \
    }
DEFINE_CLASSIFY(16, u16, F16)
DEFINE_CLASSIFY(32, u32, F32)
DEFINE_CLASSIFY(64, u64, F64)

/* ---- scale and reduce -------------------------------------------------------------------------------------------- */

/* The largest integer not above x, limited to what shifts any number out of any of these formats. */
HOT_INLINE i32 floor_limited(struct float_number x)
{
    if (x.class != FLOAT_NORMAL)
        return 0;
    if (x.exp < 0)
        return x.sign ? -1 : 0;
    if (x.exp > 15)
        return x.sign ? -100000 : 100000;
    i32 whole = (i32)(x.sig >> (63 - x.exp));
    return x.sign ? -whole - ((x.sig << (x.exp + 1)) != 0) : whole;
}

/* a * 2^floor(b). Only a can be a denormal operand. */
#define DEFINE_SCALEF(bits, type, format)                                                                              \
    type f##bits##_scalef(type a, type b, struct float_env *e)                                                         \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b);                                                  \
        if (x.class == FLOAT_NAN || y.class == FLOAT_NAN) {                                                            \
            bool loud = x.signalling || y.signalling;                                                                  \
            if (y.class == FLOAT_INFINITY && !loud)    /* a quiet NaN times 2^infinity */                              \
                return join##bits(false, y.sign ? JOINED_ZERO : JOINED_INFINITY(format));                              \
            return propagate##bits(a, b, e);                                                                           \
        }                                                                                                              \
        if (y.class == FLOAT_INFINITY) {                                                                               \
            if (x.class == (y.sign ? FLOAT_INFINITY : FLOAT_ZERO))                                                     \
                return invalid##bits(e);                                                                               \
            if (denormals(e, x.denormal))                                                                              \
                return a;                                                                                              \
            return join##bits(x.sign, y.sign ? JOINED_ZERO : JOINED_INFINITY(format));                                 \
        }                                                                                                              \
        if (x.class == FLOAT_INFINITY)                                                                                 \
            return a;                                                                                                  \
        if (x.class == FLOAT_ZERO)                                                                                     \
            return join##bits(x.sign, JOINED_ZERO);                                                                    \
        if (denormals(e, x.denormal))                                                                                  \
            return a;                                                                                                  \
        return pack##bits(e, x.sign, x.exp + floor_limited(y), x.sig, 0);                                              \
    }
DEFINE_SCALEF(16, u16, F16)
DEFINE_SCALEF(32, u32, F32)
DEFINE_SCALEF(64, u64, F64)

/* a less its value rounded to `digits` binary digits. Both steps report inexactness (`exact`) and nothing else. */
#define DEFINE_REDUCE(bits, type, format)                                                                              \
    type f##bits##_reduce(type a, unsigned digits, unsigned rounding, bool exact, struct float_env *e)                 \
    {                                                                                                                  \
        struct float_env own = {.rounding = (u8)rounding, .masks = FLOAT_ALL, .daz = e->daz, .ftz = e->ftz};           \
        struct float_number x = UNPACK##bits(a);                                                                       \
        if (x.class == FLOAT_NAN)                                                                                      \
            return propagate##bits(a, a, e);                                                                           \
        if (x.class == FLOAT_INFINITY)                                                                                 \
            return 0;                                                                                                  \
        type r = f##bits##_sub(a, f##bits##_round(a, digits, rounding, true, &own), &own);                             \
        if (exact)                                                                                                     \
            e->flags |= own.flags & FLOAT_INEXACT;                                                                     \
        return r;                                                                                                      \
    }
DEFINE_REDUCE(16, u16, F16)
DEFINE_REDUCE(32, u32, F32)
DEFINE_REDUCE(64, u64, F64)

/* ---- range and fix-up -------------------------------------------------------------------------------------------- */

/* imm8[1:0]: the smaller, the larger, the smaller or larger in magnitude; of two that are equal the negative one is the
 * smaller. imm8[3:2]: its sign is that of a, its own, +, -. */
#define DEFINE_RANGE(bits, type, format)                                                                               \
    type f##bits##_range(type a, type b, unsigned imm, struct float_env *e)                                            \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b);                                                  \
        type top = (type)((type)1 << (bits - 1)), r;                                                                   \
        bool larger = imm & 1, magnitudes = imm & 2;                                                                   \
        if (x.signalling || y.signalling)                                                                              \
            return x.signalling ? propagate##bits(a, a, e) : propagate##bits(b, b, e);                                 \
        a = x.class == FLOAT_ZERO ? (type)(a & top) : a;       /* denormals-are-zero */                                \
        b = y.class == FLOAT_ZERO ? (type)(b & top) : b;                                                               \
        if (x.class == FLOAT_NAN || y.class == FLOAT_NAN) {                                                            \
            r = y.class == FLOAT_NAN ? a : b;                                                                          \
        } else {                                                                                                       \
            struct float_number p = x, q = y;                                                                          \
            if (denormals(e, x.denormal | y.denormal))                                                                 \
                return a;                                                                                              \
            if (magnitudes)                                                                                            \
                p.sign = q.sign = 0;                                                                                   \
            enum float_relation how = relation(p, q);                                                                  \
            bool first = how == FLOAT_EQUAL ? x.sign != larger : (how == FLOAT_LESS) != larger;                        \
            r = first ? a : b;                                                                                         \
        }                                                                                                              \
        switch (imm >> 2 & 3) {                                                                                        \
        case 0: return (type)((r & ~top) | (a & top));                                                                 \
        case 1: return r;                                                                                              \
        case 2: return (type)(r & ~top);                                                                               \
        default: return (type)(r | top);                                                                               \
        }                                                                                                              \
    }
DEFINE_RANGE(32, u32, F32)
DEFINE_RANGE(64, u64, F64)

/* The constants among the responses of VFIXUPIMM, as bits of each format. */
enum { TOKEN_QNAN, TOKEN_SNAN, TOKEN_ZERO, TOKEN_ONE, TOKEN_NEGATIVE_INFINITY, TOKEN_INFINITY, TOKEN_NEGATIVE,
       TOKEN_POSITIVE };
#define FIXED_HALF_32 0x3f000000u
#define FIXED_90_32 0x42b40000u
#define FIXED_HALF_PI_32 0x3fc90fdbu
#define FIXED_HALF_64 0x3fe0000000000000ull
#define FIXED_90_64 0x4056800000000000ull
#define FIXED_HALF_PI_64 0x3ff921fb54442d18ull

/* imm8 names the tokens that raise: zero ZE, IE; one ZE, IE; signalling NaN, -infinity, negative, +infinity IE. */
static u8 fixup_flags(unsigned token, unsigned imm)
{
    switch (token) {
    case TOKEN_ZERO: return (u8)((imm & 1 ? FLOAT_DIVZERO : 0) | (imm & 2 ? FLOAT_INVALID : 0));
    case TOKEN_ONE: return (u8)((imm & 4 ? FLOAT_DIVZERO : 0) | (imm & 8 ? FLOAT_INVALID : 0));
    case TOKEN_SNAN: return imm & 0x10 ? FLOAT_INVALID : 0;
    case TOKEN_NEGATIVE_INFINITY: return imm & 0x20 ? FLOAT_INVALID : 0;
    case TOKEN_NEGATIVE: return imm & 0x40 ? FLOAT_INVALID : 0;
    case TOKEN_INFINITY: return imm & 0x80 ? FLOAT_INVALID : 0;
    default: return 0;
    }
}

#define DEFINE_FIXUP(bits, type, format)                                                                               \
    type f##bits##_fixup(type old, type a, u32 table, unsigned imm, struct float_env *e)                               \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a);                                                                       \
        const type one = join##bits(false, (struct rounded){TOP_BIT, format_emax(format)});                            \
        const type infinity = join##bits(false, JOINED_INFINITY(format)), top = (type)1 << (bits - 1);                 \
        if (x.class == FLOAT_ZERO)                                                                                     \
            a = 0;             /* a denormal by denormals-are-zero, too */                                             \
        unsigned token = x.class == FLOAT_NAN ? (x.signalling ? TOKEN_SNAN : TOKEN_QNAN)                               \
                       : x.class == FLOAT_ZERO ? TOKEN_ZERO                                                            \
                       : x.class == FLOAT_INFINITY ? (x.sign ? TOKEN_NEGATIVE_INFINITY : TOKEN_INFINITY)               \
                       : a == one ? TOKEN_ONE : x.sign ? TOKEN_NEGATIVE : TOKEN_POSITIVE;                              \
        e->flags |= fixup_flags(token, imm);                                                                           \
        switch (table >> 4 * token & 15) {                                                                             \
        case 0: return old;                                                                                            \
        case 1: return a;                                                                                              \
        case 2: return (type)(a | infinity | infinity >> 1);   /* quiet, whatever it was */                            \
        case 3: return F##bits##_NAN;                                                                                  \
        case 4: return infinity | top;                                                                                 \
        case 5: return infinity;                                                                                       \
        case 6: return infinity | (x.sign ? top : 0);                                                                  \
        case 7: return top;                                                                                            \
        case 8: return 0;                                                                                              \
        case 9: return one | top;                                                                                      \
        case 10: return one;                                                                                           \
        case 11: return FIXED_HALF_##bits;                                                                             \
        case 12: return FIXED_90_##bits;                                                                               \
        case 13: return FIXED_HALF_PI_##bits;                                                                          \
        case 14: return infinity - 1;          /* the largest number */                                                \
        default: return (infinity - 1) | top;                                                                          \
        }                                                                                                              \
    }
DEFINE_FIXUP(32, u32, F32)
DEFINE_FIXUP(64, u64, F64)

/* ---- approximations ---------------------------------------------------------------------------------------------- */

/* sig / 2^63 * 2^exp rounded to nearest with `precision` bits in format f, or, below its range, as many as it has
 * there; zeros where `flush` says so. */
HOT_INLINE u64 approximate(unsigned f, bool sign, i32 exp, u64 sig, unsigned precision, bool flush)
{
    i32 emax = format_emax(f), biased = exp + emax;
    if (biased <= 0) {
        if (flush || biased < -62)
            return join_ieee(f, sign, JOINED_ZERO);
        sig >>= 1 - biased;
        biased = 0;
        precision = format_precision(f);
    }
    u64 half = 1ull << (63 - precision);
    bool normal = sig >> 63;
    sig = (sig + half) & ~(2 * half - 1);
    if (normal && !(sig >> 63)) {      /* carried out */
        sig = TOP_BIT;
        biased++;
    }
    if (biased > 2 * emax)
        return join_ieee(f, sign, JOINED_INFINITY(f));
    return join_ieee(f, sign, (struct rounded){sig, biased == 0 ? (i32)(sig >> 63) : biased});
}

/* 1 / (sig / 2^63 * 2^exp); returns its exponent. */
HOT_INLINE i32 invert(u64 *sig, i32 exp)
{
    if (*sig == TOP_BIT)
        return -exp;
    *sig = (u64)(((u128)1 << 127) / *sig);
    return -exp - 1;
}

HOT_INLINE u64 reciprocal(unsigned f, u64 a, struct float_number x, unsigned precision, bool flush)
{
    if (x.class == FLOAT_NAN)
        return a | 1ull << (format_precision(f) - 2);
    if (x.class != FLOAT_NORMAL)
        return join_ieee(f, x.sign, x.class == FLOAT_ZERO ? JOINED_INFINITY(f) : JOINED_ZERO);
    i32 exp = invert(&x.sig, x.exp);
    return approximate(f, x.sign, exp, x.sig, precision, flush);
}
HOT_INLINE u64 reciprocal_root(unsigned f, u64 a, struct float_number x, unsigned precision, u64 indefinite)
{
    u64 root, rest;
    if (x.class == FLOAT_NAN)
        return a | 1ull << (format_precision(f) - 2);
    if (x.class == FLOAT_ZERO)
        return join_ieee(f, x.sign, JOINED_INFINITY(f));
    if (x.sign)
        return indefinite;
    if (x.class == FLOAT_INFINITY)
        return join_ieee(f, false, JOINED_ZERO);
    i32 exp = invert(&x.sig, x.exp);
    exp = root_significand(x.sig, exp, &root, &rest);
    return approximate(f, false, exp, root, precision, true);
}

u32 f32_rcp12(u32 a) { return (u32)reciprocal(F32, a, unpack_ieee(a, F32, true), 12, true); }
u32 f32_rsqrt12(u32 a) { return (u32)reciprocal_root(F32, a, unpack_ieee(a, F32, true), 12, F32_NAN); }
u32 f32_rcp14(u32 a, struct float_env *e) { return (u32)reciprocal(F32, a, unpack32(a, e), 15, e->ftz); }
u64 f64_rcp14(u64 a, struct float_env *e) { return reciprocal(F64, a, unpack64(a, e), 15, e->ftz); }
u32 f32_rsqrt14(u32 a, struct float_env *e) { return (u32)reciprocal_root(F32, a, unpack32(a, e), 15, F32_NAN); }
u64 f64_rsqrt14(u64 a, struct float_env *e) { return reciprocal_root(F64, a, unpack64(a, e), 15, F64_NAN); }
u16 f16_rcp(u16 a) { return (u16)reciprocal(F16, a, unpack_ieee(a, F16, false), 11, false); }
u16 f16_rsqrt(u16 a) { return (u16)reciprocal_root(F16, a, unpack_ieee(a, F16, false), 11, F16_NAN); }

/* ---- bfloat16 ---------------------------------------------------------------------------------------------------- */

/* Each of the two products is added with one rounding, to nearest, the high ones first; denormals are zeros before
 * and after; nothing is reported. A NaN of the low pair wins over one of the high pair, that over the sum's. */
u32 bf16_dot(u32 sum, u32 a, u32 b)
{
    struct float_env e = {.rounding = ROUND_NEAREST, .masks = FLOAT_ALL, .daz = true, .ftz = true};
    sum = f32_fma(a & 0xffff0000u, b & 0xffff0000u, sum, 0, &e);
    return f32_fma(a << 16, b << 16, sum, 0, &e);
}
