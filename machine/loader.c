/* The part that all loaders share: which memory is free, the map of memory, the BIOS data area that kernels look at, the
 * processor's state at a 32-bit entry, and the choice of the loader.
 *
 * Kept true: nothing is written where something else was put before; an image from outside can make loading fail, with
 * one line that names it, and nothing worse.
 */
#include "machine/loader.h"

#include "cpu/flags.h"
#include "cpu/mode.h"
#include "machine/acpi.h"
#include "machine/mptable.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define EBDA_START 0x9fc00u            /* the extended BIOS data area, 1 KiB */
#define BIOS_STUB 0xffe00u               /* behind the ACPI and MP tables */
#define MIB 0x100000u

bool loader_error(struct loading *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(l->message, l->message_size, format, args);
    va_end(args);
    return false;
}

/* ---- free memory -------------------------------------------------------------------------------------------------- */

/* The lowest-indexed used range that overlaps [start, end), or -1. */
static int overlap(const struct layout *layout, u64 start, u64 end)
{
    for (unsigned i = 0; i < layout->count; i++)
        if (start < layout->used[i].end && layout->used[i].start < end)
            return (int)i;
    return -1;
}

bool loader_reserve(struct loading *l, const char *what, u64 hpa, u64 size)
{
    struct layout *layout = &l->layout;
    unsigned long long first = hpa, last = hpa + size - 1;
    if (size == 0)
        return true;
    if (hpa + size < hpa || hpa + size > layout->ram_end)
        return loader_error(l, "%s wants memory 0x%llx-0x%llx, but RAM below 4 GiB ends at 0x%llx: give more --memory",
                            what, first, last, (unsigned long long)layout->ram_end);
    if (overlap(layout, hpa, hpa + size) >= 0)
        return loader_error(l, "%s wants memory 0x%llx-0x%llx, which is taken (firmware data or another part)", what,
                            first, last);
    if (layout->count == LAYOUT_RANGES)
        return loader_error(l, "%s: more than %d separate parts to load", what, LAYOUT_RANGES);
    layout->used[layout->count].start = hpa;
    layout->used[layout->count].end = hpa + size;
    layout->count++;
    return true;
}

bool loader_put(struct loading *l, const char *what, u64 hpa, const void *data, u64 size)
{
    if (!loader_reserve(l, what, hpa, size))
        return false;
    if (size && !bus_copy_to(&l->m->bus, hpa, data, size))
        return loader_error(l, "%s: no RAM at 0x%llx", what, (unsigned long long)hpa);
    return true;
}

u64 loader_place(struct loading *l, u64 size, u64 align, u64 low, u64 high, bool highest)
{
    const struct layout *layout = &l->layout;
    if (high > layout->ram_end)
        high = layout->ram_end;
    if (low == 0)
        low = align;
    if (size == 0 || size > high)
        return 0;
    u64 at = highest ? (high - size) & ~(align - 1) : (low + align - 1) & ~(align - 1);
    /* Every step passes one used range for good, so there are at most `count` of them. */
    for (unsigned step = 0; step <= layout->count; step++) {
        if (at < low || at + size > high)
            return 0;
        int i = overlap(layout, at, at + size);
        if (i < 0)
            return loader_reserve(l, "a loader's table", at, size) ? at : 0;
        if (highest) {
            if (layout->used[i].start < size)
                return 0;
            at = (layout->used[i].start - size) & ~(align - 1);
        } else {
            at = (layout->used[i].end + align - 1) & ~(align - 1);
        }
    }
    return 0;
}

u64 loader_place_copy(struct loading *l, const void *data, u64 size, u64 align, u64 low, u64 high, bool highest)
{
    u64 at = loader_place(l, size, align, low, high, highest);
    return at && bus_copy_to(&l->m->bus, at, data, size) ? at : 0;
}

/* ---- what firmware leaves in memory ------------------------------------------------------------------------------- */

static void add_memory(struct loading *l, u64 start, u64 end, u32 type)
{
    if (start < end)
        l->memory[l->memory_count++] = (struct memory_range){start, end - start, type};
}

static void describe_memory(struct loading *l)
{
    const struct bus *bus = &l->m->bus;
    add_memory(l, 0, EBDA_START, 1);
    add_memory(l, EBDA_START, 0xa0000, 2);
    add_memory(l, MACHINE_ACPI_START, MIB, 2);
    add_memory(l, MIB, bus->low_size, 1);
    if (bus->ram_size > bus->low_size)
        add_memory(l, BIT(32), BIT(32) + (bus->ram_size - bus->low_size), 1);
}

