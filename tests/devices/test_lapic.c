/* Local APICs: priorities, EOI, LVT, timer in its three modes, IPIs by every kind of destination, x2APIC checks. */
#include "tests/devices/fake.h"
#include "devices/lapic.h"

#define CPUS 20
static struct apic_bus bus;
static struct lapic lapic[CPUS];
static bool intr[CPUS], extint[CPUS];
static unsigned nmis[CPUS], inits[CPUS], smis[CPUS], sipi[CPUS];
static unsigned eois, eoi_vector;

static void on_signal(void *arg, unsigned cpu, enum lapic_signal kind, unsigned value)
{
    (void)arg;
    switch (kind) {
    case LAPIC_INTR: intr[cpu] = value; break;
    case LAPIC_EXTINT: extint[cpu] = value; break;
    case LAPIC_NMI: nmis[cpu]++; break;
    case LAPIC_SMI: smis[cpu]++; break;
    case LAPIC_INIT: inits[cpu]++; break;
    case LAPIC_SIPI: sipi[cpu] = value; break;
    }
}

static u64 tsc_to_ns(void *arg, unsigned cpu, u64 tsc)
{
    (void)arg, (void)cpu;
    return tsc / 2; /* a 2 GHz TSC */
}

static void on_eoi(void *arg, u8 vector)
{
    (void)arg;
    eois++;
    eoi_vector = vector;
}

static u32 rd(unsigned cpu, u64 off) { return (u32)apic_bus_ops.read(&bus, cpu, off, 4); }
static void wr(unsigned cpu, u64 off, u32 value) { apic_bus_ops.write(&bus, cpu, off, 4, value); }

static void start(void)
{
    fake_start();
    memset(intr, 0, sizeof intr);
    memset(extint, 0, sizeof extint);
    memset(nmis, 0, sizeof nmis);
    memset(inits, 0, sizeof inits);
    memset(smis, 0, sizeof smis);
    memset(sipi, 0, sizeof sipi);
    eois = eoi_vector = 0;
    const struct apic_outputs out = {.signal = on_signal, .tsc_to_ns = tsc_to_ns};
    apic_bus_init(&bus, lapic, CPUS, 39, &fake_clock, &out);
    apic_bus_set_eoi(&bus, on_eoi, NULL);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        wr(cpu, 0xf0, 0x1ff);
}

static void x2apic(unsigned cpu) { ck_assert(lapic_set_base(&lapic[cpu], lapic[cpu].base | APIC_BASE_EXTD)); }

START_TEST(reset_state)
{
    start();
    lapic_reset(&lapic[0]), lapic_reset(&lapic[3]);
    ck_assert_uint_eq(lapic[0].base, 0xfee00900);
    ck_assert_uint_eq(lapic[3].base, 0xfee00800);
    ck_assert_uint_eq(rd(3, 0x20), 3u << 24);
    ck_assert_uint_eq(rd(0, 0x30), 0x01060015);
    ck_assert_uint_eq(rd(0, 0xf0), 0xff);
    ck_assert_uint_eq(rd(0, 0xe0), ~0u);
    for (u64 off = 0x320; off <= 0x370; off += 0x10)
        ck_assert_uint_eq(rd(0, off), 0x10000);
    wr(0, 0x350, 0x700); /* disabled by software: the mask stays */
    ck_assert_uint_eq(rd(0, 0x350), 0x10700);
    ck_assert(!lapic_set_irr(&lapic[0], 0x40, false));
}
END_TEST

