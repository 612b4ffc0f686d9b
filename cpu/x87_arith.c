/* x87 basic arithmetic, comparison, classification and the exact functions (square root, scale, remainder, extract,
 * round to integer).
 *
 * One handler serves the eight operations of an opcode byte; ModRM bits 5:3 tell them apart: 0 ADD, 1 MUL, 4 SUB, 5
 * SUBR, 6 DIV, 7 DIVR. In every register form 4 computes ST(0) - ST(i) and 5 the reverse, whichever of the two is
 * written (and likewise 6 and 7): so the opcode maps have it, and the names are exchanged for the forms that write
 * ST(i). [SDM2 "Escape Opcode Instructions", SDM1 "x87 FPU Arithmetic Instructions"]
 */
#include "cpu/sse_float.h"
#include "cpu/x87.h"

/* ---- arithmetic -------------------------------------------------------------------------------------------------- */

static struct f80 compute(unsigned operation, struct f80 a, struct f80 b, struct float_env *e)
{
    switch (operation) {
    case 0: return f80_add(a, b, e);
    case 1: return f80_mul(a, b, e);
    case 4: return f80_sub(a, b, e);
    case 5: return f80_sub(b, a, e);
    case 6: return f80_div(a, b, e);
    default: return f80_div(b, a, e);
    }
}

/* ST(0) op b into ST(0), where b came from memory. */
static enum flow arithmetic_memory(struct cpu *cpu, const struct insn *in, unsigned opcode, struct f80 b, bool denormal)
{
    x87_note(cpu, in, opcode);
    if (x87_empty(cpu, 0)) {
        if (x87_stack_fault(cpu, in, false))
            x87_put(cpu, 0, F80_NAN);
        return FLOW_NEXT;
    }
    struct float_env e = x87_env(cpu);
    e.source_denormal = denormal;
    struct f80 r = compute(in->modrm >> 3 & 7, x87_get(cpu, 0), b, &e);
    if (x87_report(cpu, in, &e))
        x87_put(cpu, 0, r);
    return FLOW_NEXT;
}

static enum flow arithmetic_m32(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    bool denormal;
    X87_GATE();
    TRY(rm_read32(cpu, in, &v));
    struct f80 b = f80_widen32(v, &denormal);
    return arithmetic_memory(cpu, in, 0, b, denormal);
}
static enum flow arithmetic_m64(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    bool denormal;
    X87_GATE();
    TRY(rm_read64(cpu, in, &v));
    struct f80 b = f80_widen64(v, &denormal);
    return arithmetic_memory(cpu, in, 4, b, denormal);
}
static enum flow arithmetic_i32(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    X87_GATE();
    TRY(rm_read32(cpu, in, &v));
    return arithmetic_memory(cpu, in, 2, f80_from_i64((i32)v), false);
}
static enum flow arithmetic_i16(struct cpu *cpu, const struct insn *in)
{
    u16 v;
    X87_GATE();
    TRY(rm_read16(cpu, in, &v));
    return arithmetic_memory(cpu, in, 6, f80_from_i64((i16)v), false);
}
FAMILY_ONE(x87_arith_m32, arithmetic_m32)
FAMILY_ONE(x87_arith_m64, arithmetic_m64)
FAMILY_ONE(x87_arith_i32, arithmetic_i32)
FAMILY_ONE(x87_arith_i16, arithmetic_i16)

