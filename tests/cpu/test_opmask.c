/* Opmask registers: every instruction of their own in every form, and the moves between masks and vectors, against models
 * that go bit by bit, as the manual's pseudo-code does.
 *
 * Kept true: all rows that VEX encodes and that have an opmask are run; bits above an instruction's width are cleared.
 * [SDM2 "KADDW/KADDB/KADDQ/KADDD" to "KXORW/KXORB/KXORQ/KXORD", "VPMOVM2B/VPMOVM2W/VPMOVM2D/VPMOVM2Q",
 * "VPMOVB2M/VPMOVW2M/VPMOVD2M/VPMOVQ2M", "VPBROADCASTM", "VPSHUFBITQMB"]
 */
#include "tests/cpu/evex.h"

#define ROUNDS 200

/* Opmasks in which carries, zeros and ones happen. */
static u64 some_mask(void)
{
    static const u64 ends[] = {0, 0xff, 0xffff, 0xffffffff, ~0ull, 1, 0x80, 0x8000, 0x80000000, BIT(63), ~0xffull, 0x7f};
    return random64() % 3 ? random64() : ends[random64() % ARRAY_SIZE(ends)];
}
static void random_masks(void)
{
    random_registers();
    for (unsigned i = 0; i < 8; i++)
        cpu.fpu.k[i] = some_mask();
    for (unsigned i = 0; i < 16; i++)
        if (i != REG_RSP)
            cpu.core.r[i] = random64();
    cpu.core.rdi = OPERAND;
}

/* VEX: ModRM.reg, vvvv and ModRM.rm, or memory at [RDI]. */
static int run_vex(const struct insn_row *row, unsigned reg, unsigned vvvv, unsigned rm, bool memory, unsigned imm)
{
    static const u8 pp[] = {[PREFIX_NP] = 0, [PREFIX_66] = 1, [PREFIX_F3] = 2, [PREFIX_F2] = 3};
    u8 code[32] = {0xc4, (u8)(0xe0 | row->map),
                   (u8)((row->w == 1) << 7 | (~(row->uses_vvvv ? vvvv : 0u) & 15) << 3 | (unsigned)(row->l == 1) << 2 | pp[row->prefix]),
                   row->opcode, (u8)(memory ? reg << 3 | 7 : 0xc0 | reg << 3 | rm), (u8)imm};
    if (row->gpr_rm && rm >= 8)
        code[1] &= (u8)~0x20u, code[4] = (u8)(0xc0 | reg << 3 | (rm & 7));
    if (row->gpr_reg && reg >= 8)
        code[1] &= (u8)~0x80u, code[4] = (u8)(0xc0 | (reg & 7) << 3 | rm);
    return run_code(row, code);
}

/* The width that the last letter of a mnemonic names. */
static unsigned width_of(const char *name)
{
    char last = name[strlen(name) - 1];
    return last == 'B' ? 8 : last == 'W' ? 16 : last == 'D' ? 32 : 64;
}
static bool begins(const char *name, const char *with) { return strncmp(name, with, strlen(with)) == 0; }
static unsigned bit(u64 v, unsigned n) { return v >> n & 1; }

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

/* What KNAME gives for x, the second operand, and y, the last one. */
static u64 model_of(const char *name, u64 x, u64 y, unsigned imm)
{
    unsigned width = width_of(name), carry = 0;
    u64 r = 0;
    for (unsigned i = 0; i < width; i++) {
        unsigned a = bit(x, i), b = bit(y, i), v;
        if (begins(name, "KANDN")) {
            v = !a && b;
        } else if (begins(name, "KAND")) {
            v = a && b;
        } else if (begins(name, "KORTEST") || begins(name, "KTEST")) {
            ck_abort_msg("%s writes no mask", name);
        } else if (begins(name, "KOR")) {
            v = a || b;
        } else if (begins(name, "KXNOR")) {
            v = a == b;
        } else if (begins(name, "KXOR")) {
            v = a != b;
        } else if (begins(name, "KNOT")) {
            v = !b;
        } else if (begins(name, "KADD")) {
            v = (a + b + carry) & 1;
            carry = a + b + carry > 1;
        } else if (begins(name, "KSHIFTL")) {
            v = i >= imm ? bit(y, i - imm) : 0;
        } else if (begins(name, "KSHIFTR")) {
            v = i + imm < width ? bit(y, i + imm) : 0;
        } else {
            ck_assert_msg(begins(name, "KUNPCK"), "no model of %s", name);   /* the name ends with the whole width */
            v = i < width / 2 ? b : bit(x, i - width / 2);
        }
        r |= (u64)v << i;
    }
    return r;
}

static bool writes_mask(const struct insn_row *row)
{
    return row->vector == VECTOR_VEX && row->k_dest && row->k_rm && !begins(row->name, "KMOV");
}

