/* From decoded blocks to the operations of emit.h: which instructions have emitters, and which flags anybody can see.
 *
 * The table names handler families; an instruction of any other family is a call of its handler, or the end of the translated block where
 * its effects may reach what the code around it relies on (mode, address translation, events). The translation stops before such an
 * instruction, and the engine runs its handler.
 *
 * Kept true: a translated block does to the guest's state exactly what the handlers of its instructions do one after the other. An emitter
 * can be taken out of families[] with no change but speed.
 */
#include "cpu/decode.h"
#include "cpu/interp.h"
#include "cpu/jit/engine.h"
#include "cpu/table.h"

#include <stdlib.h>

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
    ACT_SCAN,                  /* arg: reverse */
    ACT_MOV_E_G, ACT_MOV_G_E, ACT_MOV_E_I,
    ACT_EXTEND,                /* arg: from | signed << 4 */
    ACT_LEA, ACT_XCHG, ACT_XCHG_A, ACT_XADD, ACT_CMPXCHG, ACT_BSWAP, ACT_CBW, ACT_CWD,
    ACT_PUSH_E, ACT_PUSH_I, ACT_POP_E, ACT_LEAVE_FRAME,
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
    {"bswap", ACT_BSWAP, 0}, {"cbw", ACT_CBW, 0}, {"cwd", ACT_CWD, 0},
    {"push_E", ACT_PUSH_E, 0}, {"push_I", ACT_PUSH_I, 0}, {"pop_E", ACT_POP_E, 0}, {"leave", ACT_LEAVE_FRAME, 0},
    CONDITION("o", 0), CONDITION("no", 1), CONDITION("b", 2), CONDITION("ae", 3), CONDITION("e", 4), CONDITION("ne", 5),
    CONDITION("be", 6), CONDITION("a", 7), CONDITION("s", 8), CONDITION("ns", 9), CONDITION("p", 10), CONDITION("np", 11),
    CONDITION("l", 12), CONDITION("ge", 13), CONDITION("le", 14), CONDITION("g", 15),
    {"jmp_rel", ACT_JUMP, 0}, {"jmp_E", ACT_JUMP_E, 0}, {"call_rel", ACT_CALL_REL, 0}, {"call_E", ACT_CALL_E, 0},
    {"ret", ACT_RET, 0}, {"ret_I", ACT_RET_I, 0},
    {"hint", ACT_NOTHING, 0},
    /* System instructions that change nothing which the code around them relies on. */
    {"pushf", ACT_CALL, 0}, {"cli", ACT_CALL, 0}, {"swapgs", ACT_CALL, 0}, {"rdfsbase", ACT_CALL, 0}, {"rdgsbase", ACT_CALL, 0},
    {"smsw", ACT_CALL, 0}, {"mov_from_segment", ACT_CALL, 0}, {"clflush", ACT_CALL, 0},
};
/* clang-format on */

enum { FL_READ = 1, FL_WRITE_ALL = 2, FL_WRITE_SOME = 4 };

struct row_action { u8 action, arg, flags; };
static struct row_action *rows;

/* The rows of one part of the table stand together: the first and the last decide where it lies. */
#define INSN(...) +1
enum { ROWS_INT = 0
#include "cpu/insn_int.def"
#include "cpu/insn_bmi.def"
};
enum { ROWS_SYSTEM = 0
#include "cpu/insn_sys.def"
#include "cpu/insn_far.def"
#include "cpu/insn_vmx.def"
};
#undef INSN

/* Which status flags a row reads and writes, from its flags column ("r:C w:OSZAPC u:A"). */
static u8 flag_use(const char *text)
{
    u8 use = 0;
    unsigned written = 0;
    char mode = 0;
    for (; *text; text++) {
        if (text[1] == ':') {
            mode = *text++;
            continue;
        }
        const char *found = strchr("OSZAPC", *text);
        if (!found || *text == ' ')
            continue;
        if (mode == 'r')
            use |= FL_READ;
        else
            written |= 1u << (found - "OSZAPC");
    }
    return (u8)(use | (written == 0x3f ? FL_WRITE_ALL : written ? FL_WRITE_SOME : 0));
}

