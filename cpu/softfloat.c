/* IEEE 754 arithmetic in integers (cpu/softfloat.h).
 *
 * An operand is unpacked into sign, exponent and a 64-bit significand with its leading bit in bit 63; an operation
 * makes an exact or sticky 128-bit result of that; one function, round_result(), brings it into a format. The same
 * inline code serves the three formats, instantiated with their constants.
 *
 * Priorities [SDM1 "Floating-Point Exception Priority"]: invalid by a signalling NaN or an unsupported encoding, quiet
 * NaN (no exception), other invalid and division by zero, denormal operand, overflow and underflow, inexact. Tininess
 * is detected after rounding. An unmasked denormal operand ends the operation.
 */
#include "cpu/softfloat.h"

enum { F32, F64, F80 };

/* Precision in bits, largest exponent, by format. */
HOT_INLINE unsigned format_precision(unsigned f) { return f == F32 ? 24 : f == F64 ? 53 : 64; }
HOT_INLINE i32 format_emax(unsigned f) { return f == F32 ? 127 : f == F64 ? 1023 : 16383; }

#define TOP_BIT 0x8000000000000000ull
#define WRAP 24576             /* exponent adjustment of unmasked x87 overflow and underflow */

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

COLD static struct rounded round_tiny(struct float_env *e, unsigned f, unsigned drop, bool sign, i32 exp, u64 sig,
                                      u64 rest)
{
    i32 emax = format_emax(f), emin = 1 - emax;
    u64 free_sig = sig;
    bool carry, inexact = round_at(e, sign, &free_sig, rest, drop, &carry);
    bool tiny = !(carry && exp + 1 >= emin);
    if (!(e->masks & FLOAT_UNDERFLOW) && tiny) {
        e->flags |= FLOAT_UNDERFLOW | (inexact ? FLOAT_INEXACT : 0);
        if (f != F80)
            return (struct rounded){0, 0};
        exp += carry + WRAP;
        if (exp < emin) {      /* FSCALE can leave even the extended range */
            e->flags |= FLOAT_INEXACT;
            e->up = false;
            return (struct rounded){0, 0};
        }
        return (struct rounded){carry ? TOP_BIT : free_sig, exp + emax};
    }
    if (e->ftz && tiny) {
        e->flags |= FLOAT_UNDERFLOW | FLOAT_INEXACT;
        e->up = false;
        return (struct rounded){0, 0};
    }
    shift_right_jam(&sig, &rest, (u32)(emin - exp));
    inexact = round_at(e, sign, &sig, rest, drop, &carry);
    if (inexact)
        e->flags |= FLOAT_INEXACT | (tiny ? FLOAT_UNDERFLOW : 0);
    return (struct rounded){sig, sig >> 63 ? 1 : 0};
}

COLD static struct rounded round_huge(struct float_env *e, unsigned f, unsigned drop, bool sign, i32 exp, u64 sig,
                                      bool inexact)
{
    i32 emax = format_emax(f);
    struct rounded infinity = {TOP_BIT, 2 * emax + 1};
    e->flags |= FLOAT_OVERFLOW;
    if (!(e->masks & FLOAT_OVERFLOW)) {
        if (inexact)
            e->flags |= FLOAT_INEXACT;
        if (f != F80)
            return infinity;
        if (exp - WRAP <= emax)
            return (struct rounded){sig, exp - WRAP + emax};
        e->flags |= FLOAT_INEXACT; /* FSCALE: not even the adjusted exponent fits */
        e->up = true;
        return infinity;
    }
    e->flags |= FLOAT_INEXACT;
    e->up = e->rounding == ROUND_NEAREST || (e->rounding == ROUND_UP && !sign) || (e->rounding == ROUND_DOWN && sign);
    if (e->up)
        return infinity;
    return (struct rounded){~0ull << drop, 2 * emax};
}

