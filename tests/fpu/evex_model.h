/* A second computation of what AVX-512's floating-point instructions do to one element, for test_evex_float.c: from the
 * tables of [SDM2], with the host's doubles, in which the results are exact, and integers. Flags are added to the
 * environment as the instruction may report them.
 */
#ifndef NESTOR_TESTS_FPU_EVEX_MODEL_H
#define NESTOR_TESTS_FPU_EVEX_MODEL_H

#include "native.h"

#include <math.h>

/* ---- values ------------------------------------------------------------------------------------------------------ */

struct type {
    unsigned bytes, precision;
    i32 emax;
};
static const struct type half = {2, 11, 15}, single = {4, 24, 127}, whole_double = {8, 53, 1023};

static bool nan_of(const struct type *t, u64 v)
{
    u64 infinity = mask_low(8 * t->bytes - 1) & ~mask_low(t->precision - 1);
    return (v & mask_low(8 * t->bytes - 1)) > infinity;
}
static bool quiet_of(const struct type *t, u64 v)
{
    return v >> (t->precision - 2) & 1;
}
static u64 quieted(const struct type *t, u64 v)
{
    return v | BIT(t->precision - 2);
}
static bool sign_of(const struct type *t, u64 v)
{
    return v >> (8 * t->bytes - 1) & 1;
}
static bool denormal_of(const struct type *t, u64 v)
{
    u64 magnitude = v & mask_low(8 * t->bytes - 1);
    return magnitude && magnitude < BIT(t->precision - 1);
}
/* The value, which is no NaN. */
static double value_of(const struct type *t, u64 v)
{
    u64 magnitude = v & mask_low(8 * t->bytes - 1), fraction = magnitude & mask_low(t->precision - 1);
    i32 biased = (i32)(magnitude >> (t->precision - 1));
    double d = biased == 2 * t->emax + 1 ? INFINITY
                                         : ldexp((double)(fraction | (biased ? BIT(t->precision - 1) : 0)),
                                                 (biased ? biased : 1) - t->emax - (i32)t->precision + 1);
    return sign_of(t, v) ? -d : d;
}
/* The bits of a value that the type has. */
static u64 bits_of(const struct type *t, double d)
{
    u64 sign = signbit(d) ? BIT(8 * t->bytes - 1) : 0;
    int e;
    if (isinf(d))
        return sign | (mask_low(8 * t->bytes - 1) & ~mask_low(t->precision - 1));
    if (d == 0)
        return sign;
    (void)frexp(fabs(d), &e);
    i32 lowest = e - 1 < 1 - t->emax ? 1 - t->emax : e - 1;
    u64 sig = (u64)ldexp(fabs(d), (i32)t->precision - 1 - lowest);
    return sign |
           (e - 1 < 1 - t->emax ? sig
                                : (u64)(e - 1 + t->emax) << (t->precision - 1) | (sig & mask_low(t->precision - 1)));
}
static u64 indefinite_of(const struct type *t)
{
    return mask_low(8 * t->bytes) & ~mask_low(t->precision - 2);
}

static u64 random_element(const struct type *t)
{
    u64 sign = (u64)random_below(2) << (8 * t->bytes - 1), fraction = random64() & mask_low(t->precision - 1);
    u64 one = (u64)t->emax << (t->precision - 1);
    switch (random_below(9)) {
    case 0:
        return sign;
    case 1:
        return sign | (random64() & mask_low(t->precision - 1));
    case 2:
        return sign | (mask_low(8 * t->bytes - 1) & ~mask_low(t->precision - 1));
    case 3:
        return random_below(3) ? sign | one : sign | (mask_low(8 * t->bytes - 1) & ~fraction);
    case 4:
    case 5:
        return sign | (one + ((u64)random_below(12) << (t->precision - 1)) - (5ull << (t->precision - 1))) | fraction;
    case 6:
        return sign | one | (fraction & ~mask_low(t->precision - 4));
    default:
        return random64() & mask_low(8 * t->bytes);
    }
}

/* ---- operations of elements, a second time ----------------------------------------------------------------------- */

/* The rounding that imm8[2:0] asks for. */
static unsigned vec_mode(unsigned imm, const struct float_env *e)
{
    return imm & 4 ? e->rounding : imm & 3;
}

static bool starts(const char **s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (strncmp(*s, prefix, n) != 0)
        return false;
    *s += n;
    return true;
}

static u64 nan_result(const struct type *t, u64 a, u64 b, struct float_env *e)
{
    if ((nan_of(t, a) && !quiet_of(t, a)) || (nan_of(t, b) && !quiet_of(t, b)))
        e->flags |= FLOAT_INVALID;
    return quieted(t, nan_of(t, a) ? a : b);
}

