/* Operands: effective addresses with their segment checks, and the loads, stores and stack accesses that handlers use.
 *
 * The functions that can fail return false with cpu->fault filled; the handler then says `return cpu_raise_fault(cpu);`.
 * TRY() is that sentence. Nothing architectural changes before the last thing that can fail.
 */
#ifndef NESTOR_CPU_OPERAND_H
#define NESTOR_CPU_OPERAND_H

#include "cpu/insn.h"
#include "cpu/raise.h"
#include "cpu/state.h"
#include "mmu/access.h"

#define TRY(access)                                                                                                    \
    do {                                                                                                               \
        if (UNLIKELY(!(access)))                                                                                       \
            return cpu_raise_fault(cpu);                                                                               \
    } while (0)

/* ---- registers ---------------------------------------------------------------------------------------------------- */

/* Byte registers are named by their offset into core.r (decoder), so AH is byte 1. */
HOT_INLINE u8 reg8(const struct cpu *cpu, unsigned offset) { return ((const u8 *)cpu->core.r)[offset]; }
HOT_INLINE void reg8_set(struct cpu *cpu, unsigned offset, u8 v) { ((u8 *)cpu->core.r)[offset] = v; }
HOT_INLINE u16 reg16(const struct cpu *cpu, unsigned n) { return (u16)cpu->core.r[n]; }
HOT_INLINE void reg16_set(struct cpu *cpu, unsigned n, u16 v) { memcpy(&cpu->core.r[n], &v, 2); }
HOT_INLINE u32 reg32(const struct cpu *cpu, unsigned n) { return (u32)cpu->core.r[n]; }
HOT_INLINE void reg32_set(struct cpu *cpu, unsigned n, u32 v) { cpu->core.r[n] = v; }
HOT_INLINE u64 reg64(const struct cpu *cpu, unsigned n) { return cpu->core.r[n]; }
HOT_INLINE void reg64_set(struct cpu *cpu, unsigned n, u64 v) { cpu->core.r[n] = v; }
/* By operand-size index; byte operands as offsets. */
static inline u64 reg_get(const struct cpu *cpu, unsigned n, unsigned osz)
{
    return osz == OSZ_64 ? reg64(cpu, n) : osz == OSZ_32 ? reg32(cpu, n) : osz == OSZ_16 ? reg16(cpu, n) : reg8(cpu, n);
}
static inline void reg_set(struct cpu *cpu, unsigned n, unsigned osz, u64 v)
{
    switch (osz) {
    case OSZ_64: reg64_set(cpu, n, v); break;
    case OSZ_32: reg32_set(cpu, n, (u32)v); break;
    case OSZ_16: reg16_set(cpu, n, (u16)v); break;
    default: reg8_set(cpu, n, (u8)v); break;
    }
}
/* Bits of an operand-size or address-size index. */
static inline unsigned osz_bits(unsigned osz) { return 8u << osz; }
static inline u64 osz_mask(unsigned osz) { return mask_low(8u << osz); }

/* ---- effective addresses ------------------------------------------------------------------------------------------ */

/* The offset part of the memory operand, truncated to the address size (LEA; also for the VMX qualification). */
HOT_INLINE u64 ea_offset(const struct cpu *cpu, const struct insn *in)
{
    u64 off = cpu->core.r[in->base] + (cpu->core.r[in->index] << in->scale) + (u64)(i64)in->disp;
    return off & mask_low(8u << in->asz);
}

/* Segment translation with all checks [SDM3 "Limit Checking", "Type Checking"; SDM1 "Canonical Addressing"]: n bytes at seg:off for ACCESS_READ or
 * ACCESS_WRITE. False: cpu->fault is a #GP(0) or #SS(0). In 64-bit code only bases are added; canonicality is found by the MMU. (cpu/operand.c) */
bool seg_la(struct cpu *cpu, unsigned seg, u64 off, unsigned n, unsigned access, u64 *la);

/* The linear address of the instruction's memory operand of n bytes. */
HOT_INLINE bool ea_la(struct cpu *cpu, const struct insn *in, unsigned n, unsigned access, u64 *la)
{
    if (LIKELY(in->flags & INSN_FLAT)) {
        *la = cpu->core.r[in->base] + (cpu->core.r[in->index] << in->scale) + (u64)(i64)in->disp + cpu->seg.s[in->seg].base;
        cpu->fault.stack_segment = in->flags / INSN_SS & 1;
        return true;
    }
    return seg_la(cpu, in->arch_seg, ea_offset(cpu, in), n, access, la);
}

