/* VMCSs on a bench: valid ones for each kind of guest, to start from. */
#ifndef NESTOR_TESTS_BENCH_VMCS_H
#define NESTOR_TESTS_BENCH_VMCS_H

#include "cpu/trace.h"
#include "vmx/capability.h"
#include "vmx/checks.h"
#include "vmx/fields.h"
#include "vmx/frame.h"
#include "vmx/policy.h"
#include "vmx/stats.h"
#include "vmx/vmx.h"

#include "tests/cpu/bench_cpu.h"   /* last: it has a variable called cpu */

#define BENCH_VMCS 0x200000u               /* gpa of the current VMCS */
#define BENCH_OTHER_VMCS 0x201000u         /* a region with the right revision, for the link pointer */
#define BENCH_PAGE 0x202000u               /* pages for bitmaps, virtual APIC … */
#define BENCH_SHADOW_VMCS 0x208000u        /* … with the shadow-VMCS indicator */
#define BENCH_PDPTES 0x210020u             /* four PDPTEs, 32-byte aligned */

/* Initialiser: a decoded instruction of 64-bit mode, `bytes` long, without operands. */
#define BENCH_VMX_INSN(bytes)                                                                                          \
    {.length = (bytes), .flags = INSN_64, .asz = 3, .osz = OSZ_64, .base = REG_ZERO, .index = REG_ZERO}

/* Turns on EPT whose tables at `root` map the first `megabytes`, a multiple of 2, to themselves by 2 MiB pages. */
static inline void bench_ept(struct vmcs *v, u64 root, unsigned megabytes)
{
    bench_poke64(root, (root + 0x1000) | 7);
    bench_poke64(root + 0x1000, (root + 0x2000) | 7);
    for (u64 n = 0; n < megabytes / 2; n++)
        bench_poke64(root + 0x2000 + 8 * n, n << 21 | 1 << 7 | 6 << 3 | 7);
    v->secondary_controls |= SECONDARY_EPT;
    v->ept_pointer = root | 3 << 3 | 6;
}
/* Makes 4 KiB pages of the 2 MiB page at 0x200000, by the table at `pages`. */
static inline void bench_ept_pages(u64 root, u64 pages)
{
    bench_poke64(root + 0x2000 + 8, pages | 7);
    for (u64 n = 0; n < 512; n++)
        bench_poke64(pages + 8 * n, (0x200000 + n * 0x1000) | 6 << 3 | 7);
}

/* A 64-bit guest of a 64-bit hypervisor, with nothing turned on that need not be. */
static inline void bench_vmcs_64(struct vmcs *v)
{
    memset(v, 0, sizeof *v);
    v->pin_controls = vmx_allowed_0(VMX_WORD_PIN);
    v->primary_controls = vmx_allowed_0(VMX_WORD_PRIMARY) | PRIMARY_SECONDARY_CONTROLS;
    v->exit_controls = vmx_allowed_0(VMX_WORD_VMEXIT) | VMEXIT_HOST_ADDRESS_SPACE_SIZE | VMEXIT_LOAD_EFER | VMEXIT_LOAD_PAT;
    v->entry_controls = vmx_allowed_0(VMX_WORD_VMENTRY) | VMENTRY_IA32E_MODE_GUEST | VMENTRY_LOAD_EFER | VMENTRY_LOAD_PAT
                        | VMENTRY_LOAD_DEBUG_CONTROLS;
    v->vmcs_link_pointer = ~0ull;

    v->host_cr0 = v->guest_cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
    v->host_cr4 = v->guest_cr4 = CR4_VMXE | CR4_PAE;
    v->host_cr3 = v->guest_cr3 = BENCH_TABLES;
    v->host_ia32_efer = v->guest_ia32_efer = EFER_LME | EFER_LMA;
    v->host_ia32_pat = v->guest_ia32_pat = 0x0007040600070406ull;
    v->host_cs_selector = 0x08;
    v->host_ss_selector = v->host_ds_selector = v->host_es_selector = 0x10;
    v->host_tr_selector = 0x40;
    v->host_tr_base = BENCH_TSS;
    v->host_rip = 0x1000;

    v->guest_cs_selector = 0x08;
    v->guest_cs_access_rights = 0xa09b;
    v->guest_ss_selector = v->guest_ds_selector = v->guest_es_selector = v->guest_fs_selector = v->guest_gs_selector = 0x10;
    v->guest_ss_access_rights = v->guest_ds_access_rights = v->guest_es_access_rights = v->guest_fs_access_rights =
        v->guest_gs_access_rights = 0xc093;
    v->guest_cs_limit = v->guest_ss_limit = v->guest_ds_limit = v->guest_es_limit = v->guest_fs_limit = v->guest_gs_limit =
        0xffffffff;
    v->guest_tr_selector = 0x40;
    v->guest_tr_access_rights = 0x8b;
    v->guest_tr_limit = 0x67;
    v->guest_ldtr_selector = 0x48;
    v->guest_ldtr_access_rights = 0x82;
    v->guest_ldtr_limit = 0xffff;
    v->guest_gdtr_limit = v->guest_idtr_limit = 0xffff;
    v->guest_rip = 0x1000;
    v->guest_rflags = FL_R1 | FL_IF;
    v->guest_dr7 = DR7_FIXED;
}

