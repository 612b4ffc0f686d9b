/* AES, SHA-1 and SHA-256, carry-less multiplication, and GF(2^8) on XMM registers, in all encodings [SDM2 "AESENC" and
 * its neighbours, "PCLMULQDQ", "SHA1RNDS4" ... "SHA256MSG2", "GF2P8AFFINEQB" ...; FIPS 197 and FIPS 180-4 for what they mean].
 *
 * A register is 16 bytes, the least significant first: for AES that is the state column by column; SHA's words count from the top
 * (the SDM's A or W0 is bits 127:96). The field of AES and of GFNI is the same: bytes modulo x^8 + x^4 + x^3 + x + 1.
 *
 * Kept true: results depend on the operands alone; no table is made at run time.
 */
#include "cpu/sse.h"
#include "cpu/vector.h"

/* ---- the field GF(2^8) ------------------------------------------------------------------------------------------- */

/* Inverses, with 0 for 0. */
static const u8 field_inverse[256] = {
    0x00, 0x01, 0x8d, 0xf6, 0xcb, 0x52, 0x7b, 0xd1, 0xe8, 0x4f, 0x29, 0xc0, 0xb0, 0xe1, 0xe5, 0xc7,
    0x74, 0xb4, 0xaa, 0x4b, 0x99, 0x2b, 0x60, 0x5f, 0x58, 0x3f, 0xfd, 0xcc, 0xff, 0x40, 0xee, 0xb2,
    0x3a, 0x6e, 0x5a, 0xf1, 0x55, 0x4d, 0xa8, 0xc9, 0xc1, 0x0a, 0x98, 0x15, 0x30, 0x44, 0xa2, 0xc2,
    0x2c, 0x45, 0x92, 0x6c, 0xf3, 0x39, 0x66, 0x42, 0xf2, 0x35, 0x20, 0x6f, 0x77, 0xbb, 0x59, 0x19,
    0x1d, 0xfe, 0x37, 0x67, 0x2d, 0x31, 0xf5, 0x69, 0xa7, 0x64, 0xab, 0x13, 0x54, 0x25, 0xe9, 0x09,
    0xed, 0x5c, 0x05, 0xca, 0x4c, 0x24, 0x87, 0xbf, 0x18, 0x3e, 0x22, 0xf0, 0x51, 0xec, 0x61, 0x17,
    0x16, 0x5e, 0xaf, 0xd3, 0x49, 0xa6, 0x36, 0x43, 0xf4, 0x47, 0x91, 0xdf, 0x33, 0x93, 0x21, 0x3b,
    0x79, 0xb7, 0x97, 0x85, 0x10, 0xb5, 0xba, 0x3c, 0xb6, 0x70, 0xd0, 0x06, 0xa1, 0xfa, 0x81, 0x82,
    0x83, 0x7e, 0x7f, 0x80, 0x96, 0x73, 0xbe, 0x56, 0x9b, 0x9e, 0x95, 0xd9, 0xf7, 0x02, 0xb9, 0xa4,
    0xde, 0x6a, 0x32, 0x6d, 0xd8, 0x8a, 0x84, 0x72, 0x2a, 0x14, 0x9f, 0x88, 0xf9, 0xdc, 0x89, 0x9a,
    0xfb, 0x7c, 0x2e, 0xc3, 0x8f, 0xb8, 0x65, 0x48, 0x26, 0xc8, 0x12, 0x4a, 0xce, 0xe7, 0xd2, 0x62,
    0x0c, 0xe0, 0x1f, 0xef, 0x11, 0x75, 0x78, 0x71, 0xa5, 0x8e, 0x76, 0x3d, 0xbd, 0xbc, 0x86, 0x57,
    0x0b, 0x28, 0x2f, 0xa3, 0xda, 0xd4, 0xe4, 0x0f, 0xa9, 0x27, 0x53, 0x04, 0x1b, 0xfc, 0xac, 0xe6,
    0x7a, 0x07, 0xae, 0x63, 0xc5, 0xdb, 0xe2, 0xea, 0x94, 0x8b, 0xc4, 0xd5, 0x9d, 0xf8, 0x90, 0x6b,
    0xb1, 0x0d, 0xd6, 0xeb, 0xc6, 0x0e, 0xcf, 0xad, 0x08, 0x4e, 0xd7, 0xe3, 0x5d, 0x50, 0x1e, 0xb3,
    0x5b, 0x23, 0x38, 0x34, 0x68, 0x46, 0x03, 0x8c, 0xdd, 0x9c, 0x7d, 0xa0, 0xcd, 0x1a, 0x41, 0x1c,
};

