/* VM entries and exits with one frame: what is loaded and saved, the exit information, injected events and what
 * interrupts them, MSR lists, the preemption timer, windows, the monitor trap flag, the TPR shadow, blocking by NMI,
 * failed entries, VMX aborts.
 */
#include "tests/vmx/bench_vmcs.h"
#include "cpu/msr.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

#define HOST_RIP 0x2000u
#define GUEST_RIP 0x3000u
#define INFO_ERROR_CODE (1u << 11)

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmcs *const v = &cpu.vmx.frame[0].vmcs;

static void setup(void)
{
    bench_hypervisor_setup();
    bench_vmcs_64(v);
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    v->host_rip = HOST_RIP;
    v->host_rsp = 0x9000;
    v->guest_rip = GUEST_RIP;
    v->guest_rsp = 0xa000;
    cpu.core.rip = 0x1000;
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_hardware;
}

static void enter(void)
{
    cpu.core.rip = 0x1000;
    enum flow flow = vmx_insn_enter(&cpu, &insn, !v->launched);
    ck_assert_int_eq(flow, FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
}

static bool ask(u32 reason)
{
    return vmx_intercept_simple(&cpu, &insn, reason);
}

/* The guest executes CPUID, which always exits. */
static void leave(void)
{
    ck_assert(ask(EXIT_CPUID));
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}

START_TEST(test_guest_state_is_loaded)
{
    v->guest_fs_base = 0x1234567890ull;
    v->guest_gdtr_base = 0x5000;
    v->guest_idtr_limit = 0x77;
    v->guest_sysenter_eip = 0x6000;
    v->guest_dr7 = 0x401;
    v->guest_rflags = FL_R1 | FL_CF | FL_IF;
    v->guest_interruptibility = BLOCK_STI;
    cpu.core.rbx = 0xabc;
    enter();
    ck_assert_uint_eq(cpu.core.rip, GUEST_RIP);
    ck_assert_uint_eq(cpu.core.rsp, 0xa000);
    ck_assert_uint_eq(cpu.core.rbx, 0xabc);
    ck_assert_uint_eq(cpu.seg.s[SEG_FS].base, 0x1234567890ull);
    ck_assert_uint_eq(cpu.seg.gdtr.base, 0x5000);
    ck_assert_uint_eq(cpu.seg.idtr.limit, 0x77);
    ck_assert_uint_eq(cpu.sys.sysenter_eip, 0x6000);
    ck_assert_uint_eq(cpu.sys.dr7, 0x401);
    ck_assert_uint_eq(cpu_rflags(&cpu), FL_R1 | FL_CF | FL_IF);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_STI);
    ck_assert(cpu.event.attention & ATT_SHADOW);
    ck_assert_uint_eq(v->launched, 1);
}
END_TEST

START_TEST(test_exit_saves_and_loads)
{
    v->host_fs_base = 0x111000;
    v->host_gdtr_base = 0x222000;
    v->host_sysenter_esp = 0x333000;
    v->exit_controls |= VMEXIT_SAVE_DEBUG_CONTROLS | VMEXIT_SAVE_EFER;
    enter();
    cpu.core.rip = 0x3456;
    cpu.core.rsp = 0x7890;
    cpu.sys.dr7 = 0x4aa;
    cpu.seg.s[SEG_GS].base = 0x999;
    cpu_set_rflags(&cpu, FL_R1 | FL_ZF | FL_IF | FL_RF);
    leave();
    ck_assert_uint_eq(v->exit_reason, EXIT_CPUID);
    ck_assert_uint_eq(v->exit_instruction_length, 3);
    ck_assert_uint_eq(v->guest_rip, 0x3456);
    ck_assert_uint_eq(v->guest_rsp, 0x7890);
    ck_assert_uint_eq(v->guest_dr7, 0x4aa);
    ck_assert_uint_eq(v->guest_gs_base, 0x999);
    ck_assert_uint_eq(v->guest_rflags, FL_R1 | FL_ZF | FL_IF);       /* RF is 0 for an instruction that exits */
    ck_assert_uint_eq(v->guest_ia32_efer & EFER_LMA, EFER_LMA);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
    ck_assert_uint_eq(cpu.core.rip, HOST_RIP);
    ck_assert_uint_eq(cpu.core.rsp, 0x9000);
    ck_assert_uint_eq(cpu_rflags(&cpu), FL_R1);
    ck_assert_uint_eq(cpu.sys.dr7, 0x400);
    ck_assert_uint_eq(cpu.seg.s[SEG_FS].base, 0x111000);
    ck_assert_uint_eq(cpu.seg.gdtr.base, 0x222000);
    ck_assert_uint_eq(cpu.seg.gdtr.limit, 0xffff);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].access, 0xa09b);
    ck_assert(cpu.seg.s[SEG_LDTR].access & AR_UNUSABLE);
    ck_assert_uint_eq(cpu.sys.sysenter_esp, 0x333000);
    ck_assert_int_eq(cpu.mode.code_bits, BITS_64);
    enter();                               /* VMRESUME */
    ck_assert_uint_eq(cpu.core.rip, 0x3456);
}
END_TEST

