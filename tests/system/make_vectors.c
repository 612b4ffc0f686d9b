/*
 * make_vectors: instructions for the vector oracle, from the rows of cpu/insn.def that use VEX or EVEX.
 *
 *     make_vectors COUNT BLOB NAMES      COUNT encodings of each row; the rows' keys, one a line
 *
 * Each row's encodings are drawn by a generator seeded with the row's own columns, so that rows which come and go elsewhere in the table
 * do not change them, and what was once judged stays judged. Legal forms mostly; one in sixteen has a field at random, which may be #UD.
 *
 * BLOB: u32 number of rows; their seeds, u64 each; then for each row COUNT times struct encoded.
 */
#include "cpu/features.h"
#include "cpu/state.h"
#include "cpu/table.h"

#include <stdlib.h>
#include <string.h>

#define FLAG_VSIB 1u               /* the vector `index` is an index of addresses: its elements are made small */
#define FLAG_WITHIN 2u             /* the memory operand stays within its page */
#define FLAG_QUADS 4u              /* indexes have 64 bits */
struct encoded { u8 length, flags, index, undefined, code[12]; };

static u64 rng_state;
static u64 rng(void)
{
    rng_state += 0x9e3779b97f4a7c15ull;
    u64 z = rng_state;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static unsigned below(unsigned n) { return (unsigned)(rng() >> 33) % n; }
static bool one_in(unsigned n) { return below(n) == 0; }

static u64 key_seed(const char *key)
{
    u64 h = 0xcbf29ce484222325ull;
    for (; *key; key++)
        h = (h ^ (u8)*key) * 0x100000001b3ull;
    return h;
}

/* What Bochs 2.7 has as well. */
static bool judged(const struct insn_row *row)
{
    static const u16 features[] = {
        FEATURE_AVX, FEATURE_AVX2, FEATURE_FMA, FEATURE_F16C, FEATURE_BMI1, FEATURE_BMI2, FEATURE_GFNI, FEATURE_VAES, FEATURE_VPCLMULQDQ,
        FEATURE_AVX512F, FEATURE_AVX512DQ, FEATURE_AVX512IFMA, FEATURE_AVX512CD, FEATURE_AVX512BW, FEATURE_AVX512VL, FEATURE_AVX512VBMI,
        FEATURE_AVX512VBMI2, FEATURE_AVX512VNNI, FEATURE_AVX512BITALG, FEATURE_AVX512VPOPCNTDQ, FEATURE_AES, FEATURE_PCLMULQDQ,
    };
    if (row->vector == VECTOR_LEGACY)
        return false;
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (row->feature == features[i])
            return true;
    return false;
}

/* What Bochs 2.7 gets wrong is not drawn, where the rest of the row can be judged by it. */
enum { WITHIN = 1, LOW_INDEX = 2, NO_DISP = 4, FIXED_W = 8, WHOLE_LENGTH = 16, REGISTERS = 32, SMALL_COUNT = 64 };
static unsigned left_out(const struct insn_row *row)
{
    static const struct { const char *name; u8 vector; u8 what; } rows[] = {
        /* disp8 is not scaled by the element [SDM2 "Compressed Displacement (disp8*N) Support in EVEX"] */
        {"VPINSRB", VECTOR_EVEX, NO_DISP}, {"VPEXTRW", VECTOR_EVEX, NO_DISP},
        /* W is ignored, or not [SDM2, the encodings] */
        {"VEXTRACTPS", VECTOR_EVEX, FIXED_W}, {"VPACKSSDW", VECTOR_EVEX, FIXED_W}, {"VPACKSSWB", VECTOR_EVEX, FIXED_W},
        {"VPBLENDVB", VECTOR_VEX, FIXED_W},
        /* bits above the vector length stay */
        {"VPBROADCASTMB2Q", VECTOR_EVEX, WHOLE_LENGTH}, {"VPBROADCASTMW2D", VECTOR_EVEX, WHOLE_LENGTH},
        /* which masked-out memory may fault [SDM2 "Exceptions Type E4", "Exceptions Type E6"]; counts above the width */
        {"VEXTRACTF64X4", VECTOR_EVEX, WITHIN}, {"VEXTRACTI64X2", VECTOR_EVEX, WITHIN}, {"VBROADCASTI32X8", VECTOR_EVEX, WITHIN},
        {"VPSRAW", VECTOR_EVEX, WITHIN | SMALL_COUNT},
        /* faults under a clear mask, or stores nothing */
        {"VEXPANDPD", VECTOR_EVEX, REGISTERS}, {"VPEXPANDB", VECTOR_EVEX, REGISTERS}, {"VPEXPANDW", VECTOR_EVEX, REGISTERS},
        {"VPEXPANDD", VECTOR_EVEX, REGISTERS}, {"VPEXPANDQ", VECTOR_EVEX, REGISTERS}, {"VPCOMPRESSB", VECTOR_EVEX, REGISTERS},
    };
    /* Gathers and scatters: #UD for index registers 16 to 31, the mask sign-extended where the first element faults. */
    unsigned what = row->attr & ROW_VSIB ? WITHIN | LOW_INDEX : 0;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].vector == row->vector && strcmp(rows[i].name, row->name) == 0 && (row->imm != IMM_NONE || !(rows[i].what & SMALL_COUNT)))
            what |= rows[i].what;
    return what;
}