bool jit_translate_init(void)
{
    if (rows)
        return true;
    rows = calloc(insn_row_count, sizeof(*rows));
    if (!rows)
        return false;
    for (unsigned i = 0; i < insn_row_count; i++) {
        const struct insn_row *row = &insn_rows[i];
        bool data = i < ROWS_INT || i >= ROWS_INT + ROWS_SYSTEM;
        bool plain = data && !(row->attr & ROW_END) && strcmp(row->exit, "NONE") == 0;
        rows[i] = (struct row_action){.action = plain ? ACT_CALL : ACT_LEAVE, .flags = flag_use(row->flags)};
        for (unsigned k = 0; k < ARRAY_SIZE(families); k++)
            if (strcmp(families[k].name, row->family_name) == 0)
                rows[i].action = families[k].action, rows[i].arg = families[k].arg;
    }
    return true;
}

/* ---- what an instruction becomes -------------------------------------------------------------------------------------- */

static bool high_byte(unsigned n) { return n & 7; }

/* Whether the emitters can take its operands. */
static bool operands_fit(const struct insn *in, enum action action)
{
    const struct insn_row *row = &insn_rows[in->row];
    if (in->flags & INSN_MEM && action != ACT_LEA && (!(in->flags & INSN_FLAT) || row->imm == IMM_MOFFS))
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
    case ACT_BIT_G: case ACT_BIT_I:
        return memory ? ACT_CALL : action;
    case ACT_LEA:
        return in->asz == 3 && in->osz >= OSZ_32 ? action : ACT_CALL;
    case ACT_XADD: case ACT_CMPXCHG:
        return memory ? action : ACT_CALL;
    case ACT_BSWAP:
        return in->osz == OSZ_16 ? ACT_CALL : action;
    case ACT_PUSH_E: case ACT_PUSH_I:
        return in->osz == OSZ_64 ? action : ACT_CALL;
    case ACT_POP_E:
        return in->osz == OSZ_64 && !memory ? action : ACT_CALL;
    case ACT_LEAVE_FRAME:
        return in->osz == OSZ_64 ? action : ACT_CALL;
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
    if (in->handler != (*insn_rows[in->row].family)[(in->flags & INSN_MEM ? 4 : 0) + in->osz])
        return ACT_LEAVE;      /* an undefined form, or one with checks of its own */
    bool branch = action >= ACT_JUMP_IF;
    if (jit->calls)
        return branch ? ACT_LEAVE : ACT_CALL;
    if (action == ACT_NOTHING)
        return action;
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
    case ACT_NOTHING: case ACT_ALU_E_G: case ACT_ALU_G_E: case ACT_ALU_E_I: case ACT_STEP: case ACT_NEG: case ACT_NOT:
    case ACT_MUL_2: case ACT_MUL_3: case ACT_MUL_WIDE: case ACT_MOV_E_G: case ACT_MOV_G_E: case ACT_MOV_E_I: case ACT_EXTEND:
    case ACT_XCHG: case ACT_XCHG_A: case ACT_BSWAP: case ACT_CBW: case ACT_CWD: case ACT_SET: case ACT_MOVE_IF: return true;
    case ACT_SHIFT_I: case ACT_SHIFT_1: return true;
    default: return false;
    }
}

static bool is_rotate(enum action action, unsigned arg)
{
    return (action == ACT_SHIFT_I || action == ACT_SHIFT_1 || action == ACT_SHIFT_CL) && arg <= EMIT_RCR;
}

struct plan {
    u8 action[BLOCK_INSNS];
    bool keep[BLOCK_INSNS], dead[BLOCK_INSNS];
};

/* From the end to the start: who can see the flags that instruction i leaves. `keep`: memory may be asked for them; `dead`: nobody sees any.
 * An instruction that leaves only some flags on the host keeps them in memory unless they are dead. */
