/* ACPI fixed hardware: timer, its status bit, mode switch, power off, reset control. */
#include "tests/devices/fake.h"
#include "devices/acpipm.h"

static struct acpipm pm;

static void start(bool wide)
{
    fake_start();
    acpipm_init(&pm, &fake_clock, &fake_host, fake_line(9), wide);
}

START_TEST(timer)
{
    start(false);
    fake_advance(1000000000);
    ck_assert_uint_eq(fake_read(&acpipm_timer_ops, &pm, 0, 4), ACPIPM_HZ);
    fake_advance(4000000000);
    ck_assert_uint_eq(fake_read(&acpipm_timer_ops, &pm, 0, 4), 5 * ACPIPM_HZ & 0xffffff);
    start(true);
    fake_advance(5000000000);
    ck_assert_uint_eq(fake_read(&acpipm_timer_ops, &pm, 0, 4), 5 * ACPIPM_HZ);
    ck_assert_uint_eq(in8(&acpipm_timer_ops, &pm, 1), (5 * ACPIPM_HZ >> 8) & 0xff);
}
END_TEST

START_TEST(timer_overflow)
{
    start(false);
    out8(&acpipm_smi_ops, &pm, 0, ACPIPM_ENABLE);
    ck_assert_uint_eq(fake_read(&acpipm_control_ops, &pm, 0, 2), 1);
    fake_write(&acpipm_event_ops, &pm, 2, 2, 1);
    fake_advance(2343484000); /* 2^23 / 3.579545 MHz = 2.343484… s */
    ck_assert(!fake_level[9]);
    fake_advance(1000);
    ck_assert(fake_level[9]);
    ck_assert_uint_eq(fake_read(&acpipm_event_ops, &pm, 0, 4), 0x10001);
    fake_write(&acpipm_event_ops, &pm, 0, 2, 1);
    ck_assert(!fake_level[9]);
    fake_advance(2343485000);
    ck_assert_uint_eq(fake_rises[9], 2);
}
END_TEST

/* Where the chipset makes SMIs of the command port, switching the mode is the firmware's business. */
static bool firmware;
static unsigned smis;
static bool smi(void *arg, bool written)
{
    (void)arg;
    smis += firmware && written;
    return firmware;
}

START_TEST(smi_command)
{
    start(false);
    pm.smi = smi;
    firmware = false;
    smis = 0;
    out8(&acpipm_smi_ops, &pm, 0, ACPIPM_ENABLE);
    ck_assert_uint_eq(fake_read(&acpipm_control_ops, &pm, 0, 2), 1);
    out8(&acpipm_smi_ops, &pm, 0, ACPIPM_DISABLE);
    fake_write(&acpipm_control_ops, &pm, 0, 2, 1);
    ck_assert_uint_eq(fake_read(&acpipm_control_ops, &pm, 0, 2), 0);
    firmware = true;
    out8(&acpipm_smi_ops, &pm, 0, ACPIPM_ENABLE);
    ck_assert_uint_eq(smis, 1);
    ck_assert_uint_eq(in8(&acpipm_smi_ops, &pm, 0), ACPIPM_ENABLE);
    ck_assert_uint_eq(fake_read(&acpipm_control_ops, &pm, 0, 2), 0);
    fake_write(&acpipm_control_ops, &pm, 0, 2, 1);
    ck_assert_uint_eq(fake_read(&acpipm_control_ops, &pm, 0, 2), 1);
}
END_TEST

START_TEST(modes_and_power)
{
    start(false);
    fake_write(&acpipm_event_ops, &pm, 2, 2, 0x100);
    acpipm_power_button(&pm);
    ck_assert(!fake_level[9]); /* legacy mode: no SCI */
    fake_write(&acpipm_control_ops, &pm, 0, 2, 1);
    ck_assert_uint_eq(fake_read(&acpipm_control_ops, &pm, 0, 2), 0);
    out8(&acpipm_smi_ops, &pm, 0, ACPIPM_ENABLE);
    ck_assert(fake_level[9]);
    out8(&acpipm_smi_ops, &pm, 0, ACPIPM_DISABLE);
    ck_assert(!fake_level[9]);
    fake_write(&acpipm_control_ops, &pm, 0, 2, 0x2000);
    ck_assert_uint_eq(fake_power_offs, 0);
    fake_write(&acpipm_control_ops, &pm, 0, 2, 0x1400);
    ck_assert_uint_eq(fake_power_offs, 0);
    fake_write(&acpipm_control_ops, &pm, 0, 2, 0x3400);
    ck_assert_uint_eq(fake_power_offs, 1);
}
END_TEST

START_TEST(reset_control)
{
    start(false);
    out8(&acpipm_reset_ops, &pm, 0, 2);
    ck_assert_uint_eq(fake_resets, 0);
    out8(&acpipm_reset_ops, &pm, 0, 6);
    ck_assert_uint_eq(fake_resets, 1);
    fake_fuzz(&acpipm_event_ops, &pm, 4, 5000);
    fake_fuzz(&acpipm_control_ops, &pm, 2, 5000);
    fake_fuzz(&acpipm_timer_ops, &pm, 4, 5000);
    fake_fuzz(&acpipm_smi_ops, &pm, 2, 5000);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {timer, timer_overflow, smi_command, modes_and_power, reset_control};
    return fake_run("acpipm", tests, ARRAY_SIZE(tests));
}
