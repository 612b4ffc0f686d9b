/* The ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET and a DSDT assembled by machine/aml.h.
 *
 * They describe the board as machine/wiring.c builds it, no more and no less. Layouts follow [ACPI "ACPI System
 * Description Tables"], FADT of revision 4 (ACPI 4.0: 244 bytes).
 *
 * Kept true: every table's checksum is 0; FACS is 64-byte aligned; everything fits (a test builds the largest board).
 */
#include "machine/acpi.h"

#include "machine/aml.h"

#include <stdlib.h>

#define AREA_SIZE (MACHINE_ACPI_END - MACHINE_ACPI_START)
#define HEADER_SIZE 36u
#define SCI_IRQ 9u

/* The tables while they grow: `at` is the next free byte of the area. */
struct tables {
    struct machine *m;
    u8 *area;
    u32 at;
    u32 table[8];                      /* hpa of what RSDT and XSDT list */
    unsigned count;
};

static u8 *area_take(struct tables *t, u32 size, u32 align, u32 *hpa)
{
    u32 at = (t->at + align - 1) & ~(align - 1);
    if (size > AREA_SIZE || at > AREA_SIZE - size)
        panic("the ACPI tables do not fit");
    t->at = at + size;
    *hpa = MACHINE_ACPI_START + at;
    return t->area + at;
}

static u8 checksum(const u8 *data, u32 size)
{
    u8 sum = 0;
    for (u32 i = 0; i < size; i++)
        sum = (u8)(sum + data[i]);
    return (u8)(0 - sum);
}

/* Fills in the header and the checksum of a finished table. */
static void seal(u8 *table, const char *signature, u32 size, u8 revision)
{
    memcpy(table, signature, 4);
    store32(table + 4, size);
    table[8] = revision;
    table[9] = 0;
    memcpy(table + 10, "NESTOR", 6);
    memcpy(table + 16, "NESTORPC", 8);
    store32(table + 24, 1);
    memcpy(table + 28, "NSTR", 4);
    store32(table + 32, 1);
    table[9] = checksum(table, size);
}

/* Puts a table whose body follows the header into the area; listed ones are found through RSDT and XSDT. */
static u32 add_table(struct tables *t, u8 *table, const char *signature, u32 size, u8 revision, bool listed)
{
    u32 hpa;
    seal(table, signature, size, revision);
    memcpy(area_take(t, size, 16, &hpa), table, size);
    if (listed)
        t->table[t->count++] = hpa;
    return hpa;
}

/* ---- DSDT --------------------------------------------------------------------------------------------------------- */

static void add_isa_device(struct aml *a, const char *name, const char *id, u16 port, u8 ports, u16 port2, int irq)
{
    u32 device = aml_open(a, AML_EXT_DEVICE, name);
    aml_name_eisa(a, "_HID", id);
    aml_name_integer(a, "_STA", 15);
    struct aml_resources r = aml_open_resources(a, "_CRS");
    if (port)
        aml_io(a, port, ports);
    if (port2)
        aml_io(a, port2, ports);
    if (irq >= 0)
        aml_irq(a, (unsigned)irq);
    aml_close_resources(a, r);
    aml_close(a, device);
}

/* Entries of _PRT: every device's four pins, turned by the device number as the board's slots are wired. */
static void add_routing(struct aml *a, const u8 target[4])
{
    aml_op(a, AML_RETURN);
    u32 package = aml_open_package(a, 32 * 4);
    for (u32 device = 0; device < 32; device++) {
        for (u32 pin = 0; pin < 4; pin++) {
            u32 entry = aml_open_package(a, 4);
            aml_integer(a, device << 16 | 0xffff);
            aml_integer(a, pin);
            aml_integer(a, 0);
            aml_integer(a, target[(device + pin) & 3]);
            aml_close(a, entry);
        }
    }
    aml_close(a, package);
}