static void plan_block(const struct jit *jit, const struct block *block, unsigned count, struct plan *plan)
{
    bool keep = true, dead = false;
    for (unsigned i = count; i-- > 0;) {
        const struct insn *in = &block->insn[i];
        enum action action = action_of(jit, in, dead);
        const struct row_action *row = in->row == 0xffff ? NULL : &rows[in->row];
        bool inside = row && stays_inside(in, action);
        u8 flags = row ? row->flags : 0;
        bool partial = is_rotate(action, row ? row->arg : 0);
        bool some_on_host = partial || action == ACT_MUL_2 || action == ACT_MUL_3 || action == ACT_MUL_WIDE ||
                            action == ACT_SHIFT_I || action == ACT_SHIFT_CL || action == ACT_STEP || action == ACT_BIT_G ||
                            action == ACT_BIT_I || action == ACT_SCAN;
        plan->action[i] = (u8)action;
        plan->dead[i] = dead;
        plan->keep[i] = keep || (some_on_host && !dead);
        if (partial && inside && dead) {
            /* as if it wrote none */
        } else if (!inside || (partial && !dead)) {
            keep = true;
            dead = false;
        } else if (action == ACT_SHIFT_I || action == ACT_SHIFT_1 || flags & FL_WRITE_ALL) {
            keep = false;
            dead = !(flags & FL_READ);
        } else if (action == ACT_STEP) {
            keep = false;
            dead = false;      /* CF goes through it */
        } else if (flags & FL_READ) {
            dead = false;
        }
    }
}

/* ---- emission ---------------------------------------------------------------------------------------------------------- */

static struct place reg_of(const struct insn *in, bool byte) { return place_reg(byte ? in->reg / 8u : in->reg); }
static struct place rm_of(const struct insn *in, bool byte)
{
    return in->flags & INSN_MEM ? place_mem() : place_reg(byte ? in->rm / 8u : in->rm);
}

/* The accumulator rows (ADD AL, imm …) have rm = 0, which is RAX. */
static void emit_one(struct emit *e, const struct insn *in, enum action action, unsigned offset)
{
    const struct insn_row *row = &insn_rows[in->row];
    unsigned arg = rows[in->row].arg, osz = in->osz;
    bool byte = osz == OSZ_8;
    struct place rm = rm_of(in, row->rm_byte || (byte && row->modrm == MODRM_NONE)), reg = reg_of(in, row->reg_byte);
    i64 target = (i64)offset + in->length + (i64)in->imm;
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
    case ACT_BIT_G: emit_bit(e, (enum emit_bit)arg, osz, rm.reg, place_reg(in->reg)); break;
    case ACT_BIT_I: emit_bit(e, (enum emit_bit)arg, osz, rm.reg, place_imm((i64)(in->imm & ((8u << osz) - 1)))); break;
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
    case ACT_CBW: emit_convert_a(e, osz); break;
    case ACT_CWD: emit_convert_d(e, osz); break;
    case ACT_PUSH_E: emit_push(e, rm); break;
    case ACT_PUSH_I: emit_push(e, place_imm((i64)in->imm)); break;
    case ACT_POP_E: emit_pop(e, in->rm); break;
    case ACT_LEAVE_FRAME: emit_leave(e); break;
    case ACT_SET: emit_set(e, arg, rm); break;
    case ACT_MOVE_IF: emit_move_if(e, arg, osz, in->reg, rm); break;
    case ACT_JUMP_IF: emit_jump_if(e, arg, target); break;
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

bool jit_translate(struct jit *jit, struct block *block, bool *full)
{
    unsigned count = 0;
    *full = false;
    while (count < block->count && action_of(jit, &block->insn[count], false) != ACT_LEAVE)
        count++;
    if (count == 0)
        return false;
    if (jit->used + JIT_BLOCK_BYTES > jit->memory.size || jit->site_count + JIT_BLOCK_SITES > JIT_SITES) {
        *full = true;
        return false;
    }
    u32 sites = jit->site_count;
    struct plan plan;
    plan_block(jit, block, count, &plan);
    struct emit *e = emit_open(jit, block, count, jit->used);
    unsigned offset = (unsigned)(block->ram_off & 0xfff), i;
    bool ended = false;
    for (i = 0; i < count && !ended; i++) {
        const struct insn *in = &block->insn[i];
        struct emit_insn insn = {in, i, offset, plan.keep[i], plan.dead[i]};
        emit_begin(e, &insn);
        emit_one(e, in, (enum action)plan.action[i], offset);
        emit_end(e);
        offset += in->length;
        ended = ends_block((enum action)plan.action[i]);
    }
    if (!ended && count < block->count) {
        struct emit_insn insn = {&block->insn[count], count, offset, true, false};
        emit_begin(e, &insn);
        emit_leave_for(e);
        emit_end(e);
    } else if (!ended) {
        emit_continue(e, offset);
    }
    size_t bytes = emit_close(e);
    if (bytes == 0) {
        jit->site_count = sites;
        return false;
    }
    block->code = emit_entry(e);
    jit->used += bytes;
    return true;
}
