/* The decoder: lengths and operands of random instructions against Capstone's, in 16-, 32- and 64-bit code, where rows exist;
 * and what lies at its edges: prefixes in any order, bytes that are not there yet, instructions longer than 15 bytes.
 */
#include "cpu/decode.h"
#include "cpu/features.h"
#include "cpu/table.h"
#include "tests/suite.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#ifdef NESTOR_HAVE_CAPSTONE
#include <capstone.h>
#endif

static u32 features[FEATURE_WORDS];

static void setup(void)
{
    insn_table_init();
    memset(features, 0xff, sizeof features);
}

static u64 random_state;
static u64 random64(void)
{
    u64 z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

/* Prefixes, an opcode or a VEX prefix, and enough random bytes behind it. */
static void random_bytes(u8 *bytes, unsigned bits)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x3e, 0x26, 0x36,
                                  0x64, 0x65, 0x40, 0x41, 0x44, 0x48, 0x4f};
    unsigned n = 0;
    while (n < 4 && random64() % 5 < 2)
        bytes[n++] = prefixes[random64() % (bits == BITS_64 ? 15 : 10)];
    if (random64() % 8 == 0) {
        bytes[n++] = random64() % 2 ? 0xc4 : 0xc5;
    } else if (random64() % 2) {
        bytes[n++] = 0x0f;
        if (random64() % 4 == 0)
            bytes[n++] = random64() % 2 ? 0x38 : 0x3a;
    }
    while (n < 15)
        bytes[n++] = (u8)random64();
}

#ifdef NESTOR_HAVE_CAPSTONE
static const struct insn_row *row_of(const struct insn *in) { return &insn_rows[in->row]; }

/* Where Capstone 4 chooses otherwise, or is mistaken. */
static bool exempt(const struct insn *in, unsigned bits)
{
    const struct insn_row *row = row_of(in);
    /* UD0 and UD1 have a ModRM operand [SDM2 "UD"]; Capstone stops at the opcode. */
    if (strcmp(row->name, "UD0") == 0 || strcmp(row->name, "UD1") == 0)
        return true;
    /* With 66 or F2 it is AMD's EXTRQ and INSERTQ. */
    if (strcmp(row->name, "VMREAD") == 0)
        return true;
    /* It loses count of the immediates of PUSH, CALL and RET when prefixes meet; the host CPU (tests/insn) sides with
     * Nestor. */
    bool meet = (in->flags & INSN_OPSIZE && in->flags & (INSN_REP | INSN_REPNE)) ||
                (in->flags & INSN_REX_W && in->flags & (INSN_OPSIZE | INSN_ADDR32));
    if (meet && (strcmp(row->name, "PUSH") == 0 || strcmp(row->name, "POP") == 0 || strcmp(row->name, "CALL") == 0 ||
                 strcmp(row->name, "RET") == 0))
        return true;
    /* MOVSXD without REX.W writes 32 or 16 bits [SDM2 "MOVSX/MOVSXD"]; Capstone has the 64-bit form only. */
    if (strcmp(row->name, "MOVSXD") == 0 && !(in->flags & INSN_REX_W))
        return true;
    /* Near branches of 64-bit code ignore 66 on Intel's processors; Capstone does as AMD's. */
    return bits == BITS_64 && row->imm == IMM_JZ && in->flags & INSN_OPSIZE;
}

/* A register by its name: which bank ('b' byte, 'r' general, 's' segment, 'x' vector, 'm' MMX, 'c' control, 'd' debug), which number
 * (byte registers: the offset into core.r, as struct insn has them), how many bytes. bank 0: another kind. */
struct named {
    char bank;
    unsigned number, size;
};

