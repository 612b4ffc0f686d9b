/* Who gets an exit: each conditional instruction with its control off and on, bitmaps, CR masks; and with two frames
 * entered the innermost for instructions, the outermost for physical events, the owner for what it armed or translates.
 * The instruction-information field.
 */
#include "tests/vmx/bench_vmcs.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmcs *const outer = &cpu.vmx.frame[0].vmcs, *const inner = &cpu.vmx.frame[1].vmcs;

/* L3 runs under frames 0 and 1. */
static void two_frames(void)
{
    for (unsigned k = 0; k < 2; k++) {
        struct vmx_frame *f = &cpu.vmx.frame[k];
        bench_vmcs_64(&f->vmcs);
        f->vmxon = 1;
        f->vmcs_ptr = f->vmcs_hpa = k ? BENCH_OTHER_VMCS : BENCH_VMCS;
        f->timer_deadline = ~0ull;
        f->vmcs.launched = 1;
        f->vmcs.host_rip = 0x2000 + 0x100 * k;
        f->vmcs.host_rsp = 0x9000 + 0x100 * k;
        f->root_cr0 = cpu.sys.cr0;
        f->root_cr4 = cpu.sys.cr4;
        f->msr_bitmap_hpa = BENCH_PAGE + 0x10000 + 0x4000 * k;
        f->io_bitmap_a_hpa = BENCH_PAGE + 0x11000 + 0x4000 * k;
        f->io_bitmap_b_hpa = BENCH_PAGE + 0x12000 + 0x4000 * k;
        f->virtual_apic_hpa = BENCH_PAGE + 0x13000 + 0x4000 * k;
        memset(&f->unit, 0, sizeof f->unit);
    }
    cpu.vmx.frame[1].offered = 1;
    cpu.vmx.frame[1].cr4_vmxe = CR4_VMXE;
    cpu.vmx.depth = 2;
    cpu.core.rip = 0x5000;
    cpu.core.rsp = 0x6000;
    cpu_set_rflags(&cpu, FL_R1);
    memset(&cpu.event, 0, sizeof cpu.event);
    cpu_mode_update(&cpu);
}

static void setup(void)
{
    bench_hypervisor_setup();
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_transparent;
    two_frames();
}

/* The level that got the exit (the hypervisor of frame k is L(k+1)), 0 when there was none. Everything is set up
 * anew behind it. */
static unsigned taker(const struct vmx_ask *ask)
{
    struct vmcs saved[2] = {*outer, *inner};
    unsigned level = 0;
    if (vmx_intercept(&cpu, &insn, ask)) {
        level = cpu.vmx.depth + 1;
        ck_assert_uint_eq(cpu.vmx.frame[cpu.vmx.depth].vmcs.exit_reason, ask->reason);
        ck_assert_uint_eq(cpu.vmx.frame[cpu.vmx.depth].vmcs.exit_qualification, ask->qualification);
    }
    two_frames();
    *outer = saved[0];
    *inner = saved[1];
    return level;
}

static unsigned taker_simple(u32 reason) { return taker(&(struct vmx_ask){.reason = reason}); }

START_TEST(test_unconditional)
{
    static const u32 reasons[] = {EXIT_CPUID, EXIT_GETSEC, EXIT_INVD, EXIT_XSETBV, EXIT_RSM};
    for (unsigned n = 0; n < ARRAY_SIZE(reasons); n++)
        ck_assert_uint_eq(taker_simple(reasons[n]), 2);
}
END_TEST

/* Instructions that act on what all levels share: the innermost frame that wants them. */
START_TEST(test_shared)
{
    static const struct { u32 reason; u64 primary, secondary; } row[] = {
        {EXIT_HLT, PRIMARY_HLT_EXITING, 0},          {EXIT_RDPMC, PRIMARY_RDPMC_EXITING, 0},
        {EXIT_RDTSC, PRIMARY_RDTSC_EXITING, 0},      {EXIT_RDTSCP, PRIMARY_RDTSC_EXITING, 0},
        {EXIT_MWAIT, PRIMARY_MWAIT_EXITING, 0},      {EXIT_MONITOR, PRIMARY_MONITOR_EXITING, 0},
        {EXIT_PAUSE, PRIMARY_PAUSE_EXITING, 0},      {EXIT_WBINVD, 0, SECONDARY_WBINVD_EXITING},
        {EXIT_RDRAND, 0, SECONDARY_RDRAND_EXITING},  {EXIT_RDSEED, 0, SECONDARY_RDSEED_EXITING},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        ck_assert_uint_eq(taker_simple(row[n].reason), 0);
        outer->primary_controls |= row[n].primary;
        outer->secondary_controls |= row[n].secondary;
        ck_assert_uint_eq(taker_simple(row[n].reason), 1);
        inner->primary_controls |= row[n].primary;
        inner->secondary_controls |= row[n].secondary;
        ck_assert_uint_eq(taker_simple(row[n].reason), 2);
        outer->primary_controls &= ~row[n].primary;
        outer->secondary_controls &= ~row[n].secondary;
        ck_assert_uint_eq(taker_simple(row[n].reason), 2);
        two_frames();
    }
}
END_TEST