/* Rounds (sig + rest / 2^64) / 2^63 * 2^exp, bit 63 of sig set, to `precision` bits of format f. */
HOT_INLINE struct rounded round_result(struct float_env *e, unsigned f, unsigned precision, bool sign, i32 exp, u64 sig,
                                       u64 rest)
{
    i32 emax = format_emax(f);
    unsigned drop = 64 - precision;
    if (UNLIKELY(exp < 1 - emax))
        return round_tiny(e, f, drop, sign, exp, sig, rest);
    bool carry, inexact = round_at(e, sign, &sig, rest, drop, &carry);
    if (carry) {
        sig = TOP_BIT;
        exp++;
    }
    if (UNLIKELY(exp > emax))
        return round_huge(e, f, drop, sign, exp, sig, inexact);
    if (inexact)
        e->flags |= FLOAT_INEXACT;
    return (struct rounded){sig, exp + emax};
}

/* ---- packing and unpacking --------------------------------------------------------------------------------------- */

HOT_INLINE u32 join32(bool sign, struct rounded r)
{
    return (u32)sign << 31 | (u32)r.biased << 23 | (u32)(r.sig << 1 >> 41);
}
HOT_INLINE u64 join64(bool sign, struct rounded r) { return (u64)sign << 63 | (u64)r.biased << 52 | r.sig << 1 >> 12; }
HOT_INLINE struct f80 join80(bool sign, struct rounded r) { return (struct f80){r.sig, (u16)(sign << 15 | r.biased)}; }

HOT_INLINE u32 pack32(struct float_env *e, bool sign, i32 exp, u64 sig, u64 rest)
{
    return join32(sign, round_result(e, F32, 24, sign, exp, sig, rest));
}
HOT_INLINE u64 pack64(struct float_env *e, bool sign, i32 exp, u64 sig, u64 rest)
{
    return join64(sign, round_result(e, F64, 53, sign, exp, sig, rest));
}
HOT_INLINE struct f80 pack80(struct float_env *e, bool sign, i32 exp, u64 sig, u64 rest)
{
    return join80(sign, round_result(e, F80, e->precision, sign, exp, sig, rest));
}

#define JOINED_ZERO ((struct rounded){0, 0})
#define JOINED_INFINITY(f) ((struct rounded){TOP_BIT, 2 * format_emax(f) + 1})

