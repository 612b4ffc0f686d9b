/* The real-time clock: calendar in both formats, setting it, UIP, the three interrupts, memory bytes. */
#include "tests/devices/fake.h"
#include "devices/rtc.h"

static struct rtc rtc;
#define S 1000000000ull

static u8 rd(u8 index)
{
    out8(&rtc_ops, &rtc, 0, index);
    return in8(&rtc_ops, &rtc, 1);
}
static void wr(u8 index, u8 value)
{
    out8(&rtc_ops, &rtc, 0, index);
    out8(&rtc_ops, &rtc, 1, value);
}
static void start(void)
{
    fake_start();
    rtc_init(&rtc, &fake_clock, &fake_host, fake_line(8));
}
static void check_time(u8 century, u8 year, u8 month, u8 day, u8 hour, u8 minute, u8 second)
{
    ck_assert_uint_eq(rd(0x32), century);
    ck_assert_uint_eq(rd(9), year);
    ck_assert_uint_eq(rd(8), month);
    ck_assert_uint_eq(rd(7), day);
    ck_assert_uint_eq(rd(4), hour);
    ck_assert_uint_eq(rd(2), minute);
    ck_assert_uint_eq(rd(0), second);
}

START_TEST(tells_the_time)
{
    start();
    check_time(0x20, 0x24, 1, 1, 0, 0, 0);
    ck_assert_uint_eq(rd(6), 2); /* Monday */
    fake_advance((31 + 28) * 86400 * S + 13 * 3600 * S + 59 * S);
    check_time(0x20, 0x24, 2, 0x29, 0x13, 0, 0x59);
    wr(0xb, 0x06); /* binary */
    check_time(20, 24, 2, 29, 13, 0, 59);
    wr(0xb, 0x04); /* 12 hours */
    ck_assert_uint_eq(rd(4), 0x81);
    ck_assert_uint_eq(rd(0xd), 0x80);
}
END_TEST

START_TEST(is_set)
{
    start();
    wr(0xb, 0x82);
    wr(9, 0x99), wr(0x32, 0x19), wr(8, 0x12), wr(7, 0x31), wr(4, 0x23), wr(2, 0x59), wr(0, 0x58);
    fake_advance(10 * S); /* stands still while SET is on */
    ck_assert_uint_eq(rd(0), 0x58);
    wr(0xb, 0x02);
    fake_advance(3 * S);
    check_time(0x20, 0x00, 1, 1, 0, 0, 0x01);
    ck_assert_uint_eq(rd(6), 7); /* 2000-01-01 was a Saturday */
    /* As Linux does it: SET, divider in reset, write, let go. */
    wr(0xb, 0x82), wr(0xa, 0x76), wr(0, 0x10), wr(0xb, 0x02), wr(0xa, 0x26);
    fake_advance(S / 2 - 1);
    ck_assert_uint_eq(rd(0), 0x10);
    fake_advance(1);
    ck_assert_uint_eq(rd(0), 0x11);
    wr(2, 0x33); /* while running */
    ck_assert_uint_eq(rd(2), 0x33);
}
END_TEST

START_TEST(survives_nonsense_times)
{
    start();
    for (unsigned v = 0; v < 256; v++) {
        wr(0xb, (u8)(0x80 | (v & 6)));
        for (u8 i = 0; i < 10; i++)
            wr(i, (u8)(v * (i + 1)));
        wr(0x32, (u8)~v);
        wr(0xb, (u8)(v & 6) | 0x70);
        fake_advance(3 * S / 2);
        rd(0), rd(0xc);
    }
}
END_TEST

START_TEST(update_in_progress)
{
    start();
    ck_assert(!(rd(0xa) & 0x80));
    fake_advance(S - 244001);
    ck_assert(!(rd(0xa) & 0x80));
    fake_advance(1);
    ck_assert(rd(0xa) & 0x80);
    fake_advance(244000);
    ck_assert(!(rd(0xa) & 0x80));
}
END_TEST

START_TEST(periodic_interrupt)
{
    start();
    wr(0xb, 0x42);
    for (unsigned i = 1; i <= 1024; i++) {
        fake_advance(i * S / 1024 + 1 - fake_time);
        ck_assert_uint_eq(rd(0xc), i == 1024 ? 0xd0 : 0xc0);
    }
    ck_assert_uint_eq(fake_rises[8], 1024);
    fake_advance(S); /* register C not read: one interrupt only */
    ck_assert_uint_eq(fake_rises[8], 1025);
}
END_TEST

START_TEST(update_and_alarm_interrupts)
{
    start();
    wr(1, 0xff), wr(3, 0x05), wr(5, 0xc0);
    rd(0xc);
    wr(0xb, 0x22);
    fake_advance(5 * 60 * S - 1);
    ck_assert_uint_eq(fake_rises[8], 0);
    fake_advance(1);
    ck_assert_uint_eq(fake_rises[8], 1);
    ck_assert_uint_eq(rd(0xc), 0xf0);
    fake_advance(S);
    ck_assert_uint_eq(rd(0xc), 0xf0); /* every second of minute 5 */
    wr(1, 0x30);
    rd(0xc);
    fake_advance(3600 * S + 20 * S);
    ck_assert_uint_eq(fake_rises[8], 3);
    rd(0xc);
    wr(0xb, 0x12);
    fake_advance(S);
    ck_assert_uint_eq(fake_rises[8], 4);
    ck_assert_uint_eq(rd(0xc) & 0x90, 0x90);
    rtc_set_irq_enabled(&rtc, false);
    fake_advance(2 * S);
    ck_assert_uint_eq(fake_rises[8], 4);
}
END_TEST

START_TEST(memory_bytes)
{
    start();
    rtc_set_memory(&rtc, 0xc0000000, 0x140000000);
    ck_assert_uint_eq(rd(0x15) | rd(0x16) << 8, 640);
    ck_assert_uint_eq(rd(0x34) | rd(0x35) << 8, 0xbf00);
    ck_assert_uint_eq(rd(0x5b) | rd(0x5c) << 8 | rd(0x5d) << 16, 0x14000);
    rtc_nvram_set(&rtc, 0x3d, 0x21);
    ck_assert_uint_eq(rd(0x3d), 0x21);
    rd(0x80 | 0x10);
    ck_assert(rtc.nmi_masked);
    fake_fuzz(&rtc_ops, &rtc, 2, 200000);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {tells_the_time, is_set, survives_nonsense_times, update_in_progress,
                                  periodic_interrupt, update_and_alarm_interrupts, memory_bytes};
    return fake_run("rtc", tests, ARRAY_SIZE(tests));
}