/* SubBytes: an affine map of the inverse; and the other way round. */
static const u8 aes_sub[256] = {
    0x63, 0x7c, 0x77, 0x7b, 0xf2, 0x6b, 0x6f, 0xc5, 0x30, 0x01, 0x67, 0x2b, 0xfe, 0xd7, 0xab, 0x76,
    0xca, 0x82, 0xc9, 0x7d, 0xfa, 0x59, 0x47, 0xf0, 0xad, 0xd4, 0xa2, 0xaf, 0x9c, 0xa4, 0x72, 0xc0,
    0xb7, 0xfd, 0x93, 0x26, 0x36, 0x3f, 0xf7, 0xcc, 0x34, 0xa5, 0xe5, 0xf1, 0x71, 0xd8, 0x31, 0x15,
    0x04, 0xc7, 0x23, 0xc3, 0x18, 0x96, 0x05, 0x9a, 0x07, 0x12, 0x80, 0xe2, 0xeb, 0x27, 0xb2, 0x75,
    0x09, 0x83, 0x2c, 0x1a, 0x1b, 0x6e, 0x5a, 0xa0, 0x52, 0x3b, 0xd6, 0xb3, 0x29, 0xe3, 0x2f, 0x84,
    0x53, 0xd1, 0x00, 0xed, 0x20, 0xfc, 0xb1, 0x5b, 0x6a, 0xcb, 0xbe, 0x39, 0x4a, 0x4c, 0x58, 0xcf,
    0xd0, 0xef, 0xaa, 0xfb, 0x43, 0x4d, 0x33, 0x85, 0x45, 0xf9, 0x02, 0x7f, 0x50, 0x3c, 0x9f, 0xa8,
    0x51, 0xa3, 0x40, 0x8f, 0x92, 0x9d, 0x38, 0xf5, 0xbc, 0xb6, 0xda, 0x21, 0x10, 0xff, 0xf3, 0xd2,
    0xcd, 0x0c, 0x13, 0xec, 0x5f, 0x97, 0x44, 0x17, 0xc4, 0xa7, 0x7e, 0x3d, 0x64, 0x5d, 0x19, 0x73,
    0x60, 0x81, 0x4f, 0xdc, 0x22, 0x2a, 0x90, 0x88, 0x46, 0xee, 0xb8, 0x14, 0xde, 0x5e, 0x0b, 0xdb,
    0xe0, 0x32, 0x3a, 0x0a, 0x49, 0x06, 0x24, 0x5c, 0xc2, 0xd3, 0xac, 0x62, 0x91, 0x95, 0xe4, 0x79,
    0xe7, 0xc8, 0x37, 0x6d, 0x8d, 0xd5, 0x4e, 0xa9, 0x6c, 0x56, 0xf4, 0xea, 0x65, 0x7a, 0xae, 0x08,
    0xba, 0x78, 0x25, 0x2e, 0x1c, 0xa6, 0xb4, 0xc6, 0xe8, 0xdd, 0x74, 0x1f, 0x4b, 0xbd, 0x8b, 0x8a,
    0x70, 0x3e, 0xb5, 0x66, 0x48, 0x03, 0xf6, 0x0e, 0x61, 0x35, 0x57, 0xb9, 0x86, 0xc1, 0x1d, 0x9e,
    0xe1, 0xf8, 0x98, 0x11, 0x69, 0xd9, 0x8e, 0x94, 0x9b, 0x1e, 0x87, 0xe9, 0xce, 0x55, 0x28, 0xdf,
    0x8c, 0xa1, 0x89, 0x0d, 0xbf, 0xe6, 0x42, 0x68, 0x41, 0x99, 0x2d, 0x0f, 0xb0, 0x54, 0xbb, 0x16,
};

