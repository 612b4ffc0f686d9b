/* x87 loads, stores, exchanges, constants and register-stack instructions.
 *
 * Kept true: a memory operand is read before anything changes, and a store reports its exceptions only after the memory
 * write has succeeded. An unmasked exception leaves operands and stack as they were, except that a result is stored
 * when only inexactness is reported.
 * [SDM1 "x87 FPU Instruction Set", "x87 FPU Floating-Point Exception Handling"]
 */
#include "cpu/x87.h"

#include "cpu/features.h"
#include "cpu/flags.h"

/* ---- beginning and end ------------------------------------------------------------------------------------------- */

static void note_operand(struct cpu *cpu, const struct insn *in)
{
    cpu->fpu.fdp = ea_offset(cpu, in);
    cpu->fpu.fds = cpu_has(cpu, FEATURE_ZERO_FCS_FDS) ? 0 : cpu->seg.s[in->arch_seg].selector;
}

void x87_note(struct cpu *cpu, const struct insn *in, unsigned opcode)
{
    struct cpu_fpu *fpu = &cpu->fpu;
    fpu->fop = (u16)(opcode << 8 | in->modrm);
    fpu->fip = cpu->core.rip;
    fpu->fcs = cpu_has(cpu, FEATURE_ZERO_FCS_FDS) ? 0 : cpu->seg.s[SEG_CS].selector;
    if (in->flags & INSN_MEM && !cpu_has(cpu, FEATURE_FDP_EXCPTN_ONLY))
        note_operand(cpu, in);
}

bool x87_report(struct cpu *cpu, const struct insn *in, const struct float_env *e)
{
    struct cpu_fpu *fpu = &cpu->fpu;
    fpu->fsw &= (u16)~FSW_C1;
    if (LIKELY(!e->flags))
        return true;
    fpu->fsw |= e->flags;
    if (e->up && e->flags & FLOAT_INEXACT)
        fpu->fsw |= FSW_C1;
    if (LIKELY(!float_blocked(e)))
        return true;
    fpu->fsw |= FSW_ES | FSW_B;
    if (in->flags & INSN_MEM && cpu_has(cpu, FEATURE_FDP_EXCPTN_ONLY))
        note_operand(cpu, in);
    return !(e->flags & ~e->masks & (FLOAT_INVALID | FLOAT_DENORMAL | FLOAT_DIVZERO));
}

bool x87_stack_fault(struct cpu *cpu, const struct insn *in, bool overflow)
{
    struct float_env e = {.masks = cpu->fpu.fcw & FCW_MASKS, .flags = FLOAT_INVALID};
    bool masked = x87_report(cpu, in, &e);
    cpu->fpu.fsw |= FSW_SF | (overflow ? FSW_C1 : 0);
    return masked;
}

/* Pushes a value that needs no rounding, or the default NaN onto a full stack. */
static void push_checked(struct cpu *cpu, const struct insn *in, struct f80 v)
{
    if (!x87_empty(cpu, 7)) {
        if (x87_stack_fault(cpu, in, true))
            x87_push(cpu, F80_NAN);
        return;
    }
    cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_push(cpu, v);
}

/* ---- loads ------------------------------------------------------------------------------------------------------- */

/* FLD m32 and m64: what loading reports is an SNaN or a denormal. */
static void load_float(struct cpu *cpu, const struct insn *in, struct f80 v, bool denormal)
{
    if (!x87_empty(cpu, 7)) {
        push_checked(cpu, in, v);
        return;
    }
    struct float_env e = x87_env(cpu);
    if ((v.exponent & 0x7fff) == 0x7fff && v.mantissa << 1)
        v = f80_propagate(v, v, &e);
    else if (denormal)
        e.flags |= FLOAT_DENORMAL;
    x87_report(cpu, in, &e);
    if (!(e.flags & ~e.masks & FLOAT_INVALID)) /* ERRATUM: an unmasked denormal is reported and loaded all the same */
        x87_push(cpu, v);
}

static enum flow fld_m32(struct cpu *cpu, const struct insn *in)
{
    u32 a;
    bool denormal;
    X87_GATE();
    TRY(rm_read32(cpu, in, &a));
    x87_note(cpu, in, 1);
    struct f80 v = f80_widen32(a, &denormal);
    load_float(cpu, in, v, denormal);
    return FLOW_NEXT;
}
FAMILY_ONE(fld_m32, fld_m32)