/* Denormal operands are zeros, or reported (`report`). */
static u64 admitted(const struct type *t, u64 v, bool report, struct float_env *e)
{
    if (!denormal_of(t, v))
        return v;
    if (e->daz && t->bytes != 2)
        return v & BIT(8 * t->bytes - 1);
    if (report)
        e->flags |= FLOAT_DENORMAL;
    return v;
}

static u64 getexp_model(const struct type *t, u64 y, struct float_env *e)
{
    int exponent;
    if (nan_of(t, y))
        return nan_result(t, y, y, e);
    double d = value_of(t, admitted(t, y, true, e));
    if (isinf(d) || d == 0)
        return bits_of(t, d == 0 ? -INFINITY : INFINITY);
    (void)frexp(d, &exponent);
    return bits_of(t, exponent - 1);
}

/* [SDM2 "VGETMANTPD": GetMant() Special Float Values Behavior] */
static u64 getmant_model(const struct type *t, u64 y, unsigned imm, struct float_env *e)
{
    int exponent;
    if (nan_of(t, y))
        return nan_result(t, y, y, e);
    double sign = imm >> 2 & 1 || !sign_of(t, y) ? 1 : -1;
    u64 flushed = e->daz && t->bytes != 2 && denormal_of(t, y) ? y & BIT(8 * t->bytes - 1) : y;
    double d = value_of(t, flushed);
    if (d == 0)
        return bits_of(t, sign);
    if (sign_of(t, y) && imm >> 3 & 1) {
        e->flags |= FLOAT_INVALID;
        return indefinite_of(t);
    }
    if (isinf(d))
        return bits_of(t, sign);
    (void)admitted(t, y, true, e);
    double m = 2 * frexp(fabs(d), &exponent); /* 1 <= m < 2, d = m * 2^(exponent - 1) */
    switch (imm & 3) {
    case 1:
        m = (exponent - 1) % 2 ? m / 2 : m;
        break;
    case 2:
        m /= 2;
        break;
    case 3:
        m = m >= 1.5 ? m / 2 : m;
        break;
    }
    return bits_of(t, sign * m);
}

/* [SDM2 "VSCALEFPD": Special Cases]; between those, cpu/softfloat.h's multiplication would do as well as anything. */
static u64 scalef_model(const struct type *t, u64 x, u64 y, struct float_env *e)
{
    bool nan_x = nan_of(t, x), nan_y = nan_of(t, y);
    if (nan_x || nan_y) {
        bool infinite = !nan_y && isinf(value_of(t, y));
        if (nan_x && quiet_of(t, x) && infinite)
            return bits_of(t, sign_of(t, y) ? 0 : INFINITY);
        return nan_result(t, x, y, e);
    }
    double by = value_of(t, admitted(t, y, false, e));
    u64 flushed = e->daz && t->bytes != 2 && denormal_of(t, x) ? x & BIT(8 * t->bytes - 1) : x;
    double d = value_of(t, flushed), sign = sign_of(t, x) ? -1 : 1;
    if (isinf(by)) {
        if ((isinf(d) && by < 0) || (d == 0 && by > 0)) {
            e->flags |= FLOAT_INVALID;
            return indefinite_of(t);
        }
        (void)admitted(t, x, true, e);
        return bits_of(t, sign * (by < 0 ? 0 : INFINITY));
    }
    if (isinf(d) || d == 0)
        return bits_of(t, d);
    return t->bytes == 2   ? f16_scalef((u16)x, (u16)y, e)
           : t->bytes == 4 ? f32_scalef((u32)x, (u32)y, e)
                           : f64_scalef(x, y, e);
}

/* [SDM2 "VRANGEPD": Signaling of Comparison Operation of One or More NaN Input Values, Comparison Result for Opposite-
 * Signed Zero Cases, for Equal-Magnitude Input Cases] */
static u64 range_model(const struct type *t, u64 x, u64 y, unsigned imm, struct float_env *e)
{
    bool nan_x = nan_of(t, x), nan_y = nan_of(t, y);
    u64 top = BIT(8 * t->bytes - 1), r;
    if ((nan_x && !quiet_of(t, x)) || (nan_y && !quiet_of(t, y))) {
        e->flags |= FLOAT_INVALID;
        return quieted(t, nan_x && !quiet_of(t, x) ? x : y);
    }
    bool report = !nan_x && !nan_y;
    x = admitted(t, x, report, e);
    y = admitted(t, y, report, e);
    if (!report) {
        r = nan_y ? x : y;
    } else {
        double a = value_of(t, x), b = value_of(t, y);
        double p = imm & 2 ? fabs(a) : a, q = imm & 2 ? fabs(b) : b;
        bool smaller_is_a = p != q ? p < q : signbit(a) != 0;
        r = (imm & 1) != smaller_is_a ? x : y;
    }
    switch (imm >> 2 & 3) {
    case 0:
        return (r & ~top) | (x & top);
    case 1:
        return r;
    case 2:
        return r & ~top;
    default:
        return r | top;
    }
}

