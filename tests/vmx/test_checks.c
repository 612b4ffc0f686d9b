/* Every check of VM entry fires: one broken VMCS for each row of vmx/checks.def, made from a valid one, and the row
 * it names is the row that is reported. Valid VMCSs of every kind pass. Remembered sections never change an outcome.
 */
#include "tests/vmx/bench_vmcs.h"

static struct vmx_check_failure failure;
static bool entry_passes(void) { return vmx_check_entry(&cpu, 0, &failure); }

/* ---- one broken VMCS a row --------------------------------------------------------------------------------------- */

typedef void (*make)(struct vmcs *v);
static void pae_in_ept(struct vmcs *v) { bench_vmcs_32(v, true); }
static void flat_32(struct vmcs *v) { bench_vmcs_32(v, false); }
/* A 32-bit hypervisor: it runs outside IA-32e mode itself. */
static void host_32(struct vmcs *v)
{
    bench_vmcs_v8086(v);
    v->exit_controls &= ~(u64)(VMEXIT_HOST_ADDRESS_SPACE_SIZE | VMEXIT_LOAD_EFER);
    v->host_cr4 = CR4_VMXE;
    cpu.sys.efer = 0;
}

static void host_32_cet(struct vmcs *v)
{
    host_32(v);
    v->exit_controls |= VMEXIT_LOAD_CET_STATE;
    v->host_ssp = 0x1000;
}

/* VMCSs of an SMM-transfer monitor: for a guest in SMM, and to return to VMX root operation or to a guest. */
#define EXECUTIVE 0x220000u
#define VMXON_REGION 0x221000u
static void in_smm(struct vmcs *v)
{
    bench_vmcs_64(v);
    cpu.smm.active = cpu.smm.dual_monitor = 1;
    cpu.vmx.frame[0].vmxon_ptr = VMXON_REGION;
    bus_write(&bus, 0, VMXON_REGION, 4, VMCS_REVISION);
    bus_write(&bus, 0, EXECUTIVE, 4, VMCS_REVISION);
}
static void guest_in_smm(struct vmcs *v)
{
    in_smm(v);
    v->entry_controls |= VMENTRY_ENTRY_TO_SMM;
    v->guest_interruptibility = BLOCK_SMI;
}
static void to_root(struct vmcs *v)
{
    in_smm(v);
    v->executive_vmcs_pointer = VMXON_REGION;
}
static void to_guest(struct vmcs *v)
{
    struct vmcs executive;
    in_smm(v);
    bench_vmcs_64(&executive);
    executive.launched = 1;
    ck_assert(bus_copy_to(&bus, EXECUTIVE + 8, &executive, sizeof executive));
    v->executive_vmcs_pointer = EXECUTIVE;
}

/* An event to inject: type, vector, with error code. */
#define INJECT(type, vector, error) (0x80000000u | (error) << 11 | (type) << 8 | (vector))
#define NONCANONICAL 0x0000800000000000ull
#define BEYOND (1ull << 46)                /* first address bit that model `base` has not */

