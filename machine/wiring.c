/* The board: a PC with an 8259 pair and an I/O APIC side by side, as since 1997.
 *
 *   device IRQ n ──┬── 8259 pair ── INTR ── LINT0 of every local APIC (virtual wire: BSP as ExtINT)
 *                  └── I/O APIC pin n (IRQ 0 on pin 2) ── APIC bus ── local APICs ── vCPU
 *
 * Kept true: a vCPU's ATT_INTR is the OR of what its local APIC would deliver and of ExtINT; both are levels. What the
 * vCPUs ask (struct cpu_board) is answered at the exact instruction.
 */
#include "machine/wiring.h"

#include "cpu/event.h"
#include "cpu/mode.h"
#include "cpu/trace.h"

/* ---- interrupts ------------------------------------------------------------------------------------------------- */

/* An ISA interrupt request; pin = IRQ number. */
static void isa_irq_set(void *arg, unsigned irq, bool level)
{
    struct machine *m = arg;
    pic_set_line(&m->pic, irq, level);
    if (irq != 2)
        ioapic_set_line(&m->ioapic, irq == 0 ? 2 : irq, level);
}

static struct irq_line isa_irq(struct machine *m, unsigned irq)
{
    return (struct irq_line){.set = isa_irq_set, .arg = m, .pin = irq};
}

static void apic_signal(void *arg, unsigned cpu_index, enum lapic_signal kind, unsigned value)
{
    struct machine *m = arg;
    struct cpu *cpu = &m->cpu[cpu_index];
    const struct lapic *lapic = &m->lapic[cpu_index];
    switch (kind) {
    case LAPIC_INTR:
        cpu_signal(cpu, ATT_INTR, 0, value || lapic->extint);
        break;
    case LAPIC_EXTINT:
        cpu_signal(cpu, ATT_INTR, 0, value || lapic->intr);
        break;
    case LAPIC_NMI:
        cpu_signal(cpu, ATT_NMI, 0, true);
        break;
    case LAPIC_SMI:
        cpu_signal(cpu, ATT_SMI, 0, true);
        break;
    case LAPIC_INIT:
        cpu_signal(cpu, ATT_INIT, 0, true);
        break;
    case LAPIC_SIPI:
        cpu_signal(cpu, ATT_SIPI, (u8)value, true);
        break;
    }
    if (m->time.running && cpu_index == m->time.turn)
        cpu_cut_block(cpu);
}

static u64 apic_tsc_to_ns(void *arg, unsigned cpu, u64 tsc)
{
    const struct machine *m = arg;
    u64 offset = m->cpu[cpu].sys.tsc_offset;
    u64 now = machine_now(m);
    /* Compared in guest ticks: offsets wrap modulo 2^64. */
    return tsc <= now + offset ? 0 : tsc - offset;
}

/* ---- what the vCPUs ask ------------------------------------------------------------------------------------------- */

static u64 board_tsc(void *arg, struct cpu *cpu)
{
    (void)cpu;
    return machine_now(arg);
}

static bool board_interrupt_pending(void *arg, struct cpu *cpu)
{
    const struct lapic *lapic = &((struct machine *)arg)->lapic[cpu->index];
    return lapic->intr || lapic->extint;
}

static int board_interrupt_acknowledge(void *arg, struct cpu *cpu)
{
    struct machine *m = arg;
    struct lapic *lapic = &m->lapic[cpu->index];
    int vector = -1;
    if (lapic->extint)
        vector = pic_acknowledge(&m->pic);
    else if (lapic->intr)
        vector = lapic_acknowledge(lapic);
    if (trace_on(cpu, TRACE_IRQ))
        trace_emit(cpu, TRACE_IRQ, "acknowledge", TRACE_FIELDS(trace_decimal("vector", (u64)(i64)vector)));
    return vector;
}

static void board_interrupt_eoi(void *arg, struct cpu *cpu)
{
    lapic_eoi(&((struct machine *)arg)->lapic[cpu->index]);
}

/* By the interrupt command register, in either mode [SDM3 "IPI Virtualization"]. */
static void board_interrupt_notify(void *arg, struct cpu *cpu, u32 ndst, u8 vector)
{
    struct lapic *lapic = &((struct machine *)arg)->lapic[cpu->index];
    if (lapic_is_x2apic(lapic)) {
        (void)lapic_msr_write(lapic, 0x830, (u64)ndst << 32 | vector);
    } else {
        lapic_mmio_write(lapic, 0x310, (ndst >> 8 & 0xff) << 24);
        lapic_mmio_write(lapic, 0x300, vector);
    }
}

static u8 board_tpr_get(void *arg, struct cpu *cpu)
{
    return (u8)((struct machine *)arg)->lapic[cpu->index].tpr;
}

