/* The EVEX floating-point instructions (AVX-512 F, DQ, VL, FP16, BF16), of which no processor was at hand: every row of
 * cpu/insn_evex_float.def and cpu/insn_fp16.def, register, memory and broadcast forms, all lengths, opmasks, zeroing,
 * embedded rounding, random MXCSRs with masked and unmasked exceptions, registers 0 to 31.
 *
 * The reference takes the mnemonic apart by itself. What vectors do around an element is written here from [SDM2
 * "Masking", "Static Rounding Support and SAE"]; arithmetic and conversions of elements are the functions of
 * cpu/softfloat.h, which MPFR (tests/fpu/mpfr.c) and, through VEX, processors judge; the operations that came with
 * AVX-512 are computed a second time (evex_model.h).
 */
#include "evex_model.h"

#define ROUNDS 150

static const struct {
    const char *name, *encoding, *operands;
} rows[] = {
#define INSN(name, encoding, operands, attributes, cpuid, flags, exit, family) {#name, encoding, operands},
#include "cpu/insn_evex_float.def"
#include "cpu/insn_fp16.def"
#undef INSN
};

struct state {
    u8 v[32][64];
    u64 k[8], r[16];
    u8 memory[64];
    u32 mxcsr;
    u64 flags;
};

/* One instruction as the encoder made it. */
struct made {
    const struct insn_row *row;
    u8 code[16];
    unsigned length, dest, vvvv, rm, vl, opmask, imm;
    bool memory, broadcast, rounding, zeroing, w;
    unsigned mode; /* L'L of `rounding` */
};

/* ---- a row's element --------------------------------------------------------------------------------------------- */

enum shape { PACKED, SCALAR, MASK, MASK_SCALAR, TO_GPR, FROM_GPR, TO_FLAGS, MOVE_W };
struct meaning {
    enum shape shape;
    const struct type *type;   /* of arithmetic */
    const struct type *source; /* of conversions: NULL for integers */
    const struct type *dest;
    unsigned dsize, ssize;
    char op[16]; /* the mnemonic without V and type */
    bool keep, truncate, source_signed, dest_signed;
};

static const struct type *type_of(char letter)
{
    return letter == 'H' ? &half : letter == 'S' ? &single : letter == 'D' ? &whole_double : NULL;
}

/* "PS", "SH", "UDQ" ... of a conversion. */
static const char *conversion_side(const char *s, const struct type **type, unsigned *size, bool *is_signed,
                                   bool *scalar, bool *gpr)
{
    static const struct {
        const char *name;
        unsigned size;
        bool is_signed;
    } integers[] = {{"UDQ", 4, false}, {"DQ", 4, true},  {"UQQ", 8, false},
                    {"QQ", 8, true},   {"UW", 2, false}, {"W", 2, true}};
    *type = NULL;
    for (unsigned i = 0; i < ARRAY_SIZE(integers); i++)
        if (starts(&s, integers[i].name)) {
            *size = integers[i].size;
            *is_signed = integers[i].is_signed;
            return s;
        }
    if (starts(&s, "USI") || starts(&s, "SI")) {
        *gpr = true;
        *is_signed = s[-3] != 'U';
        return s;
    }
    *scalar |= s[0] == 'S';
    *type = type_of(s[1]);
    *size = (*type)->bytes;
    return s + 2;
}

static struct meaning meaning_of(const struct insn_row *row)
{
    struct meaning m = {0};
    const char *s = row->name + 1;
    size_t n = strlen(row->name);
    if (!strcmp(row->name, "VMOVW")) {
        m.shape = MOVE_W;
    } else if (!strcmp(row->name, "VCVTPS2PH")) {
        m = (struct meaning){PACKED, NULL, &single, &half, 2, 4, "PS2PH", false, false, false, false};
    } else if (strstr(row->name, "BF16")) {
        m = (struct meaning){.shape = PACKED, .type = &single, .dsize = 4, .ssize = 4};
        m.dsize = strstr(row->name, "2BF16") ? 2 : 4;
        snprintf(m.op, sizeof m.op, "%.15s", s);
    } else if (starts(&s, "CVT")) {
        bool scalar = false, to_gpr = false, from_gpr = false;
        m.truncate = starts(&s, "T");
        s = conversion_side(s, &m.source, &m.ssize, &m.source_signed, &scalar, &from_gpr);
        s = conversion_side(s + 1, &m.dest, &m.dsize, &m.dest_signed, &scalar, &to_gpr);
        m.shape = to_gpr ? TO_GPR : from_gpr ? FROM_GPR : scalar ? SCALAR : PACKED;
        snprintf(m.op, sizeof m.op, "CVT");
    } else {
        m.type = type_of(row->name[n - 1]);
        m.dsize = m.ssize = m.type->bytes;
        snprintf(m.op, sizeof m.op, "%.*s", (int)n - 3, row->name + 1);
        bool scalar = row->name[n - 2] == 'S';
        bool mask = !strcmp(m.op, "CMP") || !strcmp(m.op, "FPCLASS");
        m.shape = mask ? (scalar ? MASK_SCALAR : MASK) : scalar ? SCALAR : PACKED;
        if (strstr(m.op, "COMI"))
            m.shape = TO_FLAGS;
        if (!strncmp(m.op, "FM", 2) || !strncmp(m.op, "FNM", 3))
            m.keep = strpbrk(m.op, "123") != NULL;
        size_t length = strlen(m.op);
        if (m.op[0] == 'F' && m.op[length - 1] == 'C')
            m.dsize = m.ssize = 4;
    }
    return m;
}

