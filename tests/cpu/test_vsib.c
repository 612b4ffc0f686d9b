/* Gathers and scatters: every row, at every length, with index vectors of both halves of the register file, scales,
 * scaled displacements and 32-bit addresses, against a model that goes element by element; EVEX gathers against their
 * AVX2 forms, which tests/insn compares with a processor; faults in the middle; encodings that are undefined.
 *
 * [SDM2 "VPGATHERDD, VPGATHERDQ", "VPGATHERQD, VPGATHERQQ", "VGATHERDPS, VGATHERDPD", "VPSCATTERDD, ...",
 * SDM1 "Vector SIB (VSIB) Memory Addressing"]
 */
#include "tests/cpu/evex.h"

#define AREA 0x8000u          /* bytes around OPERAND that indexes reach */
#define BASE 0x180000u         /* below HOLE */

struct shape {
    bool scatter;
    unsigned index_bits, bits; /* of an index, of an element */
};
static struct shape shape_of(const struct insn_row *row)
{
    const char *kind = strstr(row->name, "GATHER"), *scatter = strstr(row->name, "SCATTER");
    char index = kind ? kind[6] : scatter[7];
    return (struct shape){.scatter = scatter, .index_bits = index == 'D' ? 32 : 64, .bits = row->w == 1 ? 64 : 32};
}
static unsigned elements(struct shape s, unsigned vl)
{
    return (128u << vl) / (s.bits > s.index_bits ? s.bits : s.index_bits);
}

/* Indexes that stay within the area: a few equal ones, so that scatters overwrite each other. */
static void random_indexes(u64 *v, struct shape s, unsigned scale)
{
    for (unsigned i = 0; i < 512 / s.index_bits; i++) {
        i64 reach = (i64)(0x4000 >> scale), index = (i64)(random64() % (u64)(2 * reach)) - reach;
        lane_set(v, i, s.index_bits, random64() % 4 ? (u64)index : random64() % 3);
    }
}

static u64 memory_element(u64 la, unsigned bits)
{
    u64 v = bench_peek64(la);
    return low(v, bits);
}

START_TEST(every_row)
{
    unsigned rows = 0;
    prepare();
    static u8 before[2 * AREA], after[2 * AREA];
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (row->vector != VECTOR_EVEX || !(row->attr & ROW_VSIB))
            continue;
        rows++;
        struct shape s = shape_of(row);
        for (unsigned round = 0; round < 120; round++) {
            struct form f = {.vl = round % 3, .opmask = 1 + round % 7, .memory = true, .scale = round / 3 % 4,
                             .high_index = round & 1};
            unsigned index = f.high_index ? 20 : 4, lanes = elements(s, f.vl);
            int disp8 = (int)(random64() % 256) - 128;
            u8 code[32] = {0}, *p = code;
            random_registers();
            cpu.core.rdi = BASE | (round % 5 == 0 ? 0x7f00000000 : 0);
            if (round % 5 == 0)    /* a 67 prefix: the upper half of the base does not count, nor carries beyond 32 bits */
                *p++ = 0x67;
            unsigned length = encode(row, f, disp8, p);
            memset(p + length, 0, (size_t)(code + sizeof code - (p + length)));
            random_indexes(cpu.fpu.v[index], s, f.scale);
            for (u32 i = 0; i < 2 * AREA; i += 8)
                store64(before + i, random64());
            bus_copy_to(&bus, BASE - AREA, before, sizeof before);
            /* the model */
            u64 v[32][8], k[8];
            memcpy(v, cpu.fpu.v, sizeof v);
            memcpy(k, cpu.fpu.k, sizeof k);
            for (unsigned i = 0; i < lanes; i++) {
                i64 offset = as_signed(lane(v[index], i, s.index_bits), s.index_bits) * (1 << f.scale) + disp8 * (int)(s.bits / 8);
                u8 *at = before + AREA + offset;
                ck_assert(at >= before && at + 8 <= before + sizeof before);
                if (!(k[f.opmask] >> i & 1))
                    continue;
                u64 value = lane(v[1], i, s.bits);
                if (s.scatter)
                    memcpy(at, &value, s.bits / 8);
                else
                    lane_set(v[1], i, s.bits, low(load64(at), s.bits));
            }
            for (unsigned i = lanes * s.bits / 8; !s.scatter && i < 64; i++)
                ((u8 *)v[1])[i] = 0;
            k[f.opmask] = 0;
            ck_assert_msg(run_code(row, code) == -1, "%s, length %u: exception %d", row->name, f.vl, cpu.event.vector);
            ck_assert_msg(!memcmp(v, cpu.fpu.v, sizeof v), "%s, length %u, scale %u: vectors", row->name, f.vl, f.scale);
            ck_assert_msg(!memcmp(k, cpu.fpu.k, sizeof k), "%s, length %u: opmasks", row->name, f.vl);
            bus_copy_from(&bus, after, BASE - AREA, sizeof after);
            ck_assert_msg(!memcmp(before, after, sizeof after), "%s, length %u, scale %u: memory", row->name, f.vl, f.scale);
        }
    }
    ck_assert_uint_eq(rows, 16);
}
END_TEST

