/* Packed-integer arithmetic on vectors of 8 bytes (MMX), 16 (SSE), 32 or 64 (AVX), in plain C: d = s op t.
 *
 * Every operation is `packed_NAME(d, s, t, n)` on n bytes of memory at d, s and t, which may be the same; it is inlined
 * with a constant n, so that the compiler can turn the lane loops into the host's own vector instructions. Operations
 * that move data between lanes (packs, unpacks, horizontal sums) treat n bytes as one unit; wider vectors are made of 128-bit
 * lanes, each of which is such a unit.
 *
 * The lists at the end name all operations with this shape, for the files that make handlers of them (cpu/mmx.c,
 * cpu/sse_int.c, cpu/vec_int.c).
 * [SDM2 "Instruction Set Reference"]
 */
#ifndef NESTOR_CPU_PACKED_H
#define NESTOR_CPU_PACKED_H

#include "cpu/base.h"

#define PACKED_MAX 64          /* bytes of the longest vector */

HOT_INLINE int packed_sat_i8(int v) { return v > 127 ? 127 : v < -128 ? -128 : v; }
HOT_INLINE int packed_sat_u8(int v) { return v > 255 ? 255 : v < 0 ? 0 : v; }
HOT_INLINE int packed_sat_i16(int v) { return v > 32767 ? 32767 : v < -32768 ? -32768 : v; }
HOT_INLINE int packed_sat_u16(int v) { return v > 65535 ? 65535 : v < 0 ? 0 : v; }

/* ---- lane by lane: x op y ---------------------------------------------------------------------------------------- */

/* clang-format off */
#define PACKED_LANES_COMMON(X)                                                                                         \
    X(paddb,   u8,  x + y)                                                                                             \
    X(paddw,   u16, x + y)                                                                                             \
    X(paddd,   u32, x + y)                                                                                             \
    X(paddq,   u64, x + y)                                                                                             \
    X(paddsb,  i8,  packed_sat_i8(x + y))                                                                              \
    X(paddsw,  i16, packed_sat_i16(x + y))                                                                             \
    X(paddusb, u8,  packed_sat_u8(x + y))                                                                              \
    X(paddusw, u16, packed_sat_u16(x + y))                                                                             \
    X(psubb,   u8,  x - y)                                                                                             \
    X(psubw,   u16, x - y)                                                                                             \
    X(psubd,   u32, x - y)                                                                                             \
    X(psubq,   u64, x - y)                                                                                             \
    X(psubsb,  i8,  packed_sat_i8(x - y))                                                                              \
    X(psubsw,  i16, packed_sat_i16(x - y))                                                                             \
    X(psubusb, u8,  packed_sat_u8(x - y))                                                                              \
    X(psubusw, u16, packed_sat_u16(x - y))                                                                             \
    X(pmullw,  i16, x * y)                                                                                             \
    X(pmulhw,  i16, (x * y) >> 16)                                                                                     \
    X(pmulhuw, u16, ((u32)x * y) >> 16)                                                                                \
    X(pmulhrsw, i16, (((x * y) >> 14) + 1) >> 1)                                                                       \
    X(pmuludq, u64, (u64)(u32)x * (u32)y)                                                                              \
    X(pavgb,   u8,  (x + y + 1) >> 1)                                                                                  \
    X(pavgw,   u16, (x + y + 1) >> 1)                                                                                  \
    X(pminub,  u8,  x < y ? x : y)                                                                                     \
    X(pminsw,  i16, x < y ? x : y)                                                                                     \
    X(pmaxub,  u8,  x > y ? x : y)                                                                                     \
    X(pmaxsw,  i16, x > y ? x : y)                                                                                     \
    X(pand,    u64, x & y)                                                                                             \
    X(pandn,   u64, ~x & y)                                                                                            \
    X(por,     u64, x | y)                                                                                             \
    X(pxor,    u64, x ^ y)                                                                                             \
    X(pcmpeqb, u8,  x == y ? 0xff : 0)                                                                                 \
    X(pcmpeqw, u16, x == y ? 0xffff : 0)                                                                               \
    X(pcmpeqd, u32, x == y ? 0xffffffffu : 0)                                                                          \
    X(pcmpgtb, i8,  x > y ? -1 : 0)                                                                                    \
    X(pcmpgtw, i16, x > y ? -1 : 0)                                                                                    \
    X(pcmpgtd, i32, x > y ? -1 : 0)                                                                                    \
    X(psignb,  i8,  y < 0 ? -x : y == 0 ? 0 : x)                                                                       \
    X(psignw,  i16, y < 0 ? -x : y == 0 ? 0 : x)                                                                       \
    X(psignd,  u32, (i32)y < 0 ? 0 - x : y == 0 ? 0 : x)                                                               \
    X(pabsb,   i8,  ((void)x, y < 0 ? -y : y))                                                                         \
    X(pabsw,   i16, ((void)x, y < 0 ? -y : y))                                                                         \
    X(pabsd,   u32, ((void)x, (i32)y < 0 ? 0 - y : y))