/* Unpacks a format with `fraction` bits of fraction and an implicit leading bit. */
HOT_INLINE struct float_number unpack_ieee(u64 bits, unsigned f, bool daz)
{
    unsigned fraction = format_precision(f) - 1, exponent_bits = f == F32 ? 8 : 11;
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
HOT_INLINE struct float_number unpack32(u32 a, const struct float_env *e) { return unpack_ieee(a, F32, e->daz); }
HOT_INLINE struct float_number unpack64(u64 a, const struct float_env *e) { return unpack_ieee(a, F64, e->daz); }

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
struct float_number f80_unpack(struct f80 a) { return unpack80(a); }

struct f80 f80_pack(bool sign, i32 exp, u64 sig, u64 rest, struct float_env *e)
{
    if (!sig) {
        if (!rest)
            return join80(sign, JOINED_ZERO);
        sig = rest;
        rest = 0;
        exp -= 64;
    }
    int shift = __builtin_clzll(sig);
    if (shift) {
        sig = sig << shift | rest >> (64 - shift);
        rest <<= shift;
        exp -= shift;
    }
    return pack80(e, sign, exp, sig, rest);
}

/* ---- NaNs -------------------------------------------------------------------------------------------------------- */

/* SSE: the first operand if it is a NaN, else the second; made quiet. */
HOT_INLINE u32 propagate32(u32 a, u32 b, struct float_env *e)
{
    bool nan_a = (a << 1) > 0xff000000u, nan_b = (b << 1) > 0xff000000u;
    if ((nan_a && !(a >> 22 & 1)) || (nan_b && !(b >> 22 & 1)))
        e->flags |= FLOAT_INVALID;
    return (nan_a ? a : b) | 1u << 22;
}
HOT_INLINE u64 propagate64(u64 a, u64 b, struct float_env *e)
{
    bool nan_a = (a << 1) > 0xffe0000000000000ull, nan_b = (b << 1) > 0xffe0000000000000ull;
    if ((nan_a && !(a >> 51 & 1)) || (nan_b && !(b >> 51 & 1)))
        e->flags |= FLOAT_INVALID;
    return (nan_a ? a : b) | 1ull << 51;
}

/* x87: a quiet NaN beats a signalling one, then the larger significand wins, then the positive one [SDM1 "Rules for
 * Handling NaNs"]. */
struct f80 f80_propagate(struct f80 a, struct f80 b, struct float_env *e)
{
    struct float_number na = unpack80(a), nb = unpack80(b);
    if (na.class == FLOAT_UNSUPPORTED || nb.class == FLOAT_UNSUPPORTED) {
        e->flags |= FLOAT_INVALID;
        return F80_NAN;
    }
    if (na.signalling || nb.signalling)
        e->flags |= FLOAT_INVALID;
    struct f80 quiet_a = {a.mantissa | 1ull << 62, a.exponent}, quiet_b = {b.mantissa | 1ull << 62, b.exponent};
    if (nb.class != FLOAT_NAN)
        return quiet_a;
    if (na.class != FLOAT_NAN)
        return quiet_b;
    if (na.signalling != nb.signalling)
        return na.signalling ? quiet_b : quiet_a;
    if (a.mantissa != b.mantissa)
        return a.mantissa > b.mantissa ? quiet_a : quiet_b;
    return a.exponent < b.exponent ? quiet_a : quiet_b;
}
static inline struct f80 propagate80(struct f80 a, struct f80 b, struct float_env *e) { return f80_propagate(a, b, e); }

HOT_INLINE u32 invalid32(struct float_env *e) { e->flags |= FLOAT_INVALID; return F32_NAN; }
HOT_INLINE u64 invalid64(struct float_env *e) { e->flags |= FLOAT_INVALID; return F64_NAN; }
HOT_INLINE struct f80 invalid80(struct float_env *e) { e->flags |= FLOAT_INVALID; return F80_NAN; }

/* Reports denormal operands; true when that ends the operation. */
HOT_INLINE bool denormals(struct float_env *e, bool any)
{
    if (LIKELY(!any && !e->source_denormal))
        return false;
    e->flags |= FLOAT_DENORMAL;
    return !(e->masks & FLOAT_DENORMAL);
}

/* ---- the operations on unpacked numbers -------------------------------------------------------------------------- */

struct sum {
    u64 sig, rest;
    i32 exp;
    bool sign, zero;
};

/* a + b of two normal numbers. */
HOT_INLINE struct sum sum_normal(struct float_number a, struct float_number b)
{
    if (a.exp < b.exp || (a.exp == b.exp && a.sig < b.sig)) {
        struct float_number t = a;
        a = b;
        b = t;
    }
    u64 sig = b.sig, rest = 0;
    shift_right_jam(&sig, &rest, (u32)(a.exp - b.exp));
    struct sum s = {.exp = a.exp, .sign = a.sign};
    if (a.sign == b.sign) {
        s.sig = a.sig + sig;
        s.rest = rest;
        if (s.sig < a.sig) {
            s.rest = s.sig << 63 | s.rest >> 1 | (s.rest & 1);
            s.sig = s.sig >> 1 | TOP_BIT;
            s.exp++;
        }
        return s;
    }
    u128 d = ((u128)a.sig << 64) - ((u128)sig << 64 | rest);
    u64 high = (u64)(d >> 64);
    if (d == 0) {
        s.zero = true;
        return s;
    }
    int shift = high ? __builtin_clzll(high) : 64 + __builtin_clzll((u64)d);
    d <<= shift;
    s.sig = (u64)(d >> 64);
    s.rest = (u64)d;
    s.exp -= shift;
    return s;
}

/* The product of two significands, normalised; returns what to add to the exponents' sum. */
HOT_INLINE i32 multiply_significands(u64 a, u64 b, u64 *sig, u64 *rest)
{
    u128 p = (u128)a * b;
    if (p >> 127) {
        *sig = (u64)(p >> 64);
        *rest = (u64)p;
        return 1;
    }
    p <<= 1;
    *sig = (u64)(p >> 64);
    *rest = (u64)p;
    return 0;
}

HOT_INLINE i32 divide_significands(u64 a, u64 b, u64 *sig, u64 *rest)
{
    i32 adjust = a < b ? -1 : 0;
    u128 n = a < b ? (u128)a << 64 : (u128)a << 63;
    u64 q = (u64)(n / b), r = (u64)(n - (u128)q * b);
    *sig = q;
    *rest = r == 0 ? 0 : r > b - r ? TOP_BIT | 1 : r == b - r ? TOP_BIT : 1;
    return adjust;
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

/* ---- arithmetic in the three formats ----------------------------------------------------------------------------- */

#define DEFINE_ARITHMETIC(bits, type, format)                                                                          \
    HOT_INLINE type sum##bits(type a, type b, bool negate, struct float_env *e)                                        \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b);                                                  \
        if (UNLIKELY(x.class | y.class)) {                                                                             \
            if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)                                                          \
                return propagate##bits(a, b, e);                                                                       \
            y.sign ^= negate;                                                                                          \
            if (x.class == FLOAT_INFINITY && y.class == FLOAT_INFINITY && x.sign != y.sign)                            \
                return invalid##bits(e);                                                                               \
            if (denormals(e, x.denormal | y.denormal))                                                                 \
                return a;                                                                                              \
            if (x.class == FLOAT_INFINITY || y.class == FLOAT_INFINITY)                                                \
                return join##bits(x.class == FLOAT_INFINITY ? x.sign : y.sign, JOINED_INFINITY(format));               \
            if (x.class == FLOAT_ZERO && y.class == FLOAT_ZERO)                                                        \
                return join##bits(x.sign == y.sign ? x.sign : e->rounding == ROUND_DOWN, JOINED_ZERO);                 \
            if (x.class == FLOAT_ZERO)                                                                                 \
                x = y;                                                                                                 \
            return pack##bits(e, x.sign, x.exp, x.sig, 0);                                                             \
        }                                                                                                              \
        y.sign ^= negate;                                                                                              \
        if (denormals(e, x.denormal | y.denormal))                                                                     \
            return a;                                                                                                  \
        struct sum s = sum_normal(x, y);                                                                               \
        if (UNLIKELY(s.zero))                                                                                          \
            return join##bits(e->rounding == ROUND_DOWN, JOINED_ZERO);                                                 \
        return pack##bits(e, s.sign, s.exp, s.sig, s.rest);                                                            \
    }                                                                                                                  \
    type f##bits##_add(type a, type b, struct float_env *e) { return sum##bits(a, b, false, e); }                      \
    type f##bits##_sub(type a, type b, struct float_env *e) { return sum##bits(a, b, true, e); }                       \
                                                                                                                       \
    type f##bits##_mul(type a, type b, struct float_env *e)                                                            \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b);                                                  \
        bool sign = x.sign ^ y.sign;                                                                                   \
        u64 sig, rest;                                                                                                 \
        if (UNLIKELY(x.class | y.class)) {                                                                             \
            if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)                                                          \
                return propagate##bits(a, b, e);                                                                       \
            bool infinite = x.class == FLOAT_INFINITY || y.class == FLOAT_INFINITY;                                    \
            if (infinite && (x.class == FLOAT_ZERO || y.class == FLOAT_ZERO))                                          \
                return invalid##bits(e);                                                                               \
            if (denormals(e, x.denormal | y.denormal))                                                                 \
                return a;                                                                                              \
            return join##bits(sign, infinite ? JOINED_INFINITY(format) : JOINED_ZERO);                                 \
        }                                                                                                              \
        if (denormals(e, x.denormal | y.denormal))                                                                     \
            return a;                                                                                                  \
        i32 exp = x.exp + y.exp + multiply_significands(x.sig, y.sig, &sig, &rest);                                    \
        return pack##bits(e, sign, exp, sig, rest);                                                                    \
    }                                                                                                                  \
                                                                                                                       \
    type f##bits##_div(type a, type b, struct float_env *e)                                                            \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b);                                                  \
        bool sign = x.sign ^ y.sign;                                                                                   \
        u64 sig, rest;                                                                                                 \
        if (UNLIKELY(x.class | y.class)) {                                                                             \
            if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)                                                          \
                return propagate##bits(a, b, e);                                                                       \
            if (x.class == y.class)            /* 0 / 0 or infinity / infinity */                                      \
                return invalid##bits(e);                                                                               \
            if (y.class == FLOAT_ZERO && x.class == FLOAT_NORMAL) {                                                    \
                e->flags |= FLOAT_DIVZERO;                                                                             \
                return join##bits(sign, JOINED_INFINITY(format));                                                      \
            }                                                                                                          \
            if (denormals(e, x.denormal | y.denormal))                                                                 \
                return a;                                                                                              \
            bool infinite = x.class == FLOAT_INFINITY;                                                                 \
            return join##bits(sign, infinite ? JOINED_INFINITY(format) : JOINED_ZERO);                                 \
        }                                                                                                              \
        if (denormals(e, x.denormal | y.denormal))                                                                     \
            return a;                                                                                                  \
        i32 exp = x.exp - y.exp + divide_significands(x.sig, y.sig, &sig, &rest);                                      \
        return pack##bits(e, sign, exp, sig, rest);                                                                    \
    }                                                                                                                  \
                                                                                                                       \
    type f##bits##_sqrt(type a, struct float_env *e)                                                                   \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a);                                                                       \
        u64 sig, rest;                                                                                                 \
        if (x.class >= FLOAT_NAN)                                                                                      \
            return propagate##bits(a, a, e);                                                                           \
        if (x.class == FLOAT_ZERO)                                                                                     \
            return join##bits(x.sign, JOINED_ZERO);                                                                    \
        if (x.sign)                                                                                                    \
            return invalid##bits(e);                                                                                   \
        if (x.class == FLOAT_INFINITY)                                                                                 \
            return a;                                                                                                  \
        if (denormals(e, x.denormal))                                                                                  \
            return a;                                                                                                  \
        i32 exp = root_significand(x.sig, x.exp, &sig, &rest);                                                         \
        return pack##bits(e, false, exp, sig, rest);                                                                   \
    }                                                                                                                  \
                                                                                                                       \
    enum float_relation f##bits##_compare(type a, type b, bool quiet, struct float_env *e)                             \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b);                                                  \
        if (UNLIKELY(x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)) {                                                  \
            bool bad = x.class == FLOAT_UNSUPPORTED || y.class == FLOAT_UNSUPPORTED;                                   \
            if (!quiet || bad || x.signalling || y.signalling)                                                         \
                e->flags |= FLOAT_INVALID;                                                                             \
            return FLOAT_UNORDERED;                                                                                    \
        }                                                                                                              \
        (void)denormals(e, x.denormal | y.denormal);                                                                   \
        return relation(x, y);                                                                                         \
    }

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

