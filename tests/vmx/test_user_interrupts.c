/* User interrupts in VMX operation: UINV loaded, saved and cleared; who gets an interrupt with that vector; virtual interrupts and injected
 * ones; exits in the middle of processing and delivery; where SENDUIPI's notification goes; suspended units.
 */
#include "tests/vmx/bench_apic.h"

enum { UINV = 0xe1, UPID = 0x30000, USER_STACK = 0x28000, HANDLER = 0x21000, GUEST_RIP = 0x3000, HOST_RIP = 0x1800 };
#define PAGE BENCH_PAGE
#define PID_TABLE (BENCH_PAGE + 0x2000)
#define OTHER_PID (BENCH_PAGE + 0x3000)
#define UITT 0x31000u
#define EPT_ROOT 0x280000u

#define MODEL "base,+uintr"

static void setup(void)
{
    bench_apic_setup(MODEL);
    bench_vmcs_64(v);
    v->entry_controls |= VMENTRY_LOAD_UINV;
    v->exit_controls |= VMEXIT_CLEAR_UINV;
    v->guest_uinv = UINV;
    v->guest_cr4 |= CR4_UINTR;
    v->guest_rip = GUEST_RIP;
    v->guest_rsp = USER_STACK;
    v->host_rip = HOST_RIP;
    cpu.sys.uintr_pd = UPID;
    cpu.sys.uintr_handler = HANDLER;
    cpu.sys.uintr_misc = 3;
    cpu.sys.uintr_tt = UITT | 1;
    bench_poke64(UPID, 1);
    bench_poke64(UPID + 8, BIT(9));
}

/* The guest is a program. */
static void at_ring_3(void)
{
    v->guest_cs_selector = 0x33;
    v->guest_cs_access_rights = 0xa0fb;
    v->guest_ss_selector = 0x2b;
    v->guest_ss_access_rights = 0xc0f3;
}

static void interrupt(int vector)
{
    apic.acknowledged = vector;
    cpu.event.attention |= ATT_INTR;
    cpu_service_events(&cpu);
}

static u64 uinv(void) { return cpu.sys.uintr_misc >> 32; }
static bool processed(void) { return cpu.sys.uintr_rr == BIT(9) && bench_peek64(UPID) == 0 && bench_peek64(UPID + 8) == 0; }
static bool untouched(void) { return cpu.sys.uintr_rr == 0 && bench_peek64(UPID) == 1 && bench_peek64(UPID + 8) == BIT(9); }

/* ---- the controls ------------------------------------------------------------------------------------------------ */

START_TEST(who_has_the_controls)
{
    static const struct { const char *model; bool there; } models[] = {
        {"base", false}, {"icelake", false}, {"sapphire-rapids", true}, {"max", true}, {"max,-uintr", false},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(models); n++) {
        bench_model(models[n].model);
        ck_assert_int_eq(vmx_control_supported(&cpu, CTL_VMENTRY_LOAD_UINV), models[n].there);
        ck_assert_int_eq(vmx_control_supported(&cpu, CTL_VMEXIT_CLEAR_UINV), models[n].there);
        ck_assert_int_eq(vmx_capability(&cpu, MSR_IA32_VMX_TRUE_EXIT_CTLS) >> (32 + 27) & 1, models[n].there);
        ck_assert_int_eq(vmx_capability(&cpu, MSR_IA32_VMX_TRUE_ENTRY_CTLS) >> (32 + 19) & 1, models[n].there);
        ck_assert_int_eq(vmx_capability(&cpu, MSR_IA32_VMX_CR4_FIXED1) >> 25 & 1, models[n].there);
    }
}
END_TEST

START_TEST(uinv_is_switched)
{
    cpu.sys.uintr_misc = 0x55ull << 32 | 7;
    enter();
    ck_assert_uint_eq(cpu.sys.uintr_misc, (u64)UINV << 32 | 7);        /* the rest of the MSR stays */
    cpu.sys.uintr_misc = 0x77ull << 32 | 8;
    leave();
    ck_assert_uint_eq(v->guest_uinv, 0x77);
    ck_assert_uint_eq(cpu.sys.uintr_misc, 8);
    /* Without the controls nothing is loaded or cleared; the exit saves all the same. */
    v->entry_controls &= ~(u64)VMENTRY_LOAD_UINV;
    v->exit_controls &= ~(u64)VMEXIT_CLEAR_UINV;
    v->guest_uinv = 0x1234;
    cpu.sys.uintr_misc = 0x66ull << 32;
    enter();
    ck_assert_uint_eq(uinv(), 0x66);
    leave();
    ck_assert_uint_eq(uinv(), 0x66);
    ck_assert_uint_eq(v->guest_uinv, 0x66);
}
END_TEST

