/* The dual-monitor treatment of SMIs and SMM: activation by VMCALL with each of its failures, SMM VM exits from VMX root operation and from
 * guests, VM entries that return from SMM, guests in SMM, deactivation; and that no level but L1 is offered any of it.
 */
#include "cpu/event.h"
#include "cpu/features.h"
#include "cpu/smm.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

#include "tests/vmx/bench_vmcs.h"

extern const insn_family h_rsm;

#define MSEG 0x280000u
#define TRANSFER 0x240000u                 /* the SMM-transfer VMCS that the executive monitor makes */
#define OWN 0x242000u                      /* the executive monitor's for its guest */
#define IN_SMM 0x244000u                   /* the SMM-transfer monitor's for a guest in SMM */
#define VMXON_REGION 0x246000u
#define STM_RIP 0x5000u
#define GUEST_RIP 0x3000u

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmx_frame *const frame = &cpu.vmx.frame[0];
static struct vmcs *const v = &cpu.vmx.frame[0].vmcs;
static int board_acknowledge(void *arg, struct cpu *c) { (void)arg, (void)c; return 0x31; }
static struct cpu_board smm_board;

static void make_current(u64 gpa)
{
    bus_write(&bus, 0, gpa, 4, VMCS_REVISION);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, gpa), FLOW_END);
    ck_assert_uint_eq(frame->vmcs_ptr, gpa);
}

/* A region with a VMCS that was never launched. */
static void prepare(u64 gpa, void (*make)(struct vmcs *))
{
    make_current(gpa);
    make(v);
    vmx_check_note_all(frame);
}

static void mseg(unsigned word, u32 value) { bus_write(&bus, 0, MSEG + 4 * word, 4, value); }

static void setup(void)
{
    bench_hypervisor_setup();
    smm_board = bench_board;
    smm_board.interrupt_acknowledge = board_acknowledge;
    cpu.board = &smm_board;
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_hardware;
    frame->vmcs_ptr = VMX_NO_VMCS;
    frame->vmxon_ptr = VMXON_REGION;
    bus_write(&bus, 0, VMXON_REGION, 4, VMCS_REVISION);
    static const u32 header[] = {VMX_MSEG_REVISION, 1, 0x77, 0x100, 0x1b, 0x200, 0x3000, 0x1018};
    for (unsigned n = 0; n < ARRAY_SIZE(header); n++)
        mseg(n, header[n]);
    cpu.smm.monitor_ctl = MSEG | SMM_MONITOR_VALID;
}

static enum flow vmcall(void)
{
    cpu.core.rip = 0x1000;
    return vmx_insn_vmcall(&cpu, &insn);
}

#define CK_FAILS(error)                                                                                                \
    do {                                                                                                               \
        ck_assert_int_eq(vmcall(), FLOW_END);                                                                          \
        ck_assert_uint_eq(v->vm_instruction_error, error);                                                             \
        ck_assert(cpu_rflags(&cpu) & FL_ZF);                                                                           \
        ck_assert_uint_eq(cpu.smm.active | cpu.smm.dual_monitor, 0);                                                   \
    } while (0)

/* The monitor's own VMCS, valid to return to root, and its host state. */
static void stm_vmcs(void)
{
    struct vmcs valid;
    bench_vmcs_64(&valid);
    v->pin_controls = valid.pin_controls;
    v->primary_controls = valid.primary_controls;
    v->exit_controls = valid.exit_controls;
    v->entry_controls = valid.entry_controls;
    v->guest_ia32_pat = v->host_ia32_pat = valid.host_ia32_pat;
    v->guest_ia32_efer = EFER_LME | EFER_LMA;
    v->host_cr0 = valid.host_cr0;
    v->host_cr3 = BENCH_TABLES;
    v->host_cr4 = valid.host_cr4;
    v->host_ia32_efer = valid.host_ia32_efer;
    v->host_cs_selector = 8;
    v->host_ss_selector = 0x10;
    v->host_tr_selector = 0x40;
    v->host_tr_base = BENCH_TSS;
    v->host_rip = STM_RIP;
    vmx_check_note_all(frame);
}

