/* Making vectors.
 *
 * A row says which prefixes, opcode, ModRM and immediates make up its instruction; everything free is random. The
 * address of a memory operand is chosen first (mostly within the windows of vector.h, sometimes at a page's border, in
 * a read-only or missing page, or not canonical); registers and displacement are then set so that the operand lands
 * there. Implicit operands (stack, strings, counts, dividends) get values under which something happens. Encoding is
 * written here on its own, so that the decoder is checked too.
 */
#include "generate.h"

#include "cpu/decode.h"
#include "cpu/features.h"
#include "cpu/operand.h"
#include "random.h"

#include <stdio.h>
#include <strings.h>

/* ---- which rows -------------------------------------------------------------------------------------------------- */

enum row_kind { KIND_GENERAL, KIND_SYSTEM, KIND_FAR, KIND_VMX, KIND_X87, KIND_VECTOR };

/* Rows of these files are run only where families[] below names their handler family. */
#define INSN(mnemonic, enc, ops, ...) {#mnemonic, enc, ops, KIND},
static const struct { const char *name, *encoding, *operands; u8 kind; } restricted[] = {
#define KIND KIND_SYSTEM
#include "cpu/insn_sys.def"
#undef KIND
#define KIND KIND_FAR
#include "cpu/insn_far.def"
#undef KIND
#define KIND KIND_VMX
#include "cpu/insn_vmx.def"
#undef KIND
};
#undef INSN

const struct insn_row *vector_row(const struct vector *v)
{
    static const struct insn_row none = {
        .name = "(undefined)", .encoding = "", .operands = "", .attributes = "", .flags = "", .family_name = ""};
    return v->row == NO_ROW ? &none : &insn_rows[v->row];
}

static bool one_of(const char *name, const char *names)
{
    char find[32];
    snprintf(find, sizeof find, " %s ", name);
    return strstr(names, find) != NULL;
}

/* System and far rows that user code may run with an effect on nothing else, or that are refused to it. What depends on
 * tables (LAR, far branches), on time, on the kernel (INT, SYSCALL, UMIP) or on values of the host's own is left out.
 */
static const char *const families[] = {
    [KIND_SYSTEM] = " mov_from_cr mov_to_cr mov_from_dr mov_to_dr clts lmsw lgdt lidt invlpg invd wbinvd clflush hint "
                 "pause rdmsr wrmsr "
                 "swapgs rdfsbase rdgsbase wrfsbase wrgsbase hlt xsetbv in_imm out_imm in_dx out_dx ins outs ",
    [KIND_FAR] = " cli sti int3 into bound undefined push_es push_cs push_ss push_ds push_fs push_gs mov_from_segment "
                 "pushf popf lldt ltr ",
    [KIND_VMX] = "",
};
/* Of the others: what loads or stores images with fields of the host's own, approximations, and what Linux does on
 * behalf of the program. */
static const char *const left_out =
    " fldenv fnstenv frstor fnsave fwait rcpps rcpss rsqrtps rsqrtss vrcpps vrcpss vrsqrtps vrsqrtss ";

static bool uses_letter(const struct insn_row *row, const char *letters)
{
    for (unsigned i = 0; i < row->operand_count; i++)
        if (row->operand[i].letter && strchr(letters, row->operand[i].letter))
            return true;
    return false;
}

static u8 kind_of(const struct insn_row *row)
{
    for (unsigned i = 0; i < ARRAY_SIZE(restricted); i++)
        if (strcmp(restricted[i].name, row->name) == 0 && strcmp(restricted[i].encoding, row->encoding) == 0 &&
            strcmp(restricted[i].operands, row->operands) == 0)
            return restricted[i].kind;
    if (row->vector == VECTOR_LEGACY && row->map == 0 && (row->opcode & 0xf8) == 0xd8)
        return KIND_X87;
    if (uses_letter(row, "VWHULPQN") || one_of(row->name, " LDMXCSR STMXCSR VLDMXCSR VSTMXCSR "))
        return KIND_VECTOR;
    return KIND_GENERAL;
}

static bool row_allowed(const struct bench *bench, unsigned number, unsigned kind, unsigned bits)
{
    const struct insn_row *row = &insn_rows[number];
    if (row->attr & (bits == BITS_64 ? ROW_I64 : ROW_O64))
        return false;
    if (row->feature && !(bench->feature[row->feature / 32] >> row->feature % 32 & 1))
        return false;
    if (row->vector == VECTOR_EVEX || one_of(row->family_name, left_out))
        return false;
    return kind >= ARRAY_SIZE(families) || !families[kind] || one_of(row->family_name, families[kind]);
}

bool plan_lacks_feature(const struct bench *bench, unsigned row)
{
    const struct insn_row *r = &insn_rows[row];
    unsigned bits = r->attr & ROW_I64 ? BITS_32 : BITS_64;
    struct bench all = {0};
    memset(all.feature, 0xff, sizeof all.feature);
    return row_allowed(&all, row, kind_of(r), bits) && !row_allowed(bench, row, kind_of(r), bits);
}