#define UNPACK32(a) unpack32(a, e)
#define UNPACK64(a) unpack64(a, e)
#define UNPACK80(a) unpack80(a)
DEFINE_ARITHMETIC(32, u32, F32)
DEFINE_ARITHMETIC(64, u64, F64)
DEFINE_ARITHMETIC(80, struct f80, F80)

/* ---- minimum and maximum ----------------------------------------------------------------------------------------- */

#define DEFINE_MINMAX(bits, type)                                                                                      \
    /* With denormals-are-zero the result is a zero, too. */                                                           \
    HOT_INLINE type flush##bits(type a, struct float_number x)                                                         \
    {                                                                                                                  \
        return x.class == FLOAT_ZERO ? a & (type)((type)1 << (bits - 1)) : a;                                          \
    }                                                                                                                  \
    HOT_INLINE type minmax##bits(type a, type b, enum float_relation wanted, struct float_env *e)                      \
    {                                                                                                                  \
        struct float_number x = unpack##bits(a, e), y = unpack##bits(b, e);                                            \
        if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN) {                                                            \
            e->flags |= FLOAT_INVALID;                                                                                 \
            return flush##bits(b, y);                                                                                  \
        }                                                                                                              \
        (void)denormals(e, x.denormal | y.denormal);                                                                   \
        return relation(x, y) == wanted ? flush##bits(a, x) : flush##bits(b, y);                                       \
    }                                                                                                                  \
    type f##bits##_min(type a, type b, struct float_env *e) { return minmax##bits(a, b, FLOAT_LESS, e); }              \
    type f##bits##_max(type a, type b, struct float_env *e) { return minmax##bits(a, b, FLOAT_GREATER, e); }
