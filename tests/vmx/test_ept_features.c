/* What a guest meets of the features around EPT, at two levels: VM functions, virtualization exceptions, exits for
 * sub-pages, linear addresses that the hypervisor translates. The walks themselves are tests/mmu/test_ept.c's.
 *
 * L2's memory is L1's, page by page; L3's is L2's. Each test changes single entries. What has one frame runs under every policy, what has
 * two under those that offer them.
 */
#include "cpu/event.h"
#include "cpu/interp.h"
#include "cpu/jit/jit.h"
#include "cpu/raise.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

#include "tests/vmx/bench_vmcs.h"

/* Four EPTs, A to D: root, PDPT, PD, PT of the 2 MiB from 2 MiB on; all identity. */
#define EPT(n) (0x280000ull + (n) * 0x4000ull)
#define EPTP(n) (EPT(n) | 3 << 3 | 6)
#define LIST 0x2c0000ull
#define L2_LIST 0x2c1000ull
#define PAGE_ONE 0x300000ull
#define PAGE_TWO 0x301000ull
#define L2_VMXON 0x310000ull
#define L2_VMCS 0x311000ull
#define VE_AREA 0x312000ull
#define L2_VE_AREA 0x313000ull
#define GDT 0x320000ull
#define IDT 0x321000ull
#define VE_HANDLER 0x5000u
#define SPPT 0x340000ull                       /* L1's four tables; L2's behind them */
#define HLATP 0x350000ull                      /* four tables for the 2 MiB from -2 GiB + 2 MiB on */
#define HIGH 0xffffffff80200000ull
#define SUPPRESS BIT(63)
#define GUEST_RIP 0x3000u
#define L2_HOST 0x3800u
#define L3_RIP 0x4000u

static const struct insn insn = BENCH_VMX_INSN(3);
static const char *policy = "transparent";
static struct vmx_frame *const frame = cpu.vmx.frame;

static void entry_set(unsigned n, u64 gpa, u64 entry)
{
    bench_poke64(EPT(n) + 0x3000 + (gpa >> 12 & 511) * 8, entry);
}

static void make_ept(unsigned n)
{
    bench_poke64(EPT(n), (EPT(n) + 0x1000) | 7);
    bench_poke64(EPT(n) + 0x1000, (EPT(n) + 0x2000) | 7);
    bench_poke64(EPT(n) + 0x2000, 0 | 1 << 7 | 6 << 3 | 7);
    bench_poke64(EPT(n) + 0x2008, (EPT(n) + 0x3000) | 7);
    for (u64 gpa = 0x200000; gpa < 0x400000; gpa += 0x1000)
        entry_set(n, gpa, gpa | 6 << 3 | 7);
}

static void set_policy(const char *text)
{
    char message[256];
    ck_assert_msg(vmx_policy_set(&cpu, text, message, sizeof message), "%s", message);
}

static void setup(void)
{
    bench_hypervisor_setup();
    cpu.stop_at = ~0ull;
    set_policy(policy);
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
    for (unsigned n = 0; n < 4; n++)
        make_ept(n);
    struct vmcs *v = &frame[0].vmcs;
    bench_vmcs_64(v);
    v->secondary_controls = SECONDARY_EPT | SECONDARY_VPID;
    v->virtual_processor_identifier = 7;
    v->ept_pointer = EPTP(0);
    v->host_rip = 0x2000;
    v->guest_rip = GUEST_RIP;
    v->guest_rsp = 0xa000;
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    bus_write(&bus, 0, L2_VMXON, 4, VMCS_REVISION);
    bus_write(&bus, 0, L2_VMCS, 4, VMCS_REVISION);
    bench_poke64(PAGE_ONE, 1);
    bench_poke64(PAGE_TWO, 2);
}

/* The running hypervisor enters its guest. */
static void enter(void)
{
    unsigned k = cpu.vmx.depth;
    frame[k].checked = 0;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, !frame[k].vmcs.launched), FLOW_EXIT);
    ck_assert_msg(cpu.vmx.depth > k, "error %u, exit reason %#x", (unsigned)frame[k].vmcs.vm_instruction_error,
                  (unsigned)frame[k].vmcs.exit_reason);
}

/* L2, to which L0 offers VMX, runs L3 with EPT B. */
static void start_l3(u64 secondary)
{
    enter();
    cpu.core.rax = 1;
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    cpu.core.rcx = 0;
    frame[0].vmcs.guest_rip += 3;
    enter();
    frame[1].cr4_vmxe = CR4_VMXE;
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, L2_VMXON), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, L2_VMCS), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L2_VMCS), FLOW_END);
    struct vmcs *v = &frame[1].vmcs;
    bench_vmcs_64(v);
    v->secondary_controls = SECONDARY_EPT | secondary;
    v->ept_pointer = EPTP(1);
    v->host_rip = L2_HOST;
    v->guest_rip = L3_RIP;
    v->guest_rsp = 0x8800;
}

static u64 guest_reads(u64 la)
{
    u64 value = 0;
    cpu.fault.kind = FAULT_NONE;
    ck_assert_msg(mem_read64(&cpu, la, &value), "fault %u, qualification %llx", cpu.fault.kind,
                  (unsigned long long)cpu.fault.qualification);
    return value;
}

static void ck_exit(unsigned k, u32 reason)
{
    ck_assert_uint_eq(cpu.vmx.depth, k);
    ck_assert_uint_eq(frame[k].vmcs.exit_reason, reason);
}

/* ---- VM functions ------------------------------------------------------------------------------------------------ */

static enum flow vmfunc(u32 function, u64 operand)
{
    cpu.core.rax = 0xffffffff00000000ull | function;
    cpu.core.rcx = operand;
    return bench_run_insn(h_vmfunc, insn);
}

static void ck_ud(enum flow flow)
{
    ck_assert_int_eq(flow, FLOW_EVENT);
    ck_assert_uint_eq(cpu.event.vector, EXC_UD);
    bench_clear();
}

static void enable_switching(struct vmcs *v, u64 list)
{
    v->secondary_controls |= SECONDARY_VM_FUNCTIONS;
    v->vm_function_controls = VMX_VMFUNC_EPTP_SWITCHING;
    v->eptp_list_address = list;
    for (unsigned n = 0; n < 4; n++)
        bench_poke64(list + 8 * n, EPTP(n));
}

/* [SDM3 "General Operation of the VMFUNC Instruction"] #UD without the control and for functions that cannot exist comes
 * before the exit for functions that are not enabled. */
