/* Prefixes, opcode maps, ModRM, SIB, displacement and immediates [SDM2 "Instruction Format"], and the choice of the row.
 *
 * Kept true: the decoder looks at no byte that the processor would not fetch for this instruction, except that an undefined opcode
 * ends right behind its ModRM byte.
 */
#include "cpu/decode.h"

#include "cpu/features.h"

#include "cpu/raise.h"
#include "cpu/table.h"

#define LONGEST 15

struct reader {
    const u8 *bytes;
    unsigned n, at;
    bool more, too_long;
};

static u8 take8(struct reader *r)
{
    if (r->at >= LONGEST) {
        r->too_long = true;
        return 0;
    }
    if (r->at >= r->n) {
        r->more = true;
        return 0;
    }
    return r->bytes[r->at++];
}

static u64 take(struct reader *r, unsigned bytes)
{
    u64 v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (u64)take8(r) << (8 * i);
    return v;
}

static enum flow undefined(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu_raise_ud(cpu);
}

static enum flow too_long(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    return cpu_raise_gp(cpu, 0);
}

/* #UD outside protected mode (rows with attribute PROT): whether CR0.PE and V8086 hold is known only when it runs. */
static enum flow protected_only(struct cpu *cpu, const struct insn *in)
{
    if (!cpu->mode.protected_mode)
        return cpu_raise_ud(cpu);
    return (*insn_rows[in->row].family)[(in->flags & INSN_MEM ? 4 : 0) + in->osz](cpu, in);
}

struct prefixes {
    bool opsize, addrsize, lock;
    u8 rep;                    /* 0, F3 or F2: the last one */
    u8 rex;                    /* 0 or 40..4F */
    i8 seg;                    /* -1 or SEG_* */
    /* VEX and EVEX: */
    u8 vector;                 /* enum row_vector */
    u8 map, pp, l, vvvv, w, opmask, r_high, v_high, z, b;
    bool vvvv_named;           /* VEX.vvvv is not 1111b (its top bit, which names nothing outside 64-bit code, counts) */
};

static bool prefix_matches(const struct insn_row *row, const struct prefixes *p)
{
    if (row->attr & ROW_PREFIXED)
        return true;
    switch (row->prefix) {
    case PREFIX_ANY: return !(row->attr & ROW_NOREP && p->rep);
    case PREFIX_NP: return p->rep == 0 && !p->opsize;
    case PREFIX_66: return p->rep == 0 && p->opsize;
    case PREFIX_F3: return p->rep == 0xf3;
    default: return p->rep == 0xf2;
    }
}

/* The most specific row for this opcode; the ModRM byte is looked at only when some candidate has one. */
static const struct insn_row *find_row(const u32 *features, enum cpu_bits bits, const struct prefixes *p, unsigned space,
                                       u8 opcode, struct reader *r)
{
    const u16 *list = insn_candidates(space, opcode);
    for (; *list != 0xffff; list++) {
        const struct insn_row *row = &insn_rows[*list];
        if (row->attr & (bits == BITS_64 ? ROW_I64 : ROW_O64))
            continue;
        if (row->feature && !(features[row->feature / 32] >> (row->feature % 32) & 1))
            continue;
        bool w = p->vector ? p->w : p->rex & 8;
        if (!prefix_matches(row, p) || (row->w >= 0 && row->w != (int)w) || (row->l >= 0 && row->l != (int)p->l))
            continue;
        if (row->modrm == MODRM_NONE) {
            /* F3 90 is PAUSE; with REX.B it is XCHG with R8. */
            if (opcode == 0x90 && space == 0 && row->prefix == PREFIX_F3 && p->rex & 1)
                continue;
            return row;
        }
        if (r->at >= LONGEST) {
            r->too_long = true;
            return NULL;
        }
        if (r->at >= r->n) {
            r->more = true;
            return NULL;
        }
        u8 modrm = r->bytes[r->at];
        bool memory = modrm < 0xc0;
        if ((row->mem_only && !memory) || (row->reg_only && memory))
            continue;
        if (row->modrm == MODRM_FIXED && (modrm & row->modrm_mask) != row->modrm_value)
            continue;
        if (row->modrm == MODRM_DIGIT && (modrm >> 3 & 7) != row->modrm_value)
            continue;
        return row;
    }
    return NULL;
}

