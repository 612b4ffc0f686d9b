/* From decoded blocks to the operations of emit.h: which instructions have emitters, and which flags anybody can see.
 *
 * The table names handler families; an instruction of any other family is a call of its handler, or the end of the translated block where
 * its effects may reach what the code around it relies on (mode, address translation, events). The translation stops before such an
 * instruction, and the engine runs its handler.
 *
 * Kept true: a translated block does to the guest's state exactly what the handlers of its instructions do one after the other. An emitter
 * can be taken out of families[] with no change but speed.
 */
#include "cpu/bus_lock.h"
#include "cpu/decode.h"
#include "cpu/features.h"
#include "cpu/interp.h"
#include "cpu/jit/engine.h"
#include "cpu/table.h"

#include <stdlib.h>

/* A block that leaves after fewer instructions than this is interpreted: entering and leaving would cost more than it saves. */
#define LEAST 4

/* What to do with an instruction. */
enum action {
    ACT_LEAVE,                 /* not in translated code */
    ACT_CALL,                  /* its handler, in the block */
    ACT_NOTHING,
    ACT_ALU_E_G, ACT_ALU_G_E, ACT_ALU_E_I,     /* arg: enum emit_alu */
    ACT_STEP,                  /* arg: up */
    ACT_NEG, ACT_NOT,
    ACT_SHIFT_I, ACT_SHIFT_1, ACT_SHIFT_CL,    /* arg: enum emit_shift */
    ACT_SHIFT_DOUBLE,          /* arg: left */
    ACT_MUL_2, ACT_MUL_3, ACT_MUL_WIDE, ACT_DIV,       /* wide, div: arg: signed */
    ACT_BIT_G, ACT_BIT_I,      /* arg: enum emit_bit */
    ACT_ALU_HIGH_I,            /* AH, CH, DH, BH and an immediate; arg: enum emit_alu */
    ACT_PLAIN,                 /* arg: flags of struct emit_plain */
    ACT_CLI, ACT_PAUSE,
    ACT_SCAN,                  /* arg: reverse */
    ACT_MOV_E_G, ACT_MOV_G_E, ACT_MOV_E_I,
    ACT_EXTEND,                /* arg: from | signed << 4 */
    ACT_LEA, ACT_XCHG, ACT_XCHG_A, ACT_XADD, ACT_CMPXCHG, ACT_BSWAP, ACT_CBW, ACT_CWD,
    ACT_PUSH_E, ACT_PUSH_I, ACT_POP_E, ACT_LEAVE_FRAME,
    ACT_ZERO_UPPER,
    ACT_VECTOR, ACT_VECTOR_WHOLE, ACT_VECTOR_WHOLE_MEM, /* whole: the old value of the destination does not matter (where the other is memory) */
    ACT_SET, ACT_MOVE_IF, ACT_JUMP_IF,         /* arg: condition */
    ACT_JUMP, ACT_JUMP_E, ACT_CALL_REL, ACT_CALL_E, ACT_RET, ACT_RET_I,
};

struct family { const char *name; u8 action, arg; };

