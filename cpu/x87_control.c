/* x87 control: initialisation, control and status words, the environment and the whole state in memory, WAIT; and what
 * every x87 instruction does first: #NM, and the exception that an earlier one left pending.
 *
 * Kept true: ES and B of the status word always summarise its flags and the control word's masks; instructions of this
 * file change no instruction or operand pointer except those that load or clear them all. FNSTENV and FNSAVE probe all
 * of their area before they write.
 * [SDM1 "x87 FPU Control Instructions", SDM1 "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE"]
 */
#include "cpu/mode.h"
#include "cpu/x87.h"

enum flow x87_not_available(struct cpu *cpu) { return cpu_raise_nm(cpu); }

enum flow mmx_not_available(struct cpu *cpu)
{
    return cpu->sys.cr0 & CR0_EM ? cpu_raise_ud(cpu) : cpu_raise_nm(cpu);
}

enum flow x87_error(struct cpu *cpu)
{
    if (cpu->sys.cr0 & CR0_NE)
        return cpu_raise(cpu, EXC_MF);
    if (cpu->event.ignne)
        return FLOW_NEXT;
    /* The processor stops before this instruction until an interrupt comes: it is tried again and again, at the
     * price of time. */
    if (cpu->board && cpu->board->ferr)
        cpu->board->ferr(cpu->board_arg, cpu);
    return FLOW_END;
}

/* ---- control, status --------------------------------------------------------------------------------------------- */

static void x87_init(struct cpu *cpu)
{
    struct cpu_fpu *fpu = &cpu->fpu;
    fpu->fcw = FCW_INIT;
    fpu->fsw = 0;
    cpu->event.ignne = 0;
    fpu->ftw_full = 0xffff;
    fpu->fop = fpu->fcs = fpu->fds = 0;
    fpu->fip = fpu->fdp = 0;
}

static enum flow fninit(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    X87_GATE_NOWAIT();
    x87_init(cpu);
    return FLOW_NEXT;
}
FAMILY_ONE(fninit, fninit)

static enum flow fnclex(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    X87_GATE_NOWAIT();
    cpu->fpu.fsw &= (u16) ~(FSW_EXCEPTIONS | FSW_SF | FSW_ES | FSW_B);
    cpu->event.ignne = 0;
    return FLOW_NEXT;
}
FAMILY_ONE(fnclex, fnclex)

static void set_control(struct cpu *cpu, u16 value)
{
    cpu->fpu.fcw = (value & FCW_WRITABLE) | FCW_FIXED;
    x87_update_summary(cpu);
}

static enum flow fldcw(struct cpu *cpu, const struct insn *in)
{
    u16 v;
    X87_GATE();
    TRY(rm_read16(cpu, in, &v));
    set_control(cpu, v);
    return FLOW_NEXT;
}
FAMILY_ONE(fldcw, fldcw)

static enum flow fnstcw(struct cpu *cpu, const struct insn *in)
{
    X87_GATE_NOWAIT();
    TRY(rm_write16(cpu, in, cpu->fpu.fcw));
    return FLOW_NEXT;
}
FAMILY_ONE(fnstcw, fnstcw)

static enum flow fnstsw(struct cpu *cpu, const struct insn *in)
{
    X87_GATE_NOWAIT();
    TRY(rm_write16(cpu, in, cpu->fpu.fsw));
    return FLOW_NEXT;
}
FAMILY_ONE(fnstsw, fnstsw)

static enum flow fnstsw_ax(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    X87_GATE_NOWAIT();
    reg16_set(cpu, REG_RAX, cpu->fpu.fsw);
    return FLOW_NEXT;
}
FAMILY_ONE(fnstsw_ax, fnstsw_ax)

/* FENI, FDISI, FSETPM of the 8087 and 287: no operation since. */
static enum flow x87_nothing(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    X87_GATE_NOWAIT();
    return FLOW_NEXT;
}
FAMILY_ONE(x87_nothing, x87_nothing)

