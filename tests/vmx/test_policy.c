/* Policies: what L0 offers behind a hypervisor's back (CPUID, CR4.VMXE, MSRs, VMX instructions), and suspended units:
 * what L1 sees while L3 is under L2, what comes back, how injected events travel inwards, and how a guest's VMX state
 * goes with its VMCS.
 */
#include "cpu/event.h"
#include "tests/vmx/bench_vmcs.h"
#include "cpu/msr.h"
#include "vmx/insn.h"
#include "vmx/policy.h"
#include "vmx/stats.h"

/* L1's EPT for L2: identity, 4 KiB pages from 2 to 4 MiB, large ones else */
#define EPT_ROOT 0x280000u
#define EPT_PAGES 0x283000u
#define L1_VMCS BENCH_VMCS
#define L1_OTHER 0x204000u
#define L2_VMXON 0x300000u                 /* gpa of L2 */
#define L2_VMCS 0x2f0000u
#define L1_RIP 0x2000u
#define L2_RIP 0x3000u
#define L2_HOST 0x3800u
#define L3_RIP 0x4000u
#define CPUID_VMX (1u << 5)

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmx_frame *const frame = cpu.vmx.frame;

static int acknowledged;
static int board_acknowledge(void *arg, struct cpu *c) { (void)arg, (void)c; return acknowledged; }
static struct cpu_board with_interrupts;

static void ept_map(u64 gpa, u64 hpa, bool present)
{
    bench_poke64(EPT_PAGES + (gpa >> 12 & 511) * 8, present ? hpa | 6 << 3 | 7 : 0);
    tlb_flush_everything(&cpu);
}

static void setup(void)
{
    bench_hypervisor_setup();
    with_interrupts = bench_board;
    with_interrupts.interrupt_acknowledge = board_acknowledge;
    cpu.board = &with_interrupts;
    acknowledged = 0x31;
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_transparent;
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;

    struct vmcs *v = &frame[0].vmcs;
    bench_vmcs_64(v);
    bench_ept(v, EPT_ROOT, 1024);
    bench_ept_pages(EPT_ROOT, EPT_PAGES);
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING;
    v->exit_controls |= VMEXIT_ACKNOWLEDGE_INTERRUPT;
    v->cr4_guest_host_mask = CR4_VMXE | CR4_PGE;
    v->host_rip = L1_RIP;
    v->guest_rip = L2_RIP;
    v->guest_rsp = 0x7000;
    bus_write(&bus, 0, L1_VMCS, 4, VMCS_REVISION);
    bus_write(&bus, 0, L1_OTHER, 4, VMCS_REVISION);
    bus_write(&bus, 0, L2_VMXON, 4, VMCS_REVISION);
    bus_write(&bus, 0, L2_VMCS, 4, VMCS_REVISION);
}

static void ck_level(unsigned level) { ck_assert_uint_eq(cpu.vmx.depth + 1, level); }

/* The running hypervisor enters its guest. */
static void enter(void)
{
    unsigned k = cpu.vmx.depth;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, !frame[k].vmcs.launched), FLOW_EXIT);
}

static void leave(u32 reason)
{
    ck_assert(vmx_intercept_simple(&cpu, &insn, reason));
}

/* The guest executes CPUID leaf 1, the parent shows it `ecx`. */
static void guest_cpuid(unsigned k, u32 ecx, bool advance)
{
    cpu.core.rax = 1;
    leave(EXIT_CPUID);
    ck_assert_uint_eq(cpu.vmx.depth, k);
    cpu.core.rcx = ecx;
    if (advance)
        frame[k].vmcs.guest_rip += 3;
    enter();
}

static void offered_l2(void)
{
    enter();
    ck_level(2);
    guest_cpuid(0, 0, true);
    ck_assert_uint_eq(cpu.core.rcx & CPUID_VMX, CPUID_VMX);
}

/* L2 turns VMX on and starts L3. */
static void started_l3(void)
{
    offered_l2();
    frame[1].cr4_vmxe = CR4_VMXE;
    cpu.core.rip = L2_RIP + 3;
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, L2_VMXON), FLOW_END);
    ck_assert(frame[1].vmxon);
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, L2_VMCS), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L2_VMCS), FLOW_END);
    ck_assert_uint_eq(frame[1].vmcs_ptr, L2_VMCS);
    struct vmcs *v = &frame[1].vmcs;
    bench_vmcs_64(v);
    v->host_rip = L2_HOST;
    v->host_rsp = 0x7800;
    v->host_fs_base = 0x12340000;
    v->guest_rip = L3_RIP;
    v->guest_rsp = 0x8800;
    v->guest_rflags = FL_R1;
    frame[1].checked = 0;
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
}

/* ---- the offer --------------------------------------------------------------------------------------------------- */

START_TEST(test_offer)
{
    offered_l2();
    ck_assert(frame[1].offered);
    ck_assert_uint_eq(cpu.core.rip, L2_RIP + 3);
    /* Other leaves are left alone. */
    cpu.core.rax = 7;
    leave(EXIT_CPUID);
    cpu.core.rcx = 0;
    frame[0].vmcs.guest_rip += 3;
    enter();
    ck_assert_uint_eq(cpu.core.rcx, 0);
}
END_TEST

START_TEST(test_no_offer)
{
    enter();
    guest_cpuid(0, 0, false);              /* the instruction was not finished */
    ck_assert_uint_eq(cpu.core.rcx & CPUID_VMX, 0);
    ck_assert(!frame[1].offered);
    guest_cpuid(0, CPUID_VMX, true);       /* the parent emulates VMX itself */
    ck_assert(!frame[1].offered);
    cpu.policy = &vmx_policy_hardware;
    guest_cpuid(0, 0, true);
    ck_assert_uint_eq(cpu.core.rcx & CPUID_VMX, 0);
    leave(EXIT_CPUID);
    cpu.policy = &vmx_policy_transparent;
    frame[0].vmcs.secondary_controls = 0;  /* no EPT */
    frame[0].checked = 0;
    enter();
    guest_cpuid(0, 0, true);
    ck_assert_uint_eq(cpu.core.rcx & CPUID_VMX, 0);
}
END_TEST

