/* Where emulators of VMX usually are not exact, one test each: interrupts that become deliverable by VM entry, INIT
 * while it cannot be taken, windows and timers of halted guests, the priority of what is due at one instruction
 * boundary, pending debug exceptions, canonical addresses by the CPU's width, error codes of injected events, entries
 * that fail half way, VMX aborts, guests that deliver events for ever.
 */
#include "cpu/bus_lock.h"
#include "cpu/decode.h"
#include "cpu/event.h"
#include "cpu/features.h"
#include "cpu/msr.h"
#include "cpu/table.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

#include "tests/vmx/bench_vmcs.h"

extern const insn_family h_rsm;

#define HOST_RIP 0x2000u
#define GUEST_RIP 0x3000u

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmx_frame *const frame = &cpu.vmx.frame[0];
static struct vmcs *const v = &cpu.vmx.frame[0].vmcs;

static int board_acknowledge(void *arg, struct cpu *c) { (void)arg, (void)c; return 0x31; }
static struct cpu_board with_interrupts;

static void setup(void)
{
    bench_hypervisor_setup();
    with_interrupts = bench_board;
    with_interrupts.interrupt_acknowledge = board_acknowledge;
    cpu.board = &with_interrupts;
    bench_vmcs_64(v);
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    v->host_rip = HOST_RIP;
    v->guest_rip = GUEST_RIP;
    v->guest_rsp = 0xa000;
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_hardware;
}

static void try_entry(void)
{
    cpu.core.rip = 0x1000;
    frame->checked = 0;
    vmx_insn_enter(&cpu, &insn, !v->launched);
}

static void enter(void)
{
    try_entry();
    ck_assert_msg(cpu.vmx.depth == 1, "exit reason %#x, error %u", (unsigned)v->exit_reason, (unsigned)v->vm_instruction_error);
}

/* The next instruction boundary makes this exit. */
static void ck_boundary(u32 reason)
{
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, reason);
}

static void list_entry(u64 gpa, u32 msr, u64 value)
{
    bus_write(&bus, 0, gpa, 8, msr);
    bus_write(&bus, 0, gpa + 8, 8, value);
}

/* ---- interrupts, INIT, activity states --------------------------------------------------------------------------- */

/* An interrupt that nobody could take before: IF is clear in the hypervisor and in the guest, but the guest exits. */
START_TEST(interrupt_taken_by_entry)
{
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    v->exit_controls |= VMEXIT_ACKNOWLEDGE_INTERRUPT;
    v->guest_rflags = FL_R1;
    cpu_set_rflags(&cpu, FL_R1);
    cpu.event.attention |= ATT_INTR;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    enter();
    ck_boundary(EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | 0x31);
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
    /* Blocking by MOV SS holds it back for an instruction, an injected event comes first. */
    v->guest_interruptibility = BLOCK_MOV_SS;
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
}
END_TEST

/* INIT stays pending in VMX root operation, exits below it, and stays pending while a start-up IPI is awaited. */
START_TEST(init_is_held)
{
    cpu.event.attention |= ATT_INIT;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert(cpu.event.attention & ATT_INIT);
    v->guest_activity = ACTIVITY_WAIT_SIPI;
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_END);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert(cpu.event.attention & ATT_INIT);
    cpu_signal(&cpu, ATT_SIPI, 0x9a, true);
    ck_boundary(EXIT_SIPI);
    ck_assert_uint_eq(v->exit_qualification, 0x9a);
    ck_assert(cpu.event.attention & ATT_INIT);
    v->guest_activity = 0;
    enter();
    ck_boundary(EXIT_INIT_SIGNAL);
    ck_assert(!(cpu.event.attention & ATT_INIT));
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP);      /* no register was reset */
}
END_TEST