/* Registers and tables of the innermost guest are the innermost frame's business alone. */
START_TEST(test_own)
{
    static const struct { u32 reason; u64 primary, secondary; } row[] = {
        {EXIT_INVLPG, PRIMARY_INVLPG_EXITING, 0}, {EXIT_INVPCID, PRIMARY_INVLPG_EXITING, SECONDARY_INVPCID},
        {EXIT_MOV_DR, PRIMARY_MOV_DR_EXITING, 0}, {EXIT_GDTR_IDTR_ACCESS, 0, SECONDARY_DESCRIPTOR_TABLE_EXITING},
        {EXIT_LDTR_TR_ACCESS, 0, SECONDARY_DESCRIPTOR_TABLE_EXITING},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        outer->primary_controls |= row[n].primary;
        outer->secondary_controls |= row[n].secondary;
        ck_assert_uint_eq(taker_simple(row[n].reason), 0);
        inner->primary_controls |= row[n].primary;
        inner->secondary_controls |= row[n].secondary;
        ck_assert_uint_eq(taker_simple(row[n].reason), 2);
        two_frames();
    }
}
END_TEST

START_TEST(test_xsaves)
{
    struct vmx_ask ask = {.reason = EXIT_XSAVES, .value = 0x100};
    inner->secondary_controls |= SECONDARY_XSAVES;
    inner->xss_exiting_bitmap = 0x200;
    ck_assert_uint_eq(taker(&ask), 0);
    inner->xss_exiting_bitmap = 0x300;
    ck_assert_uint_eq(taker(&ask), 2);
}
END_TEST

/* Leaf functions exit by a bitmap, all above 62 by its last bit. */
START_TEST(test_leaf_functions)
{
    static const struct { u32 reason; u64 control; unsigned bitmap; } row[] = {
        {EXIT_ENCLS, SECONDARY_ENCLS_EXITING, 0}, {EXIT_ENCLV, SECONDARY_ENCLV_EXITING, 1}, {EXIT_PCONFIG, SECONDARY_PCONFIG, 2},
    };
    static const struct { u32 leaf; unsigned bit; } leaf[] = {{0, 0}, {1, 1}, {31, 31}, {32, 32}, {62, 62}, {63, 63}, {64, 63},
                                                              {0x80000000, 63}, {0xffffffff, 63}};
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++)
        for (unsigned i = 0; i < ARRAY_SIZE(leaf); i++) {
            u64 *outers[] = {&outer->encls_exiting_bitmap, &outer->enclv_exiting_bitmap, &outer->pconfig_exiting_bitmap};
            u64 *inners[] = {&inner->encls_exiting_bitmap, &inner->enclv_exiting_bitmap, &inner->pconfig_exiting_bitmap};
            struct vmx_ask ask = {.reason = row[n].reason, .number = leaf[i].leaf};
            two_frames();
            for (unsigned b = 0; b < ARRAY_SIZE(outers); b++)
                *outers[b] = *inners[b] = b == row[n].bitmap ? BIT(leaf[i].bit) : ~0ull;
            ck_assert_uint_eq(taker(&ask), 0);
            outer->secondary_controls |= row[n].control;
            ck_assert_uint_eq(taker(&ask), 1);
            inner->secondary_controls |= row[n].control;
            ck_assert_uint_eq(taker(&ask), 2);
            *inners[row[n].bitmap] = ~BIT(leaf[i].bit);
            ck_assert_uint_eq(taker(&ask), 1);
            *outers[row[n].bitmap] = ~BIT(leaf[i].bit);
            ck_assert_uint_eq(taker(&ask), 0);
        }
}
END_TEST

