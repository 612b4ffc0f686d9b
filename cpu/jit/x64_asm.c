/* The encoder of x64_asm.h. [SDM2 "Instruction Format"]
 */
#include "cpu/jit/x64_asm.h"

static void modrm(struct emit *e, unsigned reg, struct rm rm)
{
    reg = (reg & 7) << 3;
    if (!rm.memory) {
        put8(e, 0xc0 | reg | (rm.base & 7));
        return;
    }
    if (rm.base == NO_REG) {           /* index alone, or nothing: 32 bits of displacement */
        put8(e, reg | 4);
        put8(e, (unsigned)rm.scale << 6 | (rm.index == NO_REG ? 4u : rm.index & 7u) << 3 | 5);
        put32(e, (u32)rm.disp);
        return;
    }
    unsigned mod = rm.disp == 0 && (rm.base & 7) != 5 ? 0 : rm.disp == (i8)rm.disp ? 1 : 2;
    if (rm.index != NO_REG || (rm.base & 7) == 4) {
        put8(e, mod << 6 | reg | 4);
        put8(e, (unsigned)rm.scale << 6 | (rm.index == NO_REG ? 4u : rm.index & 7u) << 3 | (rm.base & 7));
    } else {
        put8(e, mod << 6 | reg | (rm.base & 7));
    }
    if (mod == 1)
        put8(e, (u8)rm.disp);
    else if (mod == 2)
        put32(e, (u32)rm.disp);
}

void x64_op(struct emit *e, u64 opcode, unsigned osz, unsigned reg, struct rm rm)
{
    unsigned prefix = opcode >> 16 & 0xff, map = opcode >> 8 & 0xff, rex = 0;
    if (osz == OSZ_16)
        put8(e, 0x66);
    if (prefix)
        put8(e, prefix);
    rex |= osz == OSZ_64 ? 8 : 0;
    rex |= reg & 8 ? 4 : 0;
    rex |= rm.memory && rm.index != NO_REG && rm.index & 8 ? 2 : 0;
    rex |= rm.base != NO_REG && rm.base & 8 ? 1 : 0;
    if (rex || osz == OSZ_8 || opcode & OP_BYTE_RM)
        put8(e, 0x40 | rex);
    if (map) {
        put8(e, 0x0f);
        if (map > 1)
            put8(e, map == 2 ? 0x38 : 0x3a);
    }
    put8(e, opcode & 0xff);
    modrm(e, reg, rm);
}

void x64_byte_op(struct emit *e, unsigned opcode, unsigned reg, struct rm rm)
{
    put8(e, opcode);
    modrm(e, reg, rm);
}

void x64_vex(struct emit *e, u32 opcode, bool w, unsigned length, unsigned reg, unsigned vvvv, struct rm rm)
{
    unsigned prefix = opcode >> 16 & 0xff, map = opcode >> 8 & 0xff;
    unsigned last = (~vvvv & 15) << 3 | length << 2 | (prefix == 0x66 ? 1u : prefix == 0xf3 ? 2u : prefix == 0xf2 ? 3u : 0);
    bool index = rm.memory && rm.index != NO_REG && rm.index & 8, base = rm.base != NO_REG && rm.base & 8;
    if (map == 1 && !w && !index && !base) {
        put8(e, 0xc5);
        put8(e, (reg & 8 ? 0 : 0x80) | last);
    } else {
        put8(e, 0xc4);
        put8(e, (reg & 8 ? 0 : 0x80) | (index ? 0 : 0x40) | (base ? 0 : 0x20) | map);
        put8(e, (w ? 0x80 : 0) | last);
    }
    put8(e, opcode & 0xff);
    modrm(e, reg, rm);
}

void x64_alu_imm(struct emit *e, unsigned digit, unsigned osz, struct rm rm, i64 imm)
{
    if (osz == OSZ_8) {
        x64_op(e, 0x80, osz, digit, rm);
        put8(e, (u8)imm);
    } else if (imm == (i8)imm) {
        x64_op(e, 0x83, osz, digit, rm);
        put8(e, (u8)imm);
    } else {
        x64_op(e, 0x81, osz, digit, rm);
        if (osz == OSZ_16) {
            put8(e, (u8)imm);
            put8(e, (u8)(imm >> 8));
        } else {
            put32(e, (u32)imm);
        }
    }
}

void x64_load_imm(struct emit *e, unsigned reg, u64 v)
{
    if (v == (u32)v) {
        if (reg & 8)
            put8(e, 0x41);
        put8(e, 0xb8 | (reg & 7));
        put32(e, (u32)v);
    } else if (v == (u64)(i64)(i32)v) {
        x64_op(e, 0xc7, OSZ_64, 0, rm_reg(reg));
        put32(e, (u32)v);
    } else {
        put8(e, reg & 8 ? 0x49 : 0x48);
        put8(e, 0xb8 | (reg & 7));
        put64(e, v);
    }
}

void x64_store_imm(struct emit *e, unsigned osz, struct rm rm, i32 imm)
{
    x64_op(e, osz == OSZ_8 ? 0xc6 : 0xc7, osz, 0, rm);
    if (osz == OSZ_8) {
        put8(e, (u8)imm);
    } else if (osz == OSZ_16) {
        put8(e, (u8)imm);
        put8(e, (u8)(imm >> 8));
    } else {
        put32(e, (u32)imm);
    }
}

u32 x64_jump(struct emit *e)
{
    put8(e, 0xe9);
    put32(e, 0);
    return (u32)emit_at(e) - 4;
}

u32 x64_jump_if(struct emit *e, unsigned cc)
{
    put8(e, 0x0f);
    put8(e, 0x80 | cc);
    put32(e, 0);
    return (u32)emit_at(e) - 4;
}

void x64_patch(struct emit *e, u32 at, u32 to) { store32(e->jit->memory.write + at, to - (at + 4)); }

void x64_jump_back(struct emit *e, u32 to)
{
    u32 at = x64_jump(e);
    x64_patch(e, at, to);
}

u32 x64_call_forward(struct emit *e)
{
    put8(e, 0xe8);
    put32(e, 0);
    return (u32)emit_at(e) - 4;
}

void x64_call(struct emit *e, u32 to)
{
    u32 at = x64_call_forward(e);
    x64_patch(e, at, to);
}

void x64_push(struct emit *e, unsigned reg)
{
    if (reg & 8)
        put8(e, 0x41);
    put8(e, 0x50 | (reg & 7));
}

void x64_pop(struct emit *e, unsigned reg)
{
    if (reg & 8)
        put8(e, 0x41);
    put8(e, 0x58 | (reg & 7));
}

void x64_return(struct emit *e) { put8(e, 0xc3); }
