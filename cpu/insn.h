/* struct insn: one decoded instruction, as handlers see it; and the tables that hand out handlers.
 *
 * A row of cpu/insn.def names a handler family: an array of 8 handlers indexed by [memory form][operand-size index].
 * The decoder picks the handler once; the interpreter only calls in->handler(cpu, in).
 */
#ifndef NESTOR_CPU_INSN_H
#define NESTOR_CPU_INSN_H

#include "cpu/base.h"

struct cpu;
struct insn;

typedef enum flow insn_handler(struct cpu *cpu, const struct insn *in);

/* Operand-size index: 0 = 8 bits, 1 = 16, 2 = 32, 3 = 64. */
enum { OSZ_8, OSZ_16, OSZ_32, OSZ_64 };

enum insn_flag {
    INSN_MEM = 1 << 0,         /* the ModRM operand is memory (or the operand is a memory offset, Ov/Ob) */
    INSN_FLAT = 1 << 1,        /* 64-bit code with 64-bit addresses: la = base + index*scale + disp + seg.base, no limit check */
    INSN_LOCK = 1 << 2,
    INSN_REP = 1 << 3,         /* F3 (as a REP/REPE prefix) */
    INSN_REPNE = 1 << 4,       /* F2 */
    INSN_REX_W = 1 << 5,       /* REX.W, VEX.W or EVEX.W */
    INSN_OPSIZE = 1 << 6,      /* a 66 prefix was there */
    INSN_VEX = 1 << 7,
    INSN_EVEX = 1 << 8,
    INSN_SS = 1 << 9,          /* the segment is SS: addressing faults are #SS(0) */
    INSN_EVEX_B = 1 << 10,     /* broadcast / rounding */
    INSN_EVEX_Z = 1 << 11,     /* zeroing-masking */
    INSN_REX = 1 << 12,        /* a REX prefix was there */
    INSN_ADDR32 = 1 << 13,     /* a 67 prefix was there */
    INSN_16 = 1 << 14,         /* the code segment is 16-bit */
    INSN_64 = 1 << 15,         /* … is 64-bit */
};

struct insn {
    insn_handler *handler;
    u64 imm;                   /* immediate, sign-extended as the instruction uses it; relative branches: displacement;
                                  Ov/Ob: the offset; far pointers: offset */
    i64 disp;                  /* displacement; for RIP-relative operands the length is already added */
    u16 flags;                 /* INSN_* */
    u16 row;                   /* row of cpu/insn.def (insn_rows[]) */
    u8 length;                 /* bytes, 1..15 */
    u8 position;               /* index in its block */
    u8 reg;                    /* ModRM.reg operand (REX.R applied) or opcode+r register; byte operands: offset into core.r */
    u8 rm;                     /* ModRM.rm register operand (REX.B applied); byte operands: offset into core.r */
    u8 base, index;            /* REG_*, REG_ZERO when absent, REG_RIP for RIP-relative */
    u8 scale;                  /* log2: 0..3 */
    u8 seg;                    /* SEG_* whose base is added: SEG_NONE for flat 64-bit segments */
    u8 arch_seg;               /* SEG_* of the operand as the program wrote it or by default (faults, VMX information) */
    u8 osz;                    /* OSZ_*: operand size of this instruction; vector instructions: vl, or 3 with an opmask, broadcast or rounding */
    u8 asz;                    /* address size: 1 = 16 bits, 2 = 32, 3 = 64 */
    u8 vvvv;                   /* VEX/EVEX second source */
    u8 vl;                     /* vector length: 0 = 128 (also scalars), 1 = 256, 2 = 512 */
    u8 opmask;                 /* EVEX aaa; 0: no masking */
    u8 imm2;                   /* second immediate (ENTER); VSIB: the index vector; EVEX.b of a register form: L'L, the rounding mode */
    u8 modrm;                  /* the raw byte */
    u16 selector;              /* far pointers */
    u8 notrack;                /* near indirect branches: the no-track prefix 3E was there */
};

/* ---- handler families ---------------------------------------------------------------------------------------- */

typedef insn_handler *const insn_family[8];   /* [memory ? 4 : 0] + osz */

/* Defines the family `h_NAME` whose eight places are the same handler. Non-static: cpu/table.c refers to it by name. */
#define FAMILY_ONE(name, fn) const insn_family h_##name = {fn, fn, fn, fn, fn, fn, fn, fn};
/* Register forms use `r`, memory forms `m`, at every size. */
#define FAMILY_RM(name, r, m) const insn_family h_##name = {r, r, r, r, m, m, m, m};
/* By size only: 8, 16, 32, 64. */
#define FAMILY_SIZES(name, b, w, d, q) const insn_family h_##name = {b, w, d, q, b, w, d, q};
/* Every place given. */
#define FAMILY_ALL(name, rb, rw, rd, rq, mb, mw, md, mq) const insn_family h_##name = {rb, rw, rd, rq, mb, mw, md, mq};
/* Declared for -Wmissing-variable-declarations and for the table: every family of every row. */
#define INSN(name, enc, operands, attrs, cpuid, flags, exit, family) extern const insn_family h_##family;
#include "cpu/insn.def"
#undef INSN

#endif
