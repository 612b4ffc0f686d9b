/* The x86-64 back end: integer instructions and the guest's flags.
 *
 * Most of a guest's integer instructions become the same instruction on the host's registers. Its flags are then the host's; where they may
 * be wanted later from memory (keep_flags), what they follow from is stored as well, with moves, which change none.
 */
#include "cpu/jit/x64_asm.h"

#define ALL_FLAGS ((u32)FL_STATUS)

/* ---- registers -------------------------------------------------------------------------------------------------------- */

/* The host register that holds guest register n: its own, or `temporary`, loaded. */
static unsigned value(struct emit *e, unsigned n, unsigned temporary)
{
    if (pinned(n))
        return x64_pin[n];
    x64_load(e, temporary, guest(n));
    return temporary;
}

/* Guest register n was changed in `host`, which value() gave. */
static void changed(struct emit *e, unsigned n, unsigned host)
{
    if (!pinned(n))
        x64_store(e, guest(n), host);
}

/* Register n, at this operand size, becomes what `from` holds (zero-extended in it where osz is 32). */
static void set_register(struct emit *e, unsigned n, unsigned osz, unsigned from)
{
    if (pinned(n))
        x64_op(e, osz == OSZ_8 ? 0x8a : 0x8b, osz, x64_pin[n], rm_reg(from));
    else
        x64_op(e, osz == OSZ_8 ? 0x88 : 0x89, osz == OSZ_32 ? OSZ_64 : osz, from, guest(n));
}

/* reg = memory at `from`, zero-extended. */
static void load_extended(struct emit *e, unsigned osz, unsigned reg, struct rm from)
{
    x64_op(e, osz == OSZ_8 ? 0x1b6 : osz == OSZ_16 ? 0x1b7 : 0x8b, osz == OSZ_64 ? OSZ_64 : OSZ_32, reg, from);
}

/* ---- flags ----------------------------------------------------------------------------------------------------------- */

static void set_kind(struct emit *e, unsigned kind, unsigned osz, u32 overlays)
{
    u32 op = kind | osz << CC_SIZE_SHIFT | overlays;
    x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), (i32)op);
    e->cc_op = (int)op;
    e->known = kind == CC_ADD || kind == CC_SUB || kind == CC_LOGIC ? (int)(kind | osz << CC_SIZE_SHIFT) : -1;
}

/* Overlays on what memory says; the host's flags change. */
static void set_overlay(struct emit *e, u32 set, u32 clear)
{
    if (e->cc_op >= 0) {
        e->cc_op = (int)(((u32)e->cc_op & ~clear) | set);
        x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), e->cc_op);
    } else {
        if (clear)
            x64_alu_imm(e, 4, OSZ_32, rm_cpu(OFF(jit.cc_op)), (i64)(i32)~clear);
        x64_alu_imm(e, 1, OSZ_32, rm_cpu(OFF(jit.cc_op)), (i64)set);
    }
    e->known = -1;
}

static void set_byte_if(struct emit *e, unsigned cc, i32 off) { x64_op(e, 0x190 | cc, OSZ_8, 0, rm_cpu(off)); }

/* The host's flags hold the guest's flags of `mask`. T1 changes. */
static void want_flags(struct emit *e, u32 mask)
{
    if ((e->host & mask) == mask) {
        if (e->flag_slow >= 0)
            e->slow[e->flag_slow].flags = true;
        return;
    }
    if (e->known >= 0) {
        unsigned kind = (unsigned)e->known & CC_KIND_MASK, osz = (unsigned)e->known >> CC_SIZE_SHIFT & 3, byte = osz != OSZ_8;
        x64_load(e, T1, rm_cpu(OFF(jit.cc_a)));
        if (kind == CC_LOGIC)
            x64_op(e, 0x84 | byte, osz, T1, rm_reg(T1));
        else
            x64_op(e, (kind == CC_ADD ? 0x02 : 0x3a) | byte, osz, T1, rm_cpu(OFF(jit.cc_b)));
    } else {
        x64_vectors_flush(e);
        x64_call(e, e->stub_flags);
    }
    e->host = ALL_FLAGS;
    e->flag_slow = -1;
}

/* cc_c = CF, if it is going to be wanted. */
static void capture_carry(struct emit *e)
{
    if (e->host & FL_CF || e->known >= 0) {
        want_flags(e, FL_CF);
        set_byte_if(e, CC_B, OFF(jit.cc_c));
    } else if (e->cc_op < 0 || !((u32)e->cc_op & CC_SET_C)) {
        x64_vectors_flush(e);
        x64_op(e, 0xf7, OSZ_32, 0, rm_cpu(OFF(jit.cc_op)));
        put32(e, CC_SET_C);
        put8(e, 0x75);
        put8(e, 5);
        x64_call(e, e->stub_carry);
        e->host = 0;
    }
}

