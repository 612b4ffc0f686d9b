/* What the files of softfloat share: formats, unpacking, rounding, packing, NaNs. Private to cpu/softfloat*.c.
 *
 * An operand is unpacked into sign, exponent and a 64-bit significand with its leading bit in bit 63; an operation
 * makes an exact or sticky 128-bit result of that; one function, round_result(), brings it into a format. Everything
 * is inline and takes the format as a constant, so that a file has one definition of an operation and instantiates it:
 * by `bits` (16, 32, 64 for the IEEE formats, 80 for the x87's) the macros find pack##bits, join##bits, unpack##bits,
 * propagate##bits and invalid##bits here.
 *
 * Kept true: binary16 obeys neither denormals-are-zero nor flush-to-zero [SDM2 "AVX512-FP16: ... Numerics"].
 */
#ifndef NESTOR_CPU_SOFTFLOAT_CORE_H
#define NESTOR_CPU_SOFTFLOAT_CORE_H

#include "cpu/softfloat.h"

enum float_format { F16, F32, F64, F80 };

/* Precision in bits, largest exponent, bits of the exponent field, by format. */
HOT_INLINE unsigned format_precision(unsigned f) { return f == F16 ? 11 : f == F32 ? 24 : f == F64 ? 53 : 64; }
HOT_INLINE i32 format_emax(unsigned f) { return f == F16 ? 15 : f == F32 ? 127 : f == F64 ? 1023 : 16383; }
HOT_INLINE unsigned format_exponent_bits(unsigned f) { return f == F16 ? 5 : f == F32 ? 8 : f == F64 ? 11 : 15; }

#define TOP_BIT 0x8000000000000000ull

/* sig:rest shifted right by n, the lost bits gathered in bit 0. */
HOT_INLINE void shift_right_jam(u64 *sig, u64 *rest, u32 n)
{
    if (n == 0)
        return;
    if (n < 64) {
        *rest = *sig << (64 - n) | *rest >> n | ((*rest << (64 - n)) != 0);
        *sig >>= n;
    } else if (n < 128) {
        bool lost = *rest != 0 || (n > 64 && *sig << (128 - n));
        *rest = *sig >> (n - 64) | lost;
        *sig = 0;
    } else {
        *rest = (*sig | *rest) != 0;
        *sig = 0;
    }
}

/* Whether discarding `frac` (its top bit is worth half a unit) below an odd or even last place rounds the magnitude
 * up. */
HOT_INLINE bool rounds_up(unsigned rounding, bool sign, bool odd, u64 frac)
{
    if (rounding == ROUND_NEAREST)
        return frac > TOP_BIT || (frac == TOP_BIT && odd);
    return frac && rounding != ROUND_ZERO && (rounding == ROUND_UP) != sign;
}

/* Rounds at `drop` bits above bit 0 of *sig. Returns whether that was inexact; *carry: the significand grew to 2^64. */
HOT_INLINE bool round_at(struct float_env *e, bool sign, u64 *sig, u64 rest, unsigned drop, bool *carry)
{
    u64 frac = drop ? *sig << (64 - drop) | (rest != 0) : rest;
    u64 kept = drop ? *sig >> drop << drop : *sig, unit = 1ull << drop;
    bool up = rounds_up(e->rounding, sign, kept & unit, frac);
    *carry = false;
    if (up) {
        kept += unit;
        *carry = kept == 0;
    }
    e->up = up;
    *sig = kept;
    return frac != 0;
}

struct rounded {
    u64 sig;                   /* bit 63 clear only in denormals and zeros */
    i32 biased;                /* biased exponent, 0 for denormals and zeros; infinite: the largest, sig = TOP_BIT */
};
/* round_result() below the format's range, and above it. (cpu/softfloat.c) */
COLD struct rounded float_round_tiny(struct float_env *e, unsigned f, unsigned drop, bool sign, i32 exp, u64 sig,
                                     u64 rest);
COLD struct rounded float_round_huge(struct float_env *e, unsigned f, unsigned drop, bool sign, i32 exp, u64 sig,
                                     bool inexact);

/* Rounds (sig + rest / 2^64) / 2^63 * 2^exp, bit 63 of sig set, to `precision` bits of format f. */
HOT_INLINE struct rounded round_result(struct float_env *e, unsigned f, unsigned precision, bool sign, i32 exp, u64 sig,
                                       u64 rest)
{
    i32 emax = format_emax(f);
    unsigned drop = 64 - precision;
    if (UNLIKELY(exp < 1 - emax))
        return float_round_tiny(e, f, drop, sign, exp, sig, rest);
    bool carry, inexact = round_at(e, sign, &sig, rest, drop, &carry);
    if (carry) {
        sig = TOP_BIT;
        exp++;
    }
    if (UNLIKELY(exp > emax))
        return float_round_huge(e, f, drop, sign, exp, sig, inexact);
    if (inexact)
        e->flags |= FLOAT_INEXACT;
    return (struct rounded){sig, exp + emax};
}
/* ---- packing and unpacking --------------------------------------------------------------------------------------- */