/* ---- interrupts -------------------------------------------------------------------------------------------------- */

START_TEST(a_guest_without_exiting_processes)
{
    enter();
    interrupt(UINV);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(cpu.core.rip, GUEST_RIP);
    ck_assert_uint_eq(apic.eois, 1);
    ck_assert(processed());
}
END_TEST

/* External-interrupt exiting comes first, with or without acknowledgement. */
START_TEST(exiting_comes_first)
{
    for (unsigned acknowledge = 0; acknowledge < 2; acknowledge++) {
        v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
        v->exit_controls &= ~(u64)VMEXIT_ACKNOWLEDGE_INTERRUPT;
        v->exit_controls |= acknowledge ? VMEXIT_ACKNOWLEDGE_INTERRUPT : 0;
        enter();
        interrupt(UINV);
        ck_assert_uint_eq(cpu.vmx.depth, 0);
        ck_assert_uint_eq(v->exit_reason, EXIT_EXTERNAL_INTERRUPT);
        ck_assert_uint_eq(v->exit_interruption_info, acknowledge ? INFO_VALID | UINV : 0);
        ck_assert_uint_eq(apic.eois, 0);
        ck_assert(untouched());
        cpu.event.attention &= ~(u32)ATT_INTR;
    }
}
END_TEST

/* VM entry injects the vector: it is processed, not delivered, and a halted guest stays halted. */
START_TEST(injected_notification)
{
    for (unsigned halted = 0; halted < 2; halted++) {
        bench_poke64(UPID, 1);
        bench_poke64(UPID + 8, BIT(9));
        cpu.sys.uintr_rr = 0;
        v->guest_activity = halted ? ACTIVITY_HLT : ACTIVITY_ACTIVE;
        v->entry_interruption_info = INFO_VALID | UINV;
        enter();
        ck_assert_int_eq(cpu_service_events(&cpu), halted ? FLOW_END : FLOW_NEXT);
        ck_assert(processed());
        ck_assert_uint_eq(apic.eois, 0);
        ck_assert_uint_eq(cpu.core.rip, GUEST_RIP);
        ck_assert_uint_eq(cpu.event.activity, v->guest_activity);
        leave();
        ck_assert_uint_eq(v->guest_activity, halted ? ACTIVITY_HLT : ACTIVITY_ACTIVE);
        v->guest_activity = 0;
    }
    /* Another type with that vector is what it is. */
    bench_poke64(UPID, 1);
    v->entry_interruption_info = INFO_VALID | (u32)EVT_SOFTWARE_INT << INFO_TYPE_SHIFT | UINV;
    v->entry_instruction_length = 2;
    v->exception_bitmap = ~0u;
    enter();
    cpu_service_events(&cpu);                  /* an IDT of zeros: #GP */
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(bench_peek64(UPID), 1);
}
END_TEST

/* A fault of the processing that exits counts as one during the delivery of an external interrupt. */
START_TEST(exits_while_processing)
{
    for (unsigned halted = 0; halted < 2; halted++) {
        cpu.sys.uintr_pd = 0x7fff00000000;     /* not mapped */
        v->exception_bitmap = 1u << EXC_PF;
        v->guest_activity = halted ? ACTIVITY_HLT : ACTIVITY_ACTIVE;
        enter();
        interrupt(UINV);
        ck_assert_uint_eq(cpu.vmx.depth, 0);
        ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
        ck_assert_uint_eq((u8)v->exit_interruption_info, EXC_PF);
        ck_assert_uint_eq(v->exit_interruption_error_code, 2);         /* a supervisor's write */
        ck_assert_uint_eq(v->exit_qualification, 0x7fff00000000);
        ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | UINV);
        ck_assert_uint_eq(v->guest_activity, halted ? ACTIVITY_HLT : ACTIVITY_ACTIVE);
        ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
        ck_assert_uint_eq(v->guest_uinv, UINV);
        ck_assert(untouched());
        /* The hypervisor mends it and injects the interrupt again. */
        cpu.sys.uintr_pd = UPID;
        v->entry_interruption_info = v->idt_vectoring_info;
        enter();
        ck_assert_int_eq(cpu_service_events(&cpu), halted ? FLOW_END : FLOW_NEXT);
        ck_assert(processed());
        leave();
        bench_poke64(UPID, 1);
        bench_poke64(UPID + 8, BIT(9));
        cpu.sys.uintr_rr = 0;
        v->guest_activity = 0;
    }
}
END_TEST

