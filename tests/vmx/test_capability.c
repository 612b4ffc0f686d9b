/* The capability MSRs agree with each other, with the controls' rows, and with what hypervisors insist on. */
#include "tests/vmx/bench_vmcs.h"

#include "cpu/model.h"
#include "vmx/insn.h"

static u64 rdmsr(u32 msr)
{
    u64 value = 0;
    bool known = false;
    ck_assert_msg(vmx_msr_read(&cpu, msr, &value, &known), "RDMSR %#x refused", msr);
    ck_assert(known);
    return value;
}
static bool rdmsr_refused(u32 msr)
{
    u64 value;
    bool known = false;
    bool done = vmx_msr_read(&cpu, msr, &value, &known);
    ck_assert(known);
    return !done;
}
static bool wrmsr(u32 msr, u64 value)
{
    bool known = false;
    bool done = vmx_msr_write(&cpu, msr, value, &known);
    ck_assert(known);
    return done;
}

/* VMREAD knows it. */
static bool has_field(u32 encoding)
{
    static const struct insn insn = BENCH_VMX_INSN(3);
    u64 value;
    bench_clear();
    return vmx_insn_vmread(&cpu, &insn, encoding, &value) == FLOW_NEXT;
}

START_TEST(basic)
{
    u64 value = rdmsr(MSR_IA32_VMX_BASIC);
    ck_assert_uint_eq((u32)value, VMCS_REVISION);
    ck_assert(!(value & BIT(31)));
    ck_assert_uint_le(value >> 32 & 0x1fff, 4096);
    ck_assert(!(value & BIT(48)));                         /* physical addresses are not limited to 32 bits */
    ck_assert_uint_eq(value >> 50 & 15, 6);
    ck_assert(value & BIT(55));
}
END_TEST

/* For each pair of MSRs: must-be-1 is allowed to be 1, the TRUE ones are at most as strict, and every default1
 * control is 1 in the plain ones [SDM3 "VMX Capability Reporting Facility"]. */
START_TEST(control_pairs)
{
    static const struct { u32 plain, exact, word; u64 default1; } pairs[] = {
        {MSR_IA32_VMX_PINBASED_CTLS, MSR_IA32_VMX_TRUE_PINBASED_CTLS, VMX_WORD_PIN, 0x16},
        {MSR_IA32_VMX_PROCBASED_CTLS, MSR_IA32_VMX_TRUE_PROCBASED_CTLS, VMX_WORD_PRIMARY, 0x401e172},
        {MSR_IA32_VMX_EXIT_CTLS, MSR_IA32_VMX_TRUE_EXIT_CTLS, VMX_WORD_VMEXIT, 0x36dff},
        {MSR_IA32_VMX_ENTRY_CTLS, MSR_IA32_VMX_TRUE_ENTRY_CTLS, VMX_WORD_VMENTRY, 0x11ff},
    };
    for (size_t n = 0; n < ARRAY_SIZE(pairs); n++) {
        u64 plain = rdmsr(pairs[n].plain), exact = rdmsr(pairs[n].exact);
        ck_assert_uint_eq((u32)plain, pairs[n].default1);
        ck_assert_uint_eq(plain >> 32, exact >> 32);
        ck_assert_uint_eq((u32)plain & ~(plain >> 32), 0);
        ck_assert_uint_eq((u32)exact & ~plain, 0);
        ck_assert_uint_eq((u32)exact, vmx_allowed_0(pairs[n].word));
        ck_assert_uint_eq(exact >> 32, vmx_allowed_1(&cpu, pairs[n].word));
    }
    ck_assert_uint_eq((u32)rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2), 0);
    ck_assert_uint_eq((u32)rdmsr(MSR_IA32_VMX_TRUE_PROCBASED_CTLS), 0x4006172);
    ck_assert_uint_eq((u32)rdmsr(MSR_IA32_VMX_TRUE_EXIT_CTLS), 0x36dfb);
    ck_assert_uint_eq((u32)rdmsr(MSR_IA32_VMX_TRUE_ENTRY_CTLS), 0x11fb);
}
END_TEST