/* The bits of a result in an IEEE format. */
HOT_INLINE u64 join_ieee(unsigned f, bool sign, struct rounded r)
{
    unsigned fraction = format_precision(f) - 1;
    return (u64)sign << (fraction + format_exponent_bits(f)) | (u64)r.biased << fraction | r.sig << 1 >> (64 - fraction);
}
HOT_INLINE struct f80 join80(bool sign, struct rounded r) { return (struct f80){r.sig, (u16)(sign << 15 | r.biased)}; }
HOT_INLINE struct f80 pack80(struct float_env *e, bool sign, i32 exp, u64 sig, u64 rest)
{
    return join80(sign, round_result(e, F80, e->precision, sign, exp, sig, rest));
}

#define JOINED_ZERO ((struct rounded){0, 0})
#define JOINED_INFINITY(f) ((struct rounded){TOP_BIT, 2 * format_emax(f) + 1})

/* Unpacks a format with an implicit leading bit. */
HOT_INLINE struct float_number unpack_ieee(u64 bits, unsigned f, bool daz)
{
    unsigned fraction = format_precision(f) - 1, exponent_bits = format_exponent_bits(f);
    i32 emax = format_emax(f), biased = (i32)(bits >> fraction & mask_low(exponent_bits));
    u64 sig = bits << (63 - fraction) & ~TOP_BIT;
    struct float_number n = {
        .sign = bits >> (fraction + exponent_bits) & 1, .sig = sig | TOP_BIT, .exp = biased - emax};
    if (LIKELY(biased != 0 && biased != 2 * emax + 1))
        return n;
    if (biased) {
        n.class = sig ? FLOAT_NAN : FLOAT_INFINITY;
        n.signalling = sig && !(sig >> 62);
    } else if (sig == 0 || daz) {
        n.class = FLOAT_ZERO;
        n.sig = 0;
    } else {
        int shift = __builtin_clzll(sig);
        n.sig = sig << shift;
        n.exp = 1 - emax - shift;
        n.denormal = true;
    }
    return n;
}

HOT_INLINE struct float_number unpack80(struct f80 a)
{
    i32 biased = a.exponent & 0x7fff;
    struct float_number n = {.sign = a.exponent >> 15, .sig = a.mantissa, .exp = biased - 16383};
    if (LIKELY(biased != 0 && biased != 0x7fff)) {
        if (UNLIKELY(!(a.mantissa >> 63)))
            n.class = FLOAT_UNSUPPORTED;
        return n;
    }
    if (biased) {
        u64 fraction = a.mantissa << 1;
        n.class = !(a.mantissa >> 63) ? FLOAT_UNSUPPORTED : fraction ? FLOAT_NAN : FLOAT_INFINITY;
        n.signalling = n.class == FLOAT_NAN && !(fraction >> 63);
    } else if (a.mantissa == 0) {
        n.class = FLOAT_ZERO;
    } else {
        int shift = __builtin_clzll(a.mantissa);
        n.sig = a.mantissa << shift;
        n.exp = -16382 - shift;
        n.denormal = true;
    }
    return n;
}

/* ---- NaNs and other special operands ----------------------------------------------------------------------------- */

/* SSE and later: the first operand if it is a NaN, else the second; made quiet. */
HOT_INLINE u64 propagate_ieee(unsigned f, u64 a, u64 b, struct float_env *e)
{
    unsigned fraction = format_precision(f) - 1;
    u64 magnitude = mask_low(fraction + format_exponent_bits(f)), quiet = 1ull << (fraction - 1);
    u64 infinity = magnitude & ~mask_low(fraction);
    bool nan_a = (a & magnitude) > infinity, nan_b = (b & magnitude) > infinity;
    if ((nan_a && !(a & quiet)) || (nan_b && !(b & quiet)))
        e->flags |= FLOAT_INVALID;
    return (nan_a ? a : b) | quiet;
}
HOT_INLINE struct f80 propagate80(struct f80 a, struct f80 b, struct float_env *e) { return f80_propagate(a, b, e); }
HOT_INLINE struct f80 invalid80(struct float_env *e)
{
    e->flags |= FLOAT_INVALID;
    return F80_NAN;
}

#define DEFINE_FORMAT(bits, type, f, honours_daz)                                                                      \
    HOT_INLINE type join##bits(bool sign, struct rounded r) { return (type)join_ieee(f, sign, r); }                    \
    HOT_INLINE type pack##bits(struct float_env *e, bool sign, i32 exp, u64 sig, u64 rest)                             \
    {                                                                                                                  \
        return join##bits(sign, round_result(e, f, format_precision(f), sign, exp, sig, rest));                        \
    }                                                                                                                  \
    HOT_INLINE struct float_number unpack##bits(type a, const struct float_env *e)                                     \
    {                                                                                                                  \
        return unpack_ieee(a, f, (honours_daz) && e->daz);                                                             \
    }                                                                                                                  \
    HOT_INLINE type propagate##bits(type a, type b, struct float_env *e)                                               \
    {                                                                                                                  \
        return (type)propagate_ieee(f, a, b, e);                                                                       \
    }                                                                                                                  \
    HOT_INLINE type invalid##bits(struct float_env *e)                                                                 \
    {                                                                                                                  \
        e->flags |= FLOAT_INVALID;                                                                                     \
        return F##bits##_NAN;                                                                                          \
    }
