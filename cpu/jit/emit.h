/* What an emitter may ask of a back end: operations on guest registers, the guest's memory and the guest's flags, whatever the host.
 *
 * cpu/jit/translate.c walks a block and calls these, one or a few for each instruction; cpu/jit/x64.c lowers them. Where a guest register
 * lives, how flags are kept between instructions and what a TLB hit costs is the back end's own business.
 *
 * Kept true: nothing of the guest's state has changed when an operation leaves for the slow path, so that the instruction's handler can
 * do it all; the handler's result and the fast path's are the same.
 */
#ifndef NESTOR_CPU_JIT_EMIT_H
#define NESTOR_CPU_JIT_EMIT_H

#include "cpu/block.h"
#include "cpu/jit/flags.h"

struct emit;

/* An operand. Registers by REG_*; byte registers are the low byte (emitters leave AH … to the handlers). */
struct place {
    enum { PLACE_REG, PLACE_MEM, PLACE_IMM } kind;     /* MEM: the instruction's memory operand */
    u8 reg;
    i64 imm;
};
static inline struct place place_reg(unsigned n) { return (struct place){PLACE_REG, (u8)n, 0}; }
static inline struct place place_imm(i64 v) { return (struct place){PLACE_IMM, 0, v}; }
static inline struct place place_mem(void) { return (struct place){PLACE_MEM, 0, 0}; }

/* In the order of their opcodes. */
enum emit_alu { EMIT_ADD, EMIT_OR, EMIT_ADC, EMIT_SBB, EMIT_AND, EMIT_SUB, EMIT_XOR, EMIT_CMP, EMIT_TEST };
enum emit_shift { EMIT_ROL, EMIT_ROR, EMIT_RCL, EMIT_RCR, EMIT_SHL, EMIT_SHR, EMIT_SHL2, EMIT_SAR };
enum emit_bit { EMIT_BT, EMIT_BTS, EMIT_BTR, EMIT_BTC };

/* What the translator tells about the instruction whose operations follow. */
struct emit_insn {
    const struct insn *in;
    unsigned index;            /* in the block */
    unsigned offset;           /* of its first byte in the page */
    bool keep_flags;           /* the status flags that it leaves may be wanted from memory: by a fault, a handler, another block */
    bool late_flags;           /* … and its operands (or its result and one operand) stay in their registers until its flags are dead or the block ends:
                                * they may be computed from these where they are wanted. Nobody else of the block asks memory for them */
    bool late_over;            /* … the operands also stay from the block's start on until what was there of flags is dead */
    bool dead_flags;           /* nothing can see the status flags that it leaves */
    u8 pattern;                /* 1 .. EMIT_PATTERNS: the block is a loop, and its memory operands of this number are near each other from turn to
                                * turn, as a rule on one page; 0: nothing is known. Where the rule fails the code leaves with cpu->jit.wanders */
};
#define EMIT_PATTERNS 7
void emit_begin(struct emit *e, const struct emit_insn *insn);
void emit_end(struct emit *e);

/* dst = dst op src, flags; CMP and TEST only flags. At most one of the operands is memory. */
void emit_alu(struct emit *e, enum emit_alu op, unsigned osz, struct place dst, struct place src);
/* The same for bits 15:8 of a register and an immediate; neither ADC nor SBB. */
void emit_alu_high(struct emit *e, enum emit_alu op, unsigned reg, i64 imm);
void emit_step(struct emit *e, bool up, unsigned osz, struct place dst);       /* INC, DEC */
void emit_neg(struct emit *e, unsigned osz, struct place dst);
void emit_not(struct emit *e, unsigned osz, struct place dst);
/* By 1 .. operand size - 1; or by CL, which may be 0. dst is a register, or memory where no flags are kept. */
void emit_shift_imm(struct emit *e, enum emit_shift op, unsigned osz, struct place dst, unsigned n);
void emit_shift_cl(struct emit *e, enum emit_shift op, unsigned osz, unsigned reg);
void emit_shift_double(struct emit *e, bool left, unsigned osz, unsigned reg, unsigned from, unsigned n);     /* flags are dead */
void emit_mul_to(struct emit *e, unsigned osz, unsigned reg, struct place src, bool immediate, i64 imm);
void emit_mul_wide(struct emit *e, bool is_signed, unsigned osz, struct place src);
/* 32 and 64 bits. What cannot be divided simply goes to the handler. */
void emit_div(struct emit *e, bool is_signed, unsigned osz, struct place src);
/* dst is a register or memory; a register as `bit` reaches beyond an operand in memory. */
void emit_bit(struct emit *e, enum emit_bit op, unsigned osz, struct place dst, struct place bit);
void emit_scan(struct emit *e, bool reverse, unsigned osz, unsigned reg, struct place src);

void emit_move(struct emit *e, unsigned osz, struct place dst, struct place src);
/* reg = src extended from `from` to osz. */
void emit_extend(struct emit *e, bool is_signed, unsigned osz, unsigned from, unsigned reg, struct place src);
void emit_lea(struct emit *e, unsigned osz, unsigned reg);
void emit_exchange(struct emit *e, unsigned osz, struct place dst, unsigned reg);
void emit_exchange_add(struct emit *e, unsigned osz, unsigned reg);            /* with memory */
void emit_compare_exchange(struct emit *e, unsigned osz, unsigned reg);        /* with memory */
void emit_byte_swap(struct emit *e, unsigned osz, unsigned reg);
void emit_convert_a(struct emit *e, unsigned osz);                             /* CBW CWDE CDQE */
void emit_convert_d(struct emit *e, unsigned osz);                             /* CWD CDQ CQO */
void emit_push(struct emit *e, struct place src);                              /* 64 bits */
void emit_pop(struct emit *e, unsigned reg);
/* n such instructions, from the current one on, with one look at the TLB: pushes of registers or immediates, or pops into registers; RSP is none
 * of them. n * slot size: at most 64 bytes. */