static u32 condition_flags(unsigned cc)
{
    static const u16 of[8] = {FL_OF, FL_CF, FL_ZF, FL_CF | FL_ZF, FL_SF, FL_PF, FL_SF | FL_OF, FL_ZF | FL_SF | FL_OF};
    return of[cc >> 1 & 7];
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------------- */

static bool is_logic(enum emit_alu op) { return op == EMIT_AND || op == EMIT_OR || op == EMIT_XOR || op == EMIT_TEST; }

static unsigned kind_of(enum emit_alu op)
{
    static const u8 kinds[] = {CC_ADD, CC_LOGIC, CC_ADC, CC_SBB, CC_LOGIC, CC_SUB, CC_LOGIC, CC_SUB, CC_LOGIC};
    return kinds[op];
}

/* target = target op src on the host; src is a register or an immediate. */
static void alu(struct emit *e, enum emit_alu op, unsigned osz, struct rm target, bool immediate, i64 imm, unsigned src)
{
    unsigned wide = osz != OSZ_8;
    if (immediate && op == EMIT_TEST) {
        x64_op(e, 0xf6 | wide, osz, 0, target);
        if (osz == OSZ_8)
            put8(e, (u8)imm);
        else if (osz == OSZ_16)
            put8(e, (u8)imm), put8(e, (u8)(imm >> 8));
        else
            put32(e, (u32)imm);
    } else if (immediate) {
        x64_alu_imm(e, op, osz, target, imm);
    } else {
        x64_op(e, (op == EMIT_TEST ? 0x84u : (unsigned)op << 3) | wide, osz, src, target);
    }
}

static void keep_operands(struct emit *e, unsigned a, bool immediate, i64 imm, unsigned b)
{
    x64_store(e, rm_cpu(OFF(jit.cc_a)), a);
    if (immediate)
        x64_store_imm(e, OSZ_64, rm_cpu(OFF(jit.cc_b)), (i32)imm);
    else
        x64_store(e, rm_cpu(OFF(jit.cc_b)), b);
}

void x64_late_store(struct emit *e, const struct late *late)
{
    if (late->kind == CC_CORE)
        return;
    unsigned a = value(e, late->a, T0);
    if (late->kind == CC_INC || late->kind == CC_DEC) {
        x64_store(e, rm_cpu(OFF(jit.cc_a)), a);
        x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), (i32)(late->kind | (u32)late->osz << CC_SIZE_SHIFT | CC_SET_C));
        if (late->carry_clear)
            x64_store_imm(e, OSZ_8, rm_cpu(OFF(jit.cc_c)), 0);
        return;
    }
    unsigned b = late->immediate ? NO_REG : value(e, late->b, T1);
    bool logic = late->kind == CC_LOGIC;
    if (logic != late->result) {       /* TEST, or a sum or difference of which the first operand is wanted: one operation on a copy */
        enum emit_alu op = logic ? EMIT_AND : late->kind == CC_ADD ? EMIT_SUB : EMIT_ADD;
        x64_move(e, T0, a);
        a = T0;
        if (late->immediate)
            x64_alu_imm(e, op, OSZ_64, rm_reg(T0), (i32)late->imm);
        else
            x64_op(e, (u64)op << 3 | 1, OSZ_64, b, rm_reg(T0));
    }
    if (logic)
        x64_store(e, rm_cpu(OFF(jit.cc_a)), a);
    else
        keep_operands(e, a, late->immediate, late->imm, b);
    x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), late->kind | late->osz << CC_SIZE_SHIFT);
}

void x64_late_name(struct emit *e, const struct late *late)
{
    if (!late->over || (late->immediate && late->imm != (i8)late->imm)) {
        x64_late_store(e, late);
        return;
    }
    u32 b = late->immediate ? CC_IMMEDIATE | (u32)(u8)late->imm << CC_IMMEDIATE_SHIFT : (u32)late->b << CC_B_SHIFT;
    u32 op = late->kind | (u32)late->osz << CC_SIZE_SHIFT | CC_REGISTERS | (late->result ? CC_RESULT : 0) | (u32)late->a << CC_A_SHIFT | b;
    x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), (i32)op);
}

static void alu_to_memory(struct emit *e, enum emit_alu op, unsigned osz, struct place src)
{
    bool immediate = src.kind == PLACE_IMM, writes = op != EMIT_CMP && op != EMIT_TEST, keep = e->cur.keep_flags;
    struct rm at = x64_operand(e, 1u << osz, writes);
    if (op == EMIT_ADC || op == EMIT_SBB)
        want_flags(e, FL_CF);
    unsigned b = immediate ? NO_REG : value(e, src.reg, T1);
    if (keep) {
        load_extended(e, osz, T2, at);
        if (!is_logic(op)) {
            keep_operands(e, T2, immediate, src.imm, b);
            alu(e, op, osz, op == EMIT_CMP ? rm_reg(T2) : at, immediate, src.imm, b);
            if (op == EMIT_ADC || op == EMIT_SBB) {
                load_extended(e, osz, T2, at);
                x64_store(e, rm_cpu(OFF(jit.cc_r)), T2);
            }
        } else {
            alu(e, op == EMIT_TEST ? EMIT_AND : op, osz, rm_reg(T2), immediate, src.imm, b);
            if (writes)
                x64_op(e, osz == OSZ_8 ? 0x88 : 0x89, osz, T2, at);
            x64_store(e, rm_cpu(OFF(jit.cc_a)), T2);
        }
        set_kind(e, kind_of(op), osz, 0);
    } else {
        alu(e, op, osz, at, immediate, src.imm, b);
    }
    x64_flags_left(e, ALL_FLAGS);
}