static void decode_memory(struct reader *r, const struct prefixes *p, struct insn *in, u8 modrm)
{
    unsigned mod = modrm >> 6, rm = modrm & 7;
    unsigned seg = SEG_DS;
    in->base = in->index = REG_ZERO;
    if (in->asz == 1) {
        static const u8 bases[8] = {REG_RBX, REG_RBX, REG_RBP, REG_RBP, REG_RSI, REG_RDI, REG_RBP, REG_RBX};
        static const u8 indexes[8] = {REG_RSI, REG_RDI, REG_RSI, REG_RDI, REG_ZERO, REG_ZERO, REG_ZERO, REG_ZERO};
        in->base = bases[rm];
        in->index = indexes[rm];
        if (mod == 0 && rm == 6) {
            in->base = REG_ZERO;
            in->disp = (i16)take(r, 2);
        } else if (mod == 1) {
            in->disp = (i8)take8(r);
        } else if (mod == 2) {
            in->disp = (i16)take(r, 2);
        }
        if (in->base == REG_RBP)
            seg = SEG_SS;
    } else {
        bool no_base = false;
        if (rm == 4) {
            u8 sib = take8(r);
            in->scale = sib >> 6;
            unsigned index = (sib >> 3 & 7) | (p->rex & 2 ? 8 : 0);
            in->index = index == 4 ? REG_ZERO : (u8)index;
            if (in->index == REG_ZERO)
                in->scale = 0;
            in->base = (u8)((sib & 7) | (p->rex & 1 ? 8 : 0));
            no_base = (sib & 7) == 5 && mod == 0;
        } else {
            in->base = (u8)(rm | (p->rex & 1 ? 8 : 0));
            if (mod == 0 && rm == 5) {
                in->base = in->flags & INSN_64 ? REG_RIP : REG_ZERO;
                in->disp = (i32)take(r, 4);
            }
        }
        if (no_base) {
            in->base = REG_ZERO;
            in->disp = (i32)take(r, 4);
        } else if (mod == 1) {
            in->disp = (i8)take8(r);
        } else if (mod == 2) {
            in->disp = (i32)take(r, 4);
        }
        if (in->base == REG_RSP || in->base == REG_RBP)
            seg = SEG_SS;
    }
    in->arch_seg = (u8)seg;
}

/* The segment of the operand, after an override. */
static void decode_segment(const struct prefixes *p, struct insn *in)
{
    bool long_code = in->flags & INSN_64;
    if (p->seg >= 0)
        in->arch_seg = (u8)p->seg;
    in->seg = in->arch_seg;
    if (long_code && in->seg != SEG_FS && in->seg != SEG_GS)
        in->seg = SEG_NONE;
    if (in->arch_seg == SEG_SS)
        in->flags |= INSN_SS;
    if (long_code && in->asz == 3)
        in->flags |= INSN_FLAT;
}

static u8 byte_register(unsigned n, bool rex)
{
    return (u8)(!rex && n >= 4 && n < 8 ? (n - 4) * 8 + 1 : n * 8);
}

static void decode_immediate(struct reader *r, const struct insn_row *row, struct insn *in)
{
    unsigned zbytes = in->osz == OSZ_16 ? 2 : 4;
    switch (row->imm) {
    case IMM_NONE: break;
    case IMM_B: in->imm = take8(r); break;
    case IMM_BS: case IMM_JB: in->imm = (u64)(i64)(i8)take8(r); break;
    case IMM_W: in->imm = take(r, 2); break;
    case IMM_D: in->imm = take(r, 4); break;
    case IMM_Z: case IMM_JZ:
        in->imm = zbytes == 2 ? (u64)(i64)(i16)take(r, 2) : (u64)(i64)(i32)take(r, 4);
        break;
    case IMM_V:
        in->imm = in->osz == OSZ_16 ? take(r, 2) : in->osz == OSZ_64 ? take(r, 8) : take(r, 4);
        break;
    case IMM_W_B:
        in->imm = take(r, 2);
        in->imm2 = take8(r);
        break;
    case IMM_FAR:
        in->imm = take(r, zbytes);
        in->selector = (u16)take(r, 2);
        break;
    case IMM_MOFFS: in->imm = take(r, 1u << in->asz); break;
    case IMM_IS4: in->imm = take8(r); break;
    }
}

static void decode_sizes(const struct insn_row *row, const struct prefixes *p, enum cpu_bits bits, struct insn *in)
{
    bool w = p->vector ? p->w : p->rex & 8;
    bool opsize = p->opsize && (row->prefix != PREFIX_66 || row->attr & ROW_PREFIXED);
    unsigned effective;
    if (bits == BITS_64)
        effective = row->attr & ROW_F64 || w ? OSZ_64 : opsize ? OSZ_16 : row->attr & ROW_D64 ? OSZ_64 : OSZ_32;
    else
        effective = (bits == BITS_32) != opsize ? OSZ_32 : OSZ_16;
    switch (row->osz) {
    case SIZE_BYTE: in->osz = OSZ_8; break;
    case SIZE_Y: in->osz = bits == BITS_64 && (w || row->attr & ROW_F64) ? OSZ_64 : OSZ_32; break;
    default: in->osz = (u8)effective; break;
    }
}

