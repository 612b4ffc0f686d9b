/* The VMX instructions, with every failure that the SDM gives them [SDM3 "VMX Instruction Reference"]; operands are
 * cpu/vmx_insn.c's.
 *
 * Who runs one: L1 at depth 0; a level that L0 has offered VMX, on its own frame. Else it is a VM exit to the
 * hypervisor below. A fault of an outer EPT while L0 touches the level's memory exits to the outer hypervisor as if the
 * level had touched it, and the instruction starts again afterwards: so every access that can fail comes before
 * anything changes.
 */
#include "vmx/insn.h"

#include "cpu/flags.h"
#include "cpu/raise.h"
#include "cpu/trace.h"
#include "mmu/access.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/fields.h"
#include "vmx/frame.h"
#include "vmx/stats.h"

/* ---- outcomes [SDM3 "Conventions"] ------------------------------------------------------------------------------- */

static enum flow done(struct cpu *cpu, const struct insn *in, u32 status)
{
    u64 next = cpu->core.rip + in->length;
    flags_set_status(cpu, status);
    cpu->core.rip = in->flags & INSN_64 ? next : (u32)next;
    return FLOW_END;
}

enum flow vmx_succeed(struct cpu *cpu, const struct insn *in) { return done(cpu, in, 0); }

enum flow vmx_succeed_next(struct cpu *cpu)
{
    flags_set_status(cpu, 0);
    return FLOW_NEXT;
}

enum flow vmx_fail_invalid(struct cpu *cpu, const struct insn *in) { return done(cpu, in, FL_CF); }

enum flow vmx_fail(struct cpu *cpu, const struct insn *in, unsigned error)
{
    struct vmx_frame *f = &cpu->vmx.frame[cpu->vmx.depth];
    if (trace_on(cpu, TRACE_VMX_INSN))
        trace_emit(cpu, TRACE_VMX_INSN, "fail",
                   TRACE_FIELDS(trace_decimal("error", error), trace_text("text", vmx_error_text(error))));
    if (f->vmcs_ptr == VMX_NO_VMCS)
        return vmx_fail_invalid(cpu, in);
    f->vmcs.vm_instruction_error = error;
    return done(cpu, in, FL_ZF);
}

static void trace_insn(struct cpu *cpu, const char *name, u64 operand, u64 value)
{
    if (trace_on(cpu, TRACE_VMX_INSN))
        trace_emit(cpu, TRACE_VMX_INSN, name, TRACE_FIELDS(trace_hex("operand", operand), trace_hex("value", value)));
}

/* Only while it is traced. */
static COLD void trace_field_access(struct cpu *cpu, const char *name, u64 encoding, u64 value)
{
    int field = vmx_field_find(encoding);
    trace_emit(cpu, TRACE_VMX_INSN, name,
               TRACE_FIELDS(trace_text("field", field < 0 ? "?" : vmx_field_info((unsigned)field)->name),
                            trace_hex("encoding", encoding), trace_hex("value", value)));
}

/* ---- what comes first -------------------------------------------------------------------------------------------- */

/* Modes in which no VMX instruction exists. */
static bool mode_forbids(const struct cpu *cpu)
{
    return !cpu->mode.protected_mode || (cpu->mode.long_mode && cpu->mode.code_bits != BITS_64);
}

static struct vmx_frame *own_frame(struct cpu *cpu) { return &cpu->vmx.frame[cpu->vmx.depth]; }

/* The running level's CR4.VMXE as it sees it. */
static bool own_vmxe(const struct cpu *cpu) { return vmx_guest_cr4(cpu) & CR4_VMXE; }

/* A hypervisor whose VMX instructions L0 runs is in 64-bit code, VMX operation and at CPL 0: nothing comes first. */
static inline bool is_plain_root(const struct cpu *cpu)
{
    return cpu->mode.protected_mode && cpu->mode.code_bits == BITS_64 && !cpu->mode.cpl && vmx_own_root(cpu) &&
           cpu->vmx.frame[cpu->vmx.depth].vmxon;
}

static enum flow exit_to_parent(struct cpu *cpu, const struct insn *in, u32 reason, u64 qualification)
{
    struct vmx_exit_info x = {.reason = reason, .qualification = qualification, .instruction = 1,
                              .instruction_length = in->length};
    x.instruction_info = vmx_instruction_info(in, reason);
    vmx_exit(cpu, cpu->vmx.depth - 1, &x);
    return FLOW_EXIT;
}