/* In wait-for-SIPI everything else is blocked; in shutdown the timer, NMIs and INIT are not. */
START_TEST(inactive_guests)
{
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER;
    v->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING | PRIMARY_NMI_WINDOW_EXITING;
    v->guest_activity = ACTIVITY_WAIT_SIPI;
    enter();
    cpu.event.attention |= ATT_INTR | ATT_NMI;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_END);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    cpu_signal(&cpu, ATT_SIPI, 1, true);
    ck_boundary(EXIT_SIPI);
    cpu.event.attention &= ~(u32)(ATT_INTR | ATT_NMI);

    v->guest_activity = ACTIVITY_SHUTDOWN;
    enter();
    ck_boundary(EXIT_PREEMPTION_TIMER);              /* a value of 0 */
    ck_assert_uint_eq(v->guest_activity, ACTIVITY_SHUTDOWN);
    v->pin_controls &= ~(u64)PIN_PREEMPTION_TIMER;
    enter();
    cpu.event.attention |= ATT_INTR;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_END);    /* neither window nor interrupt */
    cpu.event.attention |= ATT_NMI;
    ck_boundary(EXIT_EXCEPTION_NMI);
}
END_TEST

/* An open window ends HLT [SDM3 "VM Exits Caused by Interrupt-Window Exiting"]. */
START_TEST(windows_of_halted_guests)
{
    v->guest_activity = ACTIVITY_HLT;
    v->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING;
    enter();
    ck_boundary(EXIT_INTERRUPT_WINDOW);
    ck_assert_uint_eq(v->guest_activity, ACTIVITY_HLT);
    v->guest_rflags = FL_R1;
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_END);
    cpu.vmx.depth = 0;
    v->primary_controls = (v->primary_controls & ~(u64)PRIMARY_INTERRUPT_WINDOW_EXITING) | PRIMARY_NMI_WINDOW_EXITING;
    v->pin_controls |= PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    cpu.event = (struct cpu_event){0};
    enter();
    ck_boundary(EXIT_NMI_WINDOW);
}
END_TEST

/* ---- priorities -------------------------------------------------------------------------------------------------- */

static void enter_with_lines(void)
{
    cpu.event = (struct cpu_event){.attention = cpu.event.attention & ATT_INIT};     /* the hypervisor's own is over */
    enter();
    cpu.event.attention |= ATT_NMI | ATT_INTR;
}

/* All is due at one boundary. As each cause goes away the next one shows [SDM3 "Priority Among Concurrent Events",
 * "Special Features of VM Entry"]. */
START_TEST(priorities)
{
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER;
    v->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING | PRIMARY_NMI_WINDOW_EXITING | PRIMARY_TPR_SHADOW;
    v->secondary_controls |= SECONDARY_APIC_ACCESSES;
    v->virtual_apic_address = BENCH_PAGE;
    v->apic_access_address = BENCH_PAGE + 0x1000;
    v->tpr_threshold = 3;                            /* the virtual TPR is 0x20 */
    v->guest_pending_debug = BIT(14);
    v->exception_bitmap = BIT(EXC_DB);
    cpu.event.attention |= ATT_INIT;
    enter_with_lines();
    ck_boundary(EXIT_INIT_SIGNAL);
    enter_with_lines();
    ck_boundary(EXIT_TPR_BELOW_THRESHOLD);
    ck_assert_uint_eq(v->guest_pending_debug, BIT(14));
    v->tpr_threshold = 0;
    v->entry_interruption_info = INFO_VALID | EVT_OTHER << 8;
    enter_with_lines();
    ck_boundary(EXIT_MONITOR_TRAP_FLAG);
    ck_assert_uint_eq(v->guest_pending_debug, BIT(14));
    enter_with_lines();
    ck_boundary(EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | EVT_HARDWARE << 8 | EXC_DB);
    ck_assert_uint_eq(v->exit_qualification, BIT(14));
    v->guest_pending_debug = 0;
    enter_with_lines();
    ck_boundary(EXIT_PREEMPTION_TIMER);
    v->pin_controls &= ~(u64)PIN_PREEMPTION_TIMER;
    enter_with_lines();
    ck_boundary(EXIT_NMI_WINDOW);
    v->primary_controls &= ~(u64)PRIMARY_NMI_WINDOW_EXITING;
    enter_with_lines();
    ck_boundary(EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | EVT_NMI << 8 | EXC_NMI);
    enter_with_lines();
    cpu.event.attention &= ~(u32)ATT_NMI;
    ck_boundary(EXIT_INTERRUPT_WINDOW);
    v->primary_controls &= ~(u64)PRIMARY_INTERRUPT_WINDOW_EXITING;
    enter_with_lines();
    cpu.event.attention &= ~(u32)ATT_NMI;
    ck_boundary(EXIT_EXTERNAL_INTERRUPT);
}
END_TEST

