/* Conversions between floating point and integers, between formats, and rounding to integral values
 * (cpu/softfloat.h).
 *
 * [SDM1 "Integer Indefinite", SDM2 "CVTPD2DQ—...", "VCVTPD2UDQ—...", "VCVTPS2PH—...", "ROUNDPD—...", "VRNDSCALEPD—..."]
 */
#include "cpu/softfloat_core.h"

/* ---- to integers ------------------------------------------------------------------------------------------------- */

/* To an integer of `bits` bits. Out of range: invalid, and the indefinite, of which only the top bit is set when it is
 * signed, all bits when it is not. */
HOT_INLINE u64 to_integer(struct float_number x, unsigned bits, bool is_signed, unsigned rounding, struct float_env *e)
{
    u64 v, limit = is_signed ? mask_low(bits - 1) + x.sign : x.sign ? 0 : mask_low(bits);
    bool inexact, up;
    e->up = false;
    if (x.class == FLOAT_ZERO)
        return 0;
    if (x.class != FLOAT_NORMAL || !magnitude(x, rounding, &v, &inexact, &up) || v > limit) {
        e->flags |= FLOAT_INVALID;
        return is_signed ? ~mask_low(bits - 1) : mask_low(bits);
    }
    e->up = up;
    if (inexact)
        e->flags |= FLOAT_INEXACT;
    return x.sign ? 0 - v : v;
}

#define DEFINE_TO_INTEGER(fbits, type, ibits)                                                                          \
    i##ibits f##fbits##_to_i##ibits(type a, unsigned rounding, struct float_env *e)                                    \
    {                                                                                                                  \
        return (i##ibits)to_integer(UNPACK##fbits(a), ibits, true, rounding, e);                                       \
    }
#define DEFINE_TO_UNSIGNED(fbits, type, ibits)                                                                         \
    u##ibits f##fbits##_to_u##ibits(type a, unsigned rounding, struct float_env *e)                                    \
    {                                                                                                                  \
        return (u##ibits)to_integer(UNPACK##fbits(a), ibits, false, rounding, e);                                      \
    }
DEFINE_TO_INTEGER(16, u16, 16)
DEFINE_TO_INTEGER(16, u16, 32)
DEFINE_TO_INTEGER(16, u16, 64)
DEFINE_TO_INTEGER(32, u32, 32)
DEFINE_TO_INTEGER(32, u32, 64)
DEFINE_TO_INTEGER(64, u64, 32)
DEFINE_TO_INTEGER(64, u64, 64)
DEFINE_TO_INTEGER(80, struct f80, 16)
DEFINE_TO_INTEGER(80, struct f80, 32)
DEFINE_TO_INTEGER(80, struct f80, 64)
DEFINE_TO_UNSIGNED(16, u16, 16)
DEFINE_TO_UNSIGNED(16, u16, 32)
DEFINE_TO_UNSIGNED(16, u16, 64)
DEFINE_TO_UNSIGNED(32, u32, 32)
DEFINE_TO_UNSIGNED(32, u32, 64)
DEFINE_TO_UNSIGNED(64, u64, 32)
DEFINE_TO_UNSIGNED(64, u64, 64)

/* ---- from integers ----------------------------------------------------------------------------------------------- */

#define DEFINE_FROM_INTEGER(bits, type)                                                                                \
    HOT_INLINE type from_magnitude##bits(bool sign, u64 m, struct float_env *e)                                        \
    {                                                                                                                  \
        if (m == 0)                                                                                                    \
            return 0;                                                                                                  \
        int shift = __builtin_clzll(m);                                                                                \
        return pack##bits(e, sign, 63 - shift, m << shift, 0);                                                         \
    }                                                                                                                  \
    type f##bits##_from_i64(i64 v, struct float_env *e)                                                                \
    {                                                                                                                  \
        return from_magnitude##bits(v < 0, v < 0 ? 0 - (u64)v : (u64)v, e);                                            \
    }                                                                                                                  \
    type f##bits##_from_u64(u64 v, struct float_env *e) { return from_magnitude##bits(false, v, e); }
DEFINE_FROM_INTEGER(16, u16)
DEFINE_FROM_INTEGER(32, u32)
DEFINE_FROM_INTEGER(64, u64)

struct f80 f80_from_i64(i64 v)
{
    u64 m = v < 0 ? 0 - (u64)v : (u64)v;
    if (m == 0)
        return (struct f80){0, 0};
    int shift = __builtin_clzll(m);
    return (struct f80){m << shift, (u16)((v < 0) << 15 | (16383 + 63 - shift))};
}

/* ---- integral values --------------------------------------------------------------------------------------------- */

/* A normal or infinite number with `digits` binary digits kept behind the point. Whatever has no more than those stays
 * as it is. */
#define DEFINE_ROUND_INTEGRAL(bits, type, f)                                                                           \
    HOT_INLINE type round_integral##bits(type a, struct float_number x, unsigned digits, unsigned rounding, bool exact, \
                                         struct float_env *e)                                                          \
    {                                                                                                                  \
        u64 v;                                                                                                         \
        bool inexact, up;                                                                                              \
        e->up = false;                                                                                                 \
        x.exp += (i32)digits;                                                                                          \
        if (x.class == FLOAT_INFINITY || x.exp >= (i32)format_precision(f) - 1)                                        \
            return a;                                                                                                  \
        magnitude(x, rounding, &v, &inexact, &up);                                                                     \
        e->up = up;                                                                                                    \
        if (inexact && exact)                                                                                          \
            e->flags |= FLOAT_INEXACT;                                                                                 \
        if (v == 0)                                                                                                    \
            return join##bits(x.sign, JOINED_ZERO);                                                                    \
        int shift = __builtin_clzll(v);                                                                                \
        struct rounded r = {v << shift, 63 - shift - (i32)digits + format_emax(f)};                                    \
        if (UNLIKELY(r.biased <= 0)) {         /* 2^-15 is a denormal in binary16 */                                   \
            r.sig >>= 1 - r.biased;                                                                                    \
            r.biased = 0;                                                                                              \
        }                                                                                                              \
        return join##bits(x.sign, r);                                                                                  \
    }
DEFINE_ROUND_INTEGRAL(16, u16, F16)
DEFINE_ROUND_INTEGRAL(32, u32, F32)
DEFINE_ROUND_INTEGRAL(64, u64, F64)
DEFINE_ROUND_INTEGRAL(80, struct f80, F80)

#define DEFINE_ROUND(bits, type)                                                                                       \
    type f##bits##_round(type a, unsigned digits, unsigned rounding, bool exact, struct float_env *e)                  \
    {                                                                                                                  \
        struct float_number x = UNPACK##bits(a);                                                                       \
        if (x.class == FLOAT_NAN)                                                                                      \
            return propagate##bits(a, a, e);                                                                           \
        if (x.class == FLOAT_ZERO)                                                                                     \
            return join##bits(x.sign, JOINED_ZERO);                                                                    \
        return round_integral##bits(a, x, digits, rounding, exact, e);                                                 \
    }
DEFINE_ROUND(16, u16)
DEFINE_ROUND(32, u32)
DEFINE_ROUND(64, u64)

struct f80 f80_round(struct f80 a, struct float_env *e)
{
    struct float_number x = unpack80(a);
    if (x.class >= FLOAT_NAN)
        return propagate80(a, a, e);
    if (x.class == FLOAT_ZERO || denormals(e, x.denormal))
        return a;
    return round_integral80(a, x, 0, e->rounding, true, e);
}

/* ---- between formats --------------------------------------------------------------------------------------------- */

/* A NaN's sign and payload in another format, quiet. */
HOT_INLINE struct rounded moved_nan(struct float_number x, unsigned f, struct float_env *e)
{
    if (x.signalling)
        e->flags |= FLOAT_INVALID;
    return (struct rounded){x.sig | TOP_BIT | TOP_BIT >> 1, 2 * format_emax(f) + 1};
}

/* A number in format f, which may be narrower or wider; `report`: a denormal one is an exception. */
#define DEFINE_MOVE(bits, type, f)                                                                                     \
    HOT_INLINE type move##bits(struct float_number x, unsigned from, bool report, struct float_env *e)                 \
    {                                                                                                                  \
        if (UNLIKELY(x.class)) {                                                                                       \
            if (x.class == FLOAT_UNSUPPORTED)                                                                          \
                return invalid##bits(e);                                                                               \
            return join##bits(x.sign, x.class == FLOAT_NAN ? moved_nan(x, f, e)                                        \
                                      : x.class == FLOAT_ZERO ? JOINED_ZERO : JOINED_INFINITY(f));                     \
        }                                                                                                              \
        if (report && denormals(e, x.denormal))                                                                        \
            return 0;                                                                                                  \
        if ((int)from < (int)(f))                                                                                      \
            return join##bits(x.sign, (struct rounded){x.sig, x.exp + format_emax(f)});                                \
        return pack##bits(e, x.sign, x.exp, x.sig, 0);                                                                 \
    }