static void activate(void)
{
    prepare(TRANSFER, bench_vmcs_64);
    cpu.seg.s[SEG_LDTR] = (struct segment){.access = AR_UNUSABLE};
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(cpu.smm.dual_monitor, 1);
    stm_vmcs();
}

/* The monitor returns. */
static void go_back(void)
{
    cpu.core.rip = 0x6000;
    vmx_insn_enter(&cpu, &insn, !v->launched);
    ck_assert_msg(!cpu.smm.active, "error %u, exit reason %#x", (unsigned)v->vm_instruction_error, (unsigned)v->exit_reason);
}

static void go_back_to_root(void)
{
    v->guest_rip += v->exit_instruction_length;
    v->vmcs_link_pointer = ~0ull;
    go_back();
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}

static void smi(void)
{
    cpu_signal(&cpu, ATT_SMI, 0, true);
    cpu_service_events(&cpu);
}

/* ---- what is offered ---------------------------------------------------------------------------------------------- */

START_TEST(capabilities)
{
    u64 value;
    bool known;
    ck_assert(vmx_capability(&cpu, MSR_IA32_VMX_BASIC) & BIT(49));
    ck_assert(vmx_capability(&cpu, MSR_IA32_VMX_MISC) & BIT(15));
    ck_assert(vmx_capability(&cpu, MSR_IA32_VMX_MISC) & BIT(28));
    ck_assert_uint_eq(vmx_capability(&cpu, MSR_IA32_VMX_MISC) >> 32, VMX_MSEG_REVISION);
    ck_assert_uint_eq(vmx_capability(&cpu, MSR_IA32_VMX_ENTRY_CTLS) >> 42 & 3, 3);
    ck_assert(vmx_msr_read(&cpu, 0x9b, &value, &known) && value == (MSEG | 1));
    ck_assert(!vmx_msr_write(&cpu, 0x9b, 0, &known) && known);          /* outside SMM */
    ck_assert(!vmx_msr_read(&cpu, 0x9e, &value, &known) && known);
    cpu.smm.active = 1;
    ck_assert(vmx_msr_read(&cpu, 0x9e, &value, &known) && value == 0x30000);
    ck_assert(!vmx_msr_write(&cpu, 0x9e, 0, &known));
    ck_assert(!vmx_msr_write(&cpu, 0x9b, 2, &known));
    ck_assert(!vmx_msr_write(&cpu, 0x9b, 1ull << 32, &known));
    ck_assert(vmx_msr_write(&cpu, 0x9b, 0x7f0005, &known));
    ck_assert_uint_eq(cpu.smm.monitor_ctl, 0x7f0005);
    cpu.smm.active = 0;
    /* L2 and deeper: nothing, whoever gives them VMX. */
    cpu.vmx.depth = 1;
    ck_assert(!(vmx_capability(&cpu, MSR_IA32_VMX_BASIC) & BIT(49)));
    ck_assert_uint_eq(vmx_capability(&cpu, MSR_IA32_VMX_ENTRY_CTLS) >> 42 & 3, 0);
    ck_assert_uint_eq(vmx_capability(&cpu, MSR_IA32_VMX_MISC) >> 32, 0);
    ck_assert(vmx_msr_read(&cpu, 0x9b, &value, &known) && value == 0x7f0005);    /* as L1 lets it through to the processor */
    cpu.vmx.frame[1].offered = 1;
    ck_assert(!vmx_msr_read(&cpu, 0x9b, &value, &known) && known);
    cpu.vmx.frame[1].offered = 0;
    cpu.vmx.depth = 0;
}
END_TEST

/* ---- activation --------------------------------------------------------------------------------------------------- */

