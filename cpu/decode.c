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
    bool saw_modrm;            /* the choice of a row depended on the byte behind the opcode */
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
    bool notrack;              /* 3E */
    i8 seg;                    /* -1 or SEG_* */
    /* VEX and EVEX: */
    u8 vector;                 /* enum row_vector */
    u8 map, pp, l, vvvv, w, opmask, r_high, v_high, z, b;
    bool vvvv_named;           /* VEX.vvvv is not 1111b (its top bit, which names nothing outside 64-bit code, counts) */
    u8 raw_vvvv, raw_r;        /* as they stand, turned to positive, whatever the mode */
    bool reserved;             /* a bit of EVEX that must be 0 is not, or the other way round */
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

static bool has(const u32 *features, unsigned feature) { return features[feature / 32] >> (feature % 32) & 1; }

/* EVEX.b of a register form: L'L is a rounding mode, or means nothing, and all 512 bits (or one scalar) are meant. */
static bool embedded_rounding(const struct insn_row *row, const struct prefixes *p, bool memory)
{
    return p->b && !memory && row->attr & (ROW_ER | ROW_SAE);
}

/* Vector length, and the features that encoding and length ask for [SDM2 "Detection of AVX-512 Instruction Groups Operating at 256 and
 * 128-bit Vector Lengths"]: what exists for 128 bits alone, or for scalars, does not need AVX512VL. */
static bool length_matches(const u32 *features, const struct insn_row *row, const struct prefixes *p, bool memory)
{
    if (!p->vector)
        return true;
    if (row->base_feature && !has(features, row->base_feature))
        return false;
    if (embedded_rounding(row, p, memory) || (row->attr & ROW_LIG && p->l < 3))
        return true;
    if (p->vector == VECTOR_EVEX && p->l < 2 && row->lengths != 1 && !has(features, FEATURE_AVX512VL))
        return false;
    return row->lengths >> p->l & 1;
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
        if (row->feature && !has(features, row->feature))
            continue;
        bool w = p->vector ? p->w : p->rex & 8;
        if (!prefix_matches(row, p) || (row->w >= 0 && row->w != (int)w))
            continue;
        if (row->modrm == MODRM_NONE) {
            if (!length_matches(features, row, p, false))
                continue;
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
        r->saw_modrm = true;
        if ((row->mem_only && !memory) || (row->reg_only && memory) || !length_matches(features, row, p, memory))
            continue;
        if (row->modrm == MODRM_FIXED && (modrm & row->modrm_mask) != row->modrm_value)
            continue;
        if (row->modrm == MODRM_DIGIT && (modrm >> 3 & 7) != row->modrm_value)
            continue;
        return row;
    }
    return NULL;
}

/* Bytes that one unit of an EVEX disp8 stands for. */
static unsigned disp8_scale(const struct insn_row *row, const struct prefixes *p, const struct insn *in)
{
    static const u8 fixed[] = {[TUPLE_T1S8] = 1, [TUPLE_T1S16] = 2, [TUPLE_T1F32] = 4, [TUPLE_T1F64] = 8, [TUPLE_M128] = 16};
    unsigned bytes = 16u << p->l, w = row->osz == SIZE_Y ? in->osz == OSZ_64 : p->w;
    unsigned element = row->attr & ROW_HALVES ? 2 : w ? 8 : 4;
    if (p->vector != VECTOR_EVEX)
        return 1;
    switch (row->tuple) {
    case TUPLE_FV: return p->b ? element : bytes;
    case TUPLE_HV: return p->b ? (row->attr & ROW_HALVES ? 2 : 4) : bytes / 2;
    case TUPLE_QV: return p->b ? 2 : bytes / 4;
    case TUPLE_FVM: return bytes;
    case TUPLE_HVM: return bytes / 2;
    case TUPLE_QVM: return bytes / 4;
    case TUPLE_OVM: return bytes / 8;
    case TUPLE_T1S: return w ? 8 : 4;
    case TUPLE_T2: return p->w ? 16 : 8;
    case TUPLE_T4: return p->w ? 32 : 16;
    case TUPLE_T8: return 32;
    case TUPLE_DUP: return p->l == 0 ? 8 : bytes;
    case TUPLE_NONE: return 1;
    default: return fixed[row->tuple];
    }
}

