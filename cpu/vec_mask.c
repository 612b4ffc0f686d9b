/* Opmask registers: their own instructions, comparisons and tests of vectors into them, what turns masks into vectors
 * and back, blends by mask; and the tests of AVX, whose result is in the flags.
 *
 * Kept true: an instruction that writes an opmask clears the bits above those that it computes, up to bit 63.
 * [SDM2 "KMOVW/KMOVB/KMOVQ/KMOVD—...", "VPCMPD/VPCMPUD—...", "VPTESTMB/...—...", "VTESTPD/VTESTPS—..."]
 */
#include "cpu/flags.h"
#include "cpu/vector.h"

/* ---- opmask instructions ----------------------------------------------------------------------------------------- */

#define K_GATE() VEC_GATE_FOR(XCR0_AVX512)

/* rm of 8 << osz bits: opmask or memory. */
static bool k_source(struct cpu *cpu, const struct insn *in, unsigned osz, u64 *v)
{
    if (in->flags & INSN_MEM)
        return rm_get(cpu, in, osz, v);
    *v = cpu->fpu.k[in->rm & 7] & osz_mask(osz);
    return true;
}

#define K_WIDTHS(X) X(b, OSZ_8) X(w, OSZ_16) X(d, OSZ_32) X(q, OSZ_64)

