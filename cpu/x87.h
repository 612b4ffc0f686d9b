/* The x87 register stack, its pending exceptions and what MMX makes of it: shared by cpu/x87*.c and cpu/mmx.c.
 *
 * Registers are stored by physical number (R0..R7); ST(i) is register (TOP + i) & 7. Of a register's tag only "empty"
 * (3) counts; any other value means "not empty" and is made precise from the contents when it is stored (FNSTENV,
 * FNSAVE).
 * [SDM1 "x87 FPU Execution Environment", "x87 FPU Exception Handling", SDM3 "Intel MMX Technology System Programming"]
 */
#ifndef NESTOR_CPU_X87_H
#define NESTOR_CPU_X87_H

#include "cpu/operand.h"
#include "cpu/softfloat.h"

enum {
    FSW_IE = 1 << 0,
    FSW_DE = 1 << 1,
    FSW_ZE = 1 << 2,
    FSW_OE = 1 << 3,
    FSW_UE = 1 << 4,
    FSW_PE = 1 << 5,
    FSW_SF = 1 << 6,
    FSW_ES = 1 << 7,
    FSW_C0 = 1 << 8,
    FSW_C1 = 1 << 9,
    FSW_C2 = 1 << 10,
    FSW_TOP = 7 << 11,
    FSW_C3 = 1 << 14,
    FSW_B = 1 << 15,
    FSW_EXCEPTIONS = 0x3f
};
enum { FCW_MASKS = 0x3f, FCW_PC = 3 << 8, FCW_RC = 3 << 10, FCW_WRITABLE = 0x1f3f, FCW_FIXED = 0x40, FCW_INIT = 0x37f };

/* What an x87 or MMX instruction that waits must do when it cannot run: #UD/#NM by CR0, or the pending exception:
 * #MF with CR0.NE, else FERR# to the board and the instruction again, until the interrupt comes, or FLOW_NEXT
 * while IGNNE# is asserted [SDM1 "MS-DOS Compatibility Sub-mode"]. (cpu/x87_control.c) */
COLD enum flow x87_not_available(struct cpu *cpu);
COLD enum flow x87_error(struct cpu *cpu);
COLD enum flow mmx_not_available(struct cpu *cpu);

#define X87_GATE_NOWAIT()                                                                                              \
    do {                                                                                                               \
        if (UNLIKELY(cpu->sys.cr0 & (CR0_EM | CR0_TS)))                                                                \
            return x87_not_available(cpu);                                                                             \
    } while (0)
#define X87_GATE()                                                                                                     \
    do {                                                                                                               \
        X87_GATE_NOWAIT();                                                                                             \
        if (UNLIKELY(cpu->fpu.fsw & FSW_ES)) {                                                                         \
            enum flow error_ = x87_error(cpu);                                                                         \
            if (error_ != FLOW_NEXT)                                                                                   \
                return error_;                                                                                         \
        }                                                                                                              \
    } while (0)
#define MMX_GATE()                                                                                                     \
    do {                                                                                                               \
        if (UNLIKELY(cpu->sys.cr0 & (CR0_EM | CR0_TS)))                                                                \
            return mmx_not_available(cpu);                                                                             \
        if (UNLIKELY(cpu->fpu.fsw & FSW_ES)) {                                                                         \
            enum flow error_ = x87_error(cpu);                                                                         \
            if (error_ != FLOW_NEXT)                                                                                   \
                return error_;                                                                                         \
        }                                                                                                              \
    } while (0)

/* ---- the stack --------------------------------------------------------------------------------------------------- */

HOT_INLINE unsigned x87_top(const struct cpu *cpu) { return cpu->fpu.fsw >> 11 & 7; }
HOT_INLINE void x87_set_top(struct cpu *cpu, unsigned top)
{
    cpu->fpu.fsw = (u16)((cpu->fpu.fsw & ~FSW_TOP) | (top & 7) << 11);
}
/* Physical number of ST(i). */
HOT_INLINE unsigned x87_physical(const struct cpu *cpu, unsigned i) { return (x87_top(cpu) + i) & 7; }
HOT_INLINE bool x87_empty(const struct cpu *cpu, unsigned i)
{
    return (cpu->fpu.ftw_full >> (2 * x87_physical(cpu, i)) & 3) == 3;
}
HOT_INLINE void x87_mark_empty(struct cpu *cpu, unsigned i)
{
    cpu->fpu.ftw_full |= (u16)(3u << (2 * x87_physical(cpu, i)));
}

