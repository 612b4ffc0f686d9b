/* PCI: mechanism #1, the two bridges, BAR sizing and placement, interrupt routing, the reset control register. */
#include "tests/devices/fake.h"
#include "devices/acpipm.h"
#include "devices/pci.h"

static struct pci pci;
static struct pci_function card;
static unsigned moves, moved_bar;
static bool moved_on;
static u64 moved_at;

static void on_moved(void *arg, unsigned bar, bool on, u64 at)
{
    (void)arg;
    moves++, moved_bar = bar, moved_on = on, moved_at = at;
}
static void address(u8 devfn, u8 reg) { fake_write(&pci_ops, &pci, 0, 4, 0x80000000u | devfn << 8 | reg); }
static u32 rd(u8 devfn, u8 reg)
{
    address(devfn, reg & 0xfc);
    return (u32)fake_read(&pci_ops, &pci, 4, 4);
}
static void wr(u8 devfn, u8 reg, u32 value)
{
    address(devfn, reg & 0xfc);
    fake_write(&pci_ops, &pci, 4, 4, value);
}
#define CARD PCI_DEVFN(3, 0)

static void start(void)
{
    fake_start();
    pci_init(&pci, fake_line(0), (struct irq_line){0});
    pci.isa = (struct irq_line){.set = fake_set_line};
    pci.gsi = (struct irq_line){.set = fake_set_line};
    pci_function_init(&card, 0x1af4, 0x1001, 0x010000, 1, NULL);
    pci_function_bar(&card, 0, PCI_BAR_IO, 64);
    pci_function_bar(&card, 1, PCI_BAR_MEM32, 4096);
    pci_function_bar(&card, 4, PCI_BAR_MEM64, 0x4000);
    pci_function_interrupt(&card, 1);
    card.bar_moved = on_moved;
    ck_assert(pci_add_function(&pci, &card, CARD));
    ck_assert(!pci_add_function(&pci, &card, CARD));
    moves = 0;
}

START_TEST(bridges_and_absent_functions)
{
    start();
    ck_assert_uint_eq(rd(0, 0), 0x12378086);
    ck_assert_uint_eq(rd(8, 0), 0x70008086);
    ck_assert_uint_eq(rd(8, 8), 0x06010000);
    ck_assert_uint_eq(rd(0x10, 0), 0xffffffff);
    fake_write(&pci_ops, &pci, 0, 4, 0x80010000); /* bus 1 */
    ck_assert_uint_eq(fake_read(&pci_ops, &pci, 4, 4), 0xffffffff);
    ck_assert_uint_eq(fake_read(&pci_ops, &pci, 0, 4), 0x80010000);
    address(0, 0);
    ck_assert_uint_eq(in8(&pci_ops, &pci, 6), 0x37);
    ck_assert_uint_eq(fake_read(&pci_ops, &pci, 6, 2), 0x1237);
    wr(0, 0, 0);
    ck_assert_uint_eq(rd(0, 0), 0x12378086);
}
END_TEST

START_TEST(bars_size_and_move)
{
    start();
    wr(CARD, 0x10, ~0u), wr(CARD, 0x14, ~0u), wr(CARD, 0x20, ~0u), wr(CARD, 0x24, ~0u);
    ck_assert_uint_eq(rd(CARD, 0x10), 0xffffffc1);
    ck_assert_uint_eq(rd(CARD, 0x14), 0xfffff000);
    ck_assert_uint_eq(rd(CARD, 0x18), 0);
    ck_assert_uint_eq(rd(CARD, 0x20), 0xffffc004);
    ck_assert_uint_eq(rd(CARD, 0x24), 0xffffffff);
    wr(CARD, 4, 3); /* decoding goes on, but all-ones places decode nothing */
    ck_assert_uint_eq(moves, 0);
    wr(CARD, 0x10, 0xc000);
    ck_assert(moves == 1 && moved_bar == 0 && moved_on && moved_at == 0xc000);
    wr(CARD, 0x14, 0xfeb00000);
    ck_assert(moves == 2 && moved_bar == 1 && moved_at == 0xfeb00000);
    wr(CARD, 0x20, 0x10000), wr(CARD, 0x24, 0x8);
    ck_assert(moved_bar == 4 && moved_on && moved_at == 0x800010000);
    moves = 0;
    wr(CARD, 4, 1);
    ck_assert(moves == 2 && !moved_on);
    wr(CARD, 4, 1);
    ck_assert_uint_eq(moves, 2);
    pci_reset(&pci);
    ck_assert(moves == 3 && moved_bar == 0 && !moved_on);
    ck_assert_uint_eq(rd(CARD, 0x10), 1);
}
END_TEST