/* Reads VEX (C4, C5) or EVEX (62) behind its first byte. */
static void decode_vector_prefix(struct reader *r, u8 first, enum cpu_bits bits, struct prefixes *p)
{
    u8 a = take8(r);
    p->rex = 0x40;
    if (first == 0xc5) {
        p->vector = VECTOR_VEX;
        p->map = 1;
        p->rex |= a & 0x80 ? 0 : 4;
        p->vvvv = ~a >> 3 & 15;
        p->l = a >> 2 & 1;
        p->pp = a & 3;
    } else {
        u8 b = take8(r), c = first == 0x62 ? take8(r) : 0;
        p->vector = first == 0x62 ? VECTOR_EVEX : VECTOR_VEX;
        p->map = first == 0x62 ? a & 7 : a & 31;
        p->rex |= (u8)(~a >> 5 & 7);
        p->w = b >> 7;
        p->vvvv = ~b >> 3 & 15;
        p->pp = b & 3;
        if (first == 0x62) {
            p->r_high = !(a & 0x10);
            p->l = c >> 5 & 3;
            p->opmask = c & 7;
            p->v_high = !(c & 8);
            p->b = c >> 4 & 1;
            p->z = c >> 7;
        } else {
            p->l = b >> 2 & 1;
        }
    }
    p->vvvv_named = p->vvvv != 0 || p->v_high;
    if (bits != BITS_64) {
        p->rex &= 0x40;
        p->vvvv &= 7;
    }
    p->opsize = p->pp == 1;
    p->rep = p->pp == 2 ? 0xf3 : p->pp == 3 ? 0xf2 : 0;
}

/* Whether the byte behind C4, C5 or 62 makes it a vector prefix: always in 64-bit code, else if it looks like a register ModRM. */
static bool is_vector_prefix(struct reader *r, u8 byte, enum cpu_bits bits, const u32 *features)
{
    static const u16 vex_users[] = {FEATURE_AVX, FEATURE_BMI1, FEATURE_BMI2};
    static const u16 evex_users[] = {FEATURE_AVX512F, FEATURE_AVX512F, FEATURE_AVX512F};
    const u16 *users = byte == 0x62 ? evex_users : vex_users;
    if (byte != 0xc4 && byte != 0xc5 && byte != 0x62)
        return false;
    if (bits == BITS_64)
        return true;
    bool used = false;
    for (unsigned i = 0; i < ARRAY_SIZE(vex_users); i++)
        used |= features[users[i] / 32] >> (users[i] % 32) & 1;
    if (!used)
        return false;
    if (r->at >= r->n) {
        r->more = true;
        return false;
    }
    return r->bytes[r->at] >= 0xc0;
}

static enum decode_result finish(struct reader *r, struct insn *in, insn_handler *handler)
{
    if (r->too_long) {
        in->handler = too_long;
        in->length = LONGEST;
        return DECODE_OK;
    }
    if (r->more)
        return DECODE_MORE;
    in->handler = handler;
    in->length = (u8)r->at;
    return DECODE_OK;
}

static u8 take_prefixes(struct reader *r, enum cpu_bits bits, struct prefixes *p)
{
    for (;;) {
        u8 byte = take8(r);
        if (r->more || r->too_long)
            return 0;
        u8 rex = 0;
        switch (byte) {
        /* 64-bit code ignores these four: an FS or GS before them stays in force. */
        case 0x26: p->seg = bits == BITS_64 ? p->seg : SEG_ES; break;
        case 0x2e: p->seg = bits == BITS_64 ? p->seg : SEG_CS; break;
        case 0x36: p->seg = bits == BITS_64 ? p->seg : SEG_SS; break;
        case 0x3e: p->seg = bits == BITS_64 ? p->seg : SEG_DS; break;
        case 0x64: p->seg = SEG_FS; break;
        case 0x65: p->seg = SEG_GS; break;
        case 0x66: p->opsize = true; break;
        case 0x67: p->addrsize = true; break;
        case 0xf0: p->lock = true; break;
        case 0xf2: case 0xf3: p->rep = byte; break;
        default:
            if (bits == BITS_64 && (byte & 0xf0) == 0x40) {
                rex = byte;
                break;
            }
            return byte;
        }
        p->rex = rex;          /* a REX prefix counts only right before the opcode */
    }
}

