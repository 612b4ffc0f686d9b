/* VEX and EVEX instructions that only move data: whole vectors, scalars, halves, duplicates, and to and from general
 * registers.
 *
 * Kept true: moves raise no floating-point exception and look at no bit of what they move; non-temporal hints mean
 * nothing here, but their alignment does.
 * [SDM2 "MOVAPS—...", "MOVDQU,VMOVDQU8/16/32/64—...", "MOVD/MOVQ—...", "VMASKMOV—..."]
 */
#include "cpu/sse.h"
#include "cpu/vector.h"

/* ---- whole vectors ----------------------------------------------------------------------------------------------- */

#define COPY(d, a, b, imm, n) ((void)(a), memmove(d, b, n))
VEC_FAMILY(vmov8, 1, 1, COPY)
VEC_FAMILY(vmov16, 2, 2, COPY)
VEC_FAMILY(vmov32, 4, 4, COPY)
VEC_FAMILY(vmov64, 8, 8, COPY)

static enum flow store_r(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    struct insn to_rm = *in;
    unsigned n = vec_bytes(in);
    VEC_GATE();
    to_rm.reg = in->rm;
    vec_commit(cpu, &to_rm, vec_reg(cpu, in->reg), n, esize, vec_mask(cpu, in, n / esize));
    return FLOW_NEXT;
}
static enum flow store_m(struct cpu *cpu, const struct insn *in, unsigned esize, bool aligned)
{
    unsigned n = vec_bytes(in);
    u64 la;
    VEC_GATE();
    if (aligned)
        TRY(vec_aligned_la(cpu, in, n, ACCESS_WRITE, &la));
    TRY(vec_store(cpu, in, vec_reg(cpu, in->reg), n, esize, vec_mask(cpu, in, n / esize)));
    return FLOW_NEXT;
}
/* The fault of an aligned access comes before any other; then it is a move like the others. */
static enum flow load_aligned(struct cpu *cpu, const struct insn *in, insn_handler *load)
{
    u64 la;
    VEC_GATE();
    TRY(vec_aligned_la(cpu, in, vec_bytes(in), ACCESS_READ, &la));
    return load(cpu, in);
}