START_TEST(interrupts)
{
    start();
    pci_set_interrupt(&card, true); /* device 3, INTA: PIRQ D */
    ck_assert(fake_level[19]);
    ck_assert(!fake_level[11]);
    wr(8, 0x60, 0x0b808080);
    ck_assert(fake_level[11]);
    wr(CARD, 4, 0x400); /* INTx disabled */
    ck_assert(!fake_level[11]);
    ck_assert_uint_eq(rd(CARD, 4) >> 16 & 8, 8);
    wr(CARD, 4, 0);
    ck_assert(fake_level[11]);
    pci_set_interrupt(&card, false);
    ck_assert(!fake_level[11] && !fake_level[19]);
}
END_TEST

START_TEST(reset_control_inside)
{
    static struct acpipm pm;
    start();
    acpipm_init(&pm, &fake_clock, &fake_host, fake_line(9), false);
    pci_set_reset_control(&pci, &acpipm_reset_ops, &pm);
    out8(&pci_ops, &pci, 1, 6);
    ck_assert_uint_eq(fake_resets, 1);
}
END_TEST

/* The PIIX3's SMI# is made by enabled requests behind an open gate, each once; requests are cleared by writing 0. */
START_TEST(system_management)
{
    start();
    pci_set_smm(&pci, fake_line(5), NULL, NULL);
    ck_assert(!pci_apm_smi_enabled(&pci));
    pci_apm_written(&pci);
    ck_assert(!fake_level[5]);
    wr(8, 0xa0, 0x00800001);
    ck_assert(pci_apm_smi_enabled(&pci) && fake_level[5]);       /* the request stood already */
    ck_assert_uint_eq(rd(8, 0xa8) >> 16, 0x80);
    pci_apm_written(&pci);
    ck_assert_uint_eq(fake_rises[5], 1);
    wr(8, 0xa0, 0x00800000);
    ck_assert(!pci_apm_smi_enabled(&pci) && !fake_level[5]);
    wr(8, 0xa8, 0xffffffff);                                     /* ones clear nothing and set nothing */
    ck_assert_uint_eq(rd(8, 0xa8) >> 16, 0x80);
    wr(8, 0xa8, 0);
    ck_assert_uint_eq(rd(8, 0xa8) >> 16, 0);
    wr(8, 0xa0, 0x00800001);
    ck_assert(!fake_level[5]);
    pci_apm_written(&pci);
    ck_assert_uint_eq(fake_rises[5], 2);
    pci_reset(&pci);
    ck_assert(!fake_level[5] && !pci_apm_smi_enabled(&pci));
}
END_TEST

/* SMRAM of the 440FX: closed, open, locked until a reset. */
static unsigned smram_now;
static void smram(void *arg, enum bus_smram now) { (void)arg; smram_now = now; }

START_TEST(smram_register)
{
    start();
    pci_set_smm(&pci, fake_line(5), smram, NULL);
    smram_now = 99;
    wr(0, 0x70, 0x00080000);
    ck_assert_uint_eq(smram_now, BUS_SMRAM_CLOSED);
    ck_assert_uint_eq(rd(0, 0x70) >> 16 & 0xff, 0x0a);           /* the base is fixed */
    wr(0, 0x70, 0x00480000);
    ck_assert_uint_eq(smram_now, BUS_SMRAM_OPEN);
    wr(0, 0x70, 0x00580000);
    ck_assert_uint_eq(smram_now, BUS_SMRAM_CLOSED);              /* locking closes */
    wr(0, 0x70, 0x00400000);
    ck_assert_uint_eq(smram_now, BUS_SMRAM_CLOSED);
    ck_assert_uint_eq(rd(0, 0x70) >> 16 & 0xff, 0x1a);
    pci_reset(&pci);
    ck_assert_uint_eq(smram_now, BUS_SMRAM_NONE);
    wr(0, 0x70, 0x00480000);
    ck_assert_uint_eq(smram_now, BUS_SMRAM_OPEN);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    fake_fuzz(&pci_ops, &pci, 8, 300000);
    for (unsigned i = 0; i < 20000; i++)
        wr((u8)(i * 3), (u8)(i * 5), i * 0x9e3779b1u), pci_set_interrupt(&card, i & 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {bridges_and_absent_functions, bars_size_and_move, interrupts, reset_control_inside,
                                  system_management, smram_register, survives_anything};
    return fake_run("pci", tests, ARRAY_SIZE(tests));
}