bool plan_make(struct plan *plan, const struct bench *bench, unsigned bits, const char *name, u64 seed)
{
    *plan = (struct plan){.bench = bench, .seed = seed, .bits = (u8)bits, .random_share = name ? 0 : 16};
    insn_table_init();
    if (insn_row_count > ARRAY_SIZE(plan->rows))
        panic("tests/insn/generate.h: room for %u rows of %u", (unsigned)ARRAY_SIZE(plan->rows), insn_row_count);
    for (unsigned i = 0; i < insn_row_count; i++) {
        plan->kind[i] = kind_of(&insn_rows[i]);
        if (row_allowed(bench, i, plan->kind[i], bits)) {
            plan->allowed[i] = true;
            if (!name || strcasecmp(name, insn_rows[i].name) == 0)
                plan->rows[plan->count++] = (u16)i;
        }
    }
    return plan->count != 0;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

struct maker {
    const struct plan *plan;
    struct rng rng;
    struct vector *v;
    /* the instruction under construction */
    u8 bytes[32];
    unsigned n;
    u64 seg_base;              /* of the memory operand */
    u64 target;                /* la of the memory operand */
    bool memory;
    int base_reg, index_reg;   /* registers the operand uses, -1 none */
    i64 disp;
    unsigned scale;
    u64 address_mask;
    int gather_index;          /* the vector register of indexes, -1 none */
    bool gather_quads;         /* 64-bit indexes */
    bool spoilt;               /* made undefined on purpose: the decoder may find no row */
    int rip_disp;              /* place of a RIP-relative displacement, -1 none */
};

static u64 random_value(struct maker *m)
{
    struct rng *r = &m->rng;
    u64 v;
    switch (rng_below(r, 10)) {
    case 0: return rng_below(r, 256);
    case 1: return -(u64)rng_below(r, 256);
    case 2: v = 1ull << rng_below(r, 64); return v + (u64)rng_below(r, 3) - 1;
    case 3: return rng64(r) >> rng_below(r, 64);
    case 4: return ~(rng64(r) >> rng_below(r, 64));
    case 5: return m->plan->bench->region + rng_below(r, REGION_BYTES);
    case 6: v = rng_below(r, 256) * 0x0101010101010101ull; return v;
    default: return rng64(r);
    }
}

/* The bits of a floating-point number that arithmetic may stumble over, in 32 or 64 bits. */
static u32 random_single(struct rng *r)
{
    static const u32 some[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
                               0x7fc00000, 0x7f800001, 0x00000001, 0x007fffff, 0x00800000, 0x7f7fffff,
                               0x4f000000, 0xcf000000, 0x5f000000, 0x34000000, 0x3f000000};
    if (rng_chance(r, 30))
        return some[rng_below(r, ARRAY_SIZE(some))] | (rng_chance(r, 20) ? 0x80000000 : 0);
    if (rng_chance(r, 40))         /* near 1, so that sums and differences meet */
        return ((u32)rng64(r) & 0x80ffffff) | (0x3f000000 + (rng_below(r, 8) << 22));
    return (u32)rng64(r);
}
static u64 random_double(struct rng *r)
{
    static const u64 some[] = {
        0, 1, 1ull << 63, 0x3ff0000000000000, 0xbff0000000000000, 0x7ff0000000000000, 0xfff0000000000000,
        0x7ff8000000000000, 0x7ff0000000000001, 0x000fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff,
        0x41e0000000000000, 0xc1e0000000000000, 0x43e0000000000000, 0xc3e0000000000000, 0x3fe0000000000000,
        0x36a0000000000000,
    };
    if (rng_chance(r, 30))
        return some[rng_below(r, ARRAY_SIZE(some))] | (rng_chance(r, 20) ? 1ull << 63 : 0);
    if (rng_chance(r, 40))
        return (rng64(r) & 0x800fffffffffffff) | (0x3fd0000000000000 + ((u64)rng_below(r, 8) << 51));
    if (rng_chance(r, 30))         /* in the range of singles */
        return (rng64(r) & 0x800fffffffffffff) | (u64)(0x380 - 30 + rng_below(r, 320)) << 52;
    return rng64(r);
}
static u16 random_half(struct rng *r)
{
    static const u16 some[] = {0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 1, 0x03ff, 0x0400, 0x7bff};
    return rng_chance(r, 40) ? some[rng_below(r, ARRAY_SIZE(some))] : (u16)rng64(r);
}
static void random_lanes(struct maker *m, u64 *q, unsigned n)
{
    struct rng *r = &m->rng;
    unsigned kind = rng_below(r, 9);
    for (unsigned i = 0; i < n; i++)
        switch (kind) {
        case 0: case 1: q[i] = random_value(m); break;
        case 2: case 3: q[i] = random_double(r); break;
        case 4: case 5: q[i] = random_single(r) | (u64)random_single(r) << 32; break;
        case 6:
            q[i] = random_half(r) | (u64)random_half(r) << 16 | (u64)random_half(r) << 32 | (u64)random_half(r) << 48;
            break;
        default: q[i] = rng64(r);
        }
}

static void random_fpu(struct maker *m, struct user_state *state)
{
    struct rng *r = &m->rng;
    struct fx_image *fx = &state->fx;
    unsigned kind = m->v->row == NO_ROW ? KIND_GENERAL : m->plan->kind[m->v->row];
    *fx = (struct fx_image){.fcw = 0x37f, .mxcsr = 0x1f80};
    for (unsigned i = 0; i < 16; i += 2)
        random_lanes(m, fx->xmm[i], 4);
    if (m->plan->bench->avx)
        for (unsigned i = 0; i < 16; i += 2)
            random_lanes(m, state->ymm_high[i], 4);
    if (kind == KIND_VECTOR) {
        fx->mxcsr |= rng_below(r, 4) << 13;
        if (rng_chance(r, 20))
            fx->mxcsr = (u32)rng64(r) & 0xffff;
        if (rng_chance(r, 10))
            fx->mxcsr |= 0x8040;
    }
    for (unsigned i = 0; i < 8; i++) {
        u64 d = random_double(r);
        unsigned exponent = (unsigned)(d >> 52) & 0x7ff;
        fx->st[i].mantissa = 1ull << 63 | d << 11;
        fx->st[i].exponent = (u16)((d >> 63) << 15 | (exponent == 0x7ff ? 0x7fff : exponent + 0x3c00));
        if (exponent == 0 || rng_chance(r, 10)) {
            fx->st[i].exponent = (u16)(rng64(r) & (rng_chance(r, 50) ? 0xffff : 0x8000));
            fx->st[i].mantissa = rng_chance(r, 30) ? 0 : rng64(r);
        }
    }
    if (kind == KIND_X87) {
        fx->ftw = rng_chance(r, 60) ? 0xff : (u8)rng64(r);
        fx->fsw = (u16)(rng64(r) & 0x7800);
        if (rng_chance(r, 30))
            fx->fsw |= rng64(r) & 0x477f;
        fx->fcw |= (u16)(rng_below(r, 4) << 10);
        if (rng_chance(r, 20))
            fx->fcw = (u16)((fx->fcw & 0xff) | (rng64(r) & 0xf00));
        if (rng_chance(r, 10))
            fx->fcw = (u16)((rng64(r) & 0x1f3f) | 0x40);
    }
}

/* Where a memory operand lies: a linear address. */
static u64 random_target(struct maker *m)
{
    struct rng *r = &m->rng;
    u64 region = m->plan->bench->region;
    unsigned dice = rng_below(r, 100);
    if (dice < 33)
        return region + windows[1].off + 32 * rng_below(r, windows[1].bytes / 32);
    if (dice < 66)
        return region + windows[1].off + 16 * rng_below(r, windows[1].bytes / 16);
    if (dice < 82)
        return region + windows[1].off + 16 + rng_below(r, windows[1].bytes - 32);
    if (dice < 86)
        return region + windows[2].off + rng_below(r, windows[2].bytes);
    if (dice < 89)
        return region + windows[3].off + rng_below(r, windows[3].bytes + 8);
    if (dice < 92)
        return region + windows[0].off - 16 + rng_below(r, windows[0].bytes + 16);
    if (dice < 95)
        return region + m->v->code_off + rng_below(r, 8);
    if (dice < 98 || m->v->bits != BITS_64)
        return region + DATA_END + rng_below(r, PAGE);
    return BIT(47) + (rng64(r) & 0x7fffffffffffff);
}

/* The place in the vector's memory of a linear address, NULL outside the windows. */
static u8 *memory_at(struct vector *v, u64 region, u64 la, unsigned bytes)
{
    for (unsigned i = 0; i < 4; i++)
        if (la - region >= windows[i].off && la - region + bytes <= windows[i].off + windows[i].bytes)
            return v->memory + windows[i].at + (la - region - windows[i].off);
    return NULL;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

static void put(struct maker *m, unsigned byte) { m->bytes[m->n++] = (u8)byte; }
static void put_n(struct maker *m, u64 v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put(m, (u8)(v >> (8 * i)));
}

/* The base of the segment that a prefix or default names. */
static u64 segment_base(const struct maker *m, unsigned seg)
{
    if (m->v->bits == BITS_64)
        return seg == SEG_FS ? m->v->before.fs_base : seg == SEG_GS ? m->v->before.gs_base : 0;
    return m->plan->bench->seg[m->v->bits][seg].base;
}

/* ModRM (with `reg`), SIB and displacement of a memory operand at m->target; rex receives the extension bits. seg: an
 * override, or -1. */
static void encode_memory(struct maker *m, unsigned asz, unsigned reg, int seg, unsigned rex, unsigned *modrm_at)
{
    struct rng *r = &m->rng;
    bool ss_default = false;
    unsigned mod = rng_below(r, 3), rm = rng_below(r, 8);
    *modrm_at = m->n;
    m->memory = true;
    m->address_mask = mask_low(8u << asz);
    m->base_reg = m->index_reg = -1;
    m->scale = 0;
    m->disp = 0;
    if (asz == 1) {
        static const i8 bases[8] = {3, 3, 5, 5, 6, 7, 5, 3}, indexes[8] = {6, 7, 6, 7, -1, -1, -1, -1};
        m->base_reg = bases[rm];
        m->index_reg = indexes[rm];
        ss_default = m->base_reg == REG_RBP;
        put(m, mod << 6 | reg << 3 | rm);
        if (mod == 0 && rm == 6) {
            m->base_reg = -1;
            ss_default = false;
        }
        m->seg_base = segment_base(m, seg >= 0 ? (unsigned)seg : ss_default ? SEG_SS : SEG_DS);
        if (m->base_reg < 0) {
            put_n(m, m->target - m->seg_base, 2);
            m->disp = (i64)((m->target - m->seg_base) & 0xffff);
        } else if (mod == 1) {
            m->disp = (i8)rng64(r);
            put_n(m, (u64)m->disp, 1);
        } else if (mod == 2) {
            m->disp = (i16)rng64(r);
            put_n(m, (u64)m->disp, 2);
        }
        return;
    }
    put(m, mod << 6 | reg << 3 | rm);
    bool absolute = false;
    if (rm == 4) {
        unsigned sib = (unsigned)rng64(r) & 0xff;
        unsigned index = (sib >> 3 & 7) | (rex & 2 ? 8 : 0);
        put(m, sib);
        if (index != 4) {
            m->index_reg = (int)index;
            m->scale = sib >> 6;
        }
        m->base_reg = (int)((sib & 7) | (rex & 1 ? 8 : 0));
        absolute = (sib & 7) == 5 && mod == 0;
    } else if (rm == 5 && mod == 0) {
        absolute = true;
        if (m->v->bits == BITS_64)
            m->rip_disp = (int)m->n;
    } else {
        m->base_reg = (int)(rm | (rex & 1 ? 8 : 0));
    }
    if (absolute)
        m->base_reg = -1;
    ss_default = m->base_reg == REG_RSP || m->base_reg == REG_RBP;
    m->seg_base = segment_base(m, seg >= 0 ? (unsigned)seg : ss_default ? SEG_SS : SEG_DS);
    if (absolute) {
        u64 index = 0;
        if (m->index_reg >= 0) {   /* a small index, so that the displacement can do the rest */
            index = (u64)rng_below(r, 1000) - 500;
            m->v->before.r[m->index_reg] = index;
        }
        m->disp = (i32)(m->target - m->seg_base - (index << m->scale));
        m->target = 0;             /* no register is left to be set */
        put_n(m, (u64)m->disp, 4);
    } else if (mod == 1) {
        m->disp = (i8)rng64(r);
        put_n(m, (u64)m->disp, 1);
    } else if (mod == 2) {
        m->disp = rng_chance(r, 50) ? (i32)rng64(r) : (i32)(rng64(r) & 0xffff);
        put_n(m, (u64)m->disp, 4);
    }
}

/* Sets the base register (or both, where they are the same one) so that the operand is at m->target. */
static void steer(struct maker *m)
{
    u64 *r = m->v->before.r;
    if (!m->memory || m->base_reg < 0 || m->target == 0)
        return;
    u64 offset = m->target - m->seg_base - (u64)m->disp, value;
    if (m->base_reg == m->index_reg) {
        if (m->scale == 0)
            value = offset / 2;
        else if (m->scale == 1)
            value = offset / 3;
        else
            value = offset / (m->scale == 2 ? 5 : 9);
    } else {
        value = offset - (m->index_reg >= 0 ? r[m->index_reg] << m->scale : 0);
    }
    u64 mask = m->address_mask;
    r[m->base_reg] = (value & mask) | (rng64(&m->rng) & ~mask);
}

static unsigned row_imm_bytes(const struct insn_row *row, unsigned osz, unsigned asz)
{
    unsigned z = osz == OSZ_16 ? 2 : 4;
    switch (row->imm) {
    case IMM_B: case IMM_BS: case IMM_JB: case IMM_IS4: return 1;
    case IMM_W: return 2;
    case IMM_Z: case IMM_JZ: return z;
    case IMM_V: return osz == OSZ_64 ? 8 : z;
    case IMM_W_B: return 3;
    case IMM_D: return 4;
    case IMM_MOFFS: return 1u << asz;
    default: return 0;
    }
}

/* What makes the encoding of a VEX row undefined [SDM2 "Vector Length Transition and Programming Considerations",
 * "#UD Equations"]: now and then one of them is done. L and W matter to some rows only; the decoder tells. */
enum spoil { SPOIL_NONE, SPOIL_PREFIX, SPOIL_VVVV, SPOIL_L, SPOIL_W };

static void encode_vector_prefix(struct maker *m, const struct insn_row *row, unsigned rex, enum spoil spoil)
{
    struct rng *r = &m->rng;
    static const u8 pp_of[] = {[PREFIX_ANY] = 0, [PREFIX_NP] = 0, [PREFIX_66] = 1, [PREFIX_F3] = 2, [PREFIX_F2] = 3};
    unsigned pp = pp_of[row->prefix], l = row->l >= 0 ? (unsigned)row->l : rng_below(r, 2), vvvv = 15;
    bool w = row->w >= 0 ? row->w : rng_chance(r, 50);
    if (row->uses_vvvv || spoil == SPOIL_VVVV)
        vvvv = rng_below(r, m->v->bits == BITS_64 ? 16 : 8) ^ 15;
    if (spoil == SPOIL_L)
        l ^= 1;
    if (spoil == SPOIL_W)
        w = !w;
    if (row->map == 1 && !w && !(rex & 3) && rng_chance(r, 50)) {
        put(m, 0xc5);
        put(m, (rex & 4 ? 0 : 0x80) | vvvv << 3 | l << 2 | pp);
        return;
    }
    put(m, 0xc4);
    put(m, (~rex & 7) << 5 | row->map);
    put(m, (w ? 0x80 : 0) | vvvv << 3 | l << 2 | pp);
}

/* Gathers: SIB's index is a vector of indexes. Most elements lie in the windows, some where they fault; the mask (VEX.vvvv)
 * takes its signs from what random_fpu() has made. */
static void encode_gather(struct maker *m, const struct insn_row *row, unsigned asz, unsigned reg, int seg, unsigned rex)
{
    struct rng *r = &m->rng;
    unsigned mod = rng_below(r, 3), sib = (unsigned)rng64(r) & 0xff;
    bool rm_other = rng_chance(r, 2);      /* #UD: no SIB byte */
    if (mod == 0 && (sib & 7) == 5)
        mod = 2;
    put(m, mod << 6 | reg << 3 | (rm_other ? 0 : 4));
    m->memory = true;
    m->address_mask = mask_low(8u << asz);
    m->scale = sib >> 6;
    m->base_reg = (int)((rm_other ? 0 : sib & 7) | (rex & 1 ? 8 : 0));
    m->index_reg = -1;
    if (!rm_other)
        put(m, sib);
    bool ss_default = m->base_reg == REG_RSP || m->base_reg == REG_RBP;
    m->seg_base = segment_base(m, seg >= 0 ? (unsigned)seg : ss_default ? SEG_SS : SEG_DS);
    m->disp = mod == 1 ? (i8)rng64(r) : mod == 2 ? (i32)rng64(r) : 0;
    put_n(m, (u64)m->disp, mod == 1 ? 1 : mod == 2 ? 4 : 0);
    m->gather_index = (int)((sib >> 3 & 7) | (rex & 2 ? 8 : 0));
    m->gather_quads = strchr(row->name, 'Q') != NULL && strstr(row->name, "GATHERQ") != NULL;
}

/* The vector of indexes, once the registers are there. */
static void suit_gather(struct maker *m)
{
    struct rng *r = &m->rng;
    struct user_state *s = &m->v->before;
    u8 indexes[32];
    for (unsigned i = 0; i < (m->gather_quads ? 4 : 8); i++) {
        i64 index = (i64)rng_below(r, 128) - 64;
        if (rng_chance(r, 5))
            index = (i64)((rng_below(r, 2 * PAGE) + (rng_chance(r, 50) ? 0 : (u64)-4 * PAGE)) >> m->scale);
        if (rng_chance(r, 1))
            index = (i64)rng64(r);
        memcpy(indexes + i * (m->gather_quads ? 8 : 4), &index, m->gather_quads ? 8 : 4);
    }
    memcpy(s->fx.xmm[m->gather_index], indexes, 16);
    memcpy(s->ymm_high[m->gather_index], indexes + 16, 16);
}

static void encode_legacy_prefixes(struct maker *m, const struct insn_row *row, bool opsize, bool addrsize, bool lock,
                                   int seg)
{
    static const u8 seg_prefix[] = {
        [SEG_ES] = 0x26, [SEG_CS] = 0x2e, [SEG_SS] = 0x36, [SEG_DS] = 0x3e, [SEG_FS] = 0x64, [SEG_GS] = 0x65};
    struct rng *r = &m->rng;
    u8 list[8];
    unsigned n = 0;
    if (opsize)
        list[n++] = 0x66;
    if (addrsize)
        list[n++] = 0x67;
    if (lock)
        list[n++] = 0xf0;
    if (seg >= 0)
        list[n++] = seg_prefix[seg];
    if (row->vector == VECTOR_LEGACY) {
        if (row->prefix == PREFIX_F3 || row->prefix == PREFIX_F2)
            list[n++] = row->prefix == PREFIX_F3 ? 0xf3 : 0xf2;
        else if (row->attr & ROW_REPS && rng_chance(r, 60))
            list[n++] = rng_chance(r, 50) ? 0xf3 : 0xf2;
        else if (row->prefix == PREFIX_ANY && rng_chance(r, 3))
            list[n++] = rng_chance(r, 50) ? 0xf3 : 0xf2;
    }
    for (unsigned i = n; i > 1; i--) {
        unsigned j = rng_below(r, i);
        u8 swap = list[i - 1];
        list[i - 1] = list[j];
        list[j] = swap;
    }
    for (unsigned i = 0; i < n; i++)
        put(m, list[i]);
}

static bool row_can_be_memory(const struct insn_row *row)
{
    if (row->reg_only || row->modrm == MODRM_FIXED || row->modrm == MODRM_NONE || row->attr & ROW_IGNMOD)
        return false;
    return true;
}

static bool is_stack_row(const struct insn_row *row)
{
    return one_of(row->name, " PUSH POP PUSHA POPA ENTER LEAVE CALL RET PUSHF POPF ");
}
static bool is_branch_row(const struct insn_row *row)
{
    return row->imm == IMM_JB || row->imm == IMM_JZ || one_of(row->name, " JMP CALL RET ");
}
static bool is_gather(const struct insn_row *row) { return strstr(row->name, "GATHER"); }
static bool is_string_row(const struct insn_row *row) { return row->attr & ROW_REPS; }

/* The instruction of a row. */
static void encode_row(struct maker *m, const struct insn_row *row)
{
    struct rng *r = &m->rng;
    unsigned bits = m->v->bits;
    bool vex = row->vector != VECTOR_LEGACY;
    bool memory = row_can_be_memory(row) && (row->mem_only || rng_chance(r, 50));
    bool addresses =
        memory || row->imm == IMM_MOFFS || is_string_row(row) || one_of(row->name, " XLAT MASKMOVQ MASKMOVDQU ");
    bool opsize = row->prefix == PREFIX_66 ||
                  (!vex && (row->prefix == PREFIX_ANY || row->attr & ROW_PREFIXED) && rng_chance(r, 25));
    if (!vex && (row->prefix == PREFIX_F3 || row->prefix == PREFIX_F2) && rng_chance(r, 15))
        opsize = true;
    if (vex)
        opsize = false;
    bool addrsize = rng_chance(r, addresses ? 12 : 4);
    /* 16-bit addresses reach the region through a segment that begins there. */
    bool needs_segment = bits == BITS_32 && addrsize && m->plan->bench->ldt;
    if (bits == BITS_16 && !addrsize)
        needs_segment = false;
    int seg = -1;
    if (addresses && (rng_chance(r, 15) || (needs_segment && rng_chance(r, 80)))) {
        seg = (int)rng_below(r, 6);
        if (needs_segment)
            seg = rng_chance(r, 70) ? SEG_FS : SEG_GS;
        if (bits == BITS_64 ? !m->plan->bench->fsgsbase && seg >= SEG_FS : !m->plan->bench->ldt && seg >= SEG_FS)
            seg = SEG_DS;
    }
    bool lock = !vex && (row->attr & ROW_LOCK && memory ? rng_chance(r, 25) : rng_chance(r, 1));
    unsigned asz = bits == BITS_64 ? (addrsize ? 2 : 3) : (bits == BITS_32) != addrsize ? 2 : 1;

    unsigned rex = 0;
    if (bits == BITS_64) {
        if (vex || rng_chance(r, 60))
            rex = 0x40 | rng_below(r, 8);
        if (!vex && (row->w == 1 || (row->w < 0 && rng_chance(r, 40))))
            rex |= 0x48;
    }
    bool rex_w = rex & 8;
    enum spoil spoil = vex && rng_chance(r, 6) ? 1 + rng_below(r, 4) : SPOIL_NONE;
    m->spoilt = spoil != SPOIL_NONE;
    encode_legacy_prefixes(m, row, opsize, addrsize, lock, seg);
    if (vex) {
        static const u8 forbidden[] = {0x66, 0xf2, 0xf3, 0xf0, 0x41, 0x48};
        if (spoil == SPOIL_PREFIX)
            put(m, forbidden[rng_below(r, bits == BITS_64 ? 6 : 4)]);
        encode_vector_prefix(m, row, rex, spoil);
    } else {
        if (rex)
            put(m, rex);
        if (row->map >= 1)
            put(m, 0x0f);
        if (row->map >= 2)
            put(m, row->map == 2 ? 0x38 : 0x3a);
    }
    put(m, row->opcode + (row->plus_r ? rng_below(r, 8) : 0));

    m->rip_disp = -1;
    m->target = random_target(m);
    if (row->modrm == MODRM_FIXED) {
        put(m, row->modrm_value | (rng_below(r, 8) & (u8)~row->modrm_mask));
    } else if (row->modrm != MODRM_NONE) {
        unsigned reg = row->modrm == MODRM_DIGIT ? row->modrm_value : rng_below(r, 8), at;
        if (is_gather(row) && memory)
            encode_gather(m, row, asz, reg, seg, rex);
        else if (memory)
            encode_memory(m, asz, reg, seg, rex, &at);
        else
            put(m, (row->attr & ROW_IGNMOD ? (unsigned)rng64(r) & 0xc0 : 0xc0) | reg << 3 | rng_below(r, 8));
    }

    unsigned osz;
    if (bits == BITS_64)
        osz = row->attr & ROW_F64 || rex_w ? OSZ_64 : opsize ? OSZ_16 : row->attr & ROW_D64 ? OSZ_64 : OSZ_32;
    else
        osz = (bits == BITS_32) != opsize ? OSZ_32 : OSZ_16;
    unsigned bytes = row_imm_bytes(row, osz, asz);
    if (row->imm == IMM_MOFFS)
        put_n(m, m->target - segment_base(m, seg >= 0 ? (unsigned)seg : SEG_DS), bytes);
    else if (row->imm == IMM_W_B)  /* ENTER: a frame that fits and few levels, mostly */
        put_n(m, rng_chance(r, 80) ? rng_below(r, 96) | rng_below(r, 6) << 16 : rng64(r), 3);
    else if (row->imm == IMM_W)
        put_n(m, rng_chance(r, 80) ? rng_below(r, 128) : rng64(r), 2);
    else
        put_n(m, random_value(m), bytes);
    if (m->rip_disp >= 0) {
        u64 next = m->plan->bench->region + vector_insn_off(m->v) + m->n;
        store32(m->bytes + m->rip_disp, (u32)m->disp - (u32)next);
    }

    /* Implicit addresses. */
    u64 data_base = segment_base(m, seg >= 0 ? (unsigned)seg : SEG_DS), mask = mask_low(8u << asz);
    u64 *regs = m->v->before.r;
    if (is_string_row(row)) {
        bool repeated = false;
        for (unsigned i = 0; i < m->n; i++)
            repeated |= m->bytes[i] == 0xf3 || m->bytes[i] == 0xf2;
        regs[REG_RSI] = ((random_target(m) - data_base) & mask) | (rng64(r) & ~mask);
        regs[REG_RDI] = ((random_target(m) - segment_base(m, SEG_ES)) & mask) | (rng64(r) & ~mask);
        if (repeated || rng_chance(r, 50))
            regs[REG_RCX] = (rng_below(r, rng_chance(r, 10) ? 300 : 20) & mask) | (rng64(r) & ~mask);
    } else if (one_of(row->name, " XLAT ")) {
        regs[REG_RBX] = ((random_target(m) - data_base - (u8)regs[REG_RAX]) & mask) | (rng64(r) & ~mask);
    } else if (one_of(row->name, " MASKMOVQ MASKMOVDQU ")) {
        regs[REG_RDI] = ((random_target(m) - data_base) & mask) | (rng64(r) & ~mask);
    }
}

/* Whether these bytes are a VEX- or EVEX-encoded instruction that the host may have and cpu/insn.def has no row for. */
static bool is_vector_encoding(const struct maker *m)
{
    if (m->plan->bench->vex_whole)
        return false;
    static const char prefixes[] = "\x26\x2e\x36\x3e\x64\x65\x66\x67\xf0\xf2\xf3";
    const u8 *p = m->bytes;
    bool long_code = m->v->bits == BITS_64;
    while (strchr(prefixes, *p) || (long_code && (*p & 0xf0) == 0x40))
        p++;
    return (*p == 0xc4 || *p == 0xc5 || *p == 0x62) && (long_code || p[1] >= 0xc0);
}

/* Whether the host might call its kernel: SYSCALL, SYSRET, SYSENTER, SYSEXIT somewhere in the bytes. */
static bool may_call_kernel(const struct maker *m)
{
    for (unsigned i = 0; i + 1 < 15; i++)
        if (m->bytes[i] == 0x0f &&
            (m->bytes[i + 1] == 0x05 || m->bytes[i + 1] == 0x07 || m->bytes[i + 1] == 0x34 || m->bytes[i + 1] == 0x35))
            return true;
    return false;
}

/* Random bytes that decode to a row of the plan. */
static bool random_bytes(struct maker *m)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x3e, 0x26,
                                  0x36, 0x64, 0x65, 0x40, 0x41, 0x48, 0x4f};
    struct rng *r = &m->rng;
    for (unsigned attempt = 0; attempt < 200; attempt++) {
        unsigned n = 0;
        while (n < 13 && rng_chance(r, 45))
            m->bytes[n++] = prefixes[rng_below(r, m->v->bits == BITS_64 ? 15 : 11)];
        if (rng_chance(r, 40))
            m->bytes[n++] = 0x0f;
        while (n < 32)
            m->bytes[n++] = (u8)rng64(r);
        struct insn in;
        if (insn_decode(m->plan->bench->feature, m->v->bits, m->bytes, 15, &in) != DECODE_OK)
            continue;
        if (in.row == NO_ROW ? !rng_chance(r, 20) || is_vector_encoding(m) || may_call_kernel(m)
                             : !m->plan->allowed[in.row])
            continue;
        bool fs_gs = in.arch_seg == SEG_FS || in.arch_seg == SEG_GS;
        if (fs_gs && !(m->v->bits == BITS_64 ? m->plan->bench->fsgsbase : m->plan->bench->ldt))
            continue;
        m->n = in.length;
        m->v->row = in.row;
        if (in.row == NO_ROW)
            return true;
        if (in.flags & INSN_MEM && in.base < 16 && insn_rows[in.row].imm != IMM_MOFFS) {
            m->memory = true;
            m->base_reg = in.base;
            m->index_reg = in.index < 16 ? in.index : -1;
            m->scale = in.scale;
            m->disp = in.disp;
            m->address_mask = mask_low(8u << in.asz);
            m->seg_base = segment_base(m, in.arch_seg);
            m->target = random_target(m);
        }
        if (in.flags & (INSN_REP | INSN_REPNE) && is_string_row(&insn_rows[in.row]))
            m->v->before.r[REG_RCX] = rng_below(r, 20);
        return true;
    }
    return false;
}