static struct named register_of(csh handle, unsigned id)
{
    static const char general[8][3] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
    static const char segments[6][3] = {"es", "cs", "ss", "ds", "fs", "gs"};
    static const struct { char prefix[4]; char bank; unsigned size; } numbered[] = {
        {"xmm", 'x', 16}, {"ymm", 'x', 32}, {"zmm", 'x', 64}, {"mm", 'm', 8}, {"cr", 'c', 0}, {"dr", 'd', 0}};
    const char *name = cs_reg_name(handle, id);
    if (!name)
        return (struct named){0, 0, 0};
    for (unsigned i = 0; i < 8; i++) {
        if (strcmp(name, general[i]) == 0)
            return (struct named){'r', i, 2};
        if ((name[0] == 'e' || name[0] == 'r') && strcmp(name + 1, general[i]) == 0)
            return (struct named){'r', i, name[0] == 'e' ? 4 : 8};
        if (i < 4 && name[0] == general[i][0] && (name[1] == 'l' || name[1] == 'h') && !name[2])
            return (struct named){'b', 8 * i + (name[1] == 'h'), 1};
        if (i >= 4 && strncmp(name, general[i], 2) == 0 && name[2] == 'l' && !name[3])
            return (struct named){'b', 8 * i, 1};
        if (i < 6 && strcmp(name, segments[i]) == 0)
            return (struct named){'s', i, 2};
    }
    for (unsigned i = 0; i < sizeof numbered / sizeof *numbered; i++) {
        size_t n = strlen(numbered[i].prefix);
        if (strncmp(name, numbered[i].prefix, n) == 0 && isdigit((unsigned char)name[n]))
            return (struct named){numbered[i].bank, (unsigned)atoi(name + n), numbered[i].size};
    }
    if (name[0] == 'r' && isdigit((unsigned char)name[1])) {
        char *end;
        unsigned number = (unsigned)strtoul(name + 1, &end, 10);
        if (*end == 'b')
            return (struct named){'b', 8 * number, 1};
        return (struct named){'r', number, *end == 'd' ? 4 : *end == 'w' ? 2 : 8};
    }
    return (struct named){0, 0, 0};
}

/* The register in ModRM or the opcode that an operand letter stands for; bank 0 when the letter is none of those compared. */
static struct named expected_register(const struct insn *in, const struct row_operand *o)
{
    bool byte = strcmp(o->size, "b") == 0;
    switch (o->letter) {
    case 'G': return (struct named){byte ? 'b' : 'r', in->reg, 0};
    case 'Z': return (struct named){byte ? 'b' : 'r', in->reg, 0};
    case 'E': case 'R': return (struct named){byte ? 'b' : 'r', in->rm, 0};
    case 'V': return (struct named){'x', in->reg, 0};
    case 'W': case 'U': return (struct named){'x', in->rm, 0};
    case 'H': return (struct named){'x', in->vvvv, 0};
    case 'P': return (struct named){'m', in->reg & 7, 0};
    case 'Q': case 'N': return (struct named){'m', in->rm & 7, 0};
    case 'S': return (struct named){'s', in->reg, 0};
    case 'C': return (struct named){'c', in->reg, 0};
    case 'D': return (struct named){'d', in->reg, 0};
    default: return (struct named){0, 0, 0};
    }
}

/* v and y operands of general registers follow the operand size. */
static unsigned expected_size(const struct insn *in, const struct row_operand *o)
{
    if (o->letter != 'G' && o->letter != 'E' && o->letter != 'Z' && o->letter != 'R')
        return 0;
    return strcmp(o->size, "v") == 0 ? 1u << in->osz : 0;
}

/* An address register: Capstone names none, or one of the address size. */
static bool same_address_register(csh handle, unsigned id, unsigned reg, unsigned asz)
{
    const char *name = id == X86_REG_INVALID ? NULL : cs_reg_name(handle, id);
    if (!name || strcmp(name, "riz") == 0 || strcmp(name, "eiz") == 0)
        return reg == REG_ZERO;
    if (strcmp(name, "rip") == 0 || strcmp(name, "eip") == 0)
        return reg == REG_RIP;
    struct named n = register_of(handle, id);
    return n.bank == 'r' && n.number == reg && n.size == 1u << asz;
}

static bool same_memory(csh handle, const struct insn *in, const x86_op_mem *m)
{
    i64 disp = in->base == REG_RIP ? in->disp - in->length : in->disp;
    u64 mask = in->asz == 1 ? 0xffff : in->asz == 2 ? 0xffffffff : ~0ull;
    bool vector_index = row_of(in)->attr & ROW_VSIB, there;
    struct named index = register_of(handle, m->index);
    there = same_address_register(handle, m->base, in->base, in->asz) &&
            (vector_index ? index.bank == 'x' && index.number == in->imm2
                          : same_address_register(handle, m->index, in->index, in->asz));
    if (in->scale == 0 && !there && !vector_index)          /* which of two is the index is a matter of taste */
        there = same_address_register(handle, m->base, in->index, in->asz) &&
                same_address_register(handle, m->index, in->base, in->asz);
    if (!there || ((u64)disp & mask) != ((u64)m->disp & mask))
        return false;
    if ((in->index != REG_ZERO || vector_index) && m->index != X86_REG_INVALID && m->scale != 1 << in->scale)
        return false;
    /* 64-bit code ignores overrides other than FS and GS [SDM1 "Segmentation in 64-Bit Mode"]; Capstone writes them. */
    struct named segment = register_of(handle, m->segment);
    return segment.bank != 's' || (in->flags & INSN_64 && segment.number < SEG_FS) || segment.number == in->arch_seg;
}