START_TEST(failures)
{
    /* no current VMCS: VMfailInvalid */
    ck_assert_int_eq(vmcall(), FLOW_END);
    ck_assert(cpu_rflags(&cpu) & FL_CF);
    prepare(TRANSFER, bench_vmcs_64);
    cpu.smm.monitor_ctl = MSEG;
    CK_FAILS(1);
    cpu.smm.monitor_ctl = MSEG | SMM_MONITOR_VALID;
    v->launched = 1;
    CK_FAILS(19);
    v->launched = 0;
    v->exit_controls |= VMEXIT_CLEAR_RTIT_CTL;
    CK_FAILS(20);
    bench_vmcs_64(v);
    mseg(0, VMX_MSEG_REVISION + 1);
    CK_FAILS(22);
    mseg(0, VMX_MSEG_REVISION);
    mseg(1, 3);
    CK_FAILS(24);
    mseg(1, 0);                                      /* a 32-bit monitor out of 64-bit mode */
    CK_FAILS(24);
    mseg(1, 1);
    cpu.seg.s[SEG_SS].access |= AR_DPL;
    cpu_mode_update(&cpu);
    ck_assert_int_eq(vmcall(), FLOW_EVENT);
    ck_assert_int_eq(cpu.event.vector, EXC_GP);
}
END_TEST

START_TEST(activation)
{
    cpu.sys.cr4 |= CR4_PGE | CR4_MCE;
    cpu.sys.dr7 = 0x455;
    cpu.seg.idtr = (struct table_register){.base = 0x7000, .limit = 0xfff};
    cpu.seg.s[SEG_GS].base = 0x123000;
    bench_vmcs_64(v);
    prepare(TRANSFER, bench_vmcs_64);
    u64 cr0 = cpu.sys.cr0, cr4 = cpu.sys.cr4;
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    /* the exit, in the VMCS that was current */
    ck_assert_uint_eq(v->exit_reason, EXIT_VMCALL | BIT(29));
    ck_assert_uint_eq(v->exit_instruction_length, 3);
    ck_assert_uint_eq(v->executive_vmcs_pointer, VMXON_REGION);
    ck_assert_uint_eq(v->vmcs_link_pointer, TRANSFER);
    ck_assert_uint_eq(v->guest_smbase, 0x30000);
    ck_assert_uint_eq(v->guest_rip, 0x1000);
    ck_assert_uint_eq(v->guest_cr0, cr0);
    ck_assert_uint_eq(v->guest_cr4, cr4);
    ck_assert_uint_eq(v->guest_gs_base, 0x123000);
    ck_assert_uint_eq(v->guest_interruptibility, 0);
    /* the monitor, as MSEG's header says */
    ck_assert_uint_eq(cpu.sys.cr0, CR0_PE | CR0_MP | CR0_ET | CR0_NE | (u64)CR0_PG);
    ck_assert_uint_eq(cpu.sys.cr3, MSEG + 0x1018);
    ck_assert_uint_eq(cpu.sys.cr4, (cr4 & ~(u64)(CR4_PGE | CR4_MCE)) | CR4_PAE);
    ck_assert_uint_eq(cpu.sys.efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
    ck_assert_uint_eq(cpu.sys.dr7, 0x400);
    ck_assert_uint_eq(cpu.seg.gdtr.base, MSEG + 0x100);
    ck_assert_uint_eq(cpu.seg.gdtr.limit, 0x77);
    ck_assert_uint_eq(cpu.seg.idtr.base, 0x7000);
    ck_assert_uint_eq(cpu.seg.idtr.limit, 0);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 0x18);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].access, 0xa09b);
    ck_assert_uint_eq(cpu.seg.s[SEG_GS].selector, 0x20);
    ck_assert_uint_eq(cpu.seg.s[SEG_GS].base, 0);
    ck_assert_uint_eq(cpu.seg.s[SEG_SS].access, 0xc093);
    ck_assert_uint_eq(cpu.seg.s[SEG_LDTR].access, AR_UNUSABLE);
    ck_assert_uint_eq(cpu.core.rip, MSEG + 0x200);
    ck_assert_uint_eq(cpu.core.rsp, MSEG + 0x3000);
    ck_assert_uint_eq(cpu_rflags(&cpu), FL_R1);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI | BLOCK_NMI);
    ck_assert_int_eq(cpu.mode.code_bits, BITS_64);
    /* it cannot leave by RSM, VMXOFF or VMCALL */
    ck_assert_int_eq(bench_run_insn(h_rsm, bench_insn(OSZ_16)), FLOW_EVENT);
    ck_assert_int_eq(bench_exception(), EXC_UD);
    bench_clear();
    ck_assert_int_eq(vmx_insn_vmxoff(&cpu, &insn), FLOW_END);
    ck_assert_uint_eq(v->vm_instruction_error, 23);
    ck_assert_int_eq(vmcall(), FLOW_END);
    ck_assert_uint_eq(v->vm_instruction_error, 1);
}
END_TEST