/* ---- the state --------------------------------------------------------------------------------------------------- */

/* Sets a part of a register and leaves the rest as it is; byte registers by their offset. */
static void reg_set_raw(u64 *regs, unsigned n, unsigned osz, u64 value)
{
    if (osz == OSZ_8)
        ((u8 *)regs)[n] = (u8)value;
    else
        memcpy(&regs[n], &value, 1u << osz);
}

/* A dividend whose quotient just fits, or just does not. */
static void suit_division(struct maker *m, const struct insn_row *row, const struct insn *in)
{
    struct rng *r = &m->rng;
    u64 *regs = m->v->before.r, mask = osz_mask(in->osz), divisor = random_value(m) & mask;
    unsigned bits = osz_bits(in->osz), n = in->osz == OSZ_8 ? in->rm / 8 : in->rm;
    bool is_signed = row->name[0] == 'I', negative = rng_chance(r, 50);
    u8 *operand = in->flags & INSN_MEM ? memory_at(m->v, m->plan->bench->region, m->target, 1u << in->osz) : NULL;
    bool uses_pair = m->memory && (m->base_reg == REG_RAX || m->base_reg == REG_RDX || m->index_reg == REG_RAX ||
                                   m->index_reg == REG_RDX);
    if (uses_pair || (!(in->flags & INSN_MEM) && (n == REG_RAX || n == REG_RDX)))
        return;
    if (operand)
        memcpy(operand, &divisor, 1u << in->osz);
    else if (!(in->flags & INSN_MEM))
        reg_set_raw(regs, in->rm, in->osz, divisor);
    /* The magnitudes of quotient and divisor; the remainder takes the dividend's sign. */
    u64 d = is_signed && divisor >> (bits - 1) ? -divisor & mask : divisor;
    u64 most = is_signed ? mask >> 1 : mask,
        q = rng_chance(r, 50) ? most - 2 + rng_below(r, 4) : random_value(m) & most;
    u128 dividend = (u128)q * d + (d ? rng64(r) % d : 0);
    if (is_signed && negative)
        dividend = -dividend;
    if (in->osz == OSZ_8) {
        regs[REG_RAX] = (regs[REG_RAX] & ~0xffffull) | (u16)dividend;
        return;
    }
    reg_set_raw(regs, REG_RAX, in->osz, (u64)dividend & mask);
    reg_set_raw(regs, REG_RDX, in->osz, (u64)(dividend >> bits) & mask);
}