START_TEST(vmfunc_order)
{
    struct vmcs *v = &frame[0].vmcs;
    ck_ud(vmfunc(0, 0));                       /* root operation */
    enter();
    ck_ud(vmfunc(0, 0));
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    v->secondary_controls |= SECONDARY_VM_FUNCTIONS;
    v->guest_rip = GUEST_RIP;
    enter();
    ck_ud(vmfunc(64, 0));
    ck_ud(vmfunc(0xffffffff, 0));
    static const u32 functions[] = {0, 1, 63};
    for (unsigned n = 0; n < ARRAY_SIZE(functions); n++) {
        cpu_set_rflags(&cpu, FL_R1 | FL_CF | FL_RF);
        ck_assert_int_eq(vmfunc(functions[n], 0), FLOW_EXIT);
        ck_exit(0, EXIT_VMFUNC);
        ck_assert_uint_eq(v->exit_qualification, 0);
        ck_assert_uint_eq(v->exit_instruction_length, 3);
        ck_assert_uint_eq(v->exit_instruction_info, 0);
        ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
        ck_assert_uint_eq(v->guest_rflags, FL_R1 | FL_CF);
        enter();
    }
}
END_TEST

/* Switching to and fro: other memory at once, nothing of it survives where it does not belong, the old translations are
 * still there, at any CPL, without a flag changed. */
START_TEST(eptp_switching)
{
    struct vmcs *v = &frame[0].vmcs;
    enable_switching(v, LIST);
    entry_set(1, PAGE_ONE, PAGE_TWO | 6 << 3 | 7);
    entry_set(2, PAGE_ONE, 0);
    for (unsigned vpid = 0; vpid < 2; vpid++) {
        v->secondary_controls = (v->secondary_controls & ~(u64)SECONDARY_VPID) | (vpid ? SECONDARY_VPID : 0);
        v->ept_pointer = EPTP(0);
        v->guest_rip = GUEST_RIP;
        v->guest_cs_access_rights = 0xa0fb, v->guest_ss_access_rights = 0xc0f3;
        v->guest_cs_selector |= 3, v->guest_ss_selector |= 3;
        enter();
        ck_assert_uint_eq(cpu.mode.cpl, 3);
        for (unsigned round = 0; round < 3; round++) {
            ck_assert_uint_eq(guest_reads(PAGE_ONE), 1);
            u64 uid = cpu.tlb_uid;
            cpu_set_rflags(&cpu, FL_R1 | FL_CF | FL_ZF | FL_OF);
            u64 rip = cpu.core.rip;
            ck_assert_int_eq(vmfunc(0, 0xabcd00000001), FLOW_END);     /* ECX counts */
            ck_assert_uint_eq(cpu_rflags(&cpu), FL_R1 | FL_CF | FL_ZF | FL_OF);
            ck_assert_uint_eq(cpu.core.rip, rip + 3);
            ck_assert_uint_eq(cpu.core.rcx, 0xabcd00000001);
            ck_assert_uint_eq(v->ept_pointer, EPTP(1));
            ck_assert(cpu.tlb_uid != uid);
            ck_assert_uint_eq(guest_reads(PAGE_ONE), 2);
            ck_assert_int_eq(vmfunc(0, 2), FLOW_END);
            u64 value;
            ck_assert(!mem_read64(&cpu, PAGE_ONE, &value));
            ck_assert_uint_eq(cpu.fault.kind, FAULT_EPT_VIOLATION);
            ck_assert_int_eq(vmfunc(0, 0), FLOW_END);
        }
        /* What software changed without INVEPT is still cached under its VPID; without one nothing is kept across. */
        ck_assert_int_eq(vmfunc(0, 1), FLOW_END);
        guest_reads(PAGE_ONE);
        ck_assert_int_eq(vmfunc(0, 0), FLOW_END);
        ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
        ck_assert_uint_eq(v->ept_pointer, EPTP(0));
        tlb_invept(&cpu, 0, 0, true);
        v->launched = 0;
    }
}
END_TEST

START_TEST(eptp_switching_refused)
{
    struct vmcs *v = &frame[0].vmcs;
    enable_switching(v, LIST);
    bench_poke64(LIST + 8 * 511, EPTP(3));
    static const u64 bad[] = {0, EPT(1), EPTP(1) | 0x100, EPTP(1) ^ (6 ^ 4), (EPT(1) | 6 | 4 << 3), EPTP(1) | BIT(46)};
    for (unsigned n = 0; n < ARRAY_SIZE(bad); n++)
        bench_poke64(LIST + 8 * (16 + n), bad[n]);
    enter();
    ck_assert_int_eq(vmfunc(0, 511), FLOW_END);
    ck_assert_uint_eq(v->ept_pointer, EPTP(3));
    cpu.core.rip = GUEST_RIP;
    for (unsigned n = 0; n < ARRAY_SIZE(bad) + 2; n++) {
        u64 index = n < ARRAY_SIZE(bad) ? 16 + n : n == ARRAY_SIZE(bad) ? 512 : 0x80000000;
        ck_assert_int_eq(vmfunc(0, index), FLOW_EXIT);
        ck_exit(0, EXIT_VMFUNC);
        ck_assert_uint_eq(v->exit_instruction_length, 3);
        ck_assert_uint_eq(v->ept_pointer, EPTP(3));
        ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
        enter();
    }
    /* Accessed and dirty flags and the memory type may differ. */
    bench_poke64(LIST, EPT(0) | 3 << 3 | 1 << 6);
    ck_assert_int_eq(vmfunc(0, 0), FLOW_END);
    ck_assert_uint_eq(v->ept_pointer, EPT(0) | 3 << 3 | 1 << 6);
}
END_TEST

/* L3 chooses among the EPTs of L2, whose list lies in L2's memory; L1 may have taken it away, and is asked first. */
START_TEST(eptp_switching_of_l3)
{
    enable_switching(&frame[0].vmcs, LIST);
    start_l3(0);
    struct vmcs *v = &frame[1].vmcs;
    enable_switching(v, L2_LIST);
    entry_set(2, PAGE_ONE, PAGE_TWO | 6 << 3 | 7);     /* L2's second view for L3 */
    entry_set(3, PAGE_TWO, PAGE_ONE | 6 << 3 | 7);     /* L1's other view of L2 */
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(guest_reads(PAGE_ONE), 1);
    ck_assert_int_eq(vmfunc(0, 2), FLOW_END);
    ck_assert_uint_eq(v->ept_pointer, EPTP(2));
    ck_assert_uint_eq(frame[0].vmcs.ept_pointer, EPTP(0));
    ck_assert_uint_eq(guest_reads(PAGE_ONE), 2);
    ck_assert_int_eq(vmfunc(0, 512), FLOW_EXIT);
    ck_exit(1, EXIT_VMFUNC);
    /* L2 itself has L1's functions. */
    ck_assert_uint_eq(guest_reads(PAGE_TWO), 2);
    ck_assert_int_eq(vmfunc(0, 3), FLOW_END);
    ck_assert_uint_eq(frame[0].vmcs.ept_pointer, EPTP(3));
    ck_assert_uint_eq(guest_reads(PAGE_TWO), 1);
    enter();
    ck_assert_uint_eq(guest_reads(PAGE_ONE), 1);       /* through both views */
    /* The list is not there: an EPT violation of L2 to L1, and the instruction runs again. */
    entry_set(3, L2_LIST, 0);
    tlb_invept(&cpu, 0, 0, true);
    u64 rip = cpu.core.rip;
    ck_assert_int_eq(vmfunc(0, 1), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, L2_LIST + 8);
    ck_assert_uint_eq(frame[0].vmcs.exit_qualification, 1);
    entry_set(3, L2_LIST, L2_LIST | 6 << 3 | 7);
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(cpu.core.rip, rip);
    ck_assert_int_eq(vmfunc(0, 1), FLOW_END);
    ck_assert_uint_eq(v->ept_pointer, EPTP(1));
}
END_TEST