/* A monitor in 32-bit mode; the corner of its selectors. */
START_TEST(activation_32)
{
    bench_long_mode(0);
    bench_protected_mode(0);
    cpu.sys.cr0 |= (u64)CR0_PG;
    cpu.sys.cr4 = CR4_VMXE;
    cpu.sys.efer = 0;
    cpu_mode_update(&cpu);
    mseg(1, 0);
    mseg(4, 0x12345fffu);
    prepare(TRANSFER, bench_vmcs_64);
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    ck_assert_uint_eq(cpu.sys.cr4, CR4_VMXE | CR4_PSE);
    ck_assert_uint_eq(cpu.sys.efer, 0);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 0x5ff8);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].access, 0xc09b);
    ck_assert_uint_eq(cpu.seg.s[SEG_DS].selector, 0x6000);
    ck_assert_int_eq(cpu.mode.code_bits, BITS_32);
}
END_TEST

START_TEST(selector_corners)
{
    mseg(4, 0xfff8);
    prepare(TRANSFER, bench_vmcs_64);
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 0xfff8);
    ck_assert_uint_eq(cpu.seg.s[SEG_ES].selector, 8);
    bench_teardown();
    setup();
    mseg(4, 7);
    prepare(TRANSFER, bench_vmcs_64);
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 8);
    ck_assert_uint_eq(cpu.seg.s[SEG_ES].selector, 0x10);
}
END_TEST

/* ---- from VMX root operation -------------------------------------------------------------------------------------- */

START_TEST(root_round_trip)
{
    activate();
    go_back_to_root();
    ck_assert_uint_eq(cpu.core.rip, 0x1003);
    ck_assert_uint_eq(frame->vmcs_ptr, VMX_NO_VMCS);
    ck_assert_uint_eq(frame->vmxon, 1);
    ck_assert_uint_eq(cpu.event.blocking, 0);
    ck_assert_uint_eq(cpu.smm.transfer_vmcs, TRANSFER);
    ck_assert_int_eq(vmx_insn_vmxoff(&cpu, &insn), FLOW_END);         /* not while it is active */
    ck_assert_uint_eq(frame->vmxon, 1);

    /* An SMI: an exit, into the monitor's host state. Nothing goes to SMRAM. */
    prepare(OWN, bench_vmcs_64);
    cpu.core.rip = 0x1234;
    cpu.event.blocking = 0;
    struct cpu_core core = cpu.core;
    smi();
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(frame->vmcs_ptr, TRANSFER);
    ck_assert_uint_eq(v->exit_reason, EXIT_OTHER_SMI | BIT(29));
    ck_assert_uint_eq(v->executive_vmcs_pointer, VMXON_REGION);
    ck_assert_uint_eq(v->vmcs_link_pointer, OWN);
    ck_assert_uint_eq(v->guest_rip, 0x1234);
    ck_assert_uint_eq(cpu.core.rip, STM_RIP);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI | BLOCK_NMI);
    ck_assert_uint_eq(bus_read(&bus, 0, 0x3fefc, 4), 0);
    /* another SMI and an INIT wait */
    cpu_signal(&cpu, ATT_SMI, 0, true);
    cpu_signal(&cpu, ATT_INIT, 0, true);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    cpu.event.attention &= ~(u32)(ATT_SMI | ATT_INIT);
    v->guest_smbase = 0x123000;
    go_back();
    ck_assert_mem_eq(cpu.core.r, core.r, sizeof core.r);
    ck_assert_uint_eq(frame->vmcs_ptr, OWN);
    ck_assert_uint_eq(cpu.sys.smbase, 0x123000);

    /* VMCALL now only visits. */
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    ck_assert_uint_eq(v->exit_reason, EXIT_VMCALL | BIT(29));
    ck_assert_uint_eq(v->vmcs_link_pointer, OWN);
    v->guest_rip += 3;
    go_back();
    ck_assert_uint_eq(cpu.core.rip, 0x1003);
}
END_TEST