/* ST(0) op ST(i) into ST(destination). */
static enum flow arithmetic_register(struct cpu *cpu, const struct insn *in, unsigned opcode, unsigned destination,
                                     bool pop)
{
    unsigned i = in->modrm & 7;
    X87_GATE();
    x87_note(cpu, in, opcode);
    if (x87_empty(cpu, 0) || x87_empty(cpu, i)) {
        if (!x87_stack_fault(cpu, in, false))
            return FLOW_NEXT;
        x87_put(cpu, destination, F80_NAN);
    } else {
        struct float_env e = x87_env(cpu);
        struct f80 r = compute(in->modrm >> 3 & 7, x87_get(cpu, 0), x87_get(cpu, i), &e);
        if (!x87_report(cpu, in, &e))
            return FLOW_NEXT;
        x87_put(cpu, destination, r);
    }
    if (pop)
        x87_pop(cpu);
    return FLOW_NEXT;
}
static enum flow arithmetic_d8(struct cpu *cpu, const struct insn *in)
{
    return arithmetic_register(cpu, in, 0, 0, false);
}
static enum flow arithmetic_dc(struct cpu *cpu, const struct insn *in)
{
    return arithmetic_register(cpu, in, 4, in->modrm & 7, false);
}
static enum flow arithmetic_de(struct cpu *cpu, const struct insn *in)
{
    return arithmetic_register(cpu, in, 6, in->modrm & 7, true);
}
FAMILY_ONE(x87_arith_d8, arithmetic_d8)
FAMILY_ONE(x87_arith_dc, arithmetic_dc)
FAMILY_ONE(x87_arith_de, arithmetic_de)

/* ---- comparison -------------------------------------------------------------------------------------------------- */

static void set_conditions(struct cpu *cpu, enum float_relation r)
{
    static const u16 conditions[] = {[FLOAT_LESS] = FSW_C0, [FLOAT_EQUAL] = FSW_C3, [FLOAT_GREATER] = 0,
                                     [FLOAT_UNORDERED] = FSW_C3 | FSW_C2 | FSW_C0};
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~(FSW_C3 | FSW_C2 | FSW_C0)) | conditions[r]);
}

/* Compares ST(0) with b (empty or not) and pops; `to_flags`: the relation goes to RFLAGS. ERRATUM: the manual leaves
 * the condition codes alone when the invalid operation is not masked; processors set them, and only do not pop. */
static enum flow compare(struct cpu *cpu, const struct insn *in, struct f80 b, bool denormal, bool empty, bool quiet,
                         bool to_flags, unsigned pops)
{
    enum float_relation r = FLOAT_UNORDERED;
    bool pop;
    if (x87_empty(cpu, 0) || empty) {
        pop = x87_stack_fault(cpu, in, false);
    } else {
        struct float_env e = x87_env(cpu);
        e.source_denormal = denormal;
        r = f80_compare(x87_get(cpu, 0), b, quiet, &e);
        pop = x87_report(cpu, in, &e);
    }
    if (to_flags)
        sse_set_relation(cpu, r);
    else
        set_conditions(cpu, r);
    if (!pop)
        return FLOW_NEXT;
    while (pops--)
        x87_pop(cpu);
    return FLOW_NEXT;
}

static enum flow compare_register(struct cpu *cpu, const struct insn *in, unsigned opcode, bool quiet, bool to_flags,
                                  unsigned pops)
{
    unsigned i = in->modrm & 7;
    X87_GATE();
    x87_note(cpu, in, opcode);
    return compare(cpu, in, x87_get(cpu, i), false, x87_empty(cpu, i), quiet, to_flags, pops);
}

#define COMPARE(name, opcode, quiet, to_flags, pops)                                                                   \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        return compare_register(cpu, in, opcode, quiet, to_flags, pops);                                               \
    }                                                                                                                  \
    FAMILY_ONE(name, name)
/* clang-format off */
COMPARE(fcom_d8,    0, false, false, 0)
COMPARE(fcomp_d8,   0, false, false, 1)
COMPARE(fcom_dc,    4, false, false, 0)
COMPARE(fcomp_dc,   4, false, false, 1)
COMPARE(fcomp_de,   6, false, false, 1)
COMPARE(fcompp,     6, false, false, 2)
COMPARE(fucom,      5, true,  false, 0)
COMPARE(fucomp,     5, true,  false, 1)
COMPARE(fucompp,    2, true,  false, 2)
COMPARE(fcomi,      3, false, true,  0)
COMPARE(fcomip,     7, false, true,  1)
COMPARE(fucomi,     3, true,  true,  0)
COMPARE(fucomip,    7, true,  true,  1)
/* clang-format on */
#undef COMPARE