/* Values under which a row does something: what is popped, compared, divided, counted. */
static void suit_row(struct maker *m, const struct insn_row *row, const struct insn *in)
{
    struct vector *v = m->v;
    struct rng *r = &m->rng;
    u64 *regs = v->before.r, region = m->plan->bench->region;
    bool operand_free = !m->memory || (m->base_reg != REG_RSP && m->index_reg != REG_RSP);
    if (is_stack_row(row) && operand_free)
        regs[REG_RSP] = random_target(m) & (rng_chance(r, 90) ? ~7ull : ~0ull);
    if (one_of(row->name, " LEAVE ENTER ") && rng_chance(r, 90))
        regs[REG_RBP] = random_target(m) & ~7ull;
    u8 *top = memory_at(v, region, regs[REG_RSP], 8);
    if (one_of(row->name, " RET ") && top && rng_chance(r, 90))
        store64(top, rng_chance(r, 50) ? region + rng_below(r, REGION_BYTES) : rng64(r) >> 17);
    /* A set TF or NT would outlive the instruction in the harness, a set AC would reach it. */
    if (one_of(row->name, " POPF ") && !top) {
        /* not from code or around a window's end: into the missing page, or among the data */
        regs[REG_RSP] = rng_chance(r, 30) ? region + DATA_END + rng_below(r, PAGE - 8)
                                          : region + windows[1].off + 8 * rng_below(r, windows[1].bytes / 8);
        top = memory_at(v, region, regs[REG_RSP], 8);
    }
    if (one_of(row->name, " POPF ") && top)
        store64(top, load64(top) & ~(u64)(FL_TF | FL_NT | FL_AC));
    if (one_of(row->name, " BT BTS BTR BTC ") && uses_letter(row, "G") && in->flags & INSN_MEM && rng_chance(r, 90) &&
        in->reg != in->base && in->reg != in->index)
        regs[in->reg] = (u64)rng_below(r, 1024) - 512;
    if (one_of(row->name, " ROL ROR RCL RCR SHL SHR SAR SHLD SHRD ") && strstr(row->operands, "CL") &&
        rng_chance(r, 80) && m->base_reg != REG_RCX)
        regs[REG_RCX] = (regs[REG_RCX] & ~0xffull) | rng_below(r, 70);
    if (one_of(row->name, " DIV IDIV ") && rng_chance(r, 80))
        suit_division(m, row, in);
    if (one_of(row->name, " LOOP LOOPE LOOPNE JRCXZ ") && rng_chance(r, 70))
        regs[REG_RCX] = (regs[REG_RCX] & ~mask_low(8u << in->asz)) | rng_below(r, 3);
    u8 *loaded = m->memory ? memory_at(v, region, m->target, 4) : NULL;
    if (one_of(row->name, " LDMXCSR ") && loaded && rng_chance(r, 90))
        store32(loaded, load32(loaded) & 0xffff);
    if (m->memory && rng_chance(r, 50)) {
        u8 *operand = memory_at(v, region, m->target, 16);
        if (operand && one_of(row->name, " CMPXCHG ") && m->base_reg != REG_RAX && m->index_reg != REG_RAX)
            memcpy(&regs[REG_RAX], operand, 8);
        if (operand && one_of(row->name, " CMPXCHG8B ")) {
            store64(operand, (u64)(u32)regs[REG_RDX] << 32 | (u32)regs[REG_RAX]);
        } else if (operand && one_of(row->name, " CMPXCHG16B ")) {
            store64(operand, regs[REG_RAX]);
            store64(operand + 8, regs[REG_RDX]);
        }
    } else if (one_of(row->name, " CMPXCHG ") && rng_chance(r, 50)) {
        regs[REG_RAX] = regs[in->osz == OSZ_8 ? in->rm / 8 : in->rm];
    }
}