/* ---- pending debug exceptions ------------------------------------------------------------------------------------ */

START_TEST(pending_debug_exceptions)
{
    v->exception_bitmap = BIT(EXC_DB);
    v->guest_pending_debug = 0xf;                    /* breakpoints, none of them enabled */
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    cpu.vmx.depth = 0;
    v->guest_pending_debug = 1 | BIT(12);
    enter();
    ck_boundary(EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_qualification, 1);     /* bit 12 is not in DR6's format */
    ck_assert(!(v->guest_rflags & FL_RF));           /* a trap */
    /* Behind MOV SS they wait for the next instruction, and an exit meanwhile saves them. */
    v->guest_pending_debug = 2 | BIT(12) | BIT(14);
    v->guest_interruptibility = BLOCK_MOV_SS;
    v->guest_rflags = FL_R1 | FL_TF;
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(v->guest_pending_debug, 2 | BIT(12) | BIT(14));
    ck_assert_uint_eq(v->guest_interruptibility, BLOCK_MOV_SS);
    /* Blocking by STI does not hold them back, and an exit that they cause saves none: a hypervisor that takes the blocking away must not
     * meet the same single step again. */
    v->guest_interruptibility = BLOCK_STI;
    v->guest_rflags = FL_R1 | FL_TF | FL_IF;
    enter();
    ck_boundary(EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_qualification, 2 | BIT(14));
    ck_assert_uint_eq(v->guest_interruptibility, BLOCK_STI);
    ck_assert_uint_eq(v->guest_pending_debug, 0);
}
END_TEST

/* Bit 11: in these fields 1 stands for a bus lock, in DR6 it is 0. */
START_TEST(pending_bus_lock)
{
    bench_model("base,+bus-lock-detect");
    v->exception_bitmap = BIT(EXC_DB);
    v->guest_pending_debug = BIT(11);
    v->guest_interruptibility = BLOCK_MOV_SS;
    enter();
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(v->guest_pending_debug, BIT(11));
    v->guest_interruptibility = 0;
    u64 dr6 = cpu.sys.dr6;
    enter();
    ck_boundary(EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_qualification, BIT(11));
    ck_assert_uint_eq(cpu.sys.dr6, dr6);
    ck_assert_uint_eq(v->guest_pending_debug, 0);
    /* Without bus-lock detection the bit is reserved. */
    bench_model("base");
    v->guest_pending_debug = BIT(11);
    try_entry();
    ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_GUEST_STATE | BIT(31));
}
END_TEST

/* ---- checks ------------------------------------------------------------------------------------------------------ */