/* ---- virtualization exceptions ----------------------------------------------------------------------------------- */

static void enable_ve(struct vmcs *v, u64 area)
{
    v->secondary_controls |= SECONDARY_EPT_VIOLATION_VE;
    v->ve_information_address = area;
    v->eptp_index = 0x1234;
    for (unsigned n = 0; n < 40; n += 8)
        bench_poke64(area + n, 0);
}

/* The guest's access is raised as its handler would raise it. */
static enum flow access_raises(u64 la, bool write)
{
    u64 value = 0;
    cpu.fault.kind = FAULT_NONE;
    ck_assert(!(write ? mem_write64(&cpu, la, value) : mem_read64(&cpu, la, &value)));
    return cpu_raise_fault(&cpu);
}

static void ck_ve(u64 area, u64 qualification, u64 la, u64 gpa, unsigned index)
{
    ck_assert(cpu.event.valid);
    ck_assert_uint_eq(cpu.event.vector, EXC_VE);
    ck_assert_uint_eq(cpu.event.type, EVT_HARDWARE);
    ck_assert(!cpu.event.has_error);
    ck_assert_uint_eq(bench_peek64(area), 0xffffffff00000030ull);
    ck_assert_uint_eq(bench_peek64(area + 8), qualification);
    ck_assert_uint_eq(bench_peek64(area + 16), la);
    ck_assert_uint_eq(bench_peek64(area + 24), gpa);
    ck_assert_uint_eq(bench_peek64(area + 32), index);
    bench_clear();
}

/* The guest says that it is done with the last one. */
static void ve_done(u64 area) { bus_write(&bus, 0, area + 4, 4, 0); }

/* The access is an EPT violation of frame k, and nothing is written to the area. */
static void ck_violation(unsigned k, u64 la, bool write)
{
    u64 before = bench_peek64(VE_AREA + 24);
    ck_assert_int_eq(access_raises(la, write), FLOW_EXIT);
    ck_exit(k, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(bench_peek64(VE_AREA + 24), before);
    ck_assert(!cpu.event.valid);
    enter();
}

/* One entry decides: the absent one, or the one that maps the page [SDM3 "Convertible EPT Violations"]. */
START_TEST(ve_which_convert)
{
    struct vmcs *v = &frame[0].vmcs;
    enable_ve(v, VE_AREA);
    u64 leaf = PAGE_ONE | 6 << 3;
    entry_set(0, PAGE_ONE, leaf | 1);
    enter();
    ck_assert_int_eq(access_raises(PAGE_ONE + 8, true), FLOW_EVENT);
    ck_ve(VE_AREA, 0x78a, PAGE_ONE + 8, PAGE_ONE + 8, 0x1234);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_violation(0, PAGE_ONE + 8, true);               /* the last one is not done with */
    ve_done(VE_AREA);
    /* An address that no entry check has seen (a VMCS that lay in a guest's memory): the area stays within its page. */
    v->ve_information_address = VE_AREA | 0xff0;
    ck_assert_int_eq(access_raises(PAGE_ONE + 8, true), FLOW_EVENT);
    ck_ve(VE_AREA, 0x78a, PAGE_ONE + 8, PAGE_ONE + 8, 0x1234);
    v->ve_information_address = VE_AREA;
    ve_done(VE_AREA);
    entry_set(0, PAGE_ONE, leaf | 1 | SUPPRESS);
    ck_violation(0, PAGE_ONE + 8, true);
    entry_set(0, PAGE_ONE, 0);
    tlb_invept(&cpu, 0, 0, true);
    ck_assert_int_eq(access_raises(PAGE_ONE, false), FLOW_EVENT);
    ck_ve(VE_AREA, 0x781, PAGE_ONE, PAGE_ONE, 0x1234);
    ve_done(VE_AREA);
    entry_set(0, PAGE_ONE, SUPPRESS);
    ck_violation(0, PAGE_ONE, false);
    /* An entry that refers to another table has no say, unless it is absent itself. */
    entry_set(0, PAGE_ONE, leaf | 1);
    bench_poke64(EPT(0) + 0x2008, (EPT(0) + 0x3000) | 7 | SUPPRESS);
    tlb_invept(&cpu, 0, 0, true);
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EVENT);
    ck_ve(VE_AREA, 0x78a, PAGE_ONE, PAGE_ONE, 0x1234);
    ve_done(VE_AREA);
    bench_poke64(EPT(0) + 0x2008, SUPPRESS);
    tlb_invept(&cpu, 0, 0, true);
    ck_violation(0, PAGE_ONE, true);
    bench_poke64(EPT(0) + 0x2008, (EPT(0) + 0x3000) | 7);
    /* Misconfigurations never convert. */
    entry_set(0, PAGE_ONE, leaf | 2);
    tlb_invept(&cpu, 0, 0, true);
    ck_assert_int_eq(access_raises(PAGE_ONE, false), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_MISCONFIGURATION);
    /* Without the control bit 63 means nothing. */
    entry_set(0, PAGE_ONE, 0);
    v->secondary_controls &= ~(u64)SECONDARY_EPT_VIOLATION_VE;
    enter();
    ck_violation(0, PAGE_ONE, true);
}
END_TEST