static void place_code(struct maker *m)
{
    struct vector *v = m->v;
    u32 end = CODE_OFF + CODE_PAGES * PAGE;
    v->at = 16;
    v->code_off = (u16)(CODE_OFF + 1024 + 16 * rng_below(&m->rng, 64));
    if (rng_chance(&m->rng, 6))    /* across the border of the two code pages */
        v->code_off = (u16)(end - PAGE - 16 - 1 - rng_below(&m->rng, 14));
}

/* The image: filling (INT3), the instruction, a jump to the exit stub, filling. */
static void make_image(struct maker *m)
{
    struct vector *v = m->v;
    const struct bench *bench = m->plan->bench;
    memset(v->code, 0xcc, sizeof v->code);
    memcpy(v->code + v->at, m->bytes, m->n);
    u8 *out = v->code + v->at + m->n;
    v->length = (u8)m->n;
    if (v->bits == BITS_64) {
        out[0] = 0xe9;
        store32(out + 1, (u32)(bench->exit_stub - (bench->region + vector_insn_off(v) + m->n + 5)));
        return;
    }
    if (v->bits == BITS_16)
        *out++ = 0x66;
    out[0] = 0xea;
    store32(out + 1, (u32)bench->exit_stub);
    store16(out + 5, 0x33);
}

