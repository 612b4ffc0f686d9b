/* Every MMX and SSE instruction of the table: random operands and, for floating point, random MXCSRs; Nestor against
 * the host CPU. */
#include "native.h"

#define INTEGER_ROUNDS 60
#define FLOAT_ROUNDS 3000

/* Rows that these tests run: legacy SSE and MMX by their operands (V, W, U, P, Q, N). The approximations differ
 * between processors. */
static bool wanted(const struct insn_row *row)
{
    bool vector = false;
    static const char *const not_here[] = {"MASKMOVQ", "MASKMOVDQU", "RCPPS", "RCPSS", "RSQRTPS", "RSQRTSS"};
    if (row->vector != VECTOR_LEGACY || row->map == 0)
        return false;
    for (unsigned i = 0; i < row->operand_count; i++)
        vector |= row->operand[i].letter && strchr("VWUPQN", row->operand[i].letter);
    for (unsigned i = 0; i < ARRAY_SIZE(not_here); i++)
        if (strcmp(row->name, not_here[i]) == 0)
            return false;
    return vector;
}

/* Rows whose results depend on MXCSR: some operand is a floating-point one. */
static bool of_floats(const struct insn_row *row)
{
    if (strncmp(row->name, "CVT", 3) == 0)
        return true;
    for (unsigned i = 0; i < row->operand_count; i++) {
        const char *s = row->operand[i].size;
        if (strcmp(s, "ps") == 0 || strcmp(s, "pd") == 0 || strcmp(s, "ss") == 0 || strcmp(s, "sd") == 0)
            return true;
    }
    return false;
}

static unsigned encode(const struct insn_row *row, bool memory, u8 *code)
{
    unsigned n = 0;
    if (row->prefix == PREFIX_66 || row->prefix == PREFIX_F3 || row->prefix == PREFIX_F2)
        code[n++] = row->prefix == PREFIX_66 ? 0x66 : row->prefix == PREFIX_F3 ? 0xf3 : 0xf2;
    code[n++] = 0x0f;
    if (row->map > 1)
        code[n++] = row->map == 2 ? 0x38 : 0x3a;
    code[n++] = row->opcode;
    if (row->modrm == MODRM_NONE)
        return n;
    unsigned reg = row->modrm == MODRM_DIGIT ? row->modrm_value : random_below(3);
    code[n++] = (u8)(reg << 3 | (memory ? 7 : 0xc0 | random_below(3)));
    if (row->imm == IMM_B)
        code[n++] = (u8)random64();
    return n;
}

static u64 interesting(void)
{
    switch (random_below(6)) {
    case 0: return 0x7fff80000000ffffull;
    case 1: return random64() & 0x8080808080808080ull;
    case 2: return random64() & 0x7f;
    case 3: return 0x3ff0000000000000ull ^ (random64() & 0x800fffffffffffffull);
    default: return random64();
    }
}

static void fill(struct run *r)
{
    memset(r, 0, sizeof *r);
    r->fx.fcw = 0x37f;
    r->fx.fsw = (u16)(random_below(8) << 11);
    r->fx.ftw = (u8)random64();
    r->fx.mxcsr = 0x1f80;
    for (unsigned n = 0; n < 8; n++) {
        r->fx.st[n].mantissa = interesting();
        r->fx.st[n].exponent = (u16)random64();
    }
    for (unsigned n = 0; n < 32; n++)
        r->fx.xmm[n / 2][n % 2] = interesting();
    r->rax = interesting(), r->rcx = interesting(), r->rdx = interesting(), r->rbx = interesting(),
    r->rsi = interesting();
    r->flags = 0x202 | (random64() & FL_STATUS);
    for (unsigned n = 0; n < 8; n++)
        store64(r->memory + 8 * n, interesting());
}

/* Floating-point operands where things happen: at the ends of the range, near each other, few bits set. */
static u32 interesting32(void)
{
    static const u32 few[] = {0,          0x3f800000, 0x7f800000, 0x7fc00000, 0x7f800001, 0x007fffff,
                              0x00800000, 0x00000001, 0x7f7fffff, 0x4f000000, 0x5f000000, 0x3f7fffff,
                              0x3f000000, 0x3fc00000, 0x7fabcdef, 0x33800000};
    u32 sign = (u32)random64() & 0x80000000u,
        fraction = (u32)random64() & 0x7fffff & ((u32)random64() | (0u - (random64() & 1)));
    switch (random_below(8)) {
    case 0: case 1: return sign | few[random_below(ARRAY_SIZE(few))];
    case 2: return sign | (random_below(3) << 23) | fraction;
    case 3: return sign | ((253 + random_below(2)) << 23) | fraction;
    case 4: return sign | ((126 + random_below(34)) << 23) | fraction;
    case 5: return sign | ((120 + random_below(10)) << 23) | (fraction & 0x700000);
    case 6: return sign | ((60 + random_below(8)) << 23) | fraction;
    default: return (u32)random64();
    }
}
static u64 interesting64(void)
{
    static const u64 few[] = {0,
                              0x3ff0000000000000,
                              0x7ff0000000000000,
                              0x7ff8000000000000,
                              0x7ff0000000000001,
                              0x000fffffffffffff,
                              0x0010000000000000,
                              1,
                              0x7fefffffffffffff,
                              0x43e0000000000000,
                              0x41e0000000000000,
                              0x3fe0000000000000,
                              0x47efffffe0000000,
                              0x47effffff0000000,
                              0x36a0000000000000,
                              0x3690000000000000,
                              0x380fffffe0000000,
                              0x380ffffff8000000,
                              0x41dfffffffe00000,
                              0x41dfffffffc00000,
                              0xc1e0000000100000,
                              0xc1e0000000200000};
    u64 sign = random64() & BIT(63), fraction = random64() & mask_low(52) & (random64() | (0ull - (random64() & 1)));
    switch (random_below(8)) {
    case 0: case 1: return sign ^ few[random_below(ARRAY_SIZE(few))];
    case 2: return sign | (u64)random_below(3) << 52 | fraction;
    case 3: return sign | (u64)(2045 + random_below(2)) << 52 | fraction;
    case 4: return sign | (u64)(1022 + random_below(66)) << 52 | fraction;
    case 5: return sign | (u64)(896 - 26 + random_below(30)) << 52 | (random64() & 1 ? fraction : fraction >> 29 << 29);
    case 6: return sign | (u64)(500 + random_below(60)) << 52 | fraction;
    default: return random64();
    }
}

