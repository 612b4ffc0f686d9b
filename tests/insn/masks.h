/* Where the host CPU may differ from Nestor without either being wrong: what the SDM leaves undefined, where AMD's
 * processors differ from Intel's (Nestor follows Intel), and what Linux hides. Each entry says which; nothing else is
 * forgiven.
 */
#ifndef NESTOR_TESTS_INSN_MASKS_H
#define NESTOR_TESTS_INSN_MASKS_H

#include "vector.h"

#define LINUX_CPU_NODE 0x78u   /* the selector in Linux' GDT whose limit tells the CPU's number: data, DPL 3 */

struct mask {
    u64 flags;                 /* RFLAGS bits not compared */
    u16 fsw;                   /* x87 status-word bits not compared */
    unsigned lane_ulps;        /* by so many units in the last place lanes of 32 bits may differ */
    unsigned ulps;             /* by so many units in the last place x87 registers may differ */
    u32 registers;             /* GPRs not compared, by bit */
    u32 vectors;               /* vector registers not compared, by bit */
    bool skip;                 /* nothing is compared */
    bool error;                /* the error code is not */
    bool address;              /* nor CR2 */
    bool halves;               /* nor the upper halves of GPRs */
    bool memory;               /* memory is not, in the windows or elsewhere */
    u8 open[WINDOW_BYTES / 8]; /* bytes of vector.memory that are not, by bit */
};

static inline u64 mask_of_letters(const char *letters)
{
    u64 flags = 0;
    for (; *letters && *letters != ' '; letters++)
        switch (*letters) {
        case 'O': flags |= FL_OF; break;
        case 'S': flags |= FL_SF; break;
        case 'Z': flags |= FL_ZF; break;
        case 'A': flags |= FL_AF; break;
        case 'P': flags |= FL_PF; break;
        case 'C': flags |= FL_CF; break;
        }
    return flags;
}

static inline bool mask_named(const struct insn_row *row, const char *names)
{
    return one_of(row->name, names);
}

/* VEX-encoded, with a memory operand of 128 or 256 bits. */
static inline bool mask_wide_vector(const struct insn_row *row)
{
    static const char *const sizes[] = {"x", "dq", "qq", "ps", "pd"};
    for (unsigned i = 0; row->vector != VECTOR_LEGACY && i < row->operand_count; i++)
        for (unsigned k = 0; (row->operand[i].letter == 'W' || row->operand[i].letter == 'M') && k < ARRAY_SIZE(sizes); k++)
            if (strcmp(row->operand[i].size, sizes[k]) == 0)
                return true;
    return false;
}

static inline bool mask_contains(const struct vector *v, u8 first, u8 second)
{
    for (unsigned i = 0; i + 1 < v->length; i++)
        if (vector_bytes(v)[i] == first && vector_bytes(v)[i + 1] == second)
            return true;
    return false;
}

/* Leaves bytes of memory open. */
static inline void mask_open(struct mask *m, const struct bench *bench, u64 la, unsigned bytes)
{
    for (unsigned n = 0; n < bytes; n++)
        for (unsigned i = 0; i < WINDOWS; i++) {
            u64 at = la + n - bench->region - windows[i].off;
            if (at < windows[i].bytes)
                m->open[(windows[i].at + at) / 8] |= (u8)(1 << (windows[i].at + at) % 8);
        }
}

/* Images of the x87 state [SDM1 "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE", "FXSAVE Area",
 * "XSAVE-Managed ... State"]: last instruction, its opcode and operand (AMD's processors keep them for exceptions only), and
 * MXCSR_MASK, which has a bit more on AMD's. */