#define ALU(name, op) {name "_E_G", ACT_ALU_E_G, op}, {name "_G_E", ACT_ALU_G_E, op}, {name "_E_I", ACT_ALU_E_I, op}
#define SHIFT(name, op) {name "_E_I", ACT_SHIFT_I, op}, {name "_E_1", ACT_SHIFT_1, op}, {name "_E_CL", ACT_SHIFT_CL, op}
#define CONDITION(cc, n) {"set" cc, ACT_SET, n}, {"cmov" cc, ACT_MOVE_IF, n}, {"j" cc, ACT_JUMP_IF, n}
/* clang-format off */
static const struct family families[] = {
    ALU("add", EMIT_ADD), ALU("or", EMIT_OR), ALU("adc", EMIT_ADC), ALU("sbb", EMIT_SBB), ALU("and", EMIT_AND), ALU("sub", EMIT_SUB),
    ALU("xor", EMIT_XOR), ALU("cmp", EMIT_CMP), ALU("test", EMIT_TEST),
    {"inc_E", ACT_STEP, true}, {"dec_E", ACT_STEP, false}, {"neg_E", ACT_NEG, 0}, {"not_E", ACT_NOT, 0},
    SHIFT("rol", EMIT_ROL), SHIFT("ror", EMIT_ROR), SHIFT("shl", EMIT_SHL), SHIFT("shr", EMIT_SHR), SHIFT("sar", EMIT_SAR),
    {"shld_I", ACT_SHIFT_DOUBLE, true}, {"shrd_I", ACT_SHIFT_DOUBLE, false},
    {"imul2", ACT_MUL_2, 0}, {"imul3", ACT_MUL_3, 0}, {"mul", ACT_MUL_WIDE, false}, {"imul1", ACT_MUL_WIDE, true},
    {"div", ACT_DIV, false}, {"idiv", ACT_DIV, true},
    {"bt_E_G", ACT_BIT_G, EMIT_BT}, {"bts_E_G", ACT_BIT_G, EMIT_BTS}, {"btr_E_G", ACT_BIT_G, EMIT_BTR}, {"btc_E_G", ACT_BIT_G, EMIT_BTC},
    {"bt_E_I", ACT_BIT_I, EMIT_BT}, {"bts_E_I", ACT_BIT_I, EMIT_BTS}, {"btr_E_I", ACT_BIT_I, EMIT_BTR}, {"btc_E_I", ACT_BIT_I, EMIT_BTC},
    {"bsf", ACT_SCAN, false}, {"bsr", ACT_SCAN, true},
    {"mov_E_G", ACT_MOV_E_G, 0}, {"mov_G_E", ACT_MOV_G_E, 0}, {"mov_E_I", ACT_MOV_E_I, 0},
    {"movzx_8", ACT_EXTEND, OSZ_8}, {"movzx_16", ACT_EXTEND, OSZ_16}, {"movsx_8", ACT_EXTEND, OSZ_8 | 16},
    {"movsx_16", ACT_EXTEND, OSZ_16 | 16}, {"movsxd_32", ACT_EXTEND, OSZ_32 | 16},
    {"lea", ACT_LEA, 0}, {"xchg_E_G", ACT_XCHG, 0}, {"xchg_A", ACT_XCHG_A, 0}, {"xadd", ACT_XADD, 0}, {"cmpxchg", ACT_CMPXCHG, 0},
    {"tzcnt", ACT_PLAIN, PLAIN_FLAGS}, {"lzcnt", ACT_PLAIN, PLAIN_FLAGS}, {"popcnt", ACT_PLAIN, PLAIN_FLAGS}, {"andn", ACT_PLAIN, PLAIN_LOGIC},
    {"bextr", ACT_PLAIN, PLAIN_FLAGS}, {"bzhi", ACT_PLAIN, PLAIN_FLAGS}, {"blsr", ACT_PLAIN, PLAIN_FLAGS},
    {"blsmsk", ACT_PLAIN, PLAIN_FLAGS}, {"blsi", ACT_PLAIN, PLAIN_FLAGS}, {"pdep", ACT_PLAIN, 0}, {"pext", ACT_PLAIN, 0}, {"mulx", ACT_PLAIN, 0},
    {"shlx", ACT_PLAIN, 0}, {"shrx", ACT_PLAIN, 0}, {"sarx", ACT_PLAIN, 0}, {"rorx", ACT_PLAIN, 0}, {"crc32_b", ACT_PLAIN, 0},
    {"crc32_v", ACT_PLAIN, 0}, {"movbe_load", ACT_PLAIN, 0}, {"movbe_store", ACT_PLAIN, 0},
    {"bswap", ACT_BSWAP, 0}, {"cbw", ACT_CBW, 0}, {"cwd", ACT_CWD, 0},
    {"push_E", ACT_PUSH_E, 0}, {"push_I", ACT_PUSH_I, 0}, {"pop_E", ACT_POP_E, 0}, {"leave", ACT_LEAVE_FRAME, 0},
    CONDITION("o", 0), CONDITION("no", 1), CONDITION("b", 2), CONDITION("ae", 3), CONDITION("e", 4), CONDITION("ne", 5),
    CONDITION("be", 6), CONDITION("a", 7), CONDITION("s", 8), CONDITION("ns", 9), CONDITION("p", 10), CONDITION("np", 11),
    CONDITION("l", 12), CONDITION("ge", 13), CONDITION("le", 14), CONDITION("g", 15),
    {"jmp_rel", ACT_JUMP, 0}, {"jmp_E", ACT_JUMP_E, 0}, {"call_rel", ACT_CALL_REL, 0}, {"call_E", ACT_CALL_E, 0},
    {"ret", ACT_RET, 0}, {"ret_I", ACT_RET_I, 0},
    {"hint", ACT_NOTHING, 0}, {"pause", ACT_PAUSE, 0}, {"cli", ACT_CLI, 0},
    /* Legacy vector instructions whose destination's old value does not matter; describe_vector() finds the others by their operands. */
    {"mova_load", ACT_VECTOR_WHOLE, 0}, {"movu_load", ACT_VECTOR_WHOLE, 0}, {"movq_load", ACT_VECTOR_WHOLE, 0},
    {"movd_load", ACT_VECTOR_WHOLE, 0}, {"cvtps2pd", ACT_VECTOR_WHOLE, 0}, {"cvtpd2ps", ACT_VECTOR_WHOLE, 0},
    {"cvtdq2ps", ACT_VECTOR_WHOLE, 0}, {"cvtps2dq", ACT_VECTOR_WHOLE, 0}, {"cvttps2dq", ACT_VECTOR_WHOLE, 0},
    {"cvttpd2dq", ACT_VECTOR_WHOLE, 0}, {"cvtdq2pd", ACT_VECTOR_WHOLE, 0}, {"cvtpd2dq", ACT_VECTOR_WHOLE, 0},
    {"pshufd", ACT_VECTOR_WHOLE, 0}, {"pshuflw", ACT_VECTOR_WHOLE, 0}, {"pshufhw", ACT_VECTOR_WHOLE, 0},
    {"pmovzxbw", ACT_VECTOR_WHOLE, 0}, {"pmovzxwd", ACT_VECTOR_WHOLE, 0}, {"pmovzxdq", ACT_VECTOR_WHOLE, 0},
    {"pmovsxbw", ACT_VECTOR_WHOLE, 0}, {"pmovsxwd", ACT_VECTOR_WHOLE, 0}, {"pmovsxdq", ACT_VECTOR_WHOLE, 0},
    {"movss_load", ACT_VECTOR_WHOLE_MEM, 0}, {"movsd_load", ACT_VECTOR_WHOLE_MEM, 0}, {"vzeroupper", ACT_ZERO_UPPER, 0},
};
/* clang-format on */

struct row_action {
    u8 action, arg;
    u16 reads, writes, defined; /* status flags; undefined ones count as written, but not as defined */
};
static struct row_action *rows;
static struct emit_vector *vectors;    /* by row */
static struct emit_plain *plains;      /* by row */

static bool is_vector(enum action action)
{
    return action == ACT_VECTOR || action == ACT_VECTOR_WHOLE || action == ACT_VECTOR_WHOLE_MEM;
}

/* Rows that only look like all the others: what differs between processors (approximations, the order of sums), memory under a mask or by
 * element, the strings' registers and flags, MXCSR. */
static bool is_special(const struct insn_row *row)
{
    static const char *const parts[] = {"rcp", "rsqrt", "dpp", "mask", "gather", "pcmpestr", "pcmpistr", "mxcsr", "ne2ps", "neps"};
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (strstr(row->family_name, parts[i]))
            return true;
    return row->attr & (ROW_VSIB | ROW_END);
}

static u32 opcode_of(const struct insn_row *row)
{
    static const u8 prefixes[] = {[PREFIX_66] = 0x66, [PREFIX_F3] = 0xf3, [PREFIX_F2] = 0xf2};
    return (u32)prefixes[row->prefix] << 16 | (u32)row->map << 8 | row->opcode;
}