static bool mov_to_cr4(u64 value)
{
    struct vmx_ask ask = {.reason = EXIT_CR_ACCESS, .number = 4, .value = value, .qualification = 4 | REG_RBX << 8};
    cpu.core.rbx = value;
    return vmx_intercept(&cpu, &insn, &ask);
}

START_TEST(test_cr4_vmxe)
{
    offered_l2();
    ck_assert_uint_eq(vmx_guest_cr4(&cpu) & CR4_VMXE, 0);
    ck_assert_int_eq(vmx_insn_begin_vmxon(&cpu, &insn, 0), FLOW_EVENT);     /* #UD */
    cpu.event.valid = 0;
    /* VMXE alone: nobody's business but L0's. */
    ck_assert(!mov_to_cr4(CR4_PAE | CR4_VMXE));
    ck_assert_uint_eq(vmx_merge_cr4(&cpu, CR4_PAE | CR4_VMXE), CR4_PAE | CR4_VMXE);
    vmx_note_cr4(&cpu, CR4_PAE | CR4_VMXE);
    ck_assert_uint_eq(vmx_guest_cr4(&cpu) & CR4_VMXE, CR4_VMXE);
    ck_assert_int_eq(vmx_insn_begin_vmxon(&cpu, &insn, 0), FLOW_NEXT);
    ck_assert(!mov_to_cr4(CR4_PAE));
    vmx_note_cr4(&cpu, CR4_PAE);
    ck_assert_uint_eq(vmx_guest_cr4(&cpu) & CR4_VMXE, 0);

    /* With a bit that L1 owns: L1 sees the rest. */
    ck_assert(mov_to_cr4(CR4_PAE | CR4_PGE | CR4_VMXE));
    ck_level(1);
    ck_assert_uint_eq(cpu.core.rbx, CR4_PAE | CR4_PGE);
    enter();                               /* L1 refused: it would inject #GP */
    ck_assert_uint_eq(cpu.core.rbx, CR4_PAE | CR4_PGE | CR4_VMXE);
    ck_assert_uint_eq(vmx_guest_cr4(&cpu) & CR4_VMXE, 0);
    ck_assert(mov_to_cr4(CR4_PAE | CR4_PGE | CR4_VMXE));
    frame[0].vmcs.guest_rip += 3;
    frame[0].vmcs.cr4_read_shadow = CR4_PAE | CR4_PGE;
    enter();
    ck_assert_uint_eq(cpu.core.rbx, CR4_PAE | CR4_PGE | CR4_VMXE);
    ck_assert_uint_eq(vmx_guest_cr4(&cpu) & (CR4_VMXE | CR4_PGE), CR4_VMXE | CR4_PGE);

    /* In VMX operation VMXE cannot be cleared. */
    frame[1].vmxon = 1;
    ck_assert(mov_to_cr4(CR4_PAE | CR4_PGE));
    ck_level(2);
    ck_assert(cpu.event.valid && cpu.event.vector == EXC_GP);
}
END_TEST

START_TEST(test_msrs)
{
    u64 value;
    bool known;
    struct vmx_ask ask = {.reason = EXIT_RDMSR, .number = MSR_IA32_VMX_BASIC};
    enter();
    ck_assert(vmx_intercept(&cpu, &insn, &ask));          /* before the offer it is L1's */
    enter();
    guest_cpuid(0, 0, true);
    cpu.sys.feature_control = 0;
    ck_assert(!vmx_intercept(&cpu, &insn, &ask));
    ask.number = MSR_IA32_FEATURE_CONTROL;
    ck_assert(!vmx_intercept(&cpu, &insn, &ask));
    ck_assert(vmx_msr_read(&cpu, MSR_IA32_FEATURE_CONTROL, &value, &known) && known);
    ck_assert_uint_eq(value, FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX);
    ask.number = 0x1b;
    ck_assert(vmx_intercept(&cpu, &insn, &ask));
}
END_TEST

/* IA32_DEBUGCTL of a hypervisor that L0 has offered VMX is answered by L0 where its running value is what L1 would look
 * up in its VMCS, and by L1 everywhere else. */
START_TEST(test_debugctl)
{
    struct vmx_ask read = {.reason = EXIT_RDMSR, .number = MSR_IA32_DEBUGCTL};
    struct vmx_ask write = {.reason = EXIT_WRMSR, .number = MSR_IA32_DEBUGCTL};
    cpu.stats = vmx_stats_create();
    ck_assert(cpu.stats);
    frame[0].vmcs.entry_controls |= VMENTRY_LOAD_DEBUG_CONTROLS;
    frame[0].vmcs.exit_controls |= VMEXIT_SAVE_DEBUG_CONTROLS;
    frame[0].vmcs.guest_ia32_debugctl = 2;
    frame[0].checked = 0;
    started_l3();
    ck_assert(vmx_intercept(&cpu, &insn, &read));         /* L3 is no hypervisor: L2 answers */
    ck_level(2);
    ck_assert(!vmx_intercept(&cpu, &insn, &read));
    ck_level(2);
    ck_assert_uint_eq(cpu.stats->exits[2][EXIT_RDMSR][0], 1);
    ck_assert(vmx_intercept(&cpu, &insn, &write));
    ck_level(1);
    enter();
    frame[1].vmxon = 0;                                    /* not in VMX operation */
    ck_assert(vmx_intercept(&cpu, &insn, &read));
    enter();
    frame[1].vmxon = 1;
    frame[0].vmcs.exit_controls &= ~(u64)VMEXIT_SAVE_DEBUG_CONTROLS;
    ck_assert(vmx_intercept(&cpu, &insn, &read));
    ck_assert_uint_eq(cpu.stats->exits[2][EXIT_RDMSR][0], 1);
    vmx_stats_destroy(cpu.stats);
    cpu.stats = NULL;
}
END_TEST

