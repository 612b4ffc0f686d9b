/*
 * vmx: from "this processor has VMX" to a running guest: capabilities, VMXON, the VMCS of a guest that starts as multiboot
 * starts a kernel, and the loop of entries and exits.
 *
 * Every VMX instruction's outcome is looked at, and every control is checked against the capability MSRs before it is used,
 * so that a processor (or an emulator, or a hypervisor below) that lacks something is told which.
 *
 * [SDM3 "Software Use of Virtual-Machine Control Structure"], [SDM3 "VMX Capability Reporting Facility"],
 * [SDM3 "Checks on VMX Controls and Host-State Area"]
 */
#include "vmx.h"

enum { CODE64 = 0x10, DATA = 0x18, TASK = 0x20, GUEST_CODE = 0x08, GUEST_DATA = 0x10, GUEST_TASK = 0x18 };
enum { FEATURE_CONTROL_LOCK = 1, FEATURE_CONTROL_VMX = 4 };
enum { RIGHTS_CODE32 = 0xc09b, RIGHTS_DATA = 0xc093, RIGHTS_TASK = 0x8b, RIGHTS_UNUSABLE = 0x10000 };
enum { EPT_CAP_WALK_4 = 1 << 6, EPT_CAP_WB = 1 << 14, EPT_CAP_LARGE = 1 << 16, EPT_CAP_INVEPT = 1 << 20, EPT_CAP_INVEPT_ALL = 1 << 26 };

extern const uint8_t image_start[], image_end[];
extern uint8_t gdt[], task_state[];