enum decode_result insn_decode(const u32 *features, enum cpu_bits bits, const u8 *bytes, unsigned n, struct insn *in)
{
    struct reader r = {.bytes = bytes, .n = n};
    struct prefixes p = {.seg = -1};
    *in = (struct insn){.base = REG_ZERO, .index = REG_ZERO, .seg = SEG_NONE, .arch_seg = SEG_DS, .row = 0xffff};
    in->flags = bits == BITS_64 ? INSN_64 : bits == BITS_16 ? INSN_16 : 0;

    u8 opcode = take_prefixes(&r, bits, &p);
    unsigned space = 0;
    if (!r.more && !r.too_long && is_vector_prefix(&r, opcode, bits, features)) {
        bool legacy = p.opsize || p.rep || p.rex || p.lock;
        decode_vector_prefix(&r, opcode, bits, &p);
        if (legacy)
            return finish(&r, in, undefined);
        if (p.map >= 8)        /* reserved maps of VEX; they must not be taken for EVEX's */
            space = 0xff;
        else
            space = p.map + (p.vector == VECTOR_VEX ? 8 : 16);
        opcode = take8(&r);
    } else if (opcode == 0x0f) {
        space = 1;
        opcode = take8(&r);
        if (opcode == 0x38 || opcode == 0x3a) {
            space = opcode == 0x38 ? 2 : 3;
            opcode = take8(&r);
        }
    }
    if (r.more || r.too_long)
        return finish(&r, in, undefined);

    const struct insn_row *row = find_row(features, bits, &p, space, opcode, &r);
    if (!row) {
        if (!r.more && !r.too_long && space != 0 && r.at < r.n && insn_candidates(space, opcode)[0] != 0xffff)
            r.at++;            /* an undefined form of a known opcode: its ModRM byte has been read */
        return finish(&r, in, undefined);
    }

    in->row = (u16)(row - insn_rows);
    in->flags |= (p.opsize ? INSN_OPSIZE : 0) | (p.addrsize ? INSN_ADDR32 : 0) | (p.lock ? INSN_LOCK : 0) |
                 (p.rep == 0xf3 ? INSN_REP : p.rep == 0xf2 ? INSN_REPNE : 0) | (p.rex && !p.vector ? INSN_REX : 0) |
                 ((p.vector ? p.w : p.rex & 8) ? INSN_REX_W : 0) | (p.vector == VECTOR_VEX ? INSN_VEX : 0) |
                 (p.vector == VECTOR_EVEX ? INSN_EVEX : 0) | (p.b ? INSN_EVEX_B : 0) | (p.z ? INSN_EVEX_Z : 0);
    in->vvvv = (u8)(p.vvvv | (p.v_high ? 16 : 0));
    in->vl = p.l;
    in->opmask = p.opmask;
    in->asz = bits == BITS_64 ? (p.addrsize ? 2 : 3) : (bits == BITS_32) != p.addrsize ? 2 : 1;
    decode_sizes(row, &p, bits, in);

    bool rex = p.rex;
    unsigned rex_r = p.rex & 4 ? 8 : 0, rex_b = p.rex & 1 ? 8 : 0;
    if (row->modrm != MODRM_NONE) {
        u8 modrm = take8(&r);
        in->modrm = modrm;
        unsigned reg = (modrm >> 3 & 7) | rex_r | (p.r_high ? 16 : 0);
        in->reg = row->reg_byte ? byte_register(reg, rex) : (u8)reg;
        if (modrm < 0xc0 && !(row->attr & ROW_IGNMOD)) {
            in->flags |= INSN_MEM;
            decode_memory(&r, &p, in, modrm);
        } else {
            unsigned rm = (modrm & 7) | rex_b | (p.vector == VECTOR_EVEX && p.rex & 2 ? 16 : 0);
            in->rm = row->rm_byte ? byte_register(rm, rex) : (u8)rm;
        }
    } else if (row->plus_r) {
        unsigned reg = (opcode & 7) | rex_b;
        in->reg = in->rm = row->reg_byte ? byte_register(reg, rex) : (u8)reg;
    }
    decode_immediate(&r, row, in);
    if (row->imm == IMM_MOFFS) {
        in->flags |= INSN_MEM;
        in->base = REG_ZERO;
    }
    if (r.more || r.too_long)
        return finish(&r, in, undefined);
    decode_segment(&p, in);
    if (in->base == REG_RIP)
        in->disp += r.at;
    if (p.lock && !(row->attr & ROW_LOCK && in->flags & INSN_MEM))
        return finish(&r, in, undefined);
    if (p.vvvv_named && !row->uses_vvvv)
        return finish(&r, in, undefined);
    if (row->attr & ROW_PROT && bits != BITS_64)
        return finish(&r, in, protected_only);
    return finish(&r, in, (*row->family)[(in->flags & INSN_MEM ? 4 : 0) + in->osz]);
}