/* The guest's page tables, EPTP switching, and what else must hold: protected mode, no event in delivery. */
START_TEST(ve_when)
{
    struct vmcs *v = &frame[0].vmcs;
    enable_ve(v, VE_AREA);
    enable_switching(v, LIST);
    entry_set(3, PAGE_ONE, 0);
    enter();
    ck_assert_int_eq(vmfunc(0, 3), FLOW_END);
    ck_assert_uint_eq(v->eptp_index, 3);
    ck_assert_int_eq(access_raises(PAGE_ONE, false), FLOW_EVENT);
    ck_ve(VE_AREA, 0x781, PAGE_ONE, PAGE_ONE, 3);
    ve_done(VE_AREA);
    /* A page table that is not there. */
    bench_poke64(0x330000, 0x331007), bench_poke64(0x331000, BENCH_TABLES + 0x2007);
    entry_set(3, 0x331000, 0);
    cpu.sys.cr3 = 0x330000;
    tlb_flush_everything(&cpu);
    cpu_mode_update(&cpu);
    ck_assert_int_eq(access_raises(0x1238, false), FLOW_EVENT);
    ck_ve(VE_AREA, 0x81, 0x1238, 0x331000, 3);
    ve_done(VE_AREA);
    cpu.sys.cr3 = BENCH_TABLES;
    tlb_flush_everything(&cpu);
    cpu_mode_update(&cpu);
    /* While an event is delivered: an exit, with the event in the IDT-vectoring information. */
    cpu.event.delivering = 1;
    cpu.event.d_vector = 0x30;
    cpu.event.d_type = EVT_EXTERNAL;
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | 0x30);
    /* NMIs that IRET has unblocked show in the information as they would in the qualification. */
    enter();
    cpu.event.nmi_unblocking_iret = 1;
    ck_assert_int_eq(access_raises(PAGE_ONE, false), FLOW_EVENT);
    ck_ve(VE_AREA, 0x1781, PAGE_ONE, PAGE_ONE, 3);
    ve_done(VE_AREA);
    cpu.event.nmi_unblocking_iret = 0;
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    /* Real mode. */
    struct vmcs kept = *v;
    bench_vmcs_real(v);
    v->secondary_controls = kept.secondary_controls | SECONDARY_UNRESTRICTED_GUEST;
    v->pin_controls = kept.pin_controls, v->primary_controls = kept.primary_controls;
    v->exit_controls = kept.exit_controls;
    v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = v->cr3_target_count = 0;
    v->ept_pointer = EPTP(3), v->ve_information_address = VE_AREA, v->launched = kept.launched;
    v->eptp_list_address = LIST, v->virtual_processor_identifier = 7, v->vmcs_link_pointer = ~0ull;
    v->host_rip = 0x2000;
    enter();
    ck_assert_int_eq(access_raises(PAGE_ONE, false), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
}
END_TEST

/* Through the IDT to the guest's handler: a fault without error code, CR2 left alone; or to the hypervisor, if the
 * exception bitmap says so; and a double fault behind a page fault [SDM3 "Delivery of Virtualization Exceptions"]. */
START_TEST(ve_delivery)
{
    struct vmcs *v = &frame[0].vmcs;
    enable_ve(v, VE_AREA);
    bench_poke64(GDT + 8, 0x00af9b000000ffffull);
    bench_poke64(GDT + 16, 0x00cf93000000ffffull);
    bench_poke64(IDT + 16 * EXC_VE, (u64)VE_HANDLER | 8ull << 16 | 0x8eull << 40);
    v->guest_gdtr_base = GDT;
    v->guest_idtr_base = IDT;
    entry_set(0, PAGE_ONE, 0);
    enter();
    cpu.sys.cr2 = 0x77;
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EVENT);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(cpu.core.rip, VE_HANDLER);
    ck_assert_uint_eq(cpu.core.rsp, 0xa000 - 5 * 8);
    ck_assert_uint_eq(bench_peek64(cpu.core.rsp), GUEST_RIP);
    ck_assert(bench_peek64(cpu.core.rsp + 16) & FL_RF);
    ck_assert_uint_eq(cpu.sys.cr2, 0x77);
    ve_done(VE_AREA);
    /* An EPT violation of the stack, while it is delivered, exits with #VE as the event that was being delivered. */
    cpu.core.rsp = PAGE_ONE + 0x1000;
    u64 rip = cpu.core.rip;
    ck_assert_int_eq(access_raises(PAGE_ONE + 8, true), FLOW_EVENT);
    cpu_service_events(&cpu);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | EVT_HARDWARE << 8 | EXC_VE);
    ck_assert_uint_eq(v->guest_rip, rip);
    ve_done(VE_AREA);
    /* The exception bitmap. */
    v->exception_bitmap = BIT(EXC_VE);
    enter();
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EVENT);
    cpu_service_events(&cpu);
    ck_exit(0, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | EVT_HARDWARE << 8 | EXC_VE);
    ck_assert_uint_eq(bench_peek64(VE_AREA), 0xffffffff00000030ull);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
    ve_done(VE_AREA);
    /* No gate: #NP while #VE is delivered is a double fault, as behind #PF. */
    v->exception_bitmap = BIT(EXC_DF);
    bench_poke64(IDT + 16 * EXC_VE, (u64)VE_HANDLER | 8ull << 16 | 0x0eull << 40);
    enter();
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EVENT);
    cpu_service_events(&cpu);
    ck_exit(0, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_info & 0xff, EXC_DF);
}
END_TEST

/* L3's own: the area lies in L2's memory. A violation of L1's EPT while L3 runs stays an exit, though L1 has the control. */
START_TEST(ve_of_l3)
{
    enable_ve(&frame[0].vmcs, VE_AREA);
    start_l3(0);
    enable_ve(&frame[1].vmcs, L2_VE_AREA);
    frame[1].vmcs.eptp_index = 9;
    entry_set(1, PAGE_ONE, PAGE_ONE | 6 << 3 | 1);
    enter();
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EVENT);
    ck_ve(L2_VE_AREA, 0x78a, PAGE_ONE, PAGE_ONE, 9);
    ve_done(L2_VE_AREA);
    entry_set(0, PAGE_TWO, PAGE_TWO | 6 << 3 | 1);
    tlb_invept(&cpu, 0, 0, true);
    ck_assert_int_eq(access_raises(PAGE_TWO, true), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(frame[0].vmcs.exit_qualification, 0x58a);  /* the stand-in's access */
    ck_assert_uint_eq(bench_peek64(VE_AREA + 24), 0);
    entry_set(0, PAGE_TWO, PAGE_TWO | 6 << 3 | 7);
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    /* L1 has taken L2's page with the area away: L1 first; then the access is made again and L3 gets its #VE. */
    entry_set(0, L2_VE_AREA, 0);
    tlb_invept(&cpu, 0, 0, true);
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, L2_VE_AREA);
    entry_set(0, L2_VE_AREA, L2_VE_AREA | 6 << 3 | 7);
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EVENT);
    ck_ve(L2_VE_AREA, 0x78a, PAGE_ONE, PAGE_ONE, 9);
    /* L2 itself gets L1's. */
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    entry_set(0, PAGE_TWO, 0);
    tlb_invept(&cpu, 0, 0, true);
    ck_assert_int_eq(access_raises(PAGE_TWO, false), FLOW_EVENT);
    ck_ve(VE_AREA, 0x781, PAGE_TWO, PAGE_TWO, 0x1234);
}
END_TEST

/* ---- sub-page write permissions ---------------------------------------------------------------------------------- */