/* PCONFIG in a guest: enabled by all hypervisors below, CPL, the exit, and only then that there is no such leaf. */
START_TEST(test_pconfig)
{
    bench_model("icelake");
    cpu.core.rax = 0xffffffff00000003ull;
    for (unsigned enabled = 0; enabled < 4; enabled++)
        for (unsigned wanted = 0; wanted < 4; wanted++)
            for (unsigned cpl = 0; cpl < 4; cpl += 3) {
                two_frames();
                cpu.event.valid = 0;
                cpu.mode.cpl = (u8)cpl;
                outer->secondary_controls |= enabled & 1 ? SECONDARY_PCONFIG : 0;
                inner->secondary_controls |= enabled & 2 ? SECONDARY_PCONFIG : 0;
                outer->pconfig_exiting_bitmap = wanted & 1 ? BIT(3) : 0;
                inner->pconfig_exiting_bitmap = wanted & 2 ? BIT(3) : 0;
                enum flow flow = bench_run_insn(h_pconfig, insn);
                if (enabled < 3 || cpl || !wanted) {
                    ck_assert_int_eq(flow, FLOW_EVENT);
                    ck_assert_uint_eq(cpu.event.vector, enabled < 3 || cpl ? EXC_UD : EXC_GP);
                } else {
                    unsigned k = wanted & 2 ? 1 : 0;
                    ck_assert_int_eq(flow, FLOW_EXIT);
                    ck_assert_uint_eq(cpu.vmx.depth, k);
                    ck_assert_uint_eq(cpu.vmx.frame[k].vmcs.exit_reason, EXIT_PCONFIG);
                    ck_assert_uint_eq(cpu.vmx.frame[k].vmcs.exit_instruction_length, 3);
                    ck_assert_uint_eq(cpu.vmx.frame[k].vmcs.exit_qualification, 0);
                }
            }
}
END_TEST

/* Enclaves are off: their instructions are undefined before a control could matter. */
START_TEST(test_enclaves_do_not_exit)
{
    static const insn_family *const families[] = {&h_encls, &h_enclv, &h_enclu};
    bench_model("icelake");
    for (unsigned n = 0; n < ARRAY_SIZE(families); n++) {
        inner->secondary_controls |= SECONDARY_ENCLS_EXITING | SECONDARY_ENCLV_EXITING;
        inner->encls_exiting_bitmap = inner->enclv_exiting_bitmap = ~0ull;
        ck_assert_int_eq(bench_run_insn(*families[n], insn), FLOW_EVENT);
        ck_assert_uint_eq(cpu.event.vector, EXC_UD);
        two_frames();
    }
}
END_TEST

static unsigned mov_to_cr(unsigned cr, u64 value)
{
    struct vmx_ask ask = {.reason = EXIT_CR_ACCESS, .number = cr, .value = value, .qualification = cr | 1 << 8};
    return taker(&ask);
}

START_TEST(test_cr_access)
{
    inner->cr0_guest_host_mask = CR0_TS | CR0_NE;
    inner->cr0_read_shadow = CR0_NE;
    ck_assert_uint_eq(mov_to_cr(0, CR0_NE | CR0_MP), 0);
    ck_assert_uint_eq(mov_to_cr(0, CR0_NE | CR0_TS), 2);
    ck_assert_uint_eq(mov_to_cr(0, 0), 2);

    inner->cr4_guest_host_mask = CR4_PGE;
    ck_assert_uint_eq(mov_to_cr(4, CR4_PAE), 0);
    ck_assert_uint_eq(mov_to_cr(4, CR4_PAE | CR4_PGE), 2);

    ck_assert_uint_eq(mov_to_cr(3, 0x5000), 0);
    inner->primary_controls |= PRIMARY_CR3_LOAD_EXITING;
    inner->cr3_target_count = 2;
    inner->cr3_target_1 = 0x5000;
    inner->cr3_target_2 = 0x6000;
    ck_assert_uint_eq(mov_to_cr(3, 0x5000), 0);
    ck_assert_uint_eq(mov_to_cr(3, 0x6000), 2);

    struct vmx_ask from_cr3 = {.reason = EXIT_CR_ACCESS, .number = 3, .qualification = 3 | 1 << 4};
    ck_assert_uint_eq(taker(&from_cr3), 0);
    inner->primary_controls |= PRIMARY_CR3_STORE_EXITING;
    ck_assert_uint_eq(taker(&from_cr3), 2);

    ck_assert_uint_eq(mov_to_cr(8, 1), 0);
    inner->primary_controls |= PRIMARY_CR8_LOAD_EXITING;
    ck_assert_uint_eq(mov_to_cr(8, 1), 2);
    struct vmx_ask from_cr8 = {.reason = EXIT_CR_ACCESS, .number = 8, .qualification = 8 | 1 << 4};
    ck_assert_uint_eq(taker(&from_cr8), 0);
    inner->primary_controls |= PRIMARY_CR8_STORE_EXITING;
    ck_assert_uint_eq(taker(&from_cr8), 2);
}
END_TEST