#define K_MOVES(letter, osz)                                                                                           \
    static enum flow kmov##letter(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        u64 v;                                                                                                         \
        K_GATE();                                                                                                      \
        TRY(k_source(cpu, in, osz, &v));                                                                               \
        cpu->fpu.k[in->reg & 7] = v;                                                                                   \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow kmov##letter##_store(struct cpu *cpu, const struct insn *in)                                      \
    {                                                                                                                  \
        K_GATE();                                                                                                      \
        TRY(rm_set(cpu, in, osz, cpu->fpu.k[in->reg & 7]));                                                            \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow kmov##letter##_from_gpr(struct cpu *cpu, const struct insn *in)                                   \
    {                                                                                                                  \
        K_GATE();                                                                                                      \
        cpu->fpu.k[in->reg & 7] = reg64(cpu, in->rm) & osz_mask(osz);                                                  \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow kmov##letter##_to_gpr(struct cpu *cpu, const struct insn *in)                                     \
    {                                                                                                                  \
        K_GATE();                                                                                                      \
        reg64_set(cpu, in->reg, cpu->fpu.k[in->rm & 7] & osz_mask(osz));                                               \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(kmov##letter, kmov##letter)                                                                             \
    FAMILY_ONE(kmov##letter##_store, kmov##letter##_store)                                                             \
    FAMILY_ONE(kmov##letter##_from_gpr, kmov##letter##_from_gpr)                                                       \
    FAMILY_ONE(kmov##letter##_to_gpr, kmov##letter##_to_gpr)
K_WIDTHS(K_MOVES)

/* x from VEX.vvvv, y from rm. */
#define K_LOGIC(name, letter, osz, expr)                                                                               \
    static enum flow name##letter(struct cpu *cpu, const struct insn *in)                                              \
    {                                                                                                                  \
        K_GATE();                                                                                                      \
        u64 x = cpu->fpu.k[in->vvvv & 7] & osz_mask(osz), y = cpu->fpu.k[in->rm & 7] & osz_mask(osz);                  \
        (void)x;                                                                                                       \
        cpu->fpu.k[in->reg & 7] = (expr) & osz_mask(osz);                                                              \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(name##letter, name##letter)
#define K_ALL_LOGIC(letter, osz)                                                                                       \
    K_LOGIC(kand, letter, osz, x & y)                                                                                  \
    K_LOGIC(kandn, letter, osz, ~x & y)                                                                                \
    K_LOGIC(kor, letter, osz, x | y)                                                                                   \
    K_LOGIC(kxnor, letter, osz, ~(x ^ y))                                                                              \
    K_LOGIC(kxor, letter, osz, x ^ y)                                                                                  \
    K_LOGIC(kadd, letter, osz, x + y)                                                                                  \
    K_LOGIC(knot, letter, osz, ~y)                                                                                     \
    K_LOGIC(kshiftl, letter, osz, (u8)in->imm < osz_bits(osz) ? y << (u8)in->imm : 0)                                  \
    K_LOGIC(kshiftr, letter, osz, (u8)in->imm < osz_bits(osz) ? y >> (u8)in->imm : 0)
K_WIDTHS(K_ALL_LOGIC)
K_LOGIC(kunpck, bw, OSZ_16, x << 8 | (y & 0xff))
K_LOGIC(kunpck, wd, OSZ_32, x << 16 | (y & 0xffff))
K_LOGIC(kunpck, dq, OSZ_64, x << 32 | (y & 0xffffffff))

#define K_TESTS(letter, osz)                                                                                           \
    static enum flow kortest##letter(struct cpu *cpu, const struct insn *in)                                           \
    {                                                                                                                  \
        K_GATE();                                                                                                      \
        u64 v = (cpu->fpu.k[in->reg & 7] | cpu->fpu.k[in->rm & 7]) & osz_mask(osz);                                    \
        flags_set_status(cpu, (v == 0 ? FL_ZF : 0) | (v == osz_mask(osz) ? FL_CF : 0));                                \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    static enum flow ktest##letter(struct cpu *cpu, const struct insn *in)                                             \
    {                                                                                                                  \
        K_GATE();                                                                                                      \
        u64 x = cpu->fpu.k[in->reg & 7], y = cpu->fpu.k[in->rm & 7] & osz_mask(osz);                                   \
        flags_set_status(cpu, (x & y ? 0 : FL_ZF) | (~x & y ? 0 : FL_CF));                                             \
        return FLOW_NEXT;                                                                                              \
    }                                                                                                                  \
    FAMILY_ONE(kortest##letter, kortest##letter)                                                                       \
    FAMILY_ONE(ktest##letter, ktest##letter)
K_WIDTHS(K_TESTS)

/* ---- comparisons and tests of elements into an opmask ------------------------------------------------------------ */

typedef u64 element_test(const void *a, const void *b, unsigned imm, unsigned n);

/* An inactive element's bit is 0. */
static enum flow compare(struct cpu *cpu, const struct insn *in, unsigned esize, element_test *test)
{
    unsigned n = vec_bytes(in), lanes = n / esize;
    u64 mask = vec_mask(cpu, in, lanes);
    u8 b[VEC_BYTES];
    VEC_GATE();
    TRY(vec_load(cpu, in, b, n, esize, vec_memory_mask(cpu, in, lanes)));
    cpu->fpu.k[in->reg & 7] = test(vec_reg(cpu, in->vvvv), b, (unsigned)in->imm, n) & mask;
    return FLOW_NEXT;
}

#define COMPARE(name, type, expr)                                                                                      \
    static u64 name##_test(const void *a, const void *b, unsigned imm, unsigned n)                                     \
    {                                                                                                                  \
        type p[VEC_BYTES / sizeof(type)], q[VEC_BYTES / sizeof(type)];                                                 \
        u64 r = 0;                                                                                                     \
        (void)imm;                                                                                                     \
        memcpy(p, a, n);                                                                                               \
        memcpy(q, b, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++) {                                                              \
            type x = p[i], y = q[i];                                                                                   \
            r |= (u64)((expr) ? 1 : 0) << i;                                                                           \
        }                                                                                                              \
        return r;                                                                                                      \
    }                                                                                                                  \
    static enum flow name(struct cpu *cpu, const struct insn *in) { return compare(cpu, in, sizeof(type), name##_test); } \
    FAMILY_ONE(v##name, name)
/* EQ LT LE FALSE NE NLT NLE TRUE */
#define RELATION(x, y) ((imm & 4) != 0) != ((imm & 3) == 0 ? x == y : (imm & 3) == 1 ? x < y : (imm & 3) == 2 ? x <= y : 0)
COMPARE(pcmpb, i8, RELATION(x, y))
COMPARE(pcmpub, u8, RELATION(x, y))
COMPARE(pcmpw, i16, RELATION(x, y))
COMPARE(pcmpuw, u16, RELATION(x, y))
COMPARE(pcmpd, i32, RELATION(x, y))
COMPARE(pcmpud, u32, RELATION(x, y))
COMPARE(pcmpq, i64, RELATION(x, y))
COMPARE(pcmpuq, u64, RELATION(x, y))
COMPARE(pcmpeqb_k, i8, x == y)
COMPARE(pcmpeqw_k, i16, x == y)
COMPARE(pcmpeqd_k, i32, x == y)
COMPARE(pcmpeqq_k, i64, x == y)
COMPARE(pcmpgtb_k, i8, x > y)
COMPARE(pcmpgtw_k, i16, x > y)
COMPARE(pcmpgtd_k, i32, x > y)
COMPARE(pcmpgtq_k, i64, x > y)
COMPARE(ptestmb, u8, x & y)
COMPARE(ptestmw, u16, x & y)
COMPARE(ptestmd, u32, x & y)
COMPARE(ptestmq, u64, x & y)
COMPARE(ptestnmb, u8, !(x & y))
COMPARE(ptestnmw, u16, !(x & y))
COMPARE(ptestnmd, u32, !(x & y))
COMPARE(ptestnmq, u64, !(x & y))

/* VPSHUFBITQMB: each byte of rm chooses a bit of its quadword of vvvv. */
static u64 shufbit_test(const void *a, const void *b, unsigned imm, unsigned n)
{
    const u8 *control = b;
    u64 r = 0;
    (void)imm;
    for (unsigned i = 0; i < n; i++)
        r |= (load64((const u8 *)a + (i & ~7u)) >> (control[i] & 63) & 1) << i;
    return r;
}
static enum flow pshufbitqmb(struct cpu *cpu, const struct insn *in) { return compare(cpu, in, 1, shufbit_test); }
FAMILY_ONE(vpshufbitqmb, pshufbitqmb)

/* ---- masks and vectors ------------------------------------------------------------------------------------------- */

static enum flow mask_to_vector(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u8 r[VEC_BYTES];
    unsigned n = vec_bytes(in);
    u64 k = cpu->fpu.k[in->rm & 7];
    VEC_GATE();
    for (unsigned i = 0; i < n / esize; i++)
        memset(r + i * esize, k >> i & 1 ? 0xff : 0, esize);
    vec_put(cpu, in->reg, r, n);
    return FLOW_NEXT;
}
static enum flow vector_to_mask(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u64 k = 0;
    VEC_GATE();
    const u8 *v = vec_reg(cpu, in->rm);
    for (unsigned i = 0; i < vec_bytes(in) / esize; i++)
        k |= (u64)(v[i * esize + esize - 1] >> 7) << i;
    cpu->fpu.k[in->reg & 7] = k;
    return FLOW_NEXT;
}
/* VPBROADCASTMB2Q, VPBROADCASTMW2D: the low bits of the mask as a number, in every element. */
static enum flow broadcast_mask(struct cpu *cpu, const struct insn *in, unsigned esize, u64 bits)
{
    u8 r[VEC_BYTES];
    unsigned n = vec_bytes(in);
    u64 k = cpu->fpu.k[in->rm & 7] & bits;
    VEC_GATE();
    for (unsigned i = 0; i < n; i += esize)
        memcpy(r + i, &k, esize);
    vec_put(cpu, in->reg, r, n);
    return FLOW_NEXT;
}
/* VPBLENDM and VBLENDMPS/PD: rm where the mask is set, else vvvv (or zero). */
static enum flow blend_by_mask(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u8 b[VEC_BYTES], r[VEC_BYTES];
    unsigned n = vec_bytes(in);
    u64 mask = vec_mask(cpu, in, n / esize);
    VEC_GATE();
    TRY(vec_load(cpu, in, b, n, esize, mask));
    memcpy(r, vec_reg(cpu, in->vvvv), n);
    for (unsigned i = 0; i < n / esize; i++) {
        if (mask >> i & 1)
            memcpy(r + i * esize, b + i * esize, esize);
        else if (in->flags & INSN_EVEX_Z)
            memset(r + i * esize, 0, esize);
    }
    vec_put(cpu, in->reg, r, n);
    return FLOW_NEXT;
}
#define MASK_AND_VECTOR(letter, esize)                                                                                 \
    static enum flow pmovm2##letter(struct cpu *cpu, const struct insn *in) { return mask_to_vector(cpu, in, esize); } \
    static enum flow pmov##letter##2m(struct cpu *cpu, const struct insn *in) { return vector_to_mask(cpu, in, esize); } \
    static enum flow pblendm##letter(struct cpu *cpu, const struct insn *in) { return blend_by_mask(cpu, in, esize); } \
    FAMILY_ONE(vpmovm2##letter, pmovm2##letter)                                                                        \
    FAMILY_ONE(vpmov##letter##2m, pmov##letter##2m)                                                                    \
    FAMILY_ONE(vpblendm##letter, pblendm##letter)
MASK_AND_VECTOR(b, 1)
MASK_AND_VECTOR(w, 2)
MASK_AND_VECTOR(d, 4)
MASK_AND_VECTOR(q, 8)
static enum flow pbroadcastmb2q(struct cpu *cpu, const struct insn *in) { return broadcast_mask(cpu, in, 8, 0xff); }
static enum flow pbroadcastmw2d(struct cpu *cpu, const struct insn *in) { return broadcast_mask(cpu, in, 4, 0xffff); }
FAMILY_ONE(vpbroadcastmb2q, pbroadcastmb2q)
FAMILY_ONE(vpbroadcastmw2d, pbroadcastmw2d)

/* ---- tests of AVX: ZF for reg & rm, CF for ~reg & rm, of all bits or of sign bits only --------------------------- */

static enum flow test_flags(struct cpu *cpu, const struct insn *in, u64 bits)
{
    u8 buffer[VEC_BYTES];
    unsigned n = vec_bytes(in);
    u64 both = 0, only = 0;
    VEC_GATE();
    const u8 *b = vec_source(cpu, in, n, buffer), *a = vec_reg(cpu, in->reg);
    if (!b)
        return cpu_raise_fault(cpu);
    for (unsigned i = 0; i < n; i += 8) {
        both |= load64(a + i) & load64(b + i);
        only |= ~load64(a + i) & load64(b + i);
    }
    flags_set_status(cpu, (both & bits ? 0 : FL_ZF) | (only & bits ? 0 : FL_CF));
    return FLOW_NEXT;
}
static enum flow ptest(struct cpu *cpu, const struct insn *in) { return test_flags(cpu, in, ~0ull); }
static enum flow testps(struct cpu *cpu, const struct insn *in) { return test_flags(cpu, in, 0x8000000080000000ull); }
static enum flow testpd(struct cpu *cpu, const struct insn *in) { return test_flags(cpu, in, 0x8000000000000000ull); }
FAMILY_ONE(vptest, ptest)
FAMILY_ONE(vtestps, testps)
FAMILY_ONE(vtestpd, testpd)