static enum flow fld_m64(struct cpu *cpu, const struct insn *in)
{
    u64 a;
    bool denormal;
    X87_GATE();
    TRY(rm_read64(cpu, in, &a));
    x87_note(cpu, in, 5);
    struct f80 v = f80_widen64(a, &denormal);
    load_float(cpu, in, v, denormal);
    return FLOW_NEXT;
}
FAMILY_ONE(fld_m64, fld_m64)

static enum flow fld_m80(struct cpu *cpu, const struct insn *in)
{
    u8 image[10];
    X87_GATE();
    TRY(rm_read_bytes(cpu, in, image, 10));
    x87_note(cpu, in, 3);
    push_checked(cpu, in, (struct f80){load64(image), load16(image + 8)});
    return FLOW_NEXT;
}
FAMILY_ONE(fld_m80, fld_m80)

static enum flow fld_st(struct cpu *cpu, const struct insn *in)
{
    unsigned i = in->modrm & 7;
    X87_GATE();
    x87_note(cpu, in, 1);
    struct f80 v = x87_get(cpu, i);
    if (x87_empty(cpu, i)) {   /* underflow goes before overflow */
        if (x87_stack_fault(cpu, in, false))
            x87_push(cpu, F80_NAN);
        return FLOW_NEXT;
    }
    push_checked(cpu, in, v);
    return FLOW_NEXT;
}
FAMILY_ONE(fld_st, fld_st)

static enum flow fild_m16(struct cpu *cpu, const struct insn *in)
{
    u16 a;
    X87_GATE();
    TRY(rm_read16(cpu, in, &a));
    x87_note(cpu, in, 7);
    push_checked(cpu, in, f80_from_i64((i16)a));
    return FLOW_NEXT;
}
FAMILY_ONE(fild_m16, fild_m16)

static enum flow fild_m32(struct cpu *cpu, const struct insn *in)
{
    u32 a;
    X87_GATE();
    TRY(rm_read32(cpu, in, &a));
    x87_note(cpu, in, 3);
    push_checked(cpu, in, f80_from_i64((i32)a));
    return FLOW_NEXT;
}
FAMILY_ONE(fild_m32, fild_m32)

static enum flow fild_m64(struct cpu *cpu, const struct insn *in)
{
    u64 a;
    X87_GATE();
    TRY(rm_read64(cpu, in, &a));
    x87_note(cpu, in, 7);
    push_checked(cpu, in, f80_from_i64((i64)a));
    return FLOW_NEXT;
}
FAMILY_ONE(fild_m64, fild_m64)

/* Eighteen packed decimal digits and a sign; digits above 9 count as they stand. */
static enum flow fbld(struct cpu *cpu, const struct insn *in)
{
    u8 image[10];
    u64 v = 0;
    X87_GATE();
    TRY(rm_read_bytes(cpu, in, image, 10));
    x87_note(cpu, in, 7);
    for (unsigned i = 9; i-- > 0;)
        v = v * 100 + (image[i] >> 4) * 10u + (image[i] & 15);
    struct f80 r = f80_from_i64((i64)v);
    r.exponent |= (u16)((image[9] & 0x80) << 8);
    push_checked(cpu, in, r);
    return FLOW_NEXT;
}
FAMILY_ONE(fbld, fbld)

/* FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2, FLDZ: rounded by RC to full precision, with no exception. */
static enum flow fld_constant(struct cpu *cpu, const struct insn *in)
{
    static const struct { i32 exp; u64 sig, rest; } constant[8] = {
        {0, 0x8000000000000000, 0},
        {1, 0xd49a784bcd1b8afe, 0x492bf6ff4dafdb4d},
        {0, 0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89},
        {1, 0xc90fdaa22168c234, 0xc4c6628b80dc1cd1},
        {-2, 0x9a209a84fbcff798, 0x8f8959ac0b7c9178},
        {-1, 0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af},
        {0, 0, 0},
        {0, 0, 0},
    };
    X87_GATE();
    x87_note(cpu, in, 1);
    unsigned n = in->modrm & 7;
    struct float_env e = x87_env(cpu);
    e.precision = 64;
    push_checked(cpu, in, f80_pack(false, constant[n].exp, constant[n].sig, constant[n].rest, &e));
    return FLOW_NEXT;
}
FAMILY_ONE(fld_constant, fld_constant)

/* ---- stores ------------------------------------------------------------------------------------------------------ */

