/* More corners where emulators of VMX usually are not exact (tests/vmx/test_corners.c has the others): in which order each VMX
 * instruction looks at mode, operation, privilege and memory; IDT-vectoring information of faults that nest in a real delivery;
 * MONITOR across transitions; the fields of RTM, which is absent; IA32_VMX_VMCS_ENUM.
 */
#include "cpu/event.h"
#include "cpu/features.h"
#include "cpu/table.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

#include "tests/vmx/bench_vmcs.h"

extern const insn_family h_vmcall, h_vmlaunch, h_vmresume, h_vmxoff, h_vmread, h_vmwrite, h_vmptrld, h_vmptrst, h_vmclear, h_vmxon,
    h_invept, h_invvpid, h_monitor, h_mwait;

#define GUEST_RIP 0x3000u
#define OPERAND 0x9000
#define ABSENT 0x40000000                  /* no page there */
#define GDT 0x6000u
#define IDT 0x7000u

static struct vmx_frame *const frame = &cpu.vmx.frame[0];
static struct vmcs *const v = &cpu.vmx.frame[0].vmcs;

static void setup(void)
{
    bench_hypervisor_setup();
    bench_vmcs_64(v);
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    v->host_rip = 0x2000;
    v->guest_rip = GUEST_RIP;
    v->guest_rsp = 0xa000;
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_hardware;
}

static void enter(void)
{
    static const struct insn insn = BENCH_VMX_INSN(3);
    cpu.core.rip = 0x1000;
    frame->checked = 0;
    vmx_insn_enter(&cpu, &insn, !v->launched);
    ck_assert_msg(cpu.vmx.depth == 1, "exit reason %#x, error %u", (unsigned)v->exit_reason, (unsigned)v->vm_instruction_error);
}

/* ---- the order of each VMX instruction ---------------------------------------------------------------------------- */

static const struct { const char *name; const insn_family *family; u32 reason; bool memory, writes; } instructions[] = {
    {"VMCALL", &h_vmcall, EXIT_VMCALL, false, false},    {"VMLAUNCH", &h_vmlaunch, EXIT_VMLAUNCH, false, false},
    {"VMRESUME", &h_vmresume, EXIT_VMRESUME, false, false}, {"VMXOFF", &h_vmxoff, EXIT_VMXOFF, false, false},
    {"VMREAD", &h_vmread, EXIT_VMREAD, true, true},      {"VMWRITE", &h_vmwrite, EXIT_VMWRITE, true, false},
    {"VMPTRLD", &h_vmptrld, EXIT_VMPTRLD, true, false},  {"VMPTRST", &h_vmptrst, EXIT_VMPTRST, true, true},
    {"VMCLEAR", &h_vmclear, EXIT_VMCLEAR, true, false},  {"VMXON", &h_vmxon, EXIT_VMXON, true, false},
    {"INVEPT", &h_invept, EXIT_INVEPT, true, false},     {"INVVPID", &h_invvpid, EXIT_INVVPID, true, false},
};

static enum flow run(unsigned n, i32 address)
{
    struct insn in = instructions[n].memory ? bench_memory(OSZ_64, REG_RAX, address) : bench_insn(OSZ_64);
    in.length = 4;
    cpu.core.rax = 0x4400;                           /* VM-instruction error: a field that exists */
    return bench_run_insn(*instructions[n].family, in);
}

#define CK_RAISES(n, address, vector_, when)                                                                           \
    do {                                                                                                               \
        ck_assert_msg(run(n, address) == FLOW_EVENT && cpu.event.vector == (vector_), "%s %s: vector %u", instructions[n].name, when, \
                      cpu.event.vector);                                                                               \
        bench_clear();                                                                                                 \
    } while (0)

/* Out of 64-bit mode: #UD, in root operation and in a guest, whatever the privilege; but a guest's VMCALL exits from any mode [SDM3
 * "VMCALL—Call to VM Monitor", operation]. */