/* Addresses in the VMCS are canonical by the width that the CPU has at most, whatever CR4.LA57 says. */
START_TEST(canonical_by_the_cpu)
{
    static const struct { unsigned field; u32 outcome; } row[] = {
        {VMX_FIELD_host_fs_base, 8}, {VMX_FIELD_host_gs_base, 8}, {VMX_FIELD_host_tr_base, 8}, {VMX_FIELD_host_gdtr_base, 8},
        {VMX_FIELD_host_idtr_base, 8}, {VMX_FIELD_host_sysenter_esp, 8}, {VMX_FIELD_host_sysenter_eip, 8},
        {VMX_FIELD_guest_fs_base, 33}, {VMX_FIELD_guest_gs_base, 33}, {VMX_FIELD_guest_tr_base, 33},
        {VMX_FIELD_guest_ldtr_base, 33}, {VMX_FIELD_guest_gdtr_base, 33}, {VMX_FIELD_guest_idtr_base, 33},
        {VMX_FIELD_guest_sysenter_esp, 33}, {VMX_FIELD_guest_sysenter_eip, 33}, {VMX_FIELD_guest_rip, 33},
    };
    static const struct { const char *model; u64 good, bad; } cpus[] = {
        {"base", 0xffff800000000000ull, 0x0001000000000000ull},
        {"base,+la57", 0x00ff800000000000ull, 0x0200000000000000ull},
    };
    for (unsigned c = 0; c < 2; c++) {
        bench_model(cpus[c].model);
        for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
            for (unsigned bad = 0; bad < 2; bad++) {
                setup();
                bench_model(cpus[c].model);
                vmx_field_set(v, row[n].field, bad ? cpus[c].bad : cpus[c].good);
                v->vm_instruction_error = v->exit_reason = 0;
                try_entry();
                ck_assert_msg((cpu.vmx.depth == 1) == !bad, "%s, %s: depth %u", cpus[c].model, vmx_field_info(row[n].field)->name, cpu.vmx.depth);
                if (bad)
                    ck_assert_uint_eq(row[n].outcome == 8 ? v->vm_instruction_error : (u8)v->exit_reason, row[n].outcome);
                bench_teardown();
            }
        }
    }
    setup();
}
END_TEST

/* Which events may be injected with which vector and error code [SDM3 "VM-Entry Control Fields"]. */
START_TEST(injection_rules)
{
    for (unsigned cet = 0; cet < 2; cet++) {
        for (unsigned type = 0; type < 8; type++) {
            for (unsigned vector = 0; vector < 256; vector++) {
                for (unsigned error = 0; error < 2; error++) {
                    bool has = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
                    bool good = type == 0 || type == 4 || type == 5 || type == 6 || (type == 2 && vector == 2)
                                || (type == 3 && vector < 32) || (type == 7 && vector == 0);
                    good = good && (type == 3 ? cet || has == error : !error);
                    bench_model(cet ? "base,+cet-ss" : "base");
                    v->entry_interruption_info = INFO_VALID | error << 11 | type << 8 | vector;
                    v->entry_instruction_length = 1;
                    frame->checked = 0;
                    struct vmx_check_failure failure;
                    bool ok = vmx_check_entry(&cpu, 0, &failure);
                    ck_assert_msg(ok == good, "type %u vector %u error %u cet %u: %s", type, vector, error, cet,
                                  ok ? "passes" : vmx_check_info(failure.id)->name);
                }
            }
        }
    }
}
END_TEST

/* ---- entries and exits that fail --------------------------------------------------------------------------------- */

/* The third MSR cannot be loaded: the first two stay, the host's list is loaded over them, nothing of the guest is saved,
 * the event is not consumed. */
START_TEST(entry_fails_half_way)
{
    u64 area = BENCH_PAGE + 0x400;
    list_entry(area, 0xc0000082, 0x1111);
    list_entry(area + 16, 0xc0000083, 0x2222);
    list_entry(area + 32, 0xc0000082, 0x0000800000000000ull);
    v->entry_msr_load_address = area;
    v->entry_msr_load_count = 3;
    list_entry(area + 0x100, 0xc0000083, 0x3333);
    v->exit_msr_load_address = area + 0x100;
    v->exit_msr_load_count = 1;
    list_entry(area + 0x200, 0xc0000082, 0x77);
    v->exit_msr_store_address = area + 0x200;
    v->exit_msr_store_count = 1;
    v->entry_interruption_info = INFO_VALID | 0x40;
    v->guest_rip = 0x4444;
    v->host_sysenter_cs = 0x99;
    try_entry();
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_MSR_LOADING | 0x80000000u);
    ck_assert_uint_eq(v->exit_qualification, 3);
    ck_assert_uint_eq(cpu.sys.lstar, 0x1111);
    ck_assert_uint_eq(cpu.sys.cstar, 0x3333);
    ck_assert_uint_eq(cpu.sys.sysenter_cs, 0x99);
    ck_assert_uint_eq(cpu.core.rip, HOST_RIP);
    ck_assert_uint_eq(v->guest_rip, 0x4444);
    ck_assert(v->entry_interruption_info & INFO_VALID);
    ck_assert(!cpu.event.valid);
    ck_assert_uint_eq(bench_peek64(area + 0x208), 0x77);     /* no MSRs are stored */
    ck_assert_uint_eq(v->launched, 0);
}
END_TEST