/* Whether the result of a store goes to memory: unmasked inexactness alone does not stop it. */
static bool store_allowed(const struct float_env *e) { return !(e->flags & ~e->masks & FLOAT_ALL & ~FLOAT_INEXACT); }

/* A store that is stopped faults all the same where its operand is not writable: that comes first [SDM3 "Priority Among Concurrent Events"]. */
static bool store_probe(struct cpu *cpu, const struct insn *in, unsigned n)
{
    u64 la;
    return ea_la(cpu, in, n, ACCESS_WRITE, &la) && mem_probe(cpu, la, n, ACCESS_WRITE);
}

/* What is reported: when overflow or underflow stops the store, inexactness is not. */
static void store_settle(struct float_env *e)
{
    if (!store_allowed(e))
        e->flags &= ~FLOAT_INEXACT;
}

/* The end of a store: nothing can fail any more. `fault`: ST(0) was empty. */
static enum flow store_done(struct cpu *cpu, const struct insn *in, unsigned opcode, const struct float_env *e,
                            bool fault, bool pop)
{
    x87_note(cpu, in, opcode);
    x87_report(cpu, in, e);
    if (fault)
        cpu->fpu.fsw |= FSW_SF;
    if (pop && store_allowed(e))
        x87_pop(cpu);
    return FLOW_NEXT;
}

/* The environment of a store from ST(0), which is empty: IE. */
#define STORE_BEGIN                                                                                                    \
    X87_GATE();                                                                                                        \
    struct float_env e = x87_env(cpu);                                                                                 \
    struct f80 a = x87_get(cpu, 0);                                                                                    \
    bool fault = x87_empty(cpu, 0);                                                                                    \
    if (fault)                                                                                                         \
        e.flags |= FLOAT_INVALID

static enum flow fst_m32(struct cpu *cpu, const struct insn *in, bool pop)
{
    STORE_BEGIN;
    u32 v = fault ? F32_NAN : f80_to_f32(a, &e);
    store_settle(&e);
    TRY(store_allowed(&e) ? rm_write32(cpu, in, v) : store_probe(cpu, in, 4));
    return store_done(cpu, in, 1, &e, fault, pop);
}
static enum flow fst_m64(struct cpu *cpu, const struct insn *in, bool pop)
{
    STORE_BEGIN;
    u64 v = fault ? F64_NAN : f80_to_f64(a, &e);
    store_settle(&e);
    TRY(store_allowed(&e) ? rm_write64(cpu, in, v) : store_probe(cpu, in, 8));
    return store_done(cpu, in, 5, &e, fault, pop);
}
static enum flow fst_m32_keep(struct cpu *cpu, const struct insn *in) { return fst_m32(cpu, in, false); }
static enum flow fst_m32_pop(struct cpu *cpu, const struct insn *in) { return fst_m32(cpu, in, true); }
static enum flow fst_m64_keep(struct cpu *cpu, const struct insn *in) { return fst_m64(cpu, in, false); }
static enum flow fst_m64_pop(struct cpu *cpu, const struct insn *in) { return fst_m64(cpu, in, true); }
FAMILY_ONE(fst_m32, fst_m32_keep)
FAMILY_ONE(fstp_m32, fst_m32_pop)
FAMILY_ONE(fst_m64, fst_m64_keep)
FAMILY_ONE(fstp_m64, fst_m64_pop)

static enum flow fstp_m80(struct cpu *cpu, const struct insn *in)
{
    u8 image[10];
    STORE_BEGIN;
    struct f80 v = fault ? F80_NAN : a;
    store64(image, v.mantissa);
    store16(image + 8, v.exponent);
    TRY(store_allowed(&e) ? rm_write_bytes(cpu, in, image, 10) : store_probe(cpu, in, 10));
    return store_done(cpu, in, 3, &e, fault, true);
}
FAMILY_ONE(fstp_m80, fstp_m80)