START_TEST(test_clts_lmsw)
{
    struct vmx_ask clts = {.reason = EXIT_CR_ACCESS, .number = 0, .qualification = 2 << 4};
    inner->cr0_guest_host_mask = CR0_TS;
    ck_assert_uint_eq(taker(&clts), 0);
    inner->cr0_read_shadow = CR0_TS;
    ck_assert_uint_eq(taker(&clts), 2);

    static const struct {
        u64 mask, shadow, source;
        unsigned level;
    } row[] = {
        {CR0_TS, CR0_TS, CR0_TS, 0}, {CR0_TS, CR0_TS, 0, 2},      {CR0_PE, 0, CR0_PE, 2},
        {CR0_PE, CR0_PE, 0, 0},      {CR0_PE, CR0_PE, CR0_PE, 0}, {CR0_MP, 0, CR0_TS, 0},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        struct vmx_ask lmsw = {.reason = EXIT_CR_ACCESS, .number = 0, .qualification = 3 << 4 | row[n].source << 16};
        inner->cr0_guest_host_mask = row[n].mask;
        inner->cr0_read_shadow = row[n].shadow;
        ck_assert_uint_eq(taker(&lmsw), row[n].level);
    }
}
END_TEST

START_TEST(test_cr_views)
{
    cpu.sys.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP;
    inner->cr0_guest_host_mask = CR0_NE | CR0_WP;
    inner->cr0_read_shadow = 0;
    ck_assert_uint_eq(vmx_guest_cr0(&cpu), CR0_PE | CR0_PG | CR0_ET);
    ck_assert_uint_eq(vmx_merge_cr0(&cpu, CR0_PE | CR0_PG | CR0_TS), CR0_PE | CR0_PG | CR0_TS | CR0_NE | CR0_WP);
    inner->cr4_guest_host_mask = CR4_VMXE;
    cpu.sys.cr4 = CR4_VMXE | CR4_PAE;
    ck_assert_uint_eq(vmx_guest_cr4(&cpu), CR4_PAE);
    ck_assert_uint_eq(vmx_merge_cr4(&cpu, CR4_PAE | CR4_PGE), CR4_PAE | CR4_PGE | CR4_VMXE);
    ck_assert(!vmx_cr0_fixed_ok(&cpu, CR0_NE));
    inner->secondary_controls |= SECONDARY_UNRESTRICTED_GUEST;
    ck_assert(vmx_cr0_fixed_ok(&cpu, CR0_NE));
    ck_assert(!vmx_cr0_fixed_ok(&cpu, CR0_PE | CR0_PG));
    ck_assert(!vmx_cr4_fixed_ok(&cpu, CR4_PAE));
}
END_TEST

static unsigned msr(u32 reason, u32 number)
{
    struct vmx_ask ask = {.reason = reason, .number = number};
    return taker(&ask);
}

static void set_bit(u64 bitmap, u32 bit)
{
    bus_write(&bus, 0, bitmap + bit / 8, 1, bus_read(&bus, 0, bitmap + bit / 8, 1) | BIT(bit % 8));
}

START_TEST(test_msr_bitmaps)
{
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x10), 2);          /* no bitmaps: always */
    inner->primary_controls |= PRIMARY_MSR_BITMAPS;
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x10), 1);
    outer->primary_controls |= PRIMARY_MSR_BITMAPS;
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x10), 0);
    u64 bitmap = cpu.vmx.frame[1].msr_bitmap_hpa;
    set_bit(bitmap, 0x10);
    set_bit(bitmap + 1024, 0x82);
    set_bit(bitmap + 2048, 0x11);
    set_bit(bitmap + 3072, 0x81);
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x10), 2);
    ck_assert_uint_eq(msr(EXIT_WRMSR, 0x10), 0);
    ck_assert_uint_eq(msr(EXIT_WRMSR, 0x11), 2);
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0xc0000082), 2);
    ck_assert_uint_eq(msr(EXIT_WRMSR, 0xc0000082), 0);
    ck_assert_uint_eq(msr(EXIT_WRMSR, 0xc0000081), 2);
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x2000), 2);        /* outside both ranges */
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0xc0002000), 2);
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x40000000), 2);
    set_bit(cpu.vmx.frame[0].msr_bitmap_hpa, 0x12);
    ck_assert_uint_eq(msr(EXIT_RDMSR, 0x12), 1);
}
END_TEST

