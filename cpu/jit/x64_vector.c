/* The x86-64 back end: SSE and AVX instructions of the guest are the same instructions of the host, on registers that hold the guest's
 * for as long as a block runs (guest n in host n): their 16 low bytes, or 32 in blocks that have VEX-encoded instructions.
 *
 * Kept true: they run only while the guest's MXCSR masks every exception; the host's MXCSR then has the guest's rounding, DAZ and FZ, and
 * gathers the guest's flags until the code is left. Otherwise, and where CR0, CR4 or XCR0 forbid them, their handlers run.
 */
#include "cpu/jit/x64_asm.h"

#include "cpu/features.h"

#include <cpuid.h>

/* MOVUPS of 16 bytes, or VMOVUPS of 32 in blocks that have VEX-encoded instructions. */
static void move_vector(struct emit *e, bool store, unsigned n)
{
    if (e->wide)
        x64_vex(e, 0x110 | store, false, 1, n, 0, rm_cpu(OFF_V(n)));
    else
        x64_op(e, 0x110 | store, OSZ_32, n, rm_cpu(OFF_V(n)));
}

void x64_vectors_store(struct emit *e, u32 set)
{
    for (unsigned n = 0; n < VECTORS; n++)
        if (set >> n & 1)
            move_vector(e, true, n);
}

void x64_vectors_load(struct emit *e, u32 set)
{
    for (unsigned n = 0; n < VECTORS; n++)
        if (set >> n & 1)
            move_vector(e, false, n);
}

/* Vector n was changed, by an instruction that clears all above if `vex`. */
static void wrote_vector(struct emit *e, unsigned n, bool vex)
{
    e->dirty |= 1u << n;
    if (!vex || !e->has_zmm || e->zmm_cleared >> n & 1)
        return;
    for (i32 i = 32; i < 64; i += 8)
        x64_store_imm(e, OSZ_64, rm_cpu(OFF_V(n) + i), 0);
    e->zmm_cleared |= 1u << n;
}

void x64_vzeroupper(struct emit *e)
{
    put8(e, 0xc5);
    put8(e, 0xf8);
    put8(e, 0x77);
}

/* CPUID's leaf 7, which __builtin_cpu_supports() does not know all of with every compiler. reg: 1 EBX, 2 ECX. */
static bool leaf_7(unsigned reg, unsigned bit)
{
    unsigned r[4] = {0};
    return __get_cpuid_count(7, 0, &r[0], &r[1], &r[2], &r[3]) && r[reg] >> bit & 1;
}

static bool has_lzcnt(void)
{
    unsigned r[4] = {0};
    return __get_cpuid(0x80000001, &r[0], &r[1], &r[2], &r[3]) && r[2] >> 5 & 1;
}

static bool leaf_1_ecx(unsigned bit)
{
    unsigned r[4] = {0};
    return __get_cpuid(1, &r[0], &r[1], &r[2], &r[3]) && r[2] >> bit & 1;
}

bool x64_has_avx(void) { return __builtin_cpu_supports("avx"); }

bool emit_feature_exists(unsigned feature)
{
    switch (feature) {
    case FEATURE_SSE: case FEATURE_SSE2: return true;
    case FEATURE_SSE3: return __builtin_cpu_supports("sse3");
    case FEATURE_SSSE3: return __builtin_cpu_supports("ssse3");
    case FEATURE_SSE4_1: return __builtin_cpu_supports("sse4.1");
    case FEATURE_SSE4_2: return __builtin_cpu_supports("sse4.2");
    case FEATURE_POPCNT: return leaf_1_ecx(23);
    case FEATURE_MOVBE: return leaf_1_ecx(22);
    case FEATURE_LZCNT: return has_lzcnt();
    case FEATURE_BMI1: return leaf_7(1, 3);
    case FEATURE_BMI2: return leaf_7(1, 8);
    case FEATURE_AES: return leaf_1_ecx(25);
    case FEATURE_PCLMULQDQ: return leaf_1_ecx(1);
    case FEATURE_SHA: return leaf_7(1, 29);
    case FEATURE_GFNI: return leaf_7(2, 8);
    case FEATURE_AVX: return x64_has_avx();
    case FEATURE_AVX2: return __builtin_cpu_supports("avx2");
    case FEATURE_FMA: return __builtin_cpu_supports("fma");
    case FEATURE_F16C: return x64_has_avx() && leaf_1_ecx(29);
    case FEATURE_VAES: return x64_has_avx() && leaf_7(2, 9);
    case FEATURE_VPCLMULQDQ: return x64_has_avx() && leaf_7(2, 10);
    default: return false;
    }
}

