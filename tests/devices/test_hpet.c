/* The HPET: counter, one-shot and periodic comparators, 32-bit mode, level mode, legacy replacement. */
#include "tests/devices/fake.h"
#include "devices/hpet.h"

static struct hpet hpet;
static int legacy;

static void on_legacy(void *arg, bool on) { (void)arg; legacy = on; }
static u64 rd(u64 off) { return fake_read(&hpet_ops, &hpet, off, 8); }
static void wr(u64 off, u64 value) { fake_write(&hpet_ops, &hpet, off, 8, value); }

static void start(void)
{
    fake_start();
    legacy = -1;
    hpet_init(&hpet, &fake_clock, fake_line(0), fake_line(8), fake_line(31), on_legacy, NULL);
}

START_TEST(identity_and_counter)
{
    start();
    ck_assert_uint_eq(rd(0) >> 32, 10000000);
    ck_assert_uint_eq(rd(0) & 0xffffffff, 0x8086a201);
    ck_assert_uint_eq(fake_read(&hpet_ops, &hpet, 4, 4), 10000000);
    fake_advance(1000);
    ck_assert_uint_eq(rd(0xf0), 0);
    wr(0x10, 1);
    fake_advance(1000);
    ck_assert_uint_eq(rd(0xf0), 100);
    wr(0x10, 0);
    fake_advance(1000);
    ck_assert_uint_eq(rd(0xf0), 100);
    wr(0xf0, 0xffffffff);
    wr(0x10, 1);
    fake_advance(20);
    ck_assert_uint_eq(rd(0xf0), 0x100000001);
    ck_assert_uint_eq(fake_read(&hpet_ops, &hpet, 0xf4, 4), 1);
}
END_TEST

START_TEST(one_shot_routed)
{
    start();
    wr(0x10, 1);
    wr(0x140, 21 << 9 | 4);
    ck_assert_uint_eq(rd(0x140) & 0xffffffff, 21 << 9 | 0x34);
    ck_assert_uint_eq(rd(0x140) >> 32, HPET_ROUTES);
    wr(0x148, 500);
    fake_advance(4999);
    ck_assert_uint_eq(fake_rises[21], 0);
    fake_advance(1);
    ck_assert_uint_eq(fake_rises[21], 1);
    fake_advance(1000000000);
    ck_assert_uint_eq(fake_rises[21], 1);
}
END_TEST

START_TEST(periodic_as_linux_sets_it)
{
    start();
    wr(0x10, 3);
    ck_assert_int_eq(legacy, 1);
    fake_write(&hpet_ops, &hpet, 0x100, 4, 0x14c); /* enable, periodic, set value, 32 bits */
    fake_write(&hpet_ops, &hpet, 0x108, 4, 200000);
    fake_advance(1000);
    fake_write(&hpet_ops, &hpet, 0x108, 4, 100000);
    fake_advance(2000000 - 1001);
    ck_assert_uint_eq(fake_rises[0], 0);
    fake_advance(1);
    ck_assert_uint_eq(fake_rises[0], 1);
    fake_advance(100 * 1000000);
    ck_assert_uint_eq(fake_rises[0], 101);
    ck_assert_uint_eq(fake_risen_at[0], fake_time);
    wr(0x10, 1);
    ck_assert_int_eq(legacy, 0);
    ck_assert(!fake_level[0]);
}
END_TEST

START_TEST(thirty_two_bits_wrap)
{
    start();
    wr(0xf0, 0xfffffff0);
    wr(0x10, 3);
    wr(0x120, 0x104);
    wr(0x128, 0x10);
    fake_advance(319);
    ck_assert_uint_eq(fake_rises[8], 0);
    fake_advance(1);
    ck_assert_uint_eq(fake_rises[8], 1);
    fake_advance(BIT(32) * 10);
    ck_assert_uint_eq(fake_rises[8], 2);
}
END_TEST

START_TEST(level_and_status)
{
    start();
    wr(0x10, 1);
    wr(0x120, 20 << 9 | 6);
    wr(0x128, 10);
    fake_advance(100);
    ck_assert(fake_level[20]);
    ck_assert_uint_eq(rd(0x20), 2);
    wr(0x20, 1);
    ck_assert(fake_level[20]);
    wr(0x20, 2);
    ck_assert(!fake_level[20]);
}
END_TEST

START_TEST(cannot_be_made_to_storm)
{
    start();
    wr(0x10, 3);
    wr(0x100, 0x4c);
    wr(0x108, 1);
    wr(0x108, 1);
    fake_rises[0] = 0;
    fake_advance(1000000);
    ck_assert_uint_le(fake_rises[0], 1001);
    ck_assert_uint_ge(fake_rises[0], 900);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    for (unsigned i = 0; i < 50; i++) {
        fake_fuzz(&hpet_ops, &hpet, 0x200, 2000);
        wr(0x10, i & 3);
        fake_advance(100000);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {identity_and_counter, one_shot_routed, periodic_as_linux_sets_it,
                                  thirty_two_bits_wrap, level_and_status, cannot_be_made_to_storm, survives_anything};
    return fake_run("hpet", tests, ARRAY_SIZE(tests));
}