/* ---- delivery ---------------------------------------------------------------------------------------------------- */

START_TEST(delivery_after_entry)
{
    at_ring_3();
    cpu.sys.uif = 1;
    cpu.sys.uintr_rr = BIT(17);
    cpu_recognize_user_interrupt(&cpu);
    ck_assert(!(cpu.event.attention & ATT_UINTR));         /* not the hypervisor's */
    enter();
    ck_assert(cpu.event.attention & ATT_UINTR);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu.core.rip, HANDLER);
    ck_assert_uint_eq(cpu.core.rsp, USER_STACK - 32);
    ck_assert_uint_eq(bench_peek64(USER_STACK - 32), 17);
    leave();
    ck_assert_uint_eq(v->guest_rip, HANDLER);
}
END_TEST

/* Vector 17 is delivered right after the entry, to a stack that leads to an exit. */
static void delivery_exits(u64 stack)
{
    at_ring_3();
    v->guest_rsp = stack;
    cpu.sys.uif = 1;
    cpu.sys.uintr_rr = BIT(17);
    enter();
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}

/* An exception exits as one of the program's: no event was being delivered. */
START_TEST(exits_while_delivering)
{
    v->exception_bitmap = 1u << EXC_PF;
    delivery_exits(0x7fff00001000);
    ck_assert_uint_eq((u8)v->exit_interruption_info, EXC_PF);
    ck_assert_uint_eq(v->exit_qualification, 0x7fff00000ff8);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
    ck_assert_uint_eq(v->guest_rsp, 0x7fff00001000);
    ck_assert_uint_eq(cpu.sys.uintr_rr, BIT(17));
    /* It comes again. */
    v->guest_rsp = USER_STACK;
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu.core.rip, HANDLER);
}
END_TEST

/* EPT violations: bit 16 of the qualification tells that no instruction and no event of the IDT made the access. */
START_TEST(ept_violations)
{
    bench_ept(v, EPT_ROOT, 2);
    delivery_exits(0x300000);
    ck_assert_uint_eq(v->exit_reason, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->exit_qualification & (BIT(16) | BIT(1)), BIT(16) | BIT(1));
    ck_assert_uint_eq(v->guest_physical_address & ~0xfffull, 0x2ff000);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
    ck_assert_uint_eq(cpu.event.user_delivery, 0);
    cpu.sys.uintr_rr = 0;
    cpu.sys.uintr_pd = 0x300040;
    enter();
    interrupt(UINV);
    ck_assert_uint_eq(v->exit_reason, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->exit_qualification & BIT(16), 0);
    ck_assert_uint_eq(v->guest_physical_address, 0x300040);
    ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | UINV);
}
END_TEST

/* ---- virtual interrupts ------------------------------------------------------------------------------------------ */

static u32 reg(unsigned offset) { return (u32)bus_read(&bus, 0, PAGE + offset, 4); }
static void set_irr(u8 vector)
{
    unsigned at = 0x200 + (vector >> 5) * 16u;
    bus_write(&bus, 0, PAGE + at, 4, reg(at) | 1u << (vector & 31));
}

static void with_virtual_interrupts(void)
{
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    v->primary_controls |= PRIMARY_TPR_SHADOW;
    v->secondary_controls |= SECONDARY_VIRTUAL_INTERRUPT_DELIVERY | SECONDARY_X2APIC_MODE;
    v->virtual_apic_address = PAGE;
    v->tpr_threshold = 0;
    set_irr(UINV);
    v->guest_interrupt_status = UINV;
}