/* The same gather by AVX2, whose mask is the sign bits of a vector: vector 1 from base RDI and indexes in vector 4, mask in
 * vector 2. */
START_TEST(as_avx2)
{
    unsigned rows = 0;
    prepare();
    random_memory(OPERAND - 0x8000, 0x10000);
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (row->vector != VECTOR_EVEX || !(row->attr & ROW_VSIB) || shape_of(row).scatter)
            continue;
        rows++;
        struct shape s = shape_of(row);
        char opcode[16];
        snprintf(opcode, sizeof opcode, "W%d %02X", row->w, row->opcode);
        const struct insn_row *twin = row_named(VECTOR_VEX, row->name, opcode);
        for (unsigned round = 0; round < 60; round++) {
            struct form f = {.vl = round % 2, .opmask = 3, .memory = true, .scale = round / 2 % 4};
            const u8 vex[15] = {0xc4, 0xe2, (u8)((row->w == 1) << 7 | 13 << 3 | f.vl << 2 | 1), row->opcode, 0x0c,
                                (u8)(f.scale << 6 | 4 << 3 | 7)};
            u64 v[8], expected[8];
            random_registers();
            random_indexes(cpu.fpu.v[4], s, f.scale + 1);
            memcpy(v, cpu.fpu.v[1], sizeof v);
            memset(cpu.fpu.v[2], 0, 64);
            for (unsigned i = 0; i < 512 / s.bits; i++)
                lane_set(cpu.fpu.v[2], i, s.bits, (cpu.fpu.k[3] >> i & 1) << (s.bits - 1) | (random64() & (BIT(s.bits - 1) - 1)));
            ck_assert_int_eq(run(row, f, 0), -1);
            memcpy(expected, cpu.fpu.v[1], sizeof v);
            memcpy(cpu.fpu.v[1], v, sizeof v);
            ck_assert_int_eq(run_code(twin, vex), -1);
            ck_assert_msg(!memcmp(expected, cpu.fpu.v[1], sizeof v), "%s, length %u", row->name, f.vl);
        }
    }
    ck_assert_uint_eq(rows, 8);
}
END_TEST

/* Each element in turn lies where nothing is: those before it are done and their mask bits clear, it and those behind it
 * are not; put right, the instruction goes on there. */