void emit_push_run(struct emit *e, const struct place *src, unsigned n);
void emit_pop_run(struct emit *e, const u8 *reg, unsigned n);
void emit_leave(struct emit *e);
/* cc: 0..15, the low nibble of the opcodes. */
void emit_set(struct emit *e, unsigned cc, struct place dst);
void emit_move_if(struct emit *e, unsigned cc, unsigned osz, unsigned reg, struct place src);

/* An instruction on general registers that is one of the host's own, in its own encoding's terms. */
struct emit_plain {
    u32 opcode;                /* 0xPPMMOO */
    bool vex, has_reg, reads_reg, writes_reg, reads_vvvv, writes_vvvv, writes_rm, immediate;
    enum { PLAIN_NO_FLAGS, PLAIN_FLAGS /* never kept */, PLAIN_LOGIC /* those of AND */ } flags;
    u32 made;                  /* the status flags that it leaves as the guest's would be */
};
/* osz: 32 or 64 bits; src: the rm operand, of size `from`. */
void emit_plain(struct emit *e, const struct emit_plain *v, unsigned osz, unsigned from, struct place src);

/* Vectors. What a row of the table does with its operands, in its own encoding's terms: `reg` is ModRM.reg, `rm` the other one. */
enum vector_part { PART_NONE, PART_VECTOR, PART_GENERAL };
struct emit_vector {
    u8 reg, rm;                /* enum vector_part */
    bool reads_reg, writes_reg, reads_rm, writes_rm;   /* whether the operation sees the old value, changes it */
    bool vex;                  /* encoded with VEX: of the instruction's own length, and clears what lies above it */
    bool reads_vvvv, writes_vvvv, reads_is4, reads_v0; /* vectors in VEX.vvvv and the immediate; vector register 0 */
    bool aligned, immediate, relation;                 /* whole memory operands must be aligned; COMISS, PTEST and the like leave flags */
    u8 bytes;                  /* of a memory operand */
    u32 opcode;                /* 0xPPMMOO */
};
/* False: this host has no such operations. feature: enum cpu_feature. */
bool emit_feature_exists(unsigned feature);
void emit_vector(struct emit *e, const struct emit_vector *v);
/* Clears bits 128 and above of the code's 8 or 16 vector registers. */
void emit_zero_upper(struct emit *e);

/* CLI where CPL is 0 (IF is the program's own whatever IOPL says), PAUSE outside VMX non-root operation; else their handlers. */
void emit_interrupts_off(struct emit *e);
void emit_pause(struct emit *e);

/* Branches. Targets are offsets from the page's first byte; those in the page are linked directly. Calls are the host's own calls and returns
 * its returns where the guest's return address is the one that the call left, so that the host predicts them; a host that links by a register
 * puts it on its stack beside the guest's address. */
void emit_jump_if(struct emit *e, unsigned cc, i64 target);
void emit_jump(struct emit *e, i64 target);
void emit_jump_to(struct emit *e, struct place target);
void emit_call(struct emit *e, i64 target);
void emit_call_to(struct emit *e, struct place target);
void emit_return(struct emit *e, unsigned release);
/* The block goes on behind its last instruction. */
void emit_continue(struct emit *e, unsigned offset);

/* The instruction is left to its handler: within the block, or by the engine after leaving translated code. */
void emit_handler(struct emit *e);
void emit_leave_for(struct emit *e);

/* ---- the back end ------------------------------------------------------------------------------------------------------ */

struct jit;

/* A place where translated code leaves: what the engine needs to go on. */
struct jit_site {
    const struct insn *in;     /* to be done by its handler; NULL: nothing, only go on at `offset` */
    u32 patch;                 /* where the branch is that may be linked to its target, 0: none */
    u16 offset;                /* of rip in the page, 0 .. 4096 */
    u8 refund;                 /* instructions of the block that have not run */
    u8 link;                   /* the target is in the same page */
};
/* Numbers of sites: nobody's; to go on at cpu->jit.page; the first of a block's. */
enum { SITE_NONE, SITE_PAGE, SITE_FIRST };

/* What is linked to a linear address in one state of the TLB context. */
struct jit_jump {
    u64 la, key;
    const void *code;
    u64 spare;
};
#define JIT_JUMPS 4096

/* Is there a back end for this host? Makes the common routines at the start of the code memory; returns the bytes they take, 0: none. */
size_t emit_common(struct jit *jit);
/* Translates into the memory at `at`. Begins with the block's entry. vectors: the kinds of instructions for emit_vector() that it has
 * (enum jit_fp). loop_vectors: the block branches to its own start and uses these vector
 * registers, which may then stay where they are from one turn to the next; 0: nothing of the kind. start_kills: the status flags at the block's
 * start are dead. */
struct emit *emit_open(struct jit *jit, struct block *block, unsigned count, size_t at, unsigned vectors, u32 loop_vectors,
                       bool start_kills);
/* The block's instructions have been emitted. True: the first *insns of them, a turn of its loop, are to be emitted once more. */
bool emit_turn(struct emit *e, unsigned *insns);
/* Where the block is entered. */
const void *emit_entry(const struct emit *e);
/* The bytes that it took; 0: there was no room. */
size_t emit_close(struct emit *e);
/* Links the branch at `patch` to code; makes a dropped block's entry leave. */
void emit_link(struct jit *jit, u32 patch, const void *code);
void emit_poison(struct jit *jit, const void *code);
/* Enters code; returns the number of the site where it left, 0: the engine has been told already. */
u32 emit_enter(struct jit *jit, struct cpu *cpu, const void *code);

#endif