DEFINE_MOVE(16, u16, F16)
DEFINE_MOVE(32, u32, F32)
DEFINE_MOVE(64, u64, F64)

#define DEFINE_CONVERSION(to, to_type, from, from_type)                                                                \
    to_type f##to##_from_f##from(from_type a, struct float_env *e)                                                     \
    {                                                                                                                  \
        return move##to(UNPACK##from(a), F##from, true, e);                                                            \
    }
DEFINE_CONVERSION(16, u16, 32, u32)
DEFINE_CONVERSION(16, u16, 64, u64)
DEFINE_CONVERSION(32, u32, 16, u16)
DEFINE_CONVERSION(32, u32, 64, u64)
DEFINE_CONVERSION(64, u64, 16, u16)
DEFINE_CONVERSION(64, u64, 32, u32)

/* Stores of the x87. */
u32 f80_to_f32(struct f80 a, struct float_env *e)
{
    e->up = false;
    return move32(unpack80(a), F80, false, e);
}
u64 f80_to_f64(struct f80 a, struct float_env *e)
{
    e->up = false;
    return move64(unpack80(a), F80, false, e);
}

/* To bfloat16, without an environment: to nearest, denormals are zeros [SDM2 "VCVTNE2PS2BF16—..."]. */
u16 bf16_from_f32(u32 a)
{
    u32 magnitude = a & 0x7fffffff;
    if (magnitude < 0x00800000)
        return (u16)(a >> 16 & 0x8000);
    if (magnitude > 0x7f800000)
        return (u16)(a >> 16 | 0x40);
    return (u16)((a + 0x7fff + (a >> 16 & 1)) >> 16);
}