#define PACKED_LANES_SSE4(X)                                                                                           \
    X(pminsb,  i8,  x < y ? x : y)                                                                                     \
    X(pminsd,  i32, x < y ? x : y)                                                                                     \
    X(pminuw,  u16, x < y ? x : y)                                                                                     \
    X(pminud,  u32, x < y ? x : y)                                                                                     \
    X(pmaxsb,  i8,  x > y ? x : y)                                                                                     \
    X(pmaxsd,  i32, x > y ? x : y)                                                                                     \
    X(pmaxuw,  u16, x > y ? x : y)                                                                                     \
    X(pmaxud,  u32, x > y ? x : y)                                                                                     \
    X(pmulld,  u32, x * y)                                                                                             \
    X(pmuldq,  u64, (u64)((i64)(i32)(u32)x * (i32)(u32)y))                                                             \
    X(pcmpeqq, u64, x == y ? ~0ull : 0)                                                                                \
    X(pcmpgtq, i64, x > y ? -1 : 0)
/* clang-format on */

#define DEFINE_PACKED(name, type, expr)                                                                                \
    HOT_INLINE void packed_##name(void *d, const void *s, const void *t, unsigned n)                                   \
    {                                                                                                                  \
        type a[PACKED_MAX / sizeof(type)], b[PACKED_MAX / sizeof(type)];                                               \
        memcpy(a, s, n);                                                                                               \
        memcpy(b, t, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++) {                                                              \
            type x = a[i], y = b[i];                                                                                   \
            a[i] = (type)(expr);                                                                                       \
        }                                                                                                              \
        memcpy(d, a, n);                                                                                               \
    }
PACKED_LANES_COMMON(DEFINE_PACKED)
PACKED_LANES_SSE4(DEFINE_PACKED)
#undef DEFINE_PACKED

/* ---- across lanes ------------------------------------------------------------------------------------------------ */

/* Two vectors of `from` saturated into one of `to`. */
#define DEFINE_PACK(name, from, to, saturate)                                                                          \
    HOT_INLINE void packed_##name(void *d, const void *s, const void *t, unsigned n)                                   \
    {                                                                                                                  \
        from a[PACKED_MAX / sizeof(from)], b[PACKED_MAX / sizeof(from)];                                               \
        to r[PACKED_MAX / sizeof(to)];                                                                                 \
        unsigned lanes = n / sizeof(from);                                                                             \
        memcpy(a, s, n);                                                                                               \
        memcpy(b, t, n);                                                                                               \
        for (unsigned i = 0; i < lanes; i++) {                                                                         \
            r[i] = (to)saturate(a[i]);                                                                                 \
            r[lanes + i] = (to)saturate(b[i]);                                                                         \
        }                                                                                                              \
        memcpy(d, r, n);                                                                                               \
    }