enum flow vmx_insn_begin(struct cpu *cpu, const struct insn *in, u32 reason, u64 qualification)
{
    if (UNLIKELY(!is_plain_root(cpu))) {
        if (mode_forbids(cpu))
            return cpu_raise_ud(cpu);
        if (!vmx_own_root(cpu))
            return exit_to_parent(cpu, in, reason, qualification);
        if (!own_frame(cpu)->vmxon)
            return cpu_raise_ud(cpu);
        if (cpu->mode.cpl)
            return cpu_raise_gp(cpu, 0);
    }
    vmx_note_l0(cpu, reason);
    return FLOW_NEXT;
}

/* [SDM3 "VMCS Shadowing"]: the guest's VMREAD or VMWRITE is not the hypervisor's business. */
static bool is_shadowed(struct cpu *cpu, u32 reason, u64 encoding)
{
    if (vmx_own_root(cpu))
        return false;
    const struct vmx_frame *f = frame_innermost(cpu);
    if (!vmcs_secondary(&f->vmcs, VMCS_SHADOWING) || encoding >> 15)
        return false;
    u64 bitmap = reason == EXIT_VMREAD ? f->vmread_bitmap_hpa : f->vmwrite_bitmap_hpa;
    return !(bus_read(cpu->bus, cpu->index, bitmap + encoding / 8, 1) >> (encoding & 7) & 1);
}

enum flow vmx_insn_begin_field(struct cpu *cpu, const struct insn *in, u32 reason, u64 qualification, u64 encoding, bool *shadow)
{
    *shadow = !mode_forbids(cpu) && is_shadowed(cpu, reason, encoding);
    if (!*shadow)
        return vmx_insn_begin(cpu, in, reason, qualification);
    return cpu->mode.cpl ? cpu_raise_gp(cpu, 0) : FLOW_NEXT;
}

enum flow vmx_insn_begin_vmxon(struct cpu *cpu, const struct insn *in, u64 qualification)
{
    if (mode_forbids(cpu) || !own_vmxe(cpu))
        return cpu_raise_ud(cpu);
    if (!vmx_own_root(cpu))
        return exit_to_parent(cpu, in, EXIT_VMXON, qualification);
    if (cpu->mode.cpl)
        return cpu_raise_gp(cpu, 0);
    vmx_note_l0(cpu, EXIT_VMXON);
    return FLOW_NEXT;
}

/* A VMCS or VMXON pointer: aligned and within the physical-address width. */
static bool pointer_valid(const struct cpu *cpu, u64 gpa)
{
    return !(gpa & 0xfff) && !(gpa & ~mask_low(cpu_physical_bits(cpu)));
}

/* The region's place on the bus. False: an outer EPT lacks the page; the exit was made. */
static bool region_hpa(struct cpu *cpu, u64 gpa, unsigned access, u64 *hpa)
{
    *hpa = gpa;
    if (!cpu->vmx.depth || mem_gpa_to_hpa(cpu, cpu->vmx.depth, gpa, access, hpa))
        return true;
    vmx_memory_exit(cpu);
    return false;
}

/* ---- VMXON, VMXOFF ----------------------------------------------------------------------------------------------- */

static u64 own_feature_control(const struct cpu *cpu)
{
    return cpu->vmx.depth ? cpu->vmx.frame[cpu->vmx.depth].feature_control : cpu->sys.feature_control;
}

enum flow vmx_insn_vmxon(struct cpu *cpu, const struct insn *in, u64 gpa)
{
    struct vmx_frame *f = own_frame(cpu);
    u64 hpa, enabled = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;

    if (f->vmxon)
        return vmx_fail(cpu, in, VMX_ERROR_VMXON_IN_ROOT);
    u64 cr0 = vmx_guest_cr0(cpu), fixed = vmx_capability(cpu, MSR_IA32_VMX_CR0_FIXED0);
    if (~cr0 & fixed || (own_feature_control(cpu) & enabled) != enabled || !(cpu->bus->a20_mask & BIT(20)))
        return cpu_raise_gp(cpu, 0);
    trace_insn(cpu, "vmxon", gpa, 0);
    if (!pointer_valid(cpu, gpa))
        return vmx_fail_invalid(cpu, in);
    if (!region_hpa(cpu, gpa, ACCESS_READ, &hpa))
        return FLOW_EXIT;
    if ((u32)bus_read(cpu->bus, cpu->index, hpa, 4) != VMCS_REVISION)
        return vmx_fail_invalid(cpu, in);
    vmx_apic_attach();
    f->vmxon = 1;
    f->vmxon_ptr = gpa;
    f->vmcs_ptr = VMX_NO_VMCS;
    f->vmcs_hpa = BUS_NO_RAM;
    f->timer_deadline = ~0ull;
    f->stale = 0;
    cpu->event.monitor_armed = 0;
    return vmx_succeed(cpu, in);
}