/* The same under multilevel, but where its table says who answers: all rows that cover the access, none that does not. */
START_TEST(test_debugctl_by_table)
{
    static const struct { const char *policy; bool l0; } row[] = {
        {"transparent", true}, {"multilevel", true}, {"multilevel,route.rdmsr.0x1d9=innermost", false},
        {"multilevel,route.rdmsr.0x1d9=L1", false}, {"multilevel,route.msr.0x100-0x200=L1", false},
        {"multilevel,route.rdmsr=innermost", false}, {"multilevel,route.instruction=outermost", false},
        {"multilevel,route.wrmsr.0x1d9=L1", true}, {"multilevel,route.rdmsr.0x1da=L1", true},
        {"multilevel,route.rdmsr=L1,route.rdmsr.0x1d9=L0", true}, {"transparent,route.rdmsr=L1", false},
    };
    struct vmx_ask read = {.reason = EXIT_RDMSR, .number = MSR_IA32_DEBUGCTL};
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        char message[256];
        setup();
        ck_assert_msg(vmx_policy_set(&cpu, row[n].policy, message, sizeof message), "%s", message);
        frame[0].vmcs.entry_controls |= VMENTRY_LOAD_DEBUG_CONTROLS;
        frame[0].vmcs.exit_controls |= VMEXIT_SAVE_DEBUG_CONTROLS;
        started_l3();
        ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_GETSEC));     /* which no table routes */
        ck_level(2);
        ck_assert_msg(vmx_intercept(&cpu, &insn, &read) == !row[n].l0, "%s", row[n].policy);
        ck_level(row[n].l0 ? 2 : 1);
    }
}
END_TEST

START_TEST(test_l2_instructions)
{
    offered_l2();
    ck_assert_int_eq(vmx_insn_begin(&cpu, &insn, EXIT_VMPTRLD, 0), FLOW_EVENT);   /* not in VMX operation: #UD */
    cpu.event.valid = 0;
    ck_assert_int_eq(vmx_insn_vmcall(&cpu, &insn), FLOW_EXIT);                    /* a hypercall to L1 all the same */
    ck_level(1);
    enter();
    frame[1].cr4_vmxe = CR4_VMXE;
    frame[1].feature_control = FEATURE_CONTROL_LOCKED;
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, L2_VMXON), FLOW_EVENT);
    cpu.event.valid = 0;
    frame[1].feature_control |= FEATURE_CONTROL_VMX;

    /* L2's region is not in L1's EPT: L1 gets an EPT violation at L2's instruction, which starts again. */
    u64 rip = cpu.core.rip;
    ept_map(L2_VMXON, 0, false);
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, L2_VMXON), FLOW_EXIT);
    ck_level(1);
    ck_assert_uint_eq(frame[0].vmcs.exit_reason, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, L2_VMXON);
    ck_assert_uint_eq(frame[0].vmcs.guest_rip, rip);
    ck_assert(!frame[1].vmxon);
    ept_map(L2_VMXON, L2_VMXON, true);
    enter();
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, L2_VMXON), FLOW_END);
    ck_assert(frame[1].vmxon);
    ck_assert(frame[0].vmxon);
}
END_TEST

/* ---- units ------------------------------------------------------------------------------------------------------- */

START_TEST(test_own_exit_stays_inside)
{
    started_l3();
    leave(EXIT_CPUID);
    ck_level(2);
    ck_assert_uint_eq(cpu.core.rip, L2_HOST);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_CPUID);
    ck_assert_uint_eq(frame[1].vmcs.guest_rip, L3_RIP);
    ck_assert_uint_eq(cpu.sys.cr4 & CR4_VMXE, CR4_VMXE);
    frame[1].vmcs.guest_rip += 2;
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP + 2);
}
END_TEST

START_TEST(test_stand_in)
{
    started_l3();
    cpu.core.rbx = 0xb0b;
    cpu.seg.s[SEG_FS].base = 0x777000;
    cpu.event.blocking = BLOCK_STI;
    cpu.event.blocking = 0;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_level(1);
    const struct vmcs *v = &frame[0].vmcs;
    ck_assert_uint_eq(v->exit_reason, EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | 0x31);
    ck_assert_uint_eq(v->guest_rip, L2_HOST);
    ck_assert_uint_eq(v->guest_rsp, 0x7800);
    ck_assert_uint_eq(v->guest_fs_base, 0x12340000);
    ck_assert_uint_eq(v->guest_rflags, FL_R1 | FL_IF);
    ck_assert_uint_eq(v->guest_interruptibility, 0);
    ck_assert_uint_eq(v->guest_activity, 0);
    ck_assert_uint_eq(cpu.core.rbx, 0xb0b);
    ck_assert(frame[0].unit.valid);
    frame[0].vmcs.guest_fs_base = 0x45670000;             /* L1 changes what it takes for L2's */
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
    ck_assert_uint_eq(cpu.core.rsp, 0x8800);
    ck_assert_uint_eq(cpu_rflags(&cpu), FL_R1);
    ck_assert_uint_eq(cpu.seg.s[SEG_FS].base, 0x777000);
    ck_assert(!frame[0].unit.valid);
    leave(EXIT_CPUID);
    ck_level(2);
    ck_assert_uint_eq(cpu.seg.s[SEG_FS].base, 0x45670000);
}
END_TEST

/* An EPT violation of L1's while L3 runs: no linear address, and an event that was being delivered to L3 is not
 * shown, but delivered again. */