void emit_alu(struct emit *e, enum emit_alu op, unsigned osz, struct place dst, struct place src)
{
    if (dst.kind == PLACE_MEM) {
        alu_to_memory(e, op, osz, src);
        return;
    }
    bool immediate = src.kind == PLACE_IMM, memory = src.kind == PLACE_MEM, late = e->cur.late_flags;
    bool keep = e->cur.keep_flags && !late;
    bool writes = op != EMIT_CMP && op != EMIT_TEST, carry = op == EMIT_ADC || op == EMIT_SBB;
    struct rm at = {0};
    if (memory)
        at = x64_operand(e, 1u << osz, false);
    if (carry)
        want_flags(e, FL_CF);
    if (memory)
        load_extended(e, osz, T2, at);
    unsigned b = immediate ? NO_REG : memory ? T2 : value(e, src.reg, T1);
    unsigned a = value(e, dst.reg, T0);
    if (keep && !is_logic(op))
        keep_operands(e, a, immediate, src.imm, b);
    if (keep && op == EMIT_TEST && !(b == a)) {
        if (a != T0)
            x64_move(e, T0, a);
        a = T0;
        alu(e, EMIT_AND, osz, rm_reg(a), immediate, src.imm, b);
    } else {
        alu(e, op, osz, rm_reg(a), immediate, src.imm, b);
    }
    if (writes)
        changed(e, dst.reg, a);
    if (keep && is_logic(op))
        x64_store(e, rm_cpu(OFF(jit.cc_a)), a);
    if (keep && carry)
        x64_store(e, rm_cpu(OFF(jit.cc_r)), a);
    if (keep)
        set_kind(e, kind_of(op), osz, 0);
    else
        e->known = -1;
    if (late)
        e->cc_op = -1, e->late = (struct late){.kind = (u8)kind_of(op), .osz = (u8)osz, .over = e->cur.late_over, .result = writes, .immediate = immediate, .a = dst.reg,
                                .b = src.reg, .imm = src.imm};
    x64_flags_left(e, ALL_FLAGS);
    e->carry_clear = is_logic(op);
}

/* AH, CH, DH, BH are registers 4 to 7 of an instruction without REX, as everything that is addressed by rbp is. */
void emit_alu_high(struct emit *e, enum emit_alu op, unsigned n, i64 imm)
{
    unsigned high = 4 + x64_pin[n];
    bool keep = e->cur.keep_flags;
    struct rm image = rm_cpu(OFF(jit.cc_a));
    if (keep && (!is_logic(op) || op == EMIT_TEST))
        x64_byte_op(e, 0x88, high, image);
    if (keep && !is_logic(op))
        x64_store_imm(e, OSZ_64, rm_cpu(OFF(jit.cc_b)), (i32)imm);
    if (op == EMIT_TEST)
        x64_byte_op(e, keep ? 0x80 : 0xf6, keep ? EMIT_AND : 0, keep ? image : rm_reg(high));
    else
        x64_byte_op(e, 0x80, op, rm_reg(high));
    put8(e, (u8)imm);
    if (keep && is_logic(op) && op != EMIT_TEST)
        x64_byte_op(e, 0x88, high, image);
    if (keep)
        set_kind(e, kind_of(op), OSZ_8, 0);
    else
        e->known = -1;
    x64_flags_left(e, ALL_FLAGS);
}

void emit_step(struct emit *e, bool up, unsigned osz, struct place dst)
{
    bool late = e->cur.late_flags, keep = e->cur.keep_flags, memory = dst.kind == PLACE_MEM, carry_clear = e->carry_clear;
    u32 host = (ALL_FLAGS & ~(u32)FL_CF) | (memory ? 0 : e->host & FL_CF);
    struct rm at = {0};
    if (keep && !(late && carry_clear))
        capture_carry(e);
    if (memory)
        at = x64_operand(e, 1u << osz, true);
    else if (keep && e->host == 0)
        host &= ~(u32)FL_CF;
    unsigned reg = memory ? NO_REG : value(e, dst.reg, T0);
    int flag_slow = e->flag_slow;
    x64_op(e, 0xfe | (osz != OSZ_8), osz, up ? 0 : 1, memory ? at : rm_reg(reg));
    if (!memory)
        changed(e, dst.reg, reg);
    if (late) {
        e->cc_op = -1;
        e->late = (struct late){.kind = up ? CC_INC : CC_DEC, .osz = (u8)osz, .carry_clear = carry_clear, .result = true, .a = dst.reg};
    } else if (keep) {
        if (memory)
            load_extended(e, osz, T2, at);
        x64_store(e, rm_cpu(OFF(jit.cc_a)), memory ? T2 : reg);
        set_kind(e, up ? CC_INC : CC_DEC, osz, CC_SET_C);
    }
    e->known = -1;
    /* CF still comes around the slow path of an earlier instruction. */
    if (host & FL_CF && flag_slow >= 0)
        e->slow[flag_slow].flags = true;
    x64_flags_left(e, host);
    e->carry_clear = carry_clear;
}