enum flow vmx_insn_vmxoff(struct cpu *cpu, const struct insn *in)
{
    struct vmx_frame *f = own_frame(cpu);
    trace_insn(cpu, "vmxoff", 0, 0);
    if (!cpu->vmx.depth && cpu->smm.dual_monitor)
        return vmx_fail(cpu, in, VMX_ERROR_VMXOFF_UNDER_DUAL_MONITOR);
    if (!cpu->vmx.depth && !(cpu->smm.monitor_ctl & SMM_MONITOR_KEEP_BLOCKING))
        cpu->event.blocking &= ~BLOCK_SMI;
    vmx_stats_vmxoff(cpu, cpu->vmx.depth + 1);
    vmx_region_release(cpu, cpu->vmx.depth);
    f->vmxon = 0;
    f->vmxon_ptr = 0;
    return vmx_succeed(cpu, in);
}

/* ---- the current VMCS -------------------------------------------------------------------------------------------- */

u64 vmx_current_vmcs(const struct cpu *cpu) { return cpu->vmx.frame[cpu->vmx.depth].vmcs_ptr; }

enum flow vmx_insn_vmclear(struct cpu *cpu, const struct insn *in, u64 gpa)
{
    struct vmx_frame *f = own_frame(cpu);
    u64 hpa;
    trace_insn(cpu, "vmclear", gpa, 0);
    if (!pointer_valid(cpu, gpa))
        return vmx_fail(cpu, in, VMX_ERROR_VMCLEAR_INVALID_ADDRESS);
    if (gpa == f->vmxon_ptr)
        return vmx_fail(cpu, in, VMX_ERROR_VMCLEAR_VMXON_POINTER);
    if (!region_hpa(cpu, gpa, ACCESS_WRITE, &hpa))
        return FLOW_EXIT;
    if (gpa == f->vmcs_ptr) {
        f->vmcs.launched = 0;
        f->vmcs_hpa = hpa;
        vmx_region_release(cpu, cpu->vmx.depth);
    } else {
        vmx_region_clear(cpu, hpa);
    }
    return vmx_succeed(cpu, in);
}

enum flow vmx_insn_vmptrld(struct cpu *cpu, const struct insn *in, u64 gpa)
{
    struct vmx_frame *f = own_frame(cpu);
    u64 hpa;
    trace_insn(cpu, "vmptrld", gpa, 0);
    if (!pointer_valid(cpu, gpa))
        return vmx_fail(cpu, in, VMX_ERROR_VMPTRLD_INVALID_ADDRESS);
    if (gpa == f->vmxon_ptr)
        return vmx_fail(cpu, in, VMX_ERROR_VMPTRLD_VMXON_POINTER);
    if (!region_hpa(cpu, gpa, ACCESS_WRITE, &hpa))
        return FLOW_EXIT;
    u64 indicator = vmx_control_supported(cpu, CTL_SECONDARY_VMCS_SHADOWING) ? VMCS_SHADOW : 0;
    if ((bus_read(cpu->bus, cpu->index, hpa, 4) & ~indicator) != VMCS_REVISION)
        return vmx_fail(cpu, in, VMX_ERROR_VMPTRLD_INCORRECT_REVISION);
    if (gpa == f->vmcs_ptr) {
        f->vmcs_hpa = hpa;
        return vmx_succeed(cpu, in);
    }
    vmx_region_release(cpu, cpu->vmx.depth);
    vmx_region_load(cpu, cpu->vmx.depth, gpa, hpa);
    vmx_check_note_all(f);
    return vmx_succeed(cpu, in);
}

/* ---- fields ------------------------------------------------------------------------------------------------------ */

/* VMREAD and VMWRITE that meet nothing unusual, and that nobody counts or traces. */
static inline bool is_plain_access(const struct cpu *cpu)
{
    return is_plain_root(cpu) && cpu->vmx.frame[cpu->vmx.depth].vmcs_ptr != VMX_NO_VMCS && LIKELY(cpu->stats == NULL) &&
           LIKELY(!trace_on(cpu, TRACE_VMX_INSN));
}

const u64 *vmx_insn_vmread_plain(struct cpu *cpu, u64 encoding)
{
    const u64 *field = LIKELY(is_plain_access(cpu)) ? vmx_field_plain(&own_frame(cpu)->vmcs, encoding) : NULL;
    if (LIKELY(field != NULL))
        flags_set_status(cpu, 0);
    return field;
}

