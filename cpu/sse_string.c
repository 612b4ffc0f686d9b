/* The string comparisons of SSE4.2: PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM, with and without VEX.
 *
 * imm8: 1:0 elements (unsigned bytes, unsigned words, signed bytes, signed words), 3:2 what is compared, 5:4 polarity,
 * 6 the form of the output. The first operand is the register, whose elements are a set, ranges or a needle; the second
 * is looked at from element to element. Their memory operand need not be aligned.
 * [SDM1 "Programming with SSE4.2: String and Text Processing Instructions"; SDM2 "Imm8 Control Byte Operation for
 * PCMPESTRI / ..."]
 */
#include "cpu/flags.h"
#include "cpu/sse.h"
#include "cpu/vector.h"

enum { EQUAL_ANY, RANGES, EQUAL_EACH, EQUAL_ORDERED };

struct strings {
    unsigned count;            /* elements in a register: 16 or 8 */
    i32 a[16], b[16];
    unsigned valid_a, valid_b; /* elements before the end of the string */
};

static void unpack_elements(i32 *to, const u64 *v, unsigned imm)
{
    const u8 *bytes = (const u8 *)v;
    for (unsigned i = 0; i < (imm & 1 ? 8u : 16u); i++) {
        u16 w = imm & 1 ? load16(bytes + 2 * i) : bytes[i];
        to[i] = imm & 2 ? (imm & 1 ? (i16)w : (i8)w) : w;
    }
}

/* Elements before the first zero. */
static unsigned implicit_length(const i32 *e, unsigned count)
{
    unsigned n = 0;
    while (n < count && e[n])
        n++;
    return n;
}

/* |length| in a general register, saturated. */
static unsigned explicit_length(u64 r, bool wide, unsigned count)
{
    u64 n = wide ? r : (u64)(i64)(i32)r;
    if ((i64)n < 0)
        n = 0 - n;
    return n > count ? count : (unsigned)n;
}

/* IntRes1: one bit for each element of b (EQUAL_ORDERED: for each place in b where a would begin). */
static u32 aggregate(const struct strings *s, unsigned imm)
{
    u32 result = 0;
    for (unsigned i = 0; i < s->count; i++) {
        bool bit = false;
        switch (imm >> 2 & 3) {
        case EQUAL_ANY:
            for (unsigned j = 0; i < s->valid_b && j < s->valid_a; j++)
                bit |= s->b[i] == s->a[j];
            break;
        case RANGES:           /* a pair counts only if both of its ends are valid */
            for (unsigned j = 0; i < s->valid_b && j + 1 < s->valid_a; j += 2)
                bit |= s->b[i] >= s->a[j] && s->b[i] <= s->a[j + 1];
            break;
        case EQUAL_EACH:
            bit = i < s->valid_a && i < s->valid_b ? s->a[i] == s->b[i] : i >= s->valid_a && i >= s->valid_b;
            break;
        default:               /* what is behind the end of a matches everything, also behind the end of b */
            bit = true;
            for (unsigned j = 0; i + j < s->count && j < s->valid_a; j++)
                bit &= i + j < s->valid_b && s->b[i + j] == s->a[j];
            break;
        }
        result |= (u32)bit << i;
    }
    return result;
}

/* IntRes2, and the flags. */
static u32 compare_strings(struct cpu *cpu, const struct strings *s, unsigned imm)
{
    u32 all = (1u << s->count) - 1, r = aggregate(s, imm);
    if (imm & 0x10)
        r ^= imm & 0x20 ? (1u << s->valid_b) - 1 : all;
    flags_set_status(cpu, (r ? FL_CF : 0) | (s->valid_b < s->count ? FL_ZF : 0) | (s->valid_a < s->count ? FL_SF : 0) |
                          (r & 1 ? FL_OF : 0));
    return r;
}

static void store_index(struct cpu *cpu, u32 r, unsigned count, unsigned imm)
{
    unsigned index = r == 0 ? count : imm & 0x40 ? 31 - (unsigned)__builtin_clz(r) : (unsigned)__builtin_ctz(r);
    reg64_set(cpu, REG_RCX, index);
}

static void store_mask(struct cpu *cpu, u32 r, unsigned count, unsigned imm)
{
    u64 mask[2] = {r, 0};
    if (imm & 0x40) {
        unsigned bits = 128 / count;
        mask[0] = 0;
        for (unsigned i = 0; i < count; i++)
            if (r >> i & 1)
                mask[i * bits / 64] |= mask_low(bits) << (i * bits % 64);
    }
    memcpy(xmm(cpu, 0), mask, 16);
}

static enum flow string_compare(struct cpu *cpu, const struct insn *in, bool explicit, bool index)
{
    struct strings s;
    u64 b[2];
    unsigned imm = (u8)in->imm;
    bool vex = in->flags & INSN_VEX;
    if (vex)
        VEC_GATE();
    else
        SSE_GATE();
    if (in->flags & INSN_MEM)
        TRY(xmm_load_unaligned(cpu, in, b));
    else
        memcpy(b, xmm(cpu, in->rm), 16);
    memset(&s, 0, sizeof s);
    s.count = imm & 1 ? 8 : 16;
    unpack_elements(s.a, xmm(cpu, in->reg), imm);
    unpack_elements(s.b, b, imm);
    bool wide = in->flags & INSN_REX_W && in->flags & INSN_64;
    s.valid_a = explicit ? explicit_length(cpu->core.rax, wide, s.count) : implicit_length(s.a, s.count);
    s.valid_b = explicit ? explicit_length(cpu->core.rdx, wide, s.count) : implicit_length(s.b, s.count);
    u32 r = compare_strings(cpu, &s, imm);
    if (index)
        store_index(cpu, r, s.count, imm);
    else
        store_mask(cpu, r, s.count, imm);
    if (vex && !index)
        vec_clear_above(cpu, 0, 16);
    return FLOW_NEXT;
}
static enum flow pcmpestrm(struct cpu *cpu, const struct insn *in) { return string_compare(cpu, in, true, false); }
static enum flow pcmpestri(struct cpu *cpu, const struct insn *in) { return string_compare(cpu, in, true, true); }
static enum flow pcmpistrm(struct cpu *cpu, const struct insn *in) { return string_compare(cpu, in, false, false); }
static enum flow pcmpistri(struct cpu *cpu, const struct insn *in) { return string_compare(cpu, in, false, true); }
FAMILY_ONE(pcmpestrm, pcmpestrm)
FAMILY_ONE(pcmpestri, pcmpestri)
FAMILY_ONE(pcmpistrm, pcmpistrm)
FAMILY_ONE(pcmpistri, pcmpistri)