START_TEST(priorities)
{
    start();
    lapic_set_irr(&lapic[0], 0x41, false);
    lapic_set_irr(&lapic[0], 0x45, false);
    ck_assert(intr[0]);
    ck_assert_int_eq(lapic_highest(&lapic[0]), 0x45);
    ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0x45);
    ck_assert(!intr[0]); /* 0x41 is of the same class */
    ck_assert_uint_eq(rd(0, 0xa0), 0x40);
    lapic_set_irr(&lapic[0], 0x51, false);
    ck_assert(intr[0]);
    wr(0, 0x80, 0x50);
    ck_assert(!intr[0]);
    ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0xff); /* spurious */
    ck_assert_uint_eq(lapic_tpr_get(&lapic[0]), 5);
    lapic_tpr_set(&lapic[0], 0);
    ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0x51);
    ck_assert_uint_eq(rd(0, 0x120), 0x20020);
    wr(0, 0xb0, 0), wr(0, 0xb0, 0);
    ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0x41);
    wr(0, 0xb0, 0);
    ck_assert_uint_eq(eois, 0); /* all were edges */
}
END_TEST

START_TEST(eoi_broadcast_of_level_interrupts)
{
    start();
    lapic_set_irr(&lapic[2], 0x61, true);
    lapic_acknowledge(&lapic[2]);
    lapic_eoi(&lapic[2]);
    ck_assert_uint_eq(eois, 1);
    ck_assert_uint_eq(eoi_vector, 0x61);
    wr(2, 0xf0, 0x11ff); /* suppressed: directed EOI */
    lapic_set_irr(&lapic[2], 0x61, true);
    lapic_acknowledge(&lapic[2]);
    lapic_eoi(&lapic[2]);
    ck_assert_uint_eq(eois, 1);
}
END_TEST

START_TEST(timer_one_shot)
{
    start();
    wr(0, 0x3e0, 0x3); /* divide by 16 */
    wr(0, 0x320, 0x30);
    wr(0, 0x380, 1000);
    fake_advance(8000);
    ck_assert_uint_eq(rd(0, 0x390), 500);
    fake_advance(7999);
    ck_assert(!intr[0]);
    fake_advance(1);
    ck_assert(intr[0]);
    ck_assert_uint_eq(rd(0, 0x390), 0);
    lapic_acknowledge(&lapic[0]), lapic_eoi(&lapic[0]);
    fake_advance(1000000);
    ck_assert(!intr[0]);
}
END_TEST

START_TEST(timer_periodic)
{
    start();
    wr(0, 0x3e0, 0xb);
    wr(0, 0x320, 0x20030);
    wr(0, 0x380, 10000);
    for (unsigned i = 0; i < 10; i++) {
        fake_advance(9999);
        ck_assert(!intr[0]);
        fake_advance(1);
        ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0x30);
        lapic_eoi(&lapic[0]);
    }
    wr(0, 0x320, 0x30030); /* masked: goes on counting */
    fake_advance(25000);
    ck_assert_uint_eq(rd(0, 0x390), 5000);
    ck_assert(!intr[0]);
    wr(0, 0x320, 0x20030);
    fake_advance(5000);
    ck_assert(intr[0]);
    wr(0, 0x380, 0);
    ck_assert_uint_eq(fake_clock.earliest, CLOCK_NEVER);
    wr(0, 0x380, 1); /* as fast as it goes: still no more than one interrupt a microsecond */
    ck_assert_uint_ge(fake_clock.earliest, fake_time + 1000);
    fake_advance(1000000);
}
END_TEST

START_TEST(timer_tsc_deadline)
{
    start();
    lapic_deadline_set(&lapic[1], 5000);
    ck_assert_uint_eq(lapic_deadline_get(&lapic[1]), 0);
    wr(1, 0x320, 0x40031);
    lapic_deadline_set(&lapic[1], 20000);
    wr(1, 0x380, 100); /* ignored */
    ck_assert_uint_eq(rd(1, 0x390), 0);
    fake_advance(9999);
    ck_assert(!intr[1]);
    ck_assert_uint_eq(lapic_deadline_get(&lapic[1]), 20000);
    fake_advance(1);
    ck_assert(intr[1]);
    ck_assert_uint_eq(lapic_deadline_get(&lapic[1]), 0);
    lapic_acknowledge(&lapic[1]), lapic_eoi(&lapic[1]);
    lapic_deadline_set(&lapic[1], 1); /* long past: at once */
    fake_advance(0);
    ck_assert(intr[1]);
}
END_TEST