static const u8 aes_sub_inverse[256] = {
    0x52, 0x09, 0x6a, 0xd5, 0x30, 0x36, 0xa5, 0x38, 0xbf, 0x40, 0xa3, 0x9e, 0x81, 0xf3, 0xd7, 0xfb,
    0x7c, 0xe3, 0x39, 0x82, 0x9b, 0x2f, 0xff, 0x87, 0x34, 0x8e, 0x43, 0x44, 0xc4, 0xde, 0xe9, 0xcb,
    0x54, 0x7b, 0x94, 0x32, 0xa6, 0xc2, 0x23, 0x3d, 0xee, 0x4c, 0x95, 0x0b, 0x42, 0xfa, 0xc3, 0x4e,
    0x08, 0x2e, 0xa1, 0x66, 0x28, 0xd9, 0x24, 0xb2, 0x76, 0x5b, 0xa2, 0x49, 0x6d, 0x8b, 0xd1, 0x25,
    0x72, 0xf8, 0xf6, 0x64, 0x86, 0x68, 0x98, 0x16, 0xd4, 0xa4, 0x5c, 0xcc, 0x5d, 0x65, 0xb6, 0x92,
    0x6c, 0x70, 0x48, 0x50, 0xfd, 0xed, 0xb9, 0xda, 0x5e, 0x15, 0x46, 0x57, 0xa7, 0x8d, 0x9d, 0x84,
    0x90, 0xd8, 0xab, 0x00, 0x8c, 0xbc, 0xd3, 0x0a, 0xf7, 0xe4, 0x58, 0x05, 0xb8, 0xb3, 0x45, 0x06,
    0xd0, 0x2c, 0x1e, 0x8f, 0xca, 0x3f, 0x0f, 0x02, 0xc1, 0xaf, 0xbd, 0x03, 0x01, 0x13, 0x8a, 0x6b,
    0x3a, 0x91, 0x11, 0x41, 0x4f, 0x67, 0xdc, 0xea, 0x97, 0xf2, 0xcf, 0xce, 0xf0, 0xb4, 0xe6, 0x73,
    0x96, 0xac, 0x74, 0x22, 0xe7, 0xad, 0x35, 0x85, 0xe2, 0xf9, 0x37, 0xe8, 0x1c, 0x75, 0xdf, 0x6e,
    0x47, 0xf1, 0x1a, 0x71, 0x1d, 0x29, 0xc5, 0x89, 0x6f, 0xb7, 0x62, 0x0e, 0xaa, 0x18, 0xbe, 0x1b,
    0xfc, 0x56, 0x3e, 0x4b, 0xc6, 0xd2, 0x79, 0x20, 0x9a, 0xdb, 0xc0, 0xfe, 0x78, 0xcd, 0x5a, 0xf4,
    0x1f, 0xdd, 0xa8, 0x33, 0x88, 0x07, 0xc7, 0x31, 0xb1, 0x12, 0x10, 0x59, 0x27, 0x80, 0xec, 0x5f,
    0x60, 0x51, 0x7f, 0xa9, 0x19, 0xb5, 0x4a, 0x0d, 0x2d, 0xe5, 0x7a, 0x9f, 0x93, 0xc9, 0x9c, 0xef,
    0xa0, 0xe0, 0x3b, 0x4d, 0xae, 0x2a, 0xf5, 0xb0, 0xc8, 0xeb, 0xbb, 0x3c, 0x83, 0x53, 0x99, 0x61,
    0x17, 0x2b, 0x04, 0x7e, 0xba, 0x77, 0xd6, 0x26, 0xe1, 0x69, 0x14, 0x63, 0x55, 0x21, 0x0c, 0x7d,
};

/* Four bytes at once, each times x. */
static u32 times_x(u32 w) { return (w & 0x7f7f7f7fu) << 1 ^ (w >> 7 & 0x01010101u) * 0x1bu; }

static u32 rotate_right(u32 w, unsigned n) { return w >> n | w << (32 - n); }
static u32 rotate_left(u32 w, unsigned n) { return w << n | w >> (32 - n); }

/* ---- AES --------------------------------------------------------------------------------------------------------- */

/* ShiftRows and SubBytes: byte `i` (row i & 3 of column i >> 2) comes from `step` columns to the right for each row. */
static void aes_shift_sub(u64 *d, const u8 *table, unsigned step)
{
    u8 from[16], to[16];
    memcpy(from, d, 16);
    for (unsigned i = 0; i < 16; i++)
        to[i] = table[from[(i + 4 * step * (i & 3)) & 15]];
    memcpy(d, to, 16);
}

