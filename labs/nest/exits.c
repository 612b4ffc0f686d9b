/*
 * exits: what the hypervisor does at each VM exit of its guest, and how often it did.
 *
 * There is no support for nested VMX here, on purpose: the guest's CPUID shows no VMX, CR4.VMXE and the VMX MSRs are refused,
 * and VMX instructions are #UD. Whether the guest can be a hypervisor nevertheless is up to what runs *this* level.
 *
 * [SDM3 "VMX Basic Exit Reasons"], [SDM3 "Exit Qualification"], [SDM3 "Event Injection"]
 */
#include "vmx.h"

enum { INJECT_UD = VECTOR_UD | 3 << 8, INJECT_GP = VECTOR_GP | 3 << 8 | 1 << 11, VALID_SHIFT = 31 };
enum { INTERRUPTIBILITY_STI_MOV_SS = 3, CR0_PG_SHIFT = 31, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, ENTRY_IA32E = 1 << 9 };

static unsigned long counts[EXIT_REASONS];

static const char *reason_name(unsigned reason)
{
    static const char *const names[EXIT_REASONS] = {
        [EXIT_EXCEPTION_NMI] = "exception or NMI",
        [EXIT_EXTERNAL_INTERRUPT] = "external interrupt",
        [EXIT_TRIPLE_FAULT] = "triple fault",
        [EXIT_CPUID] = "CPUID",
        [EXIT_GETSEC] = "GETSEC",
        [EXIT_HLT] = "HLT",
        [EXIT_INVD] = "INVD",
        [18] = "VMCALL",
        [19] = "VMCLEAR",
        [20] = "VMLAUNCH",
        [21] = "VMPTRLD",
        [22] = "VMPTRST",
        [23] = "VMREAD",
        [24] = "VMRESUME",
        [25] = "VMWRITE",
        [26] = "VMXOFF",
        [27] = "VMXON",
        [EXIT_CR_ACCESS] = "control register",
        [EXIT_IO] = "I/O instruction",
        [EXIT_RDMSR] = "RDMSR",
        [EXIT_WRMSR] = "WRMSR",
        [EXIT_INVALID_GUEST_STATE] = "invalid guest state",
        [34] = "MSR loading",
        [41] = "machine check",
        [EXIT_EPT_VIOLATION] = "EPT violation",
        [EXIT_EPT_MISCONFIGURATION] = "EPT misconfiguration",
        [EXIT_INVEPT] = "INVEPT",
        [EXIT_INVVPID] = "INVVPID",
        [EXIT_XSETBV] = "XSETBV",
    };
    return reason < EXIT_REASONS && names[reason] ? names[reason] : "another reason";
}

/* ---- what happens to the guest ---------------------------------------------------------------------------------- */

static void guest_skip_instruction(void)
{
    vmcs_write(VMCS_GUEST_RIP, vmcs_read(VMCS_GUEST_RIP) + vmcs_read(VMCS_EXIT_INSTRUCTION_LENGTH));
    uint64_t interruptibility = vmcs_read(VMCS_GUEST_INTERRUPTIBILITY);
    if (interruptibility & INTERRUPTIBILITY_STI_MOV_SS)
        vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, interruptibility & ~(uint64_t)INTERRUPTIBILITY_STI_MOV_SS);
}

/* The exception is the instruction's, which is not skipped: the guest's handler sees the RIP of what it tried. */
static enum guest_fate guest_inject(uint32_t event)
{
    if (event == INJECT_GP)
        vmcs_write(VMCS_ENTRY_ERROR_CODE, 0);
    vmcs_write(VMCS_ENTRY_INTERRUPTION, event | 1u << VALID_SHIFT);
    return GUEST_GOES_ON;
}

static enum guest_fate guest_stop(const char *what)
{
    print("%s: level %u stopped at rip 0x%lx (cr0 0x%lx, cr3 0x%lx, cr4 0x%lx, rsp 0x%lx), exit qualification 0x%lx\n", what,
          self.level + 1, vmcs_read(VMCS_GUEST_RIP), vmcs_read(VMCS_GUEST_CR0), vmcs_read(VMCS_GUEST_CR3),
          vmcs_read(VMCS_GUEST_CR4), vmcs_read(VMCS_GUEST_RSP), vmcs_read(VMCS_EXIT_QUALIFICATION));
    return GUEST_BROKEN;
}

/* ---- instructions ----------------------------------------------------------------------------------------------- */