static inline void mask_image(struct mask *m, const struct bench *bench, const struct vector *v, const struct insn *in,
                              const struct outcome *ours)
{
    const struct insn_row *row = vector_row(v);
    u64 la = vector_operand(bench, v, in);
    if (!one_of(row->family_name, " fldenv fnstenv frstor fnsave fxsave fxrstor xsave xrstor xsaveopt xsavec "))
        return;
    /* In which order an image's parts are accessed: what is found first where several are at fault. */
    m->address = m->error = ours->exception == EXC_PF && ours->address - la < 1024 && v->native.address - la < 1024;
    /* A misaligned image at a non-canonical address by way of SS, or beyond its limit: #GP(0) and #SS(0) are both faults of the operand,
     * in no order that the SDM gives. */
    u64 boundary = one_of(row->family_name, " fxsave fxrstor ") ? 15 : one_of(row->family_name, " fldenv fnstenv frstor fnsave ") ? 0 : 63;
    if (in->arch_seg == SEG_SS && la & boundary && ((ours->exception == EXC_GP && v->native.exception == EXC_SS) ||
                                                    (ours->exception == EXC_SS && v->native.exception == EXC_GP)))
        m->skip = true;
    /* An image that runs over its segment's limit, or over 64 KiB of a 16-bit address: AMD's processors access it part by part, and
     * have stored or loaded what lies before the limit, or go on at 0. */
    if (v->bits != BITS_64 && (ours->exception == EXC_GP || ours->exception == EXC_SS) &&
        (v->native.exception == ours->exception || in->asz == 1))
        m->skip = true;
    /* MXCSR bit 17 is AMD's (MM): its processors load it. */
    if (one_of(row->family_name, " fxrstor xrstor ") && ours->exception == EXC_GP && v->native.state.fx.mxcsr >> 16 == 2)
        m->skip = true;
    if (one_of(row->family_name, " fnstenv fnsave ")) {
        mask_open(m, bench, la + (in->osz == OSZ_16 ? 6 : 12), in->osz == OSZ_16 ? 8 : 16);
    } else if (one_of(row->family_name, " fxsave xsave xsaveopt xsavec ")) {
        unsigned components = strcmp(row->family_name, "fxsave") == 0 ? 7 : (unsigned)v->before.r[REG_RAX] & 7;
        mask_open(m, bench, la + 6, components & 1 ? 18 : 0);
        mask_open(m, bench, la + 28, components & 6 ? 4 : 0);
    }
}

/* Far transfers. */
static inline void mask_far(struct mask *m, const struct vector *v, const struct insn *in, const struct outcome *ours)
{
    const struct insn_row *row = vector_row(v);
    const struct outcome *host = &v->native;
    bool both = ours->exception >= 0 && host->exception >= 0, call = mask_named(row, " CALL_FAR ");
    if (!v->far)
        return;
    /* AMD: pointers in memory have no 64-bit offset [SDM2 "JMP": "REX.W + FF /5"]. */
    if (v->bits == BITS_64 && in->flags & INSN_REX_W && in->flags & INSN_MEM)
        m->skip = true;
    /* [SDM1 "General-Purpose Registers in 64-Bit Mode"]: from 64-bit to 32-bit code upper halves are undefined. */
    m->halves = v->bits == BITS_64 && host->state.selector[SEG_CS] != 0x33;
    /* In which order the parts of a frame are read: what is found first where several are at fault. */
    if (both && ours->exception == EXC_PF && host->exception == EXC_PF && ours->address - host->address + 64 < 128)
        m->address = m->error = true;
    /* AMD: a call writes the stack before it looks at its target. */
    if (call && both)
        m->memory = true;
    bool stack_fault = host->exception == EXC_PF || host->exception == EXC_AC || host->exception == EXC_SS;
    if (call && both && stack_fault)
        m->skip = true;
    /* AMD: a call between 64-bit and other code writes to the stack as its target would: without base and with all of RSP, or with ESP. */
    u16 target = ours->exception < 0 ? ours->state.selector[SEG_CS] : host->state.selector[SEG_CS];
    bool crosses = (v->bits == BITS_64) != (target == 0x33);
    if (call && crosses && ((ours->exception < 0) != (host->exception < 0) || v->small_stack))
        m->skip = true;
    /* AMD: before a return finds that it cannot go to an inner ring, it has read the stack pointer behind the frame. */
    if (mask_named(row, " RET_FAR IRET ") && ours->exception == EXC_GP && stack_fault)
        m->skip = true;
    /* [SDM2 "RET", "IRET"]: a 16-bit stack pointer is SP; AMD's far returns carry into what lies above. */
    if (v->small_stack && !call && (u16)(host->state.r[REG_RSP] ^ ours->state.r[REG_RSP]) == 0)
        m->registers |= 1u << REG_RSP;
}

