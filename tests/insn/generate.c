/* Making vectors: states in which something happens.
 *
 * Memory operands lie mostly within the windows of vector.h, sometimes at a page's border, in a read-only or missing
 * page, or not canonical. Implicit operands (stack, strings, counts, dividends) get values that suit their instruction.
 */
#include "maker.h"

#include "cpu/decode.h"
#include "stored.h"

/* ---- values ------------------------------------------------------------------------------------------------------ */

u64 maker_value(struct maker *m)
{
    struct rng *r = &m->rng;
    u64 v;
    switch (rng_below(r, 10)) {
    case 0: return rng_below(r, 256);
    case 1: return -(u64)rng_below(r, 256);
    case 2: v = 1ull << rng_below(r, 64); return v + (u64)rng_below(r, 3) - 1;
    case 3: v = rng64(r); return v >> rng_below(r, 64);
    case 4: v = rng64(r); return ~(v >> rng_below(r, 64));
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
    if (rng_chance(r, 30)) {
        u32 sign = rng_chance(r, 20) ? 0x80000000 : 0;
        return some[rng_below(r, ARRAY_SIZE(some))] | sign;
    }
    if (rng_chance(r, 40)) {       /* near 1, so that sums and differences meet */
        u32 exponent = 0x3f000000 + (rng_below(r, 8) << 22);
        return ((u32)rng64(r) & 0x80ffffff) | exponent;
    }
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
    u64 rest;
    if (rng_chance(r, 30)) {
        rest = rng_chance(r, 20) ? 1ull << 63 : 0;
        return some[rng_below(r, ARRAY_SIZE(some))] | rest;
    }
    if (rng_chance(r, 40)) {
        rest = 0x3fd0000000000000 + ((u64)rng_below(r, 8) << 51);
        return (rng64(r) & 0x800fffffffffffff) | rest;
    }
    if (rng_chance(r, 30)) {       /* in the range of singles */
        rest = (u64)(0x380 - 30 + rng_below(r, 320)) << 52;
        return (rng64(r) & 0x800fffffffffffff) | rest;
    }
    return rng64(r);
}
static u16 random_half(struct rng *r)
{
    static const u16 some[] = {0, 0x8000, 0x3c00, 0xbc00, 0x7c00, 0xfc00, 0x7e00, 0x7c01, 1, 0x03ff, 0x0400, 0x7bff};
    return rng_chance(r, 40) ? some[rng_below(r, ARRAY_SIZE(some))] : (u16)rng64(r);
}
/* The pool is made anew for every 65,536 vectors, by the seed and their index alone. */
static void make_pool(struct plan *plan, u64 epoch)
{
    struct rng generator = rng_for(plan->seed, epoch, ~0ull), *r = &generator;
    struct maker m = {.plan = plan};
    m.rng = rng_for(plan->seed, epoch, ~1ull);
    for (unsigned i = 0; i < ARRAY_SIZE(plan->pool[0]); i++) {
        plan->pool[0][i] = maker_value(&m);
        plan->pool[1][i] = random_double(r);
        plan->pool[2][i] = random_single(r) | (u64)random_single(r) << 32;
        plan->pool[3][i] = random_half(r) | (u64)random_half(r) << 16 | (u64)random_half(r) << 32 | (u64)random_half(r) << 48;
    }
    plan->epoch = epoch + 1;
}

/* n is a multiple of 2. */
static void random_lanes(struct maker *m, u64 *q, unsigned n)
{
    struct rng *r = &m->rng;
    unsigned kind = rng_below(r, 8) / 2 * 2 < 6 ? rng_below(r, 3) : 3 + rng_below(r, 3);
    const u64 *pool = m->plan->pool[kind & 3];
    for (unsigned i = 0; i < n; i += 2) {
        u64 x = rng64(r);
        q[i] = kind < POOL_KINDS ? pool[x & 1023] : x;
        q[i + 1] = kind < POOL_KINDS ? pool[x >> 10 & 1023] : x * 0x9e3779b97f4a7c15ull ^ x >> 29;
        if (kind < POOL_KINDS && (x >> 20 & 7) == 0)   /* near to each other, with other low bits */
            q[i + 1] = q[i] ^ (x >> 40);
    }
}

static void random_fpu(struct maker *m, struct user_state *state)
{
    struct rng *r = &m->rng;
    struct fx_image *fx = &state->fx;
    unsigned kind = m->v->row == NO_ROW ? KIND_GENERAL : m->plan->kind[m->v->row];
    if (m->plan->stored) {
        m->v->stored_x87 = kind == KIND_X87;
        m->v->stored_vector = kind == KIND_VECTOR;
        stored_fpu(m->v, m->v->index, m->v->stored_x87, m->v->stored_vector);
        return;
    }
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
            fx->st[i].exponent = (u16)rng64(r);
            fx->st[i].exponent &= rng_chance(r, 50) ? 0xffff : 0x8000;
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
u64 maker_target(struct maker *m)
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

/* … of an image: mostly where it has room, aligned as it should be. */
u64 maker_image_target(struct maker *m)
{
    struct rng *r = &m->rng;
    unsigned dice = rng_below(r, 100);
    if (dice >= 85)
        return maker_target(m);
    u64 at = m->plan->bench->region + windows[WINDOW_IMAGE].off + 64 * rng_below(r, 4);
    return at + (dice < 60 ? 0 : dice < 75 ? 16 * rng_below(r, 4) : rng_below(r, 64));
}

/* The place in the vector's memory of a linear address, NULL outside the windows. */
static u8 *memory_at(struct vector *v, u64 region, u64 la, unsigned bytes)
{
    if (la - region - ALIAS_OFF < PAGE)
        la -= ALIAS_OFF - ALIAS_OF;
    for (unsigned i = 0; i < WINDOWS; i++) {
        u64 at = la - region - windows[i].off;
        if (at < windows[i].bytes && bytes <= windows[i].bytes - at)
            return v->memory + windows[i].at + at;
    }
    return NULL;
}

/* The stack pointer of a stack at a linear address, and back. A 16-bit stack leaves what is above SP alone. */
static u64 stack_pointer(struct maker *m, u64 la)
{
    if (!m->v->small_stack)
        return la;
    return (rng64(&m->rng) & ~0xffffull) | (u16)(la - m->plan->bench->small_stack.base);
}
static u64 stack_la(const struct maker *m, u64 pointer)
{
    return m->v->small_stack ? m->plan->bench->small_stack.base + (u16)pointer : pointer;
}
/* Where a stack operand lies; on a 16-bit stack also about the place where it wraps. */
static u64 stack_target(struct maker *m)
{
    u64 la = maker_target(m);
    unsigned dice = rng_below(&m->rng, 100), near = rng_below(&m->rng, 128);
    if (!m->v->small_stack || dice < 50)
        return la;
    return m->plan->bench->small_stack.base + (u16)(near - 64);
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
    u64 *regs = m->v->before.r, mask = osz_mask(in->osz), divisor = maker_value(m) & mask;
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
        q = rng_chance(r, 50) ? most - 2 + rng_below(r, 4) : maker_value(m) & most;
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

/* A selector: of the LDT mostly; null, of the GDT's code and data, or past the LDT's end. Never of what Linux keeps
 * behind those in the GDT. */
static u16 random_selector(struct rng *r)
{
    static const u16 gdt[] = {0x08, 0x10, 0x18, 0x23, 0x2b, 0x33, 0x20, 0x28, 0x30};
    unsigned dice = rng_below(r, 100), rpl = rng_below(r, 4);
    if (dice < 70)
        return (u16)(rng_below(r, BENCH_ENTRIES) << 3 | 4 | (dice < 49 ? 3 : rpl));
    if (dice < 80)
        return (u16)rpl;
    if (dice < 95)
        return (u16)(gdt[rng_below(r, ARRAY_SIZE(gdt))] | (dice < 88 ? 3 : 0));
    return (u16)(rng_below(r, 16) << 3 | 4 | BENCH_ENTRIES << 3);
}

u16 maker_far_selector(struct maker *m)
{
    static const u16 code[] = {0x23, 0x33, 2 << 3 | 7, 5 << 3 | 7, 6 << 3 | 7, 8 << 3 | 7, 11 << 3 | 7, 2 << 3 | 7};
    return rng_chance(&m->rng, 65) ? code[rng_below(&m->rng, ARRAY_SIZE(code))] : random_selector(&m->rng);
}

u64 maker_far_offset(struct maker *m, u16 selector)
{
    const struct bench *bench = m->plan->bench;
    unsigned entry = selector >> 3;
    u64 base = selector & 4 && entry < bench->entries ? bench->entry[entry].base : 0;
    return rng_chance(&m->rng, 80) ? bench->region + rng_below(&m->rng, REGION_BYTES) - base : maker_value(m);
}

/* The pointer of a far transfer in memory or on the stack, there with flags, and for 64-bit code RSP and SS. TF stays set, so that the
 * harness sees where it went. */
static void suit_far(struct maker *m, const struct insn_row *row, const struct insn *in)
{
    struct vector *v = m->v;
    struct rng *r = &m->rng;
    const struct bench *bench = m->plan->bench;
    u16 selector = maker_far_selector(m), ss[] = {0x2b, 3 << 3 | 7, random_selector(r)};
    u64 frame[5] = {maker_far_offset(m, selector), selector, (rng64(r) & 0x3fffff) | FL_TF | FL_R1, maker_value(m), ss[rng_below(r, 3)]};
    unsigned size = 1u << in->osz, count = one_of(row->name, " IRET ") ? v->bits == BITS_64 ? 5 : 3 : 2;
    u64 la = in->flags & INSN_MEM ? vector_operand(bench, v, in) : stack_la(m, v->before.r[REG_RSP]);
    if (row->imm == IMM_FAR || (one_of(row->name, " CALL_FAR ") && !(in->flags & INSN_MEM)))
        return;
    u8 *at = memory_at(v, bench->region, la, 8 * count);
    m->retry = !at && la - bench->region < DATA_END;       /* what Linux has in its GDT is no business of ours */
    for (unsigned i = 0; at && i < count; i++)
        memcpy(at + i * size, &frame[i], in->flags & INSN_MEM && i == 1 ? 2 : size);
}

static void suit_selector(struct maker *m, const struct insn_row *row, const struct insn *in)
{
    struct vector *v = m->v;
    u16 selector = random_selector(&m->rng);
    u64 region = m->plan->bench->region;
    if (one_of(row->family_name, " pop_es pop_ss pop_ds pop_fs pop_gs ")) {
        u64 sp = stack_target(m) & ~7ull;
        v->before.r[REG_RSP] = stack_pointer(m, sp);
        u8 *top = memory_at(v, region, sp, 8);
        if (top)
            store16(top, selector);
        m->retry = !top && sp - region < DATA_END;
        return;
    }
    bool pointer = one_of(row->family_name, " les lds lss lfs lgs ");
    u8 *operand = in->flags & INSN_MEM ? memory_at(v, region, m->target, 8) : NULL;
    m->retry = in->flags & INSN_MEM && !operand && m->target - region < DATA_END;
    if (operand)
        store16(operand + (pointer ? in->osz == OSZ_16 ? 2 : 4 : 0), selector);
    else if (!(in->flags & INSN_MEM))
        memcpy(&v->before.r[in->rm], &selector, 2);
}

/* An image to be loaded, or to be written over: what random_fpu() makes, mostly with a header that is allowed. */
static void suit_image(struct maker *m, const struct insn_row *row, const struct insn *in)
{
    struct vector *v = m->v;
    struct rng *r = &m->rng;
    const struct bench *bench = m->plan->bench;
    bool components = one_of(row->family_name, " xsave xrstor xsaveopt xsavec ");
    u64 *window = (u64 *)(void *)(v->memory + windows[WINDOW_IMAGE].at);
    if (m->plan->stored)
        return;
    for (unsigned i = 0; i < windows[WINDOW_IMAGE].bytes / 8; i += 2)
        random_lanes(m, window + i, 2);
    if (components) {
        m->retry = m->base_reg == REG_RAX || m->base_reg == REG_RDX || m->index_reg == REG_RAX || m->index_reg == REG_RDX;
        u64 mask = rng_chance(r, 80) ? rng_below(r, 8) : rng64(r) & ~(bench->xcr0 & ~7ull);
        v->before.r[REG_RAX] = (v->before.r[REG_RAX] & ~0xffffffffull) | (u32)mask;
        v->before.r[REG_RDX] = (v->before.r[REG_RDX] & ~0xffffffffull) | mask >> 32;
    }
    u8 *image = memory_at(v, bench->region, vector_operand(bench, v, in), components ? 832 : 512);
    if (!image)
        return;
    struct user_state other;
    random_fpu(m, &other);
    if (one_of(row->family_name, " fldenv frstor ")) {
        /* the control word at 0, the status word at 2 or 4, random tags */
        store16(image, rng_chance(r, 70) ? other.fx.fcw : (u16)rng64(r));
        store16(image + (in->osz == OSZ_16 ? 2 : 4), rng_chance(r, 70) ? other.fx.fsw : (u16)rng64(r));
        return;
    }
    memcpy(image, &other.fx, offsetof(struct fx_image, unused));
    for (unsigned i = 8; i < 24; i++)      /* pointers */
        image[i] = (u8)rng64(r);
    if (rng_chance(r, 5))
        store32(image + 24, (u32)rng64(r) & ~BIT(17));
    if (rng_chance(r, 20))
        store16(image + 2, (u16)rng64(r));
    if (rng_chance(r, 20))
        store16(image, (u16)rng64(r));
    if (!components)
        return;
    memcpy(image + 576, other.ymm_high, sizeof other.ymm_high);
    memset(image + 512, 0, 64);
    unsigned bv = rng_below(r, 8), dice = rng_below(r, 100);
    store64(image + 512, dice < 90 ? bv : rng64(r) & ~(bench->xcr0 & ~7ull));
    if (dice < 30)
        store64(image + 520, BIT(63) | bv | rng_below(r, 8));
    else if (dice < 35)
        store64(image + 520, rng64(r));
    if (dice % 20 == 7)
        image[528 + rng_below(r, 48)] = 1;
}

/* Values under which a row does something: what is popped, compared, divided, counted. */
static void suit_row(struct maker *m, const struct insn_row *row, const struct insn *in)
{
    struct vector *v = m->v;
    struct rng *r = &m->rng;
    u64 *regs = v->before.r, region = m->plan->bench->region;
    bool operand_free = !m->memory || (m->base_reg != REG_RSP && m->index_reg != REG_RSP);
    if (is_stack_row(row) && operand_free) {
        u64 aligned = rng_chance(r, 90) ? ~7ull : ~0ull;
        regs[REG_RSP] = stack_pointer(m, stack_target(m) & aligned);
    }
    if (one_of(row->family_name, " mov_to_segment pop_es pop_ss pop_ds pop_fs pop_gs les lds lss lfs lgs verr verw lar "
                                 "lsl arpl "))
        suit_selector(m, row, in);
    if (is_image_row(row))
        suit_image(m, row, in);
    if (one_of(row->name, " LEAVE ENTER ") && rng_chance(r, 90))
        regs[REG_RBP] = stack_pointer(m, stack_target(m) & ~7ull);
    if (is_far_row(row))
        suit_far(m, row, in);
    u8 *top = memory_at(v, region, stack_la(m, regs[REG_RSP]), 8);
    if (one_of(row->name, " RET ") && top && rng_chance(r, 90))
        store64(top, rng_chance(r, 50) ? region + rng_below(r, REGION_BYTES) : rng64(r) >> 17);
    /* A set TF or NT would outlive the instruction in the harness, a set AC would reach it. */
    if (one_of(row->name, " POPF ") && !top) {
        /* not from code or around a window's end: into the missing page, or among the data */
        u64 sp = rng_chance(r, 30) ? region + DATA_END + rng_below(r, PAGE - 8)
                                   : region + windows[1].off + 8 * rng_below(r, windows[1].bytes / 8);
        regs[REG_RSP] = stack_pointer(m, sp);
        top = memory_at(v, region, sp, 8);
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

/* The image: filling (INT3), the instruction, a jump to the exit stub, filling. Before the instruction, with a 16-bit stack:
 * MOV SS, m16, and at the image's beginning the selector. IRET, which enters, would not load what is above SP. */
static void make_image(struct maker *m)
{
    struct vector *v = m->v;
    const struct bench *bench = m->plan->bench;
    memset(v->code, 0xcc, sizeof v->code);
    if (v->small_stack) {
        u8 *load = v->code + v->at - vector_stack_load(v);
        unsigned even = v->code_off & 1;
        store16(v->code + even, bench->small_stack.selector);
        load[0] = 0x8e;
        load[1] = v->bits == BITS_32 ? 0x15 : 0x16;
        if (v->bits == BITS_32)
            store32(load + 2, (u32)bench->region + v->code_off + even);
        else
            store16(load + 2, (u16)(v->code_off + even));
    }
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
    if (m->plan->stored) {
        stored_state(v, v->index);
        return;
    }
    for (unsigned n = 0; n < 16; n++)
        s->r[n] = maker_value(m);
    if (rng_chance(r, 80))
        s->r[REG_RSP] = maker_target(m) & ~7ull;
    s->rflags = FL_R1 | FL_IF | (rng64(r) & (FL_STATUS | FL_ID));
    s->rflags |= rng_chance(r, 30) ? FL_DF : 0;
    s->rflags |= rng_chance(r, 4) ? FL_AC : 0;
    /* Where the host process has nothing, not even a sanitizer's shadow of its memory: no code, heap, stack or library. */
    s->fs_base = BIT(45) | rng64(r) >> 20;
    s->gs_base = rng_chance(r, 80) ? BIT(46) | BIT(45) | rng64(r) >> 20 : 0;
    bench_pattern_window(WINDOW_IMAGE, v->memory);
    u64 *memory = (u64 *)(void *)v->memory;
    bool dull = rng_chance(r, 20);
    u64 same = rng_below(r, 256) * 0x0101010101010101ull;
    for (unsigned i = 0; i < OPERAND_BYTES / 8; i += 2) {
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

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static u64 flags_of_letters(const char *flags, const char *what)
{
    static const struct { char letter; u32 flag; } all[] = {
        {'O', FL_OF}, {'S', FL_SF}, {'Z', FL_ZF}, {'A', FL_AF}, {'P', FL_PF}, {'C', FL_CF}};
    const char *at = strstr(flags, what);
    u64 mask = 0;
    for (at = at ? at + 2 : ""; *at && *at != ' '; at++)
        for (unsigned i = 0; i < ARRAY_SIZE(all); i++)
            mask |= *at == all[i].letter ? all[i].flag : 0;
    return mask;
}

/* A block: 2 to 6 instructions, each of which reads what those before it have made of registers and flags. Only the first
 * has an operand in memory. False when a row cannot be had in this form. */
static bool make_block(struct maker *m)
{
    struct vector *v = m->v;
    const struct plan *plan = m->plan;
    u8 bytes[CODE_IMAGE];
    unsigned n = 0;
    v->before.rflags &= ~(u64)FL_AC;   /* masks.h would have to look at each instruction's operand */
    v->block = (u8)(2 + rng_below(&m->rng, 5));
    for (unsigned i = 0; i < v->block; i++) {
        u16 number = plan->block_rows[rng_below(&m->rng, plan->block_count)];
        if (i == 0 && plan->image_count && !plan->stored && rng_chance(&m->rng, 8))
            number = plan->image_rows[rng_below(&m->rng, plan->image_count)];
        const struct insn_row *row = &insn_rows[number];
        if (flags_of_letters(row->flags, "r:") & v->undefined)
            return false;
        m->n = 0;
        m->no_memory = i > 0;
        encode_row(m, row);
        struct insn in;
        if (m->n > 15 || m->spoilt || insn_decode(plan->bench->feature, v->bits, m->bytes, 15, &in) != DECODE_OK ||
            in.row != number || in.length != m->n)
            return false;
        /* A count of 0 leaves the flags as they were. */
        bool shift = one_of(row->name, " ROL ROR RCL RCR SHL SHR SAR ");
        u64 undefined = shift ? FL_OF | FL_AF | FL_CF : flags_of_letters(row->flags, "u:");
        v->undefined = (v->undefined & ~(shift ? 0 : flags_of_letters(row->flags, "w:"))) | undefined;
        v->undefined_inside |= v->undefined;
        if (i == 0) {
            v->row = number;
            random_fpu(m, &v->before);
            encode_steer(m);
            if (is_image_row(row))
                suit_image(m, row, &in);
            if (m->retry)
                return false;
        } else if (plan->kind[number] == KIND_VECTOR && v->before.fx.mxcsr == 0x1f80) {
            v->before.fx.mxcsr |= rng_below(&m->rng, 4) << 13;
            v->before.fx.mxcsr |= rng_chance(&m->rng, 10) ? 0x8040 : 0;
        }
        memcpy(bytes + n, m->bytes, m->n);
        n += m->n;
    }
    memcpy(m->bytes, bytes, n);
    m->n = n;
    return true;
}

void generate_image(const struct bench *bench, struct vector *v)
{
    struct plan plan = {.bench = bench};
    struct maker m = {.plan = &plan, .v = v, .n = v->length};
    struct insn in;
    memcpy(m.bytes, vector_bytes(v), v->length);
    make_image(&m);
    insn_decode(bench->feature, v->bits, vector_bytes(v), 15, &in);
    v->row = in.row;
}

bool generate_vector(struct plan *plan, u64 index, struct vector *v)
{
    if (plan->epoch != (index >> 16) + 1)
        make_pool(plan, index >> 16);
    for (unsigned attempt = 0;; attempt++) {
        struct maker m = {.plan = plan, .v = v, .base_reg = -1, .index_reg = -1, .gather_index = -1, .rip_disp = -1};
        m.rng = rng_for(plan->seed, index, attempt);
        memset(v, 0, offsetof(struct vector, native));
        v->index = index;
        v->bits = plan->bits;
        v->random = plan->random_share && index % plan->random_share == plan->random_share - 1;
        v->row = plan_row(plan, index - (plan->random_share ? index / plan->random_share : 0) -
                                    (plan->block_share ? index / plan->block_share : 0));
        v->block = 1;
        place_code(&m);
        v->small_stack = v->bits != BITS_64 && plan->bench->ldt && !plan->stored &&
                         rng_chance(&m.rng, is_stack_row(&insn_rows[v->row]) ? 40 : 4);
        random_state(&m);
        if (v->small_stack)
            v->before.r[REG_RSP] = stack_pointer(&m, stack_target(&m));
        if (plan->block_share && plan->block_count && index % plan->block_share == plan->block_share / 2) {
            if (!make_block(&m))
                continue;
            make_image(&m);
            return true;
        }
        if (v->random) {
            if (!encode_random(&m))
                continue;
        } else {
            encode_row(&m, &insn_rows[v->row]);
        }
        const struct insn_row *row = vector_row(v);
        random_fpu(&m, &v->before);
        encode_steer(&m);
        if (m.gather_index >= 0)
            encode_suit_gather(&m);
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
        if (m.retry)
            continue;
        if (result != DECODE_OK || (in.length != m.n && !m.spoilt)) {
            fprintf(stderr, "hostcpu: %s \"%s\", index %llu:", row->name, row->encoding, (unsigned long long)index);
            for (unsigned i = 0; i < m.n; i++)
                fprintf(stderr, " %02x", m.bytes[i]);
            fprintf(stderr, ": %u bytes were encoded, the decoder finds %u\n", m.n, in.length);
            return false;
        }
        make_image(&m);
        v->far = is_far_row(row);
        v->single_step = v->far || is_branch_row(row) || (v->random && !is_string_row(row) && !one_of(row->name, " PUSHF POPF "));
        return true;
    }
}
