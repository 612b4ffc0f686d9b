/* IEEE 754 arithmetic in integers (cpu/softfloat.h): sums, products, quotients, roots, fused multiply-add, comparison,
 * minimum and maximum, in all formats.
 *
 * Priorities [SDM1 "Floating-Point Exception Priority"]: invalid by a signalling NaN or an unsupported encoding, quiet
 * NaN (no exception), other invalid and division by zero, denormal operand, overflow and underflow, inexact. Tininess
 * is detected after rounding. An unmasked denormal operand ends the operation.
 */
#include "cpu/softfloat_core.h"

#define WRAP 24576             /* exponent adjustment of unmasked x87 overflow and underflow */

/* ---- results outside the range of their format ------------------------------------------------------------------- */

struct rounded float_round_tiny(struct float_env *e, unsigned f, unsigned drop, bool sign, i32 exp, u64 sig, u64 rest)
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
    if (e->ftz && tiny && f != F16) {
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

struct rounded float_round_huge(struct float_env *e, unsigned f, unsigned drop, bool sign, i32 exp, u64 sig, bool inexact)
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

/* ---- arithmetic in the formats ------------------------------------------------------------------------------------ */

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
DEFINE_ARITHMETIC(16, u16, F16)
DEFINE_ARITHMETIC(32, u32, F32)
DEFINE_ARITHMETIC(64, u64, F64)
DEFINE_ARITHMETIC(80, struct f80, F80)

/* ---- fused multiply-add ------------------------------------------------------------------------------------------ */

/* big - small or big + small of numbers whose significands have 128 bits, leading bit in bit 127. The smaller one is
 * shifted with a sticky bit; at least two bits lie below the last place of any format, so that is enough. */
HOT_INLINE struct sum sum_wide(u128 a, i32 a_exp, bool a_sign, u128 b, i32 b_exp, bool b_sign)
{
    if (a_exp < b_exp || (a_exp == b_exp && a < b)) {
        u128 t = a;
        i32 t_exp = a_exp;
        bool t_sign = a_sign;
        a = b, a_exp = b_exp, a_sign = b_sign;
        b = t, b_exp = t_exp, b_sign = t_sign;
    }
    u64 sig = (u64)(b >> 64), rest = (u64)b;
    shift_right_jam(&sig, &rest, (u32)(a_exp - b_exp));
    b = (u128)sig << 64 | rest;
    struct sum s = {.exp = a_exp, .sign = a_sign};
    u128 r = a_sign == b_sign ? a + b : a - b;
    if (a_sign == b_sign && r < a) {           /* carried out */
        r = r >> 1 | (r & 1) | (u128)TOP_BIT << 64;
        s.exp++;
    }
    if (r == 0) {
        s.zero = true;
        return s;
    }
    int shift = (u64)(r >> 64) ? __builtin_clzll((u64)(r >> 64)) : 64 + __builtin_clzll((u64)r);
    r <<= shift;
    s.sig = (u64)(r >> 64);
    s.rest = (u64)r;
    s.exp -= shift;
    return s;
}

/* [SDM1 "FMA Numeric Behavior"]: a NaN wins by its place, x before y before z, and keeps its sign whatever is negated;
 * zero times infinity is invalid only where z is no NaN. */
#define DEFINE_FMA(bits, type, format)                                                                                 \
    type f##bits##_fma(type a, type b, type c, unsigned negate, struct float_env *e)                                   \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a), y = UNPACK##bits(b), z = UNPACK##bits(c);                             \
        u64 sig, rest;                                                                                                 \
        if (UNLIKELY(x.class == FLOAT_NAN || y.class == FLOAT_NAN || z.class == FLOAT_NAN)) {                          \
            if (x.signalling || y.signalling || z.signalling)                                                          \
                e->flags |= FLOAT_INVALID;                                                                             \
            type nan = x.class == FLOAT_NAN ? a : y.class == FLOAT_NAN ? b : c;                                        \
            return (type)(nan | (type)1 << (format_precision(format) - 2));                                            \
        }                                                                                                              \
        bool sign = x.sign ^ y.sign ^ ((negate & FMA_NEGATE_PRODUCT) != 0);                                            \
        z.sign ^= (negate & FMA_NEGATE_ADDEND) != 0;                                                                   \
        if (UNLIKELY(x.class | y.class | z.class)) {                                                                   \
            bool infinite = x.class == FLOAT_INFINITY || y.class == FLOAT_INFINITY;                                    \
            bool zero = x.class == FLOAT_ZERO || y.class == FLOAT_ZERO;                                                \
            if (infinite && (zero || (z.class == FLOAT_INFINITY && z.sign != sign)))                                   \
                return invalid##bits(e);                                                                               \
            if (denormals(e, x.denormal | y.denormal | z.denormal))                                                    \
                return a;                                                                                              \
            if (infinite || z.class == FLOAT_INFINITY)                                                                 \
                return join##bits(infinite ? sign : z.sign, JOINED_INFINITY(format));                                  \
            if (zero && z.class == FLOAT_ZERO)                                                                         \
                return join##bits(sign == z.sign ? sign : e->rounding == ROUND_DOWN, JOINED_ZERO);                     \
            if (zero)                                                                                                  \
                return pack##bits(e, z.sign, z.exp, z.sig, 0);                                                         \
            i32 exp = x.exp + y.exp + multiply_significands(x.sig, y.sig, &sig, &rest);                                \
            return pack##bits(e, sign, exp, sig, rest);                                                                \
        }                                                                                                              \
        if (denormals(e, x.denormal | y.denormal | z.denormal))                                                        \
            return a;                                                                                                  \
        i32 exp = x.exp + y.exp + multiply_significands(x.sig, y.sig, &sig, &rest);                                    \
        struct sum s = sum_wide((u128)sig << 64 | rest, exp, sign, (u128)z.sig << 64, z.exp, z.sign);                  \
        if (UNLIKELY(s.zero))                                                                                          \
            return join##bits(e->rounding == ROUND_DOWN, JOINED_ZERO);                                                 \
        return pack##bits(e, s.sign, s.exp, s.sig, s.rest);                                                            \
    }
DEFINE_FMA(16, u16, F16)
DEFINE_FMA(32, u32, F32)
DEFINE_FMA(64, u64, F64)

/* ---- minimum and maximum ----------------------------------------------------------------------------------------- */

#define DEFINE_MINMAX(bits, type)                                                                                      \
    /* With denormals-are-zero the result is a zero, too. */                                                           \
    HOT_INLINE type flush##bits(type a, struct float_number x)                                                         \
    {                                                                                                                  \
        return x.class == FLOAT_ZERO ? (type)(a & (type)1 << (bits - 1)) : a;                                          \
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
DEFINE_MINMAX(16, u16)
DEFINE_MINMAX(32, u32)
DEFINE_MINMAX(64, u64)