static void sub_page_tables(struct vmcs *v, u64 root, u64 gpa, u64 permissions)
{
    v->secondary_controls |= SECONDARY_SPP;
    v->sub_page_permission_table_pointer = root;
    for (unsigned n = 0; n < 4; n++)
        bench_poke64(root + n * 0x1000 + (gpa >> (39 - 9 * n) & 511) * 8, n < 3 ? (root + (n + 1) * 0x1000) | 1 : permissions);
}

/* [SDM3 "SPP-Related Events"]: exit 66, with a miss told from a misconfiguration, both addresses, and NMIs that IRET has
 * unblocked; a sub-page that may not be written is an EPT violation. */
START_TEST(spp_exits)
{
    struct vmcs *v = &frame[0].vmcs;
    sub_page_tables(v, SPPT, PAGE_ONE, BIT(2));
    entry_set(0, PAGE_ONE, PAGE_ONE | 6 << 3 | 5 | BIT(61));
    enter();
    ck_assert(mem_write64(&cpu, PAGE_ONE + 128, 5));
    ck_assert_uint_eq(bench_peek64(PAGE_ONE + 128), 5);
    ck_assert_int_eq(access_raises(PAGE_ONE + 8, true), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->exit_qualification, 0x7aa);
    for (unsigned miss = 0; miss < 2; miss++) {
        bench_poke64(SPPT + 0x2000 + 8, miss ? 0 : (SPPT + 0x3000) | 3);
        enter();
        cpu.event.nmi_unblocking_iret = (u8)miss;
        ck_assert_int_eq(access_raises(PAGE_ONE + 0x88, true), FLOW_EXIT);
        ck_exit(0, EXIT_SPP_EVENT);
        ck_assert_uint_eq(v->exit_qualification, miss ? 1 << 11 | 1 << 12 : 0);
        ck_assert_uint_eq(v->guest_linear_address, PAGE_ONE + 0x88);
        ck_assert_uint_eq(v->guest_physical_address, PAGE_ONE + 0x88);
        ck_assert_uint_eq(v->guest_rip, GUEST_RIP);
        ck_assert(v->guest_rflags & FL_RF);
    }
}
END_TEST

/* L3 writes to sub-pages of L2's EPT and of L1's. What L1's table lacks is L1's; the write is made when both agree. */
START_TEST(spp_of_l3)
{
    sub_page_tables(&frame[0].vmcs, SPPT, PAGE_ONE, BIT(0) | BIT(4));
    start_l3(0);
    sub_page_tables(&frame[1].vmcs, SPPT + 0x4000, PAGE_ONE, BIT(0) | BIT(2));
    for (unsigned n = 0; n < 2; n++)
        entry_set(n, PAGE_ONE, PAGE_ONE | 6 << 3 | 5 | BIT(61));
    enter();
    ck_assert(mem_write64(&cpu, PAGE_ONE, 9));
    ck_assert_int_eq(access_raises(PAGE_ONE + 256, true), FLOW_EXIT);      /* L2's says no */
    ck_exit(1, EXIT_EPT_VIOLATION);
    enter();
    bench_poke64(SPPT + 0x6000 + 8, 0);
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EXIT);
    ck_exit(1, EXIT_SPP_EVENT);
    ck_assert_uint_eq(frame[1].vmcs.exit_qualification, 1 << 11);
    bench_poke64(SPPT + 0x6000 + 8, (SPPT + 0x7000) | 1);
    enter();
    u64 rip = cpu.core.rip;
    bench_poke64(SPPT + 0x2000 + 8, 0);
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EXIT);
    ck_exit(0, EXIT_SPP_EVENT);
    ck_assert_uint_eq(frame[0].vmcs.exit_qualification, 1 << 11);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, PAGE_ONE);
    bench_poke64(SPPT + 0x2000 + 8, (SPPT + 0x3000) | 1);
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(cpu.core.rip, rip);
    ck_assert(mem_write64(&cpu, PAGE_ONE, 10));
    ck_assert_uint_eq(bench_peek64(PAGE_ONE), 10);
}
END_TEST

/* ---- the hypervisor's own translation, and what goes with it ----------------------------------------------------- */

static void enable_hlat(struct vmcs *v, u64 to)
{
    v->primary_controls |= PRIMARY_TERTIARY_CONTROLS;
    v->tertiary_controls |= TERTIARY_HLAT;
    v->hlat_pointer = HLATP;
    v->hlat_prefix_size = 1;
    for (unsigned n = 0; n < 4; n++)
        bench_poke64(HLATP + n * 0x1000 + (HIGH >> (39 - 9 * n) & 511) * 8, (n < 3 ? HLATP + (n + 1) * 0x1000 : to) | 7);
}