static void add_pci_root(struct aml *a)
{
    static const u8 pic_irq[4] = {10, 11, 10, 11}, apic_pin[4] = {16, 17, 18, 19};
    u32 root = aml_open(a, AML_EXT_DEVICE, "PCI0");
    aml_name_eisa(a, "_HID", "PNP0A03");
    aml_name_integer(a, "_UID", 0);
    struct aml_resources r = aml_open_resources(a, "_CRS");
    aml_word_range(a, AML_SPACE_BUS, 0, 0xff);
    aml_io(a, 0xcf8, 8);
    aml_word_range(a, AML_SPACE_IO, 0, 0xcf7);
    aml_word_range(a, AML_SPACE_IO, 0xd00, 0xffff);
    aml_dword_range(a, AML_SPACE_MEMORY, 0xa0000, 0xbffff);
    aml_dword_range(a, AML_SPACE_MEMORY, MACHINE_LOW_LIMIT, 0xfebfffff);
    aml_close_resources(a, r);

    u32 method = aml_open_method(a, "_PRT", 0);
    u32 branch = aml_open(a, AML_IF, NULL);
    aml_path(a, "PICF");
    add_routing(a, apic_pin);
    aml_close(a, branch);
    add_routing(a, pic_irq);
    aml_close(a, method);

    u32 isa = aml_open(a, AML_EXT_DEVICE, "ISA_");
    aml_name_integer(a, "_ADR", 0x00010000);
    u32 com1 = aml_open(a, AML_EXT_DEVICE, "COM1");
    aml_name_eisa(a, "_HID", "PNP0501");
    aml_name_integer(a, "_UID", 1);
    aml_name_integer(a, "_STA", 15);
    r = aml_open_resources(a, "_CRS");
    aml_io(a, 0x3f8, 8);
    aml_irq(a, 4);
    aml_close_resources(a, r);
    aml_close(a, com1);
    add_isa_device(a, "RTC_", "PNP0B00", 0x70, 2, 0, 8);
    add_isa_device(a, "KBD_", "PNP0303", 0x60, 1, 0x64, 1);
    add_isa_device(a, "MOU_", "PNP0F13", 0, 0, 0, 12);
    aml_close(a, isa);
    aml_close(a, root);
}

static void add_hpet_device(struct aml *a)
{
    u32 device = aml_open(a, AML_EXT_DEVICE, "HPET");
    aml_name_eisa(a, "_HID", "PNP0103");
    aml_name_integer(a, "_UID", 0);
    struct aml_resources r = aml_open_resources(a, "_CRS");
    aml_memory32_fixed(a, 0xfed00000, 0x400);
    aml_close_resources(a, r);
    aml_close(a, device);
}

static void add_processors(struct aml *a, unsigned count)
{
    static const char digits[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < count; i++) {
        const char name[5] = {'C', '0', digits[i >> 4 & 15], digits[i & 15], 0};
        u32 device = aml_open(a, AML_EXT_DEVICE, name);
        aml_name_string(a, "_HID", "ACPI0007");
        aml_name_integer(a, "_UID", i);
        aml_close(a, device);
    }
}

static u32 build_dsdt(struct tables *t, u8 *scratch)
{
    struct aml a = {.data = scratch, .size = HEADER_SIZE, .capacity = AREA_SIZE};
    aml_name_integer(&a, "\\PICF", 0);
    u32 pic = aml_open_method(&a, "\\_PIC", 1);
    aml_op(&a, AML_STORE);
    aml_op(&a, AML_ARG0);
    aml_path(&a, "\\PICF");
    aml_close(&a, pic);

    aml_op(&a, AML_NAME);               /* soft off: SLP_TYP 5 for PM1a, PM1b */
    aml_path(&a, "\\_S5_");
    u32 s5 = aml_open_package(&a, 4);
    aml_integer(&a, 5);
    aml_integer(&a, 5);
    aml_integer(&a, 0);
    aml_integer(&a, 0);
    aml_close(&a, s5);

    u32 sb = aml_open(&a, AML_SCOPE, "\\_SB_");
    add_pci_root(&a);
    add_hpet_device(&a);
    add_processors(&a, t->m->cpu_count);
    aml_close(&a, sb);
    if (a.overflow)
        panic("the DSDT does not fit");
    return add_table(t, scratch, "DSDT", a.size, 2, false);
}

/* ---- the flat tables ---------------------------------------------------------------------------------------------- */

/* Generic address structure: space 0 memory, 1 I/O. */
static void put_address(u8 *p, u8 space, u8 bits, u8 access, u64 address)
{
    p[0] = space;
    p[1] = bits;
    p[2] = 0;
    p[3] = access;
    store64(p + 4, address);
}

static void build_fadt(struct tables *t, u32 dsdt)
{
    u8 f[244] = {0};
    u32 facs;
    u8 *p = area_take(t, 64, 64, &facs);
    memcpy(p, "FACS", 4);
    store32(p + 4, 64);
    p[32] = 1;                          /* version */

    store32(f + 36, facs);
    store32(f + 40, dsdt);
    f[45] = 1;                          /* a desktop */
    store16(f + 46, SCI_IRQ);
    store32(f + 48, 0xb2);              /* SMI_CMD, and what switches ACPI mode on and off */
    f[52] = 0xf1;
    f[53] = 0xf0;
    store32(f + 56, 0x600);             /* PM1a event and control blocks, PM timer */
    store32(f + 64, 0x604);
    store32(f + 76, 0x608);
    f[88] = 4;
    f[89] = 2;
    f[91] = 4;
    store16(f + 96, 0xfff);             /* no C2, no C3 */
    store16(f + 98, 0xfff);
    f[108] = 0x32;                      /* the century in CMOS */
    store16(f + 109, 1 << 0 | 1 << 1 | 1 << 2);         /* ISA devices, 8042, no VGA */
    store32(f + 112, 1 << 0 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 10);
    /* WBINVD works, C1, no fixed power or sleep button, 32-bit PM timer, reset register */
    put_address(f + 116, 1, 8, 1, 0xcf9);
    f[128] = 6;
    store64(f + 140, dsdt);
    put_address(f + 148, 1, 32, 2, 0x600);
    put_address(f + 172, 1, 16, 2, 0x604);
    put_address(f + 208, 1, 32, 3, 0x608);
    add_table(t, f, "FACP", sizeof(f), 4, true);
}

