/* Status flags that translated code has left uncomputed: what they follow from stands in cpu->jit.cc_*.
 *
 * cc_op = kind | operand size << 4 | overlays. Overlays replace single flags of what the kind says; CC_CORE is the interpreter's own form.
 * Kept true: jit_flags_settle() gives the flags that the instruction's handler would have given, undefined ones included.
 */
#ifndef NESTOR_CPU_JIT_FLAGS_H
#define NESTOR_CPU_JIT_FLAGS_H

#include "cpu/state.h"

enum cc_kind {
    CC_CORE,                   /* the flags stand in cpu->core */
    CC_ADD, CC_SUB,            /* of cc_a and cc_b */
    CC_ADC, CC_SBB,            /* of cc_a and cc_b, result cc_r */
    CC_LOGIC,                  /* result cc_a */
    CC_INC, CC_DEC,            /* result cc_a; CF by CC_SET_C */
    CC_SHL, CC_SHR, CC_SAR,    /* cc_a by cc_b (1 .. operand size - 1, or up to the masked count) */
    CC_MUL,                    /* low half cc_a; the upper half was significant: low byte of cc_b */
    CC_POPCNT,                 /* operand cc_a */
    CC_RELATION,               /* bytes of cc_a: ZF, PF, CF; the others are clear */
    CC_KINDS
};
enum {
    CC_KIND_MASK = 0xf,
    CC_SIZE_SHIFT = 4,         /* OSZ_* */
    CC_SET_C = 1 << 8,         /* CF is cc_c */
    CC_SET_Z = 1 << 9,         /* ZF is cc_z */
    CC_ROTATED = 1 << 10,      /* OF is the xor of top and bottom bit of the result cc_t, whose size is at bit 12 */
    CC_ROTATED_RIGHT = 1 << 11,/* OF is the xor of the two top bits of cc_t */
    CC_ROTATED_SHIFT = 12,
    CC_OVERLAYS = 0x3f00,
    CC_REGISTERS = 1 << 14,    /* ADD, SUB, LOGIC: the operands still stand in general registers, the first in the one at bit 16 … */
    CC_RESULT = 1 << 15,       /* … which holds the result; */
    CC_IMMEDIATE = 1 << 6,     /* the second is the signed byte at bit 24, */
    CC_A_SHIFT = 16, CC_B_SHIFT = 20,  /* else in the register at bit 20 */
    CC_IMMEDIATE_SHIFT = 24,
};

/* Brings the flags into cpu->core. */
void jit_flags_settle(struct cpu *cpu);

#endif