static void ck_vmx_abort(u32 indicator)
{
    vmx_intercept_simple(&cpu, &insn, EXIT_CPUID);
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_SHUTDOWN);
    ck_assert_uint_eq(bus_read(&bus, 0, BENCH_VMCS + 4, 4), indicator);
}

START_TEST(abort_saving_msrs)
{
    list_entry(BENCH_PAGE + 0x400, 0x12345678, 0);
    v->exit_msr_store_address = BENCH_PAGE + 0x400;
    v->exit_msr_store_count = 1;
    enter();
    ck_vmx_abort(1);
}
END_TEST

/* A 32-bit hypervisor with PAE paging whose PDPTEs have gone bad. */
START_TEST(abort_host_pdptes)
{
    bench_vmcs_v8086(v);
    v->exit_controls &= ~(u64)(VMEXIT_HOST_ADDRESS_SPACE_SIZE | VMEXIT_LOAD_EFER);
    v->host_cr3 = BENCH_PDPTES;
    cpu.sys.efer = 0;
    cpu_mode_update(&cpu);
    enter();
    bench_poke64(BENCH_PDPTES + 8, 3);
    ck_vmx_abort(2);
}
END_TEST

/* ---- what exits tell --------------------------------------------------------------------------------------------- */

/* "NMI unblocking due to IRET" is reported for the fault of that IRET, but not for #DF, nor while an event was being
 * delivered [SDM3 "Information About NMI Unblocking Due to IRET"]. */
START_TEST(nmi_unblocking)
{
    static const struct { u8 vector; bool delivering, reported; } row[] = {
        {EXC_PF, false, true}, {EXC_GP, false, true}, {EXC_DF, false, false}, {EXC_PF, true, false},
    };
    v->pin_controls |= PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    v->exception_bitmap = ~0u;
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        enter();
        cpu.event.nmi_unblocking_iret = 1;
        cpu.event.delivering = row[n].delivering;
        cpu.event.d_vector = 0x33;
        cpu_raise(&cpu, row[n].vector);
        cpu.event.has_error = 1;
        ck_assert(vmx_intercept_event(&cpu));
        ck_assert_uint_eq(v->exit_interruption_info >> 12 & 1, row[n].reported);
        ck_assert_uint_eq(v->idt_vectoring_info >> 31, row[n].delivering);
    }
    /* An EPT violation during delivery has it neither; PML's full log has it. */
    enter();
    cpu.event.nmi_unblocking_iret = 1;
    cpu.fault = (struct mem_fault){.kind = FAULT_EPT_LOG_FULL};
    vmx_memory_exit(&cpu);
    ck_assert_uint_eq(v->exit_qualification, BIT(12));
}
END_TEST