void emit_neg(struct emit *e, unsigned osz, struct place dst)
{
    bool keep = e->cur.keep_flags, memory = dst.kind == PLACE_MEM;
    struct rm at = {0};
    if (memory)
        at = x64_operand(e, 1u << osz, true);
    unsigned reg = memory ? T2 : value(e, dst.reg, T0);
    if (memory && keep)
        load_extended(e, osz, T2, at);
    if (keep) {
        x64_store_imm(e, OSZ_64, rm_cpu(OFF(jit.cc_a)), 0);
        x64_store(e, rm_cpu(OFF(jit.cc_b)), reg);
    }
    x64_op(e, 0xf6 | (osz != OSZ_8), osz, 3, memory ? at : rm_reg(reg));
    if (!memory)
        changed(e, dst.reg, reg);
    e->known = -1;
    if (keep)
        set_kind(e, CC_SUB, osz, 0);
    x64_flags_left(e, ALL_FLAGS);
}

void emit_not(struct emit *e, unsigned osz, struct place dst)
{
    bool memory = dst.kind == PLACE_MEM;
    struct rm at = {0};
    if (memory)
        at = x64_operand(e, 1u << osz, true);
    unsigned reg = memory ? NO_REG : value(e, dst.reg, T0);
    x64_op(e, 0xf6 | (osz != OSZ_8), osz, 2, memory ? at : rm_reg(reg));
    if (!memory)
        changed(e, dst.reg, reg);
}

/* ---- shifts ---------------------------------------------------------------------------------------------------------- */

static bool is_rotate(enum emit_shift op) { return op <= EMIT_RCR; }
static unsigned shift_kind(enum emit_shift op) { return op == EMIT_SHR ? CC_SHR : op == EMIT_SAR ? CC_SAR : CC_SHL; }

void emit_shift_imm(struct emit *e, enum emit_shift op, unsigned osz, struct place dst, unsigned n)
{
    bool keep = e->cur.keep_flags, memory = dst.kind == PLACE_MEM;
    struct rm at = {0};
    if (memory)
        at = x64_operand(e, 1u << osz, true);
    unsigned reg = memory ? NO_REG : value(e, dst.reg, T0);
    if (keep && is_rotate(op)) {
        set_overlay(e, CC_SET_C | (op == EMIT_ROR ? CC_ROTATED_RIGHT : CC_ROTATED) | osz << CC_ROTATED_SHIFT, CC_OVERLAYS & ~(u32)CC_SET_Z);
    } else if (keep) {
        x64_store(e, rm_cpu(OFF(jit.cc_a)), reg);
        x64_store_imm(e, OSZ_64, rm_cpu(OFF(jit.cc_b)), (i32)n);
        set_kind(e, shift_kind(op), osz, 0);
    }
    x64_op(e, 0xc0 | (osz != OSZ_8), osz, op, memory ? at : rm_reg(reg));
    put8(e, n);
    if (!memory)
        changed(e, dst.reg, reg);
    if (is_rotate(op)) {
        if (keep) {
            set_byte_if(e, CC_B, OFF(jit.cc_c));
            x64_store(e, rm_cpu(OFF(jit.cc_t)), reg);
        }
        x64_flags_left(e, FL_CF | (n == 1 ? FL_OF : 0));
    } else {
        x64_flags_left(e, FL_CF | FL_ZF | FL_SF | FL_PF | (n == 1 ? FL_OF : 0));
    }
    e->known = -1;
}

void emit_shift_cl(struct emit *e, enum emit_shift op, unsigned osz, unsigned dst)
{
    unsigned reg = value(e, dst, T0);
    u8 *over = NULL;
    if (e->cur.keep_flags) {           /* a count of 0 leaves the flags as they are in memory */
        x64_op(e, 0xf6, OSZ_8, 0, rm_reg(RCX));
        put8(e, osz == OSZ_64 ? 63 : 31);
        put8(e, 0x74);
        put8(e, 0);
        over = e->p;
        x64_store(e, rm_cpu(OFF(jit.cc_a)), reg);
        x64_store(e, rm_cpu(OFF(jit.cc_b)), RCX);
        set_kind(e, shift_kind(op), osz, 0);
        over[-1] = (u8)(e->p - over);
        e->cc_op = -1;
    }
    x64_op(e, 0xd2 | (osz != OSZ_8), osz, op, rm_reg(reg));
    changed(e, dst, reg);
    e->known = -1;
    x64_flags_left(e, 0);
}

void emit_shift_double(struct emit *e, bool left, unsigned osz, unsigned dst, unsigned from, unsigned n)
{
    unsigned b = value(e, from, T1), a = value(e, dst, T0);
    x64_op(e, left ? 0x1a4 : 0x1ac, osz, b, rm_reg(a));
    put8(e, n);
    changed(e, dst, a);
    e->known = -1;
    x64_flags_left(e, 0);
}

