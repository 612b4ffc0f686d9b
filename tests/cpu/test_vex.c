/* What VEX makes of general-register instructions (BMI1, BMI2), and that flags of CPUID switch them and the cipher instructions
 * [SDM2 "Intel Advanced Vector Extensions: VEX Prefix", "VEX-Encoded GPR Instructions"]. What the instructions compute is compared with the
 * host's processor by tests/insn.
 */
#include "tests/cpu/bench_cpu.h"

#include "cpu/decode.h"
#include "cpu/table.h"

#define EVERYTHING "base,+bmi1,+bmi2,+adx,+aes,+pclmulqdq,+sha-ni,+gfni"

/* The name of the row that `bytes` decode to with these features, "-" for an undefined opcode. */
static const char *decoded(const char *model, enum cpu_bits bits, const u8 *bytes)
{
    struct insn in;
    u8 code[15] = {0};
    memcpy(code, bytes, 8);
    bench_model(model);
    insn_table_init();
    ck_assert_int_eq(insn_decode(cpu.feature, bits, code, sizeof code, &in), DECODE_OK);
    if (in.row == 0xffff)
        return "-";
    /* A row that was found may still be refused: then its handler raises #UD, whatever the mode. */
    cpu.event = (struct cpu_event){0};
    cpu.mode.protected_mode = true;
    cpu.sys.cr0 &= ~(u64)(CR0_EM | CR0_TS);
    cpu.sys.cr4 |= CR4_OSFXSR;
    if (in.handler(&cpu, &in) != FLOW_NEXT)
        return "-";
    rows_note(in.row);
    return insn_rows[in.row].name;
}

