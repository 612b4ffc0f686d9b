/* An access of the innermost guest that an outer hypervisor will emulate: what that hypervisor is shown.
 *
 * L(k+1) takes an exit for a device access (EPT fault, string I/O) of a level far above its own guest L(k+2). If it
 * emulates, it decodes an instruction at the guest's RIP, through the guest's CR3: that of L(k+2), which executes
 * something else altogether. So the stand-in for L(k+2) is put before one instruction that does just this access, with
 * registers and page tables to match: MOV between RAX and [RBX], or IN, OUT with DX and RAX. Table and instruction
 * stand on a page that L0 lends: the region of the VMCS with which L(k+2) runs its own guest, which belongs to the
 * processor while that VMCS is active [SDM3 "Format of the VMCS Region"], and of which the last bytes are unused.
 *
 * When L(k+1) enters its guest behind that instruction, the access is done: it is added to the list of carried
 * accesses, and the innermost guest's instruction runs again and takes it from there instead of making it
 * (mmu/access.c). When it enters it before, it has mended its tables and the instruction simply runs again.
 *
 * Kept true: of the stand-in's own state only RIP, CR3 and the three registers differ from L(k+2)'s, and they are put
 * back; no event comes between a carried access and the end of the instruction it belongs to.
 */
#include "vmx/frame.h"

#include "cpu/raise.h"
#include "cpu/trace.h"
#include "mmu/access.h"
#include "vmx/capability.h"

/* Of the lent page: three entries of a table that serves as its own page directory, pointer table and so on, and the
 * instruction in front of them. */
#define LENT_CODE 4032u
enum { SLOT_CODE = 509, SLOT_ACCESS = 510, SLOT_SELF = 511 };
enum { ENTRY_P = 1, ENTRY_RW = 2, ENTRY_A = 1 << 5, ENTRY_D = 1 << 6, ENTRY_PS = 1 << 7 };
_Static_assert(LENT_CODE >= VMX_REGION_USED, "the lent bytes are none of the VMCS region's");

/* The linear address of the byte `offset` in the 2 MiB page that `slot` maps: all other indexes go through the table
 * itself. */
static u64 slot_la(unsigned slot, u64 offset)
{
    return ~0ull << 30 | (u64)slot << 21 | (offset & mask_low(21));
}

static unsigned encode(const struct vmx_carried_access *a, u8 code[4])
{
    static const u8 opcode[5][2] = {[CARRY_READ] = {0x8a, 0x8b}, [CARRY_WRITE] = {0x88, 0x89}, [CARRY_IN] = {0xec, 0xed},
                                    [CARRY_OUT] = {0xee, 0xef}};
    unsigned n = 0;
    if (a->size == 2)
        code[n++] = 0x66;
    if (a->size == 8)
        code[n++] = 0x48;
    code[n++] = opcode[a->kind][a->size > 1];
    if (a->kind <= CARRY_WRITE)
        code[n++] = 0x03;                  /* (%rbx) */
    return n;
}