static uint8_t vmxon_region[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t vmcs_region[PAGE_SIZE] __attribute__((aligned(4096)));
static uint8_t msr_bitmap[PAGE_SIZE] __attribute__((aligned(4096)));
bool cr3_exiting;

/* ---- VMX instructions ------------------------------------------------------------------------------------------- */

/* [SDM3 "VM Instruction Error Numbers"] */
static const char *const instruction_errors[] = {
    [1] = "VMCALL executed in VMX root operation",
    [2] = "VMCLEAR with invalid physical address",
    [3] = "VMCLEAR with VMXON pointer",
    [4] = "VMLAUNCH with non-clear VMCS",
    [5] = "VMRESUME with non-launched VMCS",
    [6] = "VMRESUME after VMXOFF",
    [7] = "VM entry with invalid control field(s)",
    [8] = "VM entry with invalid host-state field(s)",
    [9] = "VMPTRLD with invalid physical address",
    [10] = "VMPTRLD with VMXON pointer",
    [11] = "VMPTRLD with incorrect VMCS revision identifier",
    [12] = "VMREAD/VMWRITE from/to unsupported VMCS component",
    [13] = "VMWRITE to read-only VMCS component",
    [15] = "VMXON executed in VMX root operation",
    [16] = "VM entry with invalid executive-VMCS pointer",
    [17] = "VM entry with non-launched executive VMCS",
    [18] = "VM entry with executive-VMCS pointer not VMXON pointer",
    [19] = "VMCALL with non-clear VMCS",
    [20] = "VMCALL with invalid VM-exit control fields",
    [22] = "VMCALL with incorrect MSEG revision identifier",
    [23] = "VMXOFF under dual-monitor treatment of SMIs and SMM",
    [24] = "VMCALL with invalid SMM-monitor features",
    [25] = "VM entry with invalid VM-execution control fields in executive VMCS",
    [26] = "VM entry with events blocked by MOV SS",
    [28] = "invalid operand to INVEPT/INVVPID",
};

enum outcome { SUCCEEDED, FAILED_INVALID, FAILED_VALID };

/* Ends the machine unless the VMX instruction called name succeeded; detail is what it worked on. */
static void expect_success(enum outcome outcome, const char *name, uint64_t detail)
{
    if (outcome == SUCCEEDED)
        return;
    if (outcome == FAILED_INVALID)
        fail("%s (0x%lx): VMfailInvalid: there is no current VMCS", name, detail);
    uint64_t error = 0;
    __asm__ volatile("vmread %1, %0" : "=r"(error) : "r"((uint64_t)VMCS_INSTRUCTION_ERROR) : "cc");
    const char *text = error < sizeof instruction_errors / sizeof *instruction_errors ? instruction_errors[error] : NULL;
    fail("%s (0x%lx): VMfailValid, error %lu: %s", name, detail, error, text ? text : "unknown");
}

#define VMX_OUTCOME(carry, zero) ((carry) ? FAILED_INVALID : (zero) ? FAILED_VALID : SUCCEEDED)

uint64_t vmcs_read(enum vmcs_field field)
{
    uint64_t value;
    bool carry, zero;
    __asm__ volatile("vmread %3, %0" : "=r"(value), "=@ccc"(carry), "=@ccz"(zero) : "r"((uint64_t)field));
    expect_success(VMX_OUTCOME(carry, zero), "VMREAD", field);
    return value;
}

void vmcs_write(enum vmcs_field field, uint64_t value)
{
    bool carry, zero;
    __asm__ volatile("vmwrite %2, %3" : "=@ccc"(carry), "=@ccz"(zero) : "r"(value), "r"((uint64_t)field));
    expect_success(VMX_OUTCOME(carry, zero), "VMWRITE", field);
}

static void vmclear(uint64_t vmcs_pa)
{
    bool carry, zero;
    __asm__ volatile("vmclear %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(vmcs_pa) : "memory");
    expect_success(VMX_OUTCOME(carry, zero), "VMCLEAR", vmcs_pa);
}

static void vmptrld(uint64_t vmcs_pa)
{
    bool carry, zero;
    __asm__ volatile("vmptrld %2" : "=@ccc"(carry), "=@ccz"(zero) : "m"(vmcs_pa) : "memory");
    expect_success(VMX_OUTCOME(carry, zero), "VMPTRLD", vmcs_pa);
}

static void invept_all(void)
{
    const uint64_t descriptor[2] = {0, 0};
    bool carry, zero;
    __asm__ volatile("invept %2, %3" : "=@ccc"(carry), "=@ccz"(zero) : "m"(descriptor), "r"(2ul) : "memory");
    expect_success(VMX_OUTCOME(carry, zero), "INVEPT", 2);
}

/* ---- capabilities and VMX operation ----------------------------------------------------------------------------- */

/*
 * The value of a control field: what is wanted, what the processor insists on (low half), of what it allows (high half).
 * Those wanted must be there, optional ones may be missing.
 */
static uint32_t controls(const char *name, uint32_t capability_msr, uint32_t wanted, uint32_t optional)
{
    uint64_t capability = rdmsr(capability_msr);
    uint32_t required = capability, allowed = capability >> 32;
    if (wanted & ~allowed)
        fail("%s controls 0x%x are needed; this processor lacks 0x%x of them", name, wanted, wanted & ~allowed);
    return (wanted | optional | required) & allowed;
}

/* False, with the reason printed, if this level may not use VMX although CPUID shows it. */
static bool feature_control_enable(void)
{
    uint64_t value;
    if (try_read_msr(MSR_FEATURE_CONTROL, &value) != TRAP_NONE) {
        print("IA32_FEATURE_CONTROL cannot be read\n");
        return false;
    }
    if (value & FEATURE_CONTROL_LOCK) {
        if (!(value & FEATURE_CONTROL_VMX))
            print("IA32_FEATURE_CONTROL is locked with VMX off (0x%lx)\n", value);
        return value & FEATURE_CONTROL_VMX;
    }
    return try_write_msr(MSR_FEATURE_CONTROL, value | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX) == TRAP_NONE;
}

static void vmx_on(void)
{
    uint64_t basic = rdmsr(MSR_VMX_BASIC);
    print("VMX revision 0x%x, EPT and VPID 0x%lx\n", (uint32_t)basic & 0x7fffffff,
          rdmsr(MSR_VMX_PROCBASED_CTLS) >> 63 ? rdmsr(MSR_VMX_EPT_VPID_CAP) : 0);
    uint32_t revision = basic & 0x7fffffff;
    memcpy(vmxon_region, &revision, sizeof revision);
    memcpy(vmcs_region, &revision, sizeof revision);
    if (!feature_control_enable())
        fail("VMX cannot be switched on");

    write_cr0((read_cr0() | rdmsr(MSR_VMX_CR0_FIXED0)) & rdmsr(MSR_VMX_CR0_FIXED1));
    unsigned trap = try_write_cr4((read_cr4() | rdmsr(MSR_VMX_CR4_FIXED0)) & rdmsr(MSR_VMX_CR4_FIXED1));
    if (trap != TRAP_NONE)
        fail("CR4.VMXE := 1: %s", trap_name(trap));
    bool succeeded = false;
    trap = try_vmxon((uint64_t)vmxon_region, &succeeded);
    if (trap != TRAP_NONE || !succeeded)
        fail("VMXON: %s", trap != TRAP_NONE ? trap_name(trap) : "VMfail");
    vmclear((uint64_t)vmcs_region);
    vmptrld((uint64_t)vmcs_region);
}

static void vmx_off(void)
{
    vmclear((uint64_t)vmcs_region);
    __asm__ volatile("vmxoff" : : : "cc", "memory");
    if (try_write_cr4(read_cr4() & ~(uint64_t)CR4_VMXE) != TRAP_NONE)
        fail("CR4.VMXE := 0 is refused after VMXOFF");
}

/* ---- the VMCS --------------------------------------------------------------------------------------------------- */

/* All MSRs make the guest exit, but for those that the VMCS switches anyway. [SDM3 "MSR-Bitmap Address"] */
static void msr_bitmap_fill(void)
{
    static const uint32_t passed[] = {MSR_EFER, MSR_FS_BASE, MSR_FS_BASE + 1};
    memset(msr_bitmap, 0xff, sizeof msr_bitmap);
    for (unsigned i = 0; i < sizeof passed / sizeof *passed; i++) {
        uint32_t bit = passed[i] & 0x1fff;
        msr_bitmap[0x400 + bit / 8] &= ~(1 << bit % 8); /* reads of 0xc000xxxx */
        msr_bitmap[0xc00 + bit / 8] &= ~(1 << bit % 8); /* writes */
    }
}

static void vmcs_write_controls(uint64_t ept_pointer)
{
    bool true_msrs = rdmsr(MSR_VMX_BASIC) >> 55 & 1;
    uint32_t pin = controls("pin-based", true_msrs ? MSR_VMX_TRUE_PINBASED_CTLS : MSR_VMX_PINBASED_CTLS,
                            PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING, 0);
    uint32_t primary = controls("primary processor-based", true_msrs ? MSR_VMX_TRUE_PROCBASED_CTLS : MSR_VMX_PROCBASED_CTLS,
                                PRIMARY_HLT_EXITING | PRIMARY_UNCONDITIONAL_IO_EXITING | PRIMARY_MSR_BITMAPS |
                                    PRIMARY_SECONDARY_CONTROLS,
                                0);
    cr3_exiting = primary & PRIMARY_CR3_LOAD_EXITING;
    /* With a VPID, a load of CR3 that we carry out would need an INVVPID; without one, each VM entry flushes. */
    uint32_t secondary = controls("secondary processor-based", MSR_VMX_PROCBASED_CTLS2,
                                  SECONDARY_EPT | SECONDARY_UNRESTRICTED_GUEST, cr3_exiting ? 0 : SECONDARY_VPID);
    uint32_t exit = controls("VM-exit", true_msrs ? MSR_VMX_TRUE_EXIT_CTLS : MSR_VMX_EXIT_CTLS,
                             EXIT_HOST_64_BIT | EXIT_SAVE_EFER | EXIT_LOAD_EFER | EXIT_ACKNOWLEDGE_INTERRUPT, 0);
    uint32_t entry =
        controls("VM-entry", true_msrs ? MSR_VMX_TRUE_ENTRY_CTLS : MSR_VMX_ENTRY_CTLS, ENTRY_LOAD_EFER, 0);

    vmcs_write(VMCS_PIN_CONTROLS, pin);
    vmcs_write(VMCS_PRIMARY_CONTROLS, primary);
    vmcs_write(VMCS_SECONDARY_CONTROLS, secondary);
    vmcs_write(VMCS_EXIT_CONTROLS, exit);
    vmcs_write(VMCS_ENTRY_CONTROLS, entry);
    vmcs_write(VMCS_EXCEPTION_BITMAP, 0);
    vmcs_write(VMCS_PF_ERROR_MASK, 0);
    vmcs_write(VMCS_PF_ERROR_MATCH, 0);
    vmcs_write(VMCS_CR3_TARGET_COUNT, 0);
    vmcs_write(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmcs_write(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write(VMCS_ENTRY_INTERRUPTION, 0);
    vmcs_write(VMCS_MSR_BITMAP, (uint64_t)msr_bitmap);
    vmcs_write(VMCS_EPT_POINTER, ept_pointer);
    vmcs_write(VMCS_LINK_POINTER, ~0ul);
    if (secondary & SECONDARY_VPID)
        vmcs_write(VMCS_VPID, 1);
}

static void vmcs_write_host(void)
{
    for (unsigned i = ES; i <= GS; i++)
        vmcs_write(VMCS_HOST_ES_SELECTOR + 2 * i, i == CS ? CODE64 : i == FS || i == GS ? 0 : DATA);
    vmcs_write(VMCS_HOST_TR_SELECTOR, TASK);
    struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } idt_pointer;
    __asm__ volatile("sidt %0" : "=m"(idt_pointer));
    vmcs_write(VMCS_HOST_CR0, read_cr0());
    vmcs_write(VMCS_HOST_CR3, read_cr3());
    vmcs_write(VMCS_HOST_CR4, read_cr4());
    vmcs_write(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmcs_write(VMCS_HOST_FS_BASE, 0);
    vmcs_write(VMCS_HOST_GS_BASE, 0);
    vmcs_write(VMCS_HOST_TR_BASE, (uint64_t)task_state);
    vmcs_write(VMCS_HOST_GDTR_BASE, (uint64_t)gdt);
    vmcs_write(VMCS_HOST_IDTR_BASE, idt_pointer.base);
    vmcs_write(VMCS_HOST_SYSENTER_CS, 0);
    vmcs_write(VMCS_HOST_SYSENTER_ESP, 0);
    vmcs_write(VMCS_HOST_SYSENTER_EIP, 0);
    vmcs_write(VMCS_HOST_RIP, (uint64_t)vmx_exit);
}

/*
 * The guest as multiboot wants it: 32-bit protected mode, flat segments, paging off. Bits of CR0 and CR4 that VMX fixes
 * (NE, VMXE) are ours: the guest reads the shadow, and exits when it writes something else.
 */
static void vmcs_write_guest(uint64_t entry_gpa)
{
    for (unsigned i = ES; i < SEGMENTS; i++) {
        uint64_t rights = i == CS ? RIGHTS_CODE32 : i == LDTR ? RIGHTS_UNUSABLE : i == TR ? RIGHTS_TASK : RIGHTS_DATA;
        vmcs_write(VMCS_GUEST_ES_SELECTOR + 2 * i, i == CS ? GUEST_CODE : i == LDTR ? 0 : i == TR ? GUEST_TASK : GUEST_DATA);
        vmcs_write(VMCS_GUEST_ES_BASE + 2 * i, 0);
        vmcs_write(VMCS_GUEST_ES_LIMIT + 2 * i, i == TR ? 0x67 : 0xffffffff);
        vmcs_write(VMCS_GUEST_ES_RIGHTS + 2 * i, rights);
    }
    uint64_t cr0_fixed0 = rdmsr(MSR_VMX_CR0_FIXED0) & ~0x80000001ul; /* unrestricted: PG and PE are the guest's */
    uint64_t cr4_fixed0 = rdmsr(MSR_VMX_CR4_FIXED0), cr4_fixed1 = rdmsr(MSR_VMX_CR4_FIXED1);
    vmcs_write(VMCS_GUEST_CR0, CR0_PE | CR0_ET | cr0_fixed0);
    vmcs_write(VMCS_CR0_MASK, cr0_fixed0);
    vmcs_write(VMCS_CR0_SHADOW, CR0_PE | CR0_ET);
    vmcs_write(VMCS_GUEST_CR3, 0);
    vmcs_write(VMCS_GUEST_CR4, cr4_fixed0);
    vmcs_write(VMCS_CR4_MASK, cr4_fixed0 | ~cr4_fixed1 | CR4_VMXE);
    vmcs_write(VMCS_CR4_SHADOW, 0);
    vmcs_write(VMCS_GUEST_EFER, 0);
    vmcs_write(VMCS_GUEST_DEBUGCTL, 0);
    vmcs_write(VMCS_GUEST_DR7, 0x400);
    vmcs_write(VMCS_GUEST_GDTR_BASE, 0);
    vmcs_write(VMCS_GUEST_GDTR_LIMIT, 0);
    vmcs_write(VMCS_GUEST_IDTR_BASE, 0);
    vmcs_write(VMCS_GUEST_IDTR_LIMIT, 0);
    vmcs_write(VMCS_GUEST_RSP, 0);
    vmcs_write(VMCS_GUEST_RIP, entry_gpa);
    vmcs_write(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmcs_write(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmcs_write(VMCS_GUEST_ACTIVITY, 0);
    vmcs_write(VMCS_GUEST_PENDING_DEBUG, 0);
    vmcs_write(VMCS_GUEST_SYSENTER_CS, 0);
    vmcs_write(VMCS_GUEST_SYSENTER_ESP, 0);
    vmcs_write(VMCS_GUEST_SYSENTER_EIP, 0);
}

/* ---- the guest's memory ----------------------------------------------------------------------------------------- */

static char *append_text(char *to, const char *text)
{
    while (*text)
        *to++ = *text++;
    return to;
}

static char *append_number(char *to, const char *name, unsigned long number)
{
    char digits[20];
    unsigned count = 0;
    to = append_text(to, name);
    do {
        digits[count++] = '0' + number % 10;
        number /= 10;
    } while (number);
    while (count)
        *to++ = digits[--count];
    return to;
}

/* Puts the image, the multiboot information and the command line into the guest's memory of size bytes. */
static void guest_load(uint64_t size)
{
    uint8_t *memory = (uint8_t *)(uint64_t)GUEST_PA;
    memcpy(memory + IMAGE_PA, image_start, image_end - image_start);

    char *line = (char *)memory + GUEST_COMMAND_LINE_GPA;
    line = append_number(line, "nest level=", self.level + 1);
    line = append_number(line, " levels=", self.levels);
    if (self.bench)
        line = append_number(line, " mode=bench count=", self.count);
    *line = 0;

    struct multiboot_info info = {
        .flags = MULTIBOOT_HAS_MEMORY | MULTIBOOT_HAS_COMMAND_LINE,
        .mem_lower = 640,
        .mem_upper = (size - MIB) / KIB,
        .command_line_pa = GUEST_COMMAND_LINE_GPA,
    };
    memcpy(memory + GUEST_INFO_GPA, &info, sizeof info);
}

void hypervisor_run(void)
{
    static struct guest_registers registers;
    extern const char entry32[];
    if (self.memory < GUEST_PA + RESERVED_SIZE)
        fail("%lu MiB of memory are too little for one more level", self.memory / MIB);
    uint64_t guest_memory = self.memory - GUEST_PA;

    vmx_on();
    if (!(rdmsr(MSR_VMX_PROCBASED_CTLS) >> 63))
        fail("this processor has no secondary controls, so no EPT");
    controls("secondary processor-based", MSR_VMX_PROCBASED_CTLS2, SECONDARY_EPT, 0);
    uint64_t capability = rdmsr(MSR_VMX_EPT_VPID_CAP);
    if (!(capability & EPT_CAP_WALK_4) || !(capability & EPT_CAP_WB))
        fail("EPT has no 4-level walk or no write-back tables (IA32_VMX_EPT_VPID_CAP 0x%lx)", capability);
    guest_load(guest_memory);
    msr_bitmap_fill();
    vmcs_write_controls(ept_build(GUEST_PA, guest_memory, capability & EPT_CAP_LARGE));
    vmcs_write_host();
    vmcs_write_guest((uint64_t)entry32);
    if (capability & EPT_CAP_INVEPT && capability & EPT_CAP_INVEPT_ALL)
        invept_all();

    print("starting level %u as my guest with %lu MiB\n", self.level + 1, guest_memory / MIB);
    registers = (struct guest_registers){.rax = MULTIBOOT_MAGIC, .rbx = GUEST_INFO_GPA};
    enum guest_fate fate = GUEST_GOES_ON;
    for (bool launched = false; fate == GUEST_GOES_ON; launched = true) {
        int failure = vmx_enter(&registers, launched);
        expect_success(failure, launched ? "VMRESUME" : "VMLAUNCH", (uint64_t)vmcs_region);
        fate = exit_handle(&registers);
    }
    exit_report();
    if (fate == GUEST_BROKEN)
        fail("level %u did not end as it should", self.level + 1);
    vmx_off();
}