enum { BYTES_BY_W = 0, BYTES_BY_LENGTH = 0xff };
static u8 operand_bytes(const struct insn_row *row, const char *size)
{
    static const struct { const char *size; u8 bytes; } sizes[] = {
        {"y", BYTES_BY_W}, {"b", 1}, {"w", 2}, {"d", 4}, {"ss", 4}, {"q", 8}, {"sd", 8}, {"dq", 16},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        if (strcmp(sizes[i].size, size) == 0)
            return sizes[i].bytes;
    return row->vector == VECTOR_VEX ? BYTES_BY_LENGTH : 16;
}

/* What a vector row asks of emit_vector(). False: operands of another kind, or nothing that this host has. */
static bool describe_vector(const struct insn_row *row, enum action action, struct emit_vector *v)
{
    bool has_vector = false, vex = row->vector == VECTOR_VEX;
    *v = (struct emit_vector){.opcode = opcode_of(row), .vex = vex};
    if (row->vector == VECTOR_EVEX || row->feature == 0 || !emit_feature_exists(row->feature) || is_special(row))
        return false;
    if (vex && !emit_feature_exists(FEATURE_AVX))
        return false;
    for (unsigned i = 0; i < row->operand_count; i++) {
        const struct row_operand *op = &row->operand[i];
        bool reads = strchr(op->access, 'r') != NULL, writes = strchr(op->access, 'w') != NULL;
        has_vector |= op->letter && strchr("VWUH", op->letter);
        switch (op->letter) {
        case 'V': case 'G':
            v->reg = op->letter == 'V' ? PART_VECTOR : PART_GENERAL;
            v->writes_reg = writes;
            v->reads_reg = vex ? reads : action != ACT_VECTOR_WHOLE;
            break;
        case 'W': case 'U': case 'M': case 'E': case 'R':
            v->rm = op->letter == 'E' || op->letter == 'R' ? PART_GENERAL : PART_VECTOR;
            v->writes_rm = writes;
            v->reads_rm = !vex || reads;
            v->bytes = operand_bytes(row, op->size);
            break;
        case 'H':
            v->reads_vvvv = reads;
            v->writes_vvvv = writes;
            break;
        case 'L': v->reads_is4 = v->immediate = true; break;
        case 'I': v->immediate = true; break;
        default:
            if (strcmp(op->fixed, "XMM0") != 0 || writes)
                return false;
            v->reads_v0 = true;
        }
    }
    v->aligned = vex ? strncmp(row->family_name, "vmova", 5) == 0 : v->bytes == 16 && strncmp(row->family_name, "movu_", 5) != 0;
    v->relation = strstr(row->family_name, "comis") || strstr(row->family_name, "test");
    return has_vector && v->relation == (row->flags[0] != 0) && !(v->reg == PART_GENERAL && v->rm == PART_GENERAL);
}

/* The same for emit_plain(). */
static bool describe_plain(const struct insn_row *row, unsigned flags, struct emit_plain *v)
{
    *v = (struct emit_plain){.opcode = opcode_of(row), .vex = row->vector == VECTOR_VEX, .immediate = row->imm != IMM_NONE, .flags = flags};
    for (unsigned i = 0; i < row->operand_count; i++) {
        const struct row_operand *op = &row->operand[i];
        bool reads = strchr(op->access, 'r') != NULL, writes = strchr(op->access, 'w') != NULL;
        switch (op->letter) {
        case 'G':
            v->has_reg = true;
            v->reads_reg = reads;
            v->writes_reg = writes;
            break;
        case 'B':
            v->reads_vvvv = reads;
            v->writes_vvvv = writes;
            break;
        case 'E': case 'M': v->writes_rm = writes; break;
        case 'I': break;
        default: return false;
        }
    }
    return emit_feature_exists(row->feature) && (!v->vex || emit_feature_exists(FEATURE_AVX));
}

/* Which status flags a row reads and writes, from its flags column ("r:C w:OSZAPC u:A"). */
static void flag_use(const char *text, struct row_action *row)
{
    static const u16 bits[] = {FL_OF, FL_SF, FL_ZF, FL_AF, FL_PF, FL_CF};
    const char *letters = "OSZAPC";
    char mode = 0;
    for (; *text; text++) {
        if (text[1] == ':') {
            mode = *text++;
            continue;
        }
        const char *found = strchr(letters, *text);
        if (!found || *text == ' ')
            continue;
        if (mode == 'r')
            row->reads |= bits[found - letters];
        else
            row->writes |= bits[found - letters];
        if (mode == 'w')
            row->defined |= bits[found - letters];
    }
}

bool jit_translate_init(void)
{
    if (rows)
        return true;
    rows = calloc(insn_row_count, sizeof(*rows));
    vectors = calloc(insn_row_count, sizeof(*vectors));
    plains = calloc(insn_row_count, sizeof(*plains));
    if (!rows || !vectors || !plains)
        return false;
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        /* What ends no block changes nothing that the code around it relies on; but the host has the newest vectors and MXCSR. */
        bool saves = strstr(row->family_name, "xsave") || strstr(row->family_name, "fxrstor");
        bool plain = !(row->attr & ROW_END) && !saves;
        rows[i] = (struct row_action){.action = plain ? ACT_CALL : ACT_LEAVE};
        flag_use(row->flags, &rows[i]);
        for (unsigned k = 0; k < ARRAY_SIZE(families); k++)
            if (strcmp(families[k].name, row->family_name) == 0)
                rows[i].action = families[k].action, rows[i].arg = families[k].arg;
        if (rows[i].action == ACT_PLAIN && !describe_plain(row, rows[i].arg, &plains[i]))
            rows[i].action = ACT_CALL;
        plains[i].made = rows[i].defined;
        bool described = describe_vector(row, (enum action)rows[i].action, &vectors[i]);
        if (is_vector((enum action)rows[i].action) && !described)
            rows[i].action = ACT_CALL;
        else if (rows[i].action == ACT_CALL && described)
            rows[i].action = ACT_VECTOR;
        else if (rows[i].action == ACT_ZERO_UPPER && !emit_feature_exists(FEATURE_AVX))
            rows[i].action = ACT_CALL;
        if (strstr(row->name, "MXCSR"))
            rows[i].action = ACT_LEAVE; /* while vector instructions run on the host it has the newest flags */
    }
    return true;
}

