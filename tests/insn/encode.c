/* Rows to bytes.
 *
 * A row says which prefixes, opcode, ModRM and immediates make up its instruction; everything free is random. The
 * address of a memory operand is chosen first; registers and displacement are then set so that the operand lands there.
 * This is written without the decoder's tables, so that the decoder is checked too.
 */
#include "maker.h"

#include "cpu/decode.h"

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

static void put(struct maker *m, unsigned byte) { m->bytes[m->n++] = (u8)byte; }
static void put_n(struct maker *m, u64 v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        put(m, (u8)(v >> (8 * i)));
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
void encode_steer(struct maker *m)
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
void encode_suit_gather(struct maker *m)
{
    struct rng *r = &m->rng;
    struct user_state *s = &m->v->before;
    u8 indexes[32];
    for (unsigned i = 0; i < (m->gather_quads ? 4 : 8); i++) {
        i64 index = (i64)rng_below(r, 128) - 64;
        if (rng_chance(r, 5)) {
            u64 from = rng_chance(r, 50) ? 0 : (u64)-4 * PAGE;
            index = (i64)((from + rng_below(r, 2 * PAGE)) >> m->scale);
        }
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

/* The instruction of a row. */
void encode_row(struct maker *m, const struct insn_row *row)
{
    struct rng *r = &m->rng;
    unsigned bits = m->v->bits;
    bool vex = row->vector != VECTOR_LEGACY;
    bool memory = row_can_be_memory(row) && !m->no_memory && (row->mem_only || rng_chance(r, 50));
    bool addresses =
        memory || row->imm == IMM_MOFFS || is_string_row(row) || one_of(row->name, " XLAT MASKMOVQ MASKMOVDQU VMASKMOVDQU ");
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
    m->target = is_image_row(row) ? maker_image_target(m) : maker_target(m);
    if (row->modrm == MODRM_FIXED) {
        put(m, row->modrm_value | (rng_below(r, 8) & (u8)~row->modrm_mask));
    } else if (row->modrm != MODRM_NONE) {
        unsigned reg = row->modrm == MODRM_DIGIT ? row->modrm_value : rng_below(r, 8), at;
        if (is_gather(row) && memory && asz != 1) {     /* with 16-bit addresses it is #UD */
            encode_gather(m, row, asz, reg, seg, rex);
        } else if (memory) {
            encode_memory(m, asz, reg, seg, rex, &at);
        } else {
            unsigned mod = row->attr & ROW_IGNMOD ? (unsigned)rng64(r) & 0xc0 : 0xc0;
            put(m, mod | reg << 3 | rng_below(r, 8));
        }
    }

    unsigned osz;
    if (bits == BITS_64)
        osz = row->attr & ROW_F64 || rex_w ? OSZ_64 : opsize ? OSZ_16 : row->attr & ROW_D64 ? OSZ_64 : OSZ_32;
    else
        osz = (bits == BITS_32) != opsize ? OSZ_32 : OSZ_16;
    unsigned bytes = row_imm_bytes(row, osz, asz);
    if (row->imm == IMM_MOFFS) {
        put_n(m, m->target - segment_base(m, seg >= 0 ? (unsigned)seg : SEG_DS), bytes);
    } else if (row->imm == IMM_W_B) {      /* ENTER: a frame that fits and few levels, mostly */
        unsigned levels = rng_below(r, 6);
        put_n(m, rng_chance(r, 80) ? rng_below(r, 96) | levels << 16 : rng64(r), 3);
    } else if (row->imm == IMM_FAR) {
        u16 selector = maker_far_selector(m);
        put_n(m, maker_far_offset(m, selector), 1u << osz);
        put_n(m, selector, 2);
    } else if (row->imm == IMM_W) {
        put_n(m, rng_chance(r, 80) ? rng_below(r, 128) : rng64(r), 2);
    } else {
        put_n(m, maker_value(m), bytes);
    }
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
        u64 rest = rng64(r) & ~mask;
        regs[REG_RSI] = ((maker_target(m) - data_base) & mask) | rest;
        regs[REG_RDI] = ((maker_target(m) - segment_base(m, SEG_ES)) & mask) | (rest << 1 & ~mask);
        if (repeated || rng_chance(r, 50))
            regs[REG_RCX] = (rng_below(r, rng_chance(r, 10) ? 300 : 20) & mask) | (rest << 2 & ~mask);
    } else if (one_of(row->name, " XLAT ")) {
        u64 rest = rng64(r) & ~mask;
        regs[REG_RBX] = ((maker_target(m) - data_base - (u8)regs[REG_RAX]) & mask) | rest;
    } else if (one_of(row->name, " MASKMOVQ MASKMOVDQU VMASKMOVDQU ")) {
        u64 rest = rng64(r) & ~mask;
        regs[REG_RDI] = ((maker_target(m) - data_base) & mask) | rest;
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

/* Random bytes that decode to a row of the plan. */
bool encode_random(struct maker *m)
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
        while (n < 32)    /* more than any instruction has */
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
            m->target = maker_target(m);
        }
        if (in.flags & (INSN_REP | INSN_REPNE) && is_string_row(&insn_rows[in.row]))
            m->v->before.r[REG_RCX] = rng_below(r, 20);
        return true;
    }
    return false;
}