START_TEST(test_violation_during_delivery)
{
    started_l3();
    cpu.event.delivering = 1;
    cpu.event.d_vector = 0x44;
    cpu.event.d_type = EVT_EXTERNAL;
    cpu.fault = (struct mem_fault){.kind = FAULT_EPT_VIOLATION, .frame = 0, .gpa = 0x5000, .la = 0x6000,
                                   .qualification = 0x182};
    vmx_memory_exit(&cpu);
    ck_level(1);
    ck_assert_uint_eq(frame[0].vmcs.exit_qualification, 2);
    ck_assert_uint_eq(frame[0].vmcs.idt_vectoring_info, 0);
    enter();
    ck_level(3);
    ck_assert(cpu.event.valid && cpu.event.injected);
    ck_assert_uint_eq(cpu.event.vector, 0x44);
    ck_assert(cpu.event.attention & ATT_EVENT);
}
END_TEST

static void interrupt_exit_and_inject(u32 info)
{
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_level(1);
    frame[0].vmcs.entry_interruption_info = info;
    frame[0].vmcs.entry_exception_error_code = 0;
    frame[0].checked = 0;
    enter();
}

START_TEST(test_injected_interrupt_acknowledged)
{
    started_l3();
    frame[1].vmcs.pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    frame[1].vmcs.exit_controls |= VMEXIT_ACKNOWLEDGE_INTERRUPT;
    interrupt_exit_and_inject(INFO_VALID | 0x55);
    ck_level(2);                           /* L2 sees its interrupt as its own VM exit */
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(frame[1].vmcs.exit_interruption_info, INFO_VALID | 0x55);
    ck_assert_uint_eq(frame[1].vmcs.guest_rip, L3_RIP);
    ck_assert_uint_eq(cpu.core.rip, L2_HOST);
    ck_assert(!cpu.event.valid);
}
END_TEST

START_TEST(test_injected_interrupt_not_acknowledged)
{
    started_l3();
    frame[1].vmcs.pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    interrupt_exit_and_inject(INFO_VALID | 0x55);
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(frame[1].vmcs.exit_interruption_info, 0);
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));     /* L2's IF is 0 */
    ck_assert(cpu.event.attention & ATT_VMX);
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    ck_level(2);
    ck_assert(cpu.event.valid && cpu.event.injected);
    ck_assert_uint_eq(cpu.event.vector, 0x55);
}
END_TEST

START_TEST(test_injected_interrupt_reaches_l3)
{
    started_l3();
    interrupt_exit_and_inject(INFO_VALID | 0x55);
    ck_level(3);
    ck_assert(!cpu.event.valid);           /* L3's IF is 0: held */
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    ck_level(3);
    ck_assert(cpu.event.valid && cpu.event.injected);
    ck_assert_uint_eq(cpu.event.vector, 0x55);
    ck_assert_uint_eq(cpu.event.type, EVT_EXTERNAL);
}
END_TEST

START_TEST(test_injected_nmi)
{
    started_l3();
    frame[1].vmcs.pin_controls |= PIN_NMI_EXITING;
    interrupt_exit_and_inject(INFO_VALID | EVT_NMI << 8 | EXC_NMI);
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
}
END_TEST

/* ---- virtual interrupts of an outer frame ------------------------------------------------------------------------ */

#define L2_VAPIC 0x340000u
#define L3_VAPIC 0x341000u                 /* gpa of L2 */
#define L3_POSTED 0x342040u
#define NOTIFICATION 0xf2u

/* L1 gives L2 a virtual APIC; then L3 runs. */
static void started_l3_apicv(void)
{
    struct vmcs *v = &frame[0].vmcs;
    v->primary_controls |= PRIMARY_TPR_SHADOW;
    v->secondary_controls |= SECONDARY_VIRTUAL_INTERRUPT_DELIVERY | SECONDARY_X2APIC_MODE;
    v->virtual_apic_address = L2_VAPIC;
    started_l3();
}

/* L2 gives L3 one as well, with posted interrupts. */
static void l3_apicv(void)
{
    struct vmcs *v = &frame[1].vmcs;
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING | PIN_POSTED_INTERRUPTS;
    v->exit_controls |= VMEXIT_ACKNOWLEDGE_INTERRUPT;
    v->primary_controls |= PRIMARY_TPR_SHADOW;
    v->secondary_controls |= SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;
    v->virtual_apic_address = L3_VAPIC;
    v->posted_interrupt_vector = NOTIFICATION;
    v->posted_interrupt_descriptor_address = L3_POSTED;
    leave(EXIT_CPUID);
    frame[1].checked = 0;
    enter();
    ck_level(3);
}

/* L1 has put `vector` into L2's virtual IRR and enters it again. */
static void l2_virtual_interrupt(u8 vector)
{
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_level(1);
    ck_assert(!(cpu.event.attention & ATT_VIRTUAL_INTR));
    bus_write(&bus, 0, L2_VAPIC + 0x200 + (vector >> 5) * 16u, 4, 1u << (vector & 31));
    frame[0].vmcs.guest_interrupt_status = vector;
    enter();
    ck_level(3);
}

static u32 word(u64 gpa) { return (u32)bus_read(&bus, 0, gpa, 4); }

/* It is an external interrupt to L2, which exits on them. */
START_TEST(test_virtual_interrupt_acknowledged)
{
    started_l3_apicv();
    frame[1].vmcs.pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    frame[1].vmcs.exit_controls |= VMEXIT_ACKNOWLEDGE_INTERRUPT;
    l2_virtual_interrupt(0x61);
    ck_assert(cpu.event.attention & ATT_VIRTUAL_INTR);
    ck_assert(vmx_virtual_interrupt(&cpu));          /* whatever L3's IF */
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(frame[1].vmcs.exit_interruption_info, INFO_VALID | 0x61);
    ck_assert_uint_eq(frame[0].vmcs.guest_interrupt_status, 0x6100);
    ck_assert_uint_eq(word(L2_VAPIC + 0x230), 0);
    ck_assert_uint_eq(word(L2_VAPIC + 0x130), 2);
    bool known;
    ck_assert(vmx_msr_write(&cpu, 0x80b, 0, &known) && known);       /* L2's EOI costs L1 nothing */
    ck_assert_uint_eq(frame[0].vmcs.guest_interrupt_status, 0);
    ck_level(2);
}
END_TEST