/* What cannot be without EPT, and EPT itself. */
#define BENCH_EPT_CONTROLS                                                                                             \
    (SECONDARY_EPT | SECONDARY_PML | SECONDARY_UNRESTRICTED_GUEST | SECONDARY_MODE_BASED_EXECUTE | SECONDARY_VM_FUNCTIONS | \
     SECONDARY_SPP)

/* Everything turned on that goes together. */
static inline void bench_vmcs_rich(struct vmcs *v)
{
    bench_vmcs_64(v);
    v->pin_controls |= PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | PIN_PREEMPTION_TIMER;
    v->primary_controls |= PRIMARY_IO_BITMAPS | PRIMARY_MSR_BITMAPS | PRIMARY_TPR_SHADOW | PRIMARY_NMI_WINDOW_EXITING;
    v->secondary_controls = SECONDARY_APIC_ACCESSES | SECONDARY_VPID | SECONDARY_TSC_SCALING | SECONDARY_EPT_VIOLATION_VE
                            | BENCH_EPT_CONTROLS;
    v->ve_information_address = BENCH_PAGE + 0x3000;
    v->vm_function_controls = VMX_VMFUNC_EPTP_SWITCHING;
    v->eptp_list_address = BENCH_PAGE + 0x7000;
    v->sub_page_permission_table_pointer = BENCH_PAGE + 0x2000;
    v->exit_controls |= VMEXIT_SAVE_PREEMPTION_TIMER | VMEXIT_ACKNOWLEDGE_INTERRUPT;
    v->io_bitmap_a_address = v->io_bitmap_b_address = v->msr_bitmap_address = v->virtual_apic_address =
        v->apic_access_address = v->pml_address = BENCH_PAGE;
    v->virtual_processor_identifier = 1;
    v->ept_pointer = BENCH_PAGE | 3 << 3 | 6;
    v->tsc_multiplier = 1ull << 48;
    v->cr3_target_count = 4;
    v->tpr_threshold = 15;
    v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = 2;
    v->exit_msr_store_address = v->exit_msr_load_address = v->entry_msr_load_address = BENCH_PAGE + 16;
    v->vmcs_link_pointer = BENCH_OTHER_VMCS;
}

/* A virtual APIC with all that a processor does for it. */
static inline void bench_vmcs_apicv(struct vmcs *v)
{
    bench_vmcs_rich(v);
    v->pin_controls |= PIN_POSTED_INTERRUPTS;
    v->primary_controls |= PRIMARY_TERTIARY_CONTROLS;
    v->secondary_controls = (v->secondary_controls & ~(u64)SECONDARY_APIC_ACCESSES) | SECONDARY_X2APIC_MODE
                            | SECONDARY_APIC_REGISTER_VIRTUALIZATION | SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;
    v->tertiary_controls = TERTIARY_IPI_VIRTUALIZATION;
    v->posted_interrupt_vector = 0xf2;
    v->posted_interrupt_descriptor_address = BENCH_PAGE + 0x1040;
    v->secondary_controls |= SECONDARY_VMCS_SHADOWING;
    v->vmread_bitmap_address = BENCH_PAGE + 0x4000;
    v->vmwrite_bitmap_address = BENCH_PAGE + 0x5000;
    v->vmcs_link_pointer = BENCH_SHADOW_VMCS;
    v->pid_pointer_table_address = BENCH_PAGE + 0x2000;
    v->last_pid_pointer_index = 3;
}

/* The guest's page tables under its hypervisor's eyes. */
static inline void bench_vmcs_hlat(struct vmcs *v)
{
    bench_vmcs_rich(v);
    v->primary_controls |= PRIMARY_TERTIARY_CONTROLS;
    v->tertiary_controls = TERTIARY_HLAT | TERTIARY_EPT_PAGING_WRITE | TERTIARY_GUEST_PAGING_VERIFICATION;
    v->hlat_pointer = BENCH_TABLES | 0x18;
    v->hlat_prefix_size = 1;
}