/* L3's addresses are L2's to translate, not L1's; a fault of these tables goes through the masks of L2's exception bitmap. */
START_TEST(hlat_of_l3)
{
    enable_hlat(&frame[0].vmcs, PAGE_ONE);
    bench_poke64(BENCH_TABLES + 0xff8, (BENCH_TABLES + 0x1000) | 7);
    enter();
    ck_assert_uint_eq(guest_reads(HIGH), 1);
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    start_l3(0);
    struct vmcs *v = &frame[1].vmcs;
    enter();
    ck_assert_int_eq(access_raises(HIGH, false), FLOW_EVENT);
    ck_assert_uint_eq(cpu.event.vector, EXC_PF);
    ck_assert_uint_eq(cpu.event.error, 0);
    bench_clear();
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    enable_hlat(v, PAGE_TWO);
    v->exception_bitmap = BIT(EXC_PF);
    v->page_fault_error_mask = v->page_fault_error_match = 1 << 7;
    enter();
    ck_assert_uint_eq(guest_reads(HIGH), 2);
    bench_poke64(HLATP + 0x3000, 0);
    tlb_flush_everything(&cpu);
    ck_assert_int_eq(access_raises(HIGH + 0x18, true), FLOW_EVENT);
    cpu_service_events(&cpu);
    ck_exit(1, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(v->exit_interruption_error_code, 0x82);
    ck_assert_uint_eq(v->exit_qualification, HIGH + 0x18);
}
END_TEST

/* L3's page tables in pages that only paging may write, by L2's word; L1, which sees writes of L2's guest, needs them
 * writable or has the violation. Verification is the innermost frame's. */
START_TEST(paging_write_of_l3)
{
    start_l3(0);
    struct vmcs *v = &frame[1].vmcs;
    v->primary_controls |= PRIMARY_TERTIARY_CONTROLS;
    v->tertiary_controls = TERTIARY_EPT_PAGING_WRITE | TERTIARY_GUEST_PAGING_VERIFICATION;
    for (unsigned n = 0; n < 4; n++) {
        u64 table = HLATP + n * 0x1000;
        bench_poke64(table + (PAGE_ONE >> (39 - 9 * n) & 511) * 8, (n < 3 ? table + 0x1000 : PAGE_ONE) | 7);
        entry_set(1, table, table | 6 << 3 | 1 | BIT(58));
    }
    entry_set(1, PAGE_ONE, PAGE_ONE | 6 << 3 | 7 | BIT(57));
    v->guest_cr3 = HLATP;
    entry_set(0, HLATP, HLATP | 6 << 3 | 1);
    enter();
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EXIT);
    ck_exit(0, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, HLATP);
    ck_assert_uint_eq(frame[0].vmcs.exit_qualification & 0x3f, 0xa);
    entry_set(0, HLATP, HLATP | 6 << 3 | 7);
    enter();
    ck_assert(mem_write64(&cpu, PAGE_ONE, 3));
    ck_assert_uint_eq(bench_peek64(HLATP + 0x3000 + (PAGE_ONE >> 12 & 511) * 8) & 0x60, 0x60);
    entry_set(1, HLATP + 0x1000, (HLATP + 0x1000) | 6 << 3 | 7);           /* writable, but not for paging alone */
    tlb_flush_everything(&cpu);
    ck_assert_int_eq(access_raises(PAGE_ONE, true), FLOW_EXIT);
    ck_exit(1, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(v->exit_qualification, 0x87ba);
}
END_TEST

/* ---- who may execute --------------------------------------------------------------------------------------------- */

static enum flow fetch_raises(u64 la)
{
    const u8 *host;
    u64 offset;
    cpu.fault.kind = FAULT_NONE;
    return mem_fetch_page(&cpu, la, &host, &offset) ? FLOW_NEXT : cpu_raise_fault(&cpu);
}

/* Rights of an entry: R, W, execution by the supervisor (or at all), execution by the user. */
enum { RW = 3, X = 1 << 2, XU = 1 << 10 };

/* [SDM3 "Mode-Based Execute Control for EPT"] Each hypervisor tells the modes apart, or not; the innermost guest's address (U/S of its
 * entries, not the CPL) decides for all. The
 * violation belongs to the innermost whose table refuses, and its qualification has bit 6 where that one tells them apart. */
static void mode_based(unsigned frames)
{
    static const u64 rights[] = {0, X, XU, X | XU};
    for (unsigned controls = 0; controls < 1u << frames; controls++)
        for (unsigned outer = 0; outer < 4; outer++)
            for (unsigned inner = 0; inner < (frames > 1 ? 4 : 1); inner++)
                for (unsigned ring = 0; ring < 3; ring++) {
                    bool user = ring > 0;                  /* a user-mode address; at CPL 0, at CPL 3 */
                    setup();
                    frame[0].vmcs.secondary_controls |= controls & 1 ? SECONDARY_MODE_BASED_EXECUTE : 0;
                    for (unsigned k = 0; k < frames; k++)              /* the last table alone is to decide */
                        for (unsigned table = 0; table < 3; table++)
                            for (unsigned n = 0; n < 16; n += 8)
                                bench_poke64(EPT(k) + 0x1000 * table + n, bench_peek64(EPT(k) + 0x1000 * table + n) | XU);
                    if (frames > 1)
                        start_l3(controls & 2 ? SECONDARY_MODE_BASED_EXECUTE : 0);
                    struct vmcs *v = &frame[frames - 1].vmcs;
                    for (unsigned n = 0; n < 4; n++)
                        bench_poke64(HLATP + n * 0x1000 + (PAGE_ONE >> (39 - 9 * n) & 511) * 8,
                                     (n < 3 ? HLATP + (n + 1) * 0x1000 : PAGE_ONE) | (user ? 7 : 3));
                    v->guest_cr3 = HLATP;
                    if (ring == 2) {
                        v->guest_cs_access_rights = 0xa0fb, v->guest_ss_access_rights = 0xc0f3;
                        v->guest_cs_selector |= 3, v->guest_ss_selector |= 3;
                    }
                    enter();
                    ck_assert_uint_eq(cpu.mode.cpl, ring == 2 ? 3 : 0);
                    const u64 of[] = {rights[outer], rights[inner]};
                    int refuses = -1;
                    for (unsigned k = frames; k-- > 0;) {
                        entry_set(k, PAGE_ONE, PAGE_ONE | 6 << 3 | RW | of[k]);
                        if (!(of[k] & (user && controls >> k & 1 ? XU : X)))
                            refuses = refuses < 0 ? (int)k : refuses;
                    }
                    tlb_flush_everything(&cpu);
                    enum flow flow = fetch_raises(PAGE_ONE);
                    if (refuses < 0) {
                        ck_assert_int_eq(flow, FLOW_NEXT);
                        continue;
                    }
                    ck_assert_int_eq(flow, FLOW_EXIT);
                    bool tells = controls >> refuses & 1;
                    u64 seen = RW << 3 | (of[refuses] & X ? 1 << 5 : 0) | (tells && of[refuses] & XU ? 1 << 6 : 0);
                    ck_exit((unsigned)refuses, EXIT_EPT_VIOLATION);
                    ck_assert_uint_eq(frame[refuses].vmcs.exit_qualification & 0x1ff, (v == &frame[refuses].vmcs ? 0x184 : 4) | seen);
                    ck_assert_uint_eq(frame[refuses].vmcs.guest_physical_address, PAGE_ONE);
                }
}

START_TEST(mode_based_of_l2) { mode_based(1); }
END_TEST

START_TEST(mode_based_of_l3) { mode_based(2); }
END_TEST

/* ---- logs -------------------------------------------------------------------------------------------------------- */

/* The empty log of frame k is at SPPT + k * 0x1000. */
static void with_log(unsigned k)
{
    frame[k].vmcs.secondary_controls |= SECONDARY_PML;
    frame[k].vmcs.pml_address = SPPT + k * 0x1000;
    frame[k].vmcs.pml_index = 511;
    frame[k].vmcs.ept_pointer |= 1 << 6;
}

/* L2's writes, each page once; after the entry at index 0 there is no place. */
START_TEST(full_log_of_l2)
{
    struct vmcs *v = &frame[0].vmcs;
    with_log(0);
    enter();
    guest_reads(PAGE_ONE);                                 /* logs the guest's page tables */
    v->pml_index = 1;
    ck_assert(mem_write64(&cpu, PAGE_ONE, 5) && mem_write64(&cpu, PAGE_ONE + 8, 5));
    ck_assert_uint_eq(v->pml_index, 0);
    ck_assert_uint_eq(bench_peek64(SPPT + 8), PAGE_ONE);
    ck_assert(mem_write64(&cpu, PAGE_TWO, 6));
    ck_assert_uint_eq(v->pml_index, 0xffff);
    ck_assert_uint_eq(bench_peek64(SPPT), PAGE_TWO);
    ck_assert_int_eq(access_raises(PAGE_TWO + 0x1000, true), FLOW_EXIT);
    ck_exit(0, EXIT_PML_FULL);
    ck_assert_uint_eq(bench_peek64(PAGE_TWO + 0x1000), 0);
}
END_TEST

/* A full log exits to the hypervisor whose it is, before anything is written: L1's while L3 runs, too. */
START_TEST(full_logs)
{
    with_log(0);
    start_l3(SECONDARY_PML);
    with_log(1);
    for (unsigned k = 0; k < 2; k++) {
        u64 page = k ? PAGE_ONE : PAGE_TWO;
        enter();
        ck_assert_uint_eq(cpu.vmx.depth, 2);
        guest_reads(page);
        frame[k].vmcs.pml_index = 0xffff;
        u64 before = bench_peek64(page);
        ck_assert_int_eq(access_raises(page, true), FLOW_EXIT);
        ck_exit(k, EXIT_PML_FULL);
        ck_assert_uint_eq(frame[k].vmcs.exit_qualification, 0);
        ck_assert_uint_eq(bench_peek64(page), before);
        frame[k].vmcs.pml_index = 511;
        enter();
        ck_assert_uint_eq(cpu.vmx.depth, 2);
        ck_assert(mem_write64(&cpu, page, 0x77));
        ck_assert_uint_eq(bench_peek64(page), 0x77);
        bool found = false;
        for (u64 n = frame[k].vmcs.pml_index + 1; n < 512; n++)
            found |= bench_peek64(SPPT + k * 0x1000 + 8 * n) == page;
        ck_assert(found);
        ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
        ck_assert_uint_eq(cpu.vmx.depth, 1);
    }
}
END_TEST

/* ---- invalidation ------------------------------------------------------------------------------------------------- */

/* L3 reads PAGE_ONE again after its hypervisors, down to that of frame k, did `invalidate`. */
static u64 read_after(unsigned k, enum flow (*invalidate)(struct cpu *, const struct insn *, u64, u64, u64), u64 type, u64 what)
{
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_GETSEC));         /* to L2 */
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    if (k == 0)
        ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_GETSEC));     /* to L1 */
    cpu.core.rip = 0x2000;
    ck_assert_int_eq(invalidate(&cpu, &insn, type, what, 0), FLOW_END);
    ck_assert_uint_eq(cpu_rflags(&cpu) & (FL_CF | FL_ZF), 0);
    if (k == 0)
        enter();
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    return guest_reads(PAGE_ONE);
}