/* Each row is advertised when its feature is there and not when it is off. */
START_TEST(controls_follow_features)
{
    for (unsigned n = 0; n < CTL_COUNT; n++) {
        const struct vmx_control_info *info = vmx_control_info(n);
        bool may = vmx_allowed_1(&cpu, info->word) >> info->bit & 1;
        ck_assert_msg(may == vmx_control_supported(&cpu, n), "%s", info->name);
    }
    ck_assert(vmx_control_supported(&cpu, CTL_SECONDARY_INVPCID));
    ck_assert(vmx_control_supported(&cpu, CTL_SECONDARY_RDTSCP));
    bench_model("base,-invpcid,-rdtscp");
    ck_assert(!vmx_control_supported(&cpu, CTL_SECONDARY_INVPCID));
    ck_assert(!(rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32 & (SECONDARY_INVPCID | SECONDARY_RDTSCP)));
    /* SGX brings two controls, PCONFIG one, each with its bitmap. */
    static const struct { const char *model; u64 controls; } platform[] = {
        {"base", 0}, {"skylake", 0}, {"icelake", SECONDARY_ENCLS_EXITING | SECONDARY_ENCLV_EXITING | SECONDARY_PCONFIG},
        {"icelake,-sgx", SECONDARY_PCONFIG}, {"icelake,-pconfig", SECONDARY_ENCLS_EXITING | SECONDARY_ENCLV_EXITING},
        {"max", SECONDARY_ENCLS_EXITING | SECONDARY_ENCLV_EXITING | SECONDARY_PCONFIG}};
    for (unsigned n = 0; n < ARRAY_SIZE(platform); n++) {
        bench_model(platform[n].model);
        u64 allowed = vmx_allowed_1(&cpu, VMX_WORD_SECONDARY);
        ck_assert_msg((allowed & (SECONDARY_ENCLS_EXITING | SECONDARY_ENCLV_EXITING | SECONDARY_PCONFIG)) == platform[n].controls,
                      "%s: %llx", platform[n].model, (unsigned long long)allowed);
        ck_assert_int_eq(has_field(0x202e), !!(platform[n].controls & SECONDARY_ENCLS_EXITING));
        ck_assert_int_eq(has_field(0x2036), !!(platform[n].controls & SECONDARY_ENCLV_EXITING));
        ck_assert_int_eq(has_field(0x203e), !!(platform[n].controls & SECONDARY_PCONFIG));
    }
    bench_model("base");
    ck_assert(vmx_control_supported(&cpu, CTL_ALWAYS) && !vmx_control_supported(&cpu, CTL_NEVER));
}
END_TEST

/* FRED and immediate forms of the MSR instructions are no model's: nothing of them is enumerated, allowed or there. */
START_TEST(absent)
{
    static const u32 fields[] = {0x281a, 0x281c, 0x2844, 0x2404, 0x2052, 0x2056, 0x2c08, 0x2c0a};
    bench_model("max");
    ck_assert_uint_eq(cpu_cpuid(&cpu, 7, 1).eax & (1u << 17 | 1u << 18), 0);   /* FRED, LKGS */
    ck_assert_uint_eq(cpu_cpuid(&cpu, 7, 1).ecx & 1u << 5, 0);                 /* MSR_IMM */
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_BASIC) & BIT(58), 0);                 /* nested exceptions */
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_ENTRY_CTLS) >> 32 & 1u << 23, 0);     /* load FRED's registers */
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_EXIT_CTLS2) & 3, 0);                  /* save, load them */
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_CR4_FIXED1) & BIT(32), 0);            /* CR4.FRED */
    for (u32 msr = 0x1cc; msr <= 0x1d4; msr++)
        READ_REFUSED(msr);                                                     /* IA32_FRED_RSP0 … IA32_FRED_CONFIG */
    for (unsigned n = 0; n < ARRAY_SIZE(fields); n++)
        ck_assert_msg(!has_field(fields[n]), "%x", fields[n]);
    ck_assert(has_field(0x2802));
}
END_TEST

