/*
 * monitor: the smallest KVM user that boots Debian's kernel, or a multiboot kernel such as Xen.
 *
 * One vCPU, one thread. It puts the kernel into a guest's memory (linux.c, multiboot.c), enters it and then serves what the
 * guest asks of the outside world: a 16550 on COM1 (uart.c), an RTC, and the ports by which a PC is reset or switched off. Interrupt controllers and
 * timer are KVM's own. It runs as a hypervisor's user-land at every level of the stacks, so it is linked
 * statically, reads no configuration and writes nothing but the guest's serial output (stdout) and its errors (stderr).
 *
 * Exit status: 0 the guest powered off or reset, 1 usage or host error, 2 KVM could not go on with the guest.
 *
 * Follows Documentation/virt/kvm/api.rst (Linux).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "monitor.h"

enum { CPUID_ENTRIES_MAX = 256 };

enum { PORT_COM1 = 0x3f8, IRQ_COM1 = 4, PORT_I8042 = 0x64, PORT_CMOS = 0x70, PORT_DEBUG_EXIT = 0xf4 };

_Noreturn void die(int status, const char *format, ...)
{
    va_list arguments;
    uart_output_flush();
    fputs("monitor: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(status);
}

/* An ioctl that has to work; says which one did not. */
static int kvm_do(int fd, unsigned long request, const char *name, void *argument)
{
    int result = ioctl(fd, request, argument);
    if (result < 0)
        die(1, "%s: %s", name, strerror(errno));
    return result;
}
#define KVM_DO(fd, request, argument) kvm_do(fd, request, #request, (void *)(argument))

/* ---- memory and what is loaded into it -------------------------------------------------------------------------- */

static void guest_create(struct guest *guest, uint64_t size)
{
    guest->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (guest->kvm < 0)
        die(1, "/dev/kvm: %s", strerror(errno));
    int version = ioctl(guest->kvm, KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION)
        die(1, "KVM's API version is %d; %d was expected", version, KVM_API_VERSION);
    guest->vm = KVM_DO(guest->kvm, KVM_CREATE_VM, 0);
    uint64_t identity_map_gpa = GPA_IDENTITY_MAP;
    KVM_DO(guest->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map_gpa);
    KVM_DO(guest->vm, KVM_SET_TSS_ADDR, (uintptr_t)GPA_TSS);
    KVM_DO(guest->vm, KVM_CREATE_IRQCHIP, 0);
    struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
    KVM_DO(guest->vm, KVM_CREATE_PIT2, &pit);

    /* Aligned to 2 MiB and with huge pages asked for: an EPT violation is dear when it happens a level or two down. */
    uint8_t *area = mmap(NULL, size + 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        die(1, "%llu MiB of guest memory: %s", (unsigned long long)(size / MIB), strerror(errno));
    guest->memory = area + (-(uintptr_t)area & (2 * MIB - 1));
    guest->size = size;
    madvise(guest->memory, size, MADV_HUGEPAGE);
    struct kvm_userspace_memory_region region = {.memory_size = size, .userspace_addr = (uintptr_t)guest->memory};
    KVM_DO(guest->vm, KVM_SET_USER_MEMORY_REGION, &region);

    guest->vcpu = KVM_DO(guest->vm, KVM_CREATE_VCPU, 0);
    int run_size = KVM_DO(guest->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    guest->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu, 0);
    if (guest->run == MAP_FAILED)
        die(1, "the vCPU's kvm_run: %s", strerror(errno));
}

int file_open(const char *path, uint64_t *size)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        die(1, "%s: %s", path, strerror(errno));
    *size = status.st_size;
    return fd;
}