/* Exits keep ET, NW and CD, whatever the host-state field says. */
START_TEST(test_cr0_bits_kept)
{
    cpu.sys.cr0 |= CR0_CD;
    enter();
    ck_assert(cpu.sys.cr0 & CR0_CD);
    leave();
    ck_assert(cpu.sys.cr0 & CR0_CD);
    ck_assert(cpu.sys.cr0 & CR0_ET);
}
END_TEST

START_TEST(test_injection)
{
    v->entry_interruption_info = INFO_VALID | INFO_ERROR_CODE | EVT_HARDWARE << 8 | EXC_GP;
    v->entry_exception_error_code = 0x18;
    enter();
    ck_assert(cpu.event.valid && cpu.event.injected && cpu.event.attention & ATT_EVENT);
    ck_assert_uint_eq(cpu.event.vector, EXC_GP);
    ck_assert_uint_eq(cpu.event.error, 0x18);
    ck_assert(v->entry_interruption_info & INFO_VALID);
    /* While it is being delivered, the guest's stack turns out to be absent. */
    cpu.event.valid = 0;
    cpu.event.delivering = 1;
    cpu.event.d_vector = EXC_GP;
    cpu.event.d_type = EVT_HARDWARE;
    cpu.event.d_has_error = 1;
    cpu.event.d_error = 0x18;
    cpu.fault = (struct mem_fault){.kind = FAULT_EPT_VIOLATION, .gpa = 0x123000, .la = 0x456000,
                                   .qualification = 0x182};
    vmx_memory_exit(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->exit_qualification, 0x182);
    ck_assert_uint_eq(v->guest_physical_address, 0x123000);
    ck_assert_uint_eq(v->guest_linear_address, 0x456000);
    ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | INFO_ERROR_CODE | EVT_HARDWARE << 8 | EXC_GP);
    ck_assert_uint_eq(v->idt_vectoring_error_code, 0x18);
    ck_assert(!(v->entry_interruption_info & INFO_VALID));
    ck_assert(v->guest_rflags & FL_RF);
    ck_assert(!cpu.event.valid && !cpu.event.delivering);
}
END_TEST

START_TEST(test_software_injection_length)
{
    v->entry_interruption_info = INFO_VALID | EVT_SOFTWARE_INT << 8 | 0x80;
    v->entry_instruction_length = 2;
    enter();
    ck_assert_uint_eq(cpu.event.type, EVT_SOFTWARE_INT);
    ck_assert_uint_eq(cpu.event.insn_length, 2);
}
END_TEST

START_TEST(test_entry_failure_guest_state)
{
    v->guest_rflags = 0;                   /* bit 1 must be 1 */
    v->entry_interruption_info = INFO_VALID | EVT_HARDWARE << 8 | EXC_UD;
    v->guest_rip = 0x5555;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, true), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_GUEST_STATE | 0x80000000u);
    ck_assert_uint_eq(cpu.core.rip, HOST_RIP);
    ck_assert_uint_eq(v->guest_rip, 0x5555);
    ck_assert(v->entry_interruption_info & INFO_VALID);
    ck_assert_uint_eq(v->launched, 0);
}
END_TEST

static void list_entry(u64 gpa, u32 msr, u64 value)
{
    bus_write(&bus, 0, gpa, 8, msr);
    bus_write(&bus, 0, gpa + 8, 8, value);
}