/* A column times 2 3 1 1. */
static u32 mix_column(u32 w)
{
    u32 twice = times_x(w);
    return twice ^ rotate_right(twice ^ w, 8) ^ rotate_right(w, 16) ^ rotate_right(w, 24);
}

/* The inverse, E B D 9, is 2 3 1 1 behind 5 0 4 0. */
static u32 unmix_column(u32 w) { return mix_column(w ^ times_x(times_x(w ^ rotate_right(w, 16)))); }

static void aes_columns(u64 *d, u32 (*op)(u32))
{
    for (unsigned i = 0; i < 2; i++)
        d[i] = op((u32)d[i]) | (u64)op((u32)(d[i] >> 32)) << 32;
}

static void op_aesenclast(u64 *d, const u64 *s)
{
    u64 key[2] = {s[0], s[1]};         /* s may be d */
    aes_shift_sub(d, aes_sub, 1);
    d[0] ^= key[0];
    d[1] ^= key[1];
}
static void op_aesenc(u64 *d, const u64 *s)
{
    u64 key[2] = {s[0], s[1]};
    aes_shift_sub(d, aes_sub, 1);
    aes_columns(d, mix_column);
    d[0] ^= key[0];
    d[1] ^= key[1];
}
static void op_aesdeclast(u64 *d, const u64 *s)
{
    u64 key[2] = {s[0], s[1]};
    aes_shift_sub(d, aes_sub_inverse, 3);
    d[0] ^= key[0];
    d[1] ^= key[1];
}
static void op_aesdec(u64 *d, const u64 *s)
{
    u64 key[2] = {s[0], s[1]};
    aes_shift_sub(d, aes_sub_inverse, 3);
    aes_columns(d, unmix_column);
    d[0] ^= key[0];
    d[1] ^= key[1];
}
static void op_aesimc(u64 *d, const u64 *s)
{
    xmm_copy(d, s);
    aes_columns(d, unmix_column);
}

static u32 aes_sub_word(u32 w)
{
    return (u32)aes_sub[w & 0xff] | (u32)aes_sub[w >> 8 & 0xff] << 8 | (u32)aes_sub[w >> 16 & 0xff] << 16 | (u32)aes_sub[w >> 24] << 24;
}
static void op_aeskeygenassist(u64 *d, const u64 *s, unsigned imm)
{
    u32 word[2] = {aes_sub_word((u32)(s[0] >> 32)), aes_sub_word((u32)(s[1] >> 32))};
    for (unsigned i = 0; i < 2; i++)
        d[i] = word[i] | (u64)(rotate_right(word[i], 8) ^ imm) << 32;
}
SSE_PAIR(aesenc, op_aesenc)
SSE_PAIR(aesenclast, op_aesenclast)
SSE_PAIR(aesdec, op_aesdec)
SSE_PAIR(aesdeclast, op_aesdeclast)
SSE_PAIR(aesimc, op_aesimc)
SSE_PAIR_IMM(aeskeygenassist, op_aeskeygenassist)