/* Without acknowledgement it stays pending until L2 takes it through its IDT. */
START_TEST(test_virtual_interrupt_not_acknowledged)
{
    started_l3_apicv();
    frame[1].vmcs.pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    l2_virtual_interrupt(0x61);
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_interruption_info, 0);
    ck_assert_uint_eq(frame[0].vmcs.guest_interrupt_status, 0x61);
    ck_assert(cpu.event.attention & ATT_VIRTUAL_INTR);
    ck_assert(!vmx_virtual_interrupt(&cpu));
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert(cpu.event.valid && cpu.event.injected);
    ck_assert_uint_eq(cpu.event.vector, 0x61);
}
END_TEST

/* L2 does not exit on external interrupts: it is L3's. */
START_TEST(test_virtual_interrupt_reaches_l3)
{
    started_l3_apicv();
    l2_virtual_interrupt(0x61);
    ck_assert(!vmx_virtual_interrupt(&cpu));
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_level(3);
    ck_assert(cpu.event.valid);
    ck_assert_uint_eq(cpu.event.vector, 0x61);
    ck_assert_uint_eq(frame[0].vmcs.guest_interrupt_status, 0x6100);
}
END_TEST

/* L2's virtual interrupt is the notification of interrupts posted to L3: nobody exits. */
START_TEST(test_posted_to_l3)
{
    started_l3_apicv();
    l3_apicv();
    bus_write(&bus, 0, L3_POSTED + 0x41 / 8, 1, 1 << (0x41 & 7));
    bus_write(&bus, 0, L3_POSTED + 32, 1, 1);
    l2_virtual_interrupt(NOTIFICATION);
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_level(3);
    ck_assert_uint_eq(frame[0].vmcs.guest_interrupt_status, 0);
    ck_assert_uint_eq(frame[1].vmcs.guest_interrupt_status, 0x41);
    ck_assert_uint_eq(word(L3_VAPIC + 0x220), 2);
    ck_assert_uint_eq(word(L3_POSTED + 32), 0);
    ck_assert(!cpu.event.valid);
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert_uint_eq(cpu.event.vector, 0x41);
    ck_assert_uint_eq(frame[1].vmcs.guest_interrupt_status, 0x4100);
}
END_TEST

/* L1 injects the notification by itself: L2's own APIC is software of L1, so L2 is told, and dismisses it. */
START_TEST(test_injected_notification)
{
    started_l3();
    l3_apicv();
    interrupt_exit_and_inject(INFO_VALID | NOTIFICATION);
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_EXTERNAL_INTERRUPT);
    ck_assert_uint_eq(frame[1].vmcs.exit_interruption_info, INFO_VALID | NOTIFICATION);
}
END_TEST

/* L3's recognised virtual interrupt outlives an exit to L1, and a VMCS switch. */
START_TEST(test_virtual_interrupt_in_unit)
{
    started_l3();
    l3_apicv();
    bus_write(&bus, 0, L3_POSTED + 0x41 / 8, 1, 1 << (0x41 & 7));
    vmx_post(&cpu, 1);
    ck_assert(cpu.event.attention & ATT_VIRTUAL_INTR);
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_level(1);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_OTHER), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_VMCS), FLOW_END);
    ck_assert(!(cpu.event.attention & ATT_VIRTUAL_INTR));
    enter();
    ck_level(3);
    ck_assert(cpu.event.attention & ATT_VIRTUAL_INTR);
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert_uint_eq(cpu.event.vector, 0x41);
}
END_TEST

/* An exit that an APIC write owes to L2 is not lost when L1 comes first. */
START_TEST(test_apic_exit_in_unit)
{
    bool known;
    started_l3();
    l3_apicv();
    frame[1].vmcs.secondary_controls |= SECONDARY_X2APIC_MODE;
    ck_assert(vmx_msr_write(&cpu, 0x83f, 3, &known));
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_OTHER), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_VMCS), FLOW_END);
    enter();
    ck_level(3);
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_APIC_WRITE);
    ck_assert_uint_eq(frame[1].vmcs.exit_qualification, 0x3f0);
}
END_TEST

/* The innermost frame that virtualises an MSR keeps it from those further out. */
START_TEST(test_x2apic_innermost)
{
    struct vmx_ask ask = {.reason = EXIT_WRMSR, .number = 0x808, .value = 0x30};
    bool known;
    started_l3_apicv();                    /* L1 has no MSR bitmap: it wants all */
    frame[1].vmcs.primary_controls |= PRIMARY_MSR_BITMAPS | PRIMARY_TPR_SHADOW;
    frame[1].vmcs.secondary_controls |= SECONDARY_X2APIC_MODE;
    frame[1].msr_bitmap_hpa = BENCH_PAGE;
    frame[1].virtual_apic_hpa = L3_VAPIC;
    ck_assert(!vmx_intercept(&cpu, &insn, &ask));
    ck_assert(vmx_msr_write(&cpu, 0x808, 0x30, &known) && known);
    ck_assert_uint_eq(word(L3_VAPIC + 0x80), 0x30);
    frame[1].vmcs.secondary_controls &= ~(u64)SECONDARY_X2APIC_MODE;
    ck_assert(vmx_intercept(&cpu, &insn, &ask));
    ck_level(1);
}
END_TEST

