/* IN, OUT, INS and OUTS: permission by IOPL and the TSS's bitmap, the I/O VM exit, I/O breakpoints, and the accesses
 * themselves.
 *
 * Every port access ends the block: a device may have moved time-dependent state, raised a line or stopped the
 * machine. A repeated string instruction commits each iteration; after IO_ITERATIONS of them, or as soon as something
 * asks for attention, it leaves rip where it is, so that events come in between and the instruction goes on
 * afterwards.
 *
 * Follows [SDM1 "I/O Permission Bit Map"], [SDM3 "Exit Qualification for I/O Instructions"], [SDM3 "Debug Registers"].
 */
#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/operand.h"
#include "cpu/smm.h"
#include "cpu/trace.h"
#include "mmu/bus.h"
#include "vmx/vmx.h"

#define IO_ITERATIONS 4096

/* Bits of the exit qualification. */
enum { IO_OUT = 0, IO_IN = 1 << 3, IO_STRING = 1 << 4, IO_REP = 1 << 5, IO_IMMEDIATE = 1 << 6 };

/* Bytes a port access moves. */
static unsigned io_size(const struct insn *in) { return in->osz == OSZ_8 ? 1 : in->osz == OSZ_16 ? 2 : 4; }

/* True when the I/O permission bitmap must be asked. */
static bool bitmap_applies(const struct cpu *cpu)
{
    if (cpu->mode.real)
        return false;
    return cpu->mode.v8086 || cpu->mode.cpl > (cpu->core.rflags_rest & FL_IOPL) >> 12;
}

/* FLOW_NEXT: the ports may be used. The bitmap is read as two bytes, whatever the size [SDM1 "I/O Permission Bit
 * Map"]. */
static enum flow check_bitmap(struct cpu *cpu, u16 port, unsigned size)
{
    const struct segment *tr = &cpu->seg.s[SEG_TR];
    unsigned type = tr->access & AR_TYPE;
    u8 image[2];

    if (tr->access & AR_UNUSABLE || !(tr->access & AR_P) || (type != 9 && type != 11) || tr->limit < 103)
        return cpu_raise_gp(cpu, 0);
    TRY(mem_read_system(cpu, tr->base + 102, image, 2));
    u32 offset = load16(image) + port / 8u;
    if (offset + 1 > tr->limit)
        return cpu_raise_gp(cpu, 0);
    u64 la = tr->base + offset;
    TRY(mem_read_system(cpu, cpu->mode.long_mode ? la : (u32)la, image, 2));
    return load16(image) >> (port & 7) & mask_low(size) ? cpu_raise_gp(cpu, 0) : FLOW_NEXT;
}

/* Everything that comes before the access: permission, then the VM exit. */
static enum flow io_checks(struct cpu *cpu, const struct insn *in, u16 port, unsigned size, unsigned kind, u64 la)
{
    if (UNLIKELY(bitmap_applies(cpu))) {
        enum flow flow = check_bitmap(cpu, port, size);
        if (flow != FLOW_NEXT)
            return flow;
    }
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_IO_INSTRUCTION, .number = port, .size = size, .la = la,
                              .qualification = (size - 1) | kind | (u64)port << 16};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    return FLOW_NEXT;
}

/* I/O breakpoints (CR4.DE, DR7.R/W = 10b) trap after the access. */
static void check_breakpoints(struct cpu *cpu, u16 port, unsigned size)
{
    u64 dr7 = cpu->sys.dr7;
    if (LIKELY(!(dr7 & 0xff)) || !(cpu->sys.cr4 & CR4_DE))
        return;
    for (unsigned n = 0; n < 4; n++) {
        unsigned control = dr7 >> (16 + 4 * n) & 0xf, length = (control >> 2) + 1u;
        if (!(dr7 >> (2 * n) & 3) || (control & 3) != 2 || length == 3)
            continue;
        u64 first = cpu->sys.dr[n] & ~(u64)(length - 1);
        if (port < first + length && first < (u64)port + size) {
            cpu->event.pending_debug |= BIT(n) | BIT(12);
            cpu->event.attention |= ATT_PENDING_DB;
        }
    }
}