START_TEST(test_msr_lists)
{
    u64 area = BENCH_PAGE + 0x400;
    list_entry(area, 0xc0000082, 0x1111);                /* IA32_LSTAR */
    list_entry(area + 16, 0xc0000102, 0x2222);           /* IA32_KERNEL_GS_BASE */
    v->entry_msr_load_address = area;
    v->entry_msr_load_count = 2;
    list_entry(area + 0x100, 0xc0000082, 0);
    v->exit_msr_store_address = area + 0x100;
    v->exit_msr_store_count = 1;
    list_entry(area + 0x200, 0xc0000082, 0x3333);
    v->exit_msr_load_address = area + 0x200;
    v->exit_msr_load_count = 1;
    enter();
    ck_assert_uint_eq(cpu.sys.lstar, 0x1111);
    ck_assert_uint_eq(cpu.sys.kernel_gs_base, 0x2222);
    cpu.sys.lstar = 0x4444;
    leave();
    ck_assert_uint_eq(bench_peek64(area + 0x108), 0x4444);
    ck_assert_uint_eq(cpu.sys.lstar, 0x3333);
}
END_TEST

/* The second entry cannot be loaded: FS base has its own field. */
START_TEST(test_msr_list_refused)
{
    u64 area = BENCH_PAGE + 0x400;
    list_entry(area, 0xc0000082, 0x1111);
    list_entry(area + 16, 0xc0000100, 0);
    v->entry_msr_load_address = area;
    v->entry_msr_load_count = 2;
    cpu.event.blocking = BLOCK_NMI;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, true), FLOW_EXIT);
    ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_MSR_LOADING | 0x80000000u);
    ck_assert_uint_eq(v->exit_qualification, 2);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(cpu.core.rip, HOST_RIP);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
    ck_assert_uint_eq(v->launched, 0);
}
END_TEST

START_TEST(test_abort)
{
    v->exit_msr_load_address = BENCH_PAGE + 0x400;
    v->exit_msr_load_count = 1;
    list_entry(BENCH_PAGE + 0x400, 0x12345678, 0);
    enter();
    ask(EXIT_CPUID);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_SHUTDOWN);
    ck_assert_uint_eq((u32)bus_read(&bus, 0, BENCH_VMCS + 4, 4), 4);
}
END_TEST

START_TEST(test_preemption_timer)
{
    v->pin_controls |= PIN_PREEMPTION_TIMER;
    v->exit_controls |= VMEXIT_SAVE_PREEMPTION_TIMER;
    v->vmx_preemption_timer = 10;
    board.tsc = 1000;                      /* 31 * 32 + 8: the first count comes after 24 ticks */
    cpu.time.now = 500;
    enter();
    u64 deadline = (1000 / 32 + 10) * 32;
    ck_assert_uint_eq(vmx_next_deadline(&cpu), 500 + (deadline - 1000));
    ck_assert_uint_le(cpu.stop_at, 500 + (deadline - 1000));
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_TIMER));
    board.tsc = deadline - 32 * 4 - 1;
    leave();
    ck_assert_uint_eq(v->vmx_preemption_timer, 5);
    ck_assert_uint_eq(vmx_next_deadline(&cpu), ~0ull);

    board.tsc = 3200;
    enter();
    board.tsc = 3200 + 5 * 32;
    ck_assert_uint_eq(vmx_next_deadline(&cpu), ~0ull);
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TIMER));
    ck_assert_uint_eq(v->exit_reason, EXIT_PREEMPTION_TIMER);
    ck_assert_uint_eq(v->vmx_preemption_timer, 0);

    enter();                               /* a value of 0 expires at once */
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TIMER));
}
END_TEST

START_TEST(test_interrupt_window)
{
    v->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING;
    v->guest_rflags = FL_R1;
    enter();
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    cpu.core.rflags_rest |= FL_IF;
    cpu.event.blocking = BLOCK_STI;
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    cpu.event.blocking = 0;
    ck_assert(vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    ck_assert_uint_eq(v->exit_reason, EXIT_INTERRUPT_WINDOW);
    ck_assert(!(cpu.event.attention & ATT_VMX));
}
END_TEST

START_TEST(test_nmi_window)
{
    v->pin_controls |= PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    v->primary_controls |= PRIMARY_NMI_WINDOW_EXITING;
    v->guest_interruptibility = BLOCK_NMI;
    enter();
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_NMI_WINDOW));
    vmx_iret_unblock_nmi(&cpu);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_NMI_WINDOW));
    ck_assert_uint_eq(v->exit_reason, EXIT_NMI_WINDOW);
}
END_TEST