static enum guest_fate handle_cpuid(struct guest_registers *registers)
{
    uint32_t leaf = registers->rax;
    struct cpuid result = {0};
    if (leaf == CPUID_HYPERVISOR) {
        static const char name[12] = "NestLab";
        uint32_t words[3];
        memcpy(words, name, sizeof words);
        result = (struct cpuid){CPUID_HYPERVISOR_BENCH, words[0], words[1], words[2]};
    } else if (leaf == CPUID_HYPERVISOR_LEVEL) {
        result.eax = self.level;
    } else if (leaf != CPUID_HYPERVISOR_BENCH) {
        result = cpuid(leaf, registers->rcx);
        if (leaf == 1)
            result.ecx = (result.ecx & ~(1u << 5)) | 1u << 31; /* no VMX; a hypervisor is present */
    }
    registers->rax = result.eax;
    registers->rbx = result.ebx;
    registers->rcx = result.ecx;
    registers->rdx = result.edx;
    guest_skip_instruction();
    return GUEST_GOES_ON;
}

static uint32_t port_read(uint16_t port, unsigned size)
{
    if (size == 1 && port >= PORT_COM1 && port < PORT_COM1 + 8)
        return inb(port);
    return ~0u; /* nothing is there */
}

/* True if the guest switched itself off. */
static bool port_write(uint16_t port, uint32_t value)
{
    if (port == PORT_COM1)
        console_put_raw(value);
    else if ((port > PORT_COM1 && port < PORT_COM1 + 8) || port == PORT_DEBUG || port == PORT_EXIT)
        outb(port, value);
    else if (port == PORT_ACPI_PM1)
        return value & 1 << 13;
    return false;
}

static enum guest_fate handle_io(struct guest_registers *registers)
{
    uint64_t qualification = vmcs_read(VMCS_EXIT_QUALIFICATION);
    unsigned size = (qualification & 7) + 1;
    uint16_t port = qualification >> 16;
    if (qualification & 1 << 4)
        return guest_stop("string I/O, which this hypervisor does not do");
    uint64_t mask = size == 4 ? ~0u : (1u << 8 * size) - 1;
    if (qualification & 1 << 3) {
        uint64_t kept = size == 4 ? 0 : registers->rax & ~mask; /* a 32-bit result clears the upper half */
        registers->rax = kept | (port_read(port, size) & mask);
    } else if (port_write(port, registers->rax & mask)) {
        return GUEST_ENDED;
    }
    guest_skip_instruction();
    return GUEST_GOES_ON;
}

static uint64_t *gpr_of(struct guest_registers *registers, unsigned number)
{
    return (uint64_t *)registers + (number < 4 ? number : number - 1); /* RSP, number 4, is in the VMCS */
}

/*
 * CR0 as the guest wants it, with the bits that VMX fixes. When paging goes on or off, long mode does: on hardware the
 * same instruction sets EFER.LMA, so we have to, and in the VM-entry controls too.
 */
static bool guest_write_cr0(uint64_t value)
{
    bool paging = value >> CR0_PG_SHIFT & 1;
    if (value >> 32 || (paging && !(value & CR0_PE)))
        return false;
    uint64_t fixed0 = rdmsr(MSR_VMX_CR0_FIXED0) & ~0x80000001ul;
    uint64_t efer = vmcs_read(VMCS_GUEST_EFER), entry = vmcs_read(VMCS_ENTRY_CONTROLS);
    bool long_mode = paging && efer & EFER_LME;
    vmcs_write(VMCS_GUEST_EFER, long_mode ? efer | EFER_LMA : efer & ~(uint64_t)EFER_LMA);
    vmcs_write(VMCS_ENTRY_CONTROLS, long_mode ? entry | ENTRY_IA32E : entry & ~(uint64_t)ENTRY_IA32E);
    vmcs_write(VMCS_CR0_SHADOW, value | CR0_ET);
    vmcs_write(VMCS_GUEST_CR0, value | CR0_ET | fixed0);
    return true;
}

static bool guest_write_cr4(uint64_t value)
{
    if (value & CR4_VMXE || value & ~rdmsr(MSR_VMX_CR4_FIXED1))
        return false;
    vmcs_write(VMCS_CR4_SHADOW, value);
    vmcs_write(VMCS_GUEST_CR4, value | rdmsr(MSR_VMX_CR4_FIXED0));
    return true;
}

