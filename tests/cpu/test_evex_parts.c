/* EVEX-encoded moves of parts of vectors: lanes and single elements in and out, compression and expansion, in registers and
 * in memory, masked, against models; and what masked-out memory does by the exception class of each instruction.
 *
 * [SDM2 "VEXTRACTF128/VEXTRACTF32x4/...", "VINSERTF128/...", "EXTRACTPS", "INSERTPS", "PEXTRB/PEXTRD/PEXTRQ", "PEXTRW",
 * "PINSRB/PINSRD/PINSRQ", "PINSRW", "VEXPANDPD", "VPCOMPRESSD", "Exceptions Type E4", "Exceptions Type E6"]
 */
#include "tests/cpu/evex.h"

#define ROUNDS 120

static void memory_of(u64 la, u8 *to, unsigned n) { ck_assert(bus_copy_from(&bus, to, la, n)); }

/* ---- lanes ------------------------------------------------------------------------------------------------------- */

START_TEST(lanes_in_and_out)
{
    /* by name: elements of `bits`, `count` of them in a part */
    static const struct { const char *shape; unsigned bits, count; } shapes[] = {
        {"F32X4", 32, 4}, {"F64X2", 64, 2}, {"F32X8", 32, 8}, {"F64X4", 64, 4},
        {"I32X4", 32, 4}, {"I64X2", 64, 2}, {"I32X8", 32, 8}, {"I64X4", 64, 4},
    };
    prepare();
    for (unsigned c = 0; c < 2 * ARRAY_SIZE(shapes); c++) {
        unsigned bits = shapes[c / 2].bits, count = shapes[c / 2].count, part = bits * count;
        bool insert = c & 1;
        char name[24];
        snprintf(name, sizeof name, "%s%s", insert ? "VINSERT" : "VEXTRACT", shapes[c / 2].shape);
        const struct insn_row *row = named(name, "EVEX");
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct form f = {.vl = 1 + round % 2, .opmask = round / 2 % 3 ? 3 : 0, .memory = round & 4, .imm = (u8)random64()};
            if (!(row->lengths >> f.vl & 1))
                continue;
            f.z = f.opmask && round & 8 && (insert || !f.memory);
            unsigned lanes = (128u << f.vl) / bits, chosen = (f.imm & (lanes / count - 1)) * count, width = insert ? lanes : count;
            u64 v[32][8], image[10], expected[8], source[8];
            random_registers();
            random_memory(OPERAND - 8, 80);
            memcpy(v, cpu.fpu.v, sizeof v);
            memory_of(OPERAND - 8, (u8 *)image, sizeof image);
            memcpy(source, insert && f.memory ? image + 1 : v[insert ? 3 : 1], sizeof source);
            memcpy(expected, insert ? v[1] : f.memory ? image + 1 : v[3], sizeof expected);
            for (unsigned i = 0; i < width; i++) {
                u64 value = !insert ? lane(source, chosen + i, bits)
                            : i >= chosen && i < chosen + count ? lane(source, i - chosen, bits) : lane(v[2], i, bits);
                if (!f.opmask || cpu.fpu.k[3] >> i & 1)
                    lane_set(expected, i, bits, value);
                else if (f.z)
                    lane_set(expected, i, bits, 0);
            }
            for (unsigned i = width; (insert || !f.memory) && i < 512 / bits; i++)
                lane_set(expected, i, bits, 0);
            ck_assert_int_eq(run(row, f, 0), -1);
            if (insert || !f.memory)
                memcpy(v[insert ? 1 : 3], expected, sizeof expected);
            else
                memcpy(image + 1, expected, part / 8);
            ck_assert_msg(!memcmp(v, cpu.fpu.v, sizeof v), "%s, length %u, opmask %u, imm %02x", name, f.vl, f.opmask, f.imm);
            u64 after[10];
            memory_of(OPERAND - 8, (u8 *)after, sizeof after);
            ck_assert_msg(!memcmp(image, after, sizeof after), "%s, length %u, opmask %u: memory", name, f.vl, f.opmask);
        }
    }
}
END_TEST