bool vmx_standin_ask(struct cpu *cpu, unsigned k, struct vmx_exit_info *x)
{
    struct vmx_unit *u = &cpu->vmx.frame[k].unit;
    const struct vmx_frame *next = &cpu->vmx.frame[k + 1];
    struct vmx_carried_access *a = &u->asked;
    u8 code[4];
    u64 table[3];

    if (!(cpu->sys.efer & EFER_LMA) || !(cpu->seg.s[SEG_CS].access & AR_L) || u->carried.count == VMX_CARRIED ||
        bus_ram_offset(cpu->bus, next->vmcs_hpa) == BUS_NO_RAM)
        return false;                      /* a 32-bit hypervisor is shown as it is */
    *a = x->access;
    u->asked_length = encode(a, code);
    u64 map = ENTRY_P | ENTRY_RW | ENTRY_A, large = map | ENTRY_D | ENTRY_PS;
    table[0] = (next->vmcs_ptr & ~mask_low(21)) | large;
    table[1] = (x->gpa & ~mask_low(21)) | large;
    table[2] = next->vmcs_ptr | map;
    bus_copy_to(cpu->bus, next->vmcs_hpa + SLOT_CODE * 8, table, sizeof table);
    bus_copy_to(cpu->bus, next->vmcs_hpa + LENT_CODE, code, u->asked_length);

    u->kept_rax = cpu->core.rax;
    u->kept_rbx = cpu->core.rbx;
    u->kept_rdx = cpu->core.rdx;
    u->kept_cr3 = cpu->sys.cr3;
    cpu->sys.cr3 = next->vmcs_ptr;
    cpu->core.rip = slot_la(SLOT_CODE, next->vmcs_ptr + LENT_CODE);
    if (a->kind == CARRY_WRITE || a->kind == CARRY_OUT)
        cpu->core.rax = a->value;
    if (a->kind >= CARRY_IN) {
        cpu->core.rdx = a->where;
        x->qualification = (a->size - 1) | (a->kind == CARRY_IN ? 1 << 3 : 0) | a->where << 16;
        x->instruction_length = (u32)u->asked_length;
        x->instruction_info = 0;
        x->la = 0;
    } else {
        x->la = cpu->core.rbx = slot_la(SLOT_ACCESS, x->gpa);
        if (x->reason == EXIT_EPT_VIOLATION)
            x->qualification |= BIT(7) | BIT(8) | (vmx_capability(cpu, MSR_IA32_VMX_EPT_VPID_CAP) & EPTCAP_ADVANCED_EXITS ? BIT(10) : 0);
    }
    u->shown_rip = cpu->core.rip;
    u->shown_cr3 = cpu->sys.cr3;
    u->shown_length = 0;
    if (trace_on(cpu, TRACE_VMX_EXIT))
        trace_emit(cpu, TRACE_VMX_EXIT, "stand_in",
                   TRACE_FIELDS(trace_decimal("to", k + 1),
                                trace_text("access", a->kind == CARRY_READ ? "read" : a->kind == CARRY_WRITE ? "write"
                                                                              : a->kind == CARRY_IN ? "in" : "out"),
                                trace_decimal("size", a->size), trace_hex("at", a->kind >= CARRY_IN ? a->where : x->gpa),
                                trace_hex("rip", cpu->core.rip), trace_hex("page", next->vmcs_ptr)));
    return true;
}

void vmx_standin_answered(struct cpu *cpu, struct vmx_unit *u)
{
    struct vmx_carried_access *a = &u->asked;
    if (a->kind == CARRY_NONE)
        return;
    if (cpu->core.rip == u->shown_rip + u->asked_length && u->carried.count < VMX_CARRIED) {
        if (a->kind == CARRY_READ || a->kind == CARRY_IN)
            a->value = cpu->core.rax & mask_low(8 * a->size);
        u->carried.access[u->carried.count++] = *a;
    }
    a->kind = CARRY_NONE;
    cpu->core.rip = u->shown_rip;
    cpu->core.rax = u->kept_rax;
    cpu->core.rbx = u->kept_rbx;
    cpu->core.rdx = u->kept_rdx;
    if (cpu->sys.cr3 == u->shown_cr3)
        cpu->sys.cr3 = u->kept_cr3;
}

bool vmx_carried_port(const struct cpu *cpu, u16 port, unsigned size, bool input, u32 *value)
{
    for (u64 n = 0; n < cpu->vmx.carried.count; n++) {
        const struct vmx_carried_access *a = &cpu->vmx.carried.access[n];
        if (a->kind == (input ? CARRY_IN : CARRY_OUT) && a->where == port && a->size == size) {
            *value = (u32)a->value;
            return true;
        }
    }
    return false;
}

void vmx_standin_string_io(struct cpu *cpu, const struct vmx_ask *ask, struct vmx_exit_info *x)
{
    bool input = ask->qualification >> 3 & 1;
    struct vmx_carried_access a = {.kind = input ? CARRY_IN : CARRY_OUT, .where = ask->number, .size = ask->size};
    if (!input && !mem_read(cpu, ask->la, &a.value, ask->size)) {
        cpu->fault.kind = FAULT_NONE;
        return;
    }
    x->access = a;
}
