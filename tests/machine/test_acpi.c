/* ACPI and MP tables: found from the root pointer, checksummed, and they fit for the largest board; AML's length encodings. */
#include "images.h"

#include "machine/acpi.h"
#include "machine/aml.h"
#include "machine/mptable.h"

static u8 sum(const u8 *data, u32 size)
{
    u8 total = 0;
    while (size--)
        total = (u8)(total + *data++);
    return total;
}

static const u8 *find_table(struct machine *m, const u8 *rsdp, const char *signature)
{
    const u8 *xsdt = m->bus.ram + load64(rsdp + 24);
    for (u32 at = 36; at < load32(xsdt + 4); at += 8) {
        const u8 *table = m->bus.ram + load64(xsdt + at);
        if (memcmp(table, signature, 4) == 0)
            return table;
    }
    return NULL;
}

static void check_tables(unsigned cpus)
{
    struct machine *m = memory_machine(4 << 20);
    u8 rsdp[36];
    m->cpu_count = cpus;
    u64 at = acpi_build(m, rsdp);
    ck_assert_uint_ge(at, MACHINE_ACPI_START);
    ck_assert_uint_eq(at & 15, 0);
    ck_assert_int_eq(memcmp(m->bus.ram + at, rsdp, 36), 0);
    ck_assert_int_eq(memcmp(rsdp, "RSD PTR ", 8), 0);
    ck_assert_uint_eq(sum(rsdp, 20), 0);
    ck_assert_uint_eq(sum(rsdp, 36), 0);

    static const char *const signatures[] = {"FACP", "APIC", "HPET"};
    for (unsigned i = 0; i < 3; i++) {
        const u8 *table = find_table(m, rsdp, signatures[i]);
        ck_assert_msg(table != NULL, "no %s", signatures[i]);
        ck_assert_uint_eq(sum(table, load32(table + 4)), 0);
        ck_assert_uint_le((u64)(table - m->bus.ram) + load32(table + 4), 0x100000);
    }
    const u8 *fadt = find_table(m, rsdp, "FACP");
    const u8 *dsdt = m->bus.ram + load32(fadt + 40), *facs = m->bus.ram + load32(fadt + 36);
    ck_assert_int_eq(memcmp(dsdt, "DSDT", 4), 0);
    ck_assert_uint_eq(sum(dsdt, load32(dsdt + 4)), 0);
    ck_assert_uint_eq(load64(fadt + 140), load32(fadt + 40));
    ck_assert_int_eq(memcmp(facs, "FACS", 4), 0);
    ck_assert_uint_eq((u64)(facs - m->bus.ram) & 63, 0);

    /* One local APIC each, then the I/O APIC, in an unbroken row of entries. */
    const u8 *madt = find_table(m, rsdp, "APIC");
    unsigned lapics = 0, ioapics = 0;
    u32 offset = 44, end = load32(madt + 4);
    while (offset < end) {
        lapics += madt[offset] == 0;
        ioapics += madt[offset] == 1;
        ck_assert_uint_ge(madt[offset + 1], 2);
        offset += madt[offset + 1];
    }
    ck_assert_uint_eq(offset, end);
    ck_assert_uint_eq(lapics, cpus);
    ck_assert_uint_eq(ioapics, 1);
    m->cpu_count = 1;
    memory_machine_free(m);
}

START_TEST(tables_small) { check_tables(1); }
END_TEST
START_TEST(tables_largest) { check_tables(MACHINE_CPUS); }
END_TEST

static void check_mp_table(unsigned cpus)
{
    struct machine *m = memory_machine(4 << 20);
    free(m->cpu);
    m->cpu = calloc(cpus, sizeof(*m->cpu));
    m->cpu_count = cpus;
    mptable_build(m);
    const u8 *pointer = m->bus.ram + MPTABLE_POINTER, *table = m->bus.ram + load32(pointer + 4);
    ck_assert_int_eq(memcmp(pointer, "_MP_", 4), 0);
    ck_assert_uint_eq(sum(pointer, 16), 0);
    ck_assert_int_eq(memcmp(table, "PCMP", 4), 0);
    u32 size = load16(table + 4), at = 44;
    ck_assert_uint_eq(sum(table, size), 0);
    ck_assert_uint_le(MPTABLE_START + size, MPTABLE_POINTER);
    unsigned processors = 0;
    for (unsigned i = 0; i < load16(table + 34); i++) {
        processors += table[at] == 0;
        at += table[at] == 0 ? 20 : 8;
    }
    ck_assert_uint_eq(at, size);
    ck_assert_uint_eq(processors, cpus);
    memory_machine_free(m);
}

START_TEST(mp_tables)
{
    check_mp_table(1);
    check_mp_table(MACHINE_CPUS);
}
END_TEST

/* [ACPI "Package Length Encoding"]: the length counts its own bytes. */
START_TEST(package_lengths)
{
    static u8 buffer[1 << 21];
    static const struct { u32 content; u8 first; u32 bytes; } cases[] = {
        {0, 1, 1}, {62, 63, 1}, {63, 0x41, 2}, {4093, 0x4f, 2}, {4094, 0x81, 3}, {1 << 20, 0xc4, 4}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        struct aml a = {.data = buffer, .capacity = sizeof(buffer)};
        u32 mark = aml_open(&a, AML_BUFFER, NULL);
        for (u32 n = 0; n < cases[i].content; n++)
            aml_byte(&a, 0x55);
        aml_close(&a, mark);
        ck_assert(!a.overflow);
        ck_assert_uint_eq(a.size, 1 + cases[i].bytes + cases[i].content);
        ck_assert_uint_eq(buffer[1], cases[i].first);
        u32 length = cases[i].bytes == 1 ? buffer[1] : buffer[1] & 15;
        for (u32 n = 1; n < cases[i].bytes; n++)
            length |= (u32)buffer[1 + n] << (8 * n - 4);
        ck_assert_uint_eq(length, cases[i].bytes + cases[i].content);
    }
}
END_TEST

START_TEST(names_and_ids)
{
    u8 buffer[64];
    struct aml a = {.data = buffer, .capacity = sizeof(buffer)};
    aml_eisa_id(&a, "PNP0A03");
    ck_assert_int_eq(memcmp(buffer, (const u8[]){0x0c, 0x41, 0xd0, 0x0a, 0x03}, 5), 0);
    a.size = 0;
    aml_path(&a, "\\_SB.PCI0.X");
    ck_assert_int_eq(memcmp(buffer, "\\\x2f\x03_SB_PCI0X___", 15), 0);
    a.size = 0;
    for (unsigned i = 0; i < 20; i++)
        aml_integer(&a, 0x12345678);
    ck_assert(a.overflow);
    ck_assert_uint_le(a.size, sizeof(buffer));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        tables_small, tables_largest, mp_tables, package_lengths, names_and_ids,
    };
    return suite_run_tests("acpi", tests, ARRAY_SIZE(tests), NULL, NULL, CK_FORK_GETENV);
}