/* What Linux 6.1's KVM refuses to load without. */
START_TEST(what_kvm_needs)
{
    u64 pin = rdmsr(MSR_IA32_VMX_PINBASED_CTLS) >> 32, primary = rdmsr(MSR_IA32_VMX_PROCBASED_CTLS) >> 32;
    u64 secondary = rdmsr(MSR_IA32_VMX_PROCBASED_CTLS2) >> 32, ept = rdmsr(MSR_IA32_VMX_EPT_VPID_CAP);
    u64 need = PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING;
    ck_assert_uint_eq(pin & need, need);
    need = PRIMARY_HLT_EXITING | PRIMARY_CR3_LOAD_EXITING | PRIMARY_CR3_STORE_EXITING | PRIMARY_CR8_LOAD_EXITING
           | PRIMARY_CR8_STORE_EXITING | PRIMARY_UNCONDITIONAL_IO_EXITING | PRIMARY_MOV_DR_EXITING | PRIMARY_TSC_OFFSETTING
           | PRIMARY_MWAIT_EXITING | PRIMARY_MONITOR_EXITING | PRIMARY_INVLPG_EXITING | PRIMARY_RDPMC_EXITING
           | PRIMARY_INTERRUPT_WINDOW_EXITING | PRIMARY_SECONDARY_CONTROLS | PRIMARY_MSR_BITMAPS | PRIMARY_TPR_SHADOW;
    ck_assert_uint_eq(primary & need, need);
    need = SECONDARY_EPT | SECONDARY_VPID | SECONDARY_UNRESTRICTED_GUEST | SECONDARY_APIC_ACCESSES;
    ck_assert_uint_eq(secondary & need, need);
    need = VMEXIT_SAVE_DEBUG_CONTROLS | VMEXIT_HOST_ADDRESS_SPACE_SIZE | VMEXIT_ACKNOWLEDGE_INTERRUPT;
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_EXIT_CTLS) >> 32 & need, need);
    need = VMENTRY_LOAD_DEBUG_CONTROLS | VMENTRY_IA32E_MODE_GUEST;
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_ENTRY_CTLS) >> 32 & need, need);
    need = EPTCAP_WALK_4 | EPTCAP_WRITE_BACK | EPTCAP_INVEPT | EPTCAP_INVEPT_ALL | VMX_VPID_CAP_INVVPID;
    ck_assert_uint_eq(ept & need, need);
    /* Controls that must come in pairs of entry and exit. */
    u64 on_exit = rdmsr(MSR_IA32_VMX_EXIT_CTLS) >> 32, on_entry = rdmsr(MSR_IA32_VMX_ENTRY_CTLS) >> 32;
    ck_assert_int_eq(!!(on_exit & VMEXIT_LOAD_PERF_GLOBAL_CTRL), !!(on_entry & VMENTRY_LOAD_PERF_GLOBAL_CTRL));
    ck_assert_int_eq(!!(on_exit & VMEXIT_LOAD_PAT), !!(on_entry & VMENTRY_LOAD_PAT));
    ck_assert_int_eq(!!(on_exit & VMEXIT_LOAD_EFER), !!(on_entry & VMENTRY_LOAD_EFER));
    ck_assert_int_eq(!!(on_exit & VMEXIT_CLEAR_BNDCFGS), !!(on_entry & VMENTRY_LOAD_BNDCFGS));
    ck_assert_int_eq(!!(on_exit & VMEXIT_CLEAR_RTIT_CTL), !!(on_entry & VMENTRY_LOAD_RTIT_CTL));
}
END_TEST

START_TEST(misc_and_fixed_bits)
{
    u64 misc = rdmsr(MSR_IA32_VMX_MISC);
    ck_assert_uint_eq(misc & 31, VMX_TIMER_RATE);
    ck_assert(misc & VMX_MISC_STORE_LMA);                  /* required with unrestricted guest */
    ck_assert_uint_eq(misc >> 16 & 0x1ff, 4);
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_CR0_FIXED0), 0x80000021);
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_CR0_FIXED1), 0xffffffff);
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_CR4_FIXED0), 0x2000);
    ck_assert(rdmsr(MSR_IA32_VMX_CR4_FIXED1) & CR4_PCIDE);
    ck_assert(!(rdmsr(MSR_IA32_VMX_CR4_FIXED1) & CR4_LA57));
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_VMCS_ENUM) & 1, 0);
    ck_assert_uint_ge(rdmsr(MSR_IA32_VMX_VMCS_ENUM), 0x2e);
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++)
        if (vmx_field_present(&cpu, n))
            ck_assert_uint_le(vmx_field_info(n)->encoding & 0x3fe, rdmsr(MSR_IA32_VMX_VMCS_ENUM));
}
END_TEST

