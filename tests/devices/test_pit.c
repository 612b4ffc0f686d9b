/* The 8254: every mode's output and count over time, latches, read-back, BCD, and port 0x61. */
#include "tests/devices/fake.h"
#include "devices/pit.h"

static struct pit pit;

static void start(void)
{
    fake_start();
    pit_init(&pit, &fake_clock, fake_line(0));
}

static void set(u64 off, u8 value) { out8(&pit_ops, &pit, off, value); }
static u8 get(u64 off) { return in8(&pit_ops, &pit, off); }

/* Moves time to the first ns of tick `tick`. */
static void to_tick(u64 tick)
{
    u64 ns = (u64)(((u128)tick * 1000000000 + PIT_HZ - 1) / PIT_HZ);
    ck_assert_uint_ge(ns, fake_time);
    fake_advance(ns - fake_time);
}

static void program(unsigned channel, unsigned mode, u16 count)
{
    set(3, (u8)(channel << 6 | 0x30 | mode << 1));
    set(channel, (u8)count);
    set(channel, count >> 8);
}

static u16 count_of(unsigned channel)
{
    set(3, (u8)(channel << 6));
    u8 low = get(channel);
    return (u16)(low | get(channel) << 8);
}

static bool out2(void) { return in8(&pit_port61_ops, &pit, 0) & 0x20; }

START_TEST(mode2_interrupts_at_the_rate)
{
    start();
    program(0, 2, 11932);
    fake_rises[0] = 0;
    to_tick(1);
    ck_assert_uint_eq(count_of(0), 11932);
    to_tick(2);
    ck_assert_uint_eq(count_of(0), 11931);
    to_tick(1 + 11932);
    ck_assert_uint_eq(fake_rises[0], 1);
    to_tick(1 + 100 * 11932);
    ck_assert_uint_eq(fake_rises[0], 100);
    ck_assert_uint_eq(fake_risen_at[0], fake_time);
}
END_TEST

START_TEST(mode2_takes_a_new_count_at_the_end_of_the_period)
{
    start();
    program(0, 2, 1000);
    fake_rises[0] = 0;
    to_tick(501);
    set(0, 100), set(0, 0);
    ck_assert_uint_eq(count_of(0), 500);
    to_tick(1001);
    ck_assert_uint_eq(fake_rises[0], 1);
    to_tick(1101);
    ck_assert_uint_eq(fake_rises[0], 2);
    to_tick(2001);
    ck_assert_uint_eq(fake_rises[0], 11);
}
END_TEST

START_TEST(mode0_counts_once)
{
    start();
    program(0, 0, 500);
    ck_assert(!fake_level[0]);
    to_tick(500);
    ck_assert(!fake_level[0]);
    ck_assert_uint_eq(count_of(0), 1);
    to_tick(501);
    ck_assert(fake_level[0]);
    to_tick(502);
    ck_assert_uint_eq(count_of(0), 0xffff);
    to_tick(100000);
    ck_assert_uint_eq(fake_rises[0], 2); /* once at reset (mode 2 idles high), once at the end */
}
END_TEST

START_TEST(channel2_mode0_and_gate)
{
    start();
    out8(&pit_port61_ops, &pit, 0, 1);
    program(2, 0, 1000);
    ck_assert(!out2());
    to_tick(401);
    out8(&pit_port61_ops, &pit, 0, 0); /* gate low: stands still */
    ck_assert_uint_eq(count_of(2), 600);
    to_tick(5000);
    ck_assert_uint_eq(count_of(2), 600);
    out8(&pit_port61_ops, &pit, 0, 1);
    to_tick(5599);
    ck_assert(!out2());
    to_tick(5600);
    ck_assert(out2());
}
END_TEST

START_TEST(channel2_mode3_square_wave)
{
    start();
    out8(&pit_port61_ops, &pit, 0, 1);
    program(2, 3, 7); /* odd: 4 high, 3 low */
    bool expected[] = {true, true, true, true, false, false, false};
    for (unsigned tick = 1; tick < 50; tick++) {
        to_tick(tick);
        ck_assert_msg(out2() == expected[(tick - 1) % 7], "tick %u", tick);
    }
    program(2, 3, 8);
    u64 begin = muldiv64(fake_time, PIT_HZ, 1000000000) + 1;
    u16 counts[] = {8, 6, 4, 2};
    for (unsigned i = 0; i < 16; i++) {
        to_tick(begin + i);
        ck_assert_uint_eq(count_of(2), counts[i % 4]);
    }
}
END_TEST

