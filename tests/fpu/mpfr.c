/* The arithmetic of cpu/softfloat.h and cpu/float_math.h against MPFR: binary16, binary32, binary64 and the 80-bit format;
 * every rounding mode and precision control, results, exception flags and their masks, denormals-are-zero and
 * flush-to-zero; conversions; the transcendental functions within a unit in the last place.
 *
 *     mpfr [--n ROUNDS] [--seed SEED|random]
 *
 * Operands are random bits, and numbers where things happen: near each other, near the ends of the ranges, few bits
 * set. Of NaNs only that they come out where something is invalid is asked here; which NaN wins is compared with
 * processors (tests/fpu/test_x87.c, test_sse.c, tests/insn).
 *
 * The reference rounds with MPFR's own rounding to the format's precision, first without bounds on the exponent, which
 * tells tininess "after rounding", then with them and mpfr_subnormalize().
 */
#include "cpu/float_math.h"
#include "cpu/softfloat.h"

#include <math.h>
#include <mpfr.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LONG = 300 };           /* bits of exact intermediate values */

static u64 seed = 1, random_state;
static unsigned long checked, failures;

static u64 random64(void)
{
    u64 z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static unsigned below(unsigned n) { return (unsigned)((random64() >> 32) * n >> 32); }

/* ---- formats ----------------------------------------------------------------------------------------------------- */

struct format {
    const char *name;
    unsigned bits, precision;
    i32 emax;
};
static const struct format f16 = {"f16", 16, 11, 15}, f32 = {"f32", 32, 24, 127}, f64 = {"f64", 64, 53, 1023},
                           f80 = {"f80", 80, 64, 16383};

/* A number of any format: an IEEE format's bits in `m`; the 80-bit format's significand there, its exponent in `x`. */
struct number {
    u64 m;
    u16 x;
};
static struct f80 to_f80(struct number n) { return (struct f80){n.m, n.x}; }
static struct number of_f80(struct f80 v) { return (struct number){v.mantissa, v.exponent}; }

struct parts {
    bool sign;
    i32 biased;
    u64 fraction;              /* without the leading bit */
};
static struct parts parts_of(const struct format *f, struct number n)
{
    if (f->bits == 80)
        return (struct parts){n.x >> 15, n.x & 0x7fff, n.m << 1 >> 1};
    unsigned fraction = f->precision - 1;
    return (struct parts){n.m >> (f->bits - 1) & 1, (i32)(n.m >> fraction & mask_low(f->bits - f->precision)),
                          n.m & mask_low(fraction)};
}
static struct number from_parts(const struct format *f, struct parts p)
{
    if (f->bits == 80)
        return (struct number){p.fraction | (p.biased ? BIT(63) : 0), (u16)(p.sign << 15 | p.biased)};
    return (struct number){(u64)p.sign << (f->bits - 1) | (u64)p.biased << (f->precision - 1) | p.fraction, 0};
}
static bool is_nan(const struct format *f, struct number n)
{
    struct parts p = parts_of(f, n);
    return p.biased == 2 * f->emax + 1 && p.fraction;
}
static bool is_denormal(const struct format *f, struct number n)
{
    struct parts p = parts_of(f, n);
    return p.biased == 0 && p.fraction;
}

/* An operand that is no NaN, nor one of the encodings that only the 80-bit format has. */
static struct number operand(const struct format *f, struct number near)
{
    struct parts p = {.sign = random64() & 1, .biased = (i32)(random64() & mask_low(14)) % (2 * f->emax + 1),
                      .fraction = random64() & mask_low(f->precision - 1)};
    switch (below(8)) {
    case 0: p.fraction &= ~0ull << below(f->precision - 1); break;
    case 1: p.fraction |= mask_low(below(f->precision - 1)); break;
    case 2: p.fraction = BIT(below(f->precision - 1)); break;
    case 3: p.fraction = 0; break;
    default: break;
    }
    switch (below(10)) {
    case 0: p.biased = (i32)below(3); break;
    case 1: p.biased = 2 * f->emax - (i32)below(3); break;
    case 2: p.biased = 0, p.fraction &= mask_low(below(f->precision - 1)); break;
    case 3: p.biased = 2 * f->emax + 1, p.fraction = 0; break;
    case 4: case 5: p.biased = f->emax - 8 + (i32)below(16); break;
    case 6: case 7: {
        i32 b = parts_of(f, near).biased + (i32)below(2 * f->precision + 6) - (i32)f->precision - 3;
        if (b >= 0 && b <= 2 * f->emax)
            p.biased = b;
        break;
    }
    default: break;
    }
    return from_parts(f, p);
}

static void exact(mpfr_t v, const struct format *f, struct number n, bool daz)
{
    struct parts p = parts_of(f, n);
    if (p.biased == 2 * f->emax + 1) {
        mpfr_set_inf(v, p.sign ? -1 : 1);
    } else if (p.biased == 0 && (p.fraction == 0 || daz)) {
        mpfr_set_zero(v, p.sign ? -1 : 1);
    } else {
        u64 sig = p.fraction | (p.biased ? BIT(f->precision - 1) : 0);
        mpfr_set_uj(v, sig, MPFR_RNDN);
        mpfr_mul_2si(v, v, (p.biased ? p.biased : 1) - f->emax - (i32)f->precision + 1, MPFR_RNDN);
        if (p.sign)
            mpfr_neg(v, v, MPFR_RNDN);
    }
}

/* The bits of a value that the format represents. */
static struct number encode(const struct format *f, mpfr_t v)
{
    struct parts p = {.sign = mpfr_signbit(v) != 0};
    if (mpfr_inf_p(v)) {
        p.biased = 2 * f->emax + 1;
    } else if (!mpfr_zero_p(v)) {
        mpfr_t t;
        mpfr_init2(t, 64);
        mpfr_abs(t, v, MPFR_RNDN);
        i32 e = (i32)mpfr_get_exp(t) - 1;
        i32 lowest = e < 1 - f->emax ? 1 - f->emax : e;
        mpfr_mul_2si(t, t, (i32)f->precision - 1 - lowest, MPFR_RNDN);
        u64 sig = mpfr_get_uj(t, MPFR_RNDN);
        p.biased = e < 1 - f->emax ? 0 : e + f->emax;
        p.fraction = sig & mask_low(f->precision - 1);
        mpfr_clear(t);
    }
    return from_parts(f, p);
}

/* ---- rounding by MPFR -------------------------------------------------------------------------------------------- */

static const mpfr_rnd_t modes[4] = {[ROUND_NEAREST] = MPFR_RNDN, [ROUND_DOWN] = MPFR_RNDD, [ROUND_UP] = MPFR_RNDU,
                                    [ROUND_ZERO] = MPFR_RNDZ};

enum operation { ADD, SUB, MUL, DIV, SQRT, FMA, MOVE, OPERATIONS };
static const char *const operation_names[] = {"add", "sub", "mul", "div", "sqrt", "fma", "move"};

static int compute(enum operation op, mpfr_t r, mpfr_t a, mpfr_t b, mpfr_t c, mpfr_rnd_t mode)
{
    switch (op) {
    case ADD: return mpfr_add(r, a, b, mode);
    case SUB: return mpfr_sub(r, a, b, mode);
    case MUL: return mpfr_mul(r, a, b, mode);
    case DIV: return mpfr_div(r, a, b, mode);
    case SQRT: return mpfr_sqrt(r, a, mode);
    case FMA: return mpfr_fma(r, a, b, c, mode);
    default: return mpfr_set(r, a, mode);
    }
}

/* What `op` gives in format f with `precision` bits, and the flags; the flags of the operands are the caller's. */
static struct number reference(enum operation op, const struct format *f, unsigned precision, mpfr_t a, mpfr_t b,
                               mpfr_t c, struct float_env *e)
{
    mpfr_rnd_t mode = modes[e->rounding];
    mpfr_exp_t was_emin = mpfr_get_emin(), was_emax = mpfr_get_emax();
    mpfr_t r, free_r;
    mpfr_init2(r, precision);
    mpfr_init2(free_r, precision);
    mpfr_clear_flags();
    int inexact = compute(op, free_r, a, b, c, mode);
    bool finite = mpfr_number_p(free_r), divzero = mpfr_divby0_p();
    bool tiny = finite && !mpfr_zero_p(free_r) && mpfr_get_exp(free_r) - 1 < 1 - f->emax;
    bool huge = finite && !mpfr_zero_p(free_r) && mpfr_get_exp(free_r) - 1 > f->emax;
    bool flush = e->ftz && f->bits != 16;
    struct number result;
    if (mpfr_nan_p(free_r)) {
        e->flags |= FLOAT_INVALID;
        result = (struct number){~0ull, 0x7fff};
    } else if ((tiny && !(e->masks & FLOAT_UNDERFLOW)) || (huge && !(e->masks & FLOAT_OVERFLOW))) {
        e->flags |= (tiny ? FLOAT_UNDERFLOW : FLOAT_OVERFLOW) | (inexact ? FLOAT_INEXACT : 0);
        mpfr_mul_2si(free_r, free_r, tiny ? 24576 : -24576, MPFR_RNDN);
        result = f->bits == 80 ? encode(f, free_r) : (struct number){0, 0};
    } else if (tiny && flush && e->masks & FLOAT_UNDERFLOW) {
        e->flags |= FLOAT_UNDERFLOW | FLOAT_INEXACT;
        mpfr_set_zero(r, mpfr_signbit(free_r) ? -1 : 1);
        result = encode(f, r);
    } else {
        mpfr_set(r, free_r, mode);
        mpfr_set_emin(2 - f->emax - (i32)precision + 1);
        mpfr_set_emax(f->emax + 1);
        if (finite)
            inexact = mpfr_check_range(r, inexact, mode);
        if (finite && tiny)
            inexact = mpfr_subnormalize(r, inexact, mode);
        mpfr_set_emin(was_emin);
        mpfr_set_emax(was_emax);
        e->flags |= (divzero ? FLOAT_DIVZERO : 0) | (huge ? FLOAT_OVERFLOW : 0) |
                    (tiny && inexact ? FLOAT_UNDERFLOW : 0) | (inexact && !divzero ? FLOAT_INEXACT : 0);
        result = encode(f, r);
    }
    mpfr_clear(r);
    mpfr_clear(free_r);
    return result;
}

/* ---- the functions under test ------------------------------------------------------------------------------------ */

#define CALL_IEEE(bits)                                                                                                \
    static struct number call##bits(enum operation op, struct number a, struct number b, struct number c,              \
                                    struct float_env *e)                                                               \
    {                                                                                                                  \
        u##bits x = (u##bits)a.m, y = (u##bits)b.m, z = (u##bits)c.m;                                                  \
        switch (op) {                                                                                                  \
        case ADD: return (struct number){f##bits##_add(x, y, e), 0};                                                   \
        case SUB: return (struct number){f##bits##_sub(x, y, e), 0};                                                   \
        case MUL: return (struct number){f##bits##_mul(x, y, e), 0};                                                   \
        case DIV: return (struct number){f##bits##_div(x, y, e), 0};                                                   \
        case SQRT: return (struct number){f##bits##_sqrt(x, e), 0};                                                    \
        default: return (struct number){f##bits##_fma(x, y, z, 0, e), 0};                                              \
        }                                                                                                              \
    }
CALL_IEEE(16)
CALL_IEEE(32)
CALL_IEEE(64)

static struct number call80(enum operation op, struct number a, struct number b, struct number c, struct float_env *e)
{
    (void)c;
    switch (op) {
    case ADD: return of_f80(f80_add(to_f80(a), to_f80(b), e));
    case SUB: return of_f80(f80_sub(to_f80(a), to_f80(b), e));
    case MUL: return of_f80(f80_mul(to_f80(a), to_f80(b), e));
    case DIV: return of_f80(f80_div(to_f80(a), to_f80(b), e));
    default: return of_f80(f80_sqrt(to_f80(a), e));
    }
}

static struct float_env random_env(void)
{
    static const u8 precisions[] = {24, 53, 64};
    return (struct float_env){.rounding = (u8)below(4), .precision = precisions[below(3)], .daz = below(4) == 0,
                              .ftz = below(4) == 0, .masks = below(3) ? FLOAT_ALL : (u8)(random64() & FLOAT_ALL)};
}

/* Compares result and flags. Where an exception is not masked, results of the IEEE formats mean nothing; of the early
 * ones (invalid, denormal, divide) only the flag does. */
static void compare(const char *what, const struct format *f, const struct float_env *before, struct number a,
                    struct number b, struct number c, struct number ours, u8 our_flags, struct number theirs,
                    u8 their_flags)
{
    enum { EARLY = FLOAT_INVALID | FLOAT_DENORMAL | FLOAT_DIVZERO };
    u8 live = before->masks;
    bool early = their_flags & ~live & EARLY, blocked = their_flags & ~live & FLOAT_ALL;
    if (early) {
        our_flags &= EARLY;
        their_flags &= EARLY;
    }
    bool free_result = f->bits == 80 ? early : blocked;
    bool same = is_nan(f, theirs) ? is_nan(f, ours) : ours.m == theirs.m && ours.x == theirs.x;
    checked++;
    if (our_flags == their_flags && (same || free_result))
        return;
    if (failures++ > 20)
        return;
    printf("%s %s: rounding %u masks %02x precision %u daz %d ftz %d\n  a %04x:%016llx b %04x:%016llx c %04x:%016llx\n"
           "  nestor %04x:%016llx flags %02x\n  mpfr   %04x:%016llx flags %02x\n", what, f->name, before->rounding,
           before->masks, before->precision, before->daz, before->ftz, a.x, (unsigned long long)a.m, b.x,
           (unsigned long long)b.m, c.x, (unsigned long long)c.m, ours.x, (unsigned long long)ours.m, our_flags,
           theirs.x, (unsigned long long)theirs.m, their_flags);
}

static void arithmetic(mpfr_t *v)
{
    static const struct format *const formats[] = {&f16, &f32, &f64, &f80};
    const struct format *f = formats[below(4)];
    enum operation op = below(f->bits == 80 ? 5 : 6);
    struct number a = operand(f, (struct number){0, 0}), b = operand(f, a), c = operand(f, a);
    struct float_env e = random_env();
    if (f->bits == 80)
        e.daz = e.ftz = false;
    if (op == FMA && below(2)) {       /* an addend near the product */
        struct float_env wide = {.masks = FLOAT_ALL};
        c = f->bits == 16 ? call16(MUL, a, b, c, &wide) : f->bits == 32 ? call32(MUL, a, b, c, &wide)
                                                                        : call64(MUL, a, b, c, &wide);
        c.m = is_nan(f, c) ? a.m : c.m ^ BIT(f->bits - 1) ^ below(4);
        if (is_nan(f, c))
            c = a;
    }
    bool daz = e.daz && f->bits != 16;
    exact(v[0], f, a, daz);
    exact(v[1], f, b, daz);
    exact(v[2], f, c, daz);
    struct float_env before = e, r = e;
    struct number theirs = reference(op, f, f->bits == 80 ? e.precision : f->precision, v[0], v[1], v[2], &r);
    bool two = op != SQRT, three = op == FMA;
    bool denormal = is_denormal(f, a) || (two && is_denormal(f, b)) || (three && is_denormal(f, c));
    if (denormal && !daz && !(r.flags & (FLOAT_INVALID | FLOAT_DIVZERO)))
        r.flags |= FLOAT_DENORMAL;
    struct number ours = f->bits == 16 ? call16(op, a, b, c, &e) : f->bits == 32 ? call32(op, a, b, c, &e)
                       : f->bits == 64 ? call64(op, a, b, c, &e) : call80(op, a, b, c, &e);
    compare(operation_names[op], f, &before, a, b, c, ours, e.flags, theirs, r.flags);
}

/* ---- conversions ------------------------------------------------------------------------------------------------- */

static void between_formats(mpfr_t *v)
{
    static const struct { const struct format *from, *to; } pairs[] = {
        {&f16, &f32}, {&f16, &f64}, {&f32, &f16}, {&f32, &f64}, {&f64, &f16}, {&f64, &f32}, {&f80, &f32}, {&f80, &f64}};
    unsigned pick = below(ARRAY_SIZE(pairs));
    const struct format *from = pairs[pick].from, *to = pairs[pick].to;
    struct number a = operand(from, (struct number){0, 0}), none = {0, 0}, ours;
    struct parts p = parts_of(from, a);
    if (below(3) && to->emax < from->emax && p.biased && p.biased != 2 * from->emax + 1) {      /* into its range */
        p.biased = from->emax - to->emax - (i32)to->precision - 2 + (i32)below(2 * (unsigned)to->emax + 40);
        p.biased = p.biased > 2 * from->emax ? from->emax : p.biased < 1 ? 1 : p.biased;
        a = from_parts(from, p);
    }
    struct float_env e = random_env();
    bool daz = e.daz && from->bits != 16 && from->bits != 80;
    if (from->bits == 80)
        e.ftz = e.daz = false;
    exact(v[0], from, a, daz);
    struct float_env before = e, r = e;
    struct number theirs = reference(MOVE, to, to->precision, v[0], v[0], v[0], &r);
    if (is_denormal(from, a) && !daz && from->bits != 80)
        r.flags |= FLOAT_DENORMAL;
    switch (pick) {
    case 0: ours.m = f32_from_f16((u16)a.m, &e); break;
    case 1: ours.m = f64_from_f16((u16)a.m, &e); break;
    case 2: ours.m = f16_from_f32((u32)a.m, &e); break;
    case 3: ours.m = f64_from_f32((u32)a.m, &e); break;
    case 4: ours.m = f16_from_f64(a.m, &e); break;
    case 5: ours.m = f32_from_f64(a.m, &e); break;
    case 6: ours.m = f80_to_f32(to_f80(a), &e); break;
    default: ours.m = f80_to_f64(to_f80(a), &e);
    }
    ours.x = 0;
    compare(from->name, to, &before, a, none, none, ours, e.flags, theirs, r.flags);
}

static void to_integers(mpfr_t *v)
{
    static const struct format *const formats[] = {&f16, &f32, &f64, &f80};
    const struct format *f = formats[below(4)];
    struct number a = operand(f, (struct number){0, 0}), none = {0, 0}, ours = none, theirs = none;
    struct parts p = parts_of(f, a);
    if (below(4) && p.biased && p.biased != 2 * f->emax + 1) {
        i32 top = f->emax < 66 ? f->emax : 66;
        p.biased = f->emax - 2 + (i32)below((unsigned)top + 3);
        a = from_parts(f, p);
    }
    struct float_env e = random_env();
    bool is_signed = f->bits == 80 || below(2);
    unsigned bits = below(2) ? 32 : 64, rounding = below(4);
    if ((f->bits == 16 || (f->bits == 80 && is_signed)) && below(3) == 0)
        bits = 16;
    bool daz = e.daz && f->bits != 16 && f->bits != 80;
    struct float_env before = e;
    before.rounding = (u8)rounding;
    u8 flags = 0;
    exact(v[0], f, a, daz);
    if (!mpfr_number_p(v[0])) {
        flags = FLOAT_INVALID;
    } else {
        int inexact = mpfr_rint(v[1], v[0], modes[rounding]);
        mpfr_set_ui(v[2], 1, MPFR_RNDN);
        mpfr_mul_2ui(v[2], v[2], is_signed ? bits - 1 : bits, MPFR_RNDN);
        bool fits = mpfr_cmp(v[1], v[2]) < 0;
        mpfr_neg(v[2], v[2], MPFR_RNDN);
        fits &= is_signed ? mpfr_cmp(v[1], v[2]) >= 0 : mpfr_sgn(v[1]) >= 0;
        flags = !fits ? FLOAT_INVALID : inexact ? FLOAT_INEXACT : 0;
        theirs.m = !fits ? 0 : mpfr_sgn(v[1]) < 0 ? (u64)mpfr_get_sj(v[1], MPFR_RNDN) : mpfr_get_uj(v[1], MPFR_RNDN);
    }
    if (flags & FLOAT_INVALID)
        theirs.m = is_signed ? BIT(bits - 1) : ~0ull;
    theirs.m &= mask_low(bits);
#define TO(f, x)                                                                                                       \
    (is_signed ? bits == 64 ? (u64)f##_to_i64(x, rounding, &e) : (u64)f##_to_i32(x, rounding, &e)                      \
               : bits == 64 ? f##_to_u64(x, rounding, &e) : f##_to_u32(x, rounding, &e))
    if (f->bits == 80)
        ours.m = bits == 16 ? (u64)f80_to_i16(to_f80(a), rounding, &e)
               : bits == 32 ? (u64)f80_to_i32(to_f80(a), rounding, &e) : (u64)f80_to_i64(to_f80(a), rounding, &e);
    else if (bits == 16)
        ours.m = is_signed ? (u64)f16_to_i16((u16)a.m, rounding, &e) : f16_to_u16((u16)a.m, rounding, &e);
    else
        ours.m = f->bits == 16 ? TO(f16, (u16)a.m) : f->bits == 32 ? TO(f32, (u32)a.m) : TO(f64, a.m);
    ours.m &= mask_low(bits);
    before.masks = FLOAT_ALL;
    static const struct format integer = {"integer", 80, 64, 16383};
    ours.x = theirs.x = 0;
    compare(is_signed ? "to signed" : "to unsigned", &integer, &before, a, none, none, ours, e.flags, theirs, flags);
}

static void from_integers(mpfr_t *v)
{
    static const struct format *const formats[] = {&f16, &f32, &f64};
    const struct format *f = formats[below(3)];
    bool is_signed = below(2);
    struct number a = {random64() >> below(64), 0}, none = {0, 0}, ours;
    if (below(2))
        a.m = 0 - a.m;
    struct float_env e = random_env(), before = e, r = e;
    if (is_signed)
        mpfr_set_sj(v[0], (i64)a.m, MPFR_RNDN);
    else
        mpfr_set_uj(v[0], a.m, MPFR_RNDN);
    struct number theirs = reference(MOVE, f, f->precision, v[0], v[0], v[0], &r);
    if (f->bits == 16)
        ours.m = is_signed ? f16_from_i64((i64)a.m, &e) : f16_from_u64(a.m, &e);
    else if (f->bits == 32)
        ours.m = is_signed ? f32_from_i64((i64)a.m, &e) : f32_from_u64(a.m, &e);
    else
        ours.m = is_signed ? f64_from_i64((i64)a.m, &e) : f64_from_u64(a.m, &e);
    ours.x = 0;
    compare(is_signed ? "from signed" : "from unsigned", f, &before, a, none, none, ours, e.flags, theirs, r.flags);
}

/* Rounding to binary digits, and scaling by powers of two. */
static void round_and_scale(mpfr_t *v)
{
    static const struct format *const formats[] = {&f16, &f32, &f64};
    const struct format *f = formats[below(3)];
    struct number a = operand(f, (struct number){0, 0}), b = operand(f, (struct number){0, 0}), none = {0, 0}, ours;
    struct float_env e = random_env();
    bool daz = e.daz && f->bits != 16, scale = below(2);
    struct float_env before = e, r = e;
    unsigned digits = below(16);
    exact(v[0], f, a, daz);
    if (scale) {
        exact(v[1], f, b, daz);
        if (!mpfr_number_p(v[0]) || mpfr_zero_p(v[0]) || !mpfr_number_p(v[1]))
            return;                    /* special cases are those of tests/fpu/test_evex_float.c */
        mpfr_floor(v[1], v[1]);
        long by = mpfr_cmp_si(v[1], 100000) > 0 ? 100000 : mpfr_cmp_si(v[1], -100000) < 0 ? -100000
                                                                                         : mpfr_get_si(v[1], MPFR_RNDN);
        mpfr_mul_2si(v[0], v[0], by, MPFR_RNDN);
        struct number theirs = reference(MOVE, f, f->precision, v[0], v[0], v[0], &r);
        r.flags |= is_denormal(f, a) && !daz ? FLOAT_DENORMAL : 0;
        ours.m = f->bits == 16 ? f16_scalef((u16)a.m, (u16)b.m, &e) : f->bits == 32 ? f32_scalef((u32)a.m, (u32)b.m, &e)
                                                                                    : f64_scalef(a.m, b.m, &e);
        ours.x = 0;
        compare("scalef", f, &before, a, b, none, ours, e.flags, theirs, r.flags);
        return;
    }
    u8 flags = 0;
    if (mpfr_number_p(v[0])) {
        mpfr_mul_2ui(v[1], v[0], digits, MPFR_RNDN);
        flags = mpfr_rint(v[2], v[1], modes[e.rounding]) ? FLOAT_INEXACT : 0;
        if (mpfr_zero_p(v[2]))
            mpfr_set_zero(v[2], mpfr_signbit(v[0]) ? -1 : 1);
        mpfr_div_2ui(v[0], v[2], digits, MPFR_RNDN);
    }
    ours.m = f->bits == 16 ? f16_round((u16)a.m, digits, e.rounding, true, &e)
           : f->bits == 32 ? f32_round((u32)a.m, digits, e.rounding, true, &e)
                           : f64_round(a.m, digits, e.rounding, true, &e);
    ours.x = 0;
    compare("round", f, &before, a, none, none, ours, e.flags, encode(f, v[0]), flags);
}

/* ---- transcendental functions ------------------------------------------------------------------------------------ */

/* By how many units in the last place of the result the value v lies off. */
static double ulps_off(struct f80 result, mpfr_t v)
{
    mpfr_t r, d;
    mpfr_inits2(LONG, r, d, (mpfr_ptr)0);
    exact(r, &f80, of_f80(result), false);
    mpfr_sub(d, r, v, MPFR_RNDN);
    i32 biased = result.exponent & 0x7fff;
    mpfr_mul_2si(d, d, 63 + 16383 - (biased ? biased : 1), MPFR_RNDN);
    double off = fabs(mpfr_get_d(d, MPFR_RNDN));
    mpfr_clears(r, d, (mpfr_ptr)0);
    return off;
}

static void expect_close(const char *name, struct f80 a, struct f80 b, struct f80 ours, mpfr_t v)
{
    double off = ulps_off(ours, v);    /* rounded itself: 1 may be a little less */
    checked++;
    if (off <= 1.0 || failures++ > 20)
        return;
    printf("%s: a %04x:%016llx b %04x:%016llx gives %04x:%016llx, off by %g units\n", name, a.exponent,
           (unsigned long long)a.mantissa, b.exponent, (unsigned long long)b.mantissa, ours.exponent,
           (unsigned long long)ours.mantissa, off);
}

/* x less the nearest multiple of half of the processor's pi; the quadrant. */
static unsigned reduce(mpfr_t r, mpfr_t x)
{
    mpfr_t half_pi, k;
    mpfr_inits2(LONG, half_pi, k, (mpfr_ptr)0);
    mpfr_set_str(half_pi, "0.c90fdaa22168c234c", 16, MPFR_RNDN);      /* 66 bits of pi / 4, times 4 */
    mpfr_mul_2ui(half_pi, half_pi, 1, MPFR_RNDN);
    mpfr_div(k, x, half_pi, MPFR_RNDN);
    mpfr_rint(k, k, MPFR_RNDN);
    mpfr_fms(r, k, half_pi, x, MPFR_RNDN);
    mpfr_neg(r, r, MPFR_RNDN);
    i64 n = mpfr_get_sj(k, MPFR_RNDN);
    mpfr_clears(half_pi, k, (mpfr_ptr)0);
    return (unsigned)(n & 3);
}

static struct f80 moderate(i32 lowest, i32 highest)
{
    i32 exponent = lowest + (i32)below((unsigned)(highest - lowest + 1));
    u64 m = BIT(63) | random64();
    if (below(4) == 0)
        m = BIT(63) | (m & ~0ull << below(63));
    return (struct f80){m, (u16)((random64() & 0x8000) | (u64)(16383 + exponent))};
}

static void transcendental(mpfr_t *v)
{
    struct float_env e = {.rounding = (u8)below(4), .masks = FLOAT_ALL, .precision = 64};
    struct f80 none = {0, 0}, a, b, s, c;
    switch (below(5)) {
    case 0:
        a = moderate(-80, -1);
        exact(v[0], &f80, of_f80(a), false);
        mpfr_exp2(v[1], v[0], MPFR_RNDN);
        mpfr_sub_ui(v[1], v[1], 1, MPFR_RNDN);
        expect_close("2^x - 1", a, none, f80_exp2_minus_1(a, &e), v[1]);
        break;
    case 1:
        a = moderate(below(2) ? -2 : -16000, below(2) ? 1 : 16000);
        a.exponent &= 0x7fff;
        b = moderate(-20, 20);
        exact(v[0], &f80, of_f80(a), false);
        exact(v[1], &f80, of_f80(b), false);
        mpfr_log2(v[0], v[0], MPFR_RNDN);
        mpfr_mul(v[0], v[0], v[1], MPFR_RNDN);
        if (!mpfr_zero_p(v[0]))
            expect_close("y log2 x", a, b, f80_y_log2(a, b, &e), v[0]);
        break;
    case 2:
        a = moderate(-70, -3);
        b = moderate(-20, 20);
        exact(v[0], &f80, of_f80(a), false);
        exact(v[1], &f80, of_f80(b), false);
        mpfr_log1p(v[0], v[0], MPFR_RNDN);
        mpfr_const_log2(v[2], MPFR_RNDN);
        mpfr_div(v[0], v[0], v[2], MPFR_RNDN);
        mpfr_mul(v[0], v[0], v[1], MPFR_RNDN);
        expect_close("y log2 (x + 1)", a, b, f80_y_log2_plus_1(a, b, &e), v[0]);
        break;
    case 3:
        a = moderate(-60, 60);
        b = moderate(-60, 60);
        exact(v[0], &f80, of_f80(a), false);
        exact(v[1], &f80, of_f80(b), false);
        mpfr_atan2(v[0], v[0], v[1], MPFR_RNDN);
        expect_close("arctangent", a, b, f80_arctangent(a, b, &e), v[0]);
        break;
    default:
        a = moderate(below(2) ? -70 : -3, below(2) ? 3 : 62);
        exact(v[0], &f80, of_f80(a), false);
        unsigned quadrant = reduce(v[1], v[0]);
        mpfr_sin_cos(v[2], v[3], v[1], MPFR_RNDN);
        if (quadrant & 1) {
            mpfr_swap(v[2], v[3]);
            mpfr_neg(v[3], v[3], MPFR_RNDN);
        }
        if (quadrant & 2) {
            mpfr_neg(v[2], v[2], MPFR_RNDN);
            mpfr_neg(v[3], v[3], MPFR_RNDN);
        }
        if (!f80_sine_cosine(a, &s, &c, &e) || mpfr_zero_p(v[2]) || mpfr_zero_p(v[3]))
            break;
        expect_close("sine", a, none, s, v[2]);
        expect_close("cosine", a, none, c, v[3]);
        mpfr_div(v[2], v[2], v[3], MPFR_RNDN);
        if (f80_tangent(a, &s, &e))
            expect_close("tangent", a, none, s, v[2]);
    }
}

int main(int argc, char **argv)
{
    unsigned long rounds = 250000;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--n") && i + 1 < argc)
            rounds = strtoul(argv[++i], NULL, 0);
        else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
            seed = !strcmp(argv[++i], "random") ? (u64)time(NULL) : strtoull(argv[i], NULL, 0);
        else
            return fprintf(stderr, "usage: mpfr [--n ROUNDS] [--seed SEED|random]\n"), 64;
    }
    mpfr_t v[4];
    for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
        mpfr_init2(v[i], LONG);
    random_state = seed;
    for (unsigned long i = 0; i < rounds; i++) {
        arithmetic(v);
        between_formats(v);
        to_integers(v);
        from_integers(v);
        round_and_scale(v);
        if (i % 8 == 0)
            transcendental(v);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(v); i++)
        mpfr_clear(v[i]);
    mpfr_free_cache();
    printf("mpfr: seed %llu, %lu results compared, %lu differences\n", (unsigned long long)seed, checked, failures);
    return failures ? 1 : 0;
}