static void decode_memory(struct reader *r, const struct insn_row *row, const struct prefixes *p, struct insn *in, u8 modrm)
{
    unsigned mod = modrm >> 6, rm = modrm & 7;
    unsigned seg = SEG_DS;
    int disp8 = (int)disp8_scale(row, p, in);
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
            in->disp = (i8)take8(r) * disp8;
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
            if (row->attr & ROW_VSIB)
                in->imm2 = (u8)(index | (p->v_high ? 16 : 0));
            else if (index != 4)
                in->index = (u8)index;
            else
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
            in->disp = (i8)take8(r) * disp8;
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
    default: in->osz = (u8)effective; break;   /* of vector rows set where their length is known */
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
            p->reserved = a & 8 || !(b & 4);
        } else {
            p->l = b >> 2 & 1;
        }
    }
    p->vvvv_named = p->vvvv != 0 || p->v_high;
    p->raw_vvvv = p->vvvv;
    p->raw_r = (u8)((p->rex & 4 ? 1 : 0) | p->r_high << 1);
    if (bits != BITS_64) {
        p->rex &= 0x40;
        p->vvvv &= 7;
        p->r_high = p->v_high = 0;
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
        case 0x3e:
            p->seg = bits == BITS_64 ? p->seg : SEG_DS;
            p->notrack = true;
            break;
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

/* #UD by what the bits of VEX and EVEX mean for this row [SDM2 "#UD Equations for EVEX", "VEX Encoding Considerations"]. */
static bool vector_undefined(const struct insn_row *row, const struct prefixes *p, const struct insn *in)
{
    bool memory = in->flags & INSN_MEM;
    bool named = row->attr & ROW_VSIB ? p->raw_vvvv != 0 : p->vvvv_named;
    if (named && !row->uses_vvvv)
        return true;
    if ((row->k_reg && p->raw_r) || (row->k_vvvv && p->raw_vvvv & 8))
        return true;
    if (row->attr & ROW_VSIB && (in->asz == 1 || (in->modrm & 7) != 4))
        return true;
    if (p->vector != VECTOR_EVEX)
        return false;
    if (p->reserved || (row->gpr_reg && p->raw_r & 2))
        return true;
    if (p->b && (memory ? row->tuple != TUPLE_FV && row->tuple != TUPLE_HV && row->tuple != TUPLE_QV
                        : !(row->attr & (ROW_ER | ROW_SAE))))
        return true;
    if (p->z && (!p->opmask || row->k_dest || (memory && row->mem_dest) || row->attr & ROW_NEEDMASK))
        return true;
    return row->attr & ROW_NOMASK ? p->opmask != 0 : row->attr & ROW_NEEDMASK && p->opmask == 0;
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
        if (!r.more && !r.too_long && r.at < r.n && (r.saw_modrm || (space != 0 && insn_candidates(space, opcode)[0] != 0xffff)))
            r.at++;            /* an undefined form of a known opcode: its ModRM byte has been read, and is part of what it is */
        return finish(&r, in, undefined);
    }

    in->row = (u16)(row - insn_rows);
    in->flags |= (p.opsize ? INSN_OPSIZE : 0) | (p.addrsize ? INSN_ADDR32 : 0) | (p.lock ? INSN_LOCK : 0) |
                 (p.rep == 0xf3 ? INSN_REP : p.rep == 0xf2 ? INSN_REPNE : 0) | (p.rex && !p.vector ? INSN_REX : 0) |
                 ((p.vector ? p.w : p.rex & 8) ? INSN_REX_W : 0) | (p.vector == VECTOR_VEX ? INSN_VEX : 0) |
                 (p.vector == VECTOR_EVEX ? INSN_EVEX : 0) | (p.b ? INSN_EVEX_B : 0) | (p.z ? INSN_EVEX_Z : 0);
    in->vvvv = (u8)(p.vvvv | (p.v_high ? 16 : 0));
    in->vl = row->attr & ROW_LIG ? 0 : p.l;
    in->opmask = p.opmask;
    in->notrack = p.notrack && (bits == BITS_64 || p.seg == SEG_DS);
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
            decode_memory(&r, row, &p, in, modrm);
        } else {
            unsigned rm = (modrm & 7) | rex_b | (p.vector == VECTOR_EVEX && p.rex & 2 && !row->gpr_rm ? 16 : 0);
            if (row->k_rm)
                rm &= 7;
            if (embedded_rounding(row, &p, false)) {
                in->imm2 = p.l;
                in->vl = row->attr & ROW_LIG ? 0 : 2;
            }
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
    if (p.vector && vector_undefined(row, &p, in))
        return finish(&r, in, undefined);
    if (row->osz == SIZE_VECTOR)
        in->osz = in->opmask || in->flags & INSN_EVEX_B ? 3 : in->vl;
    if (row->dest_vvvv)
        in->reg = in->vvvv;
    if (row->attr & ROW_PROT && bits != BITS_64)
        return finish(&r, in, protected_only);
    return finish(&r, in, (*row->family)[(in->flags & INSN_MEM ? 4 : 0) + in->osz]);
}