static unsigned io(u32 port, u32 size)
{
    struct vmx_ask ask = {.reason = EXIT_IO_INSTRUCTION, .number = port, .size = size,
                          .qualification = (u64)port << 16 | (size - 1)};
    return taker(&ask);
}

START_TEST(test_io)
{
    ck_assert_uint_eq(io(0x80, 1), 0);
    outer->primary_controls |= PRIMARY_UNCONDITIONAL_IO_EXITING;
    ck_assert_uint_eq(io(0x80, 1), 1);
    outer->primary_controls |= PRIMARY_IO_BITMAPS;        /* then the unconditional control counts for nothing */
    ck_assert_uint_eq(io(0x80, 1), 0);
    set_bit(cpu.vmx.frame[0].io_bitmap_a_hpa, 0x81);
    set_bit(cpu.vmx.frame[0].io_bitmap_b_hpa, 0x10);
    ck_assert_uint_eq(io(0x80, 1), 0);
    ck_assert_uint_eq(io(0x80, 2), 1);
    ck_assert_uint_eq(io(0x7e, 4), 1);
    ck_assert_uint_eq(io(0x8010, 1), 1);
    ck_assert_uint_eq(io(0x8011, 4), 0);
    ck_assert_uint_eq(io(0xfffe, 4), 1);                  /* wraps around */
}
END_TEST

START_TEST(test_pause_loop)
{
    outer->secondary_controls |= SECONDARY_PAUSE_LOOP_EXITING;
    outer->ple_gap = 100;
    outer->ple_window = 1000;
    board.tsc = 100000;
    for (unsigned n = 0; n <= 20; n++) {
        ck_assert(!vmx_intercept_simple(&cpu, &insn, EXIT_PAUSE));
        board.tsc += 50;
    }
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_PAUSE));
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}
END_TEST

/* An exception is the innermost frame's or nobody's. */
START_TEST(test_exception)
{
    outer->exception_bitmap = BIT(EXC_UD);
    cpu_raise(&cpu, EXC_UD);
    ck_assert(!vmx_intercept_event(&cpu));
    inner->exception_bitmap = BIT(EXC_UD);
    ck_assert(vmx_intercept_event(&cpu));
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(cpu.core.rip, inner->host_rip);
}
END_TEST

