/* VEX and EVEX instructions that rearrange elements: packs, unpacks, shuffles within 128-bit lanes, permutations
 * across them, alignment, blends, broadcasts, insertion and extraction of lanes, compression and expansion.
 *
 * Kept true: an index selects modulo the number of elements, whatever its other bits hold.
 * [SDM2 "PUNPCKLBW/...—...", "VPERMILPS—...", "VPERMI2W/D/Q/PS/PD—...", "VALIGND/VALIGNQ—...", "VPCOMPRESSD—...",
 * "VINSERTF128/...—..."]
 */
#include "cpu/packed.h"
#include "cpu/vector.h"

/* ---- packs and unpacks, lane by lane ----------------------------------------------------------------------------- */

/* Masked by elements of `esize` bytes; the broadcast element of packs is the wider, that of the source. */
#define LANES(name, esize, bsize)                                                                                      \
    VEC_LANES_OP(v##name, packed_##name)                                                                               \
    VEC_FAMILY(v##name, esize, bsize, v##name##_lanes)
LANES(packsswb, 1, 2)
LANES(packuswb, 1, 2)
LANES(packssdw, 2, 4)
LANES(packusdw, 2, 4)
LANES(punpcklbw, 1, 1)
LANES(punpcklwd, 2, 2)
LANES(punpckldq, 4, 4)
LANES(punpcklqdq, 8, 8)
LANES(punpckhbw, 1, 1)
LANES(punpckhwd, 2, 2)
LANES(punpckhdq, 4, 4)
LANES(punpckhqdq, 8, 8)
LANES(pshufb, 1, 1)
#undef LANES
VEC_LANES_OP_IMM(vpalignr, packed_palignr)
VEC_FAMILY(vpalignr, 1, 1, vpalignr_lanes)

/* ---- shuffles within lanes --------------------------------------------------------------------------------------- */

/* Element i of each lane comes from FROM (a function of lane contents p of vvvv, q of rm, place i, immediate). */
#define SHUFFLE(name, type, from)                                                                                      \
    HOT_INLINE void name##_all(void *d, const void *a, const void *b, unsigned imm, unsigned n)                        \
    {                                                                                                                  \
        enum { COUNT = 16 / sizeof(type) };                                                                            \
        type v[VEC_BYTES / sizeof(type)], w[VEC_BYTES / sizeof(type)], r[VEC_BYTES / sizeof(type)];                    \
        memcpy(v, a, n);                                                                                               \
        memcpy(w, b, n);                                                                                               \
        for (unsigned lane = 0; lane < n / sizeof(type); lane += COUNT) {                                              \
            const type *p = v + lane, *q = w + lane;                                                                   \
            (void)p, (void)q, (void)imm;                                                                               \
            for (unsigned i = 0; i < COUNT; i++)                                                                       \
                r[lane + i] = from;                                                                                    \
        }                                                                                                              \
        memcpy(d, r, n);                                                                                               \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_all)
/* clang-format off */
SHUFFLE(vpshufd,   u32, q[imm >> (2 * i) & 3])
SHUFFLE(vpshuflw,  u16, i < 4 ? q[imm >> (2 * i) & 3] : q[i])
SHUFFLE(vpshufhw,  u16, i < 4 ? q[i] : q[4 + (imm >> (2 * (i - 4)) & 3)])
SHUFFLE(vshufps,   u32, (i < 2 ? p : q)[imm >> (2 * i) & 3])
SHUFFLE(vpermilps, u32, p[q[i] & 3])
SHUFFLE(vpermilpd, u64, p[q[i] >> 1 & 1])
SHUFFLE(vpermilps_imm, u32, q[imm >> (2 * i) & 3])
SHUFFLE(vmovsldup, u32, q[i & 2])
SHUFFLE(vmovshdup, u32, q[i | 1])
/* Of doubles each lane has its own two bits of the immediate. */
SHUFFLE(vshufpd,   u64, (i == 0 ? p : q)[imm >> (lane + i) & 1])
SHUFFLE(vpermilpd_imm, u64, q[imm >> (lane + i) & 1])
/* clang-format on */

/* VMOVDDUP: of 128 bits only the low half is read. */
HOT_INLINE void vec_movddup(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u64 v[VEC_BYTES / 8];
    (void)a, (void)imm;
    memcpy(v, b, n);
    for (unsigned i = 0; i < n / 8; i += 2)
        v[i + 1] = v[i];
    memcpy(d, v, n);
}
VEC_FAMILY(vmovddup_wide, 8, 8, vec_movddup)
static enum flow movddup_128(struct cpu *cpu, const struct insn *in)
{
    u64 v[VEC_BYTES / 8];
    u64 mask = vec_mask(cpu, in, 2);
    VEC_GATE();
    TRY(vec_load(cpu, in, v, 8, 8, 1));
    v[1] = v[0];
    vec_commit(cpu, in, v, 16, 8, mask);
    return FLOW_NEXT;
}
static enum flow movddup_general(struct cpu *cpu, const struct insn *in)
{
    return in->vl ? vmovddup_wide_general(cpu, in) : movddup_128(cpu, in);
}
FAMILY_SIZES(vmovddup, movddup_128, vmovddup_wide_32, vmovddup_wide_64, movddup_general)

/* ---- permutations over the whole vector -------------------------------------------------------------------------- */

/* Indices in vvvv, elements in rm. */
#define PERMUTE(name, type)                                                                                            \
    HOT_INLINE void name##_all(void *d, const void *a, const void *b, unsigned imm, unsigned n)                        \
    {                                                                                                                  \
        type index[VEC_BYTES / sizeof(type)], v[VEC_BYTES / sizeof(type)], r[VEC_BYTES / sizeof(type)];                \
        (void)imm;                                                                                                     \
        memcpy(index, a, n);                                                                                           \
        memcpy(v, b, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++)                                                                \
            r[i] = v[index[i] & (n / sizeof(type) - 1)];                                                               \
        memcpy(d, r, n);                                                                                               \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_all)
PERMUTE(vpermb, u8)
PERMUTE(vpermw, u16)
PERMUTE(vpermd, u32)
PERMUTE(vpermq, u64)

/* From the table of two vectors, first:second. */
#define PERMUTE2(name, type, index_of, first_of)                                                                       \
    HOT_INLINE void name##_all(void *d, const void *a, const void *b, unsigned imm, unsigned n)                        \
    {                                                                                                                  \
        type index[VEC_BYTES / sizeof(type)], v[2 * VEC_BYTES / sizeof(type)], r[VEC_BYTES / sizeof(type)];            \
        (void)imm;                                                                                                     \
        memcpy(index, index_of, n);                                                                                    \
        memcpy(v, first_of, n);                                                                                        \
        memcpy(v + n / sizeof(type), b, n);                                                                            \
        for (unsigned i = 0; i < n / sizeof(type); i++)                                                                \
            r[i] = v[index[i] & (2 * n / sizeof(type) - 1)];                                                           \
        memcpy(d, r, n);                                                                                               \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_all)
PERMUTE2(vpermi2b, u8, d, a)
PERMUTE2(vpermi2w, u16, d, a)
PERMUTE2(vpermi2d, u32, d, a)
PERMUTE2(vpermi2q, u64, d, a)
PERMUTE2(vpermt2b, u8, a, d)
PERMUTE2(vpermt2w, u16, a, d)
PERMUTE2(vpermt2d, u32, a, d)
PERMUTE2(vpermt2q, u64, a, d)

/* VPERMQ and VPERMPD by an immediate: four quadwords of each 256 bits. */
HOT_INLINE void vec_permq_imm(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u64 v[VEC_BYTES / 8], r[VEC_BYTES / 8];
    (void)a;
    memcpy(v, b, n);
    for (unsigned i = 0; i < n / 8; i++)
        r[i] = v[(i & ~3u & (n / 8 - 1)) + (imm >> (2 * (i & 3)) & 3 & (n / 8 - 1))];
    memcpy(d, r, n);
}
VEC_FAMILY(vpermq_imm, 8, 8, vec_permq_imm)

/* VPERM2F128 and VPERM2I128: each half is one of four, or zero. */
HOT_INLINE void vec_perm2f128(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u8 v[64] = {0}, r[32];
    memcpy(v, a, n < 32 ? n : 32);
    memcpy(v + 32, b, n < 32 ? n : 32);
    for (unsigned i = 0; i < 2; i++) {
        unsigned control = imm >> (4 * i);
        if (control & 8)
            memset(r + 16 * i, 0, 16);
        else
            memcpy(r + 16 * i, v + 16 * (control & 3), 16);
    }
    memcpy(d, r, n < 32 ? n : 32);
}
VEC_FAMILY(vperm2f128, 16, 16, vec_perm2f128)

/* VSHUFF32X4 and its like: the lower lanes from vvvv, the upper from rm. 256 bits: one bit a lane, 512: two. */
HOT_INLINE void vec_shuf_lanes(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u8 r[VEC_BYTES];
    unsigned lanes = n / 16, bits = lanes == 4 ? 2 : 1;
    for (unsigned i = 0; i < lanes; i++)
        memcpy(r + 16 * i, (const u8 *)(i < lanes / 2 ? a : b) + 16 * (imm >> (bits * i) & (lanes - 1)), 16);
    memcpy(d, r, n);
}
VEC_FAMILY(vshuf32x4, 4, 4, vec_shuf_lanes)
VEC_FAMILY(vshuf64x2, 8, 8, vec_shuf_lanes)

/* VALIGND/VALIGNQ: both vectors, vvvv above rm, shifted right by elements. */
#define ALIGN(name, type)                                                                                              \
    HOT_INLINE void name##_all(void *d, const void *a, const void *b, unsigned imm, unsigned n)                        \
    {                                                                                                                  \
        u8 both[2 * VEC_BYTES];                                                                                        \
        memcpy(both, b, n);                                                                                            \
        memcpy(both + n, a, n);                                                                                        \
        memcpy(d, both + sizeof(type) * (imm & (n / sizeof(type) - 1)), n);                                            \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_all)
ALIGN(valignd, u32)
ALIGN(valignq, u64)

/* Eight bits of each quadword of rm from any place, wrapping around: for each byte of vvvv. */
HOT_INLINE void vec_multishift(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u8 control[VEC_BYTES], r[VEC_BYTES];
    u64 v[VEC_BYTES / 8];
    (void)imm;
    memcpy(control, a, n);
    memcpy(v, b, n);
    for (unsigned i = 0; i < n; i++) {
        unsigned c = control[i] & 63;
        r[i] = (u8)(v[i / 8] >> c | v[i / 8] << (-c & 63));
    }
    memcpy(d, r, n);
}
VEC_FAMILY(vpmultishiftqb, 1, 8, vec_multishift)

/* ---- blends ------------------------------------------------------------------------------------------------------ */

/* One bit of the immediate for each element; VPBLENDW uses the same eight in each lane. */
#define BLEND(name, type, bit)                                                                                         \
    HOT_INLINE void name##_all(void *d, const void *a, const void *b, unsigned imm, unsigned n)                        \
    {                                                                                                                  \
        type x[VEC_BYTES / sizeof(type)], y[VEC_BYTES / sizeof(type)];                                                 \
        memcpy(x, a, n);                                                                                               \
        memcpy(y, b, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++)                                                                \
            x[i] = imm >> (bit) & 1 ? y[i] : x[i];                                                                     \
        memcpy(d, x, n);                                                                                               \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_all)
BLEND(vblendps, u32, i)
BLEND(vblendpd, u64, i)
BLEND(vpblendw, u16, i & 7)

/* VBLENDVPS and its like: by the sign bits of the register that the immediate's upper half names. */
static enum flow blend_by_signs(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    u8 buffer[VEC_BYTES], r[VEC_BYTES];
    unsigned n = vec_bytes(in);
    VEC_GATE();
    const u8 *b = vec_source(cpu, in, n, buffer);
    if (!b)
        return cpu_raise_fault(cpu);
    const u8 *a = vec_reg(cpu, in->vvvv), *sign = vec_reg(cpu, (unsigned)in->imm >> 4 & (in->flags & INSN_64 ? 15 : 7));
    for (unsigned i = 0; i < n; i += esize)
        memcpy(r + i, (sign[i + esize - 1] & 0x80 ? b : a) + i, esize);
    vec_put(cpu, in->reg, r, n);
    return FLOW_NEXT;
}
static enum flow blendvps(struct cpu *cpu, const struct insn *in) { return blend_by_signs(cpu, in, 4); }
static enum flow blendvpd(struct cpu *cpu, const struct insn *in) { return blend_by_signs(cpu, in, 8); }
static enum flow pblendvb(struct cpu *cpu, const struct insn *in) { return blend_by_signs(cpu, in, 1); }
FAMILY_ONE(vblendvps, blendvps)
FAMILY_ONE(vblendvpd, blendvpd)
FAMILY_ONE(vpblendvb, pblendvb)

/* ---- broadcasts -------------------------------------------------------------------------------------------------- */

/* `bytes` at the beginning of rm, repeated; masked by elements of `esize` bytes. Memory is read when any copy is
 * wanted; of a broadcast of several elements, those that no mask bit wants are not read. */
static enum flow broadcast(struct cpu *cpu, const struct insn *in, unsigned bytes, unsigned esize)
{
    u8 v[VEC_BYTES];
    unsigned n = vec_bytes(in), copies = n / bytes, each = bytes / esize;
    u64 mask = vec_mask(cpu, in, n / esize), wanted = 0;
    VEC_GATE();
    for (unsigned i = 0; i < copies; i++)
        wanted |= mask >> (i * each) & mask_low(each);
    TRY(vec_load(cpu, in, v, bytes, esize, wanted));
    for (unsigned i = 1; i < copies; i++)
        memcpy(v + i * bytes, v, bytes);
    vec_commit(cpu, in, v, n, esize, mask);
    return FLOW_NEXT;
}
#define BROADCAST(name, bytes, esize)                                                                                  \
    static enum flow name(struct cpu *cpu, const struct insn *in) { return broadcast(cpu, in, bytes, esize); }         \
    FAMILY_ONE(v##name, name)
BROADCAST(pbroadcastb, 1, 1)
BROADCAST(pbroadcastw, 2, 2)
BROADCAST(pbroadcastd, 4, 4)
BROADCAST(pbroadcastq, 8, 8)
BROADCAST(broadcast32x2, 8, 4)
BROADCAST(broadcast32x4, 16, 4)
BROADCAST(broadcast64x2, 16, 8)
BROADCAST(broadcast32x8, 32, 4)
BROADCAST(broadcast64x4, 32, 8)

/* From a general register. */
static enum flow broadcast_gpr(struct cpu *cpu, const struct insn *in, unsigned bytes)
{
    u8 v[VEC_BYTES];
    unsigned n = vec_bytes(in);
    u64 value = reg64(cpu, in->rm);
    VEC_GATE();
    for (unsigned i = 0; i < n; i += bytes)
        memcpy(v + i, &value, bytes);
    vec_commit(cpu, in, v, n, bytes, vec_mask(cpu, in, n / bytes));
    return FLOW_NEXT;
}
#define BROADCAST_GPR(name, bytes)                                                                                     \
    static enum flow name(struct cpu *cpu, const struct insn *in) { return broadcast_gpr(cpu, in, bytes); }            \
    FAMILY_ONE(v##name, name)
BROADCAST_GPR(pbroadcastb_gpr, 1)
BROADCAST_GPR(pbroadcastw_gpr, 2)
BROADCAST_GPR(pbroadcastdq_gpr, in->osz == OSZ_64 ? 8 : 4)

/* ---- lanes in and out -------------------------------------------------------------------------------------------- */

static enum flow insert_lanes(struct cpu *cpu, const struct insn *in, unsigned bytes, unsigned esize)
{
    u8 part[VEC_BYTES], r[VEC_BYTES];
    unsigned n = vec_bytes(in), at = bytes * ((unsigned)in->imm & (n / bytes - 1));
    VEC_GATE();
    TRY(vec_load(cpu, in, part, bytes, bytes, 1));
    memcpy(r, vec_reg(cpu, in->vvvv), n);
    memcpy(r + at, part, bytes);
    vec_commit(cpu, in, r, n, esize, vec_mask(cpu, in, n / esize));
    return FLOW_NEXT;
}
static enum flow extract_lanes(struct cpu *cpu, const struct insn *in, unsigned bytes, unsigned esize)
{
    unsigned n = vec_bytes(in), at = bytes * ((unsigned)in->imm & (n / bytes - 1));
    u64 mask = vec_mask(cpu, in, bytes / esize);
    u8 part[VEC_BYTES];
    struct insn to_rm = *in;
    VEC_GATE();
    memcpy(part, (u8 *)vec_reg(cpu, in->reg) + at, bytes);
    if (in->flags & INSN_MEM) {
        u64 la;                /* masked elements fault, too */
        TRY(ea_la(cpu, in, bytes, ACCESS_WRITE, &la) && mem_probe(cpu, la, bytes, ACCESS_WRITE));
        TRY(vec_store(cpu, in, part, bytes, esize, mask));
        return FLOW_NEXT;
    }
    to_rm.reg = in->rm;
    vec_commit(cpu, &to_rm, part, bytes, esize, mask);
    return FLOW_NEXT;
}
#define INSERT_EXTRACT(shape, bytes, esize)                                                                            \
    static enum flow insert##shape(struct cpu *cpu, const struct insn *in) { return insert_lanes(cpu, in, bytes, esize); } \
    static enum flow extract##shape(struct cpu *cpu, const struct insn *in) { return extract_lanes(cpu, in, bytes, esize); } \
    FAMILY_ONE(vinsert##shape, insert##shape)                                                                          \
    FAMILY_ONE(vextract##shape, extract##shape)
INSERT_EXTRACT(32x4, 16, 4)
INSERT_EXTRACT(64x2, 16, 8)
INSERT_EXTRACT(32x8, 32, 4)
INSERT_EXTRACT(64x4, 32, 8)

/* ---- compression and expansion: the elements that the mask has, side by side ------------------------------------- */

static enum flow compress(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    unsigned n = vec_bytes(in), lanes = n / esize, count = 0;
    u64 mask = vec_mask(cpu, in, lanes);
    u8 from[VEC_BYTES], r[VEC_BYTES];
    struct insn to_rm = *in;
    VEC_GATE();
    memcpy(from, vec_reg(cpu, in->reg), n);
    memset(r, 0, sizeof r);
    for (unsigned i = 0; i < lanes; i++)
        if (mask >> i & 1)
            memcpy(r + esize * count++, from + esize * i, esize);
    if (in->flags & INSN_MEM) {
        TRY(vec_store(cpu, in, r, n, esize, mask_low(count)));
        return FLOW_NEXT;
    }
    to_rm.reg = in->rm;
    vec_commit(cpu, &to_rm, r, n, esize, mask_low(count));
    return FLOW_NEXT;
}
static enum flow expand(struct cpu *cpu, const struct insn *in, unsigned esize)
{
    unsigned n = vec_bytes(in), lanes = n / esize, count = 0;
    u64 mask = vec_mask(cpu, in, lanes);
    u8 from[VEC_BYTES], r[VEC_BYTES];
    VEC_GATE();
    TRY(vec_load(cpu, in, from, n, esize, mask_low((unsigned)__builtin_popcountll(mask))));
    memset(r, 0, sizeof r);
    for (unsigned i = 0; i < lanes; i++)
        if (mask >> i & 1)
            memcpy(r + esize * i, from + esize * count++, esize);
    vec_commit(cpu, in, r, n, esize, mask);
    return FLOW_NEXT;
}
#define COMPRESS_EXPAND(letter, esize)                                                                                 \
    static enum flow compress_##letter(struct cpu *cpu, const struct insn *in) { return compress(cpu, in, esize); }    \
    static enum flow expand_##letter(struct cpu *cpu, const struct insn *in) { return expand(cpu, in, esize); }        \
    FAMILY_ONE(vpcompress##letter, compress_##letter)                                                                  \
    FAMILY_ONE(vpexpand##letter, expand_##letter)
COMPRESS_EXPAND(b, 1)
COMPRESS_EXPAND(w, 2)
COMPRESS_EXPAND(d, 4)
COMPRESS_EXPAND(q, 8)