/* ---- multiplication and division -------------------------------------------------------------------------------------- */

static void keep_product(struct emit *e, unsigned osz, unsigned low)
{
    if (e->cur.keep_flags) {
        x64_store(e, rm_cpu(OFF(jit.cc_a)), low);
        set_byte_if(e, CC_O, OFF(jit.cc_b));
        set_kind(e, CC_MUL, osz, 0);
    }
    e->known = -1;
    x64_flags_left(e, FL_CF | FL_OF);
}

void emit_mul_to(struct emit *e, unsigned osz, unsigned dst, struct place src, bool immediate, i64 imm)
{
    struct rm from = src.kind == PLACE_MEM ? x64_operand(e, 1u << osz, false) : guest(src.reg);
    unsigned reg;
    if (immediate) {
        reg = pinned(dst) ? x64_pin[dst] : T1;
        if (osz == OSZ_16 && !pinned(dst))
            x64_load(e, T1, guest(dst));
        x64_op(e, imm == (i8)imm ? 0x6b : 0x69, osz, reg, from);
        if (imm == (i8)imm)
            put8(e, (u8)imm);
        else if (osz == OSZ_16)
            put8(e, (u8)imm), put8(e, (u8)(imm >> 8));
        else
            put32(e, (u32)imm);
    } else {
        reg = value(e, dst, T1);
        x64_op(e, 0x1af, osz, reg, from);
    }
    changed(e, dst, reg);
    keep_product(e, osz, reg);
}

void emit_mul_wide(struct emit *e, bool is_signed, unsigned osz, struct place src)
{
    struct rm from = src.kind == PLACE_MEM ? x64_operand(e, 1u << osz, false) : guest(src.reg);
    x64_op(e, 0xf6 | (osz != OSZ_8), osz, is_signed ? 5 : 4, from);
    keep_product(e, osz, RAX);
}

void emit_div(struct emit *e, bool is_signed, unsigned osz, struct place src)
{
    unsigned divisor;
    if (src.kind == PLACE_MEM) {
        load_extended(e, osz, T1, x64_operand(e, 1u << osz, false));
        divisor = T1;
    } else {
        divisor = value(e, src.reg, T1);
    }
    if (is_signed) {                   /* the dividend is a sign-extended half, the divisor neither 0 nor -1 */
        x64_op(e, 0x8b, osz, T2, rm_reg(RAX));
        x64_op(e, 0xc1, osz, 7, rm_reg(T2));
        put8(e, osz == OSZ_64 ? 63 : 31);
        x64_op(e, 0x3b, osz, T2, rm_reg(RDX));
        x64_slow_if(e, CC_NE, false);
        x64_lea(e, osz, T2, rm_at(divisor, 1));
        x64_alu_imm(e, 7, osz, rm_reg(T2), 1);
        x64_slow_if(e, CC_BE, false);
    } else {
        x64_op(e, 0x3b, osz, RDX, rm_reg(divisor));
        x64_slow_if(e, CC_AE, false);
    }
    x64_op(e, 0xf7, osz, is_signed ? 7 : 6, rm_reg(divisor));
    e->host = 0;
}

/* ---- bits -------------------------------------------------------------------------------------------------------------- */

/* Where the operand is that holds bit number `offset` from the memory operand on: the address moves by whole operands. */
static struct rm bit_operand(struct emit *e, unsigned osz, unsigned offset, bool write)
{
    struct rm la = x64_address(e);
    x64_lea(e, OSZ_64, T0, la);
    x64_op(e, osz == OSZ_64 ? 0x8b : 0x63, OSZ_64, T1, guest(offset));
    x64_op(e, 0xc1, OSZ_64, 7, rm_reg(T1));
    put8(e, 3 + osz);
    x64_lea(e, e->word, T0, (struct rm){.memory = true, .base = T0, .index = T1, .scale = (u8)osz});
    return x64_translate(e, rm_at(T0, 0), 1u << osz, write, false);
}

static void bit_in_memory(struct emit *e, enum emit_bit op, unsigned osz, struct place bit)
{
    bool keep = e->cur.keep_flags, writes = op != EMIT_BT;
    struct rm at = bit.kind == PLACE_IMM ? x64_operand(e, 1u << osz, writes) : bit_operand(e, osz, bit.reg, writes);
    if (keep)
        set_overlay(e, CC_SET_C, 0);
    if (bit.kind == PLACE_IMM) {
        x64_op(e, 0x1ba, osz, 4u + op, at);
        put8(e, (u8)bit.imm);
    } else {
        load_extended(e, osz, T2, at);
        x64_op(e, 0x1a3 | (unsigned)op << 3, osz, value(e, bit.reg, T1), rm_reg(T2));
        if (writes)
            x64_op(e, 0x89, osz, T2, at);
    }
    if (keep)
        set_byte_if(e, CC_B, OFF(jit.cc_c));
    e->known = -1;
    x64_flags_left(e, FL_CF);
}