/* IA32_EFER of L3 is none of L1's business where L2 switches it at entry and exit: L1 would emulate the access on L2's. */
START_TEST(test_switched_msrs_innermost)
{
    static const struct { u32 msr; u64 entry, exit; } row[] = {
        {0xc0000080, VMENTRY_LOAD_EFER, VMEXIT_LOAD_EFER}, {0x277, VMENTRY_LOAD_PAT, VMEXIT_LOAD_PAT},
        {MSR_IA32_DEBUGCTL, VMENTRY_LOAD_DEBUG_CONTROLS, 0}, {0xc0000100, 0, 0}, {0x176, 0, 0}};
    started_l3();                          /* L1 has no MSR bitmap: it wants all */
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        for (unsigned write = 0; write < 2; write++) {
            struct vmx_ask ask = {.reason = write ? EXIT_WRMSR : EXIT_RDMSR, .number = row[n].msr, .value = 0};
            frame[1].vmcs.primary_controls |= PRIMARY_MSR_BITMAPS;
            frame[1].msr_bitmap_hpa = BENCH_PAGE;
            frame[1].vmcs.entry_controls |= row[n].entry;
            frame[1].vmcs.exit_controls |= row[n].exit;
            ck_assert(!vmx_intercept(&cpu, &insn, &ask));
            if (row[n].entry && !write) {  /* L2's and L3's are one register: L1's answer is right */
                frame[1].vmcs.entry_controls &= ~row[n].entry;
                ck_assert(vmx_intercept(&cpu, &insn, &ask));
                ck_level(1);
                enter();
                ck_level(3);
                continue;
            }
            if (!write)
                continue;
            frame[1].vmcs.primary_controls &= ~(u64)PRIMARY_MSR_BITMAPS;
            ck_assert(vmx_intercept(&cpu, &insn, &ask));       /* L2 wants it */
            ck_level(2);
            frame[1].checked = 0;
            enter();
            ck_level(3);
        }
    }
}
END_TEST

/* ---- what belongs to one level among several --------------------------------------------------------------------- */

/* IA32_SPEC_CTRL: L3 writes through L2's mask into L2's register, which is a shadow of L1's making. */
START_TEST(test_spec_ctrl_levels)
{
    u64 value;
    bool known;
    bench_model("base,+spec-ctrl");
    started_l3();
    for (unsigned k = 0; k < 2; k++) {
        frame[k].vmcs.primary_controls |= PRIMARY_TERTIARY_CONTROLS;
        frame[k].vmcs.tertiary_controls = TERTIARY_VIRTUALIZE_SPEC_CTRL;
    }
    cpu.sys.spec_ctrl = 0;
    frame[0].vmcs.ia32_spec_ctrl_mask = 2;
    frame[0].vmcs.ia32_spec_ctrl_shadow = 2;
    frame[1].vmcs.ia32_spec_ctrl_mask = 2;
    frame[1].vmcs.ia32_spec_ctrl_shadow = 0;
    ck_assert(vmx_msr_write(&cpu, 0x48, 1, &known) && known);
    ck_assert_uint_eq(frame[1].vmcs.ia32_spec_ctrl_shadow, 1);
    ck_assert_uint_eq(frame[0].vmcs.ia32_spec_ctrl_shadow, 3);       /* L2's: its bit 1 stays */
    ck_assert_uint_eq(cpu.sys.spec_ctrl, 1);                         /* L1's: its bit 1 stays 0 */
    ck_assert(vmx_msr_read(&cpu, 0x48, &value, &known));
    ck_assert_uint_eq(value, 1);
    ck_assert(vmx_msr_read_below(&cpu, 1, 0x48, &value, &known) && known);
    ck_assert_uint_eq(value, 3);
    vmx_msr_read_below(&cpu, 0, 0x48, &value, &known);
    ck_assert(!known);
}
END_TEST

/* L3 locks the bus, which L1 and L2 detect: an exit of L2 to L1, then, when L2 goes on, one of L3 to L2. */
START_TEST(test_bus_lock_levels)
{
    started_l3();
    for (unsigned k = 0; k < 2; k++) {
        frame[k].vmcs.primary_controls |= PRIMARY_SECONDARY_CONTROLS;
        frame[k].vmcs.secondary_controls |= SECONDARY_BUS_LOCK_DETECTION;
    }
    cpu_mode_update(&cpu);
    ck_assert_uint_eq(cpu.mode.locks, LOCKS_VMM);
    vmx_note_bus_lock(&cpu);
    cpu_service_events(&cpu);
    ck_level(1);
    ck_assert_uint_eq(frame[0].vmcs.exit_reason, EXIT_BUS_LOCK | BIT(26));
    ck_assert_uint_eq(frame[0].vmcs.guest_rip, L2_HOST);
    enter();
    ck_level(3);
    cpu_service_events(&cpu);
    ck_level(2);
    ck_assert_uint_eq(frame[1].vmcs.exit_reason, EXIT_BUS_LOCK | BIT(26));
    ck_assert_uint_eq(frame[1].vmcs.guest_rip, L3_RIP);
    ck_assert_uint_eq(cpu.core.rip, L2_HOST);
}
END_TEST

/* In L2's store list stands L2's time: with L1's offset, without its own. */
START_TEST(test_tsc_in_store_list_levels)
{
    started_l3();
    for (unsigned k = 0; k < 2; k++) {
        frame[k].vmcs.primary_controls |= PRIMARY_TSC_OFFSETTING;
        frame[k].vmcs.tsc_offset = k ? 0x77000 : 5000;
    }
    bench_poke64(0x350000, 0x10);
    frame[1].vmcs.exit_msr_store_address = 0x350000;
    frame[1].vmcs.exit_msr_store_count = 1;
    board.tsc = 1000;
    leave(EXIT_CPUID);
    ck_level(2);
    ck_assert_uint_eq(bench_peek64(0x350008), 6000);
}
END_TEST