START_TEST(msrs_that_are_not)
{
    u64 value;
    bool known = true;
    ck_assert_uint_eq(rdmsr(MSR_IA32_VMX_VMFUNC), VMX_VMFUNC_EPTP_SWITCHING);
    bench_model("nehalem");
    ck_assert(rdmsr_refused(MSR_IA32_VMX_VMFUNC));
    bench_model("base");
    ck_assert(rdmsr_refused(MSR_IA32_VMX_EXIT_CTLS2));
    for (u32 msr = MSR_IA32_VMX_BASIC; msr <= MSR_IA32_VMX_EXIT_CTLS2; msr++)
        ck_assert(!wrmsr(msr, 0));
    ck_assert(!vmx_msr_read(&cpu, 0x10, &value, &known));
    ck_assert(!known);
    ck_assert(!vmx_msr_read(&cpu, 0x494, &value, &known));
    ck_assert(!known);
    bench_model("base,-vmx");
    for (u32 msr = MSR_IA32_VMX_BASIC; msr <= MSR_IA32_VMX_EXIT_CTLS2; msr++)
        ck_assert(rdmsr_refused(msr));
    ck_assert(rdmsr_refused(MSR_IA32_FEATURE_CONTROL));
    ck_assert(!wrmsr(MSR_IA32_FEATURE_CONTROL, 0));
}
END_TEST

START_TEST(feature_control)
{
    ck_assert_uint_eq(rdmsr(MSR_IA32_FEATURE_CONTROL), 0);
    ck_assert(!wrmsr(MSR_IA32_FEATURE_CONTROL, 2));        /* VMX in SMX: no SMX */
    ck_assert(!wrmsr(MSR_IA32_FEATURE_CONTROL, BIT(20)));
    ck_assert(wrmsr(MSR_IA32_FEATURE_CONTROL, 4));
    ck_assert(wrmsr(MSR_IA32_FEATURE_CONTROL, 5));
    ck_assert(!wrmsr(MSR_IA32_FEATURE_CONTROL, 5));        /* locked */
    ck_assert_uint_eq(rdmsr(MSR_IA32_FEATURE_CONTROL), 5);
    /* SGX is one more reason for the register; nothing of it can be enabled. */
    bench_model("icelake");
    cpu.sys.feature_control = 0;
    ck_assert(!wrmsr(MSR_IA32_FEATURE_CONTROL, BIT(17)) && !wrmsr(MSR_IA32_FEATURE_CONTROL, BIT(18)));
    bench_model("icelake,-vmx");
    ck_assert_uint_eq(rdmsr(MSR_IA32_FEATURE_CONTROL), 0);
    ck_assert(!wrmsr(MSR_IA32_FEATURE_CONTROL, FEATURE_CONTROL_VMX));
    ck_assert(wrmsr(MSR_IA32_FEATURE_CONTROL, FEATURE_CONTROL_LOCKED));
    ck_assert(rdmsr_refused(MSR_IA32_VMX_BASIC));
    bench_model("base");
    /* A level's own. */
    u64 own = 0, value = 0;
    bool known;
    ck_assert(vmx_msr_write_level(&cpu, &own, MSR_IA32_FEATURE_CONTROL, 1, &known));
    ck_assert(vmx_msr_read_level(&cpu, &own, MSR_IA32_FEATURE_CONTROL, &value, &known));
    ck_assert_uint_eq(value, 1);
}
END_TEST

/* ---- counters ---------------------------------------------------------------------------------------------------- */

static char printed[8192];
static void print_stats(const struct vmx_stats *stats)
{
    FILE *out = tmpfile();
    ck_assert(out);
    vmx_stats_print(stats, out);
    rewind(out);
    printed[fread(printed, 1, sizeof printed - 1, out)] = 0;
    fclose(out);
}

