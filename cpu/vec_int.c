/* VEX and EVEX packed-integer arithmetic, comparison into vectors, logic and shifts. What an operation does to its
 * elements mostly stands in cpu/packed.h, shared with MMX and SSE; cpu/vector.h makes the handlers of every length,
 * masked and not.
 *
 * [SDM2 "PADDB/PADDW/PADDD/PADDQ—...", "VPTERNLOGD/VPTERNLOGQ—...", "VPSLLVW/VPSLLVD/VPSLLVQ—...", "VPDPBUSD—...",
 * "VPSHLDV—..."]
 */
#include "cpu/packed.h"
#include "cpu/vector.h"

/* ---- element by element, as in cpu/packed.h ---------------------------------------------------------------------- */

#define ELEMENTS(name, type, expr)                                                                                     \
    HOT_INLINE void v##name##_elements(void *d, const void *a, const void *b, unsigned imm, unsigned n)                \
    {                                                                                                                  \
        (void)imm;                                                                                                     \
        packed_##name(d, a, b, n);                                                                                     \
    }                                                                                                                  \
    VEC_FAMILY(v##name, sizeof(type), sizeof(type), v##name##_elements)
PACKED_LANES_COMMON(ELEMENTS)
PACKED_LANES_SSE4(ELEMENTS)

/* clang-format off */
/* Logic by size of element, which only masking sees. */
VEC_ELEMENTS(vpandd,    u32, x & y)
VEC_ELEMENTS(vpandnd,   u32, ~x & y)
VEC_ELEMENTS(vpord,     u32, x | y)
VEC_ELEMENTS(vpxord,    u32, x ^ y)
VEC_ELEMENTS(vpandq,    u64, x & y)
VEC_ELEMENTS(vpandnq,   u64, ~x & y)
VEC_ELEMENTS(vporq,     u64, x | y)
VEC_ELEMENTS(vpxorq,    u64, x ^ y)

VEC_ELEMENTS(vpminsq,   i64, x < y ? x : y)
VEC_ELEMENTS(vpminuq,   u64, x < y ? x : y)
VEC_ELEMENTS(vpmaxsq,   i64, x > y ? x : y)
VEC_ELEMENTS(vpmaxuq,   u64, x > y ? x : y)
VEC_ELEMENTS(vpabsq,    u64, (i64)y < 0 ? 0 - y : y)
VEC_ELEMENTS(vpmullq,   u64, x * y)

/* ---- shifts and rotations ---------------------------------------------------------------------------------------- */

/* Each element by its own count. */
VEC_ELEMENTS(vpsllvw,   u16, y < 16 ? (u32)x << y : 0)
VEC_ELEMENTS(vpsllvd,   u32, y < 32 ? x << y : 0)
VEC_ELEMENTS(vpsllvq,   u64, y < 64 ? x << y : 0)
VEC_ELEMENTS(vpsrlvw,   u16, y < 16 ? x >> y : 0)
VEC_ELEMENTS(vpsrlvd,   u32, y < 32 ? x >> y : 0)
VEC_ELEMENTS(vpsrlvq,   u64, y < 64 ? x >> y : 0)
VEC_ELEMENTS(vpsravw,   i16, x >> ((u16)y < 16 ? y : 15))
VEC_ELEMENTS(vpsravd,   i32, x >> ((u32)y < 32 ? y : 31))
VEC_ELEMENTS(vpsravq,   i64, x >> ((u64)y < 64 ? y : 63))
VEC_ELEMENTS(vprolvd,   u32, x << (y & 31) | x >> (-y & 31))
VEC_ELEMENTS(vprolvq,   u64, x << (y & 63) | x >> (-y & 63))
VEC_ELEMENTS(vprorvd,   u32, x >> (y & 31) | x << (-y & 31))
VEC_ELEMENTS(vprorvq,   u64, x >> (y & 63) | x << (-y & 63))
/* All by the immediate. */
VEC_ELEMENTS(vprold,    u32, y << (imm & 31) | y >> (-imm & 31))
VEC_ELEMENTS(vprolq,    u64, y << (imm & 63) | y >> (-imm & 63))
VEC_ELEMENTS(vprord,    u32, y >> (imm & 31) | y << (-imm & 31))
VEC_ELEMENTS(vprorq,    u64, y >> (imm & 63) | y << (-imm & 63))

/* Funnels: of two elements put together, the upper one after a shift to the left, the lower one after a shift to the
 * right. */
VEC_ELEMENTS(vpshldw,   u16, ((u32)x << 16 | y) << (imm & 15) >> 16)
VEC_ELEMENTS(vpshldd,   u32, ((u64)x << 32 | y) << (imm & 31) >> 32)
VEC_ELEMENTS(vpshldq,   u64, ((u128)x << 64 | y) << (imm & 63) >> 64)
VEC_ELEMENTS(vpshrdw,   u16, ((u32)y << 16 | x) >> (imm & 15))
VEC_ELEMENTS(vpshrdd,   u32, ((u64)y << 32 | x) >> (imm & 31))
VEC_ELEMENTS(vpshrdq,   u64, ((u128)y << 64 | x) >> (imm & 63))
VEC_ELEMENTS(vpshldvw,  u16, ((u32)z << 16 | x) << (y & 15) >> 16)
VEC_ELEMENTS(vpshldvd,  u32, ((u64)z << 32 | x) << (y & 31) >> 32)
VEC_ELEMENTS(vpshldvq,  u64, ((u128)z << 64 | x) << (y & 63) >> 64)
VEC_ELEMENTS(vpshrdvw,  u16, ((u32)x << 16 | z) >> (y & 15))
VEC_ELEMENTS(vpshrdvd,  u32, ((u64)x << 32 | z) >> (y & 31))
VEC_ELEMENTS(vpshrdvq,  u64, ((u128)x << 64 | z) >> (y & 63))
/* clang-format on */

HOT_INLINE void packed_psraq(void *d, const void *s, u64 count, unsigned n)
{
    i64 v[VEC_BYTES / 8];
    unsigned c = count < 64 ? (unsigned)count : 63;
    memcpy(v, s, n);
    for (unsigned i = 0; i < n / 8; i++)
        v[i] >>= c;
    memcpy(d, v, n);
}

/* All elements by the low quadword of a 128-bit operand, which is never masked. */
static enum flow shift_by_vector(struct cpu *cpu, const struct insn *in, unsigned esize, void (*op)(void *, const void *, u64, unsigned))
{
    u64 buffer[VEC_BYTES / 8];
    u8 r[VEC_BYTES];
    unsigned n = vec_bytes(in);
    VEC_GATE();
    const void *b = vec_source(cpu, in, 16, buffer);
    if (!b)
        return cpu_raise_fault(cpu);
    op(r, vec_reg(cpu, in->vvvv), load64(b), n);
    vec_commit(cpu, in, r, n, esize, vec_mask(cpu, in, n / esize));
    return FLOW_NEXT;
}
#define SHIFT_OF(name, esize)                                                                                          \
    static void v##name##_any(void *d, const void *a, u64 count, unsigned n)                                           \
    {                                                                                                                  \
        if (n == 16)                                                                                                   \
            packed_##name(d, a, count, 16);                                                                            \
        else if (n == 32)                                                                                              \
            packed_##name(d, a, count, 32);                                                                            \
        else                                                                                                           \
            packed_##name(d, a, count, 64);                                                                            \
    }                                                                                                                  \
    static enum flow v##name##_by_vector(struct cpu *cpu, const struct insn *in)                                       \
    {                                                                                                                  \
        return shift_by_vector(cpu, in, esize, v##name##_any);                                                         \
    }                                                                                                                  \
    FAMILY_ONE(v##name, v##name##_by_vector)                                                                           \
    HOT_INLINE void v##name##_imm_elements(void *d, const void *a, const void *b, unsigned imm, unsigned n)            \
    {                                                                                                                  \
        (void)a;                                                                                                       \
        packed_##name(d, b, imm, n);                                                                                   \
    }                                                                                                                  \
    VEC_FAMILY(v##name##_imm, esize, esize, v##name##_imm_elements)
SHIFT_OF(psllw, 2)
SHIFT_OF(pslld, 4)
SHIFT_OF(psllq, 8)
SHIFT_OF(psrlw, 2)
SHIFT_OF(psrld, 4)
SHIFT_OF(psrlq, 8)
SHIFT_OF(psraw, 2)
SHIFT_OF(psrad, 4)
SHIFT_OF(psraq, 8)

/* Whole lanes by bytes. */
HOT_INLINE void lanes_pslldq(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    static const u8 zero[16];
    (void)a;
    for (unsigned i = 0; i < n; i += 16)
        packed_palignr((u8 *)d + i, (const u8 *)b + i, zero, 16, imm > 16 ? 0 : 16 - imm);
}
HOT_INLINE void lanes_psrldq(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    static const u8 zero[16];
    (void)a;
    for (unsigned i = 0; i < n; i += 16)
        packed_palignr((u8 *)d + i, zero, (const u8 *)b + i, 16, imm);
}
VEC_FAMILY(vpslldq, 16, 16, lanes_pslldq)
VEC_FAMILY(vpsrldq, 16, 16, lanes_psrldq)

/* ---- any logic of three: bit A*4 + B*2 + C of the immediate ------------------------------------------------------ */

HOT_INLINE u64 ternary(u64 a, u64 b, u64 c, unsigned imm)
{
    u64 r = 0;
    for (unsigned i = 0; i < 8; i++)
        r |= -(u64)(imm >> i & 1) & (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return r;
}
HOT_INLINE void vec_ternary(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u64 x[VEC_BYTES / 8], y[VEC_BYTES / 8], z[VEC_BYTES / 8];
    memcpy(x, a, n);
    memcpy(y, b, n);
    memcpy(z, d, n);
    for (unsigned i = 0; i < n / 8; i++)
        z[i] = ternary(z[i], x[i], y[i], imm);
    memcpy(d, z, n);
}
VEC_FAMILY(vpternlogd, 4, 4, vec_ternary)
VEC_FAMILY(vpternlogq, 8, 8, vec_ternary)

/* ---- counting ---------------------------------------------------------------------------------------------------- */

VEC_ELEMENTS(vpopcntb, u8, __builtin_popcount(y))
VEC_ELEMENTS(vpopcntw, u16, __builtin_popcount(y))
VEC_ELEMENTS(vpopcntd, u32, __builtin_popcount(y))
VEC_ELEMENTS(vpopcntq, u64, __builtin_popcountll(y))
VEC_ELEMENTS(vplzcntd, u32, y ? (u32)__builtin_clz(y) : 32)
VEC_ELEMENTS(vplzcntq, u64, y ? (u64)__builtin_clzll(y) : 64)

/* Which of the elements below are equal to this one. */
#define CONFLICT(name, type)                                                                                           \
    HOT_INLINE void name##_all(void *d, const void *a, const void *b, unsigned imm, unsigned n)                        \
    {                                                                                                                  \
        type v[VEC_BYTES / sizeof(type)], r[VEC_BYTES / sizeof(type)] = {0};                                           \
        (void)a, (void)imm;                                                                                            \
        memcpy(v, b, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++)                                                                \
            for (unsigned j = 0; j < i; j++)                                                                           \
                r[i] |= (type)(v[i] == v[j]) << j;                                                                     \
        memcpy(d, r, n);                                                                                               \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_all)
CONFLICT(vpconflictd, u32)
CONFLICT(vpconflictq, u64)

/* ---- sums of products -------------------------------------------------------------------------------------------- */

VEC_LANES_OP(vpmaddwd, packed_pmaddwd)
VEC_LANES_OP(vpmaddubsw, packed_pmaddubsw)
VEC_LANES_OP(vpsadbw, packed_psadbw)
VEC_FAMILY(vpmaddwd, 4, 4, vpmaddwd_lanes)
VEC_FAMILY(vpmaddubsw, 2, 2, vpmaddubsw_lanes)
VEC_FAMILY(vpsadbw, 8, 8, vpsadbw_lanes)

#define MASK52 0xfffffffffffffull
VEC_ELEMENTS(vpmadd52luq, u64, z + ((u64)((u128)(x & MASK52) * (y & MASK52)) & MASK52))
VEC_ELEMENTS(vpmadd52huq, u64, z + (u64)((u128)(x & MASK52) * (y & MASK52) >> 52))

/* Four products of bytes, or two of words, each of either signedness. */
#define DOT_BYTES(name, left, right)                                                                                   \
    HOT_INLINE i64 dot_##name(u32 x, u32 y)                                                                            \
    {                                                                                                                  \
        i64 sum = 0;                                                                                                   \
        for (unsigned i = 0; i < 32; i += 8)                                                                           \
            sum += (left)(x >> i) * (right)(y >> i);                                                                   \
        return sum;                                                                                                    \
    }
#define DOT_WORDS(name, left, right)                                                                                   \
    HOT_INLINE i64 dot_##name(u32 x, u32 y)                                                                            \
    {                                                                                                                  \
        return (i64)(left)x * (right)y + (i64)(left)(x >> 16) * (right)(y >> 16);                                      \
    }
DOT_BYTES(bus, u8, i8)
DOT_BYTES(bss, i8, i8)
DOT_BYTES(bsu, i8, u8)
DOT_BYTES(buu, u8, u8)
DOT_WORDS(wss, i16, i16)
DOT_WORDS(wus, u16, i16)
DOT_WORDS(wsu, i16, u16)
DOT_WORDS(wuu, u16, u16)
HOT_INLINE i64 saturate_i32(i64 v) { return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : v; }
HOT_INLINE i64 saturate_u32(i64 v) { return v > UINT32_MAX ? UINT32_MAX : v; }
/* clang-format off */
VEC_ELEMENTS(vpdpbusd,  u32, z + (u32)dot_bus(x, y))
VEC_ELEMENTS(vpdpbusds, u32, saturate_i32((i32)z + dot_bus(x, y)))
VEC_ELEMENTS(vpdpwssd,  u32, z + (u32)dot_wss(x, y))
VEC_ELEMENTS(vpdpwssds, u32, saturate_i32((i32)z + dot_wss(x, y)))
VEC_ELEMENTS(vpdpbssd,  u32, z + (u32)dot_bss(x, y))
VEC_ELEMENTS(vpdpbssds, u32, saturate_i32((i32)z + dot_bss(x, y)))
VEC_ELEMENTS(vpdpbsud,  u32, z + (u32)dot_bsu(x, y))
VEC_ELEMENTS(vpdpbsuds, u32, saturate_i32((i32)z + dot_bsu(x, y)))
VEC_ELEMENTS(vpdpbuud,  u32, z + (u32)dot_buu(x, y))
VEC_ELEMENTS(vpdpbuuds, u32, saturate_u32((i64)z + dot_buu(x, y)))
VEC_ELEMENTS(vpdpwsud,  u32, z + (u32)dot_wsu(x, y))
VEC_ELEMENTS(vpdpwsuds, u32, saturate_i32((i32)z + dot_wsu(x, y)))
VEC_ELEMENTS(vpdpwusd,  u32, z + (u32)dot_wus(x, y))
VEC_ELEMENTS(vpdpwusds, u32, saturate_i32((i32)z + dot_wus(x, y)))
VEC_ELEMENTS(vpdpwuud,  u32, z + (u32)dot_wuu(x, y))
VEC_ELEMENTS(vpdpwuuds, u32, saturate_u32((i64)z + dot_wuu(x, y)))
/* clang-format on */

/* Sums of absolute differences of four bytes with four of the second operand, whose dwords the immediate has
 * shuffled. */
HOT_INLINE void vec_dbpsadbw(void *d, const void *a, const void *b, unsigned imm, unsigned n)
{
    u8 x[VEC_BYTES], y[VEC_BYTES];
    u16 r[VEC_BYTES / 2];
    memcpy(x, a, n);
    for (unsigned i = 0; i < n / 4; i++)
        memcpy(y + 4 * i, (const u8 *)b + (i & ~3u) * 4 + 4 * (imm >> (2 * (i & 3)) & 3), 4);
    for (unsigned q = 0; q < n; q += 8)
        for (unsigned w = 0; w < 4; w++) {
            const u8 *p = x + q + (w & 2) * 2, *s = y + q + w;
            unsigned sum = 0;
            for (unsigned k = 0; k < 4; k++)
                sum += (unsigned)(p[k] > s[k] ? p[k] - s[k] : s[k] - p[k]);
            r[q / 2 + w] = (u16)sum;
        }
    memcpy(d, r, n);
}
VEC_FAMILY(vdbpsadbw, 2, 2, vec_dbpsadbw)

/* ---- neighbours added and subtracted, lane by lane --------------------------------------------------------------- */

#define HORIZONTAL(name, esize)                                                                                        \
    VEC_LANES_OP(v##name, packed_##name)                                                                               \
    VEC_FAMILY(v##name, esize, esize, v##name##_lanes)
HORIZONTAL(phaddw, 2)
HORIZONTAL(phaddd, 4)
HORIZONTAL(phaddsw, 2)
HORIZONTAL(phsubw, 2)
HORIZONTAL(phsubd, 4)
HORIZONTAL(phsubsw, 2)