/* L3 gets nowhere: the frame that asked is told, even when it is L1's and L2 seems to have caused it. */
START_TEST(test_timeout_of_outer_frame)
{
    started_l3();
    frame[0].vmcs.secondary_controls |= SECONDARY_INSTRUCTION_TIMEOUT;
    frame[0].vmcs.instruction_timeout_control = 10;
    board.tsc = 100;
    ck_assert(!vmx_no_progress(&cpu));
    board.tsc = 109;
    ck_assert(!vmx_no_progress(&cpu));
    board.tsc = 110;
    ck_assert(vmx_no_progress(&cpu));
    ck_level(1);
    ck_assert_uint_eq(frame[0].vmcs.exit_reason, EXIT_INSTRUCTION_TIMEOUT);
    ck_assert_uint_eq(frame[0].vmcs.guest_rip, L2_HOST);
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
}
END_TEST

/* L2's VMCS shadowing is for L3's instructions; L2's own go to L0. Its bitmaps and the shadow VMCS lie in L2's memory. */
START_TEST(test_shadowing_of_inner_frame)
{
    bool shadow;
    started_l3();
    leave(EXIT_CPUID);
    struct vmcs *v = &frame[1].vmcs;
    v->secondary_controls |= SECONDARY_VMCS_SHADOWING;
    v->vmread_bitmap_address = 0x351000;
    v->vmwrite_bitmap_address = 0x352000;
    v->vmcs_link_pointer = 0x353000;
    ept_map(0x353000, 0x354000, true);
    bus_write(&bus, 0, 0x354000, 4, VMCS_REVISION | VMCS_SHADOW);
    frame[1].checked = 0;
    enter();
    ck_level(3);
    ck_assert_int_eq(vmx_insn_begin_field(&cpu, &insn, EXIT_VMWRITE, 0, 0x681e, &shadow), FLOW_NEXT);
    ck_assert(shadow);
    ck_assert_int_eq(vmx_insn_vmwrite_shadow(&cpu, &insn, 0x681e, 0xfeed), FLOW_NEXT);
    ck_assert_uint_eq(vmx_region_field(&cpu, 0x354000, VMX_FIELD_guest_rip), 0xfeed);
    leave(EXIT_CPUID);
    ck_level(2);
    ck_assert_int_eq(vmx_insn_begin_field(&cpu, &insn, EXIT_VMREAD, 0, 0x681e, &shadow), FLOW_NEXT);
    ck_assert(!shadow);
}
END_TEST

/* L1 wants an MSR that L2 lets L3 have: L1 serves it as L2's, and L3's RIP moves. */
START_TEST(test_skipped_instruction)
{
    struct vmx_ask ask = {.reason = EXIT_RDMSR, .number = 0x10};
    started_l3();
    frame[1].vmcs.primary_controls |= PRIMARY_MSR_BITMAPS;
    frame[1].msr_bitmap_hpa = BENCH_PAGE;
    ck_assert(vmx_intercept(&cpu, &insn, &ask));
    ck_level(1);
    ck_assert_uint_eq(frame[0].vmcs.exit_reason, EXIT_RDMSR);
    ck_assert_uint_eq(frame[0].vmcs.guest_rip, L2_HOST);
    cpu.core.rax = 0x1234;
    frame[0].vmcs.guest_rip += frame[0].vmcs.exit_instruction_length;
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP + 3);
    ck_assert_uint_eq(cpu.core.rax, 0x1234);
    ck_assert_uint_eq(frame[1].vmcs.host_rip, L2_HOST);

    /* … or refuses it: the #GP is L3's, and L2 may intercept it. */
    ck_assert(vmx_intercept(&cpu, &insn, &ask));
    frame[0].vmcs.entry_interruption_info = INFO_VALID | 1u << 11 | EVT_HARDWARE << 8 | EXC_GP;
    frame[0].checked = 0;
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP + 3);
    ck_assert(cpu.event.valid && !cpu.event.injected);
    frame[1].vmcs.exception_bitmap = BIT(EXC_GP);
    ck_assert(vmx_intercept_event(&cpu));
    ck_level(2);
}
END_TEST

/* L1 puts its guest into another mode: that guest was reset, and with it its VMX. */
START_TEST(test_guest_reset)
{
    started_l3();
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    struct vmcs *v = &frame[0].vmcs;
    struct vmcs kept = *v;
    bench_vmcs_real(v);
    v->ept_pointer = kept.ept_pointer;
    v->secondary_controls = SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST;
    v->primary_controls = kept.primary_controls;
    v->pin_controls = kept.pin_controls;
    v->exit_controls = kept.exit_controls;
    v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = 0;
    v->vmcs_link_pointer = ~0ull;
    v->launched = 1;
    v->guest_rip = 0x123;
    frame[0].checked = 0;
    enter();
    ck_level(2);
    ck_assert_uint_eq(cpu.core.rip, 0x123);
    ck_assert(!frame[1].vmxon);
    ck_assert(!frame[0].unit.valid);
}
END_TEST

/* ---- a guest's VMX state goes with its VMCS ---------------------------------------------------------------------- */

START_TEST(test_vmcs_switch)
{
    started_l3();
    frame[1].vmcs.guest_sysenter_eip = 0xabcdef;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_OTHER), FLOW_END);
    ck_assert(!frame[1].vmxon && !frame[1].offered && !frame[0].unit.valid);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_VMCS), FLOW_END);
    ck_assert(frame[1].vmxon && frame[1].offered && frame[0].unit.valid);
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
    ck_assert_uint_eq(frame[1].vmcs_ptr, L2_VMCS);
    ck_assert_uint_eq(frame[1].vmcs.host_rip, L2_HOST);
    ck_assert_uint_eq(frame[1].vmcs.guest_sysenter_eip, 0xabcdef);
}
END_TEST