/* FCOM/FCOMP and FICOM/FICOMP: ModRM bit 3 is the pop. */
static enum flow compare_memory(struct cpu *cpu, const struct insn *in, unsigned opcode, struct f80 b, bool denormal)
{
    x87_note(cpu, in, opcode);
    return compare(cpu, in, b, denormal, false, false, false, in->modrm >> 3 & 1);
}
static enum flow fcom_m32(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    bool denormal;
    X87_GATE();
    TRY(rm_read32(cpu, in, &v));
    struct f80 b = f80_widen32(v, &denormal);
    return compare_memory(cpu, in, 0, b, denormal);
}
static enum flow fcom_m64(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    bool denormal;
    X87_GATE();
    TRY(rm_read64(cpu, in, &v));
    struct f80 b = f80_widen64(v, &denormal);
    return compare_memory(cpu, in, 4, b, denormal);
}
static enum flow ficom_m32(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    X87_GATE();
    TRY(rm_read32(cpu, in, &v));
    return compare_memory(cpu, in, 2, f80_from_i64((i32)v), false);
}
static enum flow ficom_m16(struct cpu *cpu, const struct insn *in)
{
    u16 v;
    X87_GATE();
    TRY(rm_read16(cpu, in, &v));
    return compare_memory(cpu, in, 6, f80_from_i64((i16)v), false);
}
FAMILY_ONE(fcom_m32, fcom_m32)
FAMILY_ONE(fcom_m64, fcom_m64)
FAMILY_ONE(ficom_m32, ficom_m32)
FAMILY_ONE(ficom_m16, ficom_m16)

static enum flow ftst(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    return compare(cpu, in, (struct f80){0, 0}, false, false, false, false, 0);
}
FAMILY_ONE(ftst, ftst)

/* C3 C2 C0: 000 unsupported, 001 NaN, 010 normal, 011 infinity, 100 zero, 101 empty, 110 denormal; C1 the sign. */
static enum flow fxam(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    struct float_number x = f80_unpack(x87_get(cpu, 0));
    u16 c = x.class == FLOAT_NAN ? FSW_C0 : x.class == FLOAT_INFINITY ? FSW_C2 | FSW_C0 : x.class == FLOAT_ZERO ? FSW_C3
          : x.class == FLOAT_UNSUPPORTED ? 0 : x.denormal ? FSW_C3 | FSW_C2 : FSW_C2;
    if (x87_empty(cpu, 0))
        c = FSW_C3 | FSW_C0;
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~(FSW_C3 | FSW_C2 | FSW_C1 | FSW_C0)) | c | (x.sign ? FSW_C1 : 0));
    return FLOW_NEXT;
}
FAMILY_ONE(fxam, fxam)

/* ---- one operand ------------------------------------------------------------------------------------------------- */

/* ST(0) is empty: true when the handler has nothing more to do. */
static bool unary_fault(struct cpu *cpu, const struct insn *in)
{
    if (LIKELY(!x87_empty(cpu, 0)))
        return false;
    if (x87_stack_fault(cpu, in, false))
        x87_put(cpu, 0, F80_NAN);
    return true;
}

static enum flow fchs(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    if (unary_fault(cpu, in))
        return FLOW_NEXT;
    struct f80 v = x87_get(cpu, 0);
    cpu->fpu.fsw &= (u16)~FSW_C1;
    v.exponent ^= in->modrm & 1 ? v.exponent & 0x8000 : 0x8000;       /* E0 FCHS, E1 FABS */
    x87_put(cpu, 0, v);
    return FLOW_NEXT;
}
FAMILY_ONE(fchs_fabs, fchs)