START_TEST(virtual_notification)
{
    with_virtual_interrupts();
    set_irr(0x61);
    bus_write(&bus, 0, PAGE + 0x120, 4, 4);                /* 0x42 is in service */
    v->guest_interrupt_status = 0x42 << 8 | UINV;
    v->eoi_exit_bitmap_3 = ~0ull;                          /* software's EOIs alone exit */
    enter();
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert_uint_eq(v->guest_interrupt_status, 0x42 << 8 | 0x61);
    ck_assert_uint_eq(reg(0xa0), 0x40);
    ck_assert_uint_eq(reg(0x170), 0);                      /* not in service */
    ck_assert_uint_eq(reg(0x270), 0);
    ck_assert(cpu.vmx.frame[0].virtual_interrupt);         /* 0x61 is next */
    cpu.core.rflags_rest &= ~(u64)FL_IF;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert(processed());
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(apic.eois, 0);
    /* Without CR4.UINTR it is an interrupt like any other. */
    leave();
    bench_poke64(UPID, 1);
    v->guest_cr4 &= ~(u64)CR4_UINTR;
    set_irr(UINV);
    v->guest_interrupt_status = UINV;
    v->guest_rip = GUEST_RIP;
    v->guest_rflags |= FL_IF;
    bus_write(&bus, 0, PAGE + 0x120, 4, 0);
    enter();
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert_uint_eq(v->guest_interrupt_status >> 8, UINV);
    ck_assert_uint_eq(bench_peek64(UPID), 1);
}
END_TEST

START_TEST(virtual_notification_of_a_halted_guest)
{
    with_virtual_interrupts();
    v->guest_activity = ACTIVITY_HLT;
    enter();
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_END);
    ck_assert(processed());
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_HLT);
}
END_TEST

/* ---- SENDUIPI ---------------------------------------------------------------------------------------------------- */

static void senduipi(u64 control)
{
    struct insn in = BENCH_VMX_INSN(4);
    in.rm = REG_RAX;
    cpu.core.rax = 0;
    bench_poke64(UITT, 0x0501);
    bench_poke64(UITT + 8, UPID);
    bench_poke64(UPID, control);
    cpu.vmx.frame[0].apic_exit = 0;
    rows_note_family(h_senduipi);
    ck_assert_int_eq(h_senduipi[OSZ_64](&cpu, &in), FLOW_END);
}

static void ck_apic_write(u64 icr, u32 high)
{
    ck_assert_uint_eq(bench_peek64(PAGE + 0x300), icr);
    ck_assert_uint_eq(reg(0x310), high);
    ck_assert_uint_eq(apic.sent, 0);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(v->exit_reason, EXIT_APIC_WRITE);
    ck_assert_uint_eq(v->exit_qualification, 0x300);
    ck_assert_uint_eq(v->guest_rip, GUEST_RIP + 4);        /* trap-like */
    ck_assert_uint_eq(v->exit_instruction_length, 0);
}

#define CONTROL (0xaabb0300ull << 32 | 0x4d0000)

START_TEST(senduipi_by_the_real_apic)
{
    enter();
    senduipi(CONTROL);
    ck_assert_uint_eq(apic.sent, 1);
    ck_assert_uint_eq(apic.vector, 0x4d);
    ck_assert_uint_eq(apic.ndst, 0xaabb0300);
    ck_assert_uint_eq(bench_peek64(UPID), CONTROL | 1);
    ck_assert_uint_eq(bench_peek64(UPID + 8), BIT(9) | BIT(5));
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
}
END_TEST

START_TEST(senduipi_by_a_virtual_apic)
{
    v->primary_controls |= PRIMARY_TPR_SHADOW;
    v->virtual_apic_address = PAGE;
    v->tpr_threshold = 0;
    enter();
    senduipi(CONTROL);
    ck_apic_write(0xaabb0300ull << 32 | 0x4d, 0);
    v->guest_rip = GUEST_RIP;
    v->secondary_controls |= SECONDARY_APIC_ACCESSES;
    v->apic_access_address = PAGE + 0x8000;
    bus_write(&bus, 0, PAGE + 0x304, 4, 0);
    enter();
    senduipi(CONTROL);
    ck_apic_write(0x4d, 0x03000000);
}
END_TEST

