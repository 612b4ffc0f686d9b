/* Writing x86-64 instructions: one encoder for all forms, and what the back end's files share.
 *
 * Registers are host numbers 0..15. Guest registers live in host registers for as long as translated code runs (pin[]), except r10..r15,
 * which stay in cpu->core.r. Fixed: rbp cpu (plus BIAS), r13 instructions left, r10 r11 r12 temporaries.
 */
#ifndef NESTOR_CPU_JIT_X64_ASM_H
#define NESTOR_CPU_JIT_X64_ASM_H

#include "cpu/insn.h"
#include "cpu/jit/engine.h"
#include "cpu/state.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NO_REG = 0xff };
enum { T0 = R10, T1 = R11, T2 = R12, LEFT = R13, CPU = RBP };
#define BIAS 128                       /* rbp = cpu + BIAS: core.r within reach of one displacement byte */
#define OFF(member) ((i32)offsetof(struct cpu, member) - BIAS)
#define OFF_R(n) ((i32)(offsetof(struct cpu, core.r) + 8 * (size_t)(n)) - BIAS)

#define SLOW_MAX 256
#define TAKEN_MAX 80

/* A register or [base + index << scale + disp]. */
struct rm { bool memory; u8 base, index, scale; i32 disp; };

/* Flags that follow from registers and are not in memory yet. */
struct late {
    u8 kind, osz;              /* CC_ADD, CC_SUB, CC_LOGIC, CC_INC, CC_DEC; CC_CORE: there are none */
    bool carry_clear;          /* INC, DEC: CF is 0; else it stands in cc_c already */
    bool over;                 /* they may stay where they are when the block's loop begins its next turn */
    bool result, immediate;    /* a holds the result, not the first operand; the second operand is imm */
    u8 a, b;                   /* guest registers */
    i64 imm;
};

struct slow {
    u32 at;                    /* where the branch's distance stands, by offset in the memory */
    u32 resume;
    u32 site;
    u8 run;                    /* instructions whose handlers are called, by consecutive sites */
    u8 recent;                 /* a copy of a TLB entry did not fit: this one + 1 … */
    u8 bytes;
    bool write;
    u32 retry;                 /* … and the comparison is here */
    struct rm la;              /* the access's address */
    u32 miss;                  /* number of the count of misses, 0: none */
    bool leaves;               /* leaves before the instruction instead of calling its handler */
    bool flags;                /* the host's flags are wanted behind it */
    u8 gate;                   /* asks for these vector instructions (enum jit_fp) */
    bool seek;                 /* a branch's cell or, where it has none, the jump cache does not lead to T0: … */
    bool cell;                 /* … T1 is the cell … */
    u32 also;                  /* … a second branch leads here */
    bool deep;                 /* there are too many frames of calls */
    bool unmatched;            /* a return that is not the newest call's, which releases … */
    u16 release;               /* … so many bytes more than the address */
    u32 dirty, cached;         /* vector registers: to be stored before it, to be loaded behind it */
    struct late late;          /* to be stored before it */
};
struct taken {
    u32 at;
    i64 target;
    unsigned refund;
    const struct insn *in;
    unsigned offset;
    u32 dirty, cached;         /* vector registers as they are at the branch */
    struct late late;
    bool spent;                /* the next turn of the loop has taken its instructions off, and there were not enough … */
    u8 overpaid;               /* … with so many more for the turn behind it */
    bool rest;                 /* out of the loop from a further turn: what follows the loop stands behind its first one */
};

