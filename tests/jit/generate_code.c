/* See generate_code.h. Memory operands go through registers that hold addresses (rbx, rsi, rdi, rbp, rsp) and are seldom written, through
 * absolute addresses, and relative to rip.
 */
#include "generate_code.h"

#include "cpu/features.h"
#include "cpu/table.h"

static u64 state;
static bool code32;

void random_seed(u64 seed) { state = seed; }

u64 random_next(void)
{
    u64 z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static void byte(struct program *p, unsigned v) { p->bytes[p->size++] = (u8)v; }
static void bytes(struct program *p, u64 v, unsigned n)
{
    while (n--) {
        byte(p, (u8)v);
        v >>= 8;
    }
}

/* A register to be written: not one that holds an address, as a rule. */
static unsigned target_register(void)
{
    static const u8 data[] = {0, 1, 2, 8, 9, 10, 11, 12, 13, 14, 15, 0, 2, 10, 1, 0};
    return below(40) ? data[below(sizeof data)] : below(16);
}

struct form { unsigned rex, modrm, sib, disp_bytes; u32 disp; bool has_sib, rip; };

/* ModRM for the register `reg` (or a digit) and a register or memory operand. */
static struct form form_of(const struct ground *g, unsigned reg, bool memory, unsigned rm, bool write)
{
    struct form f = {.rex = reg >> 3 << 2, .modrm = (reg & 7) << 3};
    if (!memory) {
        f.modrm |= 0xc0 | (rm & 7);
        f.rex |= rm >> 3;
        return f;
    }
    static const u8 bases[] = {3, 6, 7, 3, 6};
    unsigned kind = below(16);
    if (kind < 8) {                    /* [base + small] */
        f.modrm |= 0x40 | bases[below(sizeof bases)];
        f.disp = below(128);
        f.disp_bytes = 1;
    } else if (kind < 10) {            /* [rbp + small] */
        f.modrm |= 0x45;
        f.disp = below(200) - 64u;
        f.disp_bytes = 1;
    } else if (kind < 12) {            /* [rsp + small] */
        f.modrm |= 0x44;
        f.sib = 0x24;
        f.has_sib = true;
        f.disp = below(100);
        f.disp_bytes = 1;
    } else if (kind < 13) {            /* [base + index * scale + disp], whatever comes */
        f.modrm |= 0x84;
        f.has_sib = true;
        f.sib = below(256);
        f.rex |= below(4);
        f.disp = (u32)random_next();
        f.disp_bytes = 4;
    } else if (kind < 15) {            /* [absolute] */
        f.modrm |= 0x04;
        f.has_sib = true;
        f.sib = 0x25;
        f.disp = (u32)g->data + below(g->data_size);
        if (write && below(12) == 0)
            f.disp = (u32)(below(2) ? g->code : g->alias) + below(600);
        f.disp_bytes = 4;
    } else {                           /* [rip + …], in 32-bit code [absolute] */
        f.modrm |= 0x05;
        f.disp = (u32)(g->data + below(g->data_size) - (code32 ? 0 : g->code + 600));
        if (write && below(4) == 0)
            f.disp = below(300) - 150u + (code32 ? (u32)g->code + 300 : 0);
        f.disp_bytes = 4;
    }
    return f;
}

/* prefixes REX opcode modrm: osz 0..3 for 8..64 bits */
static void encode(struct program *p, const struct form *f, unsigned osz, unsigned prefix, unsigned map, unsigned opcode, bool byte_form)
{
    if (osz == 1)
        byte(p, 0x66);
    if (prefix)
        byte(p, prefix);
    unsigned rex = f->rex | (osz == 3 ? 8 : 0);
    if (!code32 && (rex || (byte_form && below(4))))
        byte(p, 0x40 | rex);
    if (map)
        byte(p, 0x0f);
    byte(p, opcode);
    byte(p, f->modrm);
    if (f->has_sib)
        byte(p, f->sib);
    bytes(p, f->disp, f->disp_bytes);
}

/* OPCODE r/m, reg in all sizes; `base` is the byte form, base + 1 the others. writes: 1 the r/m operand, 2 the register, 3 both. */
static unsigned two_operands(struct program *p, const struct ground *g, unsigned map, unsigned base, unsigned writes, bool has_byte)
{
    unsigned osz = has_byte ? below(8) == 0 ? 0 : 1 + below(3) : 1 + below(3);
    if (osz == 1 && below(2))
        osz = 3;
    unsigned reg = writes & 2 ? target_register() : below(16), rm = writes & 1 ? target_register() : below(16);
    struct form f = form_of(g, reg, below(5) < 2, rm, writes & 1);
    encode(p, &f, osz, 0, map, has_byte ? base + (osz != 0) : base, osz == 0);
    return osz;
}

static unsigned one_operand(struct program *p, const struct ground *g, unsigned base, unsigned digit, bool has_byte)
{
    unsigned osz = has_byte ? below(8) == 0 ? 0 : 1 + below(3) : 1 + below(3);
    struct form f = form_of(g, digit, below(5) < 2, target_register(), true);
    encode(p, &f, osz, 0, 0, base + (osz != 0), osz == 0);
    return osz;
}

static void immediate(struct program *p, unsigned osz)
{
    u64 v = below(3) ? (u64)below(256) - 128 : random_next();
    bytes(p, v, osz == 0 ? 1 : osz == 1 ? 2 : 4);
}

static void table_instruction(struct program *p, const struct ground *g, bool scalar);

static void vector(struct program *p, const struct ground *g)
{
    if (below(2)) {
        table_instruction(p, g, false);
        return;
    }
    static const struct { u8 prefix, opcode; bool store; } plain[] = {
        {0, 0x10, 0}, {0, 0x11, 1}, {0, 0x28, 0}, {0, 0x29, 1}, {0x66, 0x6f, 0}, {0xf3, 0x6f, 0}, {0x66, 0x7f, 1}, {0xf3, 0x7f, 1},
        {0xf2, 0x10, 0}, {0xf2, 0x11, 1}, {0xf3, 0x10, 0}, {0xf3, 0x11, 1}, {0x66, 0xd6, 1}, {0xf3, 0x7e, 0}, {0, 0x14, 0}, {0x66, 0x14, 0},
        {0x66, 0x6c, 0}, {0x66, 0x6d, 0}, {0x66, 0x62, 0}, {0x66, 0x61, 0}, {0x66, 0x60, 0}, {0, 0x57, 0}, {0x66, 0xef, 0}, {0, 0x54, 0},
        {0, 0x55, 0}, {0, 0x56, 0}, {0x66, 0xd4, 0}, {0x66, 0xfe, 0}, {0x66, 0xfa, 0}, {0x66, 0xfb, 0}, {0x66, 0x74, 0}, {0x66, 0x76, 0},
        {0x66, 0xd5, 0}, {0x66, 0xf4, 0}, {0x66, 0xda, 0}, {0x66, 0xee, 0}, {0x66, 0x64, 0}, {0x66, 0xf6, 0},
    };
    static const u8 arithmetic[] = {0x51, 0x58, 0x59, 0x5c, 0x5d, 0x5e, 0x5f, 0x5a, 0x58, 0x59, 0x2e, 0x2f};
    static const u8 prefixes[] = {0, 0x66, 0xf2, 0xf3, 0xf2, 0xf2};
    unsigned reg = below(16), rm = below(16), kind = below(12);
    if (kind < 5) {
        unsigned n = below((unsigned)ARRAY_SIZE(plain));
        struct form f = form_of(g, reg, below(2), rm, plain[n].store);
        encode(p, &f, 2, plain[n].prefix, 1, plain[n].opcode, false);
    } else if (kind < 9) {
        struct form f = form_of(g, reg, below(3) == 0, rm, false);
        unsigned opcode = arithmetic[below(sizeof arithmetic)];
        encode(p, &f, 2, opcode < 0x50 ? below(2) * 0x66 : prefixes[below(sizeof prefixes)], 1, opcode, false);
    } else if (kind == 9) {            /* CVTSI2SD and back */
        unsigned opcode = 0x2a + below(2) * 2 + below(2);
        if (opcode == 0x2b)
            opcode = 0x2d;
        struct form f = form_of(g, opcode == 0x2a ? reg : target_register(), below(3) == 0, rm, false);
        unsigned osz = 2 + below(2), prefix = 0xf2 + below(2);
        byte(p, prefix);
        encode(p, &f, osz, 0, 1, opcode, false);
    } else if (kind == 10) {           /* shuffles, shifts by immediates */
        struct form f = form_of(g, reg, below(4) == 0, rm, false);
        encode(p, &f, 2, below(2) * 0x66, 1, 0xc6, false);
        byte(p, below(256));
    } else {                           /* MOVD, MOVQ */
        unsigned load = below(2), osz = 2 + below(2);
        struct form f = form_of(g, reg, below(3) == 0, load ? rm : target_register(), !load);
        byte(p, 0x66);
        encode(p, &f, osz, 0, 1, load ? 0x6e : 0x7e, false);
    }
}

/* Rows of the table for `table_instruction`: what came for general registers with the vectors; SSE and what is encoded with VEX. */
static bool is_scalar_row(const struct insn_row *row)
{
    static const u16 features[] = {FEATURE_BMI1, FEATURE_BMI2, FEATURE_POPCNT, FEATURE_LZCNT, FEATURE_MOVBE, FEATURE_ADX};
    for (unsigned i = 0; i < ARRAY_SIZE(features); i++)
        if (row->feature == features[i])
            return true;
    return strcmp(row->name, "CRC32") == 0;
}

static bool is_vector_row(const struct insn_row *row)
{
    bool vector = row->vector == VECTOR_VEX;
    for (unsigned i = 0; i < row->operand_count && row->vector == VECTOR_LEGACY; i++)
        vector |= row->operand[i].letter && strchr("VWU", row->operand[i].letter);
    return vector && !(row->attr & ROW_VSIB) && row->modrm != MODRM_FIXED && row->plus_r == 0;
}

/* Any instruction of these, with any operands. */
static void table_instruction(struct program *p, const struct ground *g, bool scalar)
{
    const struct insn_row *row;
    do
        row = &insn_rows[below(insn_row_count)];
    while (scalar ? !is_scalar_row(row) : !is_vector_row(row));
    bool memory = row->mem_only || (!row->reg_only && below(2)), general = row->gpr_reg;
    for (unsigned i = 0; i < row->operand_count; i++)
        general |= row->operand[i].letter && strchr("GB", row->operand[i].letter);
    unsigned reg = row->modrm == MODRM_DIGIT ? row->modrm_value : general ? target_register() : below(16);
    struct form f = form_of(g, reg, memory, below(4) ? below(16) : target_register(), row->mem_dest);
    if (memory && below(2)) {          /* aligned */
        f = (struct form){.rex = f.rex & 4, .modrm = (f.modrm & 0x38) | 4, .sib = 0x25, .has_sib = true, .disp_bytes = 4};
        f.disp = (u32)((g->data + below(g->data_size)) & ~31ull);
    }
    unsigned prefix = row->prefix == PREFIX_66 ? 0x66 : row->prefix == PREFIX_F3 ? 0xf3 : row->prefix == PREFIX_F2 ? 0xf2 : 0;
    if (row->vector == VECTOR_LEGACY) {
        if (prefix)
            byte(p, prefix);
        unsigned rex = f.rex | (row->w == 1 || (row->w < 0 && below(4) == 0) ? 8 : 0);
        if (!code32 && rex)
            byte(p, 0x40 | rex);
        byte(p, 0x0f);
        if (row->map > 1)
            byte(p, row->map == 2 ? 0x38 : 0x3a);
    } else {
        unsigned vvvv = row->uses_vvvv ? below(4) ? below(16) : target_register() : 0;
        unsigned pp = prefix == 0x66 ? 1 : prefix == 0xf3 ? 2 : prefix == 0xf2 ? 3 : 0;
        unsigned w = row->w >= 0 ? (unsigned)row->w : below(2), l = row->lengths == 1 ? 0 : row->lengths == 2 ? 1 : below(2);
        byte(p, 0xc4);
        byte(p, (code32 ? 0xe0 : (~f.rex & 7) << 5) | row->map);
        byte(p, w << 7 | (~(code32 ? vvvv & 7 : vvvv) & 15) << 3 | l << 2 | pp);
    }
    byte(p, row->opcode);
    byte(p, f.modrm);
    if (f.has_sib)
        byte(p, f.sib);
    bytes(p, f.disp, f.disp_bytes);
    if (row->imm != IMM_NONE)
        byte(p, below(256));
    if (scalar && below(2)) {          /* SETcc on its flags; CMP kills them, as a rule */
        byte(p, 0x0f);
        byte(p, 0x90 | below(16));
        byte(p, 0xc0 | below(3));
        if (below(4))
            bytes(p, 0xc239, 2);
    }
}

static void branch(struct program *p)
{
    unsigned kind = below(16);
    i32 to = below(4) ? (i32)p->starts[below(p->count)] : (i32)(p->size + below(24));
    if (kind < 9) {                    /* Jcc short, forwards as a rule: backwards loops for the rest of the run */
        byte(p, 0x70 | below(16));
        byte(p, below(5) && p->size - (unsigned)to < 120 ? (u8)(to - (i32)p->size - 1) : below(12));
    } else if (kind < 11) {
        byte(p, 0x0f);
        byte(p, 0x80 | below(16));
        bytes(p, (u32)(to - (i32)p->size - 4), 4);
    } else if (kind < 12) {
        byte(p, 0xeb);
        byte(p, below(8));
    } else if (kind < 14) {
        byte(p, 0xe8);
        bytes(p, (u32)(to - (i32)p->size - 4), 4);
    } else if (kind < 15) {
        byte(p, 0xc3);
    } else {
        byte(p, 0xe0 | below(4));      /* LOOP, JRCXZ */
        byte(p, below(10));
    }
}

static void rare(struct program *p, const struct ground *g)
{
    unsigned op;
    static const u8 ones[] = {0x9e, 0x9f, 0xf5, 0xf8, 0xf9, 0xfc, 0xfd, 0x9c, 0x9d, 0xfa, 0xfb, 0x90, 0xc9, 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad,
                              0xa6, 0xae, 0xd7, 0xcc, 0xf4, 0x98, 0x99, 0x98, 0x99};
    switch (below(13)) {
    case 0: case 1: case 2:
        if (below(6) == 0)
            byte(p, 0x66);
        if (below(4) == 0)
            byte(p, 0x48);
        byte(p, ones[below(sizeof ones)]);
        break;
    case 3:                            /* REP MOVS, STOS, … with a small count */
        byte(p, 0xb9);
        bytes(p, below(12), 4);
        byte(p, 0xf2 + below(2));
        byte(p, 0xa4 + below(12));
        break;
    case 4:                            /* single-step from here on */
        byte(p, 0x9c);
        bytes(p, 0x240c8148, 4);       /* OR qword [rsp], TF or RF */
        bytes(p, below(2) ? 0x100 : 0x10000, 4);
        byte(p, 0x9d);
        break;
    case 5: byte(p, 0x0f); byte(p, 0x31); break;                   /* RDTSC */
    case 6: byte(p, 0x0f); byte(p, 0xa2); break;                   /* CPUID */
    case 7: {                          /* LOCK ADD and its like */
        struct form f = form_of(g, below(16), true, 0, true);
        byte(p, 0xf0);
        encode(p, &f, 2 + below(2), 0, 0, below(4) * 8 + 1, false);
        break;
    }
    case 8: bytes(p, below(2) ? 0xe8d9 : 0xd8dd, 2); break;        /* FLD1, FSTP ST0 */
    case 9: case 10:                   /* RDPMC, RDMSR, WRMSR of a performance counter */
        byte(p, 0xb9);
        op = below(3);
        bytes(p, op == 0 ? below(2) ? below(3) : 1u << 30 : below(8) ? 0x4c1 + below(3) : 0x38f, 4);
        byte(p, 0x0f);
        byte(p, op == 0 ? 0x33 : op == 1 || below(4) ? 0x32 : 0x30);
        break;
    case 11: bytes(p, 0x90f3, 2); break;                           /* PAUSE */
    default: bytes(p, random_next(), 1 + below(6)); break;         /* anything */
    }
}

static void generate_one(struct program *p, const struct ground *g)
{
    unsigned osz, op;
    switch (below(31)) {
    case 0: case 1: case 2: case 3:    /* ADD … CMP, both directions */
        op = below(8);
        if (below(2))
            two_operands(p, g, 0, op * 8, op == 7 ? 0 : 1, true);
        else
            two_operands(p, g, 0, op * 8 + 2, op == 7 ? 0 : 2, true);
        break;
    case 4: case 5:                    /* … with an immediate */
        if (below(2)) {
            one_operand(p, g, 0x82, below(8), false);
            byte(p, below(256));
        } else {
            osz = one_operand(p, g, 0x80, below(8), true);
            immediate(p, osz);
        }
        break;
    case 6: two_operands(p, g, 0, 0x84, 0, true); break;           /* TEST */
    case 7: immediate(p, one_operand(p, g, 0xf6, 0, true)); break;
    case 8: one_operand(p, g, 0xf6, 2 + below(6), true); break;    /* NOT NEG MUL IMUL DIV IDIV */
    case 9: case 10: one_operand(p, g, 0xfe, below(2), true); break;
    case 11:
        if (below(2)) {
            unsigned n = below(16);
            if (n & 8)
                byte(p, 0x41);
            byte(p, 0x50 | (n & 7));
        } else {
            unsigned n = target_register();
            if (n & 8)
                byte(p, 0x41);
            byte(p, 0x58 | (n & 7));
        }
        break;
    case 12: case 13: case 14:         /* MOV */
        if (below(2))
            two_operands(p, g, 0, 0x88, 1, true);
        else
            two_operands(p, g, 0, 0x8a, 2, true);
        break;
    case 15:
        if (below(2)) {
            immediate(p, one_operand(p, g, 0xc6, 0, true));
        } else {
            unsigned n = target_register();
            if (!code32)
                byte(p, 0x48 | n >> 3);
            byte(p, 0xb8 | (n & 7));
            bytes(p, random_next(), code32 ? 4 : 8);
        }
        break;
    case 16: two_operands(p, g, 1, below(2) ? 0xb6 + below(2) : 0xbe + below(2), 2, false); break;
    case 17: {
        struct form f = form_of(g, target_register(), true, 0, false);
        encode(p, &f, 1 + below(3), 0, 0, 0x8d, false);
        break;
    }
    case 18: case 19:                  /* shifts and rotates */
        op = below(8);
        switch (below(3)) {
        case 0: one_operand(p, g, 0xd0, op, true); break;
        case 1: one_operand(p, g, 0xd2, op, true); break;
        default:
            one_operand(p, g, 0xc0, op, true);
            byte(p, below(4) ? below(32) : below(256));
        }
        break;
    case 20:
        two_operands(p, g, 1, 0xaf, 2, false);
        break;
    case 21:
        op = 0xa3 + below(4) * 8;
        if (below(3) == 0) {
            two_operands(p, g, 1, op, 1, false);
        } else if (below(2)) {         /* a bit not far from the operand in memory */
            byte(p, 0xb8);
            bytes(p, below(3000) - 1000u, 4);
            struct form f = form_of(g, 0, true, 0, true);
            encode(p, &f, 1 + below(3), 0, 1, op, false);
        } else {
            struct form f = form_of(g, 4 + below(4), below(3) == 0, target_register(), true);
            encode(p, &f, 1 + below(3), 0, 1, 0xba, false);
            byte(p, below(256));
        }
        break;
    case 22: two_operands(p, g, 1, 0xbc + below(2), 2, false); break;
    case 23: case 24: two_operands(p, g, 1, 0x40 | below(16), 2, false); break;
    case 25: {
        struct form f = form_of(g, 0, below(4) == 0, target_register(), true);
        encode(p, &f, 2, 0, 1, 0x90 | below(16), true);
        break;
    }
    case 26:                           /* XCHG XADD CMPXCHG BSWAP SHLD SHRD IMUL */
        switch (below(6)) {
        case 0: two_operands(p, g, 0, 0x86, 3, true); break;
        case 1: two_operands(p, g, 1, 0xc0, 3, true); break;
        case 2: two_operands(p, g, 1, 0xb0, 1, true); break;
        case 3:
            op = target_register();
            byte(p, 0x40 | below(2) << 3 | op >> 3);
            byte(p, 0x0f);
            byte(p, 0xc8 | (op & 7));
            break;
        case 4:
            two_operands(p, g, 1, below(2) ? 0xa4 : 0xac, 1, false);
            byte(p, below(80));
            break;
        default:
            two_operands(p, g, 0, 0x6b, 2, false);
            byte(p, below(256));
        }
        break;
    case 27: branch(p); break;
    case 28: vector(p, g); break;
    case 29: table_instruction(p, g, true); break;
    default: rare(p, g); break;
    }
}

/* MOV ECX, n; loads, stores and additions over several pages, to another one nearly each turn; DEC ECX; JNZ back. */
static void scattered_loop(struct program *p, const struct ground *g)
{
    byte(p, 0xb9);
    bytes(p, 2 + below(300), 4);
    unsigned body = p->size;
    bytes(p, 0xc069, 2);               /* IMUL eax, eax, n; ADD eax, n; MOV edx, eax; SHR edx, n; AND edx, …: in the first three pages */
    bytes(p, (u32)random_next() * 4 + 1, 4);
    byte(p, 0x05);
    bytes(p, (u32)random_next() | 1, 4);
    bytes(p, 0xeac1c289, 4);
    byte(p, 16);
    bytes(p, 0xe281, 2);
    bytes(p, below(8) ? 0x1ff8 : 0x3fff, 4);
    for (unsigned n = 1 + below(3); n > 0; n--) {  /* … dword [rdx + data] */
        static const u8 opcodes[] = {0x03, 0x8b, 0x89, 0x01, 0x33};
        byte(p, opcodes[below(sizeof opcodes)]);
        byte(p, 0x82 | below(2) << 4);     /* eax or edx */
        bytes(p, g->data, 4);
    }
    bytes(p, 0xc9ff, 2);
    byte(p, 0x75);
    byte(p, (u8)(body - p->size - 1));
}

/* MOV ECX, n; some instructions, one of which may move a pointer on; DEC ECX; JNZ back. */
static void loop(struct program *p, const struct ground *g, bool vectors)
{
    byte(p, 0xb9);
    bytes(p, 2 + below(60), 4);
    unsigned body = p->size, n = 1 + below(5);
    for (unsigned i = 0; i < n; i++) {
        if (vectors && below(2))
            vector(p, g);
        else
            generate_one(p, g);
    }
    if (below(3)) {                    /* ADD or SUB rbx, rsi, rdi, rsp, …: over the end of a page, sooner or later */
        static const u8 pointers[] = {3, 6, 7, 3, 6, 4};
        byte(p, 0x48);
        byte(p, 0x83);
        byte(p, (below(4) ? 0xc0 : 0xe8) | pointers[below(sizeof pointers)]);
        byte(p, below(3) ? 1u << below(6) : below(128));
    }
    byte(p, 0xff);
    byte(p, 0xc9);
    byte(p, 0x75);
    byte(p, (u8)(body - p->size - 1));
}

/* A jump of 8 bits back or on to `to`. */
static void short_jump(struct program *p, unsigned opcode, unsigned to)
{
    byte(p, opcode);
    byte(p, (u8)(to - p->size - 1));
}

/* A loop of several blocks: MOV ECX, n, or JMP to the condition at its bottom; arms that a bit of the count chooses between, seldom or by turns;
 * some of them leave the loop, begin its next turn early, have a loop of their own or write to the code of another arm. */
static void loop_of_blocks(struct program *p, const struct ground *g, bool vectors)
{
    unsigned arms = 1 + below(4), ends[4], end_count = 0, to_condition = 0;
    byte(p, 0xb9);
    bytes(p, 20 + below(200), 4);
    if (below(3) == 0) {
        bytes(p, 0xeb, 2);
        to_condition = p->size;
    }
    unsigned head = p->size;
    for (unsigned a = 0; a < arms && p->size - head < 70; a++) {
        bytes(p, 0xc1f6 | (1u << below(8)) << 16, 3);              /* TEST CL, bit; JZ or JNZ over the arm */
        byte(p, 0x74 | below(2));
        unsigned over = p->size;
        byte(p, 0);
        for (unsigned i = below(3); i > 0 && p->size - over < 40; i--) {
            if (vectors && below(2))
                vector(p, g);
            else
                generate_one(p, g);
        }
        switch (below(6)) {
        case 0:                        /* DEC ECX; JNZ to the head */
            bytes(p, 0xc9ff, 2);
            short_jump(p, 0x75, head);
            break;
        case 1:                        /* JMP out, or over what follows it */
            byte(p, 0xeb);
            if (end_count < ARRAY_SIZE(ends))
                ends[end_count++] = p->size;
            byte(p, 0);
            break;
        case 2:                        /* MOV EDX, n; ADD EAX, EDX; DEC EDX; JNZ back */
            byte(p, 0xba);
            bytes(p, 1 + below(5), 4);
            bytes(p, 0xcaffd001, 4);
            short_jump(p, 0x75, p->size - 4);
            break;
        case 3:
            if (below(8) == 0) {       /* MOV byte [the arm's branch, by either of its addresses], its opcode or the opposite one */
                bytes(p, 0x2504c6, 3);
                bytes(p, (below(2) ? g->code : g->alias) + over - 1, 4);
                byte(p, 0x74 | below(2));
            }
            break;
        default: break;
        }
        if (p->size - over < 120)
            p->bytes[over] = (u8)(p->size - over - 1);
    }
    if (to_condition && p->size - to_condition < 127)
        p->bytes[to_condition - 1] = (u8)(p->size - to_condition);
    bytes(p, 0xc9ff, 2);               /* DEC ECX; JNZ to the head; or JZ out and JMP to it */
    bool bottom = below(3) != 0;
    if (!bottom)
        bytes(p, 0x74 | 5u << 8, 2);
    if (bottom)
        bytes(p, 0x850f, 2);
    else
        byte(p, 0xe9);
    bytes(p, (u32)(head - p->size - 4), 4);
    for (unsigned i = 0; i < end_count; i++)
        if (p->size - ends[i] < 127)
            p->bytes[ends[i]] = (u8)(p->size - ends[i] - 1);
}

/* MOV ECX, n; head: DEC ECX; JZ out; JMP arm; arm: ADD EAX, immediate; TEST ECX, ECX; JNZ head; tail: NOPs; out: a write to the tail, which is in
 * a block of the loop but not on its path, then one to the immediate. */
static void loop_with_tail(struct program *p, const struct ground *g)
{
    u64 code = below(2) ? g->code : g->alias;
    byte(p, 0xb9);
    bytes(p, 20 + below(200), 4);
    unsigned head = p->size, nops = 1 + below(100);
    bytes(p, 0xc9ff, 2);
    bytes(p, 0x840f, 2);
    unsigned out = p->size, arm = out + 4 + 5 + below(160);
    bytes(p, 0, 4);
    byte(p, 0xe9);
    bytes(p, arm - p->size - 4, 4);
    while (p->size < arm)
        byte(p, 0x90);
    bytes(p, 0xc083 | below(256) << 16, 3);
    bytes(p, 0xc985, 2);
    bytes(p, 0x850f, 2);
    bytes(p, head - p->size - 4, 4);
    for (unsigned i = 0; i < nops; i++)
        byte(p, 0x90);
    store32(p->bytes + out, p->size - out - 4);
    bytes(p, 0x2504c6, 3);
    bytes(p, code + p->size - 3 - 1 - below(nops), 4);
    byte(p, 0x90);
    bytes(p, 0x250488, 3);             /* MOV [the immediate], AL */
    bytes(p, code + arm + 2, 4);
}

static void move_rsp(struct program *p, u64 to)
{
    if (!code32)
        byte(p, 0x48);
    bytes(p, 0xc4c7, 2);               /* MOV rsp, imm32 */
    bytes(p, to, 4);
}

/* Pushes in a row, or pops, sometimes at the edge of a page. */
static void stack_run(struct program *p, const struct ground *g)
{
    bool pops = below(2);
    if (below(4) == 0)
        move_rsp(p, g->stack_end - 0x800 + below(9) * (code32 ? 4 : 8));
    for (unsigned n = 2 + below(10); n > 0; n--) {
        unsigned reg = pops ? target_register() : below(16);
        if (!pops && below(6) == 0) {
            byte(p, 0x6a);
            byte(p, below(256));
            continue;
        }
        if (reg & 8 && !code32)
            byte(p, 0x41);
        byte(p, (pops ? 0x58 : 0x50) | (reg & 7));
    }
}

/* CALL f; JMP over; f: instructions, or calls of itself to some depth; the return, sometimes to elsewhere; over: */
static void function(struct program *p, const struct ground *g)
{
    bool recursive = below(3) == 0;
    if (recursive) {                   /* the stack below is long enough */
        move_rsp(p, g->stack_end);
        byte(p, 0xb9);
        bytes(p, below(16) ? 1 + below(40) : 1 + below(1500), 4);
    }
    bytes(p, 0xe8 | 2u << 8, 5);
    byte(p, 0xeb);
    unsigned over = p->size, n = below(4);
    byte(p, 0);
    unsigned body = p->size;
    for (unsigned i = 0; i < n && !recursive; i++)
        generate_one(p, g);
    if (recursive) {
        if (below(2))
            byte(p, 0x90);
        bytes(p, 0xc9ff, 2);           /* DEC ecx; JZ over the call */
        bytes(p, 0x74 | 5u << 8, 2);
        byte(p, 0xe8);
        bytes(p, (u32)(body - p->size - 4), 4);
        if (below(2))
            generate_one(p, g);
    }
    if (below(8) == 0) {               /* ADD to the return address */
        if (!code32)
            byte(p, 0x48);
        bytes(p, 0x240483 | below(3) << 24, 4);
    }
    if (below(8) == 0)
        bytes(p, 0xc2 | below(3) * 8 << 8, 3);
    else
        byte(p, 0xc3);
    p->bytes[over] = (u8)(p->size - over - 1);
}

void generate_program(struct program *p, const struct ground *g, unsigned instructions)
{
    p->size = p->count = 0;
    code32 = g->code32;
    bool vectors = below(4) == 0;
    for (unsigned i = 0; i < instructions; i++) {
        p->starts[p->count++] = p->size;
        if (p->size < 1000 && below(24) == 0)
            loop(p, g, vectors);
        else if (p->size < 1000 && below(32) == 0)
            loop_of_blocks(p, g, vectors);
        else if (p->size < 1000 && below(80) == 0)
            loop_with_tail(p, g);
        else if (p->size < 1000 && below(80) == 0)
            scattered_loop(p, g);
        else if (p->size < 1000 && below(40) == 0)
            stack_run(p, g);
        else if (p->size < 1000 && below(40) == 0)
            function(p, g);
        else if (vectors && below(3))
            vector(p, g);
        else
            generate_one(p, g);
    }
    /* Back to the start, so that all of it gets hot. */
    byte(p, 0xe9);
    bytes(p, (u32)(0 - (i32)p->size - 4), 4);
}