START_TEST(ipi_physical_and_shorthands)
{
    start();
    wr(0, 0x310, 5u << 24);
    wr(0, 0x300, 0x4050);
    ck_assert_int_eq(lapic_highest(&lapic[5]), 0x50);
    wr(0, 0x300, 0x4400); /* NMI */
    ck_assert_uint_eq(nmis[5], 1);
    wr(0, 0x300, 0x4500), wr(0, 0x300, 0x8500); /* INIT, de-assert does nothing */
    ck_assert_uint_eq(inits[5], 1);
    wr(0, 0x300, 0x469a);
    ck_assert_uint_eq(sipi[5], 0x9a);
    wr(0, 0x300, 0x4200);
    ck_assert_uint_eq(smis[5], 1);
    wr(0, 0x300, 0x40051 | 0x4000); /* self */
    ck_assert_int_eq(lapic_highest(&lapic[0]), 0x51);
    wr(0, 0x300, 0xc4052); /* all but self */
    ck_assert_int_eq(lapic_highest(&lapic[0]), 0x51);
    for (unsigned cpu = 1; cpu < CPUS; cpu++)
        ck_assert_int_eq(lapic_highest(&lapic[cpu]), 0x52);
    wr(3, 0x300, 0x84053); /* all */
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        ck_assert_int_eq(lapic_highest(&lapic[cpu]), 0x53);
    wr(3, 0x310, 0xffu << 24);
    wr(3, 0x300, 0x4054); /* broadcast */
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        ck_assert_int_eq(lapic_highest(&lapic[cpu]), 0x54);
}
END_TEST

START_TEST(ipi_logical)
{
    start();
    for (unsigned cpu = 0; cpu < 4; cpu++)
        wr(cpu, 0xd0, 1u << (24 + cpu));
    wr(0, 0x310, 0x0au << 24);
    wr(0, 0x300, 0x4850);
    ck_assert_int_eq(lapic_highest(&lapic[0]), -1);
    ck_assert_int_eq(lapic_highest(&lapic[1]), 0x50);
    ck_assert_int_eq(lapic_highest(&lapic[2]), -1);
    ck_assert_int_eq(lapic_highest(&lapic[3]), 0x50);
    wr(4, 0xe0, 0x0fffffff), wr(4, 0xd0, 0x23u << 24); /* cluster 2, members 0 and 1 */
    wr(0, 0x310, 0x22u << 24);
    wr(0, 0x300, 0x4851);
    ck_assert_int_eq(lapic_highest(&lapic[4]), 0x51);
    ck_assert_int_eq(lapic_highest(&lapic[1]), 0x51); /* flat: bit 1 */
    wr(0, 0x310, 0x32u << 24);
    wr(0, 0x300, 0x4852);
    ck_assert_int_eq(lapic_highest(&lapic[4]), 0x51);
}
END_TEST

START_TEST(lowest_priority)
{
    start();
    for (unsigned cpu = 0; cpu < 4; cpu++)
        wr(cpu, 0xd0, 1u << (24 + cpu));
    wr(0, 0x80, 0x20), wr(1, 0x80, 0x20), wr(3, 0x80, 0x20);
    ck_assert(apic_bus_send_msi(&bus, 0xfee0f00c, 0x160));
    ck_assert_int_eq(lapic_highest(&lapic[2]), 0x60);
    wr(2, 0x80, 0x20);
    unsigned taken[4] = {0};
    for (unsigned i = 0; i < 8; i++) {
        apic_bus_send_msi(&bus, 0xfee0f00c, 0x170);
        for (unsigned cpu = 0; cpu < 4; cpu++)
            if (lapic_highest(&lapic[cpu]) == 0x70) {
                taken[cpu]++;
                lapic_acknowledge(&lapic[cpu]), lapic_eoi(&lapic[cpu]);
            }
    }
    for (unsigned cpu = 0; cpu < 4; cpu++)
        ck_assert_uint_eq(taken[cpu], 2); /* equals take turns */
}
END_TEST