START_TEST(wrong_modes)
{
#define CK_MODE(when)                                                                                                  \
    do {                                                                                                               \
        if (!guest || instructions[n].reason != EXIT_VMCALL) {                                                         \
            CK_RAISES(n, OPERAND, EXC_UD, when);                                                                       \
            ck_assert_uint_eq(cpu.vmx.depth, guest);                                                                   \
            break;                                                                                                     \
        }                                                                                                              \
        struct cpu before = cpu;                                                                                       \
        ck_assert_int_eq(run(n, OPERAND), FLOW_EXIT);                                                                  \
        ck_assert_uint_eq(v->exit_reason, EXIT_VMCALL);                                                                \
        cpu = before;                                                                                                  \
        tlb_flush_everything(&cpu);                                                                                    \
        cpu_mode_update(&cpu);                                                                                         \
    } while (0)
    for (unsigned n = 0; n < ARRAY_SIZE(instructions); n++) {
        for (unsigned guest = 0; guest < 2; guest++) {
            bench_teardown();
            setup();
            if (guest)
                enter();
            for (unsigned cpl = 0; cpl < 4; cpl += 3) {
                bench_flat_segments(true, cpl);
                cpu.seg.s[SEG_CS].access = (cpu.seg.s[SEG_CS].access & ~(u32)AR_L) | AR_DB;
                cpu_mode_update(&cpu);
                CK_MODE("in compatibility mode");
            }
            cpu.sys.efer &= ~(u64)EFER_LMA;
            cpu.core.rflags_rest |= FL_VM;
            cpu_mode_update(&cpu);
            CK_MODE("in virtual-8086 mode");
            cpu.core.rflags_rest &= ~(u64)FL_VM;
            cpu.sys.cr0 &= ~(CR0_PE | (u64)CR0_PG);
            cpu_mode_update(&cpu);
            CK_MODE("in real-address mode");
        }
    }
}
END_TEST

/* Outside VMX operation: #UD before privilege and memory; VMXON asks CR4.VMXE, then privilege, then memory. */
START_TEST(outside_operation)
{
    for (unsigned n = 0; n < ARRAY_SIZE(instructions); n++) {
        bool vmxon = instructions[n].reason == EXIT_VMXON;
        bench_teardown();
        setup();
        frame->vmxon = 0;
        cpu.sys.cr4 &= ~(u64)CR4_VMXE;
        CK_RAISES(n, ABSENT, EXC_UD, "without VMXE");
        cpu.sys.cr4 |= CR4_VMXE;
        CK_RAISES(n, ABSENT, vmxon ? EXC_PF : EXC_UD, "outside VMX operation");
        bench_flat_segments(true, 3);
        cpu_mode_update(&cpu);
        CK_RAISES(n, ABSENT, vmxon ? EXC_GP : EXC_UD, "outside VMX operation, CPL 3");
    }
}
END_TEST

/* In root operation: privilege, then the operand in memory, then the instruction's own failures. */
START_TEST(in_root)
{
    for (unsigned n = 0; n < ARRAY_SIZE(instructions); n++) {
        bench_teardown();
        setup();
        if (instructions[n].memory) {
            CK_RAISES(n, ABSENT, EXC_PF, "with an absent operand");
            ck_assert_uint_eq(cpu.event.error >> 1 & 1, instructions[n].writes);
            struct insn in = bench_memory(OSZ_64, REG_RAX, 0);
            in.base = REG_RBX;
            cpu.core.rbx = 1ull << 50;
            cpu.core.rax = 0x4400;
            ck_assert_int_eq(bench_run_insn(*instructions[n].family, in), FLOW_EVENT);
            ck_assert_int_eq(cpu.event.vector, EXC_GP);
            ck_assert_uint_eq(cpu.event.error, 0);
            bench_clear();
        }
        bench_flat_segments(true, 3);
        cpu_mode_update(&cpu);
        CK_RAISES(n, ABSENT, EXC_GP, "at CPL 3");
        ck_assert_uint_eq(frame->vmxon, 1);
        ck_assert_uint_eq(v->vm_instruction_error, 0);
    }
}
END_TEST

/* In a guest all exit: before privilege, and before memory is looked at; the displacement is the qualification. */
START_TEST(in_a_guest)
{
    for (unsigned n = 0; n < ARRAY_SIZE(instructions); n++) {
        for (unsigned cpl = 0; cpl < 4; cpl += 3) {
            bench_teardown();
            setup();
            enter();
            bench_flat_segments(true, cpl);
            cpu_mode_update(&cpu);
            cpu.core.rip = GUEST_RIP + 7;
            ck_assert_msg(run(n, ABSENT) == FLOW_EXIT, "%s", instructions[n].name);
            ck_assert_uint_eq(cpu.vmx.depth, 0);
            ck_assert_uint_eq(v->exit_reason, instructions[n].reason);
            ck_assert_uint_eq(v->exit_qualification, instructions[n].memory ? ABSENT : 0);
            ck_assert_uint_eq(v->exit_instruction_length, 4);
            ck_assert_uint_eq(v->guest_rip, GUEST_RIP + 7);
            ck_assert_uint_eq(v->exit_interruption_info, 0);
        }
    }
}
END_TEST