DEFINE_PACK(packsswb, i16, i8, packed_sat_i8)
DEFINE_PACK(packuswb, i16, u8, packed_sat_u8)
DEFINE_PACK(packssdw, i32, i16, packed_sat_i16)
DEFINE_PACK(packusdw, i32, u16, packed_sat_u16)
#undef DEFINE_PACK

/* The low or high halves of both, interleaved. */
#define DEFINE_UNPACK(name, type, high)                                                                                \
    HOT_INLINE void packed_##name(void *d, const void *s, const void *t, unsigned n)                                   \
    {                                                                                                                  \
        type a[PACKED_MAX / sizeof(type)], b[PACKED_MAX / sizeof(type)], r[PACKED_MAX / sizeof(type)];                 \
        unsigned half = n / sizeof(type) / 2, from = (high) ? half : 0;                                                \
        memcpy(a, s, n);                                                                                               \
        memcpy(b, t, n);                                                                                               \
        for (unsigned i = 0; i < half; i++) {                                                                          \
            r[2 * i] = a[from + i];                                                                                    \
            r[2 * i + 1] = b[from + i];                                                                                \
        }                                                                                                              \
        memcpy(d, r, n);                                                                                               \
    }
DEFINE_UNPACK(punpcklbw, u8, 0)
DEFINE_UNPACK(punpcklwd, u16, 0)
DEFINE_UNPACK(punpckldq, u32, 0)
DEFINE_UNPACK(punpcklqdq, u64, 0)
DEFINE_UNPACK(punpckhbw, u8, 1)
DEFINE_UNPACK(punpckhwd, u16, 1)
DEFINE_UNPACK(punpckhdq, u32, 1)
DEFINE_UNPACK(punpckhqdq, u64, 1)
#undef DEFINE_UNPACK

/* Neighbours added or subtracted: the pairs of s below those of t. */
#define DEFINE_HORIZONTAL(name, type, expr)                                                                            \
    HOT_INLINE void packed_##name(void *d, const void *s, const void *t, unsigned n)                                   \
    {                                                                                                                  \
        type a[2 * PACKED_MAX / sizeof(type)], r[PACKED_MAX / sizeof(type)];                                           \
        unsigned lanes = n / sizeof(type);                                                                             \
        memcpy(a, s, n);                                                                                               \
        memcpy(a + lanes, t, n);                                                                                       \
        for (unsigned i = 0; i < lanes; i++) {                                                                         \
            type x = a[2 * i], y = a[2 * i + 1];                                                                       \
            r[i] = (type)(expr);                                                                                       \
        }                                                                                                              \
        memcpy(d, r, n);                                                                                               \
    }
DEFINE_HORIZONTAL(phaddw, u16, x + y)
DEFINE_HORIZONTAL(phaddd, u32, x + y)
DEFINE_HORIZONTAL(phaddsw, i16, packed_sat_i16(x + y))
DEFINE_HORIZONTAL(phsubw, u16, x - y)
DEFINE_HORIZONTAL(phsubd, u32, x - y)
DEFINE_HORIZONTAL(phsubsw, i16, packed_sat_i16(x - y))
#undef DEFINE_HORIZONTAL

HOT_INLINE void packed_pmaddwd(void *d, const void *s, const void *t, unsigned n)
{
    i16 a[PACKED_MAX / 2], b[PACKED_MAX / 2];
    u32 r[PACKED_MAX / 4];
    memcpy(a, s, n);
    memcpy(b, t, n);
    for (unsigned i = 0; i < n / 4; i++)
        r[i] = (u32)(a[2 * i] * b[2 * i]) + (u32)(a[2 * i + 1] * b[2 * i + 1]);
    memcpy(d, r, n);
}

HOT_INLINE void packed_pmaddubsw(void *d, const void *s, const void *t, unsigned n)
{
    u8 a[PACKED_MAX];
    i8 b[PACKED_MAX];
    i16 r[PACKED_MAX / 2];
    memcpy(a, s, n);
    memcpy(b, t, n);
    for (unsigned i = 0; i < n / 2; i++)
        r[i] = (i16)packed_sat_i16(a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1]);
    memcpy(d, r, n);
}