#define STORES(bits)                                                                                                   \
    static enum flow store##bits##_r(struct cpu *cpu, const struct insn *in) { return store_r(cpu, in, bits / 8); }    \
    static enum flow store##bits##_u(struct cpu *cpu, const struct insn *in) { return store_m(cpu, in, bits / 8, false); } \
    FAMILY_RM(vmov##bits##_store, store##bits##_r, store##bits##_u)
#define ALIGNED(bits)                                                                                                  \
    static enum flow store##bits##_a(struct cpu *cpu, const struct insn *in) { return store_m(cpu, in, bits / 8, true); } \
    static enum flow load##bits##_a(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        static insn_handler *const loads[4] = {vmov##bits##_16, vmov##bits##_32, vmov##bits##_64, vmov##bits##_general}; \
        return load_aligned(cpu, in, loads[in->osz]);                                                                  \
    }                                                                                                                  \
    FAMILY_RM(vmova##bits##_store, store##bits##_r, store##bits##_a)                                                   \
    FAMILY_ALL(vmova##bits, vmov##bits##_16, vmov##bits##_32, vmov##bits##_64, vmov##bits##_general, load##bits##_a,   \
               load##bits##_a, load##bits##_a, load##bits##_a)
STORES(8)
STORES(16)
STORES(32)
STORES(64)
ALIGNED(32)
ALIGNED(64)

/* ---- scalars ----------------------------------------------------------------------------------------------------- */

/* VMOVSS/VMOVSD between registers: the low element of rm (of reg, in the form that writes rm) over what vvvv holds.
 * One mask bit. */
static enum flow scalar_merge(struct cpu *cpu, const struct insn *in, unsigned to, unsigned from, unsigned esize)
{
    u8 r[16], old[VEC_BYTES];
    VEC_GATE();
    memcpy(old, vec_reg(cpu, to), esize);
    memcpy(r, vec_reg(cpu, in->vvvv), 16);
    if (vec_mask(cpu, in, 1))
        memcpy(r, vec_reg(cpu, from), esize);
    else if (in->flags & INSN_EVEX_Z)
        memset(r, 0, esize);
    else
        memcpy(r, old, esize);
    vec_put(cpu, to, r, 16);
    return FLOW_NEXT;
}
/* From memory everything above the element is cleared. */
static enum flow scalar_load(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u8 v[VEC_BYTES];
    VEC_GATE();
    u64 mask = vec_mask(cpu, in, 1);
    TRY(vec_load(cpu, in, v, esize, esize, mask));
    if (!mask && in->flags & INSN_EVEX_Z)
        memset(v, 0, esize);
    else if (!mask)
        memcpy(v, vec_reg(cpu, in->reg), esize);
    vec_put(cpu, in->reg, v, 16);
    return FLOW_NEXT;
}
static enum flow scalar_store(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    VEC_GATE();
    TRY(vec_store(cpu, in, vec_reg(cpu, in->reg), esize, esize, vec_mask(cpu, in, 1)));
    return FLOW_NEXT;
}
#define SCALAR(name, esize)                                                                                            \
    static enum flow name##_to_reg(struct cpu *cpu, const struct insn *in) { return scalar_merge(cpu, in, in->reg, in->rm, esize); } \
    static enum flow name##_to_rm(struct cpu *cpu, const struct insn *in) { return scalar_merge(cpu, in, in->rm, in->reg, esize); } \
    static enum flow name##_load(struct cpu *cpu, const struct insn *in) { return scalar_load(cpu, in, esize); }       \
    static enum flow name##_store(struct cpu *cpu, const struct insn *in) { return scalar_store(cpu, in, esize); }     \
    FAMILY_RM(v##name##_load, name##_to_reg, name##_load)                                                              \
    FAMILY_RM(v##name##_store, name##_to_rm, name##_store)
SCALAR(movss, 4)
SCALAR(movsd, 8)

/* VMOVQ: one quadword, the rest cleared. */
static enum flow movq_load(struct cpu *cpu, const struct insn *in)
{
    u64 v[VEC_BYTES / 8];
    VEC_GATE();
    TRY(vec_load(cpu, in, v, 8, 8, 1));
    vec_put(cpu, in->reg, v, 16);
    return FLOW_NEXT;
}
static enum flow movq_store(struct cpu *cpu, const struct insn *in)
{
    u64 v[2] = {0, 0};
    VEC_GATE();
    memcpy(v, vec_reg(cpu, in->reg), 8);
    if (in->flags & INSN_MEM)
        TRY(rm_write64(cpu, in, v[0]));
    else
        vec_put(cpu, in->rm, v, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(vmovq_load, movq_load)
FAMILY_ONE(vmovq_store, movq_store)

/* ---- halves: one quadword replaced, the other from vvvv ---------------------------------------------------------- */

static enum flow half_load(struct cpu *cpu, const struct insn *in, unsigned place, unsigned from_half)
{
    u64 v[2], w;
    VEC_GATE();
    if (in->flags & INSN_MEM)
        TRY(rm_read64(cpu, in, &w));
    else
        w = cpu->fpu.v[in->rm & 31][from_half];
    memcpy(v, vec_reg(cpu, in->vvvv), 16);
    v[place] = w;
    vec_put(cpu, in->reg, v, 16);
    return FLOW_NEXT;
}
static enum flow half_store(struct cpu *cpu, const struct insn *in, unsigned half)
{
    VEC_GATE();
    TRY(rm_write64(cpu, in, cpu->fpu.v[in->reg & 31][half]));
    return FLOW_NEXT;
}
/* VMOVLPS/VMOVLPD from memory, VMOVHLPS; VMOVHPS/VMOVHPD from memory, VMOVLHPS. */
static enum flow movlps_load(struct cpu *cpu, const struct insn *in) { return half_load(cpu, in, 0, 1); }
static enum flow movhps_load(struct cpu *cpu, const struct insn *in) { return half_load(cpu, in, 1, 0); }
static enum flow movlps_store(struct cpu *cpu, const struct insn *in) { return half_store(cpu, in, 0); }
static enum flow movhps_store(struct cpu *cpu, const struct insn *in) { return half_store(cpu, in, 1); }
FAMILY_ONE(vmovlps_load, movlps_load)
FAMILY_ONE(vmovhps_load, movhps_load)
FAMILY_ONE(vmovlps_store, movlps_store)
FAMILY_ONE(vmovhps_store, movhps_store)

/* ---- general registers ------------------------------------------------------------------------------------------- */

/* VMOVD and VMOVQ: in->osz knows that W means nothing outside 64-bit code. */
static enum flow movd_load(struct cpu *cpu, const struct insn *in)
{
    u64 v[2] = {0, 0};
    VEC_GATE();
    TRY(rm_get(cpu, in, in->osz, &v[0]));
    vec_put(cpu, in->reg, v, 16);
    return FLOW_NEXT;
}
static enum flow movd_store(struct cpu *cpu, const struct insn *in)
{
    VEC_GATE();
    TRY(rm_set(cpu, in, in->osz, cpu->fpu.v[in->reg & 31][0]));
    return FLOW_NEXT;
}
FAMILY_ONE(vmovd_load, movd_load)
FAMILY_ONE(vmovd_store, movd_store)

/* Sign bits of elements to a general register. */
static enum flow sign_bits(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u64 r = 0;
    VEC_GATE();
    const u8 *s = vec_reg(cpu, in->rm);
    for (unsigned i = 0; i < vec_bytes(in) / esize; i++)
        r |= (u64)(s[i * esize + esize - 1] >> 7) << i;
    reg64_set(cpu, in->reg, r);
    return FLOW_NEXT;
}
static enum flow movmskps(struct cpu *cpu, const struct insn *in) { return sign_bits(cpu, in, 4); }
static enum flow movmskpd(struct cpu *cpu, const struct insn *in) { return sign_bits(cpu, in, 8); }
static enum flow pmovmskb(struct cpu *cpu, const struct insn *in) { return sign_bits(cpu, in, 1); }
FAMILY_ONE(vmovmskps, movmskps)
FAMILY_ONE(vmovmskpd, movmskpd)
FAMILY_ONE(vpmovmskb, pmovmskb)

/* VPINSRB/W/D/Q and VPEXTRB/W/D/Q: an element of the low 128 bits; in memory only the element. */
static enum flow insert_element(struct cpu *cpu, const struct insn *in, unsigned osz)
{
    u8 v[16];
    u64 value;
    VEC_GATE();
    if (in->flags & INSN_MEM)
        TRY(rm_get(cpu, in, osz, &value));
    else
        value = reg64(cpu, in->rm);
    memcpy(v, vec_reg(cpu, in->vvvv), 16);
    memcpy(v + (((unsigned)in->imm << osz) & 15), &value, 1u << osz);
    vec_put(cpu, in->reg, v, 16);
    return FLOW_NEXT;
}
static enum flow extract_element(struct cpu *cpu, const struct insn *in, unsigned osz, unsigned from, unsigned to)
{
    u64 value = 0;
    VEC_GATE();
    memcpy(&value, (u8 *)vec_reg(cpu, from) + (((unsigned)in->imm << osz) & 15), 1u << osz);
    if (in->flags & INSN_MEM)
        TRY(rm_set(cpu, in, osz, value));
    else
        reg64_set(cpu, to, value);
    return FLOW_NEXT;
}
static enum flow pinsrb(struct cpu *cpu, const struct insn *in) { return insert_element(cpu, in, OSZ_8); }
static enum flow pinsrw(struct cpu *cpu, const struct insn *in) { return insert_element(cpu, in, OSZ_16); }
static enum flow pinsrd(struct cpu *cpu, const struct insn *in) { return insert_element(cpu, in, in->osz); }
static enum flow pextrb(struct cpu *cpu, const struct insn *in) { return extract_element(cpu, in, OSZ_8, in->reg, in->rm); }
static enum flow pextrw(struct cpu *cpu, const struct insn *in) { return extract_element(cpu, in, OSZ_16, in->reg, in->rm); }
static enum flow pextrw_reg(struct cpu *cpu, const struct insn *in) { return extract_element(cpu, in, OSZ_16, in->rm, in->reg); }
static enum flow pextrd(struct cpu *cpu, const struct insn *in) { return extract_element(cpu, in, in->osz, in->reg, in->rm); }
static enum flow extractps(struct cpu *cpu, const struct insn *in) { return extract_element(cpu, in, OSZ_32, in->reg, in->rm); }
FAMILY_ONE(vpinsrb, pinsrb)
FAMILY_ONE(vpinsrw, pinsrw)
FAMILY_ONE(vpinsrd, pinsrd)
FAMILY_ONE(vpextrb, pextrb)
FAMILY_ONE(vpextrw, pextrw)
FAMILY_ONE(vpextrw_reg, pextrw_reg)
FAMILY_ONE(vpextrd, pextrd)
FAMILY_ONE(vextractps, extractps)

static enum flow insertps(struct cpu *cpu, const struct insn *in)
{
    u32 v[4], value;
    unsigned imm = (unsigned)in->imm;
    VEC_GATE();
    if (in->flags & INSN_MEM)
        TRY(rm_read32(cpu, in, &value));
    else
        value = load32((u8 *)vec_reg(cpu, in->rm) + 4 * (imm >> 6 & 3));
    memcpy(v, vec_reg(cpu, in->vvvv), 16);
    v[imm >> 4 & 3] = value;
    for (unsigned i = 0; i < 4; i++)
        if (imm >> i & 1)
            v[i] = 0;
    vec_put(cpu, in->reg, v, 16);
    return FLOW_NEXT;
}
FAMILY_ONE(vinsertps, insertps)

/* ---- under the sign bits of a vector, and whole registers cleared ------------------------------------------------ */

static u64 signs(const u8 *v, unsigned n, unsigned esize)
{
    u64 mask = 0;
    for (unsigned i = 0; i < n / esize; i++)
        mask |= (u64)(v[i * esize + esize - 1] >> 7) << i;
    return mask;
}
/* VMASKMOV and VPMASKMOV: the mask is vvvv; elements without a mask bit are zero, and are not read. */
static enum flow maskmov_load(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u8 v[VEC_BYTES], r[VEC_BYTES] = {0};
    unsigned n = vec_bytes(in);
    VEC_GATE();
    u64 mask = signs(vec_reg(cpu, in->vvvv), n, esize);
    TRY(vec_load(cpu, in, v, n, esize, mask));
    for (unsigned i = 0; i < n / esize; i++)
        if (mask >> i & 1)
            memcpy(r + i * esize, v + i * esize, esize);
    vec_put(cpu, in->reg, r, n);
    return FLOW_NEXT;
}
static enum flow maskmov_store(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    unsigned n = vec_bytes(in);
    VEC_GATE();
    TRY(vec_store(cpu, in, vec_reg(cpu, in->reg), n, esize, signs(vec_reg(cpu, in->vvvv), n, esize)));
    return FLOW_NEXT;
}
static enum flow maskmov32_load(struct cpu *cpu, const struct insn *in) { return maskmov_load(cpu, in, 4); }
static enum flow maskmov64_load(struct cpu *cpu, const struct insn *in) { return maskmov_load(cpu, in, 8); }
static enum flow maskmov32_store(struct cpu *cpu, const struct insn *in) { return maskmov_store(cpu, in, 4); }
static enum flow maskmov64_store(struct cpu *cpu, const struct insn *in) { return maskmov_store(cpu, in, 8); }
FAMILY_ONE(vmaskmov32_load, maskmov32_load)
FAMILY_ONE(vmaskmov64_load, maskmov64_load)
FAMILY_ONE(vmaskmov32_store, maskmov32_store)
FAMILY_ONE(vmaskmov64_store, maskmov64_store)

static enum flow maskmovdqu(struct cpu *cpu, const struct insn *in)
{
    VEC_GATE();
    return sse_mask_store(cpu, in, vec_reg(cpu, in->reg), vec_reg(cpu, in->rm), 16);
}
FAMILY_ONE(vmaskmovdqu, maskmovdqu)

/* Outside 64-bit code only the first eight registers exist for them; ZMM16 and above are never touched. */
static enum flow zeroupper(struct cpu *cpu, const struct insn *in)
{
    VEC_GATE();
    for (unsigned i = 0; i < (in->flags & INSN_64 ? 16u : 8u); i++)
        vec_clear_above(cpu, i, 16);
    return FLOW_NEXT;
}
static enum flow zeroall(struct cpu *cpu, const struct insn *in)
{
    VEC_GATE();
    for (unsigned i = 0; i < (in->flags & INSN_64 ? 16u : 8u); i++)
        vec_clear_above(cpu, i, 0);
    return FLOW_NEXT;
}
FAMILY_ONE(vzeroupper, zeroupper)
FAMILY_ONE(vzeroall, zeroall)

static enum flow ldmxcsr(struct cpu *cpu, const struct insn *in)
{
    u32 v;
    VEC_GATE();
    TRY(rm_read32(cpu, in, &v));
    if (v & ~0xffffu)
        return cpu_raise_gp(cpu, 0);
    cpu->fpu.mxcsr = v;
    return FLOW_NEXT;
}
static enum flow stmxcsr(struct cpu *cpu, const struct insn *in)
{
    VEC_GATE();
    TRY(rm_write32(cpu, in, cpu->fpu.mxcsr));
    return FLOW_NEXT;
}
FAMILY_ONE(vldmxcsr, ldmxcsr)
FAMILY_ONE(vstmxcsr, stmxcsr)

/* ---- widened and narrowed elements ------------------------------------------------------------------------------- */

/* VPMOVSX and VPMOVZX: only what is widened is read. */
#define WIDEN(name, from, to)                                                                                          \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        from v[VEC_BYTES / sizeof(from)];                                                                              \
        to r[VEC_BYTES / sizeof(to)];                                                                                  \
        unsigned lanes = vec_bytes(in) / sizeof(to);                                                                   \
        u64 mask = vec_mask(cpu, in, lanes);                                                                           \
        VEC_GATE();                                                                                                    \
        TRY(vec_load(cpu, in, v, lanes * sizeof(from), sizeof(from), mask));                                           \
        for (unsigned i = 0; i < VEC_BYTES / sizeof(to); i++)                                                          \
            r[i] = (to)v[i];                                                                                           \
        vec_commit(cpu, in, r, vec_bytes(in), sizeof(to), mask);                                                       \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(v##name, name)
WIDEN(pmovsxbw, i8, i16)
WIDEN(pmovsxbd, i8, i32)
WIDEN(pmovsxbq, i8, i64)
WIDEN(pmovsxwd, i16, i32)
WIDEN(pmovsxwq, i16, i64)
WIDEN(pmovsxdq, i32, i64)
WIDEN(pmovzxbw, u8, u16)
WIDEN(pmovzxbd, u8, u32)
WIDEN(pmovzxbq, u8, u64)
WIDEN(pmovzxwd, u16, u32)
WIDEN(pmovzxwq, u16, u64)
WIDEN(pmovzxdq, u32, u64)

/* VPMOVQB and its like: truncated, or saturated as signed or unsigned numbers; rm is the destination. */
#define NARROW(name, from, to, expr)                                                                                   \
    static enum flow name(struct cpu *cpu, const struct insn *in)                                                      \
    {                                                                                                                  \
        from v[VEC_BYTES / sizeof(from)];                                                                              \
        to r[VEC_BYTES / sizeof(to)] = {0};                                                                            \
        unsigned lanes = vec_bytes(in) / sizeof(from);                                                                 \
        u64 mask = vec_mask(cpu, in, lanes);                                                                           \
        struct insn to_rm = *in;                                                                                       \
        VEC_GATE();                                                                                                    \
        memcpy(v, vec_reg(cpu, in->reg), sizeof v);                                                                    \
        for (unsigned i = 0; i < VEC_BYTES / sizeof(from); i++) {                                                      \
            from x = v[i];                                                                                             \
            r[i] = (to)(expr);                                                                                         \
        }                                                                                                              \
        if (in->flags & INSN_MEM) {                                                                                    \
            TRY(vec_store(cpu, in, r, lanes * sizeof(to), sizeof(to), mask));                                          \
            return FLOW_NEXT;                                                                                          \
        }                                                                                                              \
        to_rm.reg = in->rm;                                                                                            \
        vec_commit(cpu, &to_rm, r, lanes * sizeof(to), sizeof(to), mask);                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(v##name, name)
#define NARROW_ALL(pair, bits_from, bits_to, least, most, umost)                                                       \
    NARROW(pmov##pair, u##bits_from, u##bits_to, x)                                                                    \
    NARROW(pmovs##pair, i##bits_from, i##bits_to, x > most ? most : x < least ? least : x)                             \
    NARROW(pmovus##pair, u##bits_from, u##bits_to, x > umost ? umost : x)
NARROW_ALL(qb, 64, 8, INT8_MIN, INT8_MAX, UINT8_MAX)
NARROW_ALL(qw, 64, 16, INT16_MIN, INT16_MAX, UINT16_MAX)
NARROW_ALL(qd, 64, 32, INT32_MIN, INT32_MAX, UINT32_MAX)
NARROW_ALL(db, 32, 8, INT8_MIN, INT8_MAX, UINT8_MAX)
NARROW_ALL(dw, 32, 16, INT16_MIN, INT16_MAX, UINT16_MAX)
NARROW_ALL(wb, 16, 8, INT8_MIN, INT8_MAX, UINT8_MAX)