/* The monitor may leave SMIs blocked, and inject. */
START_TEST(blocking_and_injection)
{
    activate();
    v->guest_interruptibility = BLOCK_SMI | BLOCK_NMI;
    v->entry_interruption_info = INFO_VALID | EVT_HARDWARE << INFO_TYPE_SHIFT | EXC_UD;
    go_back_to_root();
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI | BLOCK_NMI);
    ck_assert(cpu.event.valid && cpu.event.vector == EXC_UD);
    cpu.event.valid = 0;
    smi();
    ck_assert_uint_eq(cpu.smm.active, 0);
    ck_assert(cpu.event.attention & ATT_SMI);
    cpu.event.attention &= ~(u32)ATT_SMI;
    /* VMXOFF would unblock them; a VMCALL goes in all the same, and shows the blocking. */
    ck_assert_int_eq(vmcall(), FLOW_EXIT);
    ck_assert_uint_eq(v->guest_interruptibility, BLOCK_SMI | BLOCK_NMI);
    v->entry_controls |= VMENTRY_DEACTIVATE_DUAL_MONITOR;
    go_back_to_root();
    ck_assert_uint_eq(cpu.smm.dual_monitor, 0);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
    cpu.event.blocking = BLOCK_SMI;
    cpu.smm.monitor_ctl |= SMM_MONITOR_KEEP_BLOCKING;
    ck_assert_int_eq(vmx_insn_vmxoff(&cpu, &insn), FLOW_END);
    ck_assert_uint_eq(frame->vmxon, 0);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI);
    frame->vmxon = 1;
    cpu.smm.monitor_ctl &= ~(u64)SMM_MONITOR_KEEP_BLOCKING;
    ck_assert_int_eq(vmx_insn_vmxoff(&cpu, &insn), FLOW_END);
    ck_assert_uint_eq(cpu.event.blocking, 0);
    /* the default treatment again */
    smi();
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(cpu.core.rip, 0x8000);
}
END_TEST

/* ---- from guests -------------------------------------------------------------------------------------------------- */

static void own_guest(struct vmcs *w)
{
    bench_vmcs_64(w);
    w->pin_controls |= PIN_PREEMPTION_TIMER | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    w->primary_controls |= PRIMARY_HLT_EXITING;
    w->host_rip = 0x2000;
    w->guest_rip = GUEST_RIP;
    w->vmx_preemption_timer = 1000;
}

static void enter_guest(void)
{
    prepare(OWN, own_guest);
    vmx_insn_enter(&cpu, &insn, true);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
}

