/* The transcendental functions: against values computed with 400 bits elsewhere (the correctly rounded ones are
 * expected), and the instructions against the host CPU, which may differ by a unit in the last place. */
#include "cpu/float_math.h"
#include "native.h"

#define ROUNDS 3000

static const struct known { const char *function; struct f80 a, b, result; } known[] = {
    {"atan2", {0xd9562dc48a4c38fa, 0x3ffc}, {0x80a6885f8213882f, 0xc004}, {0xc8a3bc9cbe8c90b8, 0x4000}},
    {"atan2", {0xea1347e45e63811d, 0x4007}, {0xacb160cf1dc88589, 0x3ffa}, {0xc90ce7291e27c689, 0x3fff}},
    {"atan2", {0x9e953b717ad7d6e3, 0xbff7}, {0xaad1f0a2202cbaf3, 0xbff8}, {0xad3fa03f0458541e, 0xc000}},
    {"atan2", {0xfd9a288b4eb7322a, 0xc006}, {0xa595322021e972fb, 0xc003}, {0xd37c5054e012b125, 0xbfff}},
    {"cos", {0xceff907af188b095, 0x4016}, {0xceff907af188b095, 0x4016}, {0xe7e3dfb80e3f1d76, 0xbffe}},
    {"cos", {0x87ae39b0f3e4299c, 0x4020}, {0x87ae39b0f3e4299c, 0x4020}, {0x84b7249aa2a41509, 0xbffd}},
    {"cos", {0xb1ab285d89d04553, 0xc00b}, {0xb1ab285d89d04553, 0xc00b}, {0xa187414ed9c7c63b, 0x3ffe}},
    {"cos", {0xc6b144ded683dcd4, 0xc023}, {0xc6b144ded683dcd4, 0xc023}, {0xc1001728fa8fb1db, 0xbffe}},
    {"exp2m1", {0x8743b6853b0160d0, 0x3ffd}, {0x8743b6853b0160d0, 0x3ffd}, {0xcdc88abbf9ec4bf2, 0x3ffc}},
    {"exp2m1", {0xf403d1a28c9a2599, 0x3ffd}, {0xf403d1a28c9a2599, 0x3ffd}, {0xc86c75804bb2df5f, 0x3ffd}},
    {"exp2m1", {0xeade2d9d39b2c619, 0xbfe8}, {0xeade2d9d39b2c619, 0xbfe8}, {0xa2cc49a8497b4fec, 0xbfe8}},
    {"exp2m1", {0x9405aec380817682, 0xbffa}, {0x9405aec380817682, 0xbffa}, {0xcaa7520a1c736665, 0xbff9}},
    {"sin", {0xceff907af188b095, 0x4016}, {0xceff907af188b095, 0x4016}, {0xd8ea177a49587e9a, 0xbffd}},
    {"sin", {0x87ae39b0f3e4299c, 0x4020}, {0x87ae39b0f3e4299c, 0x4020}, {0xf7400c533dcfb1f9, 0xbffe}},
    {"sin", {0xb1ab285d89d04553, 0xc00b}, {0xb1ab285d89d04553, 0xc00b}, {0xc69b4c66f627206a, 0x3ffe}},
    {"sin", {0xc6b144ded683dcd4, 0xc023}, {0xc6b144ded683dcd4, 0xc023}, {0xa82fde92d5d977d5, 0x3ffe}},
    {"tan", {0xceff907af188b095, 0x4016}, {0xceff907af188b095, 0x4016}, {0xef779d865cbdf758, 0x3ffd}},
    {"tan", {0x87ae39b0f3e4299c, 0x4020}, {0x87ae39b0f3e4299c, 0x4020}, {0xee7720ca714a8c43, 0x4000}},
    {"tan", {0xb1ab285d89d04553, 0xc00b}, {0xb1ab285d89d04553, 0xc00b}, {0x9d61c91e663decdf, 0x3fff}},
    {"tan", {0xc6b144ded683dcd4, 0xc023}, {0xc6b144ded683dcd4, 0xc023}, {0xdf16457e2ccdffbc, 0xbffe}},
    {"ylog2", {0xcbf1b8fd39be97c1, 0x3fe8}, {0xaf2f9fc6ef855d4a, 0xbffe}, {0xf478c5df14403174, 0x4002}},
    {"ylog2", {0xa609c3607fb84d81, 0x3ffe}, {0xd84fd109106c16a3, 0x3ffc}, {0x871d597e155e882b, 0xbffc}},
    {"ylog2", {0xfbe252c6c2543473, 0x3ffe}, {0xdf669a5e4aa59f16, 0xc002}, {0xa72ad935da6157f2, 0x3ffd}},
    {"ylog2", {0xe2f19f8eeafa81b5, 0x4025}, {0xbc52f623442e51a8, 0xc003}, {0xe47f4030da218f2d, 0xc008}},
    {"ylog2p1", {0xf6fba72568843307, 0x3fed}, {0xbc52f623442e51a8, 0xc003}, {0x830fcda8279736bc, 0xbff3}},
    {"ylog2p1", {0xca11e127006ec00a, 0x3ff3}, {0xd84fd109106c16a3, 0x3ffc}, {0xf6482d853a3e4f84, 0x3ff1}},
    {"ylog2p1", {0x8161a88f56c14047, 0x3ffd}, {0xaf2f9fc6ef855d4a, 0xbffe}, {0xe3c4e2ef5e31bfb5, 0xbffc}},
    {"ylog2p1", {0xa11ca46a903072a9, 0xbfd8}, {0xdf669a5e4aa59f16, 0xc002}, {0xcad63bde39abf9e5, 0x3fdc}},
};