HOT_INLINE void packed_psadbw(void *d, const void *s, const void *t, unsigned n)
{
    u8 a[PACKED_MAX], b[PACKED_MAX];
    u64 r[PACKED_MAX / 8];
    memcpy(a, s, n);
    memcpy(b, t, n);
    for (unsigned q = 0; q < n / 8; q++) {
        u64 sum = 0;
        for (unsigned i = 8 * q; i < 8 * q + 8; i++)
            sum += (u64)(a[i] > b[i] ? a[i] - b[i] : b[i] - a[i]);
        r[q] = sum;
    }
    memcpy(d, r, n);
}

HOT_INLINE void packed_pshufb(void *d, const void *s, const void *t, unsigned n)
{
    u8 a[PACKED_MAX], b[PACKED_MAX], r[PACKED_MAX];
    memcpy(a, s, n);
    memcpy(b, t, n);
    for (unsigned i = 0; i < n; i++)
        r[i] = b[i] & 0x80 ? 0 : a[b[i] & (n - 1)];
    memcpy(d, r, n);
}

/* s:t shifted right by imm bytes. */
HOT_INLINE void packed_palignr(void *d, const void *s, const void *t, unsigned n, unsigned imm)
{
    u8 both[3 * PACKED_MAX] = {0};
    if (imm > 2 * n)
        imm = 2 * n;
    memcpy(both, t, n);
    memcpy(both + n, s, n);
    memcpy(d, both + imm, n);
}

/* ---- shifts of every lane by the same count, which may be anything ----------------------------------------------- */

#define DEFINE_SHIFT(name, type, expr, beyond)                                                                         \
    HOT_INLINE void packed_##name(void *d, const void *s, u64 count, unsigned n)                                       \
    {                                                                                                                  \
        type a[PACKED_MAX / sizeof(type)];                                                                             \
        bool past = count >= 8 * sizeof(type);                                                                         \
        unsigned c = past ? 8 * sizeof(type) - 1 : (unsigned)count;                                                    \
        memcpy(a, s, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++) {                                                              \
            type x = a[i];                                                                                             \
            a[i] = past ? (type)(beyond) : (type)(expr);                                                               \
        }                                                                                                              \
        memcpy(d, a, n);                                                                                               \
    }
DEFINE_SHIFT(psllw, u16, (u32)x << c, 0)
DEFINE_SHIFT(pslld, u32, x << c, 0)
DEFINE_SHIFT(psllq, u64, x << c, 0)
DEFINE_SHIFT(psrlw, u16, x >> c, 0)
DEFINE_SHIFT(psrld, u32, x >> c, 0)
DEFINE_SHIFT(psrlq, u64, x >> c, 0)
DEFINE_SHIFT(psraw, i16, x >> c, x >> c)
DEFINE_SHIFT(psrad, i32, x >> c, x >> c)
#undef DEFINE_SHIFT

/* ---- the lists --------------------------------------------------------------------------------------------------- */

/* Across lanes, MMX and SSE; those that MMX reads only 4 bytes of memory for come first. */
#define PACKED_UNPACK_LOW(X) X(punpcklbw) X(punpcklwd) X(punpckldq)
#define PACKED_ACROSS_COMMON(X)                                                                                        \
    X(packsswb) X(packuswb) X(packssdw) X(punpckhbw) X(punpckhwd) X(punpckhdq) X(phaddw) X(phaddd) X(phaddsw)          \
    X(phsubw) X(phsubd) X(phsubsw) X(pmaddwd) X(pmaddubsw) X(psadbw) X(pshufb)
#define PACKED_ACROSS_SSE(X) X(packusdw) X(punpcklqdq) X(punpckhqdq)
#define PACKED_SHIFTS(X) X(psllw) X(pslld) X(psllq) X(psrlw) X(psrld) X(psrlq) X(psraw) X(psrad)

#endif