/* ---- single elements --------------------------------------------------------------------------------------------- */

/* The element of 8 << osz bits, from 128 bits to a general register or memory and back. */
START_TEST(single_elements)
{
    static const struct { const char *name, *part; unsigned bits; bool insert, from_rm; } cases[] = {
        {"VPEXTRB", " 14 ", 8, false, false},  {"VPEXTRW", " 15 ", 16, false, false}, {"VPEXTRW", " C5 ", 16, false, true},
        {"VPEXTRD", " 16 ", 32, false, false}, {"VEXTRACTPS", " 17 ", 32, false, false},
        {"VPINSRB", " 20 ", 8, true, false},   {"VPINSRW", " C4 ", 16, true, false},  {"VPINSRD", " 22 ", 32, true, false},
    };
    unsigned rows = 0;
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        unsigned c = 0;
        while (c < ARRAY_SIZE(cases) && (strcmp(cases[c].name, row->name) != 0 || !strstr(row->encoding, cases[c].part)))
            c++;
        if (row->vector != VECTOR_EVEX || c == ARRAY_SIZE(cases))
            continue;
        rows++;
        for (unsigned round = 0; round < ROUNDS; round++) {
            bool quad = cases[c].bits == 32 && row->w < 0 && round & 2 && strcmp(row->name, "VEXTRACTPS") != 0;
            bool memory = row->mem_only || (!row->reg_only && !cases[c].from_rm && round & 1);
            unsigned bits = quad ? 64 : cases[c].bits, at = (unsigned)(random64() & (128 / bits - 1));
            struct form f = {.memory = memory, .imm = at | (unsigned)(random64() & (256 - 128 / bits))};
            if (row->mem_only && !memory)
                continue;
            u8 code[32];
            int disp8 = memory ? (int)(random64() % 64) - 32 : 0;
            encode(row, f, disp8, code);
            code[2] = (u8)((code[2] & 0x7f) | (quad || (row->w < 0 && bits < 32 && round & 4)) << 7);
            random_registers();
            for (unsigned i = 0; i < 16; i++)
                cpu.core.r[i] = random64();
            cpu.core.rdi = OPERAND;
            u64 place = OPERAND + (u64)(i64)(disp8 * (int)(bits / 8)), v[32][8], r[16], word;
            random_memory(OPERAND - 512, 1024);
            memcpy(v, cpu.fpu.v, sizeof v);
            memcpy(r, cpu.core.r, sizeof r);
            static u8 before[1024], after[1024];
            memory_of(OPERAND - 512, before, sizeof before);
            u8 *element = before + 512 + (place - OPERAND);
            word = low(load64(element), bits);
            if (cases[c].insert) {
                memcpy(v[1], v[2], 16);
                memset(v[1] + 2, 0, 48);
                lane_set(v[1], at, bits, memory ? word : r[3]);
            } else if (memory) {
                word = lane(v[1], at, bits);
                memcpy(element, &word, bits / 8);
            } else {
                r[cases[c].from_rm ? 1 : 3] = lane(v[cases[c].from_rm ? 3 : 1], at, bits);
            }
            ck_assert_msg(run_code(row, code) == -1, "%s \"%s\", exception %d", row->name, row->encoding, cpu.event.vector);
            memory_of(OPERAND - 512, after, sizeof after);
            ck_assert_msg(!memcmp(v, cpu.fpu.v, sizeof v), "%s \"%s\", memory %d, imm %02x: vectors", row->name, row->encoding, memory,
                          f.imm);
            ck_assert_msg(!memcmp(r, cpu.core.r, sizeof r), "%s \"%s\", imm %02x: registers", row->name, row->encoding, f.imm);
            ck_assert_msg(!memcmp(before, after, sizeof after), "%s \"%s\", imm %02x: memory", row->name, row->encoding, f.imm);
        }
    }
    ck_assert_uint_eq(rows, 11);           /* VPEXTRB, VPINSRB and VPINSRW have one for memory and one for registers */
}
END_TEST

/* ---- compression and expansion ----------------------------------------------------------------------------------- */