void emit_bit(struct emit *e, enum emit_bit op, unsigned osz, struct place to, struct place bit)
{
    bool keep = e->cur.keep_flags;
    unsigned dst = to.reg;
    if (to.kind == PLACE_MEM) {
        bit_in_memory(e, op, osz, bit);
        return;
    }
    if (keep)
        set_overlay(e, CC_SET_C, 0);
    unsigned b = bit.kind == PLACE_IMM ? NO_REG : value(e, bit.reg, T1), reg = value(e, dst, T0);
    if (bit.kind == PLACE_IMM) {
        x64_op(e, 0x1ba, osz, 4u + op, rm_reg(reg));
        put8(e, (u8)bit.imm);
    } else {
        x64_op(e, 0x1a3 | (unsigned)op << 3, osz, b, rm_reg(reg));
    }
    if (op != EMIT_BT)
        changed(e, dst, reg);
    if (keep)
        set_byte_if(e, CC_B, OFF(jit.cc_c));
    e->known = -1;
    x64_flags_left(e, FL_CF);
}

/* BSF, BSR: of 0, ZF alone. */
void emit_scan(struct emit *e, bool reverse, unsigned osz, unsigned dst, struct place src)
{
    if (src.kind == PLACE_MEM) {
        load_extended(e, osz, T1, x64_operand(e, 1u << osz, false));
    } else {
        x64_load(e, T1, guest(src.reg));
    }
    if (e->cur.keep_flags)
        set_overlay(e, CC_SET_Z, 0);
    x64_op(e, 0x85, osz, T1, rm_reg(T1));
    if (e->cur.keep_flags)
        set_byte_if(e, CC_E, OFF(jit.cc_z));
    put8(e, 0x74);
    put8(e, 0);
    u8 *over = e->p;
    x64_op(e, reverse ? 0x1bd : 0x1bc, osz, T2, rm_reg(T1));
    set_register(e, dst, osz, T2);
    over[-1] = (u8)(e->p - over);
    e->known = -1;
    x64_flags_left(e, FL_ZF);
}

/* ---- moves ------------------------------------------------------------------------------------------------------------ */

void emit_move(struct emit *e, unsigned osz, struct place dst, struct place src)
{
    unsigned byte = osz != OSZ_8;
    if (dst.kind == PLACE_MEM) {
        struct rm at = x64_operand(e, 1u << osz, true);
        if (src.kind == PLACE_IMM)
            x64_store_imm(e, osz, at, (i32)src.imm);
        else
            x64_op(e, 0x88 | byte, osz, value(e, src.reg, T1), at);
    } else if (src.kind == PLACE_MEM) {
        struct rm at = x64_operand(e, 1u << osz, false);
        if (pinned(dst.reg)) {
            x64_op(e, 0x8a | byte, osz, x64_pin[dst.reg], at);
        } else {
            load_extended(e, osz, T1, at);
            set_register(e, dst.reg, osz, T1);
        }
    } else if (src.kind == PLACE_IMM) {
        u64 v = (u64)src.imm;
        if (osz == OSZ_8 || osz == OSZ_16) {
            x64_store_imm(e, osz, guest(dst.reg), (i32)v);
            return;
        }
        v = osz == OSZ_32 ? (u32)v : v;
        unsigned reg = pinned(dst.reg) ? x64_pin[dst.reg] : T0;
        x64_load_imm(e, reg, v);
        changed(e, dst.reg, reg);
    } else if (pinned(dst.reg)) {
        x64_op(e, 0x8a | byte, osz, x64_pin[dst.reg], guest(src.reg));
    } else {
        unsigned reg = value(e, src.reg, T0);
        if (osz == OSZ_32) {
            x64_op(e, 0x8b, OSZ_32, T0, rm_reg(reg));
            reg = T0;
        }
        set_register(e, dst.reg, osz, reg);
    }
}

void emit_extend(struct emit *e, bool is_signed, unsigned osz, unsigned from, unsigned dst, struct place src)
{
    u64 opcode = from == OSZ_32 ? 0x63 : (is_signed ? 0x1be : 0x1b6) | (from == OSZ_16);
    struct rm rm = src.kind == PLACE_MEM ? x64_operand(e, 1u << from, false) : guest(src.reg);
    unsigned reg = pinned(dst) ? x64_pin[dst] : T1;
    if (from == OSZ_8)
        opcode |= OP_BYTE_RM;
    x64_op(e, opcode, osz, reg, rm);
    if (!pinned(dst))
        set_register(e, dst, osz, T1);
}

void emit_lea(struct emit *e, unsigned osz, unsigned dst)
{
    const struct insn *in = e->cur.in;
    struct insn plain = *in;
    plain.seg = SEG_NONE;
    e->cur.in = &plain;
    if (pinned(dst)) {
        x64_expression_to(e, osz, x64_pin[dst]);
    } else {
        x64_expression_to(e, osz, T0);
        x64_store(e, guest(dst), T0);
    }
    e->cur.in = in;
}