void file_read(int fd, const char *path, uint64_t offset, void *to, uint64_t size)
{
    uint8_t *next = to;
    while (size) {
        ssize_t got = pread(fd, next, size, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            die(1, "%s: %s", path, got ? strerror(errno) : "ends too early");
        next += got, offset += got, size -= got;
    }
}

/* ---- the processor ---------------------------------------------------------------------------------------------- */

/*
 * The guest sees the CPUID that KVM supports, and that it runs under a hypervisor: without this bit Linux calibrates its
 * delay loop against timers that a busy host serves late. VMX stays only if it was asked for.
 */
static void vcpu_set_cpuid(struct guest *guest, bool nested)
{
    struct {
        struct kvm_cpuid2 header;
        struct kvm_cpuid_entry2 entries[CPUID_ENTRIES_MAX];
    } cpuid = {.header.nent = CPUID_ENTRIES_MAX};
    KVM_DO(guest->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid.header);
    for (uint32_t i = 0; i < cpuid.header.nent; i++) {
        struct kvm_cpuid_entry2 *entry = &cpuid.header.entries[i];
        switch (entry->function) {
        case 1:
            entry->ecx |= 1u << 31;                                     /* a hypervisor is present */
            entry->ebx = (entry->ebx & 0x0000ffff) | 1u << 16;          /* APIC ID 0, one logical processor */
            if (!nested)
                entry->ecx &= ~(1u << 5); /* VMX */
            break;
        case 0xb:
        case 0x1f:
            entry->edx = 0; /* x2APIC ID */
            break;
        case 0x80000001:
            if (!nested)
                entry->ecx &= ~(1u << 2); /* SVM */
            break;
        }
    }
    KVM_DO(guest->vcpu, KVM_SET_CPUID2, &cpuid.header);
}

/*
 * Fast string operations are on, as firmware leaves them. KVM's own default is off: Linux then does without ERMS but not without FSRM,
 * and its memmove() takes the second for a promise of the first.
 */
static void vcpu_set_misc_enable(struct guest *guest)
{
    struct {
        struct kvm_msrs header;
        struct kvm_msr_entry entry;
    } msrs = {.header.nmsrs = 1, .entry.index = 0x1a0 /* IA32_MISC_ENABLE */};
    if (KVM_DO(guest->vcpu, KVM_GET_MSRS, &msrs.header) != 1)
        return; /* KVM's AMD half may not know it */
    msrs.entry.data |= 1;
    KVM_DO(guest->vcpu, KVM_SET_MSRS, &msrs.header);
}

static void segment_set(struct kvm_segment *segment, uint16_t selector, uint8_t type, bool code)
{
    *segment = (struct kvm_segment){.selector = selector, .limit = 0xffffffff, .type = type, .present = 1, .s = 1, .g = 1,
                                    .l = code, .db = !code};
}

/* Long mode, paging on with the first 4 GiB mapped to themselves, RSI = the zero page. */
static void set_linux_entry(struct guest *guest, struct kvm_sregs *system, struct kvm_regs *registers)
{
    uint64_t *pml4 = (uint64_t *)(guest->memory + GPA_PAGE_TABLES);
    uint64_t *pdpt = pml4 + 512, *directories = pml4 + 1024;
    pml4[0] = (GPA_PAGE_TABLES + 0x1000) | 3;
    for (uint64_t i = 0; i < 4; i++)
        pdpt[i] = (GPA_PAGE_TABLES + 0x2000 + i * 0x1000) | 3;
    for (uint64_t i = 0; i < 4 * 512; i++)
        directories[i] = i * 2 * MIB | 0x83;
    system->cr0 = 0x80000011; /* PG, ET, PE */
    system->cr3 = GPA_PAGE_TABLES;
    system->cr4 = 0x20;   /* PAE */
    system->efer = 0x500; /* LMA, LME */
    registers->rsi = GPA_ZERO_PAGE;
}

/* 32-bit protected mode without paging, EAX = the loader's magic, EBX = the information. */
static void set_multiboot_entry(struct kvm_sregs *system, struct kvm_regs *registers)
{
    system->cs.l = 0;
    system->cs.db = 1;
    system->cr0 = 0x11; /* ET, PE */
    registers->rax = 0x2badb002;
    registers->rbx = GPA_MULTIBOOT_INFO;
}

/* Flat segments, interrupts off, at the kernel's entry. */
static void vcpu_set_registers(struct guest *guest)
{
    const uint64_t code = guest->multiboot ? 0x00cf9b000000ffff : 0x00af9b000000ffff;
    const uint64_t gdt[] = {0, 0, code, 0x00cf93000000ffff}; /* __BOOT_CS = 0x10, __BOOT_DS = 0x18 */
    memcpy(guest->memory + GPA_GDT, gdt, sizeof gdt);
    struct kvm_sregs system;
    KVM_DO(guest->vcpu, KVM_GET_SREGS, &system);
    system.gdt.base = GPA_GDT;
    system.gdt.limit = sizeof gdt - 1;
    system.idt.base = system.idt.limit = 0;
    segment_set(&system.cs, 0x10, 0xb, true);
    segment_set(&system.ds, 0x18, 0x3, false);
    system.es = system.fs = system.gs = system.ss = system.ds;
    struct kvm_regs registers = {.rip = guest->entry_gpa, .rflags = 2};
    if (guest->multiboot)
        set_multiboot_entry(&system, &registers);
    else
        set_linux_entry(guest, &system, &registers);
    KVM_DO(guest->vcpu, KVM_SET_SREGS, &system);
    KVM_DO(guest->vcpu, KVM_SET_REGS, &registers);
}

/* ---- ports ------------------------------------------------------------------------------------------------------ */

static uint8_t bcd(int value)
{
    return value / 10 << 4 | value % 10;
}

static uint8_t cmos_read(uint8_t index)
{
    time_t now = time(NULL);
    struct tm date;
    gmtime_r(&now, &date);
    switch (index) {
    case 0x00: return bcd(date.tm_sec);
    case 0x02: return bcd(date.tm_min);
    case 0x04: return bcd(date.tm_hour);
    case 0x06: return date.tm_wday + 1;
    case 0x07: return bcd(date.tm_mday);
    case 0x08: return bcd(date.tm_mon + 1);
    case 0x09: return bcd(date.tm_year % 100);
    case 0x32: return bcd(date.tm_year / 100 + 19);
    case 0x0a: return 0x26; /* 32 kHz base, 1024 Hz, no update in progress */
    case 0x0b: return 0x02; /* BCD, 24 hours */
    case 0x0d: return 0x80; /* the battery is good */
    default: return 0;
    }
}

/* PM1 status, enable and control, two bytes each. No event ever comes; the machine is in ACPI mode, and SLP_EN switches it off. */
static uint8_t acpi_read(const struct guest *guest, unsigned offset)
{
    const uint16_t value[] = {guest->acpi_status, guest->acpi_enable, 1 /* SCI_EN */};
    return value[offset / 2] >> offset % 2 * 8;
}

static void acpi_write(struct guest *guest, unsigned offset, uint8_t value)
{
    unsigned shift = offset % 2 * 8;
    if (offset / 2 == 0)
        guest->acpi_status &= ~(value << shift);
    else if (offset / 2 == 1)
        guest->acpi_enable = (guest->acpi_enable & ~(0xff << shift)) | value << shift;
    else if (shift && value & 0x20)
        guest->over = true;
}

static uint8_t port_read(struct guest *guest, uint16_t port)
{
    if (port >= PORT_COM1 && port < PORT_COM1 + 8)
        return uart_read(&guest->uart, port - PORT_COM1);
    if (port == PORT_CMOS + 1)
        return cmos_read(guest->cmos_index);
    /*
     * No keyboard controller. Its status reads "output full" for ever, by which Linux finds out that none is there, and
     * "input empty", so that it does not wait before it asks for a reset.
     */
    if (port == PORT_I8042)
        return 0x01;
    if (port >= PORT_ACPI_EVENT && port < PORT_ACPI_CONTROL + 2)
        return acpi_read(guest, port - PORT_ACPI_EVENT);
    return 0xff;
}

static void port_write(struct guest *guest, uint16_t port, uint8_t value)
{
    if (port >= PORT_COM1 && port < PORT_COM1 + 8)
        uart_write(&guest->uart, port - PORT_COM1, value);
    else if (port == PORT_DEBUG_EXIT)
        die(2, "the guest wrote %u to port 0xf4: it has failed", value);
    else if (port == PORT_CMOS)
        guest->cmos_index = value & 0x7f;
    else if (port == PORT_I8042 && value == 0xfe)
        guest->over = true; /* pulse the reset line */
    else if (port >= PORT_ACPI_EVENT && port < PORT_ACPI_CONTROL + 2)
        acpi_write(guest, port - PORT_ACPI_EVENT, value);
}

static void guest_serve_port(struct guest *guest)
{
    struct kvm_run *run = guest->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    for (uint32_t i = 0; i < run->io.count; i++) {
        for (uint32_t byte = 0; byte < run->io.size; byte++, data++) {
            uint16_t port = run->io.port + byte;
            if (run->io.direction == KVM_EXIT_IO_IN)
                *data = port_read(guest, port);
            else
                port_write(guest, port, *data);
        }
    }
    if (uart_interrupt_changed(&guest->uart)) {
        struct kvm_irq_level line = {.irq = IRQ_COM1, .level = guest->uart.line};
        KVM_DO(guest->vm, KVM_IRQ_LINE, &line);
    }
}

/* ---- running ---------------------------------------------------------------------------------------------------- */

static _Noreturn void die_of_exit(struct guest *guest)
{
    struct kvm_run *run = guest->run;
    struct kvm_regs registers = {0};
    ioctl(guest->vcpu, KVM_GET_REGS, &registers);
    unsigned long long rip = registers.rip;
    switch (run->exit_reason) {
    case KVM_EXIT_FAIL_ENTRY:
        die(2, "VM entry failed at rip 0x%llx: hardware reason 0x%llx", rip,
            (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTERNAL_ERROR:
        die(2, "KVM's internal error %u at rip 0x%llx, data 0x%llx 0x%llx", run->internal.suberror, rip,
            run->internal.ndata > 0 ? (unsigned long long)run->internal.data[0] : 0,
            run->internal.ndata > 1 ? (unsigned long long)run->internal.data[1] : 0);
    case KVM_EXIT_HLT:
        die(2, "the guest halted at rip 0x%llx", rip);
    default:
        die(2, "KVM exit reason %u at rip 0x%llx, which this monitor does not know", run->exit_reason, rip);
    }
}

static void guest_run(struct guest *guest)
{
    while (!guest->over) {
        if (ioctl(guest->vcpu, KVM_RUN, 0) < 0) {
            if (errno == EINTR || errno == EAGAIN)
                continue;
            die(2, "KVM_RUN: %s", strerror(errno));
        }
        switch (guest->run->exit_reason) {
        case KVM_EXIT_IO:
            guest_serve_port(guest);
            break;
        case KVM_EXIT_MMIO: /* nothing is there */
            if (!guest->run->mmio.is_write)
                memset(guest->run->mmio.data, 0xff, sizeof guest->run->mmio.data);
            break;
        case KVM_EXIT_SHUTDOWN: /* a triple fault: the last of Linux's ways to reset */
        case KVM_EXIT_SYSTEM_EVENT:
            guest->over = true;
            break;
        case KVM_EXIT_INTR:
        case KVM_EXIT_IRQ_WINDOW_OPEN:
            break;
        default:
            die_of_exit(guest);
        }
    }
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

static _Noreturn void usage(void)
{
    fputs("usage: monitor --kernel BZIMAGE [--initrd FILE] [--append STRING] [--memory SIZE[M|G]] [--nested]\n"
          "       monitor --kernel MULTIBOOT [--module FILE[,STRING]]... [--append STRING] ...\n"
          "               [--prefix STRING]   put STRING before each line that the guest writes\n",
          stderr);
    exit(1);
}

static uint64_t parse_memory(const char *text)
{
    char *end;
    uint64_t size = strtoull(text, &end, 0);
    size *= *end == 'G' || *end == 'g' ? 1024 * MIB : MIB;
    if (size < 32 * MIB || size > 3072 * MIB || (*end && end[1]))
        die(1, "--memory %s: a size from 32M to 3G was expected", text);
    return size;
}

/* FILE[,STRING]; the words are the module's command line. */
static void add_module(struct options *options, char *text)
{
    if (options->modules == MODULES_MAX)
        die(1, "--module %s: more than %d modules", text, MODULES_MAX);
    char *words = strchr(text, ',');
    if (words)
        *words++ = 0;
    options->module[options->modules++] = (struct module){.path = text, .words = words ? words : ""};
}

int main(int argc, char **argv)
{
    struct options options = {.append = "", .prefix = "", .memory = 128 * MIB};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(word, "--nested")) {
            options.nested = true;
            continue;
        }
        if (!value)
            usage();
        if (!strcmp(word, "--kernel"))
            options.kernel = value;
        else if (!strcmp(word, "--initrd"))
            options.initrd = value;
        else if (!strcmp(word, "--append"))
            options.append = value;
        else if (!strcmp(word, "--module"))
            add_module(&options, value);
        else if (!strcmp(word, "--prefix"))
            options.prefix = value;
        else if (!strcmp(word, "--memory"))
            options.memory = parse_memory(value);
        else
            usage();
        i++;
    }
    if (!options.kernel)
        usage();

    struct guest guest = {.kvm = -1};
    uart_init(&guest.uart, options.prefix);
    guest_create(&guest, options.memory);
    guest.multiboot = multiboot_is_kernel(options.kernel);
    if (guest.multiboot && options.initrd)
        die(1, "%s: a multiboot kernel takes --module, not --initrd", options.kernel);
    if (!guest.multiboot && options.modules)
        die(1, "%s: Linux takes --initrd, not --module", options.kernel);
    if (guest.multiboot) {
        multiboot_load(&guest, &options);
        acpi_build(&guest);
    } else {
        linux_load(&guest, &options);
    }
    vcpu_set_cpuid(&guest, options.nested);
    vcpu_set_misc_enable(&guest);
    vcpu_set_registers(&guest);
    guest_run(&guest);
    uart_output_flush();
    return 0;
}
