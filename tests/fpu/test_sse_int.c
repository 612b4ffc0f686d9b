/* Every MMX and SSE instruction of the table that only moves or computes integers: random operands, Nestor against the host CPU. */
#include "native.h"

#define ROUNDS 60

/* Rows that these tests run: legacy SSE and MMX by their operands (V, W, U, P, Q, N), without floating point. */
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
    r->rax = interesting(), r->rcx = interesting(), r->rdx = interesting(), r->rbx = interesting(), r->rsi = interesting();
    r->flags = 0x202 | (random64() & FL_STATUS);
    for (unsigned n = 0; n < 8; n++)
        store64(r->memory + 8 * n, interesting());
}

START_TEST(integers_as_the_host)
{
#if NATIVE
    unsigned rows = 0;
    emulator_start();
    native_start();
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        if (!wanted(row))
            continue;
        rows++;
        for (unsigned round = 0; round < ROUNDS; round++) {
            bool memory = row->mem_only || (!row->reg_only && round & 1);
            struct run before, ours, host;
            u8 code[16];
            unsigned length = encode(row, memory, code);
            fill(&before);
            ours = host = before;
            native_run(&host, code, length);
            emulate(&ours, code, length);
            if (host.trapped == SIGILL)
                break;         /* the host has not got it */
            if (!same_state(&ours, &host, (struct tolerance){0})) {
                show_state("before", &before);
                show_state("nestor", &ours);
                show_state("host", &host);
                ck_abort_msg("%s \"%s\" differs", row->name, row->encoding);
            }
        }
    }
    ck_assert_uint_gt(rows, 200);
    emulator_stop();
#endif
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sse_int");
    TCase *tc = tcase_create("host");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, integers_as_the_host);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