/* VMCLEAR here, VMPTRLD and VMLAUNCH on another processor. */
START_TEST(test_migration)
{
    started_l3();
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, L1_VMCS), FLOW_END);
    memset(cpu.vmx.frame, 0, sizeof cpu.vmx.frame);
    frame[0].vmxon = 1;
    frame[0].vmcs_ptr = frame[1].vmcs_ptr = VMX_NO_VMCS;
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_VMCS), FLOW_END);
    ck_assert_uint_eq(frame[0].vmcs.launched, 0);
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
    leave(EXIT_CPUID);
    ck_level(2);
    ck_assert_uint_eq(cpu.core.rip, L2_HOST);
}
END_TEST

/* L1 moves the page that holds L2's VMCS. */
START_TEST(test_vmcs_page_moves)
{
    static u8 page[4096];
    u64 moved = 0x2f8000;
    started_l3();
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    bus_copy_from(&bus, page, L2_VMCS, sizeof page);
    bus_copy_to(&bus, moved, page, sizeof page);
    memset(page, 0xee, sizeof page);
    bus_copy_to(&bus, L2_VMCS, page, sizeof page);        /* L1 uses the old one for something else */
    ept_map(L2_VMCS, moved, true);
    enter();
    ck_level(3);
    ck_assert_uint_eq(frame[1].vmcs_hpa, moved);
    leave(EXIT_CPUID);
    ck_level(2);
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, L2_VMCS), FLOW_END);
    ck_assert_uint_eq(bus_read(&bus, 0, L2_VMCS + 0x100, 8), 0xeeeeeeeeeeeeeeeeull);
}
END_TEST

/* … or takes it away: it is asked for it before its guest goes on, and loses nothing. */
START_TEST(test_vmcs_page_missing)
{
    started_l3();
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ept_map(L2_VMCS, 0, false);
    enter();
    ck_level(1);
    ck_assert_uint_eq(frame[0].vmcs.exit_reason, EXIT_EPT_VIOLATION);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, L2_VMCS);
    ck_assert_uint_eq(frame[0].vmcs.guest_rip, L2_HOST);
    ept_map(L2_VMCS, L2_VMCS, true);
    enter();
    ck_level(3);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
}
END_TEST

/* What a guest writes into a VMCS region by hand may be nonsense; it must not become Nestor's. */
START_TEST(test_garbage_region)
{
    static u8 page[4096];
    u32 seed = 12345;
    started_l3();
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    for (unsigned round = 0; round < 200; round++) {
        ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_OTHER), FLOW_END);
        bus_copy_from(&bus, page, L1_VMCS, sizeof page);
        unsigned from = round & 1 ? 2048 : 8, to = round & 1 ? 4096 : 2048;
        for (unsigned n = 0; n < 1 + round / 4; n++) {
            seed = seed * 1664525 + 1013904223;
            page[from + (seed >> 8) % (to - from)] = (u8)(seed >> 24);
        }
        bus_copy_to(&bus, L1_VMCS, page, sizeof page);
        ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L1_VMCS), FLOW_END);
        for (unsigned tries = 0; tries < 4; tries++) {
            cpu.core.rip = 0x1000;
            vmx_insn_enter(&cpu, &insn, !frame[0].vmcs.launched);
            ck_assert_uint_le(cpu.vmx.depth, VMX_MAX_FRAMES);
            while (cpu.vmx.depth)
                leave(EXIT_CPUID);
        }
        bench_long_mode(0);
        cpu.sys.cr4 |= CR4_VMXE;
        cpu.event.blocking = 0;
    }
}
END_TEST

START_TEST(test_policy_names)
{
    char message[200];
    ck_assert(vmx_policy_set(&cpu, "hardware", message, sizeof message));
    ck_assert_ptr_eq(cpu.policy, &vmx_policy_hardware);
    ck_assert(vmx_policy_set(&cpu, "transparent", message, sizeof message));
    ck_assert_ptr_eq(cpu.policy, &vmx_policy_transparent);
    ck_assert(!vmx_policy_set(&cpu, "nonsense", message, sizeof message));
    ck_assert_str_eq(message, "policy 'nonsense' is unknown: expected hardware, transparent, multilevel, augmented");
    ck_assert(vmx_policy_set(&cpu, "transparent,levels=3", message, sizeof message));
    ck_assert(vmx_policy_offers_level(&cpu, 2) && !vmx_policy_offers_level(&cpu, 3));
    ck_assert(!vmx_policy_set(&cpu, "transparent,levels=1", message, sizeof message));
    ck_assert(!vmx_policy_set(&cpu, "transparent,levels=18", message, sizeof message));
    ck_assert(!vmx_policy_set(&cpu, "transparent,depth=3", message, sizeof message));
    ck_assert(!vmx_policy_set(&cpu, "hardware,levels=3", message, sizeof message));
    ck_assert(!vmx_policy_set(&cpu, "transparentx", message, sizeof message));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_offer, test_no_offer, test_cr4_vmxe, test_msrs, test_debugctl, test_debugctl_by_table,
                                  test_l2_instructions, test_policy_names, test_own_exit_stays_inside, test_stand_in,
                                  test_violation_during_delivery, test_injected_interrupt_acknowledged,
                                  test_injected_interrupt_not_acknowledged, test_injected_interrupt_reaches_l3,
                                  test_injected_nmi, test_virtual_interrupt_acknowledged,
                                  test_virtual_interrupt_not_acknowledged, test_virtual_interrupt_reaches_l3,
                                  test_posted_to_l3, test_injected_notification, test_virtual_interrupt_in_unit,
                                  test_apic_exit_in_unit, test_x2apic_innermost, test_switched_msrs_innermost, test_spec_ctrl_levels, test_bus_lock_levels,
                                  test_tsc_in_store_list_levels, test_timeout_of_outer_frame,
                                  test_shadowing_of_inner_frame, test_skipped_instruction, test_guest_reset, test_vmcs_switch,
                                  test_migration, test_vmcs_page_moves, test_vmcs_page_missing, test_garbage_region};
    return bench_run_with("vmx policies", tests, ARRAY_SIZE(tests), setup);
}
