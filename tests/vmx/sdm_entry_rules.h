/* The checks of VM entry once more, as an executable table: a second reading of the SDM that shares nothing with
 * vmx/checks.def but the names of the fields, for tests/vmx/test_entry_fuzz.c to compare with.
 *
 * A rule says what must hold. All rules are evaluated; the outcome of an entry must be that of one of those that do
 * not hold: the checks on controls and on host state may be made in any order, those on guest state come behind them
 * and may be made in any order, too [SDM3 "Checks on VMX Controls and Host-State Area", "Checking and Loading Guest
 * State"]. What a processor offers is read from its capability MSRs.
 */
#ifndef NESTOR_TESTS_SDM_ENTRY_RULES_H
#define NESTOR_TESTS_SDM_ENTRY_RULES_H

#include "cpu/features.h"
#include "cpu/msr.h"
#include "cpu/pmu.h"

#include "tests/vmx/bench_vmcs.h"

enum { FAIL_CONTROLS = 7, FAIL_HOST = 8, FAIL_GUEST = 33 };
struct sdm_outcome { u32 outcome, qualification; const char *rule; };
struct sdm_outcomes { unsigned count; struct sdm_outcome at[64]; };

static void sdm_violated(struct sdm_outcomes *o, u32 outcome, u32 qualification, const char *rule)
{
    if (o->count < ARRAY_SIZE(o->at))
        o->at[o->count++] = (struct sdm_outcome){outcome, qualification, rule};
}
/* MUST(holds): one rule of the list that is being written. */
#define RULE(outcome, qualification, holds)                                                                            \
    do {                                                                                                               \
        if (!(holds))                                                                                                  \
            sdm_violated(o, outcome, qualification, #holds);                                                           \
    } while (0)
#define CONTROL_RULE(holds) RULE(FAIL_CONTROLS, 0, holds)
#define HOST_RULE(holds) RULE(FAIL_HOST, 0, holds)
#define GUEST_RULE(holds) RULE(FAIL_GUEST, 0, holds)

static bool sdm_bit(u64 value, unsigned n) { return value >> n & 1; }
static u64 sdm_bits(u64 value, unsigned high, unsigned low) { return value >> low & (high - low == 63 ? ~0ull : (1ull << (high - low + 1)) - 1); }
static u64 sdm_msr(u32 msr) { return vmx_capability(&cpu, msr); }
static unsigned sdm_pa_width(void) { return cpu_physical_bits(&cpu); }
static unsigned sdm_la_width(void) { return cpu_has(&cpu, FEATURE_LA57) ? 57 : 48; }
static bool sdm_within_pa(u64 address) { return address >> sdm_pa_width() == 0; }
/* CR3 has two more bits where linear addresses can be masked (CPUID.(7,1):EAX.LAM). */
static bool sdm_cr3(u64 cr3) { return sdm_within_pa(cpu_has(&cpu, FEATURE_LAM) ? cr3 & ~(3ull << 61) : cr3); }
static bool sdm_page(u64 address) { return sdm_bits(address, 11, 0) == 0 && sdm_within_pa(address); }
static bool sdm_canonical_to(u64 address, unsigned width)
{
    u64 top = address >> (width - 1);
    return top == 0 || top == ~0ull >> (width - 1);
}
static bool sdm_canonical(u64 address) { return sdm_canonical_to(address, sdm_la_width()); }
/* Low half: bits that must be 1; high half: bits that may be 1. */
static bool sdm_allowed(u64 value, u32 msr) { return (~value & (u32)sdm_msr(msr)) == 0 && (value & ~(sdm_msr(msr) >> 32)) == 0; }
static bool sdm_fixed(u64 value, u64 fixed0, u64 fixed1) { return (~value & fixed0) == 0 && (value & ~fixed1) == 0; }
static bool sdm_pat(u64 pat)
{
    for (unsigned n = 0; n < 8; n++) {
        u64 type = sdm_bits(pat, 8 * n + 7, 8 * n);
        if (type != 0 && type != 1 && (type < 4 || type > 7))
            return false;
    }
    return true;
}
static bool sdm_efer_reserved(u64 efer)
{
    u64 defined = 1 << 8 | 1 << 10 | (cpu_has(&cpu, FEATURE_SYSCALL) ? 1 : 0) | (cpu_has(&cpu, FEATURE_NX) ? 1 << 11 : 0);
    return efer & ~defined;
}
static bool sdm_s_cet(u64 cet)
{
    u64 low = sdm_bits(cet, 11, 0), defined = 0;
    if (cpu_has(&cpu, FEATURE_CET_SS))
        defined |= 3;
    if (cpu_has(&cpu, FEATURE_CET_IBT))
        defined |= 0xc3c;
    else if (cet >> 12)
        return false;
    return !(low & ~defined) && !(sdm_bit(cet, 10) && sdm_bit(cet, 11)) && sdm_canonical(cet);
}
/* What WRMSR takes is not reserved. */
static bool sdm_debugctl(u64 value)
{
    u64 kept = cpu.sys.debugctl;
    bool ok = cpu_msr_write(&cpu, MSR_IA32_DEBUGCTL, value);
    cpu.sys.debugctl = kept;
    return ok;
}
static bool sdm_perf_global_ctrl(u64 value)
{
    u64 kept = cpu.sys.perf_global_ctrl;
    bool ok = cpu_msr_write(&cpu, 0x38f, value);
    pmu_load_global_ctrl(&cpu, kept);
    return ok;
}
static u64 sdm_memory(u64 gpa, unsigned n) { return bus_read(&bus, 0, gpa, n); }
static bool sdm_msr_area(u64 address, u64 count)
{
    if (!count)
        return true;
    u64 last = address + (count * 16 - 1);
    return sdm_bits(address, 3, 0) == 0 && sdm_within_pa(address) && sdm_within_pa(last) && last >= address;
}

struct sdm_controls { u64 pin, primary, secondary, tertiary, on_exit, on_entry; };
static struct sdm_controls sdm_controls_of(const struct vmcs *v)
{
    struct sdm_controls c = {.pin = v->pin_controls, .primary = v->primary_controls, .on_exit = v->exit_controls,
                             .on_entry = v->entry_controls};
    c.secondary = sdm_bit(c.primary, 31) ? v->secondary_controls : 0;
    c.tertiary = sdm_bit(c.primary, 17) ? v->tertiary_controls : 0;
    return c;
}

/* [SDM3 "VM-Execution Control Fields", "VM-Exit Control Fields", "VM-Entry Control Fields"] */
static void sdm_control_rules(const struct vmcs *v, struct sdm_outcomes *o)
{
    const struct sdm_controls c = sdm_controls_of(v);
    bool tpr_shadow = sdm_bit(c.primary, 21), apic_accesses = sdm_bit(c.secondary, 0), x2apic = sdm_bit(c.secondary, 4);
    bool registers = sdm_bit(c.secondary, 8), delivery = sdm_bit(c.secondary, 9), posted = sdm_bit(c.pin, 7);
    bool ept = sdm_bit(c.secondary, 1), ipi = sdm_bit(c.tertiary, 4), nmi = sdm_bit(c.pin, 3), virtual_nmi = sdm_bit(c.pin, 5);
    u64 cap = sdm_msr(MSR_IA32_VMX_EPT_VPID_CAP), misc = sdm_msr(MSR_IA32_VMX_MISC);

    CONTROL_RULE(sdm_allowed(v->pin_controls, MSR_IA32_VMX_TRUE_PINBASED_CTLS));
    CONTROL_RULE(sdm_allowed(v->primary_controls, MSR_IA32_VMX_TRUE_PROCBASED_CTLS));
    CONTROL_RULE(sdm_allowed(c.secondary, MSR_IA32_VMX_PROCBASED_CTLS2));
    CONTROL_RULE((c.tertiary & ~sdm_msr(MSR_IA32_VMX_PROCBASED_CTLS3)) == 0);
    CONTROL_RULE(v->cr3_target_count <= sdm_bits(misc, 24, 16));
    if (sdm_bit(c.primary, 25)) {
        CONTROL_RULE(sdm_page(v->io_bitmap_a_address));
        CONTROL_RULE(sdm_page(v->io_bitmap_b_address));
    }
    if (sdm_bit(c.primary, 28))
        CONTROL_RULE(sdm_page(v->msr_bitmap_address));
    if (tpr_shadow) {
        CONTROL_RULE(sdm_page(v->virtual_apic_address));
        if (!delivery)
            CONTROL_RULE(sdm_bits(v->tpr_threshold, 31, 4) == 0);
        if (!delivery && !apic_accesses && sdm_page(v->virtual_apic_address))
            CONTROL_RULE(sdm_bits(v->tpr_threshold, 3, 0) <= sdm_bits(sdm_memory(v->virtual_apic_address + 0x80, 1), 7, 4));
    } else {
        CONTROL_RULE(!x2apic);
        CONTROL_RULE(!registers);
        CONTROL_RULE(!delivery);
        CONTROL_RULE(!ipi);
    }
    if (!nmi)
        CONTROL_RULE(!virtual_nmi);
    if (!virtual_nmi)
        CONTROL_RULE(!sdm_bit(c.primary, 22));
    if (apic_accesses)
        CONTROL_RULE(sdm_page(v->apic_access_address));
    if (x2apic)
        CONTROL_RULE(!apic_accesses);
    if (delivery)
        CONTROL_RULE(sdm_bit(c.pin, 0));
    if (posted) {
        CONTROL_RULE(delivery);
        CONTROL_RULE(sdm_bit(c.on_exit, 15));
        CONTROL_RULE(sdm_bits(v->posted_interrupt_vector, 15, 8) == 0);
        CONTROL_RULE(sdm_bits(v->posted_interrupt_descriptor_address, 5, 0) == 0);
        CONTROL_RULE(sdm_within_pa(v->posted_interrupt_descriptor_address));
    }
    if (sdm_bit(c.secondary, 5))
        CONTROL_RULE(v->virtual_processor_identifier != 0);
    if (ept) {
        u64 type = sdm_bits(v->ept_pointer, 2, 0), length = sdm_bits(v->ept_pointer, 5, 3);
        CONTROL_RULE((type == 0 && sdm_bit(cap, 8)) || (type == 6 && sdm_bit(cap, 14)));
        CONTROL_RULE((length == 3 && sdm_bit(cap, 6)) || (length == 4 && sdm_bit(cap, 7)));
        CONTROL_RULE(!sdm_bit(v->ept_pointer, 6) || sdm_bit(cap, 21));
        CONTROL_RULE(!sdm_bit(v->ept_pointer, 7) || sdm_bit(cap, 23));
        CONTROL_RULE(sdm_bits(v->ept_pointer, 11, 8) == 0 && sdm_within_pa(v->ept_pointer));
    }
    if (sdm_bit(c.secondary, 17))
        CONTROL_RULE(ept && sdm_page(v->pml_address));
    if (sdm_bit(c.secondary, 7))
        CONTROL_RULE(ept);
    if (sdm_bit(c.secondary, 22))
        CONTROL_RULE(ept);
    if (sdm_bit(c.secondary, 23))
        CONTROL_RULE(ept && sdm_page(v->sub_page_permission_table_pointer));
    if (sdm_bit(c.secondary, 13)) {
        CONTROL_RULE((v->vm_function_controls & ~sdm_msr(MSR_IA32_VMX_VMFUNC)) == 0);
        if (sdm_bit(v->vm_function_controls, 0))
            CONTROL_RULE(ept && sdm_page(v->eptp_list_address));
    }
    if (sdm_bit(c.secondary, 14)) {
        CONTROL_RULE(sdm_page(v->vmread_bitmap_address));
        CONTROL_RULE(sdm_page(v->vmwrite_bitmap_address));
    }
    if (sdm_bit(c.secondary, 18))
        CONTROL_RULE(sdm_page(v->ve_information_address));
    if (sdm_bit(c.secondary, 25))
        CONTROL_RULE(v->tsc_multiplier != 0);
    if (ipi) {
        CONTROL_RULE(sdm_bits(v->pid_pointer_table_address, 2, 0) == 0);
        CONTROL_RULE(sdm_within_pa(v->pid_pointer_table_address));
        CONTROL_RULE(sdm_within_pa(v->pid_pointer_table_address + (v->last_pid_pointer_index << 3)));
    }
    if (sdm_bit(c.tertiary, 1)) {
        CONTROL_RULE(ept);
        /* As CR3, but that what CR3 ignores is reserved; no LAM bits. */
        CONTROL_RULE(sdm_bits(v->hlat_pointer, 2, 0) == 0 && sdm_bits(v->hlat_pointer, 11, 5) == 0 && sdm_within_pa(v->hlat_pointer));
        CONTROL_RULE(v->hlat_prefix_size <= sdm_bits(cap, 53, 48));
    }
    if (sdm_bit(c.tertiary, 2))
        CONTROL_RULE(ept);
    if (sdm_bit(c.tertiary, 3))
        CONTROL_RULE(ept);

    CONTROL_RULE(sdm_allowed(v->exit_controls, MSR_IA32_VMX_TRUE_EXIT_CTLS));
    if (sdm_bit(c.on_exit, 31))
        CONTROL_RULE((v->secondary_exit_controls & ~sdm_msr(MSR_IA32_VMX_EXIT_CTLS2)) == 0);
    if (!sdm_bit(c.pin, 6))
        CONTROL_RULE(!sdm_bit(c.on_exit, 22));
    CONTROL_RULE(sdm_msr_area(v->exit_msr_store_address, v->exit_msr_store_count));
    CONTROL_RULE(sdm_msr_area(v->exit_msr_load_address, v->exit_msr_load_count));

    CONTROL_RULE(sdm_allowed(v->entry_controls, MSR_IA32_VMX_TRUE_ENTRY_CTLS));
    CONTROL_RULE(!sdm_bit(c.on_entry, 10) && !sdm_bit(c.on_entry, 11));   /* outside SMM */
    u64 info = v->entry_interruption_info, vector = sdm_bits(info, 7, 0), type = sdm_bits(info, 10, 8);
    if (sdm_bit(info, 31)) {
        bool protected_mode = !sdm_bit(c.secondary, 7) || sdm_bit(v->guest_cr0, 0), error = sdm_bit(info, 11);
        bool pushes = vector == 8 || vector == 10 || vector == 11 || vector == 12 || vector == 13 || vector == 14 || vector == 17;
        CONTROL_RULE(type != 1);
        CONTROL_RULE(type != 7 || sdm_bit(sdm_msr(MSR_IA32_VMX_TRUE_PROCBASED_CTLS), 32 + 27));
        CONTROL_RULE(type != 2 || vector == 2);
        CONTROL_RULE(type != 3 || vector <= 31);
        CONTROL_RULE(type != 7 || vector == 0);
        if (!protected_mode || type != 3)
            CONTROL_RULE(!error);
        else if (!sdm_bit(sdm_msr(MSR_IA32_VMX_BASIC), 56))
            CONTROL_RULE(error == pushes);
        CONTROL_RULE(sdm_bits(info, 30, 12) == 0);
        if (error)
            CONTROL_RULE(sdm_bits(v->entry_exception_error_code, 31, 16) == 0);
        if (type >= 4 && type <= 6) {
            CONTROL_RULE(v->entry_instruction_length <= 15);
            CONTROL_RULE(v->entry_instruction_length != 0 || sdm_bit(misc, 30));
        }
    }
    CONTROL_RULE(sdm_msr_area(v->entry_msr_load_address, v->entry_msr_load_count));
}

/* [SDM3 "Checks on Host Control Registers, MSRs, and SSP", "Checks on Host Segment and Descriptor-Table Registers", "Checks
 * Related to Address-Space Size"] */
static void sdm_host_rules(const struct vmcs *v, struct sdm_outcomes *o)
{
    const struct sdm_controls c = sdm_controls_of(v);
    bool wide = sdm_bit(c.on_exit, 9), long_mode = sdm_bit(cpu.sys.efer, 10), ia32e = sdm_bit(c.on_entry, 9);
    const u64 selectors[] = {v->host_cs_selector, v->host_ss_selector, v->host_ds_selector, v->host_es_selector,
                             v->host_fs_selector, v->host_gs_selector, v->host_tr_selector};

    HOST_RULE(sdm_fixed(v->host_cr0, sdm_msr(MSR_IA32_VMX_CR0_FIXED0), sdm_msr(MSR_IA32_VMX_CR0_FIXED1)));
    HOST_RULE(sdm_fixed(v->host_cr4, sdm_msr(MSR_IA32_VMX_CR4_FIXED0), sdm_msr(MSR_IA32_VMX_CR4_FIXED1)));
    if (sdm_bit(v->host_cr4, 23))
        HOST_RULE(sdm_bit(v->host_cr0, 16));
    HOST_RULE(sdm_cr3(v->host_cr3));
    HOST_RULE(sdm_canonical(v->host_sysenter_esp));
    HOST_RULE(sdm_canonical(v->host_sysenter_eip));
    if (sdm_bit(c.on_exit, 12))
        HOST_RULE(sdm_perf_global_ctrl(v->host_ia32_perf_global_ctrl));
    if (sdm_bit(c.on_exit, 19))
        HOST_RULE(sdm_pat(v->host_ia32_pat));
    if (sdm_bit(c.on_exit, 21)) {
        HOST_RULE(!sdm_efer_reserved(v->host_ia32_efer));
        HOST_RULE(sdm_bit(v->host_ia32_efer, 10) == wide);
        HOST_RULE(sdm_bit(v->host_ia32_efer, 8) == wide);
    }
    if (sdm_bit(c.on_exit, 28)) {
        HOST_RULE(sdm_s_cet(v->host_ia32_s_cet));
        HOST_RULE(sdm_bits(v->host_ssp, 1, 0) == 0);
        HOST_RULE(sdm_canonical(v->host_ia32_interrupt_ssp_table_addr));
        if (wide)
            HOST_RULE(sdm_canonical(v->host_ssp));
        else
            HOST_RULE(v->host_ssp >> 32 == 0 && v->host_ia32_s_cet >> 32 == 0);
    }
    if (sdm_bit(c.on_exit, 29))
        HOST_RULE(v->host_ia32_pkrs >> 32 == 0);

    for (unsigned n = 0; n < ARRAY_SIZE(selectors); n++)
        HOST_RULE(sdm_bits(selectors[n], 2, 0) == 0);
    HOST_RULE(v->host_cs_selector != 0);
    HOST_RULE(v->host_tr_selector != 0);
    if (!wide)
        HOST_RULE(v->host_ss_selector != 0);
    HOST_RULE(sdm_canonical(v->host_fs_base));
    HOST_RULE(sdm_canonical(v->host_gs_base));
    HOST_RULE(sdm_canonical(v->host_gdtr_base));
    HOST_RULE(sdm_canonical(v->host_idtr_base));
    HOST_RULE(sdm_canonical(v->host_tr_base));

    if (long_mode) {
        HOST_RULE(wide);
    } else {
        HOST_RULE(!ia32e);
        HOST_RULE(!wide);
    }
    if (wide) {
        HOST_RULE(sdm_bit(v->host_cr4, 5));
        HOST_RULE(sdm_canonical_to(v->host_rip, sdm_bit(v->host_cr4, 12) ? 57 : 48));
    } else {
        HOST_RULE(!ia32e);
        HOST_RULE(!sdm_bit(v->host_cr4, 17));
        HOST_RULE(v->host_rip >> 32 == 0);
    }
}

struct sdm_segment { u64 selector, base, limit, rights; };
#define SDM_SEGMENT(name) {v->guest_##name##_selector, v->guest_##name##_base, v->guest_##name##_limit, v->guest_##name##_access_rights}
static bool sdm_usable(const struct sdm_segment *s) { return !sdm_bit(s->rights, 16); }
static u64 sdm_type(const struct sdm_segment *s) { return sdm_bits(s->rights, 3, 0); }
static u64 sdm_dpl(const struct sdm_segment *s) { return sdm_bits(s->rights, 6, 5); }
static u64 sdm_rpl(const struct sdm_segment *s) { return sdm_bits(s->selector, 1, 0); }
static bool sdm_granularity(const struct sdm_segment *s)
{
    if (sdm_bits(s->limit, 11, 0) != 0xfff && sdm_bit(s->rights, 15))
        return false;
    return sdm_bits(s->limit, 31, 20) == 0 || sdm_bit(s->rights, 15);
}
static bool sdm_rights_reserved(const struct sdm_segment *s) { return sdm_bits(s->rights, 11, 8) || sdm_bits(s->rights, 31, 17); }

/* [SDM3 "Checks on Guest Control Registers, Debug Registers, and MSRs", "Checks on Guest Segment Registers"] */
static void sdm_guest_register_rules(const struct vmcs *v, struct sdm_outcomes *o)
{
    const struct sdm_controls c = sdm_controls_of(v);
    bool unrestricted = sdm_bit(c.secondary, 7), ia32e = sdm_bit(c.on_entry, 9), v8086 = sdm_bit(v->guest_rflags, 17);
    u64 not_fixed = unrestricted ? 1ull | 1ull << 31 : 0;
    enum { CS, SS, DS, ES, FS, GS };
    const struct sdm_segment s[] = {SDM_SEGMENT(cs), SDM_SEGMENT(ss), SDM_SEGMENT(ds), SDM_SEGMENT(es), SDM_SEGMENT(fs), SDM_SEGMENT(gs)};
    const struct sdm_segment tr = SDM_SEGMENT(tr), ldtr = SDM_SEGMENT(ldtr);

    GUEST_RULE(sdm_fixed(v->guest_cr0, sdm_msr(MSR_IA32_VMX_CR0_FIXED0) & ~not_fixed, sdm_msr(MSR_IA32_VMX_CR0_FIXED1)));
    if (sdm_bit(v->guest_cr0, 31))
        GUEST_RULE(sdm_bit(v->guest_cr0, 0));
    GUEST_RULE(sdm_fixed(v->guest_cr4, sdm_msr(MSR_IA32_VMX_CR4_FIXED0), sdm_msr(MSR_IA32_VMX_CR4_FIXED1)));
    if (sdm_bit(v->guest_cr4, 23))
        GUEST_RULE(sdm_bit(v->guest_cr0, 16));
    if (sdm_bit(c.on_entry, 2)) {
        GUEST_RULE(sdm_debugctl(v->guest_ia32_debugctl));
        GUEST_RULE(v->guest_dr7 >> 32 == 0);
    }
    if (ia32e) {
        GUEST_RULE(sdm_bit(v->guest_cr0, 31));
        GUEST_RULE(sdm_bit(v->guest_cr4, 5));
    } else {
        GUEST_RULE(!sdm_bit(v->guest_cr4, 17));
    }
    GUEST_RULE(sdm_cr3(v->guest_cr3));
    GUEST_RULE(sdm_canonical(v->guest_sysenter_esp));
    GUEST_RULE(sdm_canonical(v->guest_sysenter_eip));
    if (sdm_bit(c.on_entry, 13))
        GUEST_RULE(sdm_perf_global_ctrl(v->guest_ia32_perf_global_ctrl));
    if (sdm_bit(c.on_entry, 14))
        GUEST_RULE(sdm_pat(v->guest_ia32_pat));
    if (sdm_bit(c.on_entry, 15)) {
        GUEST_RULE(!sdm_efer_reserved(v->guest_ia32_efer));
        GUEST_RULE(sdm_bit(v->guest_ia32_efer, 10) == ia32e);
        GUEST_RULE(!sdm_bit(v->guest_cr0, 31) || sdm_bit(v->guest_ia32_efer, 8) == sdm_bit(v->guest_ia32_efer, 10));
    }
    if (sdm_bit(c.on_entry, 20)) {
        GUEST_RULE(sdm_s_cet(v->guest_ia32_s_cet));
        GUEST_RULE(sdm_canonical(v->guest_ia32_interrupt_ssp_table_addr));
        GUEST_RULE(sdm_bits(v->guest_ssp, 1, 0) == 0);
        if (ia32e && sdm_bit(s[CS].rights, 13))
            GUEST_RULE(sdm_canonical(v->guest_ssp));
        else
            GUEST_RULE(v->guest_ssp >> 32 == 0 && v->guest_ia32_s_cet >> 32 == 0);
    }
    if (sdm_bit(c.on_entry, 19))
        GUEST_RULE(sdm_bits(v->guest_uinv, 15, 8) == 0);
    if (sdm_bit(c.on_entry, 22))
        GUEST_RULE(v->guest_ia32_pkrs >> 32 == 0);

    GUEST_RULE(!sdm_bit(tr.selector, 2));
    if (sdm_usable(&ldtr))
        GUEST_RULE(!sdm_bit(ldtr.selector, 2));
    if (!v8086 && !unrestricted)
        GUEST_RULE(sdm_rpl(&s[SS]) == sdm_rpl(&s[CS]));
    GUEST_RULE(sdm_canonical(tr.base));
    GUEST_RULE(sdm_canonical(s[FS].base));
    GUEST_RULE(sdm_canonical(s[GS].base));
    if (sdm_usable(&ldtr))
        GUEST_RULE(sdm_canonical(ldtr.base));
    GUEST_RULE(s[CS].base >> 32 == 0);
    for (unsigned n = SS; n <= ES; n++)
        GUEST_RULE(!sdm_usable(&s[n]) || s[n].base >> 32 == 0);

    for (unsigned n = CS; n <= GS; n++) {
        bool usable = n == CS || sdm_usable(&s[n]);
        if (v8086) {
            GUEST_RULE(s[n].base == s[n].selector * 16);
            GUEST_RULE(s[n].limit == 0xffff);
            GUEST_RULE(s[n].rights == 0xf3);
            continue;
        }
        if (!usable)
            continue;
        if (n >= DS) {
            GUEST_RULE(sdm_bit(s[n].rights, 0));
            GUEST_RULE(!sdm_bit(s[n].rights, 3) || sdm_bit(s[n].rights, 1));
            if (!unrestricted && sdm_type(&s[n]) <= 11)
                GUEST_RULE(sdm_dpl(&s[n]) >= sdm_rpl(&s[n]));
        }
        GUEST_RULE(sdm_bit(s[n].rights, 4));
        GUEST_RULE(sdm_bit(s[n].rights, 7));
        GUEST_RULE(!sdm_rights_reserved(&s[n]));
        GUEST_RULE(sdm_granularity(&s[n]));
    }
    if (!v8086) {
        u64 type = sdm_type(&s[CS]);
        GUEST_RULE(type == 9 || type == 11 || type == 13 || type == 15 || (type == 3 && unrestricted));
        if (type == 3)
            GUEST_RULE(sdm_dpl(&s[CS]) == 0);
        if (type == 9 || type == 11)
            GUEST_RULE(sdm_dpl(&s[CS]) == sdm_dpl(&s[SS]));
        if (type == 13 || type == 15)
            GUEST_RULE(sdm_dpl(&s[CS]) <= sdm_dpl(&s[SS]));
        if (sdm_usable(&s[SS]))
            GUEST_RULE(sdm_type(&s[SS]) == 3 || sdm_type(&s[SS]) == 7);
        if (!unrestricted)
            GUEST_RULE(sdm_dpl(&s[SS]) == sdm_rpl(&s[SS]));
        if (type == 3 || !sdm_bit(v->guest_cr0, 0))
            GUEST_RULE(sdm_dpl(&s[SS]) == 0);
        if (ia32e && sdm_bit(s[CS].rights, 13))
            GUEST_RULE(!sdm_bit(s[CS].rights, 14));
    }
    GUEST_RULE(sdm_type(&tr) == 11 || (!ia32e && sdm_type(&tr) == 3));
    GUEST_RULE(!sdm_bit(tr.rights, 4));
    GUEST_RULE(sdm_bit(tr.rights, 7));
    GUEST_RULE(!sdm_rights_reserved(&tr));
    GUEST_RULE(sdm_granularity(&tr));
    GUEST_RULE(sdm_usable(&tr));
    if (sdm_usable(&ldtr)) {
        GUEST_RULE(sdm_type(&ldtr) == 2);
        GUEST_RULE(!sdm_bit(ldtr.rights, 4));
        GUEST_RULE(sdm_bit(ldtr.rights, 7));
        GUEST_RULE(!sdm_rights_reserved(&ldtr));
        GUEST_RULE(sdm_granularity(&ldtr));
    }
    GUEST_RULE(sdm_canonical(v->guest_gdtr_base));
    GUEST_RULE(sdm_canonical(v->guest_idtr_base));
    GUEST_RULE(sdm_bits(v->guest_gdtr_limit, 31, 16) == 0);
    GUEST_RULE(sdm_bits(v->guest_idtr_limit, 31, 16) == 0);
}

/* [SDM3 "Checks on Guest RIP, RFLAGS, and SSP", "Checks on Guest Non-Register State", "Checks on Guest
 * Page-Directory-Pointer-Table Entries"] */
static void sdm_guest_state_rules(const struct vmcs *v, u64 current, struct sdm_outcomes *o)
{
    const struct sdm_controls c = sdm_controls_of(v);
    bool ia32e = sdm_bit(c.on_entry, 9), inject = sdm_bit(v->entry_interruption_info, 31);
    u64 vector = sdm_bits(v->entry_interruption_info, 7, 0), type = sdm_bits(v->entry_interruption_info, 10, 8);
    u64 blocking = v->guest_interruptibility, activity = v->guest_activity, pending = v->guest_pending_debug;
    bool external = inject && type == 0, nmi = inject && type == 2, machine_check = inject && type == 3 && vector == 18;
    bool sti = sdm_bit(blocking, 0), mov_ss = sdm_bit(blocking, 1);

    if (!ia32e || !sdm_bit(v->guest_cs_access_rights, 13)) {
        GUEST_RULE(v->guest_rip >> 32 == 0);
    } else {
        u64 high = v->guest_rip >> sdm_la_width();
        GUEST_RULE(high == 0 || high == ~0ull >> sdm_la_width());
    }
    GUEST_RULE(v->guest_rflags >> 22 == 0 && !sdm_bit(v->guest_rflags, 15) && !sdm_bit(v->guest_rflags, 5) && !sdm_bit(v->guest_rflags, 3));
    GUEST_RULE(sdm_bit(v->guest_rflags, 1));
    if (ia32e || !sdm_bit(v->guest_cr0, 0))
        GUEST_RULE(!sdm_bit(v->guest_rflags, 17));
    if (external)
        GUEST_RULE(sdm_bit(v->guest_rflags, 9));

    GUEST_RULE(activity <= 3);
    if (activity >= 1 && activity <= 3)
        GUEST_RULE(sdm_bit(sdm_msr(MSR_IA32_VMX_MISC), 5 + (unsigned)activity));
    if (activity == 1)
        GUEST_RULE(sdm_bits(v->guest_ss_access_rights, 6, 5) == 0);
    if (sti || mov_ss)
        GUEST_RULE(activity == 0);
    if (inject && activity == 1)
        GUEST_RULE(external || nmi || machine_check || (type == 3 && vector == 1) || (type == 7 && vector == 0));
    if (inject && activity == 2)
        GUEST_RULE(nmi || machine_check);
    if (inject && activity == 3)
        GUEST_RULE(!inject);

    GUEST_RULE(sdm_bits(blocking, 31, 5) == 0);
    GUEST_RULE(!sdm_bit(blocking, 4));               /* no enclaves */
    GUEST_RULE(!(sti && mov_ss));
    if (!sdm_bit(v->guest_rflags, 9))
        GUEST_RULE(!sti);
    if (external)
        GUEST_RULE(!sti && !mov_ss);
    if (nmi)
        GUEST_RULE(!mov_ss);
    GUEST_RULE(!sdm_bit(blocking, 2));               /* not in SMM */
    if (nmi && sdm_bit(c.pin, 5))
        GUEST_RULE(!sdm_bit(blocking, 3));

    GUEST_RULE(sdm_bits(pending, 10, 4) == 0 && !sdm_bit(pending, 13) && !sdm_bit(pending, 15) && pending >> 17 == 0);
    GUEST_RULE(!sdm_bit(pending, 16));                               /* no RTM */
    if (!cpu_has(&cpu, FEATURE_BUS_LOCK_DETECT))
        GUEST_RULE(!sdm_bit(pending, 11));
    if (sti || mov_ss || activity == 1) {
        bool step = sdm_bit(v->guest_rflags, 8) && !sdm_bit(v->guest_ia32_debugctl, 1);
        GUEST_RULE(sdm_bit(pending, 14) == step);
    }

    u64 link = v->vmcs_link_pointer;
    if (link != ~0ull) {
        RULE(FAIL_GUEST, 4, sdm_page(link));
        if (sdm_page(link)) {
            u64 word = sdm_memory(link, 4);
            RULE(FAIL_GUEST, 4, sdm_bits(word, 30, 0) == sdm_bits(sdm_msr(MSR_IA32_VMX_BASIC), 30, 0));
            RULE(FAIL_GUEST, 4, sdm_bit(word, 31) == sdm_bit(c.secondary, 14));
            RULE(FAIL_GUEST, 4, link != current);
        }
    }

    if (sdm_bit(v->guest_cr0, 31) && sdm_bit(v->guest_cr4, 5) && !ia32e) {
        u64 entry[4] = {v->guest_pdpte0, v->guest_pdpte1, v->guest_pdpte2, v->guest_pdpte3};
        bool ept = sdm_bit(c.secondary, 1);
        for (unsigned n = 0; n < 4; n++) {
            if (!ept)
                entry[n] = sdm_cr3(v->guest_cr3) ? sdm_memory(sdm_bits(v->guest_cr3, 31, 5) * 32 + 8 * n, 8) : 0;
            if (sdm_bit(entry[n], 0))
                RULE(FAIL_GUEST, 2, sdm_bits(entry[n], 2, 1) == 0 && sdm_bits(entry[n], 8, 5) == 0 && sdm_within_pa(entry[n]));
        }
    }
}

/* What the SDM lets happen: nothing in it means that the entry succeeds. */
static void sdm_entry(const struct vmcs *v, u64 current, struct sdm_outcomes *o)
{
    o->count = 0;
    sdm_control_rules(v, o);
    sdm_host_rules(v, o);
    if (o->count)
        return;
    sdm_guest_register_rules(v, o);
    sdm_guest_state_rules(v, current, o);
}

#endif
