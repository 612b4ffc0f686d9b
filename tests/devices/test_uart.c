/* The 16550A: what Linux's 8250 driver probes for, FIFOs, interrupts by priority, loopback. */
#include "tests/devices/fake.h"
#include "devices/uart.h"

static struct uart uart;

static void put(u64 off, u8 value) { out8(&uart_ops, &uart, off, value); }
static u8 get(u64 off) { return in8(&uart_ops, &uart, off); }

static void start(void)
{
    fake_start();
    uart_init(&uart, &fake_clock, &fake_host, HOST_SERIAL0, fake_line(4));
    put(4, 0x0b);
    put(2, 0x01);
}

START_TEST(transmits_at_once)
{
    start();
    put(0, 'h'), put(0, 'i');
    ck_assert_str_eq(fake_output[HOST_SERIAL0], "hi");
    ck_assert_uint_eq(get(5), 0x60);
}
END_TEST

START_TEST(divisor_latch)
{
    start();
    put(3, 0x83);
    put(0, 0x0c), put(1, 0x01);
    ck_assert_uint_eq(get(0), 0x0c);
    ck_assert_uint_eq(get(1), 0x01);
    put(3, 0x03);
    ck_assert_uint_eq(get(1), 0);
    ck_assert_uint_eq(fake_sent[HOST_SERIAL0], 0);
    put(7, 0x5a);
    ck_assert_uint_eq(get(7), 0x5a);
}
END_TEST

START_TEST(transmit_interrupt_on_enable_and_after_write)
{
    start();
    ck_assert_uint_eq(get(2), 0xc1);
    put(1, 2);
    ck_assert(fake_level[4]);
    ck_assert_uint_eq(get(2), 0xc2);
    ck_assert(!fake_level[4]); /* reading IIR cleared it */
    ck_assert_uint_eq(get(2), 0xc1);
    put(1, 0), put(1, 2);
    ck_assert_uint_eq(get(2), 0xc2); /* reasserted: UART_BUG_THRE is not there */
    put(0, 'x');
    ck_assert(fake_level[4]);
    unsigned rises = fake_rises[4];
    put(0, 'y'); /* without reading IIR: the edge-triggered PIC must still see it */
    ck_assert_uint_eq(fake_rises[4], rises + 1);
}
END_TEST

START_TEST(receives_with_trigger_and_timeout)
{
    start();
    put(2, 0xc1); /* trigger at 14 */
    put(1, 1);
    for (unsigned i = 0; i < 13; i++)
        uart_receive(&uart, (u8)('a' + i));
    ck_assert(!fake_level[4]);
    fake_advance(4 * 10 * 1000000000ull / 115200 - 100);
    ck_assert(!fake_level[4]);
    fake_advance(200);
    ck_assert(fake_level[4]);
    ck_assert_uint_eq(get(2), 0xcc);
    ck_assert_uint_eq(get(0), 'a');
    ck_assert(!fake_level[4]);
    uart_receive(&uart, 'n'), uart_receive(&uart, 'o');
    ck_assert_uint_eq(get(2), 0xc4);
    ck_assert_uint_eq(uart_room(&uart), 2);
    for (unsigned i = 1; i < 15; i++)
        ck_assert_uint_eq(get(0), 'a' + i);
    ck_assert_uint_eq(get(5) & 1, 0);
}
END_TEST

START_TEST(overrun)
{
    start();
    put(1, 4);
    for (unsigned i = 0; i < 17; i++)
        uart_receive(&uart, (u8)i);
    ck_assert_uint_eq(get(2), 0xc6);
    ck_assert_uint_eq(get(5), 0x63);
    ck_assert_uint_eq(get(5), 0x61);
    ck_assert_uint_eq(get(0), 0);
    put(2, 0); /* no FIFOs: one byte */
    uart_receive(&uart, 'p'), uart_receive(&uart, 'q');
    ck_assert_uint_eq(get(0), 'q');
}
END_TEST

START_TEST(loopback_and_modem_lines)
{
    start();
    ck_assert_uint_eq(get(6), 0xb0);
    put(4, 0x1a); /* the 8250 driver's test for the chip */
    ck_assert_uint_eq(get(6) & 0xf0, 0x90);
    put(4, 0x10);
    put(0, 'L');
    ck_assert_uint_eq(fake_sent[HOST_SERIAL0], 0);
    ck_assert_uint_eq(get(5) & 1, 1);
    ck_assert_uint_eq(get(0), 'L');
    ck_assert_uint_eq(uart_room(&uart), 0);
    uart_receive(&uart, 'z');
    ck_assert_uint_eq(get(5) & 1, 0);
}
END_TEST

START_TEST(out2_gates_the_line)
{
    start();
    put(4, 3);
    put(1, 1);
    uart_receive(&uart, 'a');
    ck_assert(!fake_level[4]);
    put(4, 0x0b);
    ck_assert(fake_level[4]);
}
END_TEST

START_TEST(survives_anything)
{
    start();
    for (unsigned i = 0; i < 300; i++) {
        fake_fuzz(&uart_ops, &uart, 8, 100);
        uart_receive(&uart, (u8)i);
        uart_receive_break(&uart);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {transmits_at_once, divisor_latch, transmit_interrupt_on_enable_and_after_write,
                                  receives_with_trigger_and_timeout, overrun, loopback_and_modem_lines,
                                  out2_gates_the_line, survives_anything};
    return fake_run("uart", tests, ARRAY_SIZE(tests));
}