static void build_madt(struct tables *t, u8 *scratch)
{
    u32 n = 44;
    memset(scratch, 0, AREA_SIZE);
    store32(scratch + 36, LAPIC_DEFAULT_BASE);
    store32(scratch + 40, 1);           /* there is an 8259 pair */
    for (unsigned i = 0; i < t->m->cpu_count; i++) {
        u8 *p = scratch + n;
        if (i < 255) {
            p[0] = 0, p[1] = 8, p[2] = (u8)i, p[3] = (u8)i;
            store32(p + 4, 1);
        } else {
            p[0] = 9, p[1] = 16;
            store32(p + 4, i);
            store32(p + 8, 1);
            store32(p + 12, i);
        }
        n += p[1];
    }
    u8 *p = scratch + n;
    p[0] = 1, p[1] = 12, p[2] = (u8)(t->m->ioapic.id >> 24);
    store32(p + 4, IOAPIC_BASE);
    n += 12;
    p = scratch + n;                    /* ISA IRQ 0 is on pin 2 */
    p[0] = 2, p[1] = 10, p[3] = 0;
    store32(p + 4, 2);
    n += 10;
    p = scratch + n;                    /* the SCI: level, active high */
    p[0] = 2, p[1] = 10, p[3] = SCI_IRQ;
    store32(p + 4, SCI_IRQ);
    store16(p + 8, 0x000d);
    n += 10;
    p = scratch + n;                    /* NMI on LINT1 of every processor */
    p[0] = 4, p[1] = 6, p[2] = 0xff, p[5] = 1;
    n += 6;
    add_table(t, scratch, "APIC", n, 3, true);
}

static void build_hpet(struct tables *t)
{
    u8 h[56] = {0};
    store32(h + 36, 0x8086a201);        /* as the device's capabilities: three 64-bit comparators, legacy routing */
    put_address(h + 40, 0, 64, 0, 0xfed00000);
    store16(h + 53, 128);               /* the least period, in ticks, that is sure to lose no interrupt */
    add_table(t, h, "HPET", sizeof(h), 1, true);
}

u64 acpi_build(struct machine *m, u8 rsdp[36])
{
    struct tables t = {.m = m, .area = calloc(1, AREA_SIZE)};
    u8 *scratch = calloc(1, AREA_SIZE);
    if (!t.area || !scratch)
        panic("the host has not enough memory for the ACPI tables");

    u32 root;
    u8 *pointer = area_take(&t, 36, 16, &root);
    u32 dsdt = build_dsdt(&t, scratch);
    build_fadt(&t, dsdt);
    build_madt(&t, scratch);
    build_hpet(&t);

    u8 rsdt[HEADER_SIZE + 8 * 4] = {0}, xsdt[HEADER_SIZE + 8 * 8] = {0};
    unsigned count = t.count;
    for (unsigned i = 0; i < count; i++) {
        store32(rsdt + HEADER_SIZE + 4 * i, t.table[i]);
        store64(xsdt + HEADER_SIZE + 8 * i, t.table[i]);
    }
    u32 rsdt_hpa = add_table(&t, rsdt, "RSDT", HEADER_SIZE + 4 * count, 1, false);
    u32 xsdt_hpa = add_table(&t, xsdt, "XSDT", HEADER_SIZE + 8 * count, 1, false);

    memcpy(pointer, "RSD PTR ", 8);
    memcpy(pointer + 9, "NESTOR", 6);
    pointer[15] = 2;
    store32(pointer + 16, rsdt_hpa);
    store32(pointer + 20, 36);
    store64(pointer + 24, xsdt_hpa);
    pointer[8] = checksum(pointer, 20);
    pointer[32] = checksum(pointer, 36);
    memcpy(rsdp, pointer, 36);
    if (!bus_copy_to(&m->bus, MACHINE_ACPI_START, t.area, t.at))
        panic("no RAM for the ACPI tables");
    free(t.area);
    free(scratch);
    return root;
}