/* FIST, FISTP and FISTTP. */
static enum flow store_i16(struct cpu *cpu, const struct insn *in, bool truncate, bool pop)
{
    STORE_BEGIN;
    u16 v = fault ? 0x8000 : (u16)f80_to_i16(a, truncate ? ROUND_ZERO : e.rounding, &e);
    TRY(store_allowed(&e) ? rm_write16(cpu, in, v) : store_probe(cpu, in, 2));
    return store_done(cpu, in, 7, &e, fault, pop);
}
static enum flow store_i32(struct cpu *cpu, const struct insn *in, bool truncate, bool pop)
{
    STORE_BEGIN;
    u32 v = fault ? 0x80000000u : (u32)f80_to_i32(a, truncate ? ROUND_ZERO : e.rounding, &e);
    TRY(store_allowed(&e) ? rm_write32(cpu, in, v) : store_probe(cpu, in, 4));
    return store_done(cpu, in, 3, &e, fault, pop);
}
static enum flow store_i64(struct cpu *cpu, const struct insn *in, bool truncate, unsigned opcode)
{
    STORE_BEGIN;
    u64 v = fault ? BIT(63) : (u64)f80_to_i64(a, truncate ? ROUND_ZERO : e.rounding, &e);
    TRY(store_allowed(&e) ? rm_write64(cpu, in, v) : store_probe(cpu, in, 8));
    return store_done(cpu, in, opcode, &e, fault, true);
}
static enum flow fist_m16(struct cpu *cpu, const struct insn *in) { return store_i16(cpu, in, false, false); }
static enum flow fistp_m16(struct cpu *cpu, const struct insn *in) { return store_i16(cpu, in, false, true); }
static enum flow fisttp_m16(struct cpu *cpu, const struct insn *in) { return store_i16(cpu, in, true, true); }
static enum flow fist_m32(struct cpu *cpu, const struct insn *in) { return store_i32(cpu, in, false, false); }
static enum flow fistp_m32(struct cpu *cpu, const struct insn *in) { return store_i32(cpu, in, false, true); }
static enum flow fisttp_m32(struct cpu *cpu, const struct insn *in) { return store_i32(cpu, in, true, true); }
static enum flow fistp_m64(struct cpu *cpu, const struct insn *in) { return store_i64(cpu, in, false, 7); }
static enum flow fisttp_m64(struct cpu *cpu, const struct insn *in) { return store_i64(cpu, in, true, 5); }
FAMILY_ONE(fist_m16, fist_m16)
FAMILY_ONE(fistp_m16, fistp_m16)
FAMILY_ONE(fisttp_m16, fisttp_m16)
FAMILY_ONE(fist_m32, fist_m32)
FAMILY_ONE(fistp_m32, fistp_m32)
FAMILY_ONE(fisttp_m32, fisttp_m32)
FAMILY_ONE(fistp_m64, fistp_m64)
FAMILY_ONE(fisttp_m64, fisttp_m64)

static enum flow fbstp(struct cpu *cpu, const struct insn *in)
{
    u8 image[10] = {0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff};     /* packed BCD indefinite */
    STORE_BEGIN;
    if (!fault) {
        struct float_env trial = e;
        i64 v = f80_to_i64(a, e.rounding, &trial);
        u64 digits = v < 0 ? 0 - (u64)v : (u64)v;
        if (trial.flags & FLOAT_INVALID || digits > 999999999999999999ull) {
            e.flags |= FLOAT_INVALID;
        } else {
            e = trial;
            for (unsigned i = 0; i < 9; i++) {
                unsigned pair = (unsigned)(digits % 100);
                image[i] = (u8)(pair / 10 << 4 | pair % 10);
                digits /= 100;
            }
            image[9] = a.exponent >> 15 ? 0x80 : 0;
        }
    }
    TRY(store_allowed(&e) ? rm_write_bytes(cpu, in, image, 10) : store_probe(cpu, in, 10));
    return store_done(cpu, in, 7, &e, fault, true);
}
FAMILY_ONE(fbstp, fbstp)

/* FST and FSTP to a register. `opcode`: DD, or one of the aliases. */
static enum flow store_register(struct cpu *cpu, const struct insn *in, unsigned opcode, bool pop)
{
    X87_GATE();
    x87_note(cpu, in, opcode);
    struct f80 v = x87_get(cpu, 0);
    if (x87_empty(cpu, 0)) {
        if (!x87_stack_fault(cpu, in, false))
            return FLOW_NEXT;
        v = F80_NAN;
    } else {
        cpu->fpu.fsw &= (u16)~FSW_C1;
    }
    x87_put(cpu, in->modrm & 7, v);
    if (pop)
        x87_pop(cpu);
    return FLOW_NEXT;
}
static enum flow fst_st(struct cpu *cpu, const struct insn *in) { return store_register(cpu, in, 5, false); }
static enum flow fstp_st(struct cpu *cpu, const struct insn *in) { return store_register(cpu, in, 5, true); }
/* This alias reports no stack fault: an empty ST(0) is popped without being stored. */
static enum flow fstp_st_d9(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    if (!x87_empty(cpu, 0))
        x87_put(cpu, in->modrm & 7, x87_get(cpu, 0));
    x87_pop(cpu);
    return FLOW_NEXT;
}
static enum flow fstp_st_df(struct cpu *cpu, const struct insn *in) { return store_register(cpu, in, 7, true); }
FAMILY_ONE(fst_st, fst_st)
FAMILY_ONE(fstp_st, fstp_st)
FAMILY_ONE(fstp_st_d9, fstp_st_d9)
FAMILY_ONE(fstp_st_df, fstp_st_df)

