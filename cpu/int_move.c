/* Data movement: MOV, MOVZX, MOVSX, MOVSXD, XCHG, LEA, PUSH, POP, PUSHA, POPA, ENTER, LEAVE, CMOVcc, SETcc, BSWAP, MOVBE, XLAT, LAHF, SAHF,
 * MOVDIRI, MOVNTI.
 */
#include "cpu/cond.h"
#include "cpu/mode.h"
#include "cpu/operand.h"

#define DEFINE_MOV(bits)                                                                                               \
    static enum flow mov_rg##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->rm, reg##bits(cpu, in->reg));                                                         \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mov_mg##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        TRY(rm_write##bits(cpu, in, reg##bits(cpu, in->reg)));                                                         \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mov_gr##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->reg, reg##bits(cpu, in->rm));                                                         \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mov_gm##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u##bits v;                                                                                                     \
        TRY(rm_read##bits(cpu, in, &v));                                                                               \
        reg##bits##_set(cpu, in->reg, v);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mov_ri##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->rm, (u##bits)in->imm);                                                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mov_mi##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        TRY(rm_write##bits(cpu, in, (u##bits)in->imm));                                                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow xchg_r##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u##bits a = reg##bits(cpu, in->rm);                                                                            \
        reg##bits##_set(cpu, in->rm, reg##bits(cpu, in->reg));                                                         \
        reg##bits##_set(cpu, in->reg, a);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow xchg_m##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u##bits a;                                                                                                     \
        u64 la;                                                                                                        \
        TRY(rm_read_rmw##bits(cpu, in, &a, &la));                                                                      \
        TRY(mem_write##bits(cpu, la, reg##bits(cpu, in->reg)));                                                        \
        reg##bits##_set(cpu, in->reg, a);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    /* The accumulator and a memory offset. */                                                                         \
    static enum flow mov_a_o##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u64 la;                                                                                                        \
        u##bits v;                                                                                                     \
        TRY(seg_la(cpu, in->arch_seg, in->imm, bits / 8, ACCESS_READ, &la));                                           \
        TRY(mem_read##bits(cpu, la, &v));                                                                              \
        reg##bits##_set(cpu, REG_RAX, v);                                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow mov_o_a##bits(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        u64 la;                                                                                                        \
        TRY(seg_la(cpu, in->arch_seg, in->imm, bits / 8, ACCESS_WRITE, &la));                                          \
        TRY(mem_write##bits(cpu, la, reg##bits(cpu, REG_RAX)));                                                        \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    /* XCHG with the accumulator (90+r): rm is the other register. With itself it is NOP, also for the upper half. */  \
    static enum flow xchg_a##bits(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        if (in->rm == REG_RAX)                                                                                         \
            return FLOW_NEXT;                                                                                          \
        u##bits a = reg##bits(cpu, REG_RAX);                                                                           \
        reg##bits##_set(cpu, REG_RAX, reg##bits(cpu, in->rm));                                                         \
        reg##bits##_set(cpu, in->rm, a);                                                                               \
        return FLOW_NEXT;                                                                                              \
    }
DEFINE_MOV(8)
DEFINE_MOV(16)
DEFINE_MOV(32)
DEFINE_MOV(64)
FAMILY_ALL(mov_E_G, mov_rg8, mov_rg16, mov_rg32, mov_rg64, mov_mg8, mov_mg16, mov_mg32, mov_mg64)
FAMILY_ALL(mov_G_E, mov_gr8, mov_gr16, mov_gr32, mov_gr64, mov_gm8, mov_gm16, mov_gm32, mov_gm64)
FAMILY_ALL(mov_E_I, mov_ri8, mov_ri16, mov_ri32, mov_ri64, mov_mi8, mov_mi16, mov_mi32, mov_mi64)
FAMILY_SIZES(mov_A_O, mov_a_o8, mov_a_o16, mov_a_o32, mov_a_o64)
FAMILY_SIZES(mov_O_A, mov_o_a8, mov_o_a16, mov_o_a32, mov_o_a64)
FAMILY_ALL(xchg_E_G, xchg_r8, xchg_r16, xchg_r32, xchg_r64, xchg_m8, xchg_m16, xchg_m32, xchg_m64)
FAMILY_SIZES(xchg_A, xchg_a8, xchg_a16, xchg_a32, xchg_a64)

#define DEFINE_EXTEND(name, from, to, type)                                                                            \
    static enum flow name##_r##from##_##to(struct cpu *cpu, const struct insn *in)                                     \
    {                                                                                                                  \
        reg##to##_set(cpu, in->reg, (u##to)(type)reg##from(cpu, in->rm));                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow name##_m##from##_##to(struct cpu *cpu, const struct insn *in)                                     \
    {                                                                                                                  \
        u##from v;                                                                                                     \
        TRY(rm_read##from(cpu, in, &v));                                                                               \
        reg##to##_set(cpu, in->reg, (u##to)(type)v);                                                                   \
        return FLOW_NEXT;                                                                                              \
    }
#define DEFINE_EXTENDS(name, from, type)                                                                               \
    DEFINE_EXTEND(name, from, 16, type) DEFINE_EXTEND(name, from, 32, type) DEFINE_EXTEND(name, from, 64, type)        \
    FAMILY_ALL(name##_##from, name##_r##from##_16, name##_r##from##_16, name##_r##from##_32, name##_r##from##_64,      \
               name##_m##from##_16, name##_m##from##_16, name##_m##from##_32, name##_m##from##_64)
DEFINE_EXTENDS(movzx, 8, u8)
DEFINE_EXTENDS(movzx, 16, u16)
DEFINE_EXTENDS(movsx, 8, i8)
DEFINE_EXTENDS(movsx, 16, i16)
DEFINE_EXTENDS(movsxd, 32, i32)

#define DEFINE_LEA(bits)                                                                                               \
    static enum flow lea##bits(struct cpu *cpu, const struct insn *in)                                                 \
    {                                                                                                                  \
        reg##bits##_set(cpu, in->reg, (u##bits)ea_offset(cpu, in));                                                    \
        return FLOW_NEXT;                                                                                              \
    }
DEFINE_LEA(16)
DEFINE_LEA(32)
static enum flow lea64(struct cpu *cpu, const struct insn *in)
{
    if (LIKELY(in->asz == 3))
        cpu->core.r[in->reg] = cpu->core.r[in->base] + (cpu->core.r[in->index] << in->scale) + (u64)(i64)in->disp;
    else
        cpu->core.r[in->reg] = ea_offset(cpu, in);
    return FLOW_NEXT;
}
FAMILY_SIZES(lea, lea32, lea16, lea32, lea64)

/* ---- the stack -------------------------------------------------------------------------------------------------------- */

HOT_INLINE bool push64(struct cpu *cpu, u64 v)
{
    u64 sp = cpu->core.rsp - 8;
    if (UNLIKELY(!mem_write64(cpu, sp, v))) {
        cpu->fault.stack_segment = 1;
        return false;
    }
    cpu->core.rsp = sp;
    return true;
}

/* Pushes 1 << osz bytes; RSP changes only when that succeeded. */
static bool push(struct cpu *cpu, unsigned osz, u64 v)
{
    if (LIKELY(cpu->mode.code_bits == BITS_64 && osz == OSZ_64))
        return push64(cpu, v);
    u64 sp = stack_add(cpu, cpu->core.rsp, -(i64)(1 << osz));
    if (!stack_write(cpu, sp, osz, v))
        return false;
    cpu->core.rsp = sp;
    return true;
}

static bool pop(struct cpu *cpu, unsigned osz, u64 *v)
{
    if (LIKELY(cpu->mode.code_bits == BITS_64 && osz == OSZ_64)) {
        if (UNLIKELY(!mem_read64(cpu, cpu->core.rsp, v))) {
            cpu->fault.stack_segment = 1;
            return false;
        }
        cpu->core.rsp += 8;
        return true;
    }
    if (!stack_read(cpu, cpu->core.rsp, osz, v))
        return false;
    cpu->core.rsp = stack_add(cpu, cpu->core.rsp, 1 << osz);
    return true;
}

static enum flow push_r64(struct cpu *cpu, const struct insn *in)
{
    TRY(push64(cpu, cpu->core.r[in->rm]));
    return FLOW_NEXT;
}
static enum flow push_r(struct cpu *cpu, const struct insn *in)
{
    TRY(push(cpu, in->osz, reg_get(cpu, in->rm, in->osz)));
    return FLOW_NEXT;
}
static enum flow push_m(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    TRY(rm_get(cpu, in, in->osz, &v));
    TRY(push(cpu, in->osz, v));
    return FLOW_NEXT;
}
FAMILY_ALL(push_E, push_r, push_r, push_r, push_r64, push_m, push_m, push_m, push_m)

static enum flow push_i(struct cpu *cpu, const struct insn *in)
{
    TRY(push(cpu, in->osz, in->imm));
    return FLOW_NEXT;
}
FAMILY_ONE(push_I, push_i)

static enum flow pop_r64(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    if (UNLIKELY(!mem_read64(cpu, cpu->core.rsp, &v))) {
        cpu->fault.stack_segment = 1;
        return cpu_raise_fault(cpu);
    }
    cpu->core.rsp += 8;
    cpu->core.r[in->rm] = v;
    return FLOW_NEXT;
}
static enum flow pop_r(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    TRY(pop(cpu, in->osz, &v));
    reg_set(cpu, in->rm, in->osz, v);
    return FLOW_NEXT;
}
/* POP m: an address based on RSP uses the value after the increment [SDM2 "POP"]. */
static enum flow pop_m(struct cpu *cpu, const struct insn *in)
{
    u64 v, before = cpu->core.rsp;
    TRY(pop(cpu, in->osz, &v));
    if (!rm_write_bytes(cpu, in, &v, 1u << in->osz)) {
        cpu->core.rsp = before;
        return cpu_raise_fault(cpu);
    }
    return FLOW_NEXT;
}
FAMILY_ALL(pop_E, pop_r, pop_r, pop_r, pop_r64, pop_m, pop_m, pop_m, pop_m)

/* PUSHA: eight pushes, checked as one before the first. */
static enum flow pusha(struct cpu *cpu, const struct insn *in)
{
    u64 sp = cpu->core.rsp;
    for (unsigned pass = 0; pass < 2; pass++) {
        u64 at = sp;
        for (unsigned i = 0; i < 8; i++) {
            u64 la;
            at = stack_add(cpu, at, -(i64)(1 << in->osz));
            if (pass == 0) {
                TRY(seg_la(cpu, SEG_SS, at & stack_mask(cpu), 1u << in->osz, ACCESS_WRITE, &la));
                TRY(mem_probe(cpu, la, 1u << in->osz, ACCESS_WRITE));
            } else {
                TRY(stack_write(cpu, at, in->osz, reg_get(cpu, i, in->osz)));
            }
        }
        cpu->core.rsp = pass ? at : sp;
    }
    return FLOW_NEXT;
}
FAMILY_ONE(pusha, pusha)

static enum flow popa(struct cpu *cpu, const struct insn *in)
{
    u64 v[8], at = cpu->core.rsp;
    for (unsigned i = 0; i < 8; i++) {
        TRY(stack_read(cpu, at, in->osz, &v[i]));
        at = stack_add(cpu, at, 1 << in->osz);
    }
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != REG_RSP)
            reg_set(cpu, 7 - i, in->osz, v[i]);
    cpu->core.rsp = at;
    return FLOW_NEXT;
}
FAMILY_ONE(popa, popa)

/* ENTER [SDM2 "ENTER"]: nesting level imm2, storage imm. Everything is pushed at computed places; RSP and RBP change at the end. */
static enum flow enter(struct cpu *cpu, const struct insn *in)
{
    unsigned level = in->imm2 & 31, bytes = 1u << in->osz;
    u64 sp = stack_add(cpu, cpu->core.rsp, -(i64)bytes), frame = sp, bp = cpu->core.rbp, la;
    TRY(stack_write(cpu, sp, in->osz, reg_get(cpu, REG_RBP, in->osz)));
    for (unsigned i = 1; i < level; i++) {
        u64 v;
        bp = stack_add(cpu, bp, -(i64)bytes);
        TRY(stack_read(cpu, bp, in->osz, &v));
        sp = stack_add(cpu, sp, -(i64)bytes);
        TRY(stack_write(cpu, sp, in->osz, v));
    }
    if (level > 0) {
        sp = stack_add(cpu, sp, -(i64)bytes);
        TRY(stack_write(cpu, sp, in->osz, frame));
    }
    sp = stack_add(cpu, sp, -(i64)(u16)in->imm);
    /* The new top must be writable. */
    TRY(seg_la(cpu, SEG_SS, sp & stack_mask(cpu), bytes, ACCESS_WRITE, &la));
    TRY(mem_probe(cpu, la, bytes, ACCESS_WRITE));
    reg_set(cpu, REG_RBP, in->osz, frame & osz_mask(in->osz));
    cpu->core.rsp = sp;
    return FLOW_NEXT;
}
FAMILY_ONE(enter, enter)

static enum flow leave(struct cpu *cpu, const struct insn *in)
{
    u64 v, sp = (cpu->core.rsp & ~stack_mask(cpu)) | (cpu->core.rbp & stack_mask(cpu));
    if (cpu->mode.stack_bits == BITS_64)
        sp = cpu->core.rbp;
    TRY(stack_read(cpu, sp, in->osz, &v));
    cpu->core.rsp = stack_add(cpu, sp, 1 << in->osz);
    reg_set(cpu, REG_RBP, in->osz, v);
    return FLOW_NEXT;
}
static enum flow leave64(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    (void)in;
    if (UNLIKELY(!mem_read64(cpu, cpu->core.rbp, &v))) {
        cpu->fault.stack_segment = 1;
        return cpu_raise_fault(cpu);
    }
    cpu->core.rsp = cpu->core.rbp + 8;
    cpu->core.rbp = v;
    return FLOW_NEXT;
}
FAMILY_SIZES(leave, leave, leave, leave, leave64)

/* ---- conditions --------------------------------------------------------------------------------------------------------- */

/* CMOVcc reads its source whether or not it moves; a 32-bit form always clears the upper half. */
#define DEFINE_CONDITION(cc, expression)                                                                               \
    static enum flow cmov##cc##_r(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        unsigned from = (expression) ? in->rm : in->reg;                                                               \
        reg_set(cpu, in->reg, in->osz, reg_get(cpu, from, in->osz));                                                   \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow cmov##cc##_r64(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        if (expression)                                                                                                \
            cpu->core.r[in->reg] = cpu->core.r[in->rm];                                                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow cmov##cc##_m(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u64 v;                                                                                                         \
        TRY(rm_get(cpu, in, in->osz, &v));                                                                             \
        reg_set(cpu, in->reg, in->osz, (expression) ? v : reg_get(cpu, in->reg, in->osz));                             \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ALL(cmov##cc, cmov##cc##_r, cmov##cc##_r, cmov##cc##_r, cmov##cc##_r64, cmov##cc##_m, cmov##cc##_m,         \
               cmov##cc##_m, cmov##cc##_m)                                                                             \
    static enum flow set##cc##_r(struct cpu *cpu, const struct insn *in)                                               \
    {                                                                                                                  \
        reg8_set(cpu, in->rm, (expression) ? 1 : 0);                                                                   \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow set##cc##_m(struct cpu *cpu, const struct insn *in)                                               \
    {                                                                                                                  \
        TRY(rm_write8(cpu, in, (expression) ? 1 : 0));                                                                 \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_RM(set##cc, set##cc##_r, set##cc##_m)
CONDITIONS(DEFINE_CONDITION)

/* ---- the rest ------------------------------------------------------------------------------------------------------------- */

static u64 byte_swap(u64 v, unsigned osz)
{
    return osz == OSZ_64 ? __builtin_bswap64(v) : osz == OSZ_32 ? __builtin_bswap32((u32)v) : __builtin_bswap16((u16)v);
}

/* BSWAP of 16 bits is undefined; Intel's processors give 0. */
static enum flow bswap(struct cpu *cpu, const struct insn *in)
{
    reg_set(cpu, in->rm, in->osz, in->osz == OSZ_16 ? 0 : byte_swap(reg_get(cpu, in->rm, in->osz), in->osz));
    return FLOW_NEXT;
}
FAMILY_ONE(bswap, bswap)

static enum flow movbe_load(struct cpu *cpu, const struct insn *in)
{
    u64 v;
    TRY(rm_get(cpu, in, in->osz, &v));
    reg_set(cpu, in->reg, in->osz, byte_swap(v, in->osz));
    return FLOW_NEXT;
}
static enum flow movbe_store(struct cpu *cpu, const struct insn *in)
{
    TRY(rm_set(cpu, in, in->osz, byte_swap(reg_get(cpu, in->reg, in->osz), in->osz)));
    return FLOW_NEXT;
}
FAMILY_ONE(movbe_load, movbe_load)
FAMILY_ONE(movbe_store, movbe_store)

static enum flow xlat(struct cpu *cpu, const struct insn *in)
{
    u64 la, off = (cpu->core.rbx + (u8)cpu->core.rax) & mask_low(8u << in->asz);
    u8 v;
    TRY(seg_la(cpu, in->arch_seg, off, 1, ACCESS_READ, &la));
    TRY(mem_read8(cpu, la, &v));
    reg8_set(cpu, 0, v);
    return FLOW_NEXT;
}
FAMILY_ONE(xlat, xlat)

static enum flow lahf(struct cpu *cpu, const struct insn *in)
{
    if (in->flags & INSN_64 && !cpu_has(cpu, FEATURE_LAHF_LM))
        return cpu_raise_ud(cpu);
    reg8_set(cpu, 1, (u8)(flags_status(cpu) | FL_R1));
    return FLOW_NEXT;
}
static enum flow sahf(struct cpu *cpu, const struct insn *in)
{
    if (in->flags & INSN_64 && !cpu_has(cpu, FEATURE_LAHF_LM))
        return cpu_raise_ud(cpu);
    flags_set_status(cpu, reg8(cpu, 1) | (flag_of(cpu) ? FL_OF : 0));
    return FLOW_NEXT;
}
FAMILY_ONE(lahf, lahf)
FAMILY_ONE(sahf, sahf)
