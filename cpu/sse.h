/* What handlers of SSE instructions share: the gate before each of them, 16-byte memory operands, and MXCSR at the end
 * of floating-point ones. XMM n is cpu->fpu.v[n][0..1]; legacy encodings leave the rest of the vector register alone.
 *
 * Order kept by every handler: #UD / #NM (SSE_GATE), memory operand (#GP(0) for alignment, then translation),
 * operation, MXCSR flags, #XM, and only then the destination. [SDM2 "Exceptions Type 1 ... 5", SDM1 "SSE, SSE2, and
 * SSE3 Exceptions"]
 */
#ifndef NESTOR_CPU_SSE_H
#define NESTOR_CPU_SSE_H

#include "cpu/operand.h"

enum { MXCSR_FLAGS = 0x3f, MXCSR_DAZ = 1 << 6, MXCSR_MASKS = 0x3f << 7, MXCSR_RC = 3 << 13, MXCSR_FZ = 1 << 15 };

/* #UD by CR0.EM or CR4.OSFXSR, #NM by CR0.TS. (cpu/sse_move.c) */
COLD enum flow sse_unavailable(struct cpu *cpu);

/* Stores those of n bytes whose mask byte has bit 7 set at seg:rDI: MASKMOVDQU and MASKMOVQ. (cpu/sse_move.c) */
enum flow sse_mask_store(struct cpu *cpu, const struct insn *in, const void *data, const void *mask, unsigned n);

HOT_INLINE bool sse_available(const struct cpu *cpu)
{
    return !(cpu->sys.cr0 & (CR0_EM | CR0_TS)) && cpu->sys.cr4 & CR4_OSFXSR;
}

#define SSE_GATE()                                                                                                     \
    do {                                                                                                               \
        if (UNLIKELY(!sse_available(cpu)))                                                                             \
            return sse_unavailable(cpu);                                                                               \
    } while (0)

/* XMM register n as 16 bytes of memory. */
HOT_INLINE u64 *xmm(struct cpu *cpu, unsigned n) { return cpu->fpu.v[n & 31]; }
HOT_INLINE void xmm_copy(u64 *d, const u64 *s)
{
    u64 low = s[0], high = s[1];
    d[0] = low;
    d[1] = high;
}
HOT_INLINE u32 xmm_get32(const struct cpu *cpu, unsigned n, unsigned lane)
{
    return (u32)(cpu->fpu.v[n & 31][lane / 2] >> (32 * (lane & 1)));
}
HOT_INLINE void xmm_set32(struct cpu *cpu, unsigned n, unsigned lane, u32 v)
{
    memcpy((u8 *)cpu->fpu.v[n & 31] + 4 * (size_t)lane, &v, 4);
}

/* 16 bytes at la, without any demand on alignment. */
HOT_INLINE bool mem_read128(struct cpu *cpu, u64 la, u64 *value)
{
    struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->read == tlb_key(cpu, la, 16))) {
        memcpy(value, tlb_host(e, la), 16);
        return true;
    }
    return mem_read_slow(cpu, la, value, 16, ACCESS_READ);
}
HOT_INLINE bool mem_write128(struct cpu *cpu, u64 la, const u64 *value)
{
    struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->write == tlb_key(cpu, la, 16))) {
        memcpy(tlb_host(e, la), value, 16);
        return true;
    }
    return mem_write_slow(cpu, la, value, 16, ACCESS_WRITE);
}

/* #GP(0) for an operand that must lie on a 16-byte boundary, whatever its segment. */
HOT_INLINE bool sse_aligned(struct cpu *cpu, u64 la)
{
    if (LIKELY(!(la & 15)))
        return true;
    cpu->fault = (struct mem_fault){.kind = FAULT_GP0};
    return false;
}

/* The 16-byte memory operand, aligned (most instructions) or not (MOVUPS and its like). */
HOT_INLINE bool xmm_load(struct cpu *cpu, const struct insn *in, u64 *value)
{
    u64 la;
    return ea_la(cpu, in, 16, ACCESS_READ, &la) && sse_aligned(cpu, la) && mem_read128(cpu, la, value);
}
HOT_INLINE bool xmm_store(struct cpu *cpu, const struct insn *in, const u64 *value)
{
    u64 la;
    return ea_la(cpu, in, 16, ACCESS_WRITE, &la) && sse_aligned(cpu, la) && mem_write128(cpu, la, value);
}
HOT_INLINE bool xmm_load_unaligned(struct cpu *cpu, const struct insn *in, u64 *value)
{
    u64 la;
    return ea_la(cpu, in, 16, ACCESS_READ, &la) && mem_read128(cpu, la, value);
}
HOT_INLINE bool xmm_store_unaligned(struct cpu *cpu, const struct insn *in, const u64 *value)
{
    u64 la;
    return ea_la(cpu, in, 16, ACCESS_WRITE, &la) && mem_write128(cpu, la, value);
}

/* The two forms of `OP xmm, xmm/m128` where the operation is `op(u64 *d, const u64 *s)`: family NAME. */
#define SSE_PAIR(name, op)                                                                                             \
    static enum flow name##_r(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        SSE_GATE();                                                                                                    \
        op(xmm(cpu, in->reg), xmm(cpu, in->rm));                                                                       \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow name##_m(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u64 s[2];                                                                                                      \
        SSE_GATE();                                                                                                    \
        TRY(xmm_load(cpu, in, s));                                                                                     \
        op(xmm(cpu, in->reg), s);                                                                                      \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_RM(name, name##_r, name##_m)

/* The same with an immediate: `op(u64 *d, const u64 *s, unsigned imm)`. */
#define SSE_PAIR_IMM(name, op)                                                                                         \
    static enum flow name##_r(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        SSE_GATE();                                                                                                    \
        op(xmm(cpu, in->reg), xmm(cpu, in->rm), (u8)in->imm);                                                          \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow name##_m(struct cpu *cpu, const struct insn *in)                                                  \
    {                                                                                                                  \
        u64 s[2];                                                                                                      \
        SSE_GATE();                                                                                                    \
        TRY(xmm_load(cpu, in, s));                                                                                     \
        op(xmm(cpu, in->reg), s, (u8)in->imm);                                                                         \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_RM(name, name##_r, name##_m)

#endif