/* ---- the stack --------------------------------------------------------------------------------------------------- */

static enum flow exchange(struct cpu *cpu, const struct insn *in, unsigned opcode)
{
    unsigned i = in->modrm & 7;
    X87_GATE();
    x87_note(cpu, in, opcode);
    struct f80 a = x87_get(cpu, 0), b = x87_get(cpu, i);
    bool empty_a = x87_empty(cpu, 0), empty_b = x87_empty(cpu, i);
    if (empty_a || empty_b) {
        if (!x87_stack_fault(cpu, in, false))
            return FLOW_NEXT;
        a = empty_a ? F80_NAN : a;
        b = empty_b ? F80_NAN : b;
    } else {
        cpu->fpu.fsw &= (u16)~FSW_C1;
    }
    x87_put(cpu, 0, b);
    x87_put(cpu, i, a);
    return FLOW_NEXT;
}
static enum flow fxch(struct cpu *cpu, const struct insn *in) { return exchange(cpu, in, 1); }
static enum flow fxch_dd(struct cpu *cpu, const struct insn *in) { return exchange(cpu, in, 5); }
static enum flow fxch_df(struct cpu *cpu, const struct insn *in) { return exchange(cpu, in, 7); }
FAMILY_ONE(fxch, fxch)
FAMILY_ONE(fxch_dd, fxch_dd)
FAMILY_ONE(fxch_df, fxch_df)

static enum flow fnop(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    return FLOW_NEXT;
}
FAMILY_ONE(fnop, fnop)

static enum flow fincstp(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_set_top(cpu, x87_top(cpu) + 1);
    return FLOW_NEXT;
}
FAMILY_ONE(fincstp, fincstp)

static enum flow fdecstp(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_set_top(cpu, x87_top(cpu) - 1);
    return FLOW_NEXT;
}
FAMILY_ONE(fdecstp, fdecstp)

static enum flow ffree(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 5);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_mark_empty(cpu, in->modrm & 7);
    return FLOW_NEXT;
}
FAMILY_ONE(ffree, ffree)

static enum flow ffreep(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 7);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    x87_mark_empty(cpu, in->modrm & 7);
    x87_pop(cpu);
    return FLOW_NEXT;
}
FAMILY_ONE(ffreep, ffreep)

/* ---- conditional moves: DA C0 FCMOVB, C8 FCMOVE, D0 FCMOVBE, D8 FCMOVU; DB the negations ------------------------- */

static enum flow conditional_move(struct cpu *cpu, const struct insn *in, unsigned opcode)
{
    unsigned i = in->modrm & 7;
    X87_GATE();
    x87_note(cpu, in, opcode);
    if (x87_empty(cpu, 0) || x87_empty(cpu, i)) {
        if (x87_stack_fault(cpu, in, false))
            x87_put(cpu, 0, F80_NAN);
        return FLOW_NEXT;
    }
    bool holds;
    switch (in->modrm >> 3 & 3) {
    case 0: holds = flag_cf(cpu); break;
    case 1: holds = flag_zf(cpu); break;
    case 2: holds = flag_cf(cpu) || flag_zf(cpu); break;
    default: holds = flag_pf(cpu); break;
    }
    if (holds == (opcode == 2))
        x87_put(cpu, 0, x87_get(cpu, i));
    return FLOW_NEXT;
}
static enum flow fcmov(struct cpu *cpu, const struct insn *in) { return conditional_move(cpu, in, 2); }
static enum flow fcmovn(struct cpu *cpu, const struct insn *in) { return conditional_move(cpu, in, 3); }
FAMILY_ONE(fcmov, fcmov)
FAMILY_ONE(fcmovn, fcmovn)