static void fill_floats(struct run *r)
{
    fill(r);
    bool single = random64() & 1;
    for (unsigned n = 0; n < 16; n++) {
        for (unsigned i = 0; i < 2; i++)
            r->fx.xmm[n][i] = single ? interesting32() | (u64)interesting32() << 32 : interesting64();
    }
    for (unsigned n = 0; n < 8; n++)
        store64(r->memory + 8 * n, single ? interesting32() | (u64)interesting32() << 32 : interesting64());
    r->fx.mxcsr = (u32)random64() & 0xe040;
    r->fx.mxcsr |= random_below(4) ? 0x1f80 : (u32)random64() & 0x1f80;
    r->fx.mxcsr |= random_below(4) ? 0 : (u32)random64() & 0x3f;
}

static void against_host(bool floats, unsigned rounds)
{
#if NATIVE
    unsigned rows = 0, traps = 0;
    emulator_start();
    native_start();
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        if (!wanted(row) || (floats && !of_floats(row)))
            continue;
        rows++;
        for (unsigned round = 0; round < rounds; round++) {
            bool memory = row->mem_only || (!row->reg_only && round & 1);
            struct run before, ours, host;
            u8 code[16];
            unsigned length = encode(row, memory, code);
            (floats ? fill_floats : fill)(&before);
            ours = host = before;
            native_run(&host, code, length);
            emulate(&ours, code, length);
            if (host.trapped == SIGILL)
                break;         /* the host has not got it */
            host.trapped = host.trapped != 0;
            traps += host.trapped != 0;
            if (!same_state(&ours, &host, (struct tolerance){0})) {
                show_state("before", &before);
                show_state("nestor", &ours);
                show_state("host", &host);
                ck_abort_msg("%s \"%s\" differs, bytes %02x %02x %02x %02x %02x", row->name, row->encoding, code[0],
                             code[1], code[2], code[3], code[4]);
            }
        }
    }
    ck_assert_uint_gt(rows, floats ? 60 : 200);
    ck_assert(!floats || traps > 1000);
    emulator_stop();
#else
    (void)floats, (void)rounds, (void)of_floats, (void)fill_floats;
#endif
}

/* String comparisons: few different characters, zeros among them, lengths around the ends; random REX.W. */
static void fill_strings(struct run *r)
{
    u8 text[32];
    fill(r);
    unsigned letters = 2 + random_below(5), zero = random_below(20);
    bool words = random_below(2);
    for (unsigned n = 0; n < 4; n++) {
        for (unsigned i = 0; i < 16; i++) {
            text[i] = (u8)(random_below(20) < zero / 4 ? 0 : 0x7d + random_below(letters));
            if (words && i & 1)
                text[i] = random_below(10) ? 0 : 0xff;
        }
        memcpy(n < 3 ? (u8 *)r->fx.xmm[n] : r->memory, text, 16);
    }
    r->rax = random_below(3) ? random_below(20) : random64();
    r->rdx = random_below(3) ? 0ull - random_below(20) : random64();
}

START_TEST(strings_as_the_host)
{
#if NATIVE
    emulator_start();
    native_start();
    for (unsigned round = 0; round < 40000; round++) {
        struct run before, ours, host;
        u8 code[] = {0x66,
                     0x48,
                     0x0f,
                     0x3a,
                     (u8)(0x60 + random_below(4)),
                     (u8)(random_below(3) << 3 | (random_below(2) ? 7 : 0xc0 | random_below(3))),
                     (u8)(random64() & 0x7f)};
        if (random_below(2))
            code[1] = 0x40;
        fill_strings(&before);
        ours = host = before;
        native_run(&host, code, sizeof code);
        emulate(&ours, code, sizeof code);
        if (!same_state(&ours, &host, (struct tolerance){0})) {
            show_state("before", &before);
            show_state("nestor", &ours);
            show_state("host", &host);
            ck_abort_msg("PCMPxSTRx %02x %02x %02x %02x differs", code[1], code[4], code[5], code[6]);
        }
    }
    emulator_stop();
#else
    (void)fill_strings;
#endif
}
END_TEST

START_TEST(integers_as_the_host) { against_host(false, INTEGER_ROUNDS); }
END_TEST
START_TEST(floats_as_the_host) { against_host(true, FLOAT_ROUNDS); }
END_TEST

int main(void)
{
    const TTest *const tests[] = {integers_as_the_host, floats_as_the_host, strings_as_the_host};
    return native_run_suite("sse", tests, ARRAY_SIZE(tests), NULL, NULL);
}