void emit_exchange(struct emit *e, unsigned osz, struct place dst, unsigned reg)
{
    unsigned byte = osz != OSZ_8;
    if (dst.kind == PLACE_MEM) {
        struct rm at = x64_operand(e, 1u << osz, true);
        unsigned b = value(e, reg, T1);
        load_extended(e, osz, T2, at);
        x64_op(e, 0x88 | byte, osz, b, at);
        set_register(e, reg, osz, T2);
        return;
    }
    unsigned b = value(e, reg, T1), a = value(e, dst.reg, T0);
    x64_op(e, 0x86 | byte, osz, b, rm_reg(a));
    changed(e, reg, b);
    changed(e, dst.reg, a);
}

void emit_exchange_add(struct emit *e, unsigned osz, unsigned reg)
{
    struct rm at = x64_operand(e, 1u << osz, true);
    unsigned b = value(e, reg, T1);
    load_extended(e, osz, T2, at);
    if (e->cur.keep_flags) {
        keep_operands(e, T2, false, 0, b);
        set_kind(e, CC_ADD, osz, 0);
    }
    x64_op(e, 0x00 | (osz != OSZ_8), osz, b, at);
    set_register(e, reg, osz, T2);
    x64_flags_left(e, ALL_FLAGS);
}

void emit_compare_exchange(struct emit *e, unsigned osz, unsigned reg)
{
    unsigned byte = osz != OSZ_8;
    struct rm at = x64_operand(e, 1u << osz, true);
    unsigned b = value(e, reg, T1);
    load_extended(e, osz, T2, at);
    if (e->cur.keep_flags) {
        keep_operands(e, RAX, false, 0, T2);
        set_kind(e, CC_SUB, osz, 0);
    }
    x64_op(e, 0x38 | byte, osz, T2, rm_reg(RAX));
    put8(e, 0x75);
    put8(e, 0);
    u8 *unequal = e->p;
    x64_op(e, 0x88 | byte, osz, b, at);
    put8(e, 0xeb);
    put8(e, 0);
    u8 *equal = e->p;
    unequal[-1] = (u8)(e->p - unequal);
    x64_op(e, 0x88 | byte, osz, T2, rm_reg(RAX));
    equal[-1] = (u8)(e->p - equal);
    x64_flags_left(e, ALL_FLAGS);
}

void emit_plain(struct emit *e, const struct emit_plain *v, unsigned osz, unsigned from, struct place src)
{
    const struct insn *in = e->cur.in;
    struct rm rm = src.kind == PLACE_MEM ? x64_operand(e, 1u << from, v->writes_rm) : guest(src.reg);
    bool has_vvvv = v->reads_vvvv || v->writes_vvvv;
    unsigned r = in->reg, h = in->vvvv & 15, reg = in->modrm >> 3 & 7, vvvv = 0;
    if (v->has_reg)
        reg = v->reads_reg ? value(e, r, T1) : pinned(r) ? x64_pin[r] : T1;
    if (has_vvvv)
        vvvv = v->reads_vvvv ? value(e, h, T2) : pinned(h) ? x64_pin[h] : T2;
    if (v->vex)
        x64_vex(e, v->opcode, osz == OSZ_64, 0, reg, vvvv, rm);
    else
        x64_op(e, v->opcode | (from == OSZ_8 ? OP_BYTE_RM : 0), osz, reg, rm);
    if (v->immediate)
        put8(e, (u8)in->imm);
    if (v->writes_vvvv)
        changed(e, h, vvvv);           /* before the other: MULX with one register twice leaves the upper half */
    if (v->writes_reg)
        changed(e, r, reg);
    if (v->flags == PLAIN_NO_FLAGS)
        return;
    e->known = -1;
    if (v->flags == PLAIN_LOGIC && e->cur.keep_flags) {
        x64_store(e, rm_cpu(OFF(jit.cc_a)), reg);
        set_kind(e, CC_LOGIC, osz, 0);
    }
    x64_flags_left(e, v->made);
}

void emit_byte_swap(struct emit *e, unsigned osz, unsigned dst)
{
    unsigned reg = value(e, dst, T0);
    put8(e, 0x40 | (osz == OSZ_64 ? 8 : 0) | (reg >> 3));
    put8(e, 0x0f);
    put8(e, 0xc8 | (reg & 7));
    changed(e, dst, reg);
}

void emit_convert_a(struct emit *e, unsigned osz)
{
    x64_op(e, osz == OSZ_64 ? 0x63 : osz == OSZ_32 ? 0x1bf : 0x1be | OP_BYTE_RM, osz, RAX, rm_reg(RAX));
}

void emit_convert_d(struct emit *e, unsigned osz)
{
    if (osz != OSZ_32)
        put8(e, osz == OSZ_64 ? 0x48 : 0x66);
    put8(e, 0x99);
}

/* ---- the stack --------------------------------------------------------------------------------------------------------- */