START_TEST(faults)
{
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (row->vector != VECTOR_EVEX || !(row->attr & ROW_VSIB))
            continue;
        struct shape s = shape_of(row);
        unsigned bytes = s.bits / 8;
        for (unsigned vl = 0; vl < 3; vl++) {
            unsigned lanes = elements(s, vl);
            for (unsigned bad = 0; bad < lanes; bad++) {
                struct form f = {.vl = vl, .opmask = 5, .memory = true};
                random_registers();
                random_memory(HOLE - 0x200, 0x200);
                cpu.core.rdi = HOLE - 0x200;
                cpu.fpu.k[5] |= BIT(bad);
                for (unsigned i = 0; i < 512 / s.index_bits; i++)
                    lane_set(cpu.fpu.v[4], i, s.index_bits, i == bad ? 0x200 : 16 * (u64)(i & 15));
                u64 k = cpu.fpu.k[5], data[8];
                memcpy(data, cpu.fpu.v[1], sizeof data);
                ck_assert_msg(run(row, f, 0) == EXC_PF, "%s, element %u", row->name, bad);
                ck_assert_uint_eq(cpu.event.payload, HOLE);
                ck_assert_uint_eq(cpu.event.error, s.scatter ? 6 : 4);
                ck_assert_msg(cpu.fpu.k[5] == (k & ~(BIT(bad) - 1)), "%s, element %u: mask", row->name, bad);
                for (unsigned i = 0; i < lanes; i++) {
                    u64 memory = memory_element(HOLE - 0x200 + 16 * (u64)(i & 15), s.bits);
                    bool done = i < bad && k >> i & 1, same = memory == lane(s.scatter ? data : cpu.fpu.v[1], i, s.bits);
                    if (!s.scatter && !done)
                        ck_assert_msg(lane(cpu.fpu.v[1], i, s.bits) == lane(data, i, s.bits), "%s, element %u", row->name, i);
                    ck_assert_msg(!done || same, "%s, element %u of those done", row->name, i);
                    ck_assert_msg(done || !s.scatter || !same, "%s, element %u of those to do", row->name, i);
                }
                lane_set(cpu.fpu.v[4], bad, s.index_bits, 16 * (u64)(bad & 15) + bytes);
                ck_assert_int_eq(run(row, f, 0), -1);
                ck_assert_uint_eq(cpu.fpu.k[5], 0);
                for (unsigned i = 0; i < lanes; i++) {
                    u64 memory = memory_element(HOLE - 0x200 + 16 * (u64)(i & 15) + (i == bad ? bytes : 0), s.bits);
                    ck_assert_msg(!(k >> i & 1) || memory == lane(s.scatter ? data : cpu.fpu.v[1], i, s.bits),
                                  "%s, element %u after %u was put right", row->name, i, bad);
                }
            }
        }
    }
}
END_TEST

/* [SDM2 "Exceptions Type E12"]: no mask, EVEX.z, EVEX.b, vvvv used, no SIB byte; a gather into its own index. */
START_TEST(undefined)
{
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (row->vector != VECTOR_EVEX || !(row->attr & ROW_VSIB))
            continue;
        for (unsigned change = 0; change < 7; change++) {
            struct form f = {.vl = 2, .opmask = 1, .memory = true};
            u8 code[32];
            struct insn in;
            random_registers();
            memset(cpu.fpu.v[4], 0, 64);
            f.opmask = change != 1;
            f.z = change == 2;
            f.b = change == 3;
            encode(row, f, 0, code);
            if (change == 4)
                code[2] ^= 8;
            if (change == 5)
                code[5] = 0x47;
            if (change == 6)
                code[5] = 0x64;
            ck_assert_int_eq(insn_decode(cpu.feature, BITS_64, code, 15, &in), DECODE_OK);
            cpu.event = (struct cpu_event){0};
            int vector = in.handler(&cpu, &in) == FLOW_EVENT ? cpu.event.vector : -1;
            bool allowed = change == 0 || (change == 6 && shape_of(row).scatter);
            ck_assert_msg(vector == (allowed ? -1 : EXC_UD), "%s, change %u: %d", row->name, change, vector);
        }
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_row, as_avx2, faults, undefined};
    return bench_run("vsib", tests, ARRAY_SIZE(tests));
}