START_TEST(test_physical)
{
    inner->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    two_frames();
    inner->pin_controls |= PIN_NMI_EXITING;
    ck_assert_int_eq(vmx_nmi(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    two_frames();
    inner->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    outer->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    two_frames();
    ck_assert_int_eq(vmx_init(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}
END_TEST

START_TEST(test_armed)
{
    for (unsigned k = 0; k < 2; k++) {
        two_frames();
        cpu.vmx.frame[k].timer_deadline = 50;
        board.tsc = 50;
        ck_assert(vmx_attention(&cpu, VMX_STAGE_TIMER));
        ck_assert_uint_eq(cpu.vmx.depth, k);
        two_frames();
        cpu.vmx.frame[k].vmcs.primary_controls |= PRIMARY_MONITOR_TRAP_FLAG;
        vmx_note_instruction(&cpu);
        ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
        ck_assert_uint_eq(cpu.vmx.depth, k);
    }
    /* IF is 0: the innermost guest's window is closed, that of a guest which is suspended is not. */
    two_frames();
    inner->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING;
    ck_assert(!vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    outer->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING;
    ck_assert(vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW));
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}
END_TEST

START_TEST(test_translation)
{
    for (u32 k = 0; k < 2; k++) {
        two_frames();
        cpu.fault = (struct mem_fault){.kind = FAULT_EPT_VIOLATION, .frame = k, .gpa = 0x7000 + k, .la = 0x99,
                                       .qualification = 0x181};
        vmx_memory_exit(&cpu);
        ck_assert_uint_eq(cpu.vmx.depth, k);
        ck_assert_uint_eq(cpu.vmx.frame[k].vmcs.guest_physical_address, 0x7000 + k);
        /* For a guest that is not the running one there is no linear address. */
        ck_assert_uint_eq(cpu.vmx.frame[k].vmcs.exit_qualification, k ? 0x181 : 1);
    }
}
END_TEST

START_TEST(test_tsc_composes)
{
    outer->primary_controls |= PRIMARY_TSC_OFFSETTING;
    outer->tsc_offset = 1000;
    inner->primary_controls |= PRIMARY_TSC_OFFSETTING;
    inner->tsc_offset = (u64)-300;
    inner->secondary_controls |= SECONDARY_TSC_SCALING;
    inner->tsc_multiplier = 2ull << 48;
    ck_assert_uint_eq(vmx_scale_tsc(&cpu, 50), (50 + 1000) * 2 - 300);
}
END_TEST

/* The innermost frame with a TPR shadow keeps the running level's CR8. */
START_TEST(test_tpr_frame)
{
    u8 tpr = 0;
    ck_assert(!vmx_tpr_read(&cpu, &tpr));
    outer->primary_controls |= PRIMARY_TPR_SHADOW;
    bus_write(&bus, 0, cpu.vmx.frame[0].virtual_apic_hpa + 0x80, 4, 0x10);
    bus_write(&bus, 0, cpu.vmx.frame[1].virtual_apic_hpa + 0x80, 4, 0x20);
    ck_assert(vmx_tpr_read(&cpu, &tpr));
    ck_assert_uint_eq(tpr, 0x10);
    inner->primary_controls |= PRIMARY_TPR_SHADOW;
    ck_assert(vmx_tpr_read(&cpu, &tpr));
    ck_assert_uint_eq(tpr, 0x20);
}
END_TEST

/* [SDM3 "VM-Exit Information for VM Exits Due to Instruction Execution"] */
START_TEST(test_instruction_info)
{
    struct insn memory = {.length = 5, .flags = INSN_64 | INSN_MEM, .asz = 3, .osz = OSZ_64, .base = REG_RBX,
                          .index = REG_R12, .scale = 3,
                          .arch_seg = SEG_DS, .reg = REG_R9, .modrm = 2 << 3};
    struct insn reg = {.length = 3, .flags = INSN_64, .asz = 3, .osz = OSZ_32, .base = REG_ZERO, .index = REG_ZERO,
                       .rm = REG_RSI, .modrm = 0xd8};
    struct vmx_ask ask = {.reason = EXIT_GDTR_IDTR_ACCESS};
    u32 place = 3 | 2 << 7 | SEG_DS << 15 | 12 << 18 | 3 << 23;
    inner->secondary_controls |= SECONDARY_DESCRIPTOR_TABLE_EXITING | SECONDARY_RDRAND_EXITING;
    ck_assert(vmx_intercept(&cpu, &memory, &ask));
    ck_assert_uint_eq(inner->exit_instruction_info & ~(1u << 11), place | 2u << 28);   /* LGDT */
    two_frames();
    inner->secondary_controls |= SECONDARY_DESCRIPTOR_TABLE_EXITING;
    ask.reason = EXIT_LDTR_TR_ACCESS;
    ck_assert(vmx_intercept(&cpu, &reg, &ask));
    ck_assert_uint_eq(inner->exit_instruction_info, 1u << 10 | REG_RSI << 3 | 3u << 28);   /* LTR ESI */
    two_frames();
    inner->secondary_controls |= SECONDARY_RDRAND_EXITING;
    ask.reason = EXIT_RDRAND;
    ck_assert(vmx_intercept(&cpu, &reg, &ask));
    ck_assert_uint_eq(inner->exit_instruction_info, REG_RSI << 3 | 1u << 11);
    two_frames();
    cpu.vmx.frame[2].offered = 0;
    memory.base = REG_RIP;
    ck_assert_int_eq(vmx_insn_begin(&cpu, &memory, EXIT_VMWRITE, 0), FLOW_EXIT);
    ck_assert_uint_eq(inner->exit_instruction_info, 3 | 2 << 7 | SEG_DS << 15 | 12 << 18 | 1u << 27 | 9u << 28);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_unconditional, test_shared, test_own, test_xsaves, test_leaf_functions, test_pconfig,
                                  test_enclaves_do_not_exit, test_cr_access,
                                  test_clts_lmsw, test_cr_views, test_msr_bitmaps, test_io, test_pause_loop,
                                  test_exception, test_physical, test_armed, test_translation, test_tsc_composes,
                                  test_tpr_frame, test_instruction_info};
    return bench_run_with("vmx routing", tests, ARRAY_SIZE(tests), setup);
}