/* Exceptions by which an access to memory fails. */
static inline bool mask_operand_fault(i32 exception)
{
    return exception == EXC_GP || exception == EXC_SS || exception == EXC_PF || exception == EXC_AC;
}

/* Linux shows user programs page faults at kernel addresses as protection violations. */
static inline bool mask_hidden_error(const struct vector *v, const struct outcome *ours)
{
    return ours->exception == EXC_PF && v->native.exception == EXC_PF && ours->address >= 0x7ffffffff000;
}

static inline struct mask mask_for(const struct bench *bench, const struct vector *v, const struct insn *in, const struct outcome *ours)
{
    const struct insn_row *row = vector_row(v);
    struct mask m;
    memset(&m, 0, sizeof m);   /* padding too: a mask of nothing is compared as bytes */
    unsigned bits = 8u << in->osz;
    mask_image(&m, bench, v, in, ours);
    mask_far(&m, v, in, ours);

    /* A misaligned vector beyond SS's limit: both are faults of the operand, and AMD's processors look at its alignment first. */
    u64 boundary = row->vector != VECTOR_LEGACY && in->osz == 1 ? 31 : 15;
    if (in->flags & INSN_MEM && in->arch_seg == SEG_SS && vector_operand(bench, v, in) & boundary && ours->exception == EXC_SS &&
        v->native.exception == EXC_GP)
        m.skip = true;
    /* [SDM3 "Priority Among Concurrent Events"]: what is wrong with an operand is one class of faults, and which is reported where there
     * are several is the implementation's choice. AMD's processors access wide operands by parts: the first is misaligned, the last
     * beyond the limit. */
    if (mask_operand_fault(ours->exception) && mask_operand_fault(v->native.exception) && ours->exception != v->native.exception &&
        (ours->exception == EXC_AC || v->native.exception == EXC_AC))
        m.skip = true;
    /* Blocks: their rows need no other mask, and flags that are undefined are not read in them. */
    if (v->block > 1) {
        m.flags = v->native.exception < 0 ? v->undefined : v->undefined_inside;
        m.error |= mask_hidden_error(v, ours);
        return m;
    }

    /* Undefined by the row's own words; a fault leaves nothing undefined. */
    const char *undefined = strstr(row->flags, "u:");
    if (undefined && v->native.exception < 0)
        m.flags |= mask_of_letters(undefined + 2);

    /* [SDM2 "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR"]: a count of 0 changes no flag; OF is defined for a count of 1 only;
     * CF is undefined when SHL or SHR shift by the operand's size or more. */
    if (mask_named(row, " ROL ROR RCL RCR SHL SHR SAR SHLD SHRD ")) {
        bool by_cl = strstr(row->operands, "CL"), by_1 = strstr(row->operands, "r:1");
        unsigned count = (unsigned)(by_1 ? 1 : by_cl ? v->before.r[REG_RCX] : in->imm) & (in->osz == OSZ_64 ? 63 : 31);
        if (count == 0)
            m.flags = 0;
        else if (count > 1)
            m.flags |= FL_OF;
        if (mask_named(row, " SHL SHR ") && count >= bits)
            m.flags |= FL_CF;
        /* [SDM2 "SHLD", "SHRD"]: with a count above the operand size (16 bits only) everything is undefined. */
        if (mask_named(row, " SHLD SHRD ") && count > bits)
            m.skip = true;
    }
    /* AMD: the offset of a string operand in FS or GS has to be canonical by itself; Intel asks that of the linear address
     * [SDM1 "Canonical Addressing"]. */
    if (v->bits == BITS_64 && mask_named(row, " LODS MOVS CMPS OUTS ") && in->arch_seg >= SEG_FS && ours->exception == EXC_PF &&
        v->native.exception == EXC_GP && (v->before.r[REG_RSI] + (1ull << 47)) >> 48)
        m.skip = true;
    /* [SDM2 "BSWAP"]: 16 bits are undefined; Intel gives 0, AMD the value with its bytes swapped or kept. */
    if (mask_named(row, " BSWAP ") && in->osz == OSZ_16)
        m.skip = true;
    /* AMD: with 66, near branches of 64-bit code have 16-bit operands; Intel ignores the prefix. */
    if (v->bits == BITS_64 && in->flags & INSN_OPSIZE && row->attr & ROW_F64 &&
        (row->imm == IMM_JB || row->imm == IMM_JZ || mask_named(row, " JMP CALL RET ")))
        m.skip = true;
    /* AMD: a near call writes the stack before it looks at its target; [SDM2 "CALL"] has it the other way. */
    if (mask_named(row, " CALL ") && ours->exception == EXC_GP && v->native.exception >= 0 &&
        v->native.exception != EXC_GP)
        m.skip = true;
    /* REP with a 32-bit count of 0 in 64-bit code: Intel clears the upper halves of RCX and of some pointers. */
    if (row->attr & ROW_REPS && in->flags & (INSN_REP | INSN_REPNE) && v->bits == BITS_64 && in->asz == 2 &&
        !(u32)v->before.r[REG_RCX])
        m.registers |= 1 << REG_RCX | 1 << REG_RSI | 1 << REG_RDI;
    /* REP is reserved before anything but string instructions: AMD's LOOPE takes F2 as LOOPNE and the other way round.
     */
    if (mask_named(row, " LOOPE LOOPNE ") && in->flags & (INSN_REP | INSN_REPNE))
        m.skip = true;
    /* AMD: the register form of 0F 0D is undefined; Intel's processors have a NOP there. */
    if (mask_named(row, " PREFETCHW ") && !(in->flags & INSN_MEM))
        m.skip = true;
    /* AMD: LOCK MOV CR0 is MOV CR8. */
    if (row->attr & ROW_IGNMOD && in->flags & INSN_LOCK)
        m.skip = true;
    /* [SDM2 "MASKMOVDQU"]: whether bytes that are not stored fault, and which of them a fault names, is the
     * implementation's choice. AMD's MASKMOVQ has switched to MMX before it faults. */
    if (mask_named(row, " MASKMOVQ MASKMOVDQU VMASKMOVDQU ") && v->native.exception >= 0)
        m.skip = true;
    /* [SDM2 "REP/REPE/REPZ/REPNE/REPNZ"]: a count of 0 runs no iteration; AMD checks the I/O permission before it looks
     * at the count. */
    if (mask_named(row, " INS OUTS ") && in->flags & (INSN_REP | INSN_REPNE) &&
        !(v->before.r[REG_RCX] & mask_low(8u << in->asz)))
        m.skip = true;
    /* A fault in the middle of PUSHA or POPA, also where a 16-bit stack wraps around: AMD has done the part before it. */
    if (mask_named(row, " PUSHA POPA ") && (ours->exception == EXC_PF || ours->exception == EXC_SS) &&
        v->native.exception == ours->exception) {
        m.memory = true;
        m.registers = 0xff & ~(1u << REG_RSP);
    }
    /* [SDM3 "Limit Checking"]: an operand that wraps around the end of a 4-GByte segment may or may not fault. */
    if (v->bits != BITS_64 && ours->exception == EXC_PF && (u32)ours->address > 0xfffffff0 &&
        (v->native.exception == EXC_GP || v->native.exception == EXC_SS))
        m.skip = true;
    /* Ten bytes over 64 KiB of a 16-bit address: beyond the limit [SDM3 "Limit Checking"]; AMD's processors go on at 0 with the second
     * part. */
    if (v->bits != BITS_64 && in->asz == 1 && one_of(row->family_name, " fld_m80 fstp_m80 fbld fbstp ") && v->native.exception < 0 &&
        (ours->exception == EXC_GP || ours->exception == EXC_SS))
        m.skip = true;
    /* [SDM2 "FCOMI/FCOMIP/FUCOMI/FUCOMIP"]: C1 is cleared; AMD keeps it. */
    if (mask_named(row, " FCOMI FCOMIP FUCOMI FUCOMIP "))
        m.fsw |= 1 << 9;
    /* Transcendental functions: neither vendor promises the last bit, nor, with it, C1, and whether a tiny result that
     * happens to be exact underflows; nor anything outside of the functions' domains. */
    if (mask_named(row, " F2XM1 FYL2X FYL2XP1 FPTAN FPATAN FSIN FCOS FSINCOS ")) {
        unsigned exponent = v->before.fx.st[0].exponent & 0x7fff;
        m.fsw |= 1 << 9 | 1 << 4;
        m.ulps = 1;
        if ((mask_named(row, " F2XM1 ") && exponent >= 0x3fff) || (mask_named(row, " FYL2XP1 ") && exponent >= 0x3ffd))
            m.skip = true;
    }
    /* [SDM3 "Alignment Check Exception (#AC)"]: whether unaligned 128-bit operands and masked stores raise it is the
     * implementation's choice. */
    bool unaligned = v->before.rflags & FL_AC;
    if (unaligned && v->native.exception == EXC_AC && in->flags & INSN_MEM && ours->exception != EXC_AC &&
        (mask_named(row, " MOVUPS MOVUPD MOVDQU LDDQU PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM ") || mask_wide_vector(row)))
        m.skip = true;
    if (unaligned && ours->exception == EXC_AC && mask_named(row, " MASKMOVQ MASKMOVDQU VMASKMOVDQU "))
        m.skip = true;
    /* [SDM2 "VMASKMOV", "VPMASKMOV"]: no combination of mask bits raises it; AMD's do with all of them set. */
    if (unaligned && v->native.exception == EXC_AC && mask_named(row, " VMASKMOVPS VMASKMOVPD VPMASKMOVD VPMASKMOVQ "))
        m.skip = true;
    /* [SDM2 "RCPPS", "RSQRTPS"]: the relative error is at most 1.5 * 2^-12, of both: twice that between them, where an ulp
     * is 2^-23 to 2^-24 of the number. */
    if (mask_named(row, " RCPPS RCPSS RSQRTPS RSQRTSS VRCPPS VRCPSS VRSQRTPS VRSQRTSS "))
        m.lane_ulps = 3 << 12;
    /* [SDM2 "LOCK"]: #UD before anything it does not name; AMD's VERW takes it. */
    if (mask_named(row, " VERW ") && in->flags & INSN_LOCK)
        m.skip = true;
    /* POP of a segment register reads two bytes [SDM2 "POP"]; AMD's processors check the alignment of the whole operand. */
    if (unaligned && v->native.exception == EXC_AC && row->attr & ROW_END && mask_named(row, " POP "))
        m.skip = true;
    /* [SDM2 "VPINSRQ", "VPEXTRQ"]: outside 64-bit code VEX.W is ignored; AMD's raise #UD. */
    if (v->bits != BITS_64 && in->flags & INSN_REX_W && v->native.exception == EXC_UD && mask_named(row, " VPINSRD VPEXTRD "))
        m.skip = true;
    /* [SDM2 "VGATHERDPS/VGATHERQPS"]: after a fault, whether elements behind the faulting one were gathered, and how the mask's
     * elements look that are still set, is the implementation's choice. */
    if (row->attr & ROW_VSIB && ours->exception >= 0)
        m.vectors = 1u << in->reg | 1u << in->vvvv;
    /* MXCSR bit 17 is AMD's (MM). */
    if (mask_named(row, " LDMXCSR VLDMXCSR ") && ours->exception == EXC_GP && v->native.state.fx.mxcsr >> 16 == 2)
        m.skip = true;
    /* SSE4A, which only AMD has: EXTRQ, INSERTQ, MOVNTSS, MOVNTSD. */
    if (v->row == NO_ROW &&
        (mask_contains(v, 0x0f, 0x2b) || mask_contains(v, 0x0f, 0x78) || mask_contains(v, 0x0f, 0x79)))
        m.skip = true;
    /* Extensions that the host has and cpu/insn.def has no rows for. */
    if (v->row == NO_ROW && (mask_contains(v, 0x0f, 0x38) || mask_contains(v, 0x0f, 0x3a)))
        m.skip = true;
    /* UD0 and UD1 have operands [SDM2 "UD"], which may make them too long; AMD stops at the opcode. */
    bool no_operands = mask_named(row, " UD0 UD1 ") ||
                     (v->row == NO_ROW && (mask_contains(v, 0x0f, 0xff) || mask_contains(v, 0x0f, 0xb9)));
    if (no_operands && ours->exception == EXC_GP && v->native.exception == EXC_UD)
        m.skip = true;
    /* Among random bytes: FRSTOR and its kind over a limit and on a missing page as well; AMD meets the page first. */
    if (v->row == NO_ROW && ours->exception == EXC_GP && v->native.exception == EXC_PF)
        m.skip = true;
    /* A selector from memory that the vector did not fill may name what Linux keeps in its GDT (the CPU's number and the like). */
    if (mask_named(row, " LAR LSL VERR VERW ") && in->flags & INSN_MEM && ours->exception < 0 && v->native.exception < 0 &&
        v->native.state.rflags & FL_ZF && !(ours->state.rflags & FL_ZF))
        m.skip = true;
    for (unsigned s = SEG_ES; v->bits != BITS_64 && ours->exception == EXC_GP && v->native.exception < 0 && s <= SEG_GS; s++)
        if ((v->native.state.selector[s] & 0xfffc) == LINUX_CPU_NODE)
            m.skip = true;
    /* POPF found TF set in memory that the vector does not fill: natively the way out was trapped. */
    if (mask_named(row, " POPF ") && v->native.exception == EXC_DB)
        m.skip = true;
    /* How long no_operands instructions are, and so whether they are too long. */
    if (v->row == NO_ROW && v->native.exception == EXC_GP && v->length > 5)
        m.skip = true;
    /* AMD's own instructions below 0F 01: SVM's, CLZERO … */
    if (v->row == NO_ROW && mask_contains(v, 0x0f, 0x01))
        m.skip = true;
    /* Bit offsets that reach far: AMD's processors check an address of their own on the way. */
    if (mask_named(row, " BT BTS BTR BTC ") && v->bits == BITS_64 && ours->exception == EXC_PF &&
        v->native.exception == EXC_GP && ours->address >> 47)
        m.skip = true;
    /* [SDM2 "Exceptions Type 4 (>=16 Byte Mem Arg, No Alignment, No Floating-point Exceptions)"]: without VEX, a
     * misaligned operand is #GP(0); AMD's SHA instructions take it as it lies. */
    if (strncmp(row->name, "SHA1", 4) == 0 || strncmp(row->name, "SHA256", 6) == 0)
        m.skip |= in->flags & INSN_MEM && ours->exception == EXC_GP && v->native.exception != EXC_GP;
    /* CMPS and MOVS: which operand faults first, when both do, is the CPU's choice. */
    if (mask_named(row, " CMPS MOVS ") && ours->exception >= 0 && v->native.exception >= 0 &&
        (ours->exception != v->native.exception || ours->address != v->native.address))
        m.skip = true;
    m.error |= mask_hidden_error(v, ours);
    return m;
}

#endif
