/* The instruction table: cpu/insn.def turned from its SDM notation into what the decoder compares.
 *
 * Kept true: every token of every row is understood, and no two rows that could match the same bytes are equally
 * specific; otherwise the program does not start.
 */
#include "cpu/table.h"

#include "cpu/features.h"

#include <stdlib.h>

struct insn_row insn_rows[] = {
#define INSN(mnemonic, enc, ops, attrs, feat, flg, vmexit, fam)                                                        \
    {.name = #mnemonic, .encoding = enc, .operands = ops, .attributes = #attrs, .cpuid = #feat, .flags = flg,          \
     .exit = #vmexit, .family = &h_##fam, .family_name = #fam, .feature = FEATURE_##feat},
#include "cpu/insn.def"
#undef INSN
};
const unsigned insn_row_count = ARRAY_SIZE(insn_rows);

#define SPACES 24
static const u16 no_rows[] = {0xffff};
static u16 *candidates[SPACES][256];
static bool ready;

static NORETURN COLD void bad_row(const struct insn_row *row, const char *what, const char *token)
{
    panic("cpu/insn.def: %s \"%s\" \"%s\": %s '%s'", row->name, row->encoding, row->operands, what, token);
}

/* ---- attributes -------------------------------------------------------------------------------------------------- */

static void parse_attributes(struct insn_row *row)
{
    static const struct { const char *name; u32 bit; } known[] = {
        {"LOCK", ROW_LOCK}, {"END", ROW_END}, {"I64", ROW_I64}, {"O64", ROW_O64}, {"D64", ROW_D64}, {"F64", ROW_F64},
        {"PROT", ROW_PROT}, {"BYTE", ROW_BYTE}, {"NOMEM", ROW_NOMEM}, {"MEM", ROW_MEM}, {"REPS", ROW_REPS},
        {"PREFIXED", ROW_PREFIXED}, {"IGNMOD", ROW_IGNMOD}, {"NOREP", ROW_NOREP}, {"0", 0},
        {"VSIB", ROW_VSIB}, {"NOMASK", ROW_NOMASK}, {"NEEDMASK", ROW_NEEDMASK}, {"WHOLE", ROW_WHOLE}, {"ER", ROW_ER}, {"SAE", ROW_SAE},
        {"HALVES", ROW_HALVES},
    };
    static const struct { const char *name; u8 tuple; } tuples[] = {
        {"FV", TUPLE_FV}, {"HV", TUPLE_HV}, {"QV", TUPLE_QV}, {"FVM", TUPLE_FVM}, {"HVM", TUPLE_HVM}, {"QVM", TUPLE_QVM},
        {"OVM", TUPLE_OVM}, {"T1S", TUPLE_T1S}, {"T1S8", TUPLE_T1S8}, {"T1S16", TUPLE_T1S16}, {"T1F32", TUPLE_T1F32},
        {"T1F64", TUPLE_T1F64}, {"T2", TUPLE_T2}, {"T4", TUPLE_T4}, {"T8", TUPLE_T8}, {"M128", TUPLE_M128}, {"DUP", TUPLE_DUP},
    };
    char text[128];
    snprintf(text, sizeof text, "%s", row->attributes);
    for (char *save, *token = strtok_r(text, "| ", &save); token; token = strtok_r(NULL, "| ", &save)) {
        size_t i = 0, t = 0;
        while (t < ARRAY_SIZE(tuples) && strcmp(tuples[t].name, token) != 0)
            t++;
        if (t < ARRAY_SIZE(tuples)) {
            row->tuple = tuples[t].tuple;
            continue;
        }
        while (i < ARRAY_SIZE(known) && strcmp(known[i].name, token) != 0)
            i++;
        if (i == ARRAY_SIZE(known))
            bad_row(row, "unknown attribute", token);
        row->attr |= known[i].bit;
    }
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

static bool hex_byte(const char *token, u8 *value)
{
    char *end;
    if (strlen(token) < 2 || strchr("+-", token[0]))
        return false;
    unsigned long v = strtoul(token, &end, 16);
    *value = (u8)v;
    return end == token + 2 && (*end == 0 || strcmp(end, "+r") == 0);
}

static void parse_vector_prefix(struct insn_row *row, char *token)
{
    char *save, *part = strtok_r(token, ".", &save);
    row->vector = strcmp(part, "VEX") == 0 ? VECTOR_VEX : VECTOR_EVEX;
    row->prefix = PREFIX_NP;
    while ((part = strtok_r(NULL, ".", &save))) {
        if (strcmp(part, "128") == 0 || strcmp(part, "LZ") == 0 || strcmp(part, "L0") == 0) row->lengths |= 1;
        else if (strcmp(part, "256") == 0 || strcmp(part, "L1") == 0) row->lengths |= 2;
        else if (strcmp(part, "512") == 0) row->lengths |= 4;
        else if (strcmp(part, "LIG") == 0) row->attr |= ROW_LIG;
        else if (strcmp(part, "NP") == 0) row->prefix = PREFIX_NP;
        else if (strcmp(part, "66") == 0) row->prefix = PREFIX_66;
        else if (strcmp(part, "F3") == 0) row->prefix = PREFIX_F3;
        else if (strcmp(part, "F2") == 0) row->prefix = PREFIX_F2;
        else if (strcmp(part, "0F") == 0) row->map = 1;
        else if (strcmp(part, "0F38") == 0) row->map = 2;
        else if (strcmp(part, "0F3A") == 0) row->map = 3;
        else if (strcmp(part, "MAP5") == 0) row->map = 5;
        else if (strcmp(part, "MAP6") == 0) row->map = 6;
        else if (strcmp(part, "W0") == 0) row->w = 0;
        else if (strcmp(part, "W1") == 0) row->w = 1;
        else if (strcmp(part, "WIG") == 0) row->w = -1;
        else bad_row(row, "unknown part of the vector prefix", part);
    }
    if (!row->lengths)
        row->lengths = row->vector == VECTOR_VEX ? 3 : 7;
    row->l = (i8)(row->lengths == 1 ? 0 : row->lengths == 2 ? 1 : row->lengths == 4 ? 2 : -1);
}

static void parse_encoding(struct insn_row *row)
{
    char text[64];
    snprintf(text, sizeof text, "%s", row->encoding);
    row->w = row->l = -1;
    unsigned bytes = 0;        /* opcode bytes seen: escape bytes, then the opcode, then a fixed ModRM */
    bool opcode_seen = false, map_open = true;
    for (char *save, *token = strtok_r(text, " ", &save); token; token = strtok_r(NULL, " ", &save)) {
        u8 byte;
        if (strncmp(token, "VEX.", 4) == 0 || strncmp(token, "EVEX.", 5) == 0) {
            parse_vector_prefix(row, token);
            map_open = false;
        } else if (strcmp(token, "NP") == 0) {
            row->prefix = PREFIX_NP;
        } else if (strcmp(token, "REX.W") == 0 || strcmp(token, "W1") == 0) {
            row->w = 1;
        } else if (strcmp(token, "W0") == 0) {
            row->w = 0;
        } else if (token[0] == '/') {
            if (token[1] == 'r')
                row->modrm = MODRM_REG;
            else if (token[1] >= '0' && token[1] <= '7') {
                row->modrm = MODRM_DIGIT;
                row->modrm_value = (u8)(token[1] - '0');
            } else if (strcmp(token, "/is4") != 0)
                bad_row(row, "unknown token", token);
        } else if (strcmp(token, "ib") == 0 || strcmp(token, "iw") == 0 || strcmp(token, "id") == 0 ||
                   strcmp(token, "iz") == 0 || strcmp(token, "iv") == 0) {
            /* for the reader: the operand letters decide */
        } else if (hex_byte(token, &byte)) {
            bool plus = strlen(token) == 4;
            if (bytes == 0 && row->vector == VECTOR_LEGACY && row->prefix == PREFIX_ANY &&
                (byte == 0x66 || byte == 0xf3 || byte == 0xf2) && *save) {
                row->prefix = byte == 0x66 ? PREFIX_66 : byte == 0xf3 ? PREFIX_F3 : PREFIX_F2;
            } else if (!opcode_seen && map_open && bytes == 0 && byte == 0x0f && !plus) {
                row->map = 1;
                bytes++;
            } else if (!opcode_seen && map_open && bytes == 1 && row->map == 1 && (byte == 0x38 || byte == 0x3a)) {
                row->map = byte == 0x38 ? 2 : 3;
                bytes++;
            } else if (!opcode_seen) {
                row->opcode = byte;
                row->plus_r = plus;
                opcode_seen = true;
            } else if (row->modrm == MODRM_NONE) {
                row->modrm = MODRM_FIXED;
                row->modrm_value = byte;
                row->modrm_mask = plus ? 0xf8 : 0xff;
            } else {
                bad_row(row, "too many bytes at", token);
            }
        } else {
            bad_row(row, "unknown token", token);
        }
    }
    if (!opcode_seen)
        bad_row(row, "no opcode in", row->encoding);
    if (row->modrm == MODRM_FIXED && row->modrm_value < 0xc0)
        bad_row(row, "fixed ModRM below C0:", row->encoding);
}

/* ---- operands ---------------------------------------------------------------------------------------------------- */

static bool one_of(const char *text, const char *list)
{
    char find[16];
    snprintf(find, sizeof find, " %s ", text);
    return strstr(list, find) != NULL;
}

static void parse_operand(struct insn_row *row, char *token)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char sizes[] = "  b w d q v z y dq x p a s pd ps sd ss sb sh ph pi qq oq t bs f l h g e k ";
    static const char fixed[] = " AL AX EAX RAX rAX eAX CL CX ECX RCX DL DX EDX RDX BX RBX AH BP SP 1 3 CS DS ES FS GS SS XMM0 ST ST0 ST1 "
                                "rCX rDX rBX rSP rBP rSI rDI ";
    if (row->operand_count == ROW_OPERANDS)
        bad_row(row, "too many operands at", token);
    struct row_operand *op = &row->operand[row->operand_count++];
    char *colon = strchr(token, ':');
    if (!colon || (size_t)(colon - token) >= sizeof op->access || strspn(token, "rw") != (size_t)(colon - token))
        bad_row(row, "operand without access (r:, w:, rw:)", token);
    memcpy(op->access, token, (size_t)(colon - token));
    const char *word = colon + 1;
    if (one_of(word, fixed)) {
        snprintf(op->fixed, sizeof op->fixed, "%s", word);
        return;
    }
    if (!strchr(letters, word[0]) || !one_of(word[1] ? word + 1 : "", sizes))
        if (!(strchr(letters, word[0]) && word[1] == 0))
            bad_row(row, "unknown operand", word);
    op->letter = word[0];
    snprintf(op->size, sizeof op->size, "%s", word + 1);
}

static void set_imm(struct insn_row *row, u8 imm)
{
    if (row->imm == IMM_W && imm == IMM_B)
        row->imm = IMM_W_B;
    else if (row->imm != IMM_NONE)
        bad_row(row, "two immediates in", row->operands);
    else
        row->imm = imm;
}

static void parse_operands(struct insn_row *row)
{
    char text[96];
    snprintf(text, sizeof text, "%s", row->operands);
    for (char *save, *token = strtok_r(text, " ", &save); token; token = strtok_r(NULL, " ", &save))
        parse_operand(row, token);
    bool v = false, y = false, b = false, vector = false;
    for (unsigned i = 0; i < row->operand_count; i++) {
        const struct row_operand *op = &row->operand[i];
        const char *s = op->size;
        bool byte = strcmp(s, "b") == 0;
        if (strcmp(s, "v") == 0 || strcmp(s, "z") == 0 || one_of(op->fixed, " rAX eAX "))
            v |= op->letter != 'J' || v;
        if (strcmp(s, "y") == 0)
            y = true;
        if ((byte && op->letter && strchr("EGZMOXYR", op->letter)) || strcmp(op->fixed, "AL") == 0)
            b = true;
        bool written = strchr(op->access, 'w') != NULL;
        switch (op->letter) {
        case 'K':
            row->uses_vvvv |= s[0] == 'h';
            row->k_reg |= s[0] == 'g';
            row->k_rm |= s[0] == 'e' || s[0] == 'k';
            row->k_vvvv |= s[0] == 'h';
            row->k_dest |= written;
            row->reg_only |= s[0] == 'k';
            break;
        case 'G': row->gpr_reg = 1; break;
        case 'E': row->gpr_rm = 1; break;
        case 'H':
            row->dest_vvvv |= written && row->modrm == MODRM_DIGIT;
            row->uses_vvvv = 1;
            break;
        case 'B': row->uses_vvvv = 1; break;
        case 'M': row->mem_only = 1; break;
        case 'R': row->gpr_rm = row->reg_only = 1; break;
        case 'U': case 'N': row->reg_only = 1; break;
        case 'I':
            set_imm(row, byte ? IMM_B : strcmp(s, "bs") == 0 ? IMM_BS : strcmp(s, "w") == 0 ? IMM_W
                       : strcmp(s, "z") == 0 ? IMM_Z : strcmp(s, "v") == 0 ? IMM_V : strcmp(s, "d") == 0 ? IMM_D : IMM_NONE);
            if (row->imm == IMM_NONE)
                bad_row(row, "immediate of unknown size", s);
            break;
        case 'J': set_imm(row, s[0] == 'b' ? IMM_JB : IMM_JZ); break;
        case 'A': set_imm(row, IMM_FAR); break;
        case 'O': set_imm(row, IMM_MOFFS); break;
        case 'L': set_imm(row, IMM_IS4); break;
        }
        if (strchr("EMUWK", op->letter) && op->letter && !(op->letter == 'K' && s[0] != 'e') && written)
            row->mem_dest = 1;
        if (op->letter && strchr("VHWUK", op->letter))
            vector = true;
        if (byte && (op->letter == 'G'))
            row->reg_byte = 1;
        if (byte && op->letter == 'Z')
            row->reg_byte = 1;
        if (byte && (op->letter == 'E' || op->letter == 'R'))
            row->rm_byte = 1;
    }
    row->osz = row->attr & ROW_BYTE ? SIZE_BYTE : v ? SIZE_EFFECTIVE : y ? SIZE_Y : b ? SIZE_BYTE : SIZE_EFFECTIVE;
    vector &= row->vector != VECTOR_LEGACY;
    if (row->vector == VECTOR_EVEX)
        row->base_feature = FEATURE_AVX512F;
    else if (vector && !row->k_reg && !row->k_rm)
        row->base_feature = FEATURE_AVX;
    if (vector && !v && !y)
        row->osz = SIZE_VECTOR;
    if (row->attr & ROW_MEM)
        row->mem_only = 1;
    if (row->attr & ROW_NOMEM)
        row->reg_only = 1;
    if (row->attr & ROW_IGNMOD)
        row->reg_only = 0;
}

/* ---- the lists --------------------------------------------------------------------------------------------------- */

static unsigned row_space(const struct insn_row *row)
{
    return row->map + (row->vector == VECTOR_VEX ? 8 : row->vector == VECTOR_EVEX ? 16 : 0);
}

static void set_score(struct insn_row *row)
{
    row->score = (u16)((row->modrm == MODRM_FIXED ? (row->modrm_mask == 0xff ? 300 : 200) : row->modrm == MODRM_DIGIT ? 100 : 0) +
                       (row->prefix != PREFIX_ANY ? 40 : 0) + (row->mem_only || row->reg_only ? 10 : 0) +
                       (row->w >= 0 ? 4 : 0) + (row->l >= 0 ? 2 : 0) + (row->attr & (ROW_I64 | ROW_O64) ? 1 : 0));
}

static bool overlaps(const struct insn_row *a, const struct insn_row *b)
{
    if (a->score != b->score || a->modrm != b->modrm)
        return false;
    if (a->modrm == MODRM_DIGIT && a->modrm_value != b->modrm_value)
        return false;
    if (a->modrm == MODRM_FIXED && ((a->modrm_value ^ b->modrm_value) & a->modrm_mask & b->modrm_mask))
        return false;
    if (a->prefix != PREFIX_ANY && b->prefix != PREFIX_ANY && a->prefix != b->prefix)
        return false;
    if ((a->mem_only && b->reg_only) || (a->reg_only && b->mem_only))
        return false;
    if ((a->w >= 0 && b->w >= 0 && a->w != b->w) || (a->vector && !(a->lengths & b->lengths)))
        return false;
    if ((a->attr & ROW_I64 && b->attr & ROW_O64) || (a->attr & ROW_O64 && b->attr & ROW_I64))
        return false;
    return a->feature == b->feature;
}

static void add_candidate(unsigned space, unsigned opcode, u16 index)
{
    u16 *list = candidates[space][opcode];
    unsigned n = 0;
    while (list && list[n] != 0xffff) {
        if (overlaps(&insn_rows[list[n]], &insn_rows[index]))
            panic("cpu/insn.def: rows overlap: %s \"%s\" and %s \"%s\"", insn_rows[list[n]].name, insn_rows[list[n]].encoding,
                  insn_rows[index].name, insn_rows[index].encoding);
        n++;
    }
    list = realloc(list, (n + 2) * sizeof *list);
    if (!list)
        panic("no memory for the instruction table");
    unsigned at = n;
    while (at > 0 && insn_rows[list[at - 1]].score < insn_rows[index].score) {
        list[at] = list[at - 1];
        at--;
    }
    list[at] = index;
    list[n + 1] = 0xffff;
    candidates[space][opcode] = list;
}

void insn_table_init(void)
{
    if (ready)
        return;
    ready = true;
    for (unsigned i = 0; i < insn_row_count; i++) {
        struct insn_row *row = &insn_rows[i];
        parse_attributes(row);
        parse_encoding(row);
        parse_operands(row);
        set_score(row);
        for (unsigned r = 0; r < (row->plus_r ? 8 : 1); r++)
            add_candidate(row_space(row), row->opcode + r, (u16)i);
    }
}

const u16 *insn_candidates(unsigned space, u8 opcode)
{
    if (space >= SPACES || !candidates[space][opcode])
        return no_rows;
    return candidates[space][opcode];
}

void insn_row_key(const struct insn_row *row, char *text, size_t size)
{
    snprintf(text, size, "%s \"%s\" \"%s\"", row->name, row->encoding, row->operands);
}

void insn_table_print(FILE *out)
{
    insn_table_init();
    fprintf(out, "%-14s %-28s %-28s %-18s %-12s %-18s %s\n", "MNEMONIC", "ENCODING", "OPERANDS", "ATTRIBUTES", "CPUID", "FLAGS",
            "VM EXIT");
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        fprintf(out, "%-14s %-28s %-28s %-18s %-12s %-18s %s\n", row->name, row->encoding, row->operands,
                row->attr ? row->attributes : "-", row->cpuid, row->flags[0] ? row->flags : "-",
                strcmp(row->exit, "NONE") == 0 ? "-" : row->exit);
    }
}