START_TEST(modes_1_and_5_wait_for_the_gate)
{
    start();
    program(2, 1, 10);
    ck_assert(out2());
    to_tick(100);
    out8(&pit_port61_ops, &pit, 0, 1);
    to_tick(101);
    ck_assert(!out2());
    to_tick(110);
    ck_assert(!out2());
    to_tick(111);
    ck_assert(out2());
    out8(&pit_port61_ops, &pit, 0, 0);
    program(2, 5, 10);
    to_tick(200);
    out8(&pit_port61_ops, &pit, 0, 1);
    to_tick(210);
    ck_assert(out2());
    to_tick(211);
    ck_assert(!out2());
    to_tick(212);
    ck_assert(out2());
}
END_TEST

START_TEST(mode4_strobes)
{
    start();
    program(0, 4, 20);
    fake_rises[0] = 0;
    to_tick(21);
    ck_assert(!fake_level[0]);
    to_tick(22);
    ck_assert(fake_level[0]);
    to_tick(1000);
    ck_assert_uint_eq(fake_rises[0], 1);
}
END_TEST

START_TEST(read_back_and_access_modes)
{
    start();
    set(3, 0x34); /* channel 0, both bytes, mode 2 */
    set(3, 0xe2); /* read back status of channel 0 */
    ck_assert_uint_eq(get(0), 0x80 | 0x40 | 0x34); /* null count: nothing written yet */
    set(0, 0), set(0, 0x10);
    to_tick(10);
    set(3, 0xc2); /* status and count */
    ck_assert_uint_eq(get(0), 0x80 | 0x34);
    u8 low = get(0);
    to_tick(3000);
    ck_assert_uint_eq(low | get(0) << 8, 0x1000 - 9); /* the latch holds */
    set(3, 0x10); /* channel 0, low byte, mode 0 */
    set(0, 200);
    to_tick(3051);
    u64 gone = 3051 - 3001;
    ck_assert_uint_eq(get(0), 200 - gone);
    set(3, 0x31); /* BCD */
    set(0, 0x00), set(0, 0x10);
    to_tick(3052 + 1);
    ck_assert_uint_eq(count_of(0), 0x0999);
}
END_TEST

START_TEST(refresh_bit_toggles)
{
    start();
    unsigned changes = 0;
    u8 last = in8(&pit_port61_ops, &pit, 0) & 0x10;
    for (unsigned i = 0; i < 10000; i++) {
        fake_advance(100);
        u8 bit = in8(&pit_port61_ops, &pit, 0) & 0x10;
        changes += bit != last;
        last = bit;
    }
    ck_assert_uint_eq(changes, 66); /* 1 ms / 15.086 µs */
}
END_TEST

START_TEST(legacy_replacement_silences)
{
    start();
    program(0, 2, 1000);
    pit_set_irq_enabled(&pit, false);
    fake_rises[0] = 0;
    to_tick(10000);
    ck_assert_uint_eq(fake_rises[0], 0);
    pit_set_irq_enabled(&pit, true);
    to_tick(20000);
    ck_assert_uint_ge(fake_rises[0], 9);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    for (unsigned i = 0; i < 300; i++) {
        fake_fuzz(&pit_ops, &pit, 4, 200);
        fake_fuzz(&pit_port61_ops, &pit, 1, 10);
        fake_advance(i * 7);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {mode2_interrupts_at_the_rate, mode2_takes_a_new_count_at_the_end_of_the_period,
                                  mode0_counts_once, channel2_mode0_and_gate, channel2_mode3_square_wave,
                                  modes_1_and_5_wait_for_the_gate, mode4_strobes, read_back_and_access_modes,
                                  refresh_bit_toggles, legacy_replacement_silences, survives_anything};
    return fake_run("pit", tests, ARRAY_SIZE(tests));
}
