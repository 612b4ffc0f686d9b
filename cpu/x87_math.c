/* x87 transcendental instructions: the stack, flags and condition codes around cpu/float_math.c.
 *
 * [SDM2 "F2XM1—...", "FYL2X—...", "FYL2XP1—...", "FPATAN—...", "FPTAN—...", "FSIN—...", "FCOS—...", "FSINCOS—..."]
 */
#include "cpu/float_math.h"
#include "cpu/x87.h"

static enum flow f2xm1(struct cpu *cpu, const struct insn *in)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    if (x87_empty(cpu, 0)) {
        if (x87_stack_fault(cpu, in, false))
            x87_put(cpu, 0, F80_NAN);
        return FLOW_NEXT;
    }
    struct float_env e = x87_env(cpu);
    struct f80 r = f80_exp2_minus_1(x87_get(cpu, 0), &e);
    if (x87_report(cpu, in, &e))
        x87_put(cpu, 0, r);
    return FLOW_NEXT;
}
FAMILY_ONE(f2xm1, f2xm1)

/* FYL2X, FYL2XP1, FPATAN: a function of ST(0) and ST(1) replaces both. */
static enum flow of_two(struct cpu *cpu, const struct insn *in,
                        struct f80 (*function)(struct f80, struct f80, struct float_env *), bool st1_first)
{
    X87_GATE();
    x87_note(cpu, in, 1);
    struct f80 a = x87_get(cpu, 0), b = x87_get(cpu, 1), r = F80_NAN;
    if (x87_empty(cpu, 0) || x87_empty(cpu, 1)) {
        if (!x87_stack_fault(cpu, in, false))
            return FLOW_NEXT;
    } else {
        struct float_env e = x87_env(cpu);
        r = st1_first ? function(b, a, &e) : function(a, b, &e);
        if (!x87_report(cpu, in, &e))
            return FLOW_NEXT;
    }
    x87_put(cpu, 1, r);
    x87_pop(cpu);
    return FLOW_NEXT;
}
static enum flow fyl2x(struct cpu *cpu, const struct insn *in) { return of_two(cpu, in, f80_y_log2, false); }
static enum flow fyl2xp1(struct cpu *cpu, const struct insn *in) { return of_two(cpu, in, f80_y_log2_plus_1, false); }
static enum flow fpatan(struct cpu *cpu, const struct insn *in) { return of_two(cpu, in, f80_arctangent, true); }
FAMILY_ONE(fyl2x, fyl2x)
FAMILY_ONE(fyl2xp1, fyl2xp1)
FAMILY_ONE(fpatan, fpatan)

/* FSIN and FCOS: C2 tells that the operand is out of range, and nothing else changes then. */
static enum flow sine_or_cosine(struct cpu *cpu, const struct insn *in, bool sine)
{
    struct f80 r;
    X87_GATE();
    x87_note(cpu, in, 1);
    cpu->fpu.fsw &= (u16)~FSW_C2;
    if (x87_empty(cpu, 0)) {
        if (x87_stack_fault(cpu, in, false))
            x87_put(cpu, 0, F80_NAN);
        return FLOW_NEXT;
    }
    struct float_env e = x87_env(cpu);
    if (!f80_sine_cosine(x87_get(cpu, 0), sine ? &r : NULL, sine ? NULL : &r, &e)) {
        cpu->fpu.fsw |= FSW_C2;
        return FLOW_NEXT;
    }
    if (x87_report(cpu, in, &e))
        x87_put(cpu, 0, r);
    return FLOW_NEXT;
}
static enum flow fsin(struct cpu *cpu, const struct insn *in) { return sine_or_cosine(cpu, in, true); }
static enum flow fcos(struct cpu *cpu, const struct insn *in) { return sine_or_cosine(cpu, in, false); }
FAMILY_ONE(fsin, fsin)
FAMILY_ONE(fcos, fcos)

/* FSINCOS and FPTAN replace ST(0) and push: the cosine, or 1 (or the NaN once more). */
static enum flow replace_and_push(struct cpu *cpu, const struct insn *in, bool tangent)
{
    struct f80 below, top = {1ull << 63, 0x3fff};
    X87_GATE();
    x87_note(cpu, in, 1);
    cpu->fpu.fsw &= (u16)~FSW_C2;
    if (x87_empty(cpu, 0) || !x87_empty(cpu, 7)) {
        if (x87_stack_fault(cpu, in, !x87_empty(cpu, 0))) {
            x87_put(cpu, 0, F80_NAN);
            x87_push(cpu, F80_NAN);
        }
        return FLOW_NEXT;
    }
    struct float_env e = x87_env(cpu);
    bool in_range =
        tangent ? f80_tangent(x87_get(cpu, 0), &below, &e) : f80_sine_cosine(x87_get(cpu, 0), &below, &top, &e);
    if (!in_range) {
        cpu->fpu.fsw |= FSW_C2;
        return FLOW_NEXT;
    }
    if (!x87_report(cpu, in, &e))
        return FLOW_NEXT;
    if ((below.exponent & 0x7fff) == 0x7fff)
        top = below;
    x87_put(cpu, 0, below);
    x87_push(cpu, top);
    return FLOW_NEXT;
}
static enum flow fsincos(struct cpu *cpu, const struct insn *in) { return replace_and_push(cpu, in, false); }
static enum flow fptan(struct cpu *cpu, const struct insn *in) { return replace_and_push(cpu, in, true); }
FAMILY_ONE(fsincos, fsincos)
FAMILY_ONE(fptan, fptan)