DEFINE_FORMAT(16, u16, F16, false)
DEFINE_FORMAT(32, u32, F32, true)
DEFINE_FORMAT(64, u64, F64, true)
#undef DEFINE_FORMAT

/* The same spelling for the formats with and without an environment. */
#define UNPACK16(a) unpack16(a, e)
#define UNPACK32(a) unpack32(a, e)
#define UNPACK64(a) unpack64(a, e)
#define UNPACK80(a) unpack80(a)

/* Reports denormal operands; true when that ends the operation. */
HOT_INLINE bool denormals(struct float_env *e, bool any)
{
    if (LIKELY(!any && !e->source_denormal))
        return false;
    e->flags |= FLOAT_DENORMAL;
    return !(e->masks & FLOAT_DENORMAL);
}
/* How two numbers that are no NaNs compare. */
HOT_INLINE enum float_relation relation(struct float_number x, struct float_number y)
{
    if (x.class == FLOAT_ZERO && y.class == FLOAT_ZERO)
        return FLOAT_EQUAL;
    bool x_negative = x.sign && x.class != FLOAT_ZERO, y_negative = y.sign && y.class != FLOAT_ZERO;
    if (x_negative != y_negative)
        return x_negative ? FLOAT_LESS : FLOAT_GREATER;
    /* The same sign, or one is a zero: by magnitude. */
    i32 xe = x.class == FLOAT_ZERO ? -99999 : x.class == FLOAT_INFINITY ? 99999 : x.exp;
    i32 ye = y.class == FLOAT_ZERO ? -99999 : y.class == FLOAT_INFINITY ? 99999 : y.exp;
    u64 xs = x.class == FLOAT_NORMAL ? x.sig : 0, ys = y.class == FLOAT_NORMAL ? y.sig : 0;
    if (xe == ye && xs == ys)
        return FLOAT_EQUAL;
    bool smaller = xe < ye || (xe == ye && xs < ys);
    return smaller != x_negative ? FLOAT_LESS : FLOAT_GREATER;
}
/* The magnitude of a normal number below 2^64, rounded to an integer. *inexact says so; false when it has 65 bits or
 * more. */
HOT_INLINE bool magnitude(struct float_number x, unsigned rounding, u64 *value, bool *inexact, bool *up)
{
    u64 whole, frac;
    if (x.exp >= 64)
        return false;
    if (x.exp < 0) {
        whole = 0;
        frac = x.exp == -1 ? x.sig : x.exp > -64 ? (x.sig >> (-x.exp - 1) | 1) : 1;
    } else {
        whole = x.sig >> (63 - x.exp);
        frac = x.exp == 63 ? 0 : x.sig << (x.exp + 1);
    }
    *inexact = frac != 0;
    *up = rounds_up(rounding, x.sign, whole & 1, frac);
    whole += *up;
    *value = whole;
    return !(*up && whole == 0);
}

/* The root of sig / 2^63 * 2^exp; returns its exponent. Two halves: 32 bits by trial, the other 32 by one division. */
HOT_INLINE i32 root_significand(u64 sig, i32 exp, u64 *root, u64 *rest)
{
    bool odd = exp & 1;
    u64 high = odd ? sig : sig >> 1, low = odd ? 0 : sig << 63;
    u64 s = 0, r = 0;
    for (unsigned i = 0; i < 32; i++) {        /* s = root of high, r = high - s^2 */
        u64 t;
        r = r << 2 | high >> 62;
        high <<= 2;
        s <<= 1;
        t = 2 * s + 1;
        if (r >= t) {
            r -= t;
            s++;
        }
    }
    /* The remainder with the next 32 bits, divided by 2 s, gives the next 32 bits of the root, or one too many. */
    u128 n = (u128)r << 32 | low >> 32;
    u64 q = (u64)(n / (2 * s)), u = (u64)(n % (2 * s));
    if (q > 0xffffffffu) {
        u += 2 * s * (q - 0xffffffffu);
        q = 0xffffffffu;
    }
    u64 result = (s << 32) + q;
    i128 left = (i128)(((u128)u << 32) | (low & 0xffffffffu)) - (i128)((u128)q * q);
    while (left < 0) {
        result--;
        left += (i128)((u128)result * 2 + 1);
    }
    *root = result;
    *rest = left == 0 ? 0 : (u128)left > result ? TOP_BIT | 1 : 1;
    return (exp - odd) / 2;
}

#endif
