/* Segment checks and the slower operand accesses. [SDM3 "Limit Checking", "Type Checking", "Segmentation in IA-32e Mode"] */
#include "cpu/operand.h"

#include "cpu/mode.h"

static bool segment_fault(struct cpu *cpu, unsigned seg)
{
    cpu->fault = (struct mem_fault){.kind = FAULT_GP0, .stack_segment = seg == SEG_SS};
    return false;
}

bool seg_la(struct cpu *cpu, unsigned seg, u64 off, unsigned n, unsigned access, u64 *la)
{
    const struct segment *s = &cpu->seg.s[seg];
    if (cpu->mode.code_bits == BITS_64) {
        *la = off + (seg == SEG_FS || seg == SEG_GS ? s->base : 0);
        cpu->fault.stack_segment = seg == SEG_SS;
        return true;
    }
    u32 access_rights = s->access;
    if (cpu->mode.protected_mode) {
        if (access_rights & AR_UNUSABLE)
            return segment_fault(cpu, seg);
        if (access_rights & AR_CODE) {
            if (access & ACCESS_WRITE || !(access_rights & AR_READABLE))
                return segment_fault(cpu, seg);
        } else if (access & ACCESS_WRITE && !(access_rights & AR_WRITABLE)) {
            return segment_fault(cpu, seg);
        }
    }
    u32 first = (u32)off, last = first + n - 1;
    if ((access_rights & (AR_CODE | AR_EXPAND_DOWN)) == AR_EXPAND_DOWN) {
        u32 top = access_rights & AR_DB ? 0xffffffffu : 0xffffu;
        if (first <= s->limit || last < first || last > top)
            return segment_fault(cpu, seg);
    } else if (last > s->limit || (last < first && s->limit != 0xffffffffu)) {
        return segment_fault(cpu, seg);
    }
    *la = (u32)(s->base + first);
    return true;
}

bool rm_get(struct cpu *cpu, const struct insn *in, unsigned osz, u64 *v)
{
    if (!(in->flags & INSN_MEM)) {
        *v = reg_get(cpu, in->rm, osz);
        return true;
    }
    *v = 0;
    return rm_read_bytes(cpu, in, v, 1u << osz);
}

bool rm_set(struct cpu *cpu, const struct insn *in, unsigned osz, u64 v)
{
    if (!(in->flags & INSN_MEM)) {
        reg_set(cpu, in->rm, osz, v);
        return true;
    }
    return rm_write_bytes(cpu, in, &v, 1u << osz);
}

bool rm_read_bytes(struct cpu *cpu, const struct insn *in, void *data, unsigned n)
{
    u64 la;
    return ea_la(cpu, in, n, ACCESS_READ, &la) && mem_read(cpu, la, data, n);
}

bool rm_read_pointer(struct cpu *cpu, const struct insn *in, u64 *offset, u16 *selector)
{
    u64 la;
    unsigned n = 1u << in->osz;
    *offset = 0;
    if (!ea_la(cpu, in, n + 2, ACCESS_READ, &la) || !mem_read(cpu, la, offset, n))
        return false;
    la = in->flags & INSN_64 ? la + n : (u32)(la + n);
    return mem_read(cpu, la, selector, 2);
}

bool rm_write_bytes(struct cpu *cpu, const struct insn *in, const void *data, unsigned n)
{
    u64 la;
    return ea_la(cpu, in, n, ACCESS_WRITE, &la) && mem_write(cpu, la, data, n);
}

bool stack_read(struct cpu *cpu, u64 sp, unsigned osz, u64 *v)
{
    u64 la;
    *v = 0;
    return seg_la(cpu, SEG_SS, sp & stack_mask(cpu), 1u << osz, ACCESS_READ, &la) && mem_read(cpu, la, v, 1u << osz);
}

bool stack_write(struct cpu *cpu, u64 sp, unsigned osz, u64 v)
{
    u64 la;
    return seg_la(cpu, SEG_SS, sp & stack_mask(cpu), 1u << osz, ACCESS_WRITE, &la) && mem_write(cpu, la, &v, 1u << osz);
}

bool branch_target_ok(struct cpu *cpu, u64 target)
{
    bool ok = cpu->mode.code_bits == BITS_64 ? cpu_canonical(cpu, target) : target <= cpu->seg.s[SEG_CS].limit;
    if (!ok)
        cpu->fault = (struct mem_fault){.kind = FAULT_GP0};
    return ok;
}