/* Any conversion of one element. */
static u64 convert_model(const struct meaning *m, const struct made *i, u64 y, struct float_env *e)
{
    unsigned rounding = m->truncate ? ROUND_ZERO : e->rounding;
    if (m->source && m->dest) {
        if (m->source == &half && m->dest == &single && !strstr(i->row->name, "PSX") && !strstr(i->row->name, "SH")) {
            struct float_env own = {.masks = FLOAT_ALL}; /* F16C: denormals are not reported */
            u64 r = f32_from_f16((u16)y, &own);
            e->flags |= own.flags & FLOAT_INVALID;
            return r;
        }
        if (m->source == &half)
            return m->dest == &single ? f32_from_f16((u16)y, e) : f64_from_f16((u16)y, e);
        if (m->source == &single)
            return m->dest == &half ? f16_from_f32((u32)y, e) : f64_from_f32((u32)y, e);
        return m->dest == &half ? f16_from_f64(y, e) : f32_from_f64(y, e);
    }
    if (m->dest) { /* from an integer */
        i64 v = m->ssize == 8   ? (i64)y
                : m->ssize == 4 ? (m->source_signed ? (i32)y : (i64)(u32)y)
                                : (m->source_signed ? (i16)y : (i64)(u16)y);
        if (m->source_signed || m->ssize < 8)
            return m->dest == &half ? f16_from_i64(v, e) : m->dest == &single ? f32_from_i64(v, e) : f64_from_i64(v, e);
        return m->dest == &half ? f16_from_u64(y, e) : m->dest == &single ? f32_from_u64(y, e) : f64_from_u64(y, e);
    }
#define INTEGER(f, v)                                                                                                  \
    (m->dsize == 8 ? (m->dest_signed ? (u64)f##_to_i64(v, rounding, e) : f##_to_u64(v, rounding, e))                   \
                   : (m->dest_signed ? (u64)(u32)f##_to_i32(v, rounding, e) : f##_to_u32(v, rounding, e)))
    if (m->dsize == 2)
        return m->dest_signed ? (u16)f16_to_i16((u16)y, rounding, e) : f16_to_u16((u16)y, rounding, e);
    return m->source == &half ? INTEGER(f16, (u16)y) : m->source == &single ? INTEGER(f32, (u32)y) : INTEGER(f64, y);
}

static u64 fma_model(const struct meaning *m, unsigned lane, u64 x, u64 y, u64 z, struct float_env *e)
{
    const struct type *t = m->type;
    const char *s = m->op + 1;
    unsigned negate = starts(&s, "N") ? FMA_NEGATE_PRODUCT : 0;
    bool sub = starts(&s, "MADDSUB")   ? lane % 2 == 0
               : starts(&s, "MSUBADD") ? lane % 2 != 0
               : starts(&s, "MSUB")    ? true
                                       : (starts(&s, "MADD"), false);
    u64 operand[4] = {0, z, x, y};
    u64 p = operand[s[0] - '0'], q = operand[s[1] - '0'], r = operand[s[2] - '0'];
    negate |= sub ? FMA_NEGATE_ADDEND : 0;
    return t->bytes == 2   ? f16_fma((u16)p, (u16)q, (u16)r, negate, e)
           : t->bytes == 4 ? f32_fma((u32)p, (u32)q, (u32)r, negate, e)
                           : f64_fma(p, q, r, negate, e);
}

/* [SDM2 "VFMULCPH", "VFMADDCPH": Operation], real parts first. */
static u64 complex_model(const struct meaning *m, u64 x, u64 y, u64 z, struct float_env *e)
{
    u16 a[2] = {(u16)x, (u16)(x >> 16)}, b[2] = {(u16)y, (u16)(y >> 16)}, d[2] = {(u16)z, (u16)(z >> 16)}, tmp[2], r[2];
    bool add = strstr(m->op, "MADD") != NULL, conjugate = m->op[1] == 'C';
    for (unsigned i = 0; i < 2; i++)
        tmp[i] = add ? f16_fma(a[i], b[0], d[i], 0, e) : f16_mul(a[i], b[0], e);
    r[0] = f16_fma(a[1], b[1], tmp[0], conjugate ? 0 : FMA_NEGATE_PRODUCT, e);
    r[1] = f16_fma(a[0], b[1], tmp[1], conjugate ? FMA_NEGATE_PRODUCT : 0, e);
    return r[0] | (u64)r[1] << 16;
}

#define TWO(name)                                                                                                      \
    (t->bytes == 2   ? (u64)f16_##name((u16)x, (u16)y, e)                                                              \
     : t->bytes == 4 ? (u64)f32_##name((u32)x, (u32)y, e)                                                              \
                     : f64_##name(x, y, e))
#define ONE(name)                                                                                                      \
    (t->bytes == 2 ? (u64)f16_##name((u16)y, e) : t->bytes == 4 ? (u64)f32_##name((u32)y, e) : f64_##name(y, e))

static u64 element_model(const struct meaning *m, const struct made *i, unsigned lane, u64 x, u64 y, u64 z,
                         struct float_env *e)
{
    const struct type *t = m->type;
    unsigned imm = i->imm;
    const char *op = m->op;
    if (!strcmp(op, "CVT"))
        return convert_model(m, i, y, e);
    if (!strcmp(op, "PS2PH"))
        return f16_from_f32((u32)y, e);
    if (!strcmp(op, "ADD"))
        return TWO(add);
    if (!strcmp(op, "SUB"))
        return TWO(sub);
    if (!strcmp(op, "MUL"))
        return TWO(mul);
    if (!strcmp(op, "DIV"))
        return TWO(div);
    if (!strcmp(op, "MIN"))
        return TWO(min);
    if (!strcmp(op, "MAX"))
        return TWO(max);
    if (!strcmp(op, "SQRT"))
        return ONE(sqrt);
    if (!strcmp(op, "MOV"))
        return y;
    if (!strcmp(op, "GETEXP"))
        return getexp_model(t, y, e);
    if (!strcmp(op, "GETMANT"))
        return getmant_model(t, y, imm, e);
    if (!strcmp(op, "SCALEF"))
        return scalef_model(t, x, y, e);
    if (!strcmp(op, "RANGE"))
        return range_model(t, x, y, imm, e);
    if (!strcmp(op, "RNDSCALE"))
        return rndscale_model(t, y, imm, e);
    if (!strcmp(op, "REDUCE"))
        return reduce_model(t, y, imm, e);
    if (!strcmp(op, "FIXUPIMM"))
        return fixup_model(t, z, x, (u32)y, imm, e);
    if (!strcmp(op, "FPCLASS"))
        return class_model(t, y, imm, e);
    if (!strcmp(op, "CMP"))
        return predicate_model(t, x, y, imm, e);
    if (!strcmp(op, "DPBF16PS"))
        return dot_model(x, y, z);
    if (strstr(op, "2BF16"))
        return bf16_model(y);
    if (op[0] == 'F' && op[strlen(op) - 1] == 'C')
        return complex_model(m, x, y, z, e);
    if (op[0] == 'F')
        return fma_model(m, lane, x, y, z, e);
    ck_abort_msg("no model of %s (%s)", i->row->name, op);
}

/* The approximations have bounds, not values: true when `r` is right for y. */
static bool approximates(const struct meaning *m, u64 y, u64 r, const struct float_env *e)
{
    const struct type *t = m->type;
    bool root = strstr(m->op, "SQRT") != NULL;
    if (nan_of(t, y))
        return r == quieted(t, y);
    double d = value_of(t, e->daz && t->bytes != 2 && denormal_of(t, y) ? y & BIT(8 * t->bytes - 1) : y);
    if (root && d < 0)
        return r == indefinite_of(t);
    if (nan_of(t, r))
        return false;
    double want = root ? (d == 0 ? 1 / d : 1 / sqrt(d)) : 1 / d, got = value_of(t, r);
    double largest = ldexp(2 - ldexp(1, 1 - (i32)t->precision), t->emax), smallest = ldexp(1, 1 - t->emax);
    if (isinf(want) || want == 0 || fabs(want) > largest * (1 + 0x1p-11))
        return isinf(want) || want != 0 ? isinf(got) && signbit(got) == signbit(d)
                                        : got == 0 && signbit(got) == signbit(d);
    if (fabs(want) < smallest)
        return (e->ftz && t->bytes != 2 ? got == 0 : fabs(got - want) <= ldexp(smallest, 1 - (i32)t->precision)) &&
               signbit(got) == signbit(want);
    double bound = t->bytes == 2 ? 0x1p-11 + 0x1p-14 : 0x1p-14;
    int e2;
    bool power = frexp(fabs(d), &e2) == 0.5 && (!root || e2 % 2);
    return fabs(got / want - 1) < bound && (!power || got == want);
}

/* ---- a row's vectors --------------------------------------------------------------------------------------------- */

static u64 get(const u8 *p, unsigned size)
{
    u64 v = 0;
    memcpy(&v, p, size);
    return v;
}
static void set(u8 *p, unsigned size, u64 v)
{
    memcpy(p, &v, size);
}

/* A row's instruction with random operands; the destination of complex products is none of their sources. */
static struct made make(const struct insn_row *row)
{
    const struct {
        bool g, e;
    } gpr = {row->gpr_reg, row->gpr_rm};
    struct made i = {.row = row, .vl = random_below(3), .w = row->w < 0 ? random_below(2) : row->w != 0};
    while (!(row->lengths >> i.vl & 1))
        i.vl = random_below(3);
    i.dest = row->k_reg ? 1 + random_below(7) : 1 + 8 * random_below(gpr.g ? 2 : 4);
    i.vvvv = row->uses_vvvv ? 2 + 8 * random_below(4) : 0;
    i.rm = 3 + 8 * random_below(gpr.e ? 2 : 4);
    i.memory = row->mem_only || (!row->reg_only && random_below(2));
    bool tuple = row->tuple == TUPLE_FV || row->tuple == TUPLE_HV || row->tuple == TUPLE_QV;
    i.broadcast = i.memory && tuple && random_below(2);
    i.rounding = !i.memory && row->attr & (ROW_ER | ROW_SAE) && random_below(2);
    i.mode = random_below(4);
    i.opmask = row->attr & ROW_NOMASK || random_below(3) == 0 ? 0 : 1 + random_below(7);
    bool no_zeroing = row->k_reg || (i.memory && row->mem_dest);
    i.zeroing = i.opmask && !no_zeroing && random_below(2);
    i.imm = (u8)random64();
    unsigned l = i.rounding ? i.mode : row->attr & ROW_LIG ? random_below(3) : i.vl;
    if (row->attr & ROW_LIG)
        i.vl = 0;
    else if (i.rounding)
        i.vl = 2;
    unsigned pp = row->prefix == PREFIX_66 ? 1 : row->prefix == PREFIX_F3 ? 2 : row->prefix == PREFIX_F2 ? 3 : 0;
    unsigned rm = i.memory ? 0 : i.rm, n = 0;
    i.code[n++] = 0x62;
    i.code[n++] = (u8)((i.dest & 8 ? 0 : 0x80) | (rm & 16 ? 0 : 0x40) | (rm & 8 ? 0 : 0x20) | (i.dest & 16 ? 0 : 0x10) |
                       row->map);
    i.code[n++] = (u8)((unsigned)i.w << 7 | (~i.vvvv & 15) << 3 | 4 | pp);
    i.code[n++] = (u8)((unsigned)i.zeroing << 7 | l << 5 | (unsigned)(i.broadcast || i.rounding) << 4 |
                       (i.vvvv & 16 ? 0 : 8) | i.opmask);
    i.code[n++] = row->opcode;
    i.code[n++] = (u8)((i.dest & 7) << 3 | (i.memory ? 7 : 0xc0 | (i.rm & 7)));
    if (row->imm != IMM_NONE)
        i.code[n++] = (u8)i.imm;
    i.length = n;
    return i;
}

static void randomize(struct state *s, const struct meaning *m)
{
    const struct type *t = m->source ? m->source : m->type ? m->type : &single;
    for (unsigned n = 0; n < 32; n++)
        for (unsigned i = 0; i < 64; i += t->bytes)
            set(s->v[n] + i, t->bytes, random_below(8) ? random_element(t) : random64());
    for (unsigned i = 0; i < 64; i += t->bytes)
        set(s->memory + i, t->bytes, random_below(8) ? random_element(t) : random64());
    for (unsigned n = 0; n < 8; n++)
        s->k[n] = random64();
    for (unsigned n = 0; n < 16; n++)
        s->r[n] = random64() >> random_below(64);
    s->r[REG_RDI] = ARENA;
    s->mxcsr =
        (u32)(random64() & 0xe040) | (random_below(3) ? 0x1f80 : (u32)random64() & 0x1f80) | ((u32)random64() & 0x3f);
    s->flags = 2 | (random64() & FL_STATUS);
}

/* What the instruction does by the manual: `s` becomes the state behind it. True: #XM, of the state only MXCSR counts.
 */
static bool model(struct state *s, const struct made *i, const struct meaning *m)
{
    enum { EARLY = FLOAT_INVALID | FLOAT_DENORMAL | FLOAT_DIVZERO };
    const u8 *rm = i->memory ? s->memory : s->v[i->rm];
    bool scalar = m->shape != PACKED && m->shape != MASK, store = i->row->mem_dest;
    unsigned dsize = m->dsize, ssize = m->ssize;
    if (m->shape == TO_GPR)
        dsize = i->w ? 8 : 4;
    if (m->shape == FROM_GPR)
        ssize = i->w ? 8 : 4;
    unsigned widest = !strcmp(m->op, "CVTNE2PS2BF16") ? 2
                      : dsize > ssize                 ? dsize
                                                      : ssize,
             lanes = scalar ? 1 : (16u << i->vl) / widest;
    u64 mask = (i->opmask ? s->k[i->opmask] : ~0ull) & mask_low(lanes);
    struct float_env e = {.rounding = s->mxcsr >> 13 & 3,
                          .masks = s->mxcsr >> 7 & FLOAT_ALL,
                          .daz = s->mxcsr >> 6 & 1,
                          .ftz = s->mxcsr >> 15,
                          .precision = 64};
    if (i->rounding) {
        e.masks = FLOAT_ALL;
        if (i->row->attr & ROW_ER)
            e.rounding = (u8)i->mode;
    }
    struct meaning used = *m;
    used.dsize = dsize;
    used.ssize = ssize;
    if (!strcmp(m->op, "PS2PH")) {
        e.rounding = i->imm & 4 ? e.rounding : i->imm & 3;
        rm = s->v[i->dest]; /* source and destination change places */
    }
    u8 r[64] = {0};
    u8 *dest = store && !i->memory ? s->v[i->rm] : s->v[i->dest];
    u64 k = 0, scalar_result = 0;
    for (unsigned lane = 0; lane < lanes; lane++) {
        u64 z = get((store && i->memory ? s->memory : dest) + (lane * dsize & 63), dsize);
        if (!(mask >> lane & 1)) {
            set(r + lane * dsize, dsize, i->zeroing ? 0 : z);
            continue;
        }
        u64 x = get(s->v[i->vvvv] + (lane * dsize & 63), m->shape == MASK || m->shape == MASK_SCALAR ? ssize : dsize);
        u64 y = m->shape == FROM_GPR && !i->memory ? s->r[i->rm] & mask_low(8 * ssize)
                                                   : get(rm + (i->broadcast ? 0 : lane * ssize & 63), ssize);
        if (!strcmp(m->op, "CVTNE2PS2BF16")) { /* two sources, the lower half from rm */
            unsigned n = lane % (lanes / 2);
            y = lane < lanes / 2 ? get(rm + (i->broadcast ? 0 : 4 * n), 4) : get(s->v[i->vvvv] + 4 * n, 4);
        }
        u64 v = element_model(&used, i, lane, x, y, z, &e);
        if (m->shape == MASK || m->shape == MASK_SCALAR)
            k |= v << lane;
        else
            set(r + lane * dsize, dsize, v);
        scalar_result = v;
    }
    if (e.flags & ~e.masks & EARLY)
        e.flags &= EARLY;
    if (!i->rounding)
        s->mxcsr |= e.flags;
    if (e.flags & ~e.masks & FLOAT_ALL)
        return true;
    switch (m->shape) {
    case MASK:
    case MASK_SCALAR:
        s->k[i->dest & 7] = k;
        break;
    case TO_GPR:
        s->r[i->dest & 15] = scalar_result & mask_low(8 * dsize);
        break;
    case PACKED:
        if (store && i->memory) {
            memcpy(s->memory, r, lanes * dsize);
        } else {
            memset(dest, 0, 64);
            memcpy(dest, r, lanes * dsize);
        }
        break;
    default: {
        u8 out[64] = {0};
        memcpy(out, m->keep ? dest : s->v[i->vvvv], 16);
        memcpy(out, r, dsize);
        memcpy(dest, out, 64);
    }
    }
    return false;
}

static bool approximation(const struct meaning *m)
{
    return !strncmp(m->op, "RCP", 3) || !strncmp(m->op, "RSQRT", 5);
}

static enum flow run(struct state *s, const struct made *i)
{
    struct insn in;
    u8 code[16] = {0};
    memcpy(code, i->code, i->length);
    ck_assert_int_eq(insn_decode(cpu->feature, BITS_64, code, 15, &in), DECODE_OK);
    if (in.row != i->row - insn_rows || in.length != i->length)
        return FLOW_EXIT;
    memcpy(cpu->fpu.v, s->v, sizeof s->v);
    memcpy(cpu->fpu.k, s->k, sizeof s->k);
    memcpy(cpu->core.r, s->r, sizeof s->r);
    memcpy(bus.ram + ARENA, s->memory, 64);
    cpu->fpu.mxcsr = s->mxcsr;
    cpu_set_rflags(cpu, s->flags);
    cpu->event.valid = 0;
    cpu->event.attention = 0;
    rows_note(in.row);
    rows_note(in.row);
    enum flow flow = in.handler(cpu, &in);
    memcpy(s->v, cpu->fpu.v, sizeof s->v);
    memcpy(s->k, cpu->fpu.k, sizeof s->k);
    memcpy(s->r, cpu->core.r, sizeof s->r);
    memcpy(s->memory, bus.ram + ARENA, 64);
    s->mxcsr = cpu->fpu.mxcsr;
    s->flags = cpu_rflags(cpu) & (FL_STATUS | 2);
    return flow;
}

static bool same(const struct state *a, const struct state *b, bool mxcsr_only)
{
    if (a->mxcsr != b->mxcsr)
        return false;
    return mxcsr_only ||
           (memcmp(a->v, b->v, sizeof a->v) == 0 && memcmp(a->k, b->k, sizeof a->k) == 0 && a->flags == b->flags &&
            memcmp(a->r, b->r, sizeof a->r) == 0 && memcmp(a->memory, b->memory, 64) == 0);
}

static void show(const char *who, const struct state *s, const struct made *i)
{
    printf("%-8s mxcsr %04x flags %03llx k%u %016llx kd %016llx\n", who, s->mxcsr, (unsigned long long)s->flags,
           i->opmask, (unsigned long long)s->k[i->opmask], (unsigned long long)s->k[i->dest & 7]);
    const struct {
        const char *name;
        const u8 *at;
    } show[] = {{"dest", s->v[i->dest]}, {"vvvv", s->v[i->vvvv]}, {"rm", i->memory ? s->memory : s->v[i->rm]}};
    for (unsigned n = 0; n < 3; n++) {
        printf("  %-5s", show[n].name);
        for (unsigned b = 0; b < 64; b += 8)
            printf(" %016llx", (unsigned long long)get(show[n].at + b, 8));
        printf("\n");
    }
}

static void differ(const struct made *i, const struct state *before, const struct state *ours, const struct state *want)
{
    show("before", before, i);
    show("nestor", ours, i);
    if (want)
        show("model", want, i);
    ck_abort_msg("%s \"%s\" differs: dest %u vvvv %u rm %u%s%s%s vl %u opmask %u imm %02x mode %u, bytes %02x %02x "
                 "%02x %02x %02x %02x",
                 i->row->name, i->row->encoding, i->dest, i->vvvv, i->rm, i->memory ? " memory" : "",
                 i->broadcast ? " broadcast" : "", i->zeroing ? " z" : "", i->vl, i->opmask, i->imm,
                 i->rounding ? i->mode : 9, i->code[0], i->code[1], i->code[2], i->code[3], i->code[4], i->code[5]);
}

/* Comparison into RFLAGS. */
static bool flags_model(struct state *s, const struct made *i, const struct meaning *m)
{
    struct float_env e = {.masks = i->rounding ? FLOAT_ALL : s->mxcsr >> 7 & FLOAT_ALL, .daz = s->mxcsr >> 6 & 1};
    u64 x = get(s->v[i->dest], m->ssize), y = get(i->memory ? s->memory : s->v[i->rm], m->ssize);
    bool quiet = m->op[0] == 'U';
    bool unordered = predicate_model(m->type, x, y, quiet ? 3 : 19, &e),
         equal = predicate_model(m->type, x, y, quiet ? 0 : 16, &e);
    bool less = predicate_model(m->type, x, y, quiet ? 17 : 1, &e);
    if (!i->rounding)
        s->mxcsr |= e.flags;
    if (e.flags & ~e.masks & FLOAT_ALL)
        return true;
    s->flags = 2 | (unordered ? FL_ZF | FL_PF | FL_CF : equal ? FL_ZF : less ? FL_CF : 0);
    return false;
}

/* Every active element of an approximation is close to the value; the rest is as for any other operation. */
static bool approximated(const struct state *before, const struct state *ours, const struct made *i,
                         const struct meaning *m)
{
    const u8 *rm = i->memory ? before->memory : before->v[i->rm];
    unsigned lanes = m->shape == SCALAR ? 1 : (16u << i->vl) / m->dsize;
    struct float_env e = {.daz = before->mxcsr >> 6 & 1, .ftz = before->mxcsr >> 15};
    for (unsigned lane = 0; lane < 64 / m->dsize; lane++) {
        u64 r = get(ours->v[i->dest] + lane * m->dsize, m->dsize),
            old = get(before->v[i->dest] + lane * m->dsize, m->dsize);
        if (lane < lanes && (!i->opmask || before->k[i->opmask] >> lane & 1)) {
            if (!approximates(m, get(rm + (i->broadcast ? 0 : lane * m->dsize), m->dsize), r, &e))
                return false;
        } else if (lane < lanes) {
            if (r != (i->zeroing ? 0 : old))
                return false;
        } else if (r != (m->shape == SCALAR && lane < 16 / m->dsize
                             ? get(before->v[i->vvvv] + lane * m->dsize, m->dsize)
                             : 0)) {
            return false;
        }
    }
    return ours->mxcsr == before->mxcsr;
}

static const struct insn_row *row_of(unsigned n)
{
    for (unsigned i = 0; i < insn_row_count; i++)
        if (!strcmp(insn_rows[i].name, rows[n].name) && !strcmp(insn_rows[i].encoding, rows[n].encoding) &&
            !strcmp(insn_rows[i].operands, rows[n].operands))
            return &insn_rows[i];
    ck_abort_msg("no row %s", rows[n].name);
}

static void start(void)
{
    emulator_start();
    cpu->feature[FEATURE_AVX / 32] |= 1u << FEATURE_AVX % 32;
    cpu->sys.cr4 |= CR4_OSXSAVE;
    cpu->sys.xcr0 = 0xe7;
    cpu_mode_update(cpu);
    cpu->mode.code_bits = BITS_64;
}

START_TEST(every_row_as_its_model)
{
    unsigned traps = 0;
    start();
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        const struct insn_row *row = row_of(n);
        if (!strncmp(row->name, "VMOV", 4))
            continue; /* moves_of_halves */
        struct meaning m = meaning_of(row);
        for (unsigned round = 0; round < ROUNDS; round++) {
            static struct state before, ours, want;
            struct made i = make(row);
            bool complex = m.op[0] == 'F' && m.op[strlen(m.op) - 1] == 'C';
            if (complex && (i.dest == i.vvvv || (!i.memory && i.dest == i.rm)))
                continue;
            randomize(&before, &m);
            ours = want = before;
            enum flow flow = run(&ours, &i);
            if (flow == FLOW_EXIT)
                ck_abort_msg("%s \"%s\" is not decoded as itself", row->name, row->encoding);
            if (approximation(&m)) {
                if (flow != FLOW_NEXT || !approximated(&before, &ours, &i, &m))
                    differ(&i, &before, &ours, NULL);
                continue;
            }
            bool trap = m.shape == TO_FLAGS ? flags_model(&want, &i, &m) : model(&want, &i, &m);
            if (trap) {
                u32 mxcsr = want.mxcsr;
                want = before; /* nothing but the flags has changed */
                want.mxcsr = mxcsr;
            }
            traps += trap;
            bool event = flow == FLOW_EVENT && cpu->event.vector == EXC_XM;
            if (event != trap || (!event && flow != FLOW_NEXT) || !same(&ours, &want, false))
                differ(&i, &before, &ours, &want);
        }
    }
    ck_assert_uint_gt(traps, 1000);
    emulator_stop();
}
END_TEST

/* VMOVSH and VMOVW, every form; complex products whose destination is a source. */
START_TEST(moves_of_halves)
{
    static struct state before, ours, want;
    start();
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        const struct insn_row *row = row_of(n);
        if (strncmp(row->name, "VMOV", 4) != 0)
            continue;
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct made i = make(row);
            bool word = !strcmp(row->name, "VMOVW"), load = (row->opcode & 0xf1) == 0x10 || row->opcode == 0x6e;
            randomize(&before, &(struct meaning){.type = &half});
            ours = want = before;
            bool active = !i.opmask || before.k[i.opmask] & 1;
            u64 source = load ? (i.memory ? get(before.memory, 2)
                                 : word   ? before.r[i.rm & 15] & 0xffff
                                          : get(before.v[i.rm], 2))
                              : get(before.v[i.dest], 2);
            u8 *dest = load ? want.v[i.dest] : want.v[i.rm];
            u64 low = active ? source : i.zeroing ? 0 : get(dest, 2);
            if (!load && i.memory) {
                if (active)
                    set(want.memory, 2, source);
            } else if (!load && word) {
                want.r[i.rm & 15] = source;
            } else {
                u8 out[64] = {0};
                if (!word && !i.memory)
                    memcpy(out, before.v[i.vvvv], 16);
                set(out, 2, low);
                memcpy(dest, out, 64);
            }
            if (run(&ours, &i) != FLOW_NEXT || !same(&ours, &want, false))
                differ(&i, &before, &ours, &want);
        }
    }
    emulator_stop();
}
END_TEST

START_TEST(complex_products_into_a_source_are_undefined)
{
    static const u8 codes[][6] = {{0x62, 0xf6, 0x76, 0x48, 0xd6, 0xca},  /* vfmulcph zmm1, zmm1, zmm2 */
                                  {0x62, 0xf6, 0x6e, 0x48, 0xd6, 0xc9},  /* vfmulcph zmm1, zmm2, zmm1 */
                                  {0x62, 0xf6, 0x77, 0x08, 0x57, 0xca}}; /* vfcmaddcsh xmm1, xmm1, xmm2 */
    start();
    for (unsigned n = 0; n < ARRAY_SIZE(codes); n++) {
        struct insn in;
        u8 code[15] = {0};
        memcpy(code, codes[n], 6);
        ck_assert_int_eq(insn_decode(cpu->feature, BITS_64, code, 15, &in), DECODE_OK);
        ck_assert_uint_ne(in.row, 0xffff);
        cpu->event.valid = 0;
        ck_assert_int_eq(in.handler(cpu, &in), FLOW_EVENT);
        ck_assert_uint_eq(cpu->event.vector, EXC_UD);
    }
    emulator_stop();
}
END_TEST

/* Whether r is right as RCPSS's or RSQRTSS's result for y: error below 1.5 * 2^-12, denormals are zeros before and
 * after [SDM2 "RCPPS—...", "RSQRTPS—..."]. */
static bool approximates_by_12_bits(bool root, u32 y, u32 r)
{
    if (nan_of(&single, y))
        return r == quieted(&single, y);
    double d = value_of(&single, denormal_of(&single, y) ? y & 0x80000000u : y);
    if (root && d < 0)
        return r == indefinite_of(&single);
    double want = root && d != 0 ? 1 / sqrt(d) : 1 / d;
    if (fabs(want) < 0x1p-126)
        return r == (y & 0x80000000u);
    return isinf(want) ? r == bits_of(&single, want) : fabs(value_of(&single, r) / want - 1) < 1.5 * 0x1p-12;
}

/* RCP and RSQRT of SSE and AVX, whose results processors do not agree on. */
START_TEST(approximations_of_sse_and_avx)
{
    unsigned found = 0;
    start();
    for (unsigned n = 0; n < insn_row_count; n++) {
        const struct insn_row *row = &insn_rows[n];
        const char *name = row->name + (row->name[0] == 'V');
        static struct state before, ours;
        bool root = !strncmp(name, "RSQRT", 5), scalar = row->prefix == PREFIX_F3, vex = row->vector == VECTOR_VEX;
        if ((strcmp(name, "RCPPS") && strcmp(name, "RCPSS") && strcmp(name, "RSQRTPS") && strcmp(name, "RSQRTSS")))
            continue;
        found++;
        for (unsigned round = 0; round < ROUNDS; round++) {
            struct made i = {
                .row = row, .dest = 1, .vvvv = scalar ? 2 : 0, .rm = 3, .memory = round & 1, .vl = vex && round & 2};
            unsigned modrm = i.memory ? 0x0f : 0xcb, pp = scalar ? 2 : 0;
            if (vex) {
                const u8 code[] = {0xc5, (u8)(0x80 | (~i.vvvv & 15) << 3 | i.vl << 2 | pp), row->opcode, (u8)modrm};
                memcpy(i.code, code, i.length = 4);
            } else {
                const u8 code[] = {0xf3, 0x0f, row->opcode, (u8)modrm};
                memcpy(i.code, code + !scalar, i.length = 3 + scalar);
            }
            randomize(&before, &(struct meaning){.type = &single});
            ours = before;
            if (run(&ours, &i) != FLOW_NEXT)
                differ(&i, &before, &ours, NULL);
            const u8 *source = i.memory ? before.memory : before.v[3];
            for (unsigned lane = 0; lane < 16; lane++) {
                u32 r = load32(ours.v[1] + 4 * lane), old = load32(before.v[1] + 4 * lane);
                bool computed = lane < (scalar ? 1u : 4u << (vex && i.vl));
                u32 rest = !vex ? old : scalar && lane < 4 ? load32(before.v[2] + 4 * lane) : 0;
                if (computed ? !approximates_by_12_bits(root, load32(source + 4 * lane), r) : r != rest)
                    differ(&i, &before, &ours, NULL);
            }
            ck_assert_uint_eq(ours.mxcsr, before.mxcsr);
        }
    }
    ck_assert_uint_eq(found, 8);
    emulator_stop();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_row_as_its_model, moves_of_halves, complex_products_into_a_source_are_undefined,
                                  approximations_of_sse_and_avx};
    return native_run_suite("evex_float", tests, ARRAY_SIZE(tests), NULL, NULL);
}