static void random_state(struct maker *m)
{
    struct vector *v = m->v;
    struct rng *r = &m->rng;
    struct user_state *s = &v->before;
    for (unsigned n = 0; n < 16; n++)
        s->r[n] = random_value(m);
    if (rng_chance(r, 80))
        s->r[REG_RSP] = random_target(m) & ~7ull;
    s->rflags = FL_R1 | FL_IF | (rng64(r) & (FL_STATUS | FL_ID)) | (rng_chance(r, 30) ? FL_DF : 0) |
                (rng_chance(r, 4) ? FL_AC : 0);
    s->fs_base = rng64(r) >> 20;
    s->gs_base = rng_chance(r, 80) ? rng64(r) >> 17 : 0;
    u64 *memory = (u64 *)(void *)v->memory;
    bool dull = rng_chance(r, 20);
    u64 same = rng_below(r, 256) * 0x0101010101010101ull;
    for (unsigned i = 0; i < WINDOW_BYTES / 8; i += 2) {
        if (dull && !rng_chance(r, 6))
            memory[i] = memory[i + 1] = same;
        else
            random_lanes(m, memory + i, 2);
    }
}

/* Whether bytes that were spoilt may run as what the decoder takes them for: nothing at all, or another row of the plan. */
static bool spoilt_row(const struct maker *m, u16 row)
{
    if (row == NO_ROW)
        return m->plan->bench->vex_whole && !may_call_kernel(m);
    return m->plan->allowed[row];
}

