/* The decoder: lengths of random instructions against Capstone's, in 16-, 32- and 64-bit code, where rows exist; and
 * what lies at its edges: prefixes in any order, bytes that are not there yet, instructions longer than 15 bytes.
 */
#include "cpu/decode.h"
#include "cpu/features.h"
#include "cpu/table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Prefixes, an opcode, and enough random bytes behind it. */
static void random_bytes(u8 *bytes, unsigned bits)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf2, 0xf3, 0x2e, 0x3e, 0x26, 0x36,
                                  0x64, 0x65, 0x40, 0x41, 0x44, 0x48, 0x4f};
    unsigned n = 0;
    while (n < 4 && random64() % 5 < 2)
        bytes[n++] = prefixes[random64() % (bits == BITS_64 ? 15 : 10)];
    if (random64() % 2) {
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
    /* It loses count of the immediates of PUSH, CALL and RET when prefixes meet; the host CPU (tests/insn) sides with
     * Nestor. */
    bool meet = (in->flags & INSN_OPSIZE && in->flags & (INSN_REP | INSN_REPNE)) ||
                (in->flags & INSN_REX_W && in->flags & (INSN_OPSIZE | INSN_ADDR32));
    if (meet && (strcmp(row->name, "PUSH") == 0 || strcmp(row->name, "CALL") == 0 || strcmp(row->name, "RET") == 0))
        return true;
    /* Near branches of 64-bit code ignore 66 on Intel's processors; Capstone does as AMD's. */
    return bits == BITS_64 && row->imm == IMM_JZ && in->flags & INSN_OPSIZE;
}

START_TEST(lengths_as_capstone)
{
    static const cs_mode modes[] = {[BITS_16] = CS_MODE_16, [BITS_32] = CS_MODE_32, [BITS_64] = CS_MODE_64};
    unsigned bits = (unsigned)_i, compared = 0, bad = 0;
    csh handle;
    ck_assert_int_eq(cs_open(CS_ARCH_X86, modes[bits], &handle), CS_ERR_OK);
    cs_insn *text = cs_malloc(handle);
    random_state = 1 + bits;
    for (unsigned round = 0; round < 400000; round++) {
        u8 bytes[16] = {0};
        random_bytes(bytes, bits);
        struct insn in;
        if (insn_decode(features, bits, bytes, 15, &in) != DECODE_OK || in.row == 0xffff)
            continue;
        const u8 *at = bytes;
        size_t left = 15;
        u64 address = 0x1000;
        if (!cs_disasm_iter(handle, &at, &left, &address, text))
            continue;          /* Capstone does not know it */
        compared++;
        if (text->size == in.length || exempt(&in, bits))
            continue;
        if (bad++ < 30) {
            printf("%u-bit %s \"%s\": length %u, Capstone %u: %s %s:", 16u << bits, row_of(&in)->name,
                   row_of(&in)->encoding, in.length, text->size, text->mnemonic, text->op_str);
            for (unsigned i = 0; i < 15; i++)
                printf(" %02x", bytes[i]);
            printf("\n");
        }
    }
    cs_free(text, 1);
    cs_close(&handle);
    ck_assert_uint_gt(compared, 50000);
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

int main(void)
{
    Suite *s = suite_create("decode");
    TCase *c = tcase_create("decode");
    tcase_add_checked_fixture(c, setup, NULL);
    tcase_set_timeout(c, 60);
#ifdef NESTOR_HAVE_CAPSTONE
    tcase_add_loop_test(c, lengths_as_capstone, BITS_16, BITS_64 + 1);
#endif
    tcase_add_loop_test(c, more_until_complete, BITS_16, BITS_64 + 1);
    tcase_add_loop_test(c, longest_instruction, BITS_16, BITS_64 + 1);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