/* ---- what an instruction becomes -------------------------------------------------------------------------------------- */

static bool high_byte(unsigned n) { return n & 7; }

/* The code's own width: of addresses, stack slots and branch targets. */
static unsigned word_of(const struct insn *in) { return in->flags & INSN_64 ? OSZ_64 : OSZ_32; }

/* The memory operand's linear address is the effective one, with a base added where it is FS or GS in 64-bit code; its size is the code's own.
 * 32-bit code is translated only while CS, SS, DS and ES are flat (cpu/jit/run.c). */
static bool plain_address(const struct insn *in)
{
    if (in->flags & INSN_64)
        return in->flags & INSN_FLAT;
    return in->asz == 2 && (in->arch_seg == SEG_DS || in->arch_seg == SEG_ES || in->arch_seg == SEG_SS);
}

/* Whether the emitters can take its operands. */
static bool operands_fit(const struct insn *in, enum action action)
{
    const struct insn_row *row = &insn_rows[in->row];
    if (in->flags & INSN_MEM && action != ACT_LEA && (!plain_address(in) || row->imm == IMM_MOFFS))
        return false;
    if (in->base == REG_RIP && in->disp + 4096 != (i32)(in->disp + 4096))
        return false;
    if ((row->reg_byte && high_byte(in->reg)) || (row->rm_byte && !(in->flags & INSN_MEM) && high_byte(in->rm)))
        return false;
    return true;
}

static enum action refine(const struct insn *in, enum action action, unsigned arg, bool dead)
{
    bool memory = in->flags & INSN_MEM;
    unsigned n;
    switch (action) {
    case ACT_ALU_E_G: case ACT_ALU_E_I: case ACT_ALU_G_E: case ACT_STEP: case ACT_NEG: case ACT_NOT: case ACT_MUL_2: case ACT_MUL_3:
    case ACT_MUL_WIDE: case ACT_MOV_E_G: case ACT_MOV_G_E: case ACT_MOV_E_I: case ACT_XCHG: case ACT_SET: case ACT_MOVE_IF: case ACT_EXTEND:
        return action;
    case ACT_SHIFT_I: case ACT_SHIFT_1:
        n = action == ACT_SHIFT_1 ? 1 : (unsigned)in->imm & (in->osz == OSZ_64 ? 63 : 31);
        if (n == 0 || n >= (8u << in->osz) || (memory && !dead))
            return ACT_CALL;
        return action;
    case ACT_SHIFT_CL:
        return memory || (arg <= EMIT_RCR && !dead) ? ACT_CALL : action;
    case ACT_SHIFT_DOUBLE:
        n = (unsigned)in->imm & (in->osz == OSZ_64 ? 63 : 31);
        return memory || !dead || in->osz == OSZ_16 || n == 0 ? ACT_CALL : action;
    case ACT_DIV:
        return in->osz < OSZ_32 ? ACT_CALL : action;
    case ACT_BIT_G:
        return memory && in->osz == OSZ_16 ? ACT_CALL : action;
    case ACT_LEA:
        return in->asz == word_of(in) && in->osz >= OSZ_32 ? action : ACT_CALL;
    case ACT_XADD: case ACT_CMPXCHG:
        return memory ? action : ACT_CALL;
    case ACT_PLAIN:
        return in->osz == OSZ_16 ? ACT_CALL : action;
    case ACT_BSWAP:
        return in->osz == OSZ_16 ? ACT_CALL : action;
    case ACT_PUSH_E: case ACT_PUSH_I: case ACT_LEAVE_FRAME:
        return in->osz == word_of(in) ? action : ACT_CALL;
    case ACT_POP_E:
        return in->osz == word_of(in) && !memory ? action : ACT_CALL;
    default:
        return action;
    }
}

static enum action action_of(const struct jit *jit, const struct insn *in, bool dead)
{
    if (in->row == 0xffff)
        return ACT_LEAVE;
    enum action action = rows[in->row].action;
    if (action == ACT_LEAVE || action == ACT_CALL)
        return action;
    if (in->handler == bus_lock_watched)
        return ACT_CALL;
    if (in->handler != (*insn_rows[in->row].family)[(in->flags & INSN_MEM ? 4 : 0) + in->osz])
        return ACT_LEAVE;      /* an undefined form, or one with checks of its own */
    bool branch = action >= ACT_JUMP_IF;
    if (jit->calls || (branch && in->osz != word_of(in)))
        return branch ? ACT_LEAVE : ACT_CALL;
    if (action == ACT_NOTHING)
        return action;
    if (action == ACT_ALU_E_I && in->osz == OSZ_8 && !(in->flags & INSN_MEM) && high_byte(in->rm))
        return rows[in->row].arg == EMIT_ADC || rows[in->row].arg == EMIT_SBB ? ACT_CALL : ACT_ALU_HIGH_I;
    if (!operands_fit(in, action))
        return branch ? ACT_LEAVE : ACT_CALL;
    return refine(in, action, rows[in->row].arg, dead);
}

/* Runs on the host's registers alone: cannot fault, and changes no flags of the host but those it leaves to the guest. */
static bool stays_inside(const struct insn *in, enum action action)
{
    if (in->flags & INSN_MEM)
        return action == ACT_LEA;
    switch (action) {
    case ACT_NOTHING: case ACT_ALU_E_G: case ACT_ALU_G_E: case ACT_ALU_E_I: case ACT_ALU_HIGH_I: case ACT_STEP: case ACT_NEG: case ACT_NOT:
    case ACT_MUL_2: case ACT_MUL_3: case ACT_MUL_WIDE: case ACT_MOV_E_G: case ACT_MOV_G_E: case ACT_MOV_E_I: case ACT_EXTEND:
    case ACT_XCHG: case ACT_XCHG_A: case ACT_BSWAP: case ACT_CBW: case ACT_CWD: case ACT_SET: case ACT_MOVE_IF: return true;
    case ACT_SHIFT_I: case ACT_SHIFT_1: case ACT_PLAIN: return true;
    default: return false;
    }
}