START_TEST(errors)
{
    start();
    wr(0, 0x370, 0x3e);
    wr(0, 0x300, 0x40005); /* vector 5 to self */
    ck_assert_int_eq(lapic_highest(&lapic[0]), 0x3e);
    ck_assert_uint_eq(rd(0, 0x280), 0);
    wr(0, 0x280, 0);
    ck_assert_uint_eq(rd(0, 0x280), 0x20);
    rd(0, 0x40);
    wr(0, 0x280, 0);
    ck_assert_uint_eq(rd(0, 0x280), 0x80);
    wr(0, 0x280, 0);
    ck_assert_uint_eq(rd(0, 0x280), 0);
    wr(0, 0x370, 0x01); /* an error interrupt with an illegal vector must not recurse */
    wr(0, 0x300, 0x40005);
}
END_TEST

START_TEST(lint_pins)
{
    start();
    apic_bus_set_lint(&bus, 0, true);
    ck_assert(!extint[0]);
    lapic_set_virtual_wire(&lapic[0]);
    ck_assert(extint[0]);
    ck_assert(!extint[1]);
    apic_bus_set_lint(&bus, 1, true);
    ck_assert_uint_eq(nmis[0], 1);
    ck_assert_uint_eq(nmis[1], 0);
    wr(0, 0x350, 0x10700);
    ck_assert(!extint[0]);
    wr(0, 0x350, 0x8048); /* fixed, level */
    ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0x48);
    ck_assert_uint_eq(rd(0, 0x350), 0xc048);
    lapic_eoi(&lapic[0]);
    ck_assert_int_eq(lapic_acknowledge(&lapic[0]), 0x48); /* still high */
    apic_bus_set_lint(&bus, 0, false);
    lapic_eoi(&lapic[0]);
    ck_assert_int_eq(lapic_highest(&lapic[0]), -1);
    ck_assert(lapic_set_base(&lapic[1], 0xfee00000)); /* globally disabled: the pins go to the processor */
    apic_bus_set_lint(&bus, 0, true);
    ck_assert(extint[1]);
}
END_TEST

START_TEST(base_transitions)
{
    start();
    struct lapic *l = &lapic[1];
    ck_assert(!lapic_set_base(l, 0xfee00400));
    ck_assert(!lapic_set_base(l, 0xfee00a00));              /* bit 9 */
    ck_assert(!lapic_set_base(l, 0xfee00800 | BIT(39)));
    ck_assert(lapic_set_base(l, 0xfee00c00));
    ck_assert(!lapic_set_base(l, 0xfee00800));
    ck_assert_uint_eq(apic_bus_ops.read(&bus, 1, 0x20, 4), 0xffffffff);
    ck_assert(lapic_set_base(l, 0xfee00000));
    ck_assert(!lapic_set_base(l, 0xfee00c00));
    ck_assert(lapic_set_base(l, 0xfee00800));
    ck_assert_uint_eq(rd(1, 0xf0), 0xff);
    bus.x2apic_offered = false;
    ck_assert(!lapic_set_base(l, 0xfee00c00));
}
END_TEST