/* INVEPT and INVVPID of a hypervisor name its own EPT pointers and VPIDs: L2's EPT B is not L1's, L1's VPID 3 is not L2's. */
START_TEST(invalidation_by_level)
{
    u64 leaf = HLATP + 0x3000 + (PAGE_ONE >> 12 & 511) * 8;
    start_l3(SECONDARY_VPID);
    for (unsigned n = 0; n < 3; n++)
        bench_poke64(HLATP + n * 0x1000 + (PAGE_ONE >> (39 - 9 * n) & 511) * 8, (HLATP + (n + 1) * 0x1000) | 7);
    bench_poke64(leaf, PAGE_ONE | 7);
    frame[1].vmcs.guest_cr3 = HLATP;
    frame[1].vmcs.virtual_processor_identifier = 3;
    enter();
    ck_assert_uint_eq(guest_reads(PAGE_ONE), 1);
    for (unsigned k = 0; k < 2; k++) {
        entry_set(k, PAGE_ONE, PAGE_TWO | 6 << 3 | 7);
        ck_assert_uint_eq(read_after(1, vmx_insn_invept, 1, EPTP(!k * 2)), 1);
        ck_assert_uint_eq(read_after(0, vmx_insn_invept, 1, EPTP(k ? 1 : 2)), 1);
        ck_assert_uint_eq(read_after(k, vmx_insn_invept, 1, EPTP(k)), 2);
        entry_set(k, PAGE_ONE, PAGE_ONE | 6 << 3 | 7);
        ck_assert_uint_eq(read_after(k, vmx_insn_invept, 2, 0), 1);
    }
    bench_poke64(leaf, PAGE_TWO | 7);
    ck_assert_uint_eq(read_after(0, vmx_insn_invvpid, 1, 3), 1);
    ck_assert_uint_eq(read_after(1, vmx_insn_invvpid, 1, 7), 1);
    ck_assert_uint_eq(read_after(1, vmx_insn_invvpid, 1, 3), 2);
    bench_poke64(leaf, PAGE_ONE | 7);
    ck_assert_uint_eq(read_after(0, vmx_insn_invvpid, 1, 7), 1);       /* L1's own for all that L2 and its guest ran */
}
END_TEST

/* ---- all engines -------------------------------------------------------------------------------------------------- */

/* A guest that changes its view of memory, writes to a sub-page, and takes a #VE in every round, on the interpreter, on calls of
 * handlers and on translated code: the same registers, memory and count of instructions. */
