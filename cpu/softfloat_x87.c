/* The x87's own operations: its rules for NaNs, widening of memory operands, scale, remainder, extract; and the ways
 * by which cpu/float_math.c reaches the 80-bit format (cpu/softfloat.h).
 *
 * [SDM1 "Rules for Handling NaNs", SDM2 "FSCALE—...", "FPREM—...", "FPREM1—...", "FXTRACT—..."]
 */
#include "cpu/softfloat_core.h"

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

HOT_INLINE struct f80 widen(struct float_number x, bool *denormal)
{
    *denormal = x.denormal;
    if (LIKELY(x.class == FLOAT_NORMAL))
        return join80(x.sign, (struct rounded){x.sig, x.exp + 16383});
    return join80(x.sign, x.class == FLOAT_ZERO ? JOINED_ZERO : (struct rounded){x.sig, 0x7fff});
}
struct f80 f80_widen32(u32 a, bool *denormal) { return widen(unpack_ieee(a, F32, false), denormal); }
struct f80 f80_widen64(u64 a, bool *denormal) { return widen(unpack_ieee(a, F64, false), denormal); }

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