START_TEST(x2apic_registers)
{
    start();
    u64 v;
    ck_assert(!lapic_msr_read(&lapic[17], 0x802, &v));
    x2apic(17);
    ck_assert(lapic_msr_read(&lapic[17], 0x802, &v) && v == 17);
    ck_assert(lapic_msr_read(&lapic[17], 0x80d, &v) && v == 0x10002);
    ck_assert(!lapic_msr_read(&lapic[17], 0x80e, &v)); /* DFR */
    ck_assert(!lapic_msr_read(&lapic[17], 0x80b, &v)); /* EOI is write-only */
    ck_assert(!lapic_msr_read(&lapic[17], 0x83f, &v));
    ck_assert(!lapic_msr_read(&lapic[17], 0x831, &v));
    ck_assert(!lapic_msr_read(&lapic[17], 0x8ff, &v));
    ck_assert(!lapic_msr_write(&lapic[17], 0x802, 17));
    ck_assert(!lapic_msr_write(&lapic[17], 0x80d, 0));
    ck_assert(!lapic_msr_write(&lapic[17], 0x839, 0));
    ck_assert(!lapic_msr_write(&lapic[17], 0x80b, 1));
    ck_assert(lapic_msr_write(&lapic[17], 0x80b, 0));
    ck_assert(!lapic_msr_write(&lapic[17], 0x828, 1));
    ck_assert(!lapic_msr_write(&lapic[17], 0x808, 0x100));
    ck_assert(!lapic_msr_write(&lapic[17], 0x808, BIT(32)));
    ck_assert(!lapic_msr_write(&lapic[17], 0x832, 0x80000));
    ck_assert(lapic_msr_write(&lapic[17], 0x832, 0x40031));
    ck_assert(!lapic_msr_write(&lapic[17], 0x830, 0x100000));
    ck_assert(lapic_msr_write(&lapic[17], 0x83f, 0x77));
    ck_assert_int_eq(lapic_highest(&lapic[17]), 0x77);
}
END_TEST

START_TEST(x2apic_ipis)
{
    start();
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        x2apic(cpu);
    ck_assert(lapic_msr_write(&lapic[0], 0x830, 18ull << 32 | 0x50));
    ck_assert_int_eq(lapic_highest(&lapic[18]), 0x50);
    ck_assert_int_eq(lapic_highest(&lapic[2]), -1);
    ck_assert(lapic_msr_write(&lapic[0], 0x830, 0x1000aull << 32 | 0x851)); /* cluster 1, members 1 and 3 */
    ck_assert_int_eq(lapic_highest(&lapic[17]), 0x51);
    ck_assert_int_eq(lapic_highest(&lapic[19]), 0x51);
    ck_assert_int_eq(lapic_highest(&lapic[1]), -1);
    ck_assert(lapic_msr_write(&lapic[0], 0x830, 0xffffffffull << 32 | 0x61));
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        ck_assert_int_eq(lapic_highest(&lapic[cpu]), 0x61);
    ck_assert(lapic_msr_write(&lapic[0], 0x830, 0xffull << 32 | 0x71)); /* ID 255, nobody */
    ck_assert_int_eq(lapic_highest(&lapic[3]), 0x61);
    ck_assert(apic_bus_send_msi(&bus, 0xfee03000, 0x72)); /* MSI to ID 3 */
    ck_assert_int_eq(lapic_highest(&lapic[3]), 0x72);
}
END_TEST

START_TEST(init_keeps_mode_and_id)
{
    start();
    x2apic(2);
    lapic_set_irr(&lapic[2], 0x60, false);
    ck_assert(intr[2]);
    lapic_accept_init(&lapic[2]);
    ck_assert(!intr[2]);
    u64 v;
    ck_assert(lapic_msr_read(&lapic[2], 0x802, &v) && v == 2);
    ck_assert(lapic_msr_read(&lapic[2], 0x80f, &v) && v == 0xff);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    for (unsigned i = 0; i < 400; i++) {
        fake_fuzz(&apic_bus_ops, &bus, 0x400, 300);
        lapic_acknowledge(&lapic[i % CPUS]);
        for (unsigned msr = 0x800; msr < 0x900; msr++)
            lapic_msr_write(&lapic[1], msr, (u64)msr * i);
        lapic_deadline_set(&lapic[0], i * 1000);
        if (i == 200)
            x2apic(1);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {reset_state, priorities, eoi_broadcast_of_level_interrupts, timer_one_shot,
                                  timer_periodic, timer_tsc_deadline, ipi_physical_and_shorthands, ipi_logical,
                                  lowest_priority, errors, lint_pins, base_transitions, x2apic_registers, x2apic_ipis,
                                  init_keeps_mode_and_id, survives_anything};
    return fake_run("lapic", tests, ARRAY_SIZE(tests));
}