START_TEST(engines)
{
    enum { INTERPRETER, CALLS, TRANSLATED, ENGINES, ROUNDS = 3000 };
    static const u8 guest[] = {
        0x31, 0xc0,                                              /* xor eax,eax */
        0x89, 0xd9,                                              /* mov ecx,ebx */
        0x0f, 0x01, 0xd4,                                        /* vmfunc */
        0x48, 0x8b, 0x14, 0x25, 0x00, 0x00, 0x30, 0x00,          /* mov rdx,[PAGE_ONE] */
        0x48, 0x01, 0xd6,                                        /* add rsi,rdx */
        0x48, 0x89, 0x34, 0x25, 0x80, 0x20, 0x30, 0x00,          /* mov [0x302080],rsi: the second sub-page */
        0x83, 0xf3, 0x01,                                        /* xor ebx,1 */
        0x48, 0x89, 0x34, 0x25, 0x00, 0x40, 0x30, 0x00,          /* mov [0x304000],rsi: read-only */
        0xff, 0xcd,                                              /* dec ebp */
        0x75, 0xd7,                                              /* jnz */
        0x0f, 0xa2,                                              /* cpuid */
    };
    static const u8 handler[] = {
        0xc7, 0x04, 0x25, 0x04, 0x20, 0x31, 0x00, 0, 0, 0, 0,    /* mov dword [VE_AREA + 4],0 */
        0x48, 0x83, 0x04, 0x24, 0x08,                            /* add qword [rsp],8: past the write */
        0x49, 0xff, 0xc0,                                        /* inc r8 */
        0x48, 0xcf,                                              /* iretq */
    };
    static const u8 host[] = {0xf4};
    struct cpu_core first = {0};
    u64 first_now = 0, first_sub_page = 0;
    for (unsigned engine = 0; engine < ENGINES; engine++) {
        if (engine) {
            bench_teardown();
            setup();
        }
        struct interp *interp = interp_new(&bus);
        ck_assert_ptr_nonnull(interp);
        cpu.interp = interp;
        if (engine != INTERPRETER && !jit_attach(interp, &cpu, 1, engine == CALLS, JIT_SAMPLE_EVERY)) {
            interp_free(interp);
            return;                            /* this host has no translated code */
        }
        struct vmcs *v = &frame[0].vmcs;
        enable_switching(v, LIST);
        enable_ve(v, VE_AREA);
        sub_page_tables(v, SPPT, 0x302000, BIT(2));
        for (unsigned n = 0; n < 2; n++) {
            entry_set(n, 0x302000, 0x302000 | 6 << 3 | 5 | BIT(61));
            entry_set(n, 0x304000, 0x304000 | 6 << 3 | 5);
        }
        entry_set(1, PAGE_ONE, PAGE_TWO | 6 << 3 | 7);
        bench_poke64(GDT + 8, 0x00af9b000000ffffull), bench_poke64(GDT + 16, 0x00cf93000000ffffull);
        bench_poke64(IDT + 16 * EXC_VE, (u64)VE_HANDLER | 8ull << 16 | 0x8eull << 40);
        v->guest_gdtr_base = GDT, v->guest_idtr_base = IDT;
        ck_assert(bus_copy_to(&bus, GUEST_RIP, guest, sizeof guest) && bus_copy_to(&bus, VE_HANDLER, handler, sizeof handler) &&
                  bus_copy_to(&bus, 0x2000, host, sizeof host));
        cpu.core.rbx = cpu.core.rsi = cpu.core.r8 = 0;
        cpu.core.rbp = ROUNDS;
        enter();
        cpu.stop_at = cpu.time.now + 100 * ROUNDS;
        cpu_run(&cpu);
        flags_canonical(&cpu);
        ck_assert_uint_eq(cpu.event.activity, ACTIVITY_HLT);
        ck_exit(0, EXIT_CPUID);
        ck_assert_uint_eq(cpu.core.rsi, ROUNDS / 2 * 3);
        ck_assert_uint_eq(cpu.core.r8, ROUNDS);
        ck_assert_uint_eq(bench_peek64(0x304000), 0);
        if (engine == INTERPRETER) {
            first = cpu.core, first_now = cpu.time.now, first_sub_page = bench_peek64(0x302080);
            ck_assert_uint_eq(first_sub_page, ROUNDS / 2 * 3);
        } else {
            ck_assert(memcmp(&first, &cpu.core, sizeof first) == 0);
            ck_assert_uint_eq(cpu.time.now, first_now);
            ck_assert_uint_eq(bench_peek64(0x302080), first_sub_page);
        }
        interp_free(interp);
        cpu.interp = NULL;
    }
}
END_TEST

/* ---- models and hardware ----------------------------------------------------------------------------------------- */

static u64 ept_capability(void)
{
    bool known;
    u64 value = 0;
    ck_assert(vmx_msr_read(&cpu, MSR_IA32_VMX_EPT_VPID_CAP, &value, &known) && known);
    return value;
}

/* What EPT can do follows the model, and what the policy says of L0's hardware; it is what the walks do. */
START_TEST(capabilities)
{
    static const struct { const char *model; u64 value; } rows[] = {
        {"nehalem", 0xf0106114141ull}, {"haswell", 0xf0106334141ull}, {"skylake", 0xf0106734141ull}, {"icelake", 0xf01067341c1ull},
        {"sapphire-rapids", 0x10f0106f341c1ull}, {"base", 0x10f01067341c1ull}};
    for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
        bench_model(rows[n].model);
        ck_assert_msg(ept_capability() == rows[n].value, "%s: %llx", rows[n].model, (unsigned long long)ept_capability());
    }
    ck_assert(vmx_eptp_valid(&cpu, EPTP(0) | 1 << 6) && !vmx_eptp_valid(&cpu, EPTP(0) | 1 << 7));
    set_policy("augmented,hw=nehalem,offer=none");
    ck_assert_uint_eq(ept_capability(), 0xf0106114141ull);
    ck_assert(!vmx_eptp_valid(&cpu, EPTP(0) | 1 << 6) && !vmx_eptp_valid(&cpu, EPT(0) | 4 << 3 | 6));
    set_policy("augmented,hw=nehalem,offer=walk-5+accessed-dirty+pml");
    ck_assert_uint_eq(ept_capability(), 0xf01063141c1ull);
    set_policy("augmented,hw=nehalem");
    ck_assert_uint_eq(ept_capability(), 0x10f01067341c1ull);
    /* A page of 1 GiB, and the bits about the linear address, where they do not exist. */
    bench_poke64(EPT(0) + 0x1000, 0 | 1 << 7 | 6 << 3 | 7);
    struct vmcs *v = &frame[0].vmcs;
    static const char *const policies[] = {"augmented,hw=nehalem,offer=none", "augmented,hw=haswell,offer=none", "hardware"};
    for (unsigned n = 0; n < ARRAY_SIZE(policies); n++) {
        set_policy(policies[n]);
        tlb_flush_everything(&cpu);
        v->ept_pointer = EPTP(0);
        v->launched = 0;
        enter();
        u64 value;
        ck_assert_int_eq(mem_read64(&cpu, PAGE_ONE, &value), n > 0);
        if (n == 0)
            ck_assert_uint_eq(cpu.fault.kind, FAULT_EPT_MISCONFIG);
        ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
        v->ept_pointer = EPTP(1);
        entry_set(1, PAGE_ONE, 0);
        enter();
        ck_assert_int_eq(access_raises(PAGE_ONE, false), FLOW_EXIT);
        ck_exit(0, EXIT_EPT_VIOLATION);
        ck_assert_uint_eq(v->exit_qualification, n == 2 ? 0x781 : 0x181);
    }
}
END_TEST

int main(void)
{
    const TTest *const one_frame[] = {vmfunc_order, eptp_switching, eptp_switching_refused, ve_which_convert, ve_when, ve_delivery, spp_exits,
                                      mode_based_of_l2, full_log_of_l2, engines};
    const TTest *const two_frames[] = {eptp_switching_of_l3, ve_of_l3, spp_of_l3, hlat_of_l3, paging_write_of_l3, mode_based_of_l3, full_logs,
                                       invalidation_by_level};
    const TTest *const models[] = {capabilities};
    static const struct { const char *policy; bool offers; } row[] = {
        {"transparent", true}, {"multilevel", true}, {"multilevel,route.io=L1,route.external_interrupt=L2", true},
        {"hardware", false}, {"augmented,hw=nehalem", false}, {"augmented,hw=icelake,offer=hlat+ept-paging-write", false}};
    int status = EXIT_SUCCESS;
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        policy = row[n].policy;
        status |= bench_run_with(policy, one_frame, ARRAY_SIZE(one_frame), setup);
        if (row[n].offers)
            status |= bench_run_with(policy, two_frames, ARRAY_SIZE(two_frames), setup);
    }
    policy = "transparent";
    return status | bench_run_with("models", models, ARRAY_SIZE(models), setup);
}