static void board_tpr_set(void *arg, struct cpu *cpu, u8 tpr)
{
    struct lapic *lapic = &((struct machine *)arg)->lapic[cpu->index];
    if (lapic->tpr != tpr)
        lapic_mmio_write(lapic, 0x80, tpr);
}

#define MSR_TSC_DEADLINE 0x6e0u

static bool board_apic_msr_read(void *arg, struct cpu *cpu, u32 msr, u64 *value)
{
    struct machine *m = arg;
    struct lapic *lapic = &m->lapic[cpu->index];
    if (msr != MSR_TSC_DEADLINE)
        return lapic_msr_read(lapic, msr, value);
    if (!m->apic_bus.deadline_offered)
        return false;
    *value = lapic_deadline_get(lapic);
    return true;
}

static bool board_apic_msr_write(void *arg, struct cpu *cpu, u32 msr, u64 value)
{
    struct machine *m = arg;
    struct lapic *lapic = &m->lapic[cpu->index];
    if (msr != MSR_TSC_DEADLINE)
        return lapic_msr_write(lapic, msr, value);
    if (!m->apic_bus.deadline_offered)
        return false;
    lapic_deadline_set(lapic, value);
    return true;
}

/* The page of the local APICs lies where the last processor that moved it put it: one address for all, as every system
 * uses it. */
static bool board_apic_base_write(void *arg, struct cpu *cpu, u64 value)
{
    struct machine *m = arg;
    struct lapic *lapic = &m->lapic[cpu->index];
    u64 before = lapic->base;
    if (!lapic_set_base(lapic, value))
        return false;
    cpu->sys.apic_base = lapic->base;
    u64 page = lapic->base & ~(u64)(PAGE_SIZE - 1);
    if (page != (before & ~(u64)(PAGE_SIZE - 1)))
        (void)bus_move_mmio(&m->bus, &m->apic_bus, page, PAGE_SIZE);
    return true;
}

static void board_apic_init(void *arg, struct cpu *cpu)
{
    lapic_accept_init(&((struct machine *)arg)->lapic[cpu->index]);
}