DEFINE_MINMAX(32, u32)
DEFINE_MINMAX(64, u64)

/* ---- integers ---------------------------------------------------------------------------------------------------- */

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

/* To a signed integer of `bits` bits. */
HOT_INLINE i64 to_integer(struct float_number x, unsigned bits, unsigned rounding, struct float_env *e)
{
    i64 indefinite = (i64)(~0ull << (bits - 1));
    u64 v;
    bool inexact, up;
    e->up = false;
    if (x.class == FLOAT_ZERO)
        return 0;
    if (x.class != FLOAT_NORMAL || !magnitude(x, rounding, &v, &inexact, &up) || v > (1ull << (bits - 1)) - !x.sign) {
        e->flags |= FLOAT_INVALID;
        return indefinite;
    }
    e->up = up;
    if (inexact)
        e->flags |= FLOAT_INEXACT;
    return x.sign ? (i64)(0 - v) : (i64)v;
}

i32 f32_to_i32(u32 a, unsigned rounding, struct float_env *e)
{
    return (i32)to_integer(unpack32(a, e), 32, rounding, e);
}
i64 f32_to_i64(u32 a, unsigned rounding, struct float_env *e) { return to_integer(unpack32(a, e), 64, rounding, e); }
i32 f64_to_i32(u64 a, unsigned rounding, struct float_env *e)
{
    return (i32)to_integer(unpack64(a, e), 32, rounding, e);
}
i64 f64_to_i64(u64 a, unsigned rounding, struct float_env *e) { return to_integer(unpack64(a, e), 64, rounding, e); }
i16 f80_to_i16(struct f80 a, unsigned rounding, struct float_env *e)
{
    return (i16)to_integer(unpack80(a), 16, rounding, e);
}
i32 f80_to_i32(struct f80 a, unsigned rounding, struct float_env *e)
{
    return (i32)to_integer(unpack80(a), 32, rounding, e);
}
i64 f80_to_i64(struct f80 a, unsigned rounding, struct float_env *e)
{
    return to_integer(unpack80(a), 64, rounding, e);
}

