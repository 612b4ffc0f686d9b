/* The I/O APIC: redirection, edge and level, masking, remote IRR and both ways to clear it. */
#include "tests/devices/fake.h"
#include "devices/ioapic.h"

static struct apic_bus bus;
static struct lapic lapic[2];
static struct ioapic ioapic;
static bool extint;

static void on_signal(void *arg, unsigned cpu, enum lapic_signal kind, unsigned value)
{
    (void)arg;
    if (kind == LAPIC_EXTINT && cpu == 0)
        extint = value;
}

static void wr(unsigned reg, u32 value)
{
    fake_write(&ioapic_ops, &ioapic, 0, 4, reg);
    fake_write(&ioapic_ops, &ioapic, 0x10, 4, value);
}
static u32 rd(unsigned reg)
{
    fake_write(&ioapic_ops, &ioapic, 0, 4, reg);
    return (u32)fake_read(&ioapic_ops, &ioapic, 0x10, 4);
}
static void entry(unsigned pin, u64 value)
{
    wr(0x11 + 2 * pin, (u32)(value >> 32));
    wr(0x10 + 2 * pin, (u32)value);
}
static int take(unsigned cpu)
{
    int vector = lapic_highest(&lapic[cpu]);
    if (vector >= 0)
        lapic_acknowledge(&lapic[cpu]);
    return vector;
}

static void start(void)
{
    fake_start();
    const struct apic_outputs out = {.signal = on_signal};
    apic_bus_init(&bus, lapic, 2, 39, &fake_clock, &out);
    ioapic_init(&ioapic, &bus, 2);
    apic_bus_set_eoi(&bus, ioapic_eoi, &ioapic);
    for (unsigned cpu = 0; cpu < 2; cpu++)
        apic_bus_ops.write(&bus, cpu, 0xf0, 4, 0x1ff);
}

START_TEST(identity)
{
    start();
    ck_assert_uint_eq(rd(1), 0x00170020);
    ck_assert_uint_eq(rd(0), 2u << 24);
    ck_assert_uint_eq(rd(0x10), 0x10000);
    ck_assert_uint_eq(rd(0x3e), 0x10000);
    ck_assert_uint_eq(rd(0x40), 0);
    ck_assert_uint_eq(rd(0xff), 0);
}
END_TEST

START_TEST(edges)
{
    start();
    ioapic_set_line(&ioapic, 4, true); /* masked: lost */
    entry(4, 1ull << 56 | 0x34);
    ck_assert_int_eq(take(1), -1);
    ioapic_set_line(&ioapic, 4, false);
    ioapic_set_line(&ioapic, 4, true);
    ck_assert_int_eq(take(0), -1);
    ck_assert_int_eq(take(1), 0x34);
    lapic_eoi(&lapic[1]);
    ck_assert_int_eq(take(1), -1);
    ck_assert_uint_eq(rd(0x18), 0x34); /* no remote IRR for edges */
}
END_TEST

START_TEST(levels_and_eoi)
{
    start();
    entry(9, 0x8039);
    ioapic_set_line(&ioapic, 9, true);
    ck_assert_int_eq(take(0), 0x39);
    ck_assert_uint_eq(rd(0x22), 0xc039);
    lapic_eoi(&lapic[0]);
    ck_assert_int_eq(take(0), 0x39); /* still asserted */
    ioapic_set_line(&ioapic, 9, false);
    lapic_eoi(&lapic[0]);
    ck_assert_int_eq(take(0), -1);
    ck_assert_uint_eq(rd(0x22), 0x8039);
    entry(9, 0x18039);
    ioapic_set_line(&ioapic, 9, true);
    ck_assert_int_eq(take(0), -1);
    entry(9, 0x8039); /* unmasked while asserted */
    ck_assert_int_eq(take(0), 0x39);
}
END_TEST

START_TEST(directed_eoi_and_edge_trick)
{
    start();
    apic_bus_ops.write(&bus, 0, 0xf0, 4, 0x11ff);
    entry(9, 0x8039);
    ioapic_set_line(&ioapic, 9, true);
    ck_assert_int_eq(take(0), 0x39);
    lapic_eoi(&lapic[0]);
    ck_assert_int_eq(take(0), -1);
    ioapic_set_line(&ioapic, 9, false);
    fake_write(&ioapic_ops, &ioapic, 0x40, 4, 0x39);
    ck_assert_uint_eq(rd(0x22), 0x8039);
    ioapic_set_line(&ioapic, 9, true);
    ck_assert_uint_eq(rd(0x22), 0xc039);
    entry(9, 0x10039), entry(9, 0x18039);
    ck_assert_uint_eq(rd(0x22), 0x18039);
}
END_TEST

START_TEST(extint_lasts_until_the_pic_is_content)
{
    start();
    entry(0, 0x700);
    ioapic_set_line(&ioapic, 0, true);
    ck_assert(extint);
    apic_bus_set_lint(&bus, 0, false);
    ck_assert(!extint);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    for (unsigned i = 0; i < 300; i++) {
        fake_fuzz(&ioapic_ops, &ioapic, 0x50, 200);
        for (unsigned reg = 0; reg < 256; reg++)
            wr(reg, (u32)(reg * 0x9e3779b1u * i));
        ioapic_set_line(&ioapic, i % 40, i & 1);
        take(0);
        lapic_eoi(&lapic[0]);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {identity, edges, levels_and_eoi, directed_eoi_and_edge_trick,
                                  extint_lasts_until_the_pic_is_content, survives_anything};
    return fake_run("ioapic", tests, ARRAY_SIZE(tests));
}