bool generate_vector(const struct plan *plan, u64 index, struct vector *v)
{
    for (unsigned attempt = 0;; attempt++) {
        struct maker m = {.plan = plan, .v = v, .base_reg = -1, .index_reg = -1, .gather_index = -1, .rip_disp = -1};
        m.rng = rng_for(plan->seed, index, attempt);
        memset(v, 0, offsetof(struct vector, native));
        v->index = index;
        v->bits = plan->bits;
        v->random = plan->random_share && index % plan->random_share == plan->random_share - 1;
        v->row = plan->rows[(index - (plan->random_share ? index / plan->random_share : 0)) % plan->count];
        place_code(&m);
        random_state(&m);
        if (v->random) {
            if (!random_bytes(&m))
                continue;
        } else {
            encode_row(&m, &insn_rows[v->row]);
        }
        const struct insn_row *row = vector_row(v);
        random_fpu(&m, &v->before);
        steer(&m);
        if (m.gather_index >= 0)
            suit_gather(&m);
        struct insn in;
        enum decode_result result = insn_decode(plan->bench->feature, v->bits, m.bytes, 15, &in);
        if (m.spoilt && result == DECODE_OK && in.row != v->row && m.n <= 15 && spoilt_row(&m, in.row)) {
            v->row = in.row;
            row = vector_row(v);
        }
        if (m.n > 15 || in.row != v->row) {
            /* Another, more specific row (NOP for XCHG …): try again. Not forever: then the decoder does not find this
             * row at all. */
            bool undefined_lock = result == DECODE_OK && in.row == 0xffff;
            if (attempt < 100)
                continue;
            fprintf(stderr, "hostcpu: %s \"%s\": the decoder finds %s\n", row->name, row->encoding,
                    undefined_lock ? "nothing" : in.row < insn_row_count ? insn_rows[in.row].encoding : "nothing");
            return false;
        }
        suit_row(&m, row, &in);
        if (result != DECODE_OK || (in.length != m.n && !m.spoilt)) {
            fprintf(stderr, "hostcpu: %s \"%s\", index %llu:", row->name, row->encoding, (unsigned long long)index);
            for (unsigned i = 0; i < m.n; i++)
                fprintf(stderr, " %02x", m.bytes[i]);
            fprintf(stderr, ": %u bytes were encoded, the decoder finds %u\n", m.n, in.length);
            return false;
        }
        make_image(&m);
        v->single_step = is_branch_row(row) || (v->random && !is_string_row(row) && !one_of(row->name, " PUSHF POPF "));
        return true;
    }
}
