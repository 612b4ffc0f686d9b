/* Galois-field instructions in their legacy, VEX and EVEX forms: against arithmetic done by polynomials, one bit at a time,
 * and against AESENCLAST, which tests/insn compares with a processor: the S-box is an inverse and an affine map.
 *
 * [SDM2 "GF2P8AFFINEINVQB", "GF2P8AFFINEQB", "GF2P8MULB"; FIPS 197 "SubBytes Transformation"]
 */
#include "tests/cpu/evex.h"

/* ---- the field: polynomials over GF(2) modulo x^8 + x^4 + x^3 + x + 1 --------------------------------------------- */

static u8 product(u8 a, u8 b)
{
    unsigned r = 0;
    for (unsigned i = 0; i < 8; i++)
        r ^= (b >> i & 1) * ((unsigned)a << i);
    for (unsigned i = 14; i >= 8; i--)
        r ^= (r >> i & 1) * (0x11bu << (i - 8));
    return (u8)r;
}
static u8 inverse(u8 a)
{
    for (unsigned b = 1; b < 256; b++)
        if (product(a, (u8)b) == 1)
            return (u8)b;
    return 0;
}
/* Bit i of the result is the parity of x and the matrix's byte 7 - i, with that bit of imm. */
static u8 affine(u64 matrix, u8 x, u8 imm)
{
    u8 r = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned parity = imm >> i & 1;
        for (unsigned j = 0; j < 8; j++)
            parity ^= matrix >> (8 * (7 - i) + j) & x >> j & 1;
        r |= (u8)(parity << i);
    }
    return r;
}

/* ---- running them ------------------------------------------------------------------------------------------------ */

enum { MUL, AFFINE, AFFINE_INVERSE, OPERATIONS };
static const char *const names[OPERATIONS] = {"GF2P8MULB", "GF2P8AFFINEQB", "GF2P8AFFINEINVQB"};

static u8 expected_byte(unsigned operation, const u8 *x, const u8 *y, unsigned i, u8 imm)
{
    u64 matrix = load64(y + (i & ~7u));
    return operation == MUL ? product(x[i], y[i]) : affine(matrix, operation == AFFINE ? x[i] : inverse(x[i]), imm);
}

/* The row in one of the three encodings; registers as in evex.h: destination 1, x in 2 (legacy: 1), y in 3. */
static const struct insn_row *row_of(unsigned operation, enum row_vector vector)
{
    char name[32];
    snprintf(name, sizeof name, "%s%s", vector == VECTOR_LEGACY ? "" : "V", names[operation]);
    return row_named(vector, name, "");
}
static unsigned encode_any(const struct insn_row *row, struct form f, u8 *code)
{
    if (row->vector == VECTOR_EVEX)
        return encode(row, f, 0, code);
    unsigned n = 0;
    if (row->vector == VECTOR_VEX) {
        code[n++] = 0xc4;
        code[n++] = (u8)(0xe0 | row->map);
        code[n++] = (u8)((row->w == 1) << 7 | 13 << 3 | f.vl << 2 | 1);
    } else {
        code[n++] = 0x66;
        code[n++] = 0x0f;
        code[n++] = row->map == 2 ? 0x38 : 0x3a;
    }
    code[n++] = row->opcode;
    code[n++] = f.memory ? 0x0f : 0xcb;
    if (row->imm != IMM_NONE)
        code[n++] = (u8)f.imm;
    return n;
}

START_TEST(every_form)
{
    prepare();
    for (unsigned operation = 0; operation < OPERATIONS; operation++)
        for (unsigned vector = VECTOR_LEGACY; vector <= VECTOR_EVEX; vector++)
            for (unsigned round = 0; round < 300; round++) {
                const struct insn_row *row = row_of(operation, (enum row_vector)vector);
                unsigned lengths = vector == VECTOR_LEGACY ? 1 : vector == VECTOR_VEX ? 2 : 3;
                struct form f = {.vl = round % lengths, .imm = (u8)random64(), .memory = round / 3 & 1};
                f.opmask = vector == VECTOR_EVEX && round & 8 ? 4 : 0;
                f.z = f.opmask && round & 16;
                f.b = vector == VECTOR_EVEX && operation != MUL && f.memory && round & 32;
                unsigned n = 16u << f.vl, x_at = vector == VECTOR_LEGACY ? 1 : 2;
                u8 code[32] = {0}, x[64], y[64], expected[64] = {0};
                random_registers();
                if (round & 64)    /* zeros, which have no inverse, and ones */
                    for (unsigned i = 0; i < 64; i++)
                        if (random64() & 1)
                            ((u8 *)cpu.fpu.v[x_at])[i] = random64() & 1;
                memcpy(x, cpu.fpu.v[x_at], sizeof x);
                memcpy(y, cpu.fpu.v[3], sizeof y);
                memcpy(expected, cpu.fpu.v[1], vector == VECTOR_LEGACY ? 64 : n);
                for (unsigned i = 8; f.b && i < 64; i += 8)
                    memcpy(y + i, y, 8);
                for (unsigned i = 0; i < 64; i += 8)
                    bench_poke64(OPERAND + i, load64(y + i));
                for (unsigned i = 0; i < n; i++)
                    if (!f.opmask || cpu.fpu.k[4] >> i & 1)
                        expected[i] = expected_byte(operation, x, y, i, (u8)f.imm);
                    else if (f.z)
                        expected[i] = 0;
                encode_any(row, f, code);
                ck_assert_msg(run_code(row, code) == -1, "%s \"%s\": exception %d", row->name, row->encoding, cpu.event.vector);
                ck_assert_msg(!memcmp(cpu.fpu.v[1], expected, 64), "%s \"%s\", length %u, memory %d, imm %02x", row->name, row->encoding,
                              f.vl, f.memory, f.imm);
            }
}
END_TEST

/* The S-box by AESENCLAST: of 16 equal bytes, which ShiftRows does not tell apart, with a key of zeros. */
START_TEST(as_aes)
{
    static const u8 last_round[15] = {0x66, 0x0f, 0x38, 0xdd, 0xcb};
    u64 matrix = 0;
    prepare();
    for (unsigned i = 0; i < 8; i++)       /* bit i of the S-box: bits i, i + 4, i + 5, i + 6, i + 7 of the inverse */
        for (unsigned k = 0; k < 5; k++)
            matrix |= BIT(8 * (7 - i) + (i + (k ? 3 + k : 0)) % 8);
    for (unsigned b = 0; b < 256; b++) {
        u8 code[32] = {0}, box;
        random_registers();
        memset(cpu.fpu.v[1], (int)b, 16);
        memset(cpu.fpu.v[3], 0, 16);
        ck_assert_int_eq(run_code(row_named(VECTOR_LEGACY, "AESENCLAST", "DD"), last_round), -1);
        box = *(u8 *)cpu.fpu.v[1];
        const struct insn_row *row = row_of(AFFINE_INVERSE, VECTOR_VEX);
        memset(cpu.fpu.v[2], (int)b, 32);
        for (unsigned q = 0; q < 4; q++)
            cpu.fpu.v[3][q] = matrix;
        encode_any(row, (struct form){.vl = 1, .imm = 0x63}, code);
        ck_assert_int_eq(run_code(row, code), -1);
        for (unsigned i = 0; i < 32; i++)
            ck_assert_msg(((u8 *)cpu.fpu.v[1])[i] == box, "S-box of %02x", b);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_form, as_aes};
    return bench_run("gfni", tests, ARRAY_SIZE(tests));
}