static enum flow fsqrt(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    if (unary_fault(cpu, in))
        return FLOW_NEXT;
    struct float_env e = x87_env(cpu);
    struct f80 r = f80_sqrt(x87_get(cpu, 0), &e);
    if (x87_report(cpu, in, &e))
        x87_put(cpu, 0, r);
    return FLOW_NEXT;
}
FAMILY_ONE(fsqrt, fsqrt)

static enum flow frndint(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    if (unary_fault(cpu, in))
        return FLOW_NEXT;
    struct float_env e = x87_env(cpu);
    struct f80 r = f80_round(x87_get(cpu, 0), &e);
    if (x87_report(cpu, in, &e))
        x87_put(cpu, 0, r);
    return FLOW_NEXT;
}
FAMILY_ONE(frndint, frndint)

static enum flow fxtract(struct cpu *cpu, const struct insn *in)
{
    struct f80 exponent, significand;
    X87_GATE();
    x87_note(cpu, in, 1);
    if (x87_empty(cpu, 0) || !x87_empty(cpu, 7)) {
        if (x87_stack_fault(cpu, in, !x87_empty(cpu, 0))) {
            x87_put(cpu, 0, F80_NAN);
            x87_push(cpu, F80_NAN);
        }
        return FLOW_NEXT;
    }
    struct float_env e = x87_env(cpu);
    significand = f80_extract(x87_get(cpu, 0), &exponent, &e);
    if (x87_report(cpu, in, &e)) {
        x87_put(cpu, 0, exponent);
        x87_push(cpu, significand);
    }
    return FLOW_NEXT;
}
FAMILY_ONE(fxtract, fxtract)

/* ---- ST(0) and ST(1) --------------------------------------------------------------------------------------------- */

static bool binary_fault(struct cpu *cpu, const struct insn *in)
{
    if (LIKELY(!x87_empty(cpu, 0) && !x87_empty(cpu, 1)))
        return false;
    if (x87_stack_fault(cpu, in, false))
        x87_put(cpu, 0, F80_NAN);
    return true;
}

static enum flow fscale(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    if (binary_fault(cpu, in))
        return FLOW_NEXT;
    struct float_env e = x87_env(cpu);
    struct f80 r = f80_scale(x87_get(cpu, 0), x87_get(cpu, 1), &e);
    if (x87_report(cpu, in, &e))
        x87_put(cpu, 0, r);
    return FLOW_NEXT;
}
FAMILY_ONE(fscale, fscale)

static enum flow remainder_step(struct cpu *cpu, const struct insn *in, bool nearest)
{
    u64 quotient;
    bool partial, reduced;
    X87_GATE();
    x87_note(cpu, in, 1);
    cpu->fpu.fsw &= (u16)~FSW_C2;
    if (binary_fault(cpu, in))
        return FLOW_NEXT;
    struct float_env e = x87_env(cpu);
    struct f80 r = f80_remainder(x87_get(cpu, 0), x87_get(cpu, 1), nearest, &quotient, &partial, &e);
    reduced = (r.exponent & 0x7fff) != 0x7fff;
    if (!x87_report(cpu, in, &e))
        return FLOW_NEXT;
    if (reduced) {
        cpu->fpu.fsw &= (u16) ~(FSW_C0 | FSW_C1 | FSW_C3);
        if (partial)
            cpu->fpu.fsw |= FSW_C2;
        else
            cpu->fpu.fsw |=
                (u16)((quotient & 4 ? FSW_C0 : 0) | (quotient & 2 ? FSW_C3 : 0) | (quotient & 1 ? FSW_C1 : 0));
    }
    x87_put(cpu, 0, r);
    return FLOW_NEXT;
}
static enum flow fprem(struct cpu *cpu, const struct insn *in) { return remainder_step(cpu, in, false); }
static enum flow fprem1(struct cpu *cpu, const struct insn *in) { return remainder_step(cpu, in, true); }
FAMILY_ONE(fprem, fprem)
FAMILY_ONE(fprem1, fprem1)