static bool same_immediate(const struct insn *in, const struct row_operand *o, const cs_x86_op *theirs)
{
    u64 ours = row_of(in)->imm == IMM_W_B && strcmp(o->size, "b") == 0 ? in->imm2 : in->imm;
    unsigned bytes = strcmp(o->size, "b") == 0 ? 1 : strcmp(o->size, "w") == 0 ? 2 : 1u << in->osz;
    u64 mask = bytes >= 8 ? ~0ull : (1ull << 8 * bytes) - 1;
    return ((ours ^ (u64)theirs->imm) & mask) == 0;
}

/* What differs, in a word; NULL: nothing. *compared counts the operands that could be. */
static const char *compare_operands(csh handle, const struct insn *in, const char *mnemonic, const cs_x86 *theirs,
                                    unsigned *compared)
{
    const struct insn_row *row = row_of(in);
    if (theirs->op_count != row->operand_count)
        return NULL;           /* implied operands are written by the one and not by the other */
    /* It forgets a mandatory prefix in 16-bit code or before another prefix, so that CVTSS2SI is CVTPS2PI; objdump does not. */
    if (row->prefix >= PREFIX_66 && strcasecmp(mnemonic, row->name) != 0)
        return NULL;
    for (unsigned i = 0; i < row->operand_count; i++) {
        const struct row_operand *o = &row->operand[i];
        const cs_x86_op *t = &theirs->operands[i];
        struct named expected = expected_register(in, o);
        if (o->letter && strchr("EWQM", o->letter) && in->flags & INSN_MEM && row->imm != IMM_MOFFS) {
            if (t->type != X86_OP_MEM || !same_memory(handle, in, &t->mem))
                return "memory operand";
        } else if (o->letter == 'I') {
            if (t->type != X86_OP_IMM || !same_immediate(in, o, t))
                return "immediate";
        } else if (expected.bank) {
            struct named n = t->type == X86_OP_REG ? register_of(handle, t->reg) : (struct named){0, 0, 0};
            unsigned size = expected_size(in, o);
            /* … and PADDB is MMX's; with 67 and REX.W it takes MMX's for SSE's. */
            if ((expected.bank == 'x' && n.bank == 'm' && row->prefix >= PREFIX_66) ||
                (expected.bank == 'm' && n.bank == 'x' && in->flags & INSN_ADDR32 && in->flags & INSN_REX_W))
                return NULL;
            if (n.bank != expected.bank || n.number != expected.number || (size && n.size != size))
                return "register";
        } else {
            continue;
        }
        ++*compared;
    }
    return NULL;
}

START_TEST(as_capstone)
{
    struct insn none;          /* 0F 04 is no instruction; of rows whose bits have no meaning Capstone decodes some */
    ck_assert_int_eq(insn_decode(features, BITS_64, (const u8[]){0x0f, 0x04, 0}, 3, &none), DECODE_OK);
    static const cs_mode modes[] = {[BITS_16] = CS_MODE_16, [BITS_32] = CS_MODE_32, [BITS_64] = CS_MODE_64};
    unsigned bits = (unsigned)_i, compared = 0, operands = 0, bad = 0;
    csh handle;
    ck_assert_int_eq(cs_open(CS_ARCH_X86, modes[bits], &handle), CS_ERR_OK);
    cs_option(handle, CS_OPT_DETAIL, CS_OPT_ON);
    cs_insn *text = cs_malloc(handle);
    random_state = 1 + bits;
    for (unsigned round = 0; round < 400000; round++) {
        u8 bytes[16] = {0};
        random_bytes(bytes, bits);
        struct insn in;
        if (insn_decode(features, bits, bytes, 15, &in) != DECODE_OK || in.row == 0xffff ||
            in.handler == none.handler)
            continue;
        const u8 *at = bytes;
        size_t left = 15;
        u64 address = 0x1000;
        if (!cs_disasm_iter(handle, &at, &left, &address, text))
            continue;          /* Capstone does not know it */
        compared++;
        if (exempt(&in, bits))
            continue;
        const char *what = text->size != in.length ? "length"
                           : compare_operands(handle, &in, text->mnemonic, &text->detail->x86, &operands);
        if (!what)
            continue;
        if (bad++ < 30) {
            printf("%u-bit %s \"%s\": %s; length %u, Capstone %u: %s %s:", 16u << bits, row_of(&in)->name,
                   row_of(&in)->encoding, what, in.length, text->size, text->mnemonic, text->op_str);
            for (unsigned i = 0; i < 15; i++)
                printf(" %02x", bytes[i]);
            printf("\n");
        }
    }
    cs_free(text, 1);
    cs_close(&handle);
    ck_assert_uint_gt(compared, 50000);
    ck_assert_uint_gt(operands, 50000);
    ck_assert_uint_eq(bad, 0);
}
END_TEST
#endif