void emit_push(struct emit *e, struct place src)
{
    unsigned sp = x64_pin[REG_RSP], bytes = (unsigned)x64_word(e);
    if (src.kind == PLACE_MEM) {
        x64_op(e, 0x8b, e->word, T1, x64_operand(e, bytes, false));
        x64_store(e, rm_cpu(OFF(jit.save[0])), T1);
    }
    struct rm at = x64_translate(e, x64_stack(e, REG_RSP, -x64_word(e)), bytes, true, false);
    if (src.kind == PLACE_IMM) {
        x64_store_imm(e, e->word, at, (i32)src.imm);
    } else {
        unsigned reg = T1;
        if (src.kind == PLACE_MEM)
            x64_load(e, T1, rm_cpu(OFF(jit.save[0])));
        else
            reg = value(e, src.reg, T1);
        x64_op(e, 0x89, e->word, reg, at);
    }
    x64_advance(e, sp, sp, -x64_word(e));
}

void emit_pop(struct emit *e, unsigned dst)
{
    unsigned sp = x64_pin[REG_RSP], reg = pinned(dst) && dst != REG_RSP ? x64_pin[dst] : T1;
    x64_op(e, 0x8b, e->word, reg, x64_translate(e, x64_stack(e, REG_RSP, 0), (unsigned)x64_word(e), false, false));
    if (dst == REG_RSP)
        x64_move(e, sp, T1);
    else
        x64_advance(e, sp, sp, x64_word(e));
    changed(e, dst, reg);
}

/* A power of two that n slots fit in: what the copies of TLB entries have limits for. */
static unsigned run_bytes(const struct emit *e, unsigned n)
{
    unsigned bytes = (unsigned)x64_word(e);
    while (bytes < n << e->word)
        bytes *= 2;
    return bytes;
}

void emit_push_run(struct emit *e, const struct place *src, unsigned n)
{
    unsigned sp = x64_pin[REG_RSP];
    i32 all = (i32)(n << e->word);
    struct rm at = x64_translate(e, x64_stack(e, REG_RSP, -all), run_bytes(e, n), true, false);
    x64_slow_run(e, n);
    at.disp += all;
    for (unsigned k = 0; k < n; k++) {
        at.disp -= x64_word(e);
        if (src[k].kind == PLACE_IMM)
            x64_store_imm(e, e->word, at, (i32)src[k].imm);
        else
            x64_op(e, 0x89, e->word, value(e, src[k].reg, T1), at);
    }
    x64_advance(e, sp, sp, -all);
}

void emit_pop_run(struct emit *e, const u8 *reg, unsigned n)
{
    unsigned sp = x64_pin[REG_RSP];
    struct rm at = x64_translate(e, x64_stack(e, REG_RSP, 0), run_bytes(e, n), false, false);
    x64_slow_run(e, n);
    for (unsigned k = 0; k < n; k++) {
        unsigned to = pinned(reg[k]) ? x64_pin[reg[k]] : T1;
        x64_op(e, 0x8b, e->word, to, at);
        changed(e, reg[k], to);
        at.disp += x64_word(e);
    }
    x64_advance(e, sp, sp, (i32)(n << e->word));
}

void emit_leave(struct emit *e)
{
    unsigned bp = x64_pin[REG_RBP];
    struct rm at = x64_translate(e, x64_stack(e, REG_RBP, 0), (unsigned)x64_word(e), false, false);
    x64_advance(e, x64_pin[REG_RSP], bp, x64_word(e));
    x64_op(e, 0x8b, e->word, bp, at);
}

/* ---- conditions --------------------------------------------------------------------------------------------------------- */

void emit_set(struct emit *e, unsigned cc, struct place dst)
{
    struct rm at = dst.kind == PLACE_MEM ? x64_operand(e, 1, true) : guest(dst.reg);
    want_flags(e, condition_flags(cc));
    x64_op(e, 0x190 | cc, OSZ_8, 0, at);
}

void emit_move_if(struct emit *e, unsigned cc, unsigned osz, unsigned dst, struct place src)
{
    struct rm at = src.kind == PLACE_MEM ? x64_operand(e, 1u << osz, false) : guest(src.reg);
    want_flags(e, condition_flags(cc));
    unsigned reg = value(e, dst, T1);
    x64_op(e, 0x140 | cc, osz, reg, at);
    changed(e, dst, reg);
}

void emit_jump_if(struct emit *e, unsigned cc, i64 target)
{
    want_flags(e, condition_flags(cc));
    x64_branch_if(e, cc, target);
}

/* ---- the system -------------------------------------------------------------------------------------------------------- */

void emit_interrupts_off(struct emit *e)
{
    x64_alu_imm(e, 7, OSZ_8, rm_cpu(OFF(mode.cpl)), 0);
    x64_slow_if(e, CC_NE, false);
    x64_alu_imm(e, 4, OSZ_32, rm_cpu(OFF(core.rflags_rest)), ~(i64)FL_IF);
    e->host = 0;
}

void emit_pause(struct emit *e)
{
    x64_alu_imm(e, 7, OSZ_32, rm_cpu(OFF(vmx.depth)), 0);
    x64_slow_if(e, CC_NE, false);
    e->host = 0;
}