#define BREAK_SEGMENT(SEG, seg)                                                                                        \
    BREAK(GUEST_##SEG##_V8086_BASE, bench_vmcs_v8086, v->guest_##seg##_base ^= 0x10)                                   \
    BREAK(GUEST_##SEG##_V8086_LIMIT, bench_vmcs_v8086, v->guest_##seg##_limit = 0xfffff)                               \
    BREAK(GUEST_##SEG##_V8086_ACCESS, bench_vmcs_v8086, v->guest_##seg##_access_rights = 0x93)                         \
    BREAK(GUEST_##SEG##_SYSTEM, bench_vmcs_64, v->guest_##seg##_access_rights &= ~(u64)AR_S)                           \
    BREAK(GUEST_##SEG##_PRESENT, bench_vmcs_64, v->guest_##seg##_access_rights &= ~(u64)AR_P)                          \
    BREAK(GUEST_##SEG##_RESERVED, bench_vmcs_64, v->guest_##seg##_access_rights |= 0x100)                              \
    BREAK(GUEST_##SEG##_GRANULARITY, bench_vmcs_64, v->guest_##seg##_limit = 0xfffff000)
#define BREAK_DATA(SEG, seg)                                                                                           \
    BREAK(GUEST_##SEG##_TYPE, bench_vmcs_64, v->guest_##seg##_access_rights &= ~1ull)                                  \
    BREAK(GUEST_##SEG##_DPL, bench_vmcs_64, v->guest_##seg##_selector |= 3)

#define BREAKS                                                                                                         \
    BREAK(PIN_CONTROLS_RESERVED, bench_vmcs_64, v->pin_controls |= 1u << 8)                                  \
    BREAK(PRIMARY_CONTROLS_RESERVED, bench_vmcs_64, v->primary_controls &= ~2ull)                                      \
    BREAK(SECONDARY_CONTROLS_RESERVED, bench_vmcs_64, v->secondary_controls |= 1u << 29)               \
    BREAK(TERTIARY_CONTROLS_RESERVED, bench_vmcs_apicv, v->tertiary_controls |= 1ull << 40)                            \
    BREAK(CR3_TARGET_COUNT, bench_vmcs_64, v->cr3_target_count = 5)                                                    \
    BREAK(IO_BITMAP_A_ADDRESS, bench_vmcs_rich, v->io_bitmap_a_address |= 0x800)                                       \
    BREAK(IO_BITMAP_B_ADDRESS, bench_vmcs_rich, v->io_bitmap_b_address |= BEYOND)                                      \
    BREAK(MSR_BITMAP_ADDRESS, bench_vmcs_rich, v->msr_bitmap_address |= 1)                                             \
    BREAK(VIRTUAL_APIC_ADDRESS, bench_vmcs_rich, v->virtual_apic_address |= 1)                                         \
    BREAK(TPR_THRESHOLD_RESERVED, bench_vmcs_rich, v->tpr_threshold = 0x10)                                            \
    BREAK(TPR_THRESHOLD_ABOVE_VTPR, bench_vmcs_rich, (v->secondary_controls &= ~(u64)SECONDARY_APIC_ACCESSES, v->tpr_threshold = 3)) \
    BREAK(X2APIC_MODE_WITHOUT_TPR_SHADOW, bench_vmcs_64, v->secondary_controls |= SECONDARY_X2APIC_MODE)               \
    BREAK(APIC_REGISTERS_WITHOUT_TPR_SHADOW, bench_vmcs_64, v->secondary_controls |= SECONDARY_APIC_REGISTER_VIRTUALIZATION) \
    BREAK(VIRTUAL_INTERRUPTS_WITHOUT_TPR_SHADOW, bench_vmcs_64, v->secondary_controls |= SECONDARY_VIRTUAL_INTERRUPT_DELIVERY) \
    BREAK(IPI_VIRTUALIZATION_WITHOUT_TPR_SHADOW, bench_vmcs_64,                                                        \
          (v->primary_controls |= PRIMARY_TERTIARY_CONTROLS, v->tertiary_controls |= TERTIARY_IPI_VIRTUALIZATION))     \
    BREAK(X2APIC_MODE_AND_APIC_ACCESSES, bench_vmcs_apicv, v->secondary_controls |= SECONDARY_APIC_ACCESSES)           \
    BREAK(VIRTUAL_INTERRUPTS_WITHOUT_EXITING, bench_vmcs_apicv, v->pin_controls &= ~(u64)PIN_EXTERNAL_INTERRUPT_EXITING) \
    BREAK(POSTED_INTERRUPTS_WITHOUT_DELIVERY, bench_vmcs_apicv,                                                        \
          (v->secondary_controls &= ~(u64)SECONDARY_VIRTUAL_INTERRUPT_DELIVERY, v->tpr_threshold = 0))                 \
    BREAK(POSTED_INTERRUPTS_WITHOUT_ACKNOWLEDGE, bench_vmcs_apicv, v->exit_controls &= ~(u64)VMEXIT_ACKNOWLEDGE_INTERRUPT) \
    BREAK(POSTED_INTERRUPT_VECTOR, bench_vmcs_apicv, v->posted_interrupt_vector = 0x100)                               \
    BREAK(POSTED_INTERRUPT_DESCRIPTOR, bench_vmcs_apicv, v->posted_interrupt_descriptor_address |= 0x20)               \
    BREAK(VMREAD_BITMAP_ADDRESS, bench_vmcs_apicv, v->vmread_bitmap_address |= 0x10)                                   \
    BREAK(VMWRITE_BITMAP_ADDRESS, bench_vmcs_apicv, v->vmwrite_bitmap_address |= BEYOND)                               \
    BREAK(PID_POINTER_TABLE, bench_vmcs_apicv, (v->pid_pointer_table_address = BEYOND - 16, v->last_pid_pointer_index = 2)) \
    BREAK(VIRTUAL_NMIS_WITHOUT_NMI_EXITING, bench_vmcs_rich, v->pin_controls &= ~(u64)PIN_NMI_EXITING)                 \
    BREAK(NMI_WINDOW_WITHOUT_VIRTUAL_NMIS, bench_vmcs_rich, v->pin_controls &= ~(u64)PIN_VIRTUAL_NMIS)                 \
    BREAK(APIC_ACCESS_ADDRESS, bench_vmcs_rich, v->apic_access_address |= BEYOND)                                      \
    BREAK(VPID_ZERO, bench_vmcs_rich, v->virtual_processor_identifier = 0)                                             \
    BREAK(EPTP_MEMORY_TYPE, bench_vmcs_rich, v->ept_pointer ^= 6 ^ 4)                                                  \
    BREAK(EPTP_WALK_LENGTH, bench_vmcs_rich, v->ept_pointer ^= (3 ^ 2) << 3)                                           \
    BREAK(EPTP_RESERVED, bench_vmcs_rich, v->ept_pointer |= 0x100)                                                      \
    BREAK(PML_WITHOUT_EPT, bench_vmcs_64, v->secondary_controls |= SECONDARY_PML)                                      \
    BREAK(PML_ADDRESS, bench_vmcs_rich, v->pml_address |= 8)                                                           \
    BREAK(UNRESTRICTED_GUEST_WITHOUT_EPT, bench_vmcs_64, v->secondary_controls |= SECONDARY_UNRESTRICTED_GUEST)        \
    BREAK(MODE_BASED_EXECUTE_WITHOUT_EPT, bench_vmcs_64, v->secondary_controls |= SECONDARY_MODE_BASED_EXECUTE)        \
    BREAK(VM_FUNCTION_CONTROLS_RESERVED, bench_vmcs_rich, v->vm_function_controls |= 2)                                \
    BREAK(EPTP_SWITCHING_WITHOUT_EPT, bench_vmcs_64,                                                                   \
          (v->secondary_controls |= SECONDARY_VM_FUNCTIONS, v->vm_function_controls = 1))                              \
    BREAK(EPTP_LIST_ADDRESS, bench_vmcs_rich, v->eptp_list_address |= 8)                                               \
    BREAK(VE_INFORMATION_ADDRESS, bench_vmcs_rich, v->ve_information_address |= BEYOND)                                \
    BREAK(SPP_WITHOUT_EPT, bench_vmcs_64, v->secondary_controls |= SECONDARY_SPP)                                      \
    BREAK(SPP_TABLE_POINTER, bench_vmcs_rich, v->sub_page_permission_table_pointer |= 0x10)                            \
    BREAK(HLAT_WITHOUT_EPT, bench_vmcs_64,                                                                             \
          (v->primary_controls |= PRIMARY_TERTIARY_CONTROLS, v->tertiary_controls = TERTIARY_HLAT))                    \
    BREAK(HLAT_POINTER, bench_vmcs_hlat, v->hlat_pointer |= 0x20)                                                      \
    BREAK(HLAT_PREFIX_SIZE, bench_vmcs_hlat, v->hlat_prefix_size = 2)                                                  \
    BREAK(PAGING_WRITE_WITHOUT_EPT, bench_vmcs_64,                                                                     \
          (v->primary_controls |= PRIMARY_TERTIARY_CONTROLS, v->tertiary_controls = TERTIARY_EPT_PAGING_WRITE))        \
    BREAK(PAGING_VERIFICATION_WITHOUT_EPT, bench_vmcs_64,                                                              \
          (v->primary_controls |= PRIMARY_TERTIARY_CONTROLS, v->tertiary_controls = TERTIARY_GUEST_PAGING_VERIFICATION)) \
    BREAK(TSC_MULTIPLIER_ZERO, bench_vmcs_rich, v->tsc_multiplier = 0)                                                 \
    BREAK(SECONDARY_EXIT_CONTROLS_RESERVED, bench_vmcs_cet, v->secondary_exit_controls |= VMEXIT2_LOAD_FRED)           \
    BREAK(EXIT_CONTROLS_RESERVED, bench_vmcs_64, v->exit_controls |= VMEXIT_CLEAR_RTIT_CTL)                            \
    BREAK(SAVE_TIMER_WITHOUT_TIMER, bench_vmcs_rich, v->pin_controls &= ~(u64)PIN_PREEMPTION_TIMER)                    \
    BREAK(EXIT_MSR_STORE_ADDRESS, bench_vmcs_rich, v->exit_msr_store_address |= 8)                                     \
    BREAK(EXIT_MSR_LOAD_ADDRESS, bench_vmcs_rich, v->exit_msr_load_address = BEYOND - 16)                              \
    BREAK(EXECUTIVE_POINTER_ADDRESS, to_guest, v->executive_vmcs_pointer |= 0x800)                                      \
    BREAK(EXECUTIVE_POINTER_REVISION, to_guest, v->executive_vmcs_pointer = BENCH_SHADOW_VMCS)                          \
    BREAK(EXECUTIVE_NOT_LAUNCHED, to_guest, vmx_region_clear(&cpu, v->executive_vmcs_pointer))                         \
    BREAK(EXECUTIVE_NOT_VMXON_POINTER, to_guest, v->entry_controls |= VMENTRY_DEACTIVATE_DUAL_MONITOR)                  \
    BREAK(ENTRY_TO_SMM_OUTSIDE_SMM, bench_vmcs_64, v->entry_controls |= VMENTRY_ENTRY_TO_SMM)                           \
    BREAK(DEACTIVATE_OUTSIDE_SMM, bench_vmcs_64, v->entry_controls |= VMENTRY_DEACTIVATE_DUAL_MONITOR)                  \
    BREAK(ENTRY_TO_SMM_AND_DEACTIVATE, guest_in_smm, v->entry_controls |= VMENTRY_DEACTIVATE_DUAL_MONITOR)              \
    BREAK(INJECTION_MTF_INTO_ROOT, to_root, v->entry_interruption_info = INJECT(7u, 0u, 0u))                            \
    BREAK(GUEST_BLOCKING_SMI_IN_SMM, guest_in_smm, v->guest_interruptibility = 0)                                       \
    BREAK(GUEST_ACTIVITY_IN_SMM, guest_in_smm, v->guest_activity = ACTIVITY_WAIT_SIPI)                                  \
    BREAK(GUEST_ACTIVITY_INTO_ROOT, to_root, v->guest_activity = ACTIVITY_WAIT_SIPI)                                    \
    BREAK(LINK_POINTER_EXECUTIVE, to_guest, v->vmcs_link_pointer = EXECUTIVE)                                           \
    BREAK(ENTRY_CONTROLS_RESERVED, bench_vmcs_64, v->entry_controls |= VMENTRY_LOAD_RTIT_CTL)                          \
    BREAK(INJECTION_TYPE, bench_vmcs_64, v->entry_interruption_info = INJECT(1u, 32u, 0u))                             \
    BREAK(INJECTION_VECTOR, bench_vmcs_64, v->entry_interruption_info = INJECT(2u, 3u, 0u))                            \
    BREAK(INJECTION_ERROR_CODE, bench_vmcs_64, v->entry_interruption_info = INJECT(4u, 14u, 1u))                       \
    BREAK(INJECTION_RESERVED, bench_vmcs_64, v->entry_interruption_info = INJECT(0u, 32u, 0u) | 1u << 12)              \
    BREAK(INJECTION_ERROR_CODE_RESERVED, bench_vmcs_64,                                                                \
          (v->entry_interruption_info = INJECT(3u, 13u, 1u), v->entry_exception_error_code = 0x10000))                 \
    BREAK(INJECTION_INSTRUCTION_LENGTH, bench_vmcs_64,                                                                 \
          (v->entry_interruption_info = INJECT(4u, 0x80u, 0u), v->entry_instruction_length = 16))                      \
    BREAK(ENTRY_MSR_LOAD_ADDRESS, bench_vmcs_rich, v->entry_msr_load_address |= 1)                                     \
    BREAK(HOST_CR0_FIXED, bench_vmcs_64, v->host_cr0 &= ~(u64)CR0_NE)                                                  \
    BREAK(HOST_CR4_FIXED, bench_vmcs_64, v->host_cr4 &= ~(u64)CR4_VMXE)                                                \
    BREAK(HOST_CR3_RESERVED, bench_vmcs_64, v->host_cr3 |= BEYOND)                                                     \
    BREAK(HOST_SYSENTER_ESP_CANONICAL, bench_vmcs_64, v->host_sysenter_esp = NONCANONICAL)                             \
    BREAK(HOST_SYSENTER_EIP_CANONICAL, bench_vmcs_64, v->host_sysenter_eip = NONCANONICAL)                             \
    BREAK(HOST_PAT, bench_vmcs_64, v->host_ia32_pat = 2)                                                               \
    BREAK(HOST_EFER_RESERVED, bench_vmcs_64, v->host_ia32_efer |= 2)                                                   \
    BREAK(HOST_EFER_LMA_LME, bench_vmcs_64, v->host_ia32_efer &= ~(u64)EFER_LME)                                       \
    BREAK(HOST_PERF_GLOBAL_CTRL, bench_vmcs_cet, v->host_ia32_perf_global_ctrl |= 1ull << 31)                          \
    BREAK(GUEST_PERF_GLOBAL_CTRL, bench_vmcs_cet, v->guest_ia32_perf_global_ctrl |= 1ull << 63)                        \
    BREAK(HOST_CR4_CET_WITHOUT_WP, bench_vmcs_cet, v->host_cr0 &= ~(u64)CR0_WP)                                        \
    BREAK(HOST_S_CET, bench_vmcs_cet, v->host_ia32_s_cet |= 0xc00)                                                     \
    BREAK(HOST_SSP, bench_vmcs_cet, v->host_ssp |= 2)                                                                  \
    BREAK(HOST_SSP_TABLE, bench_vmcs_cet, v->host_ia32_interrupt_ssp_table_addr = NONCANONICAL)                        \
    BREAK(HOST_PKRS, bench_vmcs_cet, v->host_ia32_pkrs |= 1ull << 32)                                                  \
    BREAK(HOST_CET_32_BIT, host_32_cet, v->host_ssp |= 1ull << 32)                                                     \
    BREAK(HOST_SSP_CANONICAL, bench_vmcs_cet, v->host_ssp = NONCANONICAL)                                              \
    BREAK(GUEST_CR4_CET_WITHOUT_WP, bench_vmcs_cet, v->guest_cr0 &= ~(u64)CR0_WP)                                      \
    BREAK(GUEST_S_CET, bench_vmcs_cet, v->guest_ia32_s_cet |= 0x40)                                                    \
    BREAK(GUEST_SSP_TABLE, bench_vmcs_cet, v->guest_ia32_interrupt_ssp_table_addr = NONCANONICAL)                      \
    BREAK(GUEST_UINV, bench_vmcs_cet, v->guest_uinv |= 0x100)                                                          \
    BREAK(GUEST_PKRS, bench_vmcs_cet, v->guest_ia32_pkrs |= 1ull << 63)                                                \
    BREAK(GUEST_SSP, bench_vmcs_cet, v->guest_ssp |= 1)                                                                \
    BREAK(GUEST_CET_HIGH, bench_vmcs_cet, (v->guest_cs_access_rights = 0xc09b, v->guest_ssp |= 1ull << 32))            \
    BREAK(GUEST_SSP_WIDTH, bench_vmcs_cet, v->guest_ssp = NONCANONICAL)                                                \
    BREAK(HOST_ES_SELECTOR, bench_vmcs_64, v->host_es_selector |= 1)                                                   \
    BREAK(HOST_CS_SELECTOR, bench_vmcs_64, v->host_cs_selector |= 4)                                                   \
    BREAK(HOST_SS_SELECTOR, bench_vmcs_64, v->host_ss_selector |= 3)                                                   \
    BREAK(HOST_DS_SELECTOR, bench_vmcs_64, v->host_ds_selector |= 2)                                                   \
    BREAK(HOST_FS_SELECTOR, bench_vmcs_64, v->host_fs_selector |= 4)                                                   \
    BREAK(HOST_GS_SELECTOR, bench_vmcs_64, v->host_gs_selector |= 1)                                                   \
    BREAK(HOST_TR_SELECTOR, bench_vmcs_64, v->host_tr_selector |= 4)                                                   \
    BREAK(HOST_CS_NULL, bench_vmcs_64, v->host_cs_selector = 0)                                                        \
    BREAK(HOST_TR_NULL, bench_vmcs_64, v->host_tr_selector = 0)                                                        \
    BREAK(HOST_SS_NULL, host_32, v->host_ss_selector = 0)                                                              \
    BREAK(HOST_FS_BASE_CANONICAL, bench_vmcs_64, v->host_fs_base = NONCANONICAL)                                       \
    BREAK(HOST_GS_BASE_CANONICAL, bench_vmcs_64, v->host_gs_base = NONCANONICAL)                                       \
    BREAK(HOST_GDTR_BASE_CANONICAL, bench_vmcs_64, v->host_gdtr_base = NONCANONICAL)                                   \
    BREAK(HOST_IDTR_BASE_CANONICAL, bench_vmcs_64, v->host_idtr_base = NONCANONICAL)                                   \
    BREAK(HOST_TR_BASE_CANONICAL, bench_vmcs_64, v->host_tr_base = NONCANONICAL)                                       \
    BREAK(HOST_ADDRESS_SPACE_SIZE, bench_vmcs_v8086,                                                                   \
          v->exit_controls &= ~(u64)(VMEXIT_HOST_ADDRESS_SPACE_SIZE | VMEXIT_LOAD_EFER))                               \
    BREAK(IA32E_GUEST_UNDER_32_BIT_HOST, host_32, v->entry_controls |= VMENTRY_IA32E_MODE_GUEST)                       \
    BREAK(HOST_PCIDE_32_BIT, host_32, v->host_cr4 |= CR4_PCIDE)                                                        \
    BREAK(HOST_RIP_32_BIT, host_32, v->host_rip = 1ull << 32)                                                          \
    BREAK(HOST_PAE, bench_vmcs_64, v->host_cr4 &= ~(u64)CR4_PAE)                                                       \
    BREAK(HOST_RIP_CANONICAL, bench_vmcs_64, v->host_rip = NONCANONICAL)                                               \
    BREAK(GUEST_CR0_FIXED, bench_vmcs_64, v->guest_cr0 &= ~(u64)CR0_PG)                                                \
    BREAK(GUEST_PAGING_WITHOUT_PROTECTION, bench_vmcs_rich, v->guest_cr0 &= ~(u64)CR0_PE)                              \
    BREAK(GUEST_CR4_FIXED, bench_vmcs_64, v->guest_cr4 |= 1ull << 15)                                                  \
    BREAK(GUEST_DEBUGCTL_RESERVED, bench_vmcs_64, v->guest_ia32_debugctl = 1ull << 5)                                  \
    BREAK(IA32E_GUEST_WITHOUT_PAGING, bench_vmcs_rich, v->guest_cr0 &= ~(u64)CR0_PG)                                   \
    BREAK(IA32E_GUEST_WITHOUT_PAE, bench_vmcs_64, v->guest_cr4 &= ~(u64)CR4_PAE)                                       \
    BREAK(GUEST_PCIDE_32_BIT, flat_32, v->guest_cr4 |= CR4_PCIDE)                                                      \
    BREAK(GUEST_CR3_RESERVED, bench_vmcs_64, v->guest_cr3 |= 1ull << 63)                                               \
    BREAK(GUEST_DR7_HIGH, bench_vmcs_64, v->guest_dr7 |= 1ull << 32)                                                   \
    BREAK(GUEST_SYSENTER_ESP_CANONICAL, bench_vmcs_64, v->guest_sysenter_esp = NONCANONICAL)                           \
    BREAK(GUEST_SYSENTER_EIP_CANONICAL, bench_vmcs_64, v->guest_sysenter_eip = NONCANONICAL)                           \
    BREAK(GUEST_PAT, bench_vmcs_64, v->guest_ia32_pat = 0x0300000000000000ull)                                         \
    BREAK(GUEST_EFER_RESERVED, bench_vmcs_64, v->guest_ia32_efer |= 1ull << 32)                                        \
    BREAK(GUEST_EFER_LMA, bench_vmcs_64, v->guest_ia32_efer &= ~(u64)EFER_LMA)                                         \
    BREAK(GUEST_EFER_LME, bench_vmcs_64, v->guest_ia32_efer &= ~(u64)EFER_LME)                                         \
    BREAK(GUEST_TR_TABLE, bench_vmcs_64, v->guest_tr_selector |= 4)                                                    \
    BREAK(GUEST_LDTR_TABLE, bench_vmcs_64, v->guest_ldtr_selector |= 4)                                                \
    BREAK(GUEST_SS_RPL, bench_vmcs_64, v->guest_ss_selector |= 3)                                                      \
    BREAK(GUEST_TR_BASE_CANONICAL, bench_vmcs_64, v->guest_tr_base = NONCANONICAL)                                     \
    BREAK(GUEST_FS_BASE_CANONICAL, bench_vmcs_64, v->guest_fs_base = NONCANONICAL)                                     \
    BREAK(GUEST_GS_BASE_CANONICAL, bench_vmcs_64, v->guest_gs_base = NONCANONICAL)                                     \
    BREAK(GUEST_LDTR_BASE_CANONICAL, bench_vmcs_64, v->guest_ldtr_base = NONCANONICAL)                                 \
    BREAK(GUEST_CS_BASE_HIGH, bench_vmcs_64, v->guest_cs_base = 1ull << 32)                                            \
    BREAK(GUEST_SS_BASE_HIGH, bench_vmcs_64, v->guest_ss_base = 1ull << 32)                                            \
    BREAK(GUEST_DS_BASE_HIGH, bench_vmcs_64, v->guest_ds_base = 1ull << 63)                                            \
    BREAK(GUEST_ES_BASE_HIGH, bench_vmcs_64, v->guest_es_base = 1ull << 47)                                            \
    BREAK(GUEST_CS_TYPE, bench_vmcs_64, v->guest_cs_access_rights ^= 9)                                                \
    BREAK(GUEST_SS_TYPE, bench_vmcs_64, v->guest_ss_access_rights ^= 2)                                                \
    BREAK(GUEST_CS_DPL, bench_vmcs_64, v->guest_cs_access_rights |= 3 << 5)                                            \
    BREAK(GUEST_SS_DPL, bench_vmcs_64, (v->guest_ss_access_rights |= 3 << 5, v->guest_cs_access_rights |= 3 << 5))     \
    BREAK(GUEST_SS_DPL_REAL, bench_vmcs_real, v->guest_ss_access_rights |= 3 << 5)                                     \
    BREAK(GUEST_CS_DB, bench_vmcs_64, v->guest_cs_access_rights |= AR_DB)                                              \
    BREAK_SEGMENT(CS, cs)                                                                                              \
    BREAK_SEGMENT(SS, ss)                                                                                              \
    BREAK_SEGMENT(DS, ds)                                                                                              \
    BREAK_DATA(DS, ds)                                                                                                 \
    BREAK_SEGMENT(ES, es)                                                                                              \
    BREAK_DATA(ES, es)                                                                                                 \
    BREAK_SEGMENT(FS, fs)                                                                                              \
    BREAK_DATA(FS, fs)                                                                                                 \
    BREAK_SEGMENT(GS, gs)                                                                                              \
    BREAK_DATA(GS, gs)                                                                                                 \
    BREAK(GUEST_TR_TYPE, bench_vmcs_64, v->guest_tr_access_rights ^= 11 ^ 3)                                           \
    BREAK(GUEST_TR_SYSTEM, bench_vmcs_64, v->guest_tr_access_rights |= AR_S)                                           \
    BREAK(GUEST_TR_PRESENT, bench_vmcs_64, v->guest_tr_access_rights &= ~(u64)AR_P)                                    \
    BREAK(GUEST_TR_RESERVED, bench_vmcs_64, v->guest_tr_access_rights |= 1u << 31)                                     \
    BREAK(GUEST_TR_GRANULARITY, bench_vmcs_64, v->guest_tr_access_rights |= AR_G)                                      \
    BREAK(GUEST_TR_UNUSABLE, bench_vmcs_64, v->guest_tr_access_rights |= AR_UNUSABLE)                                  \
    BREAK(GUEST_LDTR_TYPE, bench_vmcs_64, v->guest_ldtr_access_rights |= 1)                                            \
    BREAK(GUEST_LDTR_SYSTEM, bench_vmcs_64, v->guest_ldtr_access_rights |= AR_S)                                       \
    BREAK(GUEST_LDTR_PRESENT, bench_vmcs_64, v->guest_ldtr_access_rights &= ~(u64)AR_P)                                \
    BREAK(GUEST_LDTR_RESERVED, bench_vmcs_64, v->guest_ldtr_access_rights |= 1u << 17)                                 \
    BREAK(GUEST_LDTR_GRANULARITY, bench_vmcs_64, v->guest_ldtr_limit = 0x100000)                                       \
    BREAK(GUEST_GDTR_BASE_CANONICAL, bench_vmcs_64, v->guest_gdtr_base = NONCANONICAL)                                 \
    BREAK(GUEST_IDTR_BASE_CANONICAL, bench_vmcs_64, v->guest_idtr_base = NONCANONICAL)                                 \
    BREAK(GUEST_GDTR_LIMIT, bench_vmcs_64, v->guest_gdtr_limit = 0x10000)                                              \
    BREAK(GUEST_IDTR_LIMIT, bench_vmcs_64, v->guest_idtr_limit = 0x80000000)                                           \
    BREAK(GUEST_RIP_HIGH, flat_32, v->guest_rip = 1ull << 32)                                                          \
    BREAK(GUEST_RIP_WIDTH, bench_vmcs_64, v->guest_rip = 1ull << 48)                                                   \
    BREAK(GUEST_RFLAGS_RESERVED, bench_vmcs_64, v->guest_rflags &= ~2ull)                                              \
    BREAK(GUEST_RFLAGS_V8086, bench_vmcs_v8086,                                                                        \
          (v->entry_controls |= VMENTRY_IA32E_MODE_GUEST, v->guest_cr4 |= CR4_PAE, v->guest_ia32_efer = EFER_LME | EFER_LMA)) \
    BREAK(GUEST_RFLAGS_IF, bench_vmcs_64, (v->entry_interruption_info = INJECT(0u, 32u, 0u), v->guest_rflags = FL_R1)) \
    BREAK(GUEST_ACTIVITY, bench_vmcs_64, v->guest_activity = 4)                                                        \
    BREAK(GUEST_HLT_DPL, bench_vmcs_64, (v->guest_activity = ACTIVITY_HLT, v->guest_cs_selector |= 3,                  \
          v->guest_ss_selector |= 3, v->guest_ss_access_rights |= 3 << 5, v->guest_cs_access_rights |= 3 << 5))        \
    BREAK(GUEST_ACTIVITY_BLOCKING, bench_vmcs_64, (v->guest_activity = ACTIVITY_HLT, v->guest_interruptibility = BLOCK_STI)) \
    BREAK(GUEST_ACTIVITY_INJECTION, bench_vmcs_64,                                                                     \
          (v->guest_activity = ACTIVITY_SHUTDOWN, v->entry_interruption_info = INJECT(0u, 32u, 0u)))                   \
    BREAK(GUEST_INTERRUPTIBILITY_RESERVED, bench_vmcs_64, v->guest_interruptibility = 1u << 4)                         \
    BREAK(GUEST_BLOCKING_STI_AND_MOV_SS, bench_vmcs_64, v->guest_interruptibility = BLOCK_STI | BLOCK_MOV_SS)          \
    BREAK(GUEST_BLOCKING_STI_WITHOUT_IF, bench_vmcs_64, (v->guest_interruptibility = BLOCK_STI, v->guest_rflags = FL_R1)) \
    BREAK(GUEST_BLOCKING_INTERRUPT, bench_vmcs_64,                                                                     \
          (v->guest_interruptibility = BLOCK_STI, v->entry_interruption_info = INJECT(0u, 32u, 0u)))                   \
    BREAK(GUEST_BLOCKING_MOV_SS_NMI, bench_vmcs_64,                                                                    \
          (v->guest_interruptibility = BLOCK_MOV_SS, v->entry_interruption_info = INJECT(2u, 2u, 0u)))                 \
    BREAK(GUEST_BLOCKING_SMI, bench_vmcs_64, v->guest_interruptibility = BLOCK_SMI)                                    \
    BREAK(GUEST_BLOCKING_NMI, bench_vmcs_rich,                                                                         \
          (v->guest_interruptibility = BLOCK_NMI, v->entry_interruption_info = INJECT(2u, 2u, 0u)))                    \
    BREAK(GUEST_PENDING_DEBUG_RESERVED, bench_vmcs_64, v->guest_pending_debug = 1u << 16)                              \
    BREAK(GUEST_PENDING_DEBUG_BS, bench_vmcs_64, (v->guest_interruptibility = BLOCK_STI, v->guest_rflags |= FL_TF))    \
    BREAK(LINK_POINTER_ADDRESS, bench_vmcs_64, v->vmcs_link_pointer = 0x800)                                           \
    BREAK(LINK_POINTER_REVISION, bench_vmcs_64, v->vmcs_link_pointer = BENCH_PAGE)                                     \
    BREAK(LINK_POINTER_SHADOW, bench_vmcs_apicv, v->vmcs_link_pointer = BENCH_OTHER_VMCS)                              \
    BREAK(LINK_POINTER_CURRENT, bench_vmcs_64,                                                                         \
          (v->vmcs_link_pointer = BENCH_VMCS, bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION)))                       \
    BREAK(GUEST_PDPTE_RESERVED, pae_in_ept, v->guest_pdpte2 = 1 | 1 << 5)

#define BREAK(name, from, change) static void break_##name(struct vmcs *v) { change; }
BREAKS
#undef BREAK
static const struct { make from, change; } breaks[VMX_CHECK_COUNT] = {
#define BREAK(name, from_, change_) [VMX_CHECK_##name] = {.from = from_, .change = break_##name},
BREAKS
#undef BREAK
};

START_TEST(every_check_fires)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    ck_assert(cpu.stats = vmx_stats_create());
    for (unsigned id = 0; id < VMX_CHECK_COUNT; id++) {
        const struct vmx_check *check = vmx_check_info(id);
        ck_assert_msg(breaks[id].from != NULL, "no test makes check %s fire", check->name);
        cpu.sys.efer = EFER_LME | EFER_LMA;
        cpu.smm.active = cpu.smm.dual_monitor = 0;
        breaks[id].from(v);
        vmx_check_note_all(&cpu.vmx.frame[0]);
        ck_assert_msg(entry_passes(), "%s: before the change, %s fired", check->name, vmx_check_info(failure.id)->name);
        breaks[id].change(v);
        vmx_check_note_all(&cpu.vmx.frame[0]);
        ck_assert_msg(!entry_passes(), "%s did not fire", check->name);
        ck_assert(!failure.fault);
        ck_assert_msg(failure.id == id, "%s: %s fired instead", check->name, vmx_check_info(failure.id)->name);
        ck_assert_uint_eq(failure.group, vmx_check_section_info(vmx_check_section(id))->group);
        ck_assert_uint_eq(failure.qualification, check->qualification);
        ck_assert_uint_eq(cpu.stats->entry_failures[id], 1);
    }
    vmx_stats_destroy(cpu.stats);
    cpu.stats = NULL;
}
END_TEST

/* ---- what must pass ---------------------------------------------------------------------------------------------- */

static const make valid[] = {bench_vmcs_64, bench_vmcs_rich, bench_vmcs_apicv, bench_vmcs_hlat, bench_vmcs_cet, flat_32, pae_in_ept, bench_vmcs_real, bench_vmcs_v8086,
                             bench_vmcs_pae_in_memory};

/* A change to a valid VMCS that leaves it valid. */
static const struct { const char *what; make from; struct { bool set; unsigned field; u64 value; } to[3]; } allowed_changes[] = {
#define TO(name, value) {true, VMX_FIELD_##name, value}
#define CASE(what_, from_, ...) {what_, from_, {__VA_ARGS__}},
    CASE("an interrupt into a halted guest", bench_vmcs_64, TO(entry_interruption_info, INJECT(0u, 32u, 0u)),
         TO(guest_activity, ACTIVITY_HLT))
    CASE("#DB into a halted guest", bench_vmcs_64, TO(entry_interruption_info, INJECT(3u, 1u, 0u)),
         TO(guest_activity, ACTIVITY_HLT))
    CASE("an MTF exit pending on a halted guest", bench_vmcs_64, TO(entry_interruption_info, INJECT(7u, 0u, 0u)),
         TO(guest_activity, ACTIVITY_HLT))
    CASE("an NMI into a guest in shutdown", bench_vmcs_64, TO(entry_interruption_info, INJECT(2u, 2u, 0u)),
         TO(guest_activity, ACTIVITY_SHUTDOWN))
    CASE("wait for SIPI", bench_vmcs_64, TO(guest_activity, ACTIVITY_WAIT_SIPI))
    CASE("a page fault with error code", bench_vmcs_64, TO(entry_interruption_info, INJECT(3u, 14u, 1u)),
         TO(entry_exception_error_code, 0xffff))
    CASE("#GP without error code into real mode", bench_vmcs_real, TO(entry_interruption_info, INJECT(3u, 13u, 0u)))
    CASE("INT n of length 0", bench_vmcs_64, TO(entry_interruption_info, INJECT(4u, 0x80u, 0u)),
         TO(entry_instruction_length, 0))
    CASE("unusable data segments with rubbish", bench_vmcs_64, TO(guest_ds_access_rights, AR_UNUSABLE | 0xf00),
         TO(guest_es_access_rights, AR_UNUSABLE), TO(guest_ldtr_access_rights, AR_UNUSABLE))
    CASE("an owed single step behind STI", bench_vmcs_64, TO(guest_interruptibility, BLOCK_STI),
         TO(guest_rflags, FL_R1 | FL_IF | FL_TF), TO(guest_pending_debug, 1 << 14))
    CASE("no single step with BTF", bench_vmcs_64, TO(guest_interruptibility, BLOCK_STI),
         TO(guest_rflags, FL_R1 | FL_IF | FL_TF), TO(guest_ia32_debugctl, DEBUGCTL_BTF))
    CASE("all of the address space", bench_vmcs_64, TO(guest_rip, 0xffff800000000000ull),
         TO(host_rip, 0xffffffffffffffffull), TO(guest_cr3, 0x3fffffffffffull))
    CASE("RIP at the hole's edge", bench_vmcs_64, TO(guest_rip, 0x0000800000000000ull))
    CASE("EPT with 5 levels and flags, uncacheable", bench_vmcs_rich, TO(ept_pointer, BENCH_PAGE | 1 << 7 | 1 << 6 | 4 << 3))
    CASE("secondary controls without their activation", bench_vmcs_64, TO(secondary_controls, 0xffffffff),
         TO(primary_controls, 0x04006172))
    CASE("bits of PDPTEs that are not present", pae_in_ept, TO(guest_pdpte0, ~1ull), TO(guest_pdpte3, 0x1019))
    CASE("busy 16-bit TSS outside IA-32e mode", flat_32, TO(guest_tr_access_rights, 0x83))
    CASE("conforming CS at a lower DPL", bench_vmcs_64, TO(guest_cs_access_rights, 0xa09f))
#undef CASE
#undef TO
};

START_TEST(valid_ones_pass)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    for (size_t n = 0; n < ARRAY_SIZE(valid); n++) {
        valid[n](v);
        vmx_check_note_all(&cpu.vmx.frame[0]);
        ck_assert_msg(entry_passes(), "VMCS %zu: %s fired", n, vmx_check_info(failure.id)->name);
    }
    for (size_t n = 0; n < ARRAY_SIZE(allowed_changes); n++) {
        allowed_changes[n].from(v);
        for (unsigned i = 0; i < 3 && allowed_changes[n].to[i].set; i++)
            vmx_field_set(v, allowed_changes[n].to[i].field, allowed_changes[n].to[i].value);
        vmx_check_note_all(&cpu.vmx.frame[0]);
        ck_assert_msg(entry_passes(), "%s: %s fired", allowed_changes[n].what, vmx_check_info(failure.id)->name);
    }
    host_32(v);
    vmx_check_note_all(&cpu.vmx.frame[0]);
    ck_assert_msg(entry_passes(), "32-bit host: %s fired", vmx_check_info(failure.id)->name);
}
END_TEST

/* What stands in memory is looked at on each entry, even when nothing was written to the VMCS. */
START_TEST(memory_is_read_again)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    bench_vmcs_rich(v);
    v->secondary_controls &= ~(u64)SECONDARY_APIC_ACCESSES;
    v->tpr_threshold = 2;
    ck_assert(entry_passes());
    bus_write(&bus, 0, BENCH_PAGE + 0x80, 1, 0x10);
    ck_assert(!entry_passes());
    ck_assert_uint_eq(failure.id, VMX_CHECK_TPR_THRESHOLD_ABOVE_VTPR);
    bus_write(&bus, 0, BENCH_PAGE + 0x80, 1, 0x20);
    ck_assert(entry_passes());
    bus_write(&bus, 0, BENCH_OTHER_VMCS, 4, VMCS_REVISION | VMCS_SHADOW);
    ck_assert(!entry_passes());
    ck_assert_uint_eq(failure.id, VMX_CHECK_LINK_POINTER_SHADOW);

    bench_vmcs_pae_in_memory(v);
    vmx_check_note_all(&cpu.vmx.frame[0]);
    bench_poke64(BENCH_PDPTES + 8, 0x5001);
    ck_assert(entry_passes());
    ck_assert_uint_eq(failure.pdpte[0], 0);
    ck_assert_uint_eq(failure.pdpte[1], 0x5001);
    bench_poke64(BENCH_PDPTES + 8, 0x5003);
    ck_assert(!entry_passes());
    ck_assert_uint_eq(failure.id, VMX_CHECK_GUEST_PDPTE_RESERVED);
    ck_assert_uint_eq(failure.qualification, 2);
    /* Addresses where there is no RAM read as ones. */
    bench_vmcs_64(v);
    vmx_check_note_all(&cpu.vmx.frame[0]);
    v->vmcs_link_pointer = 0x3fffffff000;
    ck_assert(!entry_passes());
    ck_assert_uint_eq(failure.id, VMX_CHECK_LINK_POINTER_REVISION);
}
END_TEST

/* ---- remembering never changes an outcome ------------------------------------------------------------------------ */

static void compare_with_fresh(const char *when, unsigned field)
{
    struct vmx_check_failure remembered;
    bool a = vmx_check_entry(&cpu, 0, &remembered);
    u64 kept = cpu.vmx.frame[0].checked;
    vmx_check_note_all(&cpu.vmx.frame[0]);
    bool b = entry_passes();
    ck_assert_msg(a == b && (a || remembered.id == failure.id),
                  "%s: %s=0x%llx: remembered %s, in truth %s", when, vmx_field_info(field)->name,
                  (unsigned long long)vmx_field_get(&cpu.vmx.frame[0].vmcs, field), a ? "passes" : vmx_check_info(remembered.id)->name,
                  b ? "passes" : vmx_check_info(failure.id)->name);
    cpu.vmx.frame[0].checked = kept;
}

static void write_field(unsigned field, u64 value)
{
    vmx_field_set(&cpu.vmx.frame[0].vmcs, field, value);
    vmx_check_note_write(&cpu.vmx.frame[0], field);
}

/* Each bit of each field of each kind of guest, alone. */
START_TEST(remembering_single_changes)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    for (size_t n = 0; n < ARRAY_SIZE(valid); n++) {
        valid[n](v);
        vmx_check_note_all(&cpu.vmx.frame[0]);
        ck_assert(entry_passes());
        for (unsigned field = 0; field < VMX_FIELD_COUNT; field++) {
            u64 before = vmx_field_get(v, field);
            for (unsigned bit = 0; bit < vmx_field_info(field)->bits; bit++) {
                write_field(field, before ^ BIT(bit));
                compare_with_fresh("changed", field);
                write_field(field, before);
                compare_with_fresh("restored", field);
            }
        }
    }
}
END_TEST

/* Sequences of changes, some of which stay. */
START_TEST(remembering_sequences)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    u64 random = 0x9e3779b97f4a7c15ull;
    for (unsigned step = 0; step < 60000; step++) {
        if (step % 24 == 0) {
            valid[step / 24 % ARRAY_SIZE(valid)](v);
            vmx_check_note_all(&cpu.vmx.frame[0]);
        }
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        unsigned field = (unsigned)(random >> 32) % VMX_FIELD_COUNT;
        u64 before = vmx_field_get(v, field);
        write_field(field, before ^ BIT(random >> 20 & 63));
        compare_with_fresh("sequence", field);
        if (random & 3)
            write_field(field, before);
    }
}
END_TEST

/* A VM exit saves another mode of the guest: what it makes due again is enough. */
START_TEST(remembering_across_exits)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    bench_vmcs_64(v);
    ck_assert(entry_passes());
    v->guest_activity = ACTIVITY_HLT;
    v->guest_interruptibility = BLOCK_STI;
    ck_assert(entry_passes());                     /* nobody told it */
    vmx_check_note_exit(&cpu.vmx.frame[0]);
    ck_assert(!entry_passes());
    ck_assert_uint_eq(failure.id, VMX_CHECK_GUEST_ACTIVITY_BLOCKING);
}
END_TEST

/* … whatever non-register state it saves, of each kind of guest. */
START_TEST(remembering_saved_state)
{
    static const u64 pending[] = {0, BIT(12), BIT(14), BIT(13)};
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    for (size_t n = 0; n < ARRAY_SIZE(valid); n++)
        for (unsigned at = 0; at < 5 * 32 * ARRAY_SIZE(pending); at++) {
            valid[n](v);
            vmx_check_note_all(&cpu.vmx.frame[0]);
            ck_assert(entry_passes());
            v->entry_interruption_info &= ~(u64)0x80000000u;
            v->guest_activity = at % 5;
            v->guest_interruptibility = at / 5 % 32;
            v->guest_pending_debug = pending[at / 160];
            vmx_check_note_exit(&cpu.vmx.frame[0]);
            compare_with_fresh("exit", VMX_FIELD_guest_activity);
            compare_with_fresh("again", VMX_FIELD_guest_interruptibility);
        }
}
END_TEST

/* The hypervisor's own mode is no field: whether it is in IA-32e mode is looked at each time. */
START_TEST(remembering_host_mode)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    bench_vmcs_64(v);
    vmx_check_note_all(&cpu.vmx.frame[0]);
    ck_assert(entry_passes());
    vmx_check_note_exit(&cpu.vmx.frame[0]);
    cpu.sys.efer &= ~(u64)EFER_LMA;
    ck_assert(!entry_passes());
    ck_assert_uint_eq(failure.id, VMX_CHECK_HOST_ADDRESS_SPACE_SIZE);
    cpu.sys.efer |= EFER_LMA;
    ck_assert(entry_passes());
}
END_TEST

/* ---- reports ----------------------------------------------------------------------------------------------------- */

static struct { unsigned count; char check[64], section[128], predicate[256], values[512], bits[1600]; } seen;
static void emit(struct trace *trace, struct cpu *c, enum trace_class class, const char *name, const struct trace_field *fields,
                 unsigned count)
{
    (void)trace, (void)c;
    ck_assert_int_eq(class, TRACE_VMX_CHECK);
    ck_assert_str_eq(name, "check");
    ck_assert_uint_eq(count, 5);
    seen.count++;
    snprintf(seen.check, sizeof seen.check, "%s", fields[0].text);
    snprintf(seen.section, sizeof seen.section, "%s", fields[1].text);
    snprintf(seen.predicate, sizeof seen.predicate, "%s", fields[2].text);
    snprintf(seen.values, sizeof seen.values, "%s", fields[3].text);
    snprintf(seen.bits, sizeof seen.bits, "%s", fields[4].text);
}

START_TEST(failures_are_named)
{
    struct trace trace = {.mask = 1u << TRACE_VMX_CHECK, .emit = emit};
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    bench_vmcs_64(v);
    v->guest_ds_limit = 0xfffff000;
    cpu.trace = &trace;
    ck_assert(!entry_passes());
    cpu.trace = NULL;
    ck_assert_uint_eq(seen.count, 1);
    ck_assert_str_eq(seen.check, "GUEST_DS_GRANULARITY");
    ck_assert_str_eq(seen.section, "Checks on Guest Segment Registers");
    ck_assert(strstr(seen.predicate, "granularity(v->guest_ds_limit, v->guest_ds_access_rights)"));
    ck_assert_str_eq(seen.values, "guest_rflags=0x202, guest_ds_access_rights=0xc093, guest_ds_limit=0xfffff000");
    ck_assert_str_eq(seen.bits, "guest_rflags: 1 IF, guest_ds_access_rights: type 3, S, DPL 0, P, D/B, G");
    char small[20];
    vmx_check_values(failure.id, v, small, sizeof small);
    ck_assert_str_eq(small, "guest_rflags=0x202,");
}
END_TEST

/* What the capability MSRs would have allowed. */
START_TEST(failures_are_explained)
{
    static const struct { unsigned id; make from; unsigned field; u64 value; const char *expected; } row[] = {
        {VMX_CHECK_PIN_CONTROLS_RESERVED, bench_vmcs_64, VMX_FIELD_pin_controls, 0x114,
         "pin_controls: bit8 (IA32_VMX_TRUE_PINBASED_CTLS: must be 1: bit1; must be 0: bit8; may be 1: 0xff)"},
        {VMX_CHECK_ENTRY_CONTROLS_RESERVED, bench_vmcs_64, VMX_FIELD_entry_controls, 0x491fb,
         "entry_controls: \"Load IA32_EFER\" \"Load IA32_RTIT_CTL\" (IA32_VMX_TRUE_ENTRY_CTLS: must be 0: \"Load IA32_RTIT_CTL\"; may be 1: 0x58ffff)"},
        {VMX_CHECK_HOST_CR4_FIXED, bench_vmcs_64, VMX_FIELD_host_cr4, 1 << 5, "host_cr4: PAE (IA32_VMX_CR4_FIXED0/1: fixed to 1: VMXE)"},
        {VMX_CHECK_INJECTION_VECTOR, bench_vmcs_64, VMX_FIELD_entry_interruption_info, INJECT(2u, 3u, 1u),
         "entry_interruption_info: NMI, vector 3, with error code"},
        {VMX_CHECK_GUEST_ACTIVITY, bench_vmcs_64, VMX_FIELD_guest_activity, 4, "guest_activity: no such state"},
        {VMX_CHECK_VM_FUNCTION_CONTROLS_RESERVED, bench_vmcs_64, VMX_FIELD_vm_function_controls, 3,
         "primary_controls: \"Activate secondary controls\", vm_function_controls: EPTP-switching bit1 (IA32_VMX_VMFUNC: fixed to 0: bit1)"},
        {VMX_CHECK_EPTP_RESERVED, bench_vmcs_64, VMX_FIELD_ept_pointer, 0x1d6,
         "primary_controls: \"Activate secondary controls\", ept_pointer: WB, page walks of length 3, accessed and dirty flags, "
         "supervisor shadow-stack control, reserved bits 11:8 (IA32_VMX_EPT_VPID_CAP: UC WB, length 4, length 5, flags, shadow-stack control)"},
    };
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    char text[1600];
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        row[n].from(v);
        vmx_field_set(v, row[n].field, row[n].value);
        vmx_check_explain(&cpu, row[n].id, v, text, sizeof text);
        ck_assert_str_eq(text, row[n].expected);
    }
    for (unsigned id = 0; id < VMX_CHECK_COUNT; id++) {      /* random fields of every row, in little room */
        memset(v, 0xa5 + (int)id, sizeof *v);
        vmx_fields_normalise(v);
        vmx_check_explain(&cpu, id, v, text, 40);
        ck_assert_uint_lt(strlen(text), 40);
        vmx_check_explain(&cpu, id, v, text, sizeof text);
    }
}
END_TEST

