/* Transcendental functions (cpu/float_math.h).
 *
 * Everything is computed with 128-bit significands (struct wide), by series after a reduction of the argument, to about
 * 2^-120 of the value, and then rounded once to 64 bits by the rounding control. A result that is not exact is never
 * mistaken for an exact one: what is left of it below 128 bits is a sticky bit, and where a function lies close to its
 * argument or to one (sine, tangent, arctangent, cosine of small angles) on the right side of it.
 *
 * Trigonometric arguments are reduced by the 66-bit value of pi that the manual names, exactly [SDM1 "Approximation of
 * Pi"]. Operands for which a function has a limit or nothing: the tables of [SDM2 "FYL2X—...", "FPATAN—...",
 * "F2XM1—...", "FSIN—..."].
 */
#include "cpu/float_math.h"

#define TOP128 ((u128)1 << 127)
#define WIDE(high, low) ((u128)(high) << 64 | (low))

/* (-1)^sign * sig / 2^127 * 2^exp; bit 127 of sig is set, or the number is zero (sig = 0). */
struct wide {
    u128 sig;
    i32 exp;
    bool sign;
};

static const struct wide wide_ln2 = {WIDE(0xb17217f7d1cf79abull, 0xc9e3b39803f2f6afull), -1, false};
static const struct wide wide_log2e = {WIDE(0xb8aa3b295c17f0bbull, 0xbe87fed0691d3e89ull), 0, false};
static const struct wide wide_pi = {WIDE(0xc90fdaa22168c234ull, 0xc4c6628b80dc1cd1ull), 1, false};
static const struct wide wide_one = {TOP128, 0, false};

/* ---- arithmetic, truncating -------------------------------------------------------------------------------------- */

static struct wide wide_normal(bool sign, i32 exp, u128 sig)
{
    if (sig == 0)
        return (struct wide){0, 0, sign};
    int shift = (u64)(sig >> 64) ? __builtin_clzll((u64)(sig >> 64)) : 64 + __builtin_clzll((u64)sig);
    return (struct wide){sig << shift, exp - shift, sign};
}

static struct wide wide_of(struct float_number x) { return (struct wide){(u128)x.sig << 64, x.exp, x.sign}; }

static struct wide wide_integer(i64 v)
{
    return wide_normal(v < 0, 127, (u128)(v < 0 ? 0 - (u64)v : (u64)v));
}

static struct wide wide_scaled(struct wide a, i32 by)
{
    a.exp += by;
    return a;
}

static struct wide wide_multiply(struct wide a, struct wide b)
{
    u64 ah = (u64)(a.sig >> 64), al = (u64)a.sig, bh = (u64)(b.sig >> 64), bl = (u64)b.sig;
    u128 middle = (u128)ah * bl, other = (u128)al * bh, low = (u128)al * bl;
    u128 carry = (u128)(u64)middle + (u64)other + (u64)(low >> 64);
    u128 high = (u128)ah * bh + (middle >> 64) + (other >> 64) + (carry >> 64);
    if (high == 0)
        return (struct wide){0, 0, false};
    if (high >> 127)
        return (struct wide){high, a.exp + b.exp + 1, a.sign != b.sign};
    return (struct wide){high << 1 | (carry >> 63 & 1), a.exp + b.exp, a.sign != b.sign};
}

static struct wide wide_add(struct wide a, struct wide b)
{
    if (a.sig == 0)
        return b;
    if (b.sig == 0)
        return a;
    if (a.exp < b.exp || (a.exp == b.exp && a.sig < b.sig)) {
        struct wide t = a;
        a = b;
        b = t;
    }
    u32 d = (u32)(a.exp - b.exp);
    u128 s = d < 128 ? b.sig >> d : 0;
    if (a.sign == b.sign) {
        u128 sum = a.sig + s;
        if (sum < s)
            return (struct wide){sum >> 1 | TOP128, a.exp + 1, a.sign};
        return (struct wide){sum, a.exp, a.sign};
    }
    return wide_normal(a.sign, a.exp, a.sig - s);
}

static struct wide wide_negated(struct wide a)
{
    a.sign = !a.sign;
    return a;
}