static const struct { const char *kind; unsigned bits; } packed[] = {
    {"PS", 32}, {"PD", 64}, {"B", 8}, {"W", 16}, {"D", 32}, {"Q", 64},
};

/* Memory holds the active elements side by side: no byte behind them is touched, be it absent. */
START_TEST(compression_and_expansion)
{
    prepare();
    for (unsigned c = 0; c < 2 * ARRAY_SIZE(packed); c++) {
        unsigned bits = packed[c / 2].bits;
        bool expand = c & 1, floating = c / 2 < 2;
        char name[24];
        snprintf(name, sizeof name, "V%s%s%s", floating ? "" : "P", expand ? "EXPAND" : "COMPRESS", packed[c / 2].kind);
        const struct insn_row *row = named(name, "EVEX");
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct form f = {.vl = round % 3, .opmask = round / 3 % 4 ? 3 : 0, .memory = round & 1};
            f.z = f.opmask && round & 2 && (expand || !f.memory);
            unsigned lanes = (128u << f.vl) / bits, active = 0;
            random_registers();
            u64 k = f.opmask ? cpu.fpu.k[3] & low(~0ull, lanes) : low(~0ull, lanes);
            if (round % 5 == 0 && f.opmask)
                cpu.fpu.k[3] &= ~low(~0ull, lanes), k = 0;
            for (unsigned i = 0; i < lanes; i++)
                active += k >> i & 1;
            u64 place = cpu.core.rdi = f.memory ? HOLE - active * bits / 8 : OPERAND;      /* as far as there is memory */
            random_memory(HOLE - 128, 128);
            u64 v[32][8], image[16], source[8] = {0};
            memcpy(v, cpu.fpu.v, sizeof v);
            memory_of(HOLE - 128, (u8 *)image, sizeof image);
            u8 *element = (u8 *)image + 128 - active * bits / 8;
            if (expand && f.memory)
                memcpy(source, element, active * bits / 8);
            else
                memcpy(source, v[expand ? 3 : 1], sizeof source);
            u64 *to = v[expand ? 1 : 3];
            unsigned n = 0;
            if (expand) {
                for (unsigned i = 0; i < 512 / bits; i++)
                    if (i >= lanes || f.z || k >> i & 1)
                        lane_set(to, i, bits, i < lanes && k >> i & 1 ? lane(source, n++, bits) : 0);
            } else {
                u64 packed_elements[8] = {0};
                for (unsigned i = 0; i < lanes; i++)
                    if (k >> i & 1)
                        lane_set(packed_elements, n++, bits, lane(source, i, bits));
                if (f.memory)
                    memcpy(element, packed_elements, active * bits / 8);
                for (unsigned i = 0; !f.memory && i < 512 / bits; i++)
                    if (i < n || i >= lanes || f.z)
                        lane_set(to, i, bits, lane(packed_elements, i, bits));
            }
            ck_assert_msg(run(row, f, 0) == -1, "%s, length %u, %u elements at %llx: exception %d", name, f.vl, active,
                          (unsigned long long)place, cpu.event.vector);
            ck_assert_msg(!memcmp(v, cpu.fpu.v, sizeof v), "%s, length %u, memory %d, z %d", name, f.vl, f.memory, f.z);
            u64 after[16];
            memory_of(HOLE - 128, (u8 *)after, sizeof after);
            ck_assert_msg(!memcmp(image, after, sizeof after), "%s, length %u: memory", name, f.vl);
            if (!f.memory || !active)
                continue;
            cpu.core.rdi++;        /* the last element's last byte is not there */
            memcpy(v, cpu.fpu.v, sizeof v);
            ck_assert_msg(run(row, f, 0) == EXC_PF, "%s, length %u, %u elements", name, f.vl, active);
            ck_assert_uint_eq(cpu.event.payload, HOLE);
            ck_assert_mem_eq(v, cpu.fpu.v, sizeof v);
            memory_of(HOLE - 128, (u8 *)image, sizeof image);
            ck_assert_msg(!memcmp(image, after, sizeof after), "%s: part of a store that faults", name);
        }
    }
}
END_TEST

/* ---- exception classes ------------------------------------------------------------------------------------------- */

