/* EVEX encodings against objdump: of every EVEX row every form (register, memory, broadcast, embedded rounding or SAE)
 * at every length is encoded, and decoded by Nestor and by GNU objdump: mnemonic, length, and the displacement that one
 * unit of disp8 stands for.
 *
 *     encodings FILE     FILE: where the bytes go, for objdump to read; status 77 where there is no objdump
 */
#include "cpu/decode.h"
#include "cpu/features.h"
#include "cpu/table.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum { SLOT = 16, SLOTS = 16384, SKIPPED = 77 }; /* an instruction and no-operations behind it fill a slot */
enum form { REGISTERS, MEMORY, BROADCAST, ROUNDING, FORMS };

static struct slot {
    const struct insn_row *row;
    unsigned length;
    i64 displacement;
    bool memory, seen;
} slots[SLOTS];
static unsigned slot_count, problems;

static bool has_form(const struct insn_row *row, enum form form, unsigned vl)
{
    bool tuple = row->tuple == TUPLE_FV || row->tuple == TUPLE_HV || row->tuple == TUPLE_QV;
    switch (form) {
    case REGISTERS:
        return !row->mem_only;
    case MEMORY:
        return !row->reg_only;
    case BROADCAST:
        return !row->reg_only && tuple;
    default:
        return !row->mem_only && row->attr & (ROW_ER | ROW_SAE) && (vl == 2 || row->attr & ROW_LIG);
    }
}

static void encode(const struct insn_row *row, enum form form, unsigned vl, FILE *out)
{
    static u32 features[FEATURE_WORDS];
    memset(features, 0xff, sizeof features);
    unsigned pp = row->prefix == PREFIX_66 ? 1 : row->prefix == PREFIX_F3 ? 2 : row->prefix == PREFIX_F2 ? 3 : 0;
    unsigned vvvv = row->uses_vvvv ? 2 : 0, reg = row->modrm == MODRM_DIGIT ? row->modrm_value : 3, n = 0;
    bool memory = form == MEMORY || form == BROADCAST;
    u8 code[SLOT];
    memset(code, 0x90, sizeof code);
    code[n++] = 0x62;
    code[n++] = (u8)(0xf0 | row->map);
    code[n++] = (u8)((row->w == 1) << 7 | (~vvvv & 15) << 3 | 4 | pp);
    code[n++] = (u8)(vl << 5 | (form >= BROADCAST) << 4 | 8 | (row->attr & ROW_NEEDMASK ? 1 : 0));
    code[n++] = row->opcode;
    code[n++] = (u8)((memory ? 0x40 : 0xc5) | reg << 3);
    if (memory)
        code[n++] = 1;
    if (row->imm != IMM_NONE)
        code[n++] = 5;
    struct insn in;
    enum decode_result result = insn_decode(features, BITS_64, code, SLOT - 1, &in);
    if (result != DECODE_OK || in.row == 0xffff || strcmp(insn_rows[in.row].name, row->name) != 0) {
        printf("%s \"%s\" form %u vl %u: decoded as %s\n", row->name, row->encoding, form, vl,
               result == DECODE_OK && in.row != 0xffff ? insn_rows[in.row].name : "undefined");
        problems++;
    }
    slots[slot_count++] = (struct slot){row, in.length, in.disp, memory, false};
    fwrite(code, 1, sizeof code, out);
}

static void encode_all(FILE *out)
{
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        if (row->vector != VECTOR_EVEX || row->attr & ROW_VSIB || row->modrm == MODRM_FIXED)
            continue;
        for (unsigned vl = 0; vl < (row->attr & ROW_LIG ? 1 : 3); vl++)
            for (enum form form = 0; form < FORMS; form++)
                if (row->lengths >> vl & 1 && has_form(row, form, vl) && slot_count < SLOTS)
                    encode(row, form, vl, out);
    }
}

/* Whether objdump's text begins with the mnemonic. It names comparisons after their predicates. */
static bool same_name(const char *text, const char *mnemonic)
{
    if (strncmp(mnemonic, "VCMP", 4) == 0 || strncmp(mnemonic, "VPCMP", 5) == 0)
        return strncmp(text, mnemonic[1] == 'C' ? "vcmp" : "vpcmp", mnemonic[1] == 'C' ? 4 : 5) == 0;
    while (*mnemonic && toupper((unsigned char)*text) == *mnemonic)
        text++, mnemonic++;
    return *mnemonic == 0 && (*text == 0 || isspace((unsigned char)*text));
}

/* A line "   address:<tab>bytes<tab>text". */
static void compare(const char *line)
{
    char *end;
    unsigned long address = strtoul(line, &end, 16);
    if (*end != ':' || end == line || address % SLOT || address / SLOT >= slot_count)
        return;
    struct slot *s = &slots[address / SLOT];
    const char *bytes = strchr(end, '\t'), *text = bytes ? strchr(bytes + 1, '\t') : NULL;
    if (!text || s->seen)
        return;
    s->seen = true;
    unsigned length = 0;
    for (const char *p = bytes + 1; p < text; p++)
        length += isxdigit((unsigned char)p[0]) && isxdigit((unsigned char)p[1]) ? (p++, 1) : 0;
    text++;
    if (strncmp(text, "{evex} ", 7) == 0)
        text += 7;
    const char *base = strstr(text, "[rax+0x");
    i64 displacement = base ? strtoll(base + 5, NULL, 16) : 0;
    if (!same_name(text, s->row->name) || length != s->length || (s->memory && displacement != s->displacement)) {
        printf("%s \"%s\": length %u displacement %lld, objdump: length %u %s", s->row->name, s->row->encoding,
               s->length, (long long)s->displacement, length, text);
        problems++;
    }
}

int main(int argc, char **argv)
{
    char command[512], line[512];
    if (argc != 2)
        return fprintf(stderr, "usage: encodings FILE\n"), 64;
    if (system("objdump --version >/dev/null 2>&1") != 0)
        return printf("skipped: no objdump\n"), SKIPPED;
    FILE *out = fopen(argv[1], "wb");
    if (!out)
        return perror(argv[1]), 66;
    insn_table_init();
    encode_all(out);
    fclose(out);
    snprintf(command, sizeof command, "objdump -D -b binary -mi386:x86-64 -Mintel --insn-width=16 '%s'", argv[1]);
    FILE *in = popen(command, "r");
    if (!in)
        return perror("objdump"), 71;
    while (fgets(line, sizeof line, in))
        compare(line);
    pclose(in);
    unsigned unseen = 0;
    for (unsigned i = 0; i < slot_count; i++)
        unseen += !slots[i].seen;
    if (unseen || slot_count < 1500)
        printf("%u encodings, of which objdump listed %u\n", slot_count, slot_count - unseen), problems++;
    printf("encodings: %u compared, %u differences\n", slot_count, problems);
    return problems ? 1 : 0;
}