START_TEST(vex_forms)
{
    static const struct { const char *name; u8 bits, bytes[8]; } cases[] = {
        {"ANDN", BITS_64, {0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"ANDN", BITS_32, {0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"ANDN", BITS_16, {0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"ANDN", BITS_64, {0x2e, 0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"-", BITS_64, {0x66, 0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"-", BITS_64, {0xf3, 0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"-", BITS_64, {0xf0, 0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"-", BITS_64, {0x40, 0xc4, 0xe2, 0x78, 0xf2, 0xc0}},
        {"-", BITS_64, {0xc4, 0xe2, 0x7c, 0xf2, 0xc0}},        /* VEX.L */
        {"-", BITS_64, {0xc4, 0xe2, 0x79, 0xf2, 0xc0}},        /* VEX.pp */
        {"-", BITS_64, {0xc4, 0xe9, 0x78, 0xf2, 0xc0}},        /* a reserved map */
        {"-", BITS_64, {0xc4, 0xe2, 0x78, 0xf3, 0xc0}},        /* /0 */
        {"BLSR", BITS_64, {0xc4, 0xe2, 0x78, 0xf3, 0xc8}},
        {"RORX", BITS_64, {0xc4, 0xe3, 0x7b, 0xf0, 0xc0, 1}},
        {"-", BITS_64, {0xc4, 0xe3, 0x73, 0xf0, 0xc0, 1}},     /* VEX.vvvv names a register that is no operand */
        {"-", BITS_32, {0xc4, 0xe3, 0x3b, 0xf0, 0xc0, 1}},     /* also by its bit that outside 64-bit code names nothing */
        {"ANDN", BITS_32, {0xc4, 0xe2, 0x38, 0xf2, 0xc0}},     /* but where it is one, that bit is ignored */
    };
    for (size_t n = 0; n < ARRAY_SIZE(cases); n++)
        ck_assert_msg(!strcmp(decoded(EVERYTHING, cases[n].bits, cases[n].bytes), cases[n].name), "case %zu: not %s", n, cases[n].name);
}
END_TEST

/* Sums of products, in 128 and 256 bits [SDM2 "VPDPB[SU,UU,SS]D[,S]", "VPDPW[SU,US,UU]D[,S]", "VPMADD52LUQ", "VPMADD52HUQ"]. */
static i64 part(u32 v, unsigned n, unsigned bits, bool is_signed)
{
    u32 p = v >> (n * bits) & ((1u << bits) - 1);
    return is_signed && p >> (bits - 1) ? (i64)p - (1ll << bits) : (i64)p;
}
static u32 dot(u32 sum, u32 x, u32 y, unsigned bits, bool x_signed, bool y_signed, bool saturate)
{
    bool any_signed = x_signed || y_signed;
    i64 total = any_signed || !saturate ? (i64)(i32)sum : (i64)sum;
    for (unsigned n = 0; n < 32 / bits; n++)
        total += part(x, n, bits, x_signed) * part(y, n, bits, y_signed);
    i64 most = any_signed ? 0x7fffffff : 0xffffffffll, least = any_signed ? -0x80000000ll : 0;
    return (u32)(!saturate ? total : total > most ? most : total < least ? least : total);
}

START_TEST(sums_of_products)
{
    static const struct { const char *name; u8 pp, opcode, bits; bool x_signed, y_signed, saturate; } rows[] = {
        {"VPDPBUSD", 1, 0x50, 8, false, true, false},   {"VPDPBUSDS", 1, 0x51, 8, false, true, true},
        {"VPDPWSSD", 1, 0x52, 16, true, true, false},   {"VPDPWSSDS", 1, 0x53, 16, true, true, true},
        {"VPDPBUUD", 0, 0x50, 8, false, false, false},  {"VPDPBUUDS", 0, 0x51, 8, false, false, true},
        {"VPDPBSSD", 3, 0x50, 8, true, true, false},    {"VPDPBSSDS", 3, 0x51, 8, true, true, true},
        {"VPDPBSUD", 2, 0x50, 8, true, false, false},   {"VPDPBSUDS", 2, 0x51, 8, true, false, true},
        {"VPDPWUUD", 0, 0xd2, 16, false, false, false}, {"VPDPWUUDS", 0, 0xd3, 16, false, false, true},
        {"VPDPWUSD", 1, 0xd2, 16, false, true, false},  {"VPDPWUSDS", 1, 0xd3, 16, false, true, true},
        {"VPDPWSUD", 2, 0xd2, 16, true, false, false},  {"VPDPWSUDS", 2, 0xd3, 16, true, false, true},
        {"VPMADD52LUQ", 1, 0xb4, 52, false, false, false}, {"VPMADD52HUQ", 1, 0xb5, 52, false, false, false},
    };
    u64 seed = 1;
    bench_long_mode(3);
    memset(cpu.feature, 0xff, sizeof cpu.feature);
    cpu.sys.cr4 |= CR4_OSXSAVE;
    cpu.sys.xcr0 = 7;
    cpu_mode_update(&cpu);
    insn_table_init();
    for (unsigned r = 0; r < ARRAY_SIZE(rows); r++)
        for (unsigned round = 0; round < 200; round++) {
            unsigned wide = round & 1;
            /* OP xmm1, xmm2, xmm3, or with ymm */
            u8 code[15] = {0xc4, 0xe2, (u8)((rows[r].bits == 52) << 7 | 13 << 3 | wide << 2 | rows[r].pp), rows[r].opcode, 0xcb};
            u64 was[8];
            struct insn in;
            for (unsigned n = 0; n < 24; n++) {
                seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                u64 v = seed ^ seed >> 29;
                /* Sums near a limit, so that they saturate, and parts at one. */
                cpu.fpu.v[1 + n / 8][n % 8] = round % 4 == 2 ? v | 0x7fff00007fff0000ull : round % 8 == 4 ? v | 0xfff0f0fffff0f0ffull : v;
            }
            memcpy(was, cpu.fpu.v[1], sizeof was);
            ck_assert_int_eq(insn_decode(cpu.feature, BITS_64, code, sizeof code, &in), DECODE_OK);
            ck_assert(in.row != 0xffff && !strcmp(insn_rows[in.row].name, rows[r].name));
            cpu.event = (struct cpu_event){0};
            ck_assert_int_eq(in.handler(&cpu, &in), FLOW_NEXT);
            rows_note(in.row);
            for (unsigned n = 0; n < 8; n++) {
                u64 x = cpu.fpu.v[2][n], y = cpu.fpu.v[3][n], expected;
                if (rows[r].bits == 52) {
                    unsigned __int128 product = (unsigned __int128)(x << 12 >> 12) * (y << 12 >> 12);
                    expected = was[n] + (rows[r].opcode & 1 ? (u64)(product >> 52) : (u64)product << 12 >> 12);
                } else {
                    expected = 0;
                    for (unsigned half = 0; half < 64; half += 32)
                        expected |= (u64)dot((u32)(was[n] >> half), (u32)(x >> half), (u32)(y >> half), rows[r].bits, rows[r].x_signed,
                                             rows[r].y_signed, rows[r].saturate) << half;
                }
                ck_assert_msg(cpu.fpu.v[1][n] == (n < 2u << wide ? expected : 0), "%s round %u element %u", rows[r].name, round, n);
            }
        }
}
END_TEST

START_TEST(real_mode_has_no_vex)
{
    static const u8 andn[15] = {0xc4, 0xe2, 0x78, 0xf2, 0xc0};
    struct insn in;
    bench_model(EVERYTHING);
    insn_table_init();
    ck_assert_int_eq(insn_decode(cpu.feature, BITS_16, andn, sizeof andn, &in), DECODE_OK);
    cpu.mode.protected_mode = false;
    ck_assert_int_eq(in.handler(&cpu, &in), FLOW_EVENT);
    cpu.event = (struct cpu_event){0};
    cpu.mode.protected_mode = true;
    ck_assert_int_eq(in.handler(&cpu, &in), FLOW_NEXT);
}
END_TEST

START_TEST(cpuid_flags_switch_instructions)
{
    static const struct { const char *flag, *name, *without; u8 bytes[8]; } cases[] = {
        {"bmi1", "BLSI", "-", {0xc4, 0xe2, 0x78, 0xf3, 0xd8}},
        {"bmi1", "TZCNT", "BSF", {0xf3, 0x0f, 0xbc, 0xc0}},
        {"bmi2", "SHLX", "-", {0xc4, 0xe2, 0x79, 0xf7, 0xc0}},
        {"bmi2", "MULX", "-", {0xc4, 0xe2, 0x7b, 0xf6, 0xc0}},
        {"adx", "ADCX", "-", {0x66, 0x0f, 0x38, 0xf6, 0xc0}},
        {"adx", "ADOX", "-", {0xf3, 0x0f, 0x38, 0xf6, 0xc0}},
        {"aes", "AESENC", "-", {0x66, 0x0f, 0x38, 0xdc, 0xc1}},
        {"pclmulqdq", "PCLMULQDQ", "-", {0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x11}},
        {"sha-ni", "SHA256RNDS2", "-", {0x0f, 0x38, 0xcb, 0xca}},
        {"gfni", "GF2P8MULB", "-", {0x66, 0x0f, 0x38, 0xcf, 0xc1}},
    };
    for (size_t n = 0; n < ARRAY_SIZE(cases); n++) {
        char model[32];
        snprintf(model, sizeof model, "base,+%s", cases[n].flag);
        ck_assert_str_eq(decoded(model, BITS_64, cases[n].bytes), cases[n].name);
        ck_assert_str_eq(decoded("base", BITS_64, cases[n].bytes), cases[n].without);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {vex_forms, sums_of_products, real_mode_has_no_vex, cpuid_flags_switch_instructions};
    return bench_run("vex", tests, ARRAY_SIZE(tests));
}