static enum flow fwait(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if ((cpu->sys.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        return cpu_raise_nm(cpu);
    if (cpu->fpu.fsw & FSW_ES)
        return x87_error(cpu);
    return FLOW_NEXT;
}
FAMILY_ONE(fwait, fwait)

/* ---- the environment --------------------------------------------------------------------------------------------- */

#define IMAGE_MAX 108          /* bytes: 28 of environment, 80 of registers */

/* 14 bytes with 16-bit operands, else 28. */
static unsigned environment_size(const struct insn *in) { return in->osz == OSZ_16 ? 14 : 28; }
/* The real-mode formats hold linear instruction and operand addresses and the opcode. */
static bool real_format(const struct cpu *cpu) { return !cpu->mode.protected_mode; }

static u16 full_tags(const struct cpu *cpu)
{
    u16 tags = 0;
    for (unsigned n = 0; n < 8; n++) {
        unsigned tag = cpu->fpu.ftw_full >> (2 * n) & 3;
        if (tag != 3)
            tag = x87_tag(cpu->fpu.st[n].mantissa, cpu->fpu.st[n].exponent);
        tags |= (u16)(tag << (2 * n));
    }
    return tags;
}

static void environment_image(const struct cpu *cpu, const struct insn *in, u8 *image)
{
    const struct cpu_fpu *fpu = &cpu->fpu;
    u16 tags = full_tags(cpu);
    if (in->osz == OSZ_16) {
        store16(image, fpu->fcw);
        store16(image + 2, fpu->fsw);
        store16(image + 4, tags);
        if (real_format(cpu)) {
            u32 ip = (u32)(fpu->fip + ((u32)fpu->fcs << 4)), dp = (u32)(fpu->fdp + ((u32)fpu->fds << 4));
            store16(image + 6, (u16)ip);
            store16(image + 8, (u16)((ip >> 4 & 0xf000) | (fpu->fop & 0x7ff)));
            store16(image + 10, (u16)dp);
            store16(image + 12, (u16)(dp >> 4 & 0xf000));
        } else {
            store16(image + 6, (u16)fpu->fip);
            store16(image + 8, fpu->fcs);
            store16(image + 10, (u16)fpu->fdp);
            store16(image + 12, fpu->fds);
        }
        return;
    }
    store32(image, 0xffff0000u | fpu->fcw);
    store32(image + 4, 0xffff0000u | fpu->fsw);
    store32(image + 8, 0xffff0000u | tags);
    if (real_format(cpu)) {
        u32 ip = (u32)(fpu->fip + ((u32)fpu->fcs << 4)), dp = (u32)(fpu->fdp + ((u32)fpu->fds << 4));
        store32(image + 12, 0xffff0000u | (ip & 0xffff));
        store32(image + 16, (ip >> 4 & 0x0ffff000) | (fpu->fop & 0x7ff));
        store32(image + 20, 0xffff0000u | (dp & 0xffff));
        store32(image + 24, dp >> 4 & 0x0ffff000);
    } else {
        store32(image + 12, (u32)fpu->fip);
        store32(image + 16, fpu->fcs | (u32)(fpu->fop & 0x7ff) << 16);
        store32(image + 20, (u32)fpu->fdp);
        store32(image + 24, 0xffff0000u | fpu->fds);
    }
}

static void environment_load(struct cpu *cpu, const struct insn *in, const u8 *image)
{
    struct cpu_fpu *fpu = &cpu->fpu;
    if (in->osz == OSZ_16) {
        fpu->fsw = load16(image + 2);
        fpu->ftw_full = load16(image + 4);
        if (real_format(cpu)) {
            fpu->fip = load16(image + 6) | (u32)(load16(image + 8) & 0xf000) << 4;
            fpu->fop = load16(image + 8) & 0x7ff;
            fpu->fdp = load16(image + 10) | (u32)(load16(image + 12) & 0xf000) << 4;
            fpu->fcs = fpu->fds = 0;
        } else {
            fpu->fip = load16(image + 6);
            fpu->fcs = load16(image + 8);
            fpu->fdp = load16(image + 10);
            fpu->fds = load16(image + 12);
        }
    } else {
        fpu->fsw = load16(image + 4);
        fpu->ftw_full = load16(image + 8);
        if (real_format(cpu)) {
            fpu->fip = load16(image + 12) | (load32(image + 16) & 0x0ffff000) << 4;
            fpu->fop = load16(image + 16) & 0x7ff;
            fpu->fdp = load16(image + 20) | (load32(image + 24) & 0x0ffff000) << 4;
            fpu->fcs = fpu->fds = 0;
        } else {
            fpu->fip = load32(image + 12);
            fpu->fcs = load16(image + 16);
            fpu->fop = load16(image + 18) & 0x7ff;
            fpu->fdp = load32(image + 20);
            fpu->fds = load16(image + 24);
        }
    }
    if (cpu_has(cpu, FEATURE_ZERO_FCS_FDS))
        fpu->fcs = fpu->fds = 0;
    set_control(cpu, load16(image));
}

/* The linear address of an image of n bytes, which lies on a boundary of 2 bytes with 16-bit operands, else of 4
 * [SDM3 "Alignment Requirements by Data Type"]: its first word or doubleword is probed. */
static bool image_la(struct cpu *cpu, const struct insn *in, unsigned n, unsigned access, u64 *la)
{
    return ea_la(cpu, in, n, access, la) && mem_probe(cpu, *la, in->osz == OSZ_16 ? 2 : 4, access);
}
static bool image_read(struct cpu *cpu, const struct insn *in, u8 *image, unsigned n)
{
    u64 la;
    return image_la(cpu, in, n, ACCESS_READ, &la) && mem_read(cpu, la, image, n);
}
static bool image_write(struct cpu *cpu, const struct insn *in, const u8 *image, unsigned n)
{
    u64 la;
    return image_la(cpu, in, n, ACCESS_WRITE, &la) && mem_write(cpu, la, image, n);
}

static enum flow fnstenv(struct cpu *cpu, const struct insn *in)
{
    u8 image[28];
    X87_GATE_NOWAIT();
    environment_image(cpu, in, image);
    TRY(image_write(cpu, in, image, environment_size(in)));
    cpu->fpu.fcw |= FCW_MASKS;
    x87_update_summary(cpu);
    return FLOW_NEXT;
}
FAMILY_ONE(fnstenv, fnstenv)

static enum flow fldenv(struct cpu *cpu, const struct insn *in)
{
    u8 image[28];
    X87_GATE();
    TRY(image_read(cpu, in, image, environment_size(in)));
    environment_load(cpu, in, image);
    return FLOW_NEXT;
}
FAMILY_ONE(fldenv, fldenv)

static enum flow fnsave(struct cpu *cpu, const struct insn *in)
{
    u8 image[IMAGE_MAX];
    unsigned n = environment_size(in);
    X87_GATE_NOWAIT();
    environment_image(cpu, in, image);
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = x87_physical(cpu, i);
        store64(image + n + 10 * i, cpu->fpu.st[r].mantissa);
        store16(image + n + 10 * i + 8, cpu->fpu.st[r].exponent);
    }
    TRY(image_write(cpu, in, image, n + 80));
    x87_init(cpu);
    return FLOW_NEXT;
}
FAMILY_ONE(fnsave, fnsave)

static enum flow frstor(struct cpu *cpu, const struct insn *in)
{
    u8 image[IMAGE_MAX];
    unsigned n = environment_size(in);
    X87_GATE();
    TRY(image_read(cpu, in, image, n + 80));
    environment_load(cpu, in, image);
    for (unsigned i = 0; i < 8; i++) {
        unsigned r = x87_physical(cpu, i);
        cpu->fpu.st[r].mantissa = load64(image + n + 10 * i);
        cpu->fpu.st[r].exponent = load16(image + n + 10 * i + 8);
    }
    return FLOW_NEXT;
}
FAMILY_ONE(frstor, frstor)