START_TEST(arithmetic)
{
    unsigned rows = 0;
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (!writes_mask(row))
            continue;
        rows++;
        for (unsigned round = 0; round < ROUNDS; round++) {
            unsigned reg = random64() & 7, vvvv = random64() & 7, rm = random64() & 7;
            unsigned imm = (u8)(round & 1 ? random64() % 70 : random64());
            random_masks();
            u64 k[8];
            memcpy(k, cpu.fpu.k, sizeof k);
            k[reg] = model_of(row->name, k[vvvv], k[rm], imm);
            ck_assert_int_eq(run_vex(row, reg, vvvv, rm, false, imm), -1);
            for (unsigned i = 0; i < 8; i++)
                ck_assert_msg(cpu.fpu.k[i] == k[i], "%s k%u, k%u, k%u, imm %02x: k%u", row->name, reg, vvvv, rm, imm, i);
        }
    }
    /* KADD KAND KANDN KNOT KOR KSHIFTL KSHIFTR KXNOR KXOR of four widths, KUNPCK of three. */
    ck_assert_uint_eq(rows, 9 * 4 + 3);
}
END_TEST

START_TEST(tests_into_flags)
{
    unsigned rows = 0;
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        bool either = begins(row->name, "KORTEST");
        if (row->vector != VECTOR_VEX || (!either && !begins(row->name, "KTEST")))
            continue;
        rows++;
        unsigned seen = 0, width = width_of(row->name);
        for (unsigned round = 0; round < ROUNDS; round++) {
            unsigned reg = random64() & 7, rm = random64() & 7, ones = 0, zeros = 0;
            bool zf = true, cf = true;
            random_masks();
            if (round % 4 == 1)
                cpu.fpu.k[rm] = ~cpu.fpu.k[reg];
            if (round % 4 == 2)
                cpu.fpu.k[rm] = cpu.fpu.k[reg];
            for (unsigned i = 0; i < width; i++) {
                unsigned a = bit(cpu.fpu.k[reg], i), b = bit(cpu.fpu.k[rm], i);
                ones += a || b;
                zeros += !a && !b;
                if (!either) {
                    zf = zf && !(a && b);
                    cf = cf && !(!a && b);
                }
            }
            if (either) {
                zf = ones == 0;
                cf = zeros == 0;
            }
            u64 k[8], before = random64() & FL_STATUS;
            memcpy(k, cpu.fpu.k, sizeof k);
            cpu_set_rflags(&cpu, FL_R1 | FL_IF | before);
            ck_assert_int_eq(run_vex(row, reg, 0, rm, false, 0), -1);
            ck_assert_msg((cpu_rflags(&cpu) & FL_STATUS) == ((zf ? FL_ZF : 0) | (cf ? FL_CF : 0)),
                          "%s %016llx, %016llx: flags %llx", row->name, (unsigned long long)k[reg],
                          (unsigned long long)k[rm], (unsigned long long)cpu_rflags(&cpu));
            ck_assert_uint_eq(cpu_rflags(&cpu) & ~(u64)FL_STATUS, FL_R1 | FL_IF);
            ck_assert_mem_eq(k, cpu.fpu.k, sizeof k);
            seen |= 1u << (2 * zf + cf);
        }
        ck_assert_msg((seen & 7) == 7, "%s: results seen %x", row->name, seen);
    }
    ck_assert_uint_eq(rows, 8);
}
END_TEST

/* ---- moves ------------------------------------------------------------------------------------------------------- */

