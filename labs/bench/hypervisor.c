/*
 * hypervisor: the least that a level needs to run the next one: a VMCS whose guest is a copy of the level itself (64-bit mode,
 * same page tables), an EPT that maps everything to itself, and an answer to CPUID, which hides VMX. Ports are the guest's
 * own. No support for nested VMX: the next level but one exists under policies that need none.
 *
 * [SDM3 "VMX Capability Reporting Facility"], [SDM3 "Checks on VMX Controls and Host-State Area"]
 */
#include "bench.h"

#include "../nest/cpu.h"
#include "../nest/vmcs.h"

enum { CODE64 = 0x10, DATA = 0x18, TASK = 0x20 };
enum { RIGHTS_CODE64 = 0xa09b, RIGHTS_DATA = 0xc093, RIGHTS_TASK = 0x8b, RIGHTS_UNUSABLE = 0x10000 };
enum { FEATURE_CONTROL_LOCK = 1, FEATURE_CONTROL_VMX = 4, ENTRY_IA32E = 1 << 9, EPT_RWX_WB_PAGE = 7 | 6 << 3 | 1 << 7 };
enum { MEMORY_GIB = 2, STACK_SIZE = 8192 };

/* What one hypervisor has for itself. */
static struct hypervisor {
    uint8_t vmxon_region[4096], vmcs_region[4096], msr_bitmap[4096];
    uint64_t ept_pml4[512], ept_pdpt[512], ept_directory[MEMORY_GIB][512];
    uint8_t host_stack[STACK_SIZE], guest_stack[STACK_SIZE];
} hypervisors[LEVELS_MAX + 1] __attribute__((aligned(4096)));

/* As entry.S pushes them. */
struct exit_registers {
    uint64_t r11, r10, r9, r8, rdi, rsi, rbp, rbx, rcx, rax, rdx;
};

_Noreturn void vmx_launch(void);
void exit_handle(struct exit_registers *registers);
extern uint8_t gdt[], task_state[];

/* ---- VMX instructions --------------------------------------------------------------------------------------------- */

static void expect(bool succeeded, const char *what, uint64_t detail)
{
    if (!succeeded)
        fail(what, detail);
}

static uint64_t vmcs_read(enum vmcs_field field)
{
    uint64_t value;
    bool above;
    __asm__ volatile("vmread %2, %0" : "=r"(value), "=@cca"(above) : "r"((uint64_t)field));
    expect(above, "VMREAD failed, field", field);
    return value;
}

static void vmcs_write(enum vmcs_field field, uint64_t value)
{
    bool above;
    __asm__ volatile("vmwrite %1, %2" : "=@cca"(above) : "r"(value), "r"((uint64_t)field));
    expect(above, "VMWRITE failed, field", field);
}