/* Classes E4NF, E4NF.nb, E5NF and E6NF have no fault suppression: a memory operand faults as a whole, whatever the mask; E4, E4.nb, E5
 * and E6 have it. By each instruction's "Other Exceptions". */
START_TEST(fault_suppression)
{
    static const char *const without[] = {
        /* E6NF */
        "VEXTRACTF32X4", "VEXTRACTF64X2", "VEXTRACTF32X8", "VEXTRACTF64X4", "VEXTRACTI32X4", "VEXTRACTI64X2", "VEXTRACTI32X8",
        "VEXTRACTI64X4", "VINSERTF32X4", "VINSERTF64X2", "VINSERTF32X8", "VINSERTF64X4", "VINSERTI32X4", "VINSERTI64X2",
        "VINSERTI32X8", "VINSERTI64X4",
        /* E4NF.nb */
        "VPSRAW", "VPSRLW", "VPSLLW", "VPACKSSWB", "VPACKUSWB", "VPALIGNR", "VPMADDUBSW", "VPMADDWD", "VPSHUFB", "VPSHUFHW", "VPSHUFLW",
        "VPUNPCKLBW", "VPUNPCKHBW", "VPUNPCKLWD", "VPUNPCKHWD", "VDBPSADBW", "VPERMW", "VPERMB", "VMOVSHDUP", "VMOVSLDUP",
        /* E4NF */
        "VPACKSSDW", "VPACKUSDW", "VPUNPCKLDQ", "VPUNPCKHDQ", "VPUNPCKLQDQ", "VPUNPCKHQDQ", "VUNPCKLPS", "VUNPCKHPS", "VUNPCKLPD",
        "VUNPCKHPD", "VPSHUFD", "VSHUFPS", "VSHUFPD", "VPERMD", "VPERMQ", "VPERMPS", "VPERMPD", "VPERMILPS", "VPERMILPD", "VPERMI2B",
        "VPERMI2W", "VPERMI2D", "VPERMI2Q", "VPERMI2PS", "VPERMI2PD", "VPERMT2B", "VPERMT2W", "VPERMT2D", "VPERMT2Q", "VPERMT2PS",
        "VPERMT2PD", "VALIGND", "VALIGNQ", "VSHUFF32X4", "VSHUFF64X2", "VSHUFI32X4", "VSHUFI64X2", "VPCONFLICTD", "VPCONFLICTQ",
        "VPMULTISHIFTQB", "VGF2P8AFFINEQB", "VGF2P8AFFINEINVQB", "VCVTNE2PS2BF16",
        /* E5NF */
        "VMOVDDUP",
    };
    unsigned faulting = 0, suppressed = 0;
    prepare();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        if (row->vector != VECTOR_EVEX || row->reg_only || row->attr & (ROW_NOMASK | ROW_NEEDMASK) || row->k_rm || row->gpr_rm)
            continue;
        /* Shifts by a count in memory, which is no vector, are E4NF.nb throughout. */
        bool faults = row->tuple == TUPLE_M128;
        for (unsigned i = 0; i < ARRAY_SIZE(without); i++)
            faults = faults || !strcmp(row->name, without[i]);
        for (unsigned vl = 0; vl < 3; vl++) {
            struct form f = {.vl = vl, .opmask = 2, .memory = true};
            if (!(row->lengths >> vl & 1))
                continue;
            random_registers();
            cpu.fpu.mxcsr = 0x1f80;
            cpu.fpu.k[2] = 0;
            cpu.core.rdi = HOLE;
            u8 code[32];
            encode(row, f, 0, code);
            int vector = run_unjudged(row, code);
            ck_assert_msg(vector == (faults ? EXC_PF : -1), "%s \"%s\", length %u, no element active: exception %d", row->name,
                          row->encoding, vl, vector);
            faulting += faults;
            suppressed += !faults;
        }
    }
    ck_assert_uint_gt(faulting, 200);
    ck_assert_uint_gt(suppressed, 700);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {lanes_in_and_out, single_elements, compression_and_expansion, fault_suppression};
    return bench_run("evex_parts", tests, ARRAY_SIZE(tests));
}
