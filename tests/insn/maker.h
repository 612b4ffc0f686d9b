/* What is shared between the choice of rows (plan.c), their encoding (encode.c) and the states before them (generate.c). */
#ifndef NESTOR_TESTS_INSN_MAKER_H
#define NESTOR_TESTS_INSN_MAKER_H

#include "cpu/features.h"
#include "cpu/operand.h"
#include "generate.h"
#include "random.h"

enum row_kind { KIND_GENERAL, KIND_SYSTEM, KIND_FAR, KIND_VMX, KIND_X87, KIND_VECTOR };

struct maker {
    const struct plan *plan;
    struct rng rng;
    struct vector *v;
    /* the instruction under construction */
    u8 bytes[CODE_IMAGE];
    unsigned n;
    u64 seg_base;              /* of the memory operand */
    u64 target;                /* la of the memory operand */
    bool memory;
    bool retry;                /* the state would not be one of the bench's own: make another */
    bool no_memory;            /* register forms only */
    int base_reg, index_reg;   /* registers the operand uses, -1 none */
    i64 disp;
    unsigned scale;
    u64 address_mask;
    int gather_index;          /* the vector register of indexes, -1 none */
    bool gather_quads;         /* 64-bit indexes */
    bool spoilt;               /* made undefined on purpose: the decoder may find no row */
    int rip_disp;              /* place of a RIP-relative displacement, -1 none */
};

/* Values that something may come of, and the linear address of a memory operand (generate.c). */
u64 maker_value(struct maker *m);
u64 maker_target(struct maker *m);

u64 maker_image_target(struct maker *m);
/* Where a far transfer goes: a selector, mostly of code, and an offset. */
u16 maker_far_selector(struct maker *m);
u64 maker_far_offset(struct maker *m, u16 selector);

/* The instruction of a row into m->bytes; where it has a memory operand, encode_steer() sets its base register
 * afterwards, and encode_suit_gather() its vector of indexes. encode.c. */
void encode_row(struct maker *m, const struct insn_row *row);
void encode_steer(struct maker *m);
void encode_suit_gather(struct maker *m);
/* Random bytes that decode to a row of the plan, or to none. */
bool encode_random(struct maker *m);

static inline bool uses_letter(const struct insn_row *row, const char *letters)
{
    for (unsigned i = 0; i < row->operand_count; i++)
        if (row->operand[i].letter && strchr(letters, row->operand[i].letter))
            return true;
    return false;
}

static inline bool is_stack_row(const struct insn_row *row)
{
    return one_of(row->name, " PUSH POP PUSHA POPA ENTER LEAVE CALL RET PUSHF POPF CALL_FAR RET_FAR IRET ");
}
static inline bool is_far_row(const struct insn_row *row) { return one_of(row->name, " JMP_FAR CALL_FAR RET_FAR IRET "); }
static inline bool is_branch_row(const struct insn_row *row)
{
    return row->imm == IMM_JB || row->imm == IMM_JZ || one_of(row->name, " JMP CALL RET ");
}
static inline bool is_gather(const struct insn_row *row) { return row->attr & ROW_VSIB; }
static inline bool is_string_row(const struct insn_row *row) { return row->attr & ROW_REPS; }

/* Whose operand is an image of the x87 state or of more. */
static inline bool is_image_row(const struct insn_row *row)
{
    return one_of(row->family_name, " fldenv fnstenv frstor fnsave fxsave fxrstor xsave xrstor xsaveopt xsavec ");
}

/* The base of the segment that a prefix or default names. */
static inline u64 segment_base(const struct maker *m, unsigned seg)
{
    if (m->v->bits == BITS_64)
        return seg == SEG_FS ? m->v->before.fs_base : seg == SEG_GS ? m->v->before.gs_base : 0;
    return vector_segment(m->plan->bench, m->v, seg)->base;
}

/* Whether the host might call its kernel: SYSCALL, SYSRET, SYSENTER, SYSEXIT somewhere in the bytes. */
static inline bool may_call_kernel(const struct maker *m)
{
    for (unsigned i = 0; i + 1 < 15; i++)
        if (m->bytes[i] == 0x0f &&
            (m->bytes[i + 1] == 0x05 || m->bytes[i + 1] == 0x07 || m->bytes[i + 1] == 0x34 || m->bytes[i + 1] == 0x35))
            return true;
    return false;
}

#endif
