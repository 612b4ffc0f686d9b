/* See bus_lock.h. What the processor locks by itself (accessed bits of descriptors, busy TSSs, page tables) is not looked at. */
#include "cpu/bus_lock.h"

#include "cpu/event.h"
#include "cpu/operand.h"
#include "cpu/table.h"
#include "vmx/vmx.h"

#define LINE 64u

static insn_handler *plain_handler(const struct insn *in)
{
    return (*insn_rows[in->row].family)[4 + in->osz];
}

static bool is_xchg(const struct insn_row *row) { return row->map == 0 && (row->opcode | 1) == 0x87; }

insn_handler *bus_lock_handler(const struct insn *in)
{
    if (in->row >= insn_row_count || !(in->flags & INSN_MEM))
        return in->handler;
    const struct insn_row *row = &insn_rows[in->row];
    bool locks = row->attr & ROW_LOCK && (in->flags & INSN_LOCK || is_xchg(row));
    return locks && in->handler == plain_handler(in) ? bus_lock_watched : in->handler;
}

/* BTS, BTR and BTC with the bit offset in a register. */
static bool is_bit_string(const struct insn_row *row)
{
    return row->map == 1 && (row->opcode == 0xab || row->opcode == 0xb3 || row->opcode == 0xbb);
}

/* Bytes of the locked operand. */
static unsigned operand_bytes(const struct insn *in, const struct insn_row *row)
{
    if (row->operand[0].letter == 'M')
        return row->operand[0].size[0] == 'd' ? 16 : 8;    /* CMPXCHG16B "Mdq", CMPXCHG8B "Mq" */
    return 1u << in->osz;
}

/* The instruction has locked the bus, and everything it does is done. */
static void bus_lock_happened(struct cpu *cpu)
{
    if (cpu->mode.locks & LOCKS_DEBUG) {
        cpu_pend_debug(cpu, DR6_BLD);
        cpu_cut_block(cpu);
    }
    if (cpu->mode.locks & LOCKS_VMM) {
        vmx_note_bus_lock(cpu);
        cpu_cut_block(cpu);
    }
}

enum flow bus_lock_watched(struct cpu *cpu, const struct insn *in)
{
    const struct insn_row *row = &insn_rows[in->row];
    unsigned n = operand_bytes(in, row);
    u64 la, hpa;
    bool reached = is_bit_string(row) ? bit_string_la(cpu, in, ACCESS_WRITE, &la) : ea_la(cpu, in, n, ACCESS_WRITE, &la);
    bool split = reached && (la & (LINE - 1)) + n > LINE && n < 16;    /* CMPXCHG16B would be #GP(0) */
    if (split && cpu->mode.locks & LOCKS_SPLIT_FAULT && mem_peek_translate(cpu, la, &hpa))
        return cpu_raise_error(cpu, EXC_AC, 0);
    bool lock = split || (reached && cpu->mode.locks & (LOCKS_DEBUG | LOCKS_VMM) && !mem_write_back(cpu, la, n));
    cpu->fault.stack_segment = 0;
    enum flow flow = plain_handler(in)(cpu, in);
    if (lock && (flow == FLOW_NEXT || flow == FLOW_END))
        bus_lock_happened(cpu);
    return flow;
}