/* VEX and EVEX: every 128-bit lane by itself. */
#define LANES(name)                                                                                                    \
    VEC_LANES_SSE(v##name, op_##name)                                                                                  \
    VEC_FAMILY(v##name, 16, 16, v##name##_lanes)
#define LANES_IMM(name)                                                                                                \
    VEC_LANES_SSE_IMM(v##name, op_##name)                                                                              \
    VEC_FAMILY(v##name, 16, 16, v##name##_lanes)
LANES(aesenc)
LANES(aesenclast)
LANES(aesdec)
LANES(aesdeclast)
LANES(aesimc)
LANES_IMM(aeskeygenassist)

/* ---- carry-less multiplication ----------------------------------------------------------------------------------- */

static void op_pclmulqdq(u64 *d, const u64 *s, unsigned imm)
{
    u64 b = s[imm >> 4 & 1];
    u128 a = d[imm & 1], product = 0;
    for (; b; b >>= 1, a <<= 1)
        product ^= a & -(u128)(b & 1);
    d[0] = (u64)product;
    d[1] = (u64)(product >> 64);
}
SSE_PAIR_IMM(pclmulqdq, op_pclmulqdq)
LANES_IMM(pclmulqdq)

/* ---- GF(2^8) on vectors of bytes --------------------------------------------------------------------------------- */

/* Eight products at once: the bytes of b choose, bit by bit from the top, what of a is added. */
static u64 field_products(u64 a, u64 b)
{
    const u64 ones = 0x0101010101010101ull;
    u64 r = 0;
    for (unsigned bit = 8; bit-- > 0;) {
        r = (r & 0x7f * ones) << 1 ^ (r >> 7 & ones) * 0x1b;
        r ^= a & (b >> bit & ones) * 0xff;
    }
    return r;
}
static void op_gf2p8mulb(u64 *d, const u64 *s)
{
    for (unsigned i = 0; i < 2; i++)
        d[i] = field_products(d[i], s[i]);
}

/* The 8x8 bit matrix (row 0 in its top byte) times x, plus c. */
static u8 affine_byte(u64 matrix, u8 x, unsigned c)
{
    unsigned r = c & 0xff;
    for (unsigned bit = 0; bit < 8; bit++)
        r ^= (unsigned)__builtin_parity((unsigned)(matrix >> (8 * (7 - bit))) & x) << bit;
    return (u8)r;
}
static void affine(u64 *d, const u64 *s, unsigned imm, bool inverse)
{
    for (unsigned i = 0; i < 2; i++) {
        u64 matrix = s[i], r = 0;
        for (unsigned n = 0; n < 8; n++) {
            u8 x = (u8)(d[i] >> (8 * n));
            r |= (u64)affine_byte(matrix, inverse ? field_inverse[x] : x, imm) << (8 * n);
        }
        d[i] = r;
    }
}
static void op_gf2p8affineqb(u64 *d, const u64 *s, unsigned imm) { affine(d, s, imm, false); }
static void op_gf2p8affineinvqb(u64 *d, const u64 *s, unsigned imm) { affine(d, s, imm, true); }
SSE_PAIR(gf2p8mulb, op_gf2p8mulb)
SSE_PAIR_IMM(gf2p8affineqb, op_gf2p8affineqb)
SSE_PAIR_IMM(gf2p8affineinvqb, op_gf2p8affineinvqb)

/* Masked by bytes; the matrix may be broadcast. */
VEC_LANES_SSE(vgf2p8mulb, op_gf2p8mulb)
VEC_LANES_SSE_IMM(vgf2p8affineqb, op_gf2p8affineqb)
VEC_LANES_SSE_IMM(vgf2p8affineinvqb, op_gf2p8affineinvqb)
VEC_FAMILY(vgf2p8mulb, 1, 1, vgf2p8mulb_lanes)
VEC_FAMILY(vgf2p8affineqb, 1, 8, vgf2p8affineqb_lanes)
VEC_FAMILY(vgf2p8affineinvqb, 1, 8, vgf2p8affineinvqb_lanes)

/* ---- SHA-1 ------------------------------------------------------------------------------------------------------- */

/* Words in the SDM's order for SHA-1: w[0] is bits 127:96. */
static void words_from(u32 *w, const u64 *q)
{
    w[0] = (u32)(q[1] >> 32);
    w[1] = (u32)q[1];
    w[2] = (u32)(q[0] >> 32);
    w[3] = (u32)q[0];
}
static void words_to(u64 *q, u32 w0, u32 w1, u32 w2, u32 w3)
{
    q[1] = (u64)w0 << 32 | w1;
    q[0] = (u64)w2 << 32 | w3;
}

static u32 choose(u32 x, u32 y, u32 z) { return (x & y) ^ (~x & z); }
static u32 majority(u32 x, u32 y, u32 z) { return (x & y) ^ (x & z) ^ (y & z); }

/* Four rounds; E of the first has been added to its word by SHA1NEXTE. */
static void op_sha1rnds4(u64 *d, const u64 *s, unsigned imm)
{
    static const u32 constants[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    u32 v[4], w[4], e = 0;
    words_from(v, d);
    words_from(w, s);
    imm &= 3;
    for (unsigned i = 0; i < 4; i++) {
        u32 f = imm == 0 ? choose(v[1], v[2], v[3]) : imm == 2 ? majority(v[1], v[2], v[3]) : v[1] ^ v[2] ^ v[3];
        u32 a = f + rotate_left(v[0], 5) + w[i] + e + constants[imm];
        e = v[3];
        v[3] = v[2];
        v[2] = rotate_left(v[1], 30);
        v[1] = v[0];
        v[0] = a;
    }
    words_to(d, v[0], v[1], v[2], v[3]);
}
static void op_sha1nexte(u64 *d, const u64 *s)
{
    u32 e = rotate_left((u32)(d[1] >> 32), 30);
    u64 low = s[0], high = s[1];
    d[0] = low;
    d[1] = (u64)((u32)(high >> 32) + e) << 32 | (u32)high;
}
static void op_sha1msg1(u64 *d, const u64 *s)
{
    u32 a[4], b[4];
    words_from(a, d);
    words_from(b, s);
    words_to(d, a[2] ^ a[0], a[3] ^ a[1], b[0] ^ a[2], b[1] ^ a[3]);
}
static void op_sha1msg2(u64 *d, const u64 *s)
{
    u32 a[4], b[4];
    words_from(a, d);
    words_from(b, s);
    u32 w16 = rotate_left(a[0] ^ b[1], 1);
    words_to(d, w16, rotate_left(a[1] ^ b[2], 1), rotate_left(a[2] ^ b[3], 1), rotate_left(a[3] ^ w16, 1));
}
SSE_PAIR_IMM(sha1rnds4, op_sha1rnds4)
SSE_PAIR(sha1nexte, op_sha1nexte)
SSE_PAIR(sha1msg1, op_sha1msg1)
SSE_PAIR(sha1msg2, op_sha1msg2)

/* ---- SHA-256 ----------------------------------------------------------------------------------------------------- */

static u32 small_sigma0(u32 w) { return rotate_right(w, 7) ^ rotate_right(w, 18) ^ w >> 3; }
static u32 small_sigma1(u32 w) { return rotate_right(w, 17) ^ rotate_right(w, 19) ^ w >> 10; }
static u32 big_sigma0(u32 w) { return rotate_right(w, 2) ^ rotate_right(w, 13) ^ rotate_right(w, 22); }
static u32 big_sigma1(u32 w) { return rotate_right(w, 6) ^ rotate_right(w, 11) ^ rotate_right(w, 25); }

/* Two rounds with the words (constants added) in `wk`: the state is A B E F in s, C D G H in d. */
static void sha256_rounds(u64 *d, const u64 *s, u64 wk)
{
    u32 abef[4], cdgh[4];
    words_from(abef, s);
    words_from(cdgh, d);
    u32 a = abef[0], b = abef[1], c = cdgh[0], dd = cdgh[1], e = abef[2], f = abef[3], g = cdgh[2], h = cdgh[3];
    for (unsigned i = 0; i < 2; i++) {
        u32 t = choose(e, f, g) + big_sigma1(e) + (u32)(wk >> (32 * i)) + h;
        u32 next = t + majority(a, b, c) + big_sigma0(a);
        h = g;
        g = f;
        f = e;
        e = t + dd;
        dd = c;
        c = b;
        b = a;
        a = next;
    }
    words_to(d, a, b, e, f);
}
static enum flow sha256rnds2_r(struct cpu *cpu, const struct insn *in)
{
    SSE_GATE();
    sha256_rounds(xmm(cpu, in->reg), xmm(cpu, in->rm), *xmm(cpu, 0));
    return FLOW_NEXT;
}
static enum flow sha256rnds2_m(struct cpu *cpu, const struct insn *in)
{
    u64 s[2];
    SSE_GATE();
    TRY(xmm_load(cpu, in, s));
    sha256_rounds(xmm(cpu, in->reg), s, *xmm(cpu, 0));
    return FLOW_NEXT;
}
FAMILY_RM(sha256rnds2, sha256rnds2_r, sha256rnds2_m)

static void op_sha256msg1(u64 *d, const u64 *s)
{
    u32 a[4], w4 = (u32)s[0];
    words_from(a, d);
    words_to(d, a[0] + small_sigma0(w4), a[1] + small_sigma0(a[0]), a[2] + small_sigma0(a[1]), a[3] + small_sigma0(a[2]));
}
static void op_sha256msg2(u64 *d, const u64 *s)
{
    u32 a[4], w14 = (u32)s[1], w15 = (u32)(s[1] >> 32);
    words_from(a, d);
    u32 w16 = a[3] + small_sigma1(w14), w17 = a[2] + small_sigma1(w15);
    words_to(d, a[0] + small_sigma1(w17), a[1] + small_sigma1(w16), w17, w16);
}
SSE_PAIR(sha256msg1, op_sha256msg1)
SSE_PAIR(sha256msg2, op_sha256msg2)