START_TEST(test_monitor_trap_flag)
{
    v->primary_controls |= PRIMARY_MONITOR_TRAP_FLAG;
    enter();
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    vmx_note_instruction(&cpu);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(v->exit_reason, EXIT_MONITOR_TRAP_FLAG);

    v->primary_controls &= ~(u64)PRIMARY_MONITOR_TRAP_FLAG;
    v->entry_interruption_info = INFO_VALID | EVT_OTHER << 8;        /* a pending MTF exit is injected */
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(v->exit_reason, EXIT_MONITOR_TRAP_FLAG);
}
END_TEST

START_TEST(test_external_interrupt)
{
    enter();
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_GUEST);
    leave();
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    v->guest_rflags = FL_R1;
    cpu.vmx.frame[0].checked = 0;
    enter();
    cpu.event.blocking = BLOCK_MOV_SS;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_BLOCKED);
    cpu.event.blocking = 0;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED); /* whatever RFLAGS.IF */
    ck_assert_uint_eq(v->exit_reason, EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(v->exit_interruption_info, 0);                 /* not acknowledged */
}
END_TEST

START_TEST(test_nmi_blocking)
{
    v->pin_controls |= PIN_NMI_EXITING;
    enter();
    ck_assert_int_eq(vmx_nmi(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | EVT_NMI << 8 | EXC_NMI);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
    ck_assert_uint_eq(v->guest_interruptibility, 0);

    /* Without virtual NMIs IRET leaves the blocking alone, and it outlives the exit. */
    v->guest_interruptibility = BLOCK_NMI;
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert_int_eq(vmx_nmi(&cpu), VMX_EVENT_BLOCKED);
    vmx_iret_unblock_nmi(&cpu);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
    leave();
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);

    /* With them the guest's blocking is its own. */
    v->pin_controls |= PIN_VIRTUAL_NMIS;
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert_int_eq(vmx_nmi(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(v->guest_interruptibility, BLOCK_NMI);
}
END_TEST

START_TEST(test_iret_unblocking_is_reported)
{
    v->pin_controls |= PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    enter();
    cpu.event.nmi_unblocking_iret = 1;
    cpu.fault = (struct mem_fault){.kind = FAULT_EPT_VIOLATION, .gpa = 0x1000, .qualification = 1};
    vmx_memory_exit(&cpu);
    ck_assert_uint_eq(v->exit_qualification, 1 | BIT(12));
    ck_assert(!cpu.event.nmi_unblocking_iret);
}
END_TEST

START_TEST(test_cet_and_pkrs)
{
    bench_model(BENCH_CET_MODEL);
    bench_vmcs_cet(v);
    v->host_rip = HOST_RIP;
    enter();
    ck_assert_uint_eq(cpu.sys.s_cet, 4);
    ck_assert_uint_eq(cpu.sys.ssp, 0x7000);
    ck_assert_uint_eq(cpu.sys.ssp_table, 0x8000);
    ck_assert_uint_eq(cpu.sys.pkrs, 0xaaaaaaaa);
    ck_assert_uint_eq(cpu.sys.perf_global_ctrl, 2);
    cpu.sys.perf_global_ctrl = 3;
    cpu.sys.ssp = 0x6ff8;
    cpu.sys.pkrs = 0x12345678;
    leave();
    ck_assert_uint_eq(v->guest_ssp, 0x6ff8);
    ck_assert_uint_eq(v->guest_ia32_s_cet, 4);
    ck_assert_uint_eq(v->guest_ia32_pkrs, 0x12345678);
    ck_assert_uint_eq(cpu.sys.s_cet, 1);
    ck_assert_uint_eq(cpu.sys.ssp, 0xffff800000001000ull);
    ck_assert_uint_eq(cpu.sys.ssp_table, 0xffff800000002000ull);
    ck_assert_uint_eq(cpu.sys.pkrs, 0x55555555);
    ck_assert_uint_eq(cpu.sys.perf_global_ctrl, 1);
    ck_assert_uint_eq(v->guest_ia32_perf_global_ctrl, 3);
    /* Without the controls nothing is loaded, and the exit saves all the same. */
    v->entry_controls &= ~(u64)(VMENTRY_LOAD_CET_STATE | VMENTRY_LOAD_PKRS | VMENTRY_LOAD_PERF_GLOBAL_CTRL);
    v->exit_controls &= ~(u64)(VMEXIT_LOAD_CET_STATE | VMEXIT_LOAD_PKRS | VMEXIT_LOAD_PERF_GLOBAL_CTRL);
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert_uint_eq(cpu.sys.ssp, 0xffff800000001000ull);
    ck_assert_uint_eq(cpu.sys.perf_global_ctrl, 1);
    cpu.sys.ssp = 0x5000;
    leave();
    ck_assert_uint_eq(cpu.sys.perf_global_ctrl, 1);
    ck_assert_uint_eq(v->guest_ssp, 0x5000);
    ck_assert_uint_eq(cpu.sys.ssp, 0x5000);
}
END_TEST

/* [SDM3 "Virtualize IA32_SPEC_CTRL"] */
START_TEST(test_spec_ctrl)
{
    u64 value;
    bool known;
    bench_model(BENCH_CET_MODEL);
    v->primary_controls |= PRIMARY_TERTIARY_CONTROLS;
    v->tertiary_controls = TERTIARY_VIRTUALIZE_SPEC_CTRL;
    v->ia32_spec_ctrl_mask = 1;
    v->ia32_spec_ctrl_shadow = 2;
    cpu.sys.spec_ctrl = 1;
    /* … and in the MSR lists it is the register itself. */
    list_entry(BENCH_PAGE + 0x400, MSR_IA32_SPEC_CTRL, 0);
    v->exit_msr_store_address = BENCH_PAGE + 0x400;
    v->exit_msr_store_count = 1;
    enter();
    ck_assert(vmx_msr_read(&cpu, MSR_IA32_SPEC_CTRL, &value, &known) && known);
    ck_assert_uint_eq(value, 2);
    ck_assert(vmx_msr_write(&cpu, MSR_IA32_SPEC_CTRL, 2, &known) && known);
    ck_assert_uint_eq(cpu.sys.spec_ctrl, 3);         /* the masked bit stays */
    ck_assert(vmx_msr_write(&cpu, MSR_IA32_SPEC_CTRL, 0, &known) && known);
    ck_assert_uint_eq(cpu.sys.spec_ctrl, 1);
    ck_assert_uint_eq(v->ia32_spec_ctrl_shadow, 0);
    ck_assert(!vmx_msr_write(&cpu, MSR_IA32_SPEC_CTRL, 0x80, &known) && known);
    leave();
    ck_assert_uint_eq(bench_peek64(BENCH_PAGE + 0x408), 1);
    vmx_msr_read(&cpu, MSR_IA32_SPEC_CTRL, &value, &known);
    ck_assert(!known);
}
END_TEST

/* The time-stamp counter in a store list is the hypervisor's: neither scaled nor offset for the guest. */
START_TEST(test_tsc_in_store_list)
{
    v->primary_controls |= PRIMARY_TSC_OFFSETTING;
    v->secondary_controls |= SECONDARY_TSC_SCALING;
    v->tsc_multiplier = 3ull << 47;
    v->tsc_offset = 0x123456;
    list_entry(BENCH_PAGE + 0x400, MSR_IA32_TIME_STAMP_COUNTER, 0);
    v->exit_msr_store_address = BENCH_PAGE + 0x400;
    v->exit_msr_store_count = 1;
    board.tsc = 5000;
    enter();
    board.tsc = 7000;
    leave();
    ck_assert_uint_eq(bench_peek64(BENCH_PAGE + 0x408), 7000);
}
END_TEST

static void raise_exception(u8 vector, bool has_error, u32 error, u64 payload)
{
    cpu_raise(&cpu, vector);
    cpu.event.has_error = has_error;
    cpu.event.error = error;
    cpu.event.payload = payload;
}

START_TEST(test_exceptions)
{
    v->exception_bitmap = BIT(EXC_UD) | BIT(EXC_DB) | BIT(EXC_GP);
    enter();
    raise_exception(EXC_NM, false, 0, 0);
    ck_assert(!vmx_intercept_event(&cpu));
    raise_exception(EXC_GP, true, 0x10, 0);
    ck_assert(vmx_intercept_event(&cpu));
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | INFO_ERROR_CODE | EVT_HARDWARE << 8 | EXC_GP);
    ck_assert_uint_eq(v->exit_interruption_error_code, 0x10);
    ck_assert(v->guest_rflags & FL_RF);

    enter();
    raise_exception(EXC_DB, false, 0, BIT(14) | 1);      /* a single step: a trap */
    u64 rflags = cpu_rflags(&cpu) & ~(u64)FL_RF;
    cpu_set_rflags(&cpu, rflags);
    ck_assert(vmx_intercept_event(&cpu));
    ck_assert_uint_eq(v->exit_qualification, BIT(14) | 1);
    ck_assert(!(v->guest_rflags & FL_RF));

    /* A nested fault tells what was being delivered. */
    enter();
    cpu.event.delivering = 1;
    cpu.event.d_vector = 0x33;
    cpu.event.d_type = EVT_EXTERNAL;
    raise_exception(EXC_UD, false, 0, 0);
    ck_assert(vmx_intercept_event(&cpu));
    ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | EVT_EXTERNAL << 8 | 0x33);

    /* What a VM entry injected is not intercepted. */
    v->entry_interruption_info = INFO_VALID | EVT_HARDWARE << 8 | EXC_UD;
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert(!vmx_intercept_event(&cpu));
}
END_TEST

