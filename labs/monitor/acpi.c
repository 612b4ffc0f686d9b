/*
 * acpi: the tables that a hypervisor such as Xen looks for: RSDP, XSDT, FADT, FACS, MADT, and a DSDT that says how to switch off.
 *
 * Kept true: every table's checksum is 0, and they tell of nothing but what KVM and this monitor serve.
 *
 * Follows the ACPI specification 4.0, "ACPI Software Programming Model".
 */
#include <string.h>

#include "monitor.h"

enum { HEADER_SIZE = 36, FADT_SIZE = 244, FACS_SIZE = 64 };

struct tables {
    uint8_t *memory; /* the guest's */
    uint32_t next_gpa;
};

static void put16(uint8_t *at, uint16_t value) { memcpy(at, &value, 2); }
static void put32(uint8_t *at, uint32_t value) { memcpy(at, &value, 4); }
static void put64(uint8_t *at, uint64_t value) { memcpy(at, &value, 8); }

static void set_checksum(uint8_t *bytes, size_t size, uint8_t *checksum)
{
    uint8_t sum = 0;
    *checksum = 0;
    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    *checksum = -sum;
}

/* Room for a table, zeroed, at a multiple of 64. */
static uint8_t *take(struct tables *tables, size_t size, uint32_t *gpa)
{
    *gpa = tables->next_gpa;
    tables->next_gpa = (tables->next_gpa + size + 63) & ~63u;
    return memset(tables->memory + *gpa, 0, size);
}

/* The header that all tables but RSDP and FACS begin with, when the rest stands. */
static void seal(uint8_t *table, const char *signature, uint32_t size, uint8_t revision)
{
    memcpy(table, signature, 4);
    put32(table + 4, size);
    table[8] = revision;
    memcpy(table + 10, "NESTOR", 6);
    memcpy(table + 16, "MONITOR ", 8);
    put32(table + 24, 1);
    memcpy(table + 28, "NEST", 4);
    put32(table + 32, 1);
    set_checksum(table, size, table + 9);
}

/* \_S5: the sleep type that switches off, for both PM1 control registers. */
static uint32_t build_dsdt(struct tables *tables)
{
    static const uint8_t s5[] = {0x08 /* NameOp */, '_', 'S', '5', '_', 0x12 /* PackageOp */, 8, 4,
                                 0x0a, ACPI_SLEEP_TYPE_OFF, 0x0a, ACPI_SLEEP_TYPE_OFF, 0x00, 0x00};
    uint32_t gpa;
    uint8_t *table = take(tables, HEADER_SIZE + sizeof s5, &gpa);
    memcpy(table + HEADER_SIZE, s5, sizeof s5);
    seal(table, "DSDT", HEADER_SIZE + sizeof s5, 2);
    return gpa;
}

static uint32_t build_facs(struct tables *tables)
{
    uint32_t gpa;
    uint8_t *table = take(tables, FACS_SIZE, &gpa);
    memcpy(table, "FACS", 4);
    put32(table + 4, FACS_SIZE);
    table[32] = 1; /* version */
    return gpa;
}

/* A generic address structure: `bits` of I/O space at a port. */
static void put_port(uint8_t *at, uint8_t bits, uint16_t port)
{
    at[0] = 1;
    at[1] = bits;
    at[3] = 2; /* accessed by words */
    put64(at + 4, port);
}

static uint32_t build_fadt(struct tables *tables, uint32_t facs_gpa, uint32_t dsdt_gpa)
{
    uint32_t gpa;
    uint8_t *table = take(tables, FADT_SIZE, &gpa);
    put32(table + 36, facs_gpa);
    put32(table + 40, dsdt_gpa);
    put16(table + 46, IRQ_SCI);
    put32(table + 56, PORT_ACPI_EVENT);
    put32(table + 64, PORT_ACPI_CONTROL);
    table[88] = 4; /* length of the event block, of the control block */
    table[89] = 2;
    put16(table + 96, 0xffff); /* no C2, no C3 */
    put16(table + 98, 0xffff);
    table[108] = 0x32;         /* the RTC's century */
    put16(table + 109, 1 << 2 | 1 << 4); /* no VGA, no ASPM */
    put32(table + 112, 1 | 1 << 4 | 1 << 5); /* WBINVD works; no power button, no sleep button as fixed features */
    put64(table + 132, facs_gpa);
    put64(table + 140, dsdt_gpa);
    put_port(table + 148, 32, PORT_ACPI_EVENT);
    put_port(table + 172, 16, PORT_ACPI_CONTROL);
    seal(table, "FACP", FADT_SIZE, 4);
    return gpa;
}

/* One processor, KVM's I/O APIC, the SCI level-triggered and active high, as KVM's interrupt lines are. */
static uint32_t build_madt(struct tables *tables)
{
    static const uint8_t processor[] = {0, 8, 0, 0, 1, 0, 0, 0};
    uint32_t gpa, at = HEADER_SIZE + 8;
    uint8_t *table = take(tables, 128, &gpa);
    put32(table + 36, 0xfee00000);
    put32(table + 40, 1); /* there is an 8259 pair */
    memcpy(table + at, processor, sizeof processor);
    at += sizeof processor;
    table[at] = 1;
    table[at + 1] = 12;
    put32(table + at + 4, 0xfec00000);
    at += 12;
    table[at] = 2; /* an override: IRQ 9 */
    table[at + 1] = 10;
    table[at + 3] = IRQ_SCI;
    put32(table + at + 4, IRQ_SCI);
    put16(table + at + 8, 1 | 3 << 2);
    at += 10;
    seal(table, "APIC", at, 3);
    return gpa;
}

void acpi_build(struct guest *guest)
{
    struct tables tables = {.memory = guest->memory, .next_gpa = GPA_ACPI + 64};
    uint32_t facs = build_facs(&tables), dsdt = build_dsdt(&tables), gpa;
    uint32_t fadt = build_fadt(&tables, facs, dsdt), madt = build_madt(&tables);
    uint8_t *xsdt = take(&tables, HEADER_SIZE + 16, &gpa), *rsdp = guest->memory + GPA_ACPI;
    put64(xsdt + HEADER_SIZE, fadt);
    put64(xsdt + HEADER_SIZE + 8, madt);
    seal(xsdt, "XSDT", HEADER_SIZE + 16, 1);
    memset(rsdp, 0, 36);
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "NESTOR", 6);
    rsdp[15] = 2;
    put32(rsdp + 20, 36);
    put64(rsdp + 24, gpa);
    set_checksum(rsdp, 20, rsdp + 8);
    set_checksum(rsdp, 36, rsdp + 32);
}