static bool is_rotate(enum action action, unsigned arg)
{
    return (action == ACT_SHIFT_I || action == ACT_SHIFT_1 || action == ACT_SHIFT_CL) && arg <= EMIT_RCR;
}

/* A block, or the superblock that stands for it. */
struct plan {
    const struct superblock_step *step;
    unsigned start;            /* where the block begins in its page */
    u8 wanders;
    u8 action[SUPERBLOCK_INSNS], pattern[SUPERBLOCK_INSNS];
    bool loop;                 /* it branches to its own start */
    bool keep[SUPERBLOCK_INSNS], dead[SUPERBLOCK_INSNS], late[SUPERBLOCK_INSNS], late_over[SUPERBLOCK_INSNS];
    bool start_kills;          /* nothing sees the flags that were there at the block's start */
    struct superblock_step own[BLOCK_INSNS];    /* the block's steps, if there is no superblock */
};

/* Where step i leads if its branch is taken; of branches to offsets in the page, or beyond it. An immediate of 64 bits may wrap. */
static i64 target_of(const struct plan *plan, unsigned i)
{
    const struct insn *in = plan->step[i].in;
    return (i64)(plan->step[i].offset + in->length + in->imm);
}

static unsigned end_of(const struct plan *plan, unsigned i) { return plan->step[i].offset + (unsigned)plan->step[i].in->length; }

static bool writes_all_flags(const struct insn *in, enum action action)
{
    const struct row_action *row = &rows[in->row];
    bool shift = (action == ACT_SHIFT_I || action == ACT_SHIFT_1) && !is_rotate(action, row->arg);
    return shift || (row->writes == FL_STATUS && row->reads == 0);
}

/* The status flags that the host's instruction leaves as the guest's would. */
static u32 made_on_host(const struct insn *in, enum action action)
{
    bool by_one = action == ACT_SHIFT_1 || (action == ACT_SHIFT_I && (in->imm & 63) == 1);
    switch (action) {
    case ACT_SHIFT_I: case ACT_SHIFT_1:
        return FL_CF | (by_one ? FL_OF : 0) | (is_rotate(action, rows[in->row].arg) ? 0 : FL_SF | FL_ZF | FL_PF);
    case ACT_SHIFT_CL: return 0;
    case ACT_MUL_2: case ACT_MUL_3: case ACT_MUL_WIDE: return FL_CF | FL_OF;
    case ACT_STEP: return FL_STATUS & ~FL_CF;
    case ACT_BIT_G: case ACT_BIT_I: return FL_CF;
    case ACT_SCAN: return FL_ZF;
    case ACT_PLAIN: return rows[in->row].writes ? rows[in->row].defined : FL_STATUS;
    default: return FL_STATUS;
    }
}

/* From the end to the start: who can see the flags that instruction i leaves. `live`: those that somebody may read; `asked`: memory may be asked
 * for them, then all are live. Flags of which somebody reads one that the host's instruction does not make are kept in memory. */
static void plan_block(const struct jit *jit, unsigned count, struct plan *plan)
{
    bool asked = true;
    u32 live = FL_STATUS;
    for (unsigned i = count; i-- > 0;) {
        const struct insn *in = plan->step[i].in;
        enum action action = action_of(jit, in, live == 0);
        if (action == ACT_JUMP && plan->step[i].followed)
            action = ACT_NOTHING;
        const struct row_action *row = in->row == 0xffff ? NULL : &rows[in->row];
        bool keep = asked || live & ~made_on_host(in, action);
        if (keep && action == ACT_PLAIN && row->arg == PLAIN_FLAGS)
            action = ACT_CALL;
        plan->action[i] = (u8)action;
        plan->dead[i] = live == 0;
        plan->keep[i] = keep;
        if (!row || !stays_inside(in, action) || (keep && is_rotate(action, row->arg))) {
            asked = true;
            live = FL_STATUS;
        } else if (action == ACT_STEP) {
            asked = false;
            live = keep ? FL_CF : 0;   /* CF goes through it */
        } else if (action == ACT_SHIFT_I || action == ACT_SHIFT_1 || row->writes == FL_STATUS) {
            asked = false;
            live = row->reads;
        } else {
            live |= row->reads;
        }
    }
    plan->start_kills = live == 0;
}

/* ---- emission ---------------------------------------------------------------------------------------------------------- */

static struct place reg_of(const struct insn *in, bool byte) { return place_reg(byte ? in->reg / 8u : in->reg); }
static struct place rm_of(const struct insn *in, bool byte)
{
    return in->flags & INSN_MEM ? place_mem() : place_reg(byte ? in->rm / 8u : in->rm);
}

static void emit_vector_of(struct emit *e, const struct insn *in, enum action action)
{
    struct emit_vector v = vectors[in->row];
    if (v.bytes == BYTES_BY_W)
        v.bytes = in->flags & INSN_REX_W && in->flags & INSN_64 ? 8 : 4;
    else if (v.bytes == BYTES_BY_LENGTH)
        v.bytes = (u8)(16u << in->vl);
    if (action == ACT_VECTOR_WHOLE_MEM)
        v.reads_reg = !(in->flags & INSN_MEM);
    emit_vector(e, &v);
}