#define DEFINE_OPERAND_ACCESS(bits)                                                                                    \
    /* The memory operand, read; read for a write to follow (its la is kept for that); written. */                    \
    HOT_INLINE bool rm_read##bits(struct cpu *cpu, const struct insn *in, u##bits *v)                                  \
    {                                                                                                                  \
        u64 la;                                                                                                        \
        return ea_la(cpu, in, bits / 8, ACCESS_READ, &la) && mem_read##bits(cpu, la, v);                               \
    }                                                                                                                  \
    HOT_INLINE bool rm_read_rmw##bits(struct cpu *cpu, const struct insn *in, u##bits *v, u64 *la)                     \
    {                                                                                                                  \
        return ea_la(cpu, in, bits / 8, ACCESS_WRITE, la) && mem_read_rmw##bits(cpu, *la, v);                          \
    }                                                                                                                  \
    HOT_INLINE bool rm_write##bits(struct cpu *cpu, const struct insn *in, u##bits v)                                  \
    {                                                                                                                  \
        u64 la;                                                                                                        \
        return ea_la(cpu, in, bits / 8, ACCESS_WRITE, &la) && mem_write##bits(cpu, la, v);                             \
    }
DEFINE_OPERAND_ACCESS(8)
DEFINE_OPERAND_ACCESS(16)
DEFINE_OPERAND_ACCESS(32)
DEFINE_OPERAND_ACCESS(64)
#undef DEFINE_OPERAND_ACCESS

/* For instructions that need not be fast: the E operand (register or memory) at a given size index, zero-extended. */
bool rm_get(struct cpu *cpu, const struct insn *in, unsigned osz, u64 *v);
bool rm_set(struct cpu *cpu, const struct insn *in, unsigned osz, u64 v);
/* n bytes of memory operand (any n up to 4096). */
bool rm_read_bytes(struct cpu *cpu, const struct insn *in, void *data, unsigned n);
/* A far pointer in memory: an offset of the operand size, the selector behind it. Each has its own alignment. */
bool rm_read_pointer(struct cpu *cpu, const struct insn *in, u64 *offset, u16 *selector);
bool rm_write_bytes(struct cpu *cpu, const struct insn *in, const void *data, unsigned n);
/* The linear address of the operand of BT, BTS, BTR, BTC m, r: the bit offset in the register moves it. (cpu/int_bits.c) */
bool bit_string_la(struct cpu *cpu, const struct insn *in, unsigned access, u64 *la);

/* ---- the stack ------------------------------------------------------------------------------------------------------ */

/* The mask of the stack pointer (16, 32, 64 bits). */
static inline u64 stack_mask(const struct cpu *cpu) { return mask_low(16u << cpu->mode.stack_bits); }
/* RSP with `delta` added within the stack's width (upper bits kept for a 16-bit stack, zeroed for a 32-bit one). */
static inline u64 stack_add(const struct cpu *cpu, u64 rsp, i64 delta)
{
    if (cpu->mode.stack_bits == BITS_64)
        return rsp + (u64)delta;
    if (cpu->mode.stack_bits == BITS_32)
        return (u32)(rsp + (u64)delta);
    return (rsp & ~0xffffull) | ((rsp + (u64)delta) & 0xffff);
}
/* Reads/writes 1 << osz bytes at stack offset `sp` (masked to the stack's width) through SS. */
bool stack_read(struct cpu *cpu, u64 sp, unsigned osz, u64 *v);
bool stack_write(struct cpu *cpu, u64 sp, unsigned osz, u64 v);

/* ---- control -------------------------------------------------------------------------------------------------------- */

/* Goes to the instruction behind this one and ends the block (after mode changes, I/O …). */
static inline enum flow flow_end(struct cpu *cpu, const struct insn *in)
{
    u64 next = cpu->core.rip + in->length;
    cpu->core.rip = in->flags & INSN_64 ? next : (u32)next;
    return FLOW_END;
}

/* Checks a branch target against CS's limit or canonicality. False: #GP(0) recorded as cpu->fault. */
bool branch_target_ok(struct cpu *cpu, u64 target);

/* Requires CPL 0: true when it is (real mode counts; V8086 does not). */
static inline bool cpl0(const struct cpu *cpu) { return cpu->mode.cpl == 0; }

#endif