static void keep_relation(struct emit *e)
{
    if (e->cur.keep_flags) {
        x64_op(e, 0x190 | CC_E, OSZ_8, 0, rm_cpu(OFF(jit.cc_a)));
        x64_op(e, 0x190 | CC_P, OSZ_8, 0, rm_cpu(OFF(jit.cc_a) + 1));
        x64_op(e, 0x190 | CC_B, OSZ_8, 0, rm_cpu(OFF(jit.cc_a) + 2));
        x64_store_imm(e, OSZ_32, rm_cpu(OFF(jit.cc_op)), CC_RELATION);
        e->cc_op = CC_RELATION;
    }
    e->known = -1;
    x64_flags_left(e, FL_STATUS);
}

/* CMPPS and its like: the SDM reserves the upper bits, the handlers ignore them. Outside 64-bit code there are eight registers. */
static u8 immediate_of(const struct insn *in, const struct emit_vector *v)
{
    if (v->reads_is4)
        return (u8)in->imm & (in->flags & INSN_64 ? 0xff : 0x7f);
    if ((v->opcode & 0xffff) == 0x1c2)
        return (u8)in->imm & (v->vex ? 31 : 7);
    return (u8)in->imm;
}

void emit_vector(struct emit *e, const struct emit_vector *v)
{
    const struct insn *in = e->cur.in;
    bool memory = in->flags & INSN_MEM, general = v->reg == PART_GENERAL || v->rm == PART_GENERAL;
    bool w = in->flags & INSN_REX_W && (!general || in->flags & INSN_64);
    struct rm rm = rm_reg(in->rm);
    x64_vectors_gate(e, v->vex ? JIT_FP_AVX : JIT_FP_SSE);
    if (memory) {
        rm = x64_address(e);
        if (v->aligned) {
            x64_lea(e, OSZ_64, T0, rm);
            rm = rm_at(T0, 0);
            x64_op(e, 0xf6, OSZ_8, 0, rm_reg(T0));
            put8(e, v->bytes - 1u);
            x64_slow_if(e, CC_NE, false);
        }
        rm = x64_translate(e, rm, v->bytes, v->writes_rm, false);
    }
    /* What is read first, since the destination may be the same register. A legacy encoding keeps what lies above 16 bytes. */
    bool keeps = e->wide && !v->vex, reg_vector = v->reg == PART_VECTOR, rm_vector = !memory && v->rm == PART_VECTOR;
    u32 reads = (reg_vector && (v->reads_reg || keeps) ? 1u << in->reg : 0) | (rm_vector && (v->reads_rm || keeps) ? 1u << in->rm : 0) |
                (v->reads_vvvv ? 1u << in->vvvv : 0) | (v->reads_is4 ? 1u << (immediate_of(in, v) >> 4) : 0) | v->reads_v0;
    x64_vectors_load(e, reads & ~e->cached);
    e->cached |= reads | (reg_vector ? 1u << in->reg : 0) | (rm_vector ? 1u << in->rm : 0) | (v->writes_vvvv ? 1u << in->vvvv : 0);
    unsigned g = v->reg == PART_GENERAL ? in->reg : in->rm, reg = in->reg;
    bool writes_general = v->reg == PART_GENERAL ? v->writes_reg : !memory && v->rm == PART_GENERAL && v->writes_rm;
    if (v->reg == PART_GENERAL)
        reg = pinned(g) ? x64_pin[g] : T1;
    else if (v->reg == PART_NONE)
        reg = in->modrm >> 3 & 7;
    if (!memory && v->rm == PART_GENERAL)
        rm = writes_general && !pinned(g) ? rm_reg(T1) : guest(g);
    if (v->vex)
        x64_vex(e, v->opcode, w, in->vl, reg, v->reads_vvvv || v->writes_vvvv ? in->vvvv : 0, rm);
    else
        x64_op(e, v->opcode, general && w ? OSZ_64 : OSZ_32, reg, rm);
    if (v->immediate)
        put8(e, immediate_of(in, v));
    if (writes_general && !pinned(g))
        x64_store(e, guest(g), T1);
    if (reg_vector && v->writes_reg)
        wrote_vector(e, in->reg, v->vex);
    if (rm_vector && v->writes_rm)
        wrote_vector(e, in->rm, v->vex);
    if (v->writes_vvvv)
        wrote_vector(e, in->vvvv, v->vex);
    if (v->relation)
        keep_relation(e);
}

void emit_zero_upper(struct emit *e)
{
    x64_vectors_gate(e, JIT_FP_AVX);
    x64_vectors_flush(e);
    x64_vex(e, 0x6601ef, false, 0, 0, 0, rm_reg(0));
    for (unsigned n = 0; n < (e->word == OSZ_64 ? 16 : 8); n++) {
        x64_vex(e, 0x111, false, 0, 0, 0, rm_cpu(OFF_V(n) + 16));
        if (e->has_zmm)
            x64_vex(e, 0x111, false, 1, 0, 0, rm_cpu(OFF_V(n) + 32));
    }
}