static void trace_io(struct cpu *cpu, const char *what, u16 port, unsigned size, u32 value)
{
    if (trace_on(cpu, TRACE_IO))
        trace_emit(cpu, TRACE_IO, what,
                   TRACE_FIELDS(trace_hex("port", port), trace_decimal("size", size), trace_hex("value", value)));
}

static u32 port_read(struct cpu *cpu, u16 port, unsigned size)
{
    u32 value = bus_port_in(cpu->bus, cpu->index, port, size);
    trace_io(cpu, "in", port, size, value);
    check_breakpoints(cpu, port, size);
    return value;
}

static void port_write(struct cpu *cpu, u16 port, unsigned size, u32 value)
{
    trace_io(cpu, "out", port, size, value);
    bus_port_out(cpu->bus, cpu->index, port, size, value);
    check_breakpoints(cpu, port, size);
}

/* The I/O state field of the SMM save map for an access; `kind` as in the exit qualification, whose bits stand one higher there. */
static u32 smm_state(u16 port, unsigned size, unsigned kind)
{
    return SMM_IO | size << SMM_IO_SIZE_SHIFT | kind << 1 | (u32)port << SMM_IO_PORT_SHIFT;
}

static void note_smi(struct cpu *cpu, u16 port, unsigned size, unsigned kind)
{
    smm_note_io(cpu, smm_state(port, size, kind), cpu->core.rip, cpu->core.rcx, cpu->core.rsi, cpu->core.rdi, 0);
}

/* ---- IN and OUT ------------------------------------------------------------------------------------------------ */

static enum flow port_in(struct cpu *cpu, const struct insn *in, u16 port, unsigned kind)
{
    unsigned size = io_size(in);
    enum flow flow = io_checks(cpu, in, port, size, kind | IO_IN, 0);
    if (flow != FLOW_NEXT)
        return flow;
    u32 value = port_read(cpu, port, size);
    note_smi(cpu, port, size, kind | IO_IN);
    if (size == 1)
        reg8_set(cpu, 0, (u8)value);
    else if (size == 2)
        reg16_set(cpu, REG_RAX, (u16)value);
    else
        reg32_set(cpu, REG_RAX, value);
    return flow_end(cpu, in);
}

static enum flow port_out(struct cpu *cpu, const struct insn *in, u16 port, unsigned kind)
{
    unsigned size = io_size(in);
    enum flow flow = io_checks(cpu, in, port, size, kind | IO_OUT, 0);
    if (flow != FLOW_NEXT)
        return flow;
    port_write(cpu, port, size, reg32(cpu, REG_RAX) & (u32)mask_low(8 * size));
    note_smi(cpu, port, size, kind | IO_OUT);
    return flow_end(cpu, in);
}

static enum flow in_imm(struct cpu *cpu, const struct insn *in)
{
    return port_in(cpu, in, in->imm & 0xff, IO_IMMEDIATE);
}
static enum flow in_dx(struct cpu *cpu, const struct insn *in) { return port_in(cpu, in, reg16(cpu, REG_RDX), 0); }
static enum flow out_imm(struct cpu *cpu, const struct insn *in)
{
    return port_out(cpu, in, in->imm & 0xff, IO_IMMEDIATE);
}
static enum flow out_dx(struct cpu *cpu, const struct insn *in) { return port_out(cpu, in, reg16(cpu, REG_RDX), 0); }
FAMILY_ONE(in_imm, in_imm)
FAMILY_ONE(in_dx, in_dx)
FAMILY_ONE(out_imm, out_imm)
FAMILY_ONE(out_dx, out_dx)

/* ---- INS and OUTS ---------------------------------------------------------------------------------------------- */