u32 f32_from_i64(i64 v, struct float_env *e)
{
    u64 m = v < 0 ? 0 - (u64)v : (u64)v;
    if (m == 0)
        return 0;
    int shift = __builtin_clzll(m);
    return pack32(e, v < 0, 63 - shift, m << shift, 0);
}
u64 f64_from_i64(i64 v, struct float_env *e)
{
    u64 m = v < 0 ? 0 - (u64)v : (u64)v;
    if (m == 0)
        return 0;
    int shift = __builtin_clzll(m);
    return pack64(e, v < 0, 63 - shift, m << shift, 0);
}
struct f80 f80_from_i64(i64 v)
{
    u64 m = v < 0 ? 0 - (u64)v : (u64)v;
    if (m == 0)
        return (struct f80){0, 0};
    int shift = __builtin_clzll(m);
    return (struct f80){m << shift, (u16)((v < 0) << 15 | (16383 + 63 - shift))};
}

/* An integral value in the format again. Whatever has no fraction bits stays as it is. */
#define DEFINE_ROUND(bits, type, f)                                                                                    \
    HOT_INLINE type round_integral##bits(type a, struct float_number x, unsigned rounding, bool exact,                 \
                                         struct float_env *e)                                                          \
    {                                                                                                                  \
        u64 v;                                                                                                         \
        bool inexact, up;                                                                                              \
        e->up = false;                                                                                                 \
        if (x.class == FLOAT_INFINITY || x.exp >= (i32)format_precision(f) - 1)                                        \
            return a;                                                                                                  \
        magnitude(x, rounding, &v, &inexact, &up);                                                                     \
        e->up = up;                                                                                                    \
        if (inexact && exact)                                                                                          \
            e->flags |= FLOAT_INEXACT;                                                                                 \
        if (v == 0)                                                                                                    \
            return join##bits(x.sign, JOINED_ZERO);                                                                    \
        int shift = __builtin_clzll(v);                                                                                \
        return join##bits(x.sign, (struct rounded){v << shift, 63 - shift + format_emax(f)});                          \
    }
DEFINE_ROUND(32, u32, F32)
DEFINE_ROUND(64, u64, F64)
DEFINE_ROUND(80, struct f80, F80)

