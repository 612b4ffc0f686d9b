/* Every x87 instruction of the table that has an exact result: random stacks, operands, control and status words;
 * Nestor against the host CPU. */
#include "native.h"

#define ROUNDS 3000

/* Not here: the transcendental functions (test_x87_math.c), and what stores instruction pointers (test_x87_state.c). */
static bool wanted(const struct insn_row *row)
{
    static const char *const not_here[] = {"FLDENV",  "FNSTENV", "FNSAVE", "FRSTOR", "F2XM1", "FYL2X",
                                           "FYL2XP1", "FPTAN",   "FPATAN", "FSIN",   "FCOS",  "FSINCOS"};
    for (unsigned i = 0; i < ARRAY_SIZE(not_here); i++)
        if (strcmp(row->name, not_here[i]) == 0)
            return false;
    return row->vector == VECTOR_LEGACY && row->map == 0 && row->opcode >= 0xd8 && row->opcode <= 0xdf;
}

static unsigned encode(const struct insn_row *row, u8 *code)
{
    code[0] = row->opcode;
    if (row->modrm == MODRM_FIXED)
        code[1] = (u8)(row->modrm_value | (random_below(8) & (u8)~row->modrm_mask));
    else
        code[1] = (u8)(row->modrm_value << 3 | 7);
    return 2;
}

/* Bits of the status word that this host leaves otherwise than the manual says, or that the manual leaves undefined. */
static u16 undefined(const struct insn_row *row)
{
    static const char *const keep_c1[] = {"FCOMI", "FCOMIP", "FUCOMI", "FUCOMIP"};     /* the manual: C1 is cleared */
    for (unsigned i = 0; i < ARRAY_SIZE(keep_c1); i++)
        if (strcmp(row->name, keep_c1[i]) == 0)
            return FSW_C1;
    return 0;
}

/* An 80-bit number where things happen. */
static void interesting80(u64 *mantissa, u16 *exponent)
{
    static const u16 exponents[] = {0,      1,      2,      0x7fff, 0x7ffe, 0x7ffd, 0x3fff, 0x3ffe,
                                    0x4000, 0x403e, 0x401e, 0x400e, 0x3fbf, 0x3f80, 0x3f81, 0x3f6a,
                                    0x3c01, 0x3c00, 0x43fe, 0x407e, 0x43ff, 0x407f, 0x3bcd};
    u64 m = random64();
    switch (random_below(6)) {
    case 0: m = BIT(63); break;
    case 1: m &= ~0ull << random_below(64); break;
    case 2: m |= mask_low(random_below(64)); break;
    case 3: m = BIT(63) | BIT(random_below(64)); break;
    }
    if (random_below(8))
        m |= BIT(63);
    if (random_below(20) == 0)
        m = 0;
    *mantissa = m;
    unsigned e = exponents[random_below(ARRAY_SIZE(exponents))];
    switch (random_below(4)) {
    case 0: e = 0x3fff - 70 + random_below(140); break;
    case 1: e = (u16)random64() & 0x7fff; break;
    }
    *exponent = (u16)(e | (random64() & 0x8000));
}

static void fill(struct run *r)
{
    memset(r, 0, sizeof *r);
    r->fx.fcw = 0x37f;
    if (random_below(3) == 0)
        r->fx.fcw = (u16)((random64() & 0xf3f) | 0x40);
    else
        r->fx.fcw = (u16)((random64() & 0xf00) | 0x7f);
    if ((r->fx.fcw & FCW_PC) == 0x100)
        r->fx.fcw |= FCW_PC;
    /* No exception may be pending. */
    r->fx.fsw = (u16)((random64() & 0x7f00) | (random64() & r->fx.fcw & FSW_EXCEPTIONS) | (random64() & FSW_SF));
    r->fx.ftw = random_below(3) ? 0xff : (u8)random64();
    if (random_below(2))
        r->fx.ftw &= (u8)~(1u << (((r->fx.fsw >> 11) - 1) & 7));      /* room for a push */
    r->fx.mxcsr = 0x1f80;
    for (unsigned n = 0; n < 8; n++) {
        interesting80(&r->fx.st[n].mantissa, &r->fx.st[n].exponent);
        if (n && random_below(8) == 0)
            r->fx.st[n].mantissa = r->fx.st[0].mantissa;
        if (n && random_below(4) == 0)
            r->fx.st[n].exponent = (u16)(r->fx.st[0].exponent + random_below(130) - 65);
    }
    r->flags = 0x202 | (random64() & FL_STATUS);
    u64 m;
    u16 x;
    interesting80(&m, &x);
    switch (random_below(6)) {
    case 0: store64(r->memory, m); store16(r->memory + 8, x); break;
    case 1: store64(r->memory, (u64)(x & 0x8000) << 48 | (u64)(random_below(4) * 682) << 52 | m << 1 >> 12); break;
    case 2: store64(r->memory, (u64)(x & 0x8000) << 48 | (u64)(960 + random_below(130)) << 52 | m << 1 >> 12); break;
    case 3: store32(r->memory, (u32)(x & 0x8000) << 16 | (random_below(4) * 85) << 23 | (u32)(m << 1 >> 41)); break;
    case 4: store32(r->memory, (u32)(x & 0x8000) << 16 | (100 + random_below(60)) << 23 | (u32)(m << 1 >> 41)); break;
    default:
        for (unsigned n = 0; n < 9; n++)
            r->memory[n] = (u8)(random_below(10) << 4 | random_below(10));
        r->memory[9] = (u8)(random64() & 0x80);
    }
}

START_TEST(x87_as_the_host)
{
#if NATIVE
    unsigned rows = 0, bad = 0;
    bool all = getenv("X87_ALL");
    emulator_start();
    native_start();
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        if (!wanted(row))
            continue;
        rows++;
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct run before, ours, host;
            u8 code[16];
            unsigned length = encode(row, code);
            fill(&before);
            ours = host = before;
            native_run(&host, code, length);
            emulate(&ours, code, length);
            if (host.trapped == SIGILL)
                break;
            host.trapped = host.trapped != 0;
            if (!same_state(&ours, &host, (struct tolerance){.fsw = undefined(row)})) {
                show_state("before", &before);
                show_state("nestor", &ours);
                show_state("host", &host);
                printf("%s \"%s\" differs, bytes %02x %02x\n", row->name, row->encoding, code[0], code[1]);
                bad++;
                if (all)
                    break;
                ck_abort();
            }
        }
    }
    ck_assert_uint_gt(rows, 100);
    ck_assert_uint_eq(bad, 0);
    emulator_stop();
#else
    (void)wanted, (void)encode, (void)undefined, (void)fill;
#endif
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {x87_as_the_host};
    return native_run_suite("x87", tests, ARRAY_SIZE(tests), NULL, NULL);
}