/* Cut short anywhere, an instruction asks for more; whole, it needs no byte behind it. */
START_TEST(more_until_complete)
{
    unsigned bits = (unsigned)_i;
    random_state = 7;
    for (unsigned round = 0; round < 100000; round++) {
        u8 bytes[16];
        random_bytes(bytes, bits);
        struct insn in, cut;
        if (insn_decode(features, bits, bytes, 15, &in) != DECODE_OK || in.row == 0xffff)
            continue;          /* undefined: known as soon as its opcode is */
        for (unsigned n = 0; n < in.length; n++)
            ck_assert_int_eq(insn_decode(features, bits, bytes, n, &cut), DECODE_MORE);
        ck_assert_int_eq(insn_decode(features, bits, bytes, in.length, &cut), DECODE_OK);
        ck_assert_uint_eq(cut.length, in.length);
        ck_assert_uint_eq(cut.row, in.row);
    }
}
END_TEST

/* Fifteen bytes are the most [SDM2 "Instruction Format"]: prefixes count; what is longer is decoded without a row. */
START_TEST(longest_instruction)
{
    unsigned bits = (unsigned)_i;
    u8 bytes[32];
    struct insn in;
    memset(bytes, 0x66, sizeof bytes);
    bytes[14] = 0x90;
    ck_assert_int_eq(insn_decode(features, bits, bytes, 15, &in), DECODE_OK);
    ck_assert_uint_eq(in.length, 15);
    ck_assert_uint_ne(in.row, 0xffff);
    bytes[14] = 0xb0;          /* MOV AL, imm8: its immediate would be the sixteenth */
    ck_assert_int_eq(insn_decode(features, bits, bytes, 16, &in), DECODE_OK);
    ck_assert_uint_eq(in.length, 15);
    insn_handler *too_long = in.handler;
    bytes[14] = 0x66;          /* prefixes without end */
    ck_assert_int_eq(insn_decode(features, bits, bytes, 15, &in), DECODE_OK);
    ck_assert_ptr_eq(in.handler, too_long);
}
END_TEST

/* What makes a form undefined belongs to it: FF /5 with a register is none, and a write to its ModRM byte makes it another. */
START_TEST(undefined_forms_have_modrm)
{
    struct insn in;
    for (unsigned bits = BITS_16; bits <= BITS_64; bits++) {
        const u8 far_jump[] = {0xff, 0xef, 0x90}, pop[] = {0x8f, 0xc8, 0x90}, unknown[] = {0x0f, 0x04, 0x90};
        ck_assert_int_eq(insn_decode(features, bits, far_jump, 1, &in), DECODE_MORE);
        ck_assert_int_eq(insn_decode(features, bits, far_jump, 3, &in), DECODE_OK);
        ck_assert_uint_eq(in.row, 0xffff);
        ck_assert_uint_eq(in.length, 2);
        insn_decode(features, bits, pop, 3, &in);
        ck_assert_uint_eq(in.row, 0xffff);
        ck_assert_uint_eq(in.length, 2);
        insn_decode(features, bits, unknown, 3, &in);
        ck_assert_uint_eq(in.row, 0xffff);
        ck_assert_uint_eq(in.length, 2);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decode");
    TCase *c = suite_case(s, "decode");
    tcase_add_checked_fixture(c, setup, NULL);
#ifdef NESTOR_HAVE_CAPSTONE
    tcase_add_loop_test(c, as_capstone, BITS_16, BITS_64 + 1);
#endif
    tcase_add_loop_test(c, more_until_complete, BITS_16, BITS_64 + 1);
    tcase_add_loop_test(c, longest_instruction, BITS_16, BITS_64 + 1);
    tcase_add_test(c, undefined_forms_have_modrm);
    return suite_run(s, CK_FORK_GETENV);
}