u32 f32_round(u32 a, unsigned rounding, bool exact, struct float_env *e)
{
    struct float_number x = unpack32(a, e);
    if (x.class == FLOAT_NAN)
        return propagate32(a, a, e);
    if (x.class == FLOAT_ZERO)
        return join32(x.sign, JOINED_ZERO);
    return round_integral32(a, x, rounding, exact, e);
}
u64 f64_round(u64 a, unsigned rounding, bool exact, struct float_env *e)
{
    struct float_number x = unpack64(a, e);
    if (x.class == FLOAT_NAN)
        return propagate64(a, a, e);
    if (x.class == FLOAT_ZERO)
        return join64(x.sign, JOINED_ZERO);
    return round_integral64(a, x, rounding, exact, e);
}
struct f80 f80_round(struct f80 a, struct float_env *e)
{
    struct float_number x = unpack80(a);
    if (x.class >= FLOAT_NAN)
        return propagate80(a, a, e);
    if (x.class == FLOAT_ZERO || denormals(e, x.denormal))
        return a;
    return round_integral80(a, x, e->rounding, true, e);
}

/* ---- between formats --------------------------------------------------------------------------------------------- */

/* A NaN's sign and payload in another format, quiet. */
HOT_INLINE struct rounded moved_nan(struct float_number x, unsigned f, struct float_env *e)
{
    if (x.signalling)
        e->flags |= FLOAT_INVALID;
    return (struct rounded){x.sig | TOP_BIT | TOP_BIT >> 1, 2 * format_emax(f) + 1};
}

#define MOVE_SPECIAL(bits, f)                                                                                          \
    do {                                                                                                               \
        if (UNLIKELY(x.class)) {                                                                                       \
            if (x.class == FLOAT_UNSUPPORTED)                                                                          \
                return invalid##bits(e);                                                                               \
            return join##bits(x.sign, x.class == FLOAT_NAN ? moved_nan(x, f, e)                                        \
                                      : x.class == FLOAT_ZERO ? JOINED_ZERO : JOINED_INFINITY(f));                     \
        }                                                                                                              \
    } while (0)

u64 f64_from_f32(u32 a, struct float_env *e)
{
    struct float_number x = unpack32(a, e);
    MOVE_SPECIAL(64, F64);
    if (denormals(e, x.denormal))
        return 0;
    return join64(x.sign, (struct rounded){x.sig, x.exp + 1023});
}
u32 f32_from_f64(u64 a, struct float_env *e)
{
    struct float_number x = unpack64(a, e);
    MOVE_SPECIAL(32, F32);
    if (denormals(e, x.denormal))
        return 0;
    return pack32(e, x.sign, x.exp, x.sig, 0);
}
HOT_INLINE struct f80 widen(struct float_number x, bool *denormal)
{
    *denormal = x.denormal;
    if (LIKELY(x.class == FLOAT_NORMAL))
        return join80(x.sign, (struct rounded){x.sig, x.exp + 16383});
    return join80(x.sign, x.class == FLOAT_ZERO ? JOINED_ZERO : (struct rounded){x.sig, 0x7fff});
}
struct f80 f80_widen32(u32 a, bool *denormal) { return widen(unpack_ieee(a, F32, false), denormal); }
struct f80 f80_widen64(u64 a, bool *denormal) { return widen(unpack_ieee(a, F64, false), denormal); }
u32 f80_to_f32(struct f80 a, struct float_env *e)
{
    struct float_number x = unpack80(a);
    e->up = false;
    MOVE_SPECIAL(32, F32);
    return pack32(e, x.sign, x.exp, x.sig, 0);
}
u64 f80_to_f64(struct f80 a, struct float_env *e)
{
    struct float_number x = unpack80(a);
    e->up = false;
    MOVE_SPECIAL(64, F64);
    return pack64(e, x.sign, x.exp, x.sig, 0);
}

/* ---- the x87's own: scale, remainder, extract -------------------------------------------------------------------- */