/* The tag of a register that is not empty, from its contents: 0 valid, 1 zero, 2 special. */
static inline unsigned x87_tag(u64 mantissa, u16 exponent)
{
    exponent &= 0x7fff;
    if (exponent == 0 && mantissa == 0)
        return 1;
    return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

/* ES and B as the flags and masks have them. */
static inline void x87_update_summary(struct cpu *cpu)
{
    struct cpu_fpu *fpu = &cpu->fpu;
    fpu->fsw &= (u16) ~(FSW_ES | FSW_B);
    if (fpu->fsw & ~fpu->fcw & FSW_EXCEPTIONS)
        fpu->fsw |= FSW_ES | FSW_B;
    else
        cpu->event.ignne = 0;
}

/* ---- an instruction's beginning and end -------------------------------------------------------------------------- */

HOT_INLINE struct f80 x87_get(const struct cpu *cpu, unsigned i)
{
    unsigned n = x87_physical(cpu, i);
    return (struct f80){cpu->fpu.st[n].mantissa, cpu->fpu.st[n].exponent};
}
/* Writes ST(i), which is no longer empty. */
HOT_INLINE void x87_put(struct cpu *cpu, unsigned i, struct f80 v)
{
    unsigned n = x87_physical(cpu, i);
    cpu->fpu.st[n].mantissa = v.mantissa;
    cpu->fpu.st[n].exponent = v.exponent;
    cpu->fpu.ftw_full &= (u16)~(3u << (2 * n));
}
HOT_INLINE void x87_pop(struct cpu *cpu)
{
    x87_mark_empty(cpu, 0);
    x87_set_top(cpu, x87_top(cpu) + 1);
}
/* Pushes; the caller has seen that ST(7) is empty, or a stack fault is masked. */
HOT_INLINE void x87_push(struct cpu *cpu, struct f80 v)
{
    x87_set_top(cpu, x87_top(cpu) - 1);
    x87_put(cpu, 0, v);
}

/* The control word as an environment for cpu/softfloat.c. */
HOT_INLINE struct float_env x87_env(const struct cpu *cpu)
{
    static const u8 precision[4] = {24, 64, 53, 64};
    u16 fcw = cpu->fpu.fcw;
    return (struct float_env){
        .rounding = fcw >> 10 & 3, .masks = fcw & FCW_MASKS, .precision = precision[fcw >> 8 & 3]};
}

/* Instruction and operand pointers and the opcode (low three bits of the first byte), once memory operands are known
 * to be there. (cpu/x87.c) */
void x87_note(struct cpu *cpu, const struct insn *in, unsigned opcode);
/* The status word after the operation: flags, C1, ES and B. True when a register may be written: no unmasked
 * invalid, zero-divide or denormal. */
bool x87_report(struct cpu *cpu, const struct insn *in, const struct float_env *e);
/* A stack fault: IE and SF, C1 = overflow. True when it is masked, and the default NaN is the result. */
bool x87_stack_fault(struct cpu *cpu, const struct insn *in, bool overflow);

/* ---- MMX --------------------------------------------------------------------------------------------------------- */

/* Every MMX instruction but EMMS: TOP becomes 0 and no register is empty. */
HOT_INLINE void mmx_enter(struct cpu *cpu)
{
    cpu->fpu.fsw &= (u16)~FSW_TOP;
    cpu->fpu.ftw_full = 0;
}
HOT_INLINE u64 mmx_get(const struct cpu *cpu, unsigned n) { return cpu->fpu.st[n & 7].mantissa; }
HOT_INLINE void mmx_set(struct cpu *cpu, unsigned n, u64 v)
{
    cpu->fpu.st[n & 7].mantissa = v;
    cpu->fpu.st[n & 7].exponent = 0xffff;
}

#endif