static double to_integral(double d, unsigned mode)
{
    double down = floor(d), f = d - down;
    switch (mode) {
    case ROUND_DOWN:
        return down;
    case ROUND_UP:
        return ceil(d);
    case ROUND_ZERO:
        return trunc(d);
    default:
        return f > 0.5 || (f == 0.5 && fmod(down, 2) != 0) ? down + 1 : down;
    }
}

/* To imm8[7:4] binary digits; false: NaN, infinity, or a number that has no more of them. */
static double digits_model(double d, unsigned imm, unsigned mode, struct float_env *e)
{
    int digits = (int)(imm >> 4);
    if (fabs(d) >= 0x1p53)
        return d;
    double r = ldexp(to_integral(ldexp(d, digits), mode), -digits);
    if (r != d && !(imm & 8))
        e->flags |= FLOAT_INEXACT;
    return r == 0 ? copysign(0, d) : r;
}
static u64 rndscale_model(const struct type *t, u64 y, unsigned imm, struct float_env *e)
{
    if (nan_of(t, y))
        return nan_result(t, y, y, e);
    double d = value_of(t, admitted(t, y, false, e));
    return bits_of(t, isinf(d) ? d : digits_model(d, imm, vec_mode(imm, e), e));
}
static u64 reduce_model(const struct type *t, u64 y, unsigned imm, struct float_env *e)
{
    if (nan_of(t, y))
        return nan_result(t, y, y, e);
    double d = value_of(t, admitted(t, y, false, e));
    if (isinf(d))
        return 0;
    unsigned mode = vec_mode(imm, e);
    double r = digits_model(d, imm, mode, e);
    if (r == d)
        return bits_of(t, mode == ROUND_DOWN ? -0.0 : 0.0);
    struct float_env own = {.rounding = (u8)mode, .masks = FLOAT_ALL, .ftz = e->ftz};
    u64 p = bits_of(t, d), q = bits_of(t, r);
    u64 result = t->bytes == 2   ? f16_sub((u16)p, (u16)q, &own)
                 : t->bytes == 4 ? f32_sub((u32)p, (u32)q, &own)
                                 : f64_sub(p, q, &own);
    if (!(imm & 8))
        e->flags |= own.flags & FLOAT_INEXACT;
    return result;
}

/* [SDM2 "VFIXUPIMMPD": Operation] */
static u64 fixup_model(const struct type *t, u64 z, u64 y, u32 table, unsigned imm, struct float_env *e)
{
    u64 src = e->daz && denormal_of(t, y) ? 0 : y;
    bool nan = nan_of(t, src);
    double d = nan ? NAN : value_of(t, src);
    unsigned token = nan              ? !quiet_of(t, src)
                     : d == 0         ? 2
                     : d == 1         ? 3
                     : d == -INFINITY ? 4
                     : d == INFINITY  ? 5
                     : d < 0          ? 6
                                      : 7;
    static const u8 raise[8] = {[2] = 0x03, [3] = 0x0c, [1] = 0x10, [4] = 0x20, [6] = 0x40, [5] = 0x80};
    u8 hit = raise[token] & imm;
    if (hit & 0x05)
        e->flags |= FLOAT_DIVZERO;
    if (hit & ~0x05u)
        e->flags |= FLOAT_INVALID;
    double largest = ldexp(2 - ldexp(1, 1 - (i32)t->precision), t->emax);
    switch (table >> 4 * token & 15) {
    case 0:
        return z;
    case 1:
        return src & (d == 0 ? 0 : ~0ull);
    case 2:
        return quieted(t, (d == 0 ? 0 : src) | (mask_low(8 * t->bytes - 1) & ~mask_low(t->precision - 1)));
    case 3:
        return indefinite_of(t);
    case 4:
        return bits_of(t, -INFINITY);
    case 5:
        return bits_of(t, INFINITY);
    case 6:
        return bits_of(t, sign_of(t, y) ? -INFINITY : INFINITY);
    case 7:
        return bits_of(t, -0.0);
    case 8:
        return 0;
    case 9:
        return bits_of(t, -1);
    case 10:
        return bits_of(t, 1);
    case 11:
        return bits_of(t, 0.5);
    case 12:
        return bits_of(t, 90);
    case 13:
        return t->bytes == 4 ? bits_of(t, (double)(float)M_PI_2) : bits_of(t, M_PI_2);
    case 14:
        return bits_of(t, largest);
    default:
        return bits_of(t, -largest);
    }
}

