/* Arithmetic with the status flags it leaves, for each operand width. Shared by the integer handlers.
 *
 * The flags are left in the lazy form of cpu/state.h: the carry word is the vector of carries (borrows) out of each bit, moved up
 * so that the carry out of the operand's top bit is bit 63; bit 3 stays where it is for AF.
 */
#ifndef NESTOR_CPU_ALU_H
#define NESTOR_CPU_ALU_H

#include "cpu/flags.h"

#define DEFINE_ALU_WIDTH(bits)                                                                                         \
    HOT_INLINE void alu_result##bits(struct cpu *cpu, u##bits r)                                                       \
    {                                                                                                                  \
        cpu->core.fl_zero = r;                                                                                         \
        cpu->core.fl_sign = (u64)(i64)(i##bits)r;                                                                      \
    }                                                                                                                  \
    HOT_INLINE void alu_carries##bits(struct cpu *cpu, u##bits c)                                                      \
    {                                                                                                                  \
        cpu->core.fl_carry = bits == 64 ? (u64)c : (u64)c << (64 - bits) % 64 | (c & 8);                               \
    }                                                                                                                  \
    /* a + b, with the carry-in already in r. */                                                                       \
    HOT_INLINE u##bits alu_add_flags##bits(struct cpu *cpu, u##bits a, u##bits b, u##bits r)                           \
    {                                                                                                                  \
        alu_result##bits(cpu, r);                                                                                      \
        alu_carries##bits(cpu, (u##bits)((a & b) | ((a | b) & ~r)));                                                   \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits alu_sub_flags##bits(struct cpu *cpu, u##bits a, u##bits b, u##bits r)                           \
    {                                                                                                                  \
        alu_result##bits(cpu, r);                                                                                      \
        alu_carries##bits(cpu, (u##bits)((~a & b) | ((~a | b) & r)));                                                  \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits alu_logic##bits(struct cpu *cpu, u##bits r)                                                     \
    {                                                                                                                  \
        alu_result##bits(cpu, r);                                                                                      \
        cpu->core.fl_carry = 0;                                                                                        \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits alu_add##bits(struct cpu *cpu, u##bits a, u##bits b)                                            \
    { return alu_add_flags##bits(cpu, a, b, (u##bits)(a + b)); }                                                       \
    HOT_INLINE u##bits alu_adc##bits(struct cpu *cpu, u##bits a, u##bits b)                                            \
    { return alu_add_flags##bits(cpu, a, b, (u##bits)(a + b + flag_cf(cpu))); }                                        \
    HOT_INLINE u##bits alu_sub##bits(struct cpu *cpu, u##bits a, u##bits b)                                            \
    { return alu_sub_flags##bits(cpu, a, b, (u##bits)(a - b)); }                                                       \
    HOT_INLINE u##bits alu_sbb##bits(struct cpu *cpu, u##bits a, u##bits b)                                            \
    { return alu_sub_flags##bits(cpu, a, b, (u##bits)(a - b - flag_cf(cpu))); }                                        \
    HOT_INLINE u##bits alu_cmp##bits(struct cpu *cpu, u##bits a, u##bits b) { return alu_sub##bits(cpu, a, b); }       \
    HOT_INLINE u##bits alu_and##bits(struct cpu *cpu, u##bits a, u##bits b) { return alu_logic##bits(cpu, a & b); }    \
    HOT_INLINE u##bits alu_test##bits(struct cpu *cpu, u##bits a, u##bits b) { return alu_logic##bits(cpu, a & b); }   \
    HOT_INLINE u##bits alu_or##bits(struct cpu *cpu, u##bits a, u##bits b) { return alu_logic##bits(cpu, a | b); }     \
    HOT_INLINE u##bits alu_xor##bits(struct cpu *cpu, u##bits a, u##bits b) { return alu_logic##bits(cpu, a ^ b); }    \
    /* INC and DEC keep CF: OF is bit 63 ^ bit 62, so both are replaced. */                                            \
    HOT_INLINE u##bits alu_inc##bits(struct cpu *cpu, u##bits a)                                                       \
    {                                                                                                                  \
        u64 cf = cpu->core.fl_carry & BIT(63);                                                                         \
        u##bits r = alu_add##bits(cpu, a, 1);                                                                          \
        alu_keep_carry(cpu, cf);                                                                                       \
        return r;                                                                                                      \
    }                                                                                                                  \
    HOT_INLINE u##bits alu_dec##bits(struct cpu *cpu, u##bits a)                                                       \
    {                                                                                                                  \
        u64 cf = cpu->core.fl_carry & BIT(63);                                                                         \
        u##bits r = alu_sub##bits(cpu, a, 1);                                                                          \
        alu_keep_carry(cpu, cf);                                                                                       \
        return r;                                                                                                      \
    }

/* Replaces CF by `cf` (bit 63 or 0) and keeps OF. */
HOT_INLINE void alu_keep_carry(struct cpu *cpu, u64 cf)
{
    u64 c = cpu->core.fl_carry, of = (c ^ c << 1) & BIT(63);
    cpu->core.fl_carry = (c & 8) | cf | (cf ^ of) >> 1;
}

/* Sets CF and OF (0 or 1) with AF clear; ZF, SF and PF stay. */
HOT_INLINE void alu_set_cf_of(struct cpu *cpu, unsigned cf, unsigned of)
{
    cpu->core.fl_carry = (u64)cf << 63 | (u64)(cf ^ of) << 62;
}

DEFINE_ALU_WIDTH(8)
DEFINE_ALU_WIDTH(16)
DEFINE_ALU_WIDTH(32)
DEFINE_ALU_WIDTH(64)

/* Sets one flag alone. */
static inline void flags_set_cf(struct cpu *cpu, bool cf) { alu_keep_carry(cpu, (u64)cf << 63); }

#endif