/* The accumulator rows (ADD AL, imm …) have rm = 0, which is RAX. */
static void emit_one(struct emit *e, const struct insn *in, enum action action, unsigned offset, bool followed)
{
    const struct insn_row *row = &insn_rows[in->row];
    unsigned arg = rows[in->row].arg, osz = in->osz;
    bool byte = osz == OSZ_8;
    struct place rm = rm_of(in, row->rm_byte || (byte && row->modrm == MODRM_NONE)), reg = reg_of(in, row->reg_byte);
    i64 target = (i64)(offset + in->length + in->imm);     /* of branches; an immediate of 64 bits may wrap */
    switch (action) {
    case ACT_NOTHING: break;
    case ACT_ALU_E_G: emit_alu(e, (enum emit_alu)arg, osz, rm, reg); break;
    case ACT_ALU_G_E: emit_alu(e, (enum emit_alu)arg, osz, reg, rm); break;
    case ACT_ALU_E_I: emit_alu(e, (enum emit_alu)arg, osz, rm, place_imm((i64)in->imm)); break;
    case ACT_STEP: emit_step(e, arg, osz, rm); break;
    case ACT_NEG: emit_neg(e, osz, rm); break;
    case ACT_NOT: emit_not(e, osz, rm); break;
    case ACT_SHIFT_I: emit_shift_imm(e, (enum emit_shift)arg, osz, rm, (unsigned)in->imm & (osz == OSZ_64 ? 63 : 31)); break;
    case ACT_SHIFT_1: emit_shift_imm(e, (enum emit_shift)arg, osz, rm, 1); break;
    case ACT_SHIFT_CL: emit_shift_cl(e, (enum emit_shift)arg, osz, rm.reg); break;
    case ACT_SHIFT_DOUBLE: emit_shift_double(e, arg, osz, rm.reg, in->reg, (unsigned)in->imm & (osz == OSZ_64 ? 63 : 31)); break;
    case ACT_MUL_2: emit_mul_to(e, osz, in->reg, rm, false, 0); break;
    case ACT_MUL_3: emit_mul_to(e, osz, in->reg, rm, true, (i64)in->imm); break;
    case ACT_MUL_WIDE: emit_mul_wide(e, arg, osz, rm); break;
    case ACT_DIV: emit_div(e, arg, osz, rm); break;
    case ACT_BIT_G: emit_bit(e, (enum emit_bit)arg, osz, rm, place_reg(in->reg)); break;
    case ACT_BIT_I: emit_bit(e, (enum emit_bit)arg, osz, rm, place_imm((i64)(in->imm & ((8u << osz) - 1)))); break;
    case ACT_ALU_HIGH_I: emit_alu_high(e, (enum emit_alu)arg, in->rm / 8u, (i64)in->imm); break;
    case ACT_CLI: emit_interrupts_off(e); break;
    case ACT_PAUSE: emit_pause(e); break;
    case ACT_SCAN: emit_scan(e, arg, osz, in->reg, rm); break;
    case ACT_MOV_E_G: emit_move(e, osz, rm, reg); break;
    case ACT_MOV_G_E: emit_move(e, osz, reg, rm); break;
    case ACT_MOV_E_I: emit_move(e, osz, rm, place_imm((i64)in->imm)); break;
    case ACT_EXTEND: emit_extend(e, arg & 16, osz, arg & 15, in->reg, rm); break;
    case ACT_LEA: emit_lea(e, osz, in->reg); break;
    case ACT_XCHG: emit_exchange(e, osz, rm, reg.reg); break;
    case ACT_XCHG_A:
        if (in->rm != REG_RAX)
            emit_exchange(e, osz, place_reg(in->rm), REG_RAX);
        break;
    case ACT_XADD: emit_exchange_add(e, osz, reg.reg); break;
    case ACT_CMPXCHG: emit_compare_exchange(e, osz, reg.reg); break;
    case ACT_BSWAP: emit_byte_swap(e, osz, in->rm); break;
    case ACT_PLAIN: emit_plain(e, &plains[in->row], osz == OSZ_64 ? OSZ_64 : OSZ_32, osz, rm); break;
    case ACT_CBW: emit_convert_a(e, osz); break;
    case ACT_CWD: emit_convert_d(e, osz); break;
    case ACT_PUSH_E: emit_push(e, rm); break;
    case ACT_PUSH_I: emit_push(e, place_imm((i64)in->imm)); break;
    case ACT_POP_E: emit_pop(e, in->rm); break;
    case ACT_LEAVE_FRAME: emit_leave(e); break;
    case ACT_VECTOR: case ACT_VECTOR_WHOLE: case ACT_VECTOR_WHOLE_MEM: emit_vector_of(e, in, action); break;
    case ACT_ZERO_UPPER: emit_zero_upper(e); break;
    case ACT_SET: emit_set(e, arg, rm); break;
    case ACT_MOVE_IF: emit_move_if(e, arg, osz, in->reg, rm); break;
    case ACT_JUMP_IF: emit_jump_if(e, arg ^ followed, followed ? offset + in->length : target); break;
    case ACT_JUMP: emit_jump(e, target); break;
    case ACT_JUMP_E: emit_jump_to(e, rm); break;
    case ACT_CALL_REL: emit_call(e, target); break;
    case ACT_CALL_E: emit_call_to(e, rm); break;
    case ACT_RET: emit_return(e, 0); break;
    case ACT_RET_I: emit_return(e, (unsigned)in->imm); break;
    default: emit_handler(e); break;
    }
}

static bool ends_block(enum action action)
{
    return action == ACT_LEAVE || action == ACT_JUMP || action == ACT_JUMP_E || action == ACT_CALL_REL || action == ACT_CALL_E ||
           action == ACT_RET || action == ACT_RET_I;
}

static u32 bit_of(struct place p) { return p.kind == PLACE_REG ? 1u << (p.reg & 31) : 0; }