struct f80 f80_scale(struct f80 a, struct f80 b, struct float_env *e)
{
    struct float_number x = unpack80(a), y = unpack80(b);
    u8 precision = e->precision;
    if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)
        return propagate80(a, b, e);
    if (y.class == FLOAT_INFINITY) {
        if ((x.class == FLOAT_ZERO && !y.sign) || (x.class == FLOAT_INFINITY && y.sign))
            return invalid80(e);
        if (denormals(e, x.denormal))
            return a;
        return join80(x.sign, y.sign ? JOINED_ZERO : JOINED_INFINITY(F80));
    }
    if (denormals(e, x.denormal | y.denormal))
        return a;
    if (x.class != FLOAT_NORMAL)
        return a;
    i32 by = 0;
    if (y.class == FLOAT_NORMAL && y.exp >= 0) {
        by = y.exp > 16 ? 100000 : (i32)(y.sig >> (63 - y.exp));
        if (y.sign)
            by = -by;
    }
    e->precision = 64;
    struct f80 r = pack80(e, x.sign, x.exp + by, x.sig, 0);
    e->precision = precision;
    return r;
}

struct f80 f80_remainder(struct f80 a, struct f80 b, bool nearest, u64 *quotient, bool *partial, struct float_env *e)
{
    struct float_number x = unpack80(a), y = unpack80(b);
    *quotient = 0;
    *partial = false;
    if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)
        return propagate80(a, b, e);
    if (x.class == FLOAT_INFINITY || y.class == FLOAT_ZERO)
        return invalid80(e);
    if (denormals(e, x.denormal | y.denormal))
        return a;
    if (x.class == FLOAT_ZERO)
        return a;
    bool sign = x.sign;
    i32 d = x.exp - y.exp;
    if (y.class == FLOAT_INFINITY || d < -1 || (d < 0 && !nearest)) {
        /* Smaller than half of b (or than b): it is its own remainder. A denormal is normalised by the pass through
         * the rounding. */
        u8 kept = e->precision;
        e->precision = 64;
        struct f80 r = pack80(e, sign, x.exp, x.sig, 0);
        e->precision = kept;
        return r;
    }
    /* Whole subtraction steps: all of them, or, when the exponents differ by 64 or more, some, so that 32..63 bits
     * of difference go. */
    unsigned steps = d < 64 ? (unsigned)(d < 0 ? 0 : d) : 32 + (unsigned)d % 32;
    *partial = d >= 64;
    u64 r = x.sig, q = 0;
    i32 exp = d < 0 ? x.exp : y.exp + (*partial ? d - (i32)steps : 0);
    bool extra = false;        /* r has a 65th bit */
    if (d >= 0) {
        for (unsigned i = 0;; i++) {
            q <<= 1;
            if (extra || r >= y.sig) {
                r -= y.sig;
                q |= 1;
            }
            if (i == steps)
                break;
            extra = r >> 63;
            r <<= 1;
        }
    }
    if (nearest && !*partial) {
        /* r (at exponent exp) against b / 2. */
        u128 twice = d < 0 ? r : (u128)r << 1;      /* d = -1: r is at half of b's scale already */
        if (twice > y.sig || (twice == y.sig && q & 1)) {
            u128 full = d < 0 ? (u128)y.sig << 1 : y.sig;
            r = (u64)(full - r);
            sign = !sign;
            q++;
        }
    }
    *quotient = q;
    u8 precision = e->precision;
    e->precision = 64;
    struct f80 result = f80_pack(r ? sign : x.sign, exp, r, 0, e);
    e->precision = precision;
    return result;
}

struct f80 f80_extract(struct f80 a, struct f80 *exponent, struct float_env *e)
{
    struct float_number x = unpack80(a);
    if (x.class >= FLOAT_NAN)
        return *exponent = propagate80(a, a, e);
    if (x.class == FLOAT_INFINITY) {
        *exponent = join80(false, JOINED_INFINITY(F80));
        return a;
    }
    if (x.class == FLOAT_ZERO) {
        e->flags |= FLOAT_DIVZERO;
        *exponent = join80(true, JOINED_INFINITY(F80));
        return a;
    }
    *exponent = a;
    if (denormals(e, x.denormal))
        return a;
    *exponent = f80_from_i64(x.exp);
    return join80(x.sign, (struct rounded){x.sig, 16383});
}