START_TEST(moves)
{
    unsigned rows = 0;
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (row->vector != VECTOR_VEX || !begins(row->name, "KMOV"))
            continue;
        rows++;
        unsigned width = width_of(row->name);
        for (unsigned round = 0; round < ROUNDS; round++) {
            bool store = row->opcode == 0x91, memory = store || (row->opcode == 0x90 && round & 1);
            unsigned reg = random64() % (row->gpr_reg ? 16 : 8), rm = memory ? 7 : random64() % (row->gpr_rm ? 16 : 8);
            random_masks();
            random_memory(OPERAND - 8, 24);
            u64 k[8], r[16], word = bench_peek64(OPERAND);
            memcpy(k, cpu.fpu.k, sizeof k);
            memcpy(r, cpu.core.r, sizeof r);
            u64 around[2] = {bench_peek64(OPERAND - 8), bench_peek64(OPERAND + 8)};
            switch (row->opcode) {
            case 0x90: k[reg] = low(memory ? word : k[rm], width); break;
            case 0x91: word = (word & ~low(~0ull, width)) | low(k[reg], width); break;
            case 0x92: k[reg] = low(r[rm], width); break;
            default: r[reg] = low(k[rm], width); break;   /* upper halves of 32-bit registers are cleared, too */
            }
            ck_assert_int_eq(run_vex(row, reg, 0, rm, memory, 0), -1);
            ck_assert_msg(!memcmp(k, cpu.fpu.k, sizeof k), "%s \"%s\" %u, %u", row->name, row->encoding, reg, rm);
            ck_assert_msg(!memcmp(r, cpu.core.r, sizeof r), "%s \"%s\" %u, %u", row->name, row->encoding, reg, rm);
            ck_assert_msg(bench_peek64(OPERAND) == word, "%s \"%s\" in memory", row->name, row->encoding);
            ck_assert_uint_eq(bench_peek64(OPERAND - 8), around[0]);
            ck_assert_uint_eq(bench_peek64(OPERAND + 8), around[1]);
        }
        /* At the end of what is mapped: the access has the operand's width and no more. */
        if (row->opcode > 0x91)
            continue;
        random_masks();
        u64 k[8];
        memcpy(k, cpu.fpu.k, sizeof k);
        cpu.core.rdi = HOLE - width / 8;
        ck_assert_int_eq(run_vex(row, 1, 0, 7, true, 0), -1);
        memcpy(cpu.fpu.k, k, sizeof k);
        cpu.core.rdi = HOLE - width / 8 + 1;
        ck_assert_int_eq(run_vex(row, 1, 0, 7, true, 0), EXC_PF);
        ck_assert_mem_eq(k, cpu.fpu.k, sizeof k);
    }
    ck_assert_uint_eq(rows, 16);
}
END_TEST

/* ---- masks and vectors ------------------------------------------------------------------------------------------- */

START_TEST(masks_and_vectors)
{
    static const struct { char letter; unsigned bits; } sizes[] = {{'B', 8}, {'W', 16}, {'D', 32}, {'Q', 64}};
    static const char *const cases[] = {"VPBROADCASTMB2Q", "VPBROADCASTMW2D"};
    prepare();
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct form f = {.vl = round % 3};
        for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
            char to_vector[] = "VPMOVM2?", to_mask[] = "VPMOV?2M";
            unsigned bits = sizes[s].bits, lanes = (128u << f.vl) / bits;
            to_vector[7] = to_mask[5] = sizes[s].letter;
            random_masks();
            u64 v[8] = {0}, k = 0;
            for (unsigned i = 0; i < lanes; i++)
                lane_set(v, i, bits, bit(cpu.fpu.k[3], i) ? ~0ull : 0);
            ck_assert_int_eq(run(named(to_vector, "EVEX"), f, 0), -1);
            ck_assert_msg(!memcmp(v, cpu.fpu.v[1], 64), "%s, length %u", to_vector, f.vl);
            for (unsigned i = 0; i < lanes; i++)
                k |= (u64)(lane(cpu.fpu.v[3], i, bits) >> (bits - 1)) << i;
            ck_assert_int_eq(run(named(to_mask, "EVEX"), f, 0), -1);
            ck_assert_msg(cpu.fpu.k[1] == k, "%s, length %u", to_mask, f.vl);
        }
        for (unsigned c = 0; c < ARRAY_SIZE(cases); c++) {
            unsigned from = c ? 16 : 8, to = c ? 32 : 64;
            u64 v[8] = {0};
            random_masks();
            for (unsigned i = 0; i < (128u << f.vl) / to; i++)
                lane_set(v, i, to, low(cpu.fpu.k[3], from));
            ck_assert_int_eq(run(named(cases[c], "EVEX"), f, 0), -1);
            ck_assert_msg(!memcmp(v, cpu.fpu.v[1], 64), "%s, length %u", cases[c], f.vl);
        }
        /* VPSHUFBITQMB: byte i of rm chooses a bit of the quadword that lies at byte i of vvvv. */
        for (f.opmask = 0; f.opmask < 8; f.opmask += 3)
            for (unsigned memory = 0; memory < 2; memory++) {
                u64 k = 0;
                random_masks();
                for (unsigned i = 0; i < (16u << f.vl); i++)
                    if (!f.opmask || bit(cpu.fpu.k[f.opmask], i))
                        k |= (u64)bit(cpu.fpu.v[2][i / 8], lane(cpu.fpu.v[3], i, 8) % 64) << i;
                for (unsigned q = 0; q < 8; q++)
                    bench_poke64(OPERAND + 8 * q, cpu.fpu.v[3][q]);
                f.memory = memory;
                ck_assert_int_eq(run(named("VPSHUFBITQMB", "EVEX"), f, 0), -1);
                ck_assert_msg(cpu.fpu.k[1] == k, "VPSHUFBITQMB, length %u, memory %u", f.vl, memory);
            }
        f.memory = false;
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {arithmetic, tests_into_flags, moves, masks_and_vectors};
    return bench_run("opmask", tests, ARRAY_SIZE(tests));
}