bool vmx_insn_vmwrite_plain(struct cpu *cpu, u64 encoding, u64 value)
{
    bool written = LIKELY(is_plain_access(cpu)) && vmx_field_write_plain(own_frame(cpu), encoding, value);
    if (LIKELY(written))
        flags_set_status(cpu, 0);
    return written;
}

enum flow vmx_insn_vmread(struct cpu *cpu, const struct insn *in, u64 encoding, u64 *value)
{
    const struct vmx_frame *f = own_frame(cpu);
    if (f->vmcs_ptr == VMX_NO_VMCS)
        return vmx_fail_invalid(cpu, in);
    if (!vmx_field_read(cpu, &f->vmcs, encoding, value))
        return vmx_fail(cpu, in, VMX_ERROR_UNSUPPORTED_FIELD);
    if (trace_on(cpu, TRACE_VMX_INSN))
        trace_field_access(cpu, "vmread", encoding, *value);
    return FLOW_NEXT;
}

enum flow vmx_insn_vmwrite(struct cpu *cpu, const struct insn *in, u64 encoding, u64 value)
{
    struct vmx_frame *f = own_frame(cpu);
    if (f->vmcs_ptr == VMX_NO_VMCS)
        return vmx_fail_invalid(cpu, in);
    if (trace_on(cpu, TRACE_VMX_INSN))
        trace_field_access(cpu, "vmwrite", encoding, value);
    enum vmx_error error = vmx_field_write(cpu, f, encoding, value);
    return error ? vmx_fail(cpu, in, error) : vmx_succeed_next(cpu);
}

/* The field of the shadow VMCS that a guest names. VMX_FIELD_COUNT: the instruction failed, *flow is its outcome; the
 * error number goes to the current VMCS, which is the hypervisor's. */
static unsigned shadow_field(struct cpu *cpu, const struct insn *in, u64 encoding, bool write, enum flow *flow)
{
    struct vmcs *v = &frame_innermost(cpu)->vmcs;
    if (v->vmcs_link_pointer == VMX_NO_VMCS) {
        *flow = vmx_fail_invalid(cpu, in);
        return VMX_FIELD_COUNT;
    }
    int field = vmx_field_find(encoding);
    enum vmx_error error = VMX_ERROR_NONE;
    if (field < 0 || !vmx_field_present(cpu, (unsigned)field))
        error = VMX_ERROR_UNSUPPORTED_FIELD;
    else if (write && !vmx_field_writable(cpu, (unsigned)field))
        error = VMX_ERROR_VMWRITE_READ_ONLY_FIELD;
    if (error == VMX_ERROR_NONE)
        return (unsigned)field;
    v->vm_instruction_error = error;
    *flow = done(cpu, in, FL_ZF);
    return VMX_FIELD_COUNT;
}

enum flow vmx_insn_vmread_shadow(struct cpu *cpu, const struct insn *in, u64 encoding, u64 *value)
{
    enum flow flow = FLOW_NEXT;
    unsigned field = shadow_field(cpu, in, encoding, false, &flow);
    if (field == VMX_FIELD_COUNT)
        return flow;
    *value = vmx_region_field(cpu, frame_innermost(cpu)->link_hpa, field) >> (encoding & 1 ? 32 : 0);
    if (trace_on(cpu, TRACE_VMX_INSN))
        trace_field_access(cpu, "vmread_shadow", encoding, *value);
    return FLOW_NEXT;
}

enum flow vmx_insn_vmwrite_shadow(struct cpu *cpu, const struct insn *in, u64 encoding, u64 value)
{
    enum flow flow = FLOW_NEXT;
    u64 hpa = frame_innermost(cpu)->link_hpa;
    unsigned field = shadow_field(cpu, in, encoding, true, &flow);
    if (field == VMX_FIELD_COUNT)
        return flow;
    if (trace_on(cpu, TRACE_VMX_INSN))
        trace_field_access(cpu, "vmwrite_shadow", encoding, value);
    if (encoding & 1)
        value = (u32)vmx_region_field(cpu, hpa, field) | value << 32;
    vmx_region_set_field(cpu, hpa, field, value);
    return vmx_succeed_next(cpu);
}

/* ---- VMLAUNCH, VMRESUME, VMCALL, VMFUNC -------------------------------------------------------------------------- */

enum flow vmx_insn_enter(struct cpu *cpu, const struct insn *in, bool launch) { return vmx_enter(cpu, in, launch); }