/* a / b by long division, one bit at a time. */
static struct wide wide_divide(struct wide a, struct wide b)
{
    u128 r = a.sig, q = 0;
    i32 exp = a.exp - b.exp;
    bool extra = false;
    if (a.sig == 0)
        return a;
    if (r < b.sig) {
        extra = (r >> 127) != 0;
        r <<= 1;
        exp--;
    }
    for (unsigned i = 0; i < 128; i++) {
        q <<= 1;
        if (extra || r >= b.sig) {
            r -= b.sig;
            q |= 1;
        }
        extra = (r >> 127) != 0;
        r <<= 1;
    }
    return (struct wide){q, exp, a.sign != b.sign};
}

static struct wide wide_divide_small(struct wide a, u32 n) { return wide_normal(a.sign, a.exp, a.sig / n); }

/* The number next to a (not zero), nearer to zero. */
static struct wide wide_below(struct wide a)
{
    if (a.sig == TOP128)
        return (struct wide){~(u128)0, a.exp - 1, a.sign};
    a.sig--;
    return a;
}

/* The sum of first * coefficient products: sum over k of term, where term(k+1) = term(k) * factor / divisor(k).
 * Terms fall quickly. */
#define SERIES(sum, first, factor, divisor)                                                                            \
    do {                                                                                                               \
        struct wide term_ = (first);                                                                                   \
        (sum) = term_;                                                                                                 \
        for (u32 k = 1; k < 64; k++) {                                                                                 \
            term_ = wide_divide_small(wide_multiply(term_, (factor)), (divisor));                                      \
            if (term_.sig == 0 || term_.exp < (sum).exp - 130)                                                         \
                break;                                                                                                 \
            (sum) = wide_add((sum), term_);                                                                            \
        }                                                                                                              \
    } while (0)

/* Rounds to the 80-bit format, always to 64 bits. `exact`: the value has no more bits than sig holds. */
static struct f80 wide_round(struct wide a, bool exact, struct float_env *e)
{
    u8 precision = e->precision;
    e->precision = 64;
    struct f80 r = f80_pack(a.sign, a.exp, (u64)(a.sig >> 64), (u64)a.sig | !exact, e);
    e->precision = precision;
    return r;
}

/* ---- special values ---------------------------------------------------------------------------------------------- */

static struct f80 f80_zero(bool sign) { return (struct f80){0, (u16)(sign << 15)}; }
static struct f80 f80_infinity(bool sign) { return (struct f80){1ull << 63, (u16)(sign << 15 | 0x7fff)}; }
static struct f80 f80_invalid(struct float_env *e)
{
    e->flags |= FLOAT_INVALID;
    return F80_NAN;
}
/* Reports denormal operands; true when that ends the operation. */
static bool f80_denormal(bool any, struct float_env *e)
{
    if (any)
        e->flags |= FLOAT_DENORMAL;
    return any && !(e->masks & FLOAT_DENORMAL);
}

/* ---- exponentials and logarithms --------------------------------------------------------------------------------- */

struct f80 f80_exp2_minus_1(struct f80 a, struct float_env *e)
{
    struct float_number x = f80_unpack(a);
    if (x.class >= FLOAT_NAN)
        return f80_propagate(a, a, e);
    if (x.class == FLOAT_ZERO)
        return a;
    if (x.class == FLOAT_INFINITY)
        return x.sign ? (struct f80){1ull << 63, 0xbfff} : a;
    if (f80_denormal(x.denormal, e))
        return a;
    if (x.exp >= 0) {
        e->flags |= FLOAT_INEXACT; /* processors say so even of -1 and 1 */
        return x.sign && x.exp == 0 && x.sig == 1ull << 63 ? (struct f80){1ull << 63, 0xbffe} : a;
    }
    struct wide y = wide_multiply(wide_of(x), wide_ln2), sum;
    SERIES(sum, y, y, k + 1);
    return wide_round(sum, false, e);
}

/* ln((1 + t) / (1 - t)) = 2 artanh t for |t| < 0.18. */
static struct wide twice_artanh(struct wide t)
{
    struct wide sum = t, power = t, square = wide_multiply(t, t);
    for (u32 k = 3; k < 128; k += 2) {
        power = wide_multiply(power, square);
        if (power.sig == 0 || power.exp < t.exp - 130)
            break;
        sum = wide_add(sum, wide_divide_small(power, k));
    }
    return wide_scaled(sum, 1);
}