START_TEST(test_page_fault_mask)
{
    static const struct {
        bool bit;
        u32 mask, match, error;
        bool exits;
    } cases[] = {
        {true, 0, 0, 2, true}, {false, 0, 0, 2, false}, {true, 1, 1, 2, false},
        {true, 1, 1, 3, true}, {false, 1, 1, 2, true},  {false, 1, 1, 3, false},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        v->exception_bitmap = cases[n].bit ? BIT(EXC_PF) : 0;
        v->page_fault_error_mask = cases[n].mask;
        v->page_fault_error_match = cases[n].match;
        enter();
        raise_exception(EXC_PF, true, cases[n].error, 0x123456);
        ck_assert_int_eq(vmx_intercept_event(&cpu), cases[n].exits);
        if (cases[n].exits) {
            ck_assert_uint_eq(v->exit_qualification, 0x123456);
        } else {
            cpu.event.valid = 0;
            leave();
        }
    }
}
END_TEST

/* An event that ends in #DF or a triple fault is not reported as being delivered. */
START_TEST(test_no_vectoring)
{
    v->exception_bitmap = BIT(EXC_DF);
    enter();
    cpu.event.delivering = 1;
    cpu.event.d_vector = EXC_GP;
    cpu.event.d_type = EVT_HARDWARE;
    raise_exception(EXC_DF, true, 0, 0);
    ck_assert(vmx_intercept_event(&cpu));
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
    enter();
    cpu.event.delivering = 1;
    ck_assert(vmx_triple_fault(&cpu));
    ck_assert_uint_eq(v->exit_reason, EXIT_TRIPLE_FAULT);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
}
END_TEST