struct emit {
    struct jit *jit;
    struct block *block;
    unsigned count;            /* instructions that are translated */
    size_t start;              /* offset of the block's entry in the memory */
    u8 *p, *limit;
    bool full;                 /* no room: the block is given up */
    struct emit_insn cur;
    /* The guest's status flags: which of them the host's flags hold; the kind whose inputs stand in cc_a and cc_b and can be done again,
     * or -1; what cc_op holds, or -1. */
    u32 host;
    int known, cc_op;
    unsigned word;             /* OSZ_* of addresses and stack slots: 64-bit code, or 32-bit code in flat segments */
    bool on_stack;             /* the address at hand is RSP's */
    u32 address_at;            /* where the code that computes the memory operand's address begins */
    int flag_slow;             /* the slow path that the host's flags went around, or -1 */
    struct slow slow[SLOW_MAX];
    unsigned slow_count, slow_first;
    struct taken taken[TAKEN_MAX];
    unsigned taken_count;
    /* The common routines: offsets in the memory. */
    u32 stub_enter, stub_exit, stub_handler, stub_flags, stub_carry, stub_fp, stub_recent[2], stub_miss, stub_seek, stub_cell;
    /* Vector registers: guest n in host n. Which are loaded, and which differ from memory: their low 16 bytes, or 32 in a `wide` block. */
    bool wide;                 /* the block has VEX-encoded instructions */
    bool has_zmm;              /* the guest has vectors of 64 bytes, of which those instructions clear what lies above 32 … */
    u32 zmm_cleared;           /* … as they have already in these registers */
    u8 fp_ready;               /* which vector instructions were found to be allowed (enum jit_fp) */
    u32 cached, dirty;
    struct late late;
    bool start_kills;          /* flags are dead at the block's start */
    u32 loop_vectors;          /* those that stay loaded, and count as dirty, from turn to turn of the block's own loop … */
    size_t loop_at;            /* … which begins here, behind the entry */
    /* Further turns of the loop, two at a time: */
    unsigned turn;             /* being emitted; 0: the block itself */
    unsigned turn_insns;       /* instructions of each, 0: there are none */
    unsigned prepaid;          /* instructions that have been taken off for the turn behind this one */
    u32 turns_from;            /* the first turn's branch to them */
    size_t turns_at, rest_at;  /* where they begin, and what follows the loop */
    bool wrote_flags;
    bool carry_clear;          /* the guest's CF is 0 */
};

static inline struct rm rm_reg(unsigned r) { return (struct rm){.base = (u8)r}; }
static inline struct rm rm_at(unsigned base, i32 disp) { return (struct rm){.memory = true, .base = (u8)base, .index = NO_REG, .disp = disp}; }
static inline struct rm rm_cpu(i32 off) { return rm_at(CPU, off); }

/* Opcodes: 0xPPMMOO, PP a mandatory prefix, MM the map (0, 1: 0F, 2: 0F 38, 3: 0F 3A). */
#define OP_BYTE_RM BIT(31)             /* the rm operand is a byte register whatever the operand size */

static inline size_t emit_at(const struct emit *e) { return (size_t)(e->p - e->jit->memory.write); }
static inline void put8(struct emit *e, unsigned v) { *e->p++ = (u8)v; }
static inline void put32(struct emit *e, u32 v) { store32(e->p, v); e->p += 4; }
static inline void put64(struct emit *e, u64 v) { store64(e->p, v); e->p += 8; }

/* One instruction without its immediate. osz OSZ_* of the register operand. */
void x64_op(struct emit *e, u64 opcode, unsigned osz, unsigned reg, struct rm rm);
/* A byte instruction without REX: 4 to 7 are AH, CH, DH, BH as registers. */
void x64_byte_op(struct emit *e, unsigned opcode, unsigned reg, struct rm rm);
/* The same encoded with VEX. length: 0 for 128 bits, 1 for 256; an unused vvvv is 0. */
void x64_vex(struct emit *e, u32 opcode, bool w, unsigned length, unsigned reg, unsigned vvvv, struct rm rm);
static inline void x64_load(struct emit *e, unsigned reg, struct rm rm) { x64_op(e, 0x8b, OSZ_64, reg, rm); }
static inline void x64_store(struct emit *e, struct rm rm, unsigned reg) { x64_op(e, 0x89, OSZ_64, reg, rm); }
static inline void x64_move(struct emit *e, unsigned to, unsigned from) { if (to != from) x64_load(e, to, rm_reg(from)); }
static inline void x64_lea(struct emit *e, unsigned osz, unsigned reg, struct rm rm) { x64_op(e, 0x8d, osz, reg, rm); }
/* op /digit of the ALU group with an immediate that fits 32 signed bits. */
void x64_alu_imm(struct emit *e, unsigned digit, unsigned osz, struct rm rm, i64 imm);
void x64_load_imm(struct emit *e, unsigned reg, u64 v);            /* leaves the flags alone */
void x64_store_imm(struct emit *e, unsigned osz, struct rm rm, i32 imm);
/* Jumps: `at` of the distance is returned for x64_here(); or to a known place. */
u32 x64_jump(struct emit *e);
u32 x64_jump_if(struct emit *e, unsigned cc);
void x64_jump_back(struct emit *e, u32 to);
u32 x64_call_forward(struct emit *e);
void x64_call(struct emit *e, u32 to);
void x64_push(struct emit *e, unsigned reg);
void x64_pop(struct emit *e, unsigned reg);
void x64_return(struct emit *e);
void x64_patch(struct emit *e, u32 at, u32 to);
static inline void x64_here(struct emit *e, u32 at) { x64_patch(e, at, (u32)emit_at(e)); }