/* log2 of a positive number; *exact when it is a power of two. */
static struct wide wide_log2(struct wide x, bool *exact)
{
    i32 exp = x.exp;
    *exact = x.sig == TOP128;
    if (*exact)
        return wide_integer(exp);
    x.exp = 0;
    if (x.sig > WIDE(0xb504f333f9de6484ull, 0)) {      /* above the root of two */
        x.exp = -1;
        exp++;
    }
    struct wide t = wide_divide(wide_add(x, wide_negated(wide_one)), wide_add(x, wide_one));
    return wide_add(wide_integer(exp), wide_multiply(twice_artanh(t), wide_log2e));
}

struct f80 f80_y_log2(struct f80 x80, struct f80 y80, struct float_env *e)
{
    struct float_number x = f80_unpack(x80), y = f80_unpack(y80);
    bool exact;
    if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)
        return f80_propagate(x80, y80, e);
    if (x.sign && x.class != FLOAT_ZERO)
        return f80_invalid(e);
    bool one = x.class == FLOAT_NORMAL && x.exp == 0 && x.sig == 1ull << 63;
    bool negative = x.class == FLOAT_ZERO || (x.class == FLOAT_NORMAL && x.exp < 0);     /* the logarithm is */
    bool infinite = x.class == FLOAT_ZERO || x.class == FLOAT_INFINITY;
    if ((infinite && y.class == FLOAT_ZERO) || (one && y.class == FLOAT_INFINITY))
        return f80_invalid(e);
    if (x.class == FLOAT_ZERO && y.class == FLOAT_NORMAL) {
        e->flags |= FLOAT_DIVZERO;
        return f80_infinity(!y.sign);
    }
    if (f80_denormal(x.denormal || y.denormal, e))
        return x80;
    if (infinite || y.class == FLOAT_INFINITY)
        return f80_infinity(y.sign != negative);
    if (y.class == FLOAT_ZERO || one)
        return f80_zero(y.sign != negative);
    struct wide log = wide_log2(wide_of(x), &exact);
    e->flags |= FLOAT_INEXACT; /* processors say so even of exact results */
    return wide_round(wide_multiply(wide_of(y), log), exact, e);
}

struct f80 f80_y_log2_plus_1(struct f80 x80, struct f80 y80, struct float_env *e)
{
    struct float_number x = f80_unpack(x80), y = f80_unpack(y80);
    bool exact = false;
    if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)
        return f80_propagate(x80, y80, e);
    bool below = x.sign && x.class != FLOAT_ZERO && (x.class == FLOAT_INFINITY || x.exp >= 0);     /* x <= -1 */
    bool minus_one = below && x.class == FLOAT_NORMAL && x.exp == 0 && x.sig == 1ull << 63;
    if ((below && !minus_one) || (x.class == FLOAT_INFINITY && y.class == FLOAT_ZERO) ||
        (x.class == FLOAT_ZERO && y.class == FLOAT_INFINITY) || (minus_one && y.class == FLOAT_ZERO))
        return f80_invalid(e);
    if (minus_one && y.class == FLOAT_NORMAL) {
        e->flags |= FLOAT_DIVZERO;
        return f80_infinity(!y.sign);
    }
    if (f80_denormal(x.denormal || y.denormal, e))
        return x80;
    if (x.class == FLOAT_INFINITY || y.class == FLOAT_INFINITY)
        return f80_infinity(y.sign != x.sign);
    if (x.class == FLOAT_ZERO || y.class == FLOAT_ZERO)
        return f80_zero(y.sign != x.sign);
    struct wide w = wide_of(x), log;
    if (x.exp < -2) {
        /* ln(1 + x) = 2 artanh(x / (2 + x)), without loss near zero. */
        struct wide t = wide_divide(w, wide_add(wide_scaled(wide_one, 1), w));
        log = wide_multiply(twice_artanh(t), wide_log2e);
    } else {
        log = wide_log2(wide_add(wide_one, w), &exact);
    }
    return wide_round(wide_multiply(wide_of(y), log), exact, e);
}