START_TEST(counters)
{
    struct vmx_stats *stats = vmx_stats_create(), *sum = vmx_stats_create();
    ck_assert(stats && sum);
    print_stats(stats);
    ck_assert_str_eq(printed, "VMX: no VM entry was tried.\n");
    vmx_stats_exit(&cpu, 2, EXIT_CPUID, 1);                /* without counters: nothing happens */
    cpu.stats = stats;

    cpu.time.retired = 1000;
    vmx_stats_entry(&cpu, 1, 2);                           /* L1 ran 1000 instructions and entered L2 */
    cpu.time.retired = 1100;
    vmx_stats_exit(&cpu, 2, EXIT_CPUID, 1);
    cpu.time.retired = 1130;
    vmx_stats_entry(&cpu, 1, 2);                           /* 30 instructions for CPUID */
    cpu.time.retired = 1140;
    vmx_stats_exit(&cpu, 2, EXIT_CPUID, 0);                /* L0 did it: L2 goes on */
    vmx_stats_entry(&cpu, 2, 3);                           /* L2 enters a guest of its own */
    cpu.time.retired = 1150;
    vmx_stats_exit(&cpu, 3, EXIT_HLT, 2);                  /* L2 handles it and needs L1 meanwhile */
    cpu.time.retired = 1160;
    vmx_stats_exit(&cpu, 2, EXIT_RDMSR, 1);
    cpu.time.retired = 1165;
    vmx_stats_entry(&cpu, 1, 2);
    cpu.time.retired = 1170;
    vmx_stats_entry(&cpu, 2, 3);
    cpu.time.retired = 1200;
    vmx_stats_exit(&cpu, 3, EXIT_EXTERNAL_INTERRUPT, 1);
    cpu.time.retired = 1250;
    vmx_stats_close(&cpu);
    vmx_stats_entry_failed(stats, VMX_CHECK_VPID_ZERO);
    vmx_stats_exit(&cpu, 3, 0x8fff, 1);                    /* no reason: not counted, no harm */

    ck_assert_uint_eq(stats->instructions[1], 1000 + 30 + 5 + 50);
    ck_assert_uint_eq(stats->instructions[2], 100 + 10 + 10 + 5);
    ck_assert_uint_eq(stats->instructions[3], 10 + 30);
    ck_assert_uint_eq(stats->exits[2][EXIT_CPUID][1], 1);
    ck_assert_uint_eq(stats->exits[2][EXIT_CPUID][0], 1);
    ck_assert_uint_eq(stats->exits[3][EXIT_EXTERNAL_INTERRUPT][1], 1);
    ck_assert_uint_eq(stats->handled[1][EXIT_CPUID], 1);
    ck_assert_uint_eq(stats->handling[1][EXIT_CPUID], 30);
    ck_assert_uint_eq(stats->handling[2][EXIT_HLT], 20);
    ck_assert_uint_eq(stats->entries[2], 3);
    ck_assert_uint_eq(stats->entries[3], 2);
    ck_assert_uint_eq(stats->hypervisor[2].entries, 2);
    ck_assert_uint_eq(stats->hypervisor[2].instructions[1], 5 + 50);
    ck_assert_uint_eq(stats->hypervisor[2].instructions[2], 10 + 5);
    ck_assert_uint_eq(stats->hypervisor[1].entries, 3);
    ck_assert_uint_eq(stats->hypervisor[1].instructions[1], 30 + 5 + 50);

    vmx_stats_add(sum, stats);
    vmx_stats_add(sum, stats);
    ck_assert_uint_eq(sum->instructions[3], 80);
    print_stats(sum);
    ck_assert(strstr(printed, "VM exits of L2:"));
    ck_assert(strstr(printed, "10 CPUID"));
    ck_assert(strstr(printed, "VPID_ZERO"));
    ck_assert(strstr(printed, "L3 "));
    unsigned long long entries = 0, l1 = 0, between = 1, itself = 0;
    ck_assert_int_eq(sscanf(strstr(strstr(printed, "\nhypervisor"), "\nL2"), "\nL2 %llu %llu %llu %llu", &entries, &l1, &between, &itself), 4);
    ck_assert_uint_eq(entries, 4);
    ck_assert_uint_eq(l1, 27);
    ck_assert_uint_eq(between, 0);
    ck_assert_uint_eq(itself, 7);
    ck_assert(strstr(printed, "Instructions of L1 to handle an exit:"));
    cpu.stats = NULL;
    vmx_stats_destroy(stats);
    vmx_stats_destroy(sum);
}
END_TEST