/* ---- shared by the back end's files (cpu/jit/x64.c) ---------------------------------------------------------------------- */

extern const u8 x64_pin[REG_COUNT];
static inline bool pinned(unsigned n) { return x64_pin[n] != NO_REG; }
static inline struct rm guest(unsigned n) { return pinned(n) ? rm_reg(x64_pin[n]) : rm_cpu(OFF_R(n)); }

u32 x64_site(struct emit *e, const struct insn *in, unsigned offset, unsigned refund, u32 patch, bool link);
/* The site of the instruction that is being translated, as it stands before it. */
u32 x64_site_before(struct emit *e);
void x64_leave_at(struct emit *e, u32 site);
/* The end of what is kept in registers beside the general ones: all is in memory. */
void x64_settle_all(struct emit *e);
/* The latest slow path stands for n instructions from the current one on. */
void x64_slow_run(struct emit *e, unsigned n);
/* A conditional branch's way on when it is taken; a return's when it is not the newest call's (x64_branch.c). */
void x64_make_taken(struct emit *e, const struct taken *t);
void x64_make_unmatched(struct emit *e, const struct slow *s);
/* T1 = the jump cache's entry of linear address T0, which is not looked at yet. */
void x64_hash(struct emit *e);
/* Goes on if T1's entry is of linear address T0 as things are, else branches (the branches' distances are returned). T2 changes. */
void x64_check_jump(struct emit *e, u32 miss[2]);
/* Those branches lead here: asks jit_seek() and goes back to `found` with what it has, else on. */
void x64_seek(struct emit *e, const u32 miss[2], u32 found);
/* Number of a new count of misses, 0: there are no more. */
u32 x64_count_misses(struct emit *e, unsigned pattern);
/* Branches to the slow path on condition cc. */
void x64_slow_if(struct emit *e, unsigned cc, bool leaves);
/* reg = the memory operand's address without its segment; flags stay. T0 and T1 may change. */
void x64_expression_to(struct emit *e, unsigned osz, unsigned reg);
/* Where the n bytes at linear address `la` are on the host, for the rest of the instruction, or the slow path. T0 belongs to the result (and may
 * be part of la, as may T1); T1 and T2 are free behind it; the host's flags change. */
struct rm x64_translate(struct emit *e, struct rm la, unsigned bytes, bool write, bool leaves);
/* The linear address of the memory operand; of the stack at base (RSP or RBP) + delta. T0 and T1 may be part of them. */
struct rm x64_address(struct emit *e);
struct rm x64_stack(struct emit *e, unsigned base, i32 delta);
static inline i32 x64_word(const struct emit *e) { return 1 << e->word; }
/* RSP, or any other, plus delta, in the width of the stack. */
static inline void x64_advance(struct emit *e, unsigned reg, unsigned from, i32 delta)
{
    x64_lea(e, e->word, reg, rm_at(from, delta));
}
static inline struct rm x64_operand(struct emit *e, unsigned bytes, bool write)
{
    return x64_translate(e, x64_address(e), bytes, write, false);
}
/* The instruction leaves other flags than were there: what the host holds of them. */
void x64_flags_left(struct emit *e, u32 host);

#define VECTORS 16u
#define OFF_V(n) ((i32)(offsetof(struct cpu, fpu.v) + 64 * (size_t)(n)) - BIAS)
/* Vector instructions of these kinds may run from here on, or the code leaves before the instruction. */
void x64_vectors_gate(struct emit *e, enum jit_fp kinds);
/* Is there AVX on this host? */
bool x64_has_avx(void);
void x64_vzeroupper(struct emit *e);
void x64_vectors_store(struct emit *e, u32 set);
void x64_vectors_load(struct emit *e, u32 set);
/* The end of what is kept in vector registers: all is in memory. Flags stay. */
static inline void x64_vectors_flush(struct emit *e)
{
    x64_vectors_store(e, e->dirty);
    if (e->wide && e->cached)
        x64_vzeroupper(e);
    e->dirty = e->cached = 0;
}
/* Flags that are kept late go to memory; T0, T1 and the host's flags change. */
void x64_late_store(struct emit *e, const struct late *late);
/* … or memory says in which registers they are, if that is allowed and possible. */
void x64_late_name(struct emit *e, const struct late *late);
void x64_branch_if(struct emit *e, unsigned cc, i64 target);

enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

#endif