/* What instruction i writes of the general registers, if it is one that flags which are kept late may be carried past. */
static bool passes(const struct insn *in, enum action action, u32 *written)
{
    const struct insn_row *row = &insn_rows[in->row];
    bool byte = in->osz == OSZ_8, only_flags = rows[in->row].arg == EMIT_CMP || rows[in->row].arg == EMIT_TEST;
    u32 rm = bit_of(rm_of(in, row->rm_byte || (byte && row->modrm == MODRM_NONE))), reg = bit_of(reg_of(in, row->reg_byte));
    const struct emit_vector *v = &vectors[in->row];
    *written = 0;
    switch (action) {
    case ACT_NOTHING: case ACT_JUMP_IF: return true;
    case ACT_ALU_E_G: case ACT_ALU_E_I: case ACT_ALU_HIGH_I: *written = only_flags ? 0 : rm; return true;
    case ACT_ALU_G_E: *written = only_flags ? 0 : reg; return true;
    case ACT_MOV_E_G: case ACT_MOV_E_I: case ACT_NOT: case ACT_SET: *written = rm; return true;
    case ACT_MOV_G_E: case ACT_EXTEND: case ACT_LEA: case ACT_MOVE_IF: *written = reg; return true;
    case ACT_SHIFT_I: case ACT_SHIFT_1: *written = rm; return !is_rotate(action, rows[in->row].arg);
    case ACT_PUSH_E: case ACT_PUSH_I: *written = 1u << REG_RSP; return true;
    case ACT_POP_E: *written = 1u << REG_RSP | rm; return true;
    case ACT_VECTOR: case ACT_VECTOR_WHOLE: case ACT_VECTOR_WHOLE_MEM:
        return !v->relation && v->reg != PART_GENERAL && (v->rm != PART_GENERAL || !v->writes_rm || in->flags & INSN_MEM);
    default: return false;
    }
}

static bool ends_block(enum action action);

enum fate { FATE_DEAD, FATE_END, FATE_LOST };

/* What becomes of flags that follow from the registers `need` and stand before instruction `from`, if nobody stores them: they die, the block ends,
 * or they would be lost because a register changes, somebody else needs them in memory, or they are read where the host has them no more.
 * on_host: those that the host has at first. */
static enum fate fate_of(unsigned count, const struct plan *plan, unsigned from, u32 need, u32 on_host)
{
    for (unsigned k = from; k < count; k++) {
        const struct insn *in = plan->step[k].in;
        enum action does = plan->action[k];
        u32 written;
        if (ends_block(does))
            return FATE_END;
        u32 reads = rows[in->row].reads;
        if (reads & ~on_host || (reads && in->flags & INSN_MEM) || !passes(in, does, &written))
            return FATE_LOST;
        if (writes_all_flags(in, does))
            return FATE_DEAD;
        if (written & need)
            return FATE_LOST;
        if (does != ACT_JUMP_IF && !stays_inside(in, does))
            on_host = 0;
    }
    return FATE_END;
}

/* Whether the flags of instruction i can be kept late, and over the end of a turn of the block's loop. */
static void plan_late(unsigned count, struct plan *plan, unsigned i)
{
    const struct insn *in = plan->step[i].in;
    const struct insn_row *row = &insn_rows[in->row];
    enum action action = plan->action[i];
    plan->late[i] = plan->late_over[i] = false;
    bool step = action == ACT_STEP;
    if (!plan->keep[i] || in->flags & INSN_MEM || (!step && action != ACT_ALU_E_G && action != ACT_ALU_G_E && action != ACT_ALU_E_I))
        return;
    enum emit_alu op = (enum emit_alu)rows[in->row].arg;
    u32 rm = bit_of(rm_of(in, row->rm_byte || (in->osz == OSZ_8 && row->modrm == MODRM_NONE))), reg = bit_of(reg_of(in, row->reg_byte));
    u32 need = action == ACT_ALU_E_I || step ? rm : rm | reg;
    if (step) {
        plan->late[i] = fate_of(count, plan, i + 1, need, FL_STATUS & ~FL_CF) != FATE_LOST;
        return;
    }
    if (op == EMIT_ADC || op == EMIT_SBB || ((op == EMIT_ADD || op == EMIT_SUB) && action != ACT_ALU_E_I && rm == reg))
        return;
    plan->late[i] = fate_of(count, plan, i + 1, need, FL_STATUS) != FATE_LOST;
    plan->late_over[i] = plan->late[i] && fate_of(count, plan, 0, need, 0) == FATE_DEAD;
}

static bool is_loop(unsigned count, const struct plan *plan)
{
    for (unsigned i = 0; i < count; i++) {
        bool followed = plan->step[i].followed, branch = plan->action[i] == ACT_JUMP_IF || plan->action[i] == ACT_JUMP;
        if (branch && (followed ? end_of(plan, i) : target_of(plan, i)) == (i64)plan->start)
            return true;
    }
    return false;
}

/* Which kinds of vector instructions the block has: enum jit_fp. */
static unsigned vector_kinds(unsigned count, const struct plan *plan)
{
    unsigned kinds = 0;
    for (unsigned i = 0; i < count; i++) {
        enum action action = plan->action[i];
        if (action == ACT_ZERO_UPPER || (is_vector(action) && vectors[plan->step[i].in->row].vex))
            kinds |= JIT_FP_AVX;
        else if (is_vector(action))
            kinds |= JIT_FP_SSE;
    }
    return kinds;
}

/* The vector registers of a loop. */
static u32 loop_vectors(unsigned count, const struct plan *plan)
{
    u32 used = 0;
    for (unsigned i = 0; i < count && plan->loop; i++) {
        const struct insn *in = plan->step[i].in;
        if (!is_vector((enum action)plan->action[i]))
            continue;
        const struct emit_vector *v = &vectors[in->row];
        if (v->reg == PART_VECTOR)
            used |= 1u << in->reg;
        if (v->rm == PART_VECTOR && !(in->flags & INSN_MEM))
            used |= 1u << in->rm;
        if (v->reads_vvvv || v->writes_vvvv)
            used |= 1u << in->vvvv;
        if (v->reads_is4)
            used |= 1u << (in->imm >> 4 & (in->flags & INSN_64 ? 15 : 7));
        used |= v->reads_v0;
    }
    return used;
}

/* A pointer that the loop itself loads: what it addresses goes from page to page. */
static bool wanders(unsigned count, const struct plan *plan, const struct insn *access)
{
    for (unsigned i = 0; i < count; i++) {
        const struct insn *in = plan->step[i].in;
        if (plan->action[i] == ACT_MOV_G_E && in->flags & INSN_MEM && in->osz == word_of(in) && (in->reg == access->base || in->reg == access->index))
            return true;
    }
    return false;
}