/* Without a current VMCS: VMfailInvalid, which no field could tell of; VMREAD fails before its destination is touched. */
START_TEST(no_current_vmcs)
{
    for (unsigned n = 0; n < ARRAY_SIZE(instructions); n++) {
        u32 reason = instructions[n].reason;
        bool fails = reason == EXIT_VMLAUNCH || reason == EXIT_VMRESUME || reason == EXIT_VMREAD || reason == EXIT_VMWRITE ||
                     reason == EXIT_VMXON || reason == EXIT_VMCALL;
        if (!fails)
            continue;
        bench_teardown();
        setup();
        frame->vmcs_ptr = VMX_NO_VMCS;
        cpu_set_rflags(&cpu, FL_ZF | FL_OF | FL_SF | FL_AF | FL_PF);
        run(n, reason == EXIT_VMREAD ? ABSENT : OPERAND);
        ck_assert_msg((cpu_rflags(&cpu) & FL_STATUS) == FL_CF, "%s", instructions[n].name);
    }
}
END_TEST

/* ---- faults that nest --------------------------------------------------------------------------------------------- */

static void guest_tables(u32 idt_limit)
{
    bench_poke64(GDT + 8, 0x00209b0000000000ull);    /* 64-bit code */
    v->guest_gdtr_base = GDT;
    v->guest_idtr_base = IDT;
    v->guest_idtr_limit = idt_limit;
    for (unsigned n = 0; n < 64; n++)
        bench_poke64(IDT + 8 * n, 0);
}
static void gate(unsigned vector)
{
    bench_poke64(IDT + 16 * vector, (u64)0x8e << 40 | 0x08 << 16 | 0x5000);
    bench_poke64(IDT + 16 * vector + 8, 0);
}

static void ck_exit(u32 vector, u64 error, u64 vectoring, u64 vectoring_error)
{
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | vector);
    ck_assert_uint_eq(v->exit_interruption_error_code, error);
    ck_assert_uint_eq(v->idt_vectoring_info, vectoring);
    if (vectoring)
        ck_assert_uint_eq(v->idt_vectoring_error_code, vectoring_error);
}

/* Deliveries of an injected event through the guest's IDT that go wrong: what was being delivered, with its error code or
 * instruction length. */
START_TEST(vectoring_of_nested_faults)
{
    guest_tables(16 * 14 - 1);                       /* no gate for #PF (14) and above */
    v->exception_bitmap = BIT(EXC_GP);
    v->entry_interruption_info = INFO_VALID | EVT_EXTERNAL << 8 | 0x55;
    enter();
    ck_exit(EXC_GP, 0x55 * 8 + 3, INFO_VALID | EVT_EXTERNAL << 8 | 0x55, 0);
    v->entry_interruption_info = INFO_VALID | EVT_SOFTWARE_INT << 8 | 0x80;
    v->entry_instruction_length = 2;
    enter();
    ck_exit(EXC_GP, 0x80 * 8 + 2, INFO_VALID | EVT_SOFTWARE_INT << 8 | 0x80, 0);
    ck_assert_uint_eq(v->exit_instruction_length, 2);
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
    v->entry_interruption_info = INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_PF;
    v->entry_exception_error_code = 7;
    enter();
    ck_exit(EXC_GP, 14 * 8 + 3, INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_PF, 7);
    v->entry_exception_error_code = 0;

    /* An exit for the second fault of a pair comes before the pair is one: the first is reported, not #DF. */
    v->exception_bitmap = BIT(EXC_NP) | BIT(EXC_DF);
    gate(EXC_GP);
    bench_poke64(IDT + 16 * EXC_GP, ((u64)0x0e << 40) | 0x08 << 16 | 0x5000);    /* not present */
    v->entry_interruption_info = INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_GP;
    enter();
    ck_exit(EXC_NP, EXC_GP * 8 + 3, INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_GP, 0);

    /* Not wanted, it makes the #DF, whose exit counts as during no delivery. */
    v->exception_bitmap = BIT(EXC_DF);
    v->entry_interruption_info = INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_GP;
    enter();
    ck_exit(EXC_DF, 0, 0, 0);

    /* A fault while the #DF is delivered: a triple fault, unless it is wanted; then #DF was being delivered. */
    v->exception_bitmap = BIT(EXC_NP);
    v->entry_interruption_info = INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_DF;
    bench_poke64(IDT + 16 * EXC_DF, ((u64)0x0e << 40) | 0x08 << 16 | 0x5000);
    enter();
    ck_exit(EXC_NP, EXC_DF * 8 + 3, INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_DF, 0);
    v->exception_bitmap = 0;
    v->entry_interruption_info = INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_DF;
    enter();
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_TRIPLE_FAULT);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
    ck_assert_uint_eq(v->guest_activity, ACTIVITY_ACTIVE);
}
END_TEST