/* Flags that the row leaves undefined, as bits of EFLAGS; OF, bit 11, as bit 1. */
static u8 undefined_flags(const struct insn_row *row)
{
    static const struct { char letter; u8 bit; } letters[] = {{'C', 1}, {'O', 2}, {'P', 4}, {'A', 16}, {'Z', 64}, {'S', 128}};
    const char *u = strstr(row->flags, "u:");
    u8 bits = 0;
    for (u = u ? u + 2 : ""; *u && *u != ' '; u++)
        for (unsigned i = 0; i < ARRAY_SIZE(letters); i++)
            if (*u == letters[i].letter)
                bits |= letters[i].bit;
    return bits;
}

static unsigned pick_length(const struct insn_row *row)
{
    for (;;) {
        unsigned l = below(3);
        if (row->lengths >> l & 1)
            return l;
    }
}

/* ModRM, SIB, displacement: a register, or memory near RBX. */
static unsigned put_modrm(const struct insn_row *row, struct encoded *e, unsigned n, unsigned reg, unsigned rm, bool memory, unsigned index)
{
    if (!memory) {
        e->code[n++] = (u8)(0xc0 | (reg & 7) << 3 | (rm & 7));
        return n;
    }
    bool sib = row->attr & ROW_VSIB || one_in(4), disp = one_in(3) && !(left_out(row) & NO_DISP);
    e->code[n++] = (u8)(disp << 6 | (reg & 7) << 3 | (sib ? 4 : 3));
    if (sib)                           /* RBX and a vector, or RCX, which is small */
        e->code[n++] = (u8)(below(2) << 6 | (row->attr & ROW_VSIB ? index & 7 : 1) << 3 | 3);
    if (disp)
        e->code[n++] = (u8)(below(3) - 1);
    return n;
}