START_TEST(guest_round_trip)
{
    activate();
    v->exit_controls |= VMEXIT_SAVE_PREEMPTION_TIMER;
    go_back_to_root();
    board.tsc = 32;
    enter_guest();
    frame->mtf_pending = 1;
    cpu.event.blocking = BLOCK_NMI;                  /* virtual-NMI blocking */
    board.tsc += 32 * 100;
    smi();
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(frame->vmcs_ptr, TRANSFER);
    ck_assert_uint_eq(v->exit_reason, EXIT_OTHER_SMI | BIT(28));
    ck_assert_uint_eq(v->executive_vmcs_pointer, OWN);
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
    ck_assert_uint_eq(v->guest_interruptibility, BLOCK_NMI);
    ck_assert_uint_eq(v->vmx_preemption_timer, 900);
    /* the executive VMCS stands in memory, where the monitor can make it current */
    make_current(OWN);
    ck_assert_uint_eq(v->launched, 1);
    ck_assert_uint_eq(v->primary_controls & PRIMARY_HLT_EXITING, PRIMARY_HLT_EXITING);
    make_current(TRANSFER);
    v->entry_interruption_info = INFO_VALID | EVT_OTHER << INFO_TYPE_SHIFT;
    board.tsc += 1000000;
    go_back();
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(frame->vmcs_ptr, OWN);
    ck_assert_uint_eq(cpu.core.rip, GUEST_RIP);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
    ck_assert_uint_eq(frame->timer_deadline, ((board.tsc >> 5) + 900) << 5);
    /* the exit that was pending goes to the executive monitor */
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_MONITOR_TRAP_FLAG);
    ck_assert_uint_eq(cpu.core.rip, 0x2000);
    ck_assert_uint_eq(v->vmx_preemption_timer, 1000);  /* its own VMCS was not written */
}
END_TEST

START_TEST(io_smi)
{
    activate();
    go_back_to_root();
    enter_guest();
    cpu.event.attention |= ATT_SMI;
    smm_note_io(&cpu, SMM_IO | 2 << 1 | SMM_IO_IN | SMM_IO_STRING | SMM_IO_REP | 0x1f0u << 16, GUEST_RIP - 2, 7, 0x11, 0x22, 0x4440);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_IO_SMI);
    ck_assert_uint_eq(v->exit_qualification, 1 | 1 << 3 | 1 << 4 | 1 << 5 | 0x1f0 << 16);
    ck_assert_uint_eq(v->guest_linear_address, 0x4440);
    ck_assert_uint_eq(v->io_rip, GUEST_RIP - 2);
    ck_assert_uint_eq(v->io_rcx, 7);
    ck_assert_uint_eq(v->io_rsi, 0x11);
    ck_assert_uint_eq(v->io_rdi, 0x22);
    go_back();
    smi();
    ck_assert_uint_eq(v->exit_reason, EXIT_OTHER_SMI);
    ck_assert_uint_eq(v->io_rip, 0);
}
END_TEST

/* What does not hold when the monitor returns: its errors, and the failure behind them, which leaves it in SMM. */
START_TEST(failing_returns)
{
    activate();
    go_back_to_root();
    enter_guest();
    smi();
#define FAILS(error, change, undo)                                                                                     \
    do {                                                                                                               \
        change;                                                                                                        \
        vmx_insn_enter(&cpu, &insn, !v->launched);                                                                     \
        ck_assert_uint_eq(cpu.smm.active, 1);                                                                          \
        ck_assert_uint_eq(v->vm_instruction_error, error);                                                             \
        undo;                                                                                                          \
    } while (0)
    FAILS(16, v->executive_vmcs_pointer = OWN + 8, v->executive_vmcs_pointer = OWN);
    FAILS(16, v->executive_vmcs_pointer = BENCH_SHADOW_VMCS, v->executive_vmcs_pointer = OWN);
    FAILS(17, v->executive_vmcs_pointer = BENCH_OTHER_VMCS, v->executive_vmcs_pointer = OWN);
    FAILS(18, v->entry_controls |= VMENTRY_DEACTIVATE_DUAL_MONITOR, v->entry_controls &= ~(u64)VMENTRY_DEACTIVATE_DUAL_MONITOR);
    FAILS(7, v->exit_controls |= VMEXIT_CLEAR_RTIT_CTL, v->exit_controls &= ~(u64)VMEXIT_CLEAR_RTIT_CTL);
    FAILS(8, v->host_cr4 = 0, v->host_cr4 = CR4_VMXE | CR4_PAE);
    /* execution controls are the executive VMCS's */
    v->pin_controls = 0;
    make_current(OWN);
    v->cr3_target_count = 5;
    make_current(TRANSFER);
    FAILS(25, (void)0, (void)0);
    make_current(OWN);
    v->cr3_target_count = 0;
    make_current(TRANSFER);
    /* guest state: a VM exit to the monitor */
    v->guest_cr4 = 0;
    v->launched = 1;
    vmx_insn_enter(&cpu, &insn, false);
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_GUEST_STATE | EXIT_REASON_ENTRY_FAILURE);
    ck_assert_uint_eq(cpu.core.rip, STM_RIP);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI | BLOCK_NMI);
    v->guest_cr4 = CR4_VMXE | CR4_PAE;
    go_back();
    ck_assert_uint_eq(cpu.vmx.depth, 1);
}
END_TEST