/* The extremes are exact, the median within an eighth. */
START_TEST(spread)
{
    static const u64 costs[] = {900, 3, 1000, 100000, 1100, 7, 1000000000000ull};
    struct vmx_stats *stats = vmx_stats_create(), *sum = vmx_stats_create();
    ck_assert(stats && sum);
    cpu.stats = stats;
    cpu.time.retired = 0;
    for (unsigned n = 0; n < ARRAY_SIZE(costs); n++) {
        vmx_stats_exit(&cpu, 2, EXIT_HLT, 1);
        cpu.time.retired += costs[n];
        vmx_stats_entry(&cpu, 1, 2);
    }
    print_stats(stats);
    const char *row = strstr(strstr(printed, "Instructions of L1"), "HLT");
    unsigned long long min = 0, median = 0, max = 0;
    ck_assert_int_eq(sscanf(row, "HLT %llu %llu %llu", &min, &median, &max), 3);
    ck_assert_uint_eq(min, 3);
    ck_assert_uint_eq(max, 1000000000000ull);
    ck_assert(median > 875 && median < 1125);
    /* Sums keep the extremes of both; a single number is its own median. */
    vmx_stats_add(sum, stats);
    cpu.stats = NULL;
    vmx_stats_destroy(stats);
    cpu.stats = stats = vmx_stats_create();
    vmx_stats_exit(&cpu, 2, EXIT_HLT, 1);
    vmx_stats_entry(&cpu, 1, 2);                           /* no instruction at all */
    vmx_stats_exit(&cpu, 2, EXIT_CPUID, 1);
    cpu.time.retired += 12345;
    vmx_stats_entry(&cpu, 1, 2);
    vmx_stats_add(sum, stats);
    print_stats(sum);
    ck_assert_int_eq(sscanf(strstr(strstr(printed, "Instructions of L1"), "HLT"), "HLT %llu %llu %llu", &min, &median, &max), 3);
    ck_assert_uint_eq(min, 0);
    ck_assert_uint_eq(max, 1000000000000ull);
    ck_assert_int_eq(sscanf(strstr(strstr(printed, "Instructions of L1"), "CPUID"), "CPUID %llu %llu %llu", &min, &median, &max), 3);
    ck_assert_uint_eq(min, 12345);
    ck_assert_uint_eq(median, 12345);
    cpu.stats = NULL;
    vmx_stats_destroy(stats);
    vmx_stats_destroy(sum);
}
END_TEST

/* What L1 spends on L2's guests, with L2's entries as exits to L1 and as L0's work. */
START_TEST(nested_account)
{
    struct vmx_stats *stats = vmx_stats_create();
    ck_assert(stats);
    cpu.stats = stats;
    cpu.time.retired = 500;
    vmx_stats_entry(&cpu, 1, 2);
    cpu.time.retired = 600;
    vmx_stats_exit(&cpu, 2, EXIT_VMLAUNCH, 1);
    cpu.time.retired = 640;
    vmx_stats_entry(&cpu, 1, 2);                           /* 40 for the entry */
    cpu.time.retired = 650;
    vmx_stats_exit(&cpu, 2, EXIT_EPT_VIOLATION, 1);
    cpu.time.retired = 657;
    vmx_stats_entry(&cpu, 1, 2);                           /* 7 for an EPT violation */
    cpu.time.retired = 700;
    vmx_stats_exit(&cpu, 2, EXIT_VMRESUME, 1);
    cpu.time.retired = 720;
    vmx_stats_entry(&cpu, 1, 2);                           /* 20 for the second */
    cpu.time.retired = 800;
    vmx_stats_exit(&cpu, 2, EXIT_VMXOFF, 1);
    cpu.time.retired = 900;
    vmx_stats_entry(&cpu, 1, 2);                           /* over: does not count */
    cpu.time.retired = 1000;
    vmx_stats_close(&cpu);
    ck_assert_uint_eq(stats->hypervisor[2].entries, 2);
    ck_assert_uint_eq(stats->hypervisor[2].instructions[1], 40 + 7 + 20);
    ck_assert_uint_eq(stats->hypervisor[2].violations, 7);

    vmx_stats_entry(&cpu, 2, 3);                           /* L0 makes the entry */
    cpu.time.retired = 1100;
    vmx_stats_exit(&cpu, 3, EXIT_CPUID, 2);
    vmx_stats_exit(&cpu, 2, EXIT_CPUID, 1);
    cpu.time.retired = 1111;
    vmx_stats_entry(&cpu, 1, 2);
    vmx_stats_vmxoff(&cpu, 3);                             /* not L2's */
    cpu.time.retired = 1200;
    vmx_stats_exit(&cpu, 2, EXIT_CPUID, 1);
    cpu.time.retired = 1202;
    vmx_stats_vmxoff(&cpu, 2);
    vmx_stats_vmxoff(&cpu, 2);
    cpu.time.retired = 1300;
    vmx_stats_close(&cpu);
    ck_assert_uint_eq(stats->hypervisor[2].entries, 3);
    ck_assert_uint_eq(stats->hypervisor[2].instructions[1], 67 + 11 + 2);
    cpu.stats = NULL;
    vmx_stats_destroy(stats);
}
END_TEST

