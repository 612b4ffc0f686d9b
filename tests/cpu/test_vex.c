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
    const TTest *const tests[] = {vex_forms, real_mode_has_no_vex, cpuid_flags_switch_instructions};
    return bench_run("vex", tests, ARRAY_SIZE(tests));
}