/* A stack that is not there: #PF in the delivery of a #GP, with the address in the qualification and CR2 as it was. */
START_TEST(vectoring_of_page_faults)
{
    guest_tables(0xfff);
    gate(EXC_GP);
    v->exception_bitmap = BIT(EXC_PF);
    v->guest_rsp = ABSENT + 0x1000;
    v->entry_interruption_info = INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_GP;
    v->entry_exception_error_code = 0x18;
    cpu.sys.cr2 = 0x1234;
    enter();
    ck_exit(EXC_PF, 2, INFO_VALID | INFO_ERROR | EVT_HARDWARE << 8 | EXC_GP, 0x18);
    ck_assert_uint_ge(v->exit_qualification, ABSENT);
    ck_assert_uint_lt(v->exit_qualification, ABSENT + 0x1000);
    ck_assert_uint_eq(cpu.sys.cr2, 0x1234);
    ck_assert_uint_eq(v->guest_rsp, ABSENT + 0x1000);
}
END_TEST

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

/* VM entries and exits end address-range monitoring; the qualification of MWAIT's exit says whether there is any. */
START_TEST(monitoring)
{
    struct insn in = bench_insn(OSZ_32);
    bench_model("base,+monitor");
    cpu.sys.misc_enable |= MISC_ENABLE_MONITOR;
    cpu.core.rax = 0x9000;
    cpu.core.rcx = 0;
    RETIRES(h_monitor, in);
    ck_assert(cpu.event.monitor_armed & MONITOR_ARMED);
    v->primary_controls |= PRIMARY_MWAIT_EXITING;
    enter();
    ck_assert_uint_eq(cpu.event.monitor_armed, 0);
    ck_assert_int_eq(bench_run_insn(h_mwait, in), FLOW_EXIT);
    ck_assert_uint_eq(v->exit_reason, EXIT_MWAIT);
    ck_assert_uint_eq(v->exit_qualification, 0);
    enter();
    cpu.core.rax = 0x9000;
    RETIRES(h_monitor, in);
    ck_assert_int_eq(bench_run_insn(h_mwait, in), FLOW_EXIT);
    ck_assert_uint_eq(v->exit_qualification, 1);
    ck_assert_uint_eq(cpu.event.monitor_armed, 0);
    /* and a guest that waits is shown as active */
    v->primary_controls &= ~(u64)PRIMARY_MWAIT_EXITING;
    v->pin_controls |= PIN_NMI_EXITING;
    enter();
    cpu.core.rax = 0x9000;
    RETIRES(h_monitor, in);
    ck_assert_int_eq(bench_run_insn(h_mwait, in), FLOW_END);
    ck_assert_int_eq(cpu.event.activity, ACTIVITY_MWAIT);
    cpu.event.attention |= ATT_NMI;
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->guest_activity, ACTIVITY_ACTIVE);
}
END_TEST

/* RTM is absent: its bits are reserved, and an exit never sets one. */
START_TEST(rtm_is_absent)
{
    static const struct { unsigned field; u64 bit; } reserved[] = {
        {VMX_FIELD_guest_pending_debug, BIT(16)}, {VMX_FIELD_guest_ia32_debugctl, BIT(15)}};
    static const struct insn insn = BENCH_VMX_INSN(3);
    for (unsigned n = 0; n < ARRAY_SIZE(reserved); n++) {
        bench_teardown();
        setup();
        vmx_field_set(v, reserved[n].field, reserved[n].bit);
        cpu.core.rip = 0x1000;
        frame->checked = 0;
        vmx_insn_enter(&cpu, &insn, true);
        ck_assert_uint_eq(cpu.vmx.depth, 0);
        ck_assert_uint_eq(v->exit_reason, EXIT_ENTRY_FAIL_GUEST_STATE | BIT(31));
    }
    bench_teardown();
    setup();
    v->exception_bitmap = BIT(EXC_DB);
    v->guest_rflags = FL_R1 | FL_TF;
    v->guest_pending_debug = BIT(14);
    enter();
    ck_assert_uint_eq(cpu.sys.dr6 & BIT(16), BIT(16));
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_qualification, BIT(14));
}
END_TEST

/* IA32_VMX_VMCS_ENUM is the highest index of a field that VMREAD knows, found by asking for all, and follows what is offered. */
START_TEST(vmcs_enum)
{
    static const char *const models[] = {"base", "nehalem", "haswell", "sapphire-rapids", "max"};
    for (unsigned m = 0; m < ARRAY_SIZE(models); m++) {
        bench_model(models[m]);
        unsigned highest = 0;
        u64 value;
        for (u32 encoding = 0; encoding < 0x8000; encoding++)
            if (vmx_field_read(&cpu, v, encoding, &value) && (encoding >> 1 & 0x1ff) > highest)
                highest = encoding >> 1 & 0x1ff;
        ck_assert_uint_eq(vmx_capability(&cpu, MSR_IA32_VMX_VMCS_ENUM), (u64)highest << 1);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {wrong_modes, outside_operation, in_root, in_a_guest, no_current_vmcs, vectoring_of_nested_faults,
                                  vectoring_of_page_faults, monitoring, rtm_is_absent, vmcs_enum};
    return bench_run_with("vmx exact", tests, ARRAY_SIZE(tests), setup);
}