START_TEST(test_tpr_shadow)
{
    u8 tpr;
    enter();
    ck_assert(!vmx_tpr_read(&cpu, &tpr));
    leave();
    v->primary_controls |= PRIMARY_TPR_SHADOW;
    v->virtual_apic_address = BENCH_PAGE;
    bus_write(&bus, 0, BENCH_PAGE + 0x80, 4, 0x50);
    v->tpr_threshold = 4;
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert(vmx_tpr_read(&cpu, &tpr));
    ck_assert_uint_eq(tpr, 0x50);
    ck_assert(vmx_tpr_write(&cpu, 0x40));
    ck_assert(!(cpu.event.attention & ATT_VMX));
    ck_assert_uint_eq(bus_read(&bus, 0, BENCH_PAGE + 0x80, 4), 0x40);
    ck_assert(vmx_tpr_write(&cpu, 0x30));
    ck_assert(cpu.event.attention & ATT_VMX);
    cpu.core.rip += 4;                     /* the exit is trap-like */
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(v->exit_reason, EXIT_TPR_BELOW_THRESHOLD);
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP + 4);
}
END_TEST

/* The APIC-access page: with a TPR shadow, accesses to the TPR go to the virtual-APIC page; nothing else is virtualised. */
START_TEST(test_apic_access_page)
{
    u8 data[8] = {0};
    char message[100];
    ck_assert(vmx_policy_set(&cpu, "hardware", message, sizeof message));
    v->virtual_apic_address = BENCH_PAGE;
    v->apic_access_address = BENCH_PAGE + 0x1000;
    v->secondary_controls |= SECONDARY_APIC_ACCESSES;
    enter();
    ck_assert(!mem_apic_virtual_access(&cpu, 0, 0x80, 4, false, NULL));
    leave();
    v->primary_controls |= PRIMARY_TPR_SHADOW;
    v->tpr_threshold = 2;
    bus_write(&bus, 0, BENCH_PAGE + 0x80, 4, 0x50);
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert(!mem_apic_virtual_access(&cpu, 0, 0x90, 4, false, NULL));
    ck_assert(!mem_apic_virtual_access(&cpu, 0, 0x80, 8, false, NULL));
    ck_assert(mem_apic_virtual_access(&cpu, 0, 0x80, 4, false, NULL));
    ck_assert(mem_apic_virtual_access(&cpu, 0, 0x80, 4, false, data));
    ck_assert_uint_eq(data[0], 0x50);
    ck_assert(!(cpu.event.attention & ATT_VMX));
    store32(data, 0xffffff10);
    ck_assert(mem_apic_virtual_access(&cpu, 0, 0x80, 4, true, data));
    ck_assert_uint_eq(bus_read(&bus, 0, BENCH_PAGE + 0x80, 4), 0x10);
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(v->exit_reason, EXIT_TPR_BELOW_THRESHOLD);

    /* VM entry below the threshold exits at once. */
    enter();
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(v->exit_reason, EXIT_TPR_BELOW_THRESHOLD);
}
END_TEST