/* ---- guests in SMM ------------------------------------------------------------------------------------------------ */

static void guest_of_monitor(struct vmcs *w)
{
    bench_vmcs_64(w);
    w->entry_controls |= VMENTRY_ENTRY_TO_SMM;
    w->guest_interruptibility = BLOCK_SMI;
    w->guest_rip = GUEST_RIP;
    w->host_rip = 0x5800;
}

START_TEST(guest_in_smm)
{
    activate();
    go_back_to_root();
    smi();
    prepare(IN_SMM, guest_of_monitor);
    vmx_insn_enter(&cpu, &insn, true);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI);
    smi();
    ck_assert_uint_eq(cpu.vmx.depth, 1);             /* it waits */
    /* RSM is an exit to the monitor, which is still in SMM. */
    struct insn in = bench_insn(OSZ_16);
    in.length = 2;
    ck_assert_int_eq(bench_run_insn(h_rsm, in), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_RSM);
    ck_assert_uint_eq(v->exit_instruction_length, 2);
    ck_assert_uint_eq(v->guest_interruptibility, BLOCK_SMI);
    ck_assert_uint_eq(cpu.core.rip, 0x5800);
    ck_assert_uint_eq(cpu.smm.active, 1);
    make_current(TRANSFER);
    go_back_to_root();
    cpu_service_events(&cpu);                        /* now the SMI comes */
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(v->exit_reason, EXIT_OTHER_SMI | BIT(29));
}
END_TEST

/* SMRAM answers the monitor and nobody else: its VMCS can lie there. */
START_TEST(vmcs_in_smram)
{
    activate();
    struct vmcs copy = *v;
    make_current(TRANSFER + 0x10000);
    copy.launched = 0;
    *v = copy;
    cpu.smm.smrr_base = TRANSFER + 0x10000;
    cpu.smm.smrr_mask = 0xffff0000 | BIT(11);
    go_back_to_root();
    ck_assert_uint_eq(cpu.smm.transfer_vmcs, TRANSFER + 0x10000);
    ck_assert_uint_eq(bus_read(&bus, 0, TRANSFER + 0x10000, 4), 0xffffffff);
    smi();
    ck_assert_uint_eq(frame->vmcs_ptr, TRANSFER + 0x10000);
    ck_assert_uint_eq(v->exit_reason, EXIT_OTHER_SMI | BIT(29));
    ck_assert_uint_eq(cpu.core.rip, STM_RIP);
    ck_assert_uint_eq(bus_read(&bus, 0, TRANSFER + 0x10000, 4), VMCS_REVISION);
    go_back();
    ck_assert_uint_eq(bus_read(&bus, 0, TRANSFER + 0x10000, 4), 0xffffffff);
}
END_TEST

/* ---- deeper levels ------------------------------------------------------------------------------------------------ */