START_TEST(correctly_rounded)
{
    struct float_env e = {.masks = FLOAT_ALL, .precision = 64};
    for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
        const struct known *k = &known[i];
        struct f80 r = {0, 0}, other;
        if (strcmp(k->function, "exp2m1") == 0)
            r = f80_exp2_minus_1(k->a, &e);
        else if (strcmp(k->function, "ylog2") == 0)
            r = f80_y_log2(k->a, k->b, &e);
        else if (strcmp(k->function, "ylog2p1") == 0)
            r = f80_y_log2_plus_1(k->a, k->b, &e);
        else if (strcmp(k->function, "atan2") == 0)
            r = f80_arctangent(k->a, k->b, &e);
        else if (strcmp(k->function, "sin") == 0)
            ck_assert(f80_sine_cosine(k->a, &r, &other, &e));
        else if (strcmp(k->function, "cos") == 0)
            ck_assert(f80_sine_cosine(k->a, &other, &r, &e));
        else
            ck_assert(f80_tangent(k->a, &r, &e));
        ck_assert_msg(r.mantissa == k->result.mantissa && r.exponent == k->result.exponent, "%s, row %u: %04x %016llx",
                      k->function, i, r.exponent, (unsigned long long)r.mantissa);
        ck_assert_uint_eq(e.flags, FLOAT_INEXACT);
    }
}
END_TEST

static bool close_enough(struct f80 a, struct f80 b)
{
    /* As one number: exponent above the fraction; ends of binades are one apart, too. */
    u128 x = (u128)(a.exponent & 0x7fff) << 63 | (a.mantissa & ~BIT(63)),
         y = (u128)(b.exponent & 0x7fff) << 63 | (b.mantissa & ~BIT(63));
    return (a.exponent ^ b.exponent) < 0x8000 && (x > y ? x - y : y - x) <= 1;
}

START_TEST(as_the_host)
{
#if NATIVE
    static const struct { u8 modrm; u8 ftw; i16 from, to; bool sign; } op[] = {
        {0xf0, 3, -60, -1, true}, {0xf1, 3, -60, 60, false}, {0xf2, 1, -60, 62, true}, {0xf3, 3, -60, 60, true},
        {0xf9, 3, -60, -2, true}, {0xfb, 1, -60, 62, true}, {0xfe, 3, -60, 66, true}, {0xff, 3, -60, 66, true},
    };
    emulator_start();
    native_start();
    for (unsigned k = 0; k < ARRAY_SIZE(op); k++) {
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct run before, ours, host;
            u8 code[2] = {0xd9, op[k].modrm};
            memset(&before, 0, sizeof before);
            before.fx.fcw = (u16)(0x37f | (random64() & FCW_RC));
            before.fx.ftw = op[k].ftw;
            before.fx.mxcsr = 0x1f80;
            before.flags = 0x202;
            for (unsigned n = 0; n < 2; n++) {
                before.fx.st[n].mantissa = random64() | BIT(63);
                before.fx.st[n].exponent =
                    (u16)(0x3fff + op[k].from + (int)random_below((unsigned)(op[k].to - op[k].from + 1)));
                if (n == 1 || op[k].sign)
                    before.fx.st[n].exponent |= (u16)(random64() & 0x8000);
            }
            ours = host = before;
            native_run(&host, code, 2);
            emulate(&ours, code, 2);
            bool same = ((ours.fx.fsw ^ host.fx.fsw) & ~FSW_C1) == 0 && ours.fx.ftw == host.fx.ftw;
            for (unsigned n = 0; n < 2; n++)
                same &= close_enough((struct f80){ours.fx.st[n].mantissa, ours.fx.st[n].exponent},
                                     (struct f80){host.fx.st[n].mantissa, host.fx.st[n].exponent});
            if (!same) {
                show_state("before", &before);
                show_state("nestor", &ours);
                show_state("host", &host);
                ck_abort_msg("D9 %02x differs", op[k].modrm);
            }
        }
    }
    emulator_stop();
#endif
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {correctly_rounded, as_the_host};
    return native_run_suite("x87_math", tests, ARRAY_SIZE(tests), NULL, NULL);
}