/* The launch state belongs to the VMCS: VMCLEAR of the current one clears it, and only that. */
START_TEST(launch_state)
{
    enter();
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(v->launched, 1);
    cpu.core.rip = 0x1000;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, true), FLOW_END);
    ck_assert_uint_eq(v->vm_instruction_error, VMX_ERROR_VMLAUNCH_NOT_CLEAR);
    u64 rip = v->guest_rip;
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, BENCH_VMCS), FLOW_END);
    ck_assert_uint_eq(frame->vmcs_ptr, VMX_NO_VMCS);
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, true), FLOW_END);   /* none is current */
    ck_assert(cpu_rflags(&cpu) & FL_CF);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, BENCH_VMCS), FLOW_END);
    ck_assert_uint_eq(v->launched, 0);
    ck_assert_uint_eq(v->guest_rip, rip);
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, false), FLOW_END);
    ck_assert_uint_eq(v->vm_instruction_error, VMX_ERROR_VMRESUME_NOT_LAUNCHED);
    /* In the shadow of MOV SS that comes before the launch state is looked at. */
    cpu.event.blocking = BLOCK_MOV_SS;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, false), FLOW_END);
    ck_assert_uint_eq(v->vm_instruction_error, VMX_ERROR_ENTRY_BLOCKED_BY_MOV_SS);
    cpu.event.blocking = 0;
    enter();
}
END_TEST

/* VM exits save PDPTEs when EPT is on and the guest uses PAE paging, and entries take them from the VMCS, not from
 * memory. */
START_TEST(pdptes_under_ept)
{
    bench_vmcs_32(v, true);
    v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = 0;
    v->primary_controls &= ~(u64)(PRIMARY_NMI_WINDOW_EXITING | PRIMARY_TPR_SHADOW);
    v->pin_controls &= ~(u64)PIN_PREEMPTION_TIMER;
    v->exit_controls &= ~(u64)VMEXIT_SAVE_PREEMPTION_TIMER;
    v->host_rip = HOST_RIP;
    v->guest_cr3 = BENCH_PDPTES;
    bench_poke64(BENCH_PDPTES, 0xbad7);
    v->guest_pdpte0 = 0x5001;
    v->guest_pdpte3 = 0x6001;
    enter();
    ck_assert_uint_eq(cpu.sys.pdpte[0], 0x5001);
    cpu.sys.pdpte[1] = 0x7001;
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(v->guest_pdpte0, 0x5001);
    ck_assert_uint_eq(v->guest_pdpte1, 0x7001);
    ck_assert_uint_eq(v->guest_pdpte3, 0x6001);
    v->guest_pdpte2 = 1 | 1 << 5;
    try_entry();
    ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_GUEST_STATE | 0x80000000u);
    ck_assert_uint_eq(v->exit_qualification, 2);
}
END_TEST

/* ---- bus locks ------------------------------------------------------------------------------------------------------ */

/* The guest runs one instruction, as blocks of a mode that watches locks have it. */
static void run_watched(const char *bytes, unsigned n)
{
    struct insn in;
    insn_table_init();
    ck_assert_int_eq(insn_decode(cpu.feature, cpu.mode.code_bits, (const u8 *)bytes, n, &in), DECODE_OK);
    insn_handler *handler = cpu.mode.locks ? bus_lock_handler(&in) : in.handler;
    ck_assert_int_eq(handler(&cpu, &in), FLOW_NEXT);
    cpu.core.rip += n;
}
#define LOCK_ADD "\xf0\x01\x03"             /* lock add %eax, (%rbx) */