static void wrmsr(uint32_t index, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(index), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static void vmx_on(struct hypervisor *own)
{
    uint64_t control = rdmsr(MSR_FEATURE_CONTROL);
    if (!(control & FEATURE_CONTROL_LOCK))
        wrmsr(MSR_FEATURE_CONTROL, control | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX);
    else
        expect(control & FEATURE_CONTROL_VMX, "IA32_FEATURE_CONTROL is locked with VMX off:", control);
    write_cr0((read_cr0() | rdmsr(MSR_VMX_CR0_FIXED0)) & rdmsr(MSR_VMX_CR0_FIXED1));
    uint64_t cr4 = (read_cr4() | rdmsr(MSR_VMX_CR4_FIXED0)) & rdmsr(MSR_VMX_CR4_FIXED1);
    __asm__ volatile("mov %0, %%cr4" : : "r"(cr4) : "memory");

    uint32_t revision = rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
    *(uint32_t *)own->vmxon_region = *(uint32_t *)own->vmcs_region = revision;
    uint64_t vmxon_pa = (uint64_t)own->vmxon_region, vmcs_pa = (uint64_t)own->vmcs_region;
    bool above;
    __asm__ volatile("vmxon %1" : "=@cca"(above) : "m"(vmxon_pa) : "memory");
    expect(above, "VMXON failed", vmxon_pa);
    __asm__ volatile("vmclear %1" : "=@cca"(above) : "m"(vmcs_pa) : "memory");
    expect(above, "VMCLEAR failed", vmcs_pa);
    __asm__ volatile("vmptrld %1" : "=@cca"(above) : "m"(vmcs_pa) : "memory");
    expect(above, "VMPTRLD failed", vmcs_pa);
}

/* ---- the VMCS ----------------------------------------------------------------------------------------------------- */

static uint64_t ept_build(struct hypervisor *own)
{
    own->ept_pml4[0] = (uint64_t)own->ept_pdpt | 7;
    for (uint64_t gib = 0; gib < MEMORY_GIB; gib++) {
        own->ept_pdpt[gib] = (uint64_t)own->ept_directory[gib] | 7;
        for (uint64_t i = 0; i < 512; i++)
            own->ept_directory[gib][i] = (gib << 30 | i << 21) | EPT_RWX_WB_PAGE;
    }
    return (uint64_t)own->ept_pml4 | 6 | 3 << 3; /* write-back, 4 levels */
}

/* What is wanted, and what the processor insists on; fails if it cannot. */
static uint32_t controls(uint32_t capability_msr, uint32_t wanted)
{
    uint64_t capability = rdmsr(capability_msr);
    expect(!(wanted & ~(uint32_t)(capability >> 32)), "the processor lacks a VMX control; capability MSR", capability_msr);
    return wanted | (uint32_t)capability;
}

static void write_controls(struct hypervisor *own)
{
    vmcs_write(VMCS_PIN_CONTROLS, controls(MSR_VMX_TRUE_PINBASED_CTLS, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING));
    vmcs_write(VMCS_PRIMARY_CONTROLS, controls(MSR_VMX_TRUE_PROCBASED_CTLS,
                                               PRIMARY_HLT_EXITING | PRIMARY_MSR_BITMAPS | PRIMARY_SECONDARY_CONTROLS));
    vmcs_write(VMCS_SECONDARY_CONTROLS, controls(MSR_VMX_PROCBASED_CTLS2, SECONDARY_EPT | SECONDARY_VPID));
    vmcs_write(VMCS_EXIT_CONTROLS, controls(MSR_VMX_TRUE_EXIT_CTLS, EXIT_HOST_64_BIT | EXIT_SAVE_EFER | EXIT_LOAD_EFER));
    vmcs_write(VMCS_ENTRY_CONTROLS, controls(MSR_VMX_TRUE_ENTRY_CTLS, ENTRY_LOAD_EFER | ENTRY_IA32E));
    static const enum vmcs_field zero[] = {VMCS_EXCEPTION_BITMAP, VMCS_PF_ERROR_MASK, VMCS_PF_ERROR_MATCH, VMCS_CR3_TARGET_COUNT,
                                           VMCS_EXIT_MSR_STORE_COUNT, VMCS_EXIT_MSR_LOAD_COUNT, VMCS_ENTRY_MSR_LOAD_COUNT,
                                           VMCS_ENTRY_INTERRUPTION, VMCS_CR0_MASK, VMCS_CR0_SHADOW};
    for (unsigned i = 0; i < sizeof zero / sizeof *zero; i++)
        vmcs_write(zero[i], 0);
    vmcs_write(VMCS_CR4_MASK, CR4_VMXE);
    vmcs_write(VMCS_CR4_SHADOW, read_cr4() & ~(uint64_t)CR4_VMXE);
    vmcs_write(VMCS_EPT_POINTER, ept_build(own));
    vmcs_write(VMCS_VPID, 1);
    vmcs_write(VMCS_LINK_POINTER, ~0ul);
    for (unsigned i = 0; i < sizeof own->msr_bitmap; i++) /* every MSR exits: the guest needs none of them */
        own->msr_bitmap[i] = 0xff;
    vmcs_write(VMCS_MSR_BITMAP, (uint64_t)own->msr_bitmap);
}

static void write_host(struct hypervisor *own, uint64_t idt_base)
{
    extern const char vmx_exit[];
    for (unsigned i = ES; i <= GS; i++)
        vmcs_write(VMCS_HOST_ES_SELECTOR + 2 * i, i == CS ? CODE64 : i == FS || i == GS ? 0 : DATA);
    vmcs_write(VMCS_HOST_TR_SELECTOR, TASK);
    vmcs_write(VMCS_HOST_CR0, read_cr0());
    vmcs_write(VMCS_HOST_CR3, read_cr3());
    vmcs_write(VMCS_HOST_CR4, read_cr4());
    vmcs_write(VMCS_HOST_EFER, (1 << 8) | (1 << 10)); /* LME, LMA: the MSR exits if this level is a guest */
    vmcs_write(VMCS_HOST_FS_BASE, 0);
    vmcs_write(VMCS_HOST_GS_BASE, 0);
    vmcs_write(VMCS_HOST_TR_BASE, (uint64_t)task_state);
    vmcs_write(VMCS_HOST_GDTR_BASE, (uint64_t)gdt);
    vmcs_write(VMCS_HOST_IDTR_BASE, idt_base);
    vmcs_write(VMCS_HOST_SYSENTER_CS, 0);
    vmcs_write(VMCS_HOST_SYSENTER_ESP, 0);
    vmcs_write(VMCS_HOST_SYSENTER_EIP, 0);
    vmcs_write(VMCS_HOST_RSP, (uint64_t)own->host_stack + STACK_SIZE);
    vmcs_write(VMCS_HOST_RIP, (uint64_t)vmx_exit);
}

static void write_guest(struct hypervisor *own, uint64_t idt_base)
{
    for (unsigned i = ES; i < SEGMENTS; i++) {
        bool unused = i == LDTR || i == FS || i == GS;
        uint64_t rights = i == CS ? RIGHTS_CODE64 : unused ? RIGHTS_UNUSABLE : i == TR ? RIGHTS_TASK : RIGHTS_DATA;
        vmcs_write(VMCS_GUEST_ES_SELECTOR + 2 * i, i == CS ? CODE64 : unused ? 0 : i == TR ? TASK : DATA);
        vmcs_write(VMCS_GUEST_ES_BASE + 2 * i, i == TR ? (uint64_t)task_state : 0);
        vmcs_write(VMCS_GUEST_ES_LIMIT + 2 * i, i == TR ? 0x67 : 0xffffffff);
        vmcs_write(VMCS_GUEST_ES_RIGHTS + 2 * i, rights);
    }
    static const enum vmcs_field zero[] = {VMCS_GUEST_DEBUGCTL, VMCS_GUEST_INTERRUPTIBILITY, VMCS_GUEST_ACTIVITY,
                                           VMCS_GUEST_PENDING_DEBUG, VMCS_GUEST_SYSENTER_CS, VMCS_GUEST_SYSENTER_ESP,
                                           VMCS_GUEST_SYSENTER_EIP};
    for (unsigned i = 0; i < sizeof zero / sizeof *zero; i++)
        vmcs_write(zero[i], 0);
    vmcs_write(VMCS_GUEST_CR0, read_cr0());
    vmcs_write(VMCS_GUEST_CR3, read_cr3());
    vmcs_write(VMCS_GUEST_CR4, read_cr4());
    vmcs_write(VMCS_GUEST_EFER, (1 << 8) | (1 << 10));
    vmcs_write(VMCS_GUEST_DR7, 0x400);
    vmcs_write(VMCS_GUEST_GDTR_BASE, (uint64_t)gdt);
    vmcs_write(VMCS_GUEST_GDTR_LIMIT, 0x3f);
    vmcs_write(VMCS_GUEST_IDTR_BASE, idt_base);
    vmcs_write(VMCS_GUEST_IDTR_LIMIT, 0xfff);
    vmcs_write(VMCS_GUEST_RSP, (uint64_t)own->guest_stack + STACK_SIZE - 8);
    vmcs_write(VMCS_GUEST_RIP, (uint64_t)level_main);
    vmcs_write(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
}

_Noreturn void hypervisor_start(void)
{
    struct hypervisor *own = &hypervisors[current_level];
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } idt_pointer;
    __asm__ volatile("sidt %0" : "=m"(idt_pointer));
    vmx_on(own);
    write_controls(own);
    write_host(own, idt_pointer.base);
    write_guest(own, idt_pointer.base);
    current_level++;
    vmx_launch();
}

/* ---- exits -------------------------------------------------------------------------------------------------------- */

/* CPUID, with VMX hidden. Nothing else is expected. */
void exit_handle(struct exit_registers *registers)
{
    uint64_t reason = vmcs_read(VMCS_EXIT_REASON);
    if (reason != EXIT_CPUID)
        fail("unexpected VM exit, reason", reason);
    uint32_t leaf = registers->rax;
    struct cpuid result = cpuid(leaf, registers->rcx);
    if (leaf == 1)
        result.ecx &= ~(1u << 5);
    registers->rax = result.eax;
    registers->rbx = result.ebx;
    registers->rcx = result.ecx;
    registers->rdx = result.edx;
    vmcs_write(VMCS_GUEST_RIP, vmcs_read(VMCS_GUEST_RIP) + vmcs_read(VMCS_EXIT_INSTRUCTION_LENGTH));
}