/* The answer to every BIOS call of a machine without a BIOS: "function not supported", AH = 0x86 and the carry flag, as
 * real ones answer what they do not know. Kernels that look around in real mode (Xen does) then do without.
 *     push bp; mov bp, sp; or word [bp + 6], 1; pop bp; mov ah, 0x86; iret      and for hardware interrupts: iret */
static const u8 bios_stub[] = {0x55, 0x89, 0xe5, 0x83, 0x4e, 0x06, 0x01, 0x5d, 0xb4, 0x86, 0xcf};

static void write_bios_stub(struct bus *bus)
{
    u32 call = (0xf000u << 16) | (BIOS_STUB & 0xffff), ignore = call + sizeof(bios_stub) - 1;
    (void)bus_copy_to(bus, BIOS_STUB, bios_stub, sizeof(bios_stub));
    for (unsigned vector = 0; vector < 256; vector++) {
        bool service = vector >= 0x10 && !(vector >= 0x70 && vector < 0x78);
        bus_write(bus, 0, 4 * vector, 4, service ? call : ignore);
    }
}

/* The BIOS data area: what kernels without ACPI, and boot code, read. */
static void write_bios_data(struct loading *l)
{
    struct bus *bus = &l->m->bus;
    write_bios_stub(bus);
    bus_write(bus, 0, 0x400, 2, 0x3f8);                 /* COM1 */
    bus_write(bus, 0, 0x40e, 2, EBDA_START >> 4);
    bus_write(bus, 0, 0x413, 2, EBDA_START >> 10);      /* KiB of conventional memory */
    bus_write(bus, 0, EBDA_START, 1, 1);                /* KiB of the EBDA */
}

void loader_enter_flat32(struct loading *l, u64 entry, u16 code_selector, u16 data_selector)
{
    struct cpu *cpu = &l->m->cpu[0];
    u64 table[8] = {0};
    table[code_selector >> 3 & 7] = 0x00cf9b000000ffffu;
    table[data_selector >> 3 & 7] = 0x00cf93000000ffffu;
    u64 gdt = loader_place_copy(l, table, sizeof(table), 16, 0x1000, EBDA_START, false);

    cpu->sys.cr0 = (cpu->sys.cr0 & ~(u64)CR0_PG) | CR0_PE | CR0_ET;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        struct segment *s = &cpu->seg.s[i];
        *s = (struct segment){.limit = 0xffffffff, .selector = i == SEG_CS ? code_selector : data_selector};
        s->access = AR_G | AR_DB | AR_P | AR_S | AR_ACCESSED | AR_WRITABLE | (i == SEG_CS ? AR_CODE : 0);
    }
    cpu->seg.gdtr = (struct table_register){.base = gdt, .limit = sizeof(table) - 1};
    cpu->seg.idtr = (struct table_register){.base = 0, .limit = 0};
    memset(cpu->core.r, 0, sizeof(cpu->core.r));
    cpu_set_rflags(cpu, FL_R1);
    cpu->core.rip = entry;
}

/* ---- the choice --------------------------------------------------------------------------------------------------- */

static bool load_by_format(struct loading *l)
{
    if (linux_probe(&l->kernel))
        return linux_load(l);
    if (multiboot1_probe(&l->kernel))
        return multiboot1_load(l);
    if (multiboot2_probe(&l->kernel))
        return multiboot2_load(l);
    if (elf_probe(&l->kernel))
        return pvh_load(l);
    return loader_error(l, "kernel %s: neither a Linux bzImage nor an ELF or multiboot image", l->kernel.name);
}

bool loader_load(struct machine *m, char *message, size_t message_size)
{
    struct loading *l = calloc(1, sizeof(*l));
    if (!l)
        return hostio_error(message, message_size, "the host has not enough memory");
    l->m = m;
    l->message = message;
    l->message_size = message_size;
    l->layout.ram_end = m->bus.low_size;
    l->layout.used[0].end = 0x1000;                     /* interrupt vectors, BIOS data */
    l->layout.used[1].start = EBDA_START;
    l->layout.used[1].end = MIB;
    l->layout.count = 2;

    bool ok = true;
    struct image unpacked = {0};
    l->kernel = m->config.kernel;
    if (l->kernel.size == 0)
        ok = loader_error(l, "no kernel: give --kernel FILE");
    if (ok && loader_is_gzip(&l->kernel)) {
        ok = loader_gunzip(&l->kernel, &unpacked, m->bus.ram_size, message, message_size);
        l->kernel = unpacked;
    }
    if (ok) {
        describe_memory(l);
        write_bios_data(l);
        l->rsdp = acpi_build(m, l->rsdp_bytes);
        mptable_build(m);
        ok = load_by_format(l);
    }
    hostio_free_image(&unpacked);
    free(l);
    return ok;
}