/* "VMM bus-lock detection": the exit comes behind the instruction, before INIT, SMIs and traps, which it saves, and its reason says so twice. */
START_TEST(bus_lock_exits)
{
    bench_model("base");
    cpu.sys.mtrr_def_type = BIT(11) | 6;
    cpu.sys.cr0 &= ~(u64)(CR0_CD | CR0_NW);
    v->secondary_controls |= SECONDARY_BUS_LOCK_DETECTION;
    enter();
    ck_assert_uint_eq(cpu.mode.locks, LOCKS_VMM);
    cpu.core.rax = 1;
    cpu.core.rbx = 0x9000;
    run_watched(LOCK_ADD, 3);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);      /* within a line: no bus lock */
    cpu.core.rbx = 0x903e;
    run_watched("\x01\x03", 2);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);      /* not locked */
    cpu.core.rip = GUEST_RIP;
    cpu_set_rflags(&cpu, FL_TF);
    run_watched(LOCK_ADD, 3);
    cpu_pend_debug(&cpu, DR6_BS);
    cpu.event.attention |= ATT_INIT | ATT_SMI | ATT_NMI;
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_BUS_LOCK | BIT(26));
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP + 3);
    ck_assert_uint_eq(v->guest_pending_debug, BIT(14));
    ck_assert_uint_eq(bench_peek64(0x903e) & 0xffffffff, 2);    /* it was not prevented */
    ck_assert(cpu.smm.active && cpu.smm.depth == 0);             /* the SMI came behind it */
    cpu.event.attention &= ~(u32)(ATT_INIT | ATT_NMI);
    struct insn rsm = bench_insn(OSZ_16);
    ck_assert_int_eq(bench_run_insn(h_rsm, rsm), FLOW_EXIT);
    ck_assert(frame->vmxon && !cpu.smm.active);
    v->guest_pending_debug = 0;
    v->guest_rflags = FL_R1;

    /* XCHG, and any locked access to memory that is not write-back */
    enter();
    cpu.core.rbx = 0x903f;
    run_watched("\x87\x03", 2);
    ck_boundary(EXIT_BUS_LOCK | BIT(26));
    cpu.sys.mtrr_def_type = BIT(11);
    enter();
    cpu.core.rbx = 0x9000;
    run_watched(LOCK_ADD, 3);
    ck_boundary(EXIT_BUS_LOCK | BIT(26));
    /* A later exit knows of none, and without the control nobody looks. */
    enter();
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(v->exit_reason, EXIT_CPUID);
    v->secondary_controls &= ~(u64)SECONDARY_BUS_LOCK_DETECTION;
    enter();
    ck_assert_uint_eq(cpu.mode.locks, 0);
    cpu.core.rbx = 0x903f;
    run_watched(LOCK_ADD, 3);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
}
END_TEST

/* ---- guests that get nowhere ------------------------------------------------------------------------------------- */

#define GDT 0x6000u
#define IDT 0x7000u
#define HANDLER 0x5000u

/* A code breakpoint on the first instruction of the handler of #DB: events are delivered for ever. The frame's
 * instruction timeout ends that. */
START_TEST(instruction_timeout)
{
    bench_poke64(GDT + 8, 0x00209b0000000000ull);
    bench_poke64(IDT + 16 * EXC_DB, (u64)0x8e << 40 | 0x08 << 16 | HANDLER);
    bench_poke64(IDT + 16 * EXC_DB + 8, 0);
    v->guest_gdtr_base = GDT;
    v->guest_idtr_base = IDT;
    v->guest_rip = HANDLER;
    v->guest_rsp = 0x3ffff0;
    v->guest_dr7 = DR7_FIXED | 1;
    cpu.sys.dr[0] = HANDLER;
    v->secondary_controls |= SECONDARY_INSTRUCTION_TIMEOUT;
    v->instruction_timeout_control = 100;
    board.tsc = 1000;
    enter();
    for (unsigned n = 0; n < 100; n++, board.tsc++) {
        ck_assert_int_eq(cpu_service_events(&cpu), FLOW_EVENT);
        ck_assert_uint_eq(cpu.vmx.depth, 1);
    }
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_INSTRUCTION_TIMEOUT);
    ck_assert_uint_eq(v->exit_qualification, 0);
    ck_assert_uint_eq(v->guest_rip, HANDLER);
    /* One that gets on is left alone. */
    v->guest_dr7 = DR7_FIXED;
    enter();
    for (unsigned n = 0; n < 200; n++, board.tsc++)
        ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {interrupt_taken_by_entry, init_is_held, inactive_guests, windows_of_halted_guests,
                                  priorities, pending_debug_exceptions, pending_bus_lock, canonical_by_the_cpu, injection_rules,
                                  entry_fails_half_way, abort_saving_msrs, abort_host_pdptes, nmi_unblocking,
                                  launch_state, pdptes_under_ept, bus_lock_exits, instruction_timeout};
    return bench_run_with("vmx corners", tests, ARRAY_SIZE(tests), setup);
}