/* Shadow stacks and protection keys of supervisor pages on both sides; a notification vector of user interrupts for the guest. */
#define BENCH_CET_MODEL "base,+cet-ss,+cet-ibt,+pks,+uintr,+pmu,+spec-ctrl,+msrlist"
static inline void bench_vmcs_cet(struct vmcs *v)
{
    bench_vmcs_64(v);
    v->exit_controls |= VMEXIT_LOAD_CET_STATE | VMEXIT_LOAD_PKRS | VMEXIT_LOAD_PERF_GLOBAL_CTRL | VMEXIT_SAVE_PERF_GLOBAL_CTRL;
    v->exit_controls |= VMEXIT_SECONDARY_CONTROLS;
    v->secondary_exit_controls = VMEXIT2_PREMATURELY_BUSY;
    v->entry_controls |= VMENTRY_LOAD_CET_STATE | VMENTRY_LOAD_PKRS | VMENTRY_LOAD_PERF_GLOBAL_CTRL;
    v->exit_controls |= VMEXIT_CLEAR_UINV;
    v->entry_controls |= VMENTRY_LOAD_UINV;
    v->guest_uinv = 0xe1;
    v->host_ia32_perf_global_ctrl = 1;
    v->guest_ia32_perf_global_ctrl = 2;
    v->host_cr0 |= CR0_WP;
    v->guest_cr0 |= CR0_WP;
    v->host_cr4 |= CR4_CET;
    v->guest_cr4 |= CR4_CET;
    v->host_ia32_s_cet = 1;
    v->guest_ia32_s_cet = 4;
    v->host_ssp = 0xffff800000001000ull;
    v->guest_ssp = 0x7000;
    v->host_ia32_interrupt_ssp_table_addr = 0xffff800000002000ull;
    v->guest_ia32_interrupt_ssp_table_addr = 0x8000;
    v->host_ia32_pkrs = 0x55555555;
    v->guest_ia32_pkrs = 0xaaaaaaaa;
}

/* A guest in 32-bit protected mode without paging (unrestricted), or with PAE paging. */
static inline void bench_vmcs_32(struct vmcs *v, bool pae)
{
    bench_vmcs_rich(v);
    v->entry_controls &= ~(u64)VMENTRY_IA32E_MODE_GUEST;
    v->guest_ia32_efer = 0;
    v->guest_cr0 = CR0_PE | CR0_NE | CR0_ET | (pae ? CR0_PG : 0);
    v->guest_cr4 = CR4_VMXE | (pae ? CR4_PAE : 0);
    v->guest_cs_access_rights = 0xc09b;
}

/* Real mode (unrestricted). */
static inline void bench_vmcs_real(struct vmcs *v)
{
    bench_vmcs_32(v, false);
    v->guest_cr0 = CR0_NE | CR0_ET;
    v->guest_cs_access_rights = v->guest_ss_access_rights = v->guest_ds_access_rights = v->guest_es_access_rights =
        v->guest_fs_access_rights = v->guest_gs_access_rights = 0x93;
    v->guest_cs_limit = v->guest_ss_limit = v->guest_ds_limit = v->guest_es_limit = v->guest_fs_limit = v->guest_gs_limit = 0xffff;
}

/* Virtual-8086 mode under 32-bit paging without EPT, as on processors without unrestricted guest. */
static inline void bench_vmcs_v8086(struct vmcs *v)
{
    bench_vmcs_64(v);
    v->entry_controls &= ~(u64)VMENTRY_IA32E_MODE_GUEST;
    v->guest_ia32_efer = 0;
    v->guest_cr4 = CR4_VMXE;
    v->guest_rflags = FL_R1 | FL_VM | FL_IF;
#define SEGMENT(seg, paragraph)                                                                                        \
    v->guest_##seg##_selector = paragraph;                                                                             \
    v->guest_##seg##_base = paragraph << 4;                                                                            \
    v->guest_##seg##_limit = 0xffff;                                                                                   \
    v->guest_##seg##_access_rights = 0xf3;
    SEGMENT(cs, 0x1234)
    SEGMENT(ss, 0x2000)
    SEGMENT(ds, 0x3003)
    SEGMENT(es, 0)
    SEGMENT(fs, 0xffff)
    SEGMENT(gs, 7)
#undef SEGMENT
}

/* Without EPT the PDPTEs are in memory. */
static inline void bench_vmcs_pae_in_memory(struct vmcs *v)
{
    bench_vmcs_64(v);
    v->entry_controls &= ~(u64)VMENTRY_IA32E_MODE_GUEST;
    v->guest_ia32_efer = 0;
    v->guest_cs_access_rights = 0xc09b;
    v->guest_cr3 = BENCH_PDPTES;
}

/* A hypervisor in 64-bit mode that has just made a VMCS current. */
static inline void bench_hypervisor_setup(void)
{
    vmx_policy_free(&cpu);
    bench_setup();
    bench_long_mode(0);
    cpu.sys.cr4 |= CR4_VMXE;
    cpu.vmx.frame[0].vmxon = 1;
    cpu.vmx.frame[0].vmcs_ptr = cpu.vmx.frame[0].vmcs_hpa = BENCH_VMCS;
    bus_write(&bus, 0, BENCH_OTHER_VMCS, 4, VMCS_REVISION);
    bus_write(&bus, 0, BENCH_SHADOW_VMCS, 4, VMCS_REVISION | VMCS_SHADOW);
    bus_write(&bus, 0, BENCH_PAGE + 0x80, 1, 0x20);
}

#endif