/* SplitMix64 (S. Vigna, public domain): RDRAND and RDSEED of a deterministic machine. */
static u64 board_random(void *arg, struct cpu *cpu)
{
    struct machine *m = arg;
    (void)cpu;
    u64 z = m->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void board_shutdown(void *arg, struct cpu *cpu)
{
    struct machine *m = arg;
    m->end_cpu = cpu->index;
    machine_finish(m, MACHINE_TRIPLE_FAULT, 0);
}

static void board_perf_interrupt(void *arg, struct cpu *cpu)
{
    struct machine *m = arg;
    lapic_local(&m->lapic[cpu->index], LVT_PERF);
}

static void board_ferr(void *arg, struct cpu *cpu)
{
    (void)cpu;
    isa_irq_set(arg, 13, true);
}

const struct cpu_board wiring_cpu_board = {
    .tsc = board_tsc,
    .interrupt_acknowledge = board_interrupt_acknowledge,
    .interrupt_pending = board_interrupt_pending,
    .interrupt_eoi = board_interrupt_eoi,
    .interrupt_notify = board_interrupt_notify,
    .tpr_get = board_tpr_get,
    .tpr_set = board_tpr_set,
    .apic_msr_read = board_apic_msr_read,
    .apic_msr_write = board_apic_msr_write,
    .apic_base_write = board_apic_base_write,
    .apic_init = board_apic_init,
    .random = board_random,
    .shutdown = board_shutdown,
    .perf_interrupt = board_perf_interrupt,
    .ferr = board_ferr,
};

/* Port 0xf0: clears the latched x87 error, as the AT's coprocessor circuit does, and asserts IGNNE# until the processor's FERR#
 * ends, so that the handler can use the x87 [SDM1 "MS-DOS Compatibility Sub-mode"]. */
static u64 ferr_read(void *dev, unsigned cpu, u64 off, unsigned size)
{
    (void)dev, (void)cpu, (void)off;
    return mask_low(8 * size);
}

static void ferr_write(void *dev, unsigned cpu, u64 off, unsigned size, u64 value)
{
    enum { FSW_ERROR_SUMMARY = 0x80 };
    struct machine *m = dev;
    (void)off, (void)size, (void)value;
    isa_irq_set(m, 13, false);
    m->cpu[cpu].event.ignne = m->cpu[cpu].fpu.fsw & FSW_ERROR_SUMMARY && !(m->cpu[cpu].sys.cr0 & CR0_NE);
}

static const struct bus_ops ferr_ops = {ferr_read, ferr_write};

/* ---- putting it together ------------------------------------------------------------------------------------------ */

static void map_ports(struct machine *m, u16 first, unsigned count, const struct bus_ops *ops, void *dev)
{
    if (!bus_map_ports(&m->bus, first, count, ops, dev))
        panic("the board maps two devices to port 0x%x", first);
}

static void map_mmio(struct machine *m, u64 hpa, u64 size, const struct bus_ops *ops, void *dev)
{
    if (!bus_map_mmio(&m->bus, hpa, size, ops, dev))
        panic("the board maps two devices to 0x%llx", (unsigned long long)hpa);
}

static void init_interrupts(struct machine *m)
{
    const struct apic_outputs outputs = {.signal = apic_signal, .tsc_to_ns = apic_tsc_to_ns, .arg = m};
    apic_bus_init(&m->apic_bus, m->lapic, m->cpu_count, cpu_physical_bits(&m->cpu[0]), &m->clock, &outputs);
    m->apic_bus.x2apic_offered = cpu_has(&m->cpu[0], FEATURE_X2APIC);
    m->apic_bus.deadline_offered = cpu_has(&m->cpu[0], FEATURE_TSC_DEADLINE);
    apic_bus_set_eoi(&m->apic_bus, ioapic_eoi, &m->ioapic);
    map_mmio(m, LAPIC_DEFAULT_BASE, PAGE_SIZE, &apic_bus_ops, &m->apic_bus);

    ioapic_init(&m->ioapic, &m->apic_bus, (u8)(m->cpu_count & 15));
    map_mmio(m, IOAPIC_BASE, PAGE_SIZE, &ioapic_ops, &m->ioapic);

    pic_init(&m->pic, (struct irq_line){.set = apic_bus_set_lint, .arg = &m->apic_bus, .pin = 0});
    map_ports(m, 0x20, 2, &pic_first_ops, &m->pic);
    map_ports(m, 0xa0, 2, &pic_second_ops, &m->pic);
    map_ports(m, 0x4d0, 2, &pic_elcr_ops, &m->pic);
}

static void a20_set(void *arg, bool on)
{
    bus_set_a20(&((struct machine *)arg)->bus, on);
}

/* SMI# goes to all processors. */
static void smi_set(void *arg, unsigned pin, bool level)
{
    struct machine *m = arg;
    (void)pin;
    for (unsigned i = 0; level && i < m->cpu_count; i++)
        cpu_signal(&m->cpu[i], ATT_SMI, 0, true);
}

static bool smi_command(void *arg, bool written)
{
    struct machine *m = arg;
    if (written)
        pci_apm_written(&m->pci);
    return pci_apm_smi_enabled(&m->pci);
}

static void smram_set(void *arg, enum bus_smram smram)
{
    bus_set_smram(&((struct machine *)arg)->bus, smram);
}

/* In legacy replacement mode the HPET drives IRQ 0 and IRQ 8 instead of the PIT and the RTC. */
static void hpet_legacy_changed(void *arg, bool on)
{
    struct machine *m = arg;
    pit_set_irq_enabled(&m->pit, !on);
    rtc_set_irq_enabled(&m->rtc, !on);
}

/* fw_cfg holds what the user gave, for kernels and firmware that look there. */
static void init_fwcfg(struct machine *m)
{
    const struct machine_config *config = &m->config;
    struct fwcfg *fw = &m->fwcfg;
    fwcfg_init(fw, &m->bus);
    fwcfg_add_int(fw, FWCFG_RAM_SIZE, m->bus.ram_size, 8);
    fwcfg_add_int(fw, FWCFG_NB_CPUS, m->cpu_count, 2);
    fwcfg_add_int(fw, FWCFG_MAX_CPUS, m->cpu_count, 2);
    fwcfg_add_int(fw, FWCFG_NOGRAPHIC, 1, 2);
    fwcfg_add_int(fw, FWCFG_CMDLINE_SIZE, strlen(config->append) + 1, 4);
    fwcfg_add_bytes(fw, FWCFG_CMDLINE_DATA, config->append, (u32)strlen(config->append) + 1);
    if (config->kernel.size <= 0xffffffff) {
        fwcfg_add_int(fw, FWCFG_KERNEL_SIZE, config->kernel.size, 4);
        fwcfg_add_bytes(fw, FWCFG_KERNEL_DATA, config->kernel.data, (u32)config->kernel.size);
    }
    if (config->initrd.size <= 0xffffffff) {
        fwcfg_add_int(fw, FWCFG_INITRD_SIZE, config->initrd.size, 4);
        fwcfg_add_bytes(fw, FWCFG_INITRD_DATA, config->initrd.data, (u32)config->initrd.size);
    }
    map_ports(m, 0x510, 2, &fwcfg_data_ops, fw);
    map_ports(m, 0x514, 8, &fwcfg_dma_ops, fw);
}

void wiring_init(struct machine *m)
{
    init_interrupts(m);

    pit_init(&m->pit, &m->clock, isa_irq(m, 0));
    map_ports(m, 0x40, 4, &pit_ops, &m->pit);
    map_ports(m, 0x61, 1, &pit_port61_ops, &m->pit);

    uart_init(&m->uart, &m->clock, &m->host, HOST_SERIAL0, isa_irq(m, 4));
    map_ports(m, 0x3f8, 8, &uart_ops, &m->uart);

    rtc_init(&m->rtc, &m->clock, &m->host, isa_irq(m, 8));
    rtc_set_memory(&m->rtc, m->bus.low_size, m->bus.ram_size - m->bus.low_size);
    map_ports(m, 0x70, 2, &rtc_ops, &m->rtc);

    i8042_init(&m->i8042, &m->host, isa_irq(m, 1), isa_irq(m, 12), a20_set, m);
    map_ports(m, 0x60, 1, &i8042_data_ops, &m->i8042);
    map_ports(m, 0x64, 1, &i8042_command_ops, &m->i8042);
    map_ports(m, 0x92, 1, &i8042_port92_ops, &m->i8042);

    acpipm_init(&m->acpipm, &m->clock, &m->host, isa_irq(m, 9), true);
    map_ports(m, ACPIPM_EVENT_PORT, 4, &acpipm_event_ops, &m->acpipm);
    map_ports(m, ACPIPM_CONTROL_PORT, 2, &acpipm_control_ops, &m->acpipm);
    map_ports(m, ACPIPM_TIMER_PORT, 4, &acpipm_timer_ops, &m->acpipm);
    map_ports(m, ACPIPM_SMI_PORT, 2, &acpipm_smi_ops, &m->acpipm);

    const struct irq_line gsi = {.set = ioapic_set_line, .arg = &m->ioapic};
    hpet_init(&m->hpet, &m->clock, isa_irq(m, 0), isa_irq(m, 8), gsi, hpet_legacy_changed, m);
    map_mmio(m, HPET_BASE, HPET_SIZE, &hpet_ops, &m->hpet);

    pci_init(&m->pci, isa_irq(m, 0), gsi);
    pci_set_reset_control(&m->pci, &acpipm_reset_ops, &m->acpipm);
    pci_set_smm(&m->pci, (struct irq_line){.set = smi_set, .arg = m}, smram_set, m);
    m->acpipm.smi = smi_command;
    m->acpipm.smi_arg = m;
    map_ports(m, 0xcf8, 8, &pci_ops, &m->pci);

    init_fwcfg(m);

    debugport_init(&m->debugport, &m->host);
    map_ports(m, 0xe9, 1, &debugport_e9_ops, &m->debugport);
    map_ports(m, 0x402, 1, &debugport_402_ops, &m->debugport);
    map_ports(m, 0xf4, 4, &debugport_exit_ops, &m->debugport);
    map_ports(m, 0x80, 1, &debugport_post_ops, &m->debugport);
    map_ports(m, 0xf0, 1, &ferr_ops, m);
}

void wiring_reset(struct machine *m)
{
    pic_reset(&m->pic);
    ioapic_reset(&m->ioapic);
    for (unsigned i = 0; i < m->cpu_count; i++) {
        u64 page = m->lapic[i].base & ~(u64)(PAGE_SIZE - 1);
        lapic_reset(&m->lapic[i]);
        if (page != LAPIC_DEFAULT_BASE)
            (void)bus_move_mmio(&m->bus, &m->apic_bus, LAPIC_DEFAULT_BASE, PAGE_SIZE);
    }
    pit_reset(&m->pit);
    uart_reset(&m->uart);
    rtc_reset(&m->rtc);
    i8042_reset(&m->i8042);
    acpipm_reset(&m->acpipm);
    hpet_reset(&m->hpet);
    pci_reset(&m->pci);
    fwcfg_reset(&m->fwcfg);
    debugport_reset(&m->debugport);
}

void wiring_set_firmware_state(struct machine *m)
{
    static const u8 pirq_irq[PCI_PIRQS] = {10, 11, 10, 11};     /* as the DSDT says (machine/acpi.c) */
    lapic_set_virtual_wire(&m->lapic[0]);
    memcpy(m->pci.isa_bridge.config + 0x60, pirq_irq, sizeof(pirq_irq));
    pic_elcr_ops.write(&m->pic, 0, 1, 1, 1 << (10 - 8) | 1 << (11 - 8));
}