START_TEST(test_halted_guest)
{
    v->guest_activity = ACTIVITY_HLT;
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    enter();
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_HLT);
    ck_assert(cpu.event.attention & ATT_ACTIVITY);
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(v->guest_activity, ACTIVITY_HLT);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_ACTIVE);
    ck_assert(!(cpu.event.attention & ATT_ACTIVITY));
}
END_TEST

START_TEST(test_tsc)
{
    ck_assert_uint_eq(vmx_scale_tsc(&cpu, 100), 100);
    v->primary_controls |= PRIMARY_TSC_OFFSETTING;
    v->tsc_offset = (u64)-30;
    enter();
    ck_assert_uint_eq(vmx_scale_tsc(&cpu, 100), 70);
    v->secondary_controls |= SECONDARY_TSC_SCALING;
    v->tsc_multiplier = 3ull << 47;        /* 1.5 */
    ck_assert_uint_eq(vmx_scale_tsc(&cpu, 100), 120);
}
END_TEST

START_TEST(test_init_sipi)
{
    ck_assert_int_eq(vmx_init(&cpu), VMX_EVENT_BLOCKED);             /* VMX root operation */
    enter();
    ck_assert_int_eq(vmx_init(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(v->exit_reason, EXIT_INIT_SIGNAL);
    v->guest_activity = ACTIVITY_WAIT_SIPI;
    cpu.vmx.frame[0].checked = 0;
    enter();
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_WAIT_SIPI);
    ck_assert_int_eq(vmx_sipi(&cpu, 0x9a), VMX_EVENT_EXITED);
    ck_assert_uint_eq(v->exit_reason, EXIT_SIPI);
    ck_assert_uint_eq(v->exit_qualification, 0x9a);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_ACTIVE);
}
END_TEST

START_TEST(test_pending_debug)
{
    v->guest_pending_debug = BIT(14);
    enter();
    ck_assert(cpu.event.attention & ATT_PENDING_DB);
    ck_assert_uint_eq(cpu.event.pending_debug, BIT(14));
    leave();
    ck_assert_uint_eq(v->guest_pending_debug, 0);    /* an instruction ran, so it is delivered or lost */
    /* A step in the shadow of MOV SS is still to come. */
    v->guest_pending_debug = BIT(14);
    v->guest_interruptibility = BLOCK_MOV_SS;
    v->guest_rflags = FL_R1 | FL_TF;
    cpu.vmx.frame[0].checked = 0;
    enter();
    cpu.event.pending_debug = 0;
    leave();
    ck_assert_uint_eq(v->guest_pending_debug, BIT(14));
    v->guest_ia32_debugctl = 2;                      /* BTF: of branches alone */
    v->guest_pending_debug = 0;
    cpu.vmx.frame[0].checked = 0;
    enter();
    leave();
    ck_assert_uint_eq(v->guest_pending_debug, 0);
}
END_TEST

/* ---- random VMCSs ------------------------------------------------------------------------------------------------ */

static u64 seed = 1;
static u64 random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static u64 random_value(void)
{
    switch (random64() % 6) {
    case 0: return 0;
    case 1: return BIT(random64() % 64);
    case 2: return ~BIT(random64() % 64);
    case 3: return random64() % BENCH_RAM;
    case 4: return (random64() % BENCH_RAM) & ~0xfffull;
    default: return random64();
    }
}