/* Adds to a register within the address size: 16-bit keeps the rest, 32-bit clears it. */
static void index_add(struct cpu *cpu, unsigned reg, unsigned asz, u64 delta)
{
    if (asz == OSZ_16)
        reg16_set(cpu, reg, (u16)(reg16(cpu, reg) + delta));
    else if (asz == OSZ_32)
        reg32_set(cpu, reg, (u32)(reg32(cpu, reg) + delta));
    else
        reg64_set(cpu, reg, reg64(cpu, reg) + delta);
}

/* The linear address of the string operand without checks, for the VM exit. */
static u64 string_la_unchecked(const struct cpu *cpu, const struct insn *in, unsigned seg, u64 offset)
{
    u64 base = in->flags & INSN_64 && seg < SEG_FS ? 0 : cpu->seg.s[seg].base;
    return in->flags & INSN_64 ? base + offset : (u32)(base + offset);
}

static enum flow string_io(struct cpu *cpu, const struct insn *in, bool input)
{
    unsigned size = io_size(in), asz = in->asz, limit = IO_ITERATIONS;
    unsigned reg = input ? REG_RDI : REG_RSI, seg = input ? SEG_ES : in->arch_seg;
    bool repeated = in->flags & (INSN_REP | INSN_REPNE);
    u64 mask = mask_low(8u << asz), step = cpu->core.rflags_rest & FL_DF ? -(u64)size : size;
    u16 port = reg16(cpu, REG_RDX);
    u32 attention = cpu->event.attention;

    if (repeated && !(cpu->core.rcx & mask))
        return flow_end(cpu, in);
    if (cpu->event.attention & (ATT_STEP | ATT_VMX | ATT_SHADOW))
        limit = 1;
    u32 answer = 0;                        /* this iteration's, when a hypervisor has carried the port access out */
    bool carried = vmx_nonroot(cpu) && vmx_carried_port(cpu, port, size, input, &answer);
    unsigned kind = IO_STRING | (input ? IO_IN : IO_OUT) | (repeated ? IO_REP : 0);
    enum flow flow = carried ? FLOW_NEXT : io_checks(cpu, in, port, size, kind, string_la_unchecked(cpu, in, seg, cpu->core.r[reg] & mask));
    if (flow != FLOW_NEXT)
        return flow;

    for (unsigned n = 0; n < limit; n++) {
        u64 la, offset = cpu->core.r[reg] & mask;
        u8 data[4];
        if (input) {
            /* The port is read only when its value can be stored. */
            TRY(seg_la(cpu, seg, offset, size, ACCESS_WRITE, &la) && mem_probe(cpu, la, size, ACCESS_WRITE));
            store32(data, carried ? answer : port_read(cpu, port, size));
            TRY(mem_write(cpu, la, data, size));
        } else {
            memset(data, 0, sizeof data);
            TRY(seg_la(cpu, seg, offset, size, ACCESS_READ, &la) && mem_read(cpu, la, data, size));
            if (!carried)
                port_write(cpu, port, size, load32(data));
        }
        smm_note_io(cpu, smm_state(port, size, kind), cpu->core.rip, cpu->core.rcx, cpu->core.rsi, cpu->core.rdi, la);
        index_add(cpu, reg, asz, step);
        if (!repeated)
            return flow_end(cpu, in);
        index_add(cpu, REG_RCX, asz, ~0ull);
        if (!(cpu->core.rcx & mask))
            return flow_end(cpu, in);
        if (cpu->event.attention & ~attention)
            break;
    }
    return FLOW_END;                       /* more to do: rip stays */
}

static enum flow ins(struct cpu *cpu, const struct insn *in) { return string_io(cpu, in, true); }
static enum flow outs(struct cpu *cpu, const struct insn *in) { return string_io(cpu, in, false); }
FAMILY_ONE(ins, ins)
FAMILY_ONE(outs, outs)