/* L3 runs when the SMI comes: the monitor sees L2, as any exit to L1 would show it, and L3 goes on afterwards. */
START_TEST(deeper_levels)
{
    cpu.policy = &vmx_policy_transparent;
    activate();
    go_back_to_root();
    enter_guest();
    struct vmx_frame *l2 = &cpu.vmx.frame[1];
    l2->vmxon = l2->offered = 1;
    l2->vmcs_ptr = l2->vmcs_hpa = 0x260000;
    bus_write(&bus, 0, 0x260000, 4, VMCS_REVISION);
    bench_vmcs_64(&l2->vmcs);
    l2->vmcs.host_rip = 0x7777;
    l2->vmcs.guest_rip = 0x8888;
    cpu.core.rip = 0x6000;
    vmx_insn_enter(&cpu, &insn, true);
    ck_assert_msg(cpu.vmx.depth == 2, "reason %#x error %u", (unsigned)l2->vmcs.exit_reason, (unsigned)l2->vmcs.vm_instruction_error);
    ck_assert_uint_eq(cpu.core.rip, 0x8888);
    smi();
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(v->guest_rip, 0x7777);
    ck_assert_uint_eq(v->executive_vmcs_pointer, OWN);
    go_back();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(cpu.core.rip, 0x8888);
    ck_assert_uint_eq(cpu.vmx.frame[1].vmcs.host_rip, 0x7777);
}
END_TEST

/* ---- whatever stands in memory ------------------------------------------------------------------------------------ */

static u64 random_bits(void)
{
    static u64 state = 4711;
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state >> 20;
}

/* Bits of the monitor's VMCS, of the executive one in memory and of MSEG's header that flip: entries fail or not, SMIs and exits come, and
 * nothing worse happens than that the processor shuts down. */
START_TEST(random_memory)
{
    unsigned returned = 0, failed = 0;
    for (unsigned n = 0; n < 400; n++) {
        bench_teardown();
        setup();
        if (n % 16 == 15)
            mseg((unsigned)random_bits() & 7, (u32)random_bits());
        prepare(TRANSFER, bench_vmcs_64);
        if (vmcall() != FLOW_EXIT)
            continue;
        stm_vmcs();
        if (n & 1) {
            go_back_to_root();
            enter_guest();
            smi();
        }
        for (unsigned step = 0; step < 12 && cpu.event.activity != ACTIVITY_SHUTDOWN; step++) {
            for (unsigned flips = 1 + random_bits() % 3; cpu.smm.active && flips; flips--) {
                u64 at = random_bits() % sizeof(struct vmcs);
                if (random_bits() & 1) {
                    ((u8 *)v)[at] ^= (u8)(1 << (random_bits() & 7));
                    vmx_fields_normalise(v);
                } else {
                    bus_write(&bus, 0, OWN + 8 + at, 1, bus_read(&bus, 0, OWN + 8 + at, 1) ^ (1u << (random_bits() & 7)));
                }
            }
            if (cpu.smm.active && !cpu.vmx.depth) {
                cpu.event.valid = 0;
                cpu.event.blocking &= BLOCK_SMI;
                vmx_insn_enter(&cpu, &insn, !v->launched);
                *(cpu.smm.active ? &failed : &returned) += 1;
            }
            u8 byte;
            (void)mem_read(&cpu, cpu.core.rsp, &byte, 1);
            cpu_service_events(&cpu);
            if (cpu.vmx.depth && step % 3 == 2)
                (void)vmx_intercept_simple(&cpu, &insn, EXIT_CPUID);
            else if (!cpu.smm.active)
                smi();
        }
    }
    ck_assert_uint_gt(returned, 100);
    ck_assert_uint_gt(failed, 100);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        capabilities, failures, activation, activation_32, selector_corners, root_round_trip, blocking_and_injection,
        guest_round_trip, io_smi, failing_returns, guest_in_smm, vmcs_in_smram, deeper_levels, random_memory,
    };
    return bench_run_with("SMM-transfer monitor", tests, ARRAY_SIZE(tests), setup);
}