/* Everything a guest and its surroundings may do to the frames. */
static void poke_around(void)
{
    static u8 data[16];
    for (unsigned n = 0; n < 12 && cpu.vmx.depth; n++) {
        u64 la = random64() % 3 ? random64() % BENCH_RAM : random64();
        struct vmx_ask any = {.reason = (u32)(random64() % EXIT_REASON_COUNT), .qualification = random64(),
                              .number = (u32)random64(), .size = 1u << random64() % 3, .value = random_value()};
        u8 tpr;
        u64 value;
        bool known;
        u32 msr = 0x800 + (u32)(random64() % 64);
        cpu.fault.kind = FAULT_NONE;
        switch (random64() % 13) {
        case 0: case 1:
            if (!mem_read_slow(&cpu, la, data, 1 + random64() % 16, ACCESS_READ) && cpu.fault.kind >= FAULT_EPT_VIOLATION &&
                cpu.fault.kind <= FAULT_EPT_MISCONFIG)
                vmx_memory_exit(&cpu);
            break;
        case 2: vmx_intercept(&cpu, &insn, &any); break;
        case 3: vmx_tpr_write(&cpu, (u8)random64()); break;
        case 10: vmx_msr_write(&cpu, msr, random_value(), &known); break;
        case 11: vmx_msr_read(&cpu, msr, &value, &known); break;
        case 12: vmx_virtual_interrupt(&cpu); cpu.event.valid = 0; break;
        case 4: vmx_tpr_read(&cpu, &tpr); break;
        case 5: vmx_attention(&cpu, (enum vmx_stage)(random64() % 4)); break;
        case 6: vmx_note_instruction(&cpu); break;
        case 7:
            raise_exception((u8)(random64() % 32), random64() & 1, (u32)random64(), random64());
            if (!vmx_intercept_event(&cpu))
                cpu.event.valid = 0;
            break;
        case 8: vmx_nmi(&cpu); break;
        default: vmx_iret_unblock_nmi(&cpu); board.tsc += random64() % 1000; break;
        }
    }
}

START_TEST(test_random_vmcs)
{
    static void (*const kinds[])(struct vmcs *) = {bench_vmcs_64, bench_vmcs_rich, bench_vmcs_apicv, bench_vmcs_real, bench_vmcs_v8086};
    unsigned entered = 0;
    for (unsigned round = 0; round < 20000; round++) {
        cpu.vmx.depth = 0;
        bench_long_mode(0);
        cpu.sys.cr4 |= CR4_VMXE;
        cpu.event = (struct cpu_event){0};
        cpu.core.rip = 0x1000;
        kinds[random64() % ARRAY_SIZE(kinds)](v);
        v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = 0;
        for (u64 n = random64() % 6; n > 0; n--)
            vmx_field_set(v, (unsigned)(random64() % VMX_FIELD_COUNT), random_value());
        cpu.vmx.frame[0].checked = 0;
        if (vmx_insn_enter(&cpu, &insn, true) != FLOW_EXIT || !cpu.vmx.depth)
            continue;
        entered++;
        poke_around();
        if (cpu.vmx.depth)
            vmx_intercept_simple(&cpu, &insn, EXIT_CPUID);
        ck_assert_uint_eq(cpu.vmx.depth, 0);
    }
    ck_assert_uint_gt(entered, 1000);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_guest_state_is_loaded, test_exit_saves_and_loads, test_cr0_bits_kept,
                                  test_injection, test_software_injection_length, test_entry_failure_guest_state,
                                  test_msr_lists, test_msr_list_refused, test_abort, test_preemption_timer,
                                  test_interrupt_window, test_nmi_window, test_monitor_trap_flag,
                                  test_external_interrupt, test_nmi_blocking, test_iret_unblocking_is_reported, test_cet_and_pkrs,
                                  test_spec_ctrl, test_tsc_in_store_list,
                                  test_exceptions, test_page_fault_mask, test_no_vectoring, test_tpr_shadow,
                                  test_apic_access_page, test_halted_guest, test_tsc, test_init_sipi,
                                  test_pending_debug, test_random_vmcs};
    return bench_run_with("vm entries and exits", tests, ARRAY_SIZE(tests), setup);
}
