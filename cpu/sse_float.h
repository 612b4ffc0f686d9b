/* What SSE floating-point handlers share: the environment that MXCSR describes, source operands of each width, and the
 * end of an instruction.
 */
#ifndef NESTOR_CPU_SSE_FLOAT_H
#define NESTOR_CPU_SSE_FLOAT_H

#include "cpu/float_lanes.h"
#include "cpu/softfloat.h"
#include "cpu/sse.h"

/* An unmasked exception: #XM, or #UD while CR4.OSXMMEXCPT is clear. (cpu/sse_float.c) */
COLD enum flow sse_exception(struct cpu *cpu);
/* RFLAGS of COMISS and FCOMI: ZF, PF, CF by the relation, the others clear. */
void sse_set_relation(struct cpu *cpu, enum float_relation r);

HOT_INLINE struct float_env sse_env(const struct cpu *cpu)
{
    u32 m = cpu->fpu.mxcsr;
    return (struct float_env){.rounding = m >> 13 & 3, .masks = m >> 7 & FLOAT_ALL, .precision = 64,
                              .daz = (m & MXCSR_DAZ) != 0, .ftz = (m & MXCSR_FZ) != 0};
}

/* Adds the flags to MXCSR; leaves the handler with the exception if one is not masked. */
#define SSE_FINISH(e)                                                                                                  \
    do {                                                                                                               \
        bool blocked_ = float_stage_blocked(&(e), 0);                                                                  \
        cpu->fpu.mxcsr |= (e).flags;                                                                                   \
        if (UNLIKELY(blocked_))                                                                                        \
            return sse_exception(cpu);                                                                                 \
    } while (0)
/* The same for an operation that has ended its stages itself. */
#define SSE_FINISH_STAGES(e)                                                                                           \
    do {                                                                                                               \
        cpu->fpu.mxcsr |= (e).flags;                                                                                   \
        if (UNLIKELY(float_blocked(&(e))))                                                                             \
            return sse_exception(cpu);                                                                                 \
    } while (0)

/* The W operand: 16 bytes (aligned), 8 or 4. */
HOT_INLINE bool sse_source128(struct cpu *cpu, const struct insn *in, void *data)
{
    u64 v[2];
    if (!(in->flags & INSN_MEM)) {
        memcpy(data, xmm(cpu, in->rm), 16);
        return true;
    }
    if (!xmm_load(cpu, in, v))
        return false;
    memcpy(data, v, 16);
    return true;
}
HOT_INLINE bool sse_source64(struct cpu *cpu, const struct insn *in, u64 *v)
{
    if (in->flags & INSN_MEM)
        return rm_read64(cpu, in, v);
    *v = xmm(cpu, in->rm)[0];
    return true;
}
HOT_INLINE bool sse_source32(struct cpu *cpu, const struct insn *in, u32 *v)
{
    if (in->flags & INSN_MEM)
        return rm_read32(cpu, in, v);
    *v = xmm_get32(cpu, in->rm, 0);
    return true;
}

#endif