/* ---- arctangent -------------------------------------------------------------------------------------------------- */

/* The arctangent of k / 8. */
static const struct wide arctangent_eighths[9] = {
    {0, 0, false},
    {WIDE(0xfeadd4d5617b6e32ull, 0xc897989f3e888ef8ull), -4, false},
    {WIDE(0xfadbafc96406eb15ull, 0x6dc79ef5f7a217e6ull), -3, false},
    {WIDE(0xb7b0ca0f26f78473ull, 0x8aa32122dcfe4483ull), -2, false},
    {WIDE(0xed63382b0dda7b45ull, 0x6fe445ecbc3a8d03ull), -2, false},
    {WIDE(0x8f005d5ef7f59f9bull, 0x5c835e1665c43748ull), -1, false},
    {WIDE(0xa4bc7d1934f70924ull, 0x19a87f2a457dac9full), -1, false},
    {WIDE(0xb8053e2bc2319e73ull, 0xcb2da55210a4443dull), -1, false},
    {WIDE(0xc90fdaa22168c234ull, 0xc4c6628b80dc1cd1ull), -1, false},
};

/* The arctangent of 0 < r <= 1: of the nearest k / 8, and of the small rest (8 r - k) / (8 + k r). */
static struct wide wide_arctangent(struct wide r)
{
    unsigned k = 0;
    if (r.exp >= -4)           /* 1/16 and more */
        k = ((unsigned)(r.sig >> (123 - r.exp)) + 1) / 2;
    struct wide u = r;
    if (k) {
        struct wide above = wide_add(wide_scaled(r, 3), wide_integer(-(i64)k));
        u = wide_divide(above, wide_add(wide_integer(8), wide_multiply(r, wide_integer(k))));
        if (u.sig == 0)
            return arctangent_eighths[k];
    }
    struct wide sum = u, power = u, square = wide_negated(wide_multiply(u, u));
    for (u32 n = 3; n < 128; n += 2) {
        power = wide_multiply(power, square);
        if (power.sig == 0 || power.exp < u.exp - 130)
            break;
        sum = wide_add(sum, wide_divide_small(power, n));
    }
    if (k == 0 && sum.sig == u.sig && sum.exp == u.exp)
        return wide_below(sum);
    return wide_add(arctangent_eighths[k], sum);
}

struct f80 f80_arctangent(struct f80 y80, struct f80 x80, struct float_env *e)
{
    struct float_number x = f80_unpack(x80), y = f80_unpack(y80);
    struct wide angle;
    if (x.class >= FLOAT_NAN || y.class >= FLOAT_NAN)
        return f80_propagate(x80, y80, e);
    if (f80_denormal(x.denormal || y.denormal, e))
        return x80;
    if (y.class == FLOAT_ZERO || (x.class == FLOAT_INFINITY && y.class != FLOAT_INFINITY)) {
        if (!x.sign)
            return f80_zero(y.sign);
        angle = wide_pi;
    } else if (y.class == FLOAT_INFINITY) {
        angle = wide_scaled(wide_pi, -1);
        if (x.class == FLOAT_INFINITY) {
            angle = wide_scaled(wide_pi, -2);
            if (x.sign)
                angle = wide_add(wide_scaled(angle, 1), angle);
        }
    } else if (x.class == FLOAT_ZERO) {
        angle = wide_scaled(wide_pi, -1);
    } else {
        struct wide a = wide_of(y), b = wide_of(x);
        a.sign = b.sign = false;
        bool steep = a.exp > b.exp || (a.exp == b.exp && a.sig > b.sig);
        struct wide r = steep ? wide_divide(b, a) : wide_divide(a, b);
        angle = wide_arctangent(r);
        if (steep)
            angle = wide_add(wide_scaled(wide_pi, -1), wide_negated(angle));
        if (x.sign)
            angle = wide_add(wide_pi, wide_negated(angle));
    }
    angle.sign = y.sign;
    return wide_round(angle, false, e);
}

/* ---- sine, cosine, tangent --------------------------------------------------------------------------------------- */