/* A row's fields are written so that they can be found, and rows stand in the section that names them. */
START_TEST(rows_are_well_formed)
{
    char text[2048];
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    for (unsigned id = 0; id < VMX_CHECK_COUNT; id++) {
        vmx_check_values(id, v, text, sizeof text);        /* panics on an unknown field */
        ck_assert(strlen(text) > 0 && strlen(text) < sizeof text - 1);
    }
    ck_assert_uint_eq(vmx_check_section(VMX_CHECK_PIN_CONTROLS_RESERVED), VMX_SECTION_EXECUTION);
    ck_assert_uint_eq(vmx_check_section(VMX_CHECK_HOST_CR0_FIXED), VMX_SECTION_HOST_REGISTERS);
    ck_assert_uint_eq(vmx_check_section(VMX_CHECK_GUEST_GS_GRANULARITY), VMX_SECTION_GUEST_SEGMENTS);
    ck_assert_uint_eq(vmx_check_section(VMX_CHECK_GUEST_PDPTE_RESERVED), VMX_SECTION_PDPTES);
}
END_TEST

static void setup(void)
{
    bench_hypervisor_setup();
    bench_model(BENCH_CET_MODEL);
}

int main(void)
{
    const TTest *const tests[] = {every_check_fires, valid_ones_pass, memory_is_read_again, remembering_single_changes,
                                  remembering_sequences, remembering_across_exits, remembering_saved_state, remembering_host_mode,
                                  failures_are_named, failures_are_explained, rows_are_well_formed};
    return bench_run_with("VM entry checks", tests, ARRAY_SIZE(tests), setup);
}
