/*
 * main: one level from its first line to its last. It says what it sees of the machine, then either runs a copy of itself as
 * its guest, or, if it is the innermost, does the work; then it switches itself off.
 *
 * Words on the command line: levels=N how many levels there shall be (1..16, default 2); mode=bench the innermost measures
 * VM exits, count=N of them; level=K is written by each level for the next one and is 1 for the first.
 */
#include "nest.h"

struct level self;
static uint8_t probe_region[PAGE_SIZE] __attribute__((aligned(4096)));

_Noreturn void guest_main(uint32_t magic, const struct multiboot_info *info);

/* If word begins with name and '=', gives what follows. */
static const char *value_of(const char *word, const char *name)
{
    while (*name && *word == *name)
        word++, name++;
    return !*name && *word == '=' ? word + 1 : NULL;
}

static unsigned long parse_number(const char *text)
{
    unsigned long number = 0;
    while (*text >= '0' && *text <= '9' && number < 1ul << 40)
        number = number * 10 + (*text++ - '0');
    return number;
}

static void parse_command_line(const char *line)
{
    while (*line) {
        const char *value;
        if ((value = value_of(line, "levels")))
            self.levels = parse_number(value);
        else if ((value = value_of(line, "level")))
            self.level = parse_number(value);
        else if ((value = value_of(line, "count")))
            self.count = parse_number(value);
        else if ((value = value_of(line, "mode")))
            self.bench = value[0] == 'b';
        while (*line && *line != ' ')
            line++;
        while (*line == ' ')
            line++;
    }
}

static _Noreturn void power_off(void)
{
    outw(PORT_ACPI_PM1, ACPI_SLEEP_S5);
    for (;;)
        __asm__ volatile("cli; hlt");
}

static bool name_is_ours(const char *name)
{
    static const char ours[12] = "NestLab";
    for (unsigned i = 0; i < sizeof ours; i++)
        if (name[i] != ours[i])
            return false;
    return true;
}

/* CPUID's name of the hypervisor below, if CPUID says that there is one. */
static void print_hypervisor(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 31)) {
        print("CPUID shows no hypervisor below me\n");
        return;
    }
    struct cpuid leaf = cpuid(CPUID_HYPERVISOR, 0);
    const uint32_t words[3] = {leaf.ebx, leaf.ecx, leaf.edx};
    char name[13];
    memcpy(name, words, 12);
    name[12] = 0;
    for (unsigned i = 0; i < 12 && name[i]; i++)
        if (name[i] < ' ' || name[i] > '~')
            name[i] = '?';
    print("CPUID shows a hypervisor below me: \"%s\"", name);
    if (leaf.eax >= CPUID_HYPERVISOR_LEVEL && name_is_ours(name))
        print(", level %u", cpuid(CPUID_HYPERVISOR_LEVEL, 0).eax);
    print("\n");
}

/* Tries what needs VMX although CPUID does not offer it: a hypervisor that hides VMX has to refuse it too. */
static void probe_hidden_vmx(void)
{
    uint64_t basic;
    bool entered = false;
    unsigned read = try_read_msr(MSR_VMX_BASIC, &basic);
    unsigned enable = try_write_cr4(read_cr4() | CR4_VMXE);
    unsigned vmxon = try_vmxon((uint64_t)probe_region, &entered);
    print("trying all the same: RDMSR %s, CR4.VMXE := 1 %s, VMXON %s\n", trap_name(read), trap_name(enable),
          vmxon == TRAP_NONE && !entered ? "VMfail" : trap_name(vmxon));
    if (vmxon == TRAP_NONE && entered)
        fail("VMXON worked, though CPUID shows no VMX");
}

/* The PC's interrupt controllers stay silent: all vectors remapped away from the exceptions, all lines masked. */
static void mask_interrupts(void)
{
    static const uint8_t words[] = {0x11, 0x20, 0x04, 0x01};
    for (unsigned i = 0; i < sizeof words; i++) {
        outb(i ? PORT_PIC1 + 1 : PORT_PIC1, words[i]);
        outb(i ? PORT_PIC2 + 1 : PORT_PIC2, i == 1 ? 0x28 : i == 2 ? 2 : words[i]);
    }
    outb(PORT_PIC1 + 1, 0xff);
    outb(PORT_PIC2 + 1, 0xff);
}

static void work(void)
{
    if (self.bench)
        work_bench(self.count);
    else if (!work_run())
        fail("the result is wrong");
}

_Noreturn void guest_main(uint32_t magic, const struct multiboot_info *info)
{
    self = (struct level){.level = 1, .levels = 2, .count = 100000};
    trap_init();
    if (magic != MULTIBOOT_MAGIC || !(info->flags & MULTIBOOT_HAS_MEMORY))
        fail("not started by multiboot with memory information (magic 0x%x)", magic);
    if (info->flags & MULTIBOOT_HAS_COMMAND_LINE)
        parse_command_line((const char *)(uint64_t)info->command_line_pa);
    if (self.level == 1) {
        console_init();
        mask_interrupts();
    }
    self.memory = (MIB + info->mem_upper * KIB) & ~(PAGE_SIZE - 1);
    if (self.level < 1 || self.levels > LEVELS_MAX || self.levels < self.level)
        fail("levels=%u, level=%u: 1 to %u levels were expected", self.levels, self.level, (unsigned)LEVELS_MAX);
    self.vmx = cpuid(1, 0).ecx & 1 << 5;
    print("level %u of %u, %lu MiB of memory\n", self.level, self.levels, self.memory / MIB);
    print_hypervisor();
    print("CPUID.VMX = %u\n", self.vmx);
    if (self.level == self.levels) {
        print("I am the innermost\n");
        work();
    } else if (self.vmx) {
        hypervisor_run();
    } else if (self.level == 1) {
        fail("this processor has no VMX, so there can be no level 2");
    } else {
        probe_hidden_vmx();
        print("VMX is hidden from me, so I am the innermost\n");
        work();
    }
    print("level %u ends\n", self.level);
    power_off();
}