static enum guest_fate handle_cr(struct guest_registers *registers)
{
    uint64_t qualification = vmcs_read(VMCS_EXIT_QUALIFICATION);
    unsigned number = qualification & 15, access = qualification >> 4 & 3, gpr = qualification >> 8 & 15;
    uint64_t value = gpr == 4 ? vmcs_read(VMCS_GUEST_RSP) : *gpr_of(registers, gpr);
    if (!(vmcs_read(VMCS_GUEST_EFER) & EFER_LMA))
        value = (uint32_t)value;
    bool done = false;
    if (access == 0 && number == 0) {
        done = guest_write_cr0(value);
    } else if (access == 0 && number == 4) {
        done = guest_write_cr4(value);
        if (!done && value & CR4_VMXE)
            print("my guest tried to set CR4.VMXE: #GP, I have no nested support\n");
    } else if (access == 0 && number == 3) {
        vmcs_write(VMCS_GUEST_CR3, value & ~(1ul << 63));
        done = true;
    } else if (access == 1 && number == 3) {
        if (gpr == 4)
            vmcs_write(VMCS_GUEST_RSP, vmcs_read(VMCS_GUEST_CR3));
        else
            *gpr_of(registers, gpr) = vmcs_read(VMCS_GUEST_CR3);
        done = true;
    } else {
        return guest_stop("access to a control register, which this hypervisor does not know");
    }
    if (!done)
        return guest_inject(INJECT_GP);
    guest_skip_instruction();
    return GUEST_GOES_ON;
}

/* Any MSR that exits is refused: that of the VMX interface because there is none, others because they are unknown here. */
static enum guest_fate handle_msr(struct guest_registers *registers, const char *name)
{
    uint32_t index = registers->rcx;
    if (index == MSR_FEATURE_CONTROL || (index >= MSR_VMX_BASIC && index <= MSR_VMX_LAST))
        print("my guest tried %s of 0x%x: #GP, I have no nested support\n", name, index);
    return guest_inject(INJECT_GP);
}

static enum guest_fate handle_vmx_instruction(unsigned reason)
{
    print("my guest tried %s: #UD, I have no nested support\n", reason_name(reason));
    return guest_inject(INJECT_UD);
}

/* An interrupt that was meant for nobody: all lines are masked, so at most a spurious one. */
static enum guest_fate handle_external_interrupt(void)
{
    outb(PORT_PIC2, 0x20);
    outb(PORT_PIC1, 0x20);
    return GUEST_GOES_ON;
}

static enum guest_fate handle_ept_violation(void)
{
    uint64_t qualification = vmcs_read(VMCS_EXIT_QUALIFICATION);
    print("EPT violation: level %u's %s of guest-physical 0x%lx, which is not its memory (linear address 0x%lx)\n", self.level + 1,
          qualification & 2 ? "write" : qualification & 4 ? "fetch" : "read", vmcs_read(VMCS_GUEST_PHYSICAL_ADDRESS),
          qualification & 1 << 7 ? vmcs_read(VMCS_GUEST_LINEAR_ADDRESS) : 0);
    return guest_stop("EPT violation");
}

enum guest_fate exit_handle(struct guest_registers *registers)
{
    uint32_t reason = vmcs_read(VMCS_EXIT_REASON);
    if (reason & EXIT_ENTRY_FAILED) {
        print("the VM entry failed: %s\n", reason_name(reason & 0xffff));
        return guest_stop("VM-entry failure");
    }
    reason &= 0xffff;
    counts[reason < EXIT_REASONS ? reason : EXIT_REASONS - 1]++;
    switch (reason) {
    case EXIT_CPUID:
        return handle_cpuid(registers);
    case EXIT_IO:
        return handle_io(registers);
    case EXIT_CR_ACCESS:
        return handle_cr(registers);
    case EXIT_RDMSR:
        return handle_msr(registers, "RDMSR");
    case EXIT_WRMSR:
        return handle_msr(registers, "WRMSR");
    case EXIT_EXTERNAL_INTERRUPT:
        return handle_external_interrupt();
    case EXIT_EPT_VIOLATION:
        return handle_ept_violation();
    case EXIT_HLT:
        return guest_stop("HLT with interrupts that never come");
    case EXIT_INVEPT:
    case EXIT_INVVPID:
        return handle_vmx_instruction(reason);
    default:
        if (reason >= EXIT_VMCALL && reason <= EXIT_VMXON)
            return handle_vmx_instruction(reason);
        return guest_stop(reason_name(reason));
    }
}

void exit_report(void)
{
    unsigned long total = 0;
    for (unsigned i = 0; i < EXIT_REASONS; i++)
        total += counts[i];
    print("my guest, level %u, has ended; I handled %lu VM exits:\n", self.level + 1, total);
    for (unsigned i = 0; i < EXIT_REASONS; i++)
        if (counts[i])
            print("  %8lu  %s\n", counts[i], reason_name(i));
}