static bool class_model(const struct type *t, u64 y, unsigned imm, struct float_env *e)
{
    bool nan = nan_of(t, y), denormal = denormal_of(t, y) && (!e->daz || t->bytes == 2);
    double d = nan ? 1 : value_of(t, e->daz && t->bytes != 2 && denormal_of(t, y) ? y & BIT(8 * t->bytes - 1) : y);
    bool in[8] = {nan && quiet_of(t, y), d == 0 && !signbit(d), d == 0 && signbit(d),
                  d == INFINITY,         d == -INFINITY,        denormal,
                  d < 0 && !isinf(d),    nan && !quiet_of(t, y)};
    for (unsigned i = 0; i < 8; i++)
        if (imm >> i & 1 && in[i])
            return true;
    return false;
}

/* 32 predicates by their letters [SDM2 "Comparison Predicate for CMPPD and CMPPS Instructions"]. */
static bool predicate_model(const struct type *t, u64 x, u64 y, unsigned imm, struct float_env *e)
{
    static const char *const names[32] = {"eq_oq",  "lt_os",   "le_os",  "unord_q", "neq_uq",   "nlt_us",  "nle_us",
                                          "ord_q",  "eq_uq",   "nge_us", "ngt_us",  "false_oq", "neq_oq",  "ge_os",
                                          "gt_os",  "true_uq", "eq_os",  "lt_oq",   "le_oq",    "unord_s", "neq_us",
                                          "nlt_uq", "nle_uq",  "ord_s",  "eq_us",   "nge_uq",   "ngt_uq",  "false_os",
                                          "neq_os", "ge_oq",   "gt_oq",  "true_us"};
    const char *name = names[imm & 31], *s = name;
    bool nan_x = nan_of(t, x), nan_y = nan_of(t, y), unordered = nan_x || nan_y;
    bool loud = (nan_x && !quiet_of(t, x)) || (nan_y && !quiet_of(t, y));
    if (loud || (unordered && name[strlen(name) - 1] == 's'))
        e->flags |= FLOAT_INVALID;
    if (starts(&s, "unord"))
        return admitted(t, x, !unordered, e), admitted(t, y, !unordered, e), unordered;
    if (starts(&s, "ord"))
        return admitted(t, x, !unordered, e), admitted(t, y, !unordered, e), !unordered;
    x = admitted(t, x, !unordered, e);
    y = admitted(t, y, !unordered, e);
    if (starts(&s, "false") || starts(&s, "true"))
        return name[0] == 't';
    if (unordered)
        return strstr(name, "_u") != NULL;
    double a = value_of(t, x), b = value_of(t, y);
    bool negated = starts(&s, "n");
    bool holds = starts(&s, "eq")   ? a == b
                 : starts(&s, "lt") ? a < b
                 : starts(&s, "le") ? a <= b
                 : starts(&s, "ge") ? a >= b
                                    : a > b;
    return holds != negated;
}

/* [SDM2 "VCVTNE2PS2BF16": convert_fp32_to_bfloat16]: to nearest even of the value, by its distance to the two next. */
static u64 bf16_model(u64 y)
{
    u64 below = y & 0xffff0000u, above = below + 0x10000;
    if (nan_of(&single, y))
        return (y >> 16) | 0x40;
    if (denormal_of(&single, y))
        return y >> 16 & 0x8000;
    if (y << 33 == 0xffull << 56)
        return y >> 16;
    double d = fabs(value_of(&single, y)), under = d - fabs(value_of(&single, below));
    double over =
        (nan_of(&single, above) || isinf(value_of(&single, above)) ? 0x1p128 : fabs(value_of(&single, above))) - d;
    return (under < over || (under == over && !(below >> 16 & 1)) ? below : above) >> 16;
}
/* [SDM2 "VDPBF16PS": Operation]: two accumulations, the upper pair first. */
static u64 dot_model(u64 x, u64 y, u64 z)
{
    struct float_env own = {.masks = FLOAT_ALL, .daz = true, .ftz = true};
    u32 sum = (u32)z;
    for (unsigned upper = 2; upper-- > 0;)
        sum = f32_fma((u32)(x >> 16 * upper) << 16, (u32)(y >> 16 * upper) << 16, sum, 0, &own);
    return sum;
}

#endif
