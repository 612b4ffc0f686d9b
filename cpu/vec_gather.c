/* Gathers and scatters: one memory access for each element whose mask bit is set, at base + index * scale +
 * displacement, the index an element of a vector (VSIB).
 *
 * Kept true: elements are taken from the lowest to the highest; a fault leaves those before it done, with their mask
 * bits clear, and RIP at the instruction, so that it goes on there when it is run again. A gather's mask, VEX.vvvv's
 * sign bits or an opmask, is zero in the end.
 * [SDM2 "VPGATHERDD/VPGATHERDQ—...", "VPSCATTERDD/...—...", SDM1 "Vector SIB (VSIB) Memory Addressing"]
 */
#include "cpu/vector.h"

static i64 index_element(const u8 *v, unsigned i, unsigned bytes)
{
    return bytes == 4 ? (i32)load32(v + (size_t)4 * i) : (i64)load64(v + (size_t)8 * i);
}

static bool vsib_la(struct cpu *cpu, const struct insn *in, i64 index, unsigned bytes, unsigned access, u64 *la)
{
    u64 off = (cpu->core.r[in->base] + ((u64)index << in->scale) + (u64)in->disp) & mask_low(8u << in->asz);
    if (LIKELY(in->flags & INSN_FLAT)) {
        *la = off + cpu->seg.s[in->seg].base;
        cpu->fault.stack_segment = in->flags / INSN_SS & 1;
        return true;
    }
    return seg_la(cpu, in->arch_seg, off, bytes, access, la);
}

/* The elements that `mask` wants; `*done` are those that could be read. False: the next one faults. */
static bool gather(struct cpu *cpu, const struct insn *in, u8 *to, unsigned lanes, unsigned isize, unsigned esize, u64 mask, u64 *done)
{
    u8 index[VEC_BYTES];
    memcpy(index, vec_reg(cpu, in->imm2), sizeof index);
    *done = 0;
    for (unsigned i = 0; i < lanes; i++) {
        u64 la;
        if (!(mask >> i & 1))
            continue;
        if (!vsib_la(cpu, in, index_element(index, i, isize), esize, ACCESS_READ, &la) ||
            !(esize == 4 ? vec_element_read(cpu, la, to + (size_t)4 * i, 4) : vec_element_read(cpu, la, to + (size_t)8 * i, 8)))
            return false;
        *done |= BIT(i);
    }
    return true;
}

/* How many elements: as many as both the vector of indices and that of data can hold. */
static unsigned element_count(const struct insn *in, unsigned isize, unsigned esize)
{
    return vec_bytes(in) / (isize > esize ? isize : esize);
}

static enum flow gather_vex(struct cpu *cpu, const struct insn *in, unsigned isize, unsigned esize)
{
    unsigned lanes = element_count(in, isize, esize), n = lanes * esize;
    unsigned index = in->imm2, hold = in->vvvv & 15, to = in->reg & 15;
    if (index == hold || index == to || hold == to)
        return cpu_raise_ud(cpu);
    VEC_GATE();
    u8 *d = vec_reg(cpu, to), *m = vec_reg(cpu, hold);
    u64 mask = 0, done;
    for (unsigned i = 0; i < lanes; i++)
        mask |= (u64)(m[i * esize + esize - 1] >> 7) << i;
    if (UNLIKELY(!gather(cpu, in, d, lanes, isize, esize, mask, &done))) {
        for (unsigned i = 0; done && i < lanes; i++)
            memset(m + i * esize, mask & ~done & BIT(i) ? 0xff : 0, esize);
        return cpu_raise_fault(cpu);
    }
    vec_clear_above(cpu, hold, 0);
    vec_clear_above(cpu, to, n);
    return FLOW_NEXT;
}

static enum flow gather_evex(struct cpu *cpu, const struct insn *in, unsigned isize, unsigned esize)
{
    unsigned lanes = element_count(in, isize, esize);
    u64 mask = vec_mask(cpu, in, lanes), done;
    if (in->imm2 == in->reg)
        return cpu_raise_ud(cpu);
    VEC_GATE();
    if (UNLIKELY(!gather(cpu, in, vec_reg(cpu, in->reg), lanes, isize, esize, mask, &done))) {
        cpu->fpu.k[in->opmask] &= ~done;
        return cpu_raise_fault(cpu);
    }
    cpu->fpu.k[in->opmask] = 0;
    vec_clear_above(cpu, in->reg, lanes * esize);
    return FLOW_NEXT;
}

static enum flow scatter(struct cpu *cpu, const struct insn *in, unsigned isize, unsigned esize)
{
    unsigned lanes = element_count(in, isize, esize);
    u64 mask = vec_mask(cpu, in, lanes);
    u8 index[VEC_BYTES], from[VEC_BYTES];
    VEC_GATE();
    memcpy(index, vec_reg(cpu, in->imm2), sizeof index);
    memcpy(from, vec_reg(cpu, in->reg), sizeof from);
    for (unsigned i = 0; i < lanes; i++) {
        u64 la;
        if (!(mask >> i & 1))
            continue;
        TRY(vsib_la(cpu, in, index_element(index, i, isize), esize, ACCESS_WRITE, &la) &&
            vec_element_write(cpu, la, from + (size_t)i * esize, esize));
        cpu->fpu.k[in->opmask] &= ~BIT(i);
    }
    cpu->fpu.k[in->opmask] = 0;
    return FLOW_NEXT;
}

/* By index size and element size. */
#define GATHER_SCATTER(shape, isize, esize)                                                                            \
    static enum flow gather_##shape(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        return in->flags & INSN_EVEX ? gather_evex(cpu, in, isize, esize) : gather_vex(cpu, in, isize, esize);         \
    }                                                                                                                  \
    static enum flow scatter_##shape(struct cpu *cpu, const struct insn *in) { return scatter(cpu, in, isize, esize); } \
    FAMILY_ONE(vgather_##shape, gather_##shape)                                                                        \
    FAMILY_ONE(vscatter_##shape, scatter_##shape)
GATHER_SCATTER(d_d, 4, 4)
GATHER_SCATTER(d_q, 4, 8)
GATHER_SCATTER(q_d, 8, 4)
GATHER_SCATTER(q_q, 8, 8)