/* Reduces a normal number below 2^63 to an angle of at most pi / 4 on either side of a multiple of pi / 2; returns
 * that multiple modulo 4. */
static unsigned reduce(struct float_number x, struct wide *angle)
{
    /* 66 bits of pi; half of pi in units of 2^-65. */
    static const u128 half_pi = WIDE(0x3, 0x243f6a8885a308d3ull);
    *angle = wide_of(x);
    if (x.exp < -1)            /* below 1/2 */
        return 0;
    u128 v = (u128)x.sig << (x.exp + 2), rest = v % half_pi;
    u64 multiple = (u64)(v / half_pi);
    bool past = rest > half_pi / 2;
    *angle = wide_normal(x.sign != past, 127 - 65, past ? half_pi - rest : rest);
    multiple += past;
    return (unsigned)(x.sign ? 0 - multiple : multiple) & 3;
}

static struct wide wide_sine(struct wide a)
{
    struct wide sum, square = wide_negated(wide_multiply(a, a));
    if (a.sig == 0)
        return a;
    SERIES(sum, a, square, 2 * k * (2 * k + 1));
    if (sum.sig == a.sig && sum.exp == a.exp)
        return wide_below(sum);
    return sum;
}

static struct wide wide_cosine(struct wide a)
{
    struct wide sum, square = wide_negated(wide_multiply(a, a));
    if (a.sig == 0)
        return wide_one;
    SERIES(sum, wide_one, square, 2 * k * (2 * k - 1));
    if (sum.sig == TOP128 && sum.exp == 0)
        return wide_below(sum);
    return sum;
}

/* What the three have in common: false when the operand is too large; *done when *result is their result already. */
static bool trigonometric_operand(struct f80 a, struct float_number *x, struct f80 *result, bool *done,
                                  struct float_env *e)
{
    *x = f80_unpack(a);
    *done = true;
    *result = a;
    if (x->class >= FLOAT_NAN)
        *result = f80_propagate(a, a, e);
    else if (x->class == FLOAT_INFINITY)
        *result = f80_invalid(e);
    else if (x->class == FLOAT_NORMAL && x->exp >= 63)
        return false;
    else
        *done = f80_denormal(x->denormal, e);
    return true;
}

bool f80_sine_cosine(struct f80 a, struct f80 *sine, struct f80 *cosine, struct float_env *e)
{
    struct float_number x;
    struct f80 result;
    struct wide angle;
    bool done;
    if (!trigonometric_operand(a, &x, &result, &done, e))
        return false;
    if (done || x.class == FLOAT_ZERO) {
        if (sine)
            *sine = result;
        if (cosine)
            *cosine = done ? result : (struct f80){1ull << 63, 0x3fff};
        return true;
    }
    unsigned quadrant = reduce(x, &angle);
    struct wide s = wide_sine(angle), c = wide_cosine(angle);
    if (cosine) {
        struct wide r = quadrant & 1 ? s : c;
        r.sign ^= quadrant == 1 || quadrant == 2;
        *cosine = wide_round(r, r.sig == 0, e);
    }
    if (sine) {                /* last: C1 tells of the sine's rounding */
        struct wide r = quadrant & 1 ? c : s;
        r.sign ^= quadrant >= 2;
        *sine = wide_round(r, r.sig == 0, e);
    }
    return true;
}

bool f80_tangent(struct f80 a, struct f80 *tangent, struct float_env *e)
{
    struct float_number x;
    struct wide angle;
    bool done;
    if (!trigonometric_operand(a, &x, tangent, &done, e))
        return false;
    if (done || x.class == FLOAT_ZERO)
        return true;
    unsigned quadrant = reduce(x, &angle);
    struct wide s = wide_sine(angle), c = wide_cosine(angle), r;
    if (angle.sig == 0) {      /* a multiple of the 66-bit half pi: cannot be with 64 bits, except zero */
        *tangent = f80_zero(x.sign);
        return true;
    }
    r = quadrant & 1 ? wide_negated(wide_divide(c, s)) : wide_divide(s, c);
    if (!(quadrant & 1) && r.sig <= angle.sig && r.exp == angle.exp)     /* a little above its angle */
        r.sig = angle.sig;
    *tangent = wide_round(r, false, e);
    return true;
}