START_TEST(exit_names)
{
    ck_assert_str_eq(vmx_exit_name(EXIT_EPT_VIOLATION), "EPT_VIOLATION");
    ck_assert_str_eq(vmx_exit_text(EXIT_HLT), "HLT");
    ck_assert_str_eq(vmx_exit_name(35), "?");
    ck_assert_int_eq(EXIT_WRMSRLIST, 79);
    ck_assert_int_eq(EXIT_XSETBV, 55);
}
END_TEST

/* A processor model offers the controls of its generation: each later one has at least those of the one before. */
START_TEST(generations)
{
    static const char *const models[] = {"nehalem", "haswell", "skylake", "icelake", "sapphire-rapids", "max"};
    bench_model("nehalem");
    ck_assert(vmx_control_supported(&cpu, CTL_SECONDARY_EPT) && vmx_control_supported(&cpu, CTL_SECONDARY_VPID));
    ck_assert(!vmx_control_supported(&cpu, CTL_SECONDARY_UNRESTRICTED_GUEST));
    ck_assert(!vmx_control_supported(&cpu, CTL_SECONDARY_PML));
    ck_assert(!(rdmsr(MSR_IA32_VMX_EPT_VPID_CAP) & (EPTCAP_ACCESSED_DIRTY | EPTCAP_WALK_5)));
    ck_assert(!(rdmsr(MSR_IA32_VMX_MISC) & VMX_MISC_ZERO_LENGTH));
    ck_assert(!vmx_eptp_valid(&cpu, 0x1000 | 6 | 3 << 3 | 1 << 6));
    ck_assert(vmx_eptp_valid(&cpu, 0x1000 | 6 | 3 << 3));
    bench_model("haswell");
    ck_assert(vmx_control_supported(&cpu, CTL_SECONDARY_UNRESTRICTED_GUEST));
    ck_assert(!vmx_control_supported(&cpu, CTL_SECONDARY_PML) && !vmx_control_supported(&cpu, CTL_SECONDARY_TSC_SCALING));
    ck_assert(vmx_eptp_valid(&cpu, 0x1000 | 6 | 3 << 3 | 1 << 6));
    for (unsigned word = 0; word < VMX_WORD_COUNT; word++) {
        u64 before = 0;
        for (size_t m = 0; m < ARRAY_SIZE(models); m++) {
            bench_model(models[m]);
            ck_assert_msg(!(before & ~vmx_allowed_1(&cpu, word)), "%s, word %u", models[m], word);
            before = vmx_allowed_1(&cpu, word);
        }
    }
    /* Only models of the newest generation have what no row dates. */
    for (unsigned n = 0; n < CTL_COUNT; n++)
        ck_assert(vmx_control_in_generation(n, GENERATION_NEWEST));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {generations, basic, control_pairs, controls_follow_features, absent, what_kvm_needs, misc_and_fixed_bits,
                                  msrs_that_are_not, feature_control, counters, spread, nested_account, exit_names};
    return bench_run_with("VMX capabilities", tests, ARRAY_SIZE(tests), bench_hypervisor_setup);
}
