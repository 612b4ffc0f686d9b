/* What the suites of EVEX-encoded instructions share: rows by name, random registers, encoding, running one instruction.
 *
 * Register forms are reg 1, vvvv 2, rm 3; a memory operand is [RDI + disp8], and with a vector of indexes (VSIB) that is
 * register 4. Include it in one file of a program, as bench_cpu.h.
 */
#ifndef NESTOR_TESTS_EVEX_H
#define NESTOR_TESTS_EVEX_H

#include "tests/cpu/bench_cpu.h"

#include "cpu/decode.h"
#include "cpu/table.h"

#define OPERAND 0x10000u
#define HOLE 0x200000u /* the 2-MByte page there is taken away */

static u64 random_state = 1;
static inline u64 random64(void)
{
    u64 z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* The first row of this name whose encoding has `part` in it. After prepare(). */
static inline const struct insn_row *row_named(enum row_vector vector, const char *name, const char *part)
{
    for (unsigned i = 0; i < insn_row_count; i++)
        if (insn_rows[i].vector == vector && !strcmp(insn_rows[i].name, name) && strstr(insn_rows[i].encoding, part))
            return &insn_rows[i];
    ck_abort_msg("no row %s with %s", name, part);
}
static inline const struct insn_row *named(const char *name, const char *part) { return row_named(VECTOR_EVEX, name, part); }

/* ---- elements ---------------------------------------------------------------------------------------------------- */

static inline u64 low(u64 v, unsigned bits) { return bits == 64 ? v : v & (BIT(bits) - 1); }
static inline i64 as_signed(u64 v, unsigned bits) { return (i64)(v << (64 - bits)) >> (64 - bits); }
/* Element i, of so many bits. */
static inline u64 lane(const u64 *v, unsigned i, unsigned bits) { return low(v[i * bits / 64] >> (i * bits % 64), bits); }
static inline void lane_set(u64 *v, unsigned i, unsigned bits, u64 value)
{
    unsigned at = i * bits % 64;
    v[i * bits / 64] = (v[i * bits / 64] & ~(low(~0ull, bits) << at)) | low(value, bits) << at;
}

/* ---- one instruction --------------------------------------------------------------------------------------------- */

struct form {
    unsigned vl, opmask, imm;
    bool z, b, memory;
    unsigned scale;            /* VSIB: log2 */
    bool high_index;           /* VSIB: vector 20 instead of 4 */
};

/* The bytes of a row of EVEX in this form; what follows them in the first 16 of `code` is 0. */
static inline unsigned encode(const struct insn_row *row, struct form f, int disp8, u8 *code)
{
    static const u8 pp[] = {[PREFIX_NP] = 0, [PREFIX_66] = 1, [PREFIX_F3] = 2, [PREFIX_F2] = 3};
    bool vsib = row->attr & ROW_VSIB;
    unsigned n = 0, vvvv = row->uses_vvvv ? 2 : 0;
    code[n++] = 0x62;
    code[n++] = (u8)(0xf0 | row->map);
    code[n++] = (u8)((row->w == 1) << 7 | (~vvvv & 15) << 3 | 4 | pp[row->prefix]);
    code[n++] = (u8)(f.z << 7 | f.vl << 5 | f.b << 4 | (f.high_index ? 0 : 8) | f.opmask);
    code[n++] = row->opcode;
    unsigned reg = row->modrm == MODRM_DIGIT ? row->modrm_value : 1;
    code[n++] = (u8)(f.memory ? 0x40 | reg << 3 | (vsib ? 4 : 7) : 0xc0 | reg << 3 | 3);
    if (f.memory && vsib)
        code[n++] = (u8)(f.scale << 6 | 0x20 | 7);
    if (f.memory)
        code[n++] = (u8)disp8;
    if (row->imm != IMM_NONE)
        code[n++] = (u8)f.imm;
    memset(code + n, 0, 16 - n);
    return n;
}

static inline void prepare(void)
{
    bench_long_mode(3);
    memset(cpu.feature, 0xff, sizeof cpu.feature);
    cpu.sys.cr4 |= CR4_OSXSAVE;
    cpu.sys.xcr0 = 0xe7;
    bench_poke64(BENCH_TABLES + 0x2000 + 8 * (HOLE >> 21), 0);
    cpu_mode_update(&cpu);
    insn_table_init();
}
static inline void random_registers(void)
{
    for (unsigned i = 0; i < 32; i++)
        for (unsigned q = 0; q < 8; q++)
            cpu.fpu.v[i][q] = random64() & (random64() % 3 ? ~0ull : random64());
    for (unsigned i = 0; i < 8; i++)
        cpu.fpu.k[i] = random64();
    cpu.core.rdi = OPERAND;
}
/* `bytes` bytes of memory, a multiple of 8, become random. */
static inline void random_memory(u64 la, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += 8)
        bench_poke64(la + i, random64());
}

/* Decodes 64-bit code to this row and runs it; the event's vector, -1 without one. The outcome is not judged: the row is not
 * noted (tests/rows.h). */
static inline int run_unjudged(const struct insn_row *row, const u8 *code)
{
    struct insn in;
    ck_assert_int_eq(insn_decode(cpu.feature, BITS_64, code, 15, &in), DECODE_OK);
    ck_assert_msg(in.row != 0xffff && &insn_rows[in.row] == row, "%s \"%s\" is not decoded", row->name, row->encoding);
    cpu.event = (struct cpu_event){0};
    return in.handler(&cpu, &in) == FLOW_EVENT ? cpu.event.vector : -1;
}
static inline int run_code(const struct insn_row *row, const u8 *code)
{
    rows_note((unsigned)(row - insn_rows));
    return run_unjudged(row, code);
}
static inline int run(const struct insn_row *row, struct form f, int disp8)
{
    u8 code[32];
    encode(row, f, disp8, code);
    return run_code(row, code);
}

#endif
