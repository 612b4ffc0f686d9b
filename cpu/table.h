/* The rows of cpu/insn.def, parsed once at start-up: what the decoder, the disassembler, the tests and `nestor dump insns` read.
 */
#ifndef NESTOR_CPU_TABLE_H
#define NESTOR_CPU_TABLE_H

#include "cpu/insn.h"
#include <stdio.h>

enum row_attribute {
    ROW_LOCK = 1 << 0, ROW_END = 1 << 1, ROW_I64 = 1 << 2, ROW_O64 = 1 << 3, ROW_D64 = 1 << 4, ROW_F64 = 1 << 5,
    ROW_PROT = 1 << 6, ROW_BYTE = 1 << 7, ROW_NOMEM = 1 << 8, ROW_MEM = 1 << 9, ROW_REPS = 1 << 10,
    ROW_PREFIXED = 1 << 11, ROW_IGNMOD = 1 << 12, ROW_NOREP = 1 << 13,
    ROW_VSIB = 1 << 14, ROW_NOMASK = 1 << 15, ROW_NEEDMASK = 1 << 16, ROW_WHOLE = 1 << 17, ROW_ER = 1 << 18, ROW_SAE = 1 << 19,
    ROW_LIG = 1 << 20, ROW_HALVES = 1 << 21,
};
enum row_modrm { MODRM_NONE, MODRM_REG /* /r */, MODRM_DIGIT /* /0../7 */, MODRM_FIXED /* a byte, or eight with +r */ };
enum row_prefix { PREFIX_ANY, PREFIX_NP, PREFIX_66, PREFIX_F3, PREFIX_F2 };
enum row_vector { VECTOR_LEGACY, VECTOR_VEX, VECTOR_EVEX };
enum row_imm { IMM_NONE, IMM_B, IMM_BS, IMM_W, IMM_Z, IMM_V, IMM_W_B, IMM_JB, IMM_JZ, IMM_FAR, IMM_MOFFS, IMM_IS4, IMM_D };
enum row_osz { SIZE_EFFECTIVE, SIZE_BYTE, SIZE_Y, SIZE_VECTOR };
/* What disp8 is multiplied with, and whether a memory operand may be broadcast [SDM2 "Compressed Displacement (disp8*N) Support in EVEX"]. */
enum row_tuple { TUPLE_NONE, TUPLE_FV, TUPLE_HV, TUPLE_QV, TUPLE_FVM, TUPLE_HVM, TUPLE_QVM, TUPLE_OVM, TUPLE_T1S, TUPLE_T1S8, TUPLE_T1S16,
                 TUPLE_T1F32, TUPLE_T1F64, TUPLE_T2, TUPLE_T4, TUPLE_T8, TUPLE_M128, TUPLE_DUP };

#define ROW_OPERANDS 5
struct row_operand {
    char access[4];            /* "r", "w", "rw" */
    char letter;               /* the operand letter, or 0 for a fixed register or constant */
    char size[4];              /* its size letters */
    char fixed[8];             /* fixed registers and constants by name */
};

struct insn_row {
    const char *name, *encoding, *operands, *attributes, *cpuid, *flags, *exit;
    const insn_family *family;
    const char *family_name;
    u16 feature;
    /* parsed: */
    u32 attr;
    u8 map;                    /* 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A; VEX/EVEX maps likewise, 5 and 6 for EVEX */
    u8 opcode, plus_r;
    u8 modrm, modrm_value, modrm_mask;
    u8 prefix, vector;
    i8 w;                      /* -1 any */
    i8 l;                      /* -1 more than one */
    u8 lengths;                /* bits 0-2: the vector lengths 128, 256, 512 that the row has */
    u8 tuple;                  /* enum row_tuple, EVEX only */
    u8 dest_vvvv;              /* VEX.vvvv is the destination, ModRM.reg extends the opcode */
    u8 k_reg, k_rm, k_vvvv, k_dest;    /* opmasks: where, and whether one is written */
    u8 gpr_reg, gpr_rm;        /* general registers in ModRM of a vector encoding */
    u8 mem_dest;               /* the operand in ModRM.rm is written */
    u16 base_feature;          /* what the encoding itself asks for: AVX or AVX512F, 0 for none */
    u8 imm, osz;
    u8 mem_only, reg_only;
    u8 uses_vvvv;              /* VEX.vvvv is an operand; otherwise it must be 1111b */
    u8 reg_byte, rm_byte;      /* the operand is a byte register */
    u8 operand_count;
    struct row_operand operand[ROW_OPERANDS];
    u16 score;
};

extern struct insn_row insn_rows[];
extern const unsigned insn_row_count;

/* Parses the table and builds the decoder's lists. Called once at start-up; panics, naming the row, on an unknown token or an overlap. */
void insn_table_init(void);

/* Candidate rows of an opcode, most specific first; ends with 0xffff. `space`: map for legacy encodings (0-3), 8 + map for VEX, 16 + map for EVEX. */
const u16 *insn_candidates(unsigned space, u8 opcode);

/* The columns that name a row, in one line: `MOV "88 /r" "w:Eb r:Gb"`. */
void insn_row_key(const struct insn_row *row, char *text, size_t size);

/* `nestor dump insns`. */
void insn_table_print(FILE *out);

#endif