static struct encoded make(const struct insn_row *row)
{
    static const u8 pps[] = {[PREFIX_ANY] = 0, [PREFIX_NP] = 0, [PREFIX_66] = 1, [PREFIX_F3] = 2, [PREFIX_F2] = 3};
    struct encoded e = {0};
    bool evex = row->vector == VECTOR_EVEX, odd = one_in(16);
    unsigned registers = evex ? 32 : 16, n = 0;
    unsigned without = left_out(row);
    bool memory = row->mem_only || (!row->reg_only && one_in(3) && !(without & REGISTERS)), fixed = row->modrm == MODRM_FIXED || row->modrm == MODRM_NONE;
    unsigned reg = row->modrm == MODRM_DIGIT ? row->modrm_value : below(row->k_reg ? 8 : row->gpr_reg ? 16 : registers);
    unsigned rm = below(row->k_rm ? 8 : row->gpr_rm ? 16 : registers), index = below(without & LOW_INDEX ? 16 : registers);
    unsigned vvvv = row->uses_vvvv ? below(row->k_vvvv ? 8 : registers) : odd ? below(registers) : 0;
    unsigned w = row->w < 0 ? below(2) : (unsigned)row->w, l = pick_length(row), pp = pps[row->prefix];
    /* RSP is the harness's */
    if (row->gpr_reg && reg == 4)
        reg = 5;
    if (row->gpr_rm && rm == 4)
        rm = 6;
    if (row->vector == VECTOR_VEX && vvvv == 4)
        vvvv = 7;
    if (odd && one_in(4))
        w ^= 1;
    if (row->attr & ROW_VSIB && !one_in(8)) /* the three registers of a gather are different ones */
        while (index == reg || index == vvvv || vvvv == reg)
            index = below(without & LOW_INDEX ? 16 : registers), vvvv = row->uses_vvvv ? below(registers) : 32, reg = below(registers);
    if (vvvv == 32)
        vvvv = 0;
    if (without & FIXED_W)
        w = row->w == 1;
    if (without & WHOLE_LENGTH)
        l = 2;
    unsigned rbit = ~reg >> 3 & 1, rm_x = memory ? row->attr & ROW_VSIB ? ~index >> 3 & 1 : 1 : evex ? ~rm >> 4 & 1 : 1;
    unsigned bbit = memory ? 1 : ~rm >> 3 & 1;
    if (!evex) {
        if (row->map == 1 && !w && rm_x && bbit && one_in(2)) {
            e.code[n++] = 0xc5;
            e.code[n++] = (u8)(rbit << 7 | (~vvvv & 15) << 3 | (l & 1) << 2 | pp);
        } else {
            e.code[n++] = 0xc4;
            e.code[n++] = (u8)(rbit << 7 | rm_x << 6 | bbit << 5 | row->map);
            e.code[n++] = (u8)(w << 7 | (~vvvv & 15) << 3 | (l & 1) << 2 | pp);
        }
    } else {
        bool nomask = row->attr & ROW_NOMASK, needmask = row->attr & ROW_NEEDMASK;
        unsigned aaa = needmask ? 1 + below(7) : nomask ? 0 : one_in(3) ? 0 : below(8);
        bool z = !row->mem_dest && !row->k_dest && !needmask && aaa && one_in(2);
        if (row->mem_dest && !memory && aaa && one_in(2))
            z = true;
        bool broadcast = row->tuple == TUPLE_FV || row->tuple == TUPLE_HV || row->tuple == TUPLE_QV;
        bool b = memory ? broadcast && one_in(3) : (row->attr & (ROW_ER | ROW_SAE)) && one_in(3);
        if (odd) {
            switch (below(3)) { /* not b: Bochs 2.7 stops on one that it does not expect */
            case 0: aaa = below(8); break;
            case 1: z = !z; break;
            default: l = without & WHOLE_LENGTH ? 2 : below(4);
            }
        }
        unsigned ll = b && !memory ? below(4) : l;
        e.code[n++] = 0x62;
        e.code[n++] = (u8)(rbit << 7 | rm_x << 6 | bbit << 5 | (~reg >> 4 & 1) << 4 | row->map);
        e.code[n++] = (u8)(w << 7 | (~vvvv & 15) << 3 | 4 | pp);
        unsigned v = row->attr & ROW_VSIB ? ~index >> 4 & 1 : ~vvvv >> 4 & 1;
        e.code[n++] = (u8)(z << 7 | ll << 5 | b << 4 | v << 3 | aaa);
    }
    e.code[n++] = row->opcode;
    if (row->modrm == MODRM_FIXED)
        e.code[n++] = (u8)row->modrm_value;
    else if (!fixed)
        n = put_modrm(row, &e, n, reg, rm, memory, index);
    if (row->imm == IMM_B || row->imm == IMM_BS || row->imm == IMM_IS4)
        e.code[n++] = (u8)rng() & (without & SMALL_COUNT ? 15 : 255);
    if (without & WITHIN)
        e.flags |= FLAG_WITHIN;
    e.length = (u8)n;
    e.undefined = undefined_flags(row);
    if (row->attr & ROW_VSIB) {
        e.flags |= FLAG_VSIB | (strstr(row->name, "GATHERQ") || strstr(row->name, "SCATTERQ") ? FLAG_QUADS : 0);
        e.index = (u8)index;
    }
    return e;
}

static void put(FILE *f, const void *bytes, size_t n)
{
    if (fwrite(bytes, 1, n, f) != n) {
        fprintf(stderr, "make_vectors: cannot write\n");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: make_vectors COUNT BLOB NAMES\n");
        return 64;
    }
    unsigned count = (unsigned)atoi(argv[1]);
    FILE *blob = fopen(argv[2], "wb"), *names = fopen(argv[3], "w");
    if (!blob || !names || !count) {
        fprintf(stderr, "make_vectors: cannot write %s or %s\n", argv[2], argv[3]);
        return 66;
    }
    insn_table_init();
    u32 rows = 0;
    for (unsigned i = 0; i < insn_row_count; i++)
        rows += judged(&insn_rows[i]);
    put(blob, &rows, 4);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < insn_row_count; i++) {
            const struct insn_row *row = &insn_rows[i];
            if (!judged(row))
                continue;
            char key[256];
            insn_row_key(row, key, sizeof(key));
            u64 seed = key_seed(key);
            if (pass == 0) {
                put(blob, &seed, 8);
                fprintf(names, "%016llx %s\n", (unsigned long long)seed, key);
                continue;
            }
            rng_state = seed;
            for (unsigned v = 0; v < count; v++) {
                struct encoded e = make(row);
                put(blob, &e, sizeof(e));
            }
        }
    return fclose(blob) || fclose(names);
}