START_TEST(senduipi_with_ipi_virtualization)
{
    for (unsigned page = 0; page < 2; page++) {
        u64 to = page ? 2ull << 40 : 2ull << 32;
        v->guest_rip = GUEST_RIP;
        v->primary_controls |= PRIMARY_TPR_SHADOW | PRIMARY_TERTIARY_CONTROLS;
        v->secondary_controls &= ~(u64)(SECONDARY_APIC_ACCESSES | SECONDARY_X2APIC_MODE);
        v->secondary_controls |= page ? SECONDARY_APIC_ACCESSES : SECONDARY_X2APIC_MODE;
        v->tertiary_controls = TERTIARY_IPI_VIRTUALIZATION;
        v->virtual_apic_address = PAGE;
        v->apic_access_address = PAGE + 0x8000;
        v->tpr_threshold = 0;
        v->pid_pointer_table_address = PID_TABLE;
        v->last_pid_pointer_index = 3;
        bench_poke64(PID_TABLE + 16, OTHER_PID | 1);
        bench_poke64(OTHER_PID + 8, 0);
        bench_poke64(OTHER_PID + 32, 0x0000000700f20000ull);
        apic.sent = 0;
        enter();
        senduipi(to | 0x4d0000);
        ck_assert_uint_eq(bench_peek64(OTHER_PID + 8), BIT(0x4d & 63));        /* posted as a virtual interrupt */
        ck_assert_uint_eq(apic.sent, 1);
        ck_assert_uint_eq(apic.vector, 0xf2);
        ck_assert_uint_eq(apic.ndst, 7);
        ck_assert(!vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
        apic.sent = 0;
        cpu.core.rip = GUEST_RIP;
        bus_write(&bus, 0, PAGE + 0x310, 4, 0);
        senduipi(page ? 9ull << 40 | 0x4d0000 : 9ull << 32 | 0x4d0000);        /* past the table */
        ck_apic_write(page ? 0x4d | bench_peek64(PAGE + 0x300) >> 32 << 32 : 9ull << 32 | 0x4d, page ? 9u << 24 : 0);
    }
}
END_TEST

/* ---- more levels ------------------------------------------------------------------------------------------------- */

/* L3's vector survives an exit to L1, which is shown L2's and changes it. */
START_TEST(uinv_of_a_suspended_unit)
{
    const u64 l2_vmxon = 0x300000, l2_vmcs = 0x2f0000;
    bench_ept(v, EPT_ROOT, 64);
    cpu.policy = &vmx_policy_transparent;
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    v->cr4_guest_host_mask = CR4_VMXE;
    bus_write(&bus, 0, l2_vmxon, 4, VMCS_REVISION);
    bus_write(&bus, 0, l2_vmcs, 4, VMCS_REVISION);
    enter();
    cpu.core.rax = 1;
    leave();
    v->guest_rip += 3;
    enter();
    cpu.vmx.frame[1].cr4_vmxe = CR4_VMXE;
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, l2_vmxon), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, l2_vmcs), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, l2_vmcs), FLOW_END);
    struct vmcs *inner = &cpu.vmx.frame[1].vmcs;
    bench_vmcs_64(inner);
    inner->entry_controls |= VMENTRY_LOAD_UINV;
    inner->exit_controls |= VMEXIT_CLEAR_UINV;
    inner->guest_uinv = 0xd2;
    inner->guest_cr4 |= CR4_UINTR;
    inner->guest_rip = 0x4000;
    cpu.vmx.frame[1].checked = 0;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, true), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(uinv(), 0xd2);
    apic.acknowledged = 0x31;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->guest_uinv, 0);       /* L2 would have cleared it at its own exit */
    ck_assert_uint_eq(uinv(), 0);
    v->guest_uinv = 0x99;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, false), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(uinv(), 0xd2);
    /* A notification is L3's, while nobody exits for interrupts. */
    v->pin_controls &= ~(u64)PIN_EXTERNAL_INTERRUPT_EXITING;
    interrupt(0xd2);
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert(processed());
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(inner->guest_uinv, 0xd2);
    ck_assert_uint_eq(uinv(), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {who_has_the_controls, uinv_is_switched, a_guest_without_exiting_processes, exiting_comes_first,
                                  injected_notification, exits_while_processing, delivery_after_entry, exits_while_delivering,
                                  ept_violations, virtual_notification, virtual_notification_of_a_halted_guest,
                                  senduipi_by_the_real_apic, senduipi_by_a_virtual_apic, senduipi_with_ipi_virtualization,
                                  uinv_of_a_suspended_unit};
    return bench_run_with("user interrupts", tests, ARRAY_SIZE(tests), setup);
}