enum flow vmx_insn_vmcall(struct cpu *cpu, const struct insn *in)
{
    /* Always the parent's, even for a level that L0 has offered VMX: a hypercall. */
    if (cpu->vmx.depth)
        return exit_to_parent(cpu, in, EXIT_VMCALL, 0);
    if (mode_forbids(cpu) || !own_frame(cpu)->vmxon)
        return cpu_raise_ud(cpu);
    if (cpu->mode.cpl)
        return cpu_raise_gp(cpu, 0);
    return vmx_smm_vmcall(cpu, in);
}

/* [SDM3 "EPTP Switching"]: the guest chooses another EPT of its hypervisor's list. */
static enum flow switch_eptp(struct cpu *cpu, const struct insn *in)
{
    unsigned k = cpu->vmx.depth - 1;
    struct vmcs *v = vmcs_of(cpu, k);
    u32 index = (u32)cpu->core.rcx;
    u64 hpa;
    if (index >= VMX_EPTP_LIST_ENTRIES)
        return exit_to_parent(cpu, in, EXIT_VMFUNC, 0);
    if (!mem_gpa_to_hpa(cpu, k, (v->eptp_list_address & ~0xfffull) + 8 * index, ACCESS_READ, &hpa)) {
        vmx_memory_exit(cpu);
        return FLOW_EXIT;
    }
    u64 eptp = bus_read(cpu->bus, cpu->index, hpa, 8);
    trace_insn(cpu, "vmfunc_eptp", index, eptp);
    /* One that VM entry would take, with page walks of the present length. */
    if (!vmx_eptp_valid(cpu, eptp) || (eptp ^ v->ept_pointer) & 7 << 3)
        return exit_to_parent(cpu, in, EXIT_VMFUNC, 0);
    v->ept_pointer = eptp;
    if (vmx_control_supported(cpu, CTL_SECONDARY_EPT_VIOLATION_VE))
        v->eptp_index = index;
    if (!vmcs_secondary(v, VPID))
        tlb_flush_vpid0(cpu, k);
    u64 next = cpu->core.rip + in->length;
    cpu->core.rip = in->flags & INSN_64 ? next : (u32)next;
    cpu_mode_update(cpu);
    return FLOW_END;
}

enum flow vmx_insn_vmfunc(struct cpu *cpu, const struct insn *in)
{
    /* [SDM3 "General Operation of the VMFUNC Instruction"]: at any CPL, in any mode; no flag changes. */
    u32 function = (u32)cpu->core.rax;
    if (!cpu->vmx.depth || !vmcs_secondary(&frame_innermost(cpu)->vmcs, VM_FUNCTIONS) || function > 63)
        return cpu_raise_ud(cpu);
    if (function || !(frame_innermost(cpu)->vmcs.vm_function_controls & VMX_VMFUNC_EPTP_SWITCHING))
        return exit_to_parent(cpu, in, EXIT_VMFUNC, 0);
    return switch_eptp(cpu, in);
}

/* ---- invalidations ----------------------------------------------------------------------------------------------- */

/* The EPT pointer would pass VM entry's checks [SDM3 "VM-Execution Control Fields"]. */
static bool eptp_valid(const struct cpu *cpu, u64 eptp)
{
    return vmx_eptp_valid(cpu, eptp);
}

enum flow vmx_insn_invept(struct cpu *cpu, const struct insn *in, u64 type, u64 eptp, u64 reserved)
{
    trace_insn(cpu, "invept", type, eptp);
    if ((type != 1 && type != 2) || reserved || (type == 1 && !eptp_valid(cpu, eptp)))
        return vmx_fail(cpu, in, VMX_ERROR_INVALID_OPERAND_TO_INVEPT_INVVPID);
    tlb_invept(cpu, cpu->vmx.depth, eptp, type == 2);
    return vmx_succeed(cpu, in);
}

enum flow vmx_insn_invvpid(struct cpu *cpu, const struct insn *in, u64 type, u64 vpid, u64 la)
{
    unsigned k = cpu->vmx.depth;
    enum { ADDRESS, SINGLE, ALL, SINGLE_KEEP_GLOBAL };
    trace_insn(cpu, "invvpid", type, vpid);
    if (type > SINGLE_KEEP_GLOBAL || vpid >> 16 || (type != ALL && !vpid) ||
        (type == ADDRESS && !cpu_canonical(cpu, la)))
        return vmx_fail(cpu, in, VMX_ERROR_INVALID_OPERAND_TO_INVEPT_INVVPID);
    if (type == ADDRESS)
        tlb_invvpid_page(cpu, k, (u16)vpid, la);
    else
        tlb_invvpid(cpu, k, (u16)vpid, type == ALL, type == SINGLE_KEEP_GLOBAL);
    return vmx_succeed(cpu, in);
}