/* Numbers the memory operands of a loop by the registers that their addresses are made of. */
static void find_patterns(unsigned count, struct plan *plan)
{
    const struct insn *first[EMIT_PATTERNS];
    unsigned found = 0;
    memset(plan->pattern, 0, sizeof(plan->pattern));
    for (unsigned i = 0; i < count && plan->loop; i++) {
        const struct insn *in = plan->step[i].in;
        if (!(in->flags & INSN_MEM) || in->seg == SEG_FS || in->seg == SEG_GS || wanders(count, plan, in))
            continue;
        unsigned k = 0;
        while (k < found && !(first[k]->base == in->base && first[k]->index == in->index && first[k]->scale == in->scale))
            k++;
        if (k == EMIT_PATTERNS)
            continue;
        if (k == found)
            first[found++] = in;
        plan->pattern[i] = (u8)(k + 1);
    }
    for (unsigned i = 0; i < count; i++)
        if (plan->wanders >> plan->pattern[i] & 1)
            plan->pattern[i] = 0;
}

/* How many instructions from this one on push, or pop, registers other than RSP or immediates. */
#define STACK_RUN 8u
static unsigned stack_run(unsigned count, const struct plan *plan, unsigned i)
{
    bool pops = plan->action[i] == ACT_POP_E;
    unsigned n = 0;
    while (i + n < count && n < STACK_RUN) {
        const struct insn *in = plan->step[i + n].in;
        if (in != plan->step[i].in + n)
            break;             /* of another block */
        enum action action = plan->action[i + n];
        bool reg = !(in->flags & INSN_MEM) && in->rm != REG_RSP;
        if (pops ? action != ACT_POP_E || !reg : action != ACT_PUSH_I && (action != ACT_PUSH_E || !reg))
            break;
        n++;
    }
    return n;
}

/* Instructions *i and those that are done with it. */
static void emit_planned(struct emit *e, unsigned count, const struct plan *plan, unsigned *i)
{
    const struct superblock_step *step = &plan->step[*i];
    const struct insn *in = step->in;
    struct emit_insn insn = {in, *i, step->offset, plan->keep[*i], plan->late[*i], plan->late_over[*i], plan->dead[*i], plan->pattern[*i]};
    enum action action = plan->action[*i];
    unsigned n = stack_run(count, plan, *i);
    emit_begin(e, &insn);
    if (n < 2) {
        n = 1;
        emit_one(e, in, action, step->offset, step->followed);
    } else if (action == ACT_POP_E) {
        u8 regs[STACK_RUN];
        for (unsigned k = 0; k < n; k++)
            regs[k] = in[k].rm;
        emit_pop_run(e, regs, n);
    } else {
        struct place from[STACK_RUN];
        for (unsigned k = 0; k < n; k++)
            from[k] = plan->action[*i + k] == ACT_PUSH_I ? place_imm((i64)in[k].imm) : place_reg(in[k].rm);
        emit_push_run(e, from, n);
    }
    emit_end(e);
    *i += n;
}

/* The steps of the block's superblock, or of the block; returns how many there are. */
static unsigned lay_out(const struct block *block, struct plan *plan)
{
    plan->start = (unsigned)(block->ram_off & 0xfff);
    plan->wanders = block->wanders;
    if (block->superblock) {
        plan->step = block->superblock->step;
        return block->superblock->count;
    }
    unsigned offset = plan->start;
    for (unsigned i = 0; i < block->count; i++) {
        plan->own[i] = (struct superblock_step){.in = &block->insn[i], .offset = (u16)offset};
        offset += block->insn[i].length;
    }
    plan->step = plan->own;
    return block->count;
}

bool jit_translate(struct jit *jit, struct block *block, bool *full)
{
    struct plan plan;
    unsigned count = 0, all = lay_out(block, &plan);
    *full = false;
    while (count < all && action_of(jit, plan.step[count].in, false) != ACT_LEAVE)
        count++;
    if (count == 0 || (count < all && count < LEAST))
        return false;
    if (jit->used + JIT_BLOCK_BYTES > jit->memory.size || jit->site_count + JIT_BLOCK_SITES > JIT_SITES) {
        *full = true;
        return false;
    }
    u32 sites = jit->site_count;
    plan_block(jit, count, &plan);
    plan.loop = is_loop(count, &plan);
    for (unsigned i = 0; i < count; i++)
        plan_late(count, &plan, i);
    find_patterns(count, &plan);
    struct emit *e = emit_open(jit, block, count, jit->used, vector_kinds(count, &plan), loop_vectors(count, &plan), plan.start_kills);
    unsigned i;
    bool ended = false;
    for (i = 0; i < count && !ended;) {
        ended = ends_block((enum action)plan.action[i]);
        emit_planned(e, count, &plan, &i);
    }
    if (!ended && count < all) {
        struct emit_insn insn = {plan.step[count].in, count, plan.step[count].offset, true, false, false, false, 0};
        emit_begin(e, &insn);
        emit_leave_for(e);
        emit_end(e);
    } else if (!ended) {
        emit_continue(e, end_of(&plan, count - 1));
    }
    unsigned insns;
    while (emit_turn(e, &insns))
        for (i = 0; i < insns;)
            emit_planned(e, insns, &plan, &i);
    size_t bytes = emit_close(e);
    if (bytes == 0) {
        jit->site_count = sites;
        return false;
    }
    block->code = emit_entry(e);
    block->taken_off = (u8)count;
    block->loop = plan.loop;
    jit->used += bytes;
    return true;
}

enum jit_way jit_way_on(const struct jit *jit, const struct insn *in, unsigned offset, u64 next)
{
    enum action action = action_of(jit, in, false);
    bool branch = action == ACT_JUMP_IF || action == ACT_JUMP;
    if (branch && next == offset + in->length + in->imm)
        return JIT_WAY_TAKEN;
    return !ends_block(action) && next == offset + in->length ? JIT_WAY_ON : JIT_WAY_NONE;
}
